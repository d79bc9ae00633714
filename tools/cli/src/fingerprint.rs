//! `kairos journal fingerprint`: one digest for a journal's content.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use kairos_edge::frames::CONFIG;

use crate::outcome;

const EXAMPLES: &str = "Examples:
  kairos journal fingerprint DIR
  test \"$(kairos journal fingerprint A)\" = \"$(kairos journal fingerprint B)\" && echo same

Stamps, the journal's own frames and the text of the configuration (which names directories and
CPUs) are outside: two runs over the same captures with the same
configuration, all seats on one CPU, have one fingerprint.";

/// Digest over sequence, type, version and payload of inputs, decisions and tables.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct FingerprintArgs {
    /// The journal's directory.
    dir: PathBuf,
    /// Print one JSON document.
    #[arg(long)]
    json: bool,
}

/// Reads the whole journal and prints the digest.
pub(crate) fn run(args: &FingerprintArgs) -> ExitCode {
    match kairos_journal::fingerprint_of(&args.dir, |kind| kind != CONFIG) {
        Ok((digest, frames)) => {
            let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
            let said = if args.json {
                serde_json::json!({ "fingerprint": hex, "frames": frames }).to_string()
            } else {
                format!("{hex}  {frames} frames")
            };
            outcome::answer(&said, ExitCode::SUCCESS)
        }
        Err(error) => outcome::fail(&error),
    }
}
