//! One instrument of a connection, and how its book may be asked for.

use std::sync::Arc;

use kairos_logic::units::Nanos;

use super::checksum::Written;
use super::sync::Chain;
use crate::venue::levels::Levels;
use crate::venue::pace::{Budget, Pace};
use crate::venue::symbols::Listed;

/// Subscriptions that one connection may change in an hour, out of the 480 that the venue allows.
const CHANGES_MAX: u32 = 400;
/// The hour of that budget.
const HOUR_NS: u64 = 3_600_000_000_000;
/// Snapshots that may be fetched in two seconds, out of the 40 that the venue allows.
const FETCHES_MAX: u32 = 30;
/// The two seconds of that budget.
const FETCHES_WITHIN_NS: u64 = 2_000_000_000;

/// One instrument of a session.
#[derive(Debug)]
pub(super) struct Feed {
    pub(super) listed: Listed,
    pub(super) symbol: Box<str>,
    /// Which update of its book comes next.
    pub(super) chain: Chain,
    /// Its book as text, where the venue sends checksums.
    pub(super) written: Written,
    /// Whether it was told that this instrument has a book, and that it is not known yet.
    pub(super) announced: bool,
    /// Subscriptions, each of which begins with a snapshot.
    pub(super) subscribed: Pace,
    /// When that was last done on this connection.
    pub(super) subscribed_at: Nanos,
    /// Snapshots fetched by REST.
    pub(super) fetched: Pace,
    pub(super) path: Arc<str>,
}

impl Feed {
    pub(super) fn new(listed: Listed, symbol: &str) -> Self {
        Self {
            listed,
            symbol: symbol.into(),
            chain: Chain::new(),
            written: Written::new(listed),
            announced: false,
            subscribed: Pace::default(),
            subscribed_at: Nanos(0),
            fetched: Pace::default(),
            path: format!("/api/v5/market/books?instId={symbol}&sz=400").into(),
        }
    }

    /// Forgets the book, what waited and what was asked for.
    pub(super) fn reset(&mut self) {
        self.chain.reset();
        self.written.forget();
        self.subscribed.settled();
        self.fetched.settled();
    }

    /// A new connection: its subscription is on its way.
    pub(super) fn open(&mut self, at: Nanos) {
        self.reset();
        (self.subscribed, self.fetched) = (Pace::default(), Pace::default());
        self.subscribed.asked(at);
        self.subscribed_at = at;
    }

    /// The levels of an update that followed, where a checksum may need them.
    pub(super) fn write(&mut self, levels: &Levels) {
        for ((side, level), &tag) in levels.iter().zip(levels.tags()) {
            self.written.apply(side, level, tag);
        }
    }
}

/// What is left of the subscriptions of an hour.
pub(super) const fn changes() -> Budget {
    Budget::new(CHANGES_MAX, HOUR_NS)
}

/// What is left of the snapshots of two seconds.
pub(super) const fn fetches() -> Budget {
    Budget::new(FETCHES_MAX, FETCHES_WITHIN_NS)
}
