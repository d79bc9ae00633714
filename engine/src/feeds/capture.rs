//! Feeds out of capture files.

use std::collections::BTreeMap;
use std::sync::Arc;

use kairos_adapters::capture::{CaptureError, Merge, SessionFile};
use kairos_adapters::link::recorded::{self, Span};
use kairos_adapters::session::MarketSession;
use kairos_edge::config::{Config, Pace as WrittenPace};
use kairos_logic::event::Event;
use kairos_logic::instrument::InstrumentTable;
use kairos_logic::units::{InstrumentId, Nanos, VenueId};

use super::{FeedError, connection_names, describe, instruments_of, protocol, refuse};
use crate::assemble::AssembleError;
use crate::clock::Clock;
use crate::meter::Meters;
use crate::page::FeedNames;
use crate::ring::FeedDoor;
use crate::seat::Seat;
use crate::seats::feed::Broken;
use crate::seats::feed::capture::{CaptureFault, CaptureFeed, CaptureParts, Pace};
use crate::wiring::FeedPart;

/// Captures that are open.
pub(super) struct Captures {
    lines: Merge,
    sessions: Vec<Box<dyn MarketSession>>,
    pace: Pace,
    timer_ns: u64,
}

impl From<&CaptureError> for FeedError {
    fn from(error: &CaptureError) -> Self {
        Self::Capture(error.to_string())
    }
}

/// Opens the captures of every venue: one seat reads them all, because one clock serves them.
pub(super) fn prepare(
    config: &Config,
) -> Result<(InstrumentTable, Vec<FeedNames>, Captures), FeedError> {
    let table = config.instrument_table(&describe).map_err(AssembleError)?;
    let paths = config.venues.iter().flat_map(|venue| &venue.captures);
    let mut lines = Merge::open(paths).map_err(|error| FeedError::from(&error))?;
    let mut files = lines.captures().map(|it| it.session().cloned().unwrap_or_default());
    let (mut sessions, mut connections) = (Vec::new(), Vec::new());
    for (id, written) in (0_u8..).map(VenueId).zip(&config.venues) {
        let protocol = protocol(config, &written.name)?;
        let instruments = instruments_of(&table, id);
        let mut made = Vec::new();
        for file in files.by_ref().take(written.captures.len()) {
            let own = carried(&file, &table, &instruments);
            let session = protocol.session(&table, id, &own).map_err(|error| {
                let key = format!("venues.{}.instruments", written.name);
                refuse(config, &key, &error.to_string())
            })?;
            made.push((session, file));
        }
        sessions.extend(linked(made));
        connections.extend(connection_names(&written.name, written.captures.len()));
    }
    drop(files);
    // What is no capture at all is refused before the journal is touched.
    lines.peek().map_err(|error| FeedError::from(&error))?;
    let timer_ns = config.engine.timer_ms * 1_000_000;
    let first = config.venues.first().map_or("none", |it| &it.name);
    let names = vec![FeedNames { seat: format!("feed.{first}"), connections }];
    Ok((table, names, Captures { lines, sessions, pace: pace(config)?, timer_ns }))
}

/// The instruments of a recorded connection: those that its session file names and the configuration
/// wants, or all.
fn carried(
    file: &SessionFile,
    table: &InstrumentTable,
    wanted: &[InstrumentId],
) -> Vec<InstrumentId> {
    let names = |id: &InstrumentId| {
        table.instrument(*id).is_some_and(|it| file.instruments.contains(&it.symbol))
    };
    let own: Vec<InstrumentId> = wanted.iter().copied().filter(names).collect();
    if own.is_empty() { wanted.to_vec() } else { own }
}

/// The sessions in the order of their files; those of one link speak one after the other.
fn linked(made: Vec<(Box<dyn MarketSession>, SessionFile)>) -> Vec<Box<dyn MarketSession>> {
    let mut links: BTreeMap<u16, Vec<usize>> = BTreeMap::new();
    let (mut sessions, mut spans) = (Vec::new(), Vec::new());
    for (place, (session, file)) in made.into_iter().enumerate() {
        let opened = file.connected_ns.map(Nanos);
        if let (Some(link), Some(_)) = (file.link, opened) {
            links.entry(link).or_default().push(place);
        }
        spans.push(opened.map(|opened| Span { opened, closed: file.closed_ns.map(Nanos) }));
        sessions.push(Some(session));
    }
    for places in links.into_values().filter(|it| it.len() > 1) {
        let parts =
            places.iter().filter_map(|&it| Some((sessions.get_mut(it)?.take()?, spans[it]?)));
        let joined = recorded::together(parts.collect());
        for (place, session) in places.into_iter().zip(joined) {
            sessions[place] = Some(session);
        }
    }
    sessions.into_iter().flatten().collect()
}

/// One clock, one pace.
fn pace(config: &Config) -> Result<Pace, FeedError> {
    let mut paces = config.venues.iter().map(|it| it.pace);
    let first = paces.next().unwrap_or(WrittenPace::Max);
    if paces.any(|it| it != first) {
        let rule = "one clock serves all captures: give every venue the same pace";
        return Err(refuse(config, "venues", rule));
    }
    #[expect(clippy::cast_precision_loss, reason = "a pace of 2^53 ppm is nine thousand million")]
    Ok(match first {
        WrittenPace::Max => Pace::Max,
        WrittenPace::Recorded => Pace::Factor(1.0),
        WrittenPace::FactorPpm(ppm) => Pace::Factor(ppm as f64 / 1e6),
    })
}

impl Captures {
    pub(super) fn into_part(
        self,
        lockstep: bool,
        first: Vec<Event>,
        fault: CaptureFault,
        clock: &Clock,
        broken: &Arc<Broken>,
        meters: &Arc<Meters>,
    ) -> FeedPart {
        let (clock, meters) = (clock.clone(), Arc::clone(meters));
        let parts = CaptureParts {
            lines: self.lines,
            sessions: self.sessions,
            pace: self.pace,
            timer_ns: self.timer_ns,
            lockstep,
            fault,
            broken: Arc::clone(broken),
            first,
        };
        Box::new(move |door: FeedDoor| -> Box<dyn Seat> {
            Box::new(CaptureFeed::new(parts, 0, door, clock, meters))
        })
    }
}
