//! What a client asks for: a request line and a host, read strictly.
//!
//! Of HTTP/1.1 (RFC 9112) this takes the part that a browser, curl and `go tool pprof` send: one
//! request for each connection, without a body. So there is no framing, which is the part that is
//! easy to get wrong, and nothing for a parser of more headers to do. What is unusual (folded lines,
//! bare line feeds, two hosts, an absolute target) is refused and not guessed.

use std::io::{self, Read};

/// A head longer than this is refused.
pub(super) const LONGEST_HEAD: usize = 8 * 1024;

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Request {
    pub(super) method: Method,
    /// Without the query, as it was sent: what is escaped is no path of ours.
    pub(super) path: String,
    query: String,
    /// Without the port, in lower case.
    pub(super) host: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Method {
    Get,
    Head,
    Other,
}

/// Why there is no request.
#[derive(Debug)]
pub(super) enum Refusal {
    /// It is not HTTP, or not what is taken of it; what is wrong with it.
    Bad(&'static str),
    TooLong,
    Version,
    /// The client went away, or was too slow; or the server ends.
    Lost(io::Error),
}

use Refusal::{Bad, Lost, TooLong, Version};

/// Reads up to the empty line.
pub(super) fn read(from: &mut impl Read) -> Result<Request, Refusal> {
    let mut head = Vec::with_capacity(1024);
    let mut chunk = [0; 1024];
    loop {
        // The end may have begun in what was there before.
        let unseen = head.len().saturating_sub(3);
        match from.read(&mut chunk) {
            Ok(0) => return Err(Lost(io::ErrorKind::UnexpectedEof.into())),
            Ok(length) => head.extend_from_slice(&chunk[..length]),
            Err(error) => return Err(Lost(error)),
        }
        let mut ends = head[unseen..].windows(4);
        if let Some(end) = ends.position(|four| four == b"\r\n\r\n") {
            let end = unseen + end;
            if end > LONGEST_HEAD {
                return Err(TooLong);
            }
            return parse(&head[..end]);
        }
        if head.len() >= LONGEST_HEAD + 4 {
            return Err(TooLong);
        }
    }
}

/// The head without the empty line.
fn parse(head: &[u8]) -> Result<Request, Refusal> {
    let plain = |byte: &u8| matches!(byte, b'\r' | b'\n' | b'\t' | b' '..=b'~');
    let head = match std::str::from_utf8(head) {
        Ok(text) if head.iter().all(plain) => text,
        _ => return Err(Bad("only visible ASCII characters are taken")),
    };
    let mut lines = head.split("\r\n");
    let first = lines.next().unwrap_or_default();
    let mut host = None;
    for line in lines {
        let (name, value) = header(line)?;
        if name.eq_ignore_ascii_case("host") && host.replace(value).is_some() {
            return Err(Bad("two Host headers"));
        }
    }
    let (method, target) = request_line(first)?;
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    Ok(Request {
        method,
        path: path.to_owned(),
        query: query.to_owned(),
        host: without_port(host.ok_or(Bad("no Host header"))?)?,
    })
}

fn request_line(line: &str) -> Result<(Method, &str), Refusal> {
    let mut words = line.split(' ');
    let (Some(method), Some(target), Some(version), None) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        return Err(Bad("the request line is not three words"));
    };
    match version {
        "HTTP/1.1" | "HTTP/1.0" => {}
        other if other.starts_with("HTTP/") => return Err(Version),
        _ => return Err(Bad("the request line does not end with a version of HTTP")),
    }
    if !target.starts_with('/') || target.contains(['#', '\r', '\n', '\t']) {
        return Err(Bad("the target is not a path"));
    }
    let method = match method {
        "GET" => Method::Get,
        "HEAD" => Method::Head,
        other if is_token(other) => Method::Other,
        _ => return Err(Bad("the method is not a word")),
    };
    Ok((method, target))
}

fn header(line: &str) -> Result<(&str, &str), Refusal> {
    match line.split_once(':') {
        Some((name, value)) if is_token(name) && !value.contains(['\r', '\n']) => {
            Ok((name, value.trim_matches([' ', '\t'])))
        }
        _ => Err(Bad("a header line is not `name: value`")),
    }
}

fn is_token(word: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !word.is_empty() && word.bytes().all(allowed)
}

/// `name:port`, `1.2.3.4:port` or `[::1]:port`, each also without port.
fn without_port(host: &str) -> Result<String, Refusal> {
    let name_ends = match host.rfind(']') {
        Some(bracket) => bracket + 1,
        None => host.find(':').unwrap_or(host.len()),
    };
    let (name, port) = host.split_at(name_ends);
    let digits = |port: &str| port.bytes().all(|byte| byte.is_ascii_digit());
    match port.strip_prefix(':') {
        Some(port) if !digits(port) => Err(Bad("the port of the Host header is not a number")),
        None if !port.is_empty() => Err(Bad("the Host header is not `name:port`")),
        _ => Ok(name.to_ascii_lowercase()),
    }
}

impl Request {
    /// The value of a parameter of the query; the first, if it is there twice.
    pub(super) fn parameter(&self, name: &str) -> Option<&str> {
        let pairs = self
            .query
            .split('&')
            .filter_map(|pair| pair.split_once('='));
        let mut values = pairs.filter(|(key, _)| *key == name);
        values.next().map(|(_, value)| value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(head: &str) -> Result<Request, Refusal> {
        read(&mut head.as_bytes())
    }

    #[test]
    fn method_path_parameters_and_host_are_read() {
        let head = "GET /debug/threads?debug=2&tid=7 HTTP/1.1\r\nhOsT: LocalHost:80\r\nA: \r\n\r\n";
        let request = asked(head).unwrap();
        assert_eq!(request.method, Method::Get);
        assert_eq!(request.path, "/debug/threads");
        assert_eq!(request.parameter("tid"), Some("7"));
        assert_eq!(request.parameter("ti"), None);
        assert_eq!(request.host, "localhost");
        let head = asked("HEAD / HTTP/1.0\r\nHost: [::1]:6060\r\n\r\nbody").unwrap();
        assert_eq!((head.method, &*head.host), (Method::Head, "[::1]"));
        let post = asked("POST / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n").unwrap();
        assert_eq!((post.method, &*post.host), (Method::Other, "127.0.0.1"));
    }

    #[test]
    fn what_is_unusual_is_refused() {
        for head in [
            "GET / HTTP/1.1\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\n folded: b\r\n\r\n",
            "GET / HTTP/1.1\r\nHost : a\r\n\r\n",
            "GET / HTTP/1.1\nHost: a\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nb\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\nb: c\r\n\r\n",
            "GET  / HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET / x HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET / FTP\r\nHost: a\r\n\r\n",
            "GET http://a/ HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET * HTTP/1.1\r\nHost: a\r\n\r\n",
            "G(T / HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET /\u{e9} HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET /\0 HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a:b\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: [::1]x\r\n\r\n",
            "\r\n\r\n",
        ] {
            assert!(matches!(asked(head), Err(Bad(_))), "{head:?}");
        }
        assert!(matches!(
            asked("GET / HTTP/2\r\nHost: a\r\n\r\n"),
            Err(Version)
        ));
        assert!(matches!(
            asked("GET / HTTP/1.1\r\nHost: a\r\n"),
            Err(Lost(_))
        ));
    }

    #[test]
    fn a_head_is_as_long_as_the_limit_at_most() {
        let fixed = "GET / HTTP/1.1\r\nHost: a\r\nPad: ".len();
        let head = |length: usize| {
            let pad = "x".repeat(length - fixed);
            format!("GET / HTTP/1.1\r\nHost: a\r\nPad: {pad}\r\n\r\n")
        };
        assert!(asked(&head(LONGEST_HEAD)).is_ok());
        assert!(matches!(asked(&head(LONGEST_HEAD + 1)), Err(TooLong)));
        let endless = "x".repeat(LONGEST_HEAD * 2);
        assert!(matches!(asked(&endless), Err(TooLong)));
    }

    /// Whatever comes in, nothing panics, and a host that comes out was in it.
    #[test]
    fn noise_is_taken_without_a_panic() {
        let mut rng = fastrand::Rng::with_seed(7);
        let words = [
            "GET ",
            "/debug/ ",
            "HTTP/1.1",
            "\r\n",
            "Host:",
            " localhost",
            "[::1]",
            ":80",
            "\r",
            "\n",
            "?",
            "=",
            "&",
            "\u{e9}",
            "\0",
            "\t",
        ];
        let mut taken = 0;
        for _ in 0..20_000 {
            let noise = |rng: &mut fastrand::Rng| -> String {
                let count = rng.usize(0..6);
                (0..count)
                    .map(|_| words[rng.usize(..words.len())])
                    .collect()
            };
            let head = match rng.bool() {
                true => noise(&mut rng) + "\r\n\r\n",
                false => format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", noise(&mut rng)),
            };
            if let Ok(request) = asked(&head) {
                assert!(
                    head.to_ascii_lowercase().contains(&request.host),
                    "{head:?}"
                );
                taken += 1;
            }
        }
        assert!(taken > 100, "{taken}");
    }
}
