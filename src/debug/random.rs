//! Requests of arbitrary bytes in arbitrary pieces: nothing panics, no more is read than a head may
//! be long, how they are cut makes no difference, and a host that comes out is the one that was sent.

use std::io::{self, Read};

use super::request::{self, LONGEST_HEAD, Refusal, Request};
use crate::noise::Noise;

/// Pieces as a socket might hand them out.
struct Pieces<'a> {
    bytes: &'a [u8],
    length: usize,
    read: usize,
}

impl Read for Pieces<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let most = self.length.min(into.len());
        let read = (&self.bytes[..self.bytes.len().min(most)]).read(into)?;
        self.bytes = &self.bytes[read..];
        self.read += read;
        Ok(read)
    }
}

const WORDS: [&[u8]; 20] = [
    b"GET / HTTP/1.1\r\nHost: localhost\r\n",
    b"GET /debug/threads?debug=2&tid=7 HTTP/1.1\r\n",
    b"\r\n\r\n",
    b"\r\n",
    b"GET ",
    b"POST ",
    b"/",
    b" HTTP/1.1",
    b" HTTP/1.0\r\n",
    b" HTTP/2",
    b"Host:",
    b"host : ",
    b" 127.0.0.1",
    b"[::1]",
    b":6060",
    b"?a=b&",
    b"\r",
    b"\n",
    b"\t",
    b"Name: value\r\n",
];

fn made_up(noise: &mut Noise<'_>) -> Vec<u8> {
    let mut head = Vec::new();
    if noise.one_in(16) {
        // About as long as may be.
        let pad = LONGEST_HEAD - 64 + usize::from(noise.byte());
        head.extend(WORDS[0]);
        head.extend(b"Pad: ");
        head.resize(pad, b'x');
        head.extend(WORDS[2]);
    }
    while !noise.0.is_empty() {
        match noise.byte() {
            byte @ 200.. => head.extend(noise.slice(usize::from(byte) - 200)),
            byte => head.extend(WORDS[usize::from(byte) % WORDS.len()]),
        }
    }
    head
}

pub(crate) fn read_made_up_request(bytes: &[u8]) {
    let (&length, bytes) = bytes.split_first().unwrap_or((&1, bytes));
    let bytes = match length % 4 {
        0 => bytes.to_vec(),
        _ => made_up(&mut Noise(bytes)),
    };
    let whole = read(&bytes, usize::MAX);
    let pieces = read(&bytes, usize::from(length).max(1));
    assert_eq!(format!("{whole:?}"), format!("{pieces:?}"));
    if let Ok(request) = whole {
        assert!(request.path.starts_with('/'), "{request:?}");
        assert_eq!(sent_host(&bytes), Some(request.host.clone()));
        assert_eq!(request.parameter("not there"), None);
    }
}

fn read(bytes: &[u8], length: usize) -> Result<Request, Refusal> {
    let read = 0;
    let mut pieces = Pieces {
        bytes,
        length,
        read,
    };
    let request = request::read(&mut pieces);
    assert!(pieces.read <= LONGEST_HEAD + 1024 + 4);
    request
}

/// The host, looked for in another way than the parser's: from the end of its line.
fn sent_host(bytes: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(bytes).to_ascii_lowercase();
    let after = text.split("\r\nhost:").nth(1)?;
    let host = after.split('\r').next()?.trim_matches([' ', '\t']);
    let before_digits = host.trim_end_matches(|c: char| c.is_ascii_digit());
    let host = match before_digits.strip_suffix(':') {
        // The colons of an address without brackets are not taken for that of a port.
        Some(name) if name.ends_with(']') || !name.contains([':', ']']) => name,
        _ => host,
    };
    Some(host.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::noise::cases;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(cases(2_000))]

        #[test]
        fn any_bytes_in_any_pieces_are_a_request_or_a_refusal(
            bytes in prop::collection::vec(any::<u8>(), 0..300),
        ) {
            read_made_up_request(&bytes);
        }
    }

    #[test]
    fn a_head_of_the_greatest_length_may_come_in_any_pieces() {
        for pad in LONGEST_HEAD - 8..LONGEST_HEAD + 8 {
            let mut head = WORDS[0].to_vec();
            head.extend(b"Pad: ");
            head.resize(pad, b'x');
            head.extend(WORDS[2]);
            for length in [1, 7, 1000, 1023, usize::MAX] {
                assert_eq!(read(&head, length).is_ok(), pad <= LONGEST_HEAD, "{pad}");
            }
        }
    }
}
