//! Reading frames in order over all runs and segments, live or dead, verifying each.

use std::path::{Path, PathBuf};

use crate::codec::{Chain, EXT_WORDS_MAX, FRAME_HEAD, KIND_PHYSICAL, Raw, SEG_END, decode};
use crate::error::Error;
use crate::files::{Dir, SegFile, Watermark, is_owned, read_watermarks};
use crate::layout::{FRAMES_AT, HeaderFlaw, MAJOR, SegStart, SegmentHeader, SegmentState};
use crate::manifest::{self, RunInfo};
use crate::scan::{View, first_frame};
use crate::verify::Finding;

/// A journal directory, opened for reading. The engine need not be alive, and is not disturbed.
#[derive(Clone, Debug)]
pub struct Journal {
    dir: Dir,
}

/// One segment, by its file.
#[derive(Clone, Debug)]
pub struct SegmentInfo {
    /// The file.
    pub path: PathBuf,
    /// What its page 0 says.
    pub header: SegmentHeader,
    /// What its state page says.
    pub state: SegmentState,
    /// `seq` of its first event; `None` while it is prepared and not used.
    pub base_seq: Option<u64>,
    /// `seq` of its last event, once sealed.
    pub last_seq: Option<u64>,
    /// Where its frames end, once sealed.
    pub end_offset: Option<u64>,
}

impl Journal {
    /// Opens `dir`. An empty directory is an empty journal.
    ///
    /// # Errors
    /// [`Error::Missing`] without a directory, [`Error::Foreign`] if it holds something else.
    pub fn open(dir: &Path) -> Result<Journal, Error> {
        if !dir.is_dir() {
            let found = if dir.exists() { "not a directory" } else { "no such directory" };
            return Err(Error::Missing { dir: dir.to_path_buf(), found: found.into() });
        }
        let dir = Dir::new(dir);
        dir.check_ours()?;
        Ok(Journal { dir })
    }

    /// Whether a living engine owns it.
    #[must_use]
    pub fn is_live(&self) -> bool {
        is_owned(&self.dir)
    }

    /// All runs, by their manifests, ascending.
    ///
    /// # Errors
    /// [`Error::Damaged`] if a manifest is not what was written.
    pub fn runs(&self) -> Result<Vec<RunInfo>, Error> {
        let damaged = |(file, reason): (PathBuf, String)| {
            Error::Damaged(Box::new(Finding::damage(&file, None, None, reason)))
        };
        let runs = manifest::read_all(&self.dir)?;
        runs.into_iter().map(|run| run.map_err(damaged)).collect()
    }

    /// All segments, ascending, prepared ones included.
    ///
    /// # Errors
    /// Whatever is wrong with a header.
    pub fn segments(&self) -> Result<Vec<SegmentInfo>, Error> {
        let mut segments = Vec::new();
        for file in self.dir.segments()? {
            let view = View::open(&file.path)?;
            let header = read_header(&file, &view)?;
            let first = view.frame(FRAMES_AT, view.len(), header.chain_seed());
            let base_seq = first.ok().flatten().map(|raw| raw.seq);
            let state = view.state().newest;
            segments.push(SegmentInfo {
                path: file.path,
                header,
                state: state.as_ref().map_or(SegmentState::Open, |it| it.state),
                base_seq,
                last_seq: state.as_ref().map(|it| it.last_seq),
                end_offset: state.as_ref().map(|it| it.end_offset),
            });
        }
        Ok(segments)
    }

    /// How far the journal is on disk; `None` in an empty journal.
    ///
    /// # Errors
    /// What the system says.
    pub fn watermark(&self) -> Result<Option<Watermark>, Error> {
        Ok(read_watermarks(&self.dir)?.and_then(|it| it.newest))
    }

    /// A reader before the first frame.
    #[must_use]
    pub fn reader(&self) -> Reader {
        Reader {
            dir: self.dir.clone(),
            current: None,
            done: 0,
            before: None,
            from_seq: 0,
            is_sought: false,
            is_whole: false,
        }
    }

    /// A reader whose first event is the first one with at least this `seq`. Physical frames before
    /// it are skipped too.
    ///
    /// # Errors
    /// Whatever is wrong with a header on the way.
    pub fn reader_from(&self, seq: u64) -> Result<Reader, Error> {
        let mut reader = self.reader();
        reader.seek(seq)?;
        Ok(reader)
    }
}

/// One validated frame, borrowed from its segment.
#[derive(Clone, Copy, Debug)]
pub struct FrameView<'a> {
    /// The run that wrote it.
    pub run: u64,
    /// Its segment.
    pub segment: u64,
    /// Its offset there.
    pub offset: u64,
    /// Its number; a physical frame carries that of the next event.
    pub seq: u64,
    /// Ticks of the writer's clock.
    pub ts: u64,
    /// Type of the payload.
    pub kind: u16,
    /// Version of the payload's layout.
    pub schema: u16,
    /// The writer's lane.
    pub lane: u8,
    /// The writer's bytes.
    pub payload: &'a [u8],
    /// The frame's checksum, a digest of all before it in its segment.
    pub crc: u32,
    ext: [u64; EXT_WORDS_MAX],
    ext_words: usize,
}

impl FrameView<'_> {
    /// Stage time stamps.
    #[must_use]
    pub fn ext(&self) -> &[u64] {
        &self.ext[..self.ext_words]
    }

    /// Whether it is the journal's own: no event, no `seq` of its own.
    #[must_use]
    pub fn is_physical(&self) -> bool {
        self.kind & KIND_PHYSICAL != 0
    }

    /// First and last `seq` that salvage did not find, of a [`crate::GAP`]; `None` for other frames.
    #[must_use]
    pub fn gap(&self) -> Option<(u64, u64)> {
        let word = |from: usize| {
            let bytes = self.payload.get(from..from + 8)?;
            Some(u64::from_le_bytes(bytes.try_into().ok()?))
        };
        (self.kind == crate::GAP).then_some(())?;
        Some((word(0)?, word(8)?))
    }
}

#[derive(Debug)]
struct Current {
    view: View,
    file: SegFile,
    header: SegmentHeader,
    chain: Chain,
    cursor: usize,
    is_closed: bool, // SEG_END was read
}

/// The end of the segment before: what the next SEG_START must name.
#[derive(Clone, Copy, Debug)]
struct Before {
    segment: u64,
    chain: Chain,
}

/// Reads frames in order. At the end of a live journal [`Reader::next`] gives `None` for now.
#[derive(Debug)]
pub struct Reader {
    dir: Dir,
    current: Option<Current>,
    done: u64, // segments up to this number are behind us
    before: Option<Before>,
    from_seq: u64,   // frames below are validated and skipped
    is_sought: bool, // the first segment need not be the journal's first
    is_whole: bool,  // nothing is missing behind the last frame read
}

impl Reader {
    /// The next frame, physical ones included; `None`: nothing more is committed at present.
    ///
    /// # Errors
    /// [`Error::Damaged`] with segment, offset and reason where the chain breaks; the reader stays
    /// there.
    #[expect(clippy::should_implement_trait, reason = "the frame borrows from the reader")]
    pub fn next(&mut self) -> Result<Option<FrameView<'_>>, Error> {
        let stepped = match self.advance()? {
            Some(stepped) => Some(stepped),
            None => self.look_again()?,
        };
        let Some((offset, len)) = stepped else { return Ok(None) };
        let Some(current) = &self.current else { return Ok(None) };
        let raw = decode(current.view.range(offset, current.cursor), len);
        Ok(Some(view_of(&raw, &current.header, offset)))
    }

    /// Segment and offset of the next frame, as far as known.
    #[must_use]
    pub fn position(&self) -> (u64, u64) {
        match &self.current {
            Some(current) => (current.header.segment, current.cursor as u64),
            None => (self.done, 0),
        }
    }

    /// What page 0 of the current segment says: the run's facts, ticks per second among them.
    #[must_use]
    pub fn header(&self) -> Option<&SegmentHeader> {
        self.current.as_ref().map(|it| &it.header)
    }

    /// Goes to the first event with at least this `seq`.
    ///
    /// # Errors
    /// Whatever is wrong with a header on the way.
    pub fn seek(&mut self, seq: u64) -> Result<(), Error> {
        let mut from = 0;
        for file in self.dir.segments()? {
            let view = View::open(&file.path)?;
            let header = read_header(&file, &view)?;
            if view.state().newest.is_some_and(|it| it.state == SegmentState::Quarantined) {
                continue;
            }
            let Ok(Some(raw)) = view.frame(FRAMES_AT, view.len(), header.chain_seed()) else {
                continue;
            };
            if raw.seq <= seq {
                from = file.segment;
            }
        }
        self.current = None;
        self.before = None;
        self.done = from.saturating_sub(1);
        self.from_seq = seq;
        self.is_sought = true;
        Ok(())
    }

    /// At the end of what is there: whether it is the end of what was written.
    ///
    /// A segment missing in the middle breaks the chain; one missing at the end leaves a journal that
    /// looks well and is shorter. The manifests tell: they are read first and the frames after them, so
    /// that a run which ends just now is not mistaken for one that lost its end.
    fn look_again(&mut self) -> Result<Option<(usize, usize)>, Error> {
        if self.is_whole {
            return Ok(None);
        }
        let ended = self.ended()?;
        if let Some(stepped) = self.advance()? {
            return Ok(Some(stepped));
        }
        let reached = self.reached();
        match ended {
            Some((run, last)) if reached < last => {
                let reason = format!(
                    "run {run} ended at seq {last} by its manifest, but frames end at seq {reached}: \
                     segments are missing"
                );
                let mut finding = Finding::damage(&self.dir.root, None, None, reason);
                finding.run = Some(run);
                finding.seq = Some((reached + 1, Some(last)));
                Err(Error::Damaged(Box::new(finding)))
            }
            _ => {
                self.is_whole = true;
                Ok(None)
            }
        }
    }

    /// The newest run that ended with a history, and its last `seq`.
    fn ended(&self) -> Result<Option<(u64, u64)>, Error> {
        let runs = manifest::read_all(&self.dir)?;
        // What is wrong with a manifest itself is told by those who ask for runs.
        let known = runs.into_iter().filter_map(Result::ok);
        let kept = known.filter(|run| run.status != manifest::RunStatus::Quarantined);
        Ok(kept.filter_map(|run| Some((run.run, run.last_seq?))).max_by_key(|it| it.1))
    }

    /// The `seq` of the last event behind the cursor.
    fn reached(&self) -> u64 {
        let chain = match (&self.current, &self.before) {
            (Some(current), _) => current.chain.next_seq,
            (None, Some(before)) => before.chain.next_seq,
            (None, None) => 1,
        };
        chain - 1
    }

    /// Steps over the next frame, which has validated: its offset and length.
    fn advance(&mut self) -> Result<Option<(usize, usize)>, Error> {
        loop {
            if self.current.is_none() && !self.open_next()? {
                return Ok(None);
            }
            let Some(current) = &mut self.current else { return Ok(None) };
            if current.is_closed {
                self.leave();
                continue;
            }
            let offset = current.cursor;
            let stepped = match current.step() {
                Ok(stepped) => stepped,
                // Half a frame that a power loss left, behind the end that recovery found.
                Err(_) if current.sealed_end() == Some(current.cursor as u64) => None,
                Err(flaw) => return Err(current.damaged(&flaw)),
            };
            let Some((seq, is_physical, len)) = stepped else {
                if current.is_sealed_here()? {
                    self.leave();
                    continue;
                }
                return Ok(None);
            };
            if self.from_seq <= seq && !(is_physical && seq == self.from_seq && self.is_sought) {
                self.is_sought = false;
                self.is_whole = false;
                return Ok(Some((offset, len)));
            }
        }
    }

    fn leave(&mut self) {
        if let Some(current) = self.current.take() {
            self.done = current.header.segment;
            self.before = Some(Before { segment: self.done, chain: current.chain });
        }
    }

    /// Opens the next segment in use; `false` if there is none yet.
    fn open_next(&mut self) -> Result<bool, Error> {
        for file in self.dir.segments()? {
            if file.segment <= self.done {
                continue;
            }
            let view = match View::open(&file.path) {
                Ok(view) => view,
                // An unused segment of a run that ends just now.
                Err(Error::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
                    return Ok(false);
                }
                Err(bad) => return Err(bad),
            };
            let header = read_header(&file, &view)?;
            if view.state().newest.is_some_and(|it| it.state == SegmentState::Quarantined) {
                self.done = file.segment;
                continue;
            }
            let damage = |flaw: String| {
                let at = Some(FRAMES_AT as u64);
                Error::Damaged(Box::new(Finding::damage(&file.path, Some(&header), at, flaw)))
            };
            let first = view.frame(FRAMES_AT, segment_len(&header), header.chain_seed());
            let Some(raw) = first.map_err(|flaw| damage(flaw.to_string()))? else {
                return Ok(false); // prepared, not used
            };
            let start = first_frame(&raw).map_err(|flaw| damage(flaw.to_string()))?;
            if let Some(flaw) = self.mismatch(&start)? {
                return Err(damage(flaw));
            }
            let mut chain = Chain { crc: header.chain_seed(), next_seq: start.base_seq };
            let mut cursor = FRAMES_AT;
            // Only the segment that was sought: a reader of the whole journal validates every frame.
            if self.is_sought
                && self.before.is_none()
                && let Some(entry) = view.entry_before(self.from_seq)
            {
                cursor = entry.offset;
                chain = Chain { crc: entry.prev_crc, next_seq: entry.seq };
            }
            self.current = Some(Current { view, file, header, chain, cursor, is_closed: false });
            return Ok(true);
        }
        Ok(false)
    }

    /// Why a segment that starts so is not the next one.
    fn mismatch(&self, start: &SegStart) -> Result<Option<String>, Error> {
        let (segment, last_seq, crc) = match &self.before {
            Some(before) => (before.segment, before.chain.next_seq - 1, before.chain.crc),
            None if self.is_sought && self.done > 0 => return Ok(None),
            None => {
                let pruned = crate::retain::pruned(&self.dir)?;
                (pruned.segment, pruned.last_seq, pruned.last_crc)
            }
        };
        let expected = (segment, last_seq, crc);
        let found = (start.prev_segment, start.prev_last_seq, start.prev_crc);
        Ok((expected != found).then(|| {
            format!(
                "continues segment {} at seq {} ({:08x}), but the one before is {} at seq {} ({:08x})",
                found.0, found.1, found.2, expected.0, expected.1, expected.2
            )
        }))
    }
}

impl Current {
    /// Validates the next frame and steps over it: its `seq`, whether it is physical, its length.
    fn step(&mut self) -> Result<Option<(u64, bool, usize)>, crate::codec::Flaw> {
        let end = segment_len(&self.header);
        let Some(raw) = self.view.frame(self.cursor, end, self.chain.crc)? else {
            return Ok(None);
        };
        self.chain.admit(&raw)?;
        self.cursor += raw.size;
        self.is_closed = raw.kind == SEG_END;
        let len = FRAME_HEAD + raw.ext_words * 8 + raw.payload.len();
        Ok(Some((raw.seq, raw.kind & KIND_PHYSICAL != 0, len)))
    }

    fn sealed_end(&self) -> Option<u64> {
        self.view.state().newest.map(|slot| slot.end_offset)
    }

    /// Whether recovery sealed the segment exactly here.
    fn is_sealed_here(&self) -> Result<bool, Error> {
        let Some(end) = self.sealed_end() else { return Ok(false) };
        if end == self.cursor as u64 {
            return Ok(true);
        }
        let reason = format!("sealed at offset {end}, but no frame follows here");
        Err(Error::Damaged(Box::new(self.finding(reason))))
    }

    fn finding(&self, reason: String) -> Finding {
        let mut finding =
            Finding::damage(&self.file.path, Some(&self.header), Some(self.cursor as u64), reason);
        finding.seq = Some((self.chain.next_seq, None));
        finding
    }

    fn damaged(&self, flaw: &crate::codec::Flaw) -> Error {
        Error::Damaged(Box::new(self.finding(flaw.to_string())))
    }
}

fn segment_len(header: &SegmentHeader) -> usize {
    usize::try_from(header.segment_len).unwrap_or(usize::MAX)
}

fn view_of<'a>(raw: &Raw<'a>, header: &SegmentHeader, offset: usize) -> FrameView<'a> {
    FrameView {
        run: header.run,
        segment: header.segment,
        offset: offset as u64,
        seq: raw.seq,
        ts: raw.ts,
        kind: raw.kind,
        schema: raw.schema,
        lane: raw.lane,
        payload: raw.payload,
        crc: raw.crc,
        ext: raw.ext,
        ext_words: raw.ext_words,
    }
}

/// Reads page 0 and compares it with the file's name and length.
pub(crate) fn read_header(file: &SegFile, view: &View) -> Result<SegmentHeader, Error> {
    let damaged = |offset, reason: String| {
        let mut finding = Finding::damage(&file.path, None, Some(offset), reason);
        finding.run = Some(file.run);
        finding.segment = Some(file.segment);
        Err(Error::Damaged(Box::new(finding)))
    };
    let header = match view.header() {
        Ok(header) => header,
        Err(HeaderFlaw::Magic(found)) => {
            return Err(Error::Foreign {
                file: file.path.clone(),
                found: format!("magic {}", manifest::hex(&found)),
                rule: "a segment begins with the magic of a kairos journal",
            });
        }
        Err(HeaderFlaw::Major(found)) => {
            let needs = if found > MAJOR { "a newer" } else { "an older" };
            return Err(Error::Version { file: file.path.clone(), found, reads: MAJOR, needs });
        }
        Err(HeaderFlaw::Short(_)) if let Some(reason) = view.check_packed() => {
            return damaged(0, reason);
        }
        Err(HeaderFlaw::Short(len)) => {
            return damaged(len as u64, format!("{len} bytes, too short for a header"));
        }
        Err(HeaderFlaw::Crc { stored, computed }) => {
            return damaged(0, format!("header checksum {stored:08x}, computed {computed:08x}"));
        }
        Err(HeaderFlaw::Field(rule)) => return damaged(0, format!("header: {rule}")),
    };
    if (header.run, header.segment) != (file.run, file.segment) {
        let (run, segment) = (header.run, header.segment);
        return damaged(48, format!("header says run {run} segment {segment}: file renamed"));
    }
    let stored = if view.is_packed() { header.segment_len } else { file.len };
    if stored != header.segment_len || view.len() as u64 != header.segment_len {
        let reason = format!("{} bytes, header says {}", view.len(), header.segment_len);
        return damaged(file.len.min(header.segment_len), reason);
    }
    Ok(header)
}

/// Digest over `seq`, type, schema and payload of all events, and how many there are. Time stamps,
/// extensions and physical frames are outside: two runs over the same inputs have the same one.
///
/// # Errors
/// As [`Reader::next`].
pub fn fingerprint(dir: &Path) -> Result<([u8; 32], u64), Error> {
    fingerprint_of(dir, |_| true)
}

/// As [`fingerprint`], over the frames whose type is `wanted` alone: the caller knows which of them
/// describe where a run happened rather than what.
///
/// # Errors
/// As [`Reader::next`].
pub fn fingerprint_of(dir: &Path, wanted: impl Fn(u16) -> bool) -> Result<([u8; 32], u64), Error> {
    let mut reader = Journal::open(dir)?.reader();
    let mut hasher = blake3::Hasher::new();
    let mut events = 0;
    while let Some(frame) = reader.next()? {
        if frame.is_physical() || !wanted(frame.kind) {
            continue;
        }
        hasher.update(&frame.seq.to_le_bytes());
        hasher.update(&frame.kind.to_le_bytes());
        hasher.update(&frame.schema.to_le_bytes());
        hasher.update(&(frame.payload.len() as u64).to_le_bytes());
        hasher.update(frame.payload);
        events += 1;
    }
    Ok((*hasher.finalize().as_bytes(), events))
}
