//! The seeded exchange behind `market_data = "sim"`: a server on loopback that speaks the venue's
//! wire protocol, started with the engine and ended with it.

use kairos_adapters::sim::gateway::GatewayOptions;
use kairos_adapters::sim::host::{Host, HostOptions};
use kairos_adapters::sim::venue::Protocol;
use kairos_edge::config::Config;
use kairos_logic::units::Nanos;

use crate::clock::Clock;

/// A running simulated exchange.
#[derive(Debug)]
pub struct Simulated {
    host: Host,
}

impl Simulated {
    /// Starts the exchange of this venue with the engine's seed.
    ///
    /// # Errors
    /// One line on what did not work.
    pub fn start(config: &Config, venue: &str) -> Result<Self, String> {
        let protocol = Protocol::from_name(venue)
            .ok_or_else(|| format!("there is none that speaks as {venue}"))?;
        let clock = Clock::new();
        // The market's times begin at a whole millisecond, as those of most venues do.
        let now_ms = clock.wall(clock.stamp()).0 / 1_000_000;
        let gateway = GatewayOptions {
            epoch: Some(Nanos(now_ms * 1_000_000)),
            ..GatewayOptions::seeded(protocol, config.engine.seed)
        };
        let host = Host::start(HostOptions::plain(gateway)).map_err(|error| error.to_string())?;
        Ok(Self { host })
    }

    /// The address of its streams.
    #[must_use]
    pub fn ws_url(&self) -> String {
        self.host.ws_url()
    }

    /// The address of its REST interface.
    #[must_use]
    pub fn rest_url(&self) -> String {
        self.host.rest_url()
    }
}
