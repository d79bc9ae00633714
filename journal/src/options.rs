//! What the caller chooses: sizes, intervals, policies, and the facts of a run.

use crate::codec::FRAME_LEN_MAX;
use crate::error::Error;
use crate::faults::Faults;
use crate::hot::HotOptions;
use crate::layout::{Anchor, SEGMENT_LEN_MIN};

/// How much recovery may accept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// Anything but a clean end refuses.
    Absolute,
    /// A torn tail above the durable watermark is cut and reported; anything else refuses.
    #[default]
    TolerateTornTail,
    /// Cuts at the first frame that does not validate, even below the watermark. Needs
    /// `accept_loss`.
    PointInTime,
}

impl std::str::FromStr for Mode {
    type Err = String;

    fn from_str(text: &str) -> Result<Mode, String> {
        match text {
            "absolute" => Ok(Mode::Absolute),
            "tolerate-torn-tail" => Ok(Mode::TolerateTornTail),
            "point-in-time" => Ok(Mode::PointInTime),
            other => Err(format!(
                "mode {other:?}: not one of absolute, tolerate-torn-tail, point-in-time"
            )),
        }
    }
}

/// What an append does when no segment is ready after `not_ready_spin_us`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NotReady {
    /// Returns [`crate::AppendError::NotReady`]: the engine halts, or waits where waiting is fine.
    #[default]
    Halt,
    /// Spins until a segment is ready or the keeper has failed.
    Block,
}

/// Where segments lie while they are written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Placement {
    /// In the journal's directory, as mapped files on disk.
    #[default]
    Direct,
    /// In a ring in memory, which the archiver ([`crate::archive`]) copies into the journal's directory.
    Hot(HotOptions),
}

/// Sizes, intervals and policies. `Default` is the documented configuration.
#[derive(Clone, Debug)]
pub struct Options {
    /// Bytes per segment: a power of two, at least 2 MiB. 128 MiB.
    pub segment_bytes: u64,
    /// Accepts segments from 64 KiB, so that tests can flip every byte of one.
    pub allow_tiny_segments_for_tests: bool,
    /// Prepared segments to keep ahead of the writer, in `[1, 7]`. 2.
    pub ready_min: usize,
    /// Milliseconds between flushes while there is something to flush. 10.
    pub flush_interval_ms: u64,
    /// Flush earlier once this many bytes wait. 1 MiB.
    pub flush_bytes: u64,
    /// Bytes ahead of the cursor that are populated again each second. 16 MiB.
    pub prefault_ahead: u64,
    /// Longest frame in bytes: head, extension and payload; in `[96, 65536]`. 64 KiB.
    pub frame_max: u32,
    /// Microseconds an append spins for a segment. 50.
    pub not_ready_spin_us: u32,
    /// What happens after that.
    pub not_ready: NotReady,
    /// Bytes kept for the halt sequence when no further segment is ready; capped at a quarter of a
    /// segment. 1 MiB.
    pub halt_reserve_bytes: u64,
    /// How much recovery may accept at start.
    pub recover: Mode,
    /// The operator accepts that events are lost (`recover = point-in-time`).
    pub accept_loss: bool,
    /// Where segments lie while they are written.
    pub placement: Placement,
    /// Refuse where development warns: file systems other than ext4 and xfs.
    pub strict: bool,
    /// Populate and lock mapped pages. `false` in tests, which have no hot thread.
    pub populate: bool,
    /// Sealed bytes that are read again at start, newest first. 1 GiB.
    pub verify_at_start_bytes: u64,
    /// Reads the clocks for anchors. Never called by the writer.
    pub clock: fn() -> Anchor,
    /// A disk that fails, for tests.
    pub faults: Faults,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            segment_bytes: 128 << 20,
            allow_tiny_segments_for_tests: false,
            ready_min: 2,
            flush_interval_ms: 10,
            flush_bytes: 1 << 20,
            prefault_ahead: 16 << 20,
            frame_max: 64 << 10,
            not_ready_spin_us: 50,
            not_ready: NotReady::Halt,
            halt_reserve_bytes: 1 << 20,
            recover: Mode::TolerateTornTail,
            accept_loss: false,
            placement: Placement::Direct,
            strict: false,
            populate: true,
            verify_at_start_bytes: 1 << 30,
            clock: clock_now,
            faults: Faults::default(),
        }
    }
}

/// The hand-over has this many places; one stays free. Few, where every interleaving is tried.
pub(crate) const PREPARED_MAX: usize = if cfg!(loom) { 2 } else { 8 };

impl Options {
    /// Checks each option against its range.
    pub(crate) fn check(&self) -> Result<(), Error> {
        let smallest = if self.allow_tiny_segments_for_tests { SEGMENT_LEN_MIN } else { 2 << 20 };
        let size = self.segment_bytes;
        let frame = u64::from(self.frame_max);
        let rules: [(bool, &'static str, u64, &'static str); 5] = [
            (
                size.is_power_of_two() && (smallest..=1 << 36).contains(&size),
                "segment_bytes",
                size,
                "a power of two, from 2 MiB to 64 GiB",
            ),
            (
                (1..PREPARED_MAX).contains(&self.ready_min),
                "ready_min",
                self.ready_min as u64,
                "in [1, 7]",
            ),
            (
                (96..=FRAME_LEN_MAX as u64).contains(&frame) && frame <= size / 4,
                "frame_max",
                frame,
                "in [96, 65536] and at most a quarter of a segment",
            ),
            (self.flush_interval_ms >= 1, "flush_interval_ms", self.flush_interval_ms, "≥ 1"),
            (self.flush_bytes >= 4096, "flush_bytes", self.flush_bytes, "≥ 4096"),
        ];
        match rules.into_iter().find(|(holds, ..)| !holds) {
            Some((_, key, found, rule)) => {
                Err(Error::Option { key, found: found.to_string(), rule })
            }
            None => Ok(()),
        }
    }

    /// The halt reserve in effect: never below one frame, never above a quarter of a segment.
    pub(crate) fn halt_reserve(&self) -> u64 {
        let least = u64::from(self.frame_max) + 256;
        self.halt_reserve_bytes.min(self.segment_bytes / 4).max(least)
    }
}

/// What a run is, as far as the journal records it.
#[derive(Clone, Debug, Default)]
pub struct RunFacts {
    /// Ticks of the caller's stamps per second.
    pub tsc_hz: u64,
    /// Ticks now.
    pub tsc: u64,
    /// Nanoseconds since the Unix epoch, now.
    pub wall_ns: u64,
    /// Seed of the run's random numbers.
    pub seed: u64,
    /// Digest of the configuration.
    pub config_hash: [u8; 32],
    /// Digest of the binary.
    pub binary_hash: [u8; 32],
    /// Digest of its dependency lock file.
    pub lock_hash: [u8; 32],
    /// Digest of the payload types' registry.
    pub registry_hash: [u8; 32],
    /// Whatever else belongs into the manifest: version, build id, strategies, gate.
    pub notes: serde_json::Value,
}

/// The default clock: ticks of the TSC (nanoseconds of the monotonic clock where there is none),
/// wall clock, raw monotonic clock.
#[must_use]
pub fn clock_now() -> Anchor {
    let mono_ns = crate::files::mono_ns();
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    // SAFETY: RDTSC exists on every x86-64 processor and touches no memory.
    let tsc = unsafe { core::arch::x86_64::_rdtsc() };
    #[cfg(not(all(target_arch = "x86_64", not(miri))))]
    let tsc = mono_ns;
    Anchor { tsc, wall_ns: crate::files::wall_ns(), mono_ns }
}
