//! Threads that run where they should before anything is measured.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use kairos_engine::pin;

/// Runs `work` on a thread of its own, pinned to `cpu`, and waits for it.
///
/// # Panics
/// Where the thread cannot be pinned: figures of a thread that wanders mean nothing.
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
