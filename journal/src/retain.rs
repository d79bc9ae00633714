//! Removing old runs of a journal: a plan first, then a record of it, then the files.
//!
//! What goes is a prefix of the history, in whole runs: a run's first segment holds what names its
//! instruments and replays it, so half a run would be of no use. The newest run always stays. The
//! record (`pruned.json`) says what the first segment that is left continues; from then on the removed
//! ones do not exist, whether or not their files still do.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;

use serde_json::{Value, json};

use crate::cursors::{self, Cursor, Position};
use crate::error::Error;
use crate::files::{Dir, Lock, sync_dir, wall_ns};
use crate::holds::{self, Hold};
use crate::layout::SegmentState;
use crate::manifest::{read_digested, write_digested};
use crate::pack::packed_path;
use crate::scan::View;
use crate::verify::Finding;

/// What may be removed. Every bound that is absent keeps more.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Retention {
    /// A run may go when its last segment was sealed so many days ago.
    pub keep_days: Option<u64>,
    /// The oldest runs may go while the sealed segments take more bytes than this.
    pub max_bytes: Option<u64>,
    /// So many bytes of the newest segments stay in any case.
    pub keep_bytes_min: u64,
    /// Seconds since which every sink must have been past what goes; at most two hours. 3600 is usual.
    pub prune_safety_s: u64,
    /// Sinks that must have said where they are; those that did count in any case.
    pub required_sinks: Vec<String>,
    /// `max_bytes` holds even where a sink has not passed what goes. What it loses is in the plan and in
    /// the record.
    pub drop_undrained: bool,
}

/// What goes although a sink has not taken it.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Undrained {
    /// The sink.
    pub sink: String,
    /// Where it was; run 0 where it never said.
    pub from: Position,
    /// The last event that goes.
    pub to: Position,
}

/// A run that goes, or the first one that stays.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct PruneRun {
    /// Its number.
    pub run: u64,
    /// Its segments.
    pub segments: u64,
    /// Bytes of their files.
    pub bytes: u64,
    /// Its last event.
    pub last_seq: u64,
    /// When its last segment was sealed, in nanoseconds since the Unix epoch.
    pub sealed_at: i64,
    /// Sinks that lose events of it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub undrained: Vec<Undrained>,
}

/// What a pruning removes.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct PrunePlan {
    /// Runs that go, oldest first.
    pub runs: Vec<PruneRun>,
    /// Bytes that this gives back.
    pub bytes: u64,
    /// Why the next run stays.
    pub stays: String,
    #[serde(skip)]
    record: Pruned,
}

/// What the history begins after; all zero in a journal that was never pruned.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Pruned {
    pub(crate) run: u64,
    pub(crate) segment: u64,
    pub(crate) last_seq: u64,
    pub(crate) last_crc: u32,
}

/// Reads the record of what was removed.
pub(crate) fn pruned(dir: &Dir) -> Result<Pruned, Error> {
    let path = dir.pruned();
    let damaged =
        |reason: String| Error::Damaged(Box::new(Finding::damage(&path, None, None, reason)));
    let fields = match read_digested(&path) {
        Ok(fields) => fields.map_err(damaged)?,
        Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
            return Ok(Pruned::default());
        }
        Err(bad) => return Err(bad),
    };
    let number = |key: &str| fields.get(key).and_then(Value::as_u64);
    let record = || {
        Some(Pruned {
            run: number("run")?,
            segment: number("segment")?,
            last_seq: number("last_seq")?,
            last_crc: u32::try_from(number("last_crc")?).ok()?,
        })
    };
    record().ok_or_else(|| damaged("not the record of a pruning".into()))
}

/// What would be removed now. Changes nothing.
///
/// # Errors
/// [`Error::Damaged`] if a cursor cannot be read, or a segment's header; what the system says.
pub fn prune_plan(dir: &Path, retention: &Retention) -> Result<PrunePlan, Error> {
    crate::reader::Journal::open(dir)?;
    plan(&Dir::new(dir), retention, wall_ns())
}

/// Removes what [`prune_plan`] names, from a journal that no living process owns.
///
/// # Errors
/// [`Error::Owned`], and as [`prune_plan`].
pub fn prune(dir: &Path, retention: &Retention) -> Result<PrunePlan, Error> {
    crate::reader::Journal::open(dir)?;
    let dir = Dir::new(dir);
    if !dir.seg().is_dir() {
        return Ok(PrunePlan { stays: "nothing was ever written".into(), ..PrunePlan::default() });
    }
    let lock = Lock::take(&dir)?;
    let plan = plan(&dir, retention, wall_ns())?;
    apply(&dir, &plan)?;
    drop(lock);
    Ok(plan)
}

/// A run with the end of its last segment.
struct Run {
    seen: PruneRun,
    segment: u64,
    last_crc: u32,
    is_sealed: bool,
}

/// As [`prune_plan`], at a moment.
pub(crate) fn plan(dir: &Dir, retention: &Retention, now: i64) -> Result<PrunePlan, Error> {
    let mut runs: BTreeMap<u64, Run> = BTreeMap::new();
    for file in dir.segments()? {
        let slot = View::open(&file.path)?.state().newest;
        let run = runs.entry(file.run).or_insert_with(|| Run {
            seen: PruneRun {
                run: file.run,
                segments: 0,
                bytes: 0,
                last_seq: 0,
                sealed_at: 0,
                undrained: Vec::new(),
            },
            segment: 0,
            last_crc: 0,
            is_sealed: true,
        });
        run.seen.segments += 1;
        run.seen.bytes += file.len;
        match slot {
            Some(slot) if slot.state == SegmentState::Quarantined => {}
            Some(slot) => {
                run.segment = file.segment;
                (run.seen.last_seq, run.last_crc) = (slot.last_seq, slot.last_crc);
                run.seen.sealed_at = slot.sealed_at;
            }
            None => run.is_sealed = false,
        }
    }
    let (cursors, holds) = (cursors::list(&dir.root)?, holds::list(&dir.root)?);
    let mut left: u64 = runs.values().map(|it| it.seen.bytes).sum();
    let mut plan = PrunePlan { record: pruned(dir)?, ..PrunePlan::default() };
    // What the next run continues must stay, whatever was set aside behind it.
    let newest = runs.values().rfind(|it| it.segment > 0).map(|it| it.seen.run);
    for (number, mut run) in runs {
        let stays = why_stays(&mut run, retention, (&cursors, &holds), (left, now));
        let stays = if Some(number) == newest { Some("the newest run".into()) } else { stays };
        if let Some(why) = stays {
            plan.stays = format!("run {number}: {why}");
            break;
        }
        left -= run.seen.bytes;
        plan.bytes += run.seen.bytes;
        if run.segment > 0 {
            let (last_seq, last_crc) = (run.seen.last_seq, run.last_crc);
            plan.record = Pruned { run: number, segment: run.segment, last_seq, last_crc };
        }
        plan.runs.push(run.seen);
    }
    if plan.stays.is_empty() {
        plan.stays = "no segments".into();
    }
    Ok(plan)
}

/// Why a run may not go, or need not.
fn why_stays(
    run: &mut Run,
    retention: &Retention,
    (cursors, holds): (&[Cursor], &[Hold]),
    (left, now): (u64, i64),
) -> Option<String> {
    if !run.is_sealed {
        return Some("is not sealed".into());
    }
    if run.segment == 0 {
        return Some("was set aside by a recovery".into());
    }
    let day = 86_400_000_000_000_i64;
    let age_days = now.saturating_sub(run.seen.sealed_at).max(0) / day;
    let is_old = retention.keep_days.is_some_and(|days| age_days.unsigned_abs() >= days);
    let is_too_much = retention.max_bytes.is_some_and(|most| left > most);
    if !is_old && !is_too_much {
        return Some(format!("within its time and size ({age_days} days, {left} bytes)"));
    }
    if left - run.seen.bytes < retention.keep_bytes_min {
        return Some(format!("among the newest {} bytes", retention.keep_bytes_min));
    }
    if let Some(hold) = holds.iter().find(|it| it.run <= run.seen.run) {
        return Some(format!("hold {} keeps run {} and later ones", hold.name, hold.run));
    }
    let needs = Position { run: run.seen.run, seq: run.seen.last_seq };
    let known = |name: &String| cursors.iter().any(|it| it.name == *name);
    let mut unknown = retention.required_sinks.iter().filter(|name| !known(name));
    let safety = i64::try_from(retention.prune_safety_s).unwrap_or(i64::MAX);
    let age = safety.saturating_mul(1_000_000_000);
    let mut behind = cursors.iter().filter(|it| it.settled(now, age) < needs);
    if retention.drop_undrained && is_too_much {
        let nowhere = Position::default();
        let lost = |sink: &String, from| Undrained { sink: sink.clone(), from, to: needs };
        let never = unknown.map(|name| lost(name, nowhere));
        // Not merely passed too short a time ago: that one has them.
        let late = behind.filter(|it| it.position < needs).map(|it| lost(&it.name, it.position));
        run.seen.undrained = never.chain(late).collect();
        return None;
    }
    if let Some(name) = unknown.next() {
        return Some(format!("sink {name} has not said where it is"));
    }
    behind.next().map(|it| {
        let was = it.settled(now, age);
        format!(
            "sink {} was at run {} seq {} {safety} s ago, the run ends with seq {}",
            it.name, was.run, was.seq, needs.seq
        )
    })
}

/// Writes the record, then removes. By the owner of the journal's lock.
pub(crate) fn apply(dir: &Dir, plan: &PrunePlan) -> Result<(), Error> {
    let record = plan.record;
    if !plan.runs.is_empty() {
        let fields = json!({
            "run": record.run, "segment": record.segment, "last_seq": record.last_seq,
            "last_crc": record.last_crc, "at_ns": wall_ns(), "runs": plan.runs,
        });
        if let Value::Object(fields) = fields {
            write_digested(&dir.pruned(), fields)?;
        }
    }
    if record.segment == 0 {
        return Ok(());
    }
    // What an earlier pruning recorded and did not come to remove goes too.
    let mut removed = false;
    for file in dir.all_segments()? {
        if file.segment > record.segment {
            continue;
        }
        for path in [packed_path(&file.path.with_extension("")), file.path.clone()] {
            match fs::remove_file(&path) {
                Err(source) if source.kind() != io::ErrorKind::NotFound => {
                    return Err(Error::io("remove", &path)(source));
                }
                Ok(()) | Err(_) => removed = true,
            }
        }
    }
    if removed { sync_dir(&dir.seg()) } else { Ok(()) }
}
