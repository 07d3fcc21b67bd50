//! The example `pipeline`, end to end: its program, its files, real signals. Whatever happens, each
//! order is in one of the files, once.
#![cfg(target_os = "linux")]

// The pure module of the example brings its unit tests along.
#[path = "../examples/pipeline/order.rs"]
#[allow(dead_code, reason = "the example uses the rest")]
mod order;
#[path = "support/program.rs"]
mod program;
mod support;

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use program::{Ended, Folder, Running, program};
use rustix::io::ioctl_fionread;
use rustix::process::Signal;
use support::until;

fn pipeline(arguments: &[&str], out: &Path) -> Command {
    let mut command = Command::new(program("pipeline"));
    command.args(arguments).arg("--out").arg(out);
    command.stdin(Stdio::null());
    command
}

fn run(arguments: &[&str], out: &Path) -> Ended {
    Running::start(&mut pipeline(arguments, out)).wait()
}

/// The lines of a file of results, without the header.
fn lines(out: &Path, file: &str) -> Vec<String> {
    let text = fs::read_to_string(out.join(file)).unwrap();
    text.lines().skip(1).map(str::to_owned).collect()
}

fn ids(out: &Path, file: &str) -> Vec<String> {
    let id = |line: &String| line.split(',').next().unwrap().to_owned();
    lines(out, file).iter().map(id).collect()
}

const ENDS: [&str; 3] = ["shipments.csv", "refused.csv", "dead.csv"];

/// How many orders ended in each file; no spill may be left beside them.
fn counts(out: &Path) -> [usize; 4] {
    let mut files: Vec<_> = fs::read_dir(out)
        .unwrap()
        .map(|file| file.unwrap().file_name())
        .collect();
    files.sort();
    let expected = [
        "backlog.csv",
        "dead.csv",
        "refused.csv",
        "shipments.csv",
        "stock.csv",
    ];
    assert_eq!(files, expected);
    ["shipments.csv", "refused.csv", "dead.csv", "backlog.csv"].map(|file| lines(out, file).len())
}

fn stock(file: &Path) -> BTreeMap<String, u64> {
    let text = fs::read_to_string(file).unwrap();
    let lines = text.lines().skip(1);
    let parse = |line: &str| {
        let (sku, quantity) = line.split_once(',').unwrap();
        (sku.to_owned(), quantity.parse().unwrap())
    };
    lines.map(parse).collect()
}

/// What was shipped, by article.
fn shipped(outs: &[&Path]) -> BTreeMap<String, u64> {
    let mut sums = BTreeMap::new();
    for line in outs.iter().flat_map(|out| lines(out, "shipments.csv")) {
        let fields: Vec<_> = line.split(',').collect();
        *sums.entry(fields[1].to_owned()).or_default() += fields[2].parse::<u64>().unwrap();
    }
    sums
}

#[test]
fn the_sample_orders_end_as_they_should() {
    let folder = Folder::new("pipeline");
    let out = folder.join("out");
    let ended = run(&[], &out);
    ended.exits(0);
    ended.said("16 accepted = 10 shipped + 3 refused + 3 dead + 0 handed back\n");
    assert_eq!(counts(&out), [10, 3, 3, 0]);
    assert_eq!(ids(&out, "refused.csv"), ["1005", "1013", "1015"]);
    let mut dead = lines(&out, "dead.csv");
    dead.sort();
    let expected = [
        r#"11,the quantity is no positive number,"1010,bolt,twelve,AT""#,
        r#"12,no way to Atlantis,"1011,chain,12,Atlantis""#,
        r#"9,no article flange,"1008,flange,1,IT""#,
    ];
    assert_eq!(dead, expected);
    let left = "sku,quantity\nanvil,0\nbolt,0\nchain,15\ndrill,0\neasel,0\n";
    assert_eq!(folder.read("out/stock.csv"), left);
}

#[test]
fn without_an_output_folder_nothing_is_left() {
    let folder = Folder::new("pipeline");
    let mut command = Command::new(program("pipeline"));
    let ended = Running::start(command.env("TMPDIR", &*folder)).wait();
    ended.exits(0).said("16 accepted");
    assert_eq!(fs::read_dir(&*folder).unwrap().count(), 0);
}

#[test]
fn a_stuck_last_stage_never_blocks_the_first_and_a_later_run_does_the_rest() {
    let folder = Folder::new("pipeline");
    let (first, second) = (folder.join("first"), folder.join("second"));
    let start = folder.write("stock.csv", "sku,quantity\na,9000\nb,9000\nc,100\n");
    let given = format!("--stock={}", start.display());
    let ended = run(
        &["--stuck", "--generate=1500", "--patience=500ms", &given],
        &first,
    );
    ended.exits(3).said("1500 accepted = 0 shipped + ");
    ended
        .complained("orders are stuck")
        .complained("to get an answer of the carrier");
    // Far more than the places in the channels.
    ended.said("times an order waited in a file");
    let [shipped_first, refused, dead, back] = counts(&first);
    assert_eq!((shipped_first, refused + dead + back), (0, 1500));
    assert!(back > 800, "{}", ended.out);

    let orders = format!("--orders={}", first.join("backlog.csv").display());
    let stocked = format!("--stock={}", first.join("stock.csv").display());
    let ended = run(&[&orders, &stocked], &second);
    ended
        .exits(0)
        .said(&format!("{back} accepted = "))
        .said(" + 0 handed back");
    let mut all: Vec<_> = [&first, &second]
        .into_iter()
        .flat_map(|out| {
            ENDS[..2]
                .iter()
                .flat_map(|file| ids(out, file))
                .collect::<Vec<_>>()
        })
        .collect();
    let dead_letters = lines(&first, ENDS[2]).len() + lines(&second, ENDS[2]).len();
    all.sort();
    all.dedup();
    assert_eq!(all.len() + dead_letters, 1500);
    // Goods are where they were, or shipped.
    let mut goods = stock(&second.join("stock.csv"));
    for (sku, quantity) in shipped(&[&second]) {
        *goods.get_mut(&sku).unwrap() += quantity;
    }
    assert_eq!(goods, stock(&start));
}

#[test]
fn ctrl_c_in_the_middle_loses_nothing_that_was_read_from_a_pipe() {
    for (signal, name, status) in [(Signal::INT, "SIGINT", 130), (Signal::TERM, "SIGTERM", 143)] {
        let folder = Folder::new("pipeline");
        let out = folder.join("out");
        let stock = folder.write("stock.csv", "a,1000000\n");
        let stock = format!("--stock={}", stock.display());
        let mut command = pipeline(&["--orders=-", "--takes=20ms", &stock], &out);
        let mut running = Running::start(command.stdin(Stdio::piped()));
        let mut stdin = running.stdin();
        let orders: String = (1..=1000).map(|n| format!("o{n},a,1,DE\n")).collect();
        write!(stdin, "{orders}o1001,a,1").unwrap();
        until(|| ioctl_fionread(&stdin).unwrap() == 0);
        until(|| {
            fs::read_to_string(out.join("shipments.csv")).is_ok_and(|text| text.lines().count() > 3)
        });
        // The pipe stays open: the first stage is blocked in a read.
        let ended = running.stop(signal);
        ended
            .exits(status)
            .said(&format!("stopped by {name}"))
            .said("1001 accepted = ");
        let [_, _, dead, back] = counts(&out);
        assert_eq!(dead, 1);
        assert!(back > 0);
        assert!(
            folder
                .read("out/dead.csv")
                .contains(r#"1001,the line was cut off by the stop,"o1001,a,1""#)
        );
        let files = ["shipments.csv", "backlog.csv"];
        let mut all: Vec<_> = files.iter().flat_map(|file| ids(&out, file)).collect();
        all.sort_by_key(|id| id[1..].parse::<u32>().unwrap());
        assert!(all.into_iter().eq((1..=1000).map(|n| format!("o{n}"))));
    }
}

#[test]
fn ctrl_c_in_the_middle_of_a_file_says_where_to_go_on() {
    let folder = Folder::new("pipeline");
    let outs = ["first", "second", "third"].map(|name| folder.join(name));
    let total = 2_000;
    let orders: String = (1..=total).map(|n| format!("o{n},a,1,DE\n")).collect();
    let orders = folder.write("orders.csv", orders);
    let orders = format!("--orders={}", orders.display());
    let stock = |file: &Path| format!("--stock={}", file.display());
    let given = stock(&folder.write("stock.csv", "a,1000000\n"));
    let running = Running::start(&mut pipeline(&[&orders, "--takes=20ms", &given], &outs[0]));
    until(|| {
        let text = fs::read_to_string(outs[0].join("shipments.csv"));
        text.is_ok_and(|text| text.lines().count() > 3)
    });
    let ended = running.stop(Signal::INT);
    ended.exits(130).said("stopped by SIGINT");
    let [shipped, _, dead, back] = counts(&outs[0]);
    assert!(dead == 0 && back > 0, "{}", ended.out);
    // If all had been read by then, there is nothing to skip, but all.
    let skip = ended
        .out
        .lines()
        .find_map(|line| line.split_once("--skip "));
    let skip = skip.map_or(total, |(_, lines)| lines.trim().parse().unwrap());
    assert_eq!(shipped + back, skip);

    let backlog = format!("--orders={}", outs[0].join("backlog.csv").display());
    let left = stock(&outs[0].join("stock.csv"));
    run(&[&backlog, &left], &outs[1]).exits(0);
    let left = stock(&outs[1].join("stock.csv"));
    run(&[&orders, &left, &format!("--skip={skip}")], &outs[2]).exits(0);
    let mut all: Vec<_> = outs
        .iter()
        .flat_map(|out| ids(out, "shipments.csv"))
        .collect();
    all.sort_by_key(|id| id[1..].parse::<u32>().unwrap());
    assert!(all.into_iter().eq((1..=total).map(|n| format!("o{n}"))));
    assert_eq!(folder.read("third/stock.csv"), "sku,quantity\na,998000\n");
}

#[test]
fn orders_are_shipped_in_the_order_of_their_coming_also_through_the_files() {
    let folder = Folder::new("pipeline");
    let out = folder.join("out");
    let orders: String = (1..=600).map(|n| format!("o{n},a,1,DE\n")).collect();
    let orders = folder.write("orders.csv", orders);
    let stock = folder.write("stock.csv", "a,1000000\n");
    let arguments = [
        format!("--orders={}", orders.display()),
        format!("--stock={}", stock.display()),
        "--takes=1ms".to_owned(),
    ];
    let ended = run(&arguments.each_ref().map(String::as_str), &out);
    ended
        .exits(0)
        .said("600 accepted = 600 shipped")
        .said("times an order waited in a file");
    assert!(
        ids(&out, "shipments.csv")
            .into_iter()
            .eq((1..=600).map(|n| format!("o{n}")))
    );
}

#[test]
fn a_bug_that_one_order_meets_costs_no_other() {
    let folder = Folder::new("pipeline");
    let out = folder.join("out");
    run(&["--bug=1002"], &out)
        .exits(0)
        .said("16 accepted = 9 shipped + 3 refused + 4 dead");
    assert!(
        folder
            .read("out/dead.csv")
            .contains("3,the stage panicked: a bug that order 1002 meets")
    );
    // Its goods are back.
    assert_eq!(stock(&out.join("stock.csv"))["anvil"], 1);
}

#[test]
fn lines_that_were_done_can_be_skipped() {
    let folder = Folder::new("pipeline");
    let out = folder.join("out");
    run(&["--skip=10"], &out).exits(0).said("7 accepted");
}

#[test]
fn results_that_cannot_be_written_are_told_and_it_fails() {
    let folder = Folder::new("pipeline");
    let out = folder.join("out");
    let mut command = Command::new("sh");
    // What a full disk does to the writer, without a disk to fill.
    let script = "trap '' XFSZ; ulimit -f 4; exec \"$0\" \"$@\"";
    command.arg("-c").arg(script).arg(program("pipeline"));
    let stock = folder.write("stock.csv", "a,1000000\n");
    let stock = format!("--stock={}", stock.display());
    let ended = Running::start(
        command
            .args(["--generate=2000", &stock])
            .arg("--out")
            .arg(&out),
    )
    .wait();
    ended.exits(1).complained("entries could not be written");
    let accepted = ended
        .out
        .lines()
        .find_map(|line| line.split_once(" accepted"));
    let accepted: usize = accepted.unwrap().0.parse().unwrap();
    let whole = |file: &str| {
        let text = fs::read_to_string(out.join(file)).unwrap();
        // A line that was cut by the limit is on standard error as a whole.
        text.matches('\n').count() - 1
    };
    let files = ["shipments.csv", "refused.csv", "dead.csv", "backlog.csv"];
    let written: usize = files.iter().map(|file| whole(file)).sum();
    let told = ended.err.matches("pipeline: not in ").count();
    assert_eq!(written + told, accepted, "{}", ended.err);
    assert!(told > 0 && written > 0);
}

#[test]
fn results_of_another_run_are_not_touched() {
    let folder = Folder::new("pipeline");
    let out = folder.join("out");
    run(&[], &out).exits(0);
    let before = folder.read("out/shipments.csv");
    run(&[], &out).exits(1).complained("File exists");
    assert_eq!(folder.read("out/shipments.csv"), before);
    counts(&out);
}

#[test]
fn what_it_cannot_begin_with_is_told() {
    let folder = Folder::new("pipeline");
    let out = folder.join("out");
    let bad = folder.write("stock.csv", "sku,quantity\na,1\na,2\n");
    run(&["--stock", bad.to_str().unwrap()], &out)
        .exits(1)
        .complained("given twice");
    run(&["--orders=nowhere.csv"], &out)
        .exits(1)
        .complained("nowhere.csv: No such file");
    run(&["--generate=x"], &out)
        .exits(2)
        .complained("invalid digit");
    run(&["--takes=5"], &out)
        .exits(2)
        .complained("no time such as");
    run(&["--fast"], &out).exits(2).complained("unknown option");
    run(&["--seed"], &out)
        .exits(2)
        .complained("--seed: \"--out\"");
}
