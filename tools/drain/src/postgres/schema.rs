//! The schema: migrations, what the extension adds, and whether the tables are what the drain writes.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use kairos_edge::config::{Migrate, Postgres, Timescale};
use postgres::{Client, GenericClient};
use sha2::{Digest as _, Sha256};

use super::{failed, reject};
use crate::sink::SinkError;
use crate::table::{Table, Type};

/// One step of the schema. They are applied in the order of their numbers and never changed.
#[derive(Clone, Copy, Debug)]
pub struct Migration {
    /// Its number; from 1000 on: with TimescaleDB only.
    pub version: i32,
    /// Its name.
    pub name: &'static str,
    /// What it executes.
    pub sql: &'static str,
}

macro_rules! migrations {
    ($($version:literal $name:literal,)*) => {
        /// Every step.
        pub const MIGRATIONS: &[Migration] = &[$(Migration {
            version: $version,
            name: $name,
            sql: include_str!(concat!("../../migrations/", $name, ".sql")),
        },)*];
    };
}

migrations! {
    1 "0001_base",
    2 "0002_views",
    3 "0003_bars",
    1001 "1001_timescale",
}

/// The key of the lock that makes two migrating drains take turns.
const LOCK: i64 = 891_507_011;
const FIRST_TIMESCALE: i32 = 1_000;

impl Migration {
    fn digest(&self) -> String {
        let mut text = String::new();
        for byte in Sha256::digest(self.sql.as_bytes()) {
            let _ = write!(text, "{byte:02x}");
        }
        text
    }
}

/// What was found of the extension.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Extension {
    /// It is used.
    Used(String),
    /// It is not, for this reason.
    Unused(&'static str),
}

/// Looks for TimescaleDB. The drain never installs it.
///
/// # Errors
/// [`SinkError::Rejected`] where it is required and cannot be used.
pub fn extension(client: &mut Client, config: &Postgres) -> Result<Extension, SinkError> {
    let found = match config.timescaledb {
        Timescale::Off => Extension::Unused("timescaledb = \"off\""),
        Timescale::Auto | Timescale::Require => detect(client)?,
    };
    match (&found, config.timescaledb) {
        (Extension::Unused(why), Timescale::Require) => {
            Err(reject(format!("drain.postgres.timescaledb = \"require\": {why}")))
        }
        _ => Ok(found),
    }
}

fn detect(client: &mut Client) -> Result<Extension, SinkError> {
    let query = "SELECT e.extversion, quote_ident(n.nspname) FROM pg_extension e \
                 JOIN pg_namespace n ON n.oid = e.extnamespace WHERE e.extname = 'timescaledb'";
    let row =
        client.query_opt(query, &[]).map_err(|error| failed("look for extensions", &error))?;
    let Some(row) = row else {
        return Ok(Extension::Unused("the extension is not in this database"));
    };
    let (version, home): (String, String) = (row.get(0), row.get(1));
    if home != "public" {
        // Its functions are called by their names alone.
        let path = "SELECT set_config('search_path', current_setting('search_path') || ', ' || $1, \
                    false)";
        client.execute(path, &[&home]).map_err(|error| failed("set the search path", &error))?;
    }
    let license: Option<String> = client
        .query_one("SELECT current_setting('timescaledb.license', true)", &[])
        .map_err(|error| failed("look for the licence of timescaledb", &error))?
        .get(0);
    match license.as_deref() {
        Some("timescale") => Ok(Extension::Used(version)),
        _ => Ok(Extension::Unused("only its Apache edition is here")),
    }
}

/// What is applied, and what is missing.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The steps that are missing, in order.
    pub missing: Vec<Migration>,
}

/// Compares the schema with this build's.
///
/// # Errors
/// [`SinkError::Rejected`] where it is newer than this build or not what this build would have made.
pub fn plan(
    client: &mut impl GenericClient,
    schema: &str,
    timescale: bool,
) -> Result<Plan, SinkError> {
    let told = |error: postgres::Error| failed("read kairos' migrations", &error);
    let exists = client
        .query_one("SELECT to_regclass($1) IS NOT NULL", &[&format!("{schema}.schema_migration")])
        .map_err(told)?;
    let mut applied: BTreeMap<i32, String> = BTreeMap::new();
    if exists.get(0) {
        let query = format!("SELECT version, sha256 FROM {schema}.schema_migration");
        for row in client.query(&query, &[]).map_err(told)? {
            applied.insert(row.get(0), row.get(1));
        }
    }
    for (version, digest) in &applied {
        let known = MIGRATIONS.iter().find(|it| it.version == *version);
        match known {
            None => {
                return Err(reject(format!(
                    "schema {schema} has migration {version}, which this kairos does not know: it \
                     needs a newer one"
                )));
            }
            Some(known) if known.digest() != *digest => {
                return Err(reject(format!(
                    "schema {schema}: migration {} was applied with other contents than this kairos \
                     has",
                    known.name
                )));
            }
            Some(_) => {}
        }
    }
    let wanted = |it: &&Migration| timescale || it.version < FIRST_TIMESCALE;
    let missing = MIGRATIONS.iter().filter(wanted).filter(|it| !applied.contains_key(&it.version));
    Ok(Plan { missing: missing.copied().collect() })
}

/// Brings the schema up to date, one step per transaction, under a lock. Returns what was applied.
///
/// # Errors
/// As [`plan`]; what the server says of a step; [`SinkError::Rejected`] where steps are missing and may
/// not be made.
pub fn migrate(
    client: &mut Client,
    config: &Postgres,
    timescale: bool,
) -> Result<Vec<&'static str>, SinkError> {
    let schema = &config.schema;
    let mut applied = Vec::new();
    loop {
        let told = |error: postgres::Error| failed("migrate", &error);
        let mut step = client.transaction().map_err(told)?;
        step.execute("SELECT pg_advisory_xact_lock($1)", &[&LOCK]).map_err(told)?;
        // A step may move every row that there is.
        step.batch_execute("SET LOCAL statement_timeout = 0").map_err(told)?;
        let missing = plan(&mut step, schema, timescale)?.missing;
        let Some(migration) = missing.first() else { return Ok(applied) };
        if config.migrate == Migrate::Verify {
            let names = missing.iter().map(|it| it.name).collect::<Vec<_>>().join(", ");
            return Err(reject(format!(
                "schema {schema} lacks {names}, and drain.postgres.migrate = \"verify\": run kairos \
                 drain migrate"
            )));
        }
        step.batch_execute(&format!(
            "CREATE SCHEMA IF NOT EXISTS {schema};
             CREATE TABLE IF NOT EXISTS {schema}.schema_migration (
                 version integer PRIMARY KEY, name text NOT NULL, sha256 text NOT NULL,
                 applied_at timestamptz NOT NULL DEFAULT now(), product_version text NOT NULL)"
        ))
        .map_err(told)?;
        let told = |error: postgres::Error| failed(&format!("apply {}", migration.name), &error);
        step.batch_execute(migration.sql).map_err(told)?;
        step.execute(
            &format!(
                "INSERT INTO {schema}.schema_migration (version, name, sha256, product_version) \
                 VALUES ($1, $2, $3, $4)"
            ),
            &[&migration.version, &migration.name, &migration.digest(), &env!("CARGO_PKG_VERSION")],
        )
        .map_err(told)?;
        step.commit().map_err(told)?;
        applied.push(migration.name);
    }
}

/// The name of a column's type in the catalogue.
const fn type_name(kind: Type) -> &'static str {
    match kind {
        Type::Small => "int2",
        Type::Int => "int4",
        Type::Big | Type::Bits | Type::Nanos => "int8",
        Type::Bool => "bool",
    }
}

/// The columns of a table here: those of the model, with `ts` behind `ts_ns`.
pub(super) fn columns(table: Table) -> Vec<(&'static str, &'static str)> {
    let mut columns = Vec::new();
    for column in table.columns() {
        columns.push((column.name, type_name(column.kind)));
        if column.name == "ts_ns" {
            columns.push(("ts", "timestamptz"));
        }
    }
    columns
}

/// Compares the columns in the catalogue with what will be sent: binary rows carry no types.
///
/// # Errors
/// [`SinkError::Rejected`] with table, column and both types.
pub fn check_columns(client: &mut Client, schema: &str) -> Result<(), SinkError> {
    let query = "SELECT c.relname::text, a.attname::text, t.typname::text FROM pg_attribute a \
                 JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace \
                 JOIN pg_type t ON t.oid = a.atttypid \
                 WHERE n.nspname = $1 AND a.attnum > 0 AND NOT a.attisdropped";
    let rows = client.query(query, &[&schema]).map_err(|error| failed("read columns", &error))?;
    let mut found: BTreeMap<(String, String), String> = BTreeMap::new();
    for row in rows {
        found.insert((row.get(0), row.get(1)), row.get(2));
    }
    for table in Table::ALL {
        for (column, wanted) in columns(*table) {
            let name = table.name();
            let there = found.get(&(name.to_owned(), column.to_owned()));
            if there.map(String::as_str) != Some(wanted) {
                let there = there.map_or("not there", String::as_str);
                let why = format!("column {schema}.{name}.{column} is {there}, must be {wanted}");
                return Err(reject(why));
            }
        }
    }
    Ok(())
}
