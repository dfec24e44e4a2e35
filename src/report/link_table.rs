//! The link certificate for the terminal.

use comfy_table::Table;

use super::{
    layout::{align_numbers, empty_table},
    links::{Certificate, LinkMeasured, LinkRow},
    units::time,
};

/// Minimum and maximum of some values, as one number if they are nearly equal.
fn range(values: impl Iterator<Item = f64> + Clone, unit: &str) -> Option<String> {
    let (low, high) = (values.clone().reduce(f64::min)?, values.reduce(f64::max)?);
    let text = |value: f64| if value < 100.0 { format!("{value:.2}") } else { format!("{value:.0}") };
    let (low, high) = (text(low), text(high));
    Some(if low == high { format!("{low} {unit}") } else { format!("{low} to {high} {unit}") })
}

/// All links in one line: the number of links that have their shape, and the measurements.
pub(super) fn links_line(certificate: &Certificate) -> String {
    let measured = certificate.links.iter().flat_map(|link| [&link.before, &link.after]).flatten();
    let latency = range(measured.clone().filter_map(|one| Some(one.one_way?.p50_micros as f64 / 1000.0)), "ms one way");
    let rates = measured.filter_map(|one| Some(one.throughput_bytes_per_second? / 1000.0));
    let throughput = range(rates, "KB/s");
    let loss = certificate.loss.as_ref().map(|loss| format!("{} of {} lost", loss.lost, loss.packets));
    let good = certificate.links.iter().filter(|link| link.problems.is_empty()).count();
    let mut parts = vec![format!("{good} of {} as configured", certificate.links.len())];
    parts.extend([latency, loss, throughput].into_iter().flatten());
    parts.join(", ")
}

fn cells(link: &LinkRow, when: &str, measured: &LinkMeasured, asked: bool) -> Vec<String> {
    let (from, to) = (link.from, link.to);
    let name = if asked { format!("{from} -> {to}") } else { String::new() };
    let shape = if asked { link.configured.to_string() } else { String::new() };
    let median = |times: Option<crate::probe::Times>| time(times.map(|times| times.p50_micros));
    let spread = measured.one_way.map_or_else(
        || "-".to_owned(),
        |times| format!("{} .. {}", time(Some(times.p1_micros)), time(Some(times.p99_micros))),
    );
    vec![
        name,
        shape,
        when.into(),
        median(measured.one_way),
        spread,
        median(measured.round_trip),
        format!("{}/{}", measured.lost, measured.packets),
        measured.throughput_bytes_per_second.map_or_else(|| "-".into(), |rate| format!("{:.0}", rate / 1000.0)),
        measured.message.map_or_else(
            || "-".into(),
            |one| {
                let found = one.one_way_micros.or(one.round_trip_micros);
                format!("{} of {}", time(found), time(Some(one.expected_micros)))
            },
        ),
    ]
}

/// A line for each link and measurement, with the configured and the measured value.
pub fn link_table(certificate: &Certificate) -> String {
    let mut table: Table = empty_table();
    let header = ["link", "configured", "when", "one way", "p1 .. p99", "round trip", "lost", "KB/s", "message"];
    table.set_header(header);
    for link in &certificate.links {
        let measured = [("before", &link.before), ("after", &link.after)];
        let measured = measured.iter().filter_map(|(when, measured)| Some((*when, measured.as_ref()?)));
        for (at, (when, measured)) in measured.enumerate() {
            table.add_row(cells(link, when, measured, at == 0));
        }
    }
    align_numbers(&mut table, header.len());
    let mut text = format!("{table}\n");
    for link in &certificate.links {
        for problem in &link.problems {
            text.push_str(&format!("{} -> {}: {problem}\n", link.from, link.to));
        }
    }
    if let Some(loss) = &certificate.loss {
        let (low, high) = loss.interval_99;
        text.push_str(&format!(
            "loss of all links: {} of {} packets, {:.2} % of {} % configured (99 % of cases: {low} to {high})\n",
            loss.lost, loss.packets, loss.measured_percent, loss.configured_percent
        ));
    }
    text
}
