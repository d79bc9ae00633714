//! Reads a journal's frames together with what is needed to understand them: the tables of the run.

use std::path::Path;

use kairos_edge::frames::{Assembler, Cold, FrameError, Record, StrategyName};
use kairos_edge::render::{Clock, Renderer};
use kairos_journal::{Error, FrameView, Journal, Reader};
use kairos_logic::instrument::InstrumentTable;

/// What is known of the run that is being read.
#[derive(Default)]
pub(crate) struct RunTables {
    /// Its number.
    pub(crate) run: u64,
    /// Its configuration, once read.
    pub(crate) config: Option<String>,
    /// Its instruments; empty until read.
    pub(crate) table: InstrumentTable,
    /// Its strategies; empty until read.
    pub(crate) strategies: Vec<StrategyName>,
    /// How its stamps become nanoseconds.
    pub(crate) clock: Clock,
    parts: Assembler,
}

impl RunTables {
    /// Learns from a part of a cold record. Says whether a table is complete now.
    fn learn(&mut self, record: &Record<'_>) -> Result<bool, FrameError> {
        let Record::Part(part) = record else { return Ok(false) };
        match self.parts.push(part)? {
            Some(Cold::Config(text)) => self.config = Some(text),
            Some(Cold::Instruments(table)) => self.table = table,
            Some(Cold::Strategies(names)) => self.strategies = names,
            None => return Ok(false),
        }
        Ok(true)
    }

    /// What prints frames of this run.
    pub(crate) fn renderer(&self) -> Renderer {
        Renderer::new(&self.table, &self.strategies, self.clock)
    }
}

/// A walk over a journal in order.
pub(crate) struct Walk {
    reader: Reader,
    /// Of the run of the newest frame.
    pub(crate) tables: RunTables,
    /// Counts up whenever `tables` change.
    pub(crate) version: u64,
}

/// What went wrong on the way.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WalkError {
    /// With the journal.
    #[error(transparent)]
    Journal(#[from] Error),
    /// With the meaning of a frame.
    #[error("seq {seq}: {error}")]
    Frame {
        /// Its sequence.
        seq: u64,
        /// What.
        error: FrameError,
    },
}

impl WalkError {
    /// Prints it and gives the exit status.
    pub(crate) fn fail(&self) -> std::process::ExitCode {
        match self {
            Self::Journal(error) => crate::outcome::fail(error),
            Self::Frame { .. } => {
                eprintln!("kairos: {self}");
                std::process::ExitCode::from(crate::outcome::DAMAGED)
            }
        }
    }
}

impl Walk {
    /// From the start of the run that holds `from`, so that its tables are known. Where damage hides
    /// that place, from the start of the journal: the walk meets the damage where it is.
    pub(crate) fn open(dir: &Path, from: Option<u64>) -> Result<Self, Error> {
        let journal = Journal::open(dir)?;
        let start_of_run = |from| {
            let runs = journal.runs().ok()?;
            let first = runs.iter().rev().map(|run| run.first_seq).find(|&first| first <= from)?;
            journal.reader_from(first).ok()
        };
        let reader = from.and_then(start_of_run).unwrap_or_else(|| journal.reader());
        Ok(Self { reader, tables: RunTables::default(), version: 0 })
    }

    /// Hands the next frame to `take`, with its meaning where it is logical; `None` where nothing
    /// more is committed at present.
    pub(crate) fn next<T>(
        &mut self,
        take: impl FnOnce(&RunTables, u64, &FrameView<'_>, Option<&Record<'_>>) -> T,
    ) -> Result<Option<T>, WalkError> {
        self.learn_clock();
        let Self { reader, tables, version } = self;
        let Some(frame) = reader.next()? else { return Ok(None) };
        if frame.run != tables.run {
            *tables = RunTables { run: frame.run, ..RunTables::default() };
            *version += 1;
        }
        if frame.is_physical() {
            return Ok(Some(take(tables, *version, &frame, None)));
        }
        let bad = |error| WalkError::Frame { seq: frame.seq, error };
        let (ext, payload) = (frame.ext(), frame.payload);
        let record = Record::read(frame.kind, frame.schema, frame.ts, ext, payload).map_err(bad)?;
        if tables.learn(&record).map_err(bad)? {
            *version += 1;
        }
        Ok(Some(take(tables, *version, &frame, Some(&record))))
    }

    /// A run begins with frames that have no stamps, in the segment whose header says how its stamps
    /// become nanoseconds.
    fn learn_clock(&mut self) {
        if self.tables.clock == Clock::default()
            && let Some(header) = self.reader.header().filter(|it| it.run == self.tables.run)
        {
            self.tables.clock = Clock { tsc_hz: header.tsc_hz, start: header.created.tsc };
            self.version += 1;
        }
    }

    /// Segment and offset reached.
    pub(crate) fn position(&self) -> (u64, u64) {
        self.reader.position()
    }
}
