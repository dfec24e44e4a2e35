//! `apollo-bench local --observe` with a real Prometheus: its scrapes, the results of the dashboards and rules, its
//! end. Grafana itself is not started here; a stand-in shows its start.
#![allow(clippy::panic, clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(clippy::disallowed_methods, reason = "real programs run in the time of the machine")]

mod support;

use std::{
    fmt::Write as _,
    fs::{self, File},
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
    time::Duration,
};

use apollo_network_benchmark::dashboards::{dashboards, json, rules};
use serde_json::Value;
use support::{Lab, Running, bench_command, body_of, free_ports, get, lives, program, wait_for};

/// A folder for the PATH of a run, with Prometheus in it and nothing else.
fn path_with(prometheus: &Path) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    symlink(prometheus, folder.path().join("prometheus")).unwrap();
    folder
}

/// A monitored run, with its output in a file.
struct Watched {
    lab: Lab,
    running: Running,
    prometheus_port: u16,
    words: PathBuf,
}

impl Watched {
    fn start(args: &str, path: &Path) -> Self {
        Self::start_faulty(args, &[], path)
    }

    /// The words of `more` contain spaces.
    fn start_faulty(args: &str, more: &[&str], path: &Path) -> Self {
        let lab = Lab::new(3);
        let ports = free_ports(2);
        let words = lab.folder.path().join("words");
        let mut command = lab.command(&format!(
            "--warm-up-seconds 1 --heartbeat-millis 20 --observe --prometheus-port {ports} --grafana-port {} {args}",
            ports + 1
        ));
        command.args(more).env("PATH", path).stderr(File::create(&words).unwrap());
        // The output is larger than a pipe takes, and nobody reads it before the end.
        command.stdout(File::create(lab.folder.path().join("result")).unwrap());
        let running = Running(command.spawn().unwrap());
        Self { lab, running, prometheus_port: ports, words }
    }

    fn words(&self) -> String {
        fs::read_to_string(&self.words).unwrap()
    }

    fn wait_for_words(&self, words: &str) {
        wait_for(words, || self.words().contains(words).then_some(()));
    }

    /// Processes that the runner has started, by their name.
    fn children(&self, name: &str) -> Vec<u32> {
        let id = self.running.id();
        let children = fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap();
        let children = children.split_whitespace().map(|child| child.parse().unwrap());
        let named =
            |child: &u32| fs::read_to_string(format!("/proc/{child}/comm")).is_ok_and(|comm| comm.trim() == name);
        children.filter(named).collect()
    }

    fn ask(&self, path: &str) -> Value {
        let (head, body) = get(self.prometheus_port, path).unwrap();
        let body = body_of(&head, &body);
        serde_json::from_str(&body).unwrap_or_else(|error| panic!("{error}: {head}\n{body}"))
    }

    /// Numbers in the result of a query, at a time.
    fn values(&self, query: &str, time: &str) -> Vec<f64> {
        let answer = self.ask(&format!("/api/v1/query?query={}&time={}", encoded(query), encoded(time)));
        assert_eq!(answer["status"], "success", "{query}: {answer:#}");
        let rows = answer["data"]["result"].as_array().unwrap();
        let values = rows.iter().map(|row| row["value"][1].as_str().unwrap().parse::<f64>().unwrap());
        values.filter(|value| value.is_finite()).collect()
    }
}

fn encoded(text: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        write!(encoded, "%{byte:02X}").unwrap();
    }
    encoded
}

/// Panels that show nothing in a good run, with the reason.
fn may_be_empty(title: &str, protocol: &str, own_metrics: bool) -> bool {
    match title {
        // No alert fires.
        "Alerts" => true,
        // No fault is planned.
        "Phases, measured window and faults" => true,
        // Known after the end of the run.
        "Time to reach the nodes" => true,
        // A receiver requests the message; nothing is handed over.
        "Time to hand over" => protocol == "reversed-sqmr",
        "Busy workers" => !own_metrics,
        // Other protocols encode nothing.
        "Encoding and rebuilding, 99 of 100" | "From the first unit, 99 of 100" => protocol != "propeller",
        "Mesh" | "Messages received by gossipsub" | "Messages sent by gossipsub" => !own_metrics,
        // gossipsub exports no counter of an event before the first one.
        "Requests after gossip" | "Refused copies" | "Changes of the mesh" => true,
        _ => false,
    }
}

/// A query with the variables that Grafana replaces.
fn in_grafana(expr: &str) -> String {
    let variables = [("$run", "run"), ("$node", ".*"), ("$__rate_interval", "5s"), ("$__range", "60s")];
    variables.into_iter().fold(expr.to_owned(), |expr, (name, value)| expr.replace(name, value))
}

fn every_query_has_an_answer(protocol: &str, extra: &str) {
    let Some(prometheus) = program("prometheus") else { return };
    let path = path_with(&prometheus);
    let run = Watched::start(&format!("--keep-open --timeout 10 --network-protocol {protocol} {extra}"), path.path());
    run.wait_for_words("up until Ctrl-C");

    let words = run.words();
    let without_grafana = words.lines().filter(|line| line.starts_with("grafana is not on the PATH")).count();
    assert_eq!(without_grafana, 1, "{words}");
    let address = format!("http://127.0.0.1:{}", run.prometheus_port);
    assert!(words.contains(&format!("Prometheus: {address}")), "{words}");
    let read =
        |path: &str| -> Value { serde_json::from_slice(&fs::read(run.lab.output().join(path)).unwrap()).unwrap() };
    assert_eq!(read("manifest.json")["observe"]["prometheus"], address.as_str());
    assert!(run.lab.output().join("logs/prometheus.log").is_file());

    // Last second of the measured window.
    let series = fs::read_to_string(run.lab.output().join("timeseries.jsonl")).unwrap();
    let points: Vec<Value> = series.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let end = points.iter().rfind(|point| point["phase"] == "measure").unwrap()["time"].as_str().unwrap().to_owned();
    assert_eq!(run.values("up{node!=\"\"}", &end), [1.0, 1.0, 1.0]);
    assert_eq!(run.values("run_phase{phase=\"measure\"}", &end), [1.0], "the runner is scraped");
    assert_eq!(run.ask("/api/v1/label/run/values")["data"], serde_json::json!(["run"]));
    assert_eq!(run.ask("/api/v1/label/node/values")["data"], serde_json::json!(["0", "1", "2"]));

    let own_metrics = extra.contains("--tokio-metrics");
    for (_, dashboard) in dashboards() {
        for panel in &dashboard.panels {
            for query in &panel.queries {
                let values = run.values(&in_grafana(&query.expr), &end);
                let empty = values.is_empty() && !may_be_empty(panel.title, protocol, own_metrics);
                assert!(!empty, "{}: no data for {}", panel.title, query.expr);
            }
        }
    }
    for (query, low, high) in [
        ("sum(rate(broadcast_message_bytes_sum[5s]))", 0.9 * 153_600.0, 1.1 * 153_600.0),
        ("sum(broadcast_message_offered_throughput)", 153_600.0, 153_600.0),
        ("sum(rate(receive_message_bytes_sum[5s])) / 2", 0.9 * 153_600.0, 1.1 * 153_600.0),
        ("run:delivery:ratio", 0.95, 1.0),
        ("run:delivery:ratio_now", 0.9, 1.2),
        ("run:nodes_ready:ratio", 1.0, 1.0),
        // Messages under way: those of a fifth of a second on a busy machine.
        ("max(node:deliveries_missing:count)", 0.0, 20.0),
    ] {
        let values = run.values(query, &end);
        assert!(values.len() == 1 && (low..=high).contains(&values[0]), "{query}: {values:?}");
    }
    if own_metrics {
        assert!(run.values("tokio_workers", &end).iter().all(|workers| *workers >= 1.0));
    }

    let groups = run.ask("/api/v1/rules");
    let mut count = 0;
    for rule in groups["data"]["groups"].as_array().unwrap().iter().flat_map(|group| group["rules"].as_array().unwrap())
    {
        assert_eq!(rule["health"], "ok", "{rule:#}");
        assert_ne!(rule["state"], "firing", "{rule:#}");
        count += 1;
    }
    assert_eq!(count, rules(1).groups.iter().map(|group| group.rules.len()).sum::<usize>());

    // Prometheus has scraped the end: all counts of each node.
    let counted = |node: u16| {
        let node = read(&format!("nodes/node-{node}.json"));
        ["measured", "outside"].iter().map(|window| node[*window]["received"].as_u64().unwrap()).sum::<u64>()
    };
    let now = points.last().unwrap()["time"].as_str().unwrap().to_owned();
    let now = now.parse::<jiff::Timestamp>().unwrap() + Duration::from_secs(10);
    let seen = run.values("sum(last_over_time(receive_message_count[1m]))", &now.to_string());
    assert_eq!(seen, [(0..3).map(counted).sum::<u64>() as f64]);
    // Figures of the moment stop with the window, although the nodes stop later.
    let last = |rule: &str| run.values(&format!("max by (node) (last_over_time({rule}[1m]))"), &now.to_string());
    assert_eq!((last("node:connected_peers:last"), last("node:up:last")), (vec![2.0; 3], vec![1.0; 3]));

    // The times to reach came with the result, before the address of the range was printed.
    let shown = jiff::Timestamp::now().to_string();
    let reach = |share: &str| run.values(&format!("run_reach_seconds{{share=\"{share}\",quantile=\"0.5\"}}"), &shown);
    let told: Value = serde_json::from_slice(&fs::read(run.lab.output().join("summary.json")).unwrap()).unwrap();
    for (share, field) in [("1/3", "reach_1_3"), ("2/3", "reach_2_3"), ("all", "reach_all")] {
        let micros = told["totals"][field]["p50_micros"].as_f64().unwrap();
        assert_eq!(reach(share), [micros / 1e6], "{share}");
    }

    let watcher = run.children("prometheus");
    assert_eq!(watcher.len(), 1);
    run.running.signal("INT");
    let status = { run.running }.0.wait().unwrap();
    assert_eq!(status.code(), Some(0));
    assert!(!lives(watcher[0]));
    let told: Value = serde_json::from_slice(&fs::read(run.lab.folder.path().join("result")).unwrap()).unwrap();
    assert_eq!(told["verdict"]["valid"], true, "{told:#}");
}

#[test]
fn dashboards_and_rules_have_data_over_gossipsub() {
    every_query_has_an_answer("gossipsub", "--tokio-metrics --gossipsub-metrics");
}

#[test]
fn dashboards_and_rules_have_data_over_sqmr() {
    every_query_has_an_answer("sqmr", "");
}

#[test]
fn dashboards_and_rules_have_data_over_reversed_sqmr() {
    every_query_has_an_answer("reversed-sqmr", "");
}

#[test]
fn dashboards_and_rules_have_data_over_propeller() {
    every_query_has_an_answer("propeller", "");
}

/// Time limit for an alert, from the begin of its cause to the begin of the alert, and from its end to its end.
const SOON: Duration = Duration::from_secs(10);

impl Watched {
    /// Names of the alerts that fire now, with their nodes.
    fn firing(&self) -> Vec<String> {
        let answer = self.ask(&format!("/api/v1/query?query={}", encoded("ALERTS{alertstate=\"firing\"}")));
        let names = |row: &Value| {
            let node = row["metric"]["node"].as_str().map_or_else(String::new, |node| format!(" {node}"));
            row["metric"]["alertname"].as_str().unwrap().to_owned() + &node
        };
        answer["data"]["result"].as_array().unwrap().iter().map(names).collect()
    }

    /// Waits for the begin of a fault, and returns its time.
    fn wait_for_fault(&self, number: u32) -> f64 {
        self.wait_for_words("Prometheus: http://");
        let query = format!("run_fault_began_seconds{{number=\"{number}\"}} > 0");
        wait_for("a fault", || self.values(&query, &jiff::Timestamp::now().to_string()).first().copied())
    }

    /// Waits until these alerts fire, or do not; fails if that is not soon after a time in seconds since the Unix epoch.
    fn wait_for_alerts(&self, alerts: &[&str], fire: bool, since: f64) {
        wait_for(&format!("{alerts:?} {fire}"), || {
            let firing = self.firing();
            alerts.iter().all(|alert| firing.contains(&(*alert).to_owned()) == fire).then_some(())
        });
        let took = jiff::Timestamp::now().as_millisecond() as f64 / 1e3 - since;
        assert!(took <= SOON.as_secs_f64(), "{alerts:?} {fire} after {took:.1} s");
    }
}

#[test]
fn alerts_of_a_killed_node_fire_soon_and_stop_when_it_is_back() {
    let Some(prometheus) = program("prometheus") else { return };
    let path = path_with(&prometheus);
    let run = Watched::start_faulty("--timeout 32", &["--fault", "4s kill 2", "--fault", "16s restart 2"], path.path());
    let killed = run.wait_for_fault(1);
    run.wait_for_alerts(&["NodeDown 2", "DeliveryLow"], true, killed);
    let active = |run: &Watched, number: u32| {
        let query = format!("run_fault_active{{number=\"{number}\"}}");
        run.values(&query, &jiff::Timestamp::now().to_string())
    };
    assert_eq!(active(&run, 1), [1.0]);
    let back = run.wait_for_fault(2);
    run.wait_for_alerts(&["NodeDown 2", "DeliveryLow"], false, back);
    assert_eq!(active(&run, 1), [0.0]);
    run.running.signal("INT");
}

/// A stand-in for Grafana: it records its start, and listens on its port.
fn stand_in(folder: &Path, prometheus: &Path) {
    fs::create_dir_all(folder.join("bin")).unwrap();
    fs::create_dir_all(folder.join("conf")).unwrap();
    fs::write(folder.join("conf/defaults.ini"), "").unwrap();
    let script = format!(
        "#!/bin/sh\nprintf '%s\\n' \"$@\" > \"$GF_PATHS_DATA/args\"\n/usr/bin/env > \"$GF_PATHS_DATA/env\"\n\
         port=$(/bin/sed -n 's/^http_port = //p' \"$5\")\n\
         exec {} --config.file=/dev/null --storage.tsdb.path=\"$GF_PATHS_DATA/db\" --web.listen-address=127.0.0.1:$port\n",
        prometheus.display()
    );
    let path = folder.join("bin/grafana");
    fs::write(&path, script).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    symlink(prometheus, folder.join("bin/prometheus")).unwrap();
}

#[test]
fn grafana_is_started_with_its_files_and_kill_9_of_the_runner_leaves_nothing_behind() {
    let Some(prometheus) = program("prometheus") else { return };
    let home = tempfile::tempdir().unwrap();
    stand_in(home.path(), &prometheus);
    let run = Watched::start("--timeout 60", &home.path().join("bin"));
    run.wait_for_words("Grafana: http://127.0.0.1:");
    let observe = run.lab.output().join("observe");
    let read = |path: &str| fs::read_to_string(observe.join(path)).unwrap();
    let ini = observe.join("grafana.ini");
    let args = read("grafana/args");
    assert_eq!(
        args.lines().collect::<Vec<_>>(),
        ["server", "--homepath", &home.path().display().to_string(), "--config", &ini.display().to_string()]
    );
    let env = read("grafana/env");
    for (name, path) in [
        ("GF_PATHS_PROVISIONING", "provisioning"),
        ("GF_PATHS_PLUGINS", "grafana/plugins"),
        ("GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH", "dashboards/overview.json"),
    ] {
        assert!(observe.join(path).exists());
        assert!(env.contains(&format!("{name}={}\n", observe.join(path).display())), "{env}");
    }
    assert!(read("provisioning/datasources/apollo.yml").contains(&format!(":{}\"", run.prometheus_port)));
    for (name, dashboard) in dashboards() {
        assert_eq!(read(&format!("dashboards/{name}")), json(&dashboard));
    }
    let manifest: Value = serde_json::from_slice(&fs::read(run.lab.output().join("manifest.json")).unwrap()).unwrap();
    assert!(manifest["observe"]["grafana"].as_str().unwrap().ends_with("/d/apollo-overview"), "{manifest:#}");

    let watchers = run.children("prometheus");
    assert_eq!(watchers.len(), 2, "Prometheus, and what stands for Grafana");
    run.running.signal("KILL");
    for watcher in watchers {
        wait_for("the watchers' end", || (!lives(watcher)).then_some(()));
    }
}

fn refused(args: &[&str], path: Option<&Path>) -> String {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("run");
    let mut command = bench_command();
    let ports = free_ports(6);
    command.arg("local").args(args).arg("--output").arg(&output);
    command.arg(format!("--base-metric-port={ports}")).arg(format!("--base-p2p-port={}", ports + 3));
    if let Some(path) = path {
        command.env("PATH", path);
    }
    let told = command.output().unwrap();
    let text = String::from_utf8_lossy(&told.stderr).into_owned();
    assert_eq!(told.status.code(), Some(2), "{args:?}: {text}");
    assert_eq!(text.lines().count(), 1, "{args:?}: {text}");
    assert!(!output.exists(), "nothing is left behind");
    text
}

#[test]
fn monitoring_that_can_not_work_is_refused_before_anything_starts() {
    let empty = tempfile::tempdir().unwrap();
    let text = refused(&["--observe"], Some(empty.path()));
    assert!(text.starts_with("error: --observe has nothing to start: prometheus is not on the PATH"), "{text}");
    let text = refused(&["--keep-open"], None);
    assert!(text.contains("--observe"), "{text}");

    let Some(prometheus) = program("prometheus") else { return };
    let path = path_with(&prometheus);
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = format!("--prometheus-port={}", taken.local_addr().unwrap().port());
    let text = refused(&["--observe", &port], Some(path.path()));
    assert!(text.starts_with("error: --prometheus-port") && text.contains("can't be used"), "{text}");
    let text = refused(&["--observe", "--prometheus-port=3000"], Some(path.path()));
    assert!(text.contains("are both 3000"), "{text}");
}

#[test]
fn a_port_of_a_node_is_not_given_to_prometheus() {
    let Some(prometheus) = program("prometheus") else { return };
    let path = path_with(&prometheus);
    let lab = Lab::new(2);
    let mut command = lab.command(&format!("--observe --prometheus-port {}", lab.metric_port + 1));
    let told = command.env("PATH", path.path()).output().unwrap();
    let text = String::from_utf8_lossy(&told.stderr);
    assert_eq!(told.status.code(), Some(2), "{text}");
    assert!(text.contains("is a port of node 1"), "{text}");
}

#[test]
fn turns_share_the_offered_load() {
    let lab = Lab::new(3);
    let args = "--mode rr --round-duration-seconds 1 --heartbeat-millis 20 --timeout 60 --warm-up-seconds 0";
    let _running = Running::start(&mut lab.command(args));
    lab.wait_until_measuring(0);
    let offered = |node: u16| -> f64 {
        let text = get(lab.metric_port + node, "/metrics").unwrap().1;
        let name = "\nbroadcast_message_offered_throughput{class=\"default\"} ";
        text[text.find(name).unwrap() + name.len()..].lines().next().unwrap().parse().unwrap()
    };
    let sum: f64 = (0..3).map(offered).sum();
    assert!((sum - 51_200.0).abs() < 1.0, "what one of them sends in its turn: {sum}");
}

/// Contents of all files of a folder, by their paths.
fn contents(folder: &Path) -> std::collections::BTreeMap<PathBuf, Vec<u8>> {
    let mut all = std::collections::BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            all.extend(contents(&path));
        } else {
            let bytes = fs::read(&path).unwrap();
            all.insert(path, bytes);
        }
    }
    all
}

#[test]
fn a_past_run_is_served_from_a_copy_and_its_folder_stays_as_it_is() {
    let Some(prometheus) = program("prometheus") else { return };
    let path = path_with(&prometheus);
    let run = Watched::start("--timeout 4", path.path());
    let port = run.prometheus_port;
    let Watched { lab, running, .. } = run;
    assert_eq!({ running }.0.wait().unwrap().code(), Some(0));
    let before = contents(&lab.output());
    assert!(before.keys().any(|path| path.ends_with("wal/00000000")), "{:?}", before.keys());
    let range: Value = serde_json::from_slice(&before[&lab.output().join("observe/range.json")]).unwrap();

    let words = lab.folder.path().join("words of show");
    let mut show = bench_command();
    show.arg("show").arg(lab.output()).arg("--observe").arg(format!("--prometheus-port={port}"));
    show.arg(format!("--grafana-port={}", port + 1)).env("PATH", path.path()).stderr(File::create(&words).unwrap());
    let shown = Running(show.spawn().unwrap());
    wait_for("the copy", || fs::read_to_string(&words).unwrap().contains("up until Ctrl-C").then_some(()));
    let watched = Watched { lab, running: shown, prometheus_port: port, words };
    let now = jiff::Timestamp::now().to_string();
    let peers = watched.values("max by (node) (last_over_time(node:connected_peers:last[5m]))", &now);
    assert_eq!(peers, [2.0, 2.0, 2.0], "recorded series are there too");
    let reached = watched.values(r#"run_reach_seconds{share="all",quantile="1"}"#, range["to"].as_str().unwrap());
    assert_eq!(reached.len(), 1, "the range of the run ends after its result");
    watched.running.signal("INT");
    let Watched { lab, running, .. } = watched;
    assert_eq!({ running }.0.wait().unwrap().code(), Some(0));
    assert!(before == contents(&lab.output()), "the folder has changed");

    let empty = tempfile::tempdir().unwrap();
    let told = bench_command().arg("show").arg(empty.path()).arg("--observe").output().unwrap();
    let text = String::from_utf8_lossy(&told.stderr);
    assert_eq!(told.status.code(), Some(2), "{text}");
    assert!(text.contains("only a run with --observe has it"), "{text}");
}
