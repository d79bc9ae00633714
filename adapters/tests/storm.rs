//! Every venue in a storm of faults, under virtual time: the simulated exchange on one side, links
//! and sessions on the other, a network between them that does what it is told. No socket, no clock:
//! a seed is a run.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::wildcard_enum_match_arm,
    reason = "a test may fail and say why, and looks for one thing; the lints know tests by their attribute only"
)]

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::hash::{DefaultHasher, Hasher};

use kairos_adapters::link::{BackoffOptions, Half, Link, LinkOptions, Refusal, Wish};
use kairos_adapters::session::Arrival;
use kairos_adapters::sim::faults::{Fault, Faults};
use kairos_adapters::sim::gateway::{Action, Gateway, GatewayOptions};
use kairos_adapters::sim::server::Pace;
use kairos_adapters::sim::venue::{Protocol, Request};
use kairos_adapters::venue::listing::Fees;
use kairos_adapters::venues::Venue;
use kairos_logic::book::DEPTH_MAX;
use kairos_logic::event::{Event, GapReason, Kind, News, StatusCode};
use kairos_logic::instrument::InstrumentTable;
use kairos_logic::market::Market;
use kairos_logic::units::{InstrumentId, Nanos, Side, Stamp, VenueId};

const MS: u64 = 1_000_000;
const SECOND: u64 = 1_000 * MS;
/// How long a message is under way.
const WAY_NS: u64 = 3 * MS;
/// How long an HTTP request takes.
const FETCH_NS: u64 = 40 * MS;
/// How long a client waits for a handshake.
const PATIENCE_NS: u64 = 5 * SECOND;

/// Something under way between the two.
enum Parcel {
    Text(Half, String),
    Ping(Half),
    Closed(Half),
    Refused(Half, u16, u64),
    Open(Half, String),
    Address(Half, Result<String, (u16, u64)>),
    Fetched(Half, InstrumentId, Result<String, (u16, u64)>),
    Sent(Half, String),
}

struct World {
    protocol: Protocol,
    gateway: Gateway,
    link: Link,
    market: Market,
    at: u64,
    under_way: VecDeque<(u64, Parcel)>, // by time
    clients: BTreeMap<u64, Half>,
    broken: u64,
    digest: DefaultHasher,
    seen: Seen,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Seen {
    events: u64,
    trades: u64,
    books: u64,
    gaps: u64,
    resyncs: u64,
    links_up: u64,
    links_down: u64,
    replaced: u64,
    refused: u64,
    malformed: u64,
    crossed: u64,
    repeated_trades: u64,
}

impl World {
    fn new(venue: Venue, seed: u64, faults: &[&str]) -> Self {
        let protocol = Protocol::from_name(venue.name()).unwrap();
        let faults: Vec<Fault> = faults.iter().map(|it| it.parse().unwrap()).collect();
        let options = GatewayOptions {
            pace: Pace::FramesPerSecond(400.0),
            faults: Faults::new(seed, &faults),
            ..GatewayOptions::seeded(protocol, seed)
        };
        let gateway = Gateway::new(options, format!("ws://sim{}", protocol.ws_path()));
        let table = listed(venue, protocol, seed);
        let ids: Vec<InstrumentId> = table.iter().map(|(id, _)| id).collect();
        assert_eq!(ids.len(), gateway.symbols().count());
        let session = || venue.session(&table, VenueId(0), &ids).unwrap();
        let options = LinkOptions { number: 0, backoff: BackoffOptions::default(), seed };
        Self {
            protocol,
            gateway,
            link: Link::new([session(), session()], options),
            market: Market::new(&table, DEPTH_MAX),
            at: 1_700_000_000 * SECOND,
            under_way: VecDeque::new(),
            clients: BTreeMap::new(),
            broken: 0,
            digest: DefaultHasher::new(),
            seen: Seen::default(),
        }
    }

    fn send(&mut self, after_ns: u64, parcel: Parcel) {
        let due = self.at + after_ns;
        let place = self.under_way.partition_point(|it| it.0 <= due);
        self.under_way.insert(place, (due, parcel));
    }

    /// Runs for so long; `check` after every event.
    fn run(&mut self, ns: u64) {
        let (end, mut look) = (self.at + ns, self.at);
        while self.at < end {
            let next = self.gateway.next_at().0.max(self.at + MS / 4).min(look).min(end);
            self.at = self.under_way.front().map_or(next, |it| it.0.min(next)).max(self.at);
            self.turn();
            self.mend();
            if self.at >= look {
                look = self.at + 100 * MS;
                let at = Nanos(self.at);
                self.tell(|link, publish| link.on_time(at, publish));
            }
            self.serve();
        }
    }

    fn turn(&mut self) {
        let at = Nanos(self.at);
        self.gateway.advance(at, 64);
        while let Some((id, action)) = self.gateway.act() {
            let Some(&half) = self.clients.get(&id) else { continue };
            match action {
                Action::Text(text) => self.send(WAY_NS, Parcel::Text(half, text)),
                Action::Ping(payload) => {
                    self.gateway.control(at, id, Some(&payload));
                    self.send(WAY_NS, Parcel::Ping(half));
                }
                Action::Close { .. } | Action::CutIn(_) => {
                    self.clients.remove(&id);
                    self.gateway.closed(id);
                    self.send(WAY_NS, Parcel::Closed(half));
                }
            }
        }
        while self.under_way.front().is_some_and(|it| it.0 <= self.at) {
            let (_, parcel) = self.under_way.pop_front().unwrap();
            self.deliver(at, parcel);
        }
    }

    fn deliver(&mut self, at: Nanos, parcel: Parcel) {
        let arrival = |link: &Link, half| Arrival { at, recv: Stamp(1), number: link.frames(half) };
        let refusal = |(status, retry_after_s): (u16, u64)| Refusal {
            status,
            retry_after_s,
            words: "refused by the storm",
        };
        match parcel {
            Parcel::Text(half, text) => self.tell(|link, publish| {
                let arrival = arrival(link, half);
                link.on_frame(half, arrival, text.as_bytes(), publish);
            }),
            Parcel::Ping(half) => self.link.on_alive(half, at),
            Parcel::Closed(half) => {
                self.tell(|link, publish| link.on_lost(half, at, "cut", publish));
            }
            Parcel::Refused(half, status, retry) => self.tell(|link, publish| {
                link.on_refused(half, at, refusal((status, retry)), publish);
            }),
            Parcel::Open(half, path) => {
                let request = Request::new("GET", &path);
                match self.gateway.admit(at, &request) {
                    Ok(()) => {
                        let id = self.gateway.open(at, &request);
                        self.clients.insert(id, half);
                        let mut wanted = true;
                        self.tell(|link, publish| wanted = link.on_connected(half, at, publish));
                        if !wanted {
                            self.clients.remove(&id);
                            self.gateway.closed(id);
                        }
                    }
                    Err(no) => {
                        let retry = u64::from(no.retry_after.unwrap_or(0));
                        self.deliver(at, Parcel::Refused(half, no.status, retry));
                    }
                }
            }
            Parcel::Address(half, answer) => self.tell(|link, publish| {
                let answer = answer.as_deref().map(str::as_bytes);
                link.on_address(half, at, answer.map_err(|&it| refusal(it)), publish);
            }),
            Parcel::Fetched(half, id, answer) => self.tell(|link, publish| {
                let answer = answer.as_deref().map(str::as_bytes);
                let arrival = arrival(link, half);
                link.on_fetched(half, id, arrival, answer.map_err(|&it| refusal(it)), publish);
            }),
            Parcel::Sent(half, text) => {
                let client = self.clients.iter().find(|it| *it.1 == half).map(|it| *it.0);
                if let Some(id) = client {
                    self.gateway.text(at, id, &text);
                }
            }
        }
    }

    fn fetch(&mut self, request: &Request) -> Result<String, (u16, u64)> {
        let answer = self.gateway.answer(Nanos(self.at), request);
        match answer.status {
            200 => Ok(answer.body),
            status => Err((status, u64::from(answer.retry_after.unwrap_or(0)))),
        }
    }

    fn serve(&mut self) {
        enum Wanted {
            Dial(Half, String),
            Ask(Half, String),
            Send(Half, String),
            Fetch(Half, InstrumentId, String),
            Close(Half),
        }
        let mut wishes = Vec::new();
        let at = Nanos(self.at);
        self.tell(|link, publish| {
            let mut wish = |it: Wish<'_>| {
                wishes.push(match it {
                    Wish::DialPath(half, path) => Wanted::Dial(half, format!("/{path}")),
                    Wish::DialUrl(half, url) => Wanted::Dial(half, url.to_owned()),
                    Wish::Ask(half, path) => Wanted::Ask(half, path.to_string()),
                    Wish::Send(half, text) => Wanted::Send(half, text.to_owned()),
                    Wish::Fetch(half, id, path) => Wanted::Fetch(half, id, path.to_string()),
                    Wish::Close(half) => Wanted::Close(half),
                });
            };
            link.serve(at, &mut wish, publish);
        });
        for it in wishes {
            match it {
                Wanted::Dial(half, url) => {
                    let door = self.gateway.knock(at);
                    let path = match url.strip_prefix("ws://sim") {
                        Some(path) => path.to_owned(),
                        None => format!("{}{}", self.protocol.ws_path(), &url[1..]),
                    };
                    let path = if path.is_empty() { "/".to_owned() } else { path };
                    if door.refused {
                        self.send(WAY_NS, Parcel::Refused(half, 0, 0));
                    } else if door.slow_ns >= PATIENCE_NS {
                        self.send(PATIENCE_NS, Parcel::Refused(half, 0, 0));
                    } else {
                        self.send(2 * WAY_NS + door.slow_ns, Parcel::Open(half, path));
                    }
                }
                Wanted::Ask(half, path) => {
                    let answer = self.fetch(&Request::new("POST", &path));
                    self.send(FETCH_NS, Parcel::Address(half, answer));
                }
                Wanted::Fetch(half, id, path) => {
                    let answer = self.fetch(&Request::new("GET", &path));
                    self.send(FETCH_NS, Parcel::Fetched(half, id, answer));
                }
                Wanted::Send(half, text) => self.send(WAY_NS, Parcel::Sent(half, text)),
                Wanted::Close(half) => {
                    let client = self.clients.iter().find(|it| *it.1 == half).map(|it| *it.0);
                    if let Some(id) = client {
                        self.clients.remove(&id);
                        self.gateway.closed(id);
                    }
                }
            }
        }
    }

    /// Tells the link something; what it publishes goes through the books that logic keeps.
    fn tell(&mut self, what: impl FnOnce(&mut Link, &mut dyn FnMut(Event))) {
        let Self { link, market, digest, seen, .. } = self;
        let mut publish = |event: Event| {
            digest.write(&event.logical());
            seen.note(&event, market);
        };
        what(link, &mut publish);
    }

    /// Logic keeps the books; what breaks there is told to the feed, as in the engine.
    fn mend(&mut self) {
        if self.market.broken_books() > self.broken {
            self.broken = self.market.broken_books();
            if let Some((id, why)) = self.market.last_broken() {
                let at = Nanos(self.at);
                self.tell(|link, publish| link.resync(at, Some(id), why, publish));
            }
        }
    }

    fn instruments(&self) -> Vec<InstrumentId> {
        self.link.instruments().to_vec()
    }

    fn is_calm(&self) -> bool {
        self.link.is_whole() && self.instruments().iter().all(|&id| self.market.is_valid(id))
    }
}

impl Seen {
    fn note(&mut self, event: &Event, market: &mut Market) {
        self.events += 1;
        market.on_event(event);
        match event.news() {
            News::Trade { .. } => self.trades += 1,
            News::Book { flags, .. } => {
                self.books += 1;
                if flags.has(kairos_logic::event::Flags::LAST)
                    && let Some(book) = market.book(event.instrument)
                    && book.is_valid()
                    && let (Some(bid), Some(ask)) = (book.best(Side::Buy), book.best(Side::Sell))
                {
                    self.crossed += u64::from(bid.price >= ask.price);
                }
            }
            News::Gap { reason, .. } => {
                self.gaps += u64::from(reason != GapReason::Disconnected);
            }
            News::Status { code, .. } => match code {
                StatusCode::LinkUp => self.links_up += 1,
                StatusCode::LinkDown => self.links_down += 1,
                StatusCode::LinkReplaced => self.replaced += 1,
                StatusCode::LinkRefused => self.refused += 1,
                StatusCode::Malformed => self.malformed += 1,
                _ => {}
            },
            _ => {}
        }
        if event.kind == Kind::Book
            && event.flags.has(kairos_logic::event::Flags::CLEAR)
            && event.flags.has(kairos_logic::event::Flags::SNAPSHOT)
        {
            self.resyncs += 1;
        }
    }
}

/// What the venue lists, in its own words, read as the engine reads it.
fn listed(venue: Venue, protocol: Protocol, seed: u64) -> InstrumentTable {
    let mut gateway = Gateway::new(GatewayOptions::seeded(protocol, seed), "ws://sim".into());
    let answer = gateway.answer(Nanos(SECOND), &Request::new("GET", venue.list_path()));
    assert_eq!(answer.status, 200, "{} {}", venue.name(), answer.body);
    let listings = venue.parse_list(answer.body.as_bytes(), &[]).unwrap();
    let mut table = InstrumentTable::default();
    table.venues.push(venue.name().into());
    for symbol in gateway.symbols() {
        let listing = listings.iter().find(|it| it.symbol == symbol).unwrap();
        assert!(listing.trading, "{symbol}");
        let instrument = listing.instrument(VenueId(0), Fees::default(), &mut table);
        table.instruments.push(instrument);
    }
    table
}

/// Faults of every kind for ten minutes, about one every second.
const STORM: [&str; 21] = [
    "drop@13000:40",
    "drop=trade@17000:30",
    "drop=quote@19000:30",
    "duplicate@23000:25",
    "duplicate=trade@29000:20",
    "reorder@16000:35",
    "reorder=any@27000:20",
    "corrupt@21000:25",
    "corrupt=trade@31000:18",
    "flip@22000:25",
    "cut@37000:15",
    "stall=2000@41000:14",
    "stall@157000:3",
    "close=1001@43000:13",
    "close=1012@53000:11",
    "huge=1@149000:3",
    "refuse=1500@33000:18",
    "slow=3000@47000:12",
    "handshake=503@39000:15",
    "handshake=429@181000:3",
    "rest=503@25000:20",
];
/// How long they come.
const STORM_S: u64 = 600;

fn storm(venue: Venue, seed: u64) -> (Seen, u64) {
    let mut world = World::new(venue, seed, &STORM);
    world.run(STORM_S * SECOND);
    println!("{}: {:?}", venue.name(), world.gateway.done());
    let struck: BTreeSet<&str> = world.gateway.done().keys().copied().collect();
    for kind in [
        "drop",
        "duplicate",
        "reorder",
        "corrupt",
        "flip",
        "cut",
        "stall",
        "close",
        "refuse",
        "handshake",
        "slow",
    ] {
        assert!(struck.contains(kind), "{}: {kind} befell nobody: {struck:?}", venue.name());
    }
    // Calm: whatever was lost comes back, however long the last wait was. Faults that found nobody
    // to befall may still come.
    let (mut waited, mut calm) = (0, 0);
    while calm < 20 && waited < 300 {
        world.run(SECOND);
        waited += 1;
        calm = if world.is_calm() { calm + 1 } else { 0 };
    }
    let name = venue.name();
    assert!(world.is_calm(), "{name}: not whole after {waited} s: {:?}", world.seen);
    let seen = &world.seen;
    assert_eq!(seen.crossed, 0, "{name}: a crossed book was published");
    assert!(seen.gaps >= 5, "{name}: {seen:?}");
    assert!(seen.resyncs >= seen.links_up, "{name}: {seen:?}");
    assert_eq!(seen.links_up, seen.links_down + 1, "{name}: {seen:?}");
    assert!(seen.events > 10_000 && seen.trades > 1_000, "{name}: {seen:?}");
    (world.seen.clone(), world.digest.finish())
}

#[test]
fn every_venue_comes_through_a_minute_of_faults() {
    for venue in Venue::ALL {
        let (seen, digest) = storm(venue, 7);
        println!("{}: {seen:?}", venue.name());
        let again = storm(venue, 7);
        assert_eq!((&seen, digest), (&again.0, again.1), "{}: same seed", venue.name());
        let other = storm(venue, 8);
        assert_ne!(digest, other.1, "{}: another seed", venue.name());
    }
}

#[test]
fn connections_are_replaced_before_they_are_cut_and_no_trade_is_missed() {
    for venue in [Venue::Binance, Venue::Okx] {
        let mut world = World::new(venue, 3, &["age=40"]);
        world.run(200 * SECOND);
        let seen = &world.seen;
        let name = venue.name();
        assert!(seen.replaced >= 3, "{name}: {seen:?}");
        assert_eq!((seen.links_up, seen.links_down, seen.gaps), (1, 0, 0), "{name}: {seen:?}");
        assert!(world.is_calm(), "{name}");
    }
}
