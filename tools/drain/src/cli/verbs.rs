//! What an operator asks of a drain and its sinks.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use kairos_edge::config::Placement;
use kairos_edge::stats;
use kairos_journal::cursors::{self, Position};

use super::{CONFIGURATION, SAYS_NO, Where};
use crate::archive::ArchiveStatus;
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
pub(super) enum SinkName {
    Parquet,
    Postgres,
    Redis,
}

impl SinkName {
    pub(super) const fn text(self) -> &'static str {
        match self {
            Self::Parquet => "parquet",
            Self::Postgres => postgres::NAME,
            Self::Redis => "redis",
        }
    }
}

/// Prints an answer. A closed pipe is no reason to fail: nobody reads any more.
pub(super) fn answer(text: &str) {
    let _printed = writeln!(std::io::stdout(), "{}", text.trim_end());
}

pub(super) fn fail(what: &str, error: &SinkError) -> ExitCode {
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
    // With placement `direct` there is no archiver; a file that says so is of an earlier configuration.
    let is_hot = matches!(config.journal.placement, Placement::Hot(_));
    let read = |dir: &Path| {
        let archive = if is_hot { ArchiveStatus::read(dir)? } else { None };
        Ok((Page::read(dir)?, archive))
    };
    let (page, archive) = match dir.as_deref().map(read) {
        Some(Ok((None, None))) | None => {
            eprintln!("kairos-drain: status: no drain of {name} has run here");
            return ExitCode::from(CANNOT_READ);
        }
        Some(Ok(found)) => found,
        Some(Err(error)) => {
            let error: std::io::Error = error;
            eprintln!("kairos-drain: status: {error}");
            return ExitCode::from(CANNOT_READ);
        }
    };
    if args.json {
        let mut all =
            page.as_ref().map_or_else(|| serde_json::json!({}), |it| serde_json::json!(it));
        all["archive"] = serde_json::json!(archive);
        answer(&all.to_string());
    } else {
        let parts = [archive.as_ref().map(archive_line), page.as_ref().map(table)];
        answer(&parts.into_iter().flatten().collect::<String>());
    }
    let sinks = page.as_ref().map_or(&[][..], |it| &it.sinks);
    let is_broken = archive.as_ref().is_some_and(ArchiveStatus::is_broken);
    if is_broken || sinks.iter().any(|it| it.state.is_broken()) {
        return ExitCode::from(SAYS_NO);
    }
    let are_fresh = [
        ("drain", page.as_ref().is_none_or(Page::is_fresh)),
        ("archiver", archive.as_ref().is_none_or(ArchiveStatus::is_fresh)),
    ];
    if let Some((what, _)) = are_fresh.iter().find(|(_, is_fresh)| !is_fresh) {
        eprintln!(
            "kairos-drain: status: no {what} of {name} runs now; this is the last that was said"
        );
        return ExitCode::from(CANNOT_READ);
    }
    let late = |it: &SinkStatus| {
        matches!(it.state, State::Backoff | State::Paused) || it.lag_seconds > BEHIND_S
    };
    let is_waiting = archive.as_ref().is_some_and(ArchiveStatus::is_waiting);
    if is_waiting || sinks.iter().any(late) { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn archive_line(it: &ArchiveStatus) -> String {
    let mut out = format!(
        "archive    {} run {} seq {}, {} MiB, flush {:.1} ms (longest {:.1} ms)",
        it.state,
        it.run,
        it.durable_seq,
        it.bytes >> 20,
        it.flush_ms,
        it.flush_max_ms
    );
    let _ = write!(out, ", {} segments compressed, {} runs removed", it.compressed, it.pruned_runs);
    if let Some(error) = &it.last_error {
        let _ = write!(out, ": {error}");
    }
    if !it.retention.is_empty() {
        let _ = write!(out, "\nretention  stays: {}", it.retention);
    }
    out + "\n"
}

fn table(page: &Page) -> String {
    let mut out = format!("durable seq {}\n", page.durable_seq);
    let _ = writeln!(
        out,
        "{:<10} {:<9} {:>5} {:>14} {:>12} {:>8} {:>10} {:>10}  last error",
        "sink", "state", "run", "seq", "lag events", "lag s", "events/s", "p99 ms"
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
            it.commit_p99_ms,
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
