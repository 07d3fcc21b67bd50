//! K1: one timer thread for a clock, from the first timer to the last.
//!
//! A binary of its own, and one test at a time: it looks at the threads of the process.

mod support;

use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use cleanbreak::{CancelToken, Clock, Ticker, threads};
use crossbeam_channel::bounded;
use support::{PATIENCE, dither, eventually, in_time, millis, rng, secs};

const NAME: &str = "cleanbreak isolated timer";

/// Tests that count threads take turns.
fn alone() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

fn listed() -> usize {
    threads::live().iter().filter(|t| t.name == NAME).count()
}

/// The timer threads as the kernel knows them, by the fifteen bytes that it keeps of a name.
#[cfg(target_os = "linux")]
fn in_the_kernel() -> usize {
    let tasks = std::fs::read_dir("/proc/self/task").expect("procfs");
    let names =
        tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("comm")).ok());
    names.filter(|name| name.trim_end() == &NAME[..15]).count()
}

/// After a join the list is empty at once; the kernel drops the task a moment after it has let the
/// joiner go.
fn assert_no_timer_thread() {
    assert_eq!(listed(), 0);
    #[cfg(target_os = "linux")]
    eventually("the kernel's task ends", || in_the_kernel() == 0);
}

fn assert_one_timer_thread() {
    assert_eq!(listed(), 1);
    // A new thread takes its name itself.
    #[cfg(target_os = "linux")]
    eventually("the kernel knows one task", || in_the_kernel() == 1);
}

fn far(clock: &Clock) -> CancelToken {
    CancelToken::with_clock(clock).child_timeout(secs(3600))
}

fn ticker(clock: &Clock) -> Ticker {
    Ticker::builder(secs(3600)).clock(clock).start().unwrap()
}

/// A token whose hook will run on the timer thread, or does already. On a machine so busy that the
/// deadline passes before the hook is registered it would run at once, on this thread: then another
/// one is tried, with more time.
fn with_hook_on_the_timer_thread(
    clock: &Clock,
    hook: impl FnOnce() + Send + 'static,
) -> CancelToken {
    let hook = Arc::new(Mutex::new(Some(hook)));
    let here = thread::current().id();
    let mut timeout = millis(1);
    loop {
        let token = CancelToken::with_clock(clock).child_timeout(timeout);
        let too_late = Arc::new(AtomicBool::new(false));
        let (hook, missed) = (hook.clone(), too_late.clone());
        let in_time = move || {
            if thread::current().id() == here {
                missed.store(true, SeqCst);
            } else {
                let hook = hook.lock().unwrap().take().expect("armed once");
                hook();
            }
        };
        token.on_cancel(in_time).detach();
        if !too_late.load(SeqCst) {
            return token;
        }
        timeout *= 2;
    }
}

#[test]
fn a_clock_without_timers_has_no_thread() {
    let _turn = alone();
    let clock = Clock::isolated();
    let token = CancelToken::with_clock(&clock);
    let _child = token.child();
    assert!(
        !token.wait_timeout(millis(1)),
        "a sleep needs no timer thread"
    );
    assert!(!clock.timer_runs());
    assert_no_timer_thread();
}

#[test]
fn the_thread_starts_with_the_first_timeout_and_is_joined_with_the_last() {
    let _turn = alone();
    let clock = Clock::isolated();
    let first = far(&clock);
    assert!(clock.timer_runs());
    assert_one_timer_thread();
    let second = far(&clock);
    drop(first);
    assert_one_timer_thread();
    drop(second);
    assert!(!clock.timer_runs());
    assert_no_timer_thread();
}

#[test]
fn the_thread_starts_with_the_first_ticker_and_is_joined_with_the_last() {
    let _turn = alone();
    let clock = Clock::isolated();
    let (first, second) = (ticker(&clock), ticker(&clock));
    assert_one_timer_thread();
    drop(first);
    assert_one_timer_thread();
    assert!(second.stop(), "a stop is enough, without a drop");
    assert_no_timer_thread();
}

#[test]
fn a_lease_starts_the_thread_and_keeps_it_until_it_is_dropped() {
    let _turn = alone();
    let clock = Clock::isolated();
    let (first, second) = (clock.keep_timer().unwrap(), clock.keep_timer().unwrap());
    assert_one_timer_thread();
    drop(far(&clock));
    drop(ticker(&clock));
    drop(first);
    assert_one_timer_thread();
    drop(second);
    assert_no_timer_thread();
}

#[test]
fn the_thread_starts_again_after_it_was_stopped() {
    let _turn = alone();
    let clock = Clock::isolated();
    for _ in 0..100 {
        let token = far(&clock);
        assert_eq!(listed(), 1);
        drop(token);
        assert_eq!(listed(), 0);
    }
    assert_no_timer_thread();
}

#[test]
fn a_reset_of_the_only_ticker_keeps_its_thread() {
    let _turn = alone();
    let clock = Clock::isolated();
    let ticker = ticker(&clock);
    let before: Vec<_> = threads::live().iter().map(|t| t.id).collect();
    ticker.reset(secs(7200)).unwrap();
    let after: Vec<_> = threads::live().iter().map(|t| t.id).collect();
    assert_eq!(before, after);
}

#[test]
fn a_timer_that_never_comes_due_starts_no_thread() {
    let _turn = alone();
    let clock = Clock::isolated();
    let token = CancelToken::with_clock(&clock).child_timeout(std::time::Duration::MAX);
    let ticker = Ticker::builder(std::time::Duration::MAX)
        .clock(&clock)
        .start()
        .unwrap();
    assert_eq!(token.deadline(), None);
    assert_no_timer_thread();
    drop((token, ticker));
}

#[test]
fn ten_thousand_tickers_and_as_many_timeouts_cost_one_thread() {
    let _turn = alone();
    let clock = Clock::isolated();
    let root = CancelToken::with_clock(&clock);
    let tickers: Vec<_> = (0..10_000).map(|_| ticker(&clock)).collect();
    let tokens: Vec<_> = (0..10_000)
        .map(|_| root.child_timeout(secs(3600)))
        .collect();
    assert_one_timer_thread();
    drop(tickers);
    assert_one_timer_thread();
    drop(tokens);
    assert_no_timer_thread();
}

#[test]
fn each_isolated_clock_has_its_own_thread() {
    let _turn = alone();
    let clocks = [Clock::isolated(), Clock::isolated(), Clock::isolated()];
    let tokens = clocks.each_ref().map(far);
    assert_eq!(listed(), 3);
    drop(tokens);
    assert_no_timer_thread();
}

#[test]
fn the_list_says_what_the_timer_thread_waits_on() {
    let _turn = alone();
    let clock = Clock::isolated();
    let _token = far(&clock);
    eventually("the timer thread waits", || {
        let live = threads::live();
        let timer = live.iter().find(|t| t.name == NAME).expect("it runs");
        timer
            .waiting
            .is_some_and(|wait| wait.on == "reach the next deadline")
    });
}

#[test]
fn a_hook_on_the_timer_thread_may_drop_the_last_timer() {
    let _turn = alone();
    let clock = Clock::isolated();
    let (ran, has_run) = bounded(1);
    let (give, given) = bounded::<CancelToken>(1);
    let token = with_hook_on_the_timer_thread(&clock, {
        let clock = clock.clone();
        move || {
            drop(given.recv_timeout(PATIENCE).unwrap());
            ran.send(clock.timer_runs()).unwrap();
        }
    });
    give.send(token).unwrap();
    // The timer itself has the node in its hand while it runs the hook.
    assert!(has_run.recv_timeout(PATIENCE).unwrap());
    eventually("the timer thread ends by itself", || listed() == 0);
    assert!(!clock.timer_runs());
}

/// The dropper holds a lock that the running hook needs: a join would never end.
#[test]
fn a_dropper_that_holds_a_lock_which_the_running_hook_needs_does_not_deadlock() {
    let _turn = alone();
    let clock = Clock::isolated();
    in_time({
        let clock = clock.clone();
        move || {
            let lock = Arc::new(Mutex::new(()));
            let (entered, has_entered) = bounded(1);
            let (left, has_left) = bounded(1);
            let held = lock.lock().unwrap();
            let token = with_hook_on_the_timer_thread(&clock, {
                let lock = lock.clone();
                move || {
                    entered.send(()).unwrap();
                    drop(lock.lock().unwrap());
                    left.send(()).unwrap();
                }
            });
            has_entered.recv_timeout(PATIENCE).unwrap();
            drop(token);
            drop(held);
            has_left.recv_timeout(PATIENCE).unwrap();
        }
    });
    eventually("the timer thread ends by itself", || listed() == 0);
}

/// What the old thread left behind must not keep the new one from being joined.
#[test]
fn the_thread_after_one_that_ended_by_itself_is_joined_like_any_other() {
    let _turn = alone();
    let clock = Clock::isolated();
    let (entered, has_entered) = bounded(1);
    let (leave, may_leave) = bounded::<()>(1);
    let old = with_hook_on_the_timer_thread(&clock, move || {
        entered.send(()).unwrap();
        may_leave.recv_timeout(PATIENCE).unwrap();
    });
    has_entered.recv_timeout(PATIENCE).unwrap();
    drop(old); // now the timer thread has the last of it
    leave.send(()).unwrap();
    eventually("the old thread ends by itself", || listed() == 0);
    for _ in 0..100 {
        drop(far(&clock));
        assert_eq!(listed(), 0, "not joined");
    }
}

/// Threads keep ending the service of timer threads while another one starts timers: a thread that
/// is on its way out must not confuse the one that follows it.
#[test]
fn a_timer_fires_on_a_thread_that_was_started_while_the_one_before_was_ending() {
    let _turn = alone();
    let mut rng = rng("start while ending");
    let clock = Clock::isolated();
    let stop = CancelToken::new();
    thread::scope(|s| {
        let _guard = stop.clone().drop_guard();
        for _ in 0..3 {
            let (clock, stop, mut rng) = (clock.clone(), stop.clone(), rng.fork());
            s.spawn(move || {
                while !stop.is_cancelled() {
                    drop(clock.keep_timer().unwrap());
                    dither(&mut rng, 2000);
                }
            });
        }
        for round in 0..800 {
            let lease = clock.keep_timer().unwrap();
            dither(&mut rng, 5000);
            let timeout = std::time::Duration::from_micros(200);
            let token = CancelToken::with_clock(&clock).child_timeout(timeout);
            assert!(
                token.wait_timeout(secs(20)),
                "round {round}: the deadline was slept through"
            );
            drop((token, lease));
            dither(&mut rng, 5000);
        }
    });
    eventually("the last thread ends", || listed() == 0);
}
