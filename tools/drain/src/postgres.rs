//! PostgreSQL, with or without TimescaleDB: rows and cursor in one transaction.

pub(crate) mod connect;
mod rows;
pub mod schema;

use std::io::Write as _;

use kairos_edge::config::Postgres;
use kairos_journal::RunInfo;
use kairos_logic::instrument::InstrumentTable;
use postgres::error::SqlState;
use postgres::types::ToSql;
use postgres::{Client, Statement, Transaction};

use self::rows::Rows;
use self::schema::Extension;
use crate::audit::{Tallies, Tally};
use crate::sink::{Batch, Cursor, Pending, Sink, SinkError};
use crate::source::{Entry, Run, identify};
use crate::table::{Row, Table, words};

/// Name of the sink, in the database and beside the journal.
pub const NAME: &str = "postgres";

/// The sink.
pub struct Server {
    config: Postgres,
    batch: Batch,
    journal_dir: std::path::PathBuf,
    journal: String,
    connection: Option<Connection>,
    epoch: i64,
    held: Cursor,
    rows: Vec<Rows>, // by place in Table::ALL
    pending: Pending,
    run: Option<Run>, // whose tables go with the next commit
}

/// A connection with its prepared statements.
struct Connection {
    client: Client,
    advance: Statement,
    copies: Vec<Statement>, // by place in Table::ALL
}

impl Connection {
    fn new(mut client: Client, schema: &str) -> Result<Self, SinkError> {
        let told = |error: postgres::Error| failed("prepare statements", &error);
        let advance = client
            .prepare(&format!(
                "UPDATE {schema}.drain_offset SET run = $1, next_seq = $2, chain_crc = $3, \
                 updated_at = now() WHERE journal::text = $4 AND sink = $5 AND epoch = $6 \
                 AND next_seq = $7"
            ))
            .map_err(told)?;
        let mut copies = Vec::new();
        for table in Table::ALL {
            copies.push(client.prepare(&copy_into(schema, *table)).map_err(told)?);
        }
        Ok(Self { client, advance, copies })
    }
}

impl Server {
    /// A sink that will write to the server in `config`. The journal's directory is asked for its
    /// runs.
    #[must_use]
    pub fn new(config: Postgres, batch: Batch, journal_dir: std::path::PathBuf) -> Self {
        Self {
            config,
            batch,
            journal_dir,
            journal: String::new(),
            connection: None,
            epoch: 0,
            held: Cursor::START,
            rows: Table::ALL.iter().map(|_| Rows::default()).collect(),
            pending: Pending::default(),
            run: None,
        }
    }

    fn clear(&mut self) {
        self.rows.iter_mut().for_each(Rows::clear);
        self.pending = Pending::default();
    }

    /// What a commit would copy, by statement, for comparing rates. Nothing waits afterwards.
    pub fn take_batch(&mut self) -> Vec<(String, Vec<u8>)> {
        let mut batch = Vec::new();
        for (table, rows) in Table::ALL.iter().zip(&mut self.rows) {
            if rows.count() > 0 {
                batch.push((copy_into(&self.config.schema, *table), rows.finished().to_vec()));
            }
        }
        self.clear();
        batch
    }

    /// What was left out, so that a change of it is noticed.
    fn filter(&self) -> &'static str {
        if self.config.depth { "all" } else { "no depth" }
    }

    /// The cursor in the database, without taking over. `None` where there is none yet.
    fn stored(&self, client: &mut Client) -> Result<Option<(i64, Cursor, String)>, SinkError> {
        let query = format!(
            "SELECT epoch, run, next_seq, chain_crc, filter, journal::text = $1 FROM \
             {}.drain_offset WHERE sink = $2 ORDER BY 6 DESC LIMIT 1",
            self.config.schema
        );
        let row = client
            .query_opt(&query, &[&self.journal, &NAME])
            .map_err(|error| failed("read the cursor", &error))?;
        let Some(row) = row else { return Ok(None) };
        if !row.get::<_, bool>(5) {
            let schema = &self.config.schema;
            return Err(SinkError::Diverged(format!(
                "schema {schema} holds another journal; give this one a drain.postgres.schema of its \
                 own"
            )));
        }
        let number = |at: usize| u64::try_from(row.get::<_, i64>(at)).unwrap_or(0);
        let crc = u32::try_from(number(3)).unwrap_or(0);
        let cursor = Cursor { run: number(1), next_seq: number(2), crc };
        Ok(Some((row.get(0), cursor, row.get(4))))
    }

    fn take_over(&mut self, client: &mut Client) -> Result<Cursor, SinkError> {
        let schema = &self.config.schema;
        let told = |error: postgres::Error| failed("take over", &error);
        // Asked first for its journal: another one's row must not get a neighbour.
        self.stored(client)?;
        let mut taking = client.transaction().map_err(told)?;
        taking
            .execute(
                &format!(
                    "INSERT INTO {schema}.drain_offset (journal, sink, filter) \
                     VALUES ($1::text::uuid, $2, $3) ON CONFLICT DO NOTHING"
                ),
                &[&self.journal, &NAME, &self.filter()],
            )
            .map_err(told)?;
        let owner = format!("{}@{}", std::process::id(), hostname());
        let row = taking
            .query_one(
                &format!(
                    "UPDATE {schema}.drain_offset SET epoch = epoch + 1, owner = $3, \
                     updated_at = now() WHERE journal::text = $1 AND sink = $2 RETURNING epoch"
                ),
                &[&self.journal, &NAME, &owner],
            )
            .map_err(told)?;
        let epoch: i64 = row.get(0);
        write_words(&mut taking, schema)?;
        taking.commit().map_err(|error| transient("take over", &error))?;
        self.epoch = epoch;
        let stored = self.stored(client)?;
        let Some((_, cursor, filter)) = stored else {
            return Err(SinkError::Transient("the cursor is gone".into()));
        };
        if filter != self.filter() {
            return Err(SinkError::Diverged(format!(
                "written with filter {filter:?}, configured is {:?}; changing it needs a rebuild",
                self.filter()
            )));
        }
        Ok(cursor)
    }

    fn send(&mut self, next: Cursor) -> Result<(), SinkError> {
        let Some(connection) = &mut self.connection else {
            return Err(SinkError::Transient("not connected".into()));
        };
        let Connection { client, advance, copies } = connection;
        let told = |error: postgres::Error| failed("write", &error);
        let mut batch = client.transaction().map_err(told)?;
        let (run, crc) = (signed(next.run), i64::from(next.crc));
        let parameters: [&(dyn ToSql + Sync); 7] = [
            &run,
            &signed(next.next_seq),
            &crc,
            &self.journal,
            &NAME,
            &self.epoch,
            &signed(self.held.next_seq),
        ];
        // First, because it takes the row's lock: who was fenced fails before he sends anything.
        let updated = batch.execute(&*advance, &parameters).map_err(told)?;
        if updated != 1 {
            drop(batch);
            return Err(SinkError::InDoubt("the cursor is not where this drain left it".into()));
        }
        if let Some(run) = &self.run {
            write_runs(&mut batch, &self.config.schema, &manifests(&self.journal_dir)?)?;
            write_run(&mut batch, &self.config.schema, run)?;
        }
        for (rows, copy) in self.rows.iter_mut().zip(copies.iter()) {
            if rows.count() == 0 {
                continue;
            }
            let mut writer = batch.copy_in(copy).map_err(told)?;
            let sent = writer.write_all(rows.finished());
            sent.map_err(|error| SinkError::Transient(format!("cannot send rows: {error}")))?;
            let stored = writer.finish().map_err(told)?;
            if stored != rows.count() {
                let why = format!("{stored} rows stored where {} were sent", rows.count());
                return Err(SinkError::Rejected(why));
            }
        }
        batch.commit().map_err(|error| match error.as_db_error() {
            Some(_) => failed("commit", &error),
            None => SinkError::InDoubt(format!("no answer to a commit: {error}")),
        })
    }
}

impl Sink for Server {
    fn attach(&mut self, journal: &str) -> Result<Cursor, SinkError> {
        self.clear();
        journal.clone_into(&mut self.journal);
        let mut client = connect::connect(&self.config)?;
        check_server(&mut client)?;
        let extension = schema::extension(&mut client, &self.config)?;
        let timescale = matches!(extension, Extension::Used(_));
        let applied = schema::migrate(&mut client, &self.config, timescale)?;
        match &extension {
            Extension::Used(version) => {
                eprintln!("kairos-drain: postgres: timescaledb {version} is used")
            }
            Extension::Unused(why) => eprintln!("kairos-drain: postgres: plain tables: {why}"),
        }
        for name in applied {
            eprintln!("kairos-drain: postgres: applied migration: {name}");
        }
        if timescale && self.config.migrate == kairos_edge::config::Migrate::Auto {
            schema::set_policies(&mut client, &self.config)?;
        }
        schema::check_columns(&mut client, &self.config.schema)?;
        self.held = self.take_over(&mut client)?;
        self.connection = Some(Connection::new(client, &self.config.schema)?);
        Ok(self.held)
    }

    fn run(&mut self, run: &Run) -> Result<(), SinkError> {
        self.run = Some(run.clone());
        Ok(())
    }

    fn add(&mut self, run: &Run, entry: &Entry<'_>) -> Result<(), SinkError> {
        let row = Row::of(run, entry)?;
        self.pending.events += 1;
        if row.table != Table::Depth || self.config.depth {
            self.pending.bytes += self.rows[row.table as usize].push(&row);
        }
        Ok(())
    }

    fn pending(&self) -> Pending {
        self.pending
    }

    fn batch(&self) -> Batch {
        self.batch
    }

    fn commit(&mut self, next: Cursor) -> Result<(), SinkError> {
        let sent = self.send(next);
        self.clear();
        match sent {
            Ok(()) => {
                self.held = next;
                self.run = None;
                Ok(())
            }
            Err(error) => {
                self.connection = None;
                Err(error)
            }
        }
    }

    fn settle(&mut self) -> Result<(), SinkError> {
        let runs = manifests(&self.journal_dir)?;
        let Some(connection) = &mut self.connection else { return Ok(()) };
        let told = |error: postgres::Error| failed("write runs", &error);
        let mut batch = connection.client.transaction().map_err(told)?;
        write_runs(&mut batch, &self.config.schema, &runs)?;
        batch.commit().map_err(|error| transient("write runs", &error))
    }

    fn recall(&mut self) -> Result<Cursor, SinkError> {
        self.connection = None;
        let mut client = connect::connect(&self.config)?;
        let Some((epoch, cursor, _)) = self.stored(&mut client)? else {
            return Err(SinkError::Diverged("the cursor is gone from the database".into()));
        };
        // A database that was restored has an older epoch: nobody took over there.
        if epoch > self.epoch {
            return Err(SinkError::Fenced("another drain has taken over this database".into()));
        }
        if epoch < self.epoch {
            self.held = self.take_over(&mut client)?;
        } else {
            self.held = cursor;
        }
        self.connection = Some(Connection::new(client, &self.config.schema)?);
        Ok(self.held)
    }

    fn discard(&mut self) {
        self.clear();
    }

    fn epoch(&self) -> u64 {
        u64::try_from(self.epoch).unwrap_or(0)
    }
}

fn manifests(journal: &std::path::Path) -> Result<Vec<RunInfo>, SinkError> {
    let read = identify(journal).map_err(|error| SinkError::Transient(format!("journal: {error}")));
    read.map(|it| it.1)
}

/// Refuses servers that are too old, and what pretends to be one connection and is not.
fn check_server(client: &mut Client) -> Result<(), SinkError> {
    let told = |error: postgres::Error| failed("ask the server", &error);
    let version: i32 = client
        .query_one("SELECT current_setting('server_version_num')::integer", &[])
        .map_err(told)?
        .get(0);
    if version < 150_000 {
        return Err(reject(format!("server version {version}: must be 15 or newer")));
    }
    let mut pids = Vec::new();
    for _ in 0..3 {
        let mut turn = client.transaction().map_err(told)?;
        let pid: i32 = turn.query_one("SELECT pg_backend_pid()", &[]).map_err(told)?.get(0);
        turn.commit().map_err(told)?;
        pids.push(pid);
    }
    if pids.iter().any(|pid| *pid != pids[0]) {
        return Err(reject(
            "a transaction pooler is between: the drain needs a connection of its own".to_owned(),
        ));
    }
    Ok(())
}

fn write_words(batch: &mut Transaction<'_>, schema: &str) -> Result<(), SinkError> {
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

fn copy_into(schema: &str, table: Table) -> String {
    let names: Vec<_> = schema::columns(table).into_iter().map(|it| it.0).collect();
    let (name, names) = (table.name(), names.join(", "));
    format!("COPY {schema}.{name} ({names}) FROM STDIN (FORMAT binary)")
}

/// What the manifests say of all runs by now. May come again.
fn write_runs(
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
fn write_run(batch: &mut Transaction<'_>, schema: &str, run: &Run) -> Result<(), SinkError> {
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

/// Numbers of a journal stay far below 2^63.
fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn hostname() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default().trim().to_owned()
}

fn reject(why: String) -> SinkError {
    SinkError::Rejected(why)
}

fn text_of(what: &str, error: &postgres::Error) -> String {
    match error.as_db_error() {
        Some(said) => format!("cannot {what}: {} ({})", said.message(), said.code().code()),
        None => {
            use std::error::Error as _;
            // What the library says alone is often only that there was an error.
            let inner = error.source().map(|inner| format!(": {inner}")).unwrap_or_default();
            format!("cannot {what}: {error}{inner}")
        }
    }
}

/// An error that will pass whatever the server says.
fn transient(what: &str, error: &postgres::Error) -> SinkError {
    SinkError::Transient(text_of(what, error))
}

/// An error by what the server says.
fn failed(what: &str, error: &postgres::Error) -> SinkError {
    let why = text_of(what, error);
    let Some(state) = error.code() else { return SinkError::Transient(why) };
    if *state == SqlState::DISK_FULL {
        return SinkError::Full(why);
    }
    // Classes: 22 data, 23 constraints, 42 syntax, names, rights.
    match &state.code()[..2] {
        "22" | "23" | "42" => SinkError::Rejected(why),
        _ => SinkError::Transient(why),
    }
}

/// What the tables hold, and the cursor beside them. Nothing is changed.
///
/// # Errors
/// [`SinkError`] where the server cannot be asked or holds another journal.
pub fn tally(config: &Postgres, journal: &str) -> Result<(Cursor, Tallies), SinkError> {
    let mut client = connect::connect(config)?;
    let batch = Batch { rows: 1, catchup_rows: 1, bytes: 1, ms: 1 };
    let mut sink = Server::new(config.clone(), batch, std::path::PathBuf::new());
    journal.clone_into(&mut sink.journal);
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
    let config = Postgres { migrate: kairos_edge::config::Migrate::Auto, ..config.clone() };
    let mut client = connect::connect(&config)?;
    let timescale = matches!(schema::extension(&mut client, &config)?, Extension::Used(_));
    let applied = schema::migrate(&mut client, &config, timescale)?;
    if timescale {
        schema::set_policies(&mut client, &config)?;
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
