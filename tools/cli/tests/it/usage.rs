//! The command line itself: help, wrong words, pipes that close, no colours.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Stdio};

use kairos_logic::event::Event;
use kairos_logic::units::Nanos;
use tempfile::TempDir;

use crate::harness::{KAIROS, kairos};
use crate::journals::Written;

const VERBS: [&str; 7] = [
    "journal info",
    "journal verify",
    "journal dump",
    "journal latency",
    "journal recover",
    "journal fingerprint",
    "replay",
];

#[test]
fn wrong_words_are_usage_errors() {
    let check = |words: &str, part: &str| {
        let said = kairos(words.split_whitespace()).expect(64);
        assert_eq!(said.out, "", "{words}");
        assert!(said.err.contains(part), "{words}: {part} in {}", said.err);
        assert!(!said.err.contains('\u{1b}'), "{words}: {}", said.err);
    };
    check("", "Usage");
    check("nonsense", "nonsense");
    check("journal", "Usage");
    check("journal nonsense DIR", "nonsense");
    check("journal info DIR --nonsense", "--nonsense");
    check("journal dump DIR --kind trade,candle", "trade, quote, book, gap, status, timer");
    check("journal dump DIR --kind candle", "decision");
    check("journal dump DIR --from-seq x", "x");
    check("journal dump DIR --limit -1", "-1");
    check("journal dump DIR --format xml", "jsonl");
    check("journal dump DIR --order 7", "<run>-<n>");
    check("journal dump DIR --all --kind trade", "--all");
    check("journal latency DIR --by moon", "venue");
    check("journal latency DIR --interval 0s", "positive");
    check("journal latency DIR --interval soon", "1s");
    check("journal recover DIR --mode hope", "tolerate-torn-tail");
    check("replay DIR --verify --what-if F", "--what-if");
    check("replay DIR --from-seq", "--from-seq");
    for verb in VERBS {
        check(verb, "DIR");
    }
}

#[test]
fn help_teaches_with_examples() {
    let help = |words: &str| {
        let said = kairos(words.split_whitespace().chain(["--help"])).expect(0);
        assert_eq!(said.err, "", "{words}");
        assert!(!said.out.contains('\u{1b}'), "{words}: {}", said.out);
        said.out
    };
    let whole = help("");
    for part in ["Examples:", "Exit status", "64 usage", "journal", "replay"] {
        assert!(whole.contains(part), "{part} in {whole}");
    }
    for verb in VERBS {
        let text = help(verb);
        assert!(text.contains("Examples:") && text.contains("<DIR>"), "{verb}: {text}");
        assert!(text.contains("--json"), "{verb}: {text}");
    }
    for kind in ["trade", "quote", "book", "report", "decision"] {
        assert!(help("journal dump").contains(kind), "{kind}");
    }
    kairos(["--version"]).expect(0);
    kairos(["help", "journal"]).expect(0);
}

/// A journal whose dump is larger than any pipe.
fn many(dir: &TempDir) {
    let mut run = Written::begin(dir.path());
    for at in 1..=20_000 {
        run.event(&Event::timer(Nanos(1_700_000_000_000_000_000 + at)));
    }
    run.end();
}

#[test]
fn a_reader_that_has_seen_enough_is_no_failure() {
    let dir = TempDir::new().unwrap();
    many(&dir);
    for words in
        ["journal dump", "journal dump --format csv", "journal info", "journal verify", "replay"]
    {
        for lines in [0, 1] {
            let mut child = Command::new(KAIROS)
                .args(words.split_whitespace())
                .arg(dir.path())
                .stdin(Stdio::null())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap();
            let mut out = BufReader::new(child.stdout.take().unwrap());
            for _ in 0..lines {
                out.read_line(&mut String::new()).unwrap();
            }
            drop(out);
            let status = child.wait().unwrap();
            let mut err = String::new();
            child.stderr.take().unwrap().read_to_string(&mut err).unwrap();
            // This journal has no strategies that this binary could repeat: only the pipe is judged.
            if words != "replay" {
                assert_eq!((status.code(), err.as_str()), (Some(0), ""), "{words}, {lines} lines");
            }
            assert!(status.code().is_some(), "{words} ended by a signal: {err}");
        }
    }
}

#[test]
fn a_full_disk_behind_stdout_is_a_failure() {
    let dir = TempDir::new().unwrap();
    many(&dir);
    for verb in ["dump", "info", "verify"] {
        let output = Command::new(KAIROS)
            .args(["journal", verb])
            .arg(dir.path())
            .stdout(File::options().write(true).open("/dev/full").unwrap())
            .output()
            .unwrap();
        let err = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{verb}: {err}");
        assert!(err.contains("stdout"), "{verb}: {err}");
    }
}

/// `kairos drain` becomes the drain beside it, with its arguments and its status.
#[test]
fn verbs_of_the_drain_are_handed_on() {
    use std::os::unix::fs::PermissionsExt as _;

    let dir = TempDir::new().unwrap();
    let (kairos, drain) = (dir.path().join("kairos"), dir.path().join("kairos-drain"));
    std::fs::copy(KAIROS, &kairos).unwrap();
    std::fs::write(&drain, "#!/bin/sh\necho \"$@\"\nexit 2\n").unwrap();
    std::fs::set_permissions(&drain, std::fs::Permissions::from_mode(0o755)).unwrap();
    let words = ["drain", "audit", "--config", "k.toml", "--json"];
    let output = Command::new(&kairos).args(words).output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "audit --config k.toml --json\n");
    std::fs::remove_file(&drain).unwrap();
    let lost = Command::new(&kairos).args(words).env("PATH", "").output().unwrap();
    assert_eq!(lost.status.code(), Some(1));
    let said = String::from_utf8(lost.stderr).unwrap();
    assert!(said.contains("cannot start kairos-drain"), "{said}");
}
