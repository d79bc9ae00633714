//! The archiver of placement `hot`: copies the ring to disk, and alone lets the engine use it again.
//!
//! It is a process of its own, so that the disk never holds up the engine. It reads every frame as a
//! verifying reader, writes it to the archive at the same offset, syncs, writes the watermark, syncs
//! again, and only then says in the ring how far it is. An archive is a journal directory like any
//! other: whoever reads journals reads it, while it grows too.
//!
//! Killed at any point, it continues from the watermark: what lies behind it is written again, because
//! a sync that failed cannot be asked twice. After a power loss the ring is gone, and the archive is
//! recovered as any journal is.

mod copy;
mod disk;
mod resume;
mod upkeep;

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::error::Error;
use crate::files::{Dir, Lock, Watermark, boot_id};
use crate::options::{Mode, Options};
use crate::recover::{Found, Recovery, recover_settled};
use crate::retain::Retention;
use crate::ring::{ArchivePage, ArchiverState, EngineSeen, RingDir};

use copy::Copying;
use disk::Disk;
pub use disk::{Probe, Step};
pub(crate) use resume::take_rest;
pub use upkeep::Kept;
use upkeep::Upkeep;

/// Where the archiver reads and writes, and how often. `new` gives the documented configuration.
#[derive(Clone, Debug)]
pub struct ArchiveOptions {
    /// The archive: the journal's directory.
    pub dir: PathBuf,
    /// The ring's directory.
    pub hot_dir: PathBuf,
    /// Milliseconds between flushes while there is something to flush. 10.
    pub flush_interval_ms: u64,
    /// Flush earlier once this many bytes wait. 1 MiB.
    pub flush_bytes: u64,
    /// How much recovery may accept after a power loss.
    pub recover: Mode,
    /// The operator accepts that events are lost.
    pub accept_loss: bool,
    /// Sealed bytes that are read again at the start, newest first. 1 GiB.
    pub verify_at_start_bytes: u64,
    /// Refuse where development warns: file systems other than ext4 and xfs.
    pub strict: bool,
    /// Level of zstd for sealed segments, in `[1, 19]`; `None` leaves them as they are. 3.
    pub compress: Option<i32>,
    /// Old runs to remove; `None` keeps everything.
    pub retention: Option<Retention>,
    /// Return once everything is on disk and no engine lives, rather than wait for the next one.
    pub until_caught_up: bool,
    /// The host's boot; `None`: ask the kernel. Tests pretend another.
    pub boot_id: Option<[u8; 16]>,
    /// Asked before each step on the disk. Tests fail or die there.
    pub probe: Probe,
}

impl ArchiveOptions {
    /// The ring in `hot_dir` into the archive in `dir`.
    #[must_use]
    pub fn new(dir: impl Into<PathBuf>, hot_dir: impl Into<PathBuf>) -> ArchiveOptions {
        ArchiveOptions {
            dir: dir.into(),
            hot_dir: hot_dir.into(),
            flush_interval_ms: 10,
            flush_bytes: 1 << 20,
            recover: Mode::TolerateTornTail,
            accept_loss: false,
            verify_at_start_bytes: 1 << 30,
            strict: false,
            compress: Some(3),
            retention: None,
            until_caught_up: false,
            boot_id: None,
            probe: Probe::default(),
        }
    }
}

/// What the archiver did so far, and where it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// What it does.
    pub state: ArchiverState,
    /// The run that is being copied, or was last.
    pub run: u64,
    /// The last event on disk.
    pub durable_seq: u64,
    /// What was compressed and removed.
    pub kept: Kept,
    /// What production would refuse.
    pub warnings: Vec<String>,
    /// The segment it is in.
    pub segment: u64,
    /// Bytes copied by this process.
    pub bytes: u64,
    /// Flushes by this process: two syncs each.
    pub flushes: u64,
    /// Nanoseconds of the last flush and of the longest.
    pub flush_ns: (u64, u64),
}

/// The archiver. [`run`] is its loop; tests turn it by hand.
#[derive(Debug)]
pub struct Archiver {
    dir: Dir,
    _lock: Option<Lock>, // none: the caller has it
    ring: RingDir,
    page: ArchivePage,
    disk: Disk,
    options: ArchiveOptions,
    boot_id: [u8; 16],
    watermark: Watermark, // as on disk
    found: Option<Found>, // what the archive ends with, while nothing is copied
    copying: Option<Copying>,
    retry_at: Option<Instant>, // the disk was full
    progress: Progress,
    upkeep: Upkeep,
    alone: Arc<Mutex<()>>, // see `Upkeep`
}

/// Copies until `stop`, and tells `report` about once a second.
///
/// # Errors
/// What the disk says, and what is wrong with ring or archive. All of it is final: nothing is tried
/// twice on the same file. Starting again verifies, and continues.
pub fn run(
    options: ArchiveOptions,
    stop: &AtomicBool,
    report: &mut dyn FnMut(&Progress),
) -> Result<(), Error> {
    let mut archiver = Archiver::open(options)?;
    let alone = Arc::clone(&archiver.alone);
    let nothing = Upkeep::new(archiver.dir.clone(), None, None, alone);
    let mut upkeep = std::mem::replace(&mut archiver.upkeep, nothing);
    let kept = Mutex::new(Kept::default());
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Acquire) {
                let worked = upkeep.step();
                kept.lock().unwrap_or_else(PoisonError::into_inner).clone_from(&upkeep.kept);
                if !worked {
                    rest(&over, Duration::from_secs(1));
                }
            }
        });
        let done = copy(&mut archiver, stop, &mut |progress| {
            let kept = kept.lock().unwrap_or_else(PoisonError::into_inner).clone();
            report(&Progress { kept, ..progress.clone() });
        });
        over.store(true, Ordering::Release);
        done
    })
}

/// Sleeps, and notices within some milliseconds that it is over.
fn rest(over: &AtomicBool, time: Duration) {
    let until = Instant::now() + time;
    while !over.load(Ordering::Acquire) && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn copy(
    archiver: &mut Archiver,
    stop: &AtomicBool,
    report: &mut dyn FnMut(&Progress),
) -> Result<(), Error> {
    let until_caught_up = archiver.options.until_caught_up;
    let mut told = None;
    loop {
        let worked = archiver.turn()?;
        if told.is_none_or(|at: Instant| at.elapsed() >= Duration::from_secs(1)) {
            told = Some(Instant::now());
            report(archiver.progress());
        }
        let is_over = until_caught_up && archiver.is_caught_up() && !archiver.ring.has_engine();
        if is_over || stop.load(Ordering::Acquire) {
            archiver.flush()?;
            report(archiver.progress());
            return Ok(());
        }
        if !worked {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

impl Archiver {
    /// Takes archive and ring, verifies what it finds, and says that it is there.
    ///
    /// # Errors
    /// [`Error`]; the ring then says why.
    pub fn open(options: ArchiveOptions) -> Result<Archiver, Error> {
        let dir = Dir::new(&options.dir);
        dir.check_ours()?;
        dir.make()?;
        let wants = Options { strict: options.strict, ..Options::default() };
        let warnings = crate::open::judge_file_system(&dir, &wants)?;
        let lock = Lock::take(&dir)?;
        let mut archiver = Archiver::on(dir, Some(lock), options)?;
        archiver.progress.warnings = warnings;
        Ok(archiver)
    }

    fn on(dir: Dir, lock: Option<Lock>, options: ArchiveOptions) -> Result<Archiver, Error> {
        let ring = RingDir::new(&options.hot_dir);
        ring.make()?;
        let page = ArchivePage::own(&ring)?;
        let boot_id = match options.boot_id {
            Some(id) => id,
            None => boot_id()?,
        };
        let alone = Arc::new(Mutex::new(()));
        let (compress, retention) = (options.compress, options.retention.clone());
        let upkeep = Upkeep::new(dir.clone(), compress, retention, Arc::clone(&alone));
        let mut archiver = Archiver {
            disk: Disk::new(options.probe.clone()),
            dir,
            _lock: lock,
            ring,
            page,
            options,
            boot_id,
            watermark: Watermark::default(),
            found: None,
            copying: None,
            retry_at: None,
            progress: Progress::default(),
            upkeep,
            alone,
        };
        archiver.resume().map_err(|bad| archiver.failed(bad))?;
        Ok(archiver)
    }

    /// Does what is due. `false`: nothing; sleep for about a millisecond.
    ///
    /// # Errors
    /// As [`run`]; do not turn it again. A full disk is none: it is tried again each second.
    pub fn turn(&mut self) -> Result<bool, Error> {
        self.page.beat();
        if self.retry_at.is_some_and(|at| Instant::now() < at) {
            return Ok(false);
        }
        let worked = self.work().or_else(|bad| self.accept_lost_slot(bad).map(|()| true));
        match worked {
            Ok(worked) => {
                if self.retry_at.take().is_some() {
                    let copying = self.copying.is_some();
                    self.say(if copying { ArchiverState::Copying } else { ArchiverState::Ready });
                }
                Ok(worked)
            }
            Err(bad) if disk::may_try_again(&bad) => {
                self.retry_at = Some(Instant::now() + Duration::from_secs(1));
                self.say(ArchiverState::Full(bad.to_string()));
                Ok(false)
            }
            Err(bad) => Err(self.failed(bad)),
        }
    }

    /// What it did so far.
    #[must_use]
    pub fn progress(&self) -> &Progress {
        &self.progress
    }

    /// Whether every run that it knows of is sealed on disk.
    #[must_use]
    pub fn is_caught_up(&self) -> bool {
        self.copying.is_none() && self.progress.state == ArchiverState::Ready
    }

    /// Does one thing that can wait: compresses a segment, or removes old runs. [`run`] does it on a
    /// thread of its own. `false`: nothing is due, or it went wrong; [`Progress::kept`] says.
    pub fn upkeep(&mut self) -> bool {
        let worked = self.upkeep.step();
        self.progress.kept.clone_from(&self.upkeep.kept);
        worked
    }

    /// Brings what has been committed to disk now, whatever the interval says.
    ///
    /// # Errors
    /// As [`Self::turn`].
    pub fn flush(&mut self) -> Result<(), Error> {
        let flushed = self.flush_copying(true);
        flushed.map(drop).map_err(|bad| self.failed(bad))
    }

    fn work(&mut self) -> Result<bool, Error> {
        if self.copying.is_none() && !self.attach()? {
            return Ok(false);
        }
        self.copy_step()
    }

    fn say(&mut self, state: ArchiverState) {
        self.page.say(&state);
        self.progress.state = state;
    }

    fn failed(&mut self, bad: Error) -> Error {
        self.say(ArchiverState::Failed(bad.to_string()));
        bad
    }

    fn how(&self) -> Recovery {
        Recovery {
            mode: self.options.recover,
            accept_loss: self.options.accept_loss,
            verify_bytes: self.options.verify_at_start_bytes,
            boot_id: Some(self.boot_id),
        }
    }

    /// Seals what is open, and says that the next run may begin. What was sealed before was read at the
    /// start, or written by us.
    fn settle(&mut self) -> Result<(), Error> {
        let how = Recovery { verify_bytes: 0, ..self.how() };
        let alone = Arc::clone(&self.alone);
        let _alone = alone.lock().unwrap_or_else(PoisonError::into_inner);
        let found = recover_settled(&self.dir, &how)?;
        self.rest_on(found);
        Ok(())
    }

    fn rest_on(&mut self, found: Found) {
        self.copying = None;
        self.page.set_archived(found.last_run);
        self.progress.run = found.last_run;
        self.progress.durable_seq = found.last_seq;
        self.found = Some(found);
        self.say(ArchiverState::Ready);
    }

    /// Begins with the run in the ring, if it is newer than what the archive has.
    fn attach(&mut self) -> Result<bool, Error> {
        let Some(engine) = EngineSeen::open(&self.ring) else { return Ok(false) };
        let Some(session) = engine.session().filter(|it| it.boot_id == self.boot_id) else {
            return Ok(false);
        };
        let Some(found) = self.found.as_ref().filter(|it| it.last_run < session.run) else {
            return Ok(false);
        };
        if found.uuid.is_some_and(|uuid| uuid != session.uuid) {
            return Err(resume::foreign_ring(&self.ring, &session));
        }
        let before = (found.last_segment, found.last_seq, found.last_crc);
        self.begin(engine, session, before)?;
        Ok(true)
    }
}
