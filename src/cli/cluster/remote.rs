//! A run in a cluster, as a run over existing nodes.

use crate::{deploy::kubernetes::RunRecord, monitoring::ObserveArgs, remote::RemoteRun};

/// Time without an answer after which a node counts as hung, in seconds: requests go through the API server.
const HANG: u64 = 30;

/// Parameters of a run, from its record in the cluster.
pub(super) fn remote_run(record: &RunRecord) -> RemoteRun {
    let mut measurement = record.scenario.measurement.clone();
    measurement.hang_timeout_seconds = measurement.hang_timeout_seconds.max(HANG);
    RemoteRun {
        measurement,
        links: record.scenario.links.clone(),
        groups: record.scenario.groups.clone(),
        expected: None,
        live_port: None,
        keep_open: false,
        observe: ObserveArgs { observe: false, prometheus_port: 0, grafana_port: 0 },
    }
}
