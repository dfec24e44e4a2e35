//! A small container image of this program and of its shaping tools, without a base image.
//!
//! [`build`] takes the host's own programs and their libraries, and writes an OCI image layout that includes an archive
//! for `docker load`. The same files give the same bytes. [`load`] passes the archive to Docker. This module knows
//! nothing of nodes and runs.

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
