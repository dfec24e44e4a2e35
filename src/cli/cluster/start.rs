//! `apollo-bench cluster start`: creates a run and starts its nodes, or removes everything again.

use std::time::Duration;

use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use kube::{ResourceExt, api::DynamicObject};
use serde_json::{Map, Value};
use tempfile::TempDir;

use super::{
    adopt,
    arguments::ConnectArgs,
    claim::{self, CLAIMED, Claim},
    commands::StartArgs,
    kept::keep_start,
    manifests::SHAPING_NOTE,
    plan::cluster_plan,
    preflight,
    remote::remote_run,
    session::{RunThere, access, all_of, hint, interrupts, selector},
    times::times,
};
use crate::{
    access::RunToken,
    cli::error::CliError,
    clock::Instant,
    deploy::kubernetes::{
        self, ClusterPlan, ImageSource, Lookout, NodePorts, RunRecord,
        names::{
            FIELD_MANAGER, GRAFANA, INSTANCE_LABEL, JOB, MANAGED_BY_LABEL, MANAGER, PROMETHEUS, RUN_CONFIG_MAP,
            TOKEN_SECRET,
        },
        on_stderr, push,
    },
    experiment::StartedRun,
    kubernetes::{Apply, Cluster, KubernetesError, Until, Wait, apply, create, remove, try_pod, wait},
    remote::{RemoteError, RemoteSpec},
    report::RunFolder,
    signals::Interrupts,
    terminal::tell,
};

/// Maximum duration of a trouble that seldom passes by itself, such as an image that can't be pulled.
const PATIENCE: Duration = Duration::from_secs(60);

/// Maximum time to wait until all created objects are removed again.
const REMOVE_LIMIT: Duration = Duration::from_secs(300);

/// Starts a run, or only tries it on the server. A named run whose objects exist already is continued.
pub(super) async fn start(args: &StartArgs) -> Result<(), CliError> {
    let plan = match cluster_plan(&args.deployment) {
        Err(error) if !adopt::only_names(args) => return Err(error),
        plan => plan,
    };
    let connect = &args.deployment.connect;
    let mut interrupt = interrupts()?;
    let cluster = Cluster::connect(&access(connect)).await?;
    if !args.dry_run
        && let Some((there, map)) = adopt::find(&cluster, args).await?
    {
        return continued(&there, &map, plan.ok().as_ref(), args, &mut interrupt).await;
    }
    let mut plan = plan?;
    let own = place(&cluster, &plan, connect).await?;
    let namespace = plan.record.namespace.clone();
    if plan.is_shaped() {
        tell(&format!("note: {SHAPING_NOTE}"));
    }
    preflight::drop_refused_selector(&cluster, &mut plan, |plan| triable_objects(&cluster, plan, own)).await?;
    preflight::check_storage(&cluster, &plan).await?;
    let pool = preflight::missing_pool(&cluster, &plan).await;
    if let Some(line) = &pool {
        tell(&format!("note: {line}"));
    }
    if args.dry_run {
        return dry_run(&cluster, &plan, own).await;
    }
    introduce(&cluster, &plan.record);
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
    let mut objects = objects_of(&plan, own.is_foreign())?;
    let map = record_of(&objects)?;
    for object in &mut objects {
        if is_record(object) {
            object.annotations_mut().insert(CLAIMED.into(), claim::until());
        }
    }
    if !claim(&cluster, &objects, own).await? {
        return Err(there_already(&plan, connect).into());
    }
    let claimed = Claim::hold(&cluster, &namespace);
    let token = plan.token().map_err(KubernetesError::Failed)?;
    let prepared = async {
        apply(&cluster, &objects, Apply { field_manager: FIELD_MANAGER, dry_run: false }).await?;
        tell(&format!("applied {} objects", objects.len()));
        prepare(&cluster, &plan.record, token).await
    };
    let started = tokio::select! {
        started = prepared => started,
        _ = interrupt.next() => Err(KubernetesError::Failed("interrupted before the start".into())),
    };
    drop(claimed);
    let started = match started {
        // From here on the objects belong to the cluster: an interrupt must not separate them from their record.
        Ok(started) => record_start(&cluster, map, &started).await.map(|()| started),
        Err(error) => Err(error),
    };
    match started {
        Ok(started) => {
            for line in how_to_go_on(&plan.record, &started, args) {
                tell(&line);
            }
            Ok(())
        }
        Err(error) => {
            // The interrupt that ended the start was received by several parts of this program.
            let _ = interrupt.come();
            undo(&cluster, &plan.record, args, &mut interrupt).await;
            match pool {
                Some(line) => Err(CliError::Failed(format!("{error}; {line}"))),
                None => Err(error.into()),
            }
        }
    }
}

/// Starts a run whose objects exist.
async fn continued(
    there: &RunThere,
    map: &ConfigMap,
    plan: Option<&ClusterPlan>,
    args: &StartArgs,
    interrupt: &mut Interrupts,
) -> Result<(), CliError> {
    let (cluster, record) = (&there.cluster, &there.record);
    introduce(cluster, record);
    let claimed = Claim::take(cluster, &record.namespace, map).await?;
    let prepared = async {
        adopt::complete(there, map, plan, args).await?;
        tell("its objects exist; they stay if the start fails");
        let token = there.token().await?.ok_or_else(|| {
            KubernetesError::Failed(format!("the namespace {} has no Secret {TOKEN_SECRET}", record.namespace))
        })?;
        Ok::<_, CliError>(prepare(cluster, record, token).await?)
    };
    let started = tokio::select! {
        started = prepared => started,
        _ = interrupt.next() => Err(CliError::Failed("interrupted before the start".into())),
    };
    let started = match started {
        Ok(started) => started,
        Err(error) => {
            claimed.release(cluster, &record.namespace).await;
            return Err(error);
        }
    };
    // The claim lasts until the start is recorded.
    drop(claimed);
    record_start(cluster, adopt::record_of(map)?, &started).await?;
    for line in how_to_go_on(record, &started, args) {
        tell(&line);
    }
    Ok(())
}

fn introduce(cluster: &Cluster, record: &RunRecord) {
    tell(&format!(
        "run {}: namespace {}, context {} ({}, {})",
        record.name,
        record.namespace,
        cluster.context(),
        cluster.server(),
        cluster.version()
    ));
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

/// Objects in a namespace that exists, so that the server can check them.
fn triable_objects(cluster: &Cluster, plan: &ClusterPlan, place: Place) -> Result<Vec<DynamicObject>, KubernetesError> {
    let mut objects = objects_of(plan, place.is_foreign())?;
    if place == Place::New {
        for object in &mut objects {
            if object.metadata.namespace.is_some() {
                object.metadata.namespace = Some(cluster.namespace().to_owned());
            }
        }
    }
    Ok(objects)
}

async fn dry_run(cluster: &Cluster, plan: &ClusterPlan, place: Place) -> Result<(), CliError> {
    let objects = triable_objects(cluster, plan, place)?;
    if place == Place::New {
        let (namespace, there) = (&plan.record.namespace, cluster.namespace());
        tell(&format!("the namespace {namespace} does not exist yet: the other objects are tried in {there}"));
    }
    if plan.image.is_to_be_pushed() {
        tell(&format!("the image {} is not built and pushed for this", plan.image.image()));
    }
    let how = Apply { field_manager: FIELD_MANAGER, dry_run: true };
    apply(cluster, &objects, how).await?;
    let mut pods = 0;
    for object in objects.iter().filter(|object| !object.data["spec"]["template"].is_null()) {
        try_pod(cluster, object, FIELD_MANAGER).await?;
        pods += 1;
    }
    let (count, server) = (objects.len(), cluster.server());
    tell(&format!("{server} would take all {count} objects, and a pod of each of {pods} kinds; nothing was made"));
    Ok(())
}

/// Waits for the pods, and sends the nodes their start.
async fn prepare(cluster: &Cluster, record: &RunRecord, token: RunToken) -> Result<StartedRun, KubernetesError> {
    let count = usize::try_from(record.workload.num_nodes).unwrap_or(usize::MAX);
    let (since, limit) = (Instant::now(), Duration::from_secs(record.scenario.measurement.ready_timeout_seconds));
    let mut expected = vec![(JOB, count, Until::Running)];
    if record.monitoring {
        expected.extend([(PROMETHEUS, 1, Until::Ready), (GRAFANA, 1, Until::Ready)]);
    }
    let pods = Wait {
        namespace: &record.namespace,
        selector: &selector(&record.name),
        expected: &expected,
        limit,
        patience: PATIENCE.min(limit / 4),
    };
    wait(cluster, &pods, &tell).await?;
    tell("all pods exist; waiting until the nodes are connected");
    begin(cluster, record, token, limit.saturating_sub(since.elapsed())).await
}

/// A folder of temporary files, removed when this is dropped.
fn scratch(purpose: &str) -> Result<TempDir, KubernetesError> {
    let made = tempfile::Builder::new().prefix(&format!("apollo-bench-{purpose}-")).tempdir();
    made.map_err(|error| KubernetesError::Failed(format!("a temporary folder: {error}")))
}

/// Sends the nodes their start, if they are connected `within` this time.
async fn begin(
    cluster: &Cluster,
    record: &RunRecord,
    token: RunToken,
    within: Duration,
) -> Result<StartedRun, KubernetesError> {
    let ports = NodePorts::open(cluster, record, on_stderr()).await?;
    let lookout = Lookout::new(cluster, record);
    // The files that are written here are stored in the cluster in the end.
    let scratch = scratch("start")?;
    let mut run = remote_run(record);
    run.measurement.ready_timeout_seconds = within.as_secs().max(1);
    let folder = RunFolder::create(Some(scratch.path())).map_err(|error| KubernetesError::Failed(error.to_string()))?;
    let spec = RemoteSpec {
        backend: "kubernetes".into(),
        endpoints: ports.endpoints()?,
        token: Some(token),
        run,
        folder,
        arguments: Value::Null,
        more: Map::new(),
        warnings: vec![],
        died: Some(lookout.died.clone()),
    };
    let attached = tokio::select! {
        attached = spec.attach() => attached,
        line = ports.forbidden() => return Err(KubernetesError::Failed(line)),
    };
    let begun = match attached {
        Ok(mut network) => network.begin().await,
        Err(error) => Err(error),
    };
    match begun {
        Ok(started) => Ok(started),
        Err(error) => Err(KubernetesError::Failed(ports.named(cluster, record, &explained(error)).await)),
    }
}

/// Reason why the run has no start, in one line.
fn explained(error: RemoteError) -> String {
    match error {
        RemoteError::Interrupted => "interrupted before the start".into(),
        RemoteError::Refused(line) => line,
        RemoteError::Invalid(run) => run.verdict.reasons.join("; "),
    }
}

/// True for the record of the run.
fn is_record(object: &DynamicObject) -> bool {
    object.types.as_ref().is_some_and(|types| types.kind == "ConfigMap") && object.name_any() == RUN_CONFIG_MAP
}

/// The record of the run among its objects.
fn record_of(objects: &[DynamicObject]) -> Result<DynamicObject, KubernetesError> {
    objects
        .iter()
        .find(|object| is_record(object))
        .cloned()
        .ok_or_else(|| KubernetesError::Failed(format!("there is no ConfigMap {RUN_CONFIG_MAP} among the objects")))
}

/// Stores the start in the cluster, for the program that collects the run.
async fn record_start(cluster: &Cluster, mut map: DynamicObject, started: &StartedRun) -> Result<(), KubernetesError> {
    keep_start(&mut map, started).map_err(|error| KubernetesError::Failed(error.to_string()))?;
    apply(cluster, &[map], Apply { field_manager: FIELD_MANAGER, dry_run: false }).await
}

async fn undo(cluster: &Cluster, record: &RunRecord, args: &StartArgs, interrupt: &mut Interrupts) {
    let stop = hint("stop", &record.namespace, &args.deployment.connect);
    if args.keep_on_failure {
        tell(&format!("the created objects are kept; '{stop}' removes it"));
        return;
    }
    let everything = all_of(&record.namespace, &record.name, REMOVE_LIMIT);
    let removed = tokio::select! {
        removed = remove(cluster, &everything, &tell) => removed,
        _ = interrupt.next() => {
            tell(&format!("interrupted again; some objects may remain: '{stop}' removes them"));
            return;
        }
    };
    match removed {
        Ok(_) => tell("none of its objects remains"),
        Err(error) => tell(&format!("some objects could not be removed: {error}; '{stop}' tries again")),
    }
}

fn how_to_go_on(record: &RunRecord, started: &StartedRun, args: &StartArgs) -> Vec<String> {
    let mut hints = vec![
        ("status", "where it is".to_owned()),
        ("logs", "the output of its pods".to_owned()),
        ("port-forward", "Grafana and Prometheus, here".to_owned()),
        ("collect", format!("its result, for {} s after its end", record.retain_seconds)),
        ("stop", "removes everything".to_owned()),
    ];
    hints.retain(|(command, _)| record.monitoring || *command != "port-forward");
    let hints: Vec<_> = hints
        .into_iter()
        .map(|(command, what)| (hint(command, &record.namespace, &args.deployment.connect), what))
        .collect();
    let width = hints.iter().map(|(command, _)| command.len()).max().unwrap_or(0);
    let begun =
        format!("run {} has begun with {} nodes: {}", record.name, record.workload.num_nodes, times(&started.start));
    [begun].into_iter().chain(hints.into_iter().map(|(command, what)| format!("  {command:<width$}  {what}"))).collect()
}
