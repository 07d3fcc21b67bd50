//! Calls to a service that is not well: bulkhead, rate limit, retry, timeout and breaker.

use std::sync::Arc;
use std::time::Duration;

use anyhow::bail;
use cleanbreak::backoff::Backoff;
use cleanbreak::{
    Abandoner, AdaptiveLimit, Breaker, Bulkhead, CancelToken, Clock, Hedge, ManualClock, Policy,
    Quota, RateLimiter, Retry, Timeout, chaos,
};
use fastrand::Rng;

use crate::ledger::Ledger;
use crate::plant::Plant;

const PROBES: u32 = 2;
const OPEN_FOR: Duration = Duration::from_millis(10);

pub(crate) struct Calls {
    ledger: Arc<Ledger>,
    plant: Option<Plant>,
    bulkhead: Bulkhead,
    limiter: RateLimiter,
    retry: Retry<anyhow::Error>,
    timeout: Timeout,
    hedge: Hedge,
    abandoner: Abandoner,
    adaptive: AdaptiveLimit,
    policy: Policy<anyhow::Error>,
    breaker: Breaker,
    /// The breaker's.
    hand: ManualClock,
}

impl Calls {
    pub(crate) fn new(
        rng: &mut Rng,
        clock: &Clock,
        ledger: &Arc<Ledger>,
        plant: Option<Plant>,
    ) -> Self {
        let hand = Clock::manual();
        let breaker = Breaker::builder()
            .name("calls")
            .consecutive_failures(rng.u32(2..6))
            .open_for(OPEN_FOR)
            .probes(PROBES)
            .clock(&hand)
            .build();
        let retry = Retry::builder()
            .attempts(rng.u32(1..4))
            .backoff(Backoff::constant(Duration::from_micros(100)))
            .build();
        let policy = Policy::builder()
            .retry(Retry::builder().attempts(2))
            .breaker(breaker.as_ref().expect("settings that can be"))
            .bulkhead(&Bulkhead::new(2))
            .attempt_timeout(Duration::from_millis(2))
            .build();
        Self {
            ledger: ledger.clone(),
            plant,
            bulkhead: Bulkhead::new(rng.usize(1..3)).with_queue(1),
            limiter: RateLimiter::with_clock(Quota::per_second(5_000).burst(20), clock),
            hedge: Hedge::after(Duration::from_micros(rng.u64(..300))).build(),
            abandoner: Abandoner::builder().max_threads(3).clock(clock).build(),
            adaptive: AdaptiveLimit::aimd().clock(clock).build(),
            policy: policy.expect("settings that can be"),
            retry: retry.expect("settings that can be"),
            timeout: Timeout::new(Duration::from_micros(rng.u64(100..5000))),
            breaker: breaker.expect("settings that can be"),
            hand,
        }
    }

    /// The breaker's time goes on.
    pub(crate) fn advance(&self, time: Duration) {
        self.hand.advance(time);
    }

    /// One call. How it ends is of no interest, only that all is given back.
    pub(crate) fn call(&self, rng: &mut Rng, token: &CancelToken) {
        let wait = Duration::from_micros(rng.u64(..500));
        let Ok(permit) = self.bulkhead.acquire_timeout(token, wait) else {
            self.ledger.count("calls refused", 1);
            return;
        };
        let in_use = self.bulkhead.in_use();
        self.ledger.check(in_use <= self.bulkhead.capacity(), || {
            format!(
                "{in_use} calls in a bulkhead of {}",
                self.bulkhead.capacity()
            )
        });
        let called = self.limiter.acquire_timeout(token, wait).is_ok() && self.ask(rng, token);
        match called {
            true => self.ledger.count("calls answered", 1),
            false => self.ledger.count("calls failed", 1),
        }
        if !called && self.plant == Some(Plant::Permit) {
            std::mem::forget(permit);
        }
    }

    /// Whether there was an answer, by one of the ways to ask.
    fn ask(&self, rng: &mut Rng, token: &CancelToken) -> bool {
        let nap = Duration::from_micros(rng.u64(..600));
        match rng.u8(..6) {
            0 => self.hedge.call(token, |token| self.attempt(token)).is_ok(),
            1 => {
                let limit = Duration::from_micros(300);
                let slow = move |token: &CancelToken| token.sleep(nap);
                self.abandoner.abandon_after(token, limit, slow).is_ok()
            }
            2 => {
                let limited = self.adaptive.call(token, |token| self.attempt(token));
                limited.is_ok()
            }
            3 => {
                let fails = |_: &CancelToken| match chaos::fails("service.call") {
                    true => bail!("no answer"),
                    false => Ok(()),
                };
                self.policy.call(token, fails).is_ok()
            }
            _ => self.retry.call(token, |token| self.attempt(token)).is_ok(),
        }
    }

    fn attempt(&self, token: &CancelToken) -> anyhow::Result<()> {
        let answered = self.breaker.call(token, |token| {
            let timed = self
                .timeout
                .call(token, |_| match chaos::fails("service.call") {
                    true => bail!("no answer"),
                    false => Ok(()),
                });
            timed.map_err(|error| anyhow::anyhow!("{error}"))
        });
        answered.map_err(|error| anyhow::anyhow!("{error}"))
    }

    /// When all calls are over: every permit is back, and a half-open breaker lets through as many
    /// probes as it should, and no more (R1).
    pub(crate) fn check_calm(&self) {
        let (in_use, waiting) = (self.bulkhead.in_use(), self.bulkhead.waiting());
        self.ledger.check((in_use, waiting) == (0, 0), || {
            format!("{in_use} permits of the bulkhead are out, {waiting} wait, but nobody calls")
        });
        let limited = self.adaptive.in_use();
        let policy = self.policy.bulkhead().map_or(0, Bulkhead::in_use);
        self.ledger.check((limited, policy) == (0, 0), || {
            format!("{limited} permits of the adaptive limit and {policy} of the policy are out")
        });
        let abandoned = self.abandoner.close(Duration::from_secs(10));
        self.ledger.check(abandoned.is_empty(), || {
            format!("operations go on for ever: {abandoned:?}")
        });
        let running = self.breaker.snapshot().probes_running;
        self.ledger.check(running == 0, || {
            format!("{running} probes run, but nobody calls")
        });
        self.breaker.trip();
        self.hand.advance(OPEN_FOR);
        for _ in 0..2 {
            let asked = (0..=PROBES).map(|_| self.breaker.acquire());
            let probes: Vec<_> = asked.filter_map(Result::ok).collect();
            self.ledger.check(probes.len() == PROBES as usize, || {
                format!(
                    "a half-open breaker let {} through, not {PROBES}",
                    probes.len()
                )
            });
        }
    }
}
