//! A last word when a mapped page cannot be had.

use std::os::fd::RawFd;
use std::sync::atomic::{AtomicI32, AtomicU64, AtomicUsize, Ordering};

static DESCRIPTOR: AtomicI32 = AtomicI32::new(-1);
/// The last `seq` of the newest journal in this process, at its last roll or flush.
static LAST_SEQ: AtomicU64 = AtomicU64::new(0);
/// More than a keeper holds unsealed. A segment without a place is reported by address alone.
const PLACES: usize = 64;
static PLACE: [Place; PLACES] = [const { Place::empty() }; PLACES];

/// One mapped segment, for the handler to find an address in.
struct Place {
    base: AtomicUsize, // 0: free
    len: AtomicUsize,
    segment: AtomicU64,
}

impl Place {
    const fn empty() -> Place {
        Place { base: AtomicUsize::new(0), len: AtomicUsize::new(0), segment: AtomicU64::new(0) }
    }
}

/// Makes a mapping known to the handler until dropped, or until a segment 64 numbers later comes.
#[derive(Debug)]
pub(crate) struct Known {
    base: usize,
    segment: u64,
}

impl Known {
    pub(crate) fn new(base: usize, len: usize, segment: u64) -> Known {
        let known = Known { base, segment };
        if let Some(place) = known.place() {
            place.base.store(0, Ordering::Release);
            place.len.store(len, Ordering::Relaxed);
            place.segment.store(segment, Ordering::Relaxed);
            place.base.store(base, Ordering::Release);
        }
        known
    }

    fn place(&self) -> Option<&'static Place> {
        let at = usize::try_from(self.segment % PLACES as u64).ok()?;
        PLACE.get(at)
    }
}

impl Drop for Known {
    fn drop(&mut self) {
        if let Some(place) = self.place() {
            // Not if another segment has taken the place.
            let _ = place.base.compare_exchange(self.base, 0, Ordering::AcqRel, Ordering::Relaxed);
        }
    }
}

/// What the handler will name as the last event.
pub(crate) fn note_seq(seq: u64) {
    LAST_SEQ.store(seq, Ordering::Relaxed);
}

/// Installs a handler for SIGBUS that writes one line to `fd` and aborts. It never continues.
///
/// SIGBUS means that a mapped page could not be had: the file was truncated by another process, the
/// file system found no space, or the memory is broken. The line names the reason, the segment and
/// offset if the address is one of this process's journal, and the last flushed `seq`. `fd` must
/// stay open for the life of the process; standard error will do.
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

/// A line on the stack: what a signal handler may use.
struct Line {
    bytes: [u8; 256],
    len: usize,
}

impl Line {
    fn text(&mut self, text: &[u8]) {
        for byte in text {
            if let Some(place) = self.bytes.get_mut(self.len) {
                *place = *byte;
                self.len += 1;
            }
        }
    }

    fn number(&mut self, number: u64, base: u64) {
        let mut digits = [0_u8; 20];
        let mut rest = number;
        let mut at = digits.len();
        loop {
            let digit = usize::try_from(rest % base).unwrap_or(0);
            at -= 1; // 20 digits hold any u64
            if let (Some(place), Some(digit)) = (digits.get_mut(at), b"0123456789abcdef".get(digit))
            {
                *place = *digit;
            }
            rest /= base;
            if rest == 0 || at == 0 {
                break;
            }
        }
        self.text(digits.get(at..).unwrap_or_default());
    }
}

/// Async-signal-safe: loads atomics, formats into the stack, `write`, `abort`.
extern "C" fn on_sigbus(_: libc::c_int, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
    let (code, address) = if info.is_null() {
        (0, 0)
    } else {
        // SAFETY: with SA_SIGINFO the kernel passes a valid siginfo; for SIGBUS it has an address.
        unsafe { ((*info).si_code, (*info).si_addr() as usize) }
    };
    let line = describe(code, address);
    // SAFETY: `bytes` has at least `len` bytes; a bad descriptor only makes the call fail. `abort` is
    // async-signal-safe and does not return.
    unsafe {
        libc::write(DESCRIPTOR.load(Ordering::Relaxed), line.bytes.as_ptr().cast(), line.len);
        libc::abort();
    }
}

fn describe(code: i32, address: usize) -> Line {
    let mut line = Line { bytes: [0; 256], len: 0 };
    line.text(b"kairos: SIGBUS: ");
    line.text(match code {
        libc::BUS_ADRERR => b"no page behind the address, file truncated or file system full",
        libc::BUS_MCEERR_AR | libc::BUS_MCEERR_AO => b"memory hardware error",
        _ => b"unknown code",
    });
    line.text(b"; address 0x");
    line.number(address as u64, 16);
    for place in &PLACE {
        let base = place.base.load(Ordering::Acquire);
        let offset = address.wrapping_sub(base);
        if base != 0 && offset < place.len.load(Ordering::Relaxed) {
            line.text(b", journal segment ");
            line.number(place.segment.load(Ordering::Relaxed), 10);
            line.text(b" offset ");
            line.number(offset as u64, 10);
        }
    }
    line.text(b", last flushed seq ");
    line.number(LAST_SEQ.load(Ordering::Relaxed), 10);
    line.text(b"\n");
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_names_reason_segment_and_offset() {
        let known = Known::new(0x7000_0000, 0x10_000, 42);
        let text = |code, address| {
            let line = describe(code, address);
            String::from_utf8(line.bytes[..line.len].to_vec()).unwrap()
        };
        let found = text(libc::BUS_ADRERR, 0x7000_2000);
        assert!(found.contains("file truncated"), "{found}");
        assert!(found.contains("address 0x70002000, journal segment 42 offset 8192"), "{found}");
        let found = text(libc::BUS_MCEERR_AR, 0x6fff_ffff);
        assert!(found.contains("hardware") && !found.contains("segment"), "{found}");
        drop(known);
        assert!(!text(libc::BUS_ADRERR, 0x7000_2000).contains("segment"));
        assert!(
            text(0, 0).ends_with(" 0x0, last flushed seq 0\n")
                || LAST_SEQ.load(Ordering::Relaxed) > 0
        );
    }
}
