//! Server and client over real sockets. Nothing here depends on how fast they are: each wait ends
//! with what it waits for, or fails after a minute.

use std::sync::Arc;
use std::time::Instant;

use super::*;
use crate::net::NetError;
use crate::net::rest::{Method, Rest, RestOptions};
use crate::net::tls::Tls;
use crate::net::websocket::{ConnectOptions, Connection, Heard, Polled};
use crate::sim::exchange::{Exchange, Frame};

const PATIENCE: Duration = Duration::from_secs(60);

fn server(frames_max: u64) -> Server {
    Server::start(ServerOptions {
        pace: Pace::Max,
        frames_max: Some(frames_max),
        ..ServerOptions::default()
    })
    .unwrap()
}

fn all_streams() -> Vec<String> {
    let kinds = ["trade", "bookTicker", "depth@100ms"];
    let streams = |symbol: &&str| {
        let symbol = symbol.to_lowercase();
        kinds.map(|kind| format!("{symbol}@{kind}"))
    };
    Exchange::SYMBOLS.iter().flat_map(streams).collect()
}

fn tls() -> Tls {
    Tls::new(None).unwrap()
}

fn start_rest(base: &str) -> Result<Rest, NetError> {
    Rest::start(base, RestOptions::default(), &tls())
}

fn connect(url: &str) -> Connection {
    Connection::connect(url, ConnectOptions::default(), &tls()).unwrap()
}

fn connect_to_all(server: &Server) -> Connection {
    let streams = all_streams();
    let streams: Vec<&str> = streams.iter().map(String::as_str).collect();
    connect(&server.stream_url(&streams))
}

/// Polls until `count` more texts have come.
fn texts(connection: &mut Connection, count: usize) -> Vec<String> {
    let (mut texts, start) = (Vec::new(), Instant::now());
    while texts.len() < count {
        assert!(start.elapsed() < PATIENCE, "{} of {count}", texts.len());
        let mut keep = |heard: Heard<'_>| {
            if let Heard::Text(text) = heard {
                texts.push(String::from_utf8(text.to_vec()).unwrap());
            }
        };
        if connection.poll(&mut keep).unwrap() == Polled::Idle {
            connection.wait(Duration::from_millis(100)).unwrap();
        }
    }
    assert_eq!(texts.len(), count);
    texts
}

/// Polls until the connection is over.
fn end(connection: &mut Connection) -> NetError {
    let start = Instant::now();
    loop {
        assert!(start.elapsed() < PATIENCE, "still open");
        if let Err(error) = connection.poll(&mut |_| {}) {
            return error;
        }
        connection.wait(Duration::from_millis(100)).unwrap();
    }
}

fn generated(count: usize) -> Vec<Frame> {
    Exchange::new(ExchangeOptions::default()).take(count).collect()
}

fn get(server: &Server, path: &str) -> Result<Vec<u8>, NetError> {
    let mut rest = start_rest(&server.rest_url()).unwrap();
    assert!(rest.request(7, Method::Get, Arc::from(path)));
    let reply = rest.wait(PATIENCE).unwrap();
    assert_eq!((reply.tag, &*reply.path, rest.in_flight()), (7, path, 0));
    reply.body
}

#[test]
fn what_arrives_is_what_the_generator_makes() {
    let server = server(4_000);
    let mut connection = connect_to_all(&server);
    let found = texts(&mut connection, 4_000);
    let want: Vec<String> = generated(4_000).into_iter().map(|it| it.text).collect();
    assert!(found == want, "frames differ");
    assert_eq!(connection.traffic().texts, 4_000);
    let served = server.stop();
    assert_eq!((served.frames, served.connections), (4_000, 1));
    let error = end(&mut connection);
    assert!(matches!(error, NetError::Closed { .. }), "{error}");
}

#[test]
fn a_reader_that_pauses_loses_nothing() {
    let server = server(40_000);
    let mut connection = connect_to_all(&server);
    // Nobody reads until the exchange stands still: all buffers on the way are full.
    let mut last = Vec::new();
    loop {
        let book = get(&server, "/api/v3/depth?symbol=BTCUSDT&limit=5").unwrap();
        if book == last {
            break;
        }
        last = book;
    }
    let found = texts(&mut connection, 40_000);
    let want: Vec<String> = generated(40_000).into_iter().map(|it| it.text).collect();
    assert!(found == want, "frames differ");
}

#[test]
fn streams_can_be_asked_for_by_message_and_bare() {
    let trades = |frame: &Frame| frame.stream == "btcusdt@trade";
    let frames: Vec<Frame> = generated(3_000).into_iter().filter(trades).collect();

    let first = server(3_000);
    let mut connection = connect(&format!("ws://{}/stream", first.address()));
    let ask = r#"{"method":"SUBSCRIBE","params":["btcusdt@trade"],"id":1}"#;
    connection.send(ask).unwrap();
    let found = texts(&mut connection, frames.len() + 1);
    assert_eq!(found[0], r#"{"result":null,"id":1}"#);
    assert!(found[1..].iter().eq(frames.iter().map(|it| &it.text)));

    let second = server(3_000);
    let mut connection = connect(&format!("ws://{}/ws/btcusdt@trade", second.address()));
    let found = texts(&mut connection, frames.len());
    assert!(found.iter().eq(frames.iter().map(Frame::payload)));
    assert!(found[0].starts_with(r#"{"e":"trade""#), "{}", found[0]);
    connection.send("nonsense").unwrap();
    let answer = texts(&mut connection, 1);
    assert_eq!(answer[0], r#"{"error":{"code":3,"msg":"Invalid JSON"}}"#);
}

#[test]
fn requests_are_answered_from_the_same_exchange() {
    let server = server(1);
    let exchange = Exchange::new(ExchangeOptions::default());
    let book = get(&server, "/api/v3/depth?symbol=ETHBTC&limit=7").unwrap();
    assert_eq!(book, exchange.snapshot("ETHBTC", 7).unwrap().as_bytes());
    let book = get(&server, "/api/v3/depth?symbol=ETHBTC").unwrap();
    assert_eq!(book, exchange.snapshot("ETHBTC", 100).unwrap().as_bytes());
    let list = get(&server, "/api/v3/exchangeInfo").unwrap();
    assert_eq!(list, exchange.exchange_info().as_bytes());
    let refused = [
        ("/api/v3/depth?symbol=DOGE", 400),
        ("/api/v3/depth?symbol=ETHBTC&limit=x", 400),
        ("/api/v3/ping", 404),
    ];
    for (path, want) in refused {
        let error = get(&server, path).unwrap_err();
        assert!(matches!(error, NetError::Status { status, .. } if status == want), "{error}");
        let text = error.to_string();
        assert!(text.starts_with("127.0.0.1:") && text.contains(path), "{text}");
    }
    assert_eq!(server.stop().requests, 6);
}

#[test]
fn pings_are_answered_while_polling() {
    let server = Server::start(ServerOptions {
        frames_max: Some(0),
        ping_every: Duration::from_millis(1),
        ..ServerOptions::default()
    })
    .unwrap();
    let mut connection = connect_to_all(&server);
    let start = Instant::now();
    while connection.traffic().pings < 3 {
        assert!(start.elapsed() < PATIENCE);
        connection.poll(&mut |_| {}).unwrap();
        connection.wait(Duration::from_millis(100)).unwrap();
    }
    // The goodbye is answered after everything that was sent before it.
    connection.close();
    let error = end(&mut connection);
    assert!(matches!(error, NetError::Closed { .. }), "{error}");
    assert!(server.stop().pongs >= 1);
}

#[test]
fn what_cannot_be_reached_is_named_in_one_line() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let silent = format!("ws://{}/", silent.local_addr().unwrap());
    let rest = server(0);
    let wrong_path = format!("ws://{}/nowhere", rest.address());
    let cases = [
        ("nonsense", "nonsense: no scheme; an address is"),
        ("ws://", "ws://: no host; an address is"),
        ("ws://[::1]:99999/", "ws://[::1]:99999/: port is not in 0..=65535"),
        ("https://127.0.0.1/", "127.0.0.1: scheme https; wanted ws:// (to this host only) or"),
        ("ws://192.0.2.1:80/x", "192.0.2.1:80: 192.0.2.1 is not a loopback address"),
        (silent.as_str(), "wanted a WebSocket handshake"),
        (wrong_path.as_str(), ": HTTP status 404 "),
        ("ws://127.0.0.1:1/", "127.0.0.1:1: Connection refused"),
    ];
    let options =
        ConnectOptions { timeout: Duration::from_millis(200), ..ConnectOptions::default() };
    for (url, want) in cases {
        let error = Connection::connect(url, options, &tls()).unwrap_err().to_string();
        assert!(error.contains(want) && !error.contains('\n'), "{url}: {error}");
    }
    let error = start_rest("wss://127.0.0.1/").unwrap_err();
    assert!(matches!(error, NetError::Scheme { .. }), "{error}");
    let mut rest = start_rest("http://192.0.2.1/").unwrap();
    assert!(rest.request(1, Method::Get, Arc::from("/x")));
    let error = rest.wait(PATIENCE).unwrap().body.unwrap_err();
    assert!(matches!(error, NetError::NotLoopback { .. }), "{error}");
}

#[test]
fn a_full_queue_of_requests_refuses_without_waiting() {
    // A server that accepts nothing: the first request hangs, the rest wait in the queue.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let base = format!("http://{}", silent.local_addr().unwrap());
    let mut rest = start_rest(&base).unwrap();
    let path: Arc<str> = Arc::from("/x");
    let taken = (0..5_000).take_while(|&tag| rest.request(tag, Method::Get, Arc::clone(&path)));
    let taken = taken.count();
    assert!((1_024..=1_025).contains(&taken), "{taken}");
    assert_eq!(rest.in_flight(), taken);
    assert!(rest.poll().is_none());
}

#[test]
fn frames_leave_at_the_pace_that_was_asked_for() {
    let second = 1_000_000_000;
    let check = |pace: Pace, want_ms: Option<u64>| {
        let wait = pace.wait(3 * second, 500);
        assert_eq!(wait, want_ms.map(Duration::from_millis), "{pace:?}");
    };
    check(Pace::Clock(1.0), Some(3_000));
    check(Pace::Clock(20.0), Some(150));
    check(Pace::FramesPerSecond(1_000.0), Some(500));
    check(Pace::FramesPerSecond(1e-30), Some(31_536_000_000));
    check(Pace::Max, None);
}
