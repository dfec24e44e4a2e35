//! A run in a cluster, found by its record there.

use std::{collections::BTreeMap, future::Future, time::Duration};

use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::{ResourceExt, api::ListParams};
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::runtime;

use super::{arguments::ConnectArgs, kept::kept_start};
use crate::{
    access::RunToken,
    cli::error::CliError,
    clock,
    deploy::kubernetes::{
        RUN_SCHEMA_VERSION, RunRecord,
        names::{
            APP, APP_LABEL, ARGUMENTS_KEY, COMPONENT_LABEL, Component, INSTANCE_LABEL, MANAGED_BY_LABEL, MANAGER,
            RUN_CONFIG_MAP, RUN_KEY, START_KEY, TOKEN_KEY, TOKEN_SECRET,
        },
    },
    experiment::StartedRun,
    kubernetes::{Access, Cluster, KubernetesError, Remove},
    open_files::raise_fd_limit,
    signals::Interrupts,
};

/// Maximum number of runs that are listed in one cluster.
const MOST_RUNS: u32 = 500;

/// Runs a command to its end.
pub(super) fn run(work: impl Future<Output = Result<(), CliError>>) -> Result<(), CliError> {
    clock::check().map_err(CliError::Failed)?;
    // Each port to a pod and each of its logs is a connection.
    raise_fd_limit();
    let runtime = runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.map_err(|error| CliError::Failed(format!("the runtime does not start: {error}")))?;
    let done = runtime.block_on(work);
    // Interrupted work is not waited for.
    runtime.shutdown_background();
    done
}

/// Signals that end a command, from the time of this call on.
pub(super) fn interrupts() -> Result<Interrupts, KubernetesError> {
    Interrupts::new().map_err(|error| KubernetesError::Failed(format!("signals can't be received: {error}")))
}

/// Access to the cluster.
pub(super) fn access(connect: &ConnectArgs) -> Access {
    Access { kubeconfig: connect.kubeconfig.clone(), context: connect.context.clone() }
}

/// A command line for the same run.
pub(super) fn hint(command: &str, namespace: &str, connect: &ConnectArgs) -> String {
    let mut line = format!("apollo-bench cluster {command} --namespace {namespace}");
    if let Some(context) = &connect.context {
        line.push_str(&format!(" --context {context}"));
    }
    if let Some(kubeconfig) = &connect.kubeconfig {
        line.push_str(&format!(" --kubeconfig {}", kubeconfig.display()));
    }
    line
}

/// A run that exists in the cluster.
pub(super) struct RunThere {
    pub(super) cluster: Cluster,
    pub(super) record: RunRecord,
    /// All arguments of the program that started it.
    pub(super) arguments: Value,
    /// Start of its nodes, if they have one.
    pub(super) started: Option<StartedRun>,
}

impl RunThere {
    /// Run of the given namespace, or the only existing run.
    pub(super) async fn find(connect: &ConnectArgs) -> Result<Self, KubernetesError> {
        let cluster = Cluster::connect(&access(connect)).await?;
        if let Some(namespace) = &connect.namespace {
            let api = cluster.api::<ConfigMap>(namespace);
            return match cluster.ask("reading the run", api.get_opt(RUN_CONFIG_MAP)).await? {
                Some(map) if is_own(&map) => Self::read(cluster, &map),
                _ => Err(KubernetesError::Usage(format!(
                    "no run exists in the namespace {namespace}: 'apollo-bench cluster list' lists the existing runs"
                ))),
            };
        }
        let mut maps = config_maps(&cluster).await?;
        match (maps.pop(), maps.len()) {
            (Some(map), 0) => Self::read(cluster, &map),
            (None, _) => Err(KubernetesError::Usage(format!(
                "no run exists in context {}: 'apollo-bench cluster start' starts one",
                cluster.context()
            ))),
            (Some(last), _) => Err(several(maps.iter().chain([&last]).filter_map(ResourceExt::namespace).collect())),
        }
    }

    pub(super) fn read(cluster: Cluster, map: &ConfigMap) -> Result<Self, KubernetesError> {
        let namespace = map.namespace().unwrap_or_default();
        let data = map.data.clone().unwrap_or_default();
        let record: RunRecord = read_key(&data, RUN_KEY, &namespace)?;
        if record.schema_version != RUN_SCHEMA_VERSION {
            return Err(KubernetesError::Failed(format!(
                "the run in {namespace} was created by version {} of this program, which stores it in another form: use that version",
                record.version
            )));
        }
        let started = kept_start(map).map_err(|error| {
            KubernetesError::Failed(format!("the ConfigMap {RUN_CONFIG_MAP} of {namespace}: {START_KEY}: {error}"))
        })?;
        let arguments = read_key(&data, ARGUMENTS_KEY, &namespace)?;
        Ok(Self { cluster, record, arguments, started })
    }

    /// Token that its nodes require for orders; none if the cluster has none, as after an older version of this
    /// program.
    pub(super) async fn token(&self) -> Result<Option<RunToken>, KubernetesError> {
        let secrets = self.cluster.api::<Secret>(&self.record.namespace);
        let Some(secret) = self.cluster.ask("reading the token of the run", secrets.get_opt(TOKEN_SECRET)).await?
        else {
            return Ok(None);
        };
        let bytes = secret.data.unwrap_or_default().remove(TOKEN_KEY).unwrap_or_default().0;
        let token = RunToken::parse(&String::from_utf8_lossy(&bytes));
        token.map(Some).map_err(|why| KubernetesError::Failed(format!("the Secret {TOKEN_SECRET}: {why}")))
    }

    /// Selector of all objects of this run.
    pub(super) fn selector(&self) -> String {
        selector(&self.record.name)
    }
}

/// Error of a command for which several runs match.
pub(super) fn several(mut namespaces: Vec<String>) -> KubernetesError {
    namespaces.sort();
    KubernetesError::Usage(format!("several runs exist: give --namespace ({})", namespaces.join(", ")))
}

/// All existing runs; for an unreadable one, its namespace and the reason.
pub(super) async fn all(
    connect: &ConnectArgs,
) -> Result<Vec<Result<RunThere, (String, KubernetesError)>>, KubernetesError> {
    let cluster = Cluster::connect(&access(connect)).await?;
    let maps = config_maps(&cluster).await?;
    let read = |map: &ConfigMap| {
        RunThere::read(cluster.clone(), map).map_err(|error| (map.namespace().unwrap_or_default(), error))
    };
    Ok(maps.iter().map(read).collect())
}

/// Records of the runs of all namespaces.
pub(super) async fn config_maps(cluster: &Cluster) -> Result<Vec<ConfigMap>, KubernetesError> {
    let labels = format!("{MANAGED_BY_LABEL}={MANAGER},{COMPONENT_LABEL}={}", Component::Run.name());
    let (api, params) = (cluster.all::<ConfigMap>(), ListParams::default().labels(&labels).limit(MOST_RUNS));
    match cluster.ask("looking for runs in all namespaces", api.list(&params)).await {
        Ok(list) => Ok(list.items.into_iter().filter(is_own).collect()),
        Err(KubernetesError::Refused { code: 403, line }) => {
            Err(KubernetesError::Usage(format!("{line}: give --namespace")))
        }
        Err(error) => Err(error),
    }
}

/// True if a ConfigMap is the record of a run, by its name and labels.
pub(super) fn is_own(map: &ConfigMap) -> bool {
    map.name_any() == RUN_CONFIG_MAP && map.labels().get(MANAGED_BY_LABEL).is_some_and(|manager| manager == MANAGER)
}

fn read_key<T: DeserializeOwned>(
    data: &BTreeMap<String, String>,
    key: &str,
    namespace: &str,
) -> Result<T, KubernetesError> {
    let text = data.get(key).ok_or_else(|| {
        KubernetesError::Failed(format!(
            "the ConfigMap {RUN_CONFIG_MAP} of {namespace} has no {key}: was it changed by hand?"
        ))
    })?;
    serde_json::from_str(text).map_err(|error| {
        KubernetesError::Failed(format!("the ConfigMap {RUN_CONFIG_MAP} of {namespace}: {key}: {error}"))
    })
}

/// Selector of all objects of a run.
pub(super) fn selector(run: &str) -> String {
    format!("{APP_LABEL}={APP},{INSTANCE_LABEL}={run}")
}

/// Parameters for the removal of all objects of a run.
pub(super) fn all_of<'a>(namespace: &'a str, run: &'a str, limit: Duration) -> Remove<'a> {
    Remove { namespace, application: APP, instance: run, managed_by: MANAGER, last: "ConfigMap/run", limit }
}
