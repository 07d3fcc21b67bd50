//! The thread cache: warm threads that their owner sees and joins.

#![allow(
    clippy::disallowed_methods,
    reason = "threads that are not the library's own look on"
)]

mod support;

use std::cell::Cell;
use std::collections::HashSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Barrier, Mutex};
use std::thread::{self, ThreadId};

use anyhow::bail;
use cleanbreak::group::SpawnError;
use cleanbreak::{CancelToken, GroupBuilder, ThreadCache};
use crossbeam_channel::bounded;
use support::{in_time, payload_of, threads_named, until};

fn on(cache: &ThreadCache) -> GroupBuilder {
    GroupBuilder::new().cache(cache)
}

/// Runs as many tasks as the barrier wants, at the same time, and returns their threads.
fn meet(group: &GroupBuilder, size: usize) -> HashSet<ThreadId> {
    let (all_in, ids) = (Barrier::new(size), Mutex::new(HashSet::new()));
    let tasks = (0..size).map(|_| {
        |_: &CancelToken| {
            all_in.wait();
            ids.lock().unwrap().insert(thread::current().id());
            Ok(())
        }
    });
    group.all(&CancelToken::new(), tasks).unwrap();
    let ids = ids.into_inner().unwrap();
    assert_eq!(ids.len(), size);
    ids
}

#[test]
fn its_threads_serve_one_group_after_the_other() {
    in_time(|| {
        let cache = ThreadCache::new();
        assert_eq!(cache.threads(), 0);
        let first = meet(&on(&cache), 4);
        for size in [4, 1, 3, 4, 2].into_iter().cycle().take(300) {
            assert!(meet(&on(&cache), size).is_subset(&first));
            assert_eq!(cache.threads(), 4);
            assert_eq!(cache.idle(), 4);
        }
    });
}

#[test]
fn every_task_of_a_group_without_a_limit_has_a_thread_of_its_own() {
    in_time(|| {
        for _ in 0..100 {
            meet(&GroupBuilder::new(), 6);
        }
        for _ in 0..30 {
            let cache = ThreadCache::new();
            for size in 1..=6 {
                meet(&on(&cache), size);
            }
        }
    });
}

/// Groups whose tasks are done only when all are in, started at the same time on an empty cache:
/// any thread that two of them rely on is a deadlock.
#[test]
fn concurrent_groups_do_not_take_each_others_threads() {
    in_time(|| {
        for _ in 0..150 {
            let cache = ThreadCache::new();
            let start = Barrier::new(4);
            thread::scope(|s| {
                for size in 1..=4 {
                    let (cache, start) = (&cache, &start);
                    s.spawn(move || {
                        start.wait();
                        meet(&on(cache), size);
                        meet(&on(cache), size);
                    });
                }
            });
            assert!(cache.threads() <= 1 + 2 + 3 + 4);
            assert_eq!(cache.idle(), cache.threads());
        }
    });
}

thread_local! {
    static LEFT: Cell<Option<Leaving>> = const { Cell::new(None) };
}

/// Says long after its thread has ended that it is gone.
struct Leaving(&'static AtomicUsize);

impl Drop for Leaving {
    fn drop(&mut self) {
        (0..500).for_each(|_| thread::yield_now());
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

#[test]
fn dropping_it_joins_every_thread() {
    static GONE: AtomicUsize = AtomicUsize::new(0);
    in_time(|| {
        let cache = ThreadCache::new();
        let all_in = Barrier::new(5);
        let tasks = (0..5).map(|_| {
            |_: &CancelToken| {
                LEFT.set(Some(Leaving(&GONE)));
                Ok(drop(all_in.wait()))
            }
        });
        on(&cache).all(&CancelToken::new(), tasks).unwrap();
        assert_eq!(GONE.load(Ordering::SeqCst), 0); // warm
        until(|| threads_named("cleanbreak cach") >= 5);
        drop(cache);
        assert_eq!(GONE.load(Ordering::SeqCst), 5);
    });
}

#[test]
fn a_panic_costs_no_thread() {
    in_time(|| {
        let cache = ThreadCache::new();
        let first = meet(&on(&cache), 3);
        for _ in 0..20 {
            let payload = payload_of(|| {
                on(&cache).scope(&CancelToken::new(), |group| {
                    for _ in 0..3 {
                        group.spawn(|_| -> anyhow::Result<()> { panic!("bad") })?;
                    }
                    Ok(())
                })
            });
            assert!(payload.is::<&str>());
        }
        assert_eq!((cache.threads(), cache.idle()), (3, 3));
        assert_eq!(meet(&on(&cache), 3), first);
    });
}

#[test]
fn an_error_costs_no_thread() {
    in_time(|| {
        let cache = ThreadCache::new();
        for _ in 0..20 {
            let group = on(&cache).limit(2);
            let result = group.all(
                &CancelToken::new(),
                (0..9).map(|n| move |_: &CancelToken| if n == 4 { bail!("four") } else { Ok(n) }),
            );
            assert_eq!(result.unwrap_err().to_string(), "four");
        }
        assert_eq!(cache.idle(), cache.threads());
        assert!(cache.threads() <= 2);
    });
}

#[test]
fn dropped_early_it_lends_no_more_and_waits_for_what_runs() {
    in_time(|| {
        let cache = ThreadCache::new();
        let group = on(&cache);
        let ended = AtomicUsize::new(0);
        let (dropping, dropped) = bounded::<()>(0);
        let result = group.scope(&CancelToken::new(), |group| {
            group.spawn(|_| {
                dropped.recv().unwrap_err();
                (0..300).for_each(|_| thread::yield_now());
                ended.fetch_add(1, Ordering::SeqCst);
                Ok(())
            })?;
            drop(dropping);
            drop(cache);
            assert_eq!(ended.load(Ordering::SeqCst), 1);
            let refused = group.spawn(|_| Ok(())).unwrap_err();
            assert!(matches!(refused, SpawnError::Thread(_)));
            Ok(())
        });
        result.unwrap();
        let late = group.all(&CancelToken::new(), [|_: &CancelToken| Ok(1)]);
        let error = format!("{:#}", late.unwrap_err());
        assert!(
            error.contains("the thread cache has been dropped"),
            "{error}"
        );
    });
}

/// A drop that races with groups that still ask for threads: it refuses them or joins their
/// threads, and loses none.
#[test]
fn a_drop_that_races_with_groups_leaves_no_thread() {
    static CAME: AtomicUsize = AtomicUsize::new(0);
    static GONE: AtomicUsize = AtomicUsize::new(0);
    in_time(|| {
        for _ in 0..100 {
            let cache = ThreadCache::new();
            let groups = [on(&cache), on(&cache)];
            let start = Barrier::new(3);
            thread::scope(|s| {
                for group in &groups {
                    let start = &start;
                    s.spawn(move || {
                        start.wait();
                        let result = group.all(
                            &CancelToken::new(),
                            (0..4).map(|_| {
                                |_: &CancelToken| {
                                    if LEFT.replace(None).is_none() {
                                        CAME.fetch_add(1, Ordering::SeqCst);
                                    }
                                    Ok(LEFT.set(Some(Leaving(&GONE))))
                                }
                            }),
                        );
                        drop(result); // it may have been refused
                    });
                }
                start.wait();
                drop(cache);
            });
            // Each group has ended too, so every thread that came was there to be joined.
            assert!(GONE.load(Ordering::SeqCst) >= CAME.load(Ordering::SeqCst));
        }
    });
}
