//! Recorded frames through the whole pipeline.

use std::collections::BTreeMap;

use kairos_logic::event::{Kind, News, ReportState};
use kairos_logic::order::{Action, Verdict};

use crate::harness::{BOTH, Setup, captures};

/// What happened in a run, asserted before anything is concluded from it.
fn assert_traded(setup: &Setup) {
    let content = setup.content();
    let fills = content.events.iter().filter(|it| matches!(it.1.news(), News::Fill { .. })).count();
    let approved = content.decisions.iter().filter(|it| it.1.verdict == Verdict::Approved).count();
    assert!(content.events.len() > 1_000, "{} events", content.events.len());
    assert!(approved > 10, "{approved} approved");
    assert!(fills > 5, "{fills} fills");
}

#[test]
fn a_seeded_capture_trades_and_its_journal_replays_equal() {
    let setup = Setup::seeded(7, 20);
    setup.run();
    assert_traded(&setup);
    let report = setup.verify();
    assert!(report.equal, "{:?}", report.first_difference);
    assert_eq!(report.unjournaled, 0);
    assert!(report.decisions > 10 && report.events > 1_000);
}

#[test]
fn every_order_that_left_was_approved_and_ends_in_exactly_one_terminal_answer() {
    let setup = Setup::seeded(8, 20);
    setup.run();
    assert_traded(&setup);
    let content = setup.content();
    let mut approved: BTreeMap<_, (u64, i64)> = BTreeMap::new();
    for (seq, decision) in &content.decisions {
        assert!(decision.cause.0 < *seq, "a decision stands behind its cause");
        if decision.action == Action::Place && decision.verdict == Verdict::Approved {
            let before = approved.insert(decision.order, (*seq, decision.qty.0));
            assert!(before.is_none(), "order {} was approved twice", decision.order);
        }
    }
    let mut sent: BTreeMap<_, u64> = BTreeMap::new();
    let mut filled: BTreeMap<_, i64> = BTreeMap::new();
    let mut ended: BTreeMap<_, u64> = BTreeMap::new();
    for (seq, event) in &content.events {
        match event.news() {
            News::Report { order, state: ReportState::Sent, .. } => {
                let (decided, _) = approved.get(&order).expect("only approved orders leave");
                assert!(decided < seq, "the decision is journaled before the order has left");
                *sent.entry(order).or_default() += 1;
            }
            News::Fill { order, qty, .. } => *filled.entry(order).or_default() += qty.0,
            News::Report {
                order,
                state: ReportState::Cancelled | ReportState::Rejected | ReportState::Expired,
                ..
            } => *ended.entry(order).or_default() += 1,
            _ => {}
        }
    }
    assert_eq!(sent.len(), approved.len(), "each approved order leaves");
    for (order, (_, qty)) in &approved {
        assert_eq!(sent.get(order), Some(&1), "order {order} is sent once");
        let whole = filled.get(order).copied().unwrap_or(0) == *qty;
        let answers = ended.get(order).copied().unwrap_or(0) + u64::from(whole);
        assert_eq!(answers, 1, "order {order}: terminal answers");
    }
}

#[test]
fn the_end_of_a_capture_cancels_what_rests() {
    let setup = Setup::seeded(9, 10);
    setup.run();
    let content = setup.content();
    let last = content.events.iter().rev().find_map(|(_, event)| match event.news() {
        News::Report { state: ReportState::Cancelled, code, .. } => Some(code),
        _ => None,
    });
    assert_eq!(last, Some(kairos_logic::code::Code::ShutdownCancel));
}

#[test]
fn every_strategy_for_one_instrument_fills_with_its_defaults_on_the_recorded_btcusdt() {
    let Some(captures) = captures() else { return };
    for kind in ["momentum", "sma_cross", "market_maker"] {
        let mut setup = Setup::seeded(1, 0);
        setup.captures = vec![captures.join("binance/btcusdt_20240808.frames.gz")];
        setup.instruments = vec!["BTCUSDT"];
        setup.strategies = format!("[strategies.only]\nkind = {kind:?}\n");
        setup.more = String::new();
        setup.run();
        let content = setup.content();
        let kinds = |kind| content.events.iter().filter(|it| it.1.kind == kind).count();
        assert_eq!(kinds(Kind::Trade), 9_757);
        assert_eq!(kinds(Kind::Quote), 28_040);
        assert_eq!(kinds(Kind::Gap), 0);
        let fill =
            |it: &&(u64, kairos_logic::event::Event)| matches!(it.1.news(), News::Fill { .. });
        let fills = content.events.iter().filter(fill).count();
        assert!(fills > 0, "{kind}: no fills; {} decisions", content.decisions.len());
        assert!(setup.verify().equal, "{kind}");
    }
}

#[test]
fn several_recorded_files_run_together() {
    let Some(captures) = captures() else { return };
    let mut setup = Setup::seeded(1, 0);
    let names = ["btcusdt_20240808", "ethusdt_20240808"];
    setup.captures =
        names.iter().map(|it| captures.join(format!("binance/{it}.frames.gz"))).collect();
    setup.instruments = vec!["BTCUSDT", "ETHUSDT"];
    setup.strategies = BOTH.into();
    setup.more = "[execution]\nlatency_ms = 5\n".into();
    setup.strategies = setup.strategies.replace("[strategies.tri]\nkind = \"tri_arb\"\n", "");
    setup.run();
    let content = setup.content();
    let mut last = 0;
    for (_, event) in content.events.iter().filter(|it| it.1.kind == Kind::Trade) {
        assert!(last <= event.at.0, "lines are merged by receive time");
        last = event.at.0;
    }
    assert!(setup.verify().equal);
}
