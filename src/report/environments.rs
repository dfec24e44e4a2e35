//! Machines of a run, as far as they decide its numbers.

use std::borrow::Cow;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::links::Certificate;
use crate::{environment::Environment, node::NodeSummary};

/// A machine, and the nodes that report it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct MachineRow {
    /// Node ids.
    pub nodes: Vec<u64>,
    /// Environment that they report.
    #[serde(flatten)]
    pub environment: Environment,
}

/// Machines that the nodes report; equal machines are merged into one row.
pub(super) fn machines(nodes: &[Cow<'_, NodeSummary>]) -> Vec<MachineRow> {
    let mut machines: Vec<MachineRow> = vec![];
    for node in nodes {
        let Some(environment) = &node.environment else { continue };
        match machines.iter_mut().find(|machine| machine.environment == *environment) {
            Some(machine) => machine.nodes.push(node.node),
            None => machines.push(MachineRow { nodes: vec![node.node], environment: environment.clone() }),
        }
    }
    machines
}

/// The machines in one line: the first one, and the number of the others; with the buckets of the links.
pub(super) fn machine_line(machines: &[MachineRow], certificate: &Certificate) -> Option<String> {
    let MachineRow { environment, .. } = machines.first()?;
    let processor = environment.processor.as_deref().unwrap_or("unknown processor");
    let mut parts = vec![format!("{} x {processor}", environment.processors)];
    parts.extend(environment.kernel.as_ref().map(|kernel| format!("Linux {kernel}")));
    parts.extend(environment.congestion_control.clone());
    parts.extend(environment.governor.as_ref().map(|governor| format!("governor {governor}")));
    parts.extend(environment.cgroup_processors.map(|limit| format!("at most {limit:.2} processors")));
    let bursts = || certificate.links.iter().filter_map(|link| link.burst_bytes);
    if let (Some(low), Some(high)) = (bursts().min(), bursts().max()) {
        parts.push(if low == high { format!("htb burst {low} B") } else { format!("htb burst {low} to {high} B") });
    }
    if machines.len() > 1 {
        parts.push(format!("and {} more kinds of machine", machines.len() - 1));
    }
    Some(parts.join(", "))
}
