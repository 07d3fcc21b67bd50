//! Taking the dump.
//!
//! # Invariants
//!
//! 1. A stack is kept only if the thread's run counter is the same before and after the copy (so it
//!    slept all the while), or if the thread has copied it itself; and in each case if the loader has
//!    loaded and unloaded nothing since the tables were read.
//! 2. Lock order: the engine's lock, then the registry's. No code of the user runs under it, but a
//!    global allocator, and a panic hook should the library itself panic: a dump from inside a dump
//!    is refused, not waited for.

use std::cell::Cell;
use std::collections::HashMap;
use std::sync::LazyLock;
use std::time::Duration;

use super::dump::{DumpBuilder, Module};
use super::sample::Sample;
use super::stack::{Stack, StackProblem, TakenBy, Walk};
use super::stacks::{Here, Stacks};
use super::task::{self, Runs};
use super::thread::{DumpedThread, OsState};
use crate::clock::{Clock, Instant};
use crate::sync::Arc;
use crate::sync::plain::Mutex;
use crate::threads::{self, Record, ThreadInfo};

static ENGINE: LazyLock<Mutex<Engine>> = LazyLock::new(Mutex::default);

thread_local! {
    static DUMPING: Cell<bool> = const { Cell::new(false) };
}

pub(super) struct Captured {
    pub(super) threads: Vec<DumpedThread>,
    pub(super) problems: Vec<String>,
    pub(super) modules: Vec<Module>,
}

pub(super) fn capture(options: &DumpBuilder, here: Here) -> Captured {
    let records = threads::records();
    if DUMPING.replace(true) {
        return refused(&records);
    }
    scopeguard::defer!(DUMPING.set(false));
    let mut captured = ENGINE.lock().capture(options, here, &records);
    add_tokens(&mut captured.threads, &records);
    captured
}

/// With the engine's lock given back: the last handle of a token may come to be ours, with hooks of
/// the user's on it.
fn add_tokens(threads: &mut [DumpedThread], records: &[Arc<Record>]) {
    let records: HashMap<u64, &Record> = records.iter().map(|it| (it.id(), &**it)).collect();
    for info in threads.iter_mut().filter_map(|it| it.library.as_mut()) {
        info.token = records.get(&info.id).and_then(|record| record.token());
    }
}

/// All that is kept from one dump to the next.
#[derive(Default)]
struct Engine {
    stacks: Stacks,
    looks: HashMap<u32, Look>,
}

/// How a thread was when it was last seen blocked.
#[derive(Clone, Copy, Debug)]
struct Look {
    start: u64,
    runs: Runs,
    since: Instant,
    /// When it was last seen so.
    seen: Instant,
}

impl Engine {
    fn capture(&mut self, options: &DumpBuilder, here: Here, records: &[Arc<Record>]) -> Captured {
        let mut problems = Vec::new();
        let tids = task::tids().unwrap_or_else(|error| {
            problems.push(format!(
                "the threads of the process cannot be listed: {error}"
            ));
            Vec::new()
        });
        let (mut listed, unlisted) = by_tid(records);
        let wanted = |tid: &u32| options.only.as_ref().is_none_or(|only| only.contains(tid));
        let now = Clock::default().now();
        let own = task::own_tid();
        self.stacks.refresh();
        let mut samples = Vec::with_capacity(tids.len());
        for tid in tids.into_iter().filter(wanted) {
            let record = listed.remove(&tid).cloned();
            let here = (tid == own).then_some(here);
            samples.extend(Sample::take(tid, here, record, options, &mut self.stacks));
        }
        #[cfg(all(target_arch = "x86_64", target_pointer_width = "64"))]
        if let Some(signal) = options.signal.filter(|_| options.stacks) {
            super::signalled::fill(
                &mut samples,
                signal,
                options,
                &mut self.stacks,
                &mut problems,
            );
        }
        let mut threads: Vec<_> = samples
            .into_iter()
            .map(|sample| self.show(sample, options, now))
            .collect();
        self.looks
            .retain(|tid, look| look.seen == now || !wanted(tid));
        problems.extend(denied(&threads).map(str::to_owned));
        if options.only.is_none() {
            threads.extend(
                unlisted
                    .iter()
                    .map(|record| unseen(record.info_without_token())),
            );
            // Where no threads are listed, those of the library are still known.
            let listed = listed.into_values().filter(|_| !problems.is_empty());
            threads.extend(listed.map(|record| unseen(record.info_without_token())));
        }
        let modules = self.stacks.modules();
        Captured {
            threads,
            problems,
            modules,
        }
    }

    fn show(&mut self, sample: Sample, options: &DumpBuilder, now: Instant) -> DumpedThread {
        let blocked = self.blocked(&sample, now);
        let Sample {
            tid,
            is_current,
            stat,
            state,
            call,
            info,
            walk,
            taken,
            ..
        } = sample;
        let waiting = info.as_ref().and_then(|info| info.waiting);
        let waiting = waiting.filter(|_| state == Some(OsState::Sleeping));
        let waited = waiting.map(|waiting| waiting.since.elapsed());
        let kernels = stat.as_ref().map_or("?", |stat| &stat.name);
        let name = info.as_ref().map_or(kernels, |info| &info.name).to_owned();
        DumpedThread {
            tid: Some(tid),
            name,
            is_current,
            state,
            system_call: call,
            age: stat.and_then(|stat| task::age(stat.start)),
            blocked: blocked.max(waited),
            library: info,
            stack: self.name_frames(walk, taken, options),
        }
    }

    /// For how long it has been known not to have run; remembers how it is now.
    fn blocked(&mut self, sample: &Sample, now: Instant) -> Option<Duration> {
        let (start, runs) = (sample.stat.as_ref()?.start, sample.runs?);
        let known = self.looks.get(&sample.tid);
        let known = known.filter(|look| (look.start, look.runs) == (start, runs));
        let since = known.map(|look| look.since);
        let look = Look {
            start,
            runs,
            since: since.unwrap_or(now),
            seen: now,
        };
        self.looks.insert(sample.tid, look);
        since.map(|since| now.duration_since(since))
    }

    fn name_frames(&mut self, walk: Walk, taken: TakenBy, options: &DumpBuilder) -> Stack {
        let Walk { addresses, end } = walk;
        let (inner, outer) = kept(addresses.len(), options.max_frames);
        let mut frames = Vec::new();
        let mut omitted = None;
        for (index, address) in addresses.iter().enumerate() {
            if index == inner && index < outer {
                omitted = Some((outer - inner, frames.len()));
            }
            if index < inner || index >= outer {
                frames.extend(self.stacks.frames(*address).iter().cloned());
            }
        }
        Stack {
            frames,
            omitted,
            problem: end.err(),
            taken,
            addresses: addresses.into(),
        }
    }
}

/// Of so many frames, those before the first and those from the second number on are kept.
fn kept(frames: usize, most: usize) -> (usize, usize) {
    if frames <= most {
        return (frames, frames);
    }
    (most - most / 2, frames - most / 2)
}

/// By the kernel's number, and those that have none yet.
fn by_tid(records: &[Arc<Record>]) -> (HashMap<u32, &Arc<Record>>, Vec<&Arc<Record>>) {
    let (mut listed, mut unlisted) = (HashMap::new(), Vec::new());
    for record in records {
        match record.tid() {
            Some(tid) => drop(listed.insert(tid, record)),
            None => unlisted.push(record),
        }
    }
    (listed, unlisted)
}

/// That no thread but this one could be looked at, if so.
fn denied(threads: &[DumpedThread]) -> Option<&'static str> {
    let mut others = threads
        .iter()
        .filter(|thread| !thread.is_current)
        .peekable();
    others.peek()?;
    others
        .all(|thread| thread.stack.problem == Some(StackProblem::Denied))
        .then_some("the system does not let the stacks of threads be read")
}

/// A thread of which only the library knows.
fn unseen(info: ThreadInfo) -> DumpedThread {
    DumpedThread {
        tid: info.tid,
        name: info.name.clone(),
        is_current: false,
        state: None,
        system_call: None,
        age: Some(info.age),
        blocked: info.waiting.map(|waiting| waiting.since.elapsed()),
        library: Some(info),
        stack: Stack::missing(StackProblem::Unlisted),
    }
}

/// A dump that is asked for while this very thread takes one.
fn refused(records: &[Arc<Record>]) -> Captured {
    let problem = "a dump from inside a dump has only the library's threads";
    Captured {
        threads: records.iter().map(|record| unseen(record.info())).collect(),
        problems: vec![problem.to_owned()],
        modules: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::kept;

    #[test]
    fn both_ends_of_a_deep_stack_are_kept() {
        assert_eq!(kept(3, 4), (3, 3));
        assert_eq!(kept(4, 4), (4, 4));
        assert_eq!(kept(9, 4), (2, 7));
        assert_eq!(kept(9, 5), (3, 7));
    }
}
