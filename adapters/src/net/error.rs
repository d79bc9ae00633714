//! What goes wrong between two hosts, one line each: host, found, rule.

use std::io;
use std::net::IpAddr;

/// Why a connection cannot be made, or is over.
#[derive(Debug, thiserror::Error)]
pub enum NetError {
    /// The address cannot be read.
    #[error("{url}: {found}; an address is scheme://host[:port][/path]")]
    Address {
        /// As it was given.
        url: String,
        /// What is wrong with it.
        found: String,
    },
    /// The address is for something else.
    #[error("{host}: scheme {scheme}; wanted {wanted}")]
    Scheme {
        /// Where to.
        host: String,
        /// What was asked for.
        scheme: String,
        /// What it may be.
        wanted: &'static str,
    },
    /// The file of trusted certificates cannot be used.
    #[error("{path}: {found}; wanted a PEM file of certificates")]
    Roots {
        /// Which file.
        path: String,
        /// What is wrong with it.
        found: String,
    },
    /// The other side is not who it should be, or cannot encrypt.
    #[error("{host}: {found}; wanted a TLS handshake with a certificate for this name")]
    Tls {
        /// With whom.
        host: String,
        /// What was found instead.
        found: String,
    },
    /// The other side answered the WebSocket handshake with another HTTP status.
    #[error("{host}: HTTP status {status} {words:?}, wanted 101; retry after {retry_after_s} s")]
    Upgrade {
        /// Who.
        host: String,
        /// What it answered.
        status: u16,
        /// How long it wants to be left alone; 0 where it does not say.
        retry_after_s: u64,
        /// The beginning of what it wrote.
        words: String,
    },
    /// Plain text would leave this host.
    #[error("{host}: {found} is not a loopback address; plain text never leaves this host")]
    NotLoopback {
        /// Where to.
        host: String,
        /// What its name stands for.
        found: IpAddr,
    },
    /// The name stands for no address, or nobody answers there.
    #[error("{host}: {found}; wanted a connection within {limit_ms} ms")]
    Connect {
        /// Where to.
        host: String,
        /// What the system says.
        found: io::Error,
        /// How long it may take.
        limit_ms: u128,
    },
    /// Somebody answers, but does not speak WebSocket.
    #[error("{host}: {found}; wanted a WebSocket handshake")]
    Handshake {
        /// With whom.
        host: String,
        /// What came instead.
        found: String,
    },
    /// The other side closed the connection.
    #[error("{host}: closed with code {code} {reason:?}")]
    Closed {
        /// Which.
        host: String,
        /// Code of the close frame; 1006 where none came.
        code: u16,
        /// Its text.
        reason: String,
    },
    /// The connection broke.
    #[error("{host}: {found}; the connection is lost")]
    Lost {
        /// Which.
        host: String,
        /// What the system says.
        found: io::Error,
    },
    /// The other side broke the WebSocket protocol or passed a limit.
    #[error("{host}: {found}; the connection is dropped")]
    Protocol {
        /// Which.
        host: String,
        /// What it did.
        found: String,
    },
    /// An HTTP request was not answered with 200.
    #[error(
        "{host}{path}: HTTP status {status} {words:?}, wanted 200; retry after {retry_after_s} s"
    )]
    Status {
        /// Where.
        host: String,
        /// What was asked for.
        path: String,
        /// What it answered.
        status: u16,
        /// How long the server wants to be left alone; 0 where it does not say.
        retry_after_s: u64,
        /// The beginning of what it wrote.
        words: String,
    },
    /// An HTTP request was not answered.
    #[error("{host}{path}: {found}; wanted an answer within {limit_ms} ms")]
    Request {
        /// Where.
        host: String,
        /// What was asked for.
        path: String,
        /// What happened.
        found: String,
        /// How long it may take.
        limit_ms: u128,
    },
}

/// Most of a venue's words that are kept.
const WORDS_MAX: usize = 160;

/// The beginning of a body, on one line.
pub(super) fn words(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body.get(..WORDS_MAX).unwrap_or(body));
    let visible = |it: char| if it.is_control() { ' ' } else { it };
    text.chars().map(visible).collect::<String>().trim().to_owned()
}

impl NetError {
    /// The HTTP status of a refusal and how long the server wants to be left alone, in seconds.
    #[must_use]
    pub const fn http(&self) -> Option<(u16, u64)> {
        match *self {
            Self::Upgrade { status, retry_after_s, .. }
            | Self::Status { status, retry_after_s, .. } => Some((status, retry_after_s)),
            Self::Address { .. }
            | Self::Scheme { .. }
            | Self::Roots { .. }
            | Self::Tls { .. }
            | Self::NotLoopback { .. }
            | Self::Connect { .. }
            | Self::Handshake { .. }
            | Self::Closed { .. }
            | Self::Lost { .. }
            | Self::Protocol { .. }
            | Self::Request { .. } => None,
        }
    }
}
