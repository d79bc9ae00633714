//! A recorded connection as a venue's gateway plays it: which message belongs to which subscription,
//! what was listed, and the book at any point, so that a snapshot can be had there.

mod reading;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use kairos_logic::units::Side;
use serde_json::Value;

use self::reading::{Levels, decimals, key, read_body, read_levels};
use super::market::Shape;
use super::venue::{Class, Listed, Protocol};
use crate::capture::{CaptureError, FrameKind, Merge, symbol_of};

/// Why a capture can not be played.
#[derive(Debug, thiserror::Error)]
pub enum TapeError {
    /// It can not be read.
    #[error(transparent)]
    Capture(#[from] CaptureError),
    /// Nothing in it is market data of the venue.
    #[error("{paths}: no market data of {venue} in {lines} lines")]
    Nothing {
        /// Which files.
        paths: String,
        /// Whose words were looked for.
        venue: &'static str,
        /// Lines that were read.
        lines: u64,
    },
}

/// A message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Recorded {
    /// When it came, in nanoseconds since the first.
    pub due_ns: u64,
    pub topic: String,
    pub class: Class,
    pub text: String,
}

/// A REST reply.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Reply {
    /// Path and query, without the host.
    target: String,
    body: String,
}

/// One or several captures in the order of their times. The venue's own acknowledgements and signs of
/// life are left out: a gateway gives its own.
#[derive(Clone, Debug)]
pub struct Tape {
    protocol: Protocol,
    frames: Vec<Recorded>,
    replies: Vec<Reply>,
    topics: BTreeSet<String>,
    listed: Vec<Listed>,
    depth: Option<u64>,
}

/// A book by price: the venue's own text of price and quantity.
type Side12 = BTreeMap<i128, (String, String)>;

impl Tape {
    /// Reads the captures of one venue. All of them are held in memory.
    ///
    /// # Errors
    /// [`TapeError`], naming file and line, or where there is nothing to play.
    pub fn load(protocol: Protocol, paths: &[PathBuf]) -> Result<Self, TapeError> {
        let mut merge = Merge::open(paths.iter().cloned())?;
        let mut tape = Self {
            protocol,
            frames: Vec::new(),
            replies: Vec::new(),
            topics: BTreeSet::new(),
            listed: Vec::new(),
            depth: None,
        };
        let mut shapes = BTreeMap::new();
        let (mut first, mut lines) = (None, 0);
        while let Some(frame) = merge.next()? {
            lines += 1;
            let Ok(text) = std::str::from_utf8(frame.bytes) else {
                continue;
            };
            match frame.kind {
                FrameKind::Rest { target, .. } => {
                    let target = without_host(target.unwrap_or(""));
                    if let Some(symbol) = symbol_of(target)
                        && let Some(levels) = read_body(text)
                    {
                        notice(&mut shapes, symbol, &levels);
                    }
                    tape.replies.push(Reply { target: target.to_owned(), body: text.to_owned() });
                }
                FrameKind::Text => {
                    let Ok(value) = serde_json::from_str::<Value>(text) else {
                        continue;
                    };
                    let Some((topic, class)) = protocol.about(&value) else {
                        continue;
                    };
                    if let Some((symbol, levels)) = read_levels(protocol, &value) {
                        if levels.is_snapshot && tape.depth.is_none() {
                            let most = levels.count();
                            tape.depth = [10, 25, 100, 500, 1_000]
                                .into_iter()
                                .find(|it| usize::try_from(*it).is_ok_and(|it| it >= most));
                        }
                        notice(&mut shapes, &symbol, &levels);
                    }
                    let first = *first.get_or_insert(frame.recv);
                    tape.topics.insert(topic.clone());
                    let (due_ns, text) = (frame.recv.since(first), text.to_owned());
                    tape.frames.push(Recorded { due_ns, topic, class, text });
                }
            }
        }
        if tape.frames.is_empty() {
            let names: Vec<String> = paths.iter().map(|it| it.display().to_string()).collect();
            let (paths, venue) = (names.join(", "), protocol.name());
            return Err(TapeError::Nothing { paths, venue, lines });
        }
        tape.listed = shapes
            .into_iter()
            .map(|(symbol, (tick_decimals, lot_decimals))| {
                let (base, quote) = protocol.split(&symbol);
                let min_notional = "0.00000001"; // unknown
                let shape = Shape { base, quote, tick_decimals, lot_decimals, min_notional };
                Listed { symbol, shape }
            })
            .collect();
        Ok(tape)
    }

    /// The messages, in the order recorded.
    pub(super) fn frames(&self) -> &[Recorded] {
        &self.frames
    }

    /// Messages in it.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.frames.len()
    }

    /// Never: a tape has something to play.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// Whose protocol it holds.
    #[must_use]
    pub const fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// The subscriptions that it serves.
    #[must_use]
    pub const fn topics(&self) -> &BTreeSet<String> {
        &self.topics
    }

    /// The instruments in it, with the decimals that their numbers need.
    #[must_use]
    pub fn listed(&self) -> &[Listed] {
        &self.listed
    }

    /// Levels a side of its first snapshot, rounded up to a depth that can be subscribed to.
    #[must_use]
    pub const fn depth(&self) -> Option<u64> {
        self.depth
    }

    /// The recorded answer to exactly this request, where it is no book.
    pub(super) fn reply(&self, target: &str) -> Option<&str> {
        let found = self.replies.iter().find(|it| it.target == target);
        let found = found.filter(|it| symbol_of(&it.target).is_none());
        found.map(|it| it.body.as_str())
    }

    /// The book of a symbol once everything before message `end` has come: the first recorded
    /// snapshot of it, and later changes. With its update number; `None` where none was recorded.
    pub(super) fn book(&self, symbol: &str, end: usize, limit: usize) -> Option<Snapshot> {
        let reply = self.replies.iter().find(|it| symbol_of(&it.target) == Some(symbol))?;
        let mut levels = read_body(&reply.body)?;
        let mut last = levels.last;
        let mut sides: [Side12; 2] = [BTreeMap::new(), BTreeMap::new()];
        levels.apply(&mut sides);
        for frame in self.frames.iter().take(end).filter(|it| it.class == Class::Book) {
            // Cheap before exact: most frames are of other symbols, or old.
            if !frame.text.contains(symbol) {
                continue;
            }
            let Ok(value) = serde_json::from_str::<Value>(&frame.text) else {
                continue;
            };
            match read_levels(self.protocol, &value) {
                Some((name, mut it)) if name == symbol && it.last > last => {
                    last = it.last;
                    it.apply(&mut sides);
                }
                Some(_) | None => {}
            }
        }
        let [bids, asks] = sides;
        let text = |(price, qty): &(String, String)| format!(r#"["{price}","{qty}"]"#);
        let bids = bids.values().rev().take(limit).map(text).collect::<Vec<_>>().join(",");
        let asks = asks.values().take(limit).map(text).collect::<Vec<_>>().join(",");
        Some(Snapshot { last, bids: format!("[{bids}]"), asks: format!("[{asks}]") })
    }
}

/// A book in the venue's own numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// Number of the last change in it.
    pub last: u64,
    /// Bids as JSON, best first.
    pub bids: String,
    /// Asks as JSON, best first.
    pub asks: String,
}

fn without_host(target: &str) -> &str {
    match target.split_once("://") {
        Some((_, rest)) => rest.find('/').and_then(|it| rest.get(it..)).unwrap_or(""),
        None => target,
    }
}

/// Raises the decimals of a symbol to what its levels need.
fn notice(shapes: &mut BTreeMap<String, (u32, u32)>, symbol: &str, levels: &Levels) {
    let known = shapes.entry(symbol.to_owned()).or_default();
    for (_, price, qty) in &levels.levels {
        known.0 = known.0.max(decimals(price));
        known.1 = known.1.max(decimals(qty));
    }
}

impl Levels {
    fn apply(&mut self, sides: &mut [Side12; 2]) {
        for (side, price, qty) in self.levels.drain(..) {
            let (Some(at), Some(amount)) = (key(&price), key(&qty)) else {
                continue;
            };
            if at == 0 {
                continue; // a placeholder
            }
            let side = &mut sides[usize::from(side == Side::Sell)];
            if amount == 0 {
                side.remove(&at);
            } else {
                side.insert(at, (price, qty));
            }
        }
    }
}
