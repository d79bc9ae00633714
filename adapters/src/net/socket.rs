//! One TCP connection: blocking while it is made, never blocking afterwards.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::time::Duration;

use super::NetError;

/// Where a connection goes, out of an address.
#[derive(Debug, Clone)]
pub(super) struct Target {
    /// Host and port, as they stand in errors and in the `Host` header.
    pub authority: String,
    pub host: String,
    pub port: u16,
}

impl Target {
    /// Takes `scheme://host[:port][/path]` apart. Only the plain scheme `plain` passes.
    pub(super) fn parse(url: &str, plain: &'static str) -> Result<Self, NetError> {
        let wrong =
            |found: &str| NetError::Address { url: url.to_owned(), found: found.to_owned() };
        let (scheme, rest) = url.split_once("://").ok_or_else(|| wrong("no scheme"))?;
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let authority = &rest[..end];
        if authority.is_empty() || authority.contains('@') {
            return Err(wrong("no host"));
        }
        if scheme != plain {
            return Err(NetError::NoTls {
                host: authority.to_owned(),
                scheme: scheme.to_owned(),
                plain,
            });
        }
        let bracketed = authority.ends_with(']');
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !bracketed => {
                let port = port.parse().map_err(|_| wrong("port is not in 0..=65535"))?;
                (host, port)
            }
            Some(_) | None => (authority, 80),
        };
        Ok(Self {
            authority: authority.to_owned(),
            host: host.trim_matches(['[', ']']).to_owned(),
            port,
        })
    }

    /// The addresses behind the name, all of them on this host.
    pub(super) fn resolve(&self, limit: Duration) -> Result<Vec<SocketAddr>, NetError> {
        let failed = |found| NetError::Connect {
            host: self.authority.clone(),
            found,
            limit_ms: limit.as_millis(),
        };
        let found: Vec<_> =
            (self.host.as_str(), self.port).to_socket_addrs().map_err(failed)?.collect();
        if let Some(stranger) = found.iter().find(|it| !it.ip().is_loopback()) {
            return Err(NetError::NotLoopback {
                host: self.authority.clone(),
                found: stranger.ip(),
            });
        }
        Ok(found)
    }

    /// Connects to the first address that answers; reads and writes wait up to `limit`.
    pub(super) fn connect(&self, limit: Duration) -> Result<TcpStream, NetError> {
        let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
        for address in self.resolve(limit)? {
            let made = TcpStream::connect_timeout(&address, limit).and_then(|stream| {
                stream.set_nodelay(true)?;
                stream.set_read_timeout(Some(limit))?;
                stream.set_write_timeout(Some(limit))?;
                Ok(stream)
            });
            match made {
                Ok(stream) => return Ok(stream),
                Err(error) => last = error,
            }
        }
        Err(NetError::Connect {
            host: self.authority.clone(),
            found: last,
            limit_ms: limit.as_millis(),
        })
    }
}

/// A stream in one of its two lives. An encrypted one will be a third variant of each.
#[derive(Debug)]
pub(crate) enum Socket {
    /// Blocking, with time limits, for the handshake.
    Making(TcpStream),
    /// Never blocks.
    Ready(mio::net::TcpStream),
    /// Between the two, or after the end.
    Gone,
}

impl Socket {
    /// Makes it non-blocking and has `registry` watch it as `token`.
    pub(crate) fn settle(&mut self, registry: &mio::Registry, token: mio::Token) -> io::Result<()> {
        if let Self::Making(stream) = std::mem::replace(self, Self::Gone) {
            stream.set_nonblocking(true)?;
            let mut stream = mio::net::TcpStream::from_std(stream);
            let both = mio::Interest::READABLE | mio::Interest::WRITABLE;
            registry.register(&mut stream, token, both)?;
            *self = Self::Ready(stream);
        }
        Ok(())
    }
}

impl Read for Socket {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Making(stream) => stream.read(buffer),
            Self::Ready(stream) => stream.read(buffer),
            Self::Gone => Err(io::ErrorKind::NotConnected.into()),
        }
    }
}

impl Write for Socket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Making(stream) => stream.write(bytes),
            Self::Ready(stream) => stream.write(bytes),
            Self::Gone => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Making(stream) => stream.flush(),
            Self::Ready(stream) => stream.flush(),
            Self::Gone => Ok(()),
        }
    }
}
