//! PostgreSQL: what a person asks of it.

use super::harness::{Place, connect};
use super::journal::Written;
use super::whole::{journal_rows, postgres_holds_all};

fn traded() -> Option<Place> {
    let place = Place::with_postgres()?;
    let mut journal = Written::begin(&place.journal(), 1);
    journal.some(4_000);
    journal.end();
    place.catch_up();
    Some(place)
}

#[test]
fn tables_hold_every_event_once() {
    let Some(place) = traded() else { return };
    postgres_holds_all(&place);
}

/// The questions of QUERIES.md, as they stand there, have answers that are the journal's.
#[test]
fn the_documented_questions_are_answered() {
    let Some(place) = traded() else { return };
    let text = include_str!("../../QUERIES.md");
    let mut client = connect(place.postgres.as_ref().unwrap());
    client.batch_execute("SET search_path = kairos").unwrap();
    let rows = journal_rows(&place.journal());
    let denied = rows["decision"].iter().find(|row| row[15] == "0").unwrap();
    let bits: u64 = denied[5].parse().unwrap();
    let order = format!("{}-{}", bits >> 40, bits & ((1 << 40) - 1));
    let mut answers = Vec::new();
    for block in text.split("```sql\n").skip(1) {
        let sql = block.split("```").next().unwrap();
        let sql = sql.replace("'1-17'", &format!("'{order}'"));
        let sql = sql.replace("current_date", "date '2023-11-14'");
        let rows = client.query(sql.trim().trim_end_matches(';'), &[]);
        let rows = rows.unwrap_or_else(|error| panic!("{error:?}: {sql}"));
        assert!(!rows.is_empty(), "no answer to {sql}");
        answers.push((sql, rows));
    }
    assert!(answers.len() >= 3, "{} questions", answers.len());
    let why = answers.iter().find(|(sql, _)| sql.contains("-- why")).unwrap();
    assert_eq!(why.1[0].get::<_, String>("reason"), "max_order_size_exceeded");
    let fills: i64 = answers
        .iter()
        .find(|(sql, _)| sql.contains("-- what did we trade"))
        .unwrap()
        .1
        .iter()
        .map(|row| row.get::<_, i64>("fills"))
        .sum();
    assert_eq!(fills, i64::try_from(rows["fill"].len()).unwrap());
}

/// With TimescaleDB, where one is named: the same rows, in hypertables with policies and bars.
#[test]
fn timescale_holds_the_same() {
    let Ok(url) = std::env::var("KAIROS_TEST_TSDB_URL") else {
        eprintln!("SKIP: KAIROS_TEST_TSDB_URL names no TimescaleDB");
        return;
    };
    let url = super::harness::database(&url);
    connect(&url).batch_execute("CREATE EXTENSION IF NOT EXISTS timescaledb").unwrap();
    let mut place = Place { postgres: Some(url), ..Place::new() };
    // What the test writes is of 2023: nothing may be dropped or compressed under its eyes.
    place.more[2] = "timescaledb = \"require\"\nmarket_data_days = 36500".into();
    let mut journal = Written::begin(&place.journal(), 1);
    journal.some(4_000);
    journal.end();
    place.catch_up();
    postgres_holds_all(&place);
    let mut client = connect(place.postgres.as_ref().unwrap());
    let mut one = |sql: &str| -> i64 { client.query_one(sql, &[]).unwrap().get(0) };
    let schema = "WHERE hypertable_schema = 'kairos'";
    let tables = one(&format!("SELECT count(*) FROM timescaledb_information.hypertables {schema}"));
    assert!(tables >= 14, "{tables} hypertables");
    let bars = "SELECT count(*) FROM timescaledb_information.continuous_aggregates \
                WHERE view_schema = 'kairos'";
    assert_eq!(one(bars), 3);
    for (policy, wanted) in [("policy_compression", 6), ("policy_retention", 3)] {
        let jobs = format!(
            "SELECT count(*) FROM timescaledb_information.jobs {schema} AND proc_name = '{policy}'"
        );
        assert_eq!(one(&jobs), wanted, "{policy}");
    }
    let trades = i64::try_from(journal_rows(&place.journal())["trade"].len()).unwrap();
    assert_eq!(one("SELECT sum(trades)::bigint FROM kairos.ohlcv_1h"), trades);
}

/// Views give decimals and names, and every one of them can be read.
#[test]
fn every_view_can_be_read() {
    let Some(place) = traded() else { return };
    let mut client = connect(place.postgres.as_ref().unwrap());
    let views = client
        .query("SELECT viewname::text FROM pg_views WHERE schemaname = 'kairos' ORDER BY 1", &[])
        .unwrap();
    assert!(views.len() >= 20, "{}", views.len());
    for view in views {
        let name: String = view.get(0);
        let count: i64 = client
            .query_one(&format!("SELECT count(*) FROM (SELECT * FROM kairos.{name}) it"), &[])
            .unwrap()
            .get(0);
        assert!(count > 0, "{name} is empty");
    }
    let trades: i64 =
        client.query_one("SELECT sum(trades)::bigint FROM kairos.ohlcv_1h", &[]).unwrap().get(0);
    let rows = journal_rows(&place.journal());
    assert_eq!(trades, i64::try_from(rows["trade"].len()).unwrap(), "bars hold every trade");
    let first = &rows["trade"][0];
    let row = client
        .query_one(
            "SELECT price::text, side, trade_id FROM kairos.market_ticks ORDER BY seq LIMIT 1",
            &[],
        )
        .unwrap();
    let price: i64 = first[5].parse().unwrap();
    let shown: String = row.get(0);
    assert_eq!(shown, format!("{}.{:02}0000000000", price / 100, price % 100));
    assert_eq!(row.get::<_, String>(2), first[8], "ids of 64 bits");
}
