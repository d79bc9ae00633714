//! What a frame costs from its first byte to the door of IN on the live path: two stamps, the link, the
//! session behind it, every event handed on; beside the scanner alone.

use std::hint::black_box;

use kairos_adapters::link::{BackoffOptions, Half, Link, LinkOptions, Wish};
use kairos_adapters::session::Arrival;
use kairos_adapters::venues::Venue;
use kairos_logic::event::Event;
use kairos_logic::instrument::InstrumentTable;
use kairos_logic::units::{InstrumentId, Nanos, VenueId};

use super::Lap;
use crate::report::Findings;
use crate::stats::{ROUNDS, Series};
use crate::traffic::Messages;
use crate::{Bench, Trouble, threads};

/// One venue's messages of one kind.
pub(super) struct Way<'a> {
    pub(super) venue: Venue,
    pub(super) name: &'a str,
    pub(super) table: &'a InstrumentTable,
    pub(super) messages: &'a Messages,
}

impl Way<'_> {
    /// Measures it against `by_scanner`, which reads the same messages.
    pub(super) fn run(
        self,
        bench: &mut Bench,
        found: &mut Findings,
        mut by_scanner: impl FnMut(&[u8]) + Send,
    ) -> Result<(), Trouble> {
        const PER_SAMPLE: usize = 32;
        let Self { venue, name, table, messages } = self;
        let (mut link, half) = open(venue, table)?;
        let mut events = 0_u64;
        let clock = bench.clock.clone();
        let mut number = 0;
        let row =
            |what: &str| Series::new(format!("{} {name}, {what}", venue.name()), PER_SAMPLE as u64);
        let (mut scanner, mut way) = (row("scanner alone"), row("recv to the door of IN"));
        for _ in 0..ROUNDS {
            let (hot, _) = bench.two_cpus();
            let lap = Lap { bench, messages, per_sample: PER_SAMPLE };
            threads::measured_on(hot, || {
                scanner.push(lap.times(&mut by_scanner));
                way.push(lap.times(|message| {
                    let recv = clock.stamp();
                    number += 1;
                    let arrival = Arrival { at: clock.wall(recv), recv, number };
                    link.on_frame(half, arrival, message, &mut |event: Event| {
                        events += 1;
                        black_box((event, clock.stamp()));
                    });
                }));
            });
            bench.look_at_jitter();
        }
        if events == 0 {
            return Err(Trouble::new("link", format!("{} {name}: no events", venue.name())));
        }
        found.row(&scanner);
        found.row(&way);
        let ratio = format!("recv_in_over_scanner_{}_{name}", venue.name());
        found.asked(&ratio, way.over(&scanner, 0.5), "<= 3");
        Ok(())
    }
}

/// A link whose connection is open.
fn open(venue: Venue, table: &InstrumentTable) -> Result<(Link, Half), Trouble> {
    let session = || {
        let made = venue.session(table, VenueId(0), &[InstrumentId(0)]);
        made.map_err(|error| Trouble::new("session", error.to_string()))
    };
    let options = LinkOptions { number: 0, backoff: BackoffOptions::default(), seed: 1 };
    let mut link = Link::new([session()?, session()?], options);
    let (at, mut half) = (Nanos(1_000_000_000), None);
    let serve = |link: &mut Link, half: &mut Option<Half>| {
        link.serve(
            at,
            &mut |wish| {
                if let Wish::DialPath(it, _) | Wish::DialUrl(it, _) | Wish::Ask(it, _) = wish {
                    *half = Some(it);
                }
            },
            &mut |_| {},
        );
    };
    serve(&mut link, &mut half);
    let none = || Trouble::new("link", "it does not want to connect".to_owned());
    let asked = half.ok_or_else(none)?;
    // KuCoin asks for its address first; the others take no notice.
    let address = br#"{"code":"200000","data":{"token":"t","instanceServers":[{"endpoint":"wss://a.example/","pingInterval":18000,"pingTimeout":10000}]}}"#;
    link.on_address(asked, at, Ok(address), &mut |_| {});
    serve(&mut link, &mut half);
    let half = half.ok_or_else(none)?;
    if link.on_connected(half, at, &mut |_| {}) { Ok((link, half)) } else { Err(none()) }
}
