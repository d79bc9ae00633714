//! One JSON file per run, with a digest of itself so that any flipped byte is noticed.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use crate::error::Error;
use crate::files::{Dir, replace};
use crate::layout::{MAJOR, MINOR, RunParent};
use crate::options::{Options, RunFacts};

/// How a run is, by its manifest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum RunStatus {
    /// Alive, or killed and not yet recovered.
    Running,
    /// Ended by its engine.
    Ended,
    /// Killed; recovery found every committed event.
    CrashSealed,
    /// The host died; what was not durable may be lost.
    Cut,
    /// The host died; later frames were found, and set aside.
    Torn,
    /// Damaged; cut by the operator's decision.
    Quarantined,
}

impl RunStatus {
    const ALL: [(RunStatus, &'static str); 6] = [
        (RunStatus::Running, "RUNNING"),
        (RunStatus::Ended, "ENDED"),
        (RunStatus::CrashSealed, "CRASH_SEALED"),
        (RunStatus::Cut, "CUT"),
        (RunStatus::Torn, "TORN"),
        (RunStatus::Quarantined, "QUARANTINED"),
    ];

    /// The status as the manifest spells it.
    #[must_use]
    pub fn name(self) -> &'static str {
        Self::ALL.into_iter().find(|(status, _)| *status == self).map_or("", |(_, name)| name)
    }
}

/// One run, by its manifest.
#[derive(Clone, Debug)]
pub struct RunInfo {
    /// Number, from 1.
    pub run: u64,
    /// How it is.
    pub status: RunStatus,
    /// `seq` of its first event.
    pub first_seq: u64,
    /// `seq` of its last event; below `first_seq` if it has none, absent while it runs.
    pub last_seq: Option<u64>,
    /// When it started, in nanoseconds since the Unix epoch.
    pub started_ns: u64,
    /// The whole manifest.
    pub manifest: Value,
}

const KEY: &str = "\n  \"blake3\": \"";
const BLANK: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// Writes `fields` as JSON with a digest over the file's own bytes.
pub(crate) fn write_digested(path: &Path, fields: Map<String, Value>) -> Result<(), Error> {
    replace(path, digested(fields).as_bytes())
}

/// `fields` as JSON with a digest over the text's own bytes.
pub(crate) fn digested(mut fields: Map<String, Value>) -> String {
    fields.insert("blake3".into(), BLANK.into());
    let text = format!("{:#}\n", Value::Object(fields));
    let digest = blake3::hash(text.as_bytes()).to_hex();
    text.replacen(&format!("{KEY}{BLANK}"), &format!("{KEY}{digest}"), 1)
}

/// Reads what [`write_digested`] wrote; the inner error says what is wrong with the bytes.
pub(crate) fn read_digested(path: &Path) -> Result<Result<Map<String, Value>, String>, Error> {
    let bytes = fs::read(path).map_err(Error::io("read", path))?;
    Ok(check_digested(&bytes))
}

fn check_digested(bytes: &[u8]) -> Result<Map<String, Value>, String> {
    let text = std::str::from_utf8(bytes).map_err(|bad| bad.to_string())?;
    let at = text.find(KEY).ok_or("no digest")? + KEY.len();
    let stored = text.get(at..at + BLANK.len()).ok_or("digest cut short")?;
    let blanked = [&text[..at], BLANK, &text[at + BLANK.len()..]].concat();
    let computed = blake3::hash(blanked.as_bytes()).to_hex();
    if computed.as_str() != stored {
        return Err(format!("digest {stored} is not that of the file, {computed}"));
    }
    match serde_json::from_str(text) {
        Ok(Value::Object(fields)) => Ok(fields),
        Ok(_) => Err("not an object".into()),
        Err(bad) => Err(bad.to_string()),
    }
}

/// Writes the manifest of a run that starts.
pub(crate) fn begin(
    dir: &Dir,
    (uuid, run, parent, first_seq): (&[u8; 16], u64, RunParent, u64),
    (options, facts, boot_id): (&Options, &RunFacts, &[u8; 16]),
) -> Result<(), Error> {
    let fields = of_run((uuid, run, parent, first_seq), (options, facts, boot_id), None);
    write_digested(&dir.manifest(run), fields)
}

/// The manifest of a run that starts; `hot` is the directory of its ring, where it has one.
pub(crate) fn of_run(
    (uuid, run, parent, first_seq): (&[u8; 16], u64, RunParent, u64),
    (options, facts, boot_id): (&Options, &RunFacts, &[u8; 16]),
    hot: Option<&Path>,
) -> Map<String, Value> {
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let mut fields = Map::new();
    if let Value::Object(known) = json!({
        "format": format!("kairos-journal {MAJOR}.{MINOR}"),
        "uuid": uuid::Uuid::from_bytes(*uuid).to_string(),
        "run": run,
        "status": RunStatus::Running.name(),
        "parent": parent,
        "first_seq": first_seq,
        "started_ns": facts.wall_ns,
        "tsc": facts.tsc,
        "tsc_hz": facts.tsc_hz,
        "seed": facts.seed,
        "placement": if hot.is_some() { "hot" } else { "direct" },
        "segment_bytes": options.segment_bytes,
        "config_hash": hex(&facts.config_hash),
        "binary_hash": hex(&facts.binary_hash),
        "lock_hash": hex(&facts.lock_hash),
        "registry_hash": hex(&facts.registry_hash),
        "host": { "boot_id": hex(boot_id), "kernel": kernel.trim() },
        "notes": facts.notes,
    }) {
        fields = known;
    }
    if let Some(hot) = hot {
        fields.insert("hot_dir".into(), hot.display().to_string().into());
    }
    fields
}

/// Rewrites the manifest of a run that is over. A run without a manifest gets a short one.
pub(crate) fn end(
    dir: &Dir,
    run: u64,
    status: RunStatus,
    (last_seq, last_crc): (u64, u32),
    wall_ns: i64,
) -> Result<(), Error> {
    let path = dir.manifest(run);
    let mut fields = match read_digested(&path) {
        Ok(Ok(fields)) => fields,
        Ok(Err(_)) => Map::new(),
        Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => Map::new(),
        Err(bad) => return Err(bad),
    };
    fields.insert("run".into(), run.into());
    fields.insert("status".into(), status.name().into());
    fields.insert("last_seq".into(), last_seq.into());
    fields.insert("last_crc".into(), last_crc.into());
    fields.insert("ended_ns".into(), wall_ns.into());
    write_digested(&path, fields)
}

/// A run, or the file that is damaged and how.
pub(crate) type MaybeRun = Result<RunInfo, (PathBuf, String)>;

/// Reads all manifests; a damaged one is the inner error, with its file.
pub(crate) fn read_all(dir: &Dir) -> Result<Vec<MaybeRun>, Error> {
    let mut runs = Vec::new();
    for (run, path) in dir.numbered_files("run-")? {
        runs.push(match read_digested(&path)? {
            Ok(fields) => info(run, fields).map_err(|flaw| (path, flaw)),
            Err(flaw) => Err((path, flaw)),
        });
    }
    Ok(runs)
}

fn info(run: u64, fields: Map<String, Value>) -> Result<RunInfo, String> {
    let number = |key: &str| fields.get(key).and_then(Value::as_u64);
    let named = fields.get("status").and_then(Value::as_str).unwrap_or_default();
    let status = RunStatus::ALL.into_iter().find(|(_, name)| *name == named);
    if number("run") != Some(run) {
        return Err("run is not that of the file name".into());
    }
    Ok(RunInfo {
        run,
        status: status.ok_or_else(|| format!("status {named:?}"))?.0,
        first_seq: number("first_seq").unwrap_or_default(),
        last_seq: number("last_seq"),
        started_ns: number("started_ns").unwrap_or_default(),
        manifest: Value::Object(fields),
    })
}

/// Lower-case hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
