//! A strategy of one's own, in a binary of one's own.
//!
//! `dip_buyer` remembers the highest mid of an instrument. When the mid falls `dip_bps` below it,
//! it buys `size` once; when the mid has recovered by `dip_bps`, or reached the old high, it sells.
//!
//! ```text
//! cargo run --release -p kairos-engine --example dip_buyer -- demo --strategy dip_buyer
//! ```
//!
//! The binary has every verb of `kairos-engine`; its journals replay with this binary, because only
//! this binary knows the kind `dip_buyer`.

use std::process::ExitCode;

use kairos_logic::event::{Event, News};
use kairos_logic::instrument::InstrumentTable;
use kairos_logic::order::{OrderFlags, Reason};
use kairos_logic::params::Problem;
use kairos_logic::strategy::round::Size;
use kairos_logic::strategy::{Context, Place, Registry, Strategy, StrategySpec};
use kairos_logic::units::{InstrumentId, Price, Qty, Side};

/// What is remembered of one instrument. Allocated once, when the strategy is made.
struct Watched {
    id: InstrumentId,
    high: Price,
    low: Price,
}

struct DipBuyer {
    size: Size,
    dip_ppm: i64,
    watched: Vec<Watched>,
}

impl DipBuyer {
    /// Reads the parameters; every problem is told at once, with its key.
    fn build(
        spec: &StrategySpec,
        _table: &InstrumentTable,
    ) -> Result<Box<dyn Strategy>, Vec<Problem>> {
        let mut read = spec.params.read();
        let size = Size::read(&mut read, "size", Size(1_000_000)); // 0.01
        let dip_ppm = read.bps_as_ppm("dip_bps", 500, 1..=500_000); // 5 basis points
        let forget = |&id: &InstrumentId| Watched { id, high: Price(0), low: Price(0) };
        let watched = spec.instruments.iter().map(forget).collect();
        read.finish().map(|()| -> Box<dyn Strategy> { Box::new(Self { size, dip_ppm, watched }) })
    }

    /// Whether `price` is at least the dip below `from`. In whole numbers: prices are never floats.
    fn is_below(&self, price: Price, from: Price) -> bool {
        i128::from(price.0) * 1_000_000 <= i128::from(from.0) * i128::from(1_000_000 - self.dip_ppm)
    }
}

impl Strategy for DipBuyer {
    fn on_event(&mut self, event: &Event, cx: &mut Context<'_>) {
        // Market data comes for our instruments only; what we need of it is the best bid and offer.
        if !matches!(event.news(), News::Quote { .. } | News::Book { .. }) {
            return;
        }
        let id = event.instrument;
        let Some(mid) = cx.touch(id).map(|it| it.mid()) else { return };
        let dip_from = match self.watched.iter_mut().find(|it| it.id == id) {
            Some(it) => {
                it.high = it.high.max(mid);
                it.low = if it.low == Price(0) { mid } else { it.low.min(mid) };
                (it.high, it.low)
            }
            None => return,
        };
        // Never a second order while one is on its way: positions move on fills only.
        if cx.open_orders().any(|it| it.instrument == id) {
            return;
        }
        let (high, low) = dip_from;
        let position = cx.position(id);
        if position == Qty(0) && self.is_below(mid, high) {
            let Some(instrument) = cx.instrument(id) else { return };
            let qty = self.size.in_lots(instrument);
            cx.place(Place::market(id, Side::Buy, qty, Reason::Entry));
        } else if position > Qty(0) && (mid >= high || self.is_below(low, mid)) {
            let sell = Place::market(id, Side::Sell, position, Reason::Exit);
            cx.place(sell.flags(OrderFlags::REDUCE_ONLY));
            if let Some(it) = self.watched.iter_mut().find(|it| it.id == id) {
                (it.high, it.low) = (mid, mid);
            }
        }
    }
}

fn main() -> ExitCode {
    let mut registry = Registry::shipped();
    registry.register("dip_buyer", DipBuyer::build);
    kairos_engine::main_with(&registry)
}
