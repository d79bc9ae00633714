//! The order book of one instrument: price levels as integers, bounded, never crossed.
//!
//! Both sides are sorted arrays with the best level at the end, so that what changes most (the
//! top) moves the fewest bytes. Nothing is allocated after construction.
//!
//! # Limits
//! A side keeps at most as many levels as the book was made for. The level that had to go marks
//! the *edge* of the side: what lies at the edge or beyond is unknown and stays unknown until the
//! next snapshot. A book that has an edge and fewer than [`KNOWN_LEVELS_MIN`] levels inside it can
//! no longer be trusted. A book without an edge may be as thin as it likes.

use alloc::vec::Vec;

use crate::event::{Flags, GapReason};
use crate::units::{Price, Qty, Side};

/// Most levels of one side: 2 sides x 4 096 x 16 bytes are 128 KiB a book, inside a core's L2.
pub const DEPTH_MAX: usize = 4_096;
/// Fewest levels a book can be made for: [`KNOWN_LEVELS_MIN`] and room for changes around them.
pub const DEPTH_MIN: usize = 2 * KNOWN_LEVELS_MIN;
/// Fewest levels that a side with an edge needs inside it.
pub const KNOWN_LEVELS_MIN: usize = 20;

/// One price level.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Level {
    /// The price.
    pub price: Price,
    /// What rests there, positive.
    pub qty: Qty,
}

/// How far a book can be trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BookState {
    /// Nothing is known until the next snapshot; changes are ignored.
    Invalid,
    /// The first level of a snapshot has come, its LAST has not.
    Loading,
    /// Complete up to its edges.
    Valid,
}

/// The bids and asks of one instrument.
#[derive(Clone, Debug)]
pub struct Book {
    bids: Ladder,
    asks: Ladder,
    state: BookState,
    /// The best levels at the last LAST: what [`Book::best`] answers between two LASTs.
    top: [Option<Level>; 2],
    /// Whether levels of a message have come whose LAST has not.
    partial: bool,
}

impl Book {
    /// An empty, invalid book for `depth` levels a side, brought into
    /// [`DEPTH_MIN`]..=[`DEPTH_MAX`].
    #[must_use]
    pub fn new(depth: usize) -> Self {
        let depth = depth.clamp(DEPTH_MIN, DEPTH_MAX);
        Self {
            bids: Ladder::new(depth, Side::Buy),
            asks: Ladder::new(depth, Side::Sell),
            state: BookState::Invalid,
            top: [None; 2],
            partial: false,
        }
    }

    /// Takes one level: `qty` is absolute, 0 (or less) removes it.
    ///
    /// CLEAR begins a snapshot: all before it is forgotten, and every level up to the next LAST
    /// belongs to it. LAST is where the book is judged; in between it may pass through states that
    /// no one should look at. Without CLEAR an invalid book ignores the level.
    ///
    /// # Errors
    /// Why the book became invalid at this LAST: [`GapReason::Crossed`] or [`GapReason::Shallow`].
    pub fn apply(
        &mut self,
        side: Side,
        price: Price,
        qty: Qty,
        flags: Flags,
    ) -> Result<(), GapReason> {
        if flags.has(Flags::CLEAR) {
            self.forget();
            self.state = BookState::Loading;
        } else if self.state == BookState::Invalid {
            return Ok(());
        }
        self.partial = true;
        self.ladder_mut(side).set(price, qty);
        if flags.has(Flags::LAST) { self.judge() } else { Ok(()) }
    }

    /// Forgets everything: the book is [`BookState::Invalid`] until the LAST of its next snapshot.
    pub fn invalidate(&mut self) {
        self.forget();
        self.state = BookState::Invalid;
    }

    /// Takes up to `qty` from a level, as a trade against it would; returns how much there was.
    ///
    /// For who simulates a venue on this book: the level is gone when nothing is left of it, until
    /// the feed says otherwise.
    pub fn take(&mut self, side: Side, price: Price, qty: Qty) -> Qty {
        let there = self.qty_at(side, price);
        let taken = Qty(qty.0.clamp(0, there.0));
        if taken.0 > 0 {
            self.ladder_mut(side).set(price, Qty(there.0 - taken.0));
            if !self.partial {
                self.settle();
            }
        }
        taken
    }

    /// How far the book can be trusted.
    #[must_use]
    pub const fn state(&self) -> BookState {
        self.state
    }

    /// Whether the book is [`BookState::Valid`]: [`Book::best`] then answers for its last LAST.
    #[must_use]
    pub const fn is_valid(&self) -> bool {
        matches!(self.state, BookState::Valid)
    }

    /// Whether levels of a message have come whose LAST has not: [`Book::levels`] and
    /// [`Book::qty_at`] then show a change half done.
    #[must_use]
    pub const fn is_partial(&self) -> bool {
        self.partial
    }

    /// The best level of a side as of the last LAST; `None` where the side is empty or the book is
    /// not valid. The best bid is below the best ask, always.
    #[must_use]
    pub fn best(&self, side: Side) -> Option<Level> {
        let [bid, ask] = self.top;
        match (self.state, side) {
            (BookState::Valid, Side::Buy) => bid,
            (BookState::Valid, Side::Sell) => ask,
            (BookState::Invalid | BookState::Loading, _) => None,
        }
    }

    /// The levels of a side, best first.
    pub fn levels(&self, side: Side) -> impl Iterator<Item = Level> + '_ {
        self.ladder(side).levels.iter().rev().copied()
    }

    /// How many levels of a side are known.
    #[must_use]
    pub fn depth(&self, side: Side) -> usize {
        self.ladder(side).levels.len()
    }

    /// The price from which on nothing is known of a side; `None` where the side is complete.
    #[must_use]
    pub fn edge(&self, side: Side) -> Option<Price> {
        self.ladder(side).edge
    }

    /// What rests at a price; 0 where no level is known.
    #[must_use]
    pub fn qty_at(&self, side: Side, price: Price) -> Qty {
        let ladder = self.ladder(side);
        match ladder.place(price) {
            Ok(place) => ladder.levels.get(place).map_or(Qty(0), |it| it.qty),
            Err(_) => Qty(0),
        }
    }

    fn judge(&mut self) -> Result<(), GapReason> {
        let (bid, ask) = (self.bids.levels.last(), self.asks.levels.last());
        if let (Some(bid), Some(ask)) = (bid, ask)
            && bid.price >= ask.price
        {
            self.invalidate();
            return Err(GapReason::Crossed);
        }
        if self.bids.is_shallow() || self.asks.is_shallow() {
            self.invalidate();
            return Err(GapReason::Shallow);
        }
        self.state = BookState::Valid;
        self.partial = false;
        self.settle();
        Ok(())
    }

    fn settle(&mut self) {
        self.top = [self.bids.levels.last().copied(), self.asks.levels.last().copied()];
    }

    fn forget(&mut self) {
        self.bids.clear();
        self.asks.clear();
        self.top = [None; 2];
        self.partial = false;
    }

    const fn ladder(&self, side: Side) -> &Ladder {
        match side {
            Side::Buy => &self.bids,
            Side::Sell => &self.asks,
        }
    }

    const fn ladder_mut(&mut self, side: Side) -> &mut Ladder {
        match side {
            Side::Buy => &mut self.bids,
            Side::Sell => &mut self.asks,
        }
    }
}

/// Levels from the end that are looked at one by one before the search halves: most changes are
/// at the top, and eight levels are two cache lines.
const NEAR_TOP: usize = 8;

/// One side, sorted from worst to best.
#[derive(Clone, Debug)]
struct Ladder {
    levels: Vec<Level>,
    edge: Option<Price>,
    depth: usize,
    side: Side,
}

impl Ladder {
    fn new(depth: usize, side: Side) -> Self {
        Self { levels: Vec::with_capacity(depth), edge: None, depth, side }
    }

    fn clear(&mut self) {
        self.levels.clear();
        self.edge = None;
    }

    fn is_shallow(&self) -> bool {
        self.edge.is_some() && self.levels.len() < KNOWN_LEVELS_MIN
    }

    /// Whether `price` is better than `other`: higher for bids, lower for asks.
    fn is_better(&self, price: Price, other: Price) -> bool {
        match self.side {
            Side::Buy => price > other,
            Side::Sell => price < other,
        }
    }

    /// Where `price` stands, or where it would.
    fn place(&self, price: Price) -> Result<usize, usize> {
        let near = self.levels.len().saturating_sub(NEAR_TOP);
        let (far, top) = self.levels.split_at(near);
        for (offset, level) in top.iter().enumerate().rev() {
            if level.price == price {
                return Ok(near + offset);
            }
            if self.is_better(price, level.price) {
                return Err(near + offset + 1);
            }
        }
        far.binary_search_by(|level| match self.side {
            Side::Buy => level.price.cmp(&price),
            Side::Sell => price.cmp(&level.price),
        })
    }

    fn set(&mut self, price: Price, qty: Qty) {
        if self.edge.is_some_and(|edge| !self.is_better(price, edge)) {
            return;
        }
        match self.place(price) {
            Ok(place) if qty.0 > 0 => {
                if let Some(level) = self.levels.get_mut(place) {
                    level.qty = qty;
                }
            }
            Ok(place) => {
                self.levels.remove(place);
            }
            Err(_) if qty.0 <= 0 => {}
            Err(place) if self.levels.len() < self.depth => {
                self.levels.insert(place, Level { price, qty });
            }
            // The side is full: the worst level goes and becomes the edge, or this one does.
            Err(0) => self.edge = Some(price),
            Err(place) => {
                self.edge = self.levels.first().map(|it| it.price);
                self.levels.copy_within(1..place, 0);
                if let Some(slot) = self.levels.get_mut(place - 1) {
                    *slot = Level { price, qty };
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::collections::BTreeMap;
    use proptest::prelude::*;

    const DEPTH: usize = DEPTH_MIN;

    /// The same rules over maps, written for being obvious. Keys are signed so that the best level
    /// of either side is the last one.
    #[derive(Debug)]
    struct Twin {
        sides: [(BTreeMap<i64, i64>, Option<i64>); 2],
        state: BookState,
        top: [Option<Level>; 2],
    }

    impl Twin {
        fn new() -> Self {
            Self { sides: Default::default(), state: BookState::Invalid, top: [None; 2] }
        }

        fn reset(&mut self, state: BookState) {
            *self = Self { state, ..Self::new() };
        }

        fn level(side: usize, (key, qty): (&i64, &i64)) -> Level {
            Level { price: Price(if side == 0 { *key } else { -key }), qty: Qty(*qty) }
        }

        fn apply(
            &mut self,
            side: Side,
            price: i64,
            qty: i64,
            flags: Flags,
        ) -> Result<(), GapReason> {
            if flags.has(Flags::CLEAR) {
                self.reset(BookState::Loading);
            }
            if self.state == BookState::Invalid {
                return Ok(());
            }
            let key = price * side.sign();
            let (levels, edge) = &mut self.sides[side as usize];
            if edge.is_none_or(|edge| key > edge) {
                if qty == 0 {
                    levels.remove(&key);
                } else {
                    levels.insert(key, qty);
                }
                if levels.len() > DEPTH {
                    *edge = levels.pop_first().map(|it| it.0);
                }
            }
            if !flags.has(Flags::LAST) {
                return Ok(());
            }
            let best = |side: usize| {
                let last = self.sides[side].0.last_key_value();
                last.map(|it| Self::level(side, it))
            };
            let top = [best(0), best(1)];
            if let [Some(bid), Some(ask)] = top
                && bid.price >= ask.price
            {
                self.reset(BookState::Invalid);
                return Err(GapReason::Crossed);
            }
            let shallow = |(levels, edge): &(BTreeMap<i64, i64>, Option<i64>)| {
                edge.is_some() && levels.len() < KNOWN_LEVELS_MIN
            };
            if self.sides.iter().any(shallow) {
                self.reset(BookState::Invalid);
                return Err(GapReason::Shallow);
            }
            self.state = BookState::Valid;
            self.top = top;
            Ok(())
        }

        fn assert_is(&self, book: &Book) {
            assert_eq!(book.state(), self.state);
            for (place, side) in [Side::Buy, Side::Sell].into_iter().enumerate() {
                let (levels, edge) = &self.sides[place];
                let want = levels.iter().rev().map(|it| Self::level(place, it));
                assert!(book.levels(side).eq(want), "{side:?} levels");
                assert_eq!(book.depth(side), levels.len());
                assert_eq!(book.edge(side).map(|it| it.0 * side.sign()), *edge);
                let valid = self.state == BookState::Valid;
                assert_eq!(book.best(side), self.top[place].filter(|_| valid));
            }
        }
    }

    #[derive(Clone, Debug)]
    enum Op {
        Snapshot(Vec<(bool, i64, i64)>),
        Message(Vec<(bool, i64, i64)>),
        Invalidate,
    }

    fn side_of(bid: bool) -> Side {
        if bid { Side::Buy } else { Side::Sell }
    }

    /// Bids around 900 and asks around 1 100, wide enough to meet now and then.
    fn levels(len: usize) -> impl proptest::strategy::Strategy<Value = Vec<(bool, i64, i64)>> {
        let level = (any::<bool>(), 0_i64..101, 0_i64..4).prop_map(|(bid, away, qty)| {
            let price = if bid { 800 + away * 2 } else { 1_200 - away * 2 };
            (bid, price, qty)
        });
        proptest::collection::vec(level, 1..len)
    }

    fn op() -> impl proptest::strategy::Strategy<Value = Op> {
        prop_oneof![
            2 => levels(400).prop_map(Op::Snapshot),
            12 => levels(8).prop_map(Op::Message),
            4 => levels(40).prop_map(|levels| {
                Op::Message(levels.into_iter().map(|it| (it.0, it.1, 0)).collect())
            }),
            1 => Just(Op::Invalidate),
        ]
    }

    fn send(book: &mut Book, twin: &mut Twin, first: Flags, levels: &[(bool, i64, i64)]) {
        for (place, &(bid, price, qty)) in levels.iter().enumerate() {
            let mut flags = if place == 0 { first } else { Flags::NONE };
            if place + 1 == levels.len() {
                flags = flags.with(Flags::LAST);
            }
            let side = side_of(bid);
            let want = twin.apply(side, price, qty, flags);
            assert_eq!(book.apply(side, Price(price), Qty(qty), flags), want);
            twin.assert_is(book);
        }
    }

    fn run(ops: &[Op]) {
        let (mut book, mut twin) = (Book::new(DEPTH), Twin::new());
        for op in ops {
            match op {
                Op::Snapshot(levels) => {
                    let first = Flags::CLEAR.with(Flags::SNAPSHOT);
                    send(&mut book, &mut twin, first, levels);
                }
                Op::Message(levels) => send(&mut book, &mut twin, Flags::NONE, levels),
                Op::Invalidate => {
                    book.invalidate();
                    twin.reset(BookState::Invalid);
                    twin.assert_is(&book);
                }
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]
        #[test]
        fn equals_its_naive_twin_after_every_level(ops in proptest::collection::vec(op(), 1..250)) {
            run(&ops);
        }
    }

    #[test]
    fn the_random_sequences_reach_every_state() {
        use proptest::strategy::{Strategy as _, ValueTree};
        use proptest::test_runner::TestRunner;
        let mut runner = TestRunner::deterministic();
        let (mut crossed, mut shallow, mut edges) = (0, 0, 0);
        let mut book = Book::new(DEPTH);
        for _ in 0..2_000 {
            let (flags, levels) = match op().new_tree(&mut runner).unwrap().current() {
                Op::Snapshot(levels) => (Flags::CLEAR, levels),
                Op::Message(levels) => (Flags::NONE, levels),
                Op::Invalidate => continue,
            };
            let last = levels.len() - 1;
            for (place, (bid, price, qty)) in levels.into_iter().enumerate() {
                let first = if place == 0 { flags } else { Flags::NONE };
                let end = if place == last { Flags::LAST } else { Flags::NONE };
                match book.apply(side_of(bid), Price(price), Qty(qty), first.with(end)) {
                    Err(GapReason::Crossed) => crossed += 1,
                    Err(GapReason::Shallow) => shallow += 1,
                    _ => {}
                }
                edges += usize::from(book.edge(Side::Buy).is_some());
            }
        }
        assert!(crossed > 0 && shallow > 0 && edges > 0, "{crossed} {shallow} {edges}");
    }

    /// Bids at `bids` downwards and asks at 1 000 upwards, `n` each.
    fn full(n: i64) -> Book {
        let mut book = Book::new(DEPTH);
        for place in 0..n {
            let first = if place == 0 { Flags::CLEAR } else { Flags::NONE };
            let last = if place + 1 == n { Flags::LAST } else { Flags::NONE };
            book.apply(Side::Buy, Price(999 - place), Qty(1), first).unwrap();
            book.apply(Side::Sell, Price(1_000 + place), Qty(1), last).unwrap();
        }
        book
    }

    #[test]
    fn a_thin_book_that_was_complete_stays_valid() {
        let mut book = full(3);
        for price in [999, 998] {
            book.apply(Side::Buy, Price(price), Qty(0), Flags::LAST).unwrap();
        }
        assert!(book.is_valid());
        assert_eq!(book.best(Side::Buy).unwrap().price, Price(997));
    }

    #[test]
    fn a_book_with_an_edge_is_invalid_below_twenty_known_levels() {
        let depth = i64::try_from(DEPTH).unwrap();
        let mut book = full(depth + 1);
        assert_eq!(book.edge(Side::Buy), Some(Price(999 - depth)));
        for place in 0..depth - 20 {
            let price = Price(999 - place);
            book.apply(Side::Buy, price, Qty(0), Flags::LAST).unwrap();
        }
        assert_eq!((book.depth(Side::Buy), book.is_valid()), (20, true));
        // Beyond the edge nothing is believed, so nothing helps.
        let beyond = Price(999 - depth - 5);
        book.apply(Side::Buy, beyond, Qty(9), Flags::LAST).unwrap();
        assert_eq!(book.qty_at(Side::Buy, beyond), Qty(0));
        let price = Price(999 - (depth - 20));
        assert_eq!(book.apply(Side::Buy, price, Qty(0), Flags::LAST), Err(GapReason::Shallow));
        assert_eq!(book.state(), BookState::Invalid);
    }

    #[test]
    fn a_message_may_cross_on_its_way_but_not_at_its_end() {
        let mut book = full(3);
        book.apply(Side::Buy, Price(1_000), Qty(5), Flags::NONE).unwrap();
        let best = |book: &Book, side| book.best(side).map(|it| it.price.0);
        assert_eq!(best(&book, Side::Buy), Some(999), "the top is that of LAST");
        assert!(book.is_partial() && book.is_valid());
        book.apply(Side::Sell, Price(1_000), Qty(0), Flags::LAST).unwrap();
        assert_eq!(best(&book, Side::Buy), Some(1_000));
        assert_eq!(best(&book, Side::Sell), Some(1_001));
        assert_eq!(
            book.apply(Side::Buy, Price(1_001), Qty(5), Flags::LAST),
            Err(GapReason::Crossed)
        );
        assert_eq!(best(&book, Side::Buy), None);
    }

    #[test]
    fn an_empty_snapshot_is_one_event() {
        let mut book = full(3);
        let empty = Flags::CLEAR.with(Flags::LAST);
        book.apply(Side::Buy, Price(0), Qty(0), empty).unwrap();
        assert!(book.is_valid() && book.best(Side::Buy).is_none());
    }

    #[test]
    fn what_is_taken_is_gone_and_never_more_than_there_was() {
        let mut book = full(3);
        assert_eq!(book.take(Side::Sell, Price(1_000), Qty(4)), Qty(1));
        assert_eq!(book.take(Side::Sell, Price(1_000), Qty(4)), Qty(0));
        assert_eq!(book.take(Side::Sell, Price(1_001), Qty(0)), Qty(0));
        assert_eq!(book.best(Side::Sell).unwrap().price, Price(1_001));
    }
}
