//! Reads the journal for one sink: every frame verified, its meaning, and the run that it belongs to.

use std::fs::File;
use std::path::{Path, PathBuf};

use kairos_edge::config::{Config, ExecutionMode};
use kairos_edge::frames::{Assembler, Cold, FrameError, Record, StrategyName};
use kairos_edge::render::Clock;
use kairos_journal::{
    EXT_WORDS_MAX, Error, Journal, KIND_PHYSICAL, KIND_SKIPPABLE, Reader, RunInfo, SegmentState,
};
use kairos_logic::instrument::InstrumentTable;
use kairos_logic::units::Stamp;

use crate::sink::{Cursor, SinkError};

/// A decision is shown with the stamps of its cause when that is less than this many events before
/// it. A reader that starts in the middle begins so far ahead of it, and thus shows the same.
pub const LOOK_BACK: u64 = 1 << 16;

/// A run, as far as it is known.
#[derive(Clone, Debug, Default)]
pub struct Run {
    /// Its number.
    pub number: u64,
    /// Its instruments; empty until read.
    pub table: InstrumentTable,
    /// Its strategies; empty until read.
    pub strategies: Vec<StrategyName>,
    /// Its configuration, once read.
    pub config: Option<String>,
    /// Whether orders went to a venue or to paper, by venue, as far as the configuration says.
    pub live_venues: Vec<String>,
    /// How its stamps become nanoseconds.
    pub clock: Clock,
    /// Wall time of the stamp that the clock shows as 0, in nanoseconds.
    pub started_ns: i64,
    /// Counts up when something of this became known.
    pub version: u64,
}

impl Run {
    /// A stamp as wall time in nanoseconds; `None` for an absent one.
    #[must_use]
    pub fn wall(&self, stamp: Stamp) -> Option<i64> {
        self.clock.ns(stamp).and_then(|ns| ns.checked_add(self.started_ns))
    }

    /// `paper` or `live`.
    #[must_use]
    pub fn mode(&self, venue: &str) -> &'static str {
        if self.live_venues.iter().any(|live| live == venue) { "live" } else { "paper" }
    }

    fn learn(&mut self, cold: Cold) {
        self.version += 1;
        match cold {
            Cold::Config(text) => {
                if let Ok(config) = Config::parse("journal", &text, None) {
                    let live =
                        config.venues.iter().filter(|it| it.execution != ExecutionMode::Paper);
                    self.live_venues = live.map(|it| it.name.clone()).collect();
                }
                self.config = Some(text);
            }
            Cold::Instruments(table) => self.table = table,
            Cold::Strategies(names) => self.strategies = names,
        }
    }
}

/// When the input that led to a decision was received and published.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CauseStamps {
    /// When its bytes were in user space.
    pub recv: Stamp,
    /// Ticks from then until it was published.
    pub in_after: u32,
}

/// What a logical frame says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Said<'a> {
    /// This.
    Record(Record<'a>),
    /// Something that only a newer version understands, and that may be passed over.
    Skipped,
}

/// One logical frame.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'a> {
    /// Its number.
    pub seq: u64,
    /// Its kind.
    pub kind: u16,
    /// Version of its payload.
    pub schema: u16,
    /// Its time stamp.
    pub ts: Stamp,
    /// What it says.
    pub said: Said<'a>,
    /// Of a decision: the stamps of its cause, unless that is [`LOOK_BACK`] or more events away.
    pub cause: Option<CauseStamps>,
}

/// What the source gives.
#[derive(Debug)]
pub enum Step<'a> {
    /// An event.
    Entry(&'a Run, Entry<'a>),
    /// A run began or ended, or another physical frame: look at the manifests again.
    Mark,
    /// Nothing more that may be read now. `complete`: nobody writes, and all is read.
    Nothing {
        /// Whether nobody writes, and all is read.
        complete: bool,
    },
}

/// Why the journal cannot be read on.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The journal.
    #[error(transparent)]
    Journal(#[from] Error),
    /// A frame.
    #[error("seq {seq}: {error}")]
    Frame {
        /// Its number.
        seq: u64,
        /// What is wrong with it.
        error: FrameError,
    },
    /// The sink's cursor is none of this journal.
    #[error("{0}")]
    Diverged(String),
    /// The sink holds more of the newest run than the journal does. The next run will say whether a
    /// power loss took that back.
    #[error("{0}")]
    Ahead(String),
}

impl SourceError {
    /// Whether bytes are damaged, rather than out of reach.
    #[must_use]
    pub fn is_damage(&self) -> bool {
        match self {
            Self::Journal(error) => error.class() == kairos_journal::Class::Damaged,
            Self::Frame { .. } => true,
            Self::Diverged(_) | Self::Ahead(_) => false,
        }
    }
}

impl From<SourceError> for SinkError {
    fn from(error: SourceError) -> Self {
        match error {
            SourceError::Diverged(why) => Self::Diverged(why),
            other @ (SourceError::Journal(_)
            | SourceError::Frame { .. }
            | SourceError::Ahead(_)) => Self::Transient(format!("journal: {other}")),
        }
    }
}

/// How far a sink may read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Follow {
    /// What is on disk: a sink is never ahead of the journal after a power loss.
    Durable,
    /// What is written.
    Committed,
}

/// The name of a journal, and its runs, ascending.
///
/// # Errors
/// Whatever is wrong with the directory or a manifest.
pub fn identify(dir: &Path) -> Result<(Option<String>, Vec<RunInfo>), Error> {
    let runs = Journal::open(dir)?.runs()?;
    let uuid = runs.iter().rev().find_map(|run| run.manifest.get("uuid")?.as_str());
    Ok((uuid.map(ToOwned::to_owned), runs))
}

fn before_history(cursor: Cursor, first: u64) -> SourceError {
    SourceError::Diverged(format!(
        "before history: the sink is at {cursor}, and the journal begins with seq {first}; kairos drain \
         skip accepts the gap"
    ))
}

/// The first event that the journal still has; `None` where it has none.
///
/// # Errors
/// Whatever is wrong with the journal.
pub fn first_seq(dir: &Path) -> Result<Option<u64>, Error> {
    first_of(&Journal::open(dir)?)
}

/// Manifests stay when retention removes their runs: the frames tell.
fn first_of(journal: &Journal) -> Result<Option<u64>, Error> {
    let mut reader = journal.reader();
    while let Some(frame) = reader.next()? {
        if !frame.is_physical() {
            return Ok(Some(frame.seq));
        }
    }
    Ok(None)
}

/// A frame without its payload, which is in [`Source::payload`].
#[derive(Clone, Copy, Debug)]
struct Fetched {
    run: u64,
    seq: u64,
    ts: u64,
    crc: u32,
    kind: u16,
    schema: u16,
    ext: [u64; EXT_WORDS_MAX],
    ext_words: usize,
}

/// Reads a journal in order from a cursor on.
#[derive(Debug)]
pub struct Source {
    dir: PathBuf,
    journal: Journal,
    reader: Reader,
    run: Run,
    parts: Assembler,
    stamps: Vec<(u64, CauseStamps)>, // by seq modulo LOOK_BACK
    next_seq: u64,
    last: Cursor,
    limit: u64,    // the last event that may be read
    is_dead: bool, // nobody wrote when the limit was set, and all was on disk
    dead_run: u64, // the newest run then
    payload: Vec<u8>,
}

impl Source {
    /// Opens the journal at `cursor`.
    ///
    /// Who follows what is committed may hold events that a power loss took back. He goes on behind the
    /// last one of that run that is left, once a newer run is there; [`Source::cursor`] says where.
    ///
    /// # Errors
    /// [`SourceError::Diverged`] where the journal does not hold what the cursor says was last;
    /// [`SourceError::Ahead`] where that is to be seen; whatever is wrong with the journal.
    pub fn open(dir: &Path, cursor: Cursor, follow: Follow) -> Result<Self, SourceError> {
        let journal = Journal::open(dir)?;
        let reader = journal.reader();
        let mut source = Self {
            dir: dir.to_owned(),
            journal,
            reader,
            run: Run::default(),
            parts: Assembler::default(),
            stamps: vec![(0, CauseStamps::default()); usize::try_from(LOOK_BACK).unwrap_or(0)],
            next_seq: 1,
            last: Cursor::START,
            limit: u64::MAX,
            is_dead: false,
            dead_run: 0,
            payload: Vec::new(),
        };
        let first = if cursor.next_seq > 1 { first_of(&source.journal)? } else { None };
        if cursor.next_seq > 1 && first == Some(cursor.next_seq) {
            source.begin_at(cursor)?;
        } else if let Some(first) = first.filter(|it| *it > cursor.next_seq || cursor.run == 0) {
            return Err(before_history(cursor, first));
        } else if cursor.next_seq > 1 {
            match source.taken_back(cursor, follow)? {
                Some(last) => source.go_to(Cursor { next_seq: last + 1, ..cursor }, None)?,
                None => source.go_to(cursor, Some(follow))?,
            }
        }
        source.limit = if follow == Follow::Durable { 0 } else { u64::MAX };
        Ok(source)
    }

    /// The cursor behind the last entry.
    #[must_use]
    pub fn cursor(&self) -> Cursor {
        self.last
    }

    /// The journal's directory.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Goes to the first event that there is, where the cursor needs just that: what is before it was
    /// removed, and there is nothing to compare with.
    fn begin_at(&mut self, cursor: Cursor) -> Result<(), SourceError> {
        self.reader.seek(cursor.next_seq)?;
        (self.next_seq, self.last) = (cursor.next_seq, cursor);
        Ok(())
    }

    /// The last event of the cursor's run that a power loss left, where the sink holds more of it.
    fn taken_back(&self, cursor: Cursor, follow: Follow) -> Result<Option<u64>, SourceError> {
        if follow == Follow::Durable {
            return Ok(None);
        }
        let runs = self.journal.runs()?;
        let own = runs.iter().find(|it| it.run == cursor.run).and_then(|it| it.last_seq);
        let is_over = runs.iter().any(|it| it.run > cursor.run);
        Ok(own.filter(|last| is_over && *last < cursor.next_seq - 1))
    }

    /// Learns the run's tables and the stamps of possible causes, and checks that the last frame that
    /// the sink holds is the journal's. `None`: there is nothing to compare with.
    fn go_to(&mut self, cursor: Cursor, checked: Option<Follow>) -> Result<(), SourceError> {
        let target = cursor.next_seq - 1;
        if target == 0 {
            return Ok(());
        }
        let runs = self.journal.runs()?;
        let holder = runs.iter().rev().find(|run| run.first_seq <= target && run.run <= cursor.run);
        let Some(holder) = holder else {
            let why = format!("the sink is at {cursor}, and the journal has no such run");
            return Err(SourceError::Diverged(why));
        };
        self.reader.seek(holder.first_seq)?;
        while self.next_seq <= target {
            match self.read()? {
                Step::Entry(_, Entry { said: Said::Record(Record::Part(_)), .. }) | Step::Mark => {}
                Step::Entry(_, entry) => {
                    let near = target.saturating_sub(LOOK_BACK);
                    if entry.seq < near {
                        self.reader.seek(near)?;
                    }
                }
                Step::Nothing { .. } => {
                    let why = format!(
                        "the sink is at {cursor}, and the journal ends at seq {}",
                        self.next_seq.saturating_sub(1)
                    );
                    return Err(match checked {
                        Some(Follow::Committed) => SourceError::Ahead(why),
                        Some(Follow::Durable) | None => SourceError::Diverged(why),
                    });
                }
            }
        }
        if checked.is_some() && self.last != cursor {
            let why = format!(
                "the sink holds up to run {} seq {target} with checksum {:08x}, the journal has run \
                 {} seq {} with {:08x} there",
                cursor.run,
                cursor.crc,
                self.last.run,
                self.last.next_seq - 1,
                self.last.crc
            );
            return Err(SourceError::Diverged(why));
        }
        Ok(())
    }

    /// The next frame that may be read.
    ///
    /// # Errors
    /// Whatever is wrong with the journal; the source stays where it is.
    #[expect(clippy::should_implement_trait, reason = "the entry borrows from the source")]
    pub fn next(&mut self) -> Result<Step<'_>, SourceError> {
        if self.next_seq > self.limit && !self.raise_limit()? {
            return Ok(Step::Nothing { complete: false });
        }
        self.read()
    }

    /// Asks how far the journal is on disk. `false` where that is no further than before.
    fn raise_limit(&mut self) -> Result<bool, SourceError> {
        if self.journal.is_live() {
            self.limit = self.journal.watermark()?.map_or(0, |it| it.seq);
            self.is_dead = false;
        } else {
            self.dead_run = self.journal.runs()?.last().map_or(0, |it| it.run);
            // A killed engine leaves committed frames that nobody flushes any more.
            for segment in self.journal.segments()? {
                if segment.state == SegmentState::Open && segment.base_seq.is_some() {
                    let sync = File::open(&segment.path).and_then(|file| file.sync_data());
                    sync.map_err(|source| Error::Io { what: "sync", path: segment.path, source })?;
                }
            }
            self.limit = u64::MAX;
            self.is_dead = true;
        }
        Ok(self.next_seq <= self.limit)
    }

    /// Validates and copies the next frame, so that the reader is free again.
    fn fetch(&mut self) -> Result<Option<Fetched>, Error> {
        let Some(frame) = self.reader.next()? else { return Ok(None) };
        self.payload.clear();
        self.payload.extend_from_slice(frame.payload);
        let mut ext = [0; EXT_WORDS_MAX];
        let ext_words = frame.ext().len();
        ext[..ext_words].copy_from_slice(frame.ext());
        Ok(Some(Fetched {
            run: frame.run,
            seq: frame.seq,
            ts: frame.ts,
            crc: frame.crc,
            kind: frame.kind,
            schema: frame.schema,
            ext,
            ext_words,
        }))
    }

    fn read(&mut self) -> Result<Step<'_>, SourceError> {
        let mut fetched = self.fetch()?;
        let mut complete = false;
        if fetched.is_none() {
            complete = !self.journal.is_live();
            if complete {
                // Whoever wrote may have written more just before he left.
                fetched = self.fetch()?;
            }
        }
        let Some(frame) = fetched else { return Ok(Step::Nothing { complete }) };
        if frame.kind & KIND_PHYSICAL != 0 {
            return Ok(Step::Mark);
        }
        if frame.run != self.run.number {
            if self.is_dead && frame.run > self.dead_run {
                // Another engine came: what it writes is not on disk yet.
                self.is_dead = false;
                self.limit = 0;
                self.reader.seek(self.next_seq)?;
                return Ok(Step::Nothing { complete: false });
            }
            self.run = begin(&self.journal, frame.run)?;
            self.parts = Assembler::default();
        }
        let Self { run, parts, stamps, payload, next_seq, last, .. } = self;
        let seq = frame.seq;
        let bad = |error| SourceError::Frame { seq, error };
        let read = Record::read(
            frame.kind,
            frame.schema,
            frame.ts,
            &frame.ext[..frame.ext_words],
            payload,
        );
        let said = match read {
            Ok(record) => Said::Record(record),
            Err(_) if frame.kind & KIND_SKIPPABLE != 0 => Said::Skipped,
            Err(error) => return Err(bad(error)),
        };
        let place = |seq: u64| usize::try_from(seq % LOOK_BACK).unwrap_or(0);
        let mut cause = None;
        match said {
            Said::Record(Record::Part(part)) => {
                if let Some(cold) = parts.push(&part).map_err(bad)? {
                    run.learn(cold);
                }
            }
            Said::Record(Record::Event(event)) => {
                let own = CauseStamps { recv: event.recv, in_after: event.in_after };
                stamps[place(seq)] = (seq, own);
            }
            Said::Record(Record::Decision { record, .. }) => {
                let (found, own) = stamps[place(record.cause.0)];
                let near = seq.saturating_sub(record.cause.0) < LOOK_BACK;
                cause = (found == record.cause.0 && near).then_some(own);
            }
            Said::Skipped => {}
        }
        *next_seq = seq + 1;
        *last = Cursor { run: frame.run, next_seq: seq + 1, crc: frame.crc };
        let (kind, schema, ts) = (frame.kind, frame.schema, Stamp(frame.ts));
        Ok(Step::Entry(run, Entry { seq, kind, schema, ts, said, cause }))
    }
}

/// A run whose first frame was read. Its stamps count from the reading that stands in its manifest,
/// wherever in the run a reader begins.
fn begin(journal: &Journal, number: u64) -> Result<Run, Error> {
    let runs = journal.runs()?;
    let info = runs.iter().find(|it| it.run == number);
    let field = |key: &str| info.and_then(|it| it.manifest.get(key)?.as_u64()).unwrap_or(0);
    Ok(Run {
        number,
        clock: Clock { tsc_hz: field("tsc_hz"), start: field("tsc") },
        started_ns: info.and_then(|it| i64::try_from(it.started_ns).ok()).unwrap_or(0),
        version: number << 32,
        ..Run::default()
    })
}
