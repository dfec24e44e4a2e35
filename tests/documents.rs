//! Documents for people: the reference of all commands, links, and the beginnings of sentences.
#![allow(clippy::panic, clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use sentences::{banned, beginnings, prose};

#[path = "support/sentences.rs"]
mod sentences;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// Programs with their names.
const PROGRAMS: [(&str, &str); 2] = [
    ("apollo-bench", env!("CARGO_BIN_EXE_apollo-bench")),
    ("broadcast_network_stress_test_node", env!("CARGO_BIN_EXE_broadcast_network_stress_test_node")),
];

/// Columns of the help in the reference.
const COLUMNS: &str = "110";

/// Documents, as paths from the root of the project.
fn documents() -> Vec<PathBuf> {
    let pages = fs::read_dir(Path::new(ROOT).join("docs")).unwrap().map(|entry| entry.unwrap().path());
    let pages = pages.filter(|page| page.extension().is_some_and(|extension| extension == "md"));
    let mut documents: Vec<PathBuf> = pages.map(|page| page.strip_prefix(ROOT).unwrap().to_owned()).collect();
    documents.extend(["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md"].map(PathBuf::from));
    documents.sort();
    documents
}

/// Help of a command, as the terminal shows it.
fn help(program: &str, words: &[String]) -> String {
    // Without the environment, which the help of flags would show.
    let output = Command::new(program).args(words).arg("--help").env_clear().env("COLUMNS", COLUMNS).output().unwrap();
    assert!(output.status.success(), "{words:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<&str> = text.trim_end().lines().map(str::trim_end).collect();
    lines.join("\n")
}

/// Subcommands that a help lists, without `help` itself.
fn subcommands(help: &str) -> Vec<String> {
    let listed = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    let listed = listed.take_while(|line| line.is_empty() || line.starts_with(' '));
    let names = listed.filter_map(|line| {
        let name = line.strip_prefix("  ")?;
        (!name.starts_with(' ')).then(|| name.split_whitespace().next())?
    });
    names.filter(|name| *name != "help").map(str::to_owned).collect()
}

/// Adds the help of a command and of all its subcommands.
fn describe(name: &str, program: &str, words: &mut Vec<String>, commands: &mut Vec<(String, String)>) {
    let text = help(program, words);
    let title = [&[name.to_owned()], words.as_slice()].concat().join(" ");
    let below = subcommands(&text);
    commands.push((title, text));
    for command in below {
        words.push(command);
        describe(name, program, words, commands);
        words.pop();
    }
}

/// Reference of all commands, as Markdown.
fn reference() -> String {
    let mut commands = vec![];
    for (name, program) in PROGRAMS {
        describe(name, program, &mut vec![], &mut commands);
    }
    let mut page = String::from(
        "# Commands\n\nThe help of every command. A test compares this page with the programs; `UPDATE_DOCS=1 cargo test \
         --test documents` writes it.\n\n",
    );
    for (title, _) in &commands {
        page.push_str(&format!("- [`{title}`](#{})\n", slug(title)));
    }
    for (title, text) in &commands {
        page.push_str(&format!("\n## `{title}`\n\n```text\n{text}\n```\n"));
    }
    page
}

/// Anchor of the first heading with this name in a page of GitHub.
fn slug(heading: &str) -> String {
    let kept = heading.trim().to_lowercase();
    let kept = kept.chars().filter(|letter| letter.is_alphanumeric() || [' ', '-', '_'].contains(letter));
    kept.map(|letter| if letter == ' ' { '-' } else { letter }).collect()
}

/// The anchors of a document.
fn anchors(text: &str) -> BTreeSet<String> {
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    let headings = prose(text).into_iter().filter(|(_, line)| line.starts_with('#'));
    let anchors = headings.map(|(_, line)| {
        let anchor = slug(line.trim_start_matches('#'));
        let times = seen.entry(anchor.clone()).or_default();
        *times += 1;
        if *times == 1 { anchor } else { format!("{anchor}-{}", *times - 1) }
    });
    anchors.collect()
}

/// A line without its code spans, which may contain anything.
fn without_code(line: &str) -> String {
    line.split('`').step_by(2).collect::<Vec<_>>().join("`")
}

/// Targets of the links in a line.
fn links(line: &str) -> Vec<String> {
    let line = without_code(line);
    let inline = line.split("](").skip(1).filter_map(|rest| Some(rest.split_once(')')?.0.to_owned()));
    let named = line.strip_prefix('[').and_then(|rest| Some(rest.split_once("]: ")?.1.to_owned()));
    inline.chain(named).collect()
}

/// Problem of a link, if it has one.
fn problem(document: &Path, target: &str) -> Option<String> {
    if target.starts_with("https://") || target.starts_with("http://") {
        return None;
    }
    let (path, anchor) = target.split_once('#').map_or((target, None), |(path, anchor)| (path, Some(anchor)));
    let own = Path::new(ROOT).join(document);
    let file = if path.is_empty() { own } else { own.parent().unwrap().join(path) };
    if !file.exists() {
        return Some(format!("{target}: no such file"));
    }
    let anchor = anchor?;
    let found = anchors(&fs::read_to_string(&file).unwrap()).contains(anchor);
    (!found).then(|| format!("{target}: no such heading"))
}

#[test]
fn the_reference_of_commands_is_the_help_of_the_programs() {
    let path = Path::new(ROOT).join("docs/commands.md");
    let reference = reference();
    for command in ["## `apollo-bench cluster start`", "## `broadcast_network_stress_test_node`"] {
        assert!(reference.contains(command), "{command} is missing");
    }
    assert!(!reference.contains("reap-docker"), "hidden commands are left out");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&path, &reference).unwrap();
    }
    let page = fs::read_to_string(&path).unwrap_or_default();
    let different = page.lines().zip(reference.lines()).position(|(page, help)| page != help);
    assert!(
        page == reference,
        "docs/commands.md differs from the help from line {} on: UPDATE_DOCS=1 cargo test --test documents writes it",
        different.unwrap_or_else(|| page.lines().count().min(reference.lines().count())) + 1
    );
}

#[test]
fn every_link_of_the_documents_points_at_something() {
    let mut problems = vec![];
    let mut count = 0;
    for document in documents() {
        let text = fs::read_to_string(Path::new(ROOT).join(&document)).unwrap();
        for (number, line) in prose(&text) {
            for target in links(line) {
                count += 1;
                problems.extend(
                    problem(&document, &target).map(|found| format!("{}:{number}: {found}", document.display())),
                );
            }
        }
    }
    assert!(count > 50, "only {count} links were found");
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

#[test]
fn the_readme_links_to_every_page() {
    let readme = fs::read_to_string(Path::new(ROOT).join("README.md")).unwrap();
    let linked: BTreeSet<String> = readme.lines().flat_map(links).collect();
    let missing: Vec<_> = documents()
        .into_iter()
        .filter(|document| document != Path::new("README.md") && !linked.contains(document.to_str().unwrap()))
        .collect();
    assert!(missing.is_empty(), "no link in README.md: {missing:?}");
}

#[test]
fn no_sentence_of_the_documents_begins_with_a_banned_word() {
    let mut problems = vec![];
    for document in documents() {
        let text = fs::read_to_string(Path::new(ROOT).join(&document)).unwrap();
        for (number, beginning) in beginnings(&text) {
            if let Some(word) = banned(&beginning) {
                let shown: String = beginning.chars().take(60).collect();
                problems.push(format!("{}:{number}: begins with {word:?}: {shown}", document.display()));
            }
        }
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

#[test]
fn the_parts_of_these_tests_find_the_right_places() {
    let page = "# Title\n\n## A `b.json`, c\n\nText goes\nwhat on. Most of it. (How so)\n\n- one that\n\n| x | most y |\n\
                ```\nWhere\n```\n## Title\n";
    assert_eq!(anchors(page), ["title", "a-bjson-c", "title-1"].map(str::to_owned).into());
    let found: Vec<_> = beginnings(page).iter().filter_map(|(at, text)| Some((*at, banned(text)?))).collect();
    assert_eq!(found, [(6, "Most"), (6, "How"), (8, "One that"), (10, "Most")]);
    assert_eq!(banned("Mostly harmless"), None);
    assert_eq!(links("[a](b.md#c) `[d](e)` ![f](g.png)"), ["b.md#c", "g.png"]);
    assert_eq!(links("[name]: https://example.org"), ["https://example.org"]);
    let help = "About\n\nCommands:\n  one  First\n  two\n          Second\n  help  Print\n\nOptions:\n  -h  Help";
    assert_eq!(subcommands(help), ["one", "two"]);
    assert!(problem(Path::new("docs/links.md"), "no-such.md").is_some());
    assert!(problem(Path::new("docs/links.md"), "../README.md#no-such-heading").is_some());
}
