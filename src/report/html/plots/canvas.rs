//! Area of a chart, in two sizes: for wide screens and paper, and for narrow screens.

use maud::{Markup, PreEscaped, html};
use plotters::{
    coord::Shift,
    drawing::{DrawingArea, IntoDrawingArea},
    prelude::SVGBackend,
    style::{Color, FontFamily, IntoFont, TextStyle},
};

use super::theme::Ink;

/// Units of the SVG for each pixel of its usual size: the crate draws at whole units.
pub(super) const FINE: i32 = 2;

/// An area to draw on.
pub(super) type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// Title of a chart, and a sentence with its main facts for readers that do not see it.
#[derive(Clone, Debug, Default)]
pub struct Caption {
    /// Title.
    pub title: String,
    /// Sentence.
    pub text: String,
}

/// Size of a drawing, in pixels of its usual size.
#[derive(Clone, Copy, Debug)]
pub(super) struct Layout {
    pub(super) width: u32,
    pub(super) height: u32,
    /// True for the drawing of narrow screens.
    pub(super) narrow: bool,
}

/// Class and size of the drawing for wide screens, and of the one for narrow screens.
const WIDE: Layout = Layout { width: 640, height: 290, narrow: false };
const NARROW: Layout = Layout { width: 360, height: 260, narrow: true };

/// Style of a chart's texts.
pub(super) fn text(ink: Ink, pixels: i32) -> TextStyle<'static> {
    let mut style = TextStyle::from((FontFamily::SansSerif, pixels * FINE).into_font());
    style.color = ink.colour().to_backend_color();
    style
}

/// A figure with a drawing for wide and one for narrow screens.
pub(super) fn figure(caption: &Caption, below: &Markup, draw: impl Fn(&Area, Layout) -> Result<(), String>) -> Markup {
    figure_of(caption, below, &[WIDE, NARROW], draw)
}

/// A figure with one drawing for each of these layouts.
pub(super) fn figure_of(
    caption: &Caption,
    below: &Markup,
    layouts: &[Layout],
    draw: impl Fn(&Area, Layout) -> Result<(), String>,
) -> Markup {
    html! {
        figure {
            figcaption { (caption.title) }
            @for layout in layouts {
                @match svg(*layout, &draw) {
                    Ok(inner) => {
                        svg class=[(layouts.len() > 1).then_some(if layout.narrow { "narrow" } else { "wide" })]
                            viewBox=(format!("0 0 {} {}", layout.width * FINE as u32, layout.height * FINE as u32))
                            role="img" {
                            title { (caption.title) }
                            desc { (caption.text) }
                            (PreEscaped(inner))
                        }
                    }
                    Err(error) => p { "This chart could not be drawn: " (error) }
                }
            }
            (below)
        }
    }
}

/// Content of a drawing, without its outermost element.
fn svg(layout: Layout, draw: impl Fn(&Area, Layout) -> Result<(), String>) -> Result<String, String> {
    let mut text = String::new();
    let size = (layout.width * FINE as u32, layout.height * FINE as u32);
    {
        let area = SVGBackend::with_string(&mut text, size).into_drawing_area();
        draw(&area, layout)?;
        area.present().map_err(|error| error.to_string())?;
    }
    let inner = text.split_once('>').and_then(|(_, rest)| rest.rsplit_once("</svg>"));
    let inner = inner.map(|(inner, _)| inner).ok_or("it has no content")?;
    // Attributes with the default of SVG are half of a large chart.
    Ok(inner.replace(" opacity=\"1\"", "").replace(" stroke=\"none\"", "").replace(">\n", ">"))
}
