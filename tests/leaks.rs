//! The leak check: what it sees, what it leaves to others, and that it does see something.

#![allow(
    clippy::disallowed_methods,
    reason = "neighbours that the library did not start"
)]

mod support;

use std::thread;
use std::time::Duration;

use cleanbreak::leak::{LeakCheck, LeakedThreads, leak_check};
use cleanbreak::{CancelToken, Clock, GroupBuilder, Pool, Shutdown, ThreadCache, Ticker, scope};
use crossbeam_channel::bounded;
use support::{child_passes, in_time, is_child, payload_of, secs};

/// A pool whose one thread is the leak.
fn pool(name: &str) -> Pool {
    let pool = Pool::builder().name(name).workers(1);
    pool.build(&CancelToken::new()).unwrap()
}

fn names(leaked: &LeakedThreads) -> Vec<&str> {
    let threads = leaked.threads().iter();
    threads.map(|thread| thread.name.as_str()).collect()
}

fn found(leaks: LeakCheck) -> LeakedThreads {
    leaks.patience(Duration::ZERO).finish().unwrap_err()
}

#[test]
fn who_cleans_up_passes_by_every_way_of_starting_threads() {
    let _leaks = leak_check();
    scope(&CancelToken::new(), |group| {
        group.spawn(|_| {
            // A grandchild.
            scope(&CancelToken::new(), |inner| {
                inner.spawn(|_| Ok(()))?;
                Ok(())
            })
        })?;
        Ok(())
    })
    .unwrap();
    let cache = ThreadCache::new();
    let builder = GroupBuilder::new().cache(&cache);
    let all = builder.all(
        &CancelToken::new(),
        (0..4).map(|n| move |_: &CancelToken| Ok(n)),
    );
    assert_eq!(all.unwrap(), [0, 1, 2, 3]);
    let clock = Clock::isolated();
    let ticker = Ticker::builder(secs(1)).clock(&clock).start().unwrap();
    let pool = pool("clean");
    pool.submit(|_| Ok(())).unwrap().join().unwrap();
    pool.shutdown(Shutdown::Drain);
    drop(ticker);
}

#[test]
fn a_leak_is_found_with_its_name_its_line_and_what_it_waits_on() {
    in_time(|| {
        let leaks = leak_check();
        let begun = line!() - 1;
        let pool = pool("leaky");
        support::until_waiting("leaky");
        let leaked = found(leaks);
        assert_eq!(names(&leaked), ["leaky"]);
        assert_eq!(leaked.begun_at().line(), begun);
        let text = leaked.to_string();
        assert!(
            text.starts_with(&format!("1 thread leaked since tests/leaks.rs:{begun}:")),
            "{text}"
        );
        assert!(
            text.contains("\"leaky\", spawned at tests/leaks.rs:"),
            "{text}"
        );
        assert!(text.contains("to get a task of a pool"), "{text}");
        drop(pool);
    });
}

#[test]
fn each_kind_of_thread_is_found_where_it_was_asked_for() {
    // A cache made inside belongs to the check, one made outside does not, whoever uses it.
    let outside = ThreadCache::new();
    let leaks = leak_check();
    let inside = ThreadCache::new();
    for cache in [&outside, &inside] {
        let one = [|_: &CancelToken| Ok(())];
        GroupBuilder::new()
            .cache(cache)
            .all(&CancelToken::new(), one)
            .unwrap();
    }
    assert_eq!(names(&found(leaks)), ["cleanbreak cached"]);

    let leaks = leak_check();
    let clock = Clock::isolated();
    let ticker = Ticker::builder(secs(1)).clock(&clock).start().unwrap();
    let _shared = Ticker::new(secs(1)).unwrap();
    assert_eq!(names(&found(leaks)), ["cleanbreak isolated timer"]);
    drop(ticker);
}

#[test]
fn what_a_task_on_somebody_elses_thread_starts_is_found() {
    in_time(|| {
        let workers = pool("somebody else's");
        let leaks = leak_check();
        let started = workers.submit(|_| Ok(pool("started by a task"))).unwrap();
        let started = started.join().unwrap();
        assert_eq!(names(&found(leaks)), ["started by a task"]);
        // And when the check is over, its worker is nobody's again.
        let leaks = leak_check();
        drop(workers.submit(|_| Ok(())).unwrap().join());
        leaks.finish().unwrap();
        drop(started);
    });
}

#[test]
fn neighbours_do_not_see_each_other() {
    in_time(|| {
        let (ready, both) = bounded(0);
        let (release, held) = bounded::<()>(0);
        let neighbour = thread::spawn(move || {
            let leaks = leak_check();
            let pool = pool("next door");
            ready.send(()).unwrap();
            held.recv().unwrap_err();
            let leaked = found(leaks);
            drop(pool);
            leaked
        });
        let leaks = leak_check();
        both.recv().unwrap();
        assert!(support::live_named("next door") == 1);
        leaks.finish().unwrap();
        drop(release);
        assert_eq!(names(&neighbour.join().unwrap()), ["next door"]);
    });
}

#[test]
fn an_inner_check_sees_its_own_and_an_outer_one_both() {
    let outer = leak_check();
    let first = pool("outer");
    let inner = leak_check();
    let second = pool("inner");
    assert_eq!(names(&found(inner)), ["inner"]);
    assert_eq!(names(&found(outer)), ["outer", "inner"]);
    drop((first, second));
    // After the checks, nothing is anybody's.
    let third = pool("after");
    leak_check().finish().unwrap();
    drop(third);
}

#[test]
fn a_thread_on_its_way_out_is_waited_for() {
    in_time(|| {
        let (release, held) = bounded::<()>(0);
        let pool = pool("on its way");
        let leaks = leak_check();
        let leaver = self::pool("leaver");
        let job = leaver.submit(move |_| Ok(held.recv().is_err())).unwrap();
        let helper = thread::spawn(move || {
            drop(release);
            drop(leaver);
        });
        leaks.patience(secs(60)).finish().unwrap();
        helper.join().unwrap();
        drop((job, pool));
    });
}

#[test]
fn the_guard_panics_with_the_report_and_does_not_while_panicking() {
    let mut kept = None;
    let payload = payload_of(|| {
        let _leaks = leak_check().patience(Duration::ZERO);
        kept = Some(pool("kept"));
    });
    let message = payload.downcast_ref::<String>().unwrap();
    assert!(
        message.contains("1 thread leaked") && message.contains("\"kept\""),
        "{message}"
    );
    drop(kept);

    let mut kept = None;
    let payload = payload_of(|| {
        let _leaks = leak_check();
        kept = Some(pool("kept"));
        std::panic::resume_unwind(Box::new("the test's own"));
    });
    assert_eq!(payload.downcast_ref(), Some(&"the test's own"));
    drop(kept);
}

#[test]
fn the_whole_process_is_checked_in_a_process_of_its_own() {
    if !is_child() {
        child_passes("the_whole_process_is_checked_in_a_process_of_its_own", "");
        return;
    }
    let leaks = LeakCheck::process();
    let ticker = Ticker::new(secs(1)).unwrap();
    let pool = thread::spawn(|| pool("from a plain thread"))
        .join()
        .unwrap();
    assert_eq!(
        names(&found(leaks)),
        ["cleanbreak timer", "from a plain thread"]
    );
    drop((ticker, pool));
    LeakCheck::process().finish().unwrap();
}
