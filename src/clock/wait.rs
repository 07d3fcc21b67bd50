//! Waiting for a condition variable by a clock that it does not know.

use super::{Clock, Instant, Timed};
use crate::sync::Arc;

struct Alarm<N>(N);

impl<N: Fn() + Send + Sync> Timed for Alarm<N> {
    fn fire(self: Arc<Self>, _due: Instant, _now: Instant) -> Option<Instant> {
        (self.0)();
        None
    }
}

/// Calls `wait` with a deadline of the system's clock, or with a reason to give up that comes true
/// with a nudge, which lets those who wait look at their condition again. The caller holds no lock
/// that `nudge` takes.
pub(crate) fn wait_until(
    clock: &Clock,
    deadline: Option<Instant>,
    nudge: impl Fn() + Send + Sync + 'static,
    wait: impl FnOnce(Option<std::time::Instant>, &dyn Fn() -> bool) -> bool,
) -> bool {
    let Some(deadline) = deadline else {
        return wait(None, &|| false);
    };
    if let Some(at) = clock.to_std(deadline) {
        return wait(Some(at), &|| false);
    }
    let alarm: Arc<dyn Timed> = Arc::new(Alarm(nudge));
    let timer = clock.register(deadline, Arc::downgrade(&alarm));
    let reached = wait(None, &|| clock.now() >= deadline);
    drop(timer);
    reached
}
