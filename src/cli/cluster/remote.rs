//! A run in a cluster, as a run over existing nodes.

use std::time::Duration;

use crate::{
    deploy::kubernetes::RunRecord,
    experiment::{DEFAULT_QUIET, LinkProbe, Timing},
    monitoring::ObserveArgs,
    remote::RemoteRun,
    report::{MESSAGE_PERCENT, Tolerance},
};

/// A node that is silent for so long is taken for hung: the way to it leads through the API server.
const HANG: Duration = Duration::from_secs(30);

/// How the run goes, by what the cluster keeps of it.
pub(super) fn remote_run(record: &RunRecord) -> RemoteRun {
    RemoteRun {
        window_seconds: record.window_seconds,
        timing: Timing {
            warm_up: Duration::from_secs(record.warm_up_seconds),
            drain: Duration::from_secs(record.drain_seconds),
            drain_quiet: Duration::from_secs(DEFAULT_QUIET),
            ready: Duration::from_secs(record.ready_timeout_seconds),
            hang: HANG,
        },
        shape: record.shape,
        links_file: None,
        link_probe: LinkProbe {
            seconds: 3,
            tolerance: Tolerance {
                latency_percent: 2.0,
                latency_millis: 1.0,
                throughput_percent: 5.0,
                message_percent: MESSAGE_PERCENT,
            },
        },
        live_port: None,
        keep_open: false,
        observe: ObserveArgs { observe: false, prometheus_port: 0, grafana_port: 0 },
    }
}
