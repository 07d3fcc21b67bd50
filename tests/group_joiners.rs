//! Lists of tasks and breaks with a value (G5).

#![allow(
    clippy::disallowed_methods,
    reason = "threads that are not the library's own look on"
)]
#![allow(clippy::unit_arg, reason = "a task ends with what it does last")]

mod support;

use std::ops::ControlFlow::{Break, Continue};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Barrier, Mutex};
use std::thread;

use anyhow::{anyhow, bail};
use cleanbreak::group::SpawnError;
use cleanbreak::{CancelToken, GroupBuilder, TaskError};
use support::{Census, in_time, payload_of, seed};

/// What one task of a list does.
#[derive(Clone, Copy, Debug)]
enum Does {
    Succeed(u32),
    Fail(&'static str),
    Panic(&'static str),
    /// Waits until it is told to stop, and says so.
    Wait,
}
use Does::{Fail, Panic, Succeed, Wait};

fn tasks(
    list: &[Does],
) -> impl Iterator<Item = impl FnOnce(&CancelToken) -> anyhow::Result<u32> + Send> {
    list.iter().map(|&does| {
        move |token: &CancelToken| match does {
            Succeed(value) => Ok(value),
            Fail(message) => Err(anyhow!(message)),
            Panic(message) => std::panic::panic_any(message),
            Wait => {
                token.wait();
                bail!("told")
            }
        }
    })
}

fn group() -> GroupBuilder {
    GroupBuilder::new()
}

/// A list of tasks and what comes of it.
type Case<T, E> = (&'static [Does], Result<T, E>);

#[test]
fn all_gives_every_result_or_the_first_error() {
    let cases: &[Case<&[u32], &str>] = &[
        (&[], Ok(&[])),
        (&[Succeed(1)], Ok(&[1])),
        (&[Succeed(3), Succeed(1), Succeed(2)], Ok(&[3, 1, 2])),
        (&[Succeed(1), Fail("x")], Err("x")),
        (&[Wait, Fail("x"), Wait], Err("x")),
        (&[Wait, Wait, Wait, Fail("last")], Err("last")),
    ];
    for (list, expected) in cases {
        let result = group().all(&CancelToken::new(), tasks(list));
        match expected {
            Ok(values) => assert_eq!(result.unwrap(), *values, "{list:?}"),
            Err(message) => assert_eq!(result.unwrap_err().to_string(), *message, "{list:?}"),
        }
    }
    let payload = payload_of(|| group().all(&CancelToken::new(), tasks(&[Wait, Panic("p")])));
    assert_eq!(*payload.downcast::<&str>().unwrap(), "p");
}

#[test]
fn first_success_gives_one_result_or_every_error_in_order() {
    let cases: &[Case<u32, &[&str]>] = &[
        (&[], Err(&[])),
        (&[Succeed(1)], Ok(1)),
        (&[Fail("a"), Succeed(2), Wait], Ok(2)),
        (&[Wait, Wait, Succeed(3)], Ok(3)),
        (&[Fail("a"), Fail("b"), Fail("c")], Err(&["a", "b", "c"])),
    ];
    for (list, expected) in cases {
        let result = group().first_success(&CancelToken::new(), tasks(list));
        match expected {
            Ok(value) => assert_eq!(result.unwrap(), *value, "{list:?}"),
            Err(messages) => {
                let errors = result.unwrap_err();
                let said: Vec<_> = errors.iter().map(ToString::to_string).collect();
                assert_eq!(said, *messages, "{list:?}");
            }
        }
    }
    let list = [Fail("a"), Panic("p"), Wait];
    let payload = payload_of(|| group().first_success(&CancelToken::new(), tasks(&list)));
    assert_eq!(*payload.downcast::<&str>().unwrap(), "p");
}

#[test]
fn collect_gives_every_outcome_in_order_and_stops_nobody() {
    let none = group().collect(&CancelToken::new(), tasks(&[]));
    assert!(none.is_empty());
    let list = [Fail("a"), Succeed(1), Panic("p"), Succeed(2), Fail("b")];
    for limit in 1..4 {
        let outcomes = group()
            .limit(limit)
            .collect(&CancelToken::new(), tasks(&list));
        let said: Vec<_> = outcomes
            .iter()
            .map(|outcome| match outcome {
                Ok(value) => value.to_string(),
                Err(error) => error.to_string(),
            })
            .collect();
        assert_eq!(said, ["a", "1", "the task panicked: p", "2", "b"]);
    }
}

#[test]
fn a_list_on_a_cancelled_token_starts_nothing_and_says_why() {
    let token = CancelToken::new();
    token.cancel_with("too late");
    let list = [Panic("it must not run"), Panic("nor this")];
    let all = group().all(&token, tasks(&list)).unwrap_err();
    assert!(matches!(all.downcast_ref(), Some(SpawnError::Cancelled(_))));
    assert!(all.to_string().ends_with("too late"));
    let first = group().first_success(&token, tasks(&list)).unwrap_err();
    assert_eq!(first.len(), 2);
    assert!(matches!(
        first[1].downcast_ref(),
        Some(SpawnError::Cancelled(_))
    ));
    let outcomes = group().collect(&token, tasks(&list));
    let not_started =
        |outcome: &Result<u32, TaskError<_>>| matches!(outcome, Err(TaskError::NotStarted));
    assert!(outcomes.len() == 2 && outcomes.iter().all(not_started));
}

#[test]
fn results_come_in_the_order_of_submission_whatever_the_order_of_ends() {
    let seed = seed();
    in_time(move || {
        let mut rng = fastrand::Rng::with_seed(seed);
        for _ in 0..30 {
            let (count, limit) = (rng.usize(1..40), rng.usize(1..6));
            let tasks: Vec<_> = (0..count)
                .map(|n| {
                    let yields = rng.usize(0..6);
                    move |_: &CancelToken| {
                        (0..yields).for_each(|_| thread::yield_now());
                        Ok(n)
                    }
                })
                .collect();
            let all = group().limit(limit).all(&CancelToken::new(), tasks.clone());
            assert!(all.unwrap().into_iter().eq(0..count));
            let outcomes = group().limit(limit).collect(&CancelToken::new(), tasks);
            assert!(outcomes.into_iter().map(Result::unwrap).eq(0..count));
        }
    });
}

#[test]
fn all_stops_starting_tasks_of_its_list_when_one_fails() {
    in_time(|| {
        let (census, ran) = (Census::default(), AtomicUsize::new(0));
        let endless = (0..).map(|n| {
            let (captured, ran) = (census.citizen(), &ran);
            move |_: &CancelToken| {
                let _captured = captured;
                ran.fetch_add(1, Ordering::SeqCst);
                if n == 10 { bail!("enough") } else { Ok(()) }
            }
        });
        let error = group()
            .limit(2)
            .backlog(4)
            .all(&CancelToken::new(), endless);
        assert_eq!(error.unwrap_err().to_string(), "enough");
        assert_eq!(census.alive(), 0);
        // All eleven, but for one that the other thread may have had in hand.
        assert!(ran.into_inner() >= 10);
    });
}

#[test]
fn a_late_success_is_dropped_and_not_returned() {
    in_time(|| {
        let census = Census::default();
        for _ in 0..50 {
            let all_in = Barrier::new(4);
            let tasks = (0..4).map(|_| {
                |_: &CancelToken| {
                    all_in.wait();
                    Ok(census.citizen())
                }
            });
            let winner = group().first_success(&CancelToken::new(), tasks);
            assert!(winner.is_ok());
            assert_eq!(census.alive(), 1);
        }
        assert_eq!(census.alive(), 0);
    });
}

#[test]
fn a_break_crosses_threads_and_carries_its_value_out() {
    in_time(|| {
        let group = GroupBuilder::new().name("search").breaks::<Vec<String>>();
        let (cause, started) = (Mutex::new(None), Barrier::new(2));
        let flow = group.scope_flow(&CancelToken::new(), |group| {
            group.spawn(|token| {
                started.wait();
                token.wait();
                *cause.lock().unwrap() = token.cause();
                Ok(token.check()?) // told to stop: not an error of the group
            })?;
            group.spawn(|_| {
                started.wait();
                group.break_with(vec!["found".to_owned()]).unwrap();
                Ok(())
            })?;
            Ok("the body's value")
        });
        assert_eq!(flow.unwrap(), Break(vec!["found".to_owned()]));
        let cause = cause.into_inner().unwrap().unwrap().to_string();
        assert!(cause.starts_with("group \"search\" broken at "), "{cause}");
        assert!(cause.contains(file!()), "{cause}");
    });
}

#[test]
fn without_a_break_the_bodys_value_comes_out() {
    let flow = GroupBuilder::new().breaks::<()>();
    let flow = flow.scope_flow(&CancelToken::new(), |_| Ok(5));
    assert_eq!(flow.unwrap(), Continue(5));
}

#[test]
fn the_body_can_break_its_own_group() {
    let flow = GroupBuilder::new().breaks::<u32>();
    let flow = flow.scope_flow(&CancelToken::new(), |group| {
        group.spawn(|token| Ok(token.wait()))?;
        group.break_with(1).unwrap();
        Ok(())
    });
    assert_eq!(flow.unwrap(), Break(1));
}

#[test]
fn of_a_break_and_an_error_the_first_wins_and_the_late_break_comes_back() {
    in_time(|| {
        let group = GroupBuilder::new().breaks::<u32>();
        let broken_first = group.scope_flow(&CancelToken::new(), |group| {
            group.break_with(1).unwrap();
            assert_eq!(group.break_with(2), Err(2));
            Err::<(), _>(anyhow!("too late"))
        });
        assert_eq!(broken_first.unwrap(), Break(1));
        let failed_first = group.scope_flow(&CancelToken::new(), |group| {
            let failing = group.spawn(|_| -> anyhow::Result<()> { bail!("first") })?;
            assert!(failing.join().is_err());
            assert_eq!(group.break_with(3), Err(3));
            Ok(())
        });
        assert_eq!(failed_first.unwrap_err().to_string(), "first");
    });
}

#[test]
fn racing_breaks_and_errors_have_exactly_one_winner() {
    let seed = seed();
    in_time(move || {
        let mut rng = fastrand::Rng::with_seed(seed);
        for _ in 0..80 {
            let breaks: Vec<_> = (0..rng.usize(1..7)).map(|_| rng.bool()).collect();
            let (start, won) = (Barrier::new(breaks.len()), AtomicUsize::new(0));
            let group = GroupBuilder::new().errors::<usize>().breaks::<usize>();
            let flow = group.scope_flow(&CancelToken::new(), |group| {
                for (n, breaks) in breaks.iter().enumerate() {
                    let (start, won) = (&start, &won);
                    let task = move |_: &CancelToken| {
                        start.wait();
                        if !breaks {
                            return Err(n);
                        }
                        match group.break_with(n) {
                            Ok(()) => drop(won.fetch_add(1, Ordering::SeqCst)),
                            Err(value) => assert_eq!(value, n),
                        }
                        Ok(())
                    };
                    group.spawn(task).unwrap();
                }
                Ok(())
            });
            let (winner, by_break) = match flow {
                Ok(Break(n)) => (n, true),
                Ok(Continue(())) => panic!("somebody was first"),
                Err(n) => (n, false),
            };
            assert_eq!(breaks[winner], by_break);
            assert_eq!(won.into_inner(), usize::from(by_break));
        }
    });
}
