//! The execution venue of paper and capture runs: it trades our orders against recorded or live
//! market data that knows nothing of them.
//!
//! Time is a parameter. A command submitted at `now` reaches the venue at `now + latency + jitter`
//! and meets the market as it is then; reports leave the venue at that time and arrive one response
//! latency later. Commands and market events take effect in the order of their times, at equal
//! times commands first, however the caller interleaves the calls.
//!
//! What an order meets:
//!
//! * A taker sweeps levels from best to worst, one fill per level, never beyond its limit. What it
//!   swept is gone until market data states another quantity there.
//! * A resting order fills at its own price when the opposite best reaches it, up to the size that
//!   crosses; or, by [`MakerModel::Queue`], when trades have consumed what was displayed ahead of it.
//! * Where the market is unknown (no snapshot yet, a gap, a lost link) nothing trades. A market order
//!   is refused [`Code::NoLiquidity`], FOK is refused [`Code::FokUnfilled`], IOC ends
//!   [`Code::IocUnfilled`], and a GTC limit order rests with an unknown queue ahead of it, which
//!   becomes what the next valid book displays.
//! * A market order with a price is bounded by it. The rest of a market order that ran out of
//!   liquidity is cancelled [`Code::IocPartialCancel`], whatever its time in force: it cannot rest.
//!
//! # Limits
//!
//! Stop orders, amendments and self-trade prevention do not exist. Our orders are invisible to
//! others. Reduce-only is judged by risk, not here. Cash may pass below zero by the rounding of a
//! fill, at most 10^-8 of the currency. A sweep that leaves fewer levels than a book needs inside
//! its edge makes the copy invalid until the next snapshot.

mod accounts;
mod liquidity;
mod matching;
mod outgoing;
mod shelf;

use std::collections::VecDeque;

use kairos_logic::book::{DEPTH_MAX, DEPTH_MIN};
use kairos_logic::code::Code;
use kairos_logic::event::{Event, News, ReportState, StatusCode};
use kairos_logic::instrument::{Instrument, InstrumentTable};
use kairos_logic::order::{Action, Decision};
use kairos_logic::risk::Approved;
use kairos_logic::units::{CurrencyId, Money, Nanos, Qty, VenueId};

use self::accounts::{Account, Accounts, of_money, per_qty};
use self::liquidity::Liquidity;
use self::outgoing::Outgoing;
pub use self::shelf::ORDERS_MAX;
use self::shelf::Shelf;
use super::random::Random;

/// Most commands on their way to the venue. 100 orders a second with their cancels, at a latency of
/// 20 s.
pub const COMMANDS_MAX: usize = 4_096;

/// Reports that may wait for their response latency, beyond those of one full sweep: 1 MiB.
const REPORTS_MAX: usize = 16_384;

/// Stands for a queue whose length nobody has told us yet.
const UNKNOWN_QUEUE: Qty = Qty(i64::MAX);

/// When a resting order fills although the opposite best has not reached it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum MakerModel {
    /// Trades consume the size displayed ahead first; a level that shrinks shortens the queue.
    #[default]
    Queue,
    /// On every market event of its instrument with probability `exp(-remaining / eta)` and a noise
    /// of at most 10^-3.
    Probability,
}

/// Whether the account may sell what it has not got.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Funding {
    /// Every order must be paid from the free balance, else [`Code::VenueRejected`].
    #[default]
    Spot,
    /// Balances move but refuse nothing: shorts are possible.
    Borrow,
}

/// How the venue behaves.
#[derive(Clone, Debug, PartialEq)]
pub struct PaperOptions {
    /// Time from our host to the venue, in nanoseconds.
    pub latency_ns: u64,
    /// Most that is added to it, uniformly, in nanoseconds.
    pub jitter_ns: u64,
    /// Time of a report back to us, in nanoseconds.
    pub response_latency_ns: u64,
    /// When resting orders fill.
    pub maker_model: MakerModel,
    /// Scale of [`MakerModel::Probability`] in units of the base currency, positive.
    pub maker_queue_eta: f64,
    /// Source of jitter and of the probability model.
    pub seed: u64,
    /// What the account owns at the start. Several entries of one currency add up.
    pub balances: Vec<(VenueId, CurrencyId, Money)>,
    /// Whether it may go short.
    pub funding: Funding,
    /// Levels a side of the venue's own books; give it what the engine's books have.
    pub depth: usize,
}

impl Default for PaperOptions {
    /// 30 ms and up to 5 ms more, an immediate response, the queue model, seed 42, no money.
    fn default() -> Self {
        Self {
            latency_ns: 30_000_000,
            jitter_ns: 5_000_000,
            response_latency_ns: 0,
            maker_model: MakerModel::Queue,
            maker_queue_eta: 1.0,
            seed: 42,
            balances: Vec::new(),
            funding: Funding::Spot,
            depth: DEPTH_MAX,
        }
    }
}

/// A command on its way.
struct Command {
    due: Nanos,
    decision: Decision,
}

/// One instrument as the venue knows it.
struct Market {
    instrument: Instrument,
    liquidity: Liquidity,
    base: Account,
    quote: Account,
    per_qty: i128,
}

/// The simulated venue. One for all venues of the instrument table; balances are kept apart.
///
/// Nothing is allocated after [`PaperVenue::new`]; every queue is bounded. Every command that
/// [`PaperVenue::submit`] takes is answered exactly once: a place by the report or fill that ends
/// the order, a cancel by the end of its order or by [`ReportState::CancelRejected`].
pub struct PaperVenue {
    markets: Vec<Market>,
    accounts: Accounts,
    shelf: Shelf,
    commands: VecDeque<Command>,
    outgoing: Outgoing,
    options: PaperOptions,
    jitter: Random,
    luck: Random,
    now: Nanos,
    sweep_reports_max: usize,
}

impl PaperVenue {
    /// A venue for every instrument of the table, with empty books.
    ///
    /// # Panics
    /// If an instrument or a balance names a venue or currency that the table has not, or
    /// `maker_queue_eta` is not positive.
    #[must_use]
    pub fn new(table: &InstrumentTable, options: PaperOptions) -> Self {
        assert!(
            options.maker_queue_eta > 0.0,
            "maker_queue_eta {} is positive",
            options.maker_queue_eta
        );
        let mut accounts = Accounts::new(table.venues.len(), table.currencies.len());
        let account = |accounts: &Accounts, venue: VenueId, currency: CurrencyId| {
            accounts
                .find(venue, currency)
                .expect("the table has every venue and currency that it is asked for")
        };
        for &(venue, currency, amount) in &options.balances {
            let place = account(&accounts, venue, currency);
            accounts.add(place, of_money(amount));
        }
        let markets = table
            .iter()
            .map(|(_, instrument)| Market {
                instrument: instrument.clone(),
                liquidity: Liquidity::new(options.depth),
                base: account(&accounts, instrument.venue, instrument.base),
                quote: account(&accounts, instrument.venue, instrument.quote),
                per_qty: per_qty(instrument.qty_scale),
            })
            .collect();
        // A taker is acknowledged, fills once per level and once on the quote, and ends.
        let sweep_reports_max = options.depth.clamp(DEPTH_MIN, DEPTH_MAX) + 3;
        Self {
            markets,
            accounts,
            shelf: Shelf::new(),
            commands: VecDeque::with_capacity(COMMANDS_MAX),
            outgoing: Outgoing::new(REPORTS_MAX + sweep_reports_max, options.response_latency_ns),
            jitter: Random::fork(options.seed, 1),
            luck: Random::fork(options.seed, 2),
            options,
            now: Nanos(0),
            sweep_reports_max,
        }
    }

    /// Follows one event of IN. Trades, quotes, book levels, gaps and lost links matter, all else is
    /// ignored. Commands that were due before it meet the market as it was before it.
    pub fn on_event(&mut self, event: &Event) {
        match event.news() {
            News::Trade { price, qty, aggressor, .. } => {
                self.run_until(event.at);
                self.trade(event.instrument, price, qty, aggressor);
            }
            News::Quote { bid, bid_qty, ask, ask_qty } => {
                self.run_until(event.at);
                if let Some(market) = self.markets.get_mut(event.instrument.index()) {
                    market.liquidity.quote((bid, bid_qty), (ask, ask_qty));
                    self.market_moved(event.instrument);
                }
            }
            News::Book { side, price, qty, flags, .. } => {
                self.run_until(event.at);
                if let Some(market) = self.markets.get_mut(event.instrument.index())
                    && market.liquidity.level(side, price, qty, flags)
                {
                    self.market_moved(event.instrument);
                }
            }
            News::Gap { .. } => {
                self.run_until(event.at);
                if let Some(market) = self.markets.get_mut(event.instrument.index()) {
                    market.liquidity.forget();
                }
            }
            News::Status { venue, code: StatusCode::Disconnected, .. } => {
                self.run_until(event.at);
                for market in &mut self.markets {
                    if market.instrument.venue == venue {
                        market.liquidity.forget();
                    }
                }
            }
            News::Status { .. }
            | News::Timer
            | News::Command { .. }
            | News::Fill { .. }
            | News::Report { .. }
            | News::Balance { .. }
            | News::Config { .. }
            | News::Nothing => {}
        }
    }

    /// Sends a place or a cancel to the venue. A cancel never overtakes the order it means.
    ///
    /// Returns `None` when it is on its way (or carries no order), and the command's terminal answer
    /// ([`Code::VenueUnavailable`]) where [`COMMANDS_MAX`] others are: publish it like a report of
    /// [`PaperVenue::advance`].
    #[must_use = "a command that found no room is answered by the returned report"]
    pub fn submit(&mut self, now: Nanos, order: &Approved<Decision>) -> Option<Event> {
        self.send(now, order.get())
    }

    fn send(&mut self, now: Nanos, decision: &Decision) -> Option<Event> {
        if !decision.action.is_of_order() {
            return None;
        }
        if self.commands.len() >= COMMANDS_MAX {
            let state = match decision.action {
                Action::Place => ReportState::Rejected,
                Action::Cancel | Action::State | Action::Result => ReportState::CancelRejected,
            };
            return Some(Event::report(
                now,
                Nanos(0),
                decision.instrument,
                decision.order,
                decision.side,
                state,
                decision.qty,
                Code::VenueUnavailable,
            ));
        }
        let jitter = self.jitter.up_to(self.options.jitter_ns);
        let mut due = now.plus(self.options.latency_ns.saturating_add(jitter));
        if decision.action == Action::Cancel {
            let same = |command: &&Command| command.decision.order == decision.order;
            if let Some(earlier) = self.commands.iter().rfind(same) {
                due = due.max(earlier.due);
            }
        }
        let place = self.commands.partition_point(|it| it.due <= due);
        let decision = *decision;
        self.commands.insert(place, Command { due, decision });
        None
    }

    /// When the venue next has something to do or to report; `None` when only market data can
    /// cause anything.
    #[must_use]
    pub fn next_due(&self) -> Option<Nanos> {
        let command = self.commands.front().map(|command| command.due);
        let command = command.filter(|_| self.has_room());
        command.into_iter().chain(self.outgoing.next_at()).min()
    }

    /// Lets time pass until `now` and hands out every report that has arrived by then, in order.
    pub fn advance(&mut self, now: Nanos, report: &mut impl FnMut(Event)) {
        loop {
            self.run_until(now);
            if !self.outgoing.deliver(now, report) {
                return;
            }
        }
    }

    /// Ends everything at once: hands out what is on its way back, then cancels each order that
    /// rests or is on its way with `code`. Afterwards the venue [is idle](Self::is_idle).
    pub fn cancel_all(&mut self, now: Nanos, code: Code, report: &mut impl FnMut(Event)) {
        self.advance(now, report);
        self.outgoing.deliver(Nanos(u64::MAX), report);
        self.now = self.now.max(now);
        while let Some(Command { decision, .. }) = self.commands.pop_front() {
            match decision.action {
                Action::Place => {
                    self.answer(&decision, ReportState::Cancelled, decision.qty, code);
                }
                Action::Cancel | Action::State | Action::Result => self.cancel(&decision),
            }
            self.outgoing.deliver(Nanos(u64::MAX), report);
        }
        while let Some(resting) = self.shelf.len().checked_sub(1) {
            self.withdraw(resting, code);
            self.outgoing.deliver(Nanos(u64::MAX), report);
        }
    }

    /// Orders that rest or are on their way to the venue.
    #[must_use]
    pub fn open(&self) -> usize {
        let places = |command: &&Command| command.decision.action == Action::Place;
        self.shelf.len() + self.commands.iter().filter(places).count()
    }

    /// Whether no order is open, no command on its way and no report undelivered.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.shelf.len() == 0 && self.commands.is_empty() && self.outgoing.next_at().is_none()
    }

    /// What the account owns of a currency, and what of it no resting order locks, rounded down.
    #[must_use]
    pub fn balance(&self, venue: VenueId, currency: CurrencyId) -> Option<(Money, Money)> {
        let account = self.accounts.find(venue, currency)?;
        Some(self.accounts.money(account))
    }
}

#[cfg(test)]
mod tests;
