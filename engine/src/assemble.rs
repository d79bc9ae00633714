//! From a configuration to the logic that decides. A live run, a capture, a backtest and a replay
//! all come through here: whatever decides is made of the configuration, the instrument table and
//! the number of the run, and of nothing else.

use std::fmt;

use kairos_edge::config::{Config, Problem};
use kairos_logic::decision::Mind;
use kairos_logic::desk::{Desk, DeskOptions};
use kairos_logic::instrument::InstrumentTable;
use kairos_logic::params;
use kairos_logic::risk::{Risk, RiskOptions};
use kairos_logic::strategy::{Registry, StrategySpec};
use kairos_logic::units::{CurrencyId, StrategyId};

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
    let specs = specs(config, table)?;
    let options = DeskOptions {
        run,
        depth: config.feed.orderbook_depth,
        currency: currency(config, table),
        balances: config.balances(table),
    };
    let desk = Desk::new(table, specs, registry, &options).map_err(|problems| {
        // The key begins with the strategy's section: the desk knows its name.
        let problem = |it: &params::Problem| {
            let section = it.key.strip_prefix("strategies.").unwrap_or(&it.key);
            let name = section.split('.').next().unwrap_or(section);
            config.strategy_problem(name, it)
        };
        AssembleError(problems.iter().map(problem).collect())
    })?;
    Ok(Mind::new(desk, risk(config, table)))
}

/// Risk of a run, without the strategies that it judges.
#[must_use]
pub fn risk(config: &Config, table: &InstrumentTable) -> Risk {
    let options = RiskOptions {
        currency: currency(config, table),
        balances: config.balances(table),
        depth: config.feed.orderbook_depth,
    };
    Risk::new(table, config.risk.clone(), &options)
}

/// The configuration of a journaled run, perhaps with another one on top.
///
/// # Errors
/// [`AssembleError`] for a text that is no configuration of this version.
pub fn journaled_config(canonical: &str, overlay: Option<&str>) -> Result<Config, AssembleError> {
    let config = match overlay {
        Some(layer) => Config::layer_over(canonical, "what-if", layer),
        None => Config::parse("journal", canonical, None),
    };
    config.map_err(AssembleError)
}

/// The engine's currency; the table always holds it.
#[must_use]
pub fn currency(config: &Config, table: &InstrumentTable) -> CurrencyId {
    table.currency(&config.engine.currency).unwrap_or(CurrencyId(u16::MAX))
}

fn specs(config: &Config, table: &InstrumentTable) -> Result<Vec<StrategySpec>, AssembleError> {
    let instruments = config.strategy_instruments(table).map_err(AssembleError)?;
    let ids = (0_u8..).map(StrategyId).zip(&config.strategies).zip(instruments);
    Ok(ids
        .map(|((id, written), instruments)| StrategySpec {
            id,
            name: written.id.clone(),
            kind: written.kind.clone(),
            instruments,
            params: written.params.clone(),
            enabled: written.enabled,
        })
        .collect())
}
