//! Instruments: from the venue's own list, or from nothing but their symbol.

use kairos_logic::units::{Money, Price, Qty, parse_decimal};
use serde::Deserialize;

use crate::venue::listing::{ListError, Listing, decimals};

pub use crate::venue::listing::split_at_hyphen as split_symbol;

/// Where the venue lists its spot pairs.
pub const LIST_PATH: &str = "/api/v5/public/instruments?instType=SPOT";
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
    data: Vec<RawInstrument>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawInstrument {
    inst_id: String,
    #[serde(default)]
    base_ccy: String,
    #[serde(default)]
    quote_ccy: String,
    #[serde(default)]
    state: String,
    tick_sz: String,
    lot_sz: String,
    min_sz: String,
}

/// Reads the body of `GET /api/v5/public/instruments`: the instruments in `wanted`, or all where
/// that is empty, in the order of the list. A wanted symbol that is not listed is simply not there.
/// The venue knows no smallest value of an order.
///
/// # Errors
/// [`ListError`] where the body is no such list, the venue refuses, or a wanted instrument's steps
/// are missing or make no sense.
pub fn parse_list(body: &[u8], wanted: &[&str]) -> Result<Vec<Listing>, ListError> {
    let list: RawList = serde_json::from_slice(body)?;
    if list.code != "0" {
        return Err(ListError::Refused(format!("code {}: {}", list.code, list.msg)));
    }
    list.data
        .iter()
        .filter(|it| wanted.is_empty() || wanted.contains(&it.inst_id.as_str()))
        // What is not trading yet has no steps.
        .filter(|it| !it.tick_sz.is_empty() || wanted.contains(&it.inst_id.as_str()))
        .map(listing)
        .collect()
}

fn listing(raw: &RawInstrument) -> Result<Listing, ListError> {
    let error = |field: &'static str, found: &str, rule: &'static str| ListError::Filter {
        symbol: raw.inst_id.clone(),
        filter: "instrument",
        field,
        found: found.into(),
        rule,
    };
    let Some((base, quote)) = split_symbol(&raw.inst_id) else {
        return Err(error("instId", &raw.inst_id, "must have two parts"));
    };
    let given = |given: &str, split: &str| if given.is_empty() { split } else { given }.to_owned();
    let scale = |field: &'static str, text: &str, most: u8| match decimals(text) {
        it @ 0..=DECIMALS_MAX => Ok(it.max((it + MORE_DECIMALS).min(most))),
        _ => Err(error(field, text, "must have at most 12 decimals")),
    };
    let positive =
        |field: &'static str, text: &str, scale: u8| match parse_decimal(text.as_bytes(), scale) {
            Ok(units @ 1..) => Ok(units),
            Ok(_) => Err(error(field, text, "must be positive")),
            Err(_) => Err(error(field, text, "must be a decimal that fits")),
        };
    let price_scale = scale("tickSz", &raw.tick_sz, DECIMALS_MAX)?;
    let qty_scale = scale("lotSz", &raw.lot_sz, QTY_DECIMALS)?;
    let lot = positive("lotSz", &raw.lot_sz, qty_scale)?;
    let least = positive("minSz", &raw.min_sz, qty_scale)?;
    Ok(Listing {
        base: given(&raw.base_ccy, base),
        quote: given(&raw.quote_ccy, quote),
        symbol: raw.inst_id.clone(),
        trading: raw.state == "live",
        price_scale,
        qty_scale,
        tick: Price(positive("tickSz", &raw.tick_sz, price_scale)?),
        lot: Qty(lot),
        min_qty: Qty(least.max(lot)),
        min_notional: Money(0),
    })
}
