//! Placement `hot`: the engine with its ring in memory, and an archiver beside it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use kairos_engine::run::{self, Audience, RunError, Signals};
use kairos_engine::start::SeatThread;
use kairos_journal::archive::{self, ArchiveOptions, Probe, Step};
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
        Self::on(&setup.journal_dir(), ring)
    }

    /// Starts it for an archive and a ring.
    pub fn on(archive: &Path, ring: &Path) -> Self {
        Self::with(ArchiveOptions::new(archive, ring))
    }

    /// Starts it as `options` say.
    pub fn with(options: ArchiveOptions) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&stop);
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

/// Lets the disk go on once the engine has complained.
struct Patience<'a> {
    stuck: &'a AtomicBool,
    heard: Vec<String>,
}

impl Audience for Patience<'_> {
    fn alarm(&mut self, what: &str) {
        self.heard.push(what.to_owned());
        self.stuck.store(false, Ordering::Release);
    }
}

/// A disk whose syncs take until somebody complains. Nothing waits for it but durability: the run goes
/// on, the policy acts, and afterwards everything is on disk.
#[test]
fn a_disk_that_is_stuck_is_acted_upon_as_configured_and_caught_up_with() {
    for (action, verb) in
        [("alarm", None), ("reduce_only", Some(Verb::Reduce)), ("halt", Some(Verb::Halt))]
    {
        let (mut setup, ring) = hot("committed", 60_000);
        setup.pace = "4.0".into(); // a second
        setup.placement += &format!(
            "durable_lag_alarm_ms = 50\ndurable_lag_act_ms = 50\nlag_action = {action:?}\n"
        );
        let stuck = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&stuck);
        let probe = Probe::new(move |step| {
            while matches!(step, Step::Sync(_)) && seen.load(Ordering::Acquire) {
                std::thread::yield_now();
            }
            Ok(())
        });
        let options = ArchiveOptions { probe, ..ArchiveOptions::new(setup.journal_dir(), &ring) };
        let archiver = Archiver::with(options);
        let mut patience = Patience { stuck: &stuck, heard: Vec::new() };
        let mut once = Once(&mut patience, Some(&stuck));
        run::run(&setup.config(), &Registry::shipped(), &Signals::default(), &mut once).unwrap();
        archiver.stop();
        let said = patience.heard.first().expect("an alarm");
        assert!(said.contains("journal.durable_lag_alarm_ms is 50"), "{said}");
        let commands: Vec<Verb> = setup.content().events.iter().filter_map(command).collect();
        assert_eq!(commands.contains(&Verb::Halt), verb == Some(Verb::Halt), "{action}");
        assert_eq!(commands.contains(&Verb::Reduce), verb == Some(Verb::Reduce), "{action}");
        assert!(setup.verify().equal);
        assert!(verify(&setup.journal_dir()).unwrap().findings.is_empty());
    }
}

/// Sets the flag when the run has started, and passes everything on.
struct Once<'a, A>(&'a mut A, Option<&'a AtomicBool>);

impl<A: Audience> Audience for Once<'_, A> {
    fn started(&mut self, run: u64, threads: &[SeatThread], warnings: &[String]) {
        if let Some(flag) = self.1.take() {
            flag.store(true, Ordering::Release);
        }
        self.0.started(run, threads, warnings);
    }

    fn alarm(&mut self, what: &str) {
        self.0.alarm(what);
    }
}

fn command((_, event): &(u64, Event)) -> Option<Verb> {
    if let News::Command { verb, .. } = event.news() { Some(verb) } else { None }
}

/// Starts another archiver when the engine says that the first one has failed.
struct Replacing<'a> {
    setup: &'a Setup,
    ring: &'a Path,
    failed: Option<Archiver>,
    next: Option<Archiver>,
    heard: Vec<String>,
}

impl Audience for Replacing<'_> {
    fn alarm(&mut self, what: &str) {
        self.heard.push(what.to_owned());
        if what.contains("the archiver has failed")
            && let Some(failed) = self.failed.take()
        {
            let ended = failed.thread.join().unwrap();
            assert!(matches!(ended, Err(Error::Io { .. })), "{ended:?}");
            self.next = Some(Archiver::start(self.setup, self.ring));
        }
    }
}

/// A sync that fails is final for the archiver, and trading halts at once, unless configured otherwise.
#[test]
fn a_sync_that_fails_halts_at_once_and_the_next_archiver_completes_the_archive() {
    for (configured, halts) in [("", true), ("archiver_failed_action = \"alarm\"\n", false)] {
        let (mut setup, ring) = hot("committed", 60_000);
        setup.pace = "4.0".into();
        // The lag alone would do nothing.
        setup.placement += "durable_lag_alarm_ms = 3600000\ndurable_lag_act_ms = 3600000\n";
        setup.placement += configured;
        let fails = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&fails);
        let probe = Probe::new(move |step| {
            let is_it = matches!(step, Step::Sync(_)) && seen.swap(false, Ordering::AcqRel);
            if is_it { Err(std::io::Error::from_raw_os_error(5)) } else { Ok(()) }
        });
        let options = ArchiveOptions { probe, ..ArchiveOptions::new(setup.journal_dir(), &ring) };
        let failed = Some(Archiver::with(options));
        let mut replacing =
            Replacing { setup: &setup, ring: &ring, failed, next: None, heard: Vec::new() };
        let mut once = Once(&mut replacing, Some(&fails));
        run::run(&setup.config(), &Registry::shipped(), &Signals::default(), &mut once).unwrap();
        let told: Vec<_> = replacing.heard.iter().filter(|it| it.contains("has failed")).collect();
        assert_eq!(told.len(), 1, "{:?}", replacing.heard);
        assert!(told[0].contains("fdatasync"), "{told:?}");
        replacing.next.take().expect("it was told").stop();
        let halted = setup.content().events.iter().filter_map(command).any(|it| it == Verb::Halt);
        assert_eq!(halted, halts);
        assert!(setup.verify().equal);
        assert!(verify(&setup.journal_dir()).unwrap().findings.is_empty());
    }
}
