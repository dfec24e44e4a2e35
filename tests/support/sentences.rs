//! Beginnings of sentences in Markdown, and the beginnings that the rule of the language refuses.

/// Beginnings that the rule of the language refuses, see CONTRIBUTING.md.
const BANNED: [&str; 11] =
    ["What", "Who", "Whoever", "Whatever", "How", "One that", "Most", "There is", "There are", "Where", "Whether"];

/// A phrase that nixpkgs' function `mkEnableOption` makes.
const OF_NIXPKGS: &str = "Whether to enable ";

/// Lines of a document outside of code blocks and comments, with their numbers from 1.
pub(super) fn prose(text: &str) -> Vec<(usize, &str)> {
    let mut code = false;
    let mut lines = vec![];
    for (at, line) in text.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            code = !code;
        } else if !code && !line.starts_with("<!--") {
            lines.push((at + 1, line));
        }
    }
    assert!(!code, "a code block without an end");
    lines
}

/// Text of a line without the marks of a heading, a list or a quotation; true if it had such a mark.
fn without_mark(line: &str) -> (&str, bool) {
    let line = line.trim();
    let text = line.trim_start_matches(['#', '>']).trim_start();
    let text = text.strip_prefix("- ").or_else(|| text.strip_prefix("* ")).unwrap_or(text);
    let number = text.len() - text.trim_start_matches(|letter: char| letter.is_ascii_digit()).len();
    let text = if number > 0 { text[number..].strip_prefix(". ").unwrap_or(text) } else { text };
    (text, text.len() < line.len())
}

/// Beginnings of all headings, list items, table cells, paragraphs and sentences, with the numbers of their lines.
pub(super) fn beginnings(text: &str) -> Vec<(usize, String)> {
    let mut found = vec![];
    let mut open = false;
    for (number, line) in prose(text) {
        let cells: Vec<&str> = match line.strip_prefix('|') {
            Some(row) => row.split(" | ").collect(),
            None => vec![line],
        };
        for cell in cells {
            let (cell, marked) = without_mark(cell);
            // A sentence continues from the line before.
            let goes_on = open && !marked && !line.starts_with('|');
            let ends = [". ", "? ", "! ", ".** ", ".* "];
            let mut rest = cell;
            let mut first = !goes_on;
            loop {
                if first {
                    found.push((number, rest.trim_start_matches(['*', '_', '"', '(', '[']).to_owned()));
                }
                let next = ends.iter().filter_map(|end| Some(rest.find(end)? + end.len())).min();
                let Some(next) = next else { break };
                rest = &rest[next..];
                first = true;
            }
        }
        let last = line.trim_end().trim_end_matches(['*', ')', '"']);
        open = !last.is_empty() && !line.starts_with(['|', '#']) && !last.ends_with(['.', '?', '!']);
    }
    found
}

/// Banned beginning of a text, if it has one: lower case counts too, because cells and items may begin with it.
pub(super) fn banned(text: &str) -> Option<&'static str> {
    let begins = |word: &&&str| {
        let beginning = text.get(..word.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(word));
        beginning && !text[word.len()..].starts_with(|letter: char| letter.is_alphanumeric() || letter == '-')
    };
    BANNED.iter().find(begins).copied().filter(|_| !text.starts_with(OF_NIXPKGS))
}
