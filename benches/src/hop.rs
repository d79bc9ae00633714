//! `hop`: what it costs to hand 64 bytes to another core and get an answer.
//!
//! Two threads on two CPUs play ping-pong. The floor is two atomics on two cache lines: no queue can
//! be quicker. Beside it stand the engine's rings (single producer, [`Outlet`] and [`Inlet`] as the
//! seats use them) with the same eight bytes in a slot: `rtt_over_floor` compares like with like.
//!
//! Messages of 64 bytes, as events are, move a second line each way, whatever carries them: one with
//! the message, one that says it is there. So they have a floor of their own, two atomics and a plain
//! array of as many slots as every queue has, written one after the other; and the queues that others
//! use for the same are measured with them. All spin;
//! the two rows marked `block` wait as their authors meant them to. Round trips are measured singly
//! for the percentiles; ratios are formed from means of 32, because the clock may advance in steps
//! of 10 ns.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::thread;

use crossbeam::queue::ArrayQueue;
use crossbeam::utils::CachePadded;
use disruptor::{BusySpin, build_single_producer};
use kairos_engine::clock::Clock;
use kairos_engine::ring::{Counted, Inlet, Outlet};
use kairos_engine::seat::Looked;

use crate::report::Findings;
use crate::stats::{ROUNDS, Series, means};
use crate::threads::{self, StartLine};
use crate::{Bench, Trouble};

/// Slots of every queue.
const SLOTS: usize = 1_024;
/// Round trips of a round. 120 ns each: 5 ms, short of most scheduler quanta.
const TRIPS: usize = 40_000;
/// Round trips where each takes a system call or two.
const TRIPS_BLOCKING: usize = 2_000;
/// Trips before the measured ones: more than one lap of every ring.
const WARM_UP: usize = 2 * SLOTS;
/// Trips in a mean.
const MEAN_OF: usize = 32;

/// What is sent.
trait Message: Copy + Default + Send + Sync + 'static {
    /// The message with this number, in all of its bytes.
    fn new(number: u64) -> Self;
    /// Its number, from all of its bytes.
    fn number(&self) -> u64;
}

impl Message for u64 {
    #[inline]
    fn new(number: u64) -> Self {
        number
    }

    #[inline]
    fn number(&self) -> u64 {
        *self
    }
}

/// A cache line, as an event is.
#[derive(Clone, Copy, Debug, Default)]
#[repr(align(64))]
struct Line([u64; 8]);

impl Message for Line {
    #[inline]
    fn new(number: u64) -> Self {
        Self([number; 8])
    }

    #[inline]
    fn number(&self) -> u64 {
        self.0.iter().fold(u64::MAX, |all, word| all & word)
    }
}

/// One side of a connection in both directions.
trait Port<M>: Send {
    /// Sends; there is always room, because one message is under way at a time.
    fn send(&mut self, message: M);
    /// Waits for the next.
    fn take(&mut self) -> M;
}

/// Runs the benches of this module.
pub(crate) fn run(bench: &mut Bench) -> Result<Findings, Trouble> {
    let cpus = bench.two_cpus();
    if cpus.0 == cpus.1 {
        return Err(Trouble::new("hop", "needs two usable CPUs"));
    }
    let mut floor = Row::new("8 B: two atomics (floor)");
    let mut small = Row::new("8 B: kairos ring, single producer");
    let mut line_floor = Row::new("64 B: two atomics, an array of slots");
    let mut ring = Row::new("64 B: kairos ring, single producer");
    let mut peers = [
        Row::new("64 B: rtrb"),
        Row::new("64 B: crossbeam ArrayQueue"),
        Row::new("64 B: crossbeam channel, spin"),
        Row::new("64 B: std sync_channel, spin"),
    ];
    let mut blocking =
        [Row::new("64 B: crossbeam channel, block"), Row::new("64 B: std sync_channel, block")];
    for _ in 0..ROUNDS {
        let clock = &bench.clock;
        let play = Play { clock, cpus, ns: bench.nanos_per_tick(), trips: TRIPS };
        floor.push(play.trips_of(atomics()));
        small.push(play.trips_of(rings::<u64>()));
        line_floor.push(play.trips_of(lines()));
        ring.push(play.trips_of(rings::<Line>()));
        let [rtrb, array, crossbeam, std] = &mut peers;
        rtrb.push(play.trips_of(rtrbs()));
        array.push(play.trips_of(arrays()));
        crossbeam.push(play.trips_of(crossbeams(Waiting::Spins)));
        std.push(play.trips_of(stds(Waiting::Spins)));
        let play = Play { trips: TRIPS_BLOCKING, ..play };
        let [crossbeam, std] = &mut blocking;
        crossbeam.push(play.trips_of(crossbeams(Waiting::Blocks)));
        std.push(play.trips_of(stds(Waiting::Blocks)));
        bench.look_at_jitter();
    }
    let mut found = Findings::default();
    for row in [&floor, &small, &line_floor, &ring].into_iter().chain(&peers).chain(&blocking) {
        found.row(&row.singles);
    }
    found.asked("rtt_over_floor", small.means.over(&floor.means, 0.5), "<= 1.25");
    found.ratio("line_rtt_over_line_floor", ring.means.over(&line_floor.means, 0.5));
    found.ratio("line_rtt_over_floor", ring.means.over(&floor.means, 0.5));
    for (name, peer) in ["rtrb", "array_queue", "crossbeam", "std"].iter().zip(&peers) {
        found.ratio(format!("{name}_over_line_rtt"), peer.means.over(&ring.means, 0.5));
    }
    found.note(format!("round trips between CPU {} and CPU {}", cpus.0, cpus.1));
    Ok(found)
}

/// A row, and what its ratio is formed of.
struct Row {
    singles: Series,
    means: Series,
}

impl Row {
    fn new(name: &str) -> Self {
        Self { singles: Series::new(name, 1), means: Series::new(name, MEAN_OF as u64) }
    }

    fn push(&mut self, trips: Vec<f64>) {
        self.means.push(means(&trips, MEAN_OF));
        self.singles.push(trips);
    }
}

/// How a game is played.
struct Play<'a> {
    clock: &'a Clock,
    cpus: (u16, u16),
    ns: f64,
    trips: usize,
}

impl Play<'_> {
    /// Nanoseconds of each round trip, in their order.
    #[expect(clippy::cast_precision_loss, reason = "ticks of microseconds")]
    fn trips_of<M: Message, A: Port<M>, B: Port<M>>(
        &self,
        (mut here, mut there): (A, B),
    ) -> Vec<f64> {
        let total = WARM_UP + self.trips;
        let line = StartLine::default();
        let mut stamps = vec![0_u64; self.trips + 1];
        thread::scope(|scope| {
            scope.spawn(|| {
                threads::pin(self.cpus.1);
                line.wait_for(2);
                threads::raise(0);
                for _ in 0..total {
                    let message = there.take();
                    there.send(message);
                }
            });
            scope.spawn(|| {
                threads::pin(self.cpus.0);
                line.wait_for(2);
                threads::raise(0);
                for number in 0..WARM_UP as u64 {
                    here.send(M::new(number));
                    here.take();
                }
                // A stamp ends one trip and begins the next: one reading for each.
                stamps[0] = self.clock.stamp().0;
                for (number, stamp) in (WARM_UP as u64..).zip(stamps.iter_mut().skip(1)) {
                    here.send(M::new(number));
                    let answer = here.take();
                    assert_eq!(answer.number(), number, "a queue keeps the order");
                    *stamp = self.clock.stamp().0;
                }
            });
        });
        stamps.windows(2).map(|it| it[1].saturating_sub(it[0]) as f64 * self.ns).collect()
    }
}

/// The floor: a flag each way, and the message is the flag itself.
struct Atomics {
    mine: Arc<CachePadded<AtomicU64>>,
    theirs: Arc<CachePadded<AtomicU64>>,
    seen: u64,
}

impl Port<u64> for Atomics {
    #[inline]
    fn send(&mut self, message: u64) {
        self.mine.store(message + 1, Ordering::Release);
    }

    #[inline]
    fn take(&mut self) -> u64 {
        loop {
            let value = self.theirs.load(Ordering::Acquire);
            if value != self.seen {
                self.seen = value;
                return value - 1;
            }
        }
    }
}

fn atomics() -> (Atomics, Atomics) {
    let (a, b) = (Arc::default(), Arc::default());
    let here = Atomics { mine: Arc::clone(&a), theirs: Arc::clone(&b), seen: 0 };
    (here, Atomics { mine: b, theirs: a, seen: 0 })
}

/// The floor of messages that fill a line: plain stores into the next slot, then the flag.
struct Lines {
    flags: Atomics,
    mine: Arc<[PlainLine]>,
    theirs: Arc<[PlainLine]>,
    sent: usize,
    taken: usize,
}

/// A line that is written and read by relaxed operations, which are plain moves.
#[derive(Default)]
#[repr(align(64))]
struct PlainLine([AtomicU64; 8]);

impl Port<Line> for Lines {
    #[inline]
    fn send(&mut self, message: Line) {
        for (to, word) in self.mine[self.sent % SLOTS].0.iter().zip(message.0) {
            to.store(word, Ordering::Relaxed);
        }
        self.sent += 1;
        self.flags.send(message.0[0]);
    }

    #[inline]
    fn take(&mut self) -> Line {
        self.flags.take();
        let from = &self.theirs[self.taken % SLOTS].0;
        self.taken += 1;
        Line(std::array::from_fn(|place| from[place].load(Ordering::Relaxed)))
    }
}

fn lines() -> (Lines, Lines) {
    let (a_flags, b_flags) = atomics();
    let slots = || -> Arc<[PlainLine]> { (0..SLOTS).map(|_| PlainLine::default()).collect() };
    let (a, b) = (slots(), slots());
    let side = |flags, mine, theirs| Lines { flags, mine, theirs, sent: 0, taken: 0 };
    (side(a_flags, Arc::clone(&a), Arc::clone(&b)), side(b_flags, b, a))
}

/// The engine's ring, by the traits that the seats use.
struct Rings<I, O> {
    inlet: I,
    outlet: O,
}

impl<M: Message, I: Inlet<M>, O: Outlet<M>> Port<M> for Rings<I, O> {
    #[inline]
    fn send(&mut self, message: M) {
        assert!(self.outlet.offer(message), "one message is under way");
    }

    #[inline]
    fn take(&mut self) -> M {
        let mut found = M::default();
        while self.inlet.look(1, |_, message| found = *message) != Looked::Busy {}
        found
    }
}

fn rings<M: Message>() -> (impl Port<M>, impl Port<M>) {
    let (there_in, ring) = build_single_producer(SLOTS, M::default, BusySpin).new_event_poller();
    let here_out = ring.build();
    let (here_in, ring) = build_single_producer(SLOTS, M::default, BusySpin).new_event_poller();
    let there_out = ring.build();
    (
        Rings { inlet: Counted::new(here_in), outlet: here_out },
        Rings { inlet: Counted::new(there_in), outlet: there_out },
    )
}

/// Two ways of waiting that some queues offer.
#[derive(Clone, Copy)]
enum Waiting {
    Spins,
    Blocks,
}

/// A port made of two closures: enough for queues that need no state of ours.
struct Queue<S, T> {
    send: S,
    take: T,
}

impl<S: FnMut(Line) + Send, T: FnMut() -> Line + Send> Port<Line> for Queue<S, T> {
    #[inline]
    fn send(&mut self, message: Line) {
        (self.send)(message);
    }

    #[inline]
    fn take(&mut self) -> Line {
        (self.take)()
    }
}

/// Asks until there is something.
#[inline]
fn spin(mut ask: impl FnMut() -> Option<Line>) -> Line {
    loop {
        if let Some(message) = ask() {
            return message;
        }
    }
}

fn rtrbs() -> (impl Port<Line>, impl Port<Line>) {
    let side = |(mut out, mut into): (rtrb::Producer<Line>, rtrb::Consumer<Line>)| Queue {
        send: move |it| out.push(it).expect("one message is under way"),
        take: move || spin(|| into.pop().ok()),
    };
    let ((a_out, a_in), (b_out, b_in)) =
        (rtrb::RingBuffer::new(SLOTS), rtrb::RingBuffer::new(SLOTS));
    (side((a_out, b_in)), side((b_out, a_in)))
}

fn arrays() -> (impl Port<Line>, impl Port<Line>) {
    let (a, b) = (Arc::new(ArrayQueue::new(SLOTS)), Arc::new(ArrayQueue::new(SLOTS)));
    let side = |out: Arc<ArrayQueue<Line>>, into: Arc<ArrayQueue<Line>>| Queue {
        send: move |it| out.push(it).expect("one message is under way"),
        take: move || spin(|| into.pop()),
    };
    (side(Arc::clone(&a), Arc::clone(&b)), side(b, a))
}

fn crossbeams(waiting: Waiting) -> (impl Port<Line>, impl Port<Line>) {
    use crossbeam::channel::{Receiver, Sender, bounded};

    let side = |out: Sender<Line>, into: Receiver<Line>| Queue {
        send: move |it| out.send(it).expect("the other side lives"),
        take: move || match waiting {
            Waiting::Spins => spin(|| into.try_recv().ok()),
            Waiting::Blocks => into.recv().expect("the other side lives"),
        },
    };
    let ((a_out, a_in), (b_out, b_in)) = (bounded(SLOTS), bounded(SLOTS));
    (side(a_out, b_in), side(b_out, a_in))
}

fn stds(waiting: Waiting) -> (impl Port<Line>, impl Port<Line>) {
    let side = |out: mpsc::SyncSender<Line>, into: mpsc::Receiver<Line>| Queue {
        send: move |it| out.send(it).expect("the other side lives"),
        take: move || match waiting {
            Waiting::Spins => spin(|| into.try_recv().ok()),
            Waiting::Blocks => into.recv().expect("the other side lives"),
        },
    };
    let ((a_out, a_in), (b_out, b_in)) = (mpsc::sync_channel(SLOTS), mpsc::sync_channel(SLOTS));
    (side(a_out, b_in), side(b_out, a_in))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_queue_brings_every_message_back() {
        let clock = Clock::new();
        let cpus = kairos_engine::pin::usable_cpus().unwrap();
        let [a, b, ..] = cpus[..] else { return };
        let play = Play { clock: &clock, cpus: (a, b), ns: 1.0, trips: 64 };
        // Each trip asserts its own number.
        assert_eq!(play.trips_of(atomics()).len(), 64);
        assert_eq!(play.trips_of(rings::<u64>()).len(), 64);
        assert_eq!(play.trips_of(lines()).len(), 64);
        assert_eq!(play.trips_of(rings::<Line>()).len(), 64);
        assert_eq!(play.trips_of(rtrbs()).len(), 64);
        assert_eq!(play.trips_of(arrays()).len(), 64);
        assert_eq!(play.trips_of(crossbeams(Waiting::Blocks)).len(), 64);
        assert_eq!(play.trips_of(stds(Waiting::Blocks)).len(), 64);
    }
}
