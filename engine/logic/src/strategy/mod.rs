//! What a strategy is, what it may see and do, and how kinds of strategies are registered.
//!
//! A strategy is told every event that concerns it and answers with wishes: place this, cancel
//! that. It never learns whether a wish was granted except by a later event, and it never sees
//! who else trades, which cause made it wish, or whether the venue is real.
//!
//! ```
//! use kairos_logic::event::{Event, News};
//! use kairos_logic::order::Reason;
//! use kairos_logic::strategy::{Context, Place, Strategy};
//! use kairos_logic::units::{Qty, Side};
//!
//! /// Buys once, on the first trade it sees.
//! struct BuyOnce;
//!
//! impl Strategy for BuyOnce {
//!     fn on_event(&mut self, event: &Event, cx: &mut Context<'_>) {
//!         let News::Trade { .. } = event.news() else { return };
//!         let flat = cx.position(event.instrument) == Qty(0);
//!         if flat && cx.open_orders().next().is_none() {
//!             cx.place(Place::market(event.instrument, Side::Buy, Qty(1_000_000), Reason::Entry));
//!         }
//!     }
//! }
//! ```

pub mod market_maker;
pub mod momentum;
pub mod round;
pub mod sma_cross;
#[cfg(test)]
pub(crate) mod testing;
pub mod tri_arb;
pub mod triangle;

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::desk::{DeskState, OpenOrder};
use crate::event::Event;
use crate::instrument::{Instrument, InstrumentTable};
use crate::market::{Market, Touch};
use crate::order::{
    Action, Intent, Intents, OrderFlags, OrderType, Reason, RiskState, TimeInForce,
};
use crate::params::{Params, Problem, nearest};
use crate::units::{
    CurrencyId, InstrumentId, Money, Nanos, OrderId, Price, Qty, Side, StrategyId, VenueId,
};

/// Decides what to wish for.
///
/// Runs on the strategy seat: no allocation after construction, no lock, no clock, no I/O.
pub trait Strategy: Send {
    /// Looks at one event. Market data comes for the strategy's own instruments, reports for its
    /// own orders; timers, commands and statuses come to everyone. What `cx` shows includes the
    /// event already.
    fn on_event(&mut self, event: &Event, cx: &mut Context<'_>);

    /// Names and values of what the strategy counts, for monitoring. Not on the hot path.
    fn counters(&self, _out: &mut dyn FnMut(&'static str, i64)) {}
}

/// A wish for a new order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Of what.
    pub instrument: InstrumentId,
    /// Buy or sell.
    pub side: Side,
    /// How much; risk rounds it to lots.
    pub qty: Qty,
    /// Market or limit.
    pub order_type: OrderType,
    /// The limit; 0 for market orders. Risk rounds it to ticks.
    pub price: Price,
    /// How long it lives.
    pub tif: TimeInForce,
    /// Reduce-only, post-only.
    pub flags: OrderFlags,
    /// Why.
    pub reason: Reason,
    /// How sure the strategy is, in 1e-4. In 0..=10 000.
    pub confidence: u16,
    /// A number of the strategy's own; it comes back in [`OpenOrder::tag`] and in the journal.
    pub tag: u16,
}

impl Place {
    /// What fills at once at whatever the book offers; the rest is cancelled.
    #[must_use]
    pub const fn market(instrument: InstrumentId, side: Side, qty: Qty, reason: Reason) -> Self {
        Self {
            instrument,
            side,
            qty,
            order_type: OrderType::Market,
            price: Price(0),
            tif: TimeInForce::Ioc,
            flags: OrderFlags::NONE,
            reason,
            confidence: 10_000,
            tag: 0,
        }
    }

    /// At `price` or better, for as long as `tif` says.
    #[must_use]
    pub const fn limit(
        instrument: InstrumentId,
        side: Side,
        qty: Qty,
        price: Price,
        tif: TimeInForce,
        reason: Reason,
    ) -> Self {
        let mut place = Self::market(instrument, side, qty, reason);
        place.order_type = OrderType::Limit;
        place.price = price;
        place.tif = tif;
        place
    }

    /// The same with more flags.
    #[must_use]
    pub const fn flags(mut self, flags: OrderFlags) -> Self {
        self.flags = self.flags.with(flags);
        self
    }

    /// The same with another confidence, in 1e-4.
    #[must_use]
    pub const fn confidence(mut self, confidence: u16) -> Self {
        self.confidence = confidence;
        self
    }

    /// The same with a tag.
    #[must_use]
    pub const fn tag(mut self, tag: u16) -> Self {
        self.tag = tag;
        self
    }
}

/// What a strategy may see and do during one event.
#[derive(Debug)]
pub struct Context<'a> {
    state: &'a mut DeskState,
    intents: &'a mut Intents,
    strategy: StrategyId,
}

impl<'a> Context<'a> {
    pub(crate) const fn new(
        state: &'a mut DeskState,
        intents: &'a mut Intents,
        strategy: StrategyId,
    ) -> Self {
        Self { state, intents, strategy }
    }

    /// Logic's time.
    #[must_use]
    pub const fn now(&self) -> Nanos {
        self.state.market.now()
    }

    /// Books, quotes, trades and links.
    #[must_use]
    pub const fn market(&self) -> &Market {
        &self.state.market
    }

    /// Best bid and offer; see [`Market::touch`].
    #[must_use]
    pub fn touch(&self, id: InstrumentId) -> Option<Touch> {
        self.state.market.touch(id)
    }

    /// Venues, currencies and instruments.
    #[must_use]
    pub const fn table(&self) -> &InstrumentTable {
        &self.state.table
    }

    /// One instrument.
    #[must_use]
    pub fn instrument(&self, id: InstrumentId) -> Option<&Instrument> {
        self.state.table.instrument(id)
    }

    /// The currency in which limits are expressed.
    #[must_use]
    pub const fn currency(&self) -> CurrencyId {
        self.state.currency
    }

    /// This strategy's position: what its own fills bought, less what they sold. May be negative.
    #[must_use]
    pub fn position(&self, id: InstrumentId) -> Qty {
        self.state.accounts.position(self.strategy, id)
    }

    /// Average price at which the present position was entered, without fees; `None` when flat.
    #[must_use]
    pub fn average_price(&self, id: InstrumentId) -> Option<Price> {
        self.state.accounts.average_price(self.strategy, id)
    }

    /// What is free of a currency at a venue: the balance, moved by fills, less what open orders
    /// of all strategies may still spend.
    #[must_use]
    pub fn available(&self, venue: VenueId, currency: CurrencyId) -> Money {
        self.state.accounts.available(venue, currency)
    }

    /// This strategy's open orders, oldest first, wishes still on their way included.
    pub fn open_orders(&self) -> impl Iterator<Item = &OpenOrder> {
        let strategy = self.strategy;
        let all = self.state.orders.iter();
        all.map(|(_, it)| it).filter(move |it| it.strategy == strategy)
    }

    /// One of this strategy's open orders.
    #[must_use]
    pub fn order(&self, id: OrderId) -> Option<&OpenOrder> {
        let order = self.state.orders.get(id)?;
        (order.strategy == self.strategy).then_some(order)
    }

    /// The state of risk as far as this side of the engine has heard.
    #[must_use]
    pub const fn risk_state(&self) -> RiskState {
        self.state.risk_state
    }

    /// How many more wishes this event has room for; see [`crate::order::INTENTS_MAX`].
    #[must_use]
    pub const fn room(&self) -> usize {
        self.intents.room()
    }

    /// Wishes for an order. The id is that of a wish: the order is open (in
    /// [`Context::open_orders`]) until a report says otherwise, and nothing has filled.
    ///
    /// `None`, and counted, where there is no room, where the instrument is not this strategy's,
    /// where quantity or price are not positive, or where the strategy is switched off and the
    /// reason is none of exit and unwind.
    pub fn place(&mut self, place: Place) -> Option<OrderId> {
        self.state.place(self.strategy, place, self.intents)
    }

    /// Wishes for the end of an open order; `false` where it is not open, not this strategy's, a
    /// cancel is on its way already, or there is no room.
    pub fn cancel(&mut self, order: OrderId, reason: Reason) -> bool {
        self.state.cancel(self.strategy, order, reason, self.intents)
    }

    /// Records how something that took several orders has ended: what it made and what it was to make,
    /// in the engine's currency. It is journaled like a decision and changes nothing. `id` is one of
    /// the instruments that it traded, `tag` that of its orders.
    ///
    /// `false` where there is no room: tell it at the next event.
    pub fn result(
        &mut self,
        id: InstrumentId,
        realised: Money,
        expected: Money,
        reason: Reason,
        tag: u16,
    ) -> bool {
        self.intents.push(Intent {
            order: OrderId(0),
            price: Price(expected.0),
            qty: Qty(realised.0),
            instrument: id,
            strategy: self.strategy,
            action: Action::Result,
            reason,
            tag,
            ..Intents::VACANT
        })
    }

    /// Wishes for the end of all of this strategy's orders that have no cancel on its way yet.
    /// Where there is no room for all, call again at the next event.
    pub fn cancel_all(&mut self, reason: Reason) {
        self.state.cancel_where(reason, self.intents, |it| it.strategy == self.strategy);
    }
}

/// A strategy as the configuration describes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StrategySpec {
    /// Its number: its place among the configured strategies.
    pub id: StrategyId,
    /// Its name: the key of its section.
    pub name: String,
    /// What it is, such as `momentum`; see [`Registry`].
    pub kind: String,
    /// What it trades, in configuration order.
    pub instruments: Vec<InstrumentId>,
    /// Its parameters.
    pub params: Params,
    /// Whether it starts switched on.
    pub enabled: bool,
}

/// Makes a strategy of one kind, or says everything that is wrong with its parameters.
pub type Constructor =
    fn(&StrategySpec, &InstrumentTable) -> Result<Box<dyn Strategy>, Vec<Problem>>;

/// The kinds of strategies that a program knows.
#[derive(Clone, Debug)]
pub struct Registry {
    kinds: Vec<(String, Constructor)>,
}

impl Default for Registry {
    fn default() -> Self {
        Self::shipped()
    }
}

impl Registry {
    /// No kind at all.
    #[must_use]
    pub const fn empty() -> Self {
        Self { kinds: Vec::new() }
    }

    /// Every kind that kairos ships.
    #[must_use]
    pub fn shipped() -> Self {
        let mut this = Self::empty();
        this.register("momentum", momentum::Momentum::build)
            .register("sma_cross", sma_cross::SmaCross::build)
            .register("market_maker", market_maker::MarketMaker::build)
            .register("tri_arb", tri_arb::TriArb::build);
        this
    }

    /// Adds a kind, or replaces the one of that name.
    pub fn register(&mut self, kind: &str, constructor: Constructor) -> &mut Self {
        self.kinds.retain(|(name, _)| name != kind);
        self.kinds.push((String::from(kind), constructor));
        self
    }

    /// The names of all kinds, in the order of registration.
    pub fn kinds(&self) -> impl Iterator<Item = &str> {
        self.kinds.iter().map(|(name, _)| name.as_str())
    }

    /// Makes the strategy that `spec` describes.
    ///
    /// # Errors
    /// An unknown kind, with those that are known; instruments that do not exist; or what the
    /// kind's constructor objects to. Keys are relative to the strategy's section.
    pub fn build(
        &self,
        spec: &StrategySpec,
        table: &InstrumentTable,
    ) -> Result<Box<dyn Strategy>, Vec<Problem>> {
        let Some((_, constructor)) = self.kinds.iter().find(|(name, _)| *name == spec.kind) else {
            let known: Vec<&str> = self.kinds().collect();
            let rule = match nearest(&spec.kind, &known) {
                Some(near) => format!(
                    "is not a known kind; did you mean {near}? known are {}",
                    known.join(", ")
                ),
                None => format!("is not a known kind; known are {}", known.join(", ")),
            };
            return Err(vec![Problem::new("kind", &spec.kind, rule)]);
        };
        let unknown = |id: &&InstrumentId| table.instrument(**id).is_none();
        if let Some(id) = spec.instruments.iter().find(unknown) {
            let rule = "must be instruments of the table";
            return Err(vec![Problem::new("instruments", id.0, rule)]);
        }
        constructor(spec, table)
    }
}
