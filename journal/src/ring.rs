//! The ring of memory segments of placement `hot`, and what its two sides tell each other.
//!
//! The ring lies in one directory of a memory file system: `slot-NN`, each as long as a segment and
//! mapped once; `engine.ctl`, written by the engine alone; `archive.ctl`, written by the archiver
//! alone; and one lock for each, held while its owner lives. Both pages hold whole words that are
//! stored atomically, so whoever is killed leaves them readable.
//!
//! A slot goes round like this ([`Reuse`]): the engine takes it away (0), zeroes it, writes a new
//! header and offers it under its segment's number; the archiver copies what is committed there; once
//! the whole segment is on disk it raises `released` to that number, and then the slot may be taken
//! away again. Nobody but the archiver reads slots, so nobody reads one that is being taken away.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};

use memmap2::{MmapOptions, MmapRaw};

use crate::error::Error;
use crate::files::{DIR_MODE, FILE_MODE, Lock, is_locked};

/// Most slots that a ring has.
pub(crate) const SLOTS_MAX: usize = 64;
const PAGE_BYTES: usize = 4096;
const ENGINE_MAGIC: u64 = u64::from_le_bytes(*b"kairosE\n");
const ARCHIVE_MAGIC: u64 = u64::from_le_bytes(*b"kairosA\n");
const VERSION: u64 = 1;
/// Longest text of a failure, in words.
const TEXT_WORDS: usize = 64;

/// One word of a control page, or of a model of one.
pub(crate) trait Word {
    /// Sees everything that was stored before the value was.
    fn get(&self) -> u64;
    /// Shows everything that was stored before.
    fn set(&self, value: u64);
}

impl Word for AtomicU64 {
    fn get(&self) -> u64 {
        self.load(Acquire)
    }
    fn set(&self, value: u64) {
        self.store(value, Release);
    }
}

/// How slots go round. Segment numbers begin at 1; 0 stands for none.
pub(crate) struct Reuse<'a, W> {
    /// By slot: the segment that is offered there. Stored by the engine.
    pub(crate) slots: &'a [W],
    /// Every segment up to this one is on disk, sealed. Stored by the archiver.
    pub(crate) released: &'a W,
}

impl<W: Word> Reuse<'_, W> {
    /// By the engine: takes away a slot that nobody needs, if there is one.
    pub(crate) fn take(&self) -> Option<usize> {
        let released = self.released.get();
        let free = self.slots.iter().position(|it| it.get() <= released)?;
        self.slots.get(free)?.set(0);
        Some(free)
    }

    /// By the engine: the slot holds an empty segment of this number now.
    pub(crate) fn offer(&self, slot: usize, segment: u64) {
        if let Some(word) = self.slots.get(slot) {
            word.set(segment);
        }
    }

    /// By the archiver: where the segment is.
    pub(crate) fn find(&self, segment: u64) -> Option<usize> {
        self.slots.iter().position(|it| it.get() == segment)
    }

    /// By the archiver: the segment is on disk as a whole, and every earlier one.
    pub(crate) fn release(&self, segment: u64) {
        self.released.set(segment);
    }
}

/// Being changed, or nothing is in the ring.
const SESSION_NONE: u64 = 0;
/// The engine that holds the lock writes it.
const SESSION_WRITTEN: u64 = 1;
/// Its engine is dead; the one that holds the lock waits for the archiver to take it.
const SESSION_LEFT: u64 = 2;

/// What the engine says.
#[derive(Debug)]
#[repr(C)]
struct EngineWords {
    magic: AtomicU64,
    version: AtomicU64,
    state: AtomicU64, // a `SESSION_…`
    uuid: [AtomicU64; 2],
    boot_id: [AtomicU64; 2],
    run: AtomicU64,
    first_segment: AtomicU64,
    slot_count: AtomicU64, // in [4, 64]
    segment_bytes: AtomicU64,
    slots: [AtomicU64; SLOTS_MAX],
}

/// What the archiver says.
#[derive(Debug)]
#[repr(C)]
struct ArchiveWords {
    magic: AtomicU64,
    version: AtomicU64,
    state: AtomicU64,
    beat_ns: AtomicU64,      // raw monotonic clock
    archived_run: AtomicU64, // runs up to this one are sealed on disk
    session_run: AtomicU64,  // the run that is being copied: of the words below
    released: AtomicU64,
    durable_seq: AtomicU64,
    text_len: AtomicU64,
    text: [AtomicU64; TEXT_WORDS],
}
const _: () =
    assert!(size_of::<EngineWords>() <= PAGE_BYTES && size_of::<ArchiveWords>() <= PAGE_BYTES);

/// Any words are a valid page: what is implausible is refused when it is read.
trait Words {}
impl Words for EngineWords {}
impl Words for ArchiveWords {}

/// A control page, mapped.
#[derive(Debug)]
struct Mapped<T> {
    map: MmapRaw,
    words: std::marker::PhantomData<T>,
}

impl<T: Words> Mapped<T> {
    /// By its one writer.
    fn create(path: &Path) -> Result<Mapped<T>, Error> {
        let mut options = OpenOptions::new();
        let options = options.read(true).write(true).create(true).truncate(false).mode(FILE_MODE);
        let file = options.open(path).map_err(Error::io("open", path))?;
        file.set_len(PAGE_BYTES as u64).map_err(Error::io("extend", path))?;
        let map = MmapOptions::new().len(PAGE_BYTES).map_raw(&file);
        Ok(Mapped { map: map.map_err(Error::io("map", path))?, words: std::marker::PhantomData })
    }

    /// By a reader; `None` until there is a whole page.
    fn open(path: &Path) -> Option<Mapped<T>> {
        let file = File::open(path).ok()?;
        (file.metadata().ok()?.len() >= PAGE_BYTES as u64).then_some(())?;
        let map = MmapOptions::new().len(PAGE_BYTES).map_raw_read_only(&file).ok()?;
        Some(Mapped { map, words: std::marker::PhantomData })
    }

    fn words(&self) -> &T {
        // SAFETY: the mapping is a page long, page-aligned and lives as long as `self`; `T` is made of
        // atomic words (`Words`), for which any bytes are valid, and fits. A reader only loads, which
        // is a plain instruction and fine on read-only memory.
        unsafe { &*self.map.as_ptr().cast::<T>() }
    }
}

/// A run in the ring, as its engine wrote it down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Session {
    pub(crate) uuid: [u8; 16],
    pub(crate) boot_id: [u8; 16],
    pub(crate) run: u64,
    pub(crate) first_segment: u64,
    pub(crate) slot_count: usize,
    pub(crate) segment_bytes: u64,
}

/// What the archiver does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ArchiverState {
    /// Nobody holds its lock.
    #[default]
    Absent,
    /// It is looking at what it finds.
    Starting,
    /// Every earlier run is on disk, and nothing is there to be copied.
    Ready,
    /// It copies.
    Copying,
    /// It waits for room on the disk, and says how much.
    Full(String),
    /// It has stopped for good, and says why.
    Failed(String),
}

impl std::fmt::Display for ArchiverState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            ArchiverState::Absent => f.write_str("the archiver is not running"),
            ArchiverState::Starting => f.write_str("the archiver is starting"),
            ArchiverState::Ready | ArchiverState::Copying => f.write_str("the archiver is running"),
            ArchiverState::Full(why) => write!(f, "the archiver waits: {why}"),
            ArchiverState::Failed(why) => write!(f, "the archiver has failed: {why}"),
        }
    }
}

/// Paths of a ring's directory.
#[derive(Clone, Debug)]
pub(crate) struct RingDir {
    pub(crate) root: PathBuf,
}

impl RingDir {
    pub(crate) fn new(root: &Path) -> RingDir {
        RingDir { root: root.to_path_buf() }
    }

    pub(crate) fn make(&self) -> Result<(), Error> {
        let made = fs::DirBuilder::new().recursive(true).mode(DIR_MODE).create(&self.root);
        made.map_err(Error::io("create directory", &self.root))
    }

    pub(crate) fn slot(&self, slot: usize) -> PathBuf {
        self.root.join(format!("slot-{slot:02}"))
    }

    /// The manifest of the run in the ring, before the archiver has it.
    pub(crate) fn manifest(&self, run: u64) -> PathBuf {
        self.root.join(format!("run-{run:08}.json"))
    }

    fn engine_ctl(&self) -> PathBuf {
        self.root.join("engine.ctl")
    }

    fn archive_ctl(&self) -> PathBuf {
        self.root.join("archive.ctl")
    }

    pub(crate) fn engine_lock(&self) -> PathBuf {
        self.root.join("engine.lock")
    }

    pub(crate) fn archive_lock(&self) -> PathBuf {
        self.root.join("archive.lock")
    }

    /// Whether an engine lives that owns the ring.
    pub(crate) fn has_engine(&self) -> bool {
        is_locked(&self.engine_lock())
    }
}

/// The engine's page, by the engine.
#[derive(Debug)]
pub(crate) struct EnginePage {
    page: Mapped<EngineWords>,
    _lock: Lock,
}

impl EnginePage {
    pub(crate) fn own(dir: &RingDir) -> Result<EnginePage, Error> {
        let lock = Lock::take_at(&dir.engine_lock(), &dir.root)?;
        let page = Mapped::<EngineWords>::create(&dir.engine_ctl())?;
        // Whoever held the lock before is dead: from here on the lock says nothing about its run.
        let state = &page.words().state;
        if state.load(Relaxed) == SESSION_WRITTEN {
            state.store(SESSION_LEFT, Release);
        }
        Ok(EnginePage { page, _lock: lock })
    }

    /// The run that an earlier engine left in the ring.
    pub(crate) fn left(&self) -> Option<Session> {
        session_of(self.page.words())
    }

    /// Begins a run. The archiver has everything of the one before.
    pub(crate) fn begin(&self, session: &Session) {
        let words = self.page.words();
        words.state.store(SESSION_NONE, Relaxed);
        std::sync::atomic::fence(AcqRel);
        words.magic.store(ENGINE_MAGIC, Relaxed);
        words.version.store(VERSION, Relaxed);
        store_id(&words.uuid, session.uuid);
        store_id(&words.boot_id, session.boot_id);
        words.run.store(session.run, Relaxed);
        words.first_segment.store(session.first_segment, Relaxed);
        words.slot_count.store(session.slot_count as u64, Relaxed);
        words.segment_bytes.store(session.segment_bytes, Relaxed);
        for slot in &words.slots {
            slot.store(0, Relaxed);
        }
        words.state.store(SESSION_WRITTEN, Release);
    }

    /// The archiver has the whole run: nothing is left in the ring.
    pub(crate) fn clear(&self) {
        self.page.words().state.store(SESSION_NONE, Release);
    }

    pub(crate) fn slots(&self, count: usize) -> &[AtomicU64] {
        self.page.words().slots.get(..count).unwrap_or_default()
    }
}

/// The engine's page, read by the archiver.
#[derive(Debug)]
pub(crate) struct EngineSeen {
    page: Mapped<EngineWords>,
}

impl EngineSeen {
    pub(crate) fn open(dir: &RingDir) -> Option<EngineSeen> {
        Mapped::open(&dir.engine_ctl()).map(|page| EngineSeen { page })
    }

    pub(crate) fn session(&self) -> Option<Session> {
        session_of(self.page.words())
    }

    /// Whether the engine of the run in the ring lives.
    pub(crate) fn is_written(&self, dir: &RingDir) -> bool {
        self.page.words().state.load(Acquire) == SESSION_WRITTEN && dir.has_engine()
    }

    pub(crate) fn slots(&self, count: usize) -> &[AtomicU64] {
        self.page.words().slots.get(..count).unwrap_or_default()
    }
}

fn session_of(words: &EngineWords) -> Option<Session> {
    let state = words.state.load(Acquire);
    if state == SESSION_NONE
        || words.magic.load(Relaxed) != ENGINE_MAGIC
        || words.version.load(Relaxed) != VERSION
    {
        return None;
    }
    let run = words.run.load(Relaxed);
    let session = Session {
        uuid: load_id(&words.uuid),
        boot_id: load_id(&words.boot_id),
        run,
        first_segment: words.first_segment.load(Relaxed),
        slot_count: usize::try_from(words.slot_count.load(Relaxed)).ok()?,
        segment_bytes: words.segment_bytes.load(Relaxed),
    };
    std::sync::atomic::fence(AcqRel);
    let is_same = words.state.load(Relaxed) != SESSION_NONE && words.run.load(Relaxed) == run;
    let is_plausible = session.run > 0
        && session.first_segment > 0
        && session.slot_count <= SLOTS_MAX
        && session.segment_bytes.is_power_of_two();
    (is_same && is_plausible).then_some(session)
}

fn store_id(words: &[AtomicU64; 2], id: [u8; 16]) {
    let id = u128::from_le_bytes(id);
    #[expect(clippy::cast_possible_truncation, reason = "the lower half")]
    words[0].store(id as u64, Relaxed);
    words[1].store((id >> 64) as u64, Relaxed);
}

fn load_id(words: &[AtomicU64; 2]) -> [u8; 16] {
    let (low, high) = (words[0].load(Relaxed), words[1].load(Relaxed));
    (u128::from(low) | u128::from(high) << 64).to_le_bytes()
}

/// The archiver's page, by the archiver.
#[derive(Debug)]
pub(crate) struct ArchivePage {
    page: Mapped<ArchiveWords>,
    _lock: Lock,
}

impl ArchivePage {
    pub(crate) fn own(dir: &RingDir) -> Result<ArchivePage, Error> {
        let lock = Lock::take_at(&dir.archive_lock(), &dir.root)?;
        let page = ArchivePage { page: Mapped::create(&dir.archive_ctl())?, _lock: lock };
        page.say(&ArchiverState::Starting);
        page.page.words().session_run.store(0, Release);
        page.page.words().version.store(VERSION, Relaxed);
        page.page.words().magic.store(ARCHIVE_MAGIC, Release);
        Ok(page)
    }

    pub(crate) fn beat(&self) {
        self.page.words().beat_ns.store(crate::files::mono_ns(), Relaxed);
    }

    pub(crate) fn say(&self, state: &ArchiverState) {
        let words = self.page.words();
        let (code, text) = match state {
            ArchiverState::Absent | ArchiverState::Starting => (0, ""),
            ArchiverState::Ready => (1, ""),
            ArchiverState::Copying => (2, ""),
            ArchiverState::Full(why) => (3, why.as_str()),
            ArchiverState::Failed(why) => (4, why.as_str()),
        };
        let text = text.as_bytes();
        let text = text.get(..TEXT_WORDS * 8).unwrap_or(text);
        for (word, part) in words.text.iter().zip(text.chunks(8)) {
            let mut bytes = [0; 8];
            bytes[..part.len()].copy_from_slice(part);
            word.store(u64::from_le_bytes(bytes), Relaxed);
        }
        words.text_len.store(text.len() as u64, Relaxed);
        words.state.store(code, Release);
        self.beat();
    }

    /// Runs up to this one are sealed on disk; what is in the ring may go.
    pub(crate) fn set_archived(&self, run: u64) {
        self.page.words().archived_run.store(run, Release);
    }

    /// Begins to copy `run`, of which everything up to `seq` and `segment` is on disk.
    pub(crate) fn attach(&self, run: u64, seq: u64, segment: u64) {
        let words = self.page.words();
        words.session_run.store(0, Relaxed);
        std::sync::atomic::fence(AcqRel);
        words.durable_seq.store(seq, Relaxed);
        words.released.store(segment, Relaxed);
        words.session_run.store(run, Release);
    }

    pub(crate) fn set_durable(&self, seq: u64) {
        self.page.words().durable_seq.store(seq, Release);
    }

    pub(crate) fn released(&self) -> &AtomicU64 {
        &self.page.words().released
    }
}

/// How far the archiver is with a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Progress {
    pub(crate) durable_seq: u64,
    pub(crate) released: u64,
}

/// The archiver's page, read by the engine.
#[derive(Debug)]
pub(crate) struct ArchiveSeen {
    page: Mapped<ArchiveWords>,
    lock: PathBuf,
}

impl ArchiveSeen {
    pub(crate) fn open(dir: &RingDir) -> Option<ArchiveSeen> {
        let page = Mapped::<ArchiveWords>::open(&dir.archive_ctl())?;
        let lock = dir.archive_lock();
        (page.words().magic.load(Acquire) == ARCHIVE_MAGIC
            && page.words().version.load(Relaxed) == VERSION)
            .then_some(ArchiveSeen { page, lock })
    }

    /// What it does. Two system calls: not for every turn.
    pub(crate) fn state(&self) -> ArchiverState {
        let words = self.page.words();
        let code = words.state.load(Acquire);
        // What it died of stays to be read.
        if code != 4 && !is_locked(&self.lock) {
            return ArchiverState::Absent;
        }
        let text = || {
            let bytes: Vec<u8> =
                words.text.iter().flat_map(|it| it.load(Relaxed).to_le_bytes()).collect();
            let len = usize::try_from(words.text_len.load(Relaxed)).unwrap_or(0);
            String::from_utf8_lossy(bytes.get(..len).unwrap_or_default()).into_owned()
        };
        match code {
            1 => ArchiverState::Ready,
            2 => ArchiverState::Copying,
            3 => ArchiverState::Full(text()),
            4 => ArchiverState::Failed(text()),
            _ => ArchiverState::Starting,
        }
    }

    pub(crate) fn archived_run(&self) -> u64 {
        self.page.words().archived_run.load(Acquire)
    }

    /// How far it is with `run`; `None` while it has not begun.
    pub(crate) fn progress(&self, run: u64) -> Option<Progress> {
        let words = self.page.words();
        (words.session_run.load(Acquire) == run).then_some(())?;
        let durable_seq = words.durable_seq.load(Acquire);
        let released = words.released.load(Acquire);
        std::sync::atomic::fence(AcqRel);
        (words.session_run.load(Relaxed) == run).then_some(Progress { durable_seq, released })
    }

    /// The word that gates reuse. Only of the run that is being copied: ask [`Self::progress`] first.
    pub(crate) fn released(&self) -> &AtomicU64 {
        &self.page.words().released
    }

    /// Nanoseconds since it last said that it lives.
    pub(crate) fn silent_ns(&self) -> u64 {
        crate::files::mono_ns().saturating_sub(self.page.words().beat_ns.load(Relaxed))
    }
}

/// A slot's memory, mapped for as long as anyone holds it.
#[derive(Clone, Debug)]
pub(crate) struct Slot {
    pub(crate) map: Arc<MmapRaw>,
    pub(crate) path: PathBuf,
}

/// Every interleaving of engine and archiver, with `RUSTFLAGS="--cfg loom"`.
#[cfg(all(test, loom))]
mod loom_models {
    use super::*;
    use loom::cell::UnsafeCell;
    use loom::sync::atomic;
    use loom::thread;

    impl Word for atomic::AtomicU64 {
        fn get(&self) -> u64 {
            self.load(atomic::Ordering::Acquire)
        }
        fn set(&self, value: u64) {
            self.store(value, atomic::Ordering::Release);
        }
    }

    const SLOTS: usize = 2;
    const SEGMENTS: u64 = 3; // one slot is used again

    #[derive(Default)]
    struct Model {
        slots: [atomic::AtomicU64; SLOTS],
        released: atomic::AtomicU64,
        /// The bytes of each slot: loom reports whoever reads while another writes.
        bytes: [UnsafeCell<u64>; SLOTS],
    }

    impl Model {
        fn reuse(&self) -> Reuse<'_, atomic::AtomicU64> {
            Reuse { slots: &self.slots, released: &self.released }
        }
    }

    /// `deaths`: after so many copies that it did not release the archiver dies, and another begins
    /// with what is released.
    fn check(deaths: u64) {
        loom::model(move || {
            let model = Arc::new(Model::default());
            let engine = Arc::clone(&model);
            let engine = thread::spawn(move || {
                let mut segment = 1;
                for _ in 0..SEGMENTS + 2 {
                    let Some(slot) = engine.reuse().take() else {
                        thread::yield_now();
                        continue;
                    };
                    engine.bytes[slot].with_mut(|bytes| unsafe { *bytes = 0 });
                    engine.bytes[slot].with_mut(|bytes| unsafe { *bytes = segment });
                    engine.reuse().offer(slot, segment);
                    segment += 1;
                }
            });
            let mut deaths = deaths;
            for _ in 0..SEGMENTS + 2 {
                // A new archiver knows nothing but what is on disk, which is what was released.
                let next = model.released.get() + 1;
                let Some(slot) = model.reuse().find(next) else {
                    thread::yield_now();
                    continue;
                };
                let copied = model.bytes[slot].with(|bytes| unsafe { *bytes });
                assert_eq!(copied, next, "the segment, whole");
                if deaths > 0 {
                    deaths -= 1; // killed before it said so
                    continue;
                }
                model.reuse().release(next);
            }
            engine.join().unwrap();
        });
    }

    #[test]
    fn loom_a_slot_is_used_again_only_when_it_is_on_disk() {
        check(0);
    }

    #[test]
    fn loom_an_archiver_that_dies_copies_again() {
        check(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Both sides, step by step, in every order, with the archiver dying at every place.
    #[test]
    fn no_order_of_steps_loses_a_segment() {
        #[derive(Clone, PartialEq, Eq, Hash, Debug)]
        struct World {
            slots: [u64; 3],
            released: u64,
            holds: [u64; 3],      // what the bytes of a slot are; 0: being zeroed
            taken: Option<usize>, // by the engine
            segment: u64,         // the engine's next
            found: Option<usize>, // by the archiver, for `released + 1`
            disk: u64,            // segments on disk: all up to this one
        }
        const LAST: u64 = 7;
        let mut seen = std::collections::HashSet::new();
        let start = World {
            slots: [0; 3],
            released: 0,
            holds: [0; 3],
            taken: None,
            segment: 1,
            found: None,
            disk: 0,
        };
        let mut open = vec![start];
        let mut ends = 0;
        while let Some(world) = open.pop() {
            if !seen.insert(world.clone()) {
                continue;
            }
            let words: Vec<_> = world.slots.iter().map(|it| AtomicU64::new(*it)).collect();
            let released = AtomicU64::new(world.released);
            let reuse = Reuse { slots: &words, released: &released };
            let with = |change: &dyn Fn(&mut World)| {
                let mut next = world.clone();
                change(&mut next);
                next
            };
            let slots = || [0, 1, 2].map(|at: usize| words[at].load(Relaxed));
            // The engine: takes a slot away and zeroes it; offers it again.
            match world.taken {
                None if world.segment <= LAST => {
                    if let Some(slot) = reuse.take() {
                        assert!(
                            world.holds[slot] <= world.disk,
                            "took away a segment that is not on disk: {world:?}"
                        );
                        assert_ne!(world.found, Some(slot), "took away what is being read");
                        open.push(with(&|next| {
                            (next.slots, next.taken) = (slots(), Some(slot));
                            next.holds[slot] = 0;
                        }));
                    }
                }
                Some(slot) => {
                    reuse.offer(slot, world.segment);
                    open.push(with(&|next| {
                        (next.slots, next.taken) = (slots(), None);
                        next.holds[slot] = world.segment;
                        next.segment += 1;
                    }));
                }
                None => {}
            }
            for (word, value) in words.iter().zip(world.slots) {
                word.set(value); // what the archiver sees is the world without the engine's step
            }
            // The archiver: finds, copies to disk, releases; and dies.
            let next_segment = world.released + 1;
            match world.found {
                None => {
                    if let Some(slot) = reuse.find(next_segment) {
                        open.push(with(&|next| next.found = Some(slot)));
                    }
                }
                Some(slot) if world.disk < next_segment => {
                    assert_eq!(world.holds[slot], next_segment, "{world:?}");
                    open.push(with(&|next| next.disk = next_segment));
                    open.push(with(&|next| next.found = None));
                }
                Some(_) => {
                    reuse.release(next_segment);
                    let released = released.load(Relaxed);
                    open.push(with(&|next| (next.released, next.found) = (released, None)));
                    open.push(with(&|next| next.found = None)); // the next one copies it again
                }
            }
            ends += u64::from(world.released == LAST);
        }
        assert!(seen.len() > 100 && ends > 0, "{} states, {ends} ends", seen.len());
    }
}
