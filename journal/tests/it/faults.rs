//! A disk that fails once and then claims to work again, and a disk that is full.

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use kairos_journal::{
    AppendError, DiskStep, Error, FailureKind, Faults, Frame, Journal, Keeper, Mode, Options,
    RunFacts, Shared, Status, Turn, Verdict, Writer, create, recover, verify,
};

use crate::common::{assert_holds, payload, tiny};

/// A disk whose `nth` step of a kind fails, and none after it. Remembers what was durable then.
#[derive(Default)]
struct Once {
    asked: AtomicU64,
    shared: OnceLock<Arc<Shared>>,
    durable_then: OnceLock<u64>,
}

impl Once {
    fn faults(self: &Arc<Once>, which: DiskStep, nth: u64, full_from: Option<u64>) -> Faults {
        let (this, allocated) = (Arc::clone(self), AtomicU64::new(0));
        Faults::for_tests(move |step| {
            if step == DiskStep::Allocate {
                let count = allocated.fetch_add(1, Ordering::Relaxed) + 1;
                let full = full_from.is_some_and(|it| it <= count);
                return if full { Err(io::Error::from_raw_os_error(28)) } else { Ok(()) }; // ENOSPC
            }
            if step != which || this.asked.fetch_add(1, Ordering::Relaxed) + 1 != nth {
                return Ok(());
            }
            let durable = this.shared.get().map_or(0, |it| it.durable_seq());
            this.durable_then.set(durable).unwrap();
            Err(io::Error::from_raw_os_error(5)) // EIO
        })
    }
}

fn start(dir: &Path, faults: Faults) -> (Writer, Keeper) {
    let options = Options { faults, flush_interval_ms: 1, flush_bytes: 4096, ..tiny() };
    let (writer, keeper, _) = create(dir, &options, RunFacts::default()).unwrap();
    (writer, keeper)
}

/// Appends the next event of `assert_holds`; `false` where there is no room.
fn put(writer: &mut Writer) -> bool {
    let payload = payload(writer.next_seq());
    let frame = Frame { ts: 0, kind: 0x101, schema: 1, lane: 0, ext: &[], payload: &payload };
    match writer.append(&frame) {
        Ok(_) => true,
        Err(AppendError::NotReady | AppendError::Failed) => false,
        Err(why) => panic!("{why}"),
    }
}

/// Whatever the keeper is asked after a failed sync, nothing more is durable; nothing is lost either.
fn fails_for_good(which: DiskStep, nth: u64, full_from: Option<u64>) {
    let case = format!("{which:?} {nth}, full from {full_from:?}");
    let dir = tempfile::tempdir().unwrap();
    let disk = Arc::<Once>::default();
    let (mut writer, mut keeper) = start(dir.path(), disk.faults(which, nth, full_from));
    let shared = writer.shared();
    disk.shared.set(Arc::clone(&shared)).unwrap();
    let mut turns = 0;
    while disk.durable_then.get().is_none() {
        put(&mut writer);
        writer.tend();
        keeper.turn();
        turns += 1;
        assert!(turns < 1_000_000, "{case}: no such step");
    }
    let durable = disk.durable_then.get().copied().unwrap();
    for _ in 0..3_000 {
        put(&mut writer);
        writer.tend();
        assert_eq!(keeper.turn(), Turn::Failed, "{case}");
        assert_eq!(shared.durable_seq(), durable, "{case}");
    }
    assert!(shared.is_lost() && shared.has_failed(), "{case}");
    let Status::Failed(failure) = shared.status() else { panic!("{case}") };
    assert_eq!(failure.kind, FailureKind::Io, "{case}");
    let last = shared.committed_seq();
    assert!(durable < last, "{case}: {durable} of {last}");
    let claimed = Journal::open(dir.path()).unwrap().watermark().unwrap().unwrap().seq;
    // A watermark whose own sync failed may or may not be on the disk; nobody was told of it.
    let bound = if which == DiskStep::Watermark { last } else { durable };
    assert!(claimed <= bound, "{case}: {claimed} claimed, {durable} durable");
    let ended = writer.end_run(0, b"");
    assert_eq!(shared.durable_seq(), durable, "{case}");
    assert!(matches!(keeper.finish(), Err(Error::NotEnded { .. })), "{case}");
    assert_eq!(shared.durable_seq(), durable, "{case}");
    drop(ended);
    // The host lives: its page cache has everything that was committed.
    let report = recover(dir.path(), Mode::default(), false).unwrap();
    assert!(matches!(report.verdict, Verdict::Crashed | Verdict::Clean), "{case}: {report:?}");
    assert_holds(dir.path(), last);
    assert!(!verify(dir.path()).unwrap().is_damaged(), "{case}");
}

#[test]
fn after_a_failed_sync_nothing_more_is_ever_durable() {
    for nth in 1..=16 {
        fails_for_good(DiskStep::Sync, nth, None);
        fails_for_good(DiskStep::Watermark, nth, None);
    }
}

/// A full disk leaves the keeper flushing; a sync that fails then is as final as any.
#[test]
fn a_failed_sync_on_a_full_disk_is_final_too() {
    for nth in 2..=7 {
        for which in [DiskStep::Sync, DiskStep::Watermark] {
            fails_for_good(which, nth, Some(2));
        }
    }
}

#[test]
fn on_a_full_disk_the_reserve_takes_the_halt_sequence_and_the_run_is_closed() {
    let dir = tempfile::tempdir().unwrap();
    let disk = Arc::<Once>::default();
    let (mut writer, mut keeper) = start(dir.path(), disk.faults(DiskStep::Sync, 0, Some(3)));
    let shared = writer.shared();
    while writer.ready() || !shared.has_failed() {
        put(&mut writer);
        writer.tend();
        keeper.turn();
    }
    assert!(!shared.is_lost());
    let before = writer.free();
    writer.use_halt_reserve();
    let reserve = writer.free() - before;
    assert!((4_096..16 << 10).contains(&reserve), "{reserve} bytes of reserve");
    let first = writer.next_seq();
    while writer.ready() {
        assert!(put(&mut writer));
    }
    assert!(writer.next_seq() > first, "the reserve takes frames");
    let last = writer.next_seq() - 1;
    // What is in the reserve becomes durable like anything else.
    writer.end_run(0, b"full").map_err(|(_, why)| why).unwrap();
    keeper.finish().unwrap();
    assert_eq!(shared.durable_seq(), last);
    assert_eq!(recover(dir.path(), Mode::Absolute, false).unwrap().verdict, Verdict::Clean);
    assert_holds(dir.path(), last);
    assert!(verify(dir.path()).unwrap().findings.is_empty());
}
