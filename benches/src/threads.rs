//! Threads that run where they should, before the others, before anything is measured.
//!
//! Measured threads ask for the real-time scheduler: it keeps other processes out, though not the
//! hypervisor. No section runs for longer than some tenths of a second, and threads raise themselves
//! only when all that they need has started: what they would keep from running cannot be waited for.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use clap::ValueEnum;
use kairos_engine::pin;
use serde::Serialize;

/// How measured threads are scheduled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Scheduler {
    /// Real time, before everything else on the CPU; where the host allows it.
    Fifo,
    /// As any other process.
    Other,
}

static SCHEDULER: OnceLock<Scheduler> = OnceLock::new();

/// Chooses for the process, once. What the host does not allow is not chosen: see the result.
pub(crate) fn choose(wanted: Scheduler) -> Scheduler {
    let allowed = || thread::spawn(|| raise_to(0, Scheduler::Fifo)).join().unwrap_or(false);
    let chosen = if wanted == Scheduler::Fifo && allowed() { wanted } else { Scheduler::Other };
    *SCHEDULER.get_or_init(|| chosen)
}

/// Puts the thread with this kernel id under the chosen scheduler; 0 is the calling thread.
pub(crate) fn raise(thread: i32) {
    let _as_allowed = raise_to(thread, SCHEDULER.get().copied().unwrap_or(Scheduler::Other));
}

fn raise_to(thread: i32, scheduler: Scheduler) -> bool {
    /// In the middle: below what the kernel keeps for itself.
    const PRIORITY: i32 = 50;
    if scheduler == Scheduler::Other {
        return true;
    }
    let priority = libc::sched_param { sched_priority: PRIORITY };
    // SAFETY: a plain system call that reads `priority`, which outlives it.
    unsafe { libc::sched_setscheduler(thread, libc::SCHED_FIFO, &raw const priority) == 0 }
}

/// Runs `work` on a thread of its own, pinned to `cpu` and raised, and waits for it.
///
/// # Panics
/// Where the thread cannot be pinned: figures of a thread that wanders mean nothing.
pub(crate) fn measured_on<T: Send>(cpu: u16, work: impl FnOnce() -> T + Send) -> T {
    on(cpu, || {
        raise(0);
        work()
    })
}

/// Runs `work` on a thread of its own, pinned to `cpu`, and waits for it.
///
/// # Panics
/// Where the thread cannot be pinned.
pub(crate) fn on<T: Send>(cpu: u16, work: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| {
        let pinned = scope.spawn(move || {
            pin(cpu);
            work()
        });
        pinned.join().expect("a panic on a measured thread ends the bench")
    })
}

/// Pins the calling thread to `cpu`.
///
/// # Panics
/// Where that fails.
pub(crate) fn pin(cpu: u16) {
    if let Err(error) = pin::pin_current("bench", cpu) {
        panic!("{error}");
    }
}

/// A line that every thread reaches before any crosses it.
#[derive(Debug, Default)]
pub(crate) struct StartLine(AtomicUsize);

impl StartLine {
    /// Waits until `threads` have come.
    pub(crate) fn wait_for(&self, threads: usize) {
        self.0.fetch_add(1, Ordering::AcqRel);
        while self.0.load(Ordering::Acquire) < threads {
            // The other may need this CPU to come here at all.
            thread::yield_now();
        }
    }
}
