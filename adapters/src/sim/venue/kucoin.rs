//! KuCoin spot: the classic push server, its token, snapshots and symbols over REST.

use kairos_logic::units::{Nanos, Side};
use serde_json::Value;

use super::text::{best_first, list, trimmed};
use super::topics::Allowance;
use super::{Class, Request, Response, Say, Scene, ServerProtocol, Topics};
use crate::sim::market::{Change, Pair, Shape, Step, What, place};
use crate::sim::tape::Snapshot;

const MS: u64 = 1_000_000;
const SECOND: u64 = 1_000 * MS;
/// What the client is told about its pings, in milliseconds.
const PING_INTERVAL_MS: u64 = 18_000;
const PING_TIMEOUT_MS: u64 = 10_000;
/// Messages of a client in ten seconds.
const MESSAGES_PER_10_S: usize = 100;
/// Topics of one connection, and symbols of one request.
const TOPICS_MAX: usize = 300;
const SYMBOLS_MAX: usize = 100;

fn price(shape: &Shape, ticks: i64) -> String {
    trimmed(ticks, shape.tick_decimals)
}

fn qty(shape: &Shape, lots: i64) -> String {
    trimmed(lots, shape.lot_decimals)
}

fn side_text(pair: &Pair, side: Side, limit: usize) -> String {
    let levels = best_first(side, pair.side(side)).take(limit);
    list(levels.map(|(ticks, lots)| {
        format!(r#"["{}","{}"]"#, price(&pair.shape, ticks), qty(&pair.shape, lots))
    }))
}

/// The REST calls that belong to market data. The venue wants the full book signed; this server
/// gives it to everybody.
pub(super) fn answer(scene: &Scene<'_>, request: &Request) -> Option<Response> {
    let done =
        |data: String| Some(Response::new(200, format!(r#"{{"code":"200000","data":{data}}}"#)));
    let book = "/market/orderbook/level2";
    let limit = match request.path.as_str() {
        "/api/v1/bullet-public" if request.method == "POST" => {
            return done(format!(
                r#"{{"token":"{}","instanceServers":[{{"endpoint":"{}","encrypt":{},"protocol":"websocket","pingInterval":{PING_INTERVAL_MS},"pingTimeout":{PING_TIMEOUT_MS}}}]}}"#,
                scene.token(),
                scene.ws_url,
                scene.ws_url.starts_with("wss"),
            ));
        }
        "/api/v1/bullet-public" => {
            let body = r#"{"code":"400100","msg":"Request method 'GET' not supported"}"#;
            return Some(Response::new(405, body.to_owned()));
        }
        "/api/v1/timestamp" => return done((scene.at.0 / MS).to_string()),
        "/api/v2/symbols" => {
            return done(list(scene.listed.iter().map(|it| symbol_text(&it.shape))));
        }
        "/api/v1/market/allTickers" => {
            let pairs = scene.listed.iter().filter_map(|it| scene.pair(&it.symbol));
            let (tickers, ms) = (list(pairs.map(ticker_text)), scene.at.0 / MS);
            return done(format!(r#"{{"time":{ms},"ticker":{tickers}}}"#));
        }
        path => match path.strip_prefix("/api/v3").or_else(|| path.strip_prefix("/api/v1")) {
            Some(rest) => match rest.strip_prefix(book)? {
                "" => usize::MAX,
                "_100" => 100,
                "_20" => 20,
                _ => return None,
            },
            None => return None,
        },
    };
    let symbol = request.value("symbol").unwrap_or("");
    let seeded = scene.pair(symbol).map(|pair| Snapshot {
        last: pair.update(),
        bids: side_text(pair, Side::Buy, limit),
        asks: side_text(pair, Side::Sell, limit),
    });
    match seeded.or_else(|| scene.recorded_book(symbol, limit)) {
        Some(Snapshot { last, bids, asks }) => done(format!(
            r#"{{"time":{},"sequence":"{last}","bids":{bids},"asks":{asks}}}"#,
            scene.at.0 / MS
        )),
        None => {
            let body = r#"{"code":"900001","msg":"Symbol not exists"}"#;
            Some(Response::new(400, body.to_owned()))
        }
    }
}

fn symbol_text(shape: &Shape) -> String {
    let name = format!("{}-{}", shape.base, shape.quote);
    let (tick, lot) = (price(shape, 1), qty(shape, 1));
    let funds = shape.min_notional.trim_end_matches('0').trim_end_matches('.');
    format!(
        concat!(
            r#"{{"symbol":"{name}","name":"{name}","baseCurrency":"{}","quoteCurrency":"{quote}","#,
            r#""feeCurrency":"{quote}","market":"{quote}","baseMinSize":"{lot}","#,
            r#""quoteMinSize":"{funds}","baseMaxSize":"10000000000","quoteMaxSize":"99999999","#,
            r#""baseIncrement":"{lot}","quoteIncrement":"0.00000001","priceIncrement":"{tick}","#,
            r#""priceLimitRate":"0.1","minFunds":"{funds}","isMarginEnabled":false,"#,
            r#""enableTrading":true}}"#
        ),
        shape.base,
        name = name,
        quote = shape.quote,
        tick = tick,
        lot = lot,
        funds = funds,
    )
}

/// A pair in the list of all. What it says of the last day is the present.
fn ticker_text(pair: &Pair) -> String {
    let shape = &pair.shape;
    let best = |side| best_first(side, pair.side(side)).next().unwrap_or((0, 0));
    let (bid, ask) = (best(Side::Buy), best(Side::Sell));
    let last = price(shape, pair.recent().next_back().map_or(bid.0, |it| it.price));
    format!(
        r#"{{"symbol":"{name}","symbolName":"{name}","buy":"{}","bestBidSize":"{}","sell":"{}","bestAskSize":"{}","changeRate":"0","changePrice":"0","high":"{last}","low":"{last}","vol":"0","volValue":"0","last":"{last}","averagePrice":"{last}","takerFeeRate":"0.001","makerFeeRate":"0.001","takerCoefficient":"1","makerCoefficient":"1"}}"#,
        price(shape, bid.0),
        qty(shape, bid.1),
        price(shape, ask.0),
        qty(shape, ask.1),
        name = format_args!("{}-{}", shape.base, shape.quote),
    )
}

/// What `/market/snapshot` says of a pair, whose day began just now.
fn day_text(pair: &Pair, (bid, ask): (i64, i64), update: u64, ms: u64) -> String {
    let shape = &pair.shape;
    let last = price(shape, pair.recent().next_back().map_or(bid, |it| it.price));
    let (bid, ask) = (price(shape, bid), price(shape, ask));
    format!(
        r#"{{"sequence":"{update}","data":{{"averagePrice":{last},"baseCurrency":"{base}","buy":{bid},"changePrice":0,"changeRate":0,"close":{last},"datetime":{ms},"high":{last},"lastTradedPrice":{last},"low":{last},"makerCoefficient":1,"makerFeeRate":0.001,"market":"{quote}","markets":["{quote}"],"open":{last},"quoteCurrency":"{quote}","sell":{ask},"symbol":"{base}-{quote}","symbolCode":"{base}-{quote}","takerCoefficient":1,"takerFeeRate":0.001,"trading":true,"vol":0,"volValue":0}}}}"#,
        base = shape.base,
        quote = shape.quote,
    )
}

/// Every number from first to last once, in each side's list in rising order. A number whose level
/// changed again later stands for nothing and has a placeholder of price zero.
fn changes_text(shape: &Shape, first: u64, last: u64, changes: &[Change]) -> [String; 2] {
    let mut records: Vec<(u64, Side, String)> = changes
        .iter()
        .map(|it| {
            let (price, qty) = (price(shape, it.price), qty(shape, it.qty));
            (it.update, it.side, format!(r#"["{price}","{qty}","{}"]"#, it.update))
        })
        .collect();
    let told: std::collections::BTreeSet<u64> = records.iter().map(|it| it.0).collect();
    let nothing = (first..=last).filter(|it| !told.contains(it));
    records.extend(nothing.map(|it| (it, Side::Sell, format!(r#"["0","0","{it}"]"#))));
    records.sort_unstable_by_key(|it| it.0);
    [Side::Buy, Side::Sell]
        .map(|side| list(records.iter().filter(|it| it.1 == side).map(|it| it.2.clone())))
}

/// The venue's side of a push connection. Topics are `/market/level2:BTC-USDT`.
#[derive(Debug)]
pub(super) struct Kucoin {
    topics: Topics,
    allowance: Allowance,
    last_heard: Nanos,
}

impl Default for Kucoin {
    fn default() -> Self {
        Self {
            topics: Topics::default(),
            allowance: Allowance::new(MESSAGES_PER_10_S, 10 * SECOND),
            last_heard: Nanos(0),
        }
    }
}

fn error(id: &str, code: u16, what: &str) -> Say {
    let what = Value::from(what);
    Say::control(format!(r#"{{"id":"{id}","type":"error","code":{code},"data":{what}}}"#))
}

impl Kucoin {
    /// Starts or ends the subscriptions of one request.
    fn switch(&mut self, scene: &Scene<'_>, on: bool, topic: &str) -> Result<(), (u16, String)> {
        let (channel, symbols) = topic.split_once(':').unwrap_or((topic, ""));
        let known = matches!(
            channel,
            "/market/level2"
                | "/market/match"
                | "/market/ticker"
                | "/market/snapshot"
                | "/spotMarket/level1"
                | "/spotMarket/level2Depth5"
                | "/spotMarket/level2Depth50"
        );
        let symbols: Vec<&str> = symbols.split(',').collect();
        let listed = |it: &&str| known && scene.find(it).is_some();
        let recorded = |it: &&str| scene.carries(&format!("{channel}:{it}"));
        if !symbols.iter().all(|it| listed(it) || recorded(it)) {
            return Err((404, format!("topic {topic} is not found")));
        }
        if symbols.len() > SYMBOLS_MAX {
            return Err((400, format!("more than {SYMBOLS_MAX} symbols in one topic")));
        }
        for symbol in symbols {
            let topic = format!("{channel}:{symbol}");
            if !on {
                self.topics.remove(&topic);
            } else if self.topics.has(&topic) || self.topics.len() < TOPICS_MAX {
                self.topics.add(&topic);
            } else {
                let text = "exceed max subscription count limitation of 300 per session";
                return Err((509, text.to_owned()));
            }
        }
        Ok(())
    }

    fn tell(
        &self,
        (channel, symbol, subject): (&str, &str, &str),
        class: Class,
        data: &str,
        out: &mut Vec<Say>,
    ) {
        let topic = format!("{channel}:{symbol}");
        if self.topics.has(&topic) {
            let text = format!(
                r#"{{"type":"message","topic":"{topic}","subject":"{subject}","data":{data}}}"#
            );
            out.push(Say::Text { class, text });
        }
    }
}

impl ServerProtocol for Kucoin {
    fn on_open(&mut self, scene: &Scene<'_>, request: &Request, out: &mut Vec<Say>) {
        self.last_heard = scene.at;
        let id = Value::from(request.value("connectId").unwrap_or("kairos"));
        if request.value("token") != Some(scene.token().as_str()) {
            let id = id.as_str().unwrap_or_default();
            out.push(error(&id.escape_default().to_string(), 401, "token is invalid"));
            return out.push(Say::Close { code: 1000, reason: "token is invalid" });
        }
        out.push(Say::control(format!(r#"{{"id":{id},"type":"welcome"}}"#)));
    }

    fn on_text(&mut self, scene: &Scene<'_>, text: &str, out: &mut Vec<Say>) {
        self.last_heard = scene.at;
        let message: Value = serde_json::from_str(text).unwrap_or_default();
        let part = |key: &str| message.get(key).and_then(Value::as_str).unwrap_or("");
        // An id may be text or number and comes back as text.
        let id = match message.get("id") {
            Some(Value::String(id)) => id.escape_default().to_string(),
            Some(Value::Number(id)) => id.to_string(),
            Some(Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_)) | None => {
                String::new()
            }
        };
        if !self.allowance.take(scene.at) {
            return out.push(error(&id, 509, "exceed max permits per second"));
        }
        match part("type") {
            "ping" => out.push(Say::control(format!(r#"{{"id":"{id}","type":"pong"}}"#))),
            kind @ ("subscribe" | "unsubscribe") => {
                match self.switch(scene, kind == "subscribe", part("topic")) {
                    Err((code, what)) => out.push(error(&id, code, &what)),
                    Ok(()) if message.get("response") == Some(&Value::Bool(true)) => {
                        out.push(Say::control(format!(r#"{{"id":"{id}","type":"ack"}}"#)));
                    }
                    Ok(()) => {}
                }
            }
            other => out.push(error(&id, 415, &format!("type {other} is not supported"))),
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
        let ms = at / MS;
        match &step.what {
            What::Trade(trade) => {
                let side = match trade.aggressor {
                    Side::Buy => "buy",
                    Side::Sell => "sell",
                };
                let data = format!(
                    r#"{{"symbol":"{symbol}","sequence":"{}","type":"match","side":"{side}","price":"{}","size":"{}","tradeId":"{}","takerOrderId":"t{id:023}","makerOrderId":"m{id:023}","time":"{at}"}}"#,
                    pair.update(),
                    price(shape, trade.price),
                    qty(shape, trade.qty),
                    trade.id,
                    id = trade.id,
                );
                let name = ("/market/match", symbol, "trade.l3match");
                self.tell(name, Class::Trade, &data, out);
            }
            What::Quote { bid, ask, update } => {
                let last = pair.recent().next_back().map_or((bid.0, 0), |it| (it.price, it.qty));
                let data = format!(
                    r#"{{"sequence":"{update}","price":"{}","size":"{}","bestBid":"{}","bestBidSize":"{}","bestAsk":"{}","bestAskSize":"{}","time":{ms}}}"#,
                    price(shape, last.0),
                    qty(shape, last.1),
                    price(shape, bid.0),
                    qty(shape, bid.1),
                    price(shape, ask.0),
                    qty(shape, ask.1),
                );
                let name = ("/market/ticker", symbol, "trade.ticker");
                self.tell(name, Class::Quote, &data, out);
                let topic = ("/market/snapshot", symbol, "trade.snapshot");
                if self.topics.has(&format!("/market/snapshot:{symbol}")) {
                    let data = day_text(pair, (bid.0, ask.0), *update, ms);
                    self.tell(topic, Class::Quote, &data, out);
                }
                let level = |it: (i64, i64)| {
                    format!(r#"["{}","{}"]"#, price(shape, it.0), qty(shape, it.1))
                };
                let data = format!(
                    r#"{{"asks":{},"bids":{},"timestamp":{ms}}}"#,
                    level(*ask),
                    level(*bid)
                );
                self.tell(("/spotMarket/level1", symbol, "level1"), Class::Quote, &data, out);
            }
            What::Depth { first, last, changes } => {
                let [bids, asks] = changes_text(shape, *first, *last, changes);
                let data = format!(
                    r#"{{"symbol":"{symbol}","sequenceStart":{first},"sequenceEnd":{last},"changes":{{"asks":{asks},"bids":{bids}}},"time":{ms}}}"#
                );
                let name = ("/market/level2", symbol, "trade.l2update");
                self.tell(name, Class::Book, &data, out);
                for (channel, levels) in
                    [("/spotMarket/level2Depth5", 5), ("/spotMarket/level2Depth50", 50)]
                {
                    let side = |side| {
                        let levels = best_first(side, &pair.published()[place(side)]).take(levels);
                        list(levels.map(|(ticks, lots)| {
                            format!(r#"["{}","{}"]"#, price(shape, ticks), qty(shape, lots))
                        }))
                    };
                    let data = format!(
                        r#"{{"asks":{},"bids":{},"timestamp":{ms}}}"#,
                        side(Side::Sell),
                        side(Side::Buy)
                    );
                    self.tell((channel, symbol, "level2"), Class::Book, &data, out);
                }
            }
        }
    }

    fn on_time(&mut self, scene: &Scene<'_>, out: &mut Vec<Say>) {
        // The client was told to ping; one that says nothing for two such times is gone.
        let most = 2 * (PING_INTERVAL_MS + PING_TIMEOUT_MS) * MS;
        if scene.at.since(self.last_heard) >= most {
            out.push(Say::Close { code: 1000, reason: "no ping" });
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
