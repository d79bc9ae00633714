//! Parquet files: the sink that needs no server.
//!
//! Events are written in sets: one file per table that had events, all with the same range of
//! sequence numbers in their names. Every file is complete and on disk under a hidden name before the
//! first one gets its own; a set that a crash caught in between is finished at the next start. The
//! cursor is the end of the newest set.

mod columns;
mod compact;
mod footer;
mod layout;

use std::collections::BTreeMap;
use std::fs::{self, File, TryLockError};
use std::path::PathBuf;
use std::time::Duration;

use kairos_edge::config::Parquet;
use kairos_edge::frames::Record;

use self::columns::TableFile;
use self::footer::{Footer, SCHEMA};
use self::layout::{Layout, SetName, day_of};
use crate::audit::Tallies;
use crate::sink::{Batch, Cursor, Pending, Sink, SinkError};
use crate::source::{Entry, Run, Said};
use crate::table::{Row, Table};

const HOUR_NS: i64 = 3_600_000_000_000;

/// The files that are being written.
#[derive(Debug)]
struct OpenSet {
    run: u64,
    date: String,
    hour: i64,
    is_cold: bool, // holds nothing but the records that a run begins with
    tables: BTreeMap<Table, TableFile>,
}

/// The sink.
#[derive(Debug)]
pub struct Files {
    config: Parquet,
    layout: Layout,
    journal: String,
    lock: Option<File>,
    held: Cursor, // by complete sets
    set: Option<OpenSet>,
    pending: Pending,
}

impl Files {
    /// A sink that will write below `config.dir`.
    #[must_use]
    pub fn new(config: Parquet) -> Self {
        let layout = Layout::new(&config.dir);
        Self {
            config,
            layout,
            journal: String::new(),
            lock: None,
            held: Cursor::START,
            set: None,
            pending: Pending::default(),
        }
    }

    /// One writer at a time: the lock goes with the process.
    fn take_lock(&mut self) -> Result<(), SinkError> {
        if self.lock.is_some() {
            return Ok(());
        }
        let path = self.config.dir.join(".lock");
        let file = layout::create(&path, false)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let dir = self.config.dir.display();
                return Err(SinkError::Fenced(format!("another drain writes into {dir}")));
            }
            Err(TryLockError::Error(error)) => return Err(layout::failed("lock", &path)(error)),
        }
        self.lock = Some(file);
        Ok(())
    }

    fn check_room(&self) -> Result<(), SinkError> {
        let dir = &self.config.dir;
        let room = rustix::fs::statvfs(dir).map_err(|error| {
            SinkError::Transient(format!(
                "{}: cannot be asked for free space: {error}",
                dir.display()
            ))
        })?;
        let free = room.f_bavail.saturating_mul(room.f_frsize);
        if free < self.config.min_free_bytes {
            let (free, least) = (free >> 20, self.config.min_free_bytes >> 20);
            let why = format!("{}: {free} MiB are free, min_free_mib is {least}", dir.display());
            return Err(SinkError::Full(why));
        }
        Ok(())
    }

    /// Deletes what was written of the open set.
    fn drop_set(&mut self) {
        if let Some(set) = self.set.take() {
            for file in set.tables.into_values() {
                file.abandon();
            }
        }
        self.pending = Pending::default();
    }

    fn close(&mut self, next: Cursor) -> Result<(), SinkError> {
        let Some(set) = self.set.take() else { return Ok(()) };
        let name =
            SetName { run: set.run, first_seq: self.held.next_seq, last_seq: next.next_seq - 1 };
        let footer = Footer {
            journal: self.journal.clone(),
            run: next.run,
            first_seq: name.first_seq,
            last_seq: name.last_seq,
            crc: next.crc,
            date: set.date.clone(),
            hour: Some(set.hour),
            depth: self.config.depth,
            tables: set
                .tables
                .iter()
                .map(|(table, it)| (table.name().to_owned(), it.rows()))
                .collect(),
            product: env!("CARGO_PKG_VERSION").to_owned(),
            schema: SCHEMA,
        };
        let mut complete: Vec<(PathBuf, PathBuf)> = Vec::new();
        for (table, file) in set.tables {
            let hidden = file.finish(&footer)?;
            complete.push((hidden, self.layout.file(table.name(), &set.date, &name)));
        }
        // The hidden names must be on disk before the first file shows: see `attach`.
        for (hidden, _) in &complete {
            layout::sync_dir_of(hidden)?;
        }
        for (hidden, shown) in &complete {
            fs::rename(hidden, shown).map_err(layout::failed("rename to", shown))?;
        }
        for (_, shown) in &complete {
            layout::sync_dir_of(shown)?;
        }
        Ok(())
    }
}

impl Sink for Files {
    fn attach(&mut self, journal: &str) -> Result<Cursor, SinkError> {
        self.drop_set();
        self.layout.make(&self.config.dir)?;
        self.take_lock()?;
        journal.clone_into(&mut self.journal);
        self.held = self.layout.recover(journal, self.config.depth)?;
        self.layout.write_words()?;
        Ok(self.held)
    }

    fn run(&mut self, run: &Run) -> Result<(), SinkError> {
        self.layout.write_run(run)
    }

    fn add(&mut self, run: &Run, entry: &Entry<'_>) -> Result<(), SinkError> {
        let row = Row::of(run, entry)?;
        self.pending.events += 1;
        if row.table == Table::Depth && !self.config.depth {
            return Ok(());
        }
        if self.set.is_none() {
            self.check_room()?;
            let at = at_ns(run, entry);
            self.set = Some(OpenSet {
                run: run.number,
                date: day_of(at),
                hour: at.div_euclid(HOUR_NS),
                is_cold: true,
                tables: BTreeMap::new(),
            });
        }
        let Some(set) = &mut self.set else { return Ok(()) };
        set.is_cold &= row.table == Table::RunRecord;
        let file = match set.tables.entry(row.table) {
            std::collections::btree_map::Entry::Occupied(open) => open.into_mut(),
            std::collections::btree_map::Entry::Vacant(none) => {
                let hidden = self.layout.hidden(row.table.name(), &set.date)?;
                none.insert(TableFile::create(row.table, hidden)?)
            }
        };
        self.pending.bytes += row.table.columns().len() * 8;
        if file.push(&row)? {
            self.check_room()?;
        }
        Ok(())
    }

    fn pending(&self) -> Pending {
        self.pending
    }

    fn batch(&self) -> Batch {
        let rows = usize::try_from(self.config.rows).unwrap_or(usize::MAX);
        Batch {
            rows,
            catchup_rows: rows,
            bytes: usize::try_from(self.config.bytes).unwrap_or(usize::MAX),
            ms: Duration::from_secs(self.config.seconds).as_secs().saturating_mul(1_000),
        }
    }

    /// A set belongs to one hour at most. Times may step back a little: those stay where they are. A
    /// capture's events are of another time than the start of their run.
    fn must_commit_before(&self, run: &Run, entry: &Entry<'_>) -> bool {
        let Some(set) = &self.set else { return false };
        if matches!(entry.said, Said::Record(Record::Part(_))) {
            return false;
        }
        let hour = at_ns(run, entry).div_euclid(HOUR_NS);
        hour > set.hour || (set.is_cold && hour != set.hour)
    }

    fn commit(&mut self, next: Cursor) -> Result<(), SinkError> {
        if self.set.is_none() {
            return Ok(()); // nothing of what came is written: the next set holds its range too
        }
        let closed = self.close(next);
        self.pending = Pending::default();
        if closed.is_ok() {
            self.held = next;
        }
        closed
    }

    fn recall(&mut self) -> Result<Cursor, SinkError> {
        self.drop_set();
        self.held = self.layout.recover(&self.journal, self.config.depth)?;
        Ok(self.held)
    }

    fn discard(&mut self) {
        self.drop_set();
    }
}

/// The time that decides in which hour an entry belongs.
fn at_ns(run: &Run, entry: &Entry<'_>) -> i64 {
    let at = match entry.said {
        Said::Record(Record::Event(event)) => i64::try_from(event.at.0).ok(),
        Said::Record(Record::Decision { record, .. }) => i64::try_from(record.at.0).ok(),
        Said::Record(Record::Part(_)) => None,
        Said::Skipped => run.wall(entry.ts),
    };
    at.unwrap_or(run.started_ns).max(0)
}

/// What the files below `config.dir` hold, row by row, and how far they say they go.
///
/// # Errors
/// [`SinkError`] where files are not whole or of another journal. Nothing is changed.
pub fn tally(config: &Parquet, journal: &str) -> Result<(Cursor, Tallies), SinkError> {
    Layout::new(&config.dir).tally(journal, config.depth)
}

/// How far the files go, without writing anything.
///
/// # Errors
/// As [`tally`].
pub fn held(config: &Parquet, journal: &str) -> Result<Cursor, SinkError> {
    Layout::new(&config.dir).held(journal, config.depth)
}

/// Accepts that everything from the cursor to `next_seq` is missing: the files go on there, and a file in
/// `missing` says so. Refused while a drain writes here.
///
/// # Errors
/// As [`clear`].
pub fn skip(config: &Parquet, from: Cursor, next_seq: u64) -> Result<(), SinkError> {
    let mut sink = Files::new(config.clone());
    sink.layout.make(&config.dir)?;
    sink.take_lock()?;
    sink.layout.write_missing(from.next_seq, next_seq - 1)
}

/// Makes one set of files of the many of each hour that is over. A drain may be writing meanwhile. Returns
/// how many sets there were and are.
///
/// # Errors
/// [`SinkError`] where files are not whole or of another journal; what the system says.
pub fn compact(config: &Parquet, journal: &str) -> Result<(usize, usize), SinkError> {
    compact::all(&Layout::new(&config.dir), journal, config.depth)
}

/// What `kairos drain check` finds of the directory, as lines; the last part is what is wrong with it.
///
/// # Errors
/// [`SinkError`] where the file system cannot be asked.
pub fn check(config: &Parquet) -> Result<(Vec<String>, Vec<String>), SinkError> {
    let (mut facts, mut wrong) = (Vec::new(), Vec::new());
    // Where there is no directory yet, the drain makes it in the nearest one that there is.
    let there = config.dir.ancestors().find(|it| it.is_dir());
    let Some(there) = there else {
        return Ok((facts, vec![format!("{}: no such place", config.dir.display())]));
    };
    let room = rustix::fs::statvfs(there).map_err(|error| {
        SinkError::Transient(format!("{}: cannot be asked: {error}", there.display()))
    })?;
    let free = room.f_bavail.saturating_mul(room.f_frsize);
    facts.push(format!("{}: {} MiB are free", there.display(), free >> 20));
    if free < config.min_free_bytes {
        wrong.push(format!("less than min_free_mib = {} is free", config.min_free_bytes >> 20));
    }
    if rustix::fs::access(there, rustix::fs::Access::WRITE_OK).is_err() {
        wrong.push(format!("{}: this user may not write there", there.display()));
    }
    Ok((facts, wrong))
}

/// Deletes every table, so that the next run writes them anew. Refused while a drain writes here.
///
/// # Errors
/// [`SinkError::Fenced`] while a drain writes; what the system says.
pub fn clear(config: &Parquet) -> Result<(), SinkError> {
    let mut sink = Files::new(config.clone());
    sink.layout.make(&config.dir)?;
    sink.take_lock()?;
    sink.layout.clear()
}
