//! `sma_cross`: holds while the short moving average is above the long one.
//!
//! Averages of closing prices. From the bar at which both are ready: short above long and no
//! position buys `size`; short below long and a position sells all of it. At most one open order
//! an instrument.
//!
//! | key | default | meaning |
//! |---|---|---|
//! | `timeframe` | 1s | length of a bar: `1m`, `15min`, `1hour`, …; a bare number is seconds |
//! | `sma_short` | 10 | bars of the short average; less than `sma_long` |
//! | `sma_long` | 50 | bars of the long average, at most 4 096 |
//! | `size` | 1.0 | quantity of one purchase, in the base currency |
//! | `emit_empty` | false | whether a stretch without trades counts as a bar at the last price |
//!
//! One-second bars are the default because the averages are then ready after a minute of a busy
//! market. With `1m` the first decision takes fifty minutes, and any run shorter than that shows
//! nothing at all.

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::vec::Vec;

use crate::bars::{Bar, BarBuilder, BarOptions, event_time};
use crate::event::{Event, News};
use crate::instrument::InstrumentTable;
use crate::order::{OrderFlags, Reason};
use crate::params::Problem;
use crate::strategy::round::Size;
use crate::strategy::{Context, Place, Strategy, StrategySpec};
use crate::units::{InstrumentId, Price, Qty, Side};

/// Longest average: 4 096 closes are 32 KiB an instrument.
const BARS_MAX: i64 = 4_096;
const SECOND_NS: u64 = 1_000_000_000;

/// See the module.
#[derive(Clone, Debug)]
pub struct SmaCross {
    size: Size,
    series: Vec<(InstrumentId, Series)>,
}

#[derive(Clone, Debug)]
struct Series {
    bars: BarBuilder,
    averages: Averages,
}

impl SmaCross {
    /// Reads the parameters.
    ///
    /// # Errors
    /// Every parameter that breaks its rule.
    pub fn new(spec: &StrategySpec, _table: &InstrumentTable) -> Result<Self, Vec<Problem>> {
        let mut read = spec.params.read();
        let size = Size::read(&mut read, "size", Size(100_000_000));
        let length_ns = read.duration("timeframe", SECOND_NS, SECOND_NS);
        let short = read.integer("sma_short", 10, 1..=BARS_MAX);
        let long = read.integer("sma_long", 50, 2..=BARS_MAX);
        if short >= long {
            read.object("sma_short", short, "must be less than sma_long");
        }
        let options = BarOptions {
            emit_empty: read.boolean("emit_empty", false),
            ..BarOptions::of_length(length_ns)
        };
        read.finish()?;
        let places = |bars: i64| usize::try_from(bars).unwrap_or(1);
        // Made anew for each: a clone would come without the room for later bars.
        let series = || Series {
            bars: BarBuilder::new(options),
            averages: Averages::new(places(short), places(long)),
        };
        let each = |id: &InstrumentId| (*id, series());
        Ok(Self { size, series: spec.instruments.iter().map(each).collect() })
    }

    /// The constructor of the registry.
    pub(crate) fn build(
        spec: &StrategySpec,
        table: &InstrumentTable,
    ) -> Result<Box<dyn Strategy>, Vec<Problem>> {
        Self::new(spec, table).map(|it| -> Box<dyn Strategy> { Box::new(it) })
    }
}

impl Strategy for SmaCross {
    fn on_event(&mut self, event: &Event, cx: &mut Context<'_>) {
        let news = event.news();
        for (id, series) in &mut self.series {
            let Series { bars, averages } = series;
            let mut closed = false;
            let mut take = |bar: &Bar| {
                averages.push(bar.close);
                closed = true;
            };
            match news {
                News::Trade { price, qty, .. } if event.instrument == *id => {
                    bars.on_trade(event_time(event), price, qty, &mut take);
                }
                News::Timer => bars.on_timer(cx.now(), &mut take),
                News::Trade { .. }
                | News::Quote { .. }
                | News::Book { .. }
                | News::Gap { .. }
                | News::Status { .. }
                | News::Command { .. }
                | News::Fill { .. }
                | News::Report { .. }
                | News::Balance { .. }
                | News::Config { .. }
                | News::Nothing => {}
            }
            if closed && let Some(short_is) = averages.compare() {
                decide(*id, short_is, self.size, cx);
            }
        }
    }
}

fn decide(id: InstrumentId, short_is: core::cmp::Ordering, size: Size, cx: &mut Context<'_>) {
    let position = cx.position(id);
    let Some(instrument) = cx.instrument(id) else {
        return;
    };
    if cx.open_orders().any(|it| it.instrument == id) {
        return;
    }
    if short_is.is_gt() && position <= Qty(0) {
        let qty = size.in_lots(instrument);
        cx.place(Place::market(id, Side::Buy, qty, Reason::Entry));
    } else if short_is.is_lt() && position > Qty(0) {
        let exit = Place::market(id, Side::Sell, position, Reason::Exit);
        cx.place(exit.flags(OrderFlags::REDUCE_ONLY));
    }
}

/// Two moving averages over one window, as exact sums.
#[derive(Clone, Debug)]
struct Averages {
    closes: VecDeque<i64>, // never more than `long`, so it never grows
    short: usize,
    long: usize,
    short_sum: i128,
    long_sum: i128,
}

impl Averages {
    fn new(short: usize, long: usize) -> Self {
        Self { closes: VecDeque::with_capacity(long + 1), short, long, short_sum: 0, long_sum: 0 }
    }

    fn push(&mut self, close: Price) {
        self.closes.push_back(close.0);
        self.short_sum += i128::from(close.0);
        self.long_sum += i128::from(close.0);
        let before_short = self.closes.len().checked_sub(self.short + 1);
        if let Some(&left) = before_short.and_then(|place| self.closes.get(place)) {
            self.short_sum -= i128::from(left);
        }
        if self.closes.len() > self.long
            && let Some(left) = self.closes.pop_front()
        {
            self.long_sum -= i128::from(left);
        }
    }

    /// The short average against the long one, exactly; `None` until both are ready.
    fn compare(&self) -> Option<core::cmp::Ordering> {
        let wide = |bars: usize| i128::try_from(bars).unwrap_or(1);
        let ready = self.closes.len() >= self.long;
        // sum_s / s against sum_l / l, without dividing.
        ready.then(|| (self.short_sum * wide(self.long)).cmp(&(self.long_sum * wide(self.short))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::params::Params;
    use crate::strategy::testing::{check, problems};

    /// One trade every 1 000 steps of a millisecond would be long to write: bars of a millisecond
    /// make every trade a bar, closed by the next one.
    fn params() -> Params {
        let params = Params::new().with("timeframe", "1ms");
        params.with("sma_short", 1).with("sma_long", 2)
    }

    #[test]
    fn holds_while_the_short_average_is_above_the_long_one() {
        let check = |script: &str, want: &str| check("sma_cross", params(), script, want);
        const BUY: &str = "3: 1 buy 1 BTCUSDT market entry";
        // Two closed bars are needed: the third trade closes the second.
        check("t 10; t 11", "");
        check("t 10; t 11; t 11", BUY);
        check("t 11; t 10; t 10", "");
        check("t 10; t 10; t 10", "");
        // Not again while the order is open, nor while the position is held.
        check("t 10; t 11; t 12; t 13", BUY);
        check("t 10; t 11; t 12; f 1 1@12; t 13; t 14", BUY);
        // Short below long sells what is held.
        check(
            "t 10; t 11; t 12; f 1 1@12; t 9; t 9",
            &[BUY, "; 6: 2 sell 1 BTCUSDT market reduce_only exit"].concat(),
        );
        // A timer closes a bar too.
        check("t 10; t 11; timer 300", BUY);
    }

    #[test]
    fn averages_are_exact_over_long_series() {
        let mut averages = Averages::new(10, 50);
        let price = |n: i64| Price(61_000_000_000_000 + (n * 7_919) % 1_000_003);
        for n in 0..5_000 {
            averages.push(price(n));
            let sum =
                |bars: i64| -> i128 { (n + 1 - bars..=n).map(|it| i128::from(price(it).0)).sum() };
            let want = (n >= 49).then(|| (sum(10) * 50).cmp(&(sum(50) * 10)));
            assert_eq!(averages.compare(), want);
        }
        assert!(averages.closes.capacity() < 100, "bounded by the window");
    }

    #[test]
    fn windows_must_make_sense() {
        let wrong = Params::new().with("sma_short", 50);
        let found = problems("sma_cross", &[0], wrong);
        assert_eq!(found, ["sma_short: found 50, must be less than sma_long"]);
        let label = |label| problems("sma_cross", &[0], Params::new().with("timeframe", label));
        for good in ["1m", "15min", "1hour", "8h", "1day", "1w", "1mo", "60"] {
            assert_eq!(label(good), [""; 0], "{good}");
        }
        assert_eq!(label("1 fortnight").len(), 1);
    }
}
