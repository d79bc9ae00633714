//! Histograms as files: interval log, percentile distributions, a picture.

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use hdrhistogram::Histogram;
use hdrhistogram::serialization::V2DeflateSerializer;
use hdrhistogram::serialization::interval_log::{IntervalLogWriterBuilder, Tag};
use kairos_engine::latency::{SPANS, SpanSet};

use super::intervals::Intervals;
use super::{Gathered, LatencyArgs};

/// Span names as file and tag names: letters and hyphens.
fn plain(span: &str) -> String {
    span.replace('→', "-")
}

/// Writes what was asked for; the error names the file.
pub(super) fn write(args: &LatencyArgs, all: &mut Gathered) -> Result<(), (PathBuf, io::Error)> {
    let named = |path: &Path| {
        let path = path.to_owned();
        move |error| (path, error)
    };
    if let (Some(path), Some(intervals)) = (&args.hlog, &mut all.intervals) {
        write_hlog(path, intervals).map_err(named(path))?;
    }
    if let Some(dir) = &args.hgrm {
        fs::create_dir_all(dir).map_err(named(dir))?;
        for (span, histogram) in SPANS.iter().zip(&all.total.0).filter(|it| !it.1.is_empty()) {
            let path = dir.join(format!("{}.hgrm", plain(span)));
            fs::write(&path, hgrm(histogram)).map_err(named(&path))?;
        }
    }
    if let Some(path) = &args.svg {
        fs::write(path, svg(&all.total)).map_err(named(path))?;
    }
    Ok(())
}

/// Other readers know the values as nanoseconds and show the largest of an interval in milliseconds.
const NS_PER_MS: f64 = 1e6;

/// One entry per span and interval. Counts are compressed: some readers know nothing else. Times are
/// relative to the start of the first interval, and both headers say so, because readers differ in
/// which one they add.
fn write_hlog(path: &Path, intervals: &mut Intervals) -> io::Result<()> {
    let length = Duration::from_nanos(intervals.length_ns());
    let mut entries = intervals.iter().peekable();
    let first = entries.peek().map_or(0, |it| it.0);
    let mut bytes = Vec::new();
    let mut serializer = V2DeflateSerializer::new();
    let other = |error: &dyn std::fmt::Debug| io::Error::other(format!("{error:?}"));
    let mut log = IntervalLogWriterBuilder::new()
        .add_comment("[Histogram log format version 1.3]")
        .with_start_time(UNIX_EPOCH + Duration::from_nanos(first))
        .with_base_time(UNIX_EPOCH + Duration::from_nanos(first))
        .with_max_value_divisor(NS_PER_MS)
        .begin_log_with(&mut bytes, &mut serializer)
        .map_err(|error| other(&error))?;
    for (start, set) in entries {
        let since = Duration::from_nanos(start - first);
        for (span, histogram) in SPANS.iter().zip(&set.0).filter(|it| !it.1.is_empty()) {
            let name = plain(span);
            log.write_histogram(histogram, since, length, Tag::new(&name))
                .map_err(|error| other(&error))?;
        }
    }
    fs::write(path, bytes)
}

/// The percentile distribution as plotting tools read it, in microseconds. Values are the highest
/// that their bucket holds.
fn hgrm(histogram: &Histogram<u64>) -> String {
    let mut out = String::from("       Value     Percentile TotalCount 1/(1-Percentile)\n\n");
    let mut total = 0;
    for step in histogram.iter_quantiles(5) {
        let quantile = step.quantile_iterated_to();
        let inverse = 1.0 / (1.0 - quantile);
        let value = micros(as_f64(step.value_iterated_to()));
        total += step.count_since_last_iteration();
        // Writing to a String cannot fail.
        let _ = write!(out, "{value:12.3} {quantile:2.12} {total:10}");
        let _ = if inverse.is_finite() { writeln!(out, " {inverse:14.2}") } else { writeln!(out) };
    }
    let (mean, deviation) = (micros(histogram.mean()), micros(histogram.stdev()));
    let _ = writeln!(out, "#[Mean    = {mean:12.3}, StdDeviation   = {deviation:12.3}]");
    let (max, count) = (micros(as_f64(histogram.max())), histogram.len());
    let _ = writeln!(out, "#[Max     = {max:12.3}, Total count    = {count:12}]");
    let _ = writeln!(out, "#[Buckets = {:12}, SubBuckets     = {:12}]", histogram.buckets(), 2_048);
    out
}

fn micros(ns: f64) -> f64 {
    ns / 1e3
}

#[expect(clippy::cast_precision_loss, reason = "for a picture and for people")]
fn as_f64(value: u64) -> f64 {
    value as f64
}

const WIDTH: f64 = 900.0;
const HEIGHT: f64 = 500.0;
const LEFT: f64 = 90.0;
const BOTTOM: f64 = 440.0;
const TOP: f64 = 30.0;
const COLOURS: [&str; 5] = ["#1b6ca8", "#d1495b", "#2e933c", "#8e6c8a", "#e08e45"];

/// Percentile curves: number of nines to the right, nanoseconds upwards, both logarithmic.
fn svg(set: &SpanSet) -> String {
    let most = set.0.iter().map(Histogram::max).max().unwrap_or(1).max(10);
    let decades = as_f64(most).log10().ceil();
    let x = |quantile: f64| LEFT + (1.0 / (1.0 - quantile)).log10() / 5.0 * (WIDTH - LEFT - 150.0);
    let y = |ns: f64| BOTTOM - ns.max(1.0).log10() / decades * (BOTTOM - TOP);
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
         font-family=\"sans-serif\" font-size=\"13\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
    );
    let mut decade = 0.0;
    while decade <= decades {
        let (height, value) = (y(10_f64.powf(decade)), 10_f64.powf(decade));
        let _ = writeln!(
            out,
            "<line x1=\"{LEFT}\" x2=\"{:.0}\" y1=\"{height:.1}\" y2=\"{height:.1}\" stroke=\"#ddd\"/>\
             <text x=\"{:.0}\" y=\"{:.1}\" text-anchor=\"end\">{value:.0} ns</text>",
            WIDTH - 150.0,
            LEFT - 8.0,
            height + 4.0
        );
        decade += 1.0;
    }
    for (quantile, name) in
        [(0.0, "0"), (0.9, "90"), (0.99, "99"), (0.999, "99.9"), (0.9999, "99.99")]
    {
        let _ = writeln!(
            out,
            "<text x=\"{:.1}\" y=\"{:.0}\" text-anchor=\"middle\">{name} %</text>",
            x(quantile),
            BOTTOM + 22.0
        );
    }
    let mut row = 0.0;
    for ((span, histogram), colour) in SPANS.iter().zip(&set.0).zip(COLOURS) {
        if histogram.is_empty() {
            continue;
        }
        let points: Vec<String> = histogram
            .iter_quantiles(10)
            .filter(|it| it.quantile_iterated_to() < 0.999_991)
            .map(|it| {
                let height = y(as_f64(it.value_iterated_to()));
                format!("{:.1},{height:.1}", x(it.quantile_iterated_to()))
            })
            .collect();
        let _ = writeln!(
            out,
            "<polyline fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\" points=\"{}\"/>\
             <text x=\"{:.0}\" y=\"{:.0}\" fill=\"{colour}\">{span}</text>",
            points.join(" "),
            WIDTH - 140.0,
            TOP + 20.0 + row * 20.0
        );
        row += 1.0;
    }
    out.push_str("</svg>\n");
    out
}
