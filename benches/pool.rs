//! What a pool costs for small tasks, beside threadpool, rayon and rusty_pool.
//!
//! The pools live through the whole bench; each contender runs the same tasks to the end and asserts
//! the answer. Ours is bounded, and gives each task a token, a result and a place in the report;
//! `discard` drops the handles and counts by hand, and `execute` has none: that is what the others do.
#![allow(missing_docs, reason = "criterion's macros")]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use cleanbreak::{CancelToken, Pool};
use criterion::{
    BenchmarkGroup, Criterion, criterion_group, criterion_main, measurement::WallTime,
};
use crossbeam_channel::{Sender, bounded};

const TASKS: usize = 10_000;

/// Counts tasks; the last one says so.
struct Tally {
    count: AtomicUsize,
    of: usize,
    done: Sender<()>,
}

impl Tally {
    fn add(&self) {
        if self.count.fetch_add(1, Ordering::Relaxed) + 1 == self.of {
            self.done.send(()).unwrap();
        }
    }
}

/// Submits `of` tasks with `submit` and waits for the last.
fn run_counted(of: usize, submit: impl Fn(Arc<Tally>)) {
    let (done, all_done) = bounded(1);
    let count = AtomicUsize::new(0);
    let tally = Arc::new(Tally { count, of, done });
    for _ in 0..of {
        submit(tally.clone());
    }
    all_done.recv().unwrap();
    assert_eq!(tally.count.load(Ordering::Relaxed), of);
}

fn run_joined(pool: &Pool, tasks: usize) {
    let jobs: Vec<_> = (0..tasks)
        .map(|n| pool.submit(move |_| Ok(n)).unwrap())
        .collect();
    let sum: usize = jobs.into_iter().map(|job| job.join().unwrap()).sum();
    assert_eq!(sum, tasks * (tasks - 1) / 2);
}

fn ours(queue: usize) -> Pool {
    let pool = Pool::builder().workers(2).queue(queue);
    pool.build(&CancelToken::new()).unwrap()
}

fn rayon_2() -> rayon::ThreadPool {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(2);
    pool.build().unwrap()
}

fn rusty_2() -> rusty_pool::ThreadPool {
    let pool = rusty_pool::Builder::new().core_size(2).max_size(2);
    pool.build()
}

fn peers(group: &mut BenchmarkGroup<'_, WallTime>, tasks: usize) {
    let pool = ours(TASKS);
    group.bench_function("cleanbreak_discard", |b| {
        b.iter(|| {
            run_counted(tasks, |tally| {
                let task = move |_: &CancelToken| {
                    tally.add();
                    Ok(())
                };
                drop(pool.submit(task).unwrap());
            })
        })
    });
    group.bench_function("cleanbreak_execute", |b| {
        b.iter(|| {
            run_counted(tasks, |tally| {
                let task = move |_: &CancelToken| {
                    tally.add();
                    Ok(())
                };
                pool.execute(task).unwrap();
            })
        })
    });
    drop(pool);
    let pool = threadpool::ThreadPool::new(2);
    group.bench_function("threadpool", |b| {
        b.iter(|| run_counted(tasks, |tally| pool.execute(move || tally.add())))
    });
    drop(pool);
    let pool = rayon_2();
    group.bench_function("rayon", |b| {
        b.iter(|| run_counted(tasks, |tally| pool.spawn(move || tally.add())))
    });
    drop(pool);
    let pool = rusty_2();
    group.bench_function("rusty_pool", |b| {
        b.iter(|| run_counted(tasks, |tally| pool.execute(move || tally.add())))
    });
}

fn ten_thousand(c: &mut Criterion) {
    let mut group = c.benchmark_group("pool/10000_small_tasks");
    for queue in [1024, TASKS] {
        let pool = ours(queue);
        group.bench_function(format!("cleanbreak_joined_queue_{queue}"), |b| {
            b.iter(|| run_joined(&pool, TASKS))
        });
    }
    let pool = rusty_2();
    group.bench_function("rusty_pool_joined", |b| {
        b.iter(|| {
            let jobs: Vec<_> = (0..TASKS).map(|n| pool.evaluate(move || n)).collect();
            let sum: usize = jobs.into_iter().map(|job| job.await_complete()).sum();
            assert_eq!(sum, TASKS * (TASKS - 1) / 2);
        })
    });
    peers(&mut group, TASKS);
    group.finish();
}

/// One task, there and back.
fn round_trip(c: &mut Criterion) {
    let mut group = c.benchmark_group("pool/round_trip");
    let pool = ours(1);
    group.bench_function("cleanbreak_joined", |b| {
        b.iter(|| assert_eq!(pool.submit(|_| Ok(7)).unwrap().join().unwrap(), 7))
    });
    drop(pool);
    peers(&mut group, 1);
    group.finish();
}

criterion_group!(benches, ten_thousand, round_trip);
criterion_main!(benches);
