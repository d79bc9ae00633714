//! Parameters of a strategy: what the configuration says, and readers that turn it into numbers.
//!
//! A reader collects every problem instead of stopping at the first, and knows which keys were
//! asked for, so that a misspelt key is found and the nearest right one named.

use alloc::borrow::ToOwned;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;
use core::fmt;
use core::ops::RangeInclusive;

use serde::de::{self, Deserialize, Deserializer, SeqAccess, Visitor};
use serde::{Serialize, Serializer};

use crate::units::{Decimal, parse_decimal};

/// One value of the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Param {
    /// `true` or `false`.
    Boolean(bool),
    /// A whole number.
    Integer(i64),
    /// Text; also every number with a decimal point, kept as the text that was written.
    Text(String),
    /// Several values.
    List(Vec<Param>),
}

impl fmt::Display for Param {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Boolean(it) => write!(f, "{it}"),
            Self::Integer(it) => write!(f, "{it}"),
            Self::Text(it) => write!(f, "\"{it}\""),
            Self::List(items) => {
                f.write_str("[")?;
                for (place, item) in items.iter().enumerate() {
                    let comma = if place == 0 { "" } else { ", " };
                    write!(f, "{comma}{item}")?;
                }
                f.write_str("]")
            }
        }
    }
}

impl From<&str> for Param {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}
impl From<i64> for Param {
    fn from(number: i64) -> Self {
        Self::Integer(number)
    }
}
impl From<bool> for Param {
    fn from(flag: bool) -> Self {
        Self::Boolean(flag)
    }
}

impl Serialize for Param {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Boolean(it) => serializer.serialize_bool(*it),
            Self::Integer(it) => serializer.serialize_i64(*it),
            Self::Text(it) => serializer.serialize_str(it),
            Self::List(it) => serializer.collect_seq(it),
        }
    }
}

/// From formats that describe themselves (TOML, JSON). A float becomes the shortest text that
/// reads back as the same float, which is the text that was written for up to 15 digits.
impl<'de> Deserialize<'de> for Param {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ParamVisitor)
    }
}

struct ParamVisitor;

impl<'de> Visitor<'de> for ParamVisitor {
    type Value = Param;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a boolean, a number, text or a list of them")
    }
    fn visit_bool<E>(self, it: bool) -> Result<Param, E> {
        Ok(Param::Boolean(it))
    }
    fn visit_i64<E>(self, it: i64) -> Result<Param, E> {
        Ok(Param::Integer(it))
    }
    fn visit_u64<E: de::Error>(self, it: u64) -> Result<Param, E> {
        i64::try_from(it).map(Param::Integer).map_err(E::custom)
    }
    fn visit_f64<E: de::Error>(self, it: f64) -> Result<Param, E> {
        if it.is_finite() {
            Ok(Param::Text(format!("{it}")))
        } else {
            Err(E::custom("not a finite number"))
        }
    }
    fn visit_str<E>(self, it: &str) -> Result<Param, E> {
        Ok(Param::Text(it.to_owned()))
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Param, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Param::List(list))
    }
}

/// The parameters of one strategy by name, in the order of their names.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct Params(pub BTreeMap<String, Param>);

impl Params {
    /// No parameter: every default holds.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The same with one more parameter, for tests and examples.
    #[must_use]
    pub fn with(mut self, key: &str, value: impl Into<Param>) -> Self {
        self.0.insert(key.to_owned(), value.into());
        self
    }

    /// Begins to read.
    #[must_use]
    pub fn read(&self) -> Reader<'_> {
        Reader { params: self, known: Vec::new(), problems: Vec::new() }
    }
}

/// A value that breaks a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Where it stands.
    pub key: String,
    /// What stands there.
    pub found: String,
    /// What should.
    pub rule: String,
}

impl Problem {
    /// A problem in words.
    #[must_use]
    pub fn new(key: &str, found: impl ToString, rule: impl ToString) -> Self {
        Self { key: key.to_owned(), found: found.to_string(), rule: rule.to_string() }
    }

    /// The same, its key inside `section`: `size` becomes `strategies.tri.size`.
    #[must_use]
    pub fn inside(mut self, section: &str) -> Self {
        self.key = format!("{section}.{}", self.key);
        self
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: found {}, {}", self.key, self.found, self.rule)
    }
}

/// Reads parameters by type. Where one is absent or wrong the default is given back, so reading
/// goes on; [`Reader::finish`] tells whether any of it may be used.
#[derive(Debug)]
pub struct Reader<'a> {
    params: &'a Params,
    known: Vec<&'static str>,
    problems: Vec<Problem>,
}

impl Reader<'_> {
    /// A decimal number in units of `10^-scale`, within `range` (of units).
    pub fn decimal(
        &mut self,
        key: &'static str,
        scale: u8,
        default: i64,
        range: RangeInclusive<i64>,
    ) -> i64 {
        let show = |units| Decimal { units, scale };
        let rule = format!(
            "must be a decimal number from {} to {} with at most {scale} decimals",
            show(*range.start()),
            show(*range.end())
        );
        self.value(key, default, &rule, |param| {
            let text = match param {
                Param::Text(text) => text.clone(),
                Param::Integer(number) => number.to_string(),
                Param::Boolean(_) | Param::List(_) => return None,
            };
            let units = parse_decimal(text.trim().as_bytes(), scale).ok()?;
            range.contains(&units).then_some(units)
        })
    }

    /// A whole number within `range`.
    pub fn integer(&mut self, key: &'static str, default: i64, range: RangeInclusive<i64>) -> i64 {
        self.decimal(key, 0, default, range)
    }

    /// A fraction such as `0.001`, in parts per million, within `range` (of ppm).
    pub fn fraction_ppm(
        &mut self,
        key: &'static str,
        default: i64,
        range: RangeInclusive<i64>,
    ) -> i64 {
        self.decimal(key, 6, default, range)
    }

    /// Basis points such as `10` or `2.5`, in parts per million (1 bp is 100 ppm), within `range`
    /// (of ppm).
    pub fn bps_as_ppm(
        &mut self,
        key: &'static str,
        default: i64,
        range: RangeInclusive<i64>,
    ) -> i64 {
        self.decimal(key, 2, default, range)
    }

    /// A length of time such as `500ms`, `5s`, `1m`, in nanoseconds, positive. A bare number is in
    /// units of `bare_ns` nanoseconds.
    pub fn duration(&mut self, key: &'static str, default_ns: u64, bare_ns: u64) -> u64 {
        let rule = "must be a positive length of time such as 500ms, 5s or 1m";
        self.value(key, default_ns, rule, |param| {
            match param {
                Param::Integer(number) => u64::try_from(*number).ok()?.checked_mul(bare_ns),
                Param::Text(text) => duration_ns(text, bare_ns),
                Param::Boolean(_) | Param::List(_) => None,
            }
            .filter(|ns| *ns > 0)
        })
    }

    /// `true` or `false`.
    pub fn boolean(&mut self, key: &'static str, default: bool) -> bool {
        self.value(key, default, "must be true or false", |param| match param {
            Param::Boolean(flag) => Some(*flag),
            Param::Text(text) => text.parse().ok(),
            Param::Integer(_) | Param::List(_) => None,
        })
    }

    /// One of several words, whatever their case; gives back what stands beside the word.
    pub fn choice<T: Copy>(
        &mut self,
        key: &'static str,
        default: T,
        choices: &[(&'static str, T)],
    ) -> T {
        let words: Vec<&str> = choices.iter().map(|it| it.0).collect();
        let rule = format!("must be one of {}", words.join(", "));
        self.value(key, default, &rule, |param| {
            let Param::Text(text) = param else {
                return None;
            };
            let found = choices.iter().find(|it| it.0.eq_ignore_ascii_case(text));
            found.map(|it| it.1)
        })
    }

    /// Notes a problem that shows only when several values are looked at together.
    pub fn object(&mut self, key: &str, found: impl ToString, rule: &str) {
        self.problems.push(Problem::new(key, found, rule));
    }

    /// Ends the reading.
    ///
    /// # Errors
    /// Every problem found, unknown keys among them, each with the nearest known key.
    pub fn finish(mut self) -> Result<(), Vec<Problem>> {
        for (key, value) in &self.params.0 {
            if !self.known.contains(&key.as_str()) {
                let rule = unknown_key(key, &self.known);
                self.problems.push(Problem::new(key, value, rule));
            }
        }
        if self.problems.is_empty() { Ok(()) } else { Err(self.problems) }
    }

    fn value<T>(
        &mut self,
        key: &'static str,
        default: T,
        rule: &str,
        read: impl FnOnce(&Param) -> Option<T>,
    ) -> T {
        self.known.push(key);
        let Some(param) = self.params.0.get(key) else {
            return default;
        };
        read(param).unwrap_or_else(|| {
            self.problems.push(Problem::new(key, param, rule));
            default
        })
    }
}

/// Units of time and their nanoseconds, as configuration writes them.
const UNITS: [(&str, u64); 14] = [
    ("ns", 1),
    ("us", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("min", 60_000_000_000),
    ("h", 3_600_000_000_000),
    ("hour", 3_600_000_000_000),
    ("d", 86_400_000_000_000),
    ("day", 86_400_000_000_000),
    ("w", 604_800_000_000_000),
    ("week", 604_800_000_000_000),
    ("mo", 2_592_000_000_000_000),
    ("month", 2_592_000_000_000_000),
];

/// Reads `<number><unit>` as nanoseconds; a bare number counts `bare_ns` each. `None` where it is
/// neither, or does not fit.
#[must_use]
pub fn duration_ns(text: &str, bare_ns: u64) -> Option<u64> {
    let text = text.trim();
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let unit = unit.trim().to_ascii_lowercase();
    let each = if unit.is_empty() { bare_ns } else { UNITS.iter().find(|it| it.0 == unit)?.1 };
    number.parse::<u64>().ok()?.checked_mul(each)
}

/// The sentence about a key that does not exist.
#[must_use]
pub fn unknown_key(key: &str, known: &[&str]) -> String {
    match nearest(key, known) {
        Some(nearest) => format!("is not a known key; did you mean {nearest}?"),
        None if known.is_empty() => String::from("is not a known key; there are none here"),
        None => format!("is not a known key; known are {}", known.join(", ")),
    }
}

/// The known word that a misspelt one most likely means: at most half of its letters differ.
#[must_use]
pub fn nearest<'a>(word: &str, known: &[&'a str]) -> Option<&'a str> {
    let nearest = known.iter().copied().min_by_key(|it| distance(word, it))?;
    (distance(word, nearest) <= word.len().div_ceil(2)).then_some(nearest)
}

/// How many letters must change to turn one word into the other.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, letter) in a.chars().enumerate() {
        let mut next = vec![i + 1];
        for (j, other) in b.iter().enumerate() {
            let change = row[j] + usize::from(letter != *other);
            next.push(change.min(row[j + 1] + 1).min(next[j] + 1));
        }
        row = next;
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads one value as everything a reader knows; `None` where the reader objects.
    fn check<T: PartialEq + fmt::Debug>(
        value: impl Into<Param>,
        read: impl FnOnce(&mut Reader<'_>) -> T,
        want: Option<T>,
    ) {
        let value = value.into();
        let params = Params::new().with("key", value.clone());
        let mut reader = params.read();
        let found = read(&mut reader);
        let found = reader.finish().ok().map(|()| found);
        assert_eq!(found, want, "{value}");
    }

    #[test]
    fn values_are_read_by_type() {
        let size = |it: &mut Reader<'_>| it.decimal("key", 3, 7, 1..=5_000);
        check("0.25", size, Some(250));
        check(2, size, Some(2_000));
        check("5.001", size, None);
        check("0", size, None);
        check("0.0001", size, None);
        check("1e3", size, None);
        check(true, size, None);
        let bps = |it: &mut Reader<'_>| it.bps_as_ppm("key", 0, 0..=100_000);
        check("2.5", bps, Some(250));
        check(10, bps, Some(1_000));
        let fraction = |it: &mut Reader<'_>| it.fraction_ppm("key", 0, 0..=1_000_000);
        check("0.001", fraction, Some(1_000));
        check("1.1", fraction, None);
        let time = |it: &mut Reader<'_>| it.duration("key", 1, 1_000_000);
        check("5s", time, Some(5_000_000_000));
        check("1m", time, Some(60_000_000_000));
        check("1mo", time, Some(2_592_000_000_000_000));
        check("15min", time, Some(900_000_000_000));
        check("250 us", time, Some(250_000));
        check(50, time, Some(50_000_000));
        check("50", time, Some(50_000_000));
        check("0s", time, None);
        check(-1, time, None);
        check("5 parsecs", time, None);
        check("s", time, None);
        let flag = |it: &mut Reader<'_>| it.boolean("key", false);
        check(true, flag, Some(true));
        check("true", flag, Some(true));
        check("yes", flag, None);
        let word = |it: &mut Reader<'_>| it.choice("key", 0, &[("mid", 1), ("weighted", 2)]);
        check("MID", word, Some(1));
        check("weighted", word, Some(2));
        check("best", word, None);
    }

    #[test]
    fn absent_values_have_defaults_and_all_problems_come_at_once() {
        let params = Params::new()
            .with("order_siz", "1")
            .with("levels", 9)
            .with("zzzzzzzz", Param::List(vec![Param::Integer(1), "a".into()]));
        let mut reader = params.read();
        assert_eq!(reader.decimal("order_size", 2, 5, 0..=9), 5);
        assert_eq!(reader.integer("levels", 1, 1..=8), 1);
        let problems = reader.finish().unwrap_err();
        let shown: Vec<String> = problems.iter().map(ToString::to_string).collect();
        assert_eq!(
            shown,
            [
                "levels: found 9, must be a decimal number from 1 to 8 with at most 0 decimals",
                "order_siz: found \"1\", is not a known key; did you mean order_size?",
                "zzzzzzzz: found [1, \"a\"], is not a known key; known are order_size, levels",
            ]
        );
    }
}
