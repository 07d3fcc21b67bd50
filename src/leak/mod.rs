//! Floor 6: threads that did not come home, for tests and for the end of `main`.
//!
//! [`leak_check()`] at the top of a test fails it if, at its end, a thread lives that the test
//! started through the library: by name, the source line that spawned it, and what it waits on.
//!
//! # What is promised
//!
//! * A check sees the threads that its own thread started since, and those that they started, by
//!   any number of generations, tasks on warm threads included. It sees nothing of tests that run
//!   at the same time.
//! * A thread that is on its way out is given time, and is waited for without polling. Threads are
//!   told apart by numbers that are never used again.
//! * Checks nest: what is inside an inner one is inside the outer one too.
//!
//! # What is not
//!
//! * Threads that were not started through the library are not seen; nor are values that were
//!   leaked, such as a ticker in a `mem::forget`, which keeps its clock's timer thread busy.
//! * What the whole process shares belongs to no test: the timer thread of
//!   [`Clock::system`](crate::Clock::system), and the one for signals. A timer thread of an
//!   [isolated](crate::Clock::isolated) clock and the threads of a [cache](crate::ThreadCache)
//!   belong to where that was made. [`LeakCheck::process`] sees them all.
//! * A plain `std::thread` in between breaks the line of generations.

use std::fmt;
use std::marker::PhantomData;
use std::panic::Location;
use std::time::Duration;

use crate::fault::{self, At};
use crate::threads::{self, Origin, OriginGuard, StackText, ThreadInfo};

/// How long threads on their way out are waited for.
const PATIENCE: Duration = Duration::from_secs(5);

/// Begins a check that ends with the guard: a panic if a thread that was started meanwhile still
/// lives then. Keep it on the stack, above everything that starts threads.
///
/// # Panics
///
/// The drop of the guard does, with the list of the leaked threads, after having waited 5 seconds
/// for them ([`patience`](LeakCheck::patience)). If the thread panics already it prints the list to
/// standard error instead.
///
/// # Performance
///
/// Nothing while it lives, but for one reference count on each thread and task that is started. At
/// the end, one look at the list of threads.
///
/// # Examples
///
/// ```
/// use cleanbreak::leak::leak_check;
/// use cleanbreak::{CancelToken, Pool, scope};
///
/// # fn test() {
/// let _leaks = leak_check();
/// scope(&CancelToken::new(), |group| {
///     group.spawn(|token| Ok(token.wait()))?; // ended with the group
///     group.token().cancel();
///     Ok(())
/// })
/// .unwrap();
/// # }
/// # test();
///
/// let leaks = leak_check();
/// let pool = Pool::builder().name("forgotten").workers(1).build(&CancelToken::new()).unwrap();
/// let leaked = leaks.patience(std::time::Duration::ZERO).finish().unwrap_err();
/// assert_eq!(leaked.threads()[0].name, "forgotten");
/// # drop(pool);
/// ```
#[track_caller]
pub fn leak_check() -> LeakCheck {
    LeakCheck::begin(true)
}

/// A check for leaked threads; from [`leak_check`].
#[must_use = "the check ends when this is dropped"]
pub struct LeakCheck {
    mark: Origin,
    /// Also those outside the mark.
    all: bool,
    patience: Duration,
    begun_at: &'static Location<'static>,
    finished: bool,
    _inside: Option<OriginGuard>,
    /// The mark is on this thread.
    here: PhantomData<*const ()>,
}

impl LeakCheck {
    #[track_caller]
    fn begin(scoped: bool) -> Self {
        let mark = Origin::mark();
        Self {
            _inside: scoped.then(|| mark.enter()),
            mark,
            all: !scoped,
            patience: PATIENCE,
            begun_at: Location::caller(),
            finished: false,
            here: PhantomData,
        }
    }

    /// A check of the whole process, for the end of `main`: no thread of the library may live, but
    /// the calling one. Not for tests that run in parallel.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanbreak::leak::LeakCheck;
    ///
    /// fn main() {
    ///     let leaks = LeakCheck::process();
    ///     // ... the program
    ///     if let Err(leaked) = leaks.finish() {
    ///         eprintln!("{leaked}");
    ///         std::process::exit(1);
    ///     }
    /// }
    /// ```
    #[track_caller]
    pub fn process() -> Self {
        Self::begin(false)
    }

    /// For how long threads on their way out are waited for; 5 seconds by default. Zero looks once.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use cleanbreak::leak::leak_check;
    /// use cleanbreak::{CancelToken, Pool};
    ///
    /// let leaks = leak_check().patience(Duration::ZERO); // what lives now is a leak
    /// let pool = Pool::builder().workers(1).build(&CancelToken::new()).unwrap();
    /// assert!(leaks.finish().is_err());
    /// drop(pool);
    ///
    /// let leaks = leak_check().patience(Duration::MAX); // until all are gone
    /// let pool = Pool::builder().workers(1).build(&CancelToken::new()).unwrap();
    /// let elsewhere = std::thread::spawn(move || drop(pool));
    /// assert!(leaks.finish().is_ok());
    /// # elsewhere.join().unwrap();
    /// ```
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// Ends the check with a result instead of a panic.
    ///
    /// # Errors
    ///
    /// The threads that still live when the patience is over.
    pub fn finish(mut self) -> Result<(), LeakedThreads> {
        self.end()
    }

    fn end(&mut self) -> Result<(), LeakedThreads> {
        self.finished = true;
        fault::pass(At::LeakCheck);
        let within = (!self.all).then_some(&self.mark);
        let threads = threads::await_retired(within, self.patience);
        match threads.is_empty() {
            true => Ok(()),
            false => Err(LeakedThreads {
                stacks: threads
                    .iter()
                    .map(|thread| threads::stack_of(thread.tid))
                    .collect(),
                threads,
                begun_at: self.begun_at,
            }),
        }
    }
}

impl Drop for LeakCheck {
    fn drop(&mut self) {
        if self.finished {
            return;
        }
        let panicking = std::thread::panicking();
        if panicking {
            // The test has failed anyway: no need to wait for what it left.
            self.patience = Duration::ZERO;
        }
        if let Err(leaked) = self.end() {
            match panicking {
                true => eprintln!("{leaked}"),
                false => panic!("{leaked}"),
            }
        }
    }
}

impl fmt::Debug for LeakCheck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LeakCheck")
            .field("begun_at", &format_args!("{}", self.begun_at))
            .field("process", &self.all)
            .finish_non_exhaustive()
    }
}

/// Threads that still lived when a check ended.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use cleanbreak::leak::leak_check;
/// use cleanbreak::{CancelToken, Pool};
///
/// let leaks = leak_check().patience(Duration::ZERO);
/// let pool = Pool::builder().name("thumbs").workers(2).build(&CancelToken::new()).unwrap();
/// let line = line!() - 1;
/// let leaked = leaks.finish().unwrap_err();
/// assert_eq!(leaked.begun_at().line(), line - 1);
/// assert_eq!(leaked.threads().len(), 2);
/// for thread in leaked.threads() {
///     assert_eq!((thread.name.as_str(), thread.spawned_at.line()), ("thumbs", line));
/// }
/// assert!(leaked.to_string().starts_with("2 threads leaked since "));
/// # drop(pool);
/// ```
#[derive(Clone, Debug)]
pub struct LeakedThreads {
    threads: Vec<ThreadInfo>,
    /// Of each, if reports show them.
    stacks: Vec<Option<String>>,
    begun_at: &'static Location<'static>,
}

impl LeakedThreads {
    /// The threads, oldest first; at least one.
    #[must_use]
    pub fn threads(&self) -> &[ThreadInfo] {
        &self.threads
    }

    /// The line where the check began.
    #[must_use]
    pub fn begun_at(&self) -> &'static Location<'static> {
        self.begun_at
    }
}

impl fmt::Display for LeakedThreads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.threads.len();
        let threads = if count == 1 { "thread" } else { "threads" };
        write!(f, "{count} {threads} leaked since {}:", self.begun_at)?;
        let threads = self.threads.iter().zip(&self.stacks);
        threads
            .into_iter()
            .try_for_each(|(thread, stack)| write!(f, "\n  {thread}{}", StackText(stack.as_ref())))
    }
}

impl std::error::Error for LeakedThreads {}
