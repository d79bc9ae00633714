//! What a taker would find: the venue's own copy of one instrument's book, and the newest quote.

use kairos_logic::book::Book;
use kairos_logic::event::Flags;
use kairos_logic::instrument::Instrument;
use kairos_logic::units::{Money, Price, Qty, Side};

/// One side of the newest quote.
#[derive(Clone, Copy, Default)]
struct Top {
    price: Price,
    /// What market data showed there.
    shown: Qty,
    /// What is left of it after our own takers. In `[0, shown]`.
    left: Qty,
}

/// A copy of the market that our orders consume: what a taker swept stays gone until market data
/// states another quantity for that level.
///
/// Book updates come in batches, quotes at once. So the newer of the two leads: after a quote the
/// levels better than it are taken to be gone, and its size stands for its price.
pub(super) struct Liquidity {
    book: Book,
    tops: [Top; 2],
    quote_leads: bool,
}

/// What an order would find within its limit.
pub(super) struct Sweep {
    /// How much of the order would trade.
    pub filled: Qty,
    /// What it would pay or get before fees, each level rounded as its fill is.
    pub value: Money,
    /// The taker fees on that.
    pub fee: Money,
}

const fn place(side: Side) -> usize {
    match side {
        Side::Buy => 0,
        Side::Sell => 1,
    }
}

/// Whether `price` is at or better than `limit` for somebody of `taker`'s side who trades there.
pub(super) const fn within(taker: Side, price: Price, limit: Price) -> bool {
    match taker {
        Side::Buy => price.0 <= limit.0,
        Side::Sell => price.0 >= limit.0,
    }
}

impl Liquidity {
    pub(super) fn new(depth: usize) -> Self {
        Self { book: Book::new(depth), tops: [Top::default(); 2], quote_leads: false }
    }

    /// Takes over a quote. A side that it merely repeats keeps what our takers left of it.
    pub(super) fn quote(&mut self, bid: (Price, Qty), ask: (Price, Qty)) {
        for (top, (price, shown)) in self.tops.iter_mut().zip([bid, ask]) {
            if (top.price, top.shown) != (price, shown) {
                *top = Top { price, shown, left: shown };
            }
        }
        self.quote_leads = true;
    }

    /// Takes over one level. Returns whether it completed a change after which the book is valid.
    pub(super) fn level(&mut self, side: Side, price: Price, qty: Qty, flags: Flags) -> bool {
        let top = self.tops[place(side)];
        // The stream of quotes told of this size first; what was taken of it then is still gone.
        let qty = if (top.price, top.shown) == (price, qty) { top.left } else { qty };
        let applied = self.book.apply(side, price, qty, flags).is_ok();
        let complete = flags.has(Flags::LAST) && applied && self.book.is_valid();
        if complete {
            self.quote_leads = false;
        }
        complete
    }

    /// Forgets everything: nothing can trade until the next quote or complete snapshot.
    pub(super) fn forget(&mut self) {
        self.book.invalidate();
        self.tops = [Top::default(); 2];
        self.quote_leads = false;
    }

    /// The best price of `side` with what is left there.
    pub(super) fn best(&self, side: Side) -> Option<(Price, Qty)> {
        self.levels(side).next()
    }

    /// What is left of `side`, best price first.
    pub(super) fn levels(&self, side: Side) -> impl Iterator<Item = (Price, Qty)> {
        let top = self.tops[place(side)];
        let quoted = self.quote_leads.then_some(top);
        let empty = quoted.is_some_and(|top| top.shown.0 == 0);
        let book = self.book.levels(side).map(|level| (level.price, level.qty)).filter(
            move |&(price, _)| {
                // Levels at or better than the quote are what the quote has replaced.
                quoted.is_none_or(|top| price != top.price && within(side, price, top.price))
            },
        );
        let book = (self.book.is_valid() && !empty).then_some(book);
        quoted
            .map(|top| (top.price, top.left))
            .into_iter()
            .chain(book.into_iter().flatten())
            .filter(|&(_, left)| left.0 > 0)
    }

    /// What is displayed at exactly this price; `None` where that is not known.
    pub(super) fn displayed(&self, side: Side, price: Price) -> Option<Qty> {
        let top = self.tops[place(side)];
        if self.quote_leads {
            if price == top.price {
                return Some(top.left);
            }
            if !within(side, price, top.price) {
                return Some(Qty(0)); // better than the best
            }
        }
        self.book.is_valid().then(|| self.book.qty_at(side, price))
    }

    /// Removes what an order of ours took.
    pub(super) fn take(&mut self, side: Side, price: Price, qty: Qty) {
        let top = &mut self.tops[place(side)];
        if top.price == price {
            top.left = Qty((top.left.0 - qty.0).max(0));
        }
        self.book.take(side, price, qty);
    }

    /// What an order of `taker`'s side would find within `limit`, without touching anything.
    /// `None` where a value does not fit its integer.
    pub(super) fn sweep(
        &self,
        instrument: &Instrument,
        taker: Side,
        limit: Price,
        qty: Qty,
    ) -> Option<Sweep> {
        let mut sweep = Sweep { filled: Qty(0), value: Money(0), fee: Money(0) };
        for (price, left) in self.levels(taker.opposite()) {
            let rest = qty.0 - sweep.filled.0;
            if rest <= 0 || !within(taker, price, limit) {
                break;
            }
            let part = Qty(left.0.min(rest));
            let value = instrument.notional(price, part).ok()?;
            let fee = instrument.fee(value, false).ok()?;
            sweep.filled.0 += part.0;
            sweep.value.0 = sweep.value.0.checked_add(value.0)?;
            sweep.fee.0 = sweep.fee.0.checked_add(fee.0)?;
        }
        Some(sweep)
    }
}
