//! A last word when a mapped page cannot be had.

use std::os::fd::RawFd;
use std::sync::atomic::{AtomicI32, Ordering};

static DESCRIPTOR: AtomicI32 = AtomicI32::new(-1);

/// Installs a handler for SIGBUS that writes one line to `fd` and aborts. It never continues.
///
/// SIGBUS means that a mapped page could not be had: the file was truncated by another process, the
/// file system found no space, or the memory is broken. `fd` must stay open for the life of the
/// process; standard error will do.
///
/// # Errors
/// What `sigaction` says.
pub fn install_sigbus_handler(fd: RawFd) -> std::io::Result<()> {
    DESCRIPTOR.store(fd, Ordering::SeqCst);
    let handler: extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void) = on_sigbus;
    // SAFETY: an all-zero sigaction is a valid one: no flags, empty mask, default handler.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = handler as usize;
    action.sa_flags = libc::SA_SIGINFO | libc::SA_RESETHAND;
    // SAFETY: `action` is initialised, its handler has the signature that SA_SIGINFO asks for and is
    // async-signal-safe; the old action is not wanted.
    let rc = unsafe { libc::sigaction(libc::SIGBUS, &raw const action, std::ptr::null_mut()) };
    if rc == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
}

/// Async-signal-safe: reads atomics, formats into the stack, `write`, `abort`.
extern "C" fn on_sigbus(_: libc::c_int, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
    let (code, address) = if info.is_null() {
        (0, 0)
    } else {
        // SAFETY: with SA_SIGINFO the kernel passes a valid siginfo; for SIGBUS it has an address.
        unsafe { ((*info).si_code, (*info).si_addr() as usize) }
    };
    let why: &[u8] = match code {
        libc::BUS_ADRERR => b"no page behind the address: file truncated, or file system full",
        libc::BUS_MCEERR_AR | libc::BUS_MCEERR_AO => b"memory hardware error",
        _ => b"unknown code",
    };
    let mut line = [0_u8; 160];
    let mut at = 0;
    for part in [&b"kairos: SIGBUS in a mapped file: "[..], why, &b", address 0x"[..]] {
        for byte in part {
            if let Some(place) = line.get_mut(at) {
                *place = *byte;
                at += 1;
            }
        }
    }
    for shift in (0..16).rev() {
        let digit = address >> (shift * 4) & 15;
        if let (Some(place), Some(byte)) = (line.get_mut(at), b"0123456789abcdef".get(digit)) {
            *place = *byte;
            at += 1;
        }
    }
    if let Some(place) = line.get_mut(at) {
        *place = b'\n';
        at += 1;
    }
    // SAFETY: `line` has at least `at` bytes; a bad descriptor only makes the call fail. `abort` is
    // async-signal-safe and does not return.
    unsafe {
        libc::write(DESCRIPTOR.load(Ordering::Relaxed), line.as_ptr().cast(), at);
        libc::abort();
    }
}
