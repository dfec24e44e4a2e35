//! A mark on a run that a program is starting, so that no other program starts it at the same time.

use std::time::Duration;

use k8s_openapi::api::core::v1::ConfigMap;
use kube::{
    ResourceExt,
    api::{Patch, PatchParams},
};
use serde_json::json;
use tokio::task::JoinHandle;

use crate::{
    clock::{sleep, unix_nanos},
    deploy::kubernetes::names::{FIELD_MANAGER, RUN_CONFIG_MAP},
    kubernetes::{Cluster, KubernetesError},
};

/// Annotation of the run's record: time until which it is claimed, in nanoseconds since the Unix epoch.
pub(super) const CLAIMED: &str = "apollo-bench/starting-until";

/// Interval of renewing a claim, and its duration: a program that was killed holds it for the rest of this time.
const RENEWAL: Duration = Duration::from_secs(3);
const DURATION: Duration = Duration::from_secs(15);

/// A claim, which is renewed until it is dropped.
pub(super) struct Claim(JoinHandle<()>);

impl Drop for Claim {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// End of a claim that begins now, as the text of the annotation.
pub(super) fn until() -> String {
    unix_nanos().saturating_add(u64::try_from(DURATION.as_nanos()).unwrap_or(u64::MAX)).to_string()
}

impl Claim {
    /// Claims an existing run.
    ///
    /// # Errors
    /// Fails if another program has a claim.
    pub(super) async fn take(cluster: &Cluster, namespace: &str, map: &ConfigMap) -> Result<Self, KubernetesError> {
        let taken = || {
            KubernetesError::Usage(format!(
                "another program is starting the run in the namespace {namespace}: wait for it; if it was killed, try \
                 again in {} s",
                DURATION.as_secs()
            ))
        };
        let claimed = map.annotations().get(CLAIMED).and_then(|until| until.parse().ok());
        if claimed.is_some_and(|until: u64| until > unix_nanos()) {
            return Err(taken());
        }
        match renew(cluster, namespace, map.metadata.resource_version.as_deref()).await {
            Ok(()) => Ok(Self::hold(cluster, namespace)),
            Err(KubernetesError::Refused { code: 409, .. }) => Err(taken()),
            Err(error) => Err(error),
        }
    }

    /// Gives the claim up without a start, so that the next attempt need not wait for its end.
    pub(super) async fn release(self, cluster: &Cluster, namespace: &str) {
        drop(self);
        // A claim that remains ends by itself.
        let _ = annotate(cluster, namespace, None, None).await;
    }

    /// Renews a claim that this program has.
    pub(super) fn hold(cluster: &Cluster, namespace: &str) -> Self {
        let (cluster, namespace) = (cluster.clone(), namespace.to_owned());
        Self(tokio::spawn(async move {
            loop {
                sleep(RENEWAL).await;
                // A server that is away for a moment is asked again; a run that was removed stays removed.
                let _ = renew(&cluster, &namespace, None).await;
            }
        }))
    }
}

async fn renew(cluster: &Cluster, namespace: &str, version: Option<&str>) -> Result<(), KubernetesError> {
    annotate(cluster, namespace, Some(until()), version).await
}

/// Sets the end of the claim, or removes the claim.
async fn annotate(
    cluster: &Cluster,
    namespace: &str,
    until: Option<String>,
    version: Option<&str>,
) -> Result<(), KubernetesError> {
    let mut metadata = json!({ "annotations": { CLAIMED: until } });
    if let Some(version) = version {
        // The server refuses the change of an object that was changed since it was read.
        metadata["resourceVersion"] = version.into();
    }
    let params = PatchParams { field_manager: Some(FIELD_MANAGER.into()), ..PatchParams::default() };
    let patch = Patch::Merge(json!({ "metadata": metadata }));
    let maps = cluster.api::<ConfigMap>(namespace);
    cluster.ask("claiming the run", maps.patch(RUN_CONFIG_MAP, &params, &patch)).await.map(drop)
}
