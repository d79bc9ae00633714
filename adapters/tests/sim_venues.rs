//! Each venue's side of its protocol against a plain client of that venue, under virtual time.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "sim/reader.rs"]
mod reader;

use std::collections::BTreeMap;

use kairos_adapters::sim::faults::{Fault, Faults};
use kairos_adapters::sim::gateway::{Action, Gateway, GatewayOptions};
use kairos_adapters::sim::market::Pair;
use kairos_adapters::sim::venue::{Protocol, Request};
use kairos_logic::units::{Nanos, Side};
use proptest::prelude::*;

use crate::reader::{Book, Reader, Wish};

const MS: u64 = 1_000_000;
const START: Nanos = Nanos(1_700_000_000_000_000_000);

/// A gateway and one client of it.
struct Rig {
    gateway: Gateway,
    reader: Reader,
    now: Nanos,
    client: Option<u64>,
    opened: u32,
    /// Every action, as it came.
    said: Vec<Action>,
}

impl Rig {
    fn new(protocol: Protocol, seed: u64, faults: &[&str]) -> Self {
        let faults: Vec<Fault> = faults.iter().map(|it| it.parse().unwrap()).collect();
        let options = GatewayOptions {
            faults: Faults::new(seed, &faults),
            ..GatewayOptions::seeded(protocol, seed)
        };
        let gateway = Gateway::new(options, "ws://127.0.0.1:1".to_owned());
        let symbols: Vec<String> = gateway.symbols().map(str::to_owned).collect();
        let reader = Reader::new(protocol.name(), &symbols);
        Self { gateway, reader, now: START, client: None, opened: 0, said: Vec::new() }
    }

    fn token(&mut self) -> String {
        let reply = self.gateway.answer(self.now, &Request::new("POST", "/api/v1/bullet-public"));
        let reply: serde_json::Value = serde_json::from_str(&reply.body).unwrap_or_default();
        reply["data"]["token"].as_str().unwrap_or("").to_owned()
    }

    fn connect(&mut self) {
        let token = self.token();
        let request = Request::new("GET", &self.reader.target(&token));
        if self.gateway.knock(self.now).refused || self.gateway.admit(self.now, &request).is_err() {
            return;
        }
        self.client = Some(self.gateway.open(self.now, &request));
        self.opened += 1;
        let wishes = self.reader.open();
        self.grant(wishes);
    }

    fn disconnect(&mut self) {
        if let Some(id) = self.client.take() {
            self.gateway.closed(id);
        }
    }

    fn grant(&mut self, wishes: Vec<Wish>) {
        for wish in wishes {
            let Some(id) = self.client else {
                return;
            };
            match wish {
                Wish::Send(text) => self.gateway.text(self.now, id, &text),
                Wish::Get { symbol, target } => {
                    let reply = self.gateway.answer(self.now, &Request::new("GET", &target));
                    let more = match reply.status {
                        200 => self.reader.rest(&symbol, &reply.body),
                        _ => vec![Wish::Get { symbol, target }],
                    };
                    // A body that is too old is asked for again when time has passed.
                    if !more.is_empty() {
                        self.pass(50);
                    }
                    self.grant(more);
                }
                Wish::Reconnect => self.disconnect(),
            }
        }
    }

    /// Lets time pass.
    fn pass(&mut self, ms: u64) {
        let until = self.now.plus(ms * MS);
        while self.now < until {
            self.now = self.now.plus(5 * MS);
            if self.client.is_none() {
                self.connect();
            }
            self.gateway.advance(self.now, usize::MAX);
            while let Some((id, action)) = self.gateway.act() {
                assert_eq!(Some(id), self.client, "{action:?}");
                self.said.push(action.clone());
                match action {
                    Action::Text(text) => {
                        let wishes = self.reader.text(&text);
                        self.grant(wishes);
                    }
                    Action::Ping(payload) => {
                        self.gateway.control(self.now, id, Some(&payload));
                    }
                    Action::Close { .. } | Action::CutIn(_) => self.disconnect(),
                }
            }
        }
    }

    fn check_books(&self) {
        let venue = self.gateway.symbols().zip(self.gateway.market().pairs());
        for (symbol, pair) in venue {
            let book = &self.reader.books[symbol];
            assert!(book.valid, "{symbol}");
            check_book(symbol, book, pair);
        }
    }
}

fn check_book(symbol: &str, book: &Book, pair: &Pair) {
    let price_unit = 10_i128.pow(8 - pair.shape.tick_decimals);
    let qty_unit = 10_i128.pow(8 - pair.shape.lot_decimals);
    let most = if symbol.contains('/') { 10 } else { usize::MAX };
    for (side, found) in [Side::Buy, Side::Sell].into_iter().zip(&book.sides) {
        let [bids, asks] = pair.published();
        let levels: Vec<(&i64, &i64)> = match side {
            Side::Buy => bids.iter().rev().take(most).collect(),
            Side::Sell => asks.iter().take(most).collect(),
        };
        let want = levels
            .into_iter()
            .map(|(&price, &qty)| (i128::from(price) * price_unit, i128::from(qty) * qty_unit));
        let want: BTreeMap<i128, i128> = want.collect();
        assert_eq!(found, &want, "{symbol} {side:?}");
    }
}

#[test]
fn without_a_fault_there_is_no_gap_and_every_book_is_the_markets() {
    for protocol in Protocol::ALL {
        let mut rig = Rig::new(protocol, 7, &[]);
        rig.pass(3_000);
        for _ in 0..50 {
            rig.pass(100);
            rig.check_books();
        }
        let reader = &rig.reader;
        assert_eq!((reader.gaps, reader.malformed, rig.opened), (0, 0, 1), "{protocol:?}");
        assert_eq!(reader.snapshots, 3, "{protocol:?}");
        assert!(reader.trades > 100, "{protocol:?} {}", reader.trades);
        let heard = |name: &str| *reader.heard.get(name).unwrap_or(&0);
        let acks = match protocol {
            Protocol::Binance => heard("ack"),
            Protocol::Okx => heard("subscribe") + heard("keepalive"),
            Protocol::Coinbase => heard("subscriptions") + heard("heartbeats"),
            Protocol::Kraken => heard("subscribe") + heard("heartbeat") + heard("status"),
            Protocol::Kucoin => heard("welcome") + heard("ack"),
        };
        let want = match protocol {
            Protocol::Binance => 1,
            Protocol::Okx => 6 + 3,
            Protocol::Coinbase => 3 + 8,
            Protocol::Kraken => 6 + 7 + 1,
            Protocol::Kucoin => 3,
        };
        assert_eq!(acks, want, "{protocol:?} {:?}", reader.heard);
    }
}

#[test]
fn every_fault_is_noticed_and_every_book_comes_back() {
    let detected = |protocol, fault: &str| match (protocol, fault) {
        // A repeated Binance update is old, a repeated absolute one of Kraken changes nothing.
        (Protocol::Binance | Protocol::Kraken, "duplicate") => false,
        _ => true,
    };
    for protocol in Protocol::ALL {
        for fault in ["drop", "duplicate", "corrupt", "cut", "close=1012", "stall=700"] {
            let mut rig = Rig::new(protocol, 11, &[&format!("{fault}@1500:3")]);
            rig.pass(9_000);
            let name = fault.split('=').next().unwrap();
            assert_eq!(rig.gateway.done().get(name), Some(&3), "{protocol:?} {fault}");
            rig.check_books();
            let (reader, opened) = (&rig.reader, rig.opened);
            let noticed = reader.gaps + reader.malformed + opened - 1;
            if detected(protocol, fault) {
                assert!(noticed >= 3, "{protocol:?} {fault}: {noticed}");
                assert!(reader.snapshots > 3, "{protocol:?} {fault}");
            } else {
                assert_eq!(noticed, 0, "{protocol:?} {fault}");
            }
        }
    }
}

#[test]
fn a_flipped_digit_is_caught_where_there_is_a_checksum() {
    let mut rig = Rig::new(Protocol::Kraken, 5, &["flip@400:20"]);
    rig.pass(12_000);
    assert_eq!(rig.gateway.done().get("flip"), Some(&20));
    rig.check_books();
    assert!(rig.reader.gaps >= 10, "{}", rig.reader.gaps);
}

#[test]
fn visitors_meet_what_was_planned_for_them() {
    let mut rig = Rig::new(Protocol::Kucoin, 5, &["handshake=503:2", "rest=429:4", "refuse=500"]);
    rig.pass(4_000);
    let done = rig.gateway.done();
    let want = [("handshake", 2), ("refuse", 1), ("rest", 4)];
    assert!(done.iter().map(|(&name, &count)| (name, count)).eq(want), "{done:?}");
    rig.check_books();
}

#[test]
fn connections_end_at_their_age_and_the_two_venues_that_say_so_do() {
    for protocol in Protocol::ALL {
        let mut rig = Rig::new(protocol, 5, &["age=4"]);
        rig.pass(3_000);
        let notices = |rig: &Rig| {
            let texts = rig.said.iter().filter(|it| match it {
                Action::Text(text) => text.contains("serverShutdown") || text.contains("64008"),
                Action::Ping(_) | Action::Close { .. } | Action::CutIn(_) => false,
            });
            texts.count()
        };
        let announces = matches!(protocol, Protocol::Binance | Protocol::Okx);
        // Two seconds before the end.
        assert_eq!((rig.opened, notices(&rig)), (1, usize::from(announces)), "{protocol:?}");
        rig.pass(3_000);
        assert_eq!(notices(&rig), usize::from(announces), "{protocol:?}");
        assert_eq!(rig.opened, 2, "{protocol:?}");
        rig.check_books();
    }
}

#[test]
fn the_same_seed_gives_the_same_frames_and_another_seed_others() {
    let faults = ["drop@900", "duplicate@1300", "corrupt@1700", "cut@2900", "stall=300@2100"];
    let frames = |protocol, seed| {
        let mut rig = Rig::new(protocol, seed, &faults);
        rig.pass(6_000);
        rig.said
    };
    for protocol in Protocol::ALL {
        assert!(frames(protocol, 1) == frames(protocol, 1), "{protocol:?}");
        assert!(frames(protocol, 1) != frames(protocol, 2), "{protocol:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Whatever a client sends, the server answers or closes, and others do not notice.
    #[test]
    fn nothing_a_client_says_breaks_the_server(
        venue in 0_usize..5,
        texts in prop::collection::vec(hostile(), 1..12),
    ) {
        let mut rig = Rig::new(Protocol::ALL[venue], 3, &[]);
        rig.pass(500);
        let request = Request::new("GET", &rig.reader.target("token"));
        let id = rig.gateway.open(rig.now, &request);
        for text in texts {
            rig.now = rig.now.plus(300 * MS);
            rig.gateway.text(rig.now, id, &text);
            rig.gateway.control(rig.now, id, Some(text.as_bytes()));
        }
        rig.gateway.closed(id);
        rig.pass(3_000);
        prop_assert_eq!(rig.reader.gaps, 0);
        rig.check_books();
    }

    #[test]
    fn no_request_breaks_the_server(venue in 0_usize..5, target in "/[a-zA-Z0-9/?=&_.-]{0,60}") {
        let mut rig = Rig::new(Protocol::ALL[venue], 3, &[]);
        let reply = rig.gateway.answer(START, &Request::new("GET", &target));
        prop_assert!((200..500).contains(&reply.status));
    }

    #[test]
    fn a_specification_is_a_fault_or_an_error_in_one_line(spec in "[a-z]{1,11}(=[a-z0-9]{0,8})?(@[0-9]{0,6})?(:[a-z0-9]{0,3})?") {
        if let Err(error) = spec.parse::<Fault>() {
            let text = error.to_string();
            prop_assert!(text.contains(&spec) && !text.contains('\n'));
        }
    }
}

fn hostile() -> impl Strategy<Value = String> {
    let words = prop::sample::select(vec![
        r#"{"method":"SUBSCRIBE","params":["x@trade",7],"id":null}"#,
        r#"{"method":"UNSUBSCRIBE","params":[]}"#,
        r#"{"op":"subscribe","args":[{"channel":"books"},{"instId":7},null]}"#,
        r#"{"op":"unsubscribe","args":[{"channel":"books","instId":"BTC-USDT"}]}"#,
        r#"{"type":"subscribe","channel":"level2","product_ids":["NO-SUCH"]}"#,
        r#"{"type":"unsubscribe","channel":"heartbeats"}"#,
        r#"{"method":"subscribe","params":{"channel":"book","symbol":["BTC/USD","\u0000"],"depth":-1}}"#,
        r#"{"id":[1],"type":"subscribe","topic":"/market/level2:","response":true}"#,
        r#"{"id":"\"","type":"subscribe","topic":":,,:"}"#,
        "ping",
        "",
    ]);
    prop_oneof![words.prop_map(str::to_owned), ".{0,80}", Just("[".repeat(5_000))]
}
