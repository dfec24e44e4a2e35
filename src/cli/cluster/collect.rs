//! `apollo-bench cluster collect`: collects a run into a folder like that of any other run.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, BufWriter, Write},
    sync::Arc,
    time::Duration,
};

use serde_json::{Map, Value, json};
use tokio::sync::mpsc;

use super::{
    commands::CollectArgs,
    remote::remote_run,
    session::{RunThere, hint, interrupts},
};
use crate::{
    cli::{
        error::CliError,
        print::{print_run, verdict},
    },
    deploy::kubernetes::{Lookout, NodePorts, death, names::JOB},
    kubernetes::{KubernetesError, LogLine, PodState, Read, list_pods, read},
    remote::{RemoteError, RemoteSpec},
    report::{FolderError, RunFolder, RunSummary},
    terminal::tell,
};

/// Number of logs that are read at once.
const LOGS_AT_ONCE: usize = 8;
/// Number of lines between the server and the files.
const LINES: usize = 1024;
/// Maximum size of a log, in bytes: more than the nodes themselves write.
const LOG_LIMIT: u64 = 512 << 20;

/// Maximum time for nodes to answer, in general and if some are known to be dead.
const WAIT: Duration = Duration::from_secs(60);
const SHORT_WAIT: Duration = Duration::from_secs(20);

pub(super) async fn collect(args: &CollectArgs) -> Result<(), CliError> {
    let there = RunThere::find(&args.connect).await?;
    let record = &there.record;
    let pods = list_pods(&there.cluster, &record.namespace, &there.selector()).await?;
    let alive = (0..record.workload.num_nodes).any(|id| node(&pods, id).is_some_and(|pod| !pod.ended));
    if there.started.is_none() && !alive {
        return Err(CliError::Usage(format!(
            "the run {} has no start yet: see '{}'",
            record.name,
            hint("status", &record.namespace, &args.connect)
        )));
    }
    let folder = RunFolder::resume(args.output.as_deref()).map_err(|error| CliError::Usage(error.to_string()))?;
    let dead = deaths(&pods, record.workload.num_nodes);
    let collected = if alive {
        from_nodes(args, &there, &pods, dead, &folder).await
    } else {
        let reason = format!("no node is alive any more, and all counts are lost: {}", dead.join("; "));
        without_nodes(args, &there, &pods, reason, &folder).await
    };
    let run = match collected {
        Ok(run) => run,
        Err(error) => {
            // A collection that was begun is continued.
            if !folder.start().is_file() {
                folder.discard();
            }
            return Err(error.into());
        }
    };
    folder.write_json(&folder.summary(), &run)?;
    print_run(&run, &folder, &args.print)?;
    if !args.keep_nodes {
        tell(&format!("'{}' removes the rest", hint("stop", &record.namespace, &args.connect)));
    }
    verdict(&run)
}

fn node(pods: &[PodState], id: u64) -> Option<&PodState> {
    pods.iter().find(|pod| pod.component == JOB && pod.index == Some(id))
}

/// Reasons of the ends of nodes that no longer exist.
fn deaths(pods: &[PodState], count: u64) -> Vec<String> {
    (0..count)
        .filter_map(|id| match node(pods, id) {
            Some(pod) if pod.ended => Some(death(pod)),
            Some(_) => None,
            None => Some(format!("the pod of node {id} is gone")),
        })
        .collect()
}

/// Facts about the cluster, for the manifest.
fn facts(there: &RunThere, pods: &[PodState]) -> Map<String, Value> {
    let cluster = json!({
        "context": there.cluster.context(),
        "server": there.cluster.server(),
        "server_version": there.cluster.version(),
        "namespace": there.record.namespace,
        "run": there.record,
        "pods": pods,
    });
    Map::from_iter([("cluster".to_owned(), cluster)])
}

async fn from_nodes(
    args: &CollectArgs,
    there: &RunThere,
    pods: &[PodState],
    dead: Vec<String>,
    folder: &RunFolder,
) -> Result<RunSummary, KubernetesError> {
    let record = &there.record;
    // A broken port of a dead pod is reported as the pod's death.
    let ports = NodePorts::open(&there.cluster, record, Arc::new(|_: &str| {})).await?;
    let lookout = Lookout::new(&there.cluster, record);
    let mut run = remote_run(record);
    let ready = if dead.is_empty() { run.ready().min(WAIT) } else { SHORT_WAIT };
    run.measurement.ready_timeout_seconds = ready.as_secs().max(1);
    let spec = RemoteSpec {
        backend: "kubernetes".into(),
        endpoints: ports.endpoints()?,
        token: there.token().await?,
        run,
        folder: folder.clone(),
        arguments: there.arguments.clone(),
        more: facts(there, pods),
        warnings: vec![],
        died: Some(lookout.died.clone()),
    };
    let attached = tokio::select! {
        attached = spec.attach() => attached,
        line = ports.forbidden() => return Err(KubernetesError::Failed(line)),
    };
    let mut network = match attached {
        Ok(network) => network,
        Err(error) => return Err(explained(&error, there, args, &ports).await),
    };
    // Nodes may have a start that was not recorded, because the program that gave it was killed.
    let mut run = match network.collect(there.started.clone()).await {
        Ok(run) => run,
        Err(error) => return Err(explained(&error, there, args, &ports).await),
    };
    for reason in &mut run.verdict.reasons {
        *reason = ports.named(&there.cluster, record, reason).await;
    }
    let lost_nodes = !dead.is_empty();
    for line in dead {
        // The cluster's reason for a dead node explains more than its silence.
        if !run.verdict.reasons.contains(&line) {
            run.verdict.reasons.insert(0, line);
            run.verdict.valid = false;
        }
    }
    // Before the nodes end, because an ended pod may soon be removed.
    run.verdict.warnings.extend(keep_logs(args, there, pods, folder).await?);
    // A node that did not answer for a while still has its counts.
    let lost_for_good = lost_nodes || lookout.died.borrow().is_some();
    if !args.keep_nodes && (run.verdict.valid || lost_for_good) {
        for line in network.end().await {
            // A dead node can't be ended.
            if run.verdict.valid {
                tell(&format!("warning: {line}"));
            }
        }
    } else if !args.keep_nodes {
        tell(&format!(
            "the nodes are alive and keep running: '{}' may be repeated into another folder",
            hint("collect", &record.namespace, &args.connect)
        ));
    }
    network.close(None).await;
    Ok(run)
}

async fn explained(error: &RemoteError, there: &RunThere, args: &CollectArgs, ports: &NodePorts) -> KubernetesError {
    match error {
        RemoteError::Interrupted => KubernetesError::Failed(format!(
            "interrupted; the nodes continue: '{}' collects the run",
            hint("collect", &there.record.namespace, &args.connect)
        )),
        other => KubernetesError::Failed(ports.named(&there.cluster, &there.record, &other.to_string()).await),
    }
}

/// Writes the folder of a run without any remaining node.
async fn without_nodes(
    args: &CollectArgs,
    there: &RunThere,
    pods: &[PodState],
    reason: String,
    folder: &RunFolder,
) -> Result<RunSummary, KubernetesError> {
    let mut manifest = facts(there, pods);
    manifest.insert("backend".into(), "kubernetes".into());
    manifest.insert("arguments".into(), there.arguments.clone());
    let failed = |error: FolderError| KubernetesError::Failed(error.to_string());
    folder.write_json(&folder.manifest(), &manifest).map_err(failed)?;
    let mut run = RunSummary::failed(there.record.workload.clone(), reason);
    folder.write_json(&folder.summary(), &run).map_err(failed)?;
    run.verdict.warnings.extend(keep_logs(args, there, pods, folder).await?);
    Ok(run)
}

/// Writes every pod's complete log into the folder. Returns a line for each incomplete one; fails only if it is
/// interrupted.
async fn keep_logs(
    args: &CollectArgs,
    there: &RunThere,
    pods: &[PodState],
    folder: &RunFolder,
) -> Result<Vec<String>, KubernetesError> {
    let selector = there.selector();
    let what = Read { namespace: &there.record.namespace, selector: &selector, at_once: LOGS_AT_ONCE };
    let (sender, mut lines) = mpsc::channel::<LogLine>(LINES);
    let writing = async {
        let mut files = Files { folder, open: BTreeMap::new(), problems: vec![] };
        // A node that wrote nothing has an empty log.
        for pod in pods {
            files.note(&pod.label, Files::open);
        }
        while let Some(line) = lines.recv().await {
            files.write(&line);
        }
        files.close()
    };
    let mut interrupt = interrupts()?;
    let both = async { tokio::join!(read(&there.cluster, &what, sender), writing) };
    let (missing, mut problems) = tokio::select! {
        both = both => both,
        _ = interrupt.next() => return Err(KubernetesError::Failed(format!(
            "interrupted; {} has the result, with a part of the logs; the nodes continue: '{}' collects the run again, into \
             another folder",
            folder.root().display(),
            hint("collect", &there.record.namespace, &args.connect)
        ))),
    };
    match missing {
        Ok(missing) => {
            problems.extend(missing.into_iter().map(|(label, why)| format!("the log of {label} is incomplete: {why}")));
        }
        Err(error) => problems.push(format!("the logs could not be read: {error}")),
    }
    Ok(problems)
}

/// Log files, one for each pod.
struct Files<'a> {
    folder: &'a RunFolder,
    open: BTreeMap<String, (Option<BufWriter<File>>, u64)>,
    problems: Vec<String>,
}

impl Files<'_> {
    fn write(&mut self, line: &LogLine) {
        self.note(&line.label, |files, _| files.try_write(line));
    }

    /// Does something with the file of a pod; after a failure, the file gets nothing more.
    fn note(&mut self, label: &str, work: impl FnOnce(&mut Self, &str) -> io::Result<()>) {
        if let Err(error) = work(self, label) {
            self.problems.push(format!("the log of {label} is incomplete: {error}"));
            self.open.insert(label.to_owned(), (None, 0));
        }
    }

    /// Creates the file of a pod, unless it exists.
    fn open(&mut self, label: &str) -> io::Result<()> {
        if !self.open.contains_key(label) {
            let plain = |c: char| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '-' };
            let name: String = label.chars().map(plain).collect();
            let file = File::create(self.folder.log(&name))?;
            self.open.insert(label.to_owned(), (Some(BufWriter::new(file)), 0));
        }
        Ok(())
    }

    fn try_write(&mut self, line: &LogLine) -> io::Result<()> {
        self.open(&line.label)?;
        let Some((Some(file), size)) = self.open.get_mut(&line.label) else { return Ok(()) };
        *size += line.text.len() as u64 + 1;
        if *size > LOG_LIMIT {
            return Err(io::Error::other(format!("it is larger than {} MiB", LOG_LIMIT >> 20)));
        }
        writeln!(file, "{}", line.text)
    }

    fn close(mut self) -> Vec<String> {
        for (label, (file, _)) in &mut self.open {
            if let Some(Err(error)) = file.as_mut().map(Write::flush) {
                self.problems.push(format!("the log of {label} is incomplete: {error}"));
            }
        }
        self.problems
    }
}
