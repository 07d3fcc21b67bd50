//! An example's program as a child process: its lines as they come, signals to it, its end; and
//! folders to run it in.
#![allow(dead_code, reason = "each test binary uses a part of it")]
#![allow(
    clippy::disallowed_methods,
    reason = "what watches must not rest on what it watches"
)]

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::{self, JoinHandle};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, unbounded};
use rustix::process::{Pid, Signal, kill_process};

use super::support::PATIENCE;

/// The example's program, which `cargo test` and `cargo build --examples` build.
pub(crate) fn program(name: &str) -> PathBuf {
    let tests = std::env::current_exe().unwrap();
    let profile = tests.parent().unwrap().parent().unwrap();
    let program = profile.join("examples").join(name);
    let program = program.with_extension(std::env::consts::EXE_EXTENSION);
    let hint = format!("cargo build --example {name}, with its features");
    let built = program.metadata().and_then(|data| data.modified());
    let built = built.unwrap_or_else(|_| panic!("not built: {hint}"));
    let sources = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("examples")
        .join(name);
    // Rather no result than one about an older program.
    for source in sources.read_dir().into_iter().flatten() {
        let modified = source.unwrap().metadata().unwrap().modified().unwrap();
        assert!(modified <= built, "older than its sources: {hint}");
    }
    program
}

/// A folder of one test, removed at the end.
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new(name: &str) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("{name}-{}-{number}", std::process::id());
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        std::fs::create_dir(&path).unwrap();
        Self(path)
    }

    /// Writes a file in it, with the folders on the way.
    pub(crate) fn write(&self, file: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.join(file);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, content).unwrap();
        path
    }

    pub(crate) fn read(&self, file: &str) -> String {
        let path = self.join(file);
        std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{file}: {error}"))
    }
}

impl std::ops::Deref for Folder {
    type Target = Path;

    fn deref(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

/// A running program; killed if a test leaves it behind.
pub(crate) struct Running {
    child: Child,
    incoming: Receiver<Line>,
    readers: Vec<JoinHandle<()>>,
    lines: Vec<Line>,
}

struct Line {
    error: bool,
    text: String,
    taken: bool,
}

/// A program that has ended.
pub(crate) struct Ended {
    pub(crate) status: ExitStatus,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Running {
    pub(crate) fn start(command: &mut Command) -> Self {
        let command = command.current_dir(env!("CARGO_MANIFEST_DIR"));
        let command = command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let (tx, incoming) = unbounded();
        let out = read(child.stdout.take().unwrap(), false, tx.clone());
        let err = read(child.stderr.take().unwrap(), true, tx);
        Self {
            child,
            incoming,
            readers: vec![out, err],
            lines: Vec::new(),
        }
    }

    /// Waits for a line, of either output, with `what` in it, that was not waited for before.
    pub(crate) fn await_line(&mut self, what: &str) -> String {
        let mut looked = 0;
        loop {
            for line in &mut self.lines[looked..] {
                if !line.taken && line.text.contains(what) {
                    line.taken = true;
                    return line.text.clone();
                }
            }
            looked = self.lines.len();
            match self.incoming.recv_timeout(PATIENCE) {
                Ok(line) => self.lines.push(line),
                Err(error) => panic!("no {what:?}: {error}\n{}", self.all()),
            }
        }
    }

    fn all(&self) -> String {
        let lines = self.lines.iter().map(|line| line.text.as_str());
        lines.collect::<Vec<_>>().join("\n")
    }

    pub(crate) fn stdin(&mut self) -> std::process::ChildStdin {
        self.child.stdin.take().unwrap()
    }

    pub(crate) fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id().cast_signed()).unwrap()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).unwrap();
    }

    pub(crate) fn stop(self, signal: Signal) -> Ended {
        self.signal(signal);
        self.wait()
    }

    /// Waits for its end, and takes all that it said.
    pub(crate) fn wait(mut self) -> Ended {
        // Both outputs end with it.
        loop {
            match self.incoming.recv_timeout(PATIENCE) {
                Ok(line) => self.lines.push(line),
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => panic!("it does not end\n{}", self.all()),
            }
        }
        for reader in self.readers.drain(..) {
            reader.join().unwrap();
        }
        let status = self.child.wait().unwrap();
        let text = |error| {
            let lines = self.lines.iter().filter(|line| line.error == error);
            lines.map(|line| format!("{}\n", line.text)).collect()
        };
        Ended {
            status,
            out: text(false),
            err: text(true),
        }
    }
}

fn read(from: impl Read + Send + 'static, error: bool, to: Sender<Line>) -> JoinHandle<()> {
    thread::spawn(move || {
        for line in BufReader::new(from).split(b'\n') {
            let text = String::from_utf8_lossy(&line.unwrap()).into_owned();
            let taken = false;
            to.send(Line { error, text, taken }).ok();
        }
    })
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

impl Ended {
    /// The exit status, for `assert_eq!`, with what it said if it is another.
    pub(crate) fn exits(&self, code: i32) -> &Self {
        let Self { status, out, err } = self;
        assert_eq!(status.code(), Some(code), "{status}\n{out}\n{err}");
        self
    }

    pub(crate) fn said(&self, what: &str) -> &Self {
        let Self { out, err, .. } = self;
        assert!(out.contains(what), "no {what:?} in\n{out}\n{err}");
        self
    }

    pub(crate) fn complained(&self, what: &str) -> &Self {
        let Self { out, err, .. } = self;
        assert!(err.contains(what), "no {what:?} in\n{err}\n{out}");
        self
    }
}

/// A command for the program that heeds permissions, also if the tests run as root. `None` where
/// that cannot be had.
pub(crate) fn heeding_permissions(name: &str) -> Option<Command> {
    let mut command = Command::new("setpriv");
    command.arg("--bounding-set=-dac_override,-dac_read_search");
    let denied = Command::new(command.get_program())
        .args(command.get_args())
        .args([
            "sh",
            "-c",
            "exec 2>/dev/null; ! cat \"$1\" && echo denied",
            "sh",
        ])
        .arg(unreadable())
        .output();
    let denied = denied.is_ok_and(|output| output.stdout == b"denied\n");
    command.arg(program(name));
    if !denied {
        println!("SKIPPED: permissions do not bind this user, and setpriv cannot change that");
    }
    denied.then_some(command)
}

/// A file that nobody may read.
fn unreadable() -> PathBuf {
    use std::os::unix::fs::PermissionsExt;
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("unreadable");
    std::fs::write(&path, "secret").ok();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o000)).unwrap();
    path
}
