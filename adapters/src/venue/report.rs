//! From levels to events: what the messages of all venues have in common.

use kairos_logic::event::{Event, Flags};
use kairos_logic::units::{InstrumentId, Nanos, Price, Qty, Side, Stamp};

use super::levels::Level;

/// A level with its place in the message.
pub(crate) type Marked = (Side, Level, Flags);

/// Levels with `flags`, and LAST on the last.
#[inline]
pub(crate) fn marked(
    levels: impl Iterator<Item = (Side, Level)>,
    flags: Flags,
) -> impl Iterator<Item = Marked> {
    let mut levels = levels.peekable();
    std::iter::from_fn(move || {
        let (side, level) = levels.next()?;
        let last = if levels.peek().is_none() { Flags::LAST } else { Flags::NONE };
        Some((side, level, flags.with(last)))
    })
}

/// What the levels of one message have in common.
pub(crate) struct Head {
    pub(crate) at: Nanos,
    pub(crate) recv: Stamp,
    pub(crate) venue_at: Nanos,
    pub(crate) instrument: InstrumentId,
    pub(crate) update: u64,
}

impl Head {
    #[inline]
    pub(crate) fn book(&self, side: Side, level: Level, flags: Flags) -> Event {
        let Level { price, qty } = level;
        let (at, venue_at, update) = (self.at, self.venue_at, self.update);
        let event = Event::book(at, venue_at, self.instrument, side, price, qty, update, flags);
        stamped(event, self.recv)
    }
}

/// The levels of a whole book, marked as a snapshot; a book without levels is one event.
pub(crate) fn whole(
    levels: impl ExactSizeIterator<Item = (Side, Level)>,
) -> impl Iterator<Item = Marked> {
    let flags = Flags::SNAPSHOT.with(Flags::CLEAR).with(Flags::LAST);
    let none = (Side::Buy, Level { price: Price(0), qty: Qty(0) }, flags);
    let none = (levels.len() == 0).then_some(none);
    let levels = marked(levels, Flags::SNAPSHOT).enumerate().map(|(n, (side, level, flags))| {
        let first = if n == 0 { Flags::CLEAR } else { Flags::NONE };
        (side, level, flags.with(first))
    });
    none.into_iter().chain(levels)
}

#[inline]
pub(crate) fn stamped(mut event: Event, recv: Stamp) -> Event {
    event.recv = recv;
    event
}

/// What follows the first occurrence of `mark`.
pub(crate) fn after<'a>(text: &'a [u8], mark: &[u8]) -> Option<&'a [u8]> {
    let at = text.windows(mark.len()).position(|window| window == mark)?;
    text.get(at + mark.len()..)
}
