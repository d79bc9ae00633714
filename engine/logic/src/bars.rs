//! From trades to bars: open, high, low, close and volume of equal stretches of time.

use crate::event::Event;
use crate::units::{Nanos, Price, Qty};

/// Farthest that a venue's time may be from ours and still be believed: 60 s.
pub const CLOCK_SKEW_MAX_NS: u64 = 60_000_000_000;
/// Most empty bars for one silence: 1 024 one-minute bars are 17 hours. Older ones are left out
/// and counted, so one event has bounded work however long the silence was.
pub const EMPTY_BARS_MAX: u64 = 1_024;

/// When an event happened: the venue's time if it has one within [`CLOCK_SKEW_MAX_NS`] of ours,
/// else the time at which it was read.
#[must_use]
pub fn event_time(event: &Event) -> Nanos {
    let (venue, ours) = (event.venue_at, event.at);
    if venue.0 != 0 && venue.0.abs_diff(ours.0) <= CLOCK_SKEW_MAX_NS { venue } else { ours }
}

/// One stretch of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bar {
    /// Where the stretch begins; a multiple of the length, counted from the epoch.
    pub start: Nanos,
    /// First price.
    pub open: Price,
    /// Highest price.
    pub high: Price,
    /// Lowest price.
    pub low: Price,
    /// Last price.
    pub close: Price,
    /// Sum of the quantities; stays at the largest number rather than wrapping.
    pub volume: Qty,
}

/// What a [`BarBuilder`] left out, since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LeftOut {
    /// Trades older than the last accepted one, or than the last closed bar.
    pub out_of_order: u64,
    /// Trades without a positive price.
    pub invalid: u64,
    /// Empty bars beyond [`EMPTY_BARS_MAX`] of one silence.
    pub empty: u64,
}

/// How bars are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BarOptions {
    /// Length of a bar in nanoseconds, positive.
    pub length_ns: u64,
    /// How long after its end a bar waits for a late trade before a timer closes it.
    pub grace_ns: u64,
    /// Whether a stretch without trades gives a bar at the last close, with volume 0.
    pub emit_empty: bool,
}

impl BarOptions {
    /// Bars of this length, a grace of 200 ms, no empty bars.
    #[must_use]
    pub const fn of_length(length_ns: u64) -> Self {
        Self { length_ns, grace_ns: 200_000_000, emit_empty: false }
    }
}

/// Makes the bars of one instrument. Only trades make bars: quotes have no volume.
#[derive(Clone, Debug)]
pub struct BarBuilder {
    options: BarOptions,
    open: Option<Bar>,
    /// The last closed bar: whatever belongs to it or before comes too late.
    closed: Option<Bar>,
    last_at: Nanos,
    left_out: LeftOut,
}

impl BarBuilder {
    /// No bar yet. A length of zero is read as one nanosecond.
    #[must_use]
    pub fn new(mut options: BarOptions) -> Self {
        options.length_ns = options.length_ns.max(1);
        Self { options, open: None, closed: None, last_at: Nanos(0), left_out: LeftOut::default() }
    }

    /// Takes a trade that happened at `at` (see [`event_time`]). What it closes goes to `out`,
    /// oldest first: at most one bar with trades, then empty ones where they are wanted.
    pub fn on_trade(&mut self, at: Nanos, price: Price, qty: Qty, out: &mut impl FnMut(&Bar)) {
        if price.0 <= 0 {
            self.left_out.invalid += 1;
            return;
        }
        let start = self.start_of(at);
        if at < self.last_at || self.closed.is_some_and(|it| start <= it.start) {
            self.left_out.out_of_order += 1;
            return;
        }
        self.last_at = at;
        if self.open.is_some_and(|it| it.start < start) {
            self.close(out);
        }
        match &mut self.open {
            Some(bar) => {
                bar.high = bar.high.max(price);
                bar.low = bar.low.min(price);
                bar.close = price;
                bar.volume = Qty(bar.volume.0.saturating_add(qty.0));
            }
            None => {
                self.fill_up_to(start, out);
                self.open = Some(Bar {
                    start,
                    open: price,
                    high: price,
                    low: price,
                    close: price,
                    volume: qty,
                });
            }
        }
    }

    /// Takes notice of logic's time: closes a bar whose end and grace have passed, and, where empty
    /// bars are wanted, the empty stretches after it.
    pub fn on_timer(&mut self, now: Nanos, out: &mut impl FnMut(&Bar)) {
        let passed = Nanos(now.0.saturating_sub(self.options.grace_ns));
        let current = self.start_of(passed);
        if self.open.is_some_and(|it| it.start < current) {
            self.close(out);
        }
        if self.open.is_none() {
            self.fill_up_to(current, out);
        }
    }

    /// The bar that is not closed yet.
    #[must_use]
    pub const fn open_bar(&self) -> Option<&Bar> {
        self.open.as_ref()
    }

    /// What was left out so far.
    #[must_use]
    pub const fn left_out(&self) -> LeftOut {
        self.left_out
    }

    const fn start_of(&self, at: Nanos) -> Nanos {
        Nanos(at.0 - at.0 % self.options.length_ns)
    }

    fn close(&mut self, out: &mut impl FnMut(&Bar)) {
        if let Some(bar) = self.open.take() {
            self.closed = Some(bar);
            out(&bar);
        }
    }

    /// Empty bars from behind the last closed one up to, and without, the stretch at `end`.
    fn fill_up_to(&mut self, end: Nanos, out: &mut impl FnMut(&Bar)) {
        let (true, Some(last)) = (self.options.emit_empty, self.closed) else {
            return;
        };
        let length = self.options.length_ns;
        let missing = (end.since(last.start) / length).saturating_sub(1);
        let skipped = missing.saturating_sub(EMPTY_BARS_MAX);
        self.left_out.empty += skipped;
        for step in skipped + 1..=missing {
            let bar = Bar {
                start: last.start.plus(step.saturating_mul(length)),
                open: last.close,
                high: last.close,
                low: last.close,
                close: last.close,
                volume: Qty(0),
            };
            self.closed = Some(bar);
            out(&bar);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::{InstrumentId, Side};
    use alloc::vec::Vec;

    /// Input: `(time, price, qty)` is a trade, `(time, 0, -1)` a timer.
    /// Output: `(start, open, high, low, close, volume)`.
    fn check(emit_empty: bool, input: &[(u64, i64, i64)], want: &[[i64; 6]], out: u64) {
        let options = BarOptions { length_ns: 10, grace_ns: 2, emit_empty };
        let mut builder = BarBuilder::new(options);
        let mut found = Vec::new();
        let mut take = |bar: &Bar| {
            let start = i64::try_from(bar.start.0).unwrap();
            let prices = [bar.open, bar.high, bar.low, bar.close].map(|it| it.0);
            let [open, high, low, close] = prices;
            found.push([start, open, high, low, close, bar.volume.0]);
        };
        for &(at, price, qty) in input {
            if qty < 0 {
                builder.on_timer(Nanos(at), &mut take);
            } else {
                builder.on_trade(Nanos(at), Price(price), Qty(qty), &mut take);
            }
        }
        assert_eq!(found, want, "{input:?}");
        assert_eq!(builder.left_out().out_of_order, out, "{input:?}");
    }

    #[test]
    fn trades_become_bars() {
        const TIMER: (i64, i64) = (0, -1);
        let timer = |at| (at, TIMER.0, TIMER.1);
        // Closed by the first trade of a later stretch.
        check(
            false,
            &[(11, 5, 1), (12, 9, 2), (13, 3, 1), (19, 4, 1), (20, 7, 1)],
            &[[10, 5, 9, 3, 4, 5]],
            0,
        );
        // Closed by a timer, but not before the grace is over.
        check(false, &[(11, 5, 1), timer(21)], &[], 0);
        check(false, &[(11, 5, 1), timer(22)], &[[10, 5, 5, 5, 5, 1]], 0);
        // Within the grace a late trade still counts; after the close it does not.
        check(
            false,
            &[(11, 5, 1), timer(21), (19, 6, 1), timer(22), (19, 9, 9)],
            &[[10, 5, 6, 5, 6, 2]],
            1,
        );
        // Older than the last accepted one.
        check(false, &[(15, 5, 1), (14, 9, 9), (15, 6, 1)], &[], 1);
        // Silence gives no bar, unless empty ones are wanted.
        check(
            false,
            &[(11, 5, 1), (45, 6, 1), (50, 6, 1)],
            &[[10, 5, 5, 5, 5, 1], [40, 6, 6, 6, 6, 1]],
            0,
        );
        check(
            true,
            &[(11, 5, 1), (45, 6, 1)],
            &[[10, 5, 5, 5, 5, 1], [20, 5, 5, 5, 5, 0], [30, 5, 5, 5, 5, 0]],
            0,
        );
        check(
            true,
            &[(11, 5, 1), timer(22), timer(31), timer(32), timer(33)],
            &[[10, 5, 5, 5, 5, 1], [20, 5, 5, 5, 5, 0]],
            0,
        );
        // No price, no bar.
        check(true, &[(11, 0, 1), (12, -4, 1), timer(99)], &[], 0);
    }

    #[test]
    fn one_silence_has_bounded_work() {
        let mut builder =
            BarBuilder::new(BarOptions { length_ns: 1, grace_ns: 0, emit_empty: true });
        let mut bars = 0;
        builder.on_trade(Nanos(1), Price(1), Qty(1), &mut |_| bars += 1);
        builder.on_timer(Nanos(1_000_000), &mut |_| bars += 1);
        assert_eq!(bars, 1 + EMPTY_BARS_MAX);
        assert_eq!(builder.left_out().empty, 1_000_000 - 2 - EMPTY_BARS_MAX);
    }

    #[test]
    fn the_venues_time_counts_within_a_minute_of_ours() {
        let at = 1_000_000_000_000;
        let check = |venue_at: u64, want: u64| {
            let price = Price(1);
            let event = Event::trade(
                Nanos(at),
                Nanos(venue_at),
                InstrumentId(0),
                price,
                Qty(1),
                1,
                Side::Buy,
            );
            assert_eq!(event_time(&event), Nanos(want));
        };
        check(0, at);
        check(at + 5, at + 5);
        check(at - 60_000_000_000, at - 60_000_000_000);
        check(at - 60_000_000_001, at);
        check(at + 60_000_000_001, at);
    }
}
