//! A halt that risk takes by itself is never lost: wherever a killed journal ends, the next run
//! inherits what risk had decided by the last journaled input.

use std::collections::VecDeque;
use std::fs::OpenOptions;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use kairos_edge::config::Config;
use kairos_edge::frames::{self, Cold};
use kairos_engine::replay::{self, Range};
use kairos_engine::{assemble, feeds, fold};
use kairos_journal::{Frame, Journal, Mode, Options, RunFacts, Writer, create, recover};
use kairos_logic::code::Code;
use kairos_logic::event::{Event, News, ReportState, Verb};
use kairos_logic::instrument::InstrumentTable;
use kairos_logic::order::{Decision, RiskState};
use kairos_logic::strategy::Registry;
use kairos_logic::units::{InstrumentId, Nanos, OrderId, Qty, Seq, Side, Stamp};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;

use crate::harness::{Setup, copy, in_memory};

/// Bytes of a segment here: small, because it is copied once for each of its frames.
const SEGMENT: u64 = 256 << 10;

fn options() -> Options {
    Options {
        segment_bytes: SEGMENT,
        allow_tiny_segments_for_tests: true,
        frame_max: 32 << 10,
        populate: false,
        ..Options::default()
    }
}

/// What a market and a venue told an engine until a little after its first fills.
struct Told {
    config: Config,
    table: InstrumentTable,
    events: Vec<Event>,
}

impl Told {
    fn by(setup: &Setup, fills: usize) -> Self {
        setup.run();
        let events: Vec<Event> = setup.content().events.into_iter().map(|it| it.1).collect();
        let is_fill = |it: &Event| matches!(it.news(), News::Fill { .. });
        let last = (0..events.len()).filter(|&at| is_fill(&events[at])).nth(fills - 1);
        let config = setup.config();
        let table = feeds::check(&config, &Registry::shipped()).unwrap();
        let events = events[..(last.expect("enough fills") + 40).min(events.len())].to_vec();
        Self { config, table, events }
    }
}

/// One frame of a journal, and the state of risk once it is in it.
struct Step {
    place: (PathBuf, u64),
    state: Option<RiskState>,
}

/// A killed run of these inputs, its decisions up to `lag` frames behind their causes. Nothing of it
/// is durable, as after a kill on the same boot.
fn killed_run(dir: &Path, told: &Told, events: &[Event], lag: usize) -> Vec<Step> {
    let (mut writer, keeper, opened) = create(dir, &options(), RunFacts::default()).unwrap();
    for cold in [Cold::Config(told.config.canonical_toml()), Cold::Instruments(told.table.clone())]
    {
        for payload in cold.payloads() {
            let (kind, schema) = (cold.kind(), frames::SCHEMA);
            let frame = Frame { ts: 0, kind, schema, lane: 0, ext: &[], payload: &payload };
            writer.append(&frame).unwrap();
        }
    }
    let mut mind =
        assemble::mind(&told.config, &told.table, &Registry::shipped(), opened.run).unwrap();
    let mut states = vec![None; usize::try_from(writer.next_seq()).unwrap()];
    let mut waiting: VecDeque<(usize, Decision)> = VecDeque::new();
    for (number, event) in events.iter().enumerate() {
        while waiting.front().is_some_and(|it| it.0 + lag < number) {
            let (_, decision) = waiting.pop_front().unwrap();
            decide(&mut writer, &decision);
            states.push(*states.last().unwrap());
        }
        let frame = frames::event(event);
        let head = (frame.ts, frame.kind, frame.schema, 0);
        let seq = writer.append_fixed(head, &frame.ext, &frame.payload).unwrap();
        mind.on_event(Seq(seq), event, &mut |outcome| {
            waiting.extend(outcome.record().map(|it| (number, *it)));
        });
        states.push(Some(mind.risk().lasting_state()));
    }
    drop((writer, keeper));
    let journal = Journal::open(dir).unwrap();
    let files = journal.segments().unwrap();
    let mut reader = journal.reader();
    let mut steps = Vec::new();
    while let Some(frame) = reader.next().unwrap() {
        let file = files.iter().find(|it| it.header.segment == frame.segment).unwrap();
        let seq = usize::try_from(frame.seq).unwrap() - usize::from(frame.is_physical());
        let state = states.get(seq).copied().flatten();
        steps.push(Step { place: (file.path.clone(), frame.offset), state });
    }
    steps
}

fn decide(writer: &mut Writer, decision: &Decision) {
    let frame = frames::decision(decision, Stamp(0), Stamp(0));
    let head = (frame.ts, frame.kind, frame.schema, 0);
    writer.append_fixed(head, &frame.ext, &frame.payload).unwrap();
}

/// Cuts a copied journal off at a frame, as a kill before that frame leaves it.
fn cut(dir: &Path, (path, offset): &(PathBuf, u64)) {
    let file = dir.join("seg").join(path.file_name().unwrap());
    let file = OpenOptions::new().write(true).open(file).unwrap();
    let zeros = vec![0; usize::try_from(SEGMENT - offset).unwrap()];
    file.write_all_at(&zeros, *offset).unwrap();
}

fn verbs(journal: &Path) -> Vec<Verb> {
    let inherited = fold::inherited(&Journal::open(journal).unwrap()).unwrap();
    assert_eq!(inherited.warning, None);
    let verb = |it: &Event| match it.news() {
        News::Command { verb, .. } => verb,
        other => panic!("{other:?}"),
    };
    inherited.commands.iter().map(verb).collect()
}

const fn wanted(state: Option<RiskState>) -> &'static [Verb] {
    match state {
        Some(RiskState::Halted) => &[Verb::Halt],
        Some(RiskState::Killed) => &[Verb::Kill],
        Some(RiskState::Reducing) => &[Verb::Reduce],
        _ => &[],
    }
}

/// Cuts the journal before each of these steps and compares. Says how many cuts were halted.
fn check_cuts(dir: &Path, steps: &[Step], cuts: impl Iterator<Item = usize>) -> usize {
    let mut halted = 0;
    for at in cuts {
        let place = in_memory(); // every cut is recovered, and each recovery syncs
        let copied = copy(dir, &place.path().join("cut"));
        cut(&copied, &steps[at].place);
        recover(&copied, Mode::TolerateTornTail, false).unwrap();
        let state = steps[at - 1].state;
        assert_eq!(verbs(&copied), wanted(state), "cut before frame {at} of {}", steps.len());
        halted += usize::from(state == Some(RiskState::Halted));
    }
    halted
}

/// A reject by a venue that is nobody's fault but the strategy's.
fn reject(at: Nanos, number: u64) -> Event {
    let (none, state) = (InstrumentId(0), ReportState::Rejected);
    let order = OrderId(number);
    Event::report(at, at, none, order, Side::Buy, state, Qty(0), Code::VenueRejected)
}

fn setup(limits: &str) -> Setup {
    let mut setup = Setup::seeded(120, 20);
    setup.more.push_str(limits);
    setup
}

/// The same inputs under other limits.
fn under(told: &Told, limits: &str) -> Told {
    let config = setup(limits).config();
    Told { config, table: told.table.clone(), events: told.events.clone() }
}

fn insert(events: &mut Vec<Event>, at: usize, make: impl FnOnce(Nanos) -> Event) {
    let at = at.min(events.len());
    let now = events[at.saturating_sub(1)].at;
    events.insert(at, make(now));
}

#[test]
fn a_journal_cut_anywhere_is_inherited_as_a_full_replay_would_say() {
    let told = Told::by(&setup(""), 6);
    let length = told.events.len();
    let commands = |verbs: &[(Verb, i64)]| {
        let mut events = told.events.clone();
        for (number, &(verb, argument)) in verbs.iter().enumerate() {
            let at = length / 2 + 9 * number;
            insert(&mut events, at, |now| Event::command(now, verb, argument));
        }
        events
    };
    let mut rejected = told.events.clone();
    for number in 0..5 {
        insert(&mut rejected, length / 2 + 3, |now| reject(now, number));
    }
    let all = [(Verb::Reduce, 0), (Verb::Halt, 0), (Verb::Reduce, 0), (Verb::Resume, 0)];
    let kill = [(Verb::Kill, 0), (Verb::Halt, 0), (Verb::Resume, 0), (Verb::Resume, 3)];
    let cases: [(&str, Vec<Event>, usize, bool); 6] = [
        ("", told.events.clone(), 3, false),
        ("[risk]\nmax_daily_loss = \"0.01\"\n", told.events.clone(), 4, true),
        ("[risk]\nmax_drawdown_pct = 0.000001\n", told.events.clone(), 0, true),
        ("[risk]\nreject_breaker = 4\n", rejected, 2, true),
        ("", commands(&all), 1, true),
        ("[risk]\nmax_daily_loss = \"0.01\"\n", commands(&kill), 5, true),
    ];
    for (limits, events, lag, halts) in cases {
        let dir = tempfile::tempdir().unwrap();
        let steps = killed_run(dir.path(), &under(&told, limits), &events, lag);
        assert!(steps.len() > events.len() + 5, "{limits}: {} frames", steps.len());
        let halted = check_cuts(dir.path(), &steps, 1..steps.len());
        assert_eq!(halted > 0, halts, "{limits}: {halted} of {}", steps.len());
    }
}

#[test]
fn whatever_was_heard_and_wherever_it_ends_the_state_is_inherited() {
    let told = Told::by(&setup(""), 6);
    let length = told.events.len();
    let heard = prop_oneof![
        (0..7_u64).prop_map(|verb| (Some(verb), 0)),
        (0..4_i64).prop_map(|argument| (Some(4), argument)),
        Just((None, 0)),
    ];
    let heard = prop::collection::vec((heard, 0..length), 0..12);
    let limits = prop_oneof![
        Just(""),
        Just("[risk]\nmax_daily_loss = \"0.01\"\n"),
        Just("[risk]\nmax_drawdown_pct = 0.000002\n"),
        Just("[risk]\nreject_breaker = 2\n"),
    ];
    let cuts = prop::collection::vec(any::<prop::sample::Index>(), 6);
    let config =
        ProptestConfig { cases: 32, failure_persistence: None, ..ProptestConfig::default() };
    TestRunner::new(config)
        .run(&(heard, limits, 0..9_usize, cuts), |(heard, limits, lag, cuts)| {
            let mut events = told.events.clone();
            for ((verb, argument), at) in heard {
                let verb = verb.and_then(|it| Verb::from_number(i64::try_from(it).unwrap()));
                insert(&mut events, at, |now| match verb {
                    Some(verb) => Event::command(now, verb, argument),
                    None => reject(now, u64::try_from(at).unwrap()),
                });
            }
            let dir = tempfile::tempdir().unwrap();
            let steps = killed_run(dir.path(), &under(&told, limits), &events, lag);
            check_cuts(dir.path(), &steps, cuts.iter().map(|it| 1 + it.index(steps.len() - 1)));
            Ok(())
        })
        .unwrap();
}

/// The input that made risk halt is the last frame; what risk said of it is not there.
#[test]
fn the_next_run_begins_with_the_halt_that_nobody_wrote_down() {
    let mut setup = setup("");
    let told = Told::by(&setup, 6);
    setup.journal = "cut".into();
    let told = under(&told, "[risk]\nmax_daily_loss = \"0.01\"\n");
    let steps = killed_run(&setup.journal_dir(), &told, &told.events, 30);
    let halted = steps.iter().position(|it| it.state == Some(RiskState::Halted)).unwrap();
    cut(&setup.journal_dir(), &steps[halted + 1].place);
    let before = setup.content();
    let said = before.decisions.iter().any(|it| it.1.state == RiskState::Halted);
    assert!(!said, "no frame says that risk halted");
    setup.run();
    let after = setup.content();
    let first = after.events[before.events.len()].1.news();
    assert!(matches!(first, News::Command { verb: Verb::Halt, .. }), "{first:?}");
    assert!(setup.verify().equal);
}

/// What a run must begin with that follows this journal, where nobody can know.
fn begins_halted(dir: &Path, parts: &[&str]) {
    let inherited = fold::inherited(&Journal::open(dir).unwrap()).unwrap();
    let first = inherited.commands.first().map(Event::news);
    assert!(matches!(first, Some(News::Command { verb: Verb::Halt, .. })), "{first:?}");
    let why = inherited.warning.unwrap();
    for part in ["run 1 did not end properly", "trading begins halted"].iter().chain(parts) {
        assert!(why.contains(part), "{part}: {why}");
    }
    assert_eq!(why.lines().count(), 1, "{why}");
}

/// A halt may be among the events that a damaged journal has lost.
#[test]
fn a_salvaged_journal_with_a_hole_begins_halted() {
    let setup = setup("");
    setup.run();
    let damaged = Journal::open(&setup.journal_dir()).unwrap();
    let mut reader = damaged.reader_from(setup.content().events[300].0).unwrap();
    let offset = reader.next().unwrap().unwrap().offset;
    let file = damaged.segments().unwrap()[0].path.clone();
    let file = OpenOptions::new().write(true).open(file).unwrap();
    file.write_all_at(&[0xff; 64], offset + 40).unwrap();
    let salvaged = setup.dir.path().join("salvaged");
    kairos_journal::salvage(&setup.journal_dir(), &salvaged).unwrap();
    begins_halted(&salvaged, &["it was salvaged"]);

    // Nor can its decisions be verified: an input is missing.
    let registry = Registry::shipped();
    let report = replay::verify(&salvaged, &registry, Range::default(), &mut |_| {}).unwrap();
    assert!(!report.equal && report.missing > 0, "{report:?}");
    assert!(report.warnings.iter().any(|it| it.contains("are missing")), "{report:?}");
}

#[test]
fn what_cannot_be_found_again_begins_halted_and_says_why() {
    let dir = tempfile::tempdir().unwrap();
    let (mut writer, keeper, _) = create(dir.path(), &options(), RunFacts::default()).unwrap();
    let cold = Cold::Config("[engine]\nshoe_size = 44\n".into());
    for payload in
        cold.payloads().into_iter().chain(Cold::Instruments(Default::default()).payloads())
    {
        let kind = if writer.next_seq() == 1 { cold.kind() } else { frames::INSTRUMENTS };
        let schema = frames::SCHEMA;
        let frame = Frame { ts: 0, kind, schema, lane: 0, ext: &[], payload: &payload };
        writer.append(&frame).unwrap();
    }
    let frame = frames::event(&Event::timer(Nanos(1)));
    let head = (frame.ts, frame.kind, frame.schema, 0);
    writer.append_fixed(head, &frame.ext, &frame.payload).unwrap();
    drop((writer, keeper));
    recover(dir.path(), Mode::TolerateTornTail, false).unwrap();
    begins_halted(dir.path(), &["engine.shoe_size"]);
}
