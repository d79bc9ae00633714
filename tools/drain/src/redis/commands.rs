//! Commands as they stand on the wire, in one buffer that is used again.

use std::fmt::{Arguments, Write as _};
use std::io::Write as _;

/// Commands that wait to be sent.
#[derive(Debug, Default)]
pub(super) struct Commands {
    bytes: Vec<u8>,
    count: usize,
    text: String,
}

/// One argument.
pub(super) enum Arg<'a> {
    /// As it is.
    Text(&'a str),
    /// Two texts in one, such as a prefix and a name.
    Joined(&'a str, &'a str),
    /// As it prints.
    Shown(Arguments<'a>),
}

impl Commands {
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(super) fn count(&self) -> usize {
        self.count
    }

    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.count = 0;
    }

    /// Appends a command.
    pub(super) fn push(&mut self, arguments: &[Arg<'_>]) {
        // Writing to a Vec or a String cannot fail.
        let _ = write!(self.bytes, "*{}\r\n", arguments.len());
        for argument in arguments {
            let (one, other) = match argument {
                Arg::Text(text) => (*text, ""),
                Arg::Joined(one, other) => (*one, *other),
                Arg::Shown(shown) => {
                    self.text.clear();
                    let _ = self.text.write_fmt(*shown);
                    (self.text.as_str(), "")
                }
            };
            let _ = write!(self.bytes, "${}\r\n", one.len() + other.len());
            self.bytes.extend_from_slice(one.as_bytes());
            self.bytes.extend_from_slice(other.as_bytes());
            self.bytes.extend_from_slice(b"\r\n");
        }
        self.count += 1;
    }

    /// Appends the commands of another buffer.
    pub(super) fn append(&mut self, other: &Self) {
        self.bytes.extend_from_slice(&other.bytes);
        self.count += other.count;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_arrays_of_counted_texts() {
        let mut commands = Commands::default();
        commands.push(&[
            Arg::Text("SET"),
            Arg::Joined("p:", "k"),
            Arg::Shown(format_args!("{}-{}", 1, "ü")),
        ]);
        commands.push(&[Arg::Text("PING")]);
        let want = "*3\r\n$3\r\nSET\r\n$3\r\np:k\r\n$4\r\n1-ü\r\n*1\r\n$4\r\nPING\r\n";
        assert_eq!((commands.bytes(), commands.count()), (want.as_bytes(), 2));
    }
}
