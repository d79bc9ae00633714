//! What can go wrong when a journal is opened, read or repaired. The hot path has its own error.

use std::io;
use std::path::{Path, PathBuf};

use crate::recover::Report;
use crate::verify::Finding;

/// Why a journal cannot be opened, read or repaired. One line each, naming file, found and rule.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A system call failed.
    #[error("{path}: {what}: {source}", path = path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What was tried.
        what: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// The file system is full.
    #[error("{path}: disk full: a segment needs {need} bytes, {free} are free", path = path.display())]
    NoSpace {
        /// The file that was to be allocated.
        path: PathBuf,
        /// Bytes wanted.
        need: u64,
        /// Bytes the file system has for us.
        free: u64,
    },
    /// Another process holds the lock.
    #[error("{dir}: journal is owned by another engine ({owner}); one journal has one writer", dir = dir.display())]
    Owned {
        /// The journal's directory.
        dir: PathBuf,
        /// What the owner wrote into the lock file.
        owner: String,
    },
    /// The directory is absent or holds no journal.
    #[error("{dir}: no journal: {found}", dir = dir.display())]
    Missing {
        /// The directory.
        dir: PathBuf,
        /// What is there instead.
        found: String,
    },
    /// The directory holds something else.
    #[error("{file}: not a journal: found {found}; rule: {rule}", file = file.display())]
    Foreign {
        /// The file that does not belong.
        file: PathBuf,
        /// What was found.
        found: String,
        /// What a journal has there.
        rule: &'static str,
    },
    /// The format has another major version.
    #[error("{file}: format {found}, this build reads {reads}.x: needs {needs} kairos", file = file.display())]
    Version {
        /// The segment.
        file: PathBuf,
        /// Major version found.
        found: u16,
        /// Major version that this build reads.
        reads: u16,
        /// `a newer` or `an older`.
        needs: &'static str,
    },
    /// Bytes are not what was written.
    #[error("journal damaged: {0}")]
    Damaged(Box<Finding>),
    /// Recovery found something that the chosen mode does not accept.
    #[error("{dir}: recovery refused: {verdict}: {reason}", dir = dir.display(), verdict = report.verdict, reason = report.reason)]
    Refused {
        /// The journal's directory.
        dir: PathBuf,
        /// The whole story.
        report: Box<Report>,
    },
    /// An option is out of its range.
    #[error("journal.{key} = {found}: {rule}")]
    Option {
        /// The option.
        key: &'static str,
        /// The value found.
        found: String,
        /// What it must be.
        rule: &'static str,
    },
    /// The file system is not fit for a journal, and the profile is strict.
    #[error("{dir}: file system {found}: {rule}", dir = dir.display())]
    FileSystem {
        /// The directory.
        dir: PathBuf,
        /// The file system's name.
        found: String,
        /// What is accepted.
        rule: &'static str,
    },
    /// The archiver of placement `hot` does not do its work.
    #[error("{dir}: {reason}; waited {waited_ms} ms: start kairos-drain run --role archive", dir = dir.display())]
    Archiver {
        /// The ring's directory.
        dir: PathBuf,
        /// What the archiver says, or that there is none.
        reason: String,
        /// How long the engine waited for it.
        waited_ms: u64,
    },
    /// The keeper was asked to finish a run that the writer had not ended, or that failed.
    #[error("{dir}: run not ended: {reason}", dir = dir.display())]
    NotEnded {
        /// The journal's directory.
        dir: PathBuf,
        /// Why.
        reason: String,
    },
}

/// The error of [`crate::create`].
pub type OpenError = Error;

/// What an [`Error`] means to an operator; exit statuses are chosen by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// The bytes are damaged, or of another format.
    Damaged,
    /// The journal may be fine, but cannot be opened here and now: owned, absent, disk full, I/O.
    Unavailable,
    /// An option or the host is refused.
    Configuration,
}

impl Error {
    /// What the error means to an operator.
    #[must_use]
    pub fn class(&self) -> Class {
        match self {
            Error::Damaged(_) | Error::Refused { .. } | Error::Version { .. } => Class::Damaged,
            Error::Foreign { file, .. } => {
                if file.extension().is_some_and(|it| it == "jnl" || it == "zst") {
                    Class::Damaged
                } else {
                    Class::Unavailable
                }
            }
            Error::Io { .. }
            | Error::NoSpace { .. }
            | Error::Owned { .. }
            | Error::Missing { .. }
            | Error::Archiver { .. }
            | Error::NotEnded { .. } => Class::Unavailable,
            Error::Option { .. } | Error::FileSystem { .. } => Class::Configuration,
        }
    }

    /// Wraps what the system said about `path`.
    pub(crate) fn io(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
        move |source| Error::Io { path: path.to_path_buf(), what, source }
    }
}
