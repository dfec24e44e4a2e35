//! Flags of the backend `docker`.

use std::{
    fmt::{self, Display, Formatter},
    str::FromStr,
};

use clap::Args;
use serde::{Serialize, Serializer};

use crate::image::ImageStream;

/// Minimum memory that Docker gives a container, in bytes.
const LEAST_MEMORY: u64 = 6 << 20;

/// Default memory of a node, in bytes.
const DEFAULT_MEMORY: u64 = 2 << 30;

/// Flags for the creation of containers.
#[derive(Clone, Debug, Args, Serialize)]
#[command(next_help_heading = "Docker")]
pub struct DockerArgs {
    /// Image of the nodes, which must contain apollo-bench [default: the flake's image under `nix run`, otherwise an
    /// image built of this machine's own programs]
    #[arg(long, value_name = "NAME")]
    pub image: Option<String>,
    /// Program that writes an image for `docker load`, and the image's name; `nix run` passes the flake's image in this
    /// way
    #[arg(long, env = "APOLLO_BENCH_IMAGE_STREAM", value_name = "NAME=PROGRAM", hide = true)]
    pub image_stream: Option<ImageStream>,
    /// Build the image of this machine's own programs, without a registry; an existing image of the same programs is
    /// used again
    #[arg(long, conflicts_with = "image")]
    pub fast_docker: bool,
    /// Maximum memory of a node, as Docker writes it: 512m, 2g [default: 2g]
    #[arg(long, value_name = "SIZE")]
    pub memory_limit: Option<MemoryLimit>,
}

/// Source of the image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ImageSource<'a> {
    /// An image that Docker has.
    Given(&'a str),
    /// An image that a program writes.
    Stream(&'a ImageStream),
    /// An image of this machine's own programs.
    Host,
}

impl DockerArgs {
    /// Source of the image; only this function chooses it.
    pub(crate) fn image_source(&self) -> ImageSource<'_> {
        match (&self.image, &self.image_stream) {
            (Some(name), _) => ImageSource::Given(name),
            (None, Some(stream)) if !self.fast_docker => ImageSource::Stream(stream),
            _ => ImageSource::Host,
        }
    }

    /// Limit on the memory of each node.
    pub(crate) fn memory(&self) -> MemoryLimit {
        self.memory_limit.unwrap_or(MemoryLimit(DEFAULT_MEMORY))
    }

    /// Given flags that have a meaning for containers alone.
    pub(crate) fn given(&self) -> impl Iterator<Item = &'static str> {
        let flags = [
            ("--image", self.image.is_some()),
            ("--fast-docker", self.fast_docker),
            ("--memory-limit", self.memory_limit.is_some()),
        ];
        flags.into_iter().filter_map(|(flag, given)| given.then_some(flag))
    }
}

/// An amount of memory, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryLimit(pub u64);

impl FromStr for MemoryLimit {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let lower = text.to_ascii_lowercase();
        let digits = lower.trim_end_matches(|c: char| c.is_ascii_alphabetic());
        let shift = match &lower[digits.len()..] {
            "" | "b" => 0,
            "k" | "kb" => 10,
            "m" | "mb" => 20,
            "g" | "gb" => 30,
            _ => return Err("use b, k, m or g, as in 512m or 2g".into()),
        };
        let number: u64 = digits.parse().map_err(|_| "give a whole number and b, k, m or g, as in 512m or 2g")?;
        let bytes = number.checked_mul(1 << shift).filter(|bytes| i64::try_from(*bytes).is_ok());
        match bytes.ok_or("that is more than can be written")? {
            bytes if bytes < LEAST_MEMORY => Err("Docker gives a container no less than 6m".into()),
            bytes => Ok(Self(bytes)),
        }
    }
}

impl Display for MemoryLimit {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let units = [(30, "g"), (20, "m"), (10, "k")];
        match units.iter().find(|(shift, _)| self.0.trailing_zeros() >= *shift) {
            Some((shift, unit)) => write!(f, "{}{unit}", self.0 >> shift),
            None => write!(f, "{}b", self.0),
        }
    }
}

impl Serialize for MemoryLimit {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_as_docker_writes_it() {
        for (text, bytes, written) in [
            ("2g", 2 << 30, "2g"),
            ("512M", 512 << 20, "512m"),
            ("1536mb", 1536 << 20, "1536m"),
            ("8192k", 8 << 20, "8m"),
            ("10000001", 10_000_001, "10000001b"),
        ] {
            let limit: MemoryLimit = text.parse().unwrap();
            assert_eq!((limit.0, limit.to_string().as_str()), (bytes, written));
        }
        for text in ["", "g", "2t", "-2g", "1.5g", "2 g", "1m", "99999999999g", "2gg"] {
            assert!(text.parse::<MemoryLimit>().is_err(), "{text}");
        }
    }
}
