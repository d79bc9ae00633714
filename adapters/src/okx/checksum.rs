//! The venue's checksum: CRC-32 over the text of the best 25 levels.
//!
//! The text is `bidPx:bidSz:askPx:askSz:bidPx:…` from the best levels down; where one side ends, the
//! other goes on alone. It is made of the numbers as the venue wrote them, so each level keeps how
//! many decimals it was written with.

use kairos_logic::units::{POW10, Side};

use crate::venue::levels::Level;
use crate::venue::symbols::Listed;

/// Levels a side that the checksum covers.
const LEVELS: usize = 25;
/// Levels a side that are kept. The venue's books have 400.
const ROOM: usize = 1_024;
/// Bytes of the text: four numbers of at most 40 bytes per level.
const TEXT: usize = LEVELS * 4 * 40;

/// How a level was written: the decimals of its price and of its quantity.
#[inline]
pub(super) fn tag(price: &[u8], qty: &[u8]) -> u64 {
    let decimals = |text: &[u8]| {
        let after = text.iter().rev().position(|&byte| byte == b'.');
        after.map_or(0, |digits| digits.min(0xFF) as u64)
    };
    decimals(price) << 8 | decimals(qty)
}

#[derive(Clone, Copy, Debug)]
struct Line {
    price: i64,
    qty: i64,
    tag: u64,
}

/// The levels of one book as the venue wrote them.
#[derive(Debug)]
pub(super) struct Written {
    sides: [Vec<Line>; 2], // bids, asks; the best last; never more than ROOM
    scales: (u8, u8),
    text: String,
    /// Whether it holds a whole book.
    is_whole: bool,
}

impl Written {
    pub(super) fn new(listed: Listed) -> Self {
        Self {
            sides: [Vec::with_capacity(ROOM + 1), Vec::with_capacity(ROOM + 1)],
            scales: (listed.price_scale, listed.qty_scale),
            text: String::with_capacity(TEXT),
            is_whole: false,
        }
    }

    pub(super) fn forget(&mut self) {
        self.is_whole = false;
    }

    pub(super) const fn is_whole(&self) -> bool {
        self.is_whole
    }

    /// A snapshot begins.
    pub(super) fn begin(&mut self) {
        self.sides.iter_mut().for_each(Vec::clear);
        self.is_whole = true;
    }

    pub(super) fn apply(&mut self, side: Side, level: Level, tag: u64) {
        let lines = &mut self.sides[side as usize];
        let (price, qty) = (level.price.0, level.qty.0);
        // The best price is the largest key.
        let key = |price: i64| if side == Side::Buy { price } else { -price };
        // Most changes are near the best, which is at the end.
        let behind = lines.iter().rev().take_while(|it| key(it.price) > key(price)).count();
        let at = lines.len() - behind;
        let there = at.checked_sub(1).filter(|&it| lines[it].price == price);
        let line = Line { price, qty, tag };
        match (there, qty) {
            (Some(it), 0) => drop(lines.remove(it)),
            (Some(it), _) => lines[it] = line,
            (None, 0) => {}
            (None, _) => {
                lines.insert(at, line);
                if lines.len() > ROOM {
                    lines.remove(0);
                }
            }
        }
    }

    /// The checksum of the book as it is.
    pub(super) fn checksum(&mut self) -> u32 {
        let Self { sides: [bids, asks], scales, text, .. } = self;
        text.clear();
        let (mut bids, mut asks) = (bids.iter().rev(), asks.iter().rev());
        for _ in 0..LEVELS {
            for line in [bids.next(), asks.next()].into_iter().flatten() {
                write(text, line.price, scales.0, line.tag >> 8);
                write(text, line.qty, scales.1, line.tag & 0xFF);
            }
        }
        crc32fast::hash(text.trim_end_matches(':').as_bytes())
    }
}

/// `units` of `10^-scale` with so many decimals, and a colon.
fn write(text: &mut String, units: i64, scale: u8, decimals: u64) {
    // 19 digits and 255 zeros at most: `tag` holds no more, and scales are below 19.
    let power = POW10.get(usize::from(scale)).copied().unwrap_or(1).unsigned_abs();
    let (whole, mut fraction) = (units.unsigned_abs() / power, units.unsigned_abs() % power);
    let mut digits = [0_u8; 20];
    let mut start = digits.len();
    let mut left = whole;
    while left > 0 || start == digits.len() {
        start -= 1;
        digits[start] = b'0' + (left % 10) as u8;
        left /= 10;
    }
    text.extend(digits[start..].iter().copied().map(char::from));
    if decimals > 0 {
        text.push('.');
    }
    let mut power = power;
    for _ in 0..decimals {
        power /= 10;
        let digit = fraction.checked_div(power).unwrap_or(0);
        fraction -= digit * power;
        text.push(char::from(b'0' + (digit % 10) as u8));
    }
    text.push(':');
}
