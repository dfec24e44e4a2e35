//! Why there is no image.

use std::{io, path::Path};

use thiserror::Error;

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
    pub(super) fn io(path: &Path, error: &io::Error) -> Self {
        Self::Failed(format!("{}: {error}", path.display()))
    }
}
