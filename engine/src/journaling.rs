//! Taking the journal at the start of a run, and keeping it while the run lasts.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use kairos_edge::config::{self as edge_config, Config, Profile, Strategy};
use kairos_edge::frames::{self, Cold};
use kairos_journal::{Faults, Frame, Journal, Keeper, RunFacts, Verdict, Writer};
use kairos_logic::event::Event;
use kairos_logic::instrument::InstrumentTable;

use crate::build::BuildId;
use crate::clock::Clock;
use crate::fold;
use crate::seats::journal::halt_reserve;

/// A journal that is ours, with what the engine must know before it starts.
pub(crate) struct Taken {
    /// The hot half.
    pub(crate) writer: Writer,
    /// The slow half.
    pub(crate) keeper: Keeper,
    /// Number of the run that starts.
    pub(crate) run: u64,
    /// Its first sequence.
    pub(crate) first_seq: u64,
    /// What recovery and the host had to say.
    pub(crate) warnings: Vec<String>,
    /// Commands that the run must begin with.
    pub(crate) inherited: Vec<Event>,
}

/// Takes the directory, recovers what was left in it, starts a run and writes down what is needed to
/// repeat it.
pub(crate) fn take_journal(
    config: &Config,
    disk: Faults,
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
        kairos_journal::create(&config.journal.dir, &journal_options(config, disk), facts)?;
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
    warnings.extend(inherited.warning);
    let (run, first_seq, inherited) = (opened.run, opened.first_seq, inherited.commands);
    Ok(Taken { writer, keeper, run, first_seq, warnings, inherited })
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

fn journal_options(config: &Config, disk: Faults) -> kairos_journal::Options {
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
        placement: match &journal.placement {
            edge_config::Placement::Direct => kairos_journal::Placement::Direct,
            edge_config::Placement::Hot(ring) => {
                kairos_journal::Placement::Hot(kairos_journal::HotOptions {
                    dir: ring.dir.clone(),
                    segments: ring.segments,
                    archiver_wait_ms: ring.archiver_wait_ms,
                    full_ms: journal.durable_lag_act_ms,
                })
            }
        },
        strict: config.engine.profile == Profile::Production,
        faults: disk,
        halt_reserve_bytes: halt_reserve(config.engine.ring_slots) as u64,
        ..kairos_journal::Options::default()
    }
}

/// How often the keeper is turned.
const KEEPER_EVERY: Duration = Duration::from_millis(1);

/// The helper thread that prepares, flushes and seals segments. Dropped without [`Keeping::finish`] it
/// stops and leaves the journal as a crash would, for recovery.
pub(crate) struct Keeping {
    stop: Arc<AtomicBool>,
    keeper: Option<JoinHandle<Keeper>>,
}

impl Keeping {
    /// Starts turning the keeper.
    pub(crate) fn start(mut keeper: Keeper) -> Self {
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
        Self { stop, keeper: Some(keeper) }
    }

    fn stop(&mut self) -> Option<Keeper> {
        self.stop.store(true, Ordering::Release);
        let thread = self.keeper.take()?;
        Some(thread.join().expect("a panic in the keeper ends the process"))
    }

    /// Stops and closes the journal.
    ///
    /// # Errors
    /// What the disk says; recovery then closes it.
    pub(crate) fn finish(mut self) -> Result<(), kairos_journal::Error> {
        self.stop().map_or(Ok(()), Keeper::finish)
    }
}

impl Drop for Keeping {
    fn drop(&mut self) {
        self.stop();
    }
}

#[expect(clippy::disallowed_methods, reason = "the keeper is a helper thread; nobody waits for it")]
fn rest() {
    thread::sleep(KEEPER_EVERY);
}
