//! Tells the binary which commit it was built from.

use std::process::Command;

fn main() {
    let commit = Command::new("git")
        .args(["rev-parse", "--short=12", "HEAD"])
        .output()
        .ok()
        .filter(|output| output.status.success())
        .and_then(|output| String::from_utf8(output.stdout).ok());
    // Built from an archive there is no commit; the lock file's hash still tells builds apart.
    let commit = commit.as_deref().map_or("unknown", str::trim);
    println!("cargo::rustc-env=KAIROS_COMMIT={commit}");
    println!("cargo::rerun-if-changed=../.git/logs/HEAD");
    println!("cargo::rerun-if-changed=build.rs");
}
