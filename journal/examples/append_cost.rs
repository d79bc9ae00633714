//! Nanoseconds per append beside those of a plain 64-byte copy, in one process, interleaved.
//!
//! `cargo run --release -p kairos-journal --example append_cost [DIR]`

use std::hint::black_box;
use std::path::PathBuf;
use std::time::Instant;

use kairos_journal::{Options, RunFacts, create};

const ROUNDS: usize = 100;
const APPENDS: u64 = 10_000;

#[expect(clippy::print_stdout, reason = "a measurement is for reading")]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let root = std::env::args().nth(1).map_or_else(std::env::temp_dir, PathBuf::from);
    let dir = root.join(format!("kairos-append-cost-{}", std::process::id()));
    let options = Options { segment_bytes: 512 << 20, ready_min: 1, ..Options::default() };
    let start = Instant::now();
    let (mut writer, mut keeper, _) = create(&dir, &options, RunFacts::default())?;
    println!("start, {} MiB: {:?}", options.segment_bytes >> 20, start.elapsed());
    let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let keeping = {
        let stop = std::sync::Arc::clone(&stop);
        std::thread::spawn(move || {
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                keeper.turn();
                std::thread::sleep(std::time::Duration::from_millis(1));
            }
            keeper
        })
    };
    // Not written in the loops: a narrow store before a wide load would stall both sides.
    let events: Vec<[u8; 64]> = (0..=255).map(|at| [at; 64]).collect();
    let event = |at: u64| black_box(&events[usize::try_from(at).unwrap_or(0) & 255]);
    let mut copies = vec![[1_u8; 64]; usize::try_from(APPENDS)?];
    let (mut copy, mut plain, mut stamped, mut general) = (vec![], vec![], vec![], vec![]);
    let mut faults = 0;
    std::thread::sleep(std::time::Duration::from_secs(3)); // let the next segment be prepared
    for _ in 0..ROUNDS {
        let start = Instant::now();
        for (at, place) in copies.iter_mut().enumerate() {
            *black_box(place) = *event(at as u64);
        }
        copy.push(nanos(start));
        while !writer.ready() {
            std::thread::yield_now();
        }
        let before = minor_faults();
        let start = Instant::now();
        for at in 0..APPENDS {
            while writer.append_fixed((at, 0x101, 1, 0), &[], event(at)).is_err() {}
        }
        plain.push(nanos(start));
        faults += minor_faults() - before;
        let start = Instant::now();
        for at in 0..APPENDS {
            while writer.append_fixed((at, 0x101, 1, 0), &[at, at], event(at)).is_err() {}
        }
        stamped.push(nanos(start));
        let start = Instant::now();
        for at in 0..APPENDS {
            let frame = kairos_journal::Frame {
                ts: at,
                kind: 0x101,
                schema: 1,
                lane: 0,
                ext: &[at, at],
                payload: event(at),
            };
            while writer.append(&frame).is_err() {}
        }
        general.push(nanos(start));
    }
    let shared = writer.shared();
    writer.end_run(0, b"").map_err(|(_, why)| why)?;
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    let start = Instant::now();
    keeping.join().map_err(|_| "the keeper panicked")?.finish()?;
    println!("finish: {:?}", start.elapsed());
    for (name, mut rounds) in [
        ("copy of 64 B", copy),
        ("append_fixed, 64 B", plain),
        ("append_fixed, 64 B and 2 stamps", stamped),
        ("append, 64 B and 2 stamps", general),
    ] {
        rounds.sort_by(f64::total_cmp);
        println!("{name}: min {:.2} median {:.2} ns", rounds[0], rounds[ROUNDS / 2]);
    }
    println!(
        "{} rolls, {} flushes, {} not ready, {faults} minor faults over {} appends_fixed",
        shared.rolls(),
        shared.flushes(),
        shared.not_ready(),
        APPENDS * ROUNDS as u64,
    );
    std::fs::remove_dir_all(&dir)?;
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "a mean for display")]
fn nanos(since: Instant) -> f64 {
    since.elapsed().as_nanos() as f64 / APPENDS as f64
}

/// Of this thread.
fn minor_faults() -> u64 {
    let stat = std::fs::read_to_string("/proc/thread-self/stat").unwrap_or_default();
    let after_name = stat.rsplit(')').next().unwrap_or_default();
    after_name.split_whitespace().nth(7).and_then(|it| it.parse().ok()).unwrap_or_default()
}
