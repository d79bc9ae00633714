//! What kairos writes into the frames of its journal.
//!
//! The journal carries bytes with a kind and a version; this module gives them meaning. Product
//! kinds begin at [`PRODUCT`]. Their numbers are never reused, and a payload of a released version
//! never changes its meaning.
//!
//! | kind | payload | extension words |
//! |---|---|---|
//! | `0x0100` + event kind | the event without its stamps, 56 bytes | ticks from `recv` to `in` |
//! | [`DECISION`] | a decision, 80 bytes | stamps of strategy and risk |
//! | [`CONFIG`], [`INSTRUMENTS`], [`STRATEGIES`] | a part of a cold record | none |
//!
//! The time stamp of an event's frame is its `recv`, that of a decision's frame the stamp of risk.
//! Starts and ends of runs are physical frames of the journal; [`RunEnd`] is the payload of an end.

use kairos_logic::event::{Event, Kind};
use kairos_logic::instrument::InstrumentTable;
use kairos_logic::order::Decision;
use kairos_logic::units::Stamp;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// First kind of frames that belong to the product.
pub const PRODUCT: u16 = 0x0100;
/// A [`Decision`].
pub const DECISION: u16 = 0x0140;
/// The configuration as canonical TOML.
pub const CONFIG: u16 = 0x0180;
/// The instrument table.
pub const INSTRUMENTS: u16 = 0x0181;
/// The strategies by number.
pub const STRATEGIES: u16 = 0x0182;
/// Version of every payload that this build writes.
pub const SCHEMA: u16 = 1;
/// Bytes of a cold record in one frame: with headers far below the journal's largest frame of
/// 64 KiB.
pub const PART_BYTES: usize = 48 * 1024;
/// Most parts that a cold record may have: 48 MiB, some hundred times a table of 4 096 instruments.
pub const PARTS_MAX: u32 = 1_024;

/// A frame of fixed size, ready for the journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fixed<const WORDS: usize, const BYTES: usize> {
    /// The frame's time stamp.
    pub ts: u64,
    /// What it is.
    pub kind: u16,
    /// Version of the payload.
    pub schema: u16,
    /// Extension words.
    pub ext: [u64; WORDS],
    /// The payload.
    pub payload: [u8; BYTES],
}

/// The frame of an event.
#[must_use]
#[inline]
pub fn event(event: &Event) -> Fixed<1, { Event::LOGICAL }> {
    Fixed {
        ts: event.recv.0,
        kind: PRODUCT + event.kind as u16,
        schema: SCHEMA,
        ext: [u64::from(event.in_after)],
        payload: event.logical(),
    }
}

/// The frame of a decision.
#[must_use]
#[inline]
pub fn decision(record: &Decision, strategy_at: Stamp, risk_at: Stamp) -> Fixed<2, 80> {
    Fixed {
        ts: risk_at.0,
        kind: DECISION,
        schema: SCHEMA,
        ext: [strategy_at.0, risk_at.0],
        payload: *record.payload(),
    }
}

/// What one logical frame says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Record<'a> {
    /// An input.
    Event(Event),
    /// What was made of one.
    Decision {
        /// The proposal with its verdict.
        record: Decision,
        /// When strategy was done.
        strategy_at: Stamp,
        /// When risk was done.
        risk_at: Stamp,
    },
    /// A part of a cold record; [`Assembler`] puts them together.
    Part(Part<'a>),
}

/// One part of a cold record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part<'a> {
    /// [`CONFIG`], [`INSTRUMENTS`] or [`STRATEGIES`].
    #[serde(skip)]
    pub kind: u16,
    /// Which, from 0.
    pub part: u32,
    /// Of how many. In 1..=[`PARTS_MAX`].
    pub parts: u32,
    /// The bytes.
    #[serde(borrow)]
    pub bytes: &'a [u8],
}

/// A frame that no version of this program writes, or that needs a newer one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// A kind that this version does not know.
    #[error("frame kind {kind:#06x}: not known to this version; it needs a newer kairos")]
    UnknownKind {
        /// The kind.
        kind: u16,
    },
    /// A version that this version does not know.
    #[error("frame kind {kind:#06x} version {schema}: this version reads version {SCHEMA}")]
    UnknownSchema {
        /// The kind.
        kind: u16,
        /// The version.
        schema: u16,
    },
    /// Contents that cannot be.
    #[error("frame kind {kind:#06x} with {bytes} bytes: {rule}")]
    Malformed {
        /// The kind.
        kind: u16,
        /// Bytes of the payload.
        bytes: usize,
        /// What does not hold.
        rule: &'static str,
    },
    /// Parts of a cold record that do not follow on each other.
    #[error("frame kind {kind:#06x}: part {found} of {parts} where part {expected} should be")]
    PartOrder {
        /// The kind.
        kind: u16,
        /// The part that should have come.
        expected: u32,
        /// The part that came.
        found: u32,
        /// Parts in all.
        parts: u32,
    },
}

impl<'a> Record<'a> {
    /// Reads a logical frame.
    ///
    /// # Errors
    /// [`FrameError`]; arbitrary bytes are an error or a record, never a panic.
    pub fn read(
        kind: u16,
        schema: u16,
        ts: u64,
        ext: &[u64],
        payload: &'a [u8],
    ) -> Result<Self, FrameError> {
        let malformed = |rule| FrameError::Malformed { kind, bytes: payload.len(), rule };
        if !is_known(kind) {
            return Err(FrameError::UnknownKind { kind });
        }
        if schema != SCHEMA {
            return Err(FrameError::UnknownSchema { kind, schema });
        }
        match kind {
            DECISION => {
                let &[strategy_at, risk_at] = ext else {
                    return Err(malformed("a decision has two stamps"));
                };
                let record = Decision::from_payload(payload);
                Ok(Self::Decision {
                    record: record.ok_or_else(|| malformed("no decision"))?,
                    strategy_at: Stamp(strategy_at),
                    risk_at: Stamp(risk_at),
                })
            }
            CONFIG | INSTRUMENTS | STRATEGIES => {
                let part = postcard::from_bytes::<Part<'a>>(payload);
                let part = part.map_err(|_| malformed("no part of a record"))?;
                if part.parts == 0 || part.parts > PARTS_MAX || part.part >= part.parts {
                    return Err(malformed("no such part"));
                }
                Ok(Self::Part(Part { kind, ..part }))
            }
            _ => {
                let &[in_after] = ext else {
                    return Err(malformed("an event has one extension word"));
                };
                let in_after = u32::try_from(in_after);
                let in_after =
                    in_after.map_err(|_| malformed("the extension word is too large"))?;
                match Event::from_frame(payload, Stamp(ts), in_after) {
                    Some(event) if PRODUCT + event.kind as u16 == kind => Ok(Self::Event(event)),
                    _ => Err(malformed("no event of its kind")),
                }
            }
        }
    }
}

fn is_known(kind: u16) -> bool {
    matches!(kind, DECISION | CONFIG | INSTRUMENTS | STRATEGIES)
        || Kind::ALL.iter().any(|known| PRODUCT + *known as u16 == kind)
}

/// The name of a frame kind in dumps and counts; `None` for a kind that this version does not know.
#[must_use]
pub fn kind_name(kind: u16) -> Option<&'static str> {
    match kind {
        DECISION => Some("decision"),
        CONFIG => Some("config_snapshot"),
        INSTRUMENTS => Some("instruments"),
        STRATEGIES => Some("strategies"),
        _ => Kind::ALL
            .iter()
            .find(|known| PRODUCT + **known as u16 == kind)
            .map(|known| known.text()),
    }
}

/// A strategy as the journal knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StrategyName {
    /// The key of its section; its place in the list is its number.
    pub name: String,
    /// Which strategy it is.
    pub kind: String,
}

/// What a run writes down before its first event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cold {
    /// The configuration as canonical TOML.
    Config(String),
    /// Venues, currencies and instruments.
    Instruments(InstrumentTable),
    /// The strategies, by number.
    Strategies(Vec<StrategyName>),
}

impl Cold {
    /// The kind of its frames.
    #[must_use]
    pub const fn kind(&self) -> u16 {
        match self {
            Self::Config(_) => CONFIG,
            Self::Instruments(_) => INSTRUMENTS,
            Self::Strategies(_) => STRATEGIES,
        }
    }

    /// The payloads of its frames, in order, at least one.
    ///
    /// # Panics
    /// With a record of more than [`PARTS_MAX`] parts, which no engine can be configured to have.
    #[must_use]
    pub fn payloads(&self) -> Vec<Vec<u8>> {
        let bytes = match self {
            Self::Config(text) => text.as_bytes().to_vec(),
            Self::Instruments(table) => encode(table),
            Self::Strategies(names) => encode(names),
        };
        let count = bytes.len().div_ceil(PART_BYTES).max(1);
        let parts = u32::try_from(count).unwrap_or(u32::MAX);
        assert!(parts <= PARTS_MAX, "{parts} parts of a cold record");
        (0..parts)
            .zip(0_usize..)
            .map(|(part, place)| {
                let from = place * PART_BYTES;
                let to = bytes.len().min(from + PART_BYTES);
                encode(&Part { kind: self.kind(), part, parts, bytes: &bytes[from..to] })
            })
            .collect()
    }

    fn read(kind: u16, bytes: Vec<u8>) -> Result<Self, FrameError> {
        let malformed = |rule| FrameError::Malformed { kind, bytes: bytes.len(), rule };
        match kind {
            CONFIG => match std::str::from_utf8(&bytes) {
                Ok(text) => Ok(Self::Config(text.to_owned())),
                Err(_) => Err(malformed("a configuration is UTF-8 text")),
            },
            INSTRUMENTS => postcard::from_bytes(&bytes)
                .map(Self::Instruments)
                .map_err(|_| malformed("no instrument table")),
            STRATEGIES => postcard::from_bytes(&bytes)
                .map(Self::Strategies)
                .map_err(|_| malformed("no list of strategies")),
            _ => Err(FrameError::UnknownKind { kind }),
        }
    }
}

/// Puts the parts of cold records together. Parts of one record follow on each other without other
/// cold records between.
#[derive(Debug, Default)]
pub struct Assembler {
    kind: u16,
    next: u32,
    parts: u32,
    bytes: Vec<u8>,
}

impl Assembler {
    /// Takes a part; the record when it was the last one.
    ///
    /// # Errors
    /// [`FrameError`], after which the assembler waits for a first part again.
    pub fn push(&mut self, part: &Part<'_>) -> Result<Option<Cold>, FrameError> {
        let follows = part.part == 0 || (part.kind == self.kind && part.parts == self.parts);
        let expected = if follows && part.part != 0 { self.next } else { 0 };
        if part.part != expected {
            *self = Self::default();
            return Err(FrameError::PartOrder {
                kind: part.kind,
                expected,
                found: part.part,
                parts: part.parts,
            });
        }
        if part.part == 0 {
            self.kind = part.kind;
            self.parts = part.parts;
            self.bytes.clear();
        }
        self.bytes.extend_from_slice(part.bytes);
        self.next = part.part + 1;
        if self.next < self.parts {
            return Ok(None);
        }
        let whole = std::mem::take(self);
        Cold::read(whole.kind, whole.bytes).map(Some)
    }
}

/// How a run ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum EndReason {
    /// Every capture was read to its end.
    #[default]
    EndOfCapture,
    /// SIGINT, SIGTERM or an operator.
    Stopped,
    /// Something broke, and there was still time to say so.
    Fault,
}

impl EndReason {
    /// The name used in reports.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::EndOfCapture => "end_of_capture",
            Self::Stopped => "stopped",
            Self::Fault => "fault",
        }
    }
}

/// The end of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunEnd {
    /// The number of the run.
    pub run: u64,
    /// Why.
    pub reason: EndReason,
    /// Inputs.
    pub events: u64,
    /// Decisions.
    pub decisions: u64,
}

impl RunEnd {
    /// The payload of its frame.
    #[must_use]
    pub fn payload(&self) -> Vec<u8> {
        encode(self)
    }

    /// Reads a payload; `None` where it is none of this version.
    #[must_use]
    pub fn from_payload(payload: &[u8]) -> Option<Self> {
        decode(payload)
    }
}

fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    postcard::to_stdvec(value).expect("records of numbers, text and lists always encode")
}

fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    postcard::from_bytes(bytes).ok()
}

#[cfg(test)]
mod tests;
