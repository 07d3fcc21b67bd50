//! The example `chaos`, end to end: rounds that survive, every planted bug caught, and the command
//! that it prints does the same again.
#![cfg(target_os = "linux")]

#[path = "support/program.rs"]
mod program;
mod support;

use std::process::Command;

use program::{Ended, Running, program};

fn chaos(arguments: &[&str]) -> Ended {
    Running::start(Command::new(program("chaos")).args(arguments)).wait()
}

#[test]
fn rounds_survive_and_say_what_they_survived() {
    let ended = chaos(&["--rounds", "40", "--seed", "7", "--no-os"]);
    ended.exits(0).said("40 rounds survived, seed 7: ");
    for what in ["delay", "panic", "refuse", "early", "late", "cancel"] {
        let total = ended.out.lines().find_map(|line| {
            let total = line.strip_prefix("faults: ")?.strip_prefix(what)?;
            total.trim().parse::<u64>().ok()
        });
        assert!(
            total.is_some_and(|total| total > 0),
            "{what}: {}",
            ended.out
        );
    }
}

#[test]
fn one_round_can_be_done_by_itself() {
    let ended = chaos(&["--seed", "7", "--round", "13", "--no-os"]);
    ended.exits(0).said("1 rounds survived, seed 7: ");
}

#[test]
fn faults_of_the_operating_system_are_survived() {
    let ended = chaos(&["--os"]);
    ended.exits(0);
    for what in [
        "no thread",
        "no descriptor",
        "children killed",
        "a full disk",
    ] {
        ended.said(&format!("survived: {what}"));
    }
}

/// The bug is caught, for its own reason, and the printed command catches it again. Whether a bug
/// that is a race shows in a given round is the scheduler's affair too: it has a few tries.
fn is_caught(bug: &str, reason: &str) {
    let ended = chaos(&[
        "--rounds",
        "200",
        "--no-os",
        "--patience",
        "3",
        "--plant",
        bug,
    ]);
    ended.exits(1).said("FAILED: seed 7, round ").said(reason);
    let replay = ended
        .out
        .lines()
        .find_map(|line| line.strip_prefix("replay it: "));
    let (_, arguments) = replay.expect("a command").split_once(" -- ").unwrap();
    let mut arguments: Vec<_> = arguments.split(' ').collect();
    arguments.push("--no-os");
    let again = (0..20)
        .map(|_| chaos(&arguments))
        .find(|again| again.status.code() != Some(0));
    again.expect("it happens again").exits(1).said(reason);
}

#[test]
fn an_atomic_bool_in_front_of_a_channel_is_caught() {
    is_caught("close", "is lost: its send returned Ok");
}

#[test]
fn a_thread_that_does_not_come_home_is_caught() {
    is_caught("thread", "\"forgotten\", spawned at examples/chaos/work.rs");
}

#[test]
fn siblings_that_are_told_before_the_error_is_kept_are_caught() {
    is_caught("error", "failure");
}

#[test]
fn a_tick_after_the_stop_is_caught() {
    is_caught("tick", "a tick after the stop");
}

#[test]
fn a_permit_that_is_not_given_back_is_caught() {
    is_caught("permit", "permits of the bulkhead are out");
}

#[test]
fn a_task_that_is_not_in_the_report_is_caught() {
    is_caught("task", "tasks were accepted, the report is of");
}

#[test]
fn a_wait_that_does_not_see_the_token_is_caught() {
    is_caught("wait", "a wait has outlived the cancellation for 3s");
}

#[test]
fn nonsense_is_refused_with_help() {
    for arguments in [
        &["--rounds"][..],
        &["--rounds", "x"],
        &["--plant", "x"],
        &["x"],
    ] {
        let ended = chaos(arguments);
        ended.exits(2);
        assert!(ended.err.contains("--rounds N"), "{}", ended.err);
    }
    chaos(&["--help"]).exits(0).said("--plant BUG");
}
