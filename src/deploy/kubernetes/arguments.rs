//! Flags of the objects: their images and their pods.

use clap::Args;
use serde::Serialize;

use super::{image::PinnedImage, quantity::Quantity, toleration::Toleration};
use crate::image::ImageStream;

/// Default value of the label of the nodes' machines.
pub(crate) const NODE_POOL_ROLE: &str = "apollo-network-benchmark";

/// Images of the pods.
#[derive(Clone, Debug, Args, Serialize)]
#[command(next_help_heading = "Images")]
pub(crate) struct ImagesArgs {
    /// Image of the nodes, which must contain apollo-bench; with a tag that never changes, or a digest
    #[arg(long, value_name = "NAME")]
    pub(crate) image: Option<PinnedImage>,
    /// Registry, or folder in one, for an image of this machine's own programs; used if no --image is given
    #[arg(long, value_name = "REGISTRY", conflicts_with = "image")]
    pub(crate) registry: Option<String>,
    /// Build the image of this machine's own programs, without compiling anything
    #[arg(long, conflicts_with = "image")]
    pub(crate) fast_docker: bool,
    /// Program that writes an image for `docker load`, and the image's name; `nix run` passes the flake's image in this
    /// way
    #[arg(long, env = "APOLLO_BENCH_IMAGE_STREAM", value_name = "NAME=PROGRAM", hide = true)]
    #[serde(skip)]
    pub(crate) image_stream: Option<ImageStream>,
    /// Image of Prometheus
    #[arg(long, value_name = "NAME", default_value = "docker.io/prom/prometheus:v3.5.0")]
    pub(crate) prometheus_image: PinnedImage,
    /// Image of Grafana
    #[arg(long, value_name = "NAME", default_value = "docker.io/grafana/grafana:12.4.2")]
    pub(crate) grafana_image: PinnedImage,
}

/// Machines and resources of the pods.
#[derive(Clone, Debug, Args, Serialize)]
#[command(next_help_heading = "Pods")]
pub(crate) struct PodsArgs {
    /// Label of the machines for the nodes; see --node-pool-role
    #[arg(long, value_name = "KEY", default_value = "role")]
    pub(crate) node_pool_label: String,
    /// Value of the label --node-pool-label; '' permits any machine
    #[arg(long, value_name = "VALUE", default_value = NODE_POOL_ROLE)]
    pub(crate) node_pool_role: String,
    /// Taint of machines that pods may still use; may be given several times
    #[arg(id = "toleration", long = "toleration", value_name = "KEY[=VALUE][:EFFECT]")]
    pub(crate) tolerations: Vec<Toleration>,
    /// Secret with the credentials of a registry, which must exist in the namespace; may be given several times
    #[arg(id = "image_pull_secret", long = "image-pull-secret", value_name = "NAME")]
    pub(crate) image_pull_secrets: Vec<String>,
    /// Queue of Kueue (LocalQueue) that admits the nodes; they wait for it
    #[arg(long, value_name = "NAME")]
    pub(crate) queue: Option<String>,
    /// Permit the cluster to move pods to other machines during the run, to save machines
    #[arg(long)]
    pub(crate) safe_to_evict: bool,
    /// Permit several nodes on one machine
    #[arg(long, alias = "share-hosts")]
    pub(crate) allow_colocation: bool,
    /// Processors that are reserved for each node
    #[arg(long, value_name = "CPU", default_value = "7500m")]
    pub(crate) cpu_requests: Quantity,
    /// Memory that is reserved for each node
    #[arg(long, value_name = "SIZE", default_value = "10Gi")]
    pub(crate) memory_requests: Quantity,
    /// Maximum number of processors of each node
    #[arg(long, value_name = "CPU", default_value = "7500m")]
    pub(crate) cpu_limits: Quantity,
    /// Maximum memory of each node
    #[arg(long, value_name = "SIZE", default_value = "10Gi")]
    pub(crate) memory_limits: Quantity,
    /// Storage class of the volumes of Prometheus and Grafana [default: the cluster's own]
    #[arg(long, value_name = "NAME")]
    pub(crate) storage_class: Option<String>,
    /// Domain of the cluster in DNS
    #[arg(long, value_name = "DOMAIN", default_value = "cluster.local")]
    pub(crate) cluster_domain: String,
}
