//! A result: rows, ratios, and under what conditions. As a table for people, as one object a line
//! for programs.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use crate::host::Host;
use crate::jitter::Jitter;
use crate::stats::{Ratio, Row, Series};

/// What one bench found.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    /// Name of the bench.
    pub(crate) bench: &'static str,
    /// Where it ran.
    pub(crate) host: Host,
    /// What the host did meanwhile.
    pub(crate) jitter: Jitter,
    /// The rows.
    pub(crate) rows: Vec<Row>,
    /// Medians of the rounds' ratios, and counts.
    pub(crate) ratios: BTreeMap<String, f64>,
    /// The lowest and the highest ratio of a round.
    pub(crate) ratio_ranges: BTreeMap<String, [f64; 2]>,
    /// What it should be at most (or at least, for ratios of peers over us).
    pub(crate) asked: BTreeMap<String, String>,
    /// What the figures include and leave out.
    pub(crate) notes: Vec<String>,
}

/// The findings of a bench, before the conditions are put beside them.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    rows: Vec<Row>,
    ratios: BTreeMap<String, Ratio>,
    asked: BTreeMap<String, String>,
    notes: Vec<String>,
}

impl Findings {
    /// Adds a row, unless it is empty.
    pub(crate) fn row(&mut self, series: &Series) {
        if !series.is_empty() {
            self.rows.push(series.row());
        }
    }

    /// Adds a ratio, where there is one.
    pub(crate) fn ratio(&mut self, name: impl Into<String>, ratio: Option<Ratio>) {
        if let Some(ratio) = ratio {
            self.ratios.insert(name.into(), ratio);
        }
    }

    /// Adds a ratio with what is asked of it.
    pub(crate) fn asked(&mut self, name: &str, ratio: Option<Ratio>, asked: &str) {
        self.ratio(name, ratio);
        self.asked.insert(name.to_owned(), asked.to_owned());
    }

    /// Adds a remark.
    pub(crate) fn note(&mut self, text: impl Into<String>) {
        self.notes.push(text.into());
    }

    /// Puts the conditions beside the findings.
    pub(crate) fn under(self, bench: &'static str, host: Host, jitter: Jitter) -> Report {
        let ratios = self.ratios.iter().map(|(name, it)| (name.clone(), it.median));
        let ranges = self.ratios.iter().map(|(name, it)| (name.clone(), [it.min, it.max]));
        Report {
            bench,
            host,
            jitter,
            ratios: ratios.collect(),
            ratio_ranges: ranges.collect(),
            rows: self.rows,
            asked: self.asked,
            notes: self.notes,
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "== {}\n{}\n{}", self.bench, self.host, self.jitter)?;
        write!(f, "{:<42}{:>9}", "ns", "count")?;
        for name in ["mean", "p50", "p90", "p99", "p99.9", "p99.99", "max"] {
            write!(f, "{name:>11}")?;
        }
        writeln!(f, "  p50 of rounds")?;
        for row in &self.rows {
            write!(f, "{:<42}{:>9}{:>11}", row.name, row.count, short(row.mean_ns))?;
            for value in [row.p50_ns, row.p90_ns, row.p99_ns, row.p999_ns, row.p9999_ns] {
                write!(f, "{:>11}", value.map_or_else(|| "-".to_owned(), short))?;
            }
            let (low, high) = (short(row.p50_min_ns), short(row.p50_max_ns));
            writeln!(f, "{:>11}  {low} - {high}", short(row.max_ns))?;
        }
        for (name, ratio) in &self.ratios {
            let [low, high] = self.ratio_ranges.get(name).copied().unwrap_or([*ratio; 2]);
            write!(f, "{name:<50}{:>10}", short(*ratio))?;
            if low < high {
                write!(f, "   rounds {} - {}", short(low), short(high))?;
            }
            match self.asked.get(name) {
                Some(asked) => writeln!(f, "   asked {asked}")?,
                None => writeln!(f)?,
            }
        }
        for note in &self.notes {
            writeln!(f, "* {note}")?;
        }
        Ok(())
    }
}

/// Three or four digits that mean something.
fn short(value: f64) -> String {
    match value.abs() {
        v if v < 10.0 => format!("{value:.2}"),
        v if v < 1_000.0 => format!("{value:.1}"),
        v if v < 1e6 => format!("{value:.0}"),
        _ => format!("{:.1} M", value / 1e6),
    }
}
