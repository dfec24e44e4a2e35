//! Scenario files, from their paths to scenarios.

use std::path::Path;

use toml::{Table, Value};

use super::error::CliError;
use crate::{
    paths::read_text,
    scenario::{FileError, Links, Scenario, ScenarioError, ScenarioText, parse, parse_links, to_toml},
};

/// Maximum size of a scenario, and of a file that it names, in bytes: a matrix of 1000 regions is about 6 MB.
const FILE_LIMIT: u64 = 16 << 20;

/// A scenario that flags may still change, and its text if it came from a file.
pub(super) struct Source {
    /// The scenario.
    pub(super) scenario: Scenario,
    text: Option<ScenarioText>,
}

impl Source {
    /// Default scenario with the values of `--set`.
    ///
    /// # Errors
    /// One line that names the flag.
    pub(super) fn of_flags(set: &[String]) -> Result<Self, CliError> {
        Ok(Self { scenario: with_values(Scenario::default(), set)?, text: None })
    }

    /// A scenario that came from another source than a file of its own.
    pub(super) fn of_scenario(scenario: Scenario) -> Self {
        Self { scenario, text: None }
    }

    /// Place of an error in the file; none without a file, or if the value is not from it.
    pub(super) fn locate(&self, error: &ScenarioError) -> Option<FileError> {
        self.text.as_ref().and_then(|text| text.locate_exactly(error))
    }
}

/// Reads a scenario, and replaces the values of `--set` in it.
///
/// # Errors
/// One line with file, line and column, or the flag.
pub(super) fn read_scenario(path: &Path, set: &[String]) -> Result<Source, CliError> {
    let file = path.display().to_string();
    let text = read_text(path, FILE_LIMIT).map_err(|error| CliError::Usage(format!("{file}: {error}")))?;
    let folder = path.parent().unwrap_or(Path::new("")).to_owned();
    let mut read = |name: &str| read_text(&folder.join(name), FILE_LIMIT);
    let text = parse(&file, &text, &mut read).map_err(|error| CliError::Usage(error.to_string()))?;
    Ok(Source { scenario: with_values(text.scenario.clone(), set)?, text: Some(text) })
}

/// Reads a file that contains only links, and checks them against a network of `num_nodes` nodes.
///
/// # Errors
/// One line that names the file, line and column.
pub(super) fn read_links(path: &Path, num_nodes: u64) -> Result<Links, CliError> {
    let file = path.display().to_string();
    let usage = |error: &dyn std::fmt::Display| CliError::Usage(format!("--links {error}"));
    let text = read_text(path, FILE_LIMIT).map_err(|error| usage(&format!("{file}: {error}")))?;
    let links = parse_links(&file, &text).map_err(|error| usage(&error))?;
    links.plan(crate::scenario::Shape::default(), num_nodes).map_err(|error| usage(&error))?;
    Ok(links.links)
}

/// Replaces single values of a scenario, each written `KEY=VALUE` with a value of TOML; text needs no quotes.
pub(super) fn with_values(scenario: Scenario, set: &[String]) -> Result<Scenario, CliError> {
    if set.is_empty() {
        return Ok(scenario);
    }
    let text = to_toml(&scenario).map_err(CliError::Failed)?;
    let mut table: Table = text.parse().map_err(|error| CliError::Failed(format!("a scenario is no TOML: {error}")))?;
    for assignment in set {
        let failed = |why: &str| CliError::Usage(format!("--set {assignment}: {why}"));
        let (key, value) = assignment.split_once('=').ok_or_else(|| failed("write KEY=VALUE"))?;
        let parsed = format!("value = {value}").parse::<Table>().ok().and_then(|mut table| table.remove("value"));
        let value = parsed.unwrap_or_else(|| Value::String(value.to_owned()));
        let mut steps = key.trim().split('.').peekable();
        put(&mut table, &mut steps, value).map_err(|why| failed(&why))?;
        // The whole scenario is read after every value, so that an error names the wrong flag.
        Table::try_into::<Scenario>(table.clone())
            .map_err(|error| failed(&error.message().trim().replace('\n', " ")))?;
    }
    table.try_into().map_err(|error: toml::de::Error| CliError::Usage(error.message().replace('\n', " ")))
}

/// Writes a value at the end of a path. Elements of a list are named by their `name` or their number.
fn put<'a>(
    table: &mut Table,
    steps: &mut std::iter::Peekable<impl Iterator<Item = &'a str>>,
    value: Value,
) -> Result<(), String> {
    let Some(key) = steps.next().filter(|key| !key.is_empty()) else { return Err("the key is empty".into()) };
    if steps.peek().is_none() {
        table.insert(key.to_owned(), value);
        return Ok(());
    }
    match table.entry(key).or_insert_with(|| Value::Table(Table::new())) {
        Value::Table(inner) => put(inner, steps, value),
        Value::Array(list) => {
            let name = steps.next().unwrap_or_default();
            let named = |element: &Value| element.get("name").and_then(Value::as_str) == Some(name);
            let at = list.iter().position(named).or_else(|| name.parse().ok());
            match at.and_then(|at| list.get_mut(at)) {
                Some(Value::Table(inner)) => put(inner, steps, value),
                _ => Err(format!("'{key}' has no element '{name}'")),
            }
        }
        _ => Err(format!("'{key}' is a value and no table")),
    }
}
