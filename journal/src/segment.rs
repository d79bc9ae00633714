//! A mapped segment of the run that is being written.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use memmap2::{Advice, MmapRaw};

use crate::layout::PAGE;
use crate::shared::{EndMark, SegmentEnd};
use crate::sigbus::Known;

/// One prepared or used segment. Its frames are written by the writer alone; the keeper reads what
/// is committed, and writes the state page through the file.
#[derive(Debug)]
pub(crate) struct Segment {
    map: Arc<MmapRaw>, // of a slot that goes round: shared by its segments
    pub(crate) path: PathBuf,
    pub(crate) number: u64,
    pub(crate) chain_seed: u32,
    pub(crate) end: EndMark,
    _known: Known, // to the SIGBUS handler
}

impl Segment {
    pub(crate) fn new(map: Arc<MmapRaw>, path: PathBuf, number: u64, chain_seed: u32) -> Segment {
        let _known = Known::new(map.as_ptr() as usize, map.len(), number);
        Segment { map, path, number, chain_seed, end: EndMark::default(), _known }
    }

    /// Bytes of the file.
    pub(crate) fn len(&self) -> usize {
        self.map.len()
    }

    /// Where the mapping begins.
    pub(crate) fn base(&self) -> *mut u8 {
        self.map.as_mut_ptr()
    }

    /// By the keeper: where the writer left, once it has.
    pub(crate) fn left(&self) -> Option<SegmentEnd> {
        self.end.get()
    }

    /// Bytes `[from, to)`, which the writer has committed and left behind.
    pub(crate) fn committed(&self, from: usize, to: usize) -> &[u8] {
        assert!(from <= to && to <= self.len(), "{from}..{to} of {}", self.len());
        // SAFETY: the range is inside the mapping, which lives as long as `self`. The writer only
        // writes at and beyond its cursor; the keeper asks for ranges below a mark that the writer
        // published with Release after its last store there, so nobody writes these bytes again.
        unsafe { std::slice::from_raw_parts(self.base().add(from), to - from) }
    }

    /// Writes dirty pages of `[from, to)` to the disk and waits. Both are multiples of the page.
    pub(crate) fn sync(&self, from: usize, to: usize) -> io::Result<()> {
        if from < to { self.map.flush_range(from, to - from) } else { Ok(()) }
    }

    /// Makes the pages of `[from, to)` present and writable, without changing them.
    pub(crate) fn populate(&self, from: usize, to: usize) -> io::Result<()> {
        let from = from / PAGE * PAGE;
        let to = to.min(self.len());
        if from >= to {
            return Ok(());
        }
        self.map.advise_range(Advice::PopulateWrite, from, to - from)
    }

    /// Locks the pages into memory. Fails where the limit of locked memory is low.
    pub(crate) fn lock(&self) -> io::Result<()> {
        self.map.lock()
    }

    /// Lets the kernel reclaim the pages again.
    pub(crate) fn unlock(&self) {
        // Cannot fail for a mapping that exists, and nothing depends on it.
        let _ = self.map.unlock();
    }
}
