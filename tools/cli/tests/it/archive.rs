//! Every verb over an archive: compressed segments, and runs that are gone.

use std::path::Path;

use kairos_journal::archive::{ArchiveOptions, Archiver};
use kairos_journal::cursors::{self, Position};
use kairos_logic::event::Event;
use kairos_logic::units::Nanos;
use serde_json::json;
use tempfile::TempDir;

use crate::harness::{journal, kairos, replay};
use crate::journals::{START_NS, Written};

/// A journal of `runs` runs of four segments and more.
fn written(runs: u64) -> TempDir {
    let dir = TempDir::new().unwrap();
    for run in 0..runs {
        let mut written = Written::begin(dir.path());
        for at in 1..=2_500 {
            written.event(&Event::timer(Nanos(START_NS + run * 10_000 + at)));
        }
        written.end();
    }
    dir
}

fn compress(dir: &Path) -> u64 {
    let ring = TempDir::new().unwrap();
    let mut archiver = Archiver::open(ArchiveOptions::new(dir, ring.path())).unwrap();
    while archiver.upkeep() {}
    assert_eq!(archiver.progress().kept.trouble, None);
    archiver.progress().kept.packed
}

#[test]
fn every_verb_says_of_compressed_segments_what_it_says_of_plain_ones() {
    let dir = written(2);
    let say = || {
        let verb = |verb: &str, more: &str| journal(verb, dir.path(), more).expect(0).out;
        [
            verb("dump", ""),
            verb("dump", "--from-seq 1700 --limit 5"),
            verb("dump", "--from-seq 4000 --to-seq 4100 --format csv"),
            verb("fingerprint", "--json"),
            verb("latency", "--json"),
            verb("verify", "--json"),
            replay(dir.path(), "--verify --json").expect(0).out,
        ]
    };
    let plain = say();
    assert!(compress(dir.path()) >= 3);
    let packed = say();
    for (at, (plain, packed)) in plain.iter().zip(&packed).enumerate() {
        assert!(plain == packed, "{at}: {plain:.300}\n{packed:.300}");
    }
    let report = journal("recover", dir.path(), "--mode absolute --json").expect(0).document();
    assert_eq!(report["verdict"], "CLEAN");
    let info = journal("info", dir.path(), "--json").expect(0).document();
    assert_eq!(info["events"]["timer"], 5_000);
    assert!(info["segments"][0]["file"].as_str().unwrap().ends_with(".jnl.zst"), "{info}");
}

#[test]
fn prune_shows_what_may_go_and_removes_it_only_when_asked() {
    let dir = written(3);
    let runs = |more: &str| {
        let said = journal("prune", dir.path(), &format!("{more} --json")).expect(0).document();
        let runs = said["plan"]["runs"].as_array().unwrap();
        (said["applied"].as_bool().unwrap(), runs.iter().map(|it| it["run"].clone()).collect())
    };
    let none = Vec::<serde_json::Value>::new();
    assert_eq!(runs(""), (false, none.clone()), "without a bound nothing goes");
    // Segments are small here: a mebibyte holds them all, so the bound has to be under it.
    assert_eq!(runs("--max-mib 1"), (false, none));
    let bytes: u64 = std::fs::read_dir(dir.path().join("seg"))
        .unwrap()
        .map(|it| it.unwrap().metadata().unwrap().len())
        .sum();
    assert!(bytes < 2 << 20, "{bytes}");
    for more in 0..40 {
        // Enough further runs that the mebibyte is full.
        let mut written = Written::begin(dir.path());
        written.event(&Event::timer(Nanos(START_NS + 50_000 + more)));
        written.end();
    }
    let plan = journal("prune", dir.path(), "--max-mib 1 --dry-run").expect(0).out;
    assert!(plan.starts_with("run 1: ") && plan.contains("would be removed"), "{plan}");
    journal("prune", dir.path(), "--max-mib 1 --dry-run --apply").expect(64);
    let missing =
        journal("prune", dir.path(), "--max-mib 1 --required-sink postgres").expect(0).out;
    assert!(missing.contains("run 1: sink postgres has not said where it is"), "{missing}");
    let forced = "--max-mib 1 --required-sink postgres --drop-undrained";
    let lost = journal("prune", dir.path(), forced).expect(0).out;
    assert!(lost.contains("sink postgres loses what it has not taken"), "{lost}");
    journal("prune", dir.path(), "--keep-days 1 --drop-undrained").expect(64);
    cursors::publish(dir.path(), "postgres", Position { run: 1, seq: 2_503 }).unwrap();
    let early = journal("prune", dir.path(), "--max-mib 1").expect(0).out;
    assert!(early.contains("sink postgres was at run 0 seq 0 3600 s ago"), "{early}");
    let hold = |words: &str, status: i32| {
        let (verb, rest) = words.split_once(' ').unwrap_or((words, ""));
        let words = ["journal", "hold", verb, dir.path().to_str().unwrap()];
        kairos(words.into_iter().chain(rest.split_whitespace())).expect(status).out
    };
    assert!(hold("add mine --reason audit", 0).contains("mine: keeps run 1 and later ones: audit"));
    let held = journal("prune", dir.path(), "--max-mib 1 --prune-safety-s 0").expect(0).out;
    assert!(held.contains("run 1: hold mine keeps run 1"), "{held}");
    let listed: serde_json::Value = serde_json::from_str(&hold("ls --json", 0)).unwrap();
    assert_eq!(listed["holds"][0]["name"], "mine", "{listed}");
    hold("rm mine", 0);
    hold("rm mine", 1);
    assert_eq!(hold("ls", 0).trim(), "no holds");
    let (applied, gone) = runs("--max-mib 1 --prune-safety-s 0 --apply");
    assert_eq!((applied, gone), (true, vec![json!(1)]));
    let said = journal("verify", dir.path(), "--json").expect(0).document();
    assert_eq!((&said["damaged"], &said["first_seq"]), (&json!(false), &json!(2_504)));
    replay(dir.path(), "--verify").expect(0);
    journal("prune", &dir.path().join("nowhere"), "").expect(1);
    std::fs::write(dir.path().join("cursors/postgres.json"), b"{}").unwrap();
    journal("prune", dir.path(), "--max-mib 1").expect(2);
}
