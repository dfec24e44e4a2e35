//! Paths, which on Linux need not be text, and the small files that arguments name.

use std::{
    fs::{metadata, read_to_string, remove_file, rename},
    io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use serde::Serializer;

/// Serializes a path as text, with U+FFFD in place of bytes that are not UTF-8: the records of a run are for people,
/// and a path that is not text must not cost the rest of them.
///
/// # Errors
/// Errors of the serializer.
pub fn as_text<S: Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&path.display())
}

/// Serializes an optional path like [`as_text`].
///
/// # Errors
/// Errors of the serializer.
#[allow(clippy::ref_option, reason = "serde passes the field so")]
pub fn as_text_if_given<S: Serializer>(path: &Option<PathBuf>, serializer: S) -> Result<S::Ok, S::Error> {
    match path {
        Some(path) => serializer.serialize_some(&path.to_string_lossy()),
        None => serializer.serialize_none(),
    }
}

/// Reads a file that an argument names, of at most `limit` bytes, without the byte order mark (BOM) that some editors
/// write.
///
/// # Errors
/// One line about the reason, without the name of the file.
pub fn read_text(path: &Path, limit: u64) -> Result<String, String> {
    let size = metadata(path).map_err(|error| error.to_string())?.len();
    if size > limit {
        return Err(format!("{size} bytes are more than {limit}"));
    }
    let text = read_to_string(path).map_err(|error| match error.kind() {
        std::io::ErrorKind::InvalidData => "it is no text in UTF-8".to_owned(),
        _ => error.to_string(),
    })?;
    Ok(text.strip_prefix('\u{feff}').map_or_else(|| text.clone(), str::to_owned))
}

/// Writes a file as a whole or not at all: `write` gets the path of a file beside it, which then takes its place.
///
/// # Errors
/// Those of `write`, and of the change of the name. The file beside is removed then.
pub fn replace_file<E: From<io::Error>>(path: &Path, write: impl FnOnce(&Path) -> Result<(), E>) -> Result<(), E> {
    let mut partial = path.as_os_str().to_owned();
    partial.push(".partial");
    let partial = Path::new(&partial);
    let written = write(partial).and_then(|()| Ok(rename(partial, path)?));
    written.inspect_err(|_| drop(remove_file(partial)))
}

/// Path of a program on the PATH. A relative folder in it is ignored, because it would mean another folder after a
/// change of directory.
pub fn on_path(name: &str) -> Option<PathBuf> {
    let executable = |path: &PathBuf| metadata(path).is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0);
    let folders = std::env::var_os("PATH")?;
    std::env::split_paths(&folders).filter(|folder| folder.is_absolute()).map(|f| f.join(name)).find(executable)
}
