//! Dashboards: panels in a grid, and the variables that a reader chooses above them.

use serde::{Serialize, Serializer};
use serde_json::{Value, json};

use super::panel::{COLUMNS, Panel, source};

/// Schema version of the dashboards: newer versions of Grafana migrate it, and nothing in the dashboards needs a
/// migration.
const SCHEMA_VERSION: u32 = 39;

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
    /// Panels of the dashboard.
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
        // Names of runs end with their time, so the last run comes first.
        let mut variables = vec![variable("run", "Run", "label_values(up, run)", 2, false)];
        if self.by_node {
            variables.push(variable("node", "Node", "label_values(up{run=\"$run\"}, node)", 3, true));
        }
        variables
    }

    fn panels(&self) -> Vec<Value> {
        let (mut x, mut y, mut row) = (0, 0, 0);
        let place = |(number, panel): (usize, &Panel)| {
            let (width, height) = panel.size;
            if x + width > COLUMNS {
                (x, y, row) = (0, y + row, 0);
            }
            let at = (x, y);
            x += width;
            row = row.max(height);
            panel.to_json(number + 1, at)
        };
        self.panels.iter().enumerate().map(place).collect()
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
            "templating": { "list": self.variables() },
            "panels": self.panels(),
        })
        .serialize(serializer)
    }
}
