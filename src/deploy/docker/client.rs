//! Docker, used through its command line, which knows the user's contexts and sockets, and whose messages are those of
//! the manual.

use std::{collections::BTreeSet, io, process::Stdio, time::Duration};

use serde::Deserialize;
use thiserror::Error;
use tokio::process::Command;

use crate::{children::tether, clock::timeout, deploy::deployment::StartError};

/// Maximum time of a command; loading and starting on a busy machine take far less.
const TIMEOUT: Duration = Duration::from_secs(60);

/// Docker's text for a time that has not come.
pub(super) const NEVER: &str = "0001-01-01T00:00:00Z";

const WITHOUT: &str = "--backend netns needs no Docker";

/// Reason why a command of Docker failed.
#[derive(Debug, Error)]
pub(super) enum DockerError {
    /// The program `docker` does not exist.
    #[error("docker is not found in PATH: apt-get install docker.io; {WITHOUT}")]
    Missing,
    /// Docker's own message, in one line.
    #[error("{0}")]
    Refused(String),
}

impl DockerError {
    /// The error in one line, with the purpose of the command.
    fn unusable(&self) -> String {
        let line = self.to_string();
        let lower = line.to_lowercase();
        if matches!(self, Self::Missing) {
            line
        } else if lower.contains("permission denied") {
            format!(
                "this user may not use Docker ({line}): run as root, or join its group (sudo usermod -aG docker $USER) and \
                 log in again; {WITHOUT}"
            )
        } else if lower.contains("connect") {
            format!("Docker does not run ({line}): start it (sudo systemctl start docker); {WITHOUT}")
        } else {
            format!("Docker can't be used ({line}); {WITHOUT}")
        }
    }
}

/// Output of a command of Docker.
pub(super) struct Printed {
    pub(super) stdout: String,
    /// Lines of warnings.
    pub(super) warnings: BTreeSet<String>,
}

/// Makes a command of Docker that ends with this process, and that Ctrl-C at the terminal does not reach.
pub(super) fn command<S: AsRef<str>>(args: &[S]) -> Command {
    let mut command = Command::new("docker");
    command.args(args.iter().map(AsRef::as_ref)).stdin(Stdio::null());
    command.env("DOCKER_CLI_HINTS", "false");
    tether(&mut command);
    command
}

/// Runs a command of Docker to its end.
pub(super) async fn run<S: AsRef<str>>(args: &[S]) -> Result<Printed, DockerError> {
    run_with(args, None).await
}

/// Runs a command of Docker to its end, with a variable in its environment.
pub(super) async fn run_with<S: AsRef<str>>(
    args: &[S],
    variable: Option<(&str, &str)>,
) -> Result<Printed, DockerError> {
    let named = || args.first().map_or("", AsRef::as_ref);
    let mut command = command(args);
    command.envs(variable);
    let output = match timeout(TIMEOUT, command.output()).await {
        Err(_) => {
            let line = format!("docker {} did not end within {} s", named(), TIMEOUT.as_secs());
            return Err(DockerError::Refused(line));
        }
        Ok(Err(error)) if error.kind() == io::ErrorKind::NotFound => return Err(DockerError::Missing),
        Ok(Err(error)) => return Err(DockerError::Refused(format!("docker can't be run: {error}"))),
        Ok(Ok(output)) => output,
    };
    let stderr = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        return Err(DockerError::Refused(format!("docker {}: {}", named(), reason(&stderr))));
    }
    let warnings = stderr.lines().filter(|line| line.starts_with("WARNING")).map(str::to_owned).collect();
    Ok(Printed { stdout: String::from_utf8_lossy(&output.stdout).into_owned(), warnings })
}

/// Runs a command of Docker, and returns its output or its error message, in one line.
pub(super) async fn ask<S: AsRef<str>>(args: &[S]) -> Result<String, String> {
    run(args).await.map(|printed| printed.stdout).map_err(|error| error.to_string())
}

/// Message of a command in one line, without the parts that are meant for a terminal.
fn reason(text: &str) -> String {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let lines =
        lines.filter(|line| !line.starts_with("See '") && !line.starts_with("Run '") && *line != "exit status 1");
    let lines: Vec<&str> = lines
        .map(|line| line.trim_start_matches("docker: ").trim_start_matches("Error response from daemon: "))
        .collect();
    if lines.is_empty() { "it gives no reason".into() } else { lines.join("; ") }
}

/// The running Docker.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct Daemon {
    pub(super) kernel_version: String,
    os: String,
}

/// Checks that Docker can be used for nodes on this machine.
pub(super) async fn daemon() -> Result<Daemon, StartError> {
    let (version, host) = futures::join!(
        run(&["version", "--format", "{{json .Server}}"]),
        ask(&["context", "inspect", "--format", "{{.Endpoints.docker.Host}}"]),
    );
    let host = host.unwrap_or_default();
    if is_elsewhere(host.trim()) {
        return Err(StartError::Usage(format!(
            "Docker is at {}, and the ports of its containers are there too: use one of this machine (unset DOCKER_HOST, or \
             docker context use default)",
            host.trim()
        )));
    }
    let version = version.map_err(|error| StartError::Usage(error.unusable()))?;
    let daemon: Daemon = serde_json::from_str(&version.stdout).unwrap_or_default();
    if !["linux", ""].contains(&daemon.os.as_str()) {
        let line = format!("this Docker runs containers of {}: switch it to those of Linux", daemon.os);
        return Err(StartError::Usage(line));
    }
    Ok(daemon)
}

fn is_elsewhere(host: &str) -> bool {
    let Some((scheme, rest)) = host.split_once("://") else { return false };
    let local = ["localhost", "127.", "[::1]"].iter().any(|name| rest.starts_with(name));
    ["ssh", "tcp", "http", "https"].contains(&scheme) && !local
}

/// State of a container, as Docker reports it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct State {
    pub(super) running: bool,
    pub(super) paused: bool,
    #[serde(rename = "OOMKilled")]
    pub(super) out_of_memory: bool,
    pub(super) exit_code: i64,
    /// Reason why the container could not be started.
    pub(super) error: String,
    pub(super) started_at: String,
}

/// States of containers, in the order of their names.
pub(super) async fn states(names: &[&str]) -> Result<Vec<State>, String> {
    let mut args = vec!["inspect", "--type", "container", "--format", "{{json .State}}"];
    args.extend(names);
    let text = ask(&args).await?;
    let states: Result<Vec<State>, _> = text.lines().map(serde_json::from_str).collect();
    match states {
        Ok(states) if states.len() == names.len() => Ok(states),
        Ok(_) => Err("docker inspect reports other containers than the requested ones".into()),
        Err(error) => Err(format!("docker inspect can't be understood: {error}")),
    }
}

/// State of a container.
pub(super) async fn state(name: &str) -> Result<State, String> {
    states(&[name]).await?.pop().ok_or_else(|| format!("docker inspect does not report {name}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dockers_words_become_one_line() {
        let text =
            "Error response from daemon: No such image: x:latest\n\nRun 'docker run --help' for more information\n";
        assert_eq!(reason(text), "No such image: x:latest");
        assert_eq!(reason("docker: Error response from daemon: a\nb\nexit status 1\n"), "a; b");
        assert_eq!(reason(" \n"), "it gives no reason");
    }

    #[test]
    fn every_error_of_an_unusable_docker_names_the_fix() {
        for (words, way_out) in [
            ("permission denied while trying to connect to the Docker daemon socket", "usermod"),
            ("Cannot connect to the Docker daemon at unix:///var/run/docker.sock", "systemctl start"),
            ("failed to connect to the docker API at unix:///x; check if the path is correct", "systemctl start"),
            ("client version 1.50 is too new", "--backend netns"),
        ] {
            let line = DockerError::Refused(words.into()).unusable();
            assert!(line.contains(words) && line.contains(way_out), "{line}");
        }
        assert!(DockerError::Missing.unusable().contains("apt-get install"));
    }

    #[test]
    fn only_a_docker_on_this_machine_will_do() {
        for (host, elsewhere) in [
            ("unix:///var/run/docker.sock", false),
            ("tcp://localhost:2375", false),
            ("tcp://127.0.0.1:2375", false),
            ("tcp://10.0.0.1:2375", true),
            ("ssh://me@host", true),
            ("", false),
        ] {
            assert_eq!(is_elsewhere(host), elsewhere, "{host}");
        }
    }
}
