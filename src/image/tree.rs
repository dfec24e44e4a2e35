//! Files of an image, and symbolic links among them as the host has them.

use std::{
    collections::{BTreeMap, VecDeque},
    ffi::OsString,
    fs,
    path::{Component, Path, PathBuf},
};

use super::error::ImageError;

/// Maximum number of symbolic links on the way to one file, as in Linux.
const MOST_LINKS: usize = 40;

/// Entry at a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Entry {
    Directory { mode: u32 },
    File { mode: u32, data: Vec<u8> },
    Link { target: PathBuf },
}

/// Entries by absolute path. The directory of every entry is an entry too, and no entry is reached through a symbolic
/// link.
#[derive(Debug, Default)]
pub(super) struct Tree {
    entries: BTreeMap<PathBuf, Entry>,
}

impl Tree {
    /// All entries, each after its directory.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&Path, &Entry)> {
        self.entries.iter().map(|(path, entry)| (path.as_path(), entry))
    }

    /// True if an entry exists at a path without symbolic links in it.
    pub(super) fn contains(&self, path: &Path) -> bool {
        self.entries.contains_key(path)
    }

    /// Bytes in all files.
    pub(super) fn size(&self) -> u64 {
        let sizes = self.entries.values().map(|entry| match entry {
            Entry::File { data, .. } => data.len() as u64,
            Entry::Directory { .. } | Entry::Link { .. } => 0,
        });
        sizes.sum()
    }

    /// Adds an entry at an absolute path without symbolic links in it, and the directories above it.
    pub(super) fn put(&mut self, path: &Path, entry: Entry) -> Result<(), ImageError> {
        for above in path.ancestors().skip(1).filter(|above| above.parent().is_some()) {
            match self.entries.get(above) {
                None => {
                    self.entries.insert(above.to_owned(), Entry::Directory { mode: 0o755 });
                }
                Some(Entry::Directory { .. }) => {}
                Some(_) => return Err(clash(above)),
            }
        }
        match self.entries.get(path) {
            Some(present) if *present == entry => {}
            // The directory may have a mode of its own.
            Some(Entry::Directory { .. }) if matches!(entry, Entry::Directory { .. }) => {}
            Some(_) => return Err(clash(path)),
            None => {
                self.entries.insert(path.to_owned(), entry);
            }
        }
        Ok(())
    }

    /// Copies a file of the host, so that the path leads to it through the same symbolic links as on the host.
    pub(super) fn put_from_host(&mut self, path: &Path, mode: u32) -> Result<(), ImageError> {
        let mut left: VecDeque<OsString> = parts(path);
        let mut at = PathBuf::from("/");
        let mut links = 0;
        while let Some(part) = left.pop_front() {
            if part == ".." {
                at.pop();
                continue;
            }
            let next = at.join(&part);
            let kind = fs::symlink_metadata(&next).map_err(|error| ImageError::io(&next, &error))?.file_type();
            if kind.is_symlink() {
                links += 1;
                if links > MOST_LINKS {
                    return Err(ImageError::Failed(format!("{}: links in a circle", path.display())));
                }
                let target = fs::read_link(&next).map_err(|error| ImageError::io(&next, &error))?;
                if target.is_absolute() {
                    at = PathBuf::from("/");
                }
                for part in parts(&target).into_iter().rev() {
                    left.push_front(part);
                }
                self.put(&next, Entry::Link { target })?;
            } else {
                if kind.is_dir() {
                    self.put(&next, Entry::Directory { mode: 0o755 })?;
                }
                at = next;
            }
        }
        if !self.contains(&at) {
            let data = fs::read(&at).map_err(|error| ImageError::io(&at, &error))?;
            self.put(&at, Entry::File { mode, data })?;
        }
        Ok(())
    }
}

fn clash(path: &Path) -> ImageError {
    ImageError::Failed(format!("{}: two entries would have this path in the image", path.display()))
}

fn parts(path: &Path) -> VecDeque<OsString> {
    let wanted = path.components().filter(|part| matches!(part, Component::Normal(_) | Component::ParentDir));
    wanted.map(|part| part.as_os_str().to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn kind(tree: &Tree, path: &Path) -> &'static str {
        match tree.entries.get(path) {
            Some(Entry::Directory { .. }) => "directory",
            Some(Entry::File { .. }) => "file",
            Some(Entry::Link { .. }) => "link",
            None => "nothing",
        }
    }

    #[test]
    fn links_on_the_way_are_kept_and_the_file_is_stored_once() {
        let folder = tempfile::tempdir().unwrap();
        let root = fs::canonicalize(folder.path()).unwrap();
        fs::create_dir_all(root.join("usr/lib64")).unwrap();
        fs::create_dir(root.join("real")).unwrap();
        fs::write(root.join("real/libx-1.so"), "x").unwrap();
        symlink("usr/lib64", root.join("lib64")).unwrap();
        symlink(root.join("real/libx.so"), root.join("usr/lib64/libx.so")).unwrap();
        symlink("../real/libx-1.so", root.join("real/libx.so")).unwrap();
        let mut tree = Tree::default();
        for path in ["lib64/libx.so", "usr/lib64/libx.so", "usr/../real/libx-1.so"] {
            tree.put_from_host(&root.join(path), 0o755).unwrap();
        }
        for (path, expected) in [
            ("lib64", "link"),
            ("lib64/libx.so", "nothing"),
            ("usr", "directory"),
            ("usr/lib64/libx.so", "link"),
            ("real/libx.so", "link"),
            ("real/libx-1.so", "file"),
        ] {
            assert_eq!(kind(&tree, &root.join(path)), expected, "{path}");
        }
        assert_eq!(tree.size(), 1);
    }

    #[test]
    fn links_in_a_circle_end() {
        let folder = tempfile::tempdir().unwrap();
        symlink("b", folder.path().join("a")).unwrap();
        symlink("a", folder.path().join("b")).unwrap();
        let error = Tree::default().put_from_host(&folder.path().join("a"), 0o755).unwrap_err();
        assert!(error.to_string().contains("circle"), "{error}");
    }

    #[test]
    fn two_things_at_one_path_are_an_error() {
        let mut tree = Tree::default();
        tree.put(Path::new("/tmp"), Entry::Directory { mode: 0o1777 }).unwrap();
        tree.put(Path::new("/tmp/x/y"), Entry::File { mode: 0o644, data: vec![] }).unwrap();
        assert_eq!(tree.entries[Path::new("/tmp")], Entry::Directory { mode: 0o1777 });
        assert!(tree.put(Path::new("/tmp"), Entry::Link { target: "/x".into() }).is_err());
        assert!(tree.put(Path::new("/tmp/x/y/z"), Entry::Directory { mode: 0o755 }).is_err());
    }
}
