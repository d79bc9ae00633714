//! What TimescaleDB does by itself: dropping old rows, compressing, refreshing bars. Set from the
//! configuration, and touched only where it differs from what is there.

use kairos_edge::config::Postgres;
use postgres::Client;

use super::failed;
use crate::sink::SinkError;

const DAY_NS: i64 = 86_400_000_000_000;
const MINUTE_NS: i64 = 60_000_000_000;

/// Tables that are compressed.
const COMPRESSED: [&str; 6] = ["trade", "quote", "depth", "order_event", "fill", "decision"];
/// Tables whose old rows are dropped.
const DROPPED: [&str; 3] = ["trade", "quote", "depth"];
/// Bars, how far behind now they are refreshed, and how often.
const BARS: [(&str, i64, &str); 4] = [
    ("bar_1s", MINUTE_NS, "1 minute"),
    ("bar_1m", 2 * MINUTE_NS, "1 minute"),
    ("bar_1h", 120 * MINUTE_NS, "1 hour"),
    ("bar_1d", 2 * DAY_NS, "1 hour"),
];

/// One policy as it must be.
struct Wanted {
    of: String, // the table or the bars, with their schema
    procedure: &'static str,
    key: &'static str, // of the number in the job's configuration
    number: Option<i64>,
    remove: String,
    add: String,
}

/// Sets them.
///
/// # Errors
/// What the server says.
pub(super) fn set(client: &mut Client, config: &Postgres) -> Result<(), SinkError> {
    let told = |error: postgres::Error| failed("set policies", &error);
    for it in wanted(config) {
        let found = found(client, config, &it).map_err(told)?;
        let is_right = match found {
            None => it.add.is_empty(),
            Some(number) => !it.add.is_empty() && number == it.number,
        };
        if is_right {
            continue;
        }
        if found.is_some() {
            client.batch_execute(&it.remove).map_err(told)?;
        }
        if !it.add.is_empty() {
            client.batch_execute(&it.add).map_err(told)?;
        }
    }
    Ok(())
}

/// The number of the policy that is there: `None` without a policy, `Some(None)` where it has none.
fn found(
    client: &mut Client,
    config: &Postgres,
    it: &Wanted,
) -> Result<Option<Option<i64>>, postgres::Error> {
    // Jobs of continuous aggregates name the table behind them.
    let query = "SELECT (j.config ->> $1::text)::bigint FROM timescaledb_information.jobs j \
                 LEFT JOIN timescaledb_information.continuous_aggregates c \
                     ON c.materialization_hypertable_schema = j.hypertable_schema \
                    AND c.materialization_hypertable_name = j.hypertable_name \
                 WHERE j.proc_name::text = $2 \
                   AND coalesce(c.view_schema, j.hypertable_schema)::text = $3 \
                   AND coalesce(c.view_name, j.hypertable_name)::text = $4";
    let name = it.of.rsplit('.').next().unwrap_or(&it.of);
    let rows = client.query(query, &[&it.key, &it.procedure, &config.schema, &name])?;
    Ok(rows.first().map(|row| row.get(0)))
}

fn wanted(config: &Postgres) -> Vec<Wanted> {
    let days = |days: u64| i64::try_from(days).unwrap_or(i64::MAX).saturating_mul(DAY_NS);
    let mut all = Vec::new();
    let schema = &config.schema;
    for table in COMPRESSED {
        let age = days(config.compress_after_days);
        let number = (age > 0).then_some(age);
        let of = format!("{schema}.{table}");
        let add = format!("SELECT add_compression_policy('{of}', compress_after => {age}::bigint)");
        all.push(Wanted {
            procedure: "policy_compression",
            key: "compress_after",
            number,
            remove: format!("SELECT remove_compression_policy('{of}')"),
            add: number.map(|_| add).unwrap_or_default(),
            of,
        });
    }
    for table in DROPPED {
        let age = days(config.market_data_days);
        let number = (age > 0).then_some(age);
        let of = format!("{schema}.{table}");
        let add = format!("SELECT add_retention_policy('{of}', drop_after => {age}::bigint)");
        all.push(Wanted {
            procedure: "policy_retention",
            key: "drop_after",
            number,
            remove: format!("SELECT remove_retention_policy('{of}')"),
            add: number.map(|_| add).unwrap_or_default(),
            of,
        });
    }
    for (bars, behind, every) in BARS {
        // All that there is, so that what an outage held up finds its way into the bars; only what changed
        // is computed again. But the first bars stop short of the trades that are dropped: a refresh over
        // what is gone would delete them, and the others with them.
        let kept = days(config.market_data_days);
        let number = (bars == BARS[0].0 && kept > 0).then(|| (kept - DAY_NS).max(kept / 2));
        let from = number.map_or_else(|| "NULL".to_owned(), |age| format!("{age}::bigint"));
        let of = format!("{schema}.{bars}");
        all.push(Wanted {
            procedure: "policy_refresh_continuous_aggregate",
            key: "start_offset",
            number,
            remove: format!("SELECT remove_continuous_aggregate_policy('{of}')"),
            add: format!(
                "SELECT add_continuous_aggregate_policy('{of}', start_offset => {from}, \
                 end_offset => {behind}::bigint, schedule_interval => interval '{every}')"
            ),
            of,
        });
    }
    all
}

#[cfg(test)]
mod tests {
    use kairos_edge::config::{Migrate, Timescale};

    use super::*;

    fn kept(market_data_days: u64) -> Vec<Wanted> {
        wanted(&Postgres {
            url: "postgres://u@h/d".into(),
            schema: "kairos".into(),
            timescaledb: Timescale::Auto,
            migrate: Migrate::Auto,
            synchronous_commit: false,
            depth: true,
            tls: None,
            ca_file: None,
            connect_timeout_ms: 1,
            statement_timeout_ms: 1,
            market_data_days,
            compress_after_days: 7,
        })
    }

    /// Bars that were made stay when the trades behind them are dropped.
    #[test]
    fn bars_are_not_refreshed_over_what_is_dropped() {
        for days in [1, 2, 30, 90, 36_500] {
            let all = kept(days);
            let of = |key: &str| -> Vec<_> {
                all.iter().filter(|it| it.key == key).map(|it| it.number).collect()
            };
            let (dropped, refreshed) = (of("drop_after"), of("start_offset"));
            assert_eq!((dropped.len(), refreshed.len()), (3, 4));
            assert!(refreshed[0] < dropped[0] && refreshed[0] > Some(0), "{days}");
            assert_eq!(refreshed[1..], [None; 3], "bars of bars are of what is kept for ever");
        }
        let all = kept(0);
        assert!(all.iter().filter(|it| it.key == "drop_after").all(|it| it.add.is_empty()));
        let refreshed = all.iter().filter(|it| it.key == "start_offset");
        assert!(refreshed.into_iter().all(|it| it.add.contains("start_offset => NULL, ")));
    }
}
