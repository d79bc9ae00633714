//! Records live feeds into capture files: one file per connection, as the captures are read.
//!
//! The same links, sessions and sockets as a feed seat uses, on one thread that may sleep. What is
//! recorded plays back through `market_data = "capture"` and gives the same market data: frames and
//! snapshots go into the file in the order in which the sessions saw them, with the same times.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use kairos_adapters::capture::{CaptureError, CaptureWriter};
use kairos_adapters::lines::{Lines, Publisher, Tap, Wire};
use kairos_adapters::link::Link;
use kairos_edge::config::Config;
use kairos_logic::event::Event;
use kairos_logic::units::{InstrumentId, Nanos};
use serde::Serialize;

use crate::clock::Clock;
use crate::feeds::{self, FeedError};
use crate::simulated::Simulated;

/// Sleep between two looks that found nothing.
const REST: Duration = Duration::from_micros(500);

/// Why nothing, or nothing more, is recorded.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// The feeds cannot be had.
    #[error(transparent)]
    Feed(#[from] FeedError),
    /// A capture cannot be written.
    #[error(transparent)]
    Capture(#[from] CaptureError),
    /// The folder cannot be made.
    #[error("{path}: {source}; wanted a folder for captures", path = .path.display())]
    Folder {
        /// Which.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
}

impl RecordError {
    /// The process's exit status.
    #[must_use]
    pub const fn status(&self) -> u8 {
        match self {
            Self::Feed(error) => error.status(),
            Self::Capture(_) | Self::Folder { .. } => 1,
        }
    }
}

/// One file that was written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Recorded {
    /// Where.
    pub path: PathBuf,
    /// The venue.
    pub venue: String,
    /// Text frames in it.
    pub frames: u64,
    /// Snapshots in it.
    pub snapshots: u64,
}

/// A file that is being written.
struct File {
    writer: CaptureWriter,
    told: Recorded,
}

/// The files of one venue.
struct Tape<'a> {
    folder: &'a Path,
    venue: String,
    url: String,
    extension: &'static str,
    /// The symbols of each link.
    symbols: Vec<Vec<String>>,
    open: HashMap<Wire, File>,
    done: Vec<Recorded>,
    error: Option<CaptureError>,
}

impl Tape<'_> {
    fn write(&mut self, wire: Wire, write: impl FnOnce(&mut File) -> Result<(), CaptureError>) {
        if let Some(file) = self.open.get_mut(&wire)
            && let Err(error) = write(file)
        {
            self.error.get_or_insert(error);
        }
    }

    fn finish(&mut self, wire: Wire) {
        if let Some(File { writer, told }) = self.open.remove(&wire) {
            match writer.finish() {
                Ok(()) => self.done.push(told),
                Err(error) => {
                    self.error.get_or_insert(error);
                }
            }
        }
    }
}

/// A frame on one line: a line end in JSON is white space, or the frame is none.
fn one_line(frame: &[u8]) -> std::borrow::Cow<'_, [u8]> {
    if frame.contains(&b'\n') {
        frame.iter().map(|&byte| if byte == b'\n' { b' ' } else { byte }).collect()
    } else {
        frame.into()
    }
}

impl Tap for Tape<'_> {
    fn opened(&mut self, wire: Wire, at: Nanos) {
        let name = format!("{}-{}-{}.{}", self.venue, wire.link, at.0, self.extension);
        let path = self.folder.join(name);
        match CaptureWriter::create(&path) {
            Ok(mut writer) => {
                writer.connected(&self.url, at);
                if let (Ok(link), Some(symbols)) =
                    (u16::try_from(wire.link), self.symbols.get(wire.link))
                {
                    writer.carries(link, symbols);
                }
                let venue = self.venue.clone();
                let told = Recorded { path, venue, frames: 0, snapshots: 0 };
                self.open.insert(wire, File { writer, told });
            }
            Err(error) => {
                self.error.get_or_insert(error);
            }
        }
    }

    fn frame(&mut self, wire: Wire, at: Nanos, text: &[u8]) {
        self.write(wire, |file| {
            file.told.frames += 1;
            file.writer.frame(at, &one_line(text))
        });
    }

    fn sent(&mut self, wire: Wire, at: Nanos, text: &str) {
        self.write(wire, |file| {
            file.writer.sent(at, text);
            Ok(())
        });
    }

    fn fetched(&mut self, wire: Wire, at: Nanos, target: &str, body: &[u8]) {
        self.write(wire, |file| {
            file.told.snapshots += 1;
            file.writer.rest(at, target, &one_line(body))
        });
    }

    fn closed(&mut self, wire: Wire, at: Nanos) {
        if let Some(file) = self.open.get_mut(&wire) {
            file.writer.closed(at);
        }
        self.finish(wire);
    }
}

struct Seen<'a>(&'a mut dyn FnMut(&Event));

impl Publisher for Seen<'_> {
    fn begin(&mut self) {}

    fn put(&mut self, event: Event) {
        (self.0)(&event);
    }
}

/// How to record.
pub struct RecordOptions<'a> {
    /// Where the files go.
    pub folder: &'a Path,
    /// Whether they are compressed.
    pub compress: bool,
    /// Ends the recording.
    pub stop: &'a AtomicBool,
    /// Ends it after so long.
    pub limit: Option<Duration>,
}

/// Records every live venue of a configuration until told to stop. `on_event` sees the events that
/// the sessions make of the frames; `warn` what an operator should know.
///
/// # Errors
/// [`RecordError`]. Files that were complete before it stay; the others lack their end.
pub fn record(
    config: &Config,
    options: &RecordOptions<'_>,
    on_event: &mut dyn FnMut(&Event),
    warn: &mut dyn FnMut(&str),
) -> Result<Vec<Recorded>, RecordError> {
    let mut feeds = feeds::prepare(config)?;
    for warning in feeds.warnings.drain(..) {
        warn(&warning);
    }
    let table = feeds.table.clone();
    let Some(venues) = feeds.into_lines() else {
        let error =
            feeds::refuse(config, "venues", "captures are recorded already; wanted live venues");
        return Err(error.into());
    };
    std::fs::create_dir_all(options.folder)
        .map_err(|source| RecordError::Folder { path: options.folder.to_owned(), source })?;
    let clock = Clock::new();
    let read = || {
        let stamp = clock.stamp();
        (stamp, clock.wall(stamp))
    };
    let begun = clock.stamp();
    let extension = if options.compress { "frames.gz" } else { "frames" };
    let mut venues: Vec<(Lines, Tape<'_>, Option<Simulated>)> = venues
        .into_iter()
        .map(|(venue, lines, exchange)| {
            let symbol = |&id: &InstrumentId| table.instrument(id).map(|it| it.symbol.clone());
            let symbols_of = |link: &Link| link.instruments().iter().filter_map(symbol).collect();
            let tape = Tape {
                symbols: lines.links().iter().map(symbols_of).collect(),
                folder: options.folder,
                venue,
                url: lines.ws_url().to_owned(),
                extension,
                open: HashMap::new(),
                done: Vec::new(),
                error: None,
            };
            (lines, tape, exchange)
        })
        .collect();
    let limit_ns = options.limit.map(|it| u64::try_from(it.as_nanos()).unwrap_or(u64::MAX));
    let mut seen = Seen(on_event);
    while !options.stop.load(Ordering::Relaxed) {
        if limit_ns.is_some_and(|limit| clock.nanos_between(begun, clock.stamp()) >= limit) {
            break;
        }
        let mut busy = false;
        for (lines, tape, _) in &mut venues {
            busy |= lines.turn(&read, tape, &mut seen).read;
            if let Some(error) = tape.error.take() {
                return Err(error.into());
            }
        }
        if !busy {
            sleep(REST);
        }
    }
    let mut done = Vec::new();
    for (lines, tape, _) in &mut venues {
        lines.close();
        let wires: Vec<Wire> = tape.open.keys().copied().collect();
        wires.into_iter().for_each(|wire| tape.finish(wire));
        if let Some(error) = tape.error.take() {
            return Err(error.into());
        }
        done.append(&mut tape.done);
    }
    done.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(done)
}

#[expect(clippy::disallowed_methods, reason = "a recorder is no seat")]
fn sleep(time: Duration) {
    thread::sleep(time);
}
