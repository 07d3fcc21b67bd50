//! What a group leaves behind in the process: no thread, no memory (G1, G4).

#![allow(
    clippy::disallowed_methods,
    reason = "the negative controls start threads that are not joined"
)]
#![allow(clippy::unit_arg, reason = "a task ends with what it does last")]

mod support;

use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use anyhow::bail;
use cleanbreak::group::SpawnError;
use cleanbreak::{CancelToken, GroupBuilder, scope};
use crossbeam_channel::bounded;
use support::{
    child_passes, count_the_end, in_time, is_child, live_named, status, threads_named, until,
};

#[test]
fn thread_local_destructors_have_run_when_the_call_returns() {
    static ENDED: AtomicUsize = AtomicUsize::new(0);
    in_time(|| {
        for (round, limit) in [None, Some(4)].into_iter().enumerate() {
            let all_in = Barrier::new(4);
            let mut group = GroupBuilder::new();
            if let Some(limit) = limit {
                group = group.limit(limit);
            }
            let tasks = (0..4).map(|_| {
                |_: &CancelToken| {
                    count_the_end(&ENDED, None);
                    all_in.wait();
                    Ok(())
                }
            });
            group.all(&CancelToken::new(), tasks).unwrap();
            assert_eq!(ENDED.load(Ordering::SeqCst), 4 * (round + 1));
        }
    });
}

#[test]
fn thread_local_destructors_have_run_before_an_error_or_a_panic_comes_out() {
    static ENDED: AtomicUsize = AtomicUsize::new(0);
    in_time(|| {
        for panics in [false, true] {
            let before = ENDED.load(Ordering::SeqCst);
            let payload = thread::scope(|s| {
                let result = s.spawn(|| {
                    scope(&CancelToken::new(), |group| {
                        group.spawn(move |_| -> anyhow::Result<()> {
                            count_the_end(&ENDED, None);
                            assert!(!panics);
                            bail!("failed")
                        })?;
                        Ok(())
                    })
                });
                result.join()
            });
            assert_eq!(payload.is_err(), panics);
            assert_eq!(ENDED.load(Ordering::SeqCst), before + 1);
        }
    });
}

/// The negative control: a thread that has said that it is done, and was not joined, is not gone.
#[test]
fn a_thread_that_was_not_joined_would_be_seen_by_these_tests() {
    static ENDED: AtomicUsize = AtomicUsize::new(0);
    let (release, held) = bounded(0);
    let (done, is_done) = bounded(1);
    let leaked = thread::Builder::new().name("gt leaked".into());
    let leaked = leaked.spawn(move || {
        count_the_end(&ENDED, Some(held));
        done.send(()).unwrap();
    });
    is_done.recv().unwrap();
    assert_eq!(ENDED.load(Ordering::SeqCst), 0);
    assert_eq!(threads_named("gt leaked"), 1);
    drop(release);
    leaked.unwrap().join().unwrap();
    assert_eq!(ENDED.load(Ordering::SeqCst), 1);
}

/// Leaves a group in one of many ways, with tasks on threads of this name.
fn leave(way: usize, name: &str) -> anyhow::Result<()> {
    scope(&CancelToken::new(), |group| {
        for _ in 0..3 {
            group.spawn_named(name, |token| Ok(token.wait()))?;
        }
        assert_eq!(live_named(name), 3);
        match way {
            0 => drop(group.token().cancel()),
            1 => bail!("the body failed"),
            2 => panic!("the body panicked"),
            3 => drop(group.spawn_named(name, |_| -> anyhow::Result<()> { bail!("failed") })?),
            _ => drop(group.spawn_named(name, |_| -> anyhow::Result<()> { panic!("panicked") })?),
        }
        Ok(())
    })
}

#[test]
fn no_thread_is_left_by_any_way_out_of_a_group() {
    in_time(|| {
        let name = "gt ways out";
        for way in (0..5).cycle().take(50) {
            let result = thread::scope(|s| s.spawn(|| leave(way, name)).join());
            assert_eq!(result.is_err(), way == 2 || way == 4);
            assert_eq!(live_named(name), 0);
        }
        // The kernel takes a thread out of its list a moment after it was joined.
        until(|| threads_named(name) == 0);
    });
}

/// For a process whose memory is measured: glibc reserves 64 MiB for each arena, of which it makes
/// the more the more threads happen to meet.
const ONE_ARENA: &str = "export MALLOC_ARENA_MAX=1";

/// In a process of its own, because it measures the whole of it.
#[test]
fn ten_thousand_spawns_one_after_the_other_collect_neither_threads_nor_memory() {
    let name = "ten_thousand_spawns_one_after_the_other_collect_neither_threads_nor_memory";
    if !is_child() {
        child_passes(name, ONE_ARENA);
        return;
    }
    in_time(|| {
        scope(&CancelToken::new(), |group| {
            let one_by_one = |count: usize| {
                for n in 0..count {
                    assert_eq!(group.spawn(move |_| Ok(n))?.join().unwrap(), n);
                }
                Ok::<_, anyhow::Error>((status("VmSize"), status("VmRSS")))
            };
            let before = one_by_one(500)?;
            let after = one_by_one(10_000)?;
            // A thread that ended and was not joined keeps its stack of 2 MiB mapped: 20 GB.
            assert!(after.0 < before.0 + 300_000, "{before:?} {after:?} kB");
            assert!(after.1 < before.1 + 8_000, "{before:?} {after:?} kB");
            assert!(status("Threads") < 30);
            assert!(live_named("group") < 20);
            Ok(())
        })
    })
    .unwrap();
}

/// The negative control of the one above.
#[test]
fn threads_that_ended_and_were_not_joined_would_be_seen_in_the_memory() {
    let name = "threads_that_ended_and_were_not_joined_would_be_seen_in_the_memory";
    if !is_child() {
        child_passes(name, ONE_ARENA);
        return;
    }
    let before = status("VmSize");
    let kept: Vec<_> = (0..300).map(|_| thread::spawn(|| {})).collect();
    until(|| kept.iter().all(|thread| thread.is_finished()));
    until(|| status("Threads") < 10);
    assert!(status("VmSize") > before + 300_000);
}

/// With the operating system's own refusal, in a process that may not have the memory.
#[test]
fn when_the_system_refuses_a_thread_the_spawn_fails_and_the_others_are_joined() {
    let name = "when_the_system_refuses_a_thread_the_spawn_fails_and_the_others_are_joined";
    if !is_child() {
        child_passes(name, "ulimit -v 1500000");
        return;
    }
    let (started, ended) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let group = GroupBuilder::new().stack_size(100 << 20);
    let (all_in, are_in) = bounded(0);
    let result = group.scope(&CancelToken::new(), |group| {
        let mut taken_in = 0;
        let error = 'spawn: loop {
            let all_in = all_in.clone();
            let (started, ended) = (&started, &ended);
            let spawned = group.spawn(move |token| {
                started.fetch_add(1, Ordering::SeqCst);
                drop(all_in);
                token.wait();
                ended.fetch_add(1, Ordering::SeqCst);
                Ok(())
            });
            match spawned {
                Ok(_) => taken_in += 1,
                Err(error) => break 'spawn error,
            }
            assert!(taken_in < 20, "there is no limit");
        };
        drop(all_in);
        are_in.recv().map(|(): ()| ()).unwrap_err(); // every task has started
        assert!(taken_in > 0);
        assert!(matches!(error, SpawnError::Thread(_)));
        Err::<(), _>(error.into())
    });
    let error = result.unwrap_err();
    let SpawnError::Thread(refused) = error.downcast_ref().unwrap() else {
        panic!("{error:?}")
    };
    assert!(refused.io_error().raw_os_error().is_some());
    let (started, ended) = (started.into_inner(), ended.into_inner());
    assert_eq!(started, ended);
    assert_eq!(live_named("group"), 0);
}
