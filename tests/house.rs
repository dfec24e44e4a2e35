//! House of modules: no circle between files of `src`, and imports of folders downwards only.
//!
//! A file imports another one if a path in it leads there: `use`, paths in the code, and calls of `self.method()` that
//! another file defines for the same type. A name is followed through re-exports to the file that defines it, so a
//! `mod.rs` that only declares and re-exports its children imports none of them. Test modules are left out.
#![allow(clippy::panic, clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

/// Top-level modules, from the top of the house to its ground: each imports only those after it.
const ORDER: &[&str] = &[
    "bin",
    "cli",
    "remote",
    "experiment",
    "monitoring",
    "deploy",
    "live",
    "report",
    "node",
    "network",
    "simulation",
    "probe",
    "machine",
    "shaping",
    "image",
    "dashboards",
    "metrics",
    "message",
    "scenario",
    "kubernetes",
    "children",
    "http",
    "access",
    "secret",
    "clock",
    "environment",
    "open_files",
    "signals",
    "paths",
    "terminal",
];

/// Name under which the programs import the library.
const LIBRARY: &str = "apollo_network_benchmark";

/// A token of Rust text; comments are left out.
#[derive(Clone, Debug, PartialEq)]
enum Token {
    Word(String),
    Text(String),
    Mark(char),
    /// `::`
    Path,
}

impl Token {
    fn word(&self) -> Option<&str> {
        match self {
            Self::Word(word) => Some(word),
            _ => None,
        }
    }

    fn is(&self, mark: char) -> bool {
        *self == Self::Mark(mark)
    }
}

/// End of a string that begins at `at` with its quote, behind `hashes` of a raw string.
fn end_of_text(text: &[char], mut at: usize, raw: bool, hashes: usize) -> usize {
    while at < text.len() {
        if text[at] == '\\' && !raw {
            at += 2;
            continue;
        }
        if text[at] == '"' && text[at + 1..].iter().take(hashes).filter(|c| **c == '#').count() == hashes {
            return at;
        }
        at += 1;
    }
    at
}

fn tokens(source: &str) -> Vec<Token> {
    let text: Vec<char> = source.chars().collect();
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let mut tokens = vec![];
    let mut at = 0;
    while at < text.len() {
        let (c, next) = (text[at], text.get(at + 1).copied().unwrap_or(' '));
        if c == '/' && next == '/' {
            at += text[at..].iter().take_while(|c| **c != '\n').count();
        } else if c == '/' && next == '*' {
            let mut depth = 0;
            while at < text.len() {
                let pair = (text[at], text.get(at + 1).copied().unwrap_or(' '));
                depth = match pair {
                    ('/', '*') => depth + 1,
                    ('*', '/') => depth - 1,
                    _ => depth,
                };
                at += if matches!(pair, ('/', '*') | ('*', '/')) { 2 } else { 1 };
                if depth == 0 {
                    break;
                }
            }
        } else if is_word(c) {
            let word: String = text[at..].iter().take_while(|c| is_word(**c)).collect();
            at += word.chars().count();
            let hashes = text[at..].iter().take_while(|c| **c == '#').count();
            let quoted = text.get(at + hashes) == Some(&'"');
            if quoted && ["r", "br", "cr"].contains(&word.as_str()) {
                let end = end_of_text(&text, at + hashes + 1, true, hashes);
                tokens.push(Token::Text(text[at + hashes + 1..end.min(text.len())].iter().collect()));
                at = end + 1 + hashes;
            } else if word == "b" && text.get(at) == Some(&'\'') {
                // The quote that follows is that of a byte.
            } else if !(quoted && hashes == 0 && ["b", "c"].contains(&word.as_str())) {
                tokens.push(Token::Word(word));
            }
        } else if c == '"' {
            let end = end_of_text(&text, at + 1, false, 0);
            tokens.push(Token::Text(text[at + 1..end.min(text.len())].iter().collect()));
            at = end + 1;
        } else if c == '\'' {
            // A lifetime, or a character and its second quote.
            let escaped = next == '\\';
            if escaped || text.get(at + 2) == Some(&'\'') {
                let from = at + if escaped { 3 } else { 2 };
                at = from + text[from..].iter().take_while(|c| **c != '\'').count() + 1;
            } else {
                at += 1 + text[at + 1..].iter().take_while(|c| is_word(**c)).count();
            }
        } else if c == ':' && next == ':' {
            tokens.push(Token::Path);
            at += 2;
        } else {
            if !c.is_whitespace() {
                tokens.push(Token::Mark(c));
            }
            at += 1;
        }
    }
    tokens
}

/// Index after the bracket that closes the one at `at`.
fn after_bracket(tokens: &[Token], at: usize) -> usize {
    let mut depth = 0_i32;
    for (place, token) in tokens.iter().enumerate().skip(at) {
        match token {
            Token::Mark('(' | '[' | '{') => depth += 1,
            Token::Mark(')' | ']' | '}') => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return place + 1;
        }
    }
    tokens.len()
}

/// Index after the item at `at`: its semicolon or its body.
fn after_item(tokens: &[Token], mut at: usize) -> usize {
    while at < tokens.len() {
        match &tokens[at] {
            Token::Mark(';') => return at + 1,
            Token::Mark('{') => return after_bracket(tokens, at),
            Token::Mark('(' | '[') => at = after_bracket(tokens, at),
            _ => at += 1,
        }
    }
    at
}

/// Target of a name that a `use` brings into a module.
#[derive(Clone, Debug)]
struct Import {
    path: Vec<String>,
    /// True if it is passed on to all modules that import this one.
    passed_on: bool,
}

/// A file of the library, as a module.
#[derive(Debug, Default)]
struct Module {
    file: PathBuf,
    children: BTreeSet<String>,
    imports: BTreeMap<String, Import>,
    globs: Vec<Vec<String>>,
    /// Paths in the code, and its single words: an import that is passed on counts if its name is used.
    paths: Vec<Vec<String>>,
    words: BTreeSet<String>,
    /// Methods of the types that this file has an `impl` of, and calls of them by `self`.
    methods: BTreeMap<String, BTreeSet<String>>,
    calls: BTreeMap<String, BTreeSet<String>>,
}

impl Module {
    /// Reads the leaves of a `use`, from `at` to its semicolon.
    fn read_use(&mut self, tokens: &[Token], at: &mut usize, before: &[String], passed_on: bool) {
        let mut path = before.to_vec();
        loop {
            match tokens.get(*at) {
                Some(Token::Word(word)) if word == "as" => {
                    let name = tokens[*at + 1].word().unwrap_or("_").to_owned();
                    *at += 2;
                    self.imports.insert(name, Import { path, passed_on });
                    return;
                }
                Some(Token::Word(word)) => {
                    *at += 1;
                    path.push(word.clone());
                }
                Some(Token::Path) => *at += 1,
                Some(Token::Mark('*')) => {
                    *at += 1;
                    self.globs.push(path);
                    return;
                }
                Some(Token::Mark('{')) => {
                    *at += 1;
                    while !tokens[*at].is('}') {
                        self.read_use(tokens, at, &path, passed_on);
                        if tokens[*at].is(',') {
                            *at += 1;
                        }
                    }
                    *at += 1;
                    return;
                }
                _ => {
                    if path.last().is_some_and(|last| last == "self") {
                        path.pop();
                    }
                    let Some(name) = path.last().cloned() else { return };
                    self.imports.insert(name, Import { path, passed_on });
                    return;
                }
            }
        }
    }

    /// Reads the body of `impl TYPE`: the methods of a type, and the calls of methods by `self`. Traits' methods are
    /// found by the type alone.
    fn read_impl(&mut self, tokens: &[Token], at: usize) {
        let mut place = at + 1;
        if tokens.get(place).is_some_and(|token| token.is('<')) {
            let mut depth = 0;
            loop {
                match tokens[place] {
                    Token::Mark('<') => depth += 1,
                    Token::Mark('>') => depth -= 1,
                    _ => {}
                }
                place += 1;
                if depth == 0 {
                    break;
                }
            }
        }
        let Some(name) = tokens.get(place).and_then(Token::word).map(str::to_owned) else { return };
        let Some(body) = (place..tokens.len()).find(|at| tokens[*at].is('{')) else { return };
        let of_trait = tokens[place..body].iter().any(|token| token.word() == Some("for"));
        if of_trait {
            return;
        }
        let body = &tokens[body..after_bracket(tokens, body)];
        let mut depth = 0;
        for (place, token) in body.iter().enumerate() {
            match token {
                Token::Mark('{') => depth += 1,
                Token::Mark('}') => depth -= 1,
                Token::Word(word) if word == "fn" && depth == 1 => {
                    let method = body[place + 1].word().unwrap_or_default().to_owned();
                    self.methods.entry(name.clone()).or_default().insert(method);
                }
                Token::Word(word) if word == "self" => {
                    if let [dot, Token::Word(method), open, ..] = &body[place + 1..]
                        && dot.is('.')
                        && open.is('(')
                    {
                        self.calls.entry(name.clone()).or_default().insert(method.clone());
                    }
                }
                _ => {}
            }
        }
    }

    /// Reads a file; returns the files of its test modules, by the names of the modules.
    fn read(file: &Path) -> (Self, BTreeSet<String>) {
        let tokens = tokens(&fs::read_to_string(file).unwrap());
        let mut module = Self { file: file.into(), ..Self::default() };
        let mut of_tests = BTreeSet::new();
        let mut at = 0;
        let mut visible = false;
        while at < tokens.len() {
            let token = &tokens[at];
            let word = token.word().unwrap_or_default();
            if token.is('#') && tokens.get(at + 1).is_some_and(|token| token.is('[')) {
                let end = after_bracket(&tokens, at + 1);
                let attribute: Vec<&str> = tokens[at..end].iter().filter_map(Token::word).collect();
                at = end;
                if attribute == ["cfg", "test"] {
                    let item = &tokens[at..after_item(&tokens, at)];
                    if let Some(name) = item.iter().position(|token| token.word() == Some("mod")) {
                        of_tests.insert(item[name + 1].word().unwrap_or_default().to_owned());
                    }
                    at += item.len();
                }
                continue;
            }
            match word {
                "pub" => {
                    visible = true;
                    at += 1;
                    if tokens.get(at).is_some_and(|token| token.is('('))
                        && tokens
                            .get(at + 1)
                            .and_then(Token::word)
                            .is_some_and(|word| ["crate", "super", "in", "self"].contains(&word))
                    {
                        at = after_bracket(&tokens, at);
                    }
                    continue;
                }
                "use" => {
                    at += 1;
                    module.read_use(&tokens, &mut at, &[], visible);
                }
                "mod" if tokens.get(at + 2).is_some_and(|token| token.is(';')) => {
                    module.children.insert(tokens[at + 1].word().unwrap_or_default().to_owned());
                    at += 2;
                }
                "impl" => {
                    module.read_impl(&tokens, at);
                    at += 1;
                }
                "" => at += 1,
                _ => {
                    let mut path = vec![word.to_owned()];
                    at += 1;
                    while let (Some(Token::Path), Some(Token::Word(next))) = (tokens.get(at), tokens.get(at + 1)) {
                        path.push(next.clone());
                        at += 2;
                    }
                    module.words.insert(path[0].clone());
                    if path.len() > 1 {
                        module.paths.push(path);
                    }
                }
            }
            visible = false;
        }
        (module, of_tests)
    }
}

/// All modules of the library, by their paths; the programs have paths that begin with `bin`.
struct House {
    modules: BTreeMap<Vec<String>, Module>,
}

impl House {
    fn read(source: &Path) -> Self {
        let mut files = vec![];
        let mut folders = vec![source.to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
                match entry.extension() {
                    _ if entry.is_dir() => folders.push(entry),
                    Some(extension) if extension == "rs" => files.push(entry),
                    _ => {}
                }
            }
        }
        let mut house = Self { modules: BTreeMap::new() };
        let mut of_tests = BTreeSet::new();
        for file in files {
            let name = file.strip_prefix(source).unwrap().with_extension("");
            let mut path: Vec<String> = name.iter().map(|part| part.to_str().unwrap().to_owned()).collect();
            if path.last().is_some_and(|last| last == "mod") || path == ["lib"] {
                path.pop();
            }
            let (module, tests) = Module::read(&file);
            of_tests.extend(tests.into_iter().map(|name| [path.as_slice(), &[name]].concat()));
            house
                .modules
                .insert(path, Module { file: Path::new("src").join(file.strip_prefix(source).unwrap()), ..module });
        }
        house.modules.retain(|path, _| !of_tests.iter().any(|tests| path.starts_with(tests)));
        house
    }

    /// A path as seen from a module, from the root of the library on; none if it leads out of the library.
    fn absolute(&self, from: &[String], path: &[String]) -> Option<Vec<String>> {
        let (first, rest) = path.split_first()?;
        let module = &self.modules[from];
        let base = match first.as_str() {
            "crate" => return Some(rest.to_vec()),
            LIBRARY if from.first().is_some_and(|first| first == "bin") => return Some(rest.to_vec()),
            "self" => from.to_vec(),
            "super" => from[..from.len().checked_sub(1)?].to_vec(),
            name if module.children.contains(name) => [from, &[name.to_owned()]].concat(),
            name => {
                // A crate may have the name of something that is imported from it.
                let import = module.imports.get(name).filter(|import| import.path.first() != Some(first))?;
                self.absolute(from, &import.path)?
            }
        };
        // `super::super`.
        let ups = rest.iter().take_while(|part| *part == "super").count();
        let base = &base[..base.len().checked_sub(ups)?];
        Some([base, &rest[ups..]].concat())
    }

    /// Module that defines the target of a path; none for a module as such, and for a target that does not exist.
    fn defines(&self, path: &[String], depth: usize) -> Option<Vec<String>> {
        assert!(depth < 20, "the re-exports of {path:?} lead nowhere");
        let mut at: Vec<String> = vec![];
        for (place, name) in path.iter().enumerate() {
            let module = self.modules.get(&at)?;
            let last = place + 1 == path.len();
            let child = [at.as_slice(), std::slice::from_ref(name)].concat();
            let import = module.imports.get(name).filter(|import| import.passed_on);
            match import {
                // A module and a function may have the same name.
                Some(import) if last || !self.modules.contains_key(&child) => {
                    let to = self.absolute(&at, &import.path)?;
                    return self.defines(&[to.as_slice(), &path[place + 1..]].concat(), depth + 1);
                }
                _ if self.modules.contains_key(&child) => at = child,
                _ => return Some(at),
            }
        }
        None
    }

    /// Files that each file imports.
    fn imports(&self) -> BTreeMap<Vec<String>, BTreeSet<Vec<String>>> {
        let mut methods: BTreeMap<(Vec<String>, &str, &str), &Vec<String>> = BTreeMap::new();
        let of_type = |from: &[String], name: &str| {
            let path = self.absolute(from, &[name.to_owned()]).and_then(|path| self.defines(&path, 0));
            path.unwrap_or_else(|| from.to_vec())
        };
        for (path, module) in &self.modules {
            for (name, all) in &module.methods {
                for method in all {
                    methods.insert((of_type(path, name), name, method), path);
                }
            }
        }
        let mut all = BTreeMap::new();
        for (from, module) in &self.modules {
            let mut to: BTreeSet<Vec<String>> = BTreeSet::new();
            for (name, import) in &module.imports {
                if !import.passed_on || module.words.contains(name) {
                    to.extend(self.absolute(from, &import.path).and_then(|path| self.defines(&path, 0)));
                }
            }
            for path in &module.globs {
                to.extend(self.absolute(from, path).filter(|path| self.modules.contains_key(path)));
            }
            for path in &module.paths {
                to.extend(self.absolute(from, path).and_then(|path| self.defines(&path, 0)));
            }
            for (name, calls) in &module.calls {
                let home = of_type(from, name);
                for call in calls {
                    to.extend(methods.get(&(home.clone(), name.as_str(), call.as_str())).map(|path| (*path).clone()));
                }
            }
            to.remove(from);
            all.insert(from.clone(), to);
        }
        all
    }

    fn file(&self, path: &[String]) -> String {
        self.modules[path].file.display().to_string()
    }
}

type Graph = BTreeMap<Vec<String>, BTreeSet<Vec<String>>>;

/// Sets of files that import one another around a circle.
fn circles(graph: &Graph) -> Vec<BTreeSet<&Vec<String>>> {
    let reach = |from| {
        let mut seen: BTreeSet<&Vec<String>> = BTreeSet::new();
        let mut waiting = vec![from];
        while let Some(next) = waiting.pop() {
            waiting.extend(graph[next].iter().filter(|to| seen.insert(to)));
        }
        seen
    };
    let reached: BTreeMap<&Vec<String>, BTreeSet<&Vec<String>>> =
        graph.keys().map(|from| (from, reach(from))).collect();
    let in_circle = |from: &&Vec<String>| reached[from].contains(from);
    let circle = |from| reached[from].iter().copied().filter(|to| reached[to].contains(from)).collect();
    graph.keys().filter(in_circle).map(circle).collect::<BTreeSet<BTreeSet<_>>>().into_iter().collect()
}

fn house() -> House {
    House::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"))
}

/// A circle, a line for each file of it.
fn described(house: &House, graph: &Graph, circle: &BTreeSet<&Vec<String>>) -> String {
    let line = |from: &&Vec<String>| {
        let to: Vec<String> = graph[*from].iter().filter(|to| circle.contains(to)).map(|to| house.file(to)).collect();
        format!("  {} imports {}\n", house.file(from), to.join(", "))
    };
    circle.iter().map(line).collect()
}

#[test]
fn no_files_import_one_another_around_a_circle() {
    let house = house();
    let graph = house.imports();
    assert!(graph.len() > 100, "the scanner has seen {} files", graph.len());
    let circles = circles(&graph);
    let all: Vec<String> = circles.iter().map(|circle| described(&house, &graph, circle)).collect();
    assert!(all.is_empty(), "these files are in circles:\n{}", all.join("\n"));
}

#[test]
fn folders_import_only_folders_below_them() {
    let house = house();
    let place = |path: &[String]| {
        let name = path.first()?;
        let place = ORDER.iter().position(|known| known == name);
        Some(place.unwrap_or_else(|| panic!("where does {name} stand in the house? Add it to ORDER")))
    };
    let mut upwards = vec![];
    for (from, all) in house.imports() {
        for to in all {
            if place(&to) < place(&from) {
                upwards.push(format!("{} imports {}", house.file(&from), house.file(&to)));
            }
        }
    }
    assert!(upwards.is_empty(), "{} imports lead upwards:\n  {}", upwards.len(), upwards.join("\n  "));
}

/// Circles and imports of a library of these files, by their paths.
fn of_files(files: &[(&str, &str)]) -> (Vec<String>, Vec<String>) {
    let folder = tempfile::tempdir().unwrap();
    for (path, text) in files {
        let path = folder.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    let house = House::read(folder.path());
    let graph = house.imports();
    let circles = circles(&graph).iter().map(|circle| described(&house, &graph, circle)).collect();
    let line = |(from, all): (&Vec<String>, &BTreeSet<Vec<String>>)| {
        all.iter().map(|to| format!("{} > {}", house.file(from), house.file(to))).collect::<Vec<_>>()
    };
    (circles, graph.iter().flat_map(line).collect())
}

#[test]
fn a_name_is_followed_through_reexports_and_a_folder_that_only_passes_it_on_is_in_no_circle() {
    let (circles, imports) = of_files(&[
        ("lib.rs", "mod a; mod b;"),
        ("a/mod.rs", "//! A.\nmod one;\nmod two;\npub use one::{One, run as go};\n"),
        ("a/one.rs", "use super::two::Two;\npub struct One(Two);\npub fn run() {}"),
        ("a/two.rs", "pub struct Two;"),
        ("b.rs", "use crate::a::{self, One};\nfn f(_: One) { a::go(); }"),
    ]);
    assert_eq!(imports, ["src/a/one.rs > src/a/two.rs", "src/b.rs > src/a/one.rs"]);
    assert_eq!(circles, [""; 0]);
}

#[test]
fn a_parent_that_uses_its_child_and_is_used_by_it_is_a_circle() {
    let (circles, _) = of_files(&[
        ("lib.rs", "mod a;"),
        ("a/mod.rs", "mod child;\npub use child::Child;\npub struct Parent(Child);"),
        ("a/child.rs", "use super::Parent;\npub struct Child(Option<Box<Parent>>);"),
    ]);
    assert_eq!(circles, ["  src/a/mod.rs imports src/a/child.rs\n  src/a/child.rs imports src/a/mod.rs\n"]);
}

#[test]
fn paths_in_the_code_and_methods_of_one_type_in_several_files_count() {
    let (circles, imports) = of_files(&[
        ("lib.rs", "mod a; mod b; mod c;"),
        ("a.rs", "pub struct A;\nimpl A { pub fn first(&self) { self.second(); } }"),
        ("b.rs", "use crate::a::A;\nimpl A { pub fn second(&self) { let _: [u8; 2] = crate::c::SIZES; } }"),
        ("c.rs", "pub const SIZES: [u8; 2] = *b\"ab\";"),
    ]);
    assert_eq!(imports, ["src/a.rs > src/b.rs", "src/b.rs > src/a.rs", "src/b.rs > src/c.rs"]);
    assert_eq!(circles.len(), 1);
}

#[test]
fn comments_texts_and_modules_of_tests_import_nothing() {
    let (_, imports) = of_files(&[
        ("lib.rs", "mod a; mod b;"),
        (
            "a.rs",
            "// use crate::b::B;\n/* use crate::b::B; /* nested */ crate::b::B */\nconst C: (char, &str, &str) = \
             ('\"', \"crate::b::B \\\" \", r#\"crate::b::B\"#);\nfn f<'a>(_: &'a str) {}\n#[cfg(test)]\nmod tests { use \
             crate::b::B; }\n#[cfg(test)]\nmod more;",
        ),
        ("a/more.rs", "use crate::b::B;"),
        ("b.rs", "pub struct B;"),
    ]);
    assert_eq!(imports, [""; 0]);
}
