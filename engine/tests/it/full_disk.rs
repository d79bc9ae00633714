//! A disk that is full before the run is over: trading halts, what rests is cancelled, all of it is
//! journaled, and the next run knows.

use std::io::Read as _;
use std::path::PathBuf;
use std::process::Command;

use kairos_engine::pin;
use kairos_journal::{Journal, RunStatus};
use kairos_logic::code::Code;
use kairos_logic::event::{News, ReportState, Verb};
use kairos_logic::order::{Action, OrderFlags, Verdict};

use crate::harness::{Content, Setup, map};
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

fn run(setup: &Setup) -> Said {
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

/// What a run on a disk that became full must have left.
fn halted_in_order(setup: &Setup, said: &Said) {
    assert_eq!(said.status, Some(1), "{said:?}");
    let last = said.err.lines().last().unwrap_or_default();
    for part in [
        "disk full: a segment needs 2097152 bytes",
        "trading was halted and resting orders were cancelled; everything journaled is kept",
    ] {
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

fn halts_and_is_inherited(setup: &Setup) {
    let journal = setup.journal_dir();
    // Three segments of 2 MiB and some files, not four.
    let Some(disk) = SmallDisk::mount(setup, 7 << 10) else { return };
    halted_in_order(setup, &run(setup));
    let runs = Journal::open(&journal).unwrap().runs().unwrap();
    assert_eq!(runs.last().unwrap().status, RunStatus::Ended);
    // Still as good as full: a run begins, and ends in the same way.
    assert_eq!(run(setup).status, Some(1));
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
    halted_in_order(&setup, &said);
    // With no room for a segment nothing starts, and nothing changes.
    let before = setup.content().events.len();
    assert_eq!(run(&setup).status, Some(1));
    assert_eq!(setup.content().events.len(), before);
    std::fs::remove_file(filler).unwrap();
    disk.grow(64);
    is_inherited(&setup);
}
