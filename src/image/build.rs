//! Building and writing an image of the host's own files.

use std::{io, path::PathBuf};

use serde::Serialize;

use super::{
    error::ImageError,
    files, layer,
    layout::Layout,
    name::Name,
    oci::{self, Blob, Documents},
};
use crate::{paths::as_text, terminal::tell};

/// Image to build, and its destination.
#[derive(Clone, Debug)]
pub struct ImageRequest {
    /// Folder of the OCI image layout and of the archive: new, empty, or written by an earlier [`build`].
    pub output: PathBuf,
    /// Name of the image; by default `apollo-network-benchmark:` and the first 12 digits of its id.
    pub tag: Option<String>,
}

/// An image that was written.
#[derive(Clone, Debug, Serialize)]
pub struct BuiltImage {
    /// Name of the image.
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

/// Builds an image. Reports slow steps and omitted files on stderr.
///
/// # Errors
/// Fails if a program or library is missing, the name or the folder can't be used, or the folder can't be written.
pub fn build(request: &ImageRequest) -> Result<BuiltImage, ImageError> {
    // The only place that chooses the source of an image.
    from_host(request)
}

/// Name that [`build`] would give to an image of this host's files, found without packing it.
///
/// # Errors
/// Fails if a program or library is missing.
pub fn name_of_host_image() -> Result<String, ImageError> {
    let diff_id = layer::diff_id(&files::collect()?).map_err(|error| not_packed(&error))?;
    Ok(Name::of_image(&Blob::new(oci::config(&diff_id)?).digest).to_string())
}

fn not_packed(error: &io::Error) -> ImageError {
    ImageError::Failed(format!("the files can't be packed: {error}"))
}

/// Makes an image of the host's own files.
fn from_host(request: &ImageRequest) -> Result<BuiltImage, ImageError> {
    let given = request.tag.as_deref().map(Name::parse).transpose()?;
    let layout = Layout::new(&request.output)?;
    let tree = files::collect()?;
    tell(&format!("packing {} of files", megabytes(tree.size())));
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

/// A number of bytes as readable text.
pub(crate) fn megabytes(bytes: u64) -> String {
    format!("{:.1} MB", bytes as f64 / 1e6)
}
