//! Binance spot: combined and bare streams, `depth` and `exchangeInfo` over REST.

use kairos_logic::units::{Nanos, Side};
use serde::Deserialize;
use serde_json::Value;

use super::text::{best_first, fixed, list};
use super::topics::Allowance;
use super::{Class, Request, Response, Say, Scene, ServerProtocol, Topics};
use crate::sim::market::{Change, Pair, Shape, Step, What};
use crate::sim::tape::Snapshot;

const MS: u64 = 1_000_000;
const SECOND: u64 = 1_000 * MS;
/// Without a pong for so long the connection is closed.
const PONG_WITHIN: u64 = 60 * SECOND;
/// Messages of a client, ping and pong frames included.
const MESSAGES_PER_SECOND: usize = 5;
/// Streams of one connection.
const STREAMS_MAX: usize = 1_024;
/// Levels of a snapshot whose request does not say, and most that it may say.
const LEVELS_DEFAULT: usize = 100;
const LEVELS_MAX: usize = 5_000;
/// Decimals of every number.
const SHOWN: u32 = 8;

/// What a message is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `@trade`
    Trade = 0,
    /// `@bookTicker`
    Quote = 1,
    /// `@depth@100ms`
    Depth = 2,
}

impl Kind {
    const fn suffix(self) -> &'static str {
        match self {
            Self::Trade => "trade",
            Self::Quote => "bookTicker",
            Self::Depth => "depth@100ms",
        }
    }

    const fn class(self) -> Class {
        match self {
            Self::Trade => Class::Trade,
            Self::Quote => Class::Quote,
            Self::Depth => Class::Book,
        }
    }
}

fn symbol(shape: &Shape) -> String {
    format!("{}{}", shape.base, shape.quote)
}

fn price(shape: &Shape, ticks: i64) -> String {
    fixed(ticks, shape.tick_decimals, SHOWN)
}

fn qty(shape: &Shape, lots: i64) -> String {
    fixed(lots, shape.lot_decimals, SHOWN)
}

fn level(shape: &Shape, (ticks, lots): (i64, i64)) -> String {
    format!(r#"["{}","{}"]"#, price(shape, ticks), qty(shape, lots))
}

/// The bare message about something that happened at `ms` since the Unix epoch.
#[must_use]
pub fn words(pair: &Pair, what: &What, ms: u64) -> (Kind, String) {
    let shape = &pair.shape;
    let name = symbol(shape);
    match what {
        What::Trade(trade) => {
            let maker_bought = trade.aggressor == Side::Sell;
            let (id, price, qty) = (trade.id, price(shape, trade.price), qty(shape, trade.qty));
            let text = format!(
                r#"{{"e":"trade","E":{ms},"s":"{name}","t":{id},"p":"{price}","q":"{qty}","T":{ms},"m":{maker_bought},"M":true}}"#
            );
            (Kind::Trade, text)
        }
        What::Quote { bid, ask, update } => {
            let text = format!(
                r#"{{"u":{update},"s":"{name}","b":"{}","B":"{}","a":"{}","A":"{}"}}"#,
                price(shape, bid.0),
                qty(shape, bid.1),
                price(shape, ask.0),
                qty(shape, ask.1),
            );
            (Kind::Quote, text)
        }
        What::Depth { first, last, changes } => {
            let side = |side| {
                let changes = changes.iter().filter(move |it: &&Change| it.side == side);
                list(changes.map(|it| level(shape, (it.price, it.qty))))
            };
            let text = format!(
                r#"{{"e":"depthUpdate","E":{ms},"s":"{name}","U":{first},"u":{last},"b":{},"a":{}}}"#,
                side(Side::Buy),
                side(Side::Sell),
            );
            (Kind::Depth, text)
        }
    }
}

/// The bare message about a day of this market, whose beginning nobody remembers: what it says of the
/// past is the last trade.
fn day_text(pair: &Pair, (bid, ask): ((i64, i64), (i64, i64)), ms: u64) -> String {
    let shape = &pair.shape;
    let (last, traded, id) =
        pair.recent().next_back().map_or((bid.0, 0, 0), |it| (it.price, it.qty, it.id));
    let (last, traded) = (price(shape, last), qty(shape, traded));
    format!(
        r#"{{"e":"24hrTicker","E":{ms},"s":"{}","p":"0","P":"0","w":"{last}","x":"{last}","c":"{last}","Q":"{traded}","b":"{}","B":"{}","a":"{}","A":"{}","o":"{last}","h":"{last}","l":"{last}","v":"0","q":"0","O":{},"C":{ms},"F":{id},"L":{id},"n":0}}"#,
        symbol(shape),
        price(shape, bid.0),
        qty(shape, bid.1),
        price(shape, ask.0),
        qty(shape, ask.1),
        ms.saturating_sub(86_400_000),
    )
}

/// The body of `GET /api/v3/depth`: up to `limit` levels a side of the book as it stands.
#[must_use]
pub fn depth_body(pair: &Pair, limit: usize) -> String {
    let side = |side| {
        let levels = best_first(side, pair.side(side)).take(limit);
        list(levels.map(|it| level(&pair.shape, it)))
    };
    let (update, bids, asks) = (pair.update(), side(Side::Buy), side(Side::Sell));
    format!(r#"{{"lastUpdateId":{update},"bids":{bids},"asks":{asks}}}"#)
}

/// The body of `GET /api/v3/exchangeInfo` at `ms` since the Unix epoch.
#[must_use]
pub fn exchange_info<'a>(ms: u64, shapes: impl Iterator<Item = &'a Shape>) -> String {
    let symbols = list(shapes.map(|shape| {
        let (tick, lot) = (price(shape, 1), qty(shape, 1));
        format!(
            concat!(
                r#"{{"symbol":"{}","status":"TRADING","baseAsset":"{}","baseAssetPrecision":8,"#,
                r#""quoteAsset":"{}","quotePrecision":8,"quoteAssetPrecision":8,"#,
                r#""orderTypes":["LIMIT","LIMIT_MAKER","MARKET"],"isSpotTradingAllowed":true,"#,
                r#""filters":[{{"filterType":"PRICE_FILTER","minPrice":"{}","#,
                r#""maxPrice":"1000000.00000000","tickSize":"{}"}},{{"filterType":"LOT_SIZE","#,
                r#""minQty":"{}","maxQty":"9000.00000000","stepSize":"{}"}},"#,
                r#"{{"filterType":"MIN_NOTIONAL","minNotional":"{}","applyToMarket":true,"#,
                r#""avgPriceMins":5}}],"permissions":["SPOT"]}}"#
            ),
            symbol(shape),
            shape.base,
            shape.quote,
            tick,
            tick,
            lot,
            lot,
            shape.min_notional
        )
    }));
    format!(
        r#"{{"timezone":"UTC","serverTime":{ms},"rateLimits":[],"exchangeFilters":[],"symbols":{symbols}}}"#
    )
}

/// The REST calls that belong to market data.
pub(super) fn answer(scene: &Scene<'_>, request: &Request) -> Option<Response> {
    let refused = |code: i32, msg: &str| {
        Some(Response::new(400, format!(r#"{{"code":{code},"msg":"{msg}"}}"#)))
    };
    match request.path.as_str() {
        "/api/v3/exchangeInfo" => {
            let shapes = scene.listed.iter().map(|it| &it.shape);
            Some(Response::new(200, exchange_info(scene.at.0 / MS, shapes)))
        }
        "/api/v3/time" => {
            Some(Response::new(200, format!(r#"{{"serverTime":{}}}"#, scene.at.0 / MS)))
        }
        "/api/v3/depth" => {
            let limit = request.value("limit").map_or(Ok(LEVELS_DEFAULT), str::parse::<usize>);
            let Ok(limit) = limit else {
                return refused(-1100, "Illegal characters found in parameter 'limit'.");
            };
            let (symbol, limit) = (request.value("symbol").unwrap_or(""), limit.min(LEVELS_MAX));
            let seeded = scene.pair(symbol).map(|pair| depth_body(pair, limit));
            let body = seeded.or_else(|| {
                let Snapshot { last, bids, asks } = scene.recorded_book(symbol, limit)?;
                Some(format!(r#"{{"lastUpdateId":{last},"bids":{bids},"asks":{asks}}}"#))
            });
            match body {
                Some(body) => Some(Response::new(200, body)),
                None => refused(-1121, "Invalid symbol."),
            }
        }
        _ => None,
    }
}

/// What a client asks for.
#[derive(Deserialize)]
struct Wish {
    method: String,
    #[serde(default)]
    params: Vec<Value>,
    #[serde(default)]
    id: Value,
}

/// The venue's side of a stream connection. Topics are the names of the streams.
#[derive(Debug)]
pub(super) struct Binance {
    topics: Topics,
    /// Whether messages are wrapped with the name of their stream.
    combined: bool,
    allowance: Allowance,
    ping_every: u64,
    next_ping: Option<Nanos>,
    /// The payload of the ping that was not answered, and when it was sent.
    unanswered: Option<(Vec<u8>, Nanos)>,
}

impl Binance {
    pub(super) fn new(ping_every: u64) -> Self {
        Self {
            topics: Topics::default(),
            combined: false,
            allowance: Allowance::new(MESSAGES_PER_SECOND, SECOND),
            ping_every,
            next_ping: None,
            unanswered: None,
        }
    }

    /// Counts a message of the client; says good-bye where it is one too many.
    fn admits(&mut self, at: Nanos, out: &mut Vec<Say>) -> bool {
        let fits = self.allowance.take(at);
        if !fits {
            out.push(Say::Close { code: 1008, reason: "Too many requests" });
        }
        fits
    }

    fn tell(&self, stream: &str, class: Class, data: String, out: &mut Vec<Say>) {
        if self.topics.has(stream) {
            let text = if self.combined {
                format!(r#"{{"stream":"{stream}","data":{data}}}"#)
            } else {
                data
            };
            out.push(Say::Text { class, text });
        }
    }

    fn obey(&mut self, wish: &Wish) -> Result<String, (i32, String)> {
        let names = || {
            wish.params.iter().map(|it| {
                let wrong = || (2, "Invalid request: property name must be a string".to_owned());
                it.as_str().ok_or_else(wrong)
            })
        };
        match wish.method.as_str() {
            "SUBSCRIBE" => {
                if wish.params.is_empty() {
                    return Err((2, "Invalid request: missing field `params`".to_owned()));
                }
                for name in names() {
                    self.topics.add(name?);
                }
                if self.topics.len() > STREAMS_MAX {
                    return Err((2, "Invalid request: too many parameters".to_owned()));
                }
                Ok("null".to_owned())
            }
            "UNSUBSCRIBE" => {
                for name in names() {
                    self.topics.remove(name?);
                }
                Ok("null".to_owned())
            }
            "LIST_SUBSCRIPTIONS" => Ok(list(self.topics.iter().map(|it| format!("\"{it}\"")))),
            other => Err((
                2,
                format!(
                    "Invalid request: unknown variant `{}`, expected one of `SUBSCRIBE`, \
                     `UNSUBSCRIBE`, `LIST_SUBSCRIPTIONS`",
                    other.escape_default()
                ),
            )),
        }
    }
}

impl ServerProtocol for Binance {
    fn on_open(&mut self, scene: &Scene<'_>, request: &Request, _out: &mut Vec<Say>) {
        self.combined = request.path == "/stream";
        let names = match request.path.strip_prefix("/ws/") {
            Some(names) => names,
            None => request.value("streams").unwrap_or(""),
        };
        for name in names.split('/').filter(|name| !name.is_empty()) {
            self.topics.add(name);
        }
        self.next_ping = Some(scene.at.plus(self.ping_every));
    }

    fn on_text(&mut self, scene: &Scene<'_>, text: &str, out: &mut Vec<Say>) {
        if !self.admits(scene.at, out) {
            return;
        }
        let Ok(wish) = serde_json::from_str::<Wish>(text) else {
            let error = r#"{"error":{"code":3,"msg":"Invalid JSON"}}"#;
            return out.push(Say::control(error.to_owned()));
        };
        let answer = match self.obey(&wish) {
            Ok(result) => format!(r#"{{"result":{result},"id":{}}}"#, wish.id),
            Err((code, msg)) => {
                let msg = Value::from(msg);
                format!(r#"{{"error":{{"code":{code},"msg":{msg}}},"id":{}}}"#, wish.id)
            }
        };
        out.push(Say::control(answer));
    }

    fn on_control(&mut self, scene: &Scene<'_>, pong: Option<&[u8]>, out: &mut Vec<Say>) {
        if self.admits(scene.at, out)
            && pong.is_some_and(|it| self.unanswered.as_ref().is_some_and(|ping| ping.0 == it))
        {
            self.unanswered = None;
        }
    }

    fn on_step(&mut self, scene: &Scene<'_>, step: &Step, out: &mut Vec<Say>) {
        let Some((pair, name)) = scene.of(step) else {
            return;
        };
        let ms = scene.wall(step.due_ns) / MS;
        let (kind, data) = words(pair, &step.what, ms);
        let lower = name.to_ascii_lowercase();
        self.tell(&format!("{lower}@{}", kind.suffix()), kind.class(), data, out);
        if let What::Trade(trade) = &step.what {
            let maker_bought = trade.aggressor == Side::Sell;
            let (id, shape) = (trade.id, &pair.shape);
            let (price, qty) = (price(shape, trade.price), qty(shape, trade.qty));
            let data = format!(
                r#"{{"e":"aggTrade","E":{ms},"s":"{name}","a":{id},"p":"{price}","q":"{qty}","f":{id},"l":{id},"T":{ms},"m":{maker_bought},"M":true}}"#
            );
            self.tell(&format!("{lower}@aggTrade"), Class::Trade, data, out);
        }
        if let What::Quote { bid, ask, .. } = step.what {
            let stream = format!("{lower}@ticker");
            if self.topics.has(&stream) {
                self.tell(&stream, Class::Quote, day_text(pair, (bid, ask), ms), out);
            }
        }
        if matches!(step.what, What::Depth { .. }) {
            for levels in [5, 10, 20] {
                let stream = format!("{lower}@depth{levels}@100ms");
                if self.topics.has(&stream) {
                    self.tell(&stream, Class::Book, depth_body(pair, levels), out);
                }
            }
        }
    }

    fn on_time(&mut self, scene: &Scene<'_>, out: &mut Vec<Say>) {
        if let Some((_, sent)) = &self.unanswered
            && scene.at.since(*sent) >= PONG_WITHIN
        {
            self.unanswered = None;
            out.push(Say::Close { code: 1008, reason: "Pong timeout" });
        }
        if self.next_ping.is_some_and(|due| scene.at >= due) {
            self.next_ping = Some(scene.at.plus(self.ping_every));
            let payload = (scene.at.0 / MS).to_string().into_bytes();
            self.unanswered.get_or_insert((payload.clone(), scene.at)).0.clone_from(&payload);
            out.push(Say::Ping(payload));
        }
    }

    fn on_last_call(&mut self, scene: &Scene<'_>, out: &mut Vec<Say>) {
        let data = format!(r#"{{"e":"serverShutdown","E":{}}}"#, scene.at.0 / MS);
        out.push(Say::control(if self.combined {
            format!(r#"{{"stream":"!serverShutdown","data":{data}}}"#)
        } else {
            data
        }));
    }

    fn topics(&mut self) -> &mut Topics {
        &mut self.topics
    }

    fn subscriptions(&self) -> &Topics {
        &self.topics
    }

    /// Captures hold the combined form.
    fn recorded(&mut self, message: &str) -> String {
        let bare = || {
            let (_, data) = message.strip_prefix(r#"{"stream":""#)?.split_once(r#"","data":"#)?;
            data.strip_suffix('}')
        };
        match bare() {
            Some(data) if !self.combined => data.to_owned(),
            Some(_) | None => message.to_owned(),
        }
    }
}
