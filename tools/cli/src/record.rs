//! `kairos record`: raw frames of live feeds into capture files.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use kairos_engine::commands::ConfigArgs;
use kairos_engine::operator::Signals;
use kairos_engine::recording::{RecordOptions, record};
use serde_json::json;

use crate::outcome;

const EXAMPLES: &str = "Examples:
  kairos record --config engine/config/binance.toml --out /data/captures
  kairos record --config kairos.toml --out DIR --seconds 60 --json

Uses connections of its own: an engine that runs with the same file is not disturbed. Writes one
file per connection, VENUE-LINK-CONNECTED.frames.gz, and beside it a .session.json with what was sent
and fetched; a connection that is replaced or lost begins a new file, and all files of a link play
back together as the link spoke. A file is complete once its
connection is over: end the recording by SIGINT or SIGTERM, not by kill -9. What was written plays
back through market_data = \"capture\".";

/// Record raw frames of live feeds into capture files.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct RecordArgs {
    /// Where the configuration comes from.
    #[command(flatten)]
    config: ConfigArgs,
    /// The folder for the files; made where it is missing.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Ends after so many seconds.
    #[arg(long, value_name = "N")]
    seconds: Option<u64>,
    /// Write plain text instead of gzip.
    #[arg(long)]
    plain: bool,
    /// Print what was written as one JSON document.
    #[arg(long)]
    json: bool,
}

/// Records until stopped; prints what was written.
pub(crate) fn run(args: &RecordArgs) -> ExitCode {
    let config = match args.config.load() {
        Ok(config) => config,
        Err(status) => return status,
    };
    let signals = match Signals::of_process() {
        Ok(signals) => signals,
        Err(error) => {
            eprintln!("kairos: signals: {error}");
            return ExitCode::FAILURE;
        }
    };
    let options = RecordOptions {
        folder: &args.out,
        compress: !args.plain,
        stop: &signals.stop,
        limit: args.seconds.map(Duration::from_secs),
    };
    let mut warn = |what: &str| eprintln!("kairos: warning: {what}");
    match record(&config, &options, &mut |_| {}, &mut warn) {
        Ok(files) if args.json => {
            outcome::answer(&json!({ "files": files }).to_string(), ExitCode::SUCCESS)
        }
        Ok(files) => {
            let mut out = String::new();
            for it in &files {
                // Writing to a String cannot fail.
                let _ = writeln!(
                    out,
                    "{}: {} frames, {} snapshots",
                    it.path.display(),
                    it.frames,
                    it.snapshots
                );
            }
            outcome::answer(&out, ExitCode::SUCCESS)
        }
        Err(error) => {
            for line in error.to_string().lines() {
                eprintln!("kairos: {line}");
            }
            ExitCode::from(error.status())
        }
    }
}
