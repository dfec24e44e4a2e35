//! Present state of pods, kept up to date.

use std::{collections::BTreeMap, pin::Pin, time::Duration};

use backon::ExponentialBuilder;
use futures::{Stream, StreamExt};
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, Error, ResourceExt,
    runtime::{
        WatchStreamExt,
        watcher::{self, ExponentialBackoff, watcher},
    },
};

use super::{connect::Cluster, error::KubernetesError};

/// Maximum number of pods that are kept: more than any run has, and far less than memory holds.
const MOST_PODS: usize = 20_000;

/// Pauses before the next request to the server: the first, and the maximum; each is twice as long as the one before.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LAST_PAUSE: Duration = Duration::from_secs(5);

/// Pods in one answer of a list.
const PAGE: u32 = 500;

type Events = Pin<Box<dyn Stream<Item = Result<watcher::Event<Pod>, watcher::Error>> + Send>>;

/// Pods of a namespace with these labels. The watch survives broken connections, and lists again if the server has
/// forgotten its position (410).
pub(super) struct PodWatch {
    cluster: Cluster,
    api: Api<Pod>,
    selector: String,
    events: Events,
    pods: BTreeMap<String, Pod>,
    /// Pods of a list that is under way.
    listed: BTreeMap<String, Pod>,
    /// True if the first list is complete.
    complete: bool,
}

/// Change that a watch reports.
pub(super) enum Change {
    /// The pods are known, or may have changed.
    Pods,
    /// The connection is interrupted, for this reason.
    Broken(String),
}

impl PodWatch {
    pub(super) fn new(cluster: &Cluster, namespace: &str, selector: &str) -> Self {
        let api: Api<Pod> = cluster.api(namespace);
        Self {
            cluster: cluster.clone(),
            events: events(&api, selector),
            api,
            selector: selector.into(),
            pods: BTreeMap::new(),
            listed: BTreeMap::new(),
            complete: false,
        }
    }

    /// The pods, by name.
    pub(super) fn pods(&self) -> impl Iterator<Item = &Pod> {
        self.pods.values()
    }

    /// Waits for a change. An error is permanent: another attempt would not fix it.
    pub(super) async fn changed(&mut self) -> Result<Change, KubernetesError> {
        loop {
            let event = self.events.next().await;
            match event {
                Some(Ok(event)) => {
                    if self.take(event)? {
                        return Ok(Change::Pods);
                    }
                }
                Some(Err(error)) => return self.failed(&error),
                None => self.events = events(&self.api, &self.selector),
            }
        }
    }

    /// Processes an event. Returns true if something is new.
    fn take(&mut self, event: watcher::Event<Pod>) -> Result<bool, KubernetesError> {
        match event {
            watcher::Event::Init => self.listed.clear(),
            watcher::Event::InitApply(pod) => {
                self.listed.insert(pod.name_any(), slim(pod));
            }
            watcher::Event::InitDone => {
                self.pods = std::mem::take(&mut self.listed);
                self.complete = true;
            }
            watcher::Event::Apply(pod) => {
                self.pods.insert(pod.name_any(), slim(pod));
            }
            watcher::Event::Delete(pod) => {
                self.pods.remove(&pod.name_any());
            }
        }
        if self.pods.len().max(self.listed.len()) > MOST_PODS {
            return Err(KubernetesError::Failed(format!("more than {MOST_PODS} pods have these labels")));
        }
        Ok(self.complete && self.listed.is_empty())
    }

    fn failed(&mut self, error: &watcher::Error) -> Result<Change, KubernetesError> {
        let behind = match error {
            watcher::Error::InitialListFailed(error) | watcher::Error::WatchFailed(error) => Some(error),
            watcher::Error::WatchStartFailed(error) => {
                // The watcher itself would ask again and again for a position that the server has forgotten.
                if matches!(error, Error::Api(status) if status.code == 410) {
                    self.events = events(&self.api, &self.selector);
                    return Ok(Change::Pods);
                }
                Some(error)
            }
            // The watcher lists again by itself.
            watcher::Error::WatchError(status) if status.code == 410 => return Ok(Change::Pods),
            watcher::Error::WatchError(_) | watcher::Error::NoResourceVersion => None,
        };
        match behind {
            Some(error @ Error::Api(status)) if matches!(status.code, 401 | 403) => {
                Err(self.cluster.error("watching the pods", error))
            }
            Some(error) => Ok(Change::Broken(self.cluster.error("watching the pods", error).to_string())),
            None => Ok(Change::Broken(format!("watching the pods: {error}"))),
        }
    }
}

fn events(api: &Api<Pod>, selector: &str) -> Events {
    let config = watcher::Config::default().labels(selector).page_size(PAGE);
    let pauses = ExponentialBuilder::default().with_min_delay(FIRST_PAUSE).with_max_delay(LAST_PAUSE);
    watcher(api.clone(), config).backoff(ExponentialBackoff::from(pauses.without_max_times())).boxed()
}

/// A pod without the fields that nobody here reads.
fn slim(mut pod: Pod) -> Pod {
    pod.metadata.managed_fields = None;
    if let Some(spec) = &mut pod.spec {
        for container in spec.containers.iter_mut().chain(spec.init_containers.iter_mut().flatten()) {
            *container = k8s_openapi::api::core::v1::Container {
                name: std::mem::take(&mut container.name),
                ..Default::default()
            };
        }
        spec.volumes = None;
    }
    pod
}
