//! Report of runs as one HTML file: no script, no request to anywhere, charts as inline SVG.
//!
//! A run is text of other programs: names, events, log lines. The templates escape every text, and a policy in the page
//! forbids everything except its own style sheet.

mod course;
mod delays;
mod files;
mod head;
mod input;
mod links;
mod losses;
mod nodes;
mod page;
mod parts;
pub mod plots;
mod reach;
mod resources;
mod several;
mod study;
mod trials;

pub use input::RunReport;
pub use page::{MOST_RUNS, page};
pub use study::{comparison_page, search_page};
