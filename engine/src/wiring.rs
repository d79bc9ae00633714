//! The drawing: who reads what, after whom, on which CPU.
//!
//! ```text
//! feed.* ───┐
//! commands ─┼─► IN ─┬─► STRATEGY ─► PROPOSALS ─► RISK ─► ORDERS ─┬─► EXECUTION ─┬─► venue
//! timer ────┤       ├─ after STRATEGY ────────────►┘             └─► JOURNAL    │
//!           │       ├─ branch, beside STRATEGY ───────────────────────►┘        │
//!           │       └─ branch, to know the book in paper ──────► EXECUTION      │
//!           └───────────────── news, by the front door ◄────────────────────────┘
//! ```
//!
//! IN is the one total order. STRATEGY and RISK see nothing else, so the journal of IN is enough to
//! repeat them. JOURNAL stands beside STRATEGY, never behind it: a strategy that panics leaves its
//! cause in the journal. On ORDERS, EXECUTION stands behind JOURNAL unless `journal.gate = "none"`.
//!
//! Seats with the same CPU share a thread and are turned in pipeline order; no seat can tell. The
//! cycle has one edge that never blocks: EXECUTION keeps its news while IN is full and goes on.

use std::collections::BTreeMap;
use std::sync::Arc;

use disruptor::{BusySpin, build_multi_producer, build_single_producer};
use kairos_adapters::sim::paper::PaperVenue;
use kairos_journal::Writer;
use kairos_logic::desk::Desk;
use kairos_logic::event::Event;
use kairos_logic::instrument::InstrumentTable;
use kairos_logic::order::{Intents, Proposal};
use kairos_logic::risk::Risk;
use kairos_logic::units::Seq;

use crate::clock::Clock;
use crate::meter::Meters;
use crate::ring::{Counted, FeedDoor, Inlet, Outlet};
use crate::seat::{Crew, Seat, ThreadPlan};
use crate::seats::OrderSlot;
use crate::seats::execution::{ExecutionSeat, Time};
use crate::seats::feed::Broken;
use crate::seats::journal::{Ending, JournalSeat};
use crate::seats::risk::{ORDERS_SLOTS, RiskSeat};
use crate::seats::strategy::{PROPOSALS_SLOTS, StrategySeat};

/// What an order waits for before it leaves the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gate {
    /// For nothing: it may be at the venue and not in the journal.
    None,
    /// Its frame is in the journal: survives the death of the process.
    Committed,
    /// Its frame is on disk: survives the death of the host.
    Durable,
}

/// The CPU of each seat. Equal numbers fuse seats.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CpuMap {
    /// Of each feed, in order.
    pub feeds: Vec<u16>,
    /// Of STRATEGY.
    pub strategy: u16,
    /// Of RISK.
    pub risk: u16,
    /// Of EXECUTION.
    pub execution: u16,
    /// Of JOURNAL.
    pub journal: u16,
}

impl CpuMap {
    /// Every seat on one CPU.
    #[must_use]
    pub fn fused(cpu: u16, feeds: usize) -> Self {
        Self { feeds: vec![cpu; feeds], strategy: cpu, risk: cpu, execution: cpu, journal: cpu }
    }

    /// Whether one thread turns every seat.
    #[must_use]
    pub fn is_fused(&self) -> bool {
        let cpu = self.strategy;
        let seats = [self.risk, self.execution, self.journal];
        seats.iter().chain(&self.feeds).all(|&it| it == cpu)
    }
}

/// A feed that still needs its door to IN.
pub type FeedPart = Box<dyn FnOnce(FeedDoor) -> Box<dyn Seat>>;

/// Everything that is put between the rings.
pub struct Parts {
    /// Names and makers of the feeds, in order.
    pub feeds: Vec<(String, FeedPart)>,
    /// The strategies.
    pub desk: Desk,
    /// Risk.
    pub risk: Risk,
    /// The way back from RISK to the feeds.
    pub broken: Arc<Broken>,
    /// The venue that is not there.
    pub venue: PaperVenue,
    /// What is traded.
    pub table: InstrumentTable,
    /// The journal's hot end.
    pub writer: Writer,
    /// What the journal writes at the end.
    pub ending: Ending,
    /// What EXECUTION takes for time.
    pub time: Time,
    /// Stamps.
    pub clock: Clock,
}

/// Builds the rings, puts the seats between them and the seats onto threads.
///
/// # Panics
/// Where `in_slots` is not a power of two of at least 64; the configuration has checked it.
#[must_use]
pub fn wire(
    parts: Parts,
    cpus: &CpuMap,
    gate: Gate,
    in_slots: usize,
    meters: &Arc<Meters>,
) -> Vec<ThreadPlan> {
    let mut ring = build_multi_producer(in_slots, Event::default, BusySpin);
    let journal_branch = ring.new_branch(); // beside STRATEGY, not behind it
    let execution_branch = ring.new_branch();
    let (strategy_in, ring) = ring.new_event_poller();
    let (risk_in, ring) = ring.and_then().new_event_poller(); // after STRATEGY only
    let (journal_in, ring) = ring.join(journal_branch);
    let (execution_in, ring) = ring.join(execution_branch);
    let front_door = ring.build(); // waits for RISK, JOURNAL and EXECUTION

    let ring = build_single_producer(PROPOSALS_SLOTS, vacant_proposal, BusySpin);
    let (proposals_in, ring) = ring.new_event_poller();
    let proposals = ring.build();

    let mut threads = Threads::default();
    for (number, ((name, make), &cpu)) in parts.feeds.into_iter().zip(&cpus.feeds).enumerate() {
        let door = FeedDoor::new(front_door.clone(), number, in_slots, Arc::clone(meters));
        threads.seat(cpu, Place::Feed, name, make(door));
    }
    let (clock, journal_first) = (parts.clock, cpus.strategy == cpus.journal);
    let seat = StrategySeat::new(
        Counted::new(strategy_in),
        proposals,
        parts.desk,
        journal_first,
        clock.clone(),
        Arc::clone(meters),
    );
    threads.seat(cpus.strategy, Place::Strategy, "strategy".into(), Box::new(seat));

    let rest = Rest {
        risk_in: Counted::new(risk_in),
        proposals_in: Counted::new(proposals_in),
        risk: parts.risk,
        broken: parts.broken,
        journal_in: Counted::new(journal_in),
        writer: parts.writer,
        ending: parts.ending,
        execution_in: Counted::new(execution_in),
        front_door,
        venue: parts.venue,
        table: parts.table,
        time: parts.time,
        clock,
        in_slots,
        durable: gate == Gate::Durable,
    };
    let ring = build_single_producer(ORDERS_SLOTS, OrderSlot::default, BusySpin);
    let (journal_orders, ring) = ring.new_event_poller();
    let journal_orders = Counted::new(journal_orders);
    match gate {
        Gate::None => {
            let (execution_orders, ring) = ring.new_event_poller();
            let ends = (journal_orders, Counted::new(execution_orders), ring.build());
            rest.seat(ends, cpus, meters, &mut threads);
        }
        Gate::Committed | Gate::Durable => {
            let (execution_orders, ring) = ring.and_then().new_event_poller();
            let ends = (journal_orders, Counted::new(execution_orders), ring.build());
            rest.seat(ends, cpus, meters, &mut threads);
        }
    }
    threads.into_plans()
}

/// What stands behind ORDERS' producer, whose type depends on the gate.
struct Rest<R, P, J, E, D> {
    risk_in: R,
    proposals_in: P,
    risk: Risk,
    broken: Arc<Broken>,
    journal_in: J,
    writer: Writer,
    ending: Ending,
    execution_in: E,
    front_door: D,
    venue: PaperVenue,
    table: InstrumentTable,
    time: Time,
    clock: Clock,
    in_slots: usize,
    durable: bool,
}

impl<R, P, J, E, D> Rest<R, P, J, E, D>
where
    R: Inlet<Event> + 'static,
    P: Inlet<Proposal> + 'static,
    J: Inlet<Event> + 'static,
    E: Inlet<Event> + 'static,
    D: Outlet<Event> + 'static,
{
    fn seat<JO, EO, O>(
        self,
        (journal_orders, execution_orders, orders): (JO, EO, O),
        cpus: &CpuMap,
        meters: &Arc<Meters>,
        threads: &mut Threads,
    ) where
        JO: Inlet<OrderSlot> + 'static,
        EO: Inlet<OrderSlot> + 'static,
        O: Outlet<OrderSlot> + 'static,
    {
        let stale_after_ms = self.risk.limits().stale_after_ms;
        let risk = RiskSeat::new(
            self.risk_in,
            self.proposals_in,
            orders,
            self.risk,
            self.broken,
            self.clock.clone(),
            Arc::clone(meters),
        );
        threads.seat(cpus.risk, Place::Risk, "risk".into(), Box::new(risk));
        let journal = JournalSeat::new(
            self.journal_in,
            journal_orders,
            self.writer,
            self.in_slots,
            self.durable,
            self.ending,
            Arc::clone(meters),
        );
        threads.seat(cpus.journal, Place::Journal, "journal".into(), Box::new(journal));
        let execution = ExecutionSeat::new(
            self.execution_in,
            execution_orders,
            self.front_door,
            self.venue,
            &self.table,
            self.durable,
            self.time,
            self.clock,
            Arc::clone(meters),
        )
        .stale_after(stale_after_ms);
        threads.seat(cpus.execution, Place::Execution, "execution".into(), Box::new(execution));
    }
}

fn vacant_proposal() -> Proposal {
    // A slot is read only after it was published, so what stands in it before does not matter.
    Proposal { cause: Seq(u64::MAX), intent: Intents::VACANT, strategy_at: Default::default() }
}

/// Pipeline order of the seats of one thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    Feed,
    Journal,
    Strategy,
    Risk,
    Execution,
}

/// Seats by CPU.
#[derive(Default)]
struct Threads(BTreeMap<u16, Vec<Placed>>);

/// A seat with its place in the pipeline and its name.
type Placed = (Place, String, Box<dyn Seat>);

impl Threads {
    fn seat(&mut self, cpu: u16, place: Place, name: String, seat: Box<dyn Seat>) {
        self.0.entry(cpu).or_default().push((place, name, seat));
    }

    fn into_plans(self) -> Vec<ThreadPlan> {
        self.0
            .into_iter()
            .map(|(cpu, mut seats)| {
                seats.sort_by_key(|(place, ..)| *place);
                let places: Vec<Place> = seats.iter().map(|(place, ..)| *place).collect();
                let order = round(&places);
                let names: Vec<String> = seats.iter().map(|(_, name, _)| name.clone()).collect();
                let name = match names.as_slice() {
                    [] => String::new(),
                    [only] => only.clone(),
                    [first, more @ ..] => format!("{first}+{}", more.len()),
                };
                let seats = seats.into_iter().map(|(.., seat)| seat).collect();
                ThreadPlan { name, seats: names, cpu, crew: Crew { seats, order } }
            })
            .collect()
    }
}

/// The order of a round: the pipeline's, and the journal a second time before execution, so that
/// the orders of this round are written before they leave in this round.
fn round(places: &[Place]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..places.len()).collect();
    let journal = places.iter().position(|&it| it == Place::Journal);
    let execution = places.iter().position(|&it| it == Place::Execution);
    if let (Some(journal), Some(execution)) = (journal, execution) {
        order.insert(execution, journal);
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_journal_is_turned_before_strategy_and_again_before_execution() {
        use Place::{Execution, Feed, Journal, Risk, Strategy};
        assert_eq!(round(&[Feed, Journal, Strategy, Risk, Execution]), [0, 1, 2, 3, 1, 4]);
        assert_eq!(round(&[Journal, Execution]), [0, 0, 1]);
        assert_eq!(round(&[Feed, Journal]), [0, 1]);
        assert_eq!(round(&[Strategy, Risk, Execution]), [0, 1, 2]);
    }

    #[test]
    fn fused_means_one_cpu_for_all() {
        let mut map = CpuMap::fused(3, 2);
        assert!(map.is_fused());
        map.feeds[1] = 4;
        assert!(!map.is_fused());
    }
}
