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
