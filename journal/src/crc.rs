//! CRC32C, by the processor's instruction where it has one.
//!
//! The seed of a frame is the checksum of the frame before it, so frames form a chain. For frames of
//! a length known at compile time [`Words`] computes the checksum from values that are still in
//! registers; everything else goes through the `crc32c` crate.

/// CRC32C of `bytes`.
#[must_use]
pub fn crc32c(bytes: &[u8]) -> u32 {
    crc32c::crc32c(bytes)
}

/// CRC32C of what gave `seed`, followed by `bytes`.
#[must_use]
pub fn crc32c_append(seed: u32, bytes: &[u8]) -> u32 {
    crc32c::crc32c_append(seed, bytes)
}

/// Whether this processor has the CRC32C instruction. Asked once per writer.
pub(crate) fn has_instruction() -> bool {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    {
        is_x86_feature_detected!("sse4.2")
    }
    #[cfg(not(all(target_arch = "x86_64", not(miri))))]
    {
        false
    }
}
