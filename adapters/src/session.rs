//! The contract between a venue's market data protocol and whoever owns its socket or its capture.
//!
//! A session knows the venue's words and keeps what is needed to understand the next frame. It has
//! no socket, clock or thread: bytes and times go in, events and wishes come out. A recorded
//! connection therefore replays through exactly the code that reads the live one.

use std::sync::Arc;

use kairos_logic::event::{Event, GapReason, Kind, News, StatusCode};
use kairos_logic::units::{DecimalError, InstrumentId, Nanos, Stamp, VenueId};

/// When and where a frame was read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Arrival {
    /// When its bytes were read; under capture, the recorded receive time. Becomes `Event::at`.
    pub at: Nanos,
    /// Reading of the counter at that moment; zero where nobody measures. Becomes `Event::recv`.
    pub recv: Stamp,
    /// Line of the capture file, or count of the connection's frames, from 1. Names a bad frame.
    pub number: u64,
}

/// Why a frame was dropped. Every variant has a counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[error("{}", self.sentence())]
#[repr(u8)]
pub enum Fault {
    /// Cut off, not UTF-8, or no JSON for another reason.
    NotJson = 0,
    /// JSON, but a field is missing, doubled or of the wrong type.
    Shape = 1,
    /// A number that is no plain decimal: `NaN`, `1e5`, empty text.
    Number = 2,
    /// More decimals than the instrument has.
    TooFine = 3,
    /// Larger than 64 bits hold in the instrument's scale.
    TooLarge = 4,
    /// A time that is neither in milliseconds nor in microseconds.
    Time = 5,
    /// Last update id before the first.
    Reversed = 6,
    /// More levels than a frame may have.
    TooManyLevels = 7,
    /// Longer than a frame may be.
    TooLong = 8,
    /// A price, or the quantity of a trade or quote, that is zero or negative.
    NotPositive = 9,
    /// A best bid that is not below the best ask.
    CrossedQuote = 10,
}

impl Fault {
    /// Every fault, in the order of its counter.
    pub const ALL: [Self; 11] = [
        Self::NotJson,
        Self::Shape,
        Self::Number,
        Self::TooFine,
        Self::TooLarge,
        Self::Time,
        Self::Reversed,
        Self::TooManyLevels,
        Self::TooLong,
        Self::NotPositive,
        Self::CrossedQuote,
    ];

    /// The name used in metrics.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::NotJson => "not_json",
            Self::Shape => "shape",
            Self::Number => "number",
            Self::TooFine => "too_fine",
            Self::TooLarge => "too_large",
            Self::Time => "time",
            Self::Reversed => "reversed",
            Self::TooManyLevels => "too_many_levels",
            Self::TooLong => "too_long",
            Self::NotPositive => "not_positive",
            Self::CrossedQuote => "crossed_quote",
        }
    }

    /// What is wrong, as it is told.
    #[must_use]
    pub const fn sentence(self) -> &'static str {
        match self {
            Self::NotJson => "not JSON",
            Self::Shape => "unexpected shape",
            Self::Number => "not a number",
            Self::TooFine => "too many decimals",
            Self::TooLarge => "number too large",
            Self::Time => "not a time",
            Self::Reversed => "update ids reversed",
            Self::TooManyLevels => "too many levels",
            Self::TooLong => "frame too long",
            Self::NotPositive => "not positive",
            Self::CrossedQuote => "bid not below ask",
        }
    }

    /// Whether the message was well formed and only its values make no sense. Such messages are
    /// dropped and counted, but say nothing against the connection.
    #[must_use]
    pub const fn is_invalid_value(self) -> bool {
        matches!(self, Self::NotPositive | Self::CrossedQuote)
    }
}

impl Fault {
    /// How the journal writes it beside [`StatusCode::Malformed`]; 0 is no fault.
    #[must_use]
    pub const fn number(self) -> i64 {
        self as i64 + 1
    }

    /// The reverse of [`Self::number`].
    #[must_use]
    pub fn from_number(number: i64) -> Option<Self> {
        Self::ALL.into_iter().find(|it| it.number() == number)
    }
}

/// Most bytes of a dropped frame that the journal keeps.
const EVIDENCE_MAX: usize = 64;

/// Behind an event that says that `frame` was dropped, publishes why and how the frame begins: the
/// venue's own words. Does nothing behind any other event. What only has values that make no sense
/// may come often, and is not quoted.
#[inline]
pub fn evidence(event: &Event, frame: &[u8], publish: &mut Publish<'_>) {
    if event.kind == Kind::Status {
        quote(event, frame, publish);
    }
}

#[cold]
fn quote(event: &Event, frame: &[u8], publish: &mut Publish<'_>) {
    let News::Status { venue, code: StatusCode::Malformed, more, .. } = event.news() else {
        return;
    };
    let Some(fault) = Fault::from_number(more) else { return };
    let begins = if fault.is_invalid_value() { &[] } else { frame };
    let begins = begins.get(..EVIDENCE_MAX).unwrap_or(begins);
    let between: &[u8] = if begins.is_empty() { b"" } else { b": " };
    let shown = begins.iter().map(|&it| if matches!(it, b' '..=b'~') { it } else { b'.' });
    // Room on the stack: a venue that sends nonsense must not make a seat allocate.
    let (mut words, mut len) = ([0; Event::SAID_MAX], 0);
    let text = fault.sentence().bytes().chain(between.iter().copied()).chain(shown);
    for (to, from) in words.iter_mut().zip(text) {
        *to = from;
        len += 1;
    }
    let words = words.get(..len).unwrap_or_default();
    Event::said(event.at, event.instrument, venue, words).for_each(publish);
}

impl From<DecimalError> for Fault {
    fn from(error: DecimalError) -> Self {
        match error {
            DecimalError::Empty | DecimalError::NotDecimal => Self::Number,
            DecimalError::TooFine => Self::TooFine,
            DecimalError::TooLarge => Self::TooLarge,
        }
    }
}

/// What a session counted since it was made. Counters only grow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Frames received, whatever they were.
    pub frames: u64,
    /// Trades reported.
    pub trades: u64,
    /// Quotes reported.
    pub quotes: u64,
    /// Book updates received in good order, whether reported, buffered or stale.
    pub depth_updates: u64,
    /// Book updates that a snapshot had made obsolete.
    pub depth_stale: u64,
    /// Snapshots that made a book valid.
    pub snapshots: u64,
    /// Snapshots that nobody waited for, or that were older than the updates waiting for them.
    pub snapshots_refused: u64,
    /// Requests for a snapshot.
    pub snapshot_requests: u64,
    /// Gap events reported.
    pub gaps: u64,
    /// Trades, quotes and book updates that the scanner left to the general parser.
    pub fallbacks: u64,
    /// Messages of kinds that are known and not needed.
    pub ignored: u64,
    /// Error replies of the venue.
    pub error_replies: u64,
    /// Messages about symbols that are not configured.
    pub unknown_symbols: u64,
    /// Frames dropped, by [`Fault`] in the order of [`Fault::ALL`].
    pub faults: [u64; Fault::ALL.len()],
}

impl Counters {
    /// Frames dropped for any fault.
    #[must_use]
    pub fn malformed(&self) -> u64 {
        self.faults.iter().sum()
    }

    /// Frames dropped for this fault.
    #[must_use]
    pub fn fault(&self, fault: Fault) -> u64 {
        self.faults[fault as usize]
    }

    pub(crate) fn count_fault(&mut self, fault: Fault) {
        self.faults[fault as usize] += 1;
    }
}

/// A snapshot that a session needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotRequest {
    /// Whose book.
    pub instrument: InstrumentId,
    /// Path and query on the venue's REST host. Shared, so that asking does not allocate.
    pub path: Arc<str>,
}

/// How to reach a venue's market data, behind the configured addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Dial {
    /// Path and query behind the WebSocket address; may be empty.
    Path(Arc<str>),
    /// The address has to be asked for, by a POST without a body to this path of the REST address.
    /// What it answers goes to [`MarketSession::on_dial_reply`].
    Ask(Arc<str>),
}

/// Why an answer to [`Dial::Ask`] names no address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoAddress {
    /// It cannot be read.
    #[error(transparent)]
    Fault(#[from] Fault),
    /// The venue refuses.
    #[error("{words}")]
    Refused {
        /// Its code and its words.
        words: String,
        /// How long it wants to be left alone, in seconds; 0 where it does not say.
        retry_after_s: u64,
    },
}

/// Why a session wants a new connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Reconnect {
    /// Too many malformed frames in a short time.
    Malformed = 1,
    /// The venue announced that it will close this one. The new one may overlap it.
    VenueShutdown = 2,
    /// This one will soon reach the age at which the venue closes it. The new one may overlap it.
    Age = 3,
    /// The venue's sign of life is overdue.
    Silent = 4,
    /// The venue refused what the connection is for.
    Refused = 5,
}

impl Reconnect {
    /// Whether the old connection still serves while the new one is made.
    #[must_use]
    pub const fn may_overlap(self) -> bool {
        matches!(self, Self::VenueShutdown | Self::Age)
    }

    /// The name used in dumps.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::Malformed => "too many malformed frames",
            Self::VenueShutdown => "the venue will close it",
            Self::Age => "it is as old as the venue allows",
            Self::Silent => "no sign of life",
            Self::Refused => "the venue refused what it is for",
        }
    }
}

/// What a session wants done. Its caller empties it after every call.
///
/// Room is allocated once. What does not fit is refused, never grown into: a refused snapshot
/// request is repeated by the session when its answer does not come.
#[derive(Debug)]
pub struct Outbox {
    text: String,
    ends: Vec<usize>,
    snapshots: Vec<SnapshotRequest>,
    reconnect: Option<Reconnect>,
}

impl Default for Outbox {
    fn default() -> Self {
        Self::new()
    }
}

impl Outbox {
    /// Room for messages: a subscription of 1024 streams of 40 bytes is 43 kB.
    const TEXT_BYTES: usize = 1 << 16;
    /// Room for messages of one call.
    const TEXTS: usize = 64;
    /// Room for requests of one call: one per instrument of a connection with 1024 streams.
    const SNAPSHOTS: usize = 1_024;

    /// An empty outbox with its room.
    #[must_use]
    pub fn new() -> Self {
        Self {
            text: String::with_capacity(Self::TEXT_BYTES),
            ends: Vec::with_capacity(Self::TEXTS),
            snapshots: Vec::with_capacity(Self::SNAPSHOTS),
            reconnect: None,
        }
    }

    /// Adds a text message to send; `false` where there is no room.
    pub fn send(&mut self, text: &str) -> bool {
        let fits = self.text.len() + text.len() <= self.text.capacity()
            && self.ends.len() < self.ends.capacity();
        if fits {
            self.text.push_str(text);
            self.ends.push(self.text.len());
        }
        fits
    }

    /// Adds a request for a snapshot; `false` where there is no room.
    pub fn request(&mut self, request: SnapshotRequest) -> bool {
        let fits = self.snapshots.len() < self.snapshots.capacity();
        if fits {
            self.snapshots.push(request);
        }
        fits
    }

    /// Asks for a new connection; the first reason stays.
    pub fn reconnect(&mut self, why: Reconnect) {
        self.reconnect.get_or_insert(why);
    }

    /// The messages to send, oldest first.
    pub fn texts(&self) -> impl Iterator<Item = &str> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts.zip(&self.ends).filter_map(|(start, &end)| self.text.get(start..end))
    }

    /// The snapshots to fetch, oldest first.
    #[must_use]
    pub fn snapshots(&self) -> &[SnapshotRequest] {
        &self.snapshots
    }

    /// Whether and why the connection should be replaced.
    #[must_use]
    pub const fn wants_reconnect(&self) -> Option<Reconnect> {
        self.reconnect
    }

    /// Whether there is nothing to do. Cheap: asked after every frame.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty() && self.snapshots.is_empty() && self.reconnect.is_none()
    }

    /// Forgets everything; keeps the room.
    pub fn clear(&mut self) {
        self.text.clear();
        self.ends.clear();
        self.snapshots.clear();
        self.reconnect = None;
    }
}

/// Where events go. A plain closure serves; a trait object is fine per frame, and where every
/// nanosecond counts a session's own generic method takes the closure itself.
pub type Publish<'a> = dyn FnMut(Event) + 'a;

/// The market data of one connection to one venue. Bytes in, events out, bytes back.
///
/// A frame is understood as a whole before its first event leaves: a bad frame yields no event
/// but a `Status` that names it. `Event::in_after` is left to whoever publishes into a ring.
pub trait MarketSession: Send {
    /// The venue that speaks.
    fn venue(&self) -> VenueId;

    /// The instruments that it serves.
    fn instruments(&self) -> &[InstrumentId];

    /// How to reach the venue.
    fn dial(&self) -> Dial;

    /// The answer to [`Dial::Ask`]: the whole address of the WebSocket.
    ///
    /// # Errors
    /// [`NoAddress`]; so for every answer of a venue that does not want to be asked.
    fn on_dial_reply(&mut self, _body: &[u8]) -> Result<String, NoAddress> {
        Err(Fault::Shape.into())
    }

    /// The connection is open: asks for what a fresh connection needs. All books are unknown again.
    /// That the link is up is told by whoever owns the connection.
    fn on_open(&mut self, at: Nanos, out: &mut Outbox, publish: &mut Publish<'_>);

    /// One text frame.
    fn on_frame(
        &mut self,
        arrival: Arrival,
        frame: &[u8],
        out: &mut Outbox,
        publish: &mut Publish<'_>,
    );

    /// The body of a snapshot. Without an instrument the session finds out whose it is, by what it
    /// holds: a caller that knows the symbol, even one that the session does not serve, uses
    /// [`MarketSession::on_rest`] instead.
    fn on_snapshot(
        &mut self,
        arrival: Arrival,
        instrument: Option<InstrumentId>,
        body: &[u8],
        out: &mut Outbox,
        publish: &mut Publish<'_>,
    );

    /// The body of a recorded REST reply and, where recorded, the request (`target`, path and query
    /// with or without the host). Takes snapshots of the session's own instruments; those of
    /// others are counted as `unknown_symbols`, other replies as `ignored`.
    fn on_rest(
        &mut self,
        arrival: Arrival,
        target: Option<&str>,
        body: &[u8],
        out: &mut Outbox,
        publish: &mut Publish<'_>,
    );

    /// A requested snapshot could not be fetched. It is asked for again, not at once.
    fn on_snapshot_failed(&mut self, at: Nanos, instrument: InstrumentId);

    /// The other side gave a sign of life that is no text frame: a ping, a pong.
    fn on_alive(&mut self, at: Nanos);

    /// Whether every book is known: nothing is waited for.
    fn is_whole(&self) -> bool;

    /// Time passed. Called a few times per second; repeats requests whose answer is overdue, and
    /// wants a new connection ([`Reconnect::Silent`]) where the venue's own sign of life is.
    fn on_time(&mut self, at: Nanos, out: &mut Outbox, publish: &mut Publish<'_>);

    /// The connection is lost: reports a gap for every instrument, which makes its book unusable.
    fn on_close(&mut self, at: Nanos, publish: &mut Publish<'_>);

    /// Rebuilds the book of one instrument, or all books: the caller dropped events or found the
    /// book broken. Reports the gap and asks for snapshots.
    fn resync(
        &mut self,
        at: Nanos,
        instrument: Option<InstrumentId>,
        why: GapReason,
        out: &mut Outbox,
        publish: &mut Publish<'_>,
    );

    /// The instrument of a symbol as the venue writes it, if this session serves it.
    fn instrument(&self, symbol: &str) -> Option<InstrumentId>;

    /// What was counted so far.
    fn counters(&self) -> &Counters;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dropped_frame_is_quoted_behind_the_event_that_says_so() {
        let check = |fault: Option<Fault>, frame: &[u8], want: &str| {
            let numbers = (7, fault.map_or(0, Fault::number));
            let (id, code) = (InstrumentId(3), StatusCode::Malformed);
            let event = Event::status_with(Nanos(5), id, VenueId(1), code, numbers);
            let mut said = Vec::new();
            evidence(&event, frame, &mut |it| {
                assert_eq!((it.at, it.instrument), (Nanos(5), id));
                if let News::Status { venue: VenueId(1), code: StatusCode::Said, detail, more } =
                    it.news()
                {
                    said.extend(Event::words_of(detail, more));
                }
            });
            let said = String::from_utf8(said).unwrap();
            assert_eq!(said.trim_end_matches('\0'), want);
        };
        check(Some(Fault::NotJson), b"{\"e\":\"tra", "not JSON: {\"e\":\"tra");
        check(Some(Fault::NotJson), b"", "not JSON");
        check(Some(Fault::Shape), b"a\n\0\xFF\x7Fb", "unexpected shape: a....b");
        let long = [b'['; 1_000];
        check(Some(Fault::NotJson), &long, &format!("not JSON: {}", "[".repeat(64)));
        check(Some(Fault::NotPositive), b"{\"p\":\"0\"}", "not positive");
        check(None, b"{", "");
        let other = Event::status(Nanos(5), InstrumentId(3), VenueId(1), StatusCode::Resync, 1);
        evidence(&other, b"{", &mut |_| panic!("nothing was dropped"));
    }

    #[test]
    fn faults_come_back_from_their_numbers() {
        for fault in Fault::ALL {
            assert_eq!(Fault::from_number(fault.number()), Some(fault));
            assert_eq!(fault.to_string(), fault.sentence());
        }
        assert_eq!(Fault::from_number(0), None);
        assert_eq!(Fault::from_number(12), None);
    }
}
