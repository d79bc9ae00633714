//! Replay: equal on a copy, different where anything that decides is different, and what another
//! configuration would have done.

use std::path::Path;

use kairos_edge::frames::Record;
use kairos_engine::replay::{self, Range, ReplayError, Report, WhatIf};
use kairos_journal::{Frame, Journal, Options, RunFacts, create};
use kairos_logic::event::News;
use kairos_logic::order::{Action, Verdict};
use kairos_logic::strategy::Registry;
use serde_json::Value;

use crate::harness::{Content, Setup, copy};
use crate::process::{Said, engine, say};

fn verify(dir: &Path, range: Range) -> Report {
    replay::verify(dir, &Registry::shipped(), range, &mut |_| {}).unwrap()
}

fn what_if(setup: &Setup, overlay: &str) -> WhatIf {
    let registry = Registry::shipped();
    let range = Range::default();
    replay::what_if(&setup.journal_dir(), &registry, range, overlay, &mut |_| {}).unwrap()
}

fn places(content: &Content, verdict: Verdict) -> u64 {
    let ours = |it: &&(u64, kairos_logic::order::Decision)| {
        it.1.action == Action::Place && it.1.verdict == verdict
    };
    content.decisions.iter().filter(ours).count() as u64
}

#[test]
fn a_copied_directory_alone_verifies_replays_and_reads_the_same() {
    let setup = Setup::seeded(40, 15);
    setup.run();
    let elsewhere = tempfile::tempdir().unwrap();
    let copied = copy(&setup.journal_dir(), &elsewhere.path().join("copy"));
    let original = kairos_journal::fingerprint(&setup.journal_dir()).unwrap();
    let report = setup.verify();
    // Nothing of the first place is needed: not the capture, not the configuration.
    drop(setup);
    assert_eq!(kairos_journal::fingerprint(&copied).unwrap(), original);
    assert!(!kairos_journal::verify(&copied).unwrap().is_damaged());
    assert!(report.equal && report.decisions > 20, "{report:?}");
    assert_eq!(verify(&copied, Range::default()), report);

    let said = say(engine().args(["replay", "--verify", "--json"]).arg(&copied));
    assert_eq!(said.status, Some(0), "{said:?}");
    let told: Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!(told["equal"], true);
    assert_eq!(told["unjournaled"], 0);
    assert_eq!(told["events"], report.events);
    assert_eq!(told["decisions"], report.decisions);
    assert_eq!(told["first_difference"], Value::Null);
}

#[test]
fn a_range_of_sequences_compares_that_range() {
    let setup = Setup::seeded(41, 10);
    // Three runs in one journal.
    setup.run();
    setup.run();
    setup.run();
    let dir = setup.journal_dir();
    let content = setup.content();
    let all = content.decisions.len() as u64;
    let whole = verify(&dir, Range::default());
    assert_eq!((whole.decisions, whole.runs), (all, 3));
    let last = content.decisions.last().unwrap().0;
    let within = |from: u64, to: u64| {
        content.decisions.iter().filter(|(seq, _)| (from..=to).contains(seq)).count() as u64
    };
    for (from, to, runs) in [
        (Some(last / 2), None, 2),
        (None, Some(last / 2), 2),
        (Some(last / 5), Some(last / 4), 1),
        (Some(last), Some(last), 1),
        (Some(last + 1), None, 1),
    ] {
        let report = verify(&dir, Range { from, to });
        assert!(report.equal, "{from:?} {to:?}: {:?}", report.first_difference);
        let want = within(from.unwrap_or(0), to.unwrap_or(u64::MAX));
        assert_eq!((report.decisions, report.runs), (want, runs), "{from:?} {to:?}");
    }
}

#[test]
fn a_changed_parameter_or_limit_is_a_difference_and_the_same_configuration_is_none() {
    let setup = Setup::seeded(42, 15);
    setup.run();
    let check = |overlay: &str, differ: bool| {
        let report = what_if(&setup, overlay);
        assert_eq!(report.journaled, setup.content().decisions.len() as u64, "{overlay}");
        assert_eq!(report.differences > 0, differ, "{overlay}: {report:?}");
        assert_eq!(report.changed.is_empty(), !differ, "{overlay}");
    };
    check("", false);
    check("[risk]\nmax_order_notional = \"900000000\"", false);
    check("[strategies.mm]\nhalf_spread_bps = 10", false);
    check("[strategies.mm]\nhalf_spread_bps = 11", true);
    check("[strategies.mom]\nthreshold_bps = 500", true);
    check("[strategies.mm]\nenabled = false", true);
    check("[risk]\nmax_position_notional = \"1\"", true);
    check("[risk]\nmax_orders_per_second = 1", true);
}

/// A binary in which one strategy decides otherwise, or risk's inputs do: what a changed strategy
/// looks like to a replay of journals from before the change.
#[test]
fn a_binary_that_decides_otherwise_is_found_at_the_first_decision_with_its_cause() {
    let setup = Setup::seeded(43, 15);
    setup.run();
    let mut changed = Registry::shipped();
    changed.register("market_maker", |spec, table| {
        let mut spec = spec.clone();
        spec.params = spec.params.with("half_spread_bps", 11);
        Registry::shipped().build(&spec, table)
    });
    let range = Range::default();
    let report = replay::verify(&setup.journal_dir(), &changed, range, &mut |_| {}).unwrap();
    assert!(!report.equal);
    let found = report.first_difference.unwrap();
    let cause = found.cause_event.expect("the input that caused it");
    assert_eq!(cause["seq"], found.cause);
    let (journaled, recomputed) = (found.journaled.unwrap(), found.recomputed.unwrap());
    assert_eq!(journaled["seq"], found.seq.unwrap());
    assert_eq!(journaled["strategy"], recomputed["strategy"]);
    assert_ne!(journaled["price"], recomputed["price"]);
    // It is the first decision of that strategy: all before it are equal.
    let content = setup.content();
    let first = content.decisions.iter().find(|(_, it)| it.strategy.0 == 0).unwrap();
    assert_eq!(found.seq, Some(first.0), "{journaled}");
}

#[test]
fn what_if_tells_which_orders_would_have_been_denied_and_by_what_numbers() {
    let setup = Setup::seeded(44, 15);
    setup.run();
    let content = setup.content();
    let approved = places(&content, Verdict::Approved);
    assert!(approved > 20, "{approved}");
    let file = setup.dir.path().join("tight.toml");
    std::fs::write(&file, "[risk]\nmax_order_notional = \"1\"\n").unwrap();
    let said =
        say(engine().args(["replay", "--json", "--what-if"]).arg(&file).arg(setup.journal_dir()));
    assert_eq!(said.status, Some(0), "{said:?}");
    let told: Value = serde_json::from_str(&said.out).unwrap();

    let changed = told["changed"].as_array().unwrap();
    let first = changed.iter().find(|it| it["what_if"]["code"] == "max_order_size_exceeded");
    let first = first.unwrap_or_else(|| panic!("{told}"));
    let text = first["text"].as_str().unwrap();
    assert!(text.contains("would have been denied: max_order_size_exceeded"), "{text}");
    assert!(text.ends_with(", limit 1)"), "the number that decided: {text}");
    assert_eq!(first["journaled"]["approved"], true, "{first}");
    assert_eq!(first["what_if"]["approved"], false, "{first}");
    // Nothing but exits is sent under such a limit, and there is nothing to exit from: whatever the
    // venue said of the orders is withheld.
    let answers = |it: &&(u64, kairos_logic::event::Event)| match it.1.news() {
        News::Fill { .. } => true,
        News::Report { state, .. } => state != kairos_logic::event::ReportState::Denied,
        _ => false,
    };
    let answers = content.events.iter().filter(answers).count() as u64;
    assert_eq!(told["withheld"], answers, "{}", told["withheld"]);
    assert!(told["differences"].as_u64().unwrap() >= approved, "{}", told["differences"]);

    // The same for people, and the journal is as it was.
    let said = say(engine().args(["replay", "--what-if"]).arg(&file).arg(setup.journal_dir()));
    assert_eq!(said.status, Some(0), "{said:?}");
    assert!(said.out.contains("would have been denied: max_order_size_exceeded"), "{}", said.out);
    assert!(setup.verify().equal);
}

#[test]
fn what_if_refuses_a_layer_that_is_wrong() {
    let setup = Setup::seeded(45, 5);
    setup.run();
    let file = setup.dir.path().join("layer.toml");
    let run = |text: &str| -> Said {
        std::fs::write(&file, text).unwrap();
        say(engine().args(["replay", "--what-if"]).arg(&file).arg(setup.journal_dir()))
    };
    for (text, parts) in [
        ("[risk]\nmax_order_notinal = 1\n", ["max_order_notinal", "max_order_notional"]),
        ("[risk]\nmax_open_orders = \"many\"\n", ["risk.max_open_orders", "must be"]),
        ("[strategies.mm]\nkind = \"maker\"\n", ["strategies.mm.kind", "market_maker"]),
        ("[risk\n", ["what-if", "1"]),
    ] {
        let said = run(text);
        assert_eq!(said.status, Some(78), "{text}: {said:?}");
        assert_eq!(said.err.lines().count(), 1, "{text}: {said:?}");
        for part in parts {
            assert!(said.err.contains(part), "{part}: {said:?}");
        }
    }
    std::fs::remove_file(&file).unwrap();
    let said = say(engine().args(["replay", "--what-if"]).arg(&file).arg(setup.journal_dir()));
    assert_eq!(said.status, Some(78), "{said:?}");
    assert!(said.err.contains("layer.toml: cannot read"), "{said:?}");
}

#[test]
fn a_kind_that_this_binary_does_not_have_is_refused_by_its_name() {
    let setup = Setup::seeded(46, 5);
    setup.run();
    let mut fewer = Registry::empty();
    fewer.register("market_maker", |spec, table| Registry::shipped().build(spec, table));
    let found = replay::verify(&setup.journal_dir(), &fewer, Range::default(), &mut |_| {});
    let Err(error @ ReplayError::Assemble { run: 1, .. }) = found else { panic!("{found:?}") };
    for kind in ["tri_arb", "momentum"] {
        assert!(error.to_string().contains(&format!("{kind:?}: is not a known kind")), "{error}");
    }
}

#[test]
fn a_journal_without_any_event_replays_as_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let said = say(engine().args(["replay", "--verify", "--json"]).arg(dir.path()));
    assert_eq!(said.status, Some(0), "{said:?}");
    let told: Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!((told["events"].as_u64(), told["equal"].as_bool()), (Some(0), Some(true)));
}

/// A frame on its way from one journal to another.
#[derive(Clone, Debug)]
struct Copied {
    ts: u64,
    kind: u16,
    schema: u16,
    ext: Vec<u64>,
    payload: Vec<u8>,
    is_decision: bool,
}

/// Writes the frames of the setup's one run into another journal, as `edit` leaves them, and
/// replays that: what somebody does who can compute checksums.
fn forge(setup: &Setup, edit: impl FnOnce(&mut Vec<Copied>)) -> Report {
    let mut frames = Vec::new();
    let mut reader = Journal::open(&setup.journal_dir()).unwrap().reader();
    while let Some(frame) = reader.next().unwrap() {
        if !frame.is_physical() {
            let read = Record::read(frame.kind, frame.schema, frame.ts, frame.ext(), frame.payload);
            frames.push(Copied {
                ts: frame.ts,
                kind: frame.kind,
                schema: frame.schema,
                ext: frame.ext().to_vec(),
                payload: frame.payload.to_vec(),
                is_decision: matches!(read.unwrap(), Record::Decision { .. }),
            });
        }
    }
    edit(&mut frames);
    let dir = tempfile::tempdir().unwrap();
    let options = Options { segment_bytes: 16 << 20, ..Options::default() };
    let (mut writer, keeper, _) = create(dir.path(), &options, RunFacts::default()).unwrap();
    for it in &frames {
        let Copied { ts, kind, schema, ext, payload, .. } = it;
        let (ts, kind, schema) = (*ts, *kind, *schema);
        writer.append(&Frame { ts, kind, schema, lane: 0, ext, payload }).unwrap();
    }
    writer.end_run(0, b"").map_err(|(_, why)| why).unwrap();
    keeper.finish().unwrap();
    assert!(!kairos_journal::verify(dir.path()).unwrap().is_damaged());
    verify(dir.path(), Range::default())
}

#[test]
fn a_decision_that_is_altered_missing_or_left_over_is_a_difference() {
    let setup = Setup::seeded(47, 8);
    setup.run();
    let decisions = setup.content().decisions;
    let last = decisions.len() - 1;
    assert!(last > 20);
    let check = |what: &str, edit: &dyn Fn(&mut Vec<Copied>, &[usize]), equal: bool| {
        let report = forge(&setup, |frames| {
            let places = (0..frames.len()).filter(|&it| frames[it].is_decision);
            let places: Vec<usize> = places.collect();
            edit(frames, &places);
        });
        assert_eq!(report.equal, equal, "{what}: {report:?}");
        assert_eq!(report.first_difference.is_none(), equal, "{what}: {report:?}");
        report.first_difference
    };
    check("untouched", &|_, _| {}, true);
    // The last byte of the 64-bit price, somewhere in the payload: any byte of it will do.
    let altered = check(
        "altered",
        &|frames, places| {
            let bytes = &mut frames[places[last / 2]].payload;
            bytes[24] ^= 1;
        },
        false,
    );
    assert_eq!(altered.unwrap().seq, Some(decisions[last / 2].0));
    check("missing", &|frames, places| drop(frames.remove(places[last / 2])), false);
    let missing =
        check("missing at the end", &|frames, places| drop(frames.remove(places[last])), false);
    assert_eq!(missing.unwrap().journaled, None, "nothing was journaled where one was decided");
    let extra = |frames: &mut Vec<Copied>, places: &[usize]| {
        let again = frames[places[last]].clone();
        frames.push(again);
    };
    let left_over = check("left over", &extra, false);
    assert_eq!(left_over.unwrap().recomputed, None, "nothing was decided where one is journaled");
    let without_an_input = |frames: &mut Vec<Copied>, places: &[usize]| {
        drop(frames.remove(places[last] - 1));
    };
    check("a cause is missing", &without_an_input, false);
}
