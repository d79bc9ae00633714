//! A host over real sockets: a third party's client, certificates, and what only sockets can show.
//! No test depends on speed: each waits for what it waits for, or fails after a minute.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::wildcard_enum_match_arm,
    reason = "a test may fail and say why, and looks for one thing; the lints know tests by their attribute only"
)]

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use kairos_adapters::sim::faults::{Fault, Faults};
use kairos_adapters::sim::gateway::{AtEnd, GatewayOptions};
use kairos_adapters::sim::host::tls::TlsFiles;
use kairos_adapters::sim::host::{Host, HostError, HostOptions};
use kairos_adapters::sim::server::Pace;
use kairos_adapters::sim::tape::{Tape, TapeError};
use kairos_adapters::sim::venue::Protocol;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use serde_json::Value;
use tungstenite::{Error, Message, WebSocket};

fn options(protocol: Protocol, faults: &[&str]) -> HostOptions {
    let faults: Vec<Fault> = faults.iter().map(|it| it.parse().unwrap()).collect();
    let seeded = GatewayOptions::seeded(protocol, 3);
    HostOptions::plain(GatewayOptions { faults: Faults::new(3, &faults), ..seeded })
}

/// A virtual environment with `websockets`; `None`, with a message, where pip cannot make it.
fn python() -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("third-party");
    let python = folder.join("bin/python");
    let works = |words: &[&str]| {
        let run = Command::new(&python).args(words).output();
        run.is_ok_and(|it| it.status.success())
    };
    if !works(&["-c", "import websockets"]) {
        let made = Command::new("python3").args(["-m", "venv"]).arg(&folder).output();
        let made = made.is_ok_and(|it| it.status.success());
        if !made || !works(&["-m", "pip", "install", "--quiet", "websockets"]) {
            println!("skipped: no Python with pip that can install websockets");
            return None;
        }
    }
    Some(python)
}

#[test]
fn a_third_party_client_gets_acknowledgements_a_snapshot_and_updates() {
    let Some(python) = python() else {
        return;
    };
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/third_party/client.py");
    let dir = tempfile::tempdir().unwrap();
    for protocol in Protocol::ALL {
        for tls in [false, true] {
            let files = tls.then(|| TlsFiles::make().unwrap());
            let ca = dir.path().join("ca.pem");
            if let Some(files) = &files {
                files.write_ca(&ca).unwrap();
            }
            let host = Host::start(HostOptions { tls: files, ..options(protocol, &[]) }).unwrap();
            let mut client = Command::new(&python);
            client.arg(&script).args([protocol.name(), &host.ws_url(), &host.rest_url()]);
            if tls {
                client.arg(&ca);
            }
            let output = client.output().unwrap();
            let errors = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{protocol:?} tls {tls}: {errors}");
            let seen: Value = serde_json::from_slice(&output.stdout).unwrap();
            assert!(seen["updates"].as_u64() >= Some(20), "{seen}");
            let report = host.stop();
            assert_eq!(report.connections, 1, "{protocol:?}");
        }
    }
}

fn tcp(host: &Host) -> std::io::Result<TcpStream> {
    let stream = TcpStream::connect(host.address())?;
    stream.set_read_timeout(Some(Duration::from_secs(60)))?;
    Ok(stream)
}

type Plain = WebSocket<TcpStream>;

fn open(host: &Host) -> Result<Plain, String> {
    let stream = tcp(host).map_err(|it| it.to_string())?;
    let url = format!("{}/stream?streams=btcusdt@depth@100ms", host.ws_url());
    tungstenite::client(url, stream).map(|it| it.0).map_err(|it| it.to_string())
}

/// Reads to the end of the connection: how long the longest text was, and how it ended.
fn to_the_end(socket: &mut Plain) -> (usize, Error, Option<u16>) {
    let (mut longest, mut code) = (0, None);
    loop {
        match socket.read() {
            Ok(Message::Text(text)) => longest = longest.max(text.len()),
            Ok(Message::Close(frame)) => code = frame.map(|it| it.code.into()),
            Ok(_) => {}
            Err(error) => return (longest, error, code),
        }
    }
}

#[test]
fn connections_end_as_the_faults_say() {
    let host = Host::start(options(Protocol::Binance, &["cut@300:1"])).unwrap();
    let (_, error, _) = to_the_end(&mut open(&host).unwrap());
    assert!(!matches!(error, Error::ConnectionClosed), "{error}");
    assert_eq!(host.stop().faults.get("cut"), Some(&1));

    let host = Host::start(options(Protocol::Binance, &["huge=2@300:1", "close=1012@900:1"]));
    let host = host.unwrap();
    let (longest, error, code) = to_the_end(&mut open(&host).unwrap());
    assert_eq!((longest, code), (2 << 20, Some(1012)), "{error}");
    assert!(matches!(error, Error::ConnectionClosed), "{error}");
}

#[test]
fn visitors_are_turned_away_as_the_faults_say() {
    let host = Host::start(options(Protocol::Binance, &["handshake=503", "slow=200"])).unwrap();
    let error = open(&host).unwrap_err();
    assert!(error.contains("503"), "{error}");
    let mut socket = open(&host).unwrap();
    assert!(matches!(socket.read().unwrap(), Message::Text(_)));
    let faults = host.stop().faults;
    assert!(faults.iter().map(|it| (*it.0, *it.1)).eq([("handshake", 1), ("slow", 1)]));

    let host = Host::start(options(Protocol::Binance, &["refuse=1000@300:1"])).unwrap();
    let mut socket = open(&host).unwrap();
    // The port is closed for a while and comes back. Who is in stays in, and ten messages a second
    // set the pace of the knocking.
    let mut refused = || {
        assert!(matches!(socket.read().unwrap(), Message::Text(_)));
        tcp(&host).is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused)
    };
    while !refused() {}
    while refused() {}
}

/// What a careful TLS client says of the next connection.
fn handshake(host: &Host, ca: &str) -> Result<(), String> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(ca.as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from("127.0.0.1").unwrap();
    let client = ClientConnection::new(Arc::new(config), name).unwrap();
    let mut stream = StreamOwned::new(client, tcp(host).unwrap());
    let asked = stream.write_all(b"GET /api/v3/time HTTP/1.1\r\nHost: x\r\n\r\n");
    asked.map_err(|it| it.to_string())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).map_err(|it| it.to_string())?;
    assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
    Ok(())
}

#[test]
fn bad_certificates_are_bad_in_the_way_that_was_asked_for() {
    let files = TlsFiles::make().unwrap();
    let ca = files.ca_pem().to_owned();
    let faults = ["certificate=name", "certificate=expired", "certificate=unknown"];
    let options = HostOptions { tls: Some(files), ..options(Protocol::Binance, &faults) };
    let host = Host::start(options).unwrap();
    for want in ["not valid for name", "expired", "UnknownIssuer"] {
        let error = handshake(&host, &ca).unwrap_err();
        assert!(error.contains(want), "{want} in {error}");
    }
    handshake(&host, &ca).unwrap();
    assert_eq!(host.stop().faults.get("certificate"), Some(&3));
}

#[test]
fn nobody_else_can_reach_it() {
    let elsewhere = "0.0.0.0:0".parse().unwrap();
    let options = HostOptions { listen: elsewhere, ..options(Protocol::Okx, &[]) };
    assert!(matches!(Host::start(options), Err(HostError::NotLoopback(_))));
}

fn captures() -> Option<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let folder = std::env::var_os("KAIROS_CAPTURES").unwrap_or("../shared/captures".into());
    let folder = root.join(folder);
    if folder.is_dir() {
        return Some(folder);
    }
    println!("skipped: no captures at {}", folder.display());
    None
}

#[test]
fn a_capture_comes_in_its_order_and_ends_with_a_close() {
    let Some(folder) = captures() else {
        return;
    };
    let path = folder.join("binance/multi_20211012.frames.gz");
    let tape = Tape::load(Protocol::Binance, std::slice::from_ref(&path)).unwrap();
    let mut options = options(Protocol::Binance, &[]);
    options.gateway.tape = Some(Arc::new(tape));
    options.gateway.pace = Pace::Max;
    options.gateway.at_end = AtEnd::Close;
    let host = Host::start(options).unwrap();
    let stream = tcp(&host).unwrap();
    let name = "nknusdt@depth@100ms";
    let url = format!("{}/stream?streams={name}", host.ws_url());
    let (mut socket, _) = tungstenite::client(url, stream).unwrap();
    let mut found = Vec::new();
    let code = loop {
        match socket.read().unwrap() {
            Message::Text(text) => found.push(text.to_string()),
            Message::Close(frame) => break frame.map(|it| u16::from(it.code)),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(code, Some(1000));
    let mut capture = kairos_adapters::capture::Capture::open(&path).unwrap();
    let mut want = Vec::new();
    while capture.advance().unwrap() {
        let text = String::from_utf8(capture.frame().unwrap().bytes.to_vec()).unwrap();
        if text.starts_with(&format!(r#"{{"stream":"{name}""#)) {
            want.push(text);
        }
    }
    assert!(found == want && want.len() > 20, "{} of {}", found.len(), want.len());
}

#[test]
fn captures_of_another_venue_are_refused_by_name() {
    let Some(folder) = captures() else {
        return;
    };
    let path = folder.join("kraken/book10_btcusd_20230730.frames.gz");
    let error = Tape::load(Protocol::Okx, &[path]).unwrap_err();
    assert!(matches!(error, TapeError::Nothing { lines: 150, .. }), "{error}");
    assert!(error.to_string().contains("no market data of okx"), "{error}");
}
