//! `decode`: what it costs to understand a message, by kind.
//!
//! Three readers get the same seeded, varied messages and give the same values: the venue's scanner,
//! which knows one exact spelling; the general parser over `simd-json`, with its tape reused and no
//! allocation; and `serde_json` into typed, borrowed fields. Texts become integers by the same
//! routine in all three, and before anything is measured all three must agree on every message.

mod coinbase;
mod hyphen;
mod kraken;
mod kucoin;
mod link;
mod okx;

use std::hint::black_box;

use kairos_adapters::binance::{Decoded, Decoder};
use kairos_adapters::venue;
use kairos_adapters::venues::Venue;
use kairos_logic::instrument::{Instrument, InstrumentTable};
use kairos_logic::units::{
    CurrencyId, InstrumentId, Money, Price, Qty, Side, VenueId, parse_decimal,
};
use serde::Deserialize;
use simd_json::{Buffers, INPUT_PADDING, Tape};

use crate::report::Findings;
use crate::stats::{ROUNDS, Series};
use crate::traffic::{Kind, Messages, Traffic};
use crate::{Bench, Trouble, threads};

/// The kinds: name in ratios, what it is, messages of a sample.
const KINDS: [(&str, Kind, usize); 5] = [
    ("trade", Kind::Trade, 32),
    ("agg_trade", Kind::AggTrade, 32),
    ("book_ticker", Kind::BookTicker, 32),
    ("depth_small", Kind::Depth(8), 16),
    ("depth_large", Kind::Depth(60), 4),
];
/// Different messages of a kind: 140 KB of trades, more than a first-level cache.
const MESSAGES: usize = 1_024;
/// Times that each reader goes through them in a round.
const LAPS: usize = 12;

/// Runs the benches of this module.
pub(crate) fn run(bench: &mut Bench) -> Result<Findings, Trouble> {
    let mut found = Findings::default();
    let mut traffic = Traffic::new(7);
    for (name, kind, per_sample) in KINDS {
        let messages = Messages::new(&mut traffic, MESSAGES, |_| kind);
        measure(bench, (name, kind, per_sample), &messages, &mut found)?;
    }
    okx::run(bench, &mut found)?;
    kucoin::run(bench, &mut found)?;
    let table = table();
    for (name, kind) in [("trade", Kind::Trade), ("book_ticker", Kind::BookTicker)] {
        let messages = &Messages::new(&mut traffic, MESSAGES, |_| kind);
        let mut decoder = Decoder::new(&table, VenueId(0), &[InstrumentId(0)]);
        let way = link::Way { venue: Venue::Binance, name, table: &table, messages };
        way.run(bench, &mut found, |it| keep(&decoder.scan(it)))?;
    }
    okx::way(bench, &mut found)?;
    kucoin::way(bench, &mut found)?;
    coinbase::run(bench, &mut found)?;
    coinbase::way(bench, &mut found)?;
    kraken::run(bench, &mut found)?;
    kraken::way(bench, &mut found)?;
    found.note("all readers decode prices and quantities into scaled integers");
    Ok(found)
}

fn measure(
    bench: &mut Bench,
    (name, kind, per_sample): (&str, Kind, usize),
    messages: &Messages,
    found: &mut Findings,
) -> Result<(), Trouble> {
    let table = table();
    let mut decoder = Decoder::new(&table, VenueId(0), &[InstrumentId(0)]);
    let typed = by_serde(kind);
    agree(&mut decoder, typed, messages)?;
    let mut tape = Decoder::new(&table, VenueId(0), &[InstrumentId(0)]);
    Race { venue: "binance", name, per_sample, messages, general: SIMD_JSON }.run(
        bench,
        found,
        |it| keep(&decoder.scan(it)),
        |it| keep(&tape.parse(it)),
        |it| keep(&typed(it)),
    );
    Ok(())
}

/// Messages of one kind, read by three readers in turn.
#[derive(Clone, Copy)]
struct Race<'a> {
    venue: &'static str,
    name: &'a str,
    per_sample: usize,
    messages: &'a Messages,
    general: General,
}

/// What the venue's general parser is made of: name in rows, name in ratios.
type General = (&'static str, &'static str);
const SIMD_JSON: General = ("simd-json", "simd_json");

impl Race<'_> {
    fn run(
        self,
        bench: &mut Bench,
        found: &mut Findings,
        mut by_scanner: impl FnMut(&[u8]) + Send,
        mut by_tape: impl FnMut(&[u8]) + Send,
        mut by_serde: impl FnMut(&[u8]) + Send,
    ) {
        let Self { venue, name, per_sample, messages, general } = self;
        let row = |reader: &str| {
            let name = format!("{venue} {name} {} B, {reader}", messages.mean_len());
            Series::new(name, per_sample as u64)
        };
        let (mut scanner, mut tape, mut serde) =
            (row("scanner"), row(general.0), row("serde_json"));
        for _ in 0..ROUNDS {
            let (hot, _) = bench.two_cpus();
            let lap = Lap { bench, messages, per_sample };
            threads::measured_on(hot, || {
                scanner.push(lap.times(&mut by_scanner));
                tape.push(lap.times(&mut by_tape));
                serde.push(lap.times(&mut by_serde));
            });
            bench.look_at_jitter();
        }
        for series in [&scanner, &tape, &serde] {
            found.row(series);
        }
        let ratio = format!("{}_over_scanner_{venue}_{name}", general.1);
        found.asked(&ratio, tape.over(&scanner, 0.5), ">= 4 for trades");
        let ratio = format!("serde_json_over_scanner_{venue}_{name}");
        found.ratio(ratio, serde.over(&scanner, 0.5));
    }
}

impl Race<'_> {
    /// The scanner against `simd-json`'s tape alone, of which nothing is read: for a venue whose
    /// numbers the tape cannot keep, the least that a reader built on it would cost.
    fn against_tape(
        self,
        bench: &mut Bench,
        found: &mut Findings,
        mut by_scanner: impl FnMut(&[u8]) + Send,
    ) {
        let Self { venue, name, per_sample, messages, .. } = self;
        let text = format!("{venue} {name} {} B, simd-json, tape alone", messages.mean_len());
        let mut scanner = Series::new(String::new(), per_sample as u64);
        let mut bare = Series::new(text, per_sample as u64);
        let mut tape = BareTape::new();
        for _ in 0..ROUNDS {
            let (hot, _) = bench.two_cpus();
            let lap = Lap { bench, messages, per_sample };
            threads::measured_on(hot, || {
                scanner.push(lap.times(&mut by_scanner));
                bare.push(lap.times(|it| keep(&tape.nodes(it))));
            });
            bench.look_at_jitter();
        }
        found.row(&bare);
        let ratio = format!("{}_over_scanner_{venue}_{name}", SIMD_JSON.1);
        found.asked(&ratio, bare.over(&scanner, 0.5), ">= 4 for trades");
    }
}

/// `simd-json` as it costs least: everything is used again.
struct BareTape {
    input: Vec<u8>,
    buffers: Buffers,
    tape: Option<Tape<'static>>, // `None` only while a message is being read
}

impl BareTape {
    fn new() -> Self {
        Self { input: Vec::new(), buffers: Buffers::new(16 << 10), tape: Some(Tape::null()) }
    }

    /// Nodes of a message; 0 where it is no JSON.
    fn nodes(&mut self, text: &[u8]) -> usize {
        self.input.clear();
        self.input.extend_from_slice(text);
        self.input.resize(text.len() + INPUT_PADDING, 0);
        let mut tape = self.tape.take().unwrap_or_else(Tape::null).reset();
        let parsed =
            simd_json::fill_tape_padded(&mut self.input, text.len(), &mut self.buffers, &mut tape);
        let nodes = if parsed.is_ok() { tape.0.len() } else { 0 };
        self.tape = Some(tape.reset());
        nodes
    }
}

/// Makes the compiler believe that somebody looks at the result.
fn keep<T>(result: &T) {
    black_box(result);
}

/// One reader's turn.
struct Lap<'a> {
    bench: &'a Bench,
    messages: &'a Messages,
    per_sample: usize,
}

impl Lap<'_> {
    /// Nanoseconds per message of each sample, after a lap that only warms up.
    #[expect(clippy::cast_precision_loss, reason = "ticks of microseconds")]
    fn times(&self, mut read: impl FnMut(&[u8])) -> Vec<f64> {
        self.messages.iter().for_each(&mut read);
        let (clock, ns) = (&self.bench.clock, self.bench.nanos_per_tick());
        let mut samples = Vec::with_capacity(LAPS * MESSAGES / self.per_sample);
        for _ in 0..LAPS {
            for first in (0..MESSAGES).step_by(self.per_sample) {
                let before = clock.stamp();
                for number in first..first + self.per_sample {
                    read(black_box(self.messages.get(number)));
                }
                let ticks = clock.stamp().0.saturating_sub(before.0);
                samples.push(ticks as f64 * ns / self.per_sample as f64);
            }
        }
        samples
    }
}

/// All three readers must say the same of every message.
fn agree(decoder: &mut Decoder, by_serde: BySerde, messages: &Messages) -> Result<(), Trouble> {
    for message in messages.iter() {
        let text = String::from_utf8_lossy(message);
        let scanned = decoder.scan(message);
        let levels: Vec<_> = decoder.levels().iter().map(|(_, it)| (it.price, it.qty)).collect();
        let parsed = decoder.parse(message).ok();
        let typed = by_serde(message);
        let same = match (scanned, &typed) {
            (Some(Decoded::Trade { price, qty, id, aggressor, .. }), Some(Typed::Trade { .. })) => {
                matches!(&typed, Some(Typed::Trade { price: p, qty: q, id: i, aggressor: a })
                    if (price, qty, id, aggressor) == (*p, *q, *i, *a))
            }
            (Some(Decoded::Quote { bid, ask, .. }), Some(Typed::Quote(it))) => {
                [bid.price, ask.price] == [it[0].0, it[1].0]
                    && [bid.qty, ask.qty] == [it[0].1, it[1].1]
            }
            (Some(Decoded::Depth { .. }), Some(Typed::Depth(it))) => levels == *it,
            _ => false,
        };
        if !same || scanned != parsed {
            return Err(Trouble::new("readers differ", format!("{text}: {scanned:?} {parsed:?}")));
        }
    }
    Ok(())
}

/// What a reader made of a message, in the same units.
#[derive(Debug, PartialEq)]
enum Typed {
    Trade { price: Price, qty: Qty, id: u64, aggressor: Side },
    Quote([(Price, Qty); 2]),
    Depth(Vec<(Price, Qty)>),
}

impl Typed {
    fn trade(it: &venue::Trade) -> Self {
        Self::Trade { price: it.price, qty: it.qty, id: it.id, aggressor: it.aggressor }
    }

    fn quote(it: &venue::Quote) -> Self {
        Self::Quote([(it.bid.price, it.bid.qty), (it.ask.price, it.ask.qty)])
    }

    fn depth(levels: &[(Side, venue::Level)]) -> Self {
        Self::Depth(levels.iter().map(|(_, it)| (it.price, it.qty)).collect())
    }
}

/// Reads messages of one kind: the types below borrow their text and are chosen in advance, which
/// is the quickest that the crate can do.
type BySerde = fn(&[u8]) -> Option<Typed>;

fn by_serde(kind: Kind) -> BySerde {
    match kind {
        Kind::Trade => |it| serde_json::from_slice::<WireTrade<'_>>(it).ok()?.typed(),
        Kind::AggTrade => |it| serde_json::from_slice::<WireAggTrade<'_>>(it).ok()?.0.typed(),
        Kind::BookTicker => |it| serde_json::from_slice::<WireQuote<'_>>(it).ok()?.typed(),
        Kind::Depth(_) => |it| serde_json::from_slice::<WireDepth<'_>>(it).ok()?.typed(),
    }
}

fn price(text: &str) -> Option<Price> {
    parse_decimal(text.as_bytes(), PRICE_SCALE).ok().map(Price)
}

fn qty(text: &str) -> Option<Qty> {
    parse_decimal(text.as_bytes(), QTY_SCALE).ok().map(Qty)
}

#[derive(Deserialize)]
struct WireTrade<'a> {
    s: &'a str,
    t: u64,
    p: &'a str,
    q: &'a str,
    #[serde(rename = "T")]
    time: u64,
    m: bool,
}

impl WireTrade<'_> {
    fn typed(&self) -> Option<Typed> {
        let aggressor = if self.m { Side::Sell } else { Side::Buy };
        black_box((self.s, self.time));
        Some(Typed::Trade { price: price(self.p)?, qty: qty(self.q)?, id: self.t, aggressor })
    }
}

/// As a trade, but for the name of the id.
struct WireAggTrade<'a>(WireTrade<'a>);

impl<'de> Deserialize<'de> for WireAggTrade<'de> {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Aggregate<'a> {
            s: &'a str,
            a: u64,
            p: &'a str,
            q: &'a str,
            #[serde(rename = "T")]
            time: u64,
            m: bool,
        }
        let it = Aggregate::deserialize(from)?;
        Ok(Self(WireTrade { s: it.s, t: it.a, p: it.p, q: it.q, time: it.time, m: it.m }))
    }
}

#[derive(Deserialize)]
struct WireQuote<'a> {
    u: u64,
    s: &'a str,
    b: &'a str,
    #[serde(rename = "B")]
    b_qty: &'a str,
    a: &'a str,
    #[serde(rename = "A")]
    a_qty: &'a str,
}

impl WireQuote<'_> {
    fn typed(&self) -> Option<Typed> {
        black_box((self.s, self.u));
        let bid = (price(self.b)?, qty(self.b_qty)?);
        Some(Typed::Quote([bid, (price(self.a)?, qty(self.a_qty)?)]))
    }
}

#[derive(Deserialize)]
struct WireDepth<'a> {
    s: &'a str,
    #[serde(rename = "E")]
    time: u64,
    #[serde(rename = "U")]
    first: u64,
    u: u64,
    #[serde(borrow)]
    b: Vec<(&'a str, &'a str)>,
    a: Vec<(&'a str, &'a str)>,
}

impl WireDepth<'_> {
    fn typed(&self) -> Option<Typed> {
        black_box((self.s, self.time, self.first, self.u));
        let levels = self.b.iter().chain(&self.a);
        levels.map(|it| Some((price(it.0)?, qty(it.1)?))).collect::<Option<_>>().map(Typed::Depth)
    }
}

/// Decimals of the instrument.
pub(crate) const PRICE_SCALE: u8 = 2;
pub(crate) const QTY_SCALE: u8 = 8;

/// One instrument, as the messages name it.
pub(crate) fn table() -> InstrumentTable {
    InstrumentTable {
        venues: vec!["binance".to_owned()],
        currencies: vec!["USDT".to_owned(), "BTC".to_owned()],
        instruments: vec![Instrument {
            venue: VenueId(0),
            symbol: "BTCUSDT".to_owned(),
            base: CurrencyId(1),
            quote: CurrencyId(0),
            price_scale: PRICE_SCALE,
            qty_scale: QTY_SCALE,
            tick: Price(1),
            lot: Qty(1_000),
            min_qty: Qty(1_000),
            min_notional: Money(500_000_000),
            maker_fee_ppm: 1_000,
            taker_fee_ppm: 1_000,
        }],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reader_says_the_same_of_every_kind() {
        let table = table();
        let mut decoder = Decoder::new(&table, VenueId(0), &[InstrumentId(0)]);
        let mut traffic = Traffic::new(3);
        for (_, kind, _) in KINDS {
            let messages = Messages::new(&mut traffic, 200, |_| kind);
            agree(&mut decoder, by_serde(kind), &messages).unwrap();
        }
        // A reader that finds something else is found out.
        let messages = Messages::new(&mut traffic, 1, |_| Kind::Trade);
        assert!(agree(&mut decoder, by_serde(Kind::BookTicker), &messages).is_err());
    }
}
