//! One visitor of the loopback exchange: a WebSocket that stays, or a request that is answered.

use std::io::{self, Read, Write};
use std::time::{Duration, Instant};

use mio::{Registry, Token};
use serde::Deserialize;
use tungstenite::protocol::WebSocketConfig;
use tungstenite::{Error, Message, Utf8Bytes, WebSocket};

use crate::net::socket::Socket;
use crate::sim::exchange::{Exchange, Frame};

/// A visitor must say what it wants within this time; everybody waits for it meanwhile.
const HEAD_LIMIT: Duration = Duration::from_secs(1);
/// Longest request head in bytes: 1 024 stream names.
const HEAD_MAX: usize = 64 << 10;
/// Levels of a snapshot whose request does not say, and most that it may say.
const LEVELS_DEFAULT: usize = 100;
const LEVELS_MAX: usize = 5_000;

/// What became of a visitor.
pub(super) enum Welcome {
    /// It opened a WebSocket.
    Stays(Box<Client>),
    /// It made a request, has its answer and is gone.
    Answered,
}

/// A subscriber.
pub(super) struct Client {
    socket: WebSocket<Wire>,
    streams: Vec<String>,
    /// Whether frames are wrapped with the name of their stream.
    combined: bool,
    alive: bool,
    /// Since when it has not taken what waits for it.
    behind_since: Option<Instant>,
    pinged_at: Instant,
}

/// What a client may ask for on its WebSocket.
#[derive(Deserialize)]
struct Wish {
    method: String,
    #[serde(default)]
    params: Vec<String>,
    id: serde_json::Value,
}

/// A socket whose first bytes were read already.
pub(super) struct Wire {
    head: io::Cursor<Vec<u8>>,
    socket: Socket,
}

impl Read for Wire {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.head.read(buffer)? {
            0 => self.socket.read(buffer),
            some => Ok(some),
        }
    }
}

impl Write for Wire {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.socket.write(bytes)
    }
    fn flush(&mut self) -> io::Result<()> {
        self.socket.flush()
    }
}

/// Reads what a visitor wants, and answers it or makes it a client.
pub(super) fn welcome(
    stream: mio::net::TcpStream,
    registry: &Registry,
    token: Token,
    exchange: &Exchange,
) -> io::Result<Welcome> {
    let mut stream = std::net::TcpStream::from(stream);
    stream.set_nonblocking(false)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(HEAD_LIMIT))?;
    stream.set_write_timeout(Some(HEAD_LIMIT))?;
    let head = read_head(&mut stream)?;
    let text = String::from_utf8_lossy(&head).into_owned();
    let target = text.split(' ').nth(1).unwrap_or("").to_owned();
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    let get = text.starts_with("GET ");
    if get && (path == "/stream" || path == "/ws" || path.starts_with("/ws/")) {
        let wire = Wire { head: io::Cursor::new(head), socket: Socket::Making(stream) };
        return open(wire, registry, token, path, query);
    }
    let (status, body) =
        if get { answer(path, query, exchange) } else { ("405 Method Not Allowed", String::new()) };
    write!(
        stream,
        "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n{body}",
        body.len()
    )?;
    stream.flush()?;
    Ok(Welcome::Answered)
}

fn read_head(stream: &mut std::net::TcpStream) -> io::Result<Vec<u8>> {
    let mut head = Vec::new();
    let mut buffer = [0; 4_096];
    while !head.ends_with(b"\r\n\r\n") {
        let read = stream.read(&mut buffer)?;
        if read == 0 || head.len() > HEAD_MAX {
            return Err(io::ErrorKind::InvalidData.into());
        }
        head.extend_from_slice(buffer.get(..read).unwrap_or(&[]));
    }
    Ok(head)
}

/// The two REST calls.
fn answer(path: &str, query: &str, exchange: &Exchange) -> (&'static str, String) {
    let value = |key: &str| {
        let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
        pairs.find(|it| it.0 == key).map(|it| it.1)
    };
    match path {
        "/api/v3/exchangeInfo" => ("200 OK", exchange.exchange_info()),
        "/api/v3/depth" => {
            let limit = value("limit").map_or(Ok(LEVELS_DEFAULT), str::parse::<usize>);
            let Ok(limit) = limit else {
                let error = r#"{"code":-1100,"msg":"Illegal characters in parameter 'limit'."}"#;
                return ("400 Bad Request", error.to_owned());
            };
            let symbol = value("symbol").unwrap_or("");
            exchange.snapshot(symbol, limit.min(LEVELS_MAX)).map_or_else(
                || {
                    let error = r#"{"code":-1121,"msg":"Invalid symbol."}"#;
                    ("400 Bad Request", error.to_owned())
                },
                |body| ("200 OK", body),
            )
        }
        _ => ("404 Not Found", String::new()),
    }
}

fn open(
    wire: Wire,
    registry: &Registry,
    token: Token,
    path: &str,
    query: &str,
) -> io::Result<Welcome> {
    let config = WebSocketConfig::default().read_buffer_size(4_096).write_buffer_size(0);
    let mut socket = tungstenite::accept_with_config(wire, Some(config))
        .map_err(|error| io::Error::other(error.to_string()))?;
    socket.get_mut().socket.settle(registry, token)?;
    let names = match path.strip_prefix("/ws/") {
        Some(names) => names,
        None => query.strip_prefix("streams=").unwrap_or(""),
    };
    let streams = names.split('/').filter(|name| !name.is_empty());
    Ok(Welcome::Stays(Box::new(Client {
        socket,
        streams: streams.map(str::to_owned).collect(),
        combined: path == "/stream",
        alive: true,
        behind_since: None,
        pinged_at: Instant::now(),
    })))
}

impl Client {
    pub(super) const fn is_alive(&self) -> bool {
        self.alive
    }

    pub(super) const fn is_subscribed(&self) -> bool {
        !self.streams.is_empty()
    }

    /// Whether bytes wait that it has not taken.
    pub(super) const fn is_behind(&self) -> bool {
        self.behind_since.is_some()
    }

    /// Sends a frame if the client has its stream.
    pub(super) fn offer(&mut self, frame: &Frame) {
        if self.streams.iter().any(|name| name == frame.stream) {
            let text = if self.combined { frame.text.as_str() } else { frame.payload() };
            self.send(Message::text(text));
        }
    }

    /// Reads what came, sends what waits, and pings when it is time. Returns how many pongs came.
    pub(super) fn turn(&mut self, ping_every: Duration, stall_max: Duration) -> u64 {
        let mut pongs = 0;
        if self.pinged_at.elapsed() >= ping_every {
            self.pinged_at = Instant::now();
            self.send(Message::Ping(Vec::new().into()));
        }
        while self.alive {
            match self.socket.read() {
                Ok(Message::Text(text)) => self.obey(&text),
                Ok(Message::Pong(_)) => pongs += 1,
                Ok(Message::Binary(_) | Message::Ping(_) | Message::Frame(_)) => {}
                Ok(Message::Close(_)) => {} // the answer is queued; the next read tells the end
                Err(Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(_) => self.alive = false,
            }
        }
        let sent = self.socket.flush();
        self.note(sent);
        if self.behind_since.is_some_and(|since| since.elapsed() > stall_max) {
            self.alive = false;
        }
        pongs
    }

    pub(super) fn close(&mut self) {
        let _ = self.socket.close(None); // it ends either way
    }

    fn obey(&mut self, text: &Utf8Bytes) {
        let Ok(wish) = serde_json::from_str::<Wish>(text) else {
            let error = r#"{"error":{"code":3,"msg":"Invalid JSON"}}"#;
            return self.send(Message::text(error));
        };
        match wish.method.as_str() {
            "SUBSCRIBE" => {
                for name in wish.params {
                    if !self.streams.contains(&name) {
                        self.streams.push(name);
                    }
                }
            }
            "UNSUBSCRIBE" => self.streams.retain(|name| !wish.params.contains(name)),
            _ => {
                let error = r#"{"error":{"code":2,"msg":"Invalid request: unknown method"}}"#;
                return self.send(Message::text(error));
            }
        }
        self.send(Message::text(format!(r#"{{"result":null,"id":{}}}"#, wish.id)));
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
            Err(_) => self.alive = false,
        }
    }
}
