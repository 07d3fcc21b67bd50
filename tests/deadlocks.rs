//! Threads that wait for each other are named; and those that only seem to are not.
//!
//! What nothing can end stays behind on threads that nobody joins, until the process ends: so each
//! test looks at the threads of its own names.

mod support;

use std::time::Duration;

use cleanbreak::threads::{Deadlock, deadlocks_after};
use cleanbreak::{CancelToken, GroupBuilder, Job, Pool, Shutdown, Task, scope};
use crossbeam_channel::{bounded, unbounded};
use support::{in_time, until, until_waiting};

/// Those in which a thread of this name is.
fn with(name: &str, patience: Duration) -> Option<Deadlock> {
    let mut found = deadlocks_after(patience).into_iter();
    found.find(|deadlock| {
        let mut all = deadlock.threads.iter().chain(&deadlock.held_up);
        all.any(|stuck| stuck.thread.name == name)
    })
}

fn names(deadlock: &Deadlock) -> Vec<&str> {
    let names = deadlock.threads.iter().map(|it| &*it.thread.name);
    let mut names: Vec<_> = names.collect();
    names.sort_unstable();
    names
}

/// Waits until it is named, and shows it.
fn named(name: &str, patience: Duration) -> Deadlock {
    let mut found = None;
    until(|| {
        found = with(name, patience);
        found.is_some()
    });
    let found = found.unwrap();
    println!("{found}");
    found
}

/// Runs what may never end, on a thread that nobody joins.
#[allow(clippy::disallowed_methods, reason = "it may never end")]
fn left_behind(body: impl FnOnce() + Send + 'static) {
    std::thread::spawn(body);
}

type Handle<'scope> = Task<'scope, (), anyhow::Error>;

/// Two tasks of one group that join each other. `held` joins the first.
fn cross(group: &GroupBuilder, token: &CancelToken, a: &str, b: &str) {
    let crossed = group.scope(token, |group| {
        let (to_a, for_a) = unbounded::<Handle<'_>>();
        let (to_b, for_b) = unbounded::<Handle<'_>>();
        let first = group.spawn_named(a, move |_| {
            for_a.recv()?.join().ok();
            Ok(())
        })?;
        let second = group.spawn_named(b, move |_| {
            for_b.recv()?.join().ok();
            Ok(())
        })?;
        to_b.send(first).ok();
        to_a.send(second).ok();
        Ok(())
    });
    crossed.unwrap();
}

#[test]
fn two_tasks_that_join_each_other_are_a_deadlock_for_certain_and_at_once() {
    in_time(|| {
        left_behind(|| {
            cross(
                &GroupBuilder::new(),
                &CancelToken::new(),
                "cross a",
                "cross b",
            )
        });
        let found = named("cross a", Duration::MAX);
        assert!(found.certain && found.ended_by.is_empty());
        assert_eq!(names(&found), ["cross a", "cross b"]);
        let [a, b] = &found.threads[..] else { panic!() };
        assert_eq!(
            (&a.on[..], &b.on[..]),
            (&[b.thread.id][..], &[a.thread.id][..])
        );
        assert_eq!(a.thread.waiting.unwrap().on, "join a task");
        let text = found.to_string();
        assert!(text.starts_with("deadlock: 2 threads wait for each other\n  thread "));
        assert_eq!(text.matches("tests/deadlocks.rs:").count(), 4, "{text}");
        let line = format!("for thread {}", b.thread.id);
        assert_eq!(text.matches(&line).count(), 1, "{text}");
    });
}

#[test]
fn a_task_that_joins_itself_waits_for_itself_and_who_joins_it_is_held_up() {
    in_time(|| {
        left_behind(|| {
            let joined = scope(&CancelToken::new(), |group| {
                let (give, given) = unbounded::<Handle<'_>>();
                let own = group.spawn_named("own joiner", move |_| {
                    given.recv()?.join().ok();
                    Ok(())
                })?;
                give.send(own).ok();
                Ok(())
            });
            joined.unwrap();
        });
        let found = named("own joiner", Duration::MAX);
        assert!(
            found
                .to_string()
                .starts_with("deadlock: a thread waits for itself\n")
        );

        left_behind(|| {
            let outer = scope(&CancelToken::new(), |group| {
                group.spawn_named("above it", |token| {
                    cross(&GroupBuilder::new(), token, "below a", "below b");
                    Ok(())
                })?;
                Ok(())
            });
            outer.unwrap();
        });
        until_waiting("above it");
        let found = named("above it", Duration::MAX);
        assert_eq!(names(&found), ["below a", "below b"]);
        let [above] = &found.held_up[..] else {
            panic!("{found}")
        };
        assert_eq!(
            above.thread.waiting.unwrap().on,
            "see the tasks of a group end"
        );
        assert!(found.to_string().contains("\n  held up: thread "));
    });
}

#[test]
fn a_task_that_joins_one_in_the_queue_of_its_own_full_pool_is_named_and_how_it_ends() {
    in_time(|| {
        let pool = Pool::builder().name("full pool").workers(2).queue(8);
        let pool = pool.build(&CancelToken::new()).unwrap();
        let outer: Vec<_> = (0..2)
            .map(|_| {
                let (give, given) = bounded::<Job<u8>>(1);
                let outer = pool.submit(move |_| Ok(given.recv()?.join().is_err()));
                (outer.unwrap(), give)
            })
            .collect();
        for (_, give) in &outer {
            // Behind those that will wait for them.
            give.send(pool.submit(|_| Ok(1)).unwrap()).unwrap();
        }
        let found = named("full pool", Duration::MAX);
        assert!(found.certain);
        assert!(
            found
                .threads
                .iter()
                .all(|stuck| stuck.on.len() == 2 && stuck.any)
        );
        let [way] = &found.ended_by[..] else { panic!() };
        assert!(way.contains("cancel of pool \"full pool\""), "{way}");
        let report = pool.shutdown(Shutdown::DrainFor(Duration::ZERO));
        assert_eq!((report.completed, report.abandoned), (2, 2), "{report}");
        assert!(with("full pool", Duration::ZERO).is_none());
        for (outer, _) in outer {
            assert!(outer.join().unwrap());
        }
    });
}

#[test]
fn a_worker_more_is_all_it_takes_for_a_full_pool_to_be_no_deadlock() {
    in_time(|| {
        let pool = Pool::builder().name("roomy pool").workers(2).queue(8);
        let pool = pool.build(&CancelToken::new()).unwrap();
        let (give, given) = bounded::<Job<u8>>(1);
        let (release, held) = bounded::<()>(0);
        let outer = pool.submit(move |_| Ok(given.recv()?.join()?)).unwrap();
        let other = pool.submit(move |_| Ok(held.recv().is_err())).unwrap();
        give.send(pool.submit(|_| Ok(1)).unwrap()).unwrap();
        until_waiting("roomy pool");
        for _ in 0..100 {
            assert!(with("roomy pool", Duration::ZERO).is_none());
        }
        drop(release);
        assert_eq!((outer.join().unwrap(), other.join().unwrap()), (1, true));
    });
}

#[test]
fn a_task_of_a_limited_group_that_joins_one_that_waits_for_its_thread_is_named() {
    in_time(|| {
        let group = GroupBuilder::new().name("narrow").limit(1);
        let joined = group.scope(&CancelToken::new(), |group| {
            let (give, given) = unbounded::<Handle<'_>>();
            let outer = group.spawn_named("narrow task", move |_| {
                given.recv()?.join().ok();
                Ok(())
            })?;
            give.send(group.spawn(|_| Ok(()))?).ok();
            let found = named("narrow task", Duration::MAX);
            assert!(found.certain);
            assert_eq!(found.ended_by, ["a cancel of group \"narrow\""]);
            group.token().cancel();
            outer.join()?;
            Ok(())
        });
        joined.unwrap();
        assert!(with("narrow task", Duration::ZERO).is_none());

        // A deadline comes by itself.
        let by = CancelToken::new().child_timeout(Duration::from_secs(3600));
        let joined = group.scope(&by, |group| {
            let (give, given) = unbounded::<Handle<'_>>();
            group.spawn_named("narrow for a while", move |_| {
                given.recv()?.join().ok();
                Ok(())
            })?;
            give.send(group.spawn(|_| Ok(()))?).ok();
            until_waiting("narrow for a while");
            for _ in 0..100 {
                assert!(with("narrow for a while", Duration::ZERO).is_none());
            }
            group.token().cancel();
            Ok(())
        });
        joined.unwrap();
    });
}

#[test]
fn a_report_of_stragglers_says_that_they_are_in_a_deadlock() {
    in_time(|| {
        let (tell, told) = bounded(1);
        let group = GroupBuilder::new().straggler_after(Duration::ZERO);
        let group = group.on_straggler(move |stragglers| {
            if stragglers.len() == 2 && stragglers.iter().all(|it| it.deadlock.is_some()) {
                tell.try_send(stragglers.to_vec()).ok();
            }
        });
        let token = CancelToken::new();
        let theirs = token.clone();
        left_behind(move || cross(&group, &theirs, "strayed a", "strayed b"));
        until_waiting("strayed a");
        until_waiting("strayed b");
        token.cancel();
        let stragglers = told.recv().unwrap();
        let text = stragglers[0].to_string();
        assert!(
            text.contains("\n    deadlock: 2 threads wait for each other"),
            "{text}"
        );
    });
}

#[test]
fn a_shutdown_names_the_tasks_that_hold_it_up_in_a_deadlock() {
    in_time(|| {
        let pool = Pool::builder().name("crossed pool").workers(2);
        let pool = pool.straggler_after(Duration::ZERO);
        let pool = pool.build(&CancelToken::new()).unwrap();
        let (to_a, for_a) = bounded::<Job<()>>(1);
        let (to_b, for_b) = bounded::<Job<()>>(1);
        let a = pool.submit(move |_| Ok(for_a.recv()?.join()?)).unwrap();
        let b = pool.submit(move |_| Ok(for_b.recv()?.join()?)).unwrap();
        to_a.send(b).unwrap();
        to_b.send(a).unwrap();
        let found = named("crossed pool", Duration::MAX);
        assert!(found.certain && found.ended_by.is_empty(), "{found}");
        let report = pool.shutdown(Shutdown::DrainFor(Duration::ZERO));
        let [a, b] = &report.stuck[..] else {
            panic!("{report}")
        };
        assert!(a.deadlock.is_some() && b.deadlock.is_some());
        assert!(a.to_string().contains("\n    deadlock: 2 threads"), "{a}");
        std::mem::forget(pool); // the drop would wait for ever
    });
}

#[cfg(feature = "diagnose")]
#[test]
fn a_dump_names_the_deadlocks_in_each_of_its_forms() {
    use cleanbreak::diagnose::ThreadDump;

    in_time(|| {
        left_behind(|| {
            cross(
                &GroupBuilder::new(),
                &CancelToken::new(),
                "dumped a",
                "dumped b",
            )
        });
        let found = named("dumped a", Duration::MAX);
        let dump = ThreadDump::builder().stacks(false).capture();
        let has = |it: &&Deadlock| names(it) == ["dumped a", "dumped b"];
        assert!(dump.deadlocks().iter().any(|it| has(&it)));
        for text in [dump.to_string(), dump.grouped().to_string()] {
            assert!(
                text.contains("deadlock: 2 threads wait for each other\n"),
                "{text}"
            );
        }
        let json: serde_json::Value = serde_json::from_str(&dump.to_json()).unwrap();
        let mut deadlocks = json["deadlocks"].as_array().unwrap().iter();
        let shown = deadlocks.find(|it| it["threads"].to_string().contains("dumped a"));
        let shown = shown.unwrap();
        println!("{shown:#}");
        assert_eq!(shown["certain"], true);
        assert_eq!(shown["ended_by"].as_array().unwrap().len(), 0);
        let [a, b] = &shown["threads"].as_array().unwrap()[..] else {
            panic!()
        };
        assert_eq!(a["waits_for"][0], b["library"]["id"]);
        assert_eq!(b["waits_for"][0], a["library"]["id"]);
        assert_eq!(a["library"]["waiting"]["on"], "join a task");
        let tid = a["tid"].as_u64();
        assert_eq!(tid, found.threads[0].thread.tid.map(u64::from));
        let one = ThreadDump::builder()
            .only([tid.map_or(0, |tid| tid as u32)])
            .capture();
        assert!(
            one.deadlocks().is_empty(),
            "a look at one thread is no look at all"
        );
    });
}

#[cfg(all(feature = "diagnose", target_os = "linux", not(cleanbreak_portable)))]
mod through_channels {
    use cleanbreak::SafeChannel;
    use cleanbreak::threads::deadlocks;
    use support::live_named;

    use super::*;

    #[test]
    fn two_full_channels_in_a_ring_are_suspected_after_a_while() {
        in_time(|| {
            let (to_a, a) = SafeChannel::bounded::<u8>(1);
            let (to_b, b) = SafeChannel::bounded::<u8>(1);
            to_a.send(0).unwrap();
            to_b.send(0).unwrap();
            let (close_a, close_b) = (to_a.clone(), to_b.clone());
            let ring = scope(&CancelToken::new(), |group| {
                for (name, tx, rx) in [("ring a", to_b, a), ("ring b", to_a, b)] {
                    group.spawn_named(name, move |_| {
                        rx.recv()?;
                        while tx.send(1).is_ok() {}
                        Ok(())
                    })?;
                }
                let found = named("ring a", Duration::ZERO);
                assert!(!found.certain && found.ended_by.is_empty());
                assert_eq!(names(&found), ["ring a", "ring b"]);
                let text = found.to_string();
                assert!(text.starts_with("suspected deadlock, by who has"), "{text}");
                assert_eq!(text.matches("to send into a channel at tests").count(), 2);
                assert!(with("ring a", Duration::from_secs(1 << 30)).is_none());
                until(|| {
                    deadlocks()
                        .iter()
                        .any(|it| names(it) == ["ring a", "ring b"])
                });
                close_a.close();
                close_b.close();
                Ok(())
            });
            ring.unwrap();
        });
    }

    /// A receiver that has had one value, and who sent it, and joins the receiver then.
    fn joined_receiver(name: &str, looks: impl FnOnce(&cleanbreak::SafeSender<u8>)) {
        let (tx, rx) = SafeChannel::bounded::<u8>(1);
        let (spare, close) = (tx.clone(), rx.clone());
        let joined = scope(&CancelToken::new(), |group| {
            let receiver = group.spawn_named(name, move |_| {
                while rx.recv().is_ok() {}
                Ok(())
            })?;
            group.spawn_named("joiner of a receiver", move |_| {
                tx.send(1)?;
                Ok(receiver.join()?)
            })?;
            until_waiting(name);
            until_waiting("joiner of a receiver");
            looks(&spare);
            drop(spare);
            let found = named(name, Duration::ZERO);
            assert!(!found.certain);
            assert_eq!(names(&found), ["joiner of a receiver", name]);
            close.close();
            Ok(())
        });
        joined.unwrap();
    }

    #[test]
    fn a_receiver_whose_only_sender_joins_it_is_suspected_but_not_while_others_may_send() {
        in_time(|| {
            joined_receiver("receiver", |_unused| {
                for _ in 0..100 {
                    assert!(with("receiver", Duration::ZERO).is_none());
                }
            });
            joined_receiver("receiver of a stranger's", |spare| {
                spare.send(2).unwrap(); // by a thread that the library does not know
                until_waiting("receiver of a stranger's");
                for _ in 0..100 {
                    assert!(with("receiver of a stranger's", Duration::ZERO).is_none());
                }
            });
        });
    }

    #[test]
    fn a_sender_that_was_moved_into_a_thread_that_its_user_started_may_be_used_yet() {
        in_time(|| {
            let (tx, rx) = SafeChannel::bounded::<u8>(1);
            let (release, held) = bounded::<()>(0);
            let joined = scope(&CancelToken::new(), |group| {
                let receiver =
                    group.spawn_named("patient receiver", move |_| Ok((rx.recv()?, rx.recv()?)))?;
                group.spawn_named("starter", move |token| {
                    tx.send(1)?;
                    scope(token, |inner| {
                        inner.spawn_named("heir", move |_| {
                            held.recv().unwrap_err(); // out of sight
                            Ok(tx.send(2)?)
                        })?;
                        receiver.join().ok();
                        Ok(())
                    })
                })?;
                until_waiting("patient receiver");
                until_waiting("starter");
                until(|| live_named("heir") == 1);
                for _ in 0..100 {
                    assert!(with("patient receiver", Duration::ZERO).is_none());
                }
                drop(release);
                Ok(())
            });
            joined.unwrap();
        });
    }

    #[test]
    fn a_wait_that_ends_by_itself_is_none_and_one_that_a_token_ends_says_so() {
        in_time(|| {
            let ends = |name: &'static str, token: &CancelToken, timeout: Duration| {
                let (to_a, a) = SafeChannel::bounded::<u8>(1);
                let (to_b, b) = SafeChannel::bounded::<u8>(1);
                let cancel = token.clone();
                scope(&CancelToken::new(), |group| {
                    for (tx, rx) in [(to_b, a), (to_a, b)] {
                        let token = token.clone();
                        group.spawn_named(name, move |_| {
                            tx.send(1)?;
                            rx.recv()?;
                            match timeout {
                                Duration::MAX => rx.recv_or_cancel(&token).map_err(drop),
                                limited => rx.recv_timeout(limited).map_err(drop),
                            }
                            .ok();
                            drop(tx);
                            Ok(())
                        })?;
                    }
                    if timeout < Duration::MAX || token.deadline().is_some() {
                        until_waiting(name);
                        for _ in 0..200 {
                            assert!(with(name, Duration::ZERO).is_none());
                        }
                    } else {
                        let found = named(name, Duration::ZERO);
                        assert_eq!(found.ended_by, ["a cancel of the token that it waits with"]);
                        assert!(!found.certain);
                    }
                    cancel.cancel();
                    Ok(())
                })
                .unwrap();
            };
            ends("cancellable", &CancelToken::new(), Duration::MAX);
            let by = CancelToken::new().child_timeout(Duration::from_secs(3600));
            ends("has a deadline", &by, Duration::MAX);
            ends("has a timeout", &CancelToken::new(), Duration::from_secs(1));
        });
    }
}
