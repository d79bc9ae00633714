//! What the run before left to be remembered: the state of risk, so that no restart forgets a halt.
//!
//! A run that ended properly has every decision in its journal, so its last state stands there. A run
//! that was killed may have the input that made risk halt and not what risk said of it: such a run is
//! *refolded*, its inputs given to the same risk with the journaled configuration and instruments, and
//! the state found is the one that risk had after the last journaled input. Strategies are not needed
//! for it: what they wish for moves no state, only what comes of it does, and that is input.

use kairos_edge::frames::{EndReason, Record, RunEnd};
use kairos_journal::{FrameView, GAP, Journal, RUN_END, RunInfo, RunStatus};
use kairos_logic::event::{Event, News, Verb};
use kairos_logic::order::{Action, RiskState};
use kairos_logic::risk::Risk;
use kairos_logic::units::{Nanos, Seq};

use crate::assemble;
use crate::preamble::Preamble;

/// What a new run begins with.
#[derive(Debug, Default)]
pub struct Inherited {
    /// Commands that go in before anything else; none where trading was not halted.
    pub commands: Vec<Event>,
    /// Why trading begins halted although nobody knows whether it was.
    pub warning: Option<String>,
}

/// What a new run must begin with, from the journal as it stands.
///
/// A run that has any input begins with what it inherited, so only the last run with an input is
/// read: once, and a second time where it did not end properly. HALTED, REDUCING and KILLED are
/// inherited; COOLDOWN ends with its time and STOPPED with its run. Where a killed run cannot be
/// refolded, because this version does not read its configuration or one of its frames, or because
/// events are missing from it, the answer is HALTED, with a warning: a halt that may have been is one.
///
/// # Errors
/// Whatever is wrong with the journal.
pub fn inherited(journal: &Journal) -> Result<Inherited, kairos_journal::Error> {
    let mut runs = journal.runs()?;
    runs.retain(|run| run.status != RunStatus::Running);
    while let Some(run) = runs.pop() {
        let said = said_in(journal, &run)?;
        let Some(state) = said.state else { continue };
        if said.is_complete {
            return Ok(Inherited { commands: command(state), warning: None });
        }
        return Ok(match refolded(journal, &run)? {
            Ok(state) => Inherited { commands: command(state), warning: None },
            Err(why) => Inherited {
                commands: command(gravest(state)),
                warning: Some(format!(
                    "run {} did not end properly, and whether risk had halted it cannot be found \
                     again: {why}; trading begins halted",
                    run.run
                )),
            },
        });
    }
    Ok(Inherited::default())
}

/// How a new run is put into a state.
fn command(state: RiskState) -> Vec<Event> {
    let verb = match state {
        RiskState::Halted => Verb::Halt,
        RiskState::Reducing => Verb::Reduce,
        RiskState::Killed => Verb::Kill,
        RiskState::Running | RiskState::Cooldown | RiskState::Stopped => return Vec::new(),
    };
    vec![Event::command(Nanos(0), verb, 0)]
}

/// The state to go on from where it is not known whether risk halted.
const fn gravest(said: RiskState) -> RiskState {
    match said {
        RiskState::Killed => RiskState::Killed,
        RiskState::Running
        | RiskState::Cooldown
        | RiskState::Halted
        | RiskState::Reducing
        | RiskState::Stopped => RiskState::Halted,
    }
}

/// What the frames of one run say.
#[derive(Debug, Default)]
struct InFrames {
    /// The last state said or commanded; `None` where the run has no input.
    state: Option<RiskState>,
    /// Whether every decision is there.
    is_complete: bool,
}

fn said_in(journal: &Journal, run: &RunInfo) -> Result<InFrames, kairos_journal::Error> {
    let mut said = InFrames::default();
    let mut is_whole = true;
    each_frame(journal, run, &mut |frame| {
        if frame.kind == RUN_END {
            // A run that gave up did not wait for its last decisions.
            let end = RunEnd::from_payload(frame.payload);
            said.is_complete = is_whole && end.is_some_and(|it| it.reason != EndReason::Fault);
        }
        is_whole &= frame.kind != GAP;
        match record(frame) {
            Ok(Record::Event(event)) => said.state = Some(after_event(said.state, &event)),
            Ok(Record::Decision { record, .. }) if record.action == Action::State => {
                said.state = Some(after_decision(said.state, record.state));
            }
            _ => {}
        }
        true
    })?;
    Ok(said)
}

/// The state that risk had after the last journaled input of a run; or why that cannot be told.
fn refolded(
    journal: &Journal,
    run: &RunInfo,
) -> Result<Result<RiskState, String>, kairos_journal::Error> {
    let mut refold = Refold::default();
    let mut flaw = None;
    each_frame(journal, run, &mut |frame| {
        if frame.kind == GAP {
            flaw = Some(format!("events before seq {} are lost; it was salvaged", frame.seq));
        } else if !frame.is_physical() {
            flaw = refold.take(frame).err().map(|why| format!("seq {}: {why}", frame.seq));
        }
        flaw.is_none()
    })?;
    let state = refold.risk.map_or(RiskState::Running, |it| it.lasting_state());
    Ok(flaw.map_or(Ok(state), Err))
}

/// Risk, made again and told everything again.
#[derive(Default)]
struct Refold {
    preamble: Preamble,
    risk: Option<Risk>,
}

impl Refold {
    fn take(&mut self, frame: &FrameView<'_>) -> Result<(), String> {
        match record(frame).map_err(|error| error.to_string())? {
            Record::Part(part) => self.preamble.push(&part).map_err(|error| error.to_string())?,
            // Risk decides again.
            Record::Decision { .. } => {}
            Record::Event(event) => {
                let risk = match &mut self.risk {
                    Some(risk) => risk,
                    None => self.risk.insert(risk_of(&self.preamble)?),
                };
                risk.on_event(Seq(frame.seq), &event, &mut |_| {});
            }
        }
        Ok(())
    }
}

fn risk_of(preamble: &Preamble) -> Result<Risk, String> {
    let whole = preamble.whole();
    let (text, table) = whole.map_err(|what| format!("no {what} before the first event"))?;
    let config = assemble::journaled_config(text, None);
    // One line, however many problems.
    let config = config.map_err(|error| error.to_string().replace('\n', "; "))?;
    Ok(assemble::risk(&config, table))
}

fn record<'a>(frame: &FrameView<'a>) -> Result<Record<'a>, kairos_edge::frames::FrameError> {
    Record::read(frame.kind, frame.schema, frame.ts, frame.ext(), frame.payload)
}

/// Hands out the frames of a run, until `take` has enough.
fn each_frame(
    journal: &Journal,
    run: &RunInfo,
    take: &mut dyn FnMut(&FrameView<'_>) -> bool,
) -> Result<(), kairos_journal::Error> {
    let mut reader = journal.reader_from(run.first_seq)?;
    while let Some(frame) = reader.next()? {
        if frame.run > run.run || (frame.run == run.run && !take(&frame)) {
            break;
        }
    }
    Ok(())
}

fn after_event(before: Option<RiskState>, event: &Event) -> RiskState {
    let before = before.unwrap_or(RiskState::Running);
    if let News::Command { verb, .. } = event.news() {
        match verb {
            Verb::Halt if before != RiskState::Killed => return RiskState::Halted,
            Verb::Kill => return RiskState::Killed,
            Verb::Reduce if before == RiskState::Running => return RiskState::Reducing,
            // A resume counts where risk has said so.
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
