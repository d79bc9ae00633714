//! Sealed segments, compressed: a file in zstd's seekable format that holds the whole segment.
//!
//! `zstd -d` gives back the segment byte for byte. The first block is small, so that header, state and
//! first frame cost little; the others hold a mebibyte each. Before the seek table stands a skippable
//! frame with digests of everything else and a sparse index of `seq`. A reader decompresses the blocks
//! that it looks at, and no others.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use memmap2::{MmapOptions, MmapRaw};

use crate::crc::crc32c;
use crate::error::Error;
use crate::files::{FILE_MODE, sync_dir};
use crate::layout::word;
use crate::scan::{View, scan};

/// First block: header page, state page, first frames.
const FIRST: usize = 16 << 10;
const BLOCK: usize = 1 << 20;
const INDEX_MAGIC: u32 = 0x184d_2a51; // skippable, ours
const TABLE_MAGIC: u32 = 0x184d_2a5e; // skippable, of the seekable format
const SEEKABLE_MAGIC: u32 = 0x8f92_eab1;
const VERSION: u32 = 1;
const ENTRY: usize = 24;
/// Version, number of entries, two digests, checksum.
const INDEX_FIXED: usize = 4 + 4 + 32 + 32 + 4;
const FOOTER: usize = 9;

/// The name of the compressed form of a segment's file.
pub(crate) fn packed_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".zst");
    PathBuf::from(name)
}

/// A frame that a reader may begin with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) offset: usize,
    /// The `seq` of the frame.
    pub(crate) seq: u64,
    /// The checksum of the frame before it.
    pub(crate) prev_crc: u32,
}

/// What became of a segment that was to be compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Packed {
    pub(crate) bytes: u64,
    pub(crate) packed_bytes: u64,
}

/// Compresses the sealed segment at `path`, reads it back, and removes the original.
///
/// Killed at any point, it leaves the original, or the whole compressed form, or both.
pub(crate) fn pack(path: &Path, level: i32) -> Result<Packed, Error> {
    let view = View::open(path)?;
    let to = packed_path(path);
    let temporary = to.with_extension("zst.tmp");
    let not_packable = |reason: &str| {
        Error::io("compress", path)(io::Error::new(io::ErrorKind::InvalidData, reason.to_string()))
    };
    if view.state().newest.is_none() {
        return Err(not_packable("not sealed"));
    }
    let entries = index_of(&view).ok_or_else(|| not_packable("no header"))?;
    let bytes = compressed(&view, &entries, level).map_err(Error::io("compress", path))?;
    let mut options = File::options();
    let options = options.write(true).create(true).truncate(true).mode(FILE_MODE);
    let written = options.open(&temporary).and_then(|mut file| {
        file.write_all(&bytes)?;
        file.sync_all()
    });
    if let Err(source) = written {
        let _: io::Result<()> = std::fs::remove_file(&temporary); // gives the space back
        return Err(Error::io("compress", &temporary)(source));
    }
    // The original goes only after what replaces it was read as a whole.
    let back = View::open(&temporary)?;
    let is_equal = back.len() == view.len()
        && back.check_packed().is_none()
        && (0..view.len())
            .step_by(BLOCK)
            .all(|at| back.range(at, at + BLOCK) == view.range(at, at + BLOCK));
    if !is_equal {
        let _: io::Result<()> = std::fs::remove_file(&temporary);
        return Err(not_packable("what was compressed does not read back"));
    }
    std::fs::rename(&temporary, &to).map_err(Error::io("rename", &to))?;
    let folder = path.parent().unwrap_or(path);
    sync_dir(folder)?;
    std::fs::remove_file(path).map_err(Error::io("remove", path))?;
    sync_dir(folder)?;
    Ok(Packed { bytes: view.len() as u64, packed_bytes: bytes.len() as u64 })
}

/// Where each block ends.
fn blocks(len: usize) -> impl Iterator<Item = (usize, usize)> {
    let first = (0, FIRST.min(len));
    let rest = (1..).map(|at| (at * BLOCK).max(FIRST)).take_while(move |end| *end < len + BLOCK);
    let ends: Vec<usize> = rest.map(|end| end.min(len)).collect();
    let mut from = first.1;
    let rest = ends.into_iter().filter_map(move |end| {
        let block = (from, end);
        from = end;
        (block.0 < block.1).then_some(block)
    });
    std::iter::once(first).chain(rest)
}

/// The first frame in each block.
fn index_of(view: &View) -> Option<Vec<Entry>> {
    let header = view.header().ok()?;
    let mut entries = Vec::new();
    let mut prev_crc = header.chain_seed();
    let mut next = FIRST;
    scan(view, &header, &mut |raw, offset| {
        if offset >= next {
            entries.push(Entry { offset, seq: raw.seq, prev_crc });
            next = (offset / BLOCK + 1) * BLOCK;
        }
        prev_crc = raw.crc;
    });
    Some(entries)
}

/// The whole file.
fn compressed(view: &View, entries: &[Entry], level: i32) -> io::Result<Vec<u8>> {
    let short = |len: usize| u32::try_from(len).map_err(io::Error::other);
    let mut zstd = zstd::bulk::Compressor::new(level)?;
    zstd.include_checksum(true)?;
    let mut bytes = Vec::new();
    let mut table = Vec::new();
    for (from, to) in blocks(view.len()) {
        let block = zstd.compress(view.range(from, to))?;
        table.extend_from_slice(&short(block.len())?.to_le_bytes());
        table.extend_from_slice(&short(to - from)?.to_le_bytes());
        bytes.extend_from_slice(&block);
    }
    let index_len = INDEX_FIXED + entries.len() * ENTRY;
    table.extend_from_slice(&short(index_len + 8)?.to_le_bytes());
    table.extend_from_slice(&0_u32.to_le_bytes());
    let frames = short(table.len() / 8)?;
    let mut tail = Vec::new();
    tail.extend_from_slice(&TABLE_MAGIC.to_le_bytes());
    tail.extend_from_slice(&short(table.len() + FOOTER)?.to_le_bytes());
    tail.extend_from_slice(&table);
    tail.extend_from_slice(&frames.to_le_bytes());
    tail.push(0);
    tail.extend_from_slice(&SEEKABLE_MAGIC.to_le_bytes());

    let mut index = Vec::with_capacity(index_len);
    index.extend_from_slice(&VERSION.to_le_bytes());
    index.extend_from_slice(&short(entries.len())?.to_le_bytes());
    for entry in entries {
        index.extend_from_slice(&(entry.offset as u64).to_le_bytes());
        index.extend_from_slice(&entry.seq.to_le_bytes());
        index.extend_from_slice(&entry.prev_crc.to_le_bytes());
        index.extend_from_slice(&[0; 4]);
    }
    index.extend_from_slice(blake3::hash(&bytes).as_bytes());
    index.extend_from_slice(blake3::hash(&tail).as_bytes());
    let crc = crc32c(&index);
    index.extend_from_slice(&crc.to_le_bytes());
    bytes.extend_from_slice(&INDEX_MAGIC.to_le_bytes());
    bytes.extend_from_slice(&short(index.len())?.to_le_bytes());
    bytes.extend_from_slice(&index);
    bytes.extend_from_slice(&tail);
    Ok(bytes)
}

/// A block of a compressed segment.
#[derive(Debug)]
struct Block {
    packed: (usize, usize), // where it is in the file
    plain: (usize, usize),  // which bytes of the segment it holds
    unpacked: OnceLock<bool>,
}

/// A compressed segment, mapped: reads like a plain one.
#[derive(Debug)]
pub(crate) struct PackedView {
    file: MmapRaw,
    plain: MmapRaw, // anonymous; filled block by block
    blocks: Vec<Block>,
    index: (usize, usize), // payload of the index frame in the file; empty if there is none
}

impl PackedView {
    /// Reads the seek table. `Err`: why the file is no compressed segment.
    pub(crate) fn open(file: MmapRaw) -> Result<PackedView, String> {
        let bytes = whole(&file);
        let int = |at: usize| -> Option<usize> {
            let bytes = bytes.get(at..at.checked_add(4)?)?;
            Some(u32::from_le_bytes(bytes.try_into().ok()?) as usize)
        };
        let end = bytes.len();
        let foot = end.checked_sub(FOOTER).ok_or("too short for a seek table")?;
        if int(foot + 5) != Some(SEEKABLE_MAGIC as usize) || bytes.get(foot + 4) != Some(&0) {
            return Err("no seek table at its end".into());
        }
        let frames = int(foot).unwrap_or(0);
        let entries = frames.checked_mul(8).and_then(|len| foot.checked_sub(len));
        let entries = entries.filter(|at| *at >= 8).ok_or("seek table longer than the file")?;
        if int(entries - 8) != Some(TABLE_MAGIC as usize) || int(entries - 4) != Some(end - entries)
        {
            return Err("seek table without its head".into());
        }
        let mut blocks = Vec::new();
        let (mut packed, mut plain) = (0_usize, 0_usize);
        let mut index = (0, 0);
        for frame in 0..frames {
            let at = entries + frame * 8;
            let (len, size) = int(at).zip(int(at + 4)).ok_or("seek table cut short")?;
            let to = packed + len;
            if to > entries - 8 || size > BLOCK {
                return Err(format!("seek table: block {frame} is not in the file"));
            }
            if size > 0 {
                let unpacked = OnceLock::new();
                let (packed, plain) = ((packed, to), (plain, plain + size));
                blocks.push(Block { packed, plain, unpacked });
            } else if int(packed) == Some(INDEX_MAGIC as usize) && len >= 8 {
                index = (packed + 8, to);
            }
            (packed, plain) = (to, plain + size);
        }
        if plain == 0 {
            return Err("seek table without blocks".into());
        }
        let plain = room(plain).map_err(|bad| bad.to_string())?;
        Ok(PackedView { file, plain, blocks, index })
    }

    /// Bytes of the segment.
    pub(crate) fn len(&self) -> usize {
        self.plain.len()
    }

    /// Bytes `[from, to)`, cut where a block cannot be decompressed.
    pub(crate) fn range(&self, from: usize, to: usize) -> &[u8] {
        let mut to = to.min(self.len());
        let from = from.min(to);
        let first = self.blocks.partition_point(|block| block.plain.1 <= from);
        for block in self.blocks.get(first..).unwrap_or_default() {
            if block.plain.0 >= to {
                break;
            }
            if !*block.unpacked.get_or_init(|| self.unpack(block)) {
                to = block.plain.0.max(from);
                break;
            }
        }
        // SAFETY: the range is inside the mapping, which lives as long as `self`. Its blocks have been
        // decompressed, each once and before anyone got a slice of it; nobody writes them again while
        // `self` is borrowed (`release` needs it exclusively).
        unsafe { std::slice::from_raw_parts(self.plain.as_ptr().add(from), to - from) }
    }

    fn unpack(&self, block: &Block) -> bool {
        let (from, to) = block.plain;
        let Some(packed) = whole(&self.file).get(block.packed.0..block.packed.1) else {
            return false;
        };
        // SAFETY: inside the mapping; the `OnceLock` lets one thread in, once, and nobody has a slice
        // of this block before it is set.
        let plain =
            unsafe { std::slice::from_raw_parts_mut(self.plain.as_mut_ptr().add(from), to - from) };
        zstd::bulk::decompress_to_buffer(packed, plain).is_ok_and(|len| len == to - from)
    }

    /// Gives the memory of what was decompressed back; it is decompressed again when it is read again.
    pub(crate) fn release(&mut self) {
        // Another mapping, and not DONTNEED: that is refused where a process locks its memory.
        let Ok(plain) = room(self.plain.len()) else { return };
        self.plain = plain;
        for block in &mut self.blocks {
            block.unpacked = OnceLock::new();
        }
    }

    /// Where a reader may begin, ascending; empty if the index is damaged.
    pub(crate) fn entries(&self) -> Vec<Entry> {
        let Some(index) = self.checked_index() else { return Vec::new() };
        let body = index.get(8..index.len() - (INDEX_FIXED - 8)).unwrap_or_default();
        let entry = |bytes: &[u8]| {
            let crc = bytes.get(16..20)?.try_into().ok()?;
            Some(Entry {
                offset: usize::try_from(word(bytes, 0)?).ok()?,
                seq: word(bytes, 8)?,
                prev_crc: u32::from_le_bytes(crc),
            })
        };
        body.chunks_exact(ENTRY).map_while(entry).collect()
    }

    /// The index, if its checksum and length are right.
    fn checked_index(&self) -> Option<&[u8]> {
        let index = whole(&self.file).get(self.index.0..self.index.1)?;
        let (body, crc) = index.split_last_chunk::<4>()?;
        let int = |at: usize| Some(u32::from_le_bytes(body.get(at..at + 4)?.try_into().ok()?));
        let is_ours = u32::from_le_bytes(*crc) == crc32c(body)
            && int(0)? == VERSION
            && index.len() == INDEX_FIXED + int(4)? as usize * ENTRY;
        is_ours.then_some(index)
    }

    /// Why a byte of the file is not what was written; `None`: all are.
    pub(crate) fn check(&self) -> Option<String> {
        let Some(index) = self.checked_index() else { return Some("index: damaged".into()) };
        let bytes = whole(&self.file);
        let digests = index.get(index.len() - 68..index.len() - 4)?;
        let (content, rest) = digests.split_at(32);
        let begin = self.index.0 - 8;
        let head_is_right = bytes.get(begin..begin + 4) == Some(&INDEX_MAGIC.to_le_bytes())
            && bytes.get(begin + 4..begin + 8)
                == Some(&u32::try_from(index.len()).unwrap_or(0).to_le_bytes());
        let parts = [(bytes.get(..begin), content), (bytes.get(self.index.1..), rest)];
        let is_right = parts.into_iter().all(|(part, digest)| {
            part.is_some_and(|part| blake3::hash(part).as_bytes()[..] == *digest)
        });
        (!head_is_right || !is_right).then(|| "compressed bytes: digest differs".into())
    }
}

/// Memory for a decompressed segment; only what is written to it is taken.
fn room(len: usize) -> io::Result<MmapRaw> {
    MmapOptions::new().len(len).no_reserve_swap().map_anon().map(Into::into)
}

fn whole(file: &MmapRaw) -> &[u8] {
    // SAFETY: the whole mapping, which lives as long as `file`. A compressed segment is immutable: it
    // gets its name when it is complete. A file that another process truncates ends in SIGBUS.
    unsafe { std::slice::from_raw_parts(file.as_ptr(), file.len()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_cover_a_segment_without_a_hole() {
        for len in [FIRST, 64 << 10, 1 << 20, 2 << 20, 8 << 20] {
            let blocks: Vec<_> = blocks(len).collect();
            assert_eq!((blocks[0].0, blocks.last().unwrap().1), (0, len));
            assert!(blocks.windows(2).all(|pair| pair[0].1 == pair[1].0), "{len}: {blocks:?}");
            assert!(blocks.iter().all(|(from, to)| from < to && to - from <= BLOCK));
        }
    }
}
