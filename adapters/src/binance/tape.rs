//! Reads frames in any spelling of JSON: the fallback of the scanner, and its oracle in tests.

use super::decode::{self, Decoded, Ignored, Snapshot};
use crate::session::Fault;
use crate::venue::levels::Levels;
use crate::venue::symbols::{Listed, Symbols};
use crate::venue::tape::{Reader, Value, pair, read_levels};

pub(super) fn frame(
    reader: &mut Reader,
    frame: &[u8],
    symbols: &Symbols,
    levels: &mut Levels,
    words: &mut String,
) -> Result<Decoded, Fault> {
    reader.with(frame, |root| unwrap(root, symbols, levels, words))
}

/// Without an instrument, its update id only.
pub(super) fn snapshot(
    reader: &mut Reader,
    body: &[u8],
    listed: Option<Listed>,
    levels: &mut Levels,
    words: &mut String,
) -> Result<Snapshot, Fault> {
    reader.with(body, |root| {
        if let Some(code) = refusal(root, words)? {
            return Ok(Snapshot::Refused { code });
        }
        let [id, bids, asks] = root.all(["lastUpdateId", "bids", "asks"])?;
        if let Some(listed) = listed {
            levels.clear();
            read_levels(bids, listed, levels)?;
            levels.end_bids();
            read_levels(asks, listed, levels)?;
        }
        Ok(Snapshot::Whole { update: id.integer()? })
    })
}

/// The code of a refusal; its words go into `words`. Newer ones are wrapped:
/// `{"error":{"code":2,"msg":"…"},"id":1}`, and `{"code":-1121,"msg":"…"}`.
fn refusal(it: Value<'_>, words: &mut String) -> Result<Option<i64>, Fault> {
    let [error, code, said] = it.pick(["error", "code", "msg"])?;
    let (code, said) = match error {
        Some(error) => {
            let [code, said] = error.pick(["code", "msg"])?;
            (code, said)
        }
        None if code.is_none() => return Ok(None),
        None => (code, said),
    };
    words.clear();
    let said = said.and_then(|it| it.text().ok()).unwrap_or_default();
    let end = said.floor_char_boundary(words.capacity());
    words.push_str(said.get(..end).unwrap_or_default());
    Ok(Some(code.and_then(|it| it.signed().ok()).unwrap_or(0)))
}

/// A frame that may be wrapped with the name of its stream.
fn unwrap(
    root: Value<'_>,
    symbols: &Symbols,
    levels: &mut Levels,
    words: &mut String,
) -> Result<Decoded, Fault> {
    match root.pick(["stream", "data"])? {
        [Some(stream), Some(data)] => {
            stream.text()?;
            if data.elements().is_ok() {
                return Ok(Decoded::Ignored(Ignored::Other)); // tickers of all symbols
            }
            message(data, symbols, levels, words)
        }
        [None, _] => message(root, symbols, levels, words),
        [Some(_), None] => Err(Fault::Shape),
    }
}

fn message(
    it: Value<'_>,
    symbols: &Symbols,
    levels: &mut Levels,
    words: &mut String,
) -> Result<Decoded, Fault> {
    let [kind, update, event] = it.pick(["e", "u", "event"])?;
    let Some(kind) = kind else {
        return match (update, event) {
            (Some(_), _) => quote(it, symbols),
            (None, Some(event)) => wrapped_event(event),
            (None, None) => untyped(it, words),
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
fn untyped(it: Value<'_>, words: &mut String) -> Result<Decoded, Fault> {
    if let Some(code) = refusal(it, words)? {
        return Ok(Decoded::Refused { code });
    }
    match it.pick(["result", "lastUpdateId"])? {
        [Some(_), _] => Ok(Decoded::Ignored(Ignored::Reply)),
        [None, Some(_)] => Ok(Decoded::Ignored(Ignored::Other)),
        [None, None] => Err(Fault::Shape),
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
