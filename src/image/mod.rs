//! A small container image of this program and of what shapes its network, without a base image.
//!
//! [`build`] takes the host's own programs and the libraries they need, and writes an OCI image layout with an archive
//! for `docker load` in it. The same files give the same bytes. [`load`] hands the archive to Docker. Knows nothing of
//! nodes and runs.

mod command;
mod docker;
mod elf;
mod files;
mod layer;
mod layout;
mod name;
mod oci;
mod stream;
mod tree;

pub use command::{ImageArgs, command};
pub use docker::load;
pub use name::{is_repository, is_tag};
pub use stream::ImageStream;

use std::{fmt::Display, io, path::Path, path::PathBuf};

use serde::Serialize;
use thiserror::Error;

use crate::{paths::as_text, terminal::tell};
use layout::Layout;
use name::Name;
use oci::{Blob, Documents};

/// The image's own name, in names and titles.
const TITLE: &str = "apollo-network-benchmark";

/// Which image to build, and where to.
#[derive(Clone, Debug)]
pub struct ImageRequest {
    /// Folder of the OCI image layout and of the archive: new, empty, or one that was written by [`build`] before.
    pub output: PathBuf,
    /// Name of the image; else `apollo-network-benchmark:` and the first 12 digits of its id.
    pub tag: Option<String>,
}

/// An image that was written.
#[derive(Clone, Debug, Serialize)]
pub struct BuiltImage {
    /// Its name.
    pub tag: String,
    /// Digest of the configuration: the id by which Docker knows the image.
    pub config_digest: String,
    /// Digest of the manifest: the digest by which a registry knows the image.
    pub manifest_digest: String,
    /// Digest of the compressed layer.
    pub layer_digest: String,
    /// Size of the layer, unpacked.
    pub uncompressed_bytes: u64,
    /// Size of the layer, compressed.
    pub compressed_bytes: u64,
    /// The OCI image layout.
    #[serde(serialize_with = "as_text")]
    pub layout: PathBuf,
    /// The archive for `docker load`, inside the layout.
    #[serde(serialize_with = "as_text")]
    pub archive: PathBuf,
}

/// Why there is no image, in one line.
#[derive(Debug, Error)]
pub enum ImageError {
    /// Something is missing or given wrongly, and the user can mend it.
    #[error("{0}")]
    Usage(String),
    /// It should have worked.
    #[error("{0}")]
    Failed(String),
}

impl ImageError {
    fn io(path: &Path, error: &io::Error) -> Self {
        Self::Failed(format!("{}: {error}", path.display()))
    }
}

/// Builds an image. Says on stderr what takes a while, and what is left out.
///
/// # Errors
/// When a program or library is missing, the name or the folder can't be used, or the folder can't be written.
pub fn build(request: &ImageRequest) -> Result<BuiltImage, ImageError> {
    // The one place that chooses where an image comes from.
    from_host(request)
}

/// The name that [`build`] would give to an image of this host's files, found without packing it.
///
/// # Errors
/// When a program or library is missing.
pub fn name_of_host_image() -> Result<String, ImageError> {
    let diff_id = layer::diff_id(&files::collect()?).map_err(|error| not_packed(&error))?;
    Ok(Name::of_image(&Blob::new(oci::config(&diff_id)?).digest).to_string())
}

fn not_packed(error: &io::Error) -> ImageError {
    ImageError::Failed(format!("the files can't be packed: {error}"))
}

/// An image of the host's own files.
fn from_host(request: &ImageRequest) -> Result<BuiltImage, ImageError> {
    let given = request.tag.as_deref().map(Name::parse).transpose()?;
    let layout = Layout::new(&request.output)?;
    let tree = files::collect()?;
    say(format_args!("packing {} of files", megabytes(tree.size())));
    let layer = layer::pack(&tree).map_err(|error| not_packed(&error))?;
    let config = Blob::new(oci::config(&layer.diff_id)?);
    let name = given.unwrap_or_else(|| Name::of_image(&config.digest));
    let documents = Documents::new(config, Blob::new(layer.compressed), &name)?;
    let (layout, archive) = layout.write(&documents)?;
    Ok(BuiltImage {
        tag: name.to_string(),
        config_digest: documents.config.digest,
        manifest_digest: documents.manifest.digest,
        layer_digest: documents.layer.digest,
        uncompressed_bytes: layer.size,
        compressed_bytes: documents.layer.data.len() as u64,
        layout,
        archive,
    })
}

/// A line for whoever waits or should know.
fn say(line: impl Display) {
    tell(&line.to_string());
}

fn megabytes(bytes: u64) -> String {
    format!("{:.1} MB", bytes as f64 / 1e6)
}
