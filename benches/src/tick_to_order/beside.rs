//! `beside`: what the engine notices of an archiver that catches up at full speed on the other CPU.
//!
//! Rounds come in pairs: the fused build alone, and the same while an archiver on the other CPU brings a
//! full ring to disk, over and over: reading, checking, writing, two syncs per chunk. The orders' p99
//! with it, less the p99 without, is held against the p99 of the gaps that an idle loop sees on the
//! same CPU between the rounds: what is not longer is the host's.
//!
//! # Limits
//! On a host with one CPU there is no other one, and nothing is run. The databases are not in it.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use kairos_engine::pin;

use super::rig::{Load, Rig};
use super::{Build, COMPARED_AT};
use crate::archive::Backlog;
use crate::jitter::Probe;
use crate::journaling::Place;
use crate::report::Findings;
use crate::stats::{ROUNDS, Ratio, Series};
use crate::{Bench, Trouble, threads};

/// Runs the bench of this module.
pub(crate) fn run(bench: &mut Bench) -> Result<Findings, Trouble> {
    let (hot, other) = bench.two_cpus();
    let mut found = Findings::default();
    if hot == other {
        found.note("one usable CPU: nothing was run");
        return Ok(found);
    }
    if let Err(error) = pin::lock_memory() {
        found.note(error.to_string());
    }
    let rig = Rig { clock: bench.clock.clone(), hot, other };
    let load = Arc::new(Load::new(COMPARED_AT));
    let (ring, disk) = (Place::Tmpfs.directory()?, Place::Disk.directory()?);
    let (backlog, _writer, _keeper) = Backlog::fill(ring.path(), disk.path())?;
    let mut alone = Series::new(format!("fused at {COMPARED_AT}/s, alone"), 1);
    let mut beside = Series::new(format!("fused at {COMPARED_AT}/s, archiver catching up"), 1);
    let mut probe = Probe::default();
    let copied = AtomicU64::new(0);
    for _ in 0..ROUNDS {
        alone.push(Build::Fused.run(&rig, &load)?.latencies);
        let over = AtomicBool::new(false);
        let run = std::thread::scope(|scope| {
            let archiver = scope
                .spawn(|| threads::on(other, || catch_up(backlog, disk.path(), &over, &copied)));
            let run = Build::Fused.run(&rig, &load);
            over.store(true, Ordering::Release);
            archiver.join().unwrap_or_else(|_| Err(Trouble("the archiver panicked".into())))?;
            run
        })?;
        beside.push(run.latencies);
        threads::measured_on(hot, || probe.look(&rig.clock));
        bench.look_at_jitter();
    }
    found.row(&alone);
    found.row(&beside);
    let gap = probe.sum_up().p99_gap_ns;
    let added = beside.less(&alone, 0.99);
    #[expect(clippy::cast_precision_loss, reason = "nanoseconds of a gap")]
    let over_gap = added.map(|it| {
        let gap = gap.max(1) as f64;
        Ratio { median: it.median / gap, min: it.min / gap, max: it.max / gap }
    });
    found.ratio("p99_added_ns", added);
    found.asked("p99_added_over_gap_p99", over_gap, "<= 1");
    let (copied, most) = (copied.load(Ordering::Relaxed), "the archiver began with the full ring");
    found.note(format!("{most} {copied} times; p99 of the host's own gaps {gap} ns"));
    Ok(found)
}

/// Brings the ring to disk until it is over.
fn catch_up(
    backlog: Backlog<'_>,
    disk: &Path,
    over: &AtomicBool,
    copied: &AtomicU64,
) -> Result<(), Trouble> {
    let dir = disk.join("beside");
    while !over.load(Ordering::Acquire) {
        backlog.copy(&dir, || over.load(Ordering::Acquire))?;
        std::fs::remove_dir_all(&dir).map_err(|error| Trouble::new("remove", error))?;
        copied.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}
