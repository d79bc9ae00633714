//! Rescue of whatever validates into a new journal. Never in place.
//!
//! A frame is taken if it validates under the checksum of the frame before it, whether or not that
//! one is itself whole: its stored checksum is enough. So one flipped byte costs one event, or two.

use std::fs;
use std::path::{Path, PathBuf};

use crate::codec::{EXT_WORDS_MAX, FRAME_ALIGN, FRAME_HEAD, Frame, KIND_PHYSICAL, Raw, parse};
use crate::error::Error;
use crate::files::{Dir, is_owned};
use crate::keeper::{Keeper, Turn};
use crate::layout::{FRAMES_AT, SEGMENT_LEN_MIN, SegmentHeader, SegmentState};
use crate::open::create;
use crate::options::{Options, RunFacts};
use crate::scan::{View, pair_at};
use crate::writer::{AppendError, Writer};

/// What [`salvage`] rescued.
#[derive(Clone, Debug, Default, serde::Serialize)]
pub struct Salvaged {
    /// Events in the new journal.
    pub events: u64,
    /// Ranges of `seq` that are nowhere, first and last. What was lost behind the last event cannot
    /// be known.
    pub lost: Vec<(u64, u64)>,
    /// Segments that were left out: of another journal, or set aside by recovery.
    pub skipped: Vec<PathBuf>,
}

/// Copies every event of `dir` that validates into a new journal in `out`, with its `seq`, stamps
/// and payload. A gap in `seq` becomes a `GAP` frame. All runs become one.
///
/// # Errors
/// [`Error::Owned`] if an engine is alive, [`Error::Foreign`] if `out` is not empty, and what the
/// system says. Damage in `dir` is no error here.
pub fn salvage(dir: &Path, out: &Path) -> Result<Salvaged, Error> {
    let dir = Dir::new(dir);
    if !dir.seg().is_dir() {
        let found = "no seg/ folder".to_string();
        return Err(Error::Missing { dir: dir.root, found });
    }
    if is_owned(&dir) {
        return Err(Error::Owned { dir: dir.root, owner: "alive".into() });
    }
    if fs::read_dir(out).is_ok_and(|mut entries| entries.next().is_some()) {
        return Err(Error::Foreign {
            file: out.to_path_buf(),
            found: "a directory that is not empty".into(),
            rule: "salvage writes a new journal",
        });
    }
    let mut sources = Vec::new();
    for file in dir.segments()? {
        let view = View::open(&file.path)?;
        let header = view.header().ok();
        sources.push((file.path, view, header));
    }
    let model = sources.iter().find_map(|(.., header)| header.clone());
    let mut rescue = Rescue::begin(out, model.as_ref())?;
    for (path, view, header) in sources {
        let is_foreign = header.as_ref().zip(model.as_ref()).is_some_and(|(a, b)| a.uuid != b.uuid);
        let state = view.state().newest.map(|it| it.state);
        if is_foreign || state == Some(SegmentState::Quarantined) {
            rescue.salvaged.skipped.push(path);
            continue;
        }
        rescue.segment(&view, header.as_ref())?;
    }
    rescue.finish()
}

struct Rescue {
    out: PathBuf,
    writer: Writer,
    keeper: Keeper,
    salvaged: Salvaged,
}

impl Rescue {
    fn begin(out: &Path, model: Option<&SegmentHeader>) -> Result<Rescue, Error> {
        let segment_bytes = model.map_or(2 << 20, |it| it.segment_len);
        let options = Options {
            segment_bytes: segment_bytes.max(2 * SEGMENT_LEN_MIN), // the longest frame must fit
            allow_tiny_segments_for_tests: true,
            frame_max: u32::try_from(segment_bytes / 4).unwrap_or(u32::MAX).min(64 << 10),
            ready_min: 1,
            populate: false,
            not_ready_spin_us: 0,
            ..Options::default()
        };
        let facts = model.map_or_else(RunFacts::default, |it| RunFacts {
            tsc_hz: it.tsc_hz,
            tsc: it.created.tsc,
            wall_ns: it.created.wall_ns.unsigned_abs(),
            seed: it.seed,
            config_hash: it.config_hash,
            binary_hash: it.binary_hash,
            lock_hash: it.lock_hash,
            registry_hash: it.registry_hash,
            notes: serde_json::json!({ "salvaged_from": crate::manifest::hex(&it.uuid) }),
        });
        let (writer, keeper, _) = create(out, &options, facts)?;
        Ok(Rescue { out: out.to_path_buf(), writer, keeper, salvaged: Salvaged::default() })
    }

    /// Takes what validates in one segment, after finding its way past what does not.
    fn segment(&mut self, view: &View, header: Option<&SegmentHeader>) -> Result<(), Error> {
        let bytes = view.range(0, view.len());
        let mut at = FRAMES_AT;
        let mut prev = header.map(SegmentHeader::chain_seed);
        while at + FRAME_HEAD <= bytes.len() {
            let raw = prev.and_then(|prev| parse(&bytes[at..], prev).ok().flatten());
            if let Some(raw) = raw {
                self.event(&raw)?;
                at += raw.size;
                prev = Some(raw.crc);
                continue;
            }
            // Is this frame broken, but the next one whole?
            match pair_at(bytes, at) {
                Some((size, _)) => {
                    let stored = &bytes[at + 4..at + 8];
                    prev = Some(u32::from_le_bytes([stored[0], stored[1], stored[2], stored[3]]));
                    at += size;
                }
                None => {
                    prev = None;
                    at += FRAME_ALIGN;
                }
            }
        }
        Ok(())
    }

    fn event(&mut self, raw: &Raw<'_>) -> Result<(), Error> {
        let next = self.writer.next_seq();
        if raw.kind & KIND_PHYSICAL != 0 || raw.seq < next {
            return Ok(()); // ours, or a copy of what we have
        }
        if raw.seq > next {
            self.put(|writer| writer.gap(next, raw.seq - 1))?;
            self.salvaged.lost.push((next, raw.seq - 1));
        }
        let ext = &raw.ext[..raw.ext_words.min(EXT_WORDS_MAX)];
        let (ts, kind, schema, lane) = (raw.ts, raw.kind, raw.schema, raw.lane);
        let frame = Frame { ts, kind, schema, lane, ext, payload: raw.payload };
        self.put(|writer| writer.append(&frame).map(drop))?;
        self.salvaged.events += 1;
        Ok(())
    }

    /// Appends, and turns the keeper while no segment is ready.
    fn put(
        &mut self,
        append: impl Fn(&mut Writer) -> Result<(), AppendError>,
    ) -> Result<(), Error> {
        loop {
            match append(&mut self.writer) {
                Ok(()) => return Ok(()),
                Err(AppendError::NotReady) if self.keeper.turn() != Turn::Failed => {}
                Err(why) => {
                    let status = self.keeper.shared().status();
                    let reason = format!("{why}: {status:?}");
                    return Err(Error::NotEnded { dir: self.out.clone(), reason });
                }
            }
        }
    }

    fn finish(self) -> Result<Salvaged, Error> {
        let not_ended = |(_, why): (Writer, AppendError)| Error::NotEnded {
            dir: self.out.clone(),
            reason: why.to_string(),
        };
        self.writer.end_run(0, b"salvaged").map_err(not_ended)?;
        self.keeper.finish()?;
        Ok(self.salvaged)
    }
}
