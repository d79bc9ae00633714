//! `replay`: how quickly a journal can be repeated.
//!
//! A seeded exchange is written into a capture of some minutes, and the engine runs it, with all
//! seats on one thread, into a journal. Then `replay --verify` reads that journal from its files,
//! checks every frame, decides anew and compares; beside it, round by round, the same strategy and
//! risk decide over the same events held in memory. Both on one thread of one CPU, files in the page
//! cache.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use kairos_adapters::capture::CaptureWriter;
use kairos_adapters::sim::exchange::{Exchange, ExchangeOptions};
use kairos_edge::config::Config;
use kairos_edge::frames::{Assembler, Cold, Record};
use kairos_engine::assemble;
use kairos_engine::replay::{self, Range};
use kairos_engine::run::{self, Nobody, Signals};
use kairos_journal::Journal;
use kairos_logic::decision::Mind;
use kairos_logic::event::Event;
use kairos_logic::instrument::InstrumentTable;
use kairos_logic::strategy::Registry;
use kairos_logic::units::{Nanos, Seq};

use crate::journaling::Place;
use crate::report::Findings;
use crate::stats::{ROUNDS, Series};
use crate::{Bench, Trouble, threads};

/// Frames of the capture: about half a million events.
const FRAMES: usize = 200_000;

/// Runs the benches of this module.
pub(crate) fn run(bench: &mut Bench) -> Result<Findings, Trouble> {
    let (hot, _) = bench.two_cpus();
    let dir = Place::Disk.directory()?;
    let registry = Registry::shipped();
    let config = config(dir.path(), hot)?;
    record(dir.path())?;
    let finished = run::run(&config, &registry, &Signals::default(), &mut Nobody);
    let finished = finished.map_err(|error| Trouble::new("run of the engine", error))?;
    let kept = read(&finished.journal)?;
    let clock = bench.clock.clone();
    let mut verified = Series::new("replay --verify, per event", 1);
    let mut straight = Series::new("decisions over events in memory", 1);
    let mut decisions = 0;
    for _ in 0..ROUNDS {
        let round = threads::measured_on(hot, || {
            let start = clock.stamp();
            let report =
                replay::verify(&finished.journal, &registry, Range::default(), &mut |_| {});
            let report = report.map_err(|error| Trouble::new("replay", error))?;
            let verify_ns = clock.nanos_between(start, clock.stamp());
            if !report.equal || report.events != kept.events.len() as u64 {
                return Err(Trouble::new("replay differs from the run", format!("{report:?}")));
            }
            let mut mind = kept.mind(&registry)?;
            let (decided, straight_ns) = decide(&mut mind, &kept.events, &clock);
            if decided != report.decisions {
                return Err(Trouble::new("decisions", format!("{decided} and {report:?}")));
            }
            Ok((verify_ns, straight_ns, decided))
        })?;
        let (verify_ns, straight_ns, decided) = round;
        verified.push(vec![per_event(verify_ns, &kept.events)]);
        straight.push(vec![per_event(straight_ns, &kept.events)]);
        decisions = decided;
        bench.look_at_jitter();
    }
    let mut found = Findings::default();
    found.row(&verified);
    found.row(&straight);
    found.asked("over_straight", verified.over(&straight, 0.5), "<= 3");
    for (name, series) in [("replay", &verified), ("straight", &straight)] {
        if let Some(ns) = series.median() {
            found.ratio(
                format!("{name}_million_events_per_s"),
                Some(crate::stats::Ratio::exactly(1e3 / ns)),
            );
        }
    }
    found.note(format!("a row's sample is one pass over {} events", kept.events.len()));
    found
        .note(format!("{decisions} decisions of market_maker, tri_arb and momentum, all compared"));
    Ok(found)
}

#[expect(clippy::cast_precision_loss, reason = "nanoseconds of seconds")]
fn per_event(ns: u64, events: &[(Seq, Event)]) -> f64 {
    ns as f64 / events.len().max(1) as f64
}

/// Straight-line decisions: how many, and how long they took.
fn decide(
    mind: &mut Mind,
    events: &[(Seq, Event)],
    clock: &kairos_engine::clock::Clock,
) -> (u64, u64) {
    let mut decided = 0;
    let start = clock.stamp();
    for (seq, event) in events {
        mind.on_event(*seq, event, &mut |outcome| {
            decided += u64::from(outcome.record().is_some());
        });
    }
    (decided, clock.nanos_between(start, clock.stamp()))
}

/// What a journal holds, in memory.
struct Kept {
    config: String,
    table: InstrumentTable,
    events: Vec<(Seq, Event)>,
}

impl Kept {
    fn mind(&self, registry: &Registry) -> Result<Mind, Trouble> {
        assemble::journaled_config(&self.config, None)
            .and_then(|config| assemble::mind(&config, &self.table, registry, 1))
            .map_err(|error| Trouble::new("strategies", error))
    }
}

fn read(dir: &Path) -> Result<Kept, Trouble> {
    let trouble = |error: kairos_journal::Error| Trouble::new("journal", error);
    let journal = Journal::open(dir).map_err(trouble)?;
    let mut reader = journal.reader();
    let mut assembler = Assembler::default();
    let mut kept =
        Kept { config: String::new(), table: InstrumentTable::default(), events: Vec::new() };
    while let Some(frame) = reader.next().map_err(trouble)? {
        if frame.is_physical() {
            continue;
        }
        let record = Record::read(frame.kind, frame.schema, frame.ts, frame.ext(), frame.payload);
        match record.map_err(|error| Trouble::new("journal", error))? {
            Record::Event(event) => kept.events.push((Seq(frame.seq), event)),
            Record::Decision { .. } => {}
            Record::Part(part) => {
                let cold = assembler.push(&part).map_err(|error| Trouble::new("journal", error))?;
                match cold {
                    Some(Cold::Config(text)) => kept.config = text,
                    Some(Cold::Instruments(table)) => kept.table = table,
                    Some(Cold::Strategies(_)) | None => {}
                }
            }
        }
    }
    Ok(kept)
}

/// Writes the exchange's frames, with a snapshot of each book at the start.
fn record(dir: &Path) -> Result<(), Trouble> {
    let trouble = |error: kairos_adapters::capture::CaptureError| Trouble::new("capture", error);
    let mut exchange = Exchange::new(ExchangeOptions::default());
    let mut writer = CaptureWriter::create(dir.join("market.frames")).map_err(trouble)?;
    let start = ExchangeOptions::default().epoch_ms * 1_000_000;
    for number in 0..FRAMES {
        let Some(frame) = exchange.next() else { break };
        let at = Nanos(start + frame.due_ns);
        writer.frame(at, frame.text.as_bytes()).map_err(trouble)?;
        if number == 0 {
            for symbol in Exchange::SYMBOLS {
                let body = exchange.snapshot(symbol, 1_000).unwrap_or_default();
                let target = format!("/api/v3/depth?symbol={symbol}&limit=1000");
                writer.rest(at, &target, body.as_bytes()).map_err(trouble)?;
            }
        }
    }
    writer.finish().map_err(trouble)?;
    let list = dir.join("exchange-info.json");
    fs::write(&list, exchange.exchange_info()).map_err(|error| Trouble::new("instruments", error))
}

fn config(dir: &Path, cpu: u16) -> Result<Config, Trouble> {
    let mut text = String::new();
    let path = |name: &str| format!("{:?}", dir.join(name).display().to_string());
    let _ = write!(
        text,
        "[engine]\nname = \"bench\"\nrun_dir = {run}\n\
         [cores]\nfeed = {cpu}\nstrategy = {cpu}\nrisk = {cpu}\nexecution = {cpu}\njournal = {cpu}\n\
         wait = \"yield\"\n\
         [journal]\ndir = {journal}\nsegment_mib = 64\n\
         [venues.binance]\nmarket_data = \"capture\"\ncaptures = [{capture}]\n\
         instruments = [\"BTCUSDT\", \"ETHUSDT\", \"ETHBTC\"]\n\
         [paper.balances]\nUSDT = \"100000\"\n\
         [strategies.tri]\nkind = \"tri_arb\"\n\
         [strategies.mm]\nkind = \"market_maker\"\ninstruments = [\"BTCUSDT\", \"ETHUSDT\"]\n\
         [strategies.mo]\nkind = \"momentum\"\ninstruments = [\"ETHUSDT\"]\n",
        run = path("run"),
        journal = path("journal"),
        capture = path("market.frames"),
    );
    Config::parse("bench", &text, None).map_err(|problems| {
        let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
        Trouble::new("configuration", lines.join("; "))
    })
}
