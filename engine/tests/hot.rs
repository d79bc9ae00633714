//! What hot threads must not do once they are warm: allocate, fault, or call the system.
//!
//! The whole engine runs in this process under a counting allocator. A control thread switches the
//! counting on once the pipeline is warm, and off before the threads end; a hot thread is known by
//! its name.
#![expect(
    unreachable_pub,
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test is one crate, fails by panicking, and says what it skips"
)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use kairos_engine::meter::Meters;
use kairos_engine::pin;
use kairos_engine::run::{self, Audience, Signals};
use kairos_engine::start::SeatThread;
use kairos_journal::archive::{self, ArchiveOptions};
use kairos_logic::strategy::Registry;

use harness::{Setup, captures, fused, in_memory, map};

#[path = "it/harness.rs"]
#[expect(dead_code, reason = "shared with the other tests, which use all of it")]
mod harness;

/// Whether allocations of hot threads are counted at present.
static COUNTING: AtomicBool = AtomicBool::new(false);
/// Allocations and reallocations by hot threads.
static HOT: AtomicU64 = AtomicU64::new(0);
/// The same by every other thread: shows that the counting works.
static OTHER: AtomicU64 = AtomicU64::new(0);

thread_local! {
    /// 0: not asked yet, 1: hot, 2: not.
    static KIND: Cell<u8> = const { Cell::new(0) };
}

/// The system's allocator, counting.
struct Counting;

// SAFETY: every call is handed to the system's allocator as it is; counting touches atomics and a
// thread-local that needs neither construction nor memory.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note();
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        note();
        // SAFETY: the caller's promise.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn note() {
    if COUNTING.load(Ordering::Relaxed) {
        let count = if is_hot() { &HOT } else { &OTHER };
        count.fetch_add(1, Ordering::Relaxed);
    }
}

fn is_hot() -> bool {
    KIND.with(|kind| {
        if kind.get() == 0 {
            kind.set(if named_after_a_seat() { 1 } else { 2 });
        }
        kind.get() == 1
    })
}

/// Asks the kernel: the standard library's name of a thread may need memory.
fn named_after_a_seat() -> bool {
    let mut name = [0_u8; 16];
    // SAFETY: the kernel writes at most 16 bytes, the size of `name`.
    unsafe { libc::prctl(libc::PR_GET_NAME, name.as_mut_ptr()) };
    // `journal`, `journal+2`, `feed.binance`: not the thread of a test whose name begins like that.
    let seats: [&[u8]; 4] = [b"journal", b"strategy", b"risk", b"execution"];
    let is_seat = |seat: &&[u8]| {
        name.strip_prefix(*seat).is_some_and(|rest| matches!(rest.first(), Some(0 | b'+')))
    };
    name.starts_with(b"feed.") || seats.iter().any(is_seat)
}

/// Events and orders that passed, as the control thread sees it.
#[derive(Clone, Copy, Debug, Default)]
struct Passed {
    events: u64,
    orders: u64,
}

/// Minor and major page faults of a thread.
fn faults(thread: i32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/self/task/{thread}/stat")).unwrap();
    // The name stands in parentheses and may hold anything.
    let fields: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
    let number = |place: usize| fields[place].parse::<u64>().unwrap();
    number(7) + number(9)
}

/// Counts between two numbers of events.
struct Between {
    from: u64,
    to: u64,
    threads: Vec<(String, i32)>,
    start: Option<(Passed, Vec<u64>)>,
    end: Option<(Passed, Vec<u64>)>,
    warnings: Vec<String>,
}

impl Between {
    fn faults(&self) -> Vec<u64> {
        self.threads.iter().map(|(_, id)| faults(*id)).collect()
    }
}

impl Audience for Between {
    fn started(&mut self, _run: u64, threads: &[SeatThread], warnings: &[String]) {
        self.threads = threads.iter().map(|it| (it.name.clone(), it.id)).collect();
        self.warnings = warnings.to_vec();
    }

    fn progress(&mut self, meters: &Meters) {
        let events = meters.in_published();
        let passed = Passed { events, orders: meters.execution.taken_orders.get() };
        if self.start.is_none() && events >= self.from {
            self.start = Some((passed, self.faults()));
            COUNTING.store(true, Ordering::Relaxed);
        } else if self.start.is_some() && self.end.is_none() && events >= self.to {
            COUNTING.store(false, Ordering::Relaxed);
            self.end = Some((passed, self.faults()));
        }
    }
}

/// With a ring an archiver is at work beside.
fn run_between(setup: &Setup, ring: Option<&Path>, from: u64, to: u64) -> Between {
    let mut between =
        Between { from, to, threads: Vec::new(), start: None, end: None, warnings: Vec::new() };
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let archiver = ring.map(|ring| {
            let options = ArchiveOptions::new(setup.journal_dir(), ring);
            scope.spawn(|| archive::run(options, &over, &mut |_| {}))
        });
        run::run(&setup.config(), &Registry::shipped(), &Signals::default(), &mut between).unwrap();
        over.store(true, Ordering::Release);
        archiver.into_iter().for_each(|it| it.join().unwrap().unwrap());
    });
    between
}

/// Runs once to learn how much there is, and once with everything but the first fifth and the last
/// twentieth counted.
fn check(what: &str, mut setup: Setup, ring: Option<&Path>, pace: &str) {
    let unpaced = run_between(&setup, ring, u64::MAX, u64::MAX);
    assert!(unpaced.start.is_none());
    let total = setup.content().events.len() as u64;
    setup.journal = "again".into();
    setup.pace = pace.into();
    HOT.store(0, Ordering::Relaxed);
    OTHER.store(0, Ordering::Relaxed);
    let seen = run_between(&setup, ring, total / 5, total / 20 * 19);
    let (start, end) = (seen.start.unwrap(), seen.end.unwrap());
    let events = end.0.events - start.0.events;
    let orders = end.0.orders - start.0.orders;
    assert!(events >= 10_000, "{what}: only {events} events");
    assert!(orders >= 100, "{what}: only {orders} orders");
    assert!(OTHER.load(Ordering::Relaxed) > 0, "{what}: nothing is counted");
    assert_eq!(HOT.load(Ordering::Relaxed), 0, "{what}: allocations in {events} events");
    if seen.warnings.is_empty() {
        for ((name, _), (before, after)) in seen.threads.iter().zip(start.1.iter().zip(&end.1)) {
            let faults = after - before;
            assert!(faults <= FAULTS_MAX, "{what}: {name}: {faults} faults in {events} events");
        }
    } else {
        println!("page faults are not counted: {:?}", seen.warnings);
    }
}

/// Zero, but for what a kernel does to balance its memory. One per frame would be thousands.
const FAULTS_MAX: u64 = 16;

/// A minute and a half of market, with every strategy that is shipped.
fn seeded(cores: String) -> Setup {
    let mut setup = Setup::seeded(70, 90);
    setup.cores = cores;
    setup.strategies.push_str("[strategies.cross]\nkind = \"sma_cross\"\n");
    setup
}

#[test]
fn no_hot_thread_allocates_once_it_is_warm() {
    let usable = pin::usable_cpus().unwrap();
    let (first, last) = (*usable.first().unwrap(), *usable.last().unwrap());
    check("one thread", seeded(fused()), None, "40.0");
    check("two threads", seeded(map(first, last, last, first, last)), None, "40.0");
    let ring = in_memory();
    let mut setup = seeded(fused());
    setup.placement = format!(
        "placement = \"hot\"\nhot_dir = {:?}\nhot_segments = 4\n",
        ring.path().display().to_string()
    );
    check("in the ring, with the archiver at work", setup, Some(ring.path()), "40.0");
    let Some(captures) = captures() else { return };
    let mut setup = seeded(fused());
    setup.captures = vec![captures.join("binance/btcusdt_20240808.frames.gz")];
    setup.instruments = vec!["BTCUSDT"];
    setup.strategies = ["momentum", "sma_cross", "market_maker"]
        .map(|it| format!("[strategies.{it}]\nkind = {it:?}\n"))
        .concat();
    setup.more = String::new();
    check("recorded", setup, None, "150.0");
}

/// Times at which each thread called the system, by the thread's name.
fn calls(trace: &str) -> BTreeMap<String, Vec<(f64, String)>> {
    let mut names: BTreeMap<&str, String> = BTreeMap::new();
    let mut calls: BTreeMap<&str, Vec<(f64, String)>> = BTreeMap::new();
    for line in trace.lines() {
        let (id, rest) = line.split_once(' ').unwrap();
        let (at, call) = rest.trim_start().split_once(' ').unwrap();
        if let Some(named) = call.strip_prefix("prctl(PR_SET_NAME, \"") {
            names.insert(id, named.split('"').next().unwrap().to_owned());
        }
        calls.entry(id).or_default().push((at.parse().unwrap(), call.to_owned()));
    }
    calls.into_iter().filter_map(|(id, calls)| Some((names.remove(id)?, calls))).collect()
}

#[test]
fn strategy_risk_and_journal_make_no_system_call_while_they_run() {
    let traced = Command::new("strace").args(["-o", "/dev/null", "true"]).output();
    if !traced.as_ref().is_ok_and(|it| it.status.success()) {
        println!("skipped: strace is not installed, or may not trace here: {traced:?}");
        return;
    }
    let usable = pin::usable_cpus().unwrap();
    let [first, .., last] = *usable.as_slice() else {
        println!("skipped: two spinning threads need two CPUs");
        return;
    };
    let mut setup = seeded(map(first, last, last, first, last).replace("yield", "spin"));
    setup.pace = "30.0".into(); // ninety seconds in three
    let config = setup.dir.path().join("kairos.toml");
    std::fs::write(&config, setup.text()).unwrap();
    let trace = setup.dir.path().join("trace");
    let mut command = Command::new("strace");
    command.args(["-f", "-ttt", "-s", "16", "-o"]).arg(&trace);
    command.args([env!("CARGO_BIN_EXE_kairos-engine"), "run", "--config"]).arg(&config);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{output:?}");

    let content = setup.content();
    let (events, decisions) = (content.events.len(), content.decisions.len());
    assert!(events >= 10_000 && decisions >= 100, "{events} events, {decisions} decisions");
    let trace = std::fs::read_to_string(&trace).unwrap();
    let calls = calls(&trace);
    let hot = &calls["journal+2"];
    // Calls when it starts and when it ends, and between them none: a single one at any time of
    // the run would cut the silence in two.
    let silence =
        hot.windows(2).max_by(|a, b| f64::total_cmp(&(a[1].0 - a[0].0), &(b[1].0 - b[0].0)));
    let silence = silence.expect("a thread calls the system to start and to end");
    let length = silence[1].0 - silence[0].0;
    assert!(length >= 2.9, "the longest time without a call is {length} s: {silence:?}\n{hot:?}");
    // The trace does see what threads do while they run: the feed reads its capture.
    let feed = &calls["feed.binance+1"];
    let during = feed.iter().filter(|it| silence[0].0 < it.0 && it.0 < silence[1].0).count();
    assert!(during > 10, "{during} calls of the feed in that time");
}
