//! HTTP/1.1 heads and answers, as pure functions over bytes: nothing here reads a socket or a
//! clock.
//!
//! The syntax is httparse's business; ours is what it leaves to the caller and what request
//! smuggling lives on: one way to find the end of a message, or a refusal.

use std::fmt;
use std::sync::Arc;

/// More header lines than any client of this service has reason to send.
const MAX_HEADERS: usize = 64;

/// A request that is refused: the status, and a sentence for the person who reads the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) status: u16,
    pub(crate) why: &'static str,
}

pub(crate) const fn refuse(status: u16, why: &'static str) -> Refusal {
    Refusal { status, why }
}

/// How the end of the request body is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Framing {
    Length(u64),
    Chunked,
}

/// What the service needs of a request head; everything else is dropped with the buffer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) query: String,
    pub(crate) framing: Framing,
    /// The client waits for `100 Continue` before it sends the body.
    pub(crate) expects_continue: bool,
    /// The client will not send another request on this connection.
    pub(crate) last: bool,
}

/// Reads a head from the front of `input`: `None` while it is incomplete, else the head and its
/// length in bytes.
pub(crate) fn parse_head(input: &[u8], max_head: usize) -> Result<Option<(Head, usize)>, Refusal> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut request = httparse::Request::new(&mut headers);
    let length = match request.parse(input).map_err(syntax)? {
        httparse::Status::Complete(length) if length <= max_head => length,
        httparse::Status::Partial if input.len() < max_head => return Ok(None),
        _ => return Err(refuse(431, "the request head is too large")),
    };
    Ok(Some((interpret(&request)?, length)))
}

fn syntax(error: httparse::Error) -> Refusal {
    match error {
        httparse::Error::TooManyHeaders => refuse(431, "too many header lines"),
        httparse::Error::Version => refuse(505, "only HTTP/1.0 and HTTP/1.1 are spoken here"),
        _ => refuse(400, "the request head is malformed"),
    }
}

fn interpret(request: &httparse::Request<'_, '_>) -> Result<Head, Refusal> {
    let http_1_0 = request.version == Some(0);
    let fields = Fields::gather(request.headers)?;
    if fields.hosts > 1 || (fields.hosts == 0 && !http_1_0) {
        return Err(refuse(400, "exactly one Host header is needed"));
    }
    let (path, query) = split_target(request.path.unwrap_or_default())?;
    Ok(Head {
        method: request.method.unwrap_or_default().to_owned(),
        path: path.to_owned(),
        query: query.to_owned(),
        framing: fields.framing(http_1_0)?,
        // An HTTP/1.0 client does not know the interim answer.
        expects_continue: fields.expects_continue && !http_1_0,
        // Keep-alive in HTTP/1.0 is an extension with traps of its own; closing is always right.
        last: http_1_0 || fields.close,
    })
}

/// The header fields that decide framing and the life of the connection.
#[derive(Default)]
struct Fields {
    hosts: usize,
    length: Option<u64>,
    chunked: bool,
    expects_continue: bool,
    close: bool,
}

impl Fields {
    fn gather(headers: &[httparse::Header<'_>]) -> Result<Self, Refusal> {
        let mut fields = Self::default();
        for header in headers {
            fields.note(header.name, header.value)?;
        }
        Ok(fields)
    }

    fn note(&mut self, name: &str, value: &[u8]) -> Result<(), Refusal> {
        let is = |wanted: &str| name.eq_ignore_ascii_case(wanted);
        if is("host") {
            self.hosts += 1;
        } else if is("content-length") {
            // Even two equal lengths are refused: they show that someone on the way joins messages.
            if self.length.replace(parse_length(value)?).is_some() {
                return Err(refuse(400, "more than one Content-Length"));
            }
        } else if is("transfer-encoding") {
            if self.chunked || !value.trim_ascii().eq_ignore_ascii_case(b"chunked") {
                return Err(refuse(
                    501,
                    "chunked is the only transfer coding known here",
                ));
            }
            self.chunked = true;
        } else if is("expect") {
            if !value.eq_ignore_ascii_case(b"100-continue") {
                return Err(refuse(417, "100-continue is the only expectation met here"));
            }
            self.expects_continue = true;
        } else if is("connection") {
            let mut options = value.split(|&byte| byte == b',').map(<[u8]>::trim_ascii);
            self.close |= options.any(|option| option.eq_ignore_ascii_case(b"close"));
        }
        Ok(())
    }

    /// RFC 9112 section 6.3, with every choice that it leaves to the server taken against
    /// ambiguity.
    fn framing(&self, http_1_0: bool) -> Result<Framing, Refusal> {
        match (self.chunked, self.length) {
            (true, Some(_)) => Err(refuse(400, "both Content-Length and Transfer-Encoding")),
            (true, None) if http_1_0 => Err(refuse(400, "Transfer-Encoding in HTTP/1.0")),
            (true, None) => Ok(Framing::Chunked),
            (false, length) => Ok(Framing::Length(length.unwrap_or(0))),
        }
    }
}

fn parse_length(value: &[u8]) -> Result<u64, Refusal> {
    // `parse` alone would take a leading plus sign.
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return Err(refuse(400, "Content-Length is not a number"));
    }
    let digits = std::str::from_utf8(value).unwrap_or_default();
    digits
        .parse()
        .map_err(|_| refuse(413, "the body is too large"))
}

/// Splits `/path?query`; a proxy's absolute form (`http://host/path`) is cut down to it.
fn split_target(target: &str) -> Result<(&str, &str), Refusal> {
    let local = match target.split_once("://") {
        Some((scheme, rest)) if !scheme.contains('/') => {
            rest.find('/').map_or("/", |at| &rest[at..])
        }
        _ => target,
    };
    if !local.starts_with('/') {
        return Err(refuse(400, "the request target must be a path"));
    }
    Ok(local.split_once('?').unwrap_or((local, "")))
}

/// The one value of a query parameter. Two values are refused: which of them counts is anybody's
/// guess.
pub(crate) fn parameter<'q>(query: &'q str, name: &str) -> Result<Option<&'q str>, Refusal> {
    let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    let mut values = pairs
        .filter(|(key, _)| *key == name)
        .map(|(_, value)| value);
    match (values.next(), values.next()) {
        (value, None) => Ok(value),
        _ => Err(refuse(400, "a query parameter is given twice")),
    }
}

/// An answer, before it is known whether the connection stays open. The body is shared, never
/// copied per client.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    fields: String,
    body: Arc<[u8]>,
}

impl Answer {
    pub(crate) fn new(status: u16) -> Self {
        Self {
            status,
            fields: String::new(),
            body: Arc::from([]),
        }
    }

    pub(crate) fn text(status: u16, text: impl fmt::Display) -> Self {
        let body = format!("{text}\n").into_bytes();
        Self::new(status)
            .field("Content-Type", "text/plain; charset=utf-8")
            .body(body)
    }

    pub(crate) fn field(mut self, name: &str, value: impl fmt::Display) -> Self {
        use fmt::Write as _;
        let _ = write!(self.fields, "{name}: {value}\r\n");
        self
    }

    pub(crate) fn body(mut self, body: impl Into<Arc<[u8]>>) -> Self {
        self.body = body.into();
        self
    }

    /// The bytes to send. A Date line is left out: the service keeps no calendar, and RFC 9110 lets
    /// a server without a clock do so. `to_head` is for an answer to HEAD, which announces a body
    /// and never carries it.
    pub(crate) fn encode(&self, close: bool, to_head: bool) -> Vec<u8> {
        let mut head = format!(
            "HTTP/1.1 {} {}\r\n{}",
            self.status,
            reason(self.status),
            self.fields
        );
        // 204 has neither a body nor a length, by definition.
        if self.status != 204 {
            head += &format!("Content-Length: {}\r\n", self.body.len());
        }
        head += if close {
            "Connection: close\r\n\r\n"
        } else {
            "\r\n"
        };
        let mut bytes = head.into_bytes();
        if self.status != 204 && !to_head {
            bytes.extend_from_slice(&self.body);
        }
        bytes
    }
}

impl From<Refusal> for Answer {
    fn from(refusal: Refusal) -> Self {
        let answer = Self::text(refusal.status, refusal.why);
        // What is full or going away now may be there again in a second.
        if refusal.status == 503 {
            answer.field("Retry-After", 1)
        } else {
            answer
        }
    }
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        204 => "No Content",
        400 => "Bad Request",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        413 => "Content Too Large",
        417 => "Expectation Failed",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        503 => "Service Unavailable",
        505 => "HTTP Version Not Supported",
        507 => "Insufficient Storage",
        _ => "Unknown",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX: usize = 1024;

    fn head(text: &str) -> Result<Option<(Head, usize)>, Refusal> {
        parse_head(text.as_bytes(), MAX)
    }

    fn status(lines: &str) -> u16 {
        match head(&format!("POST / HTTP/1.1\r\nHost: a\r\n{lines}\r\n")) {
            Ok(Some(_)) => 200,
            Ok(None) => 0,
            Err(refusal) => refusal.status,
        }
    }

    #[test]
    fn a_head_is_read_once_it_is_complete_and_not_before() {
        let text = "GET /poll?topic=a&since=3 HTTP/1.1\r\nHost: a\r\n\r\n";
        for cut in 0..text.len() {
            assert_eq!(head(&text[..cut]), Ok(None), "after {cut} bytes");
        }
        let (parsed, length) = head(&format!("{text}GET")).unwrap().unwrap();
        assert_eq!(length, text.len(), "the next request stays in the buffer");
        assert_eq!(
            (parsed.path.as_str(), parsed.query.as_str()),
            ("/poll", "topic=a&since=3")
        );
        assert_eq!(parsed.framing, Framing::Length(0));
        assert!(!parsed.last && !parsed.expects_continue);
    }

    #[test]
    fn the_end_of_a_body_is_found_in_one_way_or_not_at_all() {
        assert_eq!(status("Content-Length: 5\r\n"), 200);
        assert_eq!(status("Transfer-Encoding: Chunked\r\n"), 200);
        assert_eq!(status("Content-Length: 5\r\nContent-Length: 5\r\n"), 400);
        assert_eq!(
            status("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n"),
            400
        );
        assert_eq!(status("Content-Length: +5\r\n"), 400);
        assert_eq!(status("Content-Length: 5, 5\r\n"), 400);
        assert_eq!(status("Content-Length: 99999999999999999999\r\n"), 413);
        assert_eq!(status("Transfer-Encoding: gzip, chunked\r\n"), 501);
        assert_eq!(
            status("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"),
            501
        );
    }

    #[test]
    fn heads_that_break_the_rules_are_refused_with_their_own_status() {
        assert_eq!(status("Host: b\r\n"), 400);
        assert_eq!(status("Expect: tea\r\n"), 417);
        assert_eq!(status(&"X: y\r\n".repeat(MAX_HEADERS)), 431);
        assert_eq!(status(&format!("X: {}\r\n", "y".repeat(MAX))), 431);
        assert_eq!(head(&"G".repeat(MAX)).unwrap_err().status, 431);
        assert_eq!(head("GET / HTTP/1.1\r\n\r\n").unwrap_err().status, 400);
        assert_eq!(head("GET / HTTP/2.0\r\n").unwrap_err().status, 505);
        assert_eq!(head("GET\u{7f} / \r\n").unwrap_err().status, 400);
        assert_eq!(
            head("CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n")
                .unwrap_err()
                .status,
            400
        );
    }

    #[test]
    fn an_absolute_target_is_cut_down_to_its_path() {
        let (parsed, _) = head("GET http://a:1/x?y=http://b HTTP/1.1\r\nHost: a\r\n\r\n")
            .unwrap()
            .unwrap();
        assert_eq!(
            (parsed.path.as_str(), parsed.query.as_str()),
            ("/x", "y=http://b")
        );
        assert_eq!(split_target("http://a").unwrap(), ("/", ""));
    }

    #[test]
    fn close_and_old_clients_end_the_connection() {
        assert!(
            head("GET / HTTP/1.1\r\nHost: a\r\nConnection: te, Close\r\n\r\n")
                .unwrap()
                .unwrap()
                .0
                .last
        );
        assert!(head("GET / HTTP/1.0\r\n\r\n").unwrap().unwrap().0.last);
    }

    #[test]
    fn a_parameter_given_twice_is_refused() {
        assert_eq!(parameter("topic=a&since=2", "since"), Ok(Some("2")));
        assert_eq!(parameter("topic=a", "since"), Ok(None));
        assert_eq!(
            parameter("since=1&since=2", "since").unwrap_err().status,
            400
        );
    }

    #[test]
    fn an_answer_carries_a_body_only_where_one_is_allowed() {
        let sent =
            |answer: Answer, to_head| String::from_utf8(answer.encode(false, to_head)).unwrap();
        assert_eq!(
            sent(Answer::new(200).field("X-Seq", 7).body(*b"news"), false),
            "HTTP/1.1 200 OK\r\nX-Seq: 7\r\nContent-Length: 4\r\n\r\nnews"
        );
        assert_eq!(
            sent(Answer::new(204), false),
            "HTTP/1.1 204 No Content\r\n\r\n"
        );
        assert!(sent(Answer::text(405, "no"), true).ends_with("Content-Length: 3\r\n\r\n"));
        let closing = Answer::from(refuse(503, "bye")).encode(true, false);
        assert!(
            String::from_utf8(closing)
                .unwrap()
                .contains("Connection: close\r\n\r\nbye\n")
        );
    }
}
