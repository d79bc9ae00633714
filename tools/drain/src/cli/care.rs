//! What keeps sinks well: looking before starting, gaps that are accepted, pauses, fewer files.

use std::fmt::Write as _;
use std::fs;
use std::process::ExitCode;

use clap::Args;
use kairos_edge::config::Drain;
use kairos_edge::stats;
use kairos_journal::cursors::{self, Position};

use super::verbs::{SinkName, answer, fail};
use super::{CONFIGURATION, SAYS_NO, Where};
use crate::sink::{Cursor, SinkError};
use crate::source::{Follow, Source, SourceError, first_seq, identify};
use crate::status::pause_file;
use crate::{files, postgres, redis};

/// Connect to every sink and say what is there and what is wrong.
#[derive(Debug, Args)]
pub(super) struct CheckArgs {
    #[command(flatten)]
    place: Where,
    /// Print one JSON document.
    #[arg(long)]
    json: bool,
}

/// Go on behind what the journal no longer has and the sink never got.
#[derive(Debug, Args)]
pub(super) struct SkipArgs {
    #[command(flatten)]
    place: Where,
    /// Which sink.
    #[arg(value_enum)]
    sink: SinkName,
    /// Really: those events will never be in the sink. Without it, says which ones.
    #[arg(long)]
    accept_gap: bool,
}

/// Which sink to leave alone, or not any more.
#[derive(Debug, Args)]
pub(super) struct PauseArgs {
    #[command(flatten)]
    place: Where,
    /// Which sink.
    #[arg(value_enum)]
    sink: SinkName,
}

/// Make one Parquet file of the many of each hour that is over.
#[derive(Debug, Args)]
pub(super) struct CompactArgs {
    #[command(flatten)]
    place: Where,
}

/// Facts, and what is wrong.
type Findings = Result<(Vec<String>, Vec<String>), SinkError>;

pub(super) fn check(args: &CheckArgs) -> ExitCode {
    let (config, drain) = match args.place.load() {
        Ok(loaded) => loaded,
        Err(status) => return status,
    };
    let mut all: Vec<(&str, Findings)> = Vec::new();
    let runs = identify(&config.journal.dir);
    let runs = runs.map(|(uuid, runs)| {
        let uuid = uuid.unwrap_or_else(|| "none yet".into());
        (
            vec![format!("{}: journal {uuid}, {} runs", config.journal.dir.display(), runs.len())],
            vec![],
        )
    });
    all.push(("journal", runs.map_err(|error| SinkError::Transient(error.to_string()))));
    all.extend(drain.redis.as_ref().map(|it| ("redis", redis::check(it))));
    all.extend(drain.postgres.as_ref().map(|it| (postgres::NAME, postgres::check(it))));
    all.extend(drain.parquet.as_ref().map(|it| ("parquet", files::check(it))));
    let is_well = all.iter().all(|(_, it)| matches!(it, Ok((_, wrong)) if wrong.is_empty()));
    if args.json {
        let sinks: Vec<_> = all
            .iter()
            .map(|(name, it)| match it {
                Ok((facts, wrong)) => {
                    serde_json::json!({ "name": name, "facts": facts, "wrong": wrong })
                }
                Err(error) => {
                    serde_json::json!({ "name": name, "facts": [], "wrong": [error.to_string()] })
                }
            })
            .collect();
        answer(&serde_json::json!({ "well": is_well, "checked": sinks }).to_string());
    } else {
        let mut out = String::new();
        for (name, it) in &all {
            let none = Vec::new();
            let (facts, wrong) = match it {
                Ok((facts, wrong)) => (facts, wrong.clone()),
                Err(error) => (&none, vec![error.to_string()]),
            };
            for fact in facts {
                let _ = writeln!(out, "{name:<9} {fact}");
            }
            for flaw in wrong {
                let _ = writeln!(out, "{name:<9} WRONG: {flaw}");
            }
        }
        answer(&out);
    }
    if is_well { ExitCode::SUCCESS } else { ExitCode::from(SAYS_NO) }
}

/// A part of a sink with a cursor of its own, and where it is.
struct Held {
    name: String,
    lane: u64,
    follow: Follow,
    cursor: Cursor,
}

fn held(sink: SinkName, drain: &Drain, journal: &str) -> Result<Option<Vec<Held>>, SinkError> {
    let one =
        |cursor| vec![Held { name: sink.text().into(), lane: 0, follow: Follow::Durable, cursor }];
    Ok(match sink {
        SinkName::Parquet => match &drain.parquet {
            Some(config) => Some(one(files::held(config, journal)?)),
            None => None,
        },
        SinkName::Postgres => match &drain.postgres {
            Some(config) => Some(one(postgres::held(config, journal)?)),
            None => None,
        },
        SinkName::Redis => match &drain.redis {
            Some(config) => {
                let mut lanes = Vec::new();
                for lane in 0..config.connections {
                    let cursor = redis::held(config, journal, lane)?;
                    let name = redis::name(lane);
                    lanes.push(Held { name, lane, follow: Follow::Committed, cursor });
                }
                Some(lanes)
            }
            None => None,
        },
    })
}

pub(super) fn skip(args: &SkipArgs) -> ExitCode {
    let (config, drain) = match args.place.load() {
        Ok(loaded) => loaded,
        Err(status) => return status,
    };
    let dir = &config.journal.dir;
    let asked = identify(dir).and_then(|it| Ok((it.0, first_seq(dir)?)));
    let (journal, first) = match asked {
        Ok((Some(journal), Some(first))) => (journal, first),
        Ok(_) => {
            eprintln!("kairos-drain: skip: {}: the journal has no run", dir.display());
            return ExitCode::FAILURE;
        }
        Err(error) => {
            eprintln!("kairos-drain: skip: {error}");
            return ExitCode::FAILURE;
        }
    };
    let parts = match held(args.sink, &drain, &journal) {
        Ok(Some(parts)) => parts,
        Ok(None) => {
            eprintln!("kairos-drain: skip: {} is not configured", args.sink.text());
            return ExitCode::from(CONFIGURATION);
        }
        Err(error) => return fail(args.sink.text(), &error),
    };
    let mut skipped = false;
    for part in parts {
        let Held { name, lane, follow, cursor } = part;
        if cursor.next_seq >= first || cursor == Cursor::START {
            match Source::open(dir, cursor, follow) {
                Ok(_) => eprintln!("kairos-drain: skip: {name} is at {cursor}: nothing is missing"),
                // What differs is no gap: there is nothing that it could go on behind.
                Err(SourceError::Diverged(why)) => return fail(&name, &SinkError::Diverged(why)),
                Err(error) => return fail(&name, &error.into()),
            }
            continue;
        }
        let last = first - 1;
        if !args.accept_gap {
            eprintln!(
                "kairos-drain: skip: {name}: seq {} to {last} are gone from the journal and would never be \
                 in the sink; say --accept-gap to go on behind them",
                cursor.next_seq
            );
            return ExitCode::FAILURE;
        }
        let done = match args.sink {
            SinkName::Parquet => drain.parquet.as_ref().map(|it| files::skip(it, cursor, first)),
            SinkName::Postgres => {
                drain.postgres.as_ref().map(|it| postgres::skip(it, &journal, cursor, first))
            }
            SinkName::Redis => {
                drain.redis.as_ref().map(|it| redis::skip(it, &journal, lane, cursor, first))
            }
        };
        if let Some(Err(error)) = done {
            return fail(&name, &error);
        }
        skipped = true;
        answer(&format!(
            "{name}: seq {} to {last} are missing; the next run goes on behind",
            cursor.next_seq
        ));
        let position = Position { run: 0, seq: last };
        if let Err(error) = cursors::publish(dir, &name, position) {
            eprintln!("kairos-drain: skip: {error}");
        }
    }
    if skipped { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

pub(super) fn pause(args: &PauseArgs, is_paused: bool) -> ExitCode {
    let (config, _) = match args.place.load() {
        Ok(loaded) => loaded,
        Err(status) => return status,
    };
    let name = args.sink.text();
    let done = stats::make_run_dir(&config.engine.name, config.engine.run_dir.as_deref());
    let done = done.map_err(|error| std::io::Error::other(error.to_string())).and_then(|dir| {
        let file = pause_file(&dir, name);
        if is_paused {
            fs::create_dir_all(file.parent().unwrap_or(&dir))?;
            fs::write(&file, "")
        } else {
            match fs::remove_file(&file) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
                Ok(()) | Err(_) => Ok(()),
            }
        }
    });
    match done {
        Ok(()) => {
            let what = if is_paused { "pauses until it is resumed" } else { "goes on" };
            answer(&format!("{name} {what}"));
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("kairos-drain: {name}: {error}");
            ExitCode::FAILURE
        }
    }
}

pub(super) fn compact(args: &CompactArgs) -> ExitCode {
    let (config, drain) = match args.place.load() {
        Ok(loaded) => loaded,
        Err(status) => return status,
    };
    let Some(parquet) = &drain.parquet else {
        eprintln!("kairos-drain: compact: parquet is not configured");
        return ExitCode::from(CONFIGURATION);
    };
    let journal = match identify(&config.journal.dir) {
        Ok((journal, _)) => journal.unwrap_or_default(),
        Err(error) => {
            eprintln!("kairos-drain: compact: {error}");
            return ExitCode::FAILURE;
        }
    };
    match files::compact(parquet, &journal) {
        Ok((before, after)) => {
            answer(&format!("{before} sets of files became {after}"));
            ExitCode::SUCCESS
        }
        Err(error) => fail("parquet", &error),
    }
}
