//! Times as RFC 3339 writes them: `2026-08-09T21:05:48.228568804Z`.
//!
//! Days are counted as in H. Hinnant, "chrono-Compatible Low-Level Date Algorithms": years begin in
//! March there, so that the leap day is their last.

use kairos_logic::units::{Nanos, POW10};

use crate::session::Fault;

/// What programs write that have no time to tell: the first second of year 1.
const NO_TIME: &[u8; 19] = b"0001-01-01T00:00:00";
/// Days from 0000-03-01 to 1970-01-01.
const EPOCH_DAYS: u64 = 719_468;

/// Reads the time in UTC that `text` begins with, with 0 to 9 decimals of its second, and hands
/// back what follows its `Z`. From 1970 to 2554, what 64 bits of nanoseconds hold; the first second
/// of year 1 is [`Nanos`] 0: no time. `None` for anything else, leap seconds among it.
#[inline]
pub(crate) fn take_time(text: &[u8]) -> Option<(Nanos, &[u8])> {
    let (head, rest) = text.split_first_chunk::<19>()?;
    let (fraction, rest) = take_fraction(rest)?;
    let rest = rest.strip_prefix(b"Z")?;
    let seconds = seconds(head)?;
    if seconds == 0 && head == NO_TIME {
        return (fraction == 0).then_some((Nanos(0), rest));
    }
    let nanos = seconds.checked_mul(1_000_000_000)?.checked_add(fraction)?;
    Some((Nanos(nanos), rest))
}

/// Reads a whole text as [`take_time`] does.
pub(crate) fn parse_time(text: &str) -> Result<Nanos, Fault> {
    match take_time(text.as_bytes()) {
        Some((time, [])) => Ok(time),
        Some(_) | None => Err(Fault::Time),
    }
}

/// `.` and 1 to 9 digits, or nothing: nanoseconds.
#[inline]
fn take_fraction(text: &[u8]) -> Option<(u64, &[u8])> {
    let Some(mut rest) = text.strip_prefix(b".") else {
        return Some((0, text));
    };
    let (mut value, mut digits) = (0_u64, 0_usize);
    while let [byte @ b'0'..=b'9', tail @ ..] = rest {
        value = value.wrapping_mul(10).wrapping_add(u64::from(byte & 15));
        digits += 1;
        rest = tail;
    }
    if digits == 0 {
        return None;
    }
    let missing = 9_usize.checked_sub(digits)?;
    Some((value * POW10.get(missing)?.unsigned_abs(), rest))
}

/// Seconds since 1970; 0 for [`NO_TIME`].
#[inline]
fn seconds(head: &[u8; 19]) -> Option<u64> {
    let [y0, y1, y2, y3, b'-', m0, m1, b'-', d0, d1, b'T', h0, h1, b':', n0, n1, b':', s0, s1] =
        *head
    else {
        return None;
    };
    let mut strange = false;
    let mut two = |tens: u8, ones: u8| {
        let (tens, ones) = (tens.wrapping_sub(b'0'), ones.wrapping_sub(b'0'));
        strange |= tens > 9 || ones > 9;
        u64::from(tens) * 10 + u64::from(ones)
    };
    let (year, month, day) = (two(y0, y1) * 100 + two(y2, y3), two(m0, m1), two(d0, d1));
    let (hour, minute, second) = (two(h0, h1), two(n0, n1), two(s0, s1));
    if strange || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let last = match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        4 | 6 | 9 | 11 => 30,
        2 => 28 + u64::from(leap),
        _ => return None,
    };
    if day < 1 || day > last {
        return None;
    }
    if year < 1970 {
        return (head == NO_TIME).then_some(0);
    }
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let (century, of_century) = (year / 400, year % 400);
    let of_year = (153 * month + 2) / 5 + day - 1;
    let days = century * 146_097 + of_century * 365 + of_century / 4 - of_century / 100 + of_year;
    Some((days - EPOCH_DAYS) * 86_400 + hour * 3_600 + minute * 60 + second)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Every day that 64 bits hold, counted one by one: an odometer, not a formula.
    fn calendar() -> impl Iterator<Item = (u64, (u64, u64, u64))> {
        let (mut year, mut month, mut day) = (1970, 1, 0);
        (0..=u64::MAX / 1_000_000_000 / 86_400).map(move |days| {
            let leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
            let february = if leap { 29 } else { 28 };
            let lengths = [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
            day += 1;
            if day > lengths[month - 1] {
                (month, day) = (month + 1, 1);
            }
            if month > 12 {
                (year, month) = (year + 1, 1);
            }
            (days, (year, month as u64, day))
        })
    }

    fn date_of(days: u64) -> (u64, u64, u64) {
        calendar().nth(usize::try_from(days).unwrap()).unwrap().1
    }

    /// The whole text of a time, with so many decimals.
    fn write(nanos: u64, decimals: usize) -> String {
        let (seconds, fraction) = (nanos / 1_000_000_000, nanos % 1_000_000_000);
        let (year, month, day) = date_of(seconds / 86_400);
        let (hour, minute, second) = (seconds / 3_600 % 24, seconds / 60 % 60, seconds % 60);
        let text = format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}");
        let fraction = &format!(".{fraction:09}")[..if decimals == 0 { 0 } else { decimals + 1 }];
        format!("{text}{fraction}Z")
    }

    #[test]
    fn every_day_that_can_be_told_is_read() {
        let mut last = 0;
        for (days, (year, month, day)) in calendar() {
            let text = format!("{year:04}-{month:02}-{day:02}T00:00:00Z");
            assert_eq!(parse_time(&text), Ok(Nanos(days * 86_400 * 1_000_000_000)), "{text}");
            last = days;
        }
        assert_eq!(date_of(last), (2554, 7, 21));
    }

    #[test]
    fn every_date_that_is_none_is_refused() {
        // Month 0 to 14, day 0 to 33, in years of each kind.
        for year in [1970, 1999, 2000, 2023, 2024, 2100, 2400] {
            let known: Vec<_> = calendar()
                .map(|(_, date)| date)
                .skip_while(|date| date.0 < year)
                .take_while(|date| date.0 == year)
                .collect();
            for (month, day) in (0..15).flat_map(|month| (0..34).map(move |day| (month, day))) {
                let text = format!("{year:04}-{month:02}-{day:02}T23:59:59.5Z");
                let wanted = known.contains(&(year, month, day));
                assert_eq!(parse_time(&text).is_ok(), wanted, "{text}");
            }
        }
    }

    #[test]
    fn texts_that_are_no_times_are_refused() {
        let check = |text: &str, want: Result<u64, Fault>| {
            assert_eq!(parse_time(text), want.map(Nanos), "{text}");
        };
        check("1970-01-01T00:00:00Z", Ok(0));
        check("0001-01-01T00:00:00Z", Ok(0));
        check("0001-01-01T00:00:00.000000Z", Ok(0));
        check("2554-07-21T23:34:33.709551615Z", Ok(u64::MAX));
        for text in [
            "2554-07-21T23:34:33.709551616Z",
            "2554-07-21T23:34:34Z",
            "9999-12-31T23:59:59Z",
            "0001-01-01T00:00:00.1Z",
            "0001-01-01T00:00:01Z",
            "1969-12-31T23:59:59Z",
            "2026-08-09T24:00:00Z",
            "2026-08-09T23:60:00Z",
            "2016-12-31T23:59:60Z",
            "2026-08-09T21:05:48.Z",
            "2026-08-09T21:05:48.0000000000Z",
            "2026-08-09T21:05:48",
            "2026-08-09T21:05:48+00:00",
            "2026-08-09 21:05:48Z",
            "2026-08-09T21:05:48ZZ",
            "2026-8-9T21:05:48Z",
            "",
            "Z",
        ] {
            check(text, Err(Fault::Time));
        }
        assert_eq!(
            take_time(b"1970-01-01T00:00:01Z\"}"),
            Some((Nanos(1_000_000_000), &b"\"}"[..]))
        );
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_to_its_decimals(nanos: u64, decimals in 0_usize..10) {
            let step = 10_u64.pow(9 - u32::try_from(decimals).unwrap());
            let text = write(nanos, decimals);
            prop_assert_eq!(parse_time(&text), Ok(Nanos(nanos / step * step)), "{}", text);
        }

        #[test]
        fn another_byte_means_another_time_or_none(nanos in 1_000_000_000_000_000_000_u64..3_000_000_000_000_000_000, at in 0_usize..30, byte: u8) {
            let mut text = write(nanos, 9).into_bytes();
            let same = text[at] == byte;
            text[at] = byte;
            if let Some((time, rest)) = take_time(&text) {
                // A shorter fraction ends earlier, and something else follows.
                if rest.is_empty() {
                    prop_assert_eq!(time.0 == nanos, same);
                    prop_assert_eq!(write(time.0, 9).into_bytes(), text);
                }
            }
        }
    }
}
