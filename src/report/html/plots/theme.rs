//! Colours of the charts.

use std::fmt::Write;

use plotters::style::RGBColor;

/// Number of steps of a heat map's colours.
pub const HEAT_STEPS: u8 = 9;

/// Maximum number of lines in a chart that differ by their colours.
pub const MAX_SERIES: usize = 6;

/// A colour by its purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ink {
    /// Labels.
    Text,
    /// Axes.
    Axis,
    /// Lines of the grid.
    Grid,
    /// Time in which something special happened.
    Span,
    /// Event at one time.
    Event,
    /// A line, by its number; beyond [`MAX_SERIES`], the colours repeat.
    Series(usize),
    /// A step of a heat map, from 0 for the lowest; below [`HEAT_STEPS`].
    Heat(u8),
    /// Text on the upper half of a heat map's steps.
    HeatText,
}

/// Keys of the series, which are their colours in the light theme.
const SERIES: [(u8, u8, u8); MAX_SERIES] = [
    (0x1a, 0x5c, 0xc0),
    (0xa8, 0x4a, 0x06),
    (0x14, 0x70, 0x3a),
    (0x8a, 0x2b, 0x8f),
    (0xb3, 0x20, 0x1a),
    (0x0b, 0x72, 0x85),
];

/// Keys of the heat map's steps.
const HEAT: [(u8, u8, u8); HEAT_STEPS as usize] = [
    (0xec, 0xf2, 0xfb),
    (0xd3, 0xe2, 0xf6),
    (0xb3, 0xce, 0xef),
    (0x8d, 0xb5, 0xe6),
    (0x64, 0x99, 0xda),
    (0x3e, 0x7c, 0xca),
    (0x21, 0x60, 0xb3),
    (0x12, 0x47, 0x92),
    (0x0a, 0x30, 0x69),
];

impl Ink {
    fn key(self) -> (u8, u8, u8) {
        match self {
            Self::Text => (0x18, 0x20, 0x2b),
            Self::Axis => (0x6b, 0x77, 0x86),
            Self::Grid => (0xcc, 0xd3, 0xdd),
            Self::Span => (0xe8, 0xee, 0xf8),
            Self::Event => (0xb3, 0x20, 0x1b),
            Self::Series(number) => SERIES[number % MAX_SERIES],
            Self::Heat(step) => HEAT[usize::from(step.min(HEAT_STEPS - 1))],
            Self::HeatText => (0xff, 0xff, 0xfe),
        }
    }

    /// Name of its variable in the style sheet.
    pub(crate) fn variable(self) -> String {
        match self {
            Self::Text => "--text".into(),
            Self::Axis => "--axis".into(),
            Self::Grid => "--line".into(),
            Self::Span => "--span".into(),
            Self::Event => "--event".into(),
            Self::Series(number) => format!("--series-{}", number % MAX_SERIES),
            Self::Heat(step) => format!("--heat-{}", step.min(HEAT_STEPS - 1)),
            Self::HeatText => "--heat-text".into(),
        }
    }

    /// Class of an element with this colour as background.
    pub(super) fn class(self) -> String {
        format!("ink{}", self.variable().trim_start_matches('-').replace('-', "")).replace("ink", "ink-")
    }

    pub(super) fn colour(self) -> RGBColor {
        let (red, green, blue) = self.key();
        RGBColor(red, green, blue)
    }
}

/// All colours.
pub(super) fn all() -> impl Iterator<Item = Ink> {
    [Ink::Text, Ink::Axis, Ink::Grid, Ink::Span, Ink::Event, Ink::HeatText]
        .into_iter()
        .chain((0..MAX_SERIES).map(Ink::Series))
        .chain((0..HEAT_STEPS).map(Ink::Heat))
}

/// Rules that replace the keys in the charts by the variables of the theme. A rule is stronger than an attribute of
/// SVG.
pub(in super::super) fn rules() -> String {
    let mut rules = String::new();
    for ink in all() {
        let ((red, green, blue), variable) = (ink.key(), ink.variable());
        let key = format!("#{red:02X}{green:02X}{blue:02X}");
        let _ = writeln!(rules, "svg [fill=\"{key}\"]{{fill:var({variable})}}");
        let _ = writeln!(rules, "svg [stroke=\"{key}\"]{{stroke:var({variable})}}");
        let _ = writeln!(rules, ".{}{{background:var({variable})}}", ink.class());
    }
    rules
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_colour_has_a_key_and_a_class_of_its_own() {
        let mut keys: Vec<_> = all().map(Ink::key).collect();
        let mut classes: Vec<_> = all().map(Ink::class).collect();
        let count = keys.len();
        keys.sort_unstable();
        keys.dedup();
        classes.sort_unstable();
        classes.dedup();
        assert_eq!((keys.len(), classes.len()), (count, count));
    }
}
