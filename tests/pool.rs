//! The pool: what submits, jobs, tokens and sizes promise (P1).

#![allow(
    clippy::disallowed_methods,
    reason = "threads that are not the library's own"
)]
#![allow(clippy::unit_arg, reason = "a task ends with what it does last")]

mod support;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::Duration;

use anyhow::bail;
use cleanbreak::pool::{JobError, SubmitErrorKind};
use cleanbreak::{CancelKind, CancelToken, Clock, Job, Pool, PoolBuilder, Shutdown, threads};
use crossbeam_channel::{Sender, bounded, unbounded};
use support::{in_time, live_named, until, until_waiting};

const SECOND: Duration = Duration::from_secs(1);

fn pool(workers: usize, queue: usize) -> Pool {
    let builder = Pool::builder().workers(workers).queue(queue);
    builder.build(&CancelToken::new()).unwrap()
}

/// Occupies a worker until the sender is dropped. Returns when the task has started.
fn occupy(pool: &Pool) -> (Sender<()>, Job<()>) {
    let (release, held) = bounded::<()>(0);
    let (started, has_started) = bounded(1);
    let job = pool.submit(move |_| {
        started.send(()).unwrap();
        held.recv().unwrap_err();
        Ok(())
    });
    has_started.recv().unwrap();
    (release, job.unwrap())
}

/// Panics when it is dropped.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("in a destructor");
    }
}

#[test]
fn a_job_brings_the_value_the_error_or_the_panic_of_its_task() {
    in_time(|| {
        let pool = pool(2, 8);
        assert_eq!(pool.submit(|_| Ok(7)).unwrap().join().unwrap(), 7);
        let failed = pool.submit(|_| -> anyhow::Result<()> { bail!("disk full") });
        let failed = failed.unwrap().join().unwrap_err();
        assert_eq!(failed.to_string(), "disk full");
        assert_eq!(failed.into_failure().unwrap().to_string(), "disk full");
        let panicked = pool.submit(|_| -> anyhow::Result<()> { panic!("bug {}", 7) });
        let panicked = panicked.unwrap().join().unwrap_err();
        assert_eq!(panicked.to_string(), "the task panicked: bug 7");
        let odd = pool.submit(|_| -> anyhow::Result<()> { std::panic::panic_any(7_u8) });
        match odd.unwrap().join().unwrap_err() {
            JobError::Panicked(payload) => {
                assert_eq!(*payload.into_inner().downcast::<u8>().unwrap(), 7)
            }
            other => panic!("{other:?}"),
        }
        let report = pool.shutdown(Shutdown::Drain);
        let counts = (report.completed, report.failed, report.panicked);
        assert_eq!((counts, report.submitted()), ((1, 1, 2), 4));
    });
}

#[test]
fn a_thousand_panics_cost_neither_a_worker_nor_the_queue() {
    in_time(|| {
        let pool = pool(2, 4);
        for _ in 0..1000 {
            drop(pool.submit(|_| -> anyhow::Result<()> { std::panic::resume_unwind(Box::new(1)) }));
        }
        assert_eq!(pool.workers(), 2);
        let both = Arc::new(Barrier::new(2));
        let meet = |_| {
            let both = both.clone();
            pool.submit(move |_| Ok(both.wait().is_leader())).unwrap()
        };
        let jobs: Vec<_> = (0..2).map(meet).collect();
        assert!(jobs.into_iter().all(|job| job.join().is_ok()));
        let report = pool.shutdown(Shutdown::Drain);
        assert_eq!((report.panicked, report.completed), (1000, 2));
    });
}

#[test]
fn destructors_that_panic_cost_no_worker_wherever_they_run() {
    in_time(|| {
        let pool = pool(1, 8);
        let (release, busy) = occupy(&pool);
        // Of a result that nobody takes, of a closure that is cancelled unrun, of a captured value.
        drop(pool.submit(|_| Ok(Bomb)).unwrap());
        let bomb = Bomb;
        let unrun = pool.submit(move |_| Ok(drop(bomb))).unwrap();
        assert!(unrun.cancel());
        let bomb = Bomb;
        let run = pool.submit(move |_| Ok(drop(bomb))).unwrap();
        drop(release);
        busy.join().unwrap();
        assert!(run.join().unwrap_err().is_panic());
        assert_eq!(
            pool.submit(|_| Ok("alive")).unwrap().join().unwrap(),
            "alive"
        );
        let report = pool.shutdown(Shutdown::Drain);
        let counts = (report.completed, report.panicked, report.cancelled);
        assert_eq!((counts, report.submitted()), ((3, 1, 1), 5));
    });
}

#[test]
fn one_worker_runs_tasks_in_the_order_of_their_submission() {
    in_time(|| {
        let pool = pool(1, 1000);
        let (tx, rx) = unbounded();
        for n in 0..1000 {
            let tx = tx.clone();
            drop(pool.submit(move |_| Ok(tx.send(n)?)).unwrap());
        }
        drop(tx);
        assert!(rx.iter().eq(0..1000));
    });
}

#[test]
fn try_submit_gives_the_task_back_when_the_queue_is_full() {
    in_time(|| {
        let pool = pool(1, 2);
        let (release, busy) = occupy(&pool);
        let jobs = [1, 2].map(|n| pool.try_submit(move |_| Ok(n)).unwrap());
        assert_eq!(pool.queued(), 2);
        let refused = pool.try_submit(|_| Ok(3)).unwrap_err();
        assert!(refused.is_full() && matches!(refused.kind(), SubmitErrorKind::Full));
        assert_eq!(
            refused.to_string(),
            "all workers are busy and the queue is full"
        );
        assert_eq!(refused.into_inner()(&CancelToken::new()).unwrap(), 3);
        drop(release);
        assert_eq!(jobs.map(|job| job.join().unwrap()), [1, 2]);
        busy.join().unwrap();
    });
}

#[test]
fn a_submit_waits_for_a_place_and_gets_it() {
    in_time(|| {
        let pool = PoolBuilder::new().workers(1).queue(1);
        let pool = pool.build(&CancelToken::new()).unwrap();
        let outer = Pool::builder().name("submits").workers(1);
        let outer = outer.build(&CancelToken::new()).unwrap();
        let pool = Arc::new(pool);
        let (release, busy) = occupy(&pool);
        let queued = pool.submit(|_| Ok(1)).unwrap();
        let inner = pool.clone();
        let waiting = outer.submit(move |_| Ok(inner.submit(|_| Ok(2)).unwrap().join().unwrap()));
        until_waiting("submits");
        assert_eq!(pool.queued(), 1);
        drop(release);
        assert_eq!(waiting.unwrap().join().unwrap(), 2);
        assert_eq!(queued.join().unwrap(), 1);
        busy.join().unwrap();
    });
}

#[test]
fn a_submit_that_waits_gives_the_task_back_on_cancellation_shutdown_and_deadline() {
    for way in 0..3 {
        in_time(move || {
            let clock = Clock::manual();
            let token = CancelToken::with_clock(&clock);
            let pool = Pool::builder().workers(1).queue(0).build(&token).unwrap();
            let (release, busy) = occupy(&pool);
            let deadline = clock.deadline_after(SECOND).unwrap();
            thread::scope(|s| {
                let pool = &pool;
                let submit = s.spawn(move || {
                    let task = |_: &CancelToken| Ok("back");
                    let refused = match way {
                        2 => pool.submit_deadline(deadline, task).unwrap_err(),
                        _ => pool.submit(task).unwrap_err(),
                    };
                    let why = (
                        refused.is_cancelled(),
                        refused.is_closed(),
                        refused.is_timeout(),
                    );
                    (why, refused.into_inner()(&CancelToken::new()).unwrap())
                });
                match way {
                    0 => assert!(token.cancel()),
                    1 => drop(s.spawn(|| pool.shutdown(Shutdown::Drain))),
                    _ => {
                        clock.await_timers(1);
                        clock.advance(SECOND);
                    }
                }
                let (why, back) = submit.join().unwrap();
                assert_eq!(why, (way == 0, way == 1, way == 2));
                assert_eq!(back, "back");
                drop(release);
            });
            busy.join().unwrap();
        });
    }
}

#[test]
fn with_a_queue_of_zero_a_task_is_handed_to_a_free_worker_or_refused() {
    in_time(|| {
        let pool = pool(1, 0);
        // The worker counts as free from the start, however long its thread takes.
        let first = pool.try_submit(|_| Ok(1)).unwrap();
        assert_eq!(first.join().unwrap(), 1);
        let (release, busy) = occupy(&pool);
        assert!(pool.try_submit(|_| Ok(2)).unwrap_err().is_full());
        thread::scope(|s| {
            let waiting = s.spawn(|| pool.submit(|_| Ok(3)).unwrap().join().unwrap());
            drop(release);
            assert_eq!(waiting.join().unwrap(), 3);
        });
        busy.join().unwrap();
    });
}

#[test]
fn a_task_may_submit_to_its_own_full_pool_without_waiting() {
    in_time(|| {
        for queue in [0, 1] {
            let pool = Arc::new(pool(1, queue));
            let inner = pool.clone();
            let jobs = pool.submit(move |_| {
                let jobs = (0..10).map(|n| inner.submit(move |_| Ok(n)).unwrap());
                Ok(jobs.collect::<Vec<_>>())
            });
            let jobs = jobs.unwrap().join().unwrap();
            let values: Vec<_> = jobs.into_iter().map(|job| job.join().unwrap()).collect();
            assert!(values.into_iter().eq(0..10));
        }
    });
}

#[test]
fn cancelling_a_job_in_the_queue_ends_it_at_once_and_it_never_runs() {
    in_time(|| {
        let pool = pool(1, 4);
        let (release, busy) = occupy(&pool);
        let held = Arc::new(());
        let captured = held.clone();
        let job = pool.submit(move |_| -> anyhow::Result<()> { panic!("ran {captured:?}") });
        let job = job.unwrap();
        assert!(!job.is_finished());
        assert!(job.cancel());
        assert!(job.is_finished() && !job.cancel());
        assert_eq!(Arc::strong_count(&held), 1);
        assert!(job.join().unwrap_err().is_cancelled());
        drop(release);
        busy.join().unwrap();
        let report = pool.shutdown(Shutdown::Drain);
        assert_eq!((report.completed, report.cancelled), (1, 1));
    });
}

#[test]
fn cancelling_a_running_job_tells_that_task_and_no_other() {
    in_time(|| {
        let pool = pool(2, 4);
        let (started, has_started) = bounded(2);
        let jobs = [0, 1].map(|_| {
            let started = started.clone();
            let task = move |token: &CancelToken| {
                started.send(()).unwrap();
                token.wait();
                Ok(())
            };
            pool.submit(task).unwrap()
        });
        (0..2).for_each(|_| has_started.recv().unwrap());
        let [one, other] = jobs;
        assert!(one.cancel());
        one.join().unwrap();
        assert!(!other.is_finished() && !pool.token().is_cancelled());
        assert!(other.cancel());
        other.join().unwrap();
        assert_eq!(pool.shutdown(Shutdown::Drain).completed, 2);
    });
}

#[test]
fn what_a_task_does_to_its_token_does_not_reach_the_next_task() {
    in_time(|| {
        let pool = pool(1, 4);
        let kept: Vec<fn(&CancelToken) -> Option<CancelToken>> = vec![
            |token| Some(token.clone()),
            |token| Some(token.child()),
            |token| token.cancel().then(|| token.clone()),
            |token| {
                token.on_cancel(|| ()).detach();
                None
            },
            |token| {
                token.wait_timeout(Duration::ZERO);
                None
            },
            |_| None,
        ];
        for touch in kept {
            let kept = pool.submit(move |token| Ok(touch(token))).unwrap().join();
            let (go, wait) = bounded::<()>(0);
            let next = pool.submit(move |token| {
                wait.recv().unwrap_err();
                Ok(token.is_cancelled())
            });
            if let Some(token) = kept.unwrap() {
                token.cancel();
            }
            drop(go);
            assert!(!next.unwrap().join().unwrap());
        }
        assert!(!pool.token().is_cancelled());
    });
}

#[test]
fn a_tasks_timeout_counts_from_its_start_and_zero_never_starts() {
    in_time(|| {
        let clock = Clock::manual();
        let token = CancelToken::with_clock(&clock);
        let pool = Pool::builder().workers(1).build(&token).unwrap();
        let (release, busy) = occupy(&pool);
        let timed = pool.task().name("timed").timeout(SECOND);
        let timed = timed.submit(|token| {
            token.wait();
            Ok(token.kind())
        });
        clock.advance(10 * SECOND); // in the queue
        drop(release);
        clock.await_timers(1);
        until(|| live_named("timed") == 1);
        assert_eq!(clock.next_deadline(), clock.deadline_after(SECOND));
        clock.advance(SECOND);
        let kind = timed.unwrap().join().unwrap();
        assert_eq!(kind, Some(CancelKind::DeadlineExceeded));
        let never = pool.task().timeout(Duration::ZERO);
        let never = never.submit(|_| -> anyhow::Result<()> { unreachable!() });
        assert!(never.unwrap().join().unwrap_err().is_cancelled());
        busy.join().unwrap();
        assert_eq!(clock.timers(), 0);
    });
}

#[test]
fn a_join_gives_the_handle_back_when_its_time_is_up_by_the_pools_clock() {
    in_time(|| {
        let clock = Clock::manual();
        let token = CancelToken::with_clock(&clock);
        let pool = Pool::builder().workers(1).build(&token).unwrap();
        let (release, busy) = occupy(&pool);
        let job = thread::scope(|s| {
            let join = s.spawn(move || busy.join_timeout(SECOND));
            clock.await_timers(1);
            clock.advance(SECOND);
            join.join().unwrap().unwrap_err()
        });
        let job = job.join_deadline(clock.now()).unwrap_err();
        assert_eq!(format!("{job:?}"), "Job { finished: false, .. }");
        drop(release);
        job.join_timeout(Duration::MAX).unwrap().unwrap();
        assert_eq!(clock.timers(), 0);
    });
}

#[test]
fn cancelling_the_token_ends_the_backlog_tells_the_running_and_refuses_the_rest() {
    in_time(|| {
        let token = CancelToken::new();
        let pool = Pool::builder().workers(1).build(&token).unwrap();
        let (release, busy) = occupy(&pool);
        let jobs: Vec<_> = (0..10).map(|_| pool.submit(|_| Ok(())).unwrap()).collect();
        assert!(token.cancel_with("power failure"));
        // At once: the worker is still busy.
        assert!(jobs.iter().all(Job::is_finished));
        assert_eq!(pool.queued(), 0);
        for job in jobs {
            assert!(job.join().unwrap_err().is_cancelled());
        }
        let refused = pool.submit(|_| Ok(())).unwrap_err();
        let said = "the pool takes no more tasks: cancelled: power failure";
        assert_eq!(refused.to_string(), said);
        drop(release);
        busy.join().unwrap();
        let report = pool.shutdown(Shutdown::Drain);
        assert_eq!((report.completed, report.cancelled), (1, 10));
        assert_eq!(report.to_string(), "11 tasks: 1 completed, 10 cancelled");
    });
}

#[test]
fn a_pool_under_a_cancelled_token_takes_nothing_in_and_ends() {
    in_time(|| {
        let token = CancelToken::new();
        token.cancel();
        let pool = Pool::builder().workers(2).build(&token).unwrap();
        assert!(pool.submit(|_| Ok(())).unwrap_err().is_cancelled());
        assert_eq!(pool.shutdown(Shutdown::Drain).submitted(), 0);
    });
}

#[test]
fn a_pool_without_workers_collects_tasks_until_it_gets_some() {
    in_time(|| {
        let pool = pool(0, 3);
        let jobs = [1, 2, 3].map(|n| pool.submit(move |_| Ok(n)).unwrap());
        assert!(pool.try_submit(|_| Ok(4)).unwrap_err().is_full());
        assert!(jobs.iter().all(|job| !job.is_finished()));
        pool.resize(2).unwrap();
        assert_eq!(jobs.map(|job| job.join().unwrap()), [1, 2, 3]);
        pool.resize(0).unwrap();
        until(|| pool.workers() == 0);
        let paused = pool.submit(|_| Ok(5)).unwrap();
        assert_eq!(pool.queued(), 1);
        pool.resize(1).unwrap();
        assert_eq!(paused.join().unwrap(), 5);
    });
}

#[test]
fn a_pool_that_shrinks_lets_tasks_end_and_one_that_grows_serves_more_at_once() {
    in_time(|| {
        let pool = pool(1, 100);
        pool.resize(4).unwrap();
        let all_in = Arc::new(Barrier::new(5));
        let held = Arc::new(Barrier::new(5));
        for _ in 0..4 {
            let (all_in, held) = (all_in.clone(), held.clone());
            let task = move |_: &CancelToken| {
                all_in.wait();
                held.wait();
                Ok(())
            };
            drop(pool.submit(task).unwrap());
        }
        all_in.wait();
        pool.resize(1).unwrap();
        assert_eq!(pool.workers(), 4);
        held.wait();
        until(|| pool.workers() == 1);
        // Nothing is left behind by those who went.
        let (busy, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let jobs: Vec<_> = (0..100)
            .map(|_| {
                let (busy, most) = (busy.clone(), most.clone());
                let task = move |_: &CancelToken| {
                    most.fetch_max(busy.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                    busy.fetch_sub(1, Ordering::SeqCst);
                    Ok(())
                };
                pool.submit(task).unwrap()
            })
            .collect();
        assert!(jobs.into_iter().all(|job| job.join().is_ok()));
        assert_eq!(most.load(Ordering::SeqCst), 1);
    });
}

#[test]
fn a_task_is_listed_with_its_name_and_the_line_that_submitted_it() {
    in_time(|| {
        let builder = Pool::builder().name("listed pool").workers(1);
        let pool = builder.build(&CancelToken::new()).unwrap();
        let (started, has_started) = bounded::<()>(0);
        let line = line!() + 1;
        let job = pool.task().name("listed task").submit(move |token| {
            started.send(()).unwrap();
            token.wait();
            Ok(())
        });
        has_started.recv().unwrap();
        let live = threads::live();
        let listed = live.iter().find(|thread| thread.name == "listed task");
        let at = listed.unwrap().spawned_at;
        assert_eq!((at.file(), at.line()), (file!(), line));
        let job = job.unwrap();
        job.cancel();
        job.join().unwrap();
        until_waiting("listed pool");
        let live = threads::live();
        let idle = live.iter().find(|thread| thread.name == "listed pool");
        assert_eq!(idle.unwrap().waiting.unwrap().on, "get a task of a pool");
    });
}

#[test]
fn public_types_can_be_shared_and_sent() {
    fn shared<T: Send + Sync>() {}
    shared::<Pool>();
    shared::<Job<u8>>();
    shared::<cleanbreak::pool::Report>();
    shared::<cleanbreak::pool::SubmitError<fn()>>();
    shared::<JobError<anyhow::Error>>();
}
