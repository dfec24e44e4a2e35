//! Intervals beside each other: effects of a comparison, or the spread of each node.

use maud::Markup;
use plotters::{
    chart::ChartBuilder,
    element::{Circle, PathElement, Text},
    style::{
        Color,
        text_anchor::{HPos, Pos, VPos},
    },
};

use super::{
    canvas::{Area, Caption, FINE, Layout, figure_of, text},
    coordinate::{Axis, Coordinate},
    theme::Ink,
};

/// Maximum number of rows, which bounds the height of the figure.
const MOST_ROWS: usize = 40;

/// Maximum number of characters of a row's name in the drawing; the rest is left out.
const MOST_NAME: usize = 32;

/// A row: a value between the ends of its interval.
#[derive(Clone, Debug)]
pub struct Interval {
    /// Name.
    pub name: String,
    /// Lower end.
    pub low: f64,
    /// Value.
    pub middle: f64,
    /// Upper end.
    pub high: f64,
    /// Number of its colour.
    pub series: usize,
}

/// Pixels of the usual size: height of a row, room for a letter of a name, beside the names and for the axis.
const ROW: u32 = 22;
const LETTER: i32 = 8;
const MARGIN: i32 = 20;
const BELOW: i32 = 44;

/// A row for each interval, at most 40. `reference` is a line across all rows, such as the ratio 1.
pub fn intervals(caption: &Caption, axis: &Axis, rows: &[Interval], reference: Option<f64>) -> Markup {
    let usable = |row: &&Interval| [row.low, row.middle, row.high].iter().all(|value| axis.shows(*value));
    let shown: Vec<&Interval> = rows.iter().filter(usable).take(MOST_ROWS).collect();
    let values = shown.iter().flat_map(|row| [row.low, row.middle, row.high]);
    let Some(over) = axis.over(values.chain(reference.filter(|_| !shown.is_empty()))) else {
        return maud::html! { figure { figcaption { (caption.title) } p { "No values." } } };
    };
    let below = maud::html! {
        @if rows.len() > shown.len() { p.cut { (shown.len()) " of " (rows.len()) " rows." } }
    };
    let height = shown.len() as u32 * ROW + BELOW as u32 + 12;
    let layouts = [Layout { width: 640, height, narrow: false }, Layout { width: 360, height, narrow: true }];
    let chart = Chart { axis, over: over.with_room(), rows: &shown, reference };
    figure_of(caption, &below, &layouts, |area, layout| chart.draw(area, layout))
}

struct Chart<'a> {
    axis: &'a Axis,
    over: Coordinate,
    rows: &'a [&'a Interval],
    reference: Option<f64>,
}

impl Chart<'_> {
    fn draw(&self, area: &Area, layout: Layout) -> Result<(), String> {
        let failed = |error: &dyn std::fmt::Display| error.to_string();
        let most = if layout.narrow { MOST_NAME / 2 } else { MOST_NAME };
        let longest = self.rows.iter().map(|row| row.name.chars().count()).max().unwrap_or(0).min(most);
        let names = longest as i32 * LETTER + MARGIN;
        let count = self.rows.len() as f64;
        let mut builder = ChartBuilder::on(area);
        builder.margin_top(6 * FINE).margin_right(18 * FINE).margin_left(names * FINE).x_label_area_size(BELOW * FINE);
        let mut chart = builder.build_cartesian_2d(self.over.clone(), 0.0..count).map_err(|error| failed(&error))?;
        let unit = self.axis.unit;
        let label = move |value: &f64| unit.label(*value);
        chart
            .configure_mesh()
            .axis_style(Ink::Axis.colour().stroke_width(FINE as u32))
            .bold_line_style(Ink::Grid.colour().stroke_width(1))
            .light_line_style(plotters::style::TRANSPARENT)
            .disable_y_mesh()
            .disable_y_axis()
            .x_labels(if layout.narrow { 4 } else { 8 })
            .x_label_formatter(&label)
            .x_desc(self.axis.label.as_str())
            .label_style(text(Ink::Text, 13))
            .axis_desc_style(text(Ink::Text, 13))
            .draw()
            .map_err(|error| failed(&error))?;
        if let Some(reference) = self.reference {
            let style = Ink::Event.colour().stroke_width(FINE as u32);
            let line = PathElement::new([(reference, 0.0), (reference, count)], style);
            chart.draw_series([line]).map_err(|error| failed(&error))?;
        }
        for (at, row) in self.rows.iter().enumerate() {
            let y = count - at as f64 - 0.5;
            let colour = Ink::Series(row.series).colour();
            let line = PathElement::new([(row.low, y), (row.high, y)], colour.stroke_width(3 * FINE as u32));
            chart.draw_series([line]).map_err(|error| failed(&error))?;
            let point = Circle::new((row.middle, y), 5 * FINE, colour.filled());
            chart.draw_series([point]).map_err(|error| failed(&error))?;
            let style = text(Ink::Text, 13).pos(Pos::new(HPos::Right, VPos::Center));
            let name: String = row.name.chars().take(most).collect();
            let middle = (6 + (2 * at as i32 + 1) * ROW as i32 / 2) * FINE;
            area.draw(&Text::new(name, ((names - 8) * FINE, middle), style)).map_err(|error| failed(&error))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{super::coordinate::Unit, *};

    #[test]
    fn every_row_has_its_name_and_strange_rows_are_left_out() {
        let row = |name: &str, middle: f64| Interval {
            name: name.into(),
            low: middle * 0.9,
            middle,
            high: middle * 1.1,
            series: 0,
        };
        let rows = [row("<delay>", 1.2), row("nothing", f64::NAN), row("cpu", 0.98)];
        let axis = Axis::logarithmic("ratio", Unit::Ratio);
        let figure = intervals(&Caption::default(), &axis, &rows, Some(1.0)).into_string();
        assert!(figure.contains("&lt;delay&gt;") && !figure.contains("nothing"));
        assert_eq!(figure.matches("<circle").count(), 4);
        assert!(figure.contains("2 of 3 rows."));
    }
}
