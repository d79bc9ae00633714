//! What the run before left to be remembered: the state of risk, so that no restart forgets a halt.

use kairos_edge::frames::Record;
use kairos_journal::{Journal, RunStatus};
use kairos_logic::event::{Event, News, Verb};
use kairos_logic::order::{Action, RiskState};
use kairos_logic::units::Nanos;

/// The commands that a new run must begin with, from the journal as it stands.
///
/// A run that has any input begins with what it inherited, so only the last run with an input is
/// read. HALTED, REDUCING and KILLED are inherited; COOLDOWN ends with its time and STOPPED with
/// its run. Commands count as well as decisions: a kill can leave the command journaled and the
/// change of state not.
///
/// # Errors
/// Whatever is wrong with the journal.
pub fn inherited(journal: &Journal) -> Result<Vec<Event>, kairos_journal::Error> {
    let mut runs = journal.runs()?;
    runs.retain(|run| run.status != RunStatus::Running);
    while let Some(run) = runs.pop() {
        if let Some(state) = state_after(journal, run.run, run.first_seq)? {
            let verb = match state {
                RiskState::Halted => Verb::Halt,
                RiskState::Reducing => Verb::Reduce,
                RiskState::Killed => Verb::Kill,
                RiskState::Running | RiskState::Cooldown | RiskState::Stopped => {
                    return Ok(Vec::new());
                }
            };
            return Ok(vec![Event::command(Nanos(0), verb, 0)]);
        }
    }
    Ok(Vec::new())
}

/// The state of risk at the end of one run; `None` where the run has no input.
fn state_after(
    journal: &Journal,
    run: u64,
    first_seq: u64,
) -> Result<Option<RiskState>, kairos_journal::Error> {
    let mut reader = journal.reader_from(first_seq)?;
    let mut state = None;
    while let Some(frame) = reader.next()? {
        if frame.run > run {
            break;
        }
        if frame.run < run || frame.is_physical() {
            continue;
        }
        let record = Record::read(frame.kind, frame.schema, frame.ts, frame.ext(), frame.payload);
        match record {
            Ok(Record::Event(event)) => state = Some(after_event(state, &event)),
            Ok(Record::Decision { record, .. }) if record.action == Action::State => {
                state = Some(after_decision(state, record.state));
            }
            _ => {}
        }
    }
    Ok(state)
}

fn after_event(before: Option<RiskState>, event: &Event) -> RiskState {
    let before = before.unwrap_or(RiskState::Running);
    if let News::Command { verb, .. } = event.news() {
        match verb {
            Verb::Halt if before != RiskState::Killed => return RiskState::Halted,
            Verb::Kill => return RiskState::Killed,
            Verb::Reduce if before == RiskState::Running => return RiskState::Reducing,
            // A resume counts when risk has said so.
            Verb::Halt
            | Verb::Reduce
            | Verb::Resume
            | Verb::Stop
            | Verb::CancelAll
            | Verb::StrategyEnable
            | Verb::StrategyDisable => {}
        }
    }
    before
}

fn after_decision(before: Option<RiskState>, said: RiskState) -> RiskState {
    match said {
        // The end of a run is not a halt, and a halted engine that stops stays halted.
        RiskState::Stopped => before.unwrap_or(RiskState::Running),
        RiskState::Running
        | RiskState::Cooldown
        | RiskState::Halted
        | RiskState::Reducing
        | RiskState::Killed => said,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halts_are_inherited_and_ends_are_not() {
        let command = |before, verb| after_event(before, &Event::command(Nanos(1), verb, 0));
        assert_eq!(command(None, Verb::Halt), RiskState::Halted);
        assert_eq!(command(Some(RiskState::Halted), Verb::Stop), RiskState::Halted);
        assert_eq!(command(Some(RiskState::Halted), Verb::Resume), RiskState::Halted);
        assert_eq!(command(Some(RiskState::Killed), Verb::Halt), RiskState::Killed);
        assert_eq!(after_decision(Some(RiskState::Halted), RiskState::Stopped), RiskState::Halted);
        assert_eq!(after_decision(Some(RiskState::Halted), RiskState::Running), RiskState::Running);
        assert_eq!(after_decision(None, RiskState::Stopped), RiskState::Running);
    }
}
