//! `tc` and `ip`, run as programs, and explanations of their refusals.

use std::{
    io::{self, Write},
    process::{Command, Stdio},
};

use thiserror::Error;

/// Reason why a link is not shaped.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ShapingError {
    /// The program is missing, or can't be run.
    #[error("{program} can't be run ({words}): install it (Debian: apt-get install iproute2)")]
    NoTool {
        /// `tc` or `ip`.
        program: &'static str,
        /// Error of the system.
        words: String,
    },
    /// The kernel lacks a module.
    #[error(
        "this kernel has no {what} (module {module}), which {wanted_by}: load it with 'modprobe {module}', or install the \
         package that has it (Debian: linux-image-amd64 in place of the cloud kernel; Fedora: kernel-modules-extra; \
         Ubuntu: linux-modules-extra){hint}"
    )]
    NoModule {
        /// Name in `tc`.
        what: &'static str,
        /// Name of the module.
        module: &'static str,
        /// Part of a plan that needs it.
        wanted_by: &'static str,
        /// Alternative that works without it.
        hint: &'static str,
    },
    /// The program lacks permission.
    #[error("{program} is not permitted to change interfaces: run as root, or give the container NET_ADMIN")]
    NotPermitted {
        /// `tc` or `ip`.
        program: &'static str,
    },
    /// The interface or device does not exist, or no longer exists.
    #[error("'{program} {line}' failed: {words}")]
    NoDevice {
        /// `tc` or `ip`.
        program: &'static str,
        /// The command.
        line: String,
        /// Message of the program.
        words: String,
    },
    /// The program refused the command.
    #[error("'{program} {line}' failed: {words}")]
    Refused {
        /// `tc` or `ip`.
        program: &'static str,
        /// The command.
        line: String,
        /// Message of the program.
        words: String,
    },
    /// The output of the program can't be read.
    #[error("the output of '{program} {line}' can't be read: {words}")]
    Unreadable {
        /// `tc` or `ip`.
        program: &'static str,
        /// The command.
        line: String,
        /// Error in the output.
        words: String,
    },
    /// No interface matches.
    #[error("{0}")]
    NoInterface(String),
    /// The plan can't be applied to this interface.
    #[error("{0}")]
    Conflict(String),
}

const FREE_HINT: &str = "; --throughput alone works without it";

/// Modules that refused lines need: (part of the message, part of the line, the module).
const MODULES: [(&str, &str, &str, &str, &str, &str); 6] = [
    (
        "qdisc kind is unknown",
        ": netem",
        "netem",
        "sch_netem",
        "latency, jitter, loss, duplicate and reorder need",
        FREE_HINT,
    ),
    (
        "qdisc kind is unknown",
        ": tbf",
        "tbf",
        "sch_tbf",
        "throughput, and effects on single packets such as loss, need",
        "",
    ),
    ("qdisc kind is unknown", ": htb", "htb", "sch_htb", "throughput and links that differ by peer need", ""),
    ("qdisc kind is unknown", ": ingress", "ingress qdisc", "sch_ingress", "shaping of incoming traffic needs", ""),
    ("TC classifier not found", "", "u32 classifier", "cls_u32", "shaping by peer or of incoming traffic needs", ""),
    ("load TC action module", "", "mirred action", "act_mirred", "shaping of incoming traffic needs", ""),
];

fn failure(program: &'static str, line: &str, stderr: &str) -> ShapingError {
    let words: Vec<&str> = stderr
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with("Command failed") && !line.starts_with("We have an error"))
        .collect();
    let words = words.join("; ");
    if words.contains("Operation not permitted") || words.contains("Permission denied") {
        return ShapingError::NotPermitted { program };
    }
    if words.contains("Cannot find device") || words.contains("No such device") {
        return ShapingError::NoDevice { program, line: line.into(), words };
    }
    if program == "ip" && line.ends_with("type ifb") && words.contains("Unknown device type") {
        let wanted_by = "shaping of incoming traffic needs";
        return ShapingError::NoModule { what: "IFB device", module: "ifb", wanted_by, hint: "" };
    }
    if words.contains("duplicating netems") {
        let advice = "this kernel duplicates packets only where one netem is all there is at an interface: give duplicate to \
                      every link alike, and degrade none";
        return ShapingError::Conflict(advice.into());
    }
    // Modules are recognised by the error in the kernel's words, or by its number alone in older kernels.
    for (says, part, what, module, wanted_by, hint) in MODULES {
        if words.contains(says) && line.contains(part) {
            return ShapingError::NoModule { what, module, wanted_by, hint };
        }
    }
    ShapingError::Refused { program, line: line.into(), words }
}

fn output(program: &'static str, args: &[&str], input: &str) -> Result<(bool, String, String), ShapingError> {
    let run = || -> io::Result<_> {
        let mut command = Command::new(program);
        command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        // Debian installs the programs in a folder outside of a plain user's PATH.
        let mut path = std::env::var_os("PATH").unwrap_or_default();
        path.push(":/usr/sbin:/sbin");
        let mut child = command.env("PATH", path).spawn()?;
        // A program that ends early reports the reason itself.
        if let Some(mut stdin) = child.stdin.take() {
            let _ = stdin.write_all(input.as_bytes());
        }
        child.wait_with_output()
    };
    let output = run().map_err(|error| ShapingError::NoTool { program, words: error.to_string() })?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ok((output.status.success(), text(&output.stdout), text(&output.stderr)))
}

/// Runs a command and returns its output.
pub(super) fn run(program: &'static str, line: &str) -> Result<String, ShapingError> {
    let (ok, stdout, stderr) = output(program, &line.split_whitespace().collect::<Vec<_>>(), "")?;
    if ok { Ok(stdout) } else { Err(failure(program, line, &stderr)) }
}

/// Runs lines of `ip`, in the network namespace of this thread.
///
/// # Errors
/// Error of the first line that is refused.
pub fn ip_batch(lines: &[String]) -> Result<(), ShapingError> {
    batch("ip", lines)
}

/// Runs a batch; the first line that is refused ends it.
pub(super) fn batch(program: &'static str, lines: &[String]) -> Result<(), ShapingError> {
    if lines.is_empty() {
        return Ok(());
    }
    let (ok, _, stderr) = output(program, &["-batch", "-"], &(lines.join("\n") + "\n"))?;
    if ok {
        return Ok(());
    }
    let number = stderr.lines().find_map(|line| line.strip_prefix("Command failed -:")?.trim().parse::<usize>().ok());
    let line = number.and_then(|number| lines.get(number.checked_sub(1)?)).map_or("-batch", String::as_str);
    Err(failure(program, line, &stderr))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_module_is_named_with_the_way_to_get_it() {
        let line = "qdisc replace dev eth0 root handle 5000: netem limit 1000 delay 5us";
        let error = failure("tc", line, "Error: Specified qdisc kind is unknown.\nCommand failed -:1\n").to_string();
        assert!(error.starts_with("this kernel has no netem (module sch_netem), which latency"), "{error}");
        assert!(error.contains("modprobe sch_netem") && error.contains("--throughput alone works"), "{error}");
        assert_eq!(error.lines().count(), 1);
    }

    #[test]
    fn other_failures_keep_the_tools_own_words() {
        let error = failure("tc", "qdisc add dev x", "Cannot find device \"x\"\nCommand failed -:1\n");
        assert_eq!(error.to_string(), "'tc qdisc add dev x' failed: Cannot find device \"x\"");
        let error = failure("ip", "link add a type ifb", "RTNETLINK answers: Operation not permitted\n");
        assert_eq!(error, ShapingError::NotPermitted { program: "ip" });
    }
}
