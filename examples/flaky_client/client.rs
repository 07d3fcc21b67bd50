//! The client: a policy, and the loops that call under it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use cleanbreak::backoff::{Backoff, Jitter};
use cleanbreak::resilience::policy::AttemptError;
use cleanbreak::resilience::retry::AttemptEvent;
use cleanbreak::{Breaker, CancelToken, Clock, Policy, Retry};

use super::options::Options;
use super::record::{Answer, Call, Change, Pace, Record, Sent, Try};
use super::request::get;
use super::script::END;

/// All in milliseconds of the script.
pub(crate) const TIMEOUTS: [u32; 3] = [800, 400, 200];
const DELAY: u32 = 50;
pub(crate) const OPEN_FOR: u32 = 3_000;
/// Between the calls of one loop.
const PERIOD: u32 = 150;
/// In a row; a timeout is one.
pub(crate) const FAILURES: u32 = 8;

/// What the fallback says: a price of yesterday.
const STALE: u64 = 99;

pub(crate) struct Client {
    upstream: SocketAddr,
    pace: Pace,
    policy: Policy,
    breaker: Breaker,
    record: Arc<Record>,
}

impl Client {
    pub(crate) fn new(
        upstream: SocketAddr,
        options: &Options,
        pace: &Pace,
        record: &Arc<Record>,
    ) -> anyhow::Result<Self> {
        let changes = (record.clone(), pace.clone());
        let breaker = Breaker::builder()
            .name("upstream")
            .consecutive_failures(FAILURES)
            .open_for(pace.real(OPEN_FOR))
            .probes(1)
            .on_transition(move |what| {
                let (record, pace) = &changes;
                let at = pace.at(what.at);
                println!("{at:6.2} s  {what}");
                record.changes.lock().push(Change { at, what: *what });
            })
            .build()?;
        let tries = (record.clone(), pace.clone());
        let retry = Retry::builder()
            .attempts(TIMEOUTS.len() as u32)
            .attempt_timeout_halving(pace.real(TIMEOUTS[0]), Duration::from_millis(1))
            .backoff(Backoff::constant(pace.real(DELAY)).jitter(Jitter::Equal))
            // There is an answer for that, so nobody need wait for it.
            .retry_if(|error: &AttemptError<_>| !error.is_refused())
            .seed(options.seed)
            .on_attempt(move |event| note(&tries.0, &tries.1, event));
        let policy = Policy::builder()
            .name("price")
            .retry(retry)
            .breaker(&breaker)
            .keep_timer(&Clock::system())?
            .build()?;
        Ok(Self {
            upstream,
            pace: pace.clone(),
            policy,
            breaker,
            record: record.clone(),
        })
    }

    /// Calls, waits, calls, until the script ends or `token` is cancelled.
    pub(crate) fn run(&self, token: &CancelToken) -> anyhow::Result<()> {
        'calls: loop {
            let began = self.pace.now();
            if began >= END {
                break 'calls;
            }
            let mut answer = Answer::FromUpstream;
            let price = self.policy.call_or(
                token,
                |attempt| self.request(attempt),
                |error| {
                    answer = Answer::Fallback(error.kind());
                    Ok(STALE)
                },
            );
            match price {
                Ok(price) => anyhow::ensure!((STALE..110).contains(&price), "{price} is no price"),
                Err(error) if error.is_cancelled() => break 'calls,
                Err(error) => return Err(error.into()),
            }
            let took = (self.pace.now() - began) * 1e3;
            let call = Call {
                began,
                took,
                answer,
            };
            self.record.calls.lock().push(call);
            if token.wait_timeout(self.pace.real(PERIOD)) {
                break 'calls;
            }
        }
        Ok(())
    }

    fn request(&self, attempt: &CancelToken) -> anyhow::Result<u64> {
        let now = self.breaker.snapshot();
        self.record.sent.lock().push(Sent {
            state: now.state,
            generation: now.generation,
        });
        get(&self.upstream, attempt)
    }
}

fn note(record: &Record, pace: &Pace, event: &AttemptEvent<'_, AttemptError<anyhow::Error>>) {
    if event.error.is_some_and(AttemptError::is_refused) {
        return;
    }
    record.tries.lock().push(Try {
        number: event.number,
        ended: pace.at(event.started) + pace.script(event.took) / 1e3,
        took: pace.script(event.took),
        failed: event.error.is_some(),
        timed_out: event.timed_out,
    });
}
