//! The threads of a limited group: who is free is known, and who waits for one is told (G4).

#![allow(
    clippy::disallowed_methods,
    reason = "a thread outside looks on while another waits"
)]

mod support;

use std::sync::Barrier;
use std::thread;

use cleanbreak::{CancelToken, GroupBuilder, scope};
use crossbeam_channel::bounded;
use support::{dither, in_time, rng, until_waiting};

#[test]
fn a_spawn_that_waits_gets_the_first_thread_that_is_free_though_others_stay_busy() {
    in_time(|| {
        let ((release, held), (third_ran, third_has_run)) = (bounded::<()>(0), bounded(1));
        thread::scope(|s| {
            s.spawn(|| {
                until_waiting("waits for one of two");
                drop(release);
            });
            let outer = scope(&CancelToken::new(), |outer| {
                let body = |token: &CancelToken| {
                    let group = GroupBuilder::new().limit(2).backlog(0);
                    group.scope(token, |group| {
                        group.spawn(|_| Ok(held.recv().unwrap_err()))?;
                        group.spawn(|_| Ok(third_has_run.recv()?))?;
                        group.spawn(|_| Ok(third_ran.send(())?))?;
                        Ok(())
                    })
                };
                outer.spawn_named("waits for one of two", body)?;
                Ok(())
            });
            outer.unwrap();
        });
    });
}

#[test]
fn threads_that_have_rested_are_counted_as_busy_when_they_work_again() {
    in_time(|| {
        let mut rng = rng("rested threads");
        for round in 0..100 {
            let (group, together) = (GroupBuilder::new().limit(3), &Barrier::new(3));
            let done = group.scope(&CancelToken::new(), |group| {
                for _ in 0..round % 4 {
                    group.spawn(|_| Ok(()))?.join()?;
                    dither(&mut rng, 100_000); // it looks a while, and then sleeps
                }
                // All three at once, or none ends.
                let tasks = (0..3).map(|_| group.spawn(move |_| Ok(together.wait().is_leader())));
                let tasks: Vec<_> = tasks.collect();
                let mut leaders = 0;
                for task in tasks {
                    leaders += usize::from(task?.join()?);
                }
                Ok(leaders)
            });
            assert_eq!(done.unwrap(), 1);
        }
    });
}
