//! One fact from outside: plain old data of one cache line.

use core::mem::size_of;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, TryFromBytes};

use crate::code::Code;
use crate::units::{
    CurrencyId, InstrumentId, Money, Nanos, OrderId, Price, Qty, Side, Stamp, VenueId,
};

/// What an event is about. The numbers stand in the journal and are never reused.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    TryFromBytes,
    IntoBytes,
    Immutable,
    KnownLayout,
)]
#[repr(u8)]
pub enum Kind {
    /// A vacant ring slot; never published, never journaled.
    #[default]
    Vacant = 0,
    /// A trade between others.
    Trade = 1,
    /// The best bid and offer.
    Quote = 2,
    /// One level of an order book, changed or part of a snapshot.
    Book = 3,
    /// Messages were missed: the book is unusable until the next snapshot.
    Gap = 4,
    /// What became of a venue's link or of the engine's own state.
    Status = 5,
    /// Time passed.
    Timer = 6,
    /// An operator or satellite wants something.
    Command = 7,
    /// What became of one of our orders.
    Report = 8,
    /// A balance as the venue reports it.
    Balance = 9,
    /// A piece of configuration took effect.
    Config = 10,
}

impl Kind {
    /// Every kind that may be published.
    pub const ALL: [Self; 10] = [
        Self::Trade,
        Self::Quote,
        Self::Book,
        Self::Gap,
        Self::Status,
        Self::Timer,
        Self::Command,
        Self::Report,
        Self::Balance,
        Self::Config,
    ];

    /// The name used in dumps and metrics.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::Vacant => "vacant",
            Self::Trade => "trade",
            Self::Quote => "quote",
            Self::Book => "book",
            Self::Gap => "gap",
            Self::Status => "status",
            Self::Timer => "timer",
            Self::Command => "command",
            Self::Report => "report",
            Self::Balance => "balance",
            Self::Config => "config",
        }
    }
}

/// Bits that qualify an event. The high four bits hold the state of a report.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(transparent)]
pub struct Flags(u8);

impl Flags {
    /// No bit set.
    pub const NONE: Self = Self(0);
    /// The last event of a multi-level change; a book is consistent only here.
    pub const LAST: Self = Self(1);
    /// Part of a snapshot.
    pub const SNAPSHOT: Self = Self(2);
    /// First level of a snapshot: forget the book before it. An empty snapshot is one event with
    /// quantity 0, CLEAR and LAST.
    pub const CLEAR: Self = Self(4);
    /// The aggressor sold, the level is an ask, or the order sells.
    pub const SELL: Self = Self(8);
    /// Our order rested and was taken. Shares its bit with [`Self::CLEAR`], of other kinds.
    pub const MAKER: Self = Self(4);

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
    /// The bits.
    #[must_use]
    pub const fn bits(self) -> u8 {
        self.0
    }
    const fn of_side(side: Side) -> Self {
        match side {
            Side::Buy => Self::NONE,
            Side::Sell => Self::SELL,
        }
    }
    const fn side(self) -> Side {
        if self.has(Self::SELL) { Side::Sell } else { Side::Buy }
    }
}

/// What became of an order. See `orders` for the life of an order that follows from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum ReportState {
    /// Risk refused it; it never left.
    Denied = 1,
    /// Its bytes were handed to the socket; the event's `recv` is the stamp of that.
    Sent = 2,
    /// The venue took it.
    Acked = 3,
    /// It traded.
    Filled = 4,
    /// The venue refused it.
    Rejected = 5,
    /// It is over, the rest cancelled.
    Cancelled = 6,
    /// It is over, its time ran out.
    Expired = 7,
    /// No answer: it may rest at the venue or not. Never treated as rejected.
    Unknown = 8,
    /// The venue refused to cancel it; the order lives on.
    CancelRejected = 9,
}

impl ReportState {
    /// Every state.
    pub const ALL: [Self; 9] = [
        Self::Denied,
        Self::Sent,
        Self::Acked,
        Self::Filled,
        Self::Rejected,
        Self::Cancelled,
        Self::Expired,
        Self::Unknown,
        Self::CancelRejected,
    ];
    /// The name used in dumps.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::Denied => "denied",
            Self::Sent => "sent",
            Self::Acked => "acked",
            Self::Filled => "filled",
            Self::Rejected => "rejected",
            Self::Cancelled => "cancelled",
            Self::Expired => "expired",
            Self::Unknown => "unknown",
            Self::CancelRejected => "cancel_rejected",
        }
    }
    const fn from_number(number: u8) -> Option<Self> {
        match number {
            1 => Some(Self::Denied),
            2 => Some(Self::Sent),
            3 => Some(Self::Acked),
            4 => Some(Self::Filled),
            5 => Some(Self::Rejected),
            6 => Some(Self::Cancelled),
            7 => Some(Self::Expired),
            8 => Some(Self::Unknown),
            9 => Some(Self::CancelRejected),
            _ => None,
        }
    }
}

macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $number:literal $text:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum $name {
            $($(#[$vdoc])* $variant = $number,)*
        }
        impl $name {
            /// The name used in dumps.
            #[must_use]
            pub const fn text(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }
            /// The variant with this number, if there is one.
            #[must_use]
            pub const fn from_number(number: i64) -> Option<Self> {
                match number { $($number => Some(Self::$variant),)* _ => None }
            }
        }
    };
}

words! {
    /// What a [`News::Status`] tells.
    StatusCode {
        /// The venue's link is up.
        Connected = 1 "connected",
        /// The venue's link is down: nothing known about it is current.
        Disconnected = 2 "disconnected",
        /// A book of the venue is being rebuilt; `detail` is the reason of the gap before it.
        Resync = 3 "resync",
        /// A frame could not be understood; `detail` is its offset (capture: line, live: frame count).
        Malformed = 4 "malformed",
        /// Market data of the venue was dropped at the door; `detail` is how many events.
        Dropped = 5 "dropped",
        /// The end of a capture file.
        EndOfCapture = 6 "end_of_capture",
        /// One of the venue's connections is up; `more` is its number.
        LinkUp = 7 "link_up",
        /// One of the venue's connections is down; `detail` is the reason for which it was given up,
        /// 0 where it was lost; `more` is its number.
        LinkDown = 8 "link_down",
        /// A connection cannot be made; `detail` is the HTTP status, where there is one; `more` is its
        /// number. What was found follows as [`StatusCode::Said`].
        LinkRefused = 9 "link_refused",
        /// A connection was replaced without a hole; `more` is its number.
        LinkReplaced = 10 "link_replaced",
        /// The venue wants to be left alone for `detail` seconds.
        RateLimited = 11 "rate_limited",
        /// The venue refuses this address for `detail` seconds.
        Banned = 12 "banned",
        /// A snapshot or another reply could not be fetched; `detail` is the HTTP status, where there
        /// is one.
        FetchFailed = 13 "fetch_failed",
        /// Words about what the event before tells, the venue's own where it has any: up to 16 bytes in
        /// `detail` and `more`. Longer words are several events.
        Said = 14 "said",
        /// The venue refuses a request or a subscription; `detail` is its code, where that is a number.
        VenueError = 15 "venue_error",
        /// Risk is in state RUNNING.
        RiskRunning = 16 "risk_running",
        /// Risk is in state COOLDOWN.
        RiskCooldown = 17 "risk_cooldown",
        /// Risk is in state HALTED.
        RiskHalted = 18 "risk_halted",
        /// Risk is in state REDUCING.
        RiskReducing = 19 "risk_reducing",
        /// Trading was stopped; entries are refused.
        RiskStopped = 20 "risk_stopped",
        /// The venue's list has this instrument; `detail` is 1 where it trades now, 0 where it does not.
        Listed = 21 "listed",
        /// Frames of one connection so far in `detail`; its number in `more`, as below.
        LinkFrames = 32 "link_frames",
        /// Bytes of its frames.
        LinkBytes = 33 "link_bytes",
        /// Events out of them.
        LinkEvents = 34 "link_events",
        /// Frames that could not be understood.
        LinkMalformed = 35 "link_malformed",
        /// Gaps in its books.
        LinkGaps = 36 "link_gaps",
        /// Snapshots that made a book valid.
        LinkResyncs = 37 "link_resyncs",
        /// How often it was connected again.
        LinkReconnects = 38 "link_reconnects",
        /// Nanoseconds since its last message.
        LinkAge = 39 "link_age",
    }
}

words! {
    /// Why a book can no longer be trusted.
    GapReason {
        /// Update ids do not follow on each other: `expected`, `found`.
        Sequence = 1 "sequence",
        /// A depth frame could not be read.
        Malformed = 2 "malformed",
        /// Best bid would not be below best ask.
        Crossed = 3 "crossed",
        /// Market data was dropped because IN was full.
        Dropped = 4 "dropped",
        /// The link was lost.
        Disconnected = 5 "disconnected",
        /// Too few known levels were left inside the edge of the book.
        Shallow = 6 "shallow",
        /// A snapshot is older than the updates waiting for it.
        SnapshotTooOld = 7 "snapshot_too_old",
        /// The book's checksum is another than the venue says: `expected` is the venue's, `found` ours.
        Checksum = 8 "checksum",
    }
}

words! {
    /// What a [`News::Command`] asks for.
    Verb {
        /// Orderly stop: cancel resting orders, refuse entries, end the run.
        Stop = 1 "stop",
        /// Risk to HALTED.
        Halt = 2 "halt",
        /// Risk back to RUNNING.
        Resume = 3 "resume",
        /// Risk to REDUCING.
        Reduce = 4 "reduce",
        /// Cancel every open order.
        CancelAll = 5 "cancel_all",
        /// Kill switch: nothing leaves any more.
        Kill = 6 "kill",
        /// Switch the strategy numbered `argument` on.
        StrategyEnable = 7 "strategy_enable",
        /// Switch the strategy numbered `argument` off.
        StrategyDisable = 8 "strategy_disable",
    }
}

/// One fact from outside, as it travels through IN and into the journal.
///
/// One cache line, so that a producer writing slot `n` leaves slot `n - 1` alone. Everything before
/// the two stamps is what decisions depend on; the stamps tell how long things took and are no
/// input to anything. Read it through [`Event::news`].
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, TryFromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C, align(64))]
pub struct Event {
    /// When the bytes were read; under capture, the recorded receive time. May step back along IN:
    /// logic uses `max(now, at)`.
    pub at: Nanos,
    /// When the venue says that it happened; 0 where it does not say. Never overwritten.
    pub venue_at: Nanos,
    /// Meaning by kind; [`Event::news`] gives it names.
    pub body: [i64; 4],
    /// The instrument, or [`InstrumentId::NONE`].
    pub instrument: InstrumentId,
    /// What the event is about.
    pub kind: Kind,
    /// Bits that qualify it.
    pub flags: Flags,
    /// Ticks from `recv` until the event was published in IN; saturates.
    pub in_after: u32,
    /// When the bytes were in user space, decrypted.
    pub recv: Stamp,
}

const _: () = assert!(size_of::<Event>() == 64 && align_of::<Event>() == 64);

/// The bits of an event's first words that are not `in_after`, which ends the seventh.
const LOGICAL_BITS: [u64; 7] = [!0, !0, !0, !0, !0, !0, (u32::MAX as u64).to_le()];
const _: () = assert!(core::mem::offset_of!(Event, in_after) == 52);

/// The meaning of an [`Event`]. Closed on purpose: new news is handled before it compiles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum News {
    /// A trade between others.
    Trade {
        /// What was paid, positive.
        price: Price,
        /// How much, positive.
        qty: Qty,
        /// The venue's number of the trade (of the aggregate, for aggregated streams).
        id: u64,
        /// Who crossed the spread.
        aggressor: Side,
    },
    /// The best bid and offer. `bid < ask`; a side without orders has quantity 0 and price 0.
    Quote {
        /// Best bid.
        bid: Price,
        /// Size there.
        bid_qty: Qty,
        /// Best ask.
        ask: Price,
        /// Size there.
        ask_qty: Qty,
    },
    /// One level of a book. The new quantity is absolute; 0 removes the level.
    Book {
        /// `Buy` for bids, `Sell` for asks.
        side: Side,
        /// The level.
        price: Price,
        /// What rests there now.
        qty: Qty,
        /// The venue's update id of the change.
        update: u64,
        /// LAST, SNAPSHOT, CLEAR.
        flags: Flags,
    },
    /// The book of the instrument is unusable until the LAST of its next snapshot.
    Gap {
        /// Why.
        reason: GapReason,
        /// What should have come, where that is a number.
        expected: u64,
        /// What came instead.
        found: u64,
    },
    /// A venue's link or the engine's own state changed.
    Status {
        /// Which venue.
        venue: VenueId,
        /// What happened.
        code: StatusCode,
        /// A number that goes with it; see [`StatusCode`].
        detail: i64,
        /// Another number that goes with it; 0 where [`StatusCode`] names none.
        more: i64,
    },
    /// Time passed.
    Timer,
    /// An operator or satellite wants something.
    Command {
        /// What.
        verb: Verb,
        /// Of what, where the verb needs it.
        argument: i64,
    },
    /// One of our orders traded.
    Fill {
        /// Which.
        order: OrderId,
        /// Its side.
        side: Side,
        /// At what price.
        price: Price,
        /// How much of it, positive.
        qty: Qty,
        /// The fee, in the instrument's quote currency; negative is a rebate.
        fee: Money,
        /// Whether the order rested.
        maker: bool,
    },
    /// Something else became of one of our orders.
    Report {
        /// Which.
        order: OrderId,
        /// Its side.
        side: Side,
        /// What; never [`ReportState::Filled`].
        state: ReportState,
        /// What it left untraded.
        remaining: Qty,
        /// Why.
        code: Code,
    },
    /// A balance as the venue reports it.
    Balance {
        /// Where.
        venue: VenueId,
        /// Of what.
        currency: CurrencyId,
        /// All of it.
        total: Money,
        /// What is not locked by open orders.
        available: Money,
    },
    /// A piece of configuration took effect: the first 8 bytes of its digest.
    Config {
        /// Digest of the configuration.
        digest: u64,
    },
    /// Bytes that no version of this program writes. Never published.
    Nothing,
}

impl News {
    /// The order of ours that it speaks of, if it does.
    #[must_use]
    pub const fn order(&self) -> Option<OrderId> {
        match *self {
            Self::Fill { order, .. } | Self::Report { order, .. } => Some(order),
            Self::Trade { .. }
            | Self::Quote { .. }
            | Self::Book { .. }
            | Self::Gap { .. }
            | Self::Status { .. }
            | Self::Timer
            | Self::Command { .. }
            | Self::Balance { .. }
            | Self::Config { .. }
            | Self::Nothing => None,
        }
    }
}

#[expect(
    clippy::cast_sign_loss,
    clippy::cast_possible_wrap,
    reason = "ids and digests are bit patterns that travel in signed words"
)]
impl Event {
    /// Bytes of a frame's payload: what decisions depend on, and four zero bytes where `in_after`
    /// stands in memory, so that the payload is whole words.
    pub const LOGICAL: usize = 56;
    /// Most bytes of words that events carry.
    pub const SAID_MAX: usize = 160;

    const fn new(at: Nanos, venue_at: Nanos, instrument: InstrumentId, kind: Kind) -> Self {
        Self {
            at,
            venue_at,
            body: [0; 4],
            instrument,
            kind,
            flags: Flags::NONE,
            in_after: 0,
            recv: Stamp(0),
        }
    }

    /// A [`News::Trade`].
    #[must_use]
    pub const fn trade(
        at: Nanos,
        venue_at: Nanos,
        instrument: InstrumentId,
        price: Price,
        qty: Qty,
        id: u64,
        aggressor: Side,
    ) -> Self {
        let mut event = Self::new(at, venue_at, instrument, Kind::Trade);
        event.body = [price.0, qty.0, id as i64, 0];
        event.flags = Flags::of_side(aggressor);
        event
    }

    /// A [`News::Quote`].
    #[must_use]
    pub const fn quote(
        at: Nanos,
        venue_at: Nanos,
        instrument: InstrumentId,
        bid: (Price, Qty),
        ask: (Price, Qty),
    ) -> Self {
        let mut event = Self::new(at, venue_at, instrument, Kind::Quote);
        event.body = [bid.0.0, bid.1.0, ask.0.0, ask.1.0];
        event
    }

    /// A [`News::Book`]. `flags` may hold LAST, SNAPSHOT and CLEAR.
    #[must_use]
    #[expect(clippy::too_many_arguments, reason = "a level is what it is")]
    pub const fn book(
        at: Nanos,
        venue_at: Nanos,
        instrument: InstrumentId,
        side: Side,
        price: Price,
        qty: Qty,
        update: u64,
        flags: Flags,
    ) -> Self {
        let mut event = Self::new(at, venue_at, instrument, Kind::Book);
        event.body = [price.0, qty.0, update as i64, 0];
        event.flags = Flags::of_side(side).with(flags);
        event
    }

    /// A [`News::Gap`].
    #[must_use]
    pub const fn gap(
        at: Nanos,
        instrument: InstrumentId,
        reason: GapReason,
        expected: u64,
        found: u64,
    ) -> Self {
        let mut event = Self::new(at, Nanos(0), instrument, Kind::Gap);
        event.body = [reason as i64, expected as i64, found as i64, 0];
        event
    }

    /// A [`News::Status`] of a venue, or of one instrument there.
    #[must_use]
    pub const fn status(
        at: Nanos,
        instrument: InstrumentId,
        venue: VenueId,
        code: StatusCode,
        detail: i64,
    ) -> Self {
        let mut event = Self::new(at, Nanos(0), instrument, Kind::Status);
        event.body = [venue.0 as i64, code as i64, detail, 0];
        event
    }

    /// A [`News::Status`] with a second number.
    #[must_use]
    pub const fn status_with(
        at: Nanos,
        instrument: InstrumentId,
        venue: VenueId,
        code: StatusCode,
        (detail, more): (i64, i64),
    ) -> Self {
        let mut event = Self::status(at, instrument, venue, code, detail);
        event.body[3] = more;
        event
    }

    /// The events that tell these words: [`StatusCode::Said`], 16 bytes each, at most
    /// [`Self::SAID_MAX`] bytes.
    pub fn said(
        at: Nanos,
        instrument: InstrumentId,
        venue: VenueId,
        words: &[u8],
    ) -> impl Iterator<Item = Self> {
        let words = words.get(..Self::SAID_MAX).unwrap_or(words);
        words.chunks(16).map(move |piece| {
            let (mut first, mut second) = ([0; 8], [0; 8]);
            for (to, from) in first.iter_mut().chain(&mut second).zip(piece) {
                *to = *from;
            }
            let numbers = (i64::from_le_bytes(first), i64::from_le_bytes(second));
            Self::status_with(at, instrument, venue, StatusCode::Said, numbers)
        })
    }

    /// The words of a [`StatusCode::Said`], padded with zero bytes.
    #[must_use]
    pub const fn words_of(detail: i64, more: i64) -> [u8; 16] {
        (detail as u64 as u128 | (more as u64 as u128) << 64).to_le_bytes()
    }

    /// A [`News::Timer`].
    #[must_use]
    pub const fn timer(at: Nanos) -> Self {
        Self::new(at, Nanos(0), InstrumentId::NONE, Kind::Timer)
    }

    /// A [`News::Command`].
    #[must_use]
    pub const fn command(at: Nanos, verb: Verb, argument: i64) -> Self {
        let mut event = Self::new(at, Nanos(0), InstrumentId::NONE, Kind::Command);
        event.body = [verb as i64, argument, 0, 0];
        event
    }

    /// A [`News::Fill`].
    #[must_use]
    #[expect(clippy::too_many_arguments, reason = "a fill is what it is")]
    pub const fn fill(
        at: Nanos,
        venue_at: Nanos,
        instrument: InstrumentId,
        order: OrderId,
        side: Side,
        price: Price,
        qty: Qty,
        fee: Money,
        maker: bool,
    ) -> Self {
        let mut event = Self::new(at, venue_at, instrument, Kind::Report);
        event.body = [order.0 as i64, price.0, qty.0, fee.0];
        let role = if maker { Flags::MAKER } else { Flags::NONE };
        event.flags = Flags::of_side(side).with(role).with(Flags((ReportState::Filled as u8) << 4));
        event
    }

    /// A [`News::Report`]. For fills use [`Event::fill`].
    #[must_use]
    #[expect(clippy::too_many_arguments, reason = "a report is what it is")]
    pub const fn report(
        at: Nanos,
        venue_at: Nanos,
        instrument: InstrumentId,
        order: OrderId,
        side: Side,
        state: ReportState,
        remaining: Qty,
        code: Code,
    ) -> Self {
        let mut event = Self::new(at, venue_at, instrument, Kind::Report);
        event.body = [order.0 as i64, 0, remaining.0, code as i64];
        event.flags = Flags::of_side(side).with(Flags((state as u8) << 4));
        event
    }

    /// A [`News::Balance`].
    #[must_use]
    pub const fn balance(
        at: Nanos,
        venue: VenueId,
        currency: CurrencyId,
        total: Money,
        available: Money,
    ) -> Self {
        let mut event = Self::new(at, Nanos(0), InstrumentId::NONE, Kind::Balance);
        event.body = [venue.0 as i64, currency.0 as i64, total.0, available.0];
        event
    }

    /// A [`News::Config`].
    #[must_use]
    pub const fn config(at: Nanos, digest: u64) -> Self {
        let mut event = Self::new(at, Nanos(0), InstrumentId::NONE, Kind::Config);
        event.body = [digest as i64, 0, 0, 0];
        event
    }

    /// What the event says. Inlined and branch-cheap: seats call it once per event.
    #[must_use]
    #[inline]
    pub fn news(&self) -> News {
        let [a, b, c, d] = self.body;
        match self.kind {
            Kind::Vacant => News::Nothing,
            Kind::Trade => News::Trade {
                price: Price(a),
                qty: Qty(b),
                id: c as u64,
                aggressor: self.flags.side(),
            },
            Kind::Quote => {
                News::Quote { bid: Price(a), bid_qty: Qty(b), ask: Price(c), ask_qty: Qty(d) }
            }
            Kind::Book => News::Book {
                side: self.flags.side(),
                price: Price(a),
                qty: Qty(b),
                update: c as u64,
                flags: self.flags,
            },
            Kind::Gap => match GapReason::from_number(a) {
                Some(reason) => News::Gap { reason, expected: b as u64, found: c as u64 },
                None => News::Nothing,
            },
            Kind::Status => match (u8::try_from(a), StatusCode::from_number(b)) {
                (Ok(venue), Some(code)) => {
                    News::Status { venue: VenueId(venue), code, detail: c, more: d }
                }
                _ => News::Nothing,
            },
            Kind::Timer => News::Timer,
            Kind::Command => match Verb::from_number(a) {
                Some(verb) => News::Command { verb, argument: b },
                None => News::Nothing,
            },
            Kind::Report => self.report_news(),
            Kind::Balance => match (u8::try_from(a), u16::try_from(b)) {
                (Ok(venue), Ok(currency)) => News::Balance {
                    venue: VenueId(venue),
                    currency: CurrencyId(currency),
                    total: Money(c),
                    available: Money(d),
                },
                _ => News::Nothing,
            },
            Kind::Config => News::Config { digest: a as u64 },
        }
    }

    #[inline]
    fn report_news(&self) -> News {
        let [a, b, c, d] = self.body;
        let (order, side) = (OrderId(a as u64), self.flags.side());
        let Some(state) = ReportState::from_number(self.flags.bits() >> 4) else {
            return News::Nothing;
        };
        if state == ReportState::Filled {
            return News::Fill {
                order,
                side,
                price: Price(b),
                qty: Qty(c),
                fee: Money(d),
                maker: self.flags.has(Flags::MAKER),
            };
        }
        match u8::try_from(d).ok().and_then(Code::from_number) {
            Some(code) => News::Report { order, side, state, remaining: Qty(c), code },
            None => News::Nothing,
        }
    }

    /// The payload of the event's journal frame: the event without its stamps.
    #[must_use]
    #[inline]
    pub fn logical(&self) -> [u8; Self::LOGICAL] {
        // Every word the same way: a short store of the cleared stamp, read again by a copy in wider
        // pieces, would stall for as long as the whole append takes.
        let words: [u64; 8] = zerocopy::transmute!(*self);
        let logical: [u64; 7] = core::array::from_fn(|at| words[at] & LOGICAL_BITS[at]);
        zerocopy::transmute!(logical)
    }

    /// Rebuilds an event from its frame: payload and the two stamps.
    ///
    /// `None` where the payload has another length, stamps of its own, or a kind that does not exist.
    #[must_use]
    pub fn from_frame(payload: &[u8], recv: Stamp, in_after: u32) -> Option<Self> {
        if payload.len() != Self::LOGICAL {
            return None;
        }
        let mut bytes = [0_u8; size_of::<Self>()];
        bytes[..Self::LOGICAL].copy_from_slice(payload);
        let event = Self::try_read_from_bytes(&bytes).ok()?;
        (event.in_after == 0).then_some(Self { recv, in_after, ..event })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: Nanos = Nanos(1_000);
    const I: InstrumentId = InstrumentId(3);

    #[test]
    fn what_a_constructor_says_is_what_news_reads() {
        let check = |event: Event, want: News| {
            assert_eq!(event.news(), want);
            let back = Event::from_frame(&event.logical(), Stamp(9), 7).unwrap();
            assert_eq!((back.news(), back.recv, back.in_after), (want, Stamp(9), 7));
            assert_eq!(back.logical(), event.logical());
        };
        check(
            Event::trade(AT, Nanos(5), I, Price(10), Qty(2), u64::MAX, Side::Sell),
            News::Trade { price: Price(10), qty: Qty(2), id: u64::MAX, aggressor: Side::Sell },
        );
        check(
            Event::quote(AT, Nanos(0), I, (Price(1), Qty(2)), (Price(3), Qty(4))),
            News::Quote { bid: Price(1), bid_qty: Qty(2), ask: Price(3), ask_qty: Qty(4) },
        );
        check(
            Event::fill(
                AT,
                AT,
                I,
                OrderId::new(2, 7),
                Side::Buy,
                Price(5),
                Qty(6),
                Money(-1),
                true,
            ),
            News::Fill {
                order: OrderId::new(2, 7),
                side: Side::Buy,
                price: Price(5),
                qty: Qty(6),
                fee: Money(-1),
                maker: true,
            },
        );
        for state in ReportState::ALL {
            if state != ReportState::Filled {
                check(
                    Event::report(
                        AT,
                        AT,
                        I,
                        OrderId(1),
                        Side::Sell,
                        state,
                        Qty(4),
                        Code::IocUnfilled,
                    ),
                    News::Report {
                        order: OrderId(1),
                        side: Side::Sell,
                        state,
                        remaining: Qty(4),
                        code: Code::IocUnfilled,
                    },
                );
            }
        }
        check(
            Event::gap(AT, I, GapReason::Sequence, 8, 9),
            News::Gap { reason: GapReason::Sequence, expected: 8, found: 9 },
        );
        check(Event::command(AT, Verb::Halt, -3), News::Command { verb: Verb::Halt, argument: -3 });
        check(
            Event::status(AT, InstrumentId::NONE, VenueId(1), StatusCode::Connected, 4),
            News::Status { venue: VenueId(1), code: StatusCode::Connected, detail: 4, more: 0 },
        );
    }

    #[test]
    fn words_come_back_as_they_were_said() {
        let check = |words: &[u8]| {
            let mut back = alloc::vec::Vec::new();
            for event in Event::said(AT, I, VenueId(1), words) {
                let News::Status { code: StatusCode::Said, detail, more, .. } = event.news() else {
                    panic!("{event:?}");
                };
                back.extend(Event::words_of(detail, more));
            }
            while back.last() == Some(&0) {
                back.pop();
            }
            assert_eq!(back, &words[..words.len().min(Event::SAID_MAX)]);
        };
        check(b"");
        check(b"no such symbol");
        check(b"exactly sixteen.");
        check(&[0xff; 16]);
        check(&[b'x'; 1_000]);
    }

    #[test]
    fn bytes_that_no_version_writes_are_refused_not_guessed() {
        let mut payload = Event::timer(AT).logical();
        assert!(Event::from_frame(&payload, Stamp(0), 0).is_some());
        payload[50] = 99;
        assert!(Event::from_frame(&payload, Stamp(0), 0).is_none(), "kind 99");
        assert!(Event::from_frame(&payload[..55], Stamp(0), 0).is_none(), "55 bytes");
        let mut stamped = Event::timer(AT).logical();
        stamped[52] = 1;
        assert!(Event::from_frame(&stamped, Stamp(0), 0).is_none(), "a stamp inside");
    }
}
