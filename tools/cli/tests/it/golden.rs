//! A journal of each version of the format, kept as it was written: what this build reads of it is
//! what it said then. A new version gets a directory of its own beside the old ones, which stay.

use std::fs;
use std::path::{Path, PathBuf};

use kairos_edge::frames::Cold;
use kairos_journal::archive::{ArchiveOptions, Archiver};
use kairos_journal::{Journal, fingerprint};
use kairos_logic::event::Event;
use kairos_logic::order::{Action, Decision, Verdict};
use kairos_logic::units::{Nanos, Stamp};
use serde_json::json;
use tempfile::TempDir;

use crate::dump::{decision, every_kind};
use crate::harness::journal;
use crate::journals::{Written, bytes_of};

/// Every version, the one that this build writes last.
const VERSIONS: [&str; 1] = ["1.1"];
/// With this variable the newest journal is written anew instead of read: for a format that was
/// never released.
const WRITE: &str = "KAIROS_WRITE_GOLDEN";

fn kept(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

/// A run that ended, over three segments, with every kind of frame; then one that was killed and
/// recovered. The first segment is compressed, the newest ones are plain.
fn write() -> TempDir {
    let whole = TempDir::new().unwrap();
    let dir = whole.path();
    let mut run = Written::begin(dir);
    for event in every_kind() {
        run.event(&event);
    }
    run.decision(&decision(4), (Stamp(3_100), Stamp(3_160)));
    for action in [Action::Cancel, Action::State, Action::Result] {
        let verdict = Verdict::Approved;
        run.decision(&Decision { action, verdict, ..decision(10) }, (Stamp(0), Stamp(3_200)));
    }
    for part in 0..20 {
        run.cold(&Cold::Config(format!("# {part}\n").repeat(1_500)));
    }
    run.end();
    let mut run = Written::begin(dir);
    for at in 1..=5 {
        run.event(&Event::timer(Nanos(at)));
    }
    run.kill();
    journal("recover", dir, "").expect(0);
    let ring = TempDir::new().unwrap();
    let mut archiver = Archiver::open(ArchiveOptions::new(dir, ring.path())).unwrap();
    while archiver.upkeep() {}
    drop(archiver);
    // It names a directory of this host.
    fs::remove_file(dir.join("ring.json")).unwrap();
    whole
}

fn copy(from: &Path, to: &Path) {
    for (file, bytes) in bytes_of(from) {
        let target = to.join(file.strip_prefix(from).unwrap());
        fs::create_dir_all(target.parent().unwrap()).unwrap();
        fs::write(target, bytes).unwrap();
    }
}

#[test]
fn a_journal_of_every_version_reads_as_it_was_written() {
    if std::env::var_os(WRITE).is_some() {
        let newest = VERSIONS[VERSIONS.len() - 1];
        let dir = kept(newest);
        let _absent = fs::remove_dir_all(&dir);
        copy(write().path(), &dir);
        let said = journal("dump", &dir, "--all").expect(0).out;
        fs::write(kept(&format!("{newest}.jsonl")), said).unwrap();
    }
    for version in VERSIONS {
        let dir = TempDir::new().unwrap();
        copy(&kept(version), dir.path());
        let want = fs::read_to_string(kept(&format!("{version}.jsonl"))).unwrap();
        let said = journal("dump", dir.path(), "--all").expect(0).out;
        assert_eq!(said, want, "{version}");
        let forms = bytes_of(&dir.path().join("seg"));
        let is_packed = |it: &&(PathBuf, Vec<u8>)| it.0.extension().is_some_and(|it| it == "zst");
        assert_eq!((forms.len(), forms.iter().filter(is_packed).count()), (4, 1), "{version}");
        let found = journal("verify", dir.path(), "--json").expect(0).document();
        assert_eq!(found["findings"], json!([]), "{version}");
        let info = journal("info", dir.path(), "--json").expect(0).document();
        let statuses = [&info["runs"][0]["status"], &info["runs"][1]["status"]];
        assert_eq!(statuses, ["ENDED", "CRASH_SEALED"], "{version}");
        let report = journal("recover", dir.path(), "--json").expect(0).document();
        assert_eq!(
            (&report["verdict"], &report["already_sealed"]),
            (&json!("CRASHED"), &json!(true))
        );
        assert_eq!(bytes_of(dir.path()).len(), bytes_of(&kept(version)).len(), "{version}");

        // What is copied out of it says the same, and a run of this build continues it.
        let out = TempDir::new().unwrap();
        kairos_journal::salvage(dir.path(), out.path()).unwrap();
        assert_eq!(fingerprint(out.path()).unwrap(), fingerprint(dir.path()).unwrap(), "{version}");
        let last = Journal::open(dir.path()).unwrap().runs().unwrap()[1].last_seq.unwrap();
        let mut run = Written::begin(dir.path());
        assert_eq!(run.event(&Event::timer(Nanos(6))), last + 4, "{version}");
        run.end();
        journal("verify", dir.path(), "").expect(0);
    }
}
