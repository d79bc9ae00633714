//! Exit statuses and the one way to say that something failed.

use std::io::IsTerminal;
use std::process::ExitCode;

use indicatif::{ProgressBar, ProgressStyle};
use kairos_journal::{Class, Error};

pub(crate) use kairos_engine::commands::answer;

/// Damaged journal.
pub(crate) const DAMAGED: u8 = 2;
/// Wrong command line.
pub(crate) const USAGE: u8 = 64;
/// Wrong configuration.
pub(crate) const CONFIGURATION: u8 = 78;

/// Prints what is wrong with a journal and gives the status for it.
pub(crate) fn fail(error: &Error) -> ExitCode {
    eprintln!("kairos: {error}");
    ExitCode::from(match error.class() {
        Class::Damaged => DAMAGED,
        Class::Unavailable => 1,
        Class::Configuration => CONFIGURATION,
    })
}

/// Prints what is wrong with a file that was to be written.
pub(crate) fn fail_io(path: &std::path::Path, error: &std::io::Error) -> ExitCode {
    eprintln!("kairos: {}: {error}", path.display());
    ExitCode::FAILURE
}

/// A bar on stderr for long work; draws nothing where stderr is no terminal.
pub(crate) fn bar(what: &str) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(0);
    let style = ProgressStyle::with_template(&format!("{what} {{wide_bar}} {{percent}} % {{eta}}"));
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar
}
