//! What a run did, told by its journal: no hot thread ever counts for a report.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use kairos_edge::frames::Record;
use kairos_journal::{Error, Journal};
use kairos_logic::event::{Event, News, ReportState, StatusCode};
use kairos_logic::order::{Action, Decision, Verdict};
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
    /// Breaks of a book's continuity.
    pub gaps: u64,
    /// The journal's directory.
    pub journal: String,
    /// Number of the run.
    pub run: u64,
    /// Percentiles by span.
    pub latency: LatencyTable,
}

impl Summary {
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
                    summary.count(&event);
                    spans.event(seq, &event, &mut |_| {});
                }
                Ok(Record::Decision { record, strategy_at, risk_at }) => {
                    summary.denied += u64::from(is_denied_order(&record));
                    spans.decision(&record, strategy_at, risk_at, &mut |_| {});
                }
                _ => {}
            }
        }
        summary.latency = spans.total().table();
        Ok(summary)
    }

    fn count(&mut self, event: &Event) {
        *self.events.entry(event.kind.text()).or_default() += 1;
        match event.news() {
            News::Gap { .. } => self.gaps += 1,
            News::Fill { .. } => self.fills += 1,
            News::Report { state: ReportState::Sent, .. } => self.orders += 1,
            News::Status { code: StatusCode::Malformed, .. } => self.malformed += 1,
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
        write!(f, "{}", self.latency)
    }
}
