//! One run of a child, on its thread.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::context::{Context, Ready};
use super::end::ChildEnd;
use super::plan::ChildId;
use super::shared::{Message, Role, Shared, Slot};
use super::spec::{Body, ChildSpec};
use crate::cancel::CancelToken;
use crate::contain::drop_contained;
use crate::fault::{self, At};
use crate::sync::Arc;
use crate::threads::{self, Handle, Spec, ThreadError, current_record};

/// A run as the supervisor's thread holds it.
pub(super) struct Run {
    pub(super) token: CancelToken,
    pub(super) thread: Slot,
    handle: Handle,
}

/// Who runs: the child, and which of its runs this is.
#[derive(Clone, Copy)]
pub(super) struct RunId {
    pub(super) child: ChildId,
    pub(super) run: u64,
}

impl Run {
    pub(super) fn start(
        shared: &Arc<Shared>,
        child: &ChildSpec,
        id: RunId,
    ) -> Result<Self, ThreadError> {
        let token = shared.token.shield();
        let thread = Slot::default();
        let context = context(shared, child, &token, id);
        let mut spec = Spec::new(child.name.clone(), child.site).under(token.scope());
        spec.stack_size = child.stack_size;
        let (shared, body, slot) = (shared.clone(), child.body.clone(), thread.clone());
        let handle = threads::spawn(spec, move || serve(&shared, body, context, &slot, id))?;
        Ok(Self {
            token,
            thread,
            handle,
        })
    }

    /// It has said that it has ended: waits for the last lines of its thread, thread-local
    /// destructors included.
    pub(super) fn join(self) {
        self.handle.join();
        // Hooks that were left on it go with it.
        drop_contained(self.token);
    }
}

fn context(shared: &Arc<Shared>, child: &ChildSpec, token: &CancelToken, id: RunId) -> Context {
    let RunId { child: number, run } = id;
    let teller = shared.clone();
    let ready = Ready::new(move || {
        let at = teller.now();
        let id = number;
        teller.inbox.send(Message::Ready { id, run, at }).ok();
    });
    Context {
        name: child.name.clone(),
        token: token.clone(),
        supervisor: shared.token.clone(),
        restarts: run.saturating_sub(1),
        ready,
    }
}

fn serve(shared: &Shared, body: Arc<Body>, context: Context, slot: &Slot, id: RunId) {
    shared.enter(Role::Child(id.child));
    if let Some(record) = current_record() {
        slot.set(record).ok();
    }
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        let _span = shared.span.clone().enter();
        fault::run(At::SuperviseRun);
        body(&context)
    }));
    let cancelled = context.token.cancelled();
    let (was_cancelled, at) = (cancelled.is_some(), shared.now());
    let end = ChildEnd::new(outcome, cancelled);
    // Either may be the last that holds values of the user's.
    drop_contained(body);
    drop_contained(context);
    let ended = Message::Ended {
        id: id.child,
        run: id.run,
        end,
        cancelled: was_cancelled,
        at,
    };
    shared.inbox.send(ended).ok();
}
