//! From plans to running threads: spawn, pin inside, report, and only then go.

use std::panic;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::meter::Meters;
use crate::pin::{self, PinError};
use crate::seat::ThreadPlan;
use crate::seat::{self, Pulse, Wait};

/// A seat thread that runs, as the watcher sees it.
#[derive(Debug)]
pub struct SeatThread {
    /// Its name: the first seat, `+n` for n more.
    pub name: String,
    /// Where it is pinned.
    pub cpu: u16,
    /// The kernel's id of the thread.
    pub id: i32,
    /// Its signs of life.
    pub pulse: Arc<Pulse>,
    handle: JoinHandle<()>,
}

impl SeatThread {
    /// Waits for the thread's end. Call it after `Meters::over` is set.
    pub fn join(self) {
        // A panic in a seat ends the process in the hook, before any join could see it.
        let _ended = self.handle.join();
    }
}

/// Starts the threads. None turns a seat before all are pinned where they belong.
///
/// Each thread is spawned by the caller, whose mask it inherits, and pins itself first.
///
/// # Errors
/// [`PinError`] of the first thread that is not where it should be; none runs then.
pub fn start(
    plans: Vec<ThreadPlan>,
    wait: Wait,
    meters: &Arc<Meters>,
) -> Result<Vec<SeatThread>, PinError> {
    let go = Arc::new(AtomicBool::new(false));
    let mut threads = Vec::with_capacity(plans.len());
    let mut failed = None;
    for plan in plans {
        let (report, reported) = mpsc::channel();
        let pulse = Arc::new(Pulse::default());
        let (name, cpu) = (plan.name, plan.cpu);
        let inside = Inside {
            name: name.clone(),
            cpu,
            go: Arc::clone(&go),
            meters: Arc::clone(meters),
            pulse: Arc::clone(&pulse),
        };
        let handle = thread::Builder::new()
            .name(name.clone())
            .spawn(move || inside.run(plan.crew, wait, &report))
            .expect("the host can start a handful of threads");
        match reported.recv().expect("a thread reports before it does anything else") {
            Ok(id) => threads.push(SeatThread { name, cpu, id, pulse, handle }),
            Err(error) => {
                failed = Some(error);
                break;
            }
        }
    }
    if let Some(error) = failed {
        meters.over.store(true, Ordering::Release);
        go.store(true, Ordering::Release);
        threads.into_iter().for_each(SeatThread::join);
        return Err(error);
    }
    go.store(true, Ordering::Release);
    Ok(threads)
}

struct Inside {
    name: String,
    cpu: u16,
    go: Arc<AtomicBool>,
    meters: Arc<Meters>,
    pulse: Arc<Pulse>,
}

impl Inside {
    fn run(self, crew: seat::Crew, wait: Wait, report: &mpsc::Sender<Result<i32, PinError>>) {
        let pinned = pin::pin_current(&self.name, self.cpu);
        let failed = pinned.is_err();
        // The starter waits for this and is gone only if the process is.
        let _sent = report.send(pinned.map(|()| pin::thread_id()));
        if failed {
            return;
        }
        while !self.go.load(Ordering::Acquire) {
            thread::yield_now();
        }
        seat::run(crew, wait, &self.meters, &self.pulse);
    }
}

/// How long a panicking seat waits for the journal: a stall of a disk, rounded up.
const PANIC_WAIT_ROUNDS: u32 = 1_000;

/// Exit status after a panic: an engine fault, restarted by the service manager.
pub const FAULT: i32 = 70;

/// After a panic in any thread: print it, wait, bounded, until the journal has caught up with IN,
/// then end the process with [`FAULT`]. The event that killed a seat is then in the journal, and
/// replay reproduces the panic. Nothing is unwound and nothing is closed: recovery is the one way
/// back, and it is tested.
pub fn end_process_on_panic(meters: Arc<Meters>) {
    panic::set_hook(Box::new(move |info| {
        let thread = thread::current();
        eprintln!("kairos-engine: seat {}: {info}", thread.name().unwrap_or("?"));
        for _ in 0..PANIC_WAIT_ROUNDS {
            if meters.journal.taken_in.get() >= meters.in_published() {
                break;
            }
            pause(Duration::from_millis(1));
        }
        // No destructors, no exit handlers: another thread may still be writing.
        pin::end_process(FAULT)
    }));
}

#[expect(clippy::disallowed_methods, reason = "the process is ending; nothing is late any more")]
fn pause(time: Duration) {
    thread::sleep(time);
}
