//! The stats page: what other processes may see of a running engine, and after its death.
//!
//! The control thread mirrors the seats' counters here; no seat knows of it.

use kairos_edge::config::{Config, Profile};
use kairos_edge::stats::{
    self, EngineView, Facts, JournalView, SeatView, StatsError, StatsWriter, VenueView,
};
use kairos_journal::{ArchiverState, Shared};
use kairos_logic::units::Stamp;

use crate::clock::Clock;
use crate::meter::{Meters, SeatMeter};
use crate::start::SeatThread;
use crate::watch::Seen;

/// The page of this engine, or nothing where the host has no place for one.
#[derive(Debug)]
pub struct Page {
    writer: Option<StatsWriter>,
    clock: Clock,
    run: u64,
    /// For each seat: its thread's place, and its place in the thread.
    seats: Vec<(String, usize, usize)>,
    /// The feed seats, in their order.
    feeds: Vec<String>,
}

/// What the feed seats and their connections are called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FeedNames {
    /// The seat: `feed.<venue>`.
    pub seat: String,
    /// The connections that it reads: `<venue>`, or `<venue>.<n>` where it has several.
    pub connections: Vec<String>,
}

impl FeedNames {
    /// The venue after which the seat is named.
    #[must_use]
    pub fn venue(&self) -> &str {
        self.seat.strip_prefix("feed.").unwrap_or(&self.seat)
    }
}

impl Page {
    /// Makes the page for these seats (name, thread's place, place in the thread) and connections.
    ///
    /// # Errors
    /// [`StatsError::Owned`] where a living engine has the same name; in production also where
    /// there is no place for a page. In development that is a warning.
    pub fn create(
        config: &Config,
        seats: Vec<(String, usize, usize)>,
        feeds: &[FeedNames],
        run: u64,
        clock: &Clock,
        warnings: &mut Vec<String>,
    ) -> Result<Self, StatsError> {
        let facts = Facts {
            engine: config.engine.name.clone(),
            started_at: clock.wall(clock.stamp()).0,
            tsc_hz: clock.ticks_per_second(),
            seats: seats.iter().map(|(name, ..)| name.clone()).collect(),
            venues: feeds.iter().flat_map(|it| it.connections.iter().cloned()).collect(),
        };
        let made = stats::make_run_dir(&config.engine.name, config.engine.run_dir.as_deref())
            .and_then(|dir| StatsWriter::create(&dir, &facts));
        let writer = match (made, config.engine.profile) {
            (Ok(writer), _) => Some(writer),
            (Err(error @ StatsError::Owned { .. }), _) | (Err(error), Profile::Production) => {
                return Err(error);
            }
            (Err(error), Profile::Development) => {
                warnings.push(format!("no stats page: {error}"));
                None
            }
        };
        let feeds = feeds.iter().map(|it| it.seat.clone()).collect();
        Ok(Self { writer, clock: clock.clone(), run, seats, feeds })
    }

    /// Copies what the seats say at this moment.
    pub fn mirror(
        &self,
        meters: &Meters,
        seen: &[Seen],
        threads: &[SeatThread],
        (journal, policy_activations): (&Shared, u64),
    ) {
        let Some(writer) = &self.writer else { return };
        let now = self.clock.stamp();
        for (place, (name, thread, inside)) in self.seats.iter().enumerate() {
            if let (Some(seat), Some(thread), Some(seen)) =
                (writer.seat(place), threads.get(*thread), seen.get(*thread))
            {
                let meter = self.meter_of(name, meters);
                seat.store(&seat_view(*inside, thread, seen, meter, now));
            }
        }
        for (place, feed) in meters.feeds.iter().flat_map(|it| &it.venues).enumerate() {
            if let Some(venue) = writer.venue(place) {
                venue.store(&VenueView {
                    frames: feed.frames.get(),
                    bytes: feed.bytes.get(),
                    events: feed.events.get(),
                    malformed: feed.malformed.get(),
                    gaps: feed.gaps.get(),
                    resyncs: feed.resyncs.get(),
                    dropped: feed.dropped.get(),
                    last_message_at: feed.last_message_at.get(),
                    connected: feed.connected.get(),
                    reconnects: feed.reconnects.get(),
                    kernel_ns: feed.kernel_ns.get(),
                });
            }
        }
        writer.store_engine(&EngineView {
            updated_at: self.clock.wall(now).0,
            events: meters.in_published(),
            decisions: meters.orders_published.get(),
            orders: meters.approved.get(),
            fills: meters.fills.get(),
            denied: meters.denied.get(),
            risk_state: meters.risk_state.get(),
            open_orders: meters.open_orders.get(),
        });
        let (ring_slots, ring_waiting) = journal.ring().unwrap_or_default();
        let (flush_ns, flush_max_ns) = journal.flush_ns();
        writer.store_journal(&JournalView {
            run: self.run,
            committed: journal.committed_seq(),
            durable: journal.durable_seq(),
            prepared: journal.prepared(),
            rolls: journal.rolls(),
            not_ready: journal.not_ready() + meters.journal.held.get(),
            flushes: journal.flushes(),
            failed: u64::from(journal.has_failed()),
            durable_lag_ns: journal.durable_lag_ns(),
            archiver_silent_ns: journal.archiver_silent_ns(),
            archived: journal.archived_seq(),
            ring_slots,
            ring_waiting,
            archiver_state: archiver_number(journal.archiver().as_ref()),
            policy_activations,
            flush_ns,
            flush_max_ns,
        });
    }

    fn meter_of<'a>(&self, name: &str, meters: &'a Meters) -> Option<&'a SeatMeter> {
        match name {
            "strategy" => Some(&meters.strategy),
            "risk" => Some(&meters.risk),
            "execution" => Some(&meters.execution),
            "journal" => Some(&meters.journal),
            _ => {
                let place = self.feeds.iter().position(|it| it == name)?;
                meters.feeds.get(place).map(|it| &it.seat)
            }
        }
    }
}

/// The number of the archiver's state on the page.
const fn archiver_number(state: Option<&ArchiverState>) -> u64 {
    match state {
        None => 0,
        Some(ArchiverState::Absent) => 1,
        Some(ArchiverState::Starting) => 2,
        Some(ArchiverState::Ready) => 3,
        Some(ArchiverState::Copying) => 4,
        Some(ArchiverState::Full(_)) => 5,
        Some(ArchiverState::Failed(_)) => 6,
    }
}

fn seat_view(
    inside: usize,
    thread: &SeatThread,
    seen: &Seen,
    meter: Option<&SeatMeter>,
    now: Stamp,
) -> SeatView {
    SeatView {
        cpu: u64::from(thread.cpu),
        thread: u64::try_from(thread.id).unwrap_or(0),
        heartbeat: seen.rounds,
        last_at: now.0,
        events: meter.map_or(0, |it| it.taken_in.get().max(it.published_in.get())),
        stalls: seen.stalls.get(inside).copied().unwrap_or(0),
        turn_max_ticks: seen.longest_ticks,
    }
}
