//! Small journals, and the one way of writing and reading them.

use std::fs;
use std::path::{Path, PathBuf};

use kairos_journal::{
    AppendError, Frame, Journal, Keeper, Opened, Options, RunFacts, Turn, Writer, create,
};

/// An event as the tests see it: `seq`, type, stamps, payload.
pub(crate) type Event = (u64, u16, Vec<u64>, Vec<u8>);

/// Segments of 64 KiB, no populated pages, no waiting.
pub(crate) fn tiny() -> Options {
    Options {
        segment_bytes: 64 << 10,
        allow_tiny_segments_for_tests: true,
        frame_max: 4096,
        ready_min: 1,
        not_ready_spin_us: 0,
        halt_reserve_bytes: 4096,
        populate: false,
        ..Options::default()
    }
}

pub(crate) fn open(dir: &Path) -> (Writer, Keeper, Opened) {
    create(dir, &tiny(), RunFacts::default()).unwrap()
}

/// The payload of event `seq`: of varying length, and telling whose it is.
pub(crate) fn payload(seq: u64) -> Vec<u8> {
    let len = usize::try_from(seq.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56).unwrap();
    (0..len).map(|at| seq.to_le_bytes()[at % 8] ^ at.to_le_bytes()[0]).collect()
}

/// Appends, and turns the keeper while no segment is ready.
pub(crate) fn put(writer: &mut Writer, keeper: &mut Keeper, frame: &Frame<'_>) -> u64 {
    loop {
        match writer.append(frame) {
            Ok(seq) => return seq,
            Err(AppendError::NotReady) => assert_ne!(keeper.turn(), Turn::Failed),
            Err(why) => panic!("{why}"),
        }
    }
}

/// Appends `count` events whose payload follows from their `seq`.
pub(crate) fn put_events(writer: &mut Writer, keeper: &mut Keeper, count: u64) {
    for _ in 0..count {
        let seq = writer.next_seq();
        let payload = payload(seq);
        let ext = [seq, !seq];
        let ext = &ext[..usize::try_from(seq % 3).unwrap()];
        let frame = Frame { ts: seq * 10, kind: 0x101, schema: 1, lane: 0, ext, payload: &payload };
        assert_eq!(put(writer, keeper, &frame), seq);
    }
}

/// A whole run of `count` events.
pub(crate) fn run(dir: &Path, count: u64) {
    let (mut writer, mut keeper, _) = open(dir);
    put_events(&mut writer, &mut keeper, count);
    end(writer, keeper);
}

pub(crate) fn end(writer: Writer, keeper: Keeper) {
    writer.end_run(0, b"end").map_err(|(_, why)| why).unwrap();
    keeper.finish().unwrap();
}

/// Everything committed is durable, and every left segment sealed.
pub(crate) fn settle(writer: &mut Writer, keeper: &mut Keeper) {
    let shared = keeper.shared();
    for _ in 0..1_000_000 {
        writer.tend();
        assert_ne!(keeper.turn(), Turn::Failed);
        if shared.durable_seq() == shared.committed_seq() {
            return;
        }
    }
    panic!("not durable: {} of {}", shared.durable_seq(), shared.committed_seq());
}

/// All events of the journal, in order.
pub(crate) fn events(dir: &Path) -> Vec<Event> {
    let mut reader = Journal::open(dir).unwrap().reader();
    let mut events = Vec::new();
    while let Some(frame) = reader.next().unwrap() {
        if !frame.is_physical() {
            events.push((frame.seq, frame.kind, frame.ext().to_vec(), frame.payload.to_vec()));
        }
    }
    events
}

/// Checks that `dir` holds exactly the events 1..=`last` of [`put_events`].
pub(crate) fn assert_holds(dir: &Path, last: u64) {
    let events = events(dir);
    assert_eq!(events.len() as u64, last);
    for (at, (seq, _, _, found)) in events.iter().enumerate() {
        assert_eq!((*seq, found), (at as u64 + 1, &payload(*seq)));
    }
}

/// Every file of the directory, `seg` included, sorted.
pub(crate) fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap().flatten() {
        if entry.path().is_dir() {
            found.extend(files(&entry.path()));
        } else {
            found.push(entry.path());
        }
    }
    found.sort();
    found
}

/// A copy of `dir`, as from a dead host.
pub(crate) fn copy(dir: &Path) -> tempfile::TempDir {
    let to = tempfile::tempdir().unwrap();
    for file in files(dir) {
        let target = to.path().join(file.strip_prefix(dir).unwrap());
        fs::create_dir_all(target.parent().unwrap()).unwrap();
        fs::copy(&file, &target).unwrap();
    }
    to
}
