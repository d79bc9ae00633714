//! The archiver as a part of the drain.

use std::fs;
use std::thread;
use std::time::Duration;

use kairos_drain::archive::ArchiveStatus;

use super::harness::{Dice, Place, Running, until};
use super::journal::Written;
use super::whole::{all_hold_all, end_of};

fn hot() -> Place {
    Place { hot: true, ..Place::with_files() }
}

fn begin(place: &Place, run: u64) -> Written {
    Written::begin_hot(&place.journal(), run, &place.ring())
}

fn archive(place: &Place) -> ArchiveStatus {
    ArchiveStatus::read(&place.run_dir()).unwrap().unwrap_or_default()
}

/// Archiver and sinks in one process, killed over and over while an engine writes, ends and dies.
#[test]
fn archiver_and_sinks_killed_at_any_point_lose_and_double_nothing() {
    let mut place = hot();
    place.more[0] = "batch_rows = 97\nbatch_ms = 3".into();
    place.more[1] = "rows = 1500".into();
    let mut dice = Dice::new();
    let mut run = 0;
    let mut journal = None;
    let mut written = 0;
    for round in 0..24 {
        let drain = place.start();
        let mut it: Written = journal.take().unwrap_or_else(|| {
            run += 1;
            begin(&place, run)
        });
        let before = it.last();
        it.some(1_500);
        written += it.last() - before;
        thread::sleep(Duration::from_millis(dice.below(120)));
        if round % 8 == 7 {
            // The end of a run waits for the archiver; a death does not.
            if round % 16 == 7 { it.kill() } else { it.end() }
        } else {
            journal = Some(it);
        }
        drain.kill();
    }
    assert_eq!(run, 3);
    place.catch_up();
    assert!(!kairos_journal::verify(&place.journal()).unwrap().is_damaged());
    assert!(written > 24 * 1_500, "{written}");
    assert!(end_of(&place.journal()).next_seq > written, "nothing was lost");
    all_hold_all(&place);
    place.catch_up();
    all_hold_all(&place);
}

/// As two services: what the one is doing does not depend on the other, and the status shows both.
#[test]
fn archiver_and_sinks_run_apart_and_the_status_shows_both() {
    let mut place = hot();
    place.more[1] = "seconds = 1".into();
    let role = |role| Running(place.command("run").args(["--role", role]).spawn().unwrap());
    let archiver = role("archive");
    let mut journal = begin(&place, 1);
    journal.some(3_000);
    let last = journal.last();
    until("the archive has it", || archive(&place).durable_seq >= last);
    assert_eq!(place.call("status", &[]).status.code(), Some(0), "an archiver is enough");
    // A second one must not touch anything.
    let second = place.call("run", &["--role", "archive"]);
    let said = String::from_utf8(second.stderr).unwrap();
    assert_eq!(second.status.code(), Some(1), "{said}");
    assert!(said.contains("journal is owned by another"), "{said}");
    let sinks = role("sinks");
    until("the files have it", || place.status("parquet").is_some_and(|it| it.seq >= last));
    until("it is said", || place.call("status", &[]).status.code() == Some(0));
    let output = place.call("status", &["--json"]);
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(json["archive"]["run"], 1, "{json}");
    assert_eq!(json["sinks"][0]["sink"], "parquet", "{json}");
    journal.end();
    assert_eq!(sinks.stop(), 0);
    assert_eq!(archiver.stop(), 0);
    assert_eq!(archive(&place).state, "stopped");
    assert_eq!(place.call("status", &[]).status.code(), Some(3), "nobody runs now");
}

/// What an operator gets who starts it where it cannot work.
#[test]
fn an_archiver_that_cannot_work_says_why() {
    let check = |place: &Place, status, wanted: &str| {
        let output = place.call("run", &["--role", "archive"]);
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(status), "{said}");
        assert!(said.contains(wanted), "{said}");
    };
    let direct = Place::with_files();
    check(&direct, 78, "journal.placement = \"direct\": --role archive needs \"hot\"");
    let foreign = hot();
    fs::create_dir_all(foreign.journal()).unwrap();
    fs::write(foreign.journal().join("letter.txt"), "dear").unwrap();
    check(&foreign, 1, "letter.txt");
    let damaged = hot();
    let mut journal = Written::begin(&damaged.journal(), 1);
    journal.some(2_000);
    journal.end();
    let segment = fs::read_dir(damaged.journal().join("seg"))
        .unwrap()
        .map(|it| it.unwrap().path())
        .find(|it| it.extension().is_some_and(|it| it == "jnl"))
        .unwrap();
    let mut bytes = fs::read(&segment).unwrap();
    bytes[70_000] ^= 1;
    fs::write(&segment, bytes).unwrap();
    check(&damaged, 2, "archive: ");
    assert!(archive(&damaged).is_broken());
    assert_eq!(damaged.call("status", &[]).status.code(), Some(2));
}
