//! An allocator that counts: allocations of the asking thread, and of the whole process.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};

/// The system's allocator, with a count of what it was asked for.
pub(crate) struct Counting;

static ALL: AtomicU64 = AtomicU64::new(0);

thread_local! {
    // Without destructor and without lazy initialisation: safe to touch from inside the allocator.
    static MINE: Cell<u64> = const { Cell::new(0) };
}

/// Allocations and reallocations of the calling thread so far.
pub(crate) fn of_this_thread() -> u64 {
    MINE.with(Cell::get)
}

/// Allocations and reallocations of all threads so far.
pub(crate) fn of_all_threads() -> u64 {
    ALL.load(Ordering::Relaxed)
}

fn count() {
    ALL.fetch_add(1, Ordering::Relaxed);
    MINE.with(|it| it.set(it.get() + 1));
}

// SAFETY: every call goes to the system's allocator unchanged; counting touches no heap memory.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's promise about `layout` is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        // SAFETY: `ptr` came from `alloc` above, which is the system's, with this layout.
        unsafe { System.dealloc(ptr, layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's promise about `layout` is passed on.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        count();
        // SAFETY: `ptr` came from the system's allocator with this layout; the caller vouches for
        // the new size.
        unsafe { System.realloc(ptr, layout, new_size) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_allocation_is_counted_once_and_a_read_is_none() {
        let before = of_this_thread();
        let boxed = std::hint::black_box(Box::new(7_u64));
        assert_eq!(of_this_thread() - before, 1);
        drop(boxed);
        assert_eq!(of_this_thread() - before, 1);
        assert!(of_all_threads() > 0);
    }
}
