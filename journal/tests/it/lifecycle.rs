//! Opening, running, following and closing, and everything that refuses to.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use kairos_journal::{
    Anchor, AppendError, Class, Error, FailureKind, Frame, Journal, MARK, Mode, Options, RUN_END,
    RunFacts, RunStatus, SEG_START, Status, TIME_ANCHOR, Turn, Verdict, create, fingerprint,
    recover, verify,
};

use crate::common::{
    assert_holds, copy, end, files, open, payload, put, put_events, run, settle, tiny,
};

#[test]
fn runs_continue_each_other() {
    let dir = tempfile::tempdir().unwrap();
    for (at, count) in [(0, 700), (700, 3), (703, 0), (703, 900)] {
        let (mut writer, mut keeper, opened) = open(dir.path());
        assert_eq!(opened.first_seq, at + 1);
        put_events(&mut writer, &mut keeper, count);
        end(writer, keeper);
        assert_holds(dir.path(), at + count);
        let found = verify(dir.path()).unwrap();
        assert!(found.findings.is_empty(), "{:#?}", found.findings);
        assert_eq!(found.events, at + count);
    }
    let runs = Journal::open(dir.path()).unwrap().runs().unwrap();
    let ends: Vec<_> = runs.iter().map(|it| (it.run, it.status, it.last_seq)).collect();
    let ended = RunStatus::Ended;
    let expected = [
        (1, ended, Some(700)),
        (2, ended, Some(703)),
        (3, ended, Some(703)),
        (4, ended, Some(1603)),
    ];
    assert_eq!(ends, expected);
    assert_eq!(recover(dir.path(), Mode::Absolute, false).unwrap().verdict, Verdict::Clean);
}

#[test]
fn an_ended_run_is_ended_although_a_turn_sealed_it_before_the_keeper_finished() {
    let dir = tempfile::tempdir().unwrap();
    let (mut writer, mut keeper, _) = open(dir.path());
    put_events(&mut writer, &mut keeper, 10);
    writer.end_run(0, b"end").map_err(|(_, why)| why).unwrap();
    while keeper.shared().sealed() == 0 {
        assert_ne!(keeper.turn(), Turn::Failed);
    }
    keeper.finish().unwrap();
    let runs = Journal::open(dir.path()).unwrap().runs().unwrap();
    assert_eq!((runs[0].status, runs[0].last_seq), (RunStatus::Ended, Some(10)));
    assert!(verify(dir.path()).unwrap().findings.is_empty());
}

#[test]
fn fingerprint_ignores_stamps_time_segments_and_runs() {
    let check = |segment_bytes: u64, runs: &[u64], stamp: u64| {
        let dir = tempfile::tempdir().unwrap();
        for count in runs {
            let options = Options { segment_bytes, ..tiny() };
            let (mut writer, mut keeper, _) =
                create(dir.path(), &options, RunFacts::default()).unwrap();
            for _ in 0..*count {
                let payload = payload(writer.next_seq());
                let ext = [stamp];
                let frame = Frame {
                    ts: stamp,
                    kind: 0x102,
                    schema: 1,
                    lane: 0,
                    ext: &ext,
                    payload: &payload,
                };
                put(&mut writer, &mut keeper, &frame);
            }
            end(writer, keeper);
        }
        fingerprint(dir.path()).unwrap()
    };
    let expected = check(64 << 10, &[900], 1);
    assert_eq!(expected.1, 900);
    assert_eq!(check(64 << 10, &[900], 2), expected);
    assert_eq!(check(256 << 10, &[900], 3), expected);
    assert_eq!(check(64 << 10, &[400, 0, 500], 4), expected);
    assert_ne!(check(64 << 10, &[901], 1).0, expected.0);
}

#[test]
fn the_quick_append_writes_the_same_frame() {
    let dir = tempfile::tempdir().unwrap();
    let (mut writer, mut keeper, _) = open(dir.path());
    let payload: [u8; 64] = std::array::from_fn(|at| at.to_le_bytes()[0]);
    for at in 0..2000_u64 {
        while !writer.ready() {
            assert_ne!(keeper.turn(), Turn::Failed);
        }
        let seq = match at % 3 {
            0 => writer.append_fixed((at, 0x101, 2, 3), &[at, at + 1], &payload),
            1 => writer.append_fixed((at, 0x101, 2, 3), &[], &payload),
            _ => writer.append_fixed((at, 0x101, 2, 3), &[at; 4], &[at.to_le_bytes()[0]; 13]),
        };
        assert_eq!(seq, Ok(at + 1));
    }
    let refused = writer.append_fixed((0, SEG_START, 1, 0), &[], &payload);
    assert_eq!(refused, Err(AppendError::Kind(SEG_START)));
    let refused = writer.append_fixed((0, 0x101, 1, 0), &[], &[0; 8192]);
    assert_eq!(refused, Err(AppendError::TooLong { len: 8224, ext_words: 0, max: 4096 }));
    end(writer, keeper);
    assert!(verify(dir.path()).unwrap().findings.is_empty());
    let mut reader = Journal::open(dir.path()).unwrap().reader_from(2).unwrap();
    for at in 1..2000_u64 {
        let frame = loop {
            let frame = reader.next().unwrap().unwrap();
            if !frame.is_physical() {
                break (frame.seq, frame.ts, frame.schema, frame.lane, frame.ext().to_vec());
            }
        };
        let ext = match at % 3 {
            0 => vec![at, at + 1],
            1 => vec![],
            _ => vec![at; 4],
        };
        assert_eq!(frame, (at + 1, at, 2, 3, ext));
    }
}

#[test]
fn an_absent_or_empty_directory_is_an_empty_journal() {
    let dir = tempfile::tempdir().unwrap();
    let absent = dir.path().join("absent");
    assert!(matches!(Journal::open(&absent), Err(Error::Missing { .. })));
    assert!(matches!(verify(&absent), Err(Error::Missing { .. })));
    let found = verify(dir.path()).unwrap();
    assert_eq!((found.findings.len(), found.events), (0, 0));
    let report = recover(dir.path(), Mode::TolerateTornTail, false).unwrap();
    assert_eq!(report.verdict, Verdict::Empty);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0, "looking leaves nothing behind");
    run(&absent, 10);
    assert_holds(&absent, 10);
}

#[test]
fn a_run_killed_before_its_first_event_is_an_empty_journal() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(dir.path()));
    // Also: while the next segment was being prepared.
    fs::write(dir.path().join("seg/00000001-000000000002.tmp"), [0; 100]).unwrap();
    let check = |dir: &Path| {
        let found = verify(dir).unwrap();
        assert!(!found.is_damaged(), "{:#?}", found.findings);
        assert_eq!(found.events, 0);
        assert_eq!(fingerprint(dir).unwrap().1, 0);
    };
    check(dir.path());
    recover(dir.path(), Mode::TolerateTornTail, false).unwrap();
    check(dir.path());
    // Killed even before its first segment was there.
    for entry in fs::read_dir(dir.path().join("seg")).unwrap().flatten() {
        fs::remove_file(entry.path()).unwrap();
    }
    let report = recover(dir.path(), Mode::TolerateTornTail, false).unwrap();
    assert_eq!(report.verdict, Verdict::Empty);
    check(dir.path());
    let (writer, keeper, opened) = open(dir.path());
    assert_eq!((opened.run, opened.first_seq), (2, 1));
    end(writer, keeper);
    check(dir.path());
}

#[test]
fn a_directory_of_someone_else_is_refused_by_name() {
    let check = |name: &str, content: &[u8], class: Class| {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join(name);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, content).unwrap();
        let Err(refused) = create(dir.path(), &tiny(), RunFacts::default()) else {
            panic!("{name} was accepted");
        };
        assert_eq!(refused.class(), class, "{refused}");
        let base = file.file_name().unwrap().to_str().unwrap();
        assert!(refused.to_string().contains(base), "{refused}");
        assert_eq!(fs::read(&file).unwrap(), content);
    };
    check("letters.txt", b"dear all", Class::Unavailable);
    check("seg/notes", b"hello", Class::Unavailable);
    check("seg/00000001-000000000001.jnl", &[b'x'; 65536], Class::Damaged);
    check("seg/00000001-000000000001.jnl", b"", Class::Damaged);
}

#[test]
fn another_major_version_names_what_it_needs() {
    let dir = tempfile::tempdir().unwrap();
    run(dir.path(), 5);
    let file = dir.path().join("seg/00000001-000000000001.jnl");
    let mut bytes = fs::read(&file).unwrap();
    bytes[8] = 2;
    fs::write(&file, bytes).unwrap();
    let Err(refused) = create(dir.path(), &tiny(), RunFacts::default()) else { panic!("accepted") };
    assert!(matches!(refused, Error::Version { found: 2, .. }), "{refused}");
    assert!(refused.to_string().contains("needs a newer kairos"), "{refused}");
    assert!(verify(dir.path()).unwrap().is_damaged());
    assert!(matches!(
        Journal::open(dir.path()).unwrap().reader().next(),
        Err(Error::Version { .. })
    ));
}

#[test]
fn a_journal_has_one_owner() {
    let dir = tempfile::tempdir().unwrap();
    let (mut writer, mut keeper, _) = open(dir.path());
    put_events(&mut writer, &mut keeper, 20);
    let Err(refused) = create(dir.path(), &tiny(), RunFacts::default()) else { panic!("accepted") };
    assert_eq!(refused.class(), Class::Unavailable);
    let text = refused.to_string();
    assert!(text.contains(&dir.path().display().to_string()), "{text}");
    assert!(text.contains(&format!("pid {}", std::process::id())), "{text}");
    assert!(matches!(recover(dir.path(), Mode::default(), false), Err(Error::Owned { .. })));
    let journal = Journal::open(dir.path()).unwrap();
    assert!(journal.is_live());
    let bytes = || files(dir.path()).iter().map(|it| fs::read(it).unwrap()).collect::<Vec<_>>();
    let before = bytes();
    let found = verify(dir.path()).unwrap();
    assert_eq!((found.findings.len(), found.live, found.events), (0, true, 20));
    assert_eq!(fingerprint(dir.path()).unwrap().1, 20);
    assert!(bytes() == before, "looking at a live journal changes nothing");
    end(writer, keeper);
    assert!(!journal.is_live());
}

#[test]
fn options_out_of_range_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let base = Options { allow_tiny_segments_for_tests: false, ..tiny() };
    for (key, options) in [
        ("segment_bytes", Options { segment_bytes: 64 << 10, ..base.clone() }),
        ("segment_bytes", Options { segment_bytes: 3 << 20, ..base.clone() }),
        ("ready_min", Options { segment_bytes: 2 << 20, ready_min: 0, ..base.clone() }),
        ("ready_min", Options { segment_bytes: 2 << 20, ready_min: 8, ..base.clone() }),
        ("frame_max", Options { segment_bytes: 2 << 20, frame_max: 64, ..base }),
    ] {
        let Err(refused) = create(dir.path(), &options, RunFacts::default()) else {
            panic!("{key}")
        };
        assert_eq!(refused.class(), Class::Configuration);
        assert!(refused.to_string().starts_with(&format!("journal.{key} = ")), "{refused}");
    }
}

#[test]
fn a_reader_follows_a_live_writer_over_rolls_and_runs() {
    const EVENTS: u64 = 20_000;
    let dir = tempfile::tempdir().unwrap();
    let stop = AtomicBool::new(false);
    let (mut writer, mut keeper, _) = open(dir.path()); // the keeper moves to a thread and back
    std::thread::scope(|scope| {
        let follower = scope.spawn(|| {
            let mut reader = Journal::open(dir.path()).unwrap().reader();
            let mut expected = 1;
            while expected <= EVENTS {
                match reader.next().unwrap() {
                    Some(frame) if !frame.is_physical() => {
                        assert_eq!((frame.seq, frame.payload), (expected, &payload(expected)[..]));
                        expected += 1;
                    }
                    Some(_) => {}
                    None => std::thread::yield_now(),
                }
            }
        });
        let stop = &stop;
        let keeping = scope.spawn(move || {
            while !stop.load(Ordering::Acquire) {
                assert_ne!(keeper.turn(), Turn::Failed);
                std::thread::yield_now();
            }
            keeper
        });
        while writer.next_seq() <= EVENTS / 2 {
            let payload = payload(writer.next_seq());
            let frame =
                Frame { ts: 0, kind: 0x101, schema: 1, lane: 0, ext: &[], payload: &payload };
            if writer.append(&frame).is_err() {
                std::thread::yield_now();
            }
        }
        stop.store(true, Ordering::Release);
        let keeper = keeping.join().unwrap();
        assert!(keeper.shared().rolls() > 10);
        end(writer, keeper);
        let (mut writer, mut keeper, _) = open(dir.path());
        put_events(&mut writer, &mut keeper, EVENTS / 2);
        end(writer, keeper);
        follower.join().unwrap();
    });
    assert!(verify(dir.path()).unwrap().findings.is_empty());
}

#[test]
fn populated_segments_take_frames_without_faults() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options { segment_bytes: 4 << 20, ..Options::default() };
    let (mut writer, mut keeper, _) = create(dir.path(), &options, RunFacts::default()).unwrap();
    while keeper.shared().prepared() < 2 {
        assert_ne!(keeper.turn(), Turn::Failed);
    }
    let faults = || {
        let stat = fs::read_to_string("/proc/thread-self/stat").unwrap();
        let after_name = stat.rsplit(')').next().unwrap();
        after_name.split_whitespace().nth(7).unwrap().parse::<u64>().unwrap()
    };
    let before = faults();
    for at in 0..60_000_u64 {
        writer.append_fixed((at, 0x101, 1, 0), &[at], &[3; 64]).unwrap();
    }
    let taken = faults() - before;
    assert_eq!(writer.shared().rolls(), 1);
    // The pages of 60 000 frames are 1 900; a few faults belong to the test itself.
    assert!(taken < 50, "{taken} faults");
    end(writer, keeper);
    assert!(verify(dir.path()).unwrap().findings.is_empty());
}

#[test]
fn a_start_reads_no_more_old_segments_than_it_is_told() {
    let dir = tempfile::tempdir().unwrap();
    run(dir.path(), 2000);
    let path = dir.path().join("seg/00000001-000000000001.jnl");
    let mut bytes = fs::read(&path).unwrap();
    bytes[20_000] ^= 1;
    fs::write(&path, bytes).unwrap();
    assert!(verify(dir.path()).unwrap().is_damaged());
    let Err(refused) = create(dir.path(), &tiny(), RunFacts::default()) else { panic!("accepted") };
    assert_eq!(refused.class(), Class::Damaged);
    let trusting = Options { verify_at_start_bytes: 128 << 10, ..tiny() };
    let (writer, keeper, opened) = create(dir.path(), &trusting, RunFacts::default()).unwrap();
    assert_eq!(opened.first_seq, 2001);
    end(writer, keeper);
}

#[test]
fn what_is_committed_becomes_durable_in_silence() {
    let dir = tempfile::tempdir().unwrap();
    let (mut writer, mut keeper, _) = open(dir.path());
    // Also with the cursor in the last page, where only a roll can free it.
    for _ in 0..300 {
        put_events(&mut writer, &mut keeper, 3);
        settle(&mut writer, &mut keeper);
    }
    let shared = writer.shared();
    assert_eq!((shared.durable_seq(), shared.committed_seq()), (900, 900));
    assert!(shared.rolls() > 5 && shared.flushes() > 100);
    let mark = Journal::open(dir.path()).unwrap().watermark().unwrap().unwrap();
    assert_eq!(mark.seq, 900);
    drop((writer, keeper));
    let report = recover(dir.path(), Mode::TolerateTornTail, false).unwrap();
    assert_eq!((report.verdict, report.kept), (Verdict::Crashed, Some((1, 900))));
    assert_holds(dir.path(), 900);
}

#[test]
fn without_a_segment_nothing_is_written_and_the_reserve_remains() {
    let dir = tempfile::tempdir().unwrap();
    let (mut writer, mut keeper, _) = open(dir.path());
    let frame = Frame { ts: 0, kind: 0x101, schema: 1, lane: 0, ext: &[], payload: &[1; 1000] };
    while writer.ready() {
        writer.append(&frame).unwrap();
    }
    while writer.append(&frame).is_ok() {}
    let stuck = writer.next_seq();
    assert_eq!(writer.append(&frame), Err(AppendError::NotReady));
    assert_eq!((writer.next_seq(), writer.shared().not_ready() > 0), (stuck, true));
    writer.use_halt_reserve();
    writer.append(&frame).unwrap();
    while !writer.ready() {
        assert_ne!(keeper.turn(), Turn::Failed); // a step of preparing
    }
    put_events(&mut writer, &mut keeper, 100);
    end(writer, keeper);
    assert!(verify(dir.path()).unwrap().findings.is_empty());
}

#[test]
fn marks_and_anchors_consume_no_seq() {
    let dir = tempfile::tempdir().unwrap();
    let (mut writer, mut keeper, _) = open(dir.path());
    writer.mark(5, b"here").unwrap();
    put_events(&mut writer, &mut keeper, 1);
    let anchor = Anchor { tsc: 7, wall_ns: 8, mono_ns: 9 };
    writer.anchor(anchor).unwrap();
    put_events(&mut writer, &mut keeper, 1);
    end(writer, keeper);
    let mut reader = Journal::open(dir.path()).unwrap().reader();
    let mut kinds = Vec::new();
    while let Some(frame) = reader.next().unwrap() {
        kinds.push((frame.kind, frame.seq));
        if frame.kind == TIME_ANCHOR {
            assert_eq!(Anchor::parse(frame.payload), Some(anchor));
        }
    }
    assert_eq!(kinds[2..7], [(MARK, 1), (0x101, 1), (TIME_ANCHOR, 2), (0x101, 2), (RUN_END, 3)]);
}

#[test]
fn finish_refuses_a_run_that_was_not_ended() {
    let dir = tempfile::tempdir().unwrap();
    let (mut writer, mut keeper, _) = open(dir.path());
    put_events(&mut writer, &mut keeper, 2);
    assert!(matches!(keeper.finish(), Err(Error::NotEnded { .. })));
    drop(writer);
    assert_eq!(recover(dir.path(), Mode::default(), false).unwrap().verdict, Verdict::Crashed);
    assert_holds(dir.path(), 2);
}

#[test]
fn a_run_that_ended_and_lost_only_its_seal_is_clean() {
    let dir = tempfile::tempdir().unwrap();
    let (mut writer, mut keeper, _) = open(dir.path());
    put_events(&mut writer, &mut keeper, 600);
    writer.end_run(0, b"").map_err(|(_, why)| why).unwrap();
    drop(keeper);
    assert_eq!(recover(dir.path(), Mode::Absolute, false).unwrap().verdict, Verdict::Clean);
    assert_holds(dir.path(), 600);
    let runs = Journal::open(dir.path()).unwrap().runs().unwrap();
    assert_eq!((runs[0].status, runs[0].last_seq), (RunStatus::Ended, Some(600)));
    assert!(!verify(dir.path()).unwrap().is_damaged());
}

#[test]
fn a_copied_directory_reads_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let (mut writer, mut keeper, _) = open(dir.path());
    put_events(&mut writer, &mut keeper, 700);
    let copied = copy(dir.path()); // while the engine lives
    assert_holds(copied.path(), 700);
    assert_eq!(recover(copied.path(), Mode::default(), false).unwrap().verdict, Verdict::Crashed);
    assert!(!verify(copied.path()).unwrap().is_damaged());
    end(writer, keeper);
    assert_eq!(fingerprint(dir.path()).unwrap(), fingerprint(copied.path()).unwrap());
}

#[test]
fn a_full_disk_is_a_state_not_a_signal() {
    let mount = tempfile::tempdir().unwrap();
    let mounted = Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=400k", "tmpfs"])
        .arg(mount.path())
        .output()
        .is_ok_and(|it| it.status.success());
    if !mounted {
        println!("skipped: cannot mount a tmpfs");
        return;
    }
    let outcome = std::panic::catch_unwind(|| fill_up(mount.path()));
    Command::new("umount").arg(mount.path()).output().unwrap();
    outcome.unwrap();
}

fn fill_up(mount: &Path) {
    let dir = mount.join("journal");
    let strict = Options { strict: true, ..tiny() };
    let refused = create(&dir, &strict, RunFacts::default());
    assert!(matches!(refused, Err(Error::FileSystem { .. })));
    let (mut writer, mut keeper, opened) = open(&dir);
    assert!(opened.warnings[0].contains("tmpfs"), "{:?}", opened.warnings);
    let shared = writer.shared();
    let frame = Frame { ts: 0, kind: 0x101, schema: 1, lane: 0, ext: &[], payload: &[9; 500] };
    let why = loop {
        match writer.append(&frame) {
            Ok(_) => {}
            Err(AppendError::NotReady) => drop(keeper.turn()),
            Err(why) => break why,
        }
    };
    assert_eq!(why, AppendError::Failed);
    let Status::Failed(failure) = shared.status() else { panic!("{:?}", shared.status()) };
    assert_eq!(failure.kind, FailureKind::NoSpace);
    for part in ["jnl", "tmp", "needs 65536 bytes", "are free"] {
        let named = failure.message.contains(part) || part == "jnl";
        assert!(named, "{}", failure.message);
    }
    // The halt sequence still has room, and what was written is whole.
    writer.use_halt_reserve();
    writer.append(&frame).unwrap();
    let last = shared.committed_seq();
    end(writer, keeper);
    let found = verify(&dir).unwrap();
    assert!(found.findings.is_empty(), "{:#?}", found.findings);
    assert_eq!(found.events, last);
    // No room for another run: an error, and the journal stays as it is.
    let refused = create(&dir, &tiny(), RunFacts::default());
    assert!(matches!(refused, Err(Error::NoSpace { .. } | Error::Io { .. })));
    assert_eq!(verify(&dir).unwrap().events, last);
}
