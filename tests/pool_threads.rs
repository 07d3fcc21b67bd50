//! What a pool leaves behind in the process: no thread, whatever way it ends (P2).

#![allow(
    clippy::disallowed_methods,
    reason = "the negative control starts a thread that is not joined"
)]

mod support;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;

use cleanbreak::{CancelToken, Clock, Pool, Shutdown, scope};
use crossbeam_channel::bounded;
use support::{
    child_passes, count_the_end, in_time, is_child, live_named, secs, threads_named, until,
    until_waiting,
};

fn named(name: &str, workers: usize) -> Pool {
    let builder = Pool::builder().name(name).workers(workers).queue(100);
    builder.build(&CancelToken::new()).unwrap()
}

/// Uses a pool and leaves it in one of many ways.
fn leave(way: usize, pool: Pool) {
    let jobs: Vec<_> = (0..20)
        .map(|n| pool.submit(move |token| Ok((n, token.clone()))).unwrap())
        .collect();
    drop(pool.submit(|token| {
        token.wait_timeout(std::time::Duration::from_millis(1));
        Ok(())
    }));
    match way {
        0 => drop(pool),
        1 => drop(pool.shutdown(Shutdown::Drain)),
        2 => drop(pool.shutdown(Shutdown::Abandon)),
        3 => drop(pool.shutdown(Shutdown::DrainFor(std::time::Duration::ZERO))),
        4 => drop(pool.token().cancel()),
        5 => pool.resize(0).unwrap(),
        6 => pool.resize(9).unwrap(),
        _ => panic!("with a pool and {} jobs in scope", jobs.len()),
    }
}

#[test]
fn no_thread_is_left_by_any_way_out_of_a_pool() {
    in_time(|| {
        let name = "pt ways out";
        for way in (0..8).cycle().take(80) {
            let pool = named(name, 3);
            let left = thread::spawn(move || leave(way, pool)).join();
            assert_eq!(left.is_err(), way == 7);
            assert_eq!(live_named(name), 0);
        }
        // The kernel takes a thread out of its list a moment after it was joined.
        until(|| threads_named(name) == 0);
    });
}

#[test]
fn thread_local_destructors_have_run_when_a_shutdown_or_a_drop_returns() {
    static ENDED: AtomicUsize = AtomicUsize::new(0);
    in_time(|| {
        for round in 0..10 {
            let pool = named("pt locals", 1);
            let task = |_: &CancelToken| {
                count_the_end(&ENDED, None);
                Ok(())
            };
            pool.submit(task).unwrap().join().unwrap();
            match round % 2 {
                0 => drop(pool),
                _ => drop(pool.shutdown(Shutdown::Drain)),
            }
            assert_eq!(ENDED.load(Ordering::SeqCst), round + 1);
        }
    });
}

#[test]
fn neither_of_two_shutdowns_returns_before_the_threads_are_gone() {
    static ENDED: AtomicUsize = AtomicUsize::new(0);
    in_time(|| {
        for round in 0..20 {
            let pool = named("pt both", 1);
            let task = |_: &CancelToken| {
                count_the_end(&ENDED, None);
                Ok(())
            };
            drop(pool.submit(task).unwrap());
            thread::scope(|s| {
                for _ in 0..2 {
                    s.spawn(|| {
                        pool.shutdown(Shutdown::Drain);
                        assert_eq!(ENDED.load(Ordering::SeqCst), round + 1);
                    });
                }
            });
        }
    });
}

/// The negative control: a thread that has said that it is done, and was not joined, is not gone.
#[test]
fn a_thread_that_was_not_joined_would_be_seen_by_these_tests() {
    static ENDED: AtomicUsize = AtomicUsize::new(0);
    let (release, held) = bounded(0);
    let (done, is_done) = bounded(1);
    let leaked = thread::Builder::new().name("pt leaked".into());
    let leaked = leaked.spawn(move || {
        count_the_end(&ENDED, Some(held));
        done.send(()).unwrap();
    });
    is_done.recv().unwrap();
    assert_eq!(ENDED.load(Ordering::SeqCst), 0);
    assert_eq!(threads_named("pt leaked"), 1);
    drop(release);
    leaked.unwrap().join().unwrap();
    assert_eq!(ENDED.load(Ordering::SeqCst), 1);
}

#[test]
fn a_pool_dropped_by_its_own_task_stops_and_its_threads_end_by_themselves() {
    in_time(|| {
        let name = "pt by itself";
        for workers in [1, 3] {
            let pool = Arc::new(named(name, workers));
            let (go, wait) = bounded::<()>(0);
            let inner = pool.clone();
            let last = pool.submit(move |token| {
                wait.recv().unwrap_err();
                drop(inner);
                Ok(token.is_cancelled())
            });
            drop(pool);
            drop(go);
            assert!(last.unwrap().join().unwrap());
            until(|| live_named(name) == 0 && threads_named(name) == 0);
        }
    });
}

#[test]
fn a_refused_thread_is_an_error_and_leaves_nothing_behind() {
    let name = "a_refused_thread_is_an_error_and_leaves_nothing_behind";
    if !is_child() {
        child_passes(name, "ulimit -v 1000000");
        return;
    }
    in_time(|| {
        // A stack larger than the address space that is left.
        let builder = Pool::builder().name("pt refused").stack_size(1 << 40);
        let error = builder.build(&CancelToken::new()).unwrap_err();
        assert_eq!(error.thread_name(), "pt refused");
        let builder = Pool::builder().name("pt some").stack_size(300 << 20);
        let error = builder.workers(10).build(&CancelToken::new()).unwrap_err();
        assert_eq!(error.thread_name(), "pt some");
        assert_eq!(live_named("pt some") + live_named("pt refused"), 0);
        // A pool that could not grow goes on with what it has.
        let builder = Pool::builder().name("pt grows").workers(1).queue(2);
        let pool = builder.stack_size(300 << 20);
        let pool = pool.build(&CancelToken::new()).unwrap();
        let (release, held) = bounded::<()>(0);
        let busy = pool.submit(move |_| Ok(held.recv().unwrap_err())).unwrap();
        let waits = pool.submit(|_| Ok(7)).unwrap();
        assert!(pool.resize(10).is_err());
        drop(release);
        assert_eq!(waits.join().unwrap(), 7);
        busy.join().unwrap();
        let workers = pool.workers();
        assert!((1..10).contains(&workers));
        until(|| live_named("pt grows") == workers);
        let together = Arc::new(Barrier::new(workers));
        let tasks = (0..workers).map(|_| {
            let together = together.clone();
            pool.submit(move |_| Ok(together.wait().is_leader()))
        });
        let tasks: Vec<_> = tasks.collect();
        for task in tasks {
            task.unwrap().join().unwrap();
        }
        // Nor does the queue take more for those that did not come.
        let (release, held) = bounded::<()>(0);
        for _ in 0..workers {
            let held = held.clone();
            drop(pool.submit(move |_| Ok(held.recv().unwrap_err())));
        }
        until(|| pool.queued() == 0);
        let taken = (0..9).filter(|_| pool.try_submit(|_| Ok(())).is_ok());
        assert_eq!(taken.count(), 2);
        drop(release);
        assert!(pool.shutdown(Shutdown::Drain).all_completed());
    });
}

#[test]
fn a_join_that_waits_already_is_woken_when_its_time_is_up_by_a_manual_clock() {
    in_time(|| {
        let clock = Clock::manual();
        let pool = Pool::builder().workers(1);
        let pool = pool.build(&CancelToken::with_clock(&clock)).unwrap();
        for _ in 0..20 {
            let (release, held) = bounded::<()>(0);
            let job = pool.submit(move |_| Ok(held.recv().unwrap_err())).unwrap();
            let back = scope(&CancelToken::new(), |group| {
                let join = group.spawn_named("pt join", move |_| Ok(job.join_timeout(secs(1))));
                clock.await_timers(1);
                until_waiting("pt join");
                clock.advance(secs(1));
                Ok(join?.join()?)
            });
            let job = back.unwrap().unwrap_err();
            drop(release);
            job.join().unwrap();
        }
    });
}

#[test]
fn a_pool_is_listed_as_open_until_it_is_shut_down_or_cancelled() {
    let open = |name: &str| {
        let live = cleanbreak::pool::live();
        let info = live.into_iter().find(|info| *info.name == *name);
        info.map(|info| info.open)
    };
    let pools = ["pt shut down", "pt told"].map(|name| named(name, 1));
    assert_eq!(
        open("pt shut down").zip(open("pt told")),
        Some((true, true))
    );
    pools[0].shutdown(Shutdown::Drain);
    pools[1].token().cancel();
    assert_eq!(
        open("pt shut down").zip(open("pt told")),
        Some((false, false))
    );
    drop(pools);
    assert_eq!(open("pt told"), None);
}
