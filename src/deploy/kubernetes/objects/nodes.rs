//! The nodes: an Indexed Job, and the Service that gives each of them a name.

use std::collections::BTreeMap;

use k8s_openapi::{
    ByteString,
    api::{
        batch::v1::{Job, JobSpec},
        core::v1::{
            Affinity, Capabilities, ConfigMapEnvSource, Container, EnvFromSource, EnvVar, EnvVarSource,
            ObjectFieldSelector, PodAffinityTerm, PodAntiAffinity, PodDNSConfig, PodDNSConfigOption, PodSpec,
            ResourceRequirements, Secret, SecretKeySelector, SecurityContext, TopologySpreadConstraint,
        },
    },
    apimachinery::pkg::apis::meta::v1::LabelSelector,
};
use serde::ser::Error;

use super::{
    parts::{Objects, Port, config_map, metadata, service},
    pod::{container, no_rights, pod_spec, ready_at, resources, template},
};
use crate::{
    access::TOKEN_VARIABLE,
    deploy::kubernetes::{
        names::{
            Component, INDEX_ANNOTATION, JOB, NODE_CONTAINER, NODES_CONFIG_MAP, NODES_SERVICE, SHAPE_CONTAINER,
            TOKEN_KEY, TOKEN_SECRET, selector,
        },
        plan::ClusterPlan,
    },
    shaping::InterfacePlan,
};

/// User of the nodes: nobody.
const NOBODY: i64 = 65_534;

/// Label of machines that keeps the nodes on different machines.
const HOST: &str = "kubernetes.io/hostname";

/// Label of a Job that a queue of Kueue admits: https://kueue.sigs.k8s.io/docs/tasks/run/jobs/
const QUEUE_LABEL: &str = "kueue.x-k8s.io/queue-name";

/// Name of the port of the HTTP endpoint.
const METRICS: &str = "metrics";

/// Variables that differ from node to node.
const ID: &str = "APOLLO_ID";
const P2P_ADDRESS: &str = "APOLLO_P2P_ADDRESS";

/// Field of a pod with its address.
const POD_IP: &str = "status.podIP";

/// Maximum time that a kubelet waits for an answer, in addition to the configured latency, in seconds.
const PROBE_SECONDS: i32 = 5;

pub(super) fn add(plan: &ClusterPlan, objects: &mut Objects) -> Result<(), serde_json::Error> {
    let ports = ports(plan);
    objects.add(&config_map(plan, NODES_CONFIG_MAP, Component::Node, environment(plan)?))?;
    let token = ByteString(plan.derived_secret(TOKEN_SECRET).into_bytes());
    objects.add(&Secret {
        metadata: metadata(plan, TOKEN_SECRET, Component::Node),
        data: Some([(TOKEN_KEY.to_owned(), token)].into()),
        type_: Some("Opaque".into()),
        ..Secret::default()
    })?;
    objects.add(&service(plan, NODES_SERVICE, Component::Node, true, &ports))?;
    objects.add(&job(plan, &ports))
}

fn ports(plan: &ClusterPlan) -> [Port; 3] {
    let p2p = if plan.node.is_quic() { "UDP" } else { "TCP" };
    [
        Port::tcp(METRICS, plan.record.metric_port),
        Port { name: "p2p", number: plan.record.p2p_port, protocol: p2p },
        Port { name: "probe", number: plan.record.probe_port, protocol: "UDP" },
    ]
}

/// Configuration that all nodes share, as variables; each pod adds its id and address. The list of peers is long: in
/// the pods it would be stored N times.
fn environment(plan: &ClusterPlan) -> Result<BTreeMap<String, String>, serde_json::Error> {
    let (config, peers) = plan.node.to_variables().map_err(serde_json::Error::custom)?;
    Ok(BTreeMap::from([("APOLLO_BOOTSTRAP".into(), peers), ("APOLLO_CONFIG_TEXT".into(), config)]))
}

fn job(plan: &ClusterPlan, ports: &[Port]) -> Job {
    let count = i32::try_from(plan.record.workload.num_nodes).ok();
    let spec = JobSpec {
        active_deadline_seconds: i64::try_from(plan.record.deadline_seconds).ok(),
        // A restarted node would have lost its counts and its start, so the run would be spoilt. The other nodes stay,
        // and can be collected.
        backoff_limit_per_index: Some(0),
        completion_mode: Some("Indexed".into()),
        completions: count,
        parallelism: count,
        // Kueue admits the Job by ending its suspension.
        suspend: plan.pods.queue.is_some().then_some(true),
        template: template(plan, Component::Node, pod(plan, ports)),
        ttl_seconds_after_finished: i32::try_from(plan.record.retain_seconds).ok(),
        ..JobSpec::default()
    };
    let mut metadata = metadata(plan, JOB, Component::Node);
    let queue = plan.pods.queue.iter().map(|queue| (QUEUE_LABEL.to_owned(), queue.clone()));
    metadata.labels.get_or_insert_default().extend(queue);
    Job { metadata, spec: Some(spec), ..Job::default() }
}

fn pod(plan: &ClusterPlan, ports: &[Port]) -> PodSpec {
    let pods = &plan.pods;
    let spread = TopologySpreadConstraint {
        max_skew: 1,
        topology_key: HOST.into(),
        when_unsatisfiable: "ScheduleAnyway".into(),
        label_selector: Some(own_kind(plan)),
        ..TopologySpreadConstraint::default()
    };
    let option = PodDNSConfigOption { name: Some("ndots".into()), value: Some("1".into()) };
    PodSpec {
        affinity: (!pods.allow_colocation).then(|| apart(plan)),
        // Peers have full names: with the usual five dots, each name might be looked up in every domain first.
        dns_config: Some(PodDNSConfig { options: Some(vec![option]), ..PodDNSConfig::default() }),
        init_containers: plan.is_shaped().then(|| vec![shape(plan)]),
        node_selector: (!pods.node_pool_role.is_empty())
            .then(|| BTreeMap::from([(pods.node_pool_label.clone(), pods.node_pool_role.clone())])),
        restart_policy: Some("Never".into()),
        subdomain: Some(NODES_SERVICE.into()),
        topology_spread_constraints: Some(vec![spread]),
        ..pod_spec(plan, NOBODY, vec![node(plan, ports)])
    }
}

/// Keeps each node on a machine of its own, because nodes on one machine would share its processors and its network
/// interface.
fn apart(plan: &ClusterPlan) -> Affinity {
    let term = PodAffinityTerm {
        label_selector: Some(own_kind(plan)),
        topology_key: HOST.into(),
        ..PodAffinityTerm::default()
    };
    let anti = PodAntiAffinity {
        required_during_scheduling_ignored_during_execution: Some(vec![term]),
        ..PodAntiAffinity::default()
    };
    Affinity { pod_anti_affinity: Some(anti), ..Affinity::default() }
}

fn own_kind(plan: &ClusterPlan) -> LabelSelector {
    LabelSelector { match_labels: Some(selector(&plan.record.name, Component::Node)), ..LabelSelector::default() }
}

fn node_resources(plan: &ClusterPlan) -> ResourceRequirements {
    let pods = &plan.pods;
    let texts =
        [&pods.cpu_requests, &pods.memory_requests, &pods.cpu_limits, &pods.memory_limits].map(ToString::to_string);
    resources([&texts[0], &texts[1]], [&texts[2], &texts[3]])
}

fn from_field(name: &str, path: String) -> EnvVar {
    let field = ObjectFieldSelector { field_path: path, ..ObjectFieldSelector::default() };
    let source = EnvVarSource { field_ref: Some(field), ..EnvVarSource::default() };
    EnvVar { name: name.into(), value_from: Some(source), ..EnvVar::default() }
}

fn token() -> EnvVar {
    let key = SecretKeySelector { name: TOKEN_SECRET.into(), key: TOKEN_KEY.into(), ..SecretKeySelector::default() };
    let source = EnvVarSource { secret_key_ref: Some(key), ..EnvVarSource::default() };
    EnvVar { name: TOKEN_VARIABLE.into(), value_from: Some(source), ..EnvVar::default() }
}

fn node(plan: &ClusterPlan, ports: &[Port]) -> Container {
    // A request meets the latency twice: at the accepted connection, and at the answer.
    let latency = (plan.shape().latency_millis + plan.shape().jitter_millis) / 1000.0;
    let patience = PROBE_SECONDS.saturating_add((2.0 * latency).ceil() as i32);
    Container {
        args: Some(vec!["node".into()]),
        command: Some(vec!["apollo-bench".into()]),
        env: Some(vec![
            from_field(ID, format!("metadata.annotations['{INDEX_ANNOTATION}']")),
            // A program that measures the links gets the addresses from the nodes: their names are unknown outside of
            // the cluster.
            from_field(P2P_ADDRESS, POD_IP.into()),
            token(),
        ]),
        env_from: Some(vec![EnvFromSource {
            config_map_ref: Some(ConfigMapEnvSource { name: NODES_CONFIG_MAP.into(), ..ConfigMapEnvSource::default() }),
            ..EnvFromSource::default()
        }]),
        // Shows the connected nodes. Nothing depends on readiness: names are published before it. A node that does not
        // answer is a finding and must not be restarted, so there is no liveness probe.
        readiness_probe: Some(ready_at("/readyz", METRICS, patience)),
        ..container(NODE_CONTAINER, plan.image.image(), node_resources(plan), ports)
    }
}

/// Shapes the network that the pod's containers share, and ends before the node starts.
fn shape(plan: &ClusterPlan) -> Container {
    let InterfacePlan { egress, ingress, .. } = InterfacePlan::symmetric(*plan.shape());
    // The network plugin decides the name of the interface, so the pod's address identifies it.
    let mut args = vec!["shape".to_owned(), "--address=$(POD_IP)".to_owned(), format!("--egress={egress}")];
    if !ingress.is_unshaped() {
        args.push(format!("--ingress={ingress}"));
    }
    let may = SecurityContext {
        capabilities: Some(Capabilities { add: Some(vec!["NET_ADMIN".into()]), drop: Some(vec!["ALL".into()]) }),
        run_as_non_root: Some(false),
        run_as_user: Some(0),
        run_as_group: Some(0),
        ..no_rights()
    };
    Container {
        args: Some(args),
        command: Some(vec!["apollo-bench".into()]),
        env: Some(vec![from_field("POD_IP", POD_IP.into())]),
        security_context: Some(may),
        // The same resources as the node, which are not counted twice: so the container is in the pod's own class of
        // quality.
        ..container(SHAPE_CONTAINER, plan.image.image(), node_resources(plan), &[])
    }
}
