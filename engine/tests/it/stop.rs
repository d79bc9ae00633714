//! However a run is asked to stop, it leaves a whole journal: orders cancelled, the end written,
//! everything on disk. And the kill switch lets nothing pass any more.

use std::collections::BTreeMap;

use kairos_journal::{Journal, RunStatus};
use kairos_logic::code::Code;
use kairos_logic::event::{News, ReportState, StatusCode, Verb};
use kairos_logic::order::{Action, RiskState, Verdict};

use crate::harness::{Content, Setup};
use crate::process::{Alive, Follower, poll};

/// A strategy whose quotes are so far away that they always rest.
pub const ALWAYS_RESTING: &str = "[strategies.far]\nkind = \"market_maker\"\n\
    instruments = [\"ETHUSDT\"]\nhalf_spread_bps = 40\nrefresh_interval_ms = 200\n";

/// Twenty seconds of market in two, so that a signal comes in the middle of it.
fn running(seed: u64) -> (Setup, Alive, Follower) {
    let mut setup = Setup::seeded(seed, 20);
    setup.pace = "10.0".into();
    setup.strategies.push_str(ALWAYS_RESTING);
    let mut engine = Alive::start(&setup);
    let mut follower = Follower::new(&setup.journal_dir());
    reach(&mut engine, &mut follower, 2_000);
    (setup, engine, follower)
}

/// Waits until another process has read that many frames.
fn reach(engine: &mut Alive, follower: &mut Follower, frames: u64) {
    poll("the journal to grow", || {
        assert!(engine.ended().is_none(), "{}", engine.errors());
        follower.look(u64::MAX);
        follower.seen.is_some_and(|it| it >= frames).then_some(())
    });
}

fn stops_in_order(signal: i32, seed: u64) {
    let (setup, mut engine, follower) = running(seed);
    engine.signal(signal);
    assert_eq!(engine.wait().code(), Some(0), "{}", engine.errors());
    assert!(follower.is_kept());

    let runs = Journal::open(&setup.journal_dir()).unwrap().runs().unwrap();
    assert_eq!(runs.last().unwrap().status, RunStatus::Ended);
    let report = setup.verify();
    assert!(report.equal && report.unjournaled == 0, "{:?}", report.first_difference);
    let content = setup.content();
    let events = || content.events.iter().map(|it| it.1.news());
    let whole =
        events().any(|it| matches!(it, News::Status { code: StatusCode::EndOfCapture, .. }));
    assert!(!whole, "the signal came before the capture's end");
    let stops = events().filter(|it| matches!(it, News::Command { verb: Verb::Stop, .. })).count();
    assert_eq!(stops, 1, "a stop is an event");
    assert_nothing_is_left_open(&content, Verb::Stop, Code::ShutdownCancel);
    let durable = Journal::open(&setup.journal_dir()).unwrap().watermark().unwrap().unwrap();
    assert_eq!(Some(durable.seq), runs.last().unwrap().last_seq, "everything is on disk");
}

/// What was open when the command came is cancelled for it, or was over by itself meanwhile. Says how
/// many were cancelled.
pub fn assert_nothing_is_left_open(content: &Content, command: Verb, why: Code) -> usize {
    // A cancel names its order, and no quantity.
    let placed = content.decisions.iter().filter(|it| it.1.action == Action::Place);
    let whole: BTreeMap<_, _> = placed.map(|(_, it)| (it.order, it.qty.0)).collect();
    let mut open = BTreeMap::new();
    let mut at_stop = 0;
    let mut cancelled = 0;
    for (_, event) in &content.events {
        match event.news() {
            News::Command { verb, .. } if verb == command => at_stop = open.len(),
            News::Report { order, state: ReportState::Sent, .. } => {
                open.insert(order, whole[&order]);
            }
            News::Fill { order, qty, .. } => {
                let left = open.get_mut(&order).expect("a fill is of an open order");
                *left -= qty.0;
                if *left == 0 {
                    open.remove(&order);
                }
            }
            News::Report {
                order,
                state: ReportState::Cancelled | ReportState::Rejected | ReportState::Expired,
                code,
                ..
            } => {
                open.remove(&order);
                cancelled += usize::from(code == why);
            }
            _ => {}
        }
    }
    assert!(open.is_empty(), "left open: {open:?}");
    assert!(at_stop == 0 || cancelled > 0, "{at_stop} were open at the {command:?}");
    cancelled
}

#[test]
fn an_interrupt_leaves_a_flushed_journal() {
    stops_in_order(libc::SIGINT, 100);
}

#[test]
fn a_termination_leaves_a_flushed_journal() {
    stops_in_order(libc::SIGTERM, 101);
}

#[test]
fn the_kill_switch_lets_nothing_pass_and_is_in_the_journal() {
    let (setup, mut engine, mut follower) = running(102);
    engine.signal(libc::SIGUSR2);
    let before = follower.seen.unwrap();
    reach(&mut engine, &mut follower, before + 2_000);
    engine.signal(libc::SIGTERM);
    assert_eq!(engine.wait().code(), Some(0), "{}", engine.errors());

    let content = setup.content();
    let kill = content
        .events
        .iter()
        .find(|it| matches!(it.1.news(), News::Command { verb: Verb::Kill, .. }));
    let (from, _) = kill.expect("a kill is an event");
    let after = content.decisions.iter().filter(|it| it.1.cause.0 > *from);
    let orders: Vec<_> = after.filter(|it| it.1.action == Action::Place).collect();
    assert!(!orders.is_empty(), "no strategy tried");
    for (_, order) in orders {
        assert_eq!((order.verdict, order.state), (Verdict::Denied, RiskState::Killed), "{order:?}");
    }
    assert!(setup.verify().equal);
}
