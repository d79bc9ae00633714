//! Threads and memory of the host: pinning with read-back, locking, liveness of other threads.
//!
//! One of the three places in this package with `unsafe` (with `sockets` and `prefetch`): each use is a
//! plain system call through `libc`.

use std::io;
use std::mem;

/// CPUs that this process may use, ascending, by the kernel's numbers.
///
/// # Errors
/// What the kernel says.
pub fn usable_cpus() -> io::Result<Vec<u16>> {
    affinity_of(0)
}

/// CPUs that the thread with this kernel id may use; 0 is the calling thread.
///
/// # Errors
/// What the kernel says; `ESRCH` where the thread has ended.
pub fn affinity_of(thread: i32) -> io::Result<Vec<u16>> {
    // SAFETY: `cpu_set_t` is a plain bit array for which all-zero is a valid, empty value.
    let mut set: libc::cpu_set_t = unsafe { mem::zeroed() };
    // SAFETY: `set` is a valid, exclusively borrowed cpu_set_t and the size passed is its own.
    let status = unsafe { libc::sched_getaffinity(thread, mem::size_of_val(&set), &raw mut set) };
    if status != 0 {
        return Err(io::Error::last_os_error());
    }
    let limit = u16::try_from(libc::CPU_SETSIZE).unwrap_or(u16::MAX);
    Ok((0..limit)
        // SAFETY: `cpu` is below CPU_SETSIZE, so CPU_ISSET reads inside `set`.
        .filter(|&cpu| unsafe { libc::CPU_ISSET(usize::from(cpu), &set) })
        .collect())
}

/// Why a thread does not run where it should.
#[derive(Debug, thiserror::Error)]
pub enum PinError {
    /// The kernel refused the mask.
    #[error(
        "thread {thread}: CPU {cpu} refused by the kernel; it may be offline or outside the cgroup's cpuset"
    )]
    Refused {
        /// Name of the thread.
        thread: String,
        /// The wanted CPU.
        cpu: u16,
    },
    /// The mask read back is another one.
    #[error(
        "thread {thread}: pinned to CPU {cpu}, but its mask reads {found:?} and it runs on CPU {running}"
    )]
    ReadBack {
        /// Name of the thread.
        thread: String,
        /// The wanted CPU.
        cpu: u16,
        /// The mask.
        found: Vec<u16>,
        /// Where it runs.
        running: i32,
    },
}

/// Pins the calling thread to `cpu` and reads mask and CPU back.
///
/// By the kernel's number, not through the crate's list of cores: isolated CPUs are not in that list.
///
/// # Errors
/// [`PinError`]; the engine must not start then.
pub fn pin_current(thread: &str, cpu: u16) -> Result<(), PinError> {
    if !core_affinity::set_for_current(core_affinity::CoreId { id: usize::from(cpu) }) {
        return Err(PinError::Refused { thread: thread.to_owned(), cpu });
    }
    let found = affinity_of(0).unwrap_or_default();
    // SAFETY: takes no arguments and touches no memory of ours.
    let running = unsafe { libc::sched_getcpu() };
    if found != [cpu] || running != i32::from(cpu) {
        return Err(PinError::ReadBack { thread: thread.to_owned(), cpu, found, running });
    }
    Ok(())
}

/// The kernel's id of the calling thread, for [`affinity_of`] from another thread.
#[must_use]
pub fn thread_id() -> i32 {
    // SAFETY: takes no arguments, cannot fail and touches no memory of ours.
    unsafe { libc::gettid() }
}

/// Lets the calling thread, and the threads it starts, use these CPUs.
///
/// # Errors
/// What the kernel says; `EINVAL` where none of them exists.
pub fn confine_current(cpus: &[u16]) -> io::Result<()> {
    // SAFETY: `cpu_set_t` is a plain bit array for which all-zero is a valid, empty value.
    let mut set: libc::cpu_set_t = unsafe { mem::zeroed() };
    for &cpu in cpus {
        if i32::from(cpu) < libc::CPU_SETSIZE {
            // SAFETY: `cpu` is below CPU_SETSIZE, so CPU_SET writes inside `set`.
            unsafe { libc::CPU_SET(usize::from(cpu), &mut set) };
        }
    }
    // SAFETY: `set` is a valid cpu_set_t and the size passed is its own.
    let status = unsafe { libc::sched_setaffinity(0, mem::size_of_val(&set), &raw const set) };
    if status == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Ends the process at once with this status: no destructors, no exit handlers, nothing flushed.
/// What must survive is in mapped files, which the kernel keeps.
pub fn end_process(status: i32) -> ! {
    // SAFETY: takes a number and never returns; no memory of ours is used afterwards.
    unsafe { libc::_exit(status) }
}

/// Why memory is not locked, with the limit to raise.
#[derive(Debug, thiserror::Error)]
#[error(
    "memory is not locked ({reason}): RLIMIT_MEMLOCK is {limit} and the engine needs all its memory \
     resident; raise it (systemd: LimitMEMLOCK=infinity; shell: ulimit -l unlimited)"
)]
pub struct LockError {
    reason: io::Error,
    limit: String,
}

/// Locks present and future memory of the process, page by page as it is touched.
///
/// On fault, because locking whole stacks and segments at once would touch gigabytes: rings are
/// touched when they are built and segments are populated before use.
///
/// # Errors
/// [`LockError`] with the limit in force.
pub fn lock_memory() -> Result<(), LockError> {
    let flags = libc::MCL_CURRENT | libc::MCL_FUTURE | libc::MCL_ONFAULT;
    // A limit that is too small makes later mappings fail at random: then do not lock at all.
    let limit = memlock_limit();
    if limit.is_some_and(|bytes| bytes < LOCK_LIMIT_MIN) && !is_root() {
        return Err(LockError {
            reason: io::Error::other(format!("less than {} MiB allowed", LOCK_LIMIT_MIN >> 20)),
            limit: limit_text(limit),
        });
    }
    // SAFETY: takes flags only and touches no memory of ours.
    if unsafe { libc::mlockall(flags) } == 0 {
        return Ok(());
    }
    Err(LockError { reason: io::Error::last_os_error(), limit: limit_text(limit) })
}

/// Rings of 65 536 slots (16 MiB), three mapped segments of 256 MiB and stacks, rounded up.
const LOCK_LIMIT_MIN: u64 = 1 << 30;

fn is_root() -> bool {
    // SAFETY: takes no arguments, cannot fail and touches no memory of ours.
    unsafe { libc::geteuid() == 0 }
}

fn memlock_limit() -> Option<u64> {
    // SAFETY: `rlimit` is plain data for which all-zero is valid.
    let mut limit: libc::rlimit = unsafe { mem::zeroed() };
    // SAFETY: `limit` is a valid, exclusively borrowed rlimit.
    let status = unsafe { libc::getrlimit(libc::RLIMIT_MEMLOCK, &raw mut limit) };
    (status == 0 && limit.rlim_cur != libc::RLIM_INFINITY).then_some(limit.rlim_cur)
}

fn limit_text(limit: Option<u64>) -> String {
    limit.map_or_else(|| "unlimited".to_owned(), |bytes| format!("{} KiB", bytes >> 10))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_runs_where_it_was_pinned_and_an_absent_cpu_is_refused() {
        let usable = usable_cpus().unwrap();
        let cpu = *usable.last().unwrap();
        std::thread::spawn(move || {
            pin_current("test", cpu).unwrap();
            assert_eq!(affinity_of(thread_id()).unwrap(), [cpu]);
            let error = pin_current("test", 1_000).unwrap_err();
            assert!(error.to_string().contains("CPU 1000"), "{error}");
        })
        .join()
        .unwrap();
    }
}
