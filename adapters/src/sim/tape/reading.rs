//! What recorded messages are about, read the plain way.

use kairos_logic::units::Side;
use serde_json::Value;

use crate::binance::instruments::split_symbol;
use crate::sim::venue::{Class, Protocol};

/// The levels of a message, prices and quantities as the venue wrote them.
#[derive(Debug, Default)]
pub(super) struct Levels {
    pub last: u64,
    pub is_snapshot: bool,
    pub levels: Vec<(Side, String, String)>,
}

impl Levels {
    /// Levels of the longer side.
    pub(super) fn count(&self) -> usize {
        let bids = self.levels.iter().filter(|it| it.0 == Side::Buy).count();
        bids.max(self.levels.len() - bids)
    }

    /// Adds `[["price","quantity",...],...]`.
    fn lists(&mut self, holder: &Value, [bids, asks]: [&str; 2]) {
        for (side, name) in [(Side::Buy, bids), (Side::Sell, asks)] {
            for level in holder.get(name).and_then(Value::as_array).into_iter().flatten() {
                if let (Some(price), Some(qty)) = (text(level.get(0)), text(level.get(1))) {
                    self.levels.push((side, price, qty));
                }
            }
        }
    }
}

fn text(value: Option<&Value>) -> Option<String> {
    match value? {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    }
}

fn word<'a>(value: &'a Value, pointer: &str) -> Option<&'a str> {
    value.pointer(pointer).and_then(Value::as_str)
}

/// Decimals that a number needs.
pub(super) fn decimals(number: &str) -> u32 {
    let fraction = number.split_once('.').map_or("", |it| it.1).trim_end_matches('0');
    u32::try_from(fraction.len()).unwrap_or(0).min(12)
}

/// A number as a count of 10^-12.
pub(super) fn key(number: &str) -> Option<i128> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let fraction = fraction.get(..12).unwrap_or(fraction);
    let scale = 10_i128.pow(12 - u32::try_from(fraction.len()).ok()?);
    let whole: i128 = whole.parse().ok()?;
    let fraction: i128 = if fraction.is_empty() { 0 } else { fraction.parse().ok()? };
    whole.checked_mul(1_000_000_000_000)?.checked_add(fraction * scale)
}

/// A depth body of Binance or KuCoin.
pub(super) fn read_body(body: &str) -> Option<Levels> {
    let value: Value = serde_json::from_str(body).ok()?;
    let mut levels = Levels { is_snapshot: true, ..Levels::default() };
    if let Some(last) = value.get("lastUpdateId").and_then(Value::as_u64) {
        levels.last = last;
        levels.lists(&value, ["bids", "asks"]);
        return Some(levels);
    }
    let data = value.get("data")?;
    levels.last = data.get("sequence")?.as_str()?.parse().ok()?;
    levels.lists(data, ["bids", "asks"]);
    Some(levels)
}

/// Symbol and levels of a message about a book.
pub(super) fn read_levels(protocol: Protocol, value: &Value) -> Option<(String, Levels)> {
    let mut levels = Levels::default();
    let symbol = match protocol {
        Protocol::Binance => {
            let data = value.get("data").unwrap_or(value);
            levels.last = data.get("u")?.as_u64()?;
            levels.lists(data, ["b", "a"]);
            data.get("s")?.as_str()?.to_owned()
        }
        Protocol::Okx => {
            let data = value.pointer("/data/0")?;
            levels.is_snapshot = word(value, "/action") == Some("snapshot");
            levels.lists(data, ["bids", "asks"]);
            word(value, "/arg/instId")?.to_owned()
        }
        Protocol::Coinbase => {
            let event = value.pointer("/events/0")?;
            for update in event.get("updates")?.as_array()? {
                let side = match word(update, "/side")? {
                    "bid" => Side::Buy,
                    _ => Side::Sell,
                };
                let (price, qty) = (update.get("price_level"), update.get("new_quantity"));
                levels.levels.push((side, text(price)?, text(qty)?));
            }
            word(event, "/product_id")?.to_owned()
        }
        Protocol::Kraken => {
            let data = value.pointer("/data/0")?;
            levels.is_snapshot = word(value, "/type") == Some("snapshot");
            for (side, name) in [(Side::Buy, "bids"), (Side::Sell, "asks")] {
                for level in data.get(name)?.as_array()? {
                    let (price, qty) = (text(level.get("price"))?, text(level.get("qty"))?);
                    levels.levels.push((side, price, qty));
                }
            }
            word(data, "/symbol")?.to_owned()
        }
        Protocol::Kucoin => {
            let data = value.get("data")?;
            levels.last = data.get("sequenceEnd")?.as_u64()?;
            levels.lists(data.get("changes")?, ["bids", "asks"]);
            word(data, "/symbol")?.to_owned()
        }
    };
    Some((symbol, levels))
}

impl Protocol {
    /// The subscription that a recorded message belongs to; `None` for what is no market data.
    pub(super) fn about(self, value: &Value) -> Option<(String, Class)> {
        match self {
            Self::Binance => {
                let stream = match value.get("stream") {
                    Some(stream) => stream.as_str()?.to_owned(),
                    None => {
                        let name = value.get("s")?.as_str()?.to_ascii_lowercase();
                        match value.get("e").map(|it| it.as_str().unwrap_or("")) {
                            Some("depthUpdate") => format!("{name}@depth@100ms"),
                            Some(kind) => format!("{name}@{kind}"),
                            None => format!("{name}@bookTicker"),
                        }
                    }
                };
                let class = if stream.contains("@depth") {
                    Class::Book
                } else if stream.ends_with("rade") {
                    Class::Trade
                } else {
                    Class::Quote
                };
                Some((stream, class))
            }
            Self::Okx => {
                value.get("data")?;
                let (channel, name) = (word(value, "/arg/channel")?, word(value, "/arg/instId")?);
                Some((format!("{channel}:{name}"), class(channel)))
            }
            Self::Coinbase => {
                let event = value.pointer("/events/0")?;
                let channel = word(value, "/channel")?;
                let (channel, product) = match channel {
                    "l2_data" => ("level2", word(event, "/product_id")?),
                    "market_trades" => (channel, word(event, "/trades/0/product_id")?),
                    "ticker" => (channel, word(event, "/tickers/0/product_id")?),
                    "candles" => (channel, word(event, "/candles/0/product_id")?),
                    _ => return None,
                };
                Some((format!("{channel}:{product}"), class(channel)))
            }
            Self::Kraken => {
                let channel = word(value, "/channel")?;
                Some((format!("{channel}:{}", word(value, "/data/0/symbol")?), class(channel)))
            }
            Self::Kucoin => {
                let topic = value.get("topic")?.as_str().filter(|_| value.get("data").is_some())?;
                Some((topic.to_owned(), class(topic)))
            }
        }
    }

    /// Base and quote of a symbol.
    pub(super) fn split(self, symbol: &str) -> (String, String) {
        let parts = match self {
            Self::Binance => split_symbol(symbol),
            Self::Okx | Self::Coinbase | Self::Kucoin => symbol.split_once('-'),
            Self::Kraken => symbol.split_once('/'),
        };
        let (base, quote) = parts.unwrap_or((symbol, ""));
        (base.to_owned(), quote.to_owned())
    }
}

/// What a channel is about, by its name.
fn class(channel: &str) -> Class {
    if channel.contains("book") || channel.contains("level2") {
        Class::Book
    } else if channel.contains("trade") || channel.contains("match") {
        Class::Trade
    } else {
        Class::Quote
    }
}
