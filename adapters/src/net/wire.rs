//! One TCP connection, perhaps encrypted: blocking with deadlines while it is made, never blocking
//! afterwards.

use std::io::{self, ErrorKind, IoSliceMut, Read, Write};
use std::net::TcpStream;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::time::{Duration, Instant};

use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg, setsockopt, sockopt};
use rustls::{ClientConnection, StreamOwned};

use super::NetError;
use super::address::Address;
use super::tls::Tls;

/// What is asked of the kernel for a socket.
#[derive(Clone, Copy, Debug, Default)]
pub struct SocketOptions {
    /// Let the kernel stamp what arrives.
    pub kernel_stamps: bool,
    /// Poll the device for so long in a read that finds nothing, in microseconds (`SO_BUSY_POLL`);
    /// 0 leaves it to the system. Needs a right that the process may not have.
    pub busy_poll_us: u32,
    /// Acknowledge at once instead of waiting for something to send (`TCP_QUICKACK`).
    pub quick_ack: bool,
    /// Sets the two above on a socket: the only thing here that needs a system call without a safe
    /// wrapper, so it is given by whoever may do that.
    pub prepare: Option<fn(BorrowedFd<'_>, &Self) -> io::Result<()>>,
}

/// The bytes of a connection.
#[derive(Debug)]
pub(crate) struct Wire {
    stream: TcpStream,
    deadline: Option<Instant>, // `None` once it never blocks
    stamps: Option<Vec<u8>>,   // room for control messages
    stamped_ns: u64,           // kernel's time of the bytes last read; 0 where it gives none
    quick_ack: bool,
    options: SocketOptions,
}

impl Wire {
    /// Connects to the first address that answers.
    pub(super) fn connect(
        address: &Address,
        limit: Duration,
        options: SocketOptions,
    ) -> Result<Self, NetError> {
        let mut last = io::Error::from(ErrorKind::AddrNotAvailable);
        let until = Instant::now() + limit;
        for to in address.resolve(limit)? {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                last = ErrorKind::TimedOut.into();
                break;
            }
            match TcpStream::connect_timeout(&to, left).and_then(|it| Self::prepare(it, options)) {
                Ok(wire) => return Ok(wire),
                Err(error) => last = error,
            }
        }
        Err(NetError::Connect {
            host: address.authority.clone(),
            found: last,
            limit_ms: limit.as_millis(),
        })
    }

    fn prepare(stream: TcpStream, options: SocketOptions) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        let mut stamps = None;
        if options.kernel_stamps {
            // Where the system has none, there are none: they are a luxury.
            if setsockopt(&stream, sockopt::ReceiveTimestampns, &true).is_ok() {
                stamps = Some(nix::cmsg_space!(nix::sys::time::TimeSpec));
            }
        }
        let it = Self {
            stream,
            deadline: None,
            stamps,
            stamped_ns: 0,
            quick_ack: options.quick_ack,
            options,
        };
        it.ask_kernel(&it.options)?;
        Ok(it)
    }

    fn ask_kernel(&self, options: &SocketOptions) -> io::Result<()> {
        match options.prepare {
            Some(prepare) => prepare(self.stream.as_fd(), options),
            None => Ok(()),
        }
    }

    /// Reads and writes block from now on, all of them together for at most this long.
    pub(super) fn limit(&mut self, limit: Duration) {
        self.deadline = Some(Instant::now() + limit);
    }

    /// Never blocks from now on.
    pub(super) fn settle(&mut self) -> io::Result<()> {
        self.deadline = None;
        self.stream.set_read_timeout(None)?;
        self.stream.set_write_timeout(None)?;
        self.stream.set_nonblocking(true)
    }

    /// The time until the deadline; an error where it has passed.
    fn left(&self) -> io::Result<Option<Duration>> {
        let Some(deadline) = self.deadline else { return Ok(None) };
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() { Err(ErrorKind::TimedOut.into()) } else { Ok(Some(left)) }
    }

    /// Reads together with the kernel's time stamp.
    fn read_stamped(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some(room) = &mut self.stamps else { return self.stream.read(buffer) };
        let mut pieces = [IoSliceMut::new(buffer)];
        let fd = self.stream.as_raw_fd();
        let message = recvmsg::<()>(fd, &mut pieces, Some(room), MsgFlags::empty())?;
        for control in message.cmsgs()? {
            if let ControlMessageOwned::ScmTimestampns(at) = control {
                let seconds = u64::try_from(at.tv_sec()).unwrap_or(0);
                let rest = u64::try_from(at.tv_nsec()).unwrap_or(0);
                self.stamped_ns = seconds.saturating_mul(1_000_000_000).saturating_add(rest);
            }
        }
        Ok(message.bytes)
    }
}

/// A wait that was too long, told as such: the system says `WouldBlock` for it.
fn timed_out(error: io::Error) -> io::Error {
    if error.kind() == ErrorKind::WouldBlock { ErrorKind::TimedOut.into() } else { error }
}

impl Read for Wire {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if let Some(left) = self.left()? {
            self.stream.set_read_timeout(Some(left))?;
            return self.stream.read(buffer).map_err(timed_out);
        }
        let read = self.read_stamped(buffer)?;
        if self.quick_ack && read > 0 {
            // The system forgets this one after each use.
            self.ask_kernel(&SocketOptions { busy_poll_us: 0, ..self.options })?;
        }
        Ok(read)
    }
}

impl Write for Wire {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if let Some(left) = self.left()? {
            self.stream.set_write_timeout(Some(left))?;
            return self.stream.write(bytes).map_err(timed_out);
        }
        self.stream.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The bytes of a connection, as the WebSocket sees them.
#[derive(Debug)]
pub(crate) enum Stream {
    /// In plain text, on this host.
    Plain(Wire),
    /// Encrypted.
    Encrypted(Box<StreamOwned<ClientConnection, Wire>>),
}

impl Stream {
    /// Connects and, where the address wants it, shakes hands for encryption.
    pub(super) fn open(
        address: &Address,
        limit: Duration,
        options: SocketOptions,
        tls: &Tls,
    ) -> Result<Self, NetError> {
        let mut wire = Wire::connect(address, limit, options)?;
        wire.limit(limit);
        if !address.encrypted {
            return Ok(Self::Plain(wire));
        }
        let mut client = tls.client(&address.host)?;
        while client.is_handshaking() {
            client.complete_io(&mut wire).map_err(|found| NetError::Tls {
                host: address.authority.clone(),
                found: if found.kind() == ErrorKind::TimedOut {
                    format!("no answer within {} ms", limit.as_millis())
                } else {
                    found.to_string()
                },
            })?;
        }
        Ok(Self::Encrypted(Box::new(StreamOwned::new(client, wire))))
    }

    pub(super) fn wire(&mut self) -> &mut Wire {
        match self {
            Self::Plain(wire) => wire,
            Self::Encrypted(stream) => &mut stream.sock,
        }
    }

    pub(super) fn fd(&self) -> RawFd {
        match self {
            Self::Plain(wire) => wire.stream.as_raw_fd(),
            Self::Encrypted(stream) => stream.sock.stream.as_raw_fd(),
        }
    }

    /// When the kernel received the bytes last read, in nanoseconds since 1970; 0 where unknown.
    pub(super) const fn stamped_ns(&self) -> u64 {
        match self {
            Self::Plain(wire) => wire.stamped_ns,
            Self::Encrypted(stream) => stream.sock.stamped_ns,
        }
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(wire) => wire.read(buffer),
            Self::Encrypted(stream) => stream.read(buffer),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(wire) => wire.write(bytes),
            Self::Encrypted(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(wire) => wire.flush(),
            Self::Encrypted(stream) => stream.flush(),
        }
    }
}
