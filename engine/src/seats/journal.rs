//! JOURNAL: IN and ORDERS in, frames out. The only seat that reads two rings: it alone may, because
//! it decides nothing. The order in which it writes *is* the order that replay repeats.

use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};

use kairos_edge::frames;
use kairos_journal::{Shared, Writer};
use kairos_logic::event::Event;
use kairos_logic::orders::OPEN_MAX;
use kairos_logic::units::Stamp;

use super::OrderSlot;
use super::risk;
use crate::meter::Meters;
use crate::ring::{Batch, Inlet};
use crate::seat::{Looked, Seat};

/// Inputs per turn: it gates nobody on IN, so the batch only bounds the turn.
const INPUTS_BATCH: Batch = Batch::new(64, 1_024);
/// Orders per turn. EXECUTION waits behind it.
const ORDERS_BATCH: u64 = 1;
/// Bytes of the frame of an input, rounded up: 32 of head, a stamp, the payload.
const INPUT_BYTES: usize = 96;
/// Bytes of a turn beside the inputs: an order's frame, and what the journal itself may put between
/// (an anchor, padding to the next page).
const BESIDE_BYTES: usize = 2 * 4_096;
const _: () = assert!(32 + 8 + Event::LOGICAL <= INPUT_BYTES);
/// Bytes of the frame of a decision: 32 of head, two stamps, the payload.
const DECISION_BYTES: usize = 128;
/// Events that feeds may hold for want of room: a snapshot of 5 000 levels a side, twice.
const HELD_EVENTS: usize = 20_480;
/// Padding of the flushes meanwhile.
const PADDING_BYTES: usize = 256 << 10;

/// Bytes that the end of a run may need once the journal cannot grow: whatever may stand in IN before
/// the halt, decisions waiting in ORDERS, and two cancels of every open order with their answers.
#[must_use]
pub const fn halt_reserve(in_slots: usize) -> usize {
    let inputs = (in_slots + HELD_EVENTS) * INPUT_BYTES;
    let cancels = 2 * OPEN_MAX * (DECISION_BYTES + INPUT_BYTES);
    inputs + in_slots / 4 * DECISION_BYTES + cancels + PADDING_BYTES
}

/// The RUN_END frame, set once it is known how the run ended.
pub type Ending = Arc<OnceLock<LastWords>>;

/// What RUN_END says.
#[derive(Clone, Debug)]
pub struct LastWords {
    /// When.
    pub at: Stamp,
    /// Its payload.
    pub payload: Vec<u8>,
}

/// Writes every input and every decision, a decision never before its cause.
pub struct JournalSeat<I, O> {
    inputs: I,
    orders: O,
    ink: Ink,
    durable: DurableOrders,
    batch: Batch,
    /// No order that is still to be written was caused by an input before this position.
    caused_from: u64,
    ending: Ending,
    meters: Arc<Meters>,
}

/// The writer, and where each position of IN went.
struct Ink {
    writer: Writer,
    /// Journal sequence of the input at `position & mask`. As long as IN, because risk may lag
    /// behind the journal by a whole ring. The seat reads no further than that ahead of an order.
    sequences: Vec<u64>,
    mask: usize,
    failed: bool,
    in_reserve: bool,
    shared: Arc<Shared>,
    meters: Arc<Meters>,
}

impl Ink {
    #[inline]
    fn input(&mut self, position: u64, event: &Event) {
        let frame = frames::event(event);
        let head = (frame.ts, frame.kind, frame.schema, 0);
        let written = self.writer.append_fixed(head, &frame.ext, &frame.payload);
        match written {
            Ok(seq) => {
                let place = usize::try_from(position).unwrap_or(usize::MAX) & self.mask;
                if let Some(slot) = self.sequences.get_mut(place) {
                    *slot = seq;
                }
            }
            Err(_) => self.fail(),
        }
    }

    #[inline]
    fn order(&mut self, slot: &OrderSlot) -> u64 {
        let Some(record) = slot.outcome.record() else { return 0 };
        let mut record = *record;
        let place = usize::try_from(record.cause.0).unwrap_or(usize::MAX) & self.mask;
        record.cause.0 = self.sequences.get(place).copied().unwrap_or(0);
        let frame = frames::decision(&record, slot.strategy_at, slot.risk_at);
        let head = (frame.ts, frame.kind, frame.schema, 0);
        let written = self.writer.append_fixed(head, &frame.ext, &frame.payload);
        written.unwrap_or_else(|_| {
            self.fail();
            0
        })
    }

    /// Nothing fits: as a rule the next segment is on its way, and the seat waits for it. Of a journal
    /// that is ending none will come: what was kept for this is taken, and where that is used up too
    /// the journal has failed.
    #[cold]
    fn hold(&mut self) {
        self.meters.journal.held.add(1);
        if !self.meters.journal_ending.load(Ordering::Acquire) {
            return;
        }
        if self.in_reserve {
            return self.fail();
        }
        self.in_reserve = true;
        self.writer.use_halt_reserve();
    }

    /// Nothing unjournaled is ever sent: without a journal the engine stops where it stands. The
    /// reason stands in the writer's shared state, where the control thread reads it.
    #[cold]
    fn fail(&mut self) {
        self.failed = true;
        self.meters.journal_failed.store(true, Ordering::Release);
    }
}

/// What of ORDERS can be written now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    /// Whatever is there.
    Any,
    /// Nothing is there.
    Nothing,
    /// The next order has no room with the inputs that must stand before it.
    NoRoom,
}

/// Follows the durable watermark for `gate = "durable"`.
struct DurableOrders {
    /// Sequence of each order's frame, at its number in ORDERS `& mask`; empty for other gates.
    sequences: Vec<u64>,
    written: u64,
    durable: u64,
}

impl DurableOrders {
    fn wrote(&mut self, seq: u64) {
        let slots = self.sequences.len() as u64;
        if slots > 0 {
            let place = usize::try_from(self.written % slots).unwrap_or(0);
            if let Some(slot) = self.sequences.get_mut(place) {
                *slot = seq;
            }
        }
        self.written += 1;
    }

    /// Moves past every order whose frame is on disk; says whether it moved.
    fn follow(&mut self, durable_seq: u64) -> bool {
        let slots = self.sequences.len() as u64;
        let before = self.durable;
        while self.durable < self.written {
            let place = usize::try_from(self.durable % slots.max(1)).unwrap_or(0);
            match self.sequences.get(place) {
                Some(&seq) if seq > durable_seq => break,
                _ => self.durable += 1,
            }
        }
        self.durable != before
    }
}

impl<I: Inlet<Event>, O: Inlet<OrderSlot>> JournalSeat<I, O> {
    /// Puts the writer behind its rings. `in_slots` is the size of IN. With `track_durable` it
    /// follows the durable watermark, for an execution seat that waits for it.
    pub fn new(
        inputs: I,
        orders: O,
        writer: Writer,
        in_slots: usize,
        track_durable: bool,
        ending: Ending,
        meters: Arc<Meters>,
    ) -> Self {
        let tracked = if track_durable { super::risk::ORDERS_SLOTS } else { 0 };
        let durable = DurableOrders { sequences: vec![0; tracked], written: 0, durable: 0 };
        let ink = Ink {
            shared: writer.shared(),
            writer,
            sequences: vec![0; in_slots],
            mask: in_slots - 1,
            failed: false,
            in_reserve: false,
            meters: Arc::clone(&meters),
        };
        let (batch, caused_from) = (INPUTS_BATCH, 0);
        Self { inputs, orders, ink, durable, batch, caused_from, ending, meters }
    }

    /// How many inputs may be taken now: what fits the segment in use where no further one is
    /// ready, and no more than leaves the causes of waiting orders known.
    #[inline]
    fn allowance(&self, ahead: u64) -> u64 {
        let fit = self.ink.writer.free().saturating_sub(BESIDE_BYTES) / INPUT_BYTES;
        let known = (self.ink.mask as u64 + 1).saturating_sub(ahead);
        self.batch.size().min(fit as u64).min(known)
    }

    /// Whether the next order fits. It cannot be looked at and left where it is: what was looked at is
    /// execution's. So where the room is less than all of IN could need, what the next order may need
    /// is found from how far risk is: its cause is not behind that.
    #[inline]
    fn next_order(&self) -> Next {
        let free = self.ink.writer.free();
        if (self.ink.mask + 1) * INPUT_BYTES + BESIDE_BYTES <= free {
            return Next::Any;
        }
        let meters = &self.meters;
        if meters.orders_published.get() <= self.orders.position() {
            return Next::Nothing;
        }
        // Read after the number of published orders: each was published by a turn of risk that
        // began there or before.
        let causes_end = meters.risk.taken_in.get() + risk::BATCH;
        let before = causes_end.saturating_sub(self.inputs.position());
        let bytes = usize::try_from(before).unwrap_or(usize::MAX).saturating_mul(INPUT_BYTES);
        if bytes.saturating_add(BESIDE_BYTES) <= free { Next::Any } else { Next::NoRoom }
    }

    /// Whether something waits to be written.
    #[cold]
    fn is_asked(&self) -> bool {
        let meters = &self.meters;
        self.inputs.position() < meters.in_published()
            || self.orders.position() < meters.orders_published.get()
    }

    /// Writes inputs, then an order with its cause.
    #[inline]
    fn write(&mut self) -> Looked {
        if !self.ink.writer.ready() {
            if self.is_asked() {
                self.ink.hold();
            }
            return Looked::Idle;
        }
        let ahead = self.inputs.position().saturating_sub(self.caused_from);
        let asked = self.allowance(ahead);
        // Read before ORDERS is looked at: what risk finished before it has its orders there.
        let judged = (ahead > self.ink.mask as u64 / 2).then(|| self.meters.risk.taken_in.get());
        let before = self.inputs.position();
        let mut looked = Looked::Idle;
        if asked > 0 {
            let Self { inputs, ink, .. } = self;
            looked = inputs.look(asked, |at, event| ink.input(at.0, event));
            self.batch.took(self.inputs.position() - before, asked);
            self.meters.journal.taken_in.set(self.inputs.position());
        }
        match self.next_order() {
            Next::Any => looked = looked.max(self.write_order(judged)),
            Next::Nothing => self.caused_from = judged.unwrap_or(0).max(self.caused_from),
            // Inputs that were taken need no room any more: the next turn asks for less.
            Next::NoRoom if looked == Looked::Busy => {}
            Next::NoRoom => self.ink.hold(),
        }
        looked
    }

    #[inline]
    fn write_order(&mut self, judged: Option<u64>) -> Looked {
        let Self { inputs, orders, ink, durable, caused_from, meters, .. } = self;
        let ordered = orders.look(ORDERS_BATCH, |_, slot| {
            // Its cause first. RISK has seen it, so it is in IN and this ends.
            let cause = slot.outcome.record().map_or(0, |it| it.cause.0 + 1);
            while inputs.position() < cause {
                inputs.look(cause - inputs.position(), |at, event| ink.input(at.0, event));
            }
            let seq = ink.order(slot);
            durable.wrote(seq);
            *caused_from = cause.saturating_sub(1).max(*caused_from);
        });
        if ordered == Looked::Busy {
            meters.journal.taken_in.set(inputs.position());
            meters.journal.taken_orders.set(orders.position());
        } else {
            *caused_from = judged.unwrap_or(0).max(*caused_from);
        }
        ordered
    }
}

impl<I: Inlet<Event>, O: Inlet<OrderSlot>> Seat for JournalSeat<I, O> {
    fn turn(&mut self) -> Looked {
        if self.ink.failed {
            return Looked::Idle;
        }
        let mut looked = self.write();
        let Self { ink, durable, meters, .. } = self;
        if looked == Looked::Idle {
            // Nothing follows, or nothing fits: what is committed becomes durable all the same.
            ink.writer.tend();
        }
        if !durable.sequences.is_empty() && durable.follow(ink.shared.durable_seq()) {
            meters.orders_durable.set(durable.durable);
            looked = Looked::Busy;
        }
        looked
    }

    fn close(self: Box<Self>) {
        // Without an ending this is a fault: the run then ends as after a crash, and recovery seals
        // it. The same where the end does not fit; the keeper says so.
        if let Some(end) = self.ending.get() {
            let _ended = self.ink.writer.end_run(end.at.0, &end.payload);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use kairos_edge::frames::Record;
    use kairos_journal::{DiskStep, Faults, Journal, Options, RunFacts};
    use kairos_logic::event::Verb;
    use kairos_logic::instrument::InstrumentTable;
    use kairos_logic::risk::{Limits, Outcome, Risk, RiskOptions};
    use kairos_logic::units::{CurrencyId, Nanos, Seq};

    const IN_SLOTS: usize = 64;

    /// A stream of ticks that never ends.
    struct Ticks(u64);
    impl Inlet<Event> for Ticks {
        fn look(&mut self, max: u64, mut take: impl FnMut(Seq, &Event)) -> Looked {
            for _ in 0..max {
                take(Seq(self.0), &Event::timer(Nanos(self.0)));
                self.0 += 1;
            }
            Looked::Busy
        }
        fn position(&self) -> u64 {
            self.0
        }
    }

    /// Many decisions of the first input.
    struct Burst(Vec<OrderSlot>, usize);
    impl Inlet<OrderSlot> for Burst {
        fn look(&mut self, max: u64, mut take: impl FnMut(Seq, &OrderSlot)) -> Looked {
            let before = self.1;
            let slots = self.0.iter().skip(before).take(usize::try_from(max).unwrap());
            for slot in slots {
                take(Seq(self.1 as u64), slot);
                self.1 += 1;
            }
            if self.1 == before { Looked::Idle } else { Looked::Busy }
        }
        fn position(&self) -> u64 {
            self.1 as u64
        }
    }

    /// Decisions of the input at that position.
    fn decisions_of(cause: u64, count: usize) -> Vec<OrderSlot> {
        let options = RiskOptions { currency: CurrencyId(0), balances: Vec::new(), depth: 64 };
        let mut risk = Risk::new(&InstrumentTable::default(), Limits::default(), &options);
        let mut slots = Vec::new();
        for _ in 0..count {
            let halt = Event::command(Nanos(1), Verb::Halt, 0);
            risk.on_event(Seq(cause), &halt, &mut |outcome: Outcome| {
                slots.push(OrderSlot { outcome, ..OrderSlot::default() });
            });
        }
        slots
    }

    /// A seat behind endless ticks and these orders, on a disk with room for so many segments.
    fn seat_on(
        dir: &std::path::Path,
        orders: Vec<OrderSlot>,
        in_slots: usize,
        segments: u64,
    ) -> (JournalSeat<Ticks, Burst>, kairos_journal::Keeper, Arc<Meters>) {
        let allocated = std::sync::atomic::AtomicU64::new(0);
        let faults = Faults::for_tests(move |step| {
            let full =
                step == DiskStep::Allocate && segments <= allocated.fetch_add(1, Ordering::Relaxed);
            if full { Err(std::io::ErrorKind::StorageFull.into()) } else { Ok(()) }
        });
        let options =
            Options { populate: false, segment_bytes: 2 << 20, faults, ..Options::default() };
        let (writer, keeper, _) =
            kairos_journal::create(dir, &options, RunFacts::default()).unwrap();
        let meters = Meters::new(&[1]);
        meters.feeds[0].seat.published_in.set(u64::from(u32::MAX));
        meters.orders_published.set(orders.len() as u64);
        let burst = Burst(orders, 0);
        let ending = Ending::default();
        let seat =
            JournalSeat::new(Ticks(0), burst, writer, in_slots, true, ending, Arc::clone(&meters));
        (seat, keeper, meters)
    }

    fn has_failed(meters: &Meters) -> bool {
        meters.journal_failed.load(Ordering::Relaxed)
    }

    fn causes(dir: &std::path::Path) -> Vec<u64> {
        let mut reader = Journal::open(dir).unwrap().reader_from(0).unwrap();
        let mut causes = Vec::new();
        while let Some(frame) = reader.next().unwrap() {
            if frame.is_physical() {
                continue;
            }
            let record =
                Record::read(frame.kind, frame.schema, frame.ts, frame.ext(), frame.payload);
            if let Ok(Record::Decision { record, .. }) = record {
                causes.push(record.cause.0);
            }
        }
        causes
    }

    #[test]
    fn a_burst_of_orders_keeps_its_cause_however_many_inputs_wait() {
        let dir = tempfile::tempdir().unwrap();
        let (mut seat, _keeper, meters) = seat_on(dir.path(), decisions_of(0, 40), IN_SLOTS, 1);
        meters.risk.taken_in.set(1);
        for _ in 0..200 {
            seat.turn();
        }
        let causes = causes(dir.path());
        assert_eq!(causes, vec![1; 40]);
        assert_eq!(seat.inputs.position(), IN_SLOTS as u64 + 1, "risk has finished with one");
        assert!(!has_failed(&meters));
    }

    /// Without a second segment the seat fills the first and holds; nothing fails.
    #[test]
    fn a_backlog_fills_a_segment_and_then_waits_for_the_next() {
        let dir = tempfile::tempdir().unwrap();
        let (mut seat, _keeper, meters) = seat_on(dir.path(), Vec::new(), 1 << 16, 1);
        meters.risk.taken_in.set(u64::from(u32::MAX));
        for _ in 0..1_000 {
            seat.turn();
        }
        assert!(!has_failed(&meters));
        assert!(meters.journal.held.get() > 0, "it holds");
    }

    /// What the seat looks at it must write, with every input that stands before it.
    #[test]
    fn an_order_waits_where_the_inputs_before_it_have_no_room() {
        let dir = tempfile::tempdir().unwrap();
        // The first segment takes fewer than 22 000 inputs.
        let far = 30_000;
        let orders = decisions_of(far, 1);
        let (mut seat, mut keeper, meters) = seat_on(dir.path(), orders, 1 << 16, 9);
        meters.risk.taken_in.set(far);
        for _ in 0..1_000 {
            seat.turn();
        }
        assert!(!has_failed(&meters));
        assert_eq!(seat.orders.position(), 0, "not taken before it can be written");
        while seat.orders.position() == 0 {
            keeper.turn();
            seat.turn();
        }
        assert!(!has_failed(&meters));
        assert_eq!(causes(dir.path()), [far + 1]);
    }

    #[test]
    fn a_journal_that_ends_takes_its_reserve_and_fails_only_when_that_is_used_up() {
        let dir = tempfile::tempdir().unwrap();
        let (mut seat, mut keeper, meters) = seat_on(dir.path(), decisions_of(0, 8), 1 << 12, 1);
        meters.risk.taken_in.set(u64::from(u32::MAX));
        while meters.journal.held.get() < 10 {
            keeper.turn();
            seat.turn();
        }
        let shared = seat.ink.writer.shared();
        assert!(shared.has_failed() && !shared.is_lost(), "{:?}", shared.status());
        let (held, before) = (meters.journal.held.get(), seat.inputs.position());
        seat.turn();
        assert_eq!((held + 1, before), (meters.journal.held.get(), seat.inputs.position()));

        meters.journal_ending.store(true, Ordering::Release);
        while !has_failed(&meters) {
            keeper.turn();
            seat.turn();
            // Nothing is left out: what is durable follows to the end.
            assert!(meters.orders_durable.get() <= seat.orders.position());
        }
        let more = seat.inputs.position() - before;
        assert!(more > 4_000, "{more} inputs in the reserve of half a MiB");
        assert_eq!((seat.orders.position(), causes(dir.path()).len()), (8, 8));
    }

    #[test]
    fn a_journal_that_ends_with_nothing_to_write_has_not_failed() {
        let dir = tempfile::tempdir().unwrap();
        let (mut seat, _keeper, meters) = seat_on(dir.path(), Vec::new(), 1 << 12, 1);
        meters.risk.taken_in.set(u64::from(u32::MAX));
        meters.journal_ending.store(true, Ordering::Release);
        while seat.ink.writer.ready() || !seat.ink.in_reserve {
            seat.turn();
        }
        meters.feeds[0].seat.published_in.set(seat.inputs.position());
        for _ in 0..100 {
            seat.turn();
        }
        assert!(!has_failed(&meters));
    }

    /// The durable gate stays shut for whatever a failed sync left behind.
    #[test]
    fn after_a_failed_sync_no_order_is_durable_any_more() {
        let dir = tempfile::tempdir().unwrap();
        let syncs = std::sync::atomic::AtomicU64::new(0);
        let faults = Faults::for_tests(move |step| {
            let third = step == DiskStep::Sync && syncs.fetch_add(1, Ordering::Relaxed) == 2;
            if third { Err(std::io::Error::from_raw_os_error(5)) } else { Ok(()) }
        });
        let options = Options {
            populate: false,
            segment_bytes: 2 << 20,
            flush_interval_ms: 1,
            flush_bytes: 4_096,
            faults,
            ..Options::default()
        };
        let (writer, mut keeper, _) =
            kairos_journal::create(dir.path(), &options, RunFacts::default()).unwrap();
        let shared = writer.shared();
        let meters = Meters::new(&[1]);
        let mut seat = JournalSeat::new(
            Ticks(0),
            Burst(decisions_of(0, 400), 0),
            writer,
            IN_SLOTS,
            true,
            Ending::default(),
            Arc::clone(&meters),
        );
        while !shared.is_lost() {
            seat.turn();
            keeper.turn();
        }
        let (durable, opened) = (shared.durable_seq(), meters.orders_durable.get());
        while seat.orders.position() < 400 {
            seat.turn();
            keeper.turn();
        }
        for _ in 0..100 {
            seat.turn();
            keeper.turn();
        }
        assert!(opened <= meters.orders_durable.get() && meters.orders_durable.get() < 400);
        // An order passes the gate only if its own frame is below what was durable then.
        let mut reader = Journal::open(dir.path()).unwrap().reader_from(0).unwrap();
        let mut below = 0;
        while let Some(frame) = reader.next().unwrap() {
            below += u64::from(frame.kind == frames::DECISION && frame.seq <= durable);
        }
        assert_eq!(meters.orders_durable.get(), below);
        assert_eq!(shared.durable_seq(), durable);
    }
}
