//! The venues' side of their protocols, sans-io: what a client sends and what happens on the market
//! goes in, messages come out.
//!
//! Written from the venues' descriptions and independent of the folders that read them: a mistake
//! would have to be made twice to go unseen. Where a venue's own wording is not known the message
//! says the same in plain words.

pub mod binance;
mod coinbase;
mod kraken;
mod kucoin;
mod okx;
mod text;
mod topics;

use kairos_logic::units::Nanos;

pub use self::text::rfc3339;
pub use self::topics::Topics;
use super::market::{Market, Pair, Shape, Step};
use super::tape::{Snapshot, Tape};

/// A venue whose protocol can be served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// Binance spot.
    Binance,
    /// OKX v5, public channels.
    Okx,
    /// Coinbase Advanced Trade, market data.
    Coinbase,
    /// Kraken spot, WebSocket v2.
    Kraken,
    /// KuCoin spot, classic push server.
    Kucoin,
}

/// What a message is about, so that faults can choose.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// Acknowledgements, heartbeats, answers, notices.
    Control,
    /// Trades.
    Trade,
    /// Tops of books.
    Quote,
    /// Depth: changes and snapshots.
    Book,
}

/// What the server says to one client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Say {
    /// A text message.
    Text {
        /// What it is about.
        class: Class,
        /// The message.
        text: String,
    },
    /// A ping frame with this payload.
    Ping(Vec<u8>),
    /// The end of the connection.
    Close {
        /// Status code of the close frame.
        code: u16,
        /// Its reason.
        reason: &'static str,
    },
}

impl Say {
    /// A message that is no market data.
    pub(crate) const fn control(text: String) -> Self {
        Self::Text { class: Class::Control, text }
    }
}

/// An answer to an HTTP request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// Status, such as 200.
    pub status: u16,
    /// Value of `Retry-After`, in seconds.
    pub retry_after: Option<u32>,
    /// JSON, or empty.
    pub body: String,
}

impl Response {
    /// An answer without further headers.
    #[must_use]
    pub const fn new(status: u16, body: String) -> Self {
        Self { status, retry_after: None, body }
    }
}

/// An HTTP request, or the one that opens a WebSocket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Such as `GET`.
    pub method: String,
    /// Path without the query.
    pub path: String,
    /// Query without its question mark; may be empty.
    pub query: String,
}

impl Request {
    /// A request out of method and target.
    #[must_use]
    pub fn new(method: &str, target: &str) -> Self {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        Self { method: method.to_owned(), path: path.to_owned(), query: query.to_owned() }
    }

    /// A parameter of the query.
    #[must_use]
    pub fn value(&self, key: &str) -> Option<&str> {
        let mut pairs = self.query.split('&').filter_map(|pair| pair.split_once('='));
        pairs.find(|it| it.0 == key).map(|it| it.1)
    }
}

/// An instrument as the venue lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Its name on the wire.
    pub symbol: String,
    /// What it is.
    pub shape: Shape,
}

/// What a protocol may look at while it speaks.
#[derive(Clone, Copy, Debug)]
pub struct Scene<'a> {
    /// The time, since the Unix epoch.
    pub at: Nanos,
    /// When the market's own time was zero.
    pub epoch: Nanos,
    /// What is traded.
    pub listed: &'a [Listed],
    /// The seeded market, whose n-th pair is the n-th listed one; none under capture.
    pub market: Option<&'a Market>,
    /// The recording, and how many of its messages a client who asks for a snapshot has had.
    pub tape: Option<(&'a Tape, usize)>,
    /// Address of this server's WebSocket.
    pub ws_url: &'a str,
    /// Stands for everything secret or unique that the server makes up.
    pub seed: u64,
}

impl<'a> Scene<'a> {
    /// The place of a symbol.
    pub(crate) fn find(&self, symbol: &str) -> Option<usize> {
        self.listed.iter().position(|it| it.symbol == symbol)
    }

    /// The pair of a symbol, where the market is the seeded one.
    pub(crate) fn pair(&self, symbol: &str) -> Option<&'a Pair> {
        self.market?.pairs().get(self.find(symbol)?)
    }

    /// Whether the recording holds messages of this subscription.
    pub(crate) fn carries(&self, topic: &str) -> bool {
        self.tape.is_some_and(|(tape, _)| tape.topics().contains(topic))
    }

    /// The recorded book of a symbol as of now.
    pub(crate) fn recorded_book(&self, symbol: &str, limit: usize) -> Option<Snapshot> {
        let (tape, position) = self.tape?;
        tape.book(symbol, position, limit)
    }

    /// The pair that a step is about, and its symbol.
    pub(crate) fn of(&self, step: &Step) -> Option<(&'a Pair, &'a str)> {
        Some((self.market?.pairs().get(step.pair)?, self.listed.get(step.pair)?.symbol.as_str()))
    }

    /// A time of the market since the Unix epoch.
    pub(crate) const fn wall(&self, market_ns: u64) -> u64 {
        self.epoch.0.saturating_add(market_ns)
    }

    /// The token that a connection must show where the venue hands one out.
    pub(crate) fn token(&self) -> String {
        format!("kairos-sim-{:016x}", self.seed)
    }
}

/// The venue's side of one WebSocket.
///
/// Every call may add messages to `out`, which is not emptied in between.
pub trait ServerProtocol: Send {
    /// The connection is open.
    fn on_open(&mut self, scene: &Scene<'_>, request: &Request, out: &mut Vec<Say>);

    /// The client sent a text.
    fn on_text(&mut self, scene: &Scene<'_>, text: &str, out: &mut Vec<Say>);

    /// The client sent a ping or pong frame; the answer to a ping is not this one's business.
    fn on_control(&mut self, scene: &Scene<'_>, pong: Option<&[u8]>, out: &mut Vec<Say>);

    /// Something happened on the seeded market.
    fn on_step(&mut self, scene: &Scene<'_>, step: &Step, out: &mut Vec<Say>);

    /// Time passed: called at least every [`TICK_NS`].
    fn on_time(&mut self, scene: &Scene<'_>, out: &mut Vec<Say>);

    /// The connection will be cut soon: says so where the venue does.
    fn on_last_call(&mut self, scene: &Scene<'_>, out: &mut Vec<Say>);

    /// What the client is subscribed to.
    fn subscriptions(&self) -> &Topics;

    /// The same, to be told what is new.
    fn topics(&mut self) -> &mut Topics;

    /// A recorded message as this connection would get it.
    fn recorded(&mut self, message: &str) -> String {
        message.to_owned()
    }
}

/// Longest time between two calls of [`ServerProtocol::on_time`], in nanoseconds.
pub const TICK_NS: u64 = 100_000_000;

impl Protocol {
    /// Every one.
    pub const ALL: [Self; 5] =
        [Self::Binance, Self::Okx, Self::Coinbase, Self::Kraken, Self::Kucoin];

    /// The one of this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|it| it.name() == name)
    }

    /// Its name in configuration and on command lines.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Binance => "binance",
            Self::Okx => "okx",
            Self::Coinbase => "coinbase",
            Self::Kraken => "kraken",
            Self::Kucoin => "kucoin",
        }
    }

    /// What its liquid pairs are paid with.
    #[must_use]
    pub const fn quote(self) -> &'static str {
        match self {
            Self::Binance | Self::Okx | Self::Kucoin => "USDT",
            Self::Coinbase | Self::Kraken => "USD",
        }
    }

    /// How it writes a pair.
    #[must_use]
    pub fn symbol(self, base: &str, quote: &str) -> String {
        match self {
            Self::Binance => format!("{base}{quote}"),
            Self::Okx | Self::Coinbase | Self::Kucoin => format!("{base}-{quote}"),
            Self::Kraken => format!("{base}/{quote}"),
        }
    }

    /// Path of its public WebSocket, to be put behind host and port.
    #[must_use]
    pub const fn ws_path(self) -> &'static str {
        match self {
            Self::Binance | Self::Coinbase => "",
            Self::Okx => "/ws/v5/public",
            Self::Kraken => "/v2",
            Self::Kucoin => "/endpoint",
        }
    }

    /// Whether a WebSocket may be opened at this path.
    #[must_use]
    pub fn opens(self, path: &str) -> bool {
        match self {
            Self::Binance => path == "/stream" || path == "/ws" || path.starts_with("/ws/"),
            Self::Coinbase => matches!(path, "/" | ""),
            Self::Okx | Self::Kraken => path == self.ws_path(),
            Self::Kucoin => matches!(path, "/" | "" | "/endpoint"),
        }
    }

    /// Its side of a new connection. `number` tells connections apart; `ping_every` is the time
    /// between two pings in nanoseconds, where the venue pings.
    #[must_use]
    pub fn connection(self, number: u64, ping_every: u64) -> Box<dyn ServerProtocol> {
        match self {
            Self::Binance => Box::new(binance::Binance::new(ping_every)),
            Self::Okx => Box::new(okx::Okx::new(number)),
            Self::Coinbase => Box::new(coinbase::Coinbase::default()),
            Self::Kraken => Box::new(kraken::Kraken::new(number)),
            Self::Kucoin => Box::new(kucoin::Kucoin::default()),
        }
    }

    /// The answer to a request that opens no WebSocket. `None` where there is nothing at its path.
    #[must_use]
    pub fn answer(self, scene: &Scene<'_>, request: &Request) -> Option<Response> {
        match self {
            Self::Binance => binance::answer(scene, request),
            Self::Okx => okx::answer(scene, request),
            Self::Coinbase => coinbase::answer(scene, request),
            Self::Kraken => kraken::answer(scene, request),
            Self::Kucoin => kucoin::answer(scene, request),
        }
    }
}
