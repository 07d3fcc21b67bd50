//! A percentile of the latest latencies, as a pure function of what was recorded.

use std::time::Duration;

/// How many latencies are remembered.
const KEPT: usize = 256;
/// Before there are so many, there is no percentile.
const FEWEST: usize = 20;
/// So many new ones may come before the percentile is found anew, which takes some microseconds.
const STALE: usize = 16;

/// The latest latencies, of which the oldest is forgotten for the newest.
pub(super) struct Latencies {
    /// In nanoseconds.
    ring: Vec<u64>,
    oldest: usize,
    percentile: f64,
    found: Option<u64>,
    since: usize,
}

impl Latencies {
    /// Of which the `percentile`, between 0 and 100, is asked for.
    pub(super) fn new(percentile: f64) -> Self {
        Self {
            ring: Vec::with_capacity(KEPT),
            oldest: 0,
            percentile,
            found: None,
            since: 0,
        }
    }

    pub(super) fn record(&mut self, latency: Duration) {
        let nanos = u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX);
        if self.ring.len() < KEPT {
            self.ring.push(nanos);
        } else {
            self.ring[self.oldest] = nanos;
            self.oldest = (self.oldest + 1) % KEPT;
        }
        self.since += 1;
        if self.ring.len() >= FEWEST && (self.found.is_none() || self.since >= STALE) {
            self.find();
        }
    }

    /// The percentile by nearest rank: a latency that was recorded.
    fn find(&mut self) {
        let mut sorted = self.ring.clone();
        let rank = (self.percentile / 100.0 * sorted.len() as f64).ceil() as usize;
        let rank = rank.clamp(1, sorted.len()) - 1;
        self.found = Some(*sorted.select_nth_unstable(rank).1);
        self.since = 0;
    }

    pub(super) fn percentile(&self) -> Option<Duration> {
        self.found.map(Duration::from_nanos)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(latencies: impl IntoIterator<Item = u64>, percentile: f64) -> Option<u64> {
        let mut all = Latencies::new(percentile);
        let record = |ms| all.record(Duration::from_millis(ms));
        latencies.into_iter().for_each(record);
        all.percentile().map(|found| found.as_millis() as u64)
    }

    #[test]
    fn there_is_no_percentile_of_a_few() {
        assert_eq!(of(1..=19, 50.0), None);
        assert_eq!(of(1..=20, 50.0), Some(10));
        assert_eq!(of(1..=20, 95.0), Some(19));
        assert_eq!(of(1..=20, 0.0), Some(1));
        assert_eq!(of(1..=20, 100.0), Some(20));
    }

    #[test]
    fn it_is_found_anew_every_sixteen_and_forgets_the_oldest() {
        assert_eq!(of(1..=35, 100.0), Some(20));
        assert_eq!(of(1..=36, 100.0), Some(36));
        let (slow, quick) = ([900; 256], [5; 256]);
        assert_eq!(of(slow.into_iter().chain(quick), 95.0), Some(5));
        let (slow, quick) = ([900; 256], [5; 200]);
        assert_eq!(of(slow.into_iter().chain(quick), 95.0), Some(900));
    }
}
