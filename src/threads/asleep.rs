//! Whether a thread has slept all the while between two looks, as the kernel counts.
//!
//! A thread that has been woken and has not run yet still says that it waits. The kernel knows better:
//! it does not sleep any more. That is what tells a system that stands still from one that is slow.

use std::fs;

/// The kernel's count of how often, and for how long, a thread has run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Runs(String);

impl Runs {
    /// `None` if the kernel does not count, or does not tell.
    pub(super) fn of(tid: u32) -> Option<Self> {
        let line = fs::read_to_string(format!("/proc/self/task/{tid}/schedstat")).ok()?;
        let times = line.trim_end().rsplit(' ').next()?;
        (times != "0").then_some(Self(line))
    }

    /// Whether the thread sleeps and has not run since.
    pub(super) fn has_slept_since(&self, tid: u32) -> bool {
        is_asleep(tid) && Self::of(tid).as_ref() == Some(self)
    }
}

/// Whether it waits for something, rather than for a processor or in a page fault.
fn is_asleep(tid: u32) -> bool {
    let line = fs::read_to_string(format!("/proc/self/task/{tid}/stat"));
    // A name may have parentheses and spaces in it.
    line.is_ok_and(|line| {
        let state = line.rsplit_once(") ").map(|(_, after)| after);
        state.is_some_and(|state| state.starts_with("S "))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crossbeam_channel::bounded;

    #[test]
    fn a_thread_that_runs_is_not_asleep_and_one_that_was_woken_has_not_slept() {
        let own = rustix::thread::gettid()
            .as_raw_nonzero()
            .get()
            .unsigned_abs();
        let runs = Runs::of(own).expect("this kernel counts");
        assert!(!runs.has_slept_since(own));
        assert!(Runs::of(u32::MAX).is_none());

        let (tell, told) = bounded(1);
        let (wake, held) = bounded::<()>(0);
        std::thread::scope(|scope| {
            scope.spawn(move || {
                let own = rustix::thread::gettid()
                    .as_raw_nonzero()
                    .get()
                    .unsigned_abs();
                (0..2).for_each(|_| {
                    tell.send(own).unwrap();
                    held.recv().unwrap();
                });
            });
            let tid = told.recv().unwrap();
            let runs = loop {
                let runs = Runs::of(tid).unwrap();
                if runs.has_slept_since(tid) {
                    break runs;
                }
                std::thread::yield_now();
            };
            wake.send(()).unwrap();
            told.recv().unwrap();
            assert!(!runs.has_slept_since(tid), "it has run meanwhile");
            wake.send(()).unwrap();
        });
    }
}
