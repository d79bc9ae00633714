//! Journals to look at: one that the engine wrote, and ones written frame by frame.

use std::fs;
use std::path::{Path, PathBuf};

use kairos_edge::config::Config;
use kairos_edge::frames::{self, Cold, StrategyName};
use kairos_engine::pin;
use kairos_engine::run::{self, Nobody, Signals};
use kairos_journal::{
    Anchor, AppendError, Frame, FrameView, Keeper, Options, RunFacts, Turn, Writer, create,
};
use kairos_logic::event::Event;
use kairos_logic::instrument::{Instrument, InstrumentTable};
use kairos_logic::order::Decision;
use kairos_logic::strategy::Registry;
use kairos_logic::units::{Money, Price, Qty, Stamp, VenueId};
use tempfile::TempDir;

pub(crate) use crate::seeded::START_NS;
use crate::seeded::{INSTRUMENTS, capture};

/// A journal that the engine wrote from two seconds of the seeded exchange, in a directory of its
/// own. `strategies` are TOML tables.
pub(crate) struct Traded {
    dir: TempDir,
}

/// Strategies that trade on the seeded exchange.
pub(crate) const STRATEGIES: &str = "
[strategies.tri]
kind = \"tri_arb\"
[strategies.mom]
kind = \"momentum\"
instruments = [\"BTCUSDT\"]
[strategies.mm]
kind = \"market_maker\"
instruments = [\"BTCUSDT\", \"ETHUSDT\"]
";

impl Traded {
    pub(crate) fn new() -> Self {
        let dir = TempDir::new().unwrap();
        let capture = capture(dir.path(), 7, 2);
        let this = Self { dir };
        let cpu = *pin::usable_cpus().unwrap().last().unwrap();
        let text = format!(
            "[engine]\nname = \"test\"\nseed = 7\nrun_dir = {run:?}\nring_slots = 4096\n\
             [cores]\nfeed = {cpu}\nstrategy = {cpu}\nrisk = {cpu}\nexecution = {cpu}\n\
             journal = {cpu}\nwait = \"yield\"\n\
             [journal]\ndir = {journal:?}\nsegment_mib = 2\n\
             [venues.binance]\nmarket_data = \"capture\"\ncaptures = [{capture:?}]\n\
             pace = \"max\"\ninstruments = [\"BTCUSDT\", \"ETHUSDT\", \"ETHBTC\"]\n\
             {STRATEGIES}\n{INSTRUMENTS}\n[execution]\nlatency_ms = 2\n",
            run = this.dir.path().join("run").display().to_string(),
            journal = this.journal().display().to_string(),
            capture = capture.display().to_string(),
        );
        let config = Config::parse("test", &text, Some(&pin::usable_cpus().unwrap()))
            .unwrap_or_else(|problems| panic!("{problems:#?}\n{text}"));
        run::run(&config, &Registry::shipped(), &Signals::default(), &mut Nobody)
            .unwrap_or_else(|error| panic!("{error}"));
        this
    }

    pub(crate) fn journal(&self) -> PathBuf {
        self.dir.path().join("journal")
    }

    /// A place for files beside the journal.
    pub(crate) fn beside(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }
}

/// A run that is written frame by frame, into segments of 64 KiB. Stamps tick once a nanosecond.
pub(crate) struct Written {
    writer: Writer,
    keeper: Keeper,
}

impl Written {
    /// Starts a run, without anything in it.
    pub(crate) fn bare(dir: &Path) -> Self {
        let options = Options {
            segment_bytes: 64 << 10,
            allow_tiny_segments_for_tests: true,
            frame_max: 8 << 10,
            ready_min: 1,
            not_ready_spin_us: 0,
            halt_reserve_bytes: 4096,
            populate: false,
            clock: || Anchor { tsc: 1_000, wall_ns: 0, mono_ns: 0 },
            ..Options::default()
        };
        let facts = RunFacts {
            tsc_hz: 1_000_000_000,
            tsc: 1_000,
            wall_ns: START_NS,
            notes: serde_json::json!({ "build": "test", "gate": "committed" }),
            ..RunFacts::default()
        };
        let (writer, keeper, _) = create(dir, &options, facts).unwrap();
        Self { writer, keeper }
    }

    /// Starts a run with a configuration, one instrument and one strategy. Their frames are seq 1
    /// to 3 of a new journal.
    pub(crate) fn begin(dir: &Path) -> Self {
        let mut this = Self::bare(dir);
        let name = StrategyName { name: "tri".into(), kind: "tri_arb".into() };
        for cold in [
            Cold::Config("[engine]\nname = \"written\"\n".into()),
            Cold::Instruments(table()),
            Cold::Strategies(vec![name]),
        ] {
            this.cold(&cold);
        }
        this
    }

    pub(crate) fn cold(&mut self, cold: &Cold) {
        for payload in cold.payloads() {
            self.append(1_000, cold.kind(), &[], &payload);
        }
    }

    /// Repeats a frame of another journal.
    pub(crate) fn append_again(&mut self, frame: &FrameView<'_>) {
        self.append(frame.ts, frame.kind, frame.ext(), frame.payload);
    }

    fn append(&mut self, ts: u64, kind: u16, ext: &[u64], payload: &[u8]) -> u64 {
        let frame = Frame { ts, kind, schema: frames::SCHEMA, lane: 0, ext, payload };
        loop {
            match self.writer.append(&frame) {
                Ok(seq) => return seq,
                Err(AppendError::NotReady) => assert_ne!(self.keeper.turn(), Turn::Failed),
                Err(why) => panic!("{why}"),
            }
        }
    }

    pub(crate) fn event(&mut self, event: &Event) -> u64 {
        let frame = frames::event(event);
        self.append(frame.ts, frame.kind, &frame.ext, &frame.payload)
    }

    pub(crate) fn decision(&mut self, decision: &Decision, at: (Stamp, Stamp)) -> u64 {
        let frame = frames::decision(decision, at.0, at.1);
        self.append(frame.ts, frame.kind, &frame.ext, &frame.payload)
    }

    /// Ends as an engine does that was told to.
    pub(crate) fn end(self) {
        let end = frames::RunEnd { run: 1, ..frames::RunEnd::default() };
        self.writer.end_run(0, &end.payload()).map_err(|(_, why)| why).unwrap();
        self.keeper.finish().unwrap();
    }

    /// Ends as an engine does that is killed.
    pub(crate) fn kill(self) {}
}

/// BTCUSDT at one venue, with the decimals of an instrument that nothing describes.
pub(crate) fn table() -> InstrumentTable {
    let mut table = InstrumentTable { venues: vec!["binance".into()], ..Default::default() };
    let (base, quote) = (table.intern_currency("BTC"), table.intern_currency("USDT"));
    table.instruments.push(Instrument {
        venue: VenueId(0),
        symbol: "BTCUSDT".into(),
        base,
        quote,
        price_scale: 10,
        qty_scale: 8,
        tick: Price(1),
        lot: Qty(1),
        min_qty: Qty(1),
        min_notional: Money(0),
        maker_fee_ppm: 0,
        taker_fee_ppm: 0,
    });
    table
}

/// Every file below a directory, with its bytes.
pub(crate) fn bytes_of(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap().flatten() {
        if entry.path().is_dir() {
            found.extend(bytes_of(&entry.path()));
        } else {
            found.push((entry.path(), fs::read(entry.path()).unwrap()));
        }
    }
    found.sort();
    found
}

/// Flips one bit of a file.
pub(crate) fn flip(file: &Path, offset: usize) {
    let mut bytes = fs::read(file).unwrap();
    bytes[offset] ^= 0x10;
    fs::write(file, bytes).unwrap();
}

/// The segments of a journal in their order.
pub(crate) fn segments(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir.join("seg")).unwrap().flatten();
    let mut files: Vec<PathBuf> = entries.map(|it| it.path()).collect();
    files.sort();
    files
}
