//! Language of the comments: no sentence begins with a banned word. Doc comments of flags are also their help texts.
#![allow(clippy::panic, clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    fs,
    path::{Path, PathBuf},
};

use sentences::{banned, beginnings};

#[path = "support/sentences.rs"]
mod sentences;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// Folders and files with Rust sources.
const SOURCES: [&str; 5] = ["benches", "build.rs", "patches", "src", "tests"];

/// Folders and files with findings that are not fixed yet. Each must have at least one.
const LEFT: &[&str] = &[];

/// Rust files at a path or below it, relative to the root of the project.
fn rust_files(path: &Path, files: &mut Vec<PathBuf>) {
    let full = Path::new(ROOT).join(path);
    if full.is_dir() {
        for entry in fs::read_dir(full).unwrap() {
            rust_files(&path.join(entry.unwrap().file_name()), files);
        }
    } else if path.extension().is_some_and(|extension| extension == "rs") {
        files.push(path.to_owned());
    }
}

/// Comments of a source as Markdown, with an empty line for each line of code.
fn comments(source: &str) -> String {
    let text = source.lines().map(|line| {
        let comment = line.trim_start().strip_prefix("//").unwrap_or("");
        let comment = comment.strip_prefix(['/', '!']).unwrap_or(comment);
        format!("{}\n", comment.strip_prefix(' ').unwrap_or(comment))
    });
    text.collect()
}

/// Lines of a source in which a sentence of a comment begins with a banned word, and these beginnings.
fn findings(source: &str) -> Vec<(usize, String)> {
    let found = beginnings(&comments(source)).into_iter().filter(|(_, beginning)| banned(beginning).is_some());
    found.map(|(line, beginning)| (line, beginning.chars().take(60).collect())).collect()
}

#[test]
fn no_sentence_of_the_comments_begins_with_a_banned_word() {
    let mut files = vec![];
    for path in SOURCES {
        rust_files(Path::new(path), &mut files);
    }
    files.sort();
    assert!(files.len() > 100, "only {} files were found", files.len());
    let mut problems = vec![];
    let mut left = vec![];
    for file in files {
        let found = findings(&fs::read_to_string(Path::new(ROOT).join(&file)).unwrap());
        let place = LEFT.iter().find(|place| file.starts_with(place));
        match place {
            Some(place) if !found.is_empty() => left.push(*place),
            Some(_) => {}
            None => {
                let lines =
                    found.into_iter().map(|(line, beginning)| format!("{}:{line}: {beginning}", file.display()));
                problems.extend(lines);
            }
        }
    }
    assert!(problems.is_empty(), "sentences that begin with a banned word:\n{}", problems.join("\n"));
    let done: Vec<_> = LEFT.iter().filter(|place| !left.contains(place)).collect();
    assert!(done.is_empty(), "nothing is left in {done:?}: remove these entries from LEFT");
}

#[test]
fn findings_are_beginnings_of_sentences_in_comments() {
    let source = [
        "//! What it is.",
        "//!",
        "//! Text goes",
        "//! what on. Most of it.",
        "",
        "/// Port. How so",
        "let x = 1; // what",
        "    // who asked",
        "    // Mostly harmless",
        "let y = \"What\";",
        "/// Whether it is",
        "/// ```",
        "/// What",
        "/// ```",
    ];
    let found = findings(&source.join("\n"));
    let lines: Vec<usize> = found.iter().map(|(line, _)| *line).collect();
    assert_eq!(lines, [1, 4, 6, 8, 11], "{found:?}");
}
