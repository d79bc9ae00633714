//! The seeded exchange behind `market_data = "sim"`: a server on loopback that speaks the venue's
//! wire protocol, started with the engine and ended with it.

use kairos_adapters::binance;
use kairos_adapters::sim::exchange::ExchangeOptions;
use kairos_adapters::sim::server::{Server, ServerOptions};
use kairos_edge::config::Config;

use crate::clock::Clock;

/// A running simulated exchange.
#[derive(Debug)]
pub struct Simulated {
    server: Server,
}

impl Simulated {
    /// Starts the exchange with the engine's seed.
    ///
    /// # Errors
    /// One line on what did not work.
    pub fn start(config: &Config, venue: &str) -> Result<Self, String> {
        if venue != binance::NAME {
            return Err(format!(
                "there is none that speaks as {venue}; there is {}",
                binance::NAME
            ));
        }
        let clock = Clock::new();
        let exchange = ExchangeOptions {
            seed: config.engine.seed,
            epoch_ms: clock.wall(clock.stamp()).0 / 1_000_000,
        };
        let options = ServerOptions { exchange, ..ServerOptions::default() };
        let server = Server::start(options).map_err(|error| error.to_string())?;
        Ok(Self { server })
    }

    /// The address of its streams.
    #[must_use]
    pub fn ws_url(&self) -> String {
        format!("ws://{}", self.server.address())
    }

    /// The address of its REST interface.
    #[must_use]
    pub fn rest_url(&self) -> String {
        self.server.rest_url()
    }
}
