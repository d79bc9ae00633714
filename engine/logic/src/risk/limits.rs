//! What risk allows, and what it starts from.

use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::units::{CurrencyId, Money, VenueId};

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
    /// Most that the position in one currency with its open orders may be worth. 1 000 000.
    pub max_position_notional: Money,
    /// Largest position in one currency with its open orders, in 1e-8 of that currency. Off.
    pub max_position_qty: Money,
    /// Most that all positions and open orders may be worth together. Off.
    pub max_notional: Money,
    /// How far a price may be from the opposite touch, in basis points. 500.
    pub price_band_bps: u32,
    /// Orders per second of one instrument; at most [`Limits::ORDERS_PER_SECOND_MAX`]. 50.
    pub max_orders_per_second_instrument: u32,
    /// Orders per second in all; at most [`Limits::ORDERS_PER_SECOND_MAX`]. 200.
    pub max_orders_per_second: u32,
    /// Open orders in all; never more than [`crate::orders::OPEN_MAX`], off included. 100.
    pub max_open_orders: u32,
    /// Age in milliseconds beyond which an instrument's book is too old. 5 000.
    pub stale_after_ms: u32,
    /// Whether more may be sold than is there. No.
    pub allow_short: bool,
    /// Fall of equity from its peak that halts, in parts per million of the peak. Off.
    pub max_drawdown_ppm: u32,
    /// Loss of equity since 00:00 UTC that halts. Off.
    pub max_daily_loss: Money,
    /// Venue rejects within [`Self::reject_window_ms`] that halt; at most [`Limits::REJECTS_MAX`]. 20.
    pub reject_breaker: u32,
    /// See [`Self::reject_breaker`]. 60 000.
    pub reject_window_ms: u32,
    /// What entering HALTED does.
    pub halt_policy: HaltPolicy,
}

impl Limits {
    /// Most rejects that the breaker remembers; a larger breaker is held at this.
    pub const REJECTS_MAX: u32 = 1_024;
    /// Most orders per second that the meters count; a larger limit is held at this.
    pub const ORDERS_PER_SECOND_MAX: u32 = 1_024;

    /// Whether something watches equity.
    pub(super) const fn watch_equity(&self) -> bool {
        self.max_drawdown_ppm > 0 || self.max_daily_loss.0 > 0
    }
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
    /// What each account holds; a currency of a venue that is not named starts at zero and is
    /// taken from the venue's first report.
    pub balances: Vec<(VenueId, CurrencyId, Money)>,
    /// Levels a side that its books keep.
    pub depth: usize,
}
