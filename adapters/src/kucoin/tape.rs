//! Reads frames in any spelling of JSON: the fallback of the scanner, and its oracle in tests.

use kairos_logic::units::Side;

use super::decode::{self, Decoded, Ignored, Snapshot};
use crate::session::Fault;
use crate::venue::levels::{Levels, digits, millis};
use crate::venue::symbols::{Listed, Symbols};
use crate::venue::tape::{Reader, Value, pair, read_levels};

/// What the REST interface answers where it did what it was asked for.
const SUCCESS: i64 = 200_000;

pub(super) fn frame(
    reader: &mut Reader,
    frame: &[u8],
    symbols: &Symbols,
    levels: &mut Levels,
    words: &mut String,
) -> Result<Decoded, Fault> {
    reader.with(frame, |root| {
        let [kind, id, topic, data, code] = root.pick(["type", "id", "topic", "data", "code"])?;
        let id = id.and_then(|it| it.text().ok()).and_then(|text| digits(text).ok());
        match kind.ok_or(Fault::Shape)?.text()? {
            "message" => message(topic, data, symbols, levels),
            "welcome" => Ok(Decoded::Ignored(Ignored::Welcome)),
            "pong" => Ok(Decoded::Ignored(Ignored::Pong)),
            "ack" => Ok(Decoded::Ignored(id.map_or(Ignored::Other, Ignored::Ack))),
            "error" => {
                say(words, data.and_then(|it| it.text().ok()).unwrap_or_default());
                let listed = symbol_in(words).and_then(|it| symbols.find(it.as_bytes()));
                let code = code.map_or(Ok(0), number)?;
                Ok(Decoded::Refused { instrument: listed.map(|it| it.id), code, id })
            }
            _ => Ok(Decoded::Ignored(Ignored::Other)),
        }
    })
}

fn message(
    topic: Option<Value<'_>>,
    data: Option<Value<'_>>,
    symbols: &Symbols,
    levels: &mut Levels,
) -> Result<Decoded, Fault> {
    let (Some(topic), Some(data)) = (topic, data) else {
        return Err(Fault::Shape);
    };
    let read = |symbol: &str, read: &mut dyn FnMut(Listed) -> Result<Decoded, Fault>| {
        symbols.find(symbol.as_bytes()).map_or(Ok(Decoded::UnknownSymbol), read)
    };
    match topic.text()?.split_once(':') {
        Some(("/market/match", symbol)) => read(symbol, &mut |it| trade(data, symbol, it)),
        Some(("/market/ticker", symbol)) => read(symbol, &mut |it| quote(data, it)),
        Some(("/market/level2", symbol)) => read(symbol, &mut |it| depth(data, symbol, it, levels)),
        Some(_) | None => Ok(Decoded::Ignored(Ignored::Other)),
    }
}

fn say(words: &mut String, said: &str) {
    words.clear();
    let end = said.floor_char_boundary(words.capacity());
    words.push_str(said.get(..end).unwrap_or_default());
}

/// The one symbol that the words of an error name: `topic /market/match:BTC-USDT is not found`.
fn symbol_in(words: &str) -> Option<&str> {
    let (_, rest) = words.split_once(':')?;
    rest.split_once(|it: char| it.is_whitespace()).map_or(Some(rest), |(symbol, _)| Some(symbol))
}

/// A number, or a text that is one.
fn number(value: Value<'_>) -> Result<i64, Fault> {
    match value.text() {
        Ok(text) => i64::try_from(digits(text)?).map_err(|_| Fault::Number),
        Err(_) => value.signed(),
    }
}

fn trade(it: Value<'_>, symbol: &str, listed: Listed) -> Result<Decoded, Fault> {
    let [named, side, price, qty, id, sequence, time] =
        it.all(["symbol", "side", "price", "size", "tradeId", "sequence", "time"])?;
    if named.text()? != symbol {
        return Err(Fault::Shape);
    }
    let aggressor = match side.text()? {
        "buy" => Side::Buy,
        "sell" => Side::Sell,
        _ => return Err(Fault::Shape),
    };
    let sequence = digits(sequence.text()?)?;
    let id = digits(id.text()?).unwrap_or(sequence);
    decode::trade(listed, id, pair(price, qty, listed)?, aggressor, digits(time.text()?)?)
}

fn quote(it: Value<'_>, listed: Listed) -> Result<Decoded, Fault> {
    let [sequence, ask, ask_qty, bid, bid_qty, time] =
        it.all(["sequence", "bestAsk", "bestAskSize", "bestBid", "bestBidSize", "time"])?;
    // A side without orders has no numbers.
    let side = |price: Value<'_>, qty: Value<'_>| {
        if price.is_null() && qty.is_null() { Ok((0, 0)) } else { pair(price, qty, listed) }
    };
    let (ask, bid) = (side(ask, ask_qty)?, side(bid, bid_qty)?);
    decode::quote(listed, digits(sequence.text()?)?, bid, ask, time.integer()?)
}

fn depth(
    it: Value<'_>,
    symbol: &str,
    listed: Listed,
    levels: &mut Levels,
) -> Result<Decoded, Fault> {
    let [named, first, last, changes] =
        it.all(["symbol", "sequenceStart", "sequenceEnd", "changes"])?;
    let [time] = it.pick(["time"])?;
    if named.text()? != symbol {
        return Err(Fault::Shape);
    }
    let [asks, bids] = changes.all(["asks", "bids"])?;
    levels.clear();
    side(asks, listed, levels)?;
    levels.end_asks();
    side(bids, listed, levels)?;
    let time = time.map(Value::integer).transpose()?;
    decode::depth(listed, first.integer()?, last.integer()?, time)
}

/// `[["p","q","sequence"],…]`
fn side(list: Value<'_>, listed: Listed, levels: &mut Levels) -> Result<(), Fault> {
    for record in list.elements()? {
        let mut parts = record.elements()?;
        let (Some(price), Some(qty), Some(sequence)) = (parts.next(), parts.next(), parts.next())
        else {
            return Err(Fault::Shape);
        };
        decode::change(levels, pair(price, qty, listed)?, digits(sequence.text()?)?)?;
    }
    Ok(())
}

/// `{"code":"200000","data":{"time":…,"sequence":"…","bids":[["p","q"],…],"asks":…}}`
pub(super) fn snapshot(
    reader: &mut Reader,
    body: &[u8],
    listed: Option<Listed>,
    levels: &mut Levels,
    words: &mut String,
) -> Result<Snapshot, Fault> {
    reader.with(body, |root| {
        let [code, said, data] = root.pick(["code", "msg", "data"])?;
        let code = number(code.ok_or(Fault::Shape)?)?;
        if code != SUCCESS {
            say(words, said.and_then(|it| it.text().ok()).unwrap_or_default());
            return Ok(Snapshot::Refused { code });
        }
        let data = data.ok_or(Fault::Shape)?;
        let [time, sequence, bids, asks] = data.all(["time", "sequence", "bids", "asks"])?;
        let snapshot = Snapshot::Whole {
            venue_at: millis(time.integer()?)?,
            sequence: digits(sequence.text()?)?,
        };
        if let Some(listed) = listed {
            levels.clear();
            read_levels(bids, listed, levels)?;
            levels.end_bids();
            read_levels(asks, listed, levels)?;
        }
        Ok(snapshot)
    })
}
