//! What an operator asks, and the answers.

use std::fs;

use super::harness::{Place, connect, database, prefix, servers, until};
use super::journal::Written;
use super::whole::{all_hold_all, files_of};

fn everything() -> Option<Place> {
    let servers = servers();
    let place = Place {
        postgres: Some(database(servers.postgres.as_ref()?)),
        redis: Some((servers.redis.clone()?, prefix())),
        ..Place::with_files()
    };
    let mut journal = Written::begin(&place.journal(), 1);
    journal.some(2_000);
    journal.end();
    let mut journal = Written::begin(&place.journal(), 2);
    journal.some(1_000);
    journal.end();
    place.catch_up();
    Some(place)
}

fn audit(place: &Place) -> (Option<i32>, String) {
    let output = place.call("audit", &[]);
    (output.status.code(), String::from_utf8(output.stdout).unwrap())
}

#[test]
fn an_audit_finds_one_row_too_few_or_another_one() {
    let Some(place) = everything() else { return };
    let (code, said) = audit(&place);
    assert_eq!(code, Some(0), "{said}");
    for sink in ["parquet", "postgres", "redis"] {
        assert!(said.contains(&format!("{sink}: equal up to seq ")), "{said}");
    }
    let mut client = connect(place.postgres.as_ref().unwrap());
    let run = |client: &mut postgres::Client, sql: &str| client.execute(sql, &[]).unwrap();
    let one =
        "UPDATE kairos.quote SET seq = seq + 1 WHERE seq = (SELECT max(seq) FROM kairos.quote)";
    assert_eq!(run(&mut client, one), 1);
    let (code, said) = audit(&place);
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("quote: ") && said.contains("but not the same ones"), "{said}");
    let gone = "DELETE FROM kairos.trade WHERE seq = (SELECT min(seq) FROM kairos.trade)";
    assert_eq!(run(&mut client, gone), 1);
    let (url, prefix) = place.redis.as_ref().unwrap();
    let mut server = super::harness::open_redis(url);
    let ids = super::whole::stream_ids(&place, "stream:fills");
    let _: u64 = redis::cmd("XDEL")
        .arg(format!("{prefix}stream:fills"))
        .arg(&ids[ids.len() / 2])
        .query(&mut server)
        .unwrap();
    fs::remove_file(&files_of(&place.files(), "gap")[0]).unwrap();
    let output = place.call("audit", &["--json"]);
    assert_eq!(output.status.code(), Some(2));
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(json["equal"], false);
    let told = json["sinks"].as_array().unwrap();
    assert!(told.iter().all(|it| !it["differences"].as_array().unwrap().is_empty()), "{json}");
}

#[test]
fn what_differs_is_rebuilt() {
    let Some(place) = everything() else { return };
    let mut client = connect(place.postgres.as_ref().unwrap());
    client.execute("DELETE FROM kairos.trade", &[]).unwrap();
    for sink in ["parquet", "postgres", "redis"] {
        let refused = place.call("rebuild", &[sink]);
        assert_eq!(refused.status.code(), Some(1), "not without --yes");
        let output = place.call("rebuild", &[sink, "--yes"]);
        assert!(output.status.success(), "{output:?}");
    }
    place.catch_up();
    all_hold_all(&place);
    assert_eq!(audit(&place).0, Some(0));
}

#[test]
fn status_shows_a_running_drain_and_says_when_there_is_none() {
    let Some(mut place) = Place::with_postgres() else { return };
    assert_eq!(place.call("status", &[]).status.code(), Some(3), "nobody has run");
    place.more[0] = "batch_ms = 3".into();
    let mut journal = Written::begin(&place.journal(), 1);
    journal.some(500);
    journal.flush();
    let last = journal.last();
    let drain = place.start();
    until("it has all", || place.status("postgres").is_some_and(|it| it.seq >= last));
    let output = place.call("status", &["--json"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let sink = &json["sinks"][0];
    let found = (&sink["sink"], &sink["state"], &sink["seq"], &sink["lag_events"]);
    assert_eq!(
        format!("{found:?}"),
        format!(
            "{:?}",
            (
                &serde_json::json!("postgres"),
                &serde_json::json!("live"),
                &serde_json::json!(last),
                &serde_json::json!(0),
            )
        )
    );
    until("its position is left beside the journal", || {
        let cursor = kairos_journal::cursors::read(&place.journal(), "postgres").unwrap();
        cursor.is_some_and(|it| (it.position.run, it.position.seq) == (1, last))
    });
    assert_eq!(drain.stop(), 0);
    journal.end();
}

#[test]
fn a_plan_prints_what_a_migration_executes_and_changes_nothing() {
    let Some(place) = Place::with_postgres() else { return };
    let plan = place.call("migrate", &["--plan"]);
    let printed = String::from_utf8(plan.stdout).unwrap();
    for file in ["0001_base.sql", "0002_views.sql", "0003_bars.sql"] {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/migrations/").to_owned() + file;
        assert!(printed.contains(fs::read_to_string(path).unwrap().trim_end()), "{file}");
    }
    let mut client = connect(place.postgres.as_ref().unwrap());
    let there = |client: &mut postgres::Client| -> bool {
        client.query_one("SELECT to_regclass('kairos.trade') IS NOT NULL", &[]).unwrap().get(0)
    };
    assert!(!there(&mut client));
    assert!(place.call("migrate", &[]).status.success());
    assert!(there(&mut client));
    let again = place.call("migrate", &[]);
    assert!(String::from_utf8(again.stdout).unwrap().contains("up to date"));
}

#[test]
fn usage_and_configuration_have_their_statuses() {
    let place = Place::with_files();
    assert_eq!(place.call("run", &["--role", "archivist"]).status.code(), Some(64));
    let unknown = place.call("run", &["--set", "drain.batch_row=1"]);
    assert_eq!(unknown.status.code(), Some(78));
    let said = String::from_utf8(unknown.stderr).unwrap();
    assert!(said.contains("did you mean batch_rows"), "{said}");
    assert_eq!(place.call("run", &["--until-caught-up"]).status.code(), Some(1), "no journal");
    assert_eq!(place.call("migrate", &[]).status.code(), Some(78), "no database");
}

/// Every key is explained, and every key that is explained exists.
#[test]
fn the_readme_names_every_key() {
    let readme = include_str!("../../README.md");
    let block = readme.split("```toml\n").nth(1).unwrap().split("```").next().unwrap();
    let mut section = String::new();
    let mut named = Vec::new();
    for line in block.lines().map(|line| line.trim_start_matches("# ")) {
        if let Some(header) = line.strip_prefix('[') {
            section = header.split(']').next().unwrap().to_owned();
            named.push(section.clone());
        } else if let Some((key, _)) = line.split_once(" = ") {
            named.push(format!("{section}.{key}"));
        }
    }
    named.sort();
    let mut known = kairos_edge::config::known_drain_keys();
    known.retain(|key| !key.ends_with(".enabled"));
    known.sort();
    assert_eq!(named, known);
}
