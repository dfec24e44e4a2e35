//! Connection to a cluster.

use std::{future::Future, io, path::PathBuf, time::Duration};

use kube::{
    Api, Client, Config, Error, Resource,
    api::{ApiResource, DynamicObject, GroupVersionKind},
    config::{KubeConfigOptions, Kubeconfig, KubeconfigError},
    core::NamespaceResourceScope,
};

use super::{
    error::{KubernetesError, explain},
    text::{names, one_line},
};
use crate::clock::timeout;

/// Maximum time to wait for an answer that is not a stream.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// Cluster and identity of the user.
#[derive(Clone, Debug, Default)]
pub struct Access {
    /// File that names clusters and credentials; by default `KUBECONFIG`, then `~/.kube/config`, then this pod's own
    /// account.
    pub kubeconfig: Option<PathBuf>,
    /// Context of the kubeconfig; by default its current one.
    pub context: Option<String>,
}

/// A cluster that answers.
#[derive(Clone)]
pub struct Cluster {
    pub(super) client: Client,
    server: String,
    context: String,
    version: String,
    namespace: String,
}

impl Cluster {
    /// Finds the server and asks for its version.
    ///
    /// # Errors
    /// Fails if there is no kubeconfig or no such context, or the server can't be reached or does not take the
    /// credentials.
    pub async fn connect(access: &Access) -> Result<Self, KubernetesError> {
        let (config, context) = config(access).await?;
        let server = config.cluster_url.to_string().trim_end_matches('/').to_owned();
        let namespace = config.default_namespace.clone();
        let doing = format!("context {context}");
        // This program contains two libraries for cryptography, and rustls does not choose. An error means that one is
        // chosen already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = Client::try_from(config).map_err(|error| explain(&error, &doing, &server))?;
        let mut cluster = Self { client, server, context, version: String::new(), namespace };
        let version = cluster.ask(&doing, cluster.client.apiserver_version()).await?;
        cluster.version = version.git_version;
        Ok(cluster)
    }

    /// Address of the server.
    pub fn server(&self) -> &str {
        &self.server
    }

    /// Name of the context.
    pub fn context(&self) -> &str {
        &self.context
    }

    /// Version of the server, such as `v1.33.1`.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Namespace of the context.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// Typed objects of a namespace.
    pub fn api<K>(&self, namespace: &str) -> Api<K>
    where
        K: Resource<Scope = NamespaceResourceScope>,
        K::DynamicType: Default,
    {
        Api::namespaced(self.client.clone(), namespace)
    }

    /// Typed objects of the whole cluster: those without namespace, or those of all namespaces.
    pub fn all<K>(&self) -> Api<K>
    where
        K: Resource,
        K::DynamicType: Default,
    {
        Api::all(self.client.clone())
    }

    /// Objects of the same kind as this object, in its namespace if it has one.
    pub(super) fn like(&self, object: &DynamicObject) -> Result<Api<DynamicObject>, KubernetesError> {
        let types = object.types.as_ref();
        let kind = types
            .and_then(|types| GroupVersionKind::try_from(types).ok())
            .ok_or_else(|| KubernetesError::Usage("an object without apiVersion and kind".into()))?;
        Ok(self.of_kind(&ApiResource::from_gvk(&kind), object.metadata.namespace.as_deref()))
    }

    /// The objects of a kind.
    pub(super) fn of_kind(&self, kind: &ApiResource, namespace: Option<&str>) -> Api<DynamicObject> {
        match namespace {
            Some(namespace) => Api::namespaced_with(self.client.clone(), namespace, kind),
            None => Api::all_with(self.client.clone(), kind),
        }
    }

    /// Waits for an answer, with a maximum time. `doing` begins the line of an error.
    ///
    /// # Errors
    /// The message of the server, or of the connection to it.
    pub async fn ask<T>(
        &self,
        doing: &str,
        answer: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, KubernetesError> {
        match timeout(ANSWER_TIMEOUT, answer).await {
            Ok(answer) => answer.map_err(|error| self.error(doing, &error)),
            Err(_) => {
                let (server, seconds) = (&self.server, ANSWER_TIMEOUT.as_secs());
                Err(KubernetesError::Failed(format!("{doing}: {server} has not answered for {seconds} s")))
            }
        }
    }

    /// An error of the client, in one line.
    pub(super) fn error(&self, doing: &str, error: &Error) -> KubernetesError {
        explain(error, doing, &self.server)
    }
}

/// Configuration, and the name of its context.
async fn config(access: &Access) -> Result<(Config, String), KubernetesError> {
    let read = match &access.kubeconfig {
        Some(file) => Kubeconfig::read_from(file),
        None => Kubeconfig::read(),
    };
    let kubeconfig = match read {
        Ok(kubeconfig) => kubeconfig,
        Err(error) => {
            // A pod of the cluster has no file, but an account.
            if access.kubeconfig.is_none()
                && access.context.is_none()
                && is_missing(&error)
                && let Ok(config) = Config::incluster()
            {
                return Ok((config, "in-cluster".into()));
            }
            return Err(KubernetesError::Usage(unread(&error)));
        }
    };
    let known: Vec<String> = kubeconfig.contexts.iter().map(|context| context.name.clone()).collect();
    let context = access.context.clone().or_else(|| kubeconfig.current_context.clone().filter(|name| !name.is_empty()));
    let list = if known.is_empty() { "it has none".to_owned() } else { format!("it has {}", names(&known)) };
    let Some(context) = context else {
        return Err(KubernetesError::Usage(format!("the kubeconfig has no current context: give --context ({list})")));
    };
    if !known.contains(&context) {
        return Err(KubernetesError::Usage(one_line(&format!("the kubeconfig has no context {context}: {list}"))));
    }
    let options = KubeConfigOptions { context: Some(context.clone()), ..KubeConfigOptions::default() };
    let config = Config::from_custom_kubeconfig(kubeconfig, &options)
        .await
        .map_err(|error| KubernetesError::Usage(one_line(&format!("context {context}: {error}"))))?;
    Ok((config, context))
}

fn is_missing(error: &KubeconfigError) -> bool {
    match error {
        KubeconfigError::ReadConfig(error, _) => error.kind() == io::ErrorKind::NotFound,
        error => matches!(error, KubeconfigError::FindPath),
    }
}

fn unread(error: &KubeconfigError) -> String {
    let way = "give --kubeconfig FILE, or set KUBECONFIG (for GKE: gcloud container clusters get-credentials NAME)";
    match error {
        KubeconfigError::ReadConfig(error, path) if error.kind() == io::ErrorKind::NotFound => {
            format!("no kubeconfig exists at {}: {way}", path.display())
        }
        KubeconfigError::ReadConfig(error, path) => format!("the kubeconfig {}: {error}", path.display()),
        KubeconfigError::FindPath => format!("no kubeconfig was found: {way}"),
        other => one_line(&format!("the kubeconfig: {other}")),
    }
}
