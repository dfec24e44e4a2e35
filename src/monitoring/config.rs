//! Prometheus and Grafana for a run: found and checked before anything starts, and their configuration.

use std::{
    ffi::OsString,
    fs, io,
    net::{Ipv4Addr, TcpListener},
    path::{Path, PathBuf},
};

use clap::Args;
use serde::Serialize;
use tokio::process::Command;

use crate::{
    dashboards::{self, Configuration, OVERVIEW_PATH},
    node::{NodeConfig, UsageError},
    paths::on_path,
    secret::{secret, write_private},
};

/// Scrape interval of a run on this machine, in seconds.
pub(crate) const SCRAPE_SECONDS: u64 = 1;

/// Maximum size of Prometheus' data on disk.
const DISK_LIMIT: &str = "8GB";

/// Time after which Prometheus removes stored data; by default it would remove all of a run two weeks later.
const FOR_EVER: &str = "100y";

/// Name of the file of rules.
pub(super) const RULES: &str = "rules.yml";

/// Data that Prometheus does not remove.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kept {
    /// The newest, up to a size.
    Newest,
    /// All of it.
    All,
}

/// Monitoring of a run with Prometheus and Grafana.
#[derive(Clone, Debug, Args, Serialize)]
#[command(next_help_heading = "Watching")]
pub(crate) struct ObserveArgs {
    /// Start Prometheus and Grafana with the run, if they are on the PATH
    #[arg(long)]
    pub(crate) observe: bool,
    /// Port of Prometheus, on 127.0.0.1
    #[arg(long, value_name = "PORT", default_value_t = 9090, value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) prometheus_port: u16,
    /// Port of Grafana, on 127.0.0.1
    #[arg(long, value_name = "PORT", default_value_t = 3000, value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) grafana_port: u16,
}

/// Monitoring of a run: existing programs, at free ports.
#[derive(Debug)]
pub(crate) struct Monitoring {
    pub(crate) prometheus: Option<PathBuf>,
    pub(crate) grafana: Option<Grafana>,
    /// Ports of Prometheus and Grafana.
    pub(crate) ports: (u16, u16),
    /// A line for each missing program.
    pub(crate) missing: Vec<String>,
}

/// Grafana's server.
#[derive(Debug)]
pub(crate) struct Grafana {
    program: PathBuf,
    subcommand: Option<&'static str>,
    /// Folder with Grafana's `conf/defaults.ini` and `public`.
    home: PathBuf,
}

/// Addresses for the user, in the manifest.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Addresses {
    pub(crate) prometheus: Option<String>,
    pub(crate) grafana: Option<String>,
}

impl Monitoring {
    /// Finds the programs and checks the ports, if the run is monitored.
    pub(crate) fn new(args: &ObserveArgs, nodes: &[NodeConfig]) -> Result<Option<Self>, UsageError> {
        if !args.observe {
            return Ok(None);
        }
        let mut missing = vec![];
        let prometheus = on_path("prometheus");
        if prometheus.is_none() {
            missing.push("prometheus is not on the PATH (Debian: apt-get install prometheus)".to_owned());
        }
        let grafana = find_grafana().map_err(|line| missing.push(line)).ok();
        if prometheus.is_none() && grafana.is_none() {
            return Err(UsageError(format!("--observe has nothing to start: {}", missing.join("; "))));
        }
        let ports = [
            ("--prometheus-port", args.prometheus_port, prometheus.is_some()),
            ("--grafana-port", args.grafana_port, grafana.is_some()),
        ];
        if args.prometheus_port == args.grafana_port {
            return Err(UsageError(format!("--prometheus-port and --grafana-port are both {}", args.grafana_port)));
        }
        for (flag, port, _) in ports.iter().filter(|(.., used)| *used) {
            if let Some(node) = nodes.iter().find(|node| [node.metric_port, node.p2p_port].contains(port)) {
                return Err(UsageError(format!("{flag} {port} is a port of node {}: choose another", node.id)));
            }
            TcpListener::bind((Ipv4Addr::LOCALHOST, *port))
                .map_err(|error| UsageError(format!("{flag} {port} can't be used: {error}; choose another")))?;
        }
        let ports = (args.prometheus_port, args.grafana_port);
        Ok(Some(Self { prometheus, grafana, ports, missing }))
    }

    /// Addresses for the user.
    pub(crate) fn addresses(&self) -> Addresses {
        let address = |port: u16| format!("http://127.0.0.1:{port}");
        Addresses {
            prometheus: self.prometheus.is_some().then(|| address(self.ports.0)),
            grafana: self.grafana.is_some().then(|| address(self.ports.1) + OVERVIEW_PATH),
        }
    }

    /// Writes the configuration of both programs into the folder `root`, which must be private, because Grafana's database
    /// contains keys and passwords.
    pub(crate) fn write(&self, root: &Path, configuration: &Configuration) -> io::Result<()> {
        let write = |path: &str, text: String| {
            let path = root.join(path);
            fs::create_dir_all(path.parent().unwrap_or(root))?;
            write_private(&path, text.as_bytes())
        };
        write("prometheus.yml", dashboards::json(configuration))?;
        write(RULES, dashboards::json(&dashboards::rules(SCRAPE_SECONDS)))?;
        for (name, dashboard) in dashboards::dashboards() {
            write(&format!("dashboards/{name}"), dashboards::json(&dashboard))?;
        }
        let source = dashboards::datasource(&format!("http://127.0.0.1:{}", self.ports.0), SCRAPE_SECONDS);
        write("provisioning/datasources/apollo.yml", dashboards::json(&source))?;
        let provider = dashboards::provider(&root.join("dashboards").to_string_lossy());
        write("provisioning/dashboards/apollo.yml", dashboards::json(&provider))?;
        // Grafana complains if these folders are missing.
        for empty in ["provisioning/plugins", "provisioning/alerting", "grafana/plugins"] {
            fs::create_dir_all(root.join(empty))?;
        }
        write("grafana.ini", dashboards::ini("127.0.0.1", self.ports.1))
    }

    /// Starts Prometheus.
    pub(crate) fn prometheus_command(&self, program: &Path, root: &Path, kept: Kept) -> Command {
        let mut command = Command::new(program);
        let flag = |name: &str, value: &Path| {
            let mut flag = OsString::from(name);
            flag.push(value);
            flag
        };
        command.arg(flag("--config.file=", &root.join("prometheus.yml")));
        command.arg(flag("--storage.tsdb.path=", &root.join("prometheus")));
        command.arg(match kept {
            Kept::Newest => format!("--storage.tsdb.retention.size={DISK_LIMIT}"),
            Kept::All => format!("--storage.tsdb.retention.time={FOR_EVER}"),
        });
        command.arg(format!("--web.listen-address=127.0.0.1:{}", self.ports.0));
        command.current_dir(root);
        command
    }

    /// Starts Grafana.
    pub(crate) fn grafana_command(&self, grafana: &Grafana, root: &Path) -> io::Result<Command> {
        let mut command = Command::new(&grafana.program);
        command.args(grafana.subcommand);
        command.arg("--homepath").arg(&grafana.home).arg("--config").arg(root.join("grafana.ini"));
        // Only the settings of the run apply, not the variables that this shell has for other instances of Grafana.
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("GF_")) {
            command.env_remove(name);
        }
        command.env("GF_PATHS_DATA", root.join("grafana"));
        command.env("GF_PATHS_LOGS", root.join("grafana/log"));
        command.env("GF_PATHS_PLUGINS", root.join("grafana/plugins"));
        command.env("GF_PATHS_PROVISIONING", root.join("provisioning"));
        command.env("GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH", root.join("dashboards/overview.json"));
        // Nobody logs in, so no secret exists, but version 13 does not start without a key for secrets.
        command.env("GF_SECURITY_ADMIN_PASSWORD", secret()?);
        command.env("GF_SECURITY_SECRET_KEY", secret()?);
        command.current_dir(root);
        Ok(command)
    }
}

/// Grafana's server and the folder of its own files.
fn find_grafana() -> Result<Grafana, String> {
    // Version 13 has no `grafana-server`.
    let Some(found) = on_path("grafana").or_else(|| on_path("grafana-server")) else {
        return Err(
            "grafana is not on the PATH (neither 'grafana' nor 'grafana-server'; https://grafana.com/grafana/download \
                    has packages)"
                .into(),
        );
    };
    let real = fs::canonicalize(&found).unwrap_or_else(|_| found.clone());
    let prefix = real.parent().and_then(Path::parent).unwrap_or(Path::new("/"));
    // Places in the container, in an unpacked archive, and in a package of a system or of Nix.
    let homes =
        [std::env::var_os("GF_PATHS_HOME").map(PathBuf::from), Some(prefix.into()), Some(prefix.join("share/grafana"))];
    let home = homes.into_iter().flatten().find(|home| home.join("conf/defaults.ini").is_file()).ok_or_else(|| {
        format!(
            "{} is there, but not its folder with conf/defaults.ini: set GF_PATHS_HOME to that folder",
            found.display()
        )
    })?;
    // Packages have a script on the PATH that adds settings of its own to the given ones.
    let own = home.join("bin/grafana");
    let program = if own.is_file() { own } else { found };
    let subcommand = program.ends_with("grafana").then_some("server");
    Ok(Grafana { program, subcommand, home })
}
