//! One attempt: an HTTP request on a connection of its own, whose every wait ends with the token.

use std::io::{self, Read, Write};
use std::net::SocketAddr;

use cleanbreak::CancelToken;
use cleanbreak::io::{Interruptible, connect};

const HEADERS: usize = 16;
const LONGEST: usize = 16 * 1024;

/// The price, or why there is none.
pub(crate) fn get(upstream: &SocketAddr, token: &CancelToken) -> anyhow::Result<u64> {
    let stream = connect(upstream, token)?;
    let mut stream = Interruptible::new(stream, token);
    stream.write_all(b"GET /price HTTP/1.1\r\nhost: upstream\r\nconnection: close\r\n\r\n")?;
    let mut text = Vec::new();
    'reading: loop {
        if let Some(body) = body(&text)? {
            return Ok(std::str::from_utf8(body)?.trim().parse()?);
        }
        let mut part = [0; 1024];
        match stream.read(&mut part)? {
            0 => break 'reading,
            count => text.extend_from_slice(&part[..count]),
        }
        anyhow::ensure!(text.len() < LONGEST, "an answer without end");
    }
    Err(io::Error::from(io::ErrorKind::UnexpectedEof).into())
}

/// The body of a response with status 200, if all of it is there.
fn body(text: &[u8]) -> anyhow::Result<Option<&[u8]>> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS];
    let mut response = httparse::Response::new(&mut headers);
    let httparse::Status::Complete(head) = response.parse(text)? else {
        return Ok(None);
    };
    let status = response.code.unwrap_or(0);
    anyhow::ensure!(status == 200, "status {status}");
    let mut lengths = response.headers.iter();
    let length = lengths.find(|header| header.name.eq_ignore_ascii_case("content-length"));
    let length = length.map_or("", |header| str::from_utf8(header.value).unwrap_or(""));
    let length: usize = length.parse()?;
    Ok(text[head..].get(..length))
}
