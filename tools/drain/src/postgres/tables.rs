//! The small tables that say what the numbers in the large ones mean.

use kairos_journal::RunInfo;
use kairos_logic::instrument::InstrumentTable;
use postgres::Transaction;

use super::{failed, signed};
use crate::sink::SinkError;
use crate::source::Run;
use crate::table::words;

pub(super) fn write_words(batch: &mut Transaction<'_>, schema: &str) -> Result<(), SinkError> {
    let (mut groups, mut numbers, mut texts) = (Vec::new(), Vec::new(), Vec::new());
    for (group, number, text) in words() {
        groups.push(group);
        numbers.push(number);
        texts.push(text);
    }
    let insert = format!(
        "INSERT INTO {schema}.word (\"of\", number, word) \
         SELECT * FROM unnest($1::text[], $2::int2[], $3::text[]) \
         ON CONFLICT (\"of\", number) DO UPDATE SET word = excluded.word \
         WHERE word.word <> excluded.word"
    );
    let done = batch.execute(&insert, &[&groups, &numbers, &texts]);
    done.map(|_| ()).map_err(|error| failed("write words", &error))
}

/// What the manifests say of all runs by now. May come again.
pub(super) fn write_runs(
    batch: &mut Transaction<'_>,
    schema: &str,
    runs: &[RunInfo],
) -> Result<(), SinkError> {
    let told = |error: postgres::Error| failed("write runs", &error);
    for it in runs {
        let field = |key: &str| it.manifest.get(key)?.as_i64();
        let note = |key: &str| it.manifest.get("notes")?.get(key)?.as_str();
        batch
            .execute(
                &format!(
                    "INSERT INTO {schema}.run (run, status, first_seq, last_seq, started_ns, \
                     ended_ns, seed, build, gate) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) \
                     ON CONFLICT (run) DO UPDATE SET status = excluded.status, \
                     last_seq = excluded.last_seq, ended_ns = excluded.ended_ns"
                ),
                &[
                    &signed(it.run),
                    &it.status.name(),
                    &signed(it.first_seq),
                    &it.last_seq.map(signed),
                    &signed(it.started_ns),
                    &field("ended_ns"),
                    &field("seed"),
                    &note("build"),
                    &note("gate"),
                ],
            )
            .map_err(told)?;
    }
    Ok(())
}

/// What the numbers in a run's rows mean. May come again.
pub(super) fn write_run(
    batch: &mut Transaction<'_>,
    schema: &str,
    run: &Run,
) -> Result<(), SinkError> {
    let told = |error: postgres::Error| failed("write a run", &error);
    let number = signed(run.number);
    if let Some(config) = &run.config {
        let update = format!("UPDATE {schema}.run SET config = $2 WHERE run = $1");
        batch.execute(&update, &[&number, config]).map_err(told)?;
    }
    for (place, it) in (0_i16..).zip(&run.strategies) {
        batch
            .execute(
                &format!(
                    "INSERT INTO {schema}.strategy (run, strategy, name, kind) \
                     VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING"
                ),
                &[&number, &place, &it.name, &it.kind],
            )
            .map_err(told)?;
    }
    for (place, name) in (0_i16..).zip(&run.table.venues) {
        batch
            .execute(
                &format!(
                    "INSERT INTO {schema}.venue (run, venue, name, mode) VALUES ($1, $2, $3, $4) \
                     ON CONFLICT DO NOTHING"
                ),
                &[&number, &place, name, &run.mode(name)],
            )
            .map_err(told)?;
    }
    for (place, name) in (0_i32..).zip(&run.table.currencies) {
        batch
            .execute(
                &format!(
                    "INSERT INTO {schema}.currency (run, currency, name) VALUES ($1, $2, $3) \
                     ON CONFLICT DO NOTHING"
                ),
                &[&number, &place, name],
            )
            .map_err(told)?;
    }
    write_instruments(batch, schema, run, &run.table)
}

fn write_instruments(
    batch: &mut Transaction<'_>,
    schema: &str,
    run: &Run,
    table: &InstrumentTable,
) -> Result<(), SinkError> {
    let told = |error: postgres::Error| failed("write instruments", &error);
    let insert = batch
        .prepare(&format!(
            "INSERT INTO {schema}.instrument (run, instrument, venue, symbol, base, quote, \
             price_scale, qty_scale, tick, lot, min_qty, min_notional, maker_fee_ppm, taker_fee_ppm, \
             mode) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15) \
             ON CONFLICT DO NOTHING"
        ))
        .map_err(told)?;
    for (id, it) in table.iter() {
        let venue = table.venue_name(it.venue);
        batch
            .execute(
                &insert,
                &[
                    &signed(run.number),
                    &i32::from(id.0),
                    &venue,
                    &it.symbol,
                    &table.currency_name(it.base),
                    &table.currency_name(it.quote),
                    &i16::from(it.price_scale),
                    &i16::from(it.qty_scale),
                    &it.tick.0,
                    &it.lot.0,
                    &it.min_qty.0,
                    &it.min_notional.0,
                    &it.maker_fee_ppm,
                    &it.taker_fee_ppm,
                    &run.mode(venue),
                ],
            )
            .map_err(told)?;
    }
    Ok(())
}
