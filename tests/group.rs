//! The group: joining and errors (G1, G2).

#![allow(
    clippy::disallowed_methods,
    reason = "threads that are not the library's own look on"
)]
#![allow(clippy::unit_arg, reason = "a task ends with what it does last")]

mod support;

use std::fmt;
use std::panic::panic_any;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Barrier, Mutex};
use std::thread;

use anyhow::{anyhow, bail};
use cleanbreak::group::PanicPayload;
use cleanbreak::{CancelToken, GroupBuilder, TaskError, scope};
use crossbeam_channel::bounded;
use scopeguard::defer;
use support::{in_time, payload_of, seed};

/// Says long after it was let go that it has ended.
fn end_slowly(ended: &AtomicBool) {
    for _ in 0..50 {
        thread::yield_now();
    }
    ended.store(true, Ordering::SeqCst);
}

/// Runs a scope whose body leaves by `leave` while a task runs, and looks whether that had ended.
fn leave_by(leave: fn() -> anyhow::Result<u32>) -> anyhow::Result<u32> {
    let ended = AtomicBool::new(false);
    let started = Barrier::new(2);
    let (left, has_left) = bounded::<()>(0);
    defer!(assert!(ended.load(Ordering::SeqCst), "returned too early"));
    scope(&CancelToken::new(), |group| {
        let _left = left;
        group.spawn(|_| {
            started.wait();
            has_left.recv().unwrap_err();
            end_slowly(&ended);
            Ok(())
        })?;
        started.wait();
        leave()
    })
}

#[test]
fn a_body_that_returns_waits_for_its_tasks() {
    assert_eq!(in_time(|| leave_by(|| Ok(7))).unwrap(), 7);
}

#[test]
fn a_body_that_fails_waits_for_its_tasks() {
    let error = in_time(|| leave_by(|| bail!("early"))).unwrap_err();
    assert_eq!(error.to_string(), "early");
}

#[test]
fn a_body_that_panics_waits_for_its_tasks() {
    let payload = in_time(|| payload_of(|| leave_by(|| panic_any(77_u64))));
    assert_eq!(*payload.downcast::<u64>().unwrap(), 77);
}

#[test]
fn tasks_of_tasks_are_waited_for_after_the_body_has_ended() {
    fn chain<'scope>(
        group: &'scope cleanbreak::Group<'scope, '_>,
        ran: &'scope AtomicUsize,
        left: usize,
    ) -> anyhow::Result<()> {
        ran.fetch_add(1, Ordering::SeqCst);
        if left > 0 {
            group.spawn(move |_| chain(group, ran, left - 1))?;
        }
        Ok(())
    }
    let ran = AtomicUsize::new(0);
    scope(&CancelToken::new(), |group| chain(group, &ran, 100)).unwrap();
    assert_eq!(ran.into_inner(), 101);
}

#[test]
fn tasks_borrow_from_the_callers_stack_and_change_it() {
    let mut words = vec!["a".to_owned(), "b".to_owned()];
    scope(&CancelToken::new(), |group| {
        for word in &mut words {
            group.spawn(|_| {
                word.push('!');
                Ok(())
            })?;
        }
        Ok(())
    })
    .unwrap();
    assert_eq!(words, ["a!", "b!"]);
}

/// An error that says whose it is.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Failure {
    Real(usize),
    Told,
    Refused,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<{self:?}>")
    }
}

impl From<cleanbreak::group::SpawnError> for Failure {
    fn from(_: cleanbreak::group::SpawnError) -> Self {
        Self::Refused
    }
}

#[test]
fn of_racing_failures_the_first_is_result_and_cause_and_never_cancelled() {
    let seed = seed();
    in_time(move || {
        let mut rng = fastrand::Rng::with_seed(seed);
        for _ in 0..60 {
            let failing = rng.usize(1..6);
            let (told, pauses) = (rng.usize(0..4), (0..failing).map(|_| rng.usize(0..8)));
            let pauses: Vec<_> = pauses.collect();
            race(failing, told, &pauses);
        }
    });
}

fn race(failing: usize, told: usize, pauses: &[usize]) {
    let start = Barrier::new(failing + told);
    let causes = Mutex::new(Vec::new());
    let kept = Mutex::new(Vec::new());
    let group = GroupBuilder::new().errors::<Failure>();
    let result = group.scope(&CancelToken::new(), |group| {
        let mut tasks = Vec::new();
        for (n, pauses) in pauses.iter().enumerate() {
            let start = &start;
            tasks.push(group.spawn(move |_| -> Result<(), _> {
                start.wait();
                (0..*pauses).for_each(|_| thread::yield_now());
                Err(Failure::Real(n))
            })?);
        }
        for _ in 0..told {
            tasks.push(group.spawn(|token| {
                start.wait();
                token.wait();
                causes
                    .lock()
                    .unwrap()
                    .push(token.cause().unwrap().to_string());
                Err(Failure::Told)
            })?);
        }
        for task in tasks {
            kept.lock().unwrap().push(task.join().unwrap_err());
        }
        Ok(())
    });
    let Err(Failure::Real(first)) = result else {
        panic!("the result is {result:?}")
    };
    for cause in causes.into_inner().unwrap() {
        assert!(cause.contains(&format!("<Real({first})>")), "{cause}");
    }
    // Every other error is in the handle of its task, and the first is in none.
    for (n, error) in kept.into_inner().unwrap().into_iter().enumerate() {
        match error {
            TaskError::EndedGroup => assert_eq!(n, first),
            TaskError::Failed(Failure::Real(own)) => assert_eq!(own, n),
            TaskError::Failed(Failure::Told) => assert!(n >= failing),
            other => panic!("task {n}: {other:?}"),
        }
    }
}

#[test]
fn an_error_that_comes_after_the_cancellation_is_not_the_result() {
    let error = scope(&CancelToken::new(), |group| {
        group.spawn(|token| -> anyhow::Result<()> {
            token.wait();
            bail!("second")
        })?;
        group.spawn(|_| -> anyhow::Result<()> { bail!("first") })?;
        Ok(())
    });
    assert_eq!(error.unwrap_err().to_string(), "first");
}

#[test]
fn an_error_of_the_body_cancels_the_tasks_and_is_the_result() {
    let (cause, started) = (Mutex::new(None), Barrier::new(2));
    let error = scope(&CancelToken::new(), |group| -> anyhow::Result<()> {
        group.spawn(|token| {
            started.wait();
            token.wait();
            *cause.lock().unwrap() = token.cause();
            Ok(token.check()?)
        })?;
        started.wait();
        bail!("the body's")
    });
    assert_eq!(error.unwrap_err().to_string(), "the body's");
    let cause = cause.into_inner().unwrap().unwrap().to_string();
    assert!(cause.ends_with("failed: the body's"), "{cause}");
}

#[test]
fn a_body_that_fails_because_of_a_tasks_error_does_not_hide_it() {
    let error = scope(&CancelToken::new(), |group| {
        let failing = group.spawn(|_| -> anyhow::Result<()> { bail!("real") })?;
        let error = failing.join().unwrap_err();
        assert!(matches!(error, TaskError::EndedGroup));
        Err::<(), _>(anyhow!("a task failed: {error}"))
    });
    assert_eq!(error.unwrap_err().to_string(), "real");
}

/// An error that cannot even be shown.
#[derive(Debug)]
struct Unspeakable;

impl fmt::Display for Unspeakable {
    fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        panic!("unspeakable")
    }
}

#[test]
fn an_error_whose_display_panics_is_still_the_result() {
    in_time(|| {
        let group = GroupBuilder::new().errors::<Unspeakable>();
        let of_task = group.scope(&CancelToken::new(), |group| {
            group.spawn(|_| Err::<(), _>(Unspeakable)).unwrap();
            Ok(())
        });
        assert!(of_task.is_err());
        let of_body: Result<(), _> = group.scope(&CancelToken::new(), |_| Err(Unspeakable));
        assert!(of_body.is_err());
    });
}

#[derive(Debug, PartialEq)]
struct Custom(u32);

#[test]
fn collected_errors_cancel_nobody_and_stay_with_their_tasks() {
    let group = GroupBuilder::new().collect_errors();
    let outcome = group.scope(&CancelToken::new(), |group| {
        let failing = group.spawn(|_| -> anyhow::Result<()> { bail!("kept") })?;
        let error = failing.join().unwrap_err();
        assert!(!group.token().is_cancelled());
        Ok(error.into_failure().unwrap().to_string())
    });
    assert_eq!(outcome.unwrap(), "kept");
    let body: anyhow::Result<()> = group.scope(&CancelToken::new(), |_| bail!("the body's"));
    assert_eq!(body.unwrap_err().to_string(), "the body's");
}

#[test]
fn the_groups_token_is_cancelled_at_the_end_and_its_parent_is_not() {
    let parent = CancelToken::new();
    let of_task = scope(&parent, |group| {
        assert!(!group.token().is_cancelled());
        let task = group.spawn(|token| Ok(token.child()))?;
        Ok(task.join().unwrap())
    });
    let cause = of_task.unwrap().cause().unwrap();
    assert_eq!(cause.to_string(), "the group has ended");
    scope(&parent, |_| -> anyhow::Result<()> {
        bail!("no harm to the parent")
    })
    .unwrap_err();
    assert!(!parent.is_cancelled());
    // Nor does it matter if nothing can cancel the parent.
    let never = scope(&CancelToken::never(), |group| {
        group.spawn(|token| Ok(token.wait()))?;
        Err::<(), _>(anyhow!("still cancelled"))
    });
    assert_eq!(never.unwrap_err().to_string(), "still cancelled");
}

#[test]
fn a_cancellation_from_outside_reaches_tasks_of_nested_groups() {
    let outer = CancelToken::new();
    let error = scope(&outer, |group| {
        group.spawn(|token| {
            scope(token, |inner| {
                inner.spawn(|token| {
                    outer.cancel_with("from outside");
                    token.wait();
                    Ok(token.check()?)
                })?;
                Ok(())
            })
        })?;
        Ok(())
    });
    assert_eq!(error.unwrap_err().to_string(), "cancelled: from outside");
}

#[test]
fn an_error_in_a_nested_group_ends_the_outer_one_only_if_it_is_passed_on() {
    let failing = |token: &CancelToken| {
        scope(token, |inner| {
            inner.spawn(|_| -> anyhow::Result<()> { bail!("inner") })?;
            Ok(())
        })
    };
    let kept = scope(&CancelToken::new(), |group| {
        let task = group.spawn(|token| Ok(failing(token).unwrap_err().to_string()))?;
        let message = task.join().unwrap();
        group.token().check()?;
        Ok(message)
    });
    assert_eq!(kept.unwrap(), "inner");
    let passed_on = scope(&CancelToken::new(), |group| {
        group.spawn(failing)?;
        group.token().wait();
        Ok(())
    });
    assert_eq!(passed_on.unwrap_err().to_string(), "inner");
}

#[test]
fn what_a_handle_says_about_its_task_can_be_shown() {
    let shown = |error: TaskError<&str>| (error.to_string(), format!("{error:?}"));
    let text = |a: &str, b: &str| (a.to_owned(), b.to_owned());
    assert_eq!(shown(TaskError::Failed("x")), text("x", "Failed(\"x\")"));
    assert_eq!(
        shown(TaskError::Panicked(PanicPayload::new(Box::new("boom")))),
        text("the task panicked: boom", "Panicked(\"boom\")")
    );
    assert_eq!(
        shown(TaskError::Panicked(PanicPayload::new(Box::new(Custom(1))))),
        text("the task panicked", "Panicked(\"..\")")
    );
    assert!(TaskError::<&str>::NotStarted.is_not_started());
    scope(&CancelToken::new(), |group| {
        let (tx, rx) = bounded::<()>(0);
        let task = group.spawn(move |_| Ok(rx.recv().is_err()))?;
        assert!(!task.is_finished());
        drop(tx);
        support::until(|| task.is_finished());
        assert!(format!("{task:?}").contains("finished: true"));
        assert!(task.join().unwrap());
        Ok(())
    })
    .unwrap();
}
