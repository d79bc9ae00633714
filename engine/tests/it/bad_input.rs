//! What bad input gets: one line that names the key or the file, what was found and the rule; the
//! documented exit status; and nothing lost that was already journaled.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use flate2::Compression;
use flate2::write::GzEncoder;
use kairos_logic::code::Code;
use kairos_logic::event::Kind;
use kairos_logic::order::{Action, Verdict};
use serde_json::Value;

use crate::harness::{BOTH, Setup, map};
use crate::process::{Alive, Said, config_file, engine, poll, say};

/// `run` with the setup's configuration and some values on top.
fn run(setup: &Setup, set: &[&str]) -> Said {
    let mut command = engine();
    command.args(["run", "--config"]).arg(config_file(setup));
    for value in set {
        command.args(["--set", value]);
    }
    say(&mut command)
}

/// The lines on stderr that tell what is wrong: not the ones that tell what runs.
fn complaints(said: &Said) -> Vec<&str> {
    let told = |it: &&str| {
        !it.starts_with("kairos-engine: run ")
            && !it.contains(": warning: ")
            && !it.contains(": alarm: ")
    };
    said.err.lines().filter(told).collect()
}

/// Status, and exactly one line that holds every one of `parts`.
fn assert_one_line(said: &Said, status: i32, parts: &[&str]) {
    assert_one_line_of("kairos-engine: ", said, status, parts);
}

fn assert_one_line_of(prefix: &str, said: &Said, status: i32, parts: &[&str]) {
    assert_eq!(said.status, Some(status), "{said:?}");
    let lines = complaints(said);
    assert_eq!(lines.len(), 1, "{said:?}");
    for part in parts {
        assert!(lines[0].contains(part), "{part:?} is not in: {}", lines[0]);
    }
    assert!(lines[0].starts_with(prefix), "{}", lines[0]);
}

/// What is in the journal verifies and replays.
fn assert_kept(setup: &Setup) {
    let found = kairos_journal::verify(&setup.journal_dir()).unwrap();
    assert!(!found.is_damaged(), "{:?}", found.findings);
    let report = setup.verify();
    assert!(report.equal, "{:?}", report.first_difference);
}

#[test]
fn values_of_the_configuration() {
    let setup = Setup::seeded(30, 3);
    setup.run();
    let (_, frames) = kairos_journal::fingerprint(&setup.journal_dir()).unwrap();
    let check = |set: &[&str], parts: &[&str]| assert_one_line(&run(&setup, set), 78, parts);

    let nearest = "did you mean max_order_notional?";
    check(&["risk.max_order_notinal=1"], &["risk.max_order_notinal", nearest]);
    check(&["engine.seed=x"], &["engine.seed = \"x\"", "must be a whole number"]);
    check(&["risk.max_order_notional=1e"], &["risk.max_order_notional = \"1e\"", "must be"]);
    check(&["engine.ring_slots=3000"], &["engine.ring_slots = 3000", "must be a power of two"]);
    check(&["engine.ring_slots=64"], &["engine.ring_slots = 64", "power of two from 1024 to"]);
    check(&["cores.risk=4095"], &["cores.risk = 4095", "not among the usable CPUs"]);
    check(&["strategies.mm.kind=market"], &["strategies.mm.kind = \"market\"", "market_maker"]);
    check(&["strategies.mm.sprd=1"], &["strategies.mm.sprd", "known"]);
    check(
        &["strategies.mm.instruments=[\"DOGE\"]"],
        &["strategies.mm.instruments", "DOGE", "BTCUSDT"],
    );
    check(&["journal.segment_mib=3"], &["journal.segment_mib = 3", "must be a power of two"]);
    check(&["journal.gate=\"fast\""], &["journal.gate = \"fast\"", "committed"]);

    // A symbol that no list and no section describes.
    let mut bare = Setup::seeded(30, 3);
    bare.more = String::new();
    bare.strategies = "[strategies.mom]\nkind = \"momentum\"\n".into();
    bare.instruments = vec!["NOPE"];
    let parts = ["instruments.NOPE.base", "must be written down", "binance"];
    assert_one_line(&run(&bare, &[]), 78, &parts);
    assert!(!bare.journal_dir().exists());

    // Nothing was refused after the journal had been touched.
    assert_eq!(kairos_journal::fingerprint(&setup.journal_dir()).unwrap().1, frames);
    setup.run();
    assert_kept(&setup);
}

#[test]
fn more_spinning_threads_than_usable_cpus() {
    let mut setup = Setup::seeded(30, 3);
    // On one CPU by taskset, two threads that spin: whatever the host has.
    let cpu = kairos_engine::pin::usable_cpus().unwrap()[0];
    setup.cores = map(cpu, cpu, cpu, cpu, cpu).replace("yield", "spin");
    let config = config_file(&setup);
    let mut command = Command::new("taskset");
    command.args([
        "-c",
        &cpu.to_string(),
        env!("CARGO_BIN_EXE_kairos-engine"),
        "check",
        "--config",
    ]);
    command.arg(&config).args(["--set", "cores.risk=4000"]);
    let said = say(&mut command);
    assert_eq!(said.status, Some(78), "{said:?}");
    let lines = complaints(&said);
    assert_eq!(lines.len(), 2, "every problem at once: {said:?}");
    assert!(lines[0].contains("cores.risk = 4000: not among the usable CPUs"), "{said:?}");
    assert!(lines[1].contains("2 spinning threads on 1 usable CPUs"), "{said:?}");
    assert!(lines[1].contains("set wait to \"yield\" or \"park\""), "{said:?}");
}

#[test]
fn the_configuration_file() {
    let setup = Setup::seeded(30, 3);
    let file = setup.dir.path().join("kairos.toml");
    let check = |text: Option<&str>, parts: &[&str]| {
        match text {
            Some(text) => std::fs::write(&file, text).unwrap(),
            None => drop(std::fs::remove_file(&file)),
        }
        for verb in ["run", "check"] {
            let said = say(engine().args([verb, "--config"]).arg(&file));
            assert_one_line(&said, 78, parts);
        }
    };
    check(None, &["kairos.toml", "no such file", "--config"]);
    check(Some("[engine\n"), &["kairos.toml:1:"]);
    let doubled = setup.text().replace("[journal]", "[journal]\ngate = \"none\"");
    check(Some(&doubled), &["kairos.toml:", "duplicate key"]);
    let mistyped = setup.text().replace("segment_mib", "segment_mb");
    check(Some(&mistyped), &["journal.segment_mb", "segment_mib", "kairos.toml:"]);
}

#[test]
fn the_command_line() {
    for args in [
        &[][..],
        &["bogus"],
        &["run", "--bogus"],
        &["run", "--set", "foo"],
        &["check", "--set", "engine.seed=1", "--set", "engine.seed"],
        &["replay"],
        &["demo", "--seconds", "0"],
    ] {
        let said = say(engine().args(args));
        assert_eq!(said.status, Some(64), "{args:?}: {said:?}");
        assert!(said.out.is_empty() && said.err.contains("--help"), "{args:?}: {said:?}");
    }
    for args in [&["--help"][..], &["run", "--help"], &["--version"]] {
        let said = say(engine().args(args));
        assert_eq!((said.status, said.err.as_str()), (Some(0), ""), "{args:?}");
    }
}

/// The setup's capture, packed.
fn packed(setup: &Setup) -> Vec<u8> {
    let text = std::fs::read(&setup.captures[0]).unwrap();
    let mut packer = GzEncoder::new(Vec::new(), Compression::fast());
    packer.write_all(&text).unwrap();
    packer.finish().unwrap()
}

/// Puts `bytes` where the setup reads its capture.
fn capture(setup: &mut Setup, name: &str, bytes: &[u8]) -> PathBuf {
    let path = setup.dir.path().join(name);
    std::fs::write(&path, bytes).unwrap();
    let session = setup.captures[0].with_extension("session.json");
    let stem = name.split('.').next().unwrap();
    let beside = setup.dir.path().join(format!("{stem}.session.json"));
    std::fs::copy(session, beside).unwrap();
    setup.captures = vec![path.clone()];
    path
}

#[test]
fn captures_that_cannot_be_read_to_the_end() {
    // `least`: events that must be in the journal; nothing where it must not even be made.
    let check = |name: &str, make: &dyn Fn(&[u8]) -> Option<Vec<u8>>, least: Option<u64>, part| {
        let mut setup = Setup::seeded(31, 20);
        match make(&packed(&setup)) {
            Some(bytes) => drop(capture(&mut setup, name, &bytes)),
            None => setup.captures = vec![setup.dir.path().join(name)],
        }
        assert_one_line(&run(&setup, &[]), 1, &[name, part]);
        let Some(least) = least else {
            assert!(!setup.journal_dir().exists(), "{name}: refused before the journal");
            return;
        };
        // What was read before is journaled, and the run ended properly.
        assert_kept(&setup);
        assert!(setup.verify().events >= least, "{name}: {:?}", setup.verify());
    };
    let half = |whole: &[u8]| Some(whole[..whole.len() / 2].to_vec());
    check("half.frames.gz", &half, Some(1_000), "the gzip stream ends before its end");
    let flipped = |whole: &[u8]| {
        let mut bytes = whole.to_vec();
        let checksum = bytes.len() - 6;
        bytes[checksum] ^= 1;
        Some(bytes)
    };
    check("flipped.frames.gz", &flipped, Some(1_000), "line");
    check("text.frames.gz", &|_| Some(b"1 {}\n".to_vec()), None, "not gzip");
    check("absent.frames.gz", &|_| None, None, "No such file");
    check("noise.frames", &|_| Some(b"no time at all\n".to_vec()), None, "line 1");
    check("half-way.frames", &|_| Some(b"1 {}\n\nno time at all\n".to_vec()), Some(0), "line 3");
}

/// Every file of a journal's directory but its lock, with its bytes.
fn files(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else if path.file_name().is_some_and(|it| it != "lock") {
            let bytes = std::fs::read(&path).unwrap();
            found.push((path, bytes));
        }
    }
    found.sort();
    found
}

#[test]
fn a_journal_directory_that_is_foreign_or_damaged() {
    let mut setup = Setup::seeded(33, 5);
    setup.run();
    let segment = || {
        let is_segment = |it: &(PathBuf, Vec<u8>)| it.1.len() >= 2 << 20;
        files(&setup.journal_dir()).into_iter().find(is_segment).unwrap()
    };
    let whole = segment();
    // One bit of a frame in the middle of a sealed segment, and the first bytes of the file.
    let frame = whole.1.windows(6).position(|it| it == b"\"BTCUS" || it == b"BTCUSD").unwrap();
    for (place, what) in [(frame, "a frame"), (0, "the magic"), (8, "the version")] {
        let mut bytes = whole.1.clone();
        bytes[place] ^= 0x40;
        std::fs::write(&whole.0, &bytes).unwrap();
        let before = files(&setup.journal_dir());
        let said = run(&setup, &[]);
        assert_eq!(said.status, Some(2), "{what}: {said:?}");
        let name = whole.0.file_name().unwrap().to_str().unwrap();
        assert_one_line(&said, 2, &[name]);
        assert_eq!(files(&setup.journal_dir()), before, "{what}: nothing was written");
        let said = say(engine().args(["replay", "--verify"]).arg(setup.journal_dir()));
        assert_one_line_of("kairos: ", &said, 2, &[name]);
    }
    std::fs::write(&whole.0, &whole.1).unwrap();
    setup.run();
    assert_kept(&setup);

    setup.journal = "foreign".into();
    std::fs::create_dir(setup.journal_dir()).unwrap();
    std::fs::write(setup.journal_dir().join("letter.txt"), "dear journal").unwrap();
    let said = run(&setup, &[]);
    assert_one_line(&said, 1, &["letter.txt", "not a journal", "rule: an empty directory"]);
    assert_eq!(files(&setup.journal_dir()).len(), 1, "nothing was put beside it");

    setup.journal = "no-directory".into();
    std::fs::write(setup.journal_dir(), "a file").unwrap();
    assert_one_line(&run(&setup, &[]), 1, &["no-directory"]);

    let absent = setup.dir.path().join("absent");
    let said = say(engine().args(["replay", "--verify"]).arg(&absent));
    assert_one_line_of("kairos: ", &said, 1, &["absent", "no journal"]);
}

#[test]
fn a_journal_that_another_engine_writes() {
    let mut setup = Setup::seeded(34, 20);
    setup.pace = "5.0".into();
    let mut first = Alive::start(&setup);
    let journaled = || kairos_journal::fingerprint(&setup.journal_dir()).map_or(0, |it| it.1);
    poll("the first engine to write", || {
        assert!(first.ended().is_none(), "{}", first.errors());
        (journaled() > 100).then_some(())
    });
    let before = std::fs::read_dir(setup.journal_dir()).unwrap().count();
    let name = setup.journal_dir().display().to_string();
    let parts = [name.as_str(), "owned by another engine", "one journal has one writer"];
    assert_one_line(&run(&setup, &["engine.name=\"other\""]), 1, &parts);
    assert_eq!(std::fs::read_dir(setup.journal_dir()).unwrap().count(), before);
    assert!(first.ended().is_none(), "the first engine is not disturbed");
    // The same name and another journal: its stats page is taken.
    let other = format!("journal.dir={:?}", setup.dir.path().join("other"));
    assert_one_line(&run(&setup, &[&other]), 1, &["owned by a running engine", "engine.name"]);
    assert!(first.ended().is_none(), "the first engine is not disturbed");
    first.kill();
    assert_kept(&setup);
}

/// A small file system of its own below the test's directory; unmounted when dropped.
struct Small(PathBuf);

impl Small {
    /// `None`, and a message, where this process may not mount.
    fn mount(below: &Path, size: &str) -> Option<Self> {
        let place = below.join("small");
        std::fs::create_dir(&place).unwrap();
        let mut command = Command::new("mount");
        command.args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"]).arg(&place);
        match command.output() {
            Ok(output) if output.status.success() => Some(Self(place)),
            told => {
                println!("skipped: a small tmpfs cannot be mounted here: {told:?}");
                None
            }
        }
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _told = Command::new("umount").arg("-l").arg(&self.0).output();
    }
}

#[test]
fn a_file_system_that_is_full() {
    let mut setup = Setup::seeded(35, 200);
    let Some(_small) = Small::mount(setup.dir.path(), "9m") else { return };
    setup.journal = "small/journal".into();
    // Less than a segment: refused at once.
    let said = run(&setup, &["journal.segment_mib=16"]);
    assert_one_line(&said, 1, &["disk full", "small/journal"]);
    // Room for four segments of two: the run goes as far as they do.
    let _none = std::fs::remove_dir_all(setup.journal_dir());
    let said = run(&setup, &[]);
    assert_one_line(&said, 1, &["small/journal", "full", "everything journaled is kept"]);
    assert_kept(&setup);
    assert!(setup.verify().events > 10_000, "{:?}", setup.verify());
}

#[test]
fn frames_of_instruments_that_are_not_configured() {
    let mut setup = Setup::seeded(36, 5);
    setup.instruments = vec!["BTCUSDT"];
    setup.strategies = "[strategies.mom]\nkind = \"momentum\"\n".into();
    setup.more = "[instruments.BTCUSDT]\nbase = \"BTC\"\nquote = \"USDT\"\n".into();
    let said = run(&setup, &[]);
    assert_eq!(said.status, Some(0), "{said:?}");
    let told = said.err.lines().find(|it| it.contains("does not name")).unwrap();
    let parts = ["binance: ", " frames are about", "venues.binance.instruments does not name"];
    assert!(parts.iter().all(|it| told.contains(it)), "{told}");
}

#[test]
fn a_snapshot_that_is_missing() {
    let mut setup = Setup::seeded(32, 20);
    let text = std::fs::read_to_string(&setup.captures[0]).unwrap();
    // Only BTCUSDT is without; the others trade.
    let missing = |it: &&str| it.contains(" REST ") && it.contains("\"59");
    let found: Vec<_> = text.lines().filter(missing).collect();
    assert_eq!(found.len(), 1, "the snapshot of the pair that costs 60 000");
    std::fs::write(&setup.captures[0], text.replace(&format!("{}\n", found[0]), "")).unwrap();
    let session = setup.captures[0].with_extension("session.json");
    let mut requests: Value = serde_json::from_slice(&std::fs::read(&session).unwrap()).unwrap();
    requests["rest"].as_array_mut().unwrap().remove(0);
    std::fs::write(&session, requests.to_string()).unwrap();

    setup.strategies = BOTH.into();
    let said = say(engine().args(["run", "--json", "--config"]).arg(config_file(&setup)));
    assert_eq!(said.status, Some(0), "{said:?}");
    let summary: Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!(summary["unsynchronised"], serde_json::json!(["BTCUSDT"]), "{summary}");
    let content = setup.content();
    let of = |id: u16, kind| {
        let ours =
            |it: &&(u64, kairos_logic::event::Event)| it.1.kind == kind && it.1.instrument.0 == id;
        content.events.iter().filter(ours).count()
    };
    assert!(of(0, Kind::Quote) > 100 && of(0, Kind::Book) == 0, "quotes and no book");
    assert!(of(1, Kind::Book) > 100, "the others have theirs");
    let mut stale = 0;
    let mut approved = 0;
    // The very first quotes come before the first change of a book.
    let known = content.events.iter().find(|it| {
        let code = kairos_logic::event::StatusCode::Resync;
        it.1.instrument.0 == 0
            && matches!(it.1.news(), kairos_logic::event::News::Status { code: it, .. } if it == code)
    });
    let (from, _) = known.expect("the feed says that it waits for the book");
    for (_, decision) in content.decisions.iter().filter(|it| it.1.cause.0 >= *from) {
        if decision.action != Action::Place {
            continue;
        }
        if decision.instrument.0 == 0 {
            let verdict = (decision.verdict, decision.code, decision.found);
            assert_eq!(verdict, (Verdict::Denied, Code::MarketDataStale, -1), "{decision:?}");
            stale += 1;
        } else {
            approved += u32::from(decision.verdict == Verdict::Approved);
        }
    }
    assert!(stale > 0 && approved > 0, "{stale} refused, {approved} approved");
    assert_kept(&setup);
}
