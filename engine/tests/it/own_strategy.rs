//! The demo, and a strategy of one's own in a binary of one's own: what a newcomer runs first.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use kairos_logic::event::News;
use kairos_logic::order::{Action, Verdict};
use serde_json::Value;

use crate::harness::{Content, Setup};
use crate::process::{config_file, engine, say};

/// The example's binary. `cargo test` builds it beside the tests, `cargo test --test it` does not: so
/// cargo is asked, who does nothing where it is of today.
fn dip_buyer() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(build_dip_buyer)
}

fn build_dip_buyer() -> PathBuf {
    let engine = Path::new(env!("CARGO_BIN_EXE_kairos-engine"));
    let is_release = engine.parent().is_some_and(|it| it.ends_with("release"));
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
    let mut cargo = Command::new(env!("CARGO"));
    cargo.current_dir(env!("CARGO_MANIFEST_DIR")).arg("build");
    cargo.args(["--example", "dip_buyer", "--offline", "--locked", "--message-format", "json"]);
    cargo.args(["--profile", if is_release { "bench" } else { "test" }]);
    let built = say(cargo.arg("--target-dir").arg(target));
    assert_eq!(built.status, Some(0), "{}", built.err);
    let artifacts = built.out.lines().filter_map(|it| serde_json::from_str::<Value>(it).ok());
    let mut programs = artifacts.filter(|it| it["target"]["name"] == "dip_buyer");
    let program = programs.find_map(|it| it["executable"].as_str().map(PathBuf::from));
    program.expect("cargo says what it has built")
}

/// Approved orders and fills by strategy, in the order of their numbers.
fn by_strategy(content: &Content) -> Vec<(u64, u64)> {
    let mut owner = BTreeMap::new();
    let mut counts: BTreeMap<u8, (u64, u64)> = BTreeMap::new();
    for (_, decision) in &content.decisions {
        if decision.action == Action::Place && decision.verdict == Verdict::Approved {
            owner.insert(decision.order, decision.strategy.0);
            counts.entry(decision.strategy.0).or_default().0 += 1;
        }
    }
    for (_, event) in &content.events {
        if let News::Fill { order, .. } = event.news() {
            counts.entry(owner[&order]).or_default().1 += 1;
        }
    }
    counts.into_values().collect()
}

/// Runs the demo of a binary, with further arguments.
fn demo(program: &mut Command, dir: &Path, more: &[&str]) -> (Value, Content) {
    program.args(["demo", "--json", "--seed", "7", "--dir"]).arg(dir).args(more);
    let said = say(program);
    assert_eq!(said.status, Some(0), "{said:?}");
    assert!(!said.err.contains('\u{1b}') && !said.out.contains('\u{1b}'), "no ANSI: {said:?}");
    let told: Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!(told["replay"]["equal"], true, "{told}");
    assert_eq!(told["replay"]["unjournaled"], 0, "{told}");
    let content = Content::of(&dir.join("journal"));
    (told, content)
}

#[test]
fn the_demo_trades_with_both_of_its_strategies_and_tells_what_its_journal_says() {
    let dir = tempfile::tempdir().unwrap();
    let (told, content) = demo(&mut engine(), dir.path(), &["--seconds", "4"]);
    let strategies = by_strategy(&content);
    assert_eq!(strategies.len(), 2, "{strategies:?}");
    for (orders, fills) in &strategies {
        assert!(*orders > 0 && *fills > 0, "orders and fills by strategy: {strategies:?}");
    }
    // Every number is the journal's.
    let fills: u64 = strategies.iter().map(|it| it.1).sum();
    assert_eq!(told["fills"], fills);
    assert_eq!(told["orders"], strategies.iter().map(|it| it.0).sum::<u64>());
    assert_eq!(told["replay"]["events"], content.events.len());
    assert_eq!(told["replay"]["decisions"], content.decisions.len());
    let kinds = told["events"].as_object().unwrap();
    let events: u64 = kinds.values().filter_map(Value::as_u64).sum();
    assert_eq!(events, content.events.len() as u64, "{kinds:?}");
    assert_eq!((&told["gaps"], &told["malformed"]), (&0.into(), &0.into()), "{told}");
    for span in ["recv→in", "in→strategy", "strategy→risk", "risk→sent", "tick→order"] {
        let span = &told["latency"][span];
        assert!(span["count"].as_u64().is_some_and(|it| it > 0), "{told}");
        assert!(span["p50_ns"].as_u64() <= span["max_ns"].as_u64(), "{told}");
    }
    assert!(told["pnl"]["profit"].is_string(), "{told}");

    // For people: the same, as lines.
    let again = tempfile::tempdir().unwrap();
    let said = say(engine().args(["demo", "--seconds", "1", "--dir"]).arg(again.path()));
    assert_eq!(said.status, Some(0), "{said:?}");
    for line in ["P&L", "journal", "replay    equal", "tick→order"] {
        assert!(said.out.contains(line), "{line}: {said:?}");
    }
}

#[test]
fn a_strategy_of_ones_own_decides_on_the_demos_exchange() {
    let dir = tempfile::tempdir().unwrap();
    let more = ["--seconds", "4", "--strategy", "dip_buyer"];
    let (_, content) = demo(&mut Command::new(dip_buyer()), dir.path(), &more);
    // Sections are in the order of their names: `further` is the first.
    let ours = content.decisions.iter().filter(|it| it.1.strategy.0 == 0).count();
    assert!(ours > 0, "{} decisions, none of the strategy's own", content.decisions.len());
    let refused = say(engine().args(["replay", "--verify"]).arg(dir.path().join("journal")));
    assert_eq!(refused.status, Some(1), "{refused:?}");
    assert!(refused.err.contains("\"dip_buyer\": is not a known kind"), "{refused:?}");
}

#[test]
fn a_strategy_of_ones_own_trades_a_capture_and_replays_in_its_own_binary() {
    let mut setup = Setup::seeded(50, 40);
    setup.strategies = "[strategies.own]\nkind = \"dip_buyer\"\ndip_bps = 2\n".into();
    let said = say(Command::new(dip_buyer()).args(["run", "--config"]).arg(config_file(&setup)));
    assert_eq!(said.status, Some(0), "{said:?}");
    let strategies = by_strategy(&setup.content());
    assert!(strategies[0].0 > 2 && strategies[0].1 > 2, "{strategies:?}");
    let journal = setup.journal_dir();
    let said = say(Command::new(dip_buyer()).args(["replay", "--verify"]).arg(&journal));
    assert_eq!(said.status, Some(0), "{said:?}");
    assert!(said.out.contains("equal: every decision is the journaled one"), "{said:?}");
    let mistyped = setup.strategies.replace("dip_bps", "dipp_bps");
    setup.strategies = mistyped;
    let said = say(Command::new(dip_buyer()).args(["check", "--config"]).arg(config_file(&setup)));
    assert_eq!(said.status, Some(78), "{said:?}");
    assert!(
        said.err.contains("strategies.own.dipp_bps") && said.err.contains("dip_bps"),
        "{said:?}"
    );
}
