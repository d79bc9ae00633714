//! Links against a scripted session: what is wanted, what is published, in which order.

use std::sync::Arc;

use kairos_logic::event::{Event, Flags, GapReason};
use kairos_logic::units::{InstrumentId, Nanos, Price, Qty, Side as BookSide, Stamp, VenueId};

use super::*;
use crate::session::Fault;
use crate::testing::words;

const SECOND: u64 = 1_000_000_000;

/// A session of two instruments whose frames are its script: `trade I ID`, `snap I PRICE`,
/// `level I PRICE`, `quote I`, `gap I`, `age`, `shutdown`, `silent`, `bad`.
struct Scripted {
    ids: Vec<InstrumentId>,
    known: [bool; 2],
    ask: bool,
    counters: Counters,
}

impl Scripted {
    fn boxed(ask: bool) -> Box<dyn MarketSession> {
        let ids = vec![InstrumentId(0), InstrumentId(1)];
        Box::new(Self { ids, known: [false; 2], ask, counters: Counters::default() })
    }
}

impl MarketSession for Scripted {
    fn venue(&self) -> VenueId {
        VenueId(0)
    }
    fn instruments(&self) -> &[InstrumentId] {
        &self.ids
    }
    fn dial(&self) -> Dial {
        if self.ask { Dial::Ask("/token".into()) } else { Dial::Path("/stream".into()) }
    }
    fn on_dial_reply(&mut self, body: &[u8]) -> Result<String, NoAddress> {
        match body {
            b"bad" => Err(Fault::Shape.into()),
            b"busy" => Err(NoAddress::Refused { words: "too many".into(), retry_after_s: 30 }),
            text => Ok(String::from_utf8_lossy(text).into_owned()),
        }
    }
    fn on_open(&mut self, _at: Nanos, out: &mut Outbox, _publish: &mut Publish<'_>) {
        out.send("subscribe");
    }
    fn on_frame(
        &mut self,
        arrival: Arrival,
        frame: &[u8],
        out: &mut Outbox,
        publish: &mut Publish<'_>,
    ) {
        self.counters.frames += 1;
        let text = std::str::from_utf8(frame).unwrap();
        let mut fields = text.split(' ');
        let what = fields.next().unwrap();
        let mut number = || fields.next().map_or(0, |it| it.parse::<u64>().unwrap());
        let id = InstrumentId(u16::try_from(number()).unwrap());
        let value = number();
        let price = Price(i64::try_from(value).unwrap());
        let (at, none) = (arrival.at, Nanos(0));
        match what {
            "trade" => publish(Event::trade(at, none, id, Price(1), Qty(1), value, BookSide::Buy)),
            "snap" => {
                self.known[id.index()] = true;
                let flags = Flags::SNAPSHOT.with(Flags::CLEAR).with(Flags::LAST);
                publish(Event::book(at, none, id, BookSide::Buy, price, Qty(1), 0, flags));
            }
            "level" => {
                let flags = Flags::LAST;
                publish(Event::book(at, none, id, BookSide::Buy, price, Qty(1), 0, flags));
            }
            "quote" => {
                let (bid, ask) = ((Price(1), Qty(1)), (Price(2), Qty(1)));
                publish(Event::quote(at, none, id, bid, ask));
            }
            "gap" => publish(Event::gap(at, id, GapReason::Sequence, 0, 0)),
            "age" => out.reconnect(Reconnect::Age),
            "shutdown" => out.reconnect(Reconnect::VenueShutdown),
            "silent" => out.reconnect(Reconnect::Silent),
            "bad" => out.reconnect(Reconnect::Malformed),
            "want" => {
                let path = Arc::from("/book");
                out.request(crate::session::SnapshotRequest { instrument: id, path });
            }
            _ => panic!("no such frame: {text}"),
        }
    }
    fn on_snapshot(
        &mut self,
        _arrival: Arrival,
        instrument: Option<InstrumentId>,
        _body: &[u8],
        _out: &mut Outbox,
        _publish: &mut Publish<'_>,
    ) {
        self.known[instrument.unwrap().index()] = true;
    }
    fn on_rest(
        &mut self,
        _arrival: Arrival,
        _target: Option<&str>,
        _body: &[u8],
        _out: &mut Outbox,
        _publish: &mut Publish<'_>,
    ) {
    }
    fn on_snapshot_failed(&mut self, _at: Nanos, _instrument: InstrumentId) {
        self.counters.ignored += 1;
    }
    fn on_alive(&mut self, _at: Nanos) {}
    fn is_whole(&self) -> bool {
        self.known == [true; 2]
    }
    fn on_time(&mut self, _at: Nanos, _out: &mut Outbox, _publish: &mut Publish<'_>) {}
    fn on_close(&mut self, at: Nanos, publish: &mut Publish<'_>) {
        self.known = [false; 2];
        for &id in &self.ids {
            publish(Event::gap(at, id, GapReason::Disconnected, 0, 0));
        }
    }
    fn resync(
        &mut self,
        at: Nanos,
        instrument: Option<InstrumentId>,
        why: GapReason,
        _out: &mut Outbox,
        publish: &mut Publish<'_>,
    ) {
        for &id in self.ids.iter().filter(|&&id| instrument.is_none_or(|it| it == id)) {
            publish(Event::gap(at, id, why, 0, 0));
        }
    }
    fn instrument(&self, _symbol: &str) -> Option<InstrumentId> {
        None
    }
    fn counters(&self) -> &Counters {
        &self.counters
    }
}

/// A link under a hand-turned clock.
struct Rig {
    link: Link,
    at: u64,
    said: Vec<String>,
}

impl Rig {
    fn new(ask: bool) -> Self {
        let options = LinkOptions { number: 3, backoff: BackoffOptions::default(), seed: 5 };
        let link = Link::new([Scripted::boxed(ask), Scripted::boxed(ask)], options);
        Self { link, at: SECOND, said: Vec::new() }
    }

    /// Does one thing: `wait MS`, `up HALF`, `refuse HALF STATUS RETRY`, `lost HALF`, `address HALF
    /// TEXT`, `fetched HALF I STATUS`, `resync I`, or `HALF FRAME`. Then everything that is wanted.
    fn step(&mut self, input: &str) -> Vec<String> {
        let mut said = std::mem::take(&mut self.said);
        let publish = &mut |event: Event| said.push(words(&event));
        let fields: Vec<&str> = input.splitn(3, ' ').collect();
        let number = |n: usize| fields.get(n).map_or(0, |it| it.parse::<u64>().unwrap());
        let link = &mut self.link;
        let half = |place: u64, link: &Link| {
            let place = u8::try_from(place).unwrap();
            Half { place, attempt: link.sides[usize::from(place)].attempt }
        };
        let at = Nanos(self.at);
        let refusal = |status: u64, retry_after_s: u64| Refusal {
            status: u16::try_from(status).unwrap(),
            retry_after_s,
            words: "go away",
        };
        match fields[0] {
            "wait" => {
                self.at += number(1) * 1_000_000;
                link.on_time(Nanos(self.at), publish);
            }
            "up" => {
                let half = half(number(1), link);
                assert!(link.on_connected(half, at, publish), "{input}");
            }
            "refuse" => {
                let (half, rest) = (half(number(1), link), fields[2]);
                let (status, retry) = rest.split_once(' ').unwrap();
                let refusal = refusal(status.parse().unwrap(), retry.parse().unwrap());
                link.on_refused(half, at, refusal, publish);
            }
            "lost" => link.on_lost(half(number(1), link), at, "cut off", publish),
            "address" => {
                let half = half(number(1), link);
                link.on_address(half, at, Ok(fields[2].as_bytes()), publish);
            }
            "fetched" => {
                let half = half(number(1), link);
                let arrival = Arrival { at, recv: Stamp(1), number: 1 };
                let answer = match fields[2] {
                    "200" => Ok(&b"{}"[..]),
                    status => Err(refusal(status.parse().unwrap(), 0)),
                };
                link.on_fetched(half, InstrumentId(0), arrival, answer, publish);
            }
            "resync" => link.resync(at, Some(InstrumentId(0)), GapReason::Crossed, publish),
            place => {
                let half = half(place.parse().unwrap(), link);
                let arrival = Arrival { at, recv: Stamp(1), number: 1 };
                let (_, frame) = input.split_once(' ').unwrap();
                link.on_frame(half, arrival, frame.as_bytes(), publish);
            }
        }
        let mut wishes = Vec::new();
        let mut wish = |it: Wish<'_>| {
            wishes.push(match it {
                Wish::DialPath(half, path) => format!("dial {} {path}", half.place),
                Wish::DialUrl(half, url) => format!("dial {} {url}", half.place),
                Wish::Ask(half, path) => format!("ask {} {path}", half.place),
                Wish::Send(half, text) => format!("send {} {text}", half.place),
                Wish::Fetch(half, id, path) => format!("fetch {} {} {path}", half.place, id.0),
                Wish::Close(half) => format!("close {}", half.place),
            });
        };
        link.serve(Nanos(self.at), &mut wish, publish);
        // Counters have a test of their own.
        said.retain(|it| !COUNTS.iter().any(|name| it.contains(name)));
        said.extend(wishes);
        said
    }
}

const COUNTS: [&str; 8] = [
    "link_frames",
    "link_bytes",
    "link_events",
    "link_malformed",
    "link_gaps",
    "link_resyncs",
    "link_reconnects",
    "link_age",
];

fn check(ask: bool, steps: &[(&str, &[&str])]) -> Link {
    let mut rig = Rig::new(ask);
    for (input, want) in steps {
        assert_eq!(&rig.step(input), want, "{input}");
    }
    rig.link
}

const UP: &str = "65535 link_up 0 3";
const DOWN: &str = "65535 link_down 0 3";
const LOST: [&str; 2] = ["0 gap disconnected 0 0", "1 gap disconnected 0 0"];
const SNAP_0: &str = "0 bid 1@7 u0 snapshot clear last";
const SNAP_1: &str = "1 bid 1@7 u0 snapshot clear last";

#[test]
fn a_link_connects_subscribes_and_speaks() {
    let link = check(
        false,
        &[
            ("wait 0", &["dial 0 /stream"]),
            ("wait 100", &[]),
            ("up 0", &[UP, "send 0 subscribe"]),
            ("0 snap 0 7", &[SNAP_0]),
            ("0 snap 1 7", &[SNAP_1]),
            ("0 trade 0 5", &["0 trade 5 Buy 1@1"]),
            ("0 trade 0 5", &["0 trade 5 Buy 1@1"]),
        ],
    );
    assert!(link.is_up() && link.is_whole());
    assert_eq!((link.counts().frames, link.counts().reconnects), (4, 0));
}

#[test]
fn a_lost_link_says_so_and_tries_again_later_and_later() {
    let mut rig = Rig::new(false);
    rig.step("wait 0");
    rig.step("up 0");
    let lost = rig.step("lost 0");
    assert_eq!(lost, [LOST[0], LOST[1], DOWN, "65535 said \"cut off\""]);
    let mut waits = Vec::new();
    for _ in 0..8 {
        let from = rig.at;
        while rig.step("wait 1") != ["dial 0 /stream"] {}
        waits.push((rig.at - from) / 1_000_000);
        let refused = rig.step("refuse 0 0 0");
        assert_eq!(refused, ["65535 link_refused 0 3", "65535 said \"go away\""]);
    }
    for (n, wait) in waits.iter().enumerate() {
        let middle = (250_u64 << n).min(10_000);
        assert!((middle * 8 / 10..=middle * 12 / 10 + 1).contains(wait), "{waits:?}");
    }
    // A minute of health makes the first wait short again.
    while rig.step("wait 1") != ["dial 0 /stream"] {}
    rig.step("up 0");
    rig.step("wait 60000");
    rig.step("lost 0");
    let from = rig.at;
    while rig.step("wait 1") != ["dial 0 /stream"] {}
    assert!((rig.at - from) / 1_000_000 <= 301, "{}", rig.at - from);
    assert_eq!(rig.link.counts().reconnects, 1);
}

#[test]
fn what_comes_for_an_earlier_attempt_is_late() {
    let mut rig = Rig::new(false);
    rig.step("wait 0");
    let first = Half { place: 0, attempt: 1 };
    rig.step("up 0");
    rig.step("lost 0");
    rig.step("wait 1000");
    let quiet = &mut |event: Event| panic!("{event:?}");
    assert!(!rig.link.on_connected(first, Nanos(rig.at), quiet));
    rig.link.on_frame(first, Arrival::default(), b"trade 0 1", quiet);
    rig.link.on_lost(first, Nanos(rig.at), "", quiet);
    let arrival = Arrival::default();
    rig.link.on_fetched(first, InstrumentId(0), arrival, Ok(b"{}"), quiet);
    let second = Half { place: 0, attempt: 2 };
    assert!(rig.link.on_connected(second, Nanos(rig.at), &mut |_| {}));
    assert!(!rig.link.on_connected(second, Nanos(rig.at), quiet), "twice");
}

#[test]
fn an_address_may_have_to_be_asked_for() {
    check(
        true,
        &[
            ("wait 0", &["ask 0 /token"]),
            ("address 0 wss://there/?token=1", &["dial 0 wss://there/?token=1"]),
            ("up 0", &[UP, "send 0 subscribe"]),
            ("lost 0", &[LOST[0], LOST[1], DOWN, "65535 said \"cut off\""]),
            ("wait 1000", &["ask 0 /token"]),
            ("address 0 bad", &["65535 link_refused 200 3", "65535 said \"unexpected shape\""]),
            ("wait 1000", &["ask 0 /token"]),
            (
                "address 0 busy",
                &["65535 link_refused 200 3", "65535 said \"too many\"", "65535 rate_limited 30"],
            ),
            ("wait 29999", &[]),
            ("wait 1", &["ask 0 /token"]),
        ],
    );
}

#[test]
fn what_one_link_was_told_another_heeds() {
    let mut told = Rig::new(false);
    told.step("wait 0");
    told.step("refuse 0 418 0");
    let mut other = Rig::new(false);
    other.step("wait 0");
    other.step("up 0");
    other.link.leave_alone(told.link.leave_alone_until());
    // It speaks on, asks for nothing, and stays away once it is lost.
    assert_eq!(other.step("0 trade 0 1"), ["0 trade 1 Buy 1@1"]);
    assert!(other.step("0 want 0").is_empty());
    other.step("lost 0");
    assert!(other.step("wait 119999").is_empty());
    assert_eq!(other.step("wait 1"), ["dial 0 /stream"]);
    // A snapshot that was refused keeps nobody from connecting.
    let mut told = Rig::new(false);
    told.step("wait 0");
    told.step("up 0");
    told.step("0 want 0");
    told.step("fetched 0 429");
    let mut other = Rig::new(false);
    other.link.leave_alone(told.link.leave_alone_until());
    assert_eq!(other.step("wait 0"), ["dial 0 /stream"]);
    other.step("up 0");
    assert!(other.step("0 want 0").is_empty());
}

#[test]
fn a_venue_that_wants_to_be_left_alone_is() {
    check(
        false,
        &[
            ("wait 0", &["dial 0 /stream"]),
            (
                "refuse 0 429 30",
                &["65535 link_refused 429 3", "65535 said \"go away\"", "65535 rate_limited 30"],
            ),
            ("wait 29999", &[]),
            ("wait 1", &["dial 0 /stream"]),
            (
                "refuse 0 418 0",
                &["65535 link_refused 418 3", "65535 said \"go away\"", "65535 banned 120"],
            ),
            ("wait 119999", &[]),
            ("wait 1", &["dial 0 /stream"]),
            ("up 0", &[UP, "send 0 subscribe"]),
            ("0 want 0", &["fetch 0 0 /book"]),
            (
                "fetched 0 429",
                &["0 fetch_failed 429", "0 said \"go away\"", "65535 rate_limited 60"],
            ),
            // Put off, however often it is wanted, and done once as soon as it may be.
            ("0 want 0", &[]),
            ("wait 59999", &[]),
            ("0 want 0", &[]),
            ("wait 1", &["fetch 0 0 /book"]),
            ("0 want 0", &["fetch 0 0 /book"]),
        ],
    );
}

#[test]
fn a_connection_is_replaced_without_a_hole_and_without_an_echo() {
    let link = check(
        false,
        &[
            ("wait 0", &["dial 0 /stream"]),
            ("up 0", &[UP, "send 0 subscribe"]),
            ("0 snap 0 7", &[SNAP_0]),
            ("0 snap 1 7", &[SNAP_1]),
            ("0 trade 0 5", &["0 trade 5 Buy 1@1"]),
            ("0 age", &["dial 1 /stream"]),
            ("0 age", &[]),
            ("up 1", &["send 1 subscribe"]),
            // Both hear the same trade: one is an echo, whoever is first.
            ("0 trade 0 6", &["0 trade 6 Buy 1@1"]),
            ("1 trade 0 6", &[]),
            ("1 trade 0 7", &["0 trade 7 Buy 1@1"]),
            ("0 trade 0 7", &[]),
            // Books and quotes come from the old one until the new one knows the book.
            ("1 quote 0", &[]),
            ("1 gap 0", &[]),
            ("0 level 0 8", &["0 bid 1@8 u0 last"]),
            ("1 snap 0 7", &[SNAP_0]),
            ("0 level 0 9", &[]),
            ("0 gap 0", &[]),
            ("0 quote 0", &[]),
            ("1 quote 0", &["0 quote 1@1 1@2"]),
            ("1 level 0 9", &["0 bid 1@9 u0 last"]),
            ("0 level 1 9", &["1 bid 1@9 u0 last"]),
            ("1 snap 1 7", &[SNAP_1, "65535 link_replaced 0 3", "close 0"]),
            ("1 trade 0 8", &["0 trade 8 Buy 1@1"]),
            ("1 gap 0", &["0 gap sequence 0 0"]),
            // And back again, a day later.
            ("1 shutdown", &["dial 0 /stream"]),
        ],
    );
    assert!(link.is_up());
    assert_eq!(link.counts().reconnects, 1);
}

#[test]
fn a_hand_over_survives_the_loss_of_either_side() {
    let begun: [(&str, &[&str]); 7] = [
        ("wait 0", &["dial 0 /stream"]),
        ("up 0", &[UP, "send 0 subscribe"]),
        ("0 snap 0 7", &[SNAP_0]),
        ("0 snap 1 7", &[SNAP_1]),
        ("0 age", &["dial 1 /stream"]),
        ("up 1", &["send 1 subscribe"]),
        ("1 snap 0 7", &[SNAP_0]),
    ];
    // The newcomer is lost: what it had taken is rebuilt on the old one.
    let newcomer_lost: [(&str, &[&str]); 4] = [
        ("lost 1", &[LOST[0], "0 gap disconnected 0 0"]),
        ("0 snap 0 7", &[SNAP_0]),
        ("0 age", &[]),
        ("wait 1000", &[]),
    ];
    let link = check(false, &[&begun[..], &newcomer_lost[..]].concat());
    assert!(link.is_up() && link.is_whole());
    // The old one is lost: the newcomer has the rest to follow.
    let old_lost: [(&str, &[&str]); 4] = [
        ("lost 0", &[LOST[1], "65535 link_replaced 0 3"]),
        ("1 level 1 9", &["1 bid 1@9 u0 last"]),
        ("1 snap 1 7", &[SNAP_1]),
        ("1 age", &["dial 0 /stream"]),
    ];
    let link = check(false, &[&begun[..], &old_lost[..]].concat());
    assert!(link.is_up() && link.is_whole());
    // Nothing comes of it within a minute: the old one goes on, and it is tried again.
    let stuck: [(&str, &[&str]); 3] = [
        ("wait 60001", &[LOST[0], "0 gap disconnected 0 0", "close 1"]),
        ("0 level 0 8", &["0 bid 1@8 u0 last"]),
        ("wait 1000", &[]),
    ];
    let link = check(false, &[&begun[..], &stuck[..], &[("0 age", &["dial 1 /stream"])]].concat());
    assert!(link.is_up());
}

#[test]
fn a_connection_that_cannot_be_trusted_is_dropped_at_once() {
    let gone = [LOST[0], LOST[1], "65535 link_down 4 3", "65535 said \"no sign of lif\""];
    let mut rig = Rig::new(false);
    rig.step("wait 0");
    rig.step("up 0");
    let said = rig.step("0 silent");
    assert_eq!(said[..3], gone[..3]);
    assert_eq!(said.last().unwrap(), "close 0");
    assert!(!rig.link.is_up());
    while rig.step("wait 1") != ["dial 0 /stream"] {}
    rig.step("up 0");
    let said = rig.step("0 bad");
    assert_eq!(said[2], "65535 link_down 1 3");
}

#[test]
fn an_attempt_without_end_is_given_up() {
    let mut rig = Rig::new(false);
    rig.step("wait 0");
    assert!(rig.step("wait 60000").is_empty());
    let said = rig.step("wait 1");
    assert_eq!(said[0], "65535 link_refused 0 3");
    while rig.step("wait 1") != ["dial 0 /stream"] {}
}

#[test]
fn counters_are_told_every_minute() {
    let mut link = check(
        false,
        &[
            ("wait 0", &["dial 0 /stream"]),
            ("up 0", &[UP, "send 0 subscribe"]),
            ("0 gap 0", &["0 gap sequence 0 0"]),
        ],
    );
    let mut said = Vec::new();
    link.on_time(Nanos(62 * SECOND), &mut |event| said.push(words(&event)));
    let want = [
        "65535 link_frames 1 3",
        "65535 link_bytes 5 3",
        "65535 link_events 0 3",
        "65535 link_malformed 0 3",
        "65535 link_gaps 1 3",
        "65535 link_resyncs 0 3",
        "65535 link_reconnects 0 3",
        "65535 link_age 61000000000 3",
    ];
    assert_eq!(said, want);
    said.clear();
    link.on_time(Nanos(63 * SECOND), &mut |event| said.push(words(&event)));
    assert!(said.is_empty(), "{said:?}");
}

/// Recorded connections of one link: each frame with its second, its connection and what comes of it.
fn played(spans: &[(u64, Option<u64>)], frames: &[(u64, usize, &str, &[&str])]) {
    let at = |second: u64| Nanos(second * SECOND);
    let parts = spans.iter().map(|&(opened, closed)| {
        let span = recorded::Span { opened: at(opened), closed: closed.map(at) };
        (Scripted::boxed(false), span)
    });
    let mut sessions = recorded::together(parts.collect());
    let mut out = Outbox::new();
    for &(second, place, frame, want) in frames {
        let arrival = Arrival { at: at(second), recv: Stamp(1), number: 1 };
        let mut said = Vec::new();
        let publish = &mut |event: Event| said.push(words(&event));
        sessions[place].on_frame(arrival, frame.as_bytes(), &mut out, publish);
        assert_eq!(said, want, "{second} s, connection {place}: {frame}");
    }
}

#[test]
fn a_recorded_connection_that_was_lost_leaves_a_gap_to_its_successor() {
    let (lost_0, lost_1) = ("0 gap disconnected 0 0", "1 gap disconnected 0 0");
    played(
        &[(1, Some(5)), (6, None)],
        &[
            (1, 0, "snap 0 1", &["0 bid 1@1 u0 snapshot clear last"]),
            (4, 0, "trade 0 7", &["0 trade 7 Buy 1@1"]),
            (6, 1, "trade 0 8", &[lost_0, lost_1, "0 trade 8 Buy 1@1"]),
            (7, 1, "snap 0 2", &["0 bid 1@2 u0 snapshot clear last"]),
            // Nothing of what is over.
            (7, 0, "trade 0 9", &[]),
        ],
    );
}

#[test]
fn recorded_connections_that_overlap_hand_over() {
    let begin: [(u64, usize, &str, &[&str]); 6] = [
        (1, 0, "trade 0 7", &["0 trade 7 Buy 1@1"]),
        (6, 1, "trade 0 7", &[]),
        (6, 1, "trade 0 8", &["0 trade 8 Buy 1@1"]),
        (6, 1, "level 0 2", &[]),
        (6, 1, "snap 0 2", &["0 bid 1@2 u0 snapshot clear last"]),
        (6, 0, "level 1 3", &["1 bid 1@3 u0 last"]),
    ];
    // To the end: from then on the old one is not heard.
    let mut frames = begin.to_vec();
    frames.extend([
        (6, 0, "level 0 3", &[][..]),
        (7, 1, "snap 1 4", &["1 bid 1@4 u0 snapshot clear last"][..]),
        (7, 0, "level 1 5", &[]),
        (7, 1, "level 1 5", &["1 bid 1@5 u0 last"]),
    ]);
    played(&[(1, Some(8)), (6, None)], &frames);
    // The newcomer is lost: what it had taken goes back, to be rebuilt.
    let mut frames = begin.to_vec();
    frames.extend([
        (9, 0, "level 1 5", &["0 gap disconnected 0 0", "1 bid 1@5 u0 last"][..]),
        (9, 0, "level 0 5", &["0 bid 1@5 u0 last"][..]),
    ]);
    played(&[(1, None), (6, Some(8))], &frames);
    // The old one is lost before its successor has everything: the rest follows.
    let mut frames = begin.to_vec();
    frames.extend([
        (9, 1, "snap 1 4", &["1 bid 1@4 u0 snapshot clear last"][..]),
        (9, 1, "level 0 5", &["0 bid 1@5 u0 last"][..]),
    ]);
    played(&[(1, Some(8)), (6, None)], &frames);
}
