//! Making a segment ready: allocated, zero-written, headed, synced, mapped, populated, locked.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Arc;

use memmap2::MmapOptions;

use crate::error::Error;
use crate::files::{Dir, create_new, free_bytes, sync_dir};
use crate::layout::{FRAMES_AT, PAGE, SegmentHeader};
use crate::segment::Segment;

/// A segment that is ready, with the file through which its state page will be written.
pub(crate) struct Ready {
    pub(crate) segment: Arc<Segment>,
    pub(crate) file: File,
    /// Whether its pages are locked into memory.
    pub(crate) locked: bool,
}

/// Prepares one segment. Slow: it writes the whole file once.
///
/// The file appears under its name only when it is whole, so a killed run leaves no half segment.
pub(crate) fn prepare(dir: &Dir, header: &SegmentHeader, populate: bool) -> Result<Ready, Error> {
    let path = dir.segment(header.run, header.segment);
    let temporary = path.with_extension("tmp");
    let file = create_new(&temporary)?;
    let made = fill(&file, &temporary, header).and_then(|()| {
        fs::rename(&temporary, &path).map_err(Error::io("rename", &path))?;
        sync_dir(&dir.seg())
    });
    if let Err(bad) = made {
        // Give the space back; the failure itself is what the operator must see.
        let _ = fs::remove_file(&temporary);
        return Err(bad);
    }
    let len = usize::try_from(header.segment_len).map_err(|_| Error::Option {
        key: "segment_bytes",
        found: header.segment_len.to_string(),
        rule: "must fit the address space",
    })?;
    let map = MmapOptions::new().len(len).map_raw(&file).map_err(Error::io("map", &path))?;
    let segment = Segment::new(map, path, header.segment, header.chain_seed());
    let mut locked = true;
    if populate {
        segment.populate(FRAMES_AT, len).map_err(Error::io("populate", &segment.path))?;
        locked = segment.lock().is_ok();
    }
    Ok(Ready { segment: Arc::new(segment), file, locked })
}

/// Allocates and writes the file. Chunks of one page: larger ones make large folios, and then a
/// flush behind the cursor would protect the page under it.
fn fill(file: &File, path: &Path, header: &SegmentHeader) -> Result<(), Error> {
    let no_space = |source: io::Error| {
        if source.kind() == io::ErrorKind::StorageFull {
            let free = free_bytes(path.parent().unwrap_or(path));
            Error::NoSpace { path: path.to_path_buf(), need: header.segment_len, free }
        } else {
            Error::io("allocate", path)(source)
        }
    };
    allocate(file, header.segment_len).map_err(no_space)?;
    let zeros = [0; PAGE];
    let mut writer = file;
    for _ in 0..header.segment_len / PAGE as u64 {
        writer.write_all(&zeros).map_err(no_space)?;
    }
    file.write_all_at(&header.to_page()[..], 0).map_err(no_space)?;
    file.sync_all().map_err(Error::io("fsync", path))
}

fn allocate(file: &File, len: u64) -> io::Result<()> {
    let len = libc::off_t::try_from(len).map_err(io::Error::other)?;
    // SAFETY: the descriptor is open for the length of the call; no memory is passed.
    match unsafe { libc::posix_fallocate(file.as_raw_fd(), 0, len) } {
        0 => Ok(()),
        code => Err(io::Error::from_raw_os_error(code)),
    }
}
