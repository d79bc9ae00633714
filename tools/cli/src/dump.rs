//! `kairos journal dump`: one line per frame.

use std::io::{self, BufWriter, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, ValueEnum};
use kairos_edge::frames::{Record, RunEnd, kind_name};
use kairos_edge::render::Renderer;
use kairos_journal::{
    FrameView, GAP, MARK, PAD, POLICY, RUN_END, RUN_START, RunParent, SEG_END, SEG_START,
    SNAPSHOT_ANCHOR, TIME_ANCHOR,
};
use kairos_logic::event::Kind;
use kairos_logic::units::{InstrumentId, OrderId};
use serde_json::{Map, Value, json};

use crate::outcome;
use crate::walk::{RunTables, Walk, WalkError};

const EXAMPLES: &str = "Examples:
  kairos journal dump DIR --limit 20                              the first frames
  kairos journal dump DIR --kind trade,quote --instrument BTCUSDT
  kairos journal dump DIR --kind decision,report --order 1-17     the life of one order
  kairos journal dump DIR --from-seq 100000 --to-seq 100999 --format csv > part.csv
  kairos journal dump DIR --follow --kind decision                as the engine decides

Prices and quantities are exact decimals as text, times nanoseconds since 1970; stamps count from the
start of their run. What a frame does not say is an absent key. Every frame is verified as it is
read: at damage the dump ends with exit status 2, after what stands before it.";

/// Print frames, one per line, in their total order.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct DumpArgs {
    /// The journal's directory.
    dir: PathBuf,
    /// Only these kinds: trade, quote, book, gap, status, timer, command, report, balance, config,
    /// decision.
    #[arg(long, value_name = "K,…", value_delimiter = ',', value_parser = kind)]
    kind: Vec<String>,
    /// First sequence.
    #[arg(long, value_name = "N")]
    from_seq: Option<u64>,
    /// Last sequence.
    #[arg(long, value_name = "N")]
    to_seq: Option<u64>,
    /// At most so many lines.
    #[arg(long, value_name = "N")]
    limit: Option<u64>,
    /// Only this instrument, by the venue's symbol.
    #[arg(long, value_name = "SYMBOL")]
    instrument: Option<String>,
    /// Only this order, as `<run>-<n>`.
    #[arg(long, value_name = "ID", value_parser = order)]
    order: Option<OrderId>,
    /// Go on printing as frames are committed, until interrupted or `--limit` or `--to-seq` is reached.
    #[arg(long)]
    follow: bool,
    /// How a line looks.
    #[arg(long, value_enum, default_value = "jsonl")]
    format: Format,
    /// The same as `--format jsonl`.
    #[arg(long, conflicts_with = "format")]
    json: bool,
    /// Physical frames, run marks and cold records too.
    #[arg(long, conflicts_with_all = ["kind", "instrument", "order"])]
    all: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// One JSON object per line.
    Jsonl,
    /// Comma-separated values with a header line.
    Csv,
}

fn kind(text: &str) -> Result<String, String> {
    let mut known: Vec<&str> = Kind::ALL.iter().map(|it| it.text()).collect();
    known.push("decision");
    if known.contains(&text) {
        Ok(text.to_owned())
    } else {
        Err(format!("no such kind; known: {}", known.join(", ")))
    }
}

fn order(text: &str) -> Result<OrderId, String> {
    let rule = || "an order id is <run>-<n>, such as 3-17".to_owned();
    let (run, counter) = text.split_once('-').ok_or_else(rule)?;
    let number = |text: &str| text.parse::<u64>().map_err(|_| rule());
    Ok(OrderId::new(number(run)?, number(counter)?))
}

/// How long `--follow` waits before it looks again.
const FOLLOW_EVERY: Duration = Duration::from_millis(20);
/// Bytes collected before they are written.
const BUFFER: usize = 1 << 18;

/// Prints what was asked for.
pub(crate) fn run(args: &DumpArgs) -> ExitCode {
    match dump(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(DumpError::Walk(error)) => error.fail(),
        // Whoever read us has seen enough.
        Err(DumpError::Write(error)) if error.kind() == io::ErrorKind::BrokenPipe => {
            ExitCode::SUCCESS
        }
        Err(DumpError::Write(error)) => outcome::fail_io("stdout".as_ref(), &error),
    }
}

enum DumpError {
    Walk(WalkError),
    Write(io::Error),
}

impl<E: Into<WalkError>> From<E> for DumpError {
    fn from(error: E) -> Self {
        Self::Walk(error.into())
    }
}

/// Whether to go on.
enum Next {
    Print,
    Pass,
    Enough,
}

fn dump(args: &DumpArgs) -> Result<(), DumpError> {
    let mut walk = Walk::open(&args.dir, args.from_seq)?;
    let mut out = BufWriter::with_capacity(BUFFER, io::stdout().lock());
    let mut line = String::new();
    let mut printer = Printer { args, version: u64::MAX, renderer: None, instruments: Vec::new() };
    let mut left = args.limit.unwrap_or(u64::MAX);
    if args.format == Format::Csv {
        writeln!(out, "{}", Renderer::csv_header()).map_err(DumpError::Write)?;
    }
    while left > 0 {
        line.clear();
        let step = walk.next(|tables, version, frame, record| {
            printer.frame(tables, version, frame, record, &mut line)
        });
        match step {
            Ok(Some(Next::Print)) => {
                line.push('\n');
                out.write_all(line.as_bytes()).map_err(DumpError::Write)?;
                left -= 1;
            }
            Ok(Some(Next::Pass)) => {}
            Ok(Some(Next::Enough)) => break,
            Ok(None) if args.follow => {
                out.flush().map_err(DumpError::Write)?;
                std::thread::sleep(FOLLOW_EVERY);
            }
            Ok(None) => break,
            Err(error) => {
                // What stands before the damage is shown all the same.
                out.flush().map_err(DumpError::Write)?;
                return Err(error.into());
            }
        }
    }
    out.flush().map_err(DumpError::Write)
}

struct Printer<'a> {
    args: &'a DumpArgs,
    version: u64,
    renderer: Option<Renderer>,
    /// What `--instrument` names in this run: a symbol may be traded at several venues.
    instruments: Vec<InstrumentId>,
}

impl Printer<'_> {
    fn frame(
        &mut self,
        tables: &RunTables,
        version: u64,
        frame: &FrameView<'_>,
        record: Option<&Record<'_>>,
        line: &mut String,
    ) -> Next {
        if self.args.to_seq.is_some_and(|to| to < frame.seq) {
            return Next::Enough;
        }
        if self.args.from_seq.is_some_and(|from| frame.seq < from) {
            return Next::Pass;
        }
        match record {
            None | Some(Record::Part(_)) => self.physical(frame, line),
            Some(record) => {
                if self.version != version {
                    self.version = version;
                    self.renderer = Some(tables.renderer());
                    self.instruments = self.wanted_instruments(tables);
                }
                if !self.wants(frame.kind, record) {
                    return Next::Pass;
                }
                if let Some(renderer) = &self.renderer {
                    match self.args.format {
                        Format::Jsonl => renderer.json(frame.seq, record, line),
                        Format::Csv => renderer.csv(frame.seq, record, line),
                    }
                }
                Next::Print
            }
        }
    }

    fn wanted_instruments(&self, tables: &RunTables) -> Vec<InstrumentId> {
        let symbol = self.args.instrument.as_deref();
        let named = tables.table.iter().filter(|(_, it)| Some(it.symbol.as_str()) == symbol);
        named.map(|(id, _)| id).collect()
    }

    fn wants(&self, kind: u16, record: &Record<'_>) -> bool {
        let kinds = &self.args.kind;
        if !kinds.is_empty() && !kinds.iter().any(|it| kind_name(kind) == Some(it)) {
            return false;
        }
        if self.args.instrument.is_some()
            && !instrument_of(record).is_some_and(|it| self.instruments.contains(&it))
        {
            return false;
        }
        self.args.order.is_none() || order_of(record) == self.args.order
    }

    fn physical(&self, frame: &FrameView<'_>, line: &mut String) -> Next {
        if !self.args.all {
            return Next::Pass;
        }
        let kind = kind_name(frame.kind).unwrap_or_else(|| physical_name(frame.kind));
        if self.args.format == Format::Csv {
            // They have nothing for the other columns.
            let others = Renderer::csv_header().matches(',').count() - 1;
            line.push_str(&format!("{},{kind}{}", frame.seq, ",".repeat(others)));
            return Next::Print;
        }
        let mut object = json!({
            "seq": frame.seq,
            "kind": kind,
            "run": frame.run,
            "segment": frame.segment,
            "offset": frame.offset,
            "bytes": frame.payload.len(),
        });
        if let Value::Object(fields) = &mut object {
            fields.extend(mark(frame));
        }
        line.push_str(&object.to_string());
        Next::Print
    }
}

/// What the journal's own frames say.
fn mark(frame: &FrameView<'_>) -> Map<String, Value> {
    let said = match frame.kind {
        RUN_START => RunParent::parse(frame.payload).map(|it| {
            json!({ "after_run": it.run, "after_seq": it.last_seq, "after_crc": it.last_crc })
        }),
        RUN_END => RunEnd::from_payload(frame.payload).map(|it| {
            json!({ "reason": it.reason.text(), "events": it.events, "decisions": it.decisions })
        }),
        GAP => frame.gap().map(|(first, last)| json!({ "first_seq": first, "last_seq": last })),
        _ => None,
    };
    match said {
        Some(Value::Object(fields)) => fields,
        _ => Map::new(),
    }
}

fn physical_name(kind: u16) -> &'static str {
    match kind {
        SEG_START => "segment_start",
        SEG_END => "segment_end",
        PAD => "pad",
        TIME_ANCHOR => "time_anchor",
        MARK => "mark",
        RUN_START => "run_start",
        RUN_END => "run_end",
        SNAPSHOT_ANCHOR => "snapshot_anchor",
        GAP => "missing",
        POLICY => "policy",
        _ => "unknown",
    }
}

fn instrument_of(record: &Record<'_>) -> Option<InstrumentId> {
    match record {
        Record::Event(event) => Some(event.instrument),
        Record::Decision { record, .. } => Some(record.instrument),
        Record::Part(_) => None,
    }
}

fn order_of(record: &Record<'_>) -> Option<OrderId> {
    match record {
        Record::Event(event) => event.news().order(),
        Record::Decision { record, .. } => Some(record.order),
        Record::Part(_) => None,
    }
}
