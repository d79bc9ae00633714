//! Instruments: from the venue's own list, or from nothing but their symbol.

use kairos_logic::units::{MONEY_SCALE, Money, Price, Qty, parse_decimal};
use serde::Deserialize;

use crate::venue::listing::{ListError, Listing, decimals, qty_scale};

/// Where the venue lists its instruments.
pub const LIST_PATH: &str = "/api/v3/brokerage/market/products?product_type=SPOT";
/// Decimals of prices, where the steps of the price need no more.
const DECIMALS: u8 = 8;
/// Most decimals that a step may have.
const DECIMALS_MAX: u8 = 18;

/// Splits a symbol into base and quote currency: `BTC-USD`. `None` where it is none.
#[must_use]
pub fn split_symbol(symbol: &str) -> Option<(&str, &str)> {
    let (base, quote) = symbol.split_once('-')?;
    let is_name = |text: &str| {
        let wanted = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit();
        !text.is_empty() && text.bytes().all(wanted)
    };
    (is_name(base) && is_name(quote)).then_some((base, quote))
}

/// The name under which the venue sends an instrument, where that is another: one order book serves
/// dollars and USDC, and its messages say `-USD` for both.
pub(super) fn wire_symbol(symbol: &str) -> Option<String> {
    let base = symbol.strip_suffix("-USDC")?;
    Some(format!("{base}-USD"))
}

/// The list of Advanced Trade, or that of the older Exchange, which has no envelope.
#[derive(Deserialize)]
#[serde(untagged)]
enum RawList {
    Advanced { products: Vec<RawProduct> },
    Exchange(Vec<RawProduct>),
}

/// One instrument of either list. Numbers are text.
#[derive(Deserialize)]
struct RawProduct {
    #[serde(alias = "id")]
    product_id: String,
    #[serde(alias = "base_currency")]
    base_currency_id: String,
    #[serde(alias = "quote_currency")]
    quote_currency_id: String,
    base_increment: String,
    quote_increment: String,
    #[serde(default)]
    price_increment: Option<String>,
    base_min_size: String,
    #[serde(default)]
    base_max_size: Option<String>,
    #[serde(default, alias = "min_market_funds")]
    quote_min_size: Option<String>,
    #[serde(default)]
    status: String,
    #[serde(default)]
    trading_disabled: bool,
    #[serde(default)]
    is_disabled: bool,
    #[serde(default)]
    cancel_only: bool,
    #[serde(default)]
    post_only: bool,
    #[serde(default)]
    auction_mode: bool,
    #[serde(default)]
    view_only: bool,
}

/// Reads the body of `GET /api/v3/brokerage/market/products` or of the older `GET /products`: the
/// instruments in `wanted`, or all where that is empty, in the order of the list. A wanted symbol
/// that is not listed is simply not there.
///
/// # Errors
/// [`ListError`] where the body is no such list, or a wanted instrument's steps make no sense.
pub fn parse_list(body: &[u8], wanted: &[&str]) -> Result<Vec<Listing>, ListError> {
    let (RawList::Advanced { products } | RawList::Exchange(products)) =
        serde_json::from_slice(body)?;
    products
        .iter()
        .filter(|it| wanted.is_empty() || wanted.contains(&it.product_id.as_str()))
        .map(listing)
        .collect()
}

fn listing(raw: &RawProduct) -> Result<Listing, ListError> {
    let quote_step = raw.step("quote_increment", &raw.quote_increment)?;
    let (field, tick) = match raw.price_increment.as_deref() {
        Some(text) if !text.is_empty() => ("price_increment", text),
        Some(_) | None => ("quote_increment", quote_step),
    };
    let tick = raw.step(field, tick)?;
    let price_scale = DECIMALS.max(decimals(tick)).max(decimals(quote_step));
    let lot = raw.step("base_increment", &raw.base_increment)?;
    let largest = raw.base_max_size.as_deref().unwrap_or_default();
    let whole = largest.split('.').next().unwrap_or_default();
    let largest = if whole.is_empty() { 0 } else { raw.number("base_max_size", whole, 0)? };
    let qty_scale = qty_scale(largest, decimals(lot));
    let step = raw.number("base_increment", lot, qty_scale)?.max(1);
    let least = raw.number("base_min_size", &raw.base_min_size, qty_scale)?;
    let value = raw.quote_min_size.as_deref().unwrap_or_default();
    let min_notional =
        if value.is_empty() { 0 } else { raw.number("quote_min_size", value, MONEY_SCALE)? };
    let closed = raw.trading_disabled || raw.is_disabled || raw.view_only;
    let limited = raw.cancel_only || raw.post_only || raw.auction_mode;
    Ok(Listing {
        symbol: raw.product_id.clone(),
        base: raw.base_currency_id.clone(),
        quote: raw.quote_currency_id.clone(),
        trading: !closed && !limited && matches!(raw.status.as_str(), "online" | ""),
        price_scale,
        qty_scale,
        tick: Price(raw.number(field, tick, price_scale)?.max(1)),
        lot: Qty(step),
        min_qty: Qty(least.max(step)),
        min_notional: Money(min_notional),
    })
}

impl RawProduct {
    /// The value in units of `10^-scale`, not negative.
    fn number(&self, field: &'static str, text: &str, scale: u8) -> Result<i64, ListError> {
        match parse_decimal(text.as_bytes(), scale) {
            Ok(units @ 0..) => Ok(units),
            Ok(_) => Err(self.error(field, text, "must not be negative")),
            Err(_) => Err(self.error(field, text, "must be a decimal that fits")),
        }
    }

    /// A step whose decimals can be told.
    fn step<'a>(&self, field: &'static str, text: &'a str) -> Result<&'a str, ListError> {
        if decimals(text) > DECIMALS_MAX {
            return Err(self.error(field, text, "must have at most 18 decimals"));
        }
        Ok(text)
    }

    fn error(&self, field: &'static str, found: &str, rule: &'static str) -> ListError {
        let symbol = self.product_id.clone();
        ListError::Filter { symbol, filter: "product", field, found: found.into(), rule }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capture::Capture;
    use crate::testing::captures;

    #[test]
    fn symbols_split_at_their_dash() {
        let check = |symbol: &str, want: Option<(&str, &str)>| {
            assert_eq!(split_symbol(symbol), want, "{symbol}");
        };
        check("BTC-USD", Some(("BTC", "USD")));
        check("1INCH-USDC", Some(("1INCH", "USDC")));
        for none in ["BTCUSD", "BTC-", "-USD", "", "-", "btc-usd", "BTC-USD-1", "B\"C-USD"] {
            check(none, None);
        }
        assert_eq!(wire_symbol("BTC-USDC").as_deref(), Some("BTC-USD"));
        assert_eq!(wire_symbol("BTC-USD"), None);
    }

    #[test]
    fn the_recorded_list_of_the_older_product_describes_its_instruments() {
        let Some(folder) = captures() else { return };
        let mut capture =
            Capture::open(folder.join("instruments/coinbase_20210417.rest.gz")).unwrap();
        assert!(capture.advance().unwrap());
        let body = capture.frame().unwrap().bytes;
        let all = parse_list(body, &[]).unwrap();
        assert!(all.len() > 100, "{}", all.len());
        for it in &all {
            let rules = it.tick.0 > 0 && it.lot.0 > 0 && it.min_qty >= it.lot;
            assert!(rules && it.min_notional.0 >= 0, "{it:?}");
            assert_eq!(split_symbol(&it.symbol), Some((it.base.as_str(), it.quote.as_str())));
        }
        assert_eq!(
            parse_list(body, &["BTC-GBP", "NOSUCH"]).unwrap(),
            [Listing {
                symbol: "BTC-GBP".into(),
                base: "BTC".into(),
                quote: "GBP".into(),
                trading: true,
                price_scale: 8,
                qty_scale: 8,
                tick: Price(1_000_000),
                lot: Qty(1),
                min_qty: Qty(10_000),
                min_notional: Money(1_000_000_000),
            }]
        );
    }

    #[test]
    fn the_published_list_describes_its_instruments() {
        let Some(folder) = captures() else { return };
        let body =
            std::fs::read(folder.join("orders/coinbase/nautilus/http_products.json")).unwrap();
        let all = parse_list(&body, &[]).unwrap();
        let names: Vec<_> = all.iter().map(|it| it.symbol.as_str()).collect();
        assert_eq!(names, ["BTC-USD", "BTC-USDC"]);
        for it in all {
            assert!(it.trading);
            assert_eq!((it.price_scale, it.tick, it.lot), (8, Price(1_000_000), Qty(1)));
            assert_eq!((it.min_qty, it.min_notional), (Qty(1), Money(100_000_000)));
        }
    }

    fn list(more: &str) -> String {
        format!(
            r#"{{"products":[{{"product_id":"A-B","base_currency_id":"A","quote_currency_id":"B",
            "base_increment":"1","quote_increment":"0.0000000001","base_max_size":"90000000000",
            "base_min_size":"5"{more}}}]}}"#
        )
    }

    #[test]
    fn flags_and_steps_become_rules() {
        let read = |more: &str| parse_list(list(more).as_bytes(), &[]).unwrap().remove(0);
        let it = read("");
        assert!(it.trading);
        assert_eq!((it.price_scale, it.tick), (10, Price(1)));
        // A thousand of the largest orders have to fit.
        assert_eq!((it.qty_scale, it.lot, it.min_qty), (5, Qty(100_000), Qty(500_000)));
        assert_eq!(read(r#","price_increment":"0.01","status":"online""#).tick, Price(100_000_000));
        for closed in [
            r#","trading_disabled":true"#,
            r#","is_disabled":true"#,
            r#","cancel_only":true"#,
            r#","post_only":true"#,
            r#","auction_mode":true"#,
            r#","view_only":true"#,
            r#","status":"delisted""#,
        ] {
            assert!(!read(closed).trading, "{closed}");
        }
    }

    #[test]
    fn rules_that_make_no_sense_are_named() {
        let check = |text: String, want: &str| {
            let error = parse_list(text.as_bytes(), &[]).unwrap_err().to_string();
            assert!(error.starts_with(want), "{error}");
        };
        check(
            list(r#","price_increment":"x""#),
            r#"A-B: product price_increment = "x": must be a decimal that fits"#,
        );
        check(
            list(r#","quote_min_size":"-1""#),
            r#"A-B: product quote_min_size = "-1": must not be negative"#,
        );
        check(
            list(r#","price_increment":"0.0000000000000000001""#),
            r#"A-B: product price_increment = "0.0000000000000000001": must have at most 18 decimals"#,
        );
        check("{}".into(), "not a list of instruments: ");
        assert!(
            parse_list(list(r#","quote_min_size":"-1""#).as_bytes(), &["C-D"]).unwrap().is_empty()
        );
    }
}
