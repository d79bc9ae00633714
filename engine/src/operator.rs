//! What an operator may ask of a running engine, and what the engine does when its disk lags.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use kairos_edge::config::{Config, LagAction};
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

/// What happens when committed frames are not on disk for too long.
pub(crate) struct LagPolicy {
    alarm_ns: u64,
    act_ns: u64,
    action: LagAction,
    alarmed: bool,
    acted: bool,
}

impl LagPolicy {
    /// As `[journal]` says.
    pub(crate) fn of(config: &Config) -> Self {
        let journal = &config.journal;
        Self {
            alarm_ns: journal.durable_lag_alarm_ms.saturating_mul(1_000_000),
            act_ns: journal.durable_lag_act_ms.saturating_mul(1_000_000),
            action: journal.lag_action,
            alarmed: false,
            acted: false,
        }
    }

    /// Tells and acts once each time the lag passes a mark; arms again when it is below.
    /// `archiver` says what the archiver does, where there is one.
    pub(crate) fn judge(
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
            match self.action {
                LagAction::Alarm => {}
                LagAction::ReduceOnly => meters.want(Verb::Reduce),
                LagAction::Halt => meters.want(Verb::Halt),
            }
        }
        (self.alarmed, self.acted) = (alarm, act);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Heard(u32);
    impl Audience for Heard {
        fn alarm(&mut self, what: &str) {
            assert!(what.ends_with("the archiver is not running"), "{what}");
            self.0 += 1;
        }
    }

    #[test]
    fn lag_alarms_and_acts_once_each_time_it_passes_its_mark() {
        let meters = Meters::new(&[1]);
        let mut heard = Heard::default();
        let action = LagAction::Halt;
        let mut policy =
            LagPolicy { alarm_ns: 10, act_ns: 20, action, alarmed: false, acted: false };
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
    fn a_kill_replaces_a_halt_that_still_waits_and_not_the_other_way_round() {
        let meters = Meters::new(&[1]);
        meters.want(Verb::Halt);
        meters.want(Verb::Kill);
        meters.want(Verb::Reduce);
        assert_eq!(meters.take_wanted(), Some(Verb::Kill));
        assert_eq!(meters.take_wanted(), None);
    }
}
