//! The configurations that are shipped: each is right, and each trades on its venues' simulated
//! exchanges over real sockets.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use kairos_adapters::sim::gateway::GatewayOptions;
use kairos_adapters::sim::host::{Host, HostOptions};
use kairos_adapters::sim::venue::Protocol;
use kairos_edge::config::{Config, MarketData, Placement, Sources};
use kairos_engine::meter::Meters;
use kairos_engine::run::{self, Audience, Signals};
use kairos_engine::{pin, replay};
use kairos_logic::event::{Kind, News, StatusCode};
use kairos_logic::strategy::Registry;
use kairos_logic::units::VenueId;

use crate::harness::Content;
use crate::hot::Archiver;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("config")
}

fn load(file: &Path, sets: Vec<String>, usable: &[u16]) -> Config {
    Sources { file: Some(file.to_owned()), flags: sets, ..Sources::default() }
        .load(Some(usable))
        .unwrap_or_else(|problems| panic!("{}: {problems:#?}", file.display()))
}

fn files() -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder())
        .unwrap()
        .map(|it| it.unwrap().path())
        .filter(|it| it.extension().is_some_and(|end| end == "toml"))
        .collect();
    files.sort();
    files
}

#[test]
fn every_configuration_is_right_on_the_host_that_it_is_for() {
    let names: Vec<String> =
        files().iter().map(|it| it.file_stem().unwrap().to_str().unwrap().into()).collect();
    for wanted in ["binance", "okx", "coinbase", "kraken", "kucoin", "all-venues", "hot"] {
        assert!(names.iter().any(|it| it == wanted), "{wanted}: {names:?}");
    }
    for file in files() {
        let name = file.file_stem().unwrap().to_str().unwrap();
        let cpus = name.strip_prefix("layout-").map_or(1, |it| it.parse().unwrap());
        let usable: Vec<u16> = (0..cpus).collect();
        let config = load(&file, Vec::new(), &usable);
        kairos_engine::feeds::check(&config, &Registry::shipped())
            .unwrap_or_else(|error| panic!("{name}: {error}"));
    }
}

/// Stops the run once every venue has said enough.
struct Enough {
    stop: Arc<AtomicBool>,
    events: u64,
}

impl Audience for Enough {
    fn progress(&mut self, meters: &Meters) {
        let enough = |feed: &kairos_engine::meter::FeedMeter| {
            feed.venues.iter().map(|it| it.events.get()).sum::<u64>() >= self.events
        };
        if meters.feeds.iter().all(enough) {
            self.stop.store(true, Ordering::Release);
        }
    }
}

#[test]
fn every_configuration_trades_on_the_simulated_exchanges_of_its_venues() {
    let cpu = *pin::usable_cpus().unwrap().last().unwrap();
    for file in files() {
        let plain = load(&file, Vec::new(), &(0..64).collect::<Vec<u16>>());
        if plain.venues.iter().any(|it| it.market_data != MarketData::Live) {
            continue;
        }
        let dir = tempfile::TempDir::new().unwrap();
        let journal = dir.path().join("journal");
        let mut sets = vec![
            format!("journal.dir={}", journal.display()),
            format!("engine.run_dir={}", dir.path().join("run").display()),
            format!("journal.hot_dir={}", dir.path().join("ring").display()),
            "journal.segment_mib=4".to_owned(),
            "cores.wait=yield".to_owned(),
            "cores.housekeeping=[]".to_owned(),
        ];
        for seat in ["feed", "strategy", "risk", "execution", "journal"] {
            sets.push(format!("cores.{seat}={cpu}"));
        }
        let mut hosts = Vec::new();
        for venue in &plain.venues {
            let protocol = Protocol::from_name(&venue.name).unwrap();
            let gateway = GatewayOptions::seeded(protocol, 5);
            let host = Host::start(HostOptions::plain(gateway)).unwrap();
            sets.push(format!("venues.{}.ws_public_url={}", venue.name, host.ws_url()));
            sets.push(format!("venues.{}.rest_url={}", venue.name, host.rest_url()));
            hosts.push(host);
        }
        let config = load(&file, sets, &[cpu]);
        let signals = Signals::default();
        let mut enough = Enough { stop: Arc::clone(&signals.stop), events: 300 };
        let archiver = matches!(config.journal.placement, Placement::Hot(_))
            .then(|| Archiver::on(&journal, &dir.path().join("ring")));
        let name = file.file_stem().unwrap().to_str().unwrap();
        run::run(&config, &Registry::shipped(), &signals, &mut enough)
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        archiver.into_iter().for_each(Archiver::stop);

        let content = Content::of(&journal);
        for (id, venue) in (0_u8..).map(VenueId).zip(&config.venues) {
            let connected = content.events.iter().any(|it| {
                matches!(it.1.news(), News::Status { venue, code: StatusCode::Connected, .. } if venue == id)
            });
            assert!(connected, "{name}: {}", venue.name);
            let trading = content.events.iter().filter(|it| {
                matches!(it.1.news(), News::Status { venue, code: StatusCode::Listed, detail: 1, .. } if venue == id)
            });
            let wanted = venue.instruments.len();
            assert_eq!(trading.count(), wanted, "{name}: {} lists what trades", venue.name);
        }
        let count = |kind: Kind| content.events.iter().filter(|it| it.1.kind == kind).count();
        for kind in [Kind::Trade, Kind::Quote, Kind::Book, Kind::Report] {
            assert!(count(kind) > 0, "{name}: no {}", kind.text());
        }
        assert_eq!(count(Kind::Gap), 0, "{name}: nothing was lost");
        assert!(!content.decisions.is_empty(), "{name}");
        let range = replay::Range::default();
        let report = replay::verify(&journal, &Registry::shipped(), range, &mut |_| {}).unwrap();
        assert!(report.equal && report.decisions > 0, "{name}: {report:?}");
        drop(hosts);
    }
}
