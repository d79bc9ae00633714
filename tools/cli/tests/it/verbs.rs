//! What `info`, `verify`, `recover` and `fingerprint` say of a journal that the engine wrote.

use serde_json::{Value, json};
use tempfile::TempDir;

use kairos_logic::event::Event;
use kairos_logic::units::Nanos;

use crate::harness::journal;
use crate::journals::{START_NS, STRATEGIES, Traded, Written};

#[test]
fn info_says_what_a_journal_holds() {
    let traded = Traded::new();
    let info = journal("info", &traded.journal(), "--json").expect(0).document();
    assert_eq!(info["instruments"], json!(["BTCUSDT", "ETHUSDT", "ETHBTC"]));
    let (first, last) = (info["first_at"].as_u64().unwrap(), info["last_at"].as_u64().unwrap());
    assert!((START_NS..first + 1).contains(&START_NS) && first < last, "{info}");
    assert!(last - first < 3_000_000_000, "two seconds were recorded: {info}");
    let run = &info["runs"][0];
    assert_eq!(
        (&run["run"], &run["status"], &run["first_seq"]),
        (&json!(1), &json!("ENDED"), &json!(1))
    );
    assert_eq!(run["strategies"].as_array().unwrap().len(), STRATEGIES.matches("kind").count());
    let config: &str = run["config"].as_str().unwrap();
    assert!(config.contains("tri_arb") && config.contains("[engine]"), "{config}");
    assert!(info["events"]["trade"].as_u64().unwrap() > 0);
    assert_eq!(info["segments"][0]["state"], "sealed");

    let text = journal("info", &traded.journal(), "").expect(0);
    for part in ["ENDED", "BTCUSDT, ETHUSDT, ETHBTC", "tri_arb", "decision", "Sealed"] {
        assert!(text.out.contains(part), "{part} in {}", text.out);
    }
    assert_eq!(text.err, "");
}

#[test]
fn info_counts_every_run() {
    let dir = TempDir::new().unwrap();
    for ticks in [3, 4] {
        let mut run = Written::begin(dir.path());
        for at in 1..=ticks {
            run.event(&Event::timer(Nanos(START_NS + at)));
        }
        run.end();
    }
    let info = journal("info", dir.path(), "--json").expect(0).document();
    let runs: Vec<&Value> = info["runs"].as_array().unwrap().iter().map(|it| &it["run"]).collect();
    assert_eq!(runs, [&json!(1), &json!(2)]);
    assert_eq!(info["events"], json!({ "timer": 7 }));
    assert_eq!((&info["first_at"], &info["last_at"]), (&json!(START_NS + 1), &json!(START_NS + 4)));
    assert_eq!(info["instruments"], json!(["BTCUSDT"]));
    let text = journal("info", dir.path(), "").expect(0).out;
    assert_eq!(text.matches("name = \"written\"").count(), 1, "once where it is the same: {text}");
}

#[test]
fn verify_and_recover_find_nothing_wrong() {
    let traded = Traded::new();
    let said = journal("verify", &traded.journal(), "--json").expect(0).document();
    assert_eq!((&said["damaged"], &said["findings"]), (&json!(false), &json!([])));
    assert_eq!(said["first_seq"], 1);
    assert!(said["events"].as_u64().unwrap() > 1_000, "{said}");
    let text = journal("verify", &traded.journal(), "").expect(0);
    assert!(text.out.starts_with("clean: "), "{text:?}");
    let report = journal("recover", &traded.journal(), "--json").expect(0).document();
    assert_eq!(report["verdict"], "CLEAN");
    journal("recover", &traded.journal(), "--mode absolute").expect(0);
}

#[test]
fn equal_runs_have_one_fingerprint() {
    let print = |traded: &Traded| {
        let said = journal("fingerprint", &traded.journal(), "--json").expect(0).document();
        (said["fingerprint"].as_str().unwrap().to_owned(), said["frames"].as_u64().unwrap())
    };
    let traded = Traded::new();
    let (digest, frames) = print(&traded);
    assert_eq!(digest.len(), 64);
    let text = journal("fingerprint", &traded.journal(), "").expect(0);
    assert_eq!(text.out, format!("{digest}  {frames} frames\n"));

    let fingerprint = |at: u64| {
        let dir = TempDir::new().unwrap();
        let mut run = Written::begin(dir.path());
        run.event(&Event::timer(Nanos(at)));
        run.end();
        journal("fingerprint", dir.path(), "").expect(0).out
    };
    assert_eq!(fingerprint(5), fingerprint(5));
    assert_ne!(fingerprint(5), fingerprint(6));
}

#[test]
fn salvage_copies_what_reads_into_a_new_journal() {
    let traded = Traded::new();
    let out = TempDir::new().unwrap();
    let into = out.path().join("saved");
    let option = format!("--json --out {}", into.display());
    let said = journal("salvage", &traded.journal(), &option).expect(0).document();
    let events = said["events"].as_u64().unwrap();
    assert!(events > 1_000, "{said}");
    assert_eq!(said["lost"], json!([]));
    let saved = journal("verify", &into, "--json").expect(0).document();
    assert_eq!(saved["events"].as_u64(), Some(events));
    // A second time there is something in the way.
    journal("salvage", &traded.journal(), &option).expect(1);
}
