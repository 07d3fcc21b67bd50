//! Faults of the operating system itself, each in a process of its own that may do with its limits
//! what it likes.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use cleanbreak::group::SpawnError;
use cleanbreak::io::{cancellation, output, terminate, wait_child};
use cleanbreak::leak::LeakCheck;
use cleanbreak::{CancelToken, GroupBuilder, Interruptible, Pool, SafeChannel, scope};

type Run = fn() -> Result<String>;

/// Name, what a shell is told before, and what happens.
const SCENARIOS: [(&str, &str, Run); 4] = [
    ("threads", "ulimit -v 1500000", threads),
    ("descriptors", "ulimit -n 32", descriptors),
    ("killed", ":", killed),
    ("disk", ":", disk),
];

const STACK: usize = 100 << 20;

/// Runs every scenario; whether all survived.
pub(crate) fn run_all() -> bool {
    let failed = SCENARIOS.iter().filter(|(name, limits, _)| {
        let script = format!("{limits}\nexec \"$0\" --scenario {name}");
        let program = std::env::current_exe().expect("this program has a path");
        let mut shell = Command::new("sh");
        let status = shell.arg("-c").arg(script).arg(program).status();
        let survived = status.as_ref().is_ok_and(std::process::ExitStatus::success);
        if !survived {
            println!("FAILED: {name}: {status:?}");
            println!("replay it: cargo run --release --features chaos --example chaos -- --os");
        }
        !survived
    });
    failed.count() == 0
}

/// In the process that was started for it.
pub(crate) fn child(name: &str) -> ExitCode {
    let Some((.., run)) = SCENARIOS.iter().find(|(known, ..)| *known == name) else {
        eprintln!("there is no scenario {name}");
        return ExitCode::from(2);
    };
    let leaks = LeakCheck::process();
    let done = run().and_then(|what| {
        leaks.finish()?;
        Ok(what)
    });
    match done {
        Ok(what) => {
            println!("survived: {what}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            println!("{name}: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The system starts no more threads: an error, and all that were started come home.
fn threads() -> Result<String> {
    let (started, ended) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let hold = AtomicBool::new(true);
    let group = GroupBuilder::new().stack_size(STACK);
    let accepted = group.scope(&CancelToken::new(), |group| {
        let mut accepted = 0;
        let refused = loop {
            let (started, ended) = (&started, &ended);
            let spawned = group.spawn(move |token| {
                started.fetch_add(1, Ordering::SeqCst);
                token.wait();
                ended.fetch_add(1, Ordering::SeqCst);
                Ok(())
            });
            match spawned {
                Ok(_) => accepted += 1,
                Err(refused) => break refused,
            }
        };
        let by_the_system = matches!(refused, SpawnError::Thread(_));
        ensure!(by_the_system, "refused for another reason: {refused}");
        // The closure is not lost. (What the system refused just now, it may have a moment later.)
        let back = loop {
            let hold = &hold;
            let spawned = group.try_spawn(move |token| {
                if hold.load(Ordering::SeqCst) {
                    token.wait();
                }
                Ok(42)
            });
            if let Err(refused) = spawned {
                break refused.into_inner();
            }
        };
        hold.store(false, Ordering::SeqCst);
        ensure!(back(group.token())? == 42);
        let pool = Pool::builder()
            .workers(1000)
            .stack_size(STACK)
            .build(group.token());
        ensure!(pool.is_err(), "a pool without threads");
        group.token().cancel();
        Ok(accepted)
    })?;
    ensure!(accepted > 0, "not even one thread");
    let (started, ended) = (started.into_inner(), ended.into_inner());
    ensure!(started == ended, "{ended} tasks ended of {started}");
    let next = scope(&CancelToken::new(), |group| {
        Ok(group.spawn(|_| Ok(1))?.join()?)
    })?;
    ensure!(next == 1);
    Ok(format!(
        "no thread ({accepted} beside each other, the next was refused, all came home)"
    ))
}

/// The process has no descriptor left: an error from each call, and nothing lost when it has one.
fn descriptors() -> Result<String> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let mut client = TcpStream::connect(listener.local_addr()?)?;
    let mut listener = Interruptible::new(listener, &CancelToken::new());
    listener.set_timeout(Some(Duration::from_secs(30)));
    let hog: Vec<_> = std::iter::from_fn(|| File::open("/dev/null").ok()).collect();
    let refused = listener
        .accept()
        .err()
        .context("accepted without a descriptor")?;
    ensure!(refused.raw_os_error() == Some(24), "accept: {refused}");
    // A thread that has never waited needs one for that.
    let waits: Result<_> = scope(&CancelToken::new(), |group| {
        let wait = group.spawn(|token| {
            let idle = Interruptible::new(listener.get_ref(), token);
            let refused = idle
                .accept()
                .err()
                .context("accepted without a descriptor")?;
            Ok(refused.raw_os_error() == Some(24))
        })?;
        Ok(wait.join()?)
    });
    ensure!(waits?, "a wait without a descriptor");
    let count = hog.len();
    drop(hog);
    let (mut server, _) = listener.accept()?;
    client.write_all(b"still here")?;
    drop(client);
    let mut text = String::new();
    server.read_to_string(&mut text)?;
    ensure!(text == "still here", "{text:?}");
    Ok(format!(
        "no descriptor (after {count}; the connection was accepted when there was one)"
    ))
}

fn sleeper() -> Result<Child> {
    Ok(Command::new("sleep").arg("600").spawn()?)
}

/// Children are killed under those who wait for them.
fn killed() -> Result<String> {
    let mut children = (0..4).map(|_| sleeper()).collect::<Result<Vec<_>>>()?;
    let pids: Vec<_> = children.iter().map(Child::id).collect();
    let signals = scope(&CancelToken::new(), |group| {
        let wait = |child| group.spawn(move |token| Ok(wait_child(child, token)?.signal()));
        let waits = children
            .iter_mut()
            .map(wait)
            .collect::<Result<Vec<_>, _>>()?;
        for pid in pids {
            let killed = Command::new("kill")
                .args(["-KILL", &pid.to_string()])
                .status()?;
            ensure!(killed.success(), "kill {pid}");
        }
        let ends = waits.into_iter().map(|wait| Ok(wait.join()?));
        ends.collect::<Result<Vec<_>>>()
    })?;
    ensure!(
        signals.iter().all(|signal| *signal == Some(9)),
        "{signals:?}"
    );
    // What it said before is not lost.
    let mut half = Command::new("sh");
    half.args(["-c", "echo half; kill -KILL $$"])
        .stdout(Stdio::piped());
    let said = output(&mut half.spawn()?, &CancelToken::new())?;
    ensure!(
        said.status.signal() == Some(9) && said.stdout == b"half\n",
        "{said:?}"
    );
    // A wait that is given up leaves the child to be ended.
    let (mut child, token) = (sleeper()?, CancelToken::new());
    token.cancel();
    let told = wait_child(&mut child, &token).err().context("it waited")?;
    ensure!(cancellation(&told).is_some(), "{told}");
    let ended = terminate(&mut child, Duration::from_secs(30))?;
    ensure!(ended.signal() == Some(15), "{ended}");
    Ok("children killed (4 waited for, 1 half read, 1 given up and ended)".to_owned())
}

/// There is no room for the output: the error is the group's, and what was not written comes back.
fn disk() -> Result<String> {
    let path = Path::new("/dev/full");
    if !path.exists() {
        return Ok("SKIPPED: a full disk: there is no /dev/full".to_owned());
    }
    let (records, inbox) = SafeChannel::bounded(4);
    let left = inbox.clone();
    let (sent, taken) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let ended: Result<()> = scope(&CancelToken::new(), |group| {
        group.spawn_named("writer", |token| {
            let mut out = OpenOptions::new().write(true).open(path)?;
            while let Ok(record) = inbox.recv_or_cancel(token) {
                let record: String = record;
                taken.fetch_add(1, Ordering::SeqCst);
                out.write_all(record.as_bytes())?;
            }
            Ok(())
        })?;
        group.spawn_named("source", |token| {
            loop {
                let sends = records.send_or_cancel("a record\n".to_owned(), token);
                match sends {
                    Ok(()) => sent.fetch_add(1, Ordering::SeqCst),
                    Err(_) => return Ok(()),
                };
            }
        })?;
        Ok(())
    });
    let Err(error) = ended else {
        bail!("it fitted")
    };
    let full = error
        .downcast_ref::<std::io::Error>()
        .map(std::io::Error::kind);
    ensure!(
        full == Some(ErrorKind::StorageFull),
        "the first error is {error:#}"
    );
    let (sent, taken, back) = (
        sent.into_inner(),
        taken.into_inner(),
        left.close_and_drain().len(),
    );
    ensure!(
        sent == taken + back,
        "{sent} records sent, {taken} taken, {back} handed back"
    );
    Ok(format!(
        "a full disk (the error ended the group; {back} records of {sent} handed back)"
    ))
}
