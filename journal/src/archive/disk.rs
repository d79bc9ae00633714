//! Every step of the archiver on the disk, with a place for tests to fail or die before it.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Arc;

use crate::error::Error;
use crate::files::{create_new, free_bytes, sync_dir};
use crate::layout::SegmentHeader;
use crate::prepare::allocate;

/// A step on the disk that is about to be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step<'a> {
    /// A file of so many bytes is allocated.
    Allocate(&'a Path, u64),
    /// Bytes are written, to be synced later.
    Write(&'a Path),
    /// A file's data are synced.
    Sync(&'a Path),
    /// A file gets its name, or loses it; the directory is synced afterwards.
    Name(&'a Path),
    /// A small file is replaced: written, synced, renamed.
    Replace(&'a Path),
}

type Asked = dyn Fn(Step<'_>) -> io::Result<()> + Send + Sync;

/// Asked before each step on the disk; an error is taken for the disk's. For tests.
#[derive(Clone, Default)]
pub struct Probe(Option<Arc<Asked>>);

impl Probe {
    /// Asks `asked` before each step.
    pub fn new(asked: impl Fn(Step<'_>) -> io::Result<()> + Send + Sync + 'static) -> Probe {
        Probe(Some(Arc::new(asked)))
    }
}

impl fmt::Debug for Probe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Probe(asked)" } else { "Probe(none)" })
    }
}

/// The disk, as the archiver uses it.
#[derive(Debug)]
pub(crate) struct Disk {
    probe: Probe,
}

impl Disk {
    pub(crate) fn new(probe: Probe) -> Disk {
        Disk { probe }
    }

    fn ask(&self, step: Step<'_>) -> io::Result<()> {
        self.probe.0.as_ref().map_or(Ok(()), |asked| asked(step))
    }

    /// The file of a segment that is to be copied: allocated, headed, durable under its name.
    ///
    /// Not zero-written like the segments of placement `direct`: nobody maps it for writing, and the
    /// blocks of a sync behind a large write are converted at once. Its unwritten part reads as zeros.
    pub(crate) fn create_segment(
        &self,
        path: &Path,
        header: &SegmentHeader,
    ) -> Result<File, Error> {
        let temporary = path.with_extension("tmp");
        // Of an attempt that found the disk full.
        let _: io::Result<()> = std::fs::remove_file(&temporary);
        let file = create_new(&temporary)?;
        let asked = self.ask(Step::Allocate(path, header.segment_len));
        if let Err(source) = asked.and_then(|()| allocate(&file, header.segment_len)) {
            let _: io::Result<()> = std::fs::remove_file(&temporary); // gives the space back
            if source.kind() == io::ErrorKind::StorageFull {
                let free = free_bytes(path.parent().unwrap_or(path));
                return Err(Error::NoSpace { path: temporary, need: header.segment_len, free });
            }
            return Err(Error::io("allocate", &temporary)(source));
        }
        self.write(&file, &temporary, &header.to_page()[..], 0)?;
        self.sync(&file, &temporary)?;
        self.name(path, || std::fs::rename(&temporary, path))?;
        Ok(file)
    }

    /// An existing segment, to be written on.
    pub(crate) fn open_segment(path: &Path) -> Result<File, Error> {
        OpenOptions::new().read(true).write(true).open(path).map_err(Error::io("open", path))
    }

    pub(crate) fn write(
        &self,
        file: &File,
        path: &Path,
        bytes: &[u8],
        at: u64,
    ) -> Result<(), Error> {
        let written = self.ask(Step::Write(path)).and_then(|()| file.write_all_at(bytes, at));
        written.map_err(Error::io("write", path))
    }

    pub(crate) fn sync(&self, file: &File, path: &Path) -> Result<(), Error> {
        let synced = self.ask(Step::Sync(path)).and_then(|()| file.sync_data());
        synced.map_err(Error::io("fdatasync", path))
    }

    /// Renames or removes, and makes that durable.
    pub(crate) fn name(
        &self,
        path: &Path,
        change: impl FnOnce() -> io::Result<()>,
    ) -> Result<(), Error> {
        self.ask(Step::Name(path)).and_then(|()| change()).map_err(Error::io("rename", path))?;
        path.parent().map_or(Ok(()), sync_dir)
    }

    /// Before a small file is replaced.
    pub(crate) fn replacing(&self, path: &Path) -> Result<(), Error> {
        self.ask(Step::Replace(path)).map_err(Error::io("replace", path))
    }
}

/// A full disk before anything was written that must be synced: nothing is lost by trying again.
pub(crate) fn may_try_again(bad: &Error) -> bool {
    match bad {
        Error::NoSpace { .. } => true,
        Error::Io { source, what, .. } => {
            let is_full = source.kind() == io::ErrorKind::StorageFull;
            is_full && matches!(*what, "replace" | "create" | "create directory")
        }
        Error::Owned { .. }
        | Error::Missing { .. }
        | Error::Foreign { .. }
        | Error::Version { .. }
        | Error::Damaged(_)
        | Error::Refused { .. }
        | Error::Option { .. }
        | Error::FileSystem { .. }
        | Error::Archiver { .. }
        | Error::NotEnded { .. } => false,
    }
}
