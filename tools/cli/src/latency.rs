//! `kairos journal latency`: percentiles of every span, from the stamps in the frames.

mod files;
mod intervals;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use kairos_edge::frames::Record;
use kairos_engine::latency::{LatencyTable, Measured, SpanSet, Spans};
use kairos_journal::Journal;
use kairos_logic::event::Event;
use kairos_logic::params::duration_ns;
use serde_json::{Map, Value, json};

use self::intervals::{INTERVALS_MAX, Intervals};
use crate::outcome;
use crate::walk::{RunTables, Walk, WalkError};

const EXAMPLES: &str = "Examples:
  kairos journal latency DIR
  kairos journal latency DIR --by instrument --json
  kairos journal latency DIR --interval 1s --hlog run.hlog --hgrm curves --svg run.svg

Spans: recv→in (bytes in user space to published), in→strategy, strategy→risk, risk→sent, and
tick→order: from the bytes of the input to the bytes of the order that it caused. A percentile with
fewer than 100 values beyond it is left out.";

/// Percentiles of every span, from the stamps in the frames.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct LatencyArgs {
    /// The journal's directory.
    dir: PathBuf,
    /// One table for each venue or instrument as well.
    #[arg(long, value_enum)]
    by: Option<By>,
    /// One table for each interval of the events' time as well, such as 1s or 500ms.
    #[arg(long, value_name = "D", value_parser = interval)]
    interval: Option<u64>,
    /// Only this run; all runs by default.
    #[arg(long, value_name = "N")]
    run: Option<u64>,
    /// Write an interval log (version 2, compressed, one tag per span) for histogram tools; by
    /// seconds where no interval is given.
    #[arg(long, value_name = "F")]
    hlog: Option<PathBuf>,
    /// Write one percentile distribution per span, in microseconds, into this directory.
    #[arg(long, value_name = "DIR")]
    hgrm: Option<PathBuf>,
    /// Write a picture of the percentile curves.
    #[arg(long, value_name = "F")]
    svg: Option<PathBuf>,
    /// Print one JSON document.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum By {
    /// The venue of the input.
    Venue,
    /// The instrument of the input.
    Instrument,
}

fn interval(text: &str) -> Result<u64, String> {
    match duration_ns(text, 1_000_000_000) {
        Some(ns) if ns > 0 => Ok(ns),
        _ => Err("an interval is a positive number with a unit, such as 1s or 500ms".to_owned()),
    }
}

/// Most venues or instruments that are kept apart. Each takes what its histograms touch of 1 MB.
const GROUPS_MAX: usize = 1_024;
/// The interval of a log where none was asked for.
const SECOND_NS: u64 = 1_000_000_000;

/// What was measured, in all and apart.
struct Gathered {
    total: SpanSet,
    groups: BTreeMap<String, SpanSet>,
    /// Where intervals or a log of them were asked for.
    intervals: Option<Intervals>,
    dropped: u64,
}

impl Gathered {
    fn new(args: &LatencyArgs) -> Self {
        let length = args.interval.or_else(|| args.hlog.as_ref().map(|_| SECOND_NS));
        Self {
            total: SpanSet::default(),
            groups: BTreeMap::new(),
            intervals: length.map(Intervals::new),
            dropped: 0,
        }
    }

    fn add(&mut self, by: Option<By>, tables: &RunTables, it: Measured) {
        self.total.record(it.span, it.ns);
        if let Some(by) = by {
            let name = group(by, tables, &it.event);
            if let Some(set) = self.groups.get_mut(name) {
                set.record(it.span, it.ns);
            } else if self.groups.len() < GROUPS_MAX {
                self.groups.entry(name.to_owned()).or_default().record(it.span, it.ns);
            } else {
                self.dropped += 1;
            }
        }
        if let Some(intervals) = &mut self.intervals
            && !intervals.record(it.event.at.0, it.span, it.ns)
        {
            self.dropped += 1;
        }
    }
}

fn group<'a>(by: By, tables: &'a RunTables, event: &Event) -> &'a str {
    match (by, tables.table.instrument(event.instrument)) {
        (By::Venue, Some(instrument)) => tables.table.venue_name(instrument.venue),
        (By::Instrument, Some(instrument)) => &instrument.symbol,
        (_, None) => "-",
    }
}

/// Reads the journal and prints the tables.
pub(crate) fn run(args: &LatencyArgs) -> ExitCode {
    let mut gathered = match gather(args) {
        Ok(gathered) => gathered,
        Err(error) => return error.fail(),
    };
    if let Err((path, error)) = files::write(args, &mut gathered) {
        return outcome::fail_io(&path, &error);
    }
    if gathered.dropped > 0 {
        eprintln!(
            "kairos: {} values are in the total only: more than {GROUPS_MAX} groups or \
             {INTERVALS_MAX} intervals",
            gathered.dropped
        );
    }
    let said = if args.json {
        document(args, &mut gathered).to_string()
    } else {
        text(args, &mut gathered)
    };
    outcome::answer(&said, ExitCode::SUCCESS)
}

fn gather(args: &LatencyArgs) -> Result<Gathered, WalkError> {
    let mut gathered = Gathered::new(args);
    let mut spans: Option<(u64, Spans)> = None;
    let mut walk = Walk::open(&args.dir, None)?;
    let bar = outcome::bar("measuring");
    let segments = Journal::open(&args.dir).and_then(|it| it.segments());
    bar.set_length(segments.ok().and_then(|it| it.last().map(|it| it.header.segment)).unwrap_or(0));
    while walk
        .next(|tables, _, frame, record| {
            if args.run.is_some_and(|run| run != frame.run) {
                return;
            }
            let Some(record) = record else { return };
            if spans.as_ref().is_none_or(|(run, _)| *run != frame.run) {
                spans = Some((frame.run, Spans::new(tables.clock.tsc_hz)));
            }
            let Some((_, spans)) = &mut spans else { return };
            let mut each = |it: Measured| gathered.add(args.by, tables, it);
            match record {
                Record::Event(event) => spans.event(frame.seq, event, &mut each),
                Record::Decision { record, strategy_at, risk_at } => {
                    spans.decision(record, *strategy_at, *risk_at, &mut each);
                }
                Record::Part(_) => {}
            }
        })?
        .is_some()
    {
        bar.set_position(walk.position().0);
    }
    bar.finish_and_clear();
    Ok(gathered)
}

fn document(args: &LatencyArgs, gathered: &mut Gathered) -> Value {
    let Value::Object(mut document) = json!(gathered.total.table()) else { return Value::Null };
    if let Some(by) = args.by {
        let key = match by {
            By::Venue => "venues",
            By::Instrument => "instruments",
        };
        let groups: Map<String, Value> =
            gathered.groups.iter().map(|(name, set)| (name.clone(), json!(set.table()))).collect();
        document.insert(key.to_owned(), Value::Object(groups));
    }
    if args.interval.is_some()
        && let Some(intervals) = &mut gathered.intervals
    {
        let intervals: Vec<Value> = intervals
            .iter()
            .map(|(start, set)| json!({ "start_ns": start, "spans": set.table() }))
            .collect();
        document.insert("intervals".to_owned(), Value::Array(intervals));
    }
    Value::Object(document)
}

fn text(args: &LatencyArgs, gathered: &mut Gathered) -> String {
    let mut out = String::new();
    let mut table = |title: Option<&str>, table: &LatencyTable| {
        if let Some(title) = title {
            let _ = writeln!(out, "\n{title}");
        }
        let _ = writeln!(out, "{table}");
    };
    table(None, &gathered.total.table());
    for (name, set) in &gathered.groups {
        table(Some(name), &set.table());
    }
    if args.interval.is_some()
        && let Some(intervals) = &mut gathered.intervals
    {
        for (start, set) in intervals.iter() {
            table(Some(&format!("from {start}")), &set.table());
        }
    }
    out
}
