//! Several captures as one stream, in the order of their times.

use std::path::PathBuf;

use kairos_logic::units::Nanos;

use super::{Capture, CaptureError, Frame};

/// Captures that are read together. Always the earliest of their next lines, the file named first
/// where two are equal; the order within a file is kept even where its times step back.
#[derive(Debug)]
pub struct Merge {
    sources: Vec<Source>,
    current: Option<usize>, // whose line was handed out last
}

#[derive(Debug)]
struct Source {
    capture: Capture,
    started: bool,
}

impl Merge {
    /// Opens the captures, in configuration order.
    ///
    /// # Errors
    /// [`CaptureError`] of the first one that can not be opened.
    pub fn open<P: Into<PathBuf>>(
        paths: impl IntoIterator<Item = P>,
    ) -> Result<Self, CaptureError> {
        let open = |path: P| Ok(Source { capture: Capture::open(path)?, started: false });
        Ok(Self { sources: paths.into_iter().map(open).collect::<Result<_, _>>()?, current: None })
    }

    /// The captures, in configuration order.
    pub fn captures(&self) -> impl Iterator<Item = &Capture> {
        self.sources.iter().map(|source| &source.capture)
    }

    /// Reads on where the last line was used.
    fn fill(&mut self) -> Result<(), CaptureError> {
        for (n, source) in self.sources.iter_mut().enumerate() {
            if !source.started || self.current == Some(n) {
                source.started = true;
                source.capture.advance()?;
            }
        }
        self.current = None;
        Ok(())
    }

    fn earliest(&self) -> Option<(Nanos, usize)> {
        let heads = self.sources.iter().enumerate();
        heads.filter_map(|(n, source)| Some((source.capture.recv()?, n))).min()
    }

    /// The time of the line that [`Self::next`] will hand out; `None` at the end of all files.
    ///
    /// # Errors
    /// As [`Self::next`].
    pub fn peek(&mut self) -> Result<Option<Nanos>, CaptureError> {
        self.fill()?;
        Ok(self.earliest().map(|(recv, _)| recv))
    }

    /// The next line of all; `None` at the end of all files.
    ///
    /// # Errors
    /// [`CaptureError`] naming file, line and rule.
    #[expect(
        clippy::should_implement_trait,
        reason = "a frame borrows from the merge, which no iterator can say"
    )]
    pub fn next(&mut self) -> Result<Option<Frame<'_>>, CaptureError> {
        self.fill()?;
        let Some((_, n)) = self.earliest() else {
            return Ok(None);
        };
        self.current = Some(n);
        let frame = self.sources.get(n).and_then(|it| it.capture.frame());
        Ok(frame.map(|frame| Frame { source: n, ..frame }))
    }
}
