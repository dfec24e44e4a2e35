//! Connection to a cluster.

use std::{
    collections::BTreeSet,
    future::Future,
    io,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::http::{Response, header::WARNING};
use kube::{
    Api, Client, Config, Error, Resource,
    api::{ApiResource, DynamicObject, GroupVersionKind},
    client::ClientBuilder,
    config::{KubeConfigOptions, Kubeconfig, KubeconfigError},
    core::NamespaceResourceScope,
};
use tower::util::MapResponseLayer;

use super::{
    error::{KubernetesError, explain},
    text::{names, one_line},
};
use crate::{clock::timeout, terminal::tell};

/// Maximum time to wait for an answer that is not a stream.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// Maximum number of warnings of a server that are reported.
const MOST_WARNINGS: usize = 100;

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
        let builder = ClientBuilder::try_from(config).map_err(|error| explain(&error, &doing, &server))?;
        let client = builder.with_layer(&MapResponseLayer::new(reporting_warnings())).build();
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
                Err(KubernetesError::Failed(format!(
                    "{doing}: {server} has not answered for {seconds} s, or was too busy"
                )))
            }
        }
    }

    /// An error of the client, in one line.
    pub(super) fn error(&self, doing: &str, error: &Error) -> KubernetesError {
        explain(error, doing, &self.server)
    }
}

/// Reports each warning of the server once: it warns of objects that it takes, and whose pods it would refuse.
fn reporting_warnings<B: 'static>() -> impl Fn(Response<B>) -> Response<B> + Clone + Send + 'static {
    let reported: Arc<Mutex<BTreeSet<String>>> = Arc::default();
    move |response: Response<B>| {
        for header in response.headers().get_all(WARNING) {
            let text = String::from_utf8_lossy(header.as_bytes());
            let warning = one_line(&warning(&text));
            let mut reported = reported.lock().unwrap_or_else(PoisonError::into_inner);
            if reported.len() < MOST_WARNINGS && reported.insert(warning.clone()) {
                tell(&format!("warning of the server: {warning}"));
            }
        }
        response
    }
}

/// Text of a header like `299 - "text"` (RFC 7234, section 5.5).
fn warning(header: &str) -> String {
    let quoted = header.split_once('"').and_then(|(_, rest)| rest.rsplit_once('"'));
    quoted.map_or(header, |(text, _)| text).replace("\\\"", "\"")
}

/// Configuration, and the name of its context.
async fn config(access: &Access) -> Result<(Config, String), KubernetesError> {
    let read = match &access.kubeconfig {
        Some(file) => Kubeconfig::read_from(file),
        None => read_as_kubectl(),
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

/// Reads all files of `KUBECONFIG`, or the default one. As in kubectl, missing and empty files are left out as long as
/// one of the files exists, and the first file that sets a value decides it.
fn read_as_kubectl() -> Result<Kubeconfig, KubeconfigError> {
    let list = std::env::var_os("KUBECONFIG").unwrap_or_default();
    let files: Vec<PathBuf> = std::env::split_paths(&list).filter(|file| !file.as_os_str().is_empty()).collect();
    let mut merged: Option<Kubeconfig> = None;
    let mut missing = None;
    for file in &files {
        let next = match Kubeconfig::read_from(file) {
            Ok(next) => next,
            Err(error) if is_missing(&error) => {
                missing.get_or_insert(error);
                continue;
            }
            Err(error) => return Err(error),
        };
        let mut whole = match merged {
            Some(merged) => merged.merge(next)?,
            None => next,
        };
        // An empty text names no context.
        whole.current_context = whole.current_context.filter(|name| !name.is_empty());
        merged = Some(whole);
    }
    match (merged, missing) {
        (Some(merged), _) => Ok(merged),
        (None, Some(missing)) => Err(missing),
        (None, None) => Kubeconfig::read(),
    }
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
