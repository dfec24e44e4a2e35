//! Client of Kubernetes: the operations that a command line needs, with messages that a person can use.
//!
//! [`Cluster::connect`] finds the server as kubectl does. [`apply`] creates objects; [`wait`] waits for pods and names
//! the reasons of a delay; [`follow`] brings their complete logs; [`forward`] opens a port of a pod here; [`remove`]
//! removes everything again. This module knows nothing of the benchmark: objects are recognised by their labels.

mod apply;
mod connect;
mod error;
mod follow;
mod forward;
mod lines;
mod logs;
mod pods;
mod remove;
mod text;
mod trouble;
mod wait;
mod watch;

pub use apply::{Apply, apply, create, create_missing, try_pod};
pub use connect::{Access, Cluster};
pub use error::KubernetesError;
pub use follow::{Follow, Read, follow, read};
pub use forward::{Forward, ForwardTarget, Report, forward};
pub use logs::LogLine;
pub use pods::{PodState, list_pods};
pub use remove::{Remove, Removed, remove};
pub use wait::{Until, Wait, wait};

/// Label of the application that an object belongs to, by the recommended names.
pub const NAME: &str = "app.kubernetes.io/name";
/// Label of the single instance.
pub const INSTANCE: &str = "app.kubernetes.io/instance";
/// Label of an object's part in it.
pub const COMPONENT: &str = "app.kubernetes.io/component";
/// Label of the program that made an object.
pub const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
/// Annotation of a pod of an Indexed Job: its index.
pub const COMPLETION_INDEX: &str = "batch.kubernetes.io/job-completion-index";

/// Receives the lines that are worth reporting during an operation.
pub type Tell<'a> = &'a (dyn Fn(&str) + Send + Sync);
