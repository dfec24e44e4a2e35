//! Scenario and manifest of a run.

use maud::{Markup, html};

use super::{input::RunReport, parts::section};

/// The files that repeat the run, collapsed.
pub(super) fn files(run: &RunReport) -> Markup {
    let manifest = run.manifest.as_ref();
    let content = html! {
        @if let Some(words) = manifest.and_then(|manifest| manifest.command_line.as_ref()) {
            p { "Command: " code { (words) } }
        }
        @if let Some(scenario) = &run.scenario {
            details {
                summary { "scenario.toml" }
                pre { (scenario) }
            }
        }
        @if let Some(manifest) = manifest {
            details {
                summary { "manifest.json, with one node and without the scenario" }
                pre { (manifest.text) }
            }
        }
    };
    section("Scenario and manifest", &content)
}
