//! `kairos journal verify`: every frame, chain and seal.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use kairos_journal::{Finding, Findings, verify_with};
use serde_json::{Value, json};

use crate::outcome;

const EXAMPLES: &str = "Examples:
  kairos journal verify /var/lib/kairos/demo/journal
  kairos journal verify DIR --json | jq '.findings[] | select(.severity == \"damage\")'

Reads every byte and writes nothing. Exit status: 0 clean (notes, such as a run that was killed and
is not recovered yet, are no damage), 1 no journal, 2 damaged: each finding names segment, offset and
reason.";

/// Check every frame, chain and seal.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct VerifyArgs {
    /// The journal's directory.
    dir: PathBuf,
    /// Print one JSON document.
    #[arg(long)]
    json: bool,
}

/// Checks and prints every finding; 2 where anything is damaged.
pub(crate) fn run(args: &VerifyArgs) -> ExitCode {
    let bar = outcome::bar("verifying");
    let checked = verify_with(&args.dir, &mut |done, all| {
        bar.set_length(all);
        bar.set_position(done);
    });
    bar.finish_and_clear();
    let findings = match checked {
        Ok(findings) => findings,
        Err(error) => return outcome::fail(&error),
    };
    let status =
        if findings.is_damaged() { ExitCode::from(outcome::DAMAGED) } else { ExitCode::SUCCESS };
    if args.json {
        return outcome::answer(&document(&findings).to_string(), status);
    }
    let mut out = String::new();
    for finding in &findings.findings {
        // Writing to a String cannot fail.
        let _ = writeln!(out, "{finding}");
    }
    let (first, last) = findings.seq.unwrap_or((0, 0));
    let _ = writeln!(
        out,
        "{}: {} segments, {} frames, {} events, seq {first} to {last}, {} bytes",
        if findings.is_damaged() { "DAMAGED" } else { "clean" },
        findings.segments,
        findings.frames,
        findings.events,
        findings.bytes,
    );
    outcome::answer(&out, status)
}

fn document(findings: &Findings) -> Value {
    let list: Vec<Value> = findings.findings.iter().map(finding).collect();
    json!({
        "damaged": findings.is_damaged(),
        "live": findings.live,
        "segments": findings.segments,
        "frames": findings.frames,
        "events": findings.events,
        "first_seq": findings.seq.map(|it| it.0),
        "last_seq": findings.seq.map(|it| it.1),
        "bytes": findings.bytes,
        "findings": list,
    })
}

fn finding(it: &Finding) -> Value {
    json!({
        "severity": format!("{:?}", it.severity).to_lowercase(),
        "file": it.file.display().to_string(),
        "run": it.run,
        "segment": it.segment,
        "offset": it.offset,
        "first_seq": it.seq.map(|seq| seq.0),
        "last_seq": it.seq.and_then(|seq| seq.1),
        "reason": it.reason,
    })
}
