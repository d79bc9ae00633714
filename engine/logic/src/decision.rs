//! Strategy, then risk, in one call.

use crate::desk::Desk;
use crate::event::Event;
use crate::order::{Intents, Proposal};
use crate::risk::{Outcome, Risk};
use crate::units::{Seq, Stamp};

/// All that decides. Backtest and replay call it directly; in a running engine rings stand between
/// its two halves, and the decisions must be the same, byte for byte.
#[derive(Debug)]
pub struct Mind {
    desk: Desk,
    risk: Risk,
    intents: Intents,
}

impl Mind {
    /// Puts the two halves together. They must have been made of the same instrument table.
    #[must_use]
    pub fn new(desk: Desk, risk: Risk) -> Self {
        Self { desk, risk, intents: Intents::new() }
    }

    /// Takes one event and shows `out` every decision that it causes, in the order in which they
    /// stand in ORDERS: first what risk decides by itself, then its verdict on each proposal.
    pub fn on_event(&mut self, cause: Seq, event: &Event, out: &mut impl FnMut(&Outcome)) {
        self.intents.clear();
        self.desk.on_event(event, &mut self.intents);
        self.risk.on_event(cause, event, &mut |outcome| out(&outcome));
        for &intent in self.intents.as_slice() {
            // The stamp is no input to a decision: here there is nothing to measure.
            let proposal = Proposal { cause, intent, strategy_at: Stamp(0) };
            out(&self.risk.judge(&proposal));
        }
    }

    /// The strategies' half.
    #[must_use]
    pub const fn desk(&self) -> &Desk {
        &self.desk
    }

    /// The half that says no.
    #[must_use]
    pub const fn risk(&self) -> &Risk {
        &self.risk
    }

    /// Wishes for which one event had no room, since the start.
    #[must_use]
    pub const fn refused(&self) -> u64 {
        self.intents.refused()
    }

    /// The halves, for the rings.
    #[must_use]
    pub fn into_parts(self) -> (Desk, Risk) {
        (self.desk, self.risk)
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use super::*;
    use crate::code::Code;
    use crate::desk::DeskOptions;
    use crate::event::{ReportState, Verb};
    use crate::order::{Action, Decision, Verdict};
    use crate::params::Params;
    use crate::risk::{Limits, RiskOptions};
    use crate::strategy::testing::{MS, USDT, VENUE, money, spec, table};
    use crate::strategy::{Registry, StrategySpec};
    use crate::units::{InstrumentId, Money, Nanos, OrderId, Price, Qty, Side, StrategyId};

    const I: InstrumentId = InstrumentId(0);

    fn mind(limits: Limits) -> Mind {
        let specs: Vec<StrategySpec> = ["momentum", "market_maker"]
            .iter()
            .enumerate()
            .map(|(n, kind)| spec(u8::try_from(n).unwrap(), kind, &[0], Params::new()))
            .collect();
        let balances = [(VENUE, USDT, money(100_000))].to_vec();
        let desk = DeskOptions { run: 3, depth: 64, currency: USDT, balances: balances.clone() };
        let desk = Desk::new(&table(), specs, &Registry::shipped(), &desk).unwrap();
        let risk = RiskOptions { currency: USDT, balances, depth: 64 };
        Mind::new(desk, Risk::new(&table(), limits, &risk))
    }

    /// What a venue that fills most orders at their limit says of a decision. `over` are the orders
    /// that have ended.
    fn answers(at: Nanos, it: &Decision, over: &mut Vec<OrderId>) -> Vec<Event> {
        let report = |state, code| {
            Event::report(at, at, it.instrument, it.order, it.side, state, Qty(0), code)
        };
        match (it.action, it.verdict) {
            (Action::State | Action::Result, _) => Vec::new(),
            (_, Verdict::Denied) => [report(ReportState::Denied, it.code)].to_vec(),
            (Action::Cancel, Verdict::Approved) if over.contains(&it.order) => {
                [report(ReportState::CancelRejected, Code::UnknownOrder)].to_vec()
            }
            (Action::Cancel, Verdict::Approved) => {
                over.push(it.order);
                [report(ReportState::Cancelled, Code::UserCancel)].to_vec()
            }
            (Action::Place, Verdict::Approved) => {
                let (price, qty) = (it.price, it.qty);
                let fill = |qty| {
                    Event::fill(
                        at,
                        at,
                        it.instrument,
                        it.order,
                        it.side,
                        price,
                        qty,
                        Money(7),
                        true,
                    )
                };
                let sent = report(ReportState::Sent, Code::None);
                if it.order.counter() % 4 == 1 {
                    return [sent].to_vec(); // rests until it is cancelled
                }
                over.push(it.order);
                [sent, fill(qty)].to_vec()
            }
        }
    }

    /// A market that goes up and down, with the venue's answers; what went in and what came out.
    fn run(limits: Limits) -> (Mind, Vec<Event>, Vec<Decision>) {
        let mut mind = mind(limits);
        let (mut events, mut decisions) = (Vec::new(), Vec::new());
        let (mut waiting, mut over) = (Vec::new(), Vec::new());
        for n in 0..600_i64 {
            let at = Nanos((1_000 + n.unsigned_abs()) * 100 * MS);
            let price = 6_000_000 + (n % 97 - 48).abs() * 1_500;
            let side = |price| (Price(price), Qty(50_000_000));
            let mut now = core::mem::take(&mut waiting);
            now.push(Event::quote(at, at, I, side(price - 100), side(price + 100)));
            let id = n.unsigned_abs();
            now.push(Event::trade(at, at, I, Price(price), Qty(1_000), id, Side::Buy));
            if n == 400 {
                now.push(Event::command(at, Verb::Halt, 0));
            }
            for event in now {
                let cause = Seq(u64::try_from(events.len()).unwrap());
                events.push(event);
                mind.on_event(cause, &event, &mut |outcome| {
                    let it = *outcome.record().unwrap();
                    assert_eq!(it.cause, cause);
                    waiting.extend(answers(at, &it, &mut over));
                    decisions.push(it);
                });
            }
        }
        (mind, events, decisions)
    }

    #[test]
    fn the_same_inputs_give_the_same_decisions_and_other_limits_give_others() {
        let (mind, events, decisions) = run(Limits::default());
        let fills = mind.risk().ledger().position(I).fills;
        let own = decisions.iter().filter(|it| it.strategy == StrategyId::RISK).count();
        assert!(fills > 10, "{fills} fills");
        assert!(own > 0, "the halt was decided by risk itself");
        let (_, again_events, again) = run(Limits::default());
        assert_eq!((&again_events, &again), (&events, &decisions));
        let (_, _, other) = run(Limits { max_order_notional: money(100), ..Limits::default() });
        assert_ne!(other, decisions);
    }

    /// Between rings the desk may be far ahead of risk, as far as the last event.
    #[test]
    fn a_ring_between_the_halves_changes_nothing() {
        let (_, events, decisions) = run(Limits::default());
        let (mut desk, mut risk) = mind(Limits::default()).into_parts();
        let mut proposals = Vec::new();
        let mut intents = Intents::new();
        for (cause, event) in (0..).map(Seq).zip(&events) {
            intents.clear();
            desk.on_event(event, &mut intents);
            let strategy_at = Stamp(cause.0 * 17);
            proposals.extend(intents.as_slice().iter().map(|&intent| Proposal {
                cause,
                intent,
                strategy_at,
            }));
        }
        let mut found = Vec::new();
        for (cause, event) in (0..).map(Seq).zip(&events) {
            risk.on_event(cause, event, &mut |it| found.extend(it.record().copied()));
            for proposal in proposals.iter().filter(|it| it.cause == cause) {
                found.extend(risk.judge(proposal).record().copied());
            }
        }
        assert_eq!(found, decisions);
    }

    #[test]
    fn what_strategies_think_they_own_is_what_the_ledger_holds() {
        let (mind, ..) = run(Limits::default());
        let view: i64 = (0..2).map(|n| mind.desk().accounts().position(StrategyId(n), I).0).sum();
        assert_eq!(Qty(view), mind.risk().ledger().position(I).qty);
        let open = mind.desk().open_orders().filter(|it| it.life.open_qty().0 > 0).count();
        assert!(open >= mind.risk().open_orders(), "the desk counts wishes on their way too");
        assert_eq!(mind.risk().counts().faults, 0);
    }
}
