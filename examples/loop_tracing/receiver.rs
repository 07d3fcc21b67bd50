//! A collector for one run: takes spans by OTLP over HTTP on the loopback interface, and keeps them.
//! Bounded in connections, bytes and time; every thread is of a group, and joined on return.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use cleanbreak::{CancelToken, GroupBuilder, scope};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use prost::Message;

const CONNECTIONS: usize = 8;
const LONGEST_HEAD: usize = 8 * 1024;
const LONGEST_BODY: usize = 16 * 1024 * 1024;
const HEADERS: usize = 32;

/// For a request to come whole, the silence before it included.
const PATIENCE: Duration = Duration::from_secs(10);

const TYPE: &str = "application/x-protobuf";

#[derive(Default)]
pub(crate) struct Received {
    pub(crate) requests: Vec<ExportTraceServiceRequest>,
    /// What was no such request, and why.
    pub(crate) refused: Vec<String>,
}

/// Where the connections put what they receive.
type Inbox = Mutex<Received>;

/// Receives while `body` runs, which is given the address. Whatever its result is, what came is
/// returned.
pub(crate) fn serve<T: Send>(
    body: impl FnOnce(SocketAddr) -> anyhow::Result<T>,
) -> anyhow::Result<(anyhow::Result<T>, Received)> {
    let listener = TcpListener::bind(("127.0.0.1", 0))?;
    let address = listener.local_addr()?;
    let inbox = Inbox::default();
    let closing = CancelToken::new();
    // An accept can only be ended by a connection.
    let _knock = closing.on_cancel(move || drop(TcpStream::connect_timeout(&address, PATIENCE)));
    let result = scope(&CancelToken::new(), |group| {
        let _close = closing.clone().drop_guard(); // also by a panic
        group.spawn_named("collector", |_| accept(listener, &closing, &inbox))?;
        Ok(body(address))
    })?;
    let received = inbox.into_inner().unwrap_or_else(PoisonError::into_inner);
    Ok((result, received))
}

/// A thread for each connection, until `closing`.
fn accept(listener: TcpListener, closing: &CancelToken, inbox: &Inbox) -> anyhow::Result<()> {
    // A backlog of none: one connection too many is closed, and does not wait.
    let connections = GroupBuilder::new().name("connection");
    let connections = connections.limit(CONNECTIONS).backlog(0);
    connections.scope(closing, |group| {
        'accepting: loop {
            let accepted = listener.accept();
            if closing.is_cancelled() {
                break 'accepting;
            }
            match accepted {
                Ok((socket, _)) => {
                    let converse = move |told: &CancelToken| {
                        converse(socket, told, inbox);
                        Ok(())
                    };
                    if group.try_spawn(converse).is_err() {
                        refuse(inbox, &"too many connections");
                    }
                }
                Err(error) => {
                    refuse(inbox, &error);
                    // No descriptor left, say: not a reason to spin.
                    if closing.wait_timeout(Duration::from_millis(50)) {
                        break 'accepting;
                    }
                }
            }
        }
        Ok(())
    })
}

fn refuse(inbox: &Inbox, why: &dyn fmt::Display) {
    let mut inbox = inbox.lock().unwrap_or_else(PoisonError::into_inner);
    inbox.refused.push(why.to_string());
}

/// Requests one after the other, until the client goes, we close, or something is wrong.
fn converse(socket: TcpStream, told: &CancelToken, inbox: &Inbox) {
    let mut connection = Connection {
        socket: Arc::new(socket),
        input: Vec::new(),
    };
    'requests: loop {
        let told = told.child_timeout(PATIENCE);
        let socket = connection.socket.clone();
        // Ends a read or write that is blocked.
        let _hang_up = told.on_cancel(move || drop(socket.shutdown(Shutdown::Both)));
        let answer = match connection.request() {
            Ok(Some(request)) => {
                let mut inbox = inbox.lock().unwrap_or_else(PoisonError::into_inner);
                inbox.requests.push(request);
                "200 OK"
            }
            Ok(None) => break 'requests,
            Err(Refusal { status, why }) => {
                refuse(inbox, &format_args!("{status}: {why}"));
                status
            }
        };
        if connection.answer(answer).is_err() {
            break 'requests;
        }
        if answer != "200 OK" {
            connection.listen_out();
            break 'requests;
        }
    }
}

struct Connection {
    socket: Arc<TcpStream>,
    input: Vec<u8>,
}

struct Refusal {
    status: &'static str,
    why: String,
}

impl Refusal {
    fn new(status: &'static str, why: impl fmt::Display) -> Self {
        let why = why.to_string();
        Self { status, why }
    }
}

impl Connection {
    /// `None` when the client has gone, or we have hung up, between two requests.
    fn request(&mut self) -> Result<Option<ExportTraceServiceRequest>, Refusal> {
        let (head, body) = 'head: loop {
            if let Some(found) = head(&self.input)? {
                break 'head found;
            }
            if self.input.len() > LONGEST_HEAD {
                return Err(Refusal::new("431 Request Header Fields Too Large", "head"));
            }
            match self.fill() {
                Ok(0) | Err(_) if self.input.is_empty() => return Ok(None),
                Ok(0) | Err(_) => return Err(Refusal::new("400 Bad Request", "half a head")),
                Ok(_) => {}
            }
        };
        while self.input.len() < head + body {
            if self.fill().unwrap_or(0) == 0 {
                return Err(Refusal::new("400 Bad Request", "half a body"));
            }
        }
        let request = ExportTraceServiceRequest::decode(&self.input[head..head + body]);
        self.input.drain(..head + body);
        let wrong = |error| Refusal::new("400 Bad Request", error);
        request.map(Some).map_err(wrong)
    }

    fn fill(&mut self) -> io::Result<usize> {
        let mut piece = [0; 16 * 1024];
        let read = (&*self.socket).read(&mut piece)?;
        self.input.extend_from_slice(&piece[..read]);
        Ok(read)
    }

    /// Closing a socket that has something unread would take the answer back.
    fn listen_out(&mut self) {
        drop(self.socket.shutdown(Shutdown::Write));
        let mut rest = (&*self.socket).take(LONGEST_BODY as u64);
        drop(io::copy(&mut rest, &mut io::sink()));
    }

    /// An empty message is a full success.
    fn answer(&self, status: &str) -> io::Result<()> {
        let close = if status == "200 OK" {
            "keep-alive"
        } else {
            "close"
        };
        let head = format!(
            "HTTP/1.1 {status}\r\ncontent-type: {TYPE}\r\ncontent-length: 0\r\nconnection: {close}\r\n\r\n"
        );
        (&*self.socket).write_all(head.as_bytes())
    }
}

/// The lengths of the head and of the body that it announces; `None` if there is not enough yet.
fn head(input: &[u8]) -> Result<Option<(usize, usize)>, Refusal> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS];
    let mut request = httparse::Request::new(&mut headers);
    let wrong = |error| Refusal::new("400 Bad Request", error);
    let httparse::Status::Complete(length) = request.parse(input).map_err(wrong)? else {
        return Ok(None);
    };
    if request.path != Some("/v1/traces") {
        let path = request.path.unwrap_or_default();
        return Err(Refusal::new("404 Not Found", path));
    }
    if request.method != Some("POST") {
        let method = request.method.unwrap_or_default();
        return Err(Refusal::new("405 Method Not Allowed", method));
    }
    let header = |name: &str| {
        let mut found = request.headers.iter();
        let found = found.find(|header| header.name.eq_ignore_ascii_case(name));
        found.map(|header| String::from_utf8_lossy(header.value))
    };
    if header("content-type").is_none_or(|kind| kind != TYPE) {
        return Err(Refusal::new("415 Unsupported Media Type", "not protobuf"));
    }
    if header("content-encoding").is_some() || header("transfer-encoding").is_some() {
        return Err(Refusal::new("415 Unsupported Media Type", "encoded"));
    }
    let body: Option<usize> = header("content-length").and_then(|value| value.parse().ok());
    match body {
        Some(body) if body <= LONGEST_BODY => Ok(Some((length, body))),
        Some(body) => Err(Refusal::new("413 Content Too Large", body)),
        None => Err(Refusal::new("411 Length Required", "no length")),
    }
}
