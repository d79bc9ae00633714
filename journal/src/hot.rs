//! The engine's side of placement `hot`: a ring of memory segments that the archiver empties.
//!
//! Every slot is allocated, mapped, populated and locked once, before the run starts, and stays mapped
//! until both halves are gone. The keeper has no disk to wait for: it zeroes a slot that the archiver
//! has released, writes the next header into it, and hands it to the writer.

use std::collections::VecDeque;
use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering, fence};
use std::time::{Duration, Instant};

use memmap2::{Advice, MmapOptions};

use crate::error::Error;
use crate::files::{Dir, FILE_MODE, boot_id, free_bytes, memory_file_system, replace};
use crate::keeper::{Turn, lock};
use crate::lag::LagMeter;
use crate::layout::{FRAMES_AT, MAJOR, MINOR, PAGE, RunParent, SegmentHeader};
use crate::manifest;
use crate::open::Opened;
use crate::options::{NotReady, Options, RunFacts};
use crate::prepare::allocate;
use crate::recover::{Found, Recovery, examine};
use crate::ring::{
    ArchiveSeen, ArchiverState, EnginePage, Reuse, RingDir, SLOTS_MAX, Session, Slot,
};
use crate::segment::Segment;
use crate::shared::{FailureKind, Link, SegmentEnd, Shared, Status};
use crate::writer::{AppendError, Parent, Writer};

/// Where and how large the ring is, and how long to wait for the archiver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HotOptions {
    /// The ring's directory, on a memory file system.
    pub dir: PathBuf,
    /// Slots of `segment_bytes` each, in `[4, 64]`. 8.
    pub segments: usize,
    /// Milliseconds that the start waits for the archiver, and the end for the last of it. 10 000.
    pub archiver_wait_ms: u64,
    /// Milliseconds without progress of the archiver after which a full ring ends the run, where
    /// `not_ready` is [`NotReady::Halt`]. 2000.
    pub full_ms: u64,
}

impl HotOptions {
    /// A ring in `dir` with the documented sizes.
    #[must_use]
    pub fn new(dir: &Path) -> HotOptions {
        HotOptions { dir: dir.to_path_buf(), segments: 8, archiver_wait_ms: 10_000, full_ms: 2_000 }
    }
}

/// Bytes zeroed per turn. 16 MiB: about 2 ms.
const STEP: usize = 16 << 20;
/// How often the archiver's state is asked for.
const STATE_EVERY: Duration = Duration::from_millis(20);

/// A slot with what is known of its bytes.
#[derive(Debug)]
struct Place {
    slot: Slot,
    locked: bool,
    dirty: usize, // bytes from 0 that may be other than zero
}

/// A slot on its way to be the next segment.
#[derive(Debug)]
struct Taken {
    place: usize,
    zeroed: usize,
}

/// A segment in use, or waiting to be.
#[derive(Debug)]
struct Live {
    segment: Arc<Segment>,
    place: usize,
}

/// The keeping half of a journal in memory.
#[derive(Debug)]
pub(crate) struct HotKeeper {
    link: Arc<Link>,
    shared: Arc<Shared>,
    dir: Dir,
    page: EnginePage,
    archiver: ArchiveSeen,
    options: Options,
    hot: HotOptions,
    header: SegmentHeader, // of the next segment, but for the clocks
    places: Vec<Place>,
    taken: Option<Taken>,
    live: VecDeque<Live>,       // oldest first
    left: VecDeque<(u64, u64)>, // segments that wait for the archiver, with their last seq
    given: usize,
    lag: LagMeter,
    last_second: Instant,
    last_state: Instant,
    moved: Instant,              // when the archiver last made progress
    full_since: Option<Instant>, // without progress
}

/// Takes the ring, waits for the archiver, and starts a run.
pub(crate) fn create(
    dir: &Path,
    options: &Options,
    hot: &HotOptions,
    facts: &RunFacts,
) -> Result<(Writer, HotKeeper, Opened), Error> {
    options.check()?;
    hot.check(options)?;
    let (dir, ring) = (Dir::new(dir), RingDir::new(&hot.dir));
    dir.check_ours()?;
    ring.make()?;
    let mut warnings = judge_ring(&ring, options)?;
    let page = EnginePage::own(&ring)?;
    let boot_id = boot_id()?;
    // What a ring outside of memory kept over a reboot is not what the last engine wrote last.
    let left = page.left().filter(|it| it.boot_id == boot_id);
    let archiver = await_archiver(&ring, left, hot)?;
    let how = Recovery {
        mode: options.recover,
        accept_loss: options.accept_loss,
        verify_bytes: options.verify_at_start_bytes,
        boot_id: Some(boot_id),
    };
    let found = examine(&dir, &how)?;
    let anchor = (options.clock)();
    let header = SegmentHeader {
        version: (MAJOR, MINOR),
        uuid: found.uuid.unwrap_or_else(|| *uuid::Uuid::new_v4().as_bytes()),
        run: found.last_run + 1,
        segment: found.next_segment,
        segment_len: options.segment_bytes,
        boot_id,
        created: anchor,
        tsc_hz: facts.tsc_hz,
        registry_hash: facts.registry_hash,
        binary_hash: facts.binary_hash,
        lock_hash: facts.lock_hash,
        config_hash: facts.config_hash,
        seed: facts.seed,
    };
    let places = prepare_slots(&ring, options, hot)?;
    if options.populate && places.iter().any(|it| !it.locked) {
        if options.strict {
            return Err(unlockable(hot));
        }
        warnings.push("the ring is not locked into memory: RLIMIT_MEMLOCK is too low".into());
    }
    begin(dir, ring, (options, hot, facts), (page, archiver), places, header, found, warnings)
}

#[expect(clippy::too_many_arguments, reason = "the second half of `create`")]
fn begin(
    dir: Dir,
    ring: RingDir,
    (options, hot, facts): (&Options, &HotOptions, &RunFacts),
    (page, archiver): (EnginePage, ArchiveSeen),
    places: Vec<Place>,
    header: SegmentHeader,
    found: Found,
    warnings: Vec<String>,
) -> Result<(Writer, HotKeeper, Opened), Error> {
    let parent =
        RunParent { run: found.parent_run, last_seq: found.last_seq, last_crc: found.last_crc };
    let (run, first_seq) = (header.run, parent.last_seq + 1);
    // The ring's own manifests are of runs that the archiver has.
    for entry in fs::read_dir(&ring.root).map_err(Error::io("list", &ring.root))?.flatten() {
        let name = entry.file_name();
        if name.to_string_lossy().starts_with("run-") {
            fs::remove_file(entry.path()).map_err(Error::io("remove", &entry.path()))?;
        }
    }
    let fields = manifest::of_run(
        (&header.uuid, run, parent, first_seq),
        (options, facts, &header.boot_id),
        Some(&hot.dir),
    );
    replace(&ring.manifest(run), manifest::digested(fields).as_bytes())?;
    page.begin(&Session {
        uuid: header.uuid,
        boot_id: header.boot_id,
        run,
        first_segment: header.segment,
        slot_count: hot.segments,
        segment_bytes: options.segment_bytes,
    });
    let mut payload = parent.to_bytes().to_vec();
    payload.extend_from_slice(&header.config_hash);
    let (anchor, uuid) = (header.created, uuid::Uuid::from_bytes(header.uuid));
    let link = Arc::new(Link::default());
    link.shared.publish_durable(parent.last_seq);
    link.shared.publish_archived(parent.last_seq);
    link.shared.publish_ring(places.len(), 0);
    let now = Instant::now();
    let mut keeper = HotKeeper {
        shared: Arc::clone(&link.shared),
        link: Arc::clone(&link),
        dir,
        page,
        archiver,
        options: options.clone(),
        hot: hot.clone(),
        header,
        places,
        taken: None,
        live: VecDeque::new(),
        left: VecDeque::new(),
        given: 0,
        lag: LagMeter::default(),
        last_second: now,
        last_state: now,
        moved: now,
        full_since: None,
    };
    keeper.shared.publish_archiver(keeper.archiver.state(), keeper.archiver.silent_ns());
    while keeper.given == 0 {
        keeper.prepare_step();
    }
    let before = Parent {
        segment: found.last_segment,
        last_seq: parent.last_seq,
        last_crc: parent.last_crc,
    };
    let writer = Writer::start(link, options, before, anchor)
        .and_then(|mut writer| writer.run_start(&payload).map(|()| writer));
    // The segment was prepared a moment ago and the frame is short: this cannot fail.
    let root = keeper.dir.root.clone();
    let not_started = |why: AppendError| Error::NotEnded { dir: root, reason: why.to_string() };
    let opened = Opened { run, uuid, first_seq, recovery: found.report, warnings };
    Ok((writer.map_err(not_started)?, keeper, opened))
}

impl HotOptions {
    fn check(&self, options: &Options) -> Result<(), Error> {
        let wrong = |key, found: String, rule| Err(Error::Option { key, found, rule });
        if !(4..=SLOTS_MAX).contains(&self.segments) {
            return wrong("hot_segments", self.segments.to_string(), "in [4, 64]");
        }
        if options.ready_min >= self.segments {
            return wrong("ready_min", options.ready_min.to_string(), "below hot_segments");
        }
        Ok(())
    }
}

fn unlockable(hot: &HotOptions) -> Error {
    Error::Option {
        key: "hot_segments",
        found: hot.segments.to_string(),
        rule: "the ring must fit RLIMIT_MEMLOCK: it could not be locked into memory",
    }
}

/// Memory that is none, or is emptied behind our back: production refuses, development is warned.
fn judge_ring(ring: &RingDir, options: &Options) -> Result<Vec<String>, Error> {
    let shm = Path::new("/dev/shm");
    let root = fs::canonicalize(&ring.root).map_err(Error::io("resolve", &ring.root))?;
    let (found, rule) = match memory_file_system(&root) {
        Err(name) => (name, "the hot ring needs tmpfs or hugetlbfs: it is memory"),
        Ok(()) if root.starts_with(shm) => (
            "/dev/shm".into(),
            "not for the hot ring: a service's end may empty it; give it a mount of its own",
        ),
        Ok(()) => return Ok(Vec::new()),
    };
    if options.strict {
        return Err(Error::FileSystem { dir: ring.root.clone(), found, rule });
    }
    Ok(vec![format!("{}: file system {found}: {rule}", ring.root.display())])
}

/// Waits until the archiver has everything that an earlier run left, and is alive.
fn await_archiver(
    ring: &RingDir,
    left: Option<Session>,
    hot: &HotOptions,
) -> Result<ArchiveSeen, Error> {
    let deadline = Instant::now() + Duration::from_millis(hot.archiver_wait_ms);
    loop {
        let seen = ArchiveSeen::open(ring);
        let state = seen.as_ref().map(ArchiveSeen::state).unwrap_or_default();
        if let (Some(seen), ArchiverState::Ready) = (seen, &state)
            && left.is_none_or(|left| left.run <= seen.archived_run())
        {
            return Ok(seen);
        }
        if Instant::now() >= deadline {
            return Err(Error::Archiver {
                dir: ring.root.clone(),
                reason: state.to_string(),
                waited_ms: hot.archiver_wait_ms,
            });
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Creates, maps, populates, locks and zeroes every slot.
fn prepare_slots(ring: &RingDir, options: &Options, hot: &HotOptions) -> Result<Vec<Place>, Error> {
    let len = usize::try_from(options.segment_bytes).map_err(|_| Error::Option {
        key: "segment_bytes",
        found: options.segment_bytes.to_string(),
        rule: "must fit the address space",
    })?;
    let mut places = Vec::new();
    for slot in 0..SLOTS_MAX {
        let path = ring.slot(slot);
        if slot >= hot.segments {
            // Of a larger ring before.
            match fs::remove_file(&path) {
                Err(source) if source.kind() != io::ErrorKind::NotFound => {
                    return Err(Error::io("remove", &path)(source));
                }
                Ok(()) | Err(_) => continue,
            }
        }
        // Another length is another file: a reader may still have the old one mapped.
        let found = fs::metadata(&path).map(|it| it.len());
        let is_new = !found.as_ref().is_ok_and(|it| *it == options.segment_bytes);
        if is_new && found.is_ok() {
            fs::remove_file(&path).map_err(Error::io("remove", &path))?;
        }
        let mut open = OpenOptions::new();
        let open = open.read(true).write(true).create(true).truncate(false).mode(FILE_MODE);
        let file = open.open(&path).map_err(Error::io("open", &path))?;
        if let Err(source) = allocate(&file, options.segment_bytes) {
            if source.kind() != io::ErrorKind::StorageFull {
                return Err(Error::io("allocate", &path)(source));
            }
            let _removed = fs::remove_file(&path); // gives back what it has; the error is the news
            let (need, free) = (options.segment_bytes, free_bytes(&ring.root));
            return Err(Error::NoSpace { path, need, free });
        }
        let map = match MmapOptions::new().len(len).map_raw(&file) {
            Ok(map) => map,
            // A process that locks its memory is refused what its limit does not hold.
            Err(source) if source.kind() == io::ErrorKind::WouldBlock => {
                return Err(unlockable(hot));
            }
            Err(source) => return Err(Error::io("map", &path)(source)),
        };
        if options.populate {
            let populated = map.advise_range(Advice::PopulateWrite, 0, len);
            populated.map_err(Error::io("populate", &path))?;
        }
        let locked = !options.populate || map.lock().is_ok();
        let dirty = if is_new { 0 } else { len };
        places.push(Place { slot: Slot { map: Arc::new(map), path }, locked, dirty });
    }
    Ok(places)
}

impl HotKeeper {
    pub(crate) fn shared(&self) -> Arc<Shared> {
        Arc::clone(&self.shared)
    }

    pub(crate) fn turn(&mut self) -> Turn {
        self.follow_archiver();
        while let Some(end) = self.live.front().and_then(|live| live.segment.left()) {
            self.retire(end);
        }
        let mut worked = false;
        if self.wants_more() {
            worked = self.prepare_step();
            if worked {
                self.full_since = None;
            } else {
                self.judge_full();
            }
        }
        if self.last_second.elapsed() >= Duration::from_secs(1) {
            self.last_second = Instant::now();
            self.shared.offer_anchor((self.options.clock)());
        }
        let (committed, durable) = (self.shared.committed_seq(), self.shared.durable_seq());
        self.shared.publish_lag(self.lag.look(committed, durable, Instant::now()));
        match (self.shared.has_failed(), worked) {
            (true, _) => Turn::Failed,
            (false, true) => Turn::Worked,
            (false, false) => Turn::Idle,
        }
    }

    /// Waits until the archiver has the whole run on disk.
    pub(crate) fn finish(mut self) -> Result<(), Error> {
        let not_ended = |dir: &Dir, reason| Err(Error::NotEnded { dir: dir.root.clone(), reason });
        if !self.shared.has_ended() {
            return not_ended(&self.dir, "the writer has not ended it".into());
        }
        let wait = Duration::from_millis(self.hot.archiver_wait_ms);
        self.moved = Instant::now();
        while self.archiver.archived_run() < self.header.run {
            self.follow_archiver();
            let state = self.archiver.state();
            if self.moved.elapsed() >= wait {
                let (durable, last) = (self.shared.durable_seq(), self.shared.committed_seq());
                return not_ended(
                    &self.dir,
                    format!(
                        "seq {} to {last} wait in {} for the archiver: {state}",
                        durable + 1,
                        self.hot.dir.display()
                    ),
                );
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        self.page.clear();
        Ok(())
    }

    fn wants_more(&self) -> bool {
        let ready = usize::try_from(self.shared.prepared()).unwrap_or(usize::MAX);
        ready < self.options.ready_min && !self.shared.has_ended() && !self.shared.has_failed()
    }

    /// Passes on what the archiver says of this run.
    fn follow_archiver(&mut self) {
        let progress = self.archiver.progress(self.header.run);
        if let Some(progress) = &progress {
            while let Some((_, seq)) = self.left.pop_front_if(|(it, _)| *it <= progress.released) {
                self.shared.publish_archived(seq);
            }
        }
        self.shared.publish_ring(self.places.len(), self.left.len());
        if let Some(progress) = progress
            && progress.durable_seq > self.shared.durable_seq()
        {
            // Never more than was committed: whatever a page says, an order waits for its frame.
            let durable = progress.durable_seq.min(self.shared.committed_seq());
            self.shared.publish_durable(durable);
            self.moved = Instant::now();
            self.full_since = None;
            crate::sigbus::note_seq(durable);
        }
        if self.last_state.elapsed() >= STATE_EVERY {
            self.last_state = Instant::now();
            self.shared.publish_archiver(self.archiver.state(), self.archiver.silent_ns());
        }
    }

    /// The writer has left the oldest segment; its slot waits for the archiver.
    fn retire(&mut self, end: SegmentEnd) {
        let Some(live) = self.live.pop_front() else { return };
        if let Some(place) = self.places.get_mut(live.place) {
            place.dirty = usize::try_from(end.offset).unwrap_or(usize::MAX);
        }
        self.left.push_back((live.segment.number, end.last_seq));
        self.shared.count_sealed();
    }

    /// One step towards the next segment; `false` if no slot is free.
    fn prepare_step(&mut self) -> bool {
        let taken = match self.taken.take() {
            Some(taken) => Some(taken),
            None => self.take().map(|place| Taken { place, zeroed: 0 }),
        };
        let Some(mut taken) = taken else { return false };
        let Some(place) = self.places.get_mut(taken.place) else { return false };
        let to = (taken.zeroed + STEP).min(place.dirty).min(place.slot.map.len());
        if taken.zeroed < to {
            // SAFETY: the range is inside the mapping, which `place` keeps alive. The slot was taken
            // away: the writer has left it, the archiver has released it or never had it, and nobody
            // else writes.
            unsafe {
                let from = place.slot.map.as_mut_ptr().add(taken.zeroed);
                std::ptr::write_bytes(from, 0, to - taken.zeroed);
            }
            taken.zeroed = to;
            self.taken = Some(taken);
            return true;
        }
        self.hand_over(taken.place);
        true
    }

    fn take(&self) -> Option<usize> {
        let nothing = AtomicU64::new(0);
        let is_known = self.archiver.progress(self.header.run).is_some();
        let released = if is_known { self.archiver.released() } else { &nothing };
        Reuse { slots: self.page.slots(self.places.len()), released }.take()
    }

    /// Writes the header into a zeroed slot, offers it, and gives it to the writer.
    fn hand_over(&mut self, at: usize) {
        let Some(place) = self.places.get_mut(at) else { return };
        self.header.created = (self.options.clock)();
        let page = self.header.to_page();
        // SAFETY: page 0 is inside the mapping and nobody reads or writes it: see `prepare_step`.
        unsafe {
            std::ptr::copy_nonoverlapping(page.as_ptr(), place.slot.map.as_mut_ptr(), PAGE);
        }
        fence(Ordering::Release);
        place.dirty = place.slot.map.len(); // until the writer says how far it came
        let number = self.header.segment;
        let map = Arc::clone(&place.slot.map);
        let path = place.slot.path.clone();
        let segment = Arc::new(Segment::new(map, path, number, self.header.chain_seed()));
        if !place.locked {
            self.shared.count_unlocked();
        }
        if self.given < self.places.len() {
            lock(&self.link.mapped).push(Arc::clone(&segment)); // keeps the slot mapped
        }
        let released = self.archiver.released();
        Reuse { slots: self.page.slots(self.places.len()), released }.offer(at, number);
        let given = self.link.prepared.give(self.given, Arc::clone(&segment));
        debug_assert!(given.is_ok(), "ready_min is below the number of places");
        self.given += 1;
        self.header.segment += 1;
        self.live.push_back(Live { segment, place: at });
        self.shared.count_prepared();
    }

    /// No slot is free. If the writer has used up its own as well, and the archiver does not move, the
    /// run is over.
    fn judge_full(&mut self) {
        let (_, offset) = self.shared.position();
        let used = offset + self.options.halt_reserve() + u64::from(self.options.frame_max);
        let is_full =
            self.shared.prepared() == 0 && used + 2 * PAGE as u64 >= self.header.segment_len;
        if !is_full || self.options.not_ready != NotReady::Halt {
            return;
        }
        let since = *self.full_since.get_or_insert_with(Instant::now);
        if since.elapsed() < Duration::from_millis(self.hot.full_ms) {
            return;
        }
        if self.shared.status() == Status::Running {
            let message = format!(
                "{}: the hot ring is full: {} segments of {} bytes wait for the archiver, durable is \
                 seq {} of {}; {}",
                self.hot.dir.display(),
                self.places.len(),
                self.header.segment_len,
                self.shared.durable_seq(),
                self.shared.committed_seq(),
                self.archiver.state()
            );
            self.shared.fail(FailureKind::NoSpace, message);
        }
    }
}

const _: () =
    assert!(FRAMES_AT == 2 * PAGE, "page 1 of a slot stays zero: the archive has the seal");
