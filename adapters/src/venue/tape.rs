//! Reads frames in any spelling of JSON: the fallback of the scanners, and their oracle in tests.
//!
//! A frame is copied, because the parser writes into its input. Buffers and tape are reused, so a
//! frame that is not larger than those before it allocates nothing.

use simd_json::value::tape::Node;
use simd_json::{Buffers, INPUT_PADDING, StaticNode, Tape};

use super::levels::{self, Levels, units};
use super::symbols::Listed;
use crate::session::Fault;

/// Room for frames at the start: a depth update of 1 000 levels.
const ROOM: usize = 1 << 16;

/// The general parser with its buffers.
pub(crate) struct Reader {
    input: Vec<u8>,
    max: usize, // longest frame, in bytes
    buffers: Buffers,
    tape: Option<Tape<'static>>, // `None` only while a frame is being read
}

impl std::fmt::Debug for Reader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reader").field("room", &self.input.capacity()).finish_non_exhaustive()
    }
}

impl Reader {
    /// A parser for frames of at most `max` bytes.
    pub(crate) fn new(max: usize) -> Self {
        Self {
            max,
            input: Vec::with_capacity(ROOM + INPUT_PADDING),
            buffers: Buffers::new(ROOM),
            tape: Some(Tape(Vec::with_capacity(ROOM / 8))),
        }
    }

    /// Parses `text` and hands the nodes to `read`.
    pub(crate) fn with<T>(
        &mut self,
        text: &[u8],
        read: impl FnOnce(Value<'_>) -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        if text.len() > self.max {
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
}

/// A value of the tape: its first node and at least those that belong to it.
#[derive(Clone, Copy)]
pub(crate) struct Value<'a>(&'a [Node<'a>]);

impl<'a> Value<'a> {
    /// Nodes that belong to this value.
    fn span(self) -> usize {
        match self.0.first() {
            Some(Node::Object { count, .. } | Node::Array { count, .. }) => count + 1,
            Some(Node::String(_) | Node::Static(_)) | None => 1,
        }
    }

    pub(crate) fn text(self) -> Result<&'a str, Fault> {
        match self.0.first() {
            Some(Node::String(text)) => Ok(text),
            Some(Node::Object { .. } | Node::Array { .. } | Node::Static(_)) | None => {
                Err(Fault::Shape)
            }
        }
    }

    pub(crate) fn integer(self) -> Result<u64, Fault> {
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

    pub(crate) fn is_null(self) -> bool {
        matches!(self.0.first(), Some(Node::Static(StaticNode::Null)))
    }

    pub(crate) fn signed(self) -> Result<i64, Fault> {
        match self.0.first() {
            Some(&Node::Static(StaticNode::I64(number))) => Ok(number),
            Some(_) | None => i64::try_from(self.integer()?).map_err(|_| Fault::Number),
        }
    }

    pub(crate) fn boolean(self) -> Result<bool, Fault> {
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
    pub(crate) fn elements(self) -> Result<Elements<'a>, Fault> {
        match self.0 {
            [Node::Array { len, .. }, rest @ ..] => Ok(Elements { left: *len, rest }),
            _ => Err(Fault::Shape),
        }
    }

    /// The keys and values of an object.
    pub(crate) fn fields(self) -> Result<Fields<'a>, Fault> {
        match self.0 {
            [Node::Object { len, .. }, rest @ ..] => Ok(Fields(Elements { left: len * 2, rest })),
            _ => Err(Fault::Shape),
        }
    }

    /// The values of these keys; a key that is there twice is a fault, others do not matter.
    pub(crate) fn pick<const N: usize>(
        self,
        keys: [&str; N],
    ) -> Result<[Option<Value<'a>>; N], Fault> {
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
    pub(crate) fn all<const N: usize>(self, keys: [&str; N]) -> Result<[Value<'a>; N], Fault> {
        let found = self.pick(keys)?;
        if found.iter().any(Option::is_none) {
            return Err(Fault::Shape);
        }
        Ok(found.map(|value| value.unwrap_or(Value(&[]))))
    }
}

/// Values that follow on each other.
pub(crate) struct Elements<'a> {
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
pub(crate) struct Fields<'a>(Elements<'a>);

impl<'a> Iterator for Fields<'a> {
    type Item = (&'a str, Value<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        let key = self.0.next()?.text().ok()?;
        Some((key, self.0.next()?))
    }
}

/// A price and a quantity in units of the instrument.
pub(crate) fn pair(price: Value<'_>, qty: Value<'_>, listed: Listed) -> Result<(i64, i64), Fault> {
    Ok((units(price.text()?, listed.price_scale)?, units(qty.text()?, listed.qty_scale)?))
}

/// `[["p","q"],…]`; further elements of a level (older replies had an empty list) do not matter.
pub(crate) fn read_levels(
    list: Value<'_>,
    listed: Listed,
    levels: &mut Levels,
) -> Result<(), Fault> {
    for level in list.elements()? {
        let mut numbers = level.elements()?;
        let (Some(price), Some(qty)) = (numbers.next(), numbers.next()) else {
            return Err(Fault::Shape);
        };
        let (price, qty) = pair(price, qty, listed)?;
        let level = levels::level(price, qty)?;
        levels.push(level)?;
    }
    Ok(())
}
