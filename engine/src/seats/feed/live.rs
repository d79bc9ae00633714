//! A feed from sockets: polls its venue's connections, never waits for the network.
//!
//! What waits (names, handshakes, HTTP) waits on helper threads; see `kairos_adapters::net`. What a
//! connection carries is a link (`kairos_adapters::link`): the seat tells it what happened and does
//! what it wants.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use kairos_adapters::link::{Half, Link, Refusal, Wish};
use kairos_adapters::net::NetError;
use kairos_adapters::net::dial::{Dialled, Dialler};
use kairos_adapters::net::rest::{Method, Reply, Rest};
use kairos_adapters::net::websocket::{Connection, Heard, Polled};
use kairos_adapters::session::Arrival;
use kairos_logic::event::{Event, GapReason, StatusCode, Verb};
use kairos_logic::units::{InstrumentId, Nanos, Stamp, VenueId};

use super::{Broken, Sink, is_link, publish_wanted, stop_wanted};
use crate::clock::Clock;
use crate::meter::{Meters, VenueMeter};
use crate::ring::FeedDoor;
use crate::seat::{Looked, Seat};
use crate::simulated::Simulated;

/// How often sessions are told the time: liveness rules count in seconds.
const LOOK_EVERY_NS: u64 = 100_000_000;

/// What a live feed is made of.
pub struct LiveParts {
    /// The venue.
    pub venue: VenueId,
    /// Address of its streams; a session's path comes behind it.
    pub ws_url: String,
    /// What its connections carry.
    pub links: Vec<Link>,
    /// Makes connections.
    pub dialler: Dialler,
    /// Fetches snapshots.
    pub rest: Rest,
    /// Shortest time between two attempts to connect, in nanoseconds.
    pub dial_pause_ns: u64,
    /// The simulated exchange at the other end, where there is one: lives as long as its feed.
    pub exchange: Option<Simulated>,
    /// Nanoseconds between timer ticks; 0 is none.
    pub timer_ns: u64,
    /// How long market data may wait for room in IN before it is dropped as a whole.
    pub hold_ns: u64,
    /// Books that logic found broken.
    pub broken: Arc<Broken>,
    /// Events that go in before anything else; the first feed has them.
    pub first: Vec<Event>,
}

/// A connection of one half of a link.
struct Open {
    half: Half,
    connection: Connection,
}

/// The feed seat of one venue.
pub struct LiveFeed {
    sink: Sink,
    links: Vec<Link>,
    /// By link and half.
    open: Vec<[Option<Open>; 2]>,
    net: Net,
    venue: VenueId,
    /// Links that are up, as was last told.
    links_up: usize,
    held_since: Option<Stamp>,
    hold_ns: u64,
    next_tick: Nanos,
    next_look: Nanos,
    timer_ns: u64,
    stop_sent: bool,
    first: std::vec::IntoIter<Event>,
    broken: Arc<Broken>,
    number: usize,
    meters: Arc<Meters>,
    _exchange: Option<Simulated>,
}

/// The helper threads, and what may be asked of them.
struct Net {
    ws_url: String,
    dialler: Dialler,
    rest: Rest,
    dial_pause_ns: u64,
    dial_next: Nanos,
    /// Connections wanted before the venue allows them: link, half, address.
    dials: Vec<(usize, Half, String)>,
}

/// What a helper thread gives back with its answer: which link, half and attempt it is for, and for
/// a reply whose snapshot.
fn tag(link: usize, half: Half, instrument: InstrumentId) -> u64 {
    let place = (link as u64) << 1 | u64::from(half.place);
    place << 48 | u64::from(half.attempt) << 16 | u64::from(instrument.0)
}

/// The reverse of [`tag`].
#[expect(clippy::cast_possible_truncation, reason = "the masks leave what fits")]
fn untag(tag: u64) -> (usize, Half, InstrumentId) {
    let half = Half { place: (tag >> 48 & 1) as u8, attempt: (tag >> 16) as u32 };
    ((tag >> 49) as usize, half, InstrumentId(tag as u16))
}

impl Net {
    /// Connects as soon as the venue allows another attempt.
    fn dial(&mut self, at: Nanos) {
        while let Some((link, half, _)) = self.dials.first() {
            if at < self.dial_next {
                return;
            }
            let tag = tag(*link, *half, InstrumentId::NONE);
            let (_, _, url) = self.dials.remove(0);
            // A full helper is one that never answers: the link's own limit ends the attempt.
            let _asked = self.dialler.dial(tag, url);
            self.dial_next = at.plus(self.dial_pause_ns);
        }
    }
}

/// Why a helper's answer is no answer, for a link.
fn refusal<'a>(error: &NetError, words: &'a str) -> Refusal<'a> {
    let (status, retry_after_s) = error.http().unwrap_or((0, 0));
    Refusal { status, retry_after_s, words }
}

impl LiveFeed {
    /// A feed that is not connected yet.
    pub fn new(
        parts: LiveParts,
        number: usize,
        door: FeedDoor,
        clock: Clock,
        meters: Arc<Meters>,
    ) -> Self {
        let open = parts.links.iter().map(|_| [None, None]).collect();
        Self {
            sink: Sink::new(door, clock),
            net: Net {
                ws_url: parts.ws_url,
                dialler: parts.dialler,
                rest: parts.rest,
                dial_pause_ns: parts.dial_pause_ns,
                dial_next: Nanos(0),
                dials: Vec::with_capacity(2 * parts.links.len()),
            },
            links: parts.links,
            open,
            venue: parts.venue,
            links_up: 0,
            held_since: None,
            hold_ns: parts.hold_ns,
            next_tick: Nanos(0),
            next_look: Nanos(0),
            timer_ns: parts.timer_ns,
            stop_sent: false,
            first: parts.first.into_iter(),
            broken: parts.broken,
            number,
            meters,
            _exchange: parts.exchange,
        }
    }

    const fn is_first(&self) -> bool {
        self.number == 0
    }

    fn meter(&self, link: usize) -> Option<&VenueMeter> {
        self.meters.feeds.get(self.number).and_then(|it| it.venues.get(link))
    }

    fn now(&self) -> (Stamp, Nanos) {
        let stamp = self.sink.clock.stamp();
        (stamp, self.sink.clock.wall(stamp))
    }

    /// Takes connections that the helper made, or could not make.
    fn take_dialled(&mut self, now: Nanos) {
        while let Some(Dialled { tag, result }) = self.net.dialler.poll() {
            let (place, half, _) = untag(tag);
            let Self { links, open, sink, .. } = self;
            let (Some(link), Some(open)) = (links.get_mut(place), open.get_mut(place)) else {
                continue;
            };
            sink.begin();
            let publish = &mut |event| sink.put(event);
            match result {
                Ok(connection) => {
                    if link.on_connected(half, now, publish)
                        && let Some(slot) = open.get_mut(usize::from(half.place))
                    {
                        *slot = Some(Open { half, connection });
                    }
                }
                Err(error) => {
                    let words = error.to_string();
                    link.on_refused(half, now, refusal(&error, &words), publish);
                }
            }
            self.tell_links(now);
        }
    }

    /// Reads what has arrived on every connection: at most the messages of one poll each.
    fn read(&mut self) -> Looked {
        let mut looked = Looked::Idle;
        for place in 0..self.links.len() {
            for side in 0..2 {
                looked = looked.max(self.read_one(place, side));
            }
        }
        looked
    }

    #[inline]
    fn read_one(&mut self, place: usize, side: usize) -> Looked {
        let Self { links, open, sink, .. } = self;
        let slot = open.get_mut(place).and_then(|it| it.get_mut(side));
        let (Some(link), Some(slot)) = (links.get_mut(place), slot) else { return Looked::Idle };
        let Some(Open { half, connection }) = slot else { return Looked::Idle };
        let half = *half;
        let clock = sink.clock.clone();
        let mut number = link.frames(half);
        let polled = connection.poll(&mut |heard| match heard {
            Heard::Text(text) => {
                let recv = clock.stamp();
                number += 1;
                sink.begin();
                let arrival = Arrival { at: clock.wall(recv), recv, number };
                link.on_frame(half, arrival, text, &mut |event| sink.put(event));
            }
            // No venue here sends binary messages; one that does lives all the same.
            Heard::Binary(_) | Heard::Alive => link.on_alive(half, clock.wall(clock.stamp())),
        });
        match polled {
            Ok(Polled::Idle) => Looked::Idle,
            Ok(Polled::Busy(_)) => Looked::Busy,
            Err(error) => {
                *slot = None;
                self.lose(place, half, &error);
                Looked::Busy
            }
        }
    }

    #[cold]
    fn lose(&mut self, place: usize, half: Half, error: &NetError) {
        let (_, now) = self.now();
        let Self { links, sink, .. } = self;
        let Some(link) = links.get_mut(place) else { return };
        sink.begin();
        link.on_lost(half, now, &error.to_string(), &mut |event| sink.put(event));
        self.tell_links(now);
    }

    fn read_replies(&mut self) {
        let Some(Reply { tag, body, .. }) = self.net.rest.poll() else { return };
        let (recv, at) = self.now();
        let (place, half, instrument) = untag(tag);
        let Self { links, sink, .. } = self;
        let Some(link) = links.get_mut(place) else { return };
        sink.begin();
        let publish = &mut |event| sink.put(event);
        let words = body.as_ref().err().map(ToString::to_string).unwrap_or_default();
        let answer = body.as_deref().map_err(|error| refusal(error, &words));
        if instrument == InstrumentId::NONE {
            link.on_address(half, at, answer, publish);
        } else {
            let arrival = Arrival { at, recv, number: link.frames(half) };
            link.on_fetched(half, instrument, arrival, answer, publish);
        }
    }

    /// Does what the links want.
    fn serve(&mut self, now: Nanos) {
        let Self { links, open, net, sink, .. } = self;
        let mut broken = None;
        for (place, (link, open)) in links.iter_mut().zip(open).enumerate() {
            sink.begin();
            let mut wish = |wish: Wish<'_>| match wish {
                Wish::DialPath(half, path) => {
                    let base = net.ws_url.strip_suffix('/').unwrap_or(&net.ws_url);
                    net.dials.push((place, half, format!("{base}{path}")));
                }
                Wish::DialUrl(half, url) => net.dials.push((place, half, url.to_owned())),
                Wish::Ask(half, path) => {
                    let tag = tag(place, half, InstrumentId::NONE);
                    // A helper that is full is asked again when the attempt's limit is over.
                    let _asked = net.rest.request(tag, Method::Post, Arc::clone(path));
                }
                Wish::Fetch(half, instrument, path) => {
                    // A request that finds no room is repeated when its answer is overdue.
                    let tag = tag(place, half, instrument);
                    let _asked = net.rest.request(tag, Method::Get, Arc::clone(path));
                }
                Wish::Send(half, text) => {
                    if let Some(Some(open)) = open.get_mut(usize::from(half.place))
                        && let Err(error) = open.connection.send(text)
                    {
                        broken = Some((place, half, error));
                    }
                }
                Wish::Close(half) => {
                    if let Some(mut it) =
                        open.get_mut(usize::from(half.place)).and_then(Option::take)
                    {
                        it.connection.close();
                    }
                }
            };
            link.serve(now, &mut wish, &mut |event| sink.put(event));
        }
        self.net.dial(now);
        if let Some((place, half, error)) = broken {
            if let Some(slot) = self.open.get_mut(place) {
                slot[usize::from(half.place)] = None;
            }
            self.lose(place, half, &error);
        }
        self.tell_links(now);
    }

    /// The venue is connected while any of its links is.
    fn tell_links(&mut self, now: Nanos) {
        let up = self.links.iter().filter(|it| it.is_up()).count();
        let code = match (self.links_up, up) {
            (0, 1..) => Some(StatusCode::Connected),
            (1.., 0) => Some(StatusCode::Disconnected),
            _ => None,
        };
        self.links_up = up;
        if let Some(code) = code {
            self.sink.begin();
            self.sink.put(Event::status(now, InstrumentId::NONE, self.venue, code, 0));
        }
    }

    /// Tells the sessions the time, mends books, tells the stats page.
    fn look(&mut self, now: Nanos) {
        if now < self.next_look {
            return;
        }
        self.next_look = now.plus(LOOK_EVERY_NS);
        let Self { links, sink, broken, .. } = self;
        for link in links.iter_mut() {
            sink.begin();
            link.on_time(now, &mut |event| sink.put(event));
        }
        for link in links.iter_mut() {
            sink.begin();
            broken.take_of(link, |link, instrument, why| {
                link.resync(now, Some(instrument), why, &mut |event| sink.put(event));
            });
        }
        for (place, link) in self.links.iter().enumerate() {
            if let Some(meter) = self.meter(place) {
                tell(meter, link, &self.open[place], now);
            }
        }
    }

    fn tick(&mut self, now: Nanos) {
        let due = self.is_first() && self.timer_ns > 0 && now >= self.next_tick;
        if due && self.sink.offer(Event::timer(now)) {
            self.next_tick = now.plus(self.timer_ns);
        }
    }

    /// Market data found no room for too long: all of it goes, and every book with it.
    #[cold]
    fn drop_held(&mut self, stamp: Stamp, now: Nanos) {
        let dropped = i64::try_from(self.sink.held.len()).unwrap_or(i64::MAX);
        self.sink.held.retain(is_link);
        self.held_since = None;
        if let Some(meter) = self.meter(0) {
            meter.dropped.add(dropped.unsigned_abs());
        }
        let Self { links, sink, venue, .. } = self;
        sink.begin();
        let none = InstrumentId::NONE;
        let mut event = Event::status(now, none, *venue, StatusCode::Dropped, dropped);
        event.recv = stamp;
        sink.put(event);
        for link in links {
            link.resync(now, None, GapReason::Dropped, &mut |event| sink.put(event));
        }
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

    /// What goes in before anything else. `false` while it is not all in.
    fn begin(&mut self, now: Nanos) -> bool {
        if self.meters.begun.load(Ordering::Relaxed) {
            return true;
        }
        if !self.is_first() {
            return self.meters.begun.load(Ordering::Acquire);
        }
        while let Some(&event) = self.first.as_slice().first() {
            if !self.sink.offer(Event { at: now, ..event }) {
                return false;
            }
            self.first.next();
        }
        self.meters.begun.store(true, Ordering::Release);
        true
    }

    /// The stop is one event, behind the last of every feed.
    fn stop(&mut self, now: Nanos) {
        let Some(meter) = self.meters.feeds.get(self.number) else { return };
        if self.is_first() {
            let others = self.meters.feeds.iter().skip(1);
            if !others.map(|it| &it.seat).all(crate::meter::SeatMeter::is_finished) {
                return;
            }
            self.stop_sent = self.sink.offer(Event::command(now, Verb::Stop, 0));
        } else {
            self.stop_sent = true;
        }
        if self.stop_sent {
            meter.seat.finish();
        }
    }
}

/// Tells the stats page what a link counted.
fn tell(meter: &VenueMeter, link: &Link, open: &[Option<Open>; 2], now: Nanos) {
    let counts = link.counts();
    meter.frames.set(counts.frames);
    meter.bytes.set(counts.bytes);
    meter.events.set(counts.events);
    meter.malformed.set(counts.malformed);
    meter.gaps.set(counts.gaps);
    meter.resyncs.set(counts.resyncs);
    meter.reconnects.set(counts.reconnects);
    meter.last_message_at.set(counts.last_message_at.0);
    meter.connected.set(u64::from(link.is_up()));
    let stamped = open.iter().flatten().map(|it| it.connection.stamped_ns()).max().unwrap_or(0);
    let read_at = counts.last_message_at.0.min(now.0);
    meter.kernel_ns.set(if stamped > 0 { read_at.saturating_sub(stamped) } else { 0 });
}

impl Seat for LiveFeed {
    fn turn(&mut self) -> Looked {
        let (_, now) = self.now();
        if self.is_first() && self.meters.begun.load(Ordering::Relaxed) {
            publish_wanted(&mut self.sink, &self.meters, now);
        }
        if !self.flush() || self.stop_sent || !self.begin(now) {
            return Looked::Idle;
        }
        if stop_wanted(&self.meters) {
            self.stop(now);
            return Looked::Busy;
        }
        self.take_dialled(now);
        let looked = self.read();
        self.read_replies();
        self.tick(now);
        self.look(now);
        self.serve(now);
        looked
    }

    fn close(mut self: Box<Self>) {
        for it in self.open.iter_mut().flatten().flatten() {
            it.connection.close();
        }
    }
}
