//! `kairos ws-echo`: the production WebSocket client against a server that tests it.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use kairos_adapters::net::NetError;
use kairos_adapters::net::tls::Tls;
use kairos_adapters::net::websocket::{ConnectOptions, Connection, Heard, Polled};

use crate::outcome;

const EXAMPLES: &str = "Examples:
  kairos ws-echo ws://127.0.0.1:9001/runCase?case=1\\&agent=kairos
  kairos ws-echo wss://localhost:9443/ --ca-file ca.pem

For conformance suites such as Autobahn's fuzzing server: connects with the client that feeds use,
sends back every text and binary message, answers pings, and ends when the other side closes.
Exit status: 0 closed by the other side, 1 not connected, or the connection broke.";

/// Send back every message of a WebSocket server.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct EchoArgs {
    /// Address: ws:// to this host, or wss://.
    url: String,
    /// PEM file of certificate authorities that are trusted besides the system's.
    #[arg(long, value_name = "F")]
    ca_file: Option<PathBuf>,
}

/// Echoes until the connection is over.
pub(crate) fn run(args: &EchoArgs) -> ExitCode {
    match echo(args) {
        Ok(sent) => outcome::answer(&format!("{sent} messages sent back"), ExitCode::SUCCESS),
        Err(error) => {
            eprintln!("kairos: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Room for what is on its way back: the longest message that is taken, and what came while it went.
const UNSENT_MAX: usize = 64 << 20;

/// How many messages were sent back before the other side closed.
fn echo(args: &EchoArgs) -> Result<u64, NetError> {
    let tls = Tls::new(args.ca_file.as_deref())?;
    let options = ConnectOptions { unsent_max: UNSENT_MAX, ..ConnectOptions::default() };
    let mut connection = Connection::connect(&args.url, options, &tls)?;
    let mut heard: Vec<(bool, Vec<u8>)> = Vec::new();
    loop {
        let polled = connection.poll(&mut |it| match it {
            Heard::Text(text) => heard.push((true, text.to_vec())),
            Heard::Binary(bytes) => heard.push((false, bytes.to_vec())),
            Heard::Alive => {}
        });
        // What was heard before the end is answered, as far as anybody listens.
        for (is_text, bytes) in heard.drain(..) {
            let sent = match std::str::from_utf8(&bytes) {
                Ok(text) if is_text => connection.send(text),
                Ok(_) | Err(_) => connection.send_binary(&bytes),
            };
            if let (Err(error), Ok(_)) = (sent, &polled) {
                return Err(error);
            }
        }
        match polled {
            Ok(Polled::Idle) => connection.wait(Duration::from_millis(100))?,
            Ok(Polled::Busy(_)) => {}
            Err(NetError::Closed { .. }) => return Ok(connection.traffic().sent),
            Err(error) => return Err(error),
        }
    }
}
