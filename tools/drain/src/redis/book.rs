//! What orders and positions add up to, so that their keys hold whole values.

use std::collections::HashMap;

use kairos_logic::units::{Decimal, Side};

/// A running order: what it traded so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Traded {
    /// Units of quantity.
    pub(super) qty: i64,
    /// Units of price times units of quantity.
    pub(super) value: i128,
}

impl Traded {
    pub(super) fn add(&mut self, price: i64, qty: i64) {
        self.qty = self.qty.saturating_add(qty);
        self.value += i128::from(price) * i128::from(qty);
    }

    /// The average price in units of price, to the nearest; 0 before the first fill.
    pub(super) fn average(&self) -> i64 {
        nearest(self.value, self.qty)
    }
}

/// A position by fills, with the value that it was entered at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Position {
    /// Units of quantity; negative is short.
    pub(super) qty: i64,
    /// Units of price times units of quantity, of the same sign.
    pub(super) cost: i128,
}

impl Position {
    /// Books a fill: what adds to the position moves its average, what takes from it does not.
    pub(super) fn add(&mut self, side: Side, price: i64, qty: i64) {
        let signed = match side {
            Side::Buy => qty,
            Side::Sell => -qty,
        };
        let after = self.qty.saturating_add(signed);
        let adds = self.qty == 0 || (self.qty > 0) == (signed > 0);
        if adds {
            self.cost += i128::from(price) * i128::from(signed);
        } else if after == 0 {
            self.cost = 0;
        } else if (after > 0) == (self.qty > 0) {
            // What is left keeps its average.
            self.cost = self.cost * i128::from(after) / i128::from(self.qty);
        } else {
            self.cost = i128::from(price) * i128::from(after);
        }
        self.qty = after;
    }

    /// The average price of entry in units of price; 0 without a position.
    pub(super) fn average(&self) -> i64 {
        nearest(self.cost, self.qty)
    }
}

fn nearest(value: i128, qty: i64) -> i64 {
    if qty == 0 {
        return 0;
    }
    let (value, qty) = (value * i128::from(qty.signum()), i128::from(qty.unsigned_abs()));
    let half = if value < 0 { -qty / 2 } else { qty / 2 };
    i64::try_from((value + half) / qty).unwrap_or(0)
}

/// Orders and positions by id; what is not here is asked of the server.
#[derive(Debug, Default)]
pub(super) struct Known {
    pub(super) orders: HashMap<u64, Traded>,
    pub(super) positions: HashMap<u16, Position>,
}

/// A number of a scale as text.
pub(super) fn decimal(units: i64, scale: u8) -> Decimal {
    Decimal { units, scale }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_keeps_its_entry_and_turns_over() {
        let check = |fills: &[(Side, i64, i64)], want: (i64, i64)| {
            let mut position = Position::default();
            for &(side, price, qty) in fills {
                position.add(side, price, qty);
            }
            assert_eq!((position.qty, position.average()), want, "{fills:?}");
        };
        use Side::{Buy, Sell};
        check(&[(Buy, 100, 2), (Buy, 103, 1)], (3, 101));
        check(&[(Buy, 100, 4), (Sell, 150, 1)], (3, 100));
        check(&[(Buy, 100, 4), (Sell, 150, 4)], (0, 0));
        check(&[(Buy, 100, 4), (Sell, 150, 6)], (-2, 150));
        check(&[(Sell, 150, 2), (Sell, 151, 2)], (-4, 151));
        check(&[(Sell, 150, 2), (Buy, 10, 5)], (3, 10));
    }

    #[test]
    fn averages_are_to_the_nearest_unit() {
        let mut traded = Traded::default();
        assert_eq!(traded.average(), 0);
        traded.add(100, 1);
        traded.add(101, 1);
        assert_eq!(traded.average(), 101);
        traded.add(100, 2);
        assert_eq!((traded.average(), traded.qty), (100, 4));
    }
}
