//! The clock that is moved by hand: K2; and what both clocks share.

#![allow(
    clippy::disallowed_methods,
    reason = "the tests are outside the library's doors"
)]

mod support;

use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Barrier, Mutex};
use std::thread;
use std::time::Duration;

use cleanbreak::clock::Instant;
use cleanbreak::{CancelToken, Clock, ManualClock, Ticker};
use crossbeam_channel::bounded;
use support::{PATIENCE, in_time, rng, secs};

const NANO: Duration = Duration::from_nanos(1);

fn at(seconds: u64) -> Instant {
    Instant::ZERO.checked_add(secs(seconds)).unwrap()
}

/// A timeout that notes its name and the time when it fires.
type Log = Arc<Mutex<Vec<(&'static str, Instant)>>>;

fn note(clock: &ManualClock, log: &Log, name: &'static str, after: u64) -> CancelToken {
    let token = CancelToken::with_clock(clock).child_timeout(secs(after));
    let (clock, log) = (clock.clone(), log.clone());
    let hook = move || log.lock().unwrap().push((name, clock.now()));
    token.on_cancel(hook).detach();
    token
}

#[test]
fn time_stands_still_until_it_is_advanced() {
    let clock = Clock::manual();
    let token = CancelToken::with_clock(&clock).child_timeout(NANO);
    assert_eq!(clock.now(), Instant::ZERO);
    // Real time goes by.
    assert!(!CancelToken::new().wait_timeout(Duration::from_millis(2)));
    assert_eq!(clock.now(), Instant::ZERO);
    assert_eq!(token.remaining(), Some(NANO));
    assert!(!token.is_cancelled() && !clock.timer_runs());
    let std_now = clock.instant_from_std(std::time::Instant::now());
    assert!(std_now.is_none() && clock.to_std(Instant::ZERO).is_none());
}

#[test]
fn what_is_due_fires_in_the_order_of_deadline_and_then_registration_at_its_own_time() {
    let (clock, log) = (Clock::manual(), Log::default());
    let order = [
        ("c", 3),
        ("a1", 1),
        ("b", 2),
        ("a2", 1),
        ("d", 4),
        ("a3", 1),
    ];
    let _tokens = order.map(|(name, after)| note(&clock, &log, name, after));
    clock.advance(secs(3));
    let expected = [("a1", 1), ("a2", 1), ("a3", 1), ("b", 2), ("c", 3)];
    assert_eq!(
        *log.lock().unwrap(),
        expected.map(|(name, n)| (name, at(n)))
    );
    assert_eq!((clock.now(), clock.timers()), (at(3), 1));
    assert_eq!(clock.next_deadline(), Some(at(4)));
}

#[test]
fn a_random_crowd_fires_in_order() {
    let mut rng = rng("random crowd");
    for _ in 0..20 {
        let (clock, log) = (Clock::manual(), Arc::new(Mutex::new(Vec::new())));
        let root = CancelToken::with_clock(&clock);
        let mut expected = Vec::new();
        let mut tokens = Vec::new();
        for n in 0..300 {
            let due = rng.u64(1..40);
            let token = root.child_timeout(secs(due));
            let log = log.clone();
            token
                .on_cancel(move || log.lock().unwrap().push((due, n)))
                .detach();
            if rng.u8(..) < 200 {
                expected.push((due, n));
                tokens.push(token);
            }
        }
        expected.sort_unstable();
        while clock.now() < at(40) {
            clock.advance(secs(rng.u64(0..9)));
            let fired = log.lock().unwrap().clone();
            let due = expected.partition_point(|&(due, _)| at(due) <= clock.now());
            assert_eq!(fired, expected[..due]);
        }
    }
}

#[test]
fn a_timer_fires_at_its_deadline_and_not_a_nanosecond_before() {
    let clock = Clock::manual();
    let token = CancelToken::with_clock(&clock).child_timeout(secs(5));
    clock.advance(secs(5) - NANO);
    assert!(!token.is_cancelled());
    clock.advance(NANO);
    assert!(token.is_cancelled());
}

#[test]
fn advance_to_a_time_in_the_past_changes_nothing() {
    let clock = Clock::manual();
    clock.advance(secs(5));
    clock.advance_to(at(3));
    clock.advance(Duration::ZERO);
    assert_eq!(clock.now(), at(5));
}

#[test]
fn a_hook_may_advance_the_clock_from_within() {
    in_time(|| {
        let (clock, log) = (Clock::manual(), Log::default());
        let first = note(&clock, &log, "first", 1);
        let within = clock.clone();
        first.on_cancel(move || within.advance(secs(4))).detach();
        let _second = note(&clock, &log, "second", 3);
        let _third = note(&clock, &log, "third", 9);
        clock.advance(secs(2));
        assert_eq!(*log.lock().unwrap(), [("first", at(1)), ("second", at(3))]);
        assert_eq!(clock.now(), at(5), "it does not go back");
    });
}

#[test]
fn what_a_hook_registers_fires_in_the_same_advance_if_it_is_due() {
    in_time(|| {
        let (clock, log) = (Clock::manual(), Log::default());
        let first = note(&clock, &log, "first", 1);
        let kept = Arc::new(Mutex::new(Vec::new()));
        let hook = {
            let (clock, log, kept) = (clock.clone(), log.clone(), kept.clone());
            move || {
                let tokens = [note(&clock, &log, "late", 7), note(&clock, &log, "next", 1)];
                kept.lock().unwrap().extend(tokens);
            }
        };
        first.on_cancel(hook).detach();
        clock.advance(secs(5));
        assert_eq!(*log.lock().unwrap(), [("first", at(1)), ("next", at(2))]);
        clock.advance(secs(3));
        assert_eq!(log.lock().unwrap()[2], ("late", at(8)));
    });
}

#[test]
fn a_hook_may_drop_a_timer_that_is_due_with_it() {
    let (clock, log) = (Clock::manual(), Log::default());
    let first = note(&clock, &log, "first", 1);
    let second = Mutex::new(Some(note(&clock, &log, "second", 1)));
    first
        .on_cancel(move || drop(second.lock().unwrap().take()))
        .detach();
    clock.advance(secs(1));
    assert_eq!(*log.lock().unwrap(), [("first", at(1))]);
    assert_eq!(clock.timers(), 0);
}

#[test]
fn an_advance_returns_only_when_another_threads_advance_has_delivered() {
    in_time(|| {
        let clock = Clock::manual();
        let token = CancelToken::with_clock(&clock).child_timeout(secs(1));
        let (entered, has_entered) = bounded(1);
        let (leave, may_leave) = bounded::<()>(1);
        let left = Arc::new(AtomicBool::new(false));
        let has_left = left.clone();
        let hook = move || {
            entered.send(()).unwrap();
            may_leave.recv_timeout(PATIENCE).unwrap();
            has_left.store(true, SeqCst);
        };
        token.on_cancel(hook).detach();
        thread::scope(|s| {
            s.spawn(|| clock.advance(secs(1)));
            has_entered.recv_timeout(PATIENCE).unwrap();
            let second = s.spawn(|| {
                clock.advance(secs(1));
                left.load(SeqCst)
            });
            assert_eq!(clock.now(), at(1), "the time does not wait for the hook");
            leave.send(()).unwrap();
            assert!(
                second.join().unwrap(),
                "it came back while the other delivered"
            );
        });
        assert_eq!(clock.now(), at(2));
    });
}

#[test]
fn concurrent_advances_add_up() {
    let clock = Clock::manual();
    thread::scope(|s| {
        for _ in 0..4 {
            s.spawn(|| (0..1000).for_each(|_| clock.advance(NANO)));
        }
    });
    assert_eq!(clock.now(), Instant::from_nanos(4000));
}

/// While others register timers that come due at the very moment, an advance still returns only
/// when what was due has been delivered.
#[test]
fn timers_that_are_registered_during_an_advance_take_no_delivery_away_from_it() {
    let clock = Clock::manual();
    let root = CancelToken::with_clock(&clock);
    let stop = CancelToken::new();
    thread::scope(|s| {
        let _guard = stop.clone().drop_guard();
        for _ in 0..2 {
            s.spawn(|| {
                while !stop.is_cancelled() {
                    drop(root.child_timeout(NANO));
                }
            });
        }
        for _ in 0..1500 {
            let due: [_; 8] = std::array::from_fn(|_| root.child_timeout(NANO));
            // A moment's work for the one who delivers.
            let told: [_; 8] = std::array::from_fn(|_| Arc::new(AtomicBool::new(false)));
            for (token, told) in due.iter().zip(&told) {
                let told = told.clone();
                let hook = move || {
                    (0..500).for_each(|_| std::hint::spin_loop());
                    told.store(true, SeqCst);
                };
                token.on_cancel(hook).detach();
            }
            clock.advance(NANO);
            let delivered = told.iter().filter(|told| told.load(SeqCst)).count();
            assert_eq!(delivered, 8, "the advance has returned");
        }
    });
}

#[test]
fn await_timers_returns_when_so_many_wait() {
    in_time(|| {
        let clock = Clock::manual();
        let root = CancelToken::with_clock(&clock);
        clock.await_timers(0);
        let first = root.child_timeout(secs(1));
        clock.await_timers(1);
        let start = Barrier::new(3);
        thread::scope(|s| {
            for _ in 0..2 {
                s.spawn(|| {
                    start.wait();
                    root.sleep(secs(2)).unwrap();
                });
            }
            start.wait();
            clock.await_timers(3);
            assert_eq!(clock.timers(), 3);
            clock.advance(secs(2));
        });
        clock.await_timers(0);
        drop(first);
    });
}

#[test]
fn the_clock_stops_at_the_end_of_time_and_nothing_panics() {
    let clock = Clock::manual();
    let end = Instant::from_nanos(u64::MAX);
    let root = CancelToken::with_clock(&clock);
    let last = root.child_deadline(end);
    let never = root.child_timeout(Duration::MAX);
    let ticker = Ticker::builder(Duration::MAX)
        .clock(&clock)
        .start()
        .unwrap();
    clock.advance_to(Instant::from_nanos(u64::MAX - 1));
    assert!(!last.is_cancelled());
    clock.advance(Duration::MAX);
    assert_eq!(clock.now(), end);
    assert!(last.is_cancelled() && !never.is_cancelled());
    clock.advance(Duration::MAX);
    assert_eq!(clock.deadline_after(NANO), None);
    assert!(
        root.child_timeout(NANO).deadline().is_none(),
        "past the end is never"
    );
    ticker.reset(NANO).unwrap();
    clock.advance(secs(1));
    assert!(ticker.try_recv().is_err());
}

#[test]
fn children_inherit_the_clock() {
    let clock = Clock::manual();
    clock.advance(secs(7));
    let root = CancelToken::with_clock(&clock);
    let child = root.child();
    let all = [
        child.child(),
        child.shield(),
        CancelToken::linked(&[&child]),
    ];
    assert!(all.iter().all(|token| token.clock().now() == at(7)));
}

#[test]
fn an_instant_counts_from_its_clocks_zero_and_saturates() {
    assert_eq!(at(3).duration_since(at(1)), secs(2));
    assert_eq!(at(1).duration_since(at(3)), Duration::ZERO);
    assert_eq!(at(1).checked_add(Duration::MAX), None);
    assert_eq!(Instant::from_nanos(u64::MAX).checked_add(NANO), None);
    assert_eq!(Instant::from_nanos(5).as_nanos(), 5);
}

#[test]
fn instants_of_the_system_clock_and_of_std_convert_both_ways() {
    for clock in [Clock::system(), Clock::isolated()] {
        let now = clock.now();
        let std = clock.to_std(now).unwrap();
        assert_eq!(clock.instant_from_std(std), Some(now));
        let later = std + secs(100);
        assert_eq!(clock.instant_from_std(later), now.checked_add(secs(100)));
        // An instant of long before the clock, where there is one, becomes its zero.
        if let Some(before) = std.checked_sub(secs(3600)) {
            assert_eq!(clock.instant_from_std(before), Some(Instant::ZERO));
        }
    }
}

#[test]
fn the_system_clock_goes_on_and_never_back() {
    let clock = Clock::isolated();
    let mut last = clock.now();
    for _ in 0..10_000 {
        let now = clock.now();
        assert!(now >= last);
        last = now;
    }
}
