//! Finding the leak. The trap: a service grows by a thread now and then, and nobody knows which, who
//! started it, or what it waits for.
//!
//! ```text
//! cargo run --release --features diagnose --example leak_hunt
//! cargo run --release --features diagnose --example leak_hunt -- --pprof leaks.pb.gz
//! go tool pprof -top leaks.pb.gz
//! ```
//!
//! Five kinds of leaks are planted. A dump of all threads must name each: the thread, the line that
//! started it, the function and the line that it is blocked in. Identical stacks are shown together,
//! the three oldest by name. Then everything is let go, and a leak check sees every thread come home.
//!
//! Linux on x86-64; elsewhere there are no stacks, and it says so.

use std::hint::black_box;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use cleanbreak::diagnose::{DumpedThread, ThreadDump};
use cleanbreak::leak::LeakCheck;
use cleanbreak::{CancelToken, Job, Pool, threads};
use crossbeam_channel::{Receiver, Sender, bounded};
use parking_lot::{Condvar, Mutex};

/// What a leak is known by: its thread, and the lines that start it and that it is blocked in.
struct Planted {
    name: &'static str,
    started: u32,
    blocked: u32,
    threads: usize,
}

/// What frees the leaks again, so that the example ends.
struct Release {
    _channel: Sender<()>,
    lock: Arc<Mutex<()>>,
    flag: Arc<(Mutex<bool>, Condvar)>,
    socket: TcpStream,
    _job: Sender<()>,
}

// Not inlined, and with something left to do, so that each has a frame of its own.

/// 1: nobody will ever send, and nobody drops the sender.
#[inline(never)]
fn waits_for_an_order(orders: &Receiver<()>) -> Result<()> {
    orders.recv().ok();
    black_box(orders);
    Ok(())
}
const ORDER: u32 = line!() - 4;

/// 2: somebody holds the lock for ever.
#[inline(never)]
fn waits_for_the_ledger(ledger: &Mutex<()>) -> Result<()> {
    drop(ledger.lock());
    black_box(ledger);
    Ok(())
}
const LEDGER: u32 = line!() - 4;

/// 3: the flag was set before anybody waited, and the notification is lost.
#[inline(never)]
fn waits_for_the_flag(flag: &(Mutex<bool>, Condvar)) -> Result<()> {
    let mut set = flag.0.lock();
    while !*set {
        flag.1.wait(&mut set);
    }
    Ok(())
}
const FLAG: u32 = line!() - 4;

/// 4: the other side neither answers nor hangs up, and there is no timeout.
#[inline(never)]
fn waits_for_an_answer(mut socket: &TcpStream) -> Result<()> {
    let got = socket.read(&mut [0; 1]);
    black_box(got).ok();
    Ok(())
}
const ANSWER: u32 = line!() - 4;

/// 5: a task that joins another one, which waits for ever itself.
#[inline(never)]
fn waits_for_the_other(job: Job<()>) -> Result<()> {
    job.join().ok();
    Ok(())
}
const OTHER: u32 = line!() - 3;

/// Starts the leaks on `pool`.
fn plant(pool: &Pool) -> Result<(Vec<Planted>, Release)> {
    let mut planted = Vec::new();
    let mut note = |name, started, blocked, threads| {
        planted.push(Planted {
            name,
            started,
            blocked,
            threads,
        });
    };

    let (channel, orders) = bounded(0);
    for _ in 0..4 {
        let orders = orders.clone();
        let task = pool.task().name("order-reader");
        task.execute(move |_| waits_for_an_order(&orders))?;
    }
    note("order-reader", line!() - 2, ORDER, 4);

    let lock = Arc::new(Mutex::new(()));
    let ledger = lock.clone();
    let task = pool.task().name("ledger");
    // Held by this function's caller, through `Release`, until the end.
    std::mem::forget(lock.lock());
    task.execute(move |_| waits_for_the_ledger(&ledger))?;
    note("ledger", line!() - 1, LEDGER, 1);

    let flag = Arc::new((Mutex::new(false), Condvar::new()));
    let waits = flag.clone();
    let task = pool.task().name("flag-waiter");
    task.execute(move |_| waits_for_the_flag(&waits))?;
    note("flag-waiter", line!() - 1, FLAG, 1);

    let listener = TcpListener::bind("127.0.0.1:0")?;
    let client = TcpStream::connect(listener.local_addr()?)?;
    let (socket, _) = listener.accept()?;
    let task = pool.task().name("upstream-call");
    task.execute(move |_| waits_for_an_answer(&client))?;
    note("upstream-call", line!() - 1, ANSWER, 1);

    let (job, held) = bounded::<()>(0);
    let first = pool.task().name("first-of-two");
    let first = first.submit(move |_| waits_for_an_order(&held))?;
    note("first-of-two", line!() - 1, ORDER, 1);
    let second = pool.task().name("second-of-two");
    second.execute(move |_| waits_for_the_other(first))?;
    note("second-of-two", line!() - 1, OTHER, 1);

    let release = Release {
        _channel: channel,
        lock,
        flag,
        socket,
        _job: job,
    };
    Ok((planted, release))
}

/// Also when something was not found: the pool's drop waits for its tasks.
impl Drop for Release {
    #[allow(unsafe_code, reason = "the lock was leaked on purpose")]
    fn drop(&mut self) {
        // SAFETY: the guard was forgotten where the lock was taken, on this very thread.
        unsafe { self.lock.force_unlock() };
        *self.flag.0.lock() = true;
        self.flag.1.notify_all();
        self.socket.write_all(b"!").ok();
    }
}

/// Whether the thread is what was planted: blocked in that line, started by that one.
fn found(thread: &DumpedThread, planted: &Planted) -> bool {
    let here = |file: &str| file.ends_with("leak_hunt.rs");
    let library = thread.library.as_ref();
    let started = library.is_some_and(|info| {
        here(info.spawned_at.file()) && info.spawned_at.line() == planted.started
    });
    let mut frames = thread.stack.frames().iter();
    let blocked =
        frames.any(|frame| frame.file().is_some_and(here) && frame.line() == Some(planted.blocked));
    thread.name == planted.name && started && blocked
}

/// Dumps until every planted thread is asleep where it will stay.
fn hunt(planted: &[Planted]) -> Result<ThreadDump> {
    let patience = crossbeam_channel::after(std::time::Duration::from_secs(20));
    loop {
        let dump = ThreadDump::capture();
        let counts = |planted: &Planted| {
            let threads = dump.threads().iter();
            threads.filter(|thread| found(thread, planted)).count() == planted.threads
        };
        let missing: Vec<_> = planted.iter().filter(|planted| !counts(planted)).collect();
        if missing.is_empty() {
            return Ok(dump);
        }
        if patience.try_recv().is_ok() {
            eprintln!("{}", dump.grouped());
            let names: Vec<_> = missing.iter().map(|planted| planted.name).collect();
            anyhow::bail!("not found: {}", names.join(", "));
        }
        std::thread::yield_now();
    }
}

fn report(dump: &ThreadDump, planted: &[Planted]) {
    println!("== identical stacks together, the three oldest by name ==\n");
    println!("{}", dump.grouped());
    println!("== what was planted, and where it was found ==\n");
    for planted in planted {
        let Planted {
            name,
            started,
            blocked,
            threads,
        } = planted;
        println!(
            "{threads} × {name:<14} started at leak_hunt.rs:{started}, blocked at leak_hunt.rs:{blocked}"
        );
    }
}

fn run() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let profile = match arguments.next().as_deref() {
        None => None,
        Some("--pprof") => Some(arguments.next().context("--pprof needs a file")?),
        Some(other) => anyhow::bail!("unknown argument {other}; known: --pprof FILE"),
    };
    let leaks = LeakCheck::process();
    let pool = Pool::builder().name("service").workers(9);
    let pool = pool.build(&CancelToken::new())?;
    let (planted, release) = plant(&pool)?;
    if cfg!(all(target_os = "linux", target_arch = "x86_64")) {
        let dump = hunt(&planted)?;
        report(&dump, &planted);
        if let Some(path) = &profile {
            std::fs::write(path, dump.to_pprof()).with_context(|| path.clone())?;
            println!("\nprofile written to {path}: go tool pprof -top {path}");
        }
    } else {
        println!("no stacks on this system; the library's threads:");
        threads::live()
            .iter()
            .for_each(|thread| println!("{thread}"));
    }
    let still = leaks.patience(std::time::Duration::ZERO).finish();
    let leaked = still.err().context("the leak check must see them")?;
    let expected: usize = planted.iter().map(|planted| planted.threads).sum();
    ensure!(leaked.threads().len() == expected, "{leaked}");
    drop(release);
    drop(pool);
    let home = LeakCheck::process().finish();
    home.context("after everything was let go")?;
    println!("\n{expected} leaked threads found, and all of them home");
    Ok(())
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("leak_hunt: {error:#}");
            ExitCode::FAILURE
        }
    }
}
