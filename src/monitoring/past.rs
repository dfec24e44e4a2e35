//! Prometheus and Grafana over a copy of the data of a past run, whose folder stays as it is.

use std::{
    fs::{self, File, TryLockError},
    io,
    path::{Path, PathBuf},
    time::SystemTime,
};

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;

use super::{
    config::{Kept, Monitoring, ObserveArgs, SCRAPE_SECONDS},
    processes::{Observers, Range, Work, runs_of},
};
use crate::{
    dashboards::Configuration, deploy::StartError, secret::private_folder, signals::Interrupts, terminal::tell,
};

/// Facts of a manifest that the time range needs.
#[derive(Deserialize)]
struct Started {
    started: Timestamp,
}

/// A folder that is removed in the end.
struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        // A rest that can't be removed lies among the temporary files.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Serves a copy of the data that Prometheus has stored in the folder of a run, with Grafana at the run's time range,
/// until Ctrl-C. Nothing is written into the folder.
///
/// # Errors
/// Usage errors if the folder has no such data, its run goes on, or a program or port is missing.
pub(crate) async fn show_past(root: &Path, args: &ObserveArgs) -> Result<(), StartError> {
    let stored = root.join("observe/prometheus");
    if !stored.is_dir() {
        let root = root.display();
        return Err(StartError::Usage(format!("{root} has no data of Prometheus: only a run with --observe has it")));
    }
    let _unchanged = not_in_use(root)?;
    let args = ObserveArgs { observe: true, ..args.clone() };
    let monitoring = Monitoring::new(&args, &[]).map_err(|error| StartError::Usage(error.to_string()))?;
    let Some(monitoring) = monitoring.filter(|monitoring| monitoring.prometheus.is_some()) else {
        let line = "prometheus is not on the PATH (Debian: apt-get install prometheus), and it has to read the data";
        return Err(StartError::Usage(line.into()));
    };
    // Ctrl-C ends the copying too, and removes the copy.
    let mut interrupts = Interrupts::new().map_err(|error| StartError::Failed(error.to_string()))?;
    let mut observers = Observers::default();
    let scratch = private_folder("apollo-past-run").map_err(|(path, error)| failed(&path, &error))?;
    let scratch = Scratch(scratch);
    let begun = tokio::select! {
        begun = begin(root, &stored, &scratch.0, &monitoring, &mut observers) => begun,
        _ = interrupts.next() => Ok(()),
    };
    if begun.is_ok() && interrupts.come().is_none() {
        observers.stay_open("This is a copy of the run's data; the run's folder does not change. ").await;
    }
    observers.end(None, false).await;
    begun
}

fn failed(path: &Path, error: &io::Error) -> StartError {
    StartError::Failed(format!("{}: {error}", path.display()))
}

/// Takes a lock that a run which goes on has; it ends with the returned file.
fn not_in_use(root: &Path) -> Result<File, StartError> {
    let folder = File::open(root).map_err(|error| failed(root, &error))?;
    match folder.try_lock_shared() {
        Err(TryLockError::WouldBlock) => {
            let root = root.display();
            Err(StartError::Usage(format!("{root} is in use by a run that goes on: look at its own Prometheus")))
        }
        // A file system without locks.
        Ok(()) | Err(TryLockError::Error(_)) => Ok(folder),
    }
}

async fn begin(
    root: &Path,
    stored: &Path,
    scratch: &Path,
    monitoring: &Monitoring,
    observers: &mut Observers,
) -> Result<(), StartError> {
    let (from, to) = (stored.to_owned(), scratch.join("prometheus"));
    let copied = tokio::task::spawn_blocking(move || copy(&from, &to)).await;
    copied.map_err(|error| StartError::Failed(error.to_string()))?.map_err(|error| failed(stored, &error))?;
    let configuration = Configuration::of_stored_data(SCRAPE_SECONDS);
    let range = range(root, stored);
    let logs = ["prometheus.log", "grafana.log"].map(|name| scratch.join(name));
    for missing in &monitoring.missing {
        tell(missing);
    }
    let named = async |port| {
        let run = runs_of(port).await?.into_iter().next().ok_or("the stored data has no series of a run")?;
        Ok(Range { run, ..range })
    };
    let work = Work { root: scratch, configuration: &configuration, kept: Kept::All, targets: 0, logs };
    observers.launch(monitoring, work, named, &|line| tell(line)).await.map_err(StartError::Failed)
}

/// Copies folders and files; everything else, as symbolic links to other places, is left out.
fn copy(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (kind, target) = (entry.file_type()?, to.join(entry.file_name()));
        if kind.is_dir() {
            copy(&entry.path(), &target)?;
        } else if kind.is_file() && entry.file_name() != "lock" {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

/// Time range of the run: the one that it wrote itself, or otherwise from its start to its last count, or to the last
/// change of the data.
fn range(root: &Path, stored: &Path) -> Range {
    if let Some(range) = stored.parent().and_then(Range::read) {
        return range;
    }
    let read = |name: &str| fs::read(root.join(name)).unwrap_or_default();
    let started = serde_json::from_slice::<Started>(&read("manifest.json")).map(|manifest| manifest.started).ok();
    let observed: Value = serde_json::from_slice(&read("observations.json")).unwrap_or_default();
    let ended = observed["ended_unix_nanos"].as_i64().and_then(|nanos| Timestamp::from_nanosecond(nanos.into()).ok());
    let to = ended.or_else(|| newest(&stored.join("wal"))).unwrap_or_else(crate::clock::timestamp);
    Range { run: String::new(), from: started.unwrap_or(Timestamp::UNIX_EPOCH).min(to), to: Some(to) }
}

/// Time of the last change of a file in a folder.
fn newest(folder: &Path) -> Option<Timestamp> {
    let files = fs::read_dir(folder).ok()?.flatten();
    let changed: Option<SystemTime> = files.filter_map(|file| file.metadata().ok()?.modified().ok()).max();
    Timestamp::try_from(changed?).ok()
}
