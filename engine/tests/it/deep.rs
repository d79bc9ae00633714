//! Snapshots that are longer than the ring: Coinbase sends whole books, each of tens of thousands of
//! levels in one frame.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use kairos_adapters::sim::gateway::GatewayOptions;
use kairos_adapters::sim::host::{Host, HostOptions};
use kairos_adapters::sim::venue::Protocol;
use kairos_edge::config::Config;
use kairos_engine::meter::Meters;
use kairos_engine::run::{self, Audience, Signals};
use kairos_logic::event::{Flags, Kind, News, StatusCode};
use kairos_logic::strategy::Registry;

use crate::harness::{Content, fused};

/// Slots of the ring, of which market data may have three quarters.
const SLOTS: usize = 4_096;
/// Far levels a side that are asked for; where prices would be negative there are fewer.
const DEEP: usize = 10_000;

/// Stops the run a hundred events after the last snapshot.
struct Enough {
    stop: Arc<AtomicBool>,
}

impl Audience for Enough {
    fn progress(&mut self, meters: &Meters) {
        let venue = &meters.feeds[0].venues[0];
        if venue.resyncs.get() >= 3 && venue.events.get() >= 200 {
            self.stop.store(true, Ordering::Release);
        }
    }
}

#[test]
fn a_snapshot_longer_than_the_ring_goes_in_piece_by_piece() {
    let dir = tempfile::TempDir::new().unwrap();
    let mut gateway = GatewayOptions::seeded(Protocol::Coinbase, 5);
    gateway.market.deep = DEEP;
    let host = Host::start(HostOptions::plain(gateway)).unwrap();
    // What is held may wait for no time at all, as long as the pipeline moves.
    let text = format!(
        "[engine]\nname = \"deep\"\nrun_dir = {run:?}\nring_slots = {SLOTS}\ncurrency = \"USD\"\n\
         [cores]\n{cores}\n[journal]\ndir = {journal:?}\nsegment_mib = 4\n[feed]\nhold_ms = 0\n\
         [venues.coinbase]\nws_public_url = {ws:?}\nrest_url = {rest:?}\n\
         instruments = [\"BTC-USD\", \"ETH-USD\", \"ETH-BTC\"]\n",
        run = dir.path().join("run"),
        cores = fused(),
        journal = dir.path().join("journal"),
        ws = host.ws_url(),
        rest = host.rest_url(),
    );
    let config = Config::parse("deep", &text, None).unwrap_or_else(|it| panic!("{it:#?}\n{text}"));
    let signals = Signals::default();
    let mut enough = Enough { stop: Arc::clone(&signals.stop) };
    run::run(&config, &Registry::shipped(), &signals, &mut enough).unwrap();

    let content = Content::of(&dir.path().join("journal"));
    let (mut begun, mut levels) = (0, 0);
    for (seq, event) in &content.events {
        match event.news() {
            News::Book { flags, .. } if flags.has(Flags::SNAPSHOT) => {
                begun += usize::from(flags.has(Flags::CLEAR));
                levels += 1;
            }
            News::Status { code: StatusCode::Dropped, .. } => panic!("seq {seq}: dropped"),
            _ => assert_ne!(event.kind, Kind::Gap, "seq {seq}"),
        }
    }
    assert_eq!(begun, 3, "one snapshot of each instrument");
    assert!(levels > 3 * SLOTS, "{levels} levels");
}
