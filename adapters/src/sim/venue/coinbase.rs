//! Coinbase Advanced Trade: the market data WebSocket and the public list of products.

use std::collections::BTreeMap;

use kairos_logic::units::{Nanos, Side};
use serde_json::Value;

use super::text::{best_first, list, rfc3339, trimmed};
use super::topics::Allowance;
use super::{Class, Listed, Request, Response, Say, Scene, ServerProtocol, Topics};
use crate::sim::market::{Pair, Shape, Step, Trade, What, place};

const SECOND: u64 = 1_000_000_000;
/// The first subscription must come within this time.
const FIRST_WITHIN: u64 = 5 * SECOND;
/// Heartbeats.
const HEARTBEAT_EVERY: u64 = SECOND;
/// Trades are collected for so long.
const TRADES_EVERY: u64 = SECOND / 4;
/// Messages of a client without a token.
const MESSAGES_PER_SECOND: usize = 8;
/// Most is closed after so long without a message.
const IDLE_MAX: u64 = 90 * SECOND;
/// The name of the subscription that has no product.
const HEARTBEATS: &str = "heartbeats";

fn price(shape: &Shape, ticks: i64) -> String {
    trimmed(ticks, shape.tick_decimals)
}

fn qty(shape: &Shape, lots: i64) -> String {
    trimmed(lots, shape.lot_decimals)
}

/// What a product is called in messages: those paid in USDC come back under the name of their twin.
fn told_as(product: &str) -> String {
    match product.strip_suffix("-USDC") {
        Some(base) => format!("{base}-USD"),
        None => product.to_owned(),
    }
}

fn trade_text(shape: &Shape, product: &str, trade: &Trade, at: u64) -> String {
    // The venue tells the side of the maker.
    let side = match trade.aggressor {
        Side::Buy => "SELL",
        Side::Sell => "BUY",
    };
    format!(
        r#"{{"product_id":"{product}","trade_id":"{}","price":"{}","size":"{}","time":"{}","side":"{side}"}}"#,
        trade.id,
        price(shape, trade.price),
        qty(shape, trade.qty),
        rfc3339(at, 6),
    )
}

fn level_text(shape: &Shape, side: Side, (ticks, lots): (i64, i64), time: &str) -> String {
    let side = match side {
        Side::Buy => "bid",
        Side::Sell => "offer",
    };
    let (price, qty) = (price(shape, ticks), qty(shape, lots));
    format!(
        r#"{{"side":"{side}","event_time":"{time}","price_level":"{price}","new_quantity":"{qty}"}}"#
    )
}

/// The venue has no snapshot over REST: only the list of products.
pub(super) fn answer(scene: &Scene<'_>, request: &Request) -> Option<Response> {
    let products = "/api/v3/brokerage/market/products";
    let rest = request.path.strip_prefix(products)?;
    let listed = scene.listed.iter().flat_map(|it| {
        let twin = (it.shape.quote == "USD").then(|| {
            let shape = Shape { quote: "USDC".to_owned(), ..it.shape.clone() };
            Listed { symbol: format!("{}C", it.symbol), shape }
        });
        [Some(it.clone()), twin].into_iter().flatten()
    });
    let mut texts = listed.map(|it| (it.symbol.clone(), product_text(&it)));
    if rest.is_empty() {
        let texts: Vec<String> = texts.map(|it| it.1).collect();
        let (count, texts) = (texts.len(), texts.join(","));
        let body = format!(r#"{{"products":[{texts}],"num_products":{count}}}"#);
        return Some(Response::new(200, body));
    }
    let name = rest.strip_prefix('/')?;
    Some(match texts.find(|it| it.0 == name) {
        Some((_, text)) => Response::new(200, text),
        None => {
            let error = "valid product_id is required";
            let body = format!(
                r#"{{"error":"INVALID_ARGUMENT","error_details":"{error}","message":"{error}"}}"#
            );
            Response::new(400, body)
        }
    })
}

fn product_text(it: &Listed) -> String {
    let shape = &it.shape;
    let (tick, lot) = (price(shape, 1), qty(shape, 1));
    let alias = if shape.quote == "USDC" { told_as(&it.symbol) } else { String::new() };
    format!(
        concat!(
            r#"{{"product_id":"{}","price":"","base_increment":"{lot}","quote_increment":"{tick}","#,
            r#""quote_min_size":"1","quote_max_size":"150000000","base_min_size":"{lot}","#,
            r#""base_max_size":"3400","base_name":"{base}","quote_name":"{quote}","#,
            r#""is_disabled":false,"new":false,"status":"online","cancel_only":false,"#,
            r#""limit_only":false,"post_only":false,"trading_disabled":false,"#,
            r#""auction_mode":false,"product_type":"SPOT","quote_currency_id":"{quote}","#,
            r#""base_currency_id":"{base}","alias":"{alias}","view_only":false,"#,
            r#""price_increment":"{tick}","display_name":"{base}-{quote}","product_venue":"CBE"}}"#
        ),
        it.symbol,
        tick = tick,
        lot = lot,
        base = shape.base,
        quote = shape.quote,
        alias = alias,
    )
}

/// The venue's side of a market data connection. Topics are `channel:product`, products as told.
#[derive(Debug)]
pub(super) struct Coinbase {
    topics: Topics,
    /// Number of the next message, over all channels.
    sequence: u64,
    allowance: Allowance,
    opened: Nanos,
    last_said: Nanos,
    next_beat: Option<Nanos>,
    beats: u64,
    /// Trades that wait for their batch, by product.
    trades: BTreeMap<String, Vec<String>>,
    /// When the next batch leaves, by the market's time.
    batch_due_ns: u64,
}

impl Default for Coinbase {
    fn default() -> Self {
        Self {
            topics: Topics::default(),
            sequence: 0,
            allowance: Allowance::new(MESSAGES_PER_SECOND, SECOND),
            opened: Nanos(0),
            last_said: Nanos(0),
            next_beat: None,
            beats: 0,
            trades: BTreeMap::new(),
            batch_due_ns: 0,
        }
    }
}

impl Coinbase {
    /// Says one message with its place in the sequence.
    fn say(&mut self, at: Nanos, class: Class, channel: &str, events: &str, out: &mut Vec<Say>) {
        let (time, sequence) = (rfc3339(at.0, 9), self.sequence);
        self.sequence += 1;
        self.last_said = at;
        let text = format!(
            r#"{{"channel":"{channel}","timestamp":"{time}","sequence_num":{sequence},"events":[{events}]}}"#
        );
        out.push(Say::Text { class, text });
    }

    fn subscribe(
        &mut self,
        scene: &Scene<'_>,
        channel: &str,
        products: &[&str],
        out: &mut Vec<Say>,
    ) -> Result<(), String> {
        if channel == HEARTBEATS {
            self.topics.add(&format!("{HEARTBEATS}:{HEARTBEATS}"));
            self.next_beat.get_or_insert(scene.at);
            return Ok(());
        }
        let known = matches!(channel, "level2" | "market_trades" | "ticker");
        if products.is_empty() {
            return Err("product_ids is required".to_owned());
        }
        let told: Vec<String> = products.iter().map(|it| told_as(it)).collect();
        let recorded = |it: &String| scene.carries(&format!("{channel}:{it}"));
        if !known && !told.iter().any(recorded) {
            return Err(format!("channel {channel} is not supported"));
        }
        if let Some(unknown) = told.iter().find(|it| scene.find(it).is_none() && !recorded(it)) {
            return Err(format!("{unknown} is not a valid product"));
        }
        for product in told {
            if !self.topics.add(&format!("{channel}:{product}")) {
                continue;
            }
            let Some(pair) = scene.pair(&product) else {
                continue; // the recording has its beginning
            };
            match channel {
                "level2" => self.snapshot(scene, pair, &product, out),
                // Clients take the product of a message out of its first trade.
                "market_trades" if pair.recent().next().is_none() => {}
                "market_trades" => {
                    let trades = pair.recent().rev();
                    let trades = list(
                        trades
                            .map(|it| trade_text(&pair.shape, &product, it, scene.wall(it.at_ns))),
                    );
                    let event = format!(r#"{{"type":"snapshot","trades":{trades}}}"#);
                    self.say(scene.at, Class::Trade, channel, &event, out);
                }
                _ => {
                    let best = |side| best_first(side, pair.side(side)).next().unwrap_or((0, 0));
                    let (bid, ask) = (best(Side::Buy), best(Side::Sell));
                    self.ticker(scene.at, pair, &product, "snapshot", bid, ask, out);
                }
            }
        }
        Ok(())
    }

    /// The whole book in one message.
    fn snapshot(&mut self, scene: &Scene<'_>, pair: &Pair, product: &str, out: &mut Vec<Say>) {
        let time = rfc3339(scene.at.0, 6);
        let levels = [Side::Buy, Side::Sell].into_iter().flat_map(|side| {
            let levels = best_first(side, &pair.published()[place(side)]);
            levels.map(move |it| (side, it))
        });
        let updates = list(levels.map(|(side, it)| level_text(&pair.shape, side, it, &time)));
        let event =
            format!(r#"{{"type":"snapshot","product_id":"{product}","updates":{updates}}}"#);
        self.say(scene.at, Class::Book, "l2_data", &event, out);
    }

    #[expect(clippy::too_many_arguments, reason = "the fields of one message")]
    fn ticker(
        &mut self,
        at: Nanos,
        pair: &Pair,
        product: &str,
        kind: &str,
        bid: (i64, i64),
        ask: (i64, i64),
        out: &mut Vec<Say>,
    ) {
        let shape = &pair.shape;
        let last = pair.recent().next_back().map_or(bid.0, |it| it.price);
        let event = format!(
            r#"{{"type":"{kind}","tickers":[{{"type":"ticker","product_id":"{product}","price":"{}","volume_24_h":"0","best_bid":"{}","best_ask":"{}","best_bid_quantity":"{}","best_ask_quantity":"{}"}}]}}"#,
            price(shape, last),
            price(shape, bid.0),
            price(shape, ask.0),
            qty(shape, bid.1),
            qty(shape, ask.1),
        );
        self.say(at, Class::Quote, "ticker", &event, out);
    }

    /// All subscriptions, by channel.
    fn acknowledge(&mut self, at: Nanos, out: &mut Vec<Say>) {
        let mut channels: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        for (channel, product) in self.topics.iter().filter_map(|it| it.split_once(':')) {
            channels.entry(channel).or_default().push(format!("\"{product}\""));
        }
        let parts: Vec<String> = channels
            .iter()
            .map(|(channel, products)| format!(r#""{channel}":[{}]"#, products.join(",")))
            .collect();
        let event = format!(r#"{{"subscriptions":{{{}}}}}"#, parts.join(","));
        self.say(at, Class::Control, "subscriptions", &event, out);
    }

    fn flush_trades(&mut self, at: Nanos, out: &mut Vec<Say>) {
        for (_, mut trades) in std::mem::take(&mut self.trades) {
            trades.reverse(); // newest first
            let event = format!(r#"{{"type":"update","trades":[{}]}}"#, trades.join(","));
            self.say(at, Class::Trade, "market_trades", &event, out);
        }
    }
}

impl ServerProtocol for Coinbase {
    fn on_open(&mut self, scene: &Scene<'_>, _request: &Request, _out: &mut Vec<Say>) {
        (self.opened, self.last_said) = (scene.at, scene.at);
    }

    fn on_text(&mut self, scene: &Scene<'_>, text: &str, out: &mut Vec<Say>) {
        let error = |message: &str| {
            let message = Value::from(message);
            Say::control(format!(r#"{{"type":"error","message":{message}}}"#))
        };
        if !self.allowance.take(scene.at) {
            return out.push(error("rate limit exceeded"));
        }
        let Ok(wish) = serde_json::from_str::<Value>(text) else {
            return out.push(error("Malformed JSON"));
        };
        let part = |key: &str| wish.get(key).and_then(Value::as_str).unwrap_or("");
        let products = wish.get("product_ids").and_then(Value::as_array);
        let products: Vec<&str> =
            products.into_iter().flatten().filter_map(Value::as_str).collect();
        let channel = part("channel");
        match part("type") {
            "subscribe" => {
                if let Err(message) = self.subscribe(scene, channel, &products, out) {
                    return out.push(error(&message));
                }
            }
            "unsubscribe" => {
                if channel == HEARTBEATS {
                    self.topics.remove(&format!("{HEARTBEATS}:{HEARTBEATS}"));
                    self.next_beat = None;
                }
                for product in products {
                    self.topics.remove(&format!("{channel}:{}", told_as(product)));
                }
            }
            _ => return out.push(error("unknown message type")),
        }
        self.acknowledge(scene.at, out);
    }

    fn on_control(&mut self, _scene: &Scene<'_>, _pong: Option<&[u8]>, _out: &mut Vec<Say>) {}

    fn on_step(&mut self, scene: &Scene<'_>, step: &Step, out: &mut Vec<Say>) {
        let Some((pair, product)) = scene.of(step) else {
            return;
        };
        let at = Nanos(scene.wall(step.due_ns));
        if step.due_ns >= self.batch_due_ns {
            self.batch_due_ns = step.due_ns + TRADES_EVERY;
            self.flush_trades(at, out);
        }
        match &step.what {
            What::Trade(trade) => {
                if self.topics.has(&format!("market_trades:{product}")) {
                    let text = trade_text(&pair.shape, product, trade, at.0);
                    self.trades.entry(product.to_owned()).or_default().push(text);
                }
            }
            What::Quote { bid, ask, .. } => {
                if self.topics.has(&format!("ticker:{product}")) {
                    self.ticker(at, pair, product, "update", *bid, *ask, out);
                }
            }
            What::Depth { changes, .. } => {
                if self.topics.has(&format!("level2:{product}")) {
                    let time = rfc3339(at.0, 6);
                    let updates = list(
                        changes
                            .iter()
                            .map(|it| level_text(&pair.shape, it.side, (it.price, it.qty), &time)),
                    );
                    let event = format!(
                        r#"{{"type":"update","product_id":"{product}","updates":{updates}}}"#
                    );
                    self.say(at, Class::Book, "l2_data", &event, out);
                }
            }
        }
    }

    fn on_time(&mut self, scene: &Scene<'_>, out: &mut Vec<Say>) {
        if let Some(due) = self.next_beat.filter(|due| scene.at >= *due) {
            let next = due.plus(HEARTBEAT_EVERY);
            self.next_beat =
                Some(if next > scene.at { next } else { scene.at.plus(HEARTBEAT_EVERY) });
            self.beats += 1;
            let time = rfc3339(scene.at.0, 9).replace('T', " ").replace('Z', " +0000 UTC");
            let event =
                format!(r#"{{"current_time":"{time}","heartbeat_counter":{}}}"#, self.beats);
            self.say(scene.at, Class::Control, HEARTBEATS, &event, out);
        }
        if self.topics.is_empty() && scene.at.since(self.opened) >= FIRST_WITHIN {
            out.push(Say::Close { code: 1008, reason: "no subscription within 5 s" });
        } else if scene.at.since(self.last_said) >= IDLE_MAX {
            out.push(Say::Close { code: 1001, reason: "no message for 90 s" });
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

    /// The recording counts messages of its own subscriptions, this connection those of its own.
    fn recorded(&mut self, message: &str) -> String {
        const KEY: &str = r#""sequence_num":"#;
        let Some((before, rest)) = message.split_once(KEY) else {
            return message.to_owned();
        };
        let after = rest.trim_start_matches(|it: char| it.is_ascii_digit());
        let sequence = self.sequence;
        self.sequence += 1;
        format!("{before}{KEY}{sequence}{after}")
    }
}
