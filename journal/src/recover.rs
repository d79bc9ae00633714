//! What an earlier run left: judged, sealed where it may be, refused where it may not.
//!
//! Recovery never changes a byte of a frame. It writes state pages, a copy of a torn tail, a report
//! and the run's manifest, and removes segments that were prepared and never used. Killed at any
//! point, it comes to the same verdict the next time.

use std::fmt;
use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::error::Error;
use crate::files::{
    Dir, Lock, Watermark, Watermarks, boot_id, read_watermarks, replace, sync_dir, wall_ns,
    write_watermarks,
};
use crate::layout::{SealReason, SegmentState, StateSlot};
use crate::manifest::{self, RunStatus, hex, write_digested};
use crate::options::Mode;
use crate::retain::Pruned;
use crate::scan::{Tail, later_frames, tail};
use crate::verify::{Examined, Finding, chain_flaw, order_flaws};

/// What became of the last run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Verdict {
    /// No event was ever committed.
    Empty,
    /// It ended as it should.
    Clean,
    /// Killed: every committed event is there.
    Crashed,
    /// The host died: every durable event is there; what was committed later is gone, uncounted.
    Cut,
    /// The host died, and later frames survived behind a hole: set aside and counted.
    Torn,
    /// Bytes are not what was written, or are missing.
    Corrupt,
    /// Nobody can say how far the journal was durable.
    NoWatermark,
    /// The run wrote into a ring in memory that is gone, although the host has not died.
    HotLost,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Verdict::Empty => "EMPTY",
            Verdict::Clean => "CLEAN",
            Verdict::Crashed => "CRASHED",
            Verdict::Cut => "CUT",
            Verdict::Torn => "TORN",
            Verdict::Corrupt => "CORRUPT",
            Verdict::NoWatermark => "NO_WATERMARK",
            Verdict::HotLost => "HOT_LOST",
        })
    }
}

/// The whole story of a recovery.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Report {
    /// What became of the last run.
    pub verdict: Verdict,
    /// Why, in one line.
    pub reason: String,
    /// What recovery was allowed to accept.
    pub mode: Mode,
    /// The operator accepted loss.
    pub accept_loss: bool,
    /// An earlier recovery had done the work.
    pub already_sealed: bool,
    /// The run.
    pub run: u64,
    /// The segment in which the history ends.
    pub file: Option<PathBuf>,
    /// Where it ends there.
    pub offset: Option<u64>,
    /// First and last `seq` that are kept.
    pub kept: Option<(u64, u64)>,
    /// Frames that survived behind the end, and are not used.
    pub later_frames: u64,
    /// The last `seq` among them.
    pub later_last_seq: Option<u64>,
    /// The host's boot when the run wrote, in hexadecimal.
    pub boot_then: Option<String>,
    /// The host's boot now.
    pub boot_now: String,
    /// How far the journal was durable.
    pub watermark: Option<Watermark>,
    /// Age of the watermark when recovery looked, in nanoseconds: events of that time may be lost.
    pub watermark_age_ns: Option<i64>,
    /// Copy of the tail, in the journal's directory.
    pub torn_file: Option<String>,
    /// Its digest.
    pub torn_blake3: Option<String>,
    /// When, in nanoseconds since the Unix epoch.
    pub at_ns: i64,
}

/// How to recover.
#[derive(Clone, Debug, Default)]
pub struct Recovery {
    /// What may be accepted.
    pub mode: Mode,
    /// The operator accepts that events are lost.
    pub accept_loss: bool,
    /// Sealed bytes that are read again, newest first; the last segment always is.
    pub verify_bytes: u64,
    /// The host's boot; `None`: ask the kernel. Tests pretend another.
    pub boot_id: Option<[u8; 16]>,
}

/// What a new run continues.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) report: Report,
    pub(crate) uuid: Option<[u8; 16]>,
    pub(crate) last_run: u64,
    pub(crate) parent_run: u64,
    pub(crate) last_seq: u64,
    pub(crate) last_crc: u32,
    pub(crate) last_segment: u64,
    pub(crate) next_segment: u64,
}

/// Recovers the journal in `dir`, which no living engine may own.
///
/// # Errors
/// [`Error::Refused`] and [`Error::Damaged`] if the mode does not accept what was found;
/// [`Error::Owned`], [`Error::Missing`] and what the system says.
pub fn recover(dir: &Path, mode: Mode, accept_loss: bool) -> Result<Report, Error> {
    let how = Recovery { mode, accept_loss, verify_bytes: u64::MAX, boot_id: None };
    recover_with(dir, &how)
}

/// As [`recover`], with all choices.
///
/// # Errors
/// As [`recover`].
pub fn recover_with(dir: &Path, how: &Recovery) -> Result<Report, Error> {
    crate::reader::Journal::open(dir)?;
    let dir = Dir::new(dir);
    if !dir.seg().is_dir() {
        // Nothing was ever written: do not even leave a lock file.
        return Ok(Case::new(how, boot_id()?).report);
    }
    let lock = Lock::take(&dir)?;
    let found = recover_owned(&dir, how)?;
    drop(lock);
    Ok(found.report)
}

/// As [`recover_with`], by the owner of the lock. What is left in a ring in memory is taken first.
pub(crate) fn recover_owned(dir: &Dir, how: &Recovery) -> Result<Found, Error> {
    match crate::archive::take_rest(dir, how)? {
        Some(found) => Ok(found),
        None => recover_settled(dir, how),
    }
}

/// As [`recover_owned`], where no ring holds anything of this journal.
pub(crate) fn recover_settled(dir: &Dir, how: &Recovery) -> Result<Found, Error> {
    dir.remove_temporary()?;
    let boot_now = match how.boot_id {
        Some(id) => id,
        None => boot_id()?,
    };
    let mut case = Case::new(how, boot_now);
    case.read(dir)?;
    case.judge(dir)?;
    case.apply(dir)?;
    Ok(case.into_found())
}

/// Judges a journal that another process has recovered, and changes nothing.
///
/// # Errors
/// As [`recover`], and [`Error::NotEnded`] if the other process has left anything open.
pub(crate) fn examine(dir: &Dir, how: &Recovery) -> Result<Found, Error> {
    let boot_now = match how.boot_id {
        Some(id) => id,
        None => boot_id()?,
    };
    let mut case = Case::new(how, boot_now);
    case.read(dir)?;
    case.judge(dir)?;
    let is_running = case.runs.iter().any(|it| it.status == RunStatus::Running);
    if !case.report.already_sealed || is_running {
        let reason = "its last run is not sealed".to_string();
        return Err(Error::NotEnded { dir: dir.root.clone(), reason });
    }
    Ok(case.into_found())
}

/// The story of a run whose ring is gone.
pub(crate) fn hot_lost(how: &Recovery, boot_now: [u8; 16], run: u64, reason: String) -> Report {
    let mut report = Case::new(how, boot_now).report;
    report.verdict = Verdict::HotLost;
    report.reason = reason;
    report.run = run;
    report
}

/// Everything recovery knows, and what it decided.
struct Case<'a> {
    how: &'a Recovery,
    boot_now: [u8; 16],
    segments: Vec<Examined>,
    pruned: Pruned,
    marks: Option<Watermarks>,
    runs: Vec<manifest::RunInfo>,
    last_run: u64,
    /// Index of the segment in which the history ends.
    end: Option<usize>,
    /// Indices of open segments before it, whole and closed.
    closed: Vec<usize>,
    /// Indices of segments behind the end that hold something.
    behind: Vec<usize>,
    /// Indices of segments that were never used.
    unused: Vec<usize>,
    reason: Option<SealReason>, // to seal `end` with
    report: Report,
}

impl<'a> Case<'a> {
    fn new(how: &'a Recovery, boot_now: [u8; 16]) -> Case<'a> {
        let report = Report {
            verdict: Verdict::Empty,
            reason: "nothing was committed".into(),
            mode: how.mode,
            accept_loss: how.accept_loss,
            already_sealed: true,
            run: 0,
            file: None,
            offset: None,
            kept: None,
            later_frames: 0,
            later_last_seq: None,
            boot_then: None,
            boot_now: hex(&boot_now),
            watermark: None,
            watermark_age_ns: None,
            torn_file: None,
            torn_blake3: None,
            at_ns: wall_ns(),
        };
        Case {
            how,
            boot_now,
            segments: Vec::new(),
            pruned: Pruned::default(),
            marks: None,
            runs: Vec::new(),
            last_run: 0,
            end: None,
            closed: Vec::new(),
            behind: Vec::new(),
            unused: Vec::new(),
            reason: None,
            report,
        }
    }

    fn may_force(&self) -> bool {
        self.how.mode == Mode::PointInTime && self.how.accept_loss
    }

    /// Maps and scans; refuses what no mode may repair in place.
    fn read(&mut self, dir: &Dir) -> Result<(), Error> {
        self.pruned = crate::retain::pruned(dir)?;
        let files = dir.segments()?;
        let total: u64 = files.iter().map(|it| it.len).sum();
        let mut before = 0;
        for (at, file) in files.iter().enumerate() {
            self.last_run = self.last_run.max(file.run);
            // Sealed segments beyond the newest `verify_bytes` are trusted by their seals.
            let is_old = total - before > self.how.verify_bytes && at + 2 < files.len();
            before += file.len;
            self.segments.push(Examined::open(file.clone(), is_old)?);
        }
        if let Some(flaw) = order_flaws(&self.segments, &self.pruned).into_iter().next() {
            return Err(Error::Damaged(Box::new(flaw)));
        }
        self.marks = read_watermarks(dir)?;
        for run in manifest::read_all(dir)? {
            match run {
                Ok(run) => {
                    self.last_run = self.last_run.max(run.run);
                    self.runs.push(run);
                }
                Err((file, reason)) => {
                    let finding = Finding::damage(&file, None, None, reason);
                    if !self.may_force() {
                        return Err(Error::Damaged(Box::new(finding)));
                    }
                }
            }
        }
        // A manifest is written before the first segment of its run.
        let has_manifest = |run: u64| self.runs.iter().any(|it| it.run == run);
        let in_use = self.segments.iter().filter(|it| it.scan.start.is_some());
        let orphan = in_use.map(|it| it.header.run).find(|run| !has_manifest(*run));
        match orphan {
            Some(run) if !self.may_force() => {
                let reason = format!("manifest of run {run} is missing");
                let finding = Finding::damage(&dir.manifest(run), None, None, reason);
                Err(Error::Damaged(Box::new(finding)))
            }
            _ => Ok(()),
        }
    }

    /// Finds where the history ends, and what that means.
    fn judge(&mut self, dir: &Dir) -> Result<(), Error> {
        // First each alone: a damaged segment breaks the chain of the one behind it, too.
        self.check_sealed()?;
        self.sort_out()?;
        self.report.watermark = self.marks.as_ref().and_then(|it| it.newest);
        if let Some(mark) = &self.report.watermark {
            self.report.watermark_age_ns = Some(self.report.at_ns - mark.wall_ns);
        }
        let (verdict, reason) = match self.end {
            None => self.judge_empty(),
            Some(end) => self.judge_end(&self.segments[end]),
        };
        let (verdict, reason) = self.judge_watermark(dir, verdict, reason);
        self.report.verdict = verdict;
        self.report.reason = reason;
        self.describe();
        let accepted = match verdict {
            Verdict::Empty | Verdict::Clean => true,
            Verdict::Crashed | Verdict::Cut | Verdict::Torn => {
                self.how.mode != Mode::Absolute || self.report.already_sealed
            }
            Verdict::Corrupt | Verdict::NoWatermark | Verdict::HotLost => self.may_force(),
        };
        if accepted {
            return Ok(());
        }
        Err(Error::Refused { dir: dir.root.clone(), report: Box::new(self.report.clone()) })
    }

    /// Splits the segments into history, its end, what is behind it, and what was never used.
    fn sort_out(&mut self) -> Result<(), Error> {
        let mut last: Option<usize> = None;
        let mut is_broken = false;
        for at in 0..self.segments.len() {
            let segment = &self.segments[at];
            if segment.is_quarantined() {
                // By an earlier recovery, which may have been killed before it sealed the end.
                self.behind.push(at);
                continue;
            }
            let is_vacant = segment.scan.start.is_none() && segment.scan.flaw.is_none();
            if is_vacant
                && segment.state.is_none()
                && tail(&segment.view, segment.scan.end).0 != Tail::Dirty
            {
                self.unused.push(at);
                continue;
            }
            let before = last.map(|last| &self.segments[last]);
            let follows =
                segment.scan.start.is_some() && chain_flaw(before, segment, &self.pruned).is_none();
            let is_after_open = before.is_some_and(|it| it.state.is_none());
            let open_end = is_after_open && before.is_some_and(|it| !it.scan.closed);
            if segment.state.is_some() {
                // Sealed segments are history: a broken chain among them is damage, whatever the boot.
                let flaw = chain_flaw(before, segment, &self.pruned);
                let flaw = flaw.or_else(|| {
                    is_after_open.then(|| segment.damage(0, "sealed, but the one before is open"))
                });
                if let Some(flaw) = flaw {
                    return Err(Error::Damaged(Box::new(flaw)));
                }
            } else if is_broken || !follows || open_end {
                is_broken = true;
                self.behind.push(at);
                continue;
            }
            last = Some(at);
        }
        self.end = last;
        let open = |at: &usize| self.segments[*at].state.is_none();
        self.closed = (0..last.unwrap_or(0))
            .filter(|at| open(at) && !self.behind.contains(at) && !self.unused.contains(at))
            .collect();
        // An unused segment between others is a hole, not a spare.
        let newest_in_use = self.behind.iter().copied().chain(last).max();
        self.unused.retain(|at| Some(*at) > newest_in_use);
        // Segments that an earlier recovery set aside before the present end are old history.
        self.behind.retain(|at| Some(*at) > last);
        Ok(())
    }

    /// Reads sealed segments again, as far as asked.
    fn check_sealed(&self) -> Result<(), Error> {
        for segment in &self.segments {
            let Some(slot) = segment.state.as_ref().filter(|_| !segment.is_trusted) else {
                continue;
            };
            if let Some(flaw) = segment.check_sealed(slot).into_iter().next() {
                return Err(Error::Damaged(Box::new(flaw)));
            }
        }
        Ok(())
    }

    fn judge_empty(&mut self) -> (Verdict, String) {
        if self.behind.is_empty() {
            return (Verdict::Empty, "nothing was committed".into());
        }
        let first = &self.segments[self.behind[0]];
        let reason = format!("{}: no frame validates", first.file.path.display());
        (Verdict::Corrupt, reason)
    }

    /// The verdict by the last segment alone, and how it is to be sealed.
    fn judge_end(&self, segment: &Examined) -> (Verdict, String) {
        if let Some(slot) = &segment.state {
            let open_behind = self.behind.iter().any(|at| self.segments[*at].state.is_none());
            return match slot.reason {
                _ if open_behind => {
                    (Verdict::Corrupt, "segments behind the sealed end do not continue it".into())
                }
                SealReason::Written if !segment.scan.run_ended => {
                    (Verdict::Crashed, "killed between two segments".into())
                }
                SealReason::Written | SealReason::Complete => (Verdict::Clean, "run ended".into()),
                SealReason::CrashedZero | SealReason::CrashedInFlight => {
                    (Verdict::Crashed, "killed; sealed by an earlier recovery".into())
                }
                SealReason::Cut => (Verdict::Cut, "cut by an earlier recovery".into()),
                SealReason::Torn => (Verdict::Torn, "cut by an earlier recovery".into()),
            };
        }
        let over = self.runs.iter().find(|it| it.run == segment.header.run);
        if let Some(run) = over.filter(|it| it.status != RunStatus::Running) {
            let reason = format!("no seal, but run {} is {}", run.run, run.status.name());
            return (Verdict::Corrupt, reason);
        }
        let (class, _) = tail(&segment.view, segment.scan.end);
        let is_dirty = class == Tail::Dirty
            || segment.scan.flaw.is_some()
            || !self.behind.is_empty()
            || (segment.scan.closed && class != Tail::Zero);
        let same_boot = segment.header.boot_id == self.boot_now;
        let why =
            segment.scan.flaw.as_ref().map_or("bytes behind it".to_string(), |it| it.to_string());
        let place = format!("last frame ends at offset {}", segment.scan.end);
        if same_boot && (is_dirty || segment.stray.is_some()) {
            return (Verdict::Corrupt, format!("{place}, then on the same boot: {why}"));
        }
        if segment.scan.run_ended && !is_dirty {
            return (Verdict::Clean, "run ended, only its seal was missing".into());
        }
        if same_boot {
            return (Verdict::Crashed, format!("{place}; killed, nothing committed is lost"));
        }
        match class {
            Tail::Zero if !is_dirty => (
                Verdict::Cut,
                format!(
                    "{place}; the host died, what was committed later is gone and cannot be counted"
                ),
            ),
            Tail::Zero | Tail::InFlight | Tail::Dirty => {
                (Verdict::Torn, format!("{place}; the host died: {why}"))
            }
        }
    }

    /// Overrides the verdict where the watermark says more.
    fn judge_watermark(&self, dir: &Dir, verdict: Verdict, reason: String) -> (Verdict, String) {
        let Some(marks) = &self.marks else {
            return match verdict {
                Verdict::Empty => (verdict, reason),
                Verdict::Clean
                | Verdict::Crashed
                | Verdict::Cut
                | Verdict::Torn
                | Verdict::Corrupt
                | Verdict::NoWatermark
                | Verdict::HotLost => {
                    (Verdict::NoWatermark, format!("{} is missing", dir.durable().display()))
                }
            };
        };
        let Some(mark) = marks.newest else {
            return (
                Verdict::NoWatermark,
                format!("{}: both slots invalid", dir.durable().display()),
            );
        };
        let end = self.end.map(|at| &self.segments[at]);
        if let Some((offset, flaw)) = &marks.flaw
            && (mark.boot_id == self.boot_now || end.is_some_and(|it| it.state.is_some()))
        {
            let path = dir.durable();
            return (Verdict::Corrupt, format!("{} offset {offset}: {flaw}", path.display()));
        }
        let reached = end.map_or((0, 0), |it| (it.header.segment, it.scan.end as u64));
        if reached < (mark.segment, mark.offset) {
            let reason = format!(
                "durable up to segment {} offset {} (seq {}), but frames validate up to segment {} \
                 offset {} (seq {})",
                mark.segment,
                mark.offset,
                mark.seq,
                reached.0,
                reached.1,
                end.map_or(0, |it| it.scan.last_seq())
            );
            return (Verdict::Corrupt, reason);
        }
        (verdict, reason)
    }

    /// Fills the report and chooses the seal.
    fn describe(&mut self) {
        let Some(end) = self.end else { return };
        let segment = &self.segments[end];
        let report = &mut self.report;
        report.run = segment.header.run;
        report.file = Some(segment.file.path.clone());
        report.offset = Some(segment.scan.end as u64);
        report.boot_then = Some(hex(&segment.header.boot_id));
        let last_seq = segment.scan.last_seq();
        let first_seq = self.pruned.last_seq + 1;
        report.kept = (last_seq >= first_seq).then_some((first_seq, last_seq));
        let is_sealed = segment.state.is_some();
        report.already_sealed = is_sealed && self.closed.is_empty();
        if is_sealed {
            return;
        }
        let (class, _) = tail(&segment.view, segment.scan.end);
        self.reason = Some(match report.verdict {
            Verdict::Clean => SealReason::Complete,
            Verdict::Crashed if class == Tail::Zero => SealReason::CrashedZero,
            Verdict::Crashed => SealReason::CrashedInFlight,
            Verdict::Cut => SealReason::Cut,
            Verdict::Torn
            | Verdict::Corrupt
            | Verdict::NoWatermark
            | Verdict::HotLost
            | Verdict::Empty => SealReason::Torn,
        });
        if self.reason == Some(SealReason::Torn) {
            let (count, last) = later_frames(&segment.view, segment.scan.end);
            report.later_frames = count;
            report.later_last_seq = last;
            for at in &self.behind {
                report.later_frames += self.segments[*at].scan.frames;
                let last = self.segments[*at].scan.last_seq();
                report.later_last_seq = report.later_last_seq.max(Some(last));
            }
        }
    }

    /// Writes what was decided: tail, set-aside segments, seals oldest first, report, manifest.
    fn apply(&mut self, dir: &Dir) -> Result<(), Error> {
        if self.reason == Some(SealReason::Torn) {
            self.save_tail(dir)?;
            for at in &self.behind {
                let segment = &self.segments[*at];
                if segment.state.is_none() {
                    seal(segment, SegmentState::Quarantined, SealReason::Torn)?;
                }
            }
        }
        for at in &self.closed {
            seal(&self.segments[*at], SegmentState::CrashSealed, SealReason::Complete)?;
        }
        let has_sealed = self.reason.is_some() || !self.closed.is_empty();
        if has_sealed {
            // Before the last seal: a recovery that is killed here judges again and writes it again.
            if let Value::Object(fields) = json!(self.report) {
                write_digested(&dir.report(self.report.run), fields)?;
            }
        }
        if let (Some(end), Some(reason)) = (self.end, self.reason) {
            seal(&self.segments[end], SegmentState::CrashSealed, reason)?;
        }
        if matches!(self.report.verdict, Verdict::Corrupt | Verdict::NoWatermark) {
            self.lower_watermark(dir)?;
        }
        for at in &self.unused {
            let path = &self.segments[*at].file.path;
            fs::remove_file(path).map_err(Error::io("remove", path))?;
        }
        if !self.unused.is_empty() {
            sync_dir(&dir.seg())?;
        }
        self.close_manifests(dir)
    }

    /// Copies what follows the end in its segment. Nothing if zeros follow.
    fn save_tail(&mut self, dir: &Dir) -> Result<(), Error> {
        let Some(end) = self.end else { return Ok(()) };
        let segment = &self.segments[end];
        let (class, last) = tail(&segment.view, segment.scan.end);
        if class == Tail::Zero {
            return Ok(());
        }
        let bytes = segment.view.range(segment.scan.end, last);
        let path = dir.torn(segment.header.run, segment.header.segment);
        replace(&path, bytes)?;
        self.report.torn_file = path.file_name().map(|name| name.to_string_lossy().into_owned());
        self.report.torn_blake3 = Some(blake3::hash(bytes).to_hex().to_string());
        Ok(())
    }

    /// After loss that the operator accepted: from here on the cut is the truth.
    fn lower_watermark(&self, dir: &Dir) -> Result<(), Error> {
        let old = self.report.watermark.unwrap_or_default();
        let end = self.end.map(|at| &self.segments[at]);
        let mark = Watermark {
            generation: old.generation,
            run: end.map_or(0, |it| it.header.run),
            segment: end.map_or(0, |it| it.header.segment),
            offset: end.map_or(0, |it| it.scan.end as u64),
            seq: end.map_or(0, |it| it.scan.last_seq()),
            crc: end.map_or(0, |it| it.scan.chain.crc),
            boot_id: self.boot_now,
            uuid: end.map_or(old.uuid, |it| it.header.uuid),
            wall_ns: self.report.at_ns,
        };
        write_watermarks(dir, mark).map(drop)
    }

    /// Gives every run that is still RUNNING its status.
    fn close_manifests(&self, dir: &Dir) -> Result<(), Error> {
        let end = self.end.map(|at| &self.segments[at]);
        let last = end.map_or((0, 0), |it| (it.scan.last_seq(), it.scan.chain.crc));
        let end_run = end.map_or(0, |it| it.header.run);
        let running = self.runs.iter().filter(|it| it.status == RunStatus::Running);
        let mut open: Vec<u64> = running.map(|it| it.run).collect();
        // Only with accepted loss: runs whose manifest is gone or damaged get a short one.
        let in_use = self.segments.iter().filter(|it| it.scan.start.is_some());
        open.extend(
            in_use.map(|it| it.header.run).filter(|run| !self.runs.iter().any(|it| it.run == *run)),
        );
        open.sort_unstable();
        open.dedup();
        for run in open {
            let status = if run != end_run {
                RunStatus::CrashSealed // killed before its first frame, or long over
            } else {
                match self.report.verdict {
                    Verdict::Clean | Verdict::Empty => RunStatus::Ended,
                    Verdict::Crashed => RunStatus::CrashSealed,
                    Verdict::Cut => RunStatus::Cut,
                    Verdict::Torn => RunStatus::Torn,
                    Verdict::Corrupt | Verdict::NoWatermark | Verdict::HotLost => {
                        RunStatus::Quarantined
                    }
                }
            };
            manifest::end(dir, run, status, last, self.report.at_ns)?;
        }
        Ok(())
    }

    fn into_found(self) -> Found {
        let end = self.end.map(|at| &self.segments[at]);
        let kept = self.segments.iter().enumerate().filter(|(at, _)| !self.unused.contains(at));
        let newest = kept.map(|(_, it)| it.header.segment).max().unwrap_or(0);
        Found {
            uuid: self.segments.first().map(|it| it.header.uuid),
            last_run: self.last_run,
            parent_run: end.map_or(0, |it| it.header.run),
            last_seq: end.map_or(0, |it| it.scan.last_seq()),
            last_crc: end.map_or(0, |it| it.scan.chain.crc),
            last_segment: end.map_or(0, |it| it.header.segment),
            next_segment: newest + 1,
            report: self.report,
        }
    }
}

/// Writes a state slot and syncs it.
fn seal(segment: &Examined, state: SegmentState, reason: SealReason) -> Result<(), Error> {
    let slot = StateSlot {
        generation: 1,
        state,
        reason,
        end_offset: segment.scan.end as u64,
        base_seq: segment.scan.start.map_or(0, |it| it.base_seq),
        last_seq: segment.scan.last_seq(),
        last_crc: segment.scan.chain.crc,
        sealed_at: wall_ns(),
        blake3: segment.digest(),
    };
    let path = &segment.file.path;
    let file = OpenOptions::new().write(true).open(path).map_err(Error::io("open", path))?;
    file.write_all_at(&slot.to_bytes(), slot.offset()).map_err(Error::io("seal", path))?;
    file.sync_data().map_err(Error::io("fdatasync", path))
}
