//! Program of the nodes: the file as it was when the run began, even if it is replaced meanwhile.

use std::{
    fs::{File, Metadata},
    io::Read,
    os::{fd::AsRawFd, unix::fs::MetadataExt},
    path::{Path, PathBuf},
};

/// A program that is started from the file that was opened at the beginning, not by its name.
pub(super) struct Program {
    path: PathBuf,
    file: File,
    identity: Identity,
    /// A script is started by its name, because its interpreter gets the name, and the script may use its own place.
    script: bool,
}

/// Identity of a file, and its content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Identity {
    file: (u64, u64),
    content: (u64, i64, i64),
}

impl Identity {
    fn of(file: &Metadata) -> Self {
        Self { file: (file.dev(), file.ino()), content: (file.size(), file.mtime(), file.mtime_nsec()) }
    }
}

impl Program {
    /// Opens the program with this name; or this process's own program, which runs even if its file was replaced.
    ///
    /// # Errors
    /// Fails if the program can't be read; one line without its name.
    pub(super) fn open(path: Option<&Path>) -> Result<Self, String> {
        let line = |error: std::io::Error| error.to_string();
        let own = || std::env::current_exe().map_err(line);
        let named = path.map_or_else(own, |path| Ok(path.to_owned()))?;
        let mut file = File::open(path.unwrap_or(Path::new("/proc/self/exe"))).map_err(line)?;
        let metadata = file.metadata().map_err(line)?;
        if !metadata.is_file() {
            return Err("it is no file".into());
        }
        let mut begin = vec![];
        (&mut file).take(2).read_to_end(&mut begin).map_err(line)?;
        Ok(Self { path: named, identity: Identity::of(&metadata), script: begin == b"#!", file })
    }

    /// Path of the program when the run began.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Path by which the kernel starts it now.
    ///
    /// # Errors
    /// Fails if the present program is not the one that the run began with.
    pub(super) fn executable(&self) -> Result<PathBuf, String> {
        let again = "a restarted node must run the program that the run began with: leave the file alone during \
                     the run, or replace it by renaming another over it";
        let now = self.file.metadata().map_err(|error| error.to_string())?;
        if Identity::of(&now) != self.identity {
            return Err(format!("the program was written to since the run began; {again}"));
        }
        if !self.script {
            // By this process's descriptor, because a child's descriptor may be another file by then.
            return Ok(format!("/proc/{}/fd/{}", std::process::id(), self.file.as_raw_fd()).into());
        }
        let named = self.path.metadata().map_err(|error| format!("the script no longer exists: {error}"))?;
        if Identity::of(&named) != self.identity {
            return Err("another script is in its place since the run began; leave it alone during the run".into());
        }
        Ok(self.path.clone())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// Bytes of the file that would be started.
    fn starts(program: &Program) -> Vec<u8> {
        fs::read(program.executable().unwrap()).unwrap()
    }

    #[test]
    fn a_program_that_is_replaced_or_removed_is_started_as_it_was_and_one_that_is_written_to_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("program");
        fs::write(&path, "first").unwrap();
        let program = Program::open(Some(&path)).unwrap();
        fs::write(folder.path().join("other"), "other").unwrap();
        fs::rename(folder.path().join("other"), &path).unwrap();
        assert_eq!(starts(&program), b"first");
        let other = Program::open(Some(&path)).unwrap();
        fs::remove_file(&path).unwrap();
        assert_eq!((starts(&program), starts(&other)), (b"first".to_vec(), b"other".to_vec()));

        fs::write(&path, "first").unwrap();
        let program = Program::open(Some(&path)).unwrap();
        fs::write(&path, "second").unwrap();
        assert!(program.executable().unwrap_err().contains("was written to since the run began"));
    }

    #[test]
    fn a_script_is_started_by_its_name_as_long_as_it_is_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("script");
        fs::write(&path, "#!/bin/sh\n").unwrap();
        let program = Program::open(Some(&path)).unwrap();
        assert_eq!(program.executable().unwrap(), path);
        fs::write(folder.path().join("other"), "#!/bin/sh\n").unwrap();
        fs::rename(folder.path().join("other"), &path).unwrap();
        assert!(program.executable().unwrap_err().starts_with("another script"));
        assert!(Program::open(Some(folder.path())).is_err());
    }
}
