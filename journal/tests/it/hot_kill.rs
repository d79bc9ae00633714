//! SIGKILL for the archiver, for the engine, for both, at random times: the archive is whole afterwards.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use kairos_journal::archive::{self, ArchiveOptions};
use kairos_journal::{
    Frame, HotOptions, Mode, Options, Placement, RunFacts, Turn, create, recover, verify,
};

use crate::common::{assert_holds, payload, tiny};

const DIR: &str = "KAIROS_TEST_HOT_KILL_DIR";
const JOB: &str = "KAIROS_TEST_HOT_KILL_JOB";
const ROUNDS: u64 = 100;

/// Not a test of its own: what the children do.
#[test]
fn child() {
    let Ok(dir) = std::env::var(DIR) else { return };
    let dir = Path::new(&dir);
    if std::env::var(JOB).as_deref() == Ok("archive") {
        let mut options = ArchiveOptions::new(dir.join("archive"), dir.join("ring"));
        options.flush_interval_ms = 1;
        archive::run(options, &AtomicBool::new(false), &mut |_| {}).unwrap();
    } else {
        write(dir);
    }
}

/// Writes until standard input ends, acknowledging each 16th event; then ends the run.
fn write(dir: &Path) {
    let hot = HotOptions {
        segments: 4,
        archiver_wait_ms: 60_000,
        full_ms: 60_000,
        ..HotOptions::new(&dir.join("ring"))
    };
    let options = Options { placement: Placement::Hot(hot), ..tiny() };
    let created = create(&dir.join("archive"), &options, RunFacts::default());
    let (mut writer, mut keeper, _) = created.unwrap();
    println!("\nack {}", writer.next_seq() - 1); // the harness leaves an open line
    let stop = AtomicBool::new(false);
    let keeper = std::thread::scope(|scope| {
        let keeping = scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                assert_ne!(keeper.turn(), Turn::Failed);
                std::thread::sleep(Duration::from_micros(100));
            }
            keeper
        });
        let ended = Arc::new(AtomicBool::new(false));
        let at_end = Arc::clone(&ended);
        std::thread::spawn(move || {
            let _ = std::io::stdin().read_to_end(&mut Vec::new());
            at_end.store(true, Ordering::Release);
        });
        let mut out = std::io::stdout().lock();
        while !ended.load(Ordering::Acquire) {
            let seq = writer.next_seq();
            let payload = payload(seq);
            let frame =
                Frame { ts: seq, kind: 0x101, schema: 1, lane: 0, ext: &[seq], payload: &payload };
            match writer.append(&frame) {
                Ok(seq) if seq % 16 == 0 => writeln!(out, "ack {seq}").unwrap(),
                Ok(_) => {}
                Err(_) => std::thread::yield_now(),
            }
            if seq % 64 == 0 {
                std::thread::sleep(Duration::from_micros(200)); // the archiver has a chance
            }
        }
        let last = writer.next_seq() - 1;
        let mut writer = Some(writer);
        while let Some(it) = writer.take() {
            writer = it.end_run(0, b"end").err().map(|(it, _)| it);
        }
        writeln!(out, "ack {last}").unwrap();
        stop.store(true, Ordering::Relaxed);
        keeping.join().unwrap()
    });
    keeper.finish().unwrap();
}

fn start(dir: &Path, job: &str) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "hot_kill::child", "--nocapture", "--test-threads=1"])
        .env(DIR, dir)
        .env(JOB, job)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// The engine's child, and what it acknowledged.
struct Engine {
    child: Child,
    acknowledged: Arc<AtomicU64>,
    reader: std::thread::JoinHandle<()>,
}

impl Engine {
    fn start(dir: &Path) -> Engine {
        let mut child = start(dir, "write");
        let acknowledged = Arc::new(AtomicU64::new(0));
        let out = BufReader::new(child.stdout.take().unwrap());
        let heard = Arc::clone(&acknowledged);
        let reader = std::thread::spawn(move || {
            for line in out.lines().map_while(Result::ok) {
                if let Some(seq) = line.strip_prefix("ack ").and_then(|it| it.parse().ok()) {
                    heard.store(seq, Ordering::Release);
                }
            }
        });
        Engine { child, acknowledged, reader }
    }

    /// Waits until it has gone on a while, or makes no progress because the ring is full.
    fn run_on(&self, events: u64) {
        let from = self.acknowledged.load(Ordering::Acquire);
        let deadline = Instant::now() + Duration::from_millis(400);
        while self.acknowledged.load(Ordering::Acquire) < from + events && Instant::now() < deadline
        {
            std::thread::sleep(Duration::from_micros(300));
        }
    }

    fn kill(self) -> u64 {
        kill(self.child);
        self.reader.join().unwrap();
        self.acknowledged.load(Ordering::Acquire)
    }

    fn end(mut self) -> u64 {
        drop(self.child.stdin.take());
        let output = self.child.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        self.reader.join().unwrap();
        self.acknowledged.load(Ordering::Acquire)
    }
}

/// A child that ends by itself has failed: it says why.
fn kill(mut child: Child) {
    if let Some(status) = child.try_wait().unwrap() {
        let mut said = String::new();
        child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        panic!("it ended by itself: {status}\n{said}");
    }
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn no_frame_is_lost_or_doubled_whoever_is_killed() {
    let place = tempfile::tempdir().unwrap();
    let dir = place.path();
    let archive = dir.join("archive");
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = |below: u64| {
        random =
            random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (random >> 33) % below
    };
    let mut archiver = Some(start(dir, "archive"));
    let mut engine = Some(Engine::start(dir));
    let mut acknowledged = 0;
    let (mut archivers, mut engines, mut recoveries) = (0, 0, 0);
    for round in 0..ROUNDS {
        if let Some(engine) = &engine {
            engine.run_on(next(1_500));
        }
        let choice = next(8);
        if let Some(child) = archiver.take_if(|_| choice != 0) {
            kill(child);
            archivers += 1;
        }
        if let Some(engine) = engine.take_if(|_| choice <= 3) {
            acknowledged = engine.kill().max(acknowledged);
            engines += 1;
        }
        if engine.is_none() && archiver.is_none() && next(2) == 0 {
            let report = recover(&archive, Mode::TolerateTornTail, false).unwrap();
            assert!(report.kept.map_or(0, |(_, last)| last) >= acknowledged, "{report:?}");
            let again = recover(&archive, Mode::Absolute, false).unwrap();
            assert!(again.already_sealed, "round {round}: {again:?}");
            let found = verify(&archive).unwrap();
            assert!(found.findings.is_empty(), "round {round}: {:#?}", found.findings);
            assert!(found.events >= acknowledged, "round {round}");
            recoveries += 1;
        }
        if archiver.is_none() {
            // Now and then it dies again while it looks at what it finds.
            while next(3) == 0 {
                let child = start(dir, "archive");
                std::thread::sleep(Duration::from_micros(next(20_000)));
                kill(child);
                archivers += 1;
            }
            archiver = Some(start(dir, "archive"));
        }
        if engine.is_none() {
            engine = Some(Engine::start(dir));
        }
    }
    acknowledged = engine.take().unwrap().end().max(acknowledged);
    kill(archiver.take().unwrap());
    let found = verify(&archive).unwrap();
    assert!(found.findings.is_empty(), "{:#?}", found.findings);
    assert_eq!(found.events, acknowledged);
    assert_holds(&archive, acknowledged);
    println!("{archivers} archivers, {engines} engines killed, {recoveries} recoveries");
    assert!(archivers >= 30 && engines >= 15 && recoveries >= 5);
}
