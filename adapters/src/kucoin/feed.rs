//! One instrument of a connection: its sequence, its snapshot, and how far that reaches.

use std::sync::Arc;

use kairos_logic::book::{Book, KNOWN_LEVELS_MIN};
use kairos_logic::event::GapReason;
use kairos_logic::units::{Price, Side};

use crate::venue::backlog::Backlog;
use crate::venue::levels::{Level, Levels};
use crate::venue::pace::Pace;
use crate::venue::report::Marked;
use crate::venue::symbols::Listed;
use crate::venue::sync::Sync;

/// Levels a side that are kept of a book whose snapshot was cut off.
const WINDOW_DEPTH: usize = 1_024;

/// One instrument of a session.
#[derive(Debug)]
pub(super) struct Feed {
    pub(super) listed: Listed,
    /// Which update of its book comes next.
    pub(super) sync: Sync,
    /// Whether it was told that this instrument has a book, and that it is not known yet.
    pub(super) announced: bool,
    pub(super) pace: Pace,
    pub(super) path: Arc<str>,
    /// Which changes are news.
    pub(super) news: News,
    /// What is known of the book, where snapshots are cut off.
    pub(super) window: Option<Window>,
}

impl Feed {
    pub(super) fn new(listed: Listed, path: String, snapshot_levels: usize) -> Self {
        Self {
            listed,
            sync: Sync::new(Backlog::tagged()),
            announced: false,
            pace: Pace::default(),
            path: path.into(),
            news: News::default(),
            window: (snapshot_levels > 0).then(|| Window::new(snapshot_levels)),
        }
    }

    /// Forgets the book, what waited and what was asked for.
    pub(super) fn reset(&mut self) {
        self.sync.reset();
        self.pace.settled();
    }
}

/// Which changes of a book are news: those behind its snapshot, where that reaches.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct News {
    /// Sequence of the snapshot.
    pub(super) snapshot: u64,
    /// The worst bid and ask that are known; `None` where the side is whole.
    pub(super) edges: [Option<Price>; 2],
}

impl News {
    #[inline]
    pub(super) fn wants(self, (side, level): (Side, Level), sequence: u64) -> bool {
        let holds = match (side, self.edges[side as usize]) {
            (_, None) => true,
            (Side::Buy, Some(edge)) => level.price >= edge,
            (Side::Sell, Some(edge)) => level.price <= edge,
        };
        sequence > self.snapshot && holds
    }
}

/// The part of a book that is known where its snapshot gives only the best levels. What lies beyond
/// its last level is unknown, and stays so until the next snapshot.
#[derive(Debug)]
pub(super) struct Window {
    limit: usize, // levels a side of a snapshot
    book: Book,   // to count what is left
}

impl Window {
    fn new(limit: usize) -> Self {
        Self { limit, book: Book::new(WINDOW_DEPTH) }
    }

    /// How far a snapshot reaches: a side with as many levels as it may have was cut off there. One
    /// with more comes from somebody who cuts nothing off.
    pub(super) fn edges(&self, levels: &Levels) -> [Option<Price>; 2] {
        [Side::Buy, Side::Sell].map(|side| {
            let prices = levels.iter().filter(|it| it.0 == side).map(|(_, it)| it.price);
            let count = prices.clone().count();
            let worst = if side == Side::Buy { prices.min() } else { prices.max() };
            worst.filter(|_| count == self.limit)
        })
    }

    /// Levels of the book, judged at LAST.
    pub(super) fn follow(
        &mut self,
        edges: [Option<Price>; 2],
        levels: impl Iterator<Item = Marked>,
    ) -> Result<(), GapReason> {
        for (side, level, flags) in levels {
            self.book.apply(side, level.price, level.qty, flags)?;
        }
        let is_shallow =
            |side: Side| edges[side as usize].is_some() && self.book.depth(side) < KNOWN_LEVELS_MIN;
        let shallow = is_shallow(Side::Buy) || is_shallow(Side::Sell);
        if shallow { Err(GapReason::Shallow) } else { Ok(()) }
    }
}
