//! The instrument table that a configuration makes, and the names that strategies call instruments.

use std::fmt::Display;

use kairos_logic::instrument::{Instrument, InstrumentTable};
use kairos_logic::units::{CurrencyId, InstrumentId, Money, Price, Qty, VenueId, parse_decimal};

use super::model::{InstrumentSpec, Paper, Venue};
use super::{Config, Problem};

/// Decimals of a price where nobody says.
const PRICE_SCALE: u8 = 10;
/// Decimals of a quantity where nobody says.
const QTY_SCALE: u8 = 8;
/// Smallest order quantity where nobody says.
const MIN_QTY: &str = "0.000001";

/// What somebody who knows a venue says of a symbol. Steps are plain decimal text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Description {
    /// What is bought and sold. Upper case.
    pub base: String,
    /// What it is paid with. Upper case.
    pub quote: String,
    /// Decimals of a price. In 0..=12.
    pub price_scale: Option<u8>,
    /// Decimals of a quantity. In 0..=12.
    pub qty_scale: Option<u8>,
    /// Smallest step of a price.
    pub tick_size: Option<String>,
    /// Smallest step of a quantity.
    pub lot_size: Option<String>,
    /// Smallest quantity of an order.
    pub min_qty: Option<String>,
    /// Smallest value of an order in the quote currency.
    pub min_notional: Option<Money>,
}

impl Config {
    /// The instruments of every enabled venue, in the order of the venues and of their lists.
    ///
    /// What `[instruments.<name>]` says of a symbol goes before what `describe(venue, symbol)`
    /// says; what neither says is 10 decimals for prices, 8 for quantities and the smallest steps
    /// that those allow. Currencies of the engine and of paper balances are in the table too.
    ///
    /// # Errors
    /// Every instrument whose currencies nobody knows or whose steps do not fit its scales, and
    /// descriptions of symbols that no venue trades.
    pub fn instrument_table(
        &self,
        describe: &dyn Fn(&str, &str) -> Option<Description>,
    ) -> Result<InstrumentTable, Vec<Problem>> {
        let mut problems = Vec::new();
        let mut table = InstrumentTable::default();
        for venue in &self.venues {
            let id = u8::try_from(table.venues.len()).map_or(VenueId(u8::MAX), VenueId);
            table.venues.push(venue.name.clone());
            for symbol in &venue.instruments {
                let spec = self.spec(&venue.name, symbol);
                let said = describe(&venue.name, symbol);
                let merged = Merged::new(venue, symbol, spec, said);
                match merged.instrument(id, &mut table) {
                    Ok(instrument) => table.instruments.push(instrument),
                    Err(problem) => problems.push(self.locate(problem)),
                }
            }
        }
        let count = table.instruments.len();
        if count > InstrumentTable::INSTRUMENTS_MAX {
            let most = InstrumentTable::INSTRUMENTS_MAX;
            let rule = format!("{count} instruments in all; one engine trades at most {most}");
            problems.push(Problem::new("venues", rule));
        }
        problems.extend(self.idle_descriptions());
        table.intern_currency(&self.engine.currency);
        for currency in self.paper.balances.iter().flat_map(|it| it.keys()) {
            table.intern_currency(currency);
        }
        if problems.is_empty() { Ok(table) } else { Err(problems) }
    }

    /// What the paper account of each venue holds at the start.
    #[must_use]
    pub fn balances(&self, table: &InstrumentTable) -> Vec<(VenueId, CurrencyId, Money)> {
        let mut balances = Vec::new();
        for venue in (0..=u8::MAX).map(VenueId).take(table.venues.len()) {
            match &self.paper.balances {
                Some(written) => {
                    for (name, &amount) in written {
                        if let Some(currency) = table.currency(name) {
                            balances.push((venue, currency, amount));
                        }
                    }
                }
                None => {
                    let here = table.instruments.iter().filter(|it| it.venue == venue);
                    let mut quotes: Vec<CurrencyId> = here.map(|it| it.quote).collect();
                    quotes.sort_unstable();
                    quotes.dedup();
                    let amount = Paper::DEFAULT_BALANCE;
                    balances.extend(quotes.into_iter().map(|quote| (venue, quote, amount)));
                }
            }
        }
        balances
    }

    /// What each strategy trades, in the order of the strategies. An instrument may be named by its
    /// symbol, by its section's name, or as `BASE-QUOTE`, each with `.venue` behind it where more
    /// than one venue trades it.
    ///
    /// # Errors
    /// Every name that means nothing, or more than one thing.
    pub fn strategy_instruments(
        &self,
        table: &InstrumentTable,
    ) -> Result<Vec<Vec<InstrumentId>>, Vec<Problem>> {
        let mut problems = Vec::new();
        let mut lists = Vec::new();
        for strategy in &self.strategies {
            let Some(names) = &strategy.instruments else {
                lists.push(table.iter().map(|(id, _)| id).collect());
                continue;
            };
            let key = format!("strategies.{}.instruments", strategy.id);
            let mut ids = Vec::new();
            for name in names {
                let found = self.meaning(table, name);
                match found.as_slice() {
                    [id] if ids.contains(id) => {
                        problems.push(self.problem(&key, format!("{name} is named twice")));
                    }
                    [id] => ids.push(*id),
                    [] => {
                        let known = table.instruments.iter().map(|it| it.symbol.as_str());
                        let known = known.collect::<Vec<_>>().join(", ");
                        let rule = format!("no enabled venue trades {name}; they trade {known}");
                        problems.push(self.problem(&key, rule));
                    }
                    _ => {
                        let rule = format!("several venues trade {name}; write {name}.<venue>");
                        problems.push(self.problem(&key, rule));
                    }
                }
            }
            lists.push(ids);
        }
        if problems.is_empty() { Ok(lists) } else { Err(problems) }
    }

    fn meaning(&self, table: &InstrumentTable, name: &str) -> Vec<InstrumentId> {
        let called = |it: &Instrument| {
            let venue = table.venue_name(it.venue);
            let (base, quote) = (table.currency_name(it.base), table.currency_name(it.quote));
            let section = self.spec(venue, &it.symbol).map(|spec| spec.name.as_str());
            [Some(it.symbol.as_str()), section, Some(&format!("{base}-{quote}"))]
                .into_iter()
                .flatten()
                .any(|own| name == own || name.strip_prefix(own) == Some(&format!(".{venue}")))
        };
        let found = table.iter().filter(|(_, it)| called(it));
        found.map(|(id, _)| id).collect()
    }

    fn spec(&self, venue: &str, symbol: &str) -> Option<&InstrumentSpec> {
        self.instruments.iter().find(|spec| spec.venue == venue && spec.symbol == symbol)
    }

    /// A description of something that nobody trades is a typing error, unless its venue is off.
    fn idle_descriptions(&self) -> Vec<Problem> {
        let idle = self.instruments.iter().filter(|spec| {
            let venue = self.venues.iter().find(|venue| venue.name == spec.venue);
            venue.is_some_and(|venue| !venue.instruments.contains(&spec.symbol))
        });
        idle.map(|spec| {
            let rule = format!(
                "venues.{}.instruments does not name the symbol {}",
                spec.venue, spec.symbol
            );
            Problem::new(format!("instruments.{}", spec.name), rule)
        })
        .collect()
    }

    fn locate(&self, problem: Problem) -> Problem {
        self.problem(&problem.key.clone(), problem.rule)
    }
}

/// What the configuration and the venue say of one symbol, the configuration first.
struct Merged<'a> {
    venue: &'a Venue,
    symbol: &'a str,
    spec: Option<&'a InstrumentSpec>,
    said: Description,
    section: String,
}

impl<'a> Merged<'a> {
    fn new(
        venue: &'a Venue,
        symbol: &'a str,
        spec: Option<&'a InstrumentSpec>,
        said: Option<Description>,
    ) -> Self {
        let section = match spec {
            Some(spec) => format!("instruments.{}", spec.name),
            None => format!("instruments.{symbol}"),
        };
        Self { venue, symbol, spec, said: said.unwrap_or_default(), section }
    }

    /// The instrument, its currencies entered into the table.
    fn instrument(&self, id: VenueId, table: &mut InstrumentTable) -> Result<Instrument, Problem> {
        let own = |pick: fn(&InstrumentSpec) -> Option<u8>| self.spec.and_then(pick);
        let price_scale = own(|it| it.price_scale).or(self.said.price_scale).unwrap_or(PRICE_SCALE);
        let qty_scale = own(|it| it.qty_scale).or(self.said.qty_scale).unwrap_or(QTY_SCALE);
        let tick = self.step("tick_size", |it| &it.tick_size, &self.said.tick_size, price_scale)?;
        let lot = self.step("lot_size", |it| &it.lot_size, &self.said.lot_size, qty_scale)?;
        let (tick, lot) = (tick.unwrap_or(1), lot.unwrap_or(1));
        let min_qty = match self.step("min_qty", |it| &it.min_qty, &self.said.min_qty, qty_scale)? {
            Some(written) => written,
            // Where the scale is coarser than the usual minimum, one unit of it is the minimum.
            None => parse_decimal(MIN_QTY.as_bytes(), qty_scale).unwrap_or(1),
        };
        let min_notional = self.spec.and_then(|it| it.min_notional);
        let base = self.currency("base", |it| &it.base, &self.said.base)?;
        let quote = self.currency("quote", |it| &it.quote, &self.said.quote)?;
        if base == quote {
            return Err(self.problem("quote", "must be another currency than base"));
        }
        Ok(Instrument {
            venue: id,
            symbol: self.symbol.to_owned(),
            base: table.intern_currency(base),
            quote: table.intern_currency(quote),
            price_scale,
            qty_scale,
            tick: Price(tick),
            lot: Qty(lot),
            // An order is a whole number of lots: so is the smallest one.
            min_qty: Qty(whole_lots(min_qty, lot)),
            min_notional: min_notional.or(self.said.min_notional).unwrap_or(Money(0)),
            maker_fee_ppm: self.venue.maker_fee_ppm,
            taker_fee_ppm: self.venue.taker_fee_ppm,
        })
    }

    fn step(
        &self,
        key: &str,
        own: fn(&InstrumentSpec) -> &Option<String>,
        said: &Option<String>,
        scale: u8,
    ) -> Result<Option<i64>, Problem> {
        let written = self.spec.and_then(|spec| own(spec).as_ref());
        let Some(text) = written.or(said.as_ref()) else {
            return Ok(None);
        };
        match parse_decimal(text.as_bytes(), scale) {
            Ok(units @ 1..) => Ok(Some(units)),
            Ok(_) => Err(self.problem(key, "must be positive")),
            Err(error) => {
                let rule = format!("{text} does not fit {scale} decimals: {error}");
                Err(self.problem(key, rule))
            }
        }
    }

    fn currency<'b>(
        &'b self,
        key: &str,
        own: fn(&InstrumentSpec) -> &Option<String>,
        said: &'b str,
    ) -> Result<&'b str, Problem> {
        let written = self.spec.and_then(|spec| own(spec).as_deref());
        match written.unwrap_or(said) {
            "" => {
                let rule = format!(
                    "must be written down: nobody knows the currencies of {} at {}",
                    self.symbol, self.venue.name
                );
                Err(self.problem(key, rule))
            }
            name => Ok(name),
        }
    }

    fn problem(&self, key: &str, rule: impl Display) -> Problem {
        Problem::new(format!("{}.{key}", self.section), rule.to_string())
    }
}

/// The smallest multiple of `lot` that is not below `qty`; both positive.
fn whole_lots(qty: i64, lot: i64) -> i64 {
    let lots = qty / lot + i64::from(qty % lot != 0);
    lots.checked_mul(lot).unwrap_or(qty)
}
