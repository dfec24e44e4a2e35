//! Plan of a run, checked as a whole before anything starts.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use serde_json::{Map, Value};

use super::profile::Profiler;
use crate::{
    access::RunToken,
    monitoring::Monitoring,
    node::{Load, NodeConfig, Workload},
    report::{MESSAGE_PERCENT, RunFolder, Tolerance, WorkloadSummary},
    scenario::{Certificate, FaultSchedule, LinkPlan, Measurement, NodeGroups, Scenario, Shape, ShapePatch},
    shaping::{InterfacePlan, PeerRule},
};

/// Maximum times of the stages of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Timing {
    /// Traffic before the measured window that is not counted; mode explore has none.
    pub(crate) warm_up: Duration,
    /// Maximum time to wait for late messages after the window.
    pub(crate) drain: Duration,
    /// Time without any arrival and without pending work after which this wait ends early.
    pub(crate) drain_quiet: Duration,
    /// Maximum time until all nodes are ready.
    pub(crate) ready: Duration,
    /// Time without an answer after which a node fails the run.
    pub(crate) hang: Duration,
}

impl Timing {
    /// Times of a scenario.
    pub(crate) fn of(measurement: &Measurement) -> Self {
        Self {
            warm_up: Duration::from_secs(measurement.warm_up_seconds),
            drain: Duration::from_secs(measurement.drain_seconds),
            drain_quiet: Duration::from_secs(measurement.drain_quiet_seconds),
            ready: Duration::from_secs(measurement.ready_timeout_seconds),
            hang: Duration::from_secs(measurement.hang_timeout_seconds),
        }
    }
}

/// Measurement of the links, and the permitted differences from their shapes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct LinkProbe {
    /// Seconds for which pings measure each link, before the window and after it.
    pub(crate) seconds: u64,
    pub(crate) tolerance: Tolerance,
}

impl LinkProbe {
    /// Measurement that a scenario requests.
    pub(crate) fn of(certificate: &Certificate) -> Self {
        let tolerance = Tolerance {
            latency_percent: certificate.latency_tolerance_percent,
            latency_millis: certificate.latency_tolerance_millis,
            throughput_percent: certificate.throughput_tolerance_percent,
            message_percent: MESSAGE_PERCENT,
        };
        Self { seconds: certificate.probe_seconds, tolerance }
    }
}

/// Facts in the manifest besides the plan.
pub(crate) struct ManifestFacts {
    /// Kind of the deployment.
    pub(crate) backend: String,
    /// Image of the containers.
    pub(crate) image: Option<Value>,
    /// Arguments of the user.
    pub(crate) arguments: Value,
    /// Facts about remote nodes.
    pub(crate) remote: Option<RemoteFacts>,
}

/// Facts about remote nodes in the manifest.
pub(crate) struct RemoteFacts {
    /// Their configurations, as they reported them.
    pub(crate) configurations: Vec<Value>,
    /// More fields of the manifest.
    pub(crate) more: Map<String, Value>,
}

/// A run that can start.
pub(crate) struct Plan {
    /// Number of nodes of the network.
    pub(crate) num_nodes: u64,
    /// Existing nodes, by id: all nodes, except those that a started run has lost.
    pub(crate) nodes: Vec<NodeConfig>,
    /// The resolved scenario, which is sufficient to repeat the run.
    pub(crate) scenario: Scenario,
    pub(crate) workload: Workload,
    /// The workload in a few words.
    pub(crate) summary: WorkloadSummary,
    /// Measured window; none in explore mode, in which it is the maximum time for all trials, if one is given.
    pub(crate) window: Option<Duration>,
    pub(crate) timing: Timing,
    pub(crate) folder: RunFolder,
    /// Shapes of the links.
    pub(crate) links: LinkPlan,
    /// Measurement of the links.
    pub(crate) link_probe: LinkProbe,
    /// Faults during the measurement.
    pub(crate) faults: FaultSchedule,
    /// Addresses of each node in the p2p network; empty if links can't be shaped.
    pub(crate) addresses: Vec<[IpAddr; 2]>,
    /// Congestion control of the nodes' TCP connections; the kernel's by default.
    pub(crate) congestion_control: Option<String>,
    /// HTTP endpoint of each node: host and port.
    pub(crate) endpoints: BTreeMap<u64, String>,
    /// Address at which each node answers measurements of its links.
    pub(crate) probe_targets: BTreeMap<u64, SocketAddr>,
    /// For each node, the lowest node with the same clock; none if all nodes share one.
    pub(crate) clock_of: Option<BTreeMap<u64, u64>>,
    /// Profiler of the nodes, if they are profiled.
    pub(crate) profiler: Option<Profiler>,
    /// Prometheus and Grafana beside the run.
    pub(crate) monitoring: Option<Monitoring>,
    /// Port of the live page, if there is one; 0 for a free one.
    pub(crate) live_port: Option<u16>,
    /// True if the live page and the monitoring stay up after the run, until Ctrl-C.
    pub(crate) keep_open: bool,
    /// Secret that the nodes require for orders; none for remote nodes if the user has given none.
    pub(crate) token: Option<RunToken>,
    pub(crate) manifest: ManifestFacts,
}

impl Plan {
    /// Plan of a resolved scenario with its workload and links over these nodes. No node has an address, an endpoint or a
    /// clock of its own; nothing is observed, and no fault happens.
    pub(crate) fn new(
        scenario: Scenario,
        workload: Workload,
        links: LinkPlan,
        nodes: Vec<NodeConfig>,
        folder: RunFolder,
        manifest: ManifestFacts,
    ) -> Self {
        Self {
            num_nodes: scenario.nodes.count,
            nodes,
            summary: workload_summary(&scenario, &workload),
            workload,
            window: scenario.measurement.window_seconds.map(Duration::from_secs),
            timing: Timing::of(&scenario.measurement),
            folder,
            links,
            link_probe: LinkProbe::of(&scenario.links.certificate),
            faults: FaultSchedule::default(),
            addresses: vec![],
            congestion_control: None,
            endpoints: BTreeMap::new(),
            probe_targets: BTreeMap::new(),
            clock_of: None,
            profiler: None,
            monitoring: None,
            live_port: None,
            keep_open: false,
            token: None,
            manifest,
            scenario,
        }
    }

    /// True if two nodes have the same clock.
    pub(crate) fn share_a_clock(&self, one: u64, other: u64) -> bool {
        self.clock_of.as_ref().is_none_or(|clock_of| {
            let of = |node| clock_of.get(&node);
            of(one).is_some() && of(one) == of(other)
        })
    }

    /// True if the run is one of trials.
    pub(crate) fn is_explore(&self) -> bool {
        matches!(self.workload.load, Load::Explore { .. })
    }

    /// Plan of each node's interface.
    pub(crate) fn interfaces(&self) -> Vec<InterfacePlan> {
        (0..self.num_nodes).map(|id| self.interface(&self.links, None, id)).collect()
    }

    /// Plan of a node's interface that gives the links their shapes, and cuts the node off from groups that it does not
    /// belong to.
    pub(crate) fn interface(&self, links: &LinkPlan, groups: Option<&NodeGroups>, id: u64) -> InterfacePlan {
        let rate = Shape { throughput_kilobytes_per_second: links.download(id), ..Shape::default() };
        let egress = Shape { throughput_kilobytes_per_second: links.upload(id), ..links.default };
        let degradations: Vec<&ShapePatch> = self.faults.degradations().collect();
        let mut plan = InterfacePlan {
            egress,
            ingress: rate,
            congestion_control: self.congestion_control.clone(),
            blockable: self.faults.cuts(),
            adjustable_delay: degradations.iter().any(|patch| patch.needs_netem()),
            adjustable_rate: degradations.iter().any(|patch| patch.throughput_kilobytes_per_second.is_some()),
            ..InterfacePlan::default()
        };
        let others = || (0..).zip(&self.addresses).filter(|(other, _)| *other != id);
        let apart =
            |other: &u64| groups.is_some_and(|groups| !groups.iter().any(|g| g.contains(&id) && g.contains(other)));
        plan.blocked = others().filter(|(other, _)| apart(other)).flat_map(|(_, addresses)| *addresses).collect();
        if links.differs_by_link() || !degradations.is_empty() {
            plan.peers = others()
                .map(|(other, addresses)| PeerRule { addresses: addresses.to_vec(), shape: links.link(id, other) })
                .collect();
        }
        plan
    }
}

/// A workload in a few words.
pub(crate) fn workload_summary(scenario: &Scenario, workload: &Workload) -> WorkloadSummary {
    let (message_size_bytes, heartbeat_millis) = workload.single_pace();
    WorkloadSummary {
        scenario: (scenario.name != Scenario::default().name).then(|| scenario.name.clone()),
        num_nodes: scenario.nodes.count,
        mode: scenario.mode().to_string(),
        network_protocol: scenario.protocols(),
        transport: scenario.network.transport.to_string(),
        message_size_bytes,
        heartbeat_millis,
    }
}
