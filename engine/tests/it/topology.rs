//! Any map of CPUs and any gate: the decisions are those of the plain call over the journal.

use kairos_engine::pin;
use kairos_logic::event::News;

use crate::harness::{Setup, map};

/// The maps that two CPUs allow, by the CPU (first or last usable) of feed, strategy, risk,
/// execution and journal.
const MAPS: [[usize; 5]; 8] = [
    [0, 0, 0, 0, 0],
    [0, 1, 1, 1, 1],
    [0, 1, 1, 1, 0],
    [0, 1, 1, 0, 1],
    [0, 1, 0, 1, 1],
    [1, 0, 1, 0, 1],
    [0, 0, 0, 1, 0],
    [1, 1, 0, 0, 0],
];

#[test]
fn decisions_are_those_of_the_plain_call_in_every_map_and_behind_every_gate() {
    let usable = pin::usable_cpus().unwrap();
    let cpus = [*usable.first().unwrap(), *usable.last().unwrap()];
    for (number, places) in MAPS.iter().enumerate() {
        let gate = ["committed", "durable", "none"][number % 3];
        let mut setup = Setup::seeded(20 + number as u64, 12);
        // At full speed a feed on a CPU of its own is far ahead of the answers to its events.
        setup.pace = "15.0".into();
        let [feed, strategy, risk, execution, journal] = places.map(|it| cpus[it]);
        setup.cores = map(feed, strategy, risk, execution, journal);
        setup.gate = gate;
        setup.run();
        let report = setup.verify();
        let found = format!("map {places:?}, gate {gate}: {:?}", report.first_difference);
        assert!(report.equal, "{found}");
        assert!(report.decisions > 5, "{found}: {} decisions", report.decisions);
        let content = setup.content();
        let fill = content.events.iter().any(|it| matches!(it.1.news(), News::Fill { .. }));
        assert!(fill, "{found}: no fill");
        for (seq, decision) in &content.decisions {
            assert!(decision.cause.0 < *seq, "{found}: a decision before its cause");
        }
    }
}
