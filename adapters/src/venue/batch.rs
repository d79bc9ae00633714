//! What one frame says, where a frame may speak of many trades, quotes and books at once.

use kairos_logic::event::Event;
use kairos_logic::units::{InstrumentId, Nanos, Price, Qty, Side};

use super::levels::{Level, best, level};
use super::report::{Head, stamped};
use super::symbols::Listed;
use crate::session::{Arrival, Fault};

/// A trade, checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trade {
    /// Of what.
    pub instrument: InstrumentId,
    /// When the venue matched it.
    pub venue_at: Nanos,
    /// Positive.
    pub price: Price,
    /// Positive.
    pub qty: Qty,
    /// The venue's number of it.
    pub id: u64,
    /// Who crossed the spread.
    pub aggressor: Side,
}

impl Trade {
    #[inline]
    pub(crate) fn new(
        listed: Listed,
        venue_at: Nanos,
        (price, qty): (i64, i64),
        id: u64,
        aggressor: Side,
    ) -> Result<Self, Fault> {
        if price <= 0 || qty <= 0 {
            return Err(Fault::NotPositive);
        }
        let (price, qty) = (Price(price), Qty(qty));
        Ok(Self { instrument: listed.id, venue_at, price, qty, id, aggressor })
    }

    #[inline]
    pub(crate) fn event(&self, arrival: Arrival) -> Event {
        let Self { instrument, venue_at, price, qty, id, aggressor } = *self;
        let event = Event::trade(arrival.at, venue_at, instrument, price, qty, id, aggressor);
        stamped(event, arrival.recv)
    }
}

/// The best bid and offer, checked: `bid < ask` where both sides are there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quote {
    /// Of what.
    pub instrument: InstrumentId,
    /// When the venue sent it; 0 where it does not say.
    pub venue_at: Nanos,
    /// Best bid; all zero where nobody bids.
    pub bid: Level,
    /// Best ask; all zero where nobody offers.
    pub ask: Level,
}

impl Quote {
    #[inline]
    pub(crate) fn new(
        listed: Listed,
        venue_at: Nanos,
        bid: (i64, i64),
        ask: (i64, i64),
    ) -> Result<Self, Fault> {
        let (bid, ask) = (best(bid)?, best(ask)?);
        if bid.qty.0 != 0 && ask.qty.0 != 0 && bid.price >= ask.price {
            return Err(Fault::CrossedQuote);
        }
        Ok(Self { instrument: listed.id, venue_at, bid, ask })
    }

    #[inline]
    pub(crate) fn event(&self, arrival: Arrival) -> Event {
        let (bid, ask) = ((self.bid.price, self.bid.qty), (self.ask.price, self.ask.qty));
        let event = Event::quote(arrival.at, self.venue_at, self.instrument, bid, ask);
        stamped(event, arrival.recv)
    }
}

/// Changes of one book, or the whole of it. Its levels are in the [`Batch`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// Of what.
    pub instrument: InstrumentId,
    /// Place of the instrument in the session.
    pub slot: u16,
    /// Whether it is the whole book, and what was known before is void.
    pub snapshot: bool,
    /// When the venue changed it; 0 where it does not say.
    pub venue_at: Nanos,
    /// The venue's checksum of the book behind the change, where it has one.
    pub checksum: Option<u32>,
    /// Most decimals that a price, and a quantity, of these levels is written with.
    pub(crate) decimals: (u8, u8),
    end: usize, // of its levels in the batch
}

impl Part {
    /// A part that ends nowhere yet; see [`Batch::end_part`].
    #[inline]
    pub(crate) fn new(listed: Listed, snapshot: bool, venue_at: Nanos) -> Self {
        let (instrument, slot) = (listed.id, listed.slot);
        Self { instrument, slot, snapshot, venue_at, checksum: None, decimals: (0, 0), end: 0 }
    }

    /// With the venue's checksum, and the most decimals of its prices and of its quantities.
    #[inline]
    pub(crate) fn summed(self, checksum: u32, decimals: (u8, u8)) -> Self {
        Self { checksum: Some(checksum), decimals, ..self }
    }

    pub(crate) fn head(&self, arrival: Arrival, update: u64) -> Head {
        let (venue_at, instrument) = (self.venue_at, self.instrument);
        Head { at: arrival.at, recv: arrival.recv, venue_at, instrument, update }
    }
}

/// Most trades or quotes of one frame, and most books.
const ITEMS_MAX: usize = 4_096;

/// What one frame says. Room is allocated once and never grown.
#[derive(Clone, Debug)]
pub struct Batch {
    trades: Vec<Trade>,
    quotes: Vec<Quote>,
    parts: Vec<Part>,
    levels: Vec<(Side, Level)>, // never more than levels_max
    levels_max: usize,
    /// Trades that are no new trading.
    pub(crate) old_trades: u64,
    /// What the frame says about symbols that nobody wants to know about.
    pub(crate) unknown: u64,
}

impl Batch {
    /// Room for so many levels of one frame.
    pub(crate) fn new(levels_max: usize) -> Self {
        Self {
            trades: Vec::with_capacity(ITEMS_MAX),
            quotes: Vec::with_capacity(ITEMS_MAX),
            parts: Vec::with_capacity(ITEMS_MAX),
            levels: Vec::with_capacity(levels_max),
            levels_max,
            old_trades: 0,
            unknown: 0,
        }
    }

    #[inline]
    pub(crate) fn clear(&mut self) {
        self.trades.clear();
        self.quotes.clear();
        self.parts.clear();
        self.levels.clear();
        (self.old_trades, self.unknown) = (0, 0);
    }

    #[inline]
    pub(crate) fn trade(&mut self, trade: Trade) -> Result<(), Fault> {
        if self.trades.len() >= ITEMS_MAX {
            return Err(Fault::TooManyLevels);
        }
        self.trades.push(trade);
        Ok(())
    }

    #[inline]
    pub(crate) fn quote(&mut self, quote: Quote) -> Result<(), Fault> {
        if self.quotes.len() >= ITEMS_MAX {
            return Err(Fault::TooManyLevels);
        }
        self.quotes.push(quote);
        Ok(())
    }

    /// One level of the part that comes next.
    #[inline]
    pub(crate) fn level(&mut self, side: Side, (price, qty): (i64, i64)) -> Result<(), Fault> {
        if self.levels.len() >= self.levels_max {
            return Err(Fault::TooManyLevels);
        }
        self.levels.push((side, level(price, qty)?));
        Ok(())
    }

    /// The levels since the part before are this part's.
    #[inline]
    pub(crate) fn end_part(&mut self, part: Part) -> Result<(), Fault> {
        if self.parts.len() >= ITEMS_MAX {
            return Err(Fault::TooManyLevels);
        }
        self.parts.push(Part { end: self.levels.len(), ..part });
        Ok(())
    }

    /// Its trades, in the order of the frame.
    #[must_use]
    pub fn trades(&self) -> &[Trade] {
        &self.trades
    }

    /// Its quotes, in the order of the frame.
    #[must_use]
    pub fn quotes(&self) -> &[Quote] {
        &self.quotes
    }

    /// Its books, in the order of the frame, each with its levels.
    pub fn books(&self) -> impl Iterator<Item = (&Part, &[(Side, Level)])> {
        let mut start = 0;
        self.parts.iter().map(move |part| {
            let levels = self.levels.get(start..part.end).unwrap_or_default();
            start = part.end;
            (part, levels)
        })
    }
}
