//! The life of an order, and the table of those that are not over.
//!
//! One function, [`Life::after`], says what an answer makes of an order; strategy, risk and the
//! simulated venue all ask it, so none can believe an order dead that another still counts.
//!
//! Decisions:
//! * **No answer frees nothing.** After [`Answer::Unknown`] the order keeps its state, is
//!   `uncertain`, and counts in every limit until the venue says what became of it.
//! * **Answers may skip steps.** A fill may overtake its acknowledgement, because venues send them
//!   over different connections. Steps back (an acknowledgement after a fill) change nothing.
//! * **The end is the end.** Whatever comes after a terminal state is a [`Fault`], which the owner
//!   counts. A fill after a cancel is real money all the same: the ledger books every fill, whether
//!   or not the order's life had room for it.
//! * **More filled than ordered** ends the order as filled, and is a fault.

use alloc::boxed::Box;

use crate::event::{News, ReportState};
use crate::units::{OrderId, Qty};

/// Where an order stands. Exactly one terminal state ends its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum OrderState {
    /// Decided, not yet at the venue's door.
    New,
    /// Refused by risk; it never left. Terminal.
    RiskRejected,
    /// Its bytes left; the venue has not answered.
    Sent,
    /// The venue has it.
    Acked,
    /// The venue has it, and part of it traded.
    PartFilled,
    /// All of it traded. Terminal.
    Filled,
    /// The rest was cancelled. Terminal.
    Cancelled,
    /// The venue refused it. Terminal.
    Rejected,
    /// Its time ran out. Terminal.
    Expired,
}

impl OrderState {
    /// Every state.
    pub const ALL: [Self; 9] = [
        Self::New,
        Self::RiskRejected,
        Self::Sent,
        Self::Acked,
        Self::PartFilled,
        Self::Filled,
        Self::Cancelled,
        Self::Rejected,
        Self::Expired,
    ];

    /// Whether the order's life is over.
    #[must_use]
    pub const fn is_terminal(self) -> bool {
        match self {
            Self::New | Self::Sent | Self::Acked | Self::PartFilled => false,
            Self::RiskRejected
            | Self::Filled
            | Self::Cancelled
            | Self::Rejected
            | Self::Expired => true,
        }
    }

    /// The name that outside interfaces use.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::New | Self::Sent => "PENDING",
            Self::Acked => "APPROVED",
            Self::PartFilled => "PARTIALLY_FILLED",
            Self::Filled => "EXECUTED",
            Self::Cancelled => "CANCELLED",
            Self::RiskRejected | Self::Rejected => "REJECTED",
            Self::Expired => "EXPIRED",
        }
    }
}

/// What is heard of an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Risk refused it.
    Denied,
    /// Its bytes were handed to the socket.
    Sent,
    /// The venue took it.
    Acked,
    /// This much of it traded.
    Filled(Qty),
    /// The venue refused it.
    Rejected,
    /// The rest was cancelled.
    Cancelled,
    /// Its time ran out.
    Expired,
    /// No answer came; it may rest at the venue or not.
    Unknown,
    /// The venue refused to cancel it.
    CancelRejected,
}

impl Answer {
    /// What `news` says of an order, and of which; `None` for news of anything else.
    #[must_use]
    #[inline]
    pub fn of(news: &News) -> Option<(OrderId, Self)> {
        match *news {
            News::Fill { order, qty, .. } => Some((order, Self::Filled(qty))),
            News::Report { order, state, .. } => {
                let answer = match state {
                    ReportState::Denied => Self::Denied,
                    ReportState::Sent => Self::Sent,
                    ReportState::Acked => Self::Acked,
                    // A fill without price and quantity is no fill: `News::Fill` is.
                    ReportState::Filled => return None,
                    ReportState::Rejected => Self::Rejected,
                    ReportState::Cancelled => Self::Cancelled,
                    ReportState::Expired => Self::Expired,
                    ReportState::Unknown => Self::Unknown,
                    ReportState::CancelRejected => Self::CancelRejected,
                };
                Some((order, answer))
            }
            News::Trade { .. }
            | News::Quote { .. }
            | News::Book { .. }
            | News::Gap { .. }
            | News::Status { .. }
            | News::Timer
            | News::Command { .. }
            | News::Balance { .. }
            | News::Config { .. }
            | News::Nothing => None,
        }
    }
}

/// An answer that does not fit the life of its order. Counted by whoever hears it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The order's life was over.
    #[error("{answer:?} after {state:?}")]
    AfterEnd {
        /// How it had ended.
        state: OrderState,
        /// What came after that.
        answer: Answer,
    },
    /// This state has no such answer.
    #[error("{answer:?} in {state:?}")]
    OutOfPlace {
        /// Where the order stands, and stays.
        state: OrderState,
        /// What came.
        answer: Answer,
    },
    /// More traded than was left.
    #[error("filled {found:?} of {left:?}")]
    Overfill {
        /// What was left.
        left: Qty,
        /// What traded.
        found: Qty,
    },
    /// A fill of nothing or less.
    #[error("filled {found:?}")]
    NotPositive {
        /// The quantity that was reported.
        found: Qty,
    },
}

/// How far an order has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Life {
    state: OrderState,
    uncertain: bool,
    qty: Qty,    // positive
    filled: Qty, // in [0, qty]; equal only in `Filled`
}

impl Life {
    /// A new order of `qty`, which is positive.
    #[must_use]
    pub const fn new(qty: Qty) -> Self {
        Self { state: OrderState::New, uncertain: false, qty, filled: Qty(0) }
    }

    /// Where it stands.
    #[must_use]
    pub const fn state(&self) -> OrderState {
        self.state
    }
    /// Whether the venue owes an answer that did not come.
    #[must_use]
    pub const fn is_uncertain(&self) -> bool {
        self.uncertain
    }
    /// Whether it is over.
    #[must_use]
    pub const fn is_over(&self) -> bool {
        self.state.is_terminal()
    }
    /// What was ordered.
    #[must_use]
    pub const fn qty(&self) -> Qty {
        self.qty
    }
    /// What traded.
    #[must_use]
    pub const fn filled(&self) -> Qty {
        self.filled
    }
    /// What may still trade: zero once the order is over.
    #[must_use]
    pub const fn open_qty(&self) -> Qty {
        if self.state.is_terminal() { Qty(0) } else { Qty(self.qty.0 - self.filled.0) }
    }

    /// The transition function: what `answer` makes of the order.
    ///
    /// # Errors
    /// [`Fault`]; the order is then to stay as it is, but for [`Fault::Overfill`], see
    /// [`Life::hear`].
    pub fn after(self, answer: Answer) -> Result<Self, Fault> {
        let state = self.state;
        if state.is_terminal() {
            return Err(Fault::AfterEnd { state, answer });
        }
        let early = matches!(state, OrderState::New | OrderState::Sent);
        let fits = match answer {
            Answer::Denied => state == OrderState::New,
            Answer::Sent => state == OrderState::New,
            // A second one is the result of a question that doubt led to. After a fill it is late.
            Answer::Acked => early || self.uncertain || state == OrderState::PartFilled,
            // Some venues acknowledge first and judge then; once it traded it was not refused.
            Answer::Rejected => state != OrderState::PartFilled,
            Answer::Filled(_)
            | Answer::Cancelled
            | Answer::Expired
            | Answer::Unknown
            | Answer::CancelRejected => true,
        };
        if !fits {
            return Err(Fault::OutOfPlace { state, answer });
        }
        let ends = |state| Self { state, uncertain: false, ..self };
        match answer {
            Answer::Denied => Ok(ends(OrderState::RiskRejected)),
            Answer::Sent => Ok(Self { state: OrderState::Sent, ..self }),
            Answer::Acked => Ok(Self {
                state: if early { OrderState::Acked } else { state },
                uncertain: false,
                ..self
            }),
            Answer::Filled(found) => self.after_fill(found),
            Answer::Rejected => Ok(ends(OrderState::Rejected)),
            Answer::Cancelled => Ok(ends(OrderState::Cancelled)),
            Answer::Expired => Ok(ends(OrderState::Expired)),
            Answer::Unknown => Ok(Self {
                state: if early { OrderState::Sent } else { state },
                uncertain: true,
                ..self
            }),
            Answer::CancelRejected => Ok(self),
        }
    }

    fn after_fill(self, found: Qty) -> Result<Self, Fault> {
        let left = self.open_qty();
        if found.0 <= 0 {
            return Err(Fault::NotPositive { found });
        }
        if left < found {
            return Err(Fault::Overfill { left, found });
        }
        let state = if found == left { OrderState::Filled } else { OrderState::PartFilled };
        Ok(Self { state, uncertain: false, filled: Qty(self.filled.0 + found.0), ..self })
    }

    /// Takes `answer` in. After an overfill the order counts as filled: what it could still do, it
    /// has done; after any other fault it is what it was.
    ///
    /// # Errors
    /// [`Fault`], to be counted.
    pub fn hear(&mut self, answer: Answer) -> Result<(), Fault> {
        match self.after(answer) {
            Ok(next) => {
                *self = next;
                Ok(())
            }
            Err(fault) => {
                if let Fault::Overfill { .. } = fault {
                    self.state = OrderState::Filled;
                    self.uncertain = false;
                    self.filled = self.qty;
                }
                Err(fault)
            }
        }
    }
}

/// Why [`OpenOrders::insert`] refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InsertError {
    /// The table holds as many orders as it ever will.
    #[error("all {capacity} places are taken")]
    Full {
        /// Places of the table.
        capacity: usize,
    },
    /// An order of that id is in the table.
    #[error("order {0} is there already")]
    Duplicate(OrderId),
}

/// Most orders that one engine may have open: a strategy's wishes, risk's reservations and the
/// simulated venue's resting orders are all bounded by it.
pub const OPEN_MAX: usize = 1_024;

/// No entry, no neighbour.
const NONE: u32 = u32::MAX;

#[derive(Clone, Debug)]
struct Entry<T> {
    id: OrderId,
    before: u32,
    after: u32, // of a free entry: the next free one
    value: Option<T>,
}

/// Orders that are not over, by id. Never grows, never allocates after construction, and walks in
/// the order of insertion, whatever was removed in between.
///
/// A hash table with linear probing over places in a slab; the index is twice the slab, so that a
/// probe ends after two or three steps even when every place is taken. Removal shifts back what
/// followed instead of leaving tombstones, so age does not slow it down.
#[derive(Clone, Debug)]
pub struct OpenOrders<T> {
    index: Box<[u32]>, // power of two, twice `entries`; `NONE` or a place in `entries`
    entries: Box<[Entry<T>]>,
    free: u32,
    first: u32,
    last: u32,
    len: usize,
}

impl<T> OpenOrders<T> {
    /// Most places that a table may have.
    pub const CAPACITY_MAX: usize = 1 << 20;

    /// An empty table of at least `capacity` places, rounded up to a power of two and at most
    /// [`Self::CAPACITY_MAX`].
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        let capacity = capacity.clamp(1, Self::CAPACITY_MAX).next_power_of_two();
        let entry =
            |place: u32| Entry { id: OrderId(0), before: NONE, after: place + 1, value: None };
        let mut entries: Box<[Entry<T>]> = (0..).take(capacity).map(entry).collect();
        if let Some(last) = entries.last_mut() {
            last.after = NONE;
        }
        Self {
            index: (0..2 * capacity).map(|_| NONE).collect(),
            entries,
            free: 0,
            first: NONE,
            last: NONE,
            len: 0,
        }
    }

    /// Orders in the table.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }
    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }
    /// Most orders that fit.
    #[must_use]
    pub const fn capacity(&self) -> usize {
        self.entries.len()
    }
    /// Whether the next insert would be refused.
    #[must_use]
    pub const fn is_full(&self) -> bool {
        self.free == NONE
    }

    /// Adds an order.
    ///
    /// # Errors
    /// [`InsertError`]; the table is then unchanged.
    pub fn insert(&mut self, id: OrderId, value: T) -> Result<(), InsertError> {
        let slot = match self.find(id) {
            Ok(_) => return Err(InsertError::Duplicate(id)),
            Err(slot) => slot,
        };
        let place = self.free;
        let last = self.last;
        let capacity = self.capacity();
        let Some(entry) = self.entry_mut(place) else {
            return Err(InsertError::Full { capacity });
        };
        let next_free = entry.after;
        *entry = Entry { id, before: last, after: NONE, value: Some(value) };
        self.free = next_free;
        match self.entry_mut(last) {
            Some(before) => before.after = place,
            None => self.first = place,
        }
        self.last = place;
        self.len += 1;
        self.set_index(slot, place);
        Ok(())
    }

    /// The order with this id.
    #[must_use]
    pub fn get(&self, id: OrderId) -> Option<&T> {
        let (_, place) = self.find(id).ok()?;
        self.entry(place)?.value.as_ref()
    }

    /// The order with this id, to be changed.
    #[must_use]
    pub fn get_mut(&mut self, id: OrderId) -> Option<&mut T> {
        let (_, place) = self.find(id).ok()?;
        self.entry_mut(place)?.value.as_mut()
    }

    /// Whether an order of this id is in the table.
    #[must_use]
    pub fn contains(&self, id: OrderId) -> bool {
        self.find(id).is_ok()
    }

    /// Takes an order out.
    pub fn remove(&mut self, id: OrderId) -> Option<T> {
        let (slot, place) = self.find(id).ok()?;
        let free = self.free;
        let entry = self.entry_mut(place)?;
        let (before, after) = (entry.before, entry.after);
        let value = entry.value.take();
        entry.before = NONE;
        entry.after = free;
        self.free = place;
        match self.entry_mut(before) {
            Some(entry) => entry.after = after,
            None => self.first = after,
        }
        match self.entry_mut(after) {
            Some(entry) => entry.before = before,
            None => self.last = before,
        }
        self.len -= 1;
        self.close_gap(slot);
        value
    }

    /// The orders with their ids, oldest first.
    pub fn iter(&self) -> impl Iterator<Item = (OrderId, &T)> {
        let mut place = self.first;
        core::iter::from_fn(move || {
            let entry = self.entry(place)?;
            place = entry.after;
            entry.value.as_ref().map(|value| (entry.id, value))
        })
    }

    /// The oldest order's id. With [`Self::after`] this walks a table that changes on the way.
    #[must_use]
    pub fn first(&self) -> Option<OrderId> {
        self.entry(self.first).map(|entry| entry.id)
    }

    /// The id inserted next after `id`; `None` for the last one and for ids not in the table.
    #[must_use]
    pub fn after(&self, id: OrderId) -> Option<OrderId> {
        let (_, place) = self.find(id).ok()?;
        let after = self.entry(place)?.after;
        self.entry(after).map(|entry| entry.id)
    }

    /// Shows every order to `keep`, oldest first, and takes out those it returns `false` for.
    pub fn retain(&mut self, mut keep: impl FnMut(OrderId, &mut T) -> bool) {
        let mut next = self.first();
        while let Some(id) = next {
            next = self.after(id);
            if !self.get_mut(id).is_none_or(|value| keep(id, value)) {
                self.remove(id);
            }
        }
    }

    fn entry(&self, place: u32) -> Option<&Entry<T>> {
        self.entries.get(place as usize)
    }
    fn entry_mut(&mut self, place: u32) -> Option<&mut Entry<T>> {
        self.entries.get_mut(place as usize)
    }
    fn set_index(&mut self, slot: usize, place: u32) {
        if let Some(it) = self.index.get_mut(slot) {
            *it = place;
        }
    }
    fn index_at(&self, slot: usize) -> u32 {
        self.index.get(slot).copied().unwrap_or(NONE)
    }

    /// Where probing for `id` starts. Ids are counters: the multiplier (2^64 / golden ratio)
    /// spreads neighbours, and the high bits of the product are the well-mixed ones.
    const fn home(&self, id: OrderId) -> usize {
        let mixed = id.0.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32;
        (mixed as usize) & (self.index.len() - 1)
    }

    /// The slot and place of `id`, or the vacant slot where it belongs. Ends because the index
    /// always has at least as many vacant slots as the table has places.
    fn find(&self, id: OrderId) -> Result<(usize, u32), usize> {
        let mut slot = self.home(id);
        loop {
            let place = self.index_at(slot);
            match self.entry(place) {
                None => return Err(slot),
                Some(entry) if entry.id == id => return Ok((slot, place)),
                Some(_) => slot = (slot + 1) & (self.index.len() - 1),
            }
        }
    }

    /// Vacates `gap` and moves back whoever probed across it.
    fn close_gap(&mut self, mut gap: usize) {
        let mask = self.index.len() - 1;
        let mut slot = gap;
        loop {
            slot = (slot + 1) & mask;
            let place = self.index_at(slot);
            let Some(id) = self.entry(place).map(|entry| entry.id) else {
                self.set_index(gap, NONE);
                return;
            };
            // It may move only if its home is not behind the gap, seen from the gap on.
            let from_home = slot.wrapping_sub(self.home(id)) & mask;
            let from_gap = slot.wrapping_sub(gap) & mask;
            if from_gap <= from_home {
                self.set_index(gap, place);
                gap = slot;
            }
        }
    }
}

#[cfg(test)]
mod tests;
