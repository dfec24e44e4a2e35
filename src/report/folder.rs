//! Run folder, written while the run goes on.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Write},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;
use thiserror::Error;

use super::summary::{RUN_SCHEMA_VERSION, RunSummary};
use crate::{
    clock::timestamp,
    node::{NodeSummary, write_json},
    secret::private_folder,
};

/// Oldest version of `summary.json` that [`RunFolder::read_summary`] reads: later versions only added fields to it.
pub(crate) const OLDEST_READABLE: u32 = 2;

/// Attempts to take a folder that another run removes meanwhile.
const TRIES: usize = 100;

/// Reasons why a folder can't be used.
#[derive(Debug, Error)]
pub enum FolderError {
    /// The folder is not empty.
    #[error("{0} is not empty: give another --output, or empty it")]
    NotEmpty(PathBuf),
    /// The folder has no summary.
    #[error("{0} is not the folder of a run that has ended: it has no summary.json")]
    NoSummary(PathBuf),
    /// The summary is of a version that this program does not know.
    #[error(
        "{path} has version {version} of the schema, and this program reads versions {OLDEST_READABLE} to \
         {RUN_SCHEMA_VERSION}: use the program that wrote it"
    )]
    Version {
        /// Path of the summary.
        path: PathBuf,
        /// Its version.
        version: u64,
    },
    /// A file does not have the expected content.
    #[error("{path}: {error}")]
    Unreadable {
        /// Path of the file.
        path: PathBuf,
        /// Error in its content.
        error: serde_json::Error,
    },
    /// Another program writes into the folder now.
    #[error("{0} is in use by another run: give another --output")]
    InUse(PathBuf),
    /// The system refuses.
    #[error("{path}: {error}")]
    Io {
        /// Path of the file or folder.
        path: PathBuf,
        /// Error of the system.
        error: io::Error,
    },
}

/// Names of the files of a run. As long as this value or a clone of it exists, no other program takes the folder.
#[derive(Clone, Debug)]
pub struct RunFolder {
    root: PathBuf,
    /// True if the folder existed before this program started.
    resumed: bool,
    /// None for a folder that is only read.
    held: Option<Arc<Held>>,
}

/// A folder that this process has locked.
#[derive(Debug)]
struct Held {
    root: PathBuf,
    /// The folder itself, locked. The kernel removes the lock when this process ends in any way; no child inherits it.
    _lock: File,
    /// Folders that were made for it, the outermost first.
    made: Vec<PathBuf>,
}

impl Drop for Held {
    fn drop(&mut self) {
        // A writer that was killed has left these files.
        for folder in [self.root.clone(), self.root.join("nodes")] {
            let files = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
            for partial in files.filter(|path| path.extension().is_some_and(|extension| extension == "partial")) {
                let _ = fs::remove_file(partial);
            }
        }
    }
}

impl Held {
    fn take(output: Option<&Path>) -> Result<Self, FolderError> {
        let failed = |path: &Path, error| FolderError::Io { path: path.into(), error };
        let Some(root) = output else {
            let prefix = format!("broadcast-network-stress-test-{}", timestamp().strftime("%Y-%m-%d-%H-%M-%S"));
            let root = private_folder(&prefix).map_err(|(path, error)| FolderError::Io { path, error })?;
            return Self::lock(&root, vec![root.clone()])?.ok_or(FolderError::InUse(root));
        };
        for _ in 0..TRIES {
            let made = make(root).map_err(|(path, error)| failed(&path, error))?;
            if let Some(held) = Self::lock(root, made)? {
                return Ok(held);
            }
        }
        // A symbolic link without a target, most likely.
        Err(failed(root, io::ErrorKind::NotFound.into()))
    }

    /// Locks a folder. Returns none if the folder was removed meanwhile.
    fn lock(root: &Path, made: Vec<PathBuf>) -> Result<Option<Self>, FolderError> {
        let failed = |error| FolderError::Io { path: root.into(), error };
        let lock = match File::open(root) {
            Ok(lock) => lock,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(error)),
        };
        // On a file system without locks, only one run can make the folders in it.
        if matches!(lock.try_lock(), Err(TryLockError::WouldBlock)) {
            return Err(FolderError::InUse(root.into()));
        }
        let locked = lock.metadata().map_err(failed)?;
        let there = fs::metadata(root).is_ok_and(|there| (there.dev(), there.ino()) == (locked.dev(), locked.ino()));
        if !there {
            return Ok(None);
        }
        // A relative path would mean something else in a node that runs on another host.
        let path = fs::canonicalize(root).map_err(failed)?;
        let made = made.iter().filter_map(|folder| fs::canonicalize(folder).ok()).collect();
        Ok(Some(Self { root: path, _lock: lock, made }))
    }
}

/// Makes a folder and its missing parents. Returns the folders that were made, the outermost first.
fn make(root: &Path) -> Result<Vec<PathBuf>, (PathBuf, io::Error)> {
    let mut missing: Vec<&Path> =
        root.ancestors().take_while(|path| !path.as_os_str().is_empty() && !path.exists()).collect();
    let mut made = vec![];
    while let Some(folder) = missing.pop() {
        match fs::create_dir(folder) {
            Ok(()) => made.push(folder.to_owned()),
            // Another run has made the folder just now.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => {
                made.iter().rev().for_each(|folder| drop(fs::remove_dir(folder)));
                return Err((folder.into(), error));
            }
        }
    }
    Ok(made)
}

impl RunFolder {
    /// Takes or makes an empty folder, and makes its sub-folders; without `output`, a new folder among the temporary
    /// files that only this user can enter.
    ///
    /// # Errors
    /// Fails if it is not empty, in use, or can't be written.
    pub fn create(output: Option<&Path>) -> Result<Self, FolderError> {
        Self::fill(Held::take(output)?)
    }

    fn fill(held: Held) -> Result<Self, FolderError> {
        let failed = |path: &Path, error: io::Error| FolderError::Io { path: path.into(), error };
        let root = held.root.clone();
        if fs::read_dir(&root).map_err(|error| failed(&root, error))?.next().is_some() {
            return Err(FolderError::NotEmpty(root));
        }
        let folder = Self { root, resumed: false, held: Some(Arc::new(held)) };
        for path in [folder.root.join("logs"), folder.root.join("nodes")] {
            if let Err(error) = fs::create_dir(&path) {
                folder.discard();
                return Err(failed(&path, error));
            }
        }
        Ok(folder)
    }

    /// Folder of a run that was started and has no result yet; otherwise a new folder.
    ///
    /// # Errors
    /// Fails if it holds something else, is in use, or can't be written.
    pub fn resume(output: Option<&Path>) -> Result<Self, FolderError> {
        let held = Held::take(output)?;
        let (start, summary) = (held.root.join("start.json"), held.root.join("summary.json"));
        if start.is_file() && !summary.exists() {
            return Ok(Self { root: held.root.clone(), resumed: true, held: Some(Arc::new(held)) });
        }
        Self::fill(held)
    }

    /// Removes the folders that [`Self::create`] has made, and the files that were written before a run that never
    /// started. Anything else stays, and so does a run that was started before.
    pub fn discard(&self) {
        if self.resumed {
            return;
        }
        let _ = fs::remove_file(self.manifest());
        let _ = fs::remove_file(self.scenario());
        let _ = fs::remove_dir_all(self.observe());
        for program in ["prometheus", "grafana"] {
            let _ = fs::remove_file(self.log(program));
        }
        for path in [self.root.join("logs"), self.root.join("nodes"), self.profiles()] {
            // A folder that is not empty is not removed.
            let _ = fs::remove_dir(path);
        }
        let made = self.held.iter().flat_map(|held| held.made.iter().rev());
        made.for_each(|folder| drop(fs::remove_dir(folder)));
    }

    /// The folder itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Request of the run, its place, and the program.
    pub fn manifest(&self) -> PathBuf {
        self.root.join("manifest.json")
    }

    /// Facts about the start of a run over remote nodes, which the program that collects it needs.
    pub fn start(&self) -> PathBuf {
        self.root.join("start.json")
    }

    /// The result.
    pub fn summary(&self) -> PathBuf {
        self.root.join("summary.json")
    }

    /// Time series: one line a second during the run.
    pub fn time_series(&self) -> PathBuf {
        self.root.join("timeseries.jsonl")
    }

    /// One line for each trial of explore mode.
    pub fn trials(&self) -> PathBuf {
        self.root.join("trials.jsonl")
    }

    /// Observations of the runner, which give the result together with the summaries of the nodes.
    pub fn observations(&self) -> PathBuf {
        self.root.join("observations.json")
    }

    /// Arrivals of the sampled messages at all nodes.
    pub fn arrivals(&self) -> PathBuf {
        self.root.join("arrivals.parquet")
    }

    /// The resolved scenario, which is sufficient to repeat the run.
    pub fn scenario(&self) -> PathBuf {
        self.root.join("scenario.toml")
    }

    /// Writes the resolved scenario.
    ///
    /// # Errors
    /// Fails if the system refuses.
    pub fn write_scenario(&self, text: &str) -> Result<(), FolderError> {
        let path = self.scenario();
        fs::write(&path, text).map_err(|error| FolderError::Io { path, error })
    }

    /// Configuration of a node that was started on this machine.
    pub fn node_config(&self, node: u64) -> PathBuf {
        self.root.join(format!("nodes/node-{node}.toml"))
    }

    /// Summary of a node's last life.
    pub fn node_summary(&self, node: u64) -> PathBuf {
        self.root.join(format!("nodes/node-{node}.json"))
    }

    /// Summary of an earlier life of a node that was killed; lives are numbered from 1.
    pub fn life_summary(&self, node: u64, life: usize) -> PathBuf {
        self.root.join(format!("nodes/node-{node}.{life}.json"))
    }

    /// Writes the summaries that give the result: those of ended `lives`, in their order, and the `latest` of the nodes
    /// that existed at the end. The file of any other node is removed, because it belongs to an ended life.
    ///
    /// # Errors
    /// Fails if the system refuses.
    pub fn write_nodes<'a>(
        &self,
        lives: &[NodeSummary],
        latest: impl Iterator<Item = &'a NodeSummary>,
    ) -> Result<(), FolderError> {
        let mut count: BTreeMap<u64, usize> = BTreeMap::new();
        for life in lives {
            let number = count.entry(life.node).or_default();
            *number += 1;
            self.write_json(&self.life_summary(life.node, *number), life)?;
        }
        let mut left: BTreeSet<u64> = count.into_keys().collect();
        for summary in latest {
            left.remove(&summary.node);
            self.write_json(&self.node_summary(summary.node), summary)?;
        }
        for node in left {
            let _ = fs::remove_file(self.node_summary(node));
        }
        Ok(())
    }

    /// Summaries that [`Self::write_nodes`] has written, for each node in the order of its lives.
    ///
    /// # Errors
    /// Fails if a file can't be read, or holds something else.
    pub fn read_nodes(&self) -> Result<Vec<NodeSummary>, FolderError> {
        let nodes = self.root.join("nodes");
        let entries = fs::read_dir(&nodes).map_err(|error| FolderError::Io { path: nodes, error })?;
        let mut files: Vec<(u64, usize, PathBuf)> = vec![];
        for entry in entries.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let Some(name) = name.strip_prefix("node-").and_then(|name| name.strip_suffix(".json")) else { continue };
            let (node, life) = name.split_once('.').map_or((name, None), |(node, life)| (node, Some(life)));
            let life = life.map_or(Some(usize::MAX), |life| life.parse().ok());
            files.extend(node.parse().ok().zip(life).map(|(node, life)| (node, life, entry.path())));
        }
        files.sort();
        files.iter().map(|(_, _, path)| self.read_json(path)).collect()
    }

    /// Reads a value that was written as JSON.
    ///
    /// # Errors
    /// Fails if the file can't be read, or holds something else.
    pub fn read_json<T: DeserializeOwned>(&self, path: &Path) -> Result<T, FolderError> {
        let text = fs::read(path).map_err(|error| FolderError::Io { path: path.into(), error })?;
        serde_json::from_slice(&text).map_err(|error| FolderError::Unreadable { path: path.into(), error })
    }

    /// A folder that is only read.
    pub fn at(root: &Path) -> Self {
        Self { root: root.into(), resumed: true, held: None }
    }

    /// The result that the run has left, of this version or of an older one.
    ///
    /// # Errors
    /// Fails if there is none, or if this program can't read it.
    pub fn read_summary(&self) -> Result<RunSummary, FolderError> {
        let path = self.summary();
        if !path.is_file() {
            return Err(FolderError::NoSummary(self.root.clone()));
        }
        let value: Value = self.read_json(&path)?;
        let version = value["schema_version"].as_u64().unwrap_or_default();
        if !(u64::from(OLDEST_READABLE)..=u64::from(RUN_SCHEMA_VERSION)).contains(&version) {
            return Err(FolderError::Version { path, version });
        }
        serde_json::from_value(value).map_err(|error| FolderError::Unreadable { path, error })
    }

    /// Names of the profiles, relative to the folder, in alphabetical order.
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

    /// Log of a monitoring program.
    pub fn log(&self, program: &str) -> PathBuf {
        self.root.join(format!("logs/{program}.log"))
    }

    /// Configuration and data of Prometheus and Grafana.
    pub fn observe(&self) -> PathBuf {
        self.root.join("observe")
    }

    /// Writes a value as JSON, completely or not at all.
    ///
    /// # Errors
    /// Fails if the system refuses.
    pub fn write_json(&self, path: &Path, value: &impl Serialize) -> Result<(), FolderError> {
        write_json(path, value).map_err(|error| FolderError::Io { path: path.into(), error })
    }

    /// Appends a value as one line of JSON.
    ///
    /// # Errors
    /// Fails if the system refuses.
    pub fn append_json(&self, path: &Path, value: &impl Serialize) -> Result<(), FolderError> {
        let append = || -> io::Result<()> {
            let mut line = serde_json::to_vec(value)?;
            line.push(b'\n');
            let mut file = OpenOptions::new().create(true).append(true).open(path)?;
            let before = file.metadata()?.len();
            // A partial line would spoil the next one.
            file.write_all(&line).inspect_err(|_| drop(file.set_len(before)))
        };
        append().map_err(|error| FolderError::Io { path: path.into(), error })
    }
}
