//! One open WebSocket of a host.

use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::time::{Duration, Instant};

use tungstenite::protocol::CloseFrame;
use tungstenite::protocol::frame::Frame;
use tungstenite::protocol::frame::coding::{CloseCode, Data, OpCode};
use tungstenite::{Error, Message, WebSocket};

use super::door::Wire;

/// A client that takes nothing for so long is disconnected.
const STALL_MAX: Duration = Duration::from_secs(5);
/// A client that does not answer a close frame within this time is disconnected.
const CLOSE_WITHIN: Duration = Duration::from_secs(2);

/// What a client said.
pub(super) enum Heard {
    Text(String),
    Ping,
    Pong(Vec<u8>),
}

/// A subscriber.
pub(super) struct Client {
    socket: WebSocket<Wire>,
    alive: bool,
    /// Since when it has not taken what waits for it.
    behind_since: Option<Instant>,
    closing_since: Option<Instant>,
}

impl Client {
    pub(super) const fn new(socket: WebSocket<Wire>) -> Self {
        Self { socket, alive: true, behind_since: None, closing_since: None }
    }

    pub(super) fn fd(&self) -> RawFd {
        self.socket.get_ref().tcp().as_raw_fd()
    }

    pub(super) const fn is_alive(&self) -> bool {
        self.alive
    }

    /// Whether bytes wait that it has not taken.
    pub(super) const fn is_behind(&self) -> bool {
        self.behind_since.is_some()
    }

    /// The next thing that it said; `None` where nothing came or it is gone.
    pub(super) fn read(&mut self) -> Option<Heard> {
        while self.alive {
            match self.socket.read() {
                Ok(Message::Text(text)) => return Some(Heard::Text(text.as_str().to_owned())),
                Ok(Message::Ping(_)) => return Some(Heard::Ping),
                Ok(Message::Pong(payload)) => return Some(Heard::Pong(payload.to_vec())),
                Ok(Message::Binary(_) | Message::Frame(_)) => {}
                Ok(Message::Close(_)) => {} // the answer is queued; the next read tells the end
                Err(Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => return None,
                Err(_) => self.alive = false,
            }
        }
        None
    }

    pub(super) fn say(&mut self, text: String) {
        self.send(Message::text(text));
    }

    pub(super) fn ping(&mut self, payload: Vec<u8>) {
        self.send(Message::Ping(payload.into()));
    }

    pub(super) fn close(&mut self, code: u16, reason: &'static str) {
        self.closing_since.get_or_insert_with(Instant::now);
        let frame = CloseFrame { code: CloseCode::from(code), reason: reason.into() };
        let said = self.socket.close(Some(frame));
        self.note(said);
        self.flush();
    }

    /// Sends the first half of a text's frame and ends the connection.
    pub(super) fn cut_in(&mut self, text: &str) {
        self.flush();
        let mut bytes = Vec::new();
        let data = text.as_bytes().to_vec();
        let frame = Frame::message(data, OpCode::Data(Data::Text), true);
        if frame.format(&mut bytes).is_ok() {
            bytes.truncate(bytes.len() / 2);
            let wire = self.socket.get_mut();
            // What the socket does not take at once is cut off too.
            let _ = io::Write::write(wire, &bytes);
            let _ = io::Write::flush(wire);
        }
        self.alive = false;
    }

    /// Sends what waits, and notices who takes too long.
    pub(super) fn flush(&mut self) {
        let sent = self.socket.flush();
        self.note(sent);
        let late = |since: Option<Instant>, most| since.is_some_and(|it| it.elapsed() > most);
        if late(self.behind_since, STALL_MAX) || late(self.closing_since, CLOSE_WITHIN) {
            self.alive = false;
        }
    }

    fn send(&mut self, message: Message) {
        let written = self.socket.write(message);
        self.note(written);
    }

    /// Remembers whether the socket took everything.
    fn note(&mut self, outcome: Result<(), Error>) {
        match outcome {
            Ok(()) => self.behind_since = None,
            Err(Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => {
                self.behind_since.get_or_insert_with(Instant::now);
            }
            // A close was said already: the goodbye of the other side is still read.
            Err(Error::ConnectionClosed | Error::Protocol(_)) if self.closing_since.is_some() => {}
            Err(_) => self.alive = false,
        }
    }
}
