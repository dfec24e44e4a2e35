//! Waiting for pods, with the reasons of a delay.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use k8s_openapi::api::{
    batch::v1::Job,
    core::v1::{Event, Pod},
};
use kube::api::{ListParams, LogParams};

use super::{
    Tell,
    connect::Cluster,
    error::KubernetesError,
    pods::PodState,
    text::{names, one_line},
    trouble::{Trouble, Weight, troubles},
    watch::{Change, PodWatch},
};
use crate::clock::{Instant, sleep_until, timeout};

/// Time for which changes of many pods are gathered and then reported together.
const GATHER: Duration = Duration::from_millis(200);

/// Interval of reading jobs and events, which are the only sign of pods that are never created.
const LOOK: Duration = Duration::from_secs(2);

/// Maximum number of events that are read at once.
const MOST_EVENTS: u32 = 500;

/// Number of last lines of a container that are reported.
const LAST_LINES: i64 = 5;

/// Condition that ends the wait for a pod.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Until {
    /// The pod's containers run.
    Running,
    /// The pod's probes report that it is ready.
    Ready,
}

/// Pods to wait for.
#[derive(Clone, Debug)]
pub struct Wait<'a> {
    /// Namespace of the pods.
    pub namespace: &'a str,
    /// Selector of all these pods, by label.
    pub selector: &'a str,
    /// Number of pods of each component, and the condition of each.
    pub expected: &'a [(&'a str, usize, Until)],
    /// Maximum time to wait.
    pub limit: Duration,
    /// Maximum duration of a trouble that seldom passes by itself (such as an image that can't be pulled).
    pub patience: Duration,
}

/// A trouble, with the time at which it was first seen.
struct Seen {
    since: Instant,
    reported: bool,
}

struct Waiting<'a> {
    cluster: &'a Cluster,
    wait: &'a Wait<'a>,
    tell: Tell<'a>,
    seen: BTreeMap<(String, String), Seen>,
    /// Messages of events and jobs that were reported.
    heard: BTreeSet<String>,
    /// Reason why pods are not created, and the time since which it holds.
    refused: Option<(Instant, String)>,
    /// Line about a Job that waits for its queue.
    suspended: Option<String>,
    /// Last event of each pod that does not run yet, by the pod's label.
    events: BTreeMap<String, String>,
}

/// Waits until all pods meet their condition, and reports each trouble once while it waits.
///
/// # Errors
/// A trouble that does not pass by itself; or, when the time is over, the conditions that each pod waits for.
pub async fn wait(cluster: &Cluster, wait: &Wait<'_>, tell: Tell<'_>) -> Result<Vec<PodState>, KubernetesError> {
    let mut waiting = Waiting {
        cluster,
        wait,
        tell,
        seen: BTreeMap::new(),
        heard: BTreeSet::new(),
        refused: None,
        suspended: None,
        events: BTreeMap::new(),
    };
    let mut watch = PodWatch::new(cluster, wait.namespace, wait.selector);
    let end = Instant::now() + wait.limit;
    let mut next_look = Instant::now() + LOOK;
    let mut next_judgement: Option<Instant> = None;
    let mut reported_progress = String::new();
    loop {
        let judge_at = next_judgement.unwrap_or(end).min(next_look).min(end);
        tokio::select! {
            change = watch.changed() => match change? {
                Change::Pods => {
                    next_judgement.get_or_insert_with(|| Instant::now() + GATHER);
                    continue;
                }
                Change::Broken(why) => {
                    if waiting.heard.insert(why.clone()) {
                        tell(&format!("{why}; trying again"));
                    }
                    continue;
                }
            },
            () = sleep_until(judge_at) => {}
        }
        next_judgement = None;
        let pods: Vec<&Pod> = watch.pods().collect();
        let states: Vec<PodState> = pods.iter().map(|pod| PodState::of(pod)).collect();
        if let Some(fatal) = waiting.judge(&pods).await {
            return Err(KubernetesError::Failed(fatal));
        }
        let counts = waiting.counts(&states);
        if counts.iter().all(|(_, there, expected)| there >= expected) {
            return Ok(states);
        }
        let progress = progress(&counts);
        if progress != reported_progress {
            tell(&format!("pods: {progress}"));
            reported_progress = progress;
        }
        let now = Instant::now();
        if now >= next_look || now >= end {
            next_look = now + LOOK;
            if let Some(fatal) = waiting.look_around(&states).await {
                return Err(KubernetesError::Failed(fatal));
            }
        }
        if now >= end {
            return Err(KubernetesError::Failed(waiting.timed_out(&states, &reported_progress)));
        }
    }
}

/// `node 3 of 5, prometheus 1 of 1`.
fn progress(counts: &[(&str, usize, usize)]) -> String {
    let parts = counts.iter().map(|(component, there, expected)| format!("{component} {there} of {expected}"));
    parts.collect::<Vec<_>>().join(", ")
}

impl<'a> Waiting<'a> {
    /// Number of pods of each component that meet their condition.
    fn counts(&self, states: &[PodState]) -> Vec<(&'a str, usize, usize)> {
        let there = |component: &str, until: Until| {
            let of_it = states.iter().filter(|state| state.component == component && !state.ended);
            of_it.filter(|state| state.started && (until == Until::Running || state.ready)).count()
        };
        let expected = self.wait.expected.iter();
        expected.map(|(component, count, until)| (*component, there(component, *until), *count)).collect()
    }

    /// Reports new troubles, and returns the trouble that ends the wait.
    async fn judge(&mut self, pods: &[&Pod]) -> Option<String> {
        let now = Instant::now();
        let mut present = BTreeSet::new();
        let mut fresh: BTreeMap<(String, String), (Vec<String>, Trouble)> = BTreeMap::new();
        let mut fatal: Option<(PodState, Trouble)> = None;
        for pod in pods {
            let state = PodState::of(pod);
            // A controller replaces or restarts a pod that only has to become ready, so its end is no failure.
            let replaced = self
                .wait
                .expected
                .iter()
                .any(|(component, _, until)| *component == state.component && *until == Until::Ready);
            if replaced && state.ready {
                continue;
            }
            for mut trouble in troubles(pod) {
                if replaced && trouble.weight == Weight::Fatal {
                    trouble.weight = Weight::Lasting;
                }
                let key = (state.pod.clone(), trouble.kind().to_owned());
                present.insert(key.clone());
                let seen = self.seen.entry(key).or_insert(Seen { since: now, reported: false });
                let lasts = now.duration_since(seen.since) >= self.wait.patience;
                if trouble.weight == Weight::Fatal || (trouble.weight == Weight::Lasting && lasts) {
                    fatal.get_or_insert((state.clone(), trouble.clone()));
                }
                if !std::mem::replace(&mut seen.reported, true) {
                    let key = (trouble.kind().to_owned(), trouble.message.clone());
                    fresh.entry(key).or_insert_with(|| (vec![], trouble)).0.push(state.label.clone());
                }
            }
        }
        self.seen.retain(|key, _| present.contains(key));
        let fatal_line = fatal.as_ref().map(|(state, trouble)| (state.label.clone(), trouble.to_string()));
        for (labels, trouble) in fresh.into_values() {
            let line = trouble.to_string();
            // The trouble that ends the wait is reported as its error.
            if fatal_line.as_ref().is_none_or(|(label, fatal)| labels != [label.clone()] || *fatal != line) {
                (self.tell)(&format!("{}: {line}", names(&labels)));
            }
        }
        let (state, trouble) = fatal?;
        let lines = match &trouble.container {
            Some(container) => self.last_lines(&state.pod, container).await,
            None => String::new(),
        };
        let machine = state.machine.map(|machine| format!(" on {machine}")).unwrap_or_default();
        Some(format!("{}{machine}: {}{lines}", state.label, trouble))
    }

    /// Last lines of a container, if they can be read.
    async fn last_lines(&self, pod: &str, container: &str) -> String {
        let params = LogParams {
            container: Some(container.into()),
            tail_lines: Some(LAST_LINES),
            limit_bytes: Some(8192),
            ..LogParams::default()
        };
        let api = self.cluster.api::<Pod>(self.wait.namespace);
        let text = timeout(Duration::from_secs(5), api.logs(pod, &params)).await;
        let text = text.ok().and_then(Result::ok).map(|text| one_line(&text)).unwrap_or_default();
        if text.is_empty() { String::new() } else { format!("; its last lines: {text}") }
    }

    /// Looks for reasons why pods are not created at all.
    async fn look_around(&mut self, states: &[PodState]) -> Option<String> {
        if let Some(failed) = self.failed_job().await {
            return Some(failed);
        }
        self.hear_of_pods(states).await;
        let missing = self.wait.expected.iter().any(|(component, count, _)| {
            states.iter().filter(|state| state.component == *component && !state.ended).count() < *count
        });
        let refused = if missing { self.refused_pods().await } else { None };
        let Some(refused) = refused else {
            self.refused = None;
            return None;
        };
        if self.heard.insert(refused.clone()) {
            (self.tell)(&refused);
        }
        let since = self.refused.as_ref().map_or_else(Instant::now, |(since, _)| *since);
        self.refused = Some((since, refused.clone()));
        (since.elapsed() >= self.wait.patience).then_some(refused)
    }

    /// A job that has failed as a whole.
    async fn failed_job(&mut self) -> Option<String> {
        let api = self.cluster.api::<Job>(self.wait.namespace);
        let params = ListParams::default().labels(self.wait.selector).limit(MOST_EVENTS);
        let jobs = self.cluster.ask("listing the jobs", api.list(&params)).await.ok()?;
        for job in &jobs.items {
            if job.spec.as_ref().is_some_and(|spec| spec.suspend == Some(true)) {
                let name = job.metadata.name.as_deref().unwrap_or_default();
                let line = one_line(&format!("Job/{name} is suspended: it waits to be admitted by its queue"));
                if self.heard.insert(line.clone()) {
                    (self.tell)(&line);
                }
                self.suspended = Some(line);
                return None;
            }
        }
        self.suspended = None;
        jobs.items.iter().find_map(|job| {
            let conditions = job.status.as_ref()?.conditions.as_ref()?;
            let failed = conditions.iter().find(|condition| {
                matches!(condition.type_.as_str(), "Failed" | "FailureTarget") && condition.status == "True"
            })?;
            let name = job.metadata.name.as_deref().unwrap_or_default();
            let (reason, message) = (failed.reason.as_deref(), failed.message.as_deref());
            let line = format!("{}: {}", reason.unwrap_or("Failed"), message.unwrap_or("no message"));
            Some(one_line(&format!("Job/{name}: {line}")))
        })
    }

    /// Reports the events of pods that do not run yet, and of their claims: volumes and networks that fail show only
    /// there.
    async fn hear_of_pods(&mut self, states: &[PodState]) {
        let waiting: Vec<&PodState> = states.iter().filter(|state| !state.started && !state.ended).collect();
        if waiting.is_empty() {
            return;
        }
        let api = self.cluster.api::<Event>(self.wait.namespace);
        let mut events = vec![];
        for kind in ["Pod", "PersistentVolumeClaim"] {
            let params = ListParams::default().fields(&format!("involvedObject.kind={kind}")).limit(MOST_EVENTS);
            if let Ok(list) = self.cluster.ask("listing the events", api.list(&params)).await {
                events.extend(list.items);
            }
        }
        events.sort_by_key(|event| event.last_timestamp.as_ref().map(|time| time.0));
        for event in events {
            let (Some(reason), Some(about)) = (&event.reason, &event.involved_object.name) else { continue };
            // The state of the pod contains these already.
            if matches!(reason.as_str(), "BackOff" | "Failed" | "Unhealthy")
                || (event.type_.as_deref() != Some("Warning") && reason != "FailedBinding")
            {
                continue;
            }
            let is_pod = event.involved_object.kind.as_deref() == Some("Pod");
            let of = |state: &&&PodState| {
                // A claim of a StatefulSet ends in the name of its pod.
                if is_pod { state.pod == *about } else { about.ends_with(&format!("-{}", state.pod)) }
            };
            let Some(state) = waiting.iter().find(of) else { continue };
            if is_pod && reason == "FailedScheduling" && state.reason.is_some() {
                continue;
            }
            let message = event.message.as_deref().unwrap_or_default();
            let subject = if is_pod { String::new() } else { format!("its claim {about}: ") };
            let line = one_line(&format!("{subject}{reason}: {message}"));
            // The messages of one failure differ in numbers.
            if self.heard.insert(format!("{} {subject}{reason}", state.label)) {
                (self.tell)(&format!("{}: {line}", state.label));
            }
            self.events.insert(state.label.clone(), line);
        }
    }

    /// Reason why pods are not created, such as quota or admission. Only events state it.
    async fn refused_pods(&self) -> Option<String> {
        let api = self.cluster.api::<Event>(self.wait.namespace);
        let params = ListParams::default().fields("reason=FailedCreate,type=Warning").limit(MOST_EVENTS);
        let events = self.cluster.ask("listing the events", api.list(&params)).await.ok()?;
        let components: Vec<&str> = self.wait.expected.iter().map(|(component, ..)| *component).collect();
        // The newest event describes the present state.
        let newest = events
            .items
            .into_iter()
            .filter(|event| {
                let owner = &event.involved_object;
                matches!(owner.kind.as_deref(), Some("Job" | "StatefulSet"))
                    && owner.name.as_deref().is_some_and(|name| components.contains(&name))
            })
            .max_by_key(|event| event.last_timestamp.as_ref().map(|time| time.0))?;
        let owner = newest.involved_object;
        let (kind, name) = (owner.kind.unwrap_or_default(), owner.name.unwrap_or_default());
        Some(one_line(&format!("{kind}/{name} gets no pods: {}", newest.message.unwrap_or_default())))
    }

    /// Conditions that each pod still waits for when the time is over.
    fn timed_out(&self, states: &[PodState], progress: &str) -> String {
        let mut waits: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for state in states {
            let until = self.wait.expected.iter().find(|(component, ..)| *component == state.component);
            let there = until.is_none_or(|(_, _, until)| state.started && (*until == Until::Running || state.ready));
            if !there {
                let event = self.events.get(&state.label).filter(|_| !state.started);
                let reason = event.or(state.reason.as_ref()).unwrap_or(&state.phase).clone();
                waits.entry(reason).or_default().push(state.label.clone());
            }
        }
        let mut causes: Vec<String> =
            waits.into_iter().map(|(reason, labels)| format!("{} ({reason})", names(&labels))).collect();
        if let Some(suspended) = &self.suspended {
            causes.push(suspended.clone());
        } else if let Some((_, refused)) = &self.refused {
            causes.push(refused.clone());
        } else if causes.is_empty() {
            causes.push("pods that were not created yet".into());
        }
        let seconds = self.wait.limit.as_secs();
        format!("some pods are missing after {seconds} s ({progress}); waiting for: {}", causes.join("; "))
    }
}
