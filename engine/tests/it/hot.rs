//! Placement `hot`: the engine with its ring in memory, and an archiver beside it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use kairos_engine::run::{self, Audience, RunError, Signals};
use kairos_engine::start::SeatThread;
use kairos_journal::archive::{self, ArchiveOptions};
use kairos_journal::{Error, verify};
use kairos_logic::event::{Event, News, Verb};
use kairos_logic::strategy::Registry;

use crate::harness::Setup;

/// The seeded exchange, with its journal in a ring.
fn hot(gate: &'static str, wait_ms: u64) -> (Setup, PathBuf) {
    let mut setup = Setup { gate, ..Setup::seeded(7, 4) };
    let ring = in_ring(&mut setup, wait_ms);
    (setup, ring)
}

/// Moves the journal into a ring beside it.
pub fn in_ring(setup: &mut Setup, wait_ms: u64) -> PathBuf {
    let ring = setup.dir.path().join("ring");
    let name = ring.display().to_string();
    setup.placement = format!(
        "placement = \"hot\"\nhot_dir = {name:?}\nhot_segments = 4\narchiver_wait_ms = {wait_ms}\n"
    );
    ring
}

/// An archiver on a thread.
pub struct Archiver {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<(), Error>>,
}

impl Archiver {
    /// Starts it for the journal of `setup`.
    pub fn start(setup: &Setup, ring: &Path) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&stop);
        let options = ArchiveOptions::new(setup.journal_dir(), ring);
        let thread = std::thread::spawn(move || archive::run(options, &seen, &mut |_| {}));
        Self { stop, thread }
    }

    /// Ends it; it must not have failed.
    pub fn stop(self) {
        self.stop.store(true, Ordering::Release);
        self.thread.join().unwrap().unwrap();
    }
}

#[test]
fn a_run_through_the_ring_decides_what_a_run_on_disk_decides() {
    for gate in ["committed", "durable"] {
        let direct = Setup { gate, ..Setup::seeded(7, 4) };
        direct.run();
        let expected = direct.content();
        assert!(expected.decisions.len() > 10, "{}", expected.decisions.len());
        let (setup, ring) = hot(gate, 60_000);
        let archiver = Archiver::start(&setup, &ring);
        for run in 1..=2 {
            assert_eq!(setup.run().run, run);
        }
        archiver.stop();
        let report = setup.verify();
        assert!(report.equal, "{gate}: {:?}", report.first_difference);
        assert_eq!(report.runs, 2);
        assert!(!verify(&setup.journal_dir()).unwrap().is_damaged());
        let content = setup.content();
        assert_eq!(content.events.len(), 2 * expected.events.len(), "{gate}");
        for (at, (found, wanted)) in content.events.iter().zip(&expected.events).enumerate() {
            let seen = |it: &(u64, Event)| (it.0, it.1.news());
            assert_eq!(seen(found), seen(wanted), "{gate}, event {at}");
        }
    }
}

#[test]
fn without_an_archiver_the_start_is_refused() {
    let (setup, _) = hot("committed", 50);
    let refused = setup.try_run().unwrap_err();
    assert!(matches!(refused, RunError::Journal(Error::Archiver { .. })), "{refused}");
    assert_eq!(refused.status(), 1);
}

/// Stops the archiver when the run has started, and starts another one when the engine complains.
struct Outage<'a> {
    setup: &'a Setup,
    ring: &'a Path,
    archiver: Option<Archiver>,
    heard: Vec<String>,
}

impl Audience for Outage<'_> {
    fn started(&mut self, _run: u64, _threads: &[SeatThread], _warnings: &[String]) {
        self.archiver.take().unwrap().stop();
    }

    fn alarm(&mut self, what: &str) {
        self.heard.push(what.to_owned());
        if self.archiver.is_none() {
            self.archiver = Some(Archiver::start(self.setup, self.ring));
        }
    }
}

#[test]
fn an_archiver_that_stays_away_is_told_and_acted_upon_and_costs_nothing_journaled() {
    let (mut setup, ring) = hot("committed", 60_000);
    setup.pace = "4.0".into(); // a second
    setup
        .placement
        .push_str("durable_lag_alarm_ms = 50\ndurable_lag_act_ms = 50\nlag_action = \"halt\"\n");
    let archiver = Some(Archiver::start(&setup, &ring));
    let mut outage = Outage { setup: &setup, ring: &ring, archiver, heard: Vec::new() };
    let signals = Signals::default();
    run::run(&setup.config(), &Registry::shipped(), &signals, &mut outage).unwrap();
    outage.archiver.take().unwrap().stop();
    let said = outage.heard.first().expect("an alarm");
    assert!(said.contains("the archiver is not running"), "{said}");
    assert!(said.contains("journal.durable_lag_alarm_ms is 50"), "{said}");
    let is_halt = |it: &Event| matches!(it.news(), News::Command { verb: Verb::Halt, .. });
    assert!(setup.content().events.iter().any(|(_, it)| is_halt(it)), "the halt is journaled");
    assert!(setup.verify().equal);
    let found = verify(&setup.journal_dir()).unwrap();
    assert!(found.findings.is_empty(), "{:?}", found.findings);
}
