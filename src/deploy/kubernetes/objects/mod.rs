//! A plan as objects of Kubernetes.

mod grafana;
mod nodes;
mod pod;
mod prometheus;
mod run;

use std::collections::BTreeMap;

use k8s_openapi::{
    api::core::v1::{ConfigMap, Service, ServicePort, ServiceSpec},
    apimachinery::pkg::{apis::meta::v1::ObjectMeta, util::intstr::IntOrString},
};
use kube::core::DynamicObject;
use serde::Serialize;

use super::{
    names::{Component, labels, selector},
    plan::ClusterPlan,
};

/// Seconds between scrapes, for which alerts and dashboards are made too.
const SCRAPE_SECONDS: u64 = crate::dashboards::SCRAPE_SECONDS;

/// All objects of a run, in the order in which they are to be applied: the namespace first, the Job of the nodes last.
///
/// # Errors
/// When an object can't be written as JSON, which no argument brings about.
pub fn objects(plan: &ClusterPlan) -> Result<Vec<DynamicObject>, serde_json::Error> {
    let mut objects = Objects(vec![]);
    run::add(plan, &mut objects)?;
    prometheus::add(plan, &mut objects)?;
    grafana::add(plan, &mut objects)?;
    nodes::add(plan, &mut objects)?;
    Ok(objects.0)
}

/// Objects in their order.
struct Objects(Vec<DynamicObject>);

impl Objects {
    fn add(&mut self, object: &impl Serialize) -> Result<(), serde_json::Error> {
        self.0.push(serde_json::from_value(serde_json::to_value(object)?)?);
        Ok(())
    }
}

/// Name, namespace and labels of an object.
fn metadata(plan: &ClusterPlan, name: &str, component: Component) -> ObjectMeta {
    ObjectMeta {
        name: Some(name.into()),
        namespace: Some(plan.record.namespace.clone()),
        labels: Some(labels(&plan.record.name, component)),
        ..ObjectMeta::default()
    }
}

fn config_map(
    plan: &ClusterPlan,
    name: &str,
    component: Component,
    data: impl IntoIterator<Item = (String, String)>,
) -> ConfigMap {
    ConfigMap {
        metadata: metadata(plan, name, component),
        data: Some(data.into_iter().collect::<BTreeMap<_, _>>()),
        ..ConfigMap::default()
    }
}

/// A Service, whose ports lead to those of the same name.
fn service(plan: &ClusterPlan, name: &str, component: Component, headless: bool, ports: &[Port]) -> Service {
    let ports = ports.iter().map(|port| ServicePort {
        name: Some(port.name.into()),
        port: port.number.into(),
        protocol: Some(port.protocol.into()),
        target_port: Some(IntOrString::String(port.name.into())),
        ..ServicePort::default()
    });
    let spec = ServiceSpec {
        cluster_ip: headless.then(|| "None".into()),
        ports: Some(ports.collect()),
        // A name in DNS from the first moment on: what is behind it may need it to become ready.
        publish_not_ready_addresses: headless.then_some(true),
        selector: Some(selector(&plan.record.name, component)),
        type_: Some("ClusterIP".into()),
        ..ServiceSpec::default()
    };
    Service { metadata: metadata(plan, name, component), spec: Some(spec), ..Service::default() }
}

/// A port of a container, by its name.
#[derive(Clone, Copy)]
struct Port {
    name: &'static str,
    number: u16,
    protocol: &'static str,
}

impl Port {
    fn tcp(name: &'static str, number: u16) -> Self {
        Self { name, number, protocol: "TCP" }
    }
}
