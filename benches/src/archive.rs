//! `archive`: how fast the archiver is when it has to catch up.
//!
//! Each round fills a ring in memory while nobody copies it, then lets the archiver bring all of it to
//! disk: read and checked frame by frame, written, synced, the watermark synced behind each chunk.
//! Beside it `dd bs=1M oflag=dsync` copies the same bytes out of the same ring to the same disk.

use std::path::Path;
use std::process::Command;
use std::time::Instant;

use kairos_journal::archive::{ArchiveOptions, Archiver};
use kairos_journal::{HotOptions, Keeper, Options, Placement, RunFacts, Writer, create};

use crate::journaling::Place;
use crate::report::Findings;
use crate::stats::{ROUNDS, Ratio, Series};
use crate::{Bench, Trouble};

const SEGMENT_BYTES: u64 = 32 << 20;
/// Segments that a round fills; one more is begun.
const SEGMENTS: usize = 4;

/// Runs the benches of this module.
pub(crate) fn run(bench: &mut Bench) -> Result<Findings, Trouble> {
    let mut found = Findings::default();
    let mut archive = Series::new("archiver, catching up: per MiB", 1);
    let mut dd = Series::new("dd bs=1M oflag=dsync: per MiB", 1);
    let mut ratios = Vec::new();
    for _ in 0..ROUNDS {
        let (ring, disk) = (Place::Tmpfs.directory()?, Place::Disk.directory()?);
        let (mib, ours, theirs) = round(ring.path(), disk.path())?;
        archive.push(vec![ours / mib]);
        dd.push(vec![theirs / mib]);
        ratios.push(theirs / ours);
        bench.look_at_jitter();
    }
    found.row(&archive);
    found.row(&dd);
    found.asked("throughput_over_dd", Ratio::of(ratios), ">= 0.6");
    found.note("each round copies 4 segments of 32 MiB, once each way, to the disk of the build");
    Ok(found)
}

/// A ring full of frames that nobody has copied.
#[derive(Clone, Copy)]
pub(crate) struct Backlog<'a> {
    ring: &'a Path,
    bytes: u64,
    last_seq: u64,
}

impl<'a> Backlog<'a> {
    /// Fills the ring; `disk` is for the archive that the run begins with. The ring stays as it is for as
    /// long as the two halves are kept.
    pub(crate) fn fill(ring: &'a Path, disk: &Path) -> Result<(Self, Writer, Keeper), Trouble> {
        let dir = disk.join("begun");
        let hot = HotOptions { segments: SEGMENTS + 2, ..HotOptions::new(ring) };
        let options = Options {
            segment_bytes: SEGMENT_BYTES,
            placement: Placement::Hot(hot),
            ready_min: 1,
            ..Options::default()
        };
        let archiver = Archiver::open(ArchiveOptions::new(&dir, ring)).map_err(trouble)?;
        let (mut writer, mut keeper, _) =
            create(&dir, &options, RunFacts::default()).map_err(trouble)?;
        drop(archiver); // from here on nobody copies
        let shared = writer.shared();
        let mut at = 0_u64;
        while shared.rolls() < SEGMENTS as u64 {
            let payload = at.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes().repeat(8);
            let payload: &[u8; 64] = payload.as_slice().try_into().unwrap_or(&[0; 64]);
            match writer.append_fixed((at, 0x101, 1, 0), &[at], payload) {
                Ok(seq) => at = seq,
                Err(_) => drop(keeper.turn()),
            }
        }
        let (_, rest) = shared.position();
        let bytes = SEGMENTS as u64 * SEGMENT_BYTES + rest;
        Ok((Self { ring, bytes, last_seq: shared.committed_seq() }, writer, keeper))
    }

    /// Copies all of it into a new archive, or as much as there is time for until `enough`.
    pub(crate) fn copy(self, dir: &Path, enough: impl Fn() -> bool) -> Result<(), Trouble> {
        let mut archiver = Archiver::open(ArchiveOptions::new(dir, self.ring)).map_err(trouble)?;
        while archiver.progress().durable_seq < self.last_seq && !enough() {
            if !archiver.turn().map_err(trouble)? {
                archiver.flush().map_err(trouble)?;
            }
        }
        Ok(())
    }
}

fn trouble(error: kairos_journal::Error) -> Trouble {
    Trouble::new("archive", error)
}

/// MiB, and the nanoseconds of either way.
fn round(ring: &Path, disk: &Path) -> Result<(f64, f64, f64), Trouble> {
    let (backlog, _writer, _keeper) = Backlog::fill(ring, disk)?;
    let start = Instant::now();
    backlog.copy(&disk.join("archive"), || false)?;
    let ours = nanos(start);

    let start = Instant::now();
    for slot in 0..SEGMENTS {
        copy(&ring.join(format!("slot-{slot:02}")), &disk.join(format!("copy-{slot}")))?;
    }
    let theirs = nanos(start);
    #[expect(clippy::cast_precision_loss, reason = "some hundred million bytes")]
    let mib = backlog.bytes as f64 / f64::from(1 << 20);
    Ok((mib, ours, theirs))
}

/// What anyone would do.
fn copy(from: &Path, to: &Path) -> Result<(), Trouble> {
    let input = format!("if={}", from.display());
    let output = format!("of={}", to.display());
    let done = Command::new("dd")
        .args([input, output, "bs=1M".into(), "oflag=dsync".into(), "status=none".into()])
        .status();
    match done {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(Trouble::new("dd", status)),
        Err(error) => Err(Trouble::new("dd", error)),
    }
}

#[expect(clippy::cast_precision_loss, reason = "a span of seconds")]
fn nanos(since: Instant) -> f64 {
    since.elapsed().as_nanos() as f64
}
