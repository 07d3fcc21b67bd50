//! The checksum of one file.

use std::fs::OpenOptions;
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use cleanbreak::CancelToken;
use sha2::{Digest as _, Sha256};

use super::sums::Digest;

/// Between two looks at the token: a tenth of a millisecond of work.
const CHUNK: usize = 128 * 1024;

/// Reads the file to its end, as long as the token allows; `None` if it did not. `progress` is told
/// of the bytes.
pub(crate) fn hash(
    path: &Path,
    token: &CancelToken,
    progress: impl Fn(u64),
) -> io::Result<Option<Digest>> {
    // It may have become a pipe since it was found, whose opening would block.
    let mut options = OpenOptions::new();
    let mut file = options
        .read(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(path)?;
    let found = file.metadata()?;
    if found.is_dir() {
        return Err(ErrorKind::IsADirectory.into());
    } else if !found.is_file() {
        return Err(io::Error::other("no regular file"));
    }
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; CHUNK];
    'chunks: loop {
        if token.is_cancelled() {
            break 'chunks Ok(None);
        }
        match file.read(&mut buffer) {
            Ok(0) => break 'chunks Ok(Some(hasher.finalize().into())),
            Ok(length) => {
                hasher.update(&buffer[..length]);
                progress(length as u64);
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => break 'chunks Err(error),
        }
    }
}
