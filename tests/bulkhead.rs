//! The bulkhead: so many at a time, a bounded queue, first come first served, and every way in
//! which a wait ends.

#![allow(
    clippy::disallowed_methods,
    reason = "threads that are not the library's own"
)]

mod support;

use std::fmt::Debug;
use std::panic::{RefUnwindSafe, UnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use cleanbreak::resilience::{
    Abandoner, AcquireError, AdaptiveLimit, AdaptivePermit, Bulkhead, BulkheadPermit, CallError,
    Hedge, KeyedRateLimiter, RateLimiter, Timeout,
};
use cleanbreak::{CancelToken, Clock, scope};
use support::{dither, in_time, rng, secs, until, until_waiting};

#[test]
fn as_many_permits_as_there_are_and_no_more() {
    let bulkhead = Bulkhead::new(3).with_queue(0);
    let token = CancelToken::new();
    let mut held: Vec<_> = (0..3).map(|_| bulkhead.try_acquire().unwrap()).collect();
    assert_eq!((bulkhead.in_use(), bulkhead.capacity()), (3, 3));
    assert!(bulkhead.try_acquire().unwrap_err().is_full());
    // Without places to wait, no call does.
    assert!(bulkhead.acquire(&token).unwrap_err().is_full());
    held.pop();
    assert_eq!(bulkhead.in_use(), 2);
    held.push(bulkhead.acquire(&token).unwrap());
    assert!(bulkhead.try_acquire().is_err());
    drop(held);
    assert_eq!(bulkhead.in_use(), 0);
}

#[test]
fn the_queue_is_bounded_at_its_bound() {
    in_time(|| {
        let bulkhead = Bulkhead::new(1).with_queue(2);
        let token = CancelToken::new();
        let permit = bulkhead.try_acquire().unwrap();
        scope(&token, |group| {
            for waiting in 1..=2 {
                group.spawn(|token| Ok(bulkhead.acquire(token).map(drop)?))?;
                until(|| bulkhead.waiting() == waiting);
            }
            assert!(bulkhead.acquire(&token).unwrap_err().is_full());
            assert_eq!(bulkhead.waiting(), 2);
            drop(permit);
            Ok(())
        })
        .unwrap();
        assert_eq!((bulkhead.in_use(), bulkhead.waiting()), (0, 0));
    });
}

#[test]
fn those_who_wait_are_served_in_order_and_nobody_overtakes_them() {
    in_time(|| {
        let bulkhead = Bulkhead::new(1);
        let order = Mutex::new(Vec::new());
        let permit = bulkhead.try_acquire().unwrap();
        scope(&CancelToken::new(), |group| {
            for name in 0..8 {
                let (bulkhead, order) = (&bulkhead, &order);
                group.spawn(move |token| {
                    let _permit = bulkhead.acquire(token)?;
                    order.lock().unwrap().push(name);
                    Ok(())
                })?;
                until(|| bulkhead.waiting() == name + 1);
            }
            drop(permit);
            // It was handed over in the drop: while somebody waits, this gets nothing.
            while bulkhead.waiting() > 0 {
                if let Ok(_permit) = bulkhead.try_acquire() {
                    assert_eq!(bulkhead.waiting(), 0, "a newcomer has overtaken");
                }
            }
            Ok(())
        })
        .unwrap();
        assert_eq!(order.into_inner().unwrap(), [0, 1, 2, 3, 4, 5, 6, 7]);
    });
}

#[test]
fn a_wait_ends_when_its_token_is_cancelled_and_keeps_nothing() {
    in_time(|| {
        let bulkhead = Bulkhead::new(1);
        let permit = bulkhead.try_acquire().unwrap();
        let token = CancelToken::new();
        let waits = token.child();
        let refused = scope(&token, |group| {
            let task = group.spawn_named("bh waits", |_| {
                Ok(bulkhead.acquire(&waits).map(drop).unwrap_err())
            })?;
            until_waiting("bh waits");
            let listed = cleanbreak::threads::live();
            let wait = listed.iter().find(|thread| thread.name == "bh waits");
            assert_eq!(wait.unwrap().waiting.unwrap().on, "get a permit");
            waits.cancel_with("enough");
            Ok(task.join()?)
        });
        assert_eq!(refused.unwrap().to_string(), "cancelled: enough");
        assert_eq!((bulkhead.waiting(), bulkhead.in_use()), (0, 1));
        drop(permit);
        assert!(bulkhead.try_acquire().is_ok());
        // A token that is cancelled gets nothing, even if there is something.
        let refused = bulkhead.acquire(&waits).unwrap_err();
        assert!(refused.is_cancelled());
        assert_eq!(bulkhead.in_use(), 0);
    });
}

#[test]
fn the_deadline_of_a_wait_is_exact_on_a_manual_clock() {
    in_time(|| {
        for (advanced, served) in [(9, true), (10, false), (11, false)] {
            let clock = Clock::manual();
            let token = CancelToken::with_clock(&clock);
            let bulkhead = Bulkhead::new(1);
            let permit = bulkhead.try_acquire().unwrap();
            thread::scope(|s| {
                let waiter = s.spawn(|| bulkhead.acquire_timeout(&token, secs(10)).map(drop));
                clock.await_timers(1);
                clock.advance(secs(advanced));
                if !served {
                    // So that it is the deadline that ends the wait, and not the drop.
                    until(|| bulkhead.waiting() == 0);
                }
                drop(permit);
                match waiter.join().unwrap() {
                    Ok(()) => assert!(served),
                    Err(refused) => assert!(refused.is_timeout() && !served),
                }
            });
            assert_eq!(clock.timers(), 0, "nothing is left with the clock");
            assert_eq!((bulkhead.in_use(), bulkhead.waiting()), (0, 0));
        }
    });
}

#[test]
fn a_timeout_by_the_system_s_clock_and_those_of_no_time_and_of_all_time() {
    in_time(|| {
        let token = CancelToken::new();
        let bulkhead = Bulkhead::new(1);
        let permit = bulkhead.acquire_timeout(&token, Duration::MAX).unwrap();
        for timeout in [Duration::ZERO, Duration::from_millis(3)] {
            let refused = bulkhead.acquire_timeout(&token, timeout).unwrap_err();
            assert!(refused.is_timeout(), "{refused}");
        }
        let past = token.clock().now();
        assert!(
            bulkhead
                .acquire_deadline(&token, past)
                .unwrap_err()
                .is_timeout()
        );
        let soon = token.child_timeout(Duration::from_millis(3));
        let refused = bulkhead.acquire_timeout(&soon, Duration::MAX).unwrap_err();
        assert!(matches!(refused, AcquireError::Cancelled(why) if why.is_deadline()));
        drop(permit);
        assert!(
            bulkhead.acquire_deadline(&token, past).is_ok(),
            "one is free"
        );
    });
}

#[test]
fn who_gives_up_first_in_line_lets_the_next_one_through() {
    in_time(|| {
        let bulkhead = Bulkhead::new(1);
        let permit = bulkhead.try_acquire().unwrap();
        let (first, second) = (CancelToken::new(), CancelToken::new());
        thread::scope(|s| {
            let gives_up = s.spawn(|| bulkhead.acquire(&first).map(drop));
            until(|| bulkhead.waiting() == 1);
            let stays = s.spawn(|| bulkhead.acquire(&second).map(drop));
            until(|| bulkhead.waiting() == 2);
            first.cancel();
            assert!(gives_up.join().unwrap().unwrap_err().is_cancelled());
            drop(permit);
            assert!(stays.join().unwrap().is_ok());
        });
    });
}

#[test]
fn a_call_gives_its_permit_back_in_every_way() {
    let bulkhead = Bulkhead::new(1);
    let token = CancelToken::new();
    assert_eq!(bulkhead.call(&token, |_| Ok::<_, ()>(7)).unwrap(), 7);
    let failed = bulkhead.call(&token, |_| Err::<(), _>("refused"));
    assert!(matches!(failed, Err(CallError::Failed("refused"))));
    let panics = || bulkhead.call(&token, |_| -> Result<(), ()> { panic!("bug") });
    assert!(catch_unwind(panics).is_err());
    assert_eq!(bulkhead.in_use(), 0);
    let (out, permit) = (bulkhead.clone(), bulkhead.try_acquire().unwrap());
    let refused = out.call(&token.child_timeout(Duration::ZERO), |_| Ok::<_, ()>(7));
    assert!(refused.unwrap_err().into_refusal().unwrap().is_cancelled());
    // An owned one is the same permit.
    let permit = permit.into_owned().into_owned();
    drop(bulkhead);
    assert_eq!(out.in_use(), 1);
    drop(permit);
    assert_eq!(out.in_use(), 0);
}

#[test]
fn more_permits_go_to_those_who_wait_and_fewer_come_into_force_as_they_are_given_back() {
    in_time(|| {
        let bulkhead = Bulkhead::new(0);
        let entered = AtomicUsize::new(0);
        let (release, held) = crossbeam_channel::bounded::<()>(0);
        thread::scope(|s| {
            for _ in 0..4 {
                s.spawn(|| {
                    let _permit = bulkhead.acquire(&CancelToken::never()).unwrap();
                    entered.fetch_add(1, Ordering::SeqCst);
                    held.recv().unwrap_err();
                });
            }
            until(|| bulkhead.waiting() == 4);
            assert!(bulkhead.try_acquire().unwrap_err().is_full());
            bulkhead.resize(3);
            until(|| entered.load(Ordering::SeqCst) == 3);
            assert_eq!((bulkhead.in_use(), bulkhead.waiting()), (3, 1));
            bulkhead.resize(1);
            assert_eq!((bulkhead.in_use(), bulkhead.capacity()), (3, 1));
            drop(release);
        });
        // Three were given back into one, and the fourth was served from that.
        assert_eq!(entered.into_inner(), 4);
        assert_eq!((bulkhead.in_use(), bulkhead.capacity()), (0, 1));
        let _one = bulkhead.try_acquire().unwrap();
        assert!(bulkhead.try_acquire().is_err());
    });
}

#[test]
fn shrunk_below_what_is_in_use_nothing_is_given_out_until_it_fits() {
    let bulkhead = Bulkhead::new(3);
    let mut held: Vec<_> = (0..3).map(|_| bulkhead.try_acquire().unwrap()).collect();
    bulkhead.resize(2);
    held.pop(); // two in use, of two
    assert!(bulkhead.try_acquire().is_err());
    held.pop(); // one
    held.push(bulkhead.try_acquire().unwrap());
    assert!(bulkhead.try_acquire().is_err());
}

#[test]
fn a_close_refuses_those_who_wait_and_those_who_come() {
    in_time(|| {
        let bulkhead = Bulkhead::new(1);
        let permit = bulkhead.try_acquire().unwrap();
        thread::scope(|s| {
            let waiter = s.spawn(|| bulkhead.acquire(&CancelToken::never()).map(drop));
            until(|| bulkhead.waiting() == 1);
            assert!(!bulkhead.is_closed());
            assert!(bulkhead.close());
            assert!(!bulkhead.close(), "only the first");
            assert!(waiter.join().unwrap().unwrap_err().is_closed());
        });
        assert!(bulkhead.is_closed());
        assert!(bulkhead.try_acquire().unwrap_err().is_closed());
        assert_eq!(bulkhead.in_use(), 1, "this one stays with its owner");
        drop(permit);
        bulkhead.resize(5);
        assert!(
            bulkhead
                .acquire(&CancelToken::new())
                .unwrap_err()
                .is_closed()
        );
        assert_eq!((bulkhead.in_use(), bulkhead.waiting()), (0, 0));
    });
}

#[test]
fn the_limits_are_shared_between_threads_and_across_a_panic() {
    fn handle<T: Clone + Send + Sync + UnwindSafe + RefUnwindSafe + Debug + 'static>() {}
    handle::<Bulkhead>();
    handle::<Timeout>();
    handle::<Abandoner>();
    handle::<RateLimiter>();
    handle::<KeyedRateLimiter<String>>();
    handle::<Hedge>();
    handle::<AdaptiveLimit>();
    fn permit<T: Send + Sync + UnwindSafe + RefUnwindSafe + Debug>() {}
    permit::<BulkheadPermit<'static>>();
    permit::<AdaptivePermit<'static>>();
}

#[test]
#[should_panic(expected = "2^30 - 1 permits at most")]
fn too_many_permits_are_refused_with_a_message() {
    drop(Bulkhead::new(1 << 30));
}

/// Counts who is inside at a time.
#[derive(Default)]
struct Inside {
    now: AtomicUsize,
    most: AtomicUsize,
}

impl Inside {
    fn visit(&self, rng: &mut fastrand::Rng) {
        let now = self.now.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(now, Ordering::SeqCst);
        dither(rng, 200);
        self.now.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Eight threads, a thousand times each, of whom many give up; who must not overlap beyond `most`.
fn stress(rng: &mut fastrand::Rng, enter: impl Fn(&CancelToken, &mut dyn FnMut()) + Sync) -> usize {
    let inside = Arc::new(Inside::default());
    let token = CancelToken::new();
    // Of its own, or each timeout would start and join the clock's thread.
    let _lease = token.clock().keep_timer().unwrap();
    thread::scope(|s| {
        for _ in 0..8 {
            let mut rng = rng.fork();
            let (inside, enter, token) = (&inside, &enter, &token);
            s.spawn(move || {
                for _ in 0..1000 {
                    let patience = match rng.u32(0..4) {
                        0 => Duration::from_micros(rng.u64(0..100)),
                        _ => secs(3600),
                    };
                    let token = token.child_timeout(patience);
                    let mut visitor = rng.fork();
                    enter(&token, &mut || inside.visit(&mut visitor));
                }
            });
        }
    });
    inside.most.load(Ordering::SeqCst)
}

#[test]
fn under_stress_no_more_are_inside_than_there_are_permits_and_none_is_lost() {
    let mut rng = rng("bulkhead stress");
    in_time(move || {
        for permits in [1, 2, 5] {
            let bulkhead = Bulkhead::new(permits);
            let most = stress(&mut rng, |token, visit| match bulkhead.acquire(token) {
                Ok(_permit) => visit(),
                Err(refused) => assert!(refused.is_cancelled()),
            });
            assert!(most <= permits, "{most} of {permits}");
            assert_eq!((bulkhead.in_use(), bulkhead.waiting()), (0, 0));
        }
    });
}

/// The negative control: without permits they do overlap, so the stress would see it.
#[test]
fn without_a_bulkhead_they_overlap() {
    let mut rng = rng("no bulkhead");
    in_time(move || {
        let most = stress(&mut rng, |_, visit| visit());
        assert!(most > 1, "never two at a time in 8,000 visits");
    });
}
