//! `journal latency`: spans by group and interval, and the files for other tools.

use std::fs;

use hdrhistogram::Histogram;
use hdrhistogram::serialization::Deserializer;
use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};
use serde_json::Value;

use crate::harness::journal;
use crate::journals::Traded;

const SPANS: [&str; 5] = ["recv→in", "in→strategy", "strategy→risk", "risk→sent", "tick→order"];

fn count(of: &Value, span: &str) -> u64 {
    of[span]["count"].as_u64().unwrap_or(0)
}

#[test]
fn spans_have_percentiles_and_add_up() {
    let traded = Traded::new();
    let total = journal("latency", &traded.journal(), "--json").expect(0).document();
    for span in SPANS {
        let row = &total[span];
        for key in ["count", "p50_ns", "p90_ns", "p99_ns", "p999_ns", "max_ns"] {
            assert!(row.get(key).is_some(), "{key} of {span} in {total}");
        }
        let values: Vec<u64> = ["p50_ns", "p90_ns", "p99_ns", "p999_ns", "max_ns"]
            .iter()
            .filter_map(|key| row[key].as_u64())
            .collect();
        // A histogram of three digits rounds its percentiles up by less than a thousandth.
        let is_sorted = values.windows(2).all(|it| it[0] <= it[1] + it[1] / 1_000 + 1);
        assert!(is_sorted, "{span}: {values:?}");
    }
    let dump = journal("dump", &traded.journal(), "--kind report").expect(0);
    let sent = dump.lines().iter().filter(|line| line["state"] == "sent").count() as u64;
    assert_eq!((count(&total, "tick→order"), count(&total, "risk→sent")), (sent, sent));

    for (by, key) in [("venue", "venues"), ("instrument", "instruments")] {
        let options = format!("--json --by {by}");
        let said = journal("latency", &traded.journal(), &options).expect(0).document();
        for span in SPANS {
            assert_eq!(said[span], total[span]);
            let parts = said[key].as_object().unwrap().values();
            assert_eq!(parts.map(|it| count(it, span)).sum::<u64>(), count(&total, span), "{by}");
        }
    }
    let said =
        journal("latency", &traded.journal(), "--json --interval 500ms").expect(0).document();
    let intervals = said["intervals"].as_array().unwrap();
    assert!((4..=6).contains(&intervals.len()), "{said}");
    for span in SPANS {
        let sum = intervals.iter().map(|it| count(&it["spans"], span)).sum::<u64>();
        assert_eq!(sum, count(&total, span));
    }
    let text = journal("latency", &traded.journal(), "--by instrument").expect(0).out;
    assert!(SPANS.iter().all(|span| text.contains(span)) && text.contains("ETHBTC"), "{text}");
}

/// Standard alphabet, padded: what interval logs use.
fn base64(text: &str) -> Vec<u8> {
    let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let (mut bits, mut held, mut bytes) = (0_u32, 0, Vec::new());
    for symbol in text.trim_end_matches('=').bytes() {
        let value = alphabet.iter().position(|it| *it == symbol).unwrap();
        bits = (bits << 6) | u32::try_from(value).unwrap();
        held += 6;
        if held >= 8 {
            held -= 8;
            bytes.push(u8::try_from(bits >> held).unwrap());
            bits &= (1 << held) - 1;
        }
    }
    bytes
}

#[test]
fn an_interval_log_reads_back_by_its_own_reader() {
    let traded = Traded::new();
    let file = traded.beside("run.hlog");
    let options = format!("--json --interval 500ms --hlog {}", file.display());
    let total = journal("latency", &traded.journal(), &options).expect(0).document();
    let bytes = fs::read(file).unwrap();
    let mut counts = [0; SPANS.len()];
    let mut starts = Vec::new();
    for entry in IntervalLogIterator::new(&bytes) {
        let LogEntry::Interval(interval) = entry.unwrap() else { continue };
        let tag = interval.tag().unwrap().as_str().to_owned();
        let span = SPANS.iter().position(|it| it.replace('→', "-") == tag).unwrap();
        // Compressed, version 2: the only encoding that every reader knows.
        assert!(interval.encoded_histogram().starts_with("HISTFAAAA"));
        let encoded = base64(interval.encoded_histogram());
        let histogram: Histogram<u64> =
            Deserializer::new().deserialize(&mut encoded.as_slice()).unwrap();
        counts[span] += histogram.len();
        let max_ms = format!("{:.3}", histogram.max() as f64 / 1e6);
        assert_eq!(format!("{:.3}", interval.max()), max_ms, "the largest is in milliseconds");
        starts.push(interval.start_timestamp());
        assert_eq!(interval.duration().as_millis(), 500);
    }
    for (span, counted) in SPANS.iter().zip(counts) {
        assert_eq!(counted, count(&total, span), "{span}");
    }
    assert!(starts.is_sorted() && starts.len() > SPANS.len(), "{starts:?}");
    let text = String::from_utf8(bytes).unwrap();
    for header in ["#[Histogram log format version 1.3]", "#[StartTime: 17", "#[BaseTime: 17"] {
        assert!(text.contains(header), "{header} in {text}");
    }
}

#[test]
fn an_interval_log_has_seconds_where_no_interval_is_given() {
    let traded = Traded::new();
    let file = traded.beside("run.hlog");
    let options = format!("--json --hlog {}", file.display());
    let said = journal("latency", &traded.journal(), &options).expect(0).document();
    assert!(said.get("intervals").is_none(), "{said}");
    let bytes = fs::read(file).unwrap();
    let mut starts = Vec::new();
    for entry in IntervalLogIterator::new(&bytes) {
        let LogEntry::Interval(interval) = entry.unwrap() else { continue };
        assert_eq!(interval.duration().as_secs(), 1);
        starts.push(interval.start_timestamp().as_secs());
    }
    starts.dedup();
    assert!((2..=4).contains(&starts.len()) && starts[0] == 0, "{starts:?}");
}

#[test]
fn percentile_distributions_grow_to_one() {
    let traded = Traded::new();
    let dir = traded.beside("curves");
    let options = format!("--json --hgrm {}", dir.display());
    let total = journal("latency", &traded.journal(), &options).expect(0).document();
    for span in SPANS {
        let text =
            fs::read_to_string(dir.join(format!("{}.hgrm", span.replace('→', "-")))).unwrap();
        assert!(text.trim_start().starts_with("Value     Percentile TotalCount"), "{text}");
        let rows: Vec<[f64; 3]> = text
            .lines()
            .filter(|line| !line.trim().is_empty() && !line.contains(['#', 'V']))
            .map(|line| {
                let mut fields = line.split_whitespace().map(|field| field.parse().unwrap());
                [fields.next().unwrap(), fields.next().unwrap(), fields.next().unwrap()]
            })
            .collect();
        let columns = [0, 1, 2].map(|n| rows.iter().map(|row| row[n]).collect::<Vec<f64>>());
        assert!(columns.iter().all(|column| column.is_sorted()), "{span}: {text}");
        let [_, quantile, seen] = *rows.last().unwrap();
        let all = f64::from(u32::try_from(count(&total, span)).unwrap());
        assert_eq!(
            (quantile.to_bits(), seen.to_bits()),
            (1_f64.to_bits(), all.to_bits()),
            "{span}"
        );
        assert!(text.contains("#[Mean") && text.contains("#[Max"), "{text}");
        let max_ns = total[span]["max_ns"].as_u64().unwrap();
        let largest = columns[0].last().unwrap() * 1e3;
        assert!((largest - max_ns as f64).abs() < 1.0, "{largest} of {max_ns}: microseconds");
    }
}

/// Checks that tags nest and close, and that attributes are quoted.
fn is_well_formed(text: &str) -> bool {
    let mut open = Vec::new();
    for part in text.split('<').skip(1) {
        let Some((tag, between)) = part.split_once('>') else { return false };
        if between.contains('&') || !tag.matches('"').count().is_multiple_of(2) {
            return false;
        }
        let name = tag.trim_start_matches('/').split([' ', '/']).next().unwrap_or_default();
        if tag.starts_with('/') {
            if open.pop() != Some(name) {
                return false;
            }
        } else if !tag.ends_with('/') {
            open.push(name);
        }
    }
    open.is_empty()
}

#[test]
fn a_picture_is_well_formed_and_shows_every_span() {
    let traded = Traded::new();
    let file = traded.beside("run.svg");
    journal("latency", &traded.journal(), &format!("--svg {}", file.display())).expect(0);
    let text = fs::read_to_string(&file).unwrap();
    assert!(text.starts_with("<svg ") && is_well_formed(&text), "{text}");
    assert_eq!(text.matches("<polyline").count(), SPANS.len());
    assert!(SPANS.iter().all(|span| text.contains(span)));
    assert!(!text.contains("NaN") && !text.contains("inf"), "{text}");
    assert!(!is_well_formed("<a><b></a></b>") && !is_well_formed("<a x=\"1><b/></a>"));
}

#[test]
fn a_file_that_cannot_be_written_is_a_failure() {
    let traded = Traded::new();
    let absent = traded.beside("absent").join("x");
    for option in ["--hlog", "--svg"] {
        let said = journal("latency", &traded.journal(), &format!("{option} {}", absent.display()));
        let said = said.expect(1);
        assert!(said.err.contains("absent"), "{said:?}");
    }
}
