//! The server's end of a connection: blocking while it is made, never blocking afterwards.

use std::io::{self, Read, Write};
use std::net::TcpStream;

/// A stream in one of its two lives.
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
