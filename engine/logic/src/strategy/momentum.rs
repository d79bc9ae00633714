//! `momentum`: buys what rises, sells what falls, one trade at a time.
//!
//! On each trade, against the trade before it: up by more than `threshold_bps` buys `size`; down by
//! more than that sells the whole position. At most one open order an instrument.
//!
//! | key | default | meaning |
//! |---|---|---|
//! | `size` | 0.01 | quantity of one purchase, in the base currency |
//! | `threshold_bps` | 0 | how far a trade must be from the one before, in basis points |
//!
//! Orders are market orders that fill at once or not at all: the price that gave the signal may
//! be gone, and an order that rests would be another strategy.

use alloc::boxed::Box;
use alloc::vec::Vec;

use crate::event::{Event, News};
use crate::instrument::InstrumentTable;
use crate::order::{OrderFlags, Reason};
use crate::params::Problem;
use crate::strategy::round::Size;
use crate::strategy::{Context, Place, Strategy, StrategySpec};
use crate::units::{InstrumentId, Price, Qty, Side};

/// Confidence of every order, in 1e-4.
const CONFIDENCE: u16 = 7_500;
/// Parts per million in one.
const ONE: i128 = 1_000_000;

/// See the module.
#[derive(Clone, Debug)]
pub struct Momentum {
    size: Size,
    threshold_ppm: i64, // in [0, 1_000_000)
    last: Vec<(InstrumentId, Price)>,
}

impl Momentum {
    /// Reads the parameters.
    ///
    /// # Errors
    /// Every parameter that breaks its rule.
    pub fn new(spec: &StrategySpec, _table: &InstrumentTable) -> Result<Self, Vec<Problem>> {
        let mut read = spec.params.read();
        let this = Self {
            size: Size::read(&mut read, "size", Size(1_000_000)),
            threshold_ppm: read.bps_as_ppm("threshold_bps", 0, 0..=999_999),
            last: spec.instruments.iter().map(|id| (*id, Price(0))).collect(),
        };
        read.finish().map(|()| this)
    }

    /// The constructor of the registry.
    pub(crate) fn build(
        spec: &StrategySpec,
        table: &InstrumentTable,
    ) -> Result<Box<dyn Strategy>, Vec<Problem>> {
        Self::new(spec, table).map(|it| -> Box<dyn Strategy> { Box::new(it) })
    }

    /// Which way the price went, if it went far enough.
    fn direction(&self, last: Price, price: Price) -> Option<Side> {
        if last.0 <= 0 {
            return None;
        }
        let moved = i128::from(price.0) * ONE;
        let (last, threshold) = (i128::from(last.0), i128::from(self.threshold_ppm));
        if moved > last * (ONE + threshold) {
            Some(Side::Buy)
        } else if moved < last * (ONE - threshold) {
            Some(Side::Sell)
        } else {
            None
        }
    }
}

impl Strategy for Momentum {
    fn on_event(&mut self, event: &Event, cx: &mut Context<'_>) {
        let News::Trade { price, .. } = event.news() else {
            return;
        };
        let id = event.instrument;
        let Some(known) = self.last.iter_mut().find(|it| it.0 == id) else {
            return;
        };
        let last = core::mem::replace(&mut known.1, price);
        if cx.open_orders().any(|it| it.instrument == id) {
            return;
        }
        let Some(instrument) = cx.instrument(id) else {
            return;
        };
        let place = match self.direction(last, price) {
            Some(Side::Buy) => {
                Place::market(id, Side::Buy, self.size.in_lots(instrument), Reason::Entry)
            }
            Some(Side::Sell) if cx.position(id) > Qty(0) => {
                Place::market(id, Side::Sell, cx.position(id), Reason::Exit)
                    .flags(OrderFlags::REDUCE_ONLY)
            }
            Some(Side::Sell) | None => return,
        };
        cx.place(place.confidence(CONFIDENCE));
    }
}

#[cfg(test)]
mod tests {
    use crate::params::Params;
    use crate::strategy::testing::{check, problems};

    #[test]
    fn buys_what_rises_and_sells_what_falls() {
        let check = |script: &str, want: &str| check("momentum", Params::new(), script, want);
        const BUY: &str = "2: 1 buy 0.01 BTCUSDT market entry";
        // The first trade has nothing before it; an equal one says nothing.
        check("t 100", "");
        check("t 100; t 100", "");
        check("t 100; t 100.01", BUY);
        // Nothing to sell.
        check("t 100; t 99", "");
        // One open order at a time, whatever the market does; a wish moves no position.
        check("t 100; t 101; t 102; t 99", BUY);
        check("t 100; t 101; s 1; a 1; u 1; t 102", BUY);
        // After the fill the fall sells all of it, reduce-only.
        check(
            "t 100; t 101; f 1 0.01@101; t 100",
            &[BUY, "; 4: 2 sell 0.01 BTCUSDT market reduce_only exit"].concat(),
        );
        // A partial fill and the cancel of the rest leave a position of that part.
        check(
            "t 100; t 101; f 1 0.004@101; c 1; t 100",
            &[BUY, "; 5: 2 sell 0.004 BTCUSDT market reduce_only exit"].concat(),
        );
        // A refused order moves no position and frees the way.
        for end in ["d 1", "r 1", "c 1"] {
            check(
                &["t 100; t 101; ", end, "; t 100; t 101"].concat(),
                &[BUY, "; 5: 2 buy 0.01 BTCUSDT market entry"].concat(),
            );
        }
    }

    #[test]
    fn a_move_must_pass_the_threshold() {
        let params = || Params::new().with("threshold_bps", 10).with("size", "0.5");
        let check = |script: &str, want: &str| check("momentum", params(), script, want);
        check("t 100; t 100.1", "");
        check("t 100; t 100.11", "2: 1 buy 0.5 BTCUSDT market entry");
        check("t 100; t 100.05; t 100.12", "");
    }

    #[test]
    fn wrong_parameters_are_told_all_at_once() {
        let wrong = Params::new().with("size", "0").with("thresold_bps", 1);
        let found = problems("momentum", &[0], wrong);
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found[1].contains("did you mean threshold_bps?"), "{found:?}");
    }
}
