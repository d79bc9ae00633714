//! Reads every byte of a journal and reports every deviation.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::codec::FRAME_LEN_MAX;
use crate::error::Error;
use crate::files::{Dir, SegFile, Watermark, boot_id, read_watermarks};
use crate::layout::{FRAMES_AT, PAGE, SealReason, SegmentHeader, SegmentState, StateSlot};
use crate::manifest::{self, RunInfo, RunStatus};
use crate::reader::read_header;
use crate::retain::Pruned;
use crate::scan::{Scan, Tail, View, scan, tail, trust};

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Worth knowing: a crashed run that is not recovered yet, a cut that recovery reported.
    Note,
    /// Bytes are not what was written, or are missing.
    Damage,
}

/// One deviation, as exactly placed as it can be.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Finding {
    /// How bad.
    pub severity: Severity,
    /// The file.
    pub file: PathBuf,
    /// Its run.
    pub run: Option<u64>,
    /// Its segment.
    pub segment: Option<u64>,
    /// Where in the file.
    pub offset: Option<u64>,
    /// First `seq` concerned, and the last one where it is known.
    pub seq: Option<(u64, Option<u64>)>,
    /// What was found, and what should be there.
    pub reason: String,
}

impl Finding {
    pub(crate) fn damage(
        file: &Path,
        header: Option<&SegmentHeader>,
        offset: Option<u64>,
        reason: String,
    ) -> Finding {
        Finding {
            severity: Severity::Damage,
            file: file.to_path_buf(),
            run: header.map(|it| it.run),
            segment: header.map(|it| it.segment),
            offset,
            seq: None,
            reason,
        }
    }

    pub(crate) fn note(file: &Path, reason: String) -> Finding {
        Finding { severity: Severity::Note, ..Finding::damage(file, None, None, reason) }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        if let (Some(run), Some(segment)) = (self.run, self.segment) {
            write!(f, ": run {run} segment {segment}")?;
        }
        if let Some(offset) = self.offset {
            write!(f, " offset {offset}")?;
        }
        match self.seq {
            Some((from, Some(to))) => write!(f, " seq {from}..={to}")?,
            Some((from, None)) => write!(f, " from seq {from}")?,
            None => {}
        }
        write!(f, ": {}", self.reason)
    }
}

/// What [`verify`] read and found.
#[derive(Clone, Debug, Default, serde::Serialize)]
pub struct Findings {
    /// Every deviation, in the order of the files.
    pub findings: Vec<Finding>,
    /// Whether a living engine owns the journal: then its open segments were read as far as they are
    /// committed.
    pub live: bool,
    /// Segments read.
    pub segments: u64,
    /// Frames read, physical ones included.
    pub frames: u64,
    /// Events among them.
    pub events: u64,
    /// First and last `seq`.
    pub seq: Option<(u64, u64)>,
    /// Bytes of frames.
    pub bytes: u64,
}

impl Findings {
    /// Whether anything is damaged.
    #[must_use]
    pub fn is_damaged(&self) -> bool {
        self.findings.iter().any(|it| it.severity == Severity::Damage)
    }
}

/// One segment, read.
pub(crate) struct Examined {
    pub(crate) file: SegFile,
    pub(crate) view: View,
    pub(crate) header: SegmentHeader,
    pub(crate) state: Option<StateSlot>,
    pub(crate) stray: Option<u64>,
    pub(crate) scan: Scan,
    /// What is wrong with a sealed segment whose decompressed bytes were given back.
    checked: Option<Vec<Finding>>,
    /// Sealed, and not read again: `scan` repeats what the seal says.
    pub(crate) is_trusted: bool,
}

impl Examined {
    /// Maps and reads a segment; with `may_trust` only the first frame of a sealed one.
    pub(crate) fn open(file: SegFile, may_trust: bool) -> Result<Examined, Error> {
        let view = View::open(&file.path)?;
        let header = read_header(&file, &view)?;
        let page = view.state();
        let trusted = page.newest.as_ref().filter(|_| may_trust && page.stray.is_none());
        let trusted = trusted.and_then(|slot| trust(&view, &header, slot));
        let is_trusted = trusted.is_some();
        let scan = trusted.unwrap_or_else(|| scan(&view, &header, &mut |_, _| {}));
        let (state, stray) = (page.newest, page.stray);
        let checked = None;
        let mut examined = Examined { view, header, state, stray, scan, is_trusted, checked, file };
        if examined.view.is_packed() && !is_trusted {
            // One segment's bytes in memory at a time, however many there are.
            let mut found = examined.check_packed();
            if let Some(slot) = &examined.state {
                found.extend(examined.check_sealed(slot));
            }
            examined.checked = Some(found);
            examined.view.release();
        }
        Ok(examined)
    }

    /// Only a sealed segment is compressed, and its file carries digests of its own.
    fn check_packed(&self) -> Vec<Finding> {
        let unsealed = self.state.is_none().then(|| "compressed, but not sealed".to_string());
        let reasons = self.view.check_packed().into_iter().chain(unsealed);
        reasons.map(|reason| self.damage(0, reason)).collect()
    }

    pub(crate) fn is_quarantined(&self) -> bool {
        self.state.as_ref().is_some_and(|it| it.state == SegmentState::Quarantined)
    }

    pub(crate) fn damage(&self, offset: u64, reason: impl Into<String>) -> Finding {
        Finding::damage(&self.file.path, Some(&self.header), Some(offset), reason.into())
    }

    /// What is wrong with a sealed segment, taken alone.
    pub(crate) fn check_sealed(&self, slot: &StateSlot) -> Vec<Finding> {
        if let Some(found) = &self.checked {
            return found.clone();
        }
        let mut found = Vec::new();
        if let Some(offset) = self.stray {
            found.push(self.damage(offset, "state page: bytes outside a valid slot"));
        }
        let end = self.scan.end as u64;
        if slot.state == SegmentState::Quarantined {
            return found; // not part of the history
        }
        if end != slot.end_offset {
            let why =
                self.scan.flaw.as_ref().map_or("not committed".to_string(), |it| it.to_string());
            let reason = format!("frame does not validate: {why}; sealed at {}", slot.end_offset);
            let mut finding = self.damage(end, reason);
            finding.seq = Some((self.scan.chain.next_seq, Some(slot.last_seq)));
            found.push(finding);
            return found;
        }
        let base_seq = self.scan.start.map(|it| it.base_seq);
        let says = (Some(slot.base_seq), slot.last_seq, slot.last_crc);
        if says != (base_seq, self.scan.last_seq(), self.scan.chain.crc) {
            found.push(self.damage(slot.offset(), "state slot disagrees with the frames"));
        }
        if self.digest() != slot.blake3 {
            found.push(self.damage(slot.offset(), "digest of the sealed bytes differs"));
        }
        let (class, last) = tail(&self.view, self.scan.end);
        let allowed = match slot.reason {
            SealReason::Written
            | SealReason::Complete
            | SealReason::CrashedZero
            | SealReason::Cut => class == Tail::Zero,
            SealReason::CrashedInFlight => last <= self.scan.end + FRAME_LEN_MAX,
            SealReason::Torn => true,
        };
        if !allowed {
            let reason = format!("bytes behind the sealed end {end} are not zero");
            found.push(self.damage(last as u64 - 1, reason));
        }
        found
    }

    /// BLAKE3 of the header page and the frames.
    pub(crate) fn digest(&self) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new();
        hasher.update(self.view.range(0, PAGE));
        hasher.update(self.view.range(FRAMES_AT, self.scan.end));
        *hasher.finalize().as_bytes()
    }
}

/// Reads everything: headers, frames, chain, seals, padding, tails, watermark, manifests.
///
/// Damage is in the result, not in the error. Works on a live journal, a dead one, or a copy; writes
/// nothing.
///
/// # Errors
/// What the system says, or that there is no journal.
pub fn verify(dir: &Path) -> Result<Findings, Error> {
    verify_with(dir, &mut |_, _| {})
}

/// As [`verify`]; after each segment `progress` hears how many bytes of how many are done.
///
/// # Errors
/// As [`verify`].
pub fn verify_with(dir: &Path, progress: &mut dyn FnMut(u64, u64)) -> Result<Findings, Error> {
    let journal = crate::reader::Journal::open(dir)?;
    let live = journal.is_live();
    let dir = Dir::new(dir);
    let mut all = Findings { live, ..Findings::default() };
    let mut segments: Vec<Examined> = Vec::new();
    let files = dir.segments()?;
    let total: u64 = files.iter().map(|it| it.len).sum();
    let mut done = 0;
    for file in files {
        done += file.len;
        match Examined::open(file, false) {
            Ok(segment) => segments.push(segment),
            // A prepared segment of a run that ends just now.
            Err(Error::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {}
            Err(bad) => all.findings.push(as_finding(&dir, bad)?),
        }
        progress(done, total);
    }
    let history = History { pruned: crate::retain::pruned(&dir)?, is_archive: dir.ring().exists() };
    let pruned = &history.pruned;
    check_order(&mut all, &segments, pruned);
    for (at, segment) in segments.iter().enumerate() {
        check_segment(&mut all, &segments, at, segment, &history);
    }
    let runs = manifest::read_all(&dir)?;
    check_watermark(&dir, &mut all, &segments, runs.is_empty())?;
    check_manifests(&dir, &mut all, &segments, runs, pruned);
    check_reports(&dir, &mut all)?;
    Ok(all)
}

/// Damage becomes a finding; what the system refuses stays an error.
fn as_finding(dir: &Dir, bad: Error) -> Result<Finding, Error> {
    match bad {
        Error::Damaged(finding) => Ok(*finding),
        Error::Foreign { ref file, .. } | Error::Version { ref file, .. } => {
            Ok(Finding::damage(&file.clone(), None, Some(0), bad.to_string()))
        }
        Error::Missing { .. } => Ok(Finding::damage(&dir.root, None, None, bad.to_string())),
        Error::Io { .. }
        | Error::NoSpace { .. }
        | Error::Owned { .. }
        | Error::Refused { .. }
        | Error::Option { .. }
        | Error::FileSystem { .. }
        | Error::Archiver { .. }
        | Error::NotEnded { .. } => Err(bad),
    }
}

/// What a directory says of itself.
struct History {
    pruned: Pruned,
    /// An archiver fills it from a ring.
    is_archive: bool,
}

/// Numbers must be dense from 1 or the last pruned one, runs must not fall, all must have one name.
fn check_order(all: &mut Findings, segments: &[Examined], pruned: &Pruned) {
    for finding in order_flaws(segments, pruned) {
        all.findings.push(finding);
    }
}

/// As [`check_order`]; also used by recovery.
pub(crate) fn order_flaws(segments: &[Examined], pruned: &Pruned) -> Vec<Finding> {
    let mut found = Vec::new();
    let mut expected = pruned.segment + 1;
    let mut before: Option<&Examined> = None;
    for segment in segments {
        let number = segment.header.segment;
        if number != expected {
            let reason = if number > expected {
                format!("segments {expected}..={} are missing before it", number - 1)
            } else {
                format!("segment number {number} twice")
            };
            found.push(segment.damage(56, reason));
        }
        expected = number + 1;
        if let Some(before) = before {
            if before.header.uuid != segment.header.uuid {
                found.push(segment.damage(32, "belongs to another journal"));
            }
            if before.header.run > segment.header.run {
                found.push(segment.damage(48, "run number falls"));
            }
        }
        before = Some(segment);
    }
    found
}

/// Why `segment` does not continue `before`, or what was pruned; `None`: it does.
pub(crate) fn chain_flaw(
    before: Option<&Examined>,
    segment: &Examined,
    pruned: &Pruned,
) -> Option<Finding> {
    let start = segment.scan.start?;
    let first = (pruned.segment, pruned.last_seq, pruned.last_crc);
    let expected =
        before.map_or(first, |it| (it.header.segment, it.scan.last_seq(), it.scan.chain.crc));
    let found = (start.prev_segment, start.prev_last_seq, start.prev_crc);
    (expected != found).then(|| {
        let reason = format!(
            "SEG_START continues segment {}, seq {}, crc {:08x}; the one before is {}, {}, {:08x}",
            found.0, found.1, found.2, expected.0, expected.1, expected.2
        );
        segment.damage(FRAMES_AT as u64, reason)
    })
}

fn check_segment(
    all: &mut Findings,
    segments: &[Examined],
    at: usize,
    segment: &Examined,
    history: &History,
) {
    all.segments += 1;
    if !segment.is_quarantined() {
        let before = segments[..at].iter().rev().find(|it| !it.is_quarantined());
        all.findings.extend(chain_flaw(before, segment, &history.pruned));
        all.frames += segment.scan.frames;
        all.events += segment.scan.events;
        all.bytes += (segment.scan.end - FRAMES_AT) as u64;
        if let Some(start) = segment.scan.start
            && segment.scan.events > 0
        {
            let first = all.seq.map_or(start.base_seq, |(first, _)| first);
            all.seq = Some((first, segment.scan.last_seq()));
        }
    }
    match &segment.state {
        Some(slot) => all.findings.extend(segment.check_sealed(slot)),
        None if all.live => {
            if let Some(flaw) = &segment.scan.flaw {
                all.findings.push(segment.damage(segment.scan.end as u64, flaw.to_string()));
            }
        }
        None => check_open(all, segments, at, segment, history),
    }
}

/// A segment that its dead writer left open: whole up to the last frame, then nothing or a frame in
/// flight.
fn check_open(
    all: &mut Findings,
    segments: &[Examined],
    at: usize,
    segment: &Examined,
    history: &History,
) {
    if let Some(offset) = segment.stray {
        all.findings.push(segment.damage(offset, "state page of an open segment is not zero"));
    }
    let later = segments[at + 1..].iter().filter(|it| !it.is_quarantined());
    let later_in_use = later.clone().any(|it| it.scan.start.is_some());
    let later_sealed = later.clone().any(|it| it.state.is_some());
    let end = segment.scan.end as u64;
    let (class, last) = tail(&segment.view, segment.scan.end);
    let flaw = match (&segment.scan.flaw, class) {
        (Some(flaw), _) => Some(format!("frame does not validate: {flaw}")),
        // An archiver that was killed in a write: it stores the first commit word last.
        (None, Tail::Dirty)
            if history.is_archive && !segment.scan.closed && !later_in_use && !later_sealed =>
        {
            None
        }
        (None, Tail::Dirty) => Some(format!("bytes up to {last} behind the last frame")),
        (None, Tail::InFlight) if segment.scan.closed => Some("bytes behind SEG_END".into()),
        (None, _) if later_sealed => Some("open, but a later segment is sealed".into()),
        (None, _) if later_in_use && !segment.scan.closed => {
            Some("no SEG_END, but a later segment is in use".into())
        }
        (None, Tail::Zero | Tail::InFlight) => None,
    };
    if let Some(reason) = flaw {
        let mut finding = segment.damage(end, reason);
        finding.seq = segment.scan.start.map(|_| (segment.scan.chain.next_seq, None));
        all.findings.push(finding);
    } else if segment.scan.start.is_some() {
        let reason = format!("segment left open by a crash, last seq {}", segment.scan.last_seq());
        all.findings
            .push(Finding { offset: Some(end), ..Finding::note(&segment.file.path, reason) });
    }
}

fn check_watermark(
    dir: &Dir,
    all: &mut Findings,
    segments: &[Examined],
    is_new: bool,
) -> Result<(), Error> {
    let path = dir.durable();
    let Some(marks) = read_watermarks(dir)? else {
        if segments.iter().any(|it| it.scan.start.is_some()) || !is_new {
            all.findings.push(Finding::damage(
                &path,
                None,
                None,
                "watermark file is missing".into(),
            ));
        }
        return Ok(());
    };
    if let Some((offset, flaw)) = marks.flaw
        && !all.live
    {
        // Power loss may tear the slot that was being written; on this boot nothing may.
        let torn = marks.newest.is_some_and(|it| Some(it.boot_id) != boot_id().ok())
            && segments.last().is_some_and(|it| it.state.is_none());
        let mut finding = Finding::damage(&path, None, Some(offset), flaw);
        if torn {
            finding.severity = Severity::Note;
        }
        all.findings.push(finding);
    }
    if let Some(mark) = marks.newest.filter(|it| it.segment != 0)
        && !all.live
        && let Some(reason) = watermark_flaw(&mark, segments)
    {
        all.findings.push(Finding::damage(&path, None, Some(mark.place()), reason));
    }
    Ok(())
}

/// Why the frames do not reach the watermark, or disagree with it.
pub(crate) fn watermark_flaw(mark: &Watermark, segments: &[Examined]) -> Option<String> {
    let Some(segment) = segments.iter().find(|it| it.header.segment == mark.segment) else {
        return Some(format!("segment {} is durable, but missing", mark.segment));
    };
    if segment.header.uuid != mark.uuid {
        return Some("watermark of another journal".into());
    }
    let end = segment.scan.end as u64;
    if end < mark.offset {
        return Some(format!(
            "segment {} is durable up to offset {} (seq {}), frames validate up to {end} (seq {})",
            mark.segment,
            mark.offset,
            mark.seq,
            segment.scan.last_seq()
        ));
    }
    // The mark stands behind a frame: walk there and compare.
    let mut at_mark = None;
    scan(&segment.view, &segment.header, &mut |raw, offset| {
        if (offset + raw.size) as u64 == mark.offset {
            at_mark = Some(raw.crc);
        }
    });
    (at_mark != Some(mark.crc))
        .then(|| format!("no frame with checksum {:08x} ends at offset {}", mark.crc, mark.offset))
}

fn check_manifests(
    dir: &Dir,
    all: &mut Findings,
    segments: &[Examined],
    runs: Vec<manifest::MaybeRun>,
    pruned: &Pruned,
) {
    let mut known = Vec::new();
    for run in runs {
        match run {
            Ok(run) => known.push(run),
            Err((file, reason)) => {
                known.extend(file_run(&file));
                all.findings.push(Finding::damage(&file, None, None, reason));
            }
        }
    }
    for segment in segments {
        let run = segment.header.run;
        if segment.scan.start.is_some() && !known.iter().any(|it| it.run == run) {
            let path = dir.manifest(run);
            let reason = format!("manifest of run {run} is missing");
            all.findings.push(Finding::damage(&path, None, None, reason));
        }
    }
    let newest = known.iter().map(|it| it.run).max();
    for run in &known {
        let path = dir.manifest(run.run);
        match run.status {
            RunStatus::Ended if run.run <= pruned.run => {} // its segments are gone, as decided
            RunStatus::Ended => {
                let last = segments.iter().rfind(|it| it.header.run == run.run);
                let last_seq = last.map(|it| it.scan.last_seq());
                if let Some(open) =
                    segments.iter().find(|it| it.header.run == run.run && it.state.is_none())
                {
                    all.findings.push(open.damage(PAGE as u64, "its run has ended, but no seal"));
                }
                if run.last_seq.is_some() && last_seq != run.last_seq {
                    let reason = format!("ended at seq {:?}, frames at {last_seq:?}", run.last_seq);
                    all.findings.push(Finding::damage(&path, None, None, reason));
                }
            }
            RunStatus::Running if !all.live && Some(run.run) == newest => {
                let reason = format!("run {} was killed and is not recovered yet", run.run);
                all.findings.push(Finding::note(&path, reason));
            }
            RunStatus::Running
            | RunStatus::CrashSealed
            | RunStatus::Cut
            | RunStatus::Torn
            | RunStatus::Quarantined => {}
        }
    }
}

/// Stands for a run whose manifest cannot be read, so that it does not count as missing too.
fn file_run(file: &Path) -> Option<RunInfo> {
    let name = file.file_stem()?.to_str()?;
    let run = name.strip_prefix("run-")?.parse().ok()?;
    Some(RunInfo {
        run,
        status: RunStatus::Quarantined,
        first_seq: 0,
        last_seq: None,
        started_ns: 0,
        manifest: serde_json::Value::Null,
    })
}

/// Recovery reports carry a digest of themselves and of the tail they saved.
fn check_reports(dir: &Dir, all: &mut Findings) -> Result<(), Error> {
    for (_, path) in dir.numbered_files("recovery-")? {
        let fields = match manifest::read_digested(&path)? {
            Ok(fields) => fields,
            Err(reason) => {
                all.findings.push(Finding::damage(&path, None, None, reason));
                continue;
            }
        };
        let text = |key: &str| fields.get(key).and_then(serde_json::Value::as_str);
        let (Some(file), Some(digest)) = (text("torn_file"), text("torn_blake3")) else { continue };
        let torn = dir.root.join(file);
        let bytes = std::fs::read(&torn).map_err(Error::io("read", &torn));
        if !bytes.is_ok_and(|bytes| blake3::hash(&bytes).to_hex().as_str() == digest) {
            let reason = format!("is not what {} names", path.display());
            all.findings.push(Finding::damage(&torn, None, None, reason));
        }
    }
    Ok(())
}
