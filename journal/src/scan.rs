//! A segment seen from outside: mapped read-only, its frames validated one after the other.

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering, fence};

use memmap2::{MmapOptions, MmapRaw};

use crate::codec::{
    Chain, FRAME_ALIGN, FRAME_HEAD, FRAME_LEN_MAX, Flaw, RUN_END, Raw, SEG_END, SEG_START, aligned,
    parse, parse_committed,
};
use crate::error::Error;
use crate::layout::{FRAMES_AT, HeaderFlaw, PAGE, SegStart, SegmentHeader, StatePage, StateSlot};
use crate::pack::{Entry, PackedView, packed_path};

/// A segment's file, mapped for reading. Its length is that at the time of mapping; reads stay inside.
#[derive(Debug)]
pub(crate) struct View(Bytes);

#[derive(Debug)]
enum Bytes {
    Empty, // an empty file cannot be mapped
    Plain(MmapRaw),
    Packed(Box<PackedView>),
    /// Named as a compressed segment, and none.
    NotPacked(String),
}

impl View {
    /// Opens a segment, plain or compressed; one that was compressed a moment ago under its new name.
    pub(crate) fn open(path: &Path) -> Result<View, Error> {
        let file = match File::open(path) {
            Err(bad) if bad.kind() == io::ErrorKind::NotFound => {
                let packed = packed_path(path);
                return match File::open(&packed) {
                    Ok(file) => View::of(&file, &packed),
                    Err(_) => Err(Error::io("open", path)(bad)),
                };
            }
            opened => opened.map_err(Error::io("open", path))?,
        };
        View::of(&file, path)
    }

    fn of(file: &File, path: &Path) -> Result<View, Error> {
        let len = file.metadata().map_err(Error::io("stat", path))?.len();
        let len = usize::try_from(len)
            .map_err(|_| Error::io("map", path)(io::Error::other("larger than memory")))?;
        if len == 0 {
            return Ok(View(Bytes::Empty));
        }
        let map = MmapOptions::new().len(len).map_raw_read_only(file);
        let map = map.map_err(Error::io("map", path))?;
        let name = path.as_os_str().as_encoded_bytes();
        Ok(View(if name.ends_with(b".zst") || name.ends_with(b".zst.tmp") {
            match PackedView::open(map) {
                Ok(packed) => Bytes::Packed(Box::new(packed)),
                Err(why) => Bytes::NotPacked(why),
            }
        } else {
            Bytes::Plain(map)
        }))
    }

    pub(crate) fn len(&self) -> usize {
        match &self.0 {
            Bytes::Empty | Bytes::NotPacked(_) => 0,
            Bytes::Plain(map) => map.len(),
            Bytes::Packed(packed) => packed.len(),
        }
    }

    /// Whether the file is a compressed segment, or should be one.
    pub(crate) fn is_packed(&self) -> bool {
        matches!(self.0, Bytes::Packed(_) | Bytes::NotPacked(_))
    }

    /// What is wrong with a compressed file, beyond what its content tells.
    pub(crate) fn check_packed(&self) -> Option<String> {
        match &self.0 {
            Bytes::Empty | Bytes::Plain(_) => None,
            Bytes::Packed(packed) => packed.check(),
            Bytes::NotPacked(why) => Some(why.clone()),
        }
    }

    /// Gives back memory that can be had again from the file.
    pub(crate) fn release(&mut self) {
        if let Bytes::Packed(packed) = &mut self.0 {
            packed.release();
        }
    }

    /// The last frame known without scanning whose `seq` is not above `seq`.
    pub(crate) fn entry_before(&self, seq: u64) -> Option<Entry> {
        let Bytes::Packed(packed) = &self.0 else { return None };
        packed.entries().into_iter().rfind(|it| it.seq <= seq)
    }

    /// Bytes `[from, to)`, cut at the end of the file.
    ///
    /// The caller asks for bytes that nobody writes any more: header page, committed frames, or
    /// anything of a journal without a living writer. (A state page may change while it is read; its
    /// checksum tells.)
    pub(crate) fn range(&self, from: usize, to: usize) -> &[u8] {
        let map = match &self.0 {
            Bytes::Empty | Bytes::NotPacked(_) => return &[],
            Bytes::Packed(packed) => return packed.range(from, to),
            Bytes::Plain(map) => map,
        };
        let to = to.min(map.len());
        let from = from.min(to);
        // SAFETY: the range is inside the mapping, which lives as long as `self`, and its bytes are
        // immutable by the format, see above. A file that another process truncates meanwhile ends
        // in SIGBUS, not in a wrong value.
        unsafe { std::slice::from_raw_parts(map.as_ptr().add(from), to - from) }
    }

    /// The commit word at `at`, a multiple of 32; 0 beyond the end.
    fn commit_word(&self, at: usize) -> u32 {
        let map = match &self.0 {
            Bytes::Empty | Bytes::NotPacked(_) => return 0,
            Bytes::Packed(packed) => {
                let word = packed.range(at, at + 4).try_into();
                return word.map_or(0, u32::from_le_bytes);
            }
            Bytes::Plain(map) => map,
        };
        if !at.is_multiple_of(FRAME_ALIGN) || map.len() < at + FRAME_HEAD {
            return 0;
        }
        // SAFETY: inside the mapping and aligned; the mapping lives as long as `self`. The word is
        // only loaded, and Relaxed: such a load is a plain instruction and fine on read-only memory.
        let word = unsafe { &*map.as_ptr().add(at).cast::<AtomicU32>() };
        let len = word.load(Ordering::Relaxed);
        fence(Ordering::Acquire); // pairs with the writer's Release: the frame is visible now
        u32::from_le(len)
    }

    /// The frame at `at` in a segment that ends at `end`; `None`: not committed.
    pub(crate) fn frame(&self, at: usize, end: usize, prev: u32) -> Result<Option<Raw<'_>>, Flaw> {
        let end = end.min(self.len());
        if at + FRAME_HEAD > end {
            return Ok(None);
        }
        let len = self.commit_word(at);
        if len == 0 {
            return Ok(None);
        }
        let room = (end - at).min(FRAME_LEN_MAX);
        let size = aligned((len as usize).min(FRAME_LEN_MAX)).min(room);
        match parse_committed(self.range(at, at + size), len, prev) {
            Err(Flaw::Length { len, .. }) => Err(Flaw::Length { len, room }),
            other => other.map(Some),
        }
    }

    pub(crate) fn header(&self) -> Result<SegmentHeader, HeaderFlaw> {
        SegmentHeader::parse(self.range(0, PAGE))
    }

    pub(crate) fn state(&self) -> StatePage {
        StatePage::parse(self.range(PAGE, FRAMES_AT))
    }
}

/// What the frames of a segment add up to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Scan {
    /// The first frame's payload; `None`: the segment was never used.
    pub(crate) start: Option<SegStart>,
    /// Behind the last valid frame: its checksum, the next `seq`.
    pub(crate) chain: Chain,
    /// Offset behind the last valid frame.
    pub(crate) end: usize,
    pub(crate) frames: u64,
    /// Frames that consume a `seq`.
    pub(crate) events: u64,
    /// Why the frame at `end` does not validate; `None`: nothing is committed there.
    pub(crate) flaw: Option<Flaw>,
    /// The last frame is `SEG_END`.
    pub(crate) closed: bool,
    /// The run ended here.
    pub(crate) run_ended: bool,
}

/// Validates frame after frame, and shows each to `visit` with its offset.
pub(crate) fn scan(
    view: &View,
    header: &SegmentHeader,
    visit: &mut dyn FnMut(&Raw<'_>, usize),
) -> Scan {
    let mut scan = Scan {
        start: None,
        chain: Chain { crc: header.chain_seed(), next_seq: 0 },
        end: FRAMES_AT,
        frames: 0,
        events: 0,
        flaw: None,
        closed: false,
        run_ended: false,
    };
    let len = usize::try_from(header.segment_len).unwrap_or(usize::MAX);
    while !scan.closed {
        let raw = match view.frame(scan.end, len, scan.chain.crc) {
            Ok(Some(raw)) => raw,
            Ok(None) => break,
            Err(flaw) => {
                scan.flaw = Some(flaw);
                break;
            }
        };
        if let Err(flaw) = scan.admit(&raw) {
            scan.flaw = Some(flaw);
            break;
        }
        visit(&raw, scan.end);
        scan.end += raw.size;
    }
    scan
}

impl Scan {
    fn admit(&mut self, raw: &Raw<'_>) -> Result<(), Flaw> {
        if self.start.is_none() {
            self.start = Some(first_frame(raw)?);
            self.chain.next_seq = raw.seq;
        } else if raw.kind == SEG_START {
            return Err(Flaw::Field("SEG_START inside a segment"));
        }
        let before = self.chain.next_seq;
        self.chain.admit(raw)?;
        self.frames += 1;
        self.events += u64::from(raw.kind & crate::codec::KIND_PHYSICAL == 0);
        debug_assert!(before <= self.chain.next_seq);
        self.run_ended |= raw.kind == RUN_END;
        self.closed = raw.kind == SEG_END;
        Ok(())
    }

    /// The last `seq` up to here.
    pub(crate) fn last_seq(&self) -> u64 {
        self.chain.next_seq.saturating_sub(1)
    }
}

/// What [`scan`] would find, by the seal and the first frame alone; `None` if that one is broken.
pub(crate) fn trust(view: &View, header: &SegmentHeader, slot: &StateSlot) -> Option<Scan> {
    let len = usize::try_from(header.segment_len).ok()?;
    let first = view.frame(FRAMES_AT, len, header.chain_seed()).ok()??;
    Some(Scan {
        start: Some(first_frame(&first).ok()?),
        chain: Chain { crc: slot.last_crc, next_seq: slot.last_seq.checked_add(1)? },
        end: usize::try_from(slot.end_offset).ok()?,
        frames: 0,
        events: 0,
        flaw: None,
        closed: true,
        run_ended: false,
    })
}

/// Judges the first frame of a segment.
pub(crate) fn first_frame(raw: &Raw<'_>) -> Result<SegStart, Flaw> {
    let start = SegStart::parse(raw.payload).filter(|it| {
        raw.kind == SEG_START
            && it.base_seq == raw.seq
            && it.prev_last_seq.checked_add(1) == Some(raw.seq)
    });
    start.ok_or(Flaw::Field("first frame is not the SEG_START of its seq"))
}

/// What follows the last valid frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tail {
    /// Zeros.
    Zero,
    /// A frame that was being written: not committed, nothing beyond the longest frame.
    InFlight,
    /// Anything else.
    Dirty,
}

/// Classifies the bytes from `end` on; also says where the last non-zero byte ends.
pub(crate) fn tail(view: &View, end: usize) -> (Tail, usize) {
    let bytes = view.range(end, view.len());
    let Some(last) = bytes.iter().rposition(|byte| *byte != 0) else {
        return (Tail::Zero, end);
    };
    let committed = bytes.iter().take(4).any(|byte| *byte != 0);
    let class = if committed || last >= FRAME_LEN_MAX { Tail::Dirty } else { Tail::InFlight };
    (class, end + last + 1)
}

/// Counts pairs of neighbouring frames from `from` on of which the second validates under the
/// checksum that the first one stores: frames that survived behind a hole.
pub(crate) fn later_frames(view: &View, from: usize) -> (u64, Option<u64>) {
    let bytes = view.range(0, view.len());
    let mut at = from.next_multiple_of(FRAME_ALIGN);
    let mut pairs = 0;
    let mut last_seq = None;
    while at + FRAME_HEAD <= bytes.len() {
        match pair_at(bytes, at) {
            Some((size, seq)) => {
                pairs += 1;
                last_seq = Some(seq);
                at += size;
            }
            None => at += FRAME_ALIGN,
        }
    }
    (pairs, last_seq)
}

/// Whether the frame after the one at `at` validates under its checksum: the first one's size, and
/// the second one's `seq`.
pub(crate) fn pair_at(bytes: &[u8], at: usize) -> Option<(usize, u64)> {
    let head = bytes.get(at..at + FRAME_HEAD)?;
    let len = u32::from_le_bytes([head[0], head[1], head[2], head[3]]) as usize;
    if !(FRAME_HEAD..=FRAME_LEN_MAX).contains(&len) {
        return None;
    }
    let stored = u32::from_le_bytes([head[4], head[5], head[6], head[7]]);
    let second = bytes.get(at + aligned(len)..)?;
    let second = parse(second, stored).ok()??;
    Some((aligned(len), second.seq))
}
