//! Redis: what subscribers and readers find.

use super::harness::{Place, connect_redis, until};
use super::journal::Written;
use super::whole::redis_holds_all;

#[test]
fn streams_and_values_hold_every_event_once() {
    if let Some(place) = Place::with_redis() {
        everything_once(place);
    }
}

/// The same with DragonflyDB, where one is named.
#[test]
fn dragonfly_holds_the_same() {
    let Some(url) = super::harness::named("KAIROS_TEST_DRAGONFLY_URL") else {
        eprintln!("SKIP: KAIROS_TEST_DRAGONFLY_URL names no DragonflyDB");
        return;
    };
    let place = || Place { redis: Some((url.clone(), super::harness::prefix())), ..Place::new() };
    everything_once(place());
    taken_back(&place());
    lost_stream(&place());
    failing_command(&place());
    trimmed(place());
}

fn everything_once(mut place: Place) {
    place.more[3] = "connections = 3".into();
    let mut journal = Written::begin(&place.journal(), 1);
    journal.some(4_000);
    journal.end();
    place.catch_up();
    redis_holds_all(&place);
    // Lost its cursor: everything comes again, and what is there stays as it is.
    let (mut server, prefix) = connect_redis(&place);
    for lane in 0..3 {
        let _: u64 = redis::cmd("DEL")
            .arg(format!("{prefix}drain:offset:{lane}"))
            .query(&mut server)
            .unwrap();
    }
    place.catch_up();
    redis_holds_all(&place);
}

/// Notices come in order, with run and number, and none comes twice.
#[test]
fn subscribers_hear_of_orders_once_and_in_order() {
    let Some(place) = Place::with_redis() else { return };
    let (mut server, prefix) = connect_redis(&place);
    let channel = format!("{prefix}order_updates");
    let mut subscription = server.as_pubsub();
    subscription.subscribe(&channel).unwrap();
    subscription.set_read_timeout(Some(std::time::Duration::from_secs(30))).unwrap();
    let mut journal = Written::begin(&place.journal(), 1);
    let drain = place.start();
    journal.some(1_500);
    let last = journal.last();
    until("all is there", || place.status("redis").is_some_and(|it| it.seq >= last));
    journal.end();
    assert_eq!(drain.stop(), 0, "{}", place.log());
    let wanted: Vec<u64> = {
        let mut ids = super::whole::stream_ids(&place, "stream:orders");
        ids.extend(super::whole::stream_ids(&place, "stream:fills"));
        let seq = |id: String| id.split_once('-').unwrap().1.parse().unwrap();
        let mut seqs: Vec<u64> = ids.into_iter().map(seq).collect();
        seqs.sort_unstable();
        seqs
    };
    assert!(wanted.len() > 100, "{} updates", wanted.len());
    for seq in wanted {
        let payload: String = subscription.get_message().unwrap().get_payload().unwrap();
        let json: serde_json::Value = serde_json::from_str(&payload).unwrap();
        assert_eq!((json["run"].as_u64(), json["seq"].as_u64()), (Some(1), Some(seq)), "{payload}");
    }
}

/// A power loss takes back what Redis had seen: the next run's events follow on what is left, and readers see it
/// by the number of the run.
#[test]
fn what_a_power_loss_took_back_is_left_behind() {
    if let Some(place) = Place::with_redis() {
        taken_back(&place);
    }
}

fn taken_back(place: &Place) {
    let mut journal = Written::begin(&place.journal(), 1);
    journal.some(1_000);
    let last = journal.last();
    journal.end();
    place.catch_up();
    // Fifty more events of that run, which the journal does not have.
    let (mut server, prefix) = connect_redis(place);
    let offset = format!("{prefix}drain:offset:0");
    let (next, lost) = (last + 51, format!("1-{}", last + 40));
    let set = |server: &mut redis::Connection, command: &str, arguments: &[&str]| {
        let _: redis::Value = redis::cmd(command).arg(arguments).query(server).unwrap();
    };
    set(&mut server, "HSET", &[&offset, "next_seq", &next.to_string(), "crc", "12345"]);
    set(&mut server, "XADD", &[&format!("{prefix}stream:orders"), &lost, "data", "{}"]);
    // Without another run nobody knows yet whether this is the right journal: nothing is written.
    let output = place.call("run", &["--until-caught-up"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(
        String::from_utf8_lossy(&output.stderr).contains("the journal ends at seq"),
        "{output:?}"
    );
    let mut subscription = super::harness::open_redis(&place.redis.as_ref().unwrap().0);
    let mut subscription = subscription.as_pubsub();
    subscription.subscribe(format!("{prefix}order_updates")).unwrap();
    subscription.set_read_timeout(Some(std::time::Duration::from_secs(30))).unwrap();
    let mut journal = Written::begin(&place.journal(), 2);
    journal.some(1_000);
    journal.end();
    place.catch_up();
    redis_holds_all(place);
    assert_eq!(place.call("audit", &[]).status.code(), Some(0));
    // Notices of the new run come although their numbers are lower.
    let payload: String = subscription.get_message().unwrap().get_payload().unwrap();
    let json: serde_json::Value = serde_json::from_str(&payload).unwrap();
    assert_eq!(json["run"], 2, "{payload}");
    assert!(json["seq"].as_u64().unwrap() < next, "{payload}");
}

/// A stream that the server lost while it kept the cursor is written anew.
#[test]
fn a_lost_stream_is_noticed() {
    if let Some(place) = Place::with_redis() {
        lost_stream(&place);
    }
}

fn lost_stream(place: &Place) {
    let mut journal = Written::begin(&place.journal(), 1);
    journal.some(1_000);
    journal.end();
    place.catch_up();
    let (mut server, prefix) = connect_redis(place);
    for stream in ["stream:orders", "stream:fills", "stream:risk"] {
        let _: u64 = redis::cmd("DEL").arg(format!("{prefix}{stream}")).query(&mut server).unwrap();
        place.catch_up();
        redis_holds_all(place);
    }
}

/// A key that is something else than the drain's: the batch is refused and the cursor is not past it.
#[test]
fn a_command_that_fails_in_a_batch_does_not_pass_for_done() {
    if let Some(place) = Place::with_redis() {
        failing_command(&place);
    }
}

fn failing_command(place: &Place) {
    let mut journal = Written::begin(&place.journal(), 1);
    journal.some(1_000);
    journal.end();
    let (mut server, prefix) = connect_redis(place);
    let key = format!("{prefix}risk:state");
    let _: () = redis::cmd("SET").arg(&key).arg("mine").query(&mut server).unwrap();
    let output = place.call("run", &["--until-caught-up"]);
    assert_eq!(output.status.code(), Some(78), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("WRONGTYPE"), "{output:?}");
    let held: Option<u64> = redis::cmd("HGET")
        .arg(format!("{prefix}drain:offset:0"))
        .arg("next_seq")
        .query(&mut server)
        .unwrap();
    assert_eq!(held, Some(1), "nothing of the batch counts");
    let _: u64 = redis::cmd("DEL").arg(&key).query(&mut server).unwrap();
    place.catch_up();
    redis_holds_all(place);
}

/// Streams that the server trims keep the newest, and the audit knows.
#[test]
fn trimmed_streams_are_the_newest_entries() {
    if let Some(place) = Place::with_redis() {
        trimmed(place);
    }
}

fn trimmed(mut place: Place) {
    place.more[0] = "batch_rows = 500\ncatchup_rows = 500".into();
    let mut journal = Written::begin(&place.journal(), 1);
    journal.some(8_000);
    journal.end();
    let trimmed = another(&place, "stream_maxlen = 10000000", "stream_maxlen = 200");
    let output = place.command_with("run", &trimmed).arg("--until-caught-up").output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let (mut server, prefix) = connect_redis(&place);
    let orders = format!("{prefix}stream:orders");
    let count: usize = redis::cmd("XLEN").arg(&orders).query(&mut server).unwrap();
    let all = super::whole::journal_rows(&place.journal());
    assert!(count >= 200 && count < all["order_event"].len(), "{count}");
    let output = place.command_with("audit", &trimmed).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
}

/// A second configuration of a place, with one line another one.
fn another(place: &Place, from: &str, to: &str) -> std::path::PathBuf {
    let text = std::fs::read_to_string(place.config()).unwrap();
    assert!(text.contains(from));
    let file = place.dir.path().join("other.toml");
    std::fs::write(&file, text.replace(from, to)).unwrap();
    file
}

/// A subscriber that reads nothing holds up this sink's commands at most, and other sinks not at all.
#[test]
fn a_subscriber_who_does_not_read_holds_nobody_up() {
    let Some(place) = Place::with_redis() else { return };
    let (mut server, prefix) = connect_redis(&place);
    let mut deaf = server.as_pubsub();
    deaf.psubscribe(format!("{prefix}*")).unwrap();
    let mut journal = Written::begin(&place.journal(), 1);
    journal.some(20_000);
    journal.end();
    place.catch_up();
    redis_holds_all(&place);
    drop(deaf);
}
