//! A link: what one connection to a venue carries, kept up whatever becomes of the connection.
//!
//! A link has two halves, each a session with room for one connection. One half speaks. When the
//! venue is about to close its connection, the other half connects as well, synchronises its books,
//! and takes over instrument by instrument, so that no event is missed. When a
//! connection is lost, the same half connects again after a while.
//!
//! Like a session a link has no socket, clock or thread: its driver tells it what happened, then
//! asks what is wanted ([`Link::serve`]). The engine drives links with sockets, tests drive them with
//! a simulated network under virtual time.

mod backoff;
mod handover;
pub mod recorded;
#[cfg(test)]
mod tests;

use kairos_logic::event::{Event, GapReason, StatusCode};
use kairos_logic::units::{InstrumentId, Nanos, VenueId};

use crate::session::{
    Arrival, Counters, Dial, MarketSession, NoAddress, Outbox, Publish, Reconnect, SnapshotRequest,
    evidence,
};
use backoff::Backoff;
pub use backoff::BackoffOptions;
use handover::Handover;

/// An attempt to connect, or a question, whose end nobody told within this time is over.
const ATTEMPT_MAX_NS: u64 = 60_000_000_000;
/// A hand-over that is not complete within this time is given up; the old connection goes on.
const HANDOVER_MAX_NS: u64 = 60_000_000_000;
/// How often the counters are published.
const COUNT_EVERY_NS: u64 = 60_000_000_000;
/// Wait after HTTP status 429 that names no time, in seconds.
const LIMITED_S: u64 = 60;
/// Wait after HTTP status 418 that names no time, in seconds: the shortest ban that is known.
const BANNED_S: u64 = 120;

/// One of a link's two halves, and which of its attempts: what comes for an earlier attempt is late
/// and is not for this one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Half {
    /// 0 or 1.
    pub place: u8,
    /// Counts the attempts of this half, from 1.
    pub attempt: u32,
}

/// What a link wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wish<'a> {
    /// Connect: to this path behind the venue's WebSocket address.
    DialPath(Half, &'a str),
    /// Connect: to this address.
    DialUrl(Half, &'a str),
    /// POST to this path of the REST address and tell [`Link::on_address`].
    Ask(Half, &'a std::sync::Arc<str>),
    /// Send a text message.
    Send(Half, &'a str),
    /// GET this path of the REST address and tell [`Link::on_fetched`].
    Fetch(Half, InstrumentId, &'a std::sync::Arc<str>),
    /// Close the connection, without telling.
    Close(Half),
}

/// Why something was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal<'a> {
    /// HTTP status; 0 where there was no answer.
    pub status: u16,
    /// How long the server wants to be left alone, in seconds; 0 where it does not say.
    pub retry_after_s: u64,
    /// What was found, the venue's own words where it had any.
    pub words: &'a str,
}

/// How a link behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkOptions {
    /// Its number among the links of its venue.
    pub number: u16,
    /// How it waits between attempts.
    pub backoff: BackoffOptions,
    /// Seed of everything random in it.
    pub seed: u64,
}

/// What a link counted since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LinkCounts {
    /// Frames received.
    pub frames: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Trades, quotes and book updates in them.
    pub events: u64,
    /// Frames that could not be understood.
    pub malformed: u64,
    /// Gaps in its books.
    pub gaps: u64,
    /// Snapshots that made a book valid.
    pub resyncs: u64,
    /// Connections made after the first.
    pub reconnects: u64,
    /// When the last frame came.
    pub last_message_at: Nanos,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Not wanted.
    Idle,
    /// To be connected at this time.
    Waiting(Nanos),
    /// Its address was asked for.
    Asking(Nanos),
    /// Being connected.
    Dialling(Nanos),
    /// Connected.
    Up(Nanos),
}

struct Side {
    session: Box<dyn MarketSession>,
    outbox: Outbox,
    state: State,
    attempt: u32,
    /// An address that the venue gave and that is not dialled yet.
    url: Option<String>,
    close: bool,
    /// Requests that wait until the venue may be asked again; one for each instrument.
    put_off: Vec<SnapshotRequest>,
}

impl Side {
    fn new(session: Box<dyn MarketSession>, state: State) -> Self {
        let put_off = Vec::with_capacity(session.instruments().len());
        Self { session, outbox: Outbox::new(), state, attempt: 0, url: None, close: false, put_off }
    }

    const fn is_up(&self) -> bool {
        matches!(self.state, State::Up(_))
    }

    /// What it wanted of its connection is void.
    fn forget_wishes(&mut self) {
        self.outbox.clear();
        self.put_off.clear();
    }
}

impl std::fmt::Debug for Side {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { state, attempt, url, .. } = self;
        f.debug_struct("Side")
            .field("state", state)
            .field("attempt", attempt)
            .field("url", url)
            .finish()
    }
}

/// A link to a venue. See the head of this file.
#[derive(Debug)]
pub struct Link {
    venue: VenueId,
    number: i64,
    sides: [Side; 2],
    active: usize, // 0 or 1: the side that speaks
    handover: Handover,
    backoff: Backoff,
    /// No requests before this: the venue wants to be left alone.
    quiet_until: Nanos,
    /// No attempt to connect before this: the same of connections.
    closed_until: Nanos,
    counts: LinkCounts,
    connected: u64,
    count_at: Nanos,
}

impl Link {
    /// A link that is not connected, and wants to be at once. The two sessions serve the same
    /// instruments.
    #[must_use]
    pub fn new(sessions: [Box<dyn MarketSession>; 2], options: LinkOptions) -> Self {
        let [first, second] = sessions;
        Self {
            venue: first.venue(),
            number: i64::from(options.number),
            handover: Handover::new(first.instruments()),
            sides: [Side::new(first, State::Waiting(Nanos(0))), Side::new(second, State::Idle)],
            active: 0,
            backoff: Backoff::new(options.backoff, options.seed, options.number),
            quiet_until: Nanos(0),
            closed_until: Nanos(0),
            counts: LinkCounts::default(),
            connected: 0,
            count_at: Nanos(0),
        }
    }

    /// The venue.
    #[must_use]
    pub const fn venue(&self) -> VenueId {
        self.venue
    }

    /// Whether a connection is there.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.sides.iter().any(Side::is_up)
    }

    /// Whether every book is known.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        let side = &self.sides[self.active];
        side.is_up() && side.session.is_whole()
    }

    /// Whether it will not try again.
    #[must_use]
    pub fn has_given_up(&self) -> bool {
        self.sides.iter().all(|it| it.state == State::Idle)
    }

    /// The instruments that it carries.
    #[must_use]
    pub fn instruments(&self) -> &[InstrumentId] {
        self.sides[0].session.instruments()
    }

    /// What it counted.
    #[must_use]
    pub fn counts(&self) -> LinkCounts {
        let mut counts = self.counts;
        for it in self.sides.iter().map(|it| it.session.counters()) {
            counts.frames += it.frames;
            counts.events += it.trades + it.quotes + it.depth_updates;
            counts.malformed += it.malformed();
            counts.resyncs += it.snapshots;
        }
        counts.gaps = self.handover.gaps();
        counts.reconnects = self.connected.saturating_sub(1);
        counts
    }

    /// What the session that speaks counted.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        self.sides[self.active].session.counters()
    }

    /// Frames of this half so far.
    #[must_use]
    pub fn frames(&self, half: Half) -> u64 {
        self.sides.get(usize::from(half.place)).map_or(0, |it| it.session.counters().frames)
    }

    /// The place of a half that is still at the attempt which it names.
    fn current(&self, half: Half) -> Option<usize> {
        let place = usize::from(half.place);
        let side = self.sides.get(place)?;
        (side.attempt == half.attempt && side.state != State::Idle).then_some(place)
    }

    /// The connection of this half is open. `false` where nobody waits for it: close it.
    #[must_use]
    pub fn on_connected(&mut self, half: Half, at: Nanos, publish: &mut Publish<'_>) -> bool {
        let Some(place) = self.current(half) else { return false };
        if !matches!(self.sides[place].state, State::Dialling(_)) {
            return false;
        }
        let was_up = self.is_up();
        self.sides[place].state = State::Up(at);
        self.connected += 1;
        if !was_up {
            self.active = place;
            self.status(at, StatusCode::LinkUp, 0, publish);
        }
        self.count_at = at.plus(COUNT_EVERY_NS);
        let Self { sides, handover, active, .. } = self;
        let Side { session, outbox, .. } = &mut sides[place];
        let is_active = place == *active;
        session.on_open(at, outbox, &mut |event| handover.filter(is_active, event, publish));
        true
    }

    /// What was asked for with [`Wish::Ask`].
    pub fn on_address(
        &mut self,
        half: Half,
        at: Nanos,
        answer: Result<&[u8], Refusal<'_>>,
        publish: &mut Publish<'_>,
    ) {
        let Some(place) = self.current(half) else { return };
        if !matches!(self.sides[place].state, State::Asking(_)) {
            return;
        }
        match answer.map(|body| self.sides[place].session.on_dial_reply(body)) {
            Ok(Ok(url)) => {
                let side = &mut self.sides[place];
                side.url = Some(url);
                side.state = State::Waiting(at);
            }
            Ok(Err(why)) => {
                let words = why.to_string();
                let retry_after_s = match why {
                    NoAddress::Fault(_) => 0,
                    NoAddress::Refused { retry_after_s, .. } => retry_after_s,
                };
                let refusal = Refusal { status: 200, retry_after_s, words: &words };
                self.refused(place, at, refusal, publish);
            }
            Err(refusal) => self.refused(place, at, refusal, publish),
        }
    }

    /// The connection of this half cannot be made.
    pub fn on_refused(
        &mut self,
        half: Half,
        at: Nanos,
        refusal: Refusal<'_>,
        publish: &mut Publish<'_>,
    ) {
        if let Some(place) = self.current(half)
            && matches!(self.sides[place].state, State::Dialling(_))
        {
            self.refused(place, at, refusal, publish);
        }
    }

    #[cold]
    fn refused(
        &mut self,
        place: usize,
        at: Nanos,
        refusal: Refusal<'_>,
        publish: &mut Publish<'_>,
    ) {
        let status = i64::from(refusal.status);
        self.status(at, StatusCode::LinkRefused, status, publish);
        self.say(at, InstrumentId::NONE, refusal.words, publish);
        let alone = self.left_alone(at, refusal, publish);
        self.closed_until = self.closed_until.max(alone);
        if self.handover.is_on() && place != self.active {
            // The old connection goes on; its session asks for another attempt.
            self.sides[place].state = State::Idle;
            self.handover.end();
            self.handover.not_before(at.plus(self.backoff.next()).max(alone));
            return;
        }
        match self.backoff.again() {
            Some(wait) => self.sides[place].state = State::Waiting(at.plus(wait).max(alone)),
            None => self.sides[place].state = State::Idle,
        }
    }

    /// Until when the venue wants to be left alone, and says so.
    fn left_alone(&mut self, at: Nanos, it: Refusal<'_>, publish: &mut Publish<'_>) -> Nanos {
        let (code, otherwise) = match it.status {
            429 => (StatusCode::RateLimited, LIMITED_S),
            418 => (StatusCode::Banned, BANNED_S),
            _ if it.retry_after_s > 0 => (StatusCode::RateLimited, 0),
            _ => return at,
        };
        let seconds = if it.retry_after_s > 0 { it.retry_after_s } else { otherwise };
        let seconds = seconds.min(7 * 86_400);
        let detail = i64::try_from(seconds).unwrap_or(i64::MAX);
        publish(Event::status(at, InstrumentId::NONE, self.venue, code, detail));
        let until = at.plus(seconds * 1_000_000_000);
        self.quiet_until = self.quiet_until.max(until);
        until
    }

    /// Until when the venue wants no requests, and until when no attempts to connect, as far as this
    /// link was told.
    #[must_use]
    pub const fn leave_alone_until(&self) -> (Nanos, Nanos) {
        (self.quiet_until, self.closed_until)
    }

    /// Another link of the venue was told so: what a venue grants or bans is an address, not a
    /// connection.
    pub fn leave_alone(&mut self, (requests, attempts): (Nanos, Nanos)) {
        self.quiet_until = self.quiet_until.max(requests);
        self.closed_until = self.closed_until.max(attempts);
    }

    /// One text frame of this half.
    #[inline]
    pub fn on_frame(
        &mut self,
        half: Half,
        arrival: Arrival,
        frame: &[u8],
        publish: &mut Publish<'_>,
    ) {
        let Some(place) = self.current(half).filter(|&it| self.sides[it].is_up()) else { return };
        self.counts.bytes += frame.len() as u64;
        self.counts.last_message_at = arrival.at;
        let Self { sides, handover, active, .. } = self;
        let Side { session, outbox, .. } = &mut sides[place];
        let is_active = place == *active;
        session.on_frame(arrival, frame, outbox, &mut |event| {
            handover.filter(is_active, event, publish);
            evidence(&event, frame, publish);
        });
        if self.handover.is_complete() {
            self.replace(arrival.at, publish);
        }
    }

    /// The other side of this half gave a sign of life.
    pub fn on_alive(&mut self, half: Half, at: Nanos) {
        if let Some(place) = self.current(half) {
            self.sides[place].session.on_alive(at);
        }
    }

    /// What was asked for with [`Wish::Fetch`].
    pub fn on_fetched(
        &mut self,
        half: Half,
        instrument: InstrumentId,
        arrival: Arrival,
        answer: Result<&[u8], Refusal<'_>>,
        publish: &mut Publish<'_>,
    ) {
        let Some(place) = self.current(half) else { return };
        if !self.sides[place].is_up() {
            return;
        }
        match answer {
            Ok(body) => {
                let Self { sides, handover, active, .. } = self;
                let Side { session, outbox, .. } = &mut sides[place];
                let is_active = place == *active;
                session.on_snapshot(arrival, Some(instrument), body, outbox, &mut |event| {
                    handover.filter(is_active, event, publish);
                    evidence(&event, body, publish);
                });
                if self.handover.is_complete() {
                    self.replace(arrival.at, publish);
                }
            }
            Err(refusal) => {
                let (at, status) = (arrival.at, i64::from(refusal.status));
                let code = StatusCode::FetchFailed;
                publish(Event::status(at, instrument, self.venue, code, status));
                self.say(at, instrument, refusal.words, publish);
                self.left_alone(at, refusal, publish);
                self.sides[place].session.on_snapshot_failed(at, instrument);
            }
        }
    }

    /// The connection of this half is over. `words` say why.
    pub fn on_lost(&mut self, half: Half, at: Nanos, words: &str, publish: &mut Publish<'_>) {
        if let Some(place) = self.current(half)
            && self.sides[place].is_up()
        {
            self.lose(place, at, 0, words, publish);
        }
    }

    #[cold]
    fn lose(
        &mut self,
        place: usize,
        at: Nanos,
        reason: i64,
        words: &str,
        publish: &mut Publish<'_>,
    ) {
        let State::Up(since) = self.sides[place].state else { return };
        {
            let Self { sides, handover, active, .. } = self;
            let side = &mut sides[place];
            let is_active = place == *active;
            side.session.on_close(at, &mut |event| handover.filter(is_active, event, publish));
            side.forget_wishes();
            side.state = State::Idle;
        }
        self.backoff.was_up(at.since(since));
        let other = 1 - place;
        if self.handover.is_on() && place != self.active {
            // The newcomer is gone: what it had taken over goes back, to be rebuilt.
            let taken = self.handover.end();
            self.handover.not_before(at.plus(self.backoff.next()));
            let Side { session, outbox, .. } = &mut self.sides[self.active];
            for id in taken {
                session.resync(at, Some(id), GapReason::Disconnected, outbox, publish);
            }
            return;
        }
        if self.handover.is_on() && self.sides[other].is_up() {
            // The old connection went before its successor had everything: the rest will follow.
            self.handover.end();
            self.active = other;
            self.status(at, StatusCode::LinkReplaced, reason, publish);
            return;
        }
        if self.handover.is_on() {
            self.handover.end();
            self.sides[other].state = State::Idle;
            self.sides[other].url = None;
        }
        self.status(at, StatusCode::LinkDown, reason, publish);
        self.say(at, InstrumentId::NONE, words, publish);
        self.publish_counts(at, publish);
        if let Some(wait) = self.backoff.again() {
            self.sides[place].state = State::Waiting(at.plus(wait));
        }
    }

    /// The successor has every book: the old connection is not needed any more.
    #[cold]
    fn replace(&mut self, at: Nanos, publish: &mut Publish<'_>) {
        self.handover.end();
        let old = &mut self.sides[self.active];
        old.session.on_close(at, &mut |_| {});
        old.forget_wishes();
        old.state = State::Idle;
        old.close = true;
        self.active = 1 - self.active;
        self.status(at, StatusCode::LinkReplaced, 0, publish);
    }

    /// Time passed. Called a few times per second.
    pub fn on_time(&mut self, at: Nanos, publish: &mut Publish<'_>) {
        for place in 0..2 {
            match self.sides[place].state {
                State::Idle | State::Waiting(_) => {}
                State::Asking(since) | State::Dialling(since) => {
                    if at.since(since) > ATTEMPT_MAX_NS {
                        let words = "no end of the attempt to connect";
                        let refusal = Refusal { status: 0, retry_after_s: 0, words };
                        self.refused(place, at, refusal, publish);
                    }
                }
                State::Up(_) => {
                    let Self { sides, handover, active, .. } = self;
                    let Side { session, outbox, .. } = &mut sides[place];
                    let is_active = place == *active;
                    session.on_time(at, outbox, &mut |event| {
                        handover.filter(is_active, event, publish);
                    });
                }
            }
        }
        if self.handover.is_complete() {
            self.replace(at, publish);
        } else if self.handover.is_older_than(at, HANDOVER_MAX_NS) {
            self.give_up_handover(at, publish);
        }
        if self.is_up() && at >= self.count_at {
            self.count_at = at.plus(COUNT_EVERY_NS);
            self.publish_counts(at, publish);
        }
    }

    fn give_up_handover(&mut self, at: Nanos, publish: &mut Publish<'_>) {
        let newcomer = 1 - self.active;
        if self.sides[newcomer].is_up() {
            self.lose(newcomer, at, 0, "", publish);
            self.sides[newcomer].close = true;
        } else {
            self.sides[newcomer].state = State::Idle;
            self.handover.end();
            self.handover.not_before(at.plus(self.backoff.next()));
        }
    }

    /// Rebuilds the book of one instrument, or all books; see [`MarketSession::resync`].
    pub fn resync(
        &mut self,
        at: Nanos,
        instrument: Option<InstrumentId>,
        why: GapReason,
        publish: &mut Publish<'_>,
    ) {
        let owner = match instrument {
            Some(id) if self.handover.has_taken(id) => 1 - self.active,
            Some(_) | None => self.active,
        };
        if instrument.is_none() && self.handover.is_on() {
            // Both are behind: begin anew with the one that speaks.
            self.give_up_handover(at, publish);
        }
        let Side { session, outbox, .. } = &mut self.sides[owner];
        session.resync(at, instrument, why, outbox, publish);
    }

    /// Says what is wanted now. Call it after every other call, at least a few times per second.
    pub fn serve(&mut self, at: Nanos, wish: &mut dyn FnMut(Wish<'_>), publish: &mut Publish<'_>) {
        for place in 0..2 {
            if std::mem::take(&mut self.sides[place].close) {
                wish(Wish::Close(self.half(place)));
            }
            if !self.sides[place].put_off.is_empty() && at >= self.quiet_until {
                let half = self.half(place);
                for it in self.sides[place].put_off.drain(..) {
                    wish(Wish::Fetch(half, it.instrument, &it.path));
                }
            }
            if !self.sides[place].outbox.is_empty() {
                self.serve_outbox(place, at, wish, publish);
            }
        }
        for place in 0..2 {
            if let State::Waiting(until) = self.sides[place].state
                && at >= until.max(self.closed_until)
            {
                self.dial(place, at, wish);
            }
        }
    }

    fn half(&self, place: usize) -> Half {
        Half { place: u8::from(place != 0), attempt: self.sides[place].attempt }
    }

    fn dial(&mut self, place: usize, at: Nanos, wish: &mut dyn FnMut(Wish<'_>)) {
        let side = &mut self.sides[place];
        let half = |attempt| Half { place: u8::from(place != 0), attempt };
        if let Some(url) = side.url.take() {
            side.state = State::Dialling(at);
            return wish(Wish::DialUrl(half(side.attempt), &url));
        }
        side.attempt += 1;
        match side.session.dial() {
            Dial::Path(path) => {
                side.state = State::Dialling(at);
                wish(Wish::DialPath(half(side.attempt), &path));
            }
            Dial::Ask(path) => {
                side.state = State::Asking(at);
                wish(Wish::Ask(half(side.attempt), &path));
            }
        }
    }

    fn serve_outbox(
        &mut self,
        place: usize,
        at: Nanos,
        wish: &mut dyn FnMut(Wish<'_>),
        publish: &mut Publish<'_>,
    ) {
        let half = self.half(place);
        let quiet = at < self.quiet_until;
        let Side { outbox, state, put_off, .. } = &mut self.sides[place];
        if matches!(state, State::Up(_)) {
            outbox.texts().for_each(|text| wish(Wish::Send(half, text)));
            for it in outbox.snapshots() {
                if !quiet {
                    wish(Wish::Fetch(half, it.instrument, &it.path));
                } else if !put_off.iter().any(|other| other.instrument == it.instrument) {
                    put_off.push(it.clone());
                }
            }
        }
        let why = outbox.wants_reconnect();
        outbox.clear();
        if let Some(why) = why {
            self.reconnect(place, at, why, wish, publish);
        }
    }

    #[cold]
    fn reconnect(
        &mut self,
        place: usize,
        at: Nanos,
        why: Reconnect,
        wish: &mut dyn FnMut(Wish<'_>),
        publish: &mut Publish<'_>,
    ) {
        if why.may_overlap() && place == self.active {
            if !self.handover.is_on() && self.handover.may_begin(at) {
                self.handover.begin(at);
                self.sides[1 - place].state = State::Waiting(at);
            }
            return;
        }
        if !self.sides[place].is_up() {
            return;
        }
        let half = self.half(place);
        self.lose(place, at, i64::from(why as u8), why.text(), publish);
        wish(Wish::Close(half));
    }

    fn status(&self, at: Nanos, code: StatusCode, detail: i64, publish: &mut Publish<'_>) {
        let numbers = (detail, self.number);
        publish(Event::status_with(at, InstrumentId::NONE, self.venue, code, numbers));
    }

    fn say(&self, at: Nanos, instrument: InstrumentId, words: &str, publish: &mut Publish<'_>) {
        Event::said(at, instrument, self.venue, words.as_bytes()).for_each(publish);
    }

    fn publish_counts(&self, at: Nanos, publish: &mut Publish<'_>) {
        let counts = self.counts();
        for (code, count) in [
            (StatusCode::LinkFrames, counts.frames),
            (StatusCode::LinkBytes, counts.bytes),
            (StatusCode::LinkEvents, counts.events),
            (StatusCode::LinkMalformed, counts.malformed),
            (StatusCode::LinkGaps, counts.gaps),
            (StatusCode::LinkResyncs, counts.resyncs),
            (StatusCode::LinkReconnects, counts.reconnects),
            (StatusCode::LinkAge, at.since(counts.last_message_at)),
        ] {
            self.status(at, code, i64::try_from(count).unwrap_or(i64::MAX), publish);
        }
    }
}
