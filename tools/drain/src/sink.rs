//! What a sink promises.

use std::fmt;

use crate::source::{Entry, Run};

/// The next position that a sink needs, and what it knows of the one before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Cursor {
    /// The run of the last frame that the sink holds; 0 before the first, and where an operator accepted
    /// that all before `next_seq` is missing.
    pub run: u64,
    /// The number of the next event, from 1.
    pub next_seq: u64,
    /// Checksum of the last frame that the sink holds: a digest of all before it in its segment.
    pub crc: u32,
}

impl Cursor {
    /// Before the first event.
    pub const START: Self = Self { run: 0, next_seq: 1, crc: 0 };
}

impl Default for Cursor {
    fn default() -> Self {
        Self::START
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "run {} seq {}", self.run, self.next_seq)
    }
}

/// Why a sink cannot go on, and what is to be done about it.
#[derive(Debug, thiserror::Error)]
pub enum SinkError {
    /// It will pass: wait, ask for the cursor, go on.
    #[error("{0}")]
    Transient(String),
    /// The answer to a commit was lost: the sink's own cursor decides.
    #[error("{0}")]
    InDoubt(String),
    /// Another drain has taken over.
    #[error("{0}")]
    Fenced(String),
    /// The sink holds something else than this journal's history.
    #[error("{0}")]
    Diverged(String),
    /// The sink refuses schema or data.
    #[error("{0}")]
    Rejected(String),
    /// The sink has no room.
    #[error("{0}")]
    Full(String),
}

impl SinkError {
    /// The word in counts and in the status.
    #[must_use]
    pub const fn class(&self) -> &'static str {
        match self {
            Self::Transient(_) => "transient",
            Self::InDoubt(_) => "in_doubt",
            Self::Fenced(_) => "fenced",
            Self::Diverged(_) => "diverged",
            Self::Rejected(_) => "rejected",
            Self::Full(_) => "full",
        }
    }

    /// Whether waiting may help.
    #[must_use]
    pub const fn passes(&self) -> bool {
        match self {
            Self::Transient(_) | Self::InDoubt(_) | Self::Full(_) => true,
            Self::Fenced(_) | Self::Diverged(_) | Self::Rejected(_) => false,
        }
    }
}

/// What waits in a sink for its next commit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pending {
    /// Events.
    pub events: usize,
    /// Bytes of what will be sent or written.
    pub bytes: usize,
}

/// When a batch is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Batch {
    /// Events.
    pub rows: usize,
    /// Events while the sink is behind.
    pub catchup_rows: usize,
    /// Bytes.
    pub bytes: usize,
    /// Age of its oldest event, in milliseconds.
    pub ms: u64,
}

/// One target. It is driven by one thread: [`Sink::attach`], then runs and entries in order, then
/// [`Sink::commit`], which makes them and the cursor behind them visible together.
pub trait Sink {
    /// Opens, migrates, takes over from an older drain. Returns the cursor that the sink holds.
    /// Nothing is pending then.
    ///
    /// # Errors
    /// [`SinkError`].
    fn attach(&mut self, journal: &str) -> Result<Cursor, SinkError>;

    /// The entries that follow are of this run. Comes again after each [`Sink::attach`], and where
    /// the run's tables became known.
    ///
    /// # Errors
    /// [`SinkError`].
    fn run(&mut self, run: &Run) -> Result<(), SinkError>;

    /// Takes an entry into memory. `run` is the one that was told last.
    ///
    /// # Errors
    /// [`SinkError::Rejected`] where the entry cannot be said in the sink's words.
    fn add(&mut self, run: &Run, entry: &Entry<'_>) -> Result<(), SinkError>;

    /// What waits.
    fn pending(&self) -> Pending;

    /// When to call [`Sink::commit`].
    fn batch(&self) -> Batch;

    /// Whether all that waits must be committed before `entry`, of `run`, is taken.
    fn must_commit_before(&self, run: &Run, entry: &Entry<'_>) -> bool {
        let _ = (run, entry);
        false
    }

    /// Makes what waits and `next` visible together, or neither. Nothing waits afterwards, also after
    /// an error: whoever drives reads it from the journal again.
    ///
    /// # Errors
    /// [`SinkError`].
    fn commit(&mut self, next: Cursor) -> Result<(), SinkError>;

    /// Nobody writes the journal any more, and all of it is here: what its manifests say is final.
    ///
    /// # Errors
    /// [`SinkError`].
    fn settle(&mut self) -> Result<(), SinkError> {
        Ok(())
    }

    /// After a commit that failed: connects again without taking over, and says which cursor the sink
    /// holds.
    ///
    /// # Errors
    /// [`SinkError`].
    fn recall(&mut self) -> Result<Cursor, SinkError>;

    /// Forgets what waits.
    fn discard(&mut self);

    /// Lets go of the server while the sink is paused: [`Sink::recall`] comes before anything else.
    fn release(&mut self) {}

    /// The sink's writer number, for the status; 0 where it has none.
    fn epoch(&self) -> u64 {
        0
    }
}
