//! What became of the requests.

use std::time::Duration;

use super::load::Request;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// Answered within the deadline.
    InTime,
    /// Answered when nobody waited any more.
    Late,
    /// Refused at once: the client has had more than its share.
    OverQuota,
    /// Refused at once: the service is full.
    Full,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Served {
    pub(crate) request: Request,
    pub(crate) fate: Fate,
    /// From the request to the answer.
    pub(crate) took: Duration,
}

/// Sums over some requests.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally {
    pub(crate) asked: usize,
    pub(crate) in_time: usize,
    pub(crate) late: usize,
    pub(crate) over_quota: usize,
    pub(crate) full: usize,
    /// Of the answers, good or late.
    times: Vec<Duration>,
}

impl Tally {
    pub(crate) fn of(served: &[Served], filter: impl Fn(&Request) -> bool) -> Self {
        let mut tally = Self::default();
        for one in served.iter().filter(|one| filter(&one.request)) {
            tally.asked += 1;
            match one.fate {
                Fate::InTime => tally.in_time += 1,
                Fate::Late => tally.late += 1,
                Fate::OverQuota => tally.over_quota += 1,
                Fate::Full => tally.full += 1,
            }
            if matches!(one.fate, Fate::InTime | Fate::Late) {
                tally.times.push(one.took);
            }
        }
        tally.times.sort();
        tally
    }

    /// Requests that had an answer, or a refusal.
    pub(crate) fn ended(&self) -> usize {
        self.in_time + self.late + self.over_quota + self.full
    }

    pub(crate) fn share(&self) -> f64 {
        match self.asked {
            0 => 0.0,
            asked => self.in_time as f64 / asked as f64,
        }
    }

    /// The time that 99 of 100 answers take at most.
    pub(crate) fn p99(&self) -> Duration {
        let index = (self.times.len() * 99).div_ceil(100);
        let index = index.saturating_sub(1);
        self.times.get(index).copied().unwrap_or_default()
    }
}
