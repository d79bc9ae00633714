//! One capture, line by line.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use flate2::bufread::MultiGzDecoder;
use kairos_logic::units::Nanos;

use super::{CaptureError, SessionFile};

/// Longest line, in bytes: venues send frames of up to 16 MiB.
pub const LINE_MAX: usize = 32 << 20;
/// Read buffer, for compressed and for plain bytes.
const BUFFER: usize = 1 << 16;
/// How much of a bad line is shown.
const SHOWN: usize = 24;

/// What a line holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameKind<'a> {
    /// A text frame.
    Text,
    /// The body of a REST reply.
    Rest {
        /// What was asked, from the session file.
        target: Option<&'a str>,
        /// The symbol in that request.
        symbol: Option<&'a str>,
    },
}

/// One line of a capture. Valid until the next one is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// When it was received. May step back from line to line.
    pub recv: Nanos,
    /// Which of several files: its place in configuration order.
    pub source: usize,
    /// Line of the file, from 1.
    pub line: u64,
    /// Frame or REST body.
    pub kind: FrameKind<'a>,
    /// The frame as received. Not necessarily UTF-8.
    pub bytes: &'a [u8],
}

/// Plain or compressed bytes.
enum Input {
    Plain(BufReader<File>),
    Gzip(Box<BufReader<MultiGzDecoder<BufReader<File>>>>),
}

impl Input {
    fn reader(&mut self) -> &mut dyn BufRead {
        match self {
            Self::Plain(reader) => reader,
            Self::Gzip(reader) => reader,
        }
    }
}

/// A capture that is being read.
pub struct Capture {
    path: PathBuf,
    input: Input,
    session: Option<SessionFile>,
    text: Vec<u8>, // the current line without its end
    line: u64,     // its number, from 1; 0 before the first
    offset: u64,   // bytes of text before the next line
    rests: usize,  // REST lines so far, the current one included
    head: Option<Head>,
}

/// The current line, taken apart.
#[derive(Clone, Copy)]
struct Head {
    recv: Nanos,
    rest: bool,
    start: usize, // of the frame in `text`
}

impl std::fmt::Debug for Capture {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Capture")
            .field("path", &self.path)
            .field("line", &self.line)
            .finish_non_exhaustive()
    }
}

impl Capture {
    /// Opens a capture and its session file, if there is one. Nothing is read yet beyond the first
    /// bytes.
    ///
    /// # Errors
    /// [`CaptureError`] naming the file that can not be opened or is not what its name says.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self, CaptureError> {
        let path = path.into();
        let session = match File::open(&path) {
            Ok(_) => SessionFile::beside(&path)?,
            Err(source) => return Err(CaptureError::Open { path, source }),
        };
        let input = Self::input(&path)?;
        Ok(Self {
            path,
            input,
            session,
            text: Vec::with_capacity(1 << 12),
            line: 0,
            offset: 0,
            rests: 0,
            head: None,
        })
    }

    fn input(path: &Path) -> Result<Input, CaptureError> {
        let open_error = |source| CaptureError::Open { path: path.to_path_buf(), source };
        let file = File::open(path).map_err(open_error)?;
        if file.metadata().map_err(open_error)?.is_dir() {
            return Err(open_error(io::ErrorKind::IsADirectory.into()));
        }
        let mut file = BufReader::with_capacity(BUFFER, file);
        if path.extension().is_none_or(|end| end != "gz") {
            return Ok(Input::Plain(file));
        }
        let first = file.fill_buf().map_err(open_error)?;
        if !first.starts_with(&[0x1f, 0x8b]) {
            return Err(CaptureError::NotGzip { path: path.to_path_buf() });
        }
        let reader = BufReader::with_capacity(BUFFER, MultiGzDecoder::new(file));
        Ok(Input::Gzip(Box::new(reader)))
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its session file, if there is one.
    #[must_use]
    pub fn session(&self) -> Option<&SessionFile> {
        self.session.as_ref()
    }

    /// Reads the next line that is not blank; `false` at the end of the file.
    ///
    /// # Errors
    /// [`CaptureError`] naming file, line and rule. Lines before it were good.
    pub fn advance(&mut self) -> Result<bool, CaptureError> {
        self.head = None;
        while self.read_line()? {
            if self.head.is_some() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Reads one line; of a blank one nothing but its number stays.
    fn read_line(&mut self) -> Result<bool, CaptureError> {
        self.text.clear();
        // One byte more than a line may have, so that a line that is too long is told from the last.
        let limit = LINE_MAX as u64 + 1;
        let mut reader = self.input.reader().take(limit);
        match reader.read_until(b'\n', &mut self.text) {
            Ok(0) => return Ok(false),
            Ok(_) => {}
            Err(source) => return Err(self.read_error(source)),
        }
        self.line += 1;
        if self.text.len() > LINE_MAX {
            return Err(CaptureError::LineTooLong {
                path: self.path.clone(),
                line: self.line,
                offset: self.offset,
            });
        }
        let read = self.text.len() as u64;
        if self.text.last() == Some(&b'\n') {
            self.text.pop();
        }
        if self.text.trim_ascii().is_empty() {
            self.offset += read;
            return Ok(true);
        }
        let Some(head) = Self::take_apart(&self.text) else {
            let shown = self.text.get(..SHOWN).unwrap_or(&self.text);
            return Err(CaptureError::NoTimestamp {
                path: self.path.clone(),
                line: self.line,
                offset: self.offset,
                found: String::from_utf8_lossy(shown).into_owned(),
            });
        };
        self.offset += read;
        self.rests += usize::from(head.rest);
        self.head = Some(head);
        Ok(true)
    }

    fn read_error(&self, source: io::Error) -> CaptureError {
        let (path, line, offset) = (self.path.clone(), self.line + 1, self.offset);
        if source.kind() == io::ErrorKind::UnexpectedEof {
            return CaptureError::Truncated { path, line, offset };
        }
        CaptureError::Read { path, line, offset, source }
    }

    fn take_apart(text: &[u8]) -> Option<Head> {
        let digits = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let (number, rest) = text.split_at_checked(digits)?;
        let mut recv = 0_u64;
        for digit in number {
            let digit = u64::from(digit - b'0');
            recv = recv.checked_mul(10)?.checked_add(digit)?;
        }
        let frame = rest.strip_prefix(b" ")?;
        if number.is_empty() {
            return None;
        }
        let rest = frame.starts_with(b"REST ");
        Some(Head { recv: Nanos(recv), rest, start: digits + 1 + if rest { 5 } else { 0 } })
    }

    /// The current line: the one that [`Self::advance`] read.
    #[must_use]
    pub fn frame(&self) -> Option<Frame<'_>> {
        let head = self.head?;
        let kind = if head.rest {
            let request = || self.session.as_ref()?.rest.get(self.rests.checked_sub(1)?);
            FrameKind::Rest {
                target: request().map(|it| it.target.as_str()),
                symbol: request().and_then(|it| it.symbol()),
            }
        } else {
            FrameKind::Text
        };
        Some(Frame {
            recv: head.recv,
            source: 0,
            line: self.line,
            kind,
            bytes: self.text.get(head.start..)?,
        })
    }

    /// The time of the current line.
    #[must_use]
    pub fn recv(&self) -> Option<Nanos> {
        self.head.map(|head| head.recv)
    }
}
