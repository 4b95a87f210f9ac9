//! How long things take, counted in buckets: a plain value that anybody may read at any time.
//!
//! It knows nothing of the one who exports it. All histograms have the same bounds, so that they can be laid beside one
//! another, and so that their number of series is known.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The buckets' upper bounds in seconds, the last one (which takes all) left out: from a tenth of a millisecond, which a
/// message takes, to ten minutes, which the longest command may.
pub const BOUNDS: [f64; 20] = [
    0.0001, 0.000_25, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0,
    120.0, 600.0,
];

/// Durations, counted by their length. Each count is right; a reader that comes in between two of them may see a sum that
/// is one observation ahead.
#[derive(Debug, Default)]
pub struct Histogram {
    within: [AtomicU64; BOUNDS.len()],
    beyond: AtomicU64,
    sum_nanos: AtomicU64,
}

/// What a histogram held at one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct Distribution {
    /// The sum of all durations, in seconds.
    pub sum: f64,
    /// How many there were.
    pub count: u64,
    /// How many lay in each bucket and in none before it, each with its upper bound in seconds; the last is infinite.
    pub buckets: Vec<(f64, u64)>,
}

impl Histogram {
    /// Counts one duration.
    pub fn observe(&self, duration: Duration) {
        let seconds = duration.as_secs_f64();
        let bucket = BOUNDS.iter().zip(&self.within).find(|(bound, _)| seconds <= **bound).map(|(_, count)| count);
        bucket.unwrap_or(&self.beyond).fetch_add(1, Ordering::Relaxed);
        // Five centuries of waiting fit in.
        self.sum_nanos.fetch_add(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// What was counted so far.
    #[must_use]
    pub fn distribution(&self) -> Distribution {
        let bounds = BOUNDS.iter().copied().chain([f64::INFINITY]);
        let counts = self.within.iter().chain([&self.beyond]).map(|count| count.load(Ordering::Relaxed));
        let buckets: Vec<(f64, u64)> = bounds.zip(counts).collect();
        let sum = Duration::from_nanos(self.sum_nanos.load(Ordering::Relaxed)).as_secs_f64();
        Distribution { sum, count: buckets.iter().map(|(_, count)| count).sum(), buckets }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_falls_into_the_first_bucket_that_holds_it() {
        let histogram = Histogram::default();
        for millis in [1, 2, 3_600_000] {
            histogram.observe(Duration::from_millis(millis));
        }
        let seen = histogram.distribution();
        assert_eq!((seen.count, seen.sum), (3, 3600.003));
        let filled: Vec<(f64, u64)> = seen.buckets.into_iter().filter(|(_, count)| *count > 0).collect();
        assert_eq!(filled, [(0.001, 1), (0.0025, 1), (f64::INFINITY, 1)]);
    }

    #[test]
    fn the_bounds_rise() {
        assert!(BOUNDS.is_sorted());
    }
}
