//! Runs the binary and keeps what it said.

use std::ffi::OsStr;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

/// The binary that these tests are about.
pub(crate) const KAIROS: &str = env!("CARGO_BIN_EXE_kairos");

/// A command that ended, with what it said.
#[derive(Debug)]
pub(crate) struct Said {
    /// Exit status; `None` after a signal.
    pub(crate) status: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Said {
    /// The lines of stdout as JSON.
    pub(crate) fn lines(&self) -> Vec<Value> {
        self.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Stdout as one JSON document, and nothing else.
    pub(crate) fn document(&self) -> Value {
        assert_eq!(self.out.lines().count(), 1, "one document: {self:?}");
        serde_json::from_str(&self.out).unwrap()
    }

    /// Ends the test unless the status is this one.
    pub(crate) fn expect(self, status: i32) -> Self {
        assert_eq!(self.status, Some(status), "{self:?}");
        self
    }
}

/// `kairos` with these words.
pub(crate) fn kairos<I: IntoIterator<Item: AsRef<OsStr>>>(words: I) -> Said {
    let output = Command::new(KAIROS).args(words).stdin(Stdio::null()).output().unwrap();
    Said {
        status: output.status.code(),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

/// `kairos journal <verb> <dir> <more>`, `more` split at spaces.
pub(crate) fn journal(verb: &str, dir: &Path, more: &str) -> Said {
    let dir = dir.to_str().unwrap();
    kairos(["journal", verb, dir].into_iter().chain(more.split_whitespace()))
}

/// `kairos replay <dir> <more>`, `more` split at spaces.
pub(crate) fn replay(dir: &Path, more: &str) -> Said {
    kairos(["replay", dir.to_str().unwrap()].into_iter().chain(more.split_whitespace()))
}
