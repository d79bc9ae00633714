//! STRATEGY: IN in, PROPOSALS out.

use std::sync::Arc;

use kairos_logic::desk::Desk;
use kairos_logic::event::Event;
use kairos_logic::order::{INTENTS_MAX, Intents, Proposal};

use super::room;
use crate::clock::Clock;
use crate::meter::Meters;
use crate::ring::{Batch, Inlet, Outlet};
use crate::seat::{Looked, Seat};

/// Events per turn. RISK sees none of a batch before its last is done, so this is small while
/// STRATEGY keeps up.
const BATCH: Batch = Batch::new(4, 256);

/// Slots of PROPOSALS: 256 events that all have the most intents allowed. 256 KiB.
pub const PROPOSALS_SLOTS: usize = 256 * INTENTS_MAX;

/// Hands every event to the strategies and their intents to risk.
pub struct StrategySeat<I, O> {
    inputs: I,
    proposals: O,
    desk: Desk,
    intents: Intents,
    published: u64,
    batch: Batch,
    journal_first: bool,
    clock: Clock,
    meters: Arc<Meters>,
}

impl<I: Inlet<Event>, O: Outlet<Proposal>> StrategySeat<I, O> {
    /// With `journal_first` the seat takes only events that the journal has: needed where both
    /// share a thread, so that an event which panics a strategy is in the journal.
    pub fn new(
        inputs: I,
        proposals: O,
        desk: Desk,
        journal_first: bool,
        clock: Clock,
        meters: Arc<Meters>,
    ) -> Self {
        let intents = Intents::new();
        let (published, batch) = (0, BATCH);
        Self { inputs, proposals, desk, intents, published, batch, journal_first, clock, meters }
    }

    /// Events that may be taken now. There is always room for what they cause: the seat holds
    /// rather than finds PROPOSALS full.
    fn allowance(&self) -> u64 {
        let slots = PROPOSALS_SLOTS as u64;
        let free = room(slots, self.published, self.meters.proposals_taken.get());
        let journaled = if self.journal_first {
            self.meters.journal.taken_in.get().saturating_sub(self.inputs.position())
        } else {
            u64::MAX
        };
        (free / INTENTS_MAX as u64).min(self.batch.size()).min(journaled)
    }
}

impl<I: Inlet<Event>, O: Outlet<Proposal>> Seat for StrategySeat<I, O> {
    fn turn(&mut self) -> Looked {
        let allowance = self.allowance();
        if allowance == 0 {
            if !self.journal_first {
                self.meters.strategy.held.add(1);
            }
            return Looked::Idle;
        }
        let before = self.inputs.position();
        let Self { inputs, proposals, desk, intents, published, clock, .. } = self;
        let looked = inputs.look(allowance, |cause, event| {
            intents.clear();
            desk.on_event(event, intents);
            if intents.as_slice().is_empty() {
                return;
            }
            let strategy_at = clock.stamp();
            for &intent in intents.as_slice() {
                let sent = proposals.offer(Proposal { cause, intent, strategy_at });
                assert!(sent, "PROPOSALS has room for every allowed event");
                *published += 1;
            }
        });
        let position = self.inputs.position();
        self.batch.took(position - before, allowance);
        self.meters.strategy.taken_in.set(position);
        looked
    }
}
