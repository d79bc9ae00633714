//! The seeded exchange as a capture: what tests trade on that need no recorded data. The tests of the
//! operator's tool include this file.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use kairos_adapters::sim::exchange::{Exchange, ExchangeOptions};

/// When a capture begins, in nanoseconds since the Unix epoch.
pub(crate) const START_NS: u64 = 1_700_000_000_000_000_000;

/// A capture of the seeded exchange: no network, no recorded data, always there.
pub(crate) fn capture(dir: &Path, seed: u64, seconds: u64) -> PathBuf {
    let mut exchange = Exchange::new(ExchangeOptions { seed, ..ExchangeOptions::default() });
    let mut text = String::new();
    let mut requests = Vec::new();
    let mut snapshots_due = true;
    while let Some(frame) = exchange.next() {
        if frame.due_ns > seconds * 1_000_000_000 {
            break;
        }
        let at = START_NS + frame.due_ns;
        let _ = writeln!(text, "{at} {}", frame.text);
        // Once the first changes are out, a snapshot makes sense.
        if snapshots_due && frame.due_ns > 300_000_000 {
            snapshots_due = false;
            for symbol in ["BTCUSDT", "ETHUSDT", "ETHBTC"] {
                let body = exchange.snapshot(symbol, 1_000).expect("the exchange has this pair");
                let _ = writeln!(text, "{at} REST {body}");
                requests.push(serde_json::json!({
                    "ns": at, "target": format!("/api/v3/depth?symbol={symbol}&limit=1000"),
                }));
            }
        }
    }
    let path = dir.join(format!("seeded-{seed}.frames"));
    std::fs::write(&path, text).unwrap();
    let session =
        serde_json::json!({ "url": null, "connected_ns": null, "sent": [], "rest": requests });
    std::fs::write(dir.join(format!("seeded-{seed}.session.json")), session.to_string()).unwrap();
    path
}

/// What the seeded exchange's list says of its pairs.
pub(crate) const INSTRUMENTS: &str = "
[instruments.BTCUSDT]
venue = \"binance\"
price_scale = 8
qty_scale = 8
tick_size = \"0.01\"
lot_size = \"0.00001\"
[instruments.ETHUSDT]
venue = \"binance\"
price_scale = 8
qty_scale = 8
tick_size = \"0.01\"
lot_size = \"0.0001\"
[instruments.ETHBTC]
venue = \"binance\"
price_scale = 8
qty_scale = 8
tick_size = \"0.00001\"
lot_size = \"0.0001\"
";
