//! What is wrong with a configuration: one line for an operator each.

use std::fmt;

/// Where a value was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A line of a file.
    File {
        /// The file as it was named.
        name: String,
        /// From 1.
        line: usize,
    },
    /// An environment variable.
    Variable(String),
    /// A `--set` on the command line.
    Flag,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { name, line } => write!(f, "{name}:{line}"),
            Self::Variable(name) => write!(f, "variable {name}"),
            Self::Flag => f.write_str("--set"),
        }
    }
}

/// One thing that is wrong. Prints as `key = found: rule (origin)`, without the parts that are
/// not known.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Problem {
    /// The key with its section, or the file where there is no key.
    pub key: String,
    /// The value as written in TOML; `None` where nothing was written or it may be a secret.
    pub found: Option<String>,
    /// What would be right.
    pub rule: String,
    /// Where the value came from; `None` for absent values.
    pub origin: Option<Origin>,
}

impl Problem {
    /// A problem of something that is not there or has no value to show.
    #[must_use]
    pub fn new(key: impl Into<String>, rule: impl Into<String>) -> Self {
        Self { key: key.into(), found: None, rule: rule.into(), origin: None }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // One line, whatever was put into quotes.
        for letter in self.key.chars() {
            if letter.is_control() {
                write!(f, "{}", letter.escape_default())?;
            } else {
                write!(f, "{letter}")?;
            }
        }
        if let Some(found) = &self.found {
            write!(f, " = {found}")?;
        }
        write!(f, ": {}", self.rule)?;
        if let Some(origin) = &self.origin {
            write!(f, " ({origin})")?;
        }
        Ok(())
    }
}
