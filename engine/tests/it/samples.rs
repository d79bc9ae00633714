//! The sample configurations that play a capture run as processes, as they are but for where they
//! read and write. Those for live venues are in `configs.rs`.

use std::path::Path;

use crate::harness::{Setup, captures};
use crate::process::{engine, say};

#[test]
fn every_sample_that_plays_a_capture_starts_and_trades() {
    let setup = Setup::seeded(110, 0);
    let Some(captures) = captures() else { return };
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("config");
    let mut samples = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let file = entry.unwrap().path();
        if !std::fs::read_to_string(&file).unwrap().contains("market_data = \"capture\"") {
            continue;
        }
        let journal = setup.dir.path().join(file.file_stem().unwrap());
        let capture = captures.join("binance/btcusdt_20240808.frames.gz");
        let last = *kairos_engine::pin::usable_cpus().unwrap().last().unwrap();
        let mut set = vec![
            format!("journal.dir={:?}", journal.display().to_string()),
            format!("venues.binance.captures=[{:?}]", capture.display().to_string()),
            format!("engine.run_dir={:?}", setup.dir.path().display().to_string()),
        ];
        // The sample's CPU is there on most hosts; here any will do.
        for seat in ["feed", "strategy", "risk", "execution", "journal"] {
            set.push(format!("cores.{seat}={last}"));
        }
        let flags = || set.iter().flat_map(|it| ["--set", it.as_str()]);
        let said = say(engine().args(["check", "--config"]).arg(&file).args(flags()));
        assert_eq!(said.status, Some(0), "{}: {said:?}", file.display());
        let said = say(engine().args(["run", "--json", "--config"]).arg(&file).args(flags()));
        assert_eq!(said.status, Some(0), "{}: {said:?}", file.display());
        let told: serde_json::Value = serde_json::from_str(&said.out).unwrap();
        assert!(told["fills"].as_u64().is_some_and(|it| it > 0), "{}: {told}", file.display());
        samples += 1;
    }
    assert!(samples > 0);
}
