//! Heat map of values between pairs.

use maud::{Markup, html};
use plotters::{
    element::{Rectangle, Text},
    style::{
        Color,
        text_anchor::{HPos, Pos, VPos},
    },
};

use super::{
    canvas::{Area, Caption, FINE, Layout, figure_of, text},
    coordinate::{Axis, Unit},
    theme::{HEAT_STEPS, Ink},
};

/// Maximum number of rows and of columns, which bounds the size of the figure.
const MOST_CELLS: usize = 40;

/// Number of columns up to which each cell contains its value.
const WRITTEN: usize = 10;

/// Values between pairs: a row for each first member, a column for each second one.
#[derive(Clone, Debug)]
pub struct HeatMap {
    /// Names of rows and of columns, short.
    pub names: Vec<String>,
    /// Meaning of the rows and of the columns.
    pub meaning: (String, String),
    /// Unit of the values.
    pub unit: Unit,
    /// Values by row and column; none for a pair without one.
    pub values: Vec<Vec<Option<f64>>>,
    /// True if the colours stand for the logarithm of the values.
    pub logarithmic: bool,
}

/// Pixels of the usual size: the width of the drawing, and the room for the names.
const WIDTH: u32 = 560;
const ROOM: i32 = 56;

/// A heat map of at most 40 rows and columns; a line below it names the range of the values, and the cut.
pub fn heat_map(caption: &Caption, map: &HeatMap) -> Markup {
    let shown = map.names.len().min(MOST_CELLS);
    let axis = Axis { label: String::new(), unit: map.unit, logarithmic: map.logarithmic, at_least: None };
    let values = || map.values.iter().take(shown).flat_map(|row| row.iter().take(shown)).flatten().copied();
    let (low, high) = values()
        .filter(|value| axis.shows(*value))
        .fold((f64::INFINITY, f64::NEG_INFINITY), |range, value| (range.0.min(value), range.1.max(value)));
    if low > high {
        return html! { figure { figcaption { (caption.title) } p { "No values." } } };
    }
    let step = |value: f64| {
        let part = if map.logarithmic { (value / low).ln() / (high / low).ln() } else { (value - low) / (high - low) };
        // If all values are equal, the colour means nothing.
        let part = if part.is_finite() { part } else { 0.0 };
        (part * f64::from(HEAT_STEPS)).clamp(0.0, f64::from(HEAT_STEPS - 1)) as u8
    };
    let below = html! {
        p.scale {
            span { (map.unit.value(low)) }
            span.steps { @for number in 0..HEAT_STEPS { span class=(Ink::Heat(number).class()) {} } }
            span { (map.unit.value(high)) }
        }
        @if map.names.len() > shown { p.cut { "The first " (shown) " of " (map.names.len()) " nodes." } }
    };
    let layout = Layout { width: WIDTH, height: WIDTH, narrow: false };
    let figure = figure_of(caption, &below, &[layout], |area, _| draw(area, map, shown, &step));
    html! { div.square { (figure) } }
}

fn draw(area: &Area, map: &HeatMap, shown: usize, step: &impl Fn(f64) -> u8) -> Result<(), String> {
    let failed = |error: &dyn std::fmt::Display| error.to_string();
    let room = ROOM * FINE;
    let cell = (WIDTH as i32 * FINE - room - 2 * FINE) / shown.max(1) as i32;
    let anchor = |h, v| Pos::new(h, v);
    // A name at every n-th row, so that names do not touch.
    let every = (shown * 16).div_ceil((WIDTH as i32 - ROOM) as usize).max(1);
    for (at, name) in map.names.iter().take(shown).enumerate().filter(|(at, _)| at % every == 0) {
        let middle = room + at as i32 * cell + cell / 2;
        let column = text(Ink::Text, 13).pos(anchor(HPos::Center, VPos::Bottom));
        area.draw(&Text::new(name.as_str(), (middle, room - 3 * FINE), column)).map_err(|error| failed(&error))?;
        let row = text(Ink::Text, 13).pos(anchor(HPos::Right, VPos::Center));
        area.draw(&Text::new(name.as_str(), (room - 4 * FINE, middle), row)).map_err(|error| failed(&error))?;
    }
    let corner = text(Ink::Text, 13).pos(anchor(HPos::Left, VPos::Top));
    let (rows, columns) = (format!("{} \u{2193}", map.meaning.0), format!("{} \u{2192}", map.meaning.1));
    area.draw(&Text::new(columns, (room, FINE), corner.clone())).map_err(|error| failed(&error))?;
    area.draw(&Text::new(rows, (0, room - 16 * FINE), corner)).map_err(|error| failed(&error))?;
    for (row, values) in map.values.iter().take(shown).enumerate() {
        for (column, value) in values.iter().take(shown).enumerate() {
            let Some(value) = value else { continue };
            let (left, top) = (room + column as i32 * cell, room + row as i32 * cell);
            let gap = if cell > 8 * FINE { FINE } else { 0 };
            let level = step(*value);
            let square = [(left, top), (left + cell - gap, top + cell - gap)];
            area.draw(&Rectangle::new(square, Ink::Heat(level).colour().filled())).map_err(|error| failed(&error))?;
            if shown <= WRITTEN {
                let ink = if level >= HEAT_STEPS / 2 { Ink::HeatText } else { Ink::Text };
                let style = text(ink, 12).pos(anchor(HPos::Center, VPos::Center));
                let place = (left + cell / 2, top + cell / 2);
                area.draw(&Text::new(map.unit.label(*value), place, style)).map_err(|error| failed(&error))?;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(count: usize) -> HeatMap {
        let value = |row, column| (row != column).then_some((row * count + column) as f64);
        HeatMap {
            names: (0..count).map(|node| node.to_string()).collect(),
            meaning: ("from".into(), "to".into()),
            unit: Unit::Count,
            values: (0..count).map(|row| (0..count).map(|column| value(row, column)).collect()).collect(),
            logarithmic: false,
        }
    }

    #[test]
    fn a_large_map_is_cut_and_says_so() {
        let small = heat_map(&Caption::default(), &map(3)).into_string();
        assert_eq!(small.matches("<rect").count(), 6);
        assert!(!small.contains("nodes."));
        let large = heat_map(&Caption::default(), &map(200)).into_string();
        assert_eq!(large.matches("<rect").count(), MOST_CELLS * (MOST_CELLS - 1));
        assert!(large.contains("The first 40 of 200 nodes."));
        assert!(large.len() < 250_000, "{}", large.len());
    }
}
