//! The WebSocket that a feed seat polls.

use std::io::{self, ErrorKind};
use std::time::Duration;

use mio::unix::SourceFd;
use tungstenite::protocol::WebSocketConfig;
use tungstenite::{Error, HandshakeError, Message, WebSocket};

use super::NetError;
use super::address::{Address, Purpose};
use super::error::words;
use super::tls::Tls;
use super::wire::{SocketOptions, Stream};

/// Messages handed out in one turn: a seat shares its thread with others, and one burst of a busy
/// venue must not keep them waiting. At 300 ns each to decode, 20 µs.
const MESSAGES_PER_POLL: usize = 64;

/// How a connection is made and how much it may bring.
#[derive(Clone, Copy, Debug)]
pub struct ConnectOptions {
    /// Most time for connecting, and again for the handshakes together.
    pub timeout: Duration,
    /// Size of the read buffer in bytes, brought into 4 096..=16 384: every read that finds nothing
    /// clears all of it.
    pub read_buffer: usize,
    /// Longest message in bytes. A full book of a large venue has several million.
    pub message_max: usize,
    /// Most bytes that may wait to be sent.
    pub unsent_max: usize,
    /// What is asked of the kernel.
    pub socket: SocketOptions,
}

impl Default for ConnectOptions {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(5),
            read_buffer: 16_384,
            message_max: 16 << 20,
            unsent_max: 1 << 20,
            socket: SocketOptions::default(),
        }
    }
}

/// What came over a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard<'a> {
    /// A whole text message.
    Text(&'a [u8]),
    /// A whole binary message.
    Binary(&'a [u8]),
    /// A ping or a pong: the other side lives.
    Alive,
}

/// What a turn found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Polled {
    /// Nothing to read.
    Idle,
    /// So many messages were handed out, at most 64; there may be more.
    Busy(usize),
}

/// What went over a connection so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Text messages handed out.
    pub texts: u64,
    /// Binary messages handed out.
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
    socket: WebSocket<Stream>,
    poll: mio::Poll,
    events: mio::Events,
    /// The last read found the socket empty, and nothing was reported since.
    drained: bool,
    /// Something was queued that the socket has not taken.
    unsent: bool,
    traffic: Traffic,
}

impl Connection {
    /// Connects and shakes hands. Waits for at most a few times `options.timeout`: never on a seat.
    ///
    /// # Errors
    /// [`NetError`]: a bad address, plain text to another host, nobody there, a certificate that is
    /// not trusted, an HTTP status other than 101, or no WebSocket.
    pub fn connect(url: &str, options: ConnectOptions, tls: &Tls) -> Result<Self, NetError> {
        let address = Address::parse(url, Purpose::Stream)?;
        let stream = Stream::open(&address, options.timeout, options.socket, tls)?;
        let config = WebSocketConfig::default()
            .read_buffer_size(options.read_buffer.clamp(4_096, 16_384))
            .write_buffer_size(0)
            .max_write_buffer_size(options.unsent_max.max(1))
            .max_message_size(Some(options.message_max))
            .max_frame_size(Some(options.message_max));
        let shaken = tungstenite::client::client_with_config(url, stream, Some(config));
        let (mut socket, _) =
            shaken.map_err(|error| refused(error, &address.authority, options.timeout))?;
        let host = address.authority;
        let system = |found| NetError::Connect {
            host: host.clone(),
            found,
            limit_ms: options.timeout.as_millis(),
        };
        let poll = mio::Poll::new().map_err(system)?;
        socket.get_mut().wire().settle().map_err(system)?;
        let fd = socket.get_ref().fd();
        let both = mio::Interest::READABLE | mio::Interest::WRITABLE;
        poll.registry().register(&mut SourceFd(&fd), mio::Token(0), both).map_err(system)?;
        Ok(Self {
            host,
            socket,
            poll,
            events: mio::Events::with_capacity(8),
            drained: false, // frames may have come with the last bytes of the handshake
            unsent: false,
            traffic: Traffic::default(),
        })
    }

    /// When the kernel received the bytes last read, in nanoseconds since 1970; 0 where it does not
    /// say or was not asked to.
    #[must_use]
    pub fn stamped_ns(&self) -> u64 {
        self.socket.get_ref().stamped_ns()
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

    /// Hands out up to 64 messages that have come, and sends what waits. Never blocks.
    ///
    /// # Errors
    /// The connection is over: [`NetError::Closed`], [`NetError::Lost`], [`NetError::Protocol`].
    /// What was handed out before stays valid.
    pub fn poll(&mut self, hear: &mut impl FnMut(Heard<'_>)) -> Result<Polled, NetError> {
        self.watch(Some(Duration::ZERO))?;
        if self.unsent {
            self.flush()?;
        }
        if self.drained {
            return Ok(Polled::Idle);
        }
        let mut heard = 0;
        while heard < MESSAGES_PER_POLL {
            // Each message is dropped before the next read, so that its buffer is used again.
            match self.socket.read() {
                Ok(Message::Text(text)) => {
                    heard += 1;
                    self.traffic.texts += 1;
                    hear(Heard::Text(text.as_bytes()));
                }
                Ok(Message::Ping(_)) => {
                    heard += 1;
                    self.traffic.pings += 1;
                    self.unsent = true; // the answer is queued; `flush` lets it go
                    hear(Heard::Alive);
                }
                Ok(Message::Pong(_)) => {
                    heard += 1;
                    hear(Heard::Alive);
                }
                Ok(Message::Binary(bytes)) => {
                    heard += 1;
                    self.traffic.binaries += 1;
                    hear(Heard::Binary(&bytes));
                }
                Ok(Message::Frame(_)) => {}
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
        if self.unsent {
            self.flush()?;
        }
        Ok(if heard == 0 { Polled::Idle } else { Polled::Busy(heard) })
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
        self.queue(Message::text(text))
    }

    /// [`Connection::send`] for a binary message.
    ///
    /// # Errors
    /// As there.
    pub fn send_binary(&mut self, bytes: &[u8]) -> Result<(), NetError> {
        self.queue(Message::binary(bytes.to_vec()))
    }

    /// Asks the other side for a sign of life.
    ///
    /// # Errors
    /// As [`Connection::send`].
    pub fn ping(&mut self) -> Result<(), NetError> {
        self.queue(Message::Ping(tungstenite::Bytes::new()))
    }

    fn queue(&mut self, message: Message) -> Result<(), NetError> {
        self.unsent = true;
        match self.socket.write(message) {
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

/// Why a handshake failed, in the other side's words where it had any.
fn refused<R>(error: HandshakeError<R>, host: &str, limit: Duration) -> NetError
where
    R: tungstenite::handshake::HandshakeRole,
{
    let host = host.to_owned();
    let late = format!("no answer within {} ms", limit.as_millis());
    match error {
        HandshakeError::Failure(Error::Http(response)) => {
            let header = response.headers().get("retry-after");
            let seconds = header.and_then(|value| value.to_str().ok()?.parse().ok());
            NetError::Upgrade {
                host,
                status: response.status().as_u16(),
                retry_after_s: seconds.unwrap_or(0),
                words: words(response.body().as_deref().unwrap_or_default()),
            }
        }
        HandshakeError::Failure(Error::Io(error)) if error.kind() == ErrorKind::TimedOut => {
            NetError::Handshake { host, found: late }
        }
        HandshakeError::Failure(error) => NetError::Handshake { host, found: error.to_string() },
        HandshakeError::Interrupted(_) => NetError::Handshake { host, found: late },
    }
}
