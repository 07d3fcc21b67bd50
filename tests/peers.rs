//! What other crates do where this one does something else: each test shows a peer's behaviour that
//! `docs/COMPARISON.md` speaks of, and beside it ours where that takes a line. If an update of a peer
//! makes one fail, the page is out of date, not the library.
#![allow(
    clippy::disallowed_methods,
    reason = "threads of the peers, and times of their own"
)]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use cleanbreak::resilience::breaker::State;
use cleanbreak::{Breaker, CancelToken, Clock, Pool, SafeChannel, Shutdown, Ticker, scope};
use crossbeam_channel::{Sender, TryRecvError, bounded, never, select, tick};
use failsafe::CircuitBreaker;
use recloser::Recloser;
use support::{child, child_passes, in_time, is_child, millis, payload_of, secs, until};

// Channels.

/// How many messages that nobody can receive any more are still alive.
fn alive_after_the_last_receiver<Tx, Rx>(
    (tx, rx): (Tx, Rx),
    send: impl Fn(&Tx, Arc<()>),
) -> (usize, Tx) {
    let message = Arc::new(());
    send(&tx, message.clone());
    drop(rx);
    (Arc::strong_count(&message) - 1, tx)
}

#[test]
fn bounded_channels_of_crossbeam_flume_and_kanal_keep_messages_that_nobody_can_receive() {
    let (alive, _tx) = alive_after_the_last_receiver(bounded(1), |tx: &Sender<_>, message| {
        tx.send(message).unwrap();
    });
    assert_eq!(alive, 1, "crossbeam drops them now");
    let (alive, _tx) =
        alive_after_the_last_receiver(flume::bounded(1), |tx: &flume::Sender<_>, message| {
            tx.send(message).unwrap();
        });
    assert_eq!(alive, 1, "flume drops them now");
    let (alive, _tx) =
        alive_after_the_last_receiver(kanal::bounded(1), |tx: &kanal::Sender<_>, message| {
            tx.send(message).unwrap();
        });
    assert_eq!(alive, 1, "kanal drops them now");
    let (alive, _tx) = alive_after_the_last_receiver(SafeChannel::bounded(1), |tx, message| {
        tx.send(message).unwrap();
    });
    assert_eq!(alive, 0);
}

#[test]
fn close_of_kanal_throws_the_queue_away() {
    let (tx, rx) = kanal::unbounded();
    tx.send(1).unwrap();
    tx.close().unwrap();
    assert!(rx.recv().is_err());
    let (tx, rx) = SafeChannel::unbounded();
    tx.send(1).unwrap();
    assert!(tx.close());
    assert_eq!(rx.recv(), Ok(1));
}

#[test]
fn a_disconnected_arm_of_a_select_is_ready_for_ever() {
    let (tx, over) = bounded::<()>(0);
    drop(tx);
    let open = never::<()>();
    let passes = 1000;
    for _ in 0..passes {
        select! {
            recv(over) -> message => assert!(message.is_err()),
            recv(open) -> _ => unreachable!("it never has a message"),
        }
    }
}

#[test]
fn an_after_of_crossbeam_tells_one_of_its_clones_and_done_tells_all() {
    let after = crossbeam_channel::after(Duration::ZERO);
    let clone = after.clone();
    after.recv().unwrap();
    assert_eq!(clone.try_recv(), Err(TryRecvError::Empty));
    let token = CancelToken::new();
    let (done, clone) = (token.done().clone(), token.done().clone());
    token.cancel();
    for done in [&done, &clone, &done] {
        assert_eq!(done.try_recv(), Err(TryRecvError::Disconnected));
    }
}

// Tickers.

#[test]
fn a_tick_of_crossbeam_counts_its_period_from_when_the_last_was_taken() {
    in_time(|| {
        let period = millis(10);
        let ticks = tick(period);
        let first = ticks.recv().unwrap();
        // The second is taken late, by half a period and whatever the machine adds.
        never::<()>().recv_timeout(period + period / 2).unwrap_err();
        let taken = Instant::now();
        assert_eq!(ticks.try_recv(), Ok(first + period));
        let third = ticks.recv().unwrap();
        // On a grid it would be due before that.
        assert!(third >= taken + period, "crossbeam keeps a grid now");
    });
}

#[test]
fn our_ticker_keeps_the_grid_however_late_a_tick_is_taken() {
    let clock = Clock::manual();
    let ticker = Ticker::builder(millis(10)).clock(&clock);
    let ticker = ticker.start().unwrap();
    clock.advance(millis(15));
    let first = ticker.recv().unwrap().scheduled;
    clock.advance(millis(5));
    let second = ticker.recv().unwrap().scheduled;
    assert_eq!(second.duration_since(first), millis(10));
}

// Groups.

#[test]
fn scope_of_std_replaces_the_payload_of_a_panic() {
    in_time(|| {
        let payload = payload_of(|| {
            thread::scope(|scope| {
                scope.spawn(|| std::panic::panic_any(7_u32));
            });
        });
        assert!(payload.downcast_ref::<u32>().is_none(), "std keeps it now");
        let payload = payload_of(|| {
            scope(&CancelToken::new(), |group| {
                group.spawn(|_| -> anyhow::Result<()> { std::panic::panic_any(7_u32) })?;
                Ok(())
            })
        });
        assert_eq!(payload.downcast_ref(), Some(&7_u32));
    });
}

#[test]
fn scope_of_std_panics_when_there_is_no_thread_to_be_had() {
    let name = "scope_of_std_panics_when_there_is_no_thread_to_be_had";
    if !is_child() {
        child_passes(name, "ulimit -v 1500000; export RUST_MIN_STACK=104857600");
        return;
    }
    let spawned = AtomicUsize::new(0);
    let payload = payload_of(|| {
        let (open, gate) = bounded::<()>(0);
        thread::scope(|scope| {
            // Dropped on the way out, or the scope would wait for ever.
            let _open = open;
            while spawned.fetch_add(1, Ordering::SeqCst) < 50 {
                let gate = gate.clone();
                scope.spawn(move || gate.recv().unwrap_err());
            }
        });
    });
    let message = payload.downcast_ref::<String>().unwrap();
    assert!(message.contains("failed to spawn thread"), "{message}");
    assert!(spawned.into_inner() < 50);
}

// Pools.

/// Gives a pool of one thread eleven tasks, the first of which blocks, and ends the pool while it
/// does. Returns how many have run when `end` is back, and how many at last.
fn end_while_one_blocks<P>(
    pool: P,
    execute: impl Fn(&P, Box<dyn FnOnce() + Send>),
    end: impl FnOnce(P) -> Option<P>,
) -> (usize, usize) {
    let ran = Arc::new(AtomicUsize::new(0));
    let (open, gate) = bounded::<()>(0);
    let (begun, has_begun) = bounded(1);
    let (over, is_over) = bounded::<()>(0);
    let task = |before: Box<dyn FnOnce() + Send>| -> Box<dyn FnOnce() + Send> {
        let (ran, over) = (ran.clone(), over.clone());
        Box::new(move || {
            before();
            ran.fetch_add(1, Ordering::SeqCst);
            drop(over);
        })
    };
    let blocked = task(Box::new(move || {
        begun.send(()).unwrap();
        gate.recv().unwrap_err();
    }));
    execute(&pool, blocked);
    has_begun.recv().unwrap();
    (0..10).for_each(|_| execute(&pool, task(Box::new(|| {}))));
    drop(over);
    let ended = end(pool);
    let at_the_end = ran.load(Ordering::SeqCst);
    drop(open);
    is_over.recv().unwrap_err(); // every task has been run, or dropped
    drop(ended);
    (at_the_end, ran.load(Ordering::SeqCst))
}

fn dropped<P>(pool: P) -> Option<P> {
    drop(pool);
    None
}

#[test]
fn pools_of_threadpool_rayon_and_rusty_pool_are_dropped_with_tasks_running_and_run_all_that_is_queued()
 {
    in_time(|| {
        let threadpool = end_while_one_blocks(
            threadpool::ThreadPool::new(1),
            |pool, task| pool.execute(task),
            dropped,
        );
        assert_eq!(threadpool, (0, 11));
        let rayon = rayon::ThreadPoolBuilder::new().num_threads(1);
        let rayon = end_while_one_blocks(
            rayon.build().unwrap(),
            |pool, task| pool.spawn(task),
            dropped,
        );
        assert_eq!(rayon, (0, 11));
        let rusty = rusty_pool::Builder::new().core_size(1).max_size(1);
        let rusty = end_while_one_blocks(
            rusty.build(),
            |pool: &rusty_pool::ThreadPool, task| pool.execute(task),
            dropped,
        );
        assert_eq!(rusty, (0, 11));
    });
}

#[test]
fn a_bounded_shutdown_of_rusty_pool_says_nothing_of_what_is_left_and_ours_names_it() {
    in_time(|| {
        let rusty = rusty_pool::Builder::new().core_size(1).max_size(1);
        let ran = end_while_one_blocks(
            rusty.build(),
            |pool: &rusty_pool::ThreadPool, task| pool.execute(task),
            |pool| {
                let () = pool.shutdown_join_timeout(millis(1));
                None
            },
        );
        assert_eq!(ran, (0, 11));

        let pool = Pool::builder()
            .workers(1)
            .queue(16)
            .straggler_after(millis(1));
        let pool = pool.build(&CancelToken::new()).unwrap();
        let ran = end_while_one_blocks(
            pool,
            |pool, task| {
                pool.execute(move |_: &CancelToken| {
                    task();
                    Ok(())
                })
                .unwrap();
            },
            |pool| {
                let report = pool.shutdown(Shutdown::DrainFor(millis(1)));
                assert_eq!(report.stuck.len(), 1);
                assert_eq!(report.backlog.len(), 10);
                Some(pool)
            },
        );
        assert_eq!(ran, (0, 1));
    });
}

#[test]
fn a_panic_in_a_spawned_task_of_rayon_ends_the_process() {
    let name = "a_panic_in_a_spawned_task_of_rayon_ends_the_process";
    if !is_child() {
        let status = child(name, "ulimit -c 0").status;
        use std::os::unix::process::ExitStatusExt;
        assert_eq!(status.signal(), Some(6), "{status}");
        return;
    }
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1);
    let pool = pool.build().unwrap();
    let (_open, never_opened) = bounded::<()>(0);
    pool.spawn(|| panic!("in a task"));
    never_opened.recv_timeout(secs(60)).unwrap_err();
}

// Breakers.

/// How many of so many calls are let in, each of which is made while those before are under way.
fn let_in(left: usize, call: &dyn Fn(&dyn Fn() -> usize) -> Option<usize>) -> usize {
    if left == 0 {
        return 0;
    }
    let the_others = || let_in(left - 1, call);
    match call(&the_others) {
        Some(others) => 1 + others,
        None => the_others(),
    }
}

fn failsafe(failures: u32) -> impl CircuitBreaker + std::fmt::Debug {
    let at_once = failsafe::backoff::constant(Duration::ZERO);
    let policy = failsafe::failure_policy::consecutive_failures(failures, at_once);
    failsafe::Config::new().failure_policy(policy).build()
}

const RECLOSER_WAIT: Duration = millis(20);

fn recloser() -> Recloser {
    let builder = Recloser::custom().closed_len(1).half_open_len(1);
    builder.error_rate(0.5).open_wait(RECLOSER_WAIT).build()
}

/// Fails calls until one is rejected.
fn trip(breaker: &Recloser) {
    until(|| {
        let failed = breaker.call(|| Err::<(), _>(()));
        matches!(failed, Err(recloser::Error::Rejected))
    });
}

/// Our breaker, which has opened, on a clock on which its time is up.
fn ours_to_be_probed() -> Breaker {
    let clock = Clock::manual();
    let breaker = Breaker::builder().consecutive_failures(1).clock(&clock);
    let breaker = breaker.open_for(secs(1)).build().unwrap();
    breaker.acquire().unwrap().failure();
    assert_eq!(breaker.state(), State::Open);
    clock.advance(secs(1));
    breaker
}

#[test]
fn failsafe_and_recloser_let_every_caller_in_when_half_open_and_ours_one() {
    in_time(|| {
        let breaker = failsafe(1);
        breaker.call(|| Err::<(), _>(())).unwrap_err();
        until(|| breaker.is_call_permitted());
        assert!(format!("{breaker:?}").contains("half_open"));
        let call = |others: &dyn Fn() -> usize| breaker.call(|| Ok::<_, ()>(others())).ok();
        assert_eq!(let_in(50, &call), 50);

        let breaker = recloser();
        trip(&breaker);
        never::<()>().recv_timeout(RECLOSER_WAIT).unwrap_err();
        let call = |others: &dyn Fn() -> usize| breaker.call(|| Ok::<_, ()>(others())).ok();
        assert_eq!(let_in(50, &call), 50);

        let (breaker, token) = (ours_to_be_probed(), CancelToken::new());
        let call =
            |others: &dyn Fn() -> usize| breaker.call(&token, |_| Ok::<_, ()>(others())).ok();
        assert_eq!(let_in(50, &call), 1);
    });
}

#[test]
fn a_success_from_before_the_trip_closes_failsafe_and_not_ours() {
    in_time(|| {
        let breaker = failsafe(1);
        let early = breaker.call(|| {
            breaker.call(|| Err::<(), _>(())).unwrap_err(); // it trips
            until(|| breaker.is_call_permitted()); // a probe is let through
            assert!(format!("{breaker:?}").contains("half_open"));
            Ok::<_, ()>(())
        });
        early.unwrap();
        assert!(format!("{breaker:?}").contains("closed"));

        let clock = Clock::manual();
        let breaker = Breaker::builder().consecutive_failures(1).clock(&clock);
        let breaker = breaker.open_for(secs(1)).build().unwrap();
        let early = breaker.acquire().unwrap();
        breaker.acquire().unwrap().failure();
        clock.advance(secs(1));
        let probe = breaker.acquire().unwrap();
        early.success();
        assert_eq!(breaker.state(), State::HalfOpen);
        drop(probe);
    });
}

#[test]
fn an_error_that_does_not_count_closes_a_half_open_failsafe_and_not_ours() {
    in_time(|| {
        let breaker = failsafe(1);
        breaker.call(|| Err::<(), _>(())).unwrap_err();
        until(|| breaker.is_call_permitted());
        let does_not_count = |_: &()| false;
        let cancelled = breaker.call_with(does_not_count, || Err::<(), _>(()));
        cancelled.unwrap_err();
        assert!(format!("{breaker:?}").contains("closed"));

        let breaker = ours_to_be_probed();
        breaker.acquire().unwrap().ignore();
        assert_eq!(breaker.state(), State::HalfOpen);
    });
}

#[test]
fn panics_count_in_neither_failsafe_nor_recloser_and_do_in_ours() {
    let panics = |call: &dyn Fn()| {
        for _ in 0..10 {
            drop(payload_of(call));
        }
    };
    let breaker = failsafe(1);
    panics(&|| drop(breaker.call(|| -> Result<(), ()> { panic!("in a call") })));
    assert!(format!("{breaker:?}").contains("closed"));
    breaker.call(|| Err::<(), _>(())).unwrap_err(); // one error would have been enough
    assert!(format!("{breaker:?}").contains("open"));

    let breaker = recloser();
    panics(&|| drop(breaker.call(|| -> Result<(), ()> { panic!("in a call") })));
    breaker.call(|| Ok::<_, ()>(())).unwrap();
    trip(&breaker);

    let breaker = Breaker::builder().consecutive_failures(1);
    let breaker = breaker.open_for(secs(3600)).build().unwrap();
    let token = CancelToken::new();
    let call = || breaker.call(&token, |_| -> Result<(), ()> { panic!("in a call") });
    drop(payload_of(call));
    assert_eq!(breaker.state(), State::Open);
}
