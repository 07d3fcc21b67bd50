//! What a breaker costs on each call, beside recloser and failsafe.
//!
//! Each contender makes the same calls, asserts what each returns and, at the end, that it is in the
//! state that it should be in. Settings are as near to each other as they get: a window of the last
//! 100 calls that trips at one half. failsafe has none by count; it is shown with its two policies,
//! failures in a row and a rate over a time.
#![allow(missing_docs, reason = "criterion's macros")]
#![allow(
    clippy::disallowed_methods,
    reason = "measures time, on threads of its own"
)]

use std::hint::black_box;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use cleanbreak::backoff::Backoff;
use cleanbreak::resilience::breaker::State;
use cleanbreak::{Breaker, CancelToken, Retry, RetryBudget};
use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main};
use failsafe::CircuitBreaker;
use recloser::Recloser;

const HOUR: Duration = Duration::from_secs(3600);

/// One call that goes through: `Some` of what the closure returned.
trait Contender: Sync {
    fn call(&self, answer: Result<u64, ()>) -> Option<Result<u64, ()>>;
}

struct Ours(Breaker, CancelToken);

impl Ours {
    fn new(settings: impl FnOnce() -> Breaker) -> Self {
        Self(settings(), CancelToken::new())
    }
}

impl Contender for Ours {
    #[inline]
    fn call(&self, answer: Result<u64, ()>) -> Option<Result<u64, ()>> {
        let result = self.0.call(&self.1, |_| answer);
        match result {
            Ok(value) => Some(Ok(value)),
            Err(error) => error.into_failed().map(Err),
        }
    }
}

/// No breaker: what the bench itself costs.
struct Alone;

impl Contender for Alone {
    #[inline]
    fn call(&self, answer: Result<u64, ()>) -> Option<Result<u64, ()>> {
        Some(answer)
    }
}

impl Contender for Recloser {
    #[inline]
    fn call(&self, answer: Result<u64, ()>) -> Option<Result<u64, ()>> {
        match Recloser::call(self, || answer) {
            Ok(value) => Some(Ok(value)),
            Err(recloser::Error::Inner(error)) => Some(Err(error)),
            Err(recloser::Error::Rejected) => None,
        }
    }
}

struct Failsafe<C>(C);

impl<C: CircuitBreaker + Sync> Contender for Failsafe<C> {
    #[inline]
    fn call(&self, answer: Result<u64, ()>) -> Option<Result<u64, ()>> {
        match self.0.call(|| answer) {
            Ok(value) => Some(Ok(value)),
            Err(failsafe::Error::Inner(error)) => Some(Err(error)),
            Err(failsafe::Error::Rejected) => None,
        }
    }
}

fn count_window() -> Breaker {
    let builder = Breaker::builder().count_window(100).failure_rate(0.5);
    builder.open_for(HOUR).build().unwrap()
}

fn time_window() -> Breaker {
    let builder = Breaker::builder().time_window(Duration::from_secs(30));
    let builder = builder.failure_rate(0.5).consecutive_failures(5);
    builder.open_for(HOUR).build().unwrap()
}

fn slow_calls() -> Breaker {
    let builder = Breaker::builder().count_window(100).failure_rate(0.5);
    let builder = builder.slow_calls(Duration::from_secs(1), 0.5);
    builder.open_for(HOUR).build().unwrap()
}

fn recloser() -> Recloser {
    let builder = Recloser::custom().closed_len(100).error_rate(0.5);
    builder.open_wait(HOUR).build()
}

fn failsafe_in_a_row() -> Failsafe<impl CircuitBreaker + Sync> {
    let wait = failsafe::backoff::constant(HOUR);
    let policy = failsafe::failure_policy::consecutive_failures(5, wait);
    Failsafe(failsafe::Config::new().failure_policy(policy).build())
}

fn failsafe_rate() -> Failsafe<impl CircuitBreaker + Sync> {
    let wait = failsafe::backoff::constant(HOUR);
    let window = Duration::from_secs(30);
    let policy = failsafe::failure_policy::success_rate_over_time_window(0.5, 20, window, wait);
    Failsafe(failsafe::Config::new().failure_policy(policy).build())
}

/// Every `every`-th call fails; none, if that is zero. Never so many that it opens.
fn make_calls(contender: &impl Contender, calls: u64, every: u64) {
    for n in 1..=calls {
        let answer = match every > 0 && n % every == 0 {
            true => Err(()),
            false => Ok(n),
        };
        assert_eq!(contender.call(black_box(answer)), Some(answer));
    }
}

/// As long as it takes `threads` to make so many calls each.
fn time_calls(contender: &impl Contender, threads: usize, calls: u64, every: u64) -> Duration {
    if threads == 1 {
        let start = Instant::now();
        make_calls(contender, calls, every);
        return start.elapsed();
    }
    let barrier = Barrier::new(threads + 1);
    thread::scope(|s| {
        for _ in 0..threads {
            s.spawn(|| {
                barrier.wait();
                make_calls(contender, calls, every);
                barrier.wait();
            });
        }
        barrier.wait();
        let start = Instant::now();
        barrier.wait();
        start.elapsed()
    })
}

fn bench(
    group: &mut BenchmarkGroup<'_, WallTime>,
    name: &str,
    contender: &impl Contender,
    threads: usize,
    every: u64,
) {
    make_calls(contender, 1000, every);
    group.bench_function(name, |b| {
        b.iter_custom(|calls| time_calls(contender, threads, calls, every));
    });
}

fn closed(c: &mut Criterion) {
    for (threads, every) in [(1, 0), (2, 0), (8, 0), (1, 10), (2, 10), (8, 10)] {
        let case = match every {
            0 => format!("breaker/closed_{threads}_threads"),
            _ => format!("breaker/closed_1_in_{every}_fails_{threads}_threads"),
        };
        let mut group = c.benchmark_group(case);
        group.throughput(Throughput::Elements(threads as u64));
        bench(&mut group, "call_alone", &Alone, threads, every);
        for (name, ours) in [
            ("cleanbreak_count", Ours::new(count_window)),
            ("cleanbreak_time", Ours::new(time_window)),
            ("cleanbreak_count_slow", Ours::new(slow_calls)),
        ] {
            bench(&mut group, name, &ours, threads, every);
            assert_eq!(ours.0.state(), State::Closed);
            assert!(ours.0.snapshot().counts.calls >= 100);
        }
        bench(&mut group, "recloser", &recloser(), threads, every);
        bench(
            &mut group,
            "failsafe_in_a_row",
            &failsafe_in_a_row(),
            threads,
            every,
        );
        bench(
            &mut group,
            "failsafe_rate",
            &failsafe_rate(),
            threads,
            every,
        );
        group.finish();
    }
}

fn rejected(c: &mut Criterion) {
    let mut group = c.benchmark_group("breaker/rejected_when_open");
    let flag = AtomicBool::new(true);
    group.bench_function("atomic_load", |b| {
        b.iter(|| assert!(black_box(&flag).load(Ordering::Acquire)));
    });
    let ours = Ours::new(count_window);
    ours.0.trip();
    group.bench_function("cleanbreak_acquire", |b| {
        b.iter(|| assert!(black_box(&ours.0).acquire().is_err()));
    });
    group.bench_function("cleanbreak", |b| {
        b.iter(|| assert_eq!(black_box(&ours).call(Ok(1)), None));
    });
    ours.0.force_open();
    group.bench_function("cleanbreak_forced", |b| {
        b.iter(|| assert_eq!(black_box(&ours).call(Ok(1)), None));
    });
    let peer = recloser();
    while Contender::call(&peer, Err(())).is_some() {}
    group.bench_function("recloser", |b| {
        b.iter(|| assert_eq!(Contender::call(black_box(&peer), Ok(1)), None));
    });
    let peer = failsafe_in_a_row();
    for _ in 0..5 {
        assert_eq!(peer.call(Err(())), Some(Err(())));
    }
    group.bench_function("failsafe_in_a_row", |b| {
        b.iter(|| assert_eq!(black_box(&peer).call(Ok(1)), None));
    });
    group.finish();
}

/// What a call that succeeds at once pays for being retried, and with a breaker inside.
fn retried(c: &mut Criterion) {
    let mut group = c.benchmark_group("breaker/retry_of_a_success");
    let token = CancelToken::new();
    group.bench_function("call_alone", |b| {
        b.iter(|| assert_eq!(black_box(Ok::<_, ()>(7)), Ok(7)));
    });
    let settings = || Retry::builder().backoff(Backoff::constant(HOUR));
    let retry = settings().build().unwrap();
    group.bench_function("cleanbreak_retry", |b| {
        b.iter(|| {
            assert_eq!(
                retry.call(&token, |_| black_box(Ok::<_, ()>(7))).ok(),
                Some(7)
            )
        });
    });
    let budget = RetryBudget::builder().build().unwrap();
    let retry = settings().budget(&budget).build().unwrap();
    group.bench_function("cleanbreak_retry_budget", |b| {
        b.iter(|| {
            assert_eq!(
                retry.call(&token, |_| black_box(Ok::<_, ()>(7))).ok(),
                Some(7)
            )
        });
    });
    let breaker = count_window();
    let settings = Retry::builder().backoff(Backoff::constant(HOUR));
    let retry = settings.budget(&budget).build().unwrap();
    group.bench_function("cleanbreak_retry_budget_breaker", |b| {
        b.iter(|| {
            let answer = retry.call(&token, |token| {
                breaker.call(token, |_| black_box(Ok::<_, ()>(7)))
            });
            assert_eq!(answer.ok(), Some(7));
        });
    });
    group.finish();
}

criterion_group!(benches, closed, rejected, retried);
criterion_main!(benches);
