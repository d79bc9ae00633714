//! The slow half: prepares segments ahead of the writer, flushes and seals behind it.
//!
//! Everything that can wait for a disk happens here, on a helper thread that the engine owns. Any
//! failed write or sync is final: the kernel marks a page clean whose writing failed, so a second
//! try would succeed and lie.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::error::Error;
use crate::faults::{DiskStep, Faults};
use crate::files::{Dir, Lock, Watermark, sync_dir, wall_ns};
use crate::hot::HotKeeper;
use crate::lag::LagMeter;
use crate::layout::{FRAMES_AT, PAGE, SealReason, SegmentHeader, SegmentState, StateSlot};
use crate::manifest::{self, RunStatus};
use crate::options::Options;
use crate::prepare::Preparation;
use crate::segment::Segment;
use crate::shared::{FailureKind, Link, MarkAt, SegmentEnd, Shared};

/// What one turn of the keeper did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// Nothing to do: sleep for about a millisecond.
    Idle,
    /// Something; there may be more.
    Worked,
    /// It has failed ([`Shared::status`] says why): halt.
    Failed,
}

/// A segment in use, or waiting to be.
#[derive(Debug)]
struct Live {
    segment: Arc<Segment>,
    file: File,
    locked: bool,
    flushed: usize, // multiple of PAGE: everything below is on disk and hashed
    hasher: blake3::Hasher,
}

/// The keeping half of a live journal. One helper thread owns it and calls [`Keeper::turn`].
#[derive(Debug)]
pub struct Keeper(Kind);

#[derive(Debug)]
enum Kind {
    Direct(Box<DirectKeeper>),
    Hot(Box<HotKeeper>),
}

impl From<DirectKeeper> for Keeper {
    fn from(keeper: DirectKeeper) -> Keeper {
        Keeper(Kind::Direct(Box::new(keeper)))
    }
}

impl From<HotKeeper> for Keeper {
    fn from(keeper: HotKeeper) -> Keeper {
        Keeper(Kind::Hot(Box::new(keeper)))
    }
}

impl Keeper {
    /// Does what is due: at most one seal, one flush, one step of preparing a segment. Call it
    /// in a loop, about every millisecond. It waits for the disk, never for the writer.
    pub fn turn(&mut self) -> Turn {
        match &mut self.0 {
            Kind::Direct(keeper) => keeper.turn(),
            Kind::Hot(keeper) => keeper.turn(),
        }
    }

    /// The counters and marks of this journal.
    #[must_use]
    pub fn shared(&self) -> Arc<Shared> {
        match &self.0 {
            Kind::Direct(keeper) => Arc::clone(&keeper.shared),
            Kind::Hot(keeper) => keeper.shared(),
        }
    }

    /// Closes the journal after [`crate::Writer::end_run`]: seals, makes everything durable, removes
    /// what was prepared and not used, writes the manifest, gives the lock back. In placement `hot`
    /// the archiver does all that, and this waits for it.
    ///
    /// # Errors
    /// [`Error::NotEnded`] if the writer has not ended the run, the keeper has failed before, or the
    /// archiver does not move; else what the disk said. The journal is then as after a crash, and
    /// recovery seals it.
    pub fn finish(self) -> Result<(), Error> {
        match self.0 {
            Kind::Direct(keeper) => keeper.finish(),
            Kind::Hot(keeper) => keeper.finish(),
        }
    }
}

/// The keeping half of a journal whose segments are disk files.
#[derive(Debug)]
pub(crate) struct DirectKeeper {
    link: Arc<Link>,
    shared: Arc<Shared>,
    dir: Dir,
    lock: Lock,
    options: Options,
    header: SegmentHeader, // of the next segment, but for the clocks
    preparation: Option<Preparation>,
    live: VecDeque<Live>, // oldest first; the front is the one in use, or to be sealed
    given: usize,         // segments handed over
    sealed: Option<SegmentEnd>, // the last segment that was sealed
    watermark: Watermark,
    file: File, // `durable`
    pad_asked: bool,
    last_flush: Instant,
    last_second: Instant,
    lag: LagMeter,
}

impl DirectKeeper {
    pub(crate) fn new(
        link: Arc<Link>,
        (dir, lock, file): (Dir, Lock, File),
        options: Options,
        header: SegmentHeader,
        watermark: Watermark,
    ) -> DirectKeeper {
        let now = Instant::now();
        DirectKeeper {
            shared: Arc::clone(&link.shared),
            link,
            dir,
            lock,
            options,
            header,
            preparation: None,
            live: VecDeque::new(),
            given: 0,
            sealed: None,
            watermark,
            file,
            pad_asked: false,
            last_flush: now,
            last_second: now,
            lag: LagMeter::default(),
        }
    }

    fn turn(&mut self) -> Turn {
        if self.shared.is_lost() {
            return Turn::Failed;
        }
        let worked = match self.work() {
            Ok(worked) => worked,
            Err(bad) => {
                let full = matches!(bad, Error::NoSpace { .. });
                let kind = if full { FailureKind::NoSpace } else { FailureKind::Io };
                self.shared.fail(kind, bad.to_string());
                return Turn::Failed;
            }
        };
        self.publish_lag();
        match (self.shared.has_failed(), worked) {
            (true, _) => Turn::Failed,
            (false, true) => Turn::Worked,
            (false, false) => Turn::Idle,
        }
    }

    fn finish(mut self) -> Result<(), Error> {
        let not_ended = |reason: String| Error::NotEnded { dir: self.dir.root.clone(), reason };
        if !self.shared.has_ended() {
            return Err(not_ended("the writer has not ended it".into()));
        }
        if self.shared.is_lost() {
            return Err(not_ended(format!("{:?}", self.shared.status())));
        }
        while let Some(end) = self.live.front().and_then(|live| live.segment.left()) {
            self.retire(end)?;
        }
        if let Some(unfinished) = self.preparation.take() {
            unfinished.abandon();
        }
        for unused in self.live.drain(..) {
            let path = &unused.segment.path;
            fs::remove_file(path).map_err(Error::io("remove", path))?;
        }
        sync_dir(&self.dir.seg())?;
        // A turn after the end of the run may have sealed the last one already.
        if let Some(end) = self.sealed {
            let last = (end.last_seq, end.last_crc);
            manifest::end(&self.dir, self.header.run, RunStatus::Ended, last, wall_ns())?;
        }
        drop(self.lock);
        Ok(())
    }

    fn work(&mut self) -> Result<bool, Error> {
        let mut worked = false;
        if let Some(end) = self.live.front().and_then(|live| live.segment.left()) {
            self.retire(end)?;
            worked = true;
        } else {
            worked |= self.flush_if_due()?;
        }
        let ready = usize::try_from(self.shared.prepared()).unwrap_or(usize::MAX);
        if ready < self.options.ready_min && !self.shared.has_ended() && !self.shared.has_failed() {
            self.prepare_step()?;
            worked = true;
        }
        if self.last_second.elapsed() >= Duration::from_secs(1) {
            self.last_second = Instant::now();
            self.shared.offer_anchor((self.options.clock)());
            self.populate_ahead()?;
        }
        Ok(worked)
    }

    /// Prepares one segment to its end and hands it over. At the start, when nothing else is due.
    pub(crate) fn prepare_next(&mut self) -> Result<(), Error> {
        let given = self.given;
        while self.given == given {
            self.prepare_step()?;
        }
        Ok(())
    }

    /// Does one step of preparing the next segment; hands it over when it is ready.
    fn prepare_step(&mut self) -> Result<(), Error> {
        let mut preparation = match self.preparation.take() {
            Some(preparation) => preparation,
            None => {
                self.header.created = (self.options.clock)();
                Preparation::begin(&self.dir, &self.header, &self.options.faults)?
            }
        };
        let Some(ready) = preparation.step(&self.dir, self.options.populate)? else {
            self.preparation = Some(preparation);
            return Ok(());
        };
        if !ready.locked {
            self.shared.count_unlocked();
        }
        let mut hasher = blake3::Hasher::new();
        hasher.update(&preparation.header().to_page()[..]);
        lock(&self.link.mapped).push(Arc::clone(&ready.segment));
        let given = self.link.prepared.give(self.given, Arc::clone(&ready.segment));
        debug_assert!(given.is_ok(), "ready_min is below the number of places");
        self.given += 1;
        self.header.segment += 1;
        self.live.push_back(Live {
            segment: ready.segment,
            file: ready.file,
            locked: ready.locked,
            flushed: FRAMES_AT,
            hasher,
        });
        self.shared.count_prepared();
        Ok(())
    }

    /// Asks for padding, and flushes once the writer has answered.
    fn flush_if_due(&mut self) -> Result<bool, Error> {
        if self.pad_asked {
            let Some(mark) = self.shared.padded() else { return Ok(false) };
            self.pad_asked = false;
            return self.flush_to(mark);
        }
        let waiting = self.waiting_bytes();
        let is_behind = self.shared.durable_seq() < self.shared.committed_seq();
        let interval = Duration::from_millis(self.options.flush_interval_ms);
        let due = is_behind && self.last_flush.elapsed() >= interval;
        if due || waiting >= self.options.flush_bytes {
            self.shared.ask_pad();
            self.pad_asked = true;
        }
        Ok(false)
    }

    /// Bytes of the segment in use that are committed and not flushed.
    fn waiting_bytes(&self) -> u64 {
        let (segment, offset) = self.shared.position();
        match self.live.front() {
            Some(live) if live.segment.number == segment => {
                offset.saturating_sub(live.flushed as u64)
            }
            _ => 0,
        }
    }

    /// Flushes up to the writer's mark, if the segment in use is still the mark's.
    fn flush_to(&mut self, mark: MarkAt) -> Result<bool, Error> {
        let start = Instant::now();
        self.last_flush = start;
        let Some(live) = self.live.front_mut() else { return Ok(false) };
        let to = usize::try_from(mark.offset).unwrap_or(0);
        if live.segment.number != mark.segment || to <= live.flushed {
            return Ok(false); // rolled meanwhile: sealing flushes the rest
        }
        let bytes = live.flush(to, &self.options.faults)?;
        self.put_watermark(mark)?;
        self.shared.count_flush(bytes, nanos(start));
        Ok(true)
    }

    /// Flushes what is left of the front segment, which the writer has left, and seals it.
    fn retire(&mut self, end: SegmentEnd) -> Result<(), Error> {
        let start = Instant::now();
        let Some(mut live) = self.live.pop_front() else { return Ok(()) };
        let to = usize::try_from(end.offset).unwrap_or(0);
        let bytes = live.flush(to, &self.options.faults)?;
        let slot = StateSlot {
            generation: 1,
            state: SegmentState::Sealed,
            reason: SealReason::Written,
            end_offset: end.offset,
            base_seq: end.base_seq,
            last_seq: end.last_seq,
            last_crc: end.last_crc,
            sealed_at: wall_ns(),
            blake3: *live.hasher.finalize().as_bytes(),
        };
        let number = live.segment.number;
        let mark =
            MarkAt { segment: number, offset: end.offset, seq: end.last_seq, crc: end.last_crc };
        self.put_watermark(mark)?;
        let path = &live.segment.path;
        live.file.write_all_at(&slot.to_bytes(), slot.offset()).map_err(Error::io("seal", path))?;
        // Only that page: the populated tail of the segment is dirty, and nobody needs it on disk.
        let synced = self.options.faults.before(DiskStep::Sync);
        let synced = synced.and_then(|()| live.segment.sync(PAGE, FRAMES_AT));
        synced.map_err(Error::io("msync", path))?;
        if live.locked {
            live.segment.unlock();
        }
        self.sealed = Some(end);
        self.shared.count_sealed();
        self.shared.publish_archived(end.last_seq);
        self.shared.count_flush(bytes, nanos(start));
        Ok(())
    }

    /// Writes the next watermark slot, syncs it, and only then publishes.
    fn put_watermark(&mut self, mark: MarkAt) -> Result<(), Error> {
        let next = Watermark {
            generation: self.watermark.generation + 1,
            run: self.header.run,
            segment: mark.segment,
            offset: mark.offset,
            seq: mark.seq,
            crc: mark.crc,
            boot_id: self.header.boot_id,
            uuid: self.header.uuid,
            wall_ns: wall_ns(),
        };
        let path = self.dir.durable();
        self.file
            .write_all_at(&next.to_bytes(), next.place())
            .map_err(Error::io("write", &path))?;
        let synced = self.options.faults.before(DiskStep::Watermark);
        let synced = synced.and_then(|()| self.file.sync_data());
        synced.map_err(Error::io("fdatasync", &path))?;
        self.watermark = next;
        self.shared.publish_durable(mark.seq);
        crate::sigbus::note_seq(mark.seq);
        Ok(())
    }

    /// Makes the pages ahead of the writer writable again: the kernel protects old dirty pages.
    fn populate_ahead(&self) -> Result<(), Error> {
        if !self.options.populate {
            return Ok(());
        }
        let (segment, offset) = self.shared.position();
        let ahead = usize::try_from(self.options.prefault_ahead).unwrap_or(usize::MAX);
        for live in &self.live {
            let from = match live.segment.number {
                number if number == segment => usize::try_from(offset).unwrap_or(0),
                number if number == segment + 1 => FRAMES_AT,
                _ => continue,
            };
            let to = from.saturating_add(ahead).next_multiple_of(PAGE);
            let path = &live.segment.path;
            live.segment.populate(from, to).map_err(Error::io("populate", path))?;
        }
        Ok(())
    }

    fn publish_lag(&mut self) {
        let (committed, durable) = (self.shared.committed_seq(), self.shared.durable_seq());
        self.shared.publish_lag(self.lag.look(committed, durable, Instant::now()));
    }
}

impl Live {
    /// Syncs and hashes everything up to `to`; returns the bytes.
    fn flush(&mut self, to: usize, faults: &Faults) -> Result<u64, Error> {
        let path = &self.segment.path;
        let sync_to = to.next_multiple_of(PAGE);
        let synced = faults.before(DiskStep::Sync);
        let synced = synced.and_then(|()| self.segment.sync(self.flushed, sync_to));
        synced.map_err(Error::io("msync", path))?;
        let bytes = self.segment.committed(self.flushed, to);
        self.hasher.update(bytes);
        self.flushed = to;
        Ok(bytes.len() as u64)
    }
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn nanos(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_nanos()).unwrap_or(u64::MAX)
}
