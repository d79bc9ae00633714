//! Power loss, full disks, failing disks, damaged memory: what the archiver does then.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use kairos_journal::archive::{ArchiveOptions, Archiver, Probe, Step};
use kairos_journal::{
    AppendError, ArchiverState, Error, FailureKind, Frame, Keeper, Mode, Options, Placement,
    Recovery, RunFacts, Status, Turn, Verdict, Writer, create, recover, recover_with, verify,
};

use crate::common::{assert_holds, files, payload, put_events};
use crate::hot::{Place, assert_sound};

/// Another boot of the host.
const OTHER_BOOT: [u8; 16] = [7; 16];

/// Turns both halves until everything committed is durable.
fn settle(archiver: &mut Archiver, keeper: &mut Keeper) -> Result<(), Error> {
    let shared = keeper.shared();
    while shared.durable_seq() < shared.committed_seq() {
        assert_ne!(keeper.turn(), Turn::Failed);
        archiver.turn()?;
        archiver.flush()?;
    }
    Ok(())
}

/// Appends while the archiver keeps up.
fn put(writer: &mut Writer, keeper: &mut Keeper, archiver: &mut Archiver, count: u64) {
    for _ in 0..count {
        let seq = writer.next_seq();
        let payload = payload(seq);
        let ext = [seq, !seq];
        let ext = &ext[..usize::try_from(seq % 3).unwrap()];
        let frame = Frame { ts: seq * 10, kind: 0x101, schema: 1, lane: 0, ext, payload: &payload };
        while let Err(why) = writer.append(&frame) {
            assert_eq!(why, AppendError::NotReady);
            assert_ne!(keeper.turn(), Turn::Failed);
            archiver.turn().unwrap();
        }
    }
}

fn end(writer: Writer, keeper: Keeper, archiver: Archiver) {
    writer.end_run(0, b"end").map_err(|(_, why)| why).unwrap();
    finish(keeper, archiver);
}

/// Lets the archiver work on another thread, because the keeper waits for it.
fn finish(keeper: Keeper, mut archiver: Archiver) {
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Acquire) {
                archiver.turn().unwrap();
                std::thread::yield_now();
            }
        });
        let finished = keeper.finish();
        over.store(true, Ordering::Release);
        finished.unwrap();
    });
}

/// What a disk holds for certain, and what only the page cache does.
struct Disk {
    dir: PathBuf,
    synced: BTreeMap<PathBuf, Vec<u8>>,
    before: Option<PathBuf>, // is durable when the next step comes
    promised: Arc<AtomicU64>,
    random: u64,
    images: u64,
    torn: u64,
}

impl Disk {
    fn next(&mut self, below: u64) -> u64 {
        self.random = self
            .random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.random >> 33) % below
    }

    /// A step is about to be taken: the one before is over, and now the power fails.
    fn step(&mut self, step: Step<'_>) {
        if let Some(path) = self.before.take() {
            if let Ok(bytes) = fs::read(&path) {
                self.synced.insert(path, bytes);
            }
            self.synced.retain(|path, _| path.exists());
        }
        self.before = match step {
            Step::Sync(path) | Step::Name(path) | Step::Replace(path) => Some(path.to_path_buf()),
            Step::Allocate(..) | Step::Write(_) => None,
        };
        for _ in 0..2 {
            self.crash();
        }
    }

    /// What the disk may hold after a power loss now: each page of each file as it was synced last, or
    /// as it is; files without a durable name are gone.
    fn crash(&mut self) {
        let image = tempfile::tempdir().unwrap();
        for file in files(&self.dir) {
            let name = file.strip_prefix(&self.dir).unwrap().to_path_buf();
            let Some(synced) = self.synced.get(&file).cloned() else { continue };
            let mut bytes = synced;
            let now = fs::read(&file).unwrap();
            bytes.resize(now.len(), 0);
            // Whole sectors: the watermark's slot is one.
            for (at, sector) in now.chunks(512).enumerate() {
                if self.next(2) == 0 {
                    bytes[at * 512..at * 512 + sector.len()].copy_from_slice(sector);
                }
            }
            let target = image.path().join(name);
            fs::create_dir_all(target.parent().unwrap()).unwrap();
            fs::write(target, bytes).unwrap();
        }
        fs::create_dir_all(image.path().join("seg")).unwrap();
        let how =
            Recovery { boot_id: Some(OTHER_BOOT), verify_bytes: u64::MAX, ..Recovery::default() };
        let report = recover_with(image.path(), &how)
            .unwrap_or_else(|bad| panic!("image {}: {bad}", self.images));
        let promised = self.promised.load(Ordering::Acquire);
        let found = verify(image.path()).unwrap();
        assert!(found.findings.is_empty(), "image {}: {:#?}", self.images, found.findings);
        assert!(found.events >= promised, "{} of {promised}: {report:?}", found.events);
        assert_holds(image.path(), found.events);
        self.torn += u64::from(report.verdict == Verdict::Torn);
        self.images += 1;
        if self.images.is_multiple_of(64) {
            self.go_on(image.path(), found.events);
        }
    }

    /// The next boot: an empty ring, and a new run behind what was recovered.
    fn go_on(&self, image: &Path, last: u64) {
        let place = Place::new();
        let archiver = Archiver::open(ArchiveOptions::new(image, place.ring())).unwrap();
        let (mut writer, mut keeper, opened) =
            create(image, &place.options(), RunFacts::default()).unwrap();
        assert_eq!(opened.first_seq, last + 1);
        let mut archiver = archiver;
        put(&mut writer, &mut keeper, &mut archiver, 30);
        end(writer, keeper, archiver);
        assert_sound(image, last + 30);
    }
}

#[test]
fn power_loss_at_any_step_loses_nothing_that_was_durable() {
    let place = Place::new();
    let promised = Arc::new(AtomicU64::new(0));
    let disk = Arc::new(Mutex::new(Disk {
        dir: place.dir(),
        synced: BTreeMap::new(),
        before: None,
        promised: Arc::clone(&promised),
        random: 0x1234_5678,
        images: 0,
        torn: 0,
    }));
    let seen = Arc::clone(&disk);
    let probe = Probe::new(move |step| {
        seen.lock().unwrap().step(step);
        Ok(())
    });
    let mut archiver = Archiver::open(ArchiveOptions { probe, ..place.archive() }).unwrap();
    let (mut writer, mut keeper, _) = place.open();
    while writer.next_seq() < 1_200 {
        put(&mut writer, &mut keeper, &mut archiver, 60);
        settle(&mut archiver, &mut keeper).unwrap();
        promised.store(keeper.shared().durable_seq(), Ordering::Release);
    }
    end(writer, keeper, archiver);
    assert_sound(&place.dir(), 1_200);
    let disk = disk.lock().unwrap();
    println!("{} images, {} torn", disk.images, disk.torn);
    assert!(disk.images > 250 && disk.torn > 20, "{} images, {} torn", disk.images, disk.torn);
}

#[test]
fn an_error_at_any_step_is_final_and_the_next_archiver_goes_on() {
    let mut finals = 0;
    for failing in 0.. {
        let place = Place::new();
        let steps = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&steps);
        let probe = Probe::new(move |_| {
            let is_it = counted.fetch_add(1, Ordering::Relaxed) == failing;
            if is_it { Err(io::Error::from_raw_os_error(5)) } else { Ok(()) }
        });
        let first = Archiver::open(ArchiveOptions { probe, ..place.archive() });
        let mut archiver = match first {
            Ok(archiver) => archiver,
            Err(bad) => {
                assert!(bad.to_string().contains("Input/output error"), "{bad}");
                Archiver::open(place.archive()).unwrap()
            }
        };
        let (mut writer, mut keeper, _) = place.open();
        let mut failed = false;
        for _ in 0..12 {
            for _ in 0..60 {
                // Within the ring, whatever the archiver does.
                let seq = writer.next_seq();
                let payload = payload(seq);
                let frame =
                    Frame { ts: seq, kind: 0x101, schema: 1, lane: 0, ext: &[], payload: &payload };
                while writer.append(&frame).is_err() {
                    assert_ne!(keeper.turn(), Turn::Failed);
                }
            }
            keeper.turn();
            let worked = archiver.turn().and_then(|_| archiver.flush());
            if let Err(bad) = worked {
                assert!(!failed, "twice: {bad}");
                assert!(bad.to_string().contains("Input/output error"), "{bad}");
                assert!(matches!(archiver.progress().state, ArchiverState::Failed(_)));
                failed = true;
                drop(archiver);
                archiver = Archiver::open(place.archive()).unwrap();
            }
        }
        let reached = steps.load(Ordering::Relaxed) > failing;
        settle(&mut archiver, &mut keeper).unwrap();
        if reached {
            finals += 1;
            end(writer, keeper, archiver);
            assert_sound(&place.dir(), 720);
        } else {
            break; // no more steps to fail at
        }
    }
    println!("{finals} steps failed");
    assert!(finals > 60, "{finals}");
}

/// An archiver whose disk has room for `segments` segments until `more` is set.
fn limited(place: &Place, segments: u64, more: &Arc<AtomicBool>) -> Archiver {
    let (left, more) = (AtomicU64::new(segments), Arc::clone(more));
    let probe = Probe::new(move |step| match step {
        Step::Allocate(..) if !more.load(Ordering::Acquire) => {
            let taken =
                left.fetch_update(Ordering::AcqRel, Ordering::Acquire, |it| it.checked_sub(1));
            taken.map(drop).map_err(|_| io::Error::from_raw_os_error(28))
        }
        Step::Allocate(..) | Step::Write(_) | Step::Sync(_) | Step::Name(_) | Step::Replace(_) => {
            Ok(())
        }
    });
    Archiver::open(ArchiveOptions { probe, ..place.archive() }).unwrap()
}

#[test]
fn a_full_disk_is_waited_for_while_the_ring_has_room() {
    let place = Place::new();
    let more = Arc::new(AtomicBool::new(false));
    let mut archiver = limited(&place, 1, &more);
    let (mut writer, mut keeper, _) = place.open();
    put(&mut writer, &mut keeper, &mut archiver, 900);
    for _ in 0..10 {
        keeper.turn();
        archiver.turn().unwrap();
    }
    let ArchiverState::Full(why) = &archiver.progress().state else {
        panic!("{:?}", archiver.progress());
    };
    assert!(why.contains("disk full: a segment needs 65536 bytes"), "{why}");
    let durable = keeper.shared().durable_seq();
    assert!(durable > 100 && durable < 900, "{durable}");
    assert_eq!(keeper.shared().committed_seq(), 900);
    more.store(true, Ordering::Release);
    // It tries again after a second; the keeper only waits.
    end(writer, keeper, archiver);
    assert_sound(&place.dir(), 900);
}

#[test]
fn a_ring_that_stays_full_ends_the_run_and_loses_nothing() {
    let place = Place::new();
    let more = Arc::new(AtomicBool::new(false));
    let archiver = limited(&place, 1, &more);
    let mut options = place.options();
    let Placement::Hot(hot) = &mut options.placement else { unreachable!() };
    hot.full_ms = 20;
    let (mut writer, mut keeper, _) = create(&place.dir(), &options, RunFacts::default()).unwrap();
    let shared = writer.shared();
    let mut archiver = archiver;
    let why = loop {
        let seq = writer.next_seq();
        let payload = payload(seq);
        let frame = Frame { ts: seq, kind: 0x101, schema: 1, lane: 0, ext: &[], payload: &payload };
        match writer.append(&frame) {
            Ok(_) => {}
            Err(AppendError::NotReady) => {
                keeper.turn();
                archiver.turn().unwrap();
            }
            Err(why) => break why,
        }
    };
    assert_eq!(why, AppendError::Failed);
    let Status::Failed(failure) = shared.status() else { panic!("{:?}", shared.status()) };
    assert_eq!(failure.kind, FailureKind::NoSpace);
    for part in
        ["the hot ring is full: 4 segments of 65536 bytes", "the archiver waits", "disk full"]
    {
        assert!(failure.message.contains(part), "{}", failure.message);
    }
    // The halt sequence has its reserve, and the archive gets everything once there is room.
    writer.use_halt_reserve();
    let seq = writer.next_seq();
    let last = payload(seq);
    let frame = Frame { ts: 0, kind: 0x101, schema: 1, lane: 0, ext: &[], payload: &last };
    assert_eq!(writer.append(&frame), Ok(seq));
    more.store(true, Ordering::Release);
    end(writer, keeper, archiver);
    assert_sound(&place.dir(), seq);
}

#[test]
fn a_small_disk_is_a_state_not_a_signal() {
    let mount = tempfile::tempdir().unwrap();
    let mounted = Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=300k", "tmpfs"])
        .arg(mount.path())
        .output()
        .is_ok_and(|it| it.status.success());
    if !mounted {
        println!("skipped: cannot mount a tmpfs");
        return;
    }
    let outcome = std::panic::catch_unwind(|| {
        let place = Place::new();
        let dir = mount.path().join("archive");
        let mut archiver = Archiver::open(ArchiveOptions::new(&dir, place.ring())).unwrap();
        let (mut writer, mut keeper, _) =
            create(&dir, &place.options(), RunFacts::default()).unwrap();
        let last = 2_000;
        let mut grown = false;
        while writer.next_seq() <= last {
            let seq = writer.next_seq();
            let payload = payload(seq);
            let frame =
                Frame { ts: seq, kind: 0x101, schema: 1, lane: 0, ext: &[], payload: &payload };
            if writer.append(&frame).is_err() {
                assert_ne!(keeper.turn(), Turn::Failed);
                archiver.turn().unwrap();
            }
            if !grown && matches!(archiver.progress().state, ArchiverState::Full(_)) {
                grown = true;
                let remounted = Command::new("mount")
                    .args(["-o", "remount,size=4m"])
                    .arg(mount.path())
                    .status();
                assert!(remounted.unwrap().success());
            }
        }
        assert!(grown, "the disk was never full");
        end(writer, keeper, archiver);
        assert_sound(&dir, last);
    });
    Command::new("umount").arg(mount.path()).output().unwrap();
    outcome.unwrap();
}

#[test]
fn memory_that_changes_in_the_ring_is_noticed_before_it_is_archived() {
    let place = Place::new();
    let mut archiver = Archiver::open(place.archive()).unwrap();
    let (mut writer, mut keeper, _) = place.open();
    put_events(&mut writer, &mut keeper, 100);
    settle(&mut archiver, &mut keeper).unwrap();
    let (_, from) = writer.shared().position();
    put_events(&mut writer, &mut keeper, 100);
    let slot = fs::OpenOptions::new().read(true).write(true).open(place.ring().join("slot-00"));
    let slot = slot.unwrap();
    let mut byte = [0];
    slot.read_exact_at(&mut byte, from + 1_000).unwrap();
    slot.write_all_at(&[byte[0] ^ 0x10], from + 1_000).unwrap();
    let bad = loop {
        match archiver.turn().and_then(|_| archiver.flush()) {
            Ok(()) => {}
            Err(bad) => break bad,
        }
    };
    let said = bad.to_string();
    assert!(said.contains("slot-00") && said.contains("checksum"), "{said}");
    assert!(said.contains("run 1 segment 1 offset"), "{said}");
    for _ in 0..200 {
        keeper.turn();
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    let state = keeper.shared().archiver();
    assert_eq!(state, Some(ArchiverState::Failed(said)));
    assert!(keeper.shared().durable_lag_ns() > 0);
    assert!(keeper.shared().durable_seq() >= 100, "what was archived before stays so");
}

#[test]
fn a_write_that_a_kill_cut_short_is_no_damage_and_is_written_again() {
    let place = Place::new();
    let options = Options { segment_bytes: 256 << 10, ..place.options() };
    let mut archiver = Archiver::open(place.archive()).unwrap();
    let (mut writer, mut keeper, _) = create(&place.dir(), &options, RunFacts::default()).unwrap();
    put_events(&mut writer, &mut keeper, 100);
    settle(&mut archiver, &mut keeper).unwrap();
    drop(archiver);
    let (_, from) = writer.shared().position();
    put_events(&mut writer, &mut keeper, 800);
    let (segment, to) = writer.shared().position();
    assert!(segment == 1 && to - from > 70_000, "longer than any frame: {from} to {to}");
    // All of a batch but its first commit word, as the archiver writes it.
    let slot = fs::read(place.ring().join("slot-00")).unwrap();
    let file = place.dir().join("seg/00000001-000000000001.jnl");
    let at = |it: u64| usize::try_from(it).unwrap();
    let open = fs::OpenOptions::new().write(true).open(&file).unwrap();
    open.write_all_at(&slot[at(from) + 4..at(to)], from + 4).unwrap();
    let found = verify(&place.dir()).unwrap();
    assert!(!found.is_damaged(), "{:#?}", found.findings);
    assert_eq!(found.events, 100);
    end(writer, keeper, Archiver::open(place.archive()).unwrap());
    assert_sound(&place.dir(), 900);
}

#[test]
fn a_ring_that_is_gone_without_a_reboot_is_a_loss_to_be_accepted() {
    let place = Place::new();
    let mut archiver = Archiver::open(place.archive()).unwrap();
    let (mut writer, mut keeper, _) = place.open();
    put(&mut writer, &mut keeper, &mut archiver, 400);
    settle(&mut archiver, &mut keeper).unwrap();
    drop(archiver);
    put_events(&mut writer, &mut keeper, 50);
    drop((writer, keeper));
    fs::remove_dir_all(place.ring()).unwrap();
    for _ in 0..2 {
        let Err(Error::Refused { report, .. }) = Archiver::open(place.archive()) else {
            panic!("a lost ring is no clean start");
        };
        assert_eq!(report.verdict, Verdict::HotLost);
        assert!(recover(&place.dir(), Mode::TolerateTornTail, false).is_err());
    }
    let report = recover(&place.dir(), Mode::TolerateTornTail, true).unwrap();
    assert_eq!((report.verdict, report.kept), (Verdict::Cut, Some((1, 400))));
    assert_sound(&place.dir(), 400);
    drop(Archiver::open(place.archive()).unwrap());
}

/// The ring's page is there, but a slot of it is not: the one that is copied, or one behind it.
#[test]
fn a_slot_that_is_gone_is_a_loss_to_be_accepted() {
    for slot in ["slot-00", "slot-01"] {
        let place = Place::new();
        let mut archiver = Archiver::open(place.archive()).unwrap();
        let (mut writer, mut keeper, _) = place.open();
        put(&mut writer, &mut keeper, &mut archiver, 50);
        settle(&mut archiver, &mut keeper).unwrap();
        drop(archiver);
        let shared = writer.shared();
        while shared.rolls() == 0 {
            put_events(&mut writer, &mut keeper, 1);
        }
        put_events(&mut writer, &mut keeper, 20);
        drop((writer, keeper));
        fs::remove_file(place.ring().join(slot)).unwrap();
        for _ in 0..2 {
            let refused = match Archiver::open(place.archive()) {
                Ok(mut archiver) => loop {
                    if let Err(bad) = archiver.turn() {
                        break bad;
                    }
                    assert!(!archiver.is_caught_up(), "{slot}: it caught up without it");
                },
                Err(bad) => bad,
            };
            let Error::Refused { report, .. } = &refused else { panic!("{slot}: {refused}") };
            assert_eq!(report.verdict, Verdict::HotLost);
            assert!(report.reason.contains(slot), "{}", report.reason);
            assert!(recover(&place.dir(), Mode::TolerateTornTail, false).is_err());
        }
        let report = recover(&place.dir(), Mode::TolerateTornTail, true).unwrap();
        let (first, last) = report.kept.unwrap();
        assert!(first == 1 && last >= 50, "{slot}: {report:?}");
        assert_sound(&place.dir(), last);
        // And the next run begins behind the cut, in the same ring.
        let archiver = Archiver::open(place.archive()).unwrap();
        let (mut writer, mut keeper, opened) = place.open();
        assert_eq!(opened.first_seq, last + 1);
        put_events(&mut writer, &mut keeper, 10);
        end(writer, keeper, archiver);
        assert_sound(&place.dir(), last + 10);
    }
}

#[test]
fn a_ring_of_another_journal_is_refused() {
    let (place, other) = (Place::new(), Place::new());
    let archiver = Archiver::open(place.archive()).unwrap();
    let (mut writer, mut keeper, _) = place.open();
    put_events(&mut writer, &mut keeper, 10);
    end(writer, keeper, archiver);
    let mut archiver = Archiver::open(other.archive()).unwrap();
    for run in 0..2 {
        let (mut writer, mut keeper, _) = other.open();
        put(&mut writer, &mut keeper, &mut archiver, 10);
        if run == 1 {
            drop((writer, keeper)); // run 2 stays in the ring
            break;
        }
        end(writer, keeper, archiver);
        archiver = Archiver::open(other.archive()).unwrap();
    }
    drop(archiver);
    let mixed = ArchiveOptions::new(place.dir(), other.ring());
    let mut archiver = Archiver::open(mixed).unwrap();
    let refused = archiver.turn().unwrap_err();
    assert!(matches!(refused, Error::Foreign { .. }), "{refused}");
    assert_sound(&place.dir(), 10);
}
