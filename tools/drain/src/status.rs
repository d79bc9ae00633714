//! How the sinks are: what each thread tells, and the file that shows it to others.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

/// What a sink is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// Connects, migrates, finds its place.
    #[default]
    Attach,
    /// Is behind, and reads as fast as it can.
    CatchUp,
    /// Less than a second behind.
    Live,
    /// Waits after an error.
    Backoff,
    /// Another drain has taken over. Final.
    Fenced,
    /// Holds something else than this journal's history. Final.
    Diverged,
    /// Refuses schema or data. Final.
    Rejected,
    /// The journal is damaged, or the thread broke; it is tried again.
    Failed,
    /// Holds the whole journal, and was asked for no more.
    Done,
    /// Was told to stop.
    Stopped,
    /// Was told to pause: kairos drain resume.
    Paused,
}

impl State {
    /// The name in tables.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::Attach => "attach",
            Self::CatchUp => "catch-up",
            Self::Live => "live",
            Self::Backoff => "backoff",
            Self::Fenced => "fenced",
            Self::Diverged => "diverged",
            Self::Rejected => "rejected",
            Self::Failed => "failed",
            Self::Done => "done",
            Self::Stopped => "stopped",
            Self::Paused => "paused",
        }
    }

    /// Whether nothing will happen any more until an operator acts.
    #[must_use]
    pub const fn is_broken(self) -> bool {
        match self {
            Self::Fenced | Self::Diverged | Self::Rejected | Self::Failed => true,
            Self::Attach
            | Self::CatchUp
            | Self::Live
            | Self::Backoff
            | Self::Done
            | Self::Stopped
            | Self::Paused => false,
        }
    }
}

/// How one sink is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SinkStatus {
    /// Its name.
    pub sink: String,
    /// What it is doing.
    pub state: State,
    /// Its writer number.
    pub epoch: u64,
    /// The run of the last event that it holds.
    pub run: u64,
    /// The last event that it holds.
    pub seq: u64,
    /// Events of the journal that it does not hold.
    pub lag_events: u64,
    /// Age of the oldest of them, in seconds; 0 where there is none.
    pub lag_seconds: f64,
    /// Events since the drain started.
    pub events: u64,
    /// Events per second, over the last seconds.
    pub events_per_second: f64,
    /// Commits since the drain started.
    pub commits: u64,
    /// Events of the last commit.
    #[serde(default)]
    pub batch_events: u64,
    /// Time that half of the last 512 commits took at most, in milliseconds.
    #[serde(default)]
    pub commit_p50_ms: f64,
    /// Time that 99 of a hundred of them took at most, in milliseconds.
    #[serde(default)]
    pub commit_p99_ms: f64,
    /// Longest commit of the last seconds, in milliseconds.
    pub commit_max_ms: f64,
    /// Errors since the drain started, by class.
    pub errors: BTreeMap<String, u64>,
    /// The newest of them.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub last_error: Option<String>,
    /// When it was, in nanoseconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub last_error_at_ns: Option<u64>,
    /// Whether that was logged, and nothing has gone well since.
    #[serde(skip)]
    pub is_said: bool,
}

/// A sink's status, shared with whoever shows it.
#[derive(Clone, Debug, Default)]
pub struct Board(Arc<Mutex<SinkStatus>>);

impl Board {
    /// The board of a sink.
    #[must_use]
    pub fn new(sink: &str) -> Self {
        Self(Arc::new(Mutex::new(SinkStatus { sink: sink.to_owned(), ..SinkStatus::default() })))
    }

    /// Changes it.
    pub fn update(&self, change: impl FnOnce(&mut SinkStatus)) {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// What it says now.
    #[must_use]
    pub fn read(&self) -> SinkStatus {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// What `drain.json` holds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Page {
    /// The drain's process.
    pub pid: u32,
    /// The journal that it follows.
    pub journal: String,
    /// When this was written, in nanoseconds since 1970.
    pub at_ns: u64,
    /// The last event that is on disk.
    pub durable_seq: u64,
    /// How each sink is.
    pub sinks: Vec<SinkStatus>,
}

/// Name of the status file in the run directory.
pub const FILE: &str = "drain.json";

impl Page {
    /// Replaces the file in `dir`.
    ///
    /// # Errors
    /// What the system says.
    pub fn write(&self, dir: &Path) -> std::io::Result<()> {
        replace(&dir.join(FILE), serde_json::to_string(self)?.as_bytes())
    }

    /// Reads the file in `dir`; `None` where there is none.
    ///
    /// # Errors
    /// What the system says, or that the file is none of ours.
    pub fn read(dir: &Path) -> std::io::Result<Option<Self>> {
        let path: PathBuf = dir.join(FILE);
        match fs::read_to_string(&path) {
            Ok(text) => Ok(Some(serde_json::from_str(&text)?)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Whether the drain that wrote it still runs: it was not told to stop, and wrote in the last five seconds.
    #[must_use]
    pub fn is_fresh(&self) -> bool {
        let is_stopped = self.sinks.iter().any(|it| it.state == State::Stopped);
        !is_stopped && now_ns().saturating_sub(self.at_ns) < 5_000_000_000
    }
}

/// The file whose being there pauses a sink.
#[must_use]
pub fn pause_file(run_dir: &Path, sink: &str) -> PathBuf {
    run_dir.join("drain-paused").join(sink)
}

/// Replaces a status file: who reads it sees the old one or the new one.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let hidden = path.with_extension("tmp");
    let mut options = fs::OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o640);
    options.open(&hidden)?.write_all(bytes)?;
    fs::rename(&hidden, path)
}

/// Now, in nanoseconds since 1970.
#[must_use]
pub fn now_ns() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}
