//! Sinks and journals that do not belong together: each is told as what it is, and nothing is written.

use std::fs;
use std::process::Command;

use kairos_logic::event::Event;
use kairos_logic::units::Nanos;

use super::harness::{Place, connect, connect_redis, database, prefix, servers};
use super::journal::Written;
use super::whole::{all_hold_all, postgres_holds_all};

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

/// What the sinks hold, so that a change of any of it is seen.
fn contents(place: &Place) -> (Vec<String>, Vec<String>) {
    let mut client = connect(place.postgres.as_ref().unwrap());
    let tables = ["trade", "decision", "order_event", "fill", "drain_offset"];
    let rows = tables.map(|table| {
        let count = format!(
            "SELECT count(*)::text || ' ' || coalesce(md5(string_agg(t::text, ',' ORDER BY t::text)), '') \
             FROM kairos.{table} t"
        );
        let count = if table == "drain_offset" {
            // Who asks takes over: the epoch moves, the cursor does not.
            "SELECT run || ' ' || next_seq || ' ' || chain_crc FROM kairos.drain_offset".to_owned()
        } else {
            count
        };
        client.query_one(&count, &[]).unwrap().get(0)
    });
    let streams = ["stream:orders", "stream:fills", "stream:risk"];
    (rows.into(), streams.map(|it| super::whole::stream_ids(place, it).join(" ")).into())
}

#[track_caller]
fn refused(place: &Place, wanted: &[(&str, &str)]) {
    let before = contents(place);
    let output = place.call("run", &["--until-caught-up"]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    for (sink, why) in wanted {
        let line = said.lines().find(|line| line.contains(&format!("{sink}: diverged: ")));
        assert!(line.is_some_and(|line| line.contains(why)), "{sink}, {why}: {said}");
    }
    assert_eq!(contents(place), before, "something was written");
}

#[test]
fn another_journal_is_refused() {
    let Some(place) = everything() else { return };
    run(&place, 1, 800);
    place.catch_up();
    fs::remove_dir_all(place.journal()).unwrap();
    run(&place, 1, 800);
    refused(
        &place,
        &[
            ("postgres", "schema kairos holds another journal"),
            ("redis", "is of journal"),
            ("parquet", "files of journal"),
        ],
    );
}

#[test]
fn a_frame_with_another_checksum_is_refused() {
    let Some(mut place) = everything() else { return };
    place.parquet = false;
    run(&place, 1, 800);
    place.catch_up();
    let mut client = connect(place.postgres.as_ref().unwrap());
    client.execute("UPDATE kairos.drain_offset SET chain_crc = chain_crc # 1", &[]).unwrap();
    let (mut server, prefix) = connect_redis(&place);
    let key = format!("{prefix}drain:offset:0");
    let _: u64 = redis::cmd("HSET").arg(&key).arg("crc").arg(77).query(&mut server).unwrap();
    refused(&place, &[("postgres", "with checksum"), ("redis", "with checksum 0000004d")]);
}

/// A journal restored from a backup ends before what the sinks hold, and then goes another way.
#[test]
fn a_restored_journal_is_refused() {
    let Some(place) = everything() else { return };
    run(&place, 1, 400);
    let backup = place.dir.path().join("backup");
    let copy = |from: &std::path::Path, to: &std::path::Path| {
        let done = Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap();
        assert!(done.success());
    };
    copy(&place.journal(), &backup);
    run(&place, 2, 800);
    place.catch_up();
    fs::remove_dir_all(place.journal()).unwrap();
    copy(&backup, &place.journal());
    let ends = "the journal ends at seq";
    refused(&place, &[("postgres", ends), ("redis", ends), ("parquet", ends)]);
    // The same numbers, other events.
    let mut journal = Written::begin(&place.journal(), 2);
    journal.event(&Event::timer(Nanos(5)));
    journal.some(1_500);
    journal.end();
    let other = "with checksum";
    refused(&place, &[("postgres", other), ("redis", other), ("parquet", other)]);
}

/// A database restored from a backup is behind: that is followed.
#[test]
fn a_restored_database_is_followed() {
    let Some(mut place) = Place::with_postgres() else { return };
    run(&place, 1, 800);
    place.catch_up();
    let url = place.postgres.clone().unwrap();
    let (server, name) = url.rsplit_once('/').unwrap();
    connect(server_of(&url).as_str())
        .batch_execute(&format!("CREATE DATABASE {name}_old TEMPLATE {name}"))
        .unwrap();
    run(&place, 2, 800);
    place.catch_up();
    place.postgres = Some(format!("{server}/{name}_old"));
    place.catch_up();
    postgres_holds_all(&place);
}

fn server_of(url: &str) -> String {
    format!("{}/postgres", url.rsplit_once('/').unwrap().0)
}

/// A change of what is left out needs a rebuild, and says so.
#[test]
fn a_changed_filter_needs_a_rebuild() {
    let Some(mut place) = everything() else { return };
    run(&place, 1, 800);
    place.catch_up();
    place.more[1] = "depth = false".into();
    place.more[2] = "depth = false".into();
    let output = place.call("run", &["--until-caught-up"]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(said.matches("changing it needs a rebuild").count(), 2, "{said}");
    for sink in ["parquet", "postgres"] {
        assert!(place.call("rebuild", &[sink, "--yes"]).status.success());
    }
    place.catch_up();
    assert_eq!(place.call("audit", &[]).status.code(), Some(0));
    place.more = Default::default();
    for sink in ["parquet", "postgres"] {
        assert!(place.call("rebuild", &[sink, "--yes"]).status.success());
    }
    place.catch_up();
    all_hold_all(&place);
}
