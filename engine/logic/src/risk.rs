//! The last word before an order leaves.

use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::event::Event;
use crate::instrument::InstrumentTable;
use crate::order::{Decision, Proposal, RiskState};
use crate::units::{CurrencyId, Money, Seq, VenueId};

/// A value that risk has passed. Only this module can make one, so an unchecked order is not merely
/// refused by execution: it does not type-check. Not `Clone`: one approval, one order.
#[derive(Debug, PartialEq, Eq)]
pub struct Approved<T>(T);

impl<T> Approved<T> {
    /// The value.
    #[must_use]
    pub const fn get(&self) -> &T {
        &self.0
    }
    /// The value, and the approval is spent.
    #[must_use]
    pub fn into_inner(self) -> T {
        self.0
    }
}

/// What a slot of ORDERS holds.
#[derive(Debug, Default, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing was ever published here.
    #[default]
    Vacant,
    /// Refused, or a change of risk's own state: it is recorded and goes nowhere.
    Denied(Decision),
    /// May leave.
    Approved(Approved<Decision>),
}

impl Outcome {
    /// The decision, for the journal; `None` for a vacant slot.
    #[must_use]
    pub const fn record(&self) -> Option<&Decision> {
        match self {
            Self::Vacant => None,
            Self::Denied(decision) => Some(decision),
            Self::Approved(approved) => Some(&approved.0),
        }
    }

    /// What may leave.
    #[must_use]
    pub const fn approved(&self) -> Option<&Approved<Decision>> {
        match self {
            Self::Vacant | Self::Denied(_) => None,
            Self::Approved(approved) => Some(approved),
        }
    }
}

/// What entering HALTED does about open orders.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HaltPolicy {
    /// Cancels all that are not reduce-only.
    #[default]
    Cancel,
}

/// What risk allows. Zero switches a limit off. Money is in the engine's currency.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Most that one order may be worth. 100 000.
    pub max_order_notional: Money,
    /// Most that the position in one instrument with its open orders may be worth. 1 000 000.
    pub max_position_notional: Money,
    /// Largest position in one instrument with its open orders, in 1e-8 of the base currency. Off.
    pub max_position_qty: Money,
    /// Most that all positions and open orders may be worth together. Off.
    pub max_notional: Money,
    /// How far a price may be from the opposite touch, in basis points. 500.
    pub price_band_bps: u32,
    /// Orders per second of one instrument. 50.
    pub max_orders_per_second_instrument: u32,
    /// Orders per second in all. 200.
    pub max_orders_per_second: u32,
    /// Open orders in all. 100; never more than [`Risk::OPEN_MAX`].
    pub max_open_orders: u32,
    /// Age in milliseconds from which an instrument's market data is too old. 5 000.
    pub stale_after_ms: u32,
    /// Whether more may be sold than is there.
    pub allow_short: bool,
    /// Fall of equity from its peak that halts, in parts per million of the peak. Off.
    pub max_drawdown_ppm: u32,
    /// Loss of equity since 00:00 UTC that halts. Off.
    pub max_daily_loss: Money,
    /// Venue rejects within [`Self::reject_window_ms`] that halt. 20; at most [`Limits::REJECTS_MAX`].
    pub reject_breaker: u32,
    /// See [`Self::reject_breaker`]. 60 000.
    pub reject_window_ms: u32,
    /// What entering HALTED does.
    pub halt_policy: HaltPolicy,
}

impl Limits {
    /// Most rejects that the breaker can remember.
    pub const REJECTS_MAX: u32 = 1_024;
    /// Most orders per second that the meters can count.
    pub const ORDERS_PER_SECOND_MAX: u32 = 4_096;
}

impl Default for Limits {
    fn default() -> Self {
        const UNIT: i64 = 100_000_000;
        Self {
            max_order_notional: Money(100_000 * UNIT),
            max_position_notional: Money(1_000_000 * UNIT),
            max_position_qty: Money(0),
            max_notional: Money(0),
            price_band_bps: 500,
            max_orders_per_second_instrument: 50,
            max_orders_per_second: 200,
            max_open_orders: 100,
            stale_after_ms: 5_000,
            allow_short: false,
            max_drawdown_ppm: 0,
            max_daily_loss: Money(0),
            reject_breaker: 20,
            reject_window_ms: 60_000,
            halt_policy: HaltPolicy::Cancel,
        }
    }
}

/// What risk starts from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RiskOptions {
    /// The engine's currency, in which limits are stated.
    pub currency: CurrencyId,
    /// What each account holds; a currency of a venue that is not named starts at zero.
    pub balances: Vec<(VenueId, CurrencyId, Money)>,
    /// Levels a side that its books keep.
    pub depth: usize,
    /// The state to start in: RUNNING, or what the run before ended in.
    pub state: RiskState,
}

/// Checks every intent against the limits, on its own picture of the market, the accounts and the
/// open orders. One owner, one thread: nothing can change between check and act.
#[derive(Debug)]
pub struct Risk {
    limits: Limits,
}

impl Risk {
    /// Places of the table of open orders.
    pub const OPEN_MAX: usize = 1_024;

    /// Starts from `options`. All memory that risk will ever use is taken here.
    #[must_use]
    pub fn new(table: &InstrumentTable, limits: Limits, options: &RiskOptions) -> Self {
        let _ = (table, options);
        Self { limits }
    }

    /// Learns an event. What risk itself decides because of it goes to `out`: cancels and changes
    /// of its state.
    pub fn on_event(&mut self, cause: Seq, event: &Event, out: &mut impl FnMut(Outcome)) {
        let _ = (cause, event, out, &self.limits);
    }

    /// Decides on one intent. Approved orders are counted in every limit from here on.
    pub fn judge(&mut self, proposal: &Proposal) -> Outcome {
        let _ = proposal;
        Outcome::Vacant
    }
}
