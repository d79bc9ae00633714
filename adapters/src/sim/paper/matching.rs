//! What happens at the venue: commands take effect, the market moves, orders trade.

use kairos_logic::code::Code;
use kairos_logic::event::{Event, ReportState};
use kairos_logic::instrument::Instrument;
use kairos_logic::order::{Action, Decision, OrderFlags, OrderType, TimeInForce};
use kairos_logic::units::{InstrumentId, Money, Nanos, POW10, Price, Qty, Side};

use super::accounts::{Accounts, of_money};
use super::liquidity::{Sweep, within};
use super::shelf::{ORDERS_MAX, Resting};
use super::{Command, Funding, MakerModel, Market, PaperVenue, UNKNOWN_QUEUE};

/// What a trade costs or brings.
#[derive(Clone, Copy)]
struct Cost {
    value: Money,
    fee: Money,
}

impl Cost {
    fn of(instrument: &Instrument, price: Price, qty: Qty, maker: bool) -> Option<Self> {
        let value = instrument.notional(price, qty).ok()?;
        let fee = instrument.fee(value, maker).ok()?;
        Some(Self { value, fee })
    }
}

impl Market {
    /// Moves the balances of one trade.
    fn settle(&self, accounts: &mut Accounts, side: Side, qty: Qty, cost: Cost) {
        let sign = i128::from(side.sign());
        accounts.add(self.base, sign * i128::from(qty.0) * self.per_qty);
        accounts.add(self.quote, -sign * of_money(cost.value) - of_money(cost.fee));
    }

    /// What an order locks while `qty` of it rests at `price`; `None` where it does not fit.
    fn lock_of(&self, side: Side, price: Price, qty: Qty) -> Option<i128> {
        match side {
            Side::Sell => Some(i128::from(qty.0) * self.per_qty),
            Side::Buy => {
                let cost = Cost::of(&self.instrument, price, qty, true)?;
                Some(of_money(cost.value) + of_money(cost.fee).max(0))
            }
        }
    }

    /// Whether the account can pay what would trade now and what would rest.
    fn can_pay(
        &self,
        accounts: &Accounts,
        decision: &Decision,
        sweep: &Sweep,
        rest: Qty,
    ) -> Result<(), Code> {
        let locked =
            self.lock_of(decision.side, decision.price, rest).ok_or(Code::InvalidNumeric)?;
        let (account, needed) = match decision.side {
            Side::Buy => {
                let paid = of_money(sweep.value) + of_money(sweep.fee);
                (self.quote, paid + locked)
            }
            Side::Sell => {
                let sold = i128::from(sweep.filled.0) * self.per_qty;
                (self.base, sold + locked)
            }
        };
        if needed <= accounts.available(account) { Ok(()) } else { Err(Code::VenueRejected) }
    }
}

/// What the venue's filters say to a place, before it looks at the market.
fn filters(instrument: &Instrument, decision: &Decision) -> Result<(), Code> {
    let Decision { price, qty, .. } = *decision;
    if qty.0 <= 0 || qty.0 < instrument.min_qty.0 || qty.0 % instrument.lot.0.max(1) != 0 {
        return Err(Code::InvalidQuantity);
    }
    if decision.order_type == OrderType::Limit {
        if price.0 <= 0 {
            return Err(Code::MissingPrice);
        }
        if price.0 % instrument.tick.0.max(1) != 0 {
            return Err(Code::InvalidPrice);
        }
        let value = instrument.notional(price, qty).map_err(|_| Code::InvalidNumeric)?;
        if value < instrument.min_notional {
            return Err(Code::MinNotional);
        }
    }
    Ok(())
}

/// The worst price that the order accepts.
const fn limit_of(decision: &Decision) -> Price {
    match (decision.order_type, decision.side) {
        (OrderType::Market, Side::Buy) if decision.price.0 <= 0 => Price(i64::MAX),
        (OrderType::Market, Side::Sell) if decision.price.0 <= 0 => Price(0),
        (OrderType::Market | OrderType::Limit, Side::Buy | Side::Sell) => decision.price,
    }
}

impl PaperVenue {
    /// Whether the reports of one more command surely fit.
    pub(super) fn has_room(&self) -> bool {
        self.outgoing.room() >= self.sweep_reports_max
    }

    /// Lets every command that is due by `now` take effect. A venue whose reports found no room
    /// is late with the rest, never silent.
    pub(super) fn run_until(&mut self, now: Nanos) {
        while self.has_room() && self.commands.front().is_some_and(|it| it.due <= now) {
            if let Some(Command { due, decision }) = self.commands.pop_front() {
                if self.commands.is_empty() {
                    self.commands.clear(); // begins at its first place again, which is in the cache
                }
                self.now = self.now.max(due);
                match decision.action {
                    Action::Place => self.place(&decision),
                    Action::Cancel | Action::State | Action::Result => self.cancel(&decision),
                }
            }
        }
        self.now = self.now.max(now);
    }

    /// Reports that an order is over or was acknowledged.
    pub(super) fn answer(
        &mut self,
        decision: &Decision,
        state: ReportState,
        left: Qty,
        code: Code,
    ) {
        self.outgoing.push(Event::report(
            self.now,
            self.now,
            decision.instrument,
            decision.order,
            decision.side,
            state,
            left,
            code,
        ));
    }

    pub(super) fn place(&mut self, decision: &Decision) {
        let sweep = match self.admit(decision) {
            Ok(sweep) => sweep,
            Err(code) => {
                return self.answer(decision, ReportState::Rejected, decision.qty, code);
            }
        };
        self.answer(decision, ReportState::Acked, decision.qty, Code::None);
        let left = self.take(decision, sweep.filled);
        if left.0 == 0 {
            return;
        }
        if decision.order_type == OrderType::Limit && decision.tif == TimeInForce::Gtc {
            return self.rest(decision, left);
        }
        let code = if left == decision.qty { Code::IocUnfilled } else { Code::IocPartialCancel };
        self.answer(decision, ReportState::Cancelled, left, code);
    }

    /// Judges a place against filters, market and account, touching nothing.
    fn admit(&self, decision: &Decision) -> Result<Sweep, Code> {
        let market =
            self.markets.get(decision.instrument.index()).ok_or(Code::UnknownInstrument)?;
        filters(&market.instrument, decision)?;
        if self.shelf.find(decision.order).is_some() {
            return Err(Code::DuplicateClientOrderId);
        }
        let (limit, side) = (limit_of(decision), decision.side);
        let is_market = decision.order_type == OrderType::Market;
        if decision.flags.has(OrderFlags::POST_ONLY) {
            let best = market.liquidity.best(side.opposite());
            if is_market || best.is_some_and(|(price, _)| within(side, price, limit)) {
                return Err(Code::PostOnlyWouldCross);
            }
        }
        let sweep = market
            .liquidity
            .sweep(&market.instrument, side, limit, decision.qty)
            .ok_or(Code::InvalidNumeric)?;
        let left = Qty(decision.qty.0 - sweep.filled.0);
        if is_market && sweep.filled.0 == 0 {
            return Err(Code::NoLiquidity);
        }
        if decision.tif == TimeInForce::Fok && left.0 > 0 {
            return Err(Code::FokUnfilled);
        }
        let rests = !is_market && decision.tif == TimeInForce::Gtc && left.0 > 0;
        if rests && self.shelf.len() >= ORDERS_MAX {
            return Err(Code::MaxOpenOrders);
        }
        if self.options.funding == Funding::Spot {
            let rest = if rests { left } else { Qty(0) };
            market.can_pay(&self.accounts, decision, &sweep, rest)?;
        }
        Ok(sweep)
    }

    /// Trades `qty`, which the sweep has found, level by level. Returns what the order has left.
    fn take(&mut self, decision: &Decision, qty: Qty) -> Qty {
        let (mut rest, opposite) = (qty, decision.side.opposite());
        let Some(market) = self.markets.get_mut(decision.instrument.index()) else {
            return decision.qty;
        };
        while rest.0 > 0 {
            let Some((price, left)) = market.liquidity.best(opposite) else {
                break;
            };
            let part = Qty(left.0.min(rest.0));
            let Some(cost) = Cost::of(&market.instrument, price, part, false) else {
                break;
            };
            market.liquidity.take(opposite, price, part);
            market.settle(&mut self.accounts, decision.side, part, cost);
            rest.0 -= part.0;
            self.outgoing.push(Event::fill(
                self.now,
                self.now,
                decision.instrument,
                decision.order,
                decision.side,
                price,
                part,
                cost.fee,
                false,
            ));
        }
        Qty(decision.qty.0 - qty.0 + rest.0)
    }

    fn rest(&mut self, decision: &Decision, left: Qty) {
        let Some(market) = self.markets.get(decision.instrument.index()) else {
            return;
        };
        let (side, price) = (decision.side, decision.price);
        let locked = market.lock_of(side, price, left).unwrap_or(0); // it fitted in `admit`
        let account = match side {
            Side::Buy => market.quote,
            Side::Sell => market.base,
        };
        self.accounts.lock(account, locked);
        let displayed = market.liquidity.displayed(side, price);
        self.shelf.insert(Resting {
            instrument: decision.instrument,
            side,
            price,
            arrival: 0,
            id: decision.order,
            remaining: left,
            ahead: displayed.unwrap_or(UNKNOWN_QUEUE),
            locked,
        });
    }

    pub(super) fn cancel(&mut self, decision: &Decision) {
        match self.shelf.find(decision.order) {
            Some(place) => {
                let code = Some(decision.code).filter(|&code| code != Code::None);
                self.withdraw(place, code.unwrap_or(Code::UserCancel));
            }
            None => {
                let state = ReportState::CancelRejected;
                self.answer(decision, state, Qty(0), Code::UnknownOrder);
            }
        }
    }

    /// Ends a resting order.
    pub(super) fn withdraw(&mut self, place: usize, code: Code) {
        let Some(resting) = self.shelf.remove(place) else {
            return;
        };
        self.release(&resting, resting.locked);
        self.outgoing.push(Event::report(
            self.now,
            self.now,
            resting.instrument,
            resting.id,
            resting.side,
            ReportState::Cancelled,
            resting.remaining,
            code,
        ));
    }

    fn release(&mut self, resting: &Resting, amount: i128) {
        if let Some(market) = self.markets.get(resting.instrument.index()) {
            let account = match resting.side {
                Side::Buy => market.quote,
                Side::Sell => market.base,
            };
            self.accounts.lock(account, -amount);
        }
    }

    /// A quote or a complete book change has arrived: orders that it reaches fill, queues shorten.
    pub(super) fn market_moved(&mut self, instrument: InstrumentId) {
        for side in [Side::Buy, Side::Sell] {
            self.cross(instrument, side);
            self.shorten_queues(instrument, side);
        }
        self.try_luck(instrument);
    }

    /// Fills our orders of `side` that the opposite side has reached, best price first.
    fn cross(&mut self, instrument: InstrumentId, side: Side) {
        let places = self.shelf.side(instrument, side);
        for _ in places.clone() {
            // A filled order leaves the shelf, so the best one always stands first.
            let Some(resting) = self.shelf.get(places.start).copied() else {
                return;
            };
            let mut crossing = 0;
            let Some(market) = self.markets.get_mut(instrument.index()) else {
                return;
            };
            if self.outgoing.room() == 0 {
                return;
            }
            while crossing < resting.remaining.0
                && let Some((price, left)) = market.liquidity.best(side.opposite())
                && within(side, price, resting.price)
            {
                let part = left.0.min(resting.remaining.0 - crossing);
                market.liquidity.take(side.opposite(), price, Qty(part));
                crossing += part;
            }
            if crossing == 0 || !self.fill(places.start, Qty(crossing)) {
                return;
            }
        }
    }

    fn shorten_queues(&mut self, instrument: InstrumentId, side: Side) {
        let Some(market) = self.markets.get(instrument.index()) else {
            return;
        };
        for place in self.shelf.side(instrument, side) {
            if let Some(resting) = self.shelf.get_mut(place)
                && resting.ahead.0 > 0
                && let Some(displayed) = market.liquidity.displayed(side, resting.price)
            {
                resting.ahead = resting.ahead.min(displayed);
            }
        }
    }

    /// A trade between others: it consumes the side that `aggressor` hit, ours among it.
    pub(super) fn trade(
        &mut self,
        instrument: InstrumentId,
        price: Price,
        qty: Qty,
        aggressor: Side,
    ) {
        if self.options.maker_model == MakerModel::Probability {
            return self.try_luck(instrument);
        }
        let side = aggressor.opposite();
        let places = self.shelf.side(instrument, side);
        let (mut place, mut ours) = (places.start, 0);
        for _ in places {
            let Some(resting) = self.shelf.get_mut(place) else {
                return;
            };
            if !within(aggressor, resting.price, price) || self.outgoing.room() == 0 {
                return;
            }
            if resting.price != price {
                resting.ahead = Qty(0); // the trade went through its price
            }
            let reach = (qty.0 - ours).max(0);
            let part = (reach - resting.ahead.0).clamp(0, resting.remaining.0);
            resting.ahead = Qty((resting.ahead.0 - reach).max(0));
            ours += part;
            if part == 0 || !self.fill(place, Qty(part)) {
                place += 1;
            }
        }
    }

    /// Draws for every resting order of the instrument, in [`MakerModel::Probability`].
    fn try_luck(&mut self, instrument: InstrumentId) {
        if self.options.maker_model == MakerModel::Queue {
            return;
        }
        let scale = self
            .markets
            .get(instrument.index())
            .map_or(0, |market| usize::from(market.instrument.qty_scale));
        let unit = POW10.get(scale).copied().unwrap_or(1) as f64;
        for side in [Side::Buy, Side::Sell] {
            let places = self.shelf.side(instrument, side);
            let mut place = places.start;
            for _ in places {
                let Some(resting) = self.shelf.get(place).copied() else {
                    break;
                };
                let quantity = resting.remaining.0 as f64 / unit;
                let noise = (self.luck.fraction() - 0.5) * 2e-3;
                let chance = libm::exp(-quantity / self.options.maker_queue_eta) + noise;
                let lucky = self.luck.fraction() < chance.clamp(0.0, 1.0);
                let filled =
                    lucky && self.outgoing.room() > 0 && self.fill(place, resting.remaining);
                if !filled {
                    place += 1;
                }
            }
        }
    }

    /// Fills a resting order at its own price. Returns whether it left the shelf.
    fn fill(&mut self, place: usize, qty: Qty) -> bool {
        let Some(resting) = self.shelf.get_mut(place) else {
            return false;
        };
        let Some(market) = self.markets.get(resting.instrument.index()) else {
            return false;
        };
        // Smaller than what fitted when the order was admitted, so it fits.
        let Some(cost) = Cost::of(&market.instrument, resting.price, qty, true) else {
            return false;
        };
        resting.remaining.0 -= qty.0;
        let still = market.lock_of(resting.side, resting.price, resting.remaining).unwrap_or(0);
        let freed = resting.locked - still;
        resting.locked = still;
        let resting = *resting;
        market.settle(&mut self.accounts, resting.side, qty, cost);
        self.release(&resting, freed);
        self.outgoing.push(Event::fill(
            self.now,
            self.now,
            resting.instrument,
            resting.id,
            resting.side,
            resting.price,
            qty,
            cost.fee,
            true,
        ));
        if resting.remaining.0 == 0 {
            self.shelf.remove(place);
        }
        resting.remaining.0 == 0
    }
}
