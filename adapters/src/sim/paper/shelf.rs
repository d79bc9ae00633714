//! Our resting orders, in the order in which they would trade.

use std::ops::Range;

use kairos_logic::units::{InstrumentId, OrderId, Price, Qty, Side};

/// Most orders that rest at once. Risk's own table of open orders ends there too.
pub const ORDERS_MAX: usize = 1_024;

/// One resting order.
#[derive(Clone, Copy)]
pub(super) struct Resting {
    pub instrument: InstrumentId,
    pub side: Side,
    pub price: Price,
    /// Number of its arrival: time priority among equal prices.
    pub arrival: u64,
    pub id: OrderId,
    /// What has not traded, positive.
    pub remaining: Qty,
    /// What others had displayed at its price before it and have not yet traded or withdrawn.
    pub ahead: Qty,
    /// What it locks of its account, in the account's unit.
    pub locked: i128,
}

impl Resting {
    /// Sort key: instrument, side, best price first, oldest first.
    const fn key(&self) -> (u16, bool, i64, u64) {
        let (sells, rank) = match self.side {
            Side::Buy => (false, -self.price.0), // prices are positive
            Side::Sell => (true, self.price.0),
        };
        (self.instrument.0, sells, rank, self.arrival)
    }
}

/// Resting orders sorted by instrument, side, price and time. A vector of [`ORDERS_MAX`], allocated
/// once: a book side of ours is one slice of it, found by two binary searches.
pub(super) struct Shelf {
    orders: Vec<Resting>,
    arrivals: u64,
}

impl Shelf {
    pub(super) fn new() -> Self {
        Self { orders: Vec::with_capacity(ORDERS_MAX), arrivals: 0 }
    }

    pub(super) fn len(&self) -> usize {
        self.orders.len()
    }

    pub(super) fn is_full(&self) -> bool {
        self.orders.len() >= ORDERS_MAX
    }

    /// The places of one side of one instrument, best price first.
    pub(super) fn side(&self, instrument: InstrumentId, side: Side) -> Range<usize> {
        let of = |order: &Resting| (order.instrument.0, order.side == Side::Sell);
        let wanted = (instrument.0, side == Side::Sell);
        let start = self.orders.partition_point(|order| of(order) < wanted);
        let end = self.orders.partition_point(|order| of(order) <= wanted);
        start..end
    }

    pub(super) fn get(&self, place: usize) -> Option<&Resting> {
        self.orders.get(place)
    }

    pub(super) fn get_mut(&mut self, place: usize) -> Option<&mut Resting> {
        self.orders.get_mut(place)
    }

    pub(super) fn find(&self, id: OrderId) -> Option<usize> {
        self.orders.iter().position(|order| order.id == id)
    }

    /// Puts an order behind those of its price. Ignored when full: the caller asks first.
    pub(super) fn insert(&mut self, mut order: Resting) {
        if self.is_full() {
            return;
        }
        order.arrival = self.arrivals;
        self.arrivals += 1;
        let place = self.orders.partition_point(|it| it.key() < order.key());
        self.orders.insert(place, order);
    }

    pub(super) fn remove(&mut self, place: usize) -> Option<Resting> {
        (place < self.orders.len()).then(|| self.orders.remove(place))
    }
}
