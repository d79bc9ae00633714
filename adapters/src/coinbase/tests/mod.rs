//! Tests of the market data session: recorded connections, the two readers against each other,
//! and the life of a book in lines of data.

use kairos_logic::instrument::InstrumentTable;
use kairos_logic::units::InstrumentId;

use crate::coinbase::instruments::split_symbol;
use crate::testing::table_of;

mod captures;
mod differential;
mod life;

/// A table of instruments that nothing describes, and their ids.
fn table(symbols: &[&str]) -> (InstrumentTable, Vec<InstrumentId>) {
    table_of("coinbase", symbols, split_symbol)
}
