//! States of risk: who may change them and what follows.
//!
//! RUNNING, REDUCING and HALTED exclude each other; *stopped* and *killed* lie above them and do not
//! forget them. Each change, each repetition of a command and each refusal to resume is a decision
//! with [`Action::State`]: `state` is the state entered, `tag` the [`Trigger`], `found` and `limit`
//! the trigger's numbers, `notional` the equity where it is known, `code` what new entries now get
//! (none in RUNNING). A restart goes on from the last of them.
//!
//! * HALTED is left by an operator alone, and not while the loss that caused it persists, unless he
//!   rebases.
//! * Entering HALTED or REDUCING cancels every open order that is not an exit; a stop, a kill and
//!   `cancel-all` cancel every open order. A repeated command cancels again: a cancel can be lost.
//! * Resume takes bits as its argument: [`RESUME_CLEAR_KILL`] and [`RESUME_REBASE`].
//! * A stop lasts for the rest of the run.

use super::meter::Meter;
use super::{Approved, Limits, Open, Outcome, Risk};
use crate::code::Code;
use crate::event::{News, Verb};
use crate::order::{
    Action, Decision, OrderFlags, OrderType, Reason, RiskState, TimeInForce, Verdict,
};
use crate::units::{InstrumentId, Money, Nanos, OrderId, Price, Qty, Seq, Side, StrategyId};

/// Bit of resume's argument: the kill switch is released too.
pub const RESUME_CLEAR_KILL: i64 = 1;
/// Bit of resume's argument: peak and day's start of equity become the equity of now.
pub const RESUME_REBASE: i64 = 2;

const DAY_NS: u64 = 86_400 * 1_000_000_000;

/// Why risk changed its state: the `tag` of the decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum Trigger {
    /// A command.
    Operator = 1,
    /// `max_drawdown_ppm`; found and limit in parts per million of the peak.
    Drawdown = 2,
    /// `max_daily_loss`; found and limit in 1e-8 of the engine's currency.
    DailyLoss = 3,
    /// `reject_breaker`; found and limit in rejects.
    RejectStorm = 4,
    /// A fill that the ledger could not book; found is 1.
    Ledger = 5,
}

impl Trigger {
    /// The name used in reports.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::Operator => "operator",
            Self::Drawdown => "drawdown",
            Self::DailyLoss => "daily_loss",
            Self::RejectStorm => "reject_storm",
            Self::Ledger => "ledger",
        }
    }
}

/// A loss that has reached its limit.
struct Loss {
    trigger: Trigger,
    found: i64,
    limit: i64,
}

/// The states and what moves them.
#[derive(Debug)]
pub(super) struct Switches {
    base: RiskState, // Running, Reducing or Halted
    stopped: bool,
    killed: bool,
    disabled: u32, // a bit per strategy
    rejects: Meter,
    equity: Option<Money>,
    peak: Money,
    day: u64,
    day_start: Money,
}

impl Switches {
    pub(super) fn new(limits: &Limits) -> Self {
        let window_ns = u64::from(limits.reject_window_ms) * 1_000_000;
        // The meter is full when the breaker is reached, so it holds as many as the breaker.
        let rejects = Meter::new(limits.reject_breaker, Limits::REJECTS_MAX, window_ns);
        Self {
            base: RiskState::Running,
            stopped: false,
            killed: false,
            disabled: 0,
            rejects,
            equity: None,
            peak: Money(0),
            day: 0,
            day_start: Money(0),
        }
    }

    pub(super) const fn state(&self) -> RiskState {
        if self.killed {
            RiskState::Killed
        } else if self.stopped {
            RiskState::Stopped
        } else {
            self.base
        }
    }

    pub(super) const fn lasting_state(&self) -> RiskState {
        if self.killed { RiskState::Killed } else { self.base }
    }

    pub(super) const fn equity(&self) -> Option<Money> {
        self.equity
    }

    pub(super) const fn is_enabled(&self, strategy: StrategyId) -> bool {
        (strategy.0 as usize) < StrategyId::COUNT_MAX && self.disabled & (1 << strategy.0) == 0
    }

    fn switch(&mut self, number: i64, on: bool) {
        let bit = u32::try_from(number).ok().and_then(|it| 1_u32.checked_shl(it));
        match (bit, on) {
            (Some(bit), true) => self.disabled &= !bit,
            (Some(bit), false) => self.disabled |= bit,
            (None, _) => {}
        }
    }

    fn rebase(&mut self) {
        let now = self.equity.unwrap_or_default();
        (self.peak, self.day_start) = (now, now);
    }

    /// Takes in what is owned now. A day begins with what was owned when the last one ended.
    fn on_equity(&mut self, now: Nanos, equity: Money) {
        let day = now.0 / DAY_NS;
        match self.equity {
            None => {
                self.day = day;
                (self.peak, self.day_start) = (equity, equity);
            }
            Some(before) if day > self.day => {
                self.day = day;
                self.day_start = before;
            }
            Some(_) => {}
        }
        self.peak = self.peak.max(equity);
        self.equity = Some(equity);
    }

    fn loss(&self, limits: &Limits) -> Option<Loss> {
        let equity = self.equity?;
        let limit = i64::from(limits.max_drawdown_ppm);
        let fall = i128::from(self.peak.0) - i128::from(equity.0);
        if limit > 0 && self.peak.0 > 0 {
            let ppm = fall * 1_000_000 / i128::from(self.peak.0);
            if ppm >= i128::from(limit) {
                let found = i64::try_from(ppm).unwrap_or(i64::MAX);
                return Some(Loss { trigger: Trigger::Drawdown, found, limit });
            }
        }
        let limit = limits.max_daily_loss.0;
        let lost = self.day_start.0.saturating_sub(equity.0);
        (limit > 0 && lost >= limit).then_some(Loss {
            trigger: Trigger::DailyLoss,
            found: lost,
            limit,
        })
    }
}

impl Risk {
    pub(super) fn on_command(
        &mut self,
        cause: Seq,
        verb: Verb,
        argument: i64,
        out: &mut impl FnMut(Outcome),
    ) {
        match verb {
            Verb::Stop => {
                self.switches.stopped = true;
                self.say_state(cause, RiskState::Stopped, out);
                self.cancel_open(cause, Code::ShutdownCancel, out, |_| true);
            }
            Verb::Kill => {
                self.switches.killed = true;
                self.switches.base = RiskState::Halted;
                self.say_state(cause, RiskState::Killed, out);
                self.cancel_open(cause, Code::KillCancel, out, |_| true);
            }
            Verb::CancelAll => self.cancel_open(cause, Code::UserCancel, out, |_| true),
            Verb::Halt => self.enter(cause, RiskState::Halted, out),
            // REDUCING is no way out of HALTED.
            Verb::Reduce if self.switches.base == RiskState::Halted => {
                self.say_state(cause, RiskState::Halted, out);
            }
            Verb::Reduce => self.enter(cause, RiskState::Reducing, out),
            Verb::Resume => self.resume(cause, argument, out),
            Verb::StrategyEnable => self.switches.switch(argument, true),
            Verb::StrategyDisable => self.switches.switch(argument, false),
        }
    }

    /// By command: enters a state in which entries are refused.
    fn enter(&mut self, cause: Seq, state: RiskState, out: &mut impl FnMut(Outcome)) {
        self.switches.base = state;
        self.say_state(cause, state, out);
        self.cancel_entries(cause, out);
    }

    fn resume(&mut self, cause: Seq, argument: i64, out: &mut impl FnMut(Outcome)) {
        if argument & RESUME_CLEAR_KILL != 0 {
            self.switches.killed = false;
        }
        if self.switches.killed {
            return self.say_state(cause, RiskState::Killed, out);
        }
        if argument & RESUME_REBASE != 0 {
            self.switches.rebase();
        }
        if let Some(loss) = self.switches.loss(&self.limits) {
            self.switches.base = RiskState::Halted;
            return self.say(cause, RiskState::Halted, loss.trigger, loss.found, loss.limit, out);
        }
        self.switches.base = RiskState::Running;
        self.switches.rejects.clear();
        self.say_state(cause, RiskState::Running, out);
    }

    /// Halts by itself, unless that is done already.
    pub(super) fn trigger(
        &mut self,
        cause: Seq,
        trigger: Trigger,
        found: i64,
        limit: i64,
        out: &mut impl FnMut(Outcome),
    ) {
        if self.switches.base == RiskState::Halted {
            return;
        }
        self.switches.base = RiskState::Halted;
        self.say(cause, RiskState::Halted, trigger, found, limit, out);
        self.cancel_entries(cause, out);
    }

    /// Takes note of a venue's reject. What the market or the link answered is no sign of a
    /// strategy gone wild and does not count.
    pub(super) fn on_reject(&mut self, code: Code) {
        let ordinary = [
            Code::PostOnlyWouldCross,
            Code::FokUnfilled,
            Code::NoLiquidity,
            Code::VenueUnavailable,
        ];
        if !ordinary.contains(&code) {
            self.switches.rejects.note(self.market.now());
        }
    }

    /// Looks after every event whether something has gone too far. Not after a command: what it
    /// did is enough for one event, so that one event changes the state and cancels once at most.
    pub(super) fn watch(&mut self, cause: Seq, news: &News, out: &mut impl FnMut(Outcome)) {
        if let News::Command { .. } = news {
            return;
        }
        let rejects = &self.switches.rejects;
        if let News::Report { .. } = news
            && rejects.is_full(self.market.now())
        {
            let limit = rejects.limit();
            self.trigger(cause, Trigger::RejectStorm, limit, limit, out);
        }
        if !self.limits.watch_equity() {
            return;
        }
        let Some(equity) = self.ledger.equity(&self.market, self.currency) else {
            return; // the last one stays: a book that is being rebuilt is no loss
        };
        self.switches.on_equity(self.market.now(), equity);
        if let Some(loss) = self.switches.loss(&self.limits) {
            self.trigger(cause, loss.trigger, loss.found, loss.limit, out);
        }
    }

    fn cancel_entries(&mut self, cause: Seq, out: &mut impl FnMut(Outcome)) {
        let entries = |it: &Open| !it.flags.has(OrderFlags::REDUCE_ONLY);
        self.cancel_open(cause, Code::HaltCancel, out, entries);
    }

    fn cancel_open(
        &self,
        cause: Seq,
        code: Code,
        out: &mut impl FnMut(Outcome),
        which: impl Fn(&Open) -> bool,
    ) {
        for (order, open) in self.open.iter().filter(|(_, it)| which(it)) {
            let own = self.own(cause, Action::Cancel, code);
            out(Outcome::Approved(Approved(Decision {
                order,
                instrument: open.instrument,
                side: open.side,
                flags: open.flags,
                ..own
            })));
        }
    }

    /// KILLED stays in force under every other command: saying anything less would let a restart,
    /// which goes on from the last state said, forget it.
    fn say_state(&self, cause: Seq, state: RiskState, out: &mut impl FnMut(Outcome)) {
        let state = if self.switches.killed { RiskState::Killed } else { state };
        self.say(cause, state, Trigger::Operator, 0, 0, out);
    }

    fn say(
        &self,
        cause: Seq,
        state: RiskState,
        trigger: Trigger,
        found: i64,
        limit: i64,
        out: &mut impl FnMut(Outcome),
    ) {
        let code = match state {
            RiskState::Running | RiskState::Cooldown => Code::None,
            RiskState::Halted => Code::Halted,
            RiskState::Reducing => Code::Reducing,
            RiskState::Stopped => Code::TradingStopped,
            RiskState::Killed => Code::Killed,
        };
        let reason = match trigger {
            Trigger::Operator => Reason::Operator,
            Trigger::Drawdown | Trigger::DailyLoss | Trigger::RejectStorm | Trigger::Ledger => {
                Reason::Risk
            }
        };
        let own = self.own(cause, Action::State, code);
        let notional = self.equity().unwrap_or_default();
        let tag = trigger as u16;
        let said = Decision { state, reason, tag, found, limit, notional, ..own };
        out(Outcome::Approved(Approved(said)));
    }

    /// A decision that risk takes by itself.
    fn own(&self, cause: Seq, action: Action, code: Code) -> Decision {
        Decision {
            cause,
            at: self.market.now(),
            order: OrderId(0),
            price: Price(0),
            qty: Qty(0),
            found: 0,
            limit: 0,
            notional: Money(0),
            instrument: InstrumentId::NONE,
            confidence: 0,
            tag: 0,
            strategy: StrategyId::RISK,
            action,
            side: Side::Buy,
            order_type: OrderType::Limit,
            tif: TimeInForce::Gtc,
            flags: OrderFlags::NONE,
            reason: if code == Code::HaltCancel { Reason::Risk } else { Reason::Operator },
            verdict: Verdict::Approved,
            code,
            state: self.state(),
        }
    }
}
