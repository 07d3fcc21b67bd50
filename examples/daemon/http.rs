//! As much HTTP as a scrape needs, as pure functions: one request on a connection, and no body.

use httparse::{Request, Status};

/// The longest request head that is read.
pub(crate) const MOST_BYTES: usize = 8 * 1024;
const MOST_HEADERS: usize = 32;

/// What is asked for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Asked {
    pub(crate) path: String,
    pub(crate) head_only: bool,
}

/// An answer without its head.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    content_type: &'static str,
    body: String,
}

impl Answer {
    pub(crate) fn text(status: u16, text: impl std::fmt::Display) -> Self {
        Self {
            status,
            content_type: "text/plain; charset=utf-8",
            body: format!("{text}\n"),
        }
    }

    /// In the text format of Prometheus.
    pub(crate) fn metrics(body: String) -> Self {
        Self {
            status: 200,
            content_type: "text/plain; version=0.0.4; charset=utf-8",
            body,
        }
    }

    /// The bytes to send; those of the body not for `HEAD`, which asks for its length.
    pub(crate) fn encode(&self, head_only: bool) -> Vec<u8> {
        let Self {
            status,
            content_type,
            body,
        } = self;
        let length = body.len();
        let allow = match status {
            405 => "Allow: GET, HEAD\r\n",
            _ => "",
        };
        let reason = reason(*status);
        let body = if head_only { "" } else { body };
        format!(
            "HTTP/1.1 {status} {reason}\r\nContent-Type: {content_type}\r\n\
             Content-Length: {length}\r\n{allow}Connection: close\r\n\r\n{body}"
        )
        .into_bytes()
    }
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        400 => "Bad Request",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        431 => "Request Header Fields Too Large",
        503 => "Service Unavailable",
        505 => "HTTP Version Not Supported",
        _ => "Unknown",
    }
}

/// Reads a request head: `None` while it is not complete, or the refusal.
pub(crate) fn parse(input: &[u8]) -> Result<Option<Asked>, Answer> {
    let mut headers = [httparse::EMPTY_HEADER; MOST_HEADERS];
    let mut request = Request::new(&mut headers);
    match request.parse(input) {
        Ok(Status::Complete(_)) => interpret(&request).map(Some),
        Ok(Status::Partial) if input.len() < MOST_BYTES => Ok(None),
        Ok(Status::Partial) | Err(httparse::Error::TooManyHeaders) => {
            Err(Answer::text(431, "the request head is too large"))
        }
        Err(httparse::Error::Version) => Err(Answer::text(505, "HTTP/1 is spoken here")),
        Err(error) => Err(Answer::text(400, error)),
    }
}

fn interpret(request: &Request<'_, '_>) -> Result<Asked, Answer> {
    let is_host = |header: &&httparse::Header<'_>| header.name.eq_ignore_ascii_case("host");
    let hosts = request.headers.iter().filter(is_host).count();
    if hosts > 1 || (hosts == 0 && request.version == Some(1)) {
        return Err(Answer::text(400, "exactly one Host is needed"));
    }
    let target = request.path.unwrap_or_default();
    if !target.starts_with('/') {
        return Err(Answer::text(400, "the target must be a path"));
    }
    let path = target.split('?').next().unwrap_or_default().to_owned();
    match request.method.unwrap_or_default() {
        "GET" => Ok(Asked {
            path,
            head_only: false,
        }),
        "HEAD" => Ok(Asked {
            path,
            head_only: true,
        }),
        _ => Err(Answer::text(405, "GET and HEAD are answered here")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(input: &str) -> u16 {
        match parse(input.as_bytes()) {
            Ok(Some(_)) => 200,
            Ok(None) => 0,
            Err(answer) => answer.status,
        }
    }

    #[test]
    fn a_head_is_read_when_it_is_complete_and_not_before() {
        let text = "GET /metrics?x=y HTTP/1.1\r\nHost: a\r\n\r\n";
        for cut in 0..text.len() {
            assert_eq!(status(&text[..cut]), 0, "after {cut} bytes");
        }
        let path = "/metrics".to_owned();
        let head_only = false;
        assert_eq!(parse(text.as_bytes()), Ok(Some(Asked { path, head_only })));
    }

    #[test]
    fn what_is_no_request_is_refused_with_its_own_status() {
        assert_eq!(status("HEAD / HTTP/1.0\r\n\r\n"), 200);
        assert_eq!(status("GET / HTTP/1.1\r\n\r\n"), 400);
        assert_eq!(status("GET / HTTP/1.1\r\nHost: a\r\nhost: b\r\n\r\n"), 400);
        assert_eq!(status("GET a HTTP/1.1\r\nHost: a\r\n\r\n"), 400);
        assert_eq!(status("\u{7f}\r\n\r\n"), 400);
        assert_eq!(status("DELETE / HTTP/1.1\r\nHost: a\r\n\r\n"), 405);
        assert_eq!(status(&"x".repeat(MOST_BYTES)), 431);
        let many = "X: y\r\n".repeat(MOST_HEADERS + 1);
        assert_eq!(status(&format!("GET / HTTP/1.1\r\n{many}\r\n")), 431);
        assert_eq!(status("GET / HTTP/2.0\r\nHost: a\r\n\r\n"), 505);
    }

    #[test]
    fn an_answer_to_head_announces_the_body_and_does_not_carry_it() {
        let answer = Answer::text(405, "no");
        let full = String::from_utf8(answer.encode(false)).unwrap();
        let head = String::from_utf8(answer.encode(true)).unwrap();
        assert_eq!(full, format!("{head}no\n"));
        assert!(head.contains("Content-Length: 3\r\nAllow: GET, HEAD\r\n"));
    }
}
