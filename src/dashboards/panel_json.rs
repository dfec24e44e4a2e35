//! Panels as JSON, as Grafana 10 to 13 read it. Fields that are left out have a default that fits in all these versions.

use serde_json::{Value, json};

use super::panel::{Column, Kind, Legend, Panel, Query, Style, Unit};

impl Unit {
    fn id(self) -> &'static str {
        match self {
            Self::BytesPerSecond => "binBps",
            Self::Bytes => "bytes",
            Self::Seconds => "s",
            Self::Share => "percentunit",
            Self::Percent => "percent",
            Self::MessagesPerSecond => "mps",
            Self::EventsPerSecond => "eps",
            Self::Count => "short",
        }
    }
}

/// Data source of all queries: the one that the reader chooses above the panels.
pub(super) fn source() -> Value {
    json!({ "type": "prometheus", "uid": "${datasource}" })
}

fn thresholds(steps: &[(Option<f64>, &str)]) -> Value {
    let steps: Vec<Value> = steps.iter().map(|(value, colour)| json!({ "color": colour, "value": value })).collect();
    json!({ "mode": "absolute", "steps": steps })
}

/// Setting of all series or columns with this name.
fn by_name(name: &str, id: &str, value: &Value) -> Value {
    json!({ "matcher": { "id": "byName", "options": name }, "properties": [{ "id": id, "value": value }] })
}

impl Panel {
    fn targets(&self) -> Vec<Value> {
        let format = match self.kind {
            Kind::Heatmap => "heatmap",
            Kind::Table(..) => "table",
            _ => "time_series",
        };
        let instant = format == "table";
        let targets = self.queries.iter().zip('A'..='Z').map(|(query, id)| {
            json!({
                "refId": id.to_string(),
                "datasource": source(),
                "editorMode": "code",
                "expr": query.expr,
                "legendFormat": query.legend,
                "format": format,
                "instant": instant,
                "range": !instant,
            })
        });
        targets.collect()
    }

    fn field_config(&self) -> Value {
        let mut defaults = json!({ "unit": self.unit.id(), "thresholds": thresholds(&self.thresholds) });
        if let Some(decimals) = self.decimals {
            defaults["decimals"] = json!(decimals);
        }
        if let Some(text) = self.absent {
            defaults["noValue"] = json!(text);
        }
        match self.kind {
            Kind::Lines => {
                let line = if self.thresholds.len() > 1 { "line" } else { "off" };
                // The name decides the colour, so a node has the same colour in all panels.
                defaults["color"] = json!({ "mode": "palette-classic-by-name" });
                let scale = if self.log { json!({ "type": "log", "log": 10 }) } else { json!({ "type": "linear" }) };
                defaults["custom"] = json!({
                    "drawStyle": "line",
                    "lineWidth": 1,
                    "fillOpacity": 0,
                    "showPoints": "auto",
                    "spanNulls": false,
                    "scaleDistribution": scale,
                    "thresholdsStyle": { "mode": line },
                });
            }
            Kind::Stat => defaults["color"] = json!({ "mode": "thresholds" }),
            Kind::States => {
                defaults["color"] = json!({ "mode": "thresholds" });
                defaults["custom"] = json!({ "fillOpacity": 80, "lineWidth": 0, "spanNulls": false });
            }
            _ => {}
        }
        json!({ "defaults": defaults, "overrides": self.overrides() })
    }

    fn overrides(&self) -> Vec<Value> {
        match &self.kind {
            Kind::Table(columns, _) => table_overrides(columns),
            _ => self.queries.iter().zip('A'..='Z').filter_map(line_style).collect(),
        }
    }

    /// Transformations of the answers before they are shown.
    fn transformations(&self) -> Option<Value> {
        let Kind::Table(columns, _) = &self.kind else { return None };
        let mut names: serde_json::Map<String, Value> =
            columns.iter().zip('A'..='Z').map(|(column, id)| (format!("Value #{id}"), json!(column.name))).collect();
        names.insert("node".into(), json!("Node"));
        let organize = json!({ "excludeByName": { "Time": true }, "renameByName": names });
        Some(json!([{ "id": "merge", "options": {} }, { "id": "organize", "options": organize }]))
    }

    fn options(&self) -> Value {
        match &self.kind {
            Kind::Text(markdown) => json!({ "mode": "markdown", "content": markdown }),
            Kind::Row(_) => json!({}),
            Kind::Stat => json!({
                "reduceOptions": { "calcs": ["lastNotNull"], "fields": "", "values": false },
                "colorMode": "value",
                "graphMode": if self.queries.len() > 1 { "none" } else { "area" },
                // A name is shown if it is not the panel's own.
                "textMode": if self.queries.iter().any(|query| !query.legend.is_empty()) { "value_and_name" } else { "auto" },
                "orientation": "auto",
            }),
            Kind::Lines => {
                let legend = match self.legend {
                    Legend::List => {
                        json!({ "displayMode": "list", "placement": "bottom", "showLegend": true, "calcs": [] })
                    }
                    Legend::Sorted => json!({
                        "displayMode": "table",
                        "placement": "right",
                        "showLegend": true,
                        "calcs": ["lastNotNull", "max"],
                        "sortBy": "Max",
                        "sortDesc": true,
                    }),
                };
                json!({ "legend": legend, "tooltip": { "mode": "multi", "sort": "desc" } })
            }
            Kind::Heatmap => json!({
                "calculate": false,
                "cellGap": 1,
                "color": { "mode": "scheme", "scheme": "Oranges", "steps": 64, "exponent": 0.5, "fill": "dark-orange" },
                "filterValues": { "le": 1e-9 },
                "rowsFrame": { "layout": "auto" },
                "yAxis": { "axisPlacement": "left", "unit": self.unit.id() },
            }),
            Kind::States => json!({
                "mergeValues": true,
                "showValue": "never",
                "rowHeight": 0.9,
                "alignValue": "left",
                "legend": { "displayMode": "list", "placement": "bottom", "showLegend": false },
                "tooltip": { "mode": "single", "sort": "none" },
            }),
            Kind::Table(_, sorted_by) => json!({
                "showHeader": true,
                "cellHeight": "sm",
                "sortBy": [{ "displayName": sorted_by, "desc": true }],
            }),
        }
    }

    /// Panel at a place of the grid, as JSON.
    pub(super) fn to_json(&self, id: usize, (x, y): (u64, u64)) -> Value {
        let kind = match self.kind {
            Kind::Text(_) => "text",
            Kind::Row(_) => "row",
            Kind::Stat => "stat",
            Kind::Lines => "timeseries",
            Kind::Heatmap => "heatmap",
            Kind::States => "state-timeline",
            Kind::Table(..) => "table",
        };
        let mut panel = json!({
            "id": id,
            "type": kind,
            "title": self.title,
            "gridPos": { "x": x, "y": y, "w": self.size.0, "h": self.size.1 },
        });
        if let Kind::Row(collapsed) = self.kind {
            panel["collapsed"] = json!(collapsed);
            panel["panels"] = json!([]);
            return panel;
        }
        panel["options"] = self.options();
        if self.is_text() {
            panel["transparent"] = json!(true);
            return panel;
        }
        panel["description"] = json!(self.description);
        panel["datasource"] = source();
        panel["targets"] = json!(self.targets());
        panel["fieldConfig"] = self.field_config();
        if let Some(transformations) = self.transformations() {
            panel["transformations"] = transformations;
        }
        panel
    }
}

fn table_overrides(columns: &[Column]) -> Vec<Value> {
    let details = json!([{
        "title": "Details of this node",
        "url": "/d/apollo-nodes?var-run=${run}&var-node=${__value.raw}&${__url_time_range}",
    }]);
    let mut overrides = vec![by_name("Node", "links", &details)];
    for column in columns {
        overrides.push(by_name(column.name, "unit", &json!(column.unit.id())));
        if !column.thresholds.is_empty() {
            overrides.push(by_name(column.name, "thresholds", &thresholds(&column.thresholds)));
            let cell = json!({ "type": "color-background", "mode": "basic" });
            overrides.push(by_name(column.name, "custom.cellOptions", &cell));
        }
    }
    overrides
}

fn line_style((query, id): (&Query, char)) -> Option<Value> {
    let dash = json!({ "id": "custom.lineStyle", "value": { "fill": "dash", "dash": [8, 6] } });
    let properties = match query.style {
        Style::Solid => return None,
        Style::Dashed => json!([dash]),
        Style::Limit => json!([dash, { "id": "color", "value": { "mode": "fixed", "fixedColor": "red" } }]),
    };
    Some(json!({
        "matcher": { "id": "byFrameRefID", "options": id.to_string() },
        "properties": properties,
    }))
}
