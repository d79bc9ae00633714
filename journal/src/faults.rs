//! A disk that fails when a test wants it to.

use std::fmt;
use std::io;
use std::sync::Arc;

/// What the keeper is about to ask of the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DiskStep {
    /// Room for the next segment.
    Allocate,
    /// That frames, or a seal, are written to the disk.
    Sync,
    /// That the durable watermark is.
    Watermark,
}

type Judge = dyn Fn(DiskStep) -> io::Result<()> + Send + Sync;

/// Asked before each [`DiskStep`]: what it answers is taken for the disk's own answer. The default
/// never fails anything.
#[derive(Clone, Default)]
pub struct Faults(Option<Arc<Judge>>);

impl Faults {
    /// A disk that fails when `judge` says so. As with a real disk a failed step has not happened,
    /// and the next one may succeed.
    pub fn for_tests(judge: impl Fn(DiskStep) -> io::Result<()> + Send + Sync + 'static) -> Faults {
        Faults(Some(Arc::new(judge)))
    }

    pub(crate) fn before(&self, step: DiskStep) -> io::Result<()> {
        self.0.as_ref().map_or(Ok(()), |judge| judge(step))
    }
}

impl fmt::Debug for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Faults(for tests)" } else { "Faults(none)" })
    }
}
