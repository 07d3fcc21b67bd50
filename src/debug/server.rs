//! The handle: its settings, its start and its end.

use std::cell::Cell;
use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
use std::panic::Location;

use super::accept;
use super::watched::Watched;
use crate::cancel::CancelToken;
use crate::clock::{Clock, Instant};
use crate::diagnose::StackSignal;
use crate::resilience::Bulkhead;
use crate::sync::Arc;
use crate::threads::{self, Handle, Spec, ThreadError};

/// The names that a machine has for itself.
const AT_HOME: [&str; 3] = ["localhost", "127.0.0.1", "[::1]"];

/// How many requests may wait for the work of another.
const WAITING: usize = 8;

thread_local! {
    /// Address of the server that this thread belongs to; zero for none. Never reset.
    static SERVES: Cell<usize> = const { Cell::new(0) };
}

/// A page about this process, on loopback; see the [module](super) for what is promised.
///
/// # Drop
///
/// Closes the listener, ends the requests, and joins the threads. A renderer of metrics, or of a
/// value, that does not return holds it up (and is reported on standard error after 5 seconds).
/// Dropped by one of its own threads, in such a renderer, it waits for nothing.
///
/// # Examples
///
/// ```
/// use std::io::{Read, Write};
/// use std::net::TcpStream;
/// use cleanbreak::CancelToken;
/// use cleanbreak::debug::DebugServer;
///
/// let service = CancelToken::new();
/// let server = DebugServer::builder()
///     .bind("127.0.0.1:0")
///     .metrics(|| "answers_total 42\n".to_owned())
///     .start(&service)
///     .unwrap();
/// server.watch_token("service", &service);
/// println!("threads, loops and pools: {}", server.url());
///
/// let get = |path: &str| {
///     let mut client = TcpStream::connect(server.local_addr()).unwrap();
///     write!(client, "GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
///     let mut answer = String::new();
///     client.read_to_string(&mut answer).unwrap();
///     answer
/// };
/// assert!(get("/debug/threads?debug=2").contains("debug-request"));
/// assert!(get("/debug/tokens").contains("service"));
/// assert!(get("/metrics").ends_with("answers_total 42\n"));
///
/// let address = server.local_addr();
/// drop(server);
/// assert!(TcpStream::connect(address).is_err());
/// ```
#[must_use = "the server ends when this is dropped"]
pub struct DebugServer {
    shared: Arc<Shared>,
    address: SocketAddr,
    acceptor: Option<Handle>,
}

type Render = Box<dyn Fn() -> String + Send + Sync>;

/// What the server's threads need.
pub(super) struct Shared {
    pub(super) token: CancelToken,
    pub(super) clock: Clock,
    pub(super) since: Instant,
    allowed: Vec<String>,
    pub(super) metrics: Option<Render>,
    pub(super) stack_signal: Option<StackSignal>,
    pub(super) watched: Watched,
    pub(super) dumps: Bulkhead,
    /// Apart from the dumps: code of the user's may hang, and then a dump is what is wanted.
    pub(super) renders: Bulkhead,
}

/// How to start a [`DebugServer`].
///
/// # Examples
///
/// ```
/// use std::io::{Read, Write};
/// use std::net::TcpStream;
/// use cleanbreak::CancelToken;
/// use cleanbreak::debug::DebugServer;
///
/// let server = DebugServer::builder()
///     .bind("0.0.0.0:0")
///     .exposed_to_the_network() // or it would not start
///     .allow_host("box.internal")
///     .metrics(|| "answers_total 42\n".to_owned())
///     .start(&CancelToken::new())
///     .unwrap();
/// let get = |path: &str, host: &str| {
///     let mut client = TcpStream::connect(("127.0.0.1", server.local_addr().port())).unwrap();
///     write!(client, "GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n").unwrap();
///     let mut answer = String::new();
///     client.read_to_string(&mut answer).unwrap();
///     answer
/// };
/// assert!(get("/metrics", "box.internal:6060").ends_with("answers_total 42\n"));
/// assert!(get("/metrics", "elsewhere.example").starts_with("HTTP/1.1 403"));
/// ```
#[must_use = "a builder does nothing until it is started"]
pub struct DebugServerBuilder {
    bind: io::Result<Vec<SocketAddr>>,
    exposed: bool,
    hosts: Vec<String>,
    metrics: Option<Render>,
    stack_signal: Option<StackSignal>,
}

impl DebugServerBuilder {
    /// The address to listen on, `127.0.0.1:6060` by default; port 0 is any free one. A name is
    /// looked up here, and every address that it stands for must be one of loopback.
    pub fn bind(mut self, address: impl ToSocketAddrs) -> Self {
        self.bind = address.to_socket_addrs().map(Iterator::collect);
        self
    }

    /// Lets [`bind`](Self::bind) take addresses that other machines reach. Whoever reaches them sees
    /// the names, source lines and stacks of this process: there are no passwords and no TLS. Put
    /// them in front, or use a tunnel to loopback instead (`ssh -L`).
    ///
    /// The names that clients will use must be told with [`allow_host`](Self::allow_host).
    pub fn exposed_to_the_network(mut self) -> Self {
        self.exposed = true;
        self
    }

    /// Also answers requests for this host, besides `localhost`, `127.0.0.1` and `[::1]`. Without a
    /// port: each is taken. Others are answered 403, so that no site can have a browser ask here by
    /// a name of its own.
    pub fn allow_host(mut self, host: &str) -> Self {
        self.hosts.push(host.to_ascii_lowercase());
        self
    }

    /// What `/metrics` answers, in the text format of Prometheus; such as
    /// `PrometheusHandle::render` of metrics-exporter-prometheus. A panic in it is answered 500.
    /// Must not hold the server.
    pub fn metrics(mut self, render: impl Fn() -> String + Send + Sync + 'static) -> Self {
        self.metrics = Some(Box::new(render));
        self
    }

    /// Also takes requests with `signals=1`, for the stacks of threads that run. A signal does something
    /// to the threads that get it, as [`StackSignal`] says, so who looks can only have it if the program
    /// allows it. Without this, such requests are answered 403.
    ///
    /// # Examples
    ///
    /// ```
    /// # if cfg!(any(not(target_os = "linux"), not(target_arch = "x86_64"), cleanbreak_portable)) { return }
    /// use std::io::{Read, Write};
    /// use std::net::TcpStream;
    /// use cleanbreak::CancelToken;
    /// use cleanbreak::debug::DebugServer;
    /// use cleanbreak::diagnose::StackSignal;
    ///
    /// let ask = |server: &DebugServer| {
    ///     let mut client = TcpStream::connect(server.local_addr()).unwrap();
    ///     let path = "/debug/threads?debug=2&signals=1";
    ///     write!(client, "GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    ///     let mut answer = String::new();
    ///     client.read_to_string(&mut answer).unwrap();
    ///     answer
    /// };
    /// let builder = || DebugServer::builder().bind("127.0.0.1:0");
    /// let without = builder().start(&CancelToken::new()).unwrap();
    /// assert!(ask(&without).starts_with("HTTP/1.1 403"));
    ///
    /// let signal = StackSignal::install().unwrap();
    /// let with = builder().stack_signal(signal).start(&CancelToken::new()).unwrap();
    /// assert!(ask(&with).starts_with("HTTP/1.1 200"));
    /// ```
    pub fn stack_signal(mut self, signal: StackSignal) -> Self {
        self.stack_signal = Some(signal);
        self
    }

    /// Listens, until `token` is cancelled or the server dropped. Time limits go by the token's
    /// clock.
    ///
    /// # Errors
    ///
    /// See [`DebugError`]; then nothing listens.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanbreak::CancelToken;
    /// use cleanbreak::debug::{DebugError, DebugServer};
    ///
    /// let server = DebugServer::builder().bind("0.0.0.0:0").start(&CancelToken::new());
    /// assert!(matches!(server.unwrap_err(), DebugError::NotLoopback(_)));
    /// ```
    #[track_caller]
    pub fn start(self, token: &CancelToken) -> Result<DebugServer, DebugError> {
        let addresses = self.bind.map_err(DebugError::Bind)?;
        let beyond = addresses.iter().find(|it| !it.ip().is_loopback());
        if let Some(address) = beyond.filter(|_| !self.exposed) {
            return Err(DebugError::NotLoopback(*address));
        }
        let listener = TcpListener::bind(&addresses[..]).map_err(DebugError::Bind)?;
        let address = listener.local_addr().map_err(DebugError::Bind)?;
        let clock = Clock::system();
        let shared = Arc::new(Shared {
            token: token.child(),
            since: clock.now(),
            clock,
            allowed: self.hosts,
            metrics: self.metrics,
            stack_signal: self.stack_signal,
            watched: Watched::default(),
            dumps: Bulkhead::new(1).with_queue(WAITING).unlisted(),
            renders: Bulkhead::new(1).with_queue(WAITING).unlisted(),
        });
        let spec = Spec::new("debug-acceptor", Location::caller()).under(shared.token.scope());
        let acceptor = shared.clone();
        let acceptor = threads::spawn(spec, move || accept::accept(&acceptor, listener));
        Ok(DebugServer {
            shared,
            address,
            acceptor: Some(acceptor.map_err(DebugError::Spawn)?),
        })
    }
}

impl DebugServer {
    /// For a server on `127.0.0.1:6060`, or with other settings.
    pub fn builder() -> DebugServerBuilder {
        DebugServerBuilder {
            bind: Ok(vec![([127, 0, 0, 1], 6060).into()]),
            exposed: false,
            hosts: Vec::new(),
            metrics: None,
            stack_signal: None,
        }
    }

    /// Where it listens.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// The address of the page, for people.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}/debug/", self.address)
    }

    /// Shows `token`, and the tree below it, under a name; in the place of one that had it. It is
    /// not kept: when it is gone, so is the name.
    ///
    /// `false` if there are 256 names of tokens that are alive; then it is not shown.
    ///
    /// # Performance
    ///
    /// A lock and an allocation. A look at the page takes the lock of each token that it shows (200
    /// for a name at most, 20 children of each) for as long as it takes to count up to 20.
    pub fn watch_token(&self, name: &str, token: &CancelToken) -> bool {
        self.shared.watched.watch_token(name, token)
    }

    /// Shows a value of your own under a name, such as the length of a queue or the use of a
    /// bulkhead; in the place of one that had it. It is called when somebody looks, on a thread of the
    /// server's; keep it short, and without the server in it. A panic in it is contained. What is
    /// longer than 4 kB is cut.
    ///
    /// `false` if there are 256 values; then it is dropped.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::sync::Arc;
    /// use cleanbreak::{Bulkhead, CancelToken, debug::DebugServer};
    ///
    /// let server = DebugServer::builder().bind("127.0.0.1:0").start(&CancelToken::new()).unwrap();
    /// let uploads = Bulkhead::new(4);
    /// let shown = uploads.clone();
    /// let value = move || format!("{} of {} in use", shown.in_use(), shown.capacity());
    /// assert!(server.watch_value("uploads", value));
    /// ```
    pub fn watch_value(
        &self,
        name: &str,
        value: impl Fn() -> String + Send + Sync + 'static,
    ) -> bool {
        self.shared.watched.watch_value(name, Arc::new(value))
    }
}

impl Shared {
    /// Whether requests for `host` are meant for this server.
    pub(super) fn is_at_home(&self, host: &str) -> bool {
        AT_HOME.contains(&host) || self.allowed.iter().any(|allowed| allowed == host)
    }

    /// Makes the calling thread one of this server's.
    pub(super) fn enter(&self) {
        SERVES.set(std::ptr::from_ref(self).addr());
    }

    fn serves_here(&self) -> bool {
        SERVES.get() == std::ptr::from_ref(self).addr()
    }
}

impl Drop for DebugServer {
    fn drop(&mut self) {
        self.shared
            .token
            .cancel_with("the debug server was dropped");
        let acceptor = self.acceptor.take();
        // One of its own threads would wait for itself. They end by themselves.
        if let Some(acceptor) = acceptor.filter(|_| !self.shared.serves_here()) {
            acceptor.join();
        }
    }
}

impl fmt::Debug for DebugServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DebugServer")
            .field("address", &self.address)
            .field("token", &self.shared.token)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for DebugServerBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DebugServerBuilder")
            .field("bind", &self.bind)
            .field("exposed", &self.exposed)
            .field("hosts", &self.hosts)
            .field("stack_signal", &self.stack_signal)
            .finish_non_exhaustive()
    }
}

/// Why a [`DebugServer`] could not be started.
///
/// # Examples
///
/// ```
/// use std::error::Error;
/// use std::io::ErrorKind;
/// use std::net::TcpListener;
/// use cleanbreak::CancelToken;
/// use cleanbreak::debug::{DebugError, DebugServer};
///
/// let start = |address: &str| DebugServer::builder().bind(address).start(&CancelToken::new());
/// let taken = TcpListener::bind("127.0.0.1:0").unwrap();
/// let error = start(&taken.local_addr().unwrap().to_string()).unwrap_err();
/// assert_eq!(error.to_string(), "the debug server cannot listen");
/// let DebugError::Bind(why) = &error else { unreachable!() };
/// assert_eq!(why.kind(), ErrorKind::AddrInUse);
/// assert!(error.source().is_some());
///
/// let DebugError::NotLoopback(address) = start("0.0.0.0:80").unwrap_err() else { unreachable!() };
/// assert_eq!(address.port(), 80);
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub enum DebugError {
    /// The address is none, or is taken, or the system does not allow it.
    Bind(io::Error),
    /// Other machines may reach the address. If that is what you want, say so:
    /// [`exposed_to_the_network`](DebugServerBuilder::exposed_to_the_network).
    NotLoopback(SocketAddr),
    /// The thread that accepts could not be started.
    Spawn(ThreadError),
}

impl fmt::Display for DebugError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bind(_) => f.write_str("the debug server cannot listen"),
            Self::NotLoopback(address) => write!(
                f,
                "{address} is not an address of loopback, and exposed_to_the_network was not said"
            ),
            Self::Spawn(_) => f.write_str("the debug server's thread could not be started"),
        }
    }
}

impl std::error::Error for DebugError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Bind(error) => Some(error),
            Self::Spawn(error) => Some(error),
            Self::NotLoopback(_) => None,
        }
    }
}
