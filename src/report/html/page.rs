//! The whole page.

use base64::{Engine, prelude::BASE64_STANDARD};
use maud::{DOCTYPE, Markup, PreEscaped, html};
use sha2::{Digest, Sha256};

use super::{
    course::course,
    delays::{classes, distributions},
    files::files,
    head::{facts, key_figures, objectives, title, verdict},
    input::RunReport,
    links::links,
    losses::losses,
    nodes::nodes,
    plots::rules,
    reach::reach,
    resources::resources,
    several::{name, overview},
    trials::trials,
};
use crate::terminal::clean;

/// Maximum number of runs in one page, which bounds its size.
pub const MOST_RUNS: usize = 12;

const STYLE: &str = include_str!("style.css");

/// One HTML file about one run, or about several side by side. Takes at most [`MOST_RUNS`].
pub fn page(runs: &[RunReport]) -> String {
    let heading = match runs {
        [run] => title(&run.summary),
        runs => format!("{} runs", runs.len()),
    };
    let about = html! { @if let [run] = runs { (facts(run)) } };
    let content = html! {
        @match runs {
            [run] => (body(run)),
            runs => {
                (overview(runs))
                @for (number, run) in runs.iter().enumerate() {
                    details.run {
                        summary { (name(number, run)) @if !run.summary.verdict.valid { " (INVALID)" } }
                        (facts(run))
                        (body(run))
                    }
                }
            }
        }
    };
    shell(&heading, &about, &content)
}

/// A page with its style sheet and its policy around some content.
pub(super) fn shell(heading: &str, about: &Markup, content: &Markup) -> String {
    let style = format!("{STYLE}{}", rules());
    // The hash lets the browser take this style sheet and nothing else, not even a `style` attribute.
    let hash = BASE64_STANDARD.encode(Sha256::digest(style.as_bytes()));
    let policy = format!("default-src 'none'; style-src 'sha256-{hash}'; base-uri 'none'; form-action 'none'");
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta http-equiv="Content-Security-Policy" content=(policy);
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                meta name="referrer" content="no-referrer";
                title { (heading) " - network benchmark" }
                style { (PreEscaped(&style)) }
            }
            body {
                header {
                    p.kind { "Apollo Network Benchmark" }
                    h1 { (heading) }
                    (about)
                }
                main { (content) }
            }
        }
    };
    // Characters that would change the direction of the text, or control a terminal, are shown as escapes.
    clean(&page.into_string()).into_owned()
}

/// Sections of a run, the verdict first.
fn body(run: &RunReport) -> Markup {
    html! {
        (verdict(run))
        (objectives(&run.summary.objectives))
        (key_figures(run))
        (trials(&run.summary))
        (distributions(run))
        (reach(&run.summary))
        (course(run))
        (classes(&run.summary.classes))
        (nodes(run))
        (losses(run))
        (links(run.summary.links.as_ref()))
        (resources(&run.summary))
        (files(run))
    }
}
