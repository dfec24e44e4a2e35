//! Image of this machine's own programs, pushed to a registry.

use std::{
    ffi::{OsStr, OsString},
    fs, io,
    path::Path,
    process::{Command, Stdio},
};

use super::{image::PinnedImage, plan::ImageSource};
use crate::{
    image::{ImageError, ImageRequest, ImageStream, build, load},
    kubernetes::KubernetesError,
    paths::on_path,
    terminal::tell,
};

/// Maximum length of a program's error message that is passed on, in characters.
const LONGEST: usize = 500;

/// Makes the image in a folder and pushes it under its name. Returns it by its digest.
///
/// # Errors
/// Fails if it can't be built, there is nothing to push with, or the registry refuses.
pub(crate) fn push(image: &ImageSource, folder: &Path) -> Result<PinnedImage, KubernetesError> {
    let name = image.image().name();
    let pushed = match image {
        ImageSource::Given(image) => return Ok(image.clone()),
        ImageSource::Host(_) => build_and_push(name, folder),
        ImageSource::Stream(_, stream) => write_and_push(stream, name, folder),
    };
    format!("{name}@{}", pushed?)
        .parse()
        .map_err(|error| KubernetesError::Failed(format!("the registry's digest of {name}: {error}")))
}

fn failed(error: ImageError) -> KubernetesError {
    KubernetesError::Failed(error.to_string())
}

fn skopeo_copy(from: &OsStr, name: &str) -> Command {
    tell(&format!("pushing {name} with skopeo"));
    let mut command = Command::new("skopeo");
    command.arg("copy");
    if is_local(name) {
        command.arg("--dest-tls-verify=false");
    }
    command.arg(from).arg(format!("docker://{name}"));
    command
}

fn docker_push(name: &str) -> Result<String, KubernetesError> {
    tell(&format!("pushing {name} with docker"));
    let printed = run(Command::new("docker").args(["push", name]), "docker push", name)?;
    let digest = printed.split_whitespace().skip_while(|word| *word != "digest:").nth(1);
    digest
        .map(str::to_owned)
        .ok_or_else(|| KubernetesError::Failed(format!("docker push of {name} does not print the image's digest")))
}

fn nothing_to_push_with() -> KubernetesError {
    KubernetesError::Usage(
        "an image is pushed with skopeo or docker, and neither is on the PATH: apt-get install skopeo, or give --image"
            .into(),
    )
}

/// Writes and pushes an image that a program writes, like [`build_and_push`].
fn write_and_push(stream: &ImageStream, name: &str, folder: &Path) -> Result<String, KubernetesError> {
    let failed_at = |path: &Path, error: io::Error| KubernetesError::Failed(format!("{}: {error}", path.display()));
    if on_path("skopeo").is_some() {
        let (archive, digest) = (folder.join("image.tar"), folder.join("digest"));
        stream.write(&archive).map_err(failed)?;
        let mut command = skopeo_copy(&located("docker-archive:", &archive, ""), name);
        run(command.arg("--digestfile").arg(&digest), "skopeo copy", name)?;
        let text = fs::read_to_string(&digest).map_err(|error| failed_at(&digest, error))?;
        return Ok(text.trim().to_owned());
    }
    if on_path("docker").is_none() {
        return Err(nothing_to_push_with());
    }
    stream.load().map_err(failed)?;
    run(Command::new("docker").args(["tag", &stream.name, name]), "docker tag", name)?;
    docker_push(name)
}

/// Builds and pushes the image. Returns its digest in the registry.
fn build_and_push(name: &str, folder: &Path) -> Result<String, KubernetesError> {
    let request = ImageRequest { output: folder.into(), tag: Some(name.into()) };
    let image = build(&request).map_err(failed)?;
    if on_path("skopeo").is_some() {
        let tag = name.rsplit(':').next().unwrap_or_default();
        run(&mut skopeo_copy(&located("oci:", &image.layout, &format!(":{tag}")), name), "skopeo copy", name)?;
        // The image is copied unchanged, so the digest stays.
        return Ok(image.manifest_digest);
    }
    if on_path("docker").is_none() {
        return Err(nothing_to_push_with());
    }
    load(&image).map_err(failed)?;
    docker_push(name)
}

/// A path in the syntax of skopeo.
fn located(before: &str, path: &Path, after: &str) -> OsString {
    let mut words = OsString::from(before);
    words.push(path);
    words.push(after);
    words
}

/// True for a registry of this machine, which has no certificate, as for Docker.
fn is_local(name: &str) -> bool {
    ["localhost:", "localhost/", "127.0.0.1:", "[::1]:"].iter().any(|start| name.starts_with(start))
}

fn run(command: &mut Command, what: &str, name: &str) -> Result<String, KubernetesError> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .map_err(|error: io::Error| KubernetesError::Failed(format!("{what}: {error}")))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let complaint = String::from_utf8_lossy(&output.stderr);
    let last = complaint.lines().map(str::trim).rfind(|line| !line.is_empty()).unwrap_or("it gives no reason");
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
