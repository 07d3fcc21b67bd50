//! The report: runs every bench, and writes `docs/figures.csv`, the tables of `docs/PERFORMANCE.md` and
//! the charts in `docs/plots/` from what they found. One command does all, in about a quarter of an hour
//! on two idle cores, besides compiling:
//!
//! ```sh
//! cargo bench --bench report
//! ```
//!
//! With `-- --part token --part growth` only those parts are measured, and the others keep the figures
//! that they have; with `-- --render` nothing is measured and everything is written anew. `--runs N`
//! measures each part so often (2), `--quick` next to nothing, to see that it works: its figures mean
//! nothing, so it writes to `target/report` unless told otherwise by `--out FOLDER`.
//!
//! `-- --check`, which is also what `-- --test` does, measures nothing: it fails if the page, the charts
//! and the figures that are kept do not fit each other.
#![allow(clippy::disallowed_methods, reason = "measures time")]

mod cases;
mod figures;
mod measure;
mod page;
mod plots;
#[path = "../../examples/shared/svg.rs"]
mod svg;
mod tables;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use figures::{Figures, Key};

const PAGE: &str = "PERFORMANCE.md";

fn docs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("docs")
}

struct Options {
    parts: Vec<String>,
    runs: usize,
    quick: bool,
    render: bool,
    check: bool,
    out: PathBuf,
}

fn options() -> Result<Options, String> {
    let (mut parts, mut out) = (Vec::new(), None);
    let (mut runs, mut quick, mut render, mut check) = (2, false, false, false);
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        let mut value = || args.next().ok_or_else(|| format!("{arg} takes a value"));
        match arg.as_str() {
            "--bench" => {} // from cargo
            "--part" => parts.push(value()?),
            "--runs" => runs = value()?.parse().map_err(|_| "--runs takes a number")?,
            "--out" => out = Some(PathBuf::from(value()?)),
            "--quick" => quick = true,
            "--render" => render = true,
            "--check" | "--test" => check = true,
            other => {
                return Err(format!(
                    "there is no option {other:?}; see benches/report/main.rs"
                ));
            }
        }
    }
    if let Some(part) = parts
        .iter()
        .find(|part| !measure::parts().any(|known| known == *part))
    {
        let known = measure::parts().collect::<Vec<_>>().join(", ");
        return Err(format!("there is no part {part:?}; there are {known}"));
    }
    if runs == 0 {
        return Err("--runs takes at least 1".into());
    }
    let aside = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/report/docs");
    let out = out.unwrap_or(if quick { aside } else { docs() });
    Ok(Options {
        parts,
        runs,
        quick,
        render,
        check,
        out,
    })
}

fn main() -> ExitCode {
    let done = options().and_then(|options| match options.check {
        true => check(&options.out),
        false => report(&options),
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("report: {error}");
            ExitCode::FAILURE
        }
    }
}

fn report(options: &Options) -> Result<(), String> {
    prepare(&options.out)?;
    let mut figures = load(&options.out);
    let mut failed = Vec::new();
    if !options.render {
        failed = take(options, &mut figures);
    }
    let rows = tables::rows();
    for (case, who) in rows
        .iter()
        .flat_map(tables::Row::ids)
        .chain(tables::column_ids())
    {
        // Not all take part in the last row of the breakers' table.
        if figures.find(case, who).is_none() && case != "breaker/rejected_when_open" {
            println!("no figure yet: {case} {who}");
        }
    }
    render(&options.out, &figures)?;
    println!("written: {}", options.out.display());
    match failed.as_slice() {
        [] => Ok(()),
        failed => Err(format!("not all was measured:\n{}", failed.join("\n"))),
    }
}

fn render(out: &Path, figures: &Figures) -> Result<(), String> {
    write(&out.join("figures.csv"), &figures.save())?;
    let page = out.join(PAGE);
    write(&page, &page::fill(&read(&page)?, figures)?)?;
    for (name, draw) in plots::PLOTS {
        if let Some(svg) = draw(figures) {
            write(&out.join("plots").join(name), &svg)?;
        }
    }
    Ok(())
}

/// Measures what was asked for. A part that fails costs its own figures only; the errors come back.
fn take(options: &Options, figures: &mut Figures) -> Vec<String> {
    let asked = |part: &&str| options.parts.is_empty() || options.parts.iter().any(|p| p == part);
    let parts: Vec<_> = measure::parts().filter(asked).collect();
    parts.iter().for_each(|part| figures.forget(part));
    let some = (!options.parts.is_empty()).then(|| parts.join(", "));
    measure::about(figures, options.runs, some.as_deref());
    let start = Instant::now();
    let mut failed = Vec::new();
    // Round by round, so that the runs of one part are apart in time.
    for run in 1..=options.runs {
        for part in &parts {
            println!(
                "== {part}, run {run} of {} ({:.0?})",
                options.runs,
                start.elapsed()
            );
            if let Err(error) = measure::part(part, options.quick, figures) {
                eprintln!("report: {error}");
                failed.push(error);
            }
        }
    }
    println!("== measured in {:.0?}", start.elapsed());
    failed
}

/// A folder like `docs`. Elsewhere than there, its page is a copy.
fn prepare(out: &Path) -> Result<(), String> {
    let plots = out.join("plots");
    fs::create_dir_all(&plots).map_err(|error| format!("{}: {error}", plots.display()))?;
    let same = |a: &Path, b: &Path| a.canonicalize().ok() == b.canonicalize().ok();
    match same(out, &docs()) {
        true => Ok(()),
        false => write(&out.join(PAGE), &read(&docs().join(PAGE))?),
    }
}

fn load(out: &Path) -> Figures {
    let kept = fs::read_to_string(out.join("figures.csv"));
    kept.map_or_else(|_| Figures::default(), |text| Figures::load(&text))
}

fn read(path: &Path) -> Result<String, String> {
    fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))
}

fn write(path: &Path, text: &str) -> Result<(), String> {
    fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()))
}

/// Without figures, that all of the page could be made; with them, that it has been.
fn check(docs: &Path) -> Result<(), String> {
    measure::check()?;
    let page = read(&docs.join(PAGE))?;
    drawn_from(&page, &imagined())?;
    if !docs.join("figures.csv").exists() {
        println!("report: the page can be made; no figures are kept yet");
        return Ok(());
    }
    let figures = load(docs);
    if Figures::load(&figures.save()) != figures {
        return Err("figures.csv does not come back as it was written".into());
    }
    if page::fill(&page, &figures)? != page {
        return Err("PERFORMANCE.md is not made from figures.csv: run with --render".into());
    }
    for (name, draw) in plots::PLOTS {
        let kept = fs::read_to_string(docs.join("plots").join(name)).ok();
        if draw(&figures) != kept {
            return Err(format!(
                "plots/{name} is not made from figures.csv: run with --render"
            ));
        }
    }
    println!("report: page, charts and figures fit each other");
    Ok(())
}

/// Draws everything, and looks for what cannot be right.
fn drawn_from(page: &str, figures: &Figures) -> Result<(), String> {
    let filled = page::fill(page, figures)?;
    if page::fill(&filled, figures)? != filled {
        return Err("filling a filled page changes it".into());
    }
    if Figures::load(&figures.save()) != *figures {
        return Err("figures do not come back as they were written".into());
    }
    for row in tables::rows() {
        if !filled.contains(row.label) {
            return Err(format!("the page has no row {:?}", row.label));
        }
    }
    for (name, draw) in plots::PLOTS {
        let svg = draw(figures).ok_or_else(|| format!("nothing to draw in {name}"))?;
        if !filled.contains(&format!("plots/{name}")) {
            return Err(format!("the page does not show {name}"));
        }
        if ["NaN", "inf"].iter().any(|bad| svg.contains(bad)) || !svg.ends_with("</svg>\n") {
            return Err(format!("{name} is no picture"));
        }
    }
    Ok(())
}

/// A figure for everything that the page can show.
fn imagined() -> Figures {
    let mut figures = Figures::default();
    for name in [
        "date",
        "commit",
        "rustc",
        "processor",
        "cores",
        "system",
        "go",
        "runs",
        "load",
    ] {
        figures.about.insert(name.into(), "1".into());
    }
    let mut value = 0.5;
    let mut add = |part: &str, case: &str, who: &str, n: u64, unit: &str| {
        value = value * 1.7 % 1e6;
        let (part, case) = (part.to_owned(), case.to_owned());
        let (who, unit) = (who.to_owned(), unit.to_owned());
        // To the three digits that are kept.
        let kept = (value * 1e3_f64).round() / 1e3;
        figures.add(
            Key {
                part,
                case,
                who,
                n,
                unit,
            },
            kept,
        );
    };
    let rows = tables::rows();
    let mut ids: Vec<_> = rows.iter().flat_map(tables::Row::ids).collect();
    ids.extend(tables::column_ids());
    ids.extend(cases::WAYS.iter().map(|(who, _)| ("breakout/grid", *who)));
    ids.extend([
        ("ticker/10k_at_100ms", "missed"),
        ("ticker/10k_at_100ms", "off grid"),
    ]);
    ids.sort_unstable();
    ids.dedup();
    ids.iter()
        .for_each(|(case, who)| add("imagined", case, who, 1, "ns"));
    for (case, _) in cases::GROWTH.iter().chain(&cases::MEMORY) {
        for (who, n) in ["cleanbreak", "crossbeam"]
            .iter()
            .flat_map(|w| [(w, 1), (w, 100)])
        {
            add("growth", case, who, n, "ns");
        }
    }
    for (case, who) in cases::BESIDE
        .iter()
        .flat_map(|(c, _)| [(c, "cleanbreak"), (c, "go")])
    {
        add("beside", case, who, 1, "ns");
    }
    figures
}
