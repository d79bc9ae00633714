//! `replay`: the same decisions again, other decisions under another configuration, and a journal
//! that says something else.

use std::fs;
use std::path::Path;

use kairos_edge::frames::{Assembler, CONFIG, Cold, Record};
use kairos_journal::Journal;
use kairos_logic::order::Decision;
use kairos_logic::units::Qty;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::harness::{journal, replay};
use crate::journals::{Traded, Written};

fn decisions(dir: &Path, more: &str) -> Vec<Value> {
    journal("dump", dir, &format!("--kind decision {more}")).expect(0).lines()
}

#[test]
fn what_the_engine_decided_is_decided_again() {
    let traded = Traded::new();
    let said = replay(&traded.journal(), "--verify --json").expect(0).document();
    let info = journal("info", &traded.journal(), "--json").expect(0).document();
    let events: u64 = info["events"].as_object().unwrap().values().filter_map(Value::as_u64).sum();
    let decided = decisions(&traded.journal(), "").len() as u64;
    assert!(decided > 10, "{decided} decisions");
    assert_eq!(said["decisions"], decided);
    assert_eq!(said["events"], events - decided);
    assert_eq!((&said["unjournaled"], &said["equal"]), (&json!(0), &json!(true)));
    assert_eq!(said["first_difference"], Value::Null);

    let text = replay(&traded.journal(), "--verify").expect(0).out;
    assert!(text.contains("equal: every decision is the journaled one"), "{text}");
    let text = replay(&traded.journal(), "").expect(0).out;
    assert!(text.contains(&format!("{decided} decisions")) && !text.contains("equal"), "{text}");
}

#[test]
fn a_range_compares_what_lies_in_it() {
    let traded = Traded::new();
    let all = decisions(&traded.journal(), "");
    let seq = |n: usize| all[n].clone()["seq"].as_u64().unwrap();
    let (from, to) = (seq(all.len() / 3), seq(all.len() * 2 / 3));
    let check = |options: &str| {
        let compared = replay(&traded.journal(), &format!("--verify --json {options}"));
        let compared = compared.expect(0).document();
        let listed = decisions(&traded.journal(), options).len();
        assert_eq!(compared["decisions"], listed, "{options}: {compared}");
        assert_eq!(compared["equal"], true, "{options}");
    };
    check(&format!("--from-seq {from}"));
    check(&format!("--to-seq {to}"));
    check(&format!("--from-seq {from} --to-seq {to}"));
    check("--from-seq 999999999");
    check("--to-seq 0");
}

/// Writes a copy of a journal in which `change` had its way with every decision, and `config` with
/// the configuration.
fn rewritten(
    from: &Path,
    change: impl Fn(usize, Decision) -> Option<Decision>,
    config: impl Fn(String) -> String,
) -> TempDir {
    let dir = TempDir::new().unwrap();
    let mut run = Written::bare(dir.path());
    let mut reader = Journal::open(from).unwrap().reader();
    let mut parts = Assembler::default();
    let mut decided = 0;
    while let Some(frame) = reader.next().unwrap() {
        if frame.is_physical() {
            continue;
        }
        let (ts, ext, payload) = (frame.ts, frame.ext(), frame.payload);
        let record = Record::read(frame.kind, frame.schema, ts, ext, payload).unwrap();
        match record {
            Record::Decision { record, strategy_at, risk_at } => {
                if let Some(record) = change(decided, record) {
                    run.decision(&record, (strategy_at, risk_at));
                }
                decided += 1;
            }
            Record::Event(event) => {
                run.event(&event);
            }
            Record::Part(part) if part.kind == CONFIG => {
                if let Some(Cold::Config(text)) = parts.push(&part).unwrap() {
                    run.cold(&Cold::Config(config(text)));
                }
            }
            Record::Part(_) => run.append_again(&frame),
        }
    }
    run.end();
    dir
}

#[test]
fn a_changed_decision_is_shown_beside_what_should_stand_there() {
    let traded = Traded::new();
    let all = decisions(&traded.journal(), "");
    let place = all.iter().rposition(|it| it["action"] == "place").unwrap();
    let changed = rewritten(
        &traded.journal(),
        |n, decision| {
            let more = if n == place { 1 } else { 0 };
            Some(Decision { qty: Qty(decision.qty.0 + more), ..decision })
        },
        |config| config,
    );
    let (seq, cause) = (all[place]["seq"].as_u64().unwrap(), &all[place]["cause"]);
    journal("verify", changed.path(), "").expect(0);

    let said = replay(changed.path(), "--verify --json").expect(2).document();
    assert_eq!(said["equal"], false);
    let difference = &said["first_difference"];
    assert_eq!((&difference["seq"], &difference["cause"]), (&json!(seq), cause));
    assert_eq!(difference["cause_event"]["seq"], *cause);
    assert_eq!(difference["recomputed"]["qty"], all[place]["qty"]);
    assert_ne!(difference["journaled"]["qty"], all[place]["qty"]);
    let strategy = &all[place]["strategy"];
    assert!(strategy.as_str().is_some_and(|it| ["tri", "mom", "mm"].contains(&it)), "{strategy}");
    for side in ["journaled", "recomputed"] {
        assert_eq!(&difference[side]["strategy"], strategy, "as dump names it");
    }

    let text = replay(changed.path(), "--verify").expect(2).out;
    for part in ["first difference", "journaled", "recomputed", "cause"] {
        assert!(text.contains(part), "{part} in {text}");
    }
    replay(changed.path(), "").expect(0);
    replay(changed.path(), &format!("--verify --from-seq {}", seq + 1)).expect(0);
    replay(changed.path(), &format!("--verify --to-seq {}", seq - 1)).expect(0);
}

#[test]
fn a_decision_that_is_missing_from_an_ended_run_is_a_difference() {
    let traded = Traded::new();
    let all = decisions(&traded.journal(), "");
    let last = all.len() - 1;
    let changed = rewritten(
        &traded.journal(),
        |n, decision| (n != last).then_some(decision),
        |config| config,
    );
    let said = replay(changed.path(), "--verify --json").expect(2).document();
    let difference = &said["first_difference"];
    assert_eq!((&difference["journaled"], &difference["seq"]), (&Value::Null, &Value::Null));
    assert_eq!(difference["recomputed"]["action"], all[last]["action"]);
    assert_eq!(difference["cause"], all[last]["cause"]);
    let text = replay(changed.path(), "--verify").expect(2).out;
    assert!(text.contains("journaled  nothing"), "{text}");
}

#[test]
fn a_strategy_of_another_binary_is_named() {
    let traded = Traded::new();
    let foreign = rewritten(
        &traded.journal(),
        |_, decision| Some(decision),
        |config| config.replace("\"momentum\"", "\"somebodys_own\""),
    );
    let said = replay(foreign.path(), "--verify").expect(1);
    assert!(said.err.contains("somebodys_own"), "{said:?}");
    journal("info", foreign.path(), "").expect(0);
}

#[test]
fn inputs_without_a_configuration_cannot_be_repeated() {
    let dir = TempDir::new().unwrap();
    let mut run = Written::bare(dir.path());
    run.event(&kairos_logic::event::Event::timer(kairos_logic::units::Nanos(1)));
    run.end();
    let said = replay(dir.path(), "--verify").expect(2);
    assert!(said.err.contains("configuration"), "{said:?}");
}

#[test]
fn what_if_reports_other_decisions() {
    let traded = Traded::new();
    let ask = |toml: &str, json: &str| {
        let file = traded.beside("layer.toml");
        fs::write(&file, toml).unwrap();
        replay(&traded.journal(), &format!("--what-if {} {json}", file.display()))
    };
    let same = ask("", "--json").expect(0).document();
    assert_eq!((&same["differences"], &same["withheld"]), (&json!(0), &json!(0)), "{same}");
    assert_eq!(same["journaled"], decisions(&traded.journal(), "").len());

    let tight = "[risk]\nmax_order_notional = \"1\"\n";
    let said = ask(tight, "--json").expect(0).document();
    assert!(said["differences"].as_u64().unwrap() > 0, "{said}");
    assert!(
        said["withheld"].as_u64().unwrap() > 0,
        "reports of orders that would not exist: {said}"
    );
    let first = &said["changed"][0];
    assert!(first["cause"].is_u64() && first["text"].is_string(), "{first}");
    let text = ask(tight, "").expect(0).out;
    assert!(text.contains("would have been denied: max_order_size_exceeded"), "{text}");

    for wrong in ["[risk]\nmax_order_notional = \"lots\"\n", "[risk]\nno_such_key = 1\n", "[risk"] {
        let said = ask(wrong, "").expect(78);
        assert!(!said.err.is_empty() && said.out.is_empty(), "{said:?}");
    }
    let absent = format!("--what-if {}", traded.beside("absent.toml").display());
    let said = replay(&traded.journal(), &absent).expect(78);
    assert!(said.err.contains("absent.toml"), "{said:?}");
}
