//! A visitor until its handshake is done: TLS, the head of its request, the answer.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::thread;
use std::time::Duration;

use mio::Waker;
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use tungstenite::WebSocket;
use tungstenite::protocol::WebSocketConfig;

use crate::sim::faults::Door;
use crate::sim::venue::{Request, Response};

/// A visitor must say what it wants, and take its answer, within this time.
const HEAD_LIMIT: Duration = Duration::from_secs(5);
/// Longest request head in bytes: 1 024 stream names.
const HEAD_MAX: usize = 64 << 10;
/// What may wait for a client that does not read.
const BACKLOG_MAX: usize = 256 << 20;

/// What a visitor wants of the host.
pub(super) enum Visit {
    /// An answer.
    Asked { request: Request, upgrade: bool, verdict: Sender<Verdict> },
    /// Nothing more: it is a client now.
    Opened { request: Request, socket: Box<WebSocket<Wire>> },
}

/// What a visitor gets.
pub(super) enum Verdict {
    /// Its WebSocket.
    Enter,
    /// An answer, and the end.
    Answer(Response),
}

/// What a visitor's thread has with it.
pub(super) struct Threshold {
    pub door: Door,
    pub config: Option<Arc<ServerConfig>>,
    pub visits: Sender<Visit>,
    pub waker: Arc<Waker>,
    /// Counts the visitors.
    pub _present: Arc<()>,
}

/// A connection, plain or not.
enum Pipe {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ServerConnection, TcpStream>>),
}

/// A connection whose first bytes were read already.
pub(super) struct Wire {
    head: io::Cursor<Vec<u8>>,
    pipe: Pipe,
}

impl Wire {
    pub(super) fn tcp(&self) -> &TcpStream {
        match &self.pipe {
            Pipe::Plain(stream) => stream,
            Pipe::Tls(stream) => stream.get_ref(),
        }
    }
}

impl Read for Wire {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.head.read(buffer)? {
            0 => match &mut self.pipe {
                Pipe::Plain(stream) => stream.read(buffer),
                Pipe::Tls(stream) => stream.read(buffer),
            },
            some => Ok(some),
        }
    }
}

impl Write for Wire {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.pipe {
            Pipe::Plain(stream) => stream.write(bytes),
            Pipe::Tls(stream) => stream.write(bytes),
        }
    }
    fn flush(&mut self) -> io::Result<()> {
        match &mut self.pipe {
            Pipe::Plain(stream) => stream.flush(),
            Pipe::Tls(stream) => stream.flush(),
        }
    }
}

/// Sees one visitor through. What goes wrong is its own loss.
pub(super) fn receive(stream: TcpStream, threshold: Threshold) {
    let _ = visit(stream, &threshold);
}

fn visit(stream: TcpStream, threshold: &Threshold) -> io::Result<()> {
    thread::sleep(Duration::from_nanos(threshold.door.slow_ns));
    stream.set_nonblocking(false)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(HEAD_LIMIT))?;
    stream.set_write_timeout(Some(HEAD_LIMIT))?;
    let pipe = match &threshold.config {
        Some(config) => {
            let tls = ServerConnection::new(Arc::clone(config)).map_err(io::Error::other)?;
            Pipe::Tls(Box::new(StreamOwned::new(tls, stream)))
        }
        None => Pipe::Plain(stream),
    };
    let mut wire = Wire { head: io::Cursor::default(), pipe };
    let head = read_head(&mut wire)?;
    let (request, upgrade) = take_apart(&head)?;
    wire.head = io::Cursor::new(head);
    let (verdict, answer) = channel();
    let gone = |_| io::Error::from(io::ErrorKind::BrokenPipe);
    let asked = Visit::Asked { request: request.clone(), upgrade, verdict };
    threshold.visits.send(asked).map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))?;
    threshold.waker.wake()?;
    match answer.recv().map_err(gone)? {
        Verdict::Answer(response) => reply(&mut wire, &response),
        Verdict::Enter => {
            let config = WebSocketConfig::default()
                .read_buffer_size(4_096)
                .write_buffer_size(0)
                .max_write_buffer_size(BACKLOG_MAX);
            let socket = tungstenite::accept_with_config(wire, Some(config))
                .map_err(|error| io::Error::other(error.to_string()))?;
            socket.get_ref().tcp().set_nonblocking(true)?;
            let opened = Visit::Opened { request, socket: Box::new(socket) };
            threshold.visits.send(opened).map_err(|_| io::ErrorKind::BrokenPipe)?;
            threshold.waker.wake()
        }
    }
}

/// Reads until the empty line that ends the head, and no body.
fn read_head(wire: &mut Wire) -> io::Result<Vec<u8>> {
    let mut head = Vec::new();
    let mut buffer = [0; 4_096];
    while !head.windows(4).any(|it| it == b"\r\n\r\n") {
        let read = wire.read(&mut buffer)?;
        if read == 0 || head.len() > HEAD_MAX {
            return Err(io::ErrorKind::InvalidData.into());
        }
        head.extend_from_slice(buffer.get(..read).unwrap_or(&[]));
    }
    Ok(head)
}

/// The request, and whether it wants a WebSocket.
fn take_apart(head: &[u8]) -> io::Result<(Request, bool)> {
    let text = String::from_utf8_lossy(head);
    let mut lines = text.split("\r\n");
    let mut words = lines.next().unwrap_or("").split(' ');
    let (Some(method), Some(target)) = (words.next(), words.next()) else {
        return Err(io::ErrorKind::InvalidData.into());
    };
    let upgrade = lines.filter_map(|it| it.split_once(':')).any(|(name, value)| {
        name.eq_ignore_ascii_case("upgrade") && value.trim().eq_ignore_ascii_case("websocket")
    });
    Ok((Request::new(method, target), upgrade && method == "GET"))
}

fn reply(wire: &mut Wire, response: &Response) -> io::Result<()> {
    let Response { status, retry_after, body } = response;
    let reason = match status {
        200 => "OK",
        400 => "Bad Request",
        404 => "Not Found",
        405 => "Method Not Allowed",
        418 => "I'm a teapot",
        429 => "Too Many Requests",
        503 => "Service Unavailable",
        _ => "Status",
    };
    let retry = retry_after.map_or_else(String::new, |it| format!("Retry-After: {it}\r\n"));
    let head = format!(
        "HTTP/1.1 {status} {reason}\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n{retry}Connection: close\r\n\r\n",
        body.len()
    );
    wire.write_all(head.as_bytes())?;
    wire.write_all(body.as_bytes())?;
    wire.flush()?;
    if let Pipe::Tls(stream) = &mut wire.pipe {
        stream.conn.send_close_notify();
        stream.flush()?;
    }
    // The other side reads to the end before the socket goes: what it has sent besides must not
    // turn the end into a reset.
    wire.tcp().shutdown(std::net::Shutdown::Write)?;
    let mut rest = [0; 4_096];
    while matches!(wire.read(&mut rest), Ok(1..)) {}
    Ok(())
}
