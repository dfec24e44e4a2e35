//! The list of files that Nix passes to the build, `nix/sources.json`, contains every file that the build and the tests
//! read.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use serde::Deserialize;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

#[derive(Deserialize)]
struct Sources {
    build: Vec<PathBuf>,
    checks: Vec<PathBuf>,
}

fn sources() -> Sources {
    serde_json::from_str(&fs::read_to_string(Path::new(ROOT).join("nix/sources.json")).unwrap()).unwrap()
}

/// True if the list contains the file, or a folder around it.
fn has(list: &[PathBuf], file: &Path) -> bool {
    list.iter().any(|entry| file.starts_with(entry))
}

/// Files of this project that the compiler has read for one of its crates, as its own notes list them.
fn read_by_the_compiler(crates: impl Fn(&str) -> bool) -> BTreeSet<PathBuf> {
    // The program of this test is in the same folder as the compiler's notes.
    let folder = std::env::current_exe().unwrap().parent().unwrap().to_owned();
    let notes = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
    let of_crate = |path: &PathBuf| {
        let name = path.file_stem().and_then(|name| name.to_str()).and_then(|name| name.rsplit_once('-'));
        path.extension().is_some_and(|extension| extension == "d") && name.is_some_and(|(name, _)| crates(name))
    };
    let mut files = BTreeSet::new();
    for note in notes.filter(of_crate) {
        for line in fs::read_to_string(&note).unwrap().lines() {
            // A line `file:` for each of them; files of an earlier build may no longer exist.
            let Some(file) = line.strip_suffix(':').map(PathBuf::from) else { continue };
            let file = file.strip_prefix(ROOT).map(Path::to_owned).unwrap_or(file);
            if file.is_relative() && !file.starts_with("target") && Path::new(ROOT).join(&file).is_file() {
                files.insert(file);
            }
        }
    }
    files
}

/// Paths that the sources name relative to the project's folder, in the files below `folder`.
fn named_in(folder: &Path, named: &mut BTreeSet<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        if entry.is_dir() {
            named_in(&entry, named);
        } else if entry.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&entry).unwrap();
            let after = text.split("env!(\"CARGO_MANIFEST_DIR\"), \"/").skip(1);
            named.extend(after.filter_map(|rest| Some(PathBuf::from(rest.split_once('"')?.0))));
        }
    }
}

#[test]
fn every_source_of_the_programs_is_in_the_list() {
    let programs = ["apollo_network_benchmark", "apollo_bench", "broadcast_network_stress_test_node"];
    let read = read_by_the_compiler(|name| programs.contains(&name));
    assert!(read.contains(Path::new("src/lib.rs")), "{read:?}");
    assert!(read.contains(Path::new("src/live/page.html")), "what is included counts: {read:?}");
    // Clippy notes its settings too.
    let build = |file: &&PathBuf| has(&sources().build, file) || file.as_path() == Path::new("clippy.toml");
    let missing: Vec<_> = read.iter().filter(|file| !build(file)).collect();
    assert!(missing.is_empty(), "not in nix/sources.json: {missing:?}");
}

#[test]
fn every_source_and_path_of_the_tests_is_in_the_list() {
    let list = sources();
    let all = [list.build, list.checks].concat();
    let mut read = read_by_the_compiler(|_| true);
    assert!(read.contains(Path::new("tests/sources.rs")), "{read:?}");
    for folder in ["src", "tests"] {
        named_in(&Path::new(ROOT).join(folder), &mut read);
    }
    let missing: Vec<_> = read.iter().filter(|file| !has(&all, file)).collect();
    assert!(missing.is_empty(), "not in nix/sources.json: {missing:?}");
}

#[test]
fn every_entry_of_the_list_exists() {
    let list = sources();
    for entry in list.build.iter().chain(&list.checks) {
        assert!(Path::new(ROOT).join(entry).exists(), "{} is in nix/sources.json", entry.display());
    }
}
