//! Commits whose answer is lost, at every place where it can be.

use std::io::{Read, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use super::harness::{Place, database, host_of, prefix, servers, until};
use super::journal::Written;
use super::whole::{postgres_holds_all, redis_holds_all};

/// Where a connection is cut.
#[derive(Clone, Copy, Debug)]
enum Cut {
    /// The words have gone to the server, and its answer does not come back.
    Behind(&'static [u8]),
    /// The words do not reach the server.
    Before(&'static [u8]),
    /// So many bytes of what the words begin with reach it.
    Within(&'static [u8], usize),
}

/// Passes bytes on, and cuts one connection where it is told to.
struct Proxy {
    port: u16,
    cut: Arc<Mutex<Option<Cut>>>,
    cuts: Arc<AtomicUsize>,
}

impl Proxy {
    fn new(target: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (cut, cuts) = (Arc::new(Mutex::new(None)), Arc::new(AtomicUsize::new(0)));
        let this = Self { port, cut: Arc::clone(&cut), cuts: Arc::clone(&cuts) };
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let Ok(server) = TcpStream::connect(&target) else { continue };
                let is_deaf = Arc::new(AtomicBool::new(false));
                let (cut, cuts) = (Arc::clone(&cut), Arc::clone(&cuts));
                let (from, to) = (server.try_clone().unwrap(), client.try_clone().unwrap());
                let deaf = Arc::clone(&is_deaf);
                thread::spawn(move || {
                    pass(from, to, &mut |bytes| {
                        if deaf.load(Ordering::SeqCst) {
                            Pass::Drop
                        } else {
                            Pass::All(bytes.len())
                        }
                    });
                });
                thread::spawn(move || {
                    pass(client, server, &mut |bytes| {
                        let mut cut = cut.lock().unwrap();
                        let Some(wanted) = *cut else { return Pass::All(bytes.len()) };
                        let (Cut::Behind(words) | Cut::Before(words) | Cut::Within(words, _)) =
                            wanted;
                        let at = bytes.windows(words.len()).position(|it| it == words);
                        let Some(at) = at else { return Pass::All(bytes.len()) };
                        *cut = None;
                        cuts.fetch_add(1, Ordering::SeqCst);
                        match wanted {
                            Cut::Behind(_) => {
                                is_deaf.store(true, Ordering::SeqCst);
                                Pass::Last(bytes.len())
                            }
                            Cut::Before(_) => Pass::Last(at),
                            Cut::Within(_, count) => Pass::Last((at + count).min(bytes.len())),
                        }
                    });
                });
            }
        });
        this
    }

    fn of(url: &str) -> (Self, String) {
        let host = host_of(url);
        let proxy = Self::new(host.clone());
        let through = url.replace(&host, &format!("127.0.0.1:{}", proxy.port));
        (proxy, through)
    }

    /// Cuts the next time, and waits until it has.
    fn cut(&self, at: Cut, work: &mut dyn FnMut()) {
        let before = self.cuts.load(Ordering::SeqCst);
        *self.cut.lock().unwrap() = Some(at);
        work();
        until(&format!("{at:?}"), || self.cuts.load(Ordering::SeqCst) > before);
    }
}

enum Pass {
    All(usize),
    /// So many bytes, and then both sides are closed; the server after it has had time to do as told.
    Last(usize),
    Drop,
}

fn pass(mut from: TcpStream, mut to: TcpStream, decide: &mut dyn FnMut(&[u8]) -> Pass) {
    let mut buffer = [0_u8; 65_536];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        match decide(&buffer[..count]) {
            Pass::All(count) => {
                if to.write_all(&buffer[..count]).is_err() {
                    break;
                }
            }
            Pass::Last(count) => {
                let _sent = to.write_all(&buffer[..count]);
                let _ended = to.shutdown(Shutdown::Write);
                let _closed = from.shutdown(Shutdown::Both);
                return;
            }
            Pass::Drop => {}
        }
    }
    let _ = from.shutdown(Shutdown::Both);
    let _ = to.shutdown(Shutdown::Both);
}

fn small(place: &mut Place) {
    place.more[0] = "batch_rows = 400\ncatchup_rows = 400\nbatch_ms = 3".into();
}

/// The answer to COMMIT lost, COMMIT itself lost, the stream of rows cut at its first byte and in its middle.
#[test]
fn a_commit_in_doubt_is_asked_for() {
    let Some(pg) = &servers().postgres else { return };
    let (proxy, through) = Proxy::of(&database(pg));
    let mut place = Place { postgres: Some(through), ..Place::new() };
    small(&mut place);
    let mut journal = Written::begin(&place.journal(), 1);
    journal.some(200);
    journal.flush();
    let drain = place.start();
    let seq = || place.status("postgres").map_or(0, |it| it.seq);
    until("it works", || seq() > 0);
    let cuts = [
        Cut::Behind(b"COMMIT"),
        Cut::Before(b"COMMIT"),
        Cut::Within(b"PGCOPY\n", 1),
        Cut::Within(b"PGCOPY\n", 700),
        Cut::Before(b"PGCOPY\n"),
        Cut::Behind(b"COMMIT"),
    ];
    for at in cuts.into_iter().cycle().take(12) {
        proxy.cut(at, &mut || {
            journal.some(900);
            journal.flush();
        });
    }
    let last = journal.last();
    until("all is there", || seq() >= last);
    journal.end();
    assert_eq!(drain.stop(), 0, "{}", place.log());
    postgres_holds_all(&place);
    let errors = place.status("postgres").unwrap().errors;
    assert!(errors.get("in_doubt").is_some_and(|count| *count >= 2), "{errors:?}");
}

/// The same of EXEC; and what subscribers were told once they are not told again.
#[test]
fn an_exec_in_doubt_is_asked_for_and_nothing_is_told_twice() {
    let Some(server) = &servers().redis else { return };
    let (proxy, through) = Proxy::of(server);
    let prefix = prefix();
    let mut place = Place { redis: Some((through, prefix.clone())), ..Place::new() };
    small(&mut place);
    let mut listener = super::harness::open_redis(server);
    let mut listener = listener.as_pubsub();
    listener.subscribe(format!("{prefix}order_updates")).unwrap();
    listener.set_read_timeout(Some(std::time::Duration::from_secs(30))).unwrap();
    let mut journal = Written::begin(&place.journal(), 1);
    let drain = place.start();
    let seq = || place.status("redis").map_or(0, |it| it.seq);
    let cuts = [
        Cut::Behind(b"$4\r\nEXEC"),
        Cut::Before(b"$4\r\nEXEC"),
        Cut::Before(b"$5\r\nMULTI"),
        Cut::Behind(b"$5\r\nWATCH"),
    ];
    for at in cuts.into_iter().cycle().take(12) {
        proxy.cut(at, &mut || journal.some(900));
    }
    let last = journal.last();
    until("all is there", || seq() >= last);
    journal.end();
    assert_eq!(drain.stop(), 0, "{}", place.log());
    redis_holds_all(&place);
    let told = std::iter::from_fn(|| {
        listener.set_read_timeout(Some(std::time::Duration::from_millis(200))).unwrap();
        let payload: String = listener.get_message().ok()?.get_payload().unwrap();
        let json: serde_json::Value = serde_json::from_str(&payload).unwrap();
        json["seq"].as_u64()
    });
    let told: Vec<u64> = told.collect();
    assert!(told.len() > 100, "{} notices", told.len());
    assert!(told.windows(2).all(|pair| pair[0] < pair[1]), "one came twice or late");
}
