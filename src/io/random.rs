//! Lines of arbitrary bytes in arbitrary pieces, with errors between them: none is lost or changed.

use std::io::{self, Read};

use super::Lines;
use crate::noise::Noise;

/// Hands out pieces, and errors between them.
struct Pieces<'a> {
    bytes: &'a [u8],
    cuts: Noise<'a>,
}

impl Read for Pieces<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let cut = self.cuts.byte();
        match cut {
            250.. => return Err(io::ErrorKind::Interrupted.into()),
            240.. => return Err(io::ErrorKind::WouldBlock.into()),
            _ => {}
        }
        // The end is not taken for a piece of length zero.
        let length = usize::from(cut % 32).max(1).min(self.bytes.len());
        let read = (&self.bytes[..length]).read(into)?;
        self.bytes = &self.bytes[read..];
        Ok(read)
    }
}

pub(crate) fn read_made_up_lines(bytes: &[u8]) {
    let (cuts, text) = bytes.split_at(bytes.len() / 3);
    // Line ends are rare in noise.
    let text: Vec<_> = text
        .iter()
        .map(|byte| match byte {
            0..20 => b'\n',
            20..30 => b'\r',
            other => *other,
        })
        .collect();
    let cuts = Noise(cuts);
    let lines = Lines::new(Pieces { bytes: &text, cuts });
    let found = lines.filter_map(|line| match line {
        Ok(line) => Some(line.into_bytes()),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
        Err(error) => {
            let bad = error.into_inner().expect("the line is in it");
            let bad = bad.downcast::<std::string::FromUtf8Error>();
            Some(bad.expect("not UTF-8").into_bytes())
        }
    });
    let found: Vec<_> = found.collect();
    let mut expected: Vec<_> = text.split(|byte| *byte == b'\n').collect();
    let last = expected.pop().filter(|last| !last.is_empty());
    let mut expected: Vec<_> = expected
        .into_iter()
        .map(|line| line.strip_suffix(b"\r").unwrap_or(line))
        .collect();
    expected.extend(last);
    assert_eq!(found, expected);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::noise::cases;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(cases(500))]

        #[test]
        fn no_line_is_lost_or_changed_wherever_the_input_is_cut(
            bytes in prop::collection::vec(any::<u8>(), 0..600),
        ) {
            read_made_up_lines(&bytes);
        }
    }
}
