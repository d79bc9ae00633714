//! What becomes of sealed segments in an archive: compressed, still read by everyone; removed, by rule.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use kairos_journal::archive::{ArchiveOptions, Archiver};
use kairos_journal::cursors::{self, Position};
use kairos_journal::{
    Class, Error, Journal, Retention, Undrained, fingerprint, holds, prune, prune_plan, recover,
    salvage, verify,
};

use crate::common::{assert_holds, copy, events, files, payload, run};

/// A journal of `runs` runs of 1000 events, its archiver's upkeep done.
fn packed(runs: u64) -> (tempfile::TempDir, u64) {
    let dir = tempfile::tempdir().unwrap();
    for _ in 0..runs {
        run(dir.path(), 1_000);
    }
    upkeep(dir.path(), None);
    (dir, runs * 1_000)
}

fn upkeep(dir: &Path, retention: Option<Retention>) -> kairos_journal::archive::Kept {
    let ring = tempfile::tempdir().unwrap();
    let options = ArchiveOptions { retention, ..ArchiveOptions::new(dir, ring.path()) };
    let mut archiver = Archiver::open(options).unwrap();
    while archiver.upkeep() {}
    archiver.progress().kept.clone()
}

fn packed_files(dir: &Path) -> Vec<PathBuf> {
    let mut found = files(&dir.join("seg"));
    found.retain(|it| it.extension().is_some_and(|it| it == "zst"));
    found
}

#[test]
fn compressed_segments_read_verify_and_recover_like_plain_ones() {
    let dir = tempfile::tempdir().unwrap();
    for _ in 0..2 {
        run(dir.path(), 1_000);
    }
    let (before, plain) = (fingerprint(dir.path()).unwrap(), events(dir.path()));
    let original = copy(dir.path());
    let kept = upkeep(dir.path(), None);
    assert_eq!(kept.trouble, None);
    let packed = packed_files(dir.path());
    assert_eq!((kept.packed, packed.len()), (packed.len() as u64, packed.len()));
    assert!(packed.len() >= 2 && kept.packed_bytes.1 < kept.packed_bytes.0, "{kept:?}");
    assert_eq!(fingerprint(dir.path()).unwrap(), before);
    let found = verify(dir.path()).unwrap();
    assert!(found.findings.is_empty(), "{:#?}", found.findings);
    assert_eq!(found.events, 2_000);
    assert!(recover(dir.path(), kairos_journal::Mode::Absolute, false).unwrap().already_sealed);
    let journal = Journal::open(dir.path()).unwrap();
    for from in (1..2_000).step_by(37) {
        let mut reader = journal.reader_from(from).unwrap();
        let first = reader.next().unwrap().unwrap();
        assert_eq!((first.seq, first.payload), (from, &payload(from)[..]));
    }
    let out = tempfile::tempdir().unwrap();
    salvage(dir.path(), out.path()).unwrap();
    assert_eq!(events(out.path()), plain);
    // The standard tool gives back the segment itself.
    for file in &packed {
        let name = file.file_stem().unwrap();
        let Ok(output) = Command::new("zstd").args(["-dcq"]).arg(file).output() else {
            println!("skipped: no zstd program");
            return;
        };
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert!(output.stdout == fs::read(original.path().join("seg").join(name)).unwrap());
    }
    // And a run continues behind compressed ones.
    run(dir.path(), 10);
    assert_holds(dir.path(), 2_010);
}

#[test]
fn every_flipped_byte_of_a_compressed_segment_is_noticed() {
    let (dir, last) = packed(1);
    let file = &packed_files(dir.path())[0];
    let len = fs::metadata(file).unwrap().len();
    let open = OpenOptions::new().read(true).write(true).open(file).unwrap();
    for at in 0..len {
        let mut byte = [0];
        open.read_exact_at(&mut byte, at).unwrap();
        open.write_all_at(&[byte[0] ^ 1 << (at % 8)], at).unwrap();
        let noticed = match verify(dir.path()) {
            Ok(found) => found.is_damaged(),
            Err(bad) => bad.class() == Class::Damaged,
        };
        assert!(noticed, "offset {at} of {len}");
        // A reader gives a prefix of the truth.
        let mut reader = Journal::open(dir.path()).unwrap().reader();
        let mut expected = 1;
        while let Ok(Some(frame)) = reader.next() {
            if !frame.is_physical() {
                assert_eq!((frame.seq, frame.payload), (expected, &payload(expected)[..]));
                expected += 1;
            }
        }
        open.write_all_at(&byte, at).unwrap();
    }
    let whole = fs::read(file).unwrap();
    for len in (0..whole.len()).step_by(101).chain([1, 8, 9, whole.len() - 1]) {
        fs::write(file, &whole[..len]).unwrap();
        assert!(verify(dir.path()).map_or(true, |found| found.is_damaged()), "{len} bytes");
    }
    fs::write(file, whole).unwrap();
    assert!(!verify(dir.path()).unwrap().is_damaged());
    assert_holds(dir.path(), last);
}

#[test]
fn who_reads_while_segments_are_compressed_misses_none() {
    let dir = tempfile::tempdir().unwrap();
    for _ in 0..8 {
        run(dir.path(), 1_500);
    }
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let kept = upkeep(dir.path(), None);
            over.store(true, Ordering::Release);
            assert!(kept.packed > 20 && kept.trouble.is_none(), "{kept:?}");
        });
        loop {
            let last = over.load(Ordering::Acquire);
            assert_eq!(fingerprint(dir.path()).unwrap().1, 12_000);
            let segments = Journal::open(dir.path()).unwrap().segments().unwrap();
            assert!(segments.windows(2).all(|it| it[0].header.segment + 1 == it[1].header.segment));
            let found = verify(dir.path()).unwrap();
            assert!(found.findings.is_empty(), "{:#?}", found.findings);
            assert_eq!(found.events, 12_000);
            if last {
                break;
            }
        }
    });
}

#[test]
fn a_kill_between_the_two_forms_leaves_one_history() {
    let dir = tempfile::tempdir().unwrap();
    run(dir.path(), 1_000);
    let both = copy(dir.path());
    upkeep(dir.path(), None);
    for file in packed_files(dir.path()) {
        fs::copy(&file, both.path().join("seg").join(file.file_name().unwrap())).unwrap();
    }
    fs::write(both.path().join("seg/00000001-000000000001.jnl.zst.tmp"), b"half").unwrap();
    assert!(verify(both.path()).unwrap().findings.is_empty());
    assert_holds(both.path(), 1_000);
    upkeep(both.path(), None);
    assert_eq!(files(both.path()).len(), files(dir.path()).len());
    assert_holds(both.path(), 1_000);
}

fn all_but(bytes: u64) -> Retention {
    Retention { max_bytes: Some(bytes), ..Retention::default() }
}

#[test]
fn old_runs_go_as_a_whole_and_the_rest_is_a_journal() {
    let (dir, _) = packed(4);
    let dir = dir.path();
    let plan = prune_plan(dir, &all_but(1)).unwrap();
    assert_eq!(plan.runs.iter().map(|it| it.run).collect::<Vec<_>>(), [1, 2, 3]);
    assert!(plan.stays.starts_with("run 4: the newest"), "{}", plan.stays);
    assert_holds(dir, 4_000); // a plan removes nothing
    let kept = upkeep(dir, Some(Retention { keep_days: Some(1), ..Retention::default() }));
    assert_eq!(kept.pruned, 0, "nothing is a day old");
    let size = prune_plan(dir, &Retention::default()).unwrap();
    assert!(size.runs.is_empty() && size.stays.starts_with("run 1: within its time"), "{size:?}");
    let total: u64 = files(&dir.join("seg")).iter().map(|it| fs::metadata(it).unwrap().len()).sum();
    let keep_bytes_min = total - plan.runs[0].bytes;
    prune(dir, &Retention { keep_bytes_min, ..all_but(1) }).unwrap();
    let first = |dir: &Path| {
        let mut reader = Journal::open(dir).unwrap().reader();
        loop {
            let frame = reader.next().unwrap().unwrap();
            if !frame.is_physical() {
                break frame.seq;
            }
        }
    };
    assert_eq!(first(dir), 1_001);
    prune(dir, &all_but(1)).unwrap();
    assert_eq!(first(dir), 3_001);
    let found = verify(dir).unwrap();
    assert!(found.findings.is_empty(), "{:#?}", found.findings);
    assert_eq!((found.events, found.seq), (1_000, Some((3_001, 4_000))));
    run(dir, 10);
    assert_eq!(verify(dir).unwrap().seq, Some((3_001, 4_010)));
    assert_eq!(Journal::open(dir).unwrap().runs().unwrap().len(), 5, "manifests stay");
    // The record is what makes it a journal.
    let record = dir.join("pruned.json");
    let bytes = fs::read(&record).unwrap();
    fs::remove_file(&record).unwrap();
    assert!(verify(dir).unwrap().is_damaged());
    fs::write(&record, &bytes[..bytes.len() - 2]).unwrap();
    assert!(matches!(verify(dir), Err(Error::Damaged(_))));
}

#[test]
fn a_pruning_that_was_killed_is_completed_by_the_next() {
    let (dir, _) = packed(3);
    let before = copy(dir.path());
    prune(dir.path(), &all_but(1)).unwrap();
    // The record is there, the files are too.
    fs::copy(dir.path().join("pruned.json"), before.path().join("pruned.json")).unwrap();
    assert!(verify(before.path()).unwrap().findings.is_empty());
    prune(before.path(), &Retention::default()).unwrap();
    assert_eq!(files(&before.path().join("seg")).len(), files(&dir.path().join("seg")).len());
}

#[test]
fn nothing_goes_that_a_sink_has_not_passed_for_long_enough() {
    let (dir, _) = packed(4);
    let dir = dir.path();
    let goes = |retention: &Retention| {
        let plan = prune_plan(dir, retention).unwrap();
        (plan.runs.len(), plan.stays)
    };
    let ready = Retention { required_sinks: vec!["postgres".into()], ..all_but(1) };
    let (runs, stays) = goes(&ready);
    assert_eq!((runs, &stays[..]), (0, "run 1: sink postgres has not said where it is"));
    for (position, expected) in [
        ((1, 999), 0),
        ((1, 1_000), 1),
        ((2, 1_999), 1),
        ((2, 2_000), 2),
        ((3, 3_000), 3),
        ((4, 4_000), 3),
        ((1, 500), 0), // it was restored from a backup
    ] {
        let (run, seq) = position;
        cursors::publish(dir, "postgres", Position { run, seq }).unwrap();
        assert_eq!(goes(&ready).0, expected, "{position:?}");
    }
    cursors::publish(dir, "postgres", Position { run: 4, seq: 4_000 }).unwrap();
    let careful = Retention { prune_safety_s: 3_600, ..ready.clone() };
    assert_eq!(goes(&careful).0, 0, "it has only just passed it");
    // Any sink counts, named or not; and one that cannot be read holds everything.
    cursors::publish(dir, "parquet", Position { run: 1, seq: 1_000 }).unwrap();
    assert_eq!(goes(&ready).0, 1);
    fs::write(dir.join("cursors/parquet.json"), b"").unwrap();
    assert!(matches!(prune(dir, &ready), Err(Error::Damaged(_))));
    cursors::forget(dir, "parquet").unwrap();
    assert_eq!(prune(dir, &ready).unwrap().runs.len(), 3);
}

#[test]
fn a_hold_keeps_its_run_and_later_ones_until_it_is_lifted() {
    let (dir, _) = packed(4);
    let dir = dir.path();
    let goes = || {
        let plan = prune_plan(dir, &all_but(1)).unwrap();
        (plan.runs.len(), plan.stays)
    };
    assert_eq!(goes().0, 3);
    holds::place(dir, "late", 3, "").unwrap();
    holds::place(dir, "audit-1", 2, "the auditor asked").unwrap();
    assert_eq!(goes(), (1, "run 2: hold audit-1 keeps run 2 and later ones".into()));
    let kept = upkeep(dir, Some(all_but(1)));
    assert_eq!((kept.pruned, kept.trouble), (1, None));
    assert_eq!(kept.stays, "run 2: hold audit-1 keeps run 2 and later ones");
    let held: Vec<_> = holds::list(dir).unwrap().into_iter().map(|it| (it.name, it.run)).collect();
    assert_eq!(held, [("audit-1".into(), 2), ("late".into(), 3)]);
    assert!(holds::lift(dir, "audit-1").unwrap());
    assert!(!holds::lift(dir, "audit-1").unwrap());
    assert_eq!(goes().0, 1);
    // One that cannot be read holds everything.
    let file = dir.join("holds/late.json");
    let bytes = fs::read(&file).unwrap();
    for at in (0..bytes.len()).step_by(7) {
        let mut bad = bytes.clone();
        bad[at] ^= 2;
        fs::write(&file, bad).unwrap();
        assert!(matches!(prune(dir, &all_but(1)), Err(Error::Damaged(_))), "byte {at}");
    }
    fs::write(&file, &bytes).unwrap();
    fs::rename(&file, dir.join("holds/other.json")).unwrap();
    assert!(matches!(prune(dir, &all_but(1)), Err(Error::Damaged(_))), "under another name");
    assert!(holds::lift(dir, "other").unwrap());
    assert_eq!(prune(dir, &all_but(1)).unwrap().runs.len(), 2);
    for bad in ["", "../x", "A", "a/b"] {
        assert!(matches!(holds::place(dir, bad, 1, ""), Err(Error::Option { .. })), "{bad}");
    }
    assert!(verify(dir).unwrap().findings.is_empty(), "a hold is no damage");
}

#[test]
fn only_the_size_overrides_a_sink_and_what_it_loses_is_told() {
    let (dir, _) = packed(4);
    let dir = dir.path();
    let at = |run, seq| Position { run, seq };
    cursors::publish(dir, "parquet", at(2, 1_500)).unwrap();
    let lost = |plan: &kairos_journal::PrunePlan| -> Vec<Undrained> {
        plan.runs.iter().flat_map(|it| it.undrained.clone()).collect()
    };
    let required_sinks = vec!["postgres".into()];
    let forced = Retention { required_sinks, drop_undrained: true, ..all_but(1) };
    let old = Retention { max_bytes: None, keep_days: Some(1), ..forced.clone() };
    assert!(prune_plan(dir, &old).unwrap().runs.is_empty());
    let unforced = Retention { drop_undrained: false, ..forced.clone() };
    assert!(prune_plan(dir, &unforced).unwrap().runs.is_empty());
    let plan = prune_plan(dir, &forced).unwrap();
    assert_eq!(plan.runs.len(), 3, "the newest stays whatever is said");
    let of = |sink: &str, from, to| Undrained { sink: sink.into(), from, to };
    assert_eq!(
        lost(&plan),
        [
            of("postgres", at(0, 0), at(1, 1_000)),
            of("postgres", at(0, 0), at(2, 2_000)),
            of("parquet", at(2, 1_500), at(2, 2_000)),
            of("postgres", at(0, 0), at(3, 3_000)),
            of("parquet", at(2, 1_500), at(3, 3_000)),
        ]
    );
    // A hold is no sink.
    holds::place(dir, "mine", 2, "").unwrap();
    let kept = upkeep(dir, Some(forced));
    assert_eq!(kept.pruned, 1);
    assert_eq!(kept.dropped, [of("postgres", at(0, 0), at(1, 1_000))]);
    let record = fs::read_to_string(dir.join("pruned.json")).unwrap();
    assert!(record.contains("\"undrained\"") && record.contains("postgres"), "{record}");
}
