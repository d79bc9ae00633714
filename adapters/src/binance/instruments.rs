//! Instruments: from the venue's own list, or from nothing but their symbol.

use kairos_logic::instrument::{Instrument, InstrumentTable};
use kairos_logic::units::{MONEY_SCALE, Money, Price, Qty, VenueId, parse_decimal};
use serde::Deserialize;

use crate::venue::listing::{self, Fees, ListError, Listing, decimals, qty_scale};

/// Where the venue lists its instruments.
pub const LIST_PATH: &str = "/api/v3/exchangeInfo";
/// Decimals that the venue writes.
const DECIMALS: u8 = 8;
/// Currencies that things are priced in, longest name first, so that `BTCFDUSD` is no pair in `USD`.
const QUOTES: [&str; 39] = [
    "FDUSD", "USDT", "USDC", "BUSD", "TUSD", "USDP", "USDS", "USD1", "BIDR", "IDRT", "BKRW",
    "BVND", "DOGE", "EURI", "BTC", "ETH", "BNB", "EUR", "TRY", "GBP", "AUD", "BRL", "RUB", "UAH",
    "NGN", "DAI", "PAX", "VAI", "XRP", "TRX", "ZAR", "PLN", "RON", "ARS", "JPY", "MXN", "CZK",
    "COP", "USD",
];

/// Splits a symbol into base and quote currency by the quote currencies that the venue has, the
/// longest first. `None` where none of them ends the symbol, or nothing is left before it.
#[must_use]
pub fn split_symbol(symbol: &str) -> Option<(&str, &str)> {
    QUOTES.iter().find_map(|quote| {
        let base = symbol.strip_suffix(quote)?;
        let start = symbol.len() - quote.len();
        (!base.is_empty()).then(|| symbol.split_at(start))
    })
}

/// An instrument that neither a table nor a list describes: 10 decimals for prices, 8 for
/// quantities, the smallest steps that these allow. `None` where the symbol can not be split.
#[must_use]
pub fn undescribed(
    symbol: &str,
    venue: VenueId,
    fees: Fees,
    table: &mut InstrumentTable,
) -> Option<Instrument> {
    let (base, quote) = split_symbol(symbol)?;
    Some(listing::undescribed(symbol, (base, quote), venue, fees, table))
}

#[derive(Deserialize)]
struct RawList {
    symbols: Vec<RawSymbol>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawSymbol {
    symbol: String,
    #[serde(default)]
    status: String,
    base_asset: String,
    quote_asset: String,
    filters: Vec<RawFilter>,
}

/// The filters of every type, with the values that we use.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct RawFilter {
    filter_type: String,
    tick_size: Option<String>,
    step_size: Option<String>,
    min_qty: Option<String>,
    max_qty: Option<String>,
    min_notional: Option<String>,
}

/// Reads the body of `GET /api/v3/exchangeInfo`: the instruments in `wanted`, or all where that is
/// empty, in the order of the list. A wanted symbol that is not listed is simply not there.
///
/// # Errors
/// [`ListError`] where the body is no such list, or a wanted instrument's filters are missing or
/// make no sense.
pub fn parse_list(body: &[u8], wanted: &[&str]) -> Result<Vec<Listing>, ListError> {
    let list: RawList = serde_json::from_slice(body)?;
    list.symbols
        .iter()
        .filter(|it| wanted.is_empty() || wanted.contains(&it.symbol.as_str()))
        .map(listing)
        .collect()
}

fn listing(raw: &RawSymbol) -> Result<Listing, ListError> {
    let price = Filter::of(raw, "PRICE_FILTER");
    let lot = Filter::of(raw, "LOT_SIZE");
    let largest = lot.text("maxQty", |it| &it.max_qty)?;
    let whole = largest.split('.').next().unwrap_or(largest);
    let Ok(largest) = parse_decimal(whole.as_bytes(), 0) else {
        return Err(lot.error("maxQty", largest, "must be a decimal that fits"));
    };
    let qty_scale = qty_scale(largest, decimals(lot.text("stepSize", |it| &it.step_size)?));
    let step = lot.number("stepSize", |it| &it.step_size, qty_scale)?.max(1);
    let least = lot.number("minQty", |it| &it.min_qty, qty_scale)?;
    let tick = price.number("tickSize", |it| &it.tick_size, DECIMALS)?;
    let value = ["NOTIONAL", "MIN_NOTIONAL"].into_iter().find_map(|name| {
        let filter = Filter::of(raw, name);
        filter.raw.is_some().then_some(filter)
    });
    let min_notional = match value {
        Some(filter) => filter.number("minNotional", |it| &it.min_notional, MONEY_SCALE)?,
        None => 0,
    };
    Ok(Listing {
        symbol: raw.symbol.clone(),
        base: raw.base_asset.clone(),
        quote: raw.quote_asset.clone(),
        trading: raw.status == "TRADING",
        price_scale: DECIMALS,
        qty_scale,
        // 0 switches the rule off; what remains is the smallest step that can be written.
        tick: Price(tick.max(1)),
        lot: Qty(step),
        min_qty: Qty(least.max(step)),
        min_notional: Money(min_notional),
    })
}

/// A filter of one instrument, or its absence.
struct Filter<'a> {
    symbol: &'a str,
    name: &'static str,
    raw: Option<&'a RawFilter>,
}

impl<'a> Filter<'a> {
    fn of(symbol: &'a RawSymbol, name: &'static str) -> Self {
        Self {
            symbol: &symbol.symbol,
            name,
            raw: symbol.filters.iter().find(|it| it.filter_type == name),
        }
    }

    fn text(
        &self,
        field: &'static str,
        get: impl Fn(&RawFilter) -> &Option<String>,
    ) -> Result<&'a str, ListError> {
        let found = self.raw.and_then(|raw| get(raw).as_deref());
        found.ok_or_else(|| self.error(field, "", "must be there"))
    }

    /// The value in units of `10^-scale`, not negative.
    fn number(
        &self,
        field: &'static str,
        get: impl Fn(&RawFilter) -> &Option<String>,
        scale: u8,
    ) -> Result<i64, ListError> {
        let text = self.text(field, get)?;
        match parse_decimal(text.as_bytes(), scale) {
            Ok(units @ 0..) => Ok(units),
            Ok(_) => Err(self.error(field, text, "must not be negative")),
            Err(_) => Err(self.error(field, text, "must be a decimal that fits")),
        }
    }

    fn error(&self, field: &'static str, found: &str, rule: &'static str) -> ListError {
        ListError::Filter {
            symbol: self.symbol.into(),
            filter: self.name,
            field,
            found: found.into(),
            rule,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capture::Capture;
    use crate::testing::captures;

    #[test]
    fn symbols_split_at_the_longest_quote_currency() {
        let check = |symbol: &str, want: Option<(&str, &str)>| {
            assert_eq!(split_symbol(symbol), want, "{symbol}");
        };
        check("BTCUSDT", Some(("BTC", "USDT")));
        check("ETHBTC", Some(("ETH", "BTC")));
        check("BTCFDUSD", Some(("BTC", "FDUSD")));
        check("BTCTUSD", Some(("BTC", "TUSD")));
        check("TUSDUSDT", Some(("TUSD", "USDT")));
        check("RUNEEUR", Some(("RUNE", "EUR")));
        check("1000SATSTRY", Some(("1000SATS", "TRY")));
        check("USDT", None);
        check("", None);
        check("BTCXYZ", None);
        check("btcusdt", None);
        check("ÄUSDT", Some(("Ä", "USDT")));
    }

    #[test]
    fn nothing_described_means_the_finest_steps() {
        let mut table = InstrumentTable::default();
        let fees = Fees::default();
        let it = undescribed("BTCUSDT", VenueId(2), fees, &mut table).unwrap();
        assert_eq!((it.price_scale, it.qty_scale), (10, 8));
        assert_eq!((it.tick, it.lot, it.min_qty), (Price(1), Qty(1), Qty(100)));
        assert_eq!((it.maker_fee_ppm, it.taker_fee_ppm), (1_000, 1_000));
        assert_eq!(table.currencies, ["BTC", "USDT"]);
    }

    #[test]
    fn the_recorded_list_describes_its_instruments() {
        let Some(folder) = captures() else { return };
        let path = folder.join("instruments/binance_20211012.rest.gz");
        let mut capture = Capture::open(path).unwrap();
        assert!(capture.advance().unwrap());
        let body = capture.frame().unwrap().bytes;
        let all = parse_list(body, &[]).unwrap();
        assert!(all.len() > 1_000, "{}", all.len());
        for it in &all {
            let rules = it.tick.0 > 0 && it.lot.0 > 0 && it.min_qty >= it.lot;
            assert!(rules && it.min_notional.0 >= 0, "{it:?}");
            assert!((0..=8).contains(&it.qty_scale), "{it:?}");
            if let Some((base, quote)) = split_symbol(&it.symbol) {
                let known = (it.base.as_str(), it.quote.as_str());
                assert_eq!((base, quote), known, "{}", it.symbol);
            }
        }
        let two = parse_list(body, &["SHIBUSDT", "ETHBTC", "NOSUCH"]).unwrap();
        let [ethbtc, shib] = &two[..] else {
            panic!("{two:?}");
        };
        assert_eq!(
            ethbtc,
            &Listing {
                symbol: "ETHBTC".into(),
                base: "ETH".into(),
                quote: "BTC".into(),
                trading: true,
                price_scale: 8,
                qty_scale: 8,
                tick: Price(100),
                lot: Qty(10_000),
                min_qty: Qty(10_000),
                min_notional: Money(10_000),
            }
        );
        assert!(shib.qty_scale < 8, "{shib:?}");
    }

    fn list(price: &str, lot: &str, more: &str) -> String {
        format!(
            r#"{{"symbols":[{{"symbol":"AB","status":"HALT","baseAsset":"A","quoteAsset":"B",
            "filters":[{{"filterType":"PRICE_FILTER",{price}}},{{"filterType":"LOT_SIZE",{lot}}}{more}]}}]}}"#
        )
    }

    #[test]
    fn filters_become_rules() {
        let price = r#""tickSize":"0.00000000""#;
        let lot = r#""minQty":"0.00100000","maxQty":"99999999999.0","stepSize":"1.00000000""#;
        let newer = r#",{"filterType":"NOTIONAL","minNotional":"5.5"}"#;
        let listing = parse_list(list(price, lot, newer).as_bytes(), &[]).unwrap();
        let it = &listing[0];
        assert!(!it.trading);
        // A tick of 0 is no rule; a smallest order below one step is one step.
        assert_eq!((it.tick, it.qty_scale), (Price(1), 4));
        assert_eq!((it.lot, it.min_qty), (Qty(10_000), Qty(10_000)));
        assert_eq!(it.min_notional, Money(550_000_000));
    }

    #[test]
    fn filters_that_make_no_sense_are_named() {
        let price = r#""tickSize":"0.01""#;
        let lot = r#""minQty":"0.001","maxQty":"9000.0","stepSize":"0.001""#;
        let check = |text: String, want: &str| {
            let error = parse_list(text.as_bytes(), &[]).unwrap_err().to_string();
            assert!(error.starts_with(want), "{error}");
        };
        check(list(r#""x":"1""#, lot, ""), r#"AB: PRICE_FILTER tickSize = "": must be there"#);
        check(
            list(r#""tickSize":"-1""#, lot, ""),
            r#"AB: PRICE_FILTER tickSize = "-1": must not be negative"#,
        );
        check(
            list(price, r#""minQty":"x","maxQty":"1","stepSize":"1""#, ""),
            r#"AB: LOT_SIZE minQty = "x": must be a decimal that fits"#,
        );
        check("[]".into(), "not a list of instruments: ");
        let named = parse_list(list(price, lot, "").as_bytes(), &["OTHER"]).unwrap();
        assert!(named.is_empty());
    }
}
