//! The configuration: what the files say, checked, and where each value came from.
//!
//! A configuration is parsed twice. First layers of TOML, variables and flags become one tree of
//! values as written; then [`Config`] is what the program believes, and there is no other way to
//! one. A check never stops at the first problem: an operator fixes a file once.
//!
//! Secrets are no configuration. A key that looks like one is refused wherever it stands, and its
//! value is never printed.

mod cores;
mod drain;
mod instruments;
mod load;
mod model;
mod problem;
mod read;
mod section;
mod tree;

use std::collections::BTreeMap;

use kairos_logic::params;
use kairos_logic::risk::Limits;

pub use self::cores::{Cores, Seat, Thread, Wait};
pub use self::drain::{Drain, Migrate, Parquet, Postgres, Redis, Timescale, Tls};
pub use self::instruments::Description;
pub use self::load::Sources;
pub use self::model::{
    Engine, Execution, ExecutionMode, Feed, Gate, HotRing, InstrumentSpec, Journal, LagAction,
    Logging, MakerModel, MarketData, NotReady, Pace, Paper, Placement, Profile, RecoverMode,
    Retention, Strategy, Venue,
};
pub use self::problem::{Origin, Problem};
pub use self::tree::{Node, Value};

/// The sections of other processes and of research commands: accepted and not read here, and no
/// part of [`Config::canonical_toml`].
pub const FOREIGN_SECTIONS: [&str; 23] = [
    "agent",
    "backtest",
    "commands",
    "costs",
    "data_quality",
    "db",
    "drain",
    "dragonfly",
    "features",
    "gateway",
    "grpc",
    "host",
    "kafka",
    "metrics",
    "monitoring",
    "paths",
    "report",
    "run",
    "strategy",
    "timescale",
    "tune",
    "validate",
    "walkforward",
];

/// A checked configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// What the engine is called and how large its rings are.
    pub engine: Engine,
    /// Which seat runs on which CPU.
    pub cores: Cores,
    /// Where and how inputs and decisions are kept.
    pub journal: Journal,
    /// The enabled venues, in the order of their names.
    pub venues: Vec<Venue>,
    /// What the configuration says of single instruments, in the order of their names.
    pub instruments: Vec<InstrumentSpec>,
    /// The strategies, in the order of their names; the place is the `StrategyId`.
    pub strategies: Vec<Strategy>,
    /// Limits; `stale_after_ms` is the one of `[feed]`.
    pub risk: Limits,
    /// The paper account.
    pub paper: Paper,
    /// How paper orders meet the market.
    pub execution: Execution,
    /// What is demanded of market data.
    pub feed: Feed,
    /// What is logged.
    pub logging: Logging,
    tree: BTreeMap<String, Node>,
}

impl Config {
    /// Checks one TOML text. `name` stands for the text in problems; `usable` are the CPUs that the
    /// process may run on, or `None` where it will not start threads, as in replay.
    ///
    /// # Errors
    /// Every problem of the text.
    pub fn parse(name: &str, text: &str, usable: Option<&[u16]>) -> Result<Self, Vec<Problem>> {
        let tree = tree::parse(name, text).map_err(|problem| vec![problem])?;
        Self::check(tree, Vec::new(), usable)
    }

    /// The journaled configuration `canonical` with the file's text `layer` over it, for replays
    /// under another configuration. CPUs are not checked.
    ///
    /// # Errors
    /// Every problem of the result.
    pub fn layer_over(canonical: &str, name: &str, layer: &str) -> Result<Self, Vec<Problem>> {
        let mut lower = tree::parse("journal", canonical).map_err(|problem| vec![problem])?;
        let upper = tree::parse(name, layer).map_err(|problem| vec![problem])?;
        tree::merge(&mut lower, upper);
        Self::check(lower, Vec::new(), None)
    }

    /// The merged values as written, as TOML with sorted keys, without the sections of other
    /// processes. This text alone, parsed again, gives the same configuration: it is what the
    /// journal keeps and what the configuration's digest is taken of.
    #[must_use]
    pub fn canonical_toml(&self) -> String {
        tree::canonical(&self.tree)
    }

    /// Every value with its full key and where it came from, in the order of the keys.
    #[must_use]
    pub fn sources(&self) -> Vec<(String, &Node)> {
        let mut found = Vec::new();
        list(&self.tree, "", &mut found);
        found
    }

    /// A problem of the value at a dotted key, found after the check, with the value's origin.
    #[must_use]
    pub fn problem(&self, key: &str, rule: impl Into<String>) -> Problem {
        let mut problem = Problem::new(key, rule);
        if let Some((_, node)) = self.sources().into_iter().find(|(name, _)| name == key) {
            problem.found = Some(node.value.to_toml());
            problem.origin = Some(node.origin.clone());
        }
        problem
    }

    /// A problem that a strategy found in its parameters, with the value's origin. `strategy` is
    /// the key of its section.
    #[must_use]
    pub fn strategy_problem(&self, strategy: &str, problem: &params::Problem) -> Problem {
        let section = format!("strategies.{strategy}");
        let key = match problem.key.strip_prefix(&section) {
            Some(_) => problem.key.clone(),
            None => format!("{section}.{}", problem.key),
        };
        let mut found = self.problem(&key, problem.rule.as_str());
        if found.found.is_none() && !problem.found.is_empty() {
            found.found = Some(problem.found.clone());
        }
        found
    }
}

/// Every key that the drain reads in its own section.
#[must_use]
pub fn known_drain_keys() -> Vec<String> {
    drain::known_keys()
}

/// Every key that the engine reads, with `<name>` where the operator chooses the name. Parameters
/// of strategies are the strategies' own and not in the list.
#[must_use]
pub fn known_keys() -> Vec<String> {
    read::known_keys()
}

fn list<'a>(table: &'a BTreeMap<String, Node>, path: &str, found: &mut Vec<(String, &'a Node)>) {
    for (key, node) in table {
        let full = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
        match &node.value {
            Value::Table(inner) => list(inner, &full, found),
            Value::Text(_)
            | Value::Integer(_)
            | Value::Decimal(_)
            | Value::Boolean(_)
            | Value::List(_) => found.push((full, node)),
        }
    }
}

#[cfg(test)]
mod tests;
