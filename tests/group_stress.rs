//! Everything at once, at random: no closure lost, no count wrong, no thread left (G1–G5).
//!
//! `CLEANBREAK_SEED` repeats the choices of a run, though not its schedule.

mod support;

use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind, panic_any};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::thread;

use cleanbreak::{CancelToken, Group, GroupBuilder, ThreadCache};
use support::{Census, Citizen, in_time, live_named, payload_of, seed};

/// What goes wrong, in a thousand tasks.
#[derive(Clone, Copy, Default)]
struct Mix {
    errors: u32,
    panics: u32,
    breaks: u32,
    cancels: u32,
}

#[derive(Default)]
struct Counts {
    captured: Census,
    results: Census,
    taken_in: AtomicUsize,
    refused: AtomicUsize,
    ran: AtomicUsize,
    errors: AtomicUsize,
    panics: AtomicUsize,
    breaks: AtomicUsize,
    cancels: AtomicUsize,
}

struct Chaos;

const DEPTH: usize = 4;

/// Spawns a task that may spawn more.
fn grow<'scope, 'env: 'scope>(
    group: &'scope Group<'scope, 'env, usize, usize>,
    counts: &'env Counts,
    mix: Mix,
    mut rng: fastrand::Rng,
    depth: usize,
) {
    let (captured, waits) = (counts.captured.citizen(), rng.bool());
    let mut own = rng.fork();
    let task = move |token: &CancelToken| -> Result<Citizen<'env>, usize> {
        let _captured = captured;
        counts.ran.fetch_add(1, SeqCst);
        for _ in 0..own.usize(0..3) {
            if depth > 0 {
                grow(group, counts, mix, own.fork(), depth - 1);
            }
            if own.bool() {
                thread::yield_now();
            }
        }
        strike(group, token, counts, mix, own.u32(0..1000))?;
        Ok(counts.results.citizen())
    };
    let spawned = match waits {
        true => group.spawn(task).ok(),
        false => group.try_spawn(task).ok(),
    };
    match spawned {
        None => drop(counts.refused.fetch_add(1, SeqCst)),
        Some(handle) => {
            counts.taken_in.fetch_add(1, SeqCst);
            // Only the body waits: with a limit a task could wait for one behind itself.
            if depth == DEPTH && rng.bool() {
                handle.join().ok();
            }
        }
    }
}

/// Lets one of the things happen that end a group, or none.
fn strike<'scope>(
    group: &'scope Group<'scope, '_, usize, usize>,
    token: &CancelToken,
    counts: &Counts,
    mix: Mix,
    dice: u32,
) -> Result<(), usize> {
    let errors = mix.errors;
    let panics = errors + mix.panics;
    let breaks = panics + mix.breaks;
    let cancels = breaks + mix.cancels;
    if dice < errors {
        Err(counts.errors.fetch_add(1, SeqCst))
    } else if dice < panics {
        counts.panics.fetch_add(1, SeqCst);
        panic_any(Chaos)
    } else if dice < breaks {
        counts.breaks.fetch_add(1, SeqCst);
        group.break_with(0).ok();
        Ok(())
    } else if dice < cancels {
        counts.cancels.fetch_add(1, SeqCst);
        token.cancel_with("chaos");
        Ok(())
    } else {
        Ok(())
    }
}

fn round(builder: GroupBuilder, mix: Mix, rng: &mut fastrand::Rng) {
    let counts = Counts::default();
    let group = builder.errors::<usize>().breaks::<usize>();
    let (spawns, mut own) = (rng.usize(1..40), rng.fork());
    let run = || {
        group.scope_flow(&CancelToken::new(), |group| {
            for _ in 0..spawns {
                grow(group, &counts, mix, own.fork(), DEPTH);
            }
            Ok(())
        })
    };
    let outcome = catch_unwind(AssertUnwindSafe(run));
    let read = |count: &AtomicUsize| count.load(SeqCst);
    let (ran, taken_in) = (read(&counts.ran), read(&counts.taken_in));
    // Every closure was run or dropped, and every result was dropped.
    assert_eq!((counts.captured.alive(), counts.results.alive()), (0, 0));
    assert_eq!(
        read(&counts.captured.born),
        taken_in + read(&counts.refused)
    );
    assert!(ran <= taken_in);
    let (errors, panics) = (read(&counts.errors), read(&counts.panics));
    let (breaks, cancels) = (read(&counts.breaks), read(&counts.cancels));
    assert_eq!(ran, read(&counts.results.born) + errors + panics);
    match outcome {
        Err(payload) => assert!(payload.is::<Chaos>() && panics > 0),
        Ok(Err(_)) => assert!(errors > 0 && panics == 0),
        Ok(Ok(ControlFlow::Break(_))) => assert!(breaks > 0 && panics == 0),
        Ok(Ok(ControlFlow::Continue(()))) => {
            assert_eq!(errors + panics + breaks, 0);
            assert!(cancels > 0 || ran == taken_in);
        }
    }
}

fn some_mix(rng: &mut fastrand::Rng) -> Mix {
    let mut rate = || if rng.bool() { 0 } else { rng.u32(0..60) };
    Mix {
        errors: rate(),
        panics: rate() / 3,
        breaks: rate(),
        cancels: rate(),
    }
}

#[test]
fn every_closure_is_run_or_dropped_and_no_thread_is_left() {
    let seed = seed();
    in_time(move || {
        std::panic::set_hook(Box::new(|info| {
            // The planned panics only fill the log.
            if !info.payload().is::<Chaos>() {
                eprintln!("{info}");
            }
        }));
        let mut rng = fastrand::Rng::with_seed(seed);
        let cache = ThreadCache::new();
        for n in 0..120 {
            let mut group = GroupBuilder::new().name("stress");
            if rng.bool() {
                group = group.limit(rng.usize(1..5)).backlog(rng.usize(0..8));
            }
            if rng.bool() {
                group = group.cache(&cache);
            }
            let quiet = n % 4 == 0;
            let mix = if quiet {
                Mix::default()
            } else {
                some_mix(&mut rng)
            };
            round(group, mix, &mut rng);
            assert_eq!(live_named("stress"), 0);
            assert_eq!(cache.idle(), cache.threads());
        }
        drop(cache);
        assert_eq!(live_named("cleanbreak cached"), 0);
    });
}

/// The negative control.
#[test]
fn a_closure_that_is_neither_run_nor_dropped_would_be_seen() {
    let payload = payload_of(|| {
        let counts = Counts::default();
        std::mem::forget(counts.captured.citizen());
        assert_eq!(counts.captured.alive(), 0);
    });
    assert!(payload.is::<String>());
}
