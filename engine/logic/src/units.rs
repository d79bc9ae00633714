//! Numbers: money, prices, quantities and times are integers; text becomes one exactly or not at all.

use core::fmt;

use serde::{Deserialize, Serialize};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::digits;

macro_rules! number {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(
            Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
            FromBytes, IntoBytes, Immutable, KnownLayout,
        )]
        #[repr(transparent)]
        pub struct $name(pub $inner);
    };
}

number! {
    /// Nanoseconds since the Unix epoch, UTC. Ends in the year 2554.
    Nanos(u64)
}
number! {
    /// A reading of the time stamp counter, in its own ticks. Comparable within one run only;
    /// the journal's segment header holds the ticks per second.
    Stamp(u64)
}
number! {
    /// A price in units of `10^-price_scale` of its instrument.
    Price(i64)
}
number! {
    /// A quantity of the base currency in units of `10^-qty_scale` of its instrument.
    Qty(i64)
}
number! {
    /// An amount of some currency in units of `10^-8` ([`MONEY_SCALE`]). At most about 92 thousand million.
    Money(i64)
}
number! {
    /// Place of an input in the one total order: its journal sequence number, or, between the rings
    /// of a running engine, its position in IN.
    Seq(u64)
}
number! {
    /// Index into the instrument table.
    InstrumentId(u16)
}
number! {
    /// Index into the table of venues.
    VenueId(u8)
}
number! {
    /// Index into the table of currencies.
    CurrencyId(u16)
}
number! {
    /// Index of a configured strategy, in the order of their keys. See [`StrategyId::RISK`].
    StrategyId(u8)
}
number! {
    /// A client order id: the run in the high 24 bits, a counter in the low 40. Unique for the life
    /// of a journal, because runs only grow and a counter never restarts within one.
    OrderId(u64)
}

impl InstrumentId {
    /// Stands where an event belongs to no instrument.
    pub const NONE: Self = Self(u16::MAX);
    /// The instrument's place in the tables.
    #[must_use]
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

impl StrategyId {
    /// Origin of decisions that risk takes by itself, such as cancels after a halt.
    pub const RISK: Self = Self(u8::MAX);
    /// Most strategies that may run together: ids 0 to 31.
    pub const COUNT_MAX: usize = 32;
    /// The strategy's place in the tables.
    #[must_use]
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

impl OrderId {
    /// Bits of the counter. 2^40 orders are 34 years at 1 000 orders per second.
    pub const COUNTER_BITS: u32 = 40;

    /// Composes an id. `run` is cut to 24 bits: after 16 million starts ids would repeat.
    #[must_use]
    pub const fn new(run: u64, counter: u64) -> Self {
        Self((run << Self::COUNTER_BITS) | (counter & ((1 << Self::COUNTER_BITS) - 1)))
    }
    /// The run that issued the id.
    #[must_use]
    pub const fn run(self) -> u64 {
        self.0 >> Self::COUNTER_BITS
    }
    /// The counter within that run, from 1.
    #[must_use]
    pub const fn counter(self) -> u64 {
        self.0 & ((1 << Self::COUNTER_BITS) - 1)
    }
}

/// `<run>-<counter>`, the text form used in dumps and reports.
impl fmt::Display for OrderId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.run(), self.counter())
    }
}

impl Nanos {
    /// Time since `earlier`, or zero where the clock stepped back.
    #[must_use]
    pub const fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
    /// This time and `ns` nanoseconds more; stays at the end of time rather than wrapping.
    #[must_use]
    pub const fn plus(self, ns: u64) -> Self {
        Self(self.0.saturating_add(ns))
    }
}

/// Which way an order or a trade goes. For trades: the aggressor. For book levels: `Buy` is the bid.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    Hash,
    Serialize,
    Deserialize,
    zerocopy::TryFromBytes,
    IntoBytes,
    Immutable,
    KnownLayout,
)]
#[serde(rename_all = "lowercase")]
#[repr(u8)]
pub enum Side {
    /// Bids; adds to a position.
    Buy = 0,
    /// Asks; takes from a position.
    Sell = 1,
}

impl Side {
    /// The other side.
    #[must_use]
    pub const fn opposite(self) -> Self {
        match self {
            Self::Buy => Self::Sell,
            Self::Sell => Self::Buy,
        }
    }
    /// `+1` for buys, `-1` for sells.
    #[must_use]
    pub const fn sign(self) -> i64 {
        match self {
            Self::Buy => 1,
            Self::Sell => -1,
        }
    }
}

/// Decimals of [`Money`].
pub const MONEY_SCALE: u8 = 8;
/// Most decimals that an instrument may have: 10^12 of them still leave room for 9 million units.
pub const SCALE_MAX: u8 = 12;

/// `10^n` for every power that an `i64` holds.
pub const POW10: [i64; 19] = {
    let mut table = [1_i64; 19];
    let mut n = 1;
    while n < table.len() {
        table[n] = table[n - 1] * 10;
        n += 1;
    }
    table
};

/// A result that does not fit its integer. Never a wrap: an overflow of money is an error value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("amount does not fit 64 bits at 8 decimals")]
pub struct Overflow;

/// Divides and rounds to nearest, halves away from zero. `divisor` must be positive.
///
/// # Panics
/// If `divisor` is zero.
#[must_use]
#[inline]
pub const fn div_round(value: i128, divisor: i128) -> i128 {
    const NARROW: u128 = u64::MAX as u128;
    let whole = divisor.unsigned_abs();
    let sum = value.unsigned_abs() + whole / 2;
    // Most amounts fit 64 bits, where a division is several times cheaper.
    let rounded = if sum <= NARROW && whole <= NARROW {
        #[expect(clippy::cast_possible_truncation, reason = "both were compared with the type")]
        let quotient = sum as u64 / whole as u64;
        quotient as u128
    } else {
        sum / whole
    };
    if value >= 0 { rounded.cast_signed() } else { -rounded.cast_signed() }
}

/// Value of `qty` at `price`, rounded to the nearest unit of money, halves away from zero.
///
/// # Errors
/// [`Overflow`] above about 92 thousand million.
#[inline]
pub fn notional(price: Price, qty: Qty, price_scale: u8, qty_scale: u8) -> Result<Money, Overflow> {
    let product = i128::from(price.0) * i128::from(qty.0);
    let scale = i32::from(price_scale) + i32::from(qty_scale) - i32::from(MONEY_SCALE);
    let value = if scale >= 0 {
        div_round(product, pow10_i128(scale.unsigned_abs()))
    } else {
        product.checked_mul(pow10_i128(scale.unsigned_abs())).ok_or(Overflow)?
    };
    i64::try_from(value).map(Money).map_err(|_| Overflow)
}

/// `10^n` for every power that an `i128` holds.
const POW10_WIDE: [i128; 39] = {
    let mut table = [1_i128; 39];
    let mut n = 1;
    while n < table.len() {
        table[n] = table[n - 1] * 10;
        n += 1;
    }
    table
};

/// `10^n` as `i128`. `n` is at most `2 * SCALE_MAX` here, far from the limit of 38.
///
/// # Panics
/// Above that limit.
#[must_use]
#[inline]
pub const fn pow10_i128(n: u32) -> i128 {
    POW10_WIDE[n as usize]
}

/// Why a text is not a number of the wanted scale.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecimalError {
    /// Nothing, or only a sign or a point.
    #[error("no digits")]
    Empty,
    /// A character that is neither a digit nor the one decimal point.
    #[error("not a plain decimal number")]
    NotDecimal,
    /// Digits other than zero beyond the scale; rounding would invent a value.
    #[error("more decimals than the instrument has")]
    TooFine,
    /// More than an `i64` holds at this scale.
    #[error("too large for the instrument's scale")]
    TooLarge,
}

/// Reads plain decimal text (`-12.50`, no exponent) as units of `10^-scale`, exactly.
///
/// Trailing zeros beyond the scale are accepted, other digits there are refused. This is the one
/// decimal routine of the system: scanners, the fallback parser and the configuration use it.
///
/// # Errors
/// [`DecimalError`]; nothing is rounded and nothing wraps.
#[inline]
pub fn parse_decimal(text: &[u8], scale: u8) -> Result<i64, DecimalError> {
    match take_decimal(text, scale) {
        Some((units, [])) => Ok(units),
        Some(_) | None => parse_any_decimal(text, scale),
    }
}

/// Reads the plain decimal that `text` begins with and hands back what follows it: the part of
/// [`parse_decimal`] that all but a few numbers need, for scanners that do not know where a number
/// ends. `None` says nothing but that [`parse_decimal`] has to look: at a sign, at more than 18
/// digits, at a number that is no number or does not fit.
#[must_use]
#[inline]
pub fn take_decimal(text: &[u8], scale: u8) -> Option<(i64, &[u8])> {
    match take_short_decimal(text, scale) {
        Some(taken) => Some(taken),
        None => take_long_decimal(text, scale),
    }
}

/// [`take_decimal`] for up to seven digits before the point and eight behind it, which is nearly
/// every number of a market. `None` says nothing but that the number has to be looked at byte by
/// byte, as has a short one that nearly ends the text.
#[inline]
fn take_short_decimal(text: &[u8], scale: u8) -> Option<(i64, &[u8])> {
    let word = *text.first_chunk()?;
    let len = digits::count(word);
    if len == 0 || len == 8 {
        return None;
    }
    let whole = digits::read(word, len).cast_signed();
    let units = whole.checked_mul(*POW10.get(usize::from(scale))?)?;
    let rest = text.get(len..)?;
    let [b'.', rest @ ..] = rest else { return Some((units, rest)) };
    let word = *rest.first_chunk()?;
    let len = digits::count(word);
    let rest = rest.get(len..)?;
    if len == 8 && rest.first().is_some_and(u8::is_ascii_digit) {
        return None;
    }
    let kept = len.min(usize::from(scale));
    if !digits::are_zeros(word, kept, len) {
        return None;
    }
    let fraction = digits::read(word, kept).cast_signed();
    // Below 10^scale, which fits.
    let fraction = fraction.checked_mul(*POW10.get(usize::from(scale) - kept)?)?;
    Some((units.checked_add(fraction)?, rest))
}

fn take_long_decimal(text: &[u8], scale: u8) -> Option<(i64, &[u8])> {
    const DIGITS_MAX: usize = 18; // fewer than an i64 holds, so nothing wraps
    let (mut units, mut rest) = (0_i64, text);
    while let [byte @ b'0'..=b'9', tail @ ..] = rest {
        units = units.wrapping_mul(10).wrapping_add(i64::from(byte & 15));
        rest = tail;
    }
    let whole = text.len() - rest.len();
    let (mut missing, mut fraction) = (scale, 0);
    if let [b'.', tail @ ..] = rest {
        rest = tail;
        while let [byte @ b'0'..=b'9', tail @ ..] = rest {
            if missing > 0 {
                units = units.wrapping_mul(10).wrapping_add(i64::from(byte & 15));
                missing -= 1;
            } else if *byte != b'0' {
                return None;
            }
            rest = tail;
        }
        fraction = usize::from(scale - missing);
    }
    if whole == 0 || whole + fraction > DIGITS_MAX {
        return None;
    }
    let units = units.checked_mul(*POW10.get(usize::from(missing))?)?;
    Some((units, rest))
}

/// [`parse_decimal`] for whatever is unusual, and its judgement of what is wrong.
#[cold]
fn parse_any_decimal(text: &[u8], scale: u8) -> Result<i64, DecimalError> {
    let (negative, digits) = match text {
        [b'-', rest @ ..] => (true, rest),
        _ => (false, text),
    };
    let mut units: i64 = 0;
    let mut decimals: Option<u8> = None;
    let mut seen = false;
    for &byte in digits {
        match byte {
            b'0'..=b'9' => {
                seen = true;
                let digit = i64::from(byte - b'0');
                if let Some(places) = decimals {
                    if places == scale {
                        if digit != 0 {
                            return Err(DecimalError::TooFine);
                        }
                        continue;
                    }
                    decimals = Some(places + 1);
                }
                units = units
                    .checked_mul(10)
                    .and_then(|units| units.checked_add(digit))
                    .ok_or(DecimalError::TooLarge)?;
            }
            b'.' if decimals.is_none() && seen => decimals = Some(0),
            _ => return Err(DecimalError::NotDecimal),
        }
    }
    if !seen {
        return Err(DecimalError::Empty);
    }
    let missing = usize::from(scale - decimals.unwrap_or(0));
    let factor = POW10.get(missing).copied().ok_or(DecimalError::TooLarge)?;
    let units = units.checked_mul(factor).ok_or(DecimalError::TooLarge)?;
    Ok(if negative { -units } else { units })
}

/// An integer with its scale, printed as the exact decimal without trailing zeros.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decimal {
    /// The number in units of `10^-scale`.
    pub units: i64,
    /// Decimals of `units`, at most 18.
    pub scale: u8,
}

impl fmt::Display for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let factor = POW10[usize::from(self.scale.min(18))].unsigned_abs();
        let magnitude = self.units.unsigned_abs();
        let (whole, mut rest) = (magnitude / factor, magnitude % factor);
        if self.units < 0 {
            f.write_str("-")?;
        }
        write!(f, "{whole}")?;
        if rest == 0 {
            return Ok(());
        }
        let mut width = usize::from(self.scale);
        while rest % 10 == 0 {
            rest /= 10;
            width -= 1;
        }
        write!(f, ".{rest:0width$}")
    }
}

impl fmt::Display for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Decimal { units: self.0, scale: MONEY_SCALE }.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;
    use proptest::prelude::*;

    fn check(text: &str, scale: u8, want: Result<i64, DecimalError>) {
        assert_eq!(parse_decimal(text.as_bytes(), scale), want, "{text} at scale {scale}");
    }

    #[test]
    fn decimal_text_becomes_an_integer_exactly_or_not_at_all() {
        check("61837.63000000", 8, Ok(6_183_763_000_000));
        check("61837.63000000", 2, Ok(6_183_763));
        check("0.00000001", 8, Ok(1));
        check("-1.5", 1, Ok(-15));
        check("7", 3, Ok(7_000));
        check("7.", 3, Ok(7_000));
        check("1.005", 2, Err(DecimalError::TooFine));
        check("", 2, Err(DecimalError::Empty));
        check("-", 2, Err(DecimalError::Empty));
        check(".5", 2, Err(DecimalError::NotDecimal));
        check("1e5", 2, Err(DecimalError::NotDecimal));
        check("NaN", 2, Err(DecimalError::NotDecimal));
        check("1.2.3", 4, Err(DecimalError::NotDecimal));
        check("+1", 0, Err(DecimalError::NotDecimal));
        check("9223372036854775807", 0, Ok(i64::MAX));
        check("9223372036854775808", 0, Err(DecimalError::TooLarge));
        check("922337203.6854775808", 10, Err(DecimalError::TooLarge));
        check("99999999999999999999999999", 2, Err(DecimalError::TooLarge));
    }

    #[test]
    fn notional_rounds_halves_away_from_zero() {
        assert_eq!(
            notional(Price(6_183_763), Qty(100_000_000), 2, 8),
            Ok(Money(6_183_763_000_000))
        );
        assert_eq!(notional(Price(5), Qty(1), 9, 0), Ok(Money(1)));
        assert_eq!(notional(Price(-5), Qty(1), 9, 0), Ok(Money(-1)));
        assert_eq!(notional(Price(4), Qty(1), 9, 0), Ok(Money(0)));
        assert_eq!(notional(Price(i64::MAX), Qty(i64::MAX), 8, 8), Err(Overflow));
    }

    proptest! {
        #[test]
        fn the_short_way_reads_what_the_long_way_reads(
            text in "[0-9]{0,20}[.]?[0-9]{0,12}|[0-9]{1,8}[.][0-9]{0,4}0{0,6}",
            scale in 0_u8..=SCALE_MAX,
            after in "|\"|,x|-|\",\"B\":\"0.1|[.]5.........|/........",
        ) {
            let whole = alloc::format!("{text}{after}");
            let long = take_long_decimal(whole.as_bytes(), scale);
            if let Some((units, rest)) = long {
                prop_assert_eq!(rest, whole.get(whole.len() - rest.len()..).unwrap().as_bytes());
                let read = whole.get(..whole.len() - rest.len()).unwrap();
                prop_assert_eq!(parse_any_decimal(read.as_bytes(), scale), Ok(units));
            }
            if let Some(short) = take_short_decimal(whole.as_bytes(), scale) {
                prop_assert_eq!(Some(short), long);
            }
            prop_assert_eq!(take_decimal(whole.as_bytes(), scale), long);
            let (fast, slow) = (parse_decimal(text.as_bytes(), scale), parse_any_decimal(text.as_bytes(), scale));
            prop_assert_eq!(fast, slow);
        }

        #[test]
        fn rounding_is_to_nearest_however_wide_the_numbers_are(
            a: i64, b: i64, narrow in 1_u8..=127, wide in 1_i128..=i128::MAX / 4,
        ) {
            let product = i128::from(a) * i128::from(b);
            for value in [product, product >> 64, i128::from(a), i128::from(a) >> 57] {
                for divisor in [i128::from(narrow), wide, wide >> 63 | 1, 1] {
                    let half = divisor / 2;
                    let plain = (value.abs() + half) / divisor * value.signum();
                    prop_assert_eq!(div_round(value, divisor), plain, "{} / {}", value, divisor);
                }
            }
        }

        #[test]
        fn text_of_a_number_reads_back_as_that_number(units: i64, scale in 0_u8..=SCALE_MAX) {
            prop_assume!(units != i64::MIN);
            let text = Decimal { units, scale }.to_string();
            prop_assert_eq!(parse_decimal(text.as_bytes(), scale), Ok(units));
        }
    }
}
