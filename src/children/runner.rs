//! Identification of runners among all processes of a machine, and of the remains of killed runners.

use std::fs;

use nix::{
    errno::Errno,
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tokio::process::Command;

/// Variable in the environment of all programs that a runner starts and that must not outlive it; its value names the
/// runner.
const VARIABLE: &str = "APOLLO_BENCH_RUNNER";

/// Marks a command as started by this runner.
pub(crate) fn mark(command: &mut Command) {
    // Without the mark, the program can't be found after this process was killed; it works otherwise.
    if let Ok(runner) = Runner::this() {
        command.env(VARIABLE, runner.to_string());
    }
}

/// Kills the programs of runners that no longer live, as far as this user may: the kernel kills the programs that a
/// runner itself has started, but not those that such a program has started. Returns their number.
pub(crate) fn kill_orphans() -> usize {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let processes = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let orphans = processes.filter(|process| {
        let environment = fs::read(format!("/proc/{process}/environ")).unwrap_or_default();
        let value = environment.split(|byte| *byte == 0).find_map(|variable| {
            String::from_utf8_lossy(variable).strip_prefix(VARIABLE)?.strip_prefix('=').map(str::to_owned)
        });
        value.and_then(|value| Runner::parse(&value)).is_some_and(|runner| !runner.may_live())
    });
    orphans.filter(|process| kill(Pid::from_raw(*process), Signal::SIGKILL).is_ok()).count()
}

/// A process, distinguished from all earlier and later processes with its number on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Runner {
    process: i32,
    started: u64,
    /// Namespace to which the process number belongs.
    namespace: String,
}

impl Runner {
    /// This process.
    pub(crate) fn this() -> Result<Self, String> {
        let process = Pid::this().as_raw();
        let started = started(process).ok_or("/proc does not show the start of this process")?;
        let namespace = namespace().ok_or("/proc does not show the namespace of this process")?;
        Ok(Self { process, started, namespace })
    }

    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut parts = text.trim().splitn(3, '-');
        let (process, started) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
        Some(Self { process, started, namespace: parts.next()?.to_owned() })
    }

    /// True if it may be alive, as far as this process can see.
    pub(crate) fn may_live(&self) -> bool {
        if namespace().as_ref() != Some(&self.namespace) {
            return true;
        }
        match started(self.process) {
            Some(started) => started == self.started,
            // A host may hide the processes of other users.
            None => kill(Pid::from_raw(self.process), None) == Err(Errno::EPERM),
        }
    }
}

impl std::fmt::Display for Runner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}-{}-{}", self.process, self.started, self.namespace)
    }
}

/// Start of a process, in ticks of the clock since the machine was started; none if the process does not exist or has
/// ended.
fn started(process: i32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    let fields: Vec<&str> = stat.rsplit(')').next()?.split_whitespace().collect();
    if ["Z", "X"].contains(fields.first()?) {
        return None;
    }
    fields.get(19)?.parse().ok()
}

fn namespace() -> Option<String> {
    let link = fs::read_link("/proc/self/ns/pid").ok()?;
    Some(link.to_str()?.chars().filter(char::is_ascii_digit).collect())
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn a_runner_is_known_by_more_than_its_number() {
        let this = Runner::this().unwrap();
        assert_eq!(Runner::parse(&this.to_string()), Some(this.clone()));
        assert!(this.may_live());
        assert!(!Runner { started: this.started + 1, ..this.clone() }.may_live());
        // Nothing is known of another namespace.
        assert!(Runner { started: 1, namespace: "1".into(), ..this.clone() }.may_live());
        let mut ended = Command::new("true").spawn().unwrap();
        let process = i32::try_from(ended.id()).unwrap();
        ended.wait().unwrap();
        assert!(!Runner { process, ..this }.may_live());
        for text in ["", "1", "1-2", "x-2-3"] {
            assert_eq!(Runner::parse(text), None, "{text}");
        }
    }
}
