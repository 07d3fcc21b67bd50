//! Reports of stragglers, stuck tasks and children, and leaks with stacks, once that was asked for.
//!
//! A binary with one test: it is asked for once in a process, and for good.
#![cfg(all(target_os = "linux", target_arch = "x86_64", not(cleanbreak_portable)))]

mod support;

use std::time::Duration;

use cleanbreak::group::Straggler;
use cleanbreak::leak::leak_check;
use cleanbreak::pool::Stuck;
use cleanbreak::supervise::{ChildInfo, Phase};
use cleanbreak::{CancelToken, ChildSpec, GroupBuilder, Pool, Shutdown, Supervisor, diagnose};
use crossbeam_channel::{Receiver, bounded};
use support::{in_time, until_waiting};

/// Blocks by something that is not its token; a function that a stack must name.
#[inline(never)]
fn deaf(held: &Receiver<()>) -> anyhow::Result<()> {
    let _wait = cleanbreak::threads::waiting_on("be released");
    held.recv().unwrap_err();
    std::hint::black_box(held);
    Ok(())
}

fn straggler() -> Straggler {
    let (release, held) = bounded::<()>(0);
    let (tell, told) = bounded(1);
    let release = parking_lot::Mutex::new(Some(release));
    let group = GroupBuilder::new().straggler_after(Duration::ZERO);
    let group = group.on_straggler(move |stragglers| {
        tell.try_send(stragglers[0].clone()).ok();
        release.lock().take();
    });
    let ran = group.scope(&CancelToken::new(), |group| {
        group.spawn_named("deaf straggler", move |_| deaf(&held))?;
        until_waiting("deaf straggler");
        group.token().cancel();
        Ok(())
    });
    ran.unwrap();
    told.recv().unwrap()
}

fn stuck() -> Stuck {
    let (release, held) = bounded::<()>(0);
    let pool = Pool::builder().name("deaf pool").workers(1);
    let pool = pool.straggler_after(Duration::ZERO);
    let pool = pool.build(&CancelToken::new()).unwrap();
    pool.execute(move |_| deaf(&held)).unwrap();
    until_waiting("deaf pool");
    let report = pool.shutdown(Shutdown::DrainFor(Duration::ZERO));
    drop(release);
    report.stuck[0].clone()
}

/// As the report says of the child that is stuck, and of one that is not.
fn stuck_child() -> (ChildInfo, ChildInfo) {
    let (release, held) = bounded::<()>(0);
    let deaf_one = ChildSpec::new("deaf child", move |cx| {
        cx.ready();
        deaf(&held)
    });
    let good = ChildSpec::new("good child", |cx| {
        cx.ready();
        cx.token().wait();
        Ok(())
    });
    let late = Phase::new("late")
        .child(deaf_one)
        .stop_timeout(Duration::ZERO);
    let supervisor = Supervisor::builder().child(good).phase(late);
    let supervisor = supervisor.start(&CancelToken::new()).unwrap();
    until_waiting("deaf child");
    let good = supervisor.children()[0].clone();
    let report = supervisor.shutdown();
    let stuck = report.stuck().next().unwrap().clone();
    drop(release);
    (stuck, good)
}

fn leak() -> String {
    let leaks = leak_check();
    let pool = Pool::builder().name("leaked").workers(1);
    let pool = pool.build(&CancelToken::new()).unwrap();
    until_waiting("leaked");
    let leaked = leaks.patience(Duration::ZERO).finish().unwrap_err();
    drop(pool);
    leaked.to_string()
}

#[test]
fn reports_show_stacks_once_that_was_asked_for_and_not_before() {
    in_time(|| {
        assert!(straggler().stack.is_none());
        assert!(stuck().stack.is_none());
        assert!(stuck_child().0.stack.is_none());
        assert_eq!(leak().lines().count(), 2);

        diagnose::stacks_in_reports();
        diagnose::stacks_in_reports(); // again does nothing
        let straggler = straggler();
        let stack = straggler.stack.as_ref().unwrap();
        assert!(stack.contains("stack_reports::deaf"), "{stack}");
        assert!(stack.contains("tests/stack_reports.rs:"), "{stack}");
        assert!(
            straggler.to_string().contains("\n    stack_reports::deaf"),
            "{straggler}"
        );
        let stuck = stuck();
        assert!(
            stuck.to_string().contains("\n    stack_reports::deaf"),
            "{stuck}"
        );
        let (child, good) = stuck_child();
        assert!(
            child.to_string().contains("\n    stack_reports::deaf"),
            "{child}"
        );
        assert!(good.waiting.is_some() && good.stack.is_none(), "{good}");
        let leak = leak();
        assert!(leak.contains("await_work"), "{leak}");
    });
}
