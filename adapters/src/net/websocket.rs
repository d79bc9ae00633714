//! The WebSocket that a feed seat polls.

use std::io::{self, ErrorKind};
use std::time::Duration;

use tungstenite::protocol::WebSocketConfig;
use tungstenite::{Error, HandshakeError, Message, WebSocket};

use super::NetError;
use super::socket::{Socket, Target};

/// Messages handed out in one turn: a seat shares its thread with others, and one burst of a busy
/// venue must not keep them waiting. At 300 ns each to decode, 20 µs.
const MESSAGES_PER_POLL: usize = 64;

/// How a connection is made and how much it may bring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectOptions {
    /// Most time for connecting, and again for each step of the handshake.
    pub timeout: Duration,
    /// Size of the read buffer in bytes, brought into 4 096..=16 384: every read that finds nothing
    /// clears all of it.
    pub read_buffer: usize,
    /// Longest message in bytes. A full book of a large venue has several million.
    pub message_max: usize,
    /// Most bytes that may wait to be sent.
    pub unsent_max: usize,
}

impl Default for ConnectOptions {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(5),
            read_buffer: 16_384,
            message_max: 16 << 20,
            unsent_max: 1 << 20,
        }
    }
}

/// What a turn found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Polled {
    /// Nothing to read.
    Idle,
    /// So many text messages were handed out, at most 64; there may be more.
    Busy(usize),
}

/// What went over a connection so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Text messages handed out.
    pub texts: u64,
    /// Binary messages, dropped.
    pub binaries: u64,
    /// Pings of the other side, each answered.
    pub pings: u64,
    /// Messages sent.
    pub sent: u64,
}

/// An open WebSocket. Made on the cold path, where it may wait; polled on the hot one, where it
/// neither waits nor allocates for a text message that fits the read buffer.
#[derive(Debug)]
pub struct Connection {
    host: String,
    socket: WebSocket<Socket>,
    poll: mio::Poll,
    events: mio::Events,
    /// The last read found the socket empty, and nothing was reported since.
    drained: bool,
    /// Something was queued that the socket has not taken.
    unsent: bool,
    traffic: Traffic,
}

impl Connection {
    /// Connects and shakes hands. Waits for at most a few times `options.timeout`.
    ///
    /// # Errors
    /// [`NetError`]: a bad address, another scheme than `ws`, a host other than this one, nobody
    /// there, or no WebSocket.
    pub fn connect(url: &str, options: ConnectOptions) -> Result<Self, NetError> {
        let target = Target::parse(url, "ws")?;
        let stream = target.connect(options.timeout)?;
        let config = WebSocketConfig::default()
            .read_buffer_size(options.read_buffer.clamp(4_096, 16_384))
            .write_buffer_size(0)
            .max_write_buffer_size(options.unsent_max.max(1))
            .max_message_size(Some(options.message_max))
            .max_frame_size(Some(options.message_max));
        let handshake =
            |found: String| NetError::Handshake { host: target.authority.clone(), found };
        let shaken =
            tungstenite::client::client_with_config(url, Socket::Making(stream), Some(config));
        let (mut socket, _) = shaken.map_err(|error| match error {
            HandshakeError::Failure(error) => handshake(error.to_string()),
            HandshakeError::Interrupted(_) => {
                handshake(format!("no answer within {} ms", options.timeout.as_millis()))
            }
        })?;
        let system = |found| NetError::Connect {
            host: target.authority.clone(),
            found,
            limit_ms: options.timeout.as_millis(),
        };
        let poll = mio::Poll::new().map_err(system)?;
        socket.get_mut().settle(poll.registry(), mio::Token(0)).map_err(system)?;
        Ok(Self {
            host: target.authority,
            socket,
            poll,
            events: mio::Events::with_capacity(8),
            drained: false, // frames may have come with the last bytes of the handshake
            unsent: false,
            traffic: Traffic::default(),
        })
    }

    /// Host and port, for messages.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// What went over it so far.
    #[must_use]
    pub const fn traffic(&self) -> Traffic {
        self.traffic
    }

    /// Hands out up to 64 text messages that have come, and sends what waits. Never blocks.
    ///
    /// # Errors
    /// The connection is over: [`NetError::Closed`], [`NetError::Lost`], [`NetError::Protocol`].
    /// What was handed out before stays valid.
    pub fn poll(&mut self, on_text: &mut impl FnMut(&[u8])) -> Result<Polled, NetError> {
        self.watch(Some(Duration::ZERO))?;
        if self.unsent {
            self.flush()?;
        }
        if self.drained {
            return Ok(Polled::Idle);
        }
        let mut texts = 0;
        while texts < MESSAGES_PER_POLL {
            // Each message is dropped before the next read, so that its buffer is used again.
            match self.socket.read() {
                Ok(Message::Text(text)) => {
                    texts += 1;
                    on_text(text.as_bytes());
                }
                Ok(Message::Ping(_)) => {
                    self.traffic.pings += 1;
                    self.unsent = true; // the answer is queued; `flush` lets it go
                }
                Ok(Message::Binary(_)) => self.traffic.binaries += 1,
                Ok(Message::Pong(_) | Message::Frame(_)) => {}
                Ok(Message::Close(frame)) => {
                    let _ = self.socket.flush(); // our half of the goodbye; the end is the same
                    let (code, reason) = frame.map_or((1006, String::new()), |frame| {
                        (frame.code.into(), frame.reason.to_string())
                    });
                    let host = self.host.clone();
                    return Err(NetError::Closed { host, code, reason });
                }
                Err(Error::Io(error)) if error.kind() == ErrorKind::WouldBlock => {
                    self.drained = true;
                    break;
                }
                Err(error) => return Err(self.over(error)),
            }
        }
        self.traffic.texts += texts as u64;
        if self.unsent {
            self.flush()?;
        }
        Ok(if texts == 0 { Polled::Idle } else { Polled::Busy(texts) })
    }

    /// Sleeps until there is something to read, or for `limit`. For seats that may sleep.
    ///
    /// # Errors
    /// [`NetError::Lost`] where the system cannot watch the socket.
    pub fn wait(&mut self, limit: Duration) -> Result<(), NetError> {
        if self.drained {
            self.watch(Some(limit))?;
        }
        Ok(())
    }

    /// Queues a text message and sends as much as the socket takes; the rest goes with the next
    /// polls.
    ///
    /// # Errors
    /// As [`Connection::poll`]; [`NetError::Protocol`] also when too much waits already.
    pub fn send(&mut self, text: &str) -> Result<(), NetError> {
        self.unsent = true;
        match self.socket.write(Message::text(text)) {
            Ok(()) => {}
            Err(Error::Io(error)) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(self.over(error)),
        }
        self.traffic.sent += 1;
        self.flush()
    }

    /// Says goodbye, without waiting for an answer. What follows it fails with
    /// [`NetError::Closed`].
    pub fn close(&mut self) {
        let _ = self.socket.close(None); // it ends either way
        let _ = self.socket.flush();
    }

    fn flush(&mut self) -> Result<(), NetError> {
        match self.socket.flush() {
            Ok(()) => self.unsent = false,
            Err(Error::Io(error)) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(self.over(error)),
        }
        Ok(())
    }

    /// Asks what happened to the socket. Readiness is reported once, so it is kept in `drained`.
    fn watch(&mut self, limit: Option<Duration>) -> Result<(), NetError> {
        match self.poll.poll(&mut self.events, limit) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::Interrupted => return Ok(()),
            Err(error) => return Err(self.over(Error::Io(error))),
        }
        let readable = |event: &mio::event::Event| event.is_readable() || event.is_read_closed();
        if self.events.iter().any(readable) {
            self.drained = false;
        }
        Ok(())
    }

    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "foreign errors, whose kinds differ by feature; all others tell of a broken peer"
    )]
    fn over(&self, error: Error) -> NetError {
        let host = self.host.clone();
        match error {
            Error::Io(found) => NetError::Lost { host, found },
            Error::ConnectionClosed | Error::AlreadyClosed => {
                NetError::Closed { host, code: 1006, reason: String::new() }
            }
            Error::Protocol(tungstenite::error::ProtocolError::ResetWithoutClosingHandshake) => {
                NetError::Lost { host, found: io::ErrorKind::ConnectionReset.into() }
            }
            other => NetError::Protocol { host, found: other.to_string() },
        }
    }
}
