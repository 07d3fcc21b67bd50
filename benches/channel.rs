//! Throughput of `SafeChannel` beside the channels that it could be mistaken for.
//!
//! Every contender moves the same numbers from the same number of producers, each with its own
//! clone, to one consumer, which asserts their sum. Threads are started outside the measured time
//! as far as a barrier allows; the time of a row is that of `COUNT` values.
//!
//! kanal's close discards what is queued, and neither it nor flume nor crossbeam can close under a
//! sender without losing something or waiting: they are here for speed alone.
#![allow(clippy::disallowed_methods, reason = "threads and times of its own")]

use cleanbreak::channel::{SafeChannel, SafeReceiver, SafeSender};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

trait Tx: Clone + Send {
    fn put(&self, value: u64);
}

trait Rx {
    fn get(&self) -> u64;
}

macro_rules! contender {
    ($tx:ty, $rx:ty) => {
        impl Tx for $tx {
            #[inline]
            fn put(&self, value: u64) {
                assert!(self.send(value).is_ok());
            }
        }

        impl Rx for $rx {
            #[inline]
            fn get(&self) -> u64 {
                self.recv().unwrap()
            }
        }
    };
}

contender!(SafeSender<u64>, SafeReceiver<u64>);
contender!(
    crossbeam_channel::Sender<u64>,
    crossbeam_channel::Receiver<u64>
);
contender!(flume::Sender<u64>, flume::Receiver<u64>);
contender!(kanal::Sender<u64>, kanal::Receiver<u64>);

/// Moves `each` values from each of `producers`; the time that the consumer saw.
fn transfer((tx, rx): (impl Tx, impl Rx), producers: u64, each: u64) -> Duration {
    let start = Barrier::new(producers as usize + 1);
    thread::scope(|scope| {
        for _ in 0..producers {
            let (tx, start) = (tx.clone(), &start);
            scope.spawn(move || {
                start.wait();
                (0..each).for_each(|value| tx.put(value));
            });
        }
        start.wait();
        let begun = Instant::now();
        let sum: u64 = (0..producers * each).map(|_| rx.get()).sum();
        let elapsed = begun.elapsed();
        assert_eq!(sum, producers * each * (each - 1) / 2);
        elapsed
    })
}

fn rows(c: &mut Criterion) {
    let capacities = [Some(0), Some(1), Some(1024), None];
    for (capacity, producers) in capacities.iter().flat_map(|c| [(*c, 1), (*c, 4)]) {
        let count = if capacity.is_some_and(|c| c < 2) {
            4_000
        } else {
            80_000
        };
        let each = count / producers;
        let name = match capacity {
            Some(capacity) => format!("channel/bounded{capacity}_{producers}p"),
            None => format!("channel/unbounded_{producers}p"),
        };
        let mut group = c.benchmark_group(name);
        group.throughput(Throughput::Elements(count));
        macro_rules! row {
            ($name:literal, $bounded:expr, $unbounded:expr) => {
                group.bench_function(BenchmarkId::from_parameter($name), |b| {
                    b.iter_custom(|rounds| {
                        (0..rounds)
                            .map(|_| match capacity {
                                Some(capacity) => transfer($bounded(capacity), producers, each),
                                None => transfer($unbounded(), producers, each),
                            })
                            .sum()
                    });
                });
            };
        }
        row!("cleanbreak", SafeChannel::bounded, SafeChannel::unbounded);
        row!(
            "crossbeam",
            crossbeam_channel::bounded,
            crossbeam_channel::unbounded
        );
        row!("flume", flume::bounded, flume::unbounded);
        row!("kanal", kanal::bounded, kanal::unbounded);
        group.finish();
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(3));
    targets = rows
}
criterion_main!(benches);
