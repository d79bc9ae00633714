//! The text of a logical frame: one JSON object, or one row of CSV.
//!
//! Prices and quantities are exact decimals as text. What a frame does not say is no key in JSON
//! and an empty field in CSV. Both are written from one list of fields, into the caller's buffer.

mod fields;

use std::fmt::Write as _;

use kairos_logic::event::Event;
use kairos_logic::instrument::InstrumentTable;
use kairos_logic::order::Decision;
use kairos_logic::units::{Decimal, OrderId, Stamp};

use crate::frames::{Record, StrategyName};

/// How stamps become nanoseconds: they are shown relative to the start of their run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Clock {
    /// Ticks per second; 0 leaves the stamps out.
    pub tsc_hz: u64,
    /// Reading of the counter that is shown as 0.
    pub start: u64,
}

impl Clock {
    /// Nanoseconds from the start to a stamp, rounded down; negative before the start. `None` for
    /// an absent stamp or an unknown rate.
    #[must_use]
    pub fn ns(&self, stamp: Stamp) -> Option<i64> {
        if stamp.0 == 0 || self.tsc_hz == 0 {
            return None;
        }
        let ticks = i128::from(stamp.0) - i128::from(self.start);
        let ns = (ticks * 1_000_000_000).div_euclid(i128::from(self.tsc_hz));
        i64::try_from(ns).ok()
    }
}

/// A value of a field.
enum Cell<'a> {
    Text(&'a str),
    Count(u64),
    Signed(i64),
    Boolean(bool),
    /// A decimal as text.
    Decimal(Decimal),
    /// A decimal as a number.
    Number(Decimal),
    /// 16 hexadecimal digits.
    Hex(u64),
    Order(OrderId),
    List(&'a [&'static str]),
    /// Names with nanoseconds.
    Stamps(&'a [(&'static str, i64)]),
}

/// Columns of the CSV form. Grows at the end only.
const COLUMNS: [&str; 49] = [
    "seq",
    "kind",
    "venue",
    "instrument",
    "at",
    "venue_at",
    "id",
    "price",
    "qty",
    "side",
    "bid",
    "bid_qty",
    "ask",
    "ask_qty",
    "update",
    "flags",
    "reason",
    "expected",
    "found",
    "status",
    "detail",
    "link",
    "text",
    "verb",
    "argument",
    "order_id",
    "state",
    "remaining",
    "fee",
    "maker",
    "currency",
    "total",
    "available",
    "digest",
    "strategy",
    "action",
    "type",
    "tif",
    "approved",
    "code",
    "limit",
    "notional",
    "cause",
    "confidence",
    "tag",
    "trigger",
    "risk_state",
    "stamps",
    "realised",
];

/// What the renderer needs of an instrument.
#[derive(Clone, Debug)]
struct Known {
    symbol: String,
    venue: String,
    price_scale: u8,
    qty_scale: u8,
}

/// Writes frames of one run. Names and scales are those of the run's own records.
#[derive(Clone, Debug)]
pub struct Renderer {
    instruments: Vec<Known>,
    venues: Vec<String>,
    currencies: Vec<String>,
    strategies: Vec<String>,
    clock: Clock,
}

impl Renderer {
    /// A renderer for the frames behind these records.
    #[must_use]
    pub fn new(table: &InstrumentTable, strategies: &[StrategyName], clock: Clock) -> Self {
        let known = |(_, it): (_, &kairos_logic::instrument::Instrument)| Known {
            symbol: it.symbol.clone(),
            venue: table.venue_name(it.venue).to_owned(),
            price_scale: it.price_scale,
            qty_scale: it.qty_scale,
        };
        Self {
            instruments: table.iter().map(known).collect(),
            venues: table.venues.clone(),
            currencies: table.currencies.clone(),
            strategies: strategies.iter().map(|it| it.name.clone()).collect(),
            clock,
        }
    }

    /// Appends the JSON object of a frame, without a line end.
    pub fn json(&self, seq: u64, record: &Record<'_>, out: &mut String) {
        out.push('{');
        let mut first = true;
        self.fields(seq, record, &mut |name, cell| {
            if !std::mem::take(&mut first) {
                out.push(',');
            }
            let _ = write!(out, "\"{name}\":");
            json_cell(&cell, out);
        });
        out.push('}');
    }

    /// The header of the CSV form, without a line end.
    #[must_use]
    pub fn csv_header() -> String {
        COLUMNS.join(",")
    }

    /// Appends the CSV row of a frame, without a line end.
    pub fn csv(&self, seq: u64, record: &Record<'_>, out: &mut String) {
        // Fields come in another order than columns: each is written aside and then put in place.
        let mut cells: [(usize, usize); COLUMNS.len()] = [(0, 0); COLUMNS.len()];
        let mut text = String::with_capacity(256);
        self.fields(seq, record, &mut |name, cell| {
            if let Some(column) = COLUMNS.iter().position(|column| *column == name) {
                let from = text.len();
                csv_cell(&cell, &mut text);
                cells[column] = (from, text.len());
            }
        });
        for (column, (from, to)) in cells.into_iter().enumerate() {
            if column > 0 {
                out.push(',');
            }
            out.push_str(text.get(from..to).unwrap_or(""));
        }
    }

    /// One event as a JSON value, for reports; without stamps where the clock is the default one.
    #[must_use]
    pub fn event_value(&self, seq: u64, event: &Event) -> serde_json::Value {
        self.value(seq, &Record::Event(*event))
    }

    /// One decision as a JSON value, without its stamps, for reports.
    #[must_use]
    pub fn decision_value(&self, seq: u64, record: &Decision) -> serde_json::Value {
        let record = Record::Decision { record: *record, strategy_at: Stamp(0), risk_at: Stamp(0) };
        self.value(seq, &record)
    }

    fn value(&self, seq: u64, record: &Record<'_>) -> serde_json::Value {
        let mut text = String::new();
        self.json(seq, record, &mut text);
        serde_json::from_str(&text).expect("the renderer writes JSON")
    }

    /// Hands out the fields that a frame has, in the order of the JSON form.
    fn fields(&self, seq: u64, record: &Record<'_>, put: &mut dyn FnMut(&'static str, Cell<'_>)) {
        put("seq", Cell::Count(seq));
        match record {
            Record::Event(event) => self.event(event, put),
            Record::Decision { record, strategy_at, risk_at } => {
                self.decision(record, put);
                let stamps = [("strategy", *strategy_at), ("risk", *risk_at)];
                self.stamps(&stamps, put);
            }
            Record::Part(part) => {
                let kind = crate::frames::kind_name(part.kind).unwrap_or("unknown");
                put("kind", Cell::Text(kind));
                put("id", Cell::Count(u64::from(part.part)));
                put("total", Cell::Count(u64::from(part.parts)));
            }
        }
    }

    fn stamps(
        &self,
        stamps: &[(&'static str, Stamp)],
        put: &mut dyn FnMut(&'static str, Cell<'_>),
    ) {
        let mut shown = [("", 0); 2];
        let mut count = 0;
        for (name, stamp) in stamps {
            if let (Some(ns), Some(slot)) = (self.clock.ns(*stamp), shown.get_mut(count)) {
                *slot = (name, ns);
                count += 1;
            }
        }
        if count > 0 {
            put("stamps", Cell::Stamps(&shown[..count]));
        }
    }
}

fn json_cell(cell: &Cell<'_>, out: &mut String) {
    // Writing to a String cannot fail.
    let _ = match cell {
        Cell::Text(text) => {
            json_text(text, out);
            Ok(())
        }
        Cell::Count(number) => write!(out, "{number}"),
        Cell::Signed(number) => write!(out, "{number}"),
        Cell::Boolean(value) => write!(out, "{value}"),
        Cell::Decimal(decimal) => write!(out, "\"{decimal}\""),
        Cell::Number(decimal) => write!(out, "{decimal}"),
        Cell::Hex(number) => write!(out, "\"{number:016x}\""),
        Cell::Order(order) => write!(out, "\"{order}\""),
        Cell::List(words) => {
            let mut separator = "[";
            for word in *words {
                let _ = write!(out, "{separator}\"{word}\"");
                separator = ",";
            }
            out.push_str(if words.is_empty() { "[]" } else { "]" });
            Ok(())
        }
        Cell::Stamps(stamps) => {
            let mut separator = "{";
            for (name, ns) in *stamps {
                let _ = write!(out, "{separator}\"{name}\":{ns}");
                separator = ",";
            }
            out.push_str(if stamps.is_empty() { "{}" } else { "}" });
            Ok(())
        }
    };
}

fn json_text(text: &str, out: &mut String) {
    let plain = |byte: u8| (b' '..0x7f).contains(&byte) && byte != b'"' && byte != b'\\';
    if text.bytes().all(plain) {
        let _ = write!(out, "\"{text}\"");
    } else {
        out.push_str(&serde_json::Value::from(text).to_string());
    }
}

fn csv_cell(cell: &Cell<'_>, out: &mut String) {
    let _ = match cell {
        Cell::Text(text) if text.contains(['"', ',', '\n', '\r']) => {
            write!(out, "\"{}\"", text.replace('"', "\"\""))
        }
        Cell::Text(text) => {
            out.push_str(text);
            Ok(())
        }
        Cell::Count(number) => write!(out, "{number}"),
        Cell::Signed(number) => write!(out, "{number}"),
        Cell::Boolean(value) => write!(out, "{value}"),
        Cell::Decimal(decimal) | Cell::Number(decimal) => write!(out, "{decimal}"),
        Cell::Hex(number) => write!(out, "{number:016x}"),
        Cell::Order(order) => write!(out, "{order}"),
        Cell::List(words) => {
            for (place, word) in words.iter().enumerate() {
                out.push_str(if place > 0 { "|" } else { "" });
                out.push_str(word);
            }
            Ok(())
        }
        Cell::Stamps(stamps) => {
            for (place, (name, ns)) in stamps.iter().enumerate() {
                let separator = if place > 0 { "|" } else { "" };
                let _ = write!(out, "{separator}{name}={ns}");
            }
            Ok(())
        }
    };
}

#[cfg(test)]
mod tests;
