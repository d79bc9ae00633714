//! One run of the engine, from a checked configuration to a sealed journal.
//!
//! What the configuration, the feeds or the strategies get wrong is refused before the journal is
//! touched; everything that is slow happens before the seats start or after they have stopped.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use kairos_edge::config::{self as edge_config, Config, Profile};
use kairos_edge::frames::{EndReason, RunEnd};
use kairos_edge::stats::StatsError;
use kairos_journal::{Class, Faults, Shared, Status};
use kairos_logic::event::{Event, News, Verb};
use kairos_logic::strategy::Registry;
use kairos_logic::units::Nanos;

use crate::assemble::{self, AssembleError};
use crate::clock::Clock;
use crate::feeds::{self, FeedError, Feeds};
use crate::journaling::{Keeping, take_journal};
use crate::meter::Meters;
pub use crate::operator::Signals;
use crate::operator::{LagPolicy, RESUME_ALL};
use crate::page::{FeedNames, Page};
use crate::pin::{self, LockError, PinError};
use crate::seat::{ThreadPlan, Wait};
use crate::seats::execution::Time;
use crate::seats::feed::Broken;
use crate::seats::journal::{Ending, LastWords};
use crate::start::{self, SeatThread};
use crate::watch::{End, Health, Seen, Watch};
use crate::wiring::{self, CpuMap, Gate, Parts};

/// Why a run did not start, or did not end as it should.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The strategies, or an instrument, are not what the configuration says.
    #[error(transparent)]
    Assemble(#[from] AssembleError),
    /// A feed cannot be opened, or its capture cannot be read to the end.
    #[error(transparent)]
    Feed(#[from] FeedError),
    /// The journal cannot be taken, or takes no more.
    #[error(transparent)]
    Journal(#[from] kairos_journal::Error),
    /// The journal takes no more frames.
    #[error("journal {dir}: {reason}; {resting}; {kept}", dir = .dir.display())]
    JournalFailed {
        /// The directory.
        dir: PathBuf,
        /// What the journal says.
        reason: String,
        /// What became of resting orders.
        resting: &'static str,
        /// What became of the journal.
        kept: String,
    },
    /// A seat is not where it should be.
    #[error("host refused: {0}")]
    Pin(#[from] PinError),
    /// Another engine of this name lives, or production has no place for the page.
    #[error(transparent)]
    Page(#[from] StatsError),
    /// Production demands locked memory.
    #[error("host refused: {0}")]
    Lock(#[from] LockError),
    /// Orders were still open when the time for an orderly stop was over.
    #[error(
        "orderly stop: orders were still open after {0:?}; the journal is complete, look at the venue"
    )]
    Overdue(Duration),
}

impl RunError {
    /// The process's exit status.
    #[must_use]
    pub fn status(&self) -> u8 {
        match self {
            Self::Assemble(_) | Self::Pin(_) | Self::Lock(_) => 78,
            Self::Feed(error) => error.status(),
            Self::Journal(error) => match error.class() {
                Class::Damaged => 2,
                Class::Unavailable => 1,
                Class::Configuration => 78,
            },
            Self::JournalFailed { .. } | Self::Page(_) => 1,
            Self::Overdue(_) => 70,
        }
    }
}

/// How long an orderly stop may take in wall time: an order's way to a venue and back, many times.
const STOP_WITHIN: Duration = Duration::from_secs(10);

/// What a finished run leaves to be told; the rest stands in its journal.
#[derive(Debug)]
pub struct Finished {
    /// The journal's directory.
    pub journal: PathBuf,
    /// Number of the run.
    pub run: u64,
    /// First sequence of the run.
    pub first_seq: u64,
    /// What is worth knowing and did not stop the run.
    pub warnings: Vec<String>,
}

/// How a run tells of itself while it runs.
pub trait Audience {
    /// Called before the first thread starts.
    fn meters(&mut self, _meters: &Arc<Meters>) {}
    /// The run is about to start: threads and where they run.
    fn started(&mut self, _run: u64, _threads: &[SeatThread], _warnings: &[String]) {}
    /// Something an operator should see happened; told once each time it begins.
    fn alarm(&mut self, _what: &str) {}
    /// Called some hundred times a second with the counters.
    fn progress(&mut self, _meters: &Meters) {}
}

/// Nobody listens.
pub struct Nobody;
impl Audience for Nobody {}

/// Runs the engine until `signals` say stop or its captures end, and closes the journal.
///
/// # Errors
/// [`RunError`]. After an error that comes while running the journal holds everything up to it.
pub fn run(
    config: &Config,
    registry: &Registry,
    signals: &Signals,
    audience: &mut dyn Audience,
) -> Result<Finished, RunError> {
    run_on(Faults::default(), config, registry, signals, audience)
}

/// As [`run`], on a disk that fails as a test wants it to.
///
/// # Errors
/// As [`run`].
pub fn run_on(
    disk: Faults,
    config: &Config,
    registry: &Registry,
    signals: &Signals,
    audience: &mut dyn Audience,
) -> Result<Finished, RunError> {
    let clock = Clock::new();
    let mut prepared = feeds::prepare(config)?;
    let table = prepared.table.clone();
    assemble::mind(config, &table, registry, 0)?;
    let mut warnings = std::mem::take(&mut prepared.warnings);
    lock_memory(config, &mut warnings)?;
    let _mask = Confined::to(&config.cores.housekeeping, &mut warnings);

    let mut taken = take_journal(config, disk, &table, &clock)?;
    if signals.resume && !taken.inherited.is_empty() {
        taken.inherited.push(Event::command(Nanos(0), Verb::Resume, RESUME_ALL));
    }
    warnings.extend(taken.warnings);
    if let (Some(state), false) = (taken.inherited.first(), signals.resume) {
        warnings.push(format!(
            "an earlier run of this journal left trading at {}: entries are denied until a run is \
             started with --resume",
            inherited_state(state)
        ));
    }
    let (run, first_seq) = (taken.run, taken.first_seq);
    let mind = assemble::mind(config, &table, registry, run)?;
    let keeping = Keeping::start(taken.keeper);

    let meters = Meters::new(&prepared.connections_of_seats());
    audience.meters(&meters);
    let broken = Broken::new(table.instruments.len());
    let ending: Ending = Arc::default();
    let virtual_time = prepared.virtual_time;
    let fault = Arc::clone(&prepared.fault);
    let shared = taken.writer.shared();
    let cpus = cpu_map(config, &prepared);
    let feed_names = prepared.names.clone();
    let time =
        if virtual_time { Time::Virtual(Arc::clone(&meters)) } else { Time::Wall(clock.clone()) };
    let lockstep = virtual_time && cpus.is_fused();
    let (desk, risk) = mind.into_parts();
    let parts = Parts {
        feeds: prepared.into_parts(lockstep, taken.inherited, &clock, &broken, &meters),
        desk,
        risk,
        broken,
        venue: feeds::paper_venue(config, &table),
        table: table.clone(),
        writer: taken.writer,
        ending: Arc::clone(&ending),
        time,
        clock: clock.clone(),
    };
    let plans = wiring::wire(parts, &cpus, gate(config), config.engine.ring_slots, &meters);
    let page = Page::create(config, seat_places(&plans), &feed_names, run, &clock, &mut warnings)?;
    let threads = start::start(plans, wait(config), &meters)?;
    audience.started(run, &threads, &warnings);

    let watch = Watch {
        threads: &threads,
        meters: &meters,
        stop_signal: Arc::clone(&signals.stop),
        stop_within: (!virtual_time).then_some(STOP_WITHIN),
        clock: &clock,
    };
    let mut lag = LagPolicy::of(config);
    let mut told = false;
    let look = |seen: &[Seen]| {
        if signals.kill.swap(false, Ordering::AcqRel) {
            meters.want(Verb::Kill);
        }
        lag.look(&shared, &meters, audience);
        if let (Status::Failed(failure), false) = (shared.status(), told) {
            told = true;
            audience.alarm(&format!("journal: {}; trading halts", failure.message));
        }
        page.mirror(&meters, seen, &threads, (&shared, lag.activations));
        audience.progress(&meters);
    };
    // What can no longer become durable can no longer be sent through a gate that waits for it.
    let gone = || shared.is_lost() && gate(config) == Gate::Durable;
    let health = || match (shared.has_failed(), gone()) {
        (false, _) => Health::Well,
        (true, false) => Health::Ending,
        (true, true) => Health::Gone,
    };
    let end = watch.until_over(look, health);
    if end != End::JournalFailed {
        let captured = virtual_time && fault.get().is_none();
        let words = RunEnd { run, reason: reason(&meters, end, captured), ..last_words(&meters) };
        let _first = ending.set(LastWords { at: clock.stamp(), payload: words.payload() });
    }
    meters.over.store(true, Ordering::Release);
    threads.into_iter().for_each(SeatThread::join);
    tell_unknown(&feed_names, &meters, audience);
    let kept = keeping.finish();
    match end {
        End::Halted | End::JournalFailed => {
            let halted = end == End::Halted;
            return Err(journal_failed(config, &shared, halted));
        }
        End::Overdue => return Err(RunError::Overdue(STOP_WITHIN)),
        // Everything was said and done, only not all of it is on the disk.
        End::Settled if shared.is_lost() => {
            return Err(journal_failed(config, &shared, true));
        }
        End::Settled => kept?,
    }
    match fault.get() {
        Some(error) => Err(FeedError::from(error).into()),
        None => Ok(Finished { journal: config.journal.dir.clone(), run, first_seq, warnings }),
    }
}

/// Frames that a venue sent, or a capture holds, of instruments that are not configured.
fn tell_unknown(feeds: &[FeedNames], meters: &Meters, audience: &mut dyn Audience) {
    let connections = feeds.iter().flat_map(|it| &it.connections);
    let counted = meters.feeds.iter().flat_map(|it| &it.venues).map(|it| it.unknown.get());
    for (name, count) in connections.zip(counted).filter(|(_, count)| *count > 0) {
        let venue = name.split('.').next().unwrap_or(name);
        audience.alarm(&format!(
            "{name}: {count} frames are about instruments that venues.{venue}.instruments does not name"
        ));
    }
}

fn inherited_state(command: &Event) -> &'static str {
    if let News::Command { verb, .. } = command.news() { verb.text() } else { "an unknown state" }
}

/// Where each seat is: its name, its thread's place, its place in the thread.
fn seat_places(plans: &[ThreadPlan]) -> Vec<(String, usize, usize)> {
    let mut places = Vec::new();
    for (thread, plan) in plans.iter().enumerate() {
        for (inside, name) in plan.seats.iter().enumerate() {
            places.push((name.clone(), thread, inside));
        }
    }
    places
}

/// `captured` where captures were read without a fault.
fn reason(meters: &Meters, end: End, captured: bool) -> EndReason {
    match end {
        End::Settled if meters.stop.load(Ordering::Relaxed) => EndReason::Stopped,
        End::Settled if captured => EndReason::EndOfCapture,
        End::Settled => EndReason::Fault,
        End::Overdue | End::Halted | End::JournalFailed => EndReason::Fault,
    }
}

/// What the counters say at the end; orders and fills are counted by whoever reads the journal.
fn last_words(meters: &Meters) -> RunEnd {
    RunEnd {
        events: meters.in_published(),
        decisions: meters.orders_published.get(),
        ..RunEnd::default()
    }
}

/// `halted` where there was still room to halt and to cancel.
fn journal_failed(config: &Config, journal: &Shared, halted: bool) -> RunError {
    let reason = match journal.status() {
        Status::Failed(failure) => failure.message,
        Status::Running => "an append found no room".to_owned(),
    };
    let resting = if halted {
        "trading was halted and resting orders were cancelled"
    } else {
        "the engine stopped where it stood: orders may rest at the venue"
    };
    let kept = if journal.is_lost() {
        format!("what was journaled after seq {} may not be on the disk", journal.durable_seq())
    } else {
        "everything journaled is kept".to_owned()
    };
    RunError::JournalFailed { dir: config.journal.dir.clone(), reason, resting, kept }
}

fn lock_memory(config: &Config, warnings: &mut Vec<String>) -> Result<(), LockError> {
    match (pin::lock_memory(), config.engine.profile) {
        (Ok(()), _) => Ok(()),
        (Err(error), Profile::Production) => Err(error),
        (Err(error), Profile::Development) => {
            warnings.push(error.to_string());
            Ok(())
        }
    }
}

/// Keeps this thread, and the helper threads that inherit its mask, off the CPUs of the seats; gives
/// the caller its mask back at the end.
struct Confined(Option<Vec<u16>>);

impl Confined {
    fn to(housekeeping: &[u16], warnings: &mut Vec<String>) -> Self {
        if housekeeping.is_empty() {
            return Self(None);
        }
        let before = pin::affinity_of(0).ok();
        match pin::confine_current(housekeeping) {
            Ok(()) => Self(before),
            Err(error) => {
                warnings.push(format!("cores.housekeeping = {housekeeping:?}: {error}"));
                Self(None)
            }
        }
    }
}

impl Drop for Confined {
    fn drop(&mut self) {
        if let Some(before) = &self.0 {
            // The mask was in force a moment ago; where it no longer is, this one stays.
            let _restored = pin::confine_current(before);
        }
    }
}

fn gate(config: &Config) -> Gate {
    match config.journal.gate {
        edge_config::Gate::Committed => Gate::Committed,
        edge_config::Gate::Durable => Gate::Durable,
        edge_config::Gate::Off => Gate::None,
    }
}

fn wait(config: &Config) -> Wait {
    match config.cores.wait {
        edge_config::Wait::Spin => Wait::Spin,
        edge_config::Wait::Yield => Wait::Yield,
        edge_config::Wait::Park => Wait::Park,
    }
}

/// The CPU of each seat; a capture has one feed for all venues, on the CPU of the first.
fn cpu_map(config: &Config, feeds: &Feeds) -> CpuMap {
    use kairos_edge::config::Seat;

    // Every seat is in the list: the configuration gave each a CPU or refused.
    let cpu = |seat: &Seat| config.cores.cpu(seat).unwrap_or_default();
    CpuMap {
        feeds: feeds.names.iter().map(|it| cpu(&Seat::Feed(it.venue().to_owned()))).collect(),
        strategy: cpu(&Seat::Strategy),
        risk: cpu(&Seat::Risk),
        execution: cpu(&Seat::Execution),
        journal: cpu(&Seat::Journal),
    }
}
