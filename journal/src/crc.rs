//! CRC32C, by the processor's instruction where it has one.
//!
//! The seed of a frame is the checksum of the frame before it, so frames form a chain. For frames of
//! a length known at compile time [`fixed`] computes the checksum from values that are still in
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

/// Whether this processor has what [`fixed`] needs. Asked once per writer.
pub(crate) fn has_instructions() -> bool {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    {
        is_x86_feature_detected!("sse4.2") && is_x86_feature_detected!("pclmulqdq")
    }
    #[cfg(not(all(target_arch = "x86_64", not(miri))))]
    {
        false
    }
}

/// The checksum of a frame whose extension and payload have fixed lengths, `P` a multiple of 8.
///
/// A chained checksum is a dependency from frame to frame, and within a frame from word to word. A
/// CRC is linear, so both are cut: head with extension, and payload, are summed from zero beside each
/// other; the seed and the first sum are then moved over the bytes that follow them and added.
#[cfg(target_arch = "x86_64")]
#[inline]
#[target_feature(enable = "sse4.2,pclmulqdq")]
#[expect(clippy::cast_possible_truncation, reason = "the instruction leaves the upper half zero")]
pub(crate) fn fixed<const E: usize, const P: usize>(
    prev: u32,
    len: u32,
    head: [u64; 3],
    ext: &[u64; E],
    payload: &[u8; P],
) -> u32 {
    use core::arch::x86_64::{_mm_crc32_u32, _mm_crc32_u64};
    let mut front = u64::from(_mm_crc32_u32(0, len));
    for word in head {
        front = _mm_crc32_u64(front, word);
    }
    for word in ext {
        front = _mm_crc32_u64(front, *word);
    }
    let mut back = 0;
    for word in payload.as_chunks::<8>().0 {
        back = _mm_crc32_u64(back, u64::from_le_bytes(*word));
    }
    for _ in 0..const { padding(E, P) / 8 } {
        back = _mm_crc32_u64(back, 0);
    }
    let behind_front = const { shift_factor(P + padding(E, P)) };
    let behind_seed = const { shift_factor(28 + E * 8 + P + padding(E, P)) };
    let moved = shift(front as u32, behind_front) ^ shift(!prev, behind_seed);
    !(back as u32 ^ moved)
}

/// Zeros behind a frame of `ext` words and `payload` bytes.
const fn padding(ext: usize, payload: usize) -> usize {
    let len = 32 + ext * 8 + payload;
    len.next_multiple_of(32) - len
}

/// Moves a sum over as many bytes as `factor` stands for: a carry-less product, then reduced.
#[cfg(target_arch = "x86_64")]
#[inline]
#[target_feature(enable = "sse4.2,pclmulqdq")]
#[expect(clippy::cast_possible_truncation, reason = "the instruction leaves the upper half zero")]
fn shift(sum: u32, factor: u32) -> u32 {
    use core::arch::x86_64::{
        _mm_clmulepi64_si128, _mm_crc32_u64, _mm_cvtsi32_si128, _mm_cvtsi128_si64,
    };
    let sum = _mm_cvtsi32_si128(sum.cast_signed());
    let product = _mm_clmulepi64_si128::<0>(sum, _mm_cvtsi32_si128(factor.cast_signed()));
    _mm_crc32_u64(0, _mm_cvtsi128_si64(product).cast_unsigned()) as u32
}

/// x^(8 · bytes − 33) modulo the polynomial, bit-reflected; `bytes` ≥ 8. The reduction by the
/// instruction and the reflected product account for the 33.
const fn shift_factor(bytes: usize) -> u32 {
    let mut value: u32 = 0x8000_0000; // x^0
    let mut power = bytes * 8 - 33;
    while power > 0 {
        value = (value >> 1) ^ if value & 1 == 1 { 0x82f6_3b78 } else { 0 };
        power -= 1;
    }
    value
}

#[cfg(all(test, target_arch = "x86_64", not(miri)))]
mod tests {
    use super::*;
    use crate::codec::{Frame, aligned, encode, meta};

    #[expect(clippy::cast_possible_truncation, reason = "any bytes will do; lengths are small")]
    fn check<const E: usize, const P: usize>(fill: u64) {
        let ext: [u64; E] = std::array::from_fn(|at| fill.wrapping_mul(at as u64 + 3));
        let payload: [u8; P] = std::array::from_fn(|at| (fill >> (at % 57)) as u8 ^ at as u8);
        let frame =
            Frame { ts: !fill, kind: 0x101, schema: 3, lane: 9, ext: &ext, payload: &payload };
        let len = 32 + E * 8 + P;
        let mut bytes = vec![0xff; aligned(len)];
        let (prev, seq) = (fill as u32 ^ 0x1234, fill / 3);
        let expected = encode(&mut bytes, prev, seq, &frame);
        let head = [seq, !fill, meta(0x101, 3, 0, 9, E as u8)];
        // SAFETY: the caller has asked `has_instructions`.
        let found = unsafe { fixed(prev, len as u32, head, &ext, &payload) };
        assert_eq!(found, expected, "{E} words, {P} bytes, {fill:#x}");
    }

    #[test]
    fn codec_instructions_agree_with_the_portable_sum() {
        if !has_instructions() {
            println!("skipped: no SSE4.2 or PCLMULQDQ");
            return;
        }
        for fill in [0, 1, u64::MAX, 0x0123_4567_89ab_cdef, 1 << 63, 0x5555_5555_5555_5555] {
            check::<0, 64>(fill);
            check::<1, 64>(fill);
            check::<2, 64>(fill);
            check::<3, 64>(fill);
            check::<4, 64>(fill);
            check::<0, 8>(fill);
            check::<4, 128>(fill);
            check::<2, 112>(fill);
            check::<0, 4096>(fill);
        }
    }
}
