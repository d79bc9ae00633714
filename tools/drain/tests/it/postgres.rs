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

/// A schema of one's own in the database of `KAIROS_TEST_TSDB_URL`, which may give its user no more rights
/// than that. It goes with this.
pub(crate) struct Timescale {
    pub(crate) place: Place,
}

impl Timescale {
    pub(crate) fn new(more: &str) -> Option<Self> {
        let Some(url) = super::harness::named("KAIROS_TEST_TSDB_URL") else {
            eprintln!("SKIP: KAIROS_TEST_TSDB_URL names no TimescaleDB");
            return None;
        };
        static COUNT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let count = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let schema = format!("kairos_{}_{count}", std::process::id());
        let mut client = connect(&url);
        let have = "SELECT count(*) FROM pg_extension WHERE extname = 'timescaledb'";
        if client.query_one(have, &[]).unwrap().get::<_, i64>(0) == 0 {
            connect(&url).batch_execute("CREATE EXTENSION timescaledb").unwrap();
        }
        let mut place = Place { postgres: Some(url), schema, ..Place::new() };
        place.more[2] = format!("timescaledb = \"require\"\n{more}");
        Some(Self { place })
    }
}

impl Drop for Timescale {
    fn drop(&mut self) {
        let drop = format!("DROP SCHEMA IF EXISTS {} CASCADE", self.place.schema);
        let _dropped = connect(self.place.postgres.as_ref().unwrap()).batch_execute(&drop);
    }
}

/// With TimescaleDB, where one is named: the same rows, in hypertables with policies and bars.
#[test]
fn timescale_holds_the_same() {
    // What the test writes is of 2023: nothing may be dropped or compressed under its eyes.
    let days = "market_data_days = 36500\ncompress_after_days = 30000";
    let Some(timescale) = Timescale::new(days) else { return };
    let place = &timescale.place;
    let mut journal = Written::begin(&place.journal(), 1);
    journal.some(4_000);
    journal.end();
    place.catch_up();
    postgres_holds_all(place);
    assert_eq!(place.call("audit", &[]).status.code(), Some(0));
    let mut client = connect(place.postgres.as_ref().unwrap());
    let schema = &place.schema;
    let mut one = |sql: &str| -> i64 {
        let row = client.query_one(sql, &[]);
        row.unwrap_or_else(|error| panic!("{error:?}: {sql}")).get(0)
    };
    let of = format!("WHERE hypertable_schema = '{schema}'");
    let tables = one(&format!("SELECT count(*) FROM timescaledb_information.hypertables {of}"));
    assert!(tables >= 14, "{tables} hypertables");
    let bars = format!(
        "SELECT count(*) FROM timescaledb_information.continuous_aggregates \
         WHERE view_schema = '{schema}'"
    );
    assert_eq!(one(&bars), 4);
    for (policy, wanted) in [("policy_compression", 6), ("policy_retention", 3)] {
        let jobs = format!(
            "SELECT count(*) FROM timescaledb_information.jobs {of} AND proc_name = '{policy}'"
        );
        assert_eq!(one(&jobs), wanted, "{policy}");
    }
    // Asked again, and with other numbers: policies are as they are wanted, and nothing comes twice.
    let newest = "SELECT max(job_id)::bigint FROM timescaledb_information.jobs";
    let before = one(newest);
    place.catch_up();
    assert_eq!(one(newest), before, "a policy that is right is left alone");
    // Bars are refreshed over all that is kept, and compressed rows are the same rows.
    let mut client = connect(place.postgres.as_ref().unwrap());
    for bars in ["bar_1s", "bar_1m", "bar_1h", "bar_1d"] {
        let refresh = format!("CALL refresh_continuous_aggregate('{schema}.{bars}', NULL, NULL)");
        client.batch_execute(&refresh).unwrap();
    }
    postgres_holds_all(place);
    let compress = format!("SELECT count(compress_chunk(c)) FROM show_chunks('{schema}.trade') c");
    assert!(client.query_one(&compress, &[]).unwrap().get::<_, i64>(0) > 0);
    postgres_holds_all(place);
    every_view_has_rows(place);
}

/// A database that gets the extension later keeps its rows.
#[test]
fn timescale_takes_over_plain_tables() {
    let days = "market_data_days = 0\ncompress_after_days = 0";
    let Some(mut timescale) = Timescale::new(days) else { return };
    let place = &mut timescale.place;
    let wanted = std::mem::replace(&mut place.more[2], "timescaledb = \"off\"".into());
    let mut journal = Written::begin(&place.journal(), 1);
    journal.some(2_000);
    journal.end();
    place.catch_up();
    postgres_holds_all(place);
    place.more[2] = wanted;
    let mut journal = Written::begin(&place.journal(), 2);
    journal.some(2_000);
    journal.end();
    place.catch_up();
    postgres_holds_all(place);
}

/// Views give decimals and names, and every one of them can be read.
#[test]
fn every_view_can_be_read() {
    let Some(place) = traded() else { return };
    every_view_has_rows(&place);
}

fn every_view_has_rows(place: &Place) {
    let schema = &place.schema;
    let mut client = connect(place.postgres.as_ref().unwrap());
    let views = client
        .query(
            "SELECT viewname::text FROM pg_views WHERE schemaname = $1 AND viewname <> 'trade_bar' \
             ORDER BY 1",
            &[schema],
        )
        .unwrap();
    assert!(views.len() >= 20, "{}", views.len());
    for view in views {
        let name: String = view.get(0);
        let count: i64 = client
            .query_one(&format!("SELECT count(*) FROM (SELECT * FROM {schema}.{name}) it"), &[])
            .unwrap()
            .get(0);
        assert!(count > 0, "{name} is empty");
    }
    let bars = format!("SELECT sum(trades)::bigint FROM {schema}.ohlcv_1h");
    let trades: i64 = client.query_one(&bars, &[]).unwrap().get(0);
    let rows = journal_rows(&place.journal());
    assert_eq!(trades, i64::try_from(rows["trade"].len()).unwrap(), "bars hold every trade");
    let first = &rows["trade"][0];
    let row = client
        .query_one(
            &format!(
                "SELECT price::text, side, trade_id FROM {schema}.market_ticks ORDER BY seq LIMIT 1"
            ),
            &[],
        )
        .unwrap();
    let price: i64 = first[5].parse().unwrap();
    let shown: String = row.get(0);
    assert_eq!(shown, format!("{}.{:02}0000000000", price / 100, price % 100));
    assert_eq!(row.get::<_, String>(2), first[8], "ids of 64 bits");
    // Positions and profit: by lots, one after the other.
    let query = format!(
        "SELECT quantity::text, cash_flow::text, realized_pnl::text, \
                         (quantity * average_price)::text FROM {schema}.positions"
    );
    for row in client.query(&query, &[]).unwrap() {
        let number =
            |at: usize| row.get::<_, Option<String>>(at).map(|it| it.parse::<f64>().unwrap());
        // What came in is what was earned less what the position cost.
        let (cash, earned) = (number(1).unwrap(), number(2).unwrap());
        let cost = number(3).unwrap_or(0.0);
        assert!((cash - (earned - cost)).abs() < 1e-6, "{cash} {earned} {cost}");
    }
}

/// Entries move the average, exits earn against it, and a turn-over does both.
#[test]
fn a_position_is_folded_fill_by_fill() {
    let Some(place) = traded() else { return };
    let mut client = connect(place.postgres.as_ref().unwrap());
    let mut check = |fills: &str, want: [i64; 3]| {
        let query = format!(
            "SELECT kairos.position_of(side::smallint, price::bigint, qty::bigint ORDER BY n)::bigint[] \
             FROM (VALUES {fills}) AS it (n, side, price, qty)"
        );
        let row: Vec<i64> = client.query_one(&query, &[]).unwrap().get(0);
        assert_eq!(row, want, "{fills}");
    };
    check("(1, 0, 100, 2), (2, 0, 104, 2)", [4, 408, 0]);
    check("(1, 0, 100, 4), (2, 1, 150, 1)", [3, 300, 50]);
    check("(1, 0, 100, 4), (2, 1, 150, 4)", [0, 0, 200]);
    check("(1, 0, 100, 4), (2, 1, 150, 6)", [-2, -300, 200]);
    check("(1, 1, 150, 4), (2, 0, 100, 1)", [-3, -450, 50]);
    check("(1, 1, 150, 2), (2, 0, 160, 5), (3, 1, 170, 3)", [0, 0, -20 + 30]);
}

/// Kept bars grow by what is new, however often and in whatever portions they are refreshed.
#[test]
fn bars_are_kept_in_portions() {
    let Some(place) = traded() else { return };
    let mut client = connect(place.postgres.as_ref().unwrap());
    client.batch_execute("SET search_path = kairos").unwrap();
    let empty = "TRUNCATE bar_1s_kept, bar_1m_kept, bar_1h_kept, bar_1d_kept; \
                 UPDATE kept_bars SET done_seq = 0";
    client.batch_execute(empty).unwrap();
    postgres_holds_all(&place); // all by the view
    let end: i64 = client.query_one("SELECT max(seq) FROM trade", &[]).unwrap().get(0);
    let mut calls = 0;
    while client.query_one("SELECT refresh_bars($1, 997)", &[&end]).unwrap().get(0) {
        calls += 1;
        postgres_holds_all(&place);
    }
    assert!(calls >= 3, "{calls}");
    let again: bool = client.query_one("SELECT refresh_bars($1, 997)", &[&end]).unwrap().get(0);
    assert!(!again);
    postgres_holds_all(&place);
    let kept: i64 =
        client.query_one("SELECT sum(trades)::bigint FROM bar_1d_kept", &[]).unwrap().get(0);
    assert_eq!(usize::try_from(kept).unwrap(), journal_rows(&place.journal())["trade"].len());
}

/// Who only writes: the schema belongs to somebody else, who also migrates it.
#[test]
fn a_user_with_no_more_rights_than_rows_need_is_enough() {
    let Some(mut place) = Place::with_postgres() else { return };
    assert!(place.call("migrate", &[]).status.success());
    let mut owner = connect(place.postgres.as_ref().unwrap());
    let name = format!("writer_{}", std::process::id());
    owner
        .batch_execute(&format!(
            "CREATE ROLE {name} LOGIN PASSWORD 'kairos-dev'; GRANT USAGE ON SCHEMA kairos TO {name}; \
             GRANT SELECT, INSERT, UPDATE ON ALL TABLES IN SCHEMA kairos TO {name}"
        ))
        .unwrap();
    let url = place.postgres.clone().unwrap().replace("kairos@", &format!("{name}@"));
    place.postgres = Some(url.clone());
    place.more[2] = "migrate = \"verify\"".into();
    let mut journal = Written::begin(&place.journal(), 1);
    journal.some(1_000);
    journal.end();
    let output = place.call("check", &[]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    place.catch_up();
    place.postgres = Some(url.replace(&format!("{name}@"), "kairos@"));
    postgres_holds_all(&place);
    owner.batch_execute(&format!("DROP OWNED BY {name}; DROP ROLE {name}")).unwrap();
}
