//! Runs the example as a child process, and speaks HTTP to it with plain sockets.

use std::fs::File;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime};

use cleanbreak::Clock;
use cleanbreak::clock::Instant;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::retry_on_intr;
use rustix::process::{
    Pid, PidfdFlags, Resource, Signal, getrlimit, kill_process, pidfd_open, setrlimit,
};

/// Long enough that only a hang reaches it, on a machine however busy.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// The example's binary, which cargo builds for `cargo test` and puts beside the tests' folder.
pub(crate) fn binary() -> PathBuf {
    let tests = std::env::current_exe().expect("a running test has a path");
    let profile = tests
        .parent()
        .and_then(Path::parent)
        .expect("tests are in target/<profile>/deps");
    let binary = profile
        .join("examples")
        .join(format!("longpoll{}", std::env::consts::EXE_SUFFIX));
    assert_fresh(&binary);
    binary
}

/// `cargo test --test longpoll` alone does not build examples: rather no result than one about an
/// older program.
fn assert_fresh(binary: &Path) {
    let modified = |path: &Path| path.metadata().and_then(|data| data.modified()).ok();
    let hint =
        "build it in the same profile: `cargo build --example longpoll`, or plain `cargo test`";
    let built =
        modified(binary).unwrap_or_else(|| panic!("{} is missing; {hint}", binary.display()));
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/longpoll");
    let files = sources.read_dir().expect("the example's sources are there");
    let newest = files.filter_map(|file| modified(&file.ok()?.path())).max();
    assert!(
        newest.unwrap_or(SystemTime::UNIX_EPOCH) <= built,
        "{} is older than its sources; {hint}",
        binary.display()
    );
}

/// Lets this process, and the services that it starts, open as many files as the system grants.
pub(crate) fn raise_file_limit(wanted: u64) {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).expect("the soft limit may be raised to the hard one");
    assert!(
        limit.maximum.is_none_or(|most| most >= wanted),
        "this test needs `ulimit -Hn` of at least {wanted}"
    );
}

/// A running service. It is killed if a test leaves it behind; if the test fails, its log is shown.
pub(crate) struct Service {
    log: PathBuf,
    child: Child,
    stdout: BufReader<ChildStdout>,
    pub(crate) address: SocketAddr,
}

/// A service that has ended.
pub(crate) struct Ended {
    pub(crate) status: ExitStatus,
    pub(crate) report: String,
    /// Empty unless the log went to a pipe.
    pub(crate) log: String,
    /// From the signal to the end of the process.
    pub(crate) took: Duration,
}

impl Service {
    pub(crate) fn start(arguments: &[&str]) -> Self {
        Self::start_by(&mut Command::new(binary()), None, arguments)
    }

    pub(crate) fn start_logging_to(log: Stdio, arguments: &[&str]) -> Self {
        Self::start_by(&mut Command::new(binary()), Some(log), arguments)
    }

    /// Starts it under a limit of open files.
    pub(crate) fn start_with_files(files: u32, arguments: &[&str]) -> Self {
        let mut shell = Command::new("sh");
        let script = format!("ulimit -n {files} && exec \"$0\" \"$@\"");
        let command = shell.arg("-c").arg(script).arg(binary());
        Self::start_by(command, None, arguments)
    }

    fn start_by(command: &mut Command, stderr: Option<Stdio>, arguments: &[&str]) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let log = format!("longpoll-{}-{number}.log", std::process::id());
        let log = Path::new(env!("CARGO_TARGET_TMPDIR")).join(log);
        let file = || Stdio::from(File::create(&log).expect("cargo made the folder"));
        let command = command.args(["--port", "0"]).args(arguments);
        let command = command.stdin(Stdio::null()).stdout(Stdio::piped());
        let command = command.stderr(stderr.unwrap_or_else(file));
        let mut child = command.spawn().expect("the example can be started");
        let mut stdout = BufReader::new(child.stdout.take().expect("it is piped"));
        let mut line = String::new();
        stdout.read_line(&mut line).expect("its output can be read");
        let address = line.trim().strip_prefix("listening on http://");
        let address = address.unwrap_or_else(|| panic!("unexpected first line: {line:?}"));
        Self {
            log,
            address: address.parse().expect("it is an address"),
            child,
            stdout,
        }
    }

    pub(crate) fn connect(&self) -> Client {
        Client::new(dial(self.address).expect("the service accepts"))
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).expect("it is our child");
    }

    /// Sends `signal` and waits until the process is gone.
    pub(crate) fn stop(self, signal: Signal) -> Ended {
        let begun = now();
        self.signal(signal);
        self.wait(begun)
    }

    pub(crate) fn wait(mut self, begun: Instant) -> Ended {
        self.await_end();
        let took = now().duration_since(begun);
        let status = self.child.wait().expect("it is our child");
        let (mut report, mut log) = (String::new(), String::new());
        self.stdout
            .read_to_string(&mut report)
            .expect("its output is text");
        if let Some(mut stderr) = self.child.stderr.take() {
            stderr.read_to_string(&mut log).expect("its log is text");
        }
        Ended {
            status,
            report,
            log,
            took,
        }
    }

    /// Blocks in the kernel until the process is gone.
    fn await_end(&self) {
        let process = pidfd_open(self.pid(), PidfdFlags::empty()).expect("it is our child");
        let patience = Timespec::try_from(PATIENCE).expect("not too long");
        let mut fds = [PollFd::new(&process, PollFlags::IN)];
        let ended = retry_on_intr(|| poll(&mut fds, Some(&patience)));
        assert_eq!(ended, Ok(1), "the process does not end");
    }

    fn pid(&self) -> Pid {
        let pid = i32::try_from(self.child.id()).ok();
        pid.and_then(Pid::from_raw).expect("a child has a pid")
    }

    /// Waits until nobody listens any more.
    pub(crate) fn await_closed_door(&self) {
        patiently("the listener to be closed", || {
            // Each try is a round trip through the kernel; a connection that got in is dropped.
            dial(self.address).is_none().then_some(())
        });
    }

    /// Watches the service through a connection of its own.
    pub(crate) fn watch(&self) -> Watch {
        Watch {
            client: self.connect(),
        }
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let ended = self.child.try_wait();
            let log = std::fs::read_to_string(&self.log).unwrap_or_default();
            println!("the service had ended: {ended:?}; its log:\n{log}");
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_file(&self.log);
    }
}

/// The time, from the one place that reads it.
pub(crate) fn now() -> Instant {
    Clock::system().now()
}

/// Runs the example to its end.
pub(crate) fn run(arguments: &[&str]) -> Output {
    Command::new(binary())
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .expect("the example can be started")
}

/// Connects to who listens at `address`; `None` when nobody does. Where nobody does, the kernel may
/// choose the address itself for our end, and connect the socket to itself.
pub(crate) fn dial(address: SocketAddr) -> Option<TcpStream> {
    let socket = TcpStream::connect(address).ok()?;
    (socket.local_addr().ok()? != address).then_some(socket)
}

/// Tries until there is a result, and gives the processor away in between.
pub(crate) fn patiently<T>(what: &str, mut attempt: impl FnMut() -> Option<T>) -> T {
    let begun = now();
    loop {
        if let Some(result) = attempt() {
            return result;
        }
        assert!(
            now().duration_since(begun) < PATIENCE,
            "waited too long for {what}"
        );
        std::thread::yield_now();
    }
}

/// Reads `/stats` on a connection that stays open.
pub(crate) struct Watch {
    client: Client,
}

impl Watch {
    pub(crate) fn read(&mut self, key: &str) -> u64 {
        let stats = self.client.get("/stats").text();
        let (_, value) = stats
            .split_once(&format!("\"{key}\":"))
            .unwrap_or_else(|| panic!("no {key} in {stats}"));
        let digits = value.split(|letter: char| !letter.is_ascii_digit()).next();
        digits
            .and_then(|digits| digits.parse().ok())
            .expect("it is a number")
    }

    pub(crate) fn until(&mut self, key: &str, reached: impl Fn(u64) -> bool) -> u64 {
        let what = format!("`{key}` in /stats");
        patiently(&what, || {
            Some(self.read(key)).filter(|value| reached(*value))
        })
    }
}

/// One connection.
pub(crate) struct Client {
    pub(crate) socket: TcpStream,
    input: Vec<u8>,
}

/// What the service answered.
#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Response {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines
            .into_iter()
            .find(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value)
    }
}

impl Client {
    pub(crate) fn new(socket: TcpStream) -> Self {
        socket.set_read_timeout(Some(PATIENCE)).expect("not zero");
        Self {
            socket,
            input: Vec::new(),
        }
    }

    /// Sends a poll to a service that may be gone already; false if it is.
    pub(crate) fn try_poll(&mut self) -> bool {
        self.socket
            .write_all(b"GET /poll?topic=a HTTP/1.1\r\nHost: test\r\n\r\n")
            .is_ok()
    }

    pub(crate) fn send(&mut self, text: impl AsRef<[u8]>) {
        self.socket
            .write_all(text.as_ref())
            .expect("the service reads");
    }

    pub(crate) fn ask(&mut self, target: &str) {
        self.send(format!("GET {target} HTTP/1.1\r\nHost: test\r\n\r\n"));
    }

    pub(crate) fn get(&mut self, target: &str) -> Response {
        self.ask(target);
        self.response()
    }

    pub(crate) fn publish(&mut self, topic: &str, body: &[u8]) -> Response {
        let length = body.len();
        self.send(format!(
            "POST /publish?topic={topic} HTTP/1.1\r\nHost: test\r\nContent-Length: {length}\r\n\r\n"
        ));
        self.send(body);
        self.response()
    }

    pub(crate) fn response(&mut self) -> Response {
        self.try_response().expect("an answer")
    }

    /// The next answer; `None` when the connection was closed or reset before it.
    pub(crate) fn try_response(&mut self) -> Option<Response> {
        let head = loop {
            if let Some(end) = self.input.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
                break self.take(end + 4);
            }
            self.fill()?;
        };
        let head = String::from_utf8(head).expect("a head is text");
        let status = head
            .split(' ')
            .nth(1)
            .and_then(|code| code.parse().ok())
            .expect("a status line");
        let mut response = Response {
            status,
            head,
            body: Vec::new(),
        };
        let length = response
            .field("Content-Length")
            .map_or(0, |length| length.parse().expect("a number"));
        while self.input.len() < length {
            self.fill()?;
        }
        response.body = self.take(length);
        Some(response)
    }

    /// Whether the service ends the connection now, in good order and with nothing more to read. A
    /// reset is no good order.
    pub(crate) fn closed(&mut self) -> bool {
        self.input.is_empty() && matches!(self.socket.read(&mut [0; 1]), Ok(0))
    }

    /// All that comes until the service closes the connection, as it comes.
    pub(crate) fn rest(&mut self) -> String {
        while self.fill().is_some() {}
        String::from_utf8_lossy(&std::mem::take(&mut self.input)).into_owned()
    }

    fn take(&mut self, length: usize) -> Vec<u8> {
        let rest = self.input.split_off(length);
        std::mem::replace(&mut self.input, rest)
    }

    fn fill(&mut self) -> Option<()> {
        let mut chunk = [0; 16 * 1024];
        match self.socket.read(&mut chunk) {
            Ok(0) => None,
            Ok(length) => {
                self.input.extend_from_slice(&chunk[..length]);
                Some(())
            }
            Err(error) if error.kind() == ErrorKind::ConnectionReset => None,
            Err(error) if error.kind() == ErrorKind::Interrupted => self.fill(),
            Err(error) => panic!("the service does not answer: {error}"),
        }
    }
}
