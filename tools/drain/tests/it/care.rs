//! Gaps that are accepted, pauses, fewer files, and what a look before the start finds.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use kairos_drain::status::State;
use kairos_journal::{Retention, prune};

use super::harness::{Place, connect, database, prefix, servers, until};
use super::journal::Written;
use super::whole::{all_hold_all, files_hold_all, files_of, journal_rows};

fn everything() -> Option<Place> {
    let servers = servers();
    Some(Place {
        postgres: Some(database(servers.postgres.as_ref()?)),
        redis: Some((servers.redis.clone()?, prefix())),
        ..Place::with_files()
    })
}

fn run(place: &Place, number: u64, count: u64) {
    let mut journal = Written::begin(&place.journal(), number);
    journal.some(count);
    journal.end();
}

/// Removes every run but the newest from the journal, as if every sink had passed them.
fn forget(place: &Place) {
    let _none = fs::remove_dir_all(place.journal().join("cursors"));
    let retention = Retention { max_bytes: Some(1), ..Retention::default() };
    let plan = prune(&place.journal(), &retention).unwrap();
    assert!(!plan.runs.is_empty(), "{}", plan.stays);
}

fn code_and_text(output: &std::process::Output) -> (Option<i32>, String) {
    let text = [&output.stdout[..], &output.stderr[..]].concat();
    (output.status.code(), String::from_utf8(text).unwrap())
}

/// What the journal dropped before a sink had it: told, never passed over in silence, and accepted by an
/// operator only.
#[test]
fn a_gap_is_told_and_accepted_by_an_operator_alone() {
    let Some(place) = everything() else { return };
    run(&place, 1, 1_000);
    place.catch_up();
    run(&place, 2, 500);
    run(&place, 3, 700);
    forget(&place);
    let (code, said) = code_and_text(&place.call("run", &["--until-caught-up"]));
    assert_eq!(code, Some(1), "{said}");
    for sink in ["parquet", "postgres", "redis"] {
        assert!(said.contains(&format!("{sink}: diverged: before history")), "{said}");
    }
    for sink in ["parquet", "postgres", "redis"] {
        let (code, said) = code_and_text(&place.call("skip", &[sink]));
        assert_eq!(code, Some(1), "not without --accept-gap: {said}");
        assert!(said.contains("are gone from the journal"), "{said}");
        let (code, said) = code_and_text(&place.call("skip", &[sink, "--accept-gap"]));
        assert_eq!(code, Some(0), "{said}");
        let (code, said) = code_and_text(&place.call("skip", &[sink, "--accept-gap"]));
        assert_eq!(code, Some(1), "{said}");
        assert!(said.contains("nothing is missing"), "{said}");
    }
    place.catch_up();
    run(&place, 4, 300);
    place.catch_up();
    let mut client = connect(place.postgres.as_ref().unwrap());
    let row = client.query_one("SELECT first_seq, last_seq FROM kairos.drain_gap", &[]).unwrap();
    let (first, last): (i64, i64) = (row.get(0), row.get(1));
    let rows = journal_rows(&place.journal());
    assert_eq!(rows["run_record"][0][1], (last + 1).to_string());
    let trades: i64 =
        client.query_one("SELECT count(*) FROM kairos.trade WHERE run > 1", &[]).unwrap().get(0);
    assert_eq!(usize::try_from(trades).unwrap(), rows["trade"].len());
    let inside = "SELECT count(*) FROM kairos.trade WHERE seq BETWEEN $1 AND $2";
    assert_eq!(client.query_one(inside, &[&first, &last]).unwrap().get::<_, i64>(0), 0);
    let (code, said) = code_and_text(&place.call("audit", &[]));
    assert_eq!(code, Some(0), "rows of runs that the journal forgot are no difference: {said}");
}

/// A paused sink writes nothing and waits, the others go on; it comes back where it was.
#[test]
fn a_paused_sink_waits_and_the_others_go_on() {
    let Some(mut place) = everything() else { return };
    place.more[0] = "batch_ms = 3".into();
    place.more[1] = "rows = 300".into();
    assert!(place.call("pause", &["postgres"]).status.success());
    let mut journal = Written::begin(&place.journal(), 1);
    journal.some(1_000);
    journal.flush();
    let drain = place.start();
    let state = |sink: &str| place.status(sink).map(|it| (it.state, it.seq));
    until("redis has it", || state("redis").is_some_and(|it| it.1 >= journal.last()));
    until("postgres pauses", || state("postgres") == Some((State::Paused, 0)));
    assert_eq!(place.call("status", &[]).status.code(), Some(1), "a pause is told");
    assert!(place.call("resume", &["postgres"]).status.success());
    until("postgres has it", || state("postgres").is_some_and(|it| it.1 >= journal.last()));
    assert_eq!(place.call("status", &[]).status.code(), Some(0));
    assert!(place.call("pause", &["redis"]).status.success());
    until("redis pauses", || state("redis").is_some_and(|it| it.0 == State::Paused));
    let held = state("redis").unwrap().1;
    journal.some(1_000);
    journal.flush();
    until("postgres goes on", || state("postgres").is_some_and(|it| it.1 >= journal.last()));
    assert_eq!(state("redis").unwrap().1, held);
    assert!(place.call("resume", &["redis"]).status.success());
    until("redis goes on", || state("redis").is_some_and(|it| it.1 >= journal.last()));
    journal.end();
    assert_eq!(drain.stop(), 0, "{}", place.log());
    all_hold_all(&place);
}

/// Many small sets of several hours.
fn small_sets() -> Place {
    let mut place = Place::with_files();
    place.more[1] = "rows = 150".into();
    for number in 1..=3 {
        run(&place, number, 1_500);
        place.catch_up();
    }
    place
}

fn count_sets(place: &Place) -> usize {
    let mut names: Vec<_> = journal_rows(&place.journal())
        .keys()
        .flat_map(|table| files_of(&place.files(), table))
        .map(|it| it.file_name().unwrap().to_owned())
        .collect();
    names.sort();
    names.dedup();
    names.len()
}

#[test]
fn compaction_leaves_every_row_once_in_fewer_files() {
    let place = small_sets();
    let before = count_sets(&place);
    let (code, said) = code_and_text(&place.call("compact", &[]));
    assert_eq!(code, Some(0), "{said}");
    let after = count_sets(&place);
    assert!(before > 30 && after < before / 2, "{before} {after}");
    assert!(said.contains(&format!("{before} sets of files became {after}")), "{said}");
    files_hold_all(&place);
    assert_eq!(place.call("audit", &[]).status.code(), Some(0));
    run(&place, 4, 500);
    place.catch_up();
    files_hold_all(&place);
    let (_, said) = code_and_text(&place.call("compact", &[]));
    assert!(said.contains("became"), "{said}");
    files_hold_all(&place);
}

/// Every state in which a crash can leave a compaction is finished at the next start.
#[test]
fn a_compaction_that_crashed_is_finished() {
    let list = |place: &Place| -> BTreeMap<PathBuf, Vec<u8>> {
        let tables = journal_rows(&place.journal());
        let files = tables.keys().flat_map(|table| files_of(&place.files(), table));
        files.map(|it| (it.clone(), fs::read(it).unwrap())).collect()
    };
    let place = small_sets();
    let before = list(&place);
    assert!(place.call("compact", &[]).status.success());
    let after = list(&place);
    // The files of one of the new sets, and the parts that it took the place of.
    let new: Vec<_> = after.keys().filter(|it| !before.contains_key(*it)).collect();
    let whole = new[0].file_name().unwrap();
    let new: Vec<_> = new.iter().filter(|it| it.file_name() == Some(whole)).collect();
    let (_, first, last) = numbers(new[0]);
    let parts: Vec<_> = before
        .keys()
        .filter(|it| !after.contains_key(*it))
        .filter(|it| numbers(it).1 >= first && numbers(it).2 <= last)
        .collect();
    assert!(new.len() > 5 && parts.len() > new.len(), "{} {}", new.len(), parts.len());
    for shown in 0..=new.len() {
        for is_removed in [false, true] {
            // So many tables show their new file; the last of those still has its parts or not any more.
            for path in
                new.iter().map(|it| (**it).clone()).chain(parts.iter().map(|it| (*it).clone()))
            {
                let _none = fs::remove_file(path);
            }
            for (at, path) in new.iter().enumerate() {
                let folder = path.parent().unwrap();
                let to =
                    if at < shown { (**path).clone() } else { folder.join(".tmp-whole.parquet") };
                fs::write(to, &after[**path]).unwrap();
                let are_gone = at + 1 < shown || (at + 1 == shown && is_removed);
                for part in parts.iter().filter(|it| !are_gone && it.parent() == Some(folder)) {
                    fs::write(part, &before[*part]).unwrap();
                }
            }
            place.catch_up();
            files_hold_all(&place);
            let hidden = new.iter().map(|it| it.with_file_name(".tmp-whole.parquet"));
            assert!(hidden.into_iter().all(|it| !it.exists()), "{shown} {is_removed}");
        }
    }
}

fn numbers(path: &std::path::Path) -> (u64, u64, u64) {
    let name = path.file_stem().unwrap().to_string_lossy().into_owned();
    let mut numbers = name.split('-').map(|it| it.parse().unwrap());
    (numbers.next().unwrap(), numbers.next().unwrap(), numbers.next().unwrap())
}

/// While a drain writes.
#[test]
fn files_are_compacted_while_a_drain_writes() {
    let mut place = Place::with_files();
    place.more[1] = "rows = 150".into();
    run(&place, 1, 1_500);
    place.catch_up();
    let mut journal = Written::begin(&place.journal(), 2);
    let drain = place.start();
    for _ in 0..6 {
        let before = place.status("parquet").map_or(0, |it| it.seq);
        journal.some(600);
        journal.flush();
        until("a set is closed", || place.status("parquet").is_some_and(|it| it.seq > before));
        let (code, said) = code_and_text(&place.call("compact", &[]));
        assert_eq!(code, Some(0), "{said}");
    }
    journal.end();
    assert_eq!(drain.stop(), 0, "{}", place.log());
    files_hold_all(&place);
}

#[test]
fn a_check_says_what_is_there_and_what_is_wrong() {
    let Some(mut place) = everything() else { return };
    run(&place, 1, 100);
    let (code, said) = code_and_text(&place.call("check", &[]));
    assert_eq!(code, Some(0), "{said}");
    for want in
        ["server 1", "plain tables: the extension is not", "lacks 0001_base", "Redis", "are free"]
    {
        assert!(said.contains(want), "{want}: {said}");
    }
    let there = connect(place.postgres.as_ref().unwrap())
        .query_one("SELECT count(*) FROM pg_namespace WHERE nspname = 'kairos'", &[])
        .unwrap();
    assert_eq!(there.get::<_, i64>(0), 0, "it writes nothing");
    place.more[2] = "migrate = \"verify\"".into();
    place.more[1] = "min_free_mib = 1000000000".into();
    let output = place.call("check", &["--json"]);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(json["well"], false);
    let said = json.to_string();
    assert!(said.contains("run kairos drain migrate") && said.contains("min_free_mib"), "{said}");
    place.postgres = Some("postgres://kairos@127.0.0.1:1/x".into());
    assert_eq!(place.call("check", &[]).status.code(), Some(2));
}

/// Broken, behind, well: each has its status.
#[test]
fn the_status_has_a_number_for_scripts() {
    let Some(redis) = servers().redis.clone() else { return };
    let Some(pg) = &servers().postgres else { return };
    let mut place = Place { redis: Some((redis, prefix())), ..Place::with_files() };
    place.postgres = Some("postgres://kairos@127.0.0.1:1/x".into());
    let mut journal = Written::begin(&place.journal(), 1);
    journal.some(300);
    journal.flush();
    let drain = place.start();
    let state = |place: &Place| place.status("postgres").map(|it| it.state);
    until("postgres waits", || state(&place) == Some(State::Backoff));
    assert_eq!(place.call("status", &[]).status.code(), Some(1), "one waits");
    assert_eq!(drain.stop(), 0);
    assert_eq!(place.call("status", &[]).status.code(), Some(3), "no drain runs");
    let url = database(pg);
    connect(&url).batch_execute("CREATE SCHEMA kairos; CREATE TABLE kairos.trade ()").unwrap();
    place.postgres = Some(url);
    let drain = place.start();
    until("postgres refuses", || state(&place) == Some(State::Rejected));
    until("redis lives", || place.status("redis").is_some_and(|it| it.state == State::Live));
    assert_eq!(place.call("status", &[]).status.code(), Some(2), "one is broken");
    let output = place.call("status", &["--json"]);
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let sinks = json["sinks"].as_array().unwrap();
    let broken = sinks.iter().find(|it| it["sink"] == "postgres").unwrap();
    assert_eq!(broken["state"], "rejected");
    assert!(broken["last_error"].as_str().unwrap().contains("0001_base"), "{broken}");
    assert!(broken["last_error_at_ns"].is_u64() && broken["errors"]["rejected"] == 1, "{broken}");
    let well = sinks.iter().find(|it| it["sink"] == "redis").unwrap();
    for key in ["epoch", "lag_events", "lag_seconds", "events_per_second", "commit_p99_ms"] {
        assert!(well[key].is_number(), "{key}: {well}");
    }
    journal.end();
    drain.stop();
}
