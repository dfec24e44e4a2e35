//! Reasons that make a run invalid although every node did its work: clocks that were set, programs that were replaced.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;
use support::{Lab, NODE, Running, lives, result, skip, wait_for};

/// Library that shows programs another wall clock, and does not change the monotonic one.
fn faketime() -> Option<PathBuf> {
    let folders = fs::read_dir("/usr/lib").into_iter().flatten().flatten();
    let mut libraries = folders.map(|folder| folder.path().join("faketime/libfaketimeMT.so.1"));
    let found = libraries.find(|path| path.is_file());
    if found.is_none() {
        skip("libfaketime is not installed (Debian: apt-get install faketime)");
    }
    found
}

/// A wall clock in a file.
struct WallClock {
    file: PathBuf,
    library: PathBuf,
}

impl WallClock {
    fn new(folder: &Path, library: PathBuf) -> Self {
        let clock = Self { file: folder.join("clock"), library };
        clock.set("+0");
        clock
    }

    fn set(&self, offset: &str) {
        let partial = self.file.with_extension("partial");
        fs::write(&partial, offset).unwrap();
        fs::rename(&partial, &self.file).unwrap();
    }

    fn variables(&self) -> [(&'static str, String); 5] {
        [
            ("LD_PRELOAD", self.library.display().to_string()),
            ("FAKETIME_TIMESTAMP_FILE", self.file.display().to_string()),
            ("FAKETIME_NO_CACHE", "1".into()),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1".into()),
            ("DONT_FAKE_MONOTONIC", "1".into()),
        ]
    }
}

fn script(path: &Path, text: &str) {
    fs::write(path, format!("#!/bin/sh\n{text}\n")).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

fn reasons(run: &Value) -> Vec<&str> {
    run["verdict"]["reasons"].as_array().unwrap().iter().map(|reason| reason.as_str().unwrap()).collect()
}

const LOAD: &str = "--mode all --heartbeat-millis 20 --timeout 4 --warm-up-seconds 0";

/// Runs a network in which `command` shows some processes the clock, sets it by `offset` in the middle of the window,
/// and checks that `who` is named, and that the schedule and the delays are unaffected.
fn assert_set_clock_is_named(lab: &Lab, clock: &WallClock, mut command: Command, offset: &str, who: &str) {
    let run = Running::start(&mut command);
    lab.wait_until_measuring(1);
    clock.set(offset);
    let (exit, run) = result(run.output());
    let said = reasons(&run);
    let reason = format!("the clock of {who} was set by {offset}.000 s during the run");
    assert_eq!((exit, said.as_slice()), (Some(1), [reason.as_str()].as_slice()), "{run:#}");
    let totals = &run["totals"];
    assert_eq!(totals["intended"], 2 * 200, "{totals:#}");
    assert_eq!(totals["delivered"], totals["expected"], "{totals:#}");
    assert_eq!(totals["negative_delays"], 0, "{totals:#}");
    assert!(totals["delay"]["max_micros"].as_u64().unwrap() < 1_900_000, "no delay has the two seconds: {totals:#}");
}

#[test]
fn a_clock_that_is_set_for_all_during_the_run_is_named_and_moves_nothing() {
    let Some(library) = faketime() else { return };
    for offset in ["+2", "-2"] {
        let lab = Lab::new(2);
        let clock = WallClock::new(lab.folder.path(), library.clone());
        let mut command = lab.command(LOAD);
        command.envs(clock.variables());
        assert_set_clock_is_named(&lab, &clock, command, offset, "nodes 0 and 1 and of the runner");
    }
}

#[test]
fn a_clock_that_is_set_for_one_node_during_the_run_is_named() {
    let Some(library) = faketime() else { return };
    for offset in ["+2", "-2"] {
        let lab = Lab::new(2);
        let clock = WallClock::new(lab.folder.path(), library.clone());
        let set: Vec<String> = clock.variables().iter().map(|(name, value)| format!("{name}='{value}'")).collect();
        let wrapper = lab.folder.path().join("wrapper");
        let set = set.join(" ");
        script(
            &wrapper,
            &format!(
                "case \" $* \" in *' --id=1 '*|*' --id 1 '*) exec env {set} {NODE} \"$@\";; esac\nexec {NODE} \"$@\""
            ),
        );
        let mut command = lab.command(LOAD);
        command.arg("--node-binary").arg(&wrapper);
        assert_set_clock_is_named(&lab, &clock, command, offset, "node 1");
    }
}

#[test]
fn a_clock_that_is_set_for_the_runner_during_the_run_is_named() {
    let Some(library) = faketime() else { return };
    for offset in ["+2", "-2"] {
        let lab = Lab::new(2);
        let clock = WallClock::new(lab.folder.path(), library.clone());
        let wrapper = lab.folder.path().join("wrapper");
        script(&wrapper, &format!("unset LD_PRELOAD\nexec {NODE} \"$@\""));
        let mut command = lab.command(LOAD);
        command.envs(clock.variables()).arg("--node-binary").arg(&wrapper);
        assert_set_clock_is_named(&lab, &clock, command, offset, "the runner");
    }
}

/// Starts a network of copies of the node's program, and applies `replace` to the copy after node 1 was killed.
fn with_a_replaced_program(replace: impl FnOnce(&Path)) -> (Option<i32>, Value) {
    let lab = Lab::new(2);
    let binary = lab.folder.path().join("node");
    fs::copy(NODE, &binary).unwrap();
    let mut command = lab.command("--heartbeat-millis 20 --timeout 8 --warm-up-seconds 0");
    command.args([
        "--fault",
        "1s kill 0",
        "--fault",
        "1s kill 1",
        "--fault",
        "4s restart 0",
        "--fault",
        "4s restart 1",
    ]);
    let run = Running::start(command.arg("--node-binary").arg(&binary));
    let processes = lab.processes();
    wait_for("the nodes' end", || processes.iter().all(|process| !lives(*process)).then_some(()));
    replace(&binary);
    result(run.output())
}

#[test]
fn a_node_that_is_started_again_runs_the_program_that_the_run_began_with() {
    let (exit, run) = with_a_replaced_program(|binary| {
        let other = binary.with_extension("new");
        script(&other, "exit 3");
        fs::rename(&other, binary).unwrap();
    });
    assert_eq!(exit, Some(0), "{run:#}");
    assert_eq!(run["faults"][3]["fault"], "4s restart 1");
    assert!(run["faults"][3]["done_seconds"].is_number(), "{run:#}");
}

#[test]
fn a_node_whose_program_was_written_to_is_not_started_again() {
    let (exit, run) = with_a_replaced_program(|binary| {
        let mut program = fs::read(binary).unwrap();
        program.push(0);
        fs::write(binary, program).unwrap();
    });
    assert_eq!(exit, Some(1), "{run:#}");
    let reason = reasons(&run)[0];
    assert!(reason.starts_with("the fault '4s restart 0' failed: node 0 does not start"), "{reason}");
    assert!(reason.contains("was written to since the run began"), "{reason}");
}
