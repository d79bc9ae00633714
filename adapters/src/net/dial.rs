//! Makes connections on a thread of its own, so that no seat ever waits for a name or a handshake.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use super::NetError;
use super::tls::Tls;
use super::websocket::{ConnectOptions, Connection};

/// Connections that may wait to be made, and to be taken: those of one venue.
const WAITING_MAX: usize = 256;

/// What became of one attempt.
#[derive(Debug)]
pub struct Dialled {
    /// As given to [`Dialler::dial`].
    pub tag: u64,
    /// The connection, or why there is none.
    pub result: Result<Connection, NetError>,
}

/// A helper thread, `ctl-dial`, that makes one connection after the other. Dropping it lets the
/// thread end after the attempt that it is at; it never keeps the process waiting.
#[derive(Debug)]
pub struct Dialler {
    wanted: SyncSender<(u64, String)>,
    made: Receiver<Dialled>,
}

impl Dialler {
    /// Starts the thread.
    ///
    /// # Panics
    /// If the system has no room for another thread.
    #[must_use]
    pub fn start(options: ConnectOptions, tls: Tls) -> Self {
        let (wanted, waiting) = sync_channel::<(u64, String)>(WAITING_MAX);
        let (done, made) = sync_channel(WAITING_MAX);
        let work = move || {
            while let Ok((tag, url)) = waiting.recv() {
                let result = Connection::connect(&url, options, &tls);
                if done.send(Dialled { tag, result }).is_err() {
                    return;
                }
            }
        };
        thread::Builder::new()
            .name("ctl-dial".to_owned())
            .spawn(work)
            .expect("the system has room for a helper thread");
        Self { wanted, made }
    }

    /// Asks for a connection. `false` where too many are wanted already (or the thread is gone): ask
    /// again later. Never blocks.
    #[must_use]
    pub fn dial(&self, tag: u64, url: String) -> bool {
        self.wanted.try_send((tag, url)).is_ok()
    }

    /// The next attempt that ended, in the order of asking; `None` where none has. Never blocks.
    pub fn poll(&mut self) -> Option<Dialled> {
        self.made.try_recv().ok()
    }
}
