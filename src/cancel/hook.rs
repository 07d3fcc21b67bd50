//! A closure that runs once on cancellation, and how to take it back.
//!
//! # Invariants
//!
//! 1. A hook goes `Armed → Running → Done` or `Armed → Done` (taken back). Only `Armed` has the
//!    closure, and whoever makes the step away from it has it alone: it runs once or not at all.
//! 2. The closure runs, and is dropped, outside every lock, and no panic of it gets out.
//! 3. Who waits for a running hook is in [`WAITS`] for as long as it waits: entered under that
//!    hook's lock, and taken out under it when the hook is done. So of the threads that would close
//!    a circle of hooks waiting for each other, the last one sees the circle, and does not wait.
//!
//! Lock order: a hook's state, then `WAITS`. Neither is held together with a node's lock.

use crate::contain::{contain, drop_contained};
use crate::sync::{Condvar, Mutex, ThreadId, current_thread, plain};

pub(crate) type Closure = Box<dyn FnOnce() + Send>;

pub(crate) struct Hook {
    state: Mutex<State>,
    done: Condvar,
}

enum State {
    Armed(Closure),
    Running { on: ThreadId, awaited: bool },
    Done,
}

/// How an attempt to take a hook back ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TakeBack {
    /// It will never run.
    TakenBack,
    /// It is running.
    Running,
    /// It had run, or had been taken back.
    Done,
}

/// A thread that waits for a hook, and the thread that runs the hook.
struct Wait {
    waiter: ThreadId,
    runner: ThreadId,
    /// The hook's address, to compare.
    hook: usize,
}

static WAITS: plain::Mutex<Vec<Wait>> = plain::Mutex::new(Vec::new());

impl Hook {
    pub(crate) fn new(closure: Closure) -> Self {
        Self {
            state: Mutex::new(State::Armed(closure)),
            done: Condvar::new(),
        }
    }

    /// Runs the closure, unless it has been run or taken back. A panic stays here: the panic hook
    /// has reported it, and the other hooks have a right to run.
    pub(crate) fn run(&self) {
        let running = State::Running {
            on: current_thread(),
            awaited: false,
        };
        let Some(closure) = self.disarm(running) else {
            return;
        };
        contain(closure);
        self.finish();
    }

    /// Takes the hook back if it has not started. Does not wait.
    pub(crate) fn take_back(&self) -> TakeBack {
        match self.disarm(State::Done) {
            Some(closure) => {
                drop_contained(closure);
                TakeBack::TakenBack
            }
            None if matches!(*self.state.lock(), State::Done) => TakeBack::Done,
            None => TakeBack::Running,
        }
    }

    /// Waits until the hook is done, unless that could only end after this returned: it runs on
    /// this very thread, or on one that waits, maybe through others, for a hook of this thread.
    pub(crate) fn await_done(&self) {
        let mut state = self.state.lock();
        match &mut *state {
            State::Running { on, awaited } => {
                if !announce_wait(*on, self.address()) {
                    return;
                }
                *awaited = true;
            }
            State::Armed(_) | State::Done => return,
        }
        while !matches!(*state, State::Done) {
            self.done.wait(&mut state);
        }
    }

    /// Leaves `Armed` for `next` and returns the closure; otherwise changes nothing.
    fn disarm(&self, next: State) -> Option<Closure> {
        let mut state = self.state.lock();
        if !matches!(*state, State::Armed(_)) {
            return None;
        }
        match std::mem::replace(&mut *state, next) {
            State::Armed(closure) => Some(closure),
            State::Running { .. } | State::Done => unreachable!("looked under the lock"),
        }
    }

    fn finish(&self) {
        let mut state = self.state.lock();
        if let State::Running { awaited: true, .. } = *state {
            WAITS.lock().retain(|wait| wait.hook != self.address());
        }
        *state = State::Done;
        self.done.notify_all();
    }

    fn address(&self) -> usize {
        std::ptr::from_ref(self).addr()
    }
}

/// Enters the calling thread as waiting for `hook` on `runner`; `false`, with nothing entered, if
/// that closes a circle.
fn announce_wait(runner: ThreadId, hook: usize) -> bool {
    let waiter = current_thread();
    let mut waits = WAITS.lock();
    let mut at = runner;
    loop {
        if at == waiter {
            return false;
        }
        // A thread waits for one hook at a time, so the way on is unique and ends.
        match waits.iter().find(|wait| wait.waiter == at) {
            Some(wait) => at = wait.runner,
            None => break,
        }
    }
    waits.push(Wait {
        waiter,
        runner,
        hook,
    });
    true
}

/// Goes with its node, or with a registration whose node is gone: on any thread, maybe the timer's.
impl Drop for Hook {
    fn drop(&mut self) {
        if let State::Armed(closure) = std::mem::replace(self.state.get_mut(), State::Done) {
            drop_contained(closure);
        }
    }
}
