//! `apollo-bench cluster port-forward`: Grafana and Prometheus on this machine, until Ctrl-C.

use super::{
    commands::PortForwardArgs,
    session::{RunThere, interrupts},
};
use crate::{
    cli::error::CliError,
    deploy::kubernetes::{
        names::{Component, GRAFANA_PORT, PROMETHEUS_PORT, selector_text},
        on_stderr,
    },
    kubernetes::{ForwardTarget, forward},
    terminal::{say, tell},
};

pub(super) async fn port_forward(args: &PortForwardArgs) -> Result<(), CliError> {
    let mut interrupt = interrupts()?;
    let there = RunThere::find(&args.connect).await?;
    let record = &there.record;
    if !record.monitoring {
        return Err(CliError::Usage(format!(
            "the run {} has no Prometheus and no Grafana: it was started with --no-monitoring",
            record.name
        )));
    }
    let wanted = [
        (Component::Grafana, GRAFANA_PORT, args.grafana_port),
        (Component::Prometheus, PROMETHEUS_PORT, args.prometheus_port),
    ];
    let mut open = vec![];
    for (component, port, local) in wanted {
        let target = ForwardTarget {
            name: component.name().into(),
            namespace: record.namespace.clone(),
            selector: selector_text(&record.name, component),
            index: None,
            port,
        };
        open.push((component, forward(&there.cluster, target, local, on_stderr(), None).await?));
    }
    for (component, forward) in &open {
        say(&format!("{:<12} http://{}\n", component.name(), forward.local));
    }
    tell("open until Ctrl-C");
    interrupt.next().await;
    Ok(())
}
