//! Panels of the dashboards. `panel_json` writes them for Grafana.

/// Uid of the data source that a run's own Grafana gets. The dashboards do not depend on it.
pub const DATASOURCE_UID: &str = "apollo-prometheus";

/// Width of a dashboard in Grafana's columns.
pub(super) const COLUMNS: u64 = 24;

/// Unit of the numbers of a panel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unit {
    /// Powers of 1024, as on the live page and in the tables.
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

/// A query of a panel.
#[derive(Clone, Debug)]
pub struct Query {
    /// PromQL, with Grafana's variables in it.
    pub expr: String,
    pub(super) legend: &'static str,
    pub(super) style: Style,
}

/// Style of the lines of a query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Style {
    Solid,
    /// A second figure of the same subject, in the same colour.
    Dashed,
    /// A limit: dashed and red.
    Limit,
}

/// Column of a table.
#[derive(Clone, Debug)]
pub(super) struct Column {
    pub(super) name: &'static str,
    pub(super) unit: Unit,
    /// Colours of the cells, if they have any.
    pub(super) thresholds: Thresholds,
}

/// Values from which on a colour applies; the first has no value.
pub(super) type Thresholds = Vec<(Option<f64>, &'static str)>;

#[derive(Clone, Debug)]
pub(super) enum Kind {
    Text(&'static str),
    /// Heading of the panels that follow; true if they are hidden until a click.
    Row(bool),
    /// Numbers; with names if there are several.
    Stat,
    Lines,
    Heatmap,
    /// States over time: a row for each series, coloured by its value.
    States,
    /// One row a node, one column a query; sorted by the column of this name, the highest value first.
    Table(Vec<Column>, &'static str),
}

/// Legend of a panel with lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Legend {
    List,
    /// Last and highest values beside the names, the highest first; for many lines.
    Sorted,
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
    pub(super) kind: Kind,
    pub(super) unit: Unit,
    pub(super) thresholds: Thresholds,
    pub(super) decimals: Option<u8>,
    pub(super) legend: Legend,
    pub(super) log: bool,
    /// Text in place of a number that does not exist.
    pub(super) absent: Option<&'static str>,
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
            legend: Legend::List,
            log: false,
            absent: None,
            size,
        }
    }

    /// A text over the whole width.
    pub(super) fn text(height: u64, markdown: &'static str) -> Self {
        Self::new("", Kind::Text(markdown), Unit::Count, (COLUMNS, height), "")
    }

    /// A heading of the panels that follow.
    pub(super) fn row(title: &'static str) -> Self {
        Self::new(title, Kind::Row(false), Unit::Count, (COLUMNS, 1), "")
    }

    /// A heading of panels that are hidden until a click.
    pub(super) fn collapsed(title: &'static str) -> Self {
        Self { kind: Kind::Row(true), ..Self::row(title) }
    }

    /// One number: the last value.
    pub(super) fn stat(title: &'static str, unit: Unit, description: &'static str) -> Self {
        Self::new(title, Kind::Stat, unit, (3, 4), description)
    }

    /// Lines over time.
    pub(super) fn lines(title: &'static str, unit: Unit, description: &'static str) -> Self {
        Self::new(title, Kind::Lines, unit, (12, 8), description)
    }

    /// Frequencies of values over time.
    pub(super) fn heatmap(title: &'static str, unit: Unit, description: &'static str) -> Self {
        Self::new(title, Kind::Heatmap, unit, (12, 8), description)
    }

    /// States over time: a series with a value of 1 or more is in its state, and has the colour.
    pub(super) fn states(title: &'static str, colour: &'static str, height: u64, description: &'static str) -> Self {
        let panel = Self::new(title, Kind::States, Unit::Count, (COLUMNS, height), description);
        Self { thresholds: vec![(None, "transparent"), (Some(1.0), colour)], ..panel }
    }

    /// A row for each node, a column for each query that follows; sorted by column `sorted_by`.
    pub(super) fn table(title: &'static str, sorted_by: &'static str, description: &'static str) -> Self {
        Self::new(title, Kind::Table(vec![], sorted_by), Unit::Count, (COLUMNS, 10), description)
    }

    fn styled(mut self, legend: &'static str, expr: String, style: Style) -> Self {
        self.queries.push(Query { expr, legend, style });
        self
    }

    /// Adds a query. `legend` names its lines; `{{node}}` in it is replaced by the label.
    pub(super) fn query(self, legend: &'static str, expr: impl Into<String>) -> Self {
        self.styled(legend, expr.into(), Style::Solid)
    }

    /// Adds a query with dashed lines, which have the colour of the solid lines of the same name.
    pub(super) fn dashed(self, legend: &'static str, expr: impl Into<String>) -> Self {
        self.styled(legend, expr.into(), Style::Dashed)
    }

    /// Adds a query for a limit.
    pub(super) fn limit(self, legend: &'static str, expr: impl Into<String>) -> Self {
        self.styled(legend, expr.into(), Style::Limit)
    }

    /// Adds a column to a table; cells have the colour of their value.
    pub(super) fn column(
        mut self,
        name: &'static str,
        unit: Unit,
        steps: &[(Option<f64>, &'static str)],
        expr: impl Into<String>,
    ) -> Self {
        if let Kind::Table(columns, _) = &mut self.kind {
            columns.push(Column { name, unit, thresholds: steps.to_vec() });
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

    pub(super) fn width(mut self, width: u64) -> Self {
        self.size.0 = width;
        self
    }

    pub(super) fn height(mut self, height: u64) -> Self {
        self.size.1 = height;
        self
    }

    /// Sorts the legend, which then shows values: for many lines.
    pub(super) fn sorted(mut self) -> Self {
        self.legend = Legend::Sorted;
        self
    }

    /// Draws the values on a logarithmic axis.
    pub(super) fn log(mut self) -> Self {
        self.log = true;
        self
    }

    /// Shows a text in place of a number that does not exist.
    pub(super) fn absent(mut self, text: &'static str) -> Self {
        self.absent = Some(text);
        self
    }

    /// True if the panel has no queries, because it is a text or a row.
    pub fn is_text(&self) -> bool {
        matches!(self.kind, Kind::Text(_) | Kind::Row(_))
    }

    pub(super) fn is_row(&self) -> bool {
        matches!(self.kind, Kind::Row(_))
    }

    pub(super) fn is_collapsed(&self) -> bool {
        matches!(self.kind, Kind::Row(true))
    }
}
