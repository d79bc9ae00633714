//! What an operator asks of a drain and its sinks.

use std::fmt::Write as _;
use std::io::Write as _;
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use kairos_edge::stats;
use kairos_journal::cursors::{self, Position};

use super::{CONFIGURATION, SAYS_NO, Where};
use crate::sink::SinkError;
use crate::status::{Page, SinkStatus, State};
use crate::{audit, files, postgres, redis};

/// No drain to ask.
const CANNOT_READ: u8 = 3;
/// Age of the oldest missing event at which a sink is called behind, in seconds.
const BEHIND_S: f64 = 30.0;

/// How each sink is.
#[derive(Debug, Args)]
pub(super) struct StatusArgs {
    #[command(flatten)]
    place: Where,
    /// Print one JSON document.
    #[arg(long)]
    json: bool,
}

/// Count what each sink holds against the journal.
#[derive(Debug, Args)]
pub(super) struct AuditArgs {
    #[command(flatten)]
    place: Where,
    /// Print one JSON document.
    #[arg(long)]
    json: bool,
}

/// Bring the database's schema up to date.
#[derive(Debug, Args)]
pub(super) struct MigrateArgs {
    #[command(flatten)]
    place: Where,
    /// Print what would be executed, and change nothing.
    #[arg(long)]
    plan: bool,
}

/// Delete what a sink holds.
#[derive(Debug, Args)]
pub(super) struct RebuildArgs {
    #[command(flatten)]
    place: Where,
    /// Which one.
    #[arg(value_enum)]
    sink: SinkName,
    /// Really: everything that the sink holds goes.
    #[arg(long)]
    yes: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum SinkName {
    Parquet,
    Postgres,
    Redis,
}

impl SinkName {
    const fn text(self) -> &'static str {
        match self {
            Self::Parquet => "parquet",
            Self::Postgres => postgres::NAME,
            Self::Redis => "redis",
        }
    }
}

/// Prints an answer. A closed pipe is no reason to fail: nobody reads any more.
fn answer(text: &str) {
    let _printed = writeln!(std::io::stdout(), "{}", text.trim_end());
}

fn fail(what: &str, error: &SinkError) -> ExitCode {
    eprintln!("kairos-drain: {what}: {error}");
    match error {
        SinkError::Rejected(_) => ExitCode::from(CONFIGURATION),
        SinkError::Diverged(_) => ExitCode::from(SAYS_NO),
        SinkError::Transient(_)
        | SinkError::InDoubt(_)
        | SinkError::Fenced(_)
        | SinkError::Full(_) => ExitCode::FAILURE,
    }
}

pub(super) fn status(args: &StatusArgs) -> ExitCode {
    let (config, _) = match args.place.load() {
        Ok(loaded) => loaded,
        Err(status) => return status,
    };
    let name = &config.engine.name;
    let dir = stats::find_run_dir(name, config.engine.run_dir.as_deref());
    let dir = dir.or_else(|| config.engine.run_dir.clone());
    let page = match dir.as_deref().map(Page::read) {
        Some(Ok(Some(page))) => page,
        Some(Err(error)) => {
            eprintln!("kairos-drain: status: {error}");
            return ExitCode::from(CANNOT_READ);
        }
        Some(Ok(None)) | None => {
            eprintln!("kairos-drain: status: no drain of {name} has run here");
            return ExitCode::from(CANNOT_READ);
        }
    };
    if args.json {
        answer(&serde_json::json!(page).to_string());
    } else {
        answer(&table(&page));
    }
    if page.sinks.iter().any(|it| it.state.is_broken()) {
        return ExitCode::from(SAYS_NO);
    }
    if !page.is_fresh() {
        eprintln!(
            "kairos-drain: status: no drain of {name} runs now; this is the last that was said"
        );
        return ExitCode::from(CANNOT_READ);
    }
    let late = |it: &SinkStatus| it.state == State::Backoff || it.lag_seconds > BEHIND_S;
    if page.sinks.iter().any(late) { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn table(page: &Page) -> String {
    let mut out = format!("durable seq {}\n", page.durable_seq);
    let _ = writeln!(
        out,
        "{:<10} {:<9} {:>5} {:>14} {:>12} {:>8} {:>10} {:>10}  last error",
        "sink", "state", "run", "seq", "lag events", "lag s", "events/s", "commit ms"
    );
    for it in &page.sinks {
        let _ = writeln!(
            out,
            "{:<10} {:<9} {:>5} {:>14} {:>12} {:>8.1} {:>10.0} {:>10.1}  {}",
            it.sink,
            it.state.text(),
            it.run,
            it.seq,
            it.lag_events,
            it.lag_seconds,
            it.events_per_second,
            it.commit_max_ms,
            it.last_error.as_deref().unwrap_or("-"),
        );
    }
    out
}

pub(super) fn audit(args: &AuditArgs) -> ExitCode {
    let (config, drain) = match args.place.load() {
        Ok(loaded) => loaded,
        Err(status) => return status,
    };
    let verdicts = match audit::audit(&config.journal.dir, &drain) {
        Ok(verdicts) => verdicts,
        Err((sink, error)) => return fail(&sink, &error),
    };
    let equal = verdicts.iter().all(|it| it.differences.is_empty());
    if args.json {
        answer(&serde_json::json!({ "equal": equal, "sinks": verdicts }).to_string());
    } else {
        let mut out = String::new();
        for it in &verdicts {
            let word = if it.differences.is_empty() { "equal" } else { "DIFFERS" };
            let _ = writeln!(out, "{}: {word} up to seq {}, {} events", it.sink, it.seq, it.events);
            for difference in &it.differences {
                let _ = writeln!(out, "  {difference}");
            }
        }
        answer(&out);
    }
    if equal { ExitCode::SUCCESS } else { ExitCode::from(SAYS_NO) }
}

pub(super) fn migrate(args: &MigrateArgs) -> ExitCode {
    let (_, drain) = match args.place.load() {
        Ok(loaded) => loaded,
        Err(status) => return status,
    };
    let Some(config) = &drain.postgres else {
        eprintln!("kairos-drain: migrate: the configuration has no [drain.postgres]");
        return ExitCode::from(CONFIGURATION);
    };
    if args.plan {
        return match postgres::plan(config) {
            Ok(missing) => {
                let mut out = String::new();
                for it in missing {
                    let schema = &config.schema;
                    let _ =
                        writeln!(out, "-- {}, with search_path = {schema}\n{}", it.name, it.sql);
                }
                answer(&out);
                ExitCode::SUCCESS
            }
            Err(error) => fail("migrate", &error),
        };
    }
    match postgres::migrate(config) {
        Ok(applied) => {
            let mut out = String::new();
            for name in &applied {
                let _ = writeln!(out, "applied migration: {name}");
            }
            if applied.is_empty() {
                out.push_str("the schema is up to date");
            }
            answer(&out);
            ExitCode::SUCCESS
        }
        Err(error) => fail("migrate", &error),
    }
}

pub(super) fn rebuild(args: &RebuildArgs) -> ExitCode {
    let (config, drain) = match args.place.load() {
        Ok(loaded) => loaded,
        Err(status) => return status,
    };
    let name = args.sink.text();
    if !args.yes {
        eprintln!("kairos-drain: rebuild: deletes all that {name} holds; say --yes to do it");
        return ExitCode::FAILURE;
    }
    let done = match args.sink {
        SinkName::Parquet => drain.parquet.as_ref().map(files::clear),
        SinkName::Postgres => drain.postgres.as_ref().map(postgres::clear),
        SinkName::Redis => drain.redis.as_ref().map(redis::clear),
    };
    match done {
        None => {
            eprintln!("kairos-drain: rebuild: {name} is not configured");
            ExitCode::from(CONFIGURATION)
        }
        Some(Err(error)) => fail(name, &error),
        Some(Ok(())) => {
            // It needs all of the journal again: nothing of that may be removed.
            let start = Position::default();
            if let Err(error) = cursors::publish(&config.journal.dir, name, start) {
                eprintln!("kairos-drain: rebuild: {error}");
            }
            answer(&format!("{name} is empty; the next run writes it anew from the journal"));
            ExitCode::SUCCESS
        }
    }
}
