//! Limits of a group: places, waiting for one, giving up, and threads that cannot be had (G4).

#![allow(
    clippy::disallowed_methods,
    reason = "threads that are not the library's own look on"
)]
#![allow(clippy::unit_arg, reason = "a task ends with what it does last")]

mod support;

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Barrier, Mutex};
use std::thread;

use anyhow::bail;
use cleanbreak::group::{SpawnError, TrySpawnErrorKind};
use cleanbreak::{CancelToken, Group, GroupBuilder, TaskError, ThreadCache, scope};
use crossbeam_channel::bounded;
use support::{Census, in_time, seed, until_waiting};

/// Keeps count of how many are in at once.
#[derive(Default)]
struct Crowd {
    now: AtomicUsize,
    most: AtomicUsize,
    threads: Mutex<HashSet<thread::ThreadId>>,
}

impl Crowd {
    fn visit(&self, yields: usize) {
        let now = self.now.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(now, Ordering::SeqCst);
        self.threads.lock().unwrap().insert(thread::current().id());
        (0..yields).for_each(|_| thread::yield_now());
        self.now.fetch_sub(1, Ordering::SeqCst);
    }
}

#[test]
fn no_more_tasks_run_at_once_and_on_no_more_threads_than_the_limit() {
    let seed = seed();
    in_time(move || {
        let mut rng = fastrand::Rng::with_seed(seed);
        for limit in 1..=4 {
            let crowd = Crowd::default();
            let group = GroupBuilder::new().limit(limit).backlog(rng.usize(0..20));
            group
                .scope(&CancelToken::new(), |group| {
                    for _ in 0..80 {
                        let (yields, again) = (rng.usize(0..4), rng.bool());
                        let crowd = &crowd;
                        group.spawn(move |_| {
                            crowd.visit(yields);
                            if again {
                                group.spawn(move |_| Ok(crowd.visit(yields)))?;
                            }
                            Ok(())
                        })?;
                    }
                    Ok(())
                })
                .unwrap();
            assert!(crowd.most.into_inner() <= limit);
            assert!(crowd.threads.into_inner().unwrap().len() <= limit);
        }
    });
}

/// The negative control of the test above, and that the limit is reached.
#[test]
fn as_many_tasks_as_the_limit_allows_do_run_at_once() {
    in_time(|| {
        for (limit, most) in [(Some(3), 3), (None, 8)] {
            let mut group = GroupBuilder::new();
            if let Some(limit) = limit {
                group = group.limit(limit);
            }
            let (crowd, all_in) = (Crowd::default(), Barrier::new(most));
            let visits = (0..most).map(|_| {
                |_: &CancelToken| {
                    crowd.now.fetch_add(1, Ordering::SeqCst);
                    all_in.wait();
                    crowd.visit(0);
                    Ok(())
                }
            });
            group.all(&CancelToken::new(), visits).unwrap();
            assert!(crowd.most.into_inner() > most);
            assert_eq!(crowd.threads.into_inner().unwrap().len(), most);
        }
    });
}

#[test]
#[should_panic(expected = "the limit of a group must not be zero")]
fn a_limit_of_zero_is_refused() {
    let _ = GroupBuilder::new().limit(0);
}

#[test]
fn with_a_limit_of_one_tasks_start_in_the_order_of_their_spawns() {
    let order = Mutex::new(Vec::new());
    let tasks = (0..100).map(|n| {
        let order = &order;
        move |_: &CancelToken| Ok(order.lock().unwrap().push(n))
    });
    let group = GroupBuilder::new().limit(1).backlog(3);
    group.all(&CancelToken::new(), tasks).unwrap();
    assert!(order.into_inner().unwrap().into_iter().eq(0..100));
}

/// Runs `body` on a thread of the library with this name, so that its waits can be seen.
fn seen_as<T: Send>(name: &str, body: impl FnOnce(&CancelToken) -> T + Send) -> T {
    let outer = scope(&CancelToken::new(), |outer| {
        let task = outer.spawn_named(name, |token| Ok(body(token)))?;
        Ok(task.join().unwrap())
    });
    outer.unwrap()
}

#[test]
fn without_a_backlog_a_spawn_waits_for_a_thread() {
    in_time(|| {
        let (release, held) = bounded::<()>(0);
        let first_ended = AtomicBool::new(false);
        thread::scope(|s| {
            s.spawn(|| {
                until_waiting("waits for a place");
                assert!(!first_ended.load(Ordering::SeqCst));
                drop(release);
            });
            seen_as("waits for a place", |token| {
                let group = GroupBuilder::new().limit(1).backlog(0);
                group.scope(token, |group| {
                    group.spawn(|_| {
                        held.recv().unwrap_err();
                        first_ended.store(true, Ordering::SeqCst);
                        Ok(())
                    })?;
                    let second = group.spawn(|_| Ok(first_ended.load(Ordering::SeqCst)))?;
                    assert!(second.join().unwrap());
                    Ok(())
                })
            })
            .unwrap();
        });
    });
}

/// A spawn waits for a place that only its own giving up can make; `cancel` is called when it
/// does. The closure that was not spawned must be gone, unrun.
fn gives_up(name: &str, from_inside: bool) -> anyhow::Error {
    let (outer, census) = (CancelToken::new(), Census::default());
    let captured = census.citizen();
    let error = seen_as(name, |_| {
        let group = GroupBuilder::new().limit(1).backlog(0);
        group.scope(&outer, |group| {
            group.spawn(|token| {
                until_waiting(name);
                if from_inside {
                    bail!("from inside");
                }
                outer.cancel_with("from outside");
                token.wait();
                Ok(())
            })?;
            let refused = group.spawn(move |_| -> anyhow::Result<()> {
                let _captured = captured;
                panic!("it must not run")
            });
            let error = refused.unwrap_err();
            assert!(matches!(error, SpawnError::Cancelled(_)), "{error:?}");
            assert_eq!(census.alive(), 0);
            Err::<(), _>(error.into())
        })
    });
    error.unwrap_err()
}

#[test]
fn a_spawn_that_waits_gives_up_when_a_task_fails() {
    let error = in_time(|| gives_up("gives up inside", true));
    assert_eq!(error.to_string(), "from inside");
}

#[test]
fn a_spawn_that_waits_gives_up_when_the_outer_token_is_cancelled() {
    let error = in_time(|| gives_up("gives up outside", false));
    assert!(
        error.to_string().ends_with("cancelled: from outside"),
        "{error}"
    );
}

#[test]
fn tasks_not_started_at_the_cancellation_never_run_and_are_dropped() {
    in_time(|| {
        let (census, ran) = (Census::default(), AtomicUsize::new(0));
        let group = GroupBuilder::new().limit(1).collect_errors();
        let (go, gone) = bounded::<()>(0);
        let result = group.scope(&CancelToken::new(), |group| {
            group.spawn(move |_| Ok(gone.recv().unwrap_err()))?;
            let mut waiting = Vec::new();
            for _ in 0..50 {
                let captured = census.citizen();
                let ran = &ran;
                waiting.push(group.spawn(move |_| {
                    let _captured = captured;
                    ran.fetch_add(1, Ordering::SeqCst);
                    Ok(())
                })?);
            }
            assert_eq!(census.alive(), 50);
            group.token().cancel();
            drop(go);
            for task in waiting {
                assert!(matches!(task.join(), Err(TaskError::NotStarted)));
            }
            let refused = group.try_spawn(|_| Ok(())).unwrap_err();
            assert!(refused.is_cancelled() && !refused.is_full());
            Ok(())
        });
        result.unwrap();
        assert_eq!((ran.into_inner(), census.alive()), (0, 0));
    });
}

#[test]
fn a_task_of_a_full_group_can_spawn_without_deadlock() {
    in_time(|| {
        fn dig<'scope>(
            group: &'scope Group<'scope, '_>,
            dug: &'scope AtomicUsize,
        ) -> anyhow::Result<()> {
            if dug.fetch_add(1, Ordering::SeqCst) < 30 {
                group.spawn(move |_| dig(group, dug))?;
                group.try_spawn(move |_| dig(group, dug)).unwrap();
            }
            Ok(())
        }
        let dug = AtomicUsize::new(0);
        let group = GroupBuilder::new().limit(1).backlog(0);
        let result = group.scope(&CancelToken::new(), |group| {
            group.spawn(|_| dig(group, &dug))?;
            Ok(())
        });
        result.unwrap();
        assert!(dug.into_inner() > 30);
    });
}

#[test]
fn try_spawn_never_waits_and_gives_the_task_back() {
    in_time(|| {
        let group = GroupBuilder::new().limit(1).backlog(1);
        let (release, held) = bounded::<()>(0);
        let result = group.scope(&CancelToken::new(), |group| {
            let hold = move |_: &CancelToken| Ok(held.recv().is_err());
            let first = group.try_spawn(hold).unwrap();

            let second = group.try_spawn(|_| Ok(2)).unwrap();
            let refused = group.try_spawn(|_| Ok(3)).unwrap_err();
            assert!(refused.is_full());
            assert!(matches!(refused.kind(), TrySpawnErrorKind::Full));
            assert_eq!(refused.to_string(), "all threads of the group are busy");
            let third = refused.into_inner();
            drop(release);
            assert!(first.join().unwrap());
            assert_eq!(second.join().unwrap(), 2);
            third(group.token())
        });
        assert_eq!(result.unwrap(), 3);
    });
}

#[test]
fn a_task_that_is_tried_has_its_name_in_thread_lists() {
    in_time(|| {
        let result = scope(&CancelToken::new(), |group| {
            let name = |_: &CancelToken| Ok(std::thread::current().name().map(str::to_owned));
            let task = group.try_spawn_named("tried by name", name).unwrap();
            Ok(task.join()?)
        });
        assert_eq!(result.unwrap().as_deref(), Some("tried by name"));
    });
}

#[test]
fn a_backlog_without_end_is_no_overflow() {
    in_time(|| {
        let group = GroupBuilder::new().limit(1).backlog(usize::MAX);
        let sum = group.all(
            &CancelToken::new(),
            (0..1000_usize).map(|n| move |_: &CancelToken| Ok(n)),
        );
        assert_eq!(sum.unwrap().into_iter().sum::<usize>(), 499_500);
    });
}

/// No machine has so much: 4 EiB.
const ABSURD: usize = 1 << 62;

#[test]
fn a_thread_that_cannot_be_created_is_an_error_and_the_task_comes_back() {
    in_time(|| {
        for stack_size in [ABSURD, usize::MAX, usize::MAX / 2] {
            let group = GroupBuilder::new().name("absurd").stack_size(stack_size);
            let result = group.scope(&CancelToken::new(), |group| {
                let refused = group.try_spawn(|_| Ok("run by the body")).unwrap_err();
                let TrySpawnErrorKind::Thread(error) = refused.kind() else {
                    panic!("{refused:?}")
                };
                assert_eq!(error.thread_name(), "absurd");
                assert!(!group.token().is_cancelled());
                let own = refused.into_inner()(group.token())?;
                let error = group.spawn(|_| Ok(())).unwrap_err();
                assert!(matches!(error, SpawnError::Thread(_)));
                Ok(own)
            });
            assert_eq!(result.unwrap(), "run by the body");
        }
    });
}

#[test]
fn a_name_that_no_thread_can_have_is_an_error_and_the_others_are_joined() {
    in_time(|| {
        let (ended, started) = (AtomicUsize::new(0), Barrier::new(4));
        let result = scope(&CancelToken::new(), |group| {
            for _ in 0..3 {
                group.spawn(|token| {
                    started.wait();
                    token.wait();
                    ended.fetch_add(1, Ordering::SeqCst);
                    Ok(())
                })?;
            }
            started.wait();
            group.spawn_named("with a \0 in it", |_| Ok(()))?;
            Ok(())
        });
        let error = result.unwrap_err();
        assert!(error.downcast_ref::<SpawnError>().is_some());
        let said = format!("{error:#}");
        assert!(said.contains("NUL"), "{said}");
        assert_eq!(ended.into_inner(), 3);
    });
}

/// Several threads spawn into one group in which no thread can be had: whoever is told that its
/// task was taken in relies on a thread that another is about to fail to get.
fn refuses_every_spawn(group: &GroupBuilder) {
    let (census, taken_in) = (Census::default(), AtomicUsize::new(0));
    let result = group.scope(&CancelToken::new(), |group| {
        let start = Barrier::new(4);
        thread::scope(|s| {
            for n in 0..4 {
                let (start, census, taken_in) = (&start, &census, &taken_in);
                s.spawn(move || {
                    start.wait();
                    for _ in 0..20 {
                        let captured = census.citizen();
                        let task = move |_: &CancelToken| Ok(drop(captured));
                        let spawned = match n % 2 {
                            0 => group.spawn(task).is_ok(),
                            _ => group.try_spawn(task).is_ok(),
                        };
                        taken_in.fetch_add(usize::from(spawned), Ordering::SeqCst);
                    }
                });
            }
        });
        Ok(())
    });
    result.unwrap();
    assert_eq!((taken_in.into_inner(), census.alive()), (0, 0));
}

#[test]
fn no_task_is_taken_in_on_the_strength_of_a_thread_that_never_comes() {
    in_time(|| {
        let absurd = GroupBuilder::new().stack_size(ABSURD);
        for limit in [1, 2, 3] {
            for backlog in [0, 1, 1000] {
                refuses_every_spawn(&absurd.clone().limit(limit).backlog(backlog));
            }
        }
        refuses_every_spawn(&absurd);
    });
}

#[test]
fn with_a_limit_the_threads_there_are_do_the_work_of_one_that_does_not_come() {
    in_time(|| {
        let group = GroupBuilder::new().limit(2);
        let (release, held) = bounded::<()>(0);
        let result = group.scope(&CancelToken::new(), |group| {
            let first = group.spawn(move |_| Ok(held.recv().is_err()))?;
            let second = group.spawn_named("cannot \0 be", |_| Ok(2))?;
            drop(release);
            assert!(first.join().unwrap());
            Ok(second.join().unwrap())
        });
        assert_eq!(result.unwrap(), 2);
    });
}

#[test]
fn a_limit_holds_on_the_threads_of_a_cache() {
    in_time(|| {
        let cache = ThreadCache::new();
        let crowd = Crowd::default();
        let group = GroupBuilder::new().limit(2).backlog(0).cache(&cache);
        for _ in 0..20 {
            let visits = (0..10).map(|_| |_: &CancelToken| Ok(crowd.visit(1)));
            group.all(&CancelToken::new(), visits).unwrap();
        }
        assert!(crowd.most.into_inner() <= 2);
    });
}

#[test]
fn what_a_task_captured_that_never_starts_is_dropped_while_others_still_run() {
    in_time(|| {
        // The one thread reads until the last sender goes, and that is with a task that waits for it.
        let (last_sender, rx) = bounded::<()>(0);
        let (started, has_started) = bounded(1);
        let group = GroupBuilder::new().limit(1);
        let result = group.scope(&CancelToken::new(), |group| {
            group.spawn(move |_| {
                started.send(())?;
                rx.iter().for_each(drop);
                Ok(())
            })?;
            has_started.recv()?;
            let waiting = group.spawn(move |_| {
                drop(last_sender);
                Ok(())
            })?;
            group.token().cancel();
            assert!(waiting.join().unwrap_err().is_not_started());
            Ok(())
        });
        assert!(result.is_ok());
    });
}
