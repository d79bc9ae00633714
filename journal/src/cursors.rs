//! How far each sink has taken a journal: small files beside it, one per sink.
//!
//! Retention removes only what every sink has passed, and may not ask the sinks: their databases may
//! be down. So each sink leaves its position in `cursors/<sink>.json` of the journal's directory. The
//! authority over a position stays in the sink; the file is a copy that may be old, never one that is
//! ahead. A file that cannot be read holds everything back.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use crate::error::Error;
use crate::files::{DIR_MODE, FILE_MODE, wall_ns};
use crate::manifest::{digested, read_digested};

/// Milliseconds between two positions that a cursor remembers.
const STEP_MS: i64 = 60_000;
/// Positions that it remembers: two hours of them.
const REMEMBERED: usize = 120;

/// An event of a journal. Ordered as written: a run after a power loss uses numbers again, but under
/// a higher run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
pub struct Position {
    /// The run, from 1; 0: before the first event.
    pub run: u64,
    /// The `seq` of the last event that the sink holds for good.
    pub seq: u64,
}

/// One sink's cursor, as its file says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cursor {
    /// The sink.
    pub name: String,
    /// How far it is.
    pub position: Position,
    /// When it said so, in nanoseconds since the Unix epoch.
    pub at_ns: i64,
    /// What it said earlier, oldest first, about a minute apart, two hours back at most.
    earlier: Vec<(i64, Position)>,
}

impl Cursor {
    /// The newest position that is at least `age_ns` old; the beginning if none is.
    ///
    /// A sink that is restored from a backup goes back: whoever removes what it has passed waits.
    #[must_use]
    pub fn settled(&self, now_ns: i64, age_ns: i64) -> Position {
        let known = self.earlier.iter().copied().chain([(self.at_ns, self.position)]);
        let mut old = known.filter(|(at, _)| now_ns.saturating_sub(*at) >= age_ns);
        // A cursor that went back has said less since: the least of what it says from there on.
        let settled = old.next_back().map(|(_, position)| position).unwrap_or_default();
        let since = self.earlier.iter().filter(|(at, _)| now_ns.saturating_sub(*at) < age_ns);
        since.map(|(_, position)| *position).chain([self.position]).fold(settled, Position::min)
    }
}

/// Says that the sink `name` holds everything up to `position` of the journal in `dir` for good.
///
/// Call it after the sink's own commit, about once a second: it reads and replaces one small file. It
/// does not sync; after a power loss the file may be old or unreadable, and then holds back more.
/// A position may go back, when a sink starts again from an older one.
///
/// # Errors
/// [`Error::Option`] if the name is not 1 to 64 of `a-z 0-9 _ -`; what the system says.
pub fn publish(dir: &Path, name: &str, position: Position) -> Result<(), Error> {
    publish_at(dir, name, position, wall_ns())
}

fn publish_at(dir: &Path, name: &str, position: Position, now: i64) -> Result<(), Error> {
    let path = path_of(dir, name)?;
    let mut earlier = match read_file(&path, name) {
        Ok(Some(before)) => {
            let mut earlier = before.earlier;
            let last = earlier.last().map_or(i64::MIN, |(at, _)| *at);
            if before.at_ns.saturating_sub(last) >= STEP_MS * 1_000_000 {
                earlier.push((before.at_ns, before.position));
            }
            earlier
        }
        Ok(None) | Err(Error::Damaged(_)) => Vec::new(), // what it said is lost: it says it anew
        Err(bad) => return Err(bad),
    };
    let surplus = earlier.len().saturating_sub(REMEMBERED);
    earlier.drain(..surplus);
    let past: Vec<_> =
        earlier.iter().map(|(at, position)| json!([at, position.run, position.seq])).collect();
    let Value::Object(fields) = json!({
        "sink": name, "run": position.run, "seq": position.seq, "at_ns": now, "earlier": past,
    }) else {
        return Ok(()); // `json!` of an object is an object
    };
    let folder = dir.join(FOLDER);
    let made = fs::DirBuilder::new().recursive(true).mode(DIR_MODE).create(&folder);
    made.map_err(Error::io("create directory", &folder))?;
    let temporary = path.with_extension("tmp");
    let mut options = OpenOptions::new();
    let options = options.write(true).create(true).truncate(true).mode(FILE_MODE);
    let mut file = options.open(&temporary).map_err(Error::io("create", &temporary))?;
    file.write_all(digested(fields).as_bytes()).map_err(Error::io("write", &temporary))?;
    fs::rename(&temporary, &path).map_err(Error::io("rename", &path))
}

/// What the sink `name` said; `None` if it never said anything.
///
/// # Errors
/// [`Error::Damaged`] if the file is not what was written; what the system says.
pub fn read(dir: &Path, name: &str) -> Result<Option<Cursor>, Error> {
    read_file(&path_of(dir, name)?, name)
}

/// All cursors of the journal in `dir`, by name.
///
/// # Errors
/// As [`read`].
pub fn list(dir: &Path) -> Result<Vec<Cursor>, Error> {
    let folder = dir.join(FOLDER);
    let entries = match fs::read_dir(&folder) {
        Ok(entries) => entries,
        Err(source) if source.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => return Err(Error::io("list", &folder)(source)),
    };
    let mut found = Vec::new();
    for entry in entries {
        let name = entry.map_err(Error::io("list", &folder))?.file_name();
        let name = name.to_string_lossy();
        if let Some(name) = name.strip_suffix(".json").filter(|name| is_name(name)) {
            found.extend(read(dir, name)?);
        }
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(found)
}

/// Forgets a sink that is no more, so that it holds nothing back. Nothing happens if there is none.
///
/// # Errors
/// As [`publish`].
pub fn forget(dir: &Path, name: &str) -> Result<(), Error> {
    let path = path_of(dir, name)?;
    match fs::remove_file(&path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(Error::io("remove", &path)(source))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

const FOLDER: &str = "cursors";

pub(crate) fn is_name(name: &str) -> bool {
    let fits =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-".contains(&byte);
    (1..=64).contains(&name.len()) && name.bytes().all(fits)
}

fn path_of(dir: &Path, name: &str) -> Result<PathBuf, Error> {
    if is_name(name) {
        return Ok(dir.join(FOLDER).join(format!("{name}.json")));
    }
    Err(Error::Option {
        key: "cursors.<sink>",
        found: name.into(),
        rule: "a sink's name is 1 to 64 of a-z, 0-9, _ and -",
    })
}

fn read_file(path: &Path, name: &str) -> Result<Option<Cursor>, Error> {
    let damaged = |reason: String| {
        Error::Damaged(Box::new(crate::verify::Finding::damage(path, None, None, reason)))
    };
    let fields = match read_digested(path) {
        Ok(fields) => fields.map_err(damaged)?,
        Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
            return Ok(None);
        }
        Err(bad) => return Err(bad),
    };
    let cursor = parse(&fields).filter(|cursor| cursor.name == name);
    cursor.map(Some).ok_or_else(|| damaged(format!("not the cursor of sink {name}")))
}

fn parse(fields: &Map<String, Value>) -> Option<Cursor> {
    let number = |key: &str| fields.get(key).and_then(Value::as_u64);
    let past = |entry: &Value| {
        let position = Position { run: entry.get(1)?.as_u64()?, seq: entry.get(2)?.as_u64()? };
        Some((entry.get(0)?.as_i64()?, position))
    };
    Some(Cursor {
        name: fields.get("sink")?.as_str()?.into(),
        position: Position { run: number("run")?, seq: number("seq")? },
        at_ns: fields.get("at_ns")?.as_i64()?,
        earlier: fields.get("earlier")?.as_array()?.iter().map(past).collect::<Option<_>>()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: i64 = 60_000_000_000;

    fn at(run: u64, seq: u64) -> Position {
        Position { run, seq }
    }

    #[test]
    fn what_is_published_is_read_and_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        assert_eq!(list(dir).unwrap(), []);
        publish(dir, "postgres", at(2, 700)).unwrap();
        publish(dir, "parquet", at(1, 5)).unwrap();
        publish(dir, "parquet", at(1, 6)).unwrap();
        let all: Vec<_> = list(dir).unwrap().into_iter().map(|it| (it.name, it.position)).collect();
        assert_eq!(all, [("parquet".into(), at(1, 6)), ("postgres".into(), at(2, 700))]);
        forget(dir, "postgres").unwrap();
        forget(dir, "postgres").unwrap();
        assert_eq!(read(dir, "postgres").unwrap(), None);
        for bad in ["", "../x", "A", "a/b", "a.b"] {
            assert!(matches!(publish(dir, bad, at(1, 1)), Err(Error::Option { .. })), "{bad}");
        }
    }

    #[test]
    fn a_damaged_cursor_is_an_error_until_it_is_said_anew() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        publish(dir, "redis", at(1, 900)).unwrap();
        let path = path_of(dir, "redis").unwrap();
        let bytes = fs::read(&path).unwrap();
        for at in 0..bytes.len() {
            let mut bad = bytes.clone();
            bad[at] ^= 4;
            fs::write(&path, bad).unwrap();
            assert!(matches!(list(dir), Err(Error::Damaged(_))), "byte {at}");
        }
        fs::write(&path, b"").unwrap(); // as power loss may leave it
        assert!(matches!(list(dir), Err(Error::Damaged(_))));
        publish(dir, "redis", at(1, 901)).unwrap();
        assert_eq!(read(dir, "redis").unwrap().unwrap().position, at(1, 901));
    }

    #[test]
    fn only_what_was_said_long_ago_and_never_taken_back_is_settled() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        for minute in 0..=300_i64 {
            publish_at(dir, "a", at(1, minute.unsigned_abs()), minute * MINUTE).unwrap();
        }
        let cursor = read(dir, "a").unwrap().unwrap();
        assert_eq!(cursor.earlier.len(), REMEMBERED);
        let settled = |cursor: &Cursor, minutes| cursor.settled(300 * MINUTE, minutes * MINUTE);
        assert_eq!(settled(&cursor, 0), at(1, 300));
        assert_eq!(settled(&cursor, 60), at(1, 240));
        assert_eq!(settled(&cursor, 200), at(0, 0), "nobody remembers");
        publish_at(dir, "a", at(1, 100), 301 * MINUTE).unwrap();
        let back = read(dir, "a").unwrap().unwrap();
        assert_eq!(back.settled(301 * MINUTE, 60 * MINUTE), at(1, 100), "it starts again there");
    }
}
