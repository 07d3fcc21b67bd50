//! Doors for the fuzzers in `tests/fuzz`; there only with `--cfg fuzzing`. No interface of anybody's.
//!
//! Each takes arbitrary bytes, and panics if something is wrong.

/// A request to the debug server, in pieces.
pub fn request(bytes: &[u8]) {
    crate::debug::random::read_made_up_request(bytes);
}

/// A walk up a stack, over made-up tables and code.
pub fn tables(bytes: &[u8]) {
    let _walked = crate::diagnose::random::walk_made_up_tables(bytes);
}

/// A walk up a made-up stack, over this program's tables and code.
pub fn stack(bytes: &[u8]) {
    let _walked = crate::diagnose::random::walk_made_up_stack(bytes);
}

/// A dump as text, JSON and pprof.
pub fn dump(bytes: &[u8]) {
    crate::diagnose::random::write_made_up_dump(bytes);
}

/// What the kernel says of threads.
pub fn proc_files(bytes: &[u8]) {
    crate::diagnose::random::read_made_up_files(bytes);
}

/// Lines, in pieces and with errors between them.
pub fn lines(bytes: &[u8]) {
    crate::io::random::read_made_up_lines(bytes);
}
