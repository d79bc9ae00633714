//! `journal dump --follow`: another process's view of a journal that grows.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use kairos_logic::event::Event;
use kairos_logic::units::Nanos;
use tempfile::TempDir;

use crate::harness::KAIROS;
use crate::journals::Written;

/// A child that does not outlive its test.
struct Follower {
    child: Child,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
}

impl Follower {
    fn start(dir: &TempDir, more: &str) -> Self {
        let mut child = Command::new(KAIROS)
            .args(["journal", "dump", dir.path().to_str().unwrap(), "--follow"])
            .args(more.split_whitespace())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    /// Waits for the next line.
    fn seq(&mut self) -> Option<u64> {
        let line = self.lines.next()?.unwrap();
        let line: serde_json::Value = serde_json::from_str(&line).unwrap();
        line["seq"].as_u64()
    }

    /// Waits for the end.
    fn ended(mut self) -> Option<i32> {
        assert_eq!(self.seq(), None, "nothing more is said");
        self.child.wait().unwrap().code()
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _status = self.child.wait();
    }
}

fn tick(run: &mut Written, at: u64) -> u64 {
    run.event(&Event::timer(Nanos(at)))
}

#[test]
fn a_follower_sees_what_is_committed_later_and_the_next_run_too() {
    let dir = TempDir::new().unwrap();
    let mut run = Written::begin(dir.path());
    let first = tick(&mut run, 1);
    // Seven lines in all: then it ends by itself.
    let mut follower = Follower::start(&dir, "--limit 7");
    assert_eq!(follower.seq(), Some(first));
    for at in 2..=4 {
        let seq = tick(&mut run, at);
        assert_eq!(follower.seq(), Some(seq));
    }
    run.end();
    let mut run = Written::begin(dir.path());
    for at in 5..=7 {
        let seq = tick(&mut run, at);
        assert_eq!(follower.seq(), Some(seq));
    }
    assert_eq!(follower.ended(), Some(0));
    run.kill();
}

#[test]
fn a_last_sequence_bounds_a_follower() {
    let dir = TempDir::new().unwrap();
    let mut run = Written::begin(dir.path());
    let mut follower = Follower::start(&dir, "--to-seq 5 --kind timer");
    for at in 4..=6 {
        tick(&mut run, at);
    }
    assert_eq!((follower.seq(), follower.seq()), (Some(4), Some(5)));
    assert_eq!(follower.ended(), Some(0));
}

#[test]
fn a_follower_waits_in_an_empty_directory_for_the_first_run() {
    let dir = TempDir::new().unwrap();
    let mut follower = Follower::start(&dir, "--limit 1");
    let mut run = Written::begin(dir.path());
    let seq = tick(&mut run, 1);
    assert_eq!(follower.seq(), Some(seq));
    assert_eq!(follower.ended(), Some(0));
}
