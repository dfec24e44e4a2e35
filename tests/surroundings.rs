//! A run and its surroundings: readers, terminals and disks that disappear, paths that are not text, and other runs.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::{
    ffi::{OsStr, OsString},
    fs::{self, File},
    io::{BufRead, BufReader, Read},
    os::unix::{
        ffi::OsStrExt,
        fs::{OpenOptionsExt, PermissionsExt},
    },
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use serde_json::Value;
use support::{BENCH, Lab, NODE, Running, TOKEN, free_ports, lives, lone_node, program, signal, skip, wait_for};

const SHORT: &str = "--timeout 1 --warm-up-seconds 0 --heartbeat-millis 100";
const LONG: &str = "--timeout 60 --warm-up-seconds 0 --heartbeat-millis 100";

fn full() -> Stdio {
    File::options().write(true).open("/dev/full").unwrap().into()
}

fn words(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn summary(folder: &Path) -> Value {
    serde_json::from_slice(&fs::read(folder.join("summary.json")).unwrap()).unwrap()
}

/// A name that is not UTF-8.
fn odd(name: &str) -> OsString {
    let mut bytes = name.as_bytes().to_vec();
    bytes.push(0xff);
    OsStr::from_bytes(&bytes).to_owned()
}

/// Checks the reason of a run that was asked to end.
fn assert_interrupted(folder: &Path, reason: &str) {
    let run = summary(folder);
    assert_eq!(run["verdict"]["reasons"][0], reason, "{run:#}");
    assert!(run["totals"]["delivered"].as_u64() > Some(0), "{run:#}");
}

#[test]
fn a_run_outlives_the_readers_of_both_its_outputs() {
    let lab = Lab::new(2);
    let mut run = Running::start(&mut lab.command(SHORT));
    drop(run.0.stdout.take());
    let mut first = String::new();
    BufReader::new(run.0.stderr.take().unwrap()).read_line(&mut first).unwrap();
    assert!(first.starts_with("connect"), "{first}");
    let status = run.0.wait().unwrap();
    assert_eq!(status.code(), Some(0), "a closed pipe is no failure");
    assert_eq!(summary(&lab.output())["verdict"]["valid"], true);
}

#[test]
fn a_full_disk_under_standard_error_changes_nothing() {
    let lab = Lab::new(2);
    let output = lab.command(SHORT).stderr(full()).output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    let printed: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(printed, summary(&lab.output()));
}

#[test]
fn a_result_that_cannot_be_printed_completely_is_a_failure_and_is_kept_in_the_folder() {
    let lab = Lab::new(2);
    let output = lab.command(SHORT).stdout(full()).stderr(Stdio::piped()).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(words(&output).lines().filter(|line| line.contains("No space left on device")).count(), 1);
    assert_eq!(summary(&lab.output())["verdict"]["valid"], true);
}

#[test]
fn a_requested_output_is_printed_completely_or_fails_in_one_line() {
    let digest = format!("registry/bench@sha256:{}", "a".repeat(64));
    let manifests = ["cluster", "manifests", "--grafana-secret=x", "--image", &digest];
    let commands: [&[&str]; 6] =
        [&["completions", "bash"], &["--help"], &["--version"], &["local", "--help"], &["image", "--help"], &manifests];
    for args in commands {
        let whole = Command::new(BENCH).args(args).output().unwrap();
        assert!(whole.status.success() && !whole.stdout.is_empty(), "{args:?}: {}", words(&whole));
        let output = Command::new(BENCH).args(args).stdout(full()).stderr(Stdio::piped()).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{args:?}");
        let told: Vec<String> = words(&output).lines().map(str::to_owned).collect();
        assert_eq!(told.iter().filter(|line| line.starts_with("error: ")).count(), 1, "{args:?}: {told:?}");
        let mut closed = Command::new(BENCH).args(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop(closed.stdout.take());
        let output = closed.wait_with_output().unwrap();
        assert!(output.status.success() && !words(&output).contains("error"), "{args:?}: {}", words(&output));
    }
    for args in [&["local", "--nonsense"][..], &[]] {
        let output = Command::new(BENCH).args(args).stdout(full()).stderr(full()).status().unwrap();
        assert_eq!(output.code(), Some(2), "{args:?}");
    }
}

#[test]
fn a_reader_that_no_longer_reads_does_not_stop_a_run() {
    let lab = Lab::new(2);
    let mut run = Running::start(&mut lab.command(SHORT));
    // A pipe that has a reader and no room.
    let path = format!("/proc/{}/fd/2", run.id());
    let mut pipe = File::options().write(true).custom_flags(nix::fcntl::OFlag::O_NONBLOCK.bits()).open(path).unwrap();
    while std::io::Write::write(&mut pipe, &[b'.'; 4096]).is_ok() {}
    let mut stdout = String::new();
    run.0.stdout.take().unwrap().read_to_string(&mut stdout).unwrap();
    assert_eq!(run.0.wait().unwrap().code(), Some(0), "{stdout}");
    assert_eq!(summary(&lab.output())["verdict"]["valid"], true);
}

#[test]
fn a_hang_up_ends_a_run_in_order() {
    let lab = Lab::new(2);
    let run = Running::start(&mut lab.command(LONG));
    let processes = lab.processes();
    lab.wait_until_measuring(0);
    run.signal("HUP");
    assert_eq!(run.output().status.code(), Some(1));
    assert_interrupted(&lab.output(), "interrupted (SIGHUP)");
    assert!(processes.iter().all(|process| !lives(*process)));
}

#[test]
fn a_terminal_that_goes_away_ends_a_run_in_order() {
    let lab = Lab::new(2);
    let command = lab.command(LONG);
    let line: Vec<String> = std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(|word| format!("'{}'", word.to_str().unwrap()))
        .collect();
    let mut terminal = Command::new("script");
    terminal.env("APOLLO_TOKEN", TOKEN);
    terminal.args(["--quiet", "--command", &line.join(" "), "/dev/null"]).stdin(Stdio::null());
    let terminal = Running::start(&mut terminal);
    let processes = lab.processes();
    lab.wait_until_measuring(0);
    terminal.signal("KILL");
    wait_for("the result", || lab.output().join("summary.json").is_file().then_some(()));
    assert_interrupted(&lab.output(), "interrupted (SIGHUP)");
    for process in processes {
        wait_for("the node's end", || (!lives(process)).then_some(()));
    }
}

#[test]
fn a_run_under_nohup_takes_no_notice_of_a_hang_up() {
    let lab = Lab::new(2);
    let plain = lab.command("--timeout 2 --warm-up-seconds 0 --heartbeat-millis 100");
    let mut command = Command::new("nohup");
    command.env("APOLLO_TOKEN", TOKEN);
    command.arg(plain.get_program()).args(plain.get_args());
    let run = Running::start(&mut command);
    let processes = lab.processes();
    lab.wait_until_measuring(0);
    run.signal("HUP");
    for process in processes {
        signal(process, "HUP");
    }
    let output = run.output();
    assert_eq!(output.status.code(), Some(0), "{}", words(&output));
}

#[test]
fn a_hang_up_ends_a_node_in_order_with_its_summary() {
    let folder = tempfile::tempdir().unwrap();
    let (port, path) = (free_ports(3), folder.path().join("node.json"));
    let mut command = Command::new(NODE);
    command.args(lone_node(port, port + 1, "")).arg("--summary").arg(&path);
    let node = Running::start(&mut command);
    wait_for("the node", || support::get(port, "/summary"));
    node.signal("HUP");
    assert_eq!(node.output().status.code(), Some(0));
    let summary: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    assert_eq!(summary["phase"], "finished");
}

#[test]
fn a_node_continues_when_its_log_cannot_be_written() {
    let port = free_ports(3);
    let mut command = Command::new(NODE);
    let mut words = lone_node(port, port + 1, "");
    let level = words.iter().position(|word| word == "--verbosity").unwrap() + 1;
    words[level] = "5".into();
    command.args(words).stdout(full()).stderr(full());
    let mut node = Running(command.spawn().unwrap());
    wait_for("the node", || support::get(port, "/summary"));
    node.signal("TERM");
    assert_eq!(node.0.wait().unwrap().code(), Some(0));
}

#[test]
fn paths_that_are_not_text_work() {
    let lab = Lab::new(2);
    let place = lab.folder.path().join(odd("place"));
    fs::create_dir(&place).unwrap();
    let own = place.join(odd("own"));
    fs::copy(BENCH, &own).unwrap();
    fs::write(place.join(odd("links")), "").unwrap();
    fs::write(place.join(odd("faults")), "").unwrap();
    let mut command = Command::new(&own);
    command.args(["local", "--num-nodes=2", "--json"]).args(SHORT.split_whitespace());
    command.arg(format!("--base-metric-port={}", lab.metric_port)).arg(format!("--base-p2p-port={}", lab.p2p_port));
    // Without --output, so that the folder is among the temporary files.
    command.env("TMPDIR", &place).env("HOME", &place).current_dir(&place);
    command.arg("--links").arg(odd("links")).arg("--faults").arg(odd("faults"));
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", words(&output));
    let made = |entry: &PathBuf| entry.file_name().unwrap().as_bytes().starts_with(b"broadcast-network-stress-test-");
    let folder = fs::read_dir(&place).unwrap().map(|entry| entry.unwrap().path()).find(made).unwrap();
    assert_eq!(fs::metadata(&folder).unwrap().permissions().mode() & 0o777, 0o700, "nobody else reads it");
    let manifest: Value = serde_json::from_slice(&fs::read(folder.join("manifest.json")).unwrap()).unwrap();
    assert!(manifest["command_line"][0].as_str().unwrap().contains("own\u{fffd}"), "{manifest:#}");
    let node: Value = serde_json::from_slice(&fs::read(folder.join("nodes/node-1.json")).unwrap()).unwrap();
    assert_eq!(node["configuration"]["id"], 1, "{node:#}");

    let image =
        Command::new(&own).args(["image", "--json", "--output"]).arg(place.join(odd("image"))).output().unwrap();
    // Without tc and ip no image is built.
    if image.status.success() {
        let told: Value = serde_json::from_slice(&image.stdout).unwrap();
        assert!(told["archive"].as_str().unwrap().ends_with("image\u{fffd}/image.tar"), "{told:#}");
    } else {
        assert_eq!(words(&image).lines().count(), 1, "{}", words(&image));
    }
}

#[test]
fn words_that_are_not_text_are_refused_in_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("run");
    for flag in ["--mode", "--fault", "--latency", "--node-binary", "--links", "--faults"] {
        let mut command = Command::new(BENCH);
        command.args(["local", "--base-metric-port=20800", "--base-p2p-port=20900", "--output"]).arg(&output);
        let refused = command.arg(flag).arg(odd("none")).output().unwrap();
        assert_eq!(refused.status.code(), Some(2), "{flag}: {}", words(&refused));
        assert_eq!(words(&refused).lines().count(), 1, "{flag}: {}", words(&refused));
        assert!(!output.exists(), "{flag}");
    }
    let refused = Command::new(BENCH).args(["local", "--num-nodes=1"]).env("APOLLO_MODE", odd("all")).output().unwrap();
    assert_eq!(refused.status.code(), Some(2), "{}", words(&refused));
}

#[test]
fn of_many_runs_only_one_takes_a_folder() {
    const TRIES: u16 = 12;
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("new/run");
    let ports = free_ports(TRIES * 2);
    let start = |number: u16| {
        let mut command = Command::new(BENCH);
        command.args(["local", "--num-nodes=1", "--timeout=1", "--warm-up-seconds=0"]);
        command.arg(format!("--base-metric-port={}", ports + number));
        command.arg(format!("--base-p2p-port={}", ports + TRIES + number));
        Running::start(command.arg("--output").arg(&output))
    };
    let runs: Vec<Running> = (0..TRIES).map(start).collect();
    let ended: Vec<Output> = runs.into_iter().map(Running::output).collect();
    let (went_on, refused): (Vec<_>, Vec<_>) = ended.iter().partition(|output| output.status.code() != Some(2));
    assert_eq!((went_on.len(), refused.len()), (1, usize::from(TRIES) - 1), "{ended:?}");
    for output in refused {
        let told = words(output);
        assert!(told.contains("is in use by another run") || told.contains("is not empty"), "{told}");
        assert_eq!(told.lines().count(), 1, "{told}");
    }
    assert!(output.join("summary.json").is_file());
}

#[test]
fn a_runner_that_was_killed_holds_no_folder() {
    let lab = Lab::new(2);
    let run = Running::start(&mut lab.command(LONG));
    let processes = lab.processes();
    run.signal("KILL");
    for process in processes {
        wait_for("the node's end", || (!lives(process)).then_some(()));
    }
    let refused = lab.command(SHORT).output().unwrap();
    assert!(words(&refused).contains("is not empty"), "{}", words(&refused));
    fs::remove_dir_all(lab.output()).unwrap();
    fs::create_dir(lab.output()).unwrap();
    let (exit, run) = lab.run(SHORT);
    assert_eq!(exit, Some(0), "{run:#}");
}

#[test]
fn a_program_started_by_a_node_does_not_hold_the_ports_of_the_next_run() {
    let lab = Lab::new(2);
    let wrapper = lab.folder.path().join("wrapper");
    fs::write(&wrapper, format!("#!/bin/sh\n'{NODE}' \"$@\" &\nwait\n")).unwrap();
    fs::set_permissions(&wrapper, fs::Permissions::from_mode(0o755)).unwrap();
    let run = Running::start(&mut lab.command(&format!("{LONG} --node-binary {}", wrapper.display())));
    let processes = lab.processes();
    run.signal("KILL");
    drop(run);
    assert!(processes.iter().all(|process| lives(*process)), "the kernel kills only the wrapper");
    fs::remove_dir_all(lab.output()).unwrap();
    let next = lab.command(SHORT).output().unwrap();
    assert_eq!(next.status.code(), Some(0), "{}", words(&next));
    assert!(words(&next).contains("killed the remains of a killed run"), "{}", words(&next));
    assert!(processes.iter().all(|process| !lives(*process)));
}

#[test]
fn no_half_written_file_stays() {
    let lab = Lab::new(2);
    let run = Running::start(&mut lab.command(SHORT));
    lab.processes();
    // Files of a killed writer.
    let left = ["summary.json.partial", "nodes/node-0.json.partial"].map(|name| lab.output().join(name));
    for path in &left {
        fs::write(path, "{").unwrap();
    }
    assert_eq!(run.output().status.code(), Some(0));
    assert!(left.iter().all(|path| !path.exists()));

    // A file can't replace a folder.
    let (port, taken) = (free_ports(3), lab.folder.path().join("taken"));
    fs::create_dir(&taken).unwrap();
    let mut command = Command::new(NODE);
    let node = Running::start(command.args(lone_node(port, port + 1, "")).arg("--summary").arg(&taken));
    wait_for("the node", || support::get(port, "/summary"));
    node.signal("TERM");
    let output = node.output();
    assert_eq!(output.status.code(), Some(1), "{}", words(&output));
    assert!(!lab.folder.path().join("taken.partial").exists());
}

#[test]
fn a_disk_that_is_full_in_the_middle_of_a_run_costs_no_result() {
    let lab = Lab::new(2);
    let disk = lab.folder.path().join("disk");
    fs::create_dir(&disk).unwrap();
    let tried = Command::new("unshare").args(["--map-root-user", "--mount", "true"]).status();
    if !tried.is_ok_and(|status| status.success()) {
        return skip("namespaces for mounts can't be made here");
    }
    let mut command = Command::new("unshare");
    command.env("APOLLO_TOKEN", TOKEN);
    command.args(["--map-root-user", "--mount", "sh", "-c", "mount -t tmpfs -o size=1m disk \"$0\" && exec \"$@\""]);
    command.arg(&disk).args([BENCH, "local", "--json", "--num-nodes=2", "--timeout=3", "--warm-up-seconds=0"]);
    command.arg(format!("--base-metric-port={}", lab.metric_port)).arg(format!("--base-p2p-port={}", lab.p2p_port));
    command.arg("--output").arg(disk.join("run"));
    let mut run = Running::start(&mut command);
    lab.processes();
    lab.wait_until_measuring(0);
    // Seen from outside of the run's mounts.
    let seen = PathBuf::from(format!("/proc/{}/root", run.id())).join(disk.strip_prefix("/").unwrap());
    let mut filler = File::create(seen.join("filler")).unwrap();
    while std::io::Write::write_all(&mut filler, &[0; 4096]).is_ok() {}
    while std::io::Write::write_all(&mut filler, &[0]).is_ok() {}
    let mut stdout = String::new();
    run.0.stdout.take().unwrap().read_to_string(&mut stdout).unwrap();
    let printed: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!(run.0.wait().unwrap().code(), Some(1), "{printed:#}");
    assert!(printed["verdict"]["reasons"].to_string().contains("No space left on device"), "{printed:#}");
    assert!(printed["totals"]["delivered"].as_u64() > Some(0), "{printed:#}");
}

#[test]
fn the_configuration_of_the_monitoring_is_in_private_files() {
    if program("prometheus").is_none() {
        return;
    }
    let lab = Lab::new(2);
    let ports = free_ports(2);
    let watched = format!("{SHORT} --observe --prometheus-port {ports} --grafana-port {}", ports + 1);
    let output = lab.command(&watched).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", words(&output));
    let mode = |name: &str| fs::metadata(lab.output().join(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode("observe"), 0o700);
    for file in ["observe/grafana.ini", "observe/prometheus.yml", "observe/provisioning/datasources/apollo.yml"] {
        assert_eq!(mode(file), 0o600, "{file}");
    }
}

#[test]
fn a_clock_that_no_run_can_count_with_is_refused_in_one_line() {
    if !Command::new("faketime").args(["2020-01-01", "true"]).status().is_ok_and(|status| status.success()) {
        return skip("faketime is not on the PATH (Debian: apt-get install faketime)");
    }
    let folder = tempfile::tempdir().unwrap();
    let port = free_ports(3);
    let node = lone_node(port, port + 1, "");
    let [metric, p2p] = [format!("--base-metric-port={port}"), format!("--base-p2p-port={}", port + 1)];
    let local = ["local".to_owned(), "--num-nodes=1".to_owned(), metric, p2p];
    let remote = ["remote".to_owned(), format!("--node=127.0.0.1:{port}")];
    for time in ["1969-12-31", "2600-01-01"] {
        for (program, args) in [(BENCH, &local[..]), (BENCH, &remote[..]), (NODE, &node[..])] {
            let mut command = Command::new("faketime");
            command.args([time, program]).args(args).env("TMPDIR", folder.path());
            let output = command.output().unwrap();
            let told = words(&output);
            assert_eq!(output.status.code(), Some(1), "{time} {args:?}: {told}");
            assert!(told.starts_with("error: the clock of this machine") && told.lines().count() == 1, "{told}");
        }
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "nothing is left");
}
