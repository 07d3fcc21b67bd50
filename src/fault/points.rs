//! The table of the points: what each is called, and what may happen there.

macro_rules! points {
    ($($at:ident $name:literal [$($fault:ident)*] $about:literal;)*) => {
        /// A place of the library where a fault may be injected.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[cfg_attr(
            not(feature = "chaos"),
            allow(dead_code, reason = "some belong to features of their own")
        )]
        #[cfg_attr(feature = "chaos", allow(dead_code, reason = "some belong to other features"))]
        pub(crate) enum At {
            $(#[doc = $about] $at,)*
        }

        #[cfg(feature = "chaos")]
        const POINTS: &[Point] = &[
            $(Point { name: $name, faults: &[$(Fault::$fault),*], about: $about },)*
        ];
    };
}

points! {
    ThreadsSpawn "threads.spawn" [Refuse] "A thread is asked of the operating system.";
    ThreadsStart "threads.start" [Delay] "A new thread is about to do what it was started for.";
    ThreadsEnd "threads.end" [Delay] "A thread has done that, and is about to leave the list of threads.";
    SyncWait "sync.wait" [Early] "A thread is about to wait on a condition variable of the library.";
    ClockTimer "clock.timer" [Late] "A deadline or a tick of the system's clock is due.";
    ClockJump "clock.jump" [Jump] "The timer thread of an isolated clock is about to sleep.";
    CancelChild "cancel.child" [Delay] "A child of a token is about to be made.";
    CancelCancel "cancel.cancel" [Delay] "A token is about to be cancelled.";
    CancelWait "cancel.wait" [Delay Cancel] "A thread is about to wait or sleep on a token.";
    CancelHook "cancel.hook" [Delay Panic] "A hook of the user's is about to run.";
    ChannelSend "channel.send" [Delay Cancel] "A value is about to be sent.";
    ChannelReceive "channel.recv" [Delay Cancel] "A value is about to be received.";
    ChannelClose "channel.close" [Delay] "A channel is about to be closed, or closed and drained.";
    ChannelClone "channel.clone" [Delay] "A sender is about to be cloned.";
    TickerStart "ticker.start" [Delay] "A ticker is about to start.";
    TickerStop "ticker.stop" [Delay] "A ticker is about to be stopped, or reset.";
    IoWait "io.wait" [Delay Cancel] "A thread is about to wait for descriptors.";
    IoPoll "io.poll" [Early] "The kernel is about to be asked to wait for descriptors.";
    IoAttempt "io.attempt" [Delay] "A read, a write, an accept or a connect is about to be tried.";
    IoChild "io.child" [Delay Cancel] "A child process is about to be waited for or ended.";
    ProbePass "probe.pass" [Delay Cancel] "A probed loop has passed.";
    GroupSpawn "group.spawn" [Delay Cancel] "A task is about to be spawned.";
    GroupTask "group.task" [Delay Panic Cancel] "The closure of a task is about to run.";
    GroupJoin "group.join" [Delay Cancel] "A task is about to be joined, or the end of all awaited.";
    GroupBreak "group.break" [Delay] "A task has failed or broken its group, which is about to be told.";
    GroupLend "group.lend" [Delay] "A thread cache is about to lend a thread.";
    PoolSubmit "pool.submit" [Delay Cancel] "A task is about to be submitted.";
    PoolTask "pool.task" [Delay Panic Cancel] "The closure of a task is about to run.";
    PoolJoin "pool.join" [Delay Cancel] "The result of a task is about to be awaited.";
    PoolShutdown "pool.shutdown" [Delay Cancel] "A pool is about to be shut down, or resized.";
    SuperviseRun "supervise.run" [Delay Panic Cancel] "A supervised loop is about to run.";
    SuperviseEvent "supervise.event" [Delay Panic] "A listener of a supervisor is about to be told.";
    SuperviseManage "supervise.manage" [Delay] "The manager of a supervisor is about to look at what it was told.";
    BreakerAcquire "breaker.acquire" [Delay Cancel] "A breaker is about to be asked.";
    BreakerCall "breaker.call" [Delay Panic Cancel] "An operation that a breaker let through is about to run.";
    BreakerReport "breaker.report" [Delay] "A breaker is about to be told of an outcome.";
    BulkheadAcquire "bulkhead.acquire" [Delay Cancel] "A bulkhead is about to be asked.";
    BulkheadRelease "bulkhead.release" [Delay] "A permit of a bulkhead is about to be given back.";
    RateAcquire "rate_limit.acquire" [Delay Cancel] "A rate limit is about to be asked.";
    RetryAttempt "retry.attempt" [Delay Panic Cancel] "An attempt is about to be made.";
    TimeoutCall "timeout.call" [Delay Panic Cancel] "An operation with a time limit is about to run.";
    HedgeAttempt "hedge.attempt" [Delay Panic Cancel] "An attempt of a hedge is about to run.";
    AbandonCall "abandon.call" [Delay Panic Cancel] "An operation that may be abandoned is about to run.";
    AdaptiveAcquire "adaptive.acquire" [Delay Cancel] "An adaptive limit is about to be asked.";
    AdaptiveReport "adaptive.report" [Delay] "An adaptive limit is about to be told of an outcome.";
    PolicyCall "policy.call" [Delay Cancel] "A call by a policy is about to begin.";
    InterruptSubscribe "interrupt.subscribe" [Delay] "Signals are about to be subscribed to.";
    LeakCheck "leak.check" [Delay] "A leak check is about to look.";
    DiagnoseDump "diagnose.dump" [Delay] "A dump is about to be taken.";
    DebugRequest "debug.request" [Delay] "A request of the debug page is about to be served.";
}

#[cfg(feature = "chaos")]
pub use public::*;

#[cfg(feature = "chaos")]
mod public {
    use std::fmt;

    use super::{At, POINTS};

    /// A kind of fault.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanbreak::chaos::{Fault, points};
    ///
    /// for fault in Fault::ALL {
    ///     let somewhere = points().iter().any(|point| point.faults.contains(&fault));
    ///     assert!(somewhere, "nothing of the library can have {}", fault.name());
    /// }
    /// ```
    #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
    #[non_exhaustive]
    pub enum Fault {
        /// The thread stands still for a while, as when the scheduler runs others.
        Delay,
        /// The user's closure panics before its first line. The panic hook is not called.
        Panic,
        /// The operating system refuses a thread; at a point of your own, your operation fails.
        Refuse,
        /// A wait ends though nothing has happened; it looks, and waits again.
        Early,
        /// A deadline or a tick is delivered late.
        Late,
        /// A clock leaps forward.
        Jump,
        /// One of the plan's tokens is cancelled, by this thread.
        Cancel,
    }

    impl Fault {
        /// All there are.
        pub const ALL: [Self; 7] = [
            Self::Delay,
            Self::Panic,
            Self::Refuse,
            Self::Early,
            Self::Late,
            Self::Jump,
            Self::Cancel,
        ];

        /// In one word, such as `delay`.
        #[must_use]
        pub const fn name(self) -> &'static str {
            match self {
                Self::Delay => "delay",
                Self::Panic => "panic",
                Self::Refuse => "refuse",
                Self::Early => "early",
                Self::Late => "late",
                Self::Jump => "jump",
                Self::Cancel => "cancel",
            }
        }
    }

    impl fmt::Display for Fault {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.pad(self.name())
        }
    }

    /// A place of the library where faults may be injected; from [`points()`].
    ///
    /// # Examples
    ///
    /// ```
    /// for point in cleanbreak::chaos::points() {
    ///     let (part, place) = point.name.split_once('.').unwrap();
    ///     assert!(!part.is_empty() && !place.is_empty() && !point.about.is_empty());
    ///     assert!(!point.faults.is_empty());
    /// }
    /// ```
    #[derive(Clone, Copy, Debug)]
    #[non_exhaustive]
    pub struct Point {
        /// Part and place, such as `channel.send`.
        pub name: &'static str,
        /// What may happen there.
        pub faults: &'static [Fault],
        /// What the thread is about to do there.
        pub about: &'static str,
    }

    /// All points of the library, also those of features that are off.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanbreak::chaos::{Fault, points};
    ///
    /// let spawn = points().iter().find(|point| point.name == "threads.spawn").unwrap();
    /// assert_eq!(spawn.faults, [Fault::Refuse]);
    /// ```
    #[must_use]
    pub const fn points() -> &'static [Point] {
        POINTS
    }

    impl At {
        pub(crate) const fn point(self) -> &'static Point {
            &POINTS[self as usize]
        }
    }
}
