//! RISK: IN behind STRATEGY in, with the proposals of each cause; ORDERS out.

use std::sync::Arc;

use kairos_logic::event::Event;
use kairos_logic::order::{Action, INTENTS_MAX, Proposal, RiskState, Verdict};
use kairos_logic::orders::OPEN_MAX;
use kairos_logic::risk::{Outcome, Risk};
use kairos_logic::units::{Seq, Stamp};

use super::feed::Broken;
use super::{OrderSlot, room};
use crate::clock::Clock;
use crate::meter::Meters;
use crate::ring::{Ahead, Inlet, Outlet};
use crate::seat::{Looked, Seat};

/// Events per turn: how far risk may be ahead of what it says it has taken.
pub(super) const BATCH: u64 = 16;

/// Slots of ORDERS: a thousand orders per second for a minute, rounded up. 8 MiB.
pub const ORDERS_SLOTS: usize = 1 << 16;

/// Most outcomes of one event: every open order cancelled, a change of state, every intent judged.
const OUTCOMES_MAX: u64 = (OPEN_MAX + INTENTS_MAX + 2) as u64;

/// Judges every proposal in the order of the one total order.
pub struct RiskSeat<I, P, O> {
    inputs: I,
    proposals: Ahead<Proposal, P>,
    orders: O,
    risk: Risk,
    published: u64,
    broken_books: u64,
    broken: Arc<Broken>,
    clock: Clock,
    meters: Arc<Meters>,
}

impl<I: Inlet<Event>, P: Inlet<Proposal>, O: Outlet<OrderSlot>> RiskSeat<I, P, O> {
    /// Puts risk between its rings.
    pub fn new(
        inputs: I,
        proposals: P,
        orders: O,
        risk: Risk,
        broken: Arc<Broken>,
        clock: Clock,
        meters: Arc<Meters>,
    ) -> Self {
        let proposals = Ahead::new(proposals);
        Self {
            inputs,
            proposals,
            orders,
            risk,
            published: 0,
            broken_books: 0,
            broken,
            clock,
            meters,
        }
    }

    fn allowance(&self) -> u64 {
        let journal = self.meters.journal.taken_orders.get();
        let taken = journal.min(self.meters.execution.taken_orders.get());
        (room(ORDERS_SLOTS as u64, self.published, taken) / OUTCOMES_MAX).min(BATCH)
    }
}

impl<I: Inlet<Event>, P: Inlet<Proposal>, O: Outlet<OrderSlot>> Seat for RiskSeat<I, P, O> {
    fn turn(&mut self) -> Looked {
        let allowance = self.allowance();
        if allowance == 0 {
            self.meters.risk.held.add(1);
            return Looked::Idle;
        }
        let before = self.published;
        let Self {
            inputs,
            proposals,
            orders,
            risk,
            published,
            broken_books,
            broken,
            clock,
            meters,
        } = self;
        let mut publish = |outcome: Outcome, strategy_at: Stamp| {
            count(&outcome, meters);
            let sent = orders.offer(OrderSlot { outcome, strategy_at, risk_at: clock.stamp() });
            assert!(sent, "ORDERS has room for every allowed event");
            *published += 1;
            meters.orders_published.set(*published);
        };
        let looked = inputs.look(allowance, |cause: Seq, event| {
            risk.on_event(cause, event, &mut |outcome| publish(outcome, Stamp(0)));
            // STRATEGY has let go of `event`, so every proposal that it caused is here already.
            while let Some(proposal) = proposals.next_if(|it| it.cause == cause) {
                publish(risk.judge(&proposal), proposal.strategy_at);
            }
            report_broken_book(risk, broken_books, broken);
        });
        if self.published != before {
            self.meters.open_orders.set(self.risk.open_orders() as u64);
            self.meters.proposals_taken.set(self.proposals.position());
        }
        self.meters.risk.taken_in.set(self.inputs.position());
        looked
    }
}

/// What the stats page shows of risk.
fn count(outcome: &Outcome, meters: &Meters) {
    let Some(record) = outcome.record() else { return };
    meters.risk_state.set(record.state as u64);
    if record.action == Action::State {
        match record.state {
            RiskState::Halted | RiskState::Killed => meters.halted_at.set(record.cause.0 + 1),
            RiskState::Running | RiskState::Reducing | RiskState::Cooldown => {
                meters.halted_at.set(0);
            }
            // The end of a run lies above a halt and does not end it.
            RiskState::Stopped => {}
        }
    }
    match (record.action, record.verdict) {
        (Action::Place, Verdict::Approved) => meters.approved.add(1),
        (Action::Place, Verdict::Denied) => meters.denied.add(1),
        (Action::Cancel | Action::State | Action::Result, _) => {}
    }
}

/// Tells the feed when an event broke its book, so that it asks for a snapshot.
#[inline]
fn report_broken_book(risk: &Risk, reported: &mut u64, broken: &Broken) {
    let market = risk.market();
    if market.broken_books() == *reported {
        return;
    }
    *reported = market.broken_books();
    if let Some((instrument, why)) = market.last_broken() {
        broken.report(instrument, why);
    }
}
