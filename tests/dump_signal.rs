//! Stacks of threads that run, by a signal: function and line, what is flagged, and who is left
//! alone.
//!
//! A binary of its own: the handler is the process's.
#![cfg(all(target_os = "linux", target_arch = "x86_64", not(cleanbreak_portable)))]
#![allow(
    clippy::disallowed_methods,
    reason = "most of what is dumped are threads that the library did not start"
)]

#[path = "support/signals.rs"]
mod signals;
mod support;

use std::hint::black_box;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Instant;

use cleanbreak::diagnose::{
    DumpBuilder, DumpedThread, Frame, OsState, StackProblem, StackSignal, StackSignalError,
    TakenBy, ThreadDump,
};
use signals::{own_tid, send_plain, set_blocked};
use support::{PATIENCE, child_passes, in_time, is_child, millis, until};

/// Whether threads can be seen from outside here. If not, who sleeps gets signals too.
fn sleepers_are_seen() -> bool {
    let readable = std::fs::read_to_string("/proc/thread-self/syscall").is_ok()
        && std::fs::read_to_string("/proc/thread-self/schedstat").is_ok();
    if !readable {
        println!("NOT CHECKED: /proc/TID/syscall or schedstat is not readable here");
    }
    readable
}

fn with_signal() -> DumpBuilder {
    let signal = StackSignal::install().unwrap();
    ThreadDump::builder().signal(signal).patience(PATIENCE)
}

fn named<'a>(dump: &'a ThreadDump, name: &str) -> Option<&'a DumpedThread> {
    dump.threads().iter().find(|thread| thread.name == name)
}

fn short(name: &str) -> String {
    // Of a method, the newer mangling has it as `<module::Type>::method`.
    name.replace(['<', '>'], "")
}

fn frame<'a>(thread: &'a DumpedThread, function: &str) -> Option<&'a Frame> {
    let with_name = |frame: &&Frame| {
        let name = frame.function().map(short);
        name.is_some_and(|name| name.ends_with(function))
    };
    thread.stack.frames().iter().find(with_name)
}

/// Tells the busy threads of one test to end, also when that has failed.
#[derive(Default)]
struct Stop {
    stop: AtomicBool,
    begun: AtomicBool,
}

impl Stop {
    fn told(&self) -> bool {
        self.begun.store(true, Ordering::Relaxed);
        self.stop.load(Ordering::Relaxed)
    }
}

struct StopOnDrop<'a>(&'a Stop);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.stop.store(true, Ordering::Relaxed);
    }
}

/// Runs `busy` on a named thread until `look` has seen it.
fn beside(name: &str, busy: impl FnOnce(&Stop) + Send, look: impl FnOnce()) {
    let stop = Stop::default();
    thread::scope(|scope| {
        let _stop = StopOnDrop(&stop);
        let builder = thread::Builder::new().name(name.to_owned());
        builder.spawn_scoped(scope, || busy(&stop)).unwrap();
        until(|| stop.begun.load(Ordering::Relaxed));
        look();
    });
}

/// Dumps by signal until the thread was caught in `function`, or what that calls.
fn caught(name: &str, function: &str) -> DumpedThread {
    let mut found = None;
    until(|| {
        let dump = with_signal().capture();
        assert_eq!(dump.problems(), [""; 0]);
        let thread = named(&dump, name).unwrap();
        // Nothing in the way of a busy thread: it has a stack in each dump.
        assert!(thread.stack.is_complete(), "{thread}");
        if thread.stack.taken_by() == TakenBy::Signal && frame(thread, function).is_some() {
            found = Some(thread.clone());
        }
        found.is_some()
    });
    found.unwrap()
}

fn is_in(frame: &Frame, lines: std::ops::Range<u32>) -> bool {
    let line = frame.line().unwrap();
    frame.file().unwrap().ends_with("tests/dump_signal.rs") && lines.contains(&line)
}

const SPIN: u32 = line!();
#[inline(never)]
fn spins(stop: &Stop) {
    while !stop.told() {
        std::hint::spin_loop();
    }
}
const SPUN: u32 = line!();

#[test]
fn a_thread_that_spins_has_its_function_and_line() {
    in_time(|| {
        beside("spins", spins, || {
            let thread = caught("spins", "dump_signal::spins");
            let found = frame(&thread, "dump_signal::spins").unwrap();
            assert!(is_in(found, SPIN..SPUN), "{thread}");
            assert_eq!(thread.state, Some(OsState::Running));
            assert_eq!(thread.system_call, None);
            assert!(
                thread.to_string().contains("\n(taken by a signal)\n"),
                "{thread}"
            );
        });
    });
}

const DESCENT: u32 = line!();
#[inline(never)]
fn descends(levels: u32, stop: &Stop) -> u32 {
    if levels == 0 {
        spins(stop);
        return 0;
    }
    black_box(descends(levels - 1, stop)) + 1
}
const DESCENDED: u32 = line!();

#[test]
fn a_deep_stack_has_each_of_its_levels() {
    in_time(|| {
        let busy = |stop: &Stop| assert_eq!(descends(60, stop), 60);
        beside("descends", busy, || {
            let thread = caught("descends", "dump_signal::spins");
            let levels = thread.stack.frames().iter().filter(|frame| {
                let name = frame.function().map(short);
                name.is_some_and(|name| name.ends_with("::descends"))
                    && is_in(frame, DESCENT..DESCENDED)
            });
            assert_eq!(levels.count(), 61, "{thread}");
        });
    });
}

const INLINED: u32 = line!();
#[inline(always)]
fn is_inlined(stop: &Stop) {
    while !stop.told() {
        std::hint::spin_loop();
    }
}
const NOT_INLINED: u32 = line!();
#[inline(never)]
fn has_inlined(stop: &Stop) {
    is_inlined(stop);
    black_box(stop);
}

#[test]
fn an_inlined_function_is_named_with_the_one_that_it_is_part_of() {
    in_time(|| {
        beside("inlined", has_inlined, || {
            let thread = caught("inlined", "is_inlined");
            let inner = frame(&thread, "is_inlined").unwrap();
            let outer = frame(&thread, "has_inlined").unwrap();
            assert!(inner.is_inlined() && !outer.is_inlined(), "{thread}");
            assert!(is_in(inner, INLINED..NOT_INLINED), "{thread}");
            assert_eq!(outer.line(), Some(NOT_INLINED + 3), "{thread}");
            assert_eq!(inner.address(), outer.address());
        });
    });
}

/// A long computation, most of it in the C library and in std.
#[inline(never)]
fn computes(stop: &Stop) {
    let mut numbers: Vec<u64> = (0..5_000).map(|n| n * 7_919 % 5_003).collect();
    while !stop.told() {
        numbers.sort_unstable_by_key(|n| n.wrapping_mul(31) % 4_999);
        numbers = black_box(numbers.clone());
        black_box(Instant::now()); // in a page of the kernel's
    }
}

#[test]
fn a_thread_in_a_computation_has_its_function_whatever_it_has_called() {
    in_time(|| {
        beside("computes", computes, || {
            for _ in 0..50 {
                caught("computes", "dump_signal::computes");
            }
        });
    });
}

#[test]
fn without_being_asked_for_no_signal_is_sent() {
    in_time(|| {
        StackSignal::install().unwrap();
        beside("unasked", spins, || {
            for _ in 0..20 {
                let dump = ThreadDump::capture();
                let thread = named(&dump, "unasked").unwrap();
                // On a busy machine it may be seen while it has no processor.
                assert_ne!(thread.stack.taken_by(), TakenBy::Signal, "{thread}");
            }
        });
    });
}

#[test]
fn the_json_says_how_a_stack_was_taken() {
    in_time(|| {
        beside("json", spins, || {
            caught("json", "dump_signal::spins");
            let dump = with_signal().capture();
            let json: serde_json::Value = serde_json::from_str(&dump.to_json()).unwrap();
            let threads = json["threads"].as_array().unwrap();
            for (json, thread) in threads.iter().zip(dump.threads()) {
                let taken = match thread.stack.taken_by() {
                    TakenBy::Look => "look",
                    TakenBy::Signal => "signal",
                    TakenBy::Own => "own",
                    other => panic!("{other}"),
                };
                assert_eq!(json["stack"]["taken_by"], taken);
                assert_eq!(thread.is_current, taken == "own");
            }
        });
    });
}

const LONG: rustix::time::Timespec = rustix::time::Timespec {
    tv_sec: 3_600,
    tv_nsec: 0,
};

fn nanosleep() -> bool {
    let slept = rustix::thread::nanosleep(&LONG);
    matches!(
        slept,
        rustix::thread::NanosleepRelativeResult::Interrupted(_)
    )
}

fn poll() -> bool {
    rustix::event::poll(&mut [], Some(&LONG)) == Err(rustix::io::Errno::INTR)
}

/// And the negative control: a signal that is sent without a look does interrupt.
#[test]
fn threads_that_sleep_are_left_alone() {
    if !sleepers_are_seen() {
        return;
    }
    in_time(|| {
        for (name, sleep) in [("nanosleep", nanosleep as fn() -> bool), ("poll", poll)] {
            let interrupted = AtomicBool::new(false);
            let sleeper = |stop: &Stop| {
                stop.told();
                interrupted.store(sleep(), Ordering::SeqCst);
            };
            let seen = || {
                let dump = ThreadDump::capture();
                let thread = named(&dump, name).unwrap();
                let calls = ["clock_nanosleep", "nanosleep", "poll", "ppoll"];
                let call = thread.system_call.and_then(|call| call.name());
                call.is_some_and(|call| calls.contains(&call))
                    .then_some(thread.tid.unwrap())
            };
            beside(name, sleeper, || {
                until(|| seen().is_some());
                // The busy one gets a signal in each of the dumps.
                beside("busy", spins, || {
                    for _ in 0..100 {
                        let dump = with_signal().capture();
                        let busy = named(&dump, "busy").unwrap();
                        assert!(busy.stack.is_complete(), "{busy}");
                        let asleep = named(&dump, name).unwrap();
                        assert_eq!(asleep.stack.taken_by(), TakenBy::Look, "{asleep}");
                    }
                });
                assert!(!interrupted.load(Ordering::SeqCst), "{name}");
                let signal = StackSignal::install().unwrap();
                send_plain(seen().unwrap(), signal.number());
                until(|| interrupted.load(Ordering::SeqCst));
            });
        }
    });
}

#[test]
fn a_thread_that_blocks_the_signal_is_flagged_and_gets_none_however_many_dumps() {
    in_time(|| {
        let signal = StackSignal::install().unwrap();
        let deaf = |stop: &Stop| {
            set_blocked(None, true);
            spins(stop);
        };
        beside("deaf", deaf, || {
            let mut flagged = 0;
            until(|| {
                let begun = Instant::now();
                let dump = with_signal().capture();
                assert!(begun.elapsed() < PATIENCE, "it was waited for");
                let deaf = named(&dump, "deaf").unwrap();
                // On a busy machine it may be seen while it has no processor.
                if deaf.stack.taken_by() == TakenBy::Look && deaf.stack.is_complete() {
                    return false;
                }
                assert_eq!(
                    deaf.stack.problem(),
                    Some(StackProblem::SignalBlocked),
                    "{deaf}"
                );
                let text = deaf.to_string();
                assert!(
                    text.contains("(no stack: the thread blocks signals"),
                    "{text}"
                );
                let waits = signals::in_wait(deaf.tid.unwrap(), signal.number());
                assert!(!waits, "a signal waits for it");
                flagged += 1;
                flagged == 10
            });
        });
    });
}

/// A signal that has not come yet when the next dump is taken is not followed by another.
#[test]
fn while_a_signal_is_in_wait_no_other_is_sent() {
    in_time(|| {
        let signal = StackSignal::install().unwrap().number();
        let spinner = |stop: &Stop| {
            set_blocked(Some(signal), true);
            send_plain(own_tid(), signal);
            spins(stop);
            set_blocked(Some(signal), false);
        };
        beside("in wait", spinner, || {
            let dump = with_signal().patience(millis(1)).capture();
            let thread = named(&dump, "in wait").unwrap();
            assert!(thread.stack.taken_by() == TakenBy::Look, "{thread}");
        });
    });
}

/// A handler on a stack of its own, which has no room for another one: no signal comes on top of it. One
/// on the thread's stack is part of that.
#[test]
fn a_thread_in_a_handler_of_its_own_is_flagged_or_has_a_right_stack() {
    if !is_child() {
        child_passes(
            "a_thread_in_a_handler_of_its_own_is_flagged_or_has_a_right_stack",
            "",
        );
        return;
    }
    in_handler(true, |thread| {
        assert_eq!(
            thread.stack.problem(),
            Some(StackProblem::SignalBlocked),
            "{thread}"
        );
    });
    in_handler(false, |thread| {
        assert!(thread.stack.is_complete(), "{thread}");
        assert!(frame(thread, "::handles").is_some(), "{thread}");
        assert!(frame(thread, "signals::send_plain").is_some(), "{thread}");
    });
}

/// A spinning signal handler, seen twenty times while it runs.
fn in_handler(on_own_stack: bool, check: impl Fn(&DumpedThread)) {
    static STOP: Stop = Stop {
        stop: AtomicBool::new(false),
        begun: AtomicBool::new(false),
    };
    #[inline(never)]
    extern "C" fn handles(_: libc::c_int) {
        spins(&STOP);
    }
    STOP.stop.store(false, Ordering::SeqCst);
    STOP.begun.store(false, Ordering::SeqCst);
    signals::handle(libc::SIGUSR1, handles, on_own_stack);
    let interrupted = || send_plain(own_tid(), libc::SIGUSR1);
    thread::scope(|scope| {
        let _stop = StopOnDrop(&STOP);
        let builder = thread::Builder::new().name("handles".to_owned());
        builder.spawn_scoped(scope, interrupted).unwrap();
        until(|| STOP.begun.load(Ordering::Relaxed));
        for _ in 0..20 {
            let dump = with_signal().capture();
            check(named(&dump, "handles").unwrap());
        }
    });
}

#[test]
fn many_threads_that_run_are_all_there() {
    in_time(|| {
        let stop = Stop::default();
        thread::scope(|scope| {
            let _stop = StopOnDrop(&stop);
            for index in 0..20 {
                let builder = thread::Builder::new().name(format!("crowd-{index}"));
                builder.spawn_scoped(scope, || spins(&stop)).unwrap();
            }
            let mut right = 0;
            until(|| {
                let dump = with_signal().capture();
                let crowd = dump
                    .threads()
                    .iter()
                    .filter(|it| it.name.starts_with("crowd-"));
                let spin = crowd.filter(|it| {
                    it.stack.is_complete() && frame(it, "dump_signal::spins").is_some()
                });
                right = spin.count();
                right == 20
            });
        });
    });
}

#[test]
fn signals_that_cannot_be_had_are_refused() {
    if !is_child() {
        child_passes("signals_that_cannot_be_had_are_refused", "");
        return;
    }
    extern "C" fn somebody_elses(_: libc::c_int) {}
    let (min, max) = (libc::SIGRTMIN(), libc::SIGRTMAX());
    for number in [libc::SIGUSR1, 0, -1, min - 1, max + 1] {
        let error = StackSignal::install_at(number).unwrap_err();
        assert!(matches!(error, StackSignalError::NotRealTime(it) if it == number));
    }
    signals::handle(min + 8, somebody_elses, false);
    let error = StackSignal::install_at(min + 8).unwrap_err();
    assert!(matches!(error, StackSignalError::Taken(it) if it == min + 8));
    assert!(error.to_string().contains("in use by somebody else"));

    // The next one that is free; and it is the one of the process.
    let signal = StackSignal::install().unwrap();
    assert_eq!(signal.number(), min + 9);
    assert_eq!(StackSignal::install().unwrap(), signal);
    assert_eq!(StackSignal::install_at(min + 9).unwrap(), signal);
    let error = StackSignal::install_at(min + 10).unwrap_err();
    assert!(matches!(error, StackSignalError::InstalledAt(it) if it == min + 9));

    // Somebody takes it over: no signal, and a word about it.
    beside("spins", spins, || {
        let dump = ThreadDump::builder().signal(signal).capture();
        assert_eq!(dump.problems(), [""; 0]);
        signals::handle(min + 9, somebody_elses, false);
        let dump = ThreadDump::builder().signal(signal).capture();
        assert!(dump.problems()[0].contains("handler of somebody else's"));
        assert_ne!(
            named(&dump, "spins").unwrap().stack.taken_by(),
            TakenBy::Signal
        );
        let error = StackSignal::install().unwrap_err();
        assert!(matches!(error, StackSignalError::Taken(it) if it == min + 9));
    });
}
