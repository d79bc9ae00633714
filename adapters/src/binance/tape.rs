//! Reads frames in any spelling of JSON: the fallback of the scanner, and its oracle in tests.
//!
//! A frame is copied, because the parser writes into its input. Buffers and tape are reused, so a
//! frame that is not larger than those before it allocates nothing.

use simd_json::value::tape::Node;
use simd_json::{Buffers, INPUT_PADDING, StaticNode, Tape};

use super::decode::{self, Decoded, FRAME_MAX, Ignored, Levels};
use super::symbols::{Listed, Symbols};
use crate::session::Fault;

/// Room for frames at the start: a depth update of 1 000 levels.
const ROOM: usize = 1 << 16;

/// The general parser with its buffers.
pub(super) struct Reader {
    input: Vec<u8>,
    buffers: Buffers,
    tape: Option<Tape<'static>>, // `None` only while a frame is being read
}

impl std::fmt::Debug for Reader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reader").field("room", &self.input.capacity()).finish_non_exhaustive()
    }
}

impl Reader {
    pub(super) fn new() -> Self {
        Self {
            input: Vec::with_capacity(ROOM + INPUT_PADDING),
            buffers: Buffers::new(ROOM),
            tape: Some(Tape(Vec::with_capacity(ROOM / 8))),
        }
    }

    /// Parses `text` and hands the nodes to `read`.
    fn with<T>(
        &mut self,
        text: &[u8],
        read: impl FnOnce(Value<'_>) -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        if text.len() > FRAME_MAX {
            return Err(Fault::TooLong);
        }
        self.input.clear();
        self.input.extend_from_slice(text);
        self.input.resize(text.len() + INPUT_PADDING, 0);
        let mut tape = self.tape.take().unwrap_or_else(Tape::null).reset();
        let parsed =
            simd_json::fill_tape_padded(&mut self.input, text.len(), &mut self.buffers, &mut tape);
        let result = match parsed {
            Ok(()) => read(Value(&tape.0)),
            Err(_) => Err(Fault::NotJson),
        };
        self.tape = Some(tape.reset());
        result
    }

    pub(super) fn frame(
        &mut self,
        frame: &[u8],
        symbols: &Symbols,
        levels: &mut Levels,
    ) -> Result<Decoded, Fault> {
        self.with(frame, |root| unwrap(root, symbols, levels))
    }

    pub(super) fn snapshot(
        &mut self,
        body: &[u8],
        listed: Listed,
        levels: &mut Levels,
    ) -> Result<u64, Fault> {
        self.with(body, |root| {
            let (id, bids, asks) = snapshot_fields(root)?;
            levels.clear();
            read_levels(bids, listed, levels)?;
            levels.end_bids();
            read_levels(asks, listed, levels)?;
            Ok(id)
        })
    }

    pub(super) fn snapshot_id(&mut self, body: &[u8]) -> Result<u64, Fault> {
        self.with(body, |root| snapshot_fields(root).map(|(id, _, _)| id))
    }
}

/// A value of the tape: its first node and at least those that belong to it.
#[derive(Clone, Copy)]
struct Value<'a>(&'a [Node<'a>]);

impl<'a> Value<'a> {
    /// Nodes that belong to this value.
    fn span(self) -> usize {
        match self.0.first() {
            Some(Node::Object { count, .. } | Node::Array { count, .. }) => count + 1,
            Some(Node::String(_) | Node::Static(_)) | None => 1,
        }
    }

    fn text(self) -> Result<&'a str, Fault> {
        match self.0.first() {
            Some(Node::String(text)) => Ok(text),
            Some(Node::Object { .. } | Node::Array { .. } | Node::Static(_)) | None => {
                Err(Fault::Shape)
            }
        }
    }

    fn integer(self) -> Result<u64, Fault> {
        match self.0.first() {
            Some(&Node::Static(StaticNode::U64(number))) => Ok(number),
            Some(&Node::Static(StaticNode::I64(number))) => {
                u64::try_from(number).map_err(|_| Fault::Number)
            }
            Some(&Node::Static(StaticNode::F64(_))) => Err(Fault::Number),
            Some(
                Node::Static(StaticNode::Bool(_) | StaticNode::Null)
                | Node::String(_)
                | Node::Object { .. }
                | Node::Array { .. },
            )
            | None => Err(Fault::Shape),
        }
    }

    fn boolean(self) -> Result<bool, Fault> {
        match self.0.first() {
            Some(&Node::Static(StaticNode::Bool(value))) => Ok(value),
            Some(
                Node::Static(
                    StaticNode::U64(_) | StaticNode::I64(_) | StaticNode::F64(_) | StaticNode::Null,
                )
                | Node::String(_)
                | Node::Object { .. }
                | Node::Array { .. },
            )
            | None => Err(Fault::Shape),
        }
    }

    /// The elements of an array.
    fn elements(self) -> Result<Elements<'a>, Fault> {
        match self.0 {
            [Node::Array { len, .. }, rest @ ..] => Ok(Elements { left: *len, rest }),
            _ => Err(Fault::Shape),
        }
    }

    /// The keys and values of an object.
    fn fields(self) -> Result<Fields<'a>, Fault> {
        match self.0 {
            [Node::Object { len, .. }, rest @ ..] => Ok(Fields(Elements { left: len * 2, rest })),
            _ => Err(Fault::Shape),
        }
    }

    /// The values of these keys; a key that is there twice is a fault, others do not matter.
    fn pick<const N: usize>(self, keys: [&str; N]) -> Result<[Option<Value<'a>>; N], Fault> {
        let mut found = [None; N];
        for (key, value) in self.fields()? {
            let place = keys.iter().position(|wanted| *wanted == key);
            if let Some(slot) = place.and_then(|place| found.get_mut(place))
                && slot.replace(value).is_some()
            {
                return Err(Fault::Shape);
            }
        }
        Ok(found)
    }

    /// As [`Self::pick`], with every key required.
    fn all<const N: usize>(self, keys: [&str; N]) -> Result<[Value<'a>; N], Fault> {
        let found = self.pick(keys)?;
        if found.iter().any(Option::is_none) {
            return Err(Fault::Shape);
        }
        Ok(found.map(|value| value.unwrap_or(Value(&[]))))
    }
}

/// Values that follow on each other.
struct Elements<'a> {
    left: usize,
    rest: &'a [Node<'a>],
}

impl<'a> Iterator for Elements<'a> {
    type Item = Value<'a>;

    fn next(&mut self) -> Option<Value<'a>> {
        self.left = self.left.checked_sub(1)?;
        let value = Value(self.rest);
        self.rest = self.rest.get(value.span()..)?;
        Some(value)
    }
}

/// Keys and values that alternate.
struct Fields<'a>(Elements<'a>);

impl<'a> Iterator for Fields<'a> {
    type Item = (&'a str, Value<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        let key = self.0.next()?.text().ok()?;
        Some((key, self.0.next()?))
    }
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

/// A price and a quantity in units of the instrument.
fn pair(price: Value<'_>, qty: Value<'_>, listed: Listed) -> Result<(i64, i64), Fault> {
    Ok((
        decode::units(price.text()?, listed.price_scale)?,
        decode::units(qty.text()?, listed.qty_scale)?,
    ))
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

/// `[["p","q"],…]`; further elements of a level (older replies had an empty list) do not matter.
fn read_levels(list: Value<'_>, listed: Listed, levels: &mut Levels) -> Result<(), Fault> {
    for level in list.elements()? {
        let mut numbers = level.elements()?;
        let (Some(price), Some(qty)) = (numbers.next(), numbers.next()) else {
            return Err(Fault::Shape);
        };
        let (price, qty) = pair(price, qty, listed)?;
        let level = decode::level(price, qty)?;
        levels.push(level)?;
    }
    Ok(())
}
