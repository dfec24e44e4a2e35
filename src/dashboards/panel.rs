//! Panels, as Grafana 10 to 13 read them. Fields that are left out have a default that fits in all of these versions.

use serde_json::{Value, json};

/// Name of Prometheus in the dashboards, independent of its address.
pub const DATASOURCE_UID: &str = "apollo-prometheus";

/// Width of a dashboard in Grafana's columns.
pub(super) const COLUMNS: u64 = 24;

/// Unit of the numbers of a panel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unit {
    BytesPerSecond,
    Bytes,
    Seconds,
    /// 0 to 1, shown in percent.
    Share,
    Percent,
    MessagesPerSecond,
    EventsPerSecond,
    Count,
}

impl Unit {
    fn id(self) -> &'static str {
        match self {
            Self::BytesPerSecond => "Bps",
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

/// A query of a panel.
#[derive(Clone, Debug)]
pub struct Query {
    /// PromQL, with Grafana's variables in it.
    pub expr: String,
    legend: &'static str,
}

#[derive(Clone, Debug)]
enum Kind {
    Text(&'static str),
    Stat,
    Lines,
    Heatmap,
    /// Names of the columns, each with its unit; one column a query.
    Table(Vec<(&'static str, Unit)>),
    /// A table of the labels of the only query; these labels are shown.
    Labels(&'static [&'static str]),
}

/// A panel of a dashboard.
#[derive(Clone, Debug)]
pub struct Panel {
    /// Title of the panel.
    pub title: &'static str,
    /// Meaning of the panel.
    pub description: &'static str,
    /// Queries to Prometheus.
    pub queries: Vec<Query>,
    kind: Kind,
    unit: Unit,
    /// Values from which on a colour applies.
    thresholds: Vec<(Option<f64>, &'static str)>,
    decimals: Option<u8>,
    maximum: Option<f64>,
    /// Width and height in the dashboard's grid.
    pub(super) size: (u64, u64),
}

impl Panel {
    fn new(title: &'static str, kind: Kind, unit: Unit, size: (u64, u64), description: &'static str) -> Self {
        Self {
            title,
            description,
            queries: vec![],
            kind,
            unit,
            thresholds: vec![(None, "green")],
            decimals: None,
            maximum: None,
            size,
        }
    }

    /// A text over the whole width.
    pub(super) fn text(height: u64, markdown: &'static str) -> Self {
        Self::new("", Kind::Text(markdown), Unit::Count, (COLUMNS, height), "")
    }

    /// One number: the present value.
    pub(super) fn stat(title: &'static str, unit: Unit, description: &'static str) -> Self {
        Self::new(title, Kind::Stat, unit, (4, 4), description)
    }

    /// Lines over time.
    pub(super) fn lines(title: &'static str, unit: Unit, description: &'static str) -> Self {
        Self::new(title, Kind::Lines, unit, (12, 8), description)
    }

    /// Frequencies of values over time.
    pub(super) fn heatmap(title: &'static str, unit: Unit, description: &'static str) -> Self {
        Self::new(title, Kind::Heatmap, unit, (12, 8), description)
    }

    /// A row for each node, a column for each query that follows.
    pub(super) fn table(title: &'static str, description: &'static str) -> Self {
        Self::new(title, Kind::Table(vec![]), Unit::Count, (COLUMNS, 9), description)
    }

    /// A row for each series, with these of its labels.
    pub(super) fn labels(title: &'static str, shown: &'static [&'static str], description: &'static str) -> Self {
        Self::new(title, Kind::Labels(shown), Unit::Count, (12, 8), description)
    }

    /// Adds a query. `legend` names its lines; `{{node}}` in it is replaced by the label.
    pub(super) fn query(mut self, legend: &'static str, expr: impl Into<String>) -> Self {
        self.queries.push(Query { expr: expr.into(), legend });
        self
    }

    /// Adds a column to a table.
    pub(super) fn column(mut self, name: &'static str, unit: Unit, expr: impl Into<String>) -> Self {
        if let Kind::Table(columns) = &mut self.kind {
            columns.push((name, unit));
        }
        self.query("", expr)
    }

    /// Colours the panel green up to the first value, and in each step's colour from its value on.
    pub(super) fn bad_from(mut self, steps: &[(f64, &'static str)]) -> Self {
        self.thresholds.extend(steps.iter().map(|(value, colour)| (Some(*value), *colour)));
        self
    }

    /// Colours the panel red up to the first value, and in each step's colour from its value on.
    pub(super) fn good_from(mut self, steps: &[(f64, &'static str)]) -> Self {
        self.thresholds = vec![(None, "red")];
        self.bad_from(steps)
    }

    pub(super) fn decimals(mut self, decimals: u8) -> Self {
        self.decimals = Some(decimals);
        self
    }

    pub(super) fn maximum(mut self, maximum: f64) -> Self {
        self.maximum = Some(maximum);
        self
    }

    pub(super) fn width(mut self, width: u64) -> Self {
        self.size.0 = width;
        self
    }

    /// True if the panel is a text without queries.
    pub fn is_text(&self) -> bool {
        matches!(self.kind, Kind::Text(_))
    }

    fn targets(&self) -> Vec<Value> {
        let format = match self.kind {
            Kind::Heatmap => "heatmap",
            Kind::Table(_) | Kind::Labels(_) => "table",
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
        let steps: Vec<Value> =
            self.thresholds.iter().map(|(value, colour)| json!({ "color": colour, "value": value })).collect();
        let mut defaults = json!({ "unit": self.unit.id(), "thresholds": { "mode": "absolute", "steps": steps } });
        if let Some(decimals) = self.decimals {
            defaults["decimals"] = json!(decimals);
        }
        if let Some(maximum) = self.maximum {
            defaults["max"] = json!(maximum);
        }
        match self.kind {
            Kind::Lines => {
                let line = if self.thresholds.len() > 1 { "line" } else { "off" };
                defaults["custom"] = json!({
                    "drawStyle": "line",
                    "lineWidth": 1,
                    "fillOpacity": 8,
                    "showPoints": "auto",
                    "spanNulls": false,
                    "thresholdsStyle": { "mode": line },
                });
            }
            Kind::Stat => defaults["color"] = json!({ "mode": "thresholds" }),
            _ => {}
        }
        json!({ "defaults": defaults, "overrides": self.overrides() })
    }

    fn overrides(&self) -> Vec<Value> {
        let by_name = |name: &str, id: &str, value: Value| json!({ "matcher": { "id": "byName", "options": name }, "properties": [{ "id": id, "value": value }] });
        let Kind::Table(columns) = &self.kind else { return vec![] };
        let details = json!([{
            "title": "Details of this node",
            "url": "/d/apollo-nodes?var-run=${run}&var-node=${__value.raw}&${__url_time_range}",
        }]);
        let units = columns.iter().map(|(name, unit)| by_name(name, "unit", json!(unit.id())));
        std::iter::once(by_name("Node", "links", details)).chain(units).collect()
    }

    /// Transformations of the answers before they are shown.
    fn transformations(&self) -> Option<Value> {
        match &self.kind {
            Kind::Table(columns) => {
                let mut names: serde_json::Map<String, Value> = columns
                    .iter()
                    .zip('A'..='Z')
                    .map(|((name, _), id)| (format!("Value #{id}"), json!(name)))
                    .collect();
                names.insert("node".into(), json!("Node"));
                let organize = json!({ "excludeByName": { "Time": true }, "renameByName": names });
                Some(json!([{ "id": "merge", "options": {} }, { "id": "organize", "options": organize }]))
            }
            Kind::Labels(shown) => {
                let names = json!({ "names": shown });
                Some(json!([{ "id": "filterFieldsByName", "options": { "include": names } }]))
            }
            _ => None,
        }
    }

    fn options(&self) -> Value {
        match &self.kind {
            Kind::Text(markdown) => json!({ "mode": "markdown", "content": markdown }),
            Kind::Stat => json!({
                "reduceOptions": { "calcs": ["lastNotNull"], "fields": "", "values": false },
                "colorMode": "value",
                "graphMode": "area",
            }),
            Kind::Lines => json!({
                "legend": { "displayMode": "list", "placement": "bottom", "showLegend": true, "calcs": [] },
                "tooltip": { "mode": "multi", "sort": "desc" },
            }),
            Kind::Heatmap => json!({
                "calculate": false,
                "cellGap": 1,
                "color": { "mode": "scheme", "scheme": "Oranges", "steps": 64, "exponent": 0.5, "fill": "dark-orange" },
                "filterValues": { "le": 1e-9 },
                "rowsFrame": { "layout": "auto" },
                "yAxis": { "axisPlacement": "left", "unit": self.unit.id() },
            }),
            Kind::Table(_) | Kind::Labels(_) => json!({ "showHeader": true, "cellHeight": "sm" }),
        }
    }

    /// Panel at a place of the grid, as JSON.
    pub(super) fn to_json(&self, id: usize, (x, y): (u64, u64)) -> Value {
        let kind = match self.kind {
            Kind::Text(_) => "text",
            Kind::Stat => "stat",
            Kind::Lines => "timeseries",
            Kind::Heatmap => "heatmap",
            Kind::Table(_) | Kind::Labels(_) => "table",
        };
        let mut panel = json!({
            "id": id,
            "type": kind,
            "title": self.title,
            "gridPos": { "x": x, "y": y, "w": self.size.0, "h": self.size.1 },
            "options": self.options(),
        });
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

/// Data source of all queries.
pub(super) fn source() -> Value {
    json!({ "type": "prometheus", "uid": DATASOURCE_UID })
}
