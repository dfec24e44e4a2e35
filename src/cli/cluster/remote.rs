//! A run in a cluster, as a run over nodes that run elsewhere.

use super::record::RunRecord;
use crate::{
    lab::{DEFAULT_QUIET, LinkArgs, ObserveArgs, SeeingArgs, remote::RunArgs},
    shaping::ShapeFlags,
};

/// A node that is silent for so long is taken for hung, in seconds: the way to it leads through the API server.
const HANG_SECONDS: u64 = 30;

/// How the run goes, by what the cluster keeps of it.
pub(super) fn run_args(record: &RunRecord) -> RunArgs {
    let shape = &record.shape;
    let positive = |value: f64| (value > 0.0).then_some(value);
    RunArgs {
        timeout: record.window_seconds,
        warm_up_seconds: record.warm_up_seconds,
        drain_seconds: record.drain_seconds,
        drain_quiet_seconds: DEFAULT_QUIET,
        ready_timeout_seconds: record.ready_timeout_seconds,
        hang_timeout_seconds: HANG_SECONDS,
        shape: ShapeFlags {
            latency: positive(shape.latency_millis),
            jitter: positive(shape.jitter_millis),
            loss: positive(shape.loss_percent),
            duplicate: positive(shape.duplicate_percent),
            reorder: positive(shape.reorder_percent),
            throughput: shape.throughput_kilobytes_per_second,
        },
        links: LinkArgs {
            file: None,
            certificate_seconds: 3,
            tolerance_percent: 2.0,
            tolerance_millis: 1.0,
            throughput_tolerance_percent: 5.0,
        },
        seeing: SeeingArgs { live: false, live_port: 0, keep_open: false },
        observe: ObserveArgs { observe: false, prometheus_port: 0, grafana_port: 0 },
    }
}
