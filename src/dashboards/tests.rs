use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{grafana, *};
use crate::metrics::{Kind, RUNNER_DEFINITIONS, definitions};

fn dashboards() -> Vec<Value> {
    super::dashboards().iter().map(|(_, dashboard)| serde_json::to_value(dashboard).unwrap()).collect()
}

/// Names of series in a query: words outside of quotes, braces and brackets that are no function, no label, and no word
/// of PromQL.
fn series(expr: &str) -> Vec<String> {
    let mut names = vec![];
    let mut rest = expr;
    let skip = |text: &str, end: char| text.find(end).map_or(text.len(), |at| at + 1);
    while let Some(first) = rest.chars().next() {
        let word: String = rest.chars().take_while(|c| c.is_alphanumeric() || matches!(c, '_' | ':')).collect();
        if word.is_empty() || first.is_ascii_digit() {
            rest = match first {
                '{' => &rest[skip(rest, '}')..],
                '"' => &rest[1 + skip(&rest[1..], '"')..],
                '[' => &rest[skip(rest, ']')..],
                _ => &rest[word.len().max(first.len_utf8())..],
            };
            continue;
        }
        rest = rest[word.len()..].trim_start();
        match word.as_str() {
            "by" | "on" => rest = &rest[skip(rest, ')')..],
            "and" | "or" | "unless" | "offset" | "bool" => {}
            _ if rest.starts_with('(') || ["sum", "count", "max", "min"].contains(&word.as_str()) => {}
            _ => names.push(word),
        }
    }
    names
}

fn known() -> BTreeSet<String> {
    let own = definitions().into_iter().flat_map(|row| match row.kind {
        Kind::Histogram => {
            vec![format!("{}_bucket", row.name), format!("{}_count", row.name), format!("{}_sum", row.name)]
        }
        _ => vec![row.name.to_owned()],
    });
    let recorded = rules(1).groups.into_iter().flat_map(|group| group.rules).filter_map(|rule| match rule {
        Rule::Recording { record, .. } => Some(record.to_owned()),
        Rule::Alert { .. } => None,
    });
    let runner = RUNNER_DEFINITIONS.iter().map(|row| row.name.to_owned());
    // Series that Prometheus has of itself.
    own.chain(recorded).chain(runner).chain(["up".to_owned(), "ALERTS".to_owned()]).collect()
}

#[test]
fn the_files_are_those_of_the_source() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/dashboards");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::create_dir_all(folder).unwrap();
        for (name, text) in files() {
            std::fs::write(format!("{folder}/{name}"), text).unwrap();
        }
    }
    for (name, text) in files() {
        let file = std::fs::read_to_string(format!("{folder}/{name}")).unwrap_or_default();
        assert!(file == text, "run UPDATE_DOCS=1 cargo test to write {folder}/{name}");
    }
    let there: BTreeSet<String> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    assert_eq!(there, files().iter().map(|(name, _)| (*name).to_owned()).collect(), "nothing else lies there");
}

#[test]
fn queries_name_only_exported_or_recorded_series() {
    assert_eq!(series(r#"sum by (le) (rate(a_b{x="y z"}[$__rate_interval])) / on (q) r:s - 1 > 0"#), ["a_b", "r:s"]);
    let known = known();
    let rules = rules(1);
    let rules = rules.groups.iter().flat_map(|group| &group.rules).map(Rule::expr);
    let all = super::dashboards();
    let panels = all.iter().flat_map(|(_, dashboard)| &dashboard.panels);
    let queries = panels.flat_map(|panel| panel.queries.iter().map(|query| query.expr.as_str()));
    let marks: Vec<String> = dashboards().iter().flat_map(annotations).collect();
    let queries = queries.chain(marks.iter().map(String::as_str));
    let mut used = BTreeSet::new();
    for expr in rules.chain(queries) {
        for name in series(expr) {
            // gossipsub's own metrics are in no table of this project.
            let foreign = name.starts_with("gossipsub_") && expr.contains("$node");
            assert!(known.contains(&name) || foreign, "{name} in {expr}");
            used.insert(name.trim_end_matches("_bucket").to_owned());
        }
    }
    let runner = RUNNER_DEFINITIONS.iter().map(|row| row.name);
    for name in definitions().iter().map(|row| row.name).chain(runner) {
        assert!(used.contains(name), "no panel shows {name}");
    }
}

fn annotations(dashboard: &Value) -> Vec<String> {
    let list = dashboard["annotations"]["list"].as_array().unwrap();
    list.iter().map(|mark| mark["expr"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn no_growth_is_of_a_counter_whose_name_hides_its_kind() {
    let all = super::dashboards();
    let panels = all.iter().flat_map(|(_, dashboard)| &dashboard.panels);
    let queries = panels.flat_map(|panel| panel.queries.iter().map(|query| query.expr.clone()));
    let rules = rules(1).groups.into_iter().flat_map(|group| group.rules).map(|rule| rule.expr().to_owned());
    for expr in queries.chain(rules) {
        for (at, function) in ["rate(", "increase("].iter().flat_map(|name| expr.match_indices(name)) {
            let inside = &expr[at + function.len()..];
            let end = inside.find(['{', '[']).unwrap();
            let named = ["_total", "_sum", "_count", "_bucket"].iter().any(|end_of| inside[..end].ends_with(end_of));
            assert!(named, "{function}{} in {expr}", &inside[..end]);
        }
    }
}

#[test]
fn no_gauge_is_shown_by_its_growth() {
    let kinds: Vec<_> = definitions().into_iter().map(|row| (row.name, row.kind)).collect();
    for (_, dashboard) in super::dashboards() {
        for query in dashboard.panels.iter().flat_map(|panel| &panel.queries) {
            for (name, kind) in &kinds {
                let rated = query.expr.contains(&format!("rate({name}{{"));
                assert!(!(rated && *kind == Kind::Gauge), "{} is of a gauge", query.expr);
            }
        }
    }
}

#[test]
fn every_panel_has_a_title_and_an_explanation() {
    let mut titles = BTreeSet::new();
    for (_, dashboard) in super::dashboards() {
        for panel in dashboard.panels.iter().filter(|panel| !panel.is_text()) {
            assert!(!panel.title.is_empty() && !panel.queries.is_empty());
            assert!(panel.description.len() > 50, "{}: {}", panel.title, panel.description);
            assert!(titles.insert((dashboard.uid, panel.title)), "{} twice", panel.title);
        }
    }
}

#[test]
fn only_common_features_of_grafana_10_to_13_are_used() {
    for dashboard in dashboards() {
        assert_eq!(dashboard["schemaVersion"], 42);
        let mut taken = BTreeSet::new();
        for (at, panel) in flat(&dashboard).iter().enumerate() {
            let kind = panel["type"].as_str().unwrap();
            let known = ["timeseries", "stat", "table", "text", "heatmap", "state-timeline", "row"];
            assert!(known.contains(&kind), "{kind}");
            assert_eq!(panel["id"], at + 1);
            let place = |key: &str| panel["gridPos"][key].as_u64().unwrap();
            assert!(place("x") + place("w") <= 24);
            for x in place("x")..place("x") + place("w") {
                for y in place("y")..place("y") + place("h") {
                    assert!(taken.insert((x, y)), "{} lies on another", panel["title"]);
                }
            }
            if kind == "text" || kind == "row" {
                continue;
            }
            for target in panel["targets"].as_array().unwrap().iter().chain([panel]) {
                assert_eq!(target["datasource"], json!({ "type": "prometheus", "uid": "${datasource}" }));
            }
            assert_eq!(panel["fieldConfig"]["defaults"]["thresholds"]["steps"][0]["value"], Value::Null);
        }
    }
}

/// All panels, those in collapsed rows after their row.
fn flat(dashboard: &Value) -> Vec<Value> {
    let panels = dashboard["panels"].as_array().unwrap();
    let inside = |panel: &Value| panel["panels"].as_array().cloned().unwrap_or_default();
    panels.iter().flat_map(|panel| std::iter::once(panel.clone()).chain(inside(panel))).collect()
}

#[test]
fn a_collapsed_row_has_its_panels_inside() {
    let dashboard = &dashboards()[0];
    let panels = dashboard["panels"].as_array().unwrap();
    let row = panels.last().unwrap();
    assert_eq!((&row["type"], &row["collapsed"]), (&json!("row"), &json!(true)));
    let titles: Vec<&Value> = row["panels"].as_array().unwrap().iter().map(|panel| &panel["title"]).collect();
    assert_eq!(titles[0], "Dropped, by reason");
    let open = panels.iter().find(|panel| panel["title"] == "Delay" && panel["type"] == "row").unwrap();
    assert_eq!((&open["collapsed"], &open["panels"]), (&json!(false), &json!([])));
}

#[test]
fn dashboards_work_with_any_prometheus_as_data_source() {
    for dashboard in dashboards() {
        assert!(!dashboard.to_string().contains(DATASOURCE_UID), "the reader chooses the data source");
        let variable = &dashboard["templating"]["list"][0];
        assert_eq!((&variable["type"], &variable["query"]), (&json!("datasource"), &json!("prometheus")));
    }
}

#[test]
fn variables_are_the_source_the_run_and_the_node() {
    let names = |dashboard: &Value| -> Vec<Value> {
        dashboard["templating"]["list"].as_array().unwrap().iter().map(|variable| variable["name"].clone()).collect()
    };
    let dashboards = dashboards();
    assert_eq!(names(&dashboards[0]), ["datasource", "run"]);
    assert_eq!(names(&dashboards[1]), ["datasource", "run", "node"]);
    assert_eq!(dashboards[0]["uid"], OVERVIEW_PATH.trim_start_matches("/d/"));
}

#[test]
fn grafana_gets_all_paths_and_makes_no_requests_to_the_internet() {
    let datasource = serde_json::to_value(grafana::datasource("http://127.0.0.1:9090", 1)).unwrap();
    assert_eq!(datasource["apiVersion"], 1);
    assert_eq!(datasource["datasources"][0]["uid"], DATASOURCE_UID);
    assert_eq!(datasource["datasources"][0]["jsonData"]["timeInterval"], "1s");
    assert_eq!(datasource["providers"], Value::Null);
    let provider = serde_json::to_value(grafana::provider("/tmp/a $b")).unwrap();
    assert_eq!(provider["providers"][0]["options"]["path"], "/tmp/a $$b");
    let ini = grafana::ini("127.0.0.1", 3001);
    for line in [
        "[server]\nhttp_addr = 127.0.0.1\nhttp_port = 3001\n",
        "[auth.anonymous]\nenabled = true\norg_role = Viewer\n",
        "\nreporting_enabled = false\ncheck_for_updates = false\n",
        "\ndisable_gravatar = true\n",
        "\npreinstall_disabled = true\n",
    ] {
        assert!(format!("\n{ini}").contains(line), "{line} in {ini}");
    }
}

#[test]
fn the_runner_is_a_target_without_a_node() {
    let scraping = Scraping { run: "r", seconds: 1, rules: "rules.yml", targets: vec![] };
    let told = serde_json::to_value(configuration(&scraping).with_runner("r", "127.0.0.1:7".into())).unwrap();
    let scrapes = told["scrape_configs"].as_array().unwrap();
    assert_eq!(scrapes.len(), 2);
    assert_eq!(scrapes[1]["static_configs"], json!([{ "targets": ["127.0.0.1:7"], "labels": { "run": "r" } }]));
    let stored = serde_json::to_value(Configuration::of_stored_data(1)).unwrap();
    assert_eq!((&stored["scrape_configs"], &stored["rule_files"]), (&json!([]), &json!([])));
}
