//! Dashboards: panels in a grid, and the variables that a reader chooses above them.

use serde::{Serialize, Serializer};
use serde_json::{Value, json};

use super::{
    panel::{COLUMNS, Panel},
    panel_json::source,
};

/// Schema version of the dashboards: that of Grafana 12 and 13. Older versions read it too, because nothing in the
/// dashboards is newer than version 10.
const SCHEMA_VERSION: u32 = 42;

/// A dashboard: its panels from left to right and from top to bottom.
#[derive(Clone, Debug)]
pub struct Dashboard {
    /// Identifier in addresses.
    pub uid: &'static str,
    /// Title for people.
    pub title: &'static str,
    /// Purpose of the dashboard.
    pub description: &'static str,
    /// True if a reader can choose single nodes.
    pub(super) by_node: bool,
    /// Panels of the dashboard. A row contains the panels that follow it, up to the next row.
    pub panels: Vec<Panel>,
}

impl Dashboard {
    fn variables(&self) -> Vec<Value> {
        let variable = |name: &str, label: &str, query: &str, sort: u8, many: bool| {
            let mut variable = json!({
                "name": name,
                "label": label,
                "type": "query",
                "datasource": source(),
                "definition": query,
                "query": { "qryType": 1, "query": query, "refId": name },
                // Refresh when the time range changes.
                "refresh": 2,
                "sort": sort,
                "multi": many,
                "includeAll": many,
                "current": {},
                "options": [],
                "regex": "",
                "hide": 0,
            });
            if many {
                variable["allValue"] = json!(".*");
                variable["current"] = json!({ "selected": true, "text": ["All"], "value": ["$__all"] });
            }
            variable
        };
        // The default is the default data source of this Grafana.
        let datasource = json!({
            "name": "datasource",
            "label": "Prometheus",
            "type": "datasource",
            "query": "prometheus",
            "current": {},
            "options": [],
            "regex": "",
            "refresh": 1,
            "multi": false,
            "includeAll": false,
            "hide": 0,
        });
        // Names of runs end with their time, so the last run comes first.
        let mut variables = vec![datasource, variable("run", "Run", "label_values(up, run)", 2, false)];
        if self.by_node {
            variables.push(variable("node", "Node", "label_values(up{run=\"$run\"}, node)", 3, true));
        }
        variables
    }

    fn panels(&self) -> Vec<Value> {
        let (mut x, mut y, mut height) = (0, 0, 0);
        let mut placed: Vec<Value> = vec![];
        // A collapsed row has its panels inside.
        let mut collapsed = false;
        for (number, panel) in self.panels.iter().enumerate() {
            let (width, own_height) = panel.size;
            if x + width > COLUMNS {
                (x, y, height) = (0, y + height, 0);
            }
            let value = panel.to_json(number + 1, (x, y));
            x += width;
            height = height.max(own_height);
            if panel.is_row() {
                collapsed = panel.is_collapsed();
                placed.push(value);
            } else if let (true, Some(inside)) =
                (collapsed, placed.last_mut().and_then(|row| row.get_mut("panels")?.as_array_mut()))
            {
                inside.push(value);
            } else {
                placed.push(value);
            }
        }
        placed
    }

    /// Marks at the begin of each phase and of each fault, in all panels.
    fn annotations() -> Vec<Value> {
        let marks = |name: &str, colour: &str, expr: &str, text: &str| {
            json!({
                "name": name,
                "enable": true,
                "hide": false,
                "iconColor": colour,
                "datasource": source(),
                "expr": expr,
                "titleFormat": text,
                "textFormat": text,
                "tagKeys": "",
                "step": "1s",
                // The value is the time of the mark, in milliseconds.
                "useValueForTime": "on",
                "target": { "refId": "Anno", "expr": expr, "interval": "1s", "legendFormat": text },
            })
        };
        vec![
            marks(
                "Phases",
                "blue",
                r#"max by (phase) (run_phase_began_seconds{run="$run"} > 0) * 1000"#,
                "Phase {{phase}}",
            ),
            marks(
                "Faults",
                "red",
                r#"max by (number, fault) (run_fault_began_seconds{run="$run"} > 0) * 1000"#,
                "Fault {{number}}: {{fault}}",
            ),
        ]
    }
}

impl Serialize for Dashboard {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let links = json!([{
            "title": "The other dashboard",
            "type": "dashboards",
            "tags": ["apollo"],
            "asDropdown": false,
            "includeVars": true,
            "keepTime": true,
        }]);
        json!({
            "uid": self.uid,
            "title": self.title,
            "description": self.description,
            "tags": ["apollo"],
            "schemaVersion": SCHEMA_VERSION,
            "editable": true,
            // One cross-hair for all panels.
            "graphTooltip": 1,
            "refresh": "5s",
            "time": { "from": "now-15m", "to": "now" },
            "links": links,
            "annotations": { "list": Self::annotations() },
            "templating": { "list": self.variables() },
            "panels": self.panels(),
        })
        .serialize(serializer)
    }
}
