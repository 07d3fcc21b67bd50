//! The example `sync_folders`, end to end: its program, real folders, real signals.
#![cfg(target_os = "linux")]

#[path = "support/program.rs"]
mod program;
mod support;

use std::collections::BTreeMap;
use std::fs::{self, FileTimes, Permissions};
use std::io;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime};

use program::{Ended, Folder, Running, heeding_permissions, program};
use rustix::process::Signal;
use support::until;

fn sync(arguments: &[&str], folder: &Folder) -> Command {
    let mut command = Command::new(program("sync_folders"));
    with(&mut command, arguments, folder);
    command
}

/// Adds the arguments and the pair `source`, `target` of the folder.
fn with(command: &mut Command, arguments: &[&str], folder: &Folder) {
    command.args(arguments);
    command
        .arg(folder.join("source"))
        .arg(folder.join("target"));
}

fn one_pass(arguments: &[&str], folder: &Folder) -> Ended {
    let mut command = sync(arguments, folder);
    Running::start(command.arg("--passes=1")).wait()
}

type Tree = BTreeMap<String, Option<Vec<u8>>>;

/// Every path below a folder; with its content if it is a file.
fn tree(root: &Path) -> Tree {
    look(root).unwrap()
}

/// The same, if nothing vanishes while it is looked at.
fn look(root: &Path) -> io::Result<Tree> {
    let mut found = BTreeMap::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            let name = path.strip_prefix(root).unwrap().display().to_string();
            let content = match path.is_dir() {
                true => None,
                false => Some(fs::read(&path)?),
            };
            found.insert(name, content);
            if path.is_dir() {
                folders.push(path);
            }
        }
    }
    Ok(found)
}

/// Whether the target is like the source, but for what is temporary.
fn same(folder: &Folder) -> bool {
    let Ok(mut target) = look(&folder.join("target")) else {
        return false;
    };
    target.retain(|name, _| !name.starts_with(".sync-folders"));
    tree(&folder.join("source")) == target
}

#[test]
fn without_folders_it_mirrors_the_crates_own_and_checks_them() {
    let ended = Running::start(&mut Command::new(program("sync_folders"))).wait();
    ended.exits(0).said("src -> ").said("examples -> ");
    assert_eq!(ended.out.matches("3 passes, 0 with problems").count(), 2);
}

#[test]
fn new_changed_and_deleted_files_reach_the_target_tick_by_tick() {
    let folder = Folder::new("sync");
    let long_ago = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
    folder.write("source/a", "first");
    folder.write("source/deep/er/b", "b");
    folder.write("target/stranger/c", "c");
    folder.write("target/deep", "a file where the source has a folder");
    let mut running = Running::start(&mut sync(&["--every=20ms", "--delete"], &folder));
    running.await_line("2 copied (6 bytes), 3 deleted");
    until(|| same(&folder));

    // As long as before, and at another time: that is how a change is known.
    let a = folder.write("source/a", "other");
    let times = FileTimes::new().set_modified(long_ago);
    fs::File::options()
        .write(true)
        .open(a)
        .unwrap()
        .set_times(times)
        .unwrap();
    running.await_line("1 copied (5 bytes), 0 deleted");
    until(|| same(&folder));
    let copied = fs::metadata(folder.join("target/a")).unwrap();
    assert_eq!(copied.modified().unwrap(), long_ago);

    fs::remove_dir_all(folder.join("source/deep")).unwrap();
    // Three of its entries, in one pass or more.
    until(|| same(&folder));
    let ended = running.stop(Signal::TERM);
    ended.exits(0).said(" 6 deleted").said("stopped by SIGTERM");
    ended.said("3 files copied (11 bytes)");
}

#[test]
fn without_delete_the_target_keeps_what_only_it_has() {
    let folder = Folder::new("sync");
    folder.write("source/a", "a");
    folder.write("source/both", "a file");
    folder.write("target/b", "b");
    folder.write("target/both/inner", "in the way");
    let ended = one_pass(&[], &folder);
    ended.exits(1).complained("target/both: ");
    assert_eq!(folder.read("target/a"), "a");
    assert_eq!(folder.read("target/b"), "b");
    assert_eq!(folder.read("target/both/inner"), "in the way");
}

#[test]
fn links_are_not_followed_neither_out_of_the_source_nor_out_of_the_target() {
    let folder = Folder::new("sync");
    folder.write("source/inner/a", "from the source");
    folder.write("outside/a", "untouched");
    symlink(folder.join("outside"), folder.join("source/link")).unwrap();
    fs::create_dir(folder.join("target")).unwrap();
    symlink(folder.join("outside"), folder.join("target/inner")).unwrap();
    one_pass(&[], &folder).exits(1).complained("target/inner: ");
    assert_eq!(folder.read("outside/a"), "untouched");
    assert!(!folder.join("target/link").exists());
    one_pass(&["--delete"], &folder).exits(0);
    assert_eq!(folder.read("target/inner/a"), "from the source");
    assert_eq!(folder.read("outside/a"), "untouched");
}

/// Starts on a file that takes minutes, and returns in the middle of it.
fn in_the_middle(folder: &Folder) -> Running {
    folder.write("source/large", vec![7; 16 << 20]);
    let running = Running::start(&mut sync(&["--limit=65536"], folder));
    let part = folder.join("target/.sync-folders/part");
    until(|| part.metadata().is_ok_and(|part| part.len() > 0));
    running
}

#[test]
fn ctrl_c_ends_a_copy_in_its_middle_and_leaves_nothing_of_it() {
    let folder = Folder::new("sync");
    let ended = in_the_middle(&folder).stop(Signal::INT);
    ended.exits(130).said("the last pass was interrupted");
    ended.said("0 files copied").said("stopped by SIGINT");
    assert_eq!(tree(&folder.join("target")), BTreeMap::new());
}

#[test]
fn what_a_killed_run_left_is_removed_by_the_next() {
    let folder = Folder::new("sync");
    let killed = in_the_middle(&folder).stop(Signal::KILL);
    assert_eq!(killed.status.code(), None);
    assert_eq!(tree(&folder.join("target")).len(), 2, "the check is blind");
    one_pass(&[], &folder).exits(0);
    assert!(same(&folder));
}

#[test]
fn what_cannot_be_read_is_told_and_the_rest_is_mirrored_and_nothing_deleted_for_it() {
    let folder = Folder::new("sync");
    for name in ["a", "b", "closed/c"] {
        folder.write(&format!("source/{name}"), name);
    }
    one_pass(&[], &folder).exits(0);
    folder.write("source/d", "new");
    folder.write("source/b", "changed and longer");
    let forbid = |name: &str, mode| {
        fs::set_permissions(folder.join(name), Permissions::from_mode(mode)).unwrap();
    };
    forbid("source/b", 0o000);
    forbid("source/closed", 0o000);
    let Some(mut command) = heeding_permissions("sync_folders") else {
        return forbid("source/closed", 0o755);
    };
    with(
        &mut command,
        &["--delete", "--every=10ms", "--passes=3"],
        &folder,
    );
    let ended = Running::start(&mut command).wait();
    forbid("source/closed", 0o755);
    forbid("source/b", 0o644);
    ended.exits(1).said("3 passes, 3 with problems");
    // Told once, although it is so at each tick.
    for path in [
        "source/b: Permission denied",
        "source/closed: Permission denied",
    ] {
        assert_eq!(ended.err.matches(path).count(), 1, "{}", ended.err);
    }
    assert_eq!(folder.read("target/d"), "new");
    assert_eq!(folder.read("target/b"), "b");
    assert_eq!(folder.read("target/closed/c"), "closed/c");
}

#[test]
fn a_target_that_is_read_only_is_told_and_the_loop_goes_on_until_it_is_not() {
    let folder = Folder::new("sync");
    folder.write("source/a", "a");
    fs::create_dir(folder.join("target")).unwrap();
    let mode = |mode| {
        fs::set_permissions(folder.join("target"), Permissions::from_mode(mode)).unwrap();
    };
    mode(0o555);
    let Some(mut command) = heeding_permissions("sync_folders") else {
        return;
    };
    with(&mut command, &["--every=10ms"], &folder);
    let mut running = Running::start(&mut command);
    running.await_line("target: Permission denied");
    mode(0o755);
    running.await_line("target: in order again");
    running.await_line("1 copied");
    running.stop(Signal::TERM).exits(0);
    assert!(same(&folder));
}

#[test]
fn a_file_that_does_not_fit_is_told_and_leaves_no_half_and_the_others_fit() {
    let folder = Folder::new("sync");
    folder.write("source/large", vec![7; 1 << 20]);
    folder.write("source/small", "fits");
    let mut command = Command::new("sh");
    // What a full disk does to the writer, without a disk to fill.
    let script = "trap '' XFSZ; ulimit -f 64; exec \"$0\" \"$@\"";
    command.arg("-c").arg(script).arg(program("sync_folders"));
    with(&mut command, &["--every=10ms", "--passes=2"], &folder);
    let ended = Running::start(&mut command).wait();
    ended.exits(1).complained("target/large: File too large");
    ended.said("2 passes, 2 with problems");
    assert_eq!(folder.read("target/small"), "fits");
    assert_eq!(tree(&folder.join("target")).len(), 1);
}

#[test]
fn a_source_that_vanishes_empties_nothing_and_is_mirrored_again_when_it_is_back() {
    let folder = Folder::new("sync");
    folder.write("source/a", "a");
    let (source, away) = (folder.join("source"), folder.join("away"));
    let mut running = Running::start(&mut sync(&["--every=10ms", "--delete"], &folder));
    running.await_line("1 copied");
    fs::rename(&source, &away).unwrap();
    running.await_line("source: No such file or directory");
    assert_eq!(folder.read("target/a"), "a");
    folder.write("away/b", "b");
    fs::rename(&away, &source).unwrap();
    running.await_line("source: in order again");
    running.await_line("1 copied");
    running.stop(Signal::TERM).exits(0).said(" 0 deleted");
    assert!(same(&folder));
}

#[test]
fn each_worker_has_its_own_report_and_one_in_trouble_stops_no_other() {
    let folder = Folder::new("sync");
    folder.write("source/a", "a");
    let mut command = sync(&["--passes=1"], &folder);
    command
        .arg(folder.join("nowhere"))
        .arg(folder.join("other"));
    let ended = Running::start(&mut command).wait();
    ended.exits(1).complained("nowhere: No such file");
    ended.said("1 passes, 0 with problems; 1 files copied");
    ended.said("1 passes, 1 with problems; 0 files copied");
    assert!(same(&folder));
}

#[test]
fn folders_and_options_that_make_no_sense_are_refused() {
    let folder = Folder::new("sync");
    let inner = folder.join("source/inner").display().to_string();
    let target = folder.join("target").display().to_string();
    for (arguments, complaint) in [
        (&["--every=0s"][..], "no time such as"),
        (&["--every"], "no time such as"),
        (&["--passes=none"], "no positive number"),
        (&["--limit", "-1"], "no positive number"),
        (&["--delete=yes"], "takes no value"),
        (&["--dry-run"], "unknown option"),
        (&["one"], "in pairs"),
        (&[&inner, &target], "one inside the other"),
        (
            &["source", "source/../source/target"],
            "one inside the other",
        ),
    ] {
        // The folder's own pair follows: targets that two pairs share are refused too.
        let ended = Running::start(&mut sync(arguments, &folder)).wait();
        ended.exits(2).complained(complaint);
    }
    assert_eq!(tree(&folder).len(), 0);
}
