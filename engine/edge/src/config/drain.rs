//! `[drain]`: where the journal goes. Read by the drain alone; the engine passes over it.

use std::path::PathBuf;

use super::Config;
use super::load::{Sources, take_secrets};
use super::model::Profile;
use super::problem::Problem;
use super::section::{Log, Section};
use super::tree::{Node, Table, Value};

const MIB: u64 = 1 << 20;

/// `[drain]`, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Drain {
    /// Rows that make a batch. In 1..=1 000 000.
    pub batch_rows: usize,
    /// Bytes that make a batch.
    pub batch_bytes: usize,
    /// Age of the oldest row that makes a batch, in milliseconds. In 1..=60 000.
    pub batch_ms: u64,
    /// Rows that make a batch while a sink is behind. At least `batch_rows`.
    pub catchup_rows: usize,
    /// Most bytes per second that a sink takes while it is behind; 0: as many as it can.
    pub catchup_bytes_per_s: u64,
    /// How long a sink may take to finish its batch when the drain is told to stop, in milliseconds.
    pub stop_timeout_ms: u64,
    /// Files. There where it is configured, or where nothing else is.
    pub parquet: Option<Parquet>,
    /// A PostgreSQL server, with or without TimescaleDB.
    pub postgres: Option<Postgres>,
    /// A Redis, Valkey or DragonflyDB server.
    pub redis: Option<Redis>,
}

/// `[drain.parquet]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parquet {
    /// Where the files go, one folder per table.
    pub dir: PathBuf,
    /// Events after which a set of files is closed.
    pub rows: u64,
    /// Bytes of events after which a set of files is closed.
    pub bytes: u64,
    /// Age at which a set of files is closed, in seconds. In 1..=3 600.
    pub seconds: u64,
    /// Free bytes of the file system below which nothing is written.
    pub min_free_bytes: u64,
    /// Whether levels of books are written.
    pub depth: bool,
}

/// Whether TimescaleDB is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Timescale {
    /// Where the extension is there.
    Auto,
    /// Without it the sink refuses to start.
    Require,
    /// Not even where it is there.
    Off,
}

/// Whether the drain may change the schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Migrate {
    /// It brings the schema up to date.
    Auto,
    /// It refuses a schema that is not up to date.
    Verify,
}

/// How the connection to a database is protected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tls {
    /// Certificate and name are checked.
    VerifyFull,
    /// In the clear. The default for loopback and local sockets only.
    Off,
}

/// `[drain.postgres]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Postgres {
    /// `postgres://user@host:port/database`, without a password.
    pub url: String,
    /// The schema that holds everything; one per journal.
    pub schema: String,
    /// Whether TimescaleDB is used.
    pub timescaledb: Timescale,
    /// Whether the drain may change the schema.
    pub migrate: Migrate,
    /// Whether the server waits for its disk at each batch.
    pub synchronous_commit: bool,
    /// Whether levels of books are written.
    pub depth: bool,
    /// How the connection is protected; `None`: by the address.
    pub tls: Option<Tls>,
    /// Certificates of authorities to trust in place of the host's.
    pub ca_file: Option<PathBuf>,
    /// Longest time to connect, in milliseconds.
    pub connect_timeout_ms: u64,
    /// Longest time of a statement, in milliseconds.
    pub statement_timeout_ms: u64,
    /// Days after which quotes, trades and depth are dropped, with TimescaleDB; 0: never.
    pub market_data_days: u64,
    /// Days after which rows are compressed, with TimescaleDB; 0: never.
    pub compress_after_days: u64,
}

/// `[drain.redis]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redis {
    /// `redis://user@host:port/database` or `rediss://…`, without a password.
    pub url: String,
    /// Stands before every key and channel.
    pub key_prefix: String,
    /// About how many entries a stream keeps.
    pub stream_maxlen: u64,
    /// Market data of one instrument is told at most once in this time, in milliseconds; 0: always.
    pub coalesce_ms: u64,
    /// Seconds after which a last quote or trade is gone.
    pub tick_ttl_s: u64,
    /// Seconds after which an order is gone.
    pub order_ttl_s: u64,
    /// Connections that share the instruments. In 1..=16.
    pub connections: u64,
    /// Certificates of authorities to trust in place of the host's.
    pub ca_file: Option<PathBuf>,
    /// Longest time to connect, and of a command, in milliseconds.
    pub timeout_ms: u64,
}

impl Sources {
    /// Reads the layers for the drain: the configuration of the engine whose journal it follows, and
    /// its own section.
    ///
    /// # Errors
    /// Every problem of every layer and of the result.
    pub fn load_drain(&self) -> Result<(Config, Drain), Vec<Problem>> {
        let (mut merged, mut problems) = self.merged()?;
        let own = merged.remove("drain");
        let config = match Config::check(merged, Vec::new(), None) {
            Ok(config) => Some(config),
            Err(mut found) => {
                problems.append(&mut found);
                None
            }
        };
        let name = config.as_ref().map_or("main", |it| it.engine.name.as_str());
        // In production nobody changes a schema in passing.
        let migrate = match config.as_ref().map(|it| it.engine.profile) {
            Some(Profile::Production) => Migrate::Verify,
            Some(Profile::Development) | None => Migrate::Auto,
        };
        let drain = drain(own, (name, migrate), &mut problems);
        match config {
            Some(config) if problems.is_empty() => Ok((config, drain)),
            _ => Err(problems),
        }
    }
}

/// What depends on the engine: its name, and whether the schema may be changed.
type Defaults<'a> = (&'a str, Migrate);

/// Reads the section, `own` as it was written.
fn drain(own: Option<Node>, defaults: Defaults<'_>, problems: &mut Vec<Problem>) -> Drain {
    let mut tree = Table::new();
    if let Some(mut node) = own {
        if let Value::Table(table) = &mut node.value {
            take_secrets(table, "drain", problems);
        }
        tree.insert("drain".to_owned(), node);
    }
    let log = Log::default();
    let drain = read(Section::root(&tree, &log).section("drain"), defaults);
    problems.extend(log.into_parts().0);
    drain
}

/// Every key of `[drain]`.
pub(super) fn known_keys() -> Vec<String> {
    let log = Log::default();
    let one_of_everything = "[drain.parquet]\n[drain.postgres]\n[drain.redis]\n";
    if let Ok(tree) = super::tree::parse("", one_of_everything) {
        read(Section::root(&tree, &log).section("drain"), ("main", Migrate::Auto));
    }
    log.into_parts().1.into_iter().collect()
}

fn read(mut section: Section<'_>, (engine, migrate): Defaults<'_>) -> Drain {
    let batch_rows = section.integer("batch_rows", 10_000, 1..=1_000_000);
    let mut drain = Drain {
        batch_rows: size(batch_rows),
        batch_bytes: size(section.integer("batch_mib", 4, 1..=256) * MIB),
        batch_ms: section.integer("batch_ms", 50, 1..=60_000),
        catchup_rows: size(section.integer("catchup_rows", 50_000.max(batch_rows), 1..=1_000_000)),
        catchup_bytes_per_s: section.integer("catchup_mib_per_s", 0, 0..=1 << 20) * MIB,
        stop_timeout_ms: section.integer("stop_timeout_ms", 5_000, 1..=600_000),
        postgres: enabled(section.section("postgres")).and_then(|it| postgres(it, migrate)),
        redis: enabled(section.section("redis")).and_then(redis),
        parquet: None,
    };
    if drain.catchup_rows < drain.batch_rows {
        section.wrong_if_written("catchup_rows", "must be at least batch_rows");
    }
    let parquet_section = section.section("parquet");
    // The embedded default: a fresh install has a history that can be asked.
    let wanted =
        parquet_section.is_present() || (drain.postgres.is_none() && drain.redis.is_none());
    if wanted {
        drain.parquet = enabled_or_absent(parquet_section).map(|it| parquet(it, engine));
    }
    section.finish();
    drain
}

fn size(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

/// What is present is enabled unless it says otherwise.
fn enabled(section: Section<'_>) -> Option<Section<'_>> {
    if section.is_present() { enabled_or_absent(section) } else { None }
}

fn enabled_or_absent(mut section: Section<'_>) -> Option<Section<'_>> {
    section.boolean("enabled", true).then_some(section)
}

fn parquet(mut section: Section<'_>, engine: &str) -> Parquet {
    let dir = section.text("dir").unwrap_or_else(|| format!("/var/lib/kairos/{engine}/parquet"));
    let parquet = Parquet {
        dir: PathBuf::from(dir),
        rows: section.integer("rows", 4_000_000, 1..=1_000_000_000),
        bytes: section.integer("mib", 512, 1..=1 << 20) * MIB,
        seconds: section.integer("seconds", 60, 1..=3_600),
        min_free_bytes: section.integer("min_free_mib", 256, 0..=1 << 30) * MIB,
        depth: section.boolean("depth", true),
    };
    section.finish();
    parquet
}

fn postgres(mut section: Section<'_>, migrate: Migrate) -> Option<Postgres> {
    let url = url(&mut section, &["postgres", "postgresql"]);
    let schema = section.text("schema").unwrap_or_else(|| "kairos".to_owned());
    if !is_identifier(&schema) {
        let rule = "must be 1 to 48 of a-z 0-9 _ and begin with a letter, not with pg_";
        section.wrong_if_written("schema", rule);
    }
    // Every key is read, whatever is wrong with the address: else the others would be unknown.
    let postgres = Postgres {
        url: url.clone().unwrap_or_default(),
        schema,
        timescaledb: section.choice(
            "timescaledb",
            Timescale::Auto,
            &[("auto", Timescale::Auto), ("require", Timescale::Require), ("off", Timescale::Off)],
        ),
        migrate: section.choice(
            "migrate",
            migrate,
            &[("auto", Migrate::Auto), ("verify", Migrate::Verify)],
        ),
        synchronous_commit: section.boolean("synchronous_commit", false),
        depth: section.boolean("depth", true),
        tls: section.choice(
            "tls",
            None,
            &[("verify-full", Some(Tls::VerifyFull)), ("off", Some(Tls::Off))],
        ),
        ca_file: section.text("ca_file").map(PathBuf::from),
        connect_timeout_ms: section.integer("connect_timeout_ms", 5_000, 1..=600_000),
        statement_timeout_ms: section.integer("statement_timeout_ms", 60_000, 1..=3_600_000),
        market_data_days: section.integer("market_data_days", 90, 0..=36_500),
        compress_after_days: section.integer("compress_after_days", 7, 0..=36_500),
    };
    section.finish();
    url.map(|_| postgres)
}

/// A name that needs no quotes in SQL.
fn is_identifier(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    (1..=48).contains(&name.len())
        && name.bytes().all(allowed)
        && name.as_bytes()[0].is_ascii_lowercase()
        && !name.starts_with("pg_")
}

fn redis(mut section: Section<'_>) -> Option<Redis> {
    let url = url(&mut section, &["redis", "rediss"]);
    let key_prefix = section.text("key_prefix").unwrap_or_default();
    if key_prefix.len() > 64 || !key_prefix.bytes().all(|byte| byte.is_ascii_graphic()) {
        section.wrong_if_written("key_prefix", "must be at most 64 visible ASCII characters");
    }
    let redis = Redis {
        url: url.clone().unwrap_or_default(),
        key_prefix,
        stream_maxlen: section.integer("stream_maxlen", 100_000, 1..=1 << 40),
        coalesce_ms: section.integer("coalesce_ms", 10, 0..=60_000),
        tick_ttl_s: section.integer("tick_ttl_s", 60, 1..=31_536_000),
        order_ttl_s: section.integer("order_ttl_s", 3_600, 1..=31_536_000),
        connections: section.integer("connections", 1, 1..=16),
        ca_file: section.text("ca_file").map(PathBuf::from),
        timeout_ms: section.integer("timeout_ms", 5_000, 1..=600_000),
    };
    section.finish();
    url.map(|_| redis)
}

/// The address of a server. One with a password in it is refused, and never printed.
fn url(section: &mut Section<'_>, schemes: &[&str]) -> Option<String> {
    let Some(node) = section.find("url") else {
        section.missing("url", format!("must be the address of the server, {}://…", schemes[0]));
        return None;
    };
    let text = section.text("url")?;
    let rest = text.split_once("://").filter(|(scheme, _)| schemes.contains(scheme));
    let Some((_, rest)) = rest else {
        let rule = format!("must begin with {}://", schemes.join(":// or "));
        section.missing("url", rule);
        return None;
    };
    let authority = rest.split(['/', '?']).next().unwrap_or("");
    let user = authority.rsplit_once('@').map_or("", |(user, _)| user);
    if user.contains(':') || rest.to_ascii_lowercase().contains("password=") {
        let mut problem = Problem::new(
            section.key("url"),
            "must not hold a password: it comes from a credential of the service",
        );
        problem.origin = Some(node.origin.clone());
        section.note(problem);
        return None;
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str) -> Result<Drain, Vec<String>> {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("k.toml");
        std::fs::write(&file, text).unwrap();
        let sources = Sources { file: Some(file), ..Sources::default() };
        let said = |problems: Vec<Problem>| {
            problems.into_iter().map(|it| Problem { origin: None, ..it }.to_string()).collect()
        };
        sources.load_drain().map(|it| it.1).map_err(said)
    }

    #[test]
    fn without_a_section_there_are_files() {
        let drain = load("[engine]\nname = \"demo\"\n").unwrap();
        assert_eq!((drain.batch_rows, drain.batch_ms, drain.catchup_rows), (10_000, 50, 50_000));
        assert_eq!(drain.parquet.unwrap().dir, PathBuf::from("/var/lib/kairos/demo/parquet"));
        let named = load("[drain.redis]\nurl = \"redis://127.0.0.1\"\n").unwrap();
        assert_eq!((named.parquet, named.postgres), (None, None));
        assert_eq!(named.redis.unwrap().stream_maxlen, 100_000);
        let off = load("[drain.parquet]\nenabled = false\nrows = 5\n").unwrap();
        assert_eq!(off.parquet, None);
    }

    #[test]
    fn production_changes_no_schema_unless_told() {
        let check = |profile: &str, more: &str, want: Migrate| {
            let text = format!(
                "[engine]\nprofile = \"{profile}\"\n[drain.postgres]\nurl = \"postgres://u@h/d\"\n{more}"
            );
            assert_eq!(load(&text).unwrap().postgres.unwrap().migrate, want, "{text}");
        };
        check("development", "", Migrate::Auto);
        check("production", "", Migrate::Verify);
        check("production", "migrate = \"auto\"", Migrate::Auto);
    }

    #[test]
    fn a_section_that_cannot_be_is_told_in_lines() {
        let check = |text: &str, want: &str| {
            assert_eq!(load(text).unwrap_err(), [want.to_owned()], "{text}");
        };
        check(
            "[drain]\nbatch_row = 1\n",
            "drain.batch_row: is not a known key; did you mean batch_rows?",
        );
        check(
            "[drain]\nbatch_rows = 9\ncatchup_rows = 8\n",
            "drain.catchup_rows = 8: must be at least batch_rows",
        );
        check(
            "[drain.postgres]\nurl = \"mysql://x\"\n",
            "drain.postgres.url: must begin with postgres:// or postgresql://",
        );
        check(
            "[drain.postgres]\nschema = \"Kairos\"\nurl = \"postgres://u@h/d\"\n",
            "drain.postgres.schema = \"Kairos\": must be 1 to 48 of a-z 0-9 _ and begin with a letter, \
             not with pg_",
        );
        check(
            "[drain.postgres]\npassword = \"hunter2\"\nurl = \"postgres://u@h/d\"\n",
            "drain.postgres.password: secrets come from credentials of the service, never from \
             configuration",
        );
        for url in ["postgres://u:hunter2@h/d", "postgres://u@h/d?password=hunter2"] {
            check(
                &format!("[drain.postgres]\nurl = \"{url}\"\n"),
                "drain.postgres.url: must not hold a password: it comes from a credential of the \
                 service",
            );
        }
        check(
            "[drain.redis]\nstream_maxlen = 5\n",
            "drain.redis.url: must be the address of the server, redis://…",
        );
        check("[drain.redis]\n", "drain.redis.url: must be the address of the server, redis://…");
    }
}
