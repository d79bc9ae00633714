//! Compares what a sink holds with the journal, up to the sink's own cursor.

use std::collections::BTreeMap;
use std::path::Path;

use kairos_edge::config::Drain;
use kairos_edge::frames::Record;
use kairos_logic::order::{Action, Verdict};
use serde::Serialize;

use crate::sink::{Cursor, SinkError};
use crate::source::{Entry, Follow, Said, Source, SourceError, Step, identify};
use crate::table::{Table, table_of};
use crate::{files, postgres, redis};

/// How many rows, and the sum of their numbers: two sets of events with both the same are the same
/// unless somebody takes pains.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Tally {
    /// Rows.
    pub rows: u64,
    /// Sum of their `seq`.
    pub sum: u128,
}

impl Tally {
    /// Counts one more.
    pub fn add(&mut self, seq: u64) {
        self.rows += 1;
        self.sum += u128::from(seq);
    }
}

/// Tallies by run and table.
pub type Tallies = BTreeMap<(u64, String), Tally>;

/// What was found out about one sink.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Verdicts {
    /// Its name.
    pub sink: String,
    /// The last event that it says it holds.
    pub seq: u64,
    /// Events that were compared.
    pub events: u64,
    /// One line for each difference; none where it is equal.
    pub differences: Vec<String>,
}

/// What the journal holds up to a cursor.
#[derive(Debug, Default)]
struct Expected {
    tallies: Tallies,
    streams: BTreeMap<&'static str, Vec<(u64, u64)>>, // run and seq
    events: u64,
}

impl Expected {
    fn read(journal: &Path, cursor: Cursor, follow: Follow) -> Result<Self, SinkError> {
        // The checksum in the cursor is compared here.
        match Source::open(journal, cursor, follow) {
            Ok(_) => {}
            Err(SourceError::Ahead(why)) => return Err(SinkError::Diverged(why)),
            Err(error) => return Err(error.into()),
        }
        let mut source = Source::open(journal, Cursor::START, Follow::Committed)?;
        let mut this = Self::default();
        loop {
            match source.next()? {
                Step::Entry(_, entry) if entry.seq >= cursor.next_seq => return Ok(this),
                Step::Entry(run, entry) => {
                    let run = run.number;
                    this.add(run, &entry);
                }
                Step::Mark => {}
                Step::Nothing { .. } => return Ok(this),
            }
        }
    }

    fn add(&mut self, run: u64, entry: &Entry<'_>) {
        self.events += 1;
        let Some(table) = table_of(entry) else { return };
        self.tallies.entry((run, table.name().to_owned())).or_default().add(entry.seq);
        for stream in streams_of(table, entry) {
            self.streams.entry(stream).or_default().push((run, entry.seq));
        }
    }
}

/// The streams that an event goes to.
fn streams_of(table: Table, entry: &Entry<'_>) -> Vec<&'static str> {
    match (table, &entry.said) {
        (Table::Fill, _) => vec!["stream:fills"],
        (Table::OrderEvent, _) => vec!["stream:orders"],
        (_, Said::Record(Record::Decision { record, .. })) => match record.action {
            Action::Result => Vec::new(),
            Action::State => vec!["stream:risk"],
            Action::Cancel => vec!["stream:orders"],
            Action::Place if record.verdict == Verdict::Denied => {
                vec!["stream:orders", "stream:risk"]
            }
            Action::Place => vec!["stream:orders"],
        },
        _ => Vec::new(),
    }
}

/// Compares every configured sink with the journal.
///
/// # Errors
/// [`SinkError`] with the sink's name where one cannot be asked.
pub fn audit(journal: &Path, drain: &Drain) -> Result<Vec<Verdicts>, (String, SinkError)> {
    let named = |name: &str| {
        let name = name.to_owned();
        move |error| (name, error)
    };
    let uuid = identify(journal)
        .map_err(|error| ("journal".to_owned(), SinkError::Transient(error.to_string())))?;
    let uuid = uuid.0.unwrap_or_default();
    let mut verdicts = Vec::new();
    if let Some(config) = &drain.parquet {
        let held = files::tally(config, &uuid).map_err(named("parquet"))?;
        let skip = (!config.depth).then_some(Table::Depth);
        verdicts.push(compare("parquet", journal, held, skip).map_err(named("parquet"))?);
    }
    if let Some(config) = &drain.postgres {
        let held = postgres::tally(config, &uuid).map_err(named(postgres::NAME))?;
        let skip = (!config.depth).then_some(Table::Depth);
        let verdict = compare(postgres::NAME, journal, held, skip);
        verdicts.push(verdict.map_err(named(postgres::NAME))?);
    }
    if let Some(config) = &drain.redis {
        verdicts.push(streams(journal, config, &uuid).map_err(named("redis"))?);
    }
    Ok(verdicts)
}

fn compare(
    sink: &str,
    journal: &Path,
    (cursor, found): (Cursor, Tallies),
    skip: Option<Table>,
) -> Result<Verdicts, SinkError> {
    let mut verdicts =
        Verdicts { sink: sink.to_owned(), seq: cursor.next_seq - 1, ..Verdicts::default() };
    let mut wanted = match Expected::read(journal, cursor, Follow::Durable) {
        Ok(wanted) => wanted,
        Err(SinkError::Diverged(why)) => {
            verdicts.differences.push(why);
            return Ok(verdicts);
        }
        Err(error) => return Err(error),
    };
    verdicts.events = wanted.events;
    // Of runs that retention removed from the journal, the sink's rows are all that there is.
    let first = first_run(journal)?;
    let found: Tallies = found.into_iter().filter(|((run, _), _)| *run >= first).collect();
    wanted.tallies.retain(|(_, table), _| skip.is_none_or(|skip| skip.name() != table));
    let mut keys: Vec<_> = wanted.tallies.keys().chain(found.keys()).cloned().collect();
    keys.sort();
    keys.dedup();
    for key in keys {
        let of = |tallies: &Tallies| tallies.get(&key).copied().unwrap_or_default();
        let (wanted, found) = (of(&wanted.tallies), of(&found));
        let (run, table) = &key;
        if wanted.rows != found.rows {
            verdicts.differences.push(format!(
                "run {run} {table}: {} rows, the journal has {}",
                found.rows, wanted.rows
            ));
        } else if wanted.sum != found.sum {
            verdicts.differences.push(format!(
                "run {run} {table}: {} rows, as in the journal, but not the same ones",
                found.rows
            ));
        }
    }
    Ok(verdicts)
}

fn first_run(journal: &Path) -> Result<u64, SinkError> {
    let mut source = Source::open(journal, Cursor::START, Follow::Committed)?;
    loop {
        match source.next()? {
            Step::Entry(run, _) => return Ok(run.number),
            Step::Mark => {}
            Step::Nothing { .. } => return Ok(0),
        }
    }
}

/// Streams are trimmed at their old end: what is there must be the journal's newest.
fn streams(
    journal: &Path,
    config: &kairos_edge::config::Redis,
    uuid: &str,
) -> Result<Verdicts, SinkError> {
    let (cursor, found) = redis::streams(config, uuid)?;
    let mut verdicts =
        Verdicts { sink: "redis".to_owned(), seq: cursor.next_seq - 1, ..Verdicts::default() };
    let wanted = match Expected::read(journal, cursor, Follow::Committed) {
        Ok(wanted) => wanted,
        Err(SinkError::Diverged(why)) => {
            verdicts.differences.push(why);
            return Ok(verdicts);
        }
        Err(error) => return Err(error),
    };
    verdicts.events = wanted.events;
    // What a power loss took back stays in the streams, under the number of the run that it was in.
    let runs = identify(journal).map_err(|error| SinkError::Transient(error.to_string()))?.1;
    let ends: BTreeMap<u64, u64> =
        runs.iter().filter_map(|it| Some((it.run, it.last_seq?))).collect();
    let first = first_run(journal)?;
    for (stream, mut found) in found {
        found.retain(|(run, seq)| *run >= first && ends.get(run).is_none_or(|last| seq <= last));
        let wanted = wanted.streams.get(stream).map_or(&[][..], Vec::as_slice);
        let kept = usize::try_from(config.stream_maxlen).unwrap_or(usize::MAX).min(wanted.len());
        if found.len() < kept {
            let why = format!("{stream}: {} entries, at least {kept} must be there", found.len());
            verdicts.differences.push(why);
            continue;
        }
        let newest = &wanted[wanted.len().saturating_sub(found.len())..];
        if let Some((it, other)) = found.iter().zip(newest).find(|(it, other)| it != other) {
            let why =
                format!("{stream}: entry {}-{} where {}-{} must be", it.0, it.1, other.0, other.1);
            verdicts.differences.push(why);
        } else if found.len() > wanted.len() {
            let why =
                format!("{stream}: {} entries, the journal has {}", found.len(), wanted.len());
            verdicts.differences.push(why);
        }
    }
    Ok(verdicts)
}
