//! Reads frames in any spelling of JSON: the fallback of the scanner, and its oracle in tests.

use super::decode::{self, Decoded, Ignored};
use crate::session::Fault;
use crate::venue::levels::Levels;
use crate::venue::symbols::{Listed, Symbols};
use crate::venue::tape::{Reader, Value, pair, read_levels};

pub(super) fn frame(
    reader: &mut Reader,
    frame: &[u8],
    symbols: &Symbols,
    levels: &mut Levels,
) -> Result<Decoded, Fault> {
    reader.with(frame, |root| unwrap(root, symbols, levels))
}

pub(super) fn snapshot(
    reader: &mut Reader,
    body: &[u8],
    listed: Listed,
    levels: &mut Levels,
) -> Result<u64, Fault> {
    reader.with(body, |root| {
        let (id, bids, asks) = snapshot_fields(root)?;
        levels.clear();
        read_levels(bids, listed, levels)?;
        levels.end_bids();
        read_levels(asks, listed, levels)?;
        Ok(id)
    })
}

pub(super) fn snapshot_id(reader: &mut Reader, body: &[u8]) -> Result<u64, Fault> {
    reader.with(body, |root| snapshot_fields(root).map(|(id, _, _)| id))
}
/// A frame that may be wrapped with the name of its stream.
fn unwrap(root: Value<'_>, symbols: &Symbols, levels: &mut Levels) -> Result<Decoded, Fault> {
    match root.pick(["stream", "data"])? {
        [Some(stream), Some(data)] => {
            stream.text()?;
            if data.elements().is_ok() {
                return Ok(Decoded::Ignored(Ignored::Other)); // tickers of all symbols
            }
            message(data, symbols, levels)
        }
        [None, _] => message(root, symbols, levels),
        [Some(_), None] => Err(Fault::Shape),
    }
}

fn message(it: Value<'_>, symbols: &Symbols, levels: &mut Levels) -> Result<Decoded, Fault> {
    let [kind, update, event] = it.pick(["e", "u", "event"])?;
    let Some(kind) = kind else {
        return match (update, event) {
            (Some(_), _) => quote(it, symbols),
            (None, Some(event)) => wrapped_event(event),
            (None, None) => untyped(it),
        };
    };
    match kind.text()? {
        "trade" => trade(it, "t", symbols),
        "aggTrade" => trade(it, "a", symbols),
        "bookTicker" => quote(it, symbols),
        "depthUpdate" => depth(it, symbols, levels),
        "serverShutdown" => Ok(Decoded::Ignored(Ignored::ServerShutdown)),
        _ => Ok(Decoded::Ignored(Ignored::Other)),
    }
}

/// `{"event":{"e":…}}`, as order connections wrap what they push.
fn wrapped_event(event: Value<'_>) -> Result<Decoded, Fault> {
    let [kind] = event.all(["e"])?;
    Ok(Decoded::Ignored(match kind.text()? {
        "serverShutdown" => Ignored::ServerShutdown,
        _ => Ignored::Other,
    }))
}

/// Messages without a type: replies and partial books.
fn untyped(it: Value<'_>) -> Result<Decoded, Fault> {
    let [error, code, result, partial] = it.pick(["error", "code", "result", "lastUpdateId"])?;
    if error.is_some() || code.is_some() {
        Ok(Decoded::Ignored(Ignored::ErrorReply))
    } else if result.is_some() {
        Ok(Decoded::Ignored(Ignored::Reply))
    } else if partial.is_some() {
        Ok(Decoded::Ignored(Ignored::Other))
    } else {
        Err(Fault::Shape)
    }
}

fn trade(it: Value<'_>, id_key: &str, symbols: &Symbols) -> Result<Decoded, Fault> {
    let [symbol, id, price, qty, time, maker] = it.all(["s", id_key, "p", "q", "T", "m"])?;
    let Some(listed) = symbols.find(symbol.text()?.as_bytes()) else {
        return Ok(Decoded::UnknownSymbol);
    };
    let price_qty = pair(price, qty, listed)?;
    decode::trade(listed, id.integer()?, price_qty, time.integer()?, maker.boolean()?)
}

fn quote(it: Value<'_>, symbols: &Symbols) -> Result<Decoded, Fault> {
    let [symbol, update, bid, bid_qty, ask, ask_qty] = it.all(["s", "u", "b", "B", "a", "A"])?;
    let Some(listed) = symbols.find(symbol.text()?.as_bytes()) else {
        return Ok(Decoded::UnknownSymbol);
    };
    let (bid, ask) = (pair(bid, bid_qty, listed)?, pair(ask, ask_qty, listed)?);
    decode::quote(listed, update.integer()?, bid, ask)
}

fn depth(it: Value<'_>, symbols: &Symbols, levels: &mut Levels) -> Result<Decoded, Fault> {
    let [symbol, time, first, last, bids, asks] = it.all(["s", "E", "U", "u", "b", "a"])?;
    let Some(listed) = symbols.find(symbol.text()?.as_bytes()) else {
        return Ok(Decoded::UnknownSymbol);
    };
    levels.clear();
    read_levels(bids, listed, levels)?;
    levels.end_bids();
    read_levels(asks, listed, levels)?;
    decode::depth(listed, time.integer()?, first.integer()?, last.integer()?)
}

/// `lastUpdateId`, bids, asks.
fn snapshot_fields(root: Value<'_>) -> Result<(u64, Value<'_>, Value<'_>), Fault> {
    let [id, bids, asks] = root.all(["lastUpdateId", "bids", "asks"])?;
    Ok((id.integer()?, bids, asks))
}
