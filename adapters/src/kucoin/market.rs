//! Market data of one connection: trades, quotes, books.

use std::fmt::Write;
use std::sync::Arc;

use kairos_logic::event::{Event, Flags, GapReason, StatusCode};
use kairos_logic::instrument::InstrumentTable;
use kairos_logic::units::{InstrumentId, Nanos, VenueId};

use super::decode::{Decoded, Decoder, Ignored, Snapshot};
use super::dial::{self, Pings};
use super::feed::{Feed, News, Window};
use crate::capture::symbol_of;
use crate::session::{
    Arrival, Counters, Dial, Fault, MarketSession, NoAddress, Outbox, Publish, Reconnect,
    SnapshotRequest,
};
use crate::venue::levels::Sided;
use crate::venue::pace::{Budget, Pace};
use crate::venue::report::{Head, after, marked, stamped, whole};
use crate::venue::sync::{Fit, Step};
use crate::venue::trust::Trust;
use crate::venue::{SetupError, backlog};

/// Symbols of one topic, and so instruments of one connection: three topics of 100 symbols are the
/// 300 that the venue allows.
pub(super) const INSTRUMENTS_MAX: usize = 100;
/// Topics of one instrument: book, trades, quotes.
const TOPICS: [&str; 3] = ["/market/level2", "/market/match", "/market/ticker"];
/// The number of the message that subscribes to the first topic.
const FIRST_ID: u64 = 1;
/// A book that nobody changes is asked for this long after its topic was acknowledged.
const QUIET_NS: u64 = 1_000_000_000;
/// A snapshot without a name belongs to no book whose sequences are farther away than this.
const NEAR_MAX: u64 = 1_000_000;
/// The token of a connection is valid for 24 hours; it is replaced ten minutes earlier.
const AGE_MAX_NS: u64 = (24 * 60 - 10) * 60 * 1_000_000_000;
/// Snapshots of 30 seconds: of weight 2 to 3 each, of the 2 000 that the venue allows to an address.
const SNAPSHOTS_MAX: u32 = 300;
/// The 30 seconds of that budget.
const SNAPSHOTS_WITHIN_NS: u64 = 30_000_000_000;

/// What to ask the venue for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Path of a snapshot, to which the symbol is added. The whole book at
    /// `/api/v3/market/orderbook/level2?symbol=` wants a signed request; who has no credentials gets
    /// the best 100 levels a side.
    pub snapshot_path: &'static str,
    /// Levels a side that such a snapshot is cut off at; 0 where it is the whole book. What lies
    /// beyond is unknown: changes there are not reported, and a book that has fewer than 20 known
    /// levels left on a side that was cut off is fetched again, after a gap.
    pub snapshot_levels: usize,
    /// Never use the scanner: for comparisons only.
    pub tape_only: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            snapshot_path: "/api/v1/market/orderbook/level2_100?symbol=",
            snapshot_levels: 100,
            tape_only: false,
        }
    }
}

/// The subscription to one topic of all instruments.
#[derive(Debug)]
struct Topic {
    text: String,
    acknowledged: Option<Nanos>,
    pace: Pace,
}

/// The session of one market data connection. Allocates when it is made and when it is dialled;
/// afterwards only where the general parser meets a frame larger than any before.
#[derive(Debug)]
pub struct KucoinMarket {
    venue: VenueId,
    feeds: Vec<Feed>,
    decoder: Decoder,
    counters: Counters,
    budget: Budget,
    ids: Box<[InstrumentId]>, // of the feeds, in their order
    topics: [Topic; TOPICS.len()],
    snapshot_levels: usize,
    tape_only: bool,
    dialled: u64,
    pings: Pings,
    opened: Option<Nanos>,
    welcomed: bool,
    pinged: Nanos, // the last ping, or when the connection was opened
    ping_count: u64,
    ping_text: String,
    alive: Nanos, // the last sign of life
    trust: Trust,
}

impl KucoinMarket {
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
        if instruments.len() > INSTRUMENTS_MAX {
            let found = instruments.len() * TOPICS.len();
            return Err(SetupError::TooManyStreams {
                found,
                limit: INSTRUMENTS_MAX * TOPICS.len(),
            });
        }
        let decoder = Decoder::new(table, venue, instruments);
        let mut feeds = Vec::with_capacity(instruments.len());
        let mut symbols = Vec::with_capacity(instruments.len());
        for &id in instruments {
            let symbol = table.instrument(id).map(|it| it.symbol.as_str());
            let listed = symbol.and_then(|symbol| decoder.symbols.find(symbol.as_bytes()));
            let (Some(symbol), Some(listed)) = (symbol, listed.filter(|it| it.id == id)) else {
                return Err(SetupError::ForeignInstrument { id });
            };
            let path = format!("{}{symbol}", options.snapshot_path);
            feeds.push(Feed::new(listed, path, options.snapshot_levels));
            symbols.push(symbol);
        }
        let symbols = symbols.join(",");
        let mut id = FIRST_ID;
        let topics = TOPICS.map(|topic| {
            let text = format!(
                r#"{{"id":{id},"type":"subscribe","topic":"{topic}:{symbols}","privateChannel":false,"response":true}}"#
            );
            id += 1;
            Topic { text, acknowledged: None, pace: Pace::default() }
        });
        Ok(Self {
            venue,
            feeds,
            decoder,
            counters: Counters::default(),
            budget: Budget::new(SNAPSHOTS_MAX, SNAPSHOTS_WITHIN_NS),
            ids: instruments.into(),
            topics,
            snapshot_levels: options.snapshot_levels,
            tape_only: options.tape_only,
            dialled: 0,
            pings: Pings::default(),
            opened: None,
            welcomed: false,
            pinged: Nanos(0),
            ping_count: 0,
            ping_text: String::with_capacity(64),
            alive: Nanos(0),
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
        let decoded = match self.read(frame) {
            Ok(decoded) => decoded,
            Err(fault) => return self.malformed(arrival, frame, fault, out, publish),
        };
        match decoded {
            Decoded::Trade { instrument, venue_at, price, qty, id, aggressor } => {
                self.counters.trades += 1;
                let event =
                    Event::trade(arrival.at, venue_at, instrument, price, qty, id, aggressor);
                publish(stamped(event, arrival.recv));
            }
            Decoded::Quote { instrument, venue_at, sequence: _, bid, ask } => {
                self.counters.quotes += 1;
                let (bid, ask) = ((bid.price, bid.qty), (ask.price, ask.qty));
                let event = Event::quote(arrival.at, venue_at, instrument, bid, ask);
                publish(stamped(event, arrival.recv));
            }
            Decoded::Depth { instrument: _, slot, venue_at, first, last } => {
                self.depth(arrival, usize::from(slot), venue_at, (first, last), out, publish);
            }
            Decoded::Refused { instrument, code, id } => {
                self.counters.ignored += 1;
                self.refused(arrival.at, instrument, code, publish);
                if let Some(topic) = id.and_then(|id| self.topic(id)) {
                    topic.pace.failed(arrival.at);
                }
            }
            Decoded::Ignored(kind) => {
                self.counters.ignored += 1;
                self.told(arrival.at, kind, out);
            }
            Decoded::UnknownSymbol => self.counters.unknown_symbols += 1,
        }
    }

    #[inline]
    fn read(&mut self, frame: &[u8]) -> Result<Decoded, Fault> {
        let scanned = if self.tape_only { None } else { self.decoder.scan(frame) };
        if let Some(decoded) = scanned {
            return Ok(decoded);
        }
        let decoded = self.decoder.parse(frame)?;
        match decoded {
            Decoded::Trade { .. } | Decoded::Quote { .. } | Decoded::Depth { .. } => {
                self.counters.fallbacks += 1;
            }
            Decoded::Refused { .. } | Decoded::Ignored(_) | Decoded::UnknownSymbol => {}
        }
        Ok(decoded)
    }

    /// A message about the connection itself.
    fn told(&mut self, at: Nanos, kind: Ignored, out: &mut Outbox) {
        match kind {
            Ignored::Welcome => {
                self.welcomed = true;
                self.subscribe(at, out);
            }
            Ignored::Ack(id) => {
                if let Some(topic) = self.topic(id) {
                    topic.acknowledged.get_or_insert(at);
                    topic.pace.settled();
                    topic.pace.useful();
                }
            }
            Ignored::Pong | Ignored::Other => {}
        }
    }

    fn topic(&mut self, id: u64) -> Option<&mut Topic> {
        let place = usize::try_from(id.checked_sub(FIRST_ID)?).ok()?;
        self.topics.get_mut(place)
    }

    /// Subscribes to every topic that is not acknowledged, as far as pauses allow.
    fn subscribe(&mut self, at: Nanos, out: &mut Outbox) {
        for topic in self.topics.iter_mut().filter(|it| it.acknowledged.is_none()) {
            if topic.pace.may_ask(at) && out.send(&topic.text) {
                if topic.pace.is_pending() {
                    topic.pace.refused(); // the answer never came
                }
                topic.pace.asked(at);
            }
        }
    }

    fn ping(&mut self, at: Nanos, out: &mut Outbox) {
        // Behind the numbers of subscriptions, so that nobody takes the answer for theirs.
        let id = self.ping_count + 100;
        self.ping_text.clear();
        // Writing into a string does not fail.
        let _ = write!(self.ping_text, r#"{{"id":"{id}","type":"ping"}}"#);
        if out.send(&self.ping_text) {
            (self.pinged, self.ping_count) = (at, self.ping_count + 1);
        }
    }

    #[inline]
    fn depth<P: FnMut(Event) + ?Sized>(
        &mut self,
        arrival: Arrival,
        slot: usize,
        venue_at: Nanos,
        ids: (u64, u64),
        out: &mut Outbox,
        publish: &mut P,
    ) {
        let Some(feed) = self.feeds.get_mut(slot) else {
            return; // a slot comes from the table that the feeds were made with
        };
        self.counters.depth_updates += 1;
        let levels = self.decoder.levels();
        match feed.sync.update((arrival.at, venue_at), ids, levels) {
            Step::Apply => {
                let head = Head {
                    at: arrival.at,
                    recv: arrival.recv,
                    venue_at,
                    instrument: feed.listed.id,
                    update: ids.1,
                };
                feed.pace.useful(); // a snapshot is of use once an update follows on it
                let Feed { news, window, .. } = feed;
                let tagged = (levels.iter(), levels.tags());
                if let Err(why) = update(&head, *news, window, tagged, publish) {
                    self.broken(arrival.at, slot, why, out, publish);
                }
            }
            Step::Stale => self.counters.depth_stale += 1,
            Step::Buffered => {
                // There is a book, and nobody knows it: quotes must not stand in for it.
                if !std::mem::replace(&mut feed.announced, true) {
                    let (id, code) = (feed.listed.id, StatusCode::Resync);
                    publish(Event::status(arrival.at, id, self.venue, code, 0));
                }
                self.ask(arrival.at, slot, out);
            }
            Step::Gap { expected } => {
                let found = (expected, ids.0);
                self.gap(arrival.at, slot, GapReason::Sequence, found, publish);
                self.ask(arrival.at, slot, out);
            }
        }
    }

    /// Asks for the snapshot of a book, unless it is on its way, was asked for just now, or too many
    /// were.
    #[cold]
    fn ask(&mut self, at: Nanos, slot: usize, out: &mut Outbox) {
        let feed = &mut self.feeds[slot];
        if !feed.pace.may_ask(at) || !self.budget.take(at, 1) {
            return;
        }
        let (instrument, path) = (feed.listed.id, Arc::clone(&feed.path));
        if out.request(SnapshotRequest { instrument, path }) {
            self.counters.snapshot_requests += 1;
            feed.pace.asked(at);
        }
    }

    /// Reports that a book is lost.
    fn gap<P: FnMut(Event) + ?Sized>(
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
        feed.announced = true;
        let id = feed.listed.id;
        publish(Event::gap(at, id, why, expected, found));
        let detail = i64::from(why as u8);
        publish(Event::status(at, id, self.venue, StatusCode::Resync, detail));
    }

    /// A book that became unusable by what the venue says of it, or of which too little is known.
    #[cold]
    fn broken<P: FnMut(Event) + ?Sized>(
        &mut self,
        at: Nanos,
        slot: usize,
        why: GapReason,
        out: &mut Outbox,
        publish: &mut P,
    ) {
        self.feeds[slot].reset();
        if why != GapReason::Shallow {
            self.feeds[slot].pace.refused(); // a book that moved out of its window did no wrong
        }
        self.gap(at, slot, why, (0, 0), publish);
        self.ask(at, slot, out);
    }

    #[cold]
    fn refused<P: FnMut(Event) + ?Sized>(
        &mut self,
        at: Nanos,
        instrument: Option<InstrumentId>,
        code: i64,
        publish: &mut P,
    ) {
        self.counters.error_replies += 1;
        let id = instrument.unwrap_or(InstrumentId::NONE);
        publish(Event::status(at, id, self.venue, StatusCode::VenueError, code));
        Event::said(at, id, self.venue, self.decoder.words().as_bytes()).for_each(publish);
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
        let damaged = self.depth_of(frame);
        let id = damaged.map_or(InstrumentId::NONE, |slot| self.feeds[slot].listed.id);
        self.report_malformed(arrival, id, fault, out, publish);
        if let Some(slot) = damaged {
            self.feeds[slot].reset();
            self.gap(arrival.at, slot, GapReason::Malformed, (0, 0), publish);
            self.ask(arrival.at, slot, out);
        }
    }

    fn report_malformed<P: FnMut(Event) + ?Sized>(
        &mut self,
        arrival: Arrival,
        instrument: InstrumentId,
        fault: Fault,
        out: &mut Outbox,
        publish: &mut P,
    ) {
        let detail = i64::try_from(arrival.number).unwrap_or(i64::MAX);
        let (code, numbers) = (StatusCode::Malformed, (detail, fault.number()));
        publish(Event::status_with(arrival.at, instrument, self.venue, code, numbers));
        if !fault.is_invalid_value() && self.trust.malformed(arrival.at) {
            out.reconnect(Reconnect::Malformed);
        }
    }

    /// The place of a bad frame that was about a book, as far as its remains tell. Where they do
    /// not, the hole in the sequence will.
    fn depth_of(&self, frame: &[u8]) -> Option<usize> {
        let symbol = match after(frame, b"\"topic\":\"/market/level2:") {
            Some(symbol) => symbol,
            None => {
                after(frame, b"\"sequenceStart\":")?;
                after(frame, b"\"symbol\":\"")?
            }
        };
        let end = symbol.iter().position(|&byte| byte == b'"')?;
        let listed = self.decoder.symbols.find(symbol.get(..end)?)?;
        Some(usize::from(listed.slot))
    }

    /// The body of a snapshot. As [`MarketSession::on_snapshot`].
    pub fn snapshot<P: FnMut(Event) + ?Sized>(
        &mut self,
        arrival: Arrival,
        instrument: Option<InstrumentId>,
        body: &[u8],
        out: &mut Outbox,
        publish: &mut P,
    ) {
        let slot = match instrument {
            Some(id) => self.feeds.iter().position(|feed| feed.listed.id == id),
            None => match self.decoder.parse_snapshot(body, None) {
                Ok(Snapshot::Whole { sequence, .. }) => self.nearest(sequence),
                Ok(Snapshot::Refused { code }) => {
                    return self.refused(arrival.at, None, code, publish);
                }
                Err(fault) => {
                    self.counters.count_fault(fault);
                    let id = InstrumentId::NONE;
                    return self.report_malformed(arrival, id, fault, out, publish);
                }
            },
        };
        let Some(slot) = slot else {
            self.counters.unknown_symbols += 1;
            return;
        };
        if !self.feeds[slot].sync.is_waiting() {
            self.counters.snapshots_refused += 1;
            return;
        }
        let listed = self.feeds[slot].listed;
        match self.decoder.parse_snapshot(body, Some(listed)) {
            Ok(Snapshot::Whole { venue_at, sequence }) => {
                self.use_snapshot(arrival, slot, venue_at, sequence, out, publish);
            }
            Ok(Snapshot::Refused { code }) => {
                self.feeds[slot].pace.failed(arrival.at);
                self.refused(arrival.at, Some(listed.id), code, publish);
            }
            Err(fault) => {
                self.counters.count_fault(fault);
                self.feeds[slot].pace.failed(arrival.at);
                self.report_malformed(arrival, listed.id, fault, out, publish);
            }
        }
    }

    /// Whether a path gives whole books, or books that are cut off where ours may be: one that was
    /// cut off elsewhere would be taken for a whole one.
    fn takes_snapshots_of(&self, path: &str) -> bool {
        let Some((_, cut)) = path.split_once("/market/orderbook/level2") else {
            return false;
        };
        let limit = cut.strip_prefix('_').and_then(|it| it.parse().ok());
        cut.is_empty() || limit == Some(self.snapshot_levels)
    }

    fn nearest(&self, sequence: u64) -> Option<usize> {
        let feeds = (0..).zip(&self.feeds);
        let waiting = feeds.filter_map(|(n, it)| Some((n, it.sync.waiting()?)));
        backlog::nearest(waiting, sequence, NEAR_MAX)
    }

    fn use_snapshot<P: FnMut(Event) + ?Sized>(
        &mut self,
        arrival: Arrival,
        slot: usize,
        venue_at: Nanos,
        sequence: u64,
        out: &mut Outbox,
        publish: &mut P,
    ) {
        let feed = &mut self.feeds[slot];
        match feed.sync.snapshot(sequence) {
            Fit::NotWanted => self.counters.snapshots_refused += 1,
            Fit::TooOld { expected } => {
                self.counters.snapshots_refused += 1;
                feed.pace.refused();
                let (why, found) = (GapReason::SnapshotTooOld, (expected, sequence));
                self.gap(arrival.at, slot, why, found, publish);
                self.ask(arrival.at, slot, out);
            }
            Fit::Accepted => {
                feed.pace.settled();
                feed.announced = true;
                self.counters.snapshots += 1;
                if let Err(why) = self.report(arrival, slot, (venue_at, sequence), publish) {
                    self.broken(arrival.at, slot, why, out, publish);
                }
            }
        }
    }

    /// Reports a snapshot that fits and the updates that waited for it.
    fn report<P: FnMut(Event) + ?Sized>(
        &mut self,
        arrival: Arrival,
        slot: usize,
        (venue_at, sequence): (Nanos, u64),
        publish: &mut P,
    ) -> Result<(), GapReason> {
        let Feed { listed, sync, news, window, .. } = &mut self.feeds[slot];
        let levels = self.decoder.levels();
        let mut head = Head {
            at: arrival.at,
            recv: arrival.recv,
            venue_at,
            instrument: listed.id,
            update: sequence,
        };
        let edges = window.as_ref().map_or([None; 2], |it| it.edges(levels));
        *news = News { snapshot: sequence, edges };
        for (side, level, flags) in whole(levels.iter()) {
            publish(head.book(side, level, flags));
        }
        let mut result = match window {
            Some(window) => window.follow(edges, whole(levels.iter())),
            None => Ok(()),
        };
        // What waited keeps its own time of arrival; it could not be used before `recv`.
        let stale = sync.take(|waited, levels, tags| {
            (head.at, head.venue_at, head.update) = (waited.at, waited.venue_at, waited.last);
            let updated = update(&head, *news, window, (levels, tags), publish);
            result = result.and(updated);
        });
        self.counters.depth_stale += stale;
        result
    }
}

/// Reports those levels of an update that are news, and follows them where the book has edges.
#[inline]
fn update<P: FnMut(Event) + ?Sized>(
    head: &Head,
    news: News,
    window: &mut Option<Window>,
    (levels, tags): (Sided<'_>, &[u64]),
    publish: &mut P,
) -> Result<(), GapReason> {
    let tagged = levels.zip(tags).filter(|&(level, &sequence)| news.wants(level, sequence));
    let levels = tagged.map(|(level, _)| level);
    for (side, level, flags) in marked(levels.clone(), Flags::NONE) {
        publish(head.book(side, level, flags));
    }
    // Nobody waits for this any more: the events are on their way.
    match window {
        Some(window) => window.follow(news.edges, marked(levels, Flags::NONE)),
        None => Ok(()),
    }
}

impl MarketSession for KucoinMarket {
    fn venue(&self) -> VenueId {
        self.venue
    }

    fn instruments(&self) -> &[InstrumentId] {
        &self.ids
    }

    fn dial(&self) -> Dial {
        Dial::Ask(Arc::from(dial::TOKEN_PATH))
    }

    fn on_dial_reply(&mut self, body: &[u8]) -> Result<String, NoAddress> {
        let (address, pings) = dial::read(body, self.dialled + 1)?;
        (self.dialled, self.pings) = (self.dialled + 1, pings);
        Ok(address)
    }

    fn on_open(&mut self, at: Nanos, _out: &mut Outbox, _publish: &mut Publish<'_>) {
        self.opened = Some(at);
        (self.alive, self.pinged, self.welcomed) = (at, at, false);
        self.trust = Trust::default();
        for feed in &mut self.feeds {
            feed.reset();
        }
        for topic in &mut self.topics {
            (topic.acknowledged, topic.pace) = (None, Pace::default());
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

    fn on_snapshot(
        &mut self,
        arrival: Arrival,
        instrument: Option<InstrumentId>,
        body: &[u8],
        out: &mut Outbox,
        publish: &mut Publish<'_>,
    ) {
        self.snapshot(arrival, instrument, body, out, publish);
    }

    fn on_rest(
        &mut self,
        arrival: Arrival,
        target: Option<&str>,
        body: &[u8],
        out: &mut Outbox,
        publish: &mut Publish<'_>,
    ) {
        let Some(target) = target else {
            return self.snapshot(arrival, None, body, out, publish);
        };
        let path = target.split('?').next().unwrap_or_default();
        let symbol = symbol_of(target).filter(|_| self.takes_snapshots_of(path));
        match symbol.map(|symbol| self.instrument(symbol)) {
            Some(Some(id)) => self.snapshot(arrival, Some(id), body, out, publish),
            Some(None) => self.counters.unknown_symbols += 1,
            None => self.counters.ignored += 1,
        }
    }

    fn on_snapshot_failed(&mut self, at: Nanos, instrument: InstrumentId) {
        if let Some(feed) = self.feeds.iter_mut().find(|it| it.listed.id == instrument) {
            feed.pace.failed(at);
        }
    }

    fn on_alive(&mut self, at: Nanos) {
        self.alive = at;
    }

    fn is_whole(&self) -> bool {
        self.feeds.iter().all(|feed| !feed.sync.is_waiting())
    }

    fn on_time(&mut self, at: Nanos, out: &mut Outbox, _publish: &mut Publish<'_>) {
        let Some(opened) = self.opened else {
            return;
        };
        if at.since(self.alive) >= self.pings.interval_ns + self.pings.timeout_ns {
            out.reconnect(Reconnect::Silent);
        } else if at.since(opened) >= AGE_MAX_NS {
            out.reconnect(Reconnect::Age);
        }
        if !self.welcomed {
            return;
        }
        if at.since(self.pinged) >= self.pings.interval_ns {
            self.ping(at, out);
        }
        self.subscribe(at, out);
        // A book without changes is asked for only where its changes would come.
        let listening = self.topics[0].acknowledged;
        if listening.is_some_and(|since| at.since(since) >= QUIET_NS) {
            for slot in 0..self.feeds.len() {
                if self.feeds[slot].sync.is_waiting() {
                    self.ask(at, slot, out);
                }
            }
        }
    }

    fn on_close(&mut self, at: Nanos, publish: &mut Publish<'_>) {
        (self.opened, self.welcomed) = (None, false);
        for feed in &mut self.feeds {
            feed.reset();
            self.counters.gaps += 1;
            publish(Event::gap(at, feed.listed.id, GapReason::Disconnected, 0, 0));
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
                self.feeds[slot].reset();
                self.gap(at, slot, why, (0, 0), publish);
                self.ask(at, slot, out);
            }
        }
    }

    fn instrument(&self, symbol: &str) -> Option<InstrumentId> {
        let listed = self.decoder.symbols.find(symbol.as_bytes())?;
        Some(listed.id)
    }

    fn counters(&self) -> &Counters {
        &self.counters
    }
}
