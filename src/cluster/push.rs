//! This machine's own programs, as an image in a registry.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use super::image::PinnedImage;
use crate::{
    image::{ImageRequest, build, load},
    kubernetes::KubernetesError,
};

/// Longest complaint of a program that is passed on, in characters.
const LONGEST: usize = 500;

/// Where the image is put together.
fn folder() -> PathBuf {
    std::env::temp_dir().join(format!("apollo-bench-image-{}", std::process::id()))
}

/// Takes away what [`push`] has put together.
pub(super) fn forget() {
    let _ = fs::remove_dir_all(folder());
}

/// Builds the image and pushes it under this name. Gives it by its digest.
///
/// # Errors
/// When it can't be built, there is nothing to push with, or the registry refuses.
pub(super) fn push(image: &PinnedImage) -> Result<PinnedImage, KubernetesError> {
    let name = image.name();
    let pushed = build_and_push(name, &folder());
    forget();
    format!("{name}@{}", pushed?)
        .parse()
        .map_err(|error| KubernetesError::Failed(format!("the registry's digest of {name}: {error}")))
}

/// Gives the digest by which the registry knows the image.
fn build_and_push(name: &str, folder: &Path) -> Result<String, KubernetesError> {
    let request = ImageRequest { output: folder.into(), tag: Some(name.into()) };
    let image = build(&request).map_err(|error| KubernetesError::Failed(error.to_string()))?;
    if on_path("skopeo").is_some() {
        eprintln!("pushing {name} with skopeo");
        let mut command = Command::new("skopeo");
        command.arg("copy");
        if is_local(name) {
            command.arg("--dest-tls-verify=false");
        }
        let tag = name.rsplit(':').next().unwrap_or_default();
        command.arg(source(&image.layout, tag)).arg(format!("docker://{name}"));
        run(&mut command, "skopeo copy", name)?;
        // It is copied as it is, so the digest stays.
        return Ok(image.manifest_digest);
    }
    if on_path("docker").is_none() {
        return Err(KubernetesError::Usage(
            "an image is pushed with skopeo or docker, and neither is on the PATH: apt-get install skopeo, or give --image"
                .into(),
        ));
    }
    load(&image).map_err(|error| KubernetesError::Failed(error.to_string()))?;
    eprintln!("pushing {name} with docker");
    let said = run(Command::new("docker").args(["push", name]), "docker push", name)?;
    let digest = said.split_whitespace().skip_while(|word| *word != "digest:").nth(1);
    digest
        .map(str::to_owned)
        .ok_or_else(|| KubernetesError::Failed(format!("docker push of {name} does not say the image's digest")))
}

fn source(layout: &Path, tag: &str) -> String {
    format!("oci:{}:{tag}", layout.display())
}

/// A registry of this machine, which has no certificate, as for Docker.
fn is_local(name: &str) -> bool {
    ["localhost:", "localhost/", "127.0.0.1:", "[::1]:"].iter().any(|start| name.starts_with(start))
}

fn on_path(program: &str) -> Option<PathBuf> {
    let folders = std::env::var_os("PATH")?;
    std::env::split_paths(&folders).map(|folder| folder.join(program)).find(|path| path.is_file())
}

fn run(command: &mut Command, what: &str, name: &str) -> Result<String, KubernetesError> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .map_err(|error: io::Error| KubernetesError::Failed(format!("{what}: {error}")))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let last = said.lines().map(str::trim).rfind(|line| !line.is_empty()).unwrap_or("it gives no reason");
    let last: String = last.chars().filter(|c| !c.is_control()).take(LONGEST).collect();
    Err(KubernetesError::Failed(format!(
        "{what} of {name}: {last}: log in to the registry, or give another --registry"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_registries_of_this_machine_go_without_certificate() {
        assert!(is_local("localhost:5000/bench:v1") && is_local("127.0.0.1:5000/bench:v1"));
        assert!(!is_local("localhost.example/bench:v1") && !is_local("registry.example:5000/bench:v1"));
    }
}
