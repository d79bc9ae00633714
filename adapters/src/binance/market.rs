//! Market data of one connection: trades, quotes, books.

use std::sync::Arc;

use kairos_logic::book::DEPTH_MAX;
use kairos_logic::event::{Event, Flags, GapReason, StatusCode};
use kairos_logic::instrument::InstrumentTable;
use kairos_logic::units::{InstrumentId, Nanos, VenueId};

use super::decode::{Decoded, Decoder, Ignored, Snapshot};
use super::feed::{self, Feed};
use crate::capture::symbol_of;
use crate::session::{Arrival, Counters, Dial, Fault, MarketSession, Outbox, Publish, Reconnect};
use crate::venue::pace::Budget;
use crate::venue::report::{Head, Marked, after, marked, stamped, whole};
use crate::venue::symbols::Listed;
use crate::venue::sync::{Fit, Step};
use crate::venue::trust::Trust;
use crate::venue::{SetupError, backlog};

/// A book that nobody changes is asked for this long after the connection opened.
const QUIET_NS: u64 = 1_000_000_000;
/// A snapshot without a name belongs to no book whose update ids are farther away than this: an
/// hour of the busiest pair.
const NEAR_MAX: u64 = 1_000_000;
/// The venue closes a connection after 24 hours; it is replaced ten minutes earlier.
const AGE_MAX_NS: u64 = (24 * 60 - 10) * 60 * 1_000_000_000;
/// The venue pings every 20 s. Two of them missing say that nobody is there.
const SILENT_NS: u64 = 45_000_000_000;
/// Most streams of one connection.
pub(super) const STREAMS_MAX: usize = 1_024;
/// Streams of one instrument: trades, quotes, book.
pub(super) const STREAMS_EACH: usize = 3;

/// Which trades to subscribe to. Both are understood whatever this says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TradeStream {
    /// Every trade.
    #[default]
    Trade,
    /// Trades of one order at one price as one.
    AggTrade,
}

/// What to ask the venue for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Which trades.
    pub trades: TradeStream,
    /// Levels a side of a snapshot, at most 5000. Weight 50 up to 1000, 250 above.
    pub snapshot_levels: u16,
    /// Levels a side of the books behind the session. It keeps its own of the same size, to notice
    /// where they break: a book that crosses or runs out of known levels needs a new snapshot.
    /// With 0 it keeps none, which saves a third of a depth frame's time: whoever reads the events
    /// then notices, and says so by [`MarketSession::resync`].
    pub book_depth: usize,
    /// Whether to subscribe by a message when the connection opens; otherwise the streams stand
    /// in [`BinanceMarket::stream_path`].
    pub subscribe_by_message: bool,
    /// Never use the scanner: for comparisons only.
    pub tape_only: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            trades: TradeStream::Trade,
            snapshot_levels: 1_000,
            book_depth: DEPTH_MAX,
            subscribe_by_message: false,
            tape_only: false,
        }
    }
}

/// The session of one market data connection. Allocates when it is made; afterwards only where the
/// general parser meets a frame larger than any before.
#[derive(Debug)]
pub struct BinanceMarket {
    venue: VenueId,
    feeds: Vec<Feed>,
    decoder: Decoder,
    counters: Counters,
    budget: Budget,
    ids: Box<[InstrumentId]>, // of the feeds, in their order
    stream_path: Arc<str>,
    subscribe: Option<String>,
    tape_only: bool,
    opened: Option<Nanos>,
    alive: Nanos, // the last sign of life
    trust: Trust,
}

impl BinanceMarket {
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
        let (found, limit) = (instruments.len() * STREAMS_EACH, STREAMS_MAX);
        if found > limit {
            return Err(SetupError::TooManyStreams { found, limit });
        }
        let decoder = Decoder::new(table, venue, instruments);
        let snapshot_levels = options.snapshot_levels.clamp(1, 5_000);
        let mut feeds = Vec::with_capacity(instruments.len());
        let mut streams = Vec::with_capacity(found);
        for &id in instruments {
            let symbol = table.instrument(id).map(|it| it.symbol.as_str());
            let listed = symbol.and_then(|symbol| decoder.symbols.find(symbol.as_bytes()));
            let (Some(symbol), Some(listed)) = (symbol, listed.filter(|it| it.id == id)) else {
                return Err(SetupError::ForeignInstrument { id });
            };
            let lower = symbol.to_ascii_lowercase();
            let trades = match options.trades {
                TradeStream::Trade => "trade",
                TradeStream::AggTrade => "aggTrade",
            };
            streams.extend([
                format!("{lower}@{trades}"),
                format!("{lower}@bookTicker"),
                format!("{lower}@depth@100ms"),
            ]);
            feeds.push(Feed::new(listed, symbol, snapshot_levels, options.book_depth));
        }
        let (stream_path, subscribe) = if options.subscribe_by_message {
            let list = streams.join("\",\"");
            let text = format!("{{\"method\":\"SUBSCRIBE\",\"params\":[\"{list}\"],\"id\":1}}");
            (Arc::from("/stream"), Some(text))
        } else {
            (format!("/stream?streams={}", streams.join("/")).into(), None)
        };
        Ok(Self {
            venue,
            feeds,
            decoder,
            counters: Counters::default(),
            budget: feed::budget(snapshot_levels),
            ids: instruments.into(),
            stream_path,
            subscribe,
            tape_only: options.tape_only,
            opened: None,
            alive: Nanos(0),
            trust: Trust::default(),
        })
    }

    /// Path and query of the WebSocket address, behind host and port.
    #[must_use]
    pub fn stream_path(&self) -> &str {
        &self.stream_path
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
                Err(fault) => return self.malformed(arrival, frame, fault, out, publish),
            },
        };
        match decoded {
            Decoded::Trade { instrument, venue_at, price, qty, id, aggressor } => {
                self.counters.trades += 1;
                let event =
                    Event::trade(arrival.at, venue_at, instrument, price, qty, id, aggressor);
                publish(stamped(event, arrival.recv));
            }
            Decoded::Quote { instrument, update: _, bid, ask } => {
                self.counters.quotes += 1;
                let (bid, ask) = ((bid.price, bid.qty), (ask.price, ask.qty));
                let event = Event::quote(arrival.at, Nanos(0), instrument, bid, ask);
                publish(stamped(event, arrival.recv));
            }
            Decoded::Depth { instrument: _, slot, venue_at, first, last } => {
                self.depth(arrival, slot, venue_at, (first, last), out, publish)
            }
            Decoded::Refused { code } => {
                self.counters.ignored += 1;
                self.refused(arrival.at, InstrumentId::NONE, code, publish);
            }
            Decoded::Ignored(kind) => self.ignored(kind, out),
            Decoded::UnknownSymbol => self.counters.unknown_symbols += 1,
        }
    }

    fn count_fallback(&mut self, decoded: Decoded) {
        match decoded {
            Decoded::Trade { .. } | Decoded::Quote { .. } | Decoded::Depth { .. } => {
                self.counters.fallbacks += 1;
            }
            Decoded::Refused { .. } | Decoded::Ignored(_) | Decoded::UnknownSymbol => {}
        }
    }

    fn ignored(&mut self, kind: Ignored, out: &mut Outbox) {
        self.counters.ignored += 1;
        match kind {
            Ignored::ServerShutdown => out.reconnect(Reconnect::VenueShutdown),
            Ignored::Reply | Ignored::Other => {}
        }
    }

    #[inline]
    fn depth<P: FnMut(Event) + ?Sized>(
        &mut self,
        arrival: Arrival,
        slot: u16,
        venue_at: Nanos,
        ids: (u64, u64),
        out: &mut Outbox,
        publish: &mut P,
    ) {
        let Some(feed) = self.feeds.get_mut(usize::from(slot)) else {
            return; // a slot comes from the table that the feeds were made with
        };
        self.counters.depth_updates += 1;
        let levels = &self.decoder.levels;
        match feed.sync.update((arrival.at, venue_at), ids, levels) {
            Step::Apply => {
                let head = Head {
                    at: arrival.at,
                    recv: arrival.recv,
                    venue_at,
                    instrument: feed.listed.id,
                    update: ids.1,
                };
                for (side, level, flags) in marked(levels.iter(), Flags::NONE) {
                    publish(head.book(side, level, flags));
                }
                // Nobody waits for this any more: the events are on their way.
                let broken = marked(levels.iter(), Flags::NONE)
                    .try_for_each(|(side, level, flags)| feed.follow(side, level, flags));
                if let Err(why) = broken {
                    self.broken(arrival.at, usize::from(slot), why, out, publish);
                }
            }
            Step::Stale => self.counters.depth_stale += 1,
            Step::Buffered => {
                // There is a book, and nobody knows it: quotes must not stand in for it.
                if !std::mem::replace(&mut feed.announced, true) {
                    let (id, code) = (feed.listed.id, StatusCode::Resync);
                    publish(Event::status(arrival.at, id, self.venue, code, 0));
                }
                feed.ask(arrival.at, &mut self.budget, &mut self.counters, out);
            }
            Step::Gap { expected } => {
                let feed = usize::from(slot);
                let found = (expected, ids.0);
                self.gap(arrival.at, feed, GapReason::Sequence, found, out, publish);
            }
        }
    }

    /// Reports that a book is lost and asks for its snapshot. What waits in its `sync` is left.
    fn gap<P: FnMut(Event) + ?Sized>(
        &mut self,
        at: Nanos,
        feed: usize,
        why: GapReason,
        (expected, found): (u64, u64),
        out: &mut Outbox,
        publish: &mut P,
    ) {
        let Some(feed) = self.feeds.get_mut(feed) else {
            return;
        };
        self.counters.gaps += 1;
        feed.announced = true;
        let id = feed.listed.id;
        publish(Event::gap(at, id, why, expected, found));
        let detail = i64::from(why as u8);
        publish(Event::status(at, id, self.venue, StatusCode::Resync, detail));
        feed.ask(at, &mut self.budget, &mut self.counters, out);
    }

    /// Reports what the venue refuses, in its own words.
    #[cold]
    fn refused<P: FnMut(Event) + ?Sized>(
        &mut self,
        at: Nanos,
        instrument: InstrumentId,
        code: i64,
        publish: &mut P,
    ) {
        self.counters.error_replies += 1;
        publish(Event::status(at, instrument, self.venue, StatusCode::VenueError, code));
        let words = self.decoder.words().as_bytes();
        Event::said(at, instrument, self.venue, words).for_each(publish);
    }

    /// A frame that yields no event of its own. Cold.
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
        let id = damaged.map_or(InstrumentId::NONE, |feed| self.feeds[feed].listed.id);
        self.report_malformed(arrival, id, fault, out, publish);
        if let Some(feed) = damaged {
            self.feeds[feed].reset();
            self.gap(arrival.at, feed, GapReason::Malformed, (0, 0), out, publish);
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
        if fault.is_invalid_value() {
            return;
        }
        if self.trust.malformed(arrival.at) {
            out.reconnect(Reconnect::Malformed);
        }
    }

    /// The feed of a bad frame that was a book update, as far as its remains tell. Where they do
    /// not, the hole in the update ids will.
    fn depth_of(&self, frame: &[u8]) -> Option<usize> {
        let stream = after(frame, b"\"stream\":\"");
        if let Some(name) = stream {
            let named = |feed: &Feed| {
                let rest = name.strip_prefix(&*feed.stream);
                rest.is_some_and(|rest| rest.starts_with(b"@depth"))
            };
            if let Some(feed) = self.feeds.iter().position(named) {
                return Some(feed);
            }
        }
        after(frame, b"depthUpdate")?;
        let symbol = after(frame, b"\"s\":\"")?;
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
        let feed = match instrument {
            Some(id) => self.feeds.iter().position(|feed| feed.listed.id == id),
            None => match self.decoder.snapshot_id(body) {
                Ok(Snapshot::Whole { update }) => self.nearest(update),
                Ok(Snapshot::Refused { code }) => {
                    return self.refused(arrival.at, InstrumentId::NONE, code, publish);
                }
                Err(fault) => {
                    self.counters.count_fault(fault);
                    let id = InstrumentId::NONE;
                    return self.report_malformed(arrival, id, fault, out, publish);
                }
            },
        };
        let Some(feed) = feed else {
            self.counters.unknown_symbols += 1;
            return;
        };
        if !self.feeds[feed].sync.is_waiting() {
            self.counters.snapshots_refused += 1;
            return;
        }
        let listed = self.feeds[feed].listed;
        match self.read_snapshot(body, listed) {
            Ok(Snapshot::Whole { update }) => {
                self.use_snapshot(arrival, feed, update, out, publish);
            }
            Ok(Snapshot::Refused { code }) => {
                self.feeds[feed].failed(arrival.at);
                self.refused(arrival.at, listed.id, code, publish);
            }
            Err(fault) => {
                self.counters.count_fault(fault);
                self.feeds[feed].failed(arrival.at);
                self.report_malformed(arrival, listed.id, fault, out, publish);
            }
        }
    }

    fn read_snapshot(&mut self, body: &[u8], listed: Listed) -> Result<Snapshot, Fault> {
        let scanned = if self.tape_only { None } else { self.decoder.scan_snapshot(body, listed) };
        if let Some(update) = scanned {
            return Ok(Snapshot::Whole { update });
        }
        let snapshot = self.decoder.parse_snapshot(body, Some(listed))?;
        self.counters.fallbacks += u64::from(matches!(snapshot, Snapshot::Whole { .. }));
        Ok(snapshot)
    }

    fn nearest(&self, id: u64) -> Option<usize> {
        let feeds = (0..).zip(&self.feeds);
        let waiting = feeds.filter_map(|(n, it)| Some((n, it.sync.waiting()?)));
        backlog::nearest(waiting, id, NEAR_MAX)
    }

    fn use_snapshot<P: FnMut(Event) + ?Sized>(
        &mut self,
        arrival: Arrival,
        slot: usize,
        update: u64,
        out: &mut Outbox,
        publish: &mut P,
    ) {
        let feed = &mut self.feeds[slot];
        match feed.sync.snapshot(update) {
            Fit::NotWanted => self.counters.snapshots_refused += 1,
            Fit::TooOld { expected } => {
                self.counters.snapshots_refused += 1;
                feed.refused();
                let (why, found) = (GapReason::SnapshotTooOld, (expected, update));
                self.gap(arrival.at, slot, why, found, out, publish);
            }
            Fit::Accepted => {
                feed.pace.settled();
                self.counters.snapshots += 1;
                feed.announced = true;
                if let Err(why) = self.report_snapshot(arrival, slot, update, publish) {
                    self.broken(arrival.at, slot, why, out, publish);
                }
            }
        }
    }

    /// Reports a snapshot that fits and the updates that waited for it.
    fn report_snapshot<P: FnMut(Event) + ?Sized>(
        &mut self,
        arrival: Arrival,
        slot: usize,
        update: u64,
        publish: &mut P,
    ) -> Result<(), GapReason> {
        let Feed { listed, sync, book, .. } = &mut self.feeds[slot];
        let levels = &self.decoder.levels;
        let mut head = Head {
            at: arrival.at,
            recv: arrival.recv,
            venue_at: Nanos(0),
            instrument: listed.id,
            update,
        };
        let mut result = Ok(());
        let mut report = |head: &Head, (side, level, flags): Marked| {
            publish(head.book(side, level, flags));
            if let Some(book) = book {
                result = result.and(book.apply(side, level.price, level.qty, flags));
            }
        };
        for level in whole(levels.iter()) {
            report(&head, level);
        }
        // What waited keeps its own time of arrival; it could not be used before `recv`.
        let stale = sync.take(|waited, levels, _| {
            (head.at, head.venue_at, head.update) = (waited.at, waited.venue_at, waited.last);
            for level in marked(levels, Flags::NONE) {
                report(&head, level);
            }
        });
        self.counters.depth_stale += stale;
        result
    }

    /// A book that became unusable by what the venue says of it.
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
        self.feeds[slot].refused();
        self.gap(at, slot, why, (0, 0), out, publish);
    }
}

impl MarketSession for BinanceMarket {
    fn venue(&self) -> VenueId {
        self.venue
    }

    fn instruments(&self) -> &[InstrumentId] {
        &self.ids
    }

    fn dial(&self) -> Dial {
        Dial::Path(Arc::clone(&self.stream_path))
    }

    fn on_open(&mut self, at: Nanos, out: &mut Outbox, _publish: &mut Publish<'_>) {
        self.opened = Some(at);
        self.alive = at;
        self.trust = Trust::default();
        for feed in &mut self.feeds {
            feed.reset();
        }
        if let Some(text) = &self.subscribe {
            out.send(text);
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
        let symbol = symbol_of(target).filter(|_| path.ends_with("/depth"));
        match symbol.map(|symbol| self.instrument(symbol)) {
            Some(Some(id)) => self.snapshot(arrival, Some(id), body, out, publish),
            Some(None) => self.counters.unknown_symbols += 1,
            None => self.counters.ignored += 1,
        }
    }

    fn on_snapshot_failed(&mut self, at: Nanos, instrument: InstrumentId) {
        let failed = |feed: &&mut Feed| feed.listed.id == instrument;
        if let Some(feed) = self.feeds.iter_mut().find(failed) {
            feed.failed(at);
        }
    }

    fn on_time(&mut self, at: Nanos, out: &mut Outbox, _publish: &mut Publish<'_>) {
        let Some(opened) = self.opened else {
            return;
        };
        let age = at.since(opened);
        if at.since(self.alive) >= SILENT_NS {
            out.reconnect(Reconnect::Silent);
        } else if age >= AGE_MAX_NS {
            out.reconnect(Reconnect::Age);
        }
        if age >= QUIET_NS {
            for feed in self.feeds.iter_mut().filter(|it| it.sync.is_waiting()) {
                feed.ask(at, &mut self.budget, &mut self.counters, out);
            }
        }
    }

    fn on_close(&mut self, at: Nanos, publish: &mut Publish<'_>) {
        self.opened = None;
        for feed in &mut self.feeds {
            feed.reset();
            self.counters.gaps += 1;
            let why = GapReason::Disconnected;
            publish(Event::gap(at, feed.listed.id, why, 0, 0));
        }
    }

    fn on_alive(&mut self, at: Nanos) {
        self.alive = at;
    }

    fn is_whole(&self) -> bool {
        self.feeds.iter().all(|feed| !feed.sync.is_waiting())
    }

    fn resync(
        &mut self,
        at: Nanos,
        instrument: Option<InstrumentId>,
        why: GapReason,
        out: &mut Outbox,
        publish: &mut Publish<'_>,
    ) {
        for feed in 0..self.feeds.len() {
            if instrument.is_none_or(|id| id == self.feeds[feed].listed.id) {
                self.feeds[feed].reset();
                self.gap(at, feed, why, (0, 0), out, publish);
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
