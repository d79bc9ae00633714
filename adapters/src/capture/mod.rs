//! Recorded connections: what was received, when, and what a replay needs to know besides.
//!
//! A capture is text, one line per frame, `\n` line ends, optionally gzip (`.gz`):
//!
//! ```text
//! <recv_ns> <frame>            a text frame as received
//! <recv_ns> REST <body>        the body of a REST reply, at the point where it came
//! ```
//!
//! Blank lines count as lines and say nothing. One file per connection. Beside `<name>.frames[.gz]` may lie `<name>.session.json`, whose n-th
//! `rest` entry is the request of the n-th REST line. Files are read as streams: what is in memory
//! is one line per file.

mod merge;
mod reader;
mod session_file;
#[cfg(test)]
mod tests;
mod writer;

pub use merge::Merge;
pub use reader::{Capture, Frame, FrameKind, LINE_MAX};
pub use session_file::{RestRequest, SentText, SessionFile, symbol_of};
pub use writer::CaptureWriter;

use std::path::PathBuf;

/// Why a capture can not be read or written. One line each: the file, the place, the rule.
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    /// It can not be opened.
    #[error("{path}: cannot open: {source}", path = .path.display())]
    Open {
        /// Which file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// Its name says gzip, its first bytes do not.
    #[error("{path}: byte 0: not gzip: a name that ends in .gz must hold a gzip stream", path = .path.display())]
    NotGzip {
        /// Which file.
        path: PathBuf,
    },
    /// Its gzip stream breaks off.
    #[error(
        "{path}: line {line}, byte {offset} of the text: the gzip stream ends before its end: the file is cut off",
        path = .path.display()
    )]
    Truncated {
        /// Which file.
        path: PathBuf,
        /// The line that could not be read, from 1.
        line: u64,
        /// Bytes of text before it.
        offset: u64,
    },
    /// It can not be read on.
    #[error("{path}: line {line}, byte {offset} of the text: cannot read: {source}", path = .path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// The line that could not be read, from 1.
        line: u64,
        /// Bytes of text before it.
        offset: u64,
        /// What the system or the decompressor says.
        source: std::io::Error,
    },
    /// A line does not begin as every line must.
    #[error(
        "{path}: line {line}, byte {offset} of the text: {found:?}: a line begins with nanoseconds since 1970 and one space",
        path = .path.display()
    )]
    NoTimestamp {
        /// Which file.
        path: PathBuf,
        /// Which line, from 1.
        line: u64,
        /// Bytes of text before it.
        offset: u64,
        /// How the line begins.
        found: String,
    },
    /// A line is longer than a line may be.
    #[error(
        "{path}: line {line}, byte {offset} of the text: a line has at most {max} bytes",
        path = .path.display(), max = LINE_MAX
    )]
    LineTooLong {
        /// Which file.
        path: PathBuf,
        /// Which line, from 1.
        line: u64,
        /// Bytes of text before it.
        offset: u64,
    },
    /// Its session file is there and can not be understood.
    #[error("{path}: line {line}: not a session file: {source}", path = .path.display(), line = .source.line())]
    Session {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// It can not be written.
    #[error("{path}: cannot write: {source}", path = .path.display())]
    Write {
        /// Which file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// A frame would need more than one line.
    #[error("{path}: a frame that holds a line end can not be written", path = .path.display())]
    LineEnd {
        /// Which file.
        path: PathBuf,
    },
}
