//! A run in a cluster, checked as a whole before anything is made.

use sha2::{Digest, Sha256};

use super::{
    arguments::{ImagesArgs, PodsArgs},
    image::PinnedImage,
    names::TOKEN_SECRET,
    record::RunRecord,
};
use crate::{access::RunToken, image::ImageStream, node::NodeConfig, scenario::Shape};

/// Source of the nodes' image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ImageSource {
    /// The image is in a registry.
    Given(PinnedImage),
    /// The image is made of this machine's own programs, and has to be pushed under this name.
    Host(PinnedImage),
    /// A program writes the image, and it has to be pushed under this name.
    Stream(PinnedImage, ImageStream),
}

impl ImageSource {
    /// The image itself.
    pub(crate) fn image(&self) -> &PinnedImage {
        match self {
            Self::Given(image) | Self::Host(image) | Self::Stream(image, _) => image,
        }
    }

    /// True if it has to be pushed before the run.
    pub(crate) fn is_to_be_pushed(&self) -> bool {
        !matches!(self, Self::Given(_))
    }
}

/// A run that can be created in a cluster.
#[derive(Clone, Debug)]
pub(crate) struct ClusterPlan {
    /// Arguments with the defaults in effect, as readable JSON.
    pub(crate) arguments: String,
    /// Images of Prometheus and Grafana.
    pub(crate) images: ImagesArgs,
    /// Machines and resources of the pods.
    pub(crate) pods: PodsArgs,
    /// Record of the run in the cluster: its name, namespace and numbers.
    pub(crate) record: RunRecord,
    /// Source of the nodes' image.
    pub(crate) image: ImageSource,
    /// Configuration of node 0; the other nodes differ in their id alone.
    pub(crate) node: NodeConfig,
    /// Text from which Grafana's key and password and the nodes' token are derived.
    pub(crate) secret: String,
}

impl ClusterPlan {
    /// True if the nodes' network is shaped, which takes rights that they do not have otherwise.
    pub(crate) fn is_shaped(&self) -> bool {
        !self.shape().is_unshaped()
    }

    /// Shape of every link.
    pub(crate) fn shape(&self) -> &Shape {
        &self.record.scenario.links.default
    }

    /// Token that the nodes require for orders.
    pub(crate) fn token(&self) -> Result<RunToken, String> {
        RunToken::parse(&self.derived_secret(TOKEN_SECRET))
    }

    /// A text that is derived from the secret of this run and does not reveal it.
    pub(crate) fn derived_secret(&self, purpose: &str) -> String {
        let digest = Sha256::digest(format!("{}\0{}\0{purpose}", self.secret, self.record.name));
        digest.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}
