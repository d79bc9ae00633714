//! What an operator asks of the server besides the lanes.

use kairos_edge::config::Redis;
use redis::{RedisError, Value};

use super::connect::failed;
use super::{Lane, STREAMS, id_of};
use crate::sink::{Batch, Cursor, SinkError};

/// Streams by name, each with the run and `seq` of its entries.
pub type Streams = Vec<(&'static str, Vec<(u64, u64)>)>;

/// What the streams hold, and the cursor beside them. Nothing is changed.
///
/// # Errors
/// [`SinkError`] where the server cannot be asked or holds another journal.
pub fn streams(config: &Redis, journal: &str) -> Result<(Cursor, Streams), SinkError> {
    let mut lane = reader(config, journal, 0)?;
    let cursor = lane.stored()?.cursor;
    let mut all = Vec::new();
    for stream in STREAMS {
        let key = format!("{}{stream}", config.key_prefix);
        let connection = lane.live()?;
        let mut from = "-".to_owned();
        let mut ids = Vec::new();
        loop {
            let page: Vec<(String, Value)> = redis::cmd("XRANGE")
                .arg(&key)
                .arg(&from)
                .arg("+")
                .arg("COUNT")
                .arg(5_000)
                .query(connection)
                .map_err(|error| failed("read a stream", &error))?;
            for (id, _) in &page {
                let parts = id_of(id).unwrap_or_default();
                // Behind the cursor's moment a running drain may have added more.
                if parts.0 < cursor.run || parts.1 < cursor.next_seq {
                    ids.push(parts);
                }
            }
            let Some((last, _)) = page.last() else { break };
            from = format!("({last}");
        }
        all.push((stream, ids));
    }
    Ok((cursor, all))
}

/// Deletes every key that the drain writes, so that the next run writes them anew.
///
/// # Errors
/// What the server says.
pub fn clear(config: &Redis) -> Result<(), SinkError> {
    let mut lane = reader(config, "", 0)?;
    let connection = lane.live()?;
    let told = |error: RedisError| failed("delete keys", &error);
    let escaped: String = config
        .key_prefix
        .chars()
        .flat_map(|it| ['\\', it].into_iter().skip(usize::from(it.is_ascii_alphanumeric())))
        .collect();
    // The epoch stays: a drain that still runs is fenced rather than let on.
    for name in [
        "drain:offset*",
        "drain:gaps",
        "market:tick:*",
        "order:*",
        "position:*",
        "balance:*",
        "stream:orders",
        "stream:fills",
        "stream:risk",
        "risk:state",
        "control:status",
    ] {
        let mut from = 0_u64;
        loop {
            let (next, keys): (u64, Vec<String>) = redis::cmd("SCAN")
                .arg(from)
                .arg("MATCH")
                .arg(format!("{escaped}{name}"))
                .arg("COUNT")
                .arg(10_000)
                .query(connection)
                .map_err(told)?;
            if !keys.is_empty() {
                let _: Value = redis::cmd("DEL").arg(&keys).query(connection).map_err(told)?;
            }
            from = next;
            if from == 0 {
                break;
            }
        }
    }
    for lane in 0..config.connections {
        let key = format!("{}drain:epoch:{lane}", config.key_prefix);
        let _: Value = redis::cmd("INCR").arg(key).query(connection).map_err(told)?;
    }
    Ok(())
}

/// A lane that is asked and does not take over.
fn reader(config: &Redis, journal: &str, lane: u64) -> Result<Lane, SinkError> {
    let batch = Batch { rows: 1, catchup_rows: 1, bytes: 1, ms: 1 };
    let mut lane = Lane::new(config.clone(), batch, lane);
    journal.clone_into(&mut lane.journal);
    lane.connect()?;
    Ok(lane)
}

/// The cursor of a lane on the server, without taking over.
///
/// # Errors
/// [`SinkError`] where the server cannot be asked or holds another journal.
pub fn held(config: &Redis, journal: &str, lane: u64) -> Result<Cursor, SinkError> {
    Ok(reader(config, journal, lane)?.stored()?.cursor)
}

/// Accepts that everything from the lane's cursor to `next_seq` is missing: it goes on there, and the list
/// `drain:gaps` says so. Every writer of the lane is fenced.
///
/// # Errors
/// What the server says.
pub fn skip(
    config: &Redis,
    journal: &str,
    lane: u64,
    from: Cursor,
    next_seq: u64,
) -> Result<(), SinkError> {
    let mut this = reader(config, journal, lane)?;
    let (epoch, offset) = (this.key("epoch"), this.key("offset"));
    let gaps = format!("{}drain:gaps", config.key_prefix);
    let row = serde_json::json!({
        "lane": lane, "first_seq": from.next_seq, "last_seq": next_seq - 1,
        "accepted_ns": crate::status::now_ns(),
    });
    let mut step = redis::pipe();
    step.atomic().cmd("INCR").arg(epoch);
    step.cmd("HSET").arg(&offset).arg("run").arg(0).arg("next_seq").arg(next_seq);
    step.cmd("HSET").arg(&offset).arg("crc").arg(0).arg("journal").arg(journal);
    step.cmd("RPUSH").arg(gaps).arg(row.to_string());
    let _: Value = step.query(this.live()?).map_err(|error| failed("skip", &error))?;
    Ok(())
}

/// What `kairos drain check` finds of a server, as lines; the last part is what is wrong with it.
///
/// # Errors
/// [`SinkError`] where the server cannot be asked at all.
pub fn check(config: &Redis) -> Result<(Vec<String>, Vec<String>), SinkError> {
    let mut lane = reader(config, "", 0)?;
    let connection = lane.live()?;
    let told = |error: RedisError| failed("ask the server", &error);
    let (mut facts, mut wrong) = (Vec::new(), Vec::new());
    let info: String = redis::cmd("INFO").query(connection).map_err(told)?;
    let field = |key: &str| {
        let line = info.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
        line.map(|it| it.trim().to_owned())
    };
    match field("dragonfly_version") {
        Some(version) => facts.push(format!("DragonflyDB {version}")),
        None => {
            let kind = if field("valkey_version").is_some() { "Valkey" } else { "Redis" };
            let version = field("valkey_version").or_else(|| field("redis_version"));
            facts.push(format!("{kind} {}", version.unwrap_or_default()));
        }
    }
    if field("role").is_some_and(|role| role == "slave" || role == "replica") {
        wrong.push("this server is a replica: it takes no writes".to_owned());
    }
    if field("cluster_enabled").as_deref() == Some("1") && !config.key_prefix.contains('{') {
        wrong.push("a cluster needs a key_prefix with a hash tag, such as {kairos}".to_owned());
    }
    match field("maxmemory_policy") {
        Some(policy) if policy.starts_with("allkeys") => wrong.push(format!(
            "maxmemory-policy is {policy}: the cursor may be evicted, and then all comes again"
        )),
        Some(_) | None => {}
    }
    let time: (u64, u64) = redis::cmd("TIME").query(connection).map_err(told)?;
    let off = crate::status::now_ns().abs_diff(time.0 * 1_000_000_000 + time.1 * 1_000);
    facts.push(format!("its clock is {} ms from this host's", off / 1_000_000));
    if off > 1_000_000_000 {
        wrong.push("the clocks of server and host are more than a second apart".to_owned());
    }
    Ok((facts, wrong))
}
