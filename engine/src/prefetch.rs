//! Asks for cache lines before they are needed.
//!
//! A ring is larger than the caches near a core, so the slot that is published next was last touched a
//! ring ago. Whoever reads it at once, on the same thread or across, then waits for a line from far
//! away. Asked for one publication earlier, it is there.

#![cfg_attr(
    target_arch = "x86_64",
    expect(unsafe_code, reason = "a hint without effect; see SAFETY")
)]

/// Asks for the lines of what stands in memory behind `slot`, to be written soon. Nothing is asked for
/// behind slots that share a line: their consumer is about to take it.
///
/// It is a hint: behind the last slot of an array, nothing is read and nothing can fault.
#[inline]
pub(crate) fn next_of<T>(slot: &T) {
    #[cfg(target_arch = "x86_64")]
    {
        use core::arch::x86_64::{_MM_HINT_ET0, _mm_prefetch};
        const LINE: usize = 64;
        if const { !size_of::<T>().is_multiple_of(LINE) } {
            return;
        }
        let next = (&raw const *slot).wrapping_add(1).cast::<i8>();
        for line in 0..const { size_of::<T>() / LINE } {
            // SAFETY: every x86-64 processor has the instruction; it accesses nothing and faults at no
            // address.
            unsafe { _mm_prefetch::<_MM_HINT_ET0>(next.wrapping_add(line * LINE)) };
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _no_hint = slot;
}
