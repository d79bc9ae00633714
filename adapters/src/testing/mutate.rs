//! Frames that mean the same in another spelling, and frames that are damaged.

use proptest::prelude::*;
use proptest::sample::{Index, select};

/// Another spelling of a frame without white space between its tokens.
pub(crate) fn respelled(frame: &str, seed: &mut u64) -> String {
    let mut text = String::new();
    Json::read(&mut &frame[..]).respell(seed, &mut text);
    text
}

/// A value of JSON whose objects keep their order.
#[derive(Clone, Debug)]
enum Json {
    Object(Vec<(String, Json)>),
    Array(Vec<Json>),
    Other(String),
}

impl Json {
    /// Reads text without white space between its tokens.
    fn read(text: &mut &str) -> Self {
        fn token<'a>(text: &mut &'a str) -> &'a str {
            let end = match text.strip_prefix('"') {
                Some(rest) => rest.find('"').unwrap() + 2,
                None => text.find([',', ']', '}']).unwrap_or(text.len()),
            };
            let (token, rest) = text.split_at(end);
            *text = rest;
            token
        }
        fn close(text: &mut &str, end: char) -> bool {
            *text = text.strip_prefix(',').unwrap_or(text);
            let rest = text.strip_prefix(end);
            *text = rest.unwrap_or(text);
            rest.is_some()
        }
        if let Some(rest) = text.strip_prefix('{') {
            *text = rest;
            let mut fields = Vec::new();
            while !close(text, '}') {
                let key = token(text).to_owned();
                *text = &text[1..];
                fields.push((key, Self::read(text)));
            }
            Self::Object(fields)
        } else if let Some(rest) = text.strip_prefix('[') {
            *text = rest;
            let mut values = Vec::new();
            while !close(text, ']') {
                values.push(Self::read(text));
            }
            Self::Array(values)
        } else {
            Self::Other(token(text).to_owned())
        }
    }

    /// Another spelling of the same: other order of keys, keys that nobody knows, white space.
    fn respell(&self, seed: &mut u64, text: &mut String) {
        let mut dice = |sides: usize| {
            *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            usize::try_from(*seed >> 33).unwrap() % sides
        };
        let space = ["", "", " ", "\t\r\n"][dice(4)];
        match self {
            Self::Object(fields) => {
                let mut fields = fields.clone();
                for at in (1..fields.len()).rev() {
                    fields.swap(at, dice(at + 1));
                }
                if dice(2) == 0 {
                    let extra = ["1", "\"a\\u00e9\\n\"", "{\"x\":[1,{}]}", "-1.5e3"][dice(4)];
                    let at = dice(fields.len() + 1);
                    fields.insert(at, ("\"zz\"".into(), Self::Other(extra.into())));
                }
                text.push('{');
                for (n, (key, value)) in fields.iter().enumerate() {
                    text.push_str(if n == 0 { space } else { "," });
                    text.push_str(key);
                    text.push_str(space);
                    text.push(':');
                    value.respell(seed, text);
                }
                text.push_str(space);
                text.push('}');
            }
            Self::Array(values) => {
                text.push('[');
                for (n, value) in values.iter().enumerate() {
                    text.push_str(if n == 0 { space } else { "," });
                    value.respell(seed, text);
                }
                text.push_str(space);
                text.push(']');
            }
            Self::Other(token) => {
                text.push_str(space);
                text.push_str(token);
                text.push_str(space);
            }
        }
    }
}

/// What may happen to a byte.
#[derive(Clone, Debug)]
pub(crate) enum Damage {
    Set(u8),
    Remove,
    Insert(u8),
    CutOff,
    Double,
}

pub(crate) fn damage() -> impl Strategy<Value = Damage> {
    let byte = || prop_oneof![select(&b"\"{}[],:.-09eNa \\u\n"[..]), any::<u8>()];
    prop_oneof![
        4 => byte().prop_map(Damage::Set),
        2 => Just(Damage::Remove),
        2 => byte().prop_map(Damage::Insert),
        1 => Just(Damage::CutOff),
        1 => Just(Damage::Double),
    ]
}

pub(crate) fn damaged(frame: &[u8], damages: &[(Index, Damage)]) -> Vec<u8> {
    let mut frame = frame.to_vec();
    for (index, damage) in damages {
        if frame.is_empty() {
            break;
        }
        let at = index.index(frame.len());
        match damage {
            Damage::Set(byte) => frame[at] = *byte,
            Damage::Remove => drop(frame.remove(at)),
            Damage::Insert(byte) => frame.insert(at, *byte),
            Damage::CutOff => frame.truncate(at),
            Damage::Double => frame.extend_from_within(at..),
        }
    }
    frame
}
