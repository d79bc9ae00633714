//! Kraken spot: WebSocket v2, and the list of pairs over REST.

use std::collections::BTreeMap;

use kairos_logic::units::{Nanos, Side};
use serde_json::Value;

use super::text::{best_first, fixed, list, rfc3339};
use super::{Class, Request, Response, Say, Scene, ServerProtocol, Topics};
use crate::sim::market::{Pair, Shape, Sides, Step, What, place};

const SECOND: u64 = 1_000_000_000;
const HEARTBEAT_EVERY: u64 = SECOND;
/// Without a subscription or a message of the client for so long the connection is closed. The venue
/// says about a minute.
const IDLE_MAX: u64 = 60 * SECOND;
/// Decimals of every quantity.
const LOT_DECIMALS: u32 = 8;
/// Levels a side that the checksum covers.
const CHECKED: usize = 10;
const DEPTHS: [u64; 5] = [10, 25, 100, 500, 1_000];

fn price(shape: &Shape, ticks: i64) -> String {
    fixed(ticks, shape.tick_decimals, shape.tick_decimals)
}

fn qty(shape: &Shape, lots: i64) -> String {
    fixed(lots, shape.lot_decimals, LOT_DECIMALS)
}

fn levels_text(shape: &Shape, levels: impl Iterator<Item = (i64, i64)>) -> String {
    list(levels.map(|(ticks, lots)| {
        format!(r#"{{"price":{},"qty":{}}}"#, price(shape, ticks), qty(shape, lots))
    }))
}

/// CRC32 over the ten best asks, then the ten best bids: price and quantity of each without the
/// point and without leading zeros.
fn checksum(shape: &Shape, view: &Sides) -> u32 {
    let mut text = String::new();
    for side in [Side::Sell, Side::Buy] {
        for (ticks, lots) in best_first(side, &view[place(side)]).take(CHECKED) {
            for number in [price(shape, ticks), qty(shape, lots)] {
                text.push_str(number.replace('.', "").trim_start_matches('0'));
            }
        }
    }
    crc32fast::hash(text.as_bytes())
}

fn view(pair: &Pair, depth: usize) -> Sides {
    [Side::Buy, Side::Sell]
        .map(|side| best_first(side, &pair.published()[place(side)]).take(depth).collect())
}

/// What a subscriber has to be told to come from one view to the next. A level that only fell off
/// the end is not told: the subscriber truncates.
fn difference(side: Side, old: &Sides, new: &Sides, whole: &Sides) -> Vec<(i64, i64)> {
    let place = place(side);
    let (old, new, whole) = (&old[place], &new[place], &whole[place]);
    let gone = old.keys().filter(|it| !whole.contains_key(it)).map(|&it| (it, 0));
    let set = new.iter().filter(|it| old.get(it.0) != Some(it.1)).map(|(&it, &qty)| (it, qty));
    gone.chain(set).collect()
}

/// The venue has no snapshot here: only the list of pairs.
pub(super) fn answer(scene: &Scene<'_>, request: &Request) -> Option<Response> {
    let body = match request.path.as_str() {
        "/0/public/AssetPairs" => {
            let wanted: Vec<&str> =
                request.value("pair").map(|it| it.split(',').collect()).unwrap_or_default();
            let rest_name = |name: &str| name.replace("BTC", "XBT");
            let alt = |it: &Shape| format!("{}{}", rest_name(&it.base), rest_name(&it.quote));
            let is_wanted = |alt: &str, name: &str| {
                wanted.is_empty() || wanted.iter().any(|it| *it == alt || *it == name)
            };
            let listed = scene.listed.iter().map(|it| (alt(&it.shape), it));
            let listed: Vec<_> = listed.filter(|(alt, it)| is_wanted(alt, &it.symbol)).collect();
            if listed.is_empty() {
                return Some(Response::new(
                    200,
                    r#"{"error":["EQuery:Unknown asset pair"]}"#.to_owned(),
                ));
            }
            let pairs: Vec<String> = listed
                .into_iter()
                .map(|(alt, it)| {
                    let shape = &it.shape;
                    format!(
                        concat!(
                            r#""{alt}":{{"altname":"{alt}","wsname":"{}/{}","#,
                            r#""aclass_base":"currency","base":"{}","aclass_quote":"currency","#,
                            r#""quote":"{}","lot":"unit","cost_decimals":5,"pair_decimals":{},"#,
                            r#""lot_decimals":{},"lot_multiplier":1,"ordermin":"{}","#,
                            r#""costmin":"{}","tick_size":"{}","status":"online"}}"#
                        ),
                        rest_name(&shape.base),
                        rest_name(&shape.quote),
                        rest_name(&shape.base),
                        rest_name(&shape.quote),
                        shape.tick_decimals,
                        LOT_DECIMALS,
                        fixed(1, shape.lot_decimals, shape.lot_decimals),
                        shape.min_notional.trim_end_matches('0').trim_end_matches('.'),
                        price(shape, 1),
                        alt = alt,
                    )
                })
                .collect();
            format!(r#"{{"error":[],"result":{{{}}}}}"#, pairs.join(","))
        }
        "/0/public/SystemStatus" => format!(
            r#"{{"error":[],"result":{{"status":"online","timestamp":"{}"}}}}"#,
            rfc3339(scene.at.0, 0)
        ),
        _ => return None,
    };
    Some(Response::new(200, body))
}

/// What a subscriber of a book knows.
#[derive(Debug)]
struct Book {
    depth: usize,
    view: Sides,
}

/// The venue's side of a market data connection. Topics are `channel:symbol`.
#[derive(Debug)]
pub(super) struct Kraken {
    topics: Topics,
    number: u64,
    books: BTreeMap<String, Book>,
    next_beat: Nanos,
    last_heard: Nanos,
}

impl Kraken {
    pub(super) fn new(number: u64) -> Self {
        Self {
            topics: Topics::default(),
            number,
            books: BTreeMap::new(),
            next_beat: Nanos(0),
            last_heard: Nanos(0),
        }
    }

    /// One answer per symbol.
    fn switch(&mut self, scene: &Scene<'_>, wish: &Wish<'_>, symbol: &str, out: &mut Vec<Say>) {
        let time = rfc3339(scene.at.0, 6);
        let tail = format!(r#""time_in":"{time}","time_out":"{time}"{}"#, wish.req_id);
        let (method, channel) = (wish.method, wish.channel);
        let topic = format!("{channel}:{symbol}");
        let subscribe = method == "subscribe";
        // A recorded book has the depth that it was recorded with.
        let recorded = scene.tape.and_then(|(tape, _)| tape.depth());
        let has_depth = |it| DEPTHS.contains(&it) && recorded.is_none_or(|depth| depth == it);
        let refusal = if scene.find(symbol).is_none() {
            Some(format!("Currency pair not supported {symbol}"))
        } else if channel == "book" && !has_depth(wish.depth) {
            Some(format!("Depth not supported {}", wish.depth))
        } else if subscribe && self.topics.has(&topic) {
            Some("Already subscribed".to_owned())
        } else if !subscribe && !self.topics.has(&topic) {
            Some("Subscription Not Found".to_owned())
        } else {
            None
        };
        if let Some(refusal) = refusal {
            let (refusal, name) = (Value::from(refusal), Value::from(symbol));
            return out.push(Say::control(format!(
                r#"{{"error":{refusal},"method":"{method}","success":false,"symbol":{name},{tail}}}"#
            )));
        }
        let depth =
            if channel == "book" { format!(r#","depth":{}"#, wish.depth) } else { String::new() };
        let snapshot =
            if subscribe { format!(r#","snapshot":{}"#, wish.snapshot) } else { String::new() };
        out.push(Say::control(format!(
            r#"{{"method":"{method}","result":{{"channel":"{channel}"{depth}{snapshot},"symbol":"{symbol}"}},"success":true,{tail}}}"#
        )));
        if !subscribe {
            self.topics.remove(&topic);
            if channel == "book" {
                self.books.remove(symbol);
            }
            return;
        }
        self.topics.add(&topic);
        if let Some(pair) = scene.pair(symbol) {
            self.begin(scene, wish, pair, symbol, out);
        }
    }

    /// What a new subscriber gets at once.
    fn begin(
        &mut self,
        scene: &Scene<'_>,
        wish: &Wish<'_>,
        pair: &Pair,
        symbol: &str,
        out: &mut Vec<Say>,
    ) {
        let shape = &pair.shape;
        match wish.channel {
            "book" => {
                let depth = usize::try_from(wish.depth).unwrap_or(CHECKED);
                let book = Book { depth, view: view(pair, depth) };
                if wish.snapshot {
                    let side = |side| levels_text(shape, best_first(side, &book.view[place(side)]));
                    let text = format!(
                        r#"{{"channel":"book","type":"snapshot","data":[{{"symbol":"{symbol}","bids":{},"asks":{},"checksum":{}}}]}}"#,
                        side(Side::Buy),
                        side(Side::Sell),
                        checksum(shape, &book.view),
                    );
                    out.push(Say::Text { class: Class::Book, text });
                }
                self.books.insert(symbol.to_owned(), book);
            }
            "trade" if wish.snapshot => {
                let trades = list(
                    pair.recent().map(|it| trade_text(shape, symbol, it, scene.wall(it.at_ns))),
                );
                let text = format!(r#"{{"channel":"trade","type":"snapshot","data":{trades}}}"#);
                out.push(Say::Text { class: Class::Trade, text });
            }
            "ticker" if wish.snapshot => {
                let best = |side| best_first(side, pair.side(side)).next().unwrap_or((0, 0));
                let tops = (best(Side::Buy), best(Side::Sell));
                let text = ticker_text(pair, symbol, "snapshot", tops);
                out.push(Say::Text { class: Class::Quote, text });
            }
            _ => {}
        }
    }
}

fn trade_text(shape: &Shape, symbol: &str, trade: &crate::sim::market::Trade, at: u64) -> String {
    let side = match trade.aggressor {
        Side::Buy => "buy",
        Side::Sell => "sell",
    };
    format!(
        r#"{{"symbol":"{symbol}","side":"{side}","price":{},"qty":{},"ord_type":"market","trade_id":{},"timestamp":"{}"}}"#,
        price(shape, trade.price),
        qty(shape, trade.qty),
        trade.id,
        rfc3339(at, 6),
    )
}

fn ticker_text(
    pair: &Pair,
    symbol: &str,
    kind: &str,
    (bid, ask): ((i64, i64), (i64, i64)),
) -> String {
    let shape = &pair.shape;
    let last = price(shape, pair.recent().next_back().map_or(bid.0, |it| it.price));
    format!(
        r#"{{"channel":"ticker","type":"{kind}","data":[{{"symbol":"{symbol}","bid":{},"bid_qty":{},"ask":{},"ask_qty":{},"last":{last},"volume":0.0,"vwap":{last},"low":{last},"high":{last},"change":0.0,"change_pct":0.0}}]}}"#,
        price(shape, bid.0),
        qty(shape, bid.1),
        price(shape, ask.0),
        qty(shape, ask.1),
    )
}

/// A request, taken apart.
struct Wish<'a> {
    method: &'a str,
    channel: &'a str,
    depth: u64,
    snapshot: bool,
    /// `,"req_id":7`, or empty.
    req_id: String,
}

impl ServerProtocol for Kraken {
    fn on_open(&mut self, scene: &Scene<'_>, _request: &Request, out: &mut Vec<Say>) {
        self.last_heard = scene.at;
        self.next_beat = scene.at.plus(HEARTBEAT_EVERY);
        let id = 17_843_232_920_108_160_000 + self.number; // above 2^53, as the venue's are
        out.push(Say::control(format!(
            r#"{{"channel":"status","type":"update","data":[{{"version":"2.0.0","system":"online","api_version":"v2","connection_id":{id}}}]}}"#
        )));
    }

    fn on_text(&mut self, scene: &Scene<'_>, text: &str, out: &mut Vec<Say>) {
        self.last_heard = scene.at;
        let message: Value = serde_json::from_str(text).unwrap_or_default();
        let method = message.get("method").and_then(Value::as_str).unwrap_or("");
        let empty = Value::Null;
        let params = message.get("params").unwrap_or(&empty);
        let req_id = message.get("req_id").filter(|it| it.is_u64());
        let req_id = req_id.map_or_else(String::new, |it| format!(r#","req_id":{it}"#));
        let time = rfc3339(scene.at.0, 6);
        let tail = format!(r#""time_in":"{time}","time_out":"{time}"{req_id}"#);
        let refused = |what: &str| {
            let (what, method) = (Value::from(what), Value::from(method));
            Say::control(format!(r#"{{"error":{what},"method":{method},"success":false,{tail}}}"#))
        };
        match method {
            "ping" => out.push(Say::control(format!(r#"{{"method":"pong",{tail}}}"#))),
            "subscribe" | "unsubscribe" => {
                let channel = params.get("channel").and_then(Value::as_str).unwrap_or("");
                if !matches!(channel, "book" | "trade" | "ticker") {
                    return out.push(refused(&format!("Channel not supported {channel}")));
                }
                let symbols = params.get("symbol").and_then(Value::as_array);
                let symbols: Vec<&str> =
                    symbols.into_iter().flatten().filter_map(Value::as_str).collect();
                if symbols.is_empty() {
                    return out.push(refused("Symbol(s) field is mandatory"));
                }
                let depth = params.get("depth").map_or(Some(10), Value::as_u64).unwrap_or(0);
                // Trades come without their past unless it is asked for.
                let snapshot = params.get("snapshot").and_then(Value::as_bool);
                let snapshot = snapshot.unwrap_or(channel != "trade");
                let wish = Wish { method, channel, depth, snapshot, req_id };
                for symbol in symbols {
                    self.switch(scene, &wish, symbol, out);
                }
            }
            "" => out.push(refused("Malformed request")),
            _ => out.push(refused("Method not supported")),
        }
    }

    fn on_control(&mut self, scene: &Scene<'_>, _pong: Option<&[u8]>, _out: &mut Vec<Say>) {
        self.last_heard = scene.at;
    }

    fn on_step(&mut self, scene: &Scene<'_>, step: &Step, out: &mut Vec<Say>) {
        let Some((pair, symbol)) = scene.of(step) else {
            return;
        };
        let (shape, at) = (&pair.shape, scene.wall(step.due_ns));
        match &step.what {
            What::Trade(trade) => {
                if self.topics.has(&format!("trade:{symbol}")) {
                    let trade = trade_text(shape, symbol, trade, at);
                    let text = format!(r#"{{"channel":"trade","type":"update","data":[{trade}]}}"#);
                    out.push(Say::Text { class: Class::Trade, text });
                }
            }
            What::Quote { bid, ask, .. } => {
                if self.topics.has(&format!("ticker:{symbol}")) {
                    let text = ticker_text(pair, symbol, "update", (*bid, *ask));
                    out.push(Say::Text { class: Class::Quote, text });
                }
            }
            What::Depth { .. } => {
                let Some(book) = self.books.get_mut(symbol) else {
                    return;
                };
                let new = view(pair, book.depth);
                let [bids, asks] = [Side::Buy, Side::Sell]
                    .map(|side| difference(side, &book.view, &new, pair.published()));
                book.view = new;
                if bids.is_empty() && asks.is_empty() {
                    return;
                }
                let text = format!(
                    r#"{{"channel":"book","type":"update","data":[{{"symbol":"{symbol}","bids":{},"asks":{},"checksum":{},"timestamp":"{}"}}]}}"#,
                    levels_text(shape, bids.into_iter()),
                    levels_text(shape, asks.into_iter()),
                    checksum(shape, &book.view),
                    rfc3339(at, 6),
                );
                out.push(Say::Text { class: Class::Book, text });
            }
        }
    }

    fn on_time(&mut self, scene: &Scene<'_>, out: &mut Vec<Say>) {
        if self.topics.is_empty() {
            self.next_beat = scene.at.plus(HEARTBEAT_EVERY);
            if scene.at.since(self.last_heard) >= IDLE_MAX {
                out.push(Say::Close { code: 1001, reason: "idle" });
            }
        } else if scene.at >= self.next_beat {
            let next = self.next_beat.plus(HEARTBEAT_EVERY);
            self.next_beat = if next > scene.at { next } else { scene.at.plus(HEARTBEAT_EVERY) };
            out.push(Say::control(r#"{"channel":"heartbeat"}"#.to_owned()));
        }
    }

    /// The venue announces nothing.
    fn on_last_call(&mut self, _scene: &Scene<'_>, _out: &mut Vec<Say>) {}

    fn topics(&mut self) -> &mut Topics {
        &mut self.topics
    }

    fn subscriptions(&self) -> &Topics {
        &self.topics
    }
}
