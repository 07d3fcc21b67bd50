//! What a group costs, beside std's scope, rayon's scope and threadpool.
#![allow(missing_docs, reason = "criterion's macros")]

use std::sync::atomic::{AtomicUsize, Ordering};

use cleanbreak::{CancelToken, GroupBuilder, ThreadCache};
use criterion::{Criterion, criterion_group, criterion_main};

fn run_group(group: &GroupBuilder, token: &CancelToken, tasks: usize) {
    let count = AtomicUsize::new(0);
    let result = group.scope(token, |group| {
        for _ in 0..tasks {
            group.spawn(|_| {
                count.fetch_add(1, Ordering::Relaxed);
                Ok(())
            })?;
        }
        Ok(())
    });
    result.unwrap();
    assert_eq!(count.into_inner(), tasks);
}

fn run_rayon(pool: &rayon::ThreadPool, tasks: usize) {
    let count = AtomicUsize::new(0);
    pool.in_place_scope(|scope| {
        for _ in 0..tasks {
            scope.spawn(|_| {
                count.fetch_add(1, Ordering::Relaxed);
            });
        }
    });
    assert_eq!(count.into_inner(), tasks);
}

fn run_threadpool(pool: &threadpool::ThreadPool, tasks: usize) {
    let count = std::sync::Arc::new(AtomicUsize::new(0));
    for _ in 0..tasks {
        let count = count.clone();
        pool.execute(move || {
            count.fetch_add(1, Ordering::Relaxed);
        });
    }
    pool.join();
    assert_eq!(count.load(Ordering::Relaxed), tasks);
}

fn run_std(tasks: usize) {
    let count = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..tasks {
            scope.spawn(|| count.fetch_add(1, Ordering::Relaxed));
        }
    });
    assert_eq!(count.into_inner(), tasks);
}

fn eight_trivial(c: &mut Criterion) {
    let mut group = c.benchmark_group("group/8_trivial_tasks");
    let token = CancelToken::new();
    let cache = ThreadCache::new();
    let warm = GroupBuilder::new().cache(&cache);
    group.bench_function("cleanbreak_warm", |b| {
        b.iter(|| run_group(&warm, &token, 8))
    });
    let own = GroupBuilder::new();
    group.bench_function("cleanbreak_own", |b| b.iter(|| run_group(&own, &token, 8)));
    group.bench_function("std_scope", |b| b.iter(|| run_std(8)));
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(8)
        .build()
        .unwrap();
    group.bench_function("rayon_8", |b| b.iter(|| run_rayon(&pool, 8)));
    let pool = threadpool::ThreadPool::new(8);
    group.bench_function("threadpool_8", |b| b.iter(|| run_threadpool(&pool, 8)));
    group.finish();
}

fn thousand_limited(c: &mut Criterion) {
    let mut group = c.benchmark_group("group/1000_tasks_limit_2");
    let token = CancelToken::new();
    let own = GroupBuilder::new().limit(2);
    group.bench_function("cleanbreak_own", |b| {
        b.iter(|| run_group(&own, &token, 1000))
    });
    let cache = ThreadCache::new();
    let warm = GroupBuilder::new().limit(2).cache(&cache);
    group.bench_function("cleanbreak_warm", |b| {
        b.iter(|| run_group(&warm, &token, 1000))
    });
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(2)
        .build()
        .unwrap();
    group.bench_function("rayon_2", |b| b.iter(|| run_rayon(&pool, 1000)));
    let pool = threadpool::ThreadPool::new(2);
    group.bench_function("threadpool_2", |b| b.iter(|| run_threadpool(&pool, 1000)));
    group.finish();
}

criterion_group!(benches, eight_trivial, thousand_limited);
criterion_main!(benches);
