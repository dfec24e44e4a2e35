//! A small container image of this program and of what shapes its network, without a base image.
//!
//! [`build`] takes the host's own programs and the libraries they need, and writes an OCI image layout with an archive
//! for `docker load` in it. The same files give the same bytes. [`load`] hands the archive to Docker. Knows nothing of
//! nodes and runs.

mod build;
mod docker;
mod elf;
mod error;
mod files;
mod layer;
mod layout;
mod name;
mod oci;
mod stream;
mod tree;

pub(crate) use build::megabytes;
pub use build::{BuiltImage, ImageRequest, build, name_of_host_image};
pub use docker::load;
pub use error::ImageError;
pub use name::{is_repository, is_tag};
pub use stream::ImageStream;
