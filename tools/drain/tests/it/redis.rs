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
    let Ok(url) = std::env::var("KAIROS_TEST_DRAGONFLY_URL") else {
        eprintln!("SKIP: KAIROS_TEST_DRAGONFLY_URL names no DragonflyDB");
        return;
    };
    everything_once(Place { redis: Some((url, super::harness::prefix())), ..Place::new() });
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
