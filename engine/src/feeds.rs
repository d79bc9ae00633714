//! From the configuration's venues to feed seats: what is traded, and who speaks of it.

use std::sync::{Arc, OnceLock};

use kairos_adapters::binance::{self, BinanceMarket, instruments as binance_instruments};
use kairos_adapters::capture::{CaptureError, Merge};
use kairos_adapters::session::MarketSession;
use kairos_adapters::sim::paper::{Funding, MakerModel, PaperOptions, PaperVenue};
use kairos_edge::config::{
    self as edge_config, Config, Description, MarketData, Pace as WrittenPace, Venue,
};
use kairos_logic::event::Event;
use kairos_logic::instrument::InstrumentTable;
use kairos_logic::units::{InstrumentId, VenueId};

use crate::assemble::{self, AssembleError};
use crate::clock::Clock;
use crate::meter::Meters;
use crate::ring::FeedDoor;
use crate::seat::Seat;
use crate::seats::feed::Broken;
use crate::seats::feed::capture::{CaptureFault, CaptureFeed, CaptureParts, Pace};
use crate::seats::feed::socket::{SocketFeed, SocketParts};
use crate::simulated::Simulated;
use crate::wiring::FeedPart;

/// Why a feed cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum FeedError {
    /// The configuration asks for what does not exist.
    #[error(transparent)]
    Config(#[from] AssembleError),
    /// A capture cannot be read.
    #[error("{0}")]
    Capture(Arc<CaptureFaultText>),
    /// The simulated exchange does not answer.
    #[error("simulated exchange: {0}")]
    Simulated(String),
}

/// One line on a capture that cannot be read.
#[derive(Debug)]
pub struct CaptureFaultText(String);

impl std::fmt::Display for CaptureFaultText {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<&CaptureError> for FeedError {
    fn from(error: &CaptureError) -> Self {
        Self::Capture(Arc::new(CaptureFaultText(error.to_string())))
    }
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
    /// The venue after which each feed seat is named.
    pub seats: Vec<String>,
    /// Venues that each feed seat reads.
    pub venues_of_seats: Vec<usize>,
    /// Whether a capture's virtual clock is the engine's time.
    pub virtual_time: bool,
    /// What a capture could not read; set while running.
    pub fault: CaptureFault,
    /// What is worth knowing.
    pub warnings: Vec<String>,
    source: Source,
}

enum Source {
    Capture {
        lines: Merge,
        venue_of_source: Vec<usize>,
        sessions: Vec<Box<dyn MarketSession>>,
        pace: Pace,
        timer_ns: u64,
    },
    Simulated {
        exchange: Simulated,
        session: Box<BinanceMarket>,
        timer_ns: u64,
        hold_ns: u64,
    },
}

/// Opens what the configuration's venues read.
///
/// # Errors
/// [`FeedError`], before anything else of the engine exists.
pub fn prepare(config: &Config) -> Result<Feeds, FeedError> {
    let captures = config.venues.iter().filter(|it| it.market_data == MarketData::Capture).count();
    if captures == config.venues.len() {
        return prepare_captures(config);
    }
    if captures > 0 || config.venues.len() > 1 {
        let rule = "one clock serves all venues: either every venue reads captures, or one venue is simulated";
        return Err(refuse(config, "venues", rule));
    }
    prepare_simulated(config)
}

fn refuse(config: &Config, key: &str, rule: &str) -> FeedError {
    AssembleError(vec![config.problem(key, rule)]).into()
}

fn prepare_captures(config: &Config) -> Result<Feeds, FeedError> {
    let table = config.instrument_table(&describe).map_err(AssembleError)?;
    let sessions = sessions(config, &table)?;
    let paths = config.venues.iter().flat_map(|venue| &venue.captures);
    let lines = Merge::open(paths).map_err(|error| FeedError::from(&error))?;
    let venue_of_source = config
        .venues
        .iter()
        .enumerate()
        .flat_map(|(place, venue)| venue.captures.iter().map(move |_| place))
        .collect();
    let pace = pace(config)?;
    let timer_ns = config.engine.timer_ms * 1_000_000;
    Ok(Feeds {
        table,
        seats: config.venues.first().map(|it| it.name.clone()).into_iter().collect(),
        venues_of_seats: vec![config.venues.len()],
        virtual_time: true,
        fault: Arc::new(OnceLock::new()),
        warnings: Vec::new(),
        source: Source::Capture { lines, venue_of_source, sessions, pace, timer_ns },
    })
}

/// One clock, one pace.
fn pace(config: &Config) -> Result<Pace, FeedError> {
    let mut paces = config.venues.iter().map(|it| it.pace);
    let first = paces.next().unwrap_or(WrittenPace::Max);
    if paces.any(|it| it != first) {
        return Err(refuse(
            config,
            "venues",
            "one clock serves all captures: give every venue the same pace",
        ));
    }
    #[expect(clippy::cast_precision_loss, reason = "a pace of 2^53 ppm is nine thousand million")]
    Ok(match first {
        WrittenPace::Max => Pace::Max,
        WrittenPace::Recorded => Pace::Factor(1.0),
        WrittenPace::FactorPpm(ppm) => Pace::Factor(ppm as f64 / 1e6),
    })
}

/// What a venue knows of a symbol that no table describes: how it splits into currencies.
fn describe(venue: &str, symbol: &str) -> Option<Description> {
    if venue != binance::NAME {
        return None;
    }
    let (base, quote) = binance_instruments::split_symbol(symbol)?;
    Some(Description { base: base.into(), quote: quote.into(), ..Description::default() })
}

fn sessions(
    config: &Config,
    table: &InstrumentTable,
) -> Result<Vec<Box<dyn MarketSession>>, FeedError> {
    let mut sessions: Vec<Box<dyn MarketSession>> = Vec::new();
    for (venue, written) in (0_u8..).map(VenueId).zip(&config.venues) {
        sessions.push(Box::new(binance_session(config, written, venue, table)?));
    }
    Ok(sessions)
}

fn binance_session(
    config: &Config,
    written: &Venue,
    venue: VenueId,
    table: &InstrumentTable,
) -> Result<BinanceMarket, FeedError> {
    let ids: Vec<InstrumentId> =
        table.iter().filter(|(_, it)| it.venue == venue).map(|(id, _)| id).collect();
    // Risk keeps the books, notices a broken one and says so; see `Broken`.
    let options = binance::Options { book_depth: 0, ..binance::Options::default() };
    BinanceMarket::new(table, venue, &ids, options).map_err(|error| {
        refuse(config, &format!("venues.{}.instruments", written.name), &error.to_string())
    })
}

fn prepare_simulated(config: &Config) -> Result<Feeds, FeedError> {
    let exchange = Simulated::start(config).map_err(FeedError::Simulated)?;
    let table = config
        .instrument_table(&|venue, symbol| exchange.describe(venue, symbol))
        .map_err(AssembleError)?;
    let venue = config.venues.first().expect("a configuration has at least one venue");
    let session = Box::new(binance_session(config, venue, VenueId(0), &table)?);
    Ok(Feeds {
        table,
        seats: vec![venue.name.clone()],
        venues_of_seats: vec![1],
        virtual_time: false,
        fault: Arc::new(OnceLock::new()),
        warnings: Vec::new(),
        source: Source::Simulated {
            exchange,
            session,
            timer_ns: config.engine.timer_ms * 1_000_000,
            hold_ns: config.feed.hold_ms * 1_000_000,
        },
    })
}

impl Feeds {
    /// The seats, still without their doors. `inherited` goes in before anything else.
    pub fn into_parts(
        self,
        lockstep: bool,
        inherited: Vec<Event>,
        clock: &Clock,
        broken: &Arc<Broken>,
        meters: &Arc<Meters>,
    ) -> Vec<(String, FeedPart)> {
        let name = format!("feed.{}", self.seats.first().map_or("none", String::as_str));
        let (clock, broken, meters) = (clock.clone(), Arc::clone(broken), Arc::clone(meters));
        let part: FeedPart = match self.source {
            Source::Capture { lines, venue_of_source, sessions, pace, timer_ns } => {
                let fault = self.fault;
                let parts = CaptureParts {
                    lines,
                    sessions,
                    venue_of_source,
                    pace,
                    timer_ns,
                    lockstep,
                    fault,
                    broken,
                    first: inherited,
                };
                Box::new(move |door: FeedDoor| -> Box<dyn Seat> {
                    Box::new(CaptureFeed::new(parts, 0, door, clock, meters))
                })
            }
            Source::Simulated { exchange, session, timer_ns, hold_ns } => {
                let parts =
                    SocketParts { exchange, session, timer_ns, hold_ns, broken, first: inherited };
                Box::new(move |door: FeedDoor| -> Box<dyn Seat> {
                    Box::new(SocketFeed::new(parts, 0, door, clock, meters))
                })
            }
        };
        vec![(name, part)]
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
