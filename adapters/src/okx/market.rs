//! Market data of one connection: trades, quotes, books.

use std::fmt::Write;
use std::sync::Arc;

use kairos_logic::event::{Event, Flags, GapReason, StatusCode};
use kairos_logic::instrument::InstrumentTable;
use kairos_logic::units::{InstrumentId, Nanos, VenueId};

use super::decode::{Decoded, Decoder, Ignored, Snapshot, Update};
use super::feed::{self, Feed};
use super::sync::{Fit, Step};
use crate::capture::symbol_of;
use crate::session::{
    Arrival, Counters, Dial, Fault, MarketSession, Outbox, Publish, Reconnect, SnapshotRequest,
};
use crate::venue::pace::Budget;
use crate::venue::report::{Head, after, marked, stamped, whole};
use crate::venue::trust::Trust;
use crate::venue::{SetupError, backlog};

/// Instruments of one connection. Their subscriptions fit into one outbox with room to spare.
pub(super) const INSTRUMENTS_MAX: usize = 240;
/// Channels of one instrument: trades, quotes, book.
const CHANNELS_EACH: usize = 3;
/// Longest text of a subscription; the venue takes 64 KB.
const TEXT_MAX: usize = 16 << 10;
/// After this much silence the venue is asked whether it is there. It cuts the connection after 30 s.
const PING_NS: u64 = 20_000_000_000;
/// After this much silence nobody is there.
const SILENT_NS: u64 = 30_000_000_000;
/// Updates that come for this long without a snapshot before them mean that there will be none.
const NO_SNAPSHOT_NS: u64 = 2_000_000_000;
/// A snapshot without a name belongs to no book whose ids are farther away than this.
const NEAR_MAX: u64 = 1_000_000;

/// Where quotes come from. All are understood whatever this says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum QuoteChannel {
    /// `bbo-tbt`: every change, at most one per 10 ms.
    #[default]
    BestLevels,
    /// `tickers`: at most one per 100 ms, and only where something traded or the best level changed.
    Tickers,
}

impl QuoteChannel {
    const fn name(self) -> &'static str {
        match self {
            Self::BestLevels => "bbo-tbt",
            Self::Tickers => "tickers",
        }
    }
}

/// What to ask the venue for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Which quotes.
    pub quotes: QuoteChannel,
    /// Never use the scanner: for comparisons only.
    pub tape_only: bool,
}

/// The session of one market data connection. Allocates when it is made; afterwards only where the
/// general parser meets a frame larger than any before.
///
/// A book begins with a snapshot in the stream. Where that does not come but updates do, it is
/// fetched by REST. A broken book is subscribed to again, which brings a new snapshot.
#[derive(Debug)]
pub struct OkxMarket {
    venue: VenueId,
    feeds: Vec<Feed>,
    decoder: Decoder,
    counters: Counters,
    ids: Box<[InstrumentId]>, // of the feeds, in their order
    subscribe: Box<[String]>,
    text: String, // of a message, while it is written
    changes: Budget,
    fetches: Budget,
    tape_only: bool,
    opened: Option<Nanos>,
    heard: Nanos, // the last message
    alive: Nanos, // the last sign of life
    pinged: bool, // since it was heard
    trust: Trust,
}

impl OkxMarket {
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
            let found = instruments.len() * CHANNELS_EACH;
            let limit = INSTRUMENTS_MAX * CHANNELS_EACH;
            return Err(SetupError::TooManyStreams { found, limit });
        }
        let decoder = Decoder::new(table, venue, instruments);
        let mut feeds = Vec::with_capacity(instruments.len());
        for &id in instruments {
            let symbol = table.instrument(id).map(|it| it.symbol.as_str());
            let listed = symbol.and_then(|symbol| decoder.symbols.find(symbol.as_bytes()));
            let (Some(symbol), Some(listed)) = (symbol, listed.filter(|it| it.id == id)) else {
                return Err(SetupError::ForeignInstrument { id });
            };
            feeds.push(Feed::new(listed, symbol));
        }
        let subscribe = subscriptions(&feeds, options.quotes);
        Ok(Self {
            venue,
            feeds,
            decoder,
            counters: Counters::default(),
            ids: instruments.into(),
            subscribe,
            text: String::with_capacity(TEXT_MAX),
            changes: feed::changes(),
            fetches: feed::fetches(),
            tape_only: options.tape_only,
            opened: None,
            heard: Nanos(0),
            alive: Nanos(0),
            pinged: false,
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
        (self.heard, self.alive, self.pinged) = (arrival.at, arrival.at, false);
        let decoded = match self.read(frame) {
            Ok(decoded) => decoded,
            Err(fault) => return self.malformed(arrival, frame, fault, out, publish),
        };
        match decoded {
            Decoded::Trades { instrument } => {
                let trades = self.decoder.trades();
                self.counters.trades += trades.len() as u64;
                for it in trades {
                    let (venue_at, aggressor) = (it.venue_at, it.aggressor);
                    let (price, qty, id) = (it.price, it.qty, it.id);
                    let event =
                        Event::trade(arrival.at, venue_at, instrument, price, qty, id, aggressor);
                    publish(stamped(event, arrival.recv));
                }
            }
            Decoded::Quote { instrument, venue_at, bid, ask } => {
                self.counters.quotes += 1;
                let (bid, ask) = ((bid.price, bid.qty), (ask.price, ask.qty));
                let event = Event::quote(arrival.at, venue_at, instrument, bid, ask);
                publish(stamped(event, arrival.recv));
            }
            Decoded::Depth { instrument: _, slot, update } => {
                self.depth(arrival, usize::from(slot), update, frame, out, publish);
            }
            Decoded::Refused { instrument, code } => {
                self.counters.ignored += 1;
                self.counters.error_replies += 1;
                self.refused(arrival.at, instrument, code, publish);
            }
            Decoded::Ignored(kind) => {
                self.counters.ignored += 1;
                match kind {
                    Ignored::ServiceUpgrade => out.reconnect(Reconnect::VenueShutdown),
                    Ignored::Reply | Ignored::Pong | Ignored::Other => {}
                }
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
            Decoded::Trades { .. } | Decoded::Quote { .. } | Decoded::Depth { .. } => {
                self.counters.fallbacks += 1;
            }
            Decoded::Refused { .. } | Decoded::Ignored(_) | Decoded::UnknownSymbol => {}
        }
        Ok(decoded)
    }

    #[inline]
    fn depth<P: FnMut(Event) + ?Sized>(
        &mut self,
        arrival: Arrival,
        slot: usize,
        update: Update,
        frame: &[u8],
        out: &mut Outbox,
        publish: &mut P,
    ) {
        if update.checksum.is_some() && !self.decoder.room.exact {
            self.be_exact(frame);
        }
        if update.snapshot {
            return self.snapshot_in_stream(arrival, slot, update, out, publish);
        }
        let Some(feed) = self.feeds.get_mut(slot) else {
            return; // a slot comes from the table that the feeds were made with
        };
        self.counters.depth_updates += 1;
        let levels = self.decoder.levels();
        match feed.chain.update((arrival.at, update.venue_at), update.ids, levels) {
            Step::Apply => {
                if self.decoder.room.exact {
                    feed.write(levels);
                    if let Err(found) = verified(feed, update) {
                        return self.broken(arrival.at, slot, found, out, publish);
                    }
                }
                let head = head(arrival, feed, update);
                for (side, level, flags) in marked(levels.iter(), Flags::NONE) {
                    publish(head.book(side, level, flags));
                }
                feed.subscribed.useful(); // a snapshot is of use once an update follows on it
                feed.fetched.useful();
            }
            Step::Stale => self.counters.depth_stale += 1,
            Step::Waits => {
                // There is a book, and nobody knows it: quotes must not stand in for it.
                if !std::mem::replace(&mut feed.announced, true) {
                    let (id, code) = (feed.listed.id, StatusCode::Resync);
                    publish(Event::status(arrival.at, id, self.venue, code, 0));
                }
                self.ask(arrival.at, out);
            }
            Step::Gap { expected, found } => {
                feed.written.forget();
                let found = (expected, found);
                self.gap(arrival.at, slot, GapReason::Sequence, found, publish);
                self.ask(arrival.at, out);
            }
        }
    }

    /// The venue sends checksums: from now on the levels keep how they were written. What was read
    /// without that waits in vain.
    #[cold]
    fn be_exact(&mut self, frame: &[u8]) {
        self.decoder.room.exact = true;
        for feed in self.feeds.iter_mut().filter(|it| it.chain.is_waiting()) {
            feed.chain.reset();
        }
        let fallbacks = self.counters.fallbacks;
        let again = self.read(frame);
        debug_assert!(again.is_ok(), "it was read just now");
        self.counters.fallbacks = fallbacks;
    }

    fn snapshot_in_stream<P: FnMut(Event) + ?Sized>(
        &mut self,
        arrival: Arrival,
        slot: usize,
        update: Update,
        out: &mut Outbox,
        publish: &mut P,
    ) {
        let Some(feed) = self.feeds.get_mut(slot) else {
            return;
        };
        feed.subscribed.settled();
        feed.fetched.settled();
        feed.chain.snapshot(update.ids);
        if self.decoder.room.exact {
            feed.written.begin();
            feed.write(self.decoder.levels());
            if let Err(found) = verified(feed, update) {
                return self.broken(arrival.at, slot, found, out, publish);
            }
        }
        self.counters.snapshots += 1;
        feed.announced = true;
        let head = head(arrival, &self.feeds[slot], update);
        for (side, level, flags) in whole(self.decoder.levels().iter()) {
            publish(head.book(side, level, flags));
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

    /// A book whose checksum is another one: `expected` is the venue's.
    #[cold]
    fn broken<P: FnMut(Event) + ?Sized>(
        &mut self,
        at: Nanos,
        slot: usize,
        (expected, found): (u32, u32),
        out: &mut Outbox,
        publish: &mut P,
    ) {
        self.feeds[slot].reset();
        self.feeds[slot].subscribed.refused();
        let found = (u64::from(expected), u64::from(found));
        self.gap(at, slot, GapReason::Checksum, found, publish);
        self.ask(at, out);
    }

    /// Asks for every book that waits, as far as pauses and budgets allow: by subscribing again, or
    /// by REST where updates come without a snapshot, or no subscription is left for this hour.
    #[cold]
    fn ask(&mut self, at: Nanos, out: &mut Outbox) {
        let due = |feed: &Feed| {
            let fetching = feed.fetched.is_pending() && !feed.fetched.may_ask(at);
            feed.chain.is_waiting() && feed.subscribed.may_ask(at) && !fetching
        };
        let any_due = self.feeds.iter().any(due);
        let exhausted = any_due && !self.changes.take(at, 2);
        if any_due && !exhausted {
            self.subscribe_again(at, due, out);
        }
        for feed in &mut self.feeds {
            let goes_on = feed.chain.waiting().is_some_and(|it| it.first().is_some());
            let in_vain =
                feed.subscribed.is_pending() && at.since(feed.subscribed_at) >= NO_SNAPSHOT_NS;
            let wanted = goes_on && (in_vain || exhausted) && feed.fetched.may_ask(at);
            if !wanted || !self.fetches.take(at, 1) {
                continue;
            }
            let (instrument, path) = (feed.listed.id, Arc::clone(&feed.path));
            if out.request(SnapshotRequest { instrument, path }) {
                self.counters.snapshot_requests += 1;
                if feed.fetched.is_pending() {
                    feed.fetched.refused(); // it never came
                }
                feed.fetched.asked(at);
            }
        }
    }

    /// One pair of messages for all books that are due.
    fn subscribe_again(&mut self, at: Nanos, due: impl Fn(&Feed) -> bool, out: &mut Outbox) {
        let mut sent = true;
        for verb in ["unsubscribe", "subscribe"] {
            begin(&mut self.text, verb);
            for feed in self.feeds.iter().filter(|feed| due(feed)) {
                add(&mut self.text, "books", &feed.symbol);
            }
            end(&mut self.text);
            sent = sent && out.send(&self.text);
        }
        if !sent {
            return; // there is no room; the next call tries again
        }
        for feed in self.feeds.iter_mut().filter(|feed| due(feed)) {
            self.counters.snapshot_requests += 1;
            if feed.subscribed.is_pending() {
                feed.subscribed.refused(); // it never came
            }
            feed.subscribed.asked(at);
            feed.subscribed_at = at;
        }
    }

    #[cold]
    fn refused<P: FnMut(Event) + ?Sized>(
        &mut self,
        at: Nanos,
        instrument: Option<InstrumentId>,
        code: i64,
        publish: &mut P,
    ) {
        if let Some(feed) = self.feeds.iter_mut().find(|it| Some(it.listed.id) == instrument)
            && feed.chain.is_waiting()
        {
            feed.subscribed.failed(at);
        }
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
            self.ask(arrival.at, out);
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
    /// not, the next update will.
    fn depth_of(&self, frame: &[u8]) -> Option<usize> {
        let channel = after(frame, b"\"channel\":\"")?;
        if !channel.starts_with(b"books") || channel.starts_with(b"books5\"") {
            return None;
        }
        let symbol = after(channel, b"\"instId\":\"")?;
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
                Ok(Snapshot::Whole { seq, .. }) => self.nearest(seq),
                Ok(Snapshot::Refused { code }) => {
                    self.counters.error_replies += 1;
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
        if !self.feeds[slot].chain.is_waiting() {
            self.counters.snapshots_refused += 1;
            return;
        }
        let listed = self.feeds[slot].listed;
        match self.decoder.parse_snapshot(body, Some(listed)) {
            Ok(Snapshot::Whole { venue_at, seq }) => {
                let update =
                    Update { venue_at, snapshot: true, ids: Some((seq, seq)), checksum: None };
                self.use_snapshot(arrival, slot, update, seq, out, publish);
            }
            Ok(Snapshot::Refused { code }) => {
                self.counters.error_replies += 1;
                self.feeds[slot].fetched.failed(arrival.at);
                self.refused(arrival.at, Some(listed.id), code, publish);
            }
            Err(fault) => {
                self.counters.count_fault(fault);
                self.feeds[slot].fetched.failed(arrival.at);
                self.report_malformed(arrival, listed.id, fault, out, publish);
            }
        }
    }

    fn nearest(&self, seq: u64) -> Option<usize> {
        let feeds = (0..).zip(&self.feeds);
        let waiting = feeds.filter_map(|(n, it)| Some((n, it.chain.waiting()?)));
        backlog::nearest(waiting, seq, NEAR_MAX)
    }

    fn use_snapshot<P: FnMut(Event) + ?Sized>(
        &mut self,
        arrival: Arrival,
        slot: usize,
        update: Update,
        seq: u64,
        out: &mut Outbox,
        publish: &mut P,
    ) {
        let feed = &mut self.feeds[slot];
        match feed.chain.fetched(seq) {
            Fit::NotWanted => self.counters.snapshots_refused += 1,
            Fit::TooOld { expected } => {
                self.counters.snapshots_refused += 1;
                feed.fetched.refused();
                let (why, found) = (GapReason::SnapshotTooOld, (expected, seq));
                self.gap(arrival.at, slot, why, found, publish);
                self.ask(arrival.at, out);
            }
            Fit::Accepted => {
                feed.subscribed.settled();
                feed.fetched.settled();
                feed.announced = true;
                self.counters.snapshots += 1;
                let exact = self.decoder.room.exact;
                if exact {
                    feed.written.begin();
                    feed.write(self.decoder.levels());
                }
                let head = head(arrival, feed, update);
                for (side, level, flags) in whole(self.decoder.levels().iter()) {
                    publish(head.book(side, level, flags));
                }
                // What waited keeps its own time of arrival; it could not be used before `recv`.
                let Feed { listed, chain, written, .. } = feed;
                let stale = chain.take(|waited, levels, tags| {
                    let head = Head {
                        at: waited.at,
                        recv: arrival.recv,
                        venue_at: waited.venue_at,
                        instrument: listed.id,
                        update: waited.last,
                    };
                    if exact {
                        for ((side, level), &tag) in levels.clone().zip(tags) {
                            written.apply(side, level, tag);
                        }
                    }
                    for (side, level, flags) in marked(levels, Flags::NONE) {
                        publish(head.book(side, level, flags));
                    }
                });
                self.counters.depth_stale += stale;
            }
        }
    }
}

/// What the levels of an update or a snapshot have in common.
#[inline]
fn head(arrival: Arrival, feed: &Feed, update: Update) -> Head {
    Head {
        at: arrival.at,
        recv: arrival.recv,
        venue_at: update.venue_at,
        instrument: feed.listed.id,
        update: update.ids.map_or(0, |(_, seq)| seq),
    }
}

/// The book as it was written against the venue's checksum: theirs and ours where they differ.
fn verified(feed: &mut Feed, update: Update) -> Result<(), (u32, u32)> {
    let Some(expected) = update.checksum else {
        return Ok(());
    };
    if !feed.written.is_whole() {
        return Err((expected, 0)); // the checksums began after the snapshot
    }
    let found = feed.written.checksum();
    if found == expected { Ok(()) } else { Err((expected, found)) }
}

/// The texts that subscribe to every channel of these instruments.
fn subscriptions(feeds: &[Feed], quotes: QuoteChannel) -> Box<[String]> {
    let mut texts = Vec::new();
    let mut text = String::new();
    for feed in feeds {
        for channel in ["trades", quotes.name(), "books"] {
            let more = channel.len() + feed.symbol.len() + 32; // with what is around them
            if !text.is_empty() && text.len() + more > TEXT_MAX {
                end(&mut text);
                texts.push(std::mem::take(&mut text));
            }
            if text.is_empty() {
                begin(&mut text, "subscribe");
            }
            add(&mut text, channel, &feed.symbol);
        }
    }
    end(&mut text);
    texts.push(text);
    texts.into()
}

fn begin(text: &mut String, verb: &str) {
    text.clear();
    // Writing into a string does not fail.
    let _ = write!(text, "{{\"op\":\"{verb}\",\"args\":[");
}

fn add(text: &mut String, channel: &str, symbol: &str) {
    let comma = if text.ends_with('[') { "" } else { "," };
    let _ = write!(text, "{comma}{{\"channel\":\"{channel}\",\"instId\":\"{symbol}\"}}");
}

fn end(text: &mut String) {
    text.push_str("]}");
}

impl MarketSession for OkxMarket {
    fn venue(&self) -> VenueId {
        self.venue
    }

    fn instruments(&self) -> &[InstrumentId] {
        &self.ids
    }

    fn dial(&self) -> Dial {
        Dial::Path(Arc::from("")) // the configured address has the path
    }

    fn on_open(&mut self, at: Nanos, out: &mut Outbox, _publish: &mut Publish<'_>) {
        self.opened = Some(at);
        (self.heard, self.alive, self.pinged) = (at, at, false);
        self.trust = Trust::default();
        self.changes = feed::changes();
        for feed in &mut self.feeds {
            feed.open(at);
        }
        for text in &self.subscribe {
            self.changes.take(at, 1);
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
        let symbol = symbol_of(target).filter(|_| path.ends_with("/market/books"));
        match symbol.map(|symbol| self.instrument(symbol)) {
            Some(Some(id)) => self.snapshot(arrival, Some(id), body, out, publish),
            Some(None) => self.counters.unknown_symbols += 1,
            None => self.counters.ignored += 1,
        }
    }

    fn on_snapshot_failed(&mut self, at: Nanos, instrument: InstrumentId) {
        if let Some(feed) = self.feeds.iter_mut().find(|it| it.listed.id == instrument) {
            feed.fetched.failed(at);
        }
    }

    fn on_alive(&mut self, at: Nanos) {
        self.alive = at;
    }

    fn is_whole(&self) -> bool {
        self.feeds.iter().all(|feed| !feed.chain.is_waiting())
    }

    fn on_time(&mut self, at: Nanos, out: &mut Outbox, _publish: &mut Publish<'_>) {
        if self.opened.is_none() {
            return;
        }
        if at.since(self.alive) >= SILENT_NS {
            out.reconnect(Reconnect::Silent);
        } else if at.since(self.heard) >= PING_NS && !self.pinged {
            self.pinged = out.send("ping");
        }
        if !self.is_whole() {
            self.ask(at, out);
        }
    }

    fn on_close(&mut self, at: Nanos, publish: &mut Publish<'_>) {
        self.opened = None;
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
            }
        }
        self.ask(at, out);
    }

    fn instrument(&self, symbol: &str) -> Option<InstrumentId> {
        let listed = self.decoder.symbols.find(symbol.as_bytes())?;
        Some(listed.id)
    }

    fn counters(&self) -> &Counters {
        &self.counters
    }
}
