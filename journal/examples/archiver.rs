//! The archiver alone, as `kairos-drain --role archive` runs it: to be tried, and to be killed.
//!
//! `cargo run --release -p kairos-journal --example archiver -- ARCHIVE RING [--until-caught-up]`

use std::sync::atomic::AtomicBool;

use kairos_journal::archive::{ArchiveOptions, run};

#[expect(clippy::print_stderr, reason = "an example tells what it does")]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let (Some(dir), Some(ring)) = (args.next(), args.next()) else {
        return Err("usage: archiver ARCHIVE RING [--until-caught-up]".into());
    };
    let until_caught_up = args.next().is_some_and(|it| it == "--until-caught-up");
    let options = ArchiveOptions { until_caught_up, ..ArchiveOptions::new(dir, ring) };
    let mut before = None;
    run(options, &AtomicBool::new(false), &mut |progress| {
        let now = (progress.state.clone(), progress.run, progress.durable_seq);
        if before.as_ref() != Some(&now) {
            eprintln!("run {}, seq {} on disk: {}", now.1, now.2, now.0);
            before = Some(now);
        }
    })?;
    Ok(())
}
