//! feed.*: bytes in, events through the front door.
//!
//! A feed owns the sessions of its venues and nothing else of the engine. Two kinds exist: one that
//! reads capture files under a virtual clock, and one that polls sockets.

pub mod capture;
pub mod live;

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use kairos_adapters::session::{Counters, MarketSession, Outbox};
use kairos_logic::event::{Event, Flags, GapReason, Kind, News, StatusCode};
use kairos_logic::units::{InstrumentId, Nanos};

use crate::clock::Clock;
use crate::meter::{Meters, VenueMeter};
use crate::ring::{self, FeedDoor};

/// Events of one frame that may wait for room: a snapshot of 5 000 levels a side and the changes
/// that were buffered for it, several times over. Grows beyond it only for a larger snapshot.
const HELD_SLOTS: usize = 1 << 16;

/// Stamps events, publishes them, and keeps those that find no room.
struct Sink {
    door: FeedDoor,
    held: VecDeque<Event>,
    clock: Clock,
    /// Ticks from `recv` to the publication of the current frame's first event.
    in_after: u32,
    first: bool,
}

impl Sink {
    fn new(door: FeedDoor, clock: Clock) -> Self {
        Self { door, held: ring::queue(HELD_SLOTS), clock, in_after: 0, first: true }
    }

    /// A new frame begins: its first event is stamped, and the last of a multi-level change. Those
    /// between carry the first one's stamp: one reading costs as much as decoding a level.
    fn begin(&mut self) {
        self.first = true;
    }

    #[inline]
    fn put(&mut self, mut event: Event) {
        if self.first || (event.kind == Kind::Book && event.flags.has(Flags::LAST)) {
            self.first = false;
            let since = self.clock.stamp().0.saturating_sub(event.recv.0);
            self.in_after = u32::try_from(since).unwrap_or(u32::MAX);
        }
        event.in_after = self.in_after;
        if !(self.held.is_empty() && self.door.offer_market(event)) {
            self.held.push_back(event);
        }
    }

    /// Publishes what waits, in order. Says whether nothing waits any more.
    fn flush(&mut self) -> bool {
        while let Some(&event) = self.held.front() {
            if !self.door.offer_market(event) {
                return false;
            }
            self.held.pop_front();
        }
        true
    }

    /// Publishes something that is not market data, behind everything that waits: the one order
    /// includes what a feed holds. `false`, and not published, where there is no room at all.
    fn offer(&mut self, mut event: Event) -> bool {
        if event.recv.0 == 0 {
            event.recv = self.clock.stamp();
        }
        self.held.is_empty() && self.door.offer(event)
    }
}

/// Books that logic found broken, by instrument: the way back from RISK to the feed.
///
/// Logic alone knows that a book would be crossed or has too few known levels; the feed alone can
/// ask for a snapshot. What the feed then publishes (a gap, a snapshot) is input like any other, so
/// replay needs to know nothing of this.
#[derive(Debug)]
pub struct Broken {
    books: Vec<std::sync::atomic::AtomicU8>,
    any: std::sync::atomic::AtomicBool,
}

impl Broken {
    /// None broken yet.
    #[must_use]
    pub fn new(instruments: usize) -> Arc<Self> {
        let books = (0..instruments).map(|_| 0.into()).collect();
        Arc::new(Self { books, any: false.into() })
    }

    /// RISK found this book broken.
    pub fn report(&self, instrument: InstrumentId, why: GapReason) {
        if let Some(book) = self.books.get(instrument.index()) {
            book.store(why as u8, Ordering::Relaxed);
            self.any.store(true, Ordering::Release);
        }
    }

    /// Books broken since the last call, with the reasons. Cheap while there are none.
    fn take(&self, mut each: impl FnMut(InstrumentId, GapReason)) {
        if !self.any.load(Ordering::Relaxed) || !self.any.swap(false, Ordering::Acquire) {
            return;
        }
        for (id, book) in (0_u16..).map(InstrumentId).zip(&self.books) {
            let why = book.swap(0, Ordering::Relaxed);
            if let Some(why) = GapReason::from_number(i64::from(why)) {
                each(id, why);
            }
        }
    }
}

impl Broken {
    /// Whether this book broke since the last call, and why.
    fn take_of(&self, instrument: InstrumentId) -> Option<GapReason> {
        let book = self.books.get(instrument.index())?;
        if book.load(Ordering::Relaxed) == 0 {
            return None;
        }
        GapReason::from_number(i64::from(book.swap(0, Ordering::Relaxed)))
    }
}

/// A venue's session with what it wants done.
struct Speaker {
    session: Box<dyn MarketSession>,
    outbox: Outbox,
}

impl Speaker {
    fn new(session: Box<dyn MarketSession>) -> Self {
        Self { session, outbox: Outbox::new() }
    }
}

/// Publishes the command that the control thread wants, where there is one. Past market data that
/// waits for room: a kill does not queue behind it, and a quarter of IN is kept free for this.
fn publish_wanted(sink: &mut Sink, meters: &Meters, at: Nanos) {
    if let Some(verb) = meters.take_wanted() {
        let recv = sink.clock.stamp();
        if !sink.door.offer(Event { recv, ..Event::command(at, verb, 0) }) {
            meters.want(verb);
        }
    }
}

/// Whether an event says that a link went up or down: what a feed must not drop with its data.
fn is_link(event: &Event) -> bool {
    let News::Status { code, .. } = event.news() else { return false };
    matches!(
        code,
        StatusCode::Connected
            | StatusCode::Disconnected
            | StatusCode::LinkUp
            | StatusCode::LinkDown
            | StatusCode::LinkReplaced
    )
}

/// Tells the stats page what a session has counted after a frame of so many bytes.
fn tell(meter: &VenueMeter, counters: &Counters, bytes: usize, at: Nanos) {
    meter.frames.set(counters.frames);
    meter.bytes.add(bytes as u64);
    meter.events.set(counters.trades + counters.quotes + counters.depth_updates);
    meter.malformed.set(counters.malformed());
    meter.unknown.set(counters.unknown_symbols);
    meter.gaps.set(counters.gaps);
    meter.resyncs.set(counters.snapshots);
    meter.last_message_at.set(at.0);
}

/// Whether somebody wants the engine to stop.
fn stop_wanted(meters: &Meters) -> bool {
    meters.stop.load(Ordering::Relaxed)
}
