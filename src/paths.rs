//! Paths, which on Linux need not be text.

use std::path::{Path, PathBuf};

use serde::Serializer;

/// Serializes a path as text, with U+FFFD in place of bytes that are not UTF-8: what is kept of a run is for people, and a
/// path that is not text must not cost the rest of it.
///
/// # Errors
/// Those of the serializer.
pub fn as_text<S: Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&path.display())
}

/// As [`as_text`], for a path that need not be given.
///
/// # Errors
/// Those of the serializer.
#[allow(clippy::ref_option, reason = "serde passes the field so")]
pub fn as_text_if_given<S: Serializer>(path: &Option<PathBuf>, serializer: S) -> Result<S::Ok, S::Error> {
    match path {
        Some(path) => serializer.serialize_some(&path.to_string_lossy()),
        None => serializer.serialize_none(),
    }
}
