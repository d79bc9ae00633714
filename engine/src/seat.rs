//! A seat: a piece of work with a name that does not know its thread; and the loop of a thread.

use std::sync::atomic::Ordering;

use crate::meter::{Count, Meters};

/// What a turn found. In this order: closed, idle, busy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Looked {
    /// Its inputs have ended.
    Closed,
    /// Nothing to do.
    Idle,
    /// Something was done; there may be more.
    Busy,
}

/// A place in the pipeline. Turned by a thread that may turn other seats too, so a turn is bounded
/// and never waits for another seat.
pub trait Seat: Send {
    /// Does a bounded piece of work.
    fn turn(&mut self) -> Looked;

    /// Ends the seat's work, on its own thread, after the last turn.
    fn close(self: Box<Self>) {}
}

/// What a thread does when none of its seats had work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// Ask again at once. Needs a CPU of its own.
    Spin,
    /// Let another thread run first.
    Yield,
    /// Sleep for some tens of microseconds after a while of idleness. For laptops.
    Park,
}

/// Idle rounds before a parking thread sleeps: some microseconds of looking first.
const PARK_AFTER: u32 = 256;
/// How long it sleeps: above the timer slack of 50 µs nothing shorter is kept anyway.
const PARK_FOR: std::time::Duration = std::time::Duration::from_micros(50);

impl Wait {
    #[inline]
    #[expect(clippy::disallowed_methods, reason = "`park` is the wait that sleeps, on request")]
    fn idle(self, rounds: u32) {
        match self {
            // Bare: PAUSE costs 25 ns, and the CPU is ours.
            Self::Spin => {}
            Self::Yield => std::thread::yield_now(),
            Self::Park if rounds < PARK_AFTER => std::thread::yield_now(),
            Self::Park => std::thread::sleep(PARK_FOR),
        }
    }
}

/// What a thread tells about itself, for the watcher.
#[derive(Debug, Default)]
pub struct Pulse {
    /// Rounds made.
    pub rounds: Count,
    /// The seat being turned, as its place in the thread's list.
    pub turning: Count,
}

/// The seats of one thread, in the order in which they are turned.
pub struct Crew {
    /// The seats, in pipeline order.
    pub seats: Vec<Box<dyn Seat>>,
    /// Places in `seats`, in the order of a round. The journal may stand in it twice: its inputs
    /// are taken before strategy sees them, its orders before execution does.
    pub order: Vec<usize>,
}

/// A thread that is not started yet.
pub struct ThreadPlan {
    /// Its first seat, `+n` for n more.
    pub name: String,
    /// The names of its seats, in pipeline order.
    pub seats: Vec<String>,
    /// Where it is pinned.
    pub cpu: u16,
    /// What it turns.
    pub crew: Crew,
}

/// Turns the seats of one CPU, round by round, until the engine is over; then closes them.
pub fn run(mut crew: Crew, wait: Wait, meters: &Meters, pulse: &Pulse) {
    let mut idle_rounds = 0_u32;
    let mut rounds = 0_u64;
    while !meters.over.load(Ordering::Relaxed) {
        let mut best = Looked::Closed;
        for &place in &crew.order {
            pulse.turning.set(place as u64);
            if let Some(seat) = crew.seats.get_mut(place) {
                best = best.max(seat.turn());
            }
        }
        rounds += 1;
        pulse.rounds.set(rounds);
        if best == Looked::Busy {
            idle_rounds = 0;
        } else {
            idle_rounds = idle_rounds.saturating_add(1);
            wait.idle(idle_rounds);
        }
    }
    for seat in crew.seats {
        seat.close();
    }
}
