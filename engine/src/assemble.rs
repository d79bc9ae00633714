//! From a configuration to the logic that decides. A live run, a capture, a backtest and a replay
//! all come through here: whatever decides is made of the configuration, the instrument table and
//! the number of the run, and of nothing else.

use std::fmt;

use kairos_edge::config::{Config, Paper, Problem, Strategy};
use kairos_logic::decision::Mind;
use kairos_logic::desk::{Desk, DeskOptions};
use kairos_logic::instrument::InstrumentTable;
use kairos_logic::risk::{Risk, RiskOptions};
use kairos_logic::strategy::{Registry, StrategySpec};
use kairos_logic::units::{CurrencyId, InstrumentId, Money, StrategyId, VenueId};

/// Everything that is wrong with what should decide, one line each.
#[derive(Debug)]
pub struct AssembleError(pub Vec<Problem>);

impl fmt::Display for AssembleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, problem) in self.0.iter().enumerate() {
            let separator = if number == 0 { "" } else { "\n" };
            write!(f, "{separator}{problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for AssembleError {}

/// Strategies and risk of a run.
///
/// # Errors
/// Every problem with the strategies: unknown kinds, bad parameters, unknown instruments.
pub fn mind(
    config: &Config,
    table: &InstrumentTable,
    registry: &Registry,
    run: u64,
) -> Result<Mind, AssembleError> {
    let mut problems = Vec::new();
    let currency = currency(config, table);
    let balances = balances(config, table);
    let specs = specs(config, table, &mut problems);
    let depth = config.feed.orderbook_depth;
    let options = DeskOptions { run, depth, currency, balances: balances.clone() };
    match Desk::new(table, specs, registry, &options) {
        Ok(desk) if problems.is_empty() => {
            let options = RiskOptions { currency, balances, depth };
            Ok(Mind::new(desk, Risk::new(table, config.risk.clone(), &options)))
        }
        Ok(_) => Err(AssembleError(problems)),
        Err(found) => {
            problems.extend(found.into_iter().map(|it| {
                let mut problem = config.problem(&it.key, it.rule);
                problem.found.get_or_insert(it.found);
                problem
            }));
            Err(AssembleError(problems))
        }
    }
}

/// The logic of a journaled run: its configuration text, perhaps with another one on top.
///
/// # Errors
/// [`AssembleError`], also for a text that is no configuration of this version.
pub fn mind_of_journal(
    canonical: &str,
    overlay: Option<&str>,
    table: &InstrumentTable,
    registry: &Registry,
    run: u64,
) -> Result<Mind, AssembleError> {
    let config = match overlay {
        Some(layer) => Config::layer_over(canonical, "what-if", layer),
        None => Config::parse("journal", canonical, None),
    };
    mind(&config.map_err(AssembleError)?, table, registry, run)
}

/// The engine's currency; the table always holds it.
#[must_use]
pub fn currency(config: &Config, table: &InstrumentTable) -> CurrencyId {
    table.currency(&config.engine.currency).unwrap_or(CurrencyId(u16::MAX))
}

/// What the paper accounts hold at the start of a run: what is configured, on every venue that
/// trades the currency; else the default of every quote currency.
#[must_use]
pub fn balances(config: &Config, table: &InstrumentTable) -> Vec<(VenueId, CurrencyId, Money)> {
    let mut found: Vec<(VenueId, CurrencyId, Money)> = Vec::new();
    for instrument in &table.instruments {
        for currency in [instrument.quote, instrument.base] {
            let amount = match &config.paper.balances {
                Some(written) => written.get(table.currency_name(currency)).copied(),
                None => (currency == instrument.quote).then_some(Paper::DEFAULT_BALANCE),
            };
            let known = found.iter().any(|it| (it.0, it.1) == (instrument.venue, currency));
            if let Some(amount) = amount
                && !known
            {
                found.push((instrument.venue, currency, amount));
            }
        }
    }
    found
}

fn specs(
    config: &Config,
    table: &InstrumentTable,
    problems: &mut Vec<Problem>,
) -> Vec<StrategySpec> {
    let mut specs = Vec::new();
    for (id, written) in (0_u8..).map(StrategyId).zip(&config.strategies) {
        specs.push(StrategySpec {
            id,
            name: written.id.clone(),
            kind: written.kind.clone(),
            instruments: instruments(config, written, table, problems),
            params: written.params.clone(),
            enabled: written.enabled,
        });
    }
    specs
}

/// What a strategy trades: what it names (by the venue's symbol or by the name of an
/// `[instruments.<name>]` section), or everything.
fn instruments(
    config: &Config,
    written: &Strategy,
    table: &InstrumentTable,
    problems: &mut Vec<Problem>,
) -> Vec<InstrumentId> {
    let Some(names) = &written.instruments else {
        return table.iter().map(|(id, _)| id).collect();
    };
    let mut found = Vec::new();
    for name in names {
        let named = config.instruments.iter().find(|it| it.name == *name);
        let symbol = named.map_or(name, |it| &it.symbol);
        let known = table.iter().find(|(_, it)| it.symbol == *symbol);
        match known {
            Some((id, _)) => found.push(id),
            None => {
                let symbols: Vec<&str> = table.instruments.iter().map(|it| &*it.symbol).collect();
                let rule =
                    format!("{name:?} is not an instrument of any venue; known: {symbols:?}");
                problems
                    .push(config.problem(&format!("strategies.{}.instruments", written.id), rule));
            }
        }
    }
    found
}
