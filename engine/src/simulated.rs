//! The seeded exchange behind `market_data = "sim"`: a server on loopback that speaks the venue's
//! wire protocol, started with the engine and ended with it.

use std::time::Duration;

use kairos_adapters::binance::instruments::parse_list;
use kairos_adapters::net::NetError;
use kairos_adapters::net::rest::{Rest, RestOptions};
use kairos_adapters::sim::exchange::ExchangeOptions;
use kairos_adapters::sim::server::{Server, ServerOptions};
use kairos_adapters::venue::listing::Listing;
use kairos_edge::config::{Config, Description};
use kairos_logic::units::Decimal;

use crate::clock::Clock;

/// Where the venue lists its instruments.
const LIST_PATH: &str = "/api/v3/exchangeInfo";
/// Most time for the list, on loopback.
const LIST_WITHIN: Duration = Duration::from_secs(5);

/// A running simulated exchange and what it lists.
#[derive(Debug)]
pub struct Simulated {
    server: Server,
    listings: Vec<Listing>,
}

impl Simulated {
    /// Starts the exchange with the engine's seed and fetches its list as from any venue.
    ///
    /// # Errors
    /// One line on what did not work.
    pub fn start(config: &Config) -> Result<Self, String> {
        let clock = Clock::new();
        let exchange = ExchangeOptions {
            seed: config.engine.seed,
            epoch_ms: clock.wall(clock.stamp()).0 / 1_000_000,
        };
        let options = ServerOptions { exchange, ..ServerOptions::default() };
        let server = Server::start(options).map_err(|error| error.to_string())?;
        let body = list(&server).map_err(|error| error.to_string())?;
        let listings = parse_list(&body, &[]).map_err(|error| error.to_string())?;
        Ok(Self { server, listings })
    }

    /// The address of the stream at `path`.
    #[must_use]
    pub fn stream_url(&self, path: &str) -> String {
        format!("ws://{}{path}", self.server.address())
    }

    /// A helper thread that fetches from it.
    ///
    /// # Errors
    /// Where the address cannot be used.
    pub fn rest(&self) -> Result<Rest, NetError> {
        Rest::start(&self.server.rest_url(), RestOptions::default())
    }

    /// What it lists of a symbol.
    #[must_use]
    pub fn describe(&self, _venue: &str, symbol: &str) -> Option<Description> {
        let listing = self.listings.iter().find(|it| it.symbol == symbol)?;
        let text = |units: i64, scale: u8| Some(Decimal { units, scale }.to_string());
        Some(Description {
            base: listing.base.clone(),
            quote: listing.quote.clone(),
            price_scale: Some(listing.price_scale),
            qty_scale: Some(listing.qty_scale),
            tick_size: text(listing.tick.0, listing.price_scale),
            lot_size: text(listing.lot.0, listing.qty_scale),
            min_qty: text(listing.min_qty.0, listing.qty_scale),
            min_notional: Some(listing.min_notional),
        })
    }
}

fn list(server: &Server) -> Result<Vec<u8>, NetError> {
    let mut rest = Rest::start(&server.rest_url(), RestOptions::default())?;
    let asked = rest.request(0, LIST_PATH.into());
    match rest.wait(LIST_WITHIN).filter(|_| asked) {
        Some(reply) => reply.body,
        None => Ok(Vec::new()), // no list in time reads as no list
    }
}
