//! The strategies' side of the engine: tells each strategy what concerns it and collects wishes.
//!
//! The desk keeps what strategies may look at (markets, their positions, balances, open orders)
//! and issues order ids. It knows nothing of limits: that is risk's business.

use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;
use core::fmt;

use crate::accounts::{Accounts, Fill, base_amount};
use crate::code::Code;
use crate::event::{Event, News, ReportState, StatusCode, Verb};
use crate::instrument::{Instrument, InstrumentTable};
use crate::market::Market;
use crate::order::{
    Action, Intent, Intents, OrderFlags, OrderType, Reason, RiskState, TimeInForce,
};
use crate::orders::{Answer, Life, OpenOrders};
use crate::params::Problem;
use crate::strategy::{Context, Place, Registry, Strategy, StrategySpec};
use crate::units::{
    CurrencyId, InstrumentId, Money, Nanos, OrderId, Price, Qty, Side, StrategyId, VenueId,
    div_round,
};

/// Most orders that all strategies together may have open, wishes on their way included.
pub const ORDERS_MAX: usize = 1_024;
/// Ended orders that are remembered, so that a fill which comes after the end (a cancel and a
/// fill crossed on the wire) still reaches the position of the strategy that ordered it.
const ENDED_MAX: usize = 1_024;
/// Wait after a refused cancel. Without it a refusal would cause the next try, which is refused.
const CANCEL_RETRY_NS: u64 = 100_000_000;

/// What a desk is made with.
#[derive(Clone, Debug, Default)]
pub struct DeskOptions {
    /// Number of this run: the high bits of every order id.
    pub run: u64,
    /// Levels a side of each book; see [`crate::book::Book::new`].
    pub depth: usize,
    /// The currency in which limits are expressed.
    pub currency: CurrencyId,
    /// What is owned at the start.
    pub balances: Vec<(VenueId, CurrencyId, Money)>,
}

/// An order of a strategy, from wish to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenOrder {
    /// Its id.
    pub id: OrderId,
    /// Who wished for it.
    pub strategy: StrategyId,
    /// Of what.
    pub instrument: InstrumentId,
    /// Buy or sell.
    pub side: Side,
    /// Market or limit.
    pub order_type: OrderType,
    /// The limit that was wished for; 0 for market orders.
    pub price: Price,
    /// How long it lives.
    pub tif: TimeInForce,
    /// Reduce-only, post-only.
    pub flags: OrderFlags,
    /// Why.
    pub reason: Reason,
    /// The strategy's own number.
    pub tag: u16,
    /// Logic's time of the wish.
    pub placed_at: Nanos,
    /// How far it has come, and what of it is open.
    pub life: Life,
    /// Whether a cancel is on its way.
    pub cancelling: bool,
    /// What is set aside for it, of the currency that it spends.
    reserved: Money,
    /// When the next cancel may be tried, after one that was refused.
    cancel_from: Nanos,
}

/// Whether an order of this reason adds to what a strategy has at stake.
const fn is_entry(reason: Reason) -> bool {
    match reason {
        Reason::Entry | Reason::Quote | Reason::Requote | Reason::Leg => true,
        Reason::Exit | Reason::Unwind | Reason::Stale | Reason::Risk | Reason::Operator => false,
    }
}

/// What the desk counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DeskCounts {
    /// Wishes that were refused here: no room, not the strategy's instrument, nothing positive.
    pub refused: u64,
    /// Answers that do not fit the life of their order.
    pub faults: u64,
    /// Fills of orders that no strategy is known to have wished for.
    pub orphan_fills: u64,
}

/// Everything of a desk but the strategies themselves: what a [`Context`] shows.
#[derive(Debug)]
pub struct DeskState {
    pub(crate) table: InstrumentTable,
    pub(crate) market: Market,
    pub(crate) accounts: Accounts,
    pub(crate) orders: OpenOrders<OpenOrder>,
    pub(crate) currency: CurrencyId,
    pub(crate) risk_state: RiskState,
    run: u64,
    counter: u64,
    ended: Vec<(OrderId, StrategyId)>,
    ended_next: usize,
    /// By strategy: whether it is on, and by instrument whether it trades that.
    seats: Vec<SeatState>,
    counts: DeskCounts,
}

#[derive(Debug)]
struct SeatState {
    enabled: bool,
    trades: Vec<bool>,
}

impl DeskState {
    pub(crate) fn place(
        &mut self,
        strategy: StrategyId,
        place: Place,
        intents: &mut Intents,
    ) -> Option<OrderId> {
        let order = self.admit(strategy, &place);
        let Some(mut order) = order.filter(|_| intents.room() > 0 && !self.orders.is_full()) else {
            self.counts.refused += 1;
            return None;
        };
        self.counter += 1;
        order.id = OrderId::new(self.run, self.counter);
        order.reserved = self.spending(&order);
        if self.orders.insert(order.id, order).is_err() {
            self.counts.refused += 1;
            return None;
        }
        self.accounts.reserve(order.instrument, order.side, order.reserved.0);
        intents.push(Intent {
            order: order.id,
            price: place.price,
            qty: order.life.qty(),
            instrument: place.instrument,
            strategy,
            action: Action::Place,
            side: place.side,
            order_type: place.order_type,
            tif: place.tif,
            flags: place.flags,
            reason: place.reason,
            confidence: place.confidence.min(10_000),
            tag: place.tag,
        });
        Some(order.id)
    }

    fn admit(&self, strategy: StrategyId, place: &Place) -> Option<OpenOrder> {
        let seat = self.seats.get(strategy.index())?;
        let trades = seat.trades.get(place.instrument.index()).copied();
        if !trades.unwrap_or(false) || (!seat.enabled && is_entry(place.reason)) {
            return None;
        }
        let qty = nearest_lot(self.table.instrument(place.instrument)?, place.qty);
        let priced = match place.order_type {
            OrderType::Market => true,
            OrderType::Limit => place.price.0 > 0,
        };
        (qty.0 > 0 && priced).then_some(OpenOrder {
            id: OrderId(0),
            strategy,
            instrument: place.instrument,
            side: place.side,
            order_type: place.order_type,
            price: place.price,
            tif: place.tif,
            flags: place.flags,
            reason: place.reason,
            tag: place.tag,
            placed_at: self.market.now(),
            life: Life::new(qty),
            cancelling: false,
            reserved: Money(0),
            cancel_from: Nanos(0),
        })
    }

    /// What an order may spend: base when it sells; quote and the taker's fee when it buys.
    fn spending(&self, order: &OpenOrder) -> Money {
        let Some(instrument) = self.table.instrument(order.instrument) else {
            return Money(0);
        };
        let qty = order.life.open_qty();
        match order.side {
            Side::Sell => base_amount(instrument, qty),
            Side::Buy => {
                let price = match order.order_type {
                    OrderType::Limit => order.price,
                    OrderType::Market => {
                        self.market.touch(order.instrument).map_or(Price(0), |it| it.ask)
                    }
                };
                let value = instrument.notional(price, qty).unwrap_or(Money(i64::MAX));
                let fee = instrument.fee(value, false).unwrap_or(Money(0));
                Money(value.0.saturating_add(fee.0.max(0)))
            }
        }
    }

    pub(crate) fn cancel(
        &mut self,
        strategy: StrategyId,
        id: OrderId,
        reason: Reason,
        intents: &mut Intents,
    ) -> bool {
        let now = self.market.now();
        let Some(order) = self.orders.get_mut(id) else {
            return false;
        };
        order.strategy == strategy && cancel(order, reason, now, intents)
    }

    pub(crate) fn cancel_where(
        &mut self,
        reason: Reason,
        intents: &mut Intents,
        which: impl Fn(&OpenOrder) -> bool,
    ) {
        let now = self.market.now();
        self.orders.retain(|_, order| {
            if which(order) {
                cancel(order, reason, now, intents);
            }
            true
        });
    }

    /// Takes in what an event says about orders and accounts; tells whose order it was.
    fn on_news(&mut self, event: &Event, news: &News) -> Option<StrategyId> {
        if let News::Balance { venue, currency, total, .. } = *news {
            self.accounts.on_balance(venue, currency, total);
        }
        let (id, answer) = Answer::of(news)?;
        let owner = self.owner_of(id);
        if let News::Fill { side, price, qty, fee, .. } = *news {
            if owner.is_none() {
                self.counts.orphan_fills += 1;
            }
            let fill = Fill { side, price, qty, fee };
            if let Some(instrument) = self.table.instrument(event.instrument) {
                self.accounts.on_fill(owner, event.instrument, instrument, &fill);
            }
        }
        self.on_answer(id, answer, news);
        owner
    }

    fn on_answer(&mut self, id: OrderId, answer: Answer, news: &News) {
        let retry_at = self.market.now().plus(CANCEL_RETRY_NS);
        let Some(order) = self.orders.get_mut(id) else {
            // A cancel that crossed the order's end on the wire is refused: no fault of anyone.
            self.counts.faults += u64::from(answer != Answer::CancelRejected);
            return;
        };
        if is_denied_cancel(order, news) {
            order.cancelling = false;
            order.cancel_from = retry_at;
            return;
        }
        let before = order.life.open_qty();
        if order.life.hear(answer).is_err() {
            self.counts.faults += 1;
        }
        if answer == Answer::CancelRejected {
            order.cancelling = false;
            order.cancel_from = retry_at;
        }
        let left = order.life.open_qty();
        // What is set aside shrinks with what is open, and is nothing at the end.
        let reserved = Money(share(order.reserved.0, left.0, before.0));
        let freed = order.reserved.0 - reserved.0;
        order.reserved = reserved;
        let order = *order;
        self.accounts.reserve(order.instrument, order.side, freed.saturating_neg());
        if order.life.is_over() {
            self.orders.remove(id);
            self.remember(id, order.strategy);
        }
    }

    fn remember(&mut self, id: OrderId, strategy: StrategyId) {
        if let Some(slot) = self.ended.get_mut(self.ended_next) {
            *slot = (id, strategy);
        }
        self.ended_next = (self.ended_next + 1) % ENDED_MAX;
    }

    fn owner_of(&self, id: OrderId) -> Option<StrategyId> {
        let ended = || self.ended.iter().find(|it| it.0 == id).map(|it| it.1);
        self.orders.get(id).map(|it| it.strategy).or_else(ended)
    }

    fn on_control(&mut self, news: &News) {
        match *news {
            News::Status { code, .. } => {
                self.risk_state = match code {
                    StatusCode::RiskRunning => RiskState::Running,
                    StatusCode::RiskCooldown => RiskState::Cooldown,
                    StatusCode::RiskHalted => RiskState::Halted,
                    StatusCode::RiskReducing => RiskState::Reducing,
                    StatusCode::RiskStopped => RiskState::Stopped,
                    StatusCode::Connected
                    | StatusCode::Disconnected
                    | StatusCode::Resync
                    | StatusCode::Malformed
                    | StatusCode::Dropped
                    | StatusCode::EndOfCapture
                    | StatusCode::LinkUp
                    | StatusCode::LinkDown
                    | StatusCode::LinkRefused
                    | StatusCode::LinkReplaced
                    | StatusCode::RateLimited
                    | StatusCode::Banned
                    | StatusCode::FetchFailed
                    | StatusCode::Said
                    | StatusCode::VenueError
                    | StatusCode::Listed
                    | StatusCode::LinkFrames
                    | StatusCode::LinkBytes
                    | StatusCode::LinkEvents
                    | StatusCode::LinkMalformed
                    | StatusCode::LinkGaps
                    | StatusCode::LinkResyncs
                    | StatusCode::LinkReconnects
                    | StatusCode::LinkAge => return,
                }
            }
            News::Command { verb, argument } => self.on_command(verb, argument),
            News::Trade { .. }
            | News::Quote { .. }
            | News::Book { .. }
            | News::Gap { .. }
            | News::Timer
            | News::Fill { .. }
            | News::Report { .. }
            | News::Balance { .. }
            | News::Config { .. }
            | News::Nothing => {}
        }
    }

    /// A command reaches risk with the same event: what it will do to risk's state is known here
    /// at once. It errs on the careful side: whether a resume was granted, and what became of a
    /// kill, is told by the status that follows.
    fn on_command(&mut self, verb: Verb, argument: i64) {
        let last = matches!(self.risk_state, RiskState::Stopped | RiskState::Killed);
        match verb {
            Verb::Kill => self.risk_state = RiskState::Killed,
            Verb::Stop if self.risk_state != RiskState::Killed => {
                self.risk_state = RiskState::Stopped;
            }
            Verb::Halt if !last => self.risk_state = RiskState::Halted,
            // REDUCING is no way out of HALTED, here as in risk.
            Verb::Reduce if !last && self.risk_state != RiskState::Halted => {
                self.risk_state = RiskState::Reducing;
            }
            Verb::StrategyEnable => self.switch(argument, true),
            Verb::StrategyDisable => self.switch(argument, false),
            Verb::Stop | Verb::Halt | Verb::Reduce | Verb::Resume | Verb::CancelAll => {}
        }
    }

    fn switch(&mut self, number: i64, on: bool) {
        let place = usize::try_from(number).ok();
        if let Some(seat) = place.and_then(|it| self.seats.get_mut(it)) {
            seat.enabled = on;
        }
    }

    fn is_enabled(&self, strategy: StrategyId) -> bool {
        self.seats.get(strategy.index()).is_some_and(|it| it.enabled)
    }

    /// Whether an event is to be shown to a strategy.
    fn concerns(&self, strategy: StrategyId, event: &Event, news: &News) -> bool {
        let trades = || {
            let seat = self.seats.get(strategy.index());
            seat.and_then(|it| it.trades.get(event.instrument.index()).copied()).unwrap_or(false)
        };
        match news {
            News::Trade { .. } | News::Quote { .. } | News::Book { .. } | News::Gap { .. } => {
                trades()
            }
            News::Status { .. }
            | News::Timer
            | News::Command { .. }
            | News::Balance { .. }
            | News::Config { .. } => true,
            News::Fill { .. } | News::Report { .. } | News::Nothing => false,
        }
    }
}

/// A denial of a cancel carries the id of an order that lives on: such an order has left already,
/// or it would have been denied itself.
fn is_denied_cancel(order: &OpenOrder, news: &News) -> bool {
    let News::Report { state: ReportState::Denied, code, .. } = *news else {
        return false;
    };
    order.cancelling && (code == Code::UnknownOrder || order.life.after(Answer::Denied).is_err())
}

fn cancel(order: &mut OpenOrder, reason: Reason, now: Nanos, intents: &mut Intents) -> bool {
    if order.cancelling || now < order.cancel_from || intents.room() == 0 {
        return false;
    }
    order.cancelling = intents.push(Intent {
        order: order.id,
        price: Price(0),
        qty: Qty(0),
        instrument: order.instrument,
        strategy: order.strategy,
        action: Action::Cancel,
        side: order.side,
        order_type: order.order_type,
        tif: order.tif,
        flags: OrderFlags::NONE,
        reason,
        confidence: 0,
        tag: order.tag,
    });
    order.cancelling
}

/// `whole * part / of`, rounded to nearest; nothing of nothing.
fn share(whole: i64, part: i64, of: i64) -> i64 {
    if of <= 0 || part <= 0 {
        return 0;
    }
    let share = div_round(i128::from(whole) * i128::from(part), i128::from(of));
    i64::try_from(share).unwrap_or(whole)
}

/// To the nearest lot, halves away from zero: what risk will make of the quantity too.
fn nearest_lot(instrument: &Instrument, qty: Qty) -> Qty {
    let lot = i128::from(instrument.lot.0.max(1));
    let lots = div_round(i128::from(qty.0), lot);
    i64::try_from(lots * lot).map_or(qty, Qty)
}

/// The strategies and what they may look at.
pub struct Desk {
    state: DeskState,
    strategies: Vec<Box<dyn Strategy>>,
    names: Vec<StrategySpec>,
}

impl fmt::Debug for Desk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Desk").field("strategies", &self.names).field("state", &self.state).finish()
    }
}

impl Desk {
    /// Makes every strategy of `specs`, in the order of their ids, which are their places.
    ///
    /// # Errors
    /// Every problem of every strategy, each key with its section: `strategies.tri.order_size`.
    pub fn new(
        table: &InstrumentTable,
        specs: Vec<StrategySpec>,
        registry: &Registry,
        options: &DeskOptions,
    ) -> Result<Self, Vec<Problem>> {
        let mut strategies = Vec::new();
        let mut problems = Vec::new();
        if specs.len() > StrategyId::COUNT_MAX {
            let rule = "at most 32 strategies may run together";
            problems.push(Problem::new("strategies", specs.len(), rule));
        }
        for (place, spec) in specs.iter().enumerate() {
            if spec.id.index() != place {
                let rule = "a strategy's number must be its place";
                problems.push(Problem::new("id", spec.id.0, rule).inside(&section(spec)));
            }
            match registry.build(spec, table) {
                Ok(strategy) => strategies.push(strategy),
                Err(found) => {
                    problems.extend(found.into_iter().map(|it| it.inside(&section(spec))));
                }
            }
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        let seats = specs.iter().map(|spec| SeatState {
            enabled: spec.enabled,
            trades: table.iter().map(|(id, _)| spec.instruments.contains(&id)).collect(),
        });
        let state = DeskState {
            table: table.clone(),
            market: Market::new(table, options.depth),
            accounts: Accounts::new(table, specs.len(), &options.balances),
            orders: OpenOrders::new(ORDERS_MAX),
            currency: options.currency,
            risk_state: RiskState::Running,
            run: options.run,
            counter: 0,
            ended: vec![(OrderId(0), StrategyId::RISK); ENDED_MAX],
            ended_next: 0,
            seats: seats.collect(),
            counts: DeskCounts::default(),
        };
        Ok(Self { state, strategies, names: specs })
    }

    /// Takes one event and adds what the strategies wish for because of it, in their order.
    ///
    /// The caller clears `intents` between events.
    pub fn on_event(&mut self, event: &Event, intents: &mut Intents) {
        let news = event.news();
        self.state.market.on_news(event, &news);
        let owner = self.state.on_news(event, &news);
        self.state.on_control(&news);
        for (id, strategy) in (0_u8..).map(StrategyId).zip(&mut self.strategies) {
            let enabled = self.state.is_enabled(id);
            if owner == Some(id) || self.state.concerns(id, event, &news) {
                let mut cx = Context::new(&mut self.state, intents, id);
                strategy.on_event(event, &mut cx);
            }
            if !enabled {
                let entries = |it: &OpenOrder| it.strategy == id && is_entry(it.reason);
                self.state.cancel_where(Reason::Operator, intents, entries);
            }
        }
    }

    /// What the strategies see of the markets.
    #[must_use]
    pub const fn market(&self) -> &Market {
        &self.state.market
    }

    /// What the strategies see of positions and balances.
    #[must_use]
    pub const fn accounts(&self) -> &Accounts {
        &self.state.accounts
    }

    /// Orders that are not over, wishes on their way included, oldest first.
    pub fn open_orders(&self) -> impl Iterator<Item = &OpenOrder> {
        self.state.orders.iter().map(|(_, it)| it)
    }

    /// The strategies as they were configured.
    #[must_use]
    pub fn specs(&self) -> &[StrategySpec] {
        &self.names
    }

    /// Whether a strategy is switched on.
    #[must_use]
    pub fn enabled(&self, strategy: StrategyId) -> bool {
        self.state.is_enabled(strategy)
    }

    /// What was counted so far.
    #[must_use]
    pub const fn counts(&self) -> DeskCounts {
        self.state.counts
    }

    /// Every counter of every strategy: its id, the counter's name, its value.
    pub fn counters(&self, out: &mut dyn FnMut(StrategyId, &'static str, i64)) {
        for (id, strategy) in (0_u8..).map(StrategyId).zip(&self.strategies) {
            strategy.counters(&mut |name, value| out(id, name, value));
        }
    }
}

fn section(spec: &StrategySpec) -> alloc::string::String {
    alloc::format!("strategies.{}", spec.name)
}

#[cfg(test)]
mod tests;
