//! What a client is answered.

use std::io::{self, Write};

use super::page;

/// An answer that ends its connection.
#[derive(Debug)]
pub(super) struct Response {
    status: &'static str,
    kind: &'static str,
    /// One header of its own.
    extra: Option<(&'static str, String)>,
    body: Vec<u8>,
}

pub(super) const TEXT: &str = "text/plain; charset=utf-8";
pub(super) const JSON: &str = "application/json";
pub(super) const HTML: &str = "text/html; charset=utf-8";
pub(super) const BINARY: &str = "application/octet-stream";

impl Response {
    pub(super) fn ok(kind: &'static str, body: impl Into<Vec<u8>>) -> Self {
        Self {
            status: "200 OK",
            kind,
            extra: None,
            body: body.into(),
        }
    }

    /// With a line of text that says why; and more, if `why` has more.
    pub(super) fn refusal(status: &'static str, why: &str) -> Self {
        Self {
            status,
            kind: TEXT,
            extra: None,
            body: format!("{why}\n").into_bytes(),
        }
    }

    pub(super) fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.extra = Some((name, value.into()));
        self
    }

    /// Head and body in one piece; for `HEAD` the head alone.
    ///
    /// * No sniffing, no frame, no source but this server: what is shown are names that a program
    ///   got from anywhere.
    /// * No CORS header, and none of the answers may be embedded by another origin.
    fn to_bytes(&self, head_only: bool) -> Vec<u8> {
        let Self {
            status,
            kind,
            extra,
            body,
        } = self;
        let mut out = format!(
            "HTTP/1.1 {status}\r\n\
             Content-Type: {kind}\r\n\
             Content-Length: {}\r\n\
             Connection: close\r\n\
             Cache-Control: no-store\r\n\
             X-Content-Type-Options: nosniff\r\n\
             X-Frame-Options: DENY\r\n\
             Referrer-Policy: no-referrer\r\n\
             Cross-Origin-Resource-Policy: same-origin\r\n\
             Content-Security-Policy: {}\r\n",
            body.len(),
            page::POLICY,
        );
        if let Some((name, value)) = extra {
            out.push_str(&format!("{name}: {value}\r\n"));
        }
        out.push_str("\r\n");
        let mut out = out.into_bytes();
        if !head_only {
            out.extend_from_slice(body);
        }
        out
    }

    pub(super) fn send(&self, to: &mut impl Write, head_only: bool) -> io::Result<()> {
        to.write_all(&self.to_bytes(head_only))
    }
}
