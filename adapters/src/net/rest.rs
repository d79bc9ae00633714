//! Blocking HTTP on a thread of its own, so that no seat ever waits for an answer.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, TrySendError, sync_channel};
use std::thread;
use std::time::Duration;

use super::NetError;
use super::address::{Address, Purpose};
use super::error::words;
use super::tls::Tls;

/// Requests that may wait: one per instrument of a large connection.
const REQUESTS_MAX: usize = 1_024;
/// Replies that may wait. The thread fetches no further until a seat has taken them: a snapshot has
/// up to several megabytes.
const REPLIES_MAX: usize = 8;

/// How requests are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RestOptions {
    /// Most time for one request, from connecting to the last byte.
    pub timeout: Duration,
    /// Longest body in bytes.
    pub body_max: u64,
}

impl Default for RestOptions {
    fn default() -> Self {
        Self { timeout: Duration::from_secs(10), body_max: 64 << 20 }
    }
}

/// How something is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// GET.
    Get,
    /// POST, without a body.
    Post,
}

/// What became of one request.
#[derive(Debug)]
pub struct Reply {
    /// As given to [`Rest::request`].
    pub tag: u64,
    /// As given to [`Rest::request`].
    pub path: Arc<str>,
    /// The body of a reply with status 200, or why there is none.
    pub body: Result<Vec<u8>, NetError>,
}

/// A helper thread, `ctl-rest`, that does one request after the other. Dropping it lets the thread end
/// after the request that it is at; it never keeps the process waiting.
#[derive(Debug)]
pub struct Rest {
    requests: SyncSender<(u64, Method, Arc<str>)>,
    replies: Receiver<Reply>,
    in_flight: usize,
}

impl Rest {
    /// Starts the thread for one server, given as `https://host[:port]`, or `http://` on this host.
    ///
    /// # Errors
    /// [`NetError`]: a bad address, another scheme, plain text to another host.
    ///
    /// # Panics
    /// If the system has no room for another thread.
    pub fn start(base: &str, options: RestOptions, tls: &Tls) -> Result<Self, NetError> {
        let address = Address::parse(base, Purpose::Requests)?;
        let tls = tls.requests();
        let (requests, waiting) = sync_channel::<(u64, Method, Arc<str>)>(REQUESTS_MAX);
        let (done, replies) = sync_channel(REPLIES_MAX);
        let fetch = move || {
            let agent: ureq::Agent = ureq::Agent::config_builder()
                .timeout_global(Some(options.timeout))
                .http_status_as_error(false)
                .max_redirects(0)
                .tls_config(tls)
                .proxy(None) // an environment variable decides nothing here
                .build()
                .into();
            while let Ok((tag, method, path)) = waiting.recv() {
                let body = ask(&agent, &address, method, &path, options);
                if done.send(Reply { tag, path, body }).is_err() {
                    return;
                }
            }
        };
        thread::Builder::new()
            .name("ctl-rest".to_owned())
            .spawn(fetch)
            .expect("the system has room for a helper thread");
        Ok(Self { requests, replies, in_flight: 0 })
    }

    /// Asks for a path with its query, behind the server's address without its path. Returns `false` where too many requests wait already (or the
    /// thread is gone): ask again later. Never blocks.
    #[must_use]
    pub fn request(&mut self, tag: u64, method: Method, path: Arc<str>) -> bool {
        match self.requests.try_send((tag, method, path)) {
            Ok(()) => {
                self.in_flight += 1;
                true
            }
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => false,
        }
    }

    /// The next answer, in the order of the requests; `None` where none has come. Never blocks.
    pub fn poll(&mut self) -> Option<Reply> {
        match self.replies.try_recv() {
            Ok(reply) => {
                self.in_flight -= 1;
                Some(reply)
            }
            Err(TryRecvError::Empty | TryRecvError::Disconnected) => None,
        }
    }

    /// The next answer, waiting for it up to `limit`. For the cold path.
    pub fn wait(&mut self, limit: Duration) -> Option<Reply> {
        let reply = self.replies.recv_timeout(limit).ok()?;
        self.in_flight -= 1;
        Some(reply)
    }

    /// Requests whose answer has not been taken.
    #[must_use]
    pub const fn in_flight(&self) -> usize {
        self.in_flight
    }
}

fn ask(
    agent: &ureq::Agent,
    address: &Address,
    method: Method,
    path: &str,
    options: RestOptions,
) -> Result<Vec<u8>, NetError> {
    let host = || address.authority.clone();
    let failed = |error: ureq::Error| NetError::Request {
        host: host(),
        path: path.to_owned(),
        found: error.to_string(),
        limit_ms: options.timeout.as_millis(),
    };
    if !address.encrypted {
        address.resolve(options.timeout)?; // plain text never leaves this host
    }
    let url = format!("{}{path}", address.base);
    let mut response = match method {
        Method::Get => agent.get(url).call(),
        Method::Post => agent.post(url).send_empty(),
    }
    .map_err(failed)?;
    let status = response.status().as_u16();
    let header = response.headers().get("retry-after");
    let seconds = header.and_then(|value| value.to_str().ok()?.parse().ok());
    let body = response.body_mut().with_config().limit(options.body_max).read_to_vec();
    if status == 200 {
        return body.map_err(failed);
    }
    Err(NetError::Status {
        host: host(),
        path: path.to_owned(),
        status,
        retry_after_s: seconds.unwrap_or(0),
        words: words(&body.unwrap_or_default()),
    })
}
