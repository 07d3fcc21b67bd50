//! The lines of a list of checksums, as `sha256sum` writes and reads them: pure functions.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

pub(crate) type Digest = [u8; 32];

/// A line without its end. A name with a line break or a backslash is escaped, and the line then
/// begins with a backslash.
pub(crate) fn line(digest: &Digest, path: &Path) -> Vec<u8> {
    let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    let name = escape(path);
    let mark: &[u8] = match name == path.as_os_str().as_bytes() {
        true => b"",
        false => b"\\",
    };
    [mark, hex.as_bytes(), b"  ", &name].concat()
}

/// The name as it stands in a line.
pub(crate) fn escape(path: &Path) -> Vec<u8> {
    let escape = |&byte: &u8| match byte {
        b'\\' => b"\\\\".to_vec(),
        b'\n' => b"\\n".to_vec(),
        b'\r' => b"\\r".to_vec(),
        other => vec![other],
    };
    path.as_os_str()
        .as_bytes()
        .iter()
        .flat_map(escape)
        .collect()
}

/// Reads a line of a list.
pub(crate) fn parse(line: &[u8]) -> Option<(Digest, PathBuf)> {
    let (escaped, line) = match line.strip_prefix(b"\\") {
        Some(rest) => (true, rest),
        None => (false, line),
    };
    let (hex, name) = line.split_at_checked(64)?;
    // The second mark says how the file was opened, which is the same here.
    let name = name
        .strip_prefix(b"  ")
        .or_else(|| name.strip_prefix(b" *"))?;
    let name = match escaped {
        true => unescape(name)?,
        false => name.to_owned(),
    };
    if name.is_empty() {
        return None;
    }
    Some((digest(hex)?, OsString::from_vec(name).into()))
}

fn unescape(name: &[u8]) -> Option<Vec<u8>> {
    let mut bytes = name.iter();
    let mut plain = Vec::new();
    while let Some(&byte) = bytes.next() {
        plain.push(match byte {
            b'\\' => match bytes.next()? {
                b'\\' => b'\\',
                b'n' => b'\n',
                b'r' => b'\r',
                _ => return None,
            },
            other => other,
        });
    }
    Some(plain)
}

fn digest(hex: &[u8]) -> Option<Digest> {
    let mut digest = Digest::default();
    for (byte, pair) in digest.iter_mut().zip(hex.chunks_exact(2)) {
        let digit = |at: usize| char::from(pair[at]).to_digit(16);
        *byte = u8::try_from(digit(0)? * 16 + digit(1)?).ok()?;
    }
    Some(digest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_read_back_whatever_the_name() {
        let digest = std::array::from_fn(|n| u8::try_from(n * 7).unwrap());
        for name in [
            "a",
            " two  words ",
            "*star",
            "back\\slash",
            "line\nbreak",
            "\\",
            "é\r",
        ] {
            let path = PathBuf::from(name);
            let written = line(&digest, &path);
            assert!(!written.contains(&b'\n'));
            assert_eq!(parse(&written), Some((digest, path)), "{name:?}");
        }
        let line = line(&digest, Path::new("a\\b"));
        assert!(line.starts_with(b"\\0007") && line.ends_with(b"  a\\\\b"));
    }

    #[test]
    fn what_is_no_line_of_a_list_is_not_read() {
        let hex = "00".repeat(32);
        assert!(parse(format!("{hex} *a").as_bytes()).is_some());
        for bad in [
            String::new(),
            hex.clone(),
            format!("{hex}  "),
            format!("{hex} a"),
            format!("\\{hex}  a\\x"),
            format!("\\{hex}  a\\"),
            format!("{}  a", &hex[2..]),
            format!("g{}  a", &hex[1..]),
        ] {
            assert_eq!(parse(bad.as_bytes()), None, "{bad:?}");
        }
    }
}
