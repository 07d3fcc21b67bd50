//! The requests: who asks, and when. Open loop: nobody waits for an answer before the next one asks.

use std::time::Duration;

/// Requests in a second, when all is as usual.
pub(crate) const USUAL: u32 = 60;
/// How many times that comes in the rush.
pub(crate) const TIMES: u32 = 17;
/// Of the rush, how many times the usual load comes from those who always come.
const REGULARS_TIMES: u32 = 3;
const REGULARS: u32 = 40;
/// Clients that retry in a loop: they bring the rest.
const GREEDY: u32 = 6;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Request {
    /// Since the beginning.
    pub(crate) at: Duration,
    pub(crate) client: u32,
    pub(crate) in_rush: bool,
}

impl Request {
    pub(crate) fn is_greedy(self) -> bool {
        self.client >= REGULARS
    }
}

/// The requests of a rush that lasts for `part`, and of as long after it, in the order of their times.
pub(crate) fn requests(seed: u64, part: Duration) -> Vec<Request> {
    let mut random = fastrand::Rng::with_seed(seed);
    let seconds = part.as_secs_f64();
    let mut all = Vec::new();
    let mut some = |per_second: u32, clients: std::ops::Range<u32>, in_rush: bool| {
        for _ in 0..(f64::from(per_second) * seconds) as u32 {
            let from = if in_rush { Duration::ZERO } else { part };
            all.push(Request {
                at: from + part.mul_f64(random.f64()),
                client: random.u32(clients.clone()),
                in_rush,
            });
        }
    };
    some(USUAL * REGULARS_TIMES, 0..REGULARS, true);
    let rest = USUAL * (TIMES - REGULARS_TIMES);
    some(rest, REGULARS..REGULARS + GREEDY, true);
    some(USUAL, 0..REGULARS, false);
    all.sort_by_key(|request| request.at);
    all
}
