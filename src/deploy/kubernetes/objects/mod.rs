//! A plan as objects of Kubernetes.

mod grafana;
mod nodes;
mod parts;
mod pod;
mod prometheus;
mod run;

use kube::core::DynamicObject;

use self::parts::Objects;
use super::plan::ClusterPlan;

/// All objects of a run, in the order in which they are to be applied: the namespace first, the Job of the nodes last.
///
/// # Errors
/// Fails if an object can't be written as JSON, which no argument brings about.
pub(crate) fn objects(plan: &ClusterPlan) -> Result<Vec<DynamicObject>, serde_json::Error> {
    let mut objects = Objects(vec![]);
    run::add(plan, &mut objects)?;
    if plan.record.monitoring {
        prometheus::add(plan, &mut objects)?;
        grafana::add(plan, &mut objects)?;
    }
    nodes::add(plan, &mut objects)?;
    Ok(objects.0)
}
