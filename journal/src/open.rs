//! Taking a directory: recover, then start a run.

use std::fs::{File, OpenOptions};
use std::path::Path;
use std::sync::Arc;

use crate::error::Error;
use crate::files::{
    Dir, Lock, Watermark, boot_id, read_watermarks, unfit_file_system, write_watermarks,
};
use crate::hot;
use crate::keeper::{DirectKeeper, Keeper};
use crate::layout::{Anchor, MAJOR, MINOR, RunParent, SegmentHeader};
use crate::manifest;
use crate::options::{Options, Placement, RunFacts};
use crate::recover::{Found, Recovery, Report, recover_owned};
use crate::shared::Link;
use crate::writer::{AppendError, Parent, Writer};

/// What [`create`] found and started.
#[derive(Clone, Debug)]
pub struct Opened {
    /// Number of the run that starts, from 1.
    pub run: u64,
    /// Name of the journal.
    pub uuid: uuid::Uuid,
    /// `seq` of the run's first event.
    pub first_seq: u64,
    /// What recovery found and did.
    pub recovery: Report,
    /// What production would refuse.
    pub warnings: Vec<String>,
}

/// Takes `dir` for writing: locks it, recovers what an earlier run left, prepares the first segment
/// and starts a run in it.
///
/// The directory is made if it is absent. The [`Writer`] is ready at once; further segments come
/// from [`Keeper::turn`].
///
/// In placement `hot` the directory is the archiver's: it has recovered what an earlier run left, and
/// this waits until it says so; the lock, the recovery and the first segment are those of the ring.
///
/// # Errors
/// [`Error`]; [`Error::class`] tells damage from what may pass.
pub fn create(
    dir: &Path,
    options: &Options,
    facts: RunFacts,
) -> Result<(Writer, Keeper, Opened), Error> {
    match &options.placement {
        Placement::Direct => create_direct(dir, options, facts),
        Placement::Hot(ring) => {
            let (writer, keeper, opened) = hot::create(dir, options, ring, &facts)?;
            Ok((writer, keeper.into(), opened))
        }
    }
}

fn create_direct(
    dir: &Path,
    options: &Options,
    facts: RunFacts,
) -> Result<(Writer, Keeper, Opened), Error> {
    options.check()?;
    let dir = Dir::new(dir);
    dir.check_ours()?;
    dir.make()?;
    let mut warnings = judge_file_system(&dir, options)?;
    let lock = Lock::take(&dir)?;
    let boot_id = boot_id()?;
    let how = Recovery {
        mode: options.recover,
        accept_loss: options.accept_loss,
        verify_bytes: options.verify_at_start_bytes,
        boot_id: Some(boot_id),
    };
    let found = recover_owned(&dir, &how)?;
    let uuid = found.uuid.unwrap_or_else(|| *uuid::Uuid::new_v4().as_bytes());
    let run = found.last_run + 1;
    let parent =
        RunParent { run: found.parent_run, last_seq: found.last_seq, last_crc: found.last_crc };
    let first_seq = parent.last_seq + 1;
    let watermark = open_watermark(&dir, run, uuid, boot_id)?;
    manifest::begin(&dir, (&uuid, run, parent, first_seq), (options, &facts, &boot_id))?;
    let durable = dir.durable();
    let file =
        OpenOptions::new().write(true).open(&durable).map_err(Error::io("open", &durable))?;

    let anchor = (options.clock)();
    let anchor = Anchor {
        tsc: facts.tsc,
        wall_ns: i64::try_from(facts.wall_ns).unwrap_or(anchor.wall_ns),
        mono_ns: anchor.mono_ns,
    };
    let header = SegmentHeader {
        version: (MAJOR, MINOR),
        uuid,
        run,
        segment: found.next_segment,
        segment_len: options.segment_bytes,
        boot_id,
        created: anchor,
        tsc_hz: facts.tsc_hz,
        registry_hash: facts.registry_hash,
        binary_hash: facts.binary_hash,
        lock_hash: facts.lock_hash,
        config_hash: facts.config_hash,
        seed: facts.seed,
    };
    let files = (dir, lock, file);
    let (writer, keeper) = start(files, options, header, watermark, &found)?;
    if options.populate && writer.shared().unlocked() > 0 {
        if options.strict {
            return Err(Error::Option {
                key: "segment_bytes",
                found: options.segment_bytes.to_string(),
                rule: "segments must fit RLIMIT_MEMLOCK: they could not be locked into memory",
            });
        }
        warnings.push("segments are not locked into memory: RLIMIT_MEMLOCK is too low".into());
    }
    let opened = Opened {
        run,
        uuid: uuid::Uuid::from_bytes(uuid),
        first_seq,
        recovery: found.report,
        warnings,
    };
    Ok((writer, keeper, opened))
}

/// Prepares the first segment and writes the first frames.
fn start(
    (dir, lock, file): (Dir, Lock, File),
    options: &Options,
    header: SegmentHeader,
    watermark: Watermark,
    found: &Found,
) -> Result<(Writer, Keeper), Error> {
    let parent =
        RunParent { run: found.parent_run, last_seq: found.last_seq, last_crc: found.last_crc };
    let mut payload = parent.to_bytes().to_vec();
    payload.extend_from_slice(&header.config_hash);
    let (anchor, root) = (header.created, dir.root.clone());
    let link = Arc::new(Link::default());
    link.shared.publish_durable(parent.last_seq);
    link.shared.publish_archived(parent.last_seq);
    let files = (dir, lock, file);
    let mut keeper =
        DirectKeeper::new(Arc::clone(&link), files, options.clone(), header, watermark);
    keeper.prepare_next()?;
    let before = Parent {
        segment: found.last_segment,
        last_seq: parent.last_seq,
        last_crc: parent.last_crc,
    };
    let writer = Writer::start(link, options, before, anchor)
        .and_then(|mut writer| writer.run_start(&payload).map(|()| writer));
    // The segment was prepared a moment ago and the frame is short: this cannot fail.
    let not_started = |why: AppendError| Error::NotEnded { dir: root, reason: why.to_string() };
    Ok((writer.map_err(not_started)?, keeper.into()))
}

pub(crate) fn judge_file_system(dir: &Dir, options: &Options) -> Result<Vec<String>, Error> {
    match unfit_file_system(&dir.root) {
        None => Ok(Vec::new()),
        Some((found, rule)) if options.strict => {
            Err(Error::FileSystem { dir: dir.root.clone(), found, rule })
        }
        Some((found, rule)) => {
            Ok(vec![format!("{}: file system {found}: {rule}", dir.root.display())])
        }
    }
}

/// The watermark to continue; a new journal gets a file that says "nothing is durable". A slot that
/// power loss tore is written again, so that from here on a bad slot means damage.
pub(crate) fn open_watermark(
    dir: &Dir,
    run: u64,
    uuid: [u8; 16],
    boot_id: [u8; 16],
) -> Result<Watermark, Error> {
    let found = read_watermarks(dir)?;
    if let Some(found) = &found
        && let (Some(newest), None) = (found.newest, &found.flaw)
    {
        return Ok(newest);
    }
    let newest = found.and_then(|it| it.newest);
    let start =
        Watermark { run, uuid, boot_id, wall_ns: crate::files::wall_ns(), ..Watermark::default() };
    write_watermarks(dir, newest.unwrap_or(start))
}
