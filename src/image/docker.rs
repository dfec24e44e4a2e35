//! An image handed to Docker.

use std::{
    fs::File,
    io,
    process::{Command, Stdio},
};

use super::{BuiltImage, ImageError, say};

/// Loads an image into Docker, and gives the name that Docker knows it by.
///
/// # Errors
/// When Docker is missing, does not run, or refuses the image.
pub fn load(image: &BuiltImage) -> Result<String, ImageError> {
    let archive = File::open(&image.archive).map_err(|error| ImageError::io(&image.archive, &error))?;
    say("loading the image into Docker");
    let output = Command::new("docker").arg("load").stdin(Stdio::from(archive)).output();
    let output = output.map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => ImageError::Usage(
            "docker is not found in PATH, and --load needs it: apt-get install docker.io, or leave --load out".into(),
        ),
        _ => ImageError::Failed(format!("docker does not start: {error}")),
    })?;
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr);
        let why = stderr.lines().map(str::trim).rfind(|line| !line.is_empty()).unwrap_or("it gives no reason");
        return Err(ImageError::Usage(format!("`docker load` of {} failed: {why}", image.archive.display())));
    }
    let stdout = String::from_utf8_lossy(&output.stdout);
    let name = stdout.lines().rev().find_map(|line| line.strip_prefix("Loaded image: "));
    Ok(name.map_or_else(|| image.tag.clone(), |name| name.trim().to_owned()))
}
