//! `append`: what it costs to put an event into the journal, and whether it faults.
//!
//! The journal takes the 64 bytes of an event and writes a chained, checksummed frame of 96 bytes,
//! by the call that the journal seat uses. Beside it, in the same rounds and on the same CPU, the 64
//! bytes are copied into a mapping of the same file system that was populated and locked in the same
//! way. A further row has what the seat does in all: it makes the frame of an event first, which
//! sets the stamps apart from the logical bytes. All are paced at a million a second, in batches of 64 whose time is
//! taken without the waiting: so the keeper flushes, prepares and pads while the writer writes, and
//! a thousand milliseconds of that are measured and not one. A batch of copies is a page, and pages
//! are of two kinds, those that the cache was quick with and those that it was not: so the ratio is
//! formed from means of 16 batches.
//!
//! Page faults are the writing thread's own, by `getrusage`, over all rounds. On tmpfs nothing is
//! flushed and there must be none. On disk a flush protects pages that the cursor may share.

use std::fs::File;
use std::path::Path;
use std::ptr::{self, NonNull};

use kairos_edge::frames;
use kairos_engine::clock::Clock;
use kairos_journal::{Options, Writer};
use kairos_logic::event::Event;
use kairos_logic::units::{InstrumentId, Nanos, Price, Qty, Side, Stamp};

use crate::journaling::{self, Place};
use crate::report::Findings;
use crate::stats::{Ratio, Series, means};
use crate::{Bench, Trouble, threads};

/// Operations whose time is taken together: 64 copies take some 200 ns, twenty steps of the clock.
const BATCH: usize = 64;
/// More and shorter rounds than elsewhere: how quick a copy is changes from one to the next with what
/// the host does to the shared cache.
const ROUNDS: usize = 21;
/// Batches of a round: all rounds are a million operations and some.
const BATCHES: usize = 770;
/// Batches in a mean.
const MEAN_OF: usize = 16;
/// Nanoseconds between batches: a million operations per second.
const BATCH_EVERY_NS: u64 = 64_000;
/// Operations before the measured ones.
const WARM_UP_BATCHES: usize = 200;
/// Bytes of a segment, and of each mapping that is copied into. A round writes 10 MB at most of any,
/// so all of them are written once, from front to back, in memory that was populated at the start: a second
/// lap would find some of it in the cache, in one and not in the other.
const SEGMENT_BYTES: usize = 128 << 20;
/// Bytes of a frame in the journal: what the second copy copies.
const FRAME_BYTES: usize = 96;

/// Runs the benches of this module.
pub(crate) fn run(bench: &mut Bench) -> Result<Findings, Trouble> {
    let mut found = Findings::default();
    let (over_copy, tmpfs_faults) = measure(bench, Place::Tmpfs, false, "tmpfs", &mut found)?;
    found.asked("tmpfs_over_copy", over_copy, "<= 4");
    found.asked("tmpfs_faults_per_million", Some(tmpfs_faults), "0");
    let (over_copy, faults) = measure(bench, Place::Tmpfs, true, "hot", &mut found)?;
    found.asked("hot_over_copy", over_copy, "<= 4");
    found.asked("hot_faults_per_million", Some(faults), "0");
    let (over_copy, faults) = measure(bench, Place::Disk, false, "ext4", &mut found)?;
    found.ratio("ext4_over_copy", over_copy);
    found.ratio("ext4_faults_per_million", Some(faults));
    found.note("each sample is the mean of 64; paced at 1 M/s; the keeper runs on the other CPU");
    found.note("hot is a ring in /dev/shm with the archiver at work, on the CPU of the keeper");
    found.note("tmpfs is /dev/shm; ext4 stands for the disk that holds the build, whatever it is");
    Ok(found)
}

/// Measures one file system: the ratio to the copy, and the faults per million appends.
fn measure(
    bench: &mut Bench,
    place: Place,
    is_hot: bool,
    name: &str,
    found: &mut Findings,
) -> Result<(Option<Ratio>, Ratio), Trouble> {
    let (hot, other) = bench.two_cpus();
    let dir = place.directory()?;
    let options = Options { segment_bytes: SEGMENT_BYTES as u64, ..Options::default() };
    let archive = if is_hot { Some(Place::Disk.directory()?) } else { None };
    let archiving = match &archive {
        None => None,
        Some(archive) => Some(journaling::archive(archive.path(), dir.path(), other)?),
    };
    let (mut writer, keeping) = match &archiving {
        None => journaling::start(&dir.path().join("journal"), &options, &bench.clock, other)?,
        Some(it) => journaling::start(&it.dir, &it.options(&options), &bench.clock, other)?,
    };
    let mut events_copied = Mapping::new(&dir.path().join("events"))?;
    let mut frames_copied = Mapping::new(&dir.path().join("frames"))?;
    let events = events();
    let bytes: Vec<[u8; 64]> = events.iter().map(bytes).collect();
    let mut append = Series::new(format!("{name}: append of 64 B"), BATCH as u64);
    let mut seat = Series::new(format!("{name}: append of an event by the seat"), BATCH as u64);
    let mut copy = Series::new(format!("{name}: copy of the event, 64 B"), BATCH as u64);
    let mut copy_frame = Series::new(format!("{name}: copy as long as the frame"), BATCH as u64);
    let per_mean = (BATCH * MEAN_OF) as u64;
    let (mut append_means, mut copy_means) = (Series::new("", per_mean), Series::new("", per_mean));
    let (mut faults, head) = (0, (1, frames::PRODUCT + 1, frames::SCHEMA, 0));
    for round in 0..ROUNDS {
        keeping.wait_until_prepared(1)?;
        let warm_up = if round == 0 { WARM_UP_BATCHES } else { WARM_UP_BATCHES / 10 };
        let pace = Pace { clock: &bench.clock, ns: bench.nanos_per_tick(), warm_up };
        threads::measured_on(hot, || {
            let (samples, faulted) = pace.round(&bytes, |it| {
                let written = writer.append_fixed(head, &[], it);
                assert!(written.is_ok(), "a segment stands ready: {written:?}");
            });
            append_means.push(means(&samples, MEAN_OF));
            append.push(samples);
            faults += faulted;
            let (samples, faulted) = pace.round(&events, |it| write(&mut writer, it));
            seat.push(samples);
            faults += faulted;
            let (samples, _) = pace.round(&bytes, |it| events_copied.copy::<64>(it));
            copy_means.push(means(&samples, MEAN_OF));
            copy.push(samples);
            copy_frame.push(pace.round(&bytes, |it| frames_copied.copy::<FRAME_BYTES>(it)).0);
        });
        bench.look_at_jitter();
    }
    keeping.finish(Some(writer), &bench.clock)?;
    if let Some(archiving) = archiving {
        archiving.finish()?;
    }
    for series in [&append, &seat, &copy, &copy_frame] {
        found.row(series);
    }
    Ok((append_means.over(&copy_means, 0.5), Ratio::exactly(per_million(faults))))
}

#[expect(clippy::cast_precision_loss, reason = "counts of millions")]
fn per_million(faults: u64) -> f64 {
    faults as f64 * 1e6 / (2 * ROUNDS * BATCHES * BATCH) as f64
}

/// Runs batches by a schedule.
#[derive(Clone, Copy)]
struct Pace<'a> {
    clock: &'a Clock,
    ns: f64,
    warm_up: usize,
}

impl Pace<'_> {
    /// Nanoseconds per operation of each batch, and the page faults meanwhile.
    #[expect(clippy::cast_precision_loss, reason = "ticks of a batch")]
    fn round<T>(&self, items: &[T], mut work: impl FnMut(&T)) -> (Vec<f64>, u64) {
        let mut ticks = vec![0_u64; BATCHES];
        let mut batches = items.chunks_exact(BATCH).cycle();
        let mut faults_before = 0;
        let start = self.clock.stamp();
        let mut due_ns = 0;
        for number in 0..self.warm_up + BATCHES {
            if number == self.warm_up {
                faults_before = minor_faults();
            }
            while self.clock.nanos_between(start, self.clock.stamp()) < due_ns {}
            due_ns += BATCH_EVERY_NS;
            let batch = batches.next().unwrap_or_default();
            let before = self.clock.stamp();
            batch.iter().for_each(&mut work);
            let after = self.clock.stamp();
            if let Some(slot) = number.checked_sub(self.warm_up).and_then(|it| ticks.get_mut(it)) {
                *slot = after.0.saturating_sub(before.0);
            }
        }
        let faults = minor_faults() - faults_before;
        let per_operation = |it: &u64| *it as f64 * self.ns / BATCH as f64;
        (ticks.iter().map(per_operation).collect(), faults)
    }
}

/// As the journal seat writes an input.
#[inline]
fn write(writer: &mut Writer, event: &Event) {
    let frame = frames::event(event);
    let head = (frame.ts, frame.kind, frame.schema, 0);
    let written = writer.append_fixed(head, &frame.ext, &frame.payload);
    assert!(written.is_ok(), "a segment stands ready before each round: {written:?}");
}

/// All 64 bytes of an event: the logical ones, and the stamp.
fn bytes(event: &Event) -> [u8; 64] {
    let mut bytes = [0; 64];
    bytes[..Event::LOGICAL].copy_from_slice(&event.logical());
    bytes[Event::LOGICAL..].copy_from_slice(&event.recv.0.to_le_bytes());
    bytes
}

/// Varied events: 256 KiB, as much as a second-level cache holds beside other things.
fn events() -> Vec<Event> {
    let side = |price, n| (Price(price), Qty(1 + n * 7 % 100_003));
    (0..4_096_i64)
        .map(|n| {
            let at = Nanos(1_700_000_000_000_000_000 + n.unsigned_abs() * 1_000);
            let price = 6_000_000 + n * 31 % 9_973;
            let event = match n % 2 {
                0 => Event::quote(at, at, InstrumentId(0), side(price, n), side(price + 1, n)),
                _ => Event::trade(
                    at,
                    at,
                    InstrumentId(1),
                    Price(price),
                    Qty(n),
                    n.unsigned_abs(),
                    Side::Buy,
                ),
            };
            Event { recv: Stamp(n.unsigned_abs() * 2_600), in_after: 260, ..event }
        })
        .collect()
}

/// Minor page faults of the calling thread so far.
fn minor_faults() -> u64 {
    // SAFETY: `rusage` is plain data for which all-zero is valid.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: `usage` is a valid, exclusively borrowed rusage.
    let status = unsafe { libc::getrusage(libc::RUSAGE_THREAD, &raw mut usage) };
    assert_eq!(status, 0, "getrusage knows the calling thread");
    u64::try_from(usage.ru_minflt).unwrap_or(0)
}

/// A populated, locked mapping that is written from front to back, again and again.
struct Mapping {
    base: NonNull<u8>,
    cursor: usize,
}

// SAFETY: the mapping belongs to this value alone; nothing about it belongs to a thread.
unsafe impl Send for Mapping {}

impl Mapping {
    const LEN: usize = SEGMENT_BYTES;

    fn new(path: &Path) -> Result<Self, Trouble> {
        let trouble = |what: &str| Trouble::new(what, std::io::Error::last_os_error());
        let file = File::options().read(true).write(true).create_new(true).open(path);
        let file = file.map_err(|error| Trouble::new(&path.display().to_string(), error))?;
        file.set_len(SEGMENT_BYTES as u64)
            .map_err(|error| Trouble::new("length of a file", error))?;
        let (protection, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED);
        let fd = std::os::fd::AsRawFd::as_raw_fd(&file);
        // SAFETY: a new mapping at an address of the kernel's choice; nothing else is touched.
        let base = unsafe { libc::mmap(ptr::null_mut(), Self::LEN, protection, flags, fd, 0) };
        if base == libc::MAP_FAILED {
            return Err(trouble("mmap"));
        }
        let base = NonNull::new(base.cast::<u8>()).ok_or_else(|| trouble("mmap"))?;
        let this = Self { base, cursor: 0 };
        // SAFETY: exactly the mapping made above.
        if unsafe { libc::madvise(base.as_ptr().cast(), Self::LEN, libc::MADV_POPULATE_WRITE) } != 0
        {
            return Err(trouble("MADV_POPULATE_WRITE"));
        }
        // SAFETY: exactly the mapping made above. Where the limit refuses it stays as it is.
        let _locked = unsafe { libc::mlock(base.as_ptr().cast(), Self::LEN) };
        Ok(this)
    }

    /// Copies the bytes to the cursor, and moves it by `STEP`; where that is longer, their start is
    /// copied again behind them.
    #[inline]
    fn copy<const STEP: usize>(&mut self, bytes: &[u8; 64]) {
        const { assert!(64 <= STEP && STEP <= 128) };
        if self.cursor + STEP > Self::LEN {
            self.cursor = 0;
        }
        let from = bytes.as_ptr();
        // SAFETY: `STEP` bytes at the cursor are inside the mapping, which nobody else touches; 64
        // bytes can be read, and `STEP - 64` is not more.
        unsafe {
            let to = self.base.as_ptr().add(self.cursor);
            ptr::copy_nonoverlapping(from, to, 64);
            ptr::copy_nonoverlapping(from, to.add(64), STEP - 64);
            // Otherwise stores that nobody reads might be put together or left out.
            std::hint::black_box(to);
        }
        self.cursor += STEP;
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the mapping made in `new`; nothing uses it after this.
        unsafe { libc::munmap(self.base.as_ptr().cast(), Self::LEN) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_copy_writes_what_it_was_given_where_its_cursor_is() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("copied");
        let mut mapping = Mapping::new(&path).unwrap();
        let events = events();
        mapping.copy::<64>(&bytes(&events[0]));
        mapping.copy::<FRAME_BYTES>(&bytes(&events[1]));
        assert_eq!(mapping.cursor, 64 + FRAME_BYTES);
        let written = std::fs::read(&path).unwrap();
        let at = |place: usize| u64::from_le_bytes(written[place..place + 8].try_into().unwrap());
        assert_eq!(at(0), at(64) - 1_000, "two times of arrival, 1 µs apart");
        assert_eq!(at(64), at(128), "the long copy begins again");
    }
}
