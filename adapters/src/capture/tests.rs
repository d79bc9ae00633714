//! What is written is read back; what can not be read says where and why.

use std::fs;
use std::path::Path;

use kairos_logic::units::Nanos;
use proptest::prelude::*;
use tempfile::{TempDir, tempdir};

use super::*;
use crate::testing::captures;
use crate::testing::mutate::{damage, damaged};

/// Every line of captures that are read together, as `source:line recv kind bytes`, and the error
/// that ends them.
fn read<P: AsRef<Path>>(paths: &[P]) -> (Vec<String>, Option<String>) {
    let folder = paths[0].as_ref().parent().unwrap().to_owned();
    let plain = |error: CaptureError| {
        let text = error.to_string();
        assert!(!text.contains('\n'), "one line: {text}");
        text.replace(&format!("{}/", folder.display()), "")
    };
    let mut lines = Vec::new();
    let mut merge = match Merge::open(paths.iter().map(AsRef::as_ref)) {
        Ok(merge) => merge,
        Err(error) => return (lines, Some(plain(error))),
    };
    loop {
        let next = match merge.peek() {
            Ok(next) => next,
            Err(error) => return (lines, Some(plain(error))),
        };
        let Some(frame) = merge.next().unwrap() else {
            assert_eq!(next, None);
            return (lines, None);
        };
        assert_eq!(next, Some(frame.recv));
        let kind = match frame.kind {
            FrameKind::Text => "text".into(),
            FrameKind::Rest { symbol, .. } => format!("rest {}", symbol.unwrap_or("?")),
        };
        let bytes = String::from_utf8_lossy(frame.bytes);
        lines.push(format!("{}:{} {} {kind} {bytes}", frame.source, frame.line, frame.recv.0));
    }
}

fn write(folder: &TempDir, name: &str, text: impl AsRef<[u8]>) -> std::path::PathBuf {
    let path = folder.path().join(name);
    fs::write(&path, text).unwrap();
    path
}

#[test]
fn what_was_written_is_read() {
    let folder = tempdir().unwrap();
    for name in ["a.frames", "b.frames.gz"] {
        let path = folder.path().join(name);
        let mut writer = CaptureWriter::create(&path).unwrap();
        writer.connected("wss://example.net/ws", Nanos(1));
        writer.sent(Nanos(2), "hello");
        writer.frame(Nanos(10), b"{\"a\":1}").unwrap();
        writer.rest(Nanos(12), "/depth?limit=5&symbol=AAAUSDT", b"{}").unwrap();
        writer.frame(Nanos(11), b"\xff not text").unwrap();
        writer.rest(Nanos(13), "/time", b"").unwrap();
        let refused = writer.frame(Nanos(14), b"two\nlines");
        assert!(matches!(refused, Err(CaptureError::LineEnd { .. })));
        writer.finish().unwrap();
        let (lines, error) = read(&[&path]);
        assert_eq!(error, None, "{name}");
        assert_eq!(
            lines,
            [
                "0:1 10 text {\"a\":1}",
                "0:2 12 rest AAAUSDT {}",
                "0:3 11 text \u{fffd} not text",
                "0:4 13 rest ? ",
            ]
        );
        let session = SessionFile::beside(&path).unwrap().unwrap();
        assert_eq!(session.url.as_deref(), Some("wss://example.net/ws"));
        assert_eq!((session.sent.len(), session.rest.len()), (1, 2));
    }
}

#[test]
fn captures_merge_by_time_and_then_by_place() {
    let folder = tempdir().unwrap();
    let a = write(&folder, "a.frames", "5 a1\n7 a2\n6 a3\n9 a4");
    let b = write(&folder, "b.frames", "5 b1\n6 b2\n7 b3\n");
    let empty = write(&folder, "c.frames", "");
    let (lines, error) = read(&[&a, &b, &empty]);
    assert_eq!(error, None);
    // `a3` steps back: it can not come before `a2`, and then it is the earliest.
    let bytes: Vec<_> = lines.iter().map(|it| it.rsplit(' ').next().unwrap()).collect();
    assert_eq!(bytes, ["a1", "b1", "b2", "a2", "a3", "b3", "a4"]);
    let (lines, _) = read(&[&empty, &b, &a]);
    assert!(lines[0].ends_with("b1") && lines[1].ends_with("a1"), "{lines:?}");
}

#[test]
fn a_session_file_is_optional_but_not_ignored() {
    let folder = tempdir().unwrap();
    let path = write(&folder, "x.frames", "1 REST {}\n2 REST {}\n3 REST {}\n");
    assert_eq!(read(&[&path]).0, ["0:1 1 rest ? {}", "0:2 2 rest ? {}", "0:3 3 rest ? {}"]);
    let session = r#"{"url":null,"more":[1],"rest":[
        {"ns":1,"target":"https://x/depth?symbol=AAA&limit=5","target_inferred":true},
        {"ns":2,"target":"/depth?instId=B-C"}]}"#;
    write(&folder, "x.session.json", session);
    assert_eq!(read(&[&path]).0, ["0:1 1 rest AAA {}", "0:2 2 rest B-C {}", "0:3 3 rest ? {}"]);
    write(&folder, "x.session.json", "{\n\"rest\": 7}");
    let (_, error) = read(&[&path]);
    let error = error.unwrap();
    assert!(error.starts_with("x.session.json: line 2: not a session file: "), "{error}");
}

#[test]
fn what_can_not_be_read_says_where_and_why() {
    let folder = tempdir().unwrap();
    let check = |name: &str, bytes: &[u8], good: usize, want: &str| {
        let path = write(&folder, name, bytes);
        let (lines, error) = read(&[&path]);
        let error = error.expect("an error");
        assert_eq!(lines.len(), good, "{name}: {error}");
        assert!(error.starts_with(want), "{error}\n{want}");
    };
    let rule = "a line begins with nanoseconds since 1970 and one space";
    for (bad, shown) in [
        ("x", "\"x\""),
        ("{\"a\":1}", "\"{\\\"a\\\":1}\""),
        ("12", "\"12\""),
        (" 12 x", "\" 12 x\""),
        ("-1 x", "\"-1 x\""),
        ("12\tx", "\"12\\tx\""),
        ("99999999999999999999 x", "\"99999999999999999999 x\""),
    ] {
        let text = format!("1 a\n2 b\n{bad}\n4 d\n");
        let want = format!("bad.frames: line 3, byte 8 of the text: {shown}: {rule}");
        check("bad.frames", text.as_bytes(), 2, &want);
    }
    let text = b"1 a\n\n \r\nx\n";
    check(
        "blank.frames",
        text,
        1,
        &format!("blank.frames: line 4, byte 8 of the text: \"x\": {rule}"),
    );
    check("empty.frames", b"\n1 a\n\n\r\n2 b\n\nx", 2, "empty.frames: line 7, byte 13 ");
    let not_gzip = "plain.frames.gz: byte 0: not gzip";
    check("plain.frames.gz", b"1 a\n", 0, not_gzip);
    check("plain.frames.gz", b"", 0, not_gzip);

    // A compressed capture that breaks off, and one with a flipped byte.
    let path = folder.path().join("whole.frames.gz");
    let mut writer = CaptureWriter::create(&path).unwrap();
    for n in 0..20_000_u64 {
        let frame = format!("{{\"n\":{}}}", n.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        writer.frame(Nanos(n), frame.as_bytes()).unwrap();
    }
    writer.finish().unwrap();
    let whole = fs::read(&path).unwrap();
    let path = write(&folder, "torn.frames.gz", &whole[..whole.len() / 2]);
    let (lines, error) = read(&[&path]);
    let (good, error) = (lines.len(), error.unwrap());
    assert!(good > 1_000, "what came before is good: {good}");
    let want = format!("torn.frames.gz: line {}, byte ", good + 1);
    assert!(error.starts_with(&want) && error.ends_with("the file is cut off"), "{error}");

    let mut flipped = whole.clone();
    let last = flipped.len() - 6; // in the checksum
    flipped[last] ^= 1;
    let path = write(&folder, "flipped.frames.gz", &flipped);
    let error = read(&[&path]).1.unwrap();
    assert!(error.contains("cannot read"), "{error}");

    fs::create_dir(folder.path().join("folder.frames")).unwrap();
    let error = read(&[folder.path().join("folder.frames")]).1.unwrap();
    assert!(error.starts_with("folder.frames: cannot open: is a directory"), "{error}");
    let error = read(&[folder.path().join("absent.frames")]).1.unwrap();
    assert!(error.starts_with("absent.frames: cannot open: "), "{error}");
}

#[test]
fn compressed_captures_may_consist_of_several_streams() {
    let folder = tempdir().unwrap();
    let mut joined = Vec::new();
    for n in 0..3_u64 {
        let path = folder.path().join("part.frames.gz");
        let mut writer = CaptureWriter::create(&path).unwrap();
        writer.frame(Nanos(n), b"x").unwrap();
        writer.finish().unwrap();
        joined.extend(fs::read(&path).unwrap());
    }
    let path = write(&folder, "joined.frames.gz", &joined);
    assert_eq!(read(&[&path]).0, ["0:1 0 text x", "0:2 1 text x", "0:3 2 text x"]);
}

#[test]
fn a_line_has_a_limit() {
    let folder = tempdir().unwrap();
    let mut text = b"1 ".to_vec();
    text.resize(LINE_MAX, b'x');
    text.push(b'\n');
    let path = write(&folder, "long.frames", &text);
    let error = read(&[&path]).1.unwrap();
    assert!(error.starts_with("long.frames: line 1, byte 0 of the text: a line has at"), "{error}");
    text.remove(2);
    let path = write(&folder, "long.frames", &text);
    let (lines, error) = read(&[&path]);
    assert_eq!((lines.len(), error), (1, None));
}

#[test]
fn every_recorded_file_is_read_to_its_end() {
    let Some(folder) = captures() else { return };
    for (name, lines, rests) in [
        ("binance/btcusdt_20240808.frames.gz", 41_249, 1),
        ("binance/ethusdt_20240808.frames.gz", 33_618, 1),
        ("binance/multi_20211012.frames.gz", 269, 4),
        ("instruments/binance_20211012.rest.gz", 1, 1),
        ("okx/books_20220513.frames.gz", 410, 0),
        ("coinbase/advanced_20260809_head.frames.gz", 220, 0),
        ("kraken/book10_btcusd_20230730.frames.gz", 150, 0),
        ("kucoin/level2_20210425.frames.gz", 659, 0),
    ] {
        let mut capture = Capture::open(folder.join(name)).unwrap();
        assert!(capture.session().is_some(), "{name}");
        let (mut read, mut named) = (0, 0);
        while capture.advance().unwrap() {
            read += 1;
            match capture.frame().unwrap().kind {
                FrameKind::Rest { target: Some(_), .. } => named += 1,
                FrameKind::Text | FrameKind::Rest { target: None, .. } => {}
            }
        }
        assert_eq!(read, lines, "{name}");
        if name.contains("binance") {
            assert_eq!(named, rests, "{name}");
        }
    }
}

proptest! {
    #[test]
    fn any_frame_without_a_line_end_survives(
        frames in prop::collection::vec(
            (any::<u64>(), prop::collection::vec(any::<u8>(), 0..40), any::<bool>()),
            0..20,
        ),
    ) {
        let folder = tempdir().unwrap();
        let path = folder.path().join("x.frames.gz");
        let mut writer = CaptureWriter::create(&path).unwrap();
        let mut want = Vec::new();
        for (recv, bytes, rest) in &frames {
            let bytes: Vec<u8> = bytes.iter().copied().filter(|it| *it != b'\n').collect();
            // A text frame that begins like a REST line can not be told from one.
            let rest = *rest || bytes.starts_with(b"REST ");
            if rest {
                writer.rest(Nanos(*recv), "/t", &bytes).unwrap();
            } else {
                writer.frame(Nanos(*recv), &bytes).unwrap();
            }
            want.push((*recv, bytes, rest));
        }
        writer.finish().unwrap();
        let mut capture = Capture::open(&path).unwrap();
        let mut read = Vec::new();
        while capture.advance().unwrap() {
            let frame = capture.frame().unwrap();
            let rest = matches!(frame.kind, FrameKind::Rest { .. });
            read.push((frame.recv.0, frame.bytes.to_vec(), rest));
        }
        prop_assert_eq!(read, want);
    }

    #[test]
    fn a_damaged_capture_is_read_up_to_its_damage(
        damages in prop::collection::vec((any::<prop::sample::Index>(), damage()), 1..6),
        packed in any::<bool>(),
    ) {
        let folder = tempdir().unwrap();
        let name = if packed { "x.frames.gz" } else { "x.frames" };
        let path = folder.path().join(name);
        let mut writer = CaptureWriter::create(&path).unwrap();
        for n in 0..40_u64 {
            let frame = format!("{{\"e\":\"trade\",\"n\":{n}}}");
            match n % 7 {
                0 => writer.rest(Nanos(n), "/depth?symbol=A", frame.as_bytes()).unwrap(),
                _ => writer.frame(Nanos(n), frame.as_bytes()).unwrap(),
            }
        }
        writer.finish().unwrap();
        let whole = read(&[&path]).0;
        let bytes = fs::read(&path).unwrap();
        let bad = damaged(&bytes, &damages);
        let first = bytes.iter().zip(&bad).take_while(|(a, b)| a == b).count();
        fs::write(&path, &bad).unwrap();
        // An error is one line that names the file, or there is none; nobody panics.
        let (lines, error) = read(&[&path]);
        prop_assert!(error.is_none_or(|it| it.starts_with(name) || it.starts_with("x.session.json")));
        if !packed {
            let good = bytes[..first].iter().filter(|it| **it == b'\n').count();
            prop_assert_eq!(&lines[..good], &whole[..good]);
        }
    }
}
