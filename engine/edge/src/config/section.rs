//! Reads the keys of one section, notes which keys exist, and collects every problem.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::ops::RangeInclusive;

use kairos_logic::params::unknown_key;
use kairos_logic::units::{MONEY_SCALE, Money, parse_decimal};

use super::problem::Problem;
use super::tree::{Node, Table, Value};

/// What came to light while the sections were read.
#[derive(Debug, Default)]
pub(super) struct Log {
    problems: RefCell<Vec<Problem>>,
    keys: RefCell<BTreeSet<String>>,
}

impl Log {
    pub(super) fn push(&self, problem: Problem) {
        self.problems.borrow_mut().push(problem);
    }

    /// The problems, and every key that was looked for.
    pub(super) fn into_parts(self) -> (Vec<Problem>, BTreeSet<String>) {
        (self.problems.into_inner(), self.keys.into_inner())
    }
}

/// One section while it is read. Every read names a key; what nobody read is unknown.
pub(super) struct Section<'a> {
    /// The section as the operator wrote it: `venues.binance`; empty for the root.
    path: String,
    /// The section with placeholders for free names: `venues.<v>`.
    pattern: String,
    table: Option<&'a Table>,
    seen: Vec<&'static str>,
    log: &'a Log,
}

impl<'a> Section<'a> {
    pub(super) fn root(table: &'a Table, log: &'a Log) -> Self {
        Self {
            path: String::new(),
            pattern: String::new(),
            table: Some(table),
            seen: Vec::new(),
            log,
        }
    }

    /// Whether anything was written.
    pub(super) fn is_present(&self) -> bool {
        self.table.is_some()
    }

    /// The full name of a key here.
    pub(super) fn key(&self, key: &str) -> String {
        join(&self.path, key)
    }

    /// The value of a key, if it was written.
    pub(super) fn find(&mut self, key: &'static str) -> Option<&'a Node> {
        if !self.seen.contains(&key) {
            self.seen.push(key);
        }
        self.log.keys.borrow_mut().insert(join(&self.pattern, key));
        self.table?.get(key)
    }

    /// A section inside.
    pub(super) fn section(&mut self, key: &'static str) -> Section<'a> {
        let found = self.find(key);
        let table = found.and_then(|node| self.table_of(key, node));
        Section {
            path: join(&self.path, key),
            pattern: join(&self.pattern, key),
            table,
            seen: Vec::new(),
            log: self.log,
        }
    }

    /// The sections under names that the operator chose, such as venues. `placeholder` stands for
    /// the name in the list of known keys.
    pub(super) fn named(mut self, placeholder: &str) -> Vec<(String, Section<'a>)> {
        let mut sections = Vec::new();
        for (name, node) in self.entries() {
            let Some(table) = self.table_of(&name, node) else { continue };
            let section = Section {
                path: join(&self.path, &name),
                pattern: join(&self.pattern, placeholder),
                table: Some(table),
                seen: Vec::new(),
                log: self.log,
            };
            sections.push((name, section));
        }
        sections
    }

    fn table_of(&self, key: &str, node: &'a Node) -> Option<&'a Table> {
        let table = node.value.as_table();
        if table.is_none() {
            self.wrong(key, node, "must be a section with keys of its own");
        }
        table
    }

    /// Every key that was written, read as free names.
    pub(super) fn entries(&mut self) -> Vec<(String, &'a Node)> {
        let table = self.table.take();
        table.into_iter().flatten().map(|(name, node)| (name.clone(), node)).collect()
    }

    /// Everything that nobody read so far, for sections with free keys.
    pub(super) fn rest(&mut self) -> Vec<(String, &'a Node)> {
        let seen = std::mem::take(&mut self.seen);
        let mut entries = self.entries();
        entries.retain(|(name, _)| !seen.contains(&name.as_str()));
        entries
    }

    /// Reports what nobody read.
    pub(super) fn finish(self) {
        let Some(table) = self.table else { return };
        for (name, node) in table {
            if self.seen.contains(&name.as_str()) {
                continue;
            }
            self.log.push(Problem {
                key: self.key(name),
                found: None,
                rule: unknown_key(name, &self.seen),
                origin: Some(node.origin.clone()),
            });
        }
    }

    /// Notes a problem that none of the usual ways of telling fits.
    pub(super) fn note(&self, problem: Problem) {
        self.log.push(problem);
    }

    /// Notes that a written value breaks a rule.
    pub(super) fn wrong(&self, key: &str, node: &Node, rule: impl Into<String>) {
        self.log.push(Problem {
            key: self.key(key),
            found: Some(node.value.to_toml()),
            rule: rule.into(),
            origin: Some(node.origin.clone()),
        });
    }

    /// Notes that a value breaks a rule, if it was written; a default breaks none.
    pub(super) fn wrong_if_written(&mut self, key: &'static str, rule: &str) {
        if let Some(node) = self.find(key) {
            self.wrong(key, node, rule);
        }
    }

    /// Notes that a key is missing, or that what is missing breaks a rule.
    pub(super) fn missing(&self, key: &str, rule: impl Into<String>) {
        self.log.push(Problem::new(self.key(key), rule));
    }

    /// Notes that the value that holds because nothing was written breaks a rule.
    pub(super) fn default_is_wrong(&self, key: &str, found: &str, rule: String) {
        let found = Some(found.to_owned());
        self.log.push(Problem { found, ..Problem::new(self.key(key), rule) });
    }

    /// Text, if it was written.
    pub(super) fn text(&mut self, key: &'static str) -> Option<String> {
        let node = self.find(key)?;
        let text = node.value.as_text();
        if text.is_none() {
            self.wrong(key, node, "must be text in quotes");
        }
        text.map(str::to_owned)
    }

    /// A list of texts, if it was written.
    pub(super) fn texts(&mut self, key: &'static str) -> Option<Vec<String>> {
        let node = self.find(key)?;
        let texts = match (&node.value, node.value.as_text()) {
            // A variable is a list of one more easily than `["…"]`.
            (_, Some(text)) => Some(vec![text.to_owned()]),
            (value, None) => value.as_list().and_then(|values| {
                let texts = values.iter().map(|value| value.as_text().map(str::to_owned));
                texts.collect()
            }),
        };
        if texts.is_none() {
            self.wrong(key, node, "must be a list of texts in quotes");
        }
        texts
    }

    /// `true` or `false`.
    pub(super) fn boolean(&mut self, key: &'static str, default: bool) -> bool {
        let Some(node) = self.find(key) else {
            return default;
        };
        node.value.as_boolean().unwrap_or_else(|| {
            self.wrong(key, node, "must be true or false");
            default
        })
    }

    /// A whole number within a range.
    pub(super) fn integer(
        &mut self,
        key: &'static str,
        default: u64,
        range: RangeInclusive<u64>,
    ) -> u64 {
        self.integer_if(key, range).unwrap_or(default)
    }

    /// A whole number within a range, if it was written.
    pub(super) fn integer_if(
        &mut self,
        key: &'static str,
        range: RangeInclusive<u64>,
    ) -> Option<u64> {
        let node = self.find(key)?;
        let number = node.value.as_integer().and_then(|number| u64::try_from(number).ok());
        let number = number.filter(|number| range.contains(number));
        if number.is_none() {
            let (least, most) = (range.start(), range.end());
            let rule = if *most >= i64::MAX.unsigned_abs() {
                format!("must be a whole number of at least {least}")
            } else {
                format!("must be a whole number from {least} to {most}")
            };
            self.wrong(key, node, rule);
        }
        number
    }

    /// A whole number within a range that is a power of two.
    pub(super) fn power_of_two(
        &mut self,
        key: &'static str,
        default: u64,
        range: RangeInclusive<u64>,
    ) -> u64 {
        let Some(node) = self.find(key) else {
            return default;
        };
        let number = node.value.as_integer().and_then(|number| u64::try_from(number).ok());
        let fits = |number: &u64| number.is_power_of_two() && range.contains(number);
        number.filter(fits).unwrap_or_else(|| {
            let rule = format!("must be a power of two from {} to {}", range.start(), range.end());
            self.wrong(key, node, rule);
            default
        })
    }

    /// One of several words, in any case.
    pub(super) fn choice<T: Copy>(
        &mut self,
        key: &'static str,
        default: T,
        choices: &[(&str, T)],
    ) -> T {
        let Some(node) = self.find(key) else {
            return default;
        };
        let word = node.value.as_text().unwrap_or("");
        let chosen = choices.iter().find(|(choice, _)| choice.eq_ignore_ascii_case(word));
        match chosen {
            Some(&(_, choice)) => choice,
            None => {
                let words: Vec<_> = choices.iter().map(|(word, _)| format!("{word:?}")).collect();
                self.wrong(key, node, format!("must be {}", words.join(" or ")));
                default
            }
        }
    }

    /// A decimal, quoted or not, as units of `10^-scale`, if it was written.
    pub(super) fn decimal(
        &mut self,
        key: &'static str,
        scale: u8,
        range: RangeInclusive<i64>,
        rule: &str,
    ) -> Option<i64> {
        let node = self.find(key)?;
        match decimal(&node.value, scale) {
            Ok(units) if range.contains(&units) => Some(units),
            Ok(_) => {
                self.wrong(key, node, rule);
                None
            }
            Err(why) => {
                self.wrong(key, node, format!("{rule}: {why}"));
                None
            }
        }
    }

    /// An amount of money; 0 or more.
    pub(super) fn money(&mut self, key: &'static str, default: Money) -> Money {
        let rule = "must be an amount of at least 0 with at most 8 decimals";
        self.decimal(key, MONEY_SCALE, 0..=i64::MAX, rule).map_or(default, Money)
    }

    /// A fraction of one as parts per million.
    pub(super) fn fraction(
        &mut self,
        key: &'static str,
        default_ppm: i64,
        range_ppm: RangeInclusive<i64>,
        rule: &str,
    ) -> i64 {
        self.decimal(key, 6, range_ppm, rule).unwrap_or(default_ppm)
    }
}

/// A value as units of `10^-scale`, or why it is not.
pub(super) fn decimal(value: &Value, scale: u8) -> Result<i64, String> {
    let text = value.as_number_text().ok_or("no number")?;
    parse_decimal(text.as_bytes(), scale).map_err(|error| error.to_string())
}

fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}
