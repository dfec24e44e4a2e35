//! Links: the configured shape beside the measured one.

use maud::{Markup, html};

use super::parts::{Table, optional, section};
use crate::{
    probe::Times,
    report::{
        links::{Certificate, LinkMeasured, LinkRow},
        units::{NONE, time},
    },
};

/// Links of a run.
pub(super) fn links(certificate: Option<&Certificate>) -> Markup {
    let Some(certificate) = certificate else { return html! {} };
    // Links with problems first.
    let mut links: Vec<&LinkRow> = certificate.links.iter().collect();
    links.sort_by_key(|link| link.problems.is_empty());
    let good = links.iter().filter(|link| link.problems.is_empty()).count();
    let content = html! {
        p {
            (good) " of " (links.len()) " directions of links had their configured shape when they were measured. "
            @if let Some(loss) = &certificate.loss {
                "Over all links, " (loss.lost) " of " (loss.packets) " packets were lost ("
                (format!("{:.2} %, configured {} %", loss.measured_percent, loss.configured_percent)) ")."
            }
        }
        (table(&links))
    };
    section("Links", &content)
}

fn table(links: &[&LinkRow]) -> Markup {
    Table {
        caption: "Configured and measured shape of each direction; two values were measured before and after the window",
        columns: &[
            "link",
            "configured",
            "one way p50",
            "one way p1 to p99",
            "round trip p50",
            "lost packets",
            "KB/s configured",
            "KB/s measured",
            "problems",
        ],
        texts: &[1, 8],
        rows: links.iter().map(|link| row(link)).collect(),
    }
    .markup()
}

fn row(link: &LinkRow) -> Vec<String> {
    let both = |text: &dyn Fn(&LinkMeasured) -> String| {
        let values = [&link.before, &link.after].into_iter().flatten().map(text).collect::<Vec<_>>();
        if values.iter().all(|value| value == NONE) { NONE.to_owned() } else { values.join(" / ") }
    };
    let at = |times: Option<Times>, part: fn(Times) -> u64| time(times.map(part));
    vec![
        format!("{} \u{2192} {}", link.from, link.to),
        link.configured.to_string(),
        both(&|measured| at(measured.one_way, |times| times.p50_micros)),
        both(&|measured| {
            let (low, high) =
                (at(measured.one_way, |times| times.p1_micros), at(measured.one_way, |times| times.p99_micros));
            if low == NONE { low } else { format!("{low} to {high}") }
        }),
        both(&|measured| at(measured.round_trip, |times| times.p50_micros)),
        both(&|measured| format!("{} of {}", measured.lost, measured.packets)),
        link.configured.throughput_kilobytes_per_second.map_or_else(|| NONE.into(), |rate| rate.to_string()),
        both(&|measured| optional(measured.throughput_bytes_per_second.map(|rate| rate / 1000.0), 0)),
        link.problems.join("; "),
    ]
}
