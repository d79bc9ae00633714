//! The updates of a book that wait for its snapshot, in room that is allocated once.

use kairos_logic::units::Nanos;

use super::levels::{Level, Levels, Sided};

/// Levels that a waiting book buffers: about 20 s of a busy pair.
const LEVELS_ROOM: usize = 16_384;
/// Updates that a waiting book buffers: 100 s at ten per second.
const UPDATES_ROOM: usize = 1_024;

/// One update that waits.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Waiting {
    /// When it arrived.
    pub(crate) at: Nanos,
    /// When the venue sent it.
    pub(crate) venue_at: Nanos,
    /// First update id, or the id that it follows on: as the venue counts.
    pub(crate) first: u64,
    /// Last update id.
    pub(crate) last: u64,
    end: usize,           // of its levels in the buffer
    shape: (usize, bool), // how many of its levels are of the first side, and whether that is bids
}

/// Updates in the order of their arrival.
#[derive(Debug)]
pub(crate) struct Backlog {
    updates: Vec<Waiting>,
    levels: Vec<Level>,
    tags: Vec<u64>, // of the levels; empty where the venue needs none
}

impl Backlog {
    pub(crate) fn new() -> Self {
        Self {
            updates: Vec::with_capacity(UPDATES_ROOM),
            levels: Vec::with_capacity(LEVELS_ROOM),
            tags: Vec::new(),
        }
    }

    /// As [`Self::new`], for levels with tags.
    pub(crate) fn tagged() -> Self {
        Self { tags: Vec::with_capacity(LEVELS_ROOM), ..Self::new() }
    }

    pub(crate) fn clear(&mut self) {
        self.updates.clear();
        self.levels.clear();
        self.tags.clear();
    }

    pub(crate) fn first(&self) -> Option<&Waiting> {
        self.updates.first()
    }

    pub(crate) fn last(&self) -> Option<&Waiting> {
        self.updates.last()
    }

    /// Keeps an update. Where the room ends, the oldest are of no use without the rest: the buffer
    /// starts again, and a snapshot has to be as new as that.
    pub(crate) fn push(
        &mut self,
        (at, venue_at): (Nanos, Nanos),
        (first, last): (u64, u64),
        levels: &Levels,
    ) {
        let full =
            self.updates.len() == UPDATES_ROOM || self.levels.len() + levels.len() > LEVELS_ROOM;
        if full {
            self.clear();
        }
        if levels.len() > LEVELS_ROOM {
            return;
        }
        self.levels.extend(levels.iter().map(|(_, level)| level));
        self.tags.extend_from_slice(levels.tags());
        let (end, shape) = (self.levels.len(), levels.shape());
        self.updates.push(Waiting { at, venue_at, first, last, end, shape });
    }

    /// Every update with its levels and their tags, oldest first.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Waiting, Sided<'_>, &[u64])> {
        let mut start = 0;
        self.updates.iter().map(move |update| {
            let levels = self.levels.get(start..update.end).unwrap_or(&[]);
            let tags = self.tags.get(start..update.end).unwrap_or(&[]);
            start = update.end;
            (update, Sided::new(levels, update.shape), tags)
        })
    }
}

/// The waiting book, by its place, whose first update is nearest to the id of a snapshot without a
/// name, and not farther away than `far`; a book without updates only where it is the only one
/// that waits.
pub(crate) fn nearest<'a>(
    waiting: impl Iterator<Item = (usize, &'a Backlog)> + Clone,
    id: u64,
    far: u64,
) -> Option<usize> {
    let distances = waiting.clone().filter_map(|(n, it)| Some((it.first()?.first.abs_diff(id), n)));
    if let Some((distance, place)) = distances.min() {
        return (distance <= far).then_some(place);
    }
    let mut places = waiting.map(|(n, _)| n);
    let only = places.next()?;
    places.next().is_none().then_some(only)
}
