//! Instruments: from the venue's own list, or from nothing but their symbol.

use kairos_logic::units::{MONEY_SCALE, Money, Price, Qty, parse_decimal};
use serde::Deserialize;

use crate::venue::listing::{ListError, Listing, decimals};

pub use crate::venue::listing::split_at_hyphen as split_symbol;

/// Where the venue lists its instruments.
pub const LIST_PATH: &str = "/api/v2/symbols";
/// Decimals beyond those of the smallest step: the venue may change it while we listen.
const MORE_DECIMALS: u8 = 2;
/// Decimals up to which quantities get those, so that the largest still fit.
const QTY_DECIMALS: u8 = 6;
/// Most decimals of a price or quantity.
const DECIMALS_MAX: u8 = 12;

#[derive(Deserialize)]
struct RawList {
    code: String,
    #[serde(default)]
    msg: String,
    #[serde(default)]
    data: Vec<RawSymbol>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawSymbol {
    symbol: String,
    base_currency: String,
    quote_currency: String,
    base_increment: String,
    price_increment: String,
    base_min_size: String,
    /// Since version 2 of the list.
    min_funds: Option<String>,
    /// Smallest amount that a market order may spend: what version 1 has in its place.
    quote_min_size: Option<String>,
    #[serde(default)]
    enable_trading: bool,
}

/// Reads the body of `GET /api/v2/symbols`, or of its version 1: the instruments in `wanted`, or all
/// where that is empty, in the order of the list. A wanted symbol that is not listed is simply not
/// there.
///
/// # Errors
/// [`ListError`] where the body is no such list, the venue refuses, or a wanted instrument's steps
/// make no sense.
pub fn parse_list(body: &[u8], wanted: &[&str]) -> Result<Vec<Listing>, ListError> {
    let list: RawList = serde_json::from_slice(body)?;
    if list.code != "200000" {
        return Err(ListError::Refused(format!("code {}: {}", list.code, list.msg)));
    }
    list.data
        .iter()
        .filter(|it| wanted.is_empty() || wanted.contains(&it.symbol.as_str()))
        .map(listing)
        .collect()
}

fn listing(raw: &RawSymbol) -> Result<Listing, ListError> {
    let error = |field: &'static str, found: &str, rule: &'static str| ListError::Filter {
        symbol: raw.symbol.clone(),
        filter: "symbol",
        field,
        found: found.into(),
        rule,
    };
    let scale = |field: &'static str, text: &str, most: u8| match decimals(text) {
        it @ 0..=DECIMALS_MAX => Ok(it.max((it + MORE_DECIMALS).min(most))),
        _ => Err(error(field, text, "must have at most 12 decimals")),
    };
    let number = |field: &'static str, text: &str, scale: u8, least: i64| match parse_decimal(
        text.as_bytes(),
        scale,
    ) {
        Ok(units) if units >= least => Ok(units),
        Ok(_) if least > 0 => Err(error(field, text, "must be positive")),
        Ok(_) => Err(error(field, text, "must not be negative")),
        Err(_) => Err(error(field, text, "must be a decimal that fits")),
    };
    let price_scale = scale("priceIncrement", &raw.price_increment, DECIMALS_MAX)?;
    let qty_scale = scale("baseIncrement", &raw.base_increment, QTY_DECIMALS)?;
    let lot = number("baseIncrement", &raw.base_increment, qty_scale, 1)?;
    let least = number("baseMinSize", &raw.base_min_size, qty_scale, 0)?;
    let funds = match (&raw.min_funds, &raw.quote_min_size) {
        (Some(text), _) => number("minFunds", text, MONEY_SCALE, 0)?,
        (None, Some(text)) => number("quoteMinSize", text, MONEY_SCALE, 0)?,
        (None, None) => 0,
    };
    Ok(Listing {
        symbol: raw.symbol.clone(),
        base: raw.base_currency.clone(),
        quote: raw.quote_currency.clone(),
        trading: raw.enable_trading,
        price_scale,
        qty_scale,
        tick: Price(number("priceIncrement", &raw.price_increment, price_scale, 1)?),
        lot: Qty(lot),
        min_qty: Qty(least.max(lot)),
        min_notional: Money(funds),
    })
}
