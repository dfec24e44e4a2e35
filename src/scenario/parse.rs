//! Scenarios as TOML text; errors have the line and column.

use serde::de::DeserializeOwned;
use toml::de::{DeArray, DeTable, DeValue};

use super::{
    Scenario,
    error::{FileError, ScenarioError, Step},
    links::{LinkPlan, Links},
    matrix::{Matrix, MatrixSource},
    shape::Shape,
    traffic::{MessageSize, WeightedSize},
};

/// Similarity (Jaro-Winkler, from 0 to 1) from which on an existing key is suggested for an unknown one.
const SIMILAR: f64 = 0.8;

/// A scenario from a file, with its text for the places of errors.
#[derive(Clone, Debug)]
pub struct ScenarioText {
    /// The scenario, not yet resolved.
    pub scenario: Scenario,
    file: String,
    text: String,
}

/// Reads a scenario. `read` returns the text of a file that the scenario names, or the reason why it can't be read.
///
/// # Errors
/// The first error, with its line and column.
pub fn parse(
    file: &str,
    text: &str,
    read: &mut dyn FnMut(&str) -> Result<String, String>,
) -> Result<ScenarioText, FileError> {
    let scenario: Scenario = read_toml(file, text)?;
    let mut read_text = ScenarioText { scenario, file: file.to_owned(), text: text.to_owned() };
    include(&mut read_text.scenario, read).map_err(|error| read_text.locate(&error))?;
    Ok(read_text)
}

/// Reads a value from TOML.
///
/// # Errors
/// The first error, with its line and column, and the key that was perhaps meant.
pub fn read_toml<T: DeserializeOwned>(file: &str, text: &str) -> Result<T, FileError> {
    toml::from_str(text).map_err(|error| {
        let span = error.span().unwrap_or(0..0);
        let message = without_types(&error.message().trim().replace('\n', " "));
        let advice = text.get(span.clone()).and_then(|key| suggestion(key.trim(), &message)).unwrap_or_default();
        at(file, text, span.start, format!("{message}{advice}"))
    })
}

/// A message of serde with "a table" in the place of the names of our types, which readers of a file do not know.
fn without_types(message: &str) -> String {
    let mut words = message.split(' ');
    let mut plain = vec![];
    while let Some(word) = words.next() {
        if word == "struct" {
            words.next();
            plain.push("a table");
        } else {
            plain.push(word);
        }
    }
    plain.join(" ")
}

/// Links from a file of their own, with its text for the places of errors.
#[derive(Clone, Debug)]
pub struct LinksText {
    /// The links.
    pub links: Links,
    file: String,
    text: String,
}

/// Reads a file that contains only the table `links` of a scenario.
///
/// # Errors
/// The first error, with its line and column.
pub fn parse_links(file: &str, text: &str) -> Result<LinksText, FileError> {
    let links = read_toml(file, text)?;
    Ok(LinksText { links, file: file.to_owned(), text: text.to_owned() })
}

impl LinksText {
    /// Shapes of all links in a network of `num_nodes` nodes; links that the file does not shape have the shape
    /// `default`.
    ///
    /// # Errors
    /// The value at fault, with its line and column.
    pub fn plan(&self, default: Shape, num_nodes: u64) -> Result<LinkPlan, FileError> {
        let mut links = self.links.clone();
        if links.default.is_unshaped() {
            links.default = default;
        }
        links.plan(&[], num_nodes).map_err(|error| locate(&self.file, &self.text, &error))
    }
}

/// Replaces the names of files in a scenario by their contents.
fn include(scenario: &mut Scenario, read: &mut dyn FnMut(&str) -> Result<String, String>) -> Result<(), ScenarioError> {
    if let Some(MatrixSource::File(name)) = &scenario.links.matrix {
        let matrix = read(name).and_then(|text| Matrix::from_csv(&text));
        let matrix = matrix.map_err(|error| ScenarioError::of(name, error).below("matrix").below("links"))?;
        scenario.links.matrix = Some(MatrixSource::Inline(matrix));
    }
    for (number, class) in scenario.traffic.iter_mut().enumerate() {
        if let MessageSize::File(name) = &class.message_size_bytes {
            let sizes = read(name).and_then(|text| sizes_from_csv(&text));
            let below =
                |error| ScenarioError::of(name, error).below("message_size_bytes").below(number).below("traffic");
            class.message_size_bytes = MessageSize::Weighted(sizes.map_err(below)?);
        }
    }
    Ok(())
}

/// Sizes with their weights, one a line; the default weight is 1. Lines that begin with `#` are comments.
fn sizes_from_csv(text: &str) -> Result<Vec<WeightedSize>, String> {
    let mut reader = csv::ReaderBuilder::new()
        .has_headers(false)
        .comment(Some(b'#'))
        .trim(csv::Trim::All)
        .flexible(true)
        .from_reader(text.as_bytes());
    let mut sizes = vec![];
    for (number, row) in reader.records().enumerate() {
        let row = row.map_err(|error| error.to_string().replace('\n', " "))?;
        let bad = || format!("row {}: write a size in bytes, and a weight after a comma", number + 1);
        let bytes = row.get(0).and_then(|cell| cell.parse().ok()).ok_or_else(bad)?;
        let weight = row.get(1).map_or(Ok(1.0), |cell| cell.parse().map_err(|_| bad()))?;
        sizes.push(WeightedSize { bytes, weight });
    }
    if sizes.is_empty() { Err("the file has no sizes".into()) } else { Ok(sizes) }
}

/// A scenario as TOML.
///
/// # Errors
/// One line, when a value has no form in TOML.
pub fn to_toml(scenario: &Scenario) -> Result<String, String> {
    toml::to_string_pretty(scenario).map_err(|error| error.to_string())
}

impl ScenarioText {
    /// Place of an error in the text: that of the value, or of the nearest table around it.
    pub fn locate(&self, error: &ScenarioError) -> FileError {
        locate(&self.file, &self.text, error)
    }

    /// Place of an error in the text; none if the text does not contain the value, which then came from another source.
    pub fn locate_exactly(&self, error: &ScenarioError) -> Option<FileError> {
        let table = DeTable::parse(&self.text).ok()?;
        let mut value: Option<&DeValue<'_>> = None;
        for step in &error.at {
            value = Some(match (step, value) {
                (Step::Key(key), None) => table.get_ref().get(key.as_str())?.get_ref(),
                (Step::Key(key), Some(DeValue::Table(table))) => table.get(key.as_str())?.get_ref(),
                (Step::Index(index), Some(DeValue::Array(list))) => list.get(*index)?.get_ref(),
                _ => return None,
            });
        }
        Some(self.locate(error))
    }
}

fn locate(file: &str, text: &str, error: &ScenarioError) -> FileError {
    let start = DeTable::parse(text).map_or(0, |table| find(table.get_ref(), &error.at).unwrap_or(0));
    at(file, text, start, error.to_string())
}

/// Byte at which the value begins, or the deepest table or list on the path to it.
fn find(table: &DeTable<'_>, steps: &[Step]) -> Option<usize> {
    let [Step::Key(key), rest @ ..] = steps else { return None };
    let (name, value) = table.iter().find(|(name, _)| name.get_ref() == key.as_str())?;
    let own = name.span().start;
    Some(match value.get_ref() {
        DeValue::Table(table) => find(table, rest).unwrap_or(own),
        DeValue::Array(list) => find_in_list(list, rest).unwrap_or(own),
        _ => own,
    })
}

fn find_in_list(list: &DeArray<'_>, steps: &[Step]) -> Option<usize> {
    let [Step::Index(index), rest @ ..] = steps else { return None };
    let value = list.get(*index)?;
    let own = value.span().start;
    Some(match value.get_ref() {
        DeValue::Table(table) => find(table, rest).unwrap_or(own),
        _ => own,
    })
}

/// Key in the message's list that is most similar to an unknown one.
fn suggestion(key: &str, message: &str) -> Option<String> {
    let (_, listed) = message.split_once("expected")?;
    let known = listed.split('`').skip(1).step_by(2);
    let nearest = known
        .map(|name| (strsim::jaro_winkler(key, name), name))
        .max_by(|(one, _), (other, _)| one.total_cmp(other))
        .filter(|(similarity, name)| *similarity >= SIMILAR && *name != key)?;
    Some(format!("; is `{}` meant?", nearest.1))
}

fn at(file: &str, text: &str, start: usize, message: String) -> FileError {
    let before = text.get(..start).unwrap_or("");
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or("").chars().count() + 1;
    FileError { file: file.to_owned(), line, column, message }
}
