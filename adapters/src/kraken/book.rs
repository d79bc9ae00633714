//! A book as the venue keeps it: a fixed number of levels a side, and a checksum over the best ten.

use kairos_logic::units::{POW10, Qty, Side};

use crate::venue::levels::Level;

/// Levels of a side that the checksum is over.
const SUMMED: usize = 10;
/// Levels of a side beyond the book's depth that one update may pass through.
const ROOM: usize = 256;

/// Levels that fell off the end of a book: the venue does not say that they are gone.
pub(super) type Fallen = Vec<(Side, Level)>;

/// Both sides of one book.
#[derive(Debug)]
pub(super) struct Book {
    /// From worst to best: what changes most moves the fewest bytes.
    bids: Vec<Level>,
    /// As the bids.
    asks: Vec<Level>,
    depth: usize,
    /// Decimals of prices and quantities as the venue writes them.
    decimals: (u8, u8),
    /// The checksum, where the levels that it is over are still the same.
    sum: Option<u32>,
}

impl Book {
    /// An empty book with room for so many levels a side.
    pub(super) fn new(room: usize) -> Self {
        let side = || Vec::with_capacity(room + ROOM);
        Self { bids: side(), asks: side(), depth: room, decimals: (0, 0), sum: None }
    }

    /// Forgets everything. The venue sends so many levels a side from here on.
    pub(super) fn clear(&mut self, depth: usize) {
        self.bids.clear();
        self.asks.clear();
        self.depth = depth.min(self.bids.capacity().saturating_sub(ROOM));
        self.decimals = (0, 0);
        self.sum = None;
    }

    /// The venue writes its numbers with at least so many decimals. It writes all that there are:
    /// the most that were seen are those of the checksum.
    pub(super) fn learn(&mut self, (price, qty): (u8, u8)) {
        let known = self.decimals;
        self.decimals = (known.0.max(price), known.1.max(qty));
        if self.decimals != known {
            self.sum = None;
        }
    }

    /// Sets a level, or removes it where its quantity is 0.
    pub(super) fn set(&mut self, side: Side, level: Level, fallen: &mut Fallen) {
        let levels = match side {
            Side::Buy => &mut self.bids,
            Side::Sell => &mut self.asks,
        };
        let place = levels.binary_search_by(|it| match side {
            Side::Buy => it.price.cmp(&level.price),
            Side::Sell => level.price.cmp(&it.price),
        });
        let place = match (place, level.qty.0) {
            (Ok(place), 0) => {
                levels.remove(place);
                place
            }
            (Ok(place), _) => {
                if let Some(known) = levels.get_mut(place) {
                    *known = level;
                }
                place
            }
            (Err(_), 0) => return,
            (Err(place), _) if levels.len() < levels.capacity() => {
                levels.insert(place, level);
                place
            }
            (Err(0), _) => return fall(side, level, fallen),
            (Err(place), _) => {
                fall(side, levels.remove(0), fallen);
                levels.insert(place - 1, level);
                place - 1
            }
        };
        if levels.len().saturating_sub(place) <= SUMMED {
            self.sum = None;
        }
    }

    /// Cuts both sides to the depth that the venue sends.
    pub(super) fn cut(&mut self, fallen: &mut Fallen) {
        for (side, levels) in [(Side::Buy, &mut self.bids), (Side::Sell, &mut self.asks)] {
            let over = levels.len().saturating_sub(self.depth);
            levels.drain(..over).for_each(|level| fall(side, level, fallen));
        }
    }

    /// Whether the best bid is not below the best ask.
    pub(super) fn is_crossed(&self) -> bool {
        match (self.bids.last(), self.asks.last()) {
            (Some(bid), Some(ask)) => bid.price >= ask.price,
            (Some(_), None) | (None, _) => false,
        }
    }

    /// CRC-32 over the best ten asks and bids: the digits of each price and quantity, without point
    /// and leading zeros. Scales are those of the instrument.
    pub(super) fn checksum(&mut self, scales: (u8, u8)) -> u32 {
        if let Some(sum) = self.sum {
            return sum;
        }
        let mut text = Digits { bytes: [0; Digits::MAX], len: 0 };
        let (price, qty) =
            (Factor::new(scales.0, self.decimals.0), Factor::new(scales.1, self.decimals.1));
        for levels in [&self.asks, &self.bids] {
            for level in levels.iter().rev().take(SUMMED) {
                text.push(price.of(level.price.0));
                text.push(qty.of(level.qty.0));
            }
        }
        let sum = crc32fast::hash(text.bytes.get(..text.len).unwrap_or_default());
        self.sum = Some(sum);
        sum
    }
}

fn fall(side: Side, level: Level, fallen: &mut Fallen) {
    if fallen.len() < fallen.capacity() {
        fallen.push((side, Level { qty: Qty(0), ..level }));
    }
}

/// From units of the instrument to units of the last decimal that the venue writes.
#[derive(Clone, Copy)]
enum Factor {
    Same,
    Over(u64),
    Times(u64),
}

impl Factor {
    fn new(scale: u8, decimals: u8) -> Self {
        let power = |by: u8| POW10.get(usize::from(by)).map_or(u64::MAX, |it| it.unsigned_abs());
        match scale.cmp(&decimals) {
            std::cmp::Ordering::Equal => Self::Same,
            std::cmp::Ordering::Greater => Self::Over(power(scale - decimals)),
            std::cmp::Ordering::Less => Self::Times(power(decimals - scale)),
        }
    }

    fn of(self, units: i64) -> u64 {
        let units = units.unsigned_abs();
        match self {
            Self::Same => units,
            Self::Over(by) => units / by.max(1),
            Self::Times(by) => units.saturating_mul(by),
        }
    }
}

/// Digits of numbers, one behind the other.
struct Digits {
    bytes: [u8; Self::MAX],
    len: usize,
}

impl Digits {
    /// Digits of the largest number.
    const EACH: usize = 20;
    /// Two numbers of each level of both sides.
    const MAX: usize = 2 * 2 * SUMMED * Self::EACH;

    fn push(&mut self, mut number: u64) {
        let mut text = [0; Self::EACH];
        let mut count = 0;
        for place in text.iter_mut().rev() {
            *place = b'0' + (number % 10) as u8;
            number /= 10;
            count += 1;
            if number == 0 {
                break;
            }
        }
        let digits = text.get(Self::EACH - count..).unwrap_or_default();
        if let Some(room) = self.bytes.get_mut(self.len..self.len + count) {
            room.copy_from_slice(digits);
            self.len += count;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use kairos_logic::units::Price;
    use proptest::prelude::*;

    use super::*;

    /// The checksum as the venue describes it, over texts.
    fn described(sides: &[BTreeMap<i64, i64>; 2], decimals: (usize, usize)) -> u32 {
        let text = |units: i64, decimals: usize| {
            let text = format!("{units:0width$}", width = decimals + 1);
            let (whole, fraction) = text.split_at(text.len() - decimals);
            let point = if decimals == 0 { "" } else { "." };
            format!("{whole}{point}{fraction}").replace('.', "").trim_start_matches('0').to_owned()
        };
        let level = |(&price, &qty): (&i64, &i64)| text(price, decimals.0) + &text(qty, decimals.1);
        let asks: String = sides[1].iter().take(10).map(level).collect();
        let bids: String = sides[0].iter().rev().take(10).map(level).collect();
        let mut crc = u32::MAX; // bit by bit, as the polynomial is defined
        for byte in (asks + &bids).bytes() {
            crc ^= u32::from(byte);
            for _ in 0..8 {
                crc = (crc >> 1) ^ (0xEDB8_8320 & (crc & 1).wrapping_neg());
            }
        }
        !crc
    }

    proptest! {
        #[test]
        fn the_book_is_the_venue_s_and_so_is_its_checksum(
            decimals in (0_u8..3, 0_u8..9),
            depth in prop::sample::select(&[10_usize, 25][..]),
            updates in prop::collection::vec(
                prop::collection::vec((any::<bool>(), 1_i64..60, 0_i64..3), 1..6), 1..60),
        ) {
            let mut book = Book::new(100);
            book.clear(depth);
            book.learn(decimals);
            let mut fallen = Fallen::with_capacity(100);
            let mut twin: [BTreeMap<i64, i64>; 2] = Default::default();
            let mut behind = twin.clone(); // who only reads what is published
            let scales = (3, 8);
            let unit = |scale: u8, decimals: u8| 10_i64.pow(u32::from(scale - decimals));
            for update in updates {
                fallen.clear();
                for (is_bid, price, qty) in update {
                    let side = if is_bid { Side::Buy } else { Side::Sell };
                    let at = usize::from(!is_bid);
                    for levels in [&mut twin[at], &mut behind[at]] {
                        if qty == 0 {
                            levels.remove(&price);
                        } else {
                            levels.insert(price, qty);
                        }
                    }
                    let level = Level {
                        price: Price(price * unit(scales.0, decimals.0)),
                        qty: Qty(qty * unit(scales.1, decimals.1)),
                    };
                    book.set(side, level, &mut fallen);
                }
                book.cut(&mut fallen);
                while twin[0].len() > depth {
                    twin[0].pop_first();
                }
                while twin[1].len() > depth {
                    twin[1].pop_last();
                }
                for (side, level) in &fallen {
                    let at = usize::from(*side == Side::Sell);
                    behind[at].remove(&(level.price.0 / unit(scales.0, decimals.0)));
                }
                prop_assert_eq!(&behind, &twin);
                let places = (usize::from(decimals.0), usize::from(decimals.1));
                prop_assert_eq!(book.checksum(scales), described(&twin, places));
                let top = |side: Option<(&i64, &i64)>| side.map(|(price, _)| *price);
                let (bid, ask) = (top(twin[0].last_key_value()), top(twin[1].first_key_value()));
                prop_assert_eq!(book.is_crossed(), bid.zip(ask).is_some_and(|(bid, ask)| bid >= ask));
            }
        }

        #[test]
        fn an_update_larger_than_any_room_is_survived(count in 1_i64..2_000) {
            let mut book = Book::new(10);
            let mut fallen = Fallen::with_capacity(4_096);
            for n in 0..count {
                let level = Level { price: Price(1 + n), qty: Qty(1) };
                book.set(Side::Sell, level, &mut fallen);
                book.set(Side::Buy, level, &mut fallen);
            }
            book.cut(&mut fallen);
            let best: Vec<_> = book.asks.iter().rev().map(|it| it.price.0).collect();
            prop_assert_eq!(best, (1..=count.min(10)).collect::<Vec<_>>());
            let over = (count - 10).max(0);
            prop_assert_eq!(book.bids.first().map(|it| it.price.0), Some(over + 1));
            prop_assert_eq!(fallen.len(), 2 * usize::try_from(over).unwrap());
        }
    }

    #[test]
    fn the_digits_are_those_that_the_venue_describes() {
        let mut text = Digits { bytes: [0; Digits::MAX], len: 0 };
        // 0.05005 and 0.00000500 with 5 and 8 decimals.
        text.push(Factor::new(10, 5).of(500_500_000));
        text.push(Factor::new(8, 8).of(500));
        text.push(Factor::new(1, 3).of(7));
        text.push(u64::MAX);
        text.push(0);
        assert_eq!(&text.bytes[..text.len], b"5005500700184467440737095516150");
    }
}
