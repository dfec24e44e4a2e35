//! docs/scenario-reference.md is made from the types of a scenario.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{fmt::Write, fs, path::Path};

use apollo_network_benchmark::scenario::Scenario;
use schemars::schema_for;
use serde_json::{Map, Value};

const INTRODUCTION: &str = "\
# Scenario reference

Every key of a scenario file, with its default. `apollo-bench scenario show` prints a whole scenario,
`apollo-bench scenario check FILE` checks one, and `apollo-bench scenario schema` prints the JSON Schema that this page is
made from. [scenarios.md](scenarios.md) explains how the parts work together.
";

/// The definition that a schema refers to, itself, or the elements of a list.
fn target<'a>(schema: &'a Value, definitions: &'a Map<String, Value>) -> (Option<&'a str>, &'a Value) {
    if let Some(name) = schema["$ref"].as_str().and_then(|reference| reference.rsplit('/').next()) {
        return (Some(name), &definitions[name]);
    }
    if let Some(options) =
        schema["anyOf"].as_array().filter(|options| options.iter().any(|option| option["type"] == "null"))
    {
        return target(&options[0], definitions);
    }
    if schema["items"].is_object() {
        return target(&schema["items"], definitions);
    }
    if schema["additionalProperties"].is_object() {
        return target(&schema["additionalProperties"], definitions);
    }
    (None, schema)
}

fn kind(schema: &Value, definitions: &Map<String, Value>) -> String {
    let (_, found) = target(schema, definitions);
    let one = if let Some(options) = found["oneOf"].as_array() {
        let names = options.iter().flat_map(|option| match &option["enum"] {
            Value::Array(names) => names.clone(),
            _ => vec![option["const"].clone()],
        });
        names.filter_map(|name| Some(format!("`{}`", name.as_str()?))).collect::<Vec<_>>().join(", ")
    } else if found["anyOf"].is_array() {
        "see the text".into()
    } else {
        match &found["type"] {
            Value::String(name) if name == "object" => "table".into(),
            Value::String(name) => name.clone(),
            Value::Array(names) => names[0].as_str().unwrap_or("").to_owned(),
            _ => String::new(),
        }
    };
    if schema["type"] == "array" { format!("list of {one}") } else { one }
}

/// Writes the table of a definition, and those of the definitions that its keys hold.
fn write(text: &mut String, key: &str, schema: &Value, definitions: &Map<String, Value>) {
    let heading = if key.is_empty() { "Top level".to_owned() } else { format!("`{key}`") };
    let about = schema["description"].as_str().unwrap_or("").replace('\n', " ");
    write!(text, "\n## {heading}\n\n{about}\n\n| key | type | default | meaning |\n|---|---|---|---|\n").unwrap();
    let properties = schema["properties"].as_object().unwrap();
    let mut inner = vec![];
    for (name, property) in properties {
        let (_, found) = target(property, definitions);
        let meaning = property["description"].as_str().or(found["description"].as_str()).unwrap_or("");
        let meaning = meaning.replace('\n', " ").replace('|', "\\|").replace('<', "&lt;");
        let has_keys = found["properties"].is_object();
        let default = match &property["default"] {
            _ if has_keys => String::new(),
            Value::Null => String::new(),
            value => format!("`{value}`"),
        };
        writeln!(text, "| `{name}` | {} | {default} | {meaning} |", kind(property, definitions)).unwrap();
        if has_keys {
            let path = if key.is_empty() { name.clone() } else { format!("{key}.{name}") };
            inner.push((path, found));
        }
    }
    for (path, found) in inner {
        write(text, &path, found, definitions);
    }
}

#[test]
fn the_scenario_reference_is_that_of_the_types() {
    let schema = serde_json::to_value(schema_for!(Scenario)).unwrap();
    let definitions = schema["$defs"].as_object().unwrap();
    let mut text = INTRODUCTION.to_owned();
    write(&mut text, "", &schema, definitions);
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/scenario-reference.md");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&path, &text).unwrap();
    }
    let written = fs::read_to_string(&path).unwrap_or_default();
    assert!(written == text, "docs/scenario-reference.md is out of date: run UPDATE_DOCS=1 cargo test");
}
