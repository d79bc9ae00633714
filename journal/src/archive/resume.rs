//! Starting the archiver over whatever an earlier one, an engine, or a power loss left.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Instant;

use super::copy::{Copying, Open};
use super::disk::Disk;
use super::{ArchiveOptions, Archiver};
use crate::codec::{Chain, RUN_END, SEG_END};
use crate::error::Error;
use crate::files::{Dir, Watermark, boot_id, read_watermarks};
use crate::layout::{FRAMES_AT, PAGE};
use crate::manifest::{self, RunInfo, RunStatus, hex};
use crate::recover::{Found, Recovery, Verdict, hot_lost, recover_settled};
use crate::ring::{EngineSeen, Reuse, RingDir, Session};
use crate::scan::{View, scan};
use crate::verify::{Examined, Finding};

impl Archiver {
    /// Writes down which ring the archive is filled from: recovery without an archiver looks there.
    pub(super) fn name_ring(&self) -> Result<(), Error> {
        let hot_dir = std::fs::canonicalize(&self.ring.root);
        let hot_dir = hot_dir.map_err(Error::io("resolve", &self.ring.root))?;
        if named_ring(&self.dir)?.as_ref() == Some(&hot_dir) {
            return Ok(());
        }
        self.disk.replacing(&self.dir.ring())?;
        let mut fields = serde_json::Map::new();
        fields.insert("hot_dir".into(), hot_dir.display().to_string().into());
        manifest::write_digested(&self.dir.ring(), fields)
    }

    /// Continues the run in the ring, or settles the archive.
    pub(super) fn resume(&mut self) -> Result<(), Error> {
        self.dir.remove_temporary()?;
        self.name_ring()?;
        let newest = newest_run(&self.dir)?;
        let engine = EngineSeen::open(&self.ring);
        let session = engine.as_ref().and_then(EngineSeen::session);
        let session = session.filter(|it| it.boot_id == self.boot_id);
        if let (Some(engine), Some(session), Some(newest)) = (engine, session, &newest)
            && newest.run == session.run
            && newest.status == RunStatus::Running
        {
            if uuid_of(newest) != Some(session.uuid) {
                return Err(foreign_ring(&self.ring, &session));
            }
            let continued = self.continue_run(engine, session);
            return continued.or_else(|bad| self.accept_lost_slot(bad));
        }
        let found = settle_without_ring(&self.dir, &self.how(), newest.as_ref())?;
        self.rest_on(found);
        Ok(())
    }

    /// Continues a run from the watermark on.
    fn continue_run(&mut self, engine: EngineSeen, session: Session) -> Result<(), Error> {
        let path = self.dir.durable();
        let mark = read_watermarks(&self.dir)?.and_then(|it| it.newest);
        let Some(mark) = mark else {
            let reason = "no valid watermark, but a run is open".to_string();
            return Err(Error::Damaged(Box::new(Finding::damage(&path, None, None, reason))));
        };
        self.watermark = mark;
        if mark.run != session.run || mark.segment < session.first_segment {
            // Nothing of this run is durable yet.
            let before = self.last_before(session.first_segment)?;
            self.copy_from(engine, session, before, session.first_segment);
            return Ok(());
        }
        let segment = self.examine(&mark)?;
        // A seal that was written and not synced.
        let file = Disk::open_segment(&segment.file.path)?;
        self.disk.sync(&file, &segment.file.path)?;
        let before = (mark.segment, mark.seq, mark.crc);
        let is_sealed = segment.state.as_ref().is_some_and(|it| it.end_offset == mark.offset);
        if is_sealed {
            let has_ended = segment.scan.run_ended;
            self.copy_from(engine, session, before, mark.segment + 1);
            if let Some(copying) = &mut self.copying {
                copying.has_ended = has_ended;
            }
            return Ok(());
        }
        let earlier = self.last_before(mark.segment)?;
        self.copy_from(engine, session, earlier, mark.segment);
        self.page.set_durable(mark.seq);
        self.progress.durable_seq = mark.seq;
        self.continue_segment(&segment, &mark)
    }

    /// Reads the archive's segment of the watermark, which must hold what was durable.
    fn examine(&self, mark: &Watermark) -> Result<Examined, Error> {
        let files = self.dir.segments()?;
        let file = files.into_iter().find(|it| (it.run, it.segment) == (mark.run, mark.segment));
        let Some(file) = file else {
            let path = self.dir.segment(mark.run, mark.segment);
            let reason = "is durable by the watermark, but missing".to_string();
            return Err(Error::Damaged(Box::new(Finding::damage(&path, None, None, reason))));
        };
        let segment = Examined::open(file, false)?;
        match crate::verify::watermark_flaw(mark, std::slice::from_ref(&segment)) {
            Some(reason) => {
                let at = Some(mark.place());
                let finding = Finding::damage(&self.dir.durable(), None, at, reason);
                Err(Error::Damaged(Box::new(finding)))
            }
            None => Ok(segment),
        }
    }

    /// Opens the ring's slot of a segment that is durable up to `mark`, and compares.
    fn continue_segment(&mut self, segment: &Examined, mark: &Watermark) -> Result<(), Error> {
        let run = mark.run;
        let Some(Copying { engine, session, .. }) = &self.copying else { return Ok(()) };
        let slots = engine.slots(session.slot_count);
        let place = Reuse { slots, released: self.page.released() }.find(mark.segment);
        let Some(place) = place else {
            let reason = format!("segment {} of run {run} is not in the ring", mark.segment);
            return Err(lost(&self.dir, &self.how(), self.boot_id, run, reason));
        };
        let slot_path = self.ring.slot(place);
        let slot = self.open_slot(&slot_path, run, mark.segment)?;
        let damaged = |reason: String| {
            let header = Some(&segment.header);
            Error::Damaged(Box::new(Finding::damage(&slot_path, header, Some(mark.offset), reason)))
        };
        if slot.range(0, PAGE) != segment.view.range(0, PAGE) {
            return Err(damaged("header differs from the archive's".into()));
        }
        let mut chain = None;
        let (mut closed, mut run_ended) = (false, false);
        let mut base_seq = 0;
        scan(&slot, &segment.header, &mut |raw, offset| {
            let end = (offset + raw.size) as u64;
            if offset == FRAMES_AT {
                base_seq = raw.seq;
            }
            if end <= mark.offset {
                run_ended |= raw.kind == RUN_END;
            }
            if end == mark.offset {
                chain = Some(Chain { crc: raw.crc, next_seq: mark.seq + 1 });
                closed = raw.kind == SEG_END;
            }
        });
        // Equal checksums at the same place: everything before is equal, by the chain.
        let Some(chain) = chain.filter(|it| it.crc == mark.crc) else {
            return Err(damaged(format!(
                "the ring does not hold what the archive has: no frame with checksum {:08x} ends at \
                 offset {}",
                mark.crc, mark.offset
            )));
        };
        let at = usize::try_from(mark.offset).unwrap_or(0);
        let mut hasher = blake3::Hasher::new();
        hasher.update(slot.range(0, PAGE)).update(slot.range(FRAMES_AT, at));
        let path = segment.file.path.clone();
        let open = Open {
            number: mark.segment,
            slot,
            slot_path,
            header: segment.header.clone(),
            file: Disk::open_segment(&path)?,
            path,
            chain,
            base_seq,
            scanned: at,
            written: at,
            hasher,
            closed,
            run_ended,
            flushed_at: Instant::now(),
        };
        if let Some(copying) = &mut self.copying {
            copying.open = Some(open);
            copying.next = mark.segment + 1;
        }
        self.seal_closed()
    }

    /// Maps a slot; one that is gone is a part of the ring that is lost.
    pub(super) fn open_slot(&self, path: &Path, run: u64, number: u64) -> Result<View, Error> {
        let opened = View::open(path);
        let is_gone = matches!(&opened, Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound);
        if !is_gone {
            return opened;
        }
        let gone = format!("{} is gone", path.display());
        let reason = format!("segment {number} of run {run} is not in the ring: {gone}");
        Err(lost(&self.dir, &self.how(), self.boot_id, run, reason))
    }

    /// Where a slot is lost, its engine is dead and the operator accepts it: seals what the archive has,
    /// as after a power loss.
    pub(super) fn accept_lost_slot(&mut self, bad: Error) -> Result<(), Error> {
        let is_lost =
            matches!(&bad, Error::Refused { report, .. } if report.verdict == Verdict::HotLost);
        if !is_lost || !self.options.accept_loss || self.ring.has_engine() {
            return Err(bad);
        }
        self.copying = None; // closes the file
        let elsewhere = Recovery { boot_id: Some([0; 16]), ..self.how() };
        let found = recover_settled(&self.dir, &elsewhere)?;
        self.rest_on(found);
        Ok(())
    }

    /// What the history ends with before segment `number`.
    fn last_before(&self, number: u64) -> Result<(u64, u64, u32), Error> {
        let mut files = self.dir.segments()?;
        files.retain(|it| it.segment < number);
        for file in files.into_iter().rev() {
            let segment = Examined::open(file, true)?;
            if segment.is_quarantined() || segment.scan.start.is_none() {
                continue;
            }
            let chain = segment.scan.chain;
            return Ok((segment.header.segment, segment.scan.last_seq(), chain.crc));
        }
        let pruned = crate::retain::pruned(&self.dir)?;
        Ok((pruned.segment, pruned.last_seq, pruned.last_crc))
    }
}

/// Before a recovery by whoever owns the journal in `dir`: if its last run is in a ring, takes the rest
/// of it and seals. `None`: no ring is concerned.
pub(crate) fn take_rest(dir: &Dir, how: &Recovery) -> Result<Option<Found>, Error> {
    let boot_now = how.boot_id.map_or_else(boot_id, Ok)?;
    let Some(hot_dir) = named_ring(dir)? else { return Ok(None) };
    let newest = newest_run(dir)?;
    let ring = RingDir::new(&hot_dir);
    let session = EngineSeen::open(&ring).and_then(|it| it.session());
    // The archiver may have died before it even began with a run.
    let session = session.filter(|it| {
        it.boot_id == boot_now
            && newest.as_ref().is_none_or(|newest| {
                let is_open = newest.run < it.run
                    || newest.run == it.run && newest.status == RunStatus::Running;
                is_open && uuid_of(newest) == Some(it.uuid)
            })
    });
    let Some(session) = session else {
        return settle_without_ring(dir, how, newest.as_ref()).map(Some);
    };
    if ring.has_engine() {
        return Err(Error::Owned { dir: hot_dir, owner: "alive, with its ring".into() });
    }
    let options = ArchiveOptions {
        recover: how.mode,
        accept_loss: how.accept_loss,
        verify_at_start_bytes: how.verify_bytes,
        boot_id: Some(boot_now),
        ..ArchiveOptions::new(&dir.root, hot_dir)
    };
    let mut archiver = Archiver::on(dir.clone(), None, options)?;
    while archiver.turn()? || !archiver.is_caught_up() {
        if archiver.retry_at.is_some() {
            let free = crate::files::free_bytes(&dir.root);
            return Err(Error::NoSpace { path: dir.seg(), need: session.segment_bytes, free });
        }
    }
    Ok(archiver.found.take())
}

/// Recovers the archive where the ring holds nothing of it. On the boot that wrote it that is a loss,
/// which the operator has to accept; it is then judged as after a power loss.
fn settle_without_ring(
    dir: &Dir,
    how: &Recovery,
    newest: Option<&RunInfo>,
) -> Result<Found, Error> {
    let boot_now = how.boot_id.map_or_else(boot_id, Ok)?;
    let Some((newest, hot_dir)) = newest.and_then(|it| ring_of(it, &boot_now)) else {
        return recover_settled(dir, how);
    };
    if how.accept_loss {
        let elsewhere = Recovery { boot_id: Some([0; 16]), ..how.clone() };
        return recover_settled(dir, &elsewhere);
    }
    let reason = format!(
        "the ring {} of run {} is gone without a reboot; what was not archived is lost, and has to be \
         accepted",
        hot_dir.display(),
        newest.run
    );
    Err(lost(dir, how, boot_now, newest.run, reason))
}

fn lost(dir: &Dir, how: &Recovery, boot_now: [u8; 16], run: u64, reason: String) -> Error {
    let report = hot_lost(how, boot_now, run, reason);
    Error::Refused { dir: dir.root.clone(), report: Box::new(report) }
}

/// The ring's directory of a run that is open and was written on this boot.
fn ring_of<'a>(run: &'a RunInfo, boot_now: &[u8; 16]) -> Option<(&'a RunInfo, PathBuf)> {
    let text = |key: &str| run.manifest.get(key).and_then(serde_json::Value::as_str);
    let boot_then = run.manifest.get("host")?.get("boot_id")?.as_str()?;
    let is_open = run.status == RunStatus::Running && text("placement") == Some("hot");
    let hot_dir = text("hot_dir").map(|it| Path::new(it).to_path_buf());
    (is_open && boot_then == hex(boot_now)).then_some((run, hot_dir?))
}

/// The ring that the archive is filled from, as its archiver wrote down.
fn named_ring(dir: &Dir) -> Result<Option<PathBuf>, Error> {
    let path = dir.ring();
    let damaged =
        |reason: String| Error::Damaged(Box::new(Finding::damage(&path, None, None, reason)));
    let fields = match manifest::read_digested(&path) {
        Ok(fields) => fields.map_err(damaged)?,
        Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
            return Ok(None);
        }
        Err(bad) => return Err(bad),
    };
    let named = fields.get("hot_dir").and_then(serde_json::Value::as_str);
    named.map(|it| Some(it.into())).ok_or_else(|| damaged("names no ring".into()))
}

fn newest_run(dir: &Dir) -> Result<Option<RunInfo>, Error> {
    // A damaged manifest is told by recovery.
    Ok(manifest::read_all(dir)?.into_iter().filter_map(Result::ok).max_by_key(|it| it.run))
}

fn uuid_of(run: &RunInfo) -> Option<[u8; 16]> {
    let text = run.manifest.get("uuid")?.as_str()?;
    Some(*uuid::Uuid::parse_str(text).ok()?.as_bytes())
}

pub(super) fn foreign_ring(ring: &RingDir, session: &Session) -> Error {
    Error::Foreign {
        file: ring.root.clone(),
        found: format!("run {} of journal {}", session.run, uuid::Uuid::from_bytes(session.uuid)),
        rule: "the ring belongs to another journal: archive it where it belongs, or empty it",
    }
}
