//! Segments of chained, checksummed frames in memory-mapped files: writer, reader, recovery.
//!
//! The journal is the one record from which a run is recovered, replayed and audited. This crate
//! knows bytes only: what a frame's payload means is the business of whoever wrote it. The format on
//! disk stands in `FORMAT.md`.
//!
//! * [`create`] takes a directory, recovers what an earlier run left there, and returns the two
//!   halves of a live journal. The [`Writer`] belongs to the hot thread: no system call, no lock, no
//!   allocation, no formatting. The [`Keeper`] belongs to a helper thread that calls
//!   [`Keeper::turn`] in a loop: it prepares segments ahead, flushes behind, publishes the durable
//!   watermark and seals. They share nothing but atomics ([`Shared`]) and prepared segments.
//! * [`Journal`] opens a directory read-only, live or dead; its [`Reader`] verifies as it reads.
//! * [`recover`], [`verify`], [`fingerprint`] and [`salvage`] work on whole directories.
//! * [`archive`] is the other half of placement `hot`: segments are a ring in memory, which
//!   [`Options::placement`] chooses, and a process of its own copies them to the journal's directory,
//!   compresses and prunes them. [`cursors`] is how sinks say what they have passed, [`holds`] how an
//!   operator keeps what retention would remove.
//!
//! # What survives
//!
//! Every committed frame (`seq` ≤ [`Shared::committed_seq`]) survives the death of the process.
//! Every durable one (`seq` ≤ [`Shared::durable_seq`]) survives the death of the host.
//!
//! # Example
//!
//! ```
//! use kairos_journal::{Frame, Journal, Options, RunFacts, create};
//!
//! # let dir = tempfile::tempdir()?;
//! # let dir = dir.path();
//! let options = Options { segment_bytes: 2 << 20, ..Options::default() };
//! let (mut writer, mut keeper, _) = create(dir, &options, RunFacts::default())?;
//! let frame = Frame { ts: 0, kind: 0x101, schema: 1, lane: 0, ext: &[], payload: b"tick" };
//! let seq = writer.append(&frame)?; // on the hot thread
//! keeper.turn(); // on a helper thread, in a loop
//! writer.end_run(0, b"").map_err(|(_, why)| why)?;
//! keeper.finish()?;
//!
//! let mut reader = Journal::open(dir)?.reader_from(seq)?;
//! assert_eq!(reader.next()?.map(|frame| frame.payload), Some(&b"tick"[..]));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Limitations
//!
//! Linux 5.14 or newer (`MADV_POPULATE_WRITE`). In placement `direct` segments are disk files, and
//! flushing interrupts hot threads about once per flushed page. In placement `hot` readers follow the
//! archive, some milliseconds behind the ring, and what the ring holds at a power loss is gone. Runs
//! are pruned as a whole. The checksum finds accidents, not attackers. A file that another process
//! truncates while it is mapped ends the reader by SIGBUS (see [`install_sigbus_handler`]).

#[cfg(target_endian = "big")]
compile_error!("the mapped format is little-endian; the codec alone is portable");

pub mod archive;
mod codec;
mod crc;
pub mod cursors;
mod error;
mod faults;
mod files;
pub mod holds;
mod hot;
mod keeper;
mod lag;
mod layout;
mod manifest;
mod open;
mod options;
mod pack;
mod prepare;
mod reader;
mod recover;
mod retain;
mod ring;
mod salvage;
mod scan;
mod segment;
mod shared;
mod sigbus;
mod sync;
mod verify;
mod writer;

pub use codec::{
    EXT_WORDS_MAX, FRAME_ALIGN, FRAME_HEAD, FRAME_LEN_MAX, Flaw, Frame, GAP, KIND_PHYSICAL,
    KIND_SKIPPABLE, MARK, PAD, POLICY, RUN_END, RUN_START, SEG_END, SEG_START, SNAPSHOT_ANCHOR,
    TIME_ANCHOR,
};
pub use crc::{crc32c, crc32c_append};
pub use error::{Class, Error, OpenError};
pub use faults::{DiskStep, Faults};
pub use files::Watermark;
pub use hot::HotOptions;
pub use keeper::{Keeper, Turn};
pub use layout::{Anchor, RunParent, SegmentHeader, SegmentState};
pub use manifest::{RunInfo, RunStatus};
pub use open::{Opened, create};
pub use options::{Mode, NotReady, Options, Placement, RunFacts, clock_now};
pub use reader::{FrameView, Journal, Reader, SegmentInfo, fingerprint, fingerprint_of};
pub use recover::{Recovery, Report, Verdict, recover, recover_with};
pub use retain::{PrunePlan, PruneRun, Retention, Undrained, prune, prune_plan};
pub use ring::ArchiverState;
pub use salvage::{Salvaged, salvage};
pub use shared::{Failure, FailureKind, Shared, Status};
pub use sigbus::install_sigbus_handler;
pub use verify::{Finding, Findings, Severity, verify, verify_with};
pub use writer::{AppendError, Writer};
