//! Links on sockets: what polls the connections of one venue.
//!
//! What waits (names, handshakes, HTTP) waits on helper threads; see [`crate::net`]. What a connection
//! carries is a link ([`crate::link`]): it is told what happened, and what it wants is done.

use std::sync::Arc;

use kairos_logic::event::{Event, GapReason, StatusCode};
use kairos_logic::units::{InstrumentId, Nanos, Stamp, VenueId};

use crate::link::{Half, Link, Refusal, Wish};
use crate::net::NetError;
use crate::net::dial::{Dialled, Dialler};
use crate::net::rest::{Method, Reply, Rest};
use crate::net::websocket::{Connection, Heard, Polled};
use crate::session::Arrival;

/// How often sessions are told the time: liveness rules count in seconds.
const LOOK_EVERY_NS: u64 = 100_000_000;

/// Where events go.
pub trait Publisher {
    /// A new frame, or another new cause, begins.
    fn begin(&mut self);
    /// One event of it.
    fn put(&mut self, event: Event);
}

/// Which connection of a venue something came over: its link, and its attempts so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Wire {
    /// Number of the link.
    pub link: usize,
    /// Its half and attempt.
    pub half: Half,
}

/// Sees the bytes as they come and go, for recording.
pub trait Tap {
    /// A connection is open.
    fn opened(&mut self, _wire: Wire, _at: Nanos) {}
    /// A text frame came.
    fn frame(&mut self, _wire: Wire, _at: Nanos, _text: &[u8]) {}
    /// A text frame was sent.
    fn sent(&mut self, _wire: Wire, _at: Nanos, _text: &str) {}
    /// The body of a request came.
    fn fetched(&mut self, _wire: Wire, _at: Nanos, _target: &str, _body: &[u8]) {}
    /// The connection is over.
    fn closed(&mut self, _wire: Wire, _at: Nanos) {}
}

/// Nobody looks on.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoTap;

impl Tap for NoTap {}

/// What makes connections, and answers questions.
#[derive(Debug)]
pub struct Net {
    /// Address of the venue's streams; a session's path comes behind it.
    pub ws_url: String,
    /// Makes connections.
    pub dialler: Dialler,
    /// Fetches snapshots.
    pub rest: Rest,
    /// Shortest time between two attempts to connect, in nanoseconds.
    pub dial_pause_ns: u64,
}

/// A connection of one half of a link.
#[derive(Debug)]
struct Open {
    half: Half,
    connection: Connection,
}

/// The connections of one venue.
#[derive(Debug)]
pub struct Lines {
    venue: VenueId,
    links: Vec<Link>,
    /// By link and half.
    open: Vec<[Option<Open>; 2]>,
    net: Net,
    dial_next: Nanos,
    /// Connections wanted before the venue allows them.
    dials: Vec<(Wire, String)>,
    /// Links that are up, as was last told.
    links_up: usize,
    next_look: Nanos,
}

/// What a helper thread gives back with its answer: which link, half and attempt it is for, and for
/// a reply whose snapshot.
fn tag(wire: Wire, instrument: InstrumentId) -> u64 {
    let place = (wire.link as u64) << 1 | u64::from(wire.half.place);
    place << 48 | u64::from(wire.half.attempt) << 16 | u64::from(instrument.0)
}

/// The reverse of [`tag`].
#[expect(clippy::cast_possible_truncation, reason = "the masks leave what fits")]
fn untag(tag: u64) -> (Wire, InstrumentId) {
    let half = Half { place: (tag >> 48 & 1) as u8, attempt: (tag >> 16) as u32 };
    (Wire { link: (tag >> 49) as usize, half }, InstrumentId(tag as u16))
}

/// Why a helper's answer is no answer, for a link.
fn refusal<'a>(error: &NetError, words: &'a str) -> Refusal<'a> {
    let (status, retry_after_s) = error.http().unwrap_or((0, 0));
    Refusal { status, retry_after_s, words }
}

impl Lines {
    /// Links that are not connected yet.
    #[must_use]
    pub fn new(venue: VenueId, links: Vec<Link>, net: Net) -> Self {
        Self {
            venue,
            open: links.iter().map(|_| [None, None]).collect(),
            dials: Vec::with_capacity(2 * links.len()),
            links,
            net,
            dial_next: Nanos(0),
            links_up: 0,
            next_look: Nanos(0),
        }
    }

    /// The links, in their order.
    #[must_use]
    pub fn links(&self) -> &[Link] {
        &self.links
    }

    /// When the kernel received the bytes last read on this link, in nanoseconds since 1970; 0 where
    /// it does not say.
    #[must_use]
    pub fn stamped_ns(&self, link: usize) -> u64 {
        let open = self.open.get(link).into_iter().flatten().flatten();
        open.map(|it| it.connection.stamped_ns()).max().unwrap_or(0)
    }

    /// One turn: takes what the helpers made, reads what has arrived (at most the messages of one
    /// poll of each connection), tells the time, does what the links want. Never waits. Says whether
    /// anything was read, and whether the sessions were told the time.
    pub fn turn<C: Fn() -> (Stamp, Nanos)>(
        &mut self,
        clock: &C,
        tap: &mut impl Tap,
        publisher: &mut impl Publisher,
    ) -> Turned {
        let (_, now) = clock();
        self.take_dialled(now, tap, publisher);
        let mut read = false;
        for link in 0..self.links.len() {
            for side in 0..2 {
                read |= self.read_one((link, side), clock, tap, publisher);
            }
        }
        self.take_reply(clock, tap, publisher);
        let looked = now >= self.next_look;
        if looked {
            self.next_look = now.plus(LOOK_EVERY_NS);
            self.spread_bans();
            for link in &mut self.links {
                publisher.begin();
                link.on_time(now, &mut |event| publisher.put(event));
            }
        }
        self.serve(now, tap, publisher);
        Turned { read, looked }
    }

    /// What one link was told, all of them heed.
    fn spread_bans(&mut self) {
        let told = self.links.iter().map(Link::leave_alone_until);
        let longest = told.reduce(|a, b| (a.0.max(b.0), a.1.max(b.1)));
        if let Some(until) = longest {
            self.links.iter_mut().for_each(|it| it.leave_alone(until));
        }
    }

    /// Takes connections that the helper made, or could not make.
    fn take_dialled(&mut self, now: Nanos, tap: &mut impl Tap, publisher: &mut impl Publisher) {
        while let Some(Dialled { tag, result }) = self.net.dialler.poll() {
            let (wire, _) = untag(tag);
            let (links, open) = (&mut self.links, &mut self.open);
            let (Some(link), Some(open)) = (links.get_mut(wire.link), open.get_mut(wire.link))
            else {
                continue;
            };
            publisher.begin();
            let publish = &mut |event| publisher.put(event);
            match result {
                Ok(connection) => {
                    if link.on_connected(wire.half, now, publish)
                        && let Some(slot) = open.get_mut(usize::from(wire.half.place))
                    {
                        tap.opened(wire, now);
                        *slot = Some(Open { half: wire.half, connection });
                    }
                }
                Err(error) => {
                    let words = error.to_string();
                    link.on_refused(wire.half, now, refusal(&error, &words), publish);
                }
            }
            self.tell_links(now, publisher);
        }
    }

    #[inline]
    fn read_one<C: Fn() -> (Stamp, Nanos)>(
        &mut self,
        (place, side): (usize, usize),
        clock: &C,
        tap: &mut impl Tap,
        publisher: &mut impl Publisher,
    ) -> bool {
        let slot = self.open.get_mut(place).and_then(|it| it.get_mut(side));
        let (Some(link), Some(slot)) = (self.links.get_mut(place), slot) else { return false };
        let Some(Open { half, connection }) = slot else { return false };
        let wire = Wire { link: place, half: *half };
        let mut number = link.frames(wire.half);
        let polled = connection.poll(&mut |heard| match heard {
            Heard::Text(text) => {
                let (recv, at) = clock();
                number += 1;
                tap.frame(wire, at, text);
                publisher.begin();
                let arrival = Arrival { at, recv, number };
                link.on_frame(wire.half, arrival, text, &mut |event| publisher.put(event));
            }
            // No venue here sends binary messages; one that does lives all the same.
            Heard::Binary(_) | Heard::Alive => link.on_alive(wire.half, clock().1),
        });
        match polled {
            Ok(Polled::Idle) => false,
            Ok(Polled::Busy(_)) => true,
            Err(error) => {
                *slot = None;
                self.lose(wire, clock().1, &error, tap, publisher);
                true
            }
        }
    }

    #[cold]
    fn lose(
        &mut self,
        wire: Wire,
        now: Nanos,
        error: &NetError,
        tap: &mut impl Tap,
        publisher: &mut impl Publisher,
    ) {
        tap.closed(wire, now);
        if let Some(link) = self.links.get_mut(wire.link) {
            publisher.begin();
            link.on_lost(wire.half, now, &error.to_string(), &mut |event| publisher.put(event));
        }
        self.tell_links(now, publisher);
    }

    fn take_reply<C: Fn() -> (Stamp, Nanos)>(
        &mut self,
        clock: &C,
        tap: &mut impl Tap,
        publisher: &mut impl Publisher,
    ) {
        let Some(Reply { tag, path, body }) = self.net.rest.poll() else { return };
        let (recv, at) = clock();
        let (wire, instrument) = untag(tag);
        let Some(link) = self.links.get_mut(wire.link) else { return };
        publisher.begin();
        let publish = &mut |event| publisher.put(event);
        let words = body.as_ref().err().map(ToString::to_string).unwrap_or_default();
        let answer = body.as_deref().map_err(|error| refusal(error, &words));
        if instrument == InstrumentId::NONE {
            link.on_address(wire.half, at, answer, publish);
            return;
        }
        if let Ok(body) = answer {
            tap.fetched(wire, at, &path, body);
        }
        let arrival = Arrival { at, recv, number: link.frames(wire.half) };
        link.on_fetched(wire.half, instrument, arrival, answer, publish);
    }

    /// Does what the links want.
    fn serve(&mut self, now: Nanos, tap: &mut impl Tap, publisher: &mut impl Publisher) {
        let Self { links, open, net, dials, .. } = self;
        let mut broken = None;
        for (place, (link, open)) in links.iter_mut().zip(open).enumerate() {
            publisher.begin();
            let wire = |half| Wire { link: place, half };
            let mut wish = |wish: Wish<'_>| match wish {
                Wish::DialPath(half, path) => {
                    let base = net.ws_url.strip_suffix('/').unwrap_or(&net.ws_url);
                    dials.push((wire(half), format!("{base}{path}")));
                }
                Wish::DialUrl(half, url) => dials.push((wire(half), url.to_owned())),
                Wish::Ask(half, path) => {
                    let tag = tag(wire(half), InstrumentId::NONE);
                    // A helper that is full is asked again when the attempt's limit is over.
                    let _asked = net.rest.request(tag, Method::Post, Arc::clone(path));
                }
                Wish::Fetch(half, instrument, path) => {
                    // A request that finds no room is repeated when its answer is overdue.
                    let tag = tag(wire(half), instrument);
                    let _asked = net.rest.request(tag, Method::Get, Arc::clone(path));
                }
                Wish::Send(half, text) => {
                    if let Some(Some(open)) = open.get_mut(usize::from(half.place)) {
                        tap.sent(wire(half), now, text);
                        if let Err(error) = open.connection.send(text) {
                            broken = Some((wire(half), error));
                        }
                    }
                }
                Wish::Close(half) => {
                    let slot = open.get_mut(usize::from(half.place));
                    if let Some(mut it) = slot.and_then(Option::take) {
                        it.connection.close();
                        tap.closed(wire(half), now);
                    }
                }
            };
            link.serve(now, &mut wish, &mut |event| publisher.put(event));
        }
        self.dial(now);
        if let Some((wire, error)) = broken {
            if let Some(slot) = self.open.get_mut(wire.link) {
                slot[usize::from(wire.half.place)] = None;
            }
            self.lose(wire, now, &error, tap, publisher);
        }
        self.tell_links(now, publisher);
    }

    /// Connects as soon as the venue allows another attempt.
    fn dial(&mut self, now: Nanos) {
        while !self.dials.is_empty() && now >= self.dial_next {
            let (wire, url) = self.dials.remove(0);
            // A full helper is one that never answers: the link's own limit ends the attempt.
            let _asked = self.net.dialler.dial(tag(wire, InstrumentId::NONE), url);
            self.dial_next = now.plus(self.net.dial_pause_ns);
        }
    }

    /// The venue is connected while any of its links is.
    fn tell_links(&mut self, now: Nanos, publisher: &mut impl Publisher) {
        let up = self.links.iter().filter(|it| it.is_up()).count();
        let code = match (self.links_up, up) {
            (0, 1..) => Some(StatusCode::Connected),
            (1.., 0) => Some(StatusCode::Disconnected),
            _ => None,
        };
        self.links_up = up;
        if let Some(code) = code {
            publisher.begin();
            publisher.put(Event::status(now, InstrumentId::NONE, self.venue, code, 0));
        }
    }

    /// Rebuilds the book of one instrument, where one of these links carries it, or all books.
    pub fn resync(
        &mut self,
        now: Nanos,
        instrument: Option<InstrumentId>,
        why: GapReason,
        publisher: &mut impl Publisher,
    ) {
        for link in &mut self.links {
            if instrument.is_none_or(|id| link.instruments().contains(&id)) {
                publisher.begin();
                link.resync(now, instrument, why, &mut |event| publisher.put(event));
            }
        }
    }

    /// Address of the venue's streams.
    #[must_use]
    pub fn ws_url(&self) -> &str {
        &self.net.ws_url
    }

    /// The venue.
    #[must_use]
    pub const fn venue(&self) -> VenueId {
        self.venue
    }

    /// Says goodbye on every connection.
    pub fn close(&mut self) {
        for it in self.open.iter_mut().flatten().flatten() {
            it.connection.close();
        }
    }
}

/// What a turn did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Turned {
    /// Frames were read; there may be more.
    pub read: bool,
    /// The sessions were told the time.
    pub looked: bool,
}
