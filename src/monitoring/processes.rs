//! Monitoring programs: started before the nodes, ended after them, or left up.

use std::{
    fs::{self, File},
    io,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use jiff::Timestamp;
use nix::sys::signal::Signal;
use reqwest::{Client, Url};
use serde::{Deserialize, Serialize};
use tokio::process::{Child, Command};

use super::{
    config::{Addresses, Kept, Monitoring, RULES, SCRAPE_SECONDS},
    status::{Endpoint, RunStatus},
};
use crate::{
    children::{kill_group, log_tail, tether},
    clock::{Instant, sleep, timeout, timestamp},
    dashboards::{Configuration, Host, RUNNER_JOB, Scraping, configuration, json},
    http::{self, get_json},
    report::{RunFolder, RunSummary},
    secret::{make_private, write_private},
    signals::Interrupts,
    terminal::tell,
};

/// Maximum time to wait for an answer of each program. Grafana makes its database first, which takes processors that
/// the run needs later.
const PROMETHEUS_PATIENCE: Duration = Duration::from_secs(30);
const GRAFANA_PATIENCE: Duration = Duration::from_secs(60);
/// Maximum time to wait for the scrape that contains the end of the run.
const LAST_SCRAPE: Duration = Duration::from_secs(5);
const POLL: Duration = Duration::from_millis(100);
/// Maximum time to end cleanly after SIGTERM.
const STOP_TIMEOUT: Duration = Duration::from_secs(8);

/// A monitoring program.
struct Watcher {
    name: &'static str,
    child: Child,
    log: PathBuf,
}

impl Watcher {
    fn start(name: &'static str, mut command: Command, log: &Path) -> Result<Self, String> {
        let mut spawn = || -> io::Result<Child> {
            let file = File::create(log)?;
            command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
            tether(&mut command);
            command.spawn()
        };
        let child = spawn().map_err(|error| format!("{name} does not start: {error}"))?;
        Ok(Self { name, child, log: log.into() })
    }

    /// End of the program, if it has ended.
    fn ended(&mut self) -> Option<String> {
        let status = self.child.try_wait().ok().flatten()?;
        Some(format!("{} ended ({status}){}", self.name, log_tail(&self.log)))
    }

    async fn stop(&mut self) {
        kill_group(&self.child, Signal::SIGTERM);
        if timeout(STOP_TIMEOUT, self.child.wait()).await.is_err() {
            kill_group(&self.child, Signal::SIGKILL);
            let _ = self.child.wait().await;
        }
    }
}

/// Name of the file with the time range of a run, beside the data of Prometheus.
const RANGE: &str = "range.json";

/// Time range that Grafana shows; without an end up to the present.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Range {
    /// Name of the run.
    pub(super) run: String,
    pub(super) from: Timestamp,
    pub(super) to: Option<Timestamp>,
}

impl Range {
    fn write(&self, root: &Path) -> io::Result<()> {
        write_private(&root.join(RANGE), json(self).as_bytes())
    }

    /// Range that a run has written into its folder of monitoring; none if it was killed before, or is older than the
    /// file.
    pub(super) fn read(root: &Path) -> Option<Self> {
        serde_json::from_slice(&fs::read(root.join(RANGE)).ok()?).ok()
    }

    /// Address of this range of a dashboard at `address`.
    pub(super) fn of(&self, address: &str) -> String {
        let to = self.to.map_or_else(|| "now".to_owned(), |to| to.as_millisecond().to_string());
        let from = self.from.as_millisecond().to_string();
        let facts = [("var-run", self.run.as_str()), ("from", &from), ("to", &to)];
        Url::parse_with_params(address, facts).map_or_else(|_| address.to_owned(), String::from)
    }
}

/// Work of the programs.
pub(super) struct Work<'a> {
    /// Folder of their configuration and data.
    pub(super) root: &'a Path,
    pub(super) configuration: &'a Configuration,
    pub(super) kept: Kept,
    /// Number of targets of the configuration.
    pub(super) targets: usize,
    /// Logs of Prometheus and Grafana.
    pub(super) logs: [PathBuf; 2],
}

/// Monitoring programs of a run. Dropping this kills them.
#[derive(Default)]
pub(crate) struct Observers {
    status: RunStatus,
    endpoint: Option<Endpoint>,
    range: Option<Range>,
    /// Folder of the configuration and data.
    root: PathBuf,
    prometheus: Option<Watcher>,
    grafana: Option<Watcher>,
    /// Port of Prometheus, and the addresses of both programs, once they are started.
    port: u16,
    addresses: Addresses,
}

/// Prometheus' answer about its targets.
#[derive(Deserialize)]
struct Answer {
    data: Data,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Data {
    active_targets: Vec<Target>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Target {
    scrape_pool: String,
    /// RFC 3339; the year 1 before the first scrape.
    last_scrape: String,
}

impl Target {
    fn is_runner(&self) -> bool {
        self.scrape_pool == RUNNER_JOB
    }

    fn scraped_since(&self, time: Timestamp) -> bool {
        self.last_scrape.parse::<Timestamp>().is_ok_and(|last| last > time)
    }
}

impl Observers {
    /// Starts the programs of `monitoring`, configured for `hosts`, and waits until they answer; `line` shows a line.
    ///
    /// # Errors
    /// Fails if Prometheus does not start, because its data would be lost. Grafana can be started later.
    pub(crate) async fn start(
        &mut self,
        monitoring: &Monitoring,
        folder: &RunFolder,
        hosts: Vec<Host>,
        line: &dyn Fn(&str),
    ) -> Result<(), String> {
        for missing in &monitoring.missing {
            line(&format!("{missing}; the run continues without it"));
        }
        let run = folder.root().file_name().unwrap_or_default().to_string_lossy().into_owned();
        let (root, count) = (folder.observe(), hosts.len() + 1);
        make_private(&root).map_err(|error| format!("{}: {error}", root.display()))?;
        let endpoint = Endpoint::start(&self.status).await;
        let endpoint = endpoint.map_err(|error| format!("the runner's endpoint for Prometheus: {error}"))?;
        let scraping = Scraping { run: &run, seconds: SCRAPE_SECONDS, rules: RULES, targets: hosts };
        let configuration = configuration(&scraping).with_runner(&run, endpoint.address.to_string());
        self.endpoint = Some(endpoint);
        let range = async |_| Ok(Range { run, from: timestamp(), to: None });
        let logs = [folder.log("prometheus"), folder.log("grafana")];
        let work = Work { root: &root, configuration: &configuration, kept: Kept::Newest, targets: count, logs };
        self.launch(monitoring, work, range, line).await
    }

    /// Starts the programs, and waits until they answer and Prometheus has its targets. `range` is asked for the time range of Grafana, with the port of Prometheus, once that answers.
    pub(super) async fn launch(
        &mut self,
        monitoring: &Monitoring,
        work: Work<'_>,
        range: impl AsyncFnOnce(u16) -> Result<Range, String>,
        line: &dyn Fn(&str),
    ) -> Result<(), String> {
        let Work { root, configuration, kept, targets: count, logs: [prometheus_log, grafana_log] } = work;
        monitoring.write(root, configuration).map_err(|error| format!("{}: {error}", root.display()))?;
        (self.port, self.addresses) = (monitoring.ports.0, monitoring.addresses());
        root.clone_into(&mut self.root);
        if let Some(program) = &monitoring.prometheus {
            let command = monitoring.prometheus_command(program, root, kept);
            self.prometheus = Some(Watcher::start("prometheus", command, &prometheus_log)?);
        }
        if let Some(grafana) = &monitoring.grafana {
            let started = monitoring.grafana_command(grafana, root).map_err(|error| error.to_string());
            match started.and_then(|command| Watcher::start("grafana", command, &grafana_log)) {
                Ok(watcher) => self.grafana = Some(watcher),
                Err(error) => line(&format!("warning: {error}; the run continues")),
            }
        }
        if let (Some(watcher), Some(address)) = (&mut self.prometheus, &self.addresses.prometheus) {
            prometheus_answers(watcher, self.port, count).await?;
            line(&format!("Prometheus: {address}"));
        }
        self.range = Some(range(self.port).await?);
        if let (Some(watcher), Some(address)) = (&mut self.grafana, &self.addresses.grafana) {
            match grafana_answers(watcher, monitoring.ports.1).await {
                Ok(()) => line(&format!(
                    "Grafana: {}",
                    self.range.as_ref().map_or(address.clone(), |range| range.of(address))
                )),
                Err(error) => line(&format!("warning: {error}; the run continues")),
            }
        }
        Ok(())
    }

    /// Waits until Prometheus has scraped every node once more, so that it has the end of the run. Returns the problems
    /// of the monitoring.
    pub(crate) async fn last_scrape(&mut self) -> Vec<String> {
        let warnings = self.scrape_once_more().await;
        if let Some(range) = &mut self.range {
            range.to = Some(timestamp());
        }
        warnings
    }

    /// State of the run for Prometheus.
    pub(crate) fn status(&self) -> &RunStatus {
        &self.status
    }

    async fn scrape_once_more(&mut self) -> Vec<String> {
        let watchers = [&mut self.prometheus, &mut self.grafana];
        let mut warnings: Vec<String> = watchers.into_iter().flatten().filter_map(Watcher::ended).collect();
        if self.prometheus.is_some()
            && !warnings.iter().any(|line| line.starts_with("prometheus"))
            && let Err(line) = scraped_since(timestamp(), self.port, |_| true).await
        {
            warnings.push(format!("the end of the run may be missing in Prometheus: {line}"));
        }
        warnings
    }

    /// Shows the result of the run, if it has one, leaves the programs up until Ctrl-C if `stay_open`, then stops them.
    pub(crate) async fn end(&mut self, run: Option<&RunSummary>, stay_open: bool) {
        self.status.phase("finished");
        if let Some(run) = run {
            self.show_result(run).await;
        }
        if stay_open && (self.prometheus.is_some() || self.grafana.is_some()) {
            self.stay_open("The nodes are stopped. ").await;
        }
        for watcher in [&mut self.prometheus, &mut self.grafana].into_iter().flatten() {
            watcher.stop().await;
        }
    }

    /// Waits until Prometheus has the times to reach from the runner, lets the time range end after them, and writes it
    /// for [`super::show_past`].
    async fn show_result(&mut self, run: &RunSummary) {
        let Some(range) = &mut self.range else { return };
        if self.status.reach(run)
            && self.prometheus.is_some()
            && let Err(line) = scraped_since(timestamp(), self.port, Target::is_runner).await
        {
            tell(&format!("warning: the times to reach may be missing in Prometheus: {line}"));
        }
        range.to = Some(timestamp());
        if let Err(error) = range.write(&self.root) {
            tell(&format!("warning: {}: {error}; a later look at the run ends at its last count", self.root.display()));
        }
    }

    /// Shows the addresses after a text, and waits for Ctrl-C or the end of both programs.
    pub(super) async fn stay_open(&mut self, first: &str) {
        let Addresses { prometheus, grafana } = &self.addresses;
        let Ok(mut interrupts) = Interrupts::new() else { return };
        let at: Vec<String> = [
            self.prometheus.as_ref().and(prometheus.as_ref()).map(|address| format!("Prometheus at {address}")),
            self.grafana.as_ref().and(grafana.as_ref()).map(|address| {
                format!("Grafana at {}", self.range.as_ref().map_or(address.clone(), |range| range.of(address)))
            }),
        ]
        .into_iter()
        .flatten()
        .collect();
        let programs = if at.len() == 2 { "Prometheus and Grafana stay" } else { "Prometheus stays" };
        tell(&format!("{first}{programs} up until Ctrl-C: {}", at.join(", ")));
        let all_ended = async {
            let mut left = [&mut self.prometheus, &mut self.grafana];
            while left.iter_mut().any(|watcher| watcher.as_mut().is_some_and(|watcher| watcher.ended().is_none())) {
                sleep(POLL).await;
            }
        };
        tokio::select! {
            _ = interrupts.next() => {}
            () = all_ended => {}
        }
    }
}

/// Waits until Prometheus is ready and has begun to scrape all nodes; a new Prometheus takes up to five seconds for
/// that.
async fn prometheus_answers(watcher: &mut Watcher, port: u16, nodes: usize) -> Result<(), String> {
    let http: Client = http::client(None)?;
    let since = Instant::now();
    loop {
        if let Some(line) = watcher.ended() {
            return Err(line);
        }
        let ready = http.get(format!("http://127.0.0.1:{port}/-/ready")).send().await;
        if ready.is_ok_and(|answer| answer.status().is_success())
            && targets(&http, port).await.is_ok_and(|targets| targets.len() == nodes)
        {
            return Ok(());
        }
        if since.elapsed() > PROMETHEUS_PATIENCE {
            let log = log_tail(&watcher.log);
            return Err(format!("prometheus is not ready after {} s{log}", PROMETHEUS_PATIENCE.as_secs()));
        }
        sleep(POLL).await;
    }
}

/// Names of the runs in the data of the Prometheus at this port.
pub(super) async fn runs_of(port: u16) -> Result<Vec<String>, String> {
    /// Prometheus' answer about the values of a label.
    #[derive(Deserialize)]
    struct Values {
        data: Vec<String>,
    }
    let url = format!("http://127.0.0.1:{port}/api/v1/label/run/values");
    Ok(get_json::<Values>(&http::client(None)?, &url).await.map(|answer| answer.data)?)
}

async fn targets(http: &Client, port: u16) -> Result<Vec<Target>, String> {
    let url = format!("http://127.0.0.1:{port}/api/v1/targets?state=active");
    Ok(get_json::<Answer>(http, &url).await.map(|answer| answer.data.active_targets)?)
}

/// Grafana listens after everything else is set up.
async fn grafana_answers(watcher: &mut Watcher, port: u16) -> Result<(), String> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let since = Instant::now();
    loop {
        if let Some(line) = watcher.ended() {
            return Err(line);
        }
        if tokio::net::TcpStream::connect(address).await.is_ok() {
            return Ok(());
        }
        if since.elapsed() > GRAFANA_PATIENCE {
            let log = log_tail(&watcher.log);
            return Err(format!("grafana does not answer after {} s{log}", GRAFANA_PATIENCE.as_secs()));
        }
        sleep(POLL).await;
    }
}

/// Waits until all of these targets were scraped after a time.
async fn scraped_since(time: Timestamp, port: u16, of: impl Fn(&Target) -> bool) -> Result<(), String> {
    let http = http::client(None)?;
    let since = Instant::now();
    loop {
        let answer = targets(&http, port).await;
        if answer
            .as_ref()
            .is_ok_and(|targets| targets.iter().filter(|target| of(target)).all(|target| target.scraped_since(time)))
        {
            // Scraped values are stored at once; rules are evaluated separately, at the same interval.
            sleep(Duration::from_secs(SCRAPE_SECONDS)).await;
            return Ok(());
        }
        if since.elapsed() > LAST_SCRAPE {
            return Err(answer.err().unwrap_or_else(|| "a target was not scraped any more".into()));
        }
        sleep(POLL).await;
    }
}
