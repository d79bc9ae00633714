//! Names, listings, the lock, atomic replacement, the watermark file, and what the host says.

use std::ffi::CString;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use zerocopy::little_endian::{I64, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::crc::crc32c;
use crate::error::Error;
use crate::layout::SLOT;

pub(crate) const FILE_MODE: u32 = 0o640;
pub(crate) const DIR_MODE: u32 = 0o750;

/// Listings of a directory until its segments are dense, or are taken to have a hole.
const LISTINGS: u32 = 4;

/// The paths of a journal directory.
#[derive(Clone, Debug)]
pub(crate) struct Dir {
    pub(crate) root: PathBuf,
}

/// One `.jnl` file, by its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SegFile {
    pub(crate) segment: u64,
    pub(crate) run: u64,
    pub(crate) path: PathBuf,
    pub(crate) len: u64,
}

impl Dir {
    pub(crate) fn new(root: &Path) -> Dir {
        Dir { root: root.to_path_buf() }
    }

    pub(crate) fn seg(&self) -> PathBuf {
        self.root.join("seg")
    }

    pub(crate) fn segment(&self, run: u64, segment: u64) -> PathBuf {
        self.seg().join(format!("{run:08}-{segment:012}.jnl"))
    }

    pub(crate) fn durable(&self) -> PathBuf {
        self.root.join("durable")
    }

    pub(crate) fn lock(&self) -> PathBuf {
        self.root.join("lock")
    }

    pub(crate) fn manifest(&self, run: u64) -> PathBuf {
        self.root.join(format!("run-{run:08}.json"))
    }

    pub(crate) fn report(&self, run: u64) -> PathBuf {
        self.root.join(format!("recovery-{run:08}.json"))
    }

    pub(crate) fn ring(&self) -> PathBuf {
        self.root.join("ring.json")
    }

    pub(crate) fn pruned(&self) -> PathBuf {
        self.root.join("pruned.json")
    }

    pub(crate) fn torn(&self, run: u64, segment: u64) -> PathBuf {
        self.root.join(format!("{run:08}-{segment:012}.torn"))
    }

    /// Makes the directory and its `seg` folder.
    pub(crate) fn make(&self) -> Result<(), Error> {
        let seg = self.seg();
        let mut builder = fs::DirBuilder::new();
        builder.recursive(true).mode(DIR_MODE);
        builder.create(&seg).map_err(Error::io("create directory", &seg))?;
        sync_dir(&self.root)
    }

    /// Refuses a directory that holds something, but nothing of a journal.
    ///
    /// Returns whether there is anything at all.
    pub(crate) fn check_ours(&self) -> Result<bool, Error> {
        let entries = match fs::read_dir(&self.root) {
            Ok(entries) => entries,
            Err(source) if source.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(source) => return Err(Error::io("list", &self.root)(source)),
        };
        let mut first_foreign = None;
        let mut any = false;
        for entry in entries {
            let entry = entry.map_err(Error::io("list", &self.root))?;
            any = true;
            let name = entry.file_name();
            let name = name.to_string_lossy();
            let ours = matches!(&*name, "lock" | "seg" | "durable")
                || numbered(&name, "run-", ".json").is_some();
            if ours {
                return Ok(true);
            }
            first_foreign.get_or_insert(entry.path());
        }
        match first_foreign {
            Some(file) => Err(Error::Foreign {
                found: "a directory with other files and nothing of a journal".into(),
                file,
                rule: "an empty directory, or one with seg/, durable and run-*.json",
            }),
            None => Ok(any),
        }
    }

    /// All segments by number (and run), left-over temporary files and pruned ones apart.
    pub(crate) fn segments(&self) -> Result<Vec<SegFile>, Error> {
        let mut attempts = 0;
        loop {
            let mut found = self.all_segments()?;
            // After the listing: a pruning writes its record before it removes the first file.
            let pruned = crate::retain::pruned(self)?.segment;
            found.retain(|it| it.segment > pruned);
            let numbers = (pruned + 1..).zip(&found);
            let is_dense = numbers.into_iter().all(|(number, it)| it.segment == number);
            attempts += 1;
            // A listing may miss a file that is compressed meanwhile: its new name came behind us, its
            // old one went before us. The next listing has it.
            if is_dense || attempts == LISTINGS {
                return Ok(found);
            }
        }
    }

    /// As [`Self::segments`], pruned ones included.
    pub(crate) fn all_segments(&self) -> Result<Vec<SegFile>, Error> {
        let seg = self.seg();
        let entries = match fs::read_dir(&seg) {
            Ok(entries) => entries,
            Err(source) if source.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(source) => return Err(Error::io("list", &seg)(source)),
        };
        let mut found = Vec::new();
        for entry in entries {
            let entry = entry.map_err(Error::io("list", &seg))?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.ends_with(".tmp") {
                continue; // a segment that was being prepared
            }
            let path = entry.path();
            let plain = name.strip_suffix(".zst").unwrap_or(&name);
            let numbers = plain.strip_suffix(".jnl").and_then(|name| name.split_once('-'));
            let numbers = numbers.and_then(|(run, segment)| {
                let exact = run.len() == 8 && segment.len() == 12;
                exact.then_some(())?;
                Some((digits(run)?, digits(segment)?))
            });
            let Some((run, segment)) = numbers else {
                return Err(Error::Foreign {
                    found: format!("file name {name:?}"),
                    file: path,
                    rule: "seg/ holds RRRRRRRR-SSSSSSSSSSSS.jnl only, compressed with .zst",
                });
            };
            // The keeper may unlink an unused segment under a reader's feet.
            let len = match entry.metadata() {
                Ok(metadata) => metadata.len(),
                Err(source) if source.kind() == io::ErrorKind::NotFound => continue,
                Err(source) => return Err(Error::io("stat", &path)(source)),
            };
            found.push(SegFile { segment, run, path, len });
        }
        // Both forms for a moment, or after a kill in it: the plain one sorts first, and either will do.
        found.sort_by(|a, b| (a.segment, a.run, &a.path).cmp(&(b.segment, b.run, &b.path)));
        found.dedup_by(|b, a| (a.segment, a.run) == (b.segment, b.run));
        Ok(found)
    }

    /// Runs that have a file `<prefix>RRRRRRRR.json`, ascending.
    pub(crate) fn numbered_files(&self, prefix: &str) -> Result<Vec<(u64, PathBuf)>, Error> {
        let entries = fs::read_dir(&self.root).map_err(Error::io("list", &self.root))?;
        let mut found = Vec::new();
        for entry in entries {
            let entry = entry.map_err(Error::io("list", &self.root))?;
            if let Some(run) = numbered(&entry.file_name().to_string_lossy(), prefix, ".json") {
                found.push((run, entry.path()));
            }
        }
        found.sort();
        Ok(found)
    }

    /// Removes what a killed owner left half-written. Only the owner of the lock calls this.
    pub(crate) fn remove_temporary(&self) -> Result<(), Error> {
        for dir in [self.root.clone(), self.seg()] {
            let Ok(entries) = fs::read_dir(&dir) else { continue };
            for entry in entries.flatten() {
                if entry.file_name().as_bytes().ends_with(b".tmp") {
                    let path = entry.path();
                    fs::remove_file(&path).map_err(Error::io("remove", &path))?;
                }
            }
        }
        Ok(())
    }
}

fn digits(text: &str) -> Option<u64> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

fn numbered(name: &str, prefix: &str, suffix: &str) -> Option<u64> {
    let number = name.strip_prefix(prefix)?.strip_suffix(suffix)?;
    (number.len() == 8).then(|| digits(number))?
}

/// The exclusive right to write a journal, held by `flock` until dropped.
#[derive(Debug)]
pub(crate) struct Lock {
    file: File,
}

impl Lock {
    /// Takes the lock, waiting up to 500 ms: whoever probes for life holds it for an instant, longer
    /// where the host is busy.
    pub(crate) fn take(dir: &Dir) -> Result<Lock, Error> {
        Lock::take_at(&dir.lock(), &dir.root)
    }

    /// As [`Self::take`], for any lock of the directory `root`.
    pub(crate) fn take_at(path: &Path, root: &Path) -> Result<Lock, Error> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(FILE_MODE)
            .open(path)
            .map_err(Error::io("open", path))?;
        let deadline = Instant::now() + Duration::from_millis(500);
        loop {
            match file.try_lock() {
                Ok(()) => break,
                Err(TryLockError::Error(source)) => return Err(Error::io("lock", path)(source)),
                Err(TryLockError::WouldBlock) if Instant::now() < deadline => {
                    std::thread::sleep(Duration::from_millis(5));
                }
                Err(TryLockError::WouldBlock) => {
                    let mut owner = String::new();
                    // The text is a courtesy; without it the error is still complete.
                    let _ = (&file).take(200).read_to_string(&mut owner);
                    let owner = if owner.trim().is_empty() { "unnamed" } else { owner.trim() };
                    return Err(Error::Owned { dir: root.to_path_buf(), owner: owner.into() });
                }
            }
        }
        let lock = Lock { file };
        lock.write_owner(path, &format!("pid {}", std::process::id()))?;
        Ok(lock)
    }

    fn write_owner(&self, path: &Path, text: &str) -> Result<(), Error> {
        self.file.set_len(0).map_err(Error::io("truncate", path))?; // of a killed owner
        self.file.write_all_at(text.as_bytes(), 0).map_err(Error::io("write", path))
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // The text is a courtesy to whoever finds the lock held.
        let _ = self.file.set_len(0);
        // Closing frees the lock only with the last copy of the descriptor, and a child that another
        // thread starts at this moment has one until it is another program.
        let _ = self.file.unlock();
    }
}

/// Whether a living process owns the journal.
pub(crate) fn is_owned(dir: &Dir) -> bool {
    is_locked(&dir.lock())
}

/// Whether a living process holds the lock at `path`.
pub(crate) fn is_locked(path: &Path) -> bool {
    let Ok(file) = File::open(path) else { return false };
    match file.try_lock_shared() {
        // Not left to the closing: a child that another thread starts at this moment has a copy of the
        // descriptor, and would hold the lock until it is another program.
        Ok(()) => {
            let _ = file.unlock();
            false
        }
        Err(bad) => matches!(bad, TryLockError::WouldBlock),
    }
}

/// Writes a file whole or not at all: temporary file, fsync, rename, fsync of the directory.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let temporary = path.with_extension("tmp");
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(FILE_MODE)
        .open(&temporary)
        .map_err(Error::io("create", &temporary))?;
    (&file).write_all(bytes).map_err(Error::io("write", &temporary))?;
    file.sync_all().map_err(Error::io("fsync", &temporary))?;
    fs::rename(&temporary, path).map_err(Error::io("rename", path))?;
    match path.parent() {
        Some(parent) => sync_dir(parent),
        None => Ok(()),
    }
}

/// Makes renames and unlinks in `dir` durable.
pub(crate) fn sync_dir(dir: &Path) -> Result<(), Error> {
    let file = File::open(dir).map_err(Error::io("open", dir))?;
    file.sync_all().map_err(Error::io("fsync", dir))
}

/// Creates a new file for a segment, readable and writable, which nobody has yet.
pub(crate) fn create_new(path: &Path) -> Result<File, Error> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .mode(FILE_MODE)
        .open(path)
        .map_err(Error::io("create", path))
}

/// How far the journal is on disk: one slot of the `durable` file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Watermark {
    /// Counts the writings of the file; the higher valid slot holds.
    pub generation: u64,
    /// The run that wrote it.
    pub run: u64,
    /// The segment, 0 if nothing is durable yet.
    pub segment: u64,
    /// Everything in the segment before this offset is on disk.
    pub offset: u64,
    /// The last durable event, 0 if there is none.
    pub seq: u64,
    /// Checksum of the last durable frame.
    pub crc: u32,
    /// The host's boot.
    #[serde(skip)]
    pub boot_id: [u8; 16],
    /// The journal's name.
    #[serde(skip)]
    pub uuid: [u8; 16],
    /// When, in nanoseconds since the Unix epoch.
    pub wall_ns: i64,
}

#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
struct RawWatermark {
    generation: U64,
    run: U64,
    segment: U64,
    offset: U64,
    seq: U64,
    crc: U32,
    zero: U32,
    boot_id: [u8; 16],
    uuid: [u8; 16],
    wall_ns: I64,
    zero_tail: [[u8; 20]; 21],
    own_crc: U32,
}
const _: () = assert!(size_of::<RawWatermark>() == SLOT && align_of::<RawWatermark>() == 1);

impl Watermark {
    pub(crate) fn to_bytes(self) -> [u8; SLOT] {
        let mut raw = RawWatermark {
            generation: self.generation.into(),
            run: self.run.into(),
            segment: self.segment.into(),
            offset: self.offset.into(),
            seq: self.seq.into(),
            crc: self.crc.into(),
            zero: 0.into(),
            boot_id: self.boot_id,
            uuid: self.uuid,
            wall_ns: self.wall_ns.into(),
            zero_tail: [[0; 20]; 21],
            own_crc: 0.into(),
        };
        raw.own_crc = crc32c(&raw.as_bytes()[..SLOT - 4]).into();
        let mut slot = [0; SLOT];
        slot.copy_from_slice(raw.as_bytes());
        slot
    }

    fn parse(bytes: &[u8]) -> Option<Watermark> {
        let (raw, _) = RawWatermark::ref_from_prefix(bytes).ok()?;
        let valid = raw.own_crc.get() == crc32c(&raw.as_bytes()[..SLOT - 4]);
        (valid && raw.generation.get() > 0).then(|| Watermark {
            generation: raw.generation.get(),
            run: raw.run.get(),
            segment: raw.segment.get(),
            offset: raw.offset.get(),
            seq: raw.seq.get(),
            crc: raw.crc.get(),
            boot_id: raw.boot_id,
            uuid: raw.uuid,
            wall_ns: raw.wall_ns.get(),
        })
    }

    /// Where the slot of this generation stands in the file.
    pub(crate) fn place(&self) -> u64 {
        self.generation % 2 * SLOT as u64
    }
}

/// The `durable` file, read.
pub(crate) struct Watermarks {
    /// The newer valid slot.
    pub(crate) newest: Option<Watermark>,
    /// What is wrong with the file, with the offset; a torn slot after power loss is.
    pub(crate) flaw: Option<(u64, String)>,
}

/// Reads the watermark; `None` if there is no file.
pub(crate) fn read_watermarks(dir: &Dir) -> Result<Option<Watermarks>, Error> {
    let path = dir.durable();
    let bytes = match fs::read(&path) {
        Ok(bytes) => bytes,
        Err(source) if source.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(Error::io("read", &path)(source)),
    };
    let mut slots = [None, None];
    for (at, slot) in slots.iter_mut().enumerate() {
        let bytes = bytes.get(at * SLOT..(at + 1) * SLOT).unwrap_or_default();
        *slot = Watermark::parse(bytes).filter(|it| it.place() == (at * SLOT) as u64);
    }
    let flaw = match slots {
        _ if bytes.len() != 2 * SLOT => {
            Some((0, format!("{} bytes, a watermark file has {}", bytes.len(), 2 * SLOT)))
        }
        [None, None] => Some((0, "both slots invalid".into())),
        [None, _] => Some((0, "slot 0 invalid".into())),
        [_, None] => Some((SLOT as u64, "slot 1 invalid".into())),
        [Some(a), Some(b)] if a.generation.abs_diff(b.generation) != 1 => Some((
            0,
            format!("generations {} and {} are not neighbours", a.generation, b.generation),
        )),
        [Some(_), Some(_)] => None,
    };
    let newest = slots.into_iter().flatten().max_by_key(|slot| slot.generation);
    Ok(Some(Watermarks { newest, flaw }))
}

/// Writes both slots as the next two generations of `mark`, and returns the newer one.
pub(crate) fn write_watermarks(dir: &Dir, mut mark: Watermark) -> Result<Watermark, Error> {
    let mut bytes = [0; 2 * SLOT];
    for _ in 0..2 {
        mark.generation += 1;
        let slot = bytes.as_chunks_mut::<SLOT>().0.get_mut(usize::from(mark.place() != 0));
        if let Some(slot) = slot {
            *slot = mark.to_bytes();
        }
    }
    replace(&dir.durable(), &bytes)?;
    Ok(mark)
}

/// The identity of the host's boot.
pub(crate) fn boot_id() -> Result<[u8; 16], Error> {
    let path = Path::new("/proc/sys/kernel/random/boot_id");
    let text = fs::read_to_string(path).map_err(Error::io("read", path))?;
    match uuid::Uuid::parse_str(text.trim()) {
        Ok(id) => Ok(*id.as_bytes()),
        Err(bad) => Err(Error::io("read", path)(io::Error::other(bad.to_string()))),
    }
}

/// Nanoseconds since the Unix epoch.
pub(crate) fn wall_ns() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX) // the year 2262
}

/// Nanoseconds of the raw monotonic clock.
pub(crate) fn mono_ns() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a valid timespec to write into; the clock id exists on every Linux.
    let rc = unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC_RAW, &raw mut time) };
    debug_assert_eq!(rc, 0);
    time.tv_sec.unsigned_abs() * 1_000_000_000 + time.tv_nsec.unsigned_abs()
}

fn statfs(path: &Path) -> Option<libc::statfs> {
    let path = CString::new(path.as_os_str().as_bytes()).ok()?;
    let mut stat = std::mem::MaybeUninit::<libc::statfs>::uninit();
    // SAFETY: `path` is a NUL-terminated string and `stat` is room for one statfs.
    let rc = unsafe { libc::statfs(path.as_ptr(), stat.as_mut_ptr()) };
    // SAFETY: on success the call has filled `stat` wholly.
    (rc == 0).then(|| unsafe { stat.assume_init() })
}

/// Bytes that an unprivileged process may still allocate where `path` is.
pub(crate) fn free_bytes(path: &Path) -> u64 {
    statfs(path).map_or(0, |it| it.f_bavail.saturating_mul(it.f_bsize.unsigned_abs()))
}

/// Whether `dir` lies in memory; else the name of its file system.
pub(crate) fn memory_file_system(dir: &Path) -> Result<(), String> {
    match statfs(dir).map(|it| it.f_type & 0xffff_ffff) {
        Some(0x0102_1994 | 0x9584_58f6) => Ok(()), // tmpfs, hugetlbfs
        _ => Err(unfit_file_system(dir).map_or_else(|| "ext4 or xfs".into(), |(name, _)| name)),
    }
}

/// Judges the file system of `dir`: `None` if it is fit, else its name and the rule.
pub(crate) fn unfit_file_system(dir: &Path) -> Option<(String, &'static str)> {
    const RULE: &str = "segments need a local ext4 or xfs";
    let Some(stat) = statfs(dir) else { return Some(("unknown".into(), RULE)) };
    // `f_type` is signed or not, and wider or not, by platform: compare the low 32 bits.
    let magic = stat.f_type & 0xffff_ffff;
    let name = match magic {
        0xef53 | 0x5846_5342 => return None,
        0x0102_1994 => "tmpfs",
        0x9123_683e => "btrfs",
        0x2fc1_2fc1 => "zfs",
        0x794c_7630 => "overlay",
        0x6969 => "nfs",
        0xff53_4d42 | 0xfe53_4d42 | 0x517b => "smb",
        0x6573_5546 => "fuse",
        0x0102_1997 => "9p",
        other => return Some((format!("{other:#x}"), RULE)),
    };
    Some((name.into(), RULE))
}
