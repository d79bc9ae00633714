//! Two sessions of one venue, one with the scanner and one without, over the same frames.

use std::path::Path;

use kairos_logic::event::{Event, News, StatusCode};
use kairos_logic::units::{Nanos, Stamp};

use super::words;
use crate::capture::{Capture, FrameKind};
use crate::session::{Arrival, Counters, MarketSession, Outbox};
use crate::sim::random::Random;

/// Makes a session; the argument says whether it never uses its scanner.
pub(crate) type Make<'a> = &'a dyn Fn(bool) -> Box<dyn MarketSession>;

/// What both make of the same frames, each taken as a message and as a snapshot without a name.
pub(crate) fn run(make: Make<'_>, frames: &[Vec<u8>]) -> [(Vec<Event>, Counters); 2] {
    [false, true].map(|tape_only| {
        let mut session = make(tape_only);
        let (mut events, mut out) = (Vec::new(), Outbox::new());
        for (number, frame) in (1..).zip(frames) {
            let arrival = Arrival { at: Nanos(number * 1_000_000), recv: Stamp(number), number };
            session.on_frame(arrival, frame, &mut out, &mut |event| events.push(event));
            session.on_snapshot(arrival, None, frame, &mut out, &mut |event| events.push(event));
            session.on_time(arrival.at, &mut out, &mut |event| events.push(event));
            out.clear();
        }
        let mut counters = *session.counters();
        counters.fallbacks = 0; // the one thing in which they differ
        (events, counters)
    })
}

/// Both say the same of the frames; what that is.
pub(crate) fn agree(make: Make<'_>, frames: &[Vec<u8>]) -> (Vec<Event>, Counters) {
    let [(fast, fast_counters), (slow, slow_counters)] = run(make, frames);
    let told = |events: &[Event]| events.iter().map(words).collect::<Vec<_>>();
    let shown = || frames.iter().map(|it| String::from_utf8_lossy(it)).collect::<Vec<_>>();
    assert_eq!(told(&fast), told(&slow), "{:?}", shown());
    assert_eq!(fast, slow, "{:?}", shown());
    assert_eq!(fast_counters, slow_counters, "{:?}", shown());
    (fast, fast_counters)
}

/// Frames that no venue sends: none panics, and none becomes a trade, a quote or a level. `spell`
/// makes frames of the venue around a value in place of a price.
pub(crate) fn refuse_hostile(make: Make<'_>, spell: &[&dyn Fn(&str) -> String]) {
    let mut frames: Vec<Vec<u8>> = vec![
        Vec::new(),
        vec![0; 2 << 20],
        vec![b' '; 1 << 16],
        b"[".repeat(1 << 16),
        b"{\"a\":".repeat(1 << 14),
        [b"[".repeat(1 << 12), b"]".repeat(1 << 12)].concat(),
        b"\xFF\xFE{}".to_vec(),
        b"nul".to_vec(),
        b"\"".to_vec(),
    ];
    let deep = format!("{}1{}", "[".repeat(2_000), "]".repeat(2_000));
    let long = format!("\"{}\"", "9".repeat(1 << 16));
    let values = [
        "NaN",
        "Infinity",
        "-1",
        "1e308",
        "\"NaN\"",
        "\"inf\"",
        "\"1e5\"",
        "\"-5\"",
        "\"\"",
        "\"0x10\"",
        "\"1.2.3\"",
        "\"１\"",
        "null",
        "true",
        "{}",
        "[]",
        "\"99999999999999999999\"",
        "\"0.00000000000000000001\"",
        &deep,
        &long,
    ];
    for spell in spell {
        frames.extend(values.iter().map(|value| spell(value).into_bytes()));
        let mut bad = spell("\"1\"").into_bytes();
        if let Some(at) = bad.iter().rposition(|&it| it == b'1') {
            bad[at] = 0xFF;
        }
        frames.push(bad);
    }
    for frame in frames {
        let (events, counters) = agree(make, std::slice::from_ref(&frame));
        let shown = String::from_utf8_lossy(frame.get(..200).unwrap_or(&frame)).into_owned();
        assert!(counters.malformed() > 0, "{shown}");
        for event in events {
            let told = matches!(event.news(), News::Gap { .. } | News::Status { .. });
            assert!(told, "{shown}: {}", words(&event));
            let refused = matches!(event.news(), News::Status { code: StatusCode::VenueError, .. });
            assert!(!refused, "{shown}");
        }
    }
}

/// Frames of a capture, damaged at random, eight a round, the same for the same seed: none panics,
/// and both sessions say the same.
pub(crate) fn fuzz(make: Make<'_>, capture: &Path, seed: u64, rounds: u32) {
    let mut capture = Capture::open(capture).unwrap();
    let mut corpus = Vec::new();
    while capture.advance().unwrap() {
        let frame = capture.frame().unwrap();
        // The longest cost the most time and have the same parts as the others.
        if frame.bytes.len() < 4_000 || frame.kind != FrameKind::Text {
            corpus.push(frame.bytes.get(..8_000).unwrap_or(frame.bytes).to_vec());
        }
    }
    let mut random = Random::new(seed);
    let mut dice = |sides: usize| {
        let most = u64::try_from(sides.saturating_sub(1)).unwrap();
        usize::try_from(random.up_to(most)).unwrap()
    };
    for _ in 0..rounds {
        // Half of the rounds begin as the recording does, often with a book: much is refused without.
        let begins = dice(2) == 0;
        let frames: Vec<Vec<u8>> = (0..8)
            .map(|n| {
                if begins && n == 0 {
                    return corpus[0].clone();
                }
                let mut frame = corpus[dice(corpus.len())].clone();
                for _ in 0..dice(4) {
                    let at = dice(frame.len());
                    let byte = b"\"{}[],:.-09eNa \\u\n\xFF\x00"[dice(19)];
                    let other = &corpus[dice(corpus.len())];
                    match dice(6) {
                        0 => frame.truncate(at),
                        1 => frame.insert(at, byte),
                        2 => frame.extend_from_slice(&other[dice(other.len())..]),
                        3 if !frame.is_empty() => drop(frame.remove(at)),
                        _ if !frame.is_empty() => frame[at] = byte,
                        _ => {}
                    }
                }
                frame
            })
            .collect();
        agree(make, &frames);
    }
}
