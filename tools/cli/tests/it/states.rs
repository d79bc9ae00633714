//! Journals in every state: empty, killed, absent, foreign, damaged, alive.

use std::fs;
use std::path::{Path, PathBuf};

use kairos_journal::Journal;
use kairos_logic::event::Event;
use kairos_logic::units::Nanos;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::harness::{Said, journal, replay};
use crate::journals::{Written, bytes_of, flip, segments};

/// Every verb that reads a journal, with the options that make it say most.
fn every_verb(dir: &Path) -> Vec<(&'static str, Said)> {
    let mut all: Vec<(&str, Said)> = ["info", "verify", "latency", "recover", "fingerprint"]
        .into_iter()
        .map(|verb| (verb, journal(verb, dir, "--json")))
        .collect();
    all.push(("dump", journal("dump", dir, "")));
    all.push(("replay", replay(dir, "--verify --json")));
    all
}

fn all_exit(dir: &Path, want: i32) -> Vec<(&'static str, Said)> {
    let all = every_verb(dir);
    for (verb, said) in &all {
        assert_eq!(said.status, Some(want), "{verb}: {said:?}");
        assert!(!said.err.contains("panicked"), "{verb}: {said:?}");
    }
    all
}

/// What the verbs say of a journal without events.
fn says_empty(all: &[(&str, Said)]) {
    let document = |verb: &str| all.iter().find(|it| it.0 == verb).unwrap().1.document();
    let info = document("info");
    assert_eq!(info["events"], json!({}));
    assert_eq!((&info["first_at"], &info["last_at"]), (&Value::Null, &Value::Null));
    assert!(info["runs"].is_array() && info["instruments"].is_array(), "{info}");
    let replayed = document("replay");
    for key in ["events", "decisions", "unjournaled"] {
        assert_eq!(replayed[key], 0, "{replayed}");
    }
    assert_eq!((&replayed["equal"], &replayed["first_difference"]), (&json!(true), &Value::Null));
    assert_eq!(document("latency"), json!({}));
    assert_eq!(document("verify")["damaged"], false);
    assert_eq!(all.iter().find(|it| it.0 == "dump").unwrap().1.out, "");
}

#[test]
fn an_empty_directory_is_an_empty_journal() {
    let dir = TempDir::new().unwrap();
    says_empty(&all_exit(dir.path(), 0));
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0, "reading leaves nothing behind");
}

#[test]
fn a_run_that_was_killed_before_its_first_event_is_an_empty_journal() {
    for start in [Written::bare, Written::begin] {
        let dir = TempDir::new().unwrap();
        start(dir.path()).kill();
        says_empty(&all_exit(dir.path(), 0));
        // Once more: recovery has sealed it meanwhile.
        says_empty(&all_exit(dir.path(), 0));
    }
}

#[test]
fn what_is_no_journal_is_a_failure() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("absent");
    for (verb, said) in all_exit(&path, 1) {
        assert!(said.err.contains("absent"), "{verb} names it: {said:?}");
        assert_eq!(said.out, "", "{verb}");
    }
    fs::create_dir(&path).unwrap();
    fs::write(path.join("notes.txt"), "mine").unwrap();
    for (verb, said) in all_exit(&path, 1) {
        assert!(said.err.contains("notes.txt"), "{verb} names it: {said:?}");
    }
    all_exit(&path.join("notes.txt"), 1);
    assert_eq!(bytes_of(&path).len(), 1, "nothing was written there");
}

/// A run of several segments that ended: its ticks are seq 4 to 2 003.
fn ticks(dir: &Path) {
    let mut run = Written::begin(dir);
    for at in 1..=2_000 {
        run.event(&Event::timer(Nanos(at)));
    }
    run.end();
}

/// Where the frame of `seq` lies: its segment's number and file, and its offset there.
fn place(dir: &Path, seq: u64) -> (u64, PathBuf, usize) {
    let opened = Journal::open(dir).unwrap();
    let mut reader = opened.reader_from(seq).unwrap();
    let frame = reader.next().unwrap().unwrap();
    let (segment, offset) = (frame.segment, usize::try_from(frame.offset).unwrap());
    let all = opened.segments().unwrap();
    let file = all.iter().find(|it| it.header.segment == segment).unwrap().path.clone();
    (segment, file, offset)
}

#[test]
fn one_flipped_bit_is_named_with_segment_offset_and_reason() {
    for seq in [2, 700, 2_000] {
        let dir = TempDir::new().unwrap();
        ticks(dir.path());
        let (segment, file, offset) = place(dir.path(), seq);
        flip(&file, offset + 50);
        let all = all_exit(dir.path(), 2);
        let said = |verb: &str| &all.iter().find(|it| it.0 == verb).unwrap().1;

        let verified = said("verify").document();
        assert_eq!(verified["damaged"], true);
        let finding = &verified["findings"][0];
        assert_eq!(
            (&finding["segment"], &finding["offset"], &finding["severity"]),
            (&json!(segment), &json!(offset), &json!("damage"))
        );
        assert!(finding["reason"].as_str().unwrap().contains("checksum"), "{finding}");

        for verb in ["dump", "replay", "info", "latency", "fingerprint"] {
            let err = &said(verb).err;
            for part in
                [format!("segment {segment}"), format!("offset {offset}"), "checksum".into()]
            {
                assert!(err.contains(&part), "{verb}: {part} in {err}");
            }
        }
        let before = said("dump").lines().len() as u64;
        assert_eq!(before, seq.saturating_sub(4), "what stands before the damage is shown");
        assert!(said("recover").err.contains("segment"), "{:?}", said("recover"));
        let refused = said("recover").document();
        assert_eq!((&refused["verdict"], &refused["kept"]), (&json!("CORRUPT"), &Value::Null));
        // Recovery may notice first that the segment behind it does not continue it.
        for key in ["file", "reason"] {
            let part = refused[key].as_str().unwrap();
            assert!(said("recover").err.contains(part), "{key}: {refused}");
        }

        let text = journal("verify", dir.path(), "").expect(2);
        let named = format!("segment {segment} offset {offset}");
        assert!(text.out.contains(&named) && text.out.contains("DAMAGED"), "{text:?}");
    }
}

#[test]
fn a_flipped_bit_anywhere_is_found() {
    let dir = TempDir::new().unwrap();
    ticks(dir.path());
    for (file, bytes) in bytes_of(dir.path()) {
        // The lock says who is alive; nothing of the history is in it.
        if file.ends_with("lock") || bytes.is_empty() {
            continue;
        }
        for at in (0..bytes.len()).step_by(bytes.len().div_ceil(16)) {
            flip(&file, at);
            let said = journal("verify", dir.path(), "--json");
            assert_eq!(said.status, Some(2), "{} at {at}: {said:?}", file.display());
            flip(&file, at);
        }
    }
    journal("verify", dir.path(), "").expect(0);
}

#[test]
fn another_magic_or_version_and_missing_segments_are_damage() {
    let check = |spoil: &dyn Fn(&Path)| {
        let dir = TempDir::new().unwrap();
        ticks(dir.path());
        spoil(dir.path());
        let all = all_exit(dir.path(), 2);
        let said = &all.iter().find(|it| it.0 == "recover").unwrap().1;
        assert_eq!(said.document()["verdict"], "CORRUPT", "{said:?}");
    };
    let first = |dir: &Path| segments(dir)[0].clone();
    check(&|dir| flip(&first(dir), 0));
    check(&|dir| flip(&first(dir), 8));
    check(&|dir| fs::remove_file(first(dir)).unwrap());
    check(&|dir| {
        let bytes = fs::read(first(dir)).unwrap();
        fs::write(first(dir), &bytes[..bytes.len() / 2]).unwrap();
    });
    check(&|dir| fs::write(first(dir), b"").unwrap());
}

#[test]
fn a_killed_run_is_readable_recovers_once_and_stays_equal() {
    let dir = TempDir::new().unwrap();
    let mut run = Written::begin(dir.path());
    for at in 1..=10 {
        run.event(&Event::timer(Nanos(at)));
    }
    run.kill();
    let before = journal("dump", dir.path(), "").expect(0);
    assert_eq!(before.out.lines().count(), 10);
    journal("verify", dir.path(), "").expect(0);
    let refused = journal("recover", dir.path(), "--mode absolute --json").expect(2);
    assert_eq!(refused.document()["verdict"], "CRASHED");
    let report = journal("recover", dir.path(), "--json").expect(0).document();
    assert_eq!((&report["verdict"], &report["kept"]), (&json!("CRASHED"), &json!([1, 13])));
    let again = journal("recover", dir.path(), "--json").expect(0).document();
    assert_eq!((&again["verdict"], &again["already_sealed"]), (&json!("CRASHED"), &json!(true)));
    let text = journal("recover", dir.path(), "").expect(0);
    assert!(text.out.starts_with("CRASHED: ") && text.out.contains("kept seq 1 to 13"), "{text:?}");
    assert_eq!(journal("dump", dir.path(), "").expect(0).out, before.out);
    let info = journal("info", dir.path(), "--json").expect(0).document();
    assert_eq!(info["runs"][0]["status"], "CRASH_SEALED");
}

#[test]
fn a_living_journal_is_read_and_not_touched() {
    let dir = TempDir::new().unwrap();
    let mut run = Written::begin(dir.path());
    for at in 1..=10 {
        run.event(&Event::timer(Nanos(at)));
    }
    let before = bytes_of(dir.path());
    let info = journal("info", dir.path(), "--json").expect(0).document();
    assert_eq!((&info["live"], &info["events"]), (&json!(true), &json!({ "timer": 10 })));
    assert_eq!(journal("verify", dir.path(), "--json").expect(0).document()["live"], true);
    assert_eq!(journal("dump", dir.path(), "").expect(0).out.lines().count(), 10);
    journal("latency", dir.path(), "").expect(0);
    let owned = journal("recover", dir.path(), "").expect(1);
    assert!(owned.err.contains("owned by another engine"), "{owned:?}");
    assert_eq!(bytes_of(dir.path()), before);
    run.end();
}
