//! The engine's build: its own seats by its own wiring, fused on one thread or split over two.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use kairos_adapters::session::{Arrival, MarketSession, Outbox};
use kairos_engine::clock::Clock;
use kairos_engine::meter::Meters;
use kairos_engine::ring::FeedDoor;
use kairos_engine::seat::{Looked, Seat, Wait};
use kairos_engine::seats::execution::Time;
use kairos_engine::seats::feed::Broken;
use kairos_engine::seats::journal::{Ending, LastWords};
use kairos_engine::start::{self, SeatThread};
use kairos_engine::wiring::{self, CpuMap, FeedPart, Gate, Parts};
use kairos_logic::event::{Event, Flags, Kind};
use kairos_logic::units::Stamp;

use super::rig::{self, Load, Received, Rig, Run, Schedule};
use super::straight::{per_tick, since};
use crate::{Trouble, alloc, journaling, threads};

/// Slots of IN: the engine's default.
const IN_SLOTS: usize = 1 << 16;
/// Longest time that a run may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often the control thread looks whether it is over.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// Runs the load through the engine: feed and journal on the first CPU, the rest on the second.
pub(super) fn run(rig: &Rig, load: &Arc<Load>, cpus: [u16; 2]) -> Result<Run, Trouble> {
    // The control thread stays off the first CPU, and the seats' threads pin themselves.
    threads::on(rig.other, || run_here(rig, load, cpus))
}

fn run_here(rig: &Rig, load: &Arc<Load>, cpus: [u16; 2]) -> Result<Run, Trouble> {
    let dir = rig::directory()?;
    let (writer, keeping) =
        journaling::start(dir.path(), &rig::journal_options(load), &rig.clock, rig.other)?;
    keeping.wait_until_prepared(1)?;
    let table = rig::table();
    let (desk, risk) = rig::logic(&table)?;
    let meters = Meters::new(&[1]);
    let told = Arc::new(Told::default());
    let ending: Ending = Arc::default();
    let _set = ending.set(LastWords { at: rig.clock.stamp(), payload: Vec::new() });
    let feed = feed(rig, load, &meters, &told)?;
    let parts = Parts {
        feeds: vec![("feed".to_owned(), feed)],
        desk,
        risk,
        broken: Broken::new(table.instruments.len()),
        venue: rig::venue(&table),
        table,
        writer,
        ending: Arc::clone(&ending),
        time: Time::Wall(rig.clock.clone()),
        clock: rig.clock.clone(),
    };
    let [first, second] = cpus;
    let map = CpuMap {
        feeds: vec![first],
        journal: first,
        strategy: second,
        risk: second,
        execution: second,
    };
    let plans = wiring::wire(parts, &map, Gate::Committed, IN_SLOTS, &meters);
    let seats = start::start(plans, Wait::Spin, &meters);
    let seats = seats.map_err(|error| Trouble::new("seats", error))?;
    told.go.store(true, Ordering::Release);
    // This thread's own CPU last: from then on it does not run until the seats are done.
    let (mine, others): (Vec<_>, Vec<_>) = seats.iter().partition(|it| it.cpu == rig.other);
    others.iter().chain(&mine).for_each(|it| threads::raise(it.id));
    let ended = wait_for_the_end(&meters);
    meters.over.store(true, Ordering::Release);
    seats.into_iter().for_each(SeatThread::join);
    ended?;
    keeping.finish(None, &rig.clock)?;
    let from = Stamp(told.measured_from.load(Ordering::Acquire));
    let allocs = told.allocs.load(Ordering::Acquire);
    rig::from_journal(&dir, &rig.clock, from, per_tick(allocs, load))
}

fn wait_for_the_end(meters: &Meters) -> Result<(), Trouble> {
    let start = Instant::now();
    while !meters.feeds.iter().all(|it| it.seat.is_finished()) {
        if meters.journal_failed.load(Ordering::Acquire) {
            return Err(Trouble("the journal takes no more".into()));
        }
        if start.elapsed() > PATIENCE {
            return Err(Trouble("the engine did not come to an end".into()));
        }
        thread::sleep(LOOK_EVERY);
    }
    Ok(())
}

/// What the feed tells the control thread.
#[derive(Debug, Default)]
struct Told {
    measured_from: AtomicU64,
    /// Allocations of its thread while it measured.
    allocs: AtomicU64,
    /// Set by the control thread: it has done all that has to be done before.
    go: AtomicBool,
}

fn feed(
    rig: &Rig,
    load: &Arc<Load>,
    meters: &Arc<Meters>,
    told: &Arc<Told>,
) -> Result<FeedPart, Trouble> {
    let session = Box::new(rig::session(&rig::table())?);
    let (clock, load) = (rig.clock.clone(), Arc::clone(load));
    let (meters, told) = (Arc::clone(meters), Arc::clone(told));
    Ok(Box::new(move |door| {
        let held = VecDeque::with_capacity(IN_SLOTS);
        let sink = Sink { door, held, clock, first: true, in_after: 0 };
        let out = Outbox::new();
        let received = Received::new(&load);
        Box::new(Feed { session, out, sink, load, received, phase: Phase::Closed, meters, told })
    }))
}

/// Publishes as the engine's feeds do: what finds no room waits here, in its order.
struct Sink {
    door: FeedDoor,
    held: VecDeque<Event>,
    clock: Clock,
    first: bool,
    in_after: u32,
}

impl Sink {
    #[inline]
    fn put(&mut self, mut event: Event) {
        if self.first || (event.kind == Kind::Book && event.flags.has(Flags::LAST)) {
            self.first = false;
            self.in_after = since(self.clock.stamp(), event.recv);
        }
        event.in_after = self.in_after;
        if !(self.held.is_empty() && self.door.offer_market(event)) {
            self.held.push_back(event);
        }
    }

    /// Publishes what waits; says whether nothing waits any more.
    fn flush(&mut self) -> bool {
        while let Some(&event) = self.held.front() {
            if !self.door.offer_market(event) {
                return false;
            }
            self.held.pop_front();
        }
        true
    }
}

/// How far the feed is.
#[derive(Clone, Debug)]
enum Phase {
    /// The session is not open yet.
    Closed,
    /// The snapshot is on its way through the pipeline.
    Opening,
    /// The frame of this number is next.
    Plays(Schedule, usize),
    /// Nothing is left to say.
    Done,
}

/// A feed that finds its frames in memory, each at its time.
struct Feed {
    session: Box<dyn MarketSession>,
    out: Outbox,
    sink: Sink,
    load: Arc<Load>,
    received: Received,
    phase: Phase,
    meters: Arc<Meters>,
    told: Arc<Told>,
}

impl Feed {
    fn open(&mut self) {
        let Self { session, out, sink, load, .. } = self;
        let recv = sink.clock.stamp();
        let at = sink.clock.wall(recv);
        rig::open(&mut **session, load, (at, recv), out, &mut |event| sink.put(event));
        self.phase = Phase::Opening;
    }

    fn begin(&mut self) {
        let schedule = Schedule::new(&self.sink.clock, &self.load);
        self.told.measured_from.store(schedule.measured_from().0, Ordering::Release);
        self.phase = Phase::Plays(schedule, 0);
    }

    /// The next frame, if it is due.
    #[inline]
    fn play(&mut self) -> Looked {
        let Phase::Plays(schedule, number) = &mut self.phase else { return Looked::Idle };
        let due = schedule.due(*number);
        if self.sink.clock.stamp() < due {
            self.received.frame(&self.load, *number);
            return Looked::Idle;
        }
        let frame = *number;
        *number += 1;
        let is_last = *number == self.load.messages.len();
        if frame == self.load.warm_up {
            self.told.allocs.store(alloc::of_this_thread(), Ordering::Release);
        }
        let Self { session, out, sink, load, received, .. } = self;
        sink.first = true;
        let arrival = Arrival { at: sink.clock.wall(due), recv: due, number: frame as u64 };
        let bytes = received.frame(load, frame);
        session.on_frame(arrival, bytes, out, &mut |event| sink.put(event));
        out.clear();
        if is_last {
            self.phase = Phase::Done;
        }
        Looked::Busy
    }

    fn finish(&self) {
        let Some(meter) = self.meters.feeds.first().filter(|it| !it.seat.is_finished()) else {
            return;
        };
        let before = self.told.allocs.load(Ordering::Acquire);
        self.told.allocs.store(alloc::of_this_thread() - before, Ordering::Release);
        meter.seat.finish();
        // Here and not by the control thread, which may have to wait for a CPU until now.
        self.meters.over.store(true, Ordering::Release);
    }
}

impl Seat for Feed {
    fn turn(&mut self) -> Looked {
        if !self.sink.flush() {
            return Looked::Idle;
        }
        match &self.phase {
            Phase::Closed => self.open(),
            Phase::Opening if self.told.go.load(Ordering::Acquire) && self.meters.is_settled() => {
                self.begin();
            }
            Phase::Opening => return Looked::Idle,
            Phase::Plays(..) => return self.play(),
            Phase::Done if self.meters.is_settled() => {
                self.finish();
                return Looked::Idle;
            }
            Phase::Done => return Looked::Idle,
        }
        Looked::Busy
    }
}
