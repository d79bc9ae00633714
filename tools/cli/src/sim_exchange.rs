//! `kairos sim-exchange`: a venue's protocol on loopback, to run an engine or any other client
//! against.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};
use kairos_adapters::sim::faults::{self, Fault, Faults};
use kairos_adapters::sim::gateway::{AtEnd, GatewayOptions};
use kairos_adapters::sim::host::tls::TlsFiles;
use kairos_adapters::sim::host::{Host, HostOptions, Report};
use kairos_adapters::sim::server::Pace;
use kairos_adapters::sim::tape::Tape;
use kairos_adapters::sim::venue::Protocol;
use serde::Serialize;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

/// How soon a signal is seen.
const LOOK_EVERY: Duration = Duration::from_millis(20);

#[derive(Debug, Args)]
#[command(after_help = faults::HELP)]
pub(crate) struct SimExchangeArgs {
    /// Whose protocol: binance, okx, coinbase, kraken, kucoin.
    #[arg(long, value_parser = protocol)]
    venue: Protocol,
    /// Captures of the venue to play instead of the seeded market. Every client gets them from the
    /// beginning, from its first subscription on; snapshots over REST fit what it has had.
    #[arg(long, num_args = 1.., value_name = "FILE", conflicts_with_all = ["quote", "deep"])]
    captures: Vec<PathBuf>,
    /// What happens to a connection at the end of the captures.
    #[arg(long, value_enum, default_value_t, requires = "captures")]
    at_end: End,
    /// Seed of the market and of the faults; the same seed gives the same messages.
    #[arg(long, default_value_t = 42)]
    seed: u64,
    /// Where to listen: a loopback address; port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:0", value_parser = loopback)]
    listen: SocketAddr,
    /// Speak TLS with a certificate of a test CA made for this run.
    #[arg(long)]
    tls: bool,
    /// Where to write the CA's certificate; by default a file in the temporary directory.
    #[arg(long, value_name = "FILE", requires = "tls")]
    ca_file: Option<PathBuf>,
    /// What goes wrong; may be given several times.
    #[arg(long = "fault", value_name = "SPEC")]
    faults: Vec<Fault>,
    /// How fast: `max`, or so many times as fast as the clock.
    #[arg(long, default_value = "1", value_parser = pace)]
    pace: Pace,
    /// What BTC and ETH are paid with, such as USD.
    #[arg(long, value_name = "CURRENCY")]
    quote: Option<String>,
    /// Levels a side far from the price, so that a full book is as long as a venue's.
    #[arg(long, default_value_t = 0, value_name = "LEVELS")]
    deep: usize,
    /// End after so many seconds; by default at SIGINT or SIGTERM.
    #[arg(long)]
    seconds: Option<u64>,
}

/// What happens at the end of the captures.
#[derive(Clone, Copy, Debug, Default, ValueEnum)]
enum End {
    /// Nothing more comes but signs of life.
    #[default]
    Stay,
    /// A close frame with code 1000.
    Close,
    /// They begin again on the same connection.
    Loop,
}

fn protocol(text: &str) -> Result<Protocol, String> {
    Protocol::from_name(text)
        .ok_or_else(|| "a venue is binance, okx, coinbase, kraken or kucoin".to_owned())
}

fn loopback(text: &str) -> Result<SocketAddr, String> {
    match text.parse::<SocketAddr>() {
        Ok(address) if address.ip().is_loopback() => Ok(address),
        Ok(_) => Err("not a loopback address".to_owned()),
        Err(_) => Err("an address is 127.0.0.1:PORT or [::1]:PORT".to_owned()),
    }
}

fn pace(text: &str) -> Result<Pace, String> {
    if text == "max" {
        return Ok(Pace::Max);
    }
    match text.parse::<f64>() {
        Ok(rate) if rate > 0.0 && rate.is_finite() => Ok(Pace::Clock(rate)),
        Ok(_) | Err(_) => Err("a pace is max or a positive number".to_owned()),
    }
}

/// What scripts read.
#[derive(Serialize)]
struct Listening<'a> {
    venue: &'static str,
    ws_url: String,
    rest_url: String,
    ca_file: Option<&'a Path>,
}

pub(crate) fn run(args: &SimExchangeArgs) -> ExitCode {
    match serve(args) {
        Ok(report) => {
            eprintln!(
                "kairos: {} steps, {} connections, {} requests, faults {:?}",
                report.steps, report.connections, report.requests, report.faults
            );
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("kairos: {error}");
            ExitCode::FAILURE
        }
    }
}

fn serve(args: &SimExchangeArgs) -> Result<Report, String> {
    let stop = Arc::default();
    for signal in [SIGINT, SIGTERM] {
        flag::register(signal, Arc::clone(&stop)).map_err(|it| it.to_string())?;
    }
    let mut gateway = GatewayOptions::seeded(args.venue, args.seed);
    gateway.pace = args.pace;
    gateway.market.deep = args.deep;
    gateway.faults = Faults::new(args.seed, &args.faults);
    if let Some(quote) = &args.quote {
        gateway.market.quote.clone_from(quote);
    }
    if !args.captures.is_empty() {
        let tape = Tape::load(args.venue, &args.captures).map_err(|it| it.to_string())?;
        gateway.tape = Some(Arc::new(tape));
    }
    gateway.at_end = match args.at_end {
        End::Stay => AtEnd::Stay,
        End::Close => AtEnd::Close,
        End::Loop => AtEnd::Loop,
    };
    let (tls, ca_file) = if args.tls {
        let files = TlsFiles::make().map_err(|it| it.to_string())?;
        let path = args.ca_file.clone().unwrap_or_else(default_ca_file);
        files.write_ca(&path).map_err(|it| it.to_string())?;
        (Some(files), Some(path))
    } else {
        (None, None)
    };
    let host = Host::start(HostOptions { gateway, listen: args.listen, tls })
        .map_err(|it| it.to_string())?;
    let listening = Listening {
        venue: args.venue.name(),
        ws_url: host.ws_url(),
        rest_url: host.rest_url(),
        ca_file: ca_file.as_deref(),
    };
    announce(&listening).map_err(|it| format!("stdout: {it}"))?;
    eprintln!("kairos: {} on {}", args.venue.name(), host.address());
    let ends = args.seconds.map(|it| Instant::now() + Duration::from_secs(it));
    while !stop.load(Ordering::Relaxed) && ends.is_none_or(|it| Instant::now() < it) {
        thread::sleep(LOOK_EVERY);
    }
    Ok(host.stop())
}

fn default_ca_file() -> PathBuf {
    std::env::temp_dir().join(format!("kairos-sim-ca-{}.pem", std::process::id()))
}

fn announce(listening: &Listening<'_>) -> io::Result<()> {
    let mut out = io::stdout().lock();
    serde_json::to_writer(&mut out, listening)?;
    writeln!(out)?;
    out.flush()
}
