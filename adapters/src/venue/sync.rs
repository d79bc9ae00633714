//! Follows the update ids of one book: when it is whole, what waits for its snapshot, what is lost.
//!
//! The levels themselves are not kept here. A book that waits for a snapshot buffers the changes
//! that arrive meanwhile, in room that is allocated once.

use kairos_logic::units::Nanos;

use super::backlog::{Backlog, Waiting};
use super::levels::{Levels, Sided};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Not usable until a snapshot comes.
    Waiting,
    /// Whole up to this update id.
    Following { last: u64 },
}

/// What to do with an update.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
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
pub(crate) enum Fit {
    /// Report it, then what [`Sync::take`] hands out.
    Accepted,
    /// Nobody waits for it.
    NotWanted,
    /// Older than the updates that wait.
    TooOld { expected: u64 },
}

/// Update ids of one book.
#[derive(Debug)]
pub(crate) struct Sync {
    state: State,
    backlog: Backlog, // each update starts where the one before ends
}

impl Sync {
    pub(crate) fn new(backlog: Backlog) -> Self {
        Self { state: State::Waiting, backlog }
    }

    pub(crate) fn is_waiting(&self) -> bool {
        self.state == State::Waiting
    }

    /// Forgets the book and what waited.
    pub(crate) fn reset(&mut self) {
        self.state = State::Waiting;
        self.backlog.clear();
    }

    /// What waits for a snapshot; `None` where the book is known.
    pub(crate) fn waiting(&self) -> Option<&Backlog> {
        self.is_waiting().then_some(&self.backlog)
    }

    /// An update arrived.
    #[inline]
    pub(crate) fn update(
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
                self.backlog.push((at, venue_at), (first, last), levels);
                Step::Gap { expected: known.saturating_add(1) }
            }
            State::Waiting => self.wait((at, venue_at), (first, last), levels),
        }
    }

    fn wait(&mut self, times: (Nanos, Nanos), ids: (u64, u64), levels: &Levels) -> Step {
        let expected = self.backlog.last().map(|it| it.last.saturating_add(1));
        match expected {
            Some(expected) if ids.1 < expected => Step::Stale,
            Some(expected) if ids.0 > expected => {
                // No snapshot can bridge the hole, so what came before it is of no use.
                self.backlog.clear();
                self.backlog.push(times, ids, levels);
                Step::Gap { expected }
            }
            Some(_) | None => {
                self.backlog.push(times, ids, levels);
                Step::Buffered
            }
        }
    }

    /// A snapshot that holds every update up to `id`.
    pub(crate) fn snapshot(&mut self, id: u64) -> Fit {
        if !self.is_waiting() {
            return Fit::NotWanted;
        }
        match self.backlog.first() {
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
    pub(crate) fn take(&mut self, mut report: impl FnMut(&Waiting, Sided<'_>, &[u64])) -> u64 {
        let State::Following { last: mut known } = self.state else {
            return 0;
        };
        let mut stale = 0;
        for (update, levels, tags) in self.backlog.iter() {
            if update.last <= known {
                stale += 1;
            } else {
                known = update.last;
                report(update, levels, tags);
            }
        }
        self.state = State::Following { last: known };
        self.backlog.clear();
        stale
    }
}
