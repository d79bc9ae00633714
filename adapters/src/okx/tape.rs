//! Reads frames in any spelling of JSON: the fallback of the scanner, and its oracle in tests.

use kairos_logic::units::Side;

use super::checksum;
use super::decode::{self, Decoded, Ignored, Room, Snapshot, Tail};
use crate::session::Fault;
use crate::venue::levels::{digits, level, millis};
use crate::venue::symbols::{Listed, Symbols};
use crate::venue::tape::{Reader, Value, pair};

/// The notice that comes 30 to 60 s before an upgrade cuts the connection.
const SERVICE_UPGRADE: i64 = 64_008;

pub(super) fn frame(
    reader: &mut Reader,
    frame: &[u8],
    symbols: &Symbols,
    room: &mut Room,
) -> Result<Decoded, Fault> {
    reader.with(frame, |root| {
        let [event, arg, action, data] = root.pick(["event", "arg", "action", "data"])?;
        if let Some(event) = event {
            return told(root, event.text()?, arg, symbols, room);
        }
        let (Some(arg), Some(data)) = (arg, data) else {
            return Err(Fault::Shape);
        };
        let [channel, symbol] = arg.pick(["channel", "instId"])?;
        let channel = channel.ok_or(Fault::Shape)?.text()?;
        let (of, symbol) = match (Channel::of(channel), symbol) {
            (Channel::Other, _) => return Ok(Decoded::Ignored(Ignored::Other)),
            (of, Some(symbol)) => (of, symbol.text()?),
            (_, None) => return Err(Fault::Shape),
        };
        let Some(listed) = symbols.find(symbol.as_bytes()) else {
            return Ok(Decoded::UnknownSymbol);
        };
        match of {
            Channel::Trades => trades(data, symbol, listed, room),
            Channel::Best => best_levels(only(data)?, listed),
            Channel::Tickers => ticker(only(data)?, symbol, listed),
            Channel::Books => depth(only(data)?, action, listed, room),
            Channel::Other => Ok(Decoded::Ignored(Ignored::Other)),
        }
    })
}

#[derive(Clone, Copy)]
enum Channel {
    Trades,
    Best,
    Tickers,
    Books,
    Other,
}

impl Channel {
    fn of(name: &str) -> Self {
        match name {
            "trades" => Self::Trades,
            "bbo-tbt" => Self::Best,
            "tickers" => Self::Tickers,
            "books" | "books-l2-tbt" | "books50-l2-tbt" => Self::Books,
            _ => Self::Other,
        }
    }
}

/// A frame that is about the connection.
fn told(
    root: Value<'_>,
    event: &str,
    arg: Option<Value<'_>>,
    symbols: &Symbols,
    room: &mut Room,
) -> Result<Decoded, Fault> {
    let [code, words] = root.pick(["code", "msg"])?;
    let code = match code {
        Some(code) => number(code.text()?)?,
        None => 0,
    };
    match event {
        "subscribe" | "unsubscribe" => Ok(Decoded::Ignored(Ignored::Reply)),
        "notice" if code == SERVICE_UPGRADE => Ok(Decoded::Ignored(Ignored::ServiceUpgrade)),
        "error" | "channel-conn-count-error" => {
            let words = words.map_or(Ok(event), Value::text)?;
            room.say(words);
            let named = match arg {
                Some(arg) => arg.pick(["instId"])?[0].map(Value::text).transpose()?,
                None => symbol_in(words),
            };
            let listed = named.and_then(|symbol| symbols.find(symbol.as_bytes()));
            Ok(Decoded::Refused { instrument: listed.map(|it| it.id), code })
        }
        _ => Ok(Decoded::Ignored(Ignored::Other)),
    }
}

/// The symbol that the words of an error name: `… instId:BTC-USDT doesn't exist …`.
fn symbol_in(words: &str) -> Option<&str> {
    let (_, rest) = words.split_once("instId:")?;
    let end = rest.find(|it: char| !(it.is_ascii_alphanumeric() || it == '-'));
    Some(end.map_or(rest, |end| rest.split_at(end).0))
}

fn number(text: &str) -> Result<i64, Fault> {
    i64::try_from(digits(text)?).map_err(|_| Fault::Number)
}

/// The only element of a list.
fn only(data: Value<'_>) -> Result<Value<'_>, Fault> {
    let mut elements = data.elements()?;
    match (elements.next(), elements.next()) {
        (Some(it), None) => Ok(it),
        (Some(_) | None, _) => Err(Fault::Shape),
    }
}

fn trades(
    data: Value<'_>,
    symbol: &str,
    listed: Listed,
    room: &mut Room,
) -> Result<Decoded, Fault> {
    room.trades.clear();
    for it in data.elements()? {
        let [named, id, price, qty, side, time] =
            it.all(["instId", "tradeId", "px", "sz", "side", "ts"])?;
        if named.text()? != symbol {
            return Err(Fault::Shape);
        }
        let aggressor = match side.text()? {
            "buy" => Side::Buy,
            "sell" => Side::Sell,
            _ => return Err(Fault::Shape),
        };
        let (id, time) = (digits(id.text()?)?, digits(time.text()?)?);
        room.push(decode::trade(id, pair(price, qty, listed)?, aggressor, time)?)?;
    }
    Ok(Decoded::Trades { instrument: listed.id })
}

fn best_levels(it: Value<'_>, listed: Listed) -> Result<Decoded, Fault> {
    let [asks, bids, time] = it.all(["asks", "bids", "ts"])?;
    let best = |side: Value<'_>| -> Result<(i64, i64), Fault> {
        let mut levels = side.elements()?;
        match (levels.next(), levels.next()) {
            (None, _) => Ok((0, 0)),
            (Some(level), None) => {
                let (price, qty) = price_qty(level)?;
                pair(price, qty, listed)
            }
            (Some(_), Some(_)) => Err(Fault::Shape),
        }
    };
    let (ask, bid) = (best(asks)?, best(bids)?);
    decode::quote(listed, bid, ask, digits(time.text()?)?)
}

fn ticker(it: Value<'_>, symbol: &str, listed: Listed) -> Result<Decoded, Fault> {
    let [named, ask, ask_qty, bid, bid_qty, time] =
        it.all(["instId", "askPx", "askSz", "bidPx", "bidSz", "ts"])?;
    if named.text()? != symbol {
        return Err(Fault::Shape);
    }
    // A side without orders is spelled as empty text.
    let side = |price: Value<'_>, qty: Value<'_>| match (price.text()?, qty.text()?) {
        ("", "" | "0") => Ok((0, 0)),
        _ => pair(price, qty, listed),
    };
    let (ask, bid) = (side(ask, ask_qty)?, side(bid, bid_qty)?);
    decode::quote(listed, bid, ask, digits(time.text()?)?)
}

fn depth(
    it: Value<'_>,
    action: Option<Value<'_>>,
    listed: Listed,
    room: &mut Room,
) -> Result<Decoded, Fault> {
    let snapshot = match action.map(Value::text).transpose()? {
        Some("snapshot") => Some(true),
        Some("update") => Some(false),
        Some(_) => return Err(Fault::Shape),
        None => None,
    };
    let [asks, bids, time] = it.all(["asks", "bids", "ts"])?;
    let [checksum, seq, prev] = it.pick(["checksum", "seqId", "prevSeqId"])?;
    let signed = |value: Option<Value<'_>>| value.map(Value::signed).transpose();
    let tail = Tail { checksum: signed(checksum)?, seq: signed(seq)?, prev: signed(prev)? };
    book(asks, bids, listed, room)?;
    decode::depth(listed, snapshot, digits(time.text()?)?, tail)
}

/// Asks, then bids, as the venue writes them.
fn book(asks: Value<'_>, bids: Value<'_>, listed: Listed, room: &mut Room) -> Result<(), Fault> {
    room.levels.clear();
    side(asks, listed, room)?;
    room.levels.end_asks();
    side(bids, listed, room)
}

fn side(list: Value<'_>, listed: Listed, room: &mut Room) -> Result<(), Fault> {
    for element in list.elements()? {
        let (price, qty) = price_qty(element)?;
        let units = pair(price, qty, listed)?;
        let level = level(units.0, units.1)?;
        if room.exact {
            let tag = checksum::tag(price.text()?.as_bytes(), qty.text()?.as_bytes());
            room.levels.push_tagged(level, tag)?;
        } else {
            room.levels.push(level)?;
        }
    }
    Ok(())
}

fn price_qty(level: Value<'_>) -> Result<(Value<'_>, Value<'_>), Fault> {
    let mut numbers = level.elements()?;
    match (numbers.next(), numbers.next()) {
        (Some(price), Some(qty)) => Ok((price, qty)),
        (Some(_) | None, _) => Err(Fault::Shape),
    }
}

/// `{"code":"0","msg":"","data":[{"asks":…,"bids":…,"ts":…,"seqId":…}]}`
pub(super) fn snapshot(
    reader: &mut Reader,
    body: &[u8],
    listed: Option<Listed>,
    room: &mut Room,
) -> Result<Snapshot, Fault> {
    reader.with(body, |root| {
        let [code, words, data] = root.pick(["code", "msg", "data"])?;
        let code = number(code.ok_or(Fault::Shape)?.text()?)?;
        if code != 0 {
            room.say(words.map_or(Ok(""), Value::text)?);
            return Ok(Snapshot::Refused { code });
        }
        let it = only(data.ok_or(Fault::Shape)?)?;
        let [asks, bids, time, seq] = it.all(["asks", "bids", "ts", "seqId"])?;
        if let Some(listed) = listed {
            book(asks, bids, listed, room)?;
        }
        Ok(Snapshot::Whole { venue_at: millis(digits(time.text()?)?)?, seq: seq.integer()? })
    })
}
