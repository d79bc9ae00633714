//! The hot half: appends frames to mapped, prepared segments.
//!
//! No system call, lock, allocation or formatting on the way of a frame; the clock is read only
//! while an append spins because no segment is ready. A frame becomes visible when its commit word
//! (`len`) is stored with Release, after everything else of it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::codec::{
    EXT_WORDS_MAX, FRAME_HEAD, FRAME_LEN_MAX, Frame, GAP, KIND_PHYSICAL, MARK, PAD, RUN_END,
    RUN_START, SEG_END, SEG_START, TIME_ANCHOR, aligned, encode, lay, meta,
};
use crate::layout::{Anchor, FRAMES_AT, PAGE, SegStart};
use crate::options::{NotReady, Options};
use crate::segment::Segment;
use crate::shared::{ASK_ANCHOR, ASK_PAD, Link, MarkAt, SegmentEnd, Shared};

/// Why a frame was not appended. Nothing was written, and nothing is lost: append it again or halt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// No segment is ready. Unjournaled operation does not exist: halt, or wait if waiting is fine.
    #[error("journal: no segment is ready")]
    NotReady,
    /// The frame is longer than `frame_max`, or has too many words of extension.
    #[error("journal: frame of {len} bytes with {ext_words} stamps; limits {max} and 4")]
    TooLong {
        /// Head, extension and payload in bytes.
        len: usize,
        /// Words of extension.
        ext_words: usize,
        /// `frame_max`.
        max: usize,
    },
    /// Type 0, or the physical bit is set: those are the journal's own.
    #[error("journal: frame type {0:#06x} is not the caller's")]
    Kind(u16),
    /// A flush or a write has failed: no frame can be promised any more.
    #[error("journal: the keeper has failed")]
    Failed,
}

/// The writing half of a live journal. One thread owns it.
///
/// Dropping it without [`Writer::end_run`] leaves the run as a crash would.
#[derive(Debug)]
pub struct Writer {
    link: Arc<Link>,
    shared: Arc<Shared>,
    segment: Arc<Segment>,
    base: *mut u8,      // of `segment`
    cursor: usize,      // in [FRAMES_AT, hard], multiple of 32
    soft: usize,        // ≤ hard: up to here without asking for the next segment
    hard: usize,        // len - 32: SEG_END always fits
    crc: u32,           // of the frame before the cursor
    next_seq: u64,      // > 0
    base_seq: u64,      // of the segment
    turn: usize,        // of the hand-over
    instructions: bool, // the checksum in hardware
    frame_max: usize,
    reserve: usize,
    spin: Duration,
    not_ready: NotReady,
    in_reserve: bool, // the halt sequence may use what is kept for it
    last_ts: u64,
    anchor: Anchor, // the newest known
}

// SAFETY: `base` points into the mapping of `segment`, which the writer keeps alive; nothing about
// it belongs to a thread. The writer is not `Sync`: only its owner writes.
unsafe impl Send for Writer {}

/// What a run continues: the frame before its first one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Parent {
    pub(crate) segment: u64,
    pub(crate) last_seq: u64,
    pub(crate) last_crc: u32,
}

impl Writer {
    /// Starts a run in the first prepared segment of `link`, which must be there.
    pub(crate) fn start(
        link: Arc<Link>,
        options: &Options,
        parent: Parent,
        anchor: Anchor,
    ) -> Result<Writer, AppendError> {
        let segment = link.prepared.take(0).ok_or(AppendError::NotReady)?;
        let shared = Arc::clone(&link.shared);
        shared.count_taken();
        let mut writer = Writer {
            base: segment.base(),
            cursor: 0,
            soft: 0,
            hard: 0,
            crc: parent.last_crc,
            next_seq: parent.last_seq + 1,
            base_seq: 0,
            turn: 1,
            instructions: crate::crc::has_instructions(),
            frame_max: options.frame_max as usize,
            reserve: usize::try_from(options.halt_reserve()).unwrap_or(usize::MAX),
            spin: Duration::from_micros(u64::from(options.not_ready_spin_us)),
            not_ready: options.not_ready,
            in_reserve: false,
            last_ts: anchor.tsc,
            anchor,
            segment: Arc::clone(&segment),
            shared,
            link,
        };
        writer.shared.publish_committed(parent.last_seq);
        writer.enter(segment, parent.segment);
        Ok(writer)
    }

    /// Appends one frame and returns its `seq`.
    ///
    /// # Errors
    /// [`AppendError`]; nothing was written then.
    #[inline]
    pub fn append(&mut self, frame: &Frame<'_>) -> Result<u64, AppendError> {
        let size = self.check(frame)?;
        if frame.kind == 0 || frame.kind & KIND_PHYSICAL != 0 {
            return Err(AppendError::Kind(frame.kind));
        }
        self.admit(size)?;
        let seq = self.next_seq;
        self.put(frame, size);
        self.next_seq = seq + 1;
        self.shared.publish_committed(seq);
        Ok(seq)
    }

    /// As [`Self::append`], with lengths known at compile time: the quick way for events.
    ///
    /// # Errors
    /// As [`Self::append`].
    #[inline]
    pub fn append_fixed<const E: usize, const P: usize>(
        &mut self,
        (ts, kind, schema, lane): (u64, u16, u16, u8),
        ext: &[u64; E],
        payload: &[u8; P],
    ) -> Result<u64, AppendError> {
        const { assert!(E <= EXT_WORDS_MAX && FRAME_HEAD + E * 8 + P <= FRAME_LEN_MAX) };
        #[cfg(target_arch = "x86_64")]
        if const { P.is_multiple_of(8) && P > 0 } && self.instructions {
            if self.frame_max < FRAME_HEAD + E * 8 + P || kind == 0 || kind & KIND_PHYSICAL != 0 {
                return self.append(&Frame { ts, kind, schema, lane, ext, payload }); // it refuses
            }
            self.admit(const { aligned(FRAME_HEAD + E * 8 + P) })?;
            // Packed here, in registers: the callee would read as one word what was stored as three
            // short ones, and wait for them.
            #[expect(clippy::cast_possible_truncation, reason = "ext ≤ 4, asserted")]
            let meta = meta(kind, schema, 0, lane, E as u8);
            // SAFETY: the processor has the instructions, asked at the start.
            return Ok(unsafe { self.put_fixed(ts, meta, ext, payload) });
        }
        self.append(&Frame { ts, kind, schema, lane, ext, payload })
    }

    /// Writes an event at the cursor; there is room.
    #[cfg(target_arch = "x86_64")]
    #[inline]
    #[target_feature(enable = "sse4.2,pclmulqdq")]
    #[expect(clippy::cast_possible_truncation, reason = "len ≤ 64 KiB, asserted")]
    fn put_fixed<const E: usize, const P: usize>(
        &mut self,
        ts: u64,
        meta: u64,
        ext: &[u64; E],
        payload: &[u8; P],
    ) -> u64 {
        let len = const { FRAME_HEAD + E * 8 + P };
        let seq = self.next_seq;
        let head = [seq, ts, meta];
        let crc = crate::crc::fixed(self.crc, len as u32, head, ext, payload);
        lay(self.room(aligned(len)), crc, head, ext, payload);
        self.last_ts = ts;
        self.commit(len, aligned(len), crc);
        self.next_seq = seq + 1;
        self.shared.publish_committed(seq);
        seq
    }

    /// Appends a mark: a physical frame, outside `seq` and fingerprint.
    ///
    /// # Errors
    /// As [`Self::append`].
    pub fn mark(&mut self, ts: u64, payload: &[u8]) -> Result<(), AppendError> {
        self.physical(&Frame { ts, kind: MARK, schema: 1, lane: 0, ext: &[], payload })
    }

    /// Appends a time anchor now. The keeper asks for one each second; this one is for the caller
    /// who knows better clocks.
    ///
    /// # Errors
    /// As [`Self::append`].
    pub fn anchor(&mut self, anchor: Anchor) -> Result<(), AppendError> {
        self.anchor = anchor;
        self.physical(&anchor_frame(&anchor.to_bytes(), anchor.tsc))
    }

    /// Appends the start of a run, after `SEG_START`.
    pub(crate) fn run_start(&mut self, payload: &[u8]) -> Result<(), AppendError> {
        let ts = self.last_ts;
        self.physical(&Frame { ts, kind: RUN_START, schema: 1, lane: 0, ext: &[], payload })
    }

    /// Records that events `from..=to` are nowhere, and goes on behind them. For salvage.
    pub(crate) fn gap(&mut self, from: u64, to: u64) -> Result<(), AppendError> {
        debug_assert!(from == self.next_seq && from <= to);
        let mut payload = [0; 16];
        payload[..8].copy_from_slice(&from.to_le_bytes());
        payload[8..].copy_from_slice(&to.to_le_bytes());
        let (ts, payload) = (self.last_ts, &payload[..]);
        self.physical(&Frame { ts, kind: GAP, schema: 1, lane: 0, ext: &[], payload })?;
        self.next_seq = to + 1;
        Ok(())
    }

    /// Ends the run: `RUN_END` with the caller's `payload`, then the end of the segment. After this
    /// [`crate::Keeper::finish`] seals.
    ///
    /// # Errors
    /// As [`Self::append`], with the writer to try again.
    #[expect(clippy::result_large_err, reason = "the error gives the writer back; cold")]
    pub fn end_run(mut self, ts: u64, payload: &[u8]) -> Result<(), (Writer, AppendError)> {
        self.in_reserve = true;
        let end = Frame { ts, kind: RUN_END, schema: 1, lane: 0, ext: &[], payload };
        if let Err(why) = self.physical(&end) {
            return Err((self, why));
        }
        self.leave();
        self.shared.set_ended();
        Ok(())
    }

    /// The `seq` of the next event.
    pub fn next_seq(&self) -> u64 {
        self.next_seq
    }

    /// Whether the longest frame can be appended now without waiting for a segment. Cheap.
    #[inline]
    pub fn ready(&self) -> bool {
        // `soft` leaves the reserve out; a prepared segment makes both irrelevant.
        self.cursor + aligned(self.frame_max) + 2 * PAGE <= self.soft
            || self.link.prepared.is_there(self.turn)
    }

    /// Bytes that can be appended now without waiting for a segment: the rest of this one, or a
    /// whole segment where the next one is there. Cheap.
    #[inline]
    pub fn free(&self) -> usize {
        if self.link.prepared.is_there(self.turn) {
            // What `enter` leaves of it: its first pages and frame, its end, its own reserve.
            let start = FRAMES_AT + aligned(FRAME_HEAD + SegStart::LEN);
            return self.segment.len().saturating_sub(start + FRAME_HEAD + self.kept());
        }
        self.soft.saturating_sub(self.cursor)
    }

    /// What is kept for the halt sequence now: nothing once it has begun.
    #[inline]
    fn kept(&self) -> usize {
        if self.in_reserve { 0 } else { self.reserve }
    }

    /// Answers what the keeper asked for. A seat without input calls this, so that what is committed
    /// becomes durable although nothing follows. [`Self::append`] does it by itself.
    #[inline]
    pub fn tend(&mut self) {
        if self.shared.signals() != 0 {
            self.serve();
        }
    }

    /// Allows the halt sequence (cancels, their reports) to use the bytes kept for it. From here on
    /// [`Self::ready`] and [`Self::free`] count them.
    pub fn use_halt_reserve(&mut self) {
        self.in_reserve = true;
        self.soft = self.hard;
    }

    /// The counters and marks of this journal.
    pub fn shared(&self) -> Arc<Shared> {
        Arc::clone(&self.shared)
    }

    #[inline]
    fn check(&self, frame: &Frame<'_>) -> Result<usize, AppendError> {
        match frame.len() {
            Some(len) if len <= self.frame_max => Ok(aligned(len)),
            _ => Err(AppendError::TooLong {
                len: FRAME_HEAD + frame.ext.len() * 8 + frame.payload.len(),
                ext_words: frame.ext.len(),
                max: self.frame_max,
            }),
        }
    }

    /// Makes sure that `size` bytes fit at the cursor.
    #[inline(always)]
    fn admit(&mut self, size: usize) -> Result<(), AppendError> {
        if self.cursor + size <= self.soft && self.shared.signals() == 0 {
            return Ok(());
        }
        self.admit_slowly(size)
    }

    #[cold]
    #[inline(never)]
    fn admit_slowly(&mut self, size: usize) -> Result<(), AppendError> {
        self.serve();
        if self.has_room(size) {
            return Ok(());
        }
        self.shared.count_not_ready();
        let start = Instant::now();
        loop {
            std::hint::spin_loop();
            if self.has_room(size) {
                return Ok(());
            }
            if self.shared.has_failed() {
                return Err(AppendError::Failed);
            }
            if self.not_ready == NotReady::Halt && start.elapsed() >= self.spin {
                return Err(AppendError::NotReady);
            }
        }
    }

    /// Whether `size` bytes fit, after rolling if that helps.
    fn has_room(&mut self, size: usize) -> bool {
        if self.cursor + size <= self.soft {
            return true;
        }
        let next_is_there = self.link.prepared.is_there(self.turn);
        if next_is_there || self.in_reserve {
            self.soft = self.hard; // the next one's reserve is kept instead
        }
        if self.cursor + size <= self.soft {
            return true;
        }
        next_is_there && self.roll() && self.cursor + size <= self.hard
    }

    /// Answers the keeper's requests.
    #[cold]
    #[inline(never)]
    fn serve(&mut self) {
        let asked = self.shared.signals();
        if asked & ASK_ANCHOR != 0 {
            self.anchor = self.shared.take_anchor();
            let payload = self.anchor.to_bytes();
            let frame = anchor_frame(&payload, self.anchor.tsc);
            let size = aligned(FRAME_HEAD + payload.len());
            // Without room the anchor waits for the next SEG_START, which carries it too.
            if self.cursor + size <= self.soft {
                self.put(&frame, size);
            }
        }
        if asked & ASK_PAD != 0 {
            self.pad();
            // Off a boundary there was no room to pad: no progress, the keeper asks again.
            let is_padded = self.cursor.is_multiple_of(PAGE);
            self.shared.answer_pad(MarkAt {
                segment: self.segment.number,
                offset: if is_padded { self.cursor as u64 } else { 0 },
                seq: self.next_seq - 1,
                crc: self.crc,
            });
        }
    }

    /// Brings the cursor to the next page boundary, or into the next segment.
    fn pad(&mut self) {
        let boundary = self.cursor.next_multiple_of(PAGE);
        if boundary == self.cursor {
            return;
        }
        if boundary <= self.hard {
            const ZEROS: [u8; PAGE] = [0; PAGE];
            let size = boundary - self.cursor; // in [32, 4064], multiple of 32
            let (ts, payload) = (self.last_ts, &ZEROS[..size - FRAME_HEAD]);
            self.put(&Frame { ts, kind: PAD, schema: 1, lane: 0, ext: &[], payload }, size);
        } else {
            self.roll(); // the last page ends with the segment; without a next one it has to wait
        }
    }

    /// Closes this segment and goes on in the next. `false` if there is none.
    #[cold]
    #[inline(never)]
    fn roll(&mut self) -> bool {
        let Some(next) = self.link.prepared.take(self.turn) else {
            return false;
        };
        self.turn += 1;
        self.shared.count_taken();
        self.leave();
        let left = self.segment.number;
        self.enter(next, left);
        self.shared.count_roll();
        true
    }

    /// Writes `SEG_END` and tells the keeper.
    fn leave(&mut self) {
        let ts = self.last_ts;
        let end = Frame { ts, kind: SEG_END, schema: 1, lane: 0, ext: &[], payload: &[] };
        self.put(&end, FRAME_HEAD); // fits: `hard` leaves room for it
        self.segment.end.set(SegmentEnd {
            offset: self.cursor as u64,
            base_seq: self.base_seq,
            last_seq: self.next_seq - 1,
            last_crc: self.crc,
        });
    }

    /// Makes `segment` the current one and writes its `SEG_START`.
    fn enter(&mut self, segment: Arc<Segment>, prev_segment: u64) {
        let start = SegStart {
            base_seq: self.next_seq,
            prev_segment,
            prev_last_seq: self.next_seq - 1,
            prev_crc: self.crc,
            anchor: self.anchor,
        };
        self.base = segment.base();
        self.hard = segment.len() - FRAME_HEAD;
        self.soft = self.hard - self.kept();
        self.cursor = FRAMES_AT;
        self.crc = segment.chain_seed;
        self.base_seq = self.next_seq;
        self.segment = segment;
        let (ts, payload) = (self.last_ts, &start.to_bytes()[..]);
        let frame = Frame { ts, kind: SEG_START, schema: 1, lane: 0, ext: &[], payload };
        self.put(&frame, aligned(FRAME_HEAD + SegStart::LEN));
    }

    fn physical(&mut self, frame: &Frame<'_>) -> Result<(), AppendError> {
        let size = self.check(frame)?;
        self.admit(size)?;
        self.put(frame, size);
        Ok(())
    }

    /// Writes a frame at the cursor. There is room: `admit` or an equal check came before.
    #[inline]
    fn put(&mut self, frame: &Frame<'_>, size: usize) {
        let (prev, seq) = (self.crc, self.next_seq);
        let crc = encode(self.room(size), prev, seq, frame);
        let len = FRAME_HEAD + frame.ext.len() * 8 + frame.payload.len();
        self.last_ts = frame.ts;
        self.commit(len, size, crc);
    }

    /// The bytes of the next frame.
    #[inline(always)]
    fn room(&mut self, size: usize) -> &mut [u8] {
        debug_assert!(self.cursor + size <= self.segment.len());
        // SAFETY: `[cursor, cursor + size)` is inside the mapping (checked by `admit`, and `hard`
        // leaves 32 bytes for SEG_END), the mapping lives as long as `self.segment`, and nobody else
        // looks at bytes beyond the cursor: the commit word there is still zero.
        unsafe { std::slice::from_raw_parts_mut(self.base.add(self.cursor), size) }
    }

    /// Makes the frame at the cursor visible and steps over it.
    #[inline(always)]
    #[expect(clippy::cast_possible_truncation, reason = "len ≤ 64 KiB")]
    fn commit(&mut self, len: usize, size: usize, crc: u32) {
        // SAFETY: the cursor is inside the mapping and a multiple of 32, so the word is aligned and
        // valid; other processes read it atomically, nobody else writes it.
        let word = unsafe {
            std::sync::atomic::AtomicU32::from_ptr(self.base.add(self.cursor).cast::<u32>())
        };
        word.store((len as u32).to_le(), std::sync::atomic::Ordering::Release);
        self.crc = crc;
        self.cursor += size;
        self.prefetch();
        self.shared.publish_position(self.segment.number, self.cursor);
    }
}

impl Writer {
    /// Asks for the lines behind the next frame's first two, to be written soon. Nobody has touched
    /// them since the segment was prepared: stores to them would fill the store buffer, and whatever
    /// is stored behind them waits.
    #[inline(always)]
    fn prefetch(&self) {
        #[cfg(all(target_arch = "x86_64", not(miri)))]
        {
            use core::arch::x86_64::{_MM_HINT_ET0, _mm_prefetch};
            let next = self.base.wrapping_add(self.cursor).cast::<i8>();
            // SAFETY: every x86-64 processor has the instruction; it accesses nothing and faults at no
            // address.
            unsafe {
                _mm_prefetch::<_MM_HINT_ET0>(next.wrapping_add(128));
                _mm_prefetch::<_MM_HINT_ET0>(next.wrapping_add(192));
                _mm_prefetch::<_MM_HINT_ET0>(next.wrapping_add(256));
            }
        }
    }
}

fn anchor_frame(payload: &[u8], ts: u64) -> Frame<'_> {
    Frame { ts, kind: TIME_ANCHOR, schema: 1, lane: 0, ext: &[], payload }
}
