//! One frame: 32 bytes of head, up to four words of time stamps, payload, zeros up to 32 bytes.
//!
//! Pure functions over byte slices: no mapping, no I/O, so they run under Miri. The commit word
//! (`len`, the first four bytes) is not written here: the writer stores it last.

use crate::crc::crc32c_append;
use crate::layout::word;

/// Bytes of head before extension and payload.
pub const FRAME_HEAD: usize = 32;
/// Frames start at multiples of this.
pub const FRAME_ALIGN: usize = 32;
/// The longest frame: head, extension and payload.
pub const FRAME_LEN_MAX: usize = 64 << 10;
/// Words of extension a frame can carry.
pub const EXT_WORDS_MAX: usize = 4;

/// In `kind`: a reader that does not know the type may skip it.
pub const KIND_SKIPPABLE: u16 = 0x8000;
/// In `kind`: the journal's own; consumes no `seq`.
pub const KIND_PHYSICAL: u16 = 0x4000;
/// First frame of a segment; carries the chain to the segment before.
pub const SEG_START: u16 = KIND_PHYSICAL | 1;
/// Last frame of a segment.
pub const SEG_END: u16 = KIND_PHYSICAL | 2;
/// Fills the rest of a page with zeros, so that the page can be flushed.
pub const PAD: u16 = KIND_PHYSICAL | 3;
/// Ticks, wall clock and monotonic clock of one moment ([`crate::Anchor`]).
pub const TIME_ANCHOR: u16 = KIND_PHYSICAL | 4;
/// A mark of the writer's user; the payload is his.
pub const MARK: u16 = KIND_PHYSICAL | 5;
/// First frame of a run, after `SEG_START` ([`crate::RunParent`], then a digest).
pub const RUN_START: u16 = KIND_PHYSICAL | 6;
/// The run ended as it should.
pub const RUN_END: u16 = KIND_PHYSICAL | 7;
/// Salvage found nothing between two sequence numbers: payload first lost, last lost.
pub const GAP: u16 = KIND_PHYSICAL | 8;
/// Names a snapshot file by digest. Reserved.
pub const SNAPSHOT_ANCHOR: u16 = KIND_PHYSICAL | 9;
/// A durability or disk policy became active. Reserved.
pub const POLICY: u16 = KIND_PHYSICAL | 10;

/// What the caller wants written. `seq`, checksum and length are the journal's.
#[derive(Clone, Copy, Debug)]
pub struct Frame<'a> {
    /// Ticks; any value. Never orders anything.
    pub ts: u64,
    /// Type of the payload: not zero, physical bit clear.
    pub kind: u16,
    /// Version of the payload's layout.
    pub schema: u16,
    /// The caller's lane; any value.
    pub lane: u8,
    /// Stage time stamps, at most [`EXT_WORDS_MAX`] words. Outside the fingerprint.
    pub ext: &'a [u64],
    /// The caller's bytes.
    pub payload: &'a [u8],
}

impl Frame<'_> {
    /// Head, extension and payload; `None` if the extension or the sum is over its limit.
    pub(crate) fn len(&self) -> Option<usize> {
        let len = FRAME_HEAD + self.ext.len() * 8 + self.payload.len();
        (self.ext.len() <= EXT_WORDS_MAX && len <= FRAME_LEN_MAX).then_some(len)
    }
}

/// Rounds up to the alignment of frames.
pub(crate) const fn aligned(len: usize) -> usize {
    len.next_multiple_of(FRAME_ALIGN)
}

/// The word at offset 24.
pub(crate) const fn meta(kind: u16, schema: u16, flags: u8, lane: u8, ext_words: u8) -> u64 {
    let kind = kind.to_le_bytes();
    let schema = schema.to_le_bytes();
    u64::from_le_bytes([kind[0], kind[1], schema[0], schema[1], flags, lane, ext_words, 0])
}

/// Writes a frame but for its commit word, and returns its checksum.
///
/// `into` has the aligned length of the frame and is written wholly from byte 4 on.
///
/// # Panics
/// If `into` is not [`aligned`] `(frame.len())` long. The writer computes both from the same frame.
#[expect(clippy::cast_possible_truncation, reason = "the caller checked len ≤ 64 KiB, ext ≤ 4")]
pub(crate) fn encode(into: &mut [u8], prev: u32, seq: u64, frame: &Frame<'_>) -> u32 {
    let len = FRAME_HEAD + frame.ext.len() * 8 + frame.payload.len();
    assert!(into.len() == aligned(len), "room of {} for a frame of {len}", into.len());
    let ext_words = frame.ext.len() as u8;
    let meta = meta(frame.kind, frame.schema, 0, frame.lane, ext_words);
    into[8..16].copy_from_slice(&seq.to_le_bytes());
    into[16..24].copy_from_slice(&frame.ts.to_le_bytes());
    into[24..32].copy_from_slice(&meta.to_le_bytes());
    let mut at = FRAME_HEAD;
    for stamp in frame.ext {
        into[at..at + 8].copy_from_slice(&stamp.to_le_bytes());
        at += 8;
    }
    into[at..len].copy_from_slice(frame.payload);
    into[len..].fill(0);
    let covered = if frame.kind == PAD { FRAME_HEAD } else { into.len() };
    let crc = checksum(prev, len as u32, &into[8..covered]);
    into[4..8].copy_from_slice(&crc.to_le_bytes());
    crc
}

/// As [`encode`], for fixed lengths, with a checksum that the caller has computed.
#[inline(always)]
pub(crate) fn lay<const E: usize, const P: usize>(
    into: &mut [u8],
    crc: u32,
    head: [u64; 3],
    ext: &[u64; E],
    payload: &[u8; P],
) {
    let len = FRAME_HEAD + E * 8 + P;
    assert!(into.len() == aligned(len));
    into[4..8].copy_from_slice(&crc.to_le_bytes());
    for (at, word) in head.iter().chain(ext).enumerate() {
        into[8 + at * 8..16 + at * 8].copy_from_slice(&word.to_le_bytes());
    }
    into[len - P..len].copy_from_slice(payload);
    into[len..].fill(0);
}

/// The checksum of a frame: seeded by the frame before, over the length and everything after itself.
pub(crate) fn checksum(prev: u32, len: u32, covered: &[u8]) -> u32 {
    crc32c_append(crc32c_append(prev, &len.to_le_bytes()), covered)
}

/// Why bytes are not the next frame.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Flaw {
    /// Shorter than a head, longer than the limit, or across the end of the segment.
    #[error("length {len} is not in [32, {room}]")]
    Length {
        /// The commit word.
        len: u32,
        /// What would fit.
        room: usize,
    },
    /// The chain does not hold.
    #[error("checksum {stored:08x}, computed {computed:08x}")]
    Checksum {
        /// In the frame.
        stored: u32,
        /// Of its bytes.
        computed: u32,
    },
    /// Another sequence number than the next.
    #[error("seq {found}, expected {expected}")]
    Sequence {
        /// In the frame.
        found: u64,
        /// The next.
        expected: u64,
    },
    /// A field that its writer never writes so.
    #[error("{0}")]
    Field(&'static str),
    /// A type of the journal's own that this build does not know and may not skip.
    #[error("physical frame type {0:#06x} needs a newer kairos")]
    UnknownKind(u16),
}

/// A frame that validated, borrowed from the segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Raw<'a> {
    pub(crate) seq: u64,
    pub(crate) ts: u64,
    pub(crate) kind: u16,
    pub(crate) schema: u16,
    pub(crate) flags: u8,
    pub(crate) lane: u8,
    pub(crate) ext: [u64; EXT_WORDS_MAX],
    pub(crate) ext_words: usize,
    pub(crate) payload: &'a [u8],
    pub(crate) crc: u32,
    /// Bytes to the next frame.
    pub(crate) size: usize,
}

/// Reads the frame at the start of `bytes`, seeded with `prev`; its `seq` is not judged here.
///
/// `bytes` ends where the segment ends. `None`: not committed.
pub(crate) fn parse(bytes: &[u8], prev: u32) -> Result<Option<Raw<'_>>, Flaw> {
    let Some(head) = bytes.get(..FRAME_HEAD) else {
        return Err(Flaw::Length { len: 0, room: bytes.len() });
    };
    let len = u32::from_le_bytes([head[0], head[1], head[2], head[3]]);
    if len == 0 {
        return Ok(None);
    }
    parse_committed(bytes, len, prev).map(Some)
}

/// As [`parse`], with a commit word that the caller has loaded.
pub(crate) fn parse_committed(bytes: &[u8], len: u32, prev: u32) -> Result<Raw<'_>, Flaw> {
    let room = bytes.len().min(FRAME_LEN_MAX);
    let long = len as usize;
    let size = aligned(long);
    if long < FRAME_HEAD || room < long || bytes.len() < size {
        return Err(Flaw::Length { len, room });
    }
    let bytes = &bytes[..size];
    let kind = u16::from_le_bytes([bytes[24], bytes[25]]);
    let covered = if kind == PAD { FRAME_HEAD } else { size };
    let stored = u32::from_le_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]);
    let computed = checksum(prev, len, &bytes[8..covered]);
    if stored != computed {
        return Err(Flaw::Checksum { stored, computed });
    }
    let ext_words = usize::from(bytes[30]);
    if ext_words > EXT_WORDS_MAX || FRAME_HEAD + ext_words * 8 > long {
        return Err(Flaw::Field("extension longer than the frame"));
    }
    if kind == 0 || bytes[31] != 0 {
        return Err(Flaw::Field("type 0 or a reserved byte in use"));
    }
    let blank = if kind == PAD { FRAME_HEAD } else { long };
    if bytes[blank..].iter().any(|byte| *byte != 0) {
        return Err(Flaw::Field("padding is not zero"));
    }
    Ok(decode(bytes, long))
}

/// The fields of a frame that has validated. `bytes` is the frame with its padding.
pub(crate) fn decode(bytes: &[u8], len: usize) -> Raw<'_> {
    let field = |at| word(bytes, at).unwrap_or_default(); // in range: a frame has 32 bytes
    let [k0, k1, s0, s1, flags, lane, ext_words, _] = field(24).to_le_bytes();
    let [_, _, _, _, c0, c1, c2, c3] = field(0).to_le_bytes();
    let ext_words = usize::from(ext_words).min(EXT_WORDS_MAX);
    let mut ext = [0; EXT_WORDS_MAX];
    for (at, stamp) in ext.iter_mut().take(ext_words).enumerate() {
        *stamp = field(FRAME_HEAD + at * 8);
    }
    Raw {
        seq: field(8),
        ts: field(16),
        kind: u16::from_le_bytes([k0, k1]),
        schema: u16::from_le_bytes([s0, s1]),
        flags,
        lane,
        ext,
        ext_words,
        payload: bytes.get(FRAME_HEAD + ext_words * 8..len).unwrap_or_default(),
        crc: u32::from_le_bytes([c0, c1, c2, c3]),
        size: bytes.len(),
    }
}

/// Where a reader stands in the chain: what the next frame must carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Chain {
    pub(crate) crc: u32,
    pub(crate) next_seq: u64,
}

impl Chain {
    /// Judges the next frame's `seq` and type, and steps over it.
    pub(crate) fn admit(&mut self, raw: &Raw<'_>) -> Result<(), Flaw> {
        if raw.seq != self.next_seq {
            return Err(Flaw::Sequence { found: raw.seq, expected: self.next_seq });
        }
        if raw.kind & KIND_PHYSICAL == 0 {
            self.next_seq = raw.seq.saturating_add(1);
        } else if raw.kind == GAP {
            let lost = word(raw.payload, 0).zip(word(raw.payload, 8));
            let Some((from, to)) = lost.filter(|(from, to)| *from == raw.seq && from <= to) else {
                return Err(Flaw::Field("gap without a range"));
            };
            debug_assert!(from <= to);
            self.next_seq = to.saturating_add(1);
        } else if raw.kind & KIND_SKIPPABLE == 0 && !(SEG_START..=POLICY).contains(&raw.kind) {
            return Err(Flaw::UnknownKind(raw.kind));
        }
        self.crc = raw.crc;
        Ok(())
    }
}

#[cfg(test)]
mod codec_tests {
    use proptest::prelude::*;

    use super::*;

    const CASES: u32 = if cfg!(miri) { 8 } else { 512 };

    fn frame_bytes(prev: u32, seq: u64, frame: &Frame<'_>) -> Vec<u8> {
        let len = frame.len().expect("within the limits");
        let mut bytes = vec![0xaa; aligned(len)];
        encode(&mut bytes, prev, seq, frame);
        let len = u32::try_from(len).expect("within the limits");
        bytes[..4].copy_from_slice(&len.to_le_bytes());
        bytes
    }

    proptest! {
        #![proptest_config(ProptestConfig {
            cases: CASES,
            failure_persistence: None,
            ..ProptestConfig::default()
        })]

        #[test]
        fn codec_reads_what_it_wrote_and_nothing_else(
            (prev, seq, ts) in any::<(u32, u64, u64)>(),
            (kind, schema, lane) in (1_u16..0x4000, any::<u16>(), any::<u8>()),
            ext in proptest::collection::vec(any::<u64>(), 0..=4),
            payload in proptest::collection::vec(any::<u8>(), 0..300),
            (flip, bit) in (any::<proptest::sample::Index>(), 0..8),
        ) {
            let frame = Frame { ts, kind, schema, lane, ext: &ext, payload: &payload };
            let mut bytes = frame_bytes(prev, seq, &frame);
            let raw = parse(&bytes, prev).unwrap().unwrap();
            prop_assert_eq!((raw.seq, raw.ts, raw.kind, raw.schema), (seq, ts, kind, schema));
            prop_assert_eq!((raw.lane, raw.flags, raw.size), (lane, 0, bytes.len()));
            prop_assert_eq!(&raw.ext[..raw.ext_words], &ext[..]);
            prop_assert_eq!(raw.payload, &payload[..]);
            // Another seed: a stale or foreign frame.
            prop_assert!(parse(&bytes, prev ^ 1).is_err());
            // Any flipped bit, the commit word, length and padding included.
            let at = flip.index(bytes.len());
            bytes[at] ^= 1_u8 << bit;
            let seen = parse(&bytes, prev);
            prop_assert!(!matches!(seen, Ok(Some(_))), "flip at {}: {:?}", at, seen);
        }

        #[test]
        fn codec_takes_any_bytes(
            bytes in proptest::collection::vec(any::<u8>(), 0..200),
            len in any::<u32>(),
            prev in any::<u32>(),
        ) {
            // A random checksum fits once in four thousand million times.
            prop_assert!(!matches!(parse(&bytes, prev), Ok(Some(_))));
            prop_assert!(parse_committed(&bytes, len, prev).is_err());
        }
    }

    #[test]
    fn codec_padding_must_be_zero_although_no_checksum_covers_it() {
        let frame = Frame { ts: 1, kind: PAD, schema: 1, lane: 0, ext: &[], payload: &[0; 96] };
        let mut bytes = frame_bytes(5, 6, &frame);
        assert!(matches!(parse(&bytes, 5), Ok(Some(_))));
        for at in FRAME_HEAD..bytes.len() {
            bytes[at] = 1;
            assert_eq!(parse(&bytes, 5), Err(Flaw::Field("padding is not zero")));
            bytes[at] = 0;
        }
    }

    #[test]
    fn codec_two_lengths_with_one_extent_do_not_both_validate() {
        let frame = Frame { ts: 1, kind: 9, schema: 1, lane: 0, ext: &[], payload: &[0; 40] };
        let mut bytes = frame_bytes(5, 6, &frame);
        for len in 65..=96_u32 {
            bytes[..4].copy_from_slice(&len.to_le_bytes());
            assert_eq!(parse(&bytes, 5).is_ok(), len == 72, "{len}");
        }
    }

    #[test]
    fn codec_counts_events_and_not_physical_frames() {
        let check = |kind: u16, payload: &[u8], seq: u64, expected: Result<u64, Flaw>| {
            let frame = Frame { ts: 0, kind, schema: 1, lane: 0, ext: &[], payload };
            let bytes = frame_bytes(0, seq, &frame);
            let raw = parse(&bytes, 0).unwrap().unwrap();
            let mut chain = Chain { crc: 0, next_seq: 7 };
            assert_eq!(chain.admit(&raw).map(|()| chain.next_seq), expected);
        };
        let gap = |from: u64, to: u64| [from.to_le_bytes(), to.to_le_bytes()].concat();
        check(0x101, b"x", 7, Ok(8));
        check(MARK, b"x", 7, Ok(7));
        check(0x101, b"x", 8, Err(Flaw::Sequence { found: 8, expected: 7 }));
        check(MARK, b"x", 6, Err(Flaw::Sequence { found: 6, expected: 7 }));
        check(GAP, &gap(7, 9), 7, Ok(10));
        check(GAP, &gap(8, 9), 7, Err(Flaw::Field("gap without a range")));
        check(GAP, &gap(7, 6), 7, Err(Flaw::Field("gap without a range")));
        check(KIND_PHYSICAL | 99, b"", 7, Err(Flaw::UnknownKind(KIND_PHYSICAL | 99)));
        check(KIND_PHYSICAL | KIND_SKIPPABLE | 99, b"", 7, Ok(7));
        check(0x3fff, b"", u64::MAX, Err(Flaw::Sequence { found: u64::MAX, expected: 7 }));
    }
}
