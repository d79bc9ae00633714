//! Named holds: what an operator wants kept, whatever retention says.
//!
//! A hold names a run; that run and every later one stay until it is lifted. Each is a small file of
//! its own in `holds/` of the journal's directory, written by the operator's tool and only read by
//! whoever removes runs. One that cannot be read holds everything.

use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::cursors::is_name;
use crate::error::Error;
use crate::files::{DIR_MODE, sync_dir, wall_ns};
use crate::manifest::{read_digested, write_digested};
use crate::verify::Finding;

const FOLDER: &str = "holds";

/// One hold.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Hold {
    /// Its name.
    pub name: String,
    /// The first run that stays, and every later one.
    pub run: u64,
    /// Why, in the operator's words.
    pub reason: String,
    /// When it was placed, in nanoseconds since the Unix epoch.
    pub at_ns: i64,
}

/// Keeps `run` and every later one of the journal in `dir` until [`lift`]; replaces a hold of that name.
/// It is on disk when this returns. What a removal has already planned at that moment still goes.
///
/// # Errors
/// [`Error::Option`] if the name is not 1 to 64 of `a-z 0-9 _ -`; [`Error::Missing`] where there is no
/// journal; what the system says.
pub fn place(dir: &Path, name: &str, run: u64, reason: &str) -> Result<Hold, Error> {
    let path = path_of(dir, name)?;
    crate::reader::Journal::open(dir)?;
    let folder = dir.join(FOLDER);
    let made = fs::DirBuilder::new().recursive(true).mode(DIR_MODE).create(&folder);
    made.map_err(Error::io("create directory", &folder))?;
    sync_dir(dir)?;
    let hold = Hold { name: name.into(), run, reason: reason.into(), at_ns: wall_ns() };
    if let Value::Object(fields) = json!(hold) {
        write_digested(&path, fields)?;
    }
    Ok(hold)
}

/// Lifts the hold of that name; `false` if there is none.
///
/// # Errors
/// As [`place`].
pub fn lift(dir: &Path, name: &str) -> Result<bool, Error> {
    let path = path_of(dir, name)?;
    match fs::remove_file(&path) {
        Ok(()) => sync_dir(&dir.join(FOLDER)).map(|()| true),
        Err(source) if source.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(source) => Err(Error::io("remove", &path)(source)),
    }
}

/// All holds on the journal in `dir`, by name.
///
/// # Errors
/// [`Error::Damaged`] if one is not what was written; what the system says.
pub fn list(dir: &Path) -> Result<Vec<Hold>, Error> {
    let folder = dir.join(FOLDER);
    let entries = match fs::read_dir(&folder) {
        Ok(entries) => entries,
        Err(source) if source.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => return Err(Error::io("list", &folder)(source)),
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry.map_err(Error::io("list", &folder))?.path();
        if path.extension().is_some_and(|it| it == "json") {
            found.extend(read(&path)?);
        }
    }
    found.sort_by(|a: &Hold, b| a.name.cmp(&b.name));
    Ok(found)
}

/// `None`: it was lifted meanwhile.
fn read(path: &Path) -> Result<Option<Hold>, Error> {
    let damaged =
        |reason: String| Error::Damaged(Box::new(Finding::damage(path, None, None, reason)));
    let fields = match read_digested(path) {
        Ok(fields) => fields.map_err(damaged)?,
        Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
            return Ok(None);
        }
        Err(bad) => return Err(bad),
    };
    let text = |key: &str| fields.get(key).and_then(Value::as_str).map(String::from);
    let hold = || {
        Some(Hold {
            name: text("name")?,
            run: fields.get("run")?.as_u64()?,
            reason: text("reason")?,
            at_ns: fields.get("at_ns")?.as_i64()?,
        })
    };
    let hold = hold().filter(|it| path.file_stem().is_some_and(|stem| stem == it.name.as_str()));
    hold.map(Some).ok_or_else(|| damaged("not a hold".into()))
}

fn path_of(dir: &Path, name: &str) -> Result<PathBuf, Error> {
    if is_name(name) {
        return Ok(dir.join(FOLDER).join(format!("{name}.json")));
    }
    Err(Error::Option {
        key: "holds.<name>",
        found: name.into(),
        rule: "a hold's name is 1 to 64 of a-z, 0-9, _ and -",
    })
}
