//! Market data of one connection: trades, quotes, books.

use std::fmt::Write as _;

use kairos_logic::event::{Event, Flags, GapReason, StatusCode};
use kairos_logic::instrument::InstrumentTable;
use kairos_logic::units::{InstrumentId, Nanos, Price, Qty, Side, VenueId};

use super::decode::{Channel, Decoded, Decoder};
use super::instruments;
use super::sync::{Sequence, Step};
use crate::session::{Arrival, Counters, Dial, Fault, MarketSession, Outbox, Publish, Reconnect};
use crate::venue::SetupError;
use crate::venue::batch::Trade;
use crate::venue::levels::Level;
use crate::venue::pace::Pace;
use crate::venue::report::marked;
use crate::venue::standing::Standing;
use crate::venue::symbols::Listed;
use crate::venue::trust::Trust;

/// Most instruments of one connection. See [`super::LIMITS`].
pub(super) const INSTRUMENTS_MAX: usize = 20;
/// The venue's heart beats once a second. Nothing at all for this long, once it was heard, says
/// that nobody is there: four beats are missing.
const SILENT_NS: u64 = 5_000_000_000;
/// As long as no beat was heard or a book is on its way. A book is several megabytes, and shows only
/// when its last byte has come.
const LOADING_NS: u64 = 15_000_000_000;
/// Channels besides that of the books.
const CHANNELS: [&str; 3] = ["heartbeats", "market_trades", "ticker"];
/// The channel of the books. Its messages call it `l2_data`.
const BOOKS: &str = "level2";
/// Bytes of a message around the symbols.
const FRAME_OF_MESSAGE: usize = 96;

/// How to listen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Never use the scanner: for comparisons only.
    pub tape_only: bool,
}

/// One instrument of a session.
#[derive(Debug)]
struct Feed {
    listed: Listed,
    /// As the venue's list writes it.
    symbol: Box<str>,
    book: Standing,
}

/// The session of one market data connection. Allocates when it is made; afterwards only where the
/// general parser meets a frame larger than any before.
///
/// The venue counts the messages of a connection: a hole costs every book of it. A book is asked for
/// by leaving its channel and subscribing again, on the same connection and in the same count.
#[derive(Debug)]
pub struct CoinbaseMarket {
    venue: VenueId,
    feeds: Vec<Feed>,
    decoder: Decoder,
    counters: Counters,
    sequence: Sequence,
    ids: Box<[InstrumentId]>, // of the feeds, in their order
    message: String,          // room for what is sent
    tape_only: bool,
    opened: bool,
    alive: Nanos, // the last sign of life
    beating: bool,
    channels: Pace,
    channels_refused: bool,
    trust: Trust,
}

impl CoinbaseMarket {
    /// A session for these instruments of the venue. Until it is opened it takes frames as a
    /// connection whose beginning nobody saw.
    ///
    /// # Errors
    /// [`SetupError`] where the venue would not serve them on one connection: so `BTC-USD` beside
    /// `BTC-USDC`, which it sends under one name.
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
            let wire = instruments::wire_symbol(symbol);
            let sent = wire.and_then(|wire| decoder.symbols.find(wire.as_bytes()));
            if let Some(other) = sent.map(|it| it.id).filter(|&other| other != id) {
                return Err(SetupError::SameName { id, other });
            }
            room += symbol.len() + 3;
            feeds.push(Feed { listed, symbol: symbol.into(), book: Standing::default() });
        }
        Ok(Self {
            venue,
            feeds,
            decoder,
            counters: Counters::default(),
            sequence: Sequence::default(),
            ids: instruments.into(),
            message: String::with_capacity(room),
            tape_only: options.tape_only,
            opened: false,
            alive: Nanos(0),
            beating: false,
            channels: Pace::default(),
            channels_refused: false,
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
        self.alive = arrival.at;
        let scanned = if self.tape_only { None } else { self.decoder.scan(frame) };
        let decoded = match scanned {
            Some(decoded) => decoded,
            None => match self.decoder.parse(frame) {
                Ok(decoded) => {
                    self.count_fallback(decoded);
                    decoded
                }
                Err(fault) => return self.malformed(arrival, fault, out, publish),
            },
        };
        let Decoded::Message { channel, sequence } = decoded else {
            return self.refused(arrival.at, publish);
        };
        match self.sequence.step(sequence) {
            Step::Next => self.message(arrival, channel, sequence, publish),
            Step::Old => self.repeated(channel),
            Step::Hole { expected } => {
                self.lose_all(arrival.at, GapReason::Sequence, (expected, sequence), publish);
                // Nothing is wrong with this message: it may even be the snapshot of a book.
                self.message(arrival, channel, sequence, publish);
                self.ask(arrival.at, out);
            }
        }
    }

    fn count_fallback(&mut self, decoded: Decoded) {
        match decoded {
            Decoded::Message {
                channel: Channel::Trades | Channel::Ticker | Channel::Book, ..
            } => self.counters.fallbacks += 1,
            Decoded::Message { channel: Channel::Heartbeats | Channel::Other, .. }
            | Decoded::Error => {}
        }
    }

    fn repeated(&mut self, channel: Channel) {
        match channel {
            Channel::Book => self.counters.depth_stale += 1,
            Channel::Trades | Channel::Ticker | Channel::Heartbeats | Channel::Other => {
                self.counters.ignored += 1;
            }
        }
    }

    /// A message that is new.
    #[inline]
    fn message<P: FnMut(Event) + ?Sized>(
        &mut self,
        arrival: Arrival,
        channel: Channel,
        sequence: u64,
        publish: &mut P,
    ) {
        match channel {
            Channel::Trades => {
                let batch = &self.decoder.batch;
                let trades = batch.trades();
                if newest_first(trades) {
                    trades.iter().rev().for_each(|it| publish(it.event(arrival)));
                } else {
                    trades.iter().for_each(|it| publish(it.event(arrival)));
                }
                self.counters.trades += batch.trades().len() as u64;
                self.counters.ignored += batch.old_trades;
            }
            Channel::Ticker => {
                let quotes = self.decoder.batch.quotes();
                for quote in quotes {
                    publish(quote.event(arrival));
                }
                self.counters.quotes += quotes.len() as u64;
            }
            Channel::Book => self.books(arrival, sequence, publish),
            Channel::Heartbeats => {
                self.beating = true;
                self.counters.ignored += 1;
            }
            Channel::Other => self.counters.ignored += 1,
        }
        match channel {
            Channel::Trades | Channel::Ticker | Channel::Book => {
                self.counters.unknown_symbols += self.decoder.batch.unknown;
            }
            Channel::Heartbeats | Channel::Other => {}
        }
    }

    #[inline]
    fn books<P: FnMut(Event) + ?Sized>(
        &mut self,
        arrival: Arrival,
        sequence: u64,
        publish: &mut P,
    ) {
        let Self { feeds, decoder, counters, venue, .. } = self;
        for (part, levels) in decoder.batch.books() {
            let Some(feed) = feeds.get_mut(usize::from(part.slot)) else {
                continue; // a slot comes from the table that the feeds were made with
            };
            let (mut first, flags) = if part.snapshot {
                counters.snapshots += 1;
                feed.book.snapshot();
                (Flags::CLEAR, Flags::SNAPSHOT)
            } else {
                counters.depth_updates += 1;
                if !feed.book.change() {
                    counters.depth_stale += 1;
                    if feed.book.announce() {
                        let (id, code) = (feed.listed.id, StatusCode::Resync);
                        publish(Event::status(arrival.at, id, *venue, code, 0));
                    }
                    continue;
                }
                (Flags::NONE, Flags::NONE)
            };
            let head = part.head(arrival, sequence);
            if part.snapshot && levels.is_empty() {
                let nothing = Level { price: Price(0), qty: Qty(0) };
                publish(head.book(Side::Buy, nothing, first.with(flags).with(Flags::LAST)));
            }
            for (side, level, flags) in marked(levels.iter().copied(), flags) {
                publish(head.book(side, level, flags.with(first)));
                first = Flags::NONE;
            }
        }
    }

    /// Reports that the book at this place is lost.
    fn lose<P: FnMut(Event) + ?Sized>(
        &mut self,
        at: Nanos,
        slot: usize,
        why: GapReason,
        (expected, found): (u64, u64),
        publish: &mut P,
    ) {
        let Some(feed) = self.feeds.get_mut(slot) else {
            return;
        };
        self.counters.gaps += 1;
        feed.book.lost();
        let (id, detail) = (feed.listed.id, i64::from(why as u8));
        publish(Event::gap(at, id, why, expected, found));
        publish(Event::status(at, id, self.venue, StatusCode::Resync, detail));
    }

    #[cold]
    fn lose_all<P: FnMut(Event) + ?Sized>(
        &mut self,
        at: Nanos,
        why: GapReason,
        found: (u64, u64),
        publish: &mut P,
    ) {
        for slot in 0..self.feeds.len() {
            self.lose(at, slot, why, found, publish);
        }
    }

    /// Asks for every book that is waited for, unless it was asked for just now: leaves the channel
    /// and subscribes again, which begins with a snapshot.
    fn ask(&mut self, at: Nanos, out: &mut Outbox) {
        let due = |feed: &Feed| feed.book.is_due(at);
        if !self.feeds.iter().any(due) {
            return;
        }
        let Self { feeds, message, .. } = self;
        for verb in ["unsubscribe", "subscribe"] {
            let symbols = feeds.iter().filter(|it| due(it)).map(|it| &*it.symbol);
            write(message, verb, BOOKS, symbols);
            if !out.send(message) {
                return;
            }
        }
        for feed in feeds.iter_mut().filter(|it| due(it)) {
            feed.book.asked(at);
            self.counters.snapshot_requests += 1;
        }
    }

    /// Subscribes to what is no book.
    fn subscribe(&mut self, out: &mut Outbox) {
        let Self { feeds, message, .. } = self;
        for channel in CHANNELS {
            write(message, "subscribe", channel, feeds.iter().map(|it| &*it.symbol));
            out.send(message);
        }
    }

    /// The venue refuses something that was asked for and does not say what. Books that do not come
    /// are asked for again by themselves; the other channels are after a pause.
    #[cold]
    fn refused<P: FnMut(Event) + ?Sized>(&mut self, at: Nanos, publish: &mut P) {
        self.counters.ignored += 1;
        self.counters.error_replies += 1;
        let (none, venue) = (InstrumentId::NONE, self.venue);
        publish(Event::status(at, none, venue, StatusCode::VenueError, 0));
        Event::said(at, none, venue, self.decoder.words()).for_each(publish);
        self.channels.failed(at);
        self.channels_refused = true;
    }

    /// A frame that yields no event of its own. Where it was no JSON, its number is missing and the
    /// next message tells of the hole.
    #[cold]
    fn malformed<P: FnMut(Event) + ?Sized>(
        &mut self,
        arrival: Arrival,
        fault: Fault,
        out: &mut Outbox,
        publish: &mut P,
    ) {
        self.counters.count_fault(fault);
        let id = match *self.decoder.remains.slots {
            [slot] => self.ids.get(usize::from(slot)).copied(),
            _ => None,
        };
        let id = id.unwrap_or(InstrumentId::NONE);
        let detail = i64::try_from(arrival.number).unwrap_or(i64::MAX);
        let (code, numbers) = (StatusCode::Malformed, (detail, fault.number()));
        publish(Event::status_with(arrival.at, id, self.venue, code, numbers));
        if !fault.is_invalid_value() && self.trust.malformed(arrival.at) {
            out.reconnect(Reconnect::Malformed);
        }
        let Some((sequence, channel)) = self.decoder.remains.envelope else {
            return;
        };
        match self.sequence.step(sequence) {
            Step::Old => return,
            Step::Hole { expected } => {
                self.lose_all(arrival.at, GapReason::Sequence, (expected, sequence), publish);
            }
            Step::Next if channel != Channel::Book => return,
            Step::Next => {
                for slot in 0..self.feeds.len() {
                    let remains = &self.decoder.remains;
                    let named = remains.slots.iter().any(|&it| usize::from(it) == slot);
                    if named || remains.nameless {
                        self.lose(arrival.at, slot, GapReason::Malformed, (0, 0), publish);
                    }
                }
            }
        }
        self.ask(arrival.at, out);
    }
}

/// Whether a message lists its trades in the reverse of their order, as the venue does. Whoever makes
/// bars of them drops what is older than what it has seen.
#[inline]
fn newest_first(trades: &[Trade]) -> bool {
    let (Some(first), Some(last)) = (trades.first(), trades.last()) else {
        return false;
    };
    let is_same = first.instrument == last.instrument;
    first.venue_at > last.venue_at
        || (first.venue_at == last.venue_at && is_same && first.id > last.id)
}

/// Writes a request about a channel of these symbols. Heartbeats are of the connection.
fn write<'a>(
    message: &mut String,
    verb: &str,
    channel: &str,
    symbols: impl Iterator<Item = &'a str>,
) {
    message.clear();
    // Writing to text can not fail.
    let _ = write!(message, "{{\"type\":\"{verb}\",");
    if channel != CHANNELS[0] {
        message.push_str("\"product_ids\":[");
        for (n, symbol) in symbols.enumerate() {
            let comma = if n == 0 { "" } else { "," };
            let _ = write!(message, "{comma}\"{symbol}\"");
        }
        message.push_str("],");
    }
    let _ = write!(message, "\"channel\":\"{channel}\"}}");
}

impl MarketSession for CoinbaseMarket {
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
        self.alive = at;
        self.beating = false;
        self.sequence = Sequence::default();
        self.trust = Trust::default();
        (self.channels, self.channels_refused) = (Pace::default(), false);
        for feed in &mut self.feeds {
            feed.book.forget();
            if feed.book.announce() {
                // There is a book, and nobody knows it: quotes must not stand in for it.
                let (id, code) = (feed.listed.id, StatusCode::Resync);
                publish(Event::status(at, id, self.venue, code, 0));
            }
        }
        self.subscribe(out);
        let Self { feeds, message, .. } = self;
        write(message, "subscribe", BOOKS, feeds.iter().map(|it| &*it.symbol));
        if out.send(message) {
            for feed in feeds.iter_mut() {
                feed.book.asked(at);
            }
        }
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
        self.alive = at;
    }

    fn is_whole(&self) -> bool {
        self.feeds.iter().all(|feed| !feed.book.is_waiting())
    }

    fn on_time(&mut self, at: Nanos, out: &mut Outbox, _publish: &mut Publish<'_>) {
        if !self.opened {
            return;
        }
        let patience = if self.beating && self.is_whole() { SILENT_NS } else { LOADING_NS };
        if at.since(self.alive) >= patience {
            out.reconnect(Reconnect::Silent);
            return;
        }
        if self.channels_refused && self.channels.may_ask(at) {
            self.channels_refused = false;
            self.subscribe(out);
        }
        self.ask(at, out);
    }

    fn on_close(&mut self, at: Nanos, publish: &mut Publish<'_>) {
        self.opened = false;
        for feed in &mut self.feeds {
            feed.book.forget();
            feed.book.announce();
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
        for slot in 0..self.feeds.len() {
            if instrument.is_none_or(|id| id == self.feeds[slot].listed.id) {
                self.lose(at, slot, why, (0, 0), publish);
            }
        }
        self.ask(at, out);
    }

    fn instrument(&self, symbol: &str) -> Option<InstrumentId> {
        self.decoder.symbols.find(symbol.as_bytes()).map(|listed| listed.id)
    }

    fn counters(&self) -> &Counters {
        &self.counters
    }
}
