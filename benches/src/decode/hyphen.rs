//! What the benches of venues share whose symbols have a hyphen: the instrument, and numbers without
//! trailing zeros, seeded and varied.

use std::fmt;

use kairos_adapters::sim::random::Random;
use kairos_logic::instrument::InstrumentTable;

use super::Typed;
use crate::Trouble;
use crate::traffic::Messages;

/// Different messages of a kind.
pub(super) const MESSAGES: usize = super::MESSAGES;
/// The symbol in all messages.
pub(super) const SYMBOL: &str = "BTC-USDT";

/// One instrument, as the messages name it.
pub(super) fn table(venue: &str) -> InstrumentTable {
    let mut table = super::table();
    table.venues = vec![venue.to_owned()];
    for it in &mut table.instruments {
        it.symbol = SYMBOL.to_owned();
    }
    table
}

/// The scanner and the general parser must say the same of every message as the typed reader.
pub(super) fn agree(
    messages: &Messages,
    mut scan: impl FnMut(&[u8]) -> Option<Typed>,
    mut parse: impl FnMut(&[u8]) -> Option<Typed>,
    typed: impl Fn(&[u8]) -> Option<Typed>,
) -> Result<(), Trouble> {
    for message in messages.iter() {
        let found = [scan(message), parse(message), typed(message)];
        if found[0].is_none() || found[0] != found[1] || found[1] != found[2] {
            let text = String::from_utf8_lossy(message);
            return Err(Trouble::new("readers differ", format!("{text}: {found:?}")));
        }
    }
    Ok(())
}

/// Seeded numbers of messages.
pub(super) struct Numbers {
    pub(super) random: Random,
    pub(super) id: u64,
    pub(super) ms: u64,
}

impl Numbers {
    pub(super) fn new(seed: u64) -> Self {
        Self { random: Random::fork(seed, 23), id: 1_000_000_000, ms: 1_700_000_000_000 }
    }

    /// The next message comes a little later.
    pub(super) fn step(&mut self) {
        self.ms += self.random.up_to(2);
        self.id += 1 + self.random.up_to(3);
    }

    /// A price of around sixty thousand: in tenths, above or below the middle.
    pub(super) fn price(&mut self, above: bool) -> Short {
        let away = 1 + self.random.up_to(3_000);
        Short(if above { 600_000 + away } else { 600_000 - away }, 1)
    }

    /// A quantity of one of six lengths.
    pub(super) fn quantity(&mut self) -> Short {
        let size = [900, 9_000, 90_000, 900_000, 9_000_000, 99_000_000];
        let place = usize::try_from(self.random.up_to(5)).unwrap_or(0);
        Short(1 + self.random.up_to(size[place]), 8)
    }
}

/// So many units of so many decimals, without trailing zeros.
pub(super) struct Short(u64, u32);

impl fmt::Display for Short {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let power = 10_u64.pow(self.1);
        let (whole, mut fraction, mut width) = (self.0 / power, self.0 % power, self.1 as usize);
        if fraction == 0 {
            return write!(f, "{whole}");
        }
        while fraction.is_multiple_of(10) {
            (fraction, width) = (fraction / 10, width - 1);
        }
        write!(f, "{whole}.{fraction:0width$}")
    }
}
