//! Names of images.

use std::fmt::{self, Display, Formatter};

use super::error::ImageError;

/// The image's own name, in names and titles.
pub(super) const TITLE: &str = "apollo-network-benchmark";

/// Digits of an image's id in its own name.
const ID_DIGITS: usize = 12;

/// A name and tag that Docker and registries take, such as `registry.example:5000/bench:v1`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Name {
    repository: String,
    tag: String,
}

impl Name {
    /// Reads a name. As in Docker, the default tag is `latest`.
    pub(super) fn parse(text: &str) -> Result<Self, ImageError> {
        let (repository, tag) = match text.rsplit_once(':') {
            // A colon before a slash belongs to a registry's port.
            Some((repository, tag)) if !tag.contains('/') => (repository, tag),
            _ => (text, "latest"),
        };
        if is_repository(repository) && is_tag(tag) {
            return Ok(Self { repository: repository.into(), tag: tag.into() });
        }
        Err(ImageError::Usage(format!(
            "--tag {text}: no name of an image: use small letters, digits and . _ - like registry.example:5000/bench:v1"
        )))
    }

    /// Name of an image that was given none, made of its id.
    pub(super) fn of_image(config_digest: &str) -> Self {
        let digits = config_digest.rsplit(':').next().unwrap_or(config_digest).chars().take(ID_DIGITS).collect();
        Self { repository: TITLE.into(), tag: digits }
    }

    pub(super) fn tag(&self) -> &str {
        &self.tag
    }

    /// Name with the registry that Docker would add.
    pub(super) fn in_full(&self) -> String {
        let registry = self.repository.split_once('/').map(|(first, _)| first).filter(|first| is_registry(first));
        match registry {
            Some(_) => self.to_string(),
            None if self.repository.contains('/') => format!("docker.io/{self}"),
            None => format!("docker.io/library/{self}"),
        }
    }
}

impl Display for Name {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.repository, self.tag)
    }
}

/// True if the first part of a name is a registry, by Docker's rule.
fn is_registry(part: &str) -> bool {
    part.contains(['.', ':']) || part == "localhost"
}

/// True if a text is the name of an image without tag and digest.
pub fn is_repository(text: &str) -> bool {
    let (registry, path) = match text.split_once('/') {
        Some((first, path)) if is_registry(first) => (Some(first), path),
        _ => (None, text),
    };
    let registry_is_good = registry.is_none_or(|registry| {
        let (host, port) = registry.split_once(':').unwrap_or((registry, "0"));
        let good = |label: &str| {
            let inside = label.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
            inside && !label.is_empty() && !label.starts_with('-') && !label.ends_with('-')
        };
        host.split('.').all(good) && port.parse::<u16>().is_ok()
    });
    registry_is_good && text.len() <= 255 && path.split('/').all(is_component)
}

/// True for words of small letters and digits, joined by one dot, one or two underscores, or hyphens.
fn is_component(text: &str) -> bool {
    let is_word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let joints = text.split(is_word).filter(|joint| !joint.is_empty());
    let mut joints = joints.map(|joint| matches!(joint, "." | "_" | "__") || joint.chars().all(|c| c == '-'));
    text.starts_with(is_word) && text.ends_with(is_word) && joints.all(|good| good)
}

/// True if a text is a tag of an image.
pub fn is_tag(text: &str) -> bool {
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    text.len() <= 128 && text.starts_with(is_word) && text.chars().all(|c| is_word(c) || c == '.' || c == '-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_and_completed_as_docker_does() {
        for (text, name, full) in [
            ("bench", "bench:latest", "docker.io/library/bench:latest"),
            ("me/bench:V1", "me/bench:V1", "docker.io/me/bench:V1"),
            ("localhost/bench", "localhost/bench:latest", "localhost/bench:latest"),
            ("host:5000/a/b", "host:5000/a/b:latest", "host:5000/a/b:latest"),
            ("ghcr.io/a--b/c__d.e:1.0-rc_1", "ghcr.io/a--b/c__d.e:1.0-rc_1", "ghcr.io/a--b/c__d.e:1.0-rc_1"),
        ] {
            let parsed = Name::parse(text).unwrap();
            assert_eq!((parsed.to_string().as_str(), parsed.in_full().as_str()), (name, full));
        }
    }

    #[test]
    fn other_names_are_refused() {
        let long = "a".repeat(256);
        for text in
            ["", ":v1", "Bench", "a b", "a//b", "a/", "-a", "a..b", "a___b", "bench:", "a:.x", "a@sha256:0", &long]
        {
            assert!(matches!(Name::parse(text), Err(ImageError::Usage(_))), "{text}");
        }
        assert!(Name::parse("x.y:port/a").is_err());
    }

    #[test]
    fn an_image_is_named_after_its_id() {
        let name = Name::of_image("sha256:0123456789abcdef");
        assert_eq!(name.to_string(), "apollo-network-benchmark:0123456789ab");
        assert_eq!(name.tag(), "0123456789ab");
    }
}
