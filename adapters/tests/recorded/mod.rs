//! Recorded frames, and the instruments that they speak of, for the tests of several venues.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test may fail and say why; the lints know tests by their attribute only"
)]

use std::env;
use std::path::Path;

use kairos_adapters::capture::Capture;
use kairos_adapters::venue::listing::{Fees, undescribed};
use kairos_logic::instrument::InstrumentTable;
use kairos_logic::units::{InstrumentId, VenueId};

/// A table of one venue whose instruments nothing describes, and their ids.
pub(crate) fn table_of(
    venue: &str,
    symbols: &[&str],
    split: fn(&str) -> Option<(&str, &str)>,
) -> (InstrumentTable, Vec<InstrumentId>) {
    let mut table = InstrumentTable::default();
    table.venues.push(venue.into());
    for symbol in symbols {
        let parts = split(symbol).unwrap();
        let it = undescribed(symbol, parts, VenueId(0), Fees::default(), &mut table);
        table.instruments.push(it);
    }
    let ids = table.iter().map(|(id, _)| id).collect();
    (table, ids)
}

/// The frames of a capture; none, with a message, where it is absent.
pub(crate) fn recorded(name: &str) -> Vec<Vec<u8>> {
    let root = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
    let folder = env::var_os("KAIROS_CAPTURES").unwrap_or_else(|| "../shared/captures".into());
    let path = root.join(folder).join(name);
    if !path.is_file() {
        println!("skipped: no capture at {}", path.display());
        return Vec::new();
    }
    let mut capture = Capture::open(path).unwrap();
    let mut frames = Vec::new();
    while capture.advance().unwrap() {
        frames.push(capture.frame().unwrap().bytes.to_vec());
    }
    frames
}
