//! Lines over time, over a load, or over a distribution; with spans and events that are marked.

use hdrhistogram::Histogram;
use maud::{Markup, html};
use plotters::{
    chart::ChartBuilder,
    element::{Circle, Cross, PathElement, Rectangle, Text},
    series::LineSeries,
    style::{
        Color, ShapeStyle,
        text_anchor::{HPos, Pos, VPos},
    },
};

use super::{
    canvas::{Area, Caption, FINE, Layout, figure, text},
    coordinate::{Axis, Coordinate, Unit},
    theme::{Ink, MAX_SERIES},
};

/// Maximum number of points of a line: more can't be distinguished on a screen.
const MOST_POINTS: usize = 500;

/// Maximum number of lines, spans and marks of a chart, which bounds its size.
const MOST_LINES: usize = 12;
const MOST_SPANS: usize = 60;

/// Drawing of a line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LineStyle {
    /// A line without interruption.
    #[default]
    Solid,
    /// A line of dashes.
    Dashed,
    /// Points without a line, filled.
    Points,
    /// Points without a line, as crosses.
    Crosses,
}

/// Values of one kind, and their name.
#[derive(Clone, Debug)]
pub struct Line {
    /// Name in the legend.
    pub name: String,
    /// Number of its colour; from [`MAX_SERIES`] on, the colours repeat.
    pub series: usize,
    /// Drawing.
    pub style: LineStyle,
    /// Points, by ascending x.
    pub points: Vec<(f64, f64)>,
}

/// A part of the x axis that is marked.
#[derive(Clone, Copy, Debug)]
pub struct Span {
    /// Start.
    pub from: f64,
    /// End.
    pub to: f64,
}

/// An event at one place of the x axis. The chart has its number, the legend its text.
#[derive(Clone, Debug)]
pub struct Mark {
    /// Place.
    pub at: f64,
    /// Text.
    pub text: String,
}

/// Values whose distribution is drawn.
#[derive(Clone, Debug)]
pub struct Distribution<'a> {
    /// Name in the legend.
    pub name: String,
    /// Values that exist, in microseconds.
    pub values: &'a Histogram<u64>,
    /// Number of values that never came: the line ends below 100 %.
    pub missing: u64,
}

/// Cumulative distributions of times, on a logarithmic axis.
pub fn cdf(caption: &Caption, distributions: &[Distribution<'_>]) -> Markup {
    let line = |(series, distribution): (usize, &Distribution<'_>)| {
        let dashed = series >= MAX_SERIES;
        Line {
            name: distribution.name.clone(),
            series,
            style: if dashed { LineStyle::Dashed } else { LineStyle::Solid },
            points: steps(distribution),
        }
    };
    let curves: Vec<Line> = distributions.iter().enumerate().map(line).collect();
    let y = Axis { at_least: Some(0.0..1.0), ..Axis::linear("share that arrived", Unit::Share) };
    lines(caption, (&Axis::logarithmic("time", Unit::Micros), &y), &curves, &[], &[])
}

/// Points of a distribution: the share of all values up to a time. Neighbouring values are merged until a screen can
/// show them.
fn steps(distribution: &Distribution<'_>) -> Vec<(f64, f64)> {
    let all = distribution.values.len().saturating_add(distribution.missing);
    if all == 0 || distribution.values.is_empty() {
        return vec![];
    }
    let (low, high) = (distribution.values.min().max(1) as f64, distribution.values.max().max(1) as f64);
    let width = ((high / low).ln() / (MOST_POINTS / 2) as f64).max(f64::MIN_POSITIVE);
    let mut points: Vec<(f64, f64)> = vec![(low, 0.0)];
    let (mut seen, mut bucket) = (0_u64, 0_u64);
    for step in distribution.values.iter_recorded() {
        seen = seen.saturating_add(step.count_since_last_iteration());
        let value = step.value_iterated_to().max(1) as f64;
        let share = seen as f64 / all as f64;
        let here = ((value / low).ln() / width) as u64;
        // The first point is the beginning of the curve.
        match points.get_mut(1..).and_then(<[_]>::last_mut) {
            Some(last) if here == bucket => *last = (value, share),
            _ => points.push((value, share)),
        }
        bucket = here;
    }
    points
}

/// Lines over the x axis. `spans` are shaded, and `marks` are numbered lines across the chart, with their texts below.
pub fn lines(caption: &Caption, axes: (&Axis, &Axis), lines: &[Line], spans: &[Span], marks: &[Mark]) -> Markup {
    let (x, y) = axes;
    let shown: Vec<Line> = lines
        .iter()
        .take(MOST_LINES)
        .map(|line| {
            let points = line.points.iter().copied().filter(|(at, value)| x.shows(*at) && y.shows(*value));
            Line { points: thin(points.collect()), ..line.clone() }
        })
        .filter(|line| !line.points.is_empty())
        .collect();
    let points = || shown.iter().flat_map(|line| &line.points);
    let ends = spans.iter().flat_map(|span| [span.from, span.to]).chain(marks.iter().map(|mark| mark.at));
    let over_x = x.over(points().map(|(at, _)| *at).chain(ends.filter(|_| !shown.is_empty())));
    let over_y = y.over(points().map(|(_, value)| *value));
    let (Some(over_x), Some(over_y)) = (over_x, over_y) else {
        return html! { figure { figcaption { (caption.title) } p { "No values." } } };
    };
    let over_y = if y.unit == Unit::Share { over_y } else { over_y.with_room() };
    let chart = Chart { axes, over: (over_x, over_y), lines: &shown, spans, marks };
    figure(caption, &legend(&shown, lines.len(), marks), |area, layout| chart.draw(area, layout))
}

/// Every n-th point of a long line, its ends among them.
fn thin(points: Vec<(f64, f64)>) -> Vec<(f64, f64)> {
    let every = points.len().div_ceil(MOST_POINTS).max(1);
    let last = points.len().saturating_sub(1);
    points.into_iter().enumerate().filter(|(at, _)| at % every == 0 || *at == last).map(|(_, point)| point).collect()
}

fn legend(shown: &[Line], all: usize, marks: &[Mark]) -> Markup {
    html! {
        @if shown.len() > 1 || shown.iter().any(|line| line.style != LineStyle::Solid) {
            ul.legend {
                @for line in shown {
                    li {
                        span class=(format!("key {} {}", Ink::Series(line.series).class(), match line.style {
                            LineStyle::Solid => "solid",
                            LineStyle::Dashed => "dashed",
                            LineStyle::Points => "points",
                            LineStyle::Crosses => "crosses",
                        })) {}
                        (line.name)
                    }
                }
            }
        }
        @if all > MOST_LINES { p.cut { "The first " (MOST_LINES) " of " (all) " lines." } }
        @if !marks.is_empty() {
            ol.marks { @for mark in marks.iter().take(MOST_SPANS) { li { (mark.text) } } }
            @if marks.len() > MOST_SPANS { p.cut { "The first " (MOST_SPANS) " of " (marks.len()) " events." } }
        }
    }
}

struct Chart<'a> {
    axes: (&'a Axis, &'a Axis),
    over: (Coordinate, Coordinate),
    lines: &'a [Line],
    spans: &'a [Span],
    marks: &'a [Mark],
}

/// Room for the labels beside and below the chart, and above it for the numbers of marks, in pixels.
const LEFT: i32 = 74;
const BELOW: i32 = 44;
const ABOVE: i32 = 20;

impl Chart<'_> {
    fn draw(&self, area: &Area, layout: Layout) -> Result<(), String> {
        let (x, y) = self.axes;
        let mut builder = ChartBuilder::on(area);
        builder.margin_right(18 * FINE).margin_top(ABOVE * FINE).margin_left(4 * FINE);
        builder.x_label_area_size(BELOW * FINE).y_label_area_size(LEFT * FINE);
        let failed = |error: &dyn std::fmt::Display| error.to_string();
        let mut chart =
            builder.build_cartesian_2d(self.over.0.clone(), self.over.1.clone()).map_err(|error| failed(&error))?;
        let high = {
            use plotters::coord::ranged1d::Ranged;
            (self.over.1.range().start, self.over.1.range().end)
        };
        let spans = self
            .spans
            .iter()
            .take(MOST_SPANS)
            .map(|span| Rectangle::new([(span.from, high.0), (span.to, high.1)], Ink::Span.colour().filled()));
        chart.draw_series(spans).map_err(|error| failed(&error))?;
        let labels = |axis: &Axis| {
            let unit = axis.unit;
            move |value: &f64| unit.label(*value)
        };
        let (over_x, over_y) = (labels(x), labels(y));
        chart
            .configure_mesh()
            .axis_style(Ink::Axis.colour().stroke_width(FINE as u32))
            .bold_line_style(Ink::Grid.colour().stroke_width(1))
            .disable_x_mesh()
            .x_labels(if layout.narrow { 4 } else { 9 })
            .y_labels(5)
            .label_style(text(Ink::Text, 13))
            .axis_desc_style(text(Ink::Text, 13))
            .x_label_formatter(&over_x)
            .y_label_formatter(&over_y)
            .x_desc(x.label.as_str())
            .y_desc(y.label.as_str())
            .draw()
            .map_err(|error| failed(&error))?;
        for (number, mark) in self.marks.iter().take(MOST_SPANS).enumerate() {
            let style = Ink::Event.colour().stroke_width(FINE as u32);
            let line = PathElement::new([(mark.at, high.0), (mark.at, high.1)], style);
            chart.draw_series([line]).map_err(|error| failed(&error))?;
            let style = text(Ink::Event, 12).pos(Pos::new(HPos::Center, VPos::Bottom));
            let label = Text::new((number + 1).to_string(), (mark.at, high.1), style);
            chart.draw_series([label]).map_err(|error| failed(&error))?;
        }
        for line in self.lines {
            let colour = Ink::Series(line.series).colour();
            let stroke: ShapeStyle = colour.stroke_width(2 * FINE as u32);
            let points = line.points.iter().copied();
            let drawn = match line.style {
                LineStyle::Solid => chart.draw_series(LineSeries::new(points, stroke)).map(drop),
                LineStyle::Dashed => {
                    let dashes = plotters::series::DashedLineSeries::new(points, 7 * FINE, 5 * FINE, stroke);
                    chart.draw_series(dashes).map(drop)
                }
                LineStyle::Points => {
                    chart.draw_series(points.map(|at| Circle::new(at, 4 * FINE, colour.filled()))).map(drop)
                }
                LineStyle::Crosses => chart.draw_series(points.map(|at| Cross::new(at, 4 * FINE, stroke))).map(drop),
            };
            drawn.map_err(|error| failed(&error))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn histogram(values: impl Iterator<Item = u64>) -> Histogram<u64> {
        let mut histogram = Histogram::new(3).unwrap();
        values.for_each(|value| histogram.record(value).unwrap());
        histogram
    }

    #[test]
    fn a_distribution_ends_at_the_share_that_arrived() {
        let values = histogram((1..=900).map(|value| value * 37));
        let points = steps(&Distribution { name: String::new(), values: &values, missing: 100 });
        assert!(points.len() <= MOST_POINTS && points.len() > 50, "{}", points.len());
        assert!(points.windows(2).all(|pair| pair[0].0 <= pair[1].0 && pair[0].1 <= pair[1].1));
        assert_eq!(points.last().unwrap().1, 0.9);
    }

    #[test]
    fn a_chart_escapes_its_texts_and_has_a_title_and_a_description() {
        let hostile = "<script>alert('x')</script>";
        let caption = Caption { title: hostile.into(), text: hostile.into() };
        let line =
            Line { name: hostile.into(), series: 0, style: LineStyle::Dashed, points: vec![(0.0, 1.0), (1.0, 9.0)] };
        let axes = (&Axis::linear(hostile, Unit::Seconds), &Axis::logarithmic(hostile, Unit::Micros));
        let mark = Mark { at: 0.5, text: hostile.into() };
        let figure = lines(&caption, axes, &[line], &[Span { from: 0.2, to: 0.4 }], &[mark]).into_string();
        assert!(!figure.contains("<script"), "{figure}");
        assert_eq!(figure.matches("<svg ").count(), 2);
        assert_eq!((figure.matches("<title>").count(), figure.matches("<desc>").count()), (2, 2));
        assert!(figure.contains("viewBox=\"0 0 1280 580\""), "{}", &figure[..200]);
    }

    #[test]
    fn a_chart_without_values_reports_it() {
        let axes = (&Axis::linear("", Unit::Seconds), &Axis::logarithmic("", Unit::Micros));
        let figure = lines(&Caption::default(), axes, &[], &[], &[]).into_string();
        assert!(figure.contains("No values."));
        let values = histogram(std::iter::empty());
        let none = Distribution { name: String::new(), values: &values, missing: 3 };
        assert!(cdf(&Caption::default(), &[none]).into_string().contains("No values."));
    }

    #[test]
    fn a_long_line_is_thinned_and_keeps_its_ends() {
        let points: Vec<(f64, f64)> = (0..10_001).map(|at| (f64::from(at), 0.0)).collect();
        let thinned = thin(points);
        assert!(thinned.len() <= MOST_POINTS + 1);
        assert_eq!((thinned[0].0, thinned.last().unwrap().0), (0.0, 10_000.0));
    }
}
