//! `apollo-bench remote`.

use std::{
    ffi::{OsStr, OsString},
    os::unix::ffi::OsStrExt,
    path::PathBuf,
};

use clap::Args;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Map, Value};
use tokio::runtime;

use super::{
    arguments::{LiveArgs, PrintArgs},
    error::CliError,
    print::{print_run, verdict},
    scenario_file::{Source, read_scenario},
    scenario_flags::{LinkFlags, MeasurementFlags, finish},
};
use crate::{
    access::RunToken,
    clock,
    deploy::{
        check,
        remote::{CAPABILITIES, Endpoint, endpoints},
    },
    experiment::fault_needs,
    monitoring::ObserveArgs,
    node::StartOrder,
    open_files::raise_fd_limit,
    paths::as_text_if_given,
    remote::{RemoteError, RemoteNetwork, RemoteRun, RemoteSpec},
    report::{RunFolder, RunSummary},
    terminal::tell,
};

/// A run over existing nodes.
#[derive(Clone, Debug, Args, Serialize)]
pub(super) struct RemoteArgs {
    /// Endpoint of a node, HOST:PORT of its --metric-port; may be given several times, and separated by commas
    #[arg(id = "node", long = "node", value_name = "HOST:PORT", value_delimiter = ',')]
    pub(super) nodes: Vec<Endpoint>,
    /// File with an endpoint on each line; text after a # is a comment
    #[arg(long, value_name = "FILE")]
    #[serde(serialize_with = "as_text_if_given")]
    pub(super) nodes_file: Option<PathBuf>,
    /// File with the secret that the nodes were started with [default: the environment variable APOLLO_TOKEN]
    #[arg(long, env = "APOLLO_TOKEN_FILE", value_name = "FILE")]
    pub(super) token_file: Option<PathBuf>,
    /// Send the start and return; the same command without --detach collects the run
    #[arg(long, conflicts_with_all = ["keep_nodes", "live", "observe", "json"])]
    pub(super) detach: bool,
    /// Keep the nodes after their run is collected; by default they are ended, so that their service manager can
    /// restart them
    #[arg(long)]
    pub(super) keep_nodes: bool,
    /// Folder for results; empty, new, or of the run that is collected [default:
    /// /tmp/broadcast-network-stress-test-TIME-NUMBER]
    #[arg(long, value_name = "DIR")]
    #[serde(serialize_with = "as_text_if_given")]
    pub(super) output: Option<PathBuf>,
    #[command(flatten)]
    #[serde(flatten)]
    #[allow(missing_docs, reason = "a doc comment here would become help text")]
    pub(super) print: PrintArgs,
    #[command(flatten)]
    #[serde(flatten)]
    #[allow(missing_docs, reason = "a doc comment here would become help text")]
    pub(super) run: RemoteRunArgs,
}

/// Parameters of a run over existing nodes. The nodes decide their own traffic.
#[derive(Clone, Debug, Args, Serialize)]
pub(super) struct RemoteRunArgs {
    /// Scenario with the measurement and links of this run, and the traffic that the nodes were started with
    #[arg(long, value_name = "FILE")]
    #[serde(serialize_with = "as_text_if_given")]
    pub(super) scenario: Option<PathBuf>,
    /// Value of the scenario to replace, by its key, such as measurement.window_seconds=60; may be given several times
    #[arg(long, value_name = "KEY=VALUE")]
    pub(super) set: Vec<String>,
    #[command(flatten)]
    #[serde(flatten)]
    pub(super) measurement: MeasurementFlags,
    #[command(flatten)]
    pub(super) links: LinkFlags,
    #[command(flatten)]
    pub(super) live: LiveArgs,
    #[command(flatten)]
    pub(super) observe: ObserveArgs,
}

impl RemoteRunArgs {
    fn checked(&self) -> Result<RemoteRun, CliError> {
        let source = match &self.scenario {
            Some(path) => read_scenario(path, &self.set)?,
            None => Source::of_flags(&self.set)?,
        };
        let mut scenario = source.scenario.clone();
        self.measurement.apply(&mut scenario);
        self.links.apply(&mut scenario)?;
        let (measurement, links) = (scenario.measurement.clone(), scenario.links.clone());
        let expected = match &self.scenario {
            Some(_) => {
                let expected = finish(scenario, &source)?;
                let needs =
                    fault_needs(&expected.fault_schedule().map_err(|error| CliError::Usage(error.to_string()))?)
                        .map(|need| check(&CAPABILITIES, [need]))
                        .collect::<Result<Vec<_>, _>>();
                needs?;
                Some(Box::new(expected))
            }
            None => None,
        };
        let groups = expected.as_ref().map(|expected| expected.groups.clone()).unwrap_or_default();
        Ok(RemoteRun {
            measurement,
            links,
            groups,
            expected,
            live_port: self.live.port(&self.observe)?,
            keep_open: self.live.keep_open,
            observe: self.observe.clone(),
        })
    }
}

/// Begins a run over existing nodes, or joins the one that they are in, and collects it.
pub(super) fn remote(args: &RemoteArgs) -> Result<(), CliError> {
    clock::check().map_err(CliError::Failed)?;
    let endpoints = endpoints(&args.nodes, args.nodes_file.as_deref())?;
    let token = RunToken::given(args.token_file.as_deref()).map_err(CliError::Usage)?;
    let remote_run = args.run.checked()?;
    let folder = RunFolder::resume(args.output.as_deref()).map_err(|error| CliError::Usage(error.to_string()))?;
    raise_fd_limit();
    let runtime = runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| CliError::Failed(format!("the runtime does not start: {error}")))?;
    let spec = RemoteSpec {
        backend: "remote".into(),
        endpoints,
        token,
        run: remote_run,
        folder: folder.clone(),
        arguments: serde_json::to_value(args).unwrap_or(Value::Null),
        more: Map::new(),
        warnings: vec![],
        died: None,
    };
    runtime.block_on(async {
        let mut network = spec.attach().await.map_err(|error| {
            folder.discard();
            explain(args, &error, &folder)
        })?;
        let result = run(args, &mut network).await;
        let done = match &result {
            Ok(None) => Ok(()),
            Ok(Some(run)) => print_run(run, &folder, &args.print).and_then(|()| verdict(run)),
            Err(error) => {
                if !matches!(error, RemoteError::Invalid(_)) && !folder.start().exists() {
                    folder.discard();
                }
                Err(explain(args, error, &folder))
            }
        };
        network.close(result.as_ref().ok().and_then(Option::as_ref)).await;
        done
    })
}

/// Runs both halves of the run, or the first alone.
async fn run(args: &RemoteArgs, network: &mut RemoteNetwork) -> Result<Option<RunSummary>, RemoteError> {
    let joined = network.start().cloned();
    if args.detach && joined.is_some() {
        return Err(RemoteError::Refused(
            "the nodes have a start already: leave --detach out to collect their run".into(),
        ));
    }
    network.watch().await?;
    let started = match joined {
        Some(start) => {
            tell(&format!("The nodes are in a run already, {}: it is collected", times(&start)));
            None
        }
        None => Some(network.begin().await?),
    };
    if let (true, Some(started)) = (args.detach, &started) {
        let times = times(&started.start);
        tell(&format!(
            "The run of {} nodes has begun, {times}. Collect it with\n  {}",
            network.num_nodes(),
            command_again(args, network.folder())
        ));
        return Ok(None);
    }
    let run = network.collect(started).await?;
    if !args.keep_nodes {
        for line in network.end().await {
            tell(&format!("warning: {line}"));
        }
    }
    Ok(Some(run))
}

/// Error of a run; the result of an invalid run is printed.
fn explain(args: &RemoteArgs, error: &RemoteError, folder: &RunFolder) -> CliError {
    match error {
        RemoteError::Refused(line) => CliError::Usage(line.clone()),
        RemoteError::Invalid(run) => print_run(run, folder, &args.print).err().unwrap_or(CliError::Invalid),
        RemoteError::Interrupted if folder.start().is_file() => CliError::Failed(format!(
            "interrupted; the nodes continue: collect the run with {}",
            command_again(args, folder)
        )),
        RemoteError::Interrupted => CliError::Failed("interrupted; the nodes were given no start".into()),
    }
}

/// Time of the window.
fn times(start: &StartOrder) -> String {
    let time = |nanos: u64| {
        Timestamp::from_nanosecond(i128::from(nanos)).map_or_else(|_| "?".into(), |time| format!("{time:.0}"))
    };
    let from = time(start.from_unix_nanos());
    match start.to_unix_nanos() {
        Some(to) => format!("measured from {from} to {}", time(to)),
        None => format!("from {from} on"),
    }
}

/// This command as a shell command line, to collect the run.
fn command_again(args: &RemoteArgs, folder: &RunFolder) -> String {
    let mut words: Vec<OsString> = std::env::args_os().filter(|word| word != "--detach").collect();
    if args.output.is_none() {
        let mut output = OsString::from("--output=");
        output.push(folder.root());
        words.push(output);
    }
    words.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" ")
}

/// A word as a shell takes it; bytes that are not text in the syntax of bash and others.
fn quoted(word: &OsStr) -> String {
    let bytes = word.as_bytes();
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_=./:,[]%@+".contains(byte);
    match word.to_str() {
        Some(text) if !bytes.is_empty() && bytes.iter().all(plain) => text.to_owned(),
        Some(text) if !text.chars().any(char::is_control) => format!("'{}'", text.replace('\'', "'\\''")),
        _ => {
            let byte = |byte: &u8| if plain(byte) { char::from(*byte).to_string() } else { format!("\\x{byte:02x}") };
            format!("$'{}'", bytes.iter().map(byte).collect::<String>())
        }
    }
}
