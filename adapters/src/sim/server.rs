//! The seeded exchange on a loopback port: Binance's combined stream and the REST calls that belong to
//! it, so that a demo goes through real sockets and the real wire protocol. A [`Host`] of one venue.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use kairos_logic::units::Nanos;

use super::exchange::ExchangeOptions;
use super::gateway::GatewayOptions;
use super::host::{Host, HostOptions};
use super::venue::Protocol;

/// How fast the exchange's time runs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Pace {
    /// So many times as fast as a clock; 1.0 is real time. Positive.
    Clock(f64),
    /// So many frames per second, whatever their times say. Positive.
    FramesPerSecond(f64),
    /// As fast as the subscribers take them.
    Max,
}

impl Pace {
    /// How long after the first frame one leaves that is due `due_ns` and `frames` frames after it;
    /// `None` is at once.
    pub(super) fn wait(self, due_ns: u64, frames: u64) -> Option<Duration> {
        let seconds = match self {
            Self::Max => return None,
            Self::Clock(rate) => due_ns as f64 / 1e9 / rate,
            Self::FramesPerSecond(rate) => frames as f64 / rate,
        };
        // A pace so slow that the time does not fit is a pace of never, here of a year.
        let year = Duration::from_secs(31_536_000);
        Some(Duration::try_from_secs_f64(seconds).map_or(year, |wait| wait.min(year)))
    }
}

/// What the server serves, and how.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ServerOptions {
    /// The exchange behind it.
    pub exchange: ExchangeOptions,
    /// How fast it runs.
    pub pace: Pace,
    /// Frames after which it falls silent, connections staying open; `None` is never.
    pub frames_max: Option<u64>,
    /// Time between two pings to each client.
    pub ping_every: Duration,
}

impl Default for ServerOptions {
    /// Real time, without end, a ping every 20 s as the venue does.
    fn default() -> Self {
        Self {
            exchange: ExchangeOptions::default(),
            pace: Pace::Clock(1.0),
            frames_max: None,
            ping_every: Duration::from_secs(20),
        }
    }
}

/// What a server did in its life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Served {
    /// Frames of the exchange, whether or not a subscriber wanted them.
    pub frames: u64,
    /// WebSockets that were opened.
    pub connections: u64,
    /// HTTP requests that were answered.
    pub requests: u64,
    /// Pongs that came back.
    pub pongs: u64,
}

/// A running server. Dropping it stops it and waits for its thread.
#[derive(Debug)]
pub struct Server(Host);

impl Server {
    /// Binds a free port of 127.0.0.1 and starts serving.
    ///
    /// # Errors
    /// What the system says, where it has no port or thread to give.
    ///
    /// # Panics
    /// If the pace is not positive.
    pub fn start(options: ServerOptions) -> io::Result<Self> {
        if let Pace::Clock(rate) | Pace::FramesPerSecond(rate) = options.pace {
            assert!(rate > 0.0, "pace {rate} is positive");
        }
        let ExchangeOptions { seed, epoch_ms } = options.exchange;
        let gateway = GatewayOptions {
            pace: options.pace,
            epoch: Some(Nanos(epoch_ms.saturating_mul(1_000_000))),
            steps_max: options.frames_max,
            ping_every_ns: u64::try_from(options.ping_every.as_nanos()).unwrap_or(u64::MAX),
            ..GatewayOptions::seeded(Protocol::Binance, seed)
        };
        Host::start(HostOptions::plain(gateway)).map(Self).map_err(io::Error::other)
    }

    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.0.address()
    }

    /// The address of a WebSocket that serves `streams`, such as `["btcusdt@trade"]`.
    #[must_use]
    pub fn stream_url(&self, streams: &[&str]) -> String {
        format!("{}/stream?streams={}", self.0.ws_url(), streams.join("/"))
    }

    /// The base of the REST addresses.
    #[must_use]
    pub fn rest_url(&self) -> String {
        self.0.rest_url()
    }

    /// Stops serving, closes every connection and tells what was done.
    #[must_use]
    pub fn stop(self) -> Served {
        let report = self.0.stop();
        Served {
            frames: report.steps,
            connections: report.connections,
            requests: report.requests,
            pongs: report.pongs,
        }
    }
}

#[cfg(test)]
mod tests;
