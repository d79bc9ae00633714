//! The whole engine on five venues at once, over TLS, while something goes wrong about every second.
//!
//! As long as `KAIROS_STORM_SECONDS` says (10 where it says nothing; CI says 60). What must hold does
//! not depend on how fast the host is: at the end every book is whole, none was ever crossed, every
//! gap was followed by a snapshot, and the journal replays equal.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use kairos_adapters::sim::faults::{Fault, Faults};
use kairos_adapters::sim::gateway::GatewayOptions;
use kairos_adapters::sim::host::tls::TlsFiles;
use kairos_adapters::sim::host::{Host, HostOptions};
use kairos_adapters::sim::venue::Protocol;
use kairos_edge::config::Config;
use kairos_engine::meter::Meters;
use kairos_engine::run::{self, Audience, Signals};
use kairos_engine::{pin, replay};
use kairos_logic::book::DEPTH_MAX;
use kairos_logic::event::{Event, Flags, GapReason, News, StatusCode};
use kairos_logic::instrument::InstrumentTable;
use kairos_logic::market::Market;
use kairos_logic::strategy::Registry;
use kairos_logic::units::{InstrumentId, Side};

use crate::harness::{Content, fused};

/// Every kind of fault, and every how many milliseconds it comes. With five venues something goes
/// wrong more than once a second.
const FAULTS: [(&str, u64); 15] = [
    ("drop", 2_000),
    ("duplicate", 3_000),
    ("reorder", 4_000),
    ("corrupt", 5_000),
    ("flip", 7_000),
    ("cut", 6_500),
    ("stall=1500", 17_000),
    ("close=1001", 13_000),
    ("huge=1", 19_000),
    ("refuse=700", 23_000),
    ("slow=1500", 14_500),
    ("certificate=name", 9_500),
    ("certificate=expired", 31_000),
    ("handshake=503", 9_000),
    ("rest=503", 8_500),
];

/// Longest time until everything is whole again: waits have doubled, venues asked to be left alone.
const CALM_MAX: Duration = Duration::from_secs(90);

/// What the end of the storm has to be quiet for: longer than an answer is waited for, so that a
/// snapshot that was lost has been asked for again.
const CALM: Duration = Duration::from_secs(8);

fn storm_seconds() -> u64 {
    std::env::var("KAIROS_STORM_SECONDS").map_or(10, |it| it.parse().unwrap())
}

/// Lets the storm rage, then waits until every link is up and nothing was lost for a while.
struct Watcher {
    stop: Arc<AtomicBool>,
    warm: Instant,
    over: Instant,
    quiet: Option<(Instant, u64)>,
    resident: Option<u64>,
    grown: u64,
}

/// Memory that belongs to nobody's file: the journal's mapped segments are none of it.
fn anonymous_bytes() -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = text.lines().find(|it| it.starts_with("RssAnon:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() << 10
}

impl Audience for Watcher {
    fn progress(&mut self, meters: &Meters) {
        let now = Instant::now();
        if now >= self.warm {
            let bytes = anonymous_bytes();
            let before = *self.resident.get_or_insert(bytes);
            self.grown = self.grown.max(bytes.saturating_sub(before));
        }
        if now < self.over {
            return;
        }
        let links = || meters.feeds.iter().flat_map(|it| &it.venues);
        let lost: u64 = links().map(|it| it.gaps.get() + it.reconnects.get()).sum();
        let up = links().all(|it| it.connected.get() == 1);
        match self.quiet {
            Some((since, before)) if up && before == lost => {
                if now.duration_since(since) > CALM {
                    self.stop.store(true, Ordering::Release);
                }
            }
            _ => self.quiet = Some((now, lost)),
        }
        if now > self.over + CALM_MAX {
            self.stop.store(true, Ordering::Release);
        }
    }
}

/// What logic knew of the books, event by event.
#[derive(Default)]
struct Story {
    faults: BTreeMap<&'static str, u64>,
    gaps: u64,
    malformed: u64,
    links_down: u64,
    refused: u64,
    broken: BTreeSet<InstrumentId>,
}

impl Story {
    fn of(events: &[(u64, Event)], table: &InstrumentTable) -> (Self, Market) {
        let (mut story, mut market) = (Self::default(), Market::new(table, DEPTH_MAX));
        for (seq, event) in events {
            market.on_event(event);
            let id = event.instrument;
            match event.news() {
                News::Gap { reason, .. } => {
                    story.gaps += u64::from(reason != GapReason::Disconnected);
                    story.broken.insert(id);
                }
                News::Book { flags, .. } => {
                    if flags.has(Flags::CLEAR) && flags.has(Flags::SNAPSHOT) {
                        story.broken.remove(&id);
                    }
                    let book = market.book(id).unwrap();
                    let (bid, ask) = (book.best(Side::Buy), book.best(Side::Sell));
                    if let (true, Some(bid), Some(ask)) =
                        (book.is_valid() && flags.has(Flags::LAST), bid, ask)
                    {
                        assert!(bid.price < ask.price, "seq {seq}: a crossed book");
                    }
                }
                News::Status { code, .. } => match code {
                    StatusCode::Malformed => story.malformed += 1,
                    StatusCode::LinkDown => story.links_down += 1,
                    StatusCode::LinkRefused => story.refused += 1,
                    _ => {}
                },
                _ => {}
            }
        }
        (story, market)
    }
}

#[test]
fn five_venues_in_a_storm_end_whole_and_replay_equal() {
    let seconds = storm_seconds();
    let dir = tempfile::TempDir::new().unwrap();
    let files = TlsFiles::make().unwrap();
    let ca = dir.path().join("ca.pem");
    files.write_ca(&ca).unwrap();
    let (mut hosts, mut sections) = (Vec::new(), String::new());
    for (seed, protocol) in (1..).zip(Protocol::ALL) {
        let mut faults: Vec<Fault> = FAULTS
            .iter()
            .filter_map(|(kind, every)| {
                // They end with the storm.
                let count = seconds * 1_000 / every;
                (count > 0).then(|| format!("{kind}@{every}:{count}").parse().unwrap())
            })
            .collect();
        if matches!(protocol, Protocol::Binance | Protocol::Okx) {
            faults.push("age=12".parse().unwrap());
        }
        let gateway = GatewayOptions {
            faults: Faults::new(seed, &faults),
            ..GatewayOptions::seeded(protocol, seed)
        };
        let options = HostOptions { tls: Some(files.clone()), ..HostOptions::plain(gateway) };
        let host = Host::start(options).unwrap();
        let name = protocol.name();
        let quote = protocol.quote();
        let symbols = [("BTC", quote), ("ETH", quote), ("ETH", "BTC")]
            .map(|(base, quote)| format!("{:?}", protocol.symbol(base, quote)))
            .join(", ");
        sections.push_str(&format!(
            "[venues.{name}]\nws_public_url = {:?}\nrest_url = {:?}\nca_file = {ca:?}\n\
             kernel_stamps = true\nquick_ack = true\ninstruments = [{symbols}]\n",
            host.ws_url(),
            host.rest_url(),
        ));
        hosts.push(host);
    }
    let text = format!(
        "[engine]\nname = \"storm\"\nrun_dir = {run:?}\nring_slots = 65536\n[cores]\n{cores}\n\
         [journal]\ndir = {journal:?}\nsegment_mib = 16\n{sections}\
         [feed]\nreconnect_max_ms = 2000\n\
         [strategies.mm]\nkind = \"market_maker\"\ninstruments = [\"BTCUSDT.binance\"]\n",
        run = dir.path().join("run"),
        cores = fused(),
        journal = dir.path().join("journal"),
    );
    let usable = pin::usable_cpus().unwrap();
    let config = Config::parse("storm", &text, Some(&usable))
        .unwrap_or_else(|problems| panic!("{problems:#?}\n{text}"));
    let signals = Signals::default();
    let now = Instant::now();
    let mut watcher = Watcher {
        stop: Arc::clone(&signals.stop),
        warm: now + Duration::from_secs(seconds / 2),
        over: now + Duration::from_secs(seconds),
        quiet: None,
        resident: None,
        grown: 0,
    };
    run::run(&config, &Registry::shipped(), &signals, &mut watcher).unwrap();

    let journal = dir.path().join("journal");
    let content = Content::of(&journal);
    let listed = |venue: &str, symbol: &str| {
        let (base, quote) =
            kairos_adapters::venues::Venue::from_name(venue)?.split_symbol(symbol)?;
        Some(kairos_edge::config::Description {
            base: base.into(),
            quote: quote.into(),
            ..Default::default()
        })
    };
    let table = config.instrument_table(&listed).unwrap();
    let (mut story, market) = Story::of(&content.events, &table);
    for host in hosts {
        for (kind, count) in host.stop().faults {
            *story.faults.entry(kind).or_default() += count;
        }
    }
    println!(
        "{seconds} s: {} events, {} gaps, {} malformed, {} links down, {} refused, {} KiB grown, {:?}",
        content.events.len(),
        story.gaps,
        story.malformed,
        story.links_down,
        story.refused,
        watcher.grown >> 10,
        story.faults
    );
    let struck: u64 = story.faults.values().sum();
    assert!(struck >= seconds, "{:?}", story.faults);
    assert!(story.gaps > 0);
    if seconds >= 30 {
        // Shorter storms end before every kind has come, and before all buffers have their size.
        assert!(story.malformed > 0 && story.refused > 0 && story.links_down > 0);
        assert!(story.faults.len() >= 13, "{:?}", story.faults);
        assert!(watcher.grown < 64 << 20, "{} bytes of memory more", watcher.grown);
    }
    assert!(story.broken.is_empty(), "gaps without a snapshot: {:?}", story.broken);
    for (id, instrument) in table.iter() {
        let venue = table.venue_name(instrument.venue);
        assert!(market.is_valid(id), "{venue} {} is not whole", instrument.symbol);
    }
    let range = replay::Range::default();
    let report = replay::verify(&journal, &Registry::shipped(), range, &mut |_| {}).unwrap();
    assert!(report.equal && report.decisions > 0, "{report:?}");
}
