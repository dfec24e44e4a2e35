//! An objective with its judgement, as a result has it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// An objective of a run, and whether the run met it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ObjectiveRow {
    /// Text as it was given.
    pub objective: String,
    /// Value of its figure, in the unit of the figure; none if it is unknown, or lies among values that never arrived.
    pub value: Option<f64>,
    /// Value for people.
    pub shown: String,
    /// True if the run met the objective.
    pub passed: bool,
    /// Reason why an objective could not be judged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}
