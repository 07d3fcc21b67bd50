//! Request bodies, of a known length or chunked, taken from the input as it comes; pure, like
//! `http`.

use super::http::{Framing, Refusal, refuse};

/// A chunk-size line with extensions longer than this is not from a client that we want.
const MAX_SIZE_LINE: usize = 256;
/// Trailers are read past, up to this many bytes.
const MAX_TRAILERS: usize = 4096;

const TOO_LARGE: Refusal = refuse(413, "the body is too large");

/// A body that grows with the input until it is complete.
pub(crate) struct Body {
    bytes: Vec<u8>,
    next: Next,
    max: usize,
    trailers: usize,
}

/// What the input has to bring next.
enum Next {
    /// This many bytes of an unchunked body.
    Rest(usize),
    SizeLine,
    /// This many bytes of the running chunk.
    Chunk(usize),
    ChunkEnd,
    Trailer,
    Nothing,
}

impl Body {
    /// A body that announces more than `max` bytes is refused before one of them is read.
    pub(crate) fn new(framing: Framing, max: usize) -> Result<Self, Refusal> {
        let next = match framing {
            Framing::Length(length) if length > max as u64 => return Err(TOO_LARGE),
            Framing::Length(length) => Next::Rest(length as usize),
            Framing::Chunked => Next::SizeLine,
        };
        Ok(Self {
            bytes: Vec::new(),
            next,
            max,
            trailers: 0,
        })
    }

    /// Takes what belongs to the body from the front of `input`; true when the body is complete.
    pub(crate) fn take(&mut self, input: &mut Vec<u8>) -> Result<bool, Refusal> {
        let mut used = 0;
        let complete = 'steps: loop {
            if matches!(self.next, Next::Nothing) {
                break 'steps true;
            }
            match self.step(&input[used..])? {
                Some(length) => used += length,
                None => break 'steps false,
            }
        };
        input.drain(..used);
        Ok(complete)
    }

    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// One move of the machine: how many bytes it used, or `None` when it needs more input.
    fn step(&mut self, input: &[u8]) -> Result<Option<usize>, Refusal> {
        match self.next {
            Next::Rest(left) => Ok(self.copy(input, left, Next::Rest, Next::Nothing)),
            Next::Chunk(left) => Ok(self.copy(input, left, Next::Chunk, Next::ChunkEnd)),
            Next::SizeLine => self.size_line(input),
            Next::ChunkEnd => self.chunk_end(input),
            Next::Trailer => self.trailer(input),
            Next::Nothing => Ok(None),
        }
    }

    fn copy(
        &mut self,
        input: &[u8],
        left: usize,
        more: fn(usize) -> Next,
        done: Next,
    ) -> Option<usize> {
        let length = left.min(input.len());
        self.bytes.extend_from_slice(&input[..length]);
        self.next = if length == left {
            done
        } else {
            more(left - length)
        };
        // An empty body is complete without input; otherwise no input means: wait.
        (length > 0 || left == 0).then_some(length)
    }

    fn size_line(&mut self, input: &[u8]) -> Result<Option<usize>, Refusal> {
        let parsed = httparse::parse_chunk_size(input)
            .map_err(|_| refuse(400, "a chunk size is malformed"))?;
        let too_long = refuse(400, "a chunk size line is too long");
        let httparse::Status::Complete((used, size)) = parsed else {
            return incomplete(input, MAX_SIZE_LINE, too_long);
        };
        // Also if it has come in one piece: how the input is cut makes no difference.
        if used > MAX_SIZE_LINE {
            return Err(too_long);
        }
        let room = self.max - self.bytes.len();
        let size = usize::try_from(size)
            .ok()
            .filter(|size| *size <= room)
            .ok_or(TOO_LARGE)?;
        self.next = if size == 0 {
            Next::Trailer
        } else {
            Next::Chunk(size)
        };
        Ok(Some(used))
    }

    fn chunk_end(&mut self, input: &[u8]) -> Result<Option<usize>, Refusal> {
        if input.starts_with(b"\r\n") {
            self.next = Next::SizeLine;
            return Ok(Some(2));
        }
        let may_follow = b"\r\n".starts_with(input);
        if may_follow {
            Ok(None)
        } else {
            Err(refuse(400, "a chunk is longer than its size"))
        }
    }

    /// Trailer fields are of no use here; the empty line after them ends the body.
    fn trailer(&mut self, input: &[u8]) -> Result<Option<usize>, Refusal> {
        let too_long = refuse(431, "the trailers are too long");
        let Some(end) = input.windows(2).position(|pair| pair == b"\r\n") else {
            return incomplete(input, MAX_TRAILERS, too_long);
        };
        self.trailers += end + 2;
        if self.trailers > MAX_TRAILERS {
            return Err(too_long);
        }
        if end == 0 {
            self.next = Next::Nothing;
        }
        Ok(Some(end + 2))
    }
}

fn incomplete(input: &[u8], max: usize, refusal: Refusal) -> Result<Option<usize>, Refusal> {
    if input.len() < max {
        Ok(None)
    } else {
        Err(refusal)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Feeds `text` in pieces of `step` bytes; the body, and what was left in the buffer after it.
    fn feed(framing: Framing, text: &str, step: usize) -> Result<Option<(String, String)>, u16> {
        let mut body = Body::new(framing, 32).map_err(|refusal| refusal.status)?;
        let mut input = Vec::new();
        let mut rest = text.as_bytes();
        loop {
            if body.take(&mut input).map_err(|refusal| refusal.status)? {
                input.extend_from_slice(rest);
                let text = |bytes| String::from_utf8(bytes).unwrap();
                return Ok(Some((text(body.into_bytes()), text(input))));
            }
            if rest.is_empty() {
                return Ok(None);
            }
            let (now, later) = rest.split_at(step.min(rest.len()));
            input.extend_from_slice(now);
            rest = later;
        }
    }

    fn chunked(text: &str) -> Result<Option<(String, String)>, u16> {
        let whole = feed(Framing::Chunked, text, text.len().max(1));
        for step in 1..text.len() {
            assert_eq!(
                feed(Framing::Chunked, text, step),
                whole,
                "in pieces of {step}"
            );
        }
        whole
    }

    fn body(text: &str, rest: &str) -> Result<Option<(String, String)>, u16> {
        Ok(Some((text.to_owned(), rest.to_owned())))
    }

    #[test]
    fn a_body_of_known_length_leaves_the_next_request_alone() {
        assert_eq!(feed(Framing::Length(0), "GET", 3), body("", "GET"));
        for step in 1..8 {
            assert_eq!(
                feed(Framing::Length(4), "newsGET", step),
                body("news", "GET")
            );
        }
        assert_eq!(feed(Framing::Length(4), "new", 1), Ok(None));
        assert_eq!(feed(Framing::Length(33), "", 1), Err(413));
        assert_eq!(feed(Framing::Length(u64::MAX), "", 1), Err(413));
    }

    #[test]
    fn chunks_are_joined_and_trailers_dropped_wherever_the_input_is_cut() {
        assert_eq!(chunked("0\r\n\r\nGET"), body("", "GET"));
        assert_eq!(chunked("4\r\nnews\r\n0\r\n\r\n"), body("news", ""));
        assert_eq!(
            chunked("2;a=b\r\nne\r\n02\r\nws\r\n0\r\nX: y\r\n\r\nP"),
            body("news", "P")
        );
        assert_eq!(chunked("4\r\nnews\r\n0\r\n"), Ok(None));
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn a_body_is_the_same_however_the_input_is_cut(
            words in prop::collection::vec(word(), 0..10), length in prop::option::of(0..40_u64),
        ) {
            let framing = length.map_or(Framing::Chunked, Framing::Length);
            let text = words.concat();
            let whole = feed(framing, &text, text.len().max(1));
            for step in [1, 2, 3, 7, 100, 300] {
                prop_assert_eq!(&feed(framing, &text, step), &whole, "in pieces of {}", step);
            }
        }
    }

    fn word() -> impl Strategy<Value = String> {
        prop_oneof![
            4 => prop::sample::select(vec!["\r\n", "0\r\n", "0\r\n\r\n", "4\r\nnews\r\n", ";a=b", "x"])
                .prop_map(str::to_owned),
            1 => (0..300_usize).prop_map(|pad| format!("1;{}\r\nn\r\n", "e".repeat(pad))),
            1 => (4000..4200_usize).prop_map(|pad| format!("X:{}\r\n", "y".repeat(pad))),
            1 => "[ -~]{0,8}",
        ]
    }

    #[test]
    fn broken_or_oversized_chunks_are_refused() {
        assert_eq!(chunked("x\r\n"), Err(400));
        assert_eq!(chunked("2\r\nnews\r\n0\r\n\r\n"), Err(400));
        assert_eq!(chunked("fffffffffffffffff\r\n"), Err(400));
        assert_eq!(chunked("21\r\n"), Err(413));
        assert_eq!(
            chunked(&format!("10\r\n{}\r\n11\r\n", "n".repeat(16))),
            Err(413)
        );
        assert_eq!(
            chunked(&format!("1;{}", "e".repeat(MAX_SIZE_LINE))),
            Err(400)
        );
        assert_eq!(
            feed(
                Framing::Chunked,
                &format!("0\r\n{}", "X: y\r\n".repeat(800)),
                7
            ),
            Err(431)
        );
    }
}
