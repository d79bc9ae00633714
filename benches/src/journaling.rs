//! A journal of its own for a bench, with its keeper on a thread, as the engine has it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use kairos_engine::clock::Clock;
use kairos_engine::pin;
use kairos_journal::archive::{self, ArchiveOptions};
use kairos_journal::{HotOptions, Keeper, Options, Placement, RunFacts, Shared, Turn, Writer};
use tempfile::TempDir;

use crate::Trouble;

/// How often the keeper is turned, as in the engine.
const KEEPER_EVERY: Duration = Duration::from_millis(1);
/// Longest wait for segments, or for a flush.
const PATIENCE: Duration = Duration::from_secs(30);

/// Where a journal lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// In memory.
    Tmpfs,
    /// On a disk.
    Disk,
}

impl Place {
    /// A directory there that vanishes with the value.
    pub(crate) fn directory(self) -> Result<TempDir, Trouble> {
        let parent = match self {
            Self::Tmpfs => PathBuf::from("/dev/shm"),
            Self::Disk => disk(),
        };
        TempDir::with_prefix_in("kairos-bench-", &parent)
            .map_err(|error| Trouble::new(&parent.display().to_string(), error))
    }
}

/// The build's own directory: it is on the disk on which the sources are.
fn disk() -> PathBuf {
    let program = std::env::current_exe().unwrap_or_default();
    program.parent().map_or_else(|| PathBuf::from("."), Path::to_path_buf)
}

/// A journal whose writer is elsewhere.
pub(crate) struct Keeping {
    stop: Arc<AtomicBool>,
    keeper: JoinHandle<Keeper>,
    shared: Arc<Shared>,
}

/// An archiver for a ring, on a thread of its own.
pub(crate) struct Archiving {
    /// The journal's directory.
    pub(crate) dir: PathBuf,
    ring: PathBuf,
    stop: Arc<AtomicBool>,
    archiver: JoinHandle<Result<(), kairos_journal::Error>>,
}

/// Starts an archiver that runs on `cpu`.
pub(crate) fn archive(dir: &Path, ring: &Path, cpu: u16) -> Result<Archiving, Trouble> {
    let (dir, ring) = (dir.join("archive"), ring.join("ring"));
    let options = ArchiveOptions::new(&dir, &ring);
    let stop = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&stop);
    let work = move || {
        let _pinned = pin::confine_current(&[cpu]); // as the keeper
        archive::run(options, &seen, &mut |_| {})
    };
    let archiver = thread::Builder::new().name("archiver".into()).spawn(work);
    let archiver = archiver.map_err(|error| Trouble::new("thread of the archiver", error))?;
    Ok(Archiving { dir, ring, stop, archiver })
}

impl Archiving {
    /// The same journal, in the ring.
    pub(crate) fn options(&self, options: &Options) -> Options {
        let placement = Placement::Hot(HotOptions { segments: 4, ..HotOptions::new(&self.ring) });
        Options { placement, ..options.clone() }
    }

    /// Ends it, once the run has ended.
    pub(crate) fn finish(self) -> Result<(), Trouble> {
        self.stop.store(true, Ordering::Release);
        let ended = self.archiver.join().map_err(|_| Trouble("the archiver panicked".into()))?;
        ended.map_err(|error| Trouble::new("archiver", error))
    }
}

/// Starts a journal in `dir`. The keeper runs on `cpu`.
pub(crate) fn start(
    dir: &Path,
    options: &Options,
    clock: &Clock,
    cpu: u16,
) -> Result<(Writer, Keeping), Trouble> {
    let stamp = clock.stamp();
    let facts = RunFacts {
        tsc_hz: clock.ticks_per_second(),
        tsc: stamp.0,
        wall_ns: clock.wall(stamp).0,
        ..RunFacts::default()
    };
    let (writer, keeper, _) = kairos_journal::create(dir, options, facts)
        .map_err(|error| Trouble::new("journal", error))?;
    let (stop, shared) = (Arc::new(AtomicBool::new(false)), writer.shared());
    let seen = Arc::clone(&stop);
    let turns = move || turn(keeper, cpu, &seen);
    let keeper = thread::Builder::new().name("keeper".into()).spawn(turns);
    let keeper = keeper.map_err(|error| Trouble::new("thread of the keeper", error))?;
    Ok((writer, Keeping { stop, keeper, shared }))
}

fn turn(mut keeper: Keeper, cpu: u16, stop: &AtomicBool) -> Keeper {
    // Where it cannot be pinned it wanders, as it may.
    let _pinned = pin::confine_current(&[cpu]);
    while !stop.load(Ordering::Acquire) {
        if keeper.turn() != Turn::Worked {
            thread::sleep(KEEPER_EVERY);
        }
    }
    keeper
}

impl Keeping {
    /// Waits until `segments` stand ready.
    pub(crate) fn wait_until_prepared(&self, segments: u64) -> Result<(), Trouble> {
        let start = Instant::now();
        while self.shared.prepared() < segments {
            if self.shared.has_failed() || start.elapsed() > PATIENCE {
                return Err(Trouble::new("journal", format!("{:?}", self.shared.status())));
            }
            thread::sleep(KEEPER_EVERY);
        }
        Ok(())
    }

    /// Ends the keeper. With a writer that has ended its run the journal is sealed.
    pub(crate) fn finish(self, writer: Option<Writer>, clock: &Clock) -> Result<(), Trouble> {
        if let Some(writer) = writer {
            let ended = writer.end_run(clock.stamp().0, &[]);
            ended.map_err(|(_, error)| Trouble::new("end of the journal", error))?;
        }
        self.stop.store(true, Ordering::Release);
        let keeper = self.keeper.join().map_err(|_| Trouble("the keeper panicked".into()))?;
        keeper.finish().map_err(|error| Trouble::new("journal", error))
    }
}
