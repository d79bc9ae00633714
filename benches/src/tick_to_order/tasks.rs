//! The same work as tasks: an ordinary asynchronous design, written to be quick.
//!
//! One `broadcast` channel carries every input to whoever wants it: strategy, risk, execution and
//! journal. `mpsc` channels carry proposals to risk, decisions to execution, and decisions to the
//! journal. Messages are owned values and small; nothing is boxed, formatted, locked or slept on by
//! this code. The reader is a pinned thread that spins for its frames, decodes and sends: better
//! than a task could do that waits for a socket. The journal gates nothing.
//!
//! Latency is taken by execution, into memory that stands ready.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use kairos_adapters::binance::orders::{MESSAGE_MAX, OrderEncoder};
use kairos_adapters::session::{Arrival, MarketSession, Outbox};
use kairos_adapters::sim::paper::PaperVenue;
use kairos_edge::frames;
use kairos_engine::clock::Clock;
use kairos_engine::pin;
use kairos_journal::Writer;
use kairos_logic::desk::Desk;
use kairos_logic::event::{Event, Kind, ReportState, Verb};
use kairos_logic::order::{Action, Decision, Intents, Proposal};
use kairos_logic::risk::{Outcome, Risk};
use kairos_logic::units::{Seq, Stamp};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::broadcast::{self, error::RecvError};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::rig::{self, Load, Rig, Run, Schedule, nanos};
use super::straight::{per_tick, report, since};
use crate::{Trouble, alloc, journaling, threads};

/// Room in every channel: as much as IN has.
const ROOM: usize = 1 << 16;
/// Longest time after the last frame for what is still under way.
const PATIENCE: Duration = Duration::from_secs(3);

/// Where the tasks run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Workers {
    /// On one worker that has the other CPU to itself: the layout of the split engine.
    OnePinned,
    /// On two workers that may go anywhere, as a runtime starts by default on two CPUs. Under the
    /// common scheduler: as real-time threads one of them could stand behind the reader for ever.
    TwoFree,
}

/// An input with its place in the order of sending.
#[derive(Clone, Copy, Debug)]
struct Input {
    seq: Seq,
    event: Event,
}

/// A wish with the arrival of its cause.
#[derive(Clone, Copy, Debug)]
struct Wish {
    proposal: Proposal,
    recv: Stamp,
}

/// A decision on its way to execution.
#[derive(Debug)]
struct Decided {
    outcome: Outcome,
    recv: Stamp,
}

/// A decision on its way to the journal.
#[derive(Clone, Copy, Debug)]
struct Noted {
    record: Decision,
    strategy_at: Stamp,
    risk_at: Stamp,
}

/// The sending side of the inputs.
#[derive(Clone)]
struct Door {
    inputs: broadcast::Sender<Input>,
    next: Arc<AtomicU64>,
    clock: Clock,
}

impl Door {
    fn send(&self, mut event: Event) {
        event.in_after = since(self.clock.stamp(), event.recv);
        let seq = Seq(self.next.fetch_add(1, Ordering::Relaxed));
        // Without receivers everything is over.
        let _sent = self.inputs.send(Input { seq, event });
    }
}

/// What is seen from outside.
#[derive(Debug, Default)]
struct Seen {
    orders: AtomicU64,
}

/// Runs the load through the tasks.
pub(super) fn run(rig: &Rig, load: &Load, workers: Workers) -> Result<Run, Trouble> {
    let dir = rig::directory()?;
    let (writer, keeping) =
        journaling::start(dir.path(), &rig::journal_options(load), &rig.clock, rig.other)?;
    keeping.wait_until_prepared(1)?;
    let runtime = runtime(rig, workers)?;
    let table = rig::table();
    let (desk, risk) = rig::logic(&table)?;
    let (inputs, _) = broadcast::channel(ROOM);
    let door = Door { inputs, next: Arc::default(), clock: rig.clock.clone() };
    let seen = Arc::new(Seen::default());
    let (wishes, wished) = mpsc::channel(ROOM);
    let (decisions, decided) = mpsc::channel(ROOM);
    let (notes, noted) = mpsc::channel(ROOM);
    let (clock, listen) = (&rig.clock, || door.inputs.subscribe());
    runtime.spawn(strategy(listen(), wishes, desk, clock.clone()));
    runtime.spawn(judge(listen(), wished, (decisions, notes), risk, clock.clone()));
    let hands = Hands {
        venue: rig::venue(&table),
        encoder: OrderEncoder::new(&table, rig::VENUE),
        wire: [0; MESSAGE_MAX],
        door: door.clone(),
        latencies: Vec::with_capacity(load.messages.len()),
        seen: Arc::clone(&seen),
    };
    let execution = runtime.spawn(execution(listen(), decided, hands));
    let journal = runtime.spawn(journal(listen(), noted, writer));
    let played = play(rig, load, &door, &seen)?;
    door.send(Event::command(rig.clock.wall(rig.clock.stamp()), Verb::Stop, 0));
    drop(door);
    let latencies = finished(&runtime, execution)?;
    let writer = finished(&runtime, journal)?;
    runtime.shutdown_background();
    keeping.finish(Some(writer), &rig.clock)?;
    let from = played.from.0;
    let counted = latencies.iter().filter(|it| it.0.0 >= from);
    let latencies = counted.map(|&(recv, sent)| nanos(rig.clock.nanos_between(recv, sent)));
    Ok(Run { latencies: latencies.collect(), allocs_per_tick: per_tick(played.allocs, load) })
}

fn runtime(rig: &Rig, workers: Workers) -> Result<Runtime, Trouble> {
    let mut builder = Builder::new_multi_thread();
    match workers {
        Workers::TwoFree => builder.worker_threads(2),
        Workers::OnePinned => {
            let cpu = rig.other;
            builder.worker_threads(1).on_thread_start(move || {
                let _pinned = pin::confine_current(&[cpu]);
                threads::raise(0);
            })
        }
    };
    builder.build().map_err(|error| Trouble::new("runtime", error))
}

fn finished<T>(runtime: &Runtime, task: JoinHandle<T>) -> Result<T, Trouble> {
    runtime.block_on(task).map_err(|error| Trouble::new("task", error))
}

/// What playing the load gave.
struct Played {
    from: Stamp,
    allocs: u64,
}

/// The reader: opens the session, waits until the snapshot is through, and plays the frames.
fn play(rig: &Rig, load: &Load, door: &Door, seen: &Seen) -> Result<Played, Trouble> {
    let mut session = rig::session(&rig::table())?;
    let mut out = Outbox::new();
    Ok(threads::on(rig.hot, || {
        let clock = &rig.clock;
        let recv = clock.stamp();
        let opened = (clock.wall(recv), recv);
        rig::open(&mut session, load, opened, &mut out, &mut |event| door.send(event));
        wait_while(|| !door.inputs.is_empty());
        threads::raise(0);
        let schedule = Schedule::new(clock, load);
        let mut allocs = 0;
        for number in 0..load.messages.len() {
            if number == load.warm_up {
                allocs = alloc::of_all_threads();
            }
            let recv = schedule.due(number);
            while clock.stamp() < recv {}
            let arrival = Arrival { at: clock.wall(recv), recv, number: number as u64 };
            let frame = load.messages.get(number);
            session.on_frame(arrival, frame, &mut out, &mut |event| door.send(event));
            out.clear();
        }
        allocs = alloc::of_all_threads() - allocs;
        // Overloaded, not every frame leads to an order: then patience ends the run.
        let all = load.messages.len() as u64;
        wait_while(|| seen.orders.load(Ordering::Acquire) < all);
        Played { from: schedule.measured_from(), allocs }
    }))
}

fn wait_while(mut unfinished: impl FnMut() -> bool) {
    let start = Instant::now();
    while unfinished() && start.elapsed() < PATIENCE {
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// The next input; `None` when there will be none. Inputs that were overrun are lost, as they are
/// for everyone who listens to such a channel.
async fn next(inputs: &mut broadcast::Receiver<Input>) -> Option<Input> {
    loop {
        match inputs.recv().await {
            Ok(input) => return Some(input),
            Err(RecvError::Lagged(_)) => {}
            Err(RecvError::Closed) => return None,
        }
    }
}

async fn strategy(
    mut inputs: broadcast::Receiver<Input>,
    wishes: mpsc::Sender<Wish>,
    mut desk: Desk,
    clock: Clock,
) {
    let mut intents = Intents::new();
    while let Some(Input { seq, event }) = next(&mut inputs).await {
        intents.clear();
        desk.on_event(&event, &mut intents);
        if intents.as_slice().is_empty() {
            continue;
        }
        let strategy_at = clock.stamp();
        for &intent in intents.as_slice() {
            let proposal = Proposal { cause: seq, intent, strategy_at };
            if wishes.send(Wish { proposal, recv: event.recv }).await.is_err() {
                return;
            }
        }
    }
}

async fn judge(
    mut inputs: broadcast::Receiver<Input>,
    mut wished: mpsc::Receiver<Wish>,
    (decisions, notes): (mpsc::Sender<Decided>, mpsc::Sender<Noted>),
    mut risk: Risk,
    clock: Clock,
) {
    let mut outcomes = Vec::with_capacity(1_024);
    loop {
        // Inputs first: risk should know what the strategy knew.
        tokio::select! {
            biased;
            input = next(&mut inputs) => {
                let Some(Input { seq, event }) = input else { return };
                risk.on_event(seq, &event, &mut |it| outcomes.push((it, Stamp(0), event.recv)));
            }
            wish = wished.recv() => {
                let Some(Wish { proposal, recv }) = wish else { return };
                outcomes.push((risk.judge(&proposal), proposal.strategy_at, recv));
            }
        }
        for (outcome, strategy_at, recv) in outcomes.drain(..) {
            let risk_at = clock.stamp();
            if let Some(&record) = outcome.record() {
                let noted = notes.send(Noted { record, strategy_at, risk_at }).await;
                let sent = decisions.send(Decided { outcome, recv }).await;
                if noted.is_err() || sent.is_err() {
                    return;
                }
            }
        }
    }
}

/// What execution works with.
struct Hands {
    venue: PaperVenue,
    encoder: OrderEncoder,
    wire: [u8; MESSAGE_MAX],
    door: Door,
    /// Arrival of the cause, and when the order's text stood.
    latencies: Vec<(Stamp, Stamp)>,
    seen: Arc<Seen>,
}

async fn execution(
    mut inputs: broadcast::Receiver<Input>,
    mut decided: mpsc::Receiver<Decided>,
    mut hands: Hands,
) -> Vec<(Stamp, Stamp)> {
    loop {
        tokio::select! {
            biased;
            decided = decided.recv() => match decided {
                Some(decided) => hands.act(&decided),
                None => break,
            },
            input = next(&mut inputs) => match input {
                // Its own sender keeps the inputs open, so the end has to be said.
                None => break,
                Some(Input { event, .. }) if event.kind == Kind::Command => break,
                Some(Input { event, .. }) => hands.venue.on_event(&event),
            },
        }
        hands.answers();
    }
    hands.latencies
}

impl Hands {
    fn act(&mut self, decided: &Decided) {
        let Some(record) = decided.outcome.record() else { return };
        self.seen.orders.fetch_add(u64::from(record.action == Action::Place), Ordering::Release);
        let clock = &self.door.clock;
        match &decided.outcome {
            Outcome::Approved(order) if record.action != Action::State => {
                let encoded = self.encoder.encode(record, record.at, &mut self.wire);
                assert!(encoded.is_ok(), "{encoded:?}");
                let sent = clock.stamp();
                self.latencies.push((decided.recv, sent));
                let now = clock.wall(sent);
                self.door.send(report(record, now, sent, ReportState::Sent));
                if let Some(event) = self.venue.submit(now, order) {
                    self.door.send(event);
                }
            }
            Outcome::Approved(_) | Outcome::Vacant => {}
            Outcome::Denied(record) => {
                self.door.send(report(record, record.at, clock.stamp(), ReportState::Denied));
            }
        }
    }

    fn answers(&mut self) {
        let Some(due) = self.venue.next_due() else { return };
        let clock = &self.door.clock;
        let recv = clock.stamp();
        let now = clock.wall(recv);
        if due <= now {
            let Self { venue, door, .. } = self;
            venue.advance(now, &mut |event: Event| door.send(Event { recv, ..event }));
        }
    }
}

async fn journal(
    mut inputs: broadcast::Receiver<Input>,
    mut noted: mpsc::Receiver<Noted>,
    mut writer: Writer,
) -> Writer {
    loop {
        let written = tokio::select! {
            biased;
            input = next(&mut inputs) => {
                let Some(Input { event, .. }) = input else { return writer };
                let frame = frames::event(&event);
                let head = (frame.ts, frame.kind, frame.schema, 0);
                writer.append_fixed(head, &frame.ext, &frame.payload)
            }
            note = noted.recv() => {
                let Some(Noted { record, strategy_at, risk_at }) = note else { return writer };
                let frame = frames::decision(&record, strategy_at, risk_at);
                let head = (frame.ts, frame.kind, frame.schema, 0);
                writer.append_fixed(head, &frame.ext, &frame.payload)
            }
        };
        // Without a segment the frame is lost: this journal gates nothing.
        let _kept = written.is_ok();
    }
}
