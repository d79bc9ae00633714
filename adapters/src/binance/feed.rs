//! One instrument of a connection, and when its snapshot may be asked for.

use std::sync::Arc;

use kairos_logic::book::Book;
use kairos_logic::event::{Flags, GapReason};
use kairos_logic::units::{Nanos, Side};

use crate::session::{Counters, Outbox, SnapshotRequest};
use crate::venue::backlog::Backlog;
use crate::venue::levels::Level;
use crate::venue::pace::{Budget, Pace};
use crate::venue::symbols::Listed;
use crate::venue::sync::Sync;

/// What all requests of a minute may weigh: of the 6 000 that the venue allows to an address.
const WEIGHT_MAX: u32 = 5_000;
/// The minute of that budget.
const MINUTE_NS: u64 = 60_000_000_000;

/// One instrument of a session.
#[derive(Debug)]
pub(super) struct Feed {
    pub(super) listed: Listed,
    /// Its symbol in lower case, as it begins the names of its streams.
    pub(super) stream: Box<[u8]>,
    /// Its book, where the session is to notice by itself that it breaks.
    pub(super) book: Option<Book>,
    /// Which update of its book comes next.
    pub(super) sync: Sync,
    /// Whether it was told that this instrument has a book, and that it is not known yet.
    pub(super) announced: bool,
    snapshot_path: Arc<str>,
    pub(super) pace: Pace,
}

impl Feed {
    pub(super) fn new(
        listed: Listed,
        symbol: &str,
        snapshot_levels: u16,
        book_depth: usize,
    ) -> Self {
        let path = format!("/api/v3/depth?symbol={symbol}&limit={snapshot_levels}");
        Self {
            listed,
            stream: symbol.to_ascii_lowercase().into_bytes().into_boxed_slice(),
            book: (book_depth > 0).then(|| Book::new(book_depth)),
            sync: Sync::new(Backlog::new()),
            announced: false,
            snapshot_path: path.into(),
            pace: Pace::default(),
        }
    }

    /// Asks for the snapshot unless it is on its way, was asked for just now, or too many were.
    pub(super) fn ask(
        &mut self,
        at: Nanos,
        budget: &mut Budget,
        counters: &mut Counters,
        out: &mut Outbox,
    ) {
        if !self.pace.may_ask(at) || !budget.take(at, 1) {
            return;
        }
        let path = Arc::clone(&self.snapshot_path);
        if out.request(SnapshotRequest { instrument: self.listed.id, path }) {
            counters.snapshot_requests += 1;
            self.pace.asked(at);
        }
    }

    /// Its snapshot did not come, or can not be read.
    pub(super) fn failed(&mut self, at: Nanos) {
        self.pace.failed(at);
    }

    /// Forgets the book, what waited and what was asked for.
    pub(super) fn reset(&mut self) {
        self.sync.reset();
        self.pace.settled();
    }

    /// Its snapshot came and is too old. The pause runs from the request: the next may be at hand.
    pub(super) fn refused(&mut self) {
        self.pace.refused();
    }

    /// One level of an update that followed: the book changes, and is judged at LAST.
    #[inline]
    pub(super) fn follow(
        &mut self,
        side: Side,
        level: Level,
        flags: Flags,
    ) -> Result<(), GapReason> {
        if let Some(book) = &mut self.book {
            book.apply(side, level.price, level.qty, flags)?;
        }
        if flags.has(Flags::LAST) {
            self.pace.useful(); // a snapshot is of use once an update follows on it
        }
        Ok(())
    }
}

/// How many snapshots of so many levels a side may be asked for in a minute: the larger, the heavier.
pub(super) fn budget(snapshot_levels: u16) -> Budget {
    let weight = match snapshot_levels {
        0..=100 => 5,
        101..=500 => 25,
        501..=1_000 => 50,
        1_001.. => 250,
    };
    Budget::new(WEIGHT_MAX / weight, MINUTE_NS)
}
