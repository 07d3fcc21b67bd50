//! Child processes and standard input, waited on until a token is cancelled.
#![cfg(target_os = "linux")]
#![allow(
    clippy::disallowed_methods,
    reason = "the tests are outside the library's doors"
)]

mod support;

use std::io::{self, BufRead, BufReader, ErrorKind, PipeReader, Read, Write, pipe};
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::string::FromUtf8Error;
use std::thread;
use std::time::Duration;

use cleanbreak::interrupt::{Interrupts, SIGTERM};
use cleanbreak::io::{
    Interruptible, Lines, Waker, cancellation, output, stdin_lines, terminate, terminate_until,
    wait_child, wait_child_timeout,
};
use cleanbreak::{CancelToken, Clock, threads};
use rustix::fs::{OFlags, fcntl_getfl};
use support::{cancelled, child_passes, descriptors, in_time, is_child, millis, secs, until};

fn shell(script: &str) -> Child {
    let mut command = Command::new("sh");
    command.args(["-c", script]).stdin(Stdio::piped());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().unwrap()
}

/// Waits until it has said so much.
fn hear(child: &mut Child, words: &str) {
    let mut heard = vec![0; words.len()];
    child
        .stdout
        .as_mut()
        .unwrap()
        .read_exact(&mut heard)
        .unwrap();
    assert_eq!(heard, words.as_bytes());
}

/// Whether there is such a process, dead or alive.
fn exists(pid: u32) -> bool {
    PathBuf::from(format!("/proc/{pid}")).exists()
}

#[track_caller]
fn assert_told(error: &io::Error) {
    assert_eq!(
        cancellation(error).unwrap().to_string(),
        "cancelled: enough"
    );
}

#[test]
fn a_wait_for_a_child_ends_and_the_child_runs_on() {
    let ((mut child, told), wait) = cancelled("wait child", |token| {
        let mut child = shell("exec sleep 3600");
        let told = wait_child(&mut child, token).unwrap_err();
        (child, told)
    });
    assert_told(&told);
    assert_eq!(wait.on, "see a child process end");
    assert!(wait.at.file().ends_with("tests/io_child.rs"), "{}", wait.at);
    assert!(child.try_wait().unwrap().is_none());
    let pid = child.id();
    assert_eq!(
        terminate(&mut child, secs(60)).unwrap().signal(),
        Some(libc::SIGTERM)
    );
    assert!(!exists(pid), "it is reaped");
}

#[test]
fn a_child_that_ends_is_told_by_its_status_also_a_second_time() {
    in_time(|| {
        let token = CancelToken::new();
        let mut child = shell("read line; exit 7");
        // Its standard input is closed, so it ends.
        assert_eq!(wait_child(&mut child, &token).unwrap().code(), Some(7));
        assert_eq!(wait_child(&mut child, &token).unwrap().code(), Some(7));
        assert_eq!(terminate(&mut child, secs(60)).unwrap().code(), Some(7));
        token.cancel_with("enough");
        assert_told(&wait_child(&mut child, &token).unwrap_err());
    });
}

#[test]
fn a_wait_for_a_child_has_a_timeout_by_the_tokens_clock() {
    in_time(|| {
        let clock = Clock::manual();
        let token = CancelToken::with_clock(&clock);
        let waiting = thread::spawn(move || {
            let mut child = shell("exec sleep 3600");
            let late = wait_child_timeout(&mut child, &token, secs(5)).unwrap_err();
            (late, child)
        });
        clock.await_timers(1);
        clock.advance(secs(5));
        let (late, mut child) = waiting.join().unwrap();
        assert_eq!(late.kind(), ErrorKind::TimedOut);
        assert!(cancellation(&late).is_none());
        terminate(&mut child, secs(60)).unwrap();
    });
}

#[test]
fn a_child_is_asked_before_it_is_killed() {
    in_time(|| {
        let mut polite = shell("trap 'exit 3' TERM; echo ready; while :; do sleep 0.01; done");
        hear(&mut polite, "ready\n");
        assert_eq!(terminate(&mut polite, secs(60)).unwrap().code(), Some(3));

        // It hears nothing: after its grace it is killed.
        let deaf = "trap '' TERM; echo ready; while :; do sleep 0.01; done";
        let mut child = shell(deaf);
        hear(&mut child, "ready\n");
        let pid = child.id();
        assert_eq!(
            terminate(&mut child, millis(20)).unwrap().signal(),
            Some(libc::SIGKILL)
        );
        assert!(!exists(pid), "it is reaped");

        // So is one that is stopped, when patience ends.
        let mut child = shell("kill -STOP $$");
        let state = || std::fs::read_to_string(format!("/proc/{}/stat", child.id())).unwrap();
        until(|| state().contains(") T "));
        let patience = CancelToken::new();
        patience.cancel();
        let status = terminate_until(&mut child, &patience).unwrap();
        assert_eq!(status.signal(), Some(libc::SIGKILL));
    });
}

#[test]
fn both_outputs_are_read_whole_at_once() {
    in_time(|| {
        // Each is more than a pipe holds, and the child writes them by turns.
        let mut child = shell(
            "i=0; while [ $i -lt 400 ]; do \
             head -c 1000 /dev/zero; head -c 1000 /dev/zero >&2; i=$((i+1)); done; exit 5",
        );
        let all = output(&mut child, &CancelToken::new()).unwrap();
        assert_eq!(all.status.code(), Some(5));
        assert_eq!((all.stdout.len(), all.stderr.len()), (400_000, 400_000));
    });
}

#[test]
fn an_output_that_is_cut_short_is_kept_and_the_rest_comes_later() {
    let ((mut child, told), _) = cancelled("output", |token| {
        let mut child = shell(
            "trap 'echo three; exit 0' USR1; echo two >&2; echo one; \
             while :; do sleep 0.01; done",
        );
        let told = output(&mut child, token).unwrap_err();
        (child, told)
    });
    assert_told(told.io_error());
    assert!(told.cancellation().is_some());
    // What was read is in the error, what was not is still in the pipes.
    let (_, mut stdout, mut stderr) = told.into_parts();
    let pid = rustix::process::Pid::from_raw(child.id() as i32).unwrap();
    let rest = in_time(move || {
        // The signal must not come before the trap, nor before all is said.
        if stdout.is_empty() {
            hear(&mut child, "one\n");
            stdout.extend(b"one\n");
        }
        rustix::process::kill_process(pid, rustix::process::Signal::USR1).unwrap();
        let rest = output(&mut child, &CancelToken::new()).unwrap();
        assert!(rest.status.success());
        stdout.extend(&rest.stdout);
        stderr.extend(&rest.stderr);
        (stdout, stderr)
    });
    assert_eq!(rest, (b"one\nthree\n".to_vec(), b"two\n".to_vec()));
}

#[test]
fn a_grandchild_that_holds_the_output_does_not_hold_the_wait() {
    let mut child = in_time(|| {
        let token = CancelToken::new();
        let mut child = shell("sleep 3600 & echo $!");
        assert!(wait_child(&mut child, &token).unwrap().success());
        child
    });
    let ((mut child, told), _) = cancelled("grandchild", move |token| {
        let told = output(&mut child, token).unwrap_err();
        (child, told)
    });
    assert!(child.try_wait().unwrap().is_some(), "it had ended");
    let grandchild = String::from_utf8(told.stdout().to_vec()).unwrap();
    let killed = Command::new("kill")
        .arg(grandchild.trim())
        .status()
        .unwrap();
    assert!(killed.success());
}

#[test]
fn a_hundred_children_leave_no_descriptor_no_thread_and_no_zombie() {
    const NAME: &str = "a_hundred_children_leave_no_descriptor_no_thread_and_no_zombie";
    if !is_child() {
        child_passes(NAME, ":");
        return;
    }
    let token = CancelToken::new();
    // The thread keeps this one.
    Waker::new().unwrap().install();
    let open = descriptors();
    for round in 0..100 {
        let mut child = shell("echo x; exec sleep 3600");
        hear(&mut child, "x\n");
        let limited = token.child_timeout(Duration::from_micros(round * 20));
        assert!(wait_child(&mut child, &limited).is_err());
        assert!(output(&mut child, &limited).is_err());
        let pid = child.id();
        terminate(&mut child, secs(60)).unwrap();
        assert!(!exists(pid));
    }
    assert_eq!(descriptors(), open);
    until(|| threads::live().is_empty());
}

// Standard input. A child of this binary reads it, and says what it got.

const ROLE: &str = "CLEANBREAK_IO_STDIN";

/// Says each line of its standard input, and how it ended. In the role `two`, one reader takes the
/// first line, and another one the rest.
#[test]
fn reads_its_standard_input() {
    let Ok(role) = std::env::var(ROLE) else {
        return;
    };
    let token = CancelToken::new();
    let _told = Interrupts::cancel_on(&token, &[SIGTERM]).unwrap();
    if role == "two" {
        say("first", &stdin_lines(&token).next().unwrap().unwrap());
    }
    let mut lines = stdin_lines(&token);
    'lines: loop {
        match lines.next() {
            Some(Ok(line)) => say("line", &line),
            Some(Err(error)) if error.kind() == ErrorKind::InvalidData => {
                let error = error.into_inner().unwrap().downcast::<FromUtf8Error>();
                say("bytes", &format!("{:?}", error.unwrap().into_bytes()));
            }
            Some(Err(error)) => {
                say(
                    "told",
                    cancellation(&error).map_or("nothing", |_| "to stop"),
                );
                say("rest", &String::from_utf8_lossy(lines.rest()));
                assert!(lines.next().is_none());
                break 'lines;
            }
            None => break 'lines say("end", ""),
        }
    }
}

fn say(what: &str, text: &str) {
    let mut out = io::stdout().lock();
    // The test harness may have begun a line.
    writeln!(out, "\n{what}: {text}").unwrap();
    out.flush().unwrap();
}

/// A child in that role, with that standard input.
struct Reader {
    child: Child,
    says: BufReader<std::process::ChildStdout>,
}

impl Reader {
    fn start(role: &str, stdin: Stdio, redirect: &str) -> Self {
        let script = format!(
            "exec \"$0\" --exact reads_its_standard_input --nocapture --test-threads=1 {redirect}"
        );
        let mut command = Command::new("sh");
        command
            .arg("-c")
            .arg(script)
            .arg(std::env::current_exe().unwrap());
        command.env(ROLE, role).stdin(stdin).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let says = BufReader::new(child.stdout.take().unwrap());
        Self { child, says }
    }

    /// The next thing that it says.
    fn hear(&mut self) -> String {
        let mut line = String::new();
        loop {
            line.clear();
            assert!(self.says.read_line(&mut line).unwrap() > 0, "it has ended");
            let said = ["first", "line", "bytes", "told", "rest", "end"];
            let said = said
                .iter()
                .any(|what| line.starts_with(&format!("{what}: ")));
            if said {
                return line.trim_end().to_owned();
            }
        }
    }

    /// Waits until it blocks in poll(2).
    fn until_it_waits(&self) {
        let tasks = PathBuf::from(format!("/proc/{}/task", self.child.id()));
        let polls = |task: io::Result<std::fs::DirEntry>| {
            let call = std::fs::read_to_string(task.unwrap().path().join("wchan"));
            call.is_ok_and(|call| call.contains("poll"))
        };
        until(|| std::fs::read_dir(&tasks).unwrap().any(polls));
    }

    fn tell(&self) {
        let pid = rustix::process::Pid::from_raw(self.child.id() as i32).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    }

    fn ends(mut self) {
        assert!(self.child.wait().unwrap().success());
    }
}

/// Two handles of the reading end, one to look at its mode, and the writing end.
fn input() -> (PipeReader, Stdio, std::io::PipeWriter) {
    let (reader, writer) = pipe().unwrap();
    let stdin = Stdio::from(reader.try_clone().unwrap());
    (reader, stdin, writer)
}

#[test]
fn standard_input_that_is_a_pipe_is_read_by_lines_to_its_end() {
    in_time(|| {
        let (_, stdin, mut writer) = input();
        let mut child = Reader::start("", stdin, "");
        writer.write_all(b"one\r\n\nthree\nb\xFFd\nla").unwrap();
        let heard: Vec<_> = (0..4).map(|_| child.hear()).collect();
        assert_eq!(
            heard,
            ["line: one", "line:", "line: three", "bytes: [98, 255, 100]"]
        );
        writer.write_all(b"st").unwrap();
        drop(writer);
        assert_eq!(
            (child.hear(), child.hear()),
            ("line: last".into(), "end:".into())
        );
        child.ends();
    });
}

#[test]
fn a_wait_for_a_line_ends_when_told_and_keeps_what_there_was() {
    in_time(|| {
        let (ours, stdin, mut writer) = input();
        let before = fcntl_getfl(&ours).unwrap();
        let mut child = Reader::start("", stdin, "");
        writer.write_all(b"whole\npart").unwrap();
        assert_eq!(child.hear(), "line: whole");
        child.until_it_waits();
        child.tell();
        assert_eq!(
            (child.hear(), child.hear()),
            ("told: to stop".into(), "rest: part".into())
        );
        child.ends();
        assert_eq!(
            fcntl_getfl(&ours).unwrap(),
            before,
            "the mode is shared, and as it was"
        );
    });
}

#[test]
fn what_one_reader_of_standard_input_has_read_ahead_goes_to_the_next() {
    in_time(|| {
        let (_, stdin, mut writer) = input();
        writer.write_all(b"one\ntwo\nthr").unwrap();
        let mut child = Reader::start("two", stdin, "");
        assert_eq!(
            (child.hear(), child.hear()),
            ("first: one".into(), "line: two".into())
        );
        writer.write_all(b"ee\n").unwrap();
        assert_eq!(child.hear(), "line: three");
        drop(writer);
        assert_eq!(child.hear(), "end:");
        child.ends();
    });
}

#[test]
fn standard_input_that_is_a_file_empty_or_closed_is_read_to_its_end() {
    in_time(|| {
        let mut child = Reader::start("", Stdio::null(), "<clippy.toml");
        let lines = include_str!("../clippy.toml").lines();
        lines.for_each(|line| assert_eq!(child.hear(), format!("line: {line}")));
        assert_eq!(child.hear(), "end:");
        child.ends();
        for redirect in ["</dev/null", "<&-"] {
            let mut child = Reader::start("", Stdio::null(), redirect);
            assert_eq!(child.hear(), "end:", "{redirect}");
            child.ends();
        }
    });
}

#[test]
fn standard_input_that_is_a_terminal_is_waited_on_and_left_in_its_mode() {
    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
    in_time(|| {
        let user = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&user).unwrap();
        unlockpt(&user).unwrap();
        let name = ptsname(&user, Vec::new()).unwrap();
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
        let terminal = rustix::fs::open(&*name, flags, rustix::fs::Mode::empty()).unwrap();
        let ours: OwnedFd = terminal.try_clone().unwrap();
        let before = fcntl_getfl(&ours).unwrap();
        let mut child = Reader::start("", terminal.into(), "");
        rustix::io::write(&user, b"typed\nhalf").unwrap();
        assert_eq!(child.hear(), "line: typed");
        child.until_it_waits();
        child.tell();
        // The terminal keeps the half until the line is whole.
        assert_eq!(
            (child.hear(), child.hear()),
            ("told: to stop".into(), "rest:".into())
        );
        child.ends();
        assert_eq!(fcntl_getfl(&ours).unwrap(), before);

        let mut child = Reader::start("", ours.into(), "");
        // The end of the line, and the end of the input (Ctrl-D).
        rustix::io::write(&user, b" a line\n\x04").unwrap();
        assert_eq!(
            (child.hear(), child.hear()),
            ("line: half a line".into(), "end:".into())
        );
        child.ends();
    });
}

#[test]
fn lines_go_on_after_a_timeout_and_not_after_a_cancellation() {
    let token = CancelToken::new();
    let (reader, mut writer) = pipe().unwrap();
    let mut reader = Interruptible::new(reader, &token);
    reader.set_timeout(Some(Duration::ZERO));
    let mut lines = Lines::new(reader);
    writer.write_all(b"ha").unwrap();
    assert_eq!(
        lines.next().unwrap().unwrap_err().kind(),
        ErrorKind::TimedOut
    );
    writer.write_all(b"lf\nmore\nre").unwrap();
    assert_eq!(lines.next().unwrap().unwrap(), "half");
    assert_eq!(lines.rest(), b"more\nre");
    token.cancel_with("enough");
    // Read before it was told.
    assert_eq!(lines.next().unwrap().unwrap(), "more");
    assert_told(&lines.next().unwrap().unwrap_err());
    assert!(lines.next().is_none());
    let (reader, rest) = lines.into_parts();
    writer.write_all(b"st\n").unwrap();
    let never = CancelToken::never();
    let rest = rest.as_slice().chain(reader.with_token(&never));
    assert_eq!(Lines::new(rest).next().unwrap().unwrap(), "rest");
}
