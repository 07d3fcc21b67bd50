//! The example `leak_hunt`, end to end: its program, and every planted leak in what it prints.
#![cfg(all(target_os = "linux", target_arch = "x86_64"))]

#[path = "support/program.rs"]
mod program;
mod support;

use std::process::Command;

use program::{Ended, Folder, Running, program};

const SOURCE: &str = include_str!("../examples/leak_hunt.rs");

fn leak_hunt(arguments: &[&str]) -> Ended {
    let mut command = Command::new(program("leak_hunt"));
    Running::start(command.args(arguments)).wait()
}

/// The number of the one line of the example with this in it, looked up here and not taken from what
/// the example says.
fn line_of(text: &str) -> usize {
    let lines = SOURCE.lines().enumerate();
    let found: Vec<_> = lines.filter(|(_, line)| line.contains(text)).collect();
    assert_eq!(found.len(), 1, "{text}: {found:?}");
    found[0].0 + 1
}

/// A thread, what starts it, the function that it is blocked in, and the line of that.
const PLANTED: [(&str, &str, &str, &str); 6] = [
    (
        "order-reader",
        "waits_for_an_order(&orders))?",
        "waits_for_an_order",
        "orders.recv().ok()",
    ),
    (
        "ledger",
        "waits_for_the_ledger(&ledger))?",
        "waits_for_the_ledger",
        "drop(ledger.lock())",
    ),
    (
        "flag-waiter",
        "waits_for_the_flag(&waits))?",
        "waits_for_the_flag",
        "flag.1.wait(&mut set)",
    ),
    (
        "upstream-call",
        "waits_for_an_answer(&client))?",
        "waits_for_an_answer",
        "socket.read(&mut [0; 1])",
    ),
    (
        "first-of-two",
        "waits_for_an_order(&held))?",
        "waits_for_an_order",
        "orders.recv().ok()",
    ),
    (
        "second-of-two",
        "waits_for_the_other(first))?",
        "waits_for_the_other",
        "job.join().ok()",
    ),
];

/// Whether the dump has, in one paragraph, the thread with the line that started it, and the function
/// with the line that it is blocked in.
fn names(dump: &str, planted: (&str, usize, &str, usize)) -> bool {
    let (thread, started, function, blocked) = planted;
    let title = |line: &str| {
        line.starts_with("#\tthread ")
            && line.contains(&format!(" \"{thread}\","))
            && line.contains(&format!("leak_hunt.rs:{started}:"))
    };
    let function = format!("leak_hunt::{function}");
    let frame = |two: &[&str]| {
        two[0].ends_with(&function) && two[1].ends_with(&format!("leak_hunt.rs:{blocked}"))
    };
    dump.split("\n\n").any(|paragraph| {
        let lines: Vec<_> = paragraph.lines().collect();
        lines.iter().any(|line| title(line)) && lines.windows(2).any(frame)
    })
}

#[test]
fn each_planted_leak_is_named_with_the_line_that_started_it_and_the_line_it_is_blocked_in() {
    let ended = leak_hunt(&[]);
    ended
        .exits(0)
        .said("9 leaked threads found, and all of them home\n");
    let (dump, summary) = ended.out.split_once("== what was planted").unwrap();
    for (thread, start, function, block) in PLANTED {
        let (started, blocked) = (line_of(start), line_of(block));
        let planted = (thread, started, function, blocked);
        assert!(names(dump, planted), "{planted:?} is not in\n{dump}");
        // The negative control: with a line that is off, the check finds nothing.
        for off in [
            (thread, started + 1, function, blocked),
            (thread, started, function, blocked - 1),
            ("nobody", started, function, blocked),
        ] {
            assert!(!names(dump, off), "{off:?}");
        }
        let said = format!("started at leak_hunt.rs:{started}, blocked at leak_hunt.rs:{blocked}");
        let mut lines = summary.lines();
        assert!(
            lines.any(|line| line.contains(thread) && line.ends_with(&said)),
            "{thread}: {said}\n{summary}"
        );
    }
}

#[test]
fn the_profile_is_written_where_it_was_asked_for() {
    let folder = Folder::new("leak_hunt");
    let path = folder.join("leaks.pb.gz");
    let ended = leak_hunt(&["--pprof", path.to_str().unwrap()]);
    ended.exits(0).said("go tool pprof -top");
    assert_eq!(std::fs::read(&path).unwrap()[..3], [0x1f, 0x8b, 8]);
}

#[test]
fn what_makes_no_sense_is_told_so() {
    for (arguments, why) in [
        (&["--pprof"][..], "--pprof needs a file"),
        (&["--other"], "unknown argument --other"),
        (
            &["--pprof", "/no/such/folder/leaks"],
            "/no/such/folder/leaks",
        ),
    ] {
        leak_hunt(arguments).exits(1).complained(why);
    }
}
