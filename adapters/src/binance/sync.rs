//! Follows the update ids of one book: when it is whole, what waits for its snapshot, what is lost.
//!
//! The levels themselves are not kept here. A book that waits for a snapshot buffers the changes
//! that arrive meanwhile, in room that is allocated once.

use kairos_logic::units::Nanos;

use crate::venue::levels::{Level, Levels};

/// Levels that a waiting book buffers: about 20 s of a busy pair.
const LEVELS_ROOM: usize = 16_384;
/// Updates that a waiting book buffers: 100 s at ten per second.
const UPDATES_ROOM: usize = 1_024;

/// One update that waits.
#[derive(Clone, Copy, Debug)]
pub(super) struct Waiting {
    /// When it arrived.
    pub(super) at: Nanos,
    /// When the venue sent it.
    pub(super) venue_at: Nanos,
    /// First update id.
    pub(super) first: u64,
    /// Last update id.
    pub(super) last: u64,
    end: usize,      // of its levels in the buffer
    bids_end: usize, // of its bids
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Not usable until a snapshot comes.
    Waiting,
    /// Whole up to this update id.
    Following { last: u64 },
}

/// What to do with an update.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Report its levels.
    Apply,
    /// Known already.
    Stale,
    /// It waits for the snapshot.
    Buffered,
    /// Updates are missing before it. It waits for the next snapshot.
    Gap { expected: u64 },
}

/// What to do with a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fit {
    /// Report it, then what [`Sync::take`] hands out.
    Accepted,
    /// Nobody waits for it.
    NotWanted,
    /// Older than the updates that wait.
    TooOld { expected: u64 },
}

/// Update ids of one book.
#[derive(Debug)]
pub(super) struct Sync {
    state: State,
    updates: Vec<Waiting>, // each starts where the one before ends
    levels: Vec<Level>,
}

impl Sync {
    pub(super) fn new() -> Self {
        Self {
            state: State::Waiting,
            updates: Vec::with_capacity(UPDATES_ROOM),
            levels: Vec::with_capacity(LEVELS_ROOM),
        }
    }

    pub(super) fn is_waiting(&self) -> bool {
        self.state == State::Waiting
    }

    /// Forgets the book and what waited.
    pub(super) fn reset(&mut self) {
        self.state = State::Waiting;
        self.forget();
    }

    fn forget(&mut self) {
        self.updates.clear();
        self.levels.clear();
    }

    /// Update ids that a snapshot may have to fit what waits: distance to the first of them.
    pub(super) fn distance(&self, id: u64) -> Option<u64> {
        let waits = self.is_waiting().then(|| self.updates.first()).flatten()?;
        Some(waits.first.abs_diff(id))
    }

    /// An update arrived.
    #[inline]
    pub(super) fn update(
        &mut self,
        (at, venue_at): (Nanos, Nanos),
        (first, last): (u64, u64),
        levels: &Levels,
    ) -> Step {
        match self.state {
            State::Following { last: known } if last <= known => Step::Stale,
            State::Following { last: known } if first <= known.saturating_add(1) => {
                self.state = State::Following { last };
                Step::Apply
            }
            State::Following { last: known } => {
                self.reset();
                self.buffer((at, venue_at), (first, last), levels);
                Step::Gap { expected: known.saturating_add(1) }
            }
            State::Waiting => self.wait((at, venue_at), (first, last), levels),
        }
    }

    fn wait(&mut self, times: (Nanos, Nanos), ids: (u64, u64), levels: &Levels) -> Step {
        let expected = self.updates.last().map(|it| it.last.saturating_add(1));
        match expected {
            Some(expected) if ids.1 < expected => Step::Stale,
            Some(expected) if ids.0 > expected => {
                // No snapshot can bridge the hole, so what came before it is of no use.
                self.forget();
                self.buffer(times, ids, levels);
                Step::Gap { expected }
            }
            Some(_) | None => {
                self.buffer(times, ids, levels);
                Step::Buffered
            }
        }
    }

    /// Keeps an update. Where the room ends, the oldest are of no use without the rest: the buffer
    /// starts again, and a snapshot has to be as new as that.
    fn buffer(&mut self, (at, venue_at): (Nanos, Nanos), ids: (u64, u64), levels: &Levels) {
        let full =
            self.updates.len() == UPDATES_ROOM || self.levels.len() + levels.len() > LEVELS_ROOM;
        if full {
            self.forget();
        }
        if levels.len() > LEVELS_ROOM {
            return;
        }
        let start = self.levels.len();
        self.levels.extend(levels.iter().map(|(_, level)| level));
        self.updates.push(Waiting {
            at,
            venue_at,
            first: ids.0,
            last: ids.1,
            bids_end: start + levels.bids(),
            end: self.levels.len(),
        });
    }

    /// A snapshot that holds every update up to `id`.
    pub(super) fn snapshot(&mut self, id: u64) -> Fit {
        if !self.is_waiting() {
            return Fit::NotWanted;
        }
        match self.updates.first() {
            Some(first) if first.first > id.saturating_add(1) => {
                Fit::TooOld { expected: first.first.saturating_sub(1) }
            }
            Some(_) | None => {
                self.state = State::Following { last: id };
                Fit::Accepted
            }
        }
    }

    /// Hands out the updates that waited and are newer than the snapshot, and counts the others.
    pub(super) fn take(&mut self, mut report: impl FnMut(&Waiting, &[Level], &[Level])) -> u64 {
        let State::Following { last: mut known } = self.state else {
            return 0;
        };
        let (mut stale, mut start) = (0, 0);
        for update in &self.updates {
            let bids = self.levels.get(start..update.bids_end).unwrap_or(&[]);
            let asks = self.levels.get(update.bids_end..update.end).unwrap_or(&[]);
            start = update.end;
            if update.last <= known {
                stale += 1;
            } else {
                known = update.last;
                report(update, bids, asks);
            }
        }
        self.state = State::Following { last: known };
        self.forget();
        stale
    }
}
