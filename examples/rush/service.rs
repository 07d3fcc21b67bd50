//! A service: workers, a queue, and what it does with a request that comes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use cleanbreak::clock::Instant;
use cleanbreak::{Bulkhead, CancelToken, Clock, KeyedRateLimiter, Pool, Quota, Shutdown};
use parking_lot::Mutex;

use super::load::Request;
use super::tally::{Fate, Served};

pub(crate) const WORKERS: usize = 4;
/// What a request takes, of a resource that there is no more of: so 500 in a second.
pub(crate) const WORK: Duration = Duration::from_millis(8);
/// How long the caller waits.
pub(crate) const DEADLINE: Duration = Duration::from_millis(150);
/// Requests beside those that are worked on. What is behind them is still in time, with room to
/// spare: 28 of them take 56 ms.
const WAITING: usize = 24;
/// What each client may ask for: three times what a regular one does at its worst.
const SHARE: u32 = 15;

/// More than there will be requests.
const NO_BOUND: usize = 1_000_000;

pub(crate) struct Service {
    pub(crate) name: &'static str,
    shares: Option<KeyedRateLimiter<u32>>,
    places: Option<Bulkhead>,
    pool: Pool,
    clock: Clock,
    /// How many times slower than its numbers say it all runs.
    pace: u32,
    done: Arc<Done>,
}

#[derive(Default)]
struct Done {
    served: Mutex<Vec<Served>>,
    /// The longest that a piece of work took beyond what it should, in nanoseconds.
    lag: AtomicU64,
}

impl Service {
    pub(crate) fn new(name: &'static str, pace: u32, token: &CancelToken) -> anyhow::Result<Self> {
        let pool = Pool::builder().name(name).workers(WORKERS).queue(NO_BOUND);
        Ok(Self {
            name,
            shares: None,
            places: None,
            pool: pool.build(token)?,
            clock: token.clock().clone(),
            pace,
            done: Arc::default(),
        })
    }

    /// Takes as many as can be answered in time.
    pub(crate) fn with_bulkhead(mut self) -> Self {
        self.places = Some(Bulkhead::new(WORKERS + WAITING).named(self.name));
        self
    }

    /// Takes so many of each client.
    pub(crate) fn with_shares(mut self) -> Self {
        let quota = Quota::new(SHARE, Duration::from_secs(1) * self.pace);
        self.shares = Some(KeyedRateLimiter::with_clock(quota, &self.clock).named(self.name));
        self
    }

    /// Takes a request that came at `at`, or refuses it. Never waits.
    pub(crate) fn ask(&self, request: Request, at: Instant) -> anyhow::Result<()> {
        let refuse = |fate| {
            let took = Duration::ZERO;
            self.done.served.lock().push(Served {
                request,
                fate,
                took,
            });
        };
        // The cheapest question first, and the one that goes by who asks: a greedy client must not
        // take a place even for a moment.
        if let Some(shares) = &self.shares
            && shares.try_acquire(&request.client).is_err()
        {
            refuse(Fate::OverQuota);
            return Ok(());
        }
        let place = match &self.places {
            None => None,
            Some(places) => match places.try_acquire() {
                Ok(place) => Some(place.into_owned()),
                Err(_) => {
                    refuse(Fate::Full);
                    return Ok(());
                }
            },
        };
        let (clock, done, pace) = (self.clock.clone(), self.done.clone(), self.pace);
        let work = move |token: &CancelToken| {
            let began = clock.now();
            token.sleep(WORK * pace)?;
            let now = clock.now();
            let lag = now.duration_since(began).saturating_sub(WORK * pace);
            done.lag.fetch_max(lag.as_nanos() as u64, Ordering::Relaxed);
            let took = now.duration_since(at) / pace;
            let fate = match took <= DEADLINE {
                true => Fate::InTime,
                false => Fate::Late,
            };
            done.served.lock().push(Served {
                request,
                fate,
                took,
            });
            drop(place);
            Ok(())
        };
        match self.pool.try_submit(work) {
            Ok(job) => drop(job),
            // Told to stop meanwhile.
            Err(error) if error.is_cancelled() => {}
            Err(error) => anyhow::bail!("{}: {error}", self.name),
        }
        Ok(())
    }

    /// Works through what is left, unless it has been told to stop. What became of all, and how much
    /// the machine was late with it.
    pub(crate) fn finish(self) -> (Vec<Served>, Duration) {
        self.pool.shutdown(Shutdown::Drain);
        let lag = Duration::from_nanos(self.done.lag.load(Ordering::Relaxed));
        let served = std::mem::take(&mut *self.done.served.lock());
        (served, lag / self.pace)
    }
}
