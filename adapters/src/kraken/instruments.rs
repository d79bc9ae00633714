//! Instruments: from the venue's own list, or from nothing but their symbol.

use std::collections::BTreeMap;

use kairos_logic::units::{MONEY_SCALE, Money, POW10, Price, Qty, parse_decimal};
use serde::Deserialize;
use serde::de::Error as _;

use crate::venue::listing::{ListError, Listing};

/// Where the venue lists its instruments.
pub const LIST_PATH: &str = "/0/public/AssetPairs";
/// Most decimals that a scale may have.
const DECIMALS_MAX: u8 = 18;

/// Splits a symbol into base and quote currency: `BTC/USD`. `None` where it is none.
#[must_use]
pub fn split_symbol(symbol: &str) -> Option<(&str, &str)> {
    let (base, quote) = symbol.split_once('/')?;
    let is_name = |text: &str| {
        let wanted = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'.';
        !text.is_empty() && text.bytes().all(wanted)
    };
    (is_name(base) && is_name(quote)).then_some((base, quote))
}

/// The name of a currency in WebSocket version 2. Lists use older names for two of them.
fn currency(name: &str) -> &str {
    match name {
        "XBT" => "BTC",
        "XDG" => "DOGE",
        other => other,
    }
}

#[derive(Deserialize)]
struct RawList {
    error: Vec<String>,
    /// Missing where the venue refuses.
    #[serde(default)]
    result: Option<BTreeMap<String, RawPair>>,
}

#[derive(Deserialize)]
struct RawPair {
    /// Missing where the pair has no stream.
    #[serde(default)]
    wsname: Option<String>,
    pair_decimals: u8,
    lot_decimals: u8,
    /// Missing where the step is the last decimal.
    #[serde(default)]
    tick_size: Option<String>,
    #[serde(default)]
    ordermin: Option<String>,
    #[serde(default)]
    costmin: Option<String>,
    #[serde(default)]
    status: Option<String>,
}

/// Reads the body of `GET /0/public/AssetPairs`: the instruments in `wanted`, or all that have a
/// stream where that is empty, in the order of the venue's own names. Symbols are those of
/// WebSocket version 2, `BTC/USD`. A wanted symbol that is not listed is simply not there.
///
/// # Errors
/// [`ListError`] where the venue refuses, the body is no such list, or a wanted instrument's steps
/// make no sense.
pub fn parse_list(body: &[u8], wanted: &[&str]) -> Result<Vec<Listing>, ListError> {
    let list: RawList = serde_json::from_slice(body)?;
    if !list.error.is_empty() {
        return Err(ListError::Refused(list.error.join(", ")));
    }
    let pairs = list.result.ok_or_else(|| serde_json::Error::custom("neither result nor error"))?;
    let symbol = |it: &RawPair| {
        let (base, quote) = split_symbol(it.wsname.as_deref()?)?;
        Some([currency(base), currency(quote)].map(str::to_owned))
    };
    pairs
        .values()
        .filter_map(|it| Some((symbol(it)?, it)))
        .map(|(names, it)| (names.join("/"), names, it))
        .filter(|(symbol, ..)| wanted.is_empty() || wanted.contains(&symbol.as_str()))
        .map(|(symbol, names, it)| listing(symbol, names, it))
        .collect()
}

fn listing(
    symbol: String,
    [base, quote]: [String; 2],
    raw: &RawPair,
) -> Result<Listing, ListError> {
    let error = |field, found: &str, rule| ListError::Filter {
        symbol: symbol.clone(),
        filter: "pair",
        field,
        found: found.into(),
        rule,
    };
    let scale = |field, decimals: u8| {
        let rule = "must be at most 18";
        if decimals > DECIMALS_MAX {
            return Err(error(field, &decimals.to_string(), rule));
        }
        Ok(decimals)
    };
    let number = |field, text: &Option<String>, scale: u8| {
        let Some(text) = text.as_deref() else {
            return Ok(0);
        };
        match parse_decimal(text.as_bytes(), scale) {
            Ok(units @ 0..) => Ok(units),
            Ok(_) => Err(error(field, text, "must not be negative")),
            Err(_) => Err(error(field, text, "must be a decimal that fits")),
        }
    };
    let price_scale = scale("pair_decimals", raw.pair_decimals)?;
    let qty_scale = scale("lot_decimals", raw.lot_decimals)?;
    let tick = number("tick_size", &raw.tick_size, price_scale)?.max(1);
    let least = number("ordermin", &raw.ordermin, qty_scale)?.max(1);
    Ok(Listing {
        trading: raw.status.as_deref().is_none_or(|status| status == "online"),
        price_scale,
        qty_scale,
        tick: Price(tick),
        lot: Qty(1),
        min_qty: Qty(least),
        min_notional: Money(number("costmin", &raw.costmin, MONEY_SCALE)?),
        symbol,
        base,
        quote,
    })
}

// The scales index the table of powers.
const _: () = assert!(POW10.len() == DECIMALS_MAX as usize + 1);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::captures;

    #[test]
    fn symbols_split_at_their_stroke() {
        let check = |symbol: &str, want: Option<(&str, &str)>| {
            assert_eq!(split_symbol(symbol), want, "{symbol}");
        };
        check("BTC/USD", Some(("BTC", "USD")));
        check("AAPLx/USD", Some(("AAPLx", "USD")));
        for none in ["BTCUSD", "BTC/", "/USD", "", "/", "A/B/C", "B\"C/USD"] {
            check(none, None);
        }
    }

    #[test]
    fn the_published_lists_describe_their_instruments() {
        let Some(folder) = captures() else { return };
        let read = |name: &str, wanted: &[&str]| {
            let body = std::fs::read(folder.join("orders/kraken/nautilus").join(name)).unwrap();
            parse_list(&body, wanted).unwrap()
        };
        assert_eq!(
            read("http_asset_pairs.json", &["BTC/USDT", "NO/SUCH"]),
            [Listing {
                symbol: "BTC/USDT".into(),
                base: "BTC".into(),
                quote: "USDT".into(),
                trading: true,
                price_scale: 1,
                qty_scale: 8,
                tick: Price(1),
                lot: Qty(1),
                min_qty: Qty(5_000),
                min_notional: Money(50_000_000),
            }]
        );
        let all = read("http_asset_pairs_tokenized.json", &[]);
        let it = &all[0];
        assert_eq!((it.symbol.as_str(), it.base.as_str()), ("AAPLx/USD", "AAPLx"));
        assert_eq!((it.price_scale, it.tick, it.min_qty), (2, Price(1), Qty(1)));
    }

    fn list(more: &str) -> String {
        format!(
            r#"{{"error":[],"result":{{"XXDGZUSD":{{"wsname":"XDG/USD","altname":"XDGUSD",
            "pair_decimals":4,"lot_decimals":2{more}}},"DARK.d":{{"pair_decimals":1,"lot_decimals":1}}}}}}"#
        )
    }

    #[test]
    fn what_is_listed_becomes_rules() {
        let read = |more: &str| {
            let mut all = parse_list(list(more).as_bytes(), &[]).unwrap();
            assert_eq!(all.len(), 1, "the other has no stream");
            all.remove(0)
        };
        let it = read("");
        assert_eq!((it.symbol.as_str(), it.base.as_str(), it.trading), ("DOGE/USD", "DOGE", true));
        assert_eq!((it.tick, it.lot, it.min_qty), (Price(1), Qty(1), Qty(1)));
        let it = read(r#","tick_size":"0.0005","ordermin":"50","costmin":"0.5","status":"online""#);
        assert_eq!((it.tick, it.min_qty, it.trading), (Price(5), Qty(5_000), true));
        assert_eq!(it.min_notional, Money(50_000_000));
        for status in ["cancel_only", "post_only", "limit_only", "reduce_only"] {
            assert!(!read(&format!(r#","status":"{status}""#)).trading, "{status}");
        }
    }

    #[test]
    fn what_makes_no_sense_is_named() {
        let check = |text: String, want: &str| {
            let error = parse_list(text.as_bytes(), &[]).unwrap_err().to_string();
            assert!(error.starts_with(want), "{error}");
        };
        check(
            r#"{"error":["EGeneral:Internal error","EService:Busy"]}"#.into(),
            "the venue refuses: EGeneral:Internal error, EService:Busy",
        );
        check("[]".into(), "not a list of instruments: ");
        check("{}".into(), "not a list of instruments: missing field `error`");
        check(r#"{"error":[]}"#.into(), "not a list of instruments: neither result nor error");
        check(
            list(r#","tick_size":"0.00001""#),
            r#"DOGE/USD: pair tick_size = "0.00001": must be a decimal that fits"#,
        );
        check(list(r#","costmin":"-1""#), r#"DOGE/USD: pair costmin = "-1": must not be negative"#);
        let scale = list("").replace("\"pair_decimals\":4", "\"pair_decimals\":19");
        check(scale, r#"DOGE/USD: pair pair_decimals = "19": must be at most 18"#);
        assert!(parse_list(list(r#","costmin":"-1""#).as_bytes(), &["A/B"]).unwrap().is_empty());
    }
}
