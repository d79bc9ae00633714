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

/// A symbol as words: its bytes, zeros, and its length in the last byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Symbol([u64; 3]);

impl Symbol {
    /// `None` of a text that is too long to be one.
    #[inline]
    fn new(text: &[u8]) -> Option<Self> {
        let mut bytes = [0; SYMBOL_MAX + 1];
        bytes.get_mut(..SYMBOL_MAX)?.get_mut(..text.len())?.copy_from_slice(text);
        let mut words = [0; 3];
        for (word, bytes) in words.iter_mut().zip(bytes.as_chunks().0) {
            *word = u64::from_le_bytes(*bytes);
        }
        Some(Self(words).of_len(text.len()))
    }

    const fn of_len(self, len: usize) -> Self {
        let Self([first, second, third]) = self;
        Self([first, second, third | (len as u64) << 56])
    }

    /// Symbols are short, and nobody hostile chooses them.
    #[inline]
    const fn hash(self) -> usize {
        let Self([first, second, third]) = self;
        let folded = first ^ second.rotate_left(21) ^ third.rotate_left(42);
        // The odd number next to 2^64 / golden ratio spreads the sum over the upper half.
        (folded.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as usize
    }
}

/// The text up to a quotation mark as a symbol, and what follows the mark. `None` where there is
/// none, or it ends no symbol.
#[inline]
pub(crate) fn take_symbol(text: &[u8]) -> Option<(Symbol, &[u8])> {
    let mut words = [0; 3];
    let mut rest = text;
    for (place, word) in words.iter_mut().enumerate() {
        // A symbol that nearly ends the text is looked at byte by byte.
        let Some((&eight, behind)) = rest.split_first_chunk::<8>() else {
            return take_last_symbol(text);
        };
        let eight = u64::from_le_bytes(eight);
        if let Some(len) = bytes_before(b'"', eight) {
            *word = eight & ((1 << (8 * len)) - 1);
            return Some((Symbol(words).of_len(place * 8 + len), rest.get(len + 1..)?));
        }
        *word = eight;
        rest = behind;
    }
    None
}

fn take_last_symbol(text: &[u8]) -> Option<(Symbol, &[u8])> {
    let len = text.iter().position(|&byte| byte == b'"')?;
    let (symbol, rest) = text.split_at_checked(len)?;
    Some((Symbol::new(symbol)?, rest.get(1..)?))
}

/// How many bytes stand before the first one that is `wanted`: in 0..8.
#[inline]
const fn bytes_before(wanted: u8, word: u64) -> Option<usize> {
    const ONES: u64 = 0x0101_0101_0101_0101;
    let zeroed = word ^ (ONES * wanted as u64);
    // What is borrowed marks bytes behind the first zero only.
    match zeroed.wrapping_sub(ONES) & !zeroed & (ONES << 7) {
        0 => None,
        found => Some((found.trailing_zeros() / 8) as usize),
    }
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    symbol: Symbol,
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
        let Some(symbol) = Symbol::new(symbol) else {
            return;
        };
        let mut at = symbol.hash() & self.mask;
        while self.entries[at].is_some() {
            at = (at + 1) & self.mask;
        }
        self.entries[at] = Some(Entry { symbol, listed });
    }

    /// The instrument of an upper-case symbol.
    #[inline]
    pub(crate) fn find(&self, symbol: &[u8]) -> Option<Listed> {
        self.get(Symbol::new(symbol)?)
    }

    /// As [`Self::find`].
    #[inline]
    pub(crate) fn get(&self, symbol: Symbol) -> Option<Listed> {
        let mut at = symbol.hash() & self.mask;
        // At most half full, so an empty entry ends every search.
        while let Some(entry) = self.entries.get(at)?.as_ref() {
            if entry.symbol == symbol {
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
        for other in ["COIN1USDT\0", "COIN1USDT\0\0\0\0\0\0\0\0"] {
            assert_eq!(symbols.find(other.as_bytes()), None, "{other:?}");
        }
        let elsewhere = Symbols::new(&table, VenueId(1), &ids);
        assert_eq!(elsewhere.find(b"COIN1USDT"), None);
    }

    #[test]
    fn a_symbol_ends_at_its_quotation_mark_wherever_that_stands() {
        let letters = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ";
        for len in 0..letters.len() {
            for behind in 0..20 {
                let mut text = letters[..len].to_vec();
                text.push(b'"');
                text.extend(std::iter::repeat_n(b'"', behind));
                let taken = take_symbol(&text);
                let want = Symbol::new(&letters[..len]).map(|it| (it, &text[len + 1..]));
                assert_eq!(taken, want, "{len} letters before {behind}");
                assert_eq!(taken.is_some(), len <= SYMBOL_MAX);
            }
            assert_eq!(take_symbol(&letters[..len]), None, "{len} letters without an end");
        }
    }
}
