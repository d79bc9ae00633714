//! The production WebSocket client against servers that misbehave: every refusal in one line, every
//! frame that the protocol allows understood, every one that it forbids the end.
#![expect(
    clippy::unwrap_used,
    reason = "a test may fail and say why; the lints know tests by their attribute only"
)]

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use kairos_adapters::net::NetError;
use kairos_adapters::net::rest::{Method, Rest, RestOptions};
use kairos_adapters::net::tls::Tls;
use kairos_adapters::net::websocket::{ConnectOptions, Connection, Heard};
use kairos_adapters::sim::faults::{Fault, Faults};
use kairos_adapters::sim::gateway::GatewayOptions;
use kairos_adapters::sim::host::tls::TlsFiles;
use kairos_adapters::sim::host::{Host, HostOptions};
use kairos_adapters::sim::venue::Protocol;

const PATIENCE: Duration = Duration::from_secs(60);

fn options() -> ConnectOptions {
    ConnectOptions { message_max: 1 << 20, ..ConnectOptions::default() }
}

/// An encrypted host with one fault, and the trust in its CA.
fn encrypted(fault: &str) -> (Host, Tls) {
    let files = TlsFiles::make().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ca.pem");
    files.write_ca(&path).unwrap();
    let faults: Vec<Fault> = fault.split_whitespace().map(|it| it.parse().unwrap()).collect();
    let gateway = GatewayOptions {
        faults: Faults::new(1, &faults),
        ..GatewayOptions::seeded(Protocol::Kraken, 1)
    };
    let plain = HostOptions::plain(gateway);
    let host = Host::start(HostOptions { tls: Some(files), ..plain }).unwrap();
    (host, Tls::new(Some(&path)).unwrap())
}

#[test]
fn certificates_are_checked_and_what_is_wrong_is_said() {
    let (host, tls) = encrypted("");
    assert!(host.ws_url().starts_with("wss://127.0.0.1:"));
    Connection::connect(&host.ws_url(), options(), &tls).unwrap();
    let named = host.ws_url().replace("127.0.0.1", "localhost");
    Connection::connect(&named, options(), &tls).unwrap();
    // Without the extra authority nobody vouches for it.
    let stranger = Tls::new(None).unwrap();
    let error = Connection::connect(&host.ws_url(), options(), &stranger).unwrap_err();
    assert!(matches!(error, NetError::Tls { .. }), "{error}");
    assert!(error.to_string().contains("UnknownIssuer"), "{error}");
    let mut rest = Rest::start(&host.rest_url(), RestOptions::default(), &tls).unwrap();
    let path = "/0/public/AssetPairs";
    assert!(rest.request(1, Method::Get, path.into()));
    assert!(rest.wait(PATIENCE).unwrap().body.unwrap().starts_with(b"{"));
    let mut rest = Rest::start(&host.rest_url(), RestOptions::default(), &stranger).unwrap();
    assert!(rest.request(1, Method::Get, path.into()));
    let error = rest.wait(PATIENCE).unwrap().body.unwrap_err().to_string();
    assert!(error.contains(path) && !error.contains('\n'), "{error}");

    let check = |fault: &str, want: &str| {
        let (host, tls) = encrypted(fault);
        let start = Instant::now();
        // The fault comes a second after the host's first look; until then the door is open.
        let error = loop {
            assert!(start.elapsed() < PATIENCE, "{fault}");
            if let Err(error) = Connection::connect(&host.ws_url(), options(), &tls) {
                break error;
            }
        };
        let text = error.to_string();
        assert!(text.contains(want) && !text.contains('\n'), "{fault}: {text}");
        text
    };
    check("certificate=name", "wanted a TLS handshake with a certificate for this name");
    check("certificate=expired", "expired");
    check("certificate=unknown", "wanted a TLS handshake with a certificate for this name");
    check("handshake=503", "HTTP status 503");
    check("handshake=429", "retry after 2 s");
    check("refuse=60000", "127.0.0.1:");
}

/// A server for one connection that answers the handshake and then says `script`; gives back what
/// the client sent after the handshake.
fn scripted(script: Vec<u8>) -> (String, JoinHandle<Vec<u8>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("ws://{}/", listener.local_addr().unwrap());
    let serve = move || {
        let (mut stream, _) = listener.accept().unwrap();
        let key = read_key(&mut stream);
        let accept = tungstenite::handshake::derive_accept_key(key.as_bytes());
        let answer = format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {accept}\r\n\r\n"
        );
        stream.write_all(answer.as_bytes()).unwrap();
        // One byte at a time: a frame may arrive in any pieces.
        for byte in script {
            if stream.write_all(&[byte]).is_err() {
                break;
            }
        }
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut answer = Vec::new();
        let _end = stream.read_to_end(&mut answer);
        answer
    };
    (url, thread::spawn(serve))
}

fn read_key(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).unwrap();
    let line = head.lines().find(|it| it.to_lowercase().starts_with("sec-websocket-key:"));
    line.unwrap().split_once(':').unwrap().1.trim().to_owned()
}

/// A frame as a server sends it: unmasked.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![first];
    match payload.len() {
        len @ 0..126 => frame.push(u8::try_from(len).unwrap()),
        len @ 126..65_536 => {
            frame.push(126);
            frame.extend(u16::try_from(len).unwrap().to_be_bytes());
        }
        len => {
            frame.push(127);
            frame.extend((len as u64).to_be_bytes());
        }
    }
    frame.extend(payload);
    frame
}

/// Polls to the end: what was heard, and the error.
fn hear(url: &str) -> (Vec<String>, NetError) {
    let mut connection = Connection::connect(url, options(), &Tls::new(None).unwrap()).unwrap();
    let (mut heard, start) = (Vec::new(), Instant::now());
    loop {
        assert!(start.elapsed() < PATIENCE, "{heard:?}");
        let polled = connection.poll(&mut |it| {
            heard.push(match it {
                Heard::Text(text) if text.len() > 40 => format!("text of {}", text.len()),
                Heard::Text(text) => format!("text {}", String::from_utf8_lossy(text)),
                Heard::Binary(bytes) => format!("binary of {}", bytes.len()),
                Heard::Alive => "alive".to_owned(),
            });
        });
        if let Err(error) = polled {
            return (heard, error);
        }
        connection.wait(Duration::from_millis(50)).unwrap();
    }
}

const TEXT: u8 = 0x81;
const CLOSE: u8 = 0x88;

#[test]
fn what_the_protocol_allows_is_understood() {
    let check = |frames: &[Vec<u8>], want: &[&str]| {
        let goodbye = frame(CLOSE, &[0x03, 0xe8]); // 1000
        let script: Vec<u8> = frames.iter().flatten().chain(&goodbye).copied().collect();
        let (url, server) = scripted(script);
        let (heard, error) = hear(&url);
        assert_eq!(heard, want);
        assert!(matches!(error, NetError::Closed { code: 1000, .. }), "{error}");
        server.join().unwrap()
    };
    check(&[frame(TEXT, b"one"), frame(TEXT, b"")], &["text one", "text "]);
    check(&[frame(TEXT, &[b'x'; 126])], &["text of 126"]);
    check(&[frame(TEXT, &[b'x'; 70_000])], &["text of 70000"]);
    check(&[frame(0x82, &[0xff; 300])], &["binary of 300"]);
    check(&[frame(TEXT, "€ µ".as_bytes())], &["text € µ"]);
    // Fragments, with a ping between them and a character split across them.
    let euro = "€".as_bytes();
    let pieces = [
        frame(0x01, &euro[..1]),
        frame(0x89, b"p"),
        frame(0x00, &euro[1..2]),
        frame(0x80, &euro[2..]),
    ];
    let answer = check(&pieces, &["alive", "text €"]);
    // The pong carries the ping's payload, masked as a client must.
    assert_eq!((answer[0], answer[1]), (0x8a, 0x81), "{answer:?}");
    assert_eq!(answer[6] ^ answer[2], b'p');
    // The goodbye is answered with its own code.
    let close = &answer[7..];
    assert_eq!((close[0], close[1]), (0x88, 0x82), "{answer:?}");
    assert_eq!([close[6] ^ close[2], close[7] ^ close[3]], [0x03, 0xe8]);
    check(&[frame(0x8a, b"unasked")], &["alive"]);
}

#[test]
fn what_the_protocol_forbids_is_the_end() {
    let check = |frames: &[Vec<u8>], heard_before: usize| {
        let (url, server) = scripted(frames.concat());
        let (heard, error) = hear(&url);
        assert_eq!(heard.len(), heard_before, "{heard:?}");
        let over = matches!(error, NetError::Protocol { .. } | NetError::Closed { .. });
        assert!(over && !error.to_string().contains('\n'), "{error}");
        drop(server);
    };
    check(&[frame(TEXT, b"fine"), frame(0xc1, b"reserved bit")], 1);
    check(&[frame(0x83, b"reserved opcode")], 0);
    check(&[frame(0x8b, b"reserved control opcode")], 0);
    check(&[frame(0x80, b"a continuation of nothing")], 0);
    check(&[frame(0x01, b"begun"), frame(TEXT, b"another")], 0);
    check(&[frame(0x09, b"a ping in pieces")], 0);
    check(&[frame(0x89, &[0; 126])], 0);
    check(&[frame(TEXT, &[0xc3, 0x28])], 0);
    check(&[frame(TEXT, &[0xed, 0xa0, 0x80])], 0);
    check(&[frame(CLOSE, &[0x03])], 0);
    // Longer than a message may be: refused at its head, before the bytes are there.
    check(&[vec![TEXT, 127, 0, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff]], 0);
    let masked = vec![TEXT, 0x81, 1, 2, 3, 4, b'x'];
    check(&[masked], 0);
}

#[test]
fn a_server_that_says_nothing_is_left_in_time() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = listener.local_addr().unwrap();
    let short = ConnectOptions { timeout: Duration::from_millis(200), ..options() };
    let tls = Tls::new(None).unwrap();
    for (url, want) in [
        (format!("ws://{at}/"), "no answer within 200 ms"),
        (format!("wss://{at}/"), "no answer within 200 ms"),
    ] {
        let error = Connection::connect(&url, short, &tls).unwrap_err().to_string();
        assert!(error.contains(want), "{url}: {error}");
    }
    // One that drips a byte now and then is no better: the limit is for all of it.
    let drip = thread::spawn(move || {
        for _ in 0..2 {
            let _silent = listener.accept();
        }
        let (mut stream, _) = listener.accept().unwrap();
        stream.write_all(b"HTTP/1.1 101 Switching Protocols\r\nX-Slow: ").unwrap();
        while stream.write_all(b"z").is_ok() {
            thread::park_timeout(Duration::from_millis(50));
        }
    });
    let error = Connection::connect(&format!("ws://{at}/"), short, &tls).unwrap_err().to_string();
    assert!(error.contains("no answer within 200 ms"), "{error}");
    drip.join().unwrap();
}
