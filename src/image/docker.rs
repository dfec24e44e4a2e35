//! Loading of an image into Docker.

use std::{
    fs::File,
    io,
    path::Path,
    process::{Command, Stdio},
};

use super::{build::BuiltImage, error::ImageError};
use crate::terminal::tell;

/// Loads an image into Docker, and returns its name there.
///
/// # Errors
/// Fails if Docker is missing, does not run, or refuses the image.
pub fn load(image: &BuiltImage) -> Result<String, ImageError> {
    let archive = File::open(&image.archive).map_err(|error| ImageError::io(&image.archive, &error))?;
    Ok(load_from(Stdio::from(archive), &image.archive)?.unwrap_or_else(|| image.tag.clone()))
}

/// Passes an archive to `docker load`.
pub(super) fn load_from(archive: Stdio, source: &Path) -> Result<Option<String>, ImageError> {
    tell("loading the image into Docker");
    let output = Command::new("docker").arg("load").stdin(archive).output();
    let output = output.map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => ImageError::Usage(
            "docker is not found in PATH, and the image is to be loaded into it: apt-get install docker.io".into(),
        ),
        _ => ImageError::Failed(format!("docker does not start: {error}")),
    })?;
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr);
        let why = stderr.lines().map(str::trim).rfind(|line| !line.is_empty()).unwrap_or("it gives no reason");
        return Err(ImageError::Usage(format!("`docker load` of {} failed: {why}", source.display())));
    }
    let stdout = String::from_utf8_lossy(&output.stdout);
    let name = stdout.lines().rev().find_map(|line| line.strip_prefix("Loaded image: "));
    Ok(name.map(|name| name.trim().to_owned()))
}
