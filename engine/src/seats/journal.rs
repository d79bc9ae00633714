//! JOURNAL: IN and ORDERS in, frames out. The only seat that reads two rings: it alone may, because
//! it decides nothing. The order in which it writes *is* the order that replay repeats.

use std::sync::{Arc, OnceLock};

use kairos_edge::frames;
use kairos_journal::{Shared, Writer};
use kairos_logic::event::Event;
use kairos_logic::units::Stamp;

use super::OrderSlot;
use crate::meter::Meters;
use crate::ring::{Batch, Inlet};
use crate::seat::{Looked, Seat};

/// Inputs per turn: it gates nobody on IN, so the batch only bounds the turn.
const INPUTS_BATCH: Batch = Batch::new(64, 1_024);
/// Orders per turn. EXECUTION waits behind it.
const ORDERS_BATCH: u64 = 1;

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
    ending: Ending,
    meters: Arc<Meters>,
}

/// The writer, and where each position of IN went.
struct Ink {
    writer: Writer,
    /// Journal sequence of the input at `position & mask`. As long as IN, because risk may lag
    /// behind the journal by a whole ring.
    sequences: Vec<u64>,
    mask: usize,
    failed: bool,
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

    /// Nothing unjournaled is ever sent: without a journal the engine stops where it stands. The
    /// reason stands in the writer's shared state, where the control thread reads it.
    #[cold]
    fn fail(&mut self) {
        self.failed = true;
        self.meters.journal_failed.store(true, std::sync::atomic::Ordering::Release);
    }
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
            meters: Arc::clone(&meters),
        };
        Self { inputs, orders, ink, durable, batch: INPUTS_BATCH, ending, meters }
    }
}

impl<I: Inlet<Event>, O: Inlet<OrderSlot>> Seat for JournalSeat<I, O> {
    fn turn(&mut self) -> Looked {
        if self.ink.failed {
            return Looked::Idle;
        }
        if !self.ink.writer.ready() {
            self.meters.journal.held.add(1);
            return Looked::Idle;
        }
        let Self { inputs, orders, ink, durable, batch, meters, .. } = self;
        let (before, asked) = (inputs.position(), batch.size());
        let mut looked = inputs.look(asked, |at, event| ink.input(at.0, event));
        batch.took(inputs.position() - before, asked);
        meters.journal.taken_in.set(inputs.position());
        let ordered = orders.look(ORDERS_BATCH, |_, slot| {
            // Its cause first. RISK has seen it, so it is in IN and this ends.
            let cause = slot.outcome.record().map_or(0, |it| it.cause.0 + 1);
            while inputs.position() < cause {
                inputs.look(asked, |at, event| ink.input(at.0, event));
            }
            let seq = ink.order(slot);
            durable.wrote(seq);
        });
        if ordered == Looked::Busy {
            meters.journal.taken_in.set(inputs.position());
            meters.journal.taken_orders.set(orders.position());
        }
        looked = looked.max(ordered);
        if looked == Looked::Idle {
            // Nothing follows: what is committed becomes durable all the same.
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
