//! `apollo-bench image`.

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

use super::error::CliError;
use crate::{
    image::{BuiltImage, ImageError, ImageRequest, build, load, megabytes},
    terminal::say,
};

/// An image of this program.
#[derive(Clone, Debug, Args)]
pub(super) struct ImageArgs {
    /// Folder of the image: an OCI image layout, with the archive for `docker load` in it as image.tar
    ///
    /// The folder must be new, empty, or that of an earlier image, which is replaced.
    #[arg(long, value_name = "DIR", default_value = "apollo-network-benchmark-image")]
    pub(super) output: PathBuf,
    /// Name of the image [default: apollo-network-benchmark: and the first 12 digits of its id]
    #[arg(long, value_name = "NAME")]
    pub(super) tag: Option<String>,
    /// Load the image into Docker
    #[arg(long)]
    pub(super) load: bool,
    /// Print name, digests, sizes and paths as JSON
    #[arg(long)]
    pub(super) json: bool,
}

/// JSON output.
#[derive(Serialize)]
struct Report<'a> {
    #[serde(flatten)]
    image: &'a BuiltImage,
    /// Name in Docker, if the image was loaded.
    loaded: Option<String>,
}

/// Builds an image and prints its description.
pub(super) fn command(args: &ImageArgs) -> Result<(), CliError> {
    let image = build(&ImageRequest { output: args.output.clone(), tag: args.tag.clone() })?;
    let loaded = args.load.then(|| load(&image)).transpose()?;
    if args.json {
        let report = serde_json::to_string_pretty(&Report { image: &image, loaded });
        say(&format!("{}\n", report.map_err(|error| ImageError::Failed(error.to_string()))?));
        return Ok(());
    }
    let size = format!("{}, {} compressed", megabytes(image.uncompressed_bytes), megabytes(image.compressed_bytes));
    for (label, value) in [
        ("image", &image.tag),
        ("id", &image.config_digest),
        ("digest", &image.manifest_digest),
        ("size", &size),
        ("layout", &image.layout.display().to_string()),
        ("archive", &image.archive.display().to_string()),
    ] {
        say(&format!("{label:<8} {value}\n"));
    }
    match loaded {
        Some(name) => say(&format!("It is loaded: docker run --rm {name} --help\n")),
        None => say(&format!("To load it: docker load --input {}\n", image.archive.display())),
    }
    Ok(())
}
