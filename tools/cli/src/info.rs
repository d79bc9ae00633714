//! `kairos journal info`: what a journal holds.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use kairos_edge::frames::{Record, kind_name};
use kairos_journal::{Error, Journal, SegmentInfo, SegmentState};
use serde::Serialize;

use crate::outcome;
use crate::walk::{RunTables, Walk, WalkError};

const EXAMPLES: &str = "Examples:
  kairos journal info /var/lib/kairos/demo/journal
  kairos journal info DIR --json | jq .events
  kairos journal info DIR --json | jq -r '.runs[-1].config'       the newest run's configuration

Works on a living engine's journal, on a dead one, and on a copy. A journal without events has zero
counts and exit status 0.";

/// Segments, runs, counts by kind, time span, instruments, configuration.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct InfoArgs {
    /// The journal's directory.
    dir: PathBuf,
    /// Print one JSON document.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Serialize)]
struct Run {
    run: u64,
    status: String,
    first_seq: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_seq: Option<u64>,
    started_ns: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    build: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    gate: Option<String>,
    strategies: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    config: Option<String>,
}

#[derive(Debug, Serialize)]
struct Segment {
    run: u64,
    segment: u64,
    state: SegmentState,
    bytes: u64,
    file: String,
}

#[derive(Debug, Default, Serialize)]
struct Info {
    journal: String,
    live: bool,
    runs: Vec<Run>,
    events: BTreeMap<String, u64>,
    /// Of the inputs' `at`, nanoseconds since 1970; `null` without any input.
    first_at: Option<u64>,
    last_at: Option<u64>,
    instruments: Vec<String>,
    segments: Vec<Segment>,
    #[serde(skip_serializing_if = "Option::is_none")]
    durable_seq: Option<u64>,
}

/// Reads the whole journal once and prints what is in it.
pub(crate) fn run(args: &InfoArgs) -> ExitCode {
    let info = match gather(args) {
        Ok(info) => info,
        Err(error) => return error.fail(),
    };
    let said = if args.json { serde_json::json!(info).to_string() } else { text(&info) };
    outcome::answer(&said, ExitCode::SUCCESS)
}

fn gather(args: &InfoArgs) -> Result<Info, WalkError> {
    let journal = Journal::open(&args.dir)?;
    let mut info = Info {
        journal: args.dir.display().to_string(),
        live: journal.is_live(),
        runs: runs(&journal)?,
        segments: journal.segments()?.iter().map(segment).collect(),
        durable_seq: journal.watermark()?.map(|it| it.seq),
        ..Info::default()
    };
    let bar = outcome::bar("reading");
    bar.set_length(info.segments.len() as u64);
    let mut walk = Walk::open(&args.dir, None)?;
    while walk.next(|tables, _, frame, record| info.learn(tables, frame.kind, record))?.is_some() {
        if bar.position() != walk.position().0 {
            bar.set_position(walk.position().0);
        }
    }
    bar.finish_and_clear();
    Ok(info)
}

impl Info {
    fn learn(&mut self, tables: &RunTables, kind: u16, record: Option<&Record<'_>>) {
        let Some(record) = record else { return };
        match record {
            // Cold records are no events; they show as instruments and configuration.
            Record::Part(_) => return self.learn_run(tables),
            Record::Event(event) => {
                let at = event.at.0;
                self.first_at = Some(self.first_at.map_or(at, |first| first.min(at)));
                self.last_at = Some(self.last_at.map_or(at, |last| last.max(at)));
            }
            Record::Decision { .. } => {}
        }
        let name = kind_name(kind).unwrap_or("unknown");
        match self.events.get_mut(name) {
            Some(count) => *count += 1,
            None => {
                self.events.insert(name.to_owned(), 1);
            }
        }
    }

    fn learn_run(&mut self, tables: &RunTables) {
        for instrument in &tables.table.instruments {
            if !self.instruments.contains(&instrument.symbol) {
                self.instruments.push(instrument.symbol.clone());
            }
        }
        if let Some(run) = self.runs.iter_mut().find(|it| it.run == tables.run) {
            let text = tables.strategies.iter().map(|it| format!("{} ({})", it.name, it.kind));
            run.strategies = text.collect();
            run.config.clone_from(&tables.config);
        }
    }
}

fn runs(journal: &Journal) -> Result<Vec<Run>, Error> {
    let runs = journal.runs()?;
    Ok(runs
        .into_iter()
        .map(|run| {
            let note = |key: &str| {
                let notes = run.manifest.get("notes")?;
                notes.get(key)?.as_str().map(ToOwned::to_owned)
            };
            Run {
                run: run.run,
                status: run.status.name().to_owned(),
                first_seq: run.first_seq,
                last_seq: run.last_seq,
                started_ns: run.started_ns,
                build: note("build"),
                gate: note("gate"),
                strategies: Vec::new(),
                config: None,
            }
        })
        .collect())
}

fn segment(it: &SegmentInfo) -> Segment {
    let file = it.path.file_name().map(|name| name.to_string_lossy().into_owned());
    Segment {
        run: it.header.run,
        segment: it.header.segment,
        state: it.state,
        bytes: it.end_offset.unwrap_or(0),
        file: file.unwrap_or_default(),
    }
}

fn text(info: &Info) -> String {
    use std::fmt::Write as _;

    let mut out = String::new();
    let total: u64 = info.events.values().sum();
    let live = if info.live { ", a living engine writes it" } else { "" };
    let _ = writeln!(out, "journal {}{live}", info.journal);
    let _ = writeln!(out, "frames  {total}");
    for (kind, count) in &info.events {
        let _ = writeln!(out, "  {kind:<10} {count}");
    }
    if let (Some(first), Some(last)) = (info.first_at, info.last_at) {
        #[expect(clippy::cast_precision_loss, reason = "seconds for a person")]
        let seconds = last.saturating_sub(first) as f64 / 1e9;
        let _ = writeln!(out, "time    {first} to {last}, {seconds:.3} s");
    }
    let _ = writeln!(out, "instruments {}", info.instruments.join(", "));
    let mut config = None;
    for run in &info.runs {
        let last = run.last_seq.map_or_else(|| "…".to_owned(), |seq| seq.to_string());
        let _ = writeln!(
            out,
            "run {}  {}  seq {} to {last}  gate {}  build {}  strategies {}",
            run.run,
            run.status,
            run.first_seq,
            run.gate.as_deref().unwrap_or("?"),
            run.build.as_deref().unwrap_or("?"),
            run.strategies.join(", "),
        );
        if run.config.is_some() && run.config == config {
            let _ = writeln!(out, "    configuration as before");
        } else if let Some(text) = &run.config {
            for line in text.lines() {
                let _ = writeln!(out, "    {line}");
            }
        }
        config.clone_from(&run.config);
    }
    for segment in &info.segments {
        let _ =
            writeln!(out, "segment {}  {:?}  {} bytes", segment.file, segment.state, segment.bytes);
    }
    out
}
