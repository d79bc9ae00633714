//! Reads frames in the exact spellings that the venue uses: no white space, no escapes, and one of
//! the orders of keys around the data that it has used over the years. The order inside the data
//! changes more often than that and does not matter here.
//!
//! Every byte is checked, so what the scanner accepts is what the tape parser would have read, and
//! whatever it does not recognise it leaves to that. It never decides that a frame is bad.

use kairos_logic::units::Side;

use super::decode::{self, Decoded};
use crate::venue::cursor::Cursor;
use crate::venue::levels::Levels;
use crate::venue::symbols::{Listed, Symbols};

/// What the data of a frame are.
#[derive(Clone, Copy)]
enum Kind {
    Match,
    Level2,
    Ticker,
}

/// What stands around the data of a frame.
struct Around<'a> {
    kind: Kind,
    listed: Listed,
    symbol: &'a [u8], // with its quotation mark
    behind: usize,    // bytes behind the data
}

#[inline]
pub(super) fn frame(frame: &[u8], symbols: &Symbols, levels: &mut Levels) -> Option<Decoded> {
    let mut cursor = Cursor { rest: frame };
    let around = if cursor.eat_if(b"{\"data\":") {
        behind_data(frame, symbols)?
    } else {
        before_data(&mut cursor, symbols)?
    };
    cursor.eat(b"{\"")?;
    let decoded = match around.kind {
        Kind::Match => trade(&mut cursor, &around),
        Kind::Level2 => depth(&mut cursor, &around, levels),
        Kind::Ticker => quote(&mut cursor, &around),
    }?;
    (cursor.rest.len() == around.behind).then_some(decoded)
}

/// `{"topic":…,"type":"message","subject":…,"data":` as since 2023, or with the type first.
#[inline]
fn before_data<'a>(cursor: &mut Cursor<'a>, symbols: &Symbols) -> Option<Around<'a>> {
    let type_first = cursor.eat_if(b"{\"type\":\"message\",");
    if !type_first {
        cursor.eat(b"{")?;
    }
    cursor.eat(b"\"topic\":\"/market/")?;
    let kind = topic(cursor)?;
    let named = cursor.rest;
    let listed = cursor.symbol(symbols)?;
    let symbol = named.get(..named.len() - cursor.rest.len())?;
    if !type_first {
        cursor.eat(b",\"type\":\"message\"")?;
    }
    cursor.eat(b",\"subject\":\"trade.")?;
    subject(cursor, kind)?;
    cursor.eat(b",\"data\":")?;
    let behind = b"}";
    (cursor.rest.last() == behind.last()).then_some(())?;
    Some(Around { kind, listed, symbol, behind: behind.len() })
}

/// `,"subject":…,"topic":…,"type":"message"}` as in 2021, behind data that cannot be read without.
#[inline]
fn behind_data<'a>(frame: &'a [u8], symbols: &Symbols) -> Option<Around<'a>> {
    let head = frame.strip_suffix(b"\",\"type\":\"message\"}")?;
    // The subject, the topic and the longest symbol are shorter than that.
    const TAIL_MAX: usize = 96;
    let tail = head.get(head.len().saturating_sub(TAIL_MAX)..)?;
    let from_end = tail.iter().rev().position(|&byte| byte == b',')? + 1;
    let topic_at = head.len().checked_sub(from_end)?;
    let subject_tail = head.get(head.len().saturating_sub(TAIL_MAX)..topic_at)?;
    let from_topic = subject_tail.iter().rev().position(|&byte| byte == b',')? + 1;
    let subject_at = topic_at.checked_sub(from_topic)?;
    let mut cursor = Cursor { rest: frame.get(topic_at..)? };
    cursor.eat(b",\"topic\":\"/market/")?;
    let kind = topic(&mut cursor)?;
    let named = cursor.rest;
    let listed = cursor.symbol(symbols)?;
    let symbol = named.get(..named.len() - cursor.rest.len())?;
    cursor.eat(b",\"type\":\"message\"}")?;
    cursor.end()?;
    let mut cursor = Cursor { rest: frame.get(subject_at..topic_at)? };
    cursor.eat(b",\"subject\":\"trade.")?;
    subject(&mut cursor, kind)?;
    cursor.end()?;
    Some(Around { kind, listed, symbol, behind: frame.len() - subject_at })
}

#[inline]
fn topic(cursor: &mut Cursor<'_>) -> Option<Kind> {
    if cursor.eat_if(b"match:") {
        Some(Kind::Match)
    } else if cursor.eat_if(b"level2:") {
        Some(Kind::Level2)
    } else {
        cursor.eat(b"ticker:").map(|()| Kind::Ticker)
    }
}

#[inline]
fn subject(cursor: &mut Cursor<'_>, kind: Kind) -> Option<()> {
    match kind {
        Kind::Match => cursor.eat(b"l3match\""),
        Kind::Level2 => cursor.eat(b"l2update\""),
        Kind::Ticker => cursor.eat(b"ticker\""),
    }
}

/// What comes after a value: another key, whose first quotation mark is passed, or the end.
#[inline]
fn more(cursor: &mut Cursor<'_>) -> Option<bool> {
    if cursor.eat_if(b",\"") {
        return Some(true);
    }
    cursor.eat(b"}").map(|()| false)
}

/// Sets what may be set once.
#[inline]
fn once<T>(place: &mut Option<T>, value: T) -> Option<()> {
    place.replace(value).is_none().then_some(())
}

/// Digits in quotation marks, the first of which is passed.
#[inline]
fn digits(cursor: &mut Cursor<'_>) -> Option<u64> {
    let number = cursor.integer()?;
    cursor.eat(b"\"")?;
    Some(number)
}

#[inline]
fn trade(cursor: &mut Cursor<'_>, around: &Around<'_>) -> Option<Decoded> {
    let listed = around.listed;
    let (mut price, mut qty, mut side) = (None, None, None);
    let (mut id, mut sequence, mut time) = (None, None, None);
    let mut named = None;
    loop {
        match cursor.rest.first_chunk::<3>()? {
            b"mak" => {
                cursor.eat(b"makerOrderId\":\"")?;
                cursor.skip_text()?;
            }
            b"pri" => {
                cursor.eat(b"price\":\"")?;
                once(&mut price, cursor.decimal(listed.price_scale)?)?;
            }
            b"seq" => {
                cursor.eat(b"sequence\":\"")?;
                once(&mut sequence, digits(cursor)?)?;
            }
            b"sid" => {
                cursor.eat(b"side\":\"")?;
                let aggressor = if cursor.eat_if(b"buy\"") {
                    Side::Buy
                } else {
                    cursor.eat(b"sell\"")?;
                    Side::Sell
                };
                once(&mut side, aggressor)?;
            }
            b"siz" => {
                cursor.eat(b"size\":\"")?;
                once(&mut qty, cursor.decimal(listed.qty_scale)?)?;
            }
            b"sym" => once(&mut named, symbol(cursor, around)?)?,
            b"tak" => {
                cursor.eat(b"takerOrderId\":\"")?;
                cursor.skip_text()?;
            }
            b"tim" => {
                cursor.eat(b"time\":\"")?;
                once(&mut time, nanos(cursor)?)?;
            }
            b"tra" => {
                cursor.eat(b"tradeId\":\"")?;
                once(&mut id, trade_id(cursor)?)?;
            }
            _ => cursor.eat(b"type\":\"match\"")?,
        }
        if !more(cursor)? {
            break;
        }
    }
    let (sequence, ()) = (sequence?, named?);
    let id = id?.unwrap_or(sequence);
    decode::trade(listed, id, (price?, qty?), side?, time?).ok()
}

/// `symbol":"…"`, the one of the topic.
#[inline]
fn symbol(cursor: &mut Cursor<'_>, around: &Around<'_>) -> Option<()> {
    cursor.eat(b"symbol\":\"")?;
    cursor.rest = cursor.rest.strip_prefix(around.symbol)?;
    Some(())
}

/// Nineteen digits, one more than other numbers have.
#[inline]
fn nanos(cursor: &mut Cursor<'_>) -> Option<u64> {
    let (first, rest) = cursor.rest.split_first()?;
    let mut rest = Cursor { rest };
    let before = rest.rest.len();
    // What follows the first digit may begin with zeros.
    let mut value = u64::from(first.checked_sub(b'0').filter(|it| (1..=9).contains(it))?);
    while let [byte @ b'0'..=b'9', tail @ ..] = rest.rest {
        value = value.wrapping_mul(10).wrapping_add(u64::from(byte & 15));
        rest.rest = tail;
    }
    if before - rest.rest.len() != 18 {
        return None;
    }
    rest.eat(b"\"")?;
    cursor.rest = rest.rest;
    Some(value)
}

/// The id where it is a number; `None` inside where it is the text of before 2022.
#[inline]
fn trade_id(cursor: &mut Cursor<'_>) -> Option<Option<u64>> {
    let text = cursor.rest;
    if let Some(id) = digits(cursor) {
        return Some(Some(id));
    }
    cursor.rest = text;
    let is_hex = |it: &&u8| it.is_ascii_digit() || (b'a'..=b'f').contains(*it);
    let len = text.iter().take(32).take_while(is_hex).count();
    let (id, rest) = text.split_at_checked(len)?;
    // Only digits are a number, which the parser reads and we did not.
    id.iter().any(u8::is_ascii_alphabetic).then_some(())?;
    cursor.rest = rest;
    cursor.eat(b"\"")?;
    Some(None)
}

#[inline]
fn quote(cursor: &mut Cursor<'_>, around: &Around<'_>) -> Option<Decoded> {
    let listed = around.listed;
    let (mut bid, mut bid_qty, mut ask, mut ask_qty) = (None, None, None, None);
    let (mut sequence, mut time) = (None, None);
    loop {
        if cursor.eat_if(b"best") {
            if cursor.eat_if(b"AskSize\":\"") {
                once(&mut ask_qty, cursor.decimal(listed.qty_scale)?)?;
            } else if cursor.eat_if(b"Ask\":\"") {
                once(&mut ask, cursor.decimal(listed.price_scale)?)?;
            } else if cursor.eat_if(b"BidSize\":\"") {
                once(&mut bid_qty, cursor.decimal(listed.qty_scale)?)?;
            } else {
                cursor.eat(b"Bid\":\"")?;
                once(&mut bid, cursor.decimal(listed.price_scale)?)?;
            }
        } else if cursor.eat_if(b"sequence\":\"") {
            once(&mut sequence, digits(cursor)?)?;
        } else if cursor.eat_if(b"time\":") {
            once(&mut time, cursor.integer()?)?;
        } else {
            // The last trade, which came on its own.
            if !cursor.eat_if(b"price\":\"") {
                cursor.eat(b"size\":\"")?;
            }
            cursor.skip_text()?;
        }
        if !more(cursor)? {
            break;
        }
    }
    decode::quote(listed, sequence?, (bid?, bid_qty?), (ask?, ask_qty?), time?).ok()
}

#[inline]
fn depth(cursor: &mut Cursor<'_>, around: &Around<'_>, levels: &mut Levels) -> Option<Decoded> {
    let (mut first, mut last, mut time) = (None, None, None);
    let (mut named, mut changes) = (None, None);
    loop {
        if cursor.eat_if(b"changes\":{\"asks\":") {
            once(&mut changes, ())?;
            levels.clear();
            records(cursor, around.listed, levels)?;
            levels.end_asks();
            cursor.eat(b",\"bids\":")?;
            records(cursor, around.listed, levels)?;
            cursor.eat(b"}")?;
        } else if cursor.eat_if(b"sequenceStart\":") {
            once(&mut first, cursor.integer()?)?;
        } else if cursor.eat_if(b"sequenceEnd\":") {
            once(&mut last, cursor.integer()?)?;
        } else if cursor.eat_if(b"time\":") {
            once(&mut time, cursor.integer()?)?;
        } else {
            once(&mut named, symbol(cursor, around)?)?;
        }
        if !more(cursor)? {
            break;
        }
    }
    let ((), ()) = (named?, changes?);
    decode::depth(around.listed, first?, last?, time).ok()
}

/// `[["p","q","sequence"],…]`
#[inline]
fn records(cursor: &mut Cursor<'_>, listed: Listed, levels: &mut Levels) -> Option<()> {
    if cursor.eat_if(b"[]") {
        return Some(());
    }
    cursor.eat(b"[[\"")?;
    loop {
        let price = cursor.decimal(listed.price_scale)?;
        cursor.eat(b",\"")?;
        let qty = cursor.decimal(listed.qty_scale)?;
        cursor.eat(b",\"")?;
        let sequence = digits(cursor)?;
        cursor.eat(b"]")?;
        decode::change(levels, (price, qty), sequence).ok()?;
        if !cursor.eat_if(b",[\"") {
            return cursor.eat(b"]");
        }
    }
}
