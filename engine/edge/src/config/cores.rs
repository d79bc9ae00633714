//! Which seat runs on which CPU, and which seats share a thread.

use std::fmt;

/// What a thread does when none of its seats has work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// Looks again at once.
    Spin,
    /// Lets others run, then looks again.
    Yield,
    /// Sleeps for a short time.
    Park,
}

impl Wait {
    /// The name used in the configuration.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::Spin => "spin",
            Self::Yield => "yield",
            Self::Park => "park",
        }
    }
}

/// A piece of work with a name. Ordered as seats of one thread are polled: the journal stands
/// before strategy and execution, so an event that kills a strategy is in the journal before.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Seat {
    /// The sockets or captures of the venue with this name.
    Feed(String),
    /// Writes inputs and decisions.
    Journal,
    /// Wishes.
    Strategy,
    /// Permits.
    Risk,
    /// Sends.
    Execution,
}

impl fmt::Display for Seat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Feed(venue) => write!(f, "feed.{venue}"),
            Self::Journal => f.write_str("journal"),
            Self::Strategy => f.write_str("strategy"),
            Self::Risk => f.write_str("risk"),
            Self::Execution => f.write_str("execution"),
        }
    }
}

/// The seats of one CPU.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Thread {
    /// Its first seat, plus `+n` for n more.
    pub name: String,
    /// The kernel's number of the CPU that it is pinned to.
    pub cpu: u16,
    /// Its seats in the order in which they are polled, at least one.
    pub seats: Vec<Seat>,
}

/// `[cores]`, resolved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cores {
    /// Every seat with its CPU, in the order of [`Seat`].
    pub seats: Vec<(Seat, u16)>,
    /// CPUs of everything that is no seat; may be empty.
    pub housekeeping: Vec<u16>,
    /// What threads do without work.
    pub wait: Wait,
}

impl Cores {
    /// Seats with the same CPU fuse into one thread. Threads stand in the order of their first
    /// seats.
    #[must_use]
    pub fn threads(&self) -> Vec<Thread> {
        let mut threads: Vec<Thread> = Vec::new();
        for (seat, cpu) in &self.seats {
            match threads.iter_mut().find(|thread| thread.cpu == *cpu) {
                Some(thread) => thread.seats.push(seat.clone()),
                None => threads.push(Thread {
                    name: seat.to_string(),
                    cpu: *cpu,
                    seats: vec![seat.clone()],
                }),
            }
        }
        for thread in &mut threads {
            let more = thread.seats.len() - 1;
            if more > 0 {
                thread.name = format!("{}+{more}", thread.name);
            }
        }
        threads
    }

    /// The CPU of a seat, if the seat exists.
    #[must_use]
    pub fn cpu(&self, seat: &Seat) -> Option<u16> {
        let found = self.seats.iter().find(|(name, _)| name == seat);
        found.map(|&(_, cpu)| cpu)
    }
}
