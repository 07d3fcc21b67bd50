//! The right to make one call, and what became of it.

use std::fmt;

use super::err::Rejected;
use super::shared::Shared;
use crate::clock::Instant;
use crate::fault::{self, At};
use crate::sync::Arc;

/// How a call ended, as far as a breaker cares.
///
/// # Examples
///
/// ```
/// use cleanbreak::Breaker;
/// use cleanbreak::resilience::breaker::Outcome;
///
/// let breaker = Breaker::builder().build().unwrap();
/// for outcome in [Outcome::Success, Outcome::Failure, Outcome::Ignored] {
///     breaker.acquire().unwrap().report(outcome);
/// }
/// let counts = breaker.snapshot().counts;
/// assert_eq!((counts.calls, counts.failures), (2, 1)); // nothing was learnt from the third
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// What was called works.
    Success,
    /// It does not.
    Failure,
    /// Nothing was learnt: not counted, and a probe's place is free again.
    Ignored,
}

/// The right to make one call; from [`Breaker::acquire`](super::Breaker::acquire).
///
/// Say how the call ended with [`success`](Self::success), [`failure`](Self::failure) or
/// [`ignore`](Self::ignore). It belongs to the generation of the breaker in which it was given; once
/// the breaker has changed its state, it has no effect.
///
/// # Drop
///
/// Dropped by a panic, it is a failure: the call did not end well. Otherwise it is ignored: it was
/// forgotten on an early return, before the call or because the caller was told to stop, and that
/// says nothing about what would have been called. (It would be worse to guess: as a failure, it
/// would open the breaker on a bug of the caller's; as a success, close it with nothing known.)
///
/// # Examples
///
/// ```
/// use cleanbreak::Breaker;
///
/// let breaker = Breaker::builder().consecutive_failures(2).build().unwrap();
/// breaker.acquire().unwrap().failure();
/// drop(breaker.acquire().unwrap()); // ignored
/// assert_eq!(breaker.snapshot().counts.consecutive_failures, 1);
///
/// let panicked = std::panic::catch_unwind(|| {
///     let _permit = breaker.acquire().unwrap();
///     panic!("the call panics");
/// });
/// assert!(panicked.is_err());
/// assert!(breaker.acquire().is_err()); // the second failure
/// ```
#[must_use = "a permit that is dropped says nothing about the call"]
pub struct Permit<'a> {
    holder: Holder<'a>,
    /// `None` when it has been reported, or lives on elsewhere.
    ticket: Option<Ticket>,
}

enum Holder<'a> {
    Borrowed(&'a Arc<Shared>),
    Owned(Arc<Shared>),
}

/// What is known of a call when it begins.
#[derive(Clone, Copy)]
struct Ticket {
    generation: u32,
    began: Option<Instant>,
    /// The thread was unwinding already.
    panicking: bool,
}

impl Ticket {
    #[inline]
    fn new(shared: &Shared) -> Result<Self, Rejected> {
        fault::pass(At::BreakerAcquire);
        Ok(Self {
            generation: shared.admit()?,
            began: shared.begin(),
            panicking: std::thread::panicking(),
        })
    }

    #[inline]
    fn report(self, shared: &Shared, outcome: Outcome) {
        fault::pass(At::BreakerReport);
        shared.end(self.generation, self.began, outcome);
    }

    #[cold]
    fn drop_unreported(self, shared: &Shared) {
        let panicked = std::thread::panicking() && !self.panicking;
        let outcome = match panicked {
            true => Outcome::Failure,
            false => Outcome::Ignored,
        };
        self.report(shared, outcome);
    }
}

/// A permit for the time of one function: it costs nothing to have reported it.
pub(in super::super) struct Pass<'a> {
    shared: &'a Shared,
    ticket: Ticket,
}

impl<'a> Pass<'a> {
    #[inline]
    pub(super) fn new(shared: &'a Shared) -> Result<Self, Rejected> {
        let ticket = Ticket::new(shared)?;
        Ok(Self { shared, ticket })
    }

    #[inline]
    pub(in super::super) fn report(self, outcome: Outcome) {
        let Self { shared, ticket } = self;
        std::mem::forget(self);
        ticket.report(shared, outcome);
    }
}

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        self.ticket.drop_unreported(self.shared);
    }
}

impl<'a> Permit<'a> {
    #[inline]
    pub(super) fn new(shared: &'a Arc<Shared>) -> Result<Self, Rejected> {
        let ticket = Ticket::new(shared)?;
        Ok(Self {
            holder: Holder::Borrowed(shared),
            ticket: Some(ticket),
        })
    }

    /// The call went well. It may still count as slow.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanbreak::Breaker;
    ///
    /// let breaker = Breaker::builder().consecutive_failures(2).build().unwrap();
    /// breaker.acquire().unwrap().failure();
    /// breaker.acquire().unwrap().success(); // in between
    /// breaker.acquire().unwrap().failure();
    /// assert_eq!(breaker.snapshot().counts.consecutive_failures, 1);
    /// ```
    #[inline]
    pub fn success(self) {
        self.report(Outcome::Success);
    }

    /// The call failed.
    pub fn failure(self) {
        self.report(Outcome::Failure);
    }

    /// Nothing was learnt.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use cleanbreak::{Breaker, Clock};
    /// use cleanbreak::resilience::breaker::State;
    ///
    /// let clock = Clock::manual();
    /// let breaker = Breaker::builder().clock(&clock).build().unwrap();
    /// breaker.trip();
    /// clock.advance(Duration::from_secs(10));
    /// let probe = breaker.acquire().unwrap();
    /// assert!(breaker.acquire().is_err());
    /// probe.ignore(); // our own mistake: it says nothing about the other side
    /// assert_eq!(breaker.state(), State::HalfOpen);
    /// breaker.acquire().unwrap().success(); // so the place is free for another probe
    /// assert_eq!(breaker.state(), State::Closed);
    /// ```
    pub fn ignore(self) {
        self.report(Outcome::Ignored);
    }

    /// Any of the three.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanbreak::Breaker;
    /// use cleanbreak::resilience::breaker::Outcome;
    ///
    /// let breaker = Breaker::builder().consecutive_failures(1).build().unwrap();
    /// let status = 503;
    /// let outcome = if status < 500 { Outcome::Success } else { Outcome::Failure };
    /// breaker.acquire().unwrap().report(outcome);
    /// assert!(breaker.acquire().is_err());
    /// ```
    #[inline]
    pub fn report(mut self, outcome: Outcome) {
        if let Some(ticket) = self.ticket.take() {
            ticket.report(self.shared(), outcome);
        }
    }

    /// The same permit, which borrows nothing: to send it elsewhere. It keeps the breaker's state.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanbreak::Breaker;
    ///
    /// let breaker = Breaker::builder().consecutive_failures(1).build().unwrap();
    /// let permit = breaker.acquire().unwrap().into_owned();
    /// std::thread::spawn(move || permit.failure()).join().unwrap();
    /// assert!(breaker.acquire().is_err());
    /// ```
    pub fn into_owned(mut self) -> Permit<'static> {
        Permit {
            holder: Holder::Owned(self.shared().clone()),
            ticket: self.ticket.take(),
        }
    }

    #[inline]
    fn shared(&self) -> &Arc<Shared> {
        match &self.holder {
            Holder::Borrowed(shared) => shared,
            Holder::Owned(shared) => shared,
        }
    }
}

impl Drop for Permit<'_> {
    #[inline]
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket.take() {
            ticket.drop_unreported(self.shared());
        }
    }
}

// A panic never leaves one half changed: no code of the user runs under a lock of ours.
impl std::panic::UnwindSafe for Permit<'_> {}
impl std::panic::RefUnwindSafe for Permit<'_> {}

impl fmt::Debug for Permit<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Permit")
            .field("breaker", &self.shared().name)
            .field("generation", &self.ticket.map(|ticket| ticket.generation))
            .finish_non_exhaustive()
    }
}
