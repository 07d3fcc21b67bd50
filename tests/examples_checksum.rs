//! The example `checksum`, end to end: its program beside `sha256sum`, and a real Ctrl-C.
#![cfg(target_os = "linux")]

// The pure module of the example brings its unit tests along.
#[path = "support/program.rs"]
mod program;
#[path = "../examples/checksum/sums.rs"]
#[allow(dead_code, reason = "the example uses the rest")]
mod sums;
mod support;

use std::fs::{self, File, Permissions};
use std::io::pipe;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::{Command, Stdio};

use program::{Ended, Folder, Running, heeding_permissions, program};
use rustix::process::Signal;
use support::until;

fn checksum(arguments: &[&str], path: &Path) -> Ended {
    let mut command = Command::new(program("checksum"));
    Running::start(command.args(arguments).arg(path)).wait()
}

/// Files of many lengths, with names that are no fun.
fn planted() -> Folder {
    let folder = Folder::new("checksum");
    let contents: Vec<u8> = (0..400_000_u32).map(|n| (n % 251) as u8).collect();
    let lengths = [0, 1, 55, 56, 63, 64, 65, 131_071, 131_072, 131_073, 400_000];
    for (n, length) in lengths.iter().enumerate() {
        folder.write(&format!("tree/{}/{length}", n % 3), &contents[..*length]);
    }
    for name in [
        "two words",
        "back\\slash",
        "line\nbreak",
        "*star",
        "-dash",
        "Z",
    ] {
        folder.write(&format!("tree/0/{name}"), name);
    }
    fs::create_dir(folder.join("tree/empty")).unwrap();
    symlink("Z", folder.join("tree/0/link")).unwrap();
    folder
}

/// What `sha256sum` says of the same files.
fn by_the_book(folder: &Path) -> String {
    let script = "find \"$0\" -type f -print0 | LC_ALL=C sort -z | xargs -0 sha256sum";
    let output = Command::new("sh").args(["-c", script]).arg(folder).output();
    String::from_utf8(output.unwrap().stdout).unwrap()
}

#[test]
fn without_paths_it_sums_the_crates_own_source() {
    let ended = Running::start(&mut Command::new(program("checksum"))).wait();
    ended.exits(0).said("/src/lib.rs\n");
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    assert_eq!(ended.out.lines().count(), by_the_book(&src).lines().count());
}

#[test]
fn the_list_is_that_of_sha256sum_byte_for_byte_with_any_number_of_jobs() {
    let folder = planted();
    let tree = folder.join("tree");
    let expected = by_the_book(&tree);
    assert_eq!(expected.lines().count(), 17, "{expected}");
    for jobs in ["1", "2", "16"] {
        let ended = checksum(&["--jobs", jobs], &tree);
        ended.exits(0);
        assert_eq!(ended.out, expected);
        assert_eq!(ended.err, "", "no bar where there is no terminal");
    }
    folder.write("list", &expected);
    let mut verify = Command::new("sha256sum");
    verify.args(["--strict", "-c"]).arg(folder.join("list"));
    assert!(verify.output().unwrap().status.success());
}

#[test]
fn a_list_is_verified_and_each_fault_is_told() {
    let folder = planted();
    let list = folder.write("list", by_the_book(&folder.join("tree")));
    let ended = checksum(&["--check"], &list);
    ended.exits(0).said("tree/0/line\\nbreak: OK\n");
    assert_eq!(
        (ended.out.matches(": OK\n").count(), ended.err.as_str()),
        (17, "")
    );

    folder.write("tree/0/Z", "z");
    fs::remove_file(folder.join("tree/1/1")).unwrap();
    let mut lines = fs::read_to_string(&list).unwrap();
    lines.push_str("nonsense\n");
    fs::write(&list, lines).unwrap();
    let ended = checksum(&["--check"], &list);
    ended
        .exits(1)
        .said("tree/0/Z: FAILED\n")
        .said("tree/1/1: FAILED open or read\n");
    assert_eq!(ended.out.matches(": OK\n").count(), 15);
    ended
        .complained("1 lines make no sense")
        .complained("1 checksums did NOT match");
    ended
        .complained("tree/1/1: No such file")
        .complained("1 listed files could not be read");
}

#[test]
fn what_cannot_be_read_is_told_at_the_end_and_the_rest_is_summed() {
    let folder = planted();
    let tree = folder.join("tree");
    let missing = folder.join("missing");
    let ended = checksum(&[missing.to_str().unwrap()], &tree);
    ended.exits(1).complained("missing: No such file");
    assert_eq!(ended.out, by_the_book(&tree));

    let close = |mode| {
        fs::set_permissions(tree.join("0/Z"), Permissions::from_mode(mode)).unwrap();
        fs::set_permissions(tree.join("1"), Permissions::from_mode(mode)).unwrap();
    };
    let readable = by_the_book(&tree);
    let readable = readable
        .lines()
        .filter(|line| !line.contains("tree/1/") && !line.ends_with('Z'));
    close(0o000);
    let Some(mut command) = heeding_permissions("checksum") else {
        return close(0o755);
    };
    let ended = Running::start(command.arg(&tree)).wait();
    close(0o755);
    ended.exits(1).complained("tree/0/Z: Permission denied");
    ended.complained("tree/1: Permission denied");
    assert_eq!(ended.err.lines().count(), 2);
    assert!(ended.out.lines().eq(readable));
}

/// Whether the process has the file open.
fn has_open(running: &Running, file: &Path) -> bool {
    let descriptors = fs::read_dir(format!("/proc/{}/fd", running.pid().as_raw_nonzero()));
    let mut open = descriptors.into_iter().flatten();
    open.any(|entry| fs::read_link(entry.unwrap().path()).is_ok_and(|path| path == file))
}

#[test]
fn ctrl_c_prints_what_there_is_and_says_that_it_is_not_all() {
    let folder = Folder::new("checksum");
    let small = folder.write("small", "done before");
    // A hole that takes minutes to read.
    let large = folder.join("large");
    File::create(&large).unwrap().set_len(1 << 36).unwrap();
    let mut command = Command::new(program("checksum"));
    command.args(["--jobs", "1"]).args([&small, &large, &small]);
    for (signal, name, status) in [(Signal::INT, "SIGINT", 130), (Signal::TERM, "SIGTERM", 143)] {
        let running = Running::start(&mut command);
        until(|| has_open(&running, &large));
        let ended = running.stop(signal);
        ended.exits(status);
        assert_eq!(ended.out, by_the_book(&small));
        let said = format!("checksum: stopped by {name}: 1 files done, 2 or more not\n");
        assert_eq!(ended.err, said);
    }
}

#[test]
fn a_reader_that_has_enough_ends_it_quietly() {
    let folder = planted();
    let (reader, writer) = pipe().unwrap();
    drop(reader);
    let mut command = Command::new(program("checksum"));
    let child = command
        .arg(folder.join("tree"))
        .stdout(writer)
        .stderr(Stdio::piped());
    let output = child.spawn().unwrap().wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(141));
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
}

#[test]
fn a_terminal_sees_a_bar_and_finds_its_line_clean_at_the_end() {
    let folder = planted();
    let script = format!(
        "{} {}",
        program("checksum").display(),
        folder.join("tree").display()
    );
    let mut command = Command::new("script");
    command
        .args(["-q", "-e", "-c", &script, "/dev/null"])
        .stdin(Stdio::null());
    command.env("TERM", "xterm");
    if Command::new("script").arg("--version").output().is_err() {
        println!("SKIPPED: there is no `script` to make a terminal");
        return;
    }
    let ended = Running::start(&mut command).wait();
    ended.exits(0);
    let bar = ended
        .out
        .rfind(['░', '█'])
        .unwrap_or_else(|| panic!("no bar: {:?}", ended.out));
    assert!(
        ended.out[bar..].contains("\u{1b}[2K"),
        "not cleared: {:?}",
        ended.out
    );
    let list = by_the_book(&folder.join("tree"));
    assert!(
        ended.out.replace("\r\n", "\n").ends_with(&list),
        "{:?}",
        ended.out
    );
}

#[test]
fn options_that_make_no_sense_are_refused() {
    let path = Path::new("src");
    for (arguments, complaint) in [
        (&["--jobs", "0"][..], "not a positive number"),
        (&["--nothing"], "unknown option"),
        (&["--check", "list"], "takes no paths"),
        (&["path", "--check"], "takes no paths"),
    ] {
        checksum(arguments, path).exits(2).complained(complaint);
    }
    checksum(&["--check"], Path::new("no-such-list"))
        .exits(1)
        .complained("no-such-list: No such");
    checksum(&["--help"], path).exits(0).said("--check LIST");
}
