//! `tri_arb`: triangular arbitrage.
//!
//! On every change of an instrument's touch the cycles through it are priced. One that earns more
//! than `min_profit_threshold`, from prices younger than `max_edge_age_ms`, is traded with limit
//! orders that fill at once or not at all, at the quoted prices. One cycle at a time.
//!
//! | key | default | meaning |
//! |---|---|---|
//! | `min_profit_threshold` | 0.001 | the product of the rates, less one, must be above this |
//! | `max_edge_age_ms` | 50 | age above which a price is no longer acted upon |
//! | `max_leg_notional` | 1000 | most that one cycle may give, in the engine's currency |
//! | `max_unhedged_ms` | 500 | time within which what a broken cycle left must be closed |
//! | `leg_mode` | sequence | `sequence`: the next leg when the one before has filled; `parallel` |
//! | `fee_bps` | | fee of each leg; without it the instrument's taker fee |
//!
//! In `sequence` each leg trades what the one before really gave, so nothing is ever short. In
//! `parallel` all legs go at once, which needs a balance in all three currencies. When the legs
//! are over, whatever is left (or missing) of the two currencies in between is turned back into
//! the first one by market orders. How a cycle ended, what it was to make and what it made stand in
//! the journal as a decision with the action `result`, under the `tag` of its orders.
//!
//! # Limits
//! What is smaller than the venue's minimum stays where it is. An unwinding order that is refused
//! is repeated, [`UNWINDS_MAX`] times in all; then the cycle is given up and counted.

use alloc::boxed::Box;
use alloc::vec::Vec;

use crate::accounts::base_amount;
use crate::event::{Event, Flags, News, ReportState};
use crate::instrument::InstrumentTable;
use crate::order::{OrderFlags, Reason, RiskState, TimeInForce};
use crate::params::Problem;
use crate::strategy::triangle::{
    Cycle, Cycles, Leg, Plan, Priced, continue_with, earns_more_than, plan, quantity_getting,
};
use crate::strategy::{Context, Place, Strategy, StrategySpec};
use crate::units::{CurrencyId, InstrumentId, Money, Nanos, OrderId, Price, Qty};

/// Most unwinding orders of one cycle.
pub const UNWINDS_MAX: u32 = 16;
/// Wait after an unwinding order that did nothing, and after a first leg that was refused: 100 ms
/// give sixteen attempts within two seconds.
const RETRY_NS: u64 = 100_000_000;
const MILLISECOND_NS: u64 = 1_000_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LegMode {
    Sequence,
    Parallel,
}

#[derive(Clone, Copy, Debug)]
struct Settings {
    threshold_ppm: u32,
    edge_age_ns: u64,
    leg_notional: Money, // positive, in the engine's currency
    unhedged_ns: u64,
    mode: LegMode,
    fee_ppm: Option<u32>,
}

/// What the strategy has done, since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TriArbCounts {
    /// Times that a cycle earned enough and all its prices were young enough.
    pub found: i64,
    /// Of these, not traded because no size fitted all legs.
    pub too_small: i64,
    /// Cycles begun.
    pub begun: i64,
    /// Cycles that ended as planned: nothing was left to unwind.
    pub complete: i64,
    /// Cycles whose first leg found nothing any more.
    pub missed: i64,
    /// Cycles that needed unwinding.
    pub unwound: i64,
    /// Of these, still open after `max_unhedged_ms`.
    pub late: i64,
    /// Of these, given up with something left.
    pub given_up: i64,
    /// Sum of the profits planned, in units of 1e-8 of the engine's currency.
    pub expected: i64,
    /// Sum of the profits made, in the same unit.
    pub realised: i64,
}

/// See the module.
#[derive(Clone, Debug)]
pub struct TriArb {
    settings: Settings,
    cycles: Cycles,
    running: Option<Running>,
    number: u16,
    not_before: Nanos,
    counts: TriArbCounts,
}

/// A cycle under way.
#[derive(Clone, Copy, Debug)]
struct Running {
    legs: [Leg; 3],
    prices: [Price; 3],
    qty: [Qty; 3],
    /// The order of each leg, once it is sent and until it is over.
    orders: [Option<OrderId>; 3],
    /// Legs sent so far.
    sent: usize,
    unwind: Option<OrderId>,
    unwinds: u32,
    retry_at: Nanos,
    /// What fills have moved, by the currency that each leg starts from.
    net: [i64; 3],
    /// When the first fill came: from then on something is at stake.
    exposed_at: Option<Nanos>,
    late: bool,
    number: u16,
    expected: Money,
}

impl TriArb {
    /// Reads the parameters and finds the cycles.
    ///
    /// # Errors
    /// Every parameter that breaks its rule; instruments without any triangle, or with more
    /// currencies than [`crate::strategy::triangle::CURRENCIES_MAX`].
    pub fn new(spec: &StrategySpec, table: &InstrumentTable) -> Result<Self, Vec<Problem>> {
        let mut read = spec.params.read();
        let ppm = |it: i64| u32::try_from(it).unwrap_or(0);
        let modes = [("sequence", LegMode::Sequence), ("parallel", LegMode::Parallel)];
        let has_fee = spec.params.0.contains_key("fee_bps");
        let fee_ppm = ppm(read.bps_as_ppm("fee_bps", 0, 0..=999_999));
        let settings = Settings {
            threshold_ppm: ppm(read.fraction_ppm("min_profit_threshold", 1_000, 0..=1_000_000)),
            edge_age_ns: read.duration("max_edge_age_ms", 50 * MILLISECOND_NS, MILLISECOND_NS),
            leg_notional: Money(read.decimal(
                "max_leg_notional",
                8,
                100_000_000_000,
                1..=100_000_000_000_000_000,
            )),
            unhedged_ns: read.duration("max_unhedged_ms", 500 * MILLISECOND_NS, MILLISECOND_NS),
            mode: read.choice("leg_mode", LegMode::Sequence, &modes),
            fee_ppm: has_fee.then_some(fee_ppm),
        };
        let cycles = Cycles::find(table, &spec.instruments).unwrap_or_else(|(_, found)| {
            read.object("instruments", found, "at most 16 currencies of one venue");
            Cycles::default()
        });
        if cycles.all().is_empty() {
            let rule = "three instruments of one venue must join three currencies";
            read.object("instruments", spec.instruments.len(), rule);
        }
        read.finish()?;
        Ok(Self {
            settings,
            cycles,
            running: None,
            number: 0,
            not_before: Nanos(0),
            counts: TriArbCounts::default(),
        })
    }

    /// The constructor of the registry.
    pub(crate) fn build(
        spec: &StrategySpec,
        table: &InstrumentTable,
    ) -> Result<Box<dyn Strategy>, Vec<Problem>> {
        Self::new(spec, table).map(|it| -> Box<dyn Strategy> { Box::new(it) })
    }

    /// Looks for a cycle through `changed` that earns enough, and begins the first one that can be
    /// sized.
    fn search(&mut self, changed: InstrumentId, cx: &mut Context<'_>) {
        if cx.now() < self.not_before {
            return;
        }
        for place in 0..self.cycles.count_through(changed) {
            let Some(cycle) = self.cycles.nth_through(changed, place) else {
                return;
            };
            let Some(legs) = priced(&cycle, &self.settings, cx) else {
                continue;
            };
            if !earns_more_than(&legs, self.settings.threshold_ppm) {
                continue;
            }
            self.counts.found += 1;
            let Some((legs, plan)) = sized(&cycle, &self.settings, cx) else {
                self.counts.too_small += 1;
                continue;
            };
            let running = Running::new(&legs, &plan);
            self.begin(running, cx);
            return;
        }
    }

    fn begin(&mut self, mut running: Running, cx: &mut Context<'_>) {
        let needed = match self.settings.mode {
            LegMode::Sequence => 1,
            LegMode::Parallel => 3,
        };
        if cx.room() < needed {
            return;
        }
        self.number = self.number.wrapping_add(1);
        running.number = self.number;
        for _ in 0..needed {
            running.send_leg(cx);
        }
        if running.orders.iter().all(Option::is_none) {
            self.not_before = cx.now().plus(RETRY_NS);
            return;
        }
        self.counts.begun += 1;
        self.running = Some(running);
    }

    /// Moves the running cycle on as far as it goes now.
    fn advance(&mut self, cx: &mut Context<'_>) {
        let Some(mut running) = self.running else {
            return;
        };
        // What ends must find room to say how.
        if cx.room() == 0 {
            return;
        }
        self.watch(&mut running, cx);
        let over = running.step(self.settings.fee_ppm, cx);
        self.running = Some(running);
        if let Some(left) = over {
            self.end(&running, left, cx);
        }
    }

    /// Cancels what is still open after the time in which a cycle must be closed.
    fn watch(&mut self, running: &mut Running, cx: &mut Context<'_>) {
        let exposed = running.exposed_at.map_or(0, |it| cx.now().since(it));
        if exposed <= self.settings.unhedged_ns {
            return;
        }
        if !running.late {
            running.late = true;
            self.counts.late += 1;
        }
        for id in running.orders.into_iter().chain([running.unwind]).flatten() {
            cx.cancel(id, Reason::Unwind);
        }
    }

    fn end(&mut self, running: &Running, left: Left, cx: &mut Context<'_>) {
        self.running = None;
        let [first, ..] = running.legs;
        let worth = |amount: Money| {
            let converted = cx.market().convert(amount, first.from, cx.currency());
            converted.unwrap_or(Money(0))
        };
        let (realised, expected) = (worth(Money(running.net[0])), worth(running.expected));
        let reason = if running.unwinds > 0 { Reason::Unwind } else { Reason::Leg };
        cx.result(first.instrument, realised, expected, reason, running.number);
        if running.exposed_at.is_none() {
            self.counts.missed += 1;
            self.not_before = cx.now().plus(RETRY_NS);
            return;
        }
        match (left, running.unwinds) {
            (Left::Something, _) => self.counts.given_up += 1,
            (Left::Nothing, 0) => self.counts.complete += 1,
            (Left::Nothing, _) => self.counts.unwound += 1,
        }
        self.counts.expected = self.counts.expected.saturating_add(expected.0);
        self.counts.realised = self.counts.realised.saturating_add(realised.0);
    }
}

/// The legs of a cycle at the present prices; `None` where one is unknown, untrusted or too old.
fn priced<'a>(cycle: &Cycle, settings: &Settings, cx: &'a Context<'_>) -> Option<[Priced<'a>; 3]> {
    let [a, b, c] = cycle.legs;
    let price = |leg: Leg| {
        let touch = cx.touch(leg.instrument)?;
        let fresh = cx.now().since(touch.at) < settings.edge_age_ns;
        (fresh && cx.market().is_valid(leg.instrument)).then_some(())?;
        let instrument = cx.instrument(leg.instrument)?;
        let fee = settings.fee_ppm.unwrap_or_else(|| fee_of(instrument));
        Some(Priced::new(leg, instrument, &touch, fee))
    };
    Some([price(a)?, price(b)?, price(c)?])
}

/// A rebate is no promise: it counts as no fee.
fn fee_of(instrument: &crate::instrument::Instrument) -> u32 {
    u32::try_from(instrument.taker_fee_ppm).unwrap_or(0)
}

/// Begins the cycle where it can be sized: at the engine's currency if it runs through that, else
/// at the first currency of which enough is there.
fn sized<'a>(
    cycle: &Cycle,
    settings: &Settings,
    cx: &'a Context<'_>,
) -> Option<([Priced<'a>; 3], Plan)> {
    let own = cycle.legs.iter().position(|it| it.from == cx.currency());
    let start = own.unwrap_or(0);
    (start..start + 3).find_map(|by| {
        let legs = priced(&cycle.rotated(by), settings, cx)?;
        let [first, ..] = &legs;
        let limit = cx.market().convert(settings.leg_notional, cx.currency(), first.leg.from)?;
        let there = |leg: &Priced<'_>| cx.available(leg.instrument.venue, leg.leg.from);
        let plan = plan(&legs, there(first).min(limit))?;
        let covered = match settings.mode {
            LegMode::Sequence => true,
            LegMode::Parallel => {
                legs.iter().zip(plan.spends).all(|(it, spends)| spends <= there(it))
            }
        };
        // Rounding down to lots may have eaten the profit.
        (covered && plan.profit > Money(0)).then_some((legs, plan))
    })
}

/// Whether a cycle that is over left something behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Left {
    Nothing,
    Something,
}

impl Running {
    fn new(legs: &[Priced<'_>; 3], plan: &Plan) -> Self {
        Self {
            legs: legs.map(|it| it.leg),
            prices: legs.map(|it| it.price),
            qty: plan.qty,
            orders: [None; 3],
            sent: 0,
            unwind: None,
            unwinds: 0,
            retry_at: Nanos(0),
            net: [0; 3],
            exposed_at: None,
            late: false,
            number: 0,
            expected: plan.profit,
        }
    }

    fn owns(&self, order: OrderId) -> bool {
        self.orders.contains(&Some(order)) || self.unwind == Some(order)
    }

    /// Sends the next leg with its planned quantity.
    fn send_leg(&mut self, cx: &mut Context<'_>) {
        let place = self.sent;
        let (Some(leg), Some(price), Some(qty)) =
            (self.legs.get(place), self.prices.get(place), self.qty.get(place))
        else {
            return;
        };
        let wish =
            Place::limit(leg.instrument, leg.side, *qty, *price, TimeInForce::Ioc, Reason::Leg);
        let order = cx.place(wish.tag(self.number));
        if let Some(slot) = self.orders.get_mut(place) {
            *slot = order;
        }
        self.sent += 1;
    }

    /// Books a fill of one of the cycle's orders.
    fn on_fill(&mut self, base: (CurrencyId, Money), quote: (CurrencyId, Money), now: Nanos) {
        self.exposed_at = self.exposed_at.or(Some(now));
        for (net, leg) in self.net.iter_mut().zip(self.legs) {
            for (currency, amount) in [base, quote] {
                if leg.from == currency {
                    *net = net.saturating_add(amount.0);
                }
            }
        }
    }

    /// Goes on where orders are over: the next leg, else unwinding. Tells when the cycle is over.
    fn step(&mut self, fee_ppm: Option<u32>, cx: &mut Context<'_>) -> Option<Left> {
        for slot in self.orders.iter_mut().chain([&mut self.unwind]) {
            if slot.is_some_and(|id| cx.order(id).is_none()) {
                *slot = None;
            }
        }
        if self.orders.iter().any(Option::is_some) || self.unwind.is_some() {
            return None;
        }
        let unwinding = 0 < self.unwinds;
        if !unwinding && self.sent < 3 && self.prepare_leg(fee_ppm, cx) {
            self.send_leg(cx);
            if self.orders.iter().any(Option::is_some) {
                return None;
            }
        }
        // A leg that could not go is the end of the legs.
        self.sent = 3;
        self.unwind(fee_ppm, cx)
    }

    /// Sets the next leg's quantity to what the legs before really gave.
    fn prepare_leg(&mut self, fee_ppm: Option<u32>, cx: &Context<'_>) -> bool {
        let place = self.sent;
        let (Some(&leg), Some(&price), Some(&amount)) =
            (self.legs.get(place), self.prices.get(place), self.net.get(place))
        else {
            return false;
        };
        let Some(instrument) = cx.instrument(leg.instrument) else {
            return false;
        };
        let priced = Priced {
            leg,
            instrument,
            price,
            offered: Qty(i64::MAX),
            fee_ppm: fee_ppm.unwrap_or_else(|| fee_of(instrument)),
        };
        let qty = continue_with(&priced, Money(amount));
        match (qty, self.qty.get_mut(place)) {
            (Some(qty), Some(slot)) => {
                *slot = qty;
                true
            }
            _ => false,
        }
    }

    /// Turns what is left of the two currencies in between back into the first one.
    fn unwind(&mut self, fee_ppm: Option<u32>, cx: &mut Context<'_>) -> Option<Left> {
        let Some(place) = self.next_unwind(fee_ppm, cx) else {
            return Some(Left::Nothing);
        };
        if self.unwinds >= UNWINDS_MAX {
            return Some(Left::Something);
        }
        if cx.now() < self.retry_at {
            return None;
        }
        // While risk lets only exits pass, an unwinding order must say that it is one. In RUNNING it
        // tries both ways in turn: change left by earlier cycles can make it more than an exit.
        let as_exit = cx.risk_state() != RiskState::Running || self.unwinds % 2 == 1;
        let flags = if as_exit { OrderFlags::REDUCE_ONLY } else { OrderFlags::NONE };
        self.unwind = cx.place(place.tag(self.number).flags(flags));
        self.unwinds += 1;
        self.retry_at = cx.now().plus(RETRY_NS);
        None
    }

    /// The market order that closes the larger part of what is open, if the venue would take it.
    fn next_unwind(&self, fee_ppm: Option<u32>, cx: &Context<'_>) -> Option<Place> {
        let [first, _, last] = self.legs;
        // The second currency came over the first leg and goes back over it; the third one goes on
        // over the last leg. Each joins its currency to the first.
        let ways = [(self.net[1], first, true), (self.net[2], last, false)];
        ways.into_iter().find_map(|(amount, leg, back)| {
            let instrument = cx.instrument(leg.instrument)?;
            let giving = amount > 0;
            let leg = if back == giving { leg.reversed() } else { leg };
            let touch = cx.touch(leg.instrument)?;
            let fee = fee_ppm.unwrap_or_else(|| fee_of(instrument));
            let priced = Priced::new(leg, instrument, &touch, fee);
            let qty = if giving {
                continue_with(&priced, Money(amount))
            } else if amount < 0 {
                quantity_getting(&priced, Money(amount.saturating_neg()))
            } else {
                None
            }?;
            Some(Place::market(leg.instrument, leg.side, qty, Reason::Unwind))
        })
    }
}

impl Strategy for TriArb {
    fn on_event(&mut self, event: &Event, cx: &mut Context<'_>) {
        match event.news() {
            News::Fill { order, side, price, qty, fee, .. } => {
                if let (Some(running), Some(it)) =
                    (&mut self.running, cx.instrument(event.instrument))
                    && running.owns(order)
                {
                    let sign = side.sign();
                    let value = it.notional(price, qty).unwrap_or(Money(i64::MAX));
                    let base = base_amount(it, qty).0.saturating_mul(sign);
                    let quote = value.0.saturating_mul(sign).saturating_add(fee.0);
                    let quote = quote.saturating_neg();
                    if running.unwind == Some(order) {
                        // It works: what is left need not wait.
                        running.retry_at = Nanos(0);
                    }
                    running.on_fill((it.base, Money(base)), (it.quote, Money(quote)), cx.now());
                }
            }
            News::Report { state: ReportState::Denied | ReportState::Rejected, .. } => {
                self.not_before = cx.now().plus(RETRY_NS)
            }
            News::Book { flags, .. } if !flags.has(Flags::LAST) => return,
            News::Trade { .. }
            | News::Quote { .. }
            | News::Book { .. }
            | News::Gap { .. }
            | News::Status { .. }
            | News::Timer
            | News::Command { .. }
            | News::Report { .. }
            | News::Balance { .. }
            | News::Config { .. }
            | News::Nothing => {}
        }
        if self.running.is_some() {
            self.advance(cx);
        }
        if self.running.is_none()
            && let News::Quote { .. } | News::Book { .. } = event.news()
        {
            self.search(event.instrument, cx);
        }
    }

    fn counters(&self, out: &mut dyn FnMut(&'static str, i64)) {
        let it = &self.counts;
        out("cycles_found", it.found);
        out("cycles_too_small", it.too_small);
        out("cycles_begun", it.begun);
        out("cycles_complete", it.complete);
        out("cycles_missed", it.missed);
        out("cycles_unwound", it.unwound);
        out("cycles_late", it.late);
        out("cycles_given_up", it.given_up);
        out("profit_expected_e8", it.expected);
        out("profit_realised_e8", it.realised);
    }
}

#[cfg(test)]
mod tests;
