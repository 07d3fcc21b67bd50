//! What the clones of one retry share.

use std::time::Duration;

use super::super::budget::RetryBudget;
use super::super::spares::Spares;
use super::err::GaveUp;
use crate::backoff::{Backoff, Delays};
use crate::clock::Instant;
use crate::contain::contain;
use crate::sync::Arc;

pub(super) type Listener<E> = Box<dyn Fn(&AttemptEvent<'_, E>) + Send + Sync>;
pub(super) type Predicate<E> = Box<dyn Fn(&E) -> bool + Send + Sync>;
pub(super) type RetryAfter<E> = Box<dyn Fn(&E) -> Option<Duration> + Send + Sync>;

pub(in super::super) struct Rules<E> {
    pub(in super::super) name: Option<Arc<str>>,
    pub(in super::super) attempts: u32,
    pub(in super::super) within: Option<Duration>,
    pub(super) backoff: Backoff,
    pub(super) seed: Option<u64>,
    pub(super) timeouts: Timeouts,
    pub(in super::super) spares: Option<Spares>,
    pub(super) budget: Option<RetryBudget>,
    pub(in super::super) retry_if: Option<Predicate<E>>,
    pub(in super::super) retry_after: Option<RetryAfter<E>>,
    pub(super) listeners: Vec<Listener<E>>,
}

/// How long each attempt may take.
pub(super) enum Timeouts {
    Unbounded,
    Constant(Duration),
    Halving { first: Duration, least: Duration },
    Custom(Box<dyn Fn(u32) -> Duration + Send + Sync>),
}

impl Timeouts {
    /// Of the attempt with this number, from 1.
    pub(super) fn of(&self, attempt: u32) -> Option<Duration> {
        match self {
            Self::Unbounded => None,
            Self::Constant(timeout) => Some(*timeout),
            Self::Halving { first, least } => {
                let halved = first.as_nanos().checked_shr(attempt - 1).unwrap_or(0);
                let halved = u64::try_from(halved).map_or(*first, Duration::from_nanos);
                Some(halved.max(*least))
            }
            Self::Custom(timeout) => Some(timeout(attempt)),
        }
    }
}

/// What comes after an attempt.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use cleanbreak::backoff::Backoff;
/// use cleanbreak::resilience::retry::Next;
/// use cleanbreak::{CancelToken, Retry};
///
/// let (tell, told) = crossbeam_channel::unbounded();
/// let retry = Retry::builder()
///     .attempts(2)
///     .backoff(Backoff::constant(Duration::ZERO))
///     .on_attempt(move |event| {
///         let next = match event.next {
///             Next::Done => "done".to_owned(),
///             Next::Retry(delay) => format!("again in {delay:?}"),
///             Next::GaveUp(why) => why.to_string(),
///             _ => "?".to_owned(),
///         };
///         tell.send(next).ok();
///     })
///     .build()
///     .unwrap();
/// retry.call(&CancelToken::new(), |_| Err::<(), _>("reset")).unwrap_err();
/// retry.call(&CancelToken::new(), |_| Ok(())).unwrap();
/// let told: Vec<_> = told.try_iter().collect();
/// assert_eq!(told, ["again in 0ns", "no attempts left", "done"]);
/// ```
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Next<'a> {
    /// Nothing: it succeeded.
    Done,
    /// Another attempt, after this long, unless the wait is interrupted.
    Retry(Duration),
    /// Nothing: there will be no other.
    GaveUp(&'a GaveUp),
}

/// An attempt that has ended, as listeners are told of it.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use cleanbreak::{CancelToken, Clock, Retry};
///
/// let (clock, second) = (Clock::manual(), Duration::from_secs(1));
/// let (tell, told) = crossbeam_channel::unbounded();
/// let retry = Retry::builder()
///     .attempts(1)
///     .attempt_timeout(second)
///     .on_attempt(move |event| {
///         tell.send((event.number, event.started, event.took, event.timed_out)).ok();
///     })
///     .build()
///     .unwrap();
/// let began = clock.now();
/// let token = CancelToken::with_clock(&clock);
/// retry.call(&token, |_| { clock.advance(second); Err::<(), _>("reset") }).unwrap_err();
/// assert_eq!(told.recv().unwrap(), (1, began, second, true));
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub struct AttemptEvent<'a, E> {
    /// Its number, from 1.
    pub number: u32,
    /// When it began, by the token's clock.
    pub started: Instant,
    /// How long it took.
    pub took: Duration,
    /// Its error; `None` if it succeeded.
    pub error: Option<&'a E>,
    /// Whether it failed and had run into its own deadline.
    pub timed_out: bool,
    /// What comes next.
    pub next: Next<'a>,
}

impl<E> Rules<E> {
    pub(super) fn delays(&self) -> Delays {
        match self.seed {
            Some(seed) => self.backoff.delays_seeded(seed),
            None => self.backoff.delays(),
        }
    }

    pub(super) fn is_retryable(&self, error: &E) -> bool {
        self.retry_if
            .as_ref()
            .is_none_or(|is_retryable| is_retryable(error))
    }

    pub(super) fn tell(&self, event: &AttemptEvent<'_, E>) {
        for listener in &self.listeners {
            contain(|| listener(event));
        }
    }
}
