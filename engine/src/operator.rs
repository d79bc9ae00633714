//! What an operator may ask of a running engine, and what the engine does when its disk lags.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use kairos_edge::config::{Config, LagAction};
use kairos_journal::{ArchiverState, Shared};
use kairos_logic::event::Verb;

use crate::meter::Meters;
use crate::run::Audience;

/// What the operator may ask for by signals.
#[derive(Clone, Debug, Default)]
pub struct Signals {
    /// An orderly stop: SIGINT, SIGTERM.
    pub stop: Arc<AtomicBool>,
    /// The kill switch: SIGUSR2. Nothing leaves any more; only an operator clears it.
    pub kill: Arc<AtomicBool>,
    /// Resume at the start: what an earlier run left halted, reducing or killed runs again. Journaled
    /// like any command.
    pub resume: bool,
}

/// Argument of a resume at the start: clears the kill switch, and takes the equity of now as peak.
pub(crate) const RESUME_ALL: i64 = 3;

impl Signals {
    /// Listens to the process's signals. A second SIGINT or SIGTERM ends the process at once.
    ///
    /// # Errors
    /// Where the host refuses signal handlers.
    pub fn of_process() -> std::io::Result<Self> {
        let signals = Self::default();
        for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
            let stop = Arc::clone(&signals.stop);
            signal_hook::flag::register_conditional_shutdown(signal, 1, stop)?;
            signal_hook::flag::register(signal, Arc::clone(&signals.stop))?;
        }
        signal_hook::flag::register(signal_hook::consts::SIGUSR2, Arc::clone(&signals.kill))?;
        Ok(signals)
    }
}

/// What happens when committed frames are not on disk for too long, when the ring that holds them fills
/// up, and when the archiver fails.
pub(crate) struct LagPolicy {
    alarm_ns: u64,
    act_ns: u64,
    action: LagAction,
    failed_action: LagAction,
    alarmed: bool,
    acted: bool,
    filling: bool,
    failed: bool,
    /// Times that an action other than an alarm was taken.
    pub(crate) activations: u64,
}

impl LagPolicy {
    /// As `[journal]` says.
    pub(crate) fn of(config: &Config) -> Self {
        let journal = &config.journal;
        Self {
            alarm_ns: journal.durable_lag_alarm_ms.saturating_mul(1_000_000),
            act_ns: journal.durable_lag_act_ms.saturating_mul(1_000_000),
            action: journal.lag_action,
            failed_action: journal.archiver_failed_action,
            alarmed: false,
            acted: false,
            filling: false,
            failed: false,
            activations: 0,
        }
    }

    /// Looks at the journal, tells, and acts.
    pub(crate) fn look(&mut self, journal: &Shared, meters: &Meters, audience: &mut dyn Audience) {
        let state = journal.archiver();
        let archiver = || {
            let silent_ms = journal.archiver_silent_ns() / 1_000_000;
            state.as_ref().map(|it| format!("{it}, last heard of {silent_ms} ms ago"))
        };
        self.judge(journal.durable_lag_ns(), archiver, meters, audience);
        self.judge_ring(journal.ring(), audience);
        self.judge_archiver(state.as_ref(), meters, audience);
    }

    /// Tells once each time that three quarters of the ring's slots are full.
    fn judge_ring(&mut self, ring: Option<(u64, u64)>, audience: &mut dyn Audience) {
        let Some((slots, waiting)) = ring else { return };
        let filling = (waiting + 1) * 4 >= slots * 3; // with the one that is being written
        if filling && !self.filling {
            audience.alarm(&format!(
                "{waiting} of {slots} segments of the hot ring are full and wait for the archiver; \
                 trading ends when all are"
            ));
        }
        // Arms again with a segment between, so that it does not tell at every turn of the ring.
        self.filling = filling || (self.filling && (waiting + 2) * 4 >= slots * 3);
    }

    /// An archiver that has failed is told and acted upon at once: a sync that failed, or memory that
    /// changed in the ring, is not a lag that passes.
    fn judge_archiver(
        &mut self,
        state: Option<&ArchiverState>,
        meters: &Meters,
        audience: &mut dyn Audience,
    ) {
        let why = match state {
            Some(ArchiverState::Failed(why)) => Some(why),
            // Whoever starts again says whether the failure is over only when it copies.
            Some(ArchiverState::Starting | ArchiverState::Absent) if self.failed => return,
            Some(_) | None => None,
        };
        if let (Some(why), false) = (why, self.failed) {
            audience.alarm(&format!("the archiver has failed: {why}"));
            self.act(self.failed_action, meters);
        }
        self.failed = why.is_some();
    }

    fn act(&mut self, action: LagAction, meters: &Meters) {
        let verb = match action {
            LagAction::Alarm => return,
            LagAction::ReduceOnly => Verb::Reduce,
            LagAction::Halt => Verb::Halt,
        };
        self.activations += 1;
        meters.want(verb);
    }

    /// Tells and acts once each time the lag passes a mark; arms again when it is below.
    /// `archiver` says what the archiver does, where there is one.
    fn judge(
        &mut self,
        lag_ns: u64,
        archiver: impl FnOnce() -> Option<String>,
        meters: &Meters,
        audience: &mut dyn Audience,
    ) {
        let (alarm, act) = (lag_ns > self.alarm_ns, lag_ns > self.act_ns);
        if alarm && !self.alarmed {
            audience.alarm(&format!(
                "the oldest frame that is not on disk is {} ms old; journal.durable_lag_alarm_ms is \
                 {}{}",
                lag_ns / 1_000_000,
                self.alarm_ns / 1_000_000,
                archiver().map_or_else(String::new, |it| format!("; {it}"))
            ));
        }
        if act && !self.acted {
            self.act(self.action, meters);
        }
        (self.alarmed, self.acted) = (alarm, act);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Heard(u32, &'static str);
    impl Audience for Heard {
        fn alarm(&mut self, what: &str) {
            assert!(what.contains(self.1), "{what}");
            self.0 += 1;
        }
    }

    fn policy(action: LagAction, failed_action: LagAction) -> LagPolicy {
        LagPolicy {
            alarm_ns: 10,
            act_ns: 20,
            action,
            failed_action,
            alarmed: false,
            acted: false,
            filling: false,
            failed: false,
            activations: 0,
        }
    }

    #[test]
    fn lag_alarms_and_acts_once_each_time_it_passes_its_mark() {
        let meters = Meters::new(&[1]);
        let mut heard = Heard(0, "the archiver is not running");
        let mut policy = policy(LagAction::Halt, LagAction::Halt);
        let mut check = |lag_ns: u64, alarms: u32, wanted: Option<Verb>| {
            let archiver = || Some("the archiver is not running".to_owned());
            policy.judge(lag_ns, archiver, &meters, &mut heard);
            assert_eq!((heard.0, meters.take_wanted()), (alarms, wanted), "lag {lag_ns}");
        };
        check(10, 0, None);
        check(11, 1, None);
        check(15, 1, None);
        check(21, 1, Some(Verb::Halt));
        check(30, 1, None);
        check(5, 1, None);
        check(25, 2, Some(Verb::Halt));
    }

    #[test]
    fn every_action_is_taken_as_configured() {
        let check = |action: LagAction, wanted: Option<Verb>| {
            let (meters, mut heard) = (Meters::new(&[1]), Heard(0, "the oldest frame"));
            let mut policy = policy(action, LagAction::Alarm);
            policy.judge(21, || None, &meters, &mut heard);
            let found = (heard.0, meters.take_wanted(), policy.activations);
            assert_eq!(found, (1, wanted, u64::from(wanted.is_some())));
        };
        check(LagAction::Alarm, None);
        check(LagAction::ReduceOnly, Some(Verb::Reduce));
        check(LagAction::Halt, Some(Verb::Halt));
    }

    #[test]
    fn an_archiver_that_fails_is_acted_upon_once_until_another_copies() {
        let (meters, mut heard) = (Meters::new(&[1]), Heard(0, "has failed: fdatasync"));
        let mut policy = policy(LagAction::Alarm, LagAction::Halt);
        let failed = || ArchiverState::Failed("fdatasync".into());
        let mut check = |state: Option<ArchiverState>, alarms: u32, wanted: Option<Verb>| {
            policy.judge_archiver(state.as_ref(), &meters, &mut heard);
            assert_eq!((heard.0, meters.take_wanted()), (alarms, wanted), "{state:?}");
        };
        check(None, 0, None);
        check(Some(ArchiverState::Absent), 0, None);
        check(Some(ArchiverState::Full("no room".into())), 0, None);
        check(Some(failed()), 1, Some(Verb::Halt));
        check(Some(failed()), 1, None);
        check(Some(ArchiverState::Starting), 1, None);
        check(Some(failed()), 1, None); // the same trouble, found again
        check(Some(ArchiverState::Copying), 1, None);
        check(Some(failed()), 2, Some(Verb::Halt));
    }

    #[test]
    fn a_ring_that_fills_up_is_told_at_three_quarters() {
        let mut heard = Heard(0, "segments of the hot ring are full");
        let mut policy = policy(LagAction::Alarm, LagAction::Alarm);
        let mut check = |slots: u64, waiting: u64, alarms: u32| {
            policy.judge_ring(Some((slots, waiting)), &mut heard);
            assert_eq!(heard.0, alarms, "{waiting} of {slots}");
        };
        for (waiting, alarms) in [(0, 0), (4, 0), (5, 1), (7, 1), (5, 1), (4, 1), (5, 1), (3, 1)] {
            check(8, waiting, alarms);
        }
        check(8, 5, 2);
        check(8, 0, 2);
        check(4, 1, 2);
        check(4, 2, 3);
    }

    #[test]
    fn a_kill_replaces_a_halt_that_still_waits_and_not_the_other_way_round() {
        let meters = Meters::new(&[1]);
        meters.want(Verb::Halt);
        meters.want(Verb::Kill);
        meters.want(Verb::Reduce);
        assert_eq!(meters.take_wanted(), Some(Verb::Kill));
        assert_eq!(meters.take_wanted(), None);
    }
}
