//! Text that nobody can guess, and files that nobody else can read.

use std::{
    fs::{DirBuilder, OpenOptions, Permissions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use tempfile::TempDir;

/// A random number of 128 bits, as text.
///
/// # Errors
/// Errors of reading the kernel's random numbers.
pub fn secret() -> io::Result<String> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(io::Error::other)?;
    Ok(u128::from_ne_bytes(bytes).to_string())
}

/// Makes a folder of temporary files that only this user can enter. Its name begins with `prefix` and can't be
/// predicted, because other users may write beside it.
///
/// # Errors
/// Errors of the file system, with the path.
pub fn private_folder(prefix: &str) -> Result<PathBuf, (PathBuf, io::Error)> {
    let parent = std::env::temp_dir();
    let private = Permissions::from_mode(0o700);
    let made = tempfile::Builder::new().prefix(&format!("{prefix}-")).permissions(private).tempdir_in(&parent);
    made.map(TempDir::keep).map_err(|error| (parent, error))
}

/// Makes a folder that only this user can enter; it must not exist yet.
///
/// # Errors
/// Errors of the file system.
pub fn make_private(path: &Path) -> io::Result<()> {
    DirBuilder::new().mode(0o700).create(path)
}

/// Writes a new file that only this user can read.
///
/// # Errors
/// Errors of the file system; a file that is there already is one.
pub fn write_private(path: &Path, text: &[u8]) -> io::Result<()> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?.write_all(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_private_folder_is_new_each_time_and_closed_to_others() {
        let folders = [private_folder("apollo-test").unwrap(), private_folder("apollo-test").unwrap()];
        assert_ne!(folders[0], folders[1]);
        for folder in folders {
            assert_eq!(std::fs::metadata(&folder).unwrap().permissions().mode() & 0o777, 0o700);
            let file = folder.join("key");
            write_private(&file, b"x").unwrap();
            assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
            assert!(write_private(&file, b"y").is_err());
            std::fs::remove_dir_all(folder).unwrap();
        }
    }
}
