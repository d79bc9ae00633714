//! Feeds from venues, the real ones and the simulated one.
//!
//! What a venue trades is asked for once, before anything else of the engine exists; its answer
//! becomes the instrument table, which is journaled.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use kairos_adapters::lines::{Lines, Net};
use kairos_adapters::link::{BackoffOptions, Link, LinkOptions};
use kairos_adapters::net::address::{Address, Purpose};
use kairos_adapters::net::dial::Dialler;
use kairos_adapters::net::rest::{Method, Rest, RestOptions};
use kairos_adapters::net::tls::Tls;
use kairos_adapters::net::websocket::ConnectOptions;
use kairos_adapters::net::{NetError, SocketOptions};
use kairos_adapters::venue::listing::Listing;
use kairos_adapters::venues::Venue as Protocol;
use kairos_edge::config::{Config, Description, MarketData, Venue};
use kairos_logic::event::{Event, StatusCode};
use kairos_logic::instrument::InstrumentTable;
use kairos_logic::units::{Decimal, InstrumentId, Nanos, VenueId};

use super::{FeedError, connection_names, describe, instruments_of, protocol, refuse};
use crate::assemble::AssembleError;
use crate::clock::Clock;
use crate::meter::Meters;
use crate::page::FeedNames;
use crate::ring::FeedDoor;
use crate::seat::Seat;
use crate::seats::feed::Broken;
use crate::seats::feed::live::{LiveFeed, LiveParts};
use crate::simulated::Simulated;
use crate::sockets;
use crate::wiring::FeedPart;

/// Most time for one attempt to fetch a list of instruments: some have several megabytes.
const LIST_WITHIN: Duration = Duration::from_secs(15);
/// Attempts to fetch it.
const LIST_ATTEMPTS: u32 = 2;

/// How one venue is reached: addresses, trust, options of sockets.
pub struct Connector {
    protocol: Protocol,
    /// Address of its streams.
    pub ws_url: String,
    rest_url: String,
    tls: Tls,
    connect: ConnectOptions,
}

impl Connector {
    /// What the configuration says of a venue; `sim` is the exchange that stands in for it.
    ///
    /// # Errors
    /// [`FeedError::Config`]: an address that is none or would carry plain text off this host, a file
    /// of certificates that cannot be used.
    pub fn new(
        config: &Config,
        written: &Venue,
        sim: Option<&Simulated>,
    ) -> Result<Self, FeedError> {
        let protocol = protocol(config, &written.name)?;
        let (own_ws, own_rest) = match sim {
            Some(exchange) => (exchange.ws_url(), exchange.rest_url()),
            None => (protocol.ws_public_url().into(), protocol.rest_url().into()),
        };
        let ws_url = written.ws_public_url.clone().filter(|_| sim.is_none()).unwrap_or(own_ws);
        let rest_url = written.rest_url.clone().filter(|_| sim.is_none()).unwrap_or(own_rest);
        let wrong = |key: &str, error: &NetError| {
            refuse(config, &format!("venues.{}.{key}", written.name), &error.to_string())
        };
        for (key, url, purpose) in [
            ("ws_public_url", &ws_url, Purpose::Stream),
            ("rest_url", &rest_url, Purpose::Requests),
        ] {
            let address = Address::parse(url, purpose).map_err(|it| wrong(key, &it))?;
            // Who is not there now may be there later; who may never be reached is refused now.
            if let Err(error @ NetError::NotLoopback { .. }) = address.resolve(LIST_WITHIN) {
                return Err(wrong(key, &error));
            }
        }
        let tls = Tls::new(written.ca_file.as_deref()).map_err(|it| wrong("ca_file", &it))?;
        let connect = ConnectOptions {
            message_max: protocol.limits().message_max,
            socket: SocketOptions {
                kernel_stamps: written.kernel_stamps,
                busy_poll_us: written.busy_poll_us,
                quick_ack: written.quick_ack,
                prepare: Some(sockets::prepare),
            },
            ..ConnectOptions::default()
        };
        Ok(Self { protocol, ws_url, rest_url, tls, connect })
    }

    /// The venue's connections, with the helper threads that make them and fetch for them.
    ///
    /// # Errors
    /// [`NetError::Address`], [`NetError::Scheme`].
    pub fn lines(&self, venue: VenueId, links: Vec<Link>) -> Result<Lines, NetError> {
        let net = Net {
            ws_url: self.ws_url.clone(),
            dialler: Dialler::start(self.connect, self.tls.clone()),
            rest: Rest::start(&self.rest_url, RestOptions::default(), &self.tls)?,
            dial_pause_ns: self.protocol.limits().dial_pause_ns,
        };
        Ok(Lines::new(venue, links, net))
    }

    /// The venue's list of instruments, as far as they are wanted.
    ///
    /// # Errors
    /// One line: what was asked, what was found.
    pub fn listings(&self, wanted: &[String]) -> Result<Vec<Listing>, String> {
        let options = RestOptions { timeout: LIST_WITHIN, ..RestOptions::default() };
        let rest = Rest::start(&self.rest_url, options, &self.tls);
        let mut rest = rest.map_err(|error| error.to_string())?;
        let mut last = String::from("no answer");
        for _attempt in 0..LIST_ATTEMPTS {
            if !rest.request(0, Method::Get, self.protocol.list_path().into()) {
                break;
            }
            match rest.wait(LIST_WITHIN * 2).map(|reply| reply.body) {
                Some(Ok(body)) => {
                    let wanted: Vec<&str> = wanted.iter().map(String::as_str).collect();
                    let parsed = self.protocol.parse_list(&body, &wanted);
                    return parsed.map_err(|error| {
                        format!("{}{}: {error}", self.rest_url, self.protocol.list_path())
                    });
                }
                Some(Err(error)) => {
                    last = error.to_string();
                    if error.http().is_some() {
                        break; // an answer; another attempt would get the same
                    }
                }
                None => break,
            }
        }
        Err(last)
    }
}

/// A venue that is ready to be connected.
pub(super) struct LiveVenue {
    pub(super) lines: Lines,
    pub(super) exchange: Option<Simulated>,
    timer_ns: u64,
    hold_ns: u64,
    /// What the venue's list says of its instruments, to be journaled before anything else of it.
    listed: Vec<Event>,
}

type Prepared = (InstrumentTable, Vec<FeedNames>, Vec<String>, Vec<LiveVenue>);

/// Asks every venue what it trades, and prepares a seat for each.
pub(super) fn prepare(config: &Config) -> Result<Prepared, FeedError> {
    let mut warnings = Vec::new();
    let mut connectors = Vec::new();
    for written in &config.venues {
        let exchange = match written.market_data {
            MarketData::Sim => {
                Some(Simulated::start(config, &written.name).map_err(FeedError::Simulated)?)
            }
            MarketData::Live | MarketData::Capture => None,
        };
        let connector = Connector::new(config, written, exchange.as_ref())?;
        connectors.push((exchange, connector));
    }
    let mut reached = Vec::new();
    let asked = ask_all(config, &connectors);
    for ((written, (exchange, connector)), found) in config.venues.iter().zip(connectors).zip(asked)
    {
        let listings = listings(config, written, found, exchange.is_some(), &mut warnings)?;
        reached.push((exchange, connector, listings));
    }
    let described = |venue: &str, symbol: &str| {
        let place = config.venues.iter().position(|it| it.name == venue)?;
        let listings = &reached.get(place)?.2;
        match listings.iter().find(|it| it.symbol == symbol) {
            Some(listing) => Some(description(listing)),
            None => describe(venue, symbol),
        }
    };
    let table = config.instrument_table(&described).map_err(AssembleError)?;
    let (mut names, mut venues) = (Vec::new(), Vec::new());
    let places = (0_u8..).map(VenueId).zip(&config.venues).zip(reached);
    for ((id, written), (exchange, connector, listings)) in places {
        let links = links(config, written, id, &table, connector.protocol)?;
        names.push(FeedNames {
            seat: format!("feed.{}", written.name),
            connections: connection_names(&written.name, links.len()),
        });
        let lines = connector.lines(id, links).map_err(|error| {
            refuse(config, &format!("venues.{}.rest_url", written.name), &error.to_string())
        })?;
        venues.push(LiveVenue {
            lines,
            exchange,
            timer_ns: config.engine.timer_ms * 1_000_000,
            hold_ns: config.feed.hold_ms * 1_000_000,
            listed: standing(&table, id, &listings),
        });
    }
    Ok((table, names, warnings, venues))
}

/// Asks every venue for its list, all at once: one that does not answer keeps nobody else waiting.
fn ask_all(
    config: &Config,
    connectors: &[(Option<Simulated>, Connector)],
) -> Vec<Result<Vec<Listing>, String>> {
    thread::scope(|scope| {
        let venues = config.venues.iter().zip(connectors);
        let asking: Vec<_> = venues
            .map(|(it, (_, connector))| scope.spawn(move || connector.listings(&it.instruments)))
            .collect();
        let panicked = |_| Err(String::from("the helper thread panicked"));
        asking.into_iter().map(|it| it.join().unwrap_or_else(panicked)).collect()
    })
}

/// What a venue lists of the configured symbols. A venue that cannot be asked is a warning: paper
/// trading goes on with what the configuration says of its instruments. A list that does not name a
/// symbol is an error: nobody would ever speak of it.
fn listings(
    config: &Config,
    written: &Venue,
    found: Result<Vec<Listing>, String>,
    must: bool,
    warnings: &mut Vec<String>,
) -> Result<Vec<Listing>, FeedError> {
    let found = match found {
        Ok(found) => found,
        Err(error) if must => return Err(FeedError::Simulated(error)),
        Err(error) => {
            warnings.push(format!(
                "venues.{}: no list of instruments: {error}; steps and minimums are those of the \
                 configuration",
                written.name
            ));
            return Ok(Vec::new());
        }
    };
    for symbol in &written.instruments {
        match found.iter().find(|it| it.symbol == *symbol) {
            Some(it) if !it.trading => {
                warnings.push(format!("venues.{}: {symbol} does not trade now", written.name));
            }
            Some(_) => {}
            None => {
                let key = format!("venues.{}.instruments", written.name);
                let rule = format!("the venue does not list {symbol}");
                return Err(refuse(config, &key, &rule));
            }
        }
    }
    Ok(found)
}

/// Whether each instrument of a venue trades, as its list has it.
fn standing(table: &InstrumentTable, venue: VenueId, listings: &[Listing]) -> Vec<Event> {
    let own = table.iter().filter(|(_, it)| it.venue == venue);
    let listed = own.filter_map(|(id, it)| {
        let listing = listings.iter().find(|listing| listing.symbol == it.symbol)?;
        let detail = i64::from(listing.trading);
        Some(Event::status(Nanos(0), id, venue, StatusCode::Listed, detail))
    });
    listed.collect()
}

fn description(listing: &Listing) -> Description {
    let text = |units: i64, scale: u8| Some(Decimal { units, scale }.to_string());
    Description {
        base: listing.base.clone(),
        quote: listing.quote.clone(),
        price_scale: Some(listing.price_scale),
        qty_scale: Some(listing.qty_scale),
        tick_size: text(listing.tick.0, listing.price_scale),
        lot_size: text(listing.lot.0, listing.qty_scale),
        min_qty: text(listing.min_qty.0, listing.qty_scale),
        min_notional: Some(listing.min_notional),
    }
}

/// The links of a venue: as many as its limit of instruments per connection asks for.
fn links(
    config: &Config,
    written: &Venue,
    venue: VenueId,
    table: &InstrumentTable,
    protocol: Protocol,
) -> Result<Vec<Link>, FeedError> {
    let all: Vec<InstrumentId> = instruments_of(table, venue);
    let feed = &config.feed;
    let backoff = BackoffOptions {
        first_ns: feed.reconnect_initial_ms * 1_000_000,
        max_ns: feed.reconnect_max_ms.max(feed.reconnect_initial_ms) * 1_000_000,
        attempts_max: feed.reconnect_max_attempts,
    };
    let seed = config.engine.seed ^ u64::from(venue.0) << 32;
    let chunks = all.chunks(protocol.limits().instruments_per_connection);
    let made = (0_u16..).zip(chunks).map(|(number, instruments)| {
        let session = || protocol.session(table, venue, instruments);
        Ok(Link::new([session()?, session()?], LinkOptions { number, backoff, seed }))
    });
    made.collect::<Result<_, kairos_adapters::venues::SetupError>>().map_err(|error| {
        refuse(config, &format!("venues.{}.instruments", written.name), &error.to_string())
    })
}

/// The seats of the venues. The first has what goes in before anything else.
pub(super) fn into_parts(
    mut venues: Vec<LiveVenue>,
    mut inherited: Vec<Event>,
    clock: &Clock,
    broken: &Arc<Broken>,
    meters: &Arc<Meters>,
) -> Vec<FeedPart> {
    venues.iter_mut().for_each(|it| inherited.append(&mut it.listed));
    let mut inherited = Some(inherited);
    let part = |(number, venue): (usize, LiveVenue)| -> FeedPart {
        let parts = LiveParts {
            lines: venue.lines,
            exchange: venue.exchange,
            timer_ns: venue.timer_ns,
            hold_ns: venue.hold_ns,
            broken: Arc::clone(broken),
            first: inherited.take().unwrap_or_default(),
        };
        let (clock, meters) = (clock.clone(), Arc::clone(meters));
        Box::new(move |door: FeedDoor| -> Box<dyn Seat> {
            Box::new(LiveFeed::new(parts, number, door, clock, meters))
        })
    };
    venues.into_iter().enumerate().map(part).collect()
}
