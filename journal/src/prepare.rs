//! Making a segment ready: allocated, zero-written, headed, synced, mapped, populated, locked.
//!
//! In steps of a few milliseconds, because the keeper also flushes: a whole segment at once would
//! hold up durability for as long as the disk needs to write it.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use memmap2::MmapOptions;

use crate::error::Error;
use crate::faults::{DiskStep, Faults};
use crate::files::{Dir, create_new, free_bytes, sync_dir};
use crate::layout::{FRAMES_AT, PAGE, SegmentHeader};
use crate::segment::Segment;

/// Bytes written and synced, or populated, per step. 4 MiB: 10 ms on a disk of 400 MB/s.
const STEP: usize = 4 << 20;

/// A segment that is ready, with the file through which its state page will be written.
pub(crate) struct Ready {
    pub(crate) segment: Arc<Segment>,
    pub(crate) file: File,
    /// Whether its pages are locked into memory.
    pub(crate) locked: bool,
}

/// A segment on its way. Dropped before it is ready, it leaves at most a temporary file.
///
/// The file appears under its name only when it is whole, so a killed run leaves no half segment.
#[derive(Debug)]
pub(crate) struct Preparation {
    header: SegmentHeader,
    path: PathBuf,
    temporary: PathBuf,
    file: File,
    len: usize,
    written: usize,           // in [0, len]
    segment: Option<Segment>, // once mapped
    populated: usize,         // in [FRAMES_AT, len]
}

impl Preparation {
    /// Creates and allocates the file.
    pub(crate) fn begin(
        dir: &Dir,
        header: &SegmentHeader,
        faults: &Faults,
    ) -> Result<Preparation, Error> {
        let path = dir.segment(header.run, header.segment);
        let temporary = path.with_extension("tmp");
        let len = usize::try_from(header.segment_len).map_err(|_| Error::Option {
            key: "segment_bytes",
            found: header.segment_len.to_string(),
            rule: "must fit the address space",
        })?;
        let file = create_new(&temporary)
            .map_err(|error| no_room(error, &temporary, header.segment_len))?;
        let preparation = Preparation {
            header: header.clone(),
            path,
            temporary,
            file,
            len,
            written: 0,
            segment: None,
            populated: FRAMES_AT,
        };
        let allocated = faults.before(DiskStep::Allocate);
        let allocated = allocated.and_then(|()| allocate(&preparation.file, header.segment_len));
        allocated.map_err(|source| preparation.failed(source))?;
        Ok(preparation)
    }

    /// Page 0 of the segment.
    pub(crate) fn header(&self) -> &SegmentHeader {
        &self.header
    }

    /// Does one step. `None`: there are more to do.
    pub(crate) fn step(&mut self, dir: &Dir, populate: bool) -> Result<Option<Ready>, Error> {
        if self.written < self.len {
            return self.write().map_err(|source| self.failed(source)).map(|()| None);
        }
        let Some(segment) = &self.segment else {
            self.segment = Some(self.publish(dir)?);
            return Ok(None);
        };
        if populate && self.populated < self.len {
            let to = (self.populated + STEP).min(self.len);
            segment.populate(self.populated, to).map_err(Error::io("populate", &self.path))?;
            self.populated = to;
            return Ok(None);
        }
        let locked = !populate || segment.lock().is_ok();
        let file = self.file.try_clone().map_err(Error::io("duplicate", &self.path))?;
        Ok(self.segment.take().map(|it| Ready { segment: Arc::new(it), file, locked }))
    }

    /// Writes zeros and syncs them. Writes of one page: larger ones make large folios, and then a
    /// flush behind the cursor would protect the page under it.
    fn write(&mut self) -> io::Result<()> {
        let zeros = [0; PAGE];
        let to = (self.written + STEP).min(self.len);
        let mut writer = &self.file;
        while self.written < to {
            writer.write_all(&zeros)?;
            self.written += PAGE;
        }
        if self.written == self.len {
            self.file.write_all_at(&self.header.to_page()[..], 0)?;
        }
        self.file.sync_all()
    }

    /// Gives the whole file its name and maps it.
    fn publish(&self, dir: &Dir) -> Result<Segment, Error> {
        let path = &self.path;
        let len = self.header.segment_len;
        let named = fs::rename(&self.temporary, path).map_err(Error::io("rename", path));
        named.map_err(|error| {
            self.abandon();
            no_room(error, path, len)
        })?;
        sync_dir(&dir.seg())?;
        let map = MmapOptions::new().len(self.len).map_raw(&self.file);
        let map = map.map_err(Error::io("map", path))?;
        let header = &self.header;
        Ok(Segment::new(Arc::new(map), path.clone(), header.segment, header.chain_seed()))
    }

    /// Gives the space back; the failure itself is what the operator must see.
    fn failed(&self, source: io::Error) -> Error {
        self.abandon();
        let error = Error::io("prepare", &self.temporary)(source);
        no_room(error, &self.temporary, self.header.segment_len)
    }

    /// Removes the file, under whichever name it has.
    pub(crate) fn abandon(&self) {
        for path in [&self.temporary, &self.path] {
            // What cannot be removed now is removed by the next owner: it was never used.
            let _: io::Result<()> = fs::remove_file(path as &Path);
        }
    }
}

/// Tells a disk that is full, or a quota that is used up, from one that fails.
fn no_room(error: Error, path: &Path, need: u64) -> Error {
    let Error::Io { source, .. } = &error else { return error };
    let kind = source.kind();
    if !matches!(kind, io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) {
        return error;
    }
    let free = free_bytes(path.parent().unwrap_or(path));
    Error::NoSpace { path: path.to_path_buf(), need, free }
}

/// Makes sure that the file has room on its file system.
pub(crate) fn allocate(file: &File, len: u64) -> io::Result<()> {
    let len = libc::off_t::try_from(len).map_err(io::Error::other)?;
    // SAFETY: the descriptor is open for the length of the call; no memory is passed.
    match unsafe { libc::posix_fallocate(file.as_raw_fd(), 0, len) } {
        0 => Ok(()),
        code => Err(io::Error::from_raw_os_error(code)),
    }
}
