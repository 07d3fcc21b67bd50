//! The examples, run as their users run them: what they print, and how they exit.

mod support;

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use support::in_time;

/// The example's program, which `cargo test` and `cargo build --examples` build.
fn program(name: &str) -> PathBuf {
    let tests = std::env::current_exe().unwrap();
    let profile = tests.parent().unwrap().parent().unwrap();
    let program = profile.join("examples").join(name);
    let program = program.with_extension(std::env::consts::EXE_EXTENSION);
    assert!(program.exists(), "not built: cargo build --example {name}");
    program
}

fn run(name: &'static str, arguments: &'static [&str], input: &'static str) -> Output {
    in_time(move || {
        let mut command = Command::new(program(name));
        command.args(arguments).stdin(Stdio::piped());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command.current_dir(env!("CARGO_MANIFEST_DIR"));
        let mut child = command.spawn().unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).ok();
        child.wait_with_output().unwrap()
    })
}

/// What an example prints if all holds.
fn printed(name: &'static str, arguments: &'static [&str], input: &'static str) -> String {
    let output = run(name, arguments, input);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{name}: {said}");
    assert_eq!(said, "", "{name}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn grid_prints_exactly_the_cells_before_the_break() {
    assert_eq!(printed("grid", &[], ""), "0 0\n0 1\n0 2\n1 0\n");
}

#[test]
fn across_finds_a_word_in_the_crates_own_sources() {
    let place = printed("across", &[], "");
    assert!(place.contains("spawn.rs:"), "{place}");
    let place = printed("across", &["examples", "fn left_by_a_bare_break"], "");
    let expected = PathBuf::from("examples").join("grid.rs");
    assert!(
        place.starts_with(&format!("{}:", expected.display())),
        "{place}"
    );
}

#[test]
fn across_fails_if_the_word_or_the_directory_is_nowhere() {
    let output = run("across", &["src/group", "no such\tword"], "");
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(output.stdout, b"\"no such\tword\" is nowhere\n");
    let output = run("across", &["no-such-directory"], "");
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("no-such-directory"));
}

#[test]
fn select_loop_makes_a_pass_for_each_line_and_one_for_each_closing() {
    let lines = include_str!("../Cargo.toml").lines().count();
    let expected = format!(
        "Tally {{ lines: {lines}, closings: 2, passes: {} }}\n",
        lines + 2
    );
    assert_eq!(printed("select_loop", &[], ""), expected);
}

#[test]
fn unwind_break_leaves_with_a_value_and_stays_in_its_bounds() {
    let said = printed("unwind_break", &[], "");
    let lines: Vec<_> = said.lines().collect();
    assert_eq!(lines[0], "left 100 frames with 717");
    assert!(
        lines[1].starts_with("stopped at the thread's edge"),
        "{said}"
    );
}

#[test]
fn batch_timeouts_stops_the_slow_item_alone() {
    // On a machine that stands still for long, a quick one may be late as well.
    let said = printed("batch_timeouts", &[], "");
    assert_eq!(said.lines().count(), 4);
    assert!(said.contains("slow: deadline exceeded\n"), "{said}");
    let said = printed("batch_timeouts", &["-"], "a b 3600000\n\nc 0\n");
    assert!(said.starts_with("a b: deadline exceeded\nc: "), "{said}");
}

#[test]
fn batch_timeouts_refuses_what_is_no_batch() {
    let output = run("batch_timeouts", &["-"], "no-millis\n");
    assert!(!output.status.success());
}

#[test]
fn heartbeat_leaves_no_thread_by_any_way_out() {
    let said = printed("heartbeat", &[], "");
    let ways: Vec<_> = said
        .lines()
        .map(|line| line.split(':').next().unwrap())
        .collect();
    assert_eq!(ways, ["Break", "Return", "Question", "Panic", "Cancel"]);
    assert!(said.lines().all(|line| line.ends_with(", no thread left")));
}

#[test]
fn errgroup_stops_the_siblings_and_tells_the_real_error() {
    let said = printed("errgroup", &["tests"], "");
    let lines: Vec<_> = said.lines().collect();
    assert!(lines[0].starts_with("100 tasks counted "), "{said}");
    assert!(
        lines[1].starts_with("stopped 99 siblings: cannot read tests"),
        "{said}"
    );
    let output = run("errgroup", &["no-such-directory"], "");
    assert!(!output.status.success());
}
