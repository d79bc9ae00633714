//! PostgreSQL, with or without TimescaleDB: rows and cursor in one transaction.

mod bars;
pub(crate) mod connect;
mod policies;
mod rows;
pub mod schema;
mod tables;
mod verbs;

use std::io::Write as _;

use kairos_edge::config::Postgres;
use kairos_journal::RunInfo;
use postgres::error::SqlState;
use postgres::types::ToSql;
use postgres::{Client, Statement};

use self::bars::Bars;
use self::rows::Rows;
use self::schema::Extension;
use self::tables::{write_run, write_runs, write_words};
pub use self::verbs::{check, clear, held, migrate, plan, skip, tally};
use crate::sink::{Batch, Cursor, Pending, Sink, SinkError};
use crate::source::{Entry, Run, identify};
use crate::table::{Row, Table};

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
    keeps_bars: bool, // the extension does not
    bars: Option<Bars>,
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
            keeps_bars: false,
            bars: None,
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
        let row = taking
            .query_one(
                &format!(
                    // Of a database that was restored nobody may take up a number from before.
                    "UPDATE {schema}.drain_offset SET epoch = greatest(epoch, $4) + 1, owner = $3, \
                     updated_at = now() WHERE journal::text = $1 AND sink = $2 RETURNING epoch"
                ),
                &[&self.journal, &NAME, &owner(), &self.epoch],
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

    /// From here on the connection is in use.
    fn begin(&mut self, client: Client) -> Result<(), SinkError> {
        self.connection = Some(Connection::new(client, &self.config.schema)?);
        if self.keeps_bars && self.bars.is_none() {
            self.bars = Bars::start(&self.config);
        }
        Ok(())
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
            policies::set(&mut client, &self.config)?;
        }
        schema::check_columns(&mut client, &self.config.schema)?;
        self.keeps_bars = !timescale;
        self.held = self.take_over(&mut client)?;
        self.begin(client)?;
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
        batch.commit().map_err(|error| transient("write runs", &error))?;
        while self.keeps_bars && bars::refresh(&mut connection.client, &self.config)? {}
        Ok(())
    }

    fn release(&mut self) {
        self.connection = None;
        self.bars = None;
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
        self.begin(client)?;
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

fn copy_into(schema: &str, table: Table) -> String {
    let names: Vec<_> = schema::columns(table).into_iter().map(|it| it.0).collect();
    let (name, names) = (table.name(), names.join(", "));
    format!("COPY {schema}.{name} ({names}) FROM STDIN (FORMAT binary)")
}

/// Numbers of a journal stay far below 2^63.
fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// Who writes: process and host.
fn owner() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    format!("{}@{}", std::process::id(), host.trim())
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
