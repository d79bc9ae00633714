//! What can wait: compressing sealed segments, and removing old runs.
//!
//! On a thread of its own, so that it never holds up a flush. It touches sealed segments alone, and
//! nothing of it is needed for any promise: what fails is told and tried again.

use std::sync::{Mutex, PoisonError};

use crate::error::Error;
use crate::files::{Dir, wall_ns};
use crate::layout::SegmentState;
use crate::pack::pack;
use crate::retain::{Retention, Undrained, apply, plan};
use crate::scan::View;

/// What upkeep has done so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Kept {
    /// Segments compressed.
    pub packed: u64,
    /// Their bytes before and after.
    pub packed_bytes: (u64, u64),
    /// Runs removed.
    pub pruned: u64,
    /// Why the oldest run stays; empty without bounds.
    pub stays: String,
    /// What was removed last although a sink had not taken it.
    pub dropped: Vec<Undrained>,
    /// What went wrong last, and is tried again.
    pub trouble: Option<String>,
}

/// The upkeep of an archive by the archiver that owns it.
#[derive(Debug)]
pub(crate) struct Upkeep {
    dir: Dir,
    compress: Option<i32>,
    retention: Option<Retention>,
    /// Held while files are replaced: a recovery removes temporary files, and must not meet ours.
    alone: std::sync::Arc<Mutex<()>>,
    pub(crate) kept: Kept,
}

impl Upkeep {
    pub(crate) fn new(
        dir: Dir,
        compress: Option<i32>,
        retention: Option<Retention>,
        alone: std::sync::Arc<Mutex<()>>,
    ) -> Upkeep {
        Upkeep { dir, compress, retention, alone, kept: Kept::default() }
    }

    /// Does one thing that is due. `false`: nothing is.
    pub(crate) fn step(&mut self) -> bool {
        match self.try_step() {
            Ok(worked) => {
                self.kept.trouble = None;
                worked
            }
            Err(bad) => {
                self.kept.trouble = Some(bad.to_string());
                false
            }
        }
    }

    fn try_step(&mut self) -> Result<bool, Error> {
        if let Some(retention) = &self.retention {
            let plan = plan(&self.dir, retention, wall_ns())?;
            self.kept.stays.clone_from(&plan.stays);
            if !plan.runs.is_empty() {
                let _alone = self.alone.lock().unwrap_or_else(PoisonError::into_inner);
                apply(&self.dir, &plan)?;
                self.kept.pruned += plan.runs.len() as u64;
                let dropped: Vec<_> = plan.runs.into_iter().flat_map(|it| it.undrained).collect();
                if !dropped.is_empty() {
                    self.kept.dropped = dropped;
                }
                return Ok(true);
            }
        }
        let Some(level) = self.compress else { return Ok(false) };
        let mut files = self.dir.segments()?;
        // The newest segments are read again at every start, and soon by whoever follows.
        files.truncate(files.len().saturating_sub(PLAIN));
        for file in files {
            if file.path.extension().is_none_or(|it| it != "jnl") {
                continue;
            }
            let state = View::open(&file.path)?.state().newest;
            if state.is_none_or(|it| it.state == SegmentState::Quarantined) {
                continue;
            }
            let _alone = self.alone.lock().unwrap_or_else(PoisonError::into_inner);
            let done = pack(&file.path, level)?;
            self.kept.packed += 1;
            self.kept.packed_bytes.0 += done.bytes;
            self.kept.packed_bytes.1 += done.packed_bytes;
            return Ok(true);
        }
        Ok(false)
    }
}

/// Newest segments that are left as they are: the open one, and two behind it.
const PLAIN: usize = 3;
