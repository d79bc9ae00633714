//! The checks, in their order; the first failure is the reason.
//!
//! | code | `found` | `limit` | unit |
//! |---|---|---|---|
//! | `killed`, `trading_stopped`, `halted`, `reducing` | state | 0 | number of [`RiskState`] |
//! | `strategy_disabled` | strategy | 0 | its number |
//! | `unknown_instrument` | instrument | instruments in the table | its number |
//! | `duplicate_client_order_id` | order | highest id that passed | id |
//! | `invalid_quantity` | wished quantity | `min_qty` | instrument's quantity |
//! | `resolved_qty_non_positive` | wished quantity | `lot` | instrument's quantity |
//! | `missing_price`, `invalid_price` | wished price | `tick` | instrument's price |
//! | `invalid_numeric` | price | quantity | the two whose product does not fit |
//! | `min_notional` | value | `min_notional` | 1e-8 of the quote currency |
//! | `market_data_stale` | age, -1 for an invalid book | `stale_after_ms` | milliseconds |
//! | `no_reference_price` | currency | the engine's currency | number: no way between the two |
//! | `reduce_only_violation` | wished | what may be shrunk | 1e-8 of the base currency |
//! | `position_limit` | position if all filled | `max_position_qty` | 1e-8 of the base currency |
//! | `max_notional`, `max_order_size_exceeded`, `max_position_exposure_exceeded` | value | the limit | 1e-8 of the engine's currency |
//! | `max_open_orders` | open orders with this one | the limit | orders |
//! | `no_position` | wished | what there is | 1e-8 of the base currency |
//! | `position_reserved` | wished | what is free | 1e-8 of the base currency |
//! | `insufficient_cash` | cost with fee | what is free | 1e-8 of the quote currency |
//! | `price_band` | distance, rounded up | `price_band_bps` | basis points of the opposite touch |
//! | `order_rate` | orders in this second with this one | the limit | orders |
//! | `unknown_order` (cancels) | order | 0 | id |
//!
//! Decisions:
//! * **Nothing is clipped.** An order for more than may be sold is refused, not made smaller: the
//!   strategy would wait for the end of an order of another size.
//! * **Market orders are sent as immediate-or-cancel limits** at the edge of the price band, so
//!   that a thin book cannot fill them at any price. They are valued there too. With the band
//!   switched off they stay market orders, valued at the touch.
//! * **Exits** (`reduce_only`, truly shrinking) pass in every state but KILLED, and are exempt from
//!   `max_notional`, `max_order_notional` and `max_position_notional`. They are not exempt from a
//!   stale book: a price that nobody knows is no exit.
//! * **Fees of buys** are reserved at the taker's rate, whatever the order will pay.

use super::{Approved, Claims, Open, Outcome, Risk};
use crate::code::Code;
use crate::instrument::Instrument;
use crate::ledger::{base_amount, plus};
use crate::order::{
    Action, Decision, Intent, OrderFlags, OrderType, Proposal, RiskState, TimeInForce, Verdict,
};
use crate::orders::{Life, OPEN_MAX};
use crate::units::{
    CurrencyId, InstrumentId, MONEY_SCALE, Money, OrderId, Price, Qty, Side, div_round, notional,
};

/// Why not, with the numbers that decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Denial {
    code: Code,
    found: i64,
    limit: i64,
}

type Check<T = ()> = Result<T, Denial>;

fn deny<T>(code: Code, found: i64, limit: i64) -> Check<T> {
    Err(Denial { code, found, limit })
}

/// Refuses above `limit`; a limit of 0 is off.
fn at_most(code: Code, found: i64, limit: i64) -> Check {
    if limit > 0 && found > limit { deny(code, found, limit) } else { Ok(()) }
}

/// The order as it would leave, filled in step by step; what is known of it is recorded even when
/// it is refused.
struct Draft {
    price: Price, // 0 for market orders
    qty: Qty,
    order_type: OrderType,
    tif: TimeInForce,
    /// In the quote currency; 0 until it is known.
    value: Money,
    notional: Money,
}

/// What an order is worth, in the currencies that matter.
struct Worth {
    /// The price at which it is valued.
    price: Price,
    /// Quantity in 1e-8 of the base currency.
    base: Money,
    /// Value in the quote currency.
    value: Money,
}

impl Risk {
    pub(super) fn decide(&mut self, proposal: &Proposal) -> Outcome {
        let intent = &proposal.intent;
        let mut draft = Draft {
            price: intent.price,
            qty: intent.qty,
            order_type: intent.order_type,
            tif: intent.tif,
            value: Money(0),
            notional: Money(0),
        };
        let checked = match intent.action {
            Action::Place => self.check(intent, &mut draft).map(Some),
            Action::Cancel => self.check_cancel(intent).map(|()| None),
            // Nothing is asked for.
            Action::Result => Ok(None),
            // No strategy's business.
            Action::State => deny(Code::UnknownOrder, 0, 0),
        };
        let (verdict, denial) = match checked {
            Ok(open) => {
                if let Some(open) = open {
                    self.admit(intent.order, open);
                }
                let (found, limit) = match intent.action {
                    Action::Result => (draft.qty.0, draft.price.0),
                    Action::Place | Action::Cancel | Action::State => (0, 0),
                };
                if intent.action == Action::Result {
                    (draft.qty, draft.price) = (Qty(0), Price(0));
                }
                (Verdict::Approved, Denial { code: Code::None, found, limit })
            }
            Err(denial) => (Verdict::Denied, denial),
        };
        let decision = Decision {
            cause: proposal.cause,
            at: self.market.now(),
            order: intent.order,
            price: draft.price,
            qty: draft.qty,
            found: denial.found,
            limit: denial.limit,
            notional: draft.notional,
            instrument: intent.instrument,
            confidence: intent.confidence,
            tag: intent.tag,
            strategy: intent.strategy,
            action: intent.action,
            side: intent.side,
            order_type: draft.order_type,
            tif: draft.tif,
            flags: intent.flags,
            reason: intent.reason,
            verdict,
            code: denial.code,
            state: self.state(),
        };
        match verdict {
            Verdict::Approved => {
                self.counts.approved += u64::from(intent.action == Action::Place);
                Outcome::Approved(Approved(decision))
            }
            Verdict::Denied => {
                self.counts.denied += 1;
                Outcome::Denied(decision)
            }
        }
    }

    /// Takes an order that passed into every sum.
    fn admit(&mut self, id: OrderId, open: Open) {
        let now = self.market.now();
        self.orders.note(now);
        if let Some(meter) = self.orders_by_instrument.get_mut(open.instrument.index()) {
            meter.note(now);
        }
        self.last_order = id;
        // There is room: that was the check for open orders; and the id is new.
        if self.open.insert(id, open).is_ok() {
            self.reserve(&open, Claims::default(), open.whole);
        }
    }

    fn check_cancel(&self, intent: &Intent) -> Check {
        match self.open.get(intent.order) {
            Some(open) if open.strategy == intent.strategy => Ok(()),
            Some(_) | None => deny(Code::UnknownOrder, intent.order.0.cast_signed(), 0),
        }
    }

    fn check(&self, intent: &Intent, draft: &mut Draft) -> Check<Open> {
        let exit = intent.flags.has(OrderFlags::REDUCE_ONLY);
        self.check_switches(intent, exit)?;
        let instrument = self.check_validity(intent, draft)?;
        self.check_fresh(intent.instrument)?;
        self.check_state(exit)?;
        let worth = self.worth(intent, instrument, draft)?;
        if exit {
            self.check_shrinks(intent, &worth)?;
        }
        self.check_exposure(intent, instrument, exit, &worth, draft)?;
        self.check_open_orders()?;
        let locked = self.check_funds(intent, instrument, &worth)?;
        self.check_band(intent, draft)?;
        self.check_rate(intent.instrument)?;
        let whole = Claims { base: worth.base, locked, notional: draft.notional };
        self.open_order(intent, draft, whole)
    }

    fn check_switches(&self, intent: &Intent, exit: bool) -> Check {
        let state = self.state();
        if state == RiskState::Killed {
            return deny(Code::Killed, state as i64, 0);
        }
        if exit {
            return Ok(());
        }
        if state == RiskState::Stopped {
            return deny(Code::TradingStopped, state as i64, 0);
        }
        if !self.switches.is_enabled(intent.strategy) {
            return deny(Code::StrategyDisabled, i64::from(intent.strategy.0), 0);
        }
        Ok(())
    }

    fn check_validity(&self, intent: &Intent, draft: &mut Draft) -> Check<&Instrument> {
        let Some(instrument) = self.table.instrument(intent.instrument) else {
            let known = i64::try_from(self.table.instruments.len()).unwrap_or(i64::MAX);
            return deny(Code::UnknownInstrument, i64::from(intent.instrument.0), known);
        };
        if intent.order <= self.last_order {
            let (id, last) = (intent.order.0.cast_signed(), self.last_order.0.cast_signed());
            return deny(Code::DuplicateClientOrderId, id, last);
        }
        if intent.qty.0 <= 0 {
            return deny(Code::InvalidQuantity, intent.qty.0, instrument.min_qty.0);
        }
        let invalid =
            Denial { code: Code::InvalidNumeric, found: intent.price.0, limit: intent.qty.0 };
        draft.qty = Qty(nearest(intent.qty.0, instrument.lot.0).ok_or(invalid)?);
        if draft.qty.0 == 0 {
            return deny(Code::ResolvedQtyNonPositive, intent.qty.0, instrument.lot.0);
        }
        if draft.qty < instrument.min_qty {
            return deny(Code::InvalidQuantity, intent.qty.0, instrument.min_qty.0);
        }
        match intent.order_type {
            OrderType::Market => draft.price = Price(0),
            OrderType::Limit if intent.price.0 == 0 => {
                return deny(Code::MissingPrice, 0, instrument.tick.0);
            }
            OrderType::Limit => {
                draft.price = Price(nearest(intent.price.0, instrument.tick.0).ok_or(invalid)?);
                if draft.price.0 <= 0 {
                    return deny(Code::InvalidPrice, intent.price.0, instrument.tick.0);
                }
                draft.value = check_value(instrument, draft.price, draft.qty)?;
            }
        }
        Ok(instrument)
    }

    fn check_fresh(&self, id: InstrumentId) -> Check {
        let limit = i64::from(self.limits.stale_after_ms);
        if !self.market.is_valid(id) {
            return deny(Code::MarketDataStale, -1, limit);
        }
        let age_ms = self.market.now().since(self.market.priced_at(id)) / 1_000_000;
        let age_ms = i64::try_from(age_ms).unwrap_or(i64::MAX);
        at_most(Code::MarketDataStale, age_ms, limit)
    }

    /// Values the order, and gives a market order its limit.
    fn worth(&self, intent: &Intent, instrument: &Instrument, draft: &mut Draft) -> Check<Worth> {
        let no_price = Denial {
            code: Code::NoReferencePrice,
            found: i64::from(instrument.quote.0),
            limit: i64::from(self.currency.0),
        };
        let price = match intent.order_type {
            OrderType::Limit => draft.price, // its value was checked
            OrderType::Market => {
                let touch = self.opposite(intent.instrument, intent.side).ok_or(no_price)?;
                let band = self.limits.price_band_bps;
                let edge = edge(touch, intent.side, band, instrument.tick).ok_or(no_price)?;
                if band > 0 {
                    draft.price = edge;
                    draft.order_type = OrderType::Limit;
                    if draft.tif == TimeInForce::Gtc {
                        draft.tif = TimeInForce::Ioc;
                    }
                }
                draft.value = check_value(instrument, edge, draft.qty)?;
                edge
            }
        };
        let value = draft.value;
        let invalid = Denial { code: Code::InvalidNumeric, found: price.0, limit: draft.qty.0 };
        let base = base_amount(instrument, draft.qty).map_err(|_| invalid)?;
        match self.market.convert(value, instrument.quote, self.currency) {
            Some(notional) => draft.notional = notional,
            // Only what no limit of money concerns may pass without a price.
            None if self.needs_notional(intent) => return Err(no_price),
            None => {}
        }
        Ok(Worth { price, base, value })
    }

    fn needs_notional(&self, intent: &Intent) -> bool {
        let limits = &self.limits;
        let limited =
            [limits.max_order_notional, limits.max_position_notional, limits.max_notional];
        !intent.flags.has(OrderFlags::REDUCE_ONLY)
            && (limits.watch_equity() || limited.iter().any(|it| it.0 > 0))
    }

    /// What an order of this side would take: the touch, else what was last paid.
    fn opposite(&self, id: InstrumentId, side: Side) -> Option<Price> {
        let touch = self.market.touch(id).map(|it| it.taken_by(side).0);
        touch.or_else(|| self.market.last_trade(id).map(|it| it.price)).filter(|it| it.0 > 0)
    }

    fn check_state(&self, exit: bool) -> Check {
        if exit {
            return Ok(());
        }
        let state = self.state();
        match state {
            RiskState::Running if self.limits.watch_equity() && self.equity().is_none() => {
                // A loss that cannot be measured cannot be limited.
                let currency = self.unpriced().unwrap_or(self.currency);
                let (found, limit) = (i64::from(currency.0), i64::from(self.currency.0));
                deny(Code::NoReferencePrice, found, limit)
            }
            RiskState::Running => Ok(()),
            RiskState::Cooldown | RiskState::Halted => deny(Code::Halted, state as i64, 0),
            RiskState::Reducing => deny(Code::Reducing, state as i64, 0),
            RiskState::Stopped => deny(Code::TradingStopped, state as i64, 0),
            RiskState::Killed => deny(Code::Killed, state as i64, 0),
        }
    }

    fn unpriced(&self) -> Option<CurrencyId> {
        let price = |it: CurrencyId| self.market.convert(Money(1), it, self.currency);
        let mut owned = self.ledger.balances().filter(|(_, it)| it.total.0 != 0);
        owned.find(|(_, it)| price(it.currency).is_none()).map(|(_, it)| it.currency)
    }

    /// An exit must lie wholly within what is held beyond the exits that are open already.
    fn check_shrinks(&self, intent: &Intent, worth: &Worth) -> Check {
        let (held, buys, sells) = self.projected(intent.instrument);
        let room = match intent.side {
            Side::Buy => held.saturating_neg().saturating_sub(buys),
            Side::Sell => held.saturating_sub(sells),
        };
        if room < worth.base.0 {
            return deny(Code::ReduceOnlyViolation, worth.base.0, room.max(0));
        }
        Ok(())
    }

    /// Held, open buys and open sells of an instrument's base currency.
    fn projected(&self, id: InstrumentId) -> (i64, i64, i64) {
        let Some(slot) = self.ledger.base_slot(id) else {
            return (0, 0, 0);
        };
        let sums = self.sums.get(slot.index()).copied().unwrap_or_default();
        (self.ledger.balance(slot).held().0, sums.buy.0, sums.sell.0)
    }

    fn check_exposure(
        &self,
        intent: &Intent,
        instrument: &Instrument,
        exit: bool,
        worth: &Worth,
        draft: &Draft,
    ) -> Check {
        // The engine's own currency is what exposure is measured in, never exposed itself.
        let counts = instrument.base != self.currency;
        let (held, buys, sells) = self.projected(intent.instrument);
        let position = match intent.side {
            Side::Buy => held.checked_add(buys).and_then(|it| it.checked_add(worth.base.0)),
            Side::Sell => held
                .checked_sub(sells)
                .and_then(|it| it.checked_sub(worth.base.0))
                .and_then(i64::checked_neg),
        };
        let invalid =
            Denial { code: Code::InvalidNumeric, found: worth.price.0, limit: draft.qty.0 };
        let position = position.ok_or(invalid)?;
        // Sums only shrink after approval: that they fit is settled here.
        let open = if intent.side == Side::Buy { buys } else { sells };
        plus(Money(open), worth.base).map_err(|_| invalid)?;
        plus(self.open_notional, draft.notional).map_err(|_| invalid)?;
        let limits = &self.limits;
        if counts {
            at_most(Code::PositionLimit, position, limits.max_position_qty.0)?;
        }
        if exit {
            return Ok(());
        }
        if limits.max_notional.0 > 0 {
            let gross = plus(self.gross()?, draft.notional).map_err(|_| invalid)?;
            at_most(Code::MaxNotional, gross.0, limits.max_notional.0)?;
        }
        at_most(Code::MaxOrderSizeExceeded, draft.notional.0, limits.max_order_notional.0)?;
        if counts && limits.max_position_notional.0 > 0 && position > 0 {
            let value = notional(worth.price, Qty(position), instrument.price_scale, MONEY_SCALE);
            let value = value.map_err(|_| invalid)?;
            let value = self.market.convert(value, instrument.quote, self.currency);
            let limit = limits.max_position_notional.0;
            at_most(Code::MaxPositionExposureExceeded, value.ok_or(invalid)?.0, limit)?;
        }
        Ok(())
    }

    /// Value of all positions, long or short, and of all open orders.
    fn gross(&self) -> Check<Money> {
        let mut sum = self.open_notional;
        for (slot, balance) in self.ledger.balances() {
            let is_base = self.sums.get(slot.index()).is_some_and(|it| it.is_base);
            if !is_base || balance.held().0 == 0 {
                continue;
            }
            let (from, to) = (balance.currency, self.currency);
            let no_price = Denial {
                code: Code::NoReferencePrice,
                found: i64::from(from.0),
                limit: i64::from(to.0),
            };
            let value = self.market.convert(balance.held(), from, to).ok_or(no_price)?;
            sum = Money(sum.0.saturating_add(value.0.saturating_abs()));
        }
        Ok(sum)
    }

    fn check_open_orders(&self) -> Check {
        let limit = match self.limits.max_open_orders as usize {
            0 => OPEN_MAX,
            limit => limit.min(OPEN_MAX),
        };
        let count = |it| i64::try_from(it).unwrap_or(i64::MAX);
        at_most(Code::MaxOpenOrders, count(self.open.len() + 1), count(limit))
    }

    /// Whether the order can be paid for; what is to be set aside for it.
    fn check_funds(&self, intent: &Intent, instrument: &Instrument, worth: &Worth) -> Check<Money> {
        let Some(slot) = self.ledger.spent_slot(intent.instrument, intent.side) else {
            return deny(Code::UnknownInstrument, i64::from(intent.instrument.0), 0);
        };
        let balance = self.ledger.balance(slot);
        let free = balance.available();
        let invalid =
            Denial { code: Code::InvalidNumeric, found: worth.price.0, limit: intent.qty.0 };
        let cost = match intent.side {
            Side::Buy => {
                let fee = instrument.fee(worth.value, false).map_err(|_| invalid)?;
                let cost = plus(worth.value, Money(fee.0.max(0))).map_err(|_| invalid)?;
                if free < cost {
                    return deny(Code::InsufficientCash, cost.0, free.0);
                }
                cost
            }
            Side::Sell if self.limits.allow_short => worth.base,
            Side::Sell if balance.total < worth.base => {
                return deny(Code::NoPosition, worth.base.0, balance.total.0);
            }
            Side::Sell if free < worth.base => {
                return deny(Code::PositionReserved, worth.base.0, free.0);
            }
            Side::Sell => worth.base,
        };
        plus(balance.locked, cost).map_err(|_| invalid)?;
        Ok(cost)
    }

    fn check_band(&self, intent: &Intent, draft: &Draft) -> Check {
        let band = i64::from(self.limits.price_band_bps);
        if band == 0 || intent.order_type == OrderType::Market {
            return Ok(());
        }
        let Some(touch) = self.opposite(intent.instrument, intent.side) else {
            let currency = i64::from(self.currency.0);
            return deny(Code::NoReferencePrice, currency, currency);
        };
        let (price, touch) = (i128::from(draft.price.0), i128::from(touch.0));
        let distance = (price - touch).abs() * 10_000;
        if distance > touch * i128::from(band) {
            let bps = (distance + touch - 1) / touch;
            return deny(Code::PriceBand, i64::try_from(bps).unwrap_or(i64::MAX), band);
        }
        Ok(())
    }

    fn check_rate(&self, id: InstrumentId) -> Check {
        let now = self.market.now();
        let each = self.orders_by_instrument.get(id.index());
        for meter in each.into_iter().chain([&self.orders]) {
            if meter.is_full(now) {
                return deny(Code::OrderRate, meter.limit() + 1, meter.limit());
            }
        }
        Ok(())
    }

    fn open_order(&self, intent: &Intent, draft: &Draft, whole: Claims) -> Check<Open> {
        let slots = self
            .ledger
            .base_slot(intent.instrument)
            .zip(self.ledger.spent_slot(intent.instrument, intent.side));
        let Some((base_slot, spent_slot)) = slots else {
            return deny(Code::UnknownInstrument, i64::from(intent.instrument.0), 0);
        };
        Ok(Open {
            strategy: intent.strategy,
            instrument: intent.instrument,
            side: intent.side,
            flags: intent.flags,
            life: Life::new(draft.qty),
            whole,
            base_slot,
            spent_slot,
        })
    }
}

/// Value in the quote currency, where it fits and the venue takes orders so small.
fn check_value(instrument: &Instrument, price: Price, qty: Qty) -> Check<Money> {
    let Ok(value) = instrument.notional(price, qty) else {
        return deny(Code::InvalidNumeric, price.0, qty.0);
    };
    if value < instrument.min_notional {
        return deny(Code::MinNotional, value.0, instrument.min_notional.0);
    }
    Ok(value)
}

/// The nearest multiple of `step`, halves away from zero; `None` where it does not fit.
fn nearest(value: i64, step: i64) -> Option<i64> {
    let step = i128::from(step.max(1));
    i64::try_from(div_round(i128::from(value), step) * step).ok()
}

/// The worst price within the band of the touch, rounded to a tick inside it; never better than the
/// touch itself, at least one tick. The touch where the band is off.
fn edge(touch: Price, side: Side, band_bps: u32, tick: Price) -> Option<Price> {
    let (touch, tick) = (i128::from(touch.0), i128::from(tick.0.max(1)));
    let band = i128::from(band_bps);
    let edge = match side {
        Side::Buy => (touch * (10_000 + band) / (10_000 * tick) * tick).max(touch),
        Side::Sell => {
            let lowest = touch * (10_000 - band);
            let ticks = lowest.div_euclid(10_000 * tick)
                + i128::from(lowest.rem_euclid(10_000 * tick) != 0);
            (ticks * tick).min(touch).max(tick)
        }
    };
    i64::try_from(edge).ok().map(Price)
}
