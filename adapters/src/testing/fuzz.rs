//! The fuzz targets: recorded frames of each venue, damaged at random, through a session with the scanner
//! and one without. None panics, and both say the same.
//!
//! A target takes some hundred rounds; with `KAIROS_FUZZ_SECONDS` it goes on for so long, with another
//! seed each time. A round that fails shows its frames.

use std::env;
use std::path::Path;
use std::time::{Duration, Instant};

use kairos_logic::units::VenueId;

use super::{captures, table_of, twins};
use crate::session::MarketSession;
use crate::venues::Venue;
use crate::{binance, coinbase, kraken, kucoin, okx};

/// Rounds of eight frames for each seed.
const ROUNDS: u32 = 400;

fn session(venue: Venue, symbols: &[&str], tape_only: bool) -> Box<dyn MarketSession> {
    let split = match venue {
        Venue::Binance => binance::instruments::split_symbol,
        Venue::Okx => okx::instruments::split_symbol,
        Venue::Coinbase => coinbase::instruments::split_symbol,
        Venue::Kraken => kraken::instruments::split_symbol,
        Venue::Kucoin => kucoin::instruments::split_symbol,
    };
    let (table, ids) = table_of(venue.name(), symbols, split);
    let id = VenueId(0);
    match venue {
        Venue::Binance => {
            let options = binance::Options { tape_only, ..binance::Options::default() };
            Box::new(binance::BinanceMarket::new(&table, id, &ids, options).unwrap())
        }
        Venue::Okx => {
            let options = okx::Options { tape_only, ..okx::Options::default() };
            Box::new(okx::OkxMarket::new(&table, id, &ids, options).unwrap())
        }
        Venue::Coinbase => {
            let options = coinbase::Options { tape_only };
            Box::new(coinbase::CoinbaseMarket::new(&table, id, &ids, options).unwrap())
        }
        Venue::Kraken => {
            let options = kraken::Options { tape_only, depth: kraken::Depth::Ten };
            Box::new(kraken::KrakenMarket::new(&table, id, &ids, options).unwrap())
        }
        Venue::Kucoin => {
            let options = kucoin::Options { tape_only, ..kucoin::Options::default() };
            Box::new(kucoin::KucoinMarket::new(&table, id, &ids, options).unwrap())
        }
    }
}

fn target(venue: Venue, corpus: &[&str], symbols: &[&str]) {
    let Some(folder) = captures() else { return };
    let seconds = env::var("KAIROS_FUZZ_SECONDS").map_or(0, |it| it.parse().unwrap());
    let until = Instant::now() + Duration::from_secs(seconds);
    let make = |tape_only| session(venue, symbols, tape_only);
    let mut seed = 7;
    loop {
        for name in corpus {
            twins::fuzz(&make, &folder.join(Path::new(name)), seed, ROUNDS);
        }
        seed += 1;
        if Instant::now() >= until {
            break;
        }
    }
    println!("{}: {} rounds", venue.name(), (seed - 7) * u64::from(ROUNDS) * corpus.len() as u64);
}

#[test]
fn fuzz_binance() {
    let corpus = ["binance/multi_20211012.frames.gz", "binance/btcusdt_20240808.frames.gz"];
    target(Venue::Binance, &corpus, &["BTCUSDT", "BLZETH", "LRCBTC", "NKNUSDT", "RUNEEUR"]);
}

#[test]
fn fuzz_okx() {
    let symbols = ["BTC-USDT", "BTC-USD-220527", "UNI-USD-SWAP"];
    target(Venue::Okx, &["okx/books_20220513.frames.gz"], &symbols);
}

#[test]
fn fuzz_coinbase() {
    let corpus = ["coinbase/advanced_20260809_head.frames.gz"];
    target(Venue::Coinbase, &corpus, &["BTC-USD", "ETH-USD"]);
}

#[test]
fn fuzz_kraken() {
    target(Venue::Kraken, &["kraken/book10_btcusd_20230730.frames.gz"], &["BTC/USD"]);
}

#[test]
fn fuzz_kucoin() {
    let symbols = ["ANKR-BTC", "CAPP-BTC", "EQZ-BTC", "NRG-BTC"];
    target(Venue::Kucoin, &["kucoin/level2_20210425.frames.gz"], &symbols);
}
