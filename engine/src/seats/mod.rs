//! The seats: glue between rings and what decides, sends and records. None of them decides anything.

pub mod execution;
pub mod feed;
pub mod journal;
pub mod risk;
pub mod strategy;

use kairos_logic::risk::Outcome;
use kairos_logic::units::Stamp;

/// A slot of ORDERS: risk's outcome and when it and the strategy before it were done.
#[derive(Debug, Default)]
#[repr(align(64))]
pub struct OrderSlot {
    /// What risk said; vacant until the slot is first used.
    pub outcome: Outcome,
    /// When the strategy had its intent; 0 for risk's own decisions.
    pub strategy_at: Stamp,
    /// When risk had judged it.
    pub risk_at: Stamp,
}

const _: () = assert!(size_of::<OrderSlot>() == 128 && align_of::<OrderSlot>() == 64);

/// Free slots of a ring, from the counters of its ends.
const fn room(slots: u64, published: u64, taken: u64) -> u64 {
    slots.saturating_sub(published.saturating_sub(taken))
}
