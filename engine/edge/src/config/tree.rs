//! The file as written: a tree of values that remember where they came from.
//!
//! Numbers keep their text, so that `0.001` reaches the one decimal routine of the system as it was
//! typed and never passes through a float.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::problem::{Origin, Problem};

/// Keys with their values, in the order of the keys.
pub(super) type Table = BTreeMap<String, Node>;

/// A value and where it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// What.
    pub value: Value,
    /// Where.
    pub origin: Origin,
}

/// A value as written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// Text in quotes, or a date.
    Text(String),
    /// A whole number.
    Integer(i64),
    /// A number with a point, as plain decimal text.
    Decimal(String),
    /// `true` or `false`.
    Boolean(bool),
    /// Values in brackets.
    List(Vec<Value>),
    /// Keys and values.
    Table(BTreeMap<String, Node>),
}

impl Value {
    /// The text of a text.
    #[must_use]
    pub fn as_text(&self) -> Option<&str> {
        if let Self::Text(text) = self { Some(text) } else { None }
    }

    /// The number of a whole number.
    #[must_use]
    pub fn as_integer(&self) -> Option<i64> {
        if let Self::Integer(number) = self { Some(*number) } else { None }
    }

    /// The value of `true` and `false`.
    #[must_use]
    pub fn as_boolean(&self) -> Option<bool> {
        if let Self::Boolean(value) = self { Some(*value) } else { None }
    }

    /// The values of a list.
    #[must_use]
    pub fn as_list(&self) -> Option<&[Value]> {
        if let Self::List(values) = self { Some(values) } else { None }
    }

    /// The keys and values of a table.
    #[must_use]
    pub fn as_table(&self) -> Option<&BTreeMap<String, Node>> {
        if let Self::Table(table) = self { Some(table) } else { None }
    }

    /// A number of any spelling as plain text: whole, with a point, or in quotes.
    #[must_use]
    pub fn as_number_text(&self) -> Option<String> {
        match self {
            Self::Text(text) | Self::Decimal(text) => Some(text.clone()),
            Self::Integer(number) => Some(number.to_string()),
            Self::Boolean(_) | Self::List(_) | Self::Table(_) => None,
        }
    }

    /// The value as TOML, on one line.
    #[must_use]
    pub fn to_toml(&self) -> String {
        let mut out = String::new();
        self.write(&mut out);
        out
    }

    fn write(&self, out: &mut String) {
        match self {
            Self::Text(text) => out.push_str(&quoted(text)),
            Self::Integer(number) => {
                let _ = write!(out, "{number}");
            }
            Self::Decimal(text) => out.push_str(text),
            Self::Boolean(value) => out.push_str(if *value { "true" } else { "false" }),
            Self::List(values) => {
                out.push('[');
                for (index, value) in values.iter().enumerate() {
                    if index > 0 {
                        out.push_str(", ");
                    }
                    value.write(out);
                }
                out.push(']');
            }
            Self::Table(table) => {
                out.push('{');
                for (index, (key, node)) in table.iter().enumerate() {
                    out.push_str(if index > 0 { ", " } else { " " });
                    let _ = write!(out, "{} = ", bare_or_quoted(key));
                    node.value.write(out);
                }
                out.push_str(" }");
            }
        }
    }
}

/// Reads one file.
pub(super) fn parse(name: &str, text: &str) -> Result<Table, Problem> {
    let lines = Lines::new(text);
    let table = DeTable::parse(text).map_err(|error| {
        let what = error.message().replace('\n', ", ");
        match error.span() {
            Some(span) => {
                let (line, column) = lines.place(span.start);
                Problem::new(format!("{name}:{line}:{column}"), what)
            }
            None => Problem::new(name, what),
        }
    })?;
    Ok(convert(table.get_ref(), &|start| Origin::File {
        name: name.to_owned(),
        line: lines.place(start).0,
    }))
}

/// Reads what stands behind `=` in a variable or a flag: a TOML value, else plain text.
pub(super) fn parse_value(text: &str, origin: &Origin) -> Value {
    let document = format!("value = {text}");
    if let Ok(table) = DeTable::parse(&document) {
        let mut converted = convert(table.get_ref(), &|_| origin.clone());
        if let (1, Some(node)) = (converted.len(), converted.remove("value")) {
            return node.value;
        }
    }
    Value::Text(text.to_owned())
}

/// Reads a dotted TOML key, such as `instruments."BTC/USD".tick_size`.
pub(super) fn parse_key(text: &str) -> Option<Vec<String>> {
    let document = format!("{text} = 0");
    let table = DeTable::parse(&document).ok()?;
    let mut table = convert(table.get_ref(), &|_| Origin::Flag);
    let mut path = Vec::new();
    loop {
        let (key, node) = table.pop_first()?;
        if !table.is_empty() {
            return None;
        }
        path.push(key);
        if let Value::Table(inner) = node.value {
            table = inner;
        } else {
            return Some(path);
        }
    }
}

/// Puts `upper` over `lower`: tables are merged, everything else is replaced.
pub(super) fn merge(lower: &mut Table, upper: Table) {
    for (key, node) in upper {
        match (lower.get_mut(&key), node) {
            (
                Some(Node { value: Value::Table(below), .. }),
                Node { value: Value::Table(above), .. },
            ) => merge(below, above),
            (_, node) => {
                lower.insert(key, node);
            }
        }
    }
}

/// One value under a path of keys, as a tree of its own.
pub(super) fn nest(path: &[String], value: Value, origin: &Origin) -> Table {
    let mut node = Node { value, origin: origin.clone() };
    let mut table = Table::new();
    for (depth, key) in path.iter().enumerate().rev() {
        table = Table::from([(key.clone(), node)]);
        node = Node {
            value: Value::Table(if depth > 0 { std::mem::take(&mut table) } else { Table::new() }),
            origin: origin.clone(),
        };
    }
    table
}

/// The path in the spelling that `tree` already has, key by key; lower case where it has none.
pub(super) fn in_spelling_of(tree: &Table, path: &[&str]) -> Vec<String> {
    let mut level = Some(tree);
    path.iter()
        .map(|word| {
            let found = level
                .and_then(|table| table.iter().find(|(key, _)| key.eq_ignore_ascii_case(word)));
            level = found.and_then(|(_, node)| node.value.as_table());
            found.map_or_else(|| word.to_ascii_lowercase(), |(key, _)| key.clone())
        })
        .collect()
}

/// The tree as TOML text: sorted keys, one line per value. Parsed again it gives the same tree,
/// but for where the values came from.
pub(super) fn canonical(tree: &Table) -> String {
    let mut out = String::new();
    write_section(tree, &mut Vec::new(), &mut out);
    out
}

fn write_section(table: &Table, path: &mut Vec<String>, out: &mut String) {
    let is_table = |node: &Node| matches!(node.value, Value::Table(_));
    if !path.is_empty() && (table.is_empty() || !table.values().all(is_table)) {
        let _ = writeln!(out, "[{}]", path.join("."));
    }
    for (key, node) in table {
        if !is_table(node) {
            let _ = writeln!(out, "{} = {}", bare_or_quoted(key), node.value.to_toml());
        }
    }
    for (key, node) in table {
        if let Value::Table(inner) = &node.value {
            path.push(bare_or_quoted(key));
            write_section(inner, path, out);
            path.pop();
        }
    }
}

fn convert(table: &DeTable<'_>, origin: &dyn Fn(usize) -> Origin) -> Table {
    table
        .iter()
        .map(|(key, value)| {
            let node =
                Node { value: convert_value(value, origin), origin: origin(key.span().start) };
            (key.get_ref().to_string(), node)
        })
        .collect()
}

fn convert_value(value: &Spanned<DeValue<'_>>, origin: &dyn Fn(usize) -> Origin) -> Value {
    match value.get_ref() {
        DeValue::String(text) => Value::Text(text.to_string()),
        DeValue::Integer(number) => {
            match i64::from_str_radix(&number.as_str().replace('_', ""), number.radix()) {
                Ok(number) => Value::Integer(number),
                // More than 64 bits: kept as written, and refused where a number is wanted.
                Err(_) => Value::Decimal(number.as_str().to_owned()),
            }
        }
        DeValue::Float(number) => Value::Decimal(plain(number.as_str())),
        DeValue::Boolean(value) => Value::Boolean(*value),
        DeValue::Datetime(time) => Value::Text(time.to_string()),
        DeValue::Array(values) => {
            Value::List(values.iter().map(|value| convert_value(value, origin)).collect())
        }
        DeValue::Table(table) => Value::Table(convert(table, origin)),
    }
}

/// The exponent of `1.5e-3` worked into plain digits; other text as it is. Exponents beyond what
/// any scale holds are left, and refused by whoever reads the number.
fn plain(text: &str) -> String {
    let text = text.replace('_', "");
    let Some((mantissa, exponent)) = text.split_once(['e', 'E']) else {
        return text;
    };
    let Ok(exponent @ -40..=40) = exponent.parse::<i32>() else {
        return text;
    };
    let (sign, mantissa) = match mantissa.strip_prefix('-') {
        Some(rest) => ("-", rest),
        None => ("", mantissa.trim_start_matches('+')),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = format!("{whole}{fraction}");
    let point = i32::try_from(whole.len()).unwrap_or(0) + exponent;
    let Ok(point) = usize::try_from(point) else {
        let zeros = "0".repeat(usize::try_from(-point).unwrap_or(0));
        return format!("{sign}0.{zeros}{digits}");
    };
    let padded = format!("{digits:0<point$}");
    let (whole, fraction) = padded.split_at(point);
    let whole = if whole.is_empty() { "0" } else { whole };
    let fraction = if fraction.is_empty() { "0" } else { fraction };
    format!("{sign}{whole}.{fraction}")
}

fn bare_or_quoted(key: &str) -> String {
    let bare = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    if !key.is_empty() && key.bytes().all(bare) { key.to_owned() } else { quoted(key) }
}

fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for letter in text.chars() {
        match letter {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            letter if letter.is_control() => {
                let _ = write!(out, "\\u{:04X}", u32::from(letter));
            }
            letter => out.push(letter),
        }
    }
    out.push('"');
    out
}

/// Where the lines of a text begin.
struct Lines<'a> {
    text: &'a str,
    starts: Vec<usize>,
}

impl<'a> Lines<'a> {
    fn new(text: &'a str) -> Self {
        let breaks = text.match_indices('\n').map(|(at, _)| at + 1);
        Self { text, starts: std::iter::once(0).chain(breaks).collect() }
    }

    /// Line and column of a byte, both from 1; columns count characters.
    fn place(&self, byte: usize) -> (usize, usize) {
        let line = self.starts.partition_point(|&start| start <= byte).max(1);
        let start = self.starts[line - 1];
        let column = self.text.get(start..byte).map_or(1, |before| before.chars().count() + 1);
        (line, column)
    }
}
