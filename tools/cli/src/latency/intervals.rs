//! Histograms by interval. One is open; the others are packed, so that a day of seconds fits into
//! memory.

use std::collections::BTreeMap;

use hdrhistogram::serialization::{Deserializer, Serializer as _, V2Serializer};
use kairos_engine::latency::{SPANS, SpanSet};

/// Most intervals that are kept apart: 18 hours of seconds. Packed, one takes some hundred bytes
/// per span.
pub(super) const INTERVALS_MAX: usize = 1 << 16;

/// One serialized histogram per span; empty where nothing was measured.
type Packed = [Vec<u8>; SPANS.len()];

/// What was measured, by the start of the interval.
pub(super) struct Intervals {
    length_ns: u64,
    open_at: Option<u64>,
    open: SpanSet,
    /// The open one is not among them.
    packed: BTreeMap<u64, Packed>,
}

impl Intervals {
    /// None yet. `length_ns` is positive.
    pub(super) fn new(length_ns: u64) -> Self {
        Self { length_ns, open_at: None, open: SpanSet::default(), packed: BTreeMap::new() }
    }

    /// How long each is.
    pub(super) const fn length_ns(&self) -> u64 {
        self.length_ns
    }

    /// Adds a value to the interval that holds `at_ns`, nanoseconds since the Unix epoch. `false`
    /// where that would be one interval too many.
    pub(super) fn record(&mut self, at_ns: u64, span: usize, ns: u64) -> bool {
        let start = at_ns - at_ns % self.length_ns;
        if self.open_at != Some(start) && !self.turn_to(start) {
            return false;
        }
        self.open.record(span, ns);
        true
    }

    /// Packs the open interval and opens another. Time may step back, between venues and between
    /// runs over the same capture: then that one is unpacked and continued.
    fn turn_to(&mut self, start: u64) -> bool {
        let known = self.packed.len() + usize::from(self.open_at.is_some());
        if known >= INTERVALS_MAX && !self.packed.contains_key(&start) {
            return false;
        }
        if let Some(before) = self.open_at.replace(start) {
            self.packed.insert(before, pack(&self.open));
        }
        self.open = self.packed.remove(&start).map_or_else(SpanSet::default, |it| unpack(&it));
        true
    }

    /// Every interval in the order of time.
    pub(super) fn iter(&mut self) -> impl Iterator<Item = (u64, SpanSet)> {
        if let Some(start) = self.open_at.take() {
            self.packed.insert(start, pack(&self.open));
        }
        self.packed.iter().map(|(start, packed)| (*start, unpack(packed)))
    }
}

fn pack(set: &SpanSet) -> Packed {
    let mut serializer = V2Serializer::new();
    set.0.each_ref().map(|histogram| {
        let mut bytes = Vec::new();
        if !histogram.is_empty() {
            serializer
                .serialize(histogram, &mut bytes)
                .expect("memory takes a histogram of at most 27 648 counts");
        }
        bytes.shrink_to_fit();
        bytes
    })
}

fn unpack(packed: &Packed) -> SpanSet {
    let mut set = SpanSet::default();
    for (histogram, bytes) in set.0.iter_mut().zip(packed) {
        if !bytes.is_empty() {
            *histogram = Deserializer::new()
                .deserialize(&mut bytes.as_slice())
                .expect("what was packed is unpacked");
        }
    }
    set
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_may_step_back_into_an_earlier_interval() {
        let mut intervals = Intervals::new(10);
        for (at, ns) in [(100, 1), (112, 2), (109, 3), (131, 4), (119, 5), (100, 59_000_000_000)] {
            assert!(intervals.record(at, 0, ns));
        }
        let read = |intervals: &mut Intervals| -> Vec<(u64, u64, u64)> {
            intervals.iter().map(|(start, it)| (start, it.0[0].len(), it.0[0].max())).collect()
        };
        let seen = read(&mut intervals);
        let starts: Vec<u64> = seen.iter().map(|it| it.0).collect();
        assert_eq!(starts, [100, 110, 130]);
        let counts: Vec<u64> = seen.iter().map(|it| it.1).collect();
        assert_eq!(counts, [3, 2, 1]);
        assert!(seen[0].2 >= 59_000_000_000 && seen[1].2 == 5, "{seen:?}");
        assert_eq!(read(&mut intervals), seen, "reading changes nothing");
    }

    #[test]
    fn one_interval_too_many_is_refused_and_the_known_ones_go_on() {
        let mut intervals = Intervals::new(1);
        let max = u64::try_from(INTERVALS_MAX).unwrap();
        intervals.packed = (0..max).map(|start| (start, Packed::default())).collect();
        assert!(!intervals.record(max, 0, 1));
        assert!(intervals.record(0, 0, 1));
        assert!(!intervals.record(max, 0, 1));
        assert!(intervals.record(max - 1, 0, 1));
        assert_eq!(intervals.iter().count(), INTERVALS_MAX);
    }
}
