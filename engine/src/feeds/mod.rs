//! From the configuration's venues to feed seats: what is traded, and who speaks of it.

mod capture;
mod live;

use std::sync::{Arc, OnceLock};

use kairos_adapters::lines::Lines;
use kairos_adapters::sim::paper::{Funding, MakerModel, PaperOptions, PaperVenue};
use kairos_adapters::venues::Venue as Protocol;
use kairos_edge::config::{self as edge_config, Config, Description, MarketData};
use kairos_logic::event::Event;
use kairos_logic::instrument::InstrumentTable;
use kairos_logic::units::{InstrumentId, VenueId};

use crate::assemble::{self, AssembleError};
use crate::clock::Clock;
use crate::meter::Meters;
use crate::page::FeedNames;
use crate::seats::feed::Broken;
use crate::seats::feed::capture::CaptureFault;
use crate::simulated::Simulated;
use crate::wiring::FeedPart;
pub use live::Connector;

/// Why a feed cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum FeedError {
    /// The configuration asks for what does not exist.
    #[error(transparent)]
    Config(#[from] AssembleError),
    /// A capture cannot be read.
    #[error("{0}")]
    Capture(String),
    /// The simulated exchange does not answer.
    #[error("simulated exchange: {0}")]
    Simulated(String),
}

impl FeedError {
    /// The process's exit status.
    #[must_use]
    pub const fn status(&self) -> u8 {
        match self {
            Self::Config(_) => 78,
            Self::Capture(_) | Self::Simulated(_) => 1,
        }
    }
}

/// Feeds that are open but have no door to IN yet.
pub struct Feeds {
    /// What is traded.
    pub table: InstrumentTable,
    /// The feed seats, in their order.
    pub names: Vec<FeedNames>,
    /// Whether a capture's virtual clock is the engine's time.
    pub virtual_time: bool,
    /// What a capture could not read; set while running.
    pub fault: CaptureFault,
    /// What is worth knowing.
    pub warnings: Vec<String>,
    source: Source,
}

enum Source {
    Capture(Box<capture::Captures>),
    Live(Vec<live::LiveVenue>),
}

/// Opens what the configuration's venues read.
///
/// # Errors
/// [`FeedError`], before anything else of the engine exists.
pub fn prepare(config: &Config) -> Result<Feeds, FeedError> {
    let captures = config.venues.iter().filter(|it| it.market_data == MarketData::Capture).count();
    let (table, names, warnings, source) = if captures == config.venues.len() {
        let (table, names, captures) = capture::prepare(config)?;
        (table, names, Vec::new(), Source::Capture(Box::new(captures)))
    } else if captures == 0 {
        let (table, names, warnings, venues) = live::prepare(config)?;
        (table, names, warnings, Source::Live(venues))
    } else {
        let rule = "one clock serves all venues: either every venue reads captures, or none does";
        return Err(refuse(config, "venues", rule));
    };
    let virtual_time = matches!(source, Source::Capture(_));
    let fault = Arc::new(OnceLock::new());
    Ok(Feeds { table, names, virtual_time, fault, warnings, source })
}

pub(crate) fn refuse(config: &Config, key: &str, rule: &str) -> FeedError {
    AssembleError(vec![config.problem(key, rule)]).into()
}

/// The protocol of a configured venue.
fn protocol(config: &Config, name: &str) -> Result<Protocol, FeedError> {
    Protocol::from_name(name).ok_or_else(|| {
        refuse(config, &format!("venues.{name}"), "this build has no protocol for it")
    })
}

/// The names of a venue's connections on the stats page.
fn connection_names(venue: &str, count: usize) -> Vec<String> {
    match count {
        1 => vec![venue.to_owned()],
        _ => (0..count).map(|n| format!("{venue}.{n}")).collect(),
    }
}

/// What a venue knows of a symbol that no table describes: how it splits into currencies.
fn describe(venue: &str, symbol: &str) -> Option<Description> {
    let (base, quote) = Protocol::from_name(venue)?.split_symbol(symbol)?;
    Some(Description { base: base.into(), quote: quote.into(), ..Description::default() })
}

/// The instruments of one venue.
fn instruments_of(table: &InstrumentTable, venue: VenueId) -> Vec<InstrumentId> {
    table.iter().filter(|(_, it)| it.venue == venue).map(|(id, _)| id).collect()
}

impl Feeds {
    /// Connections that each feed seat reads.
    #[must_use]
    pub fn connections_of_seats(&self) -> Vec<usize> {
        self.names.iter().map(|it| it.connections.len()).collect()
    }

    /// The connections of each live venue by its name, for whoever is no seat; `None` for captures.
    #[must_use]
    pub fn into_lines(self) -> Option<Vec<(String, Lines, Option<Simulated>)>> {
        let names = self.names.into_iter().map(|it| it.venue().to_owned());
        match self.source {
            Source::Capture(_) => None,
            Source::Live(venues) => {
                Some(names.zip(venues).map(|(name, it)| (name, it.lines, it.exchange)).collect())
            }
        }
    }

    /// The seats, still without their doors. `inherited` goes in before anything else.
    pub fn into_parts(
        self,
        lockstep: bool,
        inherited: Vec<Event>,
        clock: &Clock,
        broken: &Arc<Broken>,
        meters: &Arc<Meters>,
    ) -> Vec<(String, FeedPart)> {
        let names = self.names.into_iter().map(|it| it.seat);
        let parts = match self.source {
            Source::Capture(captures) => {
                let fault = self.fault;
                vec![captures.into_part(lockstep, inherited, fault, clock, broken, meters)]
            }
            Source::Live(venues) => live::into_parts(venues, inherited, clock, broken, meters),
        };
        names.zip(parts).collect()
    }
}

/// The venue that is not there, as the configuration describes it.
#[must_use]
pub fn paper_venue(config: &Config, table: &InstrumentTable) -> PaperVenue {
    let execution = &config.execution;
    #[expect(
        clippy::cast_precision_loss,
        reason = "a scale of the chance model, which is floating point"
    )]
    let maker_queue_eta = execution.maker_queue_eta_ppm as f64 / 1e6;
    let options = PaperOptions {
        latency_ns: execution.latency_ns,
        jitter_ns: execution.jitter_ns,
        response_latency_ns: execution.response_latency_ns,
        maker_model: match execution.maker_model {
            edge_config::MakerModel::Queue => MakerModel::Queue,
            edge_config::MakerModel::Probability => MakerModel::Probability,
        },
        maker_queue_eta,
        seed: config.engine.seed,
        balances: config.balances(table),
        funding: if config.risk.allow_short { Funding::Borrow } else { Funding::Spot },
        depth: config.feed.orderbook_depth,
    };
    PaperVenue::new(table, options)
}

/// What [`prepare`] and the start of a run would refuse, without opening anything.
///
/// # Errors
/// Every problem with instruments and strategies.
pub fn check(
    config: &Config,
    registry: &kairos_logic::strategy::Registry,
) -> Result<InstrumentTable, AssembleError> {
    let table = config.instrument_table(&describe).map_err(AssembleError)?;
    assemble::mind(config, &table, registry, 0)?;
    Ok(table)
}
