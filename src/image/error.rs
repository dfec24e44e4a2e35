//! Errors of building an image.

use std::{io, path::Path};

use thiserror::Error;

/// Reason why an image can't be built, in one line.
#[derive(Debug, Error)]
pub enum ImageError {
    /// Something is missing or wrong in the request, and the user can fix it.
    #[error("{0}")]
    Usage(String),
    /// An operation failed that should work.
    #[error("{0}")]
    Failed(String),
}

impl ImageError {
    pub(super) fn io(path: &Path, error: &io::Error) -> Self {
        Self::Failed(format!("{}: {error}", path.display()))
    }
}
