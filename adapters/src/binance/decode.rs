//! What a frame says, before anybody acts on it.
//!
//! Two readers produce the same [`Decoded`]: the scanner, which knows the exact spelling that the
//! venue uses and nothing else, and the tape parser, which knows JSON. Checks of values are shared,
//! so that the two can differ in speed only.

use kairos_logic::event::Event;
use kairos_logic::instrument::InstrumentTable;
use kairos_logic::units::{InstrumentId, Nanos, Price, Qty, Side, VenueId};

use super::{scanner, tape};
use crate::session::Fault;
use crate::venue::levels::{Level, Levels, top, traded};
use crate::venue::symbols::{Listed, Symbols};
use crate::venue::tape::Reader;

/// Most levels of both sides in one message. The venue's largest snapshot has 10 000.
const LEVELS_MAX: usize = 1 << 15;
/// Longest frame that is looked at, in bytes. A snapshot of 10 000 levels is about 400 kB.
pub const FRAME_MAX: usize = 4 << 20;

/// A message that is known and not needed, or needed for other things than market data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ignored {
    /// The venue will close the connection.
    ServerShutdown,
    /// Reply to a subscription.
    Reply,
    /// Candles, tickers, partial books, anything else with a type of its own.
    Other,
}

/// A whole message. Levels of books are beside it, in [`Decoder::levels`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decoded {
    /// A trade, or an aggregate of trades.
    Trade {
        /// Of what.
        instrument: InstrumentId,
        /// When the venue matched it.
        venue_at: Nanos,
        /// Positive.
        price: Price,
        /// Positive.
        qty: Qty,
        /// Id of the trade or of the aggregate.
        id: u64,
        /// Who crossed the spread.
        aggressor: Side,
    },
    /// The best bid and offer. The venue gives no time.
    Quote {
        /// Of what.
        instrument: InstrumentId,
        /// Update id of the book that it is the top of.
        update: u64,
        /// Best bid; all zero where nobody bids.
        bid: Level,
        /// Best ask; all zero where nobody offers.
        ask: Level,
    },
    /// Changes of a book.
    Depth {
        /// Of what.
        instrument: InstrumentId,
        /// Place of the instrument in the session.
        slot: u16,
        /// When the venue sent it.
        venue_at: Nanos,
        /// First update id that it covers.
        first: u64,
        /// Last update id that it covers, not below `first`.
        last: u64,
    },
    /// The venue refuses something, in the words of [`Decoder::words`].
    Refused {
        /// The venue's code; 0 where it gives none.
        code: i64,
    },
    /// Known and not needed.
    Ignored(Ignored),
    /// About a symbol that is not configured.
    UnknownSymbol,
}

/// A fetched snapshot, or the venue's refusal, whose words are in [`Decoder::words`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Snapshot {
    Whole { update: u64 },
    Refused { code: i64 },
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
            levels: Levels::new(LEVELS_MAX),
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

    /// Reads a frame in the venue's own spelling. `None` says nothing but that the spelling is
    /// another one: the frame may be bad, or good and spelled differently.
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

    /// Reads the snapshot of an instrument; the result is its `lastUpdateId`.
    pub(super) fn scan_snapshot(&mut self, body: &[u8], listed: Listed) -> Option<u64> {
        scanner::snapshot(body, listed, &mut self.levels)
    }

    /// As [`Self::scan_snapshot`], in any spelling.
    pub(super) fn parse_snapshot(
        &mut self,
        body: &[u8],
        listed: Option<Listed>,
    ) -> Result<Snapshot, Fault> {
        let Self { levels, words, tape, .. } = self;
        tape::snapshot(tape, body, listed, levels, words)
    }

    /// The `lastUpdateId` of a snapshot whose instrument is not known yet.
    pub(super) fn snapshot_id(&mut self, body: &[u8]) -> Result<Snapshot, Fault> {
        match scanner::snapshot_id(body) {
            Some(update) => Ok(Snapshot::Whole { update }),
            None => self.parse_snapshot(body, None),
        }
    }
}

/// A time in milliseconds or, where asked for, in microseconds: told apart by their digits until
/// the year 5138.
#[inline]
pub(super) fn time(number: u64) -> Result<Nanos, Fault> {
    match number {
        0..100_000_000_000_000 => number.checked_mul(1_000_000),
        1_000_000_000_000_000..10_000_000_000_000_000 => number.checked_mul(1_000),
        _ => None,
    }
    .map(Nanos)
    .ok_or(Fault::Time)
}

/// The parts of a trade, checked.
#[inline]
pub(super) fn trade(
    listed: Listed,
    id: u64,
    price_qty: (i64, i64),
    time_number: u64,
    buyer_is_maker: bool,
) -> Result<Decoded, Fault> {
    let Level { price, qty } = traded(price_qty)?;
    Ok(Decoded::Trade {
        instrument: listed.id,
        venue_at: time(time_number)?,
        price,
        qty,
        id,
        // The maker was there first: if that was the buyer, the seller crossed the spread.
        aggressor: if buyer_is_maker { Side::Sell } else { Side::Buy },
    })
}

/// The parts of a quote, checked: `bid < ask` where both sides are there.
#[inline]
pub(super) fn quote(
    listed: Listed,
    update: u64,
    bid: (i64, i64),
    ask: (i64, i64),
) -> Result<Decoded, Fault> {
    let (bid, ask) = top(bid, ask)?;
    Ok(Decoded::Quote { instrument: listed.id, update, bid, ask })
}

/// The head of a book update, checked.
#[inline]
pub(super) fn depth(
    listed: Listed,
    time_number: u64,
    first: u64,
    last: u64,
) -> Result<Decoded, Fault> {
    if last < first {
        return Err(Fault::Reversed);
    }
    Ok(Decoded::Depth {
        instrument: listed.id,
        slot: listed.slot,
        venue_at: time(time_number)?,
        first,
        last,
    })
}
