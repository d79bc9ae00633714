//! Copying one run: scan, write, sync, watermark, publish; seal at the end of each segment.

use std::fs::{self, File};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::Archiver;
use super::disk::Disk;
use crate::codec::{Chain, RUN_END, SEG_END};
use crate::error::Error;
use crate::files::{Watermark, wall_ns};
use crate::layout::{FRAMES_AT, SealReason, SegmentHeader, SegmentState, StateSlot};
use crate::manifest::{self, RunStatus, read_digested};
use crate::open::open_watermark;
use crate::ring::{ArchiverState, EngineSeen, Reuse, Session};
use crate::scan::{View, first_frame};
use crate::verify::Finding;

/// Bytes written and synced at once while there is more. 8 MiB.
const CHUNK: usize = 8 << 20;

/// How often the engine's lock is looked at.
const PROBE_EVERY: Duration = Duration::from_millis(20);

/// Segment, last `seq` and last CRC of what comes before.
pub(super) type Before = (u64, u64, u32);

/// A run that is being copied.
#[derive(Debug)]
pub(super) struct Copying {
    pub(super) engine: EngineSeen,
    pub(super) session: Session,
    pub(super) before: Before,
    pub(super) next: u64, // number of the segment to be opened next
    pub(super) open: Option<Open>,
    pub(super) has_ended: bool, // RUN_END is sealed; only its manifest is missing
    pub(super) probed_at: Instant, // whether the engine lives
}

/// The segment that is being copied.
#[derive(Debug)]
pub(super) struct Open {
    pub(super) number: u64,
    pub(super) slot: View,
    pub(super) slot_path: PathBuf,
    pub(super) header: SegmentHeader,
    pub(super) file: File,
    pub(super) path: PathBuf,
    pub(super) chain: Chain,   // behind `scanned`
    pub(super) base_seq: u64,  // 0: the first frame was not scanned yet
    pub(super) scanned: usize, // validated up to here
    pub(super) written: usize, // ≤ scanned: on disk and hashed up to here
    pub(super) hasher: blake3::Hasher,
    pub(super) closed: bool,
    pub(super) run_ended: bool,
    pub(super) flushed_at: Instant,
}

impl Open {
    /// Validates what is committed behind `scanned`, up to a chunk of it.
    fn scan(&mut self, before: Before) -> Result<(), Error> {
        let len = usize::try_from(self.header.segment_len).unwrap_or(usize::MAX);
        while !self.closed && self.scanned - self.written < CHUNK {
            let frame = self.slot.frame(self.scanned, len, self.chain.crc);
            let Some(raw) = frame.map_err(|flaw| self.damaged(flaw.to_string()))? else { break };
            if self.base_seq == 0 {
                let start = first_frame(&raw).map_err(|flaw| self.damaged(flaw.to_string()))?;
                if (start.prev_segment, start.prev_last_seq, start.prev_crc) != before {
                    return Err(self.damaged(format!(
                        "continues segment {} at seq {} ({:08x}), the archive ends with {} at seq {} \
                         ({:08x})",
                        start.prev_segment,
                        start.prev_last_seq,
                        start.prev_crc,
                        before.0,
                        before.1,
                        before.2
                    )));
                }
                (self.base_seq, self.chain.next_seq) = (start.base_seq, start.base_seq);
            }
            let admitted = self.chain.admit(&raw);
            self.closed = raw.kind == SEG_END;
            self.run_ended |= raw.kind == RUN_END;
            let size = raw.size;
            admitted.map_err(|flaw| self.damaged(flaw.to_string()))?;
            self.scanned += size;
        }
        Ok(())
    }

    fn damaged(&self, reason: String) -> Error {
        let at = Some(self.scanned as u64);
        let mut finding = Finding::damage(&self.slot_path, Some(&self.header), at, reason);
        finding.seq = Some((self.chain.next_seq, None));
        Error::Damaged(Box::new(finding))
    }

    /// Writes what is validated. The first commit word comes last: whoever follows the archive stops
    /// at it until everything behind it is there.
    fn write(&mut self, disk: &Disk) -> Result<u64, Error> {
        let bytes = self.slot.range(self.written, self.scanned);
        if let Some((word, rest)) = bytes.split_at_checked(4) {
            disk.write(&self.file, &self.path, rest, self.written as u64 + 4)?;
            disk.write(&self.file, &self.path, word, self.written as u64)?;
        }
        self.hasher.update(bytes);
        let len = bytes.len() as u64;
        self.written = self.scanned;
        Ok(len)
    }

    fn last_seq(&self) -> u64 {
        self.chain.next_seq.saturating_sub(1)
    }
}

impl Archiver {
    /// Makes the archive ready for a run, and tells the engine that it is being copied.
    pub(super) fn begin(
        &mut self,
        engine: EngineSeen,
        session: Session,
        before: Before,
    ) -> Result<(), Error> {
        let source = self.ring.manifest(session.run);
        let fields = read_digested(&source)?.map_err(|reason| {
            Error::Damaged(Box::new(Finding::damage(&source, None, None, reason)))
        })?;
        let target = self.dir.manifest(session.run);
        let (run, uuid) = (session.run, session.uuid);
        self.disk.replacing(&self.dir.durable())?;
        self.watermark = open_watermark(&self.dir, run, uuid, self.boot_id)?;
        self.disk.replacing(&target)?;
        manifest::write_digested(&target, fields)?;
        self.copy_from(engine, session, before, session.first_segment);
        Ok(())
    }

    pub(super) fn copy_from(
        &mut self,
        engine: EngineSeen,
        session: Session,
        before: Before,
        next: u64,
    ) {
        self.page.attach(session.run, before.1, next - 1);
        self.progress.run = session.run;
        self.progress.durable_seq = before.1;
        self.found = None;
        let (open, has_ended, probed_at) = (None, false, Instant::now());
        let copying = Copying { engine, session, before, next, open, has_ended, probed_at };
        self.copying = Some(copying);
        self.say(ArchiverState::Copying);
    }

    /// One step of copying: open, flush, seal, or end.
    pub(super) fn copy_step(&mut self) -> Result<bool, Error> {
        let Some(copying) = &mut self.copying else { return Ok(false) };
        if copying.has_ended {
            let last = (copying.before.1, copying.before.2);
            self.disk.replacing(&self.dir.manifest(copying.session.run))?;
            manifest::end(&self.dir, copying.session.run, RunStatus::Ended, last, wall_ns())?;
            self.settle()?;
            return Ok(true);
        }
        // Before the look at the ring: what a dead engine committed, it committed before it died.
        let is_due = copying.probed_at.elapsed() >= PROBE_EVERY;
        if is_due {
            copying.probed_at = Instant::now();
        }
        let is_dead = is_due && !copying.engine.is_written(&self.ring);
        if copying.open.is_none() {
            let reuse = Reuse {
                slots: copying.engine.slots(copying.session.slot_count),
                released: self.page.released(),
            };
            if let Some(slot) = reuse.find(copying.next) {
                self.open_next(slot)?;
                return Ok(true);
            }
        }
        if self.flush_copying(false)? {
            return Ok(true);
        }
        if is_dead {
            if !self.flush_copying(true)? {
                self.copying = None; // closes the file
                self.settle()?;
            }
            return Ok(true);
        }
        Ok(false)
    }

    /// Opens the archive's file for the segment in `slot`.
    fn open_next(&mut self, slot: usize) -> Result<(), Error> {
        let Some(copying) = &self.copying else { return Ok(()) };
        let slot_path = self.ring.slot(slot);
        let (run, number) = (copying.session.run, copying.next);
        let view = self.open_slot(&slot_path, run, number)?;
        let Some(copying) = &mut self.copying else { return Ok(()) };
        let damaged = |reason: String| {
            Error::Damaged(Box::new(Finding::damage(&slot_path, None, Some(0), reason)))
        };
        let header = view.header().map_err(|flaw| damaged(format!("header: {flaw:?}")))?;
        let session = &copying.session;
        let says = (header.uuid, header.run, header.segment, header.segment_len);
        let expected = (session.uuid, session.run, copying.next, session.segment_bytes);
        if says != expected || view.len() as u64 != header.segment_len {
            return Err(damaged(format!(
                "header of run {} segment {}; the ring says run {} segment {}",
                header.run, header.segment, session.run, copying.next
            )));
        }
        let path = self.dir.segment(header.run, header.segment);
        // Created before a kill, and nothing of it durable: everything in it is written again.
        let file = match fs::metadata(&path) {
            Ok(it) if it.len() == header.segment_len => Disk::open_segment(&path)?,
            Ok(_) | Err(_) => self.disk.create_segment(&path, &header)?,
        };
        let mut hasher = blake3::Hasher::new();
        hasher.update(&header.to_page()[..]);
        copying.open = Some(Open {
            number: copying.next,
            slot: view,
            slot_path,
            chain: Chain { crc: header.chain_seed(), next_seq: 0 },
            header,
            file,
            path,
            base_seq: 0,
            scanned: FRAMES_AT,
            written: FRAMES_AT,
            hasher,
            closed: false,
            run_ended: false,
            flushed_at: Instant::now(),
        });
        copying.next += 1;
        Ok(())
    }

    /// Flushes if it is due, or in any case with `now`; seals a segment that is complete.
    pub(super) fn flush_copying(&mut self, now: bool) -> Result<bool, Error> {
        let Some(copying) = &mut self.copying else { return Ok(false) };
        let Some(open) = &mut copying.open else { return Ok(false) };
        open.scan(copying.before)?;
        let waiting = (open.scanned - open.written) as u64;
        let interval = Duration::from_millis(self.options.flush_interval_ms);
        let due = waiting > 0 && open.flushed_at.elapsed() >= interval;
        let enough = self.options.flush_bytes.min(CHUNK as u64);
        if !(open.closed || due || now && waiting > 0 || waiting >= enough) {
            return Ok(false);
        }
        let start = Instant::now();
        open.flushed_at = start;
        let bytes = open.write(&self.disk)?;
        self.disk.sync(&open.file, &open.path)?;
        let mark = Watermark {
            generation: self.watermark.generation + 1,
            run: open.header.run,
            segment: open.number,
            offset: open.written as u64,
            seq: open.last_seq(),
            crc: open.chain.crc,
            boot_id: self.boot_id,
            uuid: open.header.uuid,
            wall_ns: wall_ns(),
        };
        self.put_watermark(mark)?;
        self.progress.bytes += bytes;
        self.progress.flushes += 1;
        let ns = u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.progress.flush_ns = (ns, self.progress.flush_ns.1.max(ns));
        self.seal_closed()?;
        Ok(true)
    }

    fn put_watermark(&mut self, mark: Watermark) -> Result<(), Error> {
        let path = self.dir.durable();
        let file = Disk::open_segment(&path)?;
        self.disk.write(&file, &path, &mark.to_bytes(), mark.place())?;
        self.disk.sync(&file, &path)?;
        self.watermark = mark;
        self.page.set_durable(mark.seq);
        self.progress.durable_seq = mark.seq;
        self.progress.segment = mark.segment;
        Ok(())
    }

    /// Seals the open segment if its writer has left it, and lets the engine use the slot again.
    pub(super) fn seal_closed(&mut self) -> Result<(), Error> {
        let Some(copying) = &mut self.copying else { return Ok(()) };
        let Some(open) = copying.open.take_if(|open| open.closed && open.written == open.scanned)
        else {
            return Ok(());
        };
        let slot = StateSlot {
            generation: 1,
            state: SegmentState::Sealed,
            reason: SealReason::Written,
            end_offset: open.written as u64,
            base_seq: open.base_seq,
            last_seq: open.last_seq(),
            last_crc: open.chain.crc,
            sealed_at: wall_ns(),
            blake3: *open.hasher.finalize().as_bytes(),
        };
        self.disk.write(&open.file, &open.path, &slot.to_bytes(), slot.offset())?;
        self.disk.sync(&open.file, &open.path)?;
        copying.before = (open.number, slot.last_seq, slot.last_crc);
        copying.has_ended = open.run_ended;
        let slots = copying.engine.slots(copying.session.slot_count);
        Reuse { slots, released: self.page.released() }.release(open.number);
        Ok(())
    }
}
