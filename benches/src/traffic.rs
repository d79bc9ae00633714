//! Messages as the venue writes them, seeded and varied: prices, quantities, ids and lengths differ,
//! so that no branch predictor learns them by heart.

use std::fmt::Write as _;

use kairos_adapters::sim::random::Random;

/// A kind of message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A trade.
    Trade,
    /// An aggregate of trades.
    AggTrade,
    /// The best bid and offer.
    BookTicker,
    /// Changes of up to so many levels a side.
    Depth(u64),
}

/// Milliseconds in the messages, at the start.
const EPOCH_MS: u64 = 1_700_000_000_000;
/// Units of a price: cents around sixty thousand.
const MIDDLE: u64 = 6_000_000;
/// Farthest that the quotes wander from the middle, in cents. Books keep clear of it.
const WANDER: u64 = 2_000;

/// An endless row of messages about one symbol.
pub(crate) struct Traffic {
    random: Random,
    update: u64,
    trade: u64,
    ms: u64,
    price: u64, // in MIDDLE ± WANDER
}

impl Traffic {
    /// The same seed gives the same messages.
    pub(crate) fn new(seed: u64) -> Self {
        let random = Random::fork(seed, 11);
        Self { random, update: 1_000, trade: 3_400_000_000, ms: EPOCH_MS, price: MIDDLE }
    }

    /// A snapshot of the book, as of now.
    pub(crate) fn snapshot(&mut self) -> String {
        let mut text = format!("{{\"lastUpdateId\":{},\"bids\":[", self.update);
        for (name, sign) in [("", -1_i64), ("],\"asks\":[", 1)] {
            text.push_str(name);
            for level in 0..500_i64 {
                let price = edge(sign).saturating_add_signed(sign * level * 10);
                let comma = if level == 0 { "" } else { "," };
                let _ = write!(text, "{comma}[\"{}\",\"{}\"]", Cents(price), self.quantity());
            }
        }
        text.push_str("]}");
        text
    }

    /// Writes the next message of this kind.
    pub(crate) fn next(&mut self, kind: Kind, text: &mut String) {
        self.ms += self.random.up_to(2);
        let step = self.random.up_to(40);
        self.price = (self.price + step).saturating_sub(20).clamp(MIDDLE - WANDER, MIDDLE + WANDER);
        match kind {
            Kind::Trade => self.trade(text),
            Kind::AggTrade => self.agg_trade(text),
            Kind::BookTicker => self.book_ticker(text),
            Kind::Depth(levels) => self.depth(levels, text),
        }
    }

    fn trade(&mut self, text: &mut String) {
        self.trade += 1 + self.random.up_to(2);
        let (ms, id, price) = (self.ms, self.trade, Cents(self.price));
        let (quantity, maker) = (self.quantity(), self.random.up_to(1) == 0);
        let _ = write!(
            text,
            "{{\"e\":\"trade\",\"E\":{},\"s\":\"BTCUSDT\",\"t\":{id},\"p\":\"{price}\",\
             \"q\":\"{quantity}\",\"T\":{ms},\"m\":{maker},\"M\":true}}",
            ms + 1
        );
    }

    fn agg_trade(&mut self, text: &mut String) {
        self.trade += 1 + self.random.up_to(2);
        let (ms, id, price) = (self.ms, self.trade, Cents(self.price));
        let (quantity, maker) = (self.quantity(), self.random.up_to(1) == 0);
        let _ = write!(
            text,
            "{{\"e\":\"aggTrade\",\"E\":{},\"s\":\"BTCUSDT\",\"a\":{id},\"p\":\"{price}\",\
             \"q\":\"{quantity}\",\"f\":{},\"l\":{},\"T\":{ms},\"m\":{maker},\"M\":true}}",
            ms + 1,
            id * 2,
            id * 2 + self.random.up_to(8)
        );
    }

    fn book_ticker(&mut self, text: &mut String) {
        let (bid, ask) = (self.price, self.price + 1 + self.random.up_to(19));
        let (bid_quantity, ask_quantity) = (self.quantity(), self.quantity());
        let _ = write!(
            text,
            "{{\"u\":{},\"s\":\"BTCUSDT\",\"b\":\"{}\",\"B\":\"{bid_quantity}\",\
             \"a\":\"{}\",\"A\":\"{ask_quantity}\"}}",
            self.update,
            Cents(bid),
            Cents(ask)
        );
    }

    fn depth(&mut self, levels: u64, text: &mut String) {
        let first = self.update + 1;
        self.update = first + self.random.up_to(29);
        let _ = write!(
            text,
            "{{\"e\":\"depthUpdate\",\"E\":{},\"s\":\"BTCUSDT\",\"U\":{first},\"u\":{},\"b\":[",
            self.ms, self.update
        );
        for (name, sign) in [("", -1_i64), ("],\"a\":[", 1)] {
            text.push_str(name);
            for level in 0..1 + self.random.up_to(levels - 1) {
                let away = i64::try_from(self.random.up_to(199)).unwrap_or(0) * 10;
                let price = edge(sign).saturating_add_signed(sign * away);
                let comma = if level == 0 { "" } else { "," };
                let _ = write!(text, "{comma}[\"{}\",\"{}\"]", Cents(price), self.quantity());
            }
        }
        text.push_str("]}");
    }

    fn quantity(&mut self) -> Lots {
        // Six lengths of numbers, as venues send them.
        let size = [900, 9_000, 90_000, 900_000, 9_000_000, 99_000_000];
        let place = usize::try_from(self.random.up_to(5)).unwrap_or(0);
        Lots(1_000 + self.random.up_to(size[place]))
    }
}

/// The best price of a book: below everything that is quoted, or above it.
fn edge(sign: i64) -> u64 {
    let away = i64::try_from(WANDER).unwrap_or(0) + 100;
    MIDDLE.saturating_add_signed(sign * away)
}

struct Cents(u64);

impl std::fmt::Display for Cents {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{:02}000000", self.0 / 100, self.0 % 100)
    }
}

/// A quantity in 1e-8, with all its decimals, as the venue writes it.
struct Lots(u64);

impl std::fmt::Display for Lots {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{:08}", self.0 / 100_000_000, self.0 % 100_000_000)
    }
}

/// Messages, one behind the other in memory.
pub(crate) struct Messages {
    bytes: String,
    ends: Vec<usize>,
}

impl Messages {
    /// `count` messages whose kinds `choose` gives by number.
    pub(crate) fn new(
        traffic: &mut Traffic,
        count: usize,
        mut choose: impl FnMut(usize) -> Kind,
    ) -> Self {
        Self::written(count, |number, text| traffic.next(choose(number), text))
    }

    /// `count` messages as `write` writes them.
    pub(crate) fn written(count: usize, mut write: impl FnMut(usize, &mut String)) -> Self {
        let mut this = Self { bytes: String::new(), ends: Vec::with_capacity(count) };
        for number in 0..count {
            write(number, &mut this.bytes);
            this.ends.push(this.bytes.len());
        }
        this
    }

    /// How many.
    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }

    /// Mean length in bytes.
    pub(crate) fn mean_len(&self) -> usize {
        self.bytes.len() / self.ends.len().max(1)
    }

    /// The message of this number; empty behind the last.
    #[inline]
    pub(crate) fn get(&self, number: usize) -> &[u8] {
        let start = number.checked_sub(1).map_or(Some(&0), |it| self.ends.get(it));
        match (start, self.ends.get(number)) {
            (Some(&start), Some(&end)) => self.bytes.as_bytes().get(start..end).unwrap_or_default(),
            _ => &[],
        }
    }

    /// All of them.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &[u8]> {
        (0..self.len()).map(|it| self.get(it))
    }
}
