//! SIGKILL at random times: every acknowledged event is there afterwards, whatever was going on.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use kairos_journal::{Frame, Journal, Mode, RunFacts, Turn, Verdict, create, recover, verify};

use crate::common::{assert_holds, events, payload, tiny};

const DIR: &str = "KAIROS_TEST_KILL_DIR";
const JOB: &str = "KAIROS_TEST_KILL_JOB";
const KILLS: u64 = 60;

/// Not a test of its own: what the child of [`survives_kills`] does.
#[test]
fn child() {
    let Ok(dir) = std::env::var(DIR) else { return };
    let dir = Path::new(&dir);
    match std::env::var(JOB).as_deref() {
        Ok("truncate") => truncate_under_the_writer(dir),
        Ok("recover") => {
            let recovered = recover(dir, Mode::TolerateTornTail, false).unwrap();
            println!("\nrecovered {:?}", recovered.verdict);
        }
        _ => write_until_killed(dir),
    }
}

/// Writes for ever, acknowledging each 16th event on standard output.
fn write_until_killed(dir: &Path) {
    let (mut writer, mut keeper, opened) = create(dir, &tiny(), RunFacts::default()).unwrap();
    println!("\nopened {}", opened.first_seq); // the harness leaves an open line
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                assert_ne!(keeper.turn(), Turn::Failed);
                std::thread::yield_now();
            }
        });
        let mut out = std::io::stdout().lock();
        loop {
            let seq = writer.next_seq();
            let payload = payload(seq);
            let frame =
                Frame { ts: seq, kind: 0x101, schema: 1, lane: 0, ext: &[seq], payload: &payload };
            match writer.append(&frame) {
                Ok(seq) if seq % 16 == 0 => writeln!(out, "ack {seq}").unwrap(),
                Ok(_) => {}
                Err(_) => std::thread::yield_now(),
            }
        }
    });
}

/// Another process cuts the file that is mapped; the next store past the cut has no page.
fn truncate_under_the_writer(dir: &Path) {
    kairos_journal::install_sigbus_handler(2).unwrap();
    let (mut writer, _keeper, _) = create(dir, &tiny(), RunFacts::default()).unwrap();
    let path = dir.join("seg/00000001-000000000001.jnl");
    std::fs::OpenOptions::new().write(true).open(path).unwrap().set_len(16384).unwrap();
    let frame = Frame { ts: 0, kind: 0x101, schema: 1, lane: 0, ext: &[], payload: &[1; 3000] };
    for _ in 0..10 {
        writer.append(&frame).unwrap();
    }
}

#[test]
fn a_file_truncated_under_the_writer_ends_in_one_line_and_abort() {
    use std::os::unix::process::ExitStatusExt as _;
    let dir = tempfile::tempdir().unwrap();
    let mut command = command(dir.path(), "truncate");
    let output = command.stderr(Stdio::piped()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.signal(), Some(6), "{said}");
    assert!(said.contains("file truncated"), "{said}");
    assert!(said.contains("journal segment 1 offset 16384, last flushed seq"), "{said}");
}

fn start(dir: &Path, job: &str) -> Child {
    command(dir, job).spawn().unwrap()
}

fn command(dir: &Path, job: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", "kill::child", "--nocapture", "--test-threads=1"])
        .env(DIR, dir)
        .env(JOB, job)
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    command
}

/// Starts a child, kills it after `events` acknowledged events or `patience`, and returns the last
/// `seq` that it acknowledged.
fn kill_after(dir: &Path, job: &str, events: u64, patience: Duration) -> u64 {
    let mut child = start(dir, job);
    let out = BufReader::new(child.stdout.take().unwrap());
    let mut last = 0;
    let mut first = None;
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let deadline = Instant::now() + patience;
            while Instant::now() < deadline && !done.load(Ordering::Acquire) {
                std::thread::sleep(Duration::from_micros(200));
            }
            child.kill().unwrap();
        });
        for line in out.lines() {
            let Ok(line) = line else { break };
            if let Some(seq) = line.strip_prefix("ack ").and_then(|it| it.parse().ok()) {
                last = seq;
                let first = *first.get_or_insert(seq);
                if seq >= first + events {
                    done.store(true, Ordering::Release);
                }
            }
        }
        done.store(true, Ordering::Release);
    });
    child.wait().unwrap();
    last
}

#[test]
fn survives_kills() {
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    let mut dir = tempfile::tempdir().unwrap();
    let mut acknowledged = 0;
    let mut crashed = 0;
    for round in 0..KILLS {
        random =
            random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        // A segment holds about 380 events, so most of these die in or near a roll; some die early.
        let events = (random >> 33) % 4000;
        let patience =
            Duration::from_millis(if round % 5 == 0 { (random >> 50) % 40 } else { 5000 });
        acknowledged = kill_after(dir.path(), "write", events, patience).max(acknowledged);
        if round % 4 == 3 {
            // Recovery itself is killed, too.
            kill_after(
                dir.path(),
                "recover",
                u64::MAX,
                Duration::from_micros((random >> 40) % 9000),
            );
        }
        let found = verify(dir.path()).unwrap();
        assert!(!found.is_damaged(), "round {round}: {:#?}", found.findings);
        let first = recover(dir.path(), Mode::TolerateTornTail, false).unwrap();
        let second = recover(dir.path(), Mode::TolerateTornTail, false).unwrap();
        assert_eq!(second.verdict, first.verdict, "round {round}");
        assert!(second.already_sealed, "round {round}");
        assert_eq!((second.kept, second.offset), (first.kept, first.offset), "round {round}");
        crashed += u64::from(first.verdict == Verdict::Crashed);
        let found = verify(dir.path()).unwrap();
        assert!(found.findings.is_empty(), "round {round}: {:#?}", found.findings);
        let last = found.seq.map_or(0, |(_, last)| last);
        assert!(last >= acknowledged, "round {round}: acknowledged {acknowledged}, found {last}");
        if round % 10 == 9 {
            assert_holds(dir.path(), last);
            dir = tempfile::tempdir().unwrap();
            acknowledged = 0;
        }
    }
    assert!(crashed > KILLS / 2, "{crashed} crashes of {KILLS}");
    assert!(Journal::open(dir.path()).is_ok() && events(dir.path()).is_empty());
}
