//! Runs the benches and takes down what they found.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use super::figures::{Figures, Key};

/// The benches of criterion, with the features that they need.
const CRITERION: [(&str, Option<&str>); 13] = [
    ("breakout", None),
    ("token", None),
    ("channel", None),
    ("ticker", None),
    ("group", None),
    ("pool", None),
    ("probe", None),
    ("breaker", None),
    ("policy", None),
    ("limits", None),
    ("io", None),
    ("threads", Some("diagnose")),
    ("dump", Some("diagnose")),
];

/// Those that keep their own time.
const OWN: [&str; 2] = ["growth", "beside"];

/// For each function; a bench that needs longer takes longer.
const SETTINGS: [&str; 7] = [
    "--noplot",
    "--warm-up-time",
    "0.2",
    "--measurement-time",
    "0.5",
    "--nresamples",
    "5000",
];

const QUICK: [&str; 9] = [
    "--noplot",
    "--warm-up-time",
    "0.01",
    "--measurement-time",
    "0.01",
    "--nresamples",
    "10",
    "--sample-size",
    "10",
];

/// Every part that can be asked for.
pub(crate) fn parts() -> impl Iterator<Item = &'static str> {
    CRITERION.iter().map(|(name, _)| *name).chain(OWN)
}

/// Measures one part, once.
pub(crate) fn part(name: &str, quick: bool, figures: &mut Figures) -> Result<(), String> {
    if OWN.contains(&name) {
        own(name, quick, figures)?;
        return if name == "beside" {
            go(quick, figures)
        } else {
            Ok(())
        };
    }
    let feature = CRITERION.iter().find(|(bench, _)| *bench == name);
    let (_, feature) = feature.ok_or_else(|| format!("there is no part {name:?}"))?;
    criterion(name, *feature, quick, figures)
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn cargo_bench(name: &str, feature: Option<&str>) -> Command {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command
        .current_dir(root())
        .args(["bench", "--locked", "--bench", name]);
    command.args(feature.iter().flat_map(|feature| ["--features", *feature]));
    command.arg("--");
    command
}

/// What it wrote to its standard output.
fn run(command: &mut Command) -> Result<String, String> {
    let output = command
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output();
    let output = output.map_err(|error| format!("{command:?}: {error}"))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    match output.status.success() {
        true => Ok(text),
        false => Err(format!("{command:?}: {}\n{text}", output.status)),
    }
}

fn own(name: &str, quick: bool, figures: &mut Figures) -> Result<(), String> {
    let mut command = cargo_bench(name, None);
    command.args(quick.then_some("--quick"));
    figures.read_rows(&run(&mut command)?);
    Ok(())
}

/// The same cases in Go; not an error where there is no Go.
fn go(quick: bool, figures: &mut Figures) -> Result<(), String> {
    let mut command = Command::new(env::var_os("CLEANBREAK_GO").unwrap_or_else(|| "go".into()));
    // What is here, and nothing that would have to be fetched.
    command
        .env("GOTOOLCHAIN", "local")
        .env("GOFLAGS", "-mod=mod");
    command
        .env("GOPROXY", "off")
        .current_dir(root().join("benches/go"));
    command.args(["run", "."]).args(quick.then_some("--quick"));
    if let Err(error) = Command::new(command.get_program()).arg("version").output() {
        println!("SKIPPED: the cases in Go: no `go` on the path ({error})");
        figures.about.insert("go".into(), "none: skipped".into());
        return Ok(());
    }
    let text = run(&mut command)?;
    let version = text.lines().find_map(|line| line.strip_prefix("# go: "));
    let version = version.ok_or("the program in Go did not tell its version")?;
    figures.about.insert("go".into(), version.to_owned());
    figures.read_rows(&text);
    Ok(())
}

fn criterion(
    name: &str,
    feature: Option<&str>,
    quick: bool,
    figures: &mut Figures,
) -> Result<(), String> {
    // A home of its own, so that no result of another run is taken for one of this.
    let home = home(name);
    drop(fs::remove_dir_all(&home));
    let mut command = cargo_bench(name, feature);
    command.env("CRITERION_HOME", &home);
    if quick {
        command.args(QUICK);
    } else {
        command.args(SETTINGS);
    }
    printed(name, &run(&mut command)?, figures);
    collect(name, &home, figures)
}

fn home(name: &str) -> PathBuf {
    let target =
        env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from);
    root().join(target).join("report").join(name)
}

/// Takes the medians from what criterion has written.
fn collect(part: &str, folder: &Path, figures: &mut Figures) -> Result<(), String> {
    let told = |error: std::io::Error| format!("{}: {error}", folder.display());
    for entry in fs::read_dir(folder).map_err(told)? {
        let path = entry.map_err(told)?.path();
        if !path.is_dir() {
            continue;
        }
        if path.file_name().is_some_and(|name| name == "new") {
            let (bench, estimates) = (json(&path, "benchmark")?, json(&path, "estimates")?);
            let median = estimates["median"]["point_estimate"].as_f64();
            let median = median.ok_or_else(|| format!("no median in {}", path.display()))?;
            figures.add(key(part, &bench), median);
        } else {
            collect(part, &path, figures)?;
        }
    }
    Ok(())
}

fn json(folder: &Path, name: &str) -> Result<Value, String> {
    let path = folder.join(name).with_extension("json");
    let told = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
    let text = fs::read_to_string(&path).map_err(|error| told(&error))?;
    serde_json::from_str(&text).map_err(|error| told(&error))
}

fn key(part: &str, bench: &Value) -> Key {
    let text = |name: &str| bench[name].as_str().unwrap_or_default().to_owned();
    let mut case = text("group_id");
    let mut who = text("function_id");
    let value = text("value_str");
    if !value.is_empty() {
        who = if who.is_empty() {
            value
        } else {
            format!("{who}/{value}")
        };
    }
    if who.is_empty() {
        // A function without a group: the last part of its name is the contender.
        if let Some((group, function)) = case.clone().rsplit_once('/') {
            (case, who) = (group.to_owned(), function.to_owned());
        }
    }
    let n = bench["throughput"]["Elements"].as_u64().unwrap_or(1);
    let (part, unit) = (part.to_owned(), "ns".to_owned());
    Key {
        part,
        case,
        who,
        n,
        unit,
    }
}

/// Figures for which criterion has no place, and which the benches print.
fn printed(part: &str, text: &str, figures: &mut Figures) {
    let mut add = |case: &str, who: &str, unit: &str, value: f64| {
        let (part, case) = (part.to_owned(), case.to_owned());
        let (who, unit) = (who.to_owned(), unit.to_owned());
        figures.add(
            Key {
                part,
                case,
                who,
                n: 1,
                unit,
            },
            value,
        );
    };
    let (mut seen, mut missed, mut off) = (Vec::new(), None, 0.0_f64);
    for line in text.lines() {
        // breakout/bytes/NAME: 64.0 bytes/op, …
        let bytes = line
            .strip_prefix("breakout/bytes/")
            .and_then(|l| l.split_once(": "));
        if let Some((who, rest)) = bytes {
            let bytes = rest.split_whitespace().next().and_then(|n| n.parse().ok());
            if let Some(bytes) = bytes.filter(|_| !seen.contains(&who)) {
                seen.push(who);
                add("breakout/bytes", who, "B", bytes);
            }
        }
        // ticker/10k_at_100ms: …, 0 missed, at most 700.0ns off the grid of their start
        if let Some(rest) = line.strip_prefix("ticker/10k_at_100ms: ") {
            let number = rest
                .split_once(" missed")
                .and_then(|(before, _)| before.rsplit(' ').next()?.parse::<f64>().ok());
            let grid = rest
                .split_once("at most ")
                .and_then(|(_, after)| nanos_of_word(after));
            missed = match (missed, number) {
                (Some(a), Some(b)) => Some(f64::max(a, b)),
                (known, new) => known.or(new),
            };
            off = off.max(grid.unwrap_or(0.0));
        }
        // the first dump: 140.1ms, …
        if let Some(rest) = line.strip_prefix("the first dump: ") {
            let took = rest.split(',').next().and_then(nanos);
            if let Some(took) = took {
                add("dump", "first", "ns", took);
            }
        }
    }
    if let Some(missed) = missed {
        add("ticker/10k_at_100ms", "missed", "", missed);
        add("ticker/10k_at_100ms", "off grid", "ns", off);
    }
}

fn nanos_of_word(text: &str) -> Option<f64> {
    nanos(text.split_whitespace().next()?)
}

/// That the lines which the benches print are understood.
pub(crate) fn check() -> Result<(), String> {
    let mut figures = Figures::default();
    printed(
        "sample",
        "breakout/bytes/anyhow_return: 1632.5 bytes/op, 3 bytes in 2 operations\n\
         ticker/10k_at_100ms: 10000 tickers, 1 thread, 9 ticks in 2.00s, 2 missed, at most 1.5µs off the grid\n\
         ticker/10k_at_100ms: 10000 tickers, 1 thread, 9 ticks in 2.00s, 1 missed, at most 2.5µs off the grid\n\
         the first dump: 140.1ms, of which on a processor 12.0ms\n",
        &mut figures,
    );
    for (case, who, expected) in [
        ("breakout/bytes", "anyhow_return", 1632.5),
        ("ticker/10k_at_100ms", "missed", 2.0),
        ("ticker/10k_at_100ms", "off grid", 2500.0),
        ("dump", "first", 140.1e6),
    ] {
        let found = figures.find(case, who).map(|(_, range)| range.middle);
        if found != Some(expected) {
            return Err(format!("{case} {who} is read as {found:?}, not {expected}"));
        }
    }
    Ok(())
}

/// A duration as `Debug` shows it.
fn nanos(text: &str) -> Option<f64> {
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.')?;
    let value: f64 = text[..digits].parse().ok()?;
    let scale = match &text[digits..] {
        "ns" => 1.0,
        "µs" => 1e3,
        "ms" => 1e6,
        "s" => 1e9,
        _ => return None,
    };
    Some(value * scale)
}

/// How many others ran in the minute before; empty where that is not known.
fn load() -> String {
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split(' ').next().unwrap_or_default().to_owned();
    if load.parse().is_ok_and(|load: f64| load > 2.0) {
        println!(
            "WARNING: the machine is busy (load {load}): these figures are not to be published"
        );
    }
    load
}

/// Machine, compiler, commit: what figures mean nothing without. If it is only some parts that are
/// measured, it says which.
pub(crate) fn about(figures: &mut Figures, runs: usize, some: Option<&str>) {
    let told = |program: &str, args: &[&str]| {
        let output = Command::new(program)
            .args(args)
            .current_dir(root())
            .output();
        let text = output.ok().filter(|output| output.status.success());
        text.map_or_else(String::new, |output| {
            String::from_utf8_lossy(&output.stdout).trim().to_owned()
        })
    };
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let cpu = cpu
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let release = kernel.split('-').next().unwrap_or_default().trim();
    let mut commit = told("git", &["rev-parse", "--short", "HEAD"]);
    if !told(
        "git",
        &[
            "status",
            "--porcelain",
            "--",
            "src",
            "benches",
            "Cargo.lock",
        ],
    )
    .is_empty()
    {
        commit.push_str(" with changes");
    }
    let date = told("date", &["+%Y-%m-%d"]);
    if let Some(parts) = some.filter(|_| figures.about.contains_key("date")) {
        let later = format!("{parts} on {date} at commit {commit}");
        figures.about.insert("later".to_owned(), later);
        return;
    }
    figures.about.clear();
    for (name, value) in [
        ("date", date),
        ("commit", commit),
        (
            "rustc",
            told("rustc", &["--version"])
                .split(' ')
                .nth(1)
                .unwrap_or_default()
                .to_owned(),
        ),
        (
            "processor",
            cpu.map_or("unknown", |(_, name)| name).to_owned(),
        ),
        ("cores", cores.to_string()),
        ("system", format!("{} {release}", env::consts::OS)),
        ("runs", runs.to_string()),
        ("load", load()),
    ] {
        figures.about.insert(name.to_owned(), value);
    }
}
