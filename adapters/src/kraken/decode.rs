//! What a frame says, before anybody acts on it.
//!
//! Two readers produce the same [`Decoded`]: the scanner, which knows the exact spelling that the
//! venue uses and nothing else, and the general parser, which knows JSON. Checks of values are
//! shared, so that the two can differ in speed only. Prices and quantities are JSON numbers, of
//! which both read the text: the venue's checksum is over its digits.

use kairos_logic::event::Event;
use kairos_logic::instrument::InstrumentTable;
use kairos_logic::units::{InstrumentId, VenueId};

use super::{scanner, tape};
use crate::session::Fault;
use crate::venue::batch::Batch;
use crate::venue::symbols::Symbols;

/// Most levels of both sides in one message: a snapshot has at most 2 000.
const LEVELS_MAX: usize = 1 << 13;
/// Longest frame that is looked at, in bytes. A snapshot of 2 000 levels is 80 kB.
pub const FRAME_MAX: usize = 1 << 20;

/// A whole message. What it says of markets is beside it, in [`Decoder::batch`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decoded {
    /// Trades between others.
    Trades,
    /// Best bids and offers.
    Quotes,
    /// Books, whole or changed.
    Books,
    /// The venue is there.
    Heartbeat,
    /// The book of an instrument is sent with this many levels a side.
    Subscribed {
        /// Place of the instrument in the session.
        slot: u16,
        /// Levels a side.
        depth: u16,
    },
    /// The venue refuses something, in the words of [`Decoder::words`].
    Refused(Refusal),
    /// Known and not needed: status, other replies, other channels.
    Ignored,
}

/// What the venue refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The number that the request had, where it had one.
    pub request: Option<u64>,
    /// The instrument that it was about, where the venue names one that is known.
    pub instrument: Option<InstrumentId>,
}

/// Reads frames of one venue's instruments. The scanner allocates nothing; the general parser does.
#[derive(Debug)]
pub struct Decoder {
    pub(super) symbols: Symbols,
    pub(super) batch: Batch,
    words: Vec<u8>,
}

impl Decoder {
    /// A decoder for the symbols of `instruments`, as they stand in the table.
    #[must_use]
    pub fn new(table: &InstrumentTable, venue: VenueId, instruments: &[InstrumentId]) -> Self {
        Self {
            symbols: Symbols::new(table, venue, instruments),
            batch: Batch::new(LEVELS_MAX),
            words: Vec::with_capacity(Event::SAID_MAX),
        }
    }

    /// What the last [`Decoded`] says of markets.
    #[must_use]
    pub fn batch(&self) -> &Batch {
        &self.batch
    }

    /// The venue's words in the last [`Decoded::Refused`].
    #[must_use]
    pub fn words(&self) -> &[u8] {
        &self.words
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
        tape::frame(frame, &self.symbols, &mut self.batch, &mut self.words)
    }
}
