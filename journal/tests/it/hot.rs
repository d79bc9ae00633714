//! Placement `hot`: ring, archiver, and the archive they leave.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use kairos_journal::archive::{ArchiveOptions, Archiver};
use kairos_journal::{
    Error, HotOptions, Journal, Keeper, Mode, Opened, Options, Placement, RunFacts, RunStatus,
    Verdict, Writer, create, recover, verify,
};

use crate::common::{assert_holds, put_events, settle, tiny};

/// A ring and an archive, in memory where there is some.
pub(crate) struct Place {
    pub(crate) root: tempfile::TempDir,
}

impl Place {
    pub(crate) fn new() -> Place {
        let shm = Path::new("/dev/shm");
        let root = if shm.is_dir() { tempfile::tempdir_in(shm) } else { tempfile::tempdir() };
        Place { root: root.unwrap() }
    }

    pub(crate) fn dir(&self) -> PathBuf {
        self.root.path().join("archive")
    }

    pub(crate) fn ring(&self) -> PathBuf {
        self.root.path().join("ring")
    }

    pub(crate) fn options(&self) -> Options {
        let hot =
            HotOptions { segments: 4, archiver_wait_ms: 30_000, ..HotOptions::new(&self.ring()) };
        Options { placement: Placement::Hot(hot), ..tiny() }
    }

    pub(crate) fn archive(&self) -> ArchiveOptions {
        ArchiveOptions { flush_interval_ms: 1, ..ArchiveOptions::new(self.dir(), self.ring()) }
    }

    pub(crate) fn open(&self) -> (Writer, Keeper, Opened) {
        create(&self.dir(), &self.options(), RunFacts::default()).unwrap()
    }
}

/// An archiver on a thread of its own, until it is told to stop.
pub(crate) struct Running {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Archiver>>,
}

impl Running {
    pub(crate) fn start(place: &Place) -> Running {
        let stop = Arc::new(AtomicBool::new(false));
        let mut archiver = Archiver::open(place.archive()).unwrap();
        let seen = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            while !seen.load(Ordering::Acquire) {
                if !archiver.turn().unwrap() {
                    std::thread::yield_now();
                }
            }
            archiver
        });
        Running { stop, thread: Some(thread) }
    }

    pub(crate) fn stop(mut self) -> Archiver {
        self.stop.store(true, Ordering::Release);
        self.thread.take().unwrap().join().unwrap()
    }
}

pub(crate) fn assert_sound(dir: &Path, last: u64) {
    let found = verify(dir).unwrap();
    assert!(!found.is_damaged(), "{:#?}", found.findings);
    assert_eq!(found.events, last);
    assert_holds(dir, last);
}

#[test]
fn a_run_in_the_ring_is_a_journal_in_the_archive() {
    let place = Place::new();
    let running = Running::start(&place);
    for (run, events) in [(1, 3_000), (2, 10), (3, 1_000)] {
        let (mut writer, mut keeper, opened) = place.open();
        assert_eq!(opened.run, run);
        put_events(&mut writer, &mut keeper, events);
        settle(&mut writer, &mut keeper);
        crate::common::end(writer, keeper);
    }
    let archiver = running.stop();
    assert!(archiver.is_caught_up());
    drop(archiver);
    assert_sound(&place.dir(), 4_010);
    let runs = Journal::open(&place.dir()).unwrap().runs().unwrap();
    let ended = runs.iter().map(|it| (it.status, it.last_seq)).collect::<Vec<_>>();
    let expected = [3_000, 3_010, 4_010].map(|seq| (RunStatus::Ended, Some(seq)));
    assert_eq!(ended, expected);
    assert!(Journal::open(&place.dir()).unwrap().segments().unwrap().len() > 8, "it went round");
}

#[test]
fn an_engine_does_not_start_without_its_archiver() {
    let place = Place::new();
    let mut options = place.options();
    let Placement::Hot(hot) = &mut options.placement else { unreachable!() };
    hot.archiver_wait_ms = 20;
    let refused = create(&place.dir(), &options, RunFacts::default()).unwrap_err();
    assert!(matches!(refused, Error::Archiver { .. }), "{refused}");
    drop(Archiver::open(place.archive()).unwrap());
    let refused = create(&place.dir(), &options, RunFacts::default()).unwrap_err();
    assert!(refused.to_string().contains("the archiver is not running"), "{refused}");
    assert!(refused.to_string().contains("--role archive"), "{refused}");
}

#[test]
fn a_dead_engine_loses_nothing_whoever_takes_the_rest() {
    for recovered_by_hand in [false, true] {
        let place = Place::new();
        let running = Running::start(&place);
        let (mut writer, mut keeper, _) = place.open();
        put_events(&mut writer, &mut keeper, 500);
        settle(&mut writer, &mut keeper);
        drop(running.stop()); // from here on nobody copies
        put_events(&mut writer, &mut keeper, 300);
        let owned = recover(&place.dir(), Mode::default(), false).unwrap_err();
        assert!(matches!(owned, Error::Owned { .. }), "{owned}");
        drop((writer, keeper));
        if recovered_by_hand {
            let report = recover(&place.dir(), Mode::default(), false).unwrap();
            assert_eq!(report.verdict, Verdict::Crashed);
        } else {
            let mut archiver = Archiver::open(place.archive()).unwrap();
            while !archiver.is_caught_up() {
                archiver.turn().unwrap();
            }
        }
        assert_sound(&place.dir(), 800);
        let runs = Journal::open(&place.dir()).unwrap().runs().unwrap();
        assert_eq!(runs[0].status, RunStatus::CrashSealed);
        let again = Running::start(&place);
        let (mut writer, mut keeper, opened) = place.open();
        assert_eq!((opened.run, opened.first_seq), (2, 801));
        put_events(&mut writer, &mut keeper, 5);
        crate::common::end(writer, keeper);
        drop(again.stop());
        assert_sound(&place.dir(), 805);
    }
}

#[test]
fn production_refuses_a_ring_that_is_no_memory_of_its_own() {
    let check = |root: tempfile::TempDir, rule: &str| {
        let place = Place { root };
        let strict = Options { strict: true, ..place.options() };
        let refused = create(&place.dir(), &strict, RunFacts::default()).unwrap_err();
        assert!(matches!(refused, Error::FileSystem { .. }), "{refused}");
        assert!(refused.to_string().contains(rule), "{refused}");
        // Development is warned, and starts.
        let running = Running::start(&place);
        let (writer, keeper, opened) = place.open();
        assert!(opened.warnings.iter().any(|it| it.contains(rule)), "{:?}", opened.warnings);
        crate::common::end(writer, keeper);
        drop(running.stop());
    };
    let shm = Path::new("/dev/shm");
    if shm.is_dir() {
        check(tempfile::tempdir_in(shm).unwrap(), "/dev/shm: not for the hot ring");
    }
    // The build's own directory is on a disk, as a rule.
    let program = std::env::current_exe().unwrap();
    let disk = tempfile::tempdir_in(program.parent().unwrap()).unwrap();
    let asked = Command::new("stat").args(["-f", "-c", "%T"]).arg(disk.path()).output().unwrap();
    if asked.stdout.starts_with(b"tmpfs") {
        println!("skipped: the build is on tmpfs");
        return;
    }
    check(disk, "the hot ring needs tmpfs or hugetlbfs: it is memory");
}
