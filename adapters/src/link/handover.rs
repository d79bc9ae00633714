//! From one connection to its successor, instrument by instrument, without a hole and without an
//! echo.
//!
//! While both connections speak, an instrument's book and quotes come from the old one until the
//! successor's first snapshot of it; from that message on they come from the successor. Messages of
//! the two do not mix, because a session publishes a message whole. Trades come from whoever is
//! first: a trade that is not newer than the last one published is an echo.

use kairos_logic::event::{Event, Flags, Kind, News};
use kairos_logic::units::{InstrumentId, Nanos};

use crate::session::Publish;

#[derive(Clone, Copy, Debug, Default)]
struct Place {
    id: InstrumentId,
    /// Whether the successor speaks for it.
    taken: bool,
    /// Id of the last trade published.
    trade: u64,
}

/// Who speaks for which instrument.
#[derive(Clone, Debug)]
pub(super) struct Handover {
    places: Box<[Place]>,
    place_of: Box<[u16]>, // by instrument; u16::MAX is none of ours
    began: Option<Nanos>,
    left: usize, // places that the successor has not taken
    not_before: Nanos,
    gaps: u64, // published
}

impl Handover {
    pub(super) fn new(instruments: &[InstrumentId]) -> Self {
        let most = instruments.iter().map(|it| it.index()).max().unwrap_or(0);
        let mut place_of = vec![u16::MAX; most + 1].into_boxed_slice();
        for (place, id) in (0_u16..).zip(instruments) {
            place_of[id.index()] = place;
        }
        let places = instruments.iter().map(|&id| Place { id, taken: false, trade: 0 });
        Self {
            places: places.collect(),
            place_of,
            began: None,
            left: 0,
            not_before: Nanos(0),
            gaps: 0,
        }
    }

    fn place(&mut self, id: InstrumentId) -> Option<&mut Place> {
        let place = *self.place_of.get(id.index())?;
        self.places.get_mut(usize::from(place))
    }

    /// The instruments that are handed over.
    pub(super) fn instruments(&self) -> impl Iterator<Item = InstrumentId> {
        self.places.iter().map(|it| it.id)
    }

    /// Gaps that were published.
    pub(super) const fn gaps(&self) -> u64 {
        self.gaps
    }

    pub(super) const fn is_on(&self) -> bool {
        self.began.is_some()
    }

    pub(super) const fn is_complete(&self) -> bool {
        self.is_on() && self.left == 0
    }

    pub(super) fn is_older_than(&self, at: Nanos, ns: u64) -> bool {
        self.began.is_some_and(|began| at.since(began) > ns)
    }

    pub(super) fn has_taken(&self, id: InstrumentId) -> bool {
        self.is_on() && self.places.iter().any(|it| it.id == id && it.taken)
    }

    pub(super) fn may_begin(&self, at: Nanos) -> bool {
        at >= self.not_before
    }

    pub(super) fn not_before(&mut self, at: Nanos) {
        self.not_before = at;
    }

    pub(super) fn begin(&mut self, at: Nanos) {
        self.began = Some(at);
        self.left = self.places.len();
        self.places.iter_mut().for_each(|it| it.taken = false);
    }

    /// Ends it. The result are the instruments that the successor had taken.
    pub(super) fn end(&mut self) -> Vec<InstrumentId> {
        self.began = None;
        let taken = self.places.iter_mut().filter_map(|it| {
            let taken = std::mem::take(&mut it.taken);
            taken.then_some(it.id)
        });
        taken.collect()
    }

    /// Publishes an event of the old connection (`is_active`) or of its successor, if it is theirs
    /// to tell.
    #[inline]
    pub(super) fn filter(&mut self, is_active: bool, event: Event, publish: &mut Publish<'_>) {
        if self.began.is_some() {
            if self.passes(is_active, &event) {
                self.gaps += u64::from(event.kind == Kind::Gap);
                publish(event);
            }
            return;
        }
        self.gaps += u64::from(event.kind == Kind::Gap);
        if event.kind == Kind::Trade
            && let Some(place) = self.place(event.instrument)
            && let News::Trade { id, .. } = event.news()
        {
            place.trade = id;
        }
        publish(event);
    }

    #[cold]
    fn passes(&mut self, is_active: bool, event: &Event) -> bool {
        let Some(place) = self.place(event.instrument) else { return true };
        let is_mine = place.taken != is_active;
        match event.news() {
            News::Trade { id, .. } => {
                let is_new = id > place.trade;
                place.trade = place.trade.max(id);
                is_new
            }
            News::Book { flags, .. } => {
                if !is_mine && !is_active && flags.has(Flags::SNAPSHOT.with(Flags::CLEAR)) {
                    place.taken = true;
                    self.left -= 1;
                    return true;
                }
                is_mine
            }
            News::Quote { .. } | News::Gap { .. } | News::Status { .. } => is_mine,
            News::Timer
            | News::Command { .. }
            | News::Fill { .. }
            | News::Report { .. }
            | News::Balance { .. }
            | News::Config { .. }
            | News::Nothing => true,
        }
    }
}
