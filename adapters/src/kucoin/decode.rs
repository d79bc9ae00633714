//! What a frame says, before anybody acts on it.
//!
//! Two readers produce the same [`Decoded`]: the scanner, which knows the exact spellings that the
//! venue uses and nothing else, and the tape parser, which knows JSON. Checks of values are shared,
//! so that the two can differ in speed only.

use kairos_logic::event::Event;
use kairos_logic::instrument::InstrumentTable;
use kairos_logic::units::{InstrumentId, Nanos, Price, Qty, Side, VenueId};

use super::{scanner, tape};
use crate::session::Fault;
use crate::venue::levels::{self, Level, Levels, top, traded};
use crate::venue::symbols::{Listed, Symbols};
use crate::venue::tape::Reader;

/// Most levels of both sides in one message. A whole book of the busiest pair has some 20 000.
const LEVELS_MAX: usize = 1 << 16;
/// Longest frame that is looked at, in bytes.
pub const FRAME_MAX: usize = 8 << 20;
/// The first time in nanoseconds that is believed: in 1973. What is below counts something else.
const NANOS_MIN: u64 = 100_000_000_000_000_000;

/// A message that is known and not needed, or needed for other things than market data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ignored {
    /// The connection may be used.
    Welcome,
    /// A message of ours was understood: the one with this number.
    Ack(u64),
    /// Reply to a ping.
    Pong,
    /// Candles, whole small books, anything else with a type or topic of its own.
    Other,
}

/// A whole message. Levels of books are beside it, in [`Decoder::levels`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decoded {
    /// A trade.
    Trade {
        /// Of what.
        instrument: InstrumentId,
        /// When the venue matched it.
        venue_at: Nanos,
        /// Positive.
        price: Price,
        /// Positive.
        qty: Qty,
        /// Id of the trade where that is a number, as it has been since 2022; before, its sequence.
        id: u64,
        /// Who crossed the spread.
        aggressor: Side,
    },
    /// The best bid and offer.
    Quote {
        /// Of what.
        instrument: InstrumentId,
        /// When the venue sent it.
        venue_at: Nanos,
        /// Sequence of the book that it is the top of.
        sequence: u64,
        /// Best bid; all zero where nobody bids.
        bid: Level,
        /// Best ask; all zero where nobody offers.
        ask: Level,
    },
    /// Changes of a book; the sequence of each is the tag of its level.
    Depth {
        /// Of what.
        instrument: InstrumentId,
        /// Place of the instrument in the session.
        slot: u16,
        /// When the venue sent it; 0 where it does not say, as in 2021.
        venue_at: Nanos,
        /// First sequence that it covers.
        first: u64,
        /// Last sequence that it covers, not below `first`.
        last: u64,
    },
    /// The venue refuses something, in the words of [`Decoder::words`].
    Refused {
        /// Of whom, where that can be told.
        instrument: Option<InstrumentId>,
        /// The venue's code; 0 where it gives none.
        code: i64,
        /// Number of our message that it refuses.
        id: Option<u64>,
    },
    /// Known and not needed.
    Ignored(Ignored),
    /// About a symbol that is not configured.
    UnknownSymbol,
}

/// Reads frames of one venue's instruments. Allocates when it is made, and in the tape parser
/// when a frame is larger than any before.
#[derive(Debug)]
pub struct Decoder {
    pub(super) symbols: Symbols,
    pub(super) levels: Levels,
    words: String, // never longer than its capacity
    tape: Reader,
}

impl Decoder {
    /// A decoder for the symbols of `instruments`, as they stand in the table.
    #[must_use]
    pub fn new(table: &InstrumentTable, venue: VenueId, instruments: &[InstrumentId]) -> Self {
        Self {
            symbols: Symbols::new(table, venue, instruments),
            levels: Levels::tagged(LEVELS_MAX),
            words: String::with_capacity(Event::SAID_MAX),
            tape: Reader::new(FRAME_MAX),
        }
    }

    /// Levels of the last [`Decoded::Depth`] or snapshot.
    #[must_use]
    pub fn levels(&self) -> &Levels {
        &self.levels
    }

    /// What the venue said in the last [`Decoded::Refused`].
    #[must_use]
    pub fn words(&self) -> &str {
        &self.words
    }

    /// Reads a frame in one of the venue's own spellings. `None` says nothing but that the spelling
    /// is another one: the frame may be bad, or good and spelled differently.
    #[inline]
    pub fn scan(&mut self, frame: &[u8]) -> Option<Decoded> {
        scanner::frame(frame, &self.symbols, &mut self.levels)
    }

    /// Reads a frame in any spelling.
    ///
    /// # Errors
    /// The [`Fault`] of a frame that is malformed or has values that make no sense.
    pub fn parse(&mut self, frame: &[u8]) -> Result<Decoded, Fault> {
        let Self { symbols, levels, words, tape } = self;
        tape::frame(tape, frame, symbols, levels, words)
    }

    /// Reads a snapshot that was fetched. Without an instrument, its sequence only.
    pub(super) fn parse_snapshot(
        &mut self,
        body: &[u8],
        listed: Option<Listed>,
    ) -> Result<Snapshot, Fault> {
        let Self { levels, words, tape, .. } = self;
        tape::snapshot(tape, body, listed, levels, words)
    }
}

/// A fetched snapshot, or the venue's refusal, whose words are in [`Decoder::words`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Snapshot {
    Whole { venue_at: Nanos, sequence: u64 },
    Refused { code: i64 },
}

/// The parts of a trade, checked.
#[inline]
pub(super) fn trade(
    listed: Listed,
    id: u64,
    price_qty: (i64, i64),
    aggressor: Side,
    time: u64,
) -> Result<Decoded, Fault> {
    let Level { price, qty } = traded(price_qty)?;
    if time < NANOS_MIN {
        return Err(Fault::Time);
    }
    Ok(Decoded::Trade { instrument: listed.id, venue_at: Nanos(time), price, qty, id, aggressor })
}

/// The parts of a quote, checked.
#[inline]
pub(super) fn quote(
    listed: Listed,
    sequence: u64,
    bid: (i64, i64),
    ask: (i64, i64),
    time: u64,
) -> Result<Decoded, Fault> {
    let (bid, ask) = top(bid, ask)?;
    let venue_at = levels::millis(time)?;
    Ok(Decoded::Quote { instrument: listed.id, venue_at, sequence, bid, ask })
}

/// One change of a book. Price 0 is a placeholder: it stands for a sequence that changed nothing.
#[inline]
pub(super) fn change(
    levels: &mut Levels,
    (price, qty): (i64, i64),
    sequence: u64,
) -> Result<(), Fault> {
    if price == 0 {
        return Ok(());
    }
    levels.push_tagged(levels::level(price, qty)?, sequence)
}

/// The head of a book update, checked.
#[inline]
pub(super) fn depth(
    listed: Listed,
    first: u64,
    last: u64,
    time: Option<u64>,
) -> Result<Decoded, Fault> {
    if last < first {
        return Err(Fault::Reversed);
    }
    let venue_at = levels::millis(time.unwrap_or(0))?;
    Ok(Decoded::Depth { instrument: listed.id, slot: listed.slot, venue_at, first, last })
}
