//! The last word before an order leaves.
//!
//! Risk has its own picture of the market, its own ledger and its own table of open orders, fed by
//! the same events as the strategies. It decides on nothing else, so a decision can be repeated.
//!
//! * `limits`: what is allowed.
//! * `judge`: the checks, in their order, and what each code's numbers mean.
//! * `state`: RUNNING, REDUCING, HALTED, stopped, killed: who may change it and what follows.
//! * `meter`: how often something happens.
//!
//! # What a position is here
//! Limits look at what is held of a *currency*, not at one instrument: what was bought since the
//! start, over every instrument of the venue that trades it. A cycle that buys ETH with BTC and
//! sells it for USDT leaves no position, though each of its instruments has one. For a currency
//! that one instrument trades the two are the same.
//!
//! # Reservations
//! From approval to its end an order counts fully, the open part of it, in every limit and in the
//! free balance. An answer that does not come ([`Answer::Unknown`]) frees nothing.

mod judge;
mod limits;
mod meter;
mod state;
#[cfg(test)]
mod tests;

use alloc::vec;
use alloc::vec::Vec;

pub use limits::{HaltPolicy, Limits, RiskOptions};
pub use state::{RESUME_CLEAR_KILL, RESUME_REBASE, Trigger};

use crate::event::{Event, News, ReportState};
use crate::instrument::InstrumentTable;
use crate::ledger::{Fill, Ledger, Slot, share};
use crate::market::Market;
use crate::order::{Decision, OrderFlags, Proposal, RiskState};
use crate::orders::{Answer, Life, OPEN_MAX, OpenOrders};
use crate::units::{CurrencyId, InstrumentId, Money, OrderId, Seq, Side, StrategyId};
use meter::Meter;

/// A value that risk has passed. Only this module can make one, so an unchecked order is not merely
/// refused by execution: it does not type-check. Not `Clone`: one approval, one order.
#[derive(Debug, PartialEq, Eq)]
pub struct Approved<T>(T);

impl<T> Approved<T> {
    /// The value.
    #[must_use]
    pub const fn get(&self) -> &T {
        &self.0
    }
    /// The value, and the approval is spent.
    #[must_use]
    pub fn into_inner(self) -> T {
        self.0
    }
}

/// What a slot of ORDERS holds.
#[derive(Debug, Default, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing was ever published here.
    #[default]
    Vacant,
    /// Refused: it is recorded and goes nowhere.
    Denied(Decision),
    /// May leave: an order, a cancel, or the news that risk's own state changed.
    Approved(Approved<Decision>),
}

impl Outcome {
    /// The decision, for the journal; `None` for a vacant slot.
    #[must_use]
    pub const fn record(&self) -> Option<&Decision> {
        match self {
            Self::Vacant => None,
            Self::Denied(decision) => Some(decision),
            Self::Approved(approved) => Some(&approved.0),
        }
    }

    /// What may leave.
    #[must_use]
    pub const fn approved(&self) -> Option<&Approved<Decision>> {
        match self {
            Self::Vacant | Self::Denied(_) => None,
            Self::Approved(approved) => Some(approved),
        }
    }
}

/// What an open order takes up: all of it at approval, and the open part's share from then on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Claims {
    /// Base currency that may still be bought or sold.
    base: Money,
    /// What may still be spent: quote and fee of a buy, base of a sell.
    locked: Money,
    /// Value in the engine's currency.
    notional: Money,
}

/// An order that is not over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Open {
    strategy: StrategyId,
    instrument: InstrumentId,
    side: Side,
    flags: OrderFlags,
    life: Life,
    whole: Claims,
    base_slot: Slot,
    spent_slot: Slot,
}

impl Open {
    fn claims(&self) -> Claims {
        let (open, all) = (self.life.open_qty().0, self.life.qty().0);
        let part = |whole| share(whole, open, all);
        Claims {
            base: part(self.whole.base),
            locked: part(self.whole.locked),
            notional: part(self.whole.notional),
        }
    }
}

/// Base currency that open orders may still buy and sell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct OpenSums {
    buy: Money,  // not negative
    sell: Money, // not negative
    /// Whether some instrument trades this currency against others, so that it can be a position.
    is_base: bool,
}

/// What risk counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RiskCounts {
    /// Orders that passed.
    pub approved: u64,
    /// Intents that were refused, cancels included.
    pub denied: u64,
    /// Answers that do not fit the life of their order.
    pub faults: u64,
    /// Fills of orders that are over or unknown; booked all the same.
    pub late_fills: u64,
    /// Fills that could not be booked; each one halts.
    pub unbooked_fills: u64,
    /// Venue reports of a balance that differ from the ledger's.
    pub balance_differences: u64,
}

/// Checks every intent against the limits. One owner, one thread: nothing changes between check
/// and act.
#[derive(Debug)]
pub struct Risk {
    limits: Limits,
    table: InstrumentTable,
    currency: CurrencyId,
    market: Market,
    ledger: Ledger,
    open: OpenOrders<Open>,
    sums: Vec<OpenSums>,  // by slot of the ledger
    open_notional: Money, // of all open orders, in the engine's currency
    last_order: OrderId,  // the highest id that passed
    orders: Meter,
    orders_by_instrument: Vec<Meter>,
    switches: state::Switches,
    counts: RiskCounts,
}

const SECOND_NS: u64 = 1_000_000_000;

impl Risk {
    /// Starts from `options`, in state RUNNING. All memory that risk will ever use is taken here.
    #[must_use]
    pub fn new(table: &InstrumentTable, limits: Limits, options: &RiskOptions) -> Self {
        let ledger = Ledger::new(table, &options.balances);
        let mut sums = vec![OpenSums::default(); ledger.balances().count()];
        for (id, it) in table.iter().filter(|(_, it)| it.base != options.currency) {
            let slot = ledger.base_slot(id).filter(|_| it.base != it.quote);
            if let Some(sums) = slot.and_then(|slot| sums.get_mut(slot.index())) {
                sums.is_base = true;
            }
        }
        let per_second = |limit| Meter::new(limit, Limits::ORDERS_PER_SECOND_MAX, SECOND_NS);
        let each = per_second(limits.max_orders_per_second_instrument);
        Self {
            market: Market::new(table, options.depth),
            ledger,
            open: OpenOrders::new(OPEN_MAX),
            sums,
            open_notional: Money(0),
            last_order: OrderId(0),
            orders: per_second(limits.max_orders_per_second),
            orders_by_instrument: vec![each; table.instruments.len()],
            switches: state::Switches::new(&limits),
            counts: RiskCounts::default(),
            table: table.clone(),
            currency: options.currency,
            limits,
        }
    }

    /// Learns an event. What risk itself decides because of it goes to `out`: changes of its state
    /// and cancels. At most one change and one cancel for each open order.
    pub fn on_event(&mut self, cause: Seq, event: &Event, out: &mut impl FnMut(Outcome)) {
        let news = event.news();
        self.market.on_news(event, &news);
        let mut broken = false;
        match news {
            News::Fill { .. } | News::Report { .. } => broken = !self.on_answer(event, &news),
            News::Balance { venue, currency, total, .. } => {
                let difference = self.ledger.on_balance(venue, currency, total);
                self.counts.balance_differences += u64::from(difference.0 != 0);
            }
            News::Command { verb, argument } => self.on_command(cause, verb, argument, out),
            News::Trade { .. }
            | News::Quote { .. }
            | News::Book { .. }
            | News::Gap { .. }
            | News::Status { .. }
            | News::Timer
            | News::Config { .. }
            | News::Nothing => {}
        }
        if broken {
            self.trigger(cause, Trigger::Ledger, 1, 0, out);
        }
        self.watch(cause, &news, out);
    }

    /// Decides on one intent. An order that passes counts in every limit from here on.
    #[must_use]
    pub fn judge(&mut self, proposal: &Proposal) -> Outcome {
        self.decide(proposal)
    }

    /// Takes in what was heard of an order; whether it could be booked.
    fn on_answer(&mut self, event: &Event, news: &News) -> bool {
        let Some((id, answer)) = Answer::of(news) else {
            return true;
        };
        let mut booked = true;
        if let News::Fill { side, price, qty, fee, .. } = *news {
            // First the money: it moved, whatever the order's life has to say.
            let fill = Fill { instrument: event.instrument, side, price, qty, fee };
            booked = self.ledger.book(&fill).is_ok();
            self.counts.unbooked_fills += u64::from(!booked);
            let known = self.open.get(id);
            let fits = known.is_some_and(|it| it.instrument == fill.instrument && it.side == side);
            if !fits {
                self.counts.late_fills += 1;
                // It is no answer to the order that happens to have this id.
                if known.is_some() {
                    self.counts.faults += 1;
                    return booked;
                }
            }
        }
        if let News::Report { state: ReportState::Rejected, code, .. } = *news {
            self.on_reject(code);
        }
        self.hear(id, answer);
        booked
    }

    fn hear(&mut self, id: OrderId, answer: Answer) {
        // Risk's own denials come back as echoes; the id of a denied cancel may be an open order's.
        if answer == Answer::Denied {
            return;
        }
        let Some(open) = self.open.get_mut(id) else {
            // A cancel that crossed the order's end on the wire is refused: no fault of anyone.
            self.counts.faults += u64::from(answer != Answer::CancelRejected);
            return;
        };
        let before = open.claims();
        self.counts.faults += u64::from(open.life.hear(answer).is_err());
        let open = *open;
        self.reserve(&open, before, open.claims());
        if open.life.is_over() {
            self.open.remove(id);
        }
    }

    /// Puts `after` in the place of `before` in every sum. At approval the sums were checked to
    /// fit; from then on they only shrink.
    fn reserve(&mut self, open: &Open, before: Claims, after: Claims) {
        let difference = |before: Money, after: Money| after.0.saturating_sub(before.0);
        let add = |to: &mut Money, amount: i64| *to = Money(to.0.saturating_add(amount).max(0));
        if let Some(sums) = self.sums.get_mut(open.base_slot.index()) {
            let side = match open.side {
                Side::Buy => &mut sums.buy,
                Side::Sell => &mut sums.sell,
            };
            add(side, difference(before.base, after.base));
        }
        add(&mut self.open_notional, difference(before.notional, after.notional));
        self.ledger.lock(open.spent_slot, Money(difference(before.locked, after.locked)));
    }

    /// What risk knows of the markets.
    #[must_use]
    pub const fn market(&self) -> &Market {
        &self.market
    }

    /// What the accounts hold and what came of it.
    #[must_use]
    pub const fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// The limits in force.
    #[must_use]
    pub const fn limits(&self) -> &Limits {
        &self.limits
    }

    /// The state in force: killed before stopped before the others.
    #[must_use]
    pub const fn state(&self) -> RiskState {
        self.switches.state()
    }

    /// The state that outlives the run: as [`Self::state`], but a stop is forgotten.
    #[must_use]
    pub const fn lasting_state(&self) -> RiskState {
        self.switches.lasting_state()
    }

    /// Orders that passed and are not over.
    #[must_use]
    pub const fn open_orders(&self) -> usize {
        self.open.len()
    }

    /// Where an open order stands; `None` once it is over.
    #[must_use]
    pub fn life(&self, order: OrderId) -> Option<Life> {
        self.open.get(order).map(|it| it.life)
    }

    /// Everything that is owned, in the engine's currency, when it last could be said.
    ///
    /// `None` before every balance had a price. Kept up to date only where a limit needs it: see
    /// [`Ledger::equity`] for now.
    #[must_use]
    pub const fn equity(&self) -> Option<Money> {
        self.switches.equity()
    }

    /// Everything that is owned, in the engine's currency, at this moment's prices. `None` where
    /// something owned has no price. Walks all balances: for reports, not for every event.
    #[must_use]
    pub fn mark_to_market(&self) -> Option<Money> {
        self.ledger.equity(&self.market, self.currency)
    }

    /// What was counted so far.
    #[must_use]
    pub const fn counts(&self) -> RiskCounts {
        self.counts
    }
}
