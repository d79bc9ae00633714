//! Market data of one connection: trades, quotes, books.

use std::fmt::Write as _;

use kairos_logic::event::{Event, Flags, GapReason, StatusCode};
use kairos_logic::instrument::InstrumentTable;
use kairos_logic::units::{InstrumentId, Nanos, Price, Qty, Side, VenueId};

use super::book::{Book, Fallen};
use super::decode::{Decoded, Decoder, Refusal};
use super::sync::{Act, Pulse};
use crate::session::{Arrival, Counters, Dial, Fault, MarketSession, Outbox, Publish, Reconnect};
use crate::venue::SetupError;
use crate::venue::batch::Part;
use crate::venue::levels::Level;
use crate::venue::pace::Pace;
use crate::venue::report::{after, marked};
use crate::venue::standing::Standing;
use crate::venue::symbols::Listed;
use crate::venue::trust::Trust;

/// Most instruments of one connection. See [`super::LIMITS`].
pub(super) const INSTRUMENTS_MAX: usize = 100;
/// Levels that may fall off the ends of books in one frame.
const FALLEN_MAX: usize = 1 << 13;
/// Bytes of a message around the symbols.
const FRAME_OF_MESSAGE: usize = 128;
/// Asks the venue whether it is there.
const PING: &str = "{\"method\":\"ping\"}";
/// How the venue refuses what it serves already.
const ALREADY: &[u8] = b"Already subscribed";

/// Levels a side of a book, of those that the venue has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Depth {
    /// 10.
    Ten,
    /// 25.
    TwentyFive,
    /// 100.
    #[default]
    Hundred,
    /// 500.
    FiveHundred,
    /// 1000.
    Thousand,
}

impl Depth {
    /// Every depth.
    pub const ALL: [Self; 5] =
        [Self::Ten, Self::TwentyFive, Self::Hundred, Self::FiveHundred, Self::Thousand];

    /// How many levels a side.
    #[must_use]
    pub const fn levels(self) -> usize {
        match self {
            Self::Ten => 10,
            Self::TwentyFive => 25,
            Self::Hundred => 100,
            Self::FiveHundred => 500,
            Self::Thousand => 1_000,
        }
    }
}

/// What to ask the venue for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Levels a side of the books.
    pub depth: Depth,
    /// Never use the scanner: for comparisons only.
    pub tape_only: bool,
}

/// One instrument of a session.
#[derive(Debug)]
struct Feed {
    listed: Listed,
    /// As the venue writes it.
    symbol: Box<str>,
    standing: Standing,
    book: Book,
    /// Levels a side, where the venue confirmed how many it sends.
    confirmed: Option<usize>,
    /// Which of the channels without books the venue refused.
    refused: [bool; CHANNELS.len()],
}

/// What is subscribed to besides the books.
const CHANNELS: [Channel; 2] = [
    Channel { name: "trade", more: ",\"snapshot\":false", request: 2 },
    Channel { name: "ticker", more: ",\"event_trigger\":\"bbo\"", request: 3 },
];
const BOOKS: &str = "book";
/// Number of the requests for books.
const BOOKS_REQUEST: u64 = 1;

/// A channel and how it is asked for.
#[derive(Clone, Copy)]
struct Channel {
    name: &'static str,
    more: &'static str,
    request: u64,
}

/// The session of one market data connection. Allocates when it is made; afterwards only where a
/// frame is spelled as the venue does not spell it, and for replies.
///
/// The venue numbers nothing: its checksum over the best ten levels tells whether a book is right.
/// So the session keeps the books, cut to the depth that the venue sends, and tells of levels that
/// fell off their ends, of which the venue says nothing. Nothing of an update is published before
/// its checksum is found right. Books have no update ids: [`kairos_logic::event::News::Book`] has 0.
#[derive(Debug)]
pub struct KrakenMarket {
    venue: VenueId,
    feeds: Vec<Feed>,
    decoder: Decoder,
    fallen: Fallen,
    counters: Counters,
    ids: Box<[InstrumentId]>, // of the feeds, in their order
    message: String,          // room for what is sent
    depth: Depth,
    tape_only: bool,
    opened: bool,
    pulse: Pulse,
    channels: Pace,
    trust: Trust,
}

impl KrakenMarket {
    /// A session for these instruments of the venue. Until it is opened it takes frames as a
    /// connection whose beginning nobody saw.
    ///
    /// # Errors
    /// [`SetupError`] where the venue would not serve them on one connection.
    pub fn new(
        table: &InstrumentTable,
        venue: VenueId,
        instruments: &[InstrumentId],
        options: Options,
    ) -> Result<Self, SetupError> {
        if instruments.is_empty() {
            return Err(SetupError::NoInstruments);
        }
        let (found, limit) = (instruments.len(), INSTRUMENTS_MAX);
        if found > limit {
            return Err(SetupError::TooManyStreams { found, limit });
        }
        let decoder = Decoder::new(table, venue, instruments);
        let mut feeds = Vec::with_capacity(instruments.len());
        let mut room = FRAME_OF_MESSAGE;
        for &id in instruments {
            let symbol = table.instrument(id).map(|it| it.symbol.as_str());
            let listed = symbol.and_then(|symbol| decoder.symbols.find(symbol.as_bytes()));
            let (Some(symbol), Some(listed)) = (symbol, listed.filter(|it| it.id == id)) else {
                return Err(SetupError::ForeignInstrument { id });
            };
            room += symbol.len() + 3;
            feeds.push(Feed {
                listed,
                symbol: symbol.into(),
                standing: Standing::default(),
                book: Book::new(Depth::Thousand.levels()),
                confirmed: None,
                refused: [false; CHANNELS.len()],
            });
        }
        Ok(Self {
            venue,
            feeds,
            decoder,
            fallen: Fallen::with_capacity(FALLEN_MAX),
            counters: Counters::default(),
            ids: instruments.into(),
            message: String::with_capacity(room),
            depth: options.depth,
            tape_only: options.tape_only,
            opened: false,
            pulse: Pulse::default(),
            channels: Pace::default(),
            trust: Trust::default(),
        })
    }

    /// One text frame. As [`MarketSession::on_frame`], without a call through a pointer per event.
    #[inline]
    pub fn frame<P: FnMut(Event) + ?Sized>(
        &mut self,
        arrival: Arrival,
        frame: &[u8],
        out: &mut Outbox,
        publish: &mut P,
    ) {
        self.counters.frames += 1;
        self.pulse.alive(arrival.at);
        let scanned = if self.tape_only { None } else { self.decoder.scan(frame) };
        let decoded = match scanned {
            Some(decoded) => decoded,
            None => match self.decoder.parse(frame) {
                Ok(decoded) => {
                    self.count_fallback(decoded);
                    decoded
                }
                Err(fault) => return self.malformed(arrival, frame, fault, out, publish),
            },
        };
        match decoded {
            Decoded::Trades => {
                let batch = &self.decoder.batch;
                for trade in batch.trades() {
                    publish(trade.event(arrival));
                }
                self.counters.trades += batch.trades().len() as u64;
                self.counters.ignored += batch.old_trades;
            }
            Decoded::Quotes => {
                let quotes = self.decoder.batch.quotes();
                for quote in quotes {
                    publish(quote.event(arrival));
                }
                self.counters.quotes += quotes.len() as u64;
            }
            Decoded::Books => self.books(arrival, out, publish),
            Decoded::Subscribed { slot, depth } => {
                self.counters.ignored += 1;
                if let Some(feed) = self.feeds.get_mut(usize::from(slot)) {
                    feed.confirmed = Some(usize::from(depth));
                }
            }
            Decoded::Refused(refusal) => self.refused(arrival.at, refusal, publish),
            Decoded::Heartbeat | Decoded::Ignored => self.counters.ignored += 1,
        }
        self.counters.unknown_symbols += std::mem::take(&mut self.decoder.batch.unknown);
    }

    fn count_fallback(&mut self, decoded: Decoded) {
        match decoded {
            Decoded::Trades | Decoded::Quotes | Decoded::Books => self.counters.fallbacks += 1,
            Decoded::Subscribed { .. }
            | Decoded::Refused(_)
            | Decoded::Heartbeat
            | Decoded::Ignored => {}
        }
    }

    #[inline]
    fn books<P: FnMut(Event) + ?Sized>(
        &mut self,
        arrival: Arrival,
        out: &mut Outbox,
        publish: &mut P,
    ) {
        let Self { feeds, decoder, counters, venue, fallen, depth, .. } = self;
        let mut lost = false;
        for (part, levels) in decoder.batch.books() {
            let Some(feed) = feeds.get_mut(usize::from(part.slot)) else {
                continue; // a slot comes from the table that the feeds were made with
            };
            if !part.snapshot {
                counters.depth_updates += 1;
                if feed.standing.is_waiting() {
                    counters.depth_stale += 1;
                    if feed.standing.announce() {
                        let (id, code) = (feed.listed.id, StatusCode::Resync);
                        publish(Event::status(arrival.at, id, *venue, code, 0));
                    }
                    continue;
                }
            }
            if let Err((why, found)) = feed.follow(part, levels, *depth, fallen) {
                lost = true;
                feed.lose((arrival.at, *venue), why, found, counters, publish);
                continue;
            }
            if part.snapshot {
                counters.snapshots += 1;
            }
            report(arrival, part, levels, fallen, publish);
        }
        if lost {
            self.ask(arrival.at, out);
        }
    }

    /// Asks for every book that is waited for, unless it was asked for just now.
    fn ask(&mut self, at: Nanos, out: &mut Outbox) {
        let due = |feed: &Feed| feed.standing.is_due(at);
        if !self.feeds.iter().any(due) {
            return;
        }
        let Self { feeds, message, depth, .. } = self;
        for (verb, request) in [("unsubscribe", BOOKS_REQUEST + 3), ("subscribe", BOOKS_REQUEST)] {
            let symbols = feeds.iter().filter(|it| due(it)).map(|it| &*it.symbol);
            write_books(message, (verb, request), *depth, symbols);
            if !out.send(message) {
                return;
            }
        }
        for feed in feeds.iter_mut().filter(|it| due(it)) {
            feed.standing.asked(at);
            self.counters.snapshot_requests += 1;
        }
    }

    /// Subscribes to what is no book, for the instruments that `which` says.
    fn subscribe(&mut self, out: &mut Outbox, which: impl Fn(&Feed, usize) -> bool) {
        let Self { feeds, message, .. } = self;
        for (n, channel) in CHANNELS.iter().enumerate() {
            let wanted = || feeds.iter().filter(|it| which(it, n)).map(|it| &*it.symbol);
            if wanted().next().is_some() {
                write(message, "subscribe", channel, wanted());
                out.send(message);
            }
        }
    }

    /// The venue refuses something. A book that does not come is asked for again by itself; another
    /// channel is after a pause.
    #[cold]
    fn refused<P: FnMut(Event) + ?Sized>(&mut self, at: Nanos, refusal: Refusal, publish: &mut P) {
        self.counters.ignored += 1;
        self.counters.error_replies += 1;
        let id = refusal.instrument.unwrap_or(InstrumentId::NONE);
        publish(Event::status(at, id, self.venue, StatusCode::VenueError, 0));
        Event::said(at, id, self.venue, self.decoder.words()).for_each(publish);
        let channel = CHANNELS.iter().position(|it| Some(it.request) == refusal.request);
        let Some(channel) = channel.filter(|_| !self.decoder.words().starts_with(ALREADY)) else {
            return;
        };
        self.channels.failed(at);
        for feed in &mut self.feeds {
            if refusal.instrument.is_none_or(|id| id == feed.listed.id)
                && let Some(refused) = feed.refused.get_mut(channel)
            {
                *refused = true;
            }
        }
    }

    /// A frame that yields no event of its own.
    #[cold]
    fn malformed<P: FnMut(Event) + ?Sized>(
        &mut self,
        arrival: Arrival,
        frame: &[u8],
        fault: Fault,
        out: &mut Outbox,
        publish: &mut P,
    ) {
        self.counters.count_fault(fault);
        let damaged = self.damaged(frame);
        let id = match damaged {
            Damaged::One(id) => id,
            Damaged::None | Damaged::All => InstrumentId::NONE,
        };
        let detail = i64::try_from(arrival.number).unwrap_or(i64::MAX);
        let (code, numbers) = (StatusCode::Malformed, (detail, fault.number()));
        publish(Event::status_with(arrival.at, id, self.venue, code, numbers));
        if !fault.is_invalid_value() && self.trust.malformed(arrival.at) {
            out.reconnect(Reconnect::Malformed);
        }
        let instrument = match damaged {
            Damaged::None => return,
            Damaged::One(id) => Some(id),
            Damaged::All => None,
        };
        self.lose(arrival.at, instrument, GapReason::Malformed, publish);
        self.ask(arrival.at, out);
    }

    /// Which books a bad frame may have changed, as far as its remains tell. The venue numbers
    /// nothing, and a level below the best ten that is missing would be found out late or never: in
    /// doubt it was all of them.
    fn damaged(&self, frame: &[u8]) -> Damaged {
        let Some(channel) = after(frame, b"\"channel\"").and_then(quoted) else {
            let is_reply = frame.starts_with(b"{\"method\":\"");
            return if is_reply { Damaged::None } else { Damaged::All };
        };
        match channel {
            b"trade" | b"ticker" | b"heartbeat" | b"status" => return Damaged::None,
            b"book" => {}
            _ => return Damaged::All,
        }
        let found = after(frame, b"\"symbol\"");
        let several = found.is_some_and(|rest| after(rest, b"\"symbol\"").is_some());
        let listed = found.and_then(quoted).and_then(|symbol| self.decoder.symbols.find(symbol));
        match listed.filter(|_| !several) {
            Some(listed) => Damaged::One(listed.id),
            None => Damaged::All,
        }
    }

    /// Reports that the book of one instrument is lost, or of all.
    fn lose<P: FnMut(Event) + ?Sized>(
        &mut self,
        at: Nanos,
        instrument: Option<InstrumentId>,
        why: GapReason,
        publish: &mut P,
    ) {
        let Self { feeds, counters, venue, .. } = self;
        for feed in feeds.iter_mut() {
            if instrument.is_none_or(|id| id == feed.listed.id) {
                feed.lose((at, *venue), why, (0, 0), counters, publish);
            }
        }
    }
}

/// Whose book a bad frame may have changed.
#[derive(Clone, Copy)]
enum Damaged {
    None,
    One(InstrumentId),
    All,
}

/// The text behind `:` that begins `rest`, without its quotation marks.
fn quoted(rest: &[u8]) -> Option<&[u8]> {
    let text =
        rest.trim_ascii_start().strip_prefix(b":")?.trim_ascii_start().strip_prefix(b"\"")?;
    let end = text.iter().position(|&byte| byte == b'"')?;
    text.get(..end)
}

impl Feed {
    /// Changes the book as the venue did, and compares what came out. `fallen` gets the levels that
    /// are gone without a word.
    #[inline]
    fn follow(
        &mut self,
        part: &Part,
        levels: &[(Side, Level)],
        asked: Depth,
        fallen: &mut Fallen,
    ) -> Result<(), (GapReason, (u64, u64))> {
        if part.snapshot {
            let depth = self.confirmed.unwrap_or_else(|| sent_depth(levels, asked));
            self.book.clear(depth);
            self.standing.snapshot();
        } else {
            self.standing.change();
        }
        fallen.clear();
        self.book.learn(part.decimals);
        for &(side, level) in levels {
            self.book.set(side, level, fallen);
        }
        self.book.cut(fallen);
        let found = self.book.checksum((self.listed.price_scale, self.listed.qty_scale));
        match part.checksum {
            Some(expected) if expected != found => {
                Err((GapReason::Checksum, (u64::from(expected), u64::from(found))))
            }
            _ if self.book.is_crossed() => Err((GapReason::Crossed, (0, 0))),
            _ => Ok(()),
        }
    }

    fn lose<P: FnMut(Event) + ?Sized>(
        &mut self,
        (at, venue): (Nanos, VenueId),
        why: GapReason,
        (expected, found): (u64, u64),
        counters: &mut Counters,
        publish: &mut P,
    ) {
        counters.gaps += 1;
        self.standing.lost();
        let (id, detail) = (self.listed.id, i64::from(why as u8));
        publish(Event::gap(at, id, why, expected, found));
        publish(Event::status(at, id, venue, StatusCode::Resync, detail));
    }
}

/// Levels a side that the venue sends, where it has not said so: those that were asked for, unless a
/// snapshot has exactly as many on both sides as a smaller subscription would. So does a recorded
/// one whose request is not known.
fn sent_depth(levels: &[(Side, Level)], asked: Depth) -> usize {
    let bids = levels.iter().filter(|(side, _)| *side == Side::Buy).count();
    let smaller = Depth::ALL.iter().map(|it| it.levels()).take_while(|&it| it < asked.levels());
    let same = |depth: &usize| bids == *depth && levels.len() == 2 * depth;
    smaller.clone().find(same).unwrap_or(asked.levels())
}

/// Publishes the levels of a message and the removal of those that fell off.
#[inline]
fn report<P: FnMut(Event) + ?Sized>(
    arrival: Arrival,
    part: &Part,
    levels: &[(Side, Level)],
    fallen: &Fallen,
    publish: &mut P,
) {
    let head = part.head(arrival, 0);
    let (mut first, flags) =
        if part.snapshot { (Flags::CLEAR, Flags::SNAPSHOT) } else { (Flags::NONE, Flags::NONE) };
    if part.snapshot && levels.is_empty() {
        let nothing = Level { price: Price(0), qty: Qty(0) };
        publish(head.book(Side::Buy, nothing, first.with(flags).with(Flags::LAST)));
    }
    for (side, level, flags) in marked(levels.iter().chain(fallen).copied(), flags) {
        publish(head.book(side, level, flags.with(first)));
        first = Flags::NONE;
    }
}

/// Writes a request about a channel of these symbols.
fn write<'a>(
    message: &mut String,
    verb: &str,
    channel: &Channel,
    symbols: impl Iterator<Item = &'a str>,
) {
    begin(message, verb, channel.name, symbols);
    // Writing to text can not fail.
    let _ = write!(message, "{}}},\"req_id\":{}}}", channel.more, channel.request);
}

/// As [`write`], for the books.
fn write_books<'a>(
    message: &mut String,
    (verb, request): (&str, u64),
    depth: Depth,
    symbols: impl Iterator<Item = &'a str>,
) {
    begin(message, verb, BOOKS, symbols);
    let _ = write!(message, ",\"depth\":{}}},\"req_id\":{request}}}", depth.levels());
}

fn begin<'a>(
    message: &mut String,
    verb: &str,
    channel: &str,
    symbols: impl Iterator<Item = &'a str>,
) {
    message.clear();
    let _ = write!(message, "{{\"method\":\"{verb}\",\"params\":{{\"channel\":\"{channel}\",");
    message.push_str("\"symbol\":[");
    for (n, symbol) in symbols.enumerate() {
        let comma = if n == 0 { "" } else { "," };
        let _ = write!(message, "{comma}\"{symbol}\"");
    }
    message.push(']');
}

impl MarketSession for KrakenMarket {
    fn venue(&self) -> VenueId {
        self.venue
    }

    fn instruments(&self) -> &[InstrumentId] {
        &self.ids
    }

    fn dial(&self) -> Dial {
        Dial::Path("".into())
    }

    fn on_open(&mut self, at: Nanos, out: &mut Outbox, publish: &mut Publish<'_>) {
        self.opened = true;
        self.pulse = Pulse::new(at);
        self.trust = Trust::default();
        self.channels = Pace::default();
        for feed in &mut self.feeds {
            feed.standing.forget();
            feed.confirmed = None;
            feed.refused = [false; CHANNELS.len()];
            if feed.standing.announce() {
                // There is a book, and nobody knows it: quotes must not stand in for it.
                let (id, code) = (feed.listed.id, StatusCode::Resync);
                publish(Event::status(at, id, self.venue, code, 0));
            }
        }
        let Self { feeds, message, depth, .. } = self;
        let symbols = feeds.iter().map(|it| &*it.symbol);
        write_books(message, ("subscribe", BOOKS_REQUEST), *depth, symbols);
        if out.send(message) {
            for feed in feeds.iter_mut() {
                feed.standing.asked(at);
            }
        }
        self.subscribe(out, |_, _| true);
    }

    fn on_frame(
        &mut self,
        arrival: Arrival,
        frame: &[u8],
        out: &mut Outbox,
        publish: &mut Publish<'_>,
    ) {
        self.frame(arrival, frame, out, publish);
    }

    /// Snapshots of this venue come in the stream.
    fn on_snapshot(
        &mut self,
        _arrival: Arrival,
        _instrument: Option<InstrumentId>,
        _body: &[u8],
        _out: &mut Outbox,
        _publish: &mut Publish<'_>,
    ) {
        self.counters.snapshots_refused += 1;
    }

    fn on_rest(
        &mut self,
        _arrival: Arrival,
        _target: Option<&str>,
        _body: &[u8],
        _out: &mut Outbox,
        _publish: &mut Publish<'_>,
    ) {
        self.counters.ignored += 1;
    }

    fn on_snapshot_failed(&mut self, _at: Nanos, _instrument: InstrumentId) {}

    fn on_alive(&mut self, at: Nanos) {
        self.pulse.alive(at);
    }

    fn is_whole(&self) -> bool {
        self.feeds.iter().all(|feed| !feed.standing.is_waiting())
    }

    fn on_time(&mut self, at: Nanos, out: &mut Outbox, _publish: &mut Publish<'_>) {
        if !self.opened {
            return;
        }
        match self.pulse.look(at) {
            Act::Nothing => {}
            Act::Ping => {
                out.send(PING);
            }
            Act::GiveUp => return out.reconnect(Reconnect::Silent),
        }
        let refused = self.feeds.iter().any(|feed| feed.refused.contains(&true));
        if refused && self.channels.may_ask(at) {
            self.subscribe(out, |feed, n| feed.refused.get(n) == Some(&true));
            for feed in &mut self.feeds {
                feed.refused = [false; CHANNELS.len()];
            }
        }
        self.ask(at, out);
    }

    fn on_close(&mut self, at: Nanos, publish: &mut Publish<'_>) {
        self.opened = false;
        for feed in &mut self.feeds {
            feed.standing.forget();
            feed.standing.announce();
            self.counters.gaps += 1;
            let why = GapReason::Disconnected;
            publish(Event::gap(at, feed.listed.id, why, 0, 0));
        }
    }

    fn resync(
        &mut self,
        at: Nanos,
        instrument: Option<InstrumentId>,
        why: GapReason,
        out: &mut Outbox,
        publish: &mut Publish<'_>,
    ) {
        self.lose(at, instrument, why, publish);
        self.ask(at, out);
    }

    fn instrument(&self, symbol: &str) -> Option<InstrumentId> {
        self.decoder.symbols.find(symbol.as_bytes()).map(|listed| listed.id)
    }

    fn counters(&self) -> &Counters {
        &self.counters
    }
}
