//! I/O bound to a token: what it costs when it is ready, when it has to wait, and how soon a
//! cancellation is seen.
#![allow(missing_docs, reason = "criterion's macros")]
#![allow(clippy::disallowed_methods, reason = "measures time")]

#[cfg(not(unix))]
fn main() {}

#[cfg(unix)]
fn main() {
    unix::benches();
    criterion::Criterion::default()
        .configure_from_args()
        .final_summary();
}

#[cfg(unix)]
mod unix {
    use std::io::{PipeReader, PipeWriter, Read, Write, pipe};
    use std::net::Shutdown;
    use std::os::unix::net::UnixStream;
    use std::time::{Duration, Instant};

    use cleanbreak::CancelToken;
    use cleanbreak::io::{Interruptible, cancellation};
    use criterion::{Criterion, criterion_group};
    use crossbeam_channel::unbounded;

    const BYTES: [u8; 64] = [7; 64];

    /// Sends 64 bytes and receives them: what is bound is the reading side.
    fn exchange(mut writer: impl Write, mut reader: impl Read) {
        writer.write_all(&BYTES).unwrap();
        let mut got = [0; 64];
        reader.read_exact(&mut got).unwrap();
        assert_eq!(got, BYTES);
    }

    fn ready(c: &mut Criterion) {
        let token = CancelToken::new();
        let mut group = c.benchmark_group("io/write_and_read_64_bytes");
        let (one, other) = UnixStream::pair().unwrap();
        group.bench_function("socket_std", |b| b.iter(|| exchange(&one, &other)));
        let bound = Interruptible::new(&other, &token);
        group.bench_function("socket_cleanbreak", |b| b.iter(|| exchange(&one, &bound)));
        let anew = || exchange(&one, Interruptible::new(&other, &token));
        group.bench_function("socket_cleanbreak_bound_each_time", |b| b.iter(anew));
        let (reader, writer) = pipe().unwrap();
        group.bench_function("pipe_std", |b| b.iter(|| exchange(&writer, &reader)));
        let bound = Interruptible::new(&reader, &token);
        group.bench_function("pipe_cleanbreak", |b| b.iter(|| exchange(&writer, &bound)));
        group.finish();
    }

    /// A byte there and back between two threads, each of which waits for the other.
    fn ping_pong(c: &mut Criterion) {
        fn serve(mut reader: impl Read, mut writer: PipeWriter) {
            let mut byte = [0];
            while reader.read(&mut byte).unwrap() > 0 {
                writer.write_all(&byte).unwrap();
            }
        }
        fn run<R: Read + Send>(c: &mut Criterion, name: &str, bind: impl Fn(PipeReader) -> R) {
            let (there, mut ping) = pipe().unwrap();
            let (back, pong) = pipe().unwrap();
            let (there, mut back) = (bind(there), bind(back));
            std::thread::scope(|scope| {
                scope.spawn(|| serve(there, pong));
                c.bench_function(&format!("io/byte_there_and_back/{name}"), |b| {
                    b.iter(|| {
                        let mut byte = [42];
                        ping.write_all(&byte).unwrap();
                        back.read_exact(&mut byte).unwrap();
                        assert_eq!(byte, [42]);
                    });
                });
                drop(ping);
            });
        }
        let token = CancelToken::new();
        run(c, "std", |reader| reader);
        run(c, "cleanbreak", |reader| Interruptible::new(reader, &token));
    }

    /// From `end` until the thread that is blocked in `read` is back from it.
    fn time_to_end(
        rounds: u64,
        read: impl Fn(&CancelToken, &UnixStream) + Sync,
        end: impl Fn(&CancelToken, &UnixStream),
    ) -> Duration {
        let (work, jobs) = unbounded::<(CancelToken, UnixStream)>();
        let (back_at, back) = unbounded();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for (token, stream) in jobs {
                    read(&token, &stream);
                    back_at.send(Instant::now()).unwrap();
                }
            });
            let mut total = Duration::ZERO;
            for _ in 0..rounds {
                let (stream, _other) = UnixStream::pair().unwrap();
                let token = CancelToken::new();
                work.send((token.clone(), stream.try_clone().unwrap()))
                    .unwrap();
                let settled = Instant::now() + Duration::from_micros(200);
                while Instant::now() < settled {
                    std::hint::spin_loop();
                }
                let start = Instant::now();
                end(&token, &stream);
                total += back.recv().unwrap().saturating_duration_since(start);
            }
            drop(work);
            total
        })
    }

    fn cancel(c: &mut Criterion) {
        let mut group = c.benchmark_group("io/end_of_a_blocked_read");
        group.sample_size(20);
        let bound = |token: &CancelToken, stream: &UnixStream| {
            let told = Interruptible::new(stream, token)
                .read(&mut [0; 8])
                .unwrap_err();
            assert!(cancellation(&told).is_some());
        };
        let cancel = |token: &CancelToken, _: &UnixStream| assert!(token.cancel());
        group.bench_function("cleanbreak_cancel", |b| {
            b.iter_custom(|rounds| time_to_end(rounds, bound, cancel));
        });
        let plain = |_: &CancelToken, mut stream: &UnixStream| {
            assert_eq!(stream.read(&mut [0; 8]).unwrap(), 0);
        };
        let shut = |_: &CancelToken, stream: &UnixStream| stream.shutdown(Shutdown::Both).unwrap();
        group.bench_function("std_shutdown_of_the_socket", |b| {
            b.iter_custom(|rounds| time_to_end(rounds, plain, shut));
        });
        group.finish();
    }

    /// What every wait puts in place and takes back, and what it does not make anew.
    fn setup(c: &mut Criterion) {
        let token = CancelToken::new();
        let bell = std::sync::Arc::new(());
        let mut group = c.benchmark_group("io/setup_of_a_wait");
        group.bench_function("hook", |b| {
            b.iter(|| {
                let bell = bell.clone();
                assert!(token.on_cancel(move || drop(bell)).try_unregister());
            });
        });
        #[cfg(target_os = "linux")]
        group.bench_function("eventfd", |b| {
            use rustix::event::{EventfdFlags, eventfd};
            b.iter(|| eventfd(0, EventfdFlags::CLOEXEC).unwrap());
        });
        group.finish();
    }

    criterion_group!(benches, ready, ping_pong, cancel, setup);
}
