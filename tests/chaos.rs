//! Faults on purpose: whose they are, that a seed replays them, and what they leave alone.
#![allow(
    clippy::disallowed_methods,
    reason = "threads that are not the library's own"
)]

mod support;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use cleanbreak::backoff::Backoff;
use cleanbreak::chaos::{Fault, Injected, Plan, PlanError, fails, is_injected, point};
use cleanbreak::group::SpawnError;
use cleanbreak::pool::JobError;
use cleanbreak::supervise::ChildSpec;
use cleanbreak::{
    CancelToken, Clock, GroupBuilder, Pool, SafeChannel, Shutdown, Supervisor, ThreadCache, Ticker,
    scope,
};
use crossbeam_channel::bounded;
use support::{in_time, millis, payload_of, secs, until};

/// All calls of this name fail in the scope.
fn marked(name: &str) -> Plan {
    Plan::seeded(7).at(name, Fault::Refuse, 1)
}

/// What a group, a pool, a supervised loop, a cached thread and a nested task see.
fn everyone() -> Vec<bool> {
    let token = CancelToken::new();
    let cache = ThreadCache::new();
    let mut seen = scope(&token, |group| {
        let nested = group.spawn(|token| {
            let inner = scope(token, |group| {
                Ok(group.spawn(|_| Ok(fails("mark")))?.join()?)
            })?;
            Ok([fails("mark"), inner])
        })?;
        Ok(nested.join()?.to_vec())
    })
    .unwrap();
    let pool: Pool = Pool::builder().workers(2).build(&token).unwrap();
    seen.push(pool.submit(|_| Ok(fails("mark"))).unwrap().join().unwrap());
    let lent: anyhow::Result<_> = GroupBuilder::new().cache(&cache).scope(&token, |group| {
        Ok(group.spawn(|_| Ok(fails("mark")))?.join()?)
    });
    seen.push(lent.unwrap());
    let (tx, rx) = bounded(1);
    let child = ChildSpec::new("child", move |cx| {
        tx.try_send(fails("mark")).ok();
        cx.ready();
        cx.token().wait();
        Ok(())
    });
    let supervisor = Supervisor::builder().child(child).start(&token).unwrap();
    seen.push(rx.recv().unwrap());
    drop(supervisor);
    seen
}

#[test]
fn a_scope_is_for_its_thread_and_what_that_starts_and_for_nobody_else() {
    in_time(|| {
        let (go, wait) = bounded::<()>(0);
        let neighbour = thread::spawn(move || {
            wait.recv().unwrap();
            let seen = everyone();
            (seen, fails("mark"))
        });
        let before = everyone();
        let chaos = marked("mark").start().unwrap();
        go.send(()).unwrap();
        let inside = everyone();
        let (outside, by_itself) = neighbour.join().unwrap();
        assert_eq!(before, [false; 5]);
        assert_eq!(inside, [true; 5]);
        assert_eq!(outside, [false; 5]);
        assert!(!by_itself);
        assert_eq!(chaos.finish().count("mark", Fault::Refuse), 5);
        assert_eq!(everyone(), [false; 5]);
    });
}

#[test]
fn a_scope_ends_with_its_guard_also_for_threads_that_live_on() {
    in_time(|| {
        let chaos = marked("mark").start().unwrap();
        let pool: Pool = Pool::builder()
            .workers(1)
            .build(&CancelToken::new())
            .unwrap();
        let ask = || pool.submit(|_| Ok(fails("mark"))).unwrap().join().unwrap();
        assert!(ask());
        drop(chaos);
        assert!(!ask());
        // A later scope is not theirs.
        let _other = marked("mark").start().unwrap();
        assert!(fails("mark"));
    });
}

#[test]
fn a_scope_in_a_scope_takes_its_place_for_the_time() {
    let outer = marked("outer").start().unwrap();
    let inner = marked("inner").start().unwrap();
    assert!(fails("inner") && !fails("outer"));
    assert_eq!(inner.finish().total(), 1);
    assert!(fails("outer") && !fails("inner"));
    assert_eq!(outer.finish().total(), 1);
}

/// A service whose every step is decided by the plan alone.
fn steps(plan: Plan) -> Vec<Injected> {
    let chaos = plan.start().unwrap();
    let group = GroupBuilder::new().collect_panics();
    let done: anyhow::Result<()> = group.scope(&CancelToken::new(), |group| {
        for _ in 0..8 {
            group.spawn(|token| {
                let (tx, rx) = SafeChannel::unbounded();
                for n in 0..20 {
                    tx.send(n)?;
                    let _ = fails("step");
                }
                tx.close();
                while rx.recv_or_cancel(token).is_ok() {}
                Ok(())
            })?;
        }
        Ok(())
    });
    done.unwrap();
    let report = chaos.finish();
    assert_eq!(report.injected().len() as u64, report.total());
    report.injected().to_vec()
}

fn stepwise(seed: u64) -> Plan {
    Plan::seeded(seed)
        .everywhere(Fault::Delay, 6)
        .everywhere(Fault::Panic, 4)
        .everywhere(Fault::Refuse, 10)
        // A thread that is refused ends the body.
        .at("threads.spawn", Fault::Refuse, 0)
        .delays_up_to(Duration::from_micros(50))
}

#[test]
fn a_seed_replays_the_same_faults_and_another_seed_has_others() {
    in_time(|| {
        let first = steps(stepwise(7));
        assert!(first.len() > 30, "{first:?}");
        for kind in [Fault::Delay, Fault::Panic, Fault::Refuse] {
            assert!(
                first.iter().any(|injected| injected.fault == kind),
                "{kind}"
            );
        }
        for _ in 0..5 {
            assert_eq!(steps(stepwise(7)), first);
        }
        assert_ne!(steps(stepwise(8)), first);
    });
}

#[test]
fn a_plan_of_faults_that_happened_replays_those_and_no_others() {
    in_time(|| {
        let all = steps(stepwise(7));
        assert_eq!(steps(Plan::replay(&all)), all);
        let some: Vec<_> = all.iter().step_by(3).cloned().collect();
        let again = steps(Plan::replay(&some));
        // A panic that is left out lets its task go on, and meet what it had not come by.
        assert!(again.iter().all(|fault| some.contains(fault)), "{again:?}");
        assert!(!again.is_empty());
        assert_eq!(steps(Plan::replay(&[])), []);
    });
}

/// Which tasks fail, by number.
fn failing(submit: impl Fn(&CancelToken, usize) -> Vec<bool>) -> Vec<bool> {
    let chaos = Plan::seeded(3)
        .at("task", Fault::Refuse, 2)
        .start()
        .unwrap();
    let failing = submit(&CancelToken::new(), 64);
    drop(chaos);
    failing
}

/// However often a full queue was tried in between, and whichever thread served it.
#[test]
fn a_task_has_the_same_faults_whichever_thread_runs_it() {
    in_time(|| {
        let pooled = |workers, queue| {
            failing(|token, tasks| {
                let pool = Pool::builder().workers(workers).queue(queue);
                let pool: Pool = pool.build(token).unwrap();
                let submit = |_| loop {
                    if let Ok(job) = pool.try_submit(|_| Ok(fails("task"))) {
                        return job;
                    }
                    thread::yield_now();
                };
                let jobs: Vec<_> = (0..tasks).map(submit).collect();
                jobs.into_iter().map(|job| job.join().unwrap()).collect()
            })
        };
        let grouped = |limit| {
            failing(|token, tasks| {
                let group = GroupBuilder::new().limit(limit);
                let all = group.scope(token, |group| {
                    let spawn = |_| Ok(group.spawn(|_| Ok(fails("task")))?);
                    let spawned: anyhow::Result<Vec<_>> = (0..tasks).map(spawn).collect();
                    let joined = spawned?.into_iter().map(|task| task.join().unwrap());
                    Ok(joined.collect())
                });
                all.unwrap()
            })
        };
        let first = pooled(1, 1);
        let count = first.iter().filter(|failed| **failed).count();
        assert!((10..54).contains(&count), "{count} of 64");
        for n in 1..4 {
            assert_eq!(pooled(n, n - 1), first);
            assert_eq!(grouped(n), first);
        }
    });
}

#[test]
fn panics_cost_a_pool_neither_worker_nor_task() {
    in_time(|| {
        let chaos = Plan::seeded(7)
            .at("pool.task", Fault::Panic, 2)
            .start()
            .unwrap();
        let pool: Pool = Pool::builder()
            .workers(2)
            .build(&CancelToken::new())
            .unwrap();
        let jobs: Vec<_> = (0..100)
            .map(|n| pool.submit(move |_| Ok(n)).unwrap())
            .collect();
        let mut panicked = 0;
        for (n, job) in jobs.into_iter().enumerate() {
            match job.join() {
                Ok(value) => assert_eq!(value, n),
                Err(JobError::Panicked(payload)) => {
                    assert!(is_injected(&*payload.into_inner()));
                    panicked += 1;
                }
                Err(other) => panic!("{other}"),
            }
        }
        assert_eq!(pool.workers(), 2);
        let report = pool.shutdown(Shutdown::Drain);
        assert_eq!(
            (report.completed, report.panicked),
            (100 - panicked, panicked)
        );
        assert_eq!(
            chaos.finish().count("pool.task", Fault::Panic),
            panicked as u64
        );
        assert!((20..80).contains(&panicked));
    });
}

#[test]
fn a_panic_is_never_injected_into_one() {
    struct Late;
    impl Drop for Late {
        fn drop(&mut self) {
            point("in.drop");
        }
    }
    let chaos = Plan::seeded(1)
        .at("in.drop", Fault::Panic, 1)
        .start()
        .unwrap();
    let payload = payload_of(|| {
        let _late = Late;
        std::panic::resume_unwind(Box::new("first"));
    });
    assert_eq!(*payload.downcast::<&str>().unwrap(), "first");
    let payload = payload_of(|| drop(Late));
    assert!(is_injected(&*payload));
    assert_eq!(chaos.finish().count("in.drop", Fault::Panic), 1);
    assert!(!is_injected(&*payload_of(|| std::panic::resume_unwind(
        Box::new("own")
    ))));
}

#[test]
fn a_hook_that_panics_stops_neither_the_cancel_nor_the_other_hooks_nor_the_librarys_own() {
    in_time(|| {
        static RAN: AtomicUsize = AtomicUsize::new(0);
        let chaos = Plan::seeded(5)
            .at("cancel.hook", Fault::Panic, 2)
            .start()
            .unwrap();
        let token = CancelToken::new();
        let hooks: Vec<_> = (0..50)
            .map(|_| {
                token.on_cancel(|| {
                    RAN.fetch_add(1, Ordering::SeqCst);
                })
            })
            .collect();
        // The pool and the blocked spawn rely on hooks of the library's.
        let pool: Pool = Pool::builder().workers(1).build(&token).unwrap();
        let blocked = pool
            .submit(|token| Ok(token.sleep(Duration::MAX)?))
            .unwrap();
        let queued = pool.submit(|_| Ok(())).unwrap();
        assert!(token.cancel());
        blocked.join().ok();
        assert!(queued.join().unwrap_err().is_cancelled());
        drop(hooks);
        let panics = chaos.finish().count("cancel.hook", Fault::Panic) as usize;
        assert_eq!(RAN.load(Ordering::SeqCst) + panics, 50);
        assert!((5..45).contains(&panics), "{panics}");
    });
}

#[test]
fn a_thread_that_is_refused_is_an_error_like_the_systems() {
    in_time(|| {
        let chaos = Plan::seeded(7)
            .at("threads.spawn", Fault::Refuse, 1)
            .start()
            .unwrap();
        let token = CancelToken::new();
        let refused = scope(&token, |group| Ok(group.spawn(|_| Ok(())).map(drop))).unwrap();
        let Err(SpawnError::Thread(error)) = refused else {
            panic!("{refused:?}")
        };
        assert_eq!(error.io_error().kind(), std::io::ErrorKind::WouldBlock);
        scope(&token, |group| {
            let back = group.try_spawn(|_| Ok(42)).unwrap_err();
            assert_eq!(back.into_inner()(group.token())?, 42);
            Ok(())
        })
        .unwrap();
        assert!(Pool::builder().build(&token).is_err());
        assert!(
            Ticker::builder(millis(1))
                .clock(&Clock::isolated())
                .start()
                .is_err()
        );
        assert!(Clock::isolated().keep_timer().is_err());
        drop(chaos);
        assert!(Pool::builder().build(&token).is_ok());
    });
}

#[test]
fn waits_that_end_early_go_on_waiting() {
    in_time(|| {
        let mut early = 0;
        for seed in 0..10 {
            let chaos = Plan::seeded(seed)
                .everywhere(Fault::Early, 2)
                .start()
                .unwrap();
            let (sum, token) = (AtomicUsize::new(0), CancelToken::new());
            GroupBuilder::new()
                .limit(2)
                .scope(&token, |group| {
                    for n in 0..20 {
                        let sum = &sum;
                        group.spawn(move |token| {
                            token.sleep(Duration::from_micros(100))?;
                            sum.fetch_add(n, Ordering::SeqCst);
                            anyhow::Ok(())
                        })?;
                    }
                    Ok(())
                })
                .unwrap();
            assert_eq!(sum.into_inner(), 190);
            early += chaos.finish().count("sync.wait", Fault::Early);
        }
        assert!(early > 10, "{early}");
    });
}

/// Late by seconds, so that it cannot be an accident that the other one comes first.
#[test]
fn a_late_deadline_is_late_by_itself() {
    in_time(|| {
        let lease = Clock::system().keep_timer().unwrap();
        let plan = Plan::seeded(7).at("clock.timer", Fault::Late, 1);
        let chaos = plan.late_by_up_to(secs(3000)).start().unwrap();
        let late = CancelToken::new().child_timeout(millis(1));
        let (go, done) = bounded(0);
        let neighbour = thread::spawn(move || {
            done.recv().unwrap();
            let token = CancelToken::new().child_timeout(millis(20));
            token.wait();
        });
        until(|| chaos.report().count("clock.timer", Fault::Late) == 1);
        go.send(()).unwrap();
        neighbour.join().unwrap();
        assert!(!late.is_cancelled());
        // Late is not never: who asks sees that it is due.
        assert_eq!(late.remaining(), Some(Duration::ZERO));
        assert!(!late.cancel(), "the deadline came first");
        assert!(late.cancelled().unwrap().is_deadline());
        drop((chaos, lease));
    });
}

#[test]
fn late_ticks_are_on_the_grid_and_none_comes_after_the_stop() {
    in_time(|| {
        let plan = Plan::seeded(7).at("clock.timer", Fault::Late, 2);
        let chaos = plan.late_by_up_to(millis(5)).start().unwrap();
        let ticker = Ticker::new(millis(1)).unwrap();
        let mut last = None;
        for _ in 0..20 {
            let tick = ticker.recv().unwrap();
            let before = last.replace(tick.scheduled);
            if let Some(before) = before {
                let gap = tick.scheduled.duration_since(before);
                assert!(
                    gap >= millis(1) && gap.as_nanos().is_multiple_of(1_000_000),
                    "{gap:?}"
                );
            }
        }
        assert!(ticker.stop());
        assert!(ticker.try_recv().is_err());
        let report = chaos.finish();
        assert!(report.count("clock.timer", Fault::Late) > 3, "{report}");
    });
}

#[test]
fn a_clock_that_leaps_brings_its_deadlines_in_order_and_leaves_other_clocks_alone() {
    in_time(|| {
        let plan = Plan::seeded(7).at("clock.jump", Fault::Jump, 1);
        let chaos = plan.jumps_up_to(secs(100_000)).start().unwrap();
        let (clock, other) = (Clock::isolated(), Clock::system());
        let (before, other_before) = (clock.now(), other.now());
        let (tx, rx) = bounded(2);
        let root = CancelToken::with_clock(&clock);
        let later = root.child_timeout(secs(40));
        let sooner = root.child_timeout(secs(20));
        let hooks = [("later", &later), ("sooner", &sooner)].map(|(name, token)| {
            let tx = tx.clone();
            token.on_cancel(move || tx.send(name).unwrap())
        });
        later.wait();
        sooner.wait();
        assert_eq!(
            [rx.recv().unwrap(), rx.recv().unwrap()],
            ["sooner", "later"]
        );
        assert!(later.cancelled().unwrap().is_deadline());
        assert!(clock.now().duration_since(before) >= secs(40));
        assert!(other.now().duration_since(other_before) < secs(40));
        drop(hooks);
        let report = chaos.finish();
        assert!(report.count("clock.jump", Fault::Jump) > 0, "{report}");
    });
}

#[test]
fn a_cancellation_says_where_it_comes_from() {
    in_time(|| {
        let (stop, other) = (CancelToken::new(), CancelToken::new());
        let plan = Plan::seeded(7).at("group.task", Fault::Cancel, 1);
        let chaos = plan.cancels(&stop).start().unwrap();
        scope(&stop, |group| {
            let task = group.spawn(|token| {
                token.wait(); // it is told before its first line
                Ok(())
            })?;
            Ok(task.join()?)
        })
        .unwrap();
        let cause = stop.cause().unwrap().to_string();
        assert_eq!(cause, "chaos: cancel at group.task, pass 1 of 0/k0");
        assert!(!other.is_cancelled());
        assert_eq!(chaos.finish().total_of(Fault::Cancel), 1);
    });
}

#[test]
fn a_supervised_loop_that_panics_is_started_again() {
    in_time(|| {
        let chaos = Plan::seeded(2)
            .at("supervise.run", Fault::Panic, 2)
            .start()
            .unwrap();
        let (tx, rx) = bounded(100);
        let child = ChildSpec::new("child", move |cx| -> anyhow::Result<()> {
            tx.send(cx.restarts()).ok();
            anyhow::bail!("and again")
        });
        let supervisor = Supervisor::builder()
            .backoff(Backoff::constant(Duration::from_micros(10)))
            .intensity(10_000, secs(600))
            .on_event(|_| {})
            .child(child.ready_at_start())
            .start(&CancelToken::new())
            .unwrap();
        let runs: Vec<_> = rx.iter().take(20).collect();
        drop((supervisor, rx));
        let panics = chaos.finish().count("supervise.run", Fault::Panic);
        assert!(panics > 0 && runs[19] > 19, "{panics} panics, {runs:?}");
    });
}

#[test]
fn a_plan_that_cannot_be_is_refused_with_a_reason() {
    let refused = |plan: Plan| plan.start().map(drop).unwrap_err();
    let unknown = refused(Plan::seeded(1).at("channel.sned", Fault::Delay, 1));
    assert_eq!(unknown, PlanError::Unknown("channel.sned".to_owned()));
    assert_eq!(
        unknown.to_string(),
        "the library has no point \"channel.sned\""
    );
    let unfit = refused(Plan::seeded(1).at("channel.send", Fault::Panic, 1));
    assert_eq!(
        unfit.to_string(),
        "the point \"channel.send\" cannot have the fault \"panic\""
    );
    let unfit = refused(Plan::seeded(1).at("my.point", Fault::Jump, 1));
    assert!(matches!(
        unfit,
        PlanError::Unfit {
            fault: Fault::Jump,
            ..
        }
    ));
    let nothing = refused(Plan::seeded(1).everywhere(Fault::Cancel, 5));
    assert_eq!(nothing, PlanError::NothingToCancel);
    // And what was refused has begun nothing.
    assert!(!fails("my.call"));
    Plan::seeded(1).start().map(drop).unwrap();
}

#[test]
fn own_points_panic_only_where_they_are_named() {
    let plan = Plan::seeded(1)
        .everywhere(Fault::Panic, 1)
        .everywhere(Fault::Refuse, 1);
    let chaos = plan.at("named", Fault::Panic, 1).start().unwrap();
    point("unnamed");
    assert!(catch_unwind(AssertUnwindSafe(|| point("named"))).is_err());
    assert!(fails("unnamed"));
    drop(chaos);
}
