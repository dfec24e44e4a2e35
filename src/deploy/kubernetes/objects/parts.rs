//! Parts that several objects have.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::core::v1::{ConfigMap, Service, ServicePort, ServiceSpec},
    apimachinery::pkg::{apis::meta::v1::ObjectMeta, util::intstr::IntOrString},
};
use kube::core::DynamicObject;
use serde::Serialize;

use crate::deploy::kubernetes::{
    names::{Component, labels, selector},
    plan::ClusterPlan,
};

/// Scrape interval, for which alerts and dashboards are made too, in seconds.
pub(super) const SCRAPE_SECONDS: u64 = crate::dashboards::SCRAPE_SECONDS;

/// Objects in their order.
pub(super) struct Objects(pub(super) Vec<DynamicObject>);

impl Objects {
    /// Adds an object.
    pub(super) fn add(&mut self, object: &impl Serialize) -> Result<(), serde_json::Error> {
        self.0.push(serde_json::from_value(serde_json::to_value(object)?)?);
        Ok(())
    }
}

/// Name, namespace and labels of an object.
pub(super) fn metadata(plan: &ClusterPlan, name: &str, component: Component) -> ObjectMeta {
    ObjectMeta {
        name: Some(name.into()),
        namespace: Some(plan.record.namespace.clone()),
        labels: Some(labels(&plan.record.name, component)),
        ..ObjectMeta::default()
    }
}

pub(super) fn config_map(
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

/// A Service, whose ports lead to the container ports of the same name.
pub(super) fn service(plan: &ClusterPlan, name: &str, component: Component, headless: bool, ports: &[Port]) -> Service {
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
        // Published in DNS from the first moment on, because the pods may need the name to become ready.
        publish_not_ready_addresses: headless.then_some(true),
        selector: Some(selector(&plan.record.name, component)),
        type_: Some("ClusterIP".into()),
        ..ServiceSpec::default()
    };
    Service { metadata: metadata(plan, name, component), spec: Some(spec), ..Service::default() }
}

/// A port of a container, with its name.
#[derive(Clone, Copy)]
pub(super) struct Port {
    pub(super) name: &'static str,
    pub(super) number: u16,
    pub(super) protocol: &'static str,
}

impl Port {
    pub(super) fn tcp(name: &'static str, number: u16) -> Self {
        Self { name, number, protocol: "TCP" }
    }
}
