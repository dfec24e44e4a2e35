//! Profiles of the nodes: by perf from outside, or by the profiler that is built into them.

use std::{
    fs::File,
    io::{BufReader, Write},
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
};

use inferno::{
    collapse::{
        Collapse,
        perf::{Folder, Options as PerfOptions},
    },
    flamegraph,
};
use nix::sys::signal::Signal;
use tokio::process::{Child, Command};

use crate::{
    children::{kill_group, tether},
    deploy::Deployment,
    node::{ProfileMode, UsageError, value_name},
};

/// Samples per second of processor time: enough for a picture, and no divisor of any interval of the workload.
const HZ: &str = "97";

/// Bytes of stack that perf stores with each sample to follow the calls; deeper parts are cut off.
const STACK: &str = "dwarf,16384";

/// Profiler of the nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Profiler {
    /// perf, beside each node.
    Perf,
    /// Each node profiles itself.
    BuiltIn(ProfileMode),
}

/// Profiler for a profile on this machine, of this program's own nodes or of another program.
///
/// # Errors
/// Fails if there is none, with the way to get one.
pub(crate) fn find_profiler(mode: ProfileMode, other_program: bool) -> Result<Profiler, UsageError> {
    // The features of another program are unknown; the program itself reports that it can't profile.
    let built_in = mode.is_built_in() || other_program;
    let with_feature = || {
        let feature = mode.feature();
        format!("cargo run --release --features {feature} -- local --profile --profile-mode {}", value_name(&mode))
    };
    match mode {
        ProfileMode::Cpu if !mode.is_built_in() => match perf_works() {
            Ok(()) => Ok(Profiler::Perf),
            Err(_) if other_program => Ok(Profiler::BuiltIn(mode)),
            Err(why) => Err(UsageError(format!(
                "--profile: {why}; install it (Debian: apt-get install linux-perf), or build with the sampler in the node: {}",
                with_feature()
            ))),
        },
        _ if built_in => Ok(Profiler::BuiltIn(mode)),
        _ => Err(UsageError(format!(
            "--profile-mode {} needs a build with its allocator: {}",
            value_name(&mode),
            with_feature()
        ))),
    }
}

/// Checks that perf exists and is permitted.
fn perf_works() -> Result<(), String> {
    let tried = std::process::Command::new("perf")
        .args(["record", "--quiet", "--output=/dev/null", "--freq", HZ, "--", "true"])
        .stdin(Stdio::null())
        .output();
    match tried {
        Err(error) => Err(format!("perf can't be run ({error})")),
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => {
            let words = String::from_utf8_lossy(&output.stderr);
            let first = words.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or("it prints nothing");
            Err(format!("perf is not allowed or does not work here ({first}); see sysctl kernel.perf_event_paranoid"))
        }
    }
}

/// Profile that a node writes itself.
pub(crate) fn node_file(folder: &Path, mode: ProfileMode, id: u64) -> PathBuf {
    let kind = match mode {
        ProfileMode::Cpu => "cpu.svg",
        ProfileMode::Mem => "heap.svg",
        ProfileMode::Dhat => "dhat.json",
    };
    folder.join(format!("node-{id}.{kind}"))
}

struct Recording {
    id: u64,
    child: Child,
    data: PathBuf,
}

/// Running perf processes.
#[derive(Default)]
pub(crate) struct Profiles {
    recordings: Vec<Recording>,
}

impl Profiles {
    /// Starts perf for each node, with recordings in a folder.
    pub(crate) fn start(
        &mut self,
        folder: &Path,
        ids: impl Iterator<Item = u64>,
        deployment: &dyn Deployment,
    ) -> Result<(), String> {
        for id in ids {
            let Some(process) = deployment.process(id) else { continue };
            let data = folder.join(format!("node-{id}.perf.data"));
            let mut command = Command::new("perf");
            command.args(["record", "--quiet", "--freq", HZ, "--call-graph", STACK]);
            command.arg("--output").arg(&data).arg("--pid").arg(process.to_string());
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            tether(&mut command);
            let child = command.spawn().map_err(|error| format!("perf: {error}"))?;
            self.recordings.push(Recording { id, child, data });
        }
        Ok(())
    }

    /// Stops perf; its recordings are turned into pictures later.
    pub(crate) async fn stop(&mut self) -> Result<(), String> {
        for recording in &self.recordings {
            kill_group(&recording.child, Signal::SIGINT);
        }
        for recording in &mut self.recordings {
            let status = recording.child.wait().await.map_err(|error| format!("perf: {error}"))?;
            if !recording.data.is_file() {
                return Err(format!("perf recorded nothing of node {} ({status})", recording.id));
            }
        }
        Ok(())
    }

    /// Draws a flame graph for each node that perf has recorded, and removes the recordings.
    pub(crate) fn draw(&mut self, tell: &mut dyn FnMut(&str)) -> Result<(), String> {
        let recordings = std::mem::take(&mut self.recordings);
        for Recording { id, data, .. } in recordings {
            tell(&format!("drawing the flame graph of node {id}"));
            let picture = data.with_file_name(format!("node-{id}.cpu.svg"));
            draw(&data, &picture, id).map_err(|error| format!("the flame graph of node {id}: {error}"))?;
            // The recordings are large, and useless without exactly these programs.
            let _ = std::fs::remove_file(&data);
        }
        Ok(())
    }
}

fn draw(data: &Path, picture: &Path, id: u64) -> Result<(), String> {
    let mut script = std::process::Command::new("perf")
        .args(["script", "--no-inline", "--force", "--input"])
        .arg(data)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| error.to_string())?;
    let output = script.stdout.take().ok_or("perf script prints nothing")?;
    let mut folded = vec![];
    let collapsed = Folder::from(PerfOptions::default()).collapse(BufReader::new(output), &mut folded);
    let status: ExitStatus = script.wait().map_err(|error| error.to_string())?;
    if !status.success() {
        return Err(format!("perf script ended with {status}"));
    }
    collapsed.map_err(|error| error.to_string())?;
    let text = String::from_utf8_lossy(&folded);
    if text.trim().is_empty() {
        return Err("no sample was taken: the node used no processor time".into());
    }
    let mut options = flamegraph::Options::default();
    options.title = format!("Processor time of node {id} in the measured window");
    let mut file = File::create(picture).map_err(|error| error.to_string())?;
    flamegraph::from_lines(&mut options, text.lines(), &mut file).map_err(|error| error.to_string())?;
    file.flush().map_err(|error| error.to_string())
}
