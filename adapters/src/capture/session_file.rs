//! What stands beside a capture: the connection and the requests of its REST lines.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::CaptureError;

/// The request of one REST line.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestRequest {
    /// When it was sent or answered, in nanoseconds since 1970; 0 where unknown.
    #[serde(default)]
    pub ns: u64,
    /// Its path and query, with or without the host.
    pub target: String,
}

impl RestRequest {
    /// The symbol that it asks about, as [`symbol_of`].
    #[must_use]
    pub fn symbol(&self) -> Option<&str> {
        symbol_of(&self.target)
    }
}

/// The symbol in the query of a request: its parameter `symbol` or `instId`.
#[must_use]
pub fn symbol_of(target: &str) -> Option<&str> {
    let (_, query) = target.split_once('?')?;
    query.split('&').find_map(|parameter| {
        let (key, value) = parameter.split_once('=')?;
        (matches!(key, "symbol" | "instId") && !value.is_empty()).then_some(value)
    })
}

/// A frame that the client sent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SentText {
    /// When, in nanoseconds since 1970.
    pub ns: u64,
    /// The text.
    pub text: String,
}

/// The content of `<name>.session.json`. Keys that are not named here do not matter.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SessionFile {
    /// Address of the connection, where recorded.
    pub url: Option<String>,
    /// When it was opened, in nanoseconds since 1970.
    pub connected_ns: Option<u64>,
    /// When it was over; absent where the recording ended before it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub closed_ns: Option<u64>,
    /// Which of its venue's links it belonged to: those of one link carried the same instruments, one
    /// after the other. Absent where nobody knows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub link: Option<u16>,
    /// The symbols that it was for; empty where nobody knows.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub instruments: Vec<String>,
    /// What the client sent.
    pub sent: Vec<SentText>,
    /// The n-th entry is the request of the n-th REST line.
    pub rest: Vec<RestRequest>,
}

impl SessionFile {
    /// Where the session file of a capture lies: `x.frames.gz` → `x.session.json`.
    #[must_use]
    pub fn path_of(capture: &Path) -> PathBuf {
        let name = capture.file_name().map(|name| name.to_string_lossy());
        let name = name.as_deref().unwrap_or_default();
        let name = name.strip_suffix(".gz").unwrap_or(name);
        let stem =
            [".frames", ".rest"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name);
        capture.with_file_name(format!("{stem}.session.json"))
    }

    /// Reads the session file of a capture; `None` where there is none.
    ///
    /// # Errors
    /// [`CaptureError::Open`] and [`CaptureError::Session`] for a file that is there and can not be
    /// read: without it, bodies would go to the wrong books.
    pub fn beside(capture: &Path) -> Result<Option<Self>, CaptureError> {
        let path = Self::path_of(capture);
        match fs::read(&path) {
            Ok(bytes) => match serde_json::from_slice(&bytes) {
                Ok(session) => Ok(Some(session)),
                Err(source) => Err(CaptureError::Session { path, source }),
            },
            Err(source) if source.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(CaptureError::Open { path, source }),
        }
    }
}
