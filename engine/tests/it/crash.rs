//! SIGKILL at any moment: nothing committed is lost, everything verifies and replays, no order id
//! comes twice, and a halt stays a halt.

use std::time::{Duration, Instant};

use kairos_edge::frames::Record;
use kairos_journal::{Journal, Mode, RunStatus, Verdict};
use kairos_logic::code::Code;
use kairos_logic::event::{Event, News, Verb};
use kairos_logic::order::{Action, Decision, OrderFlags, RiskState, Verdict as Said};

use crate::harness::Setup;
use crate::hot::{Archiver, in_ring};
use crate::process::{Alive, Follower, poll};

/// Splitmix64: the kills come at the same places in every run of the test.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }
}

/// When to kill.
#[derive(Clone, Copy, Debug)]
enum Moment {
    /// Once another process has read that many frames of this run.
    Frames(u64),
    /// That long after the start: mostly while the journal is being recovered or created.
    Micros(u64),
}

/// One run, killed; whatever another process had read of it must still be there. Says whether the
/// kill met a living engine.
fn kill_at(setup: &Setup, moment: Moment) -> bool {
    let mut follower = Follower::new(&setup.journal_dir());
    follower.look(u64::MAX);
    let before = follower.seen.map_or(0, |it| it + 1);
    let mut engine = Alive::start(setup);
    let start = Instant::now();
    poll("the moment of the kill", || {
        follower.look(u64::MAX);
        let due = match moment {
            Moment::Frames(count) => follower.seen.is_some_and(|it| before + count <= it),
            Moment::Micros(count) => start.elapsed() >= Duration::from_micros(count),
        };
        (due || engine.ended().is_some()).then_some(())
    });
    let alive = engine.kill();
    follower.look(u64::MAX);
    assert!(follower.is_kept(), "{moment:?}: seq {:?} was seen and is gone", follower.seen);
    alive
}

/// The journal as a kill left it, and as recovery leaves it.
fn examine(setup: &Setup, recover: bool) {
    let dir = setup.journal_dir();
    if !dir.exists() {
        return; // killed before it had made the directory
    }
    let found = kairos_journal::verify(&dir).unwrap();
    assert!(!found.is_damaged(), "{:?}", found.findings);
    if recover {
        let report = kairos_journal::recover(&dir, Mode::default(), false).unwrap();
        let calm = [Verdict::Empty, Verdict::Clean, Verdict::Crashed];
        assert!(calm.contains(&report.verdict), "{report:?}");
        assert_eq!(report.later_frames, 0, "{report:?}");
        let found = kairos_journal::verify(&dir).unwrap();
        assert!(!found.is_damaged(), "{:?}", found.findings);
    }
}

fn replays_equal(setup: &Setup) {
    if setup.journal_dir().exists() {
        let report = setup.verify();
        assert!(report.equal, "{:?}", report.first_difference);
    }
}

/// One run of a journal.
#[derive(Default)]
struct Run {
    number: u64,
    events: Vec<Event>,
    decisions: Vec<Decision>,
}

/// Every run that has an input, in order; asserts on the way that sequences are dense.
fn runs_of(setup: &Setup) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    let mut reader = Journal::open(&setup.journal_dir()).unwrap().reader();
    let mut next = None;
    while let Some(frame) = reader.next().unwrap() {
        if frame.is_physical() {
            continue;
        }
        assert_eq!(frame.seq, next.unwrap_or(frame.seq), "sequences are dense");
        next = Some(frame.seq + 1);
        let ext = frame.ext();
        let record = Record::read(frame.kind, frame.schema, frame.ts, ext, frame.payload).unwrap();
        if let Record::Part(_) = record {
            continue;
        }
        if runs.last().is_none_or(|it| it.number != frame.run) {
            runs.push(Run { number: frame.run, ..Run::default() });
        }
        let run = runs.last_mut().unwrap();
        match record {
            Record::Event(event) => run.events.push(event),
            Record::Decision { record, .. } => run.decisions.push(record),
            Record::Part(_) => {}
        }
    }
    runs
}

fn assert_ids_increase(runs: &[Run]) {
    let placed = |it: &&Decision| it.action == Action::Place;
    let ids: Vec<_> = runs
        .iter()
        .flat_map(|it| &it.decisions)
        .filter(placed)
        .map(|decision| decision.order)
        .collect();
    assert!(ids.len() > 20, "{} orders", ids.len());
    for pair in ids.windows(2) {
        assert!(pair[0] < pair[1], "order ids {} and {}", pair[0], pair[1]);
    }
}

/// Twenty seconds of market in about one.
fn paced(seed: u64) -> Setup {
    let mut setup = Setup::seeded(seed, 20);
    setup.pace = "25.0".into();
    setup
}

#[test]
fn forty_kills_into_one_journal_lose_nothing_and_no_order_id_comes_twice() {
    let mut dice = Dice(1);
    let mut alive = 0;
    for journal in 0..4 {
        let mut setup = paced(60 + journal);
        for kill in 0..10 {
            if kill == 7 {
                setup.pace = "\"max\"".into();
            }
            let moment = match dice.below(4) {
                0 => Moment::Micros(dice.below(60_000)),
                _ => Moment::Frames(dice.below(5_000)),
            };
            alive += u32::from(kill_at(&setup, moment));
            // Every other time the next start has to recover by itself.
            examine(&setup, kill % 2 == 0);
            if kill % 5 == 4 {
                replays_equal(&setup);
            }
        }
        setup.pace = "\"max\"".into();
        let status = Alive::start(&setup).wait();
        assert_eq!(status.code(), Some(0));
        examine(&setup, true);
        replays_equal(&setup);
        let runs = runs_of(&setup);
        assert!(runs.len() > 5, "{} runs with inputs", runs.len());
        assert_ids_increase(&runs);
        let journal = Journal::open(&setup.journal_dir()).unwrap();
        assert_eq!(journal.runs().unwrap().last().unwrap().status, RunStatus::Ended);
    }
    assert!(alive >= 35, "only {alive} kills met a living engine");
}

#[test]
fn twenty_kills_of_a_first_run_leave_a_journal_or_nothing() {
    let mut dice = Dice(2);
    for kill in 0..20 {
        let setup = paced(80);
        let moment = match kill % 4 {
            0 => Moment::Frames(dice.below(9_000)),
            _ => Moment::Micros(dice.below(40_000)),
        };
        kill_at(&setup, moment);
        examine(&setup, true);
        replays_equal(&setup);
    }
}

#[test]
fn kills_of_an_engine_with_its_journal_in_memory_lose_nothing() {
    let mut dice = Dice(3);
    let mut setup = paced(70);
    let ring = in_ring(&mut setup, 60_000);
    let archiver = Archiver::start(&setup, &ring);
    let mut alive = 0;
    for kill in 0..10 {
        let moment = match kill % 3 {
            0 => Moment::Micros(dice.below(60_000)),
            _ => Moment::Frames(dice.below(5_000)),
        };
        alive += u32::from(kill_at(&setup, moment));
    }
    setup.pace = "\"max\"".into();
    let mut last = Alive::start(&setup);
    assert_eq!(last.wait().code(), Some(0), "{}", last.errors());
    archiver.stop();
    examine(&setup, true);
    replays_equal(&setup);
    let runs = runs_of(&setup);
    assert!(runs.len() > 4 && alive > 4, "{} runs with inputs, {alive} alive", runs.len());
    assert_ids_increase(&runs);
}

/// Whether the journal, as it stands now, says that risk has halted.
fn has_halted(setup: &Setup) -> bool {
    let Ok(journal) = Journal::open(&setup.journal_dir()) else { return false };
    let mut reader = journal.reader();
    while let Some(frame) = reader.next().unwrap() {
        let ext = frame.ext();
        let read = Record::read(frame.kind, frame.schema, frame.ts, ext, frame.payload);
        if let Ok(Record::Decision { record, .. }) = read
            && record.action == Action::State
            && record.state == RiskState::Halted
        {
            return true;
        }
    }
    false
}

#[test]
fn a_halt_survives_kill_9_and_every_restart_after_it() {
    let mut setup = paced(90);
    setup.more.push_str("[risk]\nmax_daily_loss = \"0.01\"\n");
    setup.pace = "10.0".into();
    let mut engine = Alive::start(&setup);
    poll("risk to halt", || {
        let ended = engine.ended().is_some();
        assert!(!ended, "the run ended unhalted: {}", engine.errors());
        has_halted(&setup).then_some(())
    });
    assert!(engine.kill(), "killed while it ran");

    // Killed again in the middle of its trade, then twice to the end of the capture.
    setup.pace = "25.0".into();
    assert!(kill_at(&setup, Moment::Frames(4_000)));
    setup.pace = "\"max\"".into();
    for _ in 0..2 {
        assert_eq!(Alive::start(&setup).wait().code(), Some(0));
    }

    let runs = runs_of(&setup);
    assert_eq!(runs.len(), 4);
    let inherits = |it: &Run| matches!(it.events[0].news(), News::Command { verb: Verb::Halt, .. });
    assert!(!inherits(&runs[0]), "nothing was there to inherit");
    for run in &runs[1..] {
        assert!(inherits(run), "run {}: {:?}", run.number, run.events[0]);
        let entry =
            |it: &&Decision| it.action == Action::Place && !it.flags.has(OrderFlags::REDUCE_ONLY);
        let entries: Vec<_> = run.decisions.iter().filter(entry).collect();
        assert!(!entries.is_empty(), "run {}: no strategy tried to trade", run.number);
        // A book that is not known yet is the first thing to refuse for.
        let mut halted = 0;
        for decision in entries {
            let said = (decision.verdict, decision.state);
            assert_eq!(said, (Said::Denied, RiskState::Halted), "{}: {decision:?}", run.number);
            let code = decision.code;
            assert!(matches!(code, Code::Halted | Code::MarketDataStale), "{decision:?}");
            halted += u32::from(code == Code::Halted);
        }
        assert!(halted > 0, "run {}", run.number);
    }
    assert!(setup.verify().equal);
}
