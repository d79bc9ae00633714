//! What a frame says, before anybody acts on it.
//!
//! Two readers produce the same [`Decoded`]: the scanner, which knows the exact spelling that the
//! venue uses and nothing else, and the tape parser, which knows JSON. Checks of values are shared,
//! so that the two can differ in speed only.

use kairos_logic::event::Event;
use kairos_logic::instrument::InstrumentTable;
use kairos_logic::units::{InstrumentId, Side, VenueId};

use super::{instruments, scanner, tape};
use crate::session::Fault;
use crate::venue::batch::Batch;
use crate::venue::symbols::Symbols;
use crate::venue::tape::Reader;

/// Most levels of both sides in one message. A snapshot is the whole book: 46 000 levels have been
/// seen.
const LEVELS_MAX: usize = 1 << 17;
/// Longest frame that is looked at, in bytes. A snapshot of 46 000 levels is 5 MB.
pub const FRAME_MAX: usize = 16 << 20;

/// What a message is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Channel {
    /// `market_trades`.
    Trades,
    /// `ticker`: the best bid and offer.
    Ticker,
    /// `l2_data`: books.
    Book,
    /// `heartbeats`.
    Heartbeats,
    /// `subscriptions`, candles, status, anything else with a name of its own.
    Other,
}

/// A whole message. What it says of markets is beside it, in [`Decoder::batch`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decoded {
    /// A message of a channel.
    Message {
        /// Which channel.
        channel: Channel,
        /// Its number among all messages of the connection.
        sequence: u64,
    },
    /// The venue refuses something, in the words of [`Decoder::words`].
    Error,
}

/// Reads frames of one venue's instruments. Allocates when it is made, and in the tape parser
/// when a frame is larger than any before.
#[derive(Debug)]
pub struct Decoder {
    pub(super) symbols: Symbols,
    pub(super) batch: Batch,
    pub(super) remains: Remains,
    tape: Reader,
}

/// What is known of a frame that could not be used, and the venue's words in one that refuses.
#[derive(Debug)]
pub(super) struct Remains {
    /// Its number and channel, where it has both.
    pub(super) envelope: Option<(u64, Channel)>,
    /// Whose books it spoke of, by their places in the session.
    pub(super) slots: Vec<u16>,
    /// Whether it spoke of books that it does not name.
    pub(super) nameless: bool,
    /// The beginning of what the venue said.
    pub(super) words: Vec<u8>,
}

impl Remains {
    fn new(instruments: usize) -> Self {
        Self {
            envelope: None,
            slots: Vec::with_capacity(instruments),
            nameless: false,
            words: Vec::with_capacity(Event::SAID_MAX),
        }
    }

    pub(super) fn clear(&mut self) {
        self.envelope = None;
        self.slots.clear();
        self.nameless = false;
        self.words.clear();
    }

    /// Keeps as many of these words as events can carry.
    pub(super) fn say(&mut self, words: &str) {
        let room = self.words.capacity() - self.words.len();
        let words = words.as_bytes();
        self.words.extend_from_slice(words.get(..room).unwrap_or(words));
    }

    /// It speaks of the book at this place.
    pub(super) fn name(&mut self, slot: u16) {
        if self.slots.len() < self.slots.capacity() && !self.slots.contains(&slot) {
            self.slots.push(slot);
        }
    }
}

impl Decoder {
    /// A decoder for the symbols of `instruments`, as they stand in the table. Those that end in
    /// `-USDC` are found under `-USD` too, by which name the venue sends them.
    #[must_use]
    pub fn new(table: &InstrumentTable, venue: VenueId, instruments: &[InstrumentId]) -> Self {
        let alias = instruments::wire_symbol;
        Self {
            symbols: Symbols::with_aliases(table, venue, instruments, alias),
            batch: Batch::new(LEVELS_MAX),
            remains: Remains::new(instruments.len()),
            tape: Reader::new(FRAME_MAX),
        }
    }

    /// What the last [`Decoded::Message`] says.
    #[must_use]
    pub fn batch(&self) -> &Batch {
        &self.batch
    }

    /// The venue's words in the last [`Decoded::Error`].
    #[must_use]
    pub fn words(&self) -> &[u8] {
        &self.remains.words
    }

    /// Reads a frame in the venue's own spelling. `None` says nothing but that the spelling is
    /// another one: the frame may be bad, or good and spelled differently.
    #[inline]
    pub fn scan(&mut self, frame: &[u8]) -> Option<Decoded> {
        scanner::frame(frame, &self.symbols, &mut self.batch)
    }

    /// Reads a frame in any spelling.
    ///
    /// # Errors
    /// The [`Fault`] of a frame that is malformed or has values that make no sense.
    pub fn parse(&mut self, frame: &[u8]) -> Result<Decoded, Fault> {
        let Self { symbols, batch, remains, tape } = self;
        remains.clear();
        tape::frame(tape, frame, symbols, batch, remains)
    }
}

/// Who crossed the spread, out of the side of the order that was there first, which is what the
/// venue tells.
#[inline]
pub(super) const fn aggressor(maker: Side) -> Side {
    match maker {
        Side::Buy => Side::Sell,
        Side::Sell => Side::Buy,
    }
}
