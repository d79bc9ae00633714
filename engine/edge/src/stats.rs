//! The stats page: what a running engine tells, and what a dead one told last.
//!
//! One file in the run directory, mapped by the engine for writing and by anyone else for reading.
//! It is filled beside its place and renamed into it, so a reader finds a whole page or none, and
//! it is never truncated, so a mapped page stays readable after the engine is gone. The engine
//! holds a lock on the file while it lives: whether it lives is asked of the lock, never of a pid.
//!
//! # Memory ordering
//! Every word is an atomic of its own and has one writing thread. Words are stored `Relaxed`: no
//! word is ever half written, but a view may mix words of two stores, which a counter can bear.
//! Names, counts of blocks and everything else that is not a counter are written before the file
//! gets its name and never change. A writer pays for a store of each word and nothing else.
//!
//! # Limits
//! At most [`SEATS_MAX`] seats and [`VENUES_MAX`] connections to venues have a block. No command ring.

#![expect(
    unsafe_code,
    reason = "a mapped page of atomics cannot be had without; see SAFETY at each place"
)]

use std::fs::{File, OpenOptions, TryLockError};
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering, fence};

use memmap2::{Mmap, MmapMut};

/// First word of every stats page: `KAIROSST` in little-endian order.
pub const MAGIC: u64 = u64::from_le_bytes(*b"KAIROSST");
/// Version of the layout. A reader reads its own version only.
pub const VERSION: u64 = 3;
/// Name of the page in the run directory.
pub const FILE_NAME: &str = "stats";
/// Most seats with a block: 16 feeds and the four others, rounded up.
pub const SEATS_MAX: usize = 32;
/// Most connections to venues with a block.
pub const VENUES_MAX: usize = 64;
/// Bytes of a name; longer ones are cut.
const NAME_BYTES: usize = 64;

type Name = [AtomicU64; NAME_BYTES / 8];

macro_rules! views {
    ($($(#[$doc:meta])* $view:ident in $block:ident { $($(#[$fdoc:meta])* $field:ident,)* })*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct $view {
            $($(#[$fdoc])* pub $field: u64,)*
        }

        // Two cache lines, so that no two writers share a pair of prefetched lines.
        #[repr(C, align(128))]
        struct $block {
            $($field: AtomicU64,)*
            name: Name,
        }

        impl $block {
            fn store(&self, view: &$view) {
                $(self.$field.store(view.$field, Ordering::Relaxed);)*
            }
            fn load(&self) -> $view {
                $view { $($field: self.$field.load(Ordering::Relaxed),)* }
            }
        }
    )*};
}

views! {
    /// What a seat tells. Stamps and ticks are those of the time stamp counter.
    SeatView in SeatBlock {
        /// The CPU that it is pinned to.
        cpu,
        /// The kernel's number of its thread.
        thread,
        /// Turns of its loop: stands still when the seat hangs.
        heartbeat,
        /// When it last turned.
        last_at,
        /// Events or decisions that it took.
        events,
        /// Turns that took longer than the bound of a stall.
        stalls,
        /// Longest turn.
        turn_max_ticks,
    }
    /// What one connection to a venue tells; a venue may have several.
    VenueView in VenueBlock {
        /// Frames read.
        frames,
        /// Bytes read.
        bytes,
        /// Events published.
        events,
        /// Frames that could not be understood.
        malformed,
        /// Gaps in its books.
        gaps,
        /// Books rebuilt.
        resyncs,
        /// Events dropped because IN was full.
        dropped,
        /// When the last message came, in nanoseconds since the Unix epoch.
        last_message_at,
        /// 1 while the link is up.
        connected,
        /// Connections made after the first.
        reconnects,
        /// Time from the kernel's stamp of the last bytes until they were read, in nanoseconds; 0
        /// where the kernel gives none.
        kernel_ns,
    }
    /// What the engine as a whole tells.
    EngineView in EngineBlock {
        /// When this page was last written, in nanoseconds since the Unix epoch.
        updated_at,
        /// Inputs.
        events,
        /// Decisions of risk.
        decisions,
        /// Orders approved.
        orders,
        /// Fills.
        fills,
        /// Orders denied.
        denied,
        /// State of risk by its number.
        risk_state,
        /// Orders open now.
        open_orders,
    }
    /// What the journal tells.
    JournalView in JournalBlock {
        /// The run.
        run,
        /// Last sequence number in the mapped file.
        committed,
        /// Last sequence number on disk.
        durable,
        /// Segments ready for use.
        prepared,
        /// Segments filled.
        rolls,
        /// Frames that found no segment ready.
        not_ready,
        /// Flushes to disk.
        flushes,
        /// 1 after an error that ends the journal.
        failed,
        /// Age of the oldest frame that is not on disk, in nanoseconds.
        durable_lag_ns,
        /// Nanoseconds since the archiver last said that it lives; 0 where there is none.
        archiver_silent_ns,
        /// Last sequence number of the sealed segments on disk.
        archived,
        /// Slots of the ring in memory; 0 with placement `direct`.
        ring_slots,
        /// Slots of it that are full and wait for the archiver.
        ring_waiting,
        /// What the archiver does: 0 there is none, 1 it does not run, 2 it starts, 3 nothing is there to
        /// be copied, 4 it copies, 5 it waits for room on the disk, 6 it has failed.
        archiver_state,
        /// Times that a policy for frames that are not on disk became active.
        policy_activations,
        /// The last flush in nanoseconds; 0 where the archiver flushes.
        flush_ns,
        /// The longest flush in nanoseconds; 0 where the archiver flushes.
        flush_max_ns,
    }
}

#[repr(C, align(128))]
struct Page {
    magic: AtomicU64,
    version: AtomicU64,
    size: AtomicU64,
    pid: AtomicU64,
    started_at: AtomicU64,
    tsc_hz: AtomicU64,
    seats_count: AtomicU64,
    venues_count: AtomicU64,
    engine: EngineBlock,
    journal: JournalBlock,
    seats: [SeatBlock; SEATS_MAX],
    venues: [VenueBlock; VENUES_MAX],
}

const SIZE: usize = size_of::<Page>();
// Only whole words: any bytes of a file are a valid page.
const _: () = assert!(size_of::<SeatBlock>() == 128 && align_of::<Page>() <= 4096);

/// Why there is no stats page.
#[derive(Debug, thiserror::Error)]
pub enum StatsError {
    /// The operating system refused.
    #[error("{}: {what}: {error}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What was tried.
        what: &'static str,
        /// What it said.
        error: std::io::Error,
    },
    /// A living engine has the page.
    #[error("{}: owned by a running engine; give this one another engine.name", path.display())]
    Owned {
        /// The page.
        path: PathBuf,
    },
    /// The file is no page of this version.
    #[error("{}: {field} is {found}; must be {wanted}", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
        /// What differs.
        field: &'static str,
        /// What stands there.
        found: u64,
        /// What should.
        wanted: u64,
    },
    /// More blocks than the page has.
    #[error("stats page: {found} {what}; there is room for {most}")]
    TooMany {
        /// Seats or venues.
        what: &'static str,
        /// How many were wanted.
        found: usize,
        /// How many there may be.
        most: usize,
    },
}

/// The run directories in which the stats page of an engine may be, the usual one first:
/// `/run/kairos/<name>`, then under `$XDG_RUNTIME_DIR`, then under the directory for temporary files.
#[must_use]
pub fn run_dirs(name: &str) -> Vec<PathBuf> {
    let user = std::env::var_os("XDG_RUNTIME_DIR").filter(|it| !it.is_empty());
    [Some(PathBuf::from("/run")), user.map(PathBuf::from), Some(std::env::temp_dir())]
        .into_iter()
        .flatten()
        .map(|base| base.join("kairos").join(name))
        .collect()
}

/// Makes the run directory: the configured one, else the first of [`run_dirs`] that can be made.
///
/// # Errors
/// [`StatsError::Io`] of the last directory that was tried.
pub fn make_run_dir(name: &str, configured: Option<&Path>) -> Result<PathBuf, StatsError> {
    let candidates = configured.map_or_else(|| run_dirs(name), |dir| vec![dir.to_owned()]);
    let mut refused = None;
    for dir in candidates {
        let made = std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o750)
            .create(&dir)
            .and_then(|()| probe(&dir));
        match made {
            Ok(()) => return Ok(dir),
            Err(error) => refused = Some(io(&dir, "cannot be made or written")(error)),
        }
    }
    Err(refused.unwrap_or_else(|| {
        let none = std::io::Error::from(std::io::ErrorKind::NotFound);
        io(Path::new(name), "no run directory")(none)
    }))
}

/// Whether files can be made in a directory that may have been there before.
fn probe(dir: &Path) -> std::io::Result<()> {
    let path = dir.join(format!(".probe-{}", std::process::id()));
    File::create(&path)?;
    std::fs::remove_file(&path)
}

/// The run directory in which an engine of this name left its page, alive or dead.
#[must_use]
pub fn find_run_dir(name: &str, configured: Option<&Path>) -> Option<PathBuf> {
    let candidates = configured.map_or_else(|| run_dirs(name), |dir| vec![dir.to_owned()]);
    candidates.into_iter().find(|dir| dir.join(FILE_NAME).is_file())
}

fn io(path: &Path, what: &'static str) -> impl FnOnce(std::io::Error) -> StatsError {
    let path = path.to_owned();
    move |error| StatsError::Io { path, what, error }
}

/// What a page says of its engine and what never changes while it lives.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// `engine.name`; at most 64 bytes.
    pub engine: String,
    /// When it started, in nanoseconds since the Unix epoch.
    pub started_at: u64,
    /// Ticks of the time stamp counter per second.
    pub tsc_hz: u64,
    /// Names of the seats; at most 64 bytes each.
    pub seats: Vec<String>,
    /// Names of the venues' connections; at most 64 bytes each. A venue with one connection gives it
    /// its name, the others are `<venue>.<n>`.
    pub venues: Vec<String>,
}

/// The mapping with the lock that says that the engine lives.
#[derive(Debug)]
struct Owned {
    map: MmapMut,
    // Held until the last handle is gone: the lock on the open file is the sign of life.
    _file: File,
}

impl Owned {
    fn page(&self) -> &Page {
        // SAFETY: the mapping has at least SIZE bytes (the file was made with exactly that many and
        // is never truncated) and begins at a memory page, which satisfies the alignment asserted
        // above. `Page` consists of `AtomicU64` and padding only, so any bytes are valid, and all
        // accesses, here and in other processes, are atomic. The reference lives no longer than
        // the mapping that `self` owns.
        unsafe { &*self.map.as_ptr().cast::<Page>() }
    }
}

/// The engine's own page. Give each seat and venue its handle; a handle is for one thread.
#[derive(Debug)]
pub struct StatsWriter {
    owned: Arc<Owned>,
    path: PathBuf,
}

/// Writes the block of one seat.
#[derive(Debug)]
pub struct SeatStats {
    owned: Arc<Owned>,
    place: usize,
}

/// Writes the block of one venue.
#[derive(Debug)]
pub struct VenueStats {
    owned: Arc<Owned>,
    place: usize,
}

impl StatsWriter {
    /// Makes the page in a run directory, in place of the page of a dead engine.
    ///
    /// # Errors
    /// [`StatsError::Owned`] where a living engine has the directory; [`StatsError::TooMany`];
    /// [`StatsError::Io`].
    pub fn create(dir: &Path, facts: &Facts) -> Result<Self, StatsError> {
        for (what, found, most) in
            [("seats", facts.seats.len(), SEATS_MAX), ("venues", facts.venues.len(), VENUES_MAX)]
        {
            if found > most {
                return Err(StatsError::TooMany { what, found, most });
            }
        }
        let path = dir.join(FILE_NAME);
        if is_locked(&path)? {
            return Err(StatsError::Owned { path });
        }
        let beside = dir.join(format!("{FILE_NAME}.{}", std::process::id()));
        let owned = Self::map(&beside)?;
        fill(owned.page(), facts);
        std::fs::rename(&beside, &path).map_err(io(&path, "cannot be put in place"))?;
        Ok(Self { owned: Arc::new(owned), path })
    }

    fn map(path: &Path) -> Result<Owned, StatsError> {
        // Left behind by a process of the same number that died before the rename.
        let _ = std::fs::remove_file(path);
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(0o640)
            .open(path)
            .map_err(io(path, "cannot be made"))?;
        // Written, not only sized: a store into a hole of a full file system would be a SIGBUS.
        file.write_all(&vec![0_u8; SIZE]).map_err(io(path, "cannot be written"))?;
        file.try_lock().map_err(|error| {
            let error = match error {
                TryLockError::Error(error) => error,
                TryLockError::WouldBlock => std::io::ErrorKind::WouldBlock.into(),
            };
            io(path, "cannot be locked")(error)
        })?;
        // SAFETY: the file is new, of this process alone until the rename, and after it every other
        // process maps it read-only; nobody truncates it. Memory behind the mapping is accessed
        // through atomics only.
        let map = unsafe { MmapMut::map_mut(&file) }.map_err(io(path, "cannot be mapped"))?;
        Ok(Owned { map, _file: file })
    }

    /// The page's file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The handle of a seat, by its place in [`Facts::seats`]; `None` beyond them.
    #[must_use]
    pub fn seat(&self, place: usize) -> Option<SeatStats> {
        let owned = Arc::clone(&self.owned);
        let count = load(&owned.page().seats_count);
        (place < count).then_some(SeatStats { owned, place })
    }

    /// The handle of a venue, by its place in [`Facts::venues`]; `None` beyond them.
    #[must_use]
    pub fn venue(&self, place: usize) -> Option<VenueStats> {
        let owned = Arc::clone(&self.owned);
        let count = load(&owned.page().venues_count);
        (place < count).then_some(VenueStats { owned, place })
    }

    /// Writes what the engine as a whole tells. For one thread.
    pub fn store_engine(&self, view: &EngineView) {
        self.owned.page().engine.store(view);
    }

    /// Writes what the journal tells. For one thread.
    pub fn store_journal(&self, view: &JournalView) {
        self.owned.page().journal.store(view);
    }
}

impl SeatStats {
    /// Writes what the seat tells: seven stores, no call, no allocation.
    #[inline]
    pub fn store(&self, view: &SeatView) {
        if let Some(block) = self.owned.page().seats.get(self.place) {
            block.store(view);
        }
    }
}

impl VenueStats {
    /// Writes what the venue tells: eleven stores, no call, no allocation.
    #[inline]
    pub fn store(&self, view: &VenueView) {
        if let Some(block) = self.owned.page().venues.get(self.place) {
            block.store(view);
        }
    }
}

fn fill(page: &Page, facts: &Facts) {
    let put = |word: &AtomicU64, value: u64| word.store(value, Ordering::Relaxed);
    let count = |len: usize| u64::try_from(len).unwrap_or(u64::MAX);
    put(&page.version, VERSION);
    put(&page.size, count(SIZE));
    put(&page.pid, u64::from(std::process::id()));
    put(&page.started_at, facts.started_at);
    put(&page.tsc_hz, facts.tsc_hz);
    put(&page.seats_count, count(facts.seats.len()));
    put(&page.venues_count, count(facts.venues.len()));
    write_name(&page.engine.name, &facts.engine);
    for (block, name) in page.seats.iter().zip(&facts.seats) {
        write_name(&block.name, name);
    }
    for (block, name) in page.venues.iter().zip(&facts.venues) {
        write_name(&block.name, name);
    }
    page.magic.store(MAGIC, Ordering::Release);
}

fn write_name(words: &Name, name: &str) {
    let mut bytes = [0_u8; NAME_BYTES];
    let len = name.len().min(NAME_BYTES);
    bytes[..len].copy_from_slice(&name.as_bytes()[..len]);
    let (chunks, _) = bytes.as_chunks::<8>();
    for (word, chunk) in words.iter().zip(chunks) {
        word.store(u64::from_le_bytes(*chunk), Ordering::Relaxed);
    }
}

fn read_name(words: &Name) -> String {
    let bytes: Vec<u8> = words
        .iter()
        .flat_map(|word| word.load(Ordering::Relaxed).to_le_bytes())
        .take_while(|&byte| byte != 0)
        .collect();
    String::from_utf8_lossy(&bytes).into_owned()
}

fn load(word: &AtomicU64) -> usize {
    usize::try_from(word.load(Ordering::Relaxed)).unwrap_or(usize::MAX)
}

/// Whether somebody holds the lock of a page; `false` where there is none.
fn is_locked(path: &Path) -> Result<bool, StatsError> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(io(path, "cannot be opened")(error)),
    };
    lock_is_held(&file).map_err(io(path, "cannot be asked for its lock"))
}

fn lock_is_held(file: &File) -> std::io::Result<bool> {
    match file.try_lock_shared() {
        Ok(()) => file.unlock().map(|()| false),
        Err(TryLockError::WouldBlock) => Ok(true),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// A page, read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stats {
    /// What never changes.
    pub facts: Facts,
    /// The engine's process.
    pub pid: u64,
    /// Whether the engine lives.
    pub alive: bool,
    /// Time since the page was last written, in nanoseconds; since the start where it never was.
    pub age_ns: u64,
    /// The engine as a whole.
    pub engine: EngineView,
    /// The journal.
    pub journal: JournalView,
    /// The seats, as in [`Facts::seats`].
    pub seats: Vec<SeatView>,
    /// The venues, as in [`Facts::venues`].
    pub venues: Vec<VenueView>,
}

/// Reads the page of an engine, whether it lives or not.
#[derive(Debug)]
pub struct StatsReader {
    map: Mmap,
    file: File,
    path: PathBuf,
}

impl StatsReader {
    /// Maps the page of a run directory.
    ///
    /// # Errors
    /// [`StatsError::Io`] where there is none; [`StatsError::Foreign`] where the file is no page or
    /// one of another version.
    pub fn open(dir: &Path) -> Result<Self, StatsError> {
        let path = dir.join(FILE_NAME);
        let file = File::open(&path).map_err(io(&path, "cannot be opened"))?;
        let metadata = file.metadata().map_err(io(&path, "cannot be asked for its size"))?;
        let foreign =
            |field, found, wanted| StatsError::Foreign { path: path.clone(), field, found, wanted };
        let wanted = u64::try_from(SIZE).unwrap_or(u64::MAX);
        // Before the size, which another version may have changed.
        if metadata.len() < 16 {
            return Err(foreign("size", metadata.len(), wanted));
        }
        // SAFETY: read-only, of a file that its engine never truncates, and read through relaxed
        // atomic loads only, which concurrent stores of the engine cannot tear.
        let map = unsafe { Mmap::map(&file) }.map_err(io(&path, "cannot be mapped"))?;
        let word = |place: usize| {
            let bytes = map.get(place * 8..).and_then(|rest| rest.first_chunk::<8>());
            bytes.map_or(0, |bytes| u64::from_le_bytes(*bytes))
        };
        for (field, found, wanted) in [
            ("magic", word(0), MAGIC),
            ("layout version", word(1), VERSION),
            ("size", metadata.len(), wanted),
            ("size", word(2), wanted),
        ] {
            if found != wanted {
                return Err(foreign(field, found, wanted));
            }
        }
        Ok(Self { map, file, path })
    }

    fn page(&self) -> &Page {
        // SAFETY: `open` has checked that the mapping has SIZE bytes; it begins at a memory page,
        // which satisfies the alignment of `Page`; any bytes are a valid `Page`; accesses are
        // relaxed 8-byte loads, which read-only memory allows. The reference lives no longer than
        // the mapping that `self` owns.
        unsafe { &*self.map.as_ptr().cast::<Page>() }
    }

    /// The page's file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads the page. `now` is the time in nanoseconds since the Unix epoch.
    #[must_use]
    pub fn read(&self, now: u64) -> Stats {
        let page = self.page();
        fence(Ordering::Acquire);
        // The counts were checked by nobody: take what is there.
        let seats = page.seats.iter().take(load(&page.seats_count));
        let venues = page.venues.iter().take(load(&page.venues_count));
        let engine = page.engine.load();
        let started_at = page.started_at.load(Ordering::Relaxed);
        Stats {
            facts: Facts {
                engine: read_name(&page.engine.name),
                started_at,
                tsc_hz: page.tsc_hz.load(Ordering::Relaxed),
                seats: seats.clone().map(|block| read_name(&block.name)).collect(),
                venues: venues.clone().map(|block| read_name(&block.name)).collect(),
            },
            pid: page.pid.load(Ordering::Relaxed),
            // An error of the lock says nothing: a page that can be read is shown as of the dead.
            alive: lock_is_held(&self.file).unwrap_or(false),
            age_ns: now.saturating_sub(engine.updated_at.max(started_at)),
            engine,
            journal: page.journal.load(),
            seats: seats.map(SeatBlock::load).collect(),
            venues: venues.map(VenueBlock::load).collect(),
        }
    }
}

#[cfg(test)]
mod tests;
