//! No damage goes unnoticed, and none makes a wrong frame pass.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use kairos_journal::{
    Class, Error, Frame, Journal, Mode, Options, Recovery, Report, RunFacts, SegmentState, Verdict,
    create, recover, recover_with, salvage, verify,
};

use crate::common::{
    assert_holds, copy, end as end_run, events, files, open, payload, put_events, run, settle, tiny,
};

fn is_noticed(dir: &Path) -> bool {
    match verify(dir) {
        Ok(found) => found.is_damaged(),
        Err(bad) => bad.class() == Class::Damaged,
    }
}

/// Changes one byte in place, looks, and changes it back.
fn with_flip<T>(file: &Path, at: u64, mask: u8, look: impl FnOnce() -> T) -> T {
    let file = OpenOptions::new().read(true).write(true).open(file).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ mask], at).unwrap();
    let seen = look();
    file.write_all_at(&byte, at).unwrap();
    seen
}

/// Reading a damaged journal gives a prefix of the truth, then an error or an end; never another
/// event.
fn assert_reads_truth(dir: &Path) {
    let Ok(journal) = Journal::open(dir) else { return };
    let mut reader = journal.reader();
    let mut expected = 1;
    while let Ok(Some(frame)) = reader.next() {
        if !frame.is_physical() {
            assert_eq!((frame.seq, frame.payload), (expected, &payload(expected)[..]));
            expected += 1;
        }
    }
}

/// A journal of two segments, ended; the directory and its segments.
fn ended() -> (tempfile::TempDir, Vec<PathBuf>) {
    let dir = tempfile::tempdir().unwrap();
    run(dir.path(), 430);
    let segments = files(&dir.path().join("seg"));
    assert_eq!(segments.len(), 2);
    assert!(!is_noticed(dir.path()));
    (dir, segments)
}

/// A journal of two segments, killed in the second; everything is durable but the last 40 events.
fn killed() -> (tempfile::TempDir, Vec<PathBuf>, u64) {
    let dir = tempfile::tempdir().unwrap();
    let (mut writer, mut keeper, _) = open(dir.path());
    put_events(&mut writer, &mut keeper, 400);
    settle(&mut writer, &mut keeper);
    put_events(&mut writer, &mut keeper, 40);
    let (segment, offset) = writer.shared().position();
    assert_eq!(segment, 2);
    drop((writer, keeper));
    let segments = files(&dir.path().join("seg"));
    (dir, segments, offset)
}

#[test]
fn every_flipped_byte_of_an_ended_journal_is_noticed() {
    let (original, _) = ended();
    std::thread::scope(|scope| {
        for half in 0..2 {
            let dir = copy(original.path());
            scope.spawn(move || {
                for file in files(dir.path()) {
                    let len = fs::metadata(&file).unwrap().len();
                    for at in (half..len).step_by(2) {
                        let mask = 1 << (at % 8);
                        let noticed = with_flip(&file, at, mask, || is_noticed(dir.path()));
                        assert!(noticed, "{} offset {at}", file.display());
                    }
                }
                assert!(!is_noticed(dir.path()), "the test left damage of its own");
            });
        }
    });
}

#[test]
fn every_flipped_byte_below_the_last_frame_of_a_killed_journal_is_noticed() {
    let (original, segments, end) = killed();
    assert!(!is_noticed(original.path()));
    let name = segments[1].file_name().unwrap(); // the first one is sealed, as in the test above
    std::thread::scope(|scope| {
        for half in 0..2 {
            let dir = copy(original.path());
            scope.spawn(move || {
                let file = dir.path().join("seg").join(name);
                for at in (half..end).step_by(2) {
                    let mask = 1 << (at % 8);
                    let noticed = with_flip(&file, at, mask, || is_noticed(dir.path()));
                    assert!(noticed, "offset {at}");
                }
            });
        }
    });
}

#[test]
fn recovery_refuses_a_flip_on_the_same_boot_and_repeats_itself() {
    let (original, segments, end) = killed();
    let name = segments[1].file_name().unwrap();
    for at in (0..end).step_by(61) {
        let dir = copy(original.path());
        let file = dir.path().join("seg").join(name);
        let verdict = |mode, accept| recover(dir.path(), mode, accept);
        with_flip(&file, at, 0x20, || {
            for _ in 0..2 {
                let refused = verdict(Mode::TolerateTornTail, false).expect_err("damage");
                assert_eq!(refused.class(), Class::Damaged, "offset {at}: {refused}");
            }
            assert_reads_truth(dir.path());
        });
        // Nothing was written by the refusals.
        assert_eq!(verdict(Mode::TolerateTornTail, false).unwrap().verdict, Verdict::Crashed);
        assert_holds(dir.path(), 440);
    }
}

#[test]
fn a_damaged_journal_does_not_start() {
    let (dir, _) = ended();
    for file in files(dir.path()) {
        let len = fs::metadata(&file).unwrap().len();
        for at in (0..len).step_by(97) {
            with_flip(&file, at, 1 << (at % 8), || {
                let started = create(dir.path(), &tiny(), RunFacts::default());
                let refused = started.err().unwrap_or_else(|| panic!("{} {at}", file.display()));
                assert_eq!(refused.class(), Class::Damaged, "{} {at}: {refused}", file.display());
            });
        }
    }
    assert!(!is_noticed(dir.path()), "a refused start leaves the journal as it was");
    run(dir.path(), 10);
    assert_holds(dir.path(), 440);
}

#[test]
fn loss_that_the_operator_accepts_leaves_a_whole_journal() {
    let (original, segments) = ended();
    let name = |run: u64| format!("run-{run:08}.json");
    let second = Path::new("seg").join(segments[1].file_name().unwrap());
    for file in [Path::new("durable"), Path::new(&name(1))] {
        let dir = copy(original.path());
        fs::write(dir.path().join(file), b"nonsense").unwrap();
        assert!(recover(dir.path(), Mode::PointInTime, false).is_err(), "{}", file.display());
        recover(dir.path(), Mode::PointInTime, true).unwrap();
        assert!(!is_noticed(dir.path()), "{:#?}", verify(dir.path()).unwrap().findings);
        assert_holds(dir.path(), 430);
    }
    // What is sealed is never cut in place: that is salvage's business.
    let dir = copy(original.path());
    with_flip(&dir.path().join(second), 9000, 1, || {
        assert!(recover(dir.path(), Mode::PointInTime, true).is_err());
    });
}

#[test]
fn truncation_at_any_length_is_noticed() {
    let (original, segments) = ended();
    let name = segments[1].file_name().unwrap();
    let dir = copy(original.path());
    let path = dir.path().join("seg").join(name);
    let whole = fs::read(&path).unwrap();
    let lens = (0..whole.len()).step_by(509).chain([1, 4095, 4096, 8191, 8192, whole.len() - 1]);
    for len in lens {
        fs::write(&path, &whole[..len]).unwrap();
        assert!(is_noticed(dir.path()), "{len} bytes");
        let refused = recover(dir.path(), Mode::TolerateTornTail, false).expect_err("truncated");
        assert_eq!(refused.class(), Class::Damaged, "{len} bytes: {refused}");
        assert_reads_truth(dir.path());
    }
    fs::write(&path, [&whole[..], &[0]].concat()).unwrap();
    assert!(is_noticed(dir.path()), "one byte too many");
}

#[test]
fn swapped_pages_and_pasted_frames_are_noticed() {
    let (original, segments) = ended();
    let first = fs::read(&segments[0]).unwrap();
    let second = fs::read(&segments[1]).unwrap();
    let foreign = {
        let (other, segments) = ended();
        let bytes = fs::read(&segments[0]).unwrap();
        drop(other);
        bytes
    };
    let check = |what: &str, bytes: &[u8]| {
        if bytes == first {
            return;
        }
        let dir = copy(original.path());
        fs::write(dir.path().join("seg").join(segments[0].file_name().unwrap()), bytes).unwrap();
        assert!(is_noticed(dir.path()), "{what}");
        assert_reads_truth(dir.path());
    };
    for page in 0..16 {
        let at = page * 4096..(page + 1) * 4096;
        let next = (page + 1) % 16 * 4096..((page + 1) % 16 + 1) * 4096;
        let mut bytes = first.clone();
        bytes[at.clone()].copy_from_slice(&first[next.clone()]);
        bytes[next].copy_from_slice(&first[at.clone()]);
        check("swapped", &bytes);
        for (what, other) in [("stale", &second), ("foreign", &foreign)] {
            let mut bytes = first.clone();
            bytes[at.clone()].copy_from_slice(&other[at.clone()]);
            check(what, &bytes);
        }
        let mut bytes = first.clone();
        bytes[at].fill(0);
        check("zeroed", &bytes);
    }
    check("foreign segment", &foreign);
    check("another segment", &second);
}

#[test]
fn missing_doubled_and_renamed_segments_are_noticed() {
    let (original, _) = ended();
    let name = |run: u64, segment: u64| format!("seg/{run:08}-{segment:012}.jnl");
    type Harm<'a> = &'a dyn Fn(&Path);
    let cases: [(&str, Harm<'_>); 7] = [
        ("first missing", &|dir| fs::remove_file(dir.join(name(1, 1))).unwrap()),
        ("last missing", &|dir| fs::remove_file(dir.join(name(1, 2))).unwrap()),
        ("renamed", &|dir| fs::rename(dir.join(name(1, 2)), dir.join(name(1, 3))).unwrap()),
        ("other run", &|dir| fs::rename(dir.join(name(1, 2)), dir.join(name(2, 2))).unwrap()),
        ("doubled", &|dir| {
            fs::copy(dir.join(name(1, 2)), dir.join(name(1, 3))).unwrap();
        }),
        ("no watermark", &|dir| fs::remove_file(dir.join("durable")).unwrap()),
        ("no manifest", &|dir| fs::remove_file(dir.join("run-00000001.json")).unwrap()),
    ];
    for (what, harm) in cases {
        let dir = copy(original.path());
        harm(dir.path());
        assert!(is_noticed(dir.path()), "{what}");
        assert_reads_truth(dir.path());
    }
}

/// The newest history is gone, and what is left is in order: only the manifest can tell.
#[test]
fn a_reader_does_not_take_a_journal_without_its_end_for_whole() {
    let (original, _) = ended();
    let read = |dir: &Path| {
        let mut reader = Journal::open(dir).unwrap().reader();
        loop {
            match reader.next() {
                Ok(Some(_)) => {}
                Ok(None) => return None,
                Err(error) => return Some(error.to_string()),
            }
        }
    };
    assert_eq!(read(original.path()), None);
    for gone in [&["seg/00000001-000000000002.jnl"][..], &["seg"][..]] {
        let dir = copy(original.path());
        for it in gone {
            let path = dir.path().join(it);
            if path.is_dir() {
                for file in files(&path) {
                    fs::remove_file(file).unwrap();
                }
            } else {
                fs::remove_file(path).unwrap();
            }
        }
        let said = read(dir.path()).unwrap_or_default();
        assert!(
            said.contains("ended at seq 430") && said.contains("missing"),
            "{gone:?}: {said:?}"
        );
    }
}

fn on_another_boot(dir: &Path, mode: Mode, accept_loss: bool) -> Result<Report, Error> {
    let boot_id = Some([9; 16]);
    recover_with(dir, &Recovery { mode, accept_loss, verify_bytes: u64::MAX, boot_id })
}

/// Recovers twice and checks that the second time changes nothing.
fn recover_twice(dir: &Path, expected: Verdict, last_seq: u64) -> Report {
    let first = on_another_boot(dir, Mode::TolerateTornTail, false).unwrap();
    assert_eq!(first.verdict, expected, "{}", first.reason);
    let before: Vec<_> = files(dir).into_iter().map(|file| fs::read(file).unwrap()).collect();
    let second = on_another_boot(dir, Mode::TolerateTornTail, false).unwrap();
    assert_eq!((second.verdict, second.already_sealed), (expected, true), "{}", second.reason);
    let after: Vec<_> = files(dir).into_iter().map(|file| fs::read(file).unwrap()).collect();
    assert!(before == after, "the second recovery wrote something");
    assert!(!is_noticed(dir), "{:#?}", verify(dir).unwrap().findings);
    assert_holds(dir, last_seq);
    first
}

#[test]
fn power_loss_with_a_clean_edge_is_a_cut() {
    let (dir, ..) = killed();
    recover_twice(dir.path(), Verdict::Cut, 440);
    // And the next run goes on behind it.
    let (mut writer, mut keeper, opened) = open(dir.path());
    assert_eq!((opened.run, opened.first_seq), (2, 441));
    put_events(&mut writer, &mut keeper, 300);
    end_run(writer, keeper);
    assert_holds(dir.path(), 740);
    assert!(verify(dir.path()).unwrap().findings.is_empty());
}

#[test]
fn power_loss_with_a_hole_is_torn_and_counts_what_survived() {
    let (dir, segments, _) = killed();
    // Event 430 lost its bytes; 431..=440 are whole behind the hole.
    let mut reader = Journal::open(dir.path()).unwrap().reader_from(430).unwrap();
    let (offset, size) = {
        let frame = reader.next().unwrap().unwrap();
        (frame.offset, 32 + frame.payload.len() as u64)
    };
    let file = OpenOptions::new().write(true).open(&segments[1]).unwrap();
    file.write_all_at(&vec![0; usize::try_from(size).unwrap()], offset).unwrap();
    let report = recover_twice(dir.path(), Verdict::Torn, 429);
    assert_eq!((report.later_frames, report.later_last_seq), (9, Some(440)));
    let torn = dir.path().join(report.torn_file.unwrap());
    assert!(with_flip(&torn, 3, 1, || is_noticed(dir.path())), "a flip in the saved tail");
    let report = dir.path().join("recovery-00000001.json");
    assert!(with_flip(&report, 30, 1, || is_noticed(dir.path())), "a flip in the report");
    let (mut writer, mut keeper, opened) = open(dir.path());
    assert_eq!(opened.first_seq, 430);
    put_events(&mut writer, &mut keeper, 5);
    end_run(writer, keeper);
    assert_holds(dir.path(), 434);
    assert!(!is_noticed(dir.path()));
}

#[test]
fn segments_behind_a_hole_are_set_aside() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options { ready_min: 3, ..tiny() };
    let (mut writer, mut keeper, _) = create(dir.path(), &options, RunFacts::default()).unwrap();
    while keeper.shared().prepared() < 3 {
        keeper.turn();
    }
    let mut first_of_second = 0;
    while writer.shared().position().0 < 3 {
        let payload = payload(writer.next_seq());
        let frame = Frame { ts: 0, kind: 0x101, schema: 1, lane: 0, ext: &[], payload: &payload };
        let seq = writer.append(&frame).unwrap();
        if first_of_second == 0 && writer.shared().position().0 == 2 {
            first_of_second = seq;
        }
    }
    let last = writer.shared().committed_seq();
    drop((writer, keeper)); // nothing is sealed, nothing is durable, three segments are in use
    // The host dies: the last frame of segment 1, its SEG_END, is lost.
    let path = dir.path().join("seg/00000001-000000000001.jnl");
    let mut bytes = fs::read(&path).unwrap();
    let end = bytes.iter().rposition(|it| *it != 0).unwrap() / 32 * 32;
    bytes[end..].fill(0);
    fs::write(&path, bytes).unwrap();
    let report = recover_twice(dir.path(), Verdict::Torn, first_of_second - 1);
    assert!(report.later_frames > 300);
    assert_eq!(report.later_last_seq, Some(last));
    let (mut writer, mut keeper, opened) = open(dir.path());
    assert_eq!((opened.run, opened.first_seq), (2, first_of_second));
    put_events(&mut writer, &mut keeper, 500);
    end_run(writer, keeper);
    assert_holds(dir.path(), first_of_second + 499);
    assert!(!is_noticed(dir.path()), "{:#?}", verify(dir.path()).unwrap().findings);
    let states: Vec<_> = Journal::open(dir.path()).unwrap().segments().unwrap();
    let states: Vec<_> = states.iter().take(4).map(|it| it.state).collect();
    let aside = SegmentState::Quarantined;
    assert_eq!(states, [SegmentState::CrashSealed, aside, aside, SegmentState::Sealed]);
}

#[test]
fn power_loss_below_the_watermark_is_refused_unless_loss_is_accepted() {
    let (dir, segments, _) = killed();
    let mut reader = Journal::open(dir.path()).unwrap().reader_from(390).unwrap();
    let offset = reader.next().unwrap().unwrap().offset;
    let file = OpenOptions::new().write(true).open(&segments[1]).unwrap();
    file.write_all_at(&[0; 32], offset).unwrap();
    for mode in [Mode::TolerateTornTail, Mode::Absolute, Mode::PointInTime] {
        let refused = on_another_boot(dir.path(), mode, false).expect_err("durable data is gone");
        assert!(refused.to_string().contains("CORRUPT"), "{refused}");
    }
    let report = on_another_boot(dir.path(), Mode::PointInTime, true).unwrap();
    assert_eq!(report.verdict, Verdict::Corrupt);
    assert_holds(dir.path(), 389);
    // The operator has decided: the next start does not ask again.
    run(dir.path(), 300);
    assert_holds(dir.path(), 689);
    assert!(!is_noticed(dir.path()), "{:#?}", verify(dir.path()).unwrap().findings);
}

#[test]
fn recovery_names_the_segment_that_is_damaged_and_not_the_one_behind_it() {
    let (dir, segments) = ended();
    for file in &segments {
        let refused = with_flip(file, 9_000, 0x40, || {
            recover(dir.path(), Mode::TolerateTornTail, false).unwrap_err()
        });
        let name = file.file_name().unwrap().to_str().unwrap();
        assert!(refused.to_string().contains(&format!("{name}: run 1 ")), "{refused}");
    }
}

#[test]
fn salvage_loses_no_more_than_what_is_broken() {
    let (original, segments) = ended();
    let mut reader = Journal::open(original.path()).unwrap().reader_from(100).unwrap();
    let offset = reader.next().unwrap().unwrap().offset;
    for (at, lost) in [(offset + 40, 1), (offset + 5, 2), (offset, 2), (20, 0)] {
        let dir = copy(original.path());
        let file = dir.path().join("seg").join(segments[0].file_name().unwrap());
        let out = tempfile::tempdir().unwrap();
        let salvaged = with_flip(&file, at, 0x40, || salvage(dir.path(), out.path()).unwrap());
        assert!(430 - salvaged.events <= lost + u64::from(at == 20), "offset {at}: {salvaged:?}");
        assert!(!is_noticed(out.path()), "{:#?}", verify(out.path()).unwrap().findings);
        for (seq, _, _, found) in events(out.path()) {
            assert_eq!(found, payload(seq));
        }
    }
}

#[test]
fn arbitrary_bytes_never_panic() {
    let (original, segments) = ended();
    let whole = fs::read(&segments[0]).unwrap();
    let mut random = 0x1234_5678_9abc_def0_u64;
    for round in 0..60 {
        let dir = copy(original.path());
        let mut bytes = whole.clone();
        for _ in 0..=round {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let at = usize::try_from(random >> 32).unwrap() % bytes.len();
            let to = (at + 1 + usize::try_from(random & 63).unwrap()).min(bytes.len());
            bytes[at..to].fill(random.to_le_bytes()[5]);
        }
        fs::write(dir.path().join("seg").join(segments[0].file_name().unwrap()), &bytes).unwrap();
        assert!(bytes == whole || is_noticed(dir.path()));
        assert_reads_truth(dir.path());
        let out = tempfile::tempdir().unwrap();
        salvage(dir.path(), out.path()).unwrap();
        for (seq, _, _, found) in events(out.path()) {
            assert_eq!(found, payload(seq));
        }
    }
}
