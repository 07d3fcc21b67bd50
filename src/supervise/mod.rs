//! Floor 4: loops that are started in order, restarted when they fail, and stopped in order.
//!
//! A [`Supervisor`] keeps a list of named loops running, each on a thread of its own: the
//! supervisor of [Erlang/OTP](https://www.erlang.org/doc/system/sup_princ.html), with its names,
//! for threads. As nothing can kill a thread, what OTP kills is *reported* here.
//!
//! # What is promised
//!
//! * **P3** A loop that fails (returns an error or panics) is started again, as its
//!   [`Restart`] says, after a [backoff](crate::backoff) that starts over once the loop has run
//!   well for a time. A loop whose own token is cancelled is **not** started again, whatever it
//!   returned; one that returns a [`Cancelled`](crate::Cancelled) error while its own token lives
//!   **is**.
//! * **Intensity.** More restarts than [so many in a time](SupervisorBuilder::intensity), all
//!   children together: the supervisor gives up, stops all of them and says why.
//! * **Start in order.** Each child starts when the one before is ready, which it says by
//!   [`Context::ready`]. [`start`](SupervisorBuilder::start) returns when all are, or when one has
//!   failed, ended or was too slow: those that were started are then stopped, in reverse.
//! * **Stop in order.** [Phases](Phase) are stopped in reverse, each with a deadline. Who is late
//!   is reported, with name, spawn site and what it waits on, and the next phase goes on. So it is
//!   also when the parent token is cancelled: the children's tokens are *not* below it, but
//!   cancelled phase by phase, with its kind and cause.
//! * Two runs of one child never overlap, thread-local destructors included: where a run that
//!   should be replaced does not stop, the next one waits for it.
//! * When [`shutdown`](Supervisor::shutdown) or the drop returns, every thread has been joined;
//!   but `shutdown` leaves those alone that it reports as stuck, which the drop waits for.
//!
//! # What is not
//!
//! * Nothing stops a loop by force: one that ignores its token holds the drop up for ever, and is
//!   reported again and again.
//! * A thread-local destructor of a child's that blocks holds up the supervisor too, unseen.
//! * A deadline of the parent token is not seen by the children as theirs: they hear of it when
//!   their turn comes.
//! * The state of the world is not restored: a restarted loop finds locks, files and channels as
//!   the failed run left them. What it captured is shared by all of its runs.
//!
//! # Threads
//!
//! One for the supervisor, which sleeps until something happens, and one for each child that
//! runs; a child that waits for its restart has none. Event callbacks, hooks on the children's
//! tokens and a [custom backoff](crate::backoff::Backoff::custom) run on the supervisor's thread:
//! while one of them blocks, nothing is restarted or stopped.
//!
//! # Which to use
//!
//! Work that has an end, and whose first error is yours to handle: a [group](crate::group). Many
//! short tasks: a [pool](crate::pool). Loops that are to run as long as the process: this.
//!
//! # Supervisors below supervisors
//!
//! A child whose body starts a supervisor on its own token, says that it is ready, and returns what
//! [`Report::check`] says when [`wait`](Supervisor::wait) returns: when the lower one gives up, its
//! parent restarts it, whole. Give its phase in the upper one the time that all of its own phases
//! may take together.
//!
//! ```
//! use cleanbreak::supervise::{ChildEnd, ChildSpec, ChildState, Supervisor};
//! use cleanbreak::CancelToken;
//!
//! let market = ChildSpec::new("market", |cx| {
//!     let feed = ChildSpec::new("feed", |cx| { cx.ready(); cx.token().wait(); Ok(()) });
//!     let below = Supervisor::builder().name("feeds").child(feed).start(cx.token())?;
//!     cx.ready();
//!     Ok(below.wait().check()?)
//! });
//! let service = CancelToken::new();
//! let above = Supervisor::builder().child(market).start(&service).unwrap();
//! service.cancel_with("SIGTERM"); // feed, then feeds, then market
//! let report = above.wait();
//! let market = &report.children[0];
//! assert!(matches!(&market.state, ChildState::Ended(ChildEnd::Cancelled(_))), "{report}");
//! ```

mod builder;
mod context;
mod end;
mod err;
mod event;
mod handle;
mod list;
mod manager;
mod plan;
mod report;
mod run;
mod shared;
mod spec;

pub use builder::SupervisorBuilder;
pub use context::Context;
pub use end::{ChildEnd, Failure, Panic};
pub use err::{AddError, ChildError, ChildErrorKind, StartError, StartErrorKind};
pub use event::Event;
pub use handle::Supervisor;
pub use list::{SupervisorInfo, live};
pub use report::{ChildInfo, ChildState, GaveUp, PhaseReport, Report, StopReason};
pub use spec::{ChildSpec, Phase, Restart, Strategy};
