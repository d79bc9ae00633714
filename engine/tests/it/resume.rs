//! Only an operator ends a halt; and what the operator said is journaled.

use kairos_engine::run::{self, Nobody, Signals};
use kairos_logic::event::{Event, News, Verb};
use kairos_logic::order::{Decision, RiskState, Verdict};
use kairos_logic::strategy::Registry;

use crate::harness::Setup;

/// The inputs and decisions that came after the first `events` and `decisions`.
fn after(setup: &Setup, (events, decisions): (usize, usize)) -> (Vec<Event>, Vec<Decision>) {
    let content = setup.content();
    let events = content.events.into_iter().skip(events).map(|it| it.1).collect();
    (events, content.decisions.into_iter().skip(decisions).map(|it| it.1).collect())
}

fn verbs(events: &[Event]) -> Vec<Verb> {
    let verb = |it: &Event| match it.news() {
        News::Command { verb, .. } => Some(verb),
        _ => None,
    };
    events.iter().filter_map(verb).collect()
}

#[test]
fn a_halt_is_inherited_until_an_operator_resumes() {
    let mut setup = Setup::seeded(91, 10);
    let loss = "[risk]\nmax_daily_loss = \"0.01\"\n";
    setup.more.push_str(loss);
    setup.run();
    let first = setup.content();
    let halted = |it: &Decision| it.state == RiskState::Halted;
    assert!(first.decisions.iter().any(|it| halted(&it.1)), "the loss limit halts");

    // The cause of the halt is gone, the halt is not.
    setup.more = setup.more.replace(loss, "");
    setup.run();
    let so_far = (first.events.len(), first.decisions.len());
    let (events, decisions) = after(&setup, so_far);
    assert_eq!(verbs(&events), [Verb::Halt, Verb::Stop]);
    let places = |it: &&Decision| it.order.counter() > 0;
    assert!(decisions.iter().filter(places).all(|it| it.verdict == Verdict::Denied));
    assert!(decisions.iter().filter(places).count() > 0, "strategies went on wishing");

    let so_far = (so_far.0 + events.len(), so_far.1 + decisions.len());
    let signals = Signals { resume: true, ..Signals::default() };
    run::run(&setup.config(), &Registry::shipped(), &signals, &mut Nobody).unwrap();
    let (events, decisions) = after(&setup, so_far);
    assert_eq!(verbs(&events), [Verb::Halt, Verb::Resume, Verb::Stop]);
    let approved = |it: &&Decision| it.verdict == Verdict::Approved && it.order.counter() > 0;
    assert!(decisions.iter().filter(approved).count() > 5);
    assert!(setup.verify().equal);
}
