//! Charts as inline SVG, for reports of runs, comparisons and searches. A function for each kind of chart returns a
//! figure with its title, its legend and a text for readers that do not see it.
//!
//! The colours in the SVG are keys: rules of the style sheet replace each by the colour of the theme. Without the
//! style sheet, a chart has the colours of the light theme.

mod canvas;
mod coordinate;
mod heat;
mod intervals;
mod line_chart;
mod theme;

pub use canvas::Caption;
pub use coordinate::{Axis, Unit};
pub use heat::{HeatMap, heat_map};
pub use intervals::{Interval, intervals};
pub use line_chart::{Distribution, Line, LineStyle, Mark, Span, cdf, lines};
pub(super) use theme::rules;
pub use theme::{HEAT_STEPS, Ink, MAX_SERIES};
