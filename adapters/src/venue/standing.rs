//! How far a book is known, where the venue sends its snapshots in the stream: each is the whole
//! truth, and asking for one is subscribing again.

use kairos_logic::units::Nanos;

use super::pace::Pace;

/// How far one book is known, and when it may be asked for.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Standing {
    state: State,
    announced: bool,
    unanswered: bool,
    pace: Pace,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    /// Not usable until a snapshot comes.
    #[default]
    Waiting,
    /// A snapshot came, and nothing since.
    Fresh,
    /// A snapshot came, and changes followed.
    Following,
}

impl Standing {
    /// Whether it is not usable until a snapshot comes.
    #[inline]
    pub(crate) fn is_waiting(&self) -> bool {
        self.state == State::Waiting
    }

    /// Whether nobody was told yet that there is a book, and that it is not known. From now on
    /// somebody was.
    pub(crate) fn announce(&mut self) -> bool {
        !std::mem::replace(&mut self.announced, true)
    }

    /// Its snapshot came.
    pub(crate) fn snapshot(&mut self) {
        self.state = State::Fresh;
        (self.announced, self.unanswered) = (true, false);
        self.pace.settled();
    }

    /// A change of it came; `false` where nobody knows of what.
    #[inline]
    pub(crate) fn change(&mut self) -> bool {
        if self.is_waiting() {
            return false;
        }
        self.state = State::Following;
        self.pace.useful();
        true
    }

    /// What is known of it is wrong. Where nothing had followed on its snapshot, the next request
    /// waits longer.
    pub(crate) fn lost(&mut self) {
        if self.state == State::Fresh {
            self.pace.refused();
        }
        self.state = State::Waiting;
        self.announced = true;
    }

    /// The connection is gone, or new: nothing is known and nothing was asked.
    pub(crate) fn forget(&mut self) {
        self.state = State::Waiting;
        self.unanswered = false;
        self.pace.settled();
    }

    /// Whether it should be asked for now.
    pub(crate) fn is_due(&self, at: Nanos) -> bool {
        self.is_waiting() && self.pace.may_ask(at)
    }

    /// It was asked for. Each request whose predecessor had no answer waits longer for its own.
    pub(crate) fn asked(&mut self, at: Nanos) {
        if self.unanswered {
            self.pace.refused();
        }
        self.pace.asked(at);
        self.unanswered = true;
    }
}
