//! What the two halves of a live journal share: atomics, and a hand-over of prepared segments.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use crate::layout::Anchor;
use crate::options::PREPARED_MAX;
use crate::ring::ArchiverState;
use crate::segment::Segment;
use crate::sync::{AtomicPtr, AtomicU32, AtomicU64, Ordering, Padded};

/// The keeper asks for padding up to the next page.
pub(crate) const ASK_PAD: u32 = 1;
/// The keeper has put an anchor into [`Shared::anchor`].
pub(crate) const ASK_ANCHOR: u32 = 2;

/// A segment number and an offset in it, in one word: 27 bits of number, 37 of offset.
pub(crate) const OFFSET_BITS: u32 = 37;

/// Why the keeper stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureKind {
    /// The next segment could not be allocated. What is prepared can still be written, and is made
    /// durable and sealed as ever.
    NoSpace = 1,
    /// A write or a sync failed. Final: nothing after [`Shared::durable_seq`] can be promised.
    Io = 2,
}

/// What stopped the keeper.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Of which kind.
    pub kind: FailureKind,
    /// One line for the operator: path, need, free, or what the system said.
    pub message: String,
}

/// Whether the keeper does its work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Status {
    /// It does.
    Running,
    /// It has stopped; the engine halts.
    Failed(Failure),
}

/// Written by the writer.
#[derive(Debug, Default)]
struct Written {
    committed_seq: AtomicU64,
    position: AtomicU64, // segment number and offset of the cursor
    rolls: AtomicU64,
    not_ready: AtomicU64,
    ended: AtomicU32,
}

/// Written by the writer in answer to [`ASK_PAD`], read once the flag is down again.
#[derive(Debug, Default)]
struct Mark {
    segment: AtomicU64,
    offset: AtomicU64,
    seq: AtomicU64,
    crc: AtomicU32,
}

/// Written by the keeper.
#[derive(Debug, Default)]
struct Kept {
    durable_seq: AtomicU64,
    prepared: AtomicU64,
    taken: AtomicU64, // by the writer, at each roll
    flushes: AtomicU64,
    flush_ns_last: AtomicU64,
    flush_ns_max: AtomicU64,
    flushed_bytes: AtomicU64,
    sealed: AtomicU64,
    archived_seq: AtomicU64,
    ring: AtomicU64, // slots in the upper half, those that wait for the archiver in the lower
    durable_lag_ns: AtomicU64,
    unlocked: AtomicU64,
    failed: AtomicU32, // 0, or the gravest `FailureKind` so far
}

#[derive(Debug, Default)]
struct AnchorCells {
    tsc: AtomicU64,
    wall_ns: AtomicU64,
    mono_ns: AtomicU64,
}

/// Counters and marks of a live journal. All atomics: read them from any thread.
#[derive(Debug, Default)]
pub struct Shared {
    written: Padded<Written>,
    signals: Padded<AtomicU32>,
    mark: Padded<Mark>,
    kept: Padded<Kept>,
    anchor: Padded<AnchorCells>,
    full: OnceLock<Failure>,                // of kind `NoSpace`
    lost: OnceLock<Failure>,                // of kind `Io`
    archiver: Mutex<Option<ArchiverState>>, // of placement `hot`; never touched by the writer
    archiver_silent_ns: Padded<AtomicU64>,
}

/// Where the writer answered a request for padding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MarkAt {
    pub(crate) segment: u64,
    pub(crate) offset: u64,
    pub(crate) seq: u64,
    pub(crate) crc: u32,
}

impl Shared {
    /// The last committed event: it survives the death of this process. 0 in a new journal.
    pub fn committed_seq(&self) -> u64 {
        self.written.0.committed_seq.load(Ordering::Acquire)
    }

    /// The last durable event: it survives the death of the host. 0 in a new journal.
    pub fn durable_seq(&self) -> u64 {
        self.kept.0.durable_seq.load(Ordering::Acquire)
    }

    /// Segment and offset of the writer's cursor.
    pub fn position(&self) -> (u64, u64) {
        let packed = self.written.0.position.load(Ordering::Acquire);
        (packed >> OFFSET_BITS, packed & ((1 << OFFSET_BITS) - 1))
    }

    /// Prepared segments that wait for the writer.
    pub fn prepared(&self) -> u64 {
        let taken = self.kept.0.taken.load(Ordering::Acquire);
        self.kept.0.prepared.load(Ordering::Acquire).saturating_sub(taken)
    }

    /// Segments the writer has rolled out of.
    pub fn rolls(&self) -> u64 {
        self.written.0.rolls.load(Ordering::Relaxed)
    }

    /// Appends that found no segment ready.
    pub fn not_ready(&self) -> u64 {
        self.written.0.not_ready.load(Ordering::Relaxed)
    }

    /// Flushes so far.
    pub fn flushes(&self) -> u64 {
        self.kept.0.flushes.load(Ordering::Relaxed)
    }

    /// Nanoseconds of the last flush and of the longest.
    pub fn flush_ns(&self) -> (u64, u64) {
        let last = self.kept.0.flush_ns_last.load(Ordering::Relaxed);
        (last, self.kept.0.flush_ns_max.load(Ordering::Relaxed))
    }

    /// Bytes flushed so far.
    pub fn flushed_bytes(&self) -> u64 {
        self.kept.0.flushed_bytes.load(Ordering::Relaxed)
    }

    /// Segments sealed so far.
    pub fn sealed(&self) -> u64 {
        self.kept.0.sealed.load(Ordering::Relaxed)
    }

    /// The last event of the sealed segments on disk; 0 if there is none.
    pub fn archived_seq(&self) -> u64 {
        self.kept.0.archived_seq.load(Ordering::Relaxed)
    }

    /// Slots of the ring, and how many of them are full and wait for the archiver; `None` in placement
    /// `direct`. As of the last turn.
    pub fn ring(&self) -> Option<(u64, u64)> {
        let packed = self.kept.0.ring.load(Ordering::Relaxed);
        (packed > 0).then_some((packed >> 32, packed & u64::from(u32::MAX)))
    }

    /// Age in nanoseconds of the oldest event that is committed and not durable; 0 if there is none. As
    /// of the last turn.
    pub fn durable_lag_ns(&self) -> u64 {
        self.kept.0.durable_lag_ns.load(Ordering::Relaxed)
    }

    /// Segments that could not be locked into memory (RLIMIT_MEMLOCK).
    pub fn unlocked(&self) -> u64 {
        self.kept.0.unlocked.load(Ordering::Relaxed)
    }

    /// What the archiver does, as of some milliseconds ago; `None` in placement `direct`.
    pub fn archiver(&self) -> Option<ArchiverState> {
        self.archiver.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Nanoseconds since the archiver last said that it lives; 0 in placement `direct`.
    pub fn archiver_silent_ns(&self) -> u64 {
        self.archiver_silent_ns.0.load(Ordering::Relaxed)
    }

    /// Whether the keeper does its work. Cheap while it does: one load.
    pub fn status(&self) -> Status {
        if !self.has_failed() {
            return Status::Running;
        }
        let gravest = self.lost.get().or(self.full.get());
        gravest.map_or(Status::Running, |it| Status::Failed(it.clone()))
    }

    /// Whether the keeper has stopped. One load, for hot threads.
    pub fn has_failed(&self) -> bool {
        self.kept.0.failed.load(Ordering::Acquire) != 0
    }

    /// Whether a write or a sync has failed: from then on nothing more becomes durable.
    pub fn is_lost(&self) -> bool {
        self.kept.0.failed.load(Ordering::Acquire) == FailureKind::Io as u32
    }

    pub(crate) fn fail(&self, kind: FailureKind, message: String) {
        let place = match kind {
            FailureKind::NoSpace => &self.full,
            FailureKind::Io => &self.lost,
        };
        // A second failure of a kind changes nothing: the first one is the cause.
        let _ = place.set(Failure { kind, message });
        self.kept.0.failed.fetch_max(kind as u32, Ordering::Release);
    }

    // --- the writer's side ---

    pub(crate) fn signals(&self) -> u32 {
        self.signals.0.load(Ordering::Relaxed)
    }

    /// Reads the anchor the keeper has put down, and lets it put down another.
    pub(crate) fn take_anchor(&self) -> Anchor {
        let _ = self.signals.0.load(Ordering::Acquire); // pairs with `offer_anchor`
        let anchor = &self.anchor.0;
        let wall_ns = anchor.wall_ns.load(Ordering::Relaxed).cast_signed();
        let tsc = anchor.tsc.load(Ordering::Relaxed);
        let taken = Anchor { tsc, wall_ns, mono_ns: anchor.mono_ns.load(Ordering::Relaxed) };
        self.signals.0.fetch_and(!ASK_ANCHOR, Ordering::Release);
        taken
    }

    /// Answers a request for padding.
    pub(crate) fn answer_pad(&self, at: MarkAt) {
        let mark = &self.mark.0;
        mark.segment.store(at.segment, Ordering::Relaxed);
        mark.offset.store(at.offset, Ordering::Relaxed);
        mark.seq.store(at.seq, Ordering::Relaxed);
        mark.crc.store(at.crc, Ordering::Relaxed);
        self.signals.0.fetch_and(!ASK_PAD, Ordering::Release);
    }

    #[inline(always)]
    pub(crate) fn publish_position(&self, segment: u64, offset: usize) {
        let packed = segment << OFFSET_BITS | offset as u64;
        self.written.0.position.store(packed, Ordering::Release);
    }

    #[inline(always)]
    pub(crate) fn publish_committed(&self, seq: u64) {
        self.written.0.committed_seq.store(seq, Ordering::Release);
    }

    pub(crate) fn count_roll(&self) {
        let rolls = &self.written.0.rolls;
        rolls.store(rolls.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
    }

    pub(crate) fn count_taken(&self) {
        self.kept.0.taken.fetch_add(1, Ordering::Release);
    }

    pub(crate) fn count_not_ready(&self) {
        let count = &self.written.0.not_ready;
        count.store(count.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
    }

    pub(crate) fn set_ended(&self) {
        self.written.0.ended.store(1, Ordering::Release);
    }

    // --- the keeper's side ---

    pub(crate) fn has_ended(&self) -> bool {
        self.written.0.ended.load(Ordering::Acquire) != 0
    }

    /// Puts down an anchor, unless the writer has not taken the last one.
    pub(crate) fn offer_anchor(&self, anchor: Anchor) {
        if self.signals.0.load(Ordering::Acquire) & ASK_ANCHOR != 0 {
            return;
        }
        let cells = &self.anchor.0;
        cells.tsc.store(anchor.tsc, Ordering::Relaxed);
        cells.wall_ns.store(anchor.wall_ns.cast_unsigned(), Ordering::Relaxed);
        cells.mono_ns.store(anchor.mono_ns, Ordering::Relaxed);
        self.signals.0.fetch_or(ASK_ANCHOR, Ordering::Release);
    }

    pub(crate) fn ask_pad(&self) {
        self.signals.0.fetch_or(ASK_PAD, Ordering::Release);
    }

    /// The answer to [`Self::ask_pad`]; `None` until there is one.
    pub(crate) fn padded(&self) -> Option<MarkAt> {
        if self.signals.0.load(Ordering::Acquire) & ASK_PAD != 0 {
            return None;
        }
        let mark = &self.mark.0;
        Some(MarkAt {
            segment: mark.segment.load(Ordering::Relaxed),
            offset: mark.offset.load(Ordering::Relaxed),
            seq: mark.seq.load(Ordering::Relaxed),
            crc: mark.crc.load(Ordering::Relaxed),
        })
    }

    pub(crate) fn publish_durable(&self, seq: u64) {
        self.kept.0.durable_seq.store(seq, Ordering::Release);
    }

    pub(crate) fn publish_archiver(&self, state: ArchiverState, silent_ns: u64) {
        *self.archiver.lock().unwrap_or_else(PoisonError::into_inner) = Some(state);
        self.archiver_silent_ns.0.store(silent_ns, Ordering::Relaxed);
    }

    pub(crate) fn count_prepared(&self) {
        self.kept.0.prepared.fetch_add(1, Ordering::Release);
    }

    pub(crate) fn count_flush(&self, bytes: u64, ns: u64) {
        let kept = &self.kept.0;
        kept.flushes.fetch_add(1, Ordering::Relaxed);
        kept.flushed_bytes.fetch_add(bytes, Ordering::Relaxed);
        kept.flush_ns_last.store(ns, Ordering::Relaxed);
        kept.flush_ns_max.fetch_max(ns, Ordering::Relaxed);
    }

    pub(crate) fn count_sealed(&self) {
        self.kept.0.sealed.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn publish_archived(&self, seq: u64) {
        self.kept.0.archived_seq.store(seq, Ordering::Relaxed);
    }

    pub(crate) fn publish_ring(&self, slots: usize, waiting: usize) {
        self.kept.0.ring.store((slots as u64) << 32 | waiting as u64, Ordering::Relaxed);
    }

    pub(crate) fn count_unlocked(&self) {
        self.kept.0.unlocked.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn publish_lag(&self, ns: u64) {
        self.kept.0.durable_lag_ns.store(ns, Ordering::Relaxed);
    }
}

/// Where the writer left a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SegmentEnd {
    pub(crate) offset: u64, // > 0
    pub(crate) base_seq: u64,
    pub(crate) last_seq: u64,
    pub(crate) last_crc: u32,
}

/// Set once by the writer when it leaves a segment; then the keeper may seal.
#[derive(Debug, Default)]
pub(crate) struct EndMark {
    offset: AtomicU64, // 0 until then
    base_seq: AtomicU64,
    last_seq: AtomicU64,
    last_crc: AtomicU32,
}

impl EndMark {
    pub(crate) fn set(&self, end: SegmentEnd) {
        self.base_seq.store(end.base_seq, Ordering::Relaxed);
        self.last_seq.store(end.last_seq, Ordering::Relaxed);
        self.last_crc.store(end.last_crc, Ordering::Relaxed);
        self.offset.store(end.offset, Ordering::Release);
    }

    pub(crate) fn get(&self) -> Option<SegmentEnd> {
        let offset = self.offset.load(Ordering::Acquire);
        (offset != 0).then(|| SegmentEnd {
            offset,
            base_seq: self.base_seq.load(Ordering::Relaxed),
            last_seq: self.last_seq.load(Ordering::Relaxed),
            last_crc: self.last_crc.load(Ordering::Relaxed),
        })
    }
}

/// A ring of places through which one thread hands values to another. Neither ever waits.
#[derive(Debug)]
pub(crate) struct Handover<T> {
    places: [AtomicPtr<T>; PREPARED_MAX],
}

impl<T> Default for Handover<T> {
    fn default() -> Handover<T> {
        Handover { places: std::array::from_fn(|_| AtomicPtr::new(std::ptr::null_mut())) }
    }
}

impl<T> Handover<T> {
    /// Puts `value` into the place of turn `turn`; gives it back if the place is still taken.
    ///
    /// One thread gives, counting its turns from 0.
    pub(crate) fn give(&self, turn: usize, value: Arc<T>) -> Result<(), Arc<T>> {
        let place = &self.places[turn % PREPARED_MAX];
        if !place.load(Ordering::Acquire).is_null() {
            return Err(value);
        }
        place.store(Arc::into_raw(value).cast_mut(), Ordering::Release);
        Ok(())
    }

    /// Whether the value of turn `turn` is there.
    #[inline]
    pub(crate) fn is_there(&self, turn: usize) -> bool {
        !self.places[turn % PREPARED_MAX].load(Ordering::Acquire).is_null()
    }

    /// Takes the value of turn `turn`. One thread takes, counting its turns from 0.
    pub(crate) fn take(&self, turn: usize) -> Option<Arc<T>> {
        let place = &self.places[turn % PREPARED_MAX];
        let value = place.load(Ordering::Acquire);
        if value.is_null() {
            return None;
        }
        place.store(std::ptr::null_mut(), Ordering::Release);
        // SAFETY: the pointer came from `Arc::into_raw` in `give`, and its place is empty now, so
        // this is the only `Arc` made from it. Only one thread takes.
        Some(unsafe { Arc::from_raw(value.cast_const()) })
    }
}

impl<T> Drop for Handover<T> {
    fn drop(&mut self) {
        for turn in 0..PREPARED_MAX {
            drop(self.take(turn));
        }
    }
}

/// Both halves hold this: the atomics, the hand-over, and every mapping of the run.
///
/// Mappings live here until both halves are gone: unmapping would interrupt every hot thread.
#[derive(Debug, Default)]
pub(crate) struct Link {
    pub(crate) shared: Arc<Shared>,
    pub(crate) prepared: Handover<Segment>,
    /// Touched by the keeper alone; a lock only because two threads hold the `Link`.
    pub(crate) mapped: Mutex<Vec<Arc<Segment>>>,
}

/// Every interleaving of the two halves, with `RUSTFLAGS="--cfg loom"`.
#[cfg(all(test, loom))]
mod loom_models {
    use super::*;
    use loom::sync::atomic::fence;
    use loom::thread;

    #[test]
    fn loom_a_committed_frame_is_whole() {
        loom::model(|| {
            let frame = Arc::new((AtomicU64::new(0), AtomicU64::new(0), AtomicU32::new(0)));
            let writer = Arc::clone(&frame);
            let writing = thread::spawn(move || {
                writer.0.store(7, Ordering::Relaxed);
                writer.1.store(8, Ordering::Relaxed);
                writer.2.store(48, Ordering::Release); // the commit word
            });
            if frame.2.load(Ordering::Relaxed) != 0 {
                fence(Ordering::Acquire); // as the reader does
                let body = (frame.0.load(Ordering::Relaxed), frame.1.load(Ordering::Relaxed));
                assert_eq!(body, (7, 8));
            }
            writing.join().unwrap();
        });
    }

    #[test]
    fn loom_segments_are_handed_over_once_and_in_order() {
        loom::model(|| {
            let handover = Arc::new(Handover::<u64>::default());
            let taker = Arc::clone(&handover);
            let values: Vec<_> = (0..3).map(Arc::new).collect();
            let taking = thread::spawn(move || {
                let mut turn = 0;
                for _ in 0..4 {
                    if let Some(value) = taker.take(turn) {
                        assert_eq!(*value, turn as u64);
                        turn += 1;
                    }
                }
            });
            let mut given = 0;
            for value in &values {
                if handover.give(given, Arc::clone(value)).is_err() {
                    break;
                }
                given += 1;
            }
            taking.join().unwrap();
            drop(handover);
            assert!(values.iter().all(|value| Arc::strong_count(value) == 1), "none leaks");
        });
    }

    #[test]
    fn loom_padding_is_answered_with_what_was_written() {
        loom::model(|| {
            let shared = Arc::new((Shared::default(), AtomicU64::new(0)));
            let writer = Arc::clone(&shared);
            shared.0.ask_pad();
            let writing = thread::spawn(move || {
                if writer.0.signals() & ASK_PAD != 0 {
                    writer.1.store(9, Ordering::Relaxed); // the frames before the mark
                    writer.0.answer_pad(MarkAt { segment: 1, offset: 4096, seq: 3, crc: 5 });
                }
            });
            if let Some(mark) = shared.0.padded() {
                assert_eq!(mark, MarkAt { segment: 1, offset: 4096, seq: 3, crc: 5 });
                assert_eq!(shared.1.load(Ordering::Relaxed), 9);
            }
            writing.join().unwrap();
        });
    }

    #[test]
    fn loom_anchors_are_never_mixed() {
        loom::model(|| {
            let shared = Arc::new(Shared::default());
            let writer = Arc::clone(&shared);
            let writing = thread::spawn(move || {
                for _ in 0..2 {
                    if writer.signals() & ASK_ANCHOR != 0 {
                        let anchor = writer.take_anchor();
                        assert_eq!((anchor.tsc, anchor.mono_ns), (anchor.tsc, anchor.tsc));
                    }
                }
            });
            for tsc in 1..=2 {
                shared.offer_anchor(Anchor { tsc, wall_ns: 0, mono_ns: tsc });
            }
            writing.join().unwrap();
        });
    }

    #[test]
    fn loom_the_end_of_a_segment_is_seen_whole() {
        loom::model(|| {
            let mark = Arc::new(EndMark::default());
            let writer = Arc::clone(&mark);
            let end = SegmentEnd { offset: 9, base_seq: 1, last_seq: 2, last_crc: 3 };
            let writing = thread::spawn(move || writer.set(end));
            assert!(mark.get().is_none_or(|seen| seen == end));
            writing.join().unwrap();
        });
    }
}
