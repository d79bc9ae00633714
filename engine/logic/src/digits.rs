//! Decimal digits eight at a time.
//!
//! Eight bytes of text are one word. Their number, and the text of a number, take three
//! multiplications; a loop over bytes takes a step for each digit and guesses where they end, and
//! prices and quantities end where nobody can guess.

/// The text `00000000` as a word.
pub const ZEROS: u64 = 0x3030_3030_3030_3030;

/// How many bytes of the text are digits before the first that is none: in 0..=8.
#[must_use]
#[inline]
pub const fn count(text: [u8; 8]) -> usize {
    const HIGH: u64 = 0x8080_8080_8080_8080;
    let offsets = u64::from_le_bytes(text) ^ ZEROS;
    // A digit's offset is below ten, and only from ten on does the sum reach the high bit. What it
    // carries spoils bytes behind the one that carried, which is no digit.
    let others = (offsets.wrapping_add(0x7676_7676_7676_7676) | offsets) & HIGH;
    (others.trailing_zeros() / 8) as usize
}

/// The number that the first `len` bytes of the text are, all of them digits; 0 where `len` is 0.
#[must_use]
#[inline]
#[expect(clippy::cast_possible_truncation, reason = "len is at most 8")]
pub const fn read(text: [u8; 8], len: usize) -> u64 {
    // The digits go to the end of the word, so that zeros stand before them.
    let offsets = u64::from_le_bytes(text) & 0x0f0f_0f0f_0f0f_0f0f;
    let digits = match offsets.checked_shl(64 - 8 * len as u32) {
        Some(digits) => digits,
        None => 0,
    };
    let pairs = (digits.wrapping_mul((10 << 8) | 1) >> 8) & 0x00ff_00ff_00ff_00ff;
    let fours = (pairs.wrapping_mul((100 << 16) | 1) >> 16) & 0x0000_ffff_0000_ffff;
    fours.wrapping_mul((10_000 << 32) | 1) >> 32
}

/// Whether the bytes of the text from `from` to `to` are zeros. `from` is at most `to`, which is at
/// most 8.
#[must_use]
#[inline]
#[expect(clippy::cast_possible_truncation, reason = "to is at most 8")]
pub const fn are_zeros(text: [u8; 8], from: usize, to: usize) -> bool {
    let offsets = u64::from_le_bytes(text) ^ ZEROS;
    let before = match offsets.checked_shl(64 - 8 * to as u32) {
        Some(before) => before,
        None => 0,
    };
    match before.checked_shr(64 - 8 * (to - from) as u32) {
        Some(0) | None => true,
        Some(_) => false,
    }
}

/// The eight digits of a number below 10^8, those before its first one zeros, each as a number in a
/// byte of its own: the first digit in the lowest byte. With [`ZEROS`] added it is text.
#[must_use]
#[inline]
pub const fn write(number: u64) -> u64 {
    // Halves, pairs, digits: each step parts every lane in two by a multiplication that divides.
    let halves = (number / 10_000) | ((number % 10_000) << 32);
    let hundreds = ((halves * 10_486) >> 20) & 0x0000_007f_0000_007f;
    let pairs = hundreds | ((halves - hundreds * 100) << 16);
    let tens = ((pairs * 103) >> 10) & 0x000f_000f_000f_000f;
    tens | ((pairs - tens * 10) << 8)
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::format;
    use alloc::string::{String, ToString};
    use proptest::prelude::*;

    #[test]
    fn every_byte_is_a_digit_or_not_wherever_it_stands() {
        for place in 0..8 {
            for byte in 0..=u8::MAX {
                let mut text = *b"90909090";
                text[place] = byte;
                let want = if byte.is_ascii_digit() { 8 } else { place };
                assert_eq!(count(text), want, "{byte:#x} at {place}");
                // And what stands behind it changes nothing.
                text[7] = 0xff;
                assert_eq!(count(text), want.min(7), "{byte:#x} at {place}");
            }
        }
    }

    proptest! {
        #[test]
        fn a_number_is_read_as_the_library_reads_it(text in "[0-9]{8}", len in 0_usize..=8) {
            let word: [u8; 8] = text.as_bytes().try_into().unwrap();
            prop_assert_eq!(read(word, len), text[..len].parse().unwrap_or(0));
        }

        #[test]
        fn what_stands_behind_a_number_is_not_read(
            text in "[0-9]{0,7}", behind in any::<[u8; 8]>(),
        ) {
            let mut word = behind;
            word[..text.len()].copy_from_slice(text.as_bytes());
            prop_assert_eq!(read(word, text.len()), text.parse().unwrap_or(0));
            prop_assert!(count(word) >= text.len());
        }

        #[test]
        fn zeros_are_zeros(text in "[0-2]{8}", a in 0_usize..=8, b in 0_usize..=8) {
            let (from, to) = (a.min(b), a.max(b));
            let word: [u8; 8] = text.as_bytes().try_into().unwrap();
            let want = text[from..to].bytes().all(|byte| byte == b'0');
            prop_assert_eq!(are_zeros(word, from, to), want);
        }

        #[test]
        fn a_number_is_written_as_the_library_writes_it(number in 0_u64..100_000_000, shift in 0_u32..27) {
            for number in [number, number >> shift, 99_999_999 - (number >> shift)] {
                let text = (write(number) + ZEROS).to_le_bytes();
                prop_assert_eq!(String::from_utf8(text.to_vec()).unwrap(), format!("{number:08}"));
                let zeros = number.to_string().len();
                prop_assert_eq!(count(text), 8);
                prop_assert!(are_zeros(text, 0, 8 - zeros));
            }
        }
    }
}
