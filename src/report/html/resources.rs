//! Resources of a run: processors, memory, machines, clocks.

use maud::{Markup, html};

use super::parts::{Table, optional, section};
use crate::{
    machine::MachineReport,
    report::{
        environments::MachineRow,
        simulation::simulation_rows,
        summary::RunSummary,
        units::{NONE, bytes_or_none, time},
    },
};

/// Resources that a run used, and its machines.
pub(super) fn resources(run: &RunSummary) -> Markup {
    let content = html! {
        div.tables {
            div { (used(run)) }
            div { (machines(&run.machines)) }
        }
        @if let Some(worst) = run.clocks.as_ref().and_then(|clocks| clocks.worst.as_ref()) {
            p {
                "The clocks of the nodes " (worst.nodes.0) " and " (worst.nodes.1) " differed by "
                (time(Some(worst.difference_micros))) ", with an error of at most " (time(Some(worst.error_micros)))
                ". Delays are not corrected by this difference."
            }
        }
    };
    section("Resources", &content)
}

fn used(run: &RunSummary) -> Markup {
    let mut rows = vec![];
    let mut row = |name: &str, value: String| rows.push(vec![name.to_owned(), value]);
    if let Some(totals) = &run.totals {
        row("processor time of all nodes in the window", format!("{} s", optional(totals.cpu_seconds, 2)));
        let per_million = optional(totals.cpu_seconds_per_million_deliveries, 1);
        row("processor time per million deliveries", format!("{per_million} s"));
        let sent = optional(totals.socket_bytes_per_delivered_byte, 3);
        row("bytes written to sockets per byte of delivered messages", sent);
        if let Some(copies) = totals.gossip_copies_per_delivery {
            row("copies that arrived per delivery over gossipsub", format!("{copies:.2}"));
        }
    }
    row("peak memory of all nodes together", bytes_or_none(run.peak_memory_bytes));
    row(
        "processor time of the runner, of one core",
        run.runner_cpu_percent.map_or_else(|| NONE.into(), |percent| format!("{percent:.1} %")),
    );
    row(
        "time until all nodes were ready",
        run.ready_seconds.map_or_else(|| NONE.into(), |seconds| format!("{seconds:.2} s")),
    );
    if let Some(drain) = run.drain {
        row("wait for late messages", format!("{:.2} s", drain.seconds));
    }
    for (name, value) in simulation_rows(run) {
        row(name, value);
    }
    runner(run.runner.as_ref(), &mut row);
    Table { caption: "Resources of the run", columns: &["resource", "value"], texts: &[], rows }.markup()
}

/// Facts about the processors of the runner's machine.
fn runner(report: Option<&MachineReport>, row: &mut impl FnMut(&str, String)) {
    let Some(processors) = report.and_then(|report| report.processors.as_ref()) else { return };
    let capacity = processors.window_seconds * processors.processors as f64;
    let share =
        |seconds: f64| format!("{seconds:.2} s, {:.1} % of all processors", 100.0 * seconds / capacity.max(1e-9));
    if let Some(seconds) = processors.machine_seconds {
        row("processor time of all programs of the runner's machine", share(seconds));
    }
    if let Some(seconds) = processors.stolen_seconds {
        row("processor time that the hypervisor gave to others", share(seconds));
    }
    if let Some(seconds) = processors.throttled_seconds {
        row("time for which a processor quota stopped the runner", format!("{seconds:.2} s"));
    }
}

fn machines(machines: &[MachineRow]) -> Markup {
    let row = |machine: &MachineRow| {
        let environment = &machine.environment;
        let known = |text: &Option<String>| text.clone().unwrap_or_else(|| NONE.into());
        vec![
            ranges(&machine.nodes),
            environment.processors.to_string(),
            environment.cgroup_processors.map_or_else(|| NONE.into(), |limit| format!("{limit:.2}")),
            known(&environment.processor),
            known(&environment.kernel),
            known(&environment.governor),
            known(&environment.congestion_control),
            known(&environment.default_qdisc),
        ]
    };
    Table {
        caption: "Machines of the nodes",
        columns: &[
            "nodes",
            "processors",
            "limit",
            "model",
            "kernel",
            "governor",
            "congestion control",
            "queue discipline",
        ],
        texts: &[3, 4, 5, 6, 7],
        rows: machines.iter().map(row).collect(),
    }
    .markup()
}

/// Ascending numbers with consecutive ones joined.
fn ranges(numbers: &[u64]) -> String {
    let mut parts: Vec<(u64, u64)> = vec![];
    for number in numbers {
        match parts.last_mut() {
            Some(last) if last.1.checked_add(1) == Some(*number) => last.1 = *number,
            _ => parts.push((*number, *number)),
        }
    }
    let text = |(from, to): &(u64, u64)| if from == to { from.to_string() } else { format!("{from}-{to}") };
    parts.iter().take(50).map(text).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn consecutive_nodes_are_joined() {
        assert_eq!(ranges(&[0, 1, 2, 5, 7, 8]), "0-2, 5, 7-8");
        assert_eq!(ranges(&[]), "");
    }
}
