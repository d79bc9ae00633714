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
use crate::venue::levels::{Level, Levels, millis, top, traded};
use crate::venue::symbols::{Listed, Symbols};
use crate::venue::tape::Reader;

/// Most levels of both sides in one message. The venue's books have 400 a side.
const LEVELS_MAX: usize = 1 << 13;
/// Most trades in one message.
const TRADES_MAX: usize = 1 << 12;
/// Longest frame that is looked at, in bytes. A snapshot of 800 levels is about 30 kB.
pub const FRAME_MAX: usize = 1 << 20;
/// What the venue sends where an update follows on no other.
const NO_UPDATE_BEFORE: i64 = -1;

/// A message that is known and not needed, or needed for other things than market data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ignored {
    /// The venue will cut the connection for an upgrade.
    ServiceUpgrade,
    /// Reply to a subscription.
    Reply,
    /// Reply to a ping.
    Pong,
    /// Candles, small books, anything else with a channel of its own.
    Other,
}

/// One trade of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trade {
    /// When the venue matched it.
    pub venue_at: Nanos,
    /// Positive.
    pub price: Price,
    /// Positive.
    pub qty: Qty,
    /// Id of the trade, or of the last of several that one order made at one price.
    pub id: u64,
    /// Who crossed the spread.
    pub aggressor: Side,
}

/// The head of a book message. Its levels are in [`Decoder::levels`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Update {
    /// When the venue sent it.
    pub venue_at: Nanos,
    /// Whether it is the whole book.
    pub snapshot: bool,
    /// The update id before it and its own; equal in a snapshot. Frames of before 2023 have none.
    pub ids: Option<(u64, u64)>,
    /// CRC-32 of the book after it, where the venue gives one.
    pub checksum: Option<u32>,
}

/// A whole message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decoded {
    /// Trades, in [`Decoder::trades`].
    Trades {
        /// Of what.
        instrument: InstrumentId,
    },
    /// The best bid and offer.
    Quote {
        /// Of what.
        instrument: InstrumentId,
        /// When the venue sent it.
        venue_at: Nanos,
        /// Best bid; all zero where nobody bids.
        bid: Level,
        /// Best ask; all zero where nobody offers.
        ask: Level,
    },
    /// A book, or changes of one.
    Depth {
        /// Of what.
        instrument: InstrumentId,
        /// Place of the instrument in the session.
        slot: u16,
        /// What it says of the whole message.
        update: Update,
    },
    /// The venue refuses something, in the words of [`Decoder::words`].
    Refused {
        /// Whose subscription, where that can be told.
        instrument: Option<InstrumentId>,
        /// The venue's code; 0 where it gives none.
        code: i64,
    },
    /// Known and not needed.
    Ignored(Ignored),
    /// About a symbol that is not configured.
    UnknownSymbol,
}

/// What the readers fill beside [`Decoded`]. Allocated once.
#[derive(Debug)]
pub(super) struct Room {
    pub(super) levels: Levels,
    pub(super) trades: Vec<Trade>, // never more than TRADES_MAX
    pub(super) words: String,      // never longer than its capacity
    /// Whether the levels get their decimals as tags: what a checksum needs, and nobody else.
    pub(super) exact: bool,
}

impl Room {
    pub(super) fn push(&mut self, trade: Trade) -> Result<(), Fault> {
        if self.trades.len() >= TRADES_MAX {
            return Err(Fault::TooLong);
        }
        self.trades.push(trade);
        Ok(())
    }

    pub(super) fn say(&mut self, words: &str) {
        self.words.clear();
        let end = words.floor_char_boundary(self.words.capacity());
        self.words.push_str(words.get(..end).unwrap_or_default());
    }
}

/// Reads frames of one venue's instruments. Allocates when it is made, and in the tape parser
/// when a frame is larger than any before.
#[derive(Debug)]
pub struct Decoder {
    pub(super) symbols: Symbols,
    pub(super) room: Room,
    tape: Reader,
}

impl Decoder {
    /// A decoder for the symbols of `instruments`, as they stand in the table.
    #[must_use]
    pub fn new(table: &InstrumentTable, venue: VenueId, instruments: &[InstrumentId]) -> Self {
        Self {
            symbols: Symbols::new(table, venue, instruments),
            room: Room {
                levels: Levels::tagged(LEVELS_MAX),
                trades: Vec::with_capacity(TRADES_MAX),
                words: String::with_capacity(Event::SAID_MAX),
                exact: false,
            },
            tape: Reader::new(FRAME_MAX),
        }
    }

    /// Levels of the last [`Decoded::Depth`] or snapshot.
    #[must_use]
    pub fn levels(&self) -> &Levels {
        &self.room.levels
    }

    /// Trades of the last [`Decoded::Trades`], oldest first.
    #[must_use]
    pub fn trades(&self) -> &[Trade] {
        &self.room.trades
    }

    /// What the venue said in the last [`Decoded::Refused`].
    #[must_use]
    pub fn words(&self) -> &str {
        &self.room.words
    }

    /// Reads a frame in the venue's own spelling. `None` says nothing but that the spelling is
    /// another one: the frame may be bad, or good and spelled differently.
    #[inline]
    pub fn scan(&mut self, frame: &[u8]) -> Option<Decoded> {
        scanner::frame(frame, &self.symbols, &mut self.room)
    }

    /// Reads a frame in any spelling.
    ///
    /// # Errors
    /// The [`Fault`] of a frame that is malformed or has values that make no sense.
    pub fn parse(&mut self, frame: &[u8]) -> Result<Decoded, Fault> {
        if frame == b"pong" {
            return Ok(Decoded::Ignored(Ignored::Pong)); // the one message that is no JSON
        }
        tape::frame(&mut self.tape, frame, &self.symbols, &mut self.room)
    }

    /// Reads a snapshot that was fetched. Without an instrument, its update id only.
    pub(super) fn parse_snapshot(
        &mut self,
        body: &[u8],
        listed: Option<Listed>,
    ) -> Result<Snapshot, Fault> {
        tape::snapshot(&mut self.tape, body, listed, &mut self.room)
    }
}

/// A fetched snapshot, or the venue's refusal, whose words are in [`Decoder::words`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Snapshot {
    Whole { venue_at: Nanos, seq: u64 },
    Refused { code: i64 },
}

/// The parts of a trade, checked.
#[inline]
pub(super) fn trade(
    id: u64,
    price_qty: (i64, i64),
    aggressor: Side,
    time: u64,
) -> Result<Trade, Fault> {
    let Level { price, qty } = traded(price_qty)?;
    Ok(Trade { venue_at: millis(time)?, price, qty, id, aggressor })
}

/// The parts of a quote, checked.
#[inline]
pub(super) fn quote(
    listed: Listed,
    bid: (i64, i64),
    ask: (i64, i64),
    time: u64,
) -> Result<Decoded, Fault> {
    let (bid, ask) = top(bid, ask)?;
    Ok(Decoded::Quote { instrument: listed.id, venue_at: millis(time)?, bid, ask })
}

/// The numbers at the end of a book message, where they are there.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tail {
    pub(super) checksum: Option<i64>,
    pub(super) seq: Option<i64>,
    pub(super) prev: Option<i64>,
}

/// The head of a book message, checked: it can be told whether it fits, by ids or by a checksum.
#[inline]
pub(super) fn depth(
    listed: Listed,
    snapshot: Option<bool>,
    time: u64,
    tail: Tail,
) -> Result<Decoded, Fault> {
    let snapshot = snapshot.unwrap_or(tail.prev == Some(NO_UPDATE_BEFORE));
    let checksum = match tail.checksum {
        // It is signed; 0 has meant "none" since 2026.
        Some(number) => Some(i32::try_from(number).map_err(|_| Fault::Number)?.cast_unsigned()),
        None => None,
    };
    let checksum = checksum.filter(|&it| it != 0);
    let id = |number: i64| u64::try_from(number).map_err(|_| Fault::Shape);
    let ids = match (tail.prev, tail.seq) {
        (_, Some(seq)) if snapshot => Some((id(seq)?, id(seq)?)),
        (Some(prev), Some(seq)) => Some((id(prev)?, id(seq)?)),
        (None, None) if checksum.is_some() => None,
        (Some(_) | None, Some(_) | None) => return Err(Fault::Shape),
    };
    let update = Update { venue_at: millis(time)?, snapshot, ids, checksum };
    Ok(Decoded::Depth { instrument: listed.id, slot: listed.slot, update })
}
