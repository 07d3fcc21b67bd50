//! The examples `flaky_client` and `rush`, end to end: they check themselves, and their programs, charts
//! and real signals are checked here.
#![cfg(target_os = "linux")]

// The pure modules of the examples.
#[path = "../examples/rush/load.rs"]
#[allow(dead_code, reason = "the example uses the rest")]
mod load;
#[path = "support/program.rs"]
mod program;
#[path = "../examples/flaky_client/script.rs"]
#[allow(dead_code, reason = "the example uses the rest")]
mod script;
mod support;

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use program::{Ended, Folder, Running, program};
use rustix::process::Signal;
use script::{Fate, PHASES, fate};
use support::secs;

fn start(name: &str, arguments: &[&str], chart: &Path) -> Running {
    let mut command = Command::new(program(name));
    command.args(arguments).arg("--chart").arg(chart);
    Running::start(&mut command)
}

/// A chart stands by itself, in both lights, and all that it opens it closes.
fn looks_whole(chart: &str) {
    assert!(chart.starts_with("<svg ") && chart.ends_with("</svg>\n"));
    assert!(chart.contains("prefers-color-scheme:dark"));
    assert!(!chart.contains("href") && !chart.contains("script>"));
    for line in chart
        .lines()
        .filter(|line| line.starts_with('<') && line.ends_with('>'))
    {
        let whole = line.ends_with("/>") || line.contains("</") || line.starts_with("<svg");
        assert!(whole || line == "<style>", "{line}");
    }
    assert!(!chart.contains("NaN") && !chart.contains("inf"));
}

/// The number in front of a word.
fn number(ended: &Ended, word: &str) -> usize {
    let mut words = ended
        .out
        .split_whitespace()
        .collect::<Vec<_>>()
        .into_iter()
        .rev();
    words
        .by_ref()
        .find(|&it| it.trim_matches([':', ',']) == word);
    words.next().unwrap().parse().unwrap()
}

#[test]
fn flaky_client_opens_probes_once_at_a_time_recovers_and_draws_every_call() {
    let folder = Folder::new("flaky_client");
    let chart = folder.join("chart.svg");
    let ended = start("flaky_client", &["--speed", "10"], &chart).wait();
    ended.exits(0).said("all that must hold held\n");
    for state in [
        "CLOSED -> OPEN: consecutive failures",
        "OPEN -> HALF_OPEN: open time over",
        "HALF_OPEN -> OPEN: probes failed",
        "HALF_OPEN -> CLOSED: probes succeeded",
    ] {
        ended.said(state);
    }
    let chart = folder.read("chart.svg");
    looks_whole(&chart);
    let dots = chart.matches("<circle").count();
    assert_eq!(dots, number(&ended, "calls"), "{}", ended.out);
    assert!(chart.contains(">OPEN<") && chart.contains(">CLOSED<"));
}

#[test]
fn flaky_client_ends_with_a_signal_and_draws_what_it_has() {
    let folder = Folder::new("flaky_client");
    let chart = folder.join("chart.svg");
    let mut running = start("flaky_client", &["--speed", "5"], &chart);
    running.await_line("CLOSED -> OPEN"); // with attempts on their way
    let ended = running.stop(Signal::INT);
    ended.exits(130).said("nothing is checked");
    looks_whole(&folder.read("chart.svg"));
}

#[test]
fn rush_gets_more_done_when_it_sheds_and_serves_the_regulars() {
    let folder = Folder::new("rush");
    let chart = folder.join("chart.svg");
    let ended = start("rush", &["--seconds", "1"], &chart).wait();
    ended.exits(0).said("all that must hold held\n");
    let chart = folder.read("chart.svg");
    looks_whole(&chart);
    for name in ["takes all", "bulkhead", "shares + bulkhead"] {
        assert!(chart.contains(&format!(">{name}: ")), "{name}");
        ended.said(&format!("rush, regulars: {name}"));
    }
}

#[test]
fn rush_ends_with_a_signal_and_says_what_it_has() {
    let folder = Folder::new("rush");
    let chart = folder.join("chart.svg");
    let mut running = start("rush", &["--seconds", "60"], &chart);
    running.await_line("requests a second");
    let ended = running.stop(Signal::TERM);
    ended.exits(143).said("nothing is checked");
    looks_whole(&folder.read("chart.svg"));
}

#[test]
fn what_is_no_option_is_said() {
    for name in ["flaky_client", "rush"] {
        let run =
            |arguments: &[&str]| Running::start(Command::new(program(name)).args(arguments)).wait();
        run(&["--nonsense"])
            .exits(2)
            .complained("unknown option --nonsense");
        run(&["--seed", "x"]).exits(2).complained("--seed: \"x\"");
        run(&["--chart"])
            .exits(2)
            .complained("--chart needs a value");
        run(&["--help"]).exits(0).said("Exit status: ");
    }
    let fast = Running::start(Command::new(program("flaky_client")).args(["--speed", "0"]));
    fast.wait().exits(2).complained("from 1 to 20");
}

#[test]
fn the_script_is_the_same_for_the_same_seed_and_has_each_mood_in_its_time() {
    for phase in &PHASES {
        let fates: BTreeSet<_> = (0..1000)
            .map(|number| {
                let fate = |seed| fate(seed, number, phase.from);
                assert_eq!(fate(7), fate(7));
                match fate(7) {
                    Fate::Hang => "hang",
                    Fate::Answer {
                        status: 200,
                        after: 0..150,
                    } => "well",
                    Fate::Answer { status: 200, .. } => "slow",
                    Fate::Answer { .. } => "error",
                }
            })
            .collect();
        let expected: &[&str] = match phase.name {
            "flaky" => &["error", "slow", "well"],
            "down" => &["hang"],
            _ => &["well"],
        };
        assert!(fates.iter().eq(expected), "{}: {fates:?}", phase.name);
    }
}

#[test]
fn the_rush_is_seventeen_times_the_usual_load_and_most_of_it_is_of_a_few() {
    let all = load::requests(1, secs(10));
    assert_eq!(all, load::requests(1, secs(10)));
    let rush = all.iter().filter(|request| request.in_rush).count();
    assert_eq!(rush, 10 * (load::TIMES * load::USUAL) as usize);
    assert_eq!(all.len() - rush, 10 * load::USUAL as usize);
    assert!(all.is_sorted_by_key(|request| request.at));
    assert!(
        all.iter()
            .all(|request| request.in_rush == (request.at < secs(10)))
    );
    let greedy = all.iter().filter(|request| request.is_greedy());
    let clients: BTreeSet<_> = greedy.clone().map(|request| request.client).collect();
    assert_eq!(clients.len(), 6);
    assert!(greedy.clone().all(|request| request.in_rush) && 5 * greedy.count() > 4 * rush);
}
