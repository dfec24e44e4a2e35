//! Names of images that identify exactly one image.

use std::{
    fmt::{self, Display, Formatter},
    str::FromStr,
};

use serde::{Serialize, Serializer};

use crate::image::{is_repository, is_tag};

/// Digits of a SHA-256 digest.
const DIGEST_DIGITS: usize = 64;

/// An image with a tag or a digest or both, such as `registry.example:5000/bench:v1`: never `latest`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PinnedImage(String);

impl PinnedImage {
    /// The name, as it was given.
    pub fn name(&self) -> &str {
        &self.0
    }
}

impl FromStr for PinnedImage {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bad =
            || "no name of an image: write it like registry.example:5000/bench:v1 or bench@sha256:DIGEST".to_owned();
        let (name, digest) = match text.split_once('@') {
            Some((name, digest)) => (name, Some(digest)),
            None => (text, None),
        };
        let (repository, tag) = match name.rsplit_once(':') {
            // A colon before a slash belongs to a registry's port.
            Some((repository, tag)) if !tag.contains('/') => (repository, Some(tag)),
            _ => (name, None),
        };
        let is_digest = |digest: &str| {
            let digits = digest.strip_prefix("sha256:").unwrap_or_default();
            digits.len() == DIGEST_DIGITS && digits.chars().all(|c| matches!(c, '0'..='9' | 'a'..='f'))
        };
        if !is_repository(repository) || !tag.is_none_or(is_tag) || !digest.is_none_or(is_digest) {
            return Err(bad());
        }
        let way_out = "give a tag that stays, such as :v1, or a digest, @sha256:DIGEST";
        match (tag, digest) {
            (Some("latest"), None) => {
                Err(format!("'latest' may be another image tomorrow, and the nodes may get different ones: {way_out}"))
            }
            (None, None) => Err(format!("without a tag it would be 'latest': {way_out}")),
            _ => Ok(Self(text.into())),
        }
    }
}

impl Display for PinnedImage {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for PinnedImage {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_has_a_tag_or_a_digest() {
        let digest = format!("@sha256:{}", "0a".repeat(32));
        for text in ["bench:v1", "localhost:5000/a/b:1.0", &format!("bench{digest}"), &format!("r.io/b:latest{digest}")]
        {
            assert_eq!(text.parse::<PinnedImage>().unwrap().name(), text);
        }
        for (text, says) in [
            ("bench", "without a tag"),
            ("host:5000/bench", "without a tag"),
            ("bench:latest", "another image tomorrow"),
            ("Bench:v1", "no name"),
            ("bench:", "no name"),
            ("", "no name"),
            ("bench:v1@sha256:0a", "no name"),
            ("bench:v1@", "no name"),
        ] {
            let error = text.parse::<PinnedImage>().unwrap_err();
            assert!(error.contains(says), "{text}: {error}");
        }
    }
}
