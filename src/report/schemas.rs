//! JSON Schemas of the files of a run, made from their types.

use schemars::{JsonSchema, generate::SchemaSettings};
use serde_json::{Value, json};

use super::{
    comparison::{COMPARISON_SCHEMA_VERSION, ComparisonFile},
    search::{SEARCH_SCHEMA_VERSION, Search},
    summary::{RUN_SCHEMA_VERSION, RunSummary},
    sweep::{SWEEP_SCHEMA_VERSION, Sweep},
    time_series::{TIME_SERIES_SCHEMA_VERSION, TimeSeriesPoint},
};

/// Schema of `summary.json` in its present version.
pub fn summary_schema() -> Value {
    let mut schema = schema_of::<RunSummary>("summary", RUN_SCHEMA_VERSION);
    schema["properties"]["schema_version"] = json!({
        "description": "Version of this schema.",
        "const": RUN_SCHEMA_VERSION,
    });
    schema
}

/// Schema of a line of `timeseries.jsonl` in its present version.
pub fn time_series_schema() -> Value {
    schema_of::<TimeSeriesPoint>("timeseries", TIME_SERIES_SCHEMA_VERSION)
}

/// Schema of `comparison.json` in its present version.
pub fn comparison_schema() -> Value {
    schema_of::<ComparisonFile>("comparison", COMPARISON_SCHEMA_VERSION)
}

/// Schema of `search.json` in its present version.
pub fn search_schema() -> Value {
    schema_of::<Search>("search", SEARCH_SCHEMA_VERSION)
}

/// Schema of `sweep.json` in its present version.
pub fn sweep_schema() -> Value {
    schema_of::<Sweep>("sweep", SWEEP_SCHEMA_VERSION)
}

/// Schema of a file as this program writes it: every field that it always writes is required.
fn schema_of<T: JsonSchema>(name: &str, version: u32) -> Value {
    let generator = SchemaSettings::draft2020_12().for_serialize().into_generator();
    let mut schema = generator.into_root_schema_for::<T>().to_value();
    schema["$id"] = json!(format!("urn:apollo-bench:{name}:{version}"));
    schema
}
