//! The folder that a run leaves behind, written as the run goes.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
};

use serde::Serialize;
use thiserror::Error;

use crate::node::write_json;

/// The folder can't be used.
#[derive(Debug, Error)]
pub enum FolderError {
    /// It holds something already.
    #[error("{0} is not empty: give another --output, or empty it")]
    NotEmpty(PathBuf),
    /// The system refuses.
    #[error("{path}: {error}")]
    Io {
        /// What was written.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
}

/// Names of the files of a run.
#[derive(Clone, Debug)]
pub struct RunFolder {
    root: PathBuf,
    /// It was there before this program ran.
    resumed: bool,
}

impl RunFolder {
    /// Creates an empty folder with its sub-folders.
    ///
    /// # Errors
    /// When it is not empty, or can't be written.
    pub fn create(root: &Path) -> Result<Self, FolderError> {
        let failed = |path: &Path, error: io::Error| FolderError::Io { path: path.into(), error };
        if fs::read_dir(root).is_ok_and(|mut entries| entries.next().is_some()) {
            return Err(FolderError::NotEmpty(root.into()));
        }
        let folder = Self { root: root.into(), resumed: false };
        for path in [folder.root.clone(), folder.root.join("logs"), folder.root.join("nodes")] {
            fs::create_dir_all(&path).map_err(|error| failed(&path, error))?;
        }
        // Relative paths would change their meaning in a node that runs elsewhere.
        let root = fs::canonicalize(root).map_err(|error| failed(root, error))?;
        Ok(Self { root, resumed: false })
    }

    /// The folder of a run that was begun and has no result yet; a new one otherwise.
    ///
    /// # Errors
    /// When it holds something else, or can't be written.
    pub fn resume(root: &Path) -> Result<Self, FolderError> {
        let folder = Self { root: root.into(), resumed: true };
        if !folder.begun().is_file() || folder.summary().exists() {
            return Self::create(root);
        }
        let root = fs::canonicalize(root).map_err(|error| FolderError::Io { path: root.into(), error })?;
        Ok(Self { root, ..folder })
    }

    /// Takes away what [`Self::create`] has made, and what was written before a run that never started; anything else in
    /// it stays, and so does a run that was begun before.
    pub fn discard(&self) {
        if self.resumed {
            return;
        }
        let _ = fs::remove_file(self.manifest());
        let _ = fs::remove_dir_all(self.observe());
        for program in ["prometheus", "grafana"] {
            let _ = fs::remove_file(self.log(program));
        }
        for path in [self.root.join("logs"), self.root.join("nodes"), self.profiles(), self.root.clone()] {
            // One that holds something is not removed.
            let _ = fs::remove_dir(path);
        }
    }

    /// The folder itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// What was asked for, where, and by which program.
    pub fn manifest(&self) -> PathBuf {
        self.root.join("manifest.json")
    }

    /// What whoever collects a run must know of its beginning, if the nodes run elsewhere.
    pub fn begun(&self) -> PathBuf {
        self.root.join("begun.json")
    }

    /// The result.
    pub fn summary(&self) -> PathBuf {
        self.root.join("summary.json")
    }

    /// One line a second while the run goes.
    pub fn time_series(&self) -> PathBuf {
        self.root.join("timeseries.jsonl")
    }

    /// One line for each trial of explore mode.
    pub fn trials(&self) -> PathBuf {
        self.root.join("trials.jsonl")
    }

    /// What a node said of itself.
    pub fn node_summary(&self, node: u64) -> PathBuf {
        self.root.join(format!("nodes/node-{node}.json"))
    }

    /// The profiles that were made, relative to the folder, in the order of their names.
    pub fn profile_names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.profiles()).into_iter().flatten().flatten();
        let names = entries.map(|entry| format!("profiles/{}", entry.file_name().to_string_lossy()));
        let mut names: Vec<String> = names.filter(|name| !name.ends_with(".data")).collect();
        names.sort();
        names
    }

    /// Folder of the nodes' profiles.
    pub fn profiles(&self) -> PathBuf {
        self.root.join("profiles")
    }

    /// A node's log.
    pub fn node_log(&self, node: u64) -> PathBuf {
        self.root.join(format!("logs/node-{node}.log"))
    }

    /// The log of a program that watches the run.
    pub fn log(&self, program: &str) -> PathBuf {
        self.root.join(format!("logs/{program}.log"))
    }

    /// What Prometheus and Grafana are told, and what they keep.
    pub fn observe(&self) -> PathBuf {
        self.root.join("observe")
    }

    /// Writes a value as JSON, whole or not at all.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn write_json(&self, path: &Path, value: &impl Serialize) -> Result<(), FolderError> {
        write_json(path, value).map_err(|error| FolderError::Io { path: path.into(), error })
    }

    /// Appends a value as one line of JSON.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn append_json(&self, path: &Path, value: &impl Serialize) -> Result<(), FolderError> {
        let append = || -> io::Result<()> {
            let mut line = serde_json::to_vec(value)?;
            line.push(b'\n');
            OpenOptions::new().create(true).append(true).open(path)?.write_all(&line)
        };
        append().map_err(|error| FolderError::Io { path: path.into(), error })
    }
}
