//! What every test of the whole engine needs: captures, configurations, runs, and a journal's
//! content as values.

use std::path::{Path, PathBuf};

use kairos_edge::config::Config;
use kairos_edge::frames::Record;
use kairos_engine::pin;
use kairos_engine::replay::{self, Range, Report};
use kairos_engine::run::{self, Finished, Nobody, RunError, Signals};
use kairos_journal::Journal;
use kairos_logic::event::Event;
use kairos_logic::order::Decision;
use kairos_logic::strategy::Registry;
use tempfile::TempDir;

// By path: the tests that are binaries of their own include this file from elsewhere.
#[path = "seeded.rs"]
mod seeded;

/// A directory in memory, where there is one: for tests that sync often.
pub fn in_memory() -> TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| TempDir::new()).unwrap()
}

/// Copies a directory.
pub fn copy(from: &Path, to: &Path) -> PathBuf {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
    to.to_owned()
}

/// The folder of recorded captures, or `None` (and a message) where it is absent.
pub fn captures() -> Option<PathBuf> {
    let default = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/captures");
    let dir = std::env::var_os("KAIROS_CAPTURES").map_or(default, PathBuf::from);
    if dir.is_dir() {
        return Some(dir);
    }
    println!("skipped: no captures at {}; set KAIROS_CAPTURES", dir.display());
    None
}

/// A configuration under construction; everything has a value that suits a test.
pub struct Setup {
    pub dir: TempDir,
    pub captures: Vec<PathBuf>,
    pub instruments: Vec<&'static str>,
    pub cores: String,
    pub pace: String,
    pub strategies: String,
    pub more: String,
    pub seed: u64,
    pub gate: &'static str,
    pub flush_interval_ms: u32,
    pub journal: String,
    /// Further keys of the journal's section.
    pub placement: String,
}

/// The strategies of the demo.
pub const BOTH: &str = "
[strategies.tri]
kind = \"tri_arb\"
[strategies.mm]
kind = \"market_maker\"
instruments = [\"BTCUSDT\", \"ETHUSDT\"]
[strategies.mom]
kind = \"momentum\"
instruments = [\"BTCUSDT\"]
";

impl Setup {
    /// The seeded exchange for some seconds, all strategies, one thread.
    pub fn seeded(seed: u64, seconds: u64) -> Self {
        let dir = TempDir::new().unwrap();
        let capture = seeded::capture(dir.path(), seed, seconds);
        Self {
            captures: vec![capture],
            dir,
            instruments: vec!["BTCUSDT", "ETHUSDT", "ETHBTC"],
            cores: fused(),
            pace: "\"max\"".into(),
            strategies: BOTH.into(),
            more: format!(
                "{}\n[execution]\nlatency_ms = 2\njitter_ns = 1000000\n",
                seeded::INSTRUMENTS
            ),
            seed,
            gate: "committed",
            flush_interval_ms: 10,
            journal: "journal".into(),
            placement: String::new(),
        }
    }

    pub fn text(&self) -> String {
        let list = |items: Vec<String>| items.join(", ");
        let captures = self.captures.iter().map(|it| format!("{:?}", it.display().to_string()));
        let instruments = self.instruments.iter().map(|it| format!("{it:?}"));
        format!(
            "[engine]\nname = \"test\"\nseed = {seed}\nrun_dir = {run:?}\nring_slots = 4096\n\
             [cores]\n{cores}\n[journal]\ndir = {journal:?}\nsegment_mib = 2\ngate = {gate:?}\n\
             flush_interval_ms = {flush}\n{placement}\n\
             [venues.binance]\nmarket_data = \"capture\"\ncaptures = [{captures}]\npace = {pace}\n\
             instruments = [{instruments}]\n{strategies}\n{more}\n",
            seed = self.seed,
            run = self.dir.path().join("run").display().to_string(),
            cores = self.cores,
            journal = self.journal_dir().display().to_string(),
            gate = self.gate,
            flush = self.flush_interval_ms,
            placement = self.placement,
            captures = list(captures.collect()),
            pace = self.pace,
            instruments = list(instruments.collect()),
            strategies = self.strategies,
            more = self.more,
        )
    }

    pub fn config(&self) -> Config {
        let usable = pin::usable_cpus().unwrap();
        let text = self.text();
        Config::parse("test", &text, Some(&usable))
            .unwrap_or_else(|problems| panic!("{problems:#?}\n{text}"))
    }

    pub fn journal_dir(&self) -> PathBuf {
        self.dir.path().join(&self.journal)
    }

    pub fn run(&self) -> Finished {
        self.try_run().unwrap_or_else(|error| panic!("{error}"))
    }

    pub fn try_run(&self) -> Result<Finished, RunError> {
        run::run(&self.config(), &Registry::shipped(), &Signals::default(), &mut Nobody)
    }

    pub fn verify(&self) -> Report {
        let registry = Registry::shipped();
        replay::verify(&self.journal_dir(), &registry, Range::default(), &mut |_| {})
            .unwrap_or_else(|error| panic!("{error}"))
    }

    pub fn content(&self) -> Content {
        Content::of(&self.journal_dir())
    }
}

/// Every seat on the last CPU that may be used.
pub fn fused() -> String {
    let cpu = *pin::usable_cpus().unwrap().last().unwrap();
    map(cpu, cpu, cpu, cpu, cpu)
}

/// A `[cores]` section that shares CPUs: waits by yielding.
pub fn map(feed: u16, strategy: u16, risk: u16, execution: u16, journal: u16) -> String {
    format!(
        "feed = {feed}\nstrategy = {strategy}\nrisk = {risk}\nexecution = {execution}\n\
         journal = {journal}\nwait = \"yield\""
    )
}

/// The logical frames of a journal.
#[derive(Default)]
pub struct Content {
    pub events: Vec<(u64, Event)>,
    pub decisions: Vec<(u64, Decision)>,
}

impl Content {
    pub fn of(dir: &Path) -> Self {
        let mut content = Self::default();
        let mut reader = Journal::open(dir).unwrap().reader();
        while let Some(frame) = reader.next().unwrap() {
            if frame.is_physical() {
                continue;
            }
            let ext = frame.ext();
            match Record::read(frame.kind, frame.schema, frame.ts, ext, frame.payload).unwrap() {
                Record::Event(event) => content.events.push((frame.seq, event)),
                Record::Decision { record, .. } => content.decisions.push((frame.seq, record)),
                Record::Part(_) => {}
            }
        }
        content
    }
}
