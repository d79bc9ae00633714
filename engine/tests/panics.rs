//! A strategy that panics, in a binary of its own: what it panicked on is in the journal, and the
//! same binary's replay reproduces the panic.
//!
//! This test is such a binary. Started with a verb it is an engine with the strategy `fuse`;
//! started by the test runner it starts itself and looks at what is left.
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a test panics, or says what it did")]

use std::ffi::OsString;
use std::path::Path;
use std::process::{Command, ExitCode, Output};

use kairos_edge::frames::Record;
use kairos_journal::Journal;
use kairos_logic::event::{Event, Kind};
use kairos_logic::instrument::InstrumentTable;
use kairos_logic::params::Problem;
use kairos_logic::strategy::{Context, Registry, Strategy, StrategySpec};

use harness::{Setup, fused, map};

#[path = "it/harness.rs"]
#[expect(dead_code, unreachable_pub, reason = "shared with other tests")]
mod harness;

/// Panics on its `after`-th trade.
struct Fuse {
    left: i64,
}

impl Fuse {
    fn build(
        spec: &StrategySpec,
        _table: &InstrumentTable,
    ) -> Result<Box<dyn Strategy>, Vec<Problem>> {
        let mut read = spec.params.read();
        let left = read.integer("after", 100, 1..=1_000_000);
        read.finish().map(|()| -> Box<dyn Strategy> { Box::new(Self { left }) })
    }
}

impl Strategy for Fuse {
    fn on_event(&mut self, event: &Event, _cx: &mut Context<'_>) {
        if event.kind == Kind::Trade {
            self.left -= 1;
            assert!(self.left > 0, "the fuse has blown");
        }
    }
}

fn main() -> ExitCode {
    let verb = std::env::args().nth(1);
    if verb.is_some_and(|it| ["run", "replay"].contains(&it.as_str())) {
        let mut registry = Registry::shipped();
        registry.register("fuse", Fuse::build);
        return kairos_engine::main_with(&registry);
    }
    let usable = kairos_engine::pin::usable_cpus().unwrap();
    let (first, last) = (*usable.first().unwrap(), *usable.last().unwrap());
    check("one thread", fused());
    check("journal on another thread", map(first, last, last, first, first));
    check("feed on another thread", map(first, last, last, last, last));
    println!("test a_strategy_that_panics_leaves_its_cause_and_replay_panics_again ... ok");
    ExitCode::SUCCESS
}

/// Trades that the strategy lives to see, the one that kills it included.
const TRADES: usize = 400;

fn check(what: &str, cores: String) {
    let mut setup = Setup::seeded(95, 20);
    setup.cores = cores;
    setup.strategies.push_str(&format!("[strategies.fuse]\nkind = \"fuse\"\nafter = {TRADES}\n"));
    let config = setup.dir.path().join("kairos.toml");
    std::fs::write(&config, setup.text()).unwrap();
    let journal = setup.journal_dir();

    let ran = itself(&["run".into(), "--config".into(), config.into()]);
    assert_eq!(ran.status.code(), Some(70), "{what}: {ran:?}");
    let told = String::from_utf8(ran.stderr).unwrap();
    assert!(told.contains("the fuse has blown") && told.contains("seat "), "{what}: {told}");

    let found = kairos_journal::verify(&journal).unwrap();
    assert!(!found.is_damaged(), "{what}: {:?}", found.findings);
    let trades = trades(&journal);
    let fatal = trades.get(TRADES - 1);
    let fatal = fatal.unwrap_or_else(|| panic!("{what}: only {} trades", trades.len()));

    let again = itself(&["replay".into(), journal.clone().into(), "--verify".into()]);
    assert_eq!(again.status.code(), Some(70), "{what}: {again:?}");
    let told = String::from_utf8(again.stderr).unwrap();
    assert!(told.contains("the fuse has blown"), "{what}: {told}");
    assert!(told.contains(&format!("at the input with seq {fatal}:")), "{what}: {fatal} {told}");

    // A binary that does not know the kind says so by its name.
    let engine = Path::new(env!("CARGO_BIN_EXE_kairos-engine"));
    let other = Command::new(engine).arg("replay").arg(&journal).arg("--verify").output().unwrap();
    assert_eq!(other.status.code(), Some(1), "{what}: {other:?}");
    let told = String::from_utf8(other.stderr).unwrap();
    assert!(told.contains("\"fuse\"") && told.contains("not a known kind"), "{what}: {told}");
}

/// Sequences of the journaled trades.
fn trades(journal: &Path) -> Vec<u64> {
    let mut reader = Journal::open(journal).unwrap().reader();
    let mut found = Vec::new();
    while let Some(frame) = reader.next().unwrap() {
        if frame.is_physical() {
            continue;
        }
        let read = Record::read(frame.kind, frame.schema, frame.ts, frame.ext(), frame.payload);
        if matches!(read.unwrap(), Record::Event(it) if it.kind == Kind::Trade) {
            found.push(frame.seq);
        }
    }
    found
}

fn itself(args: &[OsString]) -> Output {
    Command::new(std::env::current_exe().unwrap()).args(args).output().unwrap()
}
