//! The floors of the house: a module uses only what `lib.rs` declares above it.

use std::fs;
use std::path::{Path, PathBuf};

/// The modules in the order in which `lib.rs` declares them.
fn floors(lib: &str) -> Vec<String> {
    let declared = lib.lines().filter_map(|line| {
        let line = line.trim_start_matches("pub ").strip_prefix("mod ")?;
        line.strip_suffix(';').map(str::to_owned)
    });
    declared.collect()
}

/// Arrows that run back up: (module, module above it that it names).
fn upward_arrows(floors: &[String], module: &str, source: &str) -> Vec<(String, String)> {
    let own = floors.iter().position(|floor| floor == module);
    let own = own.unwrap_or_else(|| panic!("`lib.rs` does not declare {module}"));
    let code = source
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"));
    let mut arrows = Vec::new();
    for line in code {
        for path in line.split("crate::").skip(1) {
            let end = path.find(|c: char| !c.is_alphanumeric() && c != '_');
            let target = &path[..end.unwrap_or(path.len())];
            match floors.iter().position(|floor| floor == target) {
                Some(floor) if floor <= own => {}
                _ => arrows.push((module.to_owned(), target.to_owned())),
            }
        }
    }
    arrows
}

fn rust_files(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            rust_files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

#[test]
fn no_arrow_runs_back_up() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let floors = floors(&fs::read_to_string(src.join("lib.rs")).unwrap());
    let mut files = Vec::new();
    rust_files(&src, &mut files);
    let mut arrows = Vec::new();
    let mut read = 0;
    for file in files {
        let module = file.strip_prefix(&src).unwrap().iter().next().unwrap();
        let module = module.to_str().unwrap().trim_end_matches(".rs");
        // The contents page names everything; the model includes the protocols from outside.
        if module == "lib" || module == "model" {
            continue;
        }
        read += 1;
        arrows.extend(upward_arrows(
            &floors,
            module,
            &fs::read_to_string(&file).unwrap(),
        ));
    }
    assert!(read > 15, "only {read} files found");
    assert_eq!(arrows, []);
}

#[test]
fn an_arrow_that_runs_back_up_is_found() {
    let floors = floors("mod sync;\n#[cfg(x)]\npub mod clock;\npub mod cancel;\npub use a::b;\n");
    assert_eq!(floors, ["sync", "clock", "cancel"]);
    let source = "use crate::sync::Arc;\n//! [`crate::cancel`]\nuse crate::cancel::CancelToken;";
    let arrow = ("clock".to_owned(), "cancel".to_owned());
    assert_eq!(upward_arrows(&floors, "clock", source), [arrow]);
    assert_eq!(upward_arrows(&floors, "cancel", source), []);
}
