//! Plan of a run in a cluster, made of its arguments.

use sha2::{Digest, Sha256};

use super::arguments::DeploymentArgs;
use crate::{
    cli::error::CliError,
    clock::timestamp,
    dashboards::json,
    deploy::kubernetes::{
        ClusterPlan, ImageSource, ImagesArgs, PinnedImage, PodsArgs, Quantity, RUN_SCHEMA_VERSION, RunRecord,
        names::{LONGEST_NAME, is_dns_label, is_dns_name, is_label_key, is_label_value, namespace_of, node_host},
    },
    experiment::workload_summary,
    image::name_of_host_image,
    network::{PeerAddress, peer_id},
    node::{Load, NodeConfig, UsageError, Workload},
    scenario::{LinkPlan, Scenario, ScenarioError, Transport},
    secret::secret,
};

/// Default maximum time to wait until all nodes exist and are connected, in seconds.
const READY_TIMEOUT: u64 = 600;

/// UDP port at which a node answers measurements of its links.
const PROBE_PORT: u16 = 9999;

/// Maximum size of an environment variable in Linux, in bytes, with its name and its end.
const LONGEST_VARIABLE: usize = 128 << 10;

/// Maximum number of nodes of a run with measured links. The measurements of all links are stored in a ConfigMap, which
/// contains at most 1 MiB.
const MOST_SHAPED: u64 = 150;

/// Maximum lifetime of a node, in seconds.
const LONGEST_LIFE: u64 = 31_622_400;

/// Additional time for orders to reach the nodes, in seconds.
const SLACK: u64 = 120;

/// Maximum size of a node's log, in MiB. The kubelet starts a new file at 10 MiB of lines, with some 45 bytes more
/// each, and provides only the newest file: up to this size a log is complete.
const LOG_LIMIT_MIB: u64 = 6;

/// Minimum memory of a node, in bytes: far below the need of any workload, far above a forgotten suffix.
const LEAST_MEMORY: u128 = 64 << 20;

/// Permitted processors of a node: a forgotten `m` would request thousands.
const PROCESSORS: std::ops::RangeInclusive<u128> = 10..=1_024_000;

/// Checks the arguments. If needed, finds the name of this machine's image, without building it.
///
/// # Errors
/// One line that names the argument and the way out.
pub(super) fn cluster_plan(args: &DeploymentArgs) -> Result<ClusterPlan, CliError> {
    let mut args = args.clone();
    // Machines may have to be created, and images downloaded.
    args.scenario.measurement.ready_timeout_seconds.get_or_insert(READY_TIMEOUT);
    let mut scenario = args.scenario.resolve()?;
    let name = args.name.clone().unwrap_or_else(|| timestamp().strftime("%Y%m%d-%H%M%S").to_string());
    let namespace = args.connect.namespace.clone().unwrap_or_else(|| namespace_of(&name));
    check_names(&name, &namespace)?;
    check_pods(&args.pods)?;
    check_ports(args.metric_port, args.p2p_port)?;
    check_links(&scenario)?;
    let secret = match &args.grafana_secret {
        Some(text) if text.is_empty() => {
            return Err(CliError::Usage(
                "--grafana-secret is empty: give a text, or leave it out for a random one".into(),
            ));
        }
        Some(text) => text.clone(),
        None => {
            secret().map_err(|error| CliError::Usage(format!("no random numbers for --grafana-secret: {error}")))?
        }
    };
    let processors = u16::try_from(args.pods.cpu_limits.thousandths() / 1000).unwrap_or(1024).clamp(1, 1024);
    scenario.nodes.worker_threads.get_or_insert(processors);
    let workload = Workload::of(&scenario)?;
    let ready = scenario.measurement.ready_timeout_seconds;
    let longest = workload.longest_seconds(&scenario);
    let life = ready + longest.saturating_add(args.retain_seconds + SLACK);
    if life > LONGEST_LIFE {
        return Err(CliError::Usage(format!(
            "the nodes would live for {life} s, and can for {LONGEST_LIFE}: shorten --timeout, the trials or \
             --retain-seconds"
        )));
    }
    let run_id = run_id(&name, &namespace);
    let node = node(&args, &scenario, &namespace, run_id, life)?;
    node.validate()?;
    // Last, because it takes a while.
    let image = image(&args.images)?;
    let trials = match &workload.load {
        Load::Explore { trials, .. } => trials.len(),
        Load::Steady { .. } => 0,
    };
    args.name = Some(name.clone());
    let record = RunRecord {
        schema_version: RUN_SCHEMA_VERSION,
        version: env!("CARGO_PKG_VERSION").into(),
        name,
        namespace,
        run_id,
        workload: workload_summary(&scenario, &workload),
        image: image.image().name().into(),
        metric_port: args.metric_port,
        p2p_port: args.p2p_port,
        probe_port: PROBE_PORT,
        trials,
        longest_seconds: longest,
        retain_seconds: args.retain_seconds,
        // A pod may start at the end of that wait, and lives for its own time from then on.
        monitoring: !args.no_monitoring,
        deadline_seconds: ready + life + SLACK,
        scenario,
    };
    Ok(ClusterPlan { arguments: json(&args), images: args.images, pods: args.pods, record, image, node, secret })
}

/// Number of a run, the same for all its nodes and different from other runs; never 0, which accepts messages of all
/// runs. It has 53 bits, which every reader of JSON can represent.
fn run_id(name: &str, namespace: &str) -> u64 {
    let digest = Sha256::digest(format!("{namespace}/{name}"));
    let number = digest.iter().take(8).fold(0, |number: u64, byte| number << 8 | u64::from(*byte));
    (number >> 11).max(1)
}

fn check_names(name: &str, namespace: &str) -> Result<(), UsageError> {
    if !is_dns_label(name) || name.len() > LONGEST_NAME {
        return Err(UsageError(format!(
            "--name {name}: give at most {LONGEST_NAME} small letters, digits and hyphens, no hyphen at either end"
        )));
    }
    if !is_dns_label(namespace) {
        return Err(UsageError(format!(
            "--namespace {namespace}: give at most 63 small letters, digits and hyphens, no hyphen at either end"
        )));
    }
    if namespace == "default" || namespace.starts_with("kube-") {
        return Err(UsageError(format!(
            "--namespace {namespace}: a run has a namespace of its own, which goes with it: give a new name, or none"
        )));
    }
    Ok(())
}

fn check_ports(metric_port: u16, p2p_port: u16) -> Result<(), UsageError> {
    if metric_port == p2p_port {
        return Err(UsageError(format!("--metric-port and --p2p-port are both {p2p_port}")));
    }
    for (flag, port) in [("--metric-port", metric_port), ("--p2p-port", p2p_port)] {
        if port == PROBE_PORT {
            return Err(UsageError(format!("{flag} {port} is where links are measured: choose another")));
        }
    }
    Ok(())
}

fn check_pods(pods: &PodsArgs) -> Result<(), UsageError> {
    if !is_label_key(&pods.node_pool_label) {
        return Err(UsageError(format!(
            "--node-pool-label {}: no key of a label, such as role or cloud.google.com/gke-nodepool",
            pods.node_pool_label
        )));
    }
    if !is_label_value(&pods.node_pool_role) {
        return Err(UsageError(format!("--node-pool-role {}: no value of a label", pods.node_pool_role)));
    }
    if let Some(class) = pods.storage_class.as_deref().filter(|class| !is_dns_name(class)) {
        return Err(UsageError(format!(
            "--storage-class {class}: no name of a storage class (kubectl get storageclass)"
        )));
    }
    for (flag, name, kind) in pods
        .image_pull_secrets
        .iter()
        .map(|name| ("--image-pull-secret", name, "Secret"))
        .chain(pods.queue.iter().map(|name| ("--queue", name, "LocalQueue")))
    {
        // A queue is the value of a label too.
        if !is_dns_name(name) || (flag == "--queue" && !is_label_value(name)) {
            return Err(UsageError(format!("{flag} {name}: no name of a {kind}")));
        }
    }
    if !is_dns_name(&pods.cluster_domain) {
        return Err(UsageError(format!("--cluster-domain {}: no domain, such as cluster.local", pods.cluster_domain)));
    }
    for (flag, quantity) in [("--cpu-requests", &pods.cpu_requests), ("--cpu-limits", &pods.cpu_limits)] {
        if !PROCESSORS.contains(&quantity.thousandths()) {
            return Err(UsageError(format!(
                "{flag} {quantity}: give from 10m to 1024 processors, such as 7500m for seven and a half"
            )));
        }
    }
    for (flag, quantity) in [("--memory-requests", &pods.memory_requests), ("--memory-limits", &pods.memory_limits)] {
        if quantity.thousandths() / 1000 < LEAST_MEMORY {
            return Err(UsageError(format!("{flag} {quantity}: give at least 64Mi, such as 10Gi")));
        }
    }
    let more = |requests: &Quantity, limits: &Quantity| requests.thousandths() > limits.thousandths();
    for (flag, requests, limits) in
        [("cpu", &pods.cpu_requests, &pods.cpu_limits), ("memory", &pods.memory_requests, &pods.memory_limits)]
    {
        if more(requests, limits) {
            return Err(UsageError(format!("--{flag}-requests {requests} is more than --{flag}-limits {limits}")));
        }
    }
    Ok(())
}

fn image(images: &ImagesArgs) -> Result<ImageSource, UsageError> {
    match (&images.image, &images.registry) {
        (Some(image), _) => Ok(ImageSource::Given(image.clone())),
        (None, Some(registry)) => {
            // Checked before the files of this machine are read.
            let name = |image: &str| format!("{}/{image}", registry.trim_end_matches('/')).parse();
            let bad = |_| UsageError(format!("--registry {registry}: write it like registry.example:5000/folder"));
            let _: PinnedImage = name("bench:v1").map_err(bad)?;
            if let Some(stream) = images.image_stream.as_ref().filter(|_| !images.fast_docker) {
                return Ok(ImageSource::Stream(name(&stream.name).map_err(bad)?, stream.clone()));
            }
            let own = name_of_host_image().map_err(|error| UsageError(error.to_string()))?;
            Ok(ImageSource::Host(name(&own).map_err(bad)?))
        }
        (None, None) => Err(UsageError(
            "the nodes have no image: give --image NAME:TAG, or --registry REGISTRY for one of this machine's own programs"
                .into(),
        )),
    }
}

/// Addresses of all nodes, which every node receives.
fn peers(args: &DeploymentArgs, scenario: &Scenario, namespace: &str) -> Result<Vec<PeerAddress>, UsageError> {
    let port = args.p2p_port;
    let quic = scenario.network.transport == Transport::Quic;
    let transport = if quic { format!("udp/{port}/quic-v1") } else { format!("tcp/{port}") };
    let address = |id: u64| {
        let host = node_host(id, namespace, &args.pods.cluster_domain);
        format!("/dns/{host}/{transport}/p2p/{}", peer_id(id))
    };
    let mut peers = vec![];
    let mut length = "APOLLO_BOOTSTRAP=".len();
    let num_nodes = scenario.nodes.count;
    for id in 0..num_nodes {
        let address = address(id);
        // With the comma after it, or the end of the text.
        length += address.len() + 1;
        if length > LONGEST_VARIABLE {
            return Err(UsageError(format!(
                "--num-nodes {num_nodes}: the addresses of at most {id} nodes fit what a container can be told; a shorter \
                 --name or --namespace makes room for some more"
            )));
        }
        peers.push(address.parse().map_err(|error| UsageError(format!("{error}")))?);
    }
    Ok(peers)
}

/// All links of a cluster have the same shape, and faults can't act on its pods.
fn check_links(scenario: &Scenario) -> Result<(), CliError> {
    let usage = |error: ScenarioError| CliError::Usage(error.to_string());
    let faults = scenario.fault_schedule().map_err(usage)?;
    if let Some(fault) = faults.faults().first() {
        return Err(CliError::Usage(format!(
            "fault '{fault}' is not possible for nodes in a cluster: use a backend of 'local'"
        )));
    }
    let plan = scenario.link_plan().map_err(usage)?;
    if plan != LinkPlan::uniform(plan.default) {
        return Err(CliError::Usage(
            "a cluster shapes all links alike: leave out --links, and in a scenario the matrix, links and link classes"
                .into(),
        ));
    }
    if let Some(name) = &scenario.links.congestion_control {
        return Err(CliError::Usage(format!(
            "--congestion-control {name}: a pod's routes are not its own: leave it out"
        )));
    }
    if scenario.links.ipv6 {
        return Err(CliError::Usage("--ipv6 needs --backend netns: in other deployments the nodes use IPv4".into()));
    }
    let num_nodes = scenario.nodes.count;
    if !plan.is_unshaped() && num_nodes > MOST_SHAPED {
        return Err(CliError::Usage(format!(
            "--num-nodes {num_nodes}: every link of a shaped run is measured, and the cluster can keep those of at most \
             {MOST_SHAPED} nodes: give fewer, or leave out the flags that set the shapes of the links"
        )));
    }
    Ok(())
}

fn node(
    args: &DeploymentArgs,
    scenario: &Scenario,
    namespace: &str,
    run_id: u64,
    life: u64,
) -> Result<NodeConfig, UsageError> {
    // Each pod has its id and address from its own fields, and the token from a Secret.
    Ok(NodeConfig {
        bootstrap: peers(args, scenario, namespace)?,
        lifetime_seconds: life,
        controlled: true,
        run_id,
        probe_port: Some(PROBE_PORT),
        log_limit_mib: LOG_LIMIT_MIB,
        ..NodeConfig::new(0, args.metric_port, args.p2p_port, scenario.clone())
    })
}
