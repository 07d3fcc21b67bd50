//! How a pool ends: every policy, counts that add up to the last task, and who is stuck (P2).

#![allow(
    clippy::disallowed_methods,
    reason = "threads that are not the library's own"
)]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::bail;
use cleanbreak::pool::{Report, Stuck};
use cleanbreak::{CancelToken, Clock, Job, ManualClock, Pool, Shutdown, threads};
use crossbeam_channel::{Receiver, Sender, bounded, unbounded};
use support::{child_passes, in_time, is_child, live_named, seed, until};

const SECOND: Duration = Duration::from_secs(1);
const TASKS: usize = 10_000;

/// One of ten fails, one panics.
fn task(
    n: usize,
    ran: &Arc<AtomicUsize>,
) -> impl FnOnce(&CancelToken) -> anyhow::Result<usize> + use<> {
    let ran = ran.clone();
    move |_| {
        ran.fetch_add(1, Ordering::SeqCst);
        match n % 10 {
            3 => bail!("three"),
            // Without the noise of the panic hook.
            7 => std::panic::resume_unwind(Box::new("seven")),
            _ => Ok(n),
        }
    }
}

/// What the handles say: completed, failed, panicked, cancelled, abandoned.
fn tally(jobs: Vec<Job<usize>>) -> [usize; 5] {
    let mut tally = [0; 5];
    for job in jobs {
        let place = match job.join() {
            Ok(_) => 0,
            Err(error) if error.is_panic() => 2,
            Err(error) if error.is_cancelled() => 3,
            Err(error) if error.is_abandoned() => 4,
            Err(_) => 1,
        };
        tally[place] += 1;
    }
    tally
}

fn counts(report: &Report) -> [usize; 5] {
    let Report {
        completed,
        failed,
        panicked,
        cancelled,
        abandoned,
        ..
    } = report;
    [*completed, *failed, *panicked, *cancelled, *abandoned]
}

/// Ten thousand tasks on four workers, shut down somewhere in the middle.
fn ten_thousand(end: impl FnOnce(&Pool) -> Report) {
    let builder = Pool::builder().workers(4).queue(TASKS);
    let pool = builder.build(&CancelToken::new()).unwrap();
    let ran = Arc::new(AtomicUsize::new(0));
    let jobs: Vec<_> = (0..TASKS)
        .map(|n| pool.submit(task(n, &ran)).unwrap())
        .collect();
    let report = end(&pool);
    assert_eq!(report.submitted(), TASKS);
    assert_eq!((report.stuck.len(), report.queued), (0, 0));
    assert_eq!(report.backlog.len(), report.abandoned);
    let counts = counts(&report);
    assert_eq!(counts.iter().sum::<usize>(), TASKS);
    assert_eq!(
        counts[..3].iter().sum::<usize>(),
        ran.load(Ordering::SeqCst)
    );
    // What was handed back runs elsewhere, once.
    let elsewhere = CancelToken::new();
    let done = report.backlog.into_iter().map(|task| task.run(&elsewhere));
    let failed = done.filter(Result::is_err).count();
    assert_eq!(ran.load(Ordering::SeqCst) + counts[3], TASKS);
    if counts[3] == 0 {
        assert_eq!(counts[1] + counts[2] + failed, TASKS / 5);
    }
    assert_eq!(tally(jobs), counts);
    assert_eq!(pool.workers(), 0);
}

#[test]
fn a_drain_runs_ten_thousand_tasks_to_the_last() {
    in_time(|| {
        ten_thousand(|pool| {
            let report = pool.shutdown(Shutdown::Drain);
            assert_eq!(counts(&report), [8000, 1000, 1000, 0, 0]);
            assert!(!report.all_completed());
            report
        });
    });
}

#[test]
fn abandon_hands_back_exactly_what_has_not_run() {
    in_time(|| ten_thousand(|pool| pool.shutdown(Shutdown::Abandon)));
}

#[test]
fn drain_for_a_time_hands_back_what_is_left_then() {
    in_time(|| {
        for millis in [0, 1, 3] {
            let policy = Shutdown::DrainFor(Duration::from_millis(millis));
            ten_thousand(|pool| pool.shutdown(policy));
        }
        ten_thousand(|pool| pool.shutdown(Shutdown::DrainFor(Duration::MAX)));
    });
}

#[test]
fn drain_until_a_point_in_time_counts_the_same() {
    in_time(|| {
        ten_thousand(|pool| {
            let clock = pool.token().clock();
            let deadline = clock.deadline_after(Duration::from_millis(2));
            pool.shutdown(Shutdown::DrainUntil(deadline.unwrap()))
        });
    });
}

#[test]
fn a_cancellation_in_the_middle_of_a_drain_leaves_nothing_uncounted() {
    in_time(|| {
        ten_thousand(|pool| {
            thread::scope(|s| {
                s.spawn(|| pool.token().cancel());
                pool.shutdown(Shutdown::Drain)
            })
        });
    });
}

#[test]
fn of_two_shutdowns_at_once_both_count_everything_and_one_gets_the_backlog() {
    in_time(|| {
        let policies = [
            Shutdown::Drain,
            Shutdown::Abandon,
            Shutdown::DrainFor(Duration::ZERO),
        ];
        for (one, other) in [(0, 0), (0, 1), (1, 1), (0, 2), (1, 2)] {
            ten_thousand(|pool| {
                let (mut mine, theirs) = thread::scope(|s| {
                    let theirs = s.spawn(|| pool.shutdown(policies[other]));
                    (pool.shutdown(policies[one]), theirs.join().unwrap())
                });
                assert_eq!(counts(&mine), counts(&theirs));
                mine.backlog.extend(theirs.backlog);
                mine
            });
        }
    });
}

#[test]
fn submits_that_race_with_a_shutdown_are_counted_or_given_back() {
    let seed = seed();
    in_time(move || {
        let mut random = fastrand::Rng::with_seed(seed);
        for _ in 0..60 {
            let builder = Pool::builder().workers(random.usize(0..4));
            let pool = builder.queue(random.usize(0..20));
            let pool = pool.build(&CancelToken::new()).unwrap();
            let ran = Arc::new(AtomicUsize::new(0));
            let (policy, cancels) = (random.u8(0..3), random.bool());
            let sizes: Vec<_> = (0..5).map(|_| random.usize(0..5)).collect();
            let report = thread::scope(|s| {
                let submits: Vec<_> = (0..3)
                    .map(|_| {
                        let (pool, ran) = (&pool, &ran);
                        s.spawn(move || {
                            let submit = |n| pool.submit(task(n, ran)).ok();
                            let jobs: Vec<_> = (0..200).map_while(submit).collect();
                            if let Some(job) = jobs.first() {
                                job.cancel();
                            }
                            jobs
                        })
                    })
                    .collect();
                sizes
                    .into_iter()
                    .for_each(|size| pool.resize(size).unwrap());
                if cancels {
                    pool.token().cancel();
                }
                let report = pool.shutdown(match policy {
                    0 => Shutdown::Drain,
                    1 => Shutdown::Abandon,
                    _ => Shutdown::DrainFor(Duration::from_micros(200)),
                });
                let jobs = submits.into_iter().flat_map(|s| s.join().unwrap());
                assert_eq!(tally(jobs.collect()), counts(&report));
                report
            });
            let ended = counts(&report)[..3].iter().sum::<usize>();
            assert_eq!(ended, ran.load(Ordering::SeqCst));
            assert_eq!(report.stuck.len() + report.queued, 0);
        }
    });
}

#[test]
fn after_a_shutdown_a_submit_and_a_resize_are_refused() {
    in_time(|| {
        let pool = Pool::builder()
            .workers(1)
            .build(&CancelToken::new())
            .unwrap();
        assert!(pool.shutdown(Shutdown::Drain).all_completed());
        for refused in [
            pool.submit(back).unwrap_err(),
            pool.try_submit(back).unwrap_err(),
            pool.submit_deadline(pool.token().clock().now(), back)
                .unwrap_err(),
        ] {
            assert!(refused.is_closed());
            assert_eq!(refused.to_string(), "the pool has been shut down");
            assert_eq!(refused.into_inner()(&CancelToken::new()).unwrap(), "back");
        }
        assert!(pool.resize(3).is_err());
        assert_eq!(pool.shutdown(Shutdown::Abandon).submitted(), 0);
    });
}

fn back(_: &CancelToken) -> anyhow::Result<&'static str> {
    Ok("back")
}

#[test]
fn a_task_that_shuts_its_own_pool_down_does_not_wait_for_itself() {
    in_time(|| {
        for policy in [
            Shutdown::Drain,
            Shutdown::Abandon,
            Shutdown::DrainFor(Duration::ZERO),
            Shutdown::DrainFor(100 * SECOND),
        ] {
            let builder = Pool::builder().workers(1).queue(10);
            let pool = Arc::new(builder.build(&CancelToken::new()).unwrap());
            let (go, wait) = bounded::<()>(0);
            let inner = pool.clone();
            let ends = pool.task().name("ends it").submit(move |_| {
                wait.recv().unwrap_err();
                Ok(inner.shutdown(policy))
            });
            let ran = Arc::new(AtomicUsize::new(0));
            let jobs: Vec<_> = (0..2)
                .map(|n| pool.submit(task(n, &ran)).unwrap())
                .collect();
            drop(go);
            let report = ends.unwrap().join().unwrap();
            assert_eq!((report.submitted(), report.stuck.len()), (3, 1));
            assert_eq!(report.stuck[0].name, "ends it");
            let drains =
                matches!(policy, Shutdown::Drain) || policy == Shutdown::DrainFor(100 * SECOND);
            assert_eq!(report.queued, if drains { 2 } else { 0 });
            let last = pool.shutdown(Shutdown::Drain);
            assert_eq!(last.submitted(), 3);
            assert_eq!(last.completed, if drains { 3 } else { 1 });
            assert_eq!(tally(jobs)[4], last.abandoned);
        }
    });
}

/// A pool on a manual clock with reports on a channel.
fn watched() -> (ManualClock, Pool, Receiver<Vec<Stuck>>) {
    let clock = Clock::manual();
    let (tx, reports) = unbounded();
    let report = move |stuck: &[Stuck]| tx.send(stuck.to_vec()).unwrap();
    let builder = Pool::builder().name("watched").workers(2);
    let builder = builder.straggler_after(2 * SECOND).on_straggler(report);
    let pool = builder.build(&CancelToken::with_clock(&clock)).unwrap();
    (clock, pool, reports)
}

/// A task that ignores its token until the sender is dropped.
fn deaf(pool: &Pool) -> (Sender<()>, u32) {
    let (release, held) = bounded::<()>(0);
    let (started, has_started) = bounded(0);
    let line = line!() + 1;
    let job = pool.task().name("deaf").submit(move |_| {
        let _wait = threads::waiting_on("read a broken disk");
        started.send(()).unwrap();
        Ok(held.recv().unwrap_err())
    });
    drop(job.unwrap());
    has_started.recv().unwrap();
    (release, line)
}

#[test]
fn a_drain_with_a_deadline_returns_and_names_the_stuck() {
    in_time(|| {
        let (clock, pool, reports) = watched();
        let (release, line) = deaf(&pool);
        let obedient = pool.submit(|token| {
            token.wait();
            Ok(token.cause().unwrap().to_string())
        });
        let left = pool.submit(|_| Ok(())).unwrap();
        until(|| pool.queued() == 1); // the other two have started
        let report = thread::scope(|s| {
            let shutdown = s.spawn(|| pool.shutdown(Shutdown::DrainFor(SECOND)));
            clock.await_timers(1);
            assert!(!pool.token().is_cancelled());
            clock.advance(SECOND);
            assert_eq!(
                obedient.unwrap().join().unwrap(),
                "pool \"watched\" shut down"
            );
            until(|| clock.next_deadline() == clock.deadline_after(2 * SECOND));
            until(|| live_named("watched") == 0); // the other worker has gone
            clock.advance(2 * SECOND);
            shutdown.join().unwrap()
        });
        assert_eq!(report.submitted(), 3);
        assert_eq!(counts(&report), [1, 0, 0, 0, 1]);
        assert!(left.join().unwrap_err().is_abandoned());
        let stuck = &report.stuck[0];
        assert_eq!((report.stuck.len(), &*stuck.name), (1, "deaf"));
        assert_eq!(
            (stuck.submitted_at.file(), stuck.submitted_at.line()),
            (file!(), line)
        );
        assert_eq!(stuck.waiting.unwrap().on, "read a broken disk");
        assert_eq!(stuck.overdue, 2 * SECOND);
        drop(release);
        let report = pool.shutdown(Shutdown::Drain);
        assert_eq!(counts(&report), [2, 0, 0, 0, 1]);
        assert!(report.stuck.is_empty() && reports.is_empty());
        assert_eq!(clock.timers(), 0);
    });
}

#[test]
fn a_drain_and_a_drop_report_who_holds_them_up_again_and_again() {
    for drops in [false, true] {
        in_time(move || {
            let (clock, pool, reports) = watched();
            let (release, _) = deaf(&pool);
            let ends = thread::spawn(move || match drops {
                true => drop(pool),
                false => drop(pool.shutdown(Shutdown::Drain)),
            });
            for secs in [2, 4, 8] {
                let next = || clock.next_deadline().map(|next| next.as_nanos());
                until(|| next() == Some(secs * 1_000_000_000));
                clock.advance_to(clock.next_deadline().unwrap());
                let report = reports.recv().unwrap();
                assert_eq!((report.len(), &*report[0].name), (1, "deaf"));
                assert_eq!(report[0].overdue, Duration::from_secs(secs));
            }
            drop(release);
            ends.join().unwrap();
            assert_eq!((clock.timers(), reports.len()), (0, 0));
        });
    }
}

#[test]
fn while_tasks_end_nobody_is_reported() {
    in_time(|| {
        let (clock, pool, reports) = watched();
        let (release, _) = deaf(&pool);
        let (started, has_started) = bounded(2);
        let (step, steps) = bounded::<()>(0);
        let jobs = [0, 1].map(|_| {
            let (started, steps) = (started.clone(), steps.clone());
            let task = move |_: &CancelToken| {
                started.send(()).unwrap();
                Ok(steps.recv()?)
            };
            pool.submit(task).unwrap()
        });
        let shutdown = thread::spawn(move || drop(pool.shutdown(Shutdown::Drain)));
        let due = |secs: u64| {
            let next = || clock.next_deadline().map(|next| next.as_nanos());
            until(|| next() == Some(secs * 1_000_000_000));
        };
        has_started.recv().unwrap();
        due(2);
        step.send(()).unwrap();
        has_started.recv().unwrap(); // so the one before has been counted
        clock.advance(2 * SECOND);
        due(4);
        assert!(reports.is_empty());
        clock.advance(2 * SECOND);
        assert_eq!(reports.recv().unwrap().len(), 2);
        step.send(()).unwrap();
        assert!(jobs.into_iter().all(|job| job.join().is_ok()));
        drop(release);
        shutdown.join().unwrap();
    });
}

#[test]
fn without_a_handler_the_stuck_are_printed_to_standard_error() {
    let name = "without_a_handler_the_stuck_are_printed_to_standard_error";
    if !is_child() {
        let output = child_passes(name, "");
        let said = String::from_utf8(output.stderr).unwrap();
        let line = said.lines().find(|line| line.starts_with("cleanbreak: "));
        let line = line.unwrap_or_else(|| panic!("{said}"));
        let begins = "cleanbreak: task \"deaf\" has held up the shutdown of its pool for 3.0 s; \
                      submitted at tests/pool_shutdown.rs:";
        assert!(line.starts_with(begins), "{line}");
        assert!(line.contains("to read a broken disk at"), "{line}");
        return;
    }
    let clock = Clock::manual();
    let builder = Pool::builder().workers(1).straggler_after(3 * SECOND);
    let pool = builder.build(&CancelToken::with_clock(&clock)).unwrap();
    let (release, _) = deaf(&pool);
    let drops = thread::spawn(move || drop(pool));
    clock.await_timers(1);
    clock.advance(3 * SECOND);
    clock.await_timers(1); // for the next: the first has been printed
    drop(release);
    drops.join().unwrap();
}
