//! Options of sockets for which no safe wrapper exists.

#![expect(unsafe_code, reason = "setsockopt of two options; see SAFETY")]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use kairos_adapters::net::SocketOptions;

/// Sets what a venue's section asks of its sockets: `SO_BUSY_POLL`, `TCP_QUICKACK`.
///
/// # Errors
/// What the system says. Busy polling beyond the system's own setting (`net.core.busy_poll`) needs
/// `CAP_NET_ADMIN`.
pub(crate) fn prepare(socket: BorrowedFd<'_>, options: &SocketOptions) -> io::Result<()> {
    if options.busy_poll_us > 0 {
        let us = i32::try_from(options.busy_poll_us).unwrap_or(i32::MAX);
        set(socket, libc::SOL_SOCKET, libc::SO_BUSY_POLL, us)?;
    }
    if options.quick_ack {
        set(socket, libc::IPPROTO_TCP, libc::TCP_QUICKACK, 1)?;
    }
    Ok(())
}

fn set(socket: BorrowedFd<'_>, level: i32, option: i32, value: i32) -> io::Result<()> {
    let size = libc::socklen_t::try_from(size_of::<i32>()).expect("four fits");
    // SAFETY: the descriptor is open while it is borrowed; the value is an int that lives across
    // the call, and its size is given.
    let result = unsafe {
        libc::setsockopt(socket.as_raw_fd(), level, option, (&raw const value).cast(), size)
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
