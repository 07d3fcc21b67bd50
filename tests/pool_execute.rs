//! Tasks of a pool that nobody waits for: counted, told to stop and given back like the others.

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use cleanbreak::{CancelToken, Clock, Pool, Shutdown};
use crossbeam_channel::bounded;
use support::{in_time, secs};

fn pool(workers: usize, queue: usize) -> Pool {
    let pool = Pool::builder().workers(workers).queue(queue);
    pool.build(&CancelToken::new()).unwrap()
}

#[test]
fn every_one_runs_once_and_is_counted_by_what_became_of_it() {
    in_time(|| {
        let pool = pool(4, 8);
        let ran = Arc::new(AtomicUsize::new(0));
        for n in 0..3000 {
            let ran = ran.clone();
            let task = move |_: &CancelToken| {
                ran.fetch_add(1, Ordering::Relaxed);
                match n % 3 {
                    0 => Ok(()),
                    1 => anyhow::bail!("planted"),
                    _ => std::panic::resume_unwind(Box::new("planted")),
                }
            };
            pool.execute(task).unwrap();
        }
        let report = pool.shutdown(Shutdown::Drain);
        let counts = (report.completed, report.failed, report.panicked);
        assert_eq!(counts, (1000, 1000, 1000));
        assert_eq!(ran.load(Ordering::Relaxed), 3000);
    });
}

#[test]
fn a_refused_one_comes_back_unrun_whatever_the_reason() {
    let token = CancelToken::new();
    let pool = Pool::builder().workers(0).queue(1).build(&token).unwrap();
    let ticket = Arc::new(());
    let task = |ticket: &Arc<()>| {
        let ticket = ticket.clone();
        move |_: &CancelToken| {
            drop(ticket);
            Ok(())
        }
    };
    pool.try_execute(task(&ticket)).unwrap();
    let refused = pool.try_execute(task(&ticket)).unwrap_err();
    assert!(refused.is_full());
    assert_eq!(Arc::strong_count(&ticket), 3);
    refused.into_inner()(&token).unwrap();
    assert_eq!(Arc::strong_count(&ticket), 2);
    token.cancel();
    assert!(pool.execute(task(&ticket)).unwrap_err().is_cancelled());
    assert_eq!(
        Arc::strong_count(&ticket),
        1,
        "what waited was dropped with the cancellation"
    );
    let report = pool.shutdown(Shutdown::Drain);
    assert!(pool.execute(task(&ticket)).unwrap_err().is_closed());
    assert_eq!((report.cancelled, report.submitted()), (1, 1));
}

#[test]
fn abandoned_ones_are_handed_back_and_can_be_run_elsewhere() {
    let pool = pool(0, 8);
    let ran = Arc::new(AtomicUsize::new(0));
    for fails in [false, true] {
        let ran = ran.clone();
        let named = pool.task().name("handed back");
        let task = move |token: &CancelToken| {
            ran.fetch_add(1, Ordering::Relaxed);
            anyhow::ensure!(!fails && !token.is_cancelled(), "planted");
            Ok(())
        };
        named.execute(task).unwrap();
    }
    let mut backlog = pool.shutdown(Shutdown::Abandon).backlog.into_iter();
    let (first, second) = (backlog.next().unwrap(), backlog.next().unwrap());
    assert_eq!(first.name(), "handed back");
    assert!(first.submitted_at().file().ends_with("pool_execute.rs"));
    assert!(first.run(&CancelToken::new()).is_ok());
    let failed = second.run(&CancelToken::new()).unwrap_err();
    assert_eq!(failed.into_failure().unwrap().to_string(), "planted");
    assert_eq!(ran.load(Ordering::Relaxed), 2);
}

#[test]
fn each_has_a_token_with_its_timeout_that_no_other_gets() {
    in_time(|| {
        let clock = Clock::manual();
        let pool = Pool::builder().workers(1);
        let pool = pool.build(&CancelToken::with_clock(&clock)).unwrap();
        let (tx, rx) = bounded(8);
        let tell = tx.clone();
        let timed = pool.task().timeout(secs(3));
        timed
            .execute(move |token| {
                token.wait();
                tell.send(token.kind())?;
                Ok(())
            })
            .unwrap();
        let tell = tx.clone();
        pool.execute(move |token| {
            token.cancel();
            tell.send(token.kind())?;
            Ok(())
        })
        .unwrap();
        pool.execute(move |token| Ok(tx.send(token.kind())?))
            .unwrap();
        clock.await_timers(1);
        clock.advance(secs(3));
        let kinds: Vec<_> = rx.iter().collect();
        use cleanbreak::CancelKind::{Cancelled, DeadlineExceeded};
        assert_eq!(kinds, [Some(DeadlineExceeded), Some(Cancelled), None]);
        // Zero means that it never runs.
        pool.task()
            .timeout(Duration::ZERO)
            .execute(|_| unreachable!())
            .unwrap();
        assert_eq!(pool.shutdown(Shutdown::Drain).cancelled, 1);
    });
}

#[test]
fn an_error_or_a_capture_that_panics_on_drop_costs_no_worker() {
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            std::panic::resume_unwind(Box::new("planted"));
        }
    }
    in_time(|| {
        let pool = Pool::builder().workers(1).errors::<Bomb>();
        let pool = pool.build(&CancelToken::new()).unwrap();
        pool.execute(|_| Err(Bomb)).unwrap();
        let bomb = Bomb;
        pool.execute(move |_| {
            let _bomb = bomb;
            Ok(())
        })
        .unwrap();
        let report = pool.shutdown(Shutdown::Drain);
        assert_eq!(
            (report.failed, report.panicked, report.submitted()),
            (1, 1, 2)
        );
    });
}
