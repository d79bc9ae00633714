//! What an operator asks of the database besides the sink.

use kairos_edge::config::{Migrate, Postgres};

use super::schema::{self, Extension};
use super::{NAME, Server, connect, failed, owner, policies, signed};
use crate::audit::{Tallies, Tally};
use crate::sink::{Batch, Cursor, SinkError};
use crate::table::Table;

/// What the tables hold, and the cursor beside them. Nothing is changed.
///
/// # Errors
/// [`SinkError`] where the server cannot be asked or holds another journal.
pub fn tally(config: &Postgres, journal: &str) -> Result<(Cursor, Tallies), SinkError> {
    let mut client = connect::connect(config)?;
    let sink = reader(config, journal);
    let told = |error: postgres::Error| failed("count rows", &error);
    // One moment for all tables: a drain may be writing.
    client
        .batch_execute(
            "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET LOCAL statement_timeout = 0",
        )
        .map_err(told)?;
    let cursor = sink.stored(&mut client)?.map_or(Cursor::START, |it| it.1);
    let mut tallies = Tallies::new();
    for table in Table::ALL.iter().map(|table| table.name()) {
        let query = format!(
            "SELECT run, count(*), sum(seq)::text FROM {}.{table} GROUP BY run",
            config.schema
        );
        for row in client.query(&query, &[]).map_err(told)? {
            let number = |at: usize| u64::try_from(row.get::<_, i64>(at)).unwrap_or(0);
            let sum = row.get::<_, String>(2).parse().unwrap_or(0);
            tallies.insert((number(0), table.to_owned()), Tally { rows: number(1), sum });
        }
    }
    Ok((cursor, tallies))
}

/// Deletes the schema, so that the next run writes it anew.
///
/// # Errors
/// What the server says.
pub fn clear(config: &Postgres) -> Result<(), SinkError> {
    let mut client = connect::connect(config)?;
    let drop = format!("DROP SCHEMA IF EXISTS {} CASCADE", config.schema);
    client.batch_execute(&drop).map_err(|error| failed("drop the schema", &error))
}

/// Brings the schema up to date whatever the configuration says of it; returns what was applied.
///
/// # Errors
/// As [`schema::migrate`].
pub fn migrate(config: &Postgres) -> Result<Vec<&'static str>, SinkError> {
    let config = Postgres { migrate: Migrate::Auto, ..config.clone() };
    let mut client = connect::connect(&config)?;
    let timescale = matches!(schema::extension(&mut client, &config)?, Extension::Used(_));
    let applied = schema::migrate(&mut client, &config, timescale)?;
    if timescale {
        policies::set(&mut client, &config)?;
    }
    Ok(applied)
}

/// The steps of the schema that are missing.
///
/// # Errors
/// As [`schema::plan`].
pub fn plan(config: &Postgres) -> Result<Vec<schema::Migration>, SinkError> {
    let mut client = connect::connect(config)?;
    let timescale = matches!(schema::extension(&mut client, config)?, Extension::Used(_));
    schema::plan(&mut client, &config.schema, timescale).map(|plan| plan.missing)
}

/// The cursor in the database, without taking over.
///
/// # Errors
/// [`SinkError`] where the server cannot be asked or holds another journal.
pub fn held(config: &Postgres, journal: &str) -> Result<Cursor, SinkError> {
    let mut client = connect::connect(config)?;
    Ok(reader(config, journal).stored(&mut client)?.map_or(Cursor::START, |it| it.1))
}

/// Accepts that everything from the cursor to `next_seq` is missing: the sink goes on there, and a row says
/// so. Every writer is fenced.
///
/// # Errors
/// What the server says; [`SinkError::Diverged`] where the cursor is not `from`.
pub fn skip(
    config: &Postgres,
    journal: &str,
    from: Cursor,
    next_seq: u64,
) -> Result<(), SinkError> {
    let mut client = connect::connect(config)?;
    let told = |error: postgres::Error| failed("skip", &error);
    let mut step = client.transaction().map_err(told)?;
    let moved = format!(
        "UPDATE {0}.drain_offset SET epoch = epoch + 1, owner = $1, run = 0, next_seq = $2, \
         chain_crc = 0, updated_at = now() WHERE journal::text = $3 AND sink = $4 AND next_seq = $5",
        config.schema
    );
    let (to, at) = (signed(next_seq), signed(from.next_seq));
    let count = step.execute(&moved, &[&owner(), &to, &journal, &NAME, &at]).map_err(told)?;
    if count != 1 {
        return Err(SinkError::Diverged("the cursor moved: a drain is running".into()));
    }
    let row = format!(
        "INSERT INTO {}.drain_gap (journal, sink, first_seq, last_seq, owner) \
         VALUES ($1::text::uuid, $2, $3, $4, $5)",
        config.schema
    );
    step.execute(&row, &[&journal, &NAME, &at, &(to - 1), &owner()]).map_err(told)?;
    step.commit().map_err(told)
}

/// What `kairos drain check` finds of a server, as lines; the last part is what is wrong with it.
///
/// # Errors
/// [`SinkError`] where the server cannot be asked at all.
pub fn check(config: &Postgres) -> Result<(Vec<String>, Vec<String>), SinkError> {
    let mut client = connect::connect(config)?;
    let told = |error: postgres::Error| failed("ask the server", &error);
    let (mut facts, mut wrong) = (Vec::new(), Vec::new());
    client.batch_execute("SET default_transaction_read_only = on").map_err(told)?;
    let row = client
        .query_one(
            "SELECT current_setting('server_version'), current_user::text, \
             current_database()::text, pg_is_in_recovery(), \
             (extract(epoch FROM clock_timestamp()) * 1e9)::bigint, \
             has_database_privilege(current_database(), 'CREATE')",
            &[],
        )
        .map_err(told)?;
    let text = |at: usize| -> String { row.get(at) };
    facts.push(format!("server {}, user {}, database {}", text(0), text(1), text(2)));
    if let Err(error) = super::check_server(&mut client) {
        wrong.push(error.to_string());
    }
    if row.get(3) {
        wrong.push("this server is a standby: it takes no rows".to_owned());
    }
    let off = crate::status::now_ns().cast_signed() - row.get::<_, i64>(4);
    facts.push(format!("its clock is {:.1} ms from this host's", ms(off)));
    if off.unsigned_abs() > 1_000_000_000 {
        wrong.push("the clocks of server and host are more than a second apart".to_owned());
    }
    let timescale = match schema::extension(&mut client, config) {
        Ok(Extension::Used(version)) => {
            facts.push(format!("timescaledb {version} is used"));
            true
        }
        Ok(Extension::Unused(why)) => {
            facts.push(format!("plain tables: {why}"));
            false
        }
        Err(error) => {
            wrong.push(error.to_string());
            false
        }
    };
    let schema = &config.schema;
    let missing = match schema::plan(&mut client, schema, timescale) {
        Ok(plan) => plan.missing,
        Err(error) => {
            wrong.push(error.to_string());
            return Ok((facts, wrong));
        }
    };
    if missing.is_empty() {
        facts.push(format!("schema {schema} is up to date"));
        if let Err(error) = schema::check_columns(&mut client, schema) {
            wrong.push(error.to_string());
        }
        let query = "SELECT count(*) FROM pg_tables WHERE schemaname = $1 AND tablename <> 'schema_migration' \
                     AND NOT has_table_privilege(format('%I.%I', schemaname, tablename), 'INSERT')";
        let refused: i64 = client.query_one(query, &[schema]).map_err(told)?.get(0);
        if refused > 0 {
            wrong.push(format!("the user may not write {refused} tables of schema {schema}"));
        }
    } else {
        let names = missing.iter().map(|it| it.name).collect::<Vec<_>>().join(", ");
        facts.push(format!("schema {schema} lacks {names}"));
        if config.migrate == Migrate::Verify {
            wrong.push("migrate = \"verify\": run kairos drain migrate".to_owned());
        } else if !row.get::<_, bool>(5) {
            wrong.push("the user may not create schemas in this database".to_owned());
        }
    }
    Ok((facts, wrong))
}

#[expect(clippy::cast_precision_loss, reason = "a number for a person")]
fn ms(ns: i64) -> f64 {
    ns as f64 / 1e6
}

/// A sink that is asked and never written.
fn reader(config: &Postgres, journal: &str) -> Server {
    let batch = Batch { rows: 1, catchup_rows: 1, bytes: 1, ms: 1 };
    let mut sink = Server::new(config.clone(), batch, std::path::PathBuf::new());
    journal.clone_into(&mut sink.journal);
    sink
}
