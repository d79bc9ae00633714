//! Writes what the reader reads.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::PathBuf;

use flate2::Compression;
use flate2::write::GzEncoder;
use kairos_logic::units::Nanos;

use super::{CaptureError, RestRequest, SentText, SessionFile};

/// Plain or compressed bytes.
#[derive(Debug)]
enum Output {
    Plain(BufWriter<File>),
    Gzip(BufWriter<GzEncoder<File>>),
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(output) => output.write(bytes),
            Self::Gzip(output) => output.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(output) => output.flush(),
            Self::Gzip(output) => output.flush(),
        }
    }
}

/// A capture that is being written. It is whole only after [`CaptureWriter::finish`]; dropped
/// before that, a compressed one lacks its end, and the reader says so.
#[derive(Debug)]
pub struct CaptureWriter {
    path: PathBuf,
    output: Output,
    session: SessionFile,
}

impl CaptureWriter {
    /// Creates `path`, compressed if it ends in `.gz`. What was there is lost.
    ///
    /// # Errors
    /// [`CaptureError::Write`].
    pub fn create(path: impl Into<PathBuf>) -> Result<Self, CaptureError> {
        let path = path.into();
        let file = match File::create(&path) {
            Ok(file) => file,
            Err(source) => return Err(CaptureError::Write { path, source }),
        };
        let output = if path.extension().is_some_and(|end| end == "gz") {
            Output::Gzip(BufWriter::new(GzEncoder::new(file, Compression::default())))
        } else {
            Output::Plain(BufWriter::new(file))
        };
        Ok(Self { path, output, session: SessionFile::default() })
    }

    /// Notes the connection for the session file.
    pub fn connected(&mut self, url: &str, at: Nanos) {
        self.session.url = Some(url.into());
        self.session.connected_ns = Some(at.0);
    }

    /// Notes which link the connection belongs to, and for what, for the session file.
    pub fn carries(&mut self, link: u16, symbols: &[String]) {
        self.session.link = Some(link);
        self.session.instruments = symbols.to_vec();
    }

    /// Notes the end of the connection, for the session file.
    pub fn closed(&mut self, at: Nanos) {
        self.session.closed_ns = Some(at.0);
    }

    /// Notes a frame that was sent, for the session file.
    pub fn sent(&mut self, at: Nanos, text: &str) {
        let text = text.into();
        self.session.sent.push(SentText { ns: at.0, text });
    }

    /// Writes a frame as received.
    ///
    /// # Errors
    /// [`CaptureError::Write`], and [`CaptureError::LineEnd`] for a frame with a line end in it: it
    /// would be read back as two.
    pub fn frame(&mut self, recv: Nanos, frame: &[u8]) -> Result<(), CaptureError> {
        self.line(recv, "", frame)
    }

    /// Writes the body of a REST reply and notes its request.
    ///
    /// # Errors
    /// As [`Self::frame`].
    pub fn rest(&mut self, recv: Nanos, target: &str, body: &[u8]) -> Result<(), CaptureError> {
        self.line(recv, "REST ", body)?;
        let target = target.into();
        self.session.rest.push(RestRequest { ns: recv.0, target });
        Ok(())
    }

    fn line(&mut self, recv: Nanos, mark: &str, bytes: &[u8]) -> Result<(), CaptureError> {
        if bytes.contains(&b'\n') {
            let path = self.path.clone();
            return Err(CaptureError::LineEnd { path });
        }
        let mut write = || {
            write!(self.output, "{} {mark}", recv.0)?;
            self.output.write_all(bytes)?;
            self.output.write_all(b"\n")
        };
        write().map_err(|source| CaptureError::Write { path: self.path.clone(), source })
    }

    /// Completes the capture and writes its session file.
    ///
    /// # Errors
    /// [`CaptureError::Write`] naming the file.
    pub fn finish(self) -> Result<(), CaptureError> {
        let Self { path, output, session } = self;
        let end = match output {
            Output::Plain(mut output) => output.flush(),
            Output::Gzip(output) => match output.into_inner() {
                Ok(encoder) => encoder.finish().map(|_| ()),
                Err(error) => Err(error.into_error()),
            },
        };
        let path_of_session = SessionFile::path_of(&path);
        end.map_err(|source| CaptureError::Write { path, source })?;
        let text = serde_json::to_vec_pretty(&session).map_err(io::Error::from);
        text.and_then(|text| fs::write(&path_of_session, text))
            .map_err(|source| CaptureError::Write { path: path_of_session, source })
    }
}
