//! Addresses of venues, and the rule that plain text never leaves this host.

use std::net::{SocketAddr, ToSocketAddrs};
use std::time::Duration;

use super::NetError;

/// What an address leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// A WebSocket: `ws` or `wss`.
    Stream,
    /// HTTP requests: `http` or `https`.
    Requests,
}

impl Purpose {
    /// The plain and the encrypted scheme, with their ports.
    const fn schemes(self) -> [(&'static str, u16); 2] {
        match self {
            Self::Stream => [("ws", 80), ("wss", 443)],
            Self::Requests => [("http", 80), ("https", 443)],
        }
    }

    const fn wanted(self) -> &'static str {
        match self {
            Self::Stream => "ws:// (to this host only) or wss://",
            Self::Requests => "http:// (to this host only) or https://",
        }
    }
}

/// Where a connection goes, out of an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// Host and port, as they stand in errors and in the `Host` header.
    pub authority: String,
    /// The name or number of the host, without brackets.
    pub host: String,
    /// The port; that of the scheme where none was written.
    pub port: u16,
    /// Whether the connection is encrypted.
    pub encrypted: bool,
    /// Scheme and authority, without path.
    pub base: String,
}

impl Address {
    /// Takes `scheme://host[:port][/path]` apart.
    ///
    /// # Errors
    /// [`NetError::Address`] for text that is none, [`NetError::Scheme`] for another scheme.
    pub fn parse(url: &str, purpose: Purpose) -> Result<Self, NetError> {
        let wrong =
            |found: &str| NetError::Address { url: url.to_owned(), found: found.to_owned() };
        let (scheme, rest) = url.split_once("://").ok_or_else(|| wrong("no scheme"))?;
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let authority = rest.get(..end).unwrap_or_default();
        if authority.is_empty() || authority.contains('@') {
            return Err(wrong("no host"));
        }
        if !url.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(wrong("white space or a letter that is not ASCII"));
        }
        let [plain, encrypted] = purpose.schemes();
        let (is_encrypted, standard) = match scheme {
            _ if scheme == plain.0 => (false, plain.1),
            _ if scheme == encrypted.0 => (true, encrypted.1),
            _ => {
                return Err(NetError::Scheme {
                    host: authority.to_owned(),
                    scheme: scheme.to_owned(),
                    wanted: purpose.wanted(),
                });
            }
        };
        let bracketed = authority.ends_with(']');
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !bracketed => {
                (host, port.parse().map_err(|_| wrong("port is not in 0..=65535"))?)
            }
            Some(_) | None => (authority, standard),
        };
        Ok(Self {
            authority: authority.to_owned(),
            host: host.trim_matches(['[', ']']).to_owned(),
            port,
            encrypted: is_encrypted,
            base: format!("{scheme}://{authority}"),
        })
    }

    /// The addresses behind the name. Asks the system, and may wait for it: never on a seat.
    ///
    /// # Errors
    /// [`NetError::Connect`] where the name stands for nothing, [`NetError::NotLoopback`] where
    /// plain text would leave this host.
    pub fn resolve(&self, limit: Duration) -> Result<Vec<SocketAddr>, NetError> {
        let failed = |found| NetError::Connect {
            host: self.authority.clone(),
            found,
            limit_ms: limit.as_millis(),
        };
        let found: Vec<_> =
            (self.host.as_str(), self.port).to_socket_addrs().map_err(failed)?.collect();
        let stranger = found.iter().find(|it| !it.ip().is_loopback());
        if let (false, Some(stranger)) = (self.encrypted, stranger) {
            return Err(NetError::NotLoopback {
                host: self.authority.clone(),
                found: stranger.ip(),
            });
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_taken_apart() {
        let check = |url: &str, purpose: Purpose, want: (&str, &str, u16, bool)| {
            let it = Address::parse(url, purpose).unwrap();
            assert_eq!((&*it.authority, &*it.host, it.port, it.encrypted), want, "{url}");
        };
        let (stream, requests) = (Purpose::Stream, Purpose::Requests);
        check("wss://a.example:9443/ws?x=1", stream, ("a.example:9443", "a.example", 9443, true));
        check("wss://a.example", stream, ("a.example", "a.example", 443, true));
        check("ws://127.0.0.1:8080", stream, ("127.0.0.1:8080", "127.0.0.1", 8080, false));
        check("ws://[::1]/v2", stream, ("[::1]", "::1", 80, false));
        check("wss://[::1]:7/v2", stream, ("[::1]:7", "::1", 7, true));
        check("https://a.example/api", requests, ("a.example", "a.example", 443, true));
        check("http://localhost", requests, ("localhost", "localhost", 80, false));
    }

    #[test]
    fn what_is_no_address_is_named() {
        let check = |url: &str, want: &str| {
            let error = Address::parse(url, Purpose::Stream).unwrap_err().to_string();
            assert_eq!(error, want, "{url}");
        };
        let rule = "an address is scheme://host[:port][/path]";
        check("a.example", &format!("a.example: no scheme; {rule}"));
        check("wss:///path", &format!("wss:///path: no host; {rule}"));
        check("wss://me@host", &format!("wss://me@host: no host; {rule}"));
        check("wss://host:x", &format!("wss://host:x: port is not in 0..=65535; {rule}"));
        let found = "white space or a letter that is not ASCII";
        check("wss://ho st", &format!("wss://ho st: {found}; {rule}"));
        let wanted = "ws:// (to this host only) or wss://";
        check("ftp://host", &format!("host: scheme ftp; wanted {wanted}"));
        check("https://host", &format!("host: scheme https; wanted {wanted}"));
    }

    #[test]
    fn plain_text_never_leaves_this_host() {
        let resolve = |url: &str| {
            let address = Address::parse(url, Purpose::Stream).unwrap();
            address.resolve(Duration::from_secs(1)).map(|it| it.len()).map_err(|it| it.to_string())
        };
        assert_eq!(resolve("ws://127.0.0.1:9"), Ok(1));
        assert_eq!(resolve("wss://192.0.2.1:9"), Ok(1));
        let rule = "192.0.2.1 is not a loopback address; plain text never leaves this host";
        assert_eq!(resolve("ws://192.0.2.1:9"), Err(format!("192.0.2.1:9: {rule}")));
    }
}
