//! The fixed pages: segment header, state page, watermark slots; and the payloads of physical frames.
//!
//! Everything is little-endian, whatever the host, and every structure ends in a CRC32C over the
//! bytes before it.

use zerocopy::little_endian::{I64, U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::crc::{crc32c, crc32c_append};

/// First bytes of every segment. The `\r\n` and the high bit notice a text-mode transfer.
pub(crate) const MAGIC: [u8; 8] = *b"kairos\x8a\n";
/// A reader refuses another major version.
pub(crate) const MAJOR: u16 = 1;
/// Additive changes only.
pub(crate) const MINOR: u16 = 1;
/// Written as a little-endian integer: reads differently on a host that disagrees.
pub(crate) const BYTE_ORDER: u32 = 0x0a0b_0c0d;
/// One page: header, and granularity of everything that is flushed.
pub(crate) const PAGE: usize = 4096;
/// Where the frames of a segment begin: after the header page and the state page.
pub(crate) const FRAMES_AT: usize = 2 * PAGE;
/// A state or watermark slot. One disk sector, so that it is written whole or not at all.
pub(crate) const SLOT: usize = 512;

/// Page 0 of a segment, immutable: what is known when the segment is prepared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub(crate) struct RawHeader {
    pub(crate) magic: [u8; 8],
    pub(crate) major: U16,
    pub(crate) minor: U16,
    pub(crate) header_len: U32,
    pub(crate) byte_order: U32,
    pub(crate) align: U32,
    pub(crate) flags: U32,
    pub(crate) chain_seed: U32,
    pub(crate) uuid: [u8; 16],
    pub(crate) run: U64,
    pub(crate) segment: U64,
    pub(crate) segment_len: U64,
    pub(crate) boot_id: [u8; 16],
    pub(crate) wall_ns: I64,
    pub(crate) tsc: U64,
    pub(crate) mono_ns: U64,
    pub(crate) tsc_hz: U64,
    pub(crate) registry_hash: [u8; 32],
    pub(crate) binary_hash: [u8; 32],
    pub(crate) lock_hash: [u8; 32],
    pub(crate) config_hash: [u8; 32],
    pub(crate) seed: U64,
    pub(crate) zero: [[u8; 32]; 119],
    pub(crate) zero_more: [u8; 28],
    pub(crate) crc: U32,
}
const _: () = assert!(size_of::<RawHeader>() == PAGE && align_of::<RawHeader>() == 1);
const _: () = assert!(core::mem::offset_of!(RawHeader, header_len) == 12);
const _: () = assert!(core::mem::offset_of!(RawHeader, chain_seed) == 28);
const _: () = assert!(core::mem::offset_of!(RawHeader, uuid) == 32);
const _: () = assert!(core::mem::offset_of!(RawHeader, segment_len) == 64);
const _: () = assert!(core::mem::offset_of!(RawHeader, boot_id) == 72);
const _: () = assert!(core::mem::offset_of!(RawHeader, wall_ns) == 88);
const _: () = assert!(core::mem::offset_of!(RawHeader, registry_hash) == 120);
const _: () = assert!(core::mem::offset_of!(RawHeader, binary_hash) == 152);
const _: () = assert!(core::mem::offset_of!(RawHeader, config_hash) == 216);
const _: () = assert!(core::mem::offset_of!(RawHeader, zero) == 256);
const _: () = assert!(core::mem::offset_of!(RawHeader, crc) == 4092);

/// What page 0 of a segment says about the run that wrote it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentHeader {
    /// Major and minor version of the format.
    pub version: (u16, u16),
    /// Name of the journal.
    pub uuid: [u8; 16],
    /// Run that prepared the segment, from 1.
    pub run: u64,
    /// Number of the segment, from 1, growing over all runs.
    pub segment: u64,
    /// Length of the file in bytes.
    pub segment_len: u64,
    /// The host's boot when the segment was prepared.
    pub boot_id: [u8; 16],
    /// The clocks when the segment was prepared.
    pub created: Anchor,
    /// Ticks of [`crate::FrameView::ts`] per second.
    pub tsc_hz: u64,
    /// Digest of the payload types' registry.
    pub registry_hash: [u8; 32],
    /// Digest of the binary.
    pub binary_hash: [u8; 32],
    /// Digest of its dependency lock file.
    pub lock_hash: [u8; 32],
    /// Digest of the configuration.
    pub config_hash: [u8; 32],
    /// Seed of the run's random numbers.
    pub seed: u64,
}

/// Seed of the first frame of a segment: bytes of another segment never validate here.
pub(crate) fn chain_seed(uuid: &[u8; 16], run: u64, segment: u64) -> u32 {
    let crc = crc32c(uuid);
    let crc = crc32c_append(crc, &run.to_le_bytes());
    crc32c_append(crc, &segment.to_le_bytes())
}

/// Why page 0 is not a header that this build reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum HeaderFlaw {
    Short(usize),
    Magic([u8; 8]),
    Major(u16),
    Crc { stored: u32, computed: u32 },
    Field(&'static str),
}

impl SegmentHeader {
    /// The seed of this segment's first frame.
    pub(crate) fn chain_seed(&self) -> u32 {
        chain_seed(&self.uuid, self.run, self.segment)
    }

    /// The page as it is written.
    pub(crate) fn to_page(&self) -> Box<[u8; PAGE]> {
        let mut raw = RawHeader {
            magic: MAGIC,
            major: self.version.0.into(),
            minor: self.version.1.into(),
            header_len: 4096.into(),
            byte_order: BYTE_ORDER.into(),
            align: 32.into(),
            flags: 0.into(),
            chain_seed: self.chain_seed().into(),
            uuid: self.uuid,
            run: self.run.into(),
            segment: self.segment.into(),
            segment_len: self.segment_len.into(),
            boot_id: self.boot_id,
            wall_ns: self.created.wall_ns.into(),
            tsc: self.created.tsc.into(),
            mono_ns: self.created.mono_ns.into(),
            tsc_hz: self.tsc_hz.into(),
            registry_hash: self.registry_hash,
            binary_hash: self.binary_hash,
            lock_hash: self.lock_hash,
            config_hash: self.config_hash,
            seed: self.seed.into(),
            zero: [[0; 32]; 119],
            zero_more: [0; 28],
            crc: 0.into(),
        };
        raw.crc = crc32c(&raw.as_bytes()[..PAGE - 4]).into();
        let mut page = Box::new([0; PAGE]);
        page.copy_from_slice(raw.as_bytes());
        page
    }

    /// Reads page 0. Magic first, then version, then checksum, then the fields.
    pub(crate) fn parse(bytes: &[u8]) -> Result<SegmentHeader, HeaderFlaw> {
        let Ok((raw, _)) = RawHeader::ref_from_prefix(bytes) else {
            return Err(HeaderFlaw::Short(bytes.len()));
        };
        if raw.magic != MAGIC {
            return Err(HeaderFlaw::Magic(raw.magic));
        }
        if raw.major.get() != MAJOR {
            return Err(HeaderFlaw::Major(raw.major.get()));
        }
        let computed = crc32c(&raw.as_bytes()[..PAGE - 4]);
        if raw.crc.get() != computed {
            return Err(HeaderFlaw::Crc { stored: raw.crc.get(), computed });
        }
        let header = SegmentHeader {
            version: (raw.major.get(), raw.minor.get()),
            uuid: raw.uuid,
            run: raw.run.get(),
            segment: raw.segment.get(),
            segment_len: raw.segment_len.get(),
            boot_id: raw.boot_id,
            created: Anchor {
                tsc: raw.tsc.get(),
                wall_ns: raw.wall_ns.get(),
                mono_ns: raw.mono_ns.get(),
            },
            tsc_hz: raw.tsc_hz.get(),
            registry_hash: raw.registry_hash,
            binary_hash: raw.binary_hash,
            lock_hash: raw.lock_hash,
            config_hash: raw.config_hash,
            seed: raw.seed.get(),
        };
        let rules = [
            (raw.header_len.get() == 4096, "header_len is not 4096"),
            (raw.byte_order.get() == BYTE_ORDER, "byte-order mark"),
            (raw.align.get() == 32, "align is not 32"),
            (raw.chain_seed.get() == header.chain_seed(), "chain_seed"),
            (header.segment_len.is_power_of_two(), "segment_len is no power of two"),
            (header.segment_len >= SEGMENT_LEN_MIN, "segment_len below 64 KiB"),
        ];
        match rules.into_iter().find(|(holds, _)| !holds) {
            Some((_, rule)) => Err(HeaderFlaw::Field(rule)),
            None => Ok(header),
        }
    }
}

/// The smallest segment that the format allows; production uses 2 MiB and more.
pub(crate) const SEGMENT_LEN_MIN: u64 = 64 << 10;

/// What the state page says of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SegmentState {
    /// In use, or left by a crash.
    Open,
    /// Closed by its writer: nothing will change.
    Sealed,
    /// Closed by recovery.
    CrashSealed,
    /// Set aside by recovery: after a cut, not part of the history.
    Quarantined,
}

/// Why a segment was sealed where it was: the `reason` of its state slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SealReason {
    /// By its writer: rolled or ended.
    Written,
    /// By recovery: the last frame ends the run or the segment, only its seal was missing.
    Complete,
    /// By recovery, same boot: nothing but zeros after the last frame.
    CrashedZero,
    /// By recovery, same boot: an uncommitted frame after the last one.
    CrashedInFlight,
    /// By recovery, another boot, zeros after the last frame.
    Cut,
    /// By recovery, another boot or by force: other bytes follow, a copy is kept.
    Torn,
}

impl SealReason {
    const ALL: [SealReason; 6] = [
        SealReason::Written,
        SealReason::Complete,
        SealReason::CrashedZero,
        SealReason::CrashedInFlight,
        SealReason::Cut,
        SealReason::Torn,
    ];

    fn code(self) -> u32 {
        match self {
            SealReason::Written => 1,
            SealReason::Complete => 2,
            SealReason::CrashedZero => 3,
            SealReason::CrashedInFlight => 4,
            SealReason::Cut => 5,
            SealReason::Torn => 6,
        }
    }
}

/// One state slot, decoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StateSlot {
    pub(crate) generation: u64, // from 1
    pub(crate) state: SegmentState,
    pub(crate) reason: SealReason,
    pub(crate) end_offset: u64,
    pub(crate) base_seq: u64,
    pub(crate) last_seq: u64,
    pub(crate) last_crc: u32,
    pub(crate) sealed_at: i64,
    pub(crate) blake3: [u8; 32],
}

#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
struct RawState {
    generation: U64,
    state: U32,
    reason: U32,
    end_offset: U64,
    base_seq: U64,
    last_seq: U64,
    last_crc: U32,
    zero: U32,
    sealed_at: I64,
    blake3: [u8; 32],
    zero_tail: [[u8; 20]; 21],
    crc: U32,
}
const _: () = assert!(size_of::<RawState>() == SLOT && align_of::<RawState>() == 1);

impl StateSlot {
    /// Where in the file the slot of this generation stands.
    pub(crate) fn offset(&self) -> u64 {
        PAGE as u64 + (self.generation + 1) % 2 * SLOT as u64
    }

    pub(crate) fn to_bytes(&self) -> [u8; SLOT] {
        let state = match self.state {
            SegmentState::Open => 0,
            SegmentState::Sealed => 1,
            SegmentState::CrashSealed => 2,
            SegmentState::Quarantined => 3,
        };
        let mut raw = RawState {
            generation: self.generation.into(),
            state: state.into(),
            reason: self.reason.code().into(),
            end_offset: self.end_offset.into(),
            base_seq: self.base_seq.into(),
            last_seq: self.last_seq.into(),
            last_crc: self.last_crc.into(),
            zero: 0.into(),
            sealed_at: self.sealed_at.into(),
            blake3: self.blake3,
            zero_tail: [[0; 20]; 21],
            crc: 0.into(),
        };
        raw.crc = crc32c(&raw.as_bytes()[..SLOT - 4]).into();
        let mut slot = [0; SLOT];
        slot.copy_from_slice(raw.as_bytes());
        slot
    }

    fn parse(bytes: &[u8]) -> Option<StateSlot> {
        let (raw, _) = RawState::ref_from_prefix(bytes).ok()?;
        if raw.crc.get() != crc32c(&raw.as_bytes()[..SLOT - 4]) || raw.generation.get() == 0 {
            return None;
        }
        let state = match raw.state.get() {
            1 => SegmentState::Sealed,
            2 => SegmentState::CrashSealed,
            3 => SegmentState::Quarantined,
            _ => return None,
        };
        Some(StateSlot {
            generation: raw.generation.get(),
            state,
            reason: SealReason::ALL.into_iter().find(|it| it.code() == raw.reason.get())?,
            end_offset: raw.end_offset.get(),
            base_seq: raw.base_seq.get(),
            last_seq: raw.last_seq.get(),
            last_crc: raw.last_crc.get(),
            sealed_at: raw.sealed_at.get(),
            blake3: raw.blake3,
        })
    }
}

/// Page 1, read.
pub(crate) struct StatePage {
    /// The valid slot of the highest generation; none: the segment is open.
    pub(crate) newest: Option<StateSlot>,
    /// First byte of the page that is neither in a valid slot nor zero, as an offset in the file.
    pub(crate) stray: Option<u64>,
}

impl StatePage {
    /// Reads page 1, `page` being exactly that page.
    pub(crate) fn parse(page: &[u8]) -> StatePage {
        let slots = [StateSlot::parse(page), page.get(SLOT..).and_then(StateSlot::parse)];
        let mut stray = None;
        for (at, byte) in page.iter().enumerate() {
            let in_valid_slot = slots.get(at / SLOT).is_some_and(Option::is_some);
            if !in_valid_slot && *byte != 0 {
                stray = Some((PAGE + at) as u64);
                break;
            }
        }
        let newest = slots.into_iter().flatten().max_by_key(|slot| slot.generation);
        StatePage { newest, stray }
    }
}

/// The clocks of one moment, read together. Converts ticks into wall time, off-line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Anchor {
    /// Ticks, as in [`crate::FrameView::ts`].
    pub tsc: u64,
    /// Nanoseconds since the Unix epoch.
    pub wall_ns: i64,
    /// Nanoseconds of the raw monotonic clock.
    pub mono_ns: u64,
}

impl Anchor {
    pub(crate) const LEN: usize = 24;

    pub(crate) fn to_bytes(self) -> [u8; Anchor::LEN] {
        let mut bytes = [0; Anchor::LEN];
        bytes[..8].copy_from_slice(&self.tsc.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.wall_ns.to_le_bytes());
        bytes[16..].copy_from_slice(&self.mono_ns.to_le_bytes());
        bytes
    }

    /// Reads the payload of a [`crate::TIME_ANCHOR`] frame; `None` if it is too short.
    #[must_use]
    pub fn parse(payload: &[u8]) -> Option<Anchor> {
        Some(Anchor {
            tsc: word(payload, 0)?,
            wall_ns: i64::from_le_bytes(word(payload, 8)?.to_le_bytes()),
            mono_ns: word(payload, 16)?,
        })
    }
}

/// The little-endian word at `at`.
pub(crate) fn word(bytes: &[u8], at: usize) -> Option<u64> {
    let bytes = bytes.get(at..at.checked_add(8)?)?;
    Some(u64::from_le_bytes(bytes.try_into().ok()?))
}

/// The payload of `SEG_START`: what is known at first use. The chain across segments.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct SegStart {
    pub(crate) base_seq: u64,
    /// Number of the segment before, 0 in a new journal.
    pub(crate) prev_segment: u64,
    pub(crate) prev_last_seq: u64,
    pub(crate) prev_crc: u32,
    pub(crate) anchor: Anchor,
}

impl SegStart {
    pub(crate) const LEN: usize = 56;

    pub(crate) fn to_bytes(self) -> [u8; SegStart::LEN] {
        let mut bytes = [0; SegStart::LEN];
        bytes[..8].copy_from_slice(&self.base_seq.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.prev_segment.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.prev_last_seq.to_le_bytes());
        bytes[24..28].copy_from_slice(&self.prev_crc.to_le_bytes());
        bytes[32..].copy_from_slice(&self.anchor.to_bytes());
        bytes
    }

    pub(crate) fn parse(payload: &[u8]) -> Option<SegStart> {
        let crc = payload.get(24..28)?;
        Some(SegStart {
            base_seq: word(payload, 0)?,
            prev_segment: word(payload, 8)?,
            prev_last_seq: word(payload, 16)?,
            prev_crc: u32::from_le_bytes(crc.try_into().ok()?),
            anchor: Anchor::parse(payload.get(32..)?)?,
        })
    }
}

/// The payload of [`crate::RUN_START`]: where the run continues.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct RunParent {
    /// The run before, 0 in a new journal.
    pub run: u64,
    /// Its last `seq`, 0 in a new journal.
    pub last_seq: u64,
    /// The checksum of its last frame.
    pub last_crc: u32,
}

impl RunParent {
    pub(crate) fn to_bytes(self) -> [u8; 24] {
        let mut bytes = [0; 24];
        bytes[..8].copy_from_slice(&self.run.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.last_seq.to_le_bytes());
        bytes[16..20].copy_from_slice(&self.last_crc.to_le_bytes());
        bytes
    }

    /// Reads the head of a [`crate::RUN_START`] payload; `None` if it is too short.
    #[must_use]
    pub fn parse(payload: &[u8]) -> Option<RunParent> {
        let crc = payload.get(16..20)?;
        Some(RunParent {
            run: word(payload, 0)?,
            last_seq: word(payload, 8)?,
            last_crc: u32::from_le_bytes(crc.try_into().ok()?),
        })
    }
}

#[cfg(test)]
mod codec_tests {
    use super::*;

    fn header() -> SegmentHeader {
        SegmentHeader {
            version: (MAJOR, MINOR),
            uuid: [1; 16],
            run: 2,
            segment: 3,
            segment_len: 64 << 10,
            boot_id: [4; 16],
            created: Anchor { tsc: 5, wall_ns: -6, mono_ns: 7 },
            tsc_hz: 8,
            registry_hash: [9; 32],
            binary_hash: [10; 32],
            lock_hash: [11; 32],
            config_hash: [12; 32],
            seed: 13,
        }
    }

    #[test]
    fn codec_header_survives_and_no_flip_does() {
        let mut page = *header().to_page();
        assert_eq!(SegmentHeader::parse(&page), Ok(header()));
        for at in (0..PAGE).step_by(if cfg!(miri) { 97 } else { 1 }) {
            page[at] ^= 1;
            assert!(SegmentHeader::parse(&page).is_err(), "offset {at}");
            page[at] ^= 1;
        }
        assert_eq!(SegmentHeader::parse(&page[..100]), Err(HeaderFlaw::Short(100)));
    }

    #[test]
    fn codec_state_page_takes_the_higher_valid_slot() {
        let slot = |generation, end_offset| StateSlot {
            generation,
            state: SegmentState::CrashSealed,
            reason: SealReason::Cut,
            end_offset,
            base_seq: 1,
            last_seq: 2,
            last_crc: 3,
            sealed_at: 4,
            blake3: [5; 32],
        };
        let mut page = [0; PAGE];
        assert!(StatePage::parse(&page).newest.is_none());
        for (generation, end_offset) in [(1, 8192), (2, 9000)] {
            let slot = slot(generation, end_offset);
            let at = usize::try_from(slot.offset()).unwrap() - PAGE;
            page[at..at + SLOT].copy_from_slice(&slot.to_bytes());
            let read = StatePage::parse(&page);
            assert_eq!((read.newest, read.stray), (Some(slot), None));
        }
        page[SLOT + 20] ^= 1; // the newer slot is torn
        let read = StatePage::parse(&page);
        assert_eq!(read.newest, Some(slot(1, 8192)));
        assert_eq!(read.stray, Some((PAGE + SLOT) as u64));
        page[SLOT..].fill(0);
        page[PAGE - 1] = 1;
        assert_eq!(StatePage::parse(&page).stray, Some(2 * PAGE as u64 - 1));
    }

    /// Whoever changes the page changes the format: new version first, then the digest here.
    #[test]
    #[cfg(not(miri))]
    fn the_format_page_is_that_of_the_version() {
        let page = include_str!("../FORMAT.md");
        assert!(page.starts_with(&format!("# The journal on disk, format {MAJOR}.{MINOR}\n")));
        let digest = blake3::hash(page.as_bytes()).to_hex();
        assert_eq!(&digest[..16], "bdb72c7456741b21");
    }

    #[test]
    fn codec_first_frame_payload_survives() {
        let anchor = Anchor { tsc: 5, wall_ns: -6, mono_ns: 7 };
        let start =
            SegStart { base_seq: 1, prev_segment: 2, prev_last_seq: 3, prev_crc: 4, anchor };
        assert_eq!(SegStart::parse(&start.to_bytes()), Some(start));
        assert_eq!(SegStart::parse(&start.to_bytes()[..55]), None);
        let parent = RunParent { run: 1, last_seq: 2, last_crc: 3 };
        assert_eq!(RunParent::parse(&parent.to_bytes()), Some(parent));
    }
}
