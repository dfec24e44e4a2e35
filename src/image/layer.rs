//! Layer of an image: its files in a compressed tar archive. The same tree gives the same bytes.

use std::{
    io::{self, Write},
    path::Path,
};

use flate2::{Compression, GzBuilder, write::GzEncoder};
use sha2::{Digest, Sha256};
use tar::{Builder, EntryType, Header};

use super::{
    oci::hexadecimal,
    tree::{Entry, Tree},
};

/// Level of compression: higher levels hardly reduce the size.
const LEVEL: Compression = Compression::new(6);

/// Gzip's code of an unknown system, so that the bytes do not depend on the builder's system.
const UNKNOWN_SYSTEM: u8 = 255;

/// A packed layer.
pub(super) struct Layer {
    /// Digest of the archive before compression.
    pub(super) diff_id: String,
    /// Size of the archive before compression.
    pub(super) size: u64,
    pub(super) compressed: Vec<u8>,
}

/// Counts and digests the bytes that are passed on to the compression.
struct Measured<W> {
    digest: Sha256,
    size: u64,
    next: W,
}

impl<W> Measured<W> {
    fn diff_id(&self) -> String {
        format!("sha256:{}", hexadecimal(&self.digest.clone().finalize()))
    }
}

impl<W: Write> Write for Measured<W> {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let written = self.next.write(data)?;
        self.digest.update(&data[..written]);
        self.size += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.next.flush()
    }
}

/// Packs a tree: root owns all files, and all have the same time.
pub(super) fn pack(tree: &Tree) -> io::Result<Layer> {
    let gzip: GzEncoder<Vec<u8>> = GzBuilder::new().operating_system(UNKNOWN_SYSTEM).write(vec![], LEVEL);
    let measured = archive(tree, gzip)?;
    Ok(Layer { diff_id: measured.diff_id(), size: measured.size, compressed: measured.next.finish()? })
}

/// Digest that [`pack`] would give, computed without the compression, which takes nearly all of its time.
pub(super) fn diff_id(tree: &Tree) -> io::Result<String> {
    Ok(archive(tree, io::sink())?.diff_id())
}

fn archive<W: Write>(tree: &Tree, next: W) -> io::Result<Measured<W>> {
    let mut archive = Builder::new(Measured { digest: Sha256::new(), size: 0, next });
    for (path, entry) in tree.iter() {
        append(&mut archive, path.strip_prefix("/").unwrap_or(path), entry)?;
    }
    archive.into_inner()
}

/// Adds an entry.
pub(super) fn append<W: Write>(archive: &mut Builder<W>, path: &Path, entry: &Entry) -> io::Result<()> {
    match entry {
        Entry::Directory { mode } => {
            let mut header = header(EntryType::Directory, *mode, 0);
            archive.append_data(&mut header, path.join(""), io::empty())
        }
        Entry::File { mode, data } => append_file(archive, path, *mode, data),
        Entry::Link { target } => {
            let mut header = header(EntryType::Symlink, 0o777, 0);
            archive.append_link(&mut header, path, target)
        }
    }
}

/// Adds a file.
pub(super) fn append_file<W: Write>(archive: &mut Builder<W>, path: &Path, mode: u32, data: &[u8]) -> io::Result<()> {
    archive.append_data(&mut header(EntryType::Regular, mode, data.len() as u64), path, data)
}

/// A header that is the same in every build.
fn header(kind: EntryType, mode: u32, size: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(size);
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    header
}
