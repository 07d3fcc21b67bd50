//! One call, from its first attempt to its end.

use std::time::Duration;

use super::err::{Attempt, GaveUp, RetryError};
use super::rules::{AttemptEvent, Next, Rules};
use crate::backoff::Delays;
use crate::cancel::{CancelKind, CancelToken, Cancelled};
use crate::clock::Instant;

/// How many attempts an error remembers.
const KEPT: usize = 64;

pub(super) struct Run<'a, E> {
    rules: &'a Rules<E>,
    token: &'a CancelToken,
    began: Instant,
    /// When the time for all is over.
    limit: Option<Instant>,
    /// The number of the attempt that runs, from 1.
    number: u32,
    started: Instant,
    /// The attempt's own.
    deadline: Option<Instant>,
    delays: Option<Delays>,
    history: Vec<Attempt<E>>,
}

/// The token of one attempt: the caller's, or a child with a deadline.
pub(super) enum AttemptToken<'a> {
    Callers(&'a CancelToken),
    Child(CancelToken),
}

impl AttemptToken<'_> {
    pub(super) fn get(&self) -> &CancelToken {
        match self {
            Self::Callers(token) => token,
            Self::Child(token) => token,
        }
    }
}

/// The time and what the error is taken for, of an attempt that has failed.
struct Failure {
    now: Instant,
    timed_out: bool,
    /// The caller's token has come to its end.
    cancelled: Option<Cancelled>,
}

impl<'a, E> Run<'a, E> {
    pub(super) fn new(rules: &'a Rules<E>, token: &'a CancelToken) -> Self {
        let now = token.clock().now();
        Self {
            rules,
            token,
            began: now,
            limit: rules.within.and_then(|within| now.checked_add(within)),
            number: 0,
            started: now,
            deadline: None,
            delays: None,
            history: Vec::new(),
        }
    }

    /// The token of the next attempt.
    pub(super) fn attempt(&mut self) -> Result<AttemptToken<'a>, RetryError<E>> {
        if let Err(cancelled) = self.token.check() {
            return Err(self.give_up(GaveUp::Cancelled(cancelled)));
        }
        match (self.number, &self.rules.budget) {
            (0, Some(budget)) => budget.record_call(),
            (0, None) => {}
            _ => self.started = self.token.clock().now(),
        }
        self.number += 1;
        let timeout = self.rules.timeouts.of(self.number);
        self.deadline = timeout.and_then(|timeout| self.started.checked_add(timeout));
        let earliest = self.deadline.into_iter().chain(self.limit).min();
        Ok(match earliest {
            None => AttemptToken::Callers(self.token),
            Some(deadline) => AttemptToken::Child(self.token.child_deadline(deadline)),
        })
    }

    pub(super) fn succeeded(&self) {
        if self.rules.listeners.is_empty() {
            return;
        }
        self.rules.tell(&AttemptEvent {
            number: self.number,
            started: self.started,
            took: self.token.clock().now().duration_since(self.started),
            error: None,
            timed_out: false,
            next: Next::Done,
        });
    }

    /// Returns when it is time for another attempt, or with the reason why there is none.
    #[cold]
    #[track_caller]
    pub(super) fn failed(&mut self, error: E) -> Result<(), RetryError<E>> {
        let failure = self.look();
        let decided = self.decide(&error, &failure);
        let took = failure.now.duration_since(self.started);
        let timed_out = failure.timed_out;
        self.rules.tell(&AttemptEvent {
            number: self.number,
            started: self.started,
            took,
            error: Some(&error),
            timed_out,
            next: match &decided {
                Ok(delay) => Next::Retry(*delay),
                Err(why) => Next::GaveUp(why),
            },
        });
        if self.history.len() == KEPT {
            self.history.remove(0);
        }
        self.history.push(Attempt {
            number: self.number,
            started: self.started,
            took,
            timed_out,
            cancelled: failure.cancelled.is_some(),
            delay: decided.as_ref().ok().copied(),
            error,
        });
        // No closure: the wait is shown with the line of the user's call.
        let slept = match decided {
            Ok(delay) => self.sleep(delay),
            Err(why) => Err(why),
        };
        slept.map_err(|why| self.give_up(why))
    }

    fn look(&self) -> Failure {
        let now = self.token.clock().now();
        let passed = |deadline: Option<Instant>| deadline.is_some_and(|deadline| deadline <= now);
        // A deadline counts from when it has passed, delivered or not.
        let overdue = || Cancelled::new(CancelKind::DeadlineExceeded, None);
        let late = passed(self.token.deadline()).then(overdue);
        Failure {
            now,
            timed_out: passed(self.deadline),
            cancelled: self.token.cancelled().or(late),
        }
    }

    /// How long to wait for the next attempt, if there is to be one. The shared budget comes last:
    /// what it grants is used.
    fn decide(&mut self, error: &E, failure: &Failure) -> Result<Duration, GaveUp> {
        let rules = self.rules;
        if let Some(cancelled) = &failure.cancelled {
            return Err(GaveUp::Cancelled(cancelled.clone()));
        }
        if self.limit.is_some_and(|limit| limit <= failure.now) {
            return Err(GaveUp::Time);
        }
        if !failure.timed_out && !rules.is_retryable(error) {
            return Err(GaveUp::NotRetryable);
        }
        if self.number >= rules.attempts {
            return Err(GaveUp::Attempts);
        }
        let delay = self.delay(error);
        let limits = self.limit.into_iter().chain(self.token.deadline());
        let next = failure.now.checked_add(delay);
        if limits
            .min()
            .is_some_and(|limit| next.is_none_or(|next| next >= limit))
        {
            return Err(GaveUp::Time);
        }
        match rules
            .budget
            .as_ref()
            .is_none_or(|budget| budget.try_retry())
        {
            true => Ok(delay),
            false => Err(GaveUp::Budget),
        }
    }

    /// What the error asks for goes before the schedule, which moves on all the same.
    fn delay(&mut self, error: &E) -> Duration {
        let rules = self.rules;
        let delays = self.delays.get_or_insert_with(|| rules.delays());
        let scheduled = delays.next_delay();
        let asked = rules.retry_after.as_ref();
        asked.and_then(|after| after(error)).unwrap_or(scheduled)
    }

    #[track_caller]
    fn sleep(&self, delay: Duration) -> Result<(), GaveUp> {
        match delay.is_zero() {
            true => Ok(()),
            false => self.token.sleep(delay).map_err(GaveUp::Cancelled),
        }
    }

    #[cold]
    fn give_up(&mut self, why: GaveUp) -> RetryError<E> {
        RetryError {
            why,
            attempts: self.number,
            elapsed: self.token.clock().now().duration_since(self.began),
            history: std::mem::take(&mut self.history),
        }
    }
}
