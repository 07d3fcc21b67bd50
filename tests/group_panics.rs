//! Panics in a group: of tasks, of the body, and of what they drop (G3).

#![allow(
    clippy::disallowed_methods,
    reason = "threads that are not the library's own look on"
)]
#![allow(clippy::unit_arg, reason = "a task ends with what it does last")]

mod support;

use std::fmt;
use std::panic::panic_any;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use anyhow::bail;
use cleanbreak::{CancelToken, GroupBuilder, TaskError, scope};
use crossbeam_channel::{bounded, select};
use support::{in_time, payload_of};

#[derive(Debug, PartialEq)]
struct Custom(u32);

/// Says long after it was let go that it has ended.
fn end_slowly(ended: &AtomicBool) {
    for _ in 0..50 {
        thread::yield_now();
    }
    ended.store(true, Ordering::SeqCst);
}

#[test]
fn a_panic_comes_out_with_its_own_payload_after_all_are_joined() {
    let (ended, started) = (AtomicBool::new(false), Barrier::new(2));
    let payload = payload_of(|| {
        scope(&CancelToken::new(), |group| {
            group.spawn(|token| {
                started.wait();
                token.wait(); // the panic cancels the siblings
                end_slowly(&ended);
                Ok(())
            })?;
            group.spawn(|_| -> anyhow::Result<()> {
                started.wait();
                panic_any(Custom(42))
            })?;
            Ok(())
        })
    });
    assert_eq!(*payload.downcast::<Custom>().unwrap(), Custom(42));
    assert!(ended.into_inner());
}

#[test]
fn a_panic_is_not_hidden_by_an_error_or_a_break_that_came_before() {
    let flow = GroupBuilder::new().breaks::<u32>();
    for broken in [false, true] {
        let started = Barrier::new(2);
        let payload = payload_of(|| {
            flow.scope_flow(&CancelToken::new(), |group| {
                group.spawn(|token| -> anyhow::Result<()> {
                    started.wait();
                    token.wait();
                    panic_any(Custom(1))
                })?;
                started.wait();
                if broken {
                    group.break_with(3).unwrap();
                    return Ok(());
                }
                bail!("an error")
            })
        });
        assert!(payload.is::<Custom>());
    }
}

/// A payload that panics when it is dropped.
struct Mine(&'static AtomicUsize);

impl Drop for Mine {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
        panic!("mine");
    }
}

#[test]
fn of_several_panics_the_first_comes_out_and_the_others_do_no_harm() {
    static DROPPED: AtomicUsize = AtomicUsize::new(0);
    let payload = in_time(|| {
        let started = Barrier::new(4);
        payload_of(|| {
            scope(&CancelToken::new(), |group| {
                for _ in 0..3 {
                    group.spawn(|token| -> anyhow::Result<()> {
                        started.wait();
                        token.wait();
                        panic_any(Mine(&DROPPED))
                    })?;
                }
                group.spawn(|_| -> anyhow::Result<()> {
                    started.wait();
                    panic_any(Custom(0))
                })?;
                Ok(())
            })
        })
    });
    assert!(payload.is::<Custom>());
    assert_eq!(DROPPED.load(Ordering::SeqCst), 3);
}

#[test]
fn a_panicking_side_of_a_pair_does_not_hang_the_other() {
    in_time(|| {
        for producer_panics in [false, true] {
            // Both ends outlive the tasks, so that neither side sees the other go.
            let (tx, rx) = bounded::<u32>(0);
            let payload = payload_of(|| {
                scope(&CancelToken::new(), |group| {
                    group.spawn(|token| {
                        assert!(!producer_panics, "producer");
                        'produce: loop {
                            select! {
                                send(tx, 1) -> _ => {}
                                recv(token.done()) -> _ => break 'produce,
                            }
                        }
                        Ok(())
                    })?;
                    group.spawn(|token| {
                        assert!(producer_panics, "consumer");
                        'consume: loop {
                            select! {
                                recv(rx) -> _ => {}
                                recv(token.done()) -> _ => break 'consume,
                            }
                        }
                        Ok(())
                    })?;
                    Ok(())
                })
            });
            let message = payload.downcast_ref::<&str>().unwrap();
            assert_eq!(*message == "producer", producer_panics);
        }
    });
}

#[test]
fn collected_panics_cancel_nobody_and_stay_with_their_tasks() {
    let group = GroupBuilder::new().collect_panics();
    let outcome = group.scope(&CancelToken::new(), |group| {
        let task = group.spawn(|_| -> anyhow::Result<()> { panic_any(Custom(5)) })?;
        let error = task.join().unwrap_err();
        assert!(error.is_panic() && !group.token().is_cancelled());
        match error {
            TaskError::Panicked(payload) => Ok(payload.into_inner().downcast::<Custom>().unwrap()),
            other => panic!("{other:?}"),
        }
    });
    assert_eq!(*outcome.unwrap(), Custom(5));
    let body = payload_of(|| {
        group.scope(&CancelToken::new(), |_| -> anyhow::Result<()> {
            panic_any(Custom(6))
        })
    });
    assert!(body.is::<Custom>());
}

/// A value that panics when it is dropped, unless that would abort.
struct Prickly;

impl Drop for Prickly {
    fn drop(&mut self) {
        assert!(thread::panicking(), "prickly");
    }
}

#[test]
fn a_result_that_panics_on_drop_neither_hangs_nor_fails_the_group() {
    in_time(|| {
        for round in 0..20 {
            let result = scope(&CancelToken::new(), |group| {
                // The handle goes at once: the task's thread drops the result, or this one does
                // when it is later, and that panic is the body's own.
                let task = group.spawn(|_| Ok(Prickly))?;
                std::thread::scope(|s| drop(s.spawn(move || drop(task)).join()));
                Ok(round)
            });
            assert_eq!(result.unwrap(), round);
        }
    });
}

/// A value that panics on every drop.
#[derive(Debug)]
struct Thorny;

impl Drop for Thorny {
    fn drop(&mut self) {
        panic!("thorny");
    }
}

impl fmt::Display for Thorny {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("thorny")
    }
}

/// An abort of the process, if it comes to one, fails every test of this binary.
#[test]
fn a_panic_is_resumed_past_an_error_and_a_value_that_panic_on_drop() {
    in_time(|| {
        let group = GroupBuilder::new().errors::<Thorny>();
        for fails in [false, true] {
            let started = Barrier::new(2);
            let payload = payload_of(|| {
                let result: Result<Thorny, Thorny> = group.scope(&CancelToken::new(), |group| {
                    let task = group.spawn(|token| -> Result<(), Thorny> {
                        started.wait();
                        if fails {
                            token.wait();
                        }
                        panic_any(Custom(9))
                    });
                    started.wait();
                    drop(task);
                    if fails { Err(Thorny) } else { Ok(Thorny) }
                });
                std::mem::forget(result);
            });
            assert!(payload.is::<Custom>());
        }
    });
}

#[test]
fn a_captured_value_that_panics_on_drop_is_a_panic_of_the_task() {
    let payload = in_time(|| {
        payload_of(|| {
            scope(&CancelToken::new(), |group| {
                let prickly = Prickly;
                group.spawn(move |_| {
                    let _prickly = &prickly;
                    Ok(())
                })?;
                Ok(())
            })
        })
    });
    assert_eq!(*payload.downcast::<&str>().unwrap(), "prickly");
}
