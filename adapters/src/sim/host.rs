//! A gateway on loopback sockets: real connections, real TLS, real time.
//!
//! One thread, `ctl-exchange`, owns the gateway and every open connection; a visitor has a short-lived
//! thread of its own until its handshake is done, so that nobody waits for a slow one. A client that
//! reads too slowly holds everybody up, as nothing is ever dropped; after 5 s it is disconnected.

mod client;
mod door;
pub mod tls;

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime};

use kairos_logic::units::Nanos;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token, Waker};

use self::client::Client;
use self::door::{Verdict, Visit, receive};
use self::tls::{TlsError, TlsFiles};
use super::gateway::{Action, Gateway, GatewayOptions};
use super::venue::Protocol;

const LISTENER: Token = Token(0);
const WAKER: Token = Token(1);
const FIRST_CLIENT: usize = 2;
/// Steps of the market between two looks at the sockets: a snapshot is never later than so many.
const STEPS_PER_TURN: usize = 64;
/// Longest wait for anything.
const IDLE: Duration = Duration::from_millis(250);
/// Visitors whose handshake is going on.
const VISITORS_MAX: usize = 256;

/// What a host serves, and where.
#[derive(Clone, Debug)]
pub struct HostOptions {
    /// What it serves.
    pub gateway: GatewayOptions,
    /// Where it listens: an address of the loopback.
    pub listen: SocketAddr,
    /// Certificates to speak TLS with; plain sockets without.
    pub tls: Option<TlsFiles>,
}

impl HostOptions {
    /// Plain sockets on a free port of 127.0.0.1.
    #[must_use]
    pub fn plain(gateway: GatewayOptions) -> Self {
        Self { gateway, listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), tls: None }
    }
}

/// Why a host does not start.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// It may be reached from elsewhere.
    #[error("{0}: not a loopback address; a simulated exchange listens on 127.0.0.0/8 or ::1")]
    NotLoopback(SocketAddr),
    /// The system has no port or thread to give.
    #[error("{address}: cannot listen: {source}")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// What it says.
        source: io::Error,
    },
    /// Its certificates are no good.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// What a host did in its life.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Steps of the market, whether or not a subscriber wanted them.
    pub steps: u64,
    /// WebSockets that were opened.
    pub connections: u64,
    /// HTTP requests that were answered.
    pub requests: u64,
    /// Pongs that came back.
    pub pongs: u64,
    /// Faults that befell somebody, by kind.
    pub faults: BTreeMap<&'static str, u64>,
}

/// A running host. Dropping it stops it and waits for its thread.
#[derive(Debug)]
pub struct Host {
    protocol: Protocol,
    address: SocketAddr,
    tls: bool,
    stop: Option<Sender<()>>,
    waker: Arc<Waker>,
    thread: Option<JoinHandle<Report>>,
}

impl Host {
    /// Binds the address and starts serving.
    ///
    /// # Errors
    /// [`HostError`] in one line.
    pub fn start(options: HostOptions) -> Result<Self, HostError> {
        let HostOptions { gateway, listen, tls } = options;
        if !listen.ip().is_loopback() {
            return Err(HostError::NotLoopback(listen));
        }
        let configs = tls.as_ref().map(TlsFiles::configs).transpose()?;
        let failed = |source| HostError::Listen { address: listen, source };
        let mut listener = mio::net::TcpListener::bind(listen).map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let poll = Poll::new().map_err(failed)?;
        poll.registry().register(&mut listener, LISTENER, Interest::READABLE).map_err(failed)?;
        let waker = Arc::new(Waker::new(poll.registry(), WAKER).map_err(failed)?);
        let (stop, stopped) = channel();
        let (visits, visited) = channel();
        let protocol = gateway.protocol;
        let mut host = Self {
            protocol,
            address,
            tls: configs.is_some(),
            stop: Some(stop),
            waker: Arc::clone(&waker),
            thread: None,
        };
        let floor = Floor {
            gateway: Gateway::new(gateway, host.ws_url()),
            listener: Some(listener),
            address,
            configs,
            poll,
            waker,
            stopped,
            visits,
            visited,
            visitors: Arc::new(()),
            clients: BTreeMap::new(),
            clock: Clock::start(),
            report: Report::default(),
        };
        let thread = thread::Builder::new()
            .name("ctl-exchange".to_owned())
            .spawn(move || floor.serve())
            .map_err(failed)?;
        host.thread = Some(thread);
        Ok(host)
    }

    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// The address of its WebSocket, without what the venue puts into path and query.
    #[must_use]
    pub fn ws_url(&self) -> String {
        let scheme = if self.tls { "wss" } else { "ws" };
        format!("{scheme}://{}{}", self.address, self.protocol.ws_path())
    }

    /// The base of its REST addresses.
    #[must_use]
    pub fn rest_url(&self) -> String {
        format!("{}://{}", if self.tls { "https" } else { "http" }, self.address)
    }

    /// Stops serving, closes every connection and tells what was done.
    #[must_use]
    pub fn stop(mut self) -> Report {
        self.end()
    }

    fn end(&mut self) -> Report {
        drop(self.stop.take());
        let _ = self.waker.wake(); // it fails only if the thread is gone already
        let thread = self.thread.take();
        thread.and_then(|thread| thread.join().ok()).unwrap_or_default()
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.end();
    }
}

/// The time since the Unix epoch that never steps back.
struct Clock {
    started: Instant,
    epoch: u64,
}

impl Clock {
    fn start() -> Self {
        let wall = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Self { started: Instant::now(), epoch: u64::try_from(wall.as_nanos()).unwrap_or(u64::MAX) }
    }

    fn now(&self) -> Nanos {
        let passed = u64::try_from(self.started.elapsed().as_nanos()).unwrap_or(u64::MAX);
        Nanos(self.epoch.saturating_add(passed))
    }
}

/// Everything that the thread owns.
struct Floor {
    gateway: Gateway,
    /// None while connections are refused.
    listener: Option<mio::net::TcpListener>,
    address: SocketAddr,
    configs: Option<tls::Configs>,
    poll: Poll,
    waker: Arc<Waker>,
    stopped: Receiver<()>,
    visits: Sender<Visit>,
    visited: Receiver<Visit>,
    visitors: Arc<()>,
    clients: BTreeMap<u64, Client>,
    clock: Clock,
    report: Report,
}

impl Floor {
    fn serve(mut self) -> Report {
        let mut events = Events::with_capacity(64);
        while self.stopped.try_recv() == Err(TryRecvError::Empty) {
            let limit = self.next_wait();
            match self.poll.poll(&mut events, Some(limit)) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(_) => break, // nothing can be served without it
            }
            self.tend_listener();
            self.accept();
            self.greet();
            self.read_clients();
            let steps = if self.is_behind() { 0 } else { STEPS_PER_TURN };
            self.gateway.advance(self.clock.now(), steps);
            self.act();
        }
        for client in self.clients.values_mut() {
            client.close(1001, "going away");
        }
        self.report.steps = self.gateway.steps();
        self.report.faults.clone_from(self.gateway.done());
        self.report
    }

    fn is_behind(&self) -> bool {
        self.clients.values().any(Client::is_behind)
    }

    /// How long nothing will happen by itself.
    fn next_wait(&mut self) -> Duration {
        let next = Duration::from_nanos(self.gateway.next_at().since(self.clock.now()));
        if self.is_behind() { next.max(Duration::from_millis(5)) } else { next }.min(IDLE)
    }

    /// Closes the listening socket while connections are refused, and opens it again.
    fn tend_listener(&mut self) {
        let refuses = self.gateway.refuses_until().is_some();
        if refuses {
            self.listener = None;
        } else if self.listener.is_none()
            && let Ok(mut listener) = mio::net::TcpListener::bind(self.address)
        {
            let registry = self.poll.registry();
            let registered = registry.register(&mut listener, LISTENER, Interest::READABLE);
            self.listener = registered.is_ok().then_some(listener);
        }
    }

    /// Lets visitors in, each on a thread of its own.
    fn accept(&mut self) {
        while let Some(Ok((stream, _))) = self.listener.as_ref().map(mio::net::TcpListener::accept)
        {
            let door = self.gateway.knock(self.clock.now());
            if door.refused || Arc::strong_count(&self.visitors) > VISITORS_MAX {
                continue;
            }
            let visit = door::Threshold {
                door,
                config: self.configs.as_ref().map(|it| it.of(door.certificate)),
                visits: self.visits.clone(),
                waker: Arc::clone(&self.waker),
                _present: Arc::clone(&self.visitors),
            };
            // A thread that cannot be had is a visitor that goes away.
            let _ = thread::Builder::new()
                .name("ctl-visitor".to_owned())
                .spawn(move || receive(std::net::TcpStream::from(stream), visit));
        }
    }

    /// Answers what visitors ask.
    fn greet(&mut self) {
        while let Ok(visit) = self.visited.try_recv() {
            match visit {
                Visit::Asked { request, upgrade, verdict } => {
                    let at = self.clock.now();
                    let answer = if upgrade {
                        match self.gateway.admit(at, &request) {
                            Ok(()) => Verdict::Enter,
                            Err(response) => Verdict::Answer(response),
                        }
                    } else {
                        Verdict::Answer(self.gateway.answer(at, &request))
                    };
                    self.report.requests += u64::from(!upgrade);
                    let _ = verdict.send(answer); // it may have gone away
                }
                Visit::Opened { request, socket } => {
                    let id = self.gateway.open(self.clock.now(), &request);
                    let token = Token(FIRST_CLIENT + usize::try_from(id).unwrap_or(0));
                    let client = Client::new(*socket);
                    let interest = Interest::READABLE | Interest::WRITABLE;
                    let registry = self.poll.registry();
                    if registry.register(&mut SourceFd(&client.fd()), token, interest).is_ok() {
                        self.report.connections += 1;
                        self.clients.insert(id, client);
                    } else {
                        self.gateway.closed(id);
                    }
                    self.act();
                }
            }
        }
    }

    fn read_clients(&mut self) {
        let ids: Vec<u64> = self.clients.keys().copied().collect();
        for id in ids {
            let now = self.clock.now();
            if self.gateway.is_silent(now, id) {
                continue;
            }
            let Some(client) = self.clients.get_mut(&id) else {
                continue;
            };
            while let Some(heard) = client.read() {
                match heard {
                    client::Heard::Text(text) => self.gateway.text(now, id, &text),
                    client::Heard::Ping => self.gateway.control(now, id, None),
                    client::Heard::Pong(payload) => {
                        self.report.pongs += 1;
                        self.gateway.control(now, id, Some(&payload));
                    }
                }
            }
            client.flush();
        }
        self.act();
        let gateway = &mut self.gateway;
        self.clients.retain(|&id, client| {
            if !client.is_alive() {
                gateway.closed(id);
            }
            client.is_alive()
        });
    }

    fn act(&mut self) {
        while let Some((id, action)) = self.gateway.act() {
            let Some(client) = self.clients.get_mut(&id) else {
                continue;
            };
            match action {
                Action::Text(text) => client.say(text),
                Action::Ping(payload) => client.ping(payload),
                Action::Close { code, reason } => client.close(code, reason),
                Action::CutIn(text) => client.cut_in(&text),
            }
        }
    }
}
