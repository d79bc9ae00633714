//! One thread, no ring: the journaled inputs through the same strategy and risk, every decision
//! compared with the journaled one.
//!
//! The frames of a journal are read in order. Inputs go into a [`Mind`]; what it decides waits in a
//! queue; each journaled decision must equal the head of that queue, byte for byte. At the proper
//! end of a run the queue must be empty. After a kill it need not be: those inputs were journaled
//! and their decisions were not yet, which is counted as `unjournaled`.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::fmt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use kairos_edge::config::{Config, Strategy};
use kairos_edge::frames::{EndReason, FrameError, Part, Record, RunEnd, StrategyName};
use kairos_edge::render::{self, Renderer};
use kairos_journal::{FrameView, Journal, RUN_END, RunInfo};
use kairos_logic::decision::Mind;
use kairos_logic::event::{Event, News, ReportState};
use kairos_logic::instrument::InstrumentTable;
use kairos_logic::order::{Action, Decision, Verdict};
use kairos_logic::strategy::Registry;
use kairos_logic::units::{Money, OrderId, Seq, Stamp};
use serde::Serialize;

use crate::assemble::{self, AssembleError};
use crate::build::BuildId;
use crate::preamble::Preamble;
use crate::seats::execution::denied;

/// Why a journal cannot be replayed at all.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// The journal cannot be read, or is damaged.
    #[error(transparent)]
    Journal(#[from] kairos_journal::Error),
    /// A frame of a product type does not read as one.
    #[error("seq {seq}: {reason}")]
    Frame {
        /// Its sequence.
        seq: u64,
        /// What is wrong with it.
        reason: String,
    },
    /// The run does not hold what is needed to repeat it.
    #[error("run {run}: no {what} before its first event; it cannot be replayed")]
    Incomplete {
        /// Its number.
        run: u64,
        /// What is missing.
        what: &'static str,
    },
    /// The journaled configuration does not give the same engine here, for instance because a kind
    /// of strategy is not part of this binary.
    #[error("run {run}: {source}")]
    Assemble {
        /// Its number.
        run: u64,
        /// What is wrong.
        source: AssembleError,
        /// Whether another configuration was laid on top, which is then what is wrong.
        overlay: bool,
    },
}

/// Sequence of the input that logic was given last: what a panic hook names as its cause.
pub static GIVEN: AtomicU64 = AtomicU64::new(0);

/// Which part of the journal is compared.
#[derive(Clone, Copy, Debug, Default)]
pub struct Range {
    /// First sequence to compare; replay itself starts at the run before it.
    pub from: Option<u64>,
    /// Last sequence to compare and to read.
    pub to: Option<u64>,
}

impl Range {
    fn holds(self, seq: u64) -> bool {
        self.from.is_none_or(|from| from <= seq) && self.to.is_none_or(|to| seq <= to)
    }
}

/// The first decision that is not what was journaled.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// Sequence of the journaled decision, where there is one.
    pub seq: Option<u64>,
    /// Sequence of the cause.
    pub cause: u64,
    /// The input that caused it, as `journal dump` prints it.
    pub cause_event: Option<serde_json::Value>,
    /// What the journal says, as `journal dump` prints it; absent where it has no such decision.
    pub journaled: Option<serde_json::Value>,
    /// What was decided now; absent where nothing was.
    pub recomputed: Option<serde_json::Value>,
}

/// What a verification found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Inputs given to strategy and risk.
    pub events: u64,
    /// Journaled decisions compared.
    pub decisions: u64,
    /// Decisions of inputs at the end of a killed run that the journal does not have.
    pub unjournaled: u64,
    /// Frames that a salvaged journal lacks within what was read.
    pub missing: u64,
    /// Whether every comparison held and nothing was missing.
    pub equal: bool,
    /// The first that did not.
    pub first_difference: Option<Difference>,
    /// Runs read.
    pub runs: u64,
    /// What is worth knowing: another build wrote the journal.
    pub warnings: Vec<String>,
    /// How the last run ended in money.
    pub outcome: Outcome,
}

/// How a run ended in money, by the ledger that risk keeps. Decimal text in the engine's currency.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Outcome {
    /// Equity at the first moment when everything held had a price.
    pub equity_first: Option<String>,
    /// Equity at the end.
    pub equity_last: Option<String>,
    /// Their difference.
    pub profit: Option<String>,
}

impl Outcome {
    fn of(first: Option<Money>, last: Option<Money>) -> Self {
        let profit = first.zip(last).map(|(first, last)| Money(last.0 - first.0));
        let text = |it: Option<Money>| it.map(|it| it.to_string());
        Self { equity_first: text(first), equity_last: text(last), profit: text(profit) }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |it: &Option<String>| it.clone().unwrap_or_else(|| "unknown".to_owned());
        let (first, last) = (text(&self.equity_first), text(&self.equity_last));
        write!(f, "{} (equity {first} -> {last})", text(&self.profit))
    }
}

/// Replays `dir` and compares every decision.
///
/// `progress` is called now and then with the sequence reached.
///
/// # Errors
/// [`ReplayError`]; a difference is no error but part of the report.
pub fn verify(
    dir: &Path,
    registry: &Registry,
    range: Range,
    progress: &mut dyn FnMut(u64),
) -> Result<Report, ReplayError> {
    let mut check =
        Check { report: Report { equal: true, ..Report::default() }, range, ..Check::default() };
    walk(dir, registry, range, None, progress, &mut check)?;
    Ok(check.report)
}

/// How often progress is told, in frames.
const PROGRESS_EVERY: u64 = 1 << 16;

/// What a walk over the journal hands to whoever compares.
trait Visitor {
    /// A run begins, with the logic that decides it.
    fn run_begins(&mut self, run: u64, warning: Option<String>);
    /// An input; `mind` has not seen it yet.
    fn input(&mut self, seq: u64, event: &Event, mind: &mut Mind, names: &Names);
    /// A journaled decision. `false` ends the walk.
    fn decision(&mut self, seq: u64, decision: &Decision, names: &Names) -> bool;
    /// Frames that nobody has any more, from the first to the last of them.
    fn missing(&mut self, first: u64, last: u64);
    /// The run is over; `properly` where its end was written.
    fn run_ends(&mut self, properly: bool, mind: &Mind, names: &Names);
}

/// The names of things, as the journal means their numbers and as the configuration in force does:
/// another one may count other strategies.
struct Names {
    then: Renderer,
    here: Renderer,
}

/// The logic of the run being read.
struct Run {
    mind: Mind,
    names: Names,
    ended: bool,
}

fn walk(
    dir: &Path,
    registry: &Registry,
    range: Range,
    overlay: Option<&str>,
    progress: &mut dyn FnMut(u64),
    visitor: &mut dyn Visitor,
) -> Result<(), ReplayError> {
    let journal = Journal::open(dir)?;
    let runs = journal.runs()?;
    let builds = runs.iter().filter_map(|it| Some((it.run, build_of(it)?))).collect();
    let first = range.from.map_or(0, |from| run_start(&runs, from));
    let mut reader = journal.reader_from(first)?;
    let mut cold = Cold::default();
    let mut run: Option<Run> = None;
    let mut frames_seen = 0_u64;
    while let Some(frame) = reader.next()? {
        frames_seen += 1;
        if frames_seen.is_multiple_of(PROGRESS_EVERY) {
            progress(frame.seq);
        }
        if frame.run != cold.run {
            finish(run.take(), visitor);
            cold = Cold::begin(frame.run, &builds);
        }
        if frame.is_physical() {
            if let Some((first, last)) = frame.gap() {
                visitor.missing(first, last);
            }
            if frame.kind == RUN_END
                && let Some(run) = &mut run
            {
                // A run that gave up did not wait for its last decisions.
                let end = RunEnd::from_payload(frame.payload);
                run.ended = end.is_none_or(|it| it.reason != EndReason::Fault);
            }
            continue;
        }
        if range.to.is_some_and(|to| to < frame.seq) {
            break;
        }
        match record(&frame)? {
            Record::Part(part) => cold.push(&part, frame.seq)?,
            Record::Event(event) => {
                let run = match &mut run {
                    Some(run) => run,
                    None => run.insert(cold.assemble(registry, overlay, visitor)?),
                };
                GIVEN.store(frame.seq, Ordering::Relaxed);
                visitor.input(frame.seq, &event, &mut run.mind, &run.names);
            }
            Record::Decision { record, .. } => {
                let Some(run) = &run else {
                    return Err(ReplayError::Incomplete { run: cold.run, what: "input" });
                };
                if !visitor.decision(frame.seq, &record, &run.names) {
                    return Ok(());
                }
            }
        }
    }
    // Cut short by `--to-seq`, what follows is simply not read: not a proper end.
    finish(run, visitor);
    Ok(())
}

/// The build that wrote a run, from its manifest.
fn build_of(run: &RunInfo) -> Option<String> {
    Some(run.manifest.get("notes")?.get("build")?.as_str()?.to_owned())
}

/// First sequence of the run that holds `seq`.
fn run_start(runs: &[RunInfo], seq: u64) -> u64 {
    runs.iter().rev().map(|it| it.first_seq).find(|&first| first <= seq).unwrap_or(0)
}

fn finish(run: Option<Run>, visitor: &mut dyn Visitor) {
    if let Some(run) = run {
        visitor.run_ends(run.ended, &run.mind, &run.names);
    }
}

fn record<'a>(frame: &FrameView<'a>) -> Result<Record<'a>, ReplayError> {
    Record::read(frame.kind, frame.schema, frame.ts, frame.ext(), frame.payload)
        .map_err(|error| ReplayError::Frame { seq: frame.seq, reason: error.to_string() })
}

/// The cold records at the start of a run.
#[derive(Default)]
struct Cold {
    run: u64,
    build: Option<String>,
    preamble: Preamble,
}

impl Cold {
    fn begin(run: u64, builds: &BTreeMap<u64, String>) -> Self {
        Self { run, build: builds.get(&run).cloned(), ..Self::default() }
    }

    fn push(&mut self, part: &Part<'_>, seq: u64) -> Result<(), ReplayError> {
        let bad = |error: FrameError| ReplayError::Frame { seq, reason: error.to_string() };
        self.preamble.push(part).map_err(bad)
    }

    fn assemble(
        &self,
        registry: &Registry,
        overlay: Option<&str>,
        visitor: &mut dyn Visitor,
    ) -> Result<Run, ReplayError> {
        let run = self.run;
        let whole = self.preamble.whole();
        let (text, table) = whole.map_err(|what| ReplayError::Incomplete { run, what })?;
        let refused = |source| ReplayError::Assemble { run, source, overlay: overlay.is_some() };
        let config = assemble::journaled_config(text, overlay).map_err(refused)?;
        let mind = assemble::mind(&config, table, registry, run).map_err(refused)?;
        let here = names(&config, table);
        let then = match overlay {
            None => here.clone(),
            Some(_) => names(&assemble::journaled_config(text, None).map_err(refused)?, table),
        };
        let build = BuildId::of_this_binary();
        let warning = self.build.as_ref().filter(|it| **it != build.text()).map(|it| {
            format!("run {run} was written by build {it}; this is build {}", build.text())
        });
        visitor.run_begins(run, warning);
        Ok(Run { mind, names: Names { then, here }, ended: false })
    }
}

/// How reports name what a configuration trades and who trades it.
fn names(config: &Config, table: &InstrumentTable) -> Renderer {
    let name = |it: &Strategy| StrategyName { name: it.id.clone(), kind: it.kind.clone() };
    let strategies: Vec<StrategyName> = config.strategies.iter().map(name).collect();
    Renderer::new(table, &strategies, render::Clock::default())
}

/// Compares decision by decision.
#[derive(Default)]
struct Check {
    report: Report,
    range: Range,
    decided: VecDeque<Decision>,
    /// Equity when it was first known in this run.
    equity_first: Option<Money>,
    /// The input of the newest decisions, for the report of a difference.
    causes: VecDeque<(u64, Event)>,
}

/// Inputs remembered for a report: more than can lie between a cause and its decision's frame.
const CAUSES_KEPT: usize = 1 << 17;

impl Check {
    fn differ(
        &mut self,
        journaled: Option<(u64, &Decision)>,
        recomputed: Option<&Decision>,
        names: &Names,
    ) {
        self.report.equal = false;
        if self.report.first_difference.is_some() {
            return;
        }
        let cause = journaled
            .map(|(_, it)| it.cause)
            .or(recomputed.map(|it| it.cause))
            .unwrap_or_default()
            .0;
        let event = self.causes.iter().find(|(seq, _)| *seq == cause);
        self.report.first_difference = Some(Difference {
            seq: journaled.map(|(seq, _)| seq),
            cause,
            cause_event: event.map(|(seq, event)| names.then.event_value(*seq, event)),
            journaled: journaled.map(|(seq, it)| names.then.decision_value(seq, it)),
            recomputed: recomputed.map(|it| names.here.decision_value(0, it)),
        });
    }
}

impl Visitor for Check {
    fn run_begins(&mut self, _run: u64, warning: Option<String>) {
        self.report.runs += 1;
        self.report.warnings.extend(warning);
        self.causes.clear();
    }

    fn input(&mut self, seq: u64, event: &Event, mind: &mut Mind, _names: &Names) {
        self.report.events += 1;
        let before = self.decided.len();
        mind.on_event(Seq(seq), event, &mut |outcome| self.decided.extend(outcome.record()));
        if self.equity_first.is_none() {
            self.equity_first = mind.risk().mark_to_market();
        }
        if self.decided.len() != before {
            if self.causes.len() == CAUSES_KEPT {
                self.causes.pop_front();
            }
            self.causes.push_back((seq, *event));
        }
    }

    fn decision(&mut self, seq: u64, decision: &Decision, names: &Names) -> bool {
        let recomputed = self.decided.pop_front();
        if !self.range.holds(seq) {
            return true;
        }
        self.report.decisions += 1;
        if recomputed.as_ref().map(Decision::payload) != Some(decision.payload()) {
            self.differ(Some((seq, decision)), recomputed.as_ref(), names);
            // What follows a difference differs too: one is enough.
            return false;
        }
        true
    }

    fn missing(&mut self, first: u64, last: u64) {
        self.report.missing += last - first + 1;
        self.report.equal = false;
        self.report.warnings.push(format!(
            "seq {first} to {last} are missing, salvage did not find them: an input among them may \
             have decided what stands behind"
        ));
    }

    fn run_ends(&mut self, properly: bool, mind: &Mind, names: &Names) {
        self.report.outcome = Outcome::of(self.equity_first.take(), mind.risk().mark_to_market());
        if properly && let Some(left) = self.decided.front().copied() {
            self.differ(None, Some(&left), names);
        } else {
            self.report.unjournaled += self.decided.len() as u64;
        }
        self.decided.clear();
    }
}

/// One order that another configuration would have treated differently.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Changed {
    /// Sequence of the cause.
    pub cause: u64,
    /// What was decided then; absent where nothing was.
    pub journaled: Option<serde_json::Value>,
    /// What would be decided; absent where nothing would be.
    pub what_if: Option<serde_json::Value>,
    /// The difference in words.
    pub text: String,
}

/// What another configuration would have changed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct WhatIf {
    /// Inputs given to strategy and risk.
    pub events: u64,
    /// Decisions in the journal.
    pub journaled: u64,
    /// Decisions under the other configuration.
    pub decisions: u64,
    /// How many differ, in either direction.
    pub differences: u64,
    /// Reports withheld, because they answer orders that would not have been sent as they were.
    pub withheld: u64,
    /// Orders that would have been sent and have no answer in the journal.
    pub unanswered: u64,
    /// Frames that a salvaged journal lacks.
    pub missing: u64,
    /// The first [`CHANGED_MAX`] differences.
    pub changed: Vec<Changed>,
}

/// Differences that a report lists; all of them are counted.
pub const CHANGED_MAX: usize = 1_000;

/// Replays `dir` under the journaled configuration with `overlay` (TOML) on top and tells what
/// would have been decided differently.
///
/// Reports of orders that the other configuration would not have sent, or not with the same
/// content, are withheld and counted: nobody knows what the venue would have answered.
///
/// # Errors
/// [`ReplayError`], also where the overlay is not valid.
pub fn what_if(
    dir: &Path,
    registry: &Registry,
    range: Range,
    overlay: &str,
    progress: &mut dyn FnMut(u64),
) -> Result<WhatIf, ReplayError> {
    let mut asked = Asked { range, ..Asked::default() };
    walk(dir, registry, range, Some(overlay), progress, &mut asked)?;
    Ok(asked.report)
}

#[derive(Default)]
struct Asked {
    report: WhatIf,
    range: Range,
    /// Decisions of the other configuration, by cause, until the journaled ones of it are read.
    decided: VecDeque<Decision>,
    /// Approved orders of the other configuration, and whether the journal answers them.
    sent: HashMap<OrderId, bool>,
    /// Ids under which the journal and the other configuration mean different orders.
    foreign: HashSet<OrderId>,
    /// Denials on their way back to the strategies.
    echoes: VecDeque<Event>,
}

/// Denials echoed for one input, including those that the echoes lead to.
const ECHOES_MAX: usize = 64;

fn is_denial(event: &Event) -> bool {
    matches!(event.news(), News::Report { state: ReportState::Denied, .. })
}

impl Asked {
    fn give(&mut self, seq: u64, event: &Event, mind: &mut Mind) {
        let Self { decided, sent, report, echoes, .. } = self;
        mind.on_event(Seq(seq), event, &mut |outcome| {
            let Some(decision) = outcome.record() else { return };
            report.decisions += 1;
            decided.push_back(*decision);
            match decision.verdict {
                Verdict::Approved if decision.action == Action::Place => {
                    sent.insert(decision.order, false);
                }
                Verdict::Approved => {}
                Verdict::Denied => echoes.extend(denied(decision, Stamp(0))),
            }
        });
    }

    fn change(
        &mut self,
        seq: u64,
        journaled: Option<&Decision>,
        other: Option<&Decision>,
        names: &Names,
    ) {
        self.report.differences += 1;
        if self.report.changed.len() == CHANGED_MAX {
            return;
        }
        let cause = journaled.or(other).map_or(0, |it| it.cause.0);
        self.report.changed.push(Changed {
            cause,
            journaled: journaled.map(|it| names.then.decision_value(seq, it)),
            what_if: other.map(|it| names.here.decision_value(0, it)),
            text: in_words(journaled, other, names),
        });
    }

    fn is_withheld(&mut self, event: &Event) -> bool {
        let Some(order) = event.news().order() else { return false };
        match self.sent.get_mut(&order) {
            Some(answered) if !self.foreign.contains(&order) => {
                *answered = true;
                false
            }
            _ => true,
        }
    }
}

fn in_words(journaled: Option<&Decision>, other: Option<&Decision>, names: &Names) -> String {
    let (Some(then), Some(now)) = (journaled, other) else {
        return match (journaled, other) {
            (Some(then), None) => format!("order {} would not have been proposed", then.order),
            (None, Some(now)) => format!("order {} would have been proposed", now.order),
            _ => String::new(),
        };
    };
    match (then.verdict, now.verdict) {
        (Verdict::Approved, Verdict::Denied) => {
            let why = denial(now, &names.here);
            format!("order {} would have been denied: {why}", now.order)
        }
        (Verdict::Denied, Verdict::Approved) => {
            let why = denial(then, &names.then);
            format!("order {} would have been approved; it was denied: {why}", now.order)
        }
        (Verdict::Approved, Verdict::Approved) | (Verdict::Denied, Verdict::Denied) => {
            format!("order {} would have been another one", now.order)
        }
    }
}

/// The code of a denial and its numbers, in the units in which `journal dump` shows them.
fn denial(decision: &Decision, names: &Renderer) -> String {
    let shown = names.decision_value(0, decision);
    // Where both are 0 neither is shown.
    let number = |key: &str| shown[key].as_str().unwrap_or("0").to_owned();
    format!("{} (found {}, limit {})", decision.code.text(), number("found"), number("limit"))
}

/// Whether two decisions say the same to the world. The cause and the numbers beside an approval
/// may differ: other limits stand in them.
fn same_effect(a: &Decision, b: &Decision) -> bool {
    let key = |it: &Decision| {
        (
            it.order,
            it.price,
            it.qty,
            it.instrument,
            it.action,
            it.side,
            it.order_type,
            it.tif,
            it.verdict,
        )
    };
    key(a) == key(b) && a.flags == b.flags && (a.verdict == Verdict::Approved || a.code == b.code)
}

impl Visitor for Asked {
    fn run_begins(&mut self, _run: u64, _warning: Option<String>) {
        self.sent.clear();
        self.foreign.clear();
    }

    fn input(&mut self, seq: u64, event: &Event, mind: &mut Mind, _names: &Names) {
        if is_denial(event) {
            // Denials are the other configuration's own: see below.
            return;
        }
        if self.is_withheld(event) {
            self.report.withheld += 1;
            return;
        }
        self.report.events += 1;
        self.give(seq, event, mind);
        // What execution would have brought back at once. Strategies may answer a denial with
        // another order that is denied again; the bound is far above what a cause can lead to.
        for _ in 0..ECHOES_MAX {
            let Some(echo) = self.echoes.pop_front() else { break };
            self.give(seq, &echo, mind);
        }
        self.echoes.clear();
    }

    fn decision(&mut self, seq: u64, decision: &Decision, names: &Names) -> bool {
        self.report.journaled += 1;
        // Decisions that the other configuration took for earlier causes have no counterpart.
        while self.decided.front().is_some_and(|it| it.cause < decision.cause) {
            let extra = self.decided.pop_front();
            self.change(seq, None, extra.as_ref(), names);
        }
        let counterpart = match self.decided.front() {
            Some(it) if it.cause == decision.cause => self.decided.pop_front(),
            _ => None,
        };
        let same = counterpart.as_ref().is_some_and(|it| same_effect(decision, it));
        if !same {
            if decision.action == Action::Place {
                self.foreign.insert(decision.order);
            }
            if self.range.holds(seq) {
                self.change(seq, Some(decision), counterpart.as_ref(), names);
            }
        }
        true
    }

    fn missing(&mut self, first: u64, last: u64) {
        self.report.missing += last - first + 1;
    }

    fn run_ends(&mut self, _properly: bool, _mind: &Mind, names: &Names) {
        while let Some(extra) = self.decided.pop_front() {
            self.change(0, None, Some(&extra), names);
        }
        self.report.unanswered += self.sent.values().filter(|answered| !**answered).count() as u64;
    }
}
