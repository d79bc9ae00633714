//! The engine as a process of its own: started, killed, waited for, and followed by another reader.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use kairos_journal::{Journal, Reader};

use crate::harness::Setup;

/// Far more than anything here takes; only a test that fails waits for it.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Asks until `answer` gives something.
///
/// # Panics
/// After [`PATIENCE`]; `what` says for what was waited.
pub fn poll<T>(what: &str, mut answer: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = answer() {
            return found;
        }
        assert!(start.elapsed() < PATIENCE, "waited {PATIENCE:?} for {what}");
        rest();
    }
}

/// Between two looks: no result depends on its length.
fn rest() {
    std::thread::sleep(Duration::from_micros(200));
}

/// Writes the configuration beside the journal; `--config` takes it.
pub fn config_file(setup: &Setup) -> PathBuf {
    let path = setup.dir.path().join("kairos.toml");
    std::fs::write(&path, setup.text()).unwrap();
    path
}

/// The engine's binary with a clean environment: only the file and the flags speak.
pub fn engine() -> Command {
    clean(Command::new(env!("CARGO_BIN_EXE_kairos-engine")))
}

fn clean(mut command: Command) -> Command {
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().to_ascii_uppercase().starts_with("KAIROS__") {
            command.env_remove(name);
        }
    }
    command
}

/// A command that ended, with what it said.
#[derive(Debug)]
pub struct Said {
    /// Exit status; `None` after a signal.
    pub status: Option<i32>,
    pub out: String,
    pub err: String,
}

/// Runs a command to its end.
pub fn say(command: &mut Command) -> Said {
    let output = command.stdin(Stdio::null()).output().unwrap();
    Said {
        status: output.status.code(),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

/// A living engine. Dropped, it is killed.
pub struct Alive {
    child: Child,
    errors: PathBuf,
}

impl Alive {
    /// Starts `run` with the setup's configuration.
    pub fn start(setup: &Setup) -> Self {
        let errors = setup.dir.path().join("stderr.txt");
        let child = engine()
            .args(["run", "--config"])
            .arg(config_file(setup))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&errors).unwrap())
            .spawn()
            .unwrap();
        Self { child, errors }
    }

    /// What it said on stderr so far.
    pub fn errors(&self) -> String {
        std::fs::read_to_string(&self.errors).unwrap()
    }

    /// SIGKILL, and the wait for the end. Says whether it was still alive.
    pub fn kill(&mut self) -> bool {
        let alive = self.child.try_wait().unwrap().is_none();
        self.child.kill().unwrap();
        let status = self.child.wait().unwrap();
        assert!(!alive || status.code().is_none_or(|it| it == 0), "{status}: {}", self.errors());
        alive
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: i32) {
        let id = i32::try_from(self.child.id()).unwrap();
        // SAFETY: takes two numbers; the child is not waited for yet, so the id is still its own.
        let sent = unsafe { libc::kill(id, signal) };
        assert_eq!(sent, 0, "signal {signal} to {id}");
    }

    /// Its exit status, if it has ended.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    /// Waits for its end by itself.
    pub fn wait(&mut self) -> ExitStatus {
        poll("the engine to end", || self.child.try_wait().unwrap())
    }
}

impl Drop for Alive {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _status = self.child.wait();
    }
}

/// Another process's view of a living journal: what was committed when it looked.
pub struct Follower {
    dir: PathBuf,
    reader: Option<Reader>,
    digest: blake3::Hasher,
    /// The newest sequence seen, physical frames left out.
    pub seen: Option<u64>,
}

impl Follower {
    /// Follows the journal that is, or will be, in `dir`.
    pub fn new(dir: &Path) -> Self {
        Self { dir: dir.to_owned(), reader: None, digest: blake3::Hasher::new(), seen: None }
    }

    /// Reads everything committed up to now, or up to `last`.
    pub fn look(&mut self, last: u64) {
        if self.reader.is_none() {
            // Before its first segment is there, a journal cannot be opened.
            self.reader = Journal::open(&self.dir).ok().map(|it| it.reader());
        }
        let Some(reader) = &mut self.reader else { return };
        while self.seen.is_none_or(|it| it < last) {
            let Some(frame) = reader.next().unwrap() else { return };
            if frame.is_physical() {
                continue;
            }
            let expected = self.seen.map_or(frame.seq, |it| it + 1);
            assert_eq!(frame.seq, expected, "sequences are dense");
            self.digest.update(&frame.seq.to_le_bytes());
            self.digest.update(&frame.kind.to_le_bytes());
            self.digest.update(frame.payload);
            self.seen = Some(frame.seq);
        }
    }

    /// Whether the journal, read anew, begins with exactly what was seen.
    pub fn is_kept(&self) -> bool {
        let Some(last) = self.seen else { return true };
        let mut again = Self::new(&self.dir);
        again.look(last);
        again.seen == self.seen && again.digest.finalize() == self.digest.finalize()
    }
}
