//! How many retries all callers together may make.
//!
//! When what is called is down, each caller that tries three times makes the load threefold, just
//! when it can least be borne; and where callers call callers, the factors multiply. A
//! [`RetryBudget`] is shared by all callers of one thing and grants retries as a share of calls: when
//! most calls fail, most retries are refused. (As in Finagle's `RetryBudget`, whose window and floor
//! it takes over, and gRPC's retry throttling.)
//!
//! # What is promised
//!
//! * **R3** Within the window, retries are never more than the share of the calls and the floor
//!   together: exact, whatever number of threads asks at the same time.
//! * Counting a call takes no lock, but for the first one of each tenth of the window.
//!
//! # What is not
//!
//! * The window moves on by tenths: it covers at least nine tenths of its length, and at most all.

mod ledger;
#[cfg(test)]
mod random;

use std::fmt;
use std::time::Duration;

use super::setting::InvalidSetting;
use crate::clock::Clock;
use crate::sync::Arc;
use ledger::{Ledger, MILLION};

/// A share of retries among calls, for all callers of one thing; see the [module](self).
///
/// A handle: clones are the same budget. Give it to [`Retry`](super::retry::RetryBuilder::budget), or
/// use it by hand.
///
/// # Performance
///
/// Counting a call reads the clock once, and is one atomic addition. A retry takes a lock.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use cleanbreak::{Clock, RetryBudget};
///
/// let clock = Clock::manual();
/// let budget = RetryBudget::builder()
///     .ratio(0.1)
///     .floor_per_second(0.1)
///     .window(Duration::from_secs(10))
///     .clock(&clock)
///     .build()
///     .unwrap();
/// (0..20).for_each(|_| budget.record_call());
/// let granted = (0..100).filter(|_| budget.try_retry()).count();
/// assert_eq!(granted, 2 + 1); // a tenth of the calls, and the floor's one for ten seconds
///
/// clock.advance(Duration::from_secs(10)); // nothing of that is in the window any more
/// assert!(budget.try_retry());
/// assert!(!budget.try_retry());
/// ```
#[derive(Clone)]
pub struct RetryBudget {
    ledger: Arc<Ledger>,
    clock: Clock,
}

/// What is in a budget's window at one moment.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use cleanbreak::{Clock, RetryBudget};
///
/// let clock = Clock::manual();
/// let budget = RetryBudget::builder().ratio(0.5).floor_per_second(0.0).clock(&clock);
/// let budget = budget.build().unwrap();
/// (0..10).for_each(|_| budget.record_call());
/// assert!(budget.try_retry());
/// let now = budget.snapshot();
/// assert_eq!((now.calls, now.retries, now.available), (10, 1, 4));
/// clock.advance(Duration::from_secs(10));
/// assert_eq!(budget.snapshot().available, 0); // the calls are out of the window
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct BudgetSnapshot {
    /// Calls.
    pub calls: u64,
    /// Retries that were granted.
    pub retries: u64,
    /// Retries that would be granted now.
    pub available: u64,
}

impl RetryBudget {
    /// The settings of a new budget.
    pub fn builder() -> RetryBudgetBuilder {
        RetryBudgetBuilder::new()
    }

    /// Counts a call: the first attempt, not its retries.
    #[inline]
    pub fn record_call(&self) {
        self.ledger.call(self.clock.now());
    }

    /// Takes a retry out of the budget; `false` if there is none left.
    #[must_use = "a retry that is not granted must not be made"]
    pub fn try_retry(&self) -> bool {
        self.ledger.retry(self.clock.now())
    }

    /// What is in the window.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanbreak::RetryBudget;
    ///
    /// let budget = RetryBudget::builder().ratio(1.0).floor_per_second(0.0).build().unwrap();
    /// assert_eq!(budget.snapshot().available, 0);
    /// budget.record_call();
    /// assert_eq!(budget.snapshot().available, 1);
    /// ```
    #[must_use]
    pub fn snapshot(&self) -> BudgetSnapshot {
        let (sums, available) = self.ledger.sums(self.clock.now());
        BudgetSnapshot {
            calls: sums.calls,
            retries: sums.retries,
            available,
        }
    }
}

// A panic never leaves one half changed: no code of the user runs under a lock of ours.
impl std::panic::UnwindSafe for RetryBudget {}
impl std::panic::RefUnwindSafe for RetryBudget {}

impl fmt::Debug for RetryBudget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = self.snapshot();
        f.debug_struct("RetryBudget")
            .field("calls", &all.calls)
            .field("retries", &all.retries)
            .field("available", &all.available)
            .finish_non_exhaustive()
    }
}

/// The settings of a [`RetryBudget`]; from [`RetryBudget::builder`].
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use cleanbreak::Clock;
/// use cleanbreak::resilience::budget::RetryBudgetBuilder;
///
/// let clock = Clock::manual();
/// let budget = RetryBudgetBuilder::new()
///     .ratio(0.25)
///     .floor_per_second(2.0)
///     .window(Duration::from_secs(5))
///     .clock(&clock)
///     .build()
///     .unwrap();
/// assert_eq!(budget.snapshot().available, 2 * 5); // the floor of the whole window, at once
/// (0..8).for_each(|_| budget.record_call());
/// assert_eq!(budget.snapshot().available, 2 * 5 + 8 / 4);
/// clock.advance(Duration::from_secs(5));
/// assert_eq!(budget.snapshot().available, 2 * 5);
///
/// assert!(RetryBudgetBuilder::new().ratio(-1.0).build().is_err());
/// assert!(RetryBudgetBuilder::new().window(Duration::ZERO).build().is_err());
/// ```
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing until the budget is built"]
pub struct RetryBudgetBuilder {
    ratio: f64,
    floor: f64,
    window: Duration,
    clock: Clock,
}

impl RetryBudgetBuilder {
    /// One retry for five calls, and ten in a second beside that, over ten seconds: Finagle's.
    pub fn new() -> Self {
        Self {
            ratio: 0.2,
            floor: 10.0,
            window: Duration::from_secs(10),
            clock: Clock::system(),
        }
    }

    /// How many retries each call gives, to the millionth: 0.2 is one for five calls. Zero leaves
    /// the floor alone.
    pub fn ratio(mut self, retries: f64) -> Self {
        self.ratio = retries;
        self
    }

    /// How many retries a second there are beside those, so that who calls rarely can retry at all.
    /// They can be had at once for the whole window.
    pub fn floor_per_second(mut self, retries: f64) -> Self {
        self.floor = retries;
        self
    }

    /// Over how long calls and retries are added up.
    pub fn window(mut self, length: Duration) -> Self {
        self.window = length;
        self
    }

    /// The clock that it goes by; the system's by default.
    pub fn clock(mut self, clock: &Clock) -> Self {
        self.clock = clock.clone();
        self
    }

    /// Makes the budget.
    ///
    /// # Errors
    ///
    /// [`InvalidSetting`]: a ratio or a floor that is negative, infinite, not a number or above a
    /// million; a window of zero.
    pub fn build(self) -> Result<RetryBudget, InvalidSetting> {
        let is_amount = |x: f64| (0.0..=MILLION as f64).contains(&x);
        let check = InvalidSetting::unless;
        check(
            is_amount(self.ratio),
            "a ratio of retries must be from 0 to a million",
        )?;
        check(
            is_amount(self.floor),
            "a floor of retries must be from 0 to a million",
        )?;
        check(
            !self.window.is_zero(),
            "a window must not have the length zero",
        )?;
        let millionths = |x: f64| (x * MILLION as f64).round() as u64;
        // A float that is too large becomes the largest integer.
        let reserve = millionths(self.floor * self.window.as_secs_f64());
        let ledger = Ledger::new(self.window, millionths(self.ratio), reserve);
        Ok(RetryBudget {
            ledger: Arc::new(ledger),
            clock: self.clock,
        })
    }
}

impl Default for RetryBudgetBuilder {
    fn default() -> Self {
        Self::new()
    }
}
