//! Parts of the page that several sections have.

use maud::{Markup, html};

use crate::report::{quantiles::DelaySummary, table::quantile_text, units::NONE};

/// Maximum number of rows of a table, which bounds the size of the page.
const MOST_ROWS: usize = 200;

/// A table: caption, names of the columns, cells by row. Numbers are aligned to the right; columns in `texts` are not.
pub(super) struct Table<'a> {
    pub(super) caption: &'a str,
    pub(super) columns: &'a [&'a str],
    pub(super) texts: &'a [usize],
    pub(super) rows: Vec<Vec<String>>,
}

impl Table<'_> {
    /// The table; nothing without rows, and a line that states the cut if it has too many.
    pub(super) fn markup(&self) -> Markup {
        let class = |column: usize| (column > 0 && !self.texts.contains(&column)).then_some("number");
        html! {
            @if !self.rows.is_empty() {
                div.scroll role="region" aria-label=(self.caption) tabindex="0" {
                    table {
                        caption { (self.caption) }
                        thead {
                            tr { @for (at, name) in self.columns.iter().enumerate() { th scope="col" class=[class(at)] { (name) } } }
                        }
                        tbody {
                            @for row in self.rows.iter().take(MOST_ROWS) {
                                tr {
                                    @for (at, cell) in row.iter().enumerate() {
                                        @if at == 0 { th scope="row" { (cell) } } @else { td class=[class(at)] { (cell) } }
                                    }
                                }
                            }
                        }
                    }
                }
                @if self.rows.len() > MOST_ROWS { p.cut { "The first " (MOST_ROWS) " of " (self.rows.len()) " rows." } }
            }
        }
    }
}

/// A section with a heading; nothing without content.
pub(super) fn section(title: &str, content: &Markup) -> Markup {
    html! { @if !content.0.is_empty() { section { h2 { (title) } (content) } } }
}

/// One of the quantiles of a distribution, with its marks.
pub(super) fn cell(delay: &DelaySummary, quantile: f64) -> String {
    quantile_text(delay.quantile(quantile))
}

/// A quantile for a chart, in microseconds: its lower bound if it lies among values that never arrived.
pub(super) fn at_least(delay: &DelaySummary, quantile: f64) -> Option<f64> {
    let quantile = delay.quantile(quantile)?;
    Some(quantile.value_micros.or(quantile.at_least_micros)?.max(1) as f64)
}

/// A number, or a dash.
pub(super) fn optional(value: Option<f64>, digits: usize) -> String {
    value.map_or_else(|| NONE.into(), |value| format!("{value:.digits$}"))
}

/// Explanation of the marks of percentiles.
pub(super) fn marks() -> Markup {
    html! {
        p.quiet {
            "* lies among values that never arrived, and is larger than the printed value. "
            "~ fewer than ten values lie beyond this percentile."
        }
    }
}
