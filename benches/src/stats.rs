//! Samples of interleaved rounds, and what may be said of them.
//!
//! Rows that are compared run in turn, round by round: the host changes its mood within seconds, so
//! a ratio is formed within each round, and the median of the rounds' ratios is the result.

use serde::Serialize;

/// Rounds of every comparison.
pub(crate) const ROUNDS: usize = 7;
/// A percentile needs so many samples beyond it; otherwise it is an anecdote and left blank.
const BEYOND_MIN: f64 = 100.0;

/// The samples of one row, by round. In nanoseconds; where one operation is too short for the
/// clock, a sample is the mean of several.
#[derive(Debug)]
pub(crate) struct Series {
    name: String,
    per_sample: u64,
    rounds: Vec<Vec<f64>>, // each ascending
}

/// One line of the result.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Row {
    /// Name.
    pub(crate) name: String,
    /// Operations measured.
    pub(crate) count: u64,
    /// Mean of all.
    pub(crate) mean_ns: f64,
    /// Median of the rounds' medians.
    pub(crate) p50_ns: Option<f64>,
    /// Median of the rounds' percentiles.
    pub(crate) p90_ns: Option<f64>,
    /// Median of the rounds' percentiles.
    pub(crate) p99_ns: Option<f64>,
    /// Of all rounds together.
    pub(crate) p999_ns: Option<f64>,
    /// Of all rounds together.
    pub(crate) p9999_ns: Option<f64>,
    /// The longest.
    pub(crate) max_ns: f64,
    /// The lowest of the rounds' medians.
    pub(crate) p50_min_ns: f64,
    /// The highest.
    pub(crate) p50_max_ns: f64,
    /// Operations that one sample is the mean of.
    pub(crate) per_sample: u64,
}

/// A ratio of two rows.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Ratio {
    /// Median of the rounds.
    pub(crate) median: f64,
    /// The lowest of a round.
    pub(crate) min: f64,
    /// The highest.
    pub(crate) max: f64,
}

impl Ratio {
    /// Something that was counted, not compared.
    pub(crate) const fn exactly(value: f64) -> Self {
        Self { median: value, min: value, max: value }
    }

    /// The median and the ends of several values; `None` of none.
    pub(crate) fn of(mut values: Vec<f64>) -> Option<Self> {
        values.sort_unstable_by(f64::total_cmp);
        let (&min, &max) = (values.first()?, values.last()?);
        Some(Self { median: quantile(&values, 0.5), min, max })
    }
}

impl Series {
    /// An empty row; `per_sample` operations make a sample.
    pub(crate) fn new(name: impl Into<String>, per_sample: u64) -> Self {
        Self { name: name.into(), per_sample, rounds: Vec::new() }
    }

    /// Adds a round. Rounds without samples are kept, so that rounds of several rows stay paired.
    pub(crate) fn push(&mut self, mut samples: Vec<f64>) {
        samples.sort_unstable_by(f64::total_cmp);
        self.rounds.push(samples);
    }

    /// Whether nothing was measured.
    pub(crate) fn is_empty(&self) -> bool {
        self.rounds.iter().all(Vec::is_empty)
    }

    /// Median of the rounds' medians.
    pub(crate) fn median(&self) -> Option<f64> {
        self.over_rounds(0.5)
    }

    fn over_rounds(&self, q: f64) -> Option<f64> {
        let values = self.rounds.iter().filter(|it| !it.is_empty()).map(|it| quantile(it, q));
        Ratio::of(values.collect()).map(|it| it.median)
    }

    /// What is printed.
    #[expect(clippy::cast_precision_loss, reason = "counts of samples")]
    pub(crate) fn row(&self) -> Row {
        let mut all: Vec<f64> = self.rounds.iter().flatten().copied().collect();
        all.sort_unstable_by(f64::total_cmp);
        let samples = all.len() as f64;
        let enough = |beyond: f64| samples * beyond >= BEYOND_MIN;
        let medians = self.rounds.iter().filter(|it| !it.is_empty()).map(|it| quantile(it, 0.5));
        let medians = Ratio::of(medians.collect()).unwrap_or(Ratio::exactly(0.0));
        Row {
            name: self.name.clone(),
            count: all.len() as u64 * self.per_sample,
            mean_ns: if all.is_empty() { 0.0 } else { all.iter().sum::<f64>() / samples },
            p50_ns: self.over_rounds(0.5),
            p90_ns: if enough(0.1) { self.over_rounds(0.9) } else { None },
            p99_ns: if enough(0.01) { self.over_rounds(0.99) } else { None },
            p999_ns: enough(0.001).then(|| quantile(&all, 0.999)),
            p9999_ns: enough(0.000_1).then(|| quantile(&all, 0.999_9)),
            max_ns: all.last().copied().unwrap_or(0.0),
            p50_min_ns: medians.min,
            p50_max_ns: medians.max,
            per_sample: self.per_sample,
        }
    }

    /// This row's percentile over the other's, round by round.
    pub(crate) fn over(&self, other: &Self, q: f64) -> Option<Ratio> {
        let pairs = self.rounds.iter().zip(&other.rounds);
        let both = pairs.filter(|(a, b)| !a.is_empty() && !b.is_empty());
        let ratio = |(a, b): (&Vec<f64>, &Vec<f64>)| quantile(a, q) / quantile(b, q);
        Ratio::of(both.map(ratio).filter(|it| it.is_finite()).collect())
    }

    /// This row's percentile less the other's, round by round.
    pub(crate) fn less(&self, other: &Self, q: f64) -> Option<Ratio> {
        let pairs = self.rounds.iter().zip(&other.rounds);
        let both = pairs.filter(|(a, b)| !a.is_empty() && !b.is_empty());
        Ratio::of(both.map(|(a, b)| quantile(a, q) - quantile(b, q)).collect())
    }
}

/// The value below which the share `q` of the ascending, non-empty `sorted` lies.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a place in a list of far fewer than 2^53 samples"
)]
fn quantile(sorted: &[f64], q: f64) -> f64 {
    let last = sorted.len().saturating_sub(1);
    let place = (last as f64 * q).round() as usize;
    sorted.get(place.min(last)).copied().unwrap_or(f64::NAN)
}

/// Means of `size` samples that follow on each other: finer than the step of the clock. Whoever
/// needs the order must call it before [`Series::push`].
#[expect(clippy::cast_precision_loss, reason = "a handful of samples")]
pub(crate) fn means(samples: &[f64], size: usize) -> Vec<f64> {
    samples.chunks_exact(size).map(|it| it.iter().sum::<f64>() / size as f64).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(rounds: &[&[f64]]) -> Series {
        let mut series = Series::new("row", 2);
        rounds.iter().for_each(|it| series.push(it.to_vec()));
        series
    }

    #[test]
    fn a_ratio_is_the_median_of_the_rounds_and_not_the_ratio_of_medians() {
        // One round in which everything was ten times slower changes neither.
        let a = series(&[&[30.0, 30.0, 31.0], &[300.0, 300.0, 300.0], &[20.0, 20.0, 20.0]]);
        let b = series(&[&[10.0], &[100.0], &[20.0]]);
        let ratio = a.over(&b, 0.5).unwrap();
        assert_eq!((ratio.min, ratio.median, ratio.max), (1.0, 3.0, 3.0));
        assert_eq!(a.over(&series(&[]), 0.5), None);
    }

    #[test]
    fn percentiles_without_samples_beyond_them_are_blank() {
        let thousand: Vec<f64> = (0..1_000).map(f64::from).collect();
        let row = series(&[&thousand]).row();
        assert_eq!((row.count, row.max_ns, row.p50_ns), (2_000, 999.0, Some(500.0)));
        assert!(row.p90_ns.is_some());
        assert_eq!((row.p99_ns, row.p999_ns), (None, None));
        let many: Vec<f64> = (0..10_000).map(f64::from).collect();
        assert!(series(&[&many]).row().p99_ns.is_some());
    }

    #[test]
    fn means_are_of_samples_in_their_order() {
        assert_eq!(means(&[1.0, 3.0, 10.0, 20.0, 5.0], 2), [2.0, 15.0]);
    }
}
