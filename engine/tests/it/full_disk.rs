//! A disk that is full, or fails, before the run is over: trading halts, what rests is cancelled, all of it is
//! journaled, and the next run knows.

use std::io::{ErrorKind, Read as _};
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};

use kairos_engine::pin;
use kairos_engine::run::{self, Audience, Signals};
use kairos_journal::{DiskStep, Faults, Journal, RunStatus};
use kairos_logic::code::Code;
use kairos_logic::event::{News, ReportState, Verb};
use kairos_logic::order::{Action, OrderFlags, Verdict};
use kairos_logic::strategy::Registry;

use crate::harness::{Content, Setup, in_memory, map};
use crate::process::{Alive, Follower, Said, config_file, engine, poll, say};
use crate::stop::{ALWAYS_RESTING, assert_nothing_is_left_open};

/// A small file system for a journal and what else may fill it; unmounted in the end.
struct SmallDisk(PathBuf);

impl SmallDisk {
    /// `None`, with a message, where nobody may mount.
    fn mount(setup: &Setup, kib: u32) -> Option<Self> {
        let at = setup.dir.path().join("disk");
        std::fs::create_dir(&at).unwrap();
        let size = format!("size={kib}k");
        let mut mount = Command::new("mount");
        let said = mount.args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(&at).output();
        if said.is_ok_and(|it| it.status.success()) {
            return Some(Self(at));
        }
        println!("skipped: a tmpfs cannot be mounted here; it takes root");
        None
    }

    fn grow(&self, mib: u32) {
        let options = format!("remount,size={mib}m");
        let grown = Command::new("mount").args(["-o", &options]).arg(&self.0).status().unwrap();
        assert!(grown.success());
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _done = Command::new("umount").arg(&self.0).status();
    }
}

/// Ninety seconds of a market in which something always rests. Its journal needs a second segment.
fn trading(seed: u64) -> Setup {
    let mut setup = Setup::seeded(seed, 90);
    setup.journal = "disk/journal".into();
    setup.strategies.push_str(ALWAYS_RESTING);
    setup
}

/// What an engine would have printed.
#[derive(Default)]
struct Heard(String);

impl Audience for Heard {
    fn alarm(&mut self, what: &str) {
        self.0.push_str(&format!("alarm: {what}\n"));
    }
}

/// A run in this process whose disk fails that step so many times, from when a fourth segment is wanted:
/// in the middle of the trade.
fn run_on_failing(setup: &Setup, which: DiskStep, times: u64, error: ErrorKind) -> Said {
    let (segments, failed) = (AtomicU64::new(0), AtomicU64::new(0));
    let disk = Faults::for_tests(move |step| {
        if step == DiskStep::Allocate {
            segments.fetch_add(1, Ordering::Relaxed);
        }
        let due = step == which && segments.load(Ordering::Relaxed) >= 4;
        if due && failed.fetch_add(1, Ordering::Relaxed) < times {
            Err(error.into())
        } else {
            Ok(())
        }
    });
    let mut heard = Heard::default();
    let (config, registry) = (setup.config(), Registry::shipped());
    let failed = run::run_on(disk, &config, &registry, &Signals::default(), &mut heard);
    let failed = failed.expect_err("the disk failed");
    let (status, out) = (Some(failed.status().into()), String::new());
    Said { status, out, err: format!("{}{failed}\n", heard.0) }
}

fn run_engine(setup: &Setup) -> Said {
    say(engine().args(["run", "--config"]).arg(config_file(setup)))
}

/// Sequence of the first halt by command.
fn halt_of(content: &Content) -> u64 {
    let is_halt = |news: News| matches!(news, News::Command { verb: Verb::Halt, .. });
    let found = content.events.iter().find(|it| is_halt(it.1.news()));
    found.expect("a halt is an event").0
}

fn is_whole(setup: &Setup) {
    let found = kairos_journal::verify(&setup.journal_dir()).unwrap();
    assert!(!found.is_damaged(), "{:?}", found.findings);
    let report = setup.verify();
    assert!(report.equal && report.unjournaled == 0, "{report:?}");
}

/// What the last line says of a full disk.
const FULL: [&str; 2] = [
    "disk full: a segment needs 2097152 bytes",
    "trading was halted and resting orders were cancelled; everything journaled is kept",
];

/// What a run whose disk became full must have left.
fn halted_in_order(setup: &Setup, said: &Said, parts: &[&str]) {
    assert_eq!(said.status, Some(1), "{said:?}");
    let last = said.err.lines().last().unwrap_or_default();
    for part in parts {
        assert!(last.contains(part), "{part}: {said:?}");
    }
    assert!(said.err.contains("alarm: journal: "), "{said:?}");
    is_whole(setup);
    let content = setup.content();
    let halt = halt_of(&content);
    let cancelled = assert_nothing_is_left_open(&content, Verb::Halt, Code::HaltCancel);
    assert!(cancelled > 0, "nothing rested");
    for (seq, decision) in content.decisions.iter().filter(|it| it.1.cause.0 >= halt) {
        // Exits pass a halt; that nothing but cancels left is asserted below.
        let exit = decision.flags.has(OrderFlags::REDUCE_ONLY);
        let entry = decision.action == Action::Place && !exit;
        assert!(!entry || decision.verdict == Verdict::Denied, "{seq}: {decision:?}");
    }
    // What execution had sent may still be on its way into IN; what was decided later never is sent.
    let later = |order| {
        content
            .decisions
            .iter()
            .any(|it| it.1.order == order && it.1.cause.0 >= halt && it.1.action == Action::Place)
    };
    for (seq, event) in &content.events {
        if let News::Report { order, state: ReportState::Sent, .. } = event.news() {
            assert!(!later(order), "{seq}: sent after the halt");
        }
    }
    assert!(content.decisions.iter().filter(|it| it.1.cause.0 < halt).count() > 100);
}

/// The next run, with room again, begins halted and lets no entry pass.
fn is_inherited(setup: &Setup) {
    let before = setup.content();
    setup.run();
    let after = setup.content();
    let first = after.events[before.events.len()].1.news();
    assert!(matches!(first, News::Command { verb: Verb::Halt, .. }), "{first:?}");
    let new = &after.decisions[before.decisions.len()..];
    let entries = new.iter().map(|it| it.1).filter(|it| it.action == Action::Place);
    let mut tried = 0;
    for entry in entries.filter(|it| !it.flags.has(OrderFlags::REDUCE_ONLY)) {
        assert_eq!(entry.verdict, Verdict::Denied, "{entry:?}");
        tried += 1;
    }
    assert!(tried > 0, "no strategy tried");
    assert!(setup.verify().equal);
}

/// As below, wherever nobody may mount: the disk says that it is full.
#[test]
fn a_disk_that_says_it_is_full_halts_and_cancels() {
    let setup = trading(114);
    let said = run_on_failing(&setup, DiskStep::Allocate, u64::MAX, ErrorKind::StorageFull);
    halted_in_order(&setup, &said, &FULL);
    is_inherited(&setup);
}

/// What is committed survives the process: the halt and its cancels are, so they may leave.
#[test]
fn a_failed_sync_halts_and_cancels_too() {
    let setup = trading(115);
    let said = run_on_failing(&setup, DiskStep::Sync, 1, ErrorKind::Other);
    let lost =
        "trading was halted and resting orders were cancelled; what was journaled after seq ";
    halted_in_order(&setup, &said, &["msync", lost, " may not be on the disk"]);
    is_inherited(&setup);
}

/// Behind the durable gate nothing can leave any more, so nothing is waited for.
#[test]
fn a_failed_sync_ends_a_run_behind_the_durable_gate_where_it_stands() {
    let mut setup = trading(116);
    let memory = in_memory(); // each order waits for a sync
    setup.journal = memory.path().join("journal").display().to_string();
    setup.gate = "durable";
    setup.flush_interval_ms = 1;
    let said = run_on_failing(&setup, DiskStep::Sync, 1, ErrorKind::Other);
    assert_eq!(said.status, Some(1), "{said:?}");
    for part in ["msync", "stopped where it stood: orders may rest", "may not be on the disk"] {
        assert!(said.err.contains(part), "{part}: {said:?}");
    }
    let found = kairos_journal::verify(&setup.journal_dir()).unwrap();
    assert!(!found.is_damaged(), "{:?}", found.findings);
    let durable = Journal::open(&setup.journal_dir()).unwrap().watermark().unwrap().unwrap().seq;
    let content = setup.content();
    for (seq, event) in &content.events {
        if let News::Report { order, state: ReportState::Sent, .. } = event.news() {
            let decided = content.decisions.iter().find(|it| it.1.order == order).unwrap().0;
            assert!(decided <= durable, "{seq}: sent, and its decision {decided} is not durable");
        }
    }
    setup.gate = "committed";
    setup.run();
    assert!(setup.verify().equal);
}

fn halts_and_is_inherited(setup: &Setup) {
    let journal = setup.journal_dir();
    // Three segments of 2 MiB and some files, not four.
    let Some(disk) = SmallDisk::mount(setup, 7 << 10) else { return };
    halted_in_order(setup, &run_engine(setup), &FULL);
    let runs = Journal::open(&journal).unwrap().runs().unwrap();
    assert_eq!(runs.last().unwrap().status, RunStatus::Ended);
    // Still as good as full: a run begins, and ends in the same way.
    assert_eq!(run_engine(setup).status, Some(1));
    is_whole(setup);
    disk.grow(64);
    is_inherited(setup);
}

#[test]
fn a_full_disk_halts_cancels_and_is_known_to_the_next_run() {
    halts_and_is_inherited(&trading(110));
}

#[test]
fn a_full_disk_halts_seats_on_threads_of_their_own() {
    let cpus = pin::usable_cpus().unwrap();
    let (first, last) = (cpus[0], cpus[cpus.len() - 1]);
    let mut setup = trading(112);
    setup.cores = map(first, last, last, first, last);
    halts_and_is_inherited(&setup);
}

#[test]
fn a_full_disk_halts_behind_the_durable_gate() {
    let mut setup = trading(113);
    setup.gate = "durable";
    setup.flush_interval_ms = 1;
    halts_and_is_inherited(&setup);
}

/// Somebody else took every byte: not even the list of runs can be written again.
#[test]
fn without_a_byte_to_spare_nothing_is_lost_either() {
    let mut setup = trading(111);
    setup.pace = "40.0".into();
    let journal = setup.journal_dir();
    let Some(disk) = SmallDisk::mount(&setup, 16 << 10) else { return };
    let mut engine = Alive::start(&setup);
    let mut follower = Follower::new(&journal);
    poll("orders, and the next segments", || {
        follower.look(u64::MAX);
        let ready = std::fs::read_dir(journal.join("seg")).is_ok_and(|it| it.count() >= 3);
        follower.seen.is_some_and(|it| it > 5_000 && ready).then_some(())
    });
    let filler = disk.0.join("filler");
    let full = std::io::copy(
        &mut std::io::repeat(7).take(64 << 20),
        &mut std::fs::File::create(&filler).unwrap(),
    );
    assert!(full.is_err(), "the disk is full");
    let status = engine.wait();
    assert_eq!(status.code(), Some(1), "{}", engine.errors());
    let said = Said { status: status.code(), out: String::new(), err: engine.errors() };
    follower.look(u64::MAX);
    assert!(follower.is_kept());
    halted_in_order(&setup, &said, &FULL);
    // With no room for a segment nothing starts, and nothing changes.
    let before = setup.content().events.len();
    assert_eq!(run_engine(&setup).status, Some(1));
    assert_eq!(setup.content().events.len(), before);
    std::fs::remove_file(filler).unwrap();
    disk.grow(64);
    is_inherited(&setup);
}
