//! `kairos sim-exchange`: one line for scripts, a venue behind it, and an orderly end.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;

use crate::harness::{KAIROS, kairos};

/// A running exchange and what it said of itself.
struct Running {
    child: Child,
    said: Value,
}

impl Running {
    fn start(words: &str) -> Self {
        let mut child = Command::new(KAIROS)
            .arg("sim-exchange")
            .args(words.split_whitespace())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        Self { child, said: serde_json::from_str(&line).unwrap() }
    }

    fn word(&self, key: &str) -> &str {
        self.said[key].as_str().unwrap()
    }

    /// Ends it by this signal: status and what it said on stderr.
    fn end(mut self, signal: &str) -> (Option<i32>, String) {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args([signal, &id]).status().unwrap().success());
        let mut text = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut text).unwrap();
        (self.child.wait().unwrap().code(), text)
    }
}

/// Head and body of the answer to a request.
fn ask(running: &Running, request: &str) -> (String, String) {
    let address = running.word("rest_url").strip_prefix("http://").unwrap();
    let mut stream = TcpStream::connect(address).unwrap();
    write!(stream, "{request} HTTP/1.1\r\nHost: {address}\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.to_owned(), body.to_owned())
}

#[test]
fn it_says_where_it_is_answers_and_ends_by_a_signal() {
    let venues = [
        ("binance", "GET /api/v3/depth?symbol=BTCUSDT&limit=5", "lastUpdateId", "-INT"),
        ("okx", "GET /api/v5/market/books?instId=BTC-USDT&sz=5", "seqId", "-TERM"),
        ("coinbase", "GET /api/v3/brokerage/market/products", "BTC-USDC", "-TERM"),
        ("kraken", "GET /0/public/AssetPairs", "XBT/USD", "-TERM"),
        ("kucoin", "POST /api/v1/bullet-public", "instanceServers", "-TERM"),
    ];
    for (venue, request, part, signal) in venues {
        let running = Running::start(&format!("--venue {venue} --seed 7"));
        assert_eq!(running.word("venue"), venue);
        assert!(running.word("ws_url").starts_with("ws://127.0.0.1:"), "{}", running.said);
        assert_eq!(running.said["ca_file"], Value::Null);
        let (head, body) = ask(&running, request);
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        assert!(body.contains(part), "{body}");
        if venue == "kucoin" {
            assert!(body.contains(running.word("ws_url")), "{body}");
        }
        let (status, said) = running.end(signal);
        assert_eq!(status, Some(0), "{said}");
        assert!(said.contains(" 1 requests"), "{said}");
    }
}

#[test]
fn faults_befall_requests() {
    let running = Running::start("--venue binance --fault rest=429 --fault rest=418");
    let request = "GET /api/v3/exchangeInfo";
    let heads = [(); 3].map(|()| ask(&running, request).0);
    assert!(heads[0].starts_with("HTTP/1.1 429 ") && heads[0].contains("\r\nRetry-After: 2"));
    assert!(heads[1].starts_with("HTTP/1.1 418 "), "{}", heads[1]);
    assert!(heads[2].starts_with("HTTP/1.1 200 "), "{}", heads[2]);
    assert!(running.end("-TERM").1.contains(r#""rest": 2"#));
}

#[test]
fn tls_leaves_the_certificate_where_it_says() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("ca.pem");
    let words = format!("--venue okx --tls --ca-file {}", path.display());
    let running = Running::start(&words);
    assert!(running.word("ws_url").starts_with("wss://127.0.0.1:"), "{}", running.said);
    assert_eq!(running.word("ca_file"), path.to_str().unwrap());
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.starts_with("-----BEGIN CERTIFICATE-----"), "{text}");
    assert_eq!(running.end("-TERM").0, Some(0));
}

#[test]
fn wrong_words_are_named() {
    let check = |words: &str, status, part: &str| {
        let words = ["sim-exchange"].into_iter().chain(words.split_whitespace());
        let said = kairos(words).expect(status);
        assert_eq!(said.out, "");
        assert!(said.err.contains(part), "{part} in {}", said.err);
    };
    check("", 64, "--venue");
    check("--venue nasdaq", 64, "binance, okx, coinbase, kraken or kucoin");
    check("--venue okx --listen 0.0.0.0:0", 64, "not a loopback address");
    check("--venue okx --listen nowhere", 64, "127.0.0.1:PORT");
    check("--venue okx --fault nonsense", 64, "faults are drop");
    check("--venue okx --fault drop=moon", 64, "messages are book, trade, quote, any");
    check("--venue okx --fault age=0", 64, "1 to 86400 seconds");
    check("--venue okx --pace 0", 64, "positive number");
    check("--venue okx --seconds soon", 64, "--seconds");
    check("--venue okx --ca-file x", 64, "--tls");
    check(
        "--venue okx --captures /nonexistent.frames.gz",
        1,
        "/nonexistent.frames.gz: cannot open",
    );
    check("--venue okx --tls --ca-file /nonexistent/x", 1, "/nonexistent/x: cannot write");
}
