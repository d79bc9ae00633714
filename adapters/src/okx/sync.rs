//! Follows the update ids of one book: when it is whole, what waits for its snapshot, what is lost.
//!
//! Every update names the one before it. An id may be far above the one before, equal to it (nothing
//! changed for a while) or below it (the venue began to count anew); it fits where the id before it
//! is the last one known, and nowhere else.

use kairos_logic::units::Nanos;

use crate::venue::backlog::{Backlog, Waiting};
use crate::venue::levels::{Levels, Sided};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Not usable until a snapshot comes.
    Waiting,
    /// A fetched snapshot of this id: the next update begins at or before it, and ends behind it.
    Joining { seq: u64 },
    /// Whole up to `seq`, which follows on `prev`.
    Following { prev: u64, seq: u64 },
    /// Whole, as far as checksums tell: there are no ids.
    Unnumbered,
}

/// What to do with an update.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Report its levels.
    Apply,
    /// Known already.
    Stale,
    /// A snapshot is waited for.
    Waits,
    /// Updates are missing before it.
    Gap { expected: u64, found: u64 },
}

/// What to do with a fetched snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fit {
    /// Report it, then what [`Chain::take`] hands out.
    Accepted,
    /// Nobody waits for it.
    NotWanted,
    /// Older than the updates that wait.
    TooOld { expected: u64 },
}

/// Update ids of one book.
#[derive(Debug)]
pub(super) struct Chain {
    state: State,
    backlog: Backlog, // each update begins at the id where the one before ends
}

impl Chain {
    pub(super) fn new() -> Self {
        Self { state: State::Waiting, backlog: Backlog::tagged() }
    }

    pub(super) fn is_waiting(&self) -> bool {
        self.state == State::Waiting
    }

    /// What waits for a snapshot; `None` where the book is known.
    pub(super) fn waiting(&self) -> Option<&Backlog> {
        self.is_waiting().then_some(&self.backlog)
    }

    /// Forgets the book and what waited.
    pub(super) fn reset(&mut self) {
        self.state = State::Waiting;
        self.backlog.clear();
    }

    /// An update arrived.
    #[inline]
    pub(super) fn update(
        &mut self,
        times: (Nanos, Nanos),
        ids: Option<(u64, u64)>,
        levels: &Levels,
    ) -> Step {
        let Some((before, id)) = ids else {
            return if self.is_waiting() { Step::Waits } else { Step::Apply };
        };
        match self.state {
            State::Following { seq, .. } if before == seq => {
                // A sign of life says nothing of the update that came last.
                if before != id {
                    self.state = State::Following { prev: before, seq: id };
                }
                Step::Apply
            }
            State::Following { prev, seq } if (before, id) == (prev, seq) => Step::Stale,
            State::Unnumbered => {
                self.state = State::Following { prev: before, seq: id };
                Step::Apply
            }
            State::Joining { seq } if id <= seq => Step::Stale,
            State::Joining { seq } if before <= seq => {
                self.state = State::Following { prev: before, seq: id };
                Step::Apply
            }
            State::Joining { seq } | State::Following { seq, .. } => {
                self.reset();
                self.backlog.push(times, (before, id), levels);
                Step::Gap { expected: seq, found: before }
            }
            State::Waiting => self.wait(times, (before, id), levels),
        }
    }

    fn wait(&mut self, times: (Nanos, Nanos), (before, id): (u64, u64), levels: &Levels) -> Step {
        if id < before {
            // Ids begin anew: nothing from before can be compared with what follows.
            self.backlog.clear();
            return Step::Waits;
        }
        let last = self.backlog.last().map(|it| (it.first, it.last));
        match last {
            _ if id == before => Step::Waits,
            Some(last) if last == (before, id) => Step::Stale,
            Some((_, expected)) if before != expected => {
                // No snapshot can bridge the hole, so what came before it is of no use.
                self.backlog.clear();
                self.backlog.push(times, (before, id), levels);
                Step::Gap { expected, found: before }
            }
            Some(_) | None => {
                self.backlog.push(times, (before, id), levels);
                Step::Waits
            }
        }
    }

    /// A snapshot came in the stream, which goes on from it.
    pub(super) fn snapshot(&mut self, ids: Option<(u64, u64)>) {
        self.backlog.clear();
        self.state = match ids {
            Some((_, seq)) => State::Following { prev: seq, seq },
            None => State::Unnumbered,
        };
    }

    /// A snapshot was fetched.
    pub(super) fn fetched(&mut self, seq: u64) -> Fit {
        match (self.is_waiting(), self.backlog.first()) {
            (false, _) => Fit::NotWanted,
            (true, Some(first)) if first.first > seq => Fit::TooOld { expected: first.first },
            (true, _) => {
                self.state = State::Joining { seq };
                Fit::Accepted
            }
        }
    }

    /// Hands out the updates that waited and are newer than the fetched snapshot, and counts the
    /// others.
    pub(super) fn take(&mut self, mut report: impl FnMut(&Waiting, Sided<'_>, &[u64])) -> u64 {
        let State::Joining { seq } = self.state else {
            return 0;
        };
        let mut stale = 0;
        for (update, levels, tags) in self.backlog.iter() {
            if update.last <= seq {
                stale += 1;
            } else {
                self.state = State::Following { prev: update.first, seq: update.last };
                report(update, levels, tags);
            }
        }
        self.backlog.clear();
        stale
    }
}
