//! A run in a cluster, checked as a whole before anything is made.

use sha2::{Digest, Sha256};

use super::{
    arguments::{ImagesArgs, PodsArgs},
    image::PinnedImage,
    names::TOKEN_SECRET,
    record::RunRecord,
};
use crate::{access::RunToken, image::ImageStream, node::NodeConfig, scenario::Shape};

/// Where the image of the nodes comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ImageSource {
    /// It is in a registry.
    Given(PinnedImage),
    /// It is made of this machine's own programs, and has to be pushed under this name.
    Host(PinnedImage),
    /// A program writes it, and it has to be pushed under this name.
    Stream(PinnedImage, ImageStream),
}

impl ImageSource {
    /// The image.
    pub(crate) fn image(&self) -> &PinnedImage {
        match self {
            Self::Given(image) | Self::Host(image) | Self::Stream(image, _) => image,
        }
    }

    /// Whether it has to be pushed before the run.
    pub(crate) fn is_to_be_pushed(&self) -> bool {
        !matches!(self, Self::Given(_))
    }
}

/// A run that can be made in a cluster.
#[derive(Clone, Debug)]
pub(crate) struct ClusterPlan {
    /// The arguments with the defaults in effect, as JSON that people may read.
    pub(crate) arguments: String,
    /// Images of Prometheus and Grafana.
    pub(crate) images: ImagesArgs,
    /// Where pods go, and what they may take.
    pub(crate) pods: PodsArgs,
    /// What the cluster keeps of the run: its name, its namespace, its figures.
    pub(crate) record: RunRecord,
    /// Where the image of the nodes comes from.
    pub(crate) image: ImageSource,
    /// The arguments of node 0; the others differ in their id alone.
    pub(crate) node: NodeConfig,
    /// The text that Grafana's key and password and the nodes' token are made from.
    pub(crate) secret: String,
}

impl ClusterPlan {
    /// Whether the nodes' network is shaped, which takes rights that they do not have otherwise.
    pub(crate) fn is_shaped(&self) -> bool {
        !self.shape().is_unshaped()
    }

    /// What every link is to be like.
    pub(crate) fn shape(&self) -> &Shape {
        &self.record.scenario.links.default
    }

    /// The token that the nodes take orders with.
    pub(crate) fn token(&self) -> Result<RunToken, String> {
        RunToken::parse(&self.derived_secret(TOKEN_SECRET))
    }

    /// A text that follows from the secret of this run and does not tell it.
    pub(crate) fn derived_secret(&self, purpose: &str) -> String {
        let digest = Sha256::digest(format!("{}\0{}\0{purpose}", self.secret, self.record.name));
        digest.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}
