//! Signals: counted, on channels and tokens. Each case runs in a child of this test binary, because
//! signals are the whole process's.

#![cfg(unix)]
#![allow(
    clippy::disallowed_methods,
    reason = "the tests are outside the library's doors"
)]

mod support;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::FileExt;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use cleanbreak::interrupt::{
    Again, CancelOn, Interrupt, InterruptError, Interrupts, SIGINT, SIGTERM, SIGUSR1, SIGUSR2,
    cause_exit_status, exit_status, reraise,
};
use cleanbreak::{CancelKind, CancelToken};
use crossbeam_channel::{TryRecvError, select};
use signal_hook::low_level::raise;
use support::{in_time, live_named, status, threads_named, until};

const ROLE: &str = "CLEANBREAK_INTERRUPT_ROLE";
const THREAD: &str = "cleanbreak signals";
/// As the kernel has it.
const COMM: &str = "cleanbreak sign";

// The parent's side.

/// A child of this binary in a role.
struct Subject {
    child: Child,
    says: BufReader<ChildStderr>,
}

impl Subject {
    fn start(role: &str) -> Self {
        Self::start_after(role, ":")
    }

    /// Starts it from a shell that has run `script`.
    fn start_after(role: &str, script: &str) -> Self {
        let mut command = Command::new("sh");
        command.arg("-c").arg(format!(
            "{script}\nexec \"$0\" --exact plays_its_role --nocapture --test-threads=1"
        ));
        command
            .arg(std::env::current_exe().unwrap())
            .env(ROLE, role);
        command.stdin(Stdio::piped()).stdout(Stdio::null());
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let says = BufReader::new(child.stderr.take().unwrap());
        Self { child, says }
    }

    /// The next thing that it says; fails with the rest of its output if there is none.
    fn hear(&mut self) -> String {
        let mut other = String::new();
        loop {
            let start = other.len();
            match self.says.read_line(&mut other).unwrap() {
                0 => panic!("the child ended: {other}"),
                _ => match other[start..].strip_prefix("> ") {
                    Some(said) => return said.trim_end().to_owned(),
                    None => continue,
                },
            }
        }
    }

    #[track_caller]
    fn expect(&mut self, said: &str) {
        assert_eq!(self.hear(), said);
    }

    #[allow(unsafe_code, reason = "std cannot send signals")]
    fn kill(&self, signal: i32) {
        let pid = i32::try_from(self.child.id()).unwrap();
        // SAFETY: `kill` has no memory to get wrong; the child has not been waited for, so its
        // number is still its own.
        let answer = unsafe { libc::kill(pid, signal) };
        assert_eq!(answer, 0, "{}", std::io::Error::last_os_error());
    }

    fn tell(&mut self) {
        self.child.stdin.as_ref().unwrap().write_all(b"\n").unwrap();
    }

    fn end(mut self) -> ExitStatus {
        // Kept open, which `wait` would not do: who listens goes on listening.
        let stdin = self.child.stdin.take();
        let status = self.child.wait().unwrap();
        drop(stdin);
        let rest: Vec<_> = self.says.by_ref().lines().map(Result::unwrap).collect();
        assert!(
            !rest.iter().any(|line| line.contains("panicked")),
            "{rest:#?}"
        );
        status
    }
}

impl Drop for Subject {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// Runs a role that needs nothing from outside.
fn passes(role: &'static str) {
    in_time(move || {
        let mut subject = Subject::start(role);
        subject.expect("done");
        assert!(subject.end().success());
    });
}

// The child's side.

fn say(what: impl std::fmt::Display) {
    // One write, on a line of its own.
    std::io::stderr()
        .write_all(format!("> {what}\n").as_bytes())
        .unwrap();
}

fn listen() {
    let mut line = String::new();
    assert_ne!(std::io::stdin().read_line(&mut line).unwrap(), 0);
}

fn subscribe(signals: &[i32]) -> Interrupts {
    Interrupts::subscribe(signals).unwrap()
}

/// Receives until `total` have arrived, of all signals; fails if there are more.
fn receive(from: &Interrupts, total: u64) -> BTreeMap<i32, u64> {
    let mut counts = BTreeMap::new();
    while counts.values().sum::<u64>() < total {
        let Interrupt { signal, count, .. } = from.recv().unwrap();
        assert!(count > 0);
        *counts.entry(signal).or_default() += count;
    }
    assert_eq!(counts.values().sum::<u64>(), total);
    counts
}

/// No thread of ours, by the library's list and by the kernel's.
fn no_thread() {
    assert_eq!(live_named(THREAD), 0);
    // The kernel takes a joined thread off its list a moment after it has told the joiner.
    until(|| threads_named(COMM) == 0);
}

fn one_thread() {
    assert_eq!(live_named(THREAD), 1);
    // It gives itself its name when it has been started.
    until(|| threads_named(COMM) == 1);
}

const ROLES: &[(&str, fn())] = &[
    ("spaced", spaced),
    ("burst", burst),
    ("busy", busy),
    ("real-time", real_time),
    ("coalesce", coalesce),
    ("two", two),
    ("unsubscribe", unsubscribe),
    ("ignored", ignored),
    ("chained", chained),
    ("cancel", cancel),
    ("stuck", stuck),
    ("other forces", other_forces),
    ("never forced", never_forced),
    ("disarmed", disarmed),
    ("reraise", reraised),
    ("threads", thread_comes_and_goes),
    ("leak", leak_is_seen),
    ("from a hook", dropped_from_a_hook),
    ("churn", churn),
    ("select", selected),
    ("refused", refused),
];

#[test]
fn plays_its_role() {
    if let Ok(role) = std::env::var(ROLE) {
        let (_, play) = ROLES.iter().find(|(name, _)| *name == role).unwrap();
        play();
    }
}

#[test]
fn each_of_spaced_signals_is_counted_once() {
    in_time(|| {
        let mut subject = Subject::start("spaced");
        subject.expect("ready");
        for n in 1..=200 {
            subject.kill(SIGUSR1);
            subject.expect(&format!("{n} SIGUSR1"));
        }
        subject.kill(SIGTERM);
        subject.expect("200 SIGTERM");
        assert!(subject.end().success());
    });
}

fn spaced() {
    let signals = subscribe(&[SIGUSR1, SIGTERM]);
    say("ready");
    let mut total = 0;
    'signals: for signal in &signals {
        assert_eq!(signal.count, 1);
        total += u32::from(signal.signal == SIGUSR1);
        say(format!("{total} {signal}"));
        if signal.signal == SIGTERM {
            break 'signals;
        }
    }
}

/// Where the parent writes the number of the signal that it is about to send.
fn board(pid: u32) -> PathBuf {
    std::env::temp_dir().join(format!("cleanbreak-interrupt-{pid}"))
}

#[test]
fn the_last_signal_of_a_burst_is_always_seen() {
    in_time(|| {
        let mut subject = Subject::start("burst");
        subject.expect("ready");
        let path = board(subject.child.id());
        let board = File::create(&path).unwrap();
        board.write_all_at(&0_u64.to_ne_bytes(), 0).unwrap();
        subject.tell();
        subject.expect("set");
        for n in 1..=1000_u64 {
            board.write_all_at(&n.to_ne_bytes(), 0).unwrap();
            subject.kill(SIGUSR1);
        }
        // It says this when it has received a signal after the last number was written.
        let counted: u64 = subject.hear().parse().unwrap();
        std::fs::remove_file(path).unwrap();
        assert!((1..=1000).contains(&counted), "{counted}");
        subject.tell();
        assert!(subject.end().success());
    });
}

fn burst() {
    let signals = subscribe(&[SIGUSR1]);
    say("ready");
    listen();
    let board = File::open(board(std::process::id())).unwrap();
    say("set");
    let (mut counted, mut number) = (0, [0; 8]);
    'signals: for signal in &signals {
        counted += signal.count;
        board.read_exact_at(&mut number, 0).unwrap();
        if u64::from_ne_bytes(number) == 1000 {
            break 'signals;
        }
    }
    say(counted);
    listen();
    // The last may have been sent and be on its way still: it must not find that nobody is
    // subscribed.
    std::process::exit(0);
}

#[test]
fn signals_that_arrive_while_nobody_receives_are_counted() {
    passes("busy");
}

fn busy() {
    let (one, other) = (subscribe(&[SIGUSR1]), subscribe(&[SIGUSR1]));
    for _ in 0..1000 {
        // Each has been handled when this returns, so the kernel merges none.
        raise(SIGUSR1).unwrap();
    }
    for subscriber in [&one, &other] {
        assert_eq!(receive(subscriber, 1000), BTreeMap::from([(SIGUSR1, 1000)]));
        assert_eq!(subscriber.try_recv(), Err(TryRecvError::Empty));
    }
    say("done");
}

#[test]
fn real_time_signals_queue_and_none_is_lost() {
    in_time(|| {
        let mut subject = Subject::start("real-time");
        subject.expect("ready");
        for _ in 0..100 {
            subject.kill(libc::SIGRTMIN());
        }
        subject.expect("100");
        // Nobody is subscribed any more: its default is to end, and this is as near as we come.
        subject.kill(libc::SIGRTMIN());
        let status = exit_status(libc::SIGRTMIN());
        assert_eq!(subject.end().code(), Some(status.into()));
    });
}

fn real_time() {
    let signals = subscribe(&[libc::SIGRTMIN()]);
    say("ready");
    let counts = receive(&signals, 100);
    drop(signals);
    say(counts[&libc::SIGRTMIN()]);
    listen();
}

#[test]
fn a_channel_holds_one_item_for_each_signal() {
    passes("coalesce");
}

fn coalesce() {
    // The first is told before the second, so what the second has seen has reached the first.
    let (idle, busy) = (
        subscribe(&[SIGUSR1, SIGUSR2]),
        subscribe(&[SIGUSR1, SIGUSR2]),
    );
    for n in 1..=500_u64 {
        raise(SIGUSR1).unwrap();
        raise(SIGUSR2).unwrap();
        receive(&busy, 2);
        assert_eq!(idle.len(), 2, "after {n}");
    }
    let items: BTreeMap<_, _> = idle
        .try_iter()
        .map(|item| (item.signal, item.count))
        .collect();
    assert_eq!(items, BTreeMap::from([(SIGUSR1, 500), (SIGUSR2, 500)]));
    assert_eq!(idle.len(), 0);
    say("done");
}

#[test]
fn every_subscriber_is_told_of_its_own_signals() {
    in_time(|| {
        let mut subject = Subject::start("two");
        subject.expect("ready");
        subject.kill(SIGUSR2);
        subject.expect("both SIGUSR2");
        subject.kill(SIGUSR1);
        subject.expect("second SIGUSR1");
        assert!(subject.end().success());
    });
}

fn two() {
    let (first, second) = (subscribe(&[SIGUSR2]), subscribe(&[SIGUSR1, SIGUSR2]));
    assert_eq!(live_named(THREAD), 1);
    say("ready");
    let (got, same) = (first.recv().unwrap(), second.recv().unwrap());
    assert_eq!(got, same);
    say(format!("both {got}"));
    let got = second.recv().unwrap();
    assert_eq!(first.try_recv(), Err(TryRecvError::Empty));
    say(format!("second {got}"));
}

#[test]
fn after_the_last_subscriber_the_default_is_done() {
    in_time(|| {
        let mut subject = Subject::start("unsubscribe");
        subject.expect("ready");
        for _ in 0..2 {
            subject.kill(SIGTERM);
            subject.expect("SIGTERM");
        }
        subject.expect("nobody");
        subject.kill(SIGTERM);
        assert_eq!(subject.end().signal(), Some(SIGTERM));
    });
}

fn unsubscribe() {
    let _other = subscribe(&[SIGUSR1]);
    let (first, second) = (subscribe(&[SIGTERM]), subscribe(&[SIGTERM]));
    say("ready");
    assert_eq!(second.recv().unwrap().count, 1);
    say(first.recv().unwrap());
    drop(first);
    say(second.recv().unwrap());
    let clone = second.clone();
    drop(second);
    assert_eq!(clone.try_recv(), Err(TryRecvError::Disconnected));
    say("nobody");
    listen();
}

#[test]
fn what_was_ignored_before_is_ignored_again() {
    in_time(|| {
        let mut subject = Subject::start_after("ignored", "trap '' USR1");
        subject.expect("done");
        assert!(subject.end().success());
    });
}

fn ignored() {
    let signals = subscribe(&[SIGUSR1]);
    raise(SIGUSR1).unwrap();
    assert_eq!(signals.recv().unwrap().count, 1);
    drop(signals);
    raise(SIGUSR1).unwrap();
    say("done");
}

#[test]
fn a_handler_of_before_is_called_all_the_time() {
    passes("chained");
}

fn chained() {
    let called = Arc::new(AtomicBool::new(false));
    let called_once = || called.swap(false, Ordering::SeqCst);
    signal_hook::flag::register(SIGUSR1, called.clone()).unwrap();
    let signals = subscribe(&[SIGUSR1]);
    raise(SIGUSR1).unwrap();
    assert!(called_once());
    assert_eq!(signals.recv().unwrap().count, 1);
    drop(signals);
    raise(SIGUSR1).unwrap();
    assert!(called_once());
    say("done");
}

#[test]
fn a_signal_cancels_with_its_number_as_cause() {
    in_time(|| {
        for signal in [SIGINT, SIGTERM] {
            let mut subject = Subject::start("cancel");
            subject.expect("ready");
            subject.kill(signal);
            subject.expect(&format!("cancelled: signal {signal}"));
            assert_eq!(subject.end().code(), Some(128 + signal));
        }
    });
}

fn cancel() {
    let token = CancelToken::new();
    let _stop = Interrupts::cancel_on(&token, &[SIGINT, SIGTERM]).unwrap();
    say("ready");
    token.wait();
    let cancelled = token.cancelled().unwrap();
    assert_eq!(cancelled.kind(), CancelKind::Cancelled);
    say(&cancelled);
    let status = cause_exit_status(cancelled.cause().unwrap()).unwrap();
    std::process::exit(status.into());
}

#[test]
fn the_second_signal_exits_at_once_though_every_thread_is_stuck() {
    in_time(|| {
        for (first, then, dies_of) in [
            (SIGINT, &[SIGINT][..], SIGINT),
            (SIGTERM, &[SIGTERM], SIGTERM),
            // A different one is no second one.
            (SIGINT, &[SIGTERM, SIGINT], SIGINT),
        ] {
            let mut subject = Subject::start("stuck");
            subject.expect("ready");
            subject.kill(first);
            subject.expect("stuck");
            then.iter().for_each(|&signal| subject.kill(signal));
            assert_eq!(subject.end().code(), Some(128 + dies_of));
        }
    });
}

/// Stuck are the signal thread, in a hook, and this one.
fn stuck() {
    let token = CancelToken::new();
    let hang = || {
        say("stuck");
        listen(); // nobody says anything
    };
    let _hook = token.on_cancel(hang);
    let _stop = Interrupts::cancel_on(&token, &[SIGINT, SIGTERM]).unwrap();
    say("ready");
    until(|| false);
}

#[test]
fn a_configured_signal_forces_the_exit_after_another() {
    in_time(|| {
        let mut subject = Subject::start("other forces");
        subject.expect("still here after two");
        subject.kill(SIGINT);
        assert_eq!(subject.end().code(), Some(130));
    });
}

fn other_forces() {
    let token = CancelToken::new();
    let signals = [SIGINT, SIGTERM];
    let again = Again::OneOf(&[SIGINT]);
    let _stop = Interrupts::cancel_on_with(&token, &signals, again).unwrap();
    raise(SIGTERM).unwrap();
    token.wait();
    raise(SIGTERM).unwrap();
    say("still here after two");
    listen();
}

#[test]
fn nothing_is_forced_where_that_is_asked() {
    passes("never forced");
}

fn never_forced() {
    let token = CancelToken::new();
    let _stop = Interrupts::cancel_on_with(&token, &[SIGINT], Again::Never).unwrap();
    let all = subscribe(&[SIGINT]);
    for _ in 0..3 {
        raise(SIGINT).unwrap();
    }
    receive(&all, 3);
    token.wait();
    say("done");
}

#[test]
fn a_dropped_guard_forces_and_cancels_nothing() {
    passes("disarmed");
}

fn disarmed() {
    let (first, second) = (CancelToken::new(), CancelToken::new());
    let _all = subscribe(&[SIGINT]); // or the default would be done
    let stop = Interrupts::cancel_on(&first, &[SIGINT]).unwrap();
    raise(SIGINT).unwrap();
    first.wait();
    drop(stop);
    // Not the second one of anybody.
    let _stop = Interrupts::cancel_on(&second, &[SIGINT]).unwrap();
    raise(SIGINT).unwrap();
    second.wait();

    let third = CancelToken::new();
    drop(Interrupts::cancel_on(&third, &[SIGUSR1]).unwrap());
    let signals = subscribe(&[SIGUSR1]);
    raise(SIGUSR1).unwrap();
    signals.recv().unwrap();
    assert!(!third.is_cancelled());
    say("done");
}

#[test]
fn the_parent_sees_a_raised_signal_as_the_death() {
    in_time(|| {
        for signal in [SIGINT, SIGTERM] {
            let mut subject = Subject::start("reraise");
            subject.expect("ready");
            subject.kill(signal);
            assert_eq!(subject.end().signal(), Some(signal));
        }
    });
}

fn reraised() {
    let token = CancelToken::new();
    let _stop = Interrupts::cancel_on(&token, &[SIGINT, SIGTERM]).unwrap();
    say("ready");
    token.wait();
    let signal = token.cause().unwrap().as_signal().unwrap();
    reraise(signal).unwrap();
    panic!("it came back");
}

#[test]
fn the_thread_is_gone_with_the_last_subscriber_and_comes_again() {
    passes("threads");
}

fn thread_comes_and_goes() {
    no_thread();
    for _ in 0..50 {
        let token = CancelToken::new();
        let first = subscribe(&[SIGUSR1]);
        let second = subscribe(&[SIGUSR2]);
        let third = Interrupts::cancel_on(&token, &[SIGTERM]).unwrap();
        one_thread();
        raise(SIGUSR1).unwrap();
        assert_eq!(first.recv().unwrap().count, 1);
        drop(first);
        drop(second);
        raise(SIGTERM).unwrap();
        token.wait();
        assert_eq!(live_named(THREAD), 1);
        drop(third);
        no_thread();
    }
    // Nor is there anything else left of them.
    let descriptors = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    let before = (descriptors(), status("Threads:"));
    drop(subscribe(&[SIGUSR1]));
    no_thread();
    assert_eq!((descriptors(), status("Threads:")), before);
    say("done");
}

#[test]
fn a_subscriber_that_was_never_dropped_is_caught() {
    passes("leak");
}

fn leak_is_seen() {
    no_thread();
    std::mem::forget(subscribe(&[SIGUSR1]));
    drop(subscribe(&[SIGUSR1]));
    one_thread();
    say("done");
}

#[test]
fn a_hook_on_the_signal_thread_may_drop_the_last_subscriber() {
    passes("from a hook");
}

fn dropped_from_a_hook() {
    for _ in 0..20 {
        let token = CancelToken::new();
        let kept: Arc<Mutex<Option<CancelOn>>> = Arc::default();
        let (done, dropped) = crossbeam_channel::bounded(1);
        let hook = token.on_cancel({
            let kept = kept.clone();
            move || {
                drop(kept.lock().unwrap().take());
                done.send(()).unwrap();
            }
        });
        *kept.lock().unwrap() = Some(Interrupts::cancel_on(&token, &[SIGUSR1]).unwrap());
        raise(SIGUSR1).unwrap();
        dropped.recv().unwrap();
        drop(hook);
        // It is not joined then, but ends all the same.
        until(|| live_named(THREAD) == 0 && threads_named(COMM) == 0);
    }
    say("done");
}

#[test]
fn subscribers_come_and_go_on_many_threads() {
    passes("churn");
}

fn churn() {
    thread::scope(|scope| {
        for signal in [SIGUSR1, SIGUSR2, SIGUSR1, SIGINT] {
            scope.spawn(move || {
                for round in 0..100 {
                    let signals = subscribe(&[signal]);
                    raise(signal).unwrap();
                    assert!(signals.recv().unwrap().count > 0);
                    if round % 2 == 0 {
                        raise(signal).unwrap(); // maybe nobody takes this one
                    }
                }
            });
        }
    });
    no_thread();
    say("done");
}

#[test]
fn a_select_loop_takes_signals_beside_messages() {
    passes("select");
}

fn selected() {
    let token = CancelToken::new();
    let (tx, rx) = crossbeam_channel::unbounded();
    let signals = subscribe(&[SIGUSR1]);
    let sender = thread::spawn(move || {
        for n in 0..100_u32 {
            tx.send(n).unwrap();
            raise(SIGUSR1).unwrap();
        }
        tx
    });
    let (mut messages, mut arrived) = (0, 0);
    'work: loop {
        select! {
            recv(token.done()) -> _ => break 'work,
            recv(rx) -> message => messages += u32::from(message.is_ok()),
            recv(signals) -> signal => arrived += signal.unwrap().count,
        }
        if (messages, arrived) == (100, 100) {
            token.cancel();
        }
    }
    drop(sender.join().unwrap());
    say("done");
}

#[test]
fn signals_that_cannot_be_handled_are_refused() {
    passes("refused");
}

fn refused() {
    let faults = [libc::SIGSEGV, libc::SIGBUS, libc::SIGILL, libc::SIGFPE];
    let kept = [libc::SIGKILL, libc::SIGSTOP, libc::SIGTRAP, libc::SIGSYS];
    for signal in faults.into_iter().chain(kept) {
        let error = Interrupts::subscribe(&[SIGUSR1, signal]).unwrap_err();
        assert!(matches!(error, InterruptError::Forbidden(s) if s == signal));
        let token = CancelToken::new();
        let error = Interrupts::cancel_on(&token, &[signal]).unwrap_err();
        assert!(
            error
                .to_string()
                .ends_with("cannot be received on a channel")
        );
    }
    for number in [i32::MIN, -1, 0, 128, i32::MAX] {
        let error = Interrupts::subscribe(&[number]).unwrap_err();
        assert!(matches!(error, InterruptError::Unknown(n) if n == number));
    }
    // 32 is the C library's own, and there is no 100.
    for number in [32, 100] {
        let error = Interrupts::subscribe(&[SIGUSR1, number]).unwrap_err();
        assert!(matches!(error, InterruptError::Handler(n, _) if n == number));
        assert!(std::error::Error::source(&error).is_some());
    }
    assert!(matches!(
        Interrupts::subscribe(&[]),
        Err(InterruptError::NoSignals)
    ));
    // A refusal leaves nothing behind.
    no_thread();
    say("done");
}

#[test]
fn handles_go_to_any_thread() {
    fn any<T: Send + Sync + std::panic::UnwindSafe + 'static>() {}
    any::<Interrupts>();
    any::<CancelOn>();
    any::<Interrupt>();
    fn error<T: std::error::Error + Send + Sync + 'static>() {}
    error::<InterruptError>();
}
