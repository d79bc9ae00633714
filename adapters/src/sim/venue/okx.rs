//! OKX v5: the public WebSocket, `books` and `instruments` over REST.

use std::collections::BTreeMap;

use kairos_logic::units::{Nanos, Side};
use serde_json::Value;

use super::text::{best_first, list, trimmed};
use super::topics::Allowance;
use super::{Class, Request, Response, Say, Scene, ServerProtocol, Topics};
use crate::sim::market::{Pair, Shape, Sides, Step, What, place};

const MS: u64 = 1_000_000;
const SECOND: u64 = 1_000 * MS;
/// Levels a side of `books`.
const LEVELS: usize = 400;
/// Without a message in either direction for so long the connection is closed.
const IDLE_MAX: u64 = 30 * SECOND;
/// A book says so often that it lives. The venue does so after a minute without a change; the seeded
/// market has none, and a client should meet the message all the same.
const KEEPALIVE_EVERY: u64 = 5 * SECOND;
/// Subscribe, unsubscribe and login operations of one connection in an hour.
const OPERATIONS_PER_HOUR: usize = 480;
/// Longest request.
const REQUEST_MAX: usize = 64 << 10;

fn price(shape: &Shape, ticks: i64) -> String {
    trimmed(ticks, shape.tick_decimals)
}

fn qty(shape: &Shape, lots: i64) -> String {
    trimmed(lots, shape.lot_decimals)
}

/// Price, size, always "0", number of orders.
fn level(shape: &Shape, (ticks, lots): (i64, i64)) -> String {
    let orders = if lots == 0 { 0 } else { 1 + lots % 7 };
    format!(r#"["{}","{}","0","{orders}"]"#, price(shape, ticks), qty(shape, lots))
}

/// The best `levels` a side of the published book.
fn view(pair: &Pair, levels: usize) -> Sides {
    [Side::Buy, Side::Sell]
        .map(|side| best_first(side, &pair.published()[place(side)]).take(levels).collect())
}

fn side_text(shape: &Shape, side: Side, levels: &BTreeMap<i64, i64>) -> String {
    list(best_first(side, levels).map(|it| level(shape, it)))
}

/// What turns one view into another: changed levels, and lost ones with size zero.
fn difference(old: &Sides, new: &Sides) -> Sides {
    let mut changes = [BTreeMap::new(), BTreeMap::new()];
    for ((old, new), changes) in old.iter().zip(new).zip(&mut changes) {
        changes.extend(old.keys().filter(|it| !new.contains_key(it)).map(|&it| (it, 0)));
        changes.extend(new.iter().filter(|it| old.get(it.0) != Some(it.1)));
    }
    changes
}

/// The REST calls that belong to market data.
pub(super) fn answer(scene: &Scene<'_>, request: &Request) -> Option<Response> {
    let done = |data: String| {
        Some(Response::new(200, format!(r#"{{"code":"0","msg":"","data":{data}}}"#)))
    };
    let refused = |code: &str, msg: &str| {
        let body = format!(r#"{{"code":"{code}","msg":"{msg}","data":[]}}"#);
        Some(Response::new(if code == "51001" { 200 } else { 400 }, body))
    };
    match request.path.as_str() {
        "/api/v5/public/time" => done(format!(r#"[{{"ts":"{}"}}]"#, scene.at.0 / MS)),
        "/api/v5/public/instruments" => match request.value("instType") {
            Some("SPOT") => done(list(scene.listed.iter().enumerate().map(|(index, it)| {
                let shape = &it.shape;
                let (tick, lot) = (price(shape, 1), qty(shape, 1));
                format!(
                    concat!(
                        r#"{{"instType":"SPOT","instId":"{}","instIdCode":{},"baseCcy":"{}","#,
                        r#""quoteCcy":"{}","tickSz":"{tick}","lotSz":"{lot}","minSz":"{lot}","#,
                        r#""maxLmtSz":"9999999999","maxMktSz":"1000000","lever":"","#,
                        r#""listTime":"1606468572000","expTime":"","state":"live"}}"#
                    ),
                    it.symbol,
                    10_000 + index,
                    shape.base,
                    shape.quote,
                    tick = tick,
                    lot = lot,
                )
            }))),
            Some(_) => refused("51000", "Parameter instType error"),
            None => refused("50014", "Parameter instType can not be empty."),
        },
        "/api/v5/market/books" => {
            let Some(name) = request.value("instId") else {
                return refused("50014", "Parameter instId can not be empty.");
            };
            let levels = request.value("sz").and_then(|it| it.parse().ok()).unwrap_or(1_usize);
            let Some(pair) = scene.pair(name) else {
                return refused(
                    "51001",
                    "Instrument ID, Instrument ID code, or Spread ID doesn't exist.",
                );
            };
            let [bids, asks] = view(pair, levels.clamp(1, LEVELS));
            done(format!(
                r#"[{{"asks":{},"bids":{},"ts":"{}","seqId":{}}}]"#,
                side_text(&pair.shape, Side::Sell, &asks),
                side_text(&pair.shape, Side::Buy, &bids),
                scene.at.0 / MS,
                pair.published_update(),
            ))
        }
        _ => None,
    }
}

/// What a subscriber of `books` knows.
#[derive(Debug)]
struct Book {
    view: Sides,
    seq: u64,
    told_at: Nanos,
}

/// The venue's side of a public connection. Topics are `channel:instId`.
#[derive(Debug)]
pub(super) struct Okx {
    topics: Topics,
    books: BTreeMap<String, Book>,
    connection: String,
    operations: Allowance,
    last_traffic: Nanos,
}

impl Okx {
    pub(super) fn new(number: u64) -> Self {
        Self {
            topics: Topics::default(),
            books: BTreeMap::new(),
            connection: format!("{:08x}", 0xa4d3_0000 + number),
            operations: Allowance::new(OPERATIONS_PER_HOUR, 3_600 * SECOND),
            last_traffic: Nanos(0),
        }
    }

    fn error(&self, code: &str, msg: &str, out: &mut Vec<Say>) {
        let (id, msg) = (&self.connection, Value::from(msg));
        out.push(Say::control(format!(
            r#"{{"event":"error","code":"{code}","msg":{msg},"connId":"{id}"}}"#
        )));
    }

    /// Starts or ends one subscription.
    fn switch(&mut self, scene: &Scene<'_>, on: bool, arg: &Value, out: &mut Vec<Say>) {
        let part = |key: &str| arg.get(key).and_then(Value::as_str).unwrap_or("");
        let (channel, name) = (part("channel"), part("instId"));
        if matches!(channel, "books-l2-tbt" | "books50-l2-tbt") {
            return self.error("60011", "Please log in", out);
        }
        let known = matches!(channel, "books" | "books5" | "bbo-tbt" | "trades" | "tickers");
        let topic = format!("{channel}:{name}");
        if !(known && scene.find(name).is_some() || scene.carries(&topic)) {
            let msg = format!(
                "Wrong URL or channel:{channel},instId:{name} doesn't exist. Please use the \
                 correct URL, channel and parameters referring to API document."
            );
            return self.error("60018", &msg, out);
        }
        let event = if on { "subscribe" } else { "unsubscribe" };
        let changed = if on { self.topics.add(&topic) } else { self.topics.remove(&topic) };
        out.push(Say::control(format!(
            r#"{{"event":"{event}","arg":{{"channel":"{channel}","instId":"{name}"}},"connId":"{}"}}"#,
            self.connection
        )));
        if channel == "books" && changed {
            if on {
                self.snapshot(scene, name, out);
            } else {
                self.books.remove(name);
            }
        }
    }

    fn snapshot(&mut self, scene: &Scene<'_>, name: &str, out: &mut Vec<Say>) {
        let Some(pair) = scene.pair(name) else {
            return; // the recording has it
        };
        let book =
            Book { view: view(pair, LEVELS), seq: pair.published_update(), told_at: scene.at };
        let text = book_text(name, &pair.shape, "snapshot", &book.view, scene.at, None, book.seq);
        out.push(Say::Text { class: Class::Book, text });
        self.books.insert(name.to_owned(), book);
    }

    fn tell(&self, channel: &str, name: &str, class: Class, data: &str, out: &mut Vec<Say>) {
        if self.topics.has(&format!("{channel}:{name}")) {
            let text =
                format!(r#"{{"arg":{{"channel":"{channel}","instId":"{name}"}},"data":[{data}]}}"#);
            out.push(Say::Text { class, text });
        }
    }
}

fn book_text(
    name: &str,
    shape: &Shape,
    action: &str,
    [bids, asks]: &Sides,
    at: Nanos,
    before: Option<u64>,
    seq: u64,
) -> String {
    let (bids, asks) = (side_text(shape, Side::Buy, bids), side_text(shape, Side::Sell, asks));
    let before = before.map_or_else(|| "-1".to_owned(), |it| it.to_string());
    let ms = at.0 / MS;
    format!(
        r#"{{"arg":{{"channel":"books","instId":"{name}"}},"action":"{action}","data":[{{"asks":{asks},"bids":{bids},"ts":"{ms}","checksum":0,"prevSeqId":{before},"seqId":{seq}}}]}}"#
    )
}

impl ServerProtocol for Okx {
    fn on_open(&mut self, scene: &Scene<'_>, _request: &Request, _out: &mut Vec<Say>) {
        self.last_traffic = scene.at;
    }

    fn on_text(&mut self, scene: &Scene<'_>, text: &str, out: &mut Vec<Say>) {
        self.last_traffic = scene.at;
        if text == "ping" {
            return out.push(Say::control("pong".to_owned()));
        }
        let wish: Value = serde_json::from_str(text).unwrap_or_default();
        let op = wish.get("op").and_then(Value::as_str).unwrap_or("");
        let args = wish.get("args").and_then(Value::as_array);
        let on = op == "subscribe";
        let Some(args) = args.filter(|_| on || op == "unsubscribe") else {
            return self.error("60012", &format!("Invalid request: {text}"), out);
        };
        if text.len() > REQUEST_MAX {
            return self.error("60012", "Invalid request: more than 64 KB", out);
        }
        if !self.operations.take(scene.at) {
            return self.error("60014", "Requests too frequent", out);
        }
        for arg in args {
            self.switch(scene, on, arg, out);
        }
    }

    fn on_control(&mut self, scene: &Scene<'_>, _pong: Option<&[u8]>, _out: &mut Vec<Say>) {
        self.last_traffic = scene.at;
    }

    fn on_step(&mut self, scene: &Scene<'_>, step: &Step, out: &mut Vec<Say>) {
        let Some((pair, name)) = scene.of(step) else {
            return;
        };
        let (shape, said) = (&pair.shape, out.len());
        let at = Nanos(scene.wall(step.due_ns));
        let ms = at.0 / MS;
        match &step.what {
            What::Trade(trade) => {
                let side = match trade.aggressor {
                    Side::Buy => "buy",
                    Side::Sell => "sell",
                };
                let data = format!(
                    r#"{{"instId":"{name}","tradeId":"{}","px":"{}","sz":"{}","side":"{side}","ts":"{ms}","count":"1"}}"#,
                    trade.id,
                    price(shape, trade.price),
                    qty(shape, trade.qty),
                );
                self.tell("trades", name, Class::Trade, &data, out);
            }
            What::Quote { bid, ask, update } => {
                let data = format!(
                    r#"{{"asks":[{}],"bids":[{}],"ts":"{ms}","seqId":{update}}}"#,
                    level(shape, *ask),
                    level(shape, *bid),
                );
                self.tell("bbo-tbt", name, Class::Quote, &data, out);
                let last = pair.recent().next_back().map_or(bid.0, |it| it.price);
                let data = format!(
                    r#"{{"instType":"SPOT","instId":"{name}","last":"{}","askPx":"{}","askSz":"{}","bidPx":"{}","bidSz":"{}","ts":"{ms}"}}"#,
                    price(shape, last),
                    price(shape, ask.0),
                    qty(shape, ask.1),
                    price(shape, bid.0),
                    qty(shape, bid.1),
                );
                self.tell("tickers", name, Class::Quote, &data, out);
            }
            What::Depth { last, .. } => {
                if let Some(book) = self.books.get_mut(name) {
                    let new = view(pair, LEVELS);
                    let changes = difference(&book.view, &new);
                    if changes.iter().any(|it| !it.is_empty()) {
                        let before = Some(book.seq);
                        let text = book_text(name, shape, "update", &changes, at, before, *last);
                        out.push(Say::Text { class: Class::Book, text });
                        *book = Book { view: new, seq: *last, told_at: book.told_at };
                    }
                }
                let [bids, asks] = view(pair, 5);
                let data = format!(
                    r#"{{"asks":{},"bids":{},"instId":"{name}","ts":"{ms}","seqId":{last}}}"#,
                    side_text(shape, Side::Sell, &asks),
                    side_text(shape, Side::Buy, &bids),
                );
                self.tell("books5", name, Class::Book, &data, out);
            }
        }
        if out.len() > said {
            self.last_traffic = scene.at;
        }
    }

    fn on_time(&mut self, scene: &Scene<'_>, out: &mut Vec<Say>) {
        for (name, book) in &mut self.books {
            let Some(pair) = scene.pair(name) else {
                continue;
            };
            if scene.at.since(book.told_at) >= KEEPALIVE_EVERY {
                book.told_at = scene.at;
                let nothing = [BTreeMap::new(), BTreeMap::new()];
                let (before, seq) = (Some(book.seq), book.seq);
                let text = book_text(name, &pair.shape, "update", &nothing, scene.at, before, seq);
                out.push(Say::Text { class: Class::Book, text });
            }
        }
        if scene.at.since(self.last_traffic) >= IDLE_MAX {
            out.push(Say::Close { code: 4004, reason: "No data received in 30s." });
        }
    }

    fn on_last_call(&mut self, _scene: &Scene<'_>, out: &mut Vec<Say>) {
        let msg = "The connection will soon be closed for a service upgrade. Please reconnect.";
        out.push(Say::control(format!(
            r#"{{"event":"notice","code":"64008","msg":"{msg}","connId":"{}"}}"#,
            self.connection
        )));
    }

    fn topics(&mut self) -> &mut Topics {
        &mut self.topics
    }

    fn subscriptions(&self) -> &Topics {
        &self.topics
    }
}
