//! Servers that refuse, and disks without room: the sink waits, says why, and catches up; the others never
//! notice.

use kairos_drain::status::State;
use kairos_edge::frames::{Cold, StrategyName};
use kairos_logic::event::{Event, Flags, GapReason, StatusCode, Verb};
use kairos_logic::units::{
    CurrencyId, InstrumentId, Money, Nanos, OrderId, Price, Qty, Side, VenueId,
};

use super::harness::{Place, connect, prefix, servers, until};
use super::journal::Written;
use super::whole::{all_hold_all, files_hold_all, postgres_holds_all};

/// A database that turns read-only, and back.
#[test]
fn a_database_that_only_reads_is_waited_for() {
    let Some(mut place) = Place::with_postgres() else { return };
    place.redis = servers().redis.clone().map(|url| (url, prefix()));
    place.more[0] = "batch_ms = 3".into();
    let mut journal = Written::begin(&place.journal(), 1);
    journal.some(500);
    journal.flush();
    let drain = place.start();
    let seq = |sink: &str| place.status(sink).map_or(0, |it| it.seq);
    until("postgres works", || seq("postgres") >= journal.last());
    let url = place.postgres.clone().unwrap();
    let (server, name) = url.rsplit_once('/').unwrap();
    let mut admin = connect(&format!("{server}/postgres"));
    let set = |admin: &mut postgres::Client, to: &str| {
        // Connections that are there keep what they have: they are ended.
        admin
            .batch_execute(&format!(
                "ALTER DATABASE {name} SET default_transaction_read_only = {to}; \
                 SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'"
            ))
            .unwrap();
    };
    set(&mut admin, "on");
    for _ in 0..5 {
        journal.some(200);
        journal.flush();
        until("redis goes on", || seq("redis") >= journal.last());
    }
    until("postgres waits", || {
        let it = place.status("postgres").unwrap();
        it.state == State::Backoff && it.last_error.is_some_and(|why| why.contains("read-only"))
    });
    set(&mut admin, "off");
    until("postgres catches up", || seq("postgres") >= journal.last());
    journal.end();
    assert_eq!(drain.stop(), 0, "{}", place.log());
    all_hold_all(&place);
}

/// Below `min_free_mib` no file is begun; there is no part of one to be seen.
#[test]
fn a_disk_without_room_is_waited_for() {
    let mut place = Place::with_files();
    place.more[1] = "min_free_mib = 1000000000".into();
    place.redis = servers().redis.clone().map(|url| (url, prefix()));
    let mut journal = Written::begin(&place.journal(), 1);
    journal.some(500);
    journal.flush();
    let drain = place.start();
    until("it waits", || {
        place.status("parquet").is_some_and(|it| {
            it.state == State::Backoff && it.errors.get("full").is_some_and(|count| *count > 1)
        })
    });
    if place.redis.is_some() {
        until("redis has it", || place.status("redis").is_some_and(|it| it.seq >= journal.last()));
    }
    assert!(super::whole::files_of(&place.files(), "trade").is_empty());
    assert_eq!(place.log().matches("min_free_mib").count(), 1, "said once: {}", place.log());
    assert_eq!(drain.stop(), 0, "{}", place.log());
    journal.end();
    place.more[1].clear();
    place.catch_up();
    files_hold_all(&place);
}

/// A server without TLS, or without the certificate that is asked for, gets nothing.
#[test]
fn a_server_without_the_right_certificate_gets_nothing() {
    let servers = servers();
    let (Some(pg), Some(redis)) = (&servers.postgres, &servers.redis) else { return };
    let mut place = Place {
        postgres: Some(super::harness::database(pg)),
        redis: Some((redis.replace("redis://", "rediss://"), prefix())),
        ..Place::with_files()
    };
    place.more[2] = "tls = \"verify-full\"".into();
    place.more[3] = "timeout_ms = 500".into();
    let mut journal = Written::begin(&place.journal(), 1);
    journal.some(300);
    journal.end();
    let output = place.call("run", &["--until-caught-up"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("postgres: backoff: cannot connect"), "{said}");
    assert!(said.contains("redis: backoff: cannot connect"), "{said}");
    files_hold_all(&place);
    let there: i64 = connect(place.postgres.as_ref().unwrap())
        .query_one("SELECT count(*) FROM pg_namespace WHERE nspname = 'kairos'", &[])
        .unwrap()
        .get(0);
    assert_eq!(there, 0);
}

/// The greatest and least numbers that a frame can hold come through every sink as they are.
#[test]
fn extreme_values_come_through() {
    let servers = servers();
    let place = Place {
        postgres: servers.postgres.as_ref().map(|url| super::harness::database(url)),
        redis: servers.redis.clone().map(|url| (url, prefix())),
        ..Place::with_files()
    };
    let mut journal = Written::begin(&place.journal(), 1);
    let id = InstrumentId(0);
    let latest = Nanos(i64::MAX.unsigned_abs());
    for (price, qty) in [(i64::MAX, i64::MAX), (i64::MIN, i64::MIN), (0, 0), (-1, 1)] {
        let (price, qty) = (Price(price), Qty(qty));
        for at in [Nanos(0), Nanos(1), Nanos(999), latest] {
            let order = OrderId(u64::MAX);
            journal.event(&Event::trade(at, latest, id, price, qty, u64::MAX, Side::Sell));
            journal.event(&Event::quote(at, at, id, (price, qty), (price, qty)));
            journal.event(&Event::book(at, at, id, Side::Buy, price, qty, u64::MAX, Flags::LAST));
            journal.event(&Event::gap(at, id, GapReason::Sequence, u64::MAX, 0));
            let code = StatusCode::Connected;
            journal.event(&Event::status(at, InstrumentId::NONE, VenueId(0), code, i64::MIN));
            journal.event(&Event::command(at, Verb::Reduce, i64::MIN));
            journal.event(&Event::config(at, u64::MAX));
            let money = (Money(i64::MAX), Money(i64::MIN));
            journal.event(&Event::balance(at, VenueId(0), CurrencyId(0), money.0, money.1));
            let fill = Event::fill(at, at, id, order, Side::Buy, Price(1), Qty(1), money.1, false);
            journal.event(&fill);
        }
    }
    journal.end();
    place.catch_up();
    files_hold_all(&place);
    if place.postgres.is_some() {
        extremes_in_postgres(&place);
    }
}

fn extremes_in_postgres(place: &Place) {
    let mut client = connect(place.postgres.as_ref().unwrap());
    let row = client
        .query_one(
            "SELECT count(*), min(price), max(price), min(ts_ns), max(ts_ns), max(ts)::text, \
             count(DISTINCT trade_id) FROM kairos.trade",
            &[],
        )
        .unwrap();
    let cell = |at: usize| row.get::<_, i64>(at);
    assert_eq!(
        [cell(0), cell(1), cell(2), cell(3), cell(4), cell(6)],
        [16, i64::MIN, i64::MAX, 0, i64::MAX, 1]
    );
    assert_eq!(row.get::<_, String>(5), "2262-04-11 23:47:16.854775+00");
    let id: String =
        client.query_one("SELECT trade_id FROM kairos.market_ticks LIMIT 1", &[]).unwrap().get(0);
    assert_eq!(id, u64::MAX.to_string());
    let shown: String =
        client.query_one("SELECT max(price)::text FROM kairos.market_ticks", &[]).unwrap().get(0);
    assert_eq!(shown, "92233720368547758.070000000000");
}

/// A time behind the year 2262 is in no row: the sink stops there and says at which event.
#[test]
fn a_time_that_no_row_can_hold_is_refused() {
    let Some(mut place) = Place::with_postgres() else { return };
    place.parquet = true;
    let mut journal = Written::begin(&place.journal(), 1);
    journal.some(100);
    let at = Nanos(i64::MAX.unsigned_abs() + 1);
    let seq = journal.event(&Event::timer(at));
    journal.end();
    let output = place.call("run", &["--until-caught-up"]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(78), "{said}");
    for sink in ["postgres", "parquet"] {
        assert!(said.contains(&format!("{sink}: rejected: seq {seq}: ")), "{said}");
    }
}

/// Names may hold anything: they arrive as they are, in SQL and in JSON.
#[test]
fn names_are_text_and_nothing_else() {
    let Some(place) = Place::with_postgres() else { return };
    let mut journal = Written::begin(&place.journal(), 1);
    let name = "tri'; DROP SCHEMA kairos CASCADE; --\\\"\n\u{1f600}";
    let cold = Cold::Strategies(vec![
        StrategyName { name: name.into(), kind: String::new() },
        StrategyName { name: String::new(), kind: name.into() },
    ]);
    journal.cold(&cold);
    journal.some(500);
    journal.end();
    place.catch_up();
    postgres_holds_all(&place);
    let mut client = connect(place.postgres.as_ref().unwrap());
    let rows =
        client.query("SELECT name, kind FROM kairos.strategy ORDER BY strategy", &[]).unwrap();
    let texts: Vec<(String, String)> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
    assert_eq!(texts, [(name.into(), String::new()), (String::new(), name.into())]);
}
