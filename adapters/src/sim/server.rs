//! The seeded exchange on a loopback port: Binance's combined stream and the two REST calls that
//! belong to it, so that a demo goes through real sockets and the real wire protocol.
//!
//! One thread, `ctl-exchange`, on the cold path. It listens on 127.0.0.1 only. The exchange stands
//! still while nobody is subscribed; the first subscriber sees it from its first frame. A client that
//! reads too slowly holds everybody up, as nothing is ever dropped; after 5 s it is disconnected.

mod client;

use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use mio::{Events, Interest, Poll, Token, Waker};

use self::client::{Client, Welcome, welcome};
use super::exchange::{Exchange, ExchangeOptions, Frame};

const LISTENER: Token = Token(0);
const WAKER: Token = Token(1);
const FIRST_CLIENT: usize = 2;
/// Frames between two looks at the sockets: a snapshot is never later than so many of them.
const FRAMES_PER_TURN: usize = 64;
/// A client that takes nothing for so long is disconnected.
const STALL_MAX: Duration = Duration::from_secs(5);

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
pub struct Server {
    address: SocketAddr,
    stop: Option<Sender<()>>,
    waker: Waker,
    thread: Option<JoinHandle<Served>>,
}

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
        let any_port = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let mut listener = mio::net::TcpListener::bind(any_port)?;
        let address = listener.local_addr()?;
        let poll = Poll::new()?;
        poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
        let waker = Waker::new(poll.registry(), WAKER)?;
        let (stop, stopped) = channel();
        let floor = Floor {
            listener,
            poll,
            stopped,
            exchange: Exchange::new(options.exchange),
            held: None,
            clients: Vec::new(),
            next_token: FIRST_CLIENT,
            anchor: None,
            served: Served::default(),
            options,
        };
        let thread =
            thread::Builder::new().name("ctl-exchange".to_owned()).spawn(move || floor.serve())?;
        Ok(Self { address, stop: Some(stop), waker, thread: Some(thread) })
    }

    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// The address of a WebSocket that serves `streams`, such as `["btcusdt@trade"]`.
    #[must_use]
    pub fn stream_url(&self, streams: &[&str]) -> String {
        format!("ws://{}/stream?streams={}", self.address, streams.join("/"))
    }

    /// The base of the REST addresses.
    #[must_use]
    pub fn rest_url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Stops serving, closes every connection and tells what was done.
    #[must_use]
    pub fn stop(mut self) -> Served {
        self.end()
    }

    fn end(&mut self) -> Served {
        drop(self.stop.take());
        let _ = self.waker.wake(); // it fails only if the thread is gone already
        let thread = self.thread.take();
        thread.and_then(|thread| thread.join().ok()).unwrap_or_default()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.end();
    }
}

/// When the exchange was at which of its frames: what the pace counts from.
#[derive(Clone, Copy)]
struct Anchor {
    at: Instant,
    due_ns: u64,
    frames: u64,
}

/// Everything that the thread owns.
struct Floor {
    listener: mio::net::TcpListener,
    poll: Poll,
    stopped: Receiver<()>,
    exchange: Exchange,
    /// The next frame, whose time has not come.
    held: Option<Frame>,
    clients: Vec<Client>,
    next_token: usize,
    anchor: Option<Anchor>,
    served: Served,
    options: ServerOptions,
}

impl Floor {
    fn serve(mut self) -> Served {
        let mut events = Events::with_capacity(64);
        while self.stopped.try_recv() == Err(TryRecvError::Empty) {
            let limit = self.next_wait();
            match self.poll.poll(&mut events, Some(limit)) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(_) => break, // nothing can be served without it
            }
            if events.iter().any(|event| event.token() == LISTENER) {
                self.accept();
            }
            self.read_clients();
            self.play();
        }
        for client in &mut self.clients {
            client.close();
        }
        self.served
    }

    fn is_over(&self) -> bool {
        let told = self.served.frames;
        self.options.frames_max.is_some_and(|most| told >= most)
    }

    fn is_playing(&self) -> bool {
        !self.is_over() && self.clients.iter().any(Client::is_subscribed)
    }

    /// How long nothing will happen by itself.
    fn next_wait(&mut self) -> Duration {
        let idle = self.options.ping_every.min(Duration::from_secs(1));
        if self.clients.iter().any(Client::is_behind) {
            return idle.min(STALL_MAX / 10);
        }
        if !self.is_playing() {
            return idle;
        }
        self.due_at()
            .map_or(Duration::ZERO, |due| due.saturating_duration_since(Instant::now()))
            .min(idle)
    }

    /// When the next frame is to leave; `None` is at once.
    fn due_at(&mut self) -> Option<Instant> {
        let due_ns = match &self.held {
            Some(frame) => frame.due_ns,
            None => self.held.insert(self.exchange.next()?).due_ns,
        };
        let anchor = *self.anchor.get_or_insert_with(|| Anchor {
            at: Instant::now(),
            due_ns,
            frames: self.served.frames,
        });
        let frames = self.served.frames - anchor.frames;
        let wait = self.options.pace.wait(due_ns - anchor.due_ns, frames)?;
        Some(anchor.at + wait)
    }

    /// Sends what is due, until somebody falls behind.
    fn play(&mut self) {
        let now = Instant::now();
        for _ in 0..FRAMES_PER_TURN {
            if !self.is_playing() {
                self.anchor = None; // it stands still, and goes on from here later
                return;
            }
            if self.clients.iter().any(Client::is_behind) {
                return;
            }
            if self.due_at().is_some_and(|due| due > now) {
                return;
            }
            let Some(frame) = self.held.take() else {
                return;
            };
            self.served.frames += 1;
            for client in &mut self.clients {
                client.offer(&frame);
            }
            self.clients.retain(Client::is_alive);
        }
    }

    fn read_clients(&mut self) {
        let every = self.options.ping_every;
        for client in &mut self.clients {
            self.served.pongs += client.turn(every, STALL_MAX);
        }
        self.clients.retain(Client::is_alive);
    }

    fn accept(&mut self) {
        while let Ok((stream, _)) = self.listener.accept() {
            let token = Token(self.next_token);
            self.next_token += 1;
            match welcome(stream, self.poll.registry(), token, &self.exchange) {
                Ok(Welcome::Stays(client)) => {
                    self.served.connections += 1;
                    self.clients.push(*client);
                }
                Ok(Welcome::Answered) => self.served.requests += 1,
                Err(_) => {} // it went away or spoke nonsense: its own loss
            }
        }
    }
}

#[cfg(test)]
mod tests;
