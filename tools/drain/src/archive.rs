//! The archiver as a part of the drain: what the configuration means for it, and how it is.
//!
//! The copying itself is the journal's ([`kairos_journal::archive`]). Unlike a sink the archiver holds
//! up the engine when it stands still, so it shares nothing with the sinks but the stop flag, and an
//! error of it ends the process with a status of its own: the service manager starts it again.

use std::fs;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::sync::{Mutex, PoisonError};

use kairos_edge::config::{Config, Drain, Placement, Profile, RecoverMode};
use kairos_journal::archive::{self, ArchiveOptions, Progress};
use kairos_journal::{ArchiverState, Error, Mode, Retention};
use serde::{Deserialize, Serialize};

use crate::status::{now_ns, replace};
use crate::{postgres, redis};

/// Name of the status file in the run directory.
pub const FILE: &str = "archive.json";

/// What the configuration says about the archive; `None` where the engine writes to disk by itself.
#[must_use]
pub fn options(config: &Config, drain: &Drain, until_caught_up: bool) -> Option<ArchiveOptions> {
    let journal = &config.journal;
    let Placement::Hot(ring) = &journal.placement else { return None };
    let kept = &journal.retention;
    let has_bound = kept.keep_days.is_some() || kept.max_bytes.is_some();
    Some(ArchiveOptions {
        flush_interval_ms: journal.flush_interval_ms,
        flush_bytes: journal.flush_bytes,
        recover: match journal.recover {
            RecoverMode::Absolute => Mode::Absolute,
            RecoverMode::TolerateTornTail => Mode::TolerateTornTail,
            RecoverMode::PointInTime => Mode::PointInTime,
        },
        accept_loss: journal.accept_loss,
        strict: config.engine.profile == Profile::Production,
        compress: kept.compress,
        retention: has_bound.then(|| Retention {
            keep_days: kept.keep_days,
            max_bytes: kept.max_bytes,
            keep_bytes_min: kept.keep_bytes_min,
            prune_safety_s: kept.prune_safety_s,
            required_sinks: sinks(drain).chain(kept.required_sinks.iter().cloned()).collect(),
            drop_undrained: kept.drop_undrained,
        }),
        until_caught_up,
        ..ArchiveOptions::new(&journal.dir, &ring.dir)
    })
}

/// The sinks that `[drain]` configures, as their cursors are named. Before one of them has said where it
/// is nothing may go: its process may not have run yet.
fn sinks(drain: &Drain) -> impl Iterator<Item = String> {
    let files = drain.parquet.iter().map(|_| "parquet".to_owned());
    let postgres = drain.postgres.iter().map(|_| postgres::NAME.to_owned());
    let redis = drain.redis.iter().flat_map(|it| (0..it.connections).map(redis::name));
    files.chain(postgres).chain(redis)
}

/// How the archiver is: what `archive.json` holds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ArchiveStatus {
    /// Its process.
    pub pid: u32,
    /// When this was said, in nanoseconds since 1970.
    pub at_ns: u64,
    /// The ring that it copies.
    pub ring: String,
    /// The archive.
    pub journal: String,
    /// What it does: `starting`, `ready`, `copying`, `full`, `failed` or `stopped`.
    pub state: String,
    /// The run that is being copied, or was last.
    pub run: u64,
    /// The last event on disk.
    pub durable_seq: u64,
    /// The segment it is in.
    pub segment: u64,
    /// Bytes copied by this process.
    pub bytes: u64,
    /// Flushes by this process.
    pub flushes: u64,
    /// The last flush, in milliseconds.
    pub flush_ms: f64,
    /// The longest flush of this process, in milliseconds.
    pub flush_max_ms: f64,
    /// Segments compressed by this process.
    pub compressed: u64,
    /// Their bytes before and after.
    pub compressed_bytes: (u64, u64),
    /// Runs removed by this process.
    pub pruned_runs: u64,
    /// Why retention leaves the oldest run; empty where nothing is ever removed.
    #[serde(default)]
    pub retention: String,
    /// What went wrong last.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub last_error: Option<String>,
}

impl ArchiveStatus {
    /// Whether it does not come back by itself.
    #[must_use]
    pub fn is_broken(&self) -> bool {
        self.state == "failed"
    }

    /// Whether the archiver that said it still runs: it has not stopped, and spoke in the last five seconds.
    #[must_use]
    pub fn is_fresh(&self) -> bool {
        self.state != "stopped" && now_ns().saturating_sub(self.at_ns) < 5_000_000_000
    }

    /// Whether it stands still for want of room.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        self.state == "full"
    }

    /// Reads the file in `dir`; `None` where there is none.
    ///
    /// # Errors
    /// What the system says, or that the file is none of ours.
    pub fn read(dir: &Path) -> std::io::Result<Option<Self>> {
        match fs::read_to_string(dir.join(FILE)) {
            Ok(text) => Ok(Some(serde_json::from_str(&text)?)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn show(&mut self, progress: &Progress) {
        self.at_ns = now_ns();
        let (state, error) = match &progress.state {
            ArchiverState::Absent | ArchiverState::Starting => ("starting", None),
            ArchiverState::Ready => ("ready", None),
            ArchiverState::Copying => ("copying", None),
            ArchiverState::Full(why) => ("full", Some(why)),
            ArchiverState::Failed(why) => ("failed", Some(why)),
        };
        state.clone_into(&mut self.state);
        self.run = progress.run;
        self.durable_seq = progress.durable_seq;
        self.segment = progress.segment;
        self.bytes = progress.bytes;
        self.flushes = progress.flushes;
        let ms = |ns: u64| ns as f64 / 1e6;
        (self.flush_ms, self.flush_max_ms) = (ms(progress.flush_ns.0), ms(progress.flush_ns.1));
        self.compressed = progress.kept.packed;
        self.compressed_bytes = progress.kept.packed_bytes;
        self.pruned_runs = progress.kept.pruned;
        self.retention.clone_from(&progress.kept.stays);
        self.last_error = error.or(progress.kept.trouble.as_ref()).cloned();
    }
}

/// Copies until `stop`, and leaves in `run_dir` how it is.
///
/// `settled` is called once, when the archive is a journal that others may read.
///
/// # Errors
/// As [`archive::run`].
pub fn run(
    options: ArchiveOptions,
    stop: &AtomicBool,
    run_dir: Option<&Path>,
    settled: impl FnOnce(),
) -> Result<(), Error> {
    let status = Mutex::new(ArchiveStatus {
        pid: std::process::id(),
        ring: options.hot_dir.display().to_string(),
        journal: options.dir.display().to_string(),
        state: "starting".to_owned(),
        ..ArchiveStatus::default()
    });
    let write = |status: &ArchiveStatus| {
        let Some(dir) = run_dir else { return };
        // The next report tries again; what is copied does not depend on it.
        let _written =
            serde_json::to_string(status).map(|text| replace(&dir.join(FILE), text.as_bytes()));
    };
    let mut settled = Some(settled);
    let mut before = (String::new(), None);
    let mut dropped = Vec::new();
    let ended = archive::run(options, stop, &mut |progress| {
        let mut status = status.lock().unwrap_or_else(PoisonError::into_inner);
        status.show(progress);
        write(&status);
        if let Some(settled) = settled.take() {
            progress.warnings.iter().for_each(|line| eprintln!("kairos-drain: archive: {line}"));
            settled();
        }
        // A trouble is told when it begins. The numbers in it change while it lasts.
        let trouble = progress.kept.trouble.clone();
        if let Some(error) = &status.last_error
            && (before.0 != status.state || before.1 != trouble)
        {
            eprintln!("kairos-drain: archive: {}: {error}", status.state);
        }
        before = (status.state.clone(), trouble);
        if dropped != progress.kept.dropped {
            dropped.clone_from(&progress.kept.dropped);
            for it in &dropped {
                eprintln!(
                    "kairos-drain: archive: removed without sink {}: it was at run {} seq {}, gone is up \
                     to run {} seq {} (drop_undrained)",
                    it.sink, it.from.run, it.from.seq, it.to.run, it.to.seq
                );
            }
        }
    });
    if matches!(&ended, Err(Error::Owned { .. })) {
        return ended; // the status is the owner's
    }
    let mut status = status.into_inner().unwrap_or_else(PoisonError::into_inner);
    status.at_ns = now_ns();
    match &ended {
        Ok(()) => "stopped".clone_into(&mut status.state),
        Err(error) => {
            "failed".clone_into(&mut status.state);
            status.last_error = Some(error.to_string());
        }
    }
    write(&status);
    ended
}

#[cfg(test)]
mod tests {
    use super::*;
    use kairos_edge::config::Sources;

    /// Retention waits for every sink that is configured, whether or not it ever ran.
    #[test]
    fn every_configured_sink_holds_what_it_has_not_taken() {
        let check = |drain: &str, wanted: &[&str]| {
            let dir = std::env::temp_dir().join(format!("kairos-archive-{}", std::process::id()));
            fs::create_dir_all(&dir).unwrap();
            let file = dir.join("kairos.toml");
            let text = format!(
                "[engine]\nname = \"t\"\n[cores]\nfeed = 0\nstrategy = 0\nrisk = 0\nexecution = 0\n\
                 journal = 0\nwait = \"yield\"\n[journal]\nplacement = \"hot\"\nkeep_days = 3\n\
                 required_sinks = [\"own\"]\n[venues.binance]\nmarket_data = \"sim\"\n\
                 instruments = [\"BTCUSDT\"]\n[strategies.m]\nkind = \"momentum\"\n{drain}"
            );
            fs::write(&file, &text).unwrap();
            let sources = Sources::of_process(Some(file), Vec::new());
            let loaded = sources.load_drain();
            fs::remove_dir_all(&dir).unwrap();
            let (config, drain) = loaded.unwrap_or_else(|bad| panic!("{bad:?}\n{text}"));
            let retention = options(&config, &drain, false).unwrap().retention.unwrap();
            assert_eq!(retention.required_sinks, wanted);
            assert_eq!((retention.keep_days, retention.drop_undrained), (Some(3), false));
        };
        check("", &["parquet", "own"]);
        check(
            "[drain.redis]\nurl = \"redis://127.0.0.1:6379\"\nconnections = 2",
            &["redis", "redis-1", "own"],
        );
        check(
            "[drain.postgres]\nurl = \"postgres://k@127.0.0.1/k\"\n[drain.parquet]\ndir = \"/p\"",
            &["parquet", "postgres", "own"],
        );
    }
}
