//! `apollo-bench remote`.

use std::{
    ffi::{OsStr, OsString},
    os::unix::ffi::OsStrExt,
    path::PathBuf,
    process::ExitCode,
};

use clap::Args;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Map, Value};
use tokio::runtime;

use super::{
    attachment::{Attachment, RunArgs},
    endpoint::{Endpoint, endpoints},
    network::{Attached, RemoteError},
};
use crate::{
    access::RunToken,
    clock,
    lab::{INVALID, arguments::PrintArgs, bad_usage, failed, print_run},
    node::StartOrder,
    open_files::raise_open_files,
    paths::as_text_if_given,
    report::{RunFolder, RunSummary},
    terminal::tell,
};

/// A run over nodes that run already.
#[derive(Clone, Debug, Args, Serialize)]
pub struct RemoteArgs {
    /// Endpoints of the nodes, HOST:PORT of their --metric-port; may be given several times, and separated by commas
    #[arg(id = "node", long = "node", value_name = "HOST:PORT", value_delimiter = ',')]
    pub nodes: Vec<Endpoint>,
    /// File with such an endpoint on each line; what follows a # is a comment
    #[arg(long, value_name = "FILE")]
    #[serde(serialize_with = "as_text_if_given")]
    pub nodes_file: Option<PathBuf>,
    /// File with the secret that the nodes were started with [default: the environment variable APOLLO_TOKEN]
    #[arg(long, env = "APOLLO_TOKEN_FILE", value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// Give the start and return; the same command without it collects the run
    #[arg(long, conflicts_with_all = ["keep_nodes", "live", "observe", "json"])]
    pub detach: bool,
    /// Leave the nodes up when their run is collected; else they are ended, for whoever runs them to start them afresh
    #[arg(long)]
    pub keep_nodes: bool,
    /// Folder for results; empty, new, or of the run that is collected [default:
    /// /tmp/broadcast-network-stress-test-TIME-NUMBER]
    #[arg(long, value_name = "DIR")]
    #[serde(serialize_with = "as_text_if_given")]
    pub output: Option<PathBuf>,
    #[command(flatten)]
    #[serde(flatten)]
    #[allow(missing_docs, reason = "a doc comment here would become help text")]
    pub print: PrintArgs,
    #[command(flatten)]
    #[serde(flatten)]
    #[allow(missing_docs, reason = "a doc comment here would become help text")]
    pub run: RunArgs,
}

/// Begins a run over nodes that run already, or joins the one that they are in, and collects it: 0 for a valid run, 1 for one
/// that is not valid or was left, 2 for nodes that can't be used and bad usage.
pub fn remote(args: &RemoteArgs) -> ExitCode {
    if let Err(line) = clock::check() {
        return failed(&line);
    }
    let endpoints = match endpoints(&args.nodes, args.nodes_file.as_deref()) {
        Ok(endpoints) => endpoints,
        Err(error) => return bad_usage(&error.to_string()),
    };
    let token = match RunToken::given(args.token_file.as_deref()) {
        Ok(token) => token,
        Err(line) => return bad_usage(&line),
    };
    let folder = match RunFolder::resume(args.output.as_deref()) {
        Ok(folder) => folder,
        Err(error) => return bad_usage(&error.to_string()),
    };
    raise_open_files();
    let runtime = match runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&format!("the runtime does not start: {error}")),
    };
    let attachment = Attachment {
        backend: "remote".into(),
        endpoints,
        token,
        run: args.run.clone(),
        folder: folder.clone(),
        arguments: serde_json::to_value(args).unwrap_or(Value::Null),
        more: Map::new(),
        warnings: vec![],
        died: None,
    };
    runtime.block_on(async {
        let mut network = match attachment.attach().await {
            Ok(network) => network,
            Err(error) => {
                folder.discard();
                return explain(args, &error, &folder);
            }
        };
        let result = run(args, &mut network).await;
        let code = match &result {
            Ok(None) => ExitCode::SUCCESS,
            Ok(Some(run)) => print(args, run, &folder),
            Err(error) => {
                if !matches!(error, RemoteError::Invalid(_)) && !folder.begun().exists() {
                    folder.discard();
                }
                explain(args, error, &folder)
            }
        };
        network.close(result.as_ref().ok().and_then(Option::as_ref)).await;
        code
    })
}

/// Both halves of the run, or the first alone.
async fn run(args: &RemoteArgs, network: &mut Attached) -> Result<Option<RunSummary>, RemoteError> {
    let joined = network.start().cloned();
    if args.detach && joined.is_some() {
        return Err(RemoteError::Refused(
            "the nodes have a start already: leave --detach out to collect their run".into(),
        ));
    }
    network.watch().await?;
    let begun = match joined {
        Some(start) => {
            tell(&format!("The nodes are in a run already, {}: it is collected", times(&start)));
            None
        }
        None => Some(network.begin().await?),
    };
    if let (true, Some(begun)) = (args.detach, &begun) {
        let times = times(&begun.start);
        tell(&format!(
            "The run of {} nodes has begun, {times}. Collect it with\n  {}",
            network.num_nodes(),
            again(args, network.folder())
        ));
        return Ok(None);
    }
    let run = network.collect(begun).await?;
    if !args.keep_nodes {
        for line in network.end().await {
            tell(&format!("warning: {line}"));
        }
    }
    Ok(Some(run))
}

fn print(args: &RemoteArgs, run: &RunSummary, folder: &RunFolder) -> ExitCode {
    match print_run(run, folder, args.print) {
        Err(line) => failed(&line),
        Ok(()) if run.verdict.valid => ExitCode::SUCCESS,
        Ok(()) => ExitCode::from(INVALID),
    }
}

fn explain(args: &RemoteArgs, error: &RemoteError, folder: &RunFolder) -> ExitCode {
    match error {
        RemoteError::Refused(line) => bad_usage(line),
        RemoteError::Invalid(run) => print(args, run, folder),
        RemoteError::Interrupted if folder.begun().is_file() => {
            failed(&format!("interrupted; the nodes go on: collect the run with {}", again(args, folder)))
        }
        RemoteError::Interrupted => failed("interrupted; the nodes were given no start"),
    }
}

/// When the window is.
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

/// A word as a shell takes it; bytes that are not text as bash and others write them.
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

/// This command, to collect the run.
fn again(args: &RemoteArgs, folder: &RunFolder) -> String {
    let mut words: Vec<OsString> = std::env::args_os().filter(|word| word != "--detach").collect();
    if args.output.is_none() {
        let mut output = OsString::from("--output=");
        output.push(folder.root());
        words.push(output);
    }
    words.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" ")
}
