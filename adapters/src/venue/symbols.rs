//! From the symbol in a frame to the instrument, without hashing at random and without allocation.

use kairos_logic::instrument::InstrumentTable;
use kairos_logic::units::{InstrumentId, VenueId};

/// Longest symbol that is looked up, in bytes. The longest of any venue is below 20.
pub(crate) const SYMBOL_MAX: usize = 23;

/// What a decoder must know of an instrument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Listed {
    pub(crate) id: InstrumentId,
    /// Place among the session's instruments.
    pub(crate) slot: u16,
    pub(crate) price_scale: u8,
    pub(crate) qty_scale: u8,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    symbol: [u8; SYMBOL_MAX],
    len: u8,
    listed: Listed,
}

/// Symbols of one venue: open addressing, at most half full.
#[derive(Clone, Debug)]
pub(crate) struct Symbols {
    entries: Vec<Option<Entry>>, // a power of two, at least twice the number of names
    mask: usize,                 // entries.len() - 1
}

impl Symbols {
    /// The symbols of `instruments`, in their order. Ids that are not in the table, belong to another
    /// venue or have a symbol that is too long are left out.
    pub(crate) fn new(
        table: &InstrumentTable,
        venue: VenueId,
        instruments: &[InstrumentId],
    ) -> Self {
        Self::with_aliases(table, venue, instruments, |_| None)
    }

    /// As [`Self::new`], with further names of instruments that the venue may use for them. What is
    /// the symbol of one instrument is no name of another.
    pub(crate) fn with_aliases(
        table: &InstrumentTable,
        venue: VenueId,
        instruments: &[InstrumentId],
        alias: fn(&str) -> Option<String>,
    ) -> Self {
        let size = (instruments.len() * 4).next_power_of_two().max(8);
        let mut symbols = Self { entries: vec![None; size], mask: size - 1 };
        for (slot, &id) in (0_u16..).zip(instruments) {
            let Some(instrument) = table.instrument(id).filter(|it| it.venue == venue) else {
                continue;
            };
            let listed = Listed {
                id,
                slot,
                price_scale: instrument.price_scale,
                qty_scale: instrument.qty_scale,
            };
            symbols.insert(instrument.symbol.as_bytes(), listed);
        }
        for &id in instruments {
            let symbol = table.instrument(id).map_or("", |it| &it.symbol);
            let listed = symbols.find(symbol.as_bytes()).filter(|it| it.id == id);
            if let (Some(listed), Some(alias)) = (listed, alias(symbol))
                && symbols.find(alias.as_bytes()).is_none()
            {
                symbols.insert(alias.as_bytes(), listed);
            }
        }
        symbols
    }

    fn insert(&mut self, symbol: &[u8], listed: Listed) {
        let Ok(len) = u8::try_from(symbol.len()) else {
            return;
        };
        let mut entry = Entry { symbol: [0; SYMBOL_MAX], len, listed };
        let Some(room) = entry.symbol.get_mut(..symbol.len()) else {
            return;
        };
        room.copy_from_slice(symbol);
        let mut at = Self::hash(symbol) & self.mask;
        while self.entries[at].is_some() {
            at = (at + 1) & self.mask;
        }
        self.entries[at] = Some(entry);
    }

    /// FNV-1a: symbols are short, and nobody hostile chooses them.
    fn hash(symbol: &[u8]) -> usize {
        let hash = symbol.iter().fold(0x811C_9DC5_u32, |hash, &byte| {
            (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
        });
        // The low bits of FNV mix well enough for tables this small.
        hash as usize
    }

    /// The instrument of an upper-case symbol.
    #[inline]
    pub(crate) fn find(&self, symbol: &[u8]) -> Option<Listed> {
        let mut at = Self::hash(symbol) & self.mask;
        // At most half full, so an empty entry ends every search.
        while let Some(entry) = self.entries.get(at)?.as_ref() {
            if entry.symbol.get(..usize::from(entry.len)) == Some(symbol) {
                return Some(entry.listed);
            }
            at = (at + 1) & self.mask;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::binance::instruments::undescribed;
    use crate::venue::listing::Fees;

    #[test]
    fn every_listed_symbol_is_found_and_no_other() {
        let mut table = InstrumentTable::default();
        table.venues.push("binance".into());
        for n in 0..300 {
            let symbol = format!("COIN{n}USDT");
            let instrument = undescribed(&symbol, VenueId(0), Fees::default(), &mut table).unwrap();
            table.instruments.push(instrument);
        }
        let ids: Vec<_> = table.iter().map(|(id, _)| id).collect();
        let symbols = Symbols::new(&table, VenueId(0), &ids);
        for (id, instrument) in table.iter() {
            let found = symbols.find(instrument.symbol.as_bytes()).unwrap();
            assert_eq!((found.id, found.slot), (id, id.0));
        }
        for other in ["", "COIN1", "COIN1USDTX", "coin1usdt", "A-SYMBOL-LONGER-THAN-ANY-OF-THEM"] {
            assert_eq!(symbols.find(other.as_bytes()), None, "{other}");
        }
        let elsewhere = Symbols::new(&table, VenueId(1), &ids);
        assert_eq!(elsewhere.find(b"COIN1USDT"), None);
    }
}
