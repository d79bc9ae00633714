//! One run of the engine, from a checked configuration to a sealed journal.
//!
//! Everything that can be refused is refused before the journal is touched; everything that is slow
//! happens before the seats start or after they have stopped.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use kairos_edge::config::{self as edge_config, Config, LagAction, Profile, Strategy};
use kairos_edge::frames::{self, Cold, EndReason, RunEnd};
use kairos_edge::stats::StatsError;
use kairos_journal::{Class, Frame, Journal, Keeper, RunFacts, Status, Verdict, Writer};
use kairos_logic::event::{Event, Verb};
use kairos_logic::instrument::InstrumentTable;
use kairos_logic::strategy::Registry;
use kairos_logic::units::Nanos;

use crate::assemble::{self, AssembleError};
use crate::build::BuildId;
use crate::clock::Clock;
use crate::feeds::{self, FeedError, Feeds};
use crate::fold;
use crate::meter::Meters;
use crate::page::Page;
use crate::pin::{self, LockError, PinError};
use crate::seat::{ThreadPlan, Wait};
use crate::seats::execution::Time;
use crate::seats::feed::Broken;
use crate::seats::journal::{Ending, LastWords};
use crate::start::{self, SeatThread};
use crate::watch::{End, Watch};
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
    #[error("journal {dir}: {reason}; the engine stopped, everything journaled is kept", dir = .dir.display())]
    JournalFailed {
        /// The directory.
        dir: PathBuf,
        /// What the journal says.
        reason: String,
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
    let clock = Clock::new();
    let mut prepared = feeds::prepare(config)?;
    let table = prepared.table.clone();
    assemble::mind(config, &table, registry, 0)?;
    let mut warnings = std::mem::take(&mut prepared.warnings);
    lock_memory(config, &mut warnings)?;
    let _mask = Confined::to(&config.cores.housekeeping, &mut warnings);

    let mut taken = take_journal(config, &table, &clock)?;
    if signals.resume && !taken.inherited.is_empty() {
        taken.inherited.push(Event::command(Nanos(0), Verb::Resume, RESUME_ALL));
    }
    warnings.extend(taken.warnings);
    let (run, first_seq) = (taken.run, taken.first_seq);
    let mind = assemble::mind(config, &table, registry, run)?;
    let keeping = Keeping::start(taken.keeper);

    let meters = Meters::new(&prepared.venues_of_seats);
    audience.meters(&meters);
    let broken = Broken::new(table.instruments.len());
    let ending: Ending = Arc::default();
    let virtual_time = prepared.virtual_time;
    let fault = Arc::clone(&prepared.fault);
    let shared = taken.writer.shared();
    let cpus = cpu_map(config, &prepared);
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
    let page = Page::create(config, seat_places(&plans), run, &clock, &mut warnings)?;
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
    let end = watch.until_over(
        |seen| {
            if signals.kill.swap(false, Ordering::AcqRel) {
                meters.want(Verb::Kill);
            }
            lag.judge(shared.durable_lag_ns(), &meters, audience);
            page.mirror(&meters, seen, &threads, &shared);

            audience.progress(&meters);
        },
        || shared.has_failed(),
    );
    if end == End::Settled || end == End::Overdue {
        let words = RunEnd {
            run,
            reason: reason(&meters, end, virtual_time && fault.get().is_none()),
            ..last_words(&meters)
        };
        let _first = ending.set(LastWords { at: clock.stamp(), payload: words.payload() });
    }
    meters.over.store(true, Ordering::Release);
    threads.into_iter().for_each(SeatThread::join);
    let kept = keeping.finish();
    match end {
        End::JournalFailed => Err(journal_failed(config, &shared.status())),
        End::Overdue => Err(RunError::Overdue(STOP_WITHIN)),
        End::Settled => {
            kept?;
            if let Some(error) = fault.get() {
                return Err(FeedError::from(error).into());
            }
            Ok(Finished { journal: config.journal.dir.clone(), run, first_seq, warnings })
        }
    }
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
        End::Overdue | End::JournalFailed => EndReason::Fault,
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

fn journal_failed(config: &Config, status: &Status) -> RunError {
    let reason = match status {
        Status::Failed(failure) => failure.message.clone(),
        Status::Running => "an append found no room".to_owned(),
    };
    RunError::JournalFailed { dir: config.journal.dir.clone(), reason }
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

/// A journal that is ours, with what the engine must know before it starts.
struct Taken {
    writer: Writer,
    keeper: Keeper,
    run: u64,
    first_seq: u64,
    warnings: Vec<String>,
    inherited: Vec<Event>,
}

fn take_journal(
    config: &Config,
    table: &InstrumentTable,
    clock: &Clock,
) -> Result<Taken, kairos_journal::Error> {
    let build = BuildId::of_this_binary();
    let canonical = config.canonical_toml();
    let stamp = clock.stamp();
    let strategies: Vec<&str> = config.strategies.iter().map(|it| it.kind.as_str()).collect();
    let facts = RunFacts {
        tsc_hz: clock.ticks_per_second(),
        tsc: stamp.0,
        wall_ns: clock.wall(stamp).0,
        seed: config.engine.seed,
        config_hash: *blake3::hash(canonical.as_bytes()).as_bytes(),
        binary_hash: binary_hash(),
        lock_hash: build.lock,
        registry_hash: registry_hash(),
        notes: serde_json::json!({
            "build": build.text(),
            "engine": config.engine.name,
            "gate": config.journal.gate.text(),
            "strategies": strategies,
        }),
    };
    let (mut writer, keeper, opened) =
        kairos_journal::create(&config.journal.dir, &journal_options(config), facts)?;
    let inherited = fold::inherited(&Journal::open(&config.journal.dir)?)?;
    for cold in cold_records(config, canonical, table) {
        for payload in cold.payloads() {
            let (ts, kind, schema) = (stamp.0, cold.kind(), frames::SCHEMA);
            let frame = Frame { ts, kind, schema, lane: 0, ext: &[], payload: &payload };
            writer.append(&frame).map_err(|error| kairos_journal::Error::NotEnded {
                dir: config.journal.dir.clone(),
                reason: error.to_string(),
            })?;
        }
    }
    let mut warnings = opened.warnings;
    let recovery = &opened.recovery;
    if !matches!(recovery.verdict, Verdict::Empty | Verdict::Clean) {
        warnings.push(format!("run {} did not end properly: {}", recovery.run, recovery.reason));
    }
    Ok(Taken { writer, keeper, run: opened.run, first_seq: opened.first_seq, warnings, inherited })
}

/// What a run writes down before its first input: enough to repeat it.
fn cold_records(config: &Config, canonical: String, table: &InstrumentTable) -> [Cold; 3] {
    let name = |it: &Strategy| frames::StrategyName { name: it.id.clone(), kind: it.kind.clone() };
    [
        Cold::Config(canonical),
        Cold::Instruments(table.clone()),
        Cold::Strategies(config.strategies.iter().map(name).collect()),
    ]
}

/// Digest of the running program, or zeros where it cannot be read.
fn binary_hash() -> [u8; 32] {
    let program = std::env::current_exe().and_then(std::fs::read);
    program.map_or([0; 32], |bytes| *blake3::hash(&bytes).as_bytes())
}

/// Digest of the frame kinds that this build writes, with their versions.
fn registry_hash() -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    for kind in 0..=u16::MAX {
        if let Some(name) = frames::kind_name(kind) {
            hasher.update(&kind.to_le_bytes()).update(name.as_bytes());
        }
    }
    *hasher.update(&frames::SCHEMA.to_le_bytes()).finalize().as_bytes()
}

fn journal_options(config: &Config) -> kairos_journal::Options {
    let journal = &config.journal;
    kairos_journal::Options {
        segment_bytes: journal.segment_bytes,
        ready_min: journal.ready_min,
        flush_interval_ms: journal.flush_interval_ms,
        flush_bytes: journal.flush_bytes,
        prefault_ahead: journal.prefault_ahead,
        frame_max: journal.frame_max,
        not_ready_spin_us: journal.not_ready_spin_us,
        not_ready: match journal.not_ready {
            edge_config::NotReady::Halt => kairos_journal::NotReady::Halt,
            edge_config::NotReady::Block => kairos_journal::NotReady::Block,
        },
        recover: match journal.recover {
            edge_config::RecoverMode::Absolute => kairos_journal::Mode::Absolute,
            edge_config::RecoverMode::TolerateTornTail => kairos_journal::Mode::TolerateTornTail,
            edge_config::RecoverMode::PointInTime => kairos_journal::Mode::PointInTime,
        },
        accept_loss: journal.accept_loss,
        strict: config.engine.profile == Profile::Production,
        ..kairos_journal::Options::default()
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
        feeds: feeds.seats.iter().map(|venue| cpu(&Seat::Feed(venue.clone()))).collect(),
        strategy: cpu(&Seat::Strategy),
        risk: cpu(&Seat::Risk),
        execution: cpu(&Seat::Execution),
        journal: cpu(&Seat::Journal),
    }
}

/// How often the keeper is turned.
const KEEPER_EVERY: Duration = Duration::from_millis(1);

/// The helper thread that prepares, flushes and seals segments.
struct Keeping {
    stop: Arc<AtomicBool>,
    keeper: JoinHandle<Keeper>,
}

impl Keeping {
    fn start(mut keeper: Keeper) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&stop);
        let turn = move || {
            while !seen.load(Ordering::Acquire) {
                if keeper.turn() != kairos_journal::Turn::Worked {
                    rest();
                }
            }
            keeper
        };
        let keeper = thread::Builder::new()
            .name("ctl-keeper".into())
            .spawn(turn)
            .expect("the host can start one more thread");
        Self { stop, keeper }
    }

    fn finish(self) -> Result<(), kairos_journal::Error> {
        self.stop.store(true, Ordering::Release);
        let keeper = self.keeper.join().expect("a panic in the keeper ends the process");
        keeper.finish()
    }
}

#[expect(clippy::disallowed_methods, reason = "the keeper is a helper thread; nobody waits for it")]
fn rest() {
    thread::sleep(KEEPER_EVERY);
}

/// What the operator may ask for by signals.
#[derive(Clone, Debug, Default)]
pub struct Signals {
    /// An orderly stop: SIGINT, SIGTERM.
    pub stop: Arc<AtomicBool>,
    /// The kill switch: SIGUSR2. Nothing leaves any more; only an operator clears it.
    pub kill: Arc<AtomicBool>,
    /// Resume at the start: what an earlier run left halted, reducing or killed runs again. Journaled
    /// like any command.
    pub resume: bool,
}

/// Argument of a resume at the start: clears the kill switch, and takes the equity of now as peak.
const RESUME_ALL: i64 = 3;

impl Signals {
    /// Listens to the process's signals. A second SIGINT or SIGTERM ends the process at once.
    ///
    /// # Errors
    /// Where the host refuses signal handlers.
    pub fn of_process() -> std::io::Result<Self> {
        let signals = Self::default();
        for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
            let stop = Arc::clone(&signals.stop);
            signal_hook::flag::register_conditional_shutdown(signal, 1, stop)?;
            signal_hook::flag::register(signal, Arc::clone(&signals.stop))?;
        }
        signal_hook::flag::register(signal_hook::consts::SIGUSR2, Arc::clone(&signals.kill))?;
        Ok(signals)
    }
}

/// What happens when committed frames are not on disk for too long.
struct LagPolicy {
    alarm_ns: u64,
    act_ns: u64,
    action: LagAction,
    alarmed: bool,
    acted: bool,
}

impl LagPolicy {
    fn of(config: &Config) -> Self {
        let journal = &config.journal;
        Self {
            alarm_ns: journal.durable_lag_alarm_ms.saturating_mul(1_000_000),
            act_ns: journal.durable_lag_act_ms.saturating_mul(1_000_000),
            action: journal.lag_action,
            alarmed: false,
            acted: false,
        }
    }

    /// Tells and acts once each time the lag passes a mark; arms again when it is below.
    fn judge(&mut self, lag_ns: u64, meters: &Meters, audience: &mut dyn Audience) {
        let (alarm, act) = (lag_ns > self.alarm_ns, lag_ns > self.act_ns);
        if alarm && !self.alarmed {
            audience.alarm(&format!(
                "the oldest frame that is not on disk is {} ms old; journal.durable_lag_alarm_ms is {}",
                lag_ns / 1_000_000,
                self.alarm_ns / 1_000_000
            ));
        }
        if act && !self.acted {
            match self.action {
                LagAction::Alarm => {}
                LagAction::ReduceOnly => meters.want(Verb::Reduce),
                LagAction::Halt => meters.want(Verb::Halt),
            }
        }
        (self.alarmed, self.acted) = (alarm, act);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Heard(u32);
    impl Audience for Heard {
        fn alarm(&mut self, _what: &str) {
            self.0 += 1;
        }
    }

    #[test]
    fn lag_alarms_and_acts_once_each_time_it_passes_its_mark() {
        let meters = Meters::new(&[1]);
        let mut heard = Heard::default();
        let action = LagAction::Halt;
        let mut policy =
            LagPolicy { alarm_ns: 10, act_ns: 20, action, alarmed: false, acted: false };
        let mut check = |lag_ns: u64, alarms: u32, wanted: Option<Verb>| {
            policy.judge(lag_ns, &meters, &mut heard);
            assert_eq!((heard.0, meters.take_wanted()), (alarms, wanted), "lag {lag_ns}");
        };
        check(10, 0, None);
        check(11, 1, None);
        check(15, 1, None);
        check(21, 1, Some(Verb::Halt));
        check(30, 1, None);
        check(5, 1, None);
        check(25, 2, Some(Verb::Halt));
    }

    #[test]
    fn a_kill_replaces_a_halt_that_still_waits_and_not_the_other_way_round() {
        let meters = Meters::new(&[1]);
        meters.want(Verb::Halt);
        meters.want(Verb::Kill);
        meters.want(Verb::Reduce);
        assert_eq!(meters.take_wanted(), Some(Verb::Kill));
        assert_eq!(meters.take_wanted(), None);
    }
}
