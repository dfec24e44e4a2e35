//! Errors of scenarios: the place of a value, and one line about it.

use std::fmt;

use thiserror::Error;

/// A step on the path from the root of a scenario to a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// A key of a table.
    Key(String),
    /// An index in a list, from 0.
    Index(usize),
}

impl From<&str> for Step {
    fn from(key: &str) -> Self {
        Self::Key(key.to_owned())
    }
}

impl From<usize> for Step {
    fn from(index: usize) -> Self {
        Self::Index(index)
    }
}

/// Reason why a scenario is invalid: the wrong value, and one line that contains the reason and the fix.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub struct ScenarioError {
    /// Path to the value.
    pub at: Vec<Step>,
    /// The value, if a message should show it.
    pub value: Option<String>,
    /// Reason and fix.
    pub message: String,
}

impl ScenarioError {
    /// An error at the root.
    pub fn new(message: impl Into<String>) -> Self {
        Self { at: vec![], value: None, message: message.into() }
    }

    /// An error of a value, at the root.
    pub fn of(value: impl fmt::Display, message: impl Into<String>) -> Self {
        Self { at: vec![], value: Some(value.to_string()), message: message.into() }
    }

    /// Message with a name of the value: its place, or the flag that set it.
    pub fn named(&self, name: &str) -> String {
        match &self.value {
            // A message that continues the sentence of the value needs no colon.
            Some(value) if self.message.starts_with("is ") => format!("{name} {value} {}", self.message),
            Some(value) => format!("{name} {value}: {}", self.message),
            None if name.is_empty() => self.message.clone(),
            None => format!("{name}: {}", self.message),
        }
    }

    /// The same error, of a value below `step`.
    #[must_use]
    pub fn below(mut self, step: impl Into<Step>) -> Self {
        self.at.insert(0, step.into());
        self
    }

    /// Place as messages write it, such as `traffic[1].after`.
    pub fn place(&self) -> String {
        let mut place = String::new();
        for step in &self.at {
            match step {
                Step::Key(key) if place.is_empty() => place.push_str(key),
                Step::Key(key) => place.push_str(&format!(".{key}")),
                Step::Index(index) => place.push_str(&format!("[{index}]")),
            }
        }
        place
    }
}

impl fmt::Display for ScenarioError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.named(&self.place()))
    }
}

/// An error with its place in a file; lines and columns count from 1.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{file}:{line}:{column}: {message}")]
pub struct FileError {
    /// Name of the file, as it was given.
    pub file: String,
    /// Line.
    pub line: usize,
    /// Column, in characters.
    pub column: usize,
    /// Reason and fix.
    pub message: String,
}
