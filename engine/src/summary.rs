//! What a run did, told by its journal: no hot thread ever counts for a report.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;

use kairos_edge::frames::{Assembler, Cold, Record};
use kairos_journal::{Error, Journal};
use kairos_logic::event::{Event, News, ReportState, StatusCode};
use kairos_logic::instrument::InstrumentTable;
use kairos_logic::order::{Action, Decision, Verdict};
use kairos_logic::units::InstrumentId;
use serde::Serialize;

use crate::latency::{LatencyTable, Spans};

/// Counts of one run, and how long things took.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Summary {
    /// Inputs by kind.
    pub events: BTreeMap<&'static str, u64>,
    /// Orders that left.
    pub orders: u64,
    /// Executions of them, partial ones counted each.
    pub fills: u64,
    /// Orders that risk refused.
    pub denied: u64,
    /// Frames that could not be understood.
    pub malformed: u64,
    /// The first of them, as `venue: frame number` (under capture the line of the file).
    pub malformed_at: Vec<String>,
    /// Breaks of a book's continuity.
    pub gaps: u64,
    /// Instruments whose book was not known at the end: its snapshot is missing, or did not fit.
    pub unsynchronised: Vec<String>,
    /// The journal's directory.
    pub journal: String,
    /// Number of the run.
    pub run: u64,
    /// Percentiles by span.
    pub latency: LatencyTable,
}

/// Malformed frames that a summary names; all are counted.
const MALFORMED_TOLD: usize = 8;

impl Summary {
    /// What an operator should not have to look for.
    #[must_use]
    pub fn remarks(&self) -> Vec<String> {
        let mut remarks = Vec::new();
        for symbol in &self.unsynchronised {
            remarks.push(format!(
                "{symbol}: no snapshot, or none that fits its updates: its book was not known at \
                 the end, and orders that need it are denied"
            ));
        }
        if self.malformed > 0 {
            remarks.push(format!(
                "{} malformed frames, none of which became an event; the first, as venue: frame or \
                 line number: {}",
                self.malformed,
                self.malformed_at.join(", ")
            ));
        }
        remarks
    }

    /// Reads one run back.
    ///
    /// # Errors
    /// Whatever is wrong with the journal.
    pub fn of_run(dir: &Path, run: u64, first_seq: u64) -> Result<Self, Error> {
        let mut summary = Self { run, journal: dir.display().to_string(), ..Self::default() };
        let journal = Journal::open(dir)?;
        let mut reader = journal.reader_from(first_seq)?;
        let segments = journal.segments()?;
        let header = segments.iter().map(|it| &it.header).find(|it| it.run == run);
        let mut parts = Assembler::default();
        let mut books = Books::default();
        let mut spans = Spans::new(header.map_or(0, |it| it.tsc_hz));
        while let Some(frame) = reader.next()? {
            if frame.run != run || frame.is_physical() {
                continue;
            }
            let record =
                Record::read(frame.kind, frame.schema, frame.ts, frame.ext(), frame.payload);
            let seq = frame.seq;
            match record {
                Ok(Record::Event(event)) => {
                    summary.count(&event, &books.table);
                    books.follow(&event);
                    spans.event(seq, &event, &mut |_| {});
                }
                Ok(Record::Decision { record, strategy_at, risk_at }) => {
                    summary.denied += u64::from(is_denied_order(&record));
                    spans.decision(&record, strategy_at, risk_at, &mut |_| {});
                }
                Ok(Record::Part(part)) => {
                    if let Ok(Some(Cold::Instruments(table))) = parts.push(&part) {
                        books.table = table;
                    }
                }
                Err(_) => {}
            }
        }
        summary.unsynchronised = books.unknown();
        summary.latency = spans.total().table();
        Ok(summary)
    }

    fn count(&mut self, event: &Event, table: &InstrumentTable) {
        *self.events.entry(event.kind.text()).or_default() += 1;
        match event.news() {
            News::Gap { .. } => self.gaps += 1,
            News::Fill { .. } => self.fills += 1,
            News::Report { state: ReportState::Sent, .. } => self.orders += 1,
            News::Status { venue, code: StatusCode::Malformed, detail, .. } => {
                self.malformed += 1;
                if self.malformed_at.len() < MALFORMED_TOLD {
                    self.malformed_at.push(format!("{}: {detail}", table.venue_name(venue)));
                }
            }
            News::Trade { .. }
            | News::Quote { .. }
            | News::Book { .. }
            | News::Status { .. }
            | News::Timer
            | News::Command { .. }
            | News::Report { .. }
            | News::Balance { .. }
            | News::Config { .. }
            | News::Nothing => {}
        }
    }
}

/// Which books are known, as the feed tells it.
#[derive(Default)]
struct Books {
    table: InstrumentTable,
    lost: BTreeSet<InstrumentId>,
}

impl Books {
    fn follow(&mut self, event: &Event) {
        let id = event.instrument;
        match event.news() {
            News::Gap { .. } | News::Status { code: StatusCode::Resync, .. } => {
                self.lost.insert(id);
            }
            // Levels come only once the snapshot is there.
            News::Book { .. } => {
                self.lost.remove(&id);
            }
            News::Trade { .. }
            | News::Quote { .. }
            | News::Status { .. }
            | News::Timer
            | News::Command { .. }
            | News::Fill { .. }
            | News::Report { .. }
            | News::Balance { .. }
            | News::Config { .. }
            | News::Nothing => {}
        }
    }

    fn unknown(&self) -> Vec<String> {
        let symbol =
            |id: &InstrumentId| Some(self.table.instruments.get(id.index())?.symbol.clone());
        self.lost.iter().filter_map(symbol).collect()
    }
}

fn is_denied_order(decision: &Decision) -> bool {
    decision.action == Action::Place && decision.verdict == Verdict::Denied
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let total: u64 = self.events.values().sum();
        writeln!(f, "run {} in {}", self.run, self.journal)?;
        write!(f, "events    {total}")?;
        for (kind, count) in &self.events {
            write!(f, "  {kind} {count}")?;
        }
        writeln!(f)?;
        writeln!(
            f,
            "orders    {}  fills {}  denied {}  malformed {}  gaps {}",
            self.orders, self.fills, self.denied, self.malformed, self.gaps
        )?;
        if !self.unsynchronised.is_empty() {
            let symbols = self.unsynchronised.join(", ");
            writeln!(f, "no book   {symbols}: no snapshot, or none that fits the updates")?;
        }
        write!(f, "{}", self.latency)
    }
}
