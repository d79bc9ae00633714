//! How old events are when a sink has committed them, at a steady rate, with every server at once.
//!
//! ```sh
//! eval "$(tools/drain/dev-services up | sed 's/^/export /')"; export PGPASSWORD=kairos-dev
//! cargo run --release -p kairos-drain --example lag -- [EVENTS_PER_SECOND] [SECONDS]
//! ```
//!
//! A journal is written in a temporary directory, a millisecond's events at a time, as the engine's journal
//! seat does it; each sink follows it on a thread of its own. One JSON document goes to stdout.

use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use kairos_drain::postgres::Server;
use kairos_drain::redis::Lane;
use kairos_drain::service::{self, Job, Plan};
use kairos_drain::sink::{Batch, Cursor, Pending, Sink, SinkError};
use kairos_drain::source::{Entry, Follow, Run};
use kairos_drain::status::{Board, now_ns};
use kairos_edge::config::Sources;
use kairos_edge::frames::{self, Cold};
use kairos_journal::{AppendError, Frame, Keeper, Options, RunFacts, Turn, Writer, create};
use kairos_logic::event::Event;
use kairos_logic::instrument::{Instrument, InstrumentTable};
use kairos_logic::units::{InstrumentId, Money, Nanos, Price, Qty, Side, Stamp, VenueId};

type Failure = Box<dyn std::error::Error>;

/// The defaults of the configuration.
const BATCH: Batch = Batch { rows: 10_000, catchup_rows: 50_000, bytes: 4 << 20, ms: 50 };

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1).map(|it| it.parse());
    let rate: u64 = arguments.next().and_then(Result::ok).unwrap_or(20_000);
    let seconds: u64 = arguments.next().and_then(Result::ok).unwrap_or(20);
    match measure(rate.max(1_000), seconds.max(1)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("lag: {error}");
            ExitCode::FAILURE
        }
    }
}

/// When each event was written, in nanoseconds since the start, by its number.
struct Written {
    begun: Instant,
    at: Vec<AtomicU64>,
}

impl Written {
    fn now(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}

/// A sink whose commits are looked at.
struct Timed {
    sink: Box<dyn Sink>,
    written: Arc<Written>,
    held: u64,
    ages: Arc<Mutex<Vec<u64>>>,
}

impl Sink for Timed {
    fn attach(&mut self, journal: &str) -> Result<Cursor, SinkError> {
        let cursor = self.sink.attach(journal)?;
        self.held = cursor.next_seq;
        Ok(cursor)
    }

    fn run(&mut self, run: &Run) -> Result<(), SinkError> {
        self.sink.run(run)
    }

    fn add(&mut self, run: &Run, entry: &Entry<'_>) -> Result<(), SinkError> {
        self.sink.add(run, entry)
    }

    fn pending(&self) -> Pending {
        self.sink.pending()
    }

    fn batch(&self) -> Batch {
        self.sink.batch()
    }

    fn commit(&mut self, next: Cursor) -> Result<(), SinkError> {
        self.sink.commit(next)?;
        let now = self.written.now();
        let mut ages = self.ages.lock().map_err(|_| SinkError::Transient("poisoned".into()))?;
        for seq in self.held..next.next_seq {
            let at = usize::try_from(seq).ok().and_then(|seq| self.written.at.get(seq));
            match at.map_or(0, |at| at.load(Ordering::Acquire)) {
                0 => {} // a record of the run's beginning
                at => ages.push(now.saturating_sub(at)),
            }
        }
        self.held = next.next_seq;
        Ok(())
    }

    fn recall(&mut self) -> Result<Cursor, SinkError> {
        self.sink.recall()
    }

    fn discard(&mut self) {
        self.sink.discard();
    }
}

fn measure(rate: u64, seconds: u64) -> Result<(), Failure> {
    let named = |name: &str| std::env::var(name).ok().filter(|it| !it.is_empty());
    let mut text = String::from("[drain]\n");
    if let Some(url) = named("KAIROS_TEST_PG_URL") {
        text += &format!("[drain.postgres]\nurl = {url:?}\nschema = \"kairos_lag\"\n");
    }
    if let Some(url) = named("KAIROS_TEST_REDIS_URL") {
        text += &format!("[drain.redis]\nurl = {url:?}\nkey_prefix = \"lag:\"\n");
    }
    let home = std::env::temp_dir().join(format!("kairos-lag-{}", std::process::id()));
    std::fs::create_dir_all(&home)?;
    let file = home.join("kairos.toml");
    std::fs::write(&file, text)?;
    let loaded = Sources { file: Some(file), ..Sources::default() }.load_drain();
    let drain = loaded.map_err(|problems| format!("{problems:?}"))?.1;

    let journal = home.join("journal");
    let count = usize::try_from(rate * seconds)? + 100_000;
    let at = std::iter::repeat_with(|| AtomicU64::new(0)).take(count).collect();
    let written = Arc::new(Written { begun: Instant::now(), at });
    let (writer, keeper) = begin(&journal)?;
    let stop = Arc::new(AtomicBool::new(false));
    let kept = Arc::clone(&stop);
    let keeping = thread::spawn(move || keep(keeper, &kept));
    let plan = Plan {
        journal: journal.clone(),
        until_caught_up: false,
        stop: Arc::clone(&stop),
        stop_timeout: Duration::from_secs(5),
        catchup_bytes_per_s: 0,
    };
    type Make = Box<dyn Fn() -> Box<dyn Sink> + Send>;
    let mut wanted: Vec<(&str, Follow, Make)> = Vec::new();
    if let Some(config) = drain.postgres.clone() {
        kairos_drain::postgres::clear(&config)?;
        let journal = journal.clone();
        let make = move || -> Box<dyn Sink> {
            Box::new(Server::new(config.clone(), BATCH, journal.clone()))
        };
        wanted.push(("postgres", Follow::Durable, Box::new(make)));
    }
    if let Some(config) = drain.redis.clone() {
        kairos_drain::redis::clear(&config)?;
        let make = move || -> Box<dyn Sink> { Box::new(Lane::new(config.clone(), BATCH, 0)) };
        wanted.push(("redis", Follow::Committed, Box::new(make)));
    }
    let mut sinks = Vec::new();
    for (name, follow, make) in wanted {
        let ages = Arc::new(Mutex::new(Vec::new()));
        let (told, written) = (Arc::clone(&ages), Arc::clone(&written));
        let job = Job {
            name: name.into(),
            follow,
            paused: Arc::default(),
            make: Box::new(move || {
                let (written, ages) = (Arc::clone(&written), Arc::clone(&told));
                Box::new(Timed { sink: make(), written, held: 0, ages })
            }),
        };
        let (plan, board) = (plan.clone(), Board::new(name));
        let thread = thread::spawn(move || service::run(&job, &plan, &board));
        sinks.push((name, ages, thread));
    }
    thread::sleep(Duration::from_secs(2)); // connections and tables
    let writer = write(writer, &written, (rate, seconds))?;
    thread::sleep(Duration::from_secs(1));
    stop.store(true, Ordering::Relaxed);
    let mut report = serde_json::json!({ "events_per_second": rate, "seconds": seconds });
    for (name, ages, thread) in sinks {
        thread.join().map_err(|_| "a sink panicked")?;
        let mut ages = ages.lock().map_err(|_| "a sink panicked")?;
        ages.sort_unstable();
        let of = |share: usize| {
            let at = (ages.len() * share / 1_000).min(ages.len().saturating_sub(1));
            ages.get(at).map_or(0, |ns| ns / 1_000)
        };
        report[name] = serde_json::json!({
            "events": ages.len(), "lag_p50_us": of(500), "lag_p99_us": of(990), "lag_p999_us": of(999),
            "lag_max_us": of(1_000),
        });
    }
    drop(writer);
    keeping.join().map_err(|_| "the keeper panicked")?;
    if let Some(config) = &drain.postgres {
        kairos_drain::postgres::clear(config)?;
    }
    if let Some(config) = &drain.redis {
        kairos_drain::redis::clear(config)?;
    }
    std::fs::remove_dir_all(&home)?;
    let _printed = writeln!(std::io::stdout(), "{report}");
    Ok(())
}

fn begin(journal: &Path) -> Result<(Writer, Keeper), Failure> {
    let facts = RunFacts {
        tsc_hz: 1_000_000_000,
        wall_ns: u64::try_from(SystemTime::UNIX_EPOCH.elapsed()?.as_nanos())?,
        ..RunFacts::default()
    };
    let options = Options { segment_bytes: 16 << 20, ..Options::default() };
    let (mut writer, mut keeper, _) = create(journal, &options, facts)?;
    let mut table = InstrumentTable { venues: vec!["venue".into()], ..Default::default() };
    let (base, quote) = (table.intern_currency("BTC"), table.intern_currency("USDT"));
    for number in 0..8 {
        table.instruments.push(Instrument {
            venue: VenueId(0),
            symbol: format!("BTC{number}USDT"),
            base,
            quote,
            price_scale: 2,
            qty_scale: 3,
            tick: Price(1),
            lot: Qty(1),
            min_qty: Qty(1),
            min_notional: Money(0),
            maker_fee_ppm: 0,
            taker_fee_ppm: 0,
        });
    }
    let cold = Cold::Instruments(table);
    for payload in cold.payloads() {
        let kind = cold.kind();
        let frame =
            Frame { ts: 1, kind, schema: frames::SCHEMA, lane: 0, ext: &[], payload: &payload };
        append(&mut writer, &frame, || {
            keeper.turn();
        })?;
    }
    Ok((writer, keeper))
}

fn append(writer: &mut Writer, frame: &Frame<'_>, mut wait: impl FnMut()) -> Result<u64, Failure> {
    loop {
        match writer.append(frame) {
            Ok(seq) => return Ok(seq),
            Err(AppendError::NotReady) => wait(),
            Err(why) => return Err(why.to_string().into()),
        }
    }
}

/// Prepares segments and brings what was written to the disk.
fn keep(mut keeper: Keeper, stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        if keeper.turn() == Turn::Failed {
            return;
        }
        thread::sleep(Duration::from_millis(1));
    }
}

/// A third trades, quotes and levels each, for so many seconds.
fn write(
    mut writer: Writer,
    written: &Written,
    (rate, seconds): (u64, u64),
) -> Result<Writer, Failure> {
    let begun = Instant::now();
    let mut count = 0_u64;
    while count < rate * seconds {
        let due = u64::try_from(begun.elapsed().as_micros())? * rate / 1_000_000;
        while count < due.min(rate * seconds) {
            let (at, id) = (Nanos(now_ns()), InstrumentId(u16::try_from(count % 8)?));
            let (price, qty) = (Price(100_000 + i64::try_from(count % 100)?), Qty(5));
            let mut event = match count % 3 {
                0 => Event::trade(at, at, id, price, qty, count, Side::Buy),
                1 => Event::quote(at, at, id, (price, qty), (Price(price.0 + 1), qty)),
                _ => Event::book(
                    at,
                    at,
                    id,
                    Side::Sell,
                    price,
                    qty,
                    count,
                    kairos_logic::event::Flags::LAST,
                ),
            };
            event.recv = Stamp(count + 1);
            let frame = frames::event(&event);
            let frame = Frame {
                ts: frame.ts,
                kind: frame.kind,
                schema: frames::SCHEMA,
                lane: 0,
                ext: &frame.ext,
                payload: &frame.payload,
            };
            let seq = append(&mut writer, &frame, thread::yield_now)?;
            if let Some(slot) = usize::try_from(seq).ok().and_then(|seq| written.at.get(seq)) {
                slot.store(written.now().max(1), Ordering::Release);
            }
            count += 1;
        }
        writer.tend();
        thread::sleep(Duration::from_millis(1));
    }
    Ok(writer)
}
