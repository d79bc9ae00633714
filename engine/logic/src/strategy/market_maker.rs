//! `market_maker`: rests bids and asks around a reference price.
//!
//! | key | default | meaning |
//! |---|---|---|
//! | `levels` | 1 | quotes a side, at most 8 |
//! | `half_spread_bps` | 10 | distance of the first level from the reference |
//! | `level_step_bps` | 5 | distance between levels |
//! | `order_size` | 0.01 | quantity of one quote, in the base currency |
//! | `max_inventory` | 10 x `order_size` | position at which the side that would grow it is left out |
//! | `skew_bps` | 0 | how far the reference moves against a full inventory |
//! | `reference` | mid | `mid`, or `weighted` by the sizes at the touch |
//! | `refresh_ticks` | 1 | a quote moves when it is at least this far from its target |
//! | `refresh_interval_ms` | 5000 | and not before it has rested this long |
//! | `stale_after_ms` | 5000 | silence of the book after which all quotes are cancelled |
//!
//! A quote has a *slot*: side and level. A slot holds one order at most and is used once an
//! interval at most, whatever became of the order before: that bounds the order rate, and keeps a
//! refused order from being repeated at the pace of the market. A quote that moves is cancelled
//! first and placed anew when the venue has confirmed, so a slot is never at stake twice.
//!
//! The interval is also what lets quotes fill. A quote that follows each tick keeps its distance
//! for ever and trades only when the market jumps over it; and where an instrument's tick is not
//! known it is the smallest unit, so that every change of the market would move every quote. Five
//! seconds at ten basis points get fills from an ordinary move of the market. What cannot wait (a
//! gap, silence, risk, a lost link) cancels at once.
//!
//! On a venue without short sales an ask needs something to sell: it is cut to the free balance
//! and left out below the minimum.

use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;

use crate::event::{Event, Flags, News};
use crate::instrument::{Instrument, InstrumentTable};
use crate::market::Touch;
use crate::order::{OrderFlags, Reason, RiskState, TimeInForce};
use crate::params::Problem;
use crate::strategy::round::{MILLI, Size, lots_within, tick_above, tick_below};
use crate::strategy::{Context, Place, Strategy, StrategySpec};
use crate::units::{InstrumentId, Nanos, OrderId, Price, Qty, Side, div_round};

/// Most quotes a side: both sides of one instrument then fill the intents of one event.
const LEVELS_MAX: i64 = 8;
/// Parts per million in one.
const ONE: i128 = 1_000_000;
const MILLISECOND_NS: u64 = 1_000_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reference {
    Mid,
    Weighted,
}

#[derive(Clone, Copy, Debug)]
struct Settings {
    half_spread_ppm: i64, // in [0, 500_000]
    level_step_ppm: i64,  // in [0, 50_000]
    order_size: Size,
    max_inventory: Size, // positive
    skew_ppm: i64,       // in [0, 500_000]
    reference: Reference,
    refresh_ticks: i64, // positive
    refresh_ns: u64,
    stale_ns: u64,
}

/// Where one quote stands.
#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    order: Option<OrderId>,
    placed_at: Nanos,
}

#[derive(Clone, Debug)]
struct Quotes {
    id: InstrumentId,
    bids: Vec<Slot>,
    asks: Vec<Slot>,
}

/// See the module.
#[derive(Clone, Debug)]
pub struct MarketMaker {
    settings: Settings,
    quotes: Vec<Quotes>,
}

impl MarketMaker {
    /// Reads the parameters.
    ///
    /// # Errors
    /// Every parameter that breaks its rule.
    pub fn new(spec: &StrategySpec, _table: &InstrumentTable) -> Result<Self, Vec<Problem>> {
        let mut read = spec.params.read();
        let levels = read.integer("levels", 1, 1..=LEVELS_MAX);
        let order_size = Size::read(&mut read, "order_size", Size(1_000_000));
        let full = Size(order_size.0.saturating_mul(10));
        let references = [("mid", Reference::Mid), ("weighted", Reference::Weighted)];
        let settings = Settings {
            half_spread_ppm: read.bps_as_ppm("half_spread_bps", 1_000, 0..=500_000),
            level_step_ppm: read.bps_as_ppm("level_step_bps", 500, 0..=50_000),
            order_size,
            max_inventory: Size::read(&mut read, "max_inventory", full),
            skew_ppm: read.bps_as_ppm("skew_bps", 0, 0..=500_000),
            reference: read.choice("reference", Reference::Mid, &references),
            refresh_ticks: read.integer("refresh_ticks", 1, 1..=1_000_000_000),
            refresh_ns: read.duration(
                "refresh_interval_ms",
                5_000 * MILLISECOND_NS,
                MILLISECOND_NS,
            ),
            stale_ns: read.duration("stale_after_ms", 5_000 * MILLISECOND_NS, MILLISECOND_NS),
        };
        read.finish()?;
        let slots = vec![Slot::default(); usize::try_from(levels).unwrap_or(1)];
        let each = |id: &InstrumentId| Quotes { id: *id, bids: slots.clone(), asks: slots.clone() };
        Ok(Self { settings, quotes: spec.instruments.iter().map(each).collect() })
    }

    /// The constructor of the registry.
    pub(crate) fn build(
        spec: &StrategySpec,
        table: &InstrumentTable,
    ) -> Result<Box<dyn Strategy>, Vec<Problem>> {
        Self::new(spec, table).map(|it| -> Box<dyn Strategy> { Box::new(it) })
    }
}

impl Strategy for MarketMaker {
    fn on_event(&mut self, event: &Event, cx: &mut Context<'_>) {
        // Between the levels of one message there is nothing new to know.
        if let News::Book { flags, .. } = event.news()
            && !flags.has(Flags::LAST)
        {
            return;
        }
        let all = event.instrument == InstrumentId::NONE;
        let concerned = |it: &&mut Quotes| all || it.id == event.instrument;
        for quotes in self.quotes.iter_mut().filter(concerned) {
            quotes.review(&self.settings, cx);
        }
    }
}

impl Quotes {
    fn review(&mut self, settings: &Settings, cx: &mut Context<'_>) {
        for slot in self.bids.iter_mut().chain(&mut self.asks) {
            slot.order = slot.order.filter(|id| cx.order(*id).is_some());
        }
        if cx.risk_state() != RiskState::Running {
            self.cancel(Reason::Risk, cx);
            return;
        }
        let touch = cx.touch(self.id).filter(|_| {
            let silence = cx.now().since(cx.market().priced_at(self.id));
            cx.market().is_valid(self.id) && silence <= settings.stale_ns
        });
        let (Some(touch), Some(instrument)) = (touch, cx.instrument(self.id)) else {
            self.cancel(Reason::Stale, cx);
            return;
        };
        let ladder = Targets::new(settings, instrument, &touch, cx.position(self.id));
        // Targets own what they need: the context is free for orders again.
        self.quote(Side::Buy, &ladder, settings, cx);
        self.quote(Side::Sell, &ladder, settings, cx);
    }

    fn cancel(&self, reason: Reason, cx: &mut Context<'_>) {
        for id in self.bids.iter().chain(&self.asks).filter_map(|it| it.order) {
            cx.cancel(id, reason);
        }
    }

    fn quote(&mut self, side: Side, ladder: &Targets, settings: &Settings, cx: &mut Context<'_>) {
        let id = self.id;
        let slots = match side {
            Side::Buy => &mut self.bids,
            Side::Sell => &mut self.asks,
        };
        for (level, slot) in (0_u16..).zip(slots) {
            let target = ladder.wanted(side).then(|| ladder.price(side, level));
            let rested = cx.now().since(slot.placed_at) >= settings.refresh_ns;
            match (slot.order, target) {
                (Some(order), None) => {
                    cx.cancel(order, Reason::Requote);
                }
                (Some(order), Some(price)) => {
                    let found = cx.order(order).map_or(price, |it| it.price);
                    let far = found.0.abs_diff(price.0) >= ladder.refresh.0.unsigned_abs();
                    if far && rested {
                        cx.cancel(order, Reason::Requote);
                    }
                }
                (None, Some(price)) if rested || slot.placed_at == Nanos(0) => {
                    let Some(qty) = affordable(id, side, price, ladder.qty, cx) else {
                        continue;
                    };
                    let place = Place::limit(id, side, qty, price, TimeInForce::Gtc, Reason::Quote)
                        .flags(OrderFlags::POST_ONLY)
                        .tag(level);
                    slot.order = cx.place(place);
                    slot.placed_at = cx.now();
                }
                (None, _) => {}
            }
        }
    }
}

/// How much of `qty` the free balance covers: all or nothing of a bid, any whole lots of an ask.
fn affordable(
    id: InstrumentId,
    side: Side,
    price: Price,
    qty: Qty,
    cx: &Context<'_>,
) -> Option<Qty> {
    let instrument = cx.instrument(id)?;
    match side {
        Side::Buy => {
            let cost = instrument.notional(price, qty).ok()?;
            (cost <= cx.available(instrument.venue, instrument.quote)).then_some(qty)
        }
        Side::Sell => {
            let free = cx.available(instrument.venue, instrument.base);
            let qty = qty.min(lots_within(instrument, free));
            let value = instrument.notional(price, qty).ok()?;
            (qty >= instrument.min_qty && value >= instrument.min_notional).then_some(qty)
        }
    }
}

/// Where the quotes of one instrument should be.
#[derive(Clone, Debug)]
struct Targets {
    prices: [[Price; 8]; 2], // LEVELS_MAX
    wanted: [bool; 2],
    qty: Qty,
    refresh: Price,
}

impl Targets {
    fn new(settings: &Settings, instrument: &Instrument, touch: &Touch, held: Qty) -> Self {
        let full = settings.max_inventory.in_lots(instrument);
        let (bid, ask) = (i128::from(touch.bid.0), i128::from(touch.ask.0));
        let reference = match settings.reference {
            Reference::Mid => (bid + ask) * MILLI / 2,
            Reference::Weighted => {
                let (bids, asks) = (i128::from(touch.bid_qty.0), i128::from(touch.ask_qty.0));
                // The side with more behind it pushes the price towards the other. The spread is
                // weighted, not the prices: their products could pass 128 bits.
                let into = (bids * MILLI).checked_div(bids + asks).unwrap_or(0);
                bid * MILLI + (ask - bid) * into
            }
        };
        let inventory = i128::from(held.0.clamp(-full.0, full.0));
        let skew_ppm = i128::from(settings.skew_ppm) * inventory / i128::from(full.0.max(1));
        let reference = reference - div_round(reference * skew_ppm, ONE);
        let mut prices = [[Price(0); 8]; 2];
        let [bids, asks] = &mut prices;
        for (level, (low, high)) in (0_i128..).zip(bids.iter_mut().zip(asks)) {
            let away =
                i128::from(settings.half_spread_ppm) + level * i128::from(settings.level_step_ppm);
            // Quotes rest: at a tight spread they stay behind the other side of the touch.
            let below = tick_below(instrument, reference * (ONE - away) / ONE);
            *low = below.min(Price(touch.ask.0.saturating_sub(instrument.tick.0)));
            let above = tick_above(instrument, reference * (ONE + away) / ONE);
            *high = above.max(Price(touch.bid.0.saturating_add(instrument.tick.0)));
        }
        Self {
            prices,
            wanted: [held < full, held.0 > -full.0],
            qty: settings.order_size.in_lots(instrument),
            refresh: Price(instrument.tick.0.saturating_mul(settings.refresh_ticks)),
        }
    }

    fn wanted(&self, side: Side) -> bool {
        let [bid, ask] = self.wanted;
        match side {
            Side::Buy => bid,
            Side::Sell => ask,
        }
    }

    fn price(&self, side: Side, level: u16) -> Price {
        let [bids, asks] = &self.prices;
        let side = match side {
            Side::Buy => bids,
            Side::Sell => asks,
        };
        side.get(usize::from(level)).copied().unwrap_or(Price(0))
    }
}

#[cfg(test)]
mod tests {
    use crate::params::Params;
    use crate::strategy::testing::{check, problems};

    #[test]
    fn quotes_rest_around_the_middle_and_move_after_a_while() {
        let check = |script: &str, want: &str| check("market_maker", Params::new(), script, want);
        const FIRST: &str = "1: 1 buy 0.01 BTCUSDT 99.9 gtc post_only quote; \
                             1: 2 sell 0.01 BTCUSDT 100.1 gtc post_only quote";
        check("q 99.99/100.01", FIRST);
        // A new price within the interval moves nothing.
        check("q 99.99/100.01; a 1; a 2; q 100.09/100.11", FIRST);
        // After it the quotes are cancelled, and placed anew when the venue has confirmed.
        check(
            "q 99.99/100.01; a 1; a 2; timer 4997; q 100.09/100.11; c 1; c 2",
            &[
                FIRST,
                "; 5: cancel 1 requote; 5: cancel 2 requote; \
                 6: 3 buy 0.01 BTCUSDT 99.99 gtc post_only quote; \
                 7: 4 sell 0.01 BTCUSDT 100.21 gtc post_only quote",
            ]
            .concat(),
        );
        // An unchanged target is left where it is.
        check("q 99.99/100.01; a 1; a 2; timer 4990; q 99.98/100.02", FIRST);
        // A refused quote is not repeated at the pace of the market.
        check("q 99.99/100.01; d 1; q 99.99/100.01; q 99.99/100.01", FIRST);
        // An order of which nothing is heard keeps its slot.
        check("q 99.99/100.01; u 1; timer 4997; q 99.99/100.01", FIRST);
    }

    #[test]
    fn everything_is_cancelled_when_the_market_or_risk_cannot_be_trusted() {
        let check = |end: &str, reason: &str| {
            let want = [
                "1: 1 buy 0.01 BTCUSDT 99.9 gtc post_only quote; \
                 1: 2 sell 0.01 BTCUSDT 100.1 gtc post_only quote; ",
                &["4: cancel 1 ", reason, "; 4: cancel 2 ", reason].concat(),
            ];
            let script = ["q 99.99/100.01; a 1; a 2; ", end].concat();
            check("market_maker", Params::new(), &script, &want.concat());
        };
        check("gap", "stale");
        check("down", "stale");
        check("timer 5001", "stale");
        check("halt", "risk");
        check("kill", "risk");
        check("off 0", "operator");
        // Once is enough.
        check("halt; timer 1; timer 1", "risk");
    }

    #[test]
    fn inventory_bounds_the_side_that_would_grow_it() {
        let params = Params::new().with("order_size", 1).with("max_inventory", 2);
        check(
            "market_maker",
            params.with("half_spread_bps", 1000).with("refresh_interval_ms", 1),
            "q 99/101; f 1; timer 1; q 99/101; f 3; q 99/101",
            "1: 1 buy 1 BTCUSDT 90 gtc post_only quote; \
             1: 2 sell 1 BTCUSDT 110 gtc post_only quote; \
             2: 3 buy 1 BTCUSDT 90 gtc post_only quote",
        );
    }

    #[test]
    fn levels_skew_and_reference_move_the_targets() {
        let first = |params: Params, script: &str, want: &str| {
            check("market_maker", params.with("order_size", 1), script, want);
        };
        first(
            Params::new().with("levels", 2).with("level_step_bps", 10),
            "q 99.99/100.01",
            "1: 1 buy 1 BTCUSDT 99.9 gtc post_only quote; \
             1: 2 buy 1 BTCUSDT 99.8 gtc post_only quote; \
             1: 3 sell 1 BTCUSDT 100.1 gtc post_only quote; \
             1: 4 sell 1 BTCUSDT 100.2 gtc post_only quote",
        );
        // Nine of ten at the bid: the price is nine tenths of the way to the ask.
        first(
            Params::new().with("reference", "weighted"),
            "q 99x9/101x1",
            "1: 1 buy 1 BTCUSDT 100.69 gtc post_only quote; \
             1: 2 sell 1 BTCUSDT 100.91 gtc post_only quote",
        );
        // A tenth of the full inventory moves the reference by a tenth of the skew.
        first(
            Params::new().with("skew_bps", 100).with("refresh_interval_ms", 1),
            "q 99.99/100.01; f 1; q 99.99/100.01; c 2",
            "1: 1 buy 1 BTCUSDT 99.9 gtc post_only quote; \
             1: 2 sell 1 BTCUSDT 100.1 gtc post_only quote; \
             2: 3 buy 1 BTCUSDT 99.8 gtc post_only quote; \
             2: cancel 2 requote; \
             4: 4 sell 1 BTCUSDT 100 gtc post_only quote",
        );
        // Post-only stays behind the touch however tight the spread is.
        first(
            Params::new().with("half_spread_bps", 0),
            "q 99.99/100",
            "1: 1 buy 1 BTCUSDT 99.99 gtc post_only quote; \
             1: 2 sell 1 BTCUSDT 100 gtc post_only quote",
        );
    }

    #[test]
    fn wrong_parameters_are_told() {
        let found = problems("market_maker", &[0], Params::new().with("levels", 9));
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].starts_with("levels: found 9"), "{found:?}");
    }
}
