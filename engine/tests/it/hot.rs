//! Placement `hot`: the engine with its ring in memory, and an archiver beside it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use kairos_engine::run::RunError;
use kairos_journal::archive::{self, ArchiveOptions};
use kairos_journal::{Error, verify};

use crate::harness::Setup;

/// The seeded exchange, with its journal in a ring.
fn hot(gate: &'static str, wait_ms: u64) -> (Setup, PathBuf) {
    let mut setup = Setup::seeded(7, 4);
    let ring = setup.dir.path().join("ring");
    let name = ring.display().to_string();
    setup.gate = gate;
    setup.placement = format!(
        "placement = \"hot\"\nhot_dir = {name:?}\nhot_segments = 4\narchiver_wait_ms = {wait_ms}\n"
    );
    (setup, ring)
}

struct Archiver {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<(), Error>>,
}

impl Archiver {
    fn start(setup: &Setup, ring: &Path) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&stop);
        let options = ArchiveOptions::new(setup.journal_dir(), ring);
        let thread = std::thread::spawn(move || archive::run(options, &seen, &mut |_| {}));
        Self { stop, thread }
    }

    fn stop(self) {
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
            let seen = |it: &(u64, kairos_logic::event::Event)| (it.0, it.1.news());
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
