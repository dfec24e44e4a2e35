//! `apollo-bench cluster status` and `list`: existing runs, and their phases.

use comfy_table::{ContentArrangement, LineStyle, Table, presets::UTF8_HORIZONTAL_ONLY};
use serde::Serialize;

use super::{
    arguments::ConnectArgs,
    commands::StatusArgs,
    session::{RunThere, all},
    times::clock,
};
use crate::{
    cli::error::CliError,
    clock::unix_nanos,
    deploy::kubernetes::names::JOB,
    kubernetes::{PodState, list_pods},
    terminal::{say, tell},
};

/// Maximum width of a table, in columns.
const WIDTH: u16 = 100;

/// Status of a run.
#[derive(Serialize)]
struct Status<'a> {
    name: &'a str,
    namespace: &'a str,
    context: &'a str,
    server: &'a str,
    server_version: &'a str,
    num_nodes: u64,
    /// Phase: waiting, connecting, starting, warm-up, measuring, trials, draining, collectable or over.
    phase: &'static str,
    /// End of the phase, in nanoseconds since the Unix epoch, if known.
    until_unix_nanos: Option<u64>,
    pods: &'a [PodState],
}

pub(super) async fn status(args: &StatusArgs) -> Result<(), CliError> {
    let there = RunThere::find(&args.connect).await?;
    let pods = list_pods(&there.cluster, &there.record.namespace, &there.selector()).await?;
    let (phase, until) = phase(&there, &pods, unix_nanos());
    let record = &there.record;
    if args.json {
        let status = Status {
            name: &record.name,
            namespace: &record.namespace,
            context: there.cluster.context(),
            server: there.cluster.server(),
            server_version: there.cluster.version(),
            num_nodes: record.workload.num_nodes,
            phase,
            until_unix_nanos: until,
            pods: &pods,
        };
        let text = serde_json::to_string_pretty(&status).map_err(|error| CliError::Failed(error.to_string()))?;
        say(&format!("{text}\n"));
        return Ok(());
    }
    say(&format!("{}\n", table(&pods)));
    let until = until.map(|until| format!(" until {}", clock(until))).unwrap_or_default();
    say(&format!("run {} in namespace {}: {}{until}\n", record.name, record.namespace, described(phase)));
    Ok(())
}

pub(super) async fn list(connect: &ConnectArgs) -> Result<(), CliError> {
    let runs = all(connect).await?;
    if runs.is_empty() {
        tell("there are no runs");
    }
    let mut table = empty_table();
    table.set_header(["run", "namespace", "nodes", "phase"]);
    for there in &runs {
        let there = match there {
            Ok(there) => there,
            Err((namespace, error)) => {
                table.add_row(["?", namespace, "?", &format!("can't be read: {error}")]);
                continue;
            }
        };
        let record = &there.record;
        let pods = list_pods(&there.cluster, &record.namespace, &there.selector()).await?;
        let (phase, until) = phase(there, &pods, unix_nanos());
        let until = until.map(|until| format!(" until {}", clock(until))).unwrap_or_default();
        let nodes = record.workload.num_nodes.to_string();
        table.add_row([&record.name, &record.namespace, &nodes, &format!("{}{until}", described(phase))]);
    }
    if !runs.is_empty() {
        say(&format!("{table}\n"));
    }
    Ok(())
}

/// Phase of a run at a time, and the end of the phase.
fn phase(there: &RunThere, pods: &[PodState], now: u64) -> (&'static str, Option<u64>) {
    let nodes: Vec<&PodState> = pods.iter().filter(|pod| pod.component == JOB).collect();
    let count = usize::try_from(there.record.workload.num_nodes).unwrap_or(usize::MAX);
    // After a while the cluster removes the pods.
    if (nodes.len() >= count || there.started.is_some()) && nodes.iter().all(|pod| pod.ended) {
        return ("over", None);
    }
    let Some(started) = &there.started else {
        let running = nodes.iter().filter(|pod| pod.started && !pod.ended).count();
        return (if running < count { "waiting" } else { "connecting" }, None);
    };
    let start = &started.start;
    let (from, to) = (start.from_unix_nanos(), start.to_unix_nanos());
    let seconds = |seconds: u64| seconds.saturating_mul(1_000_000_000);
    match to {
        _ if now < start.start_unix_nanos => ("starting", Some(start.start_unix_nanos)),
        _ if now < from => ("warm-up", Some(from)),
        Some(to) if now < to => ("measuring", Some(to)),
        to => {
            let over = start.start_unix_nanos.saturating_add(seconds(there.record.longest_seconds));
            if now < over {
                (if to.is_some() { "draining" } else { "trials" }, Some(over))
            } else {
                ("collectable", Some(over.saturating_add(seconds(there.record.retain_seconds))))
            }
        }
    }
}

fn described(phase: &str) -> &str {
    match phase {
        "waiting" => "waiting for its pods",
        "connecting" => "waiting until its nodes are connected",
        "trials" => "in its trials",
        "collectable" => "ended, and can be collected",
        "over" => "ended: its nodes have ended",
        phase => phase,
    }
}

fn empty_table() -> Table {
    let mut table = Table::new();
    // Long reasons are wrapped, so that a row fits the usual terminals.
    table.set_content_arrangement(ContentArrangement::Dynamic).set_width(WIDTH);
    table.load_style(UTF8_HORIZONTAL_ONLY.row_separator(LineStyle::none()));
    table
}

fn table(pods: &[PodState]) -> Table {
    let mut table = empty_table();
    table.set_header(["", "pod", "phase", "ready", "restarts", "machine", "reason"]);
    for pod in pods {
        table.add_row([
            pod.label.clone(),
            pod.pod.clone(),
            pod.phase.clone(),
            if pod.ready { "yes" } else { "no" }.into(),
            pod.restarts.to_string(),
            pod.machine.clone().unwrap_or_else(|| "-".into()),
            pod.reason.clone().unwrap_or_default(),
        ]);
    }
    table
}
