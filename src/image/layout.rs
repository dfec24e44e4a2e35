//! Folder of an image: an OCI image layout, and the archive for `docker load`.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
};

use super::{
    error::ImageError,
    layer,
    oci::{Documents, LAYOUT_MARK, is_own_index},
    tree::Entry,
};

const MARK: &str = "oci-layout";
const INDEX: &str = "index.json";
const BLOBS: &str = "blobs";
const ARCHIVE: &str = "image.tar";

/// A folder that the image may be written to.
pub(super) struct Layout {
    root: PathBuf,
}

impl Layout {
    /// Takes a folder that does not exist yet, is empty, or contains an image that was written here before.
    pub(super) fn new(root: &Path) -> Result<Self, ImageError> {
        let refused = |why: &str| {
            let root = root.display();
            Err(ImageError::Usage(format!("{root} {why}: give another --output, or empty it")))
        };
        let entries: Vec<_> = match fs::read_dir(root) {
            Ok(entries) => entries.flatten().map(|entry| entry.file_name()).collect(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => vec![],
            Err(error) if error.kind() == io::ErrorKind::NotADirectory => return refused("is no folder"),
            Err(error) => return Err(ImageError::io(root, &error)),
        };
        let known = |name| [MARK, INDEX, BLOBS, ARCHIVE].iter().any(|known| name == *known);
        let own = match fs::read(root.join(INDEX)) {
            Ok(index) => is_own_index(&index),
            // The index is written last, so it is missing after an interrupted build.
            Err(_) => fs::read(root.join(MARK)).is_ok_and(|mark| mark == LAYOUT_MARK.as_bytes()),
        };
        if entries.is_empty() || (own && entries.into_iter().all(known)) {
            return Ok(Self { root: root.into() });
        }
        refused("contains something other than an image of this program")
    }

    /// Writes the image. Returns the folder and the archive as absolute paths.
    pub(super) fn write(&self, image: &Documents) -> Result<(PathBuf, PathBuf), ImageError> {
        let root = &self.root;
        fs::create_dir_all(root).map_err(|error| ImageError::io(root, &error))?;
        // A relative path would mean another place for another program.
        let root = fs::canonicalize(root).map_err(|error| ImageError::io(root, &error))?;
        for path in [INDEX, ARCHIVE].map(|name| root.join(name)) {
            absent_is_fine(fs::remove_file(&path)).map_err(|error| ImageError::io(&path, &error))?;
        }
        let blobs = root.join(BLOBS);
        absent_is_fine(fs::remove_dir_all(&blobs)).map_err(|error| ImageError::io(&blobs, &error))?;
        let write = |name: &str, data: &[u8]| {
            let path = root.join(name);
            let folder = path.parent().unwrap_or(&root);
            fs::create_dir_all(folder).and_then(|()| fs::write(&path, data)).map_err(|e| ImageError::io(&path, &e))
        };
        write(MARK, LAYOUT_MARK.as_bytes())?;
        for blob in [&image.config, &image.layer, &image.manifest] {
            write(&blob.path(), &blob.data)?;
        }
        let archive = root.join(ARCHIVE);
        write_archive(&archive, image).map_err(|error| ImageError::io(&archive, &error))?;
        write(INDEX, &image.index)?;
        Ok((root, archive))
    }
}

fn absent_is_fine(result: io::Result<()>) -> io::Result<()> {
    result.or_else(|error| if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) })
}

/// Writes the layout as one file, together with the list that `docker load` requires.
fn write_archive(path: &Path, image: &Documents) -> io::Result<()> {
    let mut files: BTreeMap<String, &[u8]> = BTreeMap::new();
    files.insert(MARK.into(), LAYOUT_MARK.as_bytes());
    files.insert(INDEX.into(), &image.index);
    files.insert("manifest.json".into(), &image.docker_manifest);
    for blob in [&image.config, &image.layer, &image.manifest] {
        files.insert(blob.path(), &blob.data);
    }
    let mut archive = tar::Builder::new(BufWriter::new(File::create(path)?));
    for folder in [BLOBS, "blobs/sha256"] {
        layer::append(&mut archive, Path::new(folder), &Entry::Directory { mode: 0o755 })?;
    }
    for (name, data) in files {
        layer::append_file(&mut archive, Path::new(&name), 0o644, data)?;
    }
    archive.into_inner()?.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_own_folders_are_written_over() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        let fits = || Layout::new(root).is_ok();
        assert!(Layout::new(&root.join("new/one")).is_ok());
        assert!(fits(), "empty");
        fs::write(root.join(MARK), LAYOUT_MARK).unwrap();
        assert!(fits(), "begun");
        fs::write(root.join(INDEX), r#"{"annotations":{"org.opencontainers.image.title":"apollo-network-benchmark"}}"#)
            .unwrap();
        assert!(fits(), "own");
        fs::write(root.join("notes"), "").unwrap();
        assert!(!fits(), "a file besides");
        fs::remove_file(root.join("notes")).unwrap();
        fs::write(root.join(INDEX), r#"{"manifests":[]}"#).unwrap();
        assert!(!fits(), "somebody else's image");
        assert!(matches!(Layout::new(&root.join(INDEX)), Err(ImageError::Usage(_))), "a file");
    }
}
