//! Numbers and times as venues write them.

use std::collections::BTreeMap;

/// `units` of `10^-decimals` with `shown` decimals, at least as many.
pub(super) fn fixed(units: i64, decimals: u32, shown: u32) -> String {
    let factor = 10_u64.pow(decimals);
    let sign = if units < 0 { "-" } else { "" };
    let units = units.unsigned_abs();
    let whole = units / factor;
    if shown == 0 {
        return format!("{sign}{whole}");
    }
    let rest = units % factor * 10_u64.pow(shown.saturating_sub(decimals));
    format!("{sign}{whole}.{rest:0width$}", width = shown as usize)
}

/// `units` of `10^-decimals` without trailing zeros.
pub(super) fn trimmed(units: i64, decimals: u32) -> String {
    let text = fixed(units, decimals, decimals);
    if !text.contains('.') {
        return text;
    }
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// One side of a book, best level first.
pub(super) fn best_first(
    side: kairos_logic::units::Side,
    levels: &BTreeMap<i64, i64>,
) -> Box<dyn Iterator<Item = (i64, i64)> + '_> {
    let copy = |(&price, &qty): (&i64, &i64)| (price, qty);
    match side {
        kairos_logic::units::Side::Buy => Box::new(levels.iter().rev().map(copy)),
        kairos_logic::units::Side::Sell => Box::new(levels.iter().map(copy)),
    }
}

/// The parts of a JSON list, joined by commas.
pub(super) fn list(parts: impl Iterator<Item = String>) -> String {
    let parts: Vec<String> = parts.collect();
    format!("[{}]", parts.join(","))
}

/// `2026-08-01T00:00:00.123456789Z` with so many decimals, 0 to 9.
///
/// The date is found by Howard Hinnant's `civil_from_days`: years that begin in March have their
/// leap day at the end.
#[must_use]
pub fn rfc3339(ns: u64, decimals: usize) -> String {
    let (seconds, rest) = (ns / 1_000_000_000, ns % 1_000_000_000);
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    let days = days + 719_468; // since 0000-03-01
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    let fraction = format!("{rest:09}");
    let fraction = match fraction.get(..decimals.min(9)) {
        Some("") | None => String::new(),
        Some(digits) => format!(".{digits}"),
    };
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}{fraction}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_times_read_as_venues_write_them() {
        assert_eq!(fixed(6_000_012, 2, 8), "60000.12000000");
        assert_eq!(fixed(5, 5, 5), "0.00005");
        assert_eq!(fixed(7, 0, 0), "7");
        assert_eq!(trimmed(6_000_010, 2), "60000.1");
        assert_eq!(trimmed(6_000_000, 2), "60000");
        assert_eq!(trimmed(100, 0), "100");
        assert_eq!(trimmed(0, 5), "0");
        assert_eq!(rfc3339(0, 0), "1970-01-01T00:00:00Z");
        assert_eq!(rfc3339(951_782_400_000_000_000, 3), "2000-02-29T00:00:00.000Z");
        assert_eq!(rfc3339(1_786_309_548_228_568_804, 9), "2026-08-09T21:05:48.228568804Z");
        assert_eq!(rfc3339(4_107_542_399_999_999_999, 6), "2100-02-28T23:59:59.999999Z");
        assert_eq!(rfc3339(4_107_542_400_000_000_000, 0), "2100-03-01T00:00:00Z");
    }
}
