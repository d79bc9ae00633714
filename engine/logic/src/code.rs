//! Reasons: why an order was refused or cancelled. Numbers in the journal, text in exports.

use serde::{Deserialize, Serialize};
use zerocopy::{Immutable, IntoBytes, KnownLayout, TryFromBytes};

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $number:literal $text:literal,)*) => {
        /// A reject or cancel code. Numbers are never reused.
        #[derive(
            Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
            TryFromBytes, IntoBytes, Immutable, KnownLayout,
        )]
        #[serde(rename_all = "snake_case")]
        #[repr(u8)]
        pub enum Code {
            /// Nothing to object to.
            #[default]
            None = 0,
            $($(#[$doc])* $name = $number,)*
        }

        impl Code {
            /// Every code, in the order of their numbers.
            pub const ALL: &'static [Self] = &[Self::None, $(Self::$name,)*];

            /// The name used in exports.
            #[must_use]
            pub const fn text(self) -> &'static str {
                match self {
                    Self::None => "none",
                    $(Self::$name => $text,)*
                }
            }

            /// The code with this number, if there is one.
            #[must_use]
            pub const fn from_number(number: u8) -> Option<Self> {
                match number {
                    0 => Some(Self::None),
                    $($number => Some(Self::$name),)*
                    _ => None,
                }
            }
        }
    };
}

codes! {
    /// The quantity is zero after rounding to lots.
    ResolvedQtyNonPositive = 3 "resolved_qty_non_positive",
    /// The price is not positive, or not a multiple of the tick after normalisation.
    InvalidPrice = 8 "invalid_price",
    /// The quantity is not positive or below the instrument's minimum.
    InvalidQuantity = 9 "invalid_quantity",
    /// The value does not fit 64 bits.
    InvalidNumeric = 12 "invalid_numeric",
    /// A limit order without a price.
    MissingPrice = 13 "missing_price",
    /// The instrument is not in the table.
    UnknownInstrument = 16 "unknown_instrument",
    /// Worth less than the venue accepts.
    MinNotional = 17 "min_notional",
    /// The same client order id was used before.
    DuplicateClientOrderId = 18 "duplicate_client_order_id",
    /// The free balance does not cover cost and fee.
    InsufficientCash = 30 "insufficient_cash",
    /// Position with open orders would pass `max_position_qty`.
    PositionLimit = 31 "position_limit",
    /// Nothing to sell.
    NoPosition = 33 "no_position",
    /// All there is to sell is reserved by open sells.
    PositionReserved = 34 "position_reserved",
    /// A reduce-only order that would not shrink a position.
    ReduceOnlyViolation = 35 "reduce_only_violation",
    /// Gross exposure would pass `max_notional`.
    MaxNotional = 36 "max_notional",
    /// Risk is in state HALTED.
    Halted = 39 "halted",
    /// Risk is in state REDUCING.
    Reducing = 40 "reducing",
    /// The kill switch is set.
    Killed = 41 "killed",
    /// The order is worth more than `max_order_notional`.
    MaxOrderSizeExceeded = 42 "max_order_size_exceeded",
    /// The instrument's position with open orders would be worth more than `max_position_notional`.
    MaxPositionExposureExceeded = 43 "max_position_exposure_exceeded",
    /// Too many open orders.
    MaxOpenOrders = 44 "max_open_orders",
    /// The price is too far from the touch.
    PriceBand = 47 "price_band",
    /// More orders per second than allowed.
    OrderRate = 48 "order_rate",
    /// No price to value the order in the engine's currency.
    NoReferencePrice = 49 "no_reference_price",
    /// The book is not valid, or too old: see [`crate::market::Market::priced_at`].
    MarketDataStale = 50 "market_data_stale",
    /// The state at the venue is not yet agreed.
    Reconciling = 51 "reconciling",
    /// The strategy is switched off.
    StrategyDisabled = 52 "strategy_disabled",
    /// The engine no longer takes entries.
    TradingStopped = 53 "trading_stopped",
    /// A cancel for an order that is not open.
    UnknownOrder = 54 "unknown_order",
    /// A post-only order that would take.
    PostOnlyWouldCross = 60 "post_only_would_cross",
    /// A fill-or-kill order that cannot fill at once.
    FokUnfilled = 61 "fok_unfilled",
    /// Nothing to trade against.
    NoLiquidity = 63 "no_liquidity",
    /// The venue said no.
    VenueRejected = 64 "venue_rejected",
    /// The link was down and nothing was sent.
    VenueUnavailable = 66 "venue_unavailable",
    /// No acknowledgement in time.
    OrderTimeout = 69 "order_timeout",
    /// The order's time ran out.
    Expired = 80 "expired",
    /// An immediate-or-cancel order that found nothing.
    IocUnfilled = 81 "ioc_unfilled",
    /// The rest of an immediate-or-cancel order.
    IocPartialCancel = 82 "ioc_partial_cancel",
    /// Cancelled by the strategy or an operator.
    UserCancel = 87 "user_cancel",
    /// Cancelled by a halt.
    HaltCancel = 88 "halt_cancel",
    /// Cancelled by the kill switch.
    KillCancel = 89 "kill_cancel",
    /// Cancelled by the orderly stop.
    ShutdownCancel = 90 "shutdown_cancel",
    /// Cancelled because the link was lost.
    DisconnectCancel = 91 "disconnect_cancel",
    /// Cancelled by the venue.
    VenueCancelled = 92 "venue_cancelled",
}

#[cfg(test)]
mod tests {
    use super::Code;

    #[test]
    fn every_code_is_found_by_its_number_and_names_are_unique() {
        for (index, &code) in Code::ALL.iter().enumerate() {
            assert_eq!(Code::from_number(code as u8), Some(code));
            for &other in &Code::ALL[index + 1..] {
                assert_ne!(code.text(), other.text());
            }
        }
    }
}
