//! `apollo-bench cluster start`: creates a run and starts its nodes, or removes everything again.

use std::time::Duration;

use k8s_openapi::api::core::v1::Namespace;
use kube::{ResourceExt, api::DynamicObject};
use serde_json::{Map, Value};
use tempfile::TempDir;

use super::{
    arguments::ConnectArgs,
    commands::StartArgs,
    kept::keep_start,
    plan::cluster_plan,
    remote::remote_run,
    session::{access, all_of, hint, interrupts, selector},
    times::times,
};
use crate::{
    cli::error::CliError,
    clock::Instant,
    deploy::kubernetes::{
        self, ClusterPlan, ImageSource, Lookout, NodePorts,
        names::{FIELD_MANAGER, GRAFANA, INSTANCE_LABEL, JOB, MANAGED_BY_LABEL, MANAGER, PROMETHEUS, RUN_CONFIG_MAP},
        on_stderr, push,
    },
    experiment::StartedRun,
    kubernetes::{Apply, Cluster, KubernetesError, Until, Wait, apply, create, remove, wait},
    remote::{RemoteError, RemoteSpec},
    report::RunFolder,
    terminal::tell,
};

/// Maximum duration of a trouble that seldom passes by itself, such as an image that can't be pulled.
const PATIENCE: Duration = Duration::from_secs(60);

/// Maximum time to wait until all created objects are removed again.
const REMOVE_LIMIT: Duration = Duration::from_secs(300);

/// Starts a run, or only tries it on the server.
pub(super) async fn start(args: &StartArgs) -> Result<(), CliError> {
    let mut plan = cluster_plan(&args.deployment)?;
    let connect = &args.deployment.connect;
    let mut interrupt = interrupts()?;
    let cluster = Cluster::connect(&access(connect)).await?;
    let own = place(&cluster, &plan, connect).await?;
    let namespace = plan.record.namespace.clone();
    if args.dry_run {
        return dry_run(&cluster, &plan, own).await;
    }
    let (name, server) = (&plan.record.name, cluster.server());
    tell(&format!(
        "run {name}: namespace {namespace}, context {} ({server}, {})",
        cluster.context(),
        cluster.version()
    ));
    if plan.image.is_to_be_pushed() {
        let (image, scratch) = (plan.image.clone(), scratch("image")?);
        let folder = scratch.path().to_owned();
        // The push works on a thread of its own, so that an interrupt is noticed.
        let pushing = tokio::task::spawn_blocking(move || push(&image, &folder));
        let pushed = tokio::select! {
            pushed = pushing => pushed.map_err(|error| KubernetesError::Failed(error.to_string()))??,
            _ = interrupt.next() => return Err(CliError::Failed("interrupted before the start".into())),
        };
        plan.record.image = pushed.name().to_owned();
        plan.image = ImageSource::Given(pushed);
    }
    let objects = objects_of(&plan, own.is_foreign())?;
    if !claim(&cluster, &objects, own).await? {
        return Err(there_already(&plan, connect).into());
    }
    let started = tokio::select! {
        started = prepare(&cluster, &plan, &objects) => started,
        _ = interrupt.next() => Err(KubernetesError::Failed("interrupted before the start".into())),
    };
    let started = match started {
        // From here on the objects belong to the cluster: an interrupt must not separate them from their record.
        Ok(started) => record_start(&cluster, &objects, &started).await.map(|()| started),
        Err(error) => Err(error),
    };
    match started {
        Ok(started) => {
            for line in how_to_go_on(&plan, &started, args) {
                tell(&line);
            }
            Ok(())
        }
        Err(error) => {
            undo(&cluster, &plan, args).await;
            Err(error.into())
        }
    }
}

/// Owner of the namespace.
#[derive(Clone, Copy, PartialEq)]
enum Place {
    /// The namespace will be created.
    New,
    /// This program created it in an earlier attempt.
    Own,
    /// Another owner, or an unknown one.
    Foreign,
}

impl Place {
    fn is_foreign(self) -> bool {
        self == Self::Foreign
    }
}

/// Examines the namespace; refuses one that has a run already.
async fn place(cluster: &Cluster, plan: &ClusterPlan, connect: &ConnectArgs) -> Result<Place, KubernetesError> {
    let namespace = &plan.record.namespace;
    let found = match cluster.ask("the namespace", cluster.all::<Namespace>().get_opt(namespace)).await {
        Ok(None) => return Ok(Place::New),
        Ok(Some(found)) => Some(found),
        // A user without the right to read namespaces has given one.
        Err(KubernetesError::Refused { code: 403, .. }) if connect.namespace.is_some() => None,
        Err(error) => return Err(error),
    };
    let maps = cluster.api::<k8s_openapi::api::core::v1::ConfigMap>(namespace);
    if cluster.ask("reading the namespace", maps.get_opt(RUN_CONFIG_MAP)).await?.is_some() {
        return Err(there_already(plan, connect));
    }
    let is =
        |found: &Namespace, label: &str, value: &str| found.labels().get(label).is_some_and(|found| found == value);
    Ok(match found {
        Some(found) if found.metadata.deletion_timestamp.is_some() => {
            return Err(KubernetesError::Usage(format!(
                "the namespace {namespace} is being removed: try again in a moment, or give another --name"
            )));
        }
        Some(found) if is(&found, MANAGED_BY_LABEL, MANAGER) && is(&found, INSTANCE_LABEL, &plan.record.name) => {
            Place::Own
        }
        _ => Place::Foreign,
    })
}

fn there_already(plan: &ClusterPlan, connect: &ConnectArgs) -> KubernetesError {
    let namespace = &plan.record.namespace;
    KubernetesError::Usage(format!(
        "the namespace {namespace} has a run already: '{}' removes it, or give another --name or --namespace",
        hint("stop", namespace, connect)
    ))
}

/// Creates the object that only one of several concurrent starts can create. Returns true if it was this one.
async fn claim(cluster: &Cluster, objects: &[DynamicObject], place: Place) -> Result<bool, KubernetesError> {
    let (kind, name) = if place == Place::New { ("Namespace", None) } else { ("ConfigMap", Some(RUN_CONFIG_MAP)) };
    let is = |object: &&DynamicObject| {
        object.types.as_ref().is_some_and(|types| types.kind == kind)
            && name.is_none_or(|name| object.name_any() == name)
    };
    match objects.iter().find(is) {
        Some(object) => create(cluster, object, FIELD_MANAGER).await,
        None => Err(KubernetesError::Failed(format!("there is no {kind} among the objects"))),
    }
}

/// Objects to apply. A foreign namespace stays unchanged.
fn objects_of(plan: &ClusterPlan, foreign: bool) -> Result<Vec<DynamicObject>, KubernetesError> {
    let mut objects = kubernetes::objects(plan).map_err(|error| KubernetesError::Failed(error.to_string()))?;
    if foreign {
        objects.retain(|object| object.types.as_ref().is_none_or(|types| types.kind != "Namespace"));
    }
    Ok(objects)
}

async fn dry_run(cluster: &Cluster, plan: &ClusterPlan, place: Place) -> Result<(), CliError> {
    let mut objects = objects_of(plan, place.is_foreign())?;
    let namespace = &plan.record.namespace;
    if place == Place::New {
        // Nothing can be tried in a namespace that does not exist: the server checks the other objects in an existing
        // one.
        let there = cluster.namespace().to_owned();
        tell(&format!("the namespace {namespace} does not exist yet: the other objects are tried in {there}"));
        for object in &mut objects {
            if object.metadata.namespace.is_some() {
                object.metadata.namespace = Some(there.clone());
            }
        }
    }
    if plan.image.is_to_be_pushed() {
        tell(&format!("the image {} is not built and pushed for this", plan.image.image()));
    }
    let how = Apply { field_manager: FIELD_MANAGER, dry_run: true };
    apply(cluster, &objects, how).await?;
    let (count, server) = (objects.len(), cluster.server());
    tell(&format!("{server} would take all {count} objects; nothing was made"));
    Ok(())
}

/// Creates everything, waits for the pods, and sends the nodes their start.
async fn prepare(
    cluster: &Cluster,
    plan: &ClusterPlan,
    objects: &[DynamicObject],
) -> Result<StartedRun, KubernetesError> {
    apply(cluster, objects, Apply { field_manager: FIELD_MANAGER, dry_run: false }).await?;
    tell(&format!("applied {} objects", objects.len()));
    let record = &plan.record;
    let count = usize::try_from(record.workload.num_nodes).unwrap_or(usize::MAX);
    let (since, limit) = (Instant::now(), Duration::from_secs(record.scenario.measurement.ready_timeout_seconds));
    let expected = [(JOB, count, Until::Running), (PROMETHEUS, 1, Until::Ready), (GRAFANA, 1, Until::Ready)];
    let pods = Wait {
        namespace: &record.namespace,
        selector: &selector(&record.name),
        expected: &expected,
        limit,
        patience: PATIENCE.min(limit / 4),
    };
    wait(cluster, &pods, &tell).await?;
    tell("all pods exist; waiting until the nodes are connected");
    begin(cluster, plan, limit.saturating_sub(since.elapsed())).await
}

/// A folder of temporary files, removed when this is dropped.
fn scratch(purpose: &str) -> Result<TempDir, KubernetesError> {
    let made = tempfile::Builder::new().prefix(&format!("apollo-bench-{purpose}-")).tempdir();
    made.map_err(|error| KubernetesError::Failed(format!("a temporary folder: {error}")))
}

/// Sends the nodes their start, if they are connected `within` this time.
async fn begin(cluster: &Cluster, plan: &ClusterPlan, within: Duration) -> Result<StartedRun, KubernetesError> {
    let ports = NodePorts::open(cluster, &plan.record, on_stderr()).await?;
    let lookout = Lookout::new(cluster, &plan.record);
    // The files that are written here are stored in the cluster in the end.
    let scratch = scratch("start")?;
    let mut run = remote_run(&plan.record);
    run.measurement.ready_timeout_seconds = within.as_secs().max(1);
    let folder = RunFolder::create(Some(scratch.path())).map_err(|error| KubernetesError::Failed(error.to_string()))?;
    let spec = RemoteSpec {
        backend: "kubernetes".into(),
        endpoints: ports.endpoints()?,
        token: Some(plan.token().map_err(KubernetesError::Failed)?),
        run,
        folder,
        arguments: Value::Null,
        more: Map::new(),
        warnings: vec![],
        died: Some(lookout.died.clone()),
    };
    let mut network = spec.attach().await.map_err(explained)?;
    network.begin().await.map_err(explained)
}

/// Reason why the run has no start, in one line.
fn explained(error: RemoteError) -> KubernetesError {
    KubernetesError::Failed(match error {
        RemoteError::Interrupted => "interrupted before the start".into(),
        RemoteError::Refused(line) => line,
        RemoteError::Invalid(run) => run.verdict.reasons.join("; "),
    })
}

/// Stores the start in the cluster, for the program that collects the run.
async fn record_start(
    cluster: &Cluster,
    objects: &[DynamicObject],
    started: &StartedRun,
) -> Result<(), KubernetesError> {
    let is_map = |object: &&DynamicObject| {
        object.types.as_ref().is_some_and(|types| types.kind == "ConfigMap") && object.name_any() == RUN_CONFIG_MAP
    };
    let mut map =
        objects.iter().find(is_map).cloned().ok_or_else(|| {
            KubernetesError::Failed(format!("there is no ConfigMap {RUN_CONFIG_MAP} among the objects"))
        })?;
    keep_start(&mut map, started).map_err(|error| KubernetesError::Failed(error.to_string()))?;
    apply(cluster, &[map], Apply { field_manager: FIELD_MANAGER, dry_run: false }).await
}

async fn undo(cluster: &Cluster, plan: &ClusterPlan, args: &StartArgs) {
    let record = &plan.record;
    let stop = hint("stop", &record.namespace, &args.deployment.connect);
    if args.keep_on_failure {
        tell(&format!("the created objects are kept; '{stop}' removes it"));
        return;
    }
    match remove(cluster, &all_of(&record.namespace, &record.name, REMOVE_LIMIT), &tell).await {
        Ok(_) => tell("none of its objects remains"),
        Err(error) => tell(&format!("some objects could not be removed: {error}; '{stop}' tries again")),
    }
}

fn how_to_go_on(plan: &ClusterPlan, started: &StartedRun, args: &StartArgs) -> Vec<String> {
    let record = &plan.record;
    let hints = [
        ("status", "where it is".to_owned()),
        ("logs", "the output of its pods".to_owned()),
        ("port-forward", "Grafana and Prometheus, here".to_owned()),
        ("collect", format!("its result, for {} s after its end", record.retain_seconds)),
        ("stop", "removes everything".to_owned()),
    ];
    let hints = hints.map(|(command, what)| (hint(command, &record.namespace, &args.deployment.connect), what));
    let width = hints.iter().map(|(command, _)| command.len()).max().unwrap_or(0);
    let begun =
        format!("run {} has begun with {} nodes: {}", record.name, record.workload.num_nodes, times(&started.start));
    [begun].into_iter().chain(hints.map(|(command, what)| format!("  {command:<width$}  {what}"))).collect()
}
