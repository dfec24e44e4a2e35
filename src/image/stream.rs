//! Images that a program writes, as the programs of Nix's `dockerTools.streamLayeredImage` do.

use std::{
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    str::FromStr,
    thread,
};

use serde::Serialize;

use super::{docker::load_from, error::ImageError, name::Name};
use crate::paths::as_text;

/// Maximum size of the program's messages that is kept, in bytes.
const SAID_LIMIT: u64 = 16 << 10;

/// A program that writes the image of this name, as an archive for `docker load`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ImageStream {
    /// Name and tag of the image in the archive.
    pub name: String,
    /// The program.
    #[serde(serialize_with = "as_text")]
    pub program: PathBuf,
}

impl FromStr for ImageStream {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (name, program) = text.split_once('=').ok_or("write it like NAME:TAG=PROGRAM")?;
        let name = Name::parse(name).map_err(|error| error.to_string())?.to_string();
        Ok(Self { name, program: program.into() })
    }
}

impl ImageStream {
    /// Loads the image into Docker.
    ///
    /// # Errors
    /// Fails if the program or Docker does not start, or one of them fails.
    pub fn load(&self) -> Result<(), ImageError> {
        let mut child = self.start(Stdio::piped())?;
        let archive = child.stdout.take().map_or_else(Stdio::null, Stdio::from);
        let loaded = load_from(archive, &self.program);
        self.finish(child)?;
        loaded.map(drop)
    }

    /// Writes the archive to a new file.
    ///
    /// # Errors
    /// Fails if the file can't be made, or the program does not start or fails.
    pub fn write(&self, path: &Path) -> Result<(), ImageError> {
        let file = File::create(path).map_err(|error| ImageError::io(path, &error))?;
        let child = self.start(Stdio::from(file))?;
        self.finish(child)
    }

    fn start(&self, to: Stdio) -> Result<Child, ImageError> {
        let mut command = Command::new(&self.program);
        command.stdin(Stdio::null()).stdout(to).stderr(Stdio::piped());
        command.spawn().map_err(|error| self.failed(&error.to_string()))
    }

    /// Waits for the end of the program. Its messages are used only if it fails.
    fn finish(&self, mut child: Child) -> Result<(), ImageError> {
        let said = child.stderr.take().map(|stderr| {
            thread::spawn(move || {
                let mut text = vec![];
                let mut stderr = stderr.take(SAID_LIMIT);
                let _ = stderr.read_to_end(&mut text);
                let _ = io::copy(&mut stderr.into_inner(), &mut io::sink());
                String::from_utf8_lossy(&text).into_owned()
            })
        });
        let status = child.wait().map_err(|error| self.failed(&error.to_string()))?;
        let said = said.and_then(|said| said.join().ok()).unwrap_or_default();
        if status.success() {
            return Ok(());
        }
        let last = said.lines().map(str::trim).rfind(|line| !line.is_empty()).unwrap_or("it gives no reason");
        Err(self.failed(&format!("{status}: {last}")))
    }

    fn failed(&self, why: &str) -> ImageError {
        ImageError::Failed(format!("{} writes no image: {why}", self.program.display()))
    }
}
