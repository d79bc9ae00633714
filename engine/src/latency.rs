//! How long things took, from the stamps in a journal: off the hot path, after the fact.
//!
//! Spans: `recv→in` (bytes in user space to published), `in→strategy`, `strategy→risk`,
//! `risk→sent`, and `tick→order`, which is `recv→sent` of each order against the event that caused
//! it. `recv` and `in` ride in the event, `strategy` and `risk` in the decision; `sent` comes back
//! through IN as a report.

use std::collections::{BTreeMap, HashMap};
use std::fmt;

use hdrhistogram::Histogram;
use kairos_logic::event::{Event, News, ReportState};
use kairos_logic::order::{Action, Decision, Verdict};
use kairos_logic::units::{OrderId, Seq, Stamp};
use serde::Serialize;

/// The spans, in pipeline order.
pub const SPANS: [&str; 5] = ["recv→in", "in→strategy", "strategy→risk", "risk→sent", "tick→order"];

const RECV_IN: usize = 0;
const IN_STRATEGY: usize = 1;
const STRATEGY_RISK: usize = 2;
const RISK_SENT: usize = 3;
const TICK_ORDER: usize = 4;

/// Longest time that a histogram tells apart: a minute. Longer ones count as a minute.
const LONGEST_NS: u64 = 60_000_000_000;
/// Inputs whose stamps are remembered: more than can lie between a cause and its order.
const CAUSES: usize = 1 << 17;
/// Orders whose sending is awaited at once; beyond it, further ones are not measured.
const AWAITED_MAX: usize = 1 << 16;

/// One histogram per span, in nanoseconds.
#[derive(Clone, Debug)]
pub struct SpanSet(pub [Histogram<u64>; SPANS.len()]);

impl Default for SpanSet {
    fn default() -> Self {
        let histogram =
            || Histogram::new_with_bounds(1, LONGEST_NS, 3).expect("bounds that the crate accepts");
        Self([histogram(), histogram(), histogram(), histogram(), histogram()])
    }
}

impl SpanSet {
    /// Adds a value to the span at this place of [`SPANS`].
    pub fn record(&mut self, span: usize, ns: u64) {
        if let Some(histogram) = self.0.get_mut(span) {
            histogram.saturating_record(ns.clamp(1, LONGEST_NS));
        }
    }

    /// The percentiles of every span that has any value.
    #[must_use]
    pub fn table(&self) -> LatencyTable {
        let rows = SPANS.iter().zip(&self.0).filter(|(_, it)| !it.is_empty());
        LatencyTable(rows.map(|(&span, histogram)| (span, Row::of(histogram))).collect())
    }
}

/// Percentiles of one span in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Row {
    /// Values.
    pub count: u64,
    /// The median.
    pub p50_ns: u64,
    /// 90 %.
    pub p90_ns: u64,
    /// 99 %.
    pub p99_ns: u64,
    /// 99.9 %.
    pub p999_ns: u64,
    /// 99.99 %.
    pub p9999_ns: u64,
    /// The largest.
    pub max_ns: u64,
}

impl Row {
    /// Of one histogram in nanoseconds.
    #[must_use]
    pub fn of(histogram: &Histogram<u64>) -> Self {
        Self {
            count: histogram.len(),
            p50_ns: histogram.value_at_percentile(50.0),
            p90_ns: histogram.value_at_percentile(90.0),
            p99_ns: histogram.value_at_percentile(99.0),
            p999_ns: histogram.value_at_percentile(99.9),
            p9999_ns: histogram.value_at_percentile(99.99),
            max_ns: histogram.max(),
        }
    }

    /// The percentiles as a person should see them: one with fewer than 100 values beyond it is
    /// left out, it would be an anecdote. Scripts have the count and judge for themselves.
    fn told(&self) -> [Option<u64>; 5] {
        let at = |value: u64, one_in: u64| (self.count / one_in >= 100).then_some(value);
        [
            (self.count > 0).then_some(self.p50_ns),
            at(self.p90_ns, 10),
            at(self.p99_ns, 100),
            at(self.p999_ns, 1_000),
            at(self.p9999_ns, 10_000),
        ]
    }
}

/// Percentiles by span.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct LatencyTable(pub BTreeMap<&'static str, Row>);

impl fmt::Display for LatencyTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let head = ["count", "p50", "p90", "p99", "p99.9", "p99.99", "max"];
        write!(f, "{:<14}", "latency, ns")?;
        for name in head {
            write!(f, "{name:>12}")?;
        }
        for span in SPANS {
            let Some(row) = self.0.get(span) else { continue };
            write!(f, "\n{span:<14}{:>12}", row.count)?;
            for value in row.told() {
                match value {
                    Some(value) => write!(f, "{value:>12}")?,
                    None => write!(f, "{:>12}", "-")?,
                }
            }
            write!(f, "{:>12}", row.max_ns)?;
        }
        Ok(())
    }
}

/// One measured span: what it is, of which input, how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Measured {
    /// Place in [`SPANS`].
    pub span: usize,
    /// The event that it belongs to: the input itself, or the cause of the decision.
    pub event: Event,
    /// Nanoseconds.
    pub ns: u64,
}

/// Measures spans from a run's frames, given in journal order.
#[derive(Debug)]
pub struct Spans {
    nanos_per_tick: f64,
    causes: Vec<(Seq, Event)>,
    awaited: HashMap<OrderId, (Event, Stamp)>,
    total: SpanSet,
}

impl Spans {
    /// For a run whose stamps tick that many times per second.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "a frequency has far fewer than 53 bits")]
    pub fn new(ticks_per_second: u64) -> Self {
        Self {
            nanos_per_tick: 1e9 / ticks_per_second.max(1) as f64,
            causes: vec![(Seq(0), Event::default()); CAUSES],
            awaited: HashMap::new(),
            total: SpanSet::default(),
        }
    }

    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a span of a day in ticks has 48 bits"
    )]
    fn nanos(&self, from: Stamp, to: Stamp) -> u64 {
        (to.0.saturating_sub(from.0) as f64 * self.nanos_per_tick).round() as u64
    }

    fn note(&mut self, span: usize, event: Event, ns: u64, each: &mut dyn FnMut(Measured)) {
        self.total.record(span, ns);
        each(Measured { span, event, ns });
    }

    /// Takes an input. What it completes goes to `each` as well as into the total.
    pub fn event(&mut self, seq: u64, event: &Event, each: &mut dyn FnMut(Measured)) {
        if event.recv == Stamp(0) {
            return;
        }
        let place = usize::try_from(seq).unwrap_or(0) % CAUSES;
        if let Some(slot) = self.causes.get_mut(place) {
            *slot = (Seq(seq), *event);
        }
        if let News::Report { order, state: ReportState::Sent, .. } = event.news() {
            // Its stamp says when the order left, not when a frame was read.
            if let Some((cause, risk_at)) = self.awaited.remove(&order) {
                let since_risk = self.nanos(risk_at, event.recv);
                self.note(RISK_SENT, cause, since_risk, each);
                let since_recv = self.nanos(cause.recv, event.recv);
                self.note(TICK_ORDER, cause, since_recv, each);
            }
            return;
        }
        // Ticks and commands are made in the moment they are published: no bytes were read.
        if matches!(event.news(), News::Timer | News::Command { .. }) {
            return;
        }
        let published = Stamp(event.recv.0.saturating_add(u64::from(event.in_after)));
        let ns = self.nanos(event.recv, published);
        self.note(RECV_IN, *event, ns, each);
    }

    /// Takes a decision.
    pub fn decision(
        &mut self,
        decision: &Decision,
        strategy_at: Stamp,
        risk_at: Stamp,
        each: &mut dyn FnMut(Measured),
    ) {
        let place = usize::try_from(decision.cause.0).unwrap_or(0) % CAUSES;
        let cause = match self.causes.get(place) {
            Some((seq, event)) if *seq == decision.cause => *event,
            _ => return,
        };
        // Risk's own decisions passed no strategy.
        if strategy_at != Stamp(0) {
            let published = Stamp(cause.recv.0.saturating_add(u64::from(cause.in_after)));
            let ns = self.nanos(published, strategy_at);
            self.note(IN_STRATEGY, cause, ns, each);
            let ns = self.nanos(strategy_at, risk_at);
            self.note(STRATEGY_RISK, cause, ns, each);
        }
        let leaves = decision.action == Action::Place && decision.verdict == Verdict::Approved;
        if leaves && self.awaited.len() < AWAITED_MAX {
            self.awaited.insert(decision.order, (cause, risk_at));
        }
    }

    /// Everything measured so far.
    #[must_use]
    pub const fn total(&self) -> &SpanSet {
        &self.total
    }
}

#[cfg(test)]
mod tests {
    use kairos_logic::code::Code;
    use kairos_logic::event::Event;
    use kairos_logic::order::{OrderFlags, OrderType, Reason, RiskState, TimeInForce};
    use kairos_logic::units::{InstrumentId, Money, Nanos, Price, Qty, Side, StrategyId};

    use super::*;

    fn decision(cause: u64, order: OrderId) -> Decision {
        Decision {
            cause: Seq(cause),
            at: Nanos(1),
            order,
            price: Price(1),
            qty: Qty(1),
            found: 0,
            limit: 0,
            notional: Money(0),
            instrument: InstrumentId(0),
            confidence: 0,
            tag: 0,
            strategy: StrategyId(0),
            action: Action::Place,
            side: Side::Buy,
            order_type: OrderType::Limit,
            tif: TimeInForce::Gtc,
            flags: OrderFlags::NONE,
            reason: Reason::Entry,
            verdict: Verdict::Approved,
            code: Code::None,
            state: RiskState::Running,
        }
    }

    #[test]
    fn an_order_is_measured_against_the_event_that_caused_it() {
        let mut spans = Spans::new(2_000_000_000); // two ticks are a nanosecond
        let mut seen = Vec::new();
        let (at, id) = (Nanos(5), InstrumentId(0));
        let mut cause = Event::trade(at, at, id, Price(1), Qty(1), 1, Side::Buy);
        (cause.recv, cause.in_after) = (Stamp(1_000), 40);
        spans.event(7, &cause, &mut |it| seen.push((it.span, it.ns)));
        let mut tick = Event::timer(at);
        tick.recv = Stamp(1_001);
        spans.event(8, &tick, &mut |it| panic!("{it:?}: no bytes were read"));
        let order = OrderId::new(1, 1);
        let (strategy_at, risk_at) = (Stamp(1_100), Stamp(1_160));
        spans.decision(&decision(7, order), strategy_at, risk_at, &mut |it| {
            seen.push((it.span, it.ns));
        });
        let none = InstrumentId::NONE;
        let at = Nanos(6);
        let state = ReportState::Sent;
        let mut sent = Event::report(at, at, none, order, Side::Buy, state, Qty(1), Code::None);
        sent.recv = Stamp(1_300);
        spans.event(9, &sent, &mut |it| seen.push((it.span, it.ns)));
        assert_eq!(
            seen,
            [
                (RECV_IN, 20),
                (IN_STRATEGY, 30),
                (STRATEGY_RISK, 30),
                (RISK_SENT, 70),
                (TICK_ORDER, 150)
            ]
        );
        assert_eq!(spans.total().table().0["tick→order"].max_ns, 150);
    }

    #[test]
    fn a_percentile_with_few_samples_beyond_it_is_not_told() {
        let mut set = SpanSet::default();
        for ns in 1..=9_999 {
            set.record(0, ns);
        }
        let told = |set: &SpanSet| set.table().0["recv→in"].told().map(|it| it.is_some());
        assert_eq!(told(&set), [true, true, false, false, false]);
        set.record(0, 10_000);
        assert_eq!(told(&set), [true, true, true, false, false]);
        assert!(set.table().0["recv→in"].p9999_ns > 9_900, "scripts see the number all the same");
    }
}
