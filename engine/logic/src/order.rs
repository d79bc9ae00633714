//! From a wish to a verdict: the records that travel from strategy through risk to execution.

use core::mem::size_of;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, TryFromBytes};

use crate::code::Code;
use crate::units::{InstrumentId, Money, Nanos, OrderId, Price, Qty, Seq, Side, Stamp, StrategyId};

macro_rules! choices {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $number:literal $text:literal,)* }) => {
        $(#[$doc])*
        #[derive(
            Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash,
            TryFromBytes, IntoBytes, Immutable, KnownLayout,
        )]
        #[repr(u8)]
        pub enum $name {
            $($(#[$vdoc])* $variant = $number,)*
        }
        impl $name {
            /// Every choice.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];
            /// The name used in dumps and configuration.
            #[must_use]
            pub const fn text(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }
        }
    };
}

choices! {
    /// What a decision is about.
    Action {
        /// A new order.
        Place = 1 "place",
        /// The end of an open order.
        Cancel = 2 "cancel",
        /// Risk changed its own state; `code` says why. Carries no order.
        State = 3 "state",
        /// A strategy ended something that took several orders: `found` is what it made, `limit` what
        /// it was to make, both in 1e-8 of the engine's currency, `tag` which one. Carries no order.
        Result = 4 "result",
    }
}

impl Action {
    /// Whether it is about an order, and goes to a venue where it was approved.
    #[must_use]
    pub const fn is_of_order(self) -> bool {
        match self {
            Self::Place | Self::Cancel => true,
            Self::State | Self::Result => false,
        }
    }
}

choices! {
    /// How an order is priced.
    OrderType {
        /// At whatever the book offers.
        Market = 1 "market",
        /// At the limit or better.
        Limit = 2 "limit",
    }
}

choices! {
    /// How long an order lives.
    TimeInForce {
        /// Until it is cancelled.
        Gtc = 1 "gtc",
        /// What fills at once; the rest is cancelled.
        Ioc = 2 "ioc",
        /// All of it at once, or nothing.
        Fok = 3 "fok",
    }
}

choices! {
    /// State of risk. RUNNING, COOLDOWN, HALTED and REDUCING have the numbers of the published metric.
    RiskState {
        /// Entries and exits pass.
        Running = 0 "running",
        /// Entries wait for a fixed time.
        Cooldown = 1 "cooldown",
        /// Only exits pass; an operator must resume.
        Halted = 2 "halted",
        /// Only exits pass.
        Reducing = 3 "reducing",
        /// The engine is stopping; only exits pass.
        Stopped = 4 "stopped",
        /// The kill switch is set: nothing passes.
        Killed = 5 "killed",
    }
}

choices! {
    /// What risk said.
    Verdict {
        /// Refused; it never leaves.
        Denied = 0 "denied",
        /// May leave.
        Approved = 1 "approved",
    }
}

/// Bits that qualify an order.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(transparent)]
pub struct OrderFlags(pub u8);

impl OrderFlags {
    /// No bit set.
    pub const NONE: Self = Self(0);
    /// May only shrink a position.
    pub const REDUCE_ONLY: Self = Self(1);
    /// Must rest; refused if it would take.
    pub const POST_ONLY: Self = Self(2);

    /// Whether every bit of `other` is set.
    #[must_use]
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
    /// Both sets of bits.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

choices! {
    /// Why a strategy wishes what it wishes.
    Reason {
        /// Its entry rule.
        Entry = 1 "entry",
        /// Its exit rule.
        Exit = 2 "exit",
        /// A quote at a new price.
        Quote = 3 "quote",
        /// A quote that no longer is where it should be.
        Requote = 4 "requote",
        /// A leg of a cycle.
        Leg = 5 "leg",
        /// Closes what a broken cycle left behind.
        Unwind = 6 "unwind",
        /// The market data can no longer be trusted.
        Stale = 7 "stale",
        /// Risk asked for it.
        Risk = 8 "risk",
        /// An operator asked for it.
        Operator = 9 "operator",
    }
}

/// A strategy's wish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Intent {
    /// Id of the order to place or to cancel; 0 for [`Action::Result`].
    pub order: OrderId,
    /// Limit price; 0 for market orders and cancels. What was expected for [`Action::Result`].
    pub price: Price,
    /// Quantity, positive; 0 for cancels. What was realised for [`Action::Result`].
    pub qty: Qty,
    /// Of what.
    pub instrument: InstrumentId,
    /// Who wishes it.
    pub strategy: StrategyId,
    /// Place, cancel or result.
    pub action: Action,
    /// Buy or sell.
    pub side: Side,
    /// Market or limit.
    pub order_type: OrderType,
    /// How long it lives.
    pub tif: TimeInForce,
    /// Reduce-only, post-only.
    pub flags: OrderFlags,
    /// Why.
    pub reason: Reason,
    /// How sure the strategy is, in 1e-4. In 0..=10 000.
    pub confidence: u16,
    /// The strategy's own number, such as that of an arbitrage cycle.
    pub tag: u16,
}

/// An intent with its cause, as it travels through PROPOSALS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(align(64))]
pub struct Proposal {
    /// The input that led to it.
    pub cause: Seq,
    /// The wish.
    pub intent: Intent,
    /// When the strategy was done with the cause.
    pub strategy_at: Stamp,
}

const _: () = assert!(size_of::<Proposal>() == 64);

/// A proposal with risk's verdict and the numbers that decided. Fixed layout: these 80 bytes are
/// the payload of a `decision` frame, and what replay compares byte for byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq, TryFromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Decision {
    /// The input that led to it.
    pub cause: Seq,
    /// Logic's time when it was taken.
    pub at: Nanos,
    /// The order to place or to cancel; 0 for [`Action::State`] and [`Action::Result`].
    pub order: OrderId,
    /// Limit price after normalisation; 0 for market orders and cancels.
    pub price: Price,
    /// Quantity after normalisation.
    pub qty: Qty,
    /// The number that decided, in the unit of `limit`: for denials what was found.
    pub found: i64,
    /// The limit it was held against.
    pub limit: i64,
    /// Value of the order in the engine's currency; 0 where it was not needed.
    pub notional: Money,
    /// Of what.
    pub instrument: InstrumentId,
    /// How sure the strategy is, in 1e-4.
    pub confidence: u16,
    /// The strategy's own number.
    pub tag: u16,
    /// Who wished it; [`StrategyId::RISK`] for risk's own.
    pub strategy: StrategyId,
    /// What it is.
    pub action: Action,
    /// Buy or sell.
    pub side: Side,
    /// Market or limit.
    pub order_type: OrderType,
    /// How long it lives.
    pub tif: TimeInForce,
    /// Reduce-only, post-only.
    pub flags: OrderFlags,
    /// Why it was wished.
    pub reason: Reason,
    /// Approved or denied.
    pub verdict: Verdict,
    /// Why it was denied, or why risk cancels or changes its state.
    pub code: Code,
    /// Risk's state after the decision.
    pub state: RiskState,
}

const _: () = assert!(size_of::<Decision>() == 80);

impl Decision {
    /// The payload of its journal frame.
    #[must_use]
    pub fn payload(&self) -> &[u8; 80] {
        zerocopy::transmute_ref!(self)
    }

    /// Reads a frame's payload; `None` where it is no decision of this version.
    #[must_use]
    pub fn from_payload(payload: &[u8]) -> Option<Self> {
        Self::try_read_from_bytes(payload).ok()
    }
}

/// Most intents that all strategies together may have for one event. More are refused and counted
/// where they arise, so no ring behind can overflow.
pub const INTENTS_MAX: usize = 16;

/// The intents of one event, on the stack.
#[derive(Clone, Debug)]
pub struct Intents {
    items: [Intent; INTENTS_MAX],
    len: usize,
    refused: u64,
}

impl Default for Intents {
    fn default() -> Self {
        Self::new()
    }
}

impl Intents {
    /// What stands in an unused slot.
    pub const VACANT: Intent = Intent {
        order: OrderId(0),
        price: Price(0),
        qty: Qty(0),
        instrument: InstrumentId::NONE,
        strategy: StrategyId(0),
        action: Action::Cancel,
        side: Side::Buy,
        order_type: OrderType::Limit,
        tif: TimeInForce::Gtc,
        flags: OrderFlags::NONE,
        reason: Reason::Entry,
        confidence: 0,
        tag: 0,
    };

    /// None yet.
    #[must_use]
    pub const fn new() -> Self {
        Self { items: [Self::VACANT; INTENTS_MAX], len: 0, refused: 0 }
    }

    /// Adds one; `false` (and counted) where there is no room.
    pub fn push(&mut self, intent: Intent) -> bool {
        match self.items.get_mut(self.len) {
            Some(slot) => {
                *slot = intent;
                self.len += 1;
                true
            }
            None => {
                self.refused += 1;
                false
            }
        }
    }

    /// Those of the current event.
    #[must_use]
    pub fn as_slice(&self) -> &[Intent] {
        self.items.get(..self.len).unwrap_or(&[])
    }

    /// Forgets them, for the next event. The count of refused ones stays.
    pub fn clear(&mut self) {
        self.len = 0;
    }

    /// How many found no room since the start.
    #[must_use]
    pub const fn refused(&self) -> u64 {
        self.refused
    }

    /// Room for more.
    #[must_use]
    pub const fn room(&self) -> usize {
        INTENTS_MAX - self.len
    }
}
