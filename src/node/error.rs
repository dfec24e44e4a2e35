//! Reasons why a node does not run.

/// A configuration that a node can't have: one line that names the value, and the way out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct UsageError(pub String);

/// Reason why a node could not run.
#[derive(Debug)]
pub enum Failure {
    /// The arguments can't work here.
    Usage(String),
    /// Anything else.
    Other(String),
}
