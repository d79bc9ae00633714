//! Which venues there are, and what must be known of them before a connection exists.
//!
//! A venue is a folder of this package and one arm of each function here.

use kairos_logic::instrument::InstrumentTable;
use kairos_logic::units::{InstrumentId, VenueId};

use crate::binance;
use crate::coinbase;
use crate::kraken;
use crate::kucoin;
use crate::okx;
use crate::session::MarketSession;
use crate::venue::listing::{ListError, Listing};

/// A venue that kairos speaks with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Venue {
    /// Binance spot.
    Binance,
    /// OKX v5, spot.
    Okx,
    /// KuCoin spot, classic push.
    Kucoin,
    /// Coinbase Advanced Trade.
    Coinbase,
    /// Kraken spot.
    Kraken,
}

/// What a venue allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Longest message that it sends, in bytes.
    pub message_max: usize,
    /// Instruments of one connection.
    pub instruments_per_connection: usize,
    /// Shortest time between two attempts to connect from one address, in nanoseconds.
    pub dial_pause_ns: u64,
}

/// Why sessions cannot be made.
pub use crate::venue::SetupError;

impl Venue {
    /// Every venue.
    pub const ALL: [Self; 5] =
        [Self::Binance, Self::Okx, Self::Coinbase, Self::Kraken, Self::Kucoin];

    /// The venue of this name, as it stands in configuration and journals.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|it| it.name() == name)
    }

    /// Its name in configuration, metrics and journals.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Binance => binance::NAME,
            Self::Okx => okx::NAME,
            Self::Kucoin => kucoin::NAME,
            Self::Coinbase => coinbase::NAME,
            Self::Kraken => kraken::NAME,
        }
    }

    /// Default address of its public market data streams.
    #[must_use]
    pub const fn ws_public_url(self) -> &'static str {
        match self {
            Self::Binance => binance::STREAM_URL,
            Self::Okx => okx::STREAM_URL,
            Self::Kucoin => kucoin::STREAM_URL,
            Self::Coinbase => coinbase::STREAM_URL,
            Self::Kraken => kraken::STREAM_URL,
        }
    }

    /// Default address of its REST interface.
    #[must_use]
    pub const fn rest_url(self) -> &'static str {
        match self {
            Self::Binance => binance::REST_URL,
            Self::Okx => okx::REST_URL,
            Self::Kucoin => kucoin::REST_URL,
            Self::Coinbase => coinbase::REST_URL,
            Self::Kraken => kraken::REST_URL,
        }
    }

    /// What it allows.
    #[must_use]
    pub const fn limits(self) -> Limits {
        match self {
            Self::Binance => binance::LIMITS,
            Self::Okx => okx::LIMITS,
            Self::Kucoin => kucoin::LIMITS,
            Self::Coinbase => coinbase::LIMITS,
            Self::Kraken => kraken::LIMITS,
        }
    }

    /// Path and query of its list of instruments, to be fetched by GET.
    #[must_use]
    pub const fn list_path(self) -> &'static str {
        match self {
            Self::Binance => binance::instruments::LIST_PATH,
            Self::Okx => okx::instruments::LIST_PATH,
            Self::Kucoin => kucoin::instruments::LIST_PATH,
            Self::Coinbase => coinbase::instruments::LIST_PATH,
            Self::Kraken => kraken::instruments::LIST_PATH,
        }
    }

    /// Base and quote currency of a symbol that no list describes; `None` where it is none.
    #[must_use]
    pub fn split_symbol(self, symbol: &str) -> Option<(&str, &str)> {
        match self {
            Self::Binance => binance::instruments::split_symbol(symbol),
            Self::Okx => okx::instruments::split_symbol(symbol),
            Self::Kucoin => kucoin::instruments::split_symbol(symbol),
            Self::Coinbase => coinbase::instruments::split_symbol(symbol),
            Self::Kraken => kraken::instruments::split_symbol(symbol),
        }
    }

    /// Reads its list of instruments: those in `wanted`, or all where that is empty.
    ///
    /// # Errors
    /// [`ListError`] where the body is no such list, or a wanted instrument makes no sense.
    pub fn parse_list(self, body: &[u8], wanted: &[&str]) -> Result<Vec<Listing>, ListError> {
        match self {
            Self::Binance => binance::instruments::parse_list(body, wanted),
            Self::Okx => okx::instruments::parse_list(body, wanted),
            Self::Kucoin => kucoin::instruments::parse_list(body, wanted),
            Self::Coinbase => coinbase::instruments::parse_list(body, wanted),
            Self::Kraken => kraken::instruments::parse_list(body, wanted),
        }
    }

    /// A session for these instruments on one connection. Logic keeps the books and says where one
    /// breaks ([`MarketSession::resync`]); a session keeps its own only where the venue's rule of
    /// integrity needs one.
    ///
    /// # Errors
    /// [`SetupError`] where the venue would not serve them on one connection.
    pub fn session(
        self,
        table: &InstrumentTable,
        venue: VenueId,
        instruments: &[InstrumentId],
    ) -> Result<Box<dyn MarketSession>, SetupError> {
        Ok(match self {
            Self::Binance => {
                let options = binance::Options { book_depth: 0, ..binance::Options::default() };
                Box::new(binance::BinanceMarket::new(table, venue, instruments, options)?)
            }
            Self::Okx => {
                Box::new(okx::OkxMarket::new(table, venue, instruments, okx::Options::default())?)
            }
            Self::Kucoin => {
                let options = kucoin::Options::default();
                Box::new(kucoin::KucoinMarket::new(table, venue, instruments, options)?)
            }
            Self::Coinbase => {
                let options = coinbase::Options::default();
                Box::new(coinbase::CoinbaseMarket::new(table, venue, instruments, options)?)
            }
            Self::Kraken => {
                let options = kraken::Options::default();
                Box::new(kraken::KrakenMarket::new(table, venue, instruments, options)?)
            }
        })
    }
}
