//! A client of Kubernetes: what a command line needs of an API server, said in lines that a person can use.
//!
//! [`Cluster::connect`] finds the server as kubectl does. [`apply`] makes objects; [`wait`] waits for pods and
//! names what holds them up; [`follow`] brings their logs, whole; [`forward`] opens a port of theirs here; [`remove`] takes
//! everything away again. Knows nothing of the benchmark: objects are told by their labels.

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

pub use apply::{Apply, apply, create};
pub use connect::{Access, Cluster};
pub use error::KubernetesError;
pub use follow::{Follow, Read, follow, read};
pub use forward::{Forward, ForwardTarget, Report, forward};
pub use logs::LogLine;
pub use pods::{PodState, list_pods};
pub use remove::{Remove, Removed, remove};
pub use wait::{Until, Wait, wait};

/// Label of what an object belongs to as a whole, by the recommended names.
pub const NAME: &str = "app.kubernetes.io/name";
/// Label of the single instance.
pub const INSTANCE: &str = "app.kubernetes.io/instance";
/// Label of an object's part in it.
pub const COMPONENT: &str = "app.kubernetes.io/component";
/// Label of the program that made an object.
pub const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
/// Annotation of a pod of an Indexed Job: its index.
pub const COMPLETION_INDEX: &str = "batch.kubernetes.io/job-completion-index";

/// Hears the lines that are worth telling while something goes on.
pub type Tell<'a> = &'a (dyn Fn(&str) + Send + Sync);
