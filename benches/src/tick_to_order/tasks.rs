//! The same work as tasks behind channels, in two styles.
//!
//! One `broadcast` channel carries every input to whoever wants it: strategy, risk, execution and
//! journal. Three `mpsc` hops carry an order: from strategy to risk, from risk to the journal, and
//! from there to execution. So an order's text is written when its cause and its decision are in the
//! journal, as the gate `committed` has it in every other build: tasks that let an order pass the
//! journal by would do less. Nothing is boxed, locked or slept on by this code; the strategy, risk,
//! and the venue are those of the other builds.
//!
//! * **ordinary**: as such programs are commonly written, and as the reference build of the
//!   performance requirements was. A frame arrives as an owned buffer at a reader task, as from a
//!   socket's task, and becomes owned values by `serde_json`; a journal frame is a buffer of its own,
//!   and a decision is one `write` of all frames since the one before; an order's text is what
//!   `serde_json` makes of owned values. What such programs also do is left out in their favour:
//!   strings inside of broadcast messages, a `write` for each frame (half a dozen a tick, which would
//!   saturate the worker at 100 000/s), a `tokio::fs` file (each write of it wakes a thread), logs.
//! * **lean**: everything of ours that a task can use. The pinned thread itself decodes, by the
//!   session and its scanner; messages are small copies; frames go into the mapped journal; the
//!   encoder has its fixed text ready. It allocates nothing. What is left over the engine's time is
//!   the price of tasks and wake-ups.
//!
//! Risk and the journal prefer inputs to what follows from them (`biased`): that is no tuning, both
//! must know the cause first. Latency is taken by execution, into memory that stands ready.

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use kairos_adapters::binance::BinanceMarket;
use kairos_adapters::binance::orders::{MESSAGE_MAX, OrderEncoder};
use kairos_adapters::session::{Arrival, MarketSession, Outbox};
use kairos_adapters::sim::paper::PaperVenue;
use kairos_edge::frames::{self, Fixed};
use kairos_engine::clock::Clock;
use kairos_engine::pin;
use kairos_journal::Writer;
use kairos_logic::desk::Desk;
use kairos_logic::event::{Event, Kind, ReportState, Verb};
use kairos_logic::instrument::InstrumentTable;
use kairos_logic::order::{Action, Decision, Intents, Proposal};
use kairos_logic::risk::{Outcome, Risk};
use kairos_logic::units::{Seq, Stamp};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::broadcast::{self, error::RecvError};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::owned::{self, Owned};
use super::rig::{self, Load, Received, Rig, Run, Schedule, nanos};
use super::straight::{per_tick, report, since};
use crate::{Trouble, alloc, journaling, threads};

/// Room in every channel: as much as IN has.
const ROOM: usize = 1 << 16;
/// Nothing has moved for so long: nothing will.
const PATIENCE: Duration = Duration::from_millis(300);

/// Where the tasks run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Workers {
    /// On one worker that has the other CPU to itself: the layout of the split engine.
    OnePinned,
    /// On two workers that may go anywhere, as a runtime starts by default on two CPUs. Under the
    /// common scheduler, and the reader too: a worker could stand behind a real-time reader for ever.
    TwoFree,
}

/// How it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Style {
    /// As usual.
    Ordinary,
    /// With everything of ours.
    Lean,
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

/// A decision on its way to the journal.
#[derive(Debug)]
struct Judged {
    outcome: Outcome,
    strategy_at: Stamp,
    risk_at: Stamp,
    recv: Stamp,
}

/// A decision that is in the journal, on its way to execution.
#[derive(Debug)]
struct Decided {
    outcome: Outcome,
    recv: Stamp,
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
pub(super) fn run(
    rig: &Rig,
    load: &Arc<Load>,
    style: Style,
    workers: Workers,
) -> Result<Run, Trouble> {
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
    let (decisions, judged) = mpsc::channel(ROOM);
    let (committed, decided) = mpsc::channel(ROOM);
    let (clock, listen) = (&rig.clock, || door.inputs.subscribe());
    runtime.spawn(strategy(listen(), wishes, desk, clock.clone()));
    runtime.spawn(judge(listen(), wished, decisions, risk, clock.clone()));
    let hands = Hands {
        venue: rig::venue(&table),
        wire: Wire::new(style, &table),
        door: door.clone(),
        latencies: Vec::with_capacity(load.messages.len()),
        seen: Arc::clone(&seen),
    };
    let execution = runtime.spawn(execution(listen(), decided, hands));
    let paper = match style {
        Style::Ordinary => Paper::file(dir.path(), writer)?,
        Style::Lean => Paper::Mapped(writer),
    };
    let journal = runtime.spawn(journal(listen(), judged, committed, paper));
    let mut mouth = match style {
        Style::Ordinary => {
            let (frames, arrived) = mpsc::channel(ROOM);
            runtime.spawn(reader(arrived, door.clone()));
            Mouth::Frames(frames)
        }
        Style::Lean => Mouth::Session(Box::new(rig::session(&table)?), Outbox::new()),
    };
    let played = play(rig, load, workers, (&door, &mut mouth), &seen)?;
    drop(mouth);
    door.send(Event::command(rig.clock.wall(rig.clock.stamp()), Verb::Stop, 0));
    drop(door);
    let latencies = finished(&runtime, execution)?;
    let writer = finished(&runtime, journal)?.into_writer();
    runtime.shutdown_background();
    keeping.finish(Some(writer), &rig.clock)?;
    let from = played.from.0;
    let counted = latencies.iter().filter(|it| it.0.0 >= from);
    let latencies = counted.map(|&(recv, sent)| nanos(rig.clock.nanos_between(recv, sent)));
    let allocs_per_tick = per_tick(played.allocs, load);
    Ok(Run { latencies: latencies.collect(), spans: Default::default(), allocs_per_tick })
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

/// Where the pinned thread puts a frame.
enum Mouth {
    /// Into the session, here and now.
    Session(Box<BinanceMarket>, Outbox),
    /// To the reader task.
    Frames(mpsc::Sender<(Arrival, Vec<u8>)>),
}

impl Mouth {
    fn frame(&mut self, arrival: Arrival, frame: &[u8], door: &Door) {
        match self {
            Self::Session(session, out) => {
                session.on_frame(arrival, frame, out, &mut |event| door.send(event));
                out.clear();
            }
            // Without a reader everything is over.
            Self::Frames(frames) => drop(frames.blocking_send((arrival, frame.to_vec()))),
        }
    }
}

/// The thread at the wire: waits until the snapshot is through, and plays the frames.
fn play(
    rig: &Rig,
    load: &Load,
    workers: Workers,
    (door, mouth): (&Door, &mut Mouth),
    seen: &Seen,
) -> Result<Played, Trouble> {
    let mut opening = Box::new(rig::session(&rig::table())?);
    let mut out = Outbox::new();
    Ok(threads::on(rig.hot, || {
        let clock = &rig.clock;
        let recv = clock.stamp();
        let opened = (clock.wall(recv), recv);
        let session = match mouth {
            Mouth::Session(session, _) => session,
            Mouth::Frames(_) => &mut opening,
        };
        rig::open(&mut **session, load, opened, &mut out, &mut |event| door.send(event));
        wait_while(|| door.inputs.len() as u64);
        if workers == Workers::OnePinned {
            threads::raise(0);
        }
        let mut received = Received::new(load);
        let schedule = Schedule::new(clock, load);
        let mut allocs = 0;
        for number in 0..load.messages.len() {
            if number == load.warm_up {
                allocs = alloc::of_all_threads();
            }
            let (recv, frame) = (schedule.due(number), received.frame(load, number));
            while clock.stamp() < recv {}
            let arrival = Arrival { at: clock.wall(recv), recv, number: number as u64 };
            mouth.frame(arrival, frame, door);
        }
        allocs = alloc::of_all_threads() - allocs;
        // Overloaded, not every frame leads to an order.
        let all = load.messages.len() as u64;
        wait_while(|| all.saturating_sub(seen.orders.load(Ordering::Acquire)));
        Played { from: schedule.measured_from(), allocs }
    }))
}

/// Waits until nothing is left, or until nothing has moved for a while.
fn wait_while(left: impl Fn() -> u64) {
    let (mut before, mut moved) = (u64::MAX, Instant::now());
    loop {
        let now = left();
        if now != before {
            (before, moved) = (now, Instant::now());
        }
        if now == 0 || moved.elapsed() > PATIENCE {
            return;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// The reader task of the ordinary style.
async fn reader(mut arrived: mpsc::Receiver<(Arrival, Vec<u8>)>, door: Door) {
    while let Some((arrival, frame)) = arrived.recv().await {
        // The load holds no frame that cannot be read; one would lead to no order, and be counted.
        if let Some(message) = Owned::read(&frame) {
            message.events(arrival, &mut |event| door.send(event));
        }
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
    decisions: mpsc::Sender<Judged>,
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
            let judged = Judged { outcome, strategy_at, risk_at, recv };
            if decisions.send(judged).await.is_err() {
                return;
            }
        }
    }
}

/// What execution works with.
struct Hands {
    venue: PaperVenue,
    wire: Wire,
    door: Door,
    /// Arrival of the cause, and when the order's text stood.
    latencies: Vec<(Stamp, Stamp)>,
    seen: Arc<Seen>,
}

/// The text of orders.
enum Wire {
    /// A text of its own for each.
    Owned(InstrumentTable, String),
    /// By the engine's encoder, into one buffer.
    Fixed(OrderEncoder, Box<[u8; MESSAGE_MAX]>),
}

impl Wire {
    fn new(style: Style, table: &InstrumentTable) -> Self {
        match style {
            Style::Ordinary => Self::Owned(table.clone(), String::new()),
            Style::Lean => {
                Self::Fixed(OrderEncoder::new(table, rig::VENUE), Box::new([0; MESSAGE_MAX]))
            }
        }
    }

    fn write(&mut self, record: &Decision) {
        match self {
            Self::Owned(table, text) => {
                let written = owned::order_text(table, record);
                *text = written.expect("a limit order of a known instrument");
            }
            Self::Fixed(encoder, text) => {
                let encoded = encoder.encode(record, record.at, &mut **text);
                assert!(encoded.is_ok(), "{encoded:?}");
            }
        }
    }
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
            Outcome::Approved(order) if record.action.is_of_order() => {
                self.wire.write(record);
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

/// What the journal task writes on.
enum Paper {
    /// The engine's own journal.
    Mapped(Writer),
    /// A file; the engine's journal lies beside it and stays empty.
    File(BufWriter<File>, Writer),
}

impl Paper {
    fn file(dir: &Path, writer: Writer) -> Result<Self, Trouble> {
        let file = File::create(dir.join("frames"));
        let file = file.map_err(|error| Trouble::new("file of frames", error))?;
        Ok(Self::File(BufWriter::with_capacity(1 << 16, file), writer))
    }

    fn into_writer(self) -> Writer {
        match self {
            Self::Mapped(writer) | Self::File(_, writer) => writer,
        }
    }

    /// What was written survives this process from here on.
    fn commit(&mut self) {
        match self {
            Self::Mapped(_) => {} // each frame is committed when it is written
            Self::File(file, _) => {
                let _kept = file.flush().is_ok();
            }
        }
    }

    /// Without room the frame is lost; there is always room for a run.
    fn write<const WORDS: usize, const BYTES: usize>(&mut self, frame: &Fixed<WORDS, BYTES>) {
        match self {
            Self::Mapped(writer) => {
                let head = (frame.ts, frame.kind, frame.schema, 0);
                let _kept = writer.append_fixed(head, &frame.ext, &frame.payload).is_ok();
            }
            Self::File(file, _) => {
                let mut bytes = Vec::with_capacity(24 + WORDS * 8 + BYTES);
                bytes.extend_from_slice(&frame.ts.to_le_bytes());
                bytes.extend_from_slice(&frame.kind.to_le_bytes());
                frame.ext.iter().for_each(|it| bytes.extend_from_slice(&it.to_le_bytes()));
                bytes.extend_from_slice(&frame.payload);
                let sum = kairos_journal::crc32c(&bytes);
                bytes.extend_from_slice(&sum.to_le_bytes());
                let _kept = file.write_all(&bytes).is_ok();
            }
        }
    }
}

async fn journal(
    mut inputs: broadcast::Receiver<Input>,
    mut judged: mpsc::Receiver<Judged>,
    committed: mpsc::Sender<Decided>,
    mut paper: Paper,
) -> Paper {
    let mut next_seq = 0;
    loop {
        tokio::select! {
            biased;
            input = next(&mut inputs) => match input {
                Some(Input { seq, event }) => {
                    paper.write(&frames::event(&event));
                    next_seq = seq.0 + 1;
                }
                None => return paper,
            },
            it = judged.recv() => {
                let Some(Judged { outcome, strategy_at, risk_at, recv }) = it else { return paper };
                let Some(record) = outcome.record() else { continue };
                // Its cause first. Risk has seen it, so it is on its way.
                while next_seq <= record.cause.0 {
                    let Some(Input { seq, event }) = next(&mut inputs).await else { return paper };
                    paper.write(&frames::event(&event));
                    next_seq = seq.0 + 1;
                }
                paper.write(&frames::decision(record, strategy_at, risk_at));
                paper.commit();
                if committed.send(Decided { outcome, recv }).await.is_err() {
                    return paper;
                }
            }
        }
    }
}
