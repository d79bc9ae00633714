//! A feed from a socket: polls, never waits for the network.
//!
//! # Limits
//! Connecting again after a lost link waits for the handshake on the feed's own thread. That is
//! bounded and loopback only in this version, whose one socket leads to the simulated exchange.

use std::sync::Arc;
use std::time::Duration;

use kairos_adapters::binance::BinanceMarket;
use kairos_adapters::net::rest::{Reply, Rest};
use kairos_adapters::net::websocket::{ConnectOptions, Connection, Polled};
use kairos_adapters::session::{Arrival, MarketSession, Outbox};
use kairos_logic::event::{Event, GapReason, StatusCode, Verb};
use kairos_logic::units::{InstrumentId, Nanos, Stamp};

use super::{Broken, Sink, is_link, publish_wanted, stop_wanted, tell};
use crate::clock::Clock;
use crate::meter::{Meters, VenueMeter};
use crate::ring::FeedDoor;
use crate::seat::{Looked, Seat};
use crate::simulated::Simulated;

/// First wait before connecting again; doubles up to [`RECONNECT_MAX_NS`].
const RECONNECT_FIRST_NS: u64 = 250_000_000;
/// Longest wait before connecting again.
const RECONNECT_MAX_NS: u64 = 10_000_000_000;
/// Most time for connecting and for each step of the handshake, on loopback.
const CONNECT_WITHIN: Duration = Duration::from_secs(2);

/// What a socket feed is made of.
pub struct SocketParts {
    /// The exchange at the other end; lives as long as its feed.
    pub exchange: Simulated,
    /// The venue's words.
    pub session: Box<BinanceMarket>,
    /// Nanoseconds between timer ticks; 0 is none.
    pub timer_ns: u64,
    /// How long market data may wait for room in IN before it is dropped as a whole.
    pub hold_ns: u64,
    /// Books that logic found broken.
    pub broken: Arc<Broken>,
    /// Events that go in before anything else.
    pub first: Vec<Event>,
}

/// The feed seat on a socket.
pub struct SocketFeed {
    sink: Sink,
    session: Box<BinanceMarket>,
    outbox: Outbox,
    exchange: Simulated,
    connection: Option<Connection>,
    rest: Option<Rest>,
    connect_at: Nanos,
    backoff_ns: u64,
    frames: u64,
    held_since: Option<Stamp>,
    hold_ns: u64,
    next_tick: Nanos,
    timer_ns: u64,
    stop_sent: bool,
    first: std::vec::IntoIter<Event>,
    broken: Arc<Broken>,
    number: usize,
    meters: Arc<Meters>,
}

impl SocketFeed {
    /// A feed that is not connected yet.
    pub fn new(
        parts: SocketParts,
        number: usize,
        door: FeedDoor,
        clock: Clock,
        meters: Arc<Meters>,
    ) -> Self {
        Self {
            sink: Sink::new(door, clock),
            session: parts.session,
            outbox: Outbox::new(),
            rest: parts.exchange.rest().ok(),
            exchange: parts.exchange,
            connection: None,
            connect_at: Nanos(0),
            backoff_ns: RECONNECT_FIRST_NS,
            frames: 0,
            held_since: None,
            hold_ns: parts.hold_ns,
            next_tick: Nanos(0),
            timer_ns: parts.timer_ns,
            stop_sent: false,
            first: parts.first.into_iter(),
            broken: parts.broken,
            number,
            meters,
        }
    }

    fn venue_meter(&self) -> Option<&VenueMeter> {
        self.meters.feeds.get(self.number).and_then(|it| it.venues.first())
    }

    fn now(&self) -> (Stamp, Nanos) {
        let stamp = self.sink.clock.stamp();
        (stamp, self.sink.clock.wall(stamp))
    }

    fn connect(&mut self, now: Nanos) {
        let url = self.exchange.stream_url(self.session.stream_path());
        let options = ConnectOptions { timeout: CONNECT_WITHIN, ..ConnectOptions::default() };
        match Connection::connect(&url, options) {
            Ok(connection) => {
                self.connection = Some(connection);
                if let Some(meter) = self.venue_meter() {
                    meter.connected.set(1);
                }
                self.backoff_ns = RECONNECT_FIRST_NS;
                let Self { session, outbox, sink, .. } = self;
                sink.begin();
                let (none, venue) = (InstrumentId::NONE, session.venue());
                sink.put(Event::status(now, none, venue, StatusCode::Connected, 0));
                session.on_open(now, outbox, &mut |event| sink.put(event));
                self.serve_outbox();
            }
            Err(_) => self.later(now),
        }
    }

    /// Connects again after a while.
    fn later(&mut self, now: Nanos) {
        self.connect_at = now.plus(self.backoff_ns);
        self.backoff_ns = (self.backoff_ns * 2).min(RECONNECT_MAX_NS);
    }

    fn lose(&mut self, now: Nanos) {
        self.connection = None;
        if let Some(meter) = self.venue_meter() {
            meter.connected.set(0);
        }
        self.outbox.clear();
        let Self { session, sink, .. } = self;
        sink.begin();
        session.on_close(now, &mut |event| sink.put(event));
        let (none, venue) = (InstrumentId::NONE, session.venue());
        sink.put(Event::status(now, none, venue, StatusCode::Disconnected, 0));
        self.later(now);
    }

    /// Reads what has arrived: at most the messages of one poll.
    fn read(&mut self) -> Looked {
        let Self { connection, session, outbox, sink, frames, meters, number, .. } = self;
        let meter = meters.feeds.get(*number).and_then(|it| it.venues.first());
        let Some(connection) = connection else { return Looked::Idle };
        let clock = sink.clock.clone();
        let polled = connection.poll(&mut |text| {
            let recv = clock.stamp();
            *frames += 1;
            sink.begin();
            let arrival = Arrival { at: clock.wall(recv), recv, number: *frames };
            session.frame(arrival, text, outbox, &mut |event| sink.put(event));
            if let Some(meter) = meter {
                tell(meter, session.counters(), text.len(), arrival.at);
            }
        });
        match polled {
            Ok(Polled::Idle) => Looked::Idle,
            Ok(_) => Looked::Busy,
            Err(_) => {
                let (_, now) = self.now();
                self.lose(now);
                Looked::Busy
            }
        }
    }

    fn read_replies(&mut self) {
        let Some(Reply { tag, body, .. }) = self.rest.as_mut().and_then(Rest::poll) else { return };
        let (recv, at) = self.now();
        let instrument = u16::try_from(tag).map_or(InstrumentId::NONE, InstrumentId);
        let Self { session, outbox, sink, frames, .. } = self;
        sink.begin();
        match body {
            Ok(body) => {
                let arrival = Arrival { at, recv, number: *frames };
                let mut publish = |event: Event| sink.put(event);
                session.on_snapshot(arrival, Some(instrument), &body, outbox, &mut publish);
            }
            Err(_) => session.on_snapshot_failed(at, instrument),
        }
    }

    fn serve_outbox(&mut self) {
        if self.outbox.is_empty() {
            return;
        }
        let Self { outbox, connection, rest, .. } = self;
        let mut lost = outbox.wants_reconnect().is_some();
        if let Some(connection) = connection {
            lost |= outbox.texts().any(|text| connection.send(text).is_err());
        }
        if let Some(rest) = rest {
            for wanted in outbox.snapshots() {
                // A request that finds no room is repeated by the session when its answer is overdue.
                let _taken = rest.request(u64::from(wanted.instrument.0), Arc::clone(&wanted.path));
            }
        }
        outbox.clear();
        if lost {
            let (_, now) = self.now();
            self.lose(now);
        }
    }

    fn tick(&mut self, now: Nanos) {
        if self.timer_ns == 0 || now < self.next_tick {
            return;
        }
        if !self.sink.offer(Event::timer(now)) {
            return;
        }
        self.next_tick = now.plus(self.timer_ns);
        let Self { session, outbox, sink, broken, .. } = self;
        sink.begin();
        session.on_time(now, outbox, &mut |event| sink.put(event));
        broken.take(|instrument, why| {
            session.resync(now, Some(instrument), why, outbox, &mut |event| sink.put(event));
        });
    }

    /// Market data found no room for too long: all of it goes, and every book with it.
    fn drop_held(&mut self, stamp: Stamp, now: Nanos) {
        let dropped = i64::try_from(self.sink.held.len()).unwrap_or(i64::MAX);
        self.sink.held.retain(is_link);
        self.held_since = None;
        if let Some(meter) = self.venue_meter() {
            meter.dropped.add(dropped.unsigned_abs());
        }
        let Self { session, outbox, sink, .. } = self;
        sink.begin();
        let (none, venue) = (InstrumentId::NONE, session.venue());
        let mut event = Event::status(now, none, venue, StatusCode::Dropped, dropped);
        event.recv = stamp;
        sink.put(event);
        session.resync(now, None, GapReason::Dropped, outbox, &mut |event| sink.put(event));
    }

    /// Publishes what waits; `false` while something still does.
    fn flush(&mut self) -> bool {
        if self.sink.flush() {
            self.held_since = None;
            return true;
        }
        if let Some(meter) = self.meters.feeds.get(self.number) {
            meter.seat.held.add(1);
        }
        let (stamp, now) = self.now();
        let since = *self.held_since.get_or_insert(stamp);
        if self.sink.clock.nanos_between(since, stamp) > self.hold_ns {
            self.drop_held(stamp, now);
        }
        false
    }
}

impl Seat for SocketFeed {
    fn turn(&mut self) -> Looked {
        let (_, now) = self.now();
        if self.first.as_slice().is_empty() {
            publish_wanted(&mut self.sink, &self.meters, now);
        }
        if !self.flush() || self.stop_sent {
            return Looked::Idle;
        }
        if let Some(&event) = self.first.as_slice().first() {
            if self.sink.offer(Event { at: now, ..event }) {
                self.first.next();
            }
            return Looked::Busy;
        }
        if stop_wanted(&self.meters) {
            self.stop_sent = self.sink.offer(Event::command(now, Verb::Stop, 0));
            if let (true, Some(meter)) = (self.stop_sent, self.meters.feeds.get(self.number)) {
                meter.seat.finish();
            }
            return Looked::Busy;
        }
        if self.connection.is_none() && now >= self.connect_at {
            self.connect(now);
        }
        let looked = self.read();
        self.read_replies();
        self.tick(now);
        self.serve_outbox();
        looked
    }

    fn close(mut self: Box<Self>) {
        if let Some(connection) = &mut self.connection {
            connection.close();
        }
    }
}
