//! Finding the nodes that answer, and checking that they make one network.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use futures::future::join_all;
use reqwest::Client;
use serde_json::Value;

use crate::{
    clock::{Instant, sleep},
    deploy::remote::{Endpoint, started_again},
    experiment::{Progress, get_summary},
    http::AskError,
    node::{NodeConfig, NodeSummary, StartOrder},
};

/// Interval of asking nodes that do not answer yet.
const POLL: Duration = Duration::from_millis(200);

/// Values that must be the same in all nodes, as paths in their configuration; objects and lists are compared part by
/// part.
const SAME: [&str; 9] = [
    "/scenario/nodes/count",
    "/scenario/seed",
    "/scenario/network/protocol",
    "/scenario/network/transport",
    "/scenario/topology",
    "/scenario/explore",
    "/scenario/traffic",
    "/scenario/group",
    "/run_id",
];
/// Values that may differ, and are reported.
const REPORTED: [&str; 3] =
    ["/scenario/nodes/buffer_size", "/scenario/network/queue_bytes", "/scenario/network/gossipsub"];

/// A node that answers.
#[derive(Clone, Debug)]
pub(super) struct DiscoveredNode {
    pub(super) endpoint: Endpoint,
    pub(super) args: NodeConfig,
    pub(super) summary: NodeSummary,
}

/// All nodes of a network.
#[derive(Debug, Default)]
pub(super) struct Discovery {
    /// Nodes by id.
    pub(super) nodes: BTreeMap<u64, DiscoveredNode>,
    /// Start that they have, if the run has begun.
    pub(super) start: Option<StartOrder>,
    /// Reason why a started run is invalid: nodes that it has lost.
    pub(super) lost: Option<String>,
    /// Permitted differences between nodes.
    pub(super) warnings: Vec<String>,
}

/// Asks all endpoints, until every one has answered or `limit` is over.
///
/// # Errors
/// One line that names the nodes that can't be used, and why.
pub(super) async fn discover(
    http: &Client,
    endpoints: &[Endpoint],
    limit: Duration,
    progress: &mut Progress,
) -> Result<Discovery, String> {
    let count = endpoints.len();
    progress.stage("find", &format!("{count} nodes"));
    let since = Instant::now();
    let mut found: Vec<DiscoveredNode> = vec![];
    let mut waiting: Vec<&Endpoint> = endpoints.iter().collect();
    loop {
        let answers =
            join_all(waiting.iter().map(async |endpoint| get_summary(http, &format!("http://{endpoint}")).await)).await;
        let mut silent = vec![];
        for (endpoint, answer) in waiting.into_iter().zip(answers) {
            match answer {
                Ok(summary) => found.push(read(endpoint, summary)?),
                // Waiting does not provide the right token.
                Err(error @ AskError::Token) => return Err(format!("{endpoint} {error}")),
                Err(AskError::Other(error)) => silent.push((endpoint, error)),
            }
        }
        check(&found)?;
        let Some((first, error)) = silent.first() else { break };
        if since.elapsed() >= limit {
            let seconds = limit.as_secs();
            let more = if silent.len() > 1 { format!("; and {} more", silent.len() - 1) } else { String::new() };
            let line = format!("{first} does not answer ({seconds} s): {error}{more}");
            return incomplete(found, line);
        }
        progress
            .update(found.len() as f64 / count as f64, &format!("{} of {count} answer; {first}: {error}", found.len()));
        waiting = silent.into_iter().map(|(endpoint, _)| endpoint).collect();
        sleep(POLL).await;
    }
    progress.finish();
    let missing = missing(&found);
    if !missing.is_empty() {
        let num_nodes = found.first().map_or(0, |node| node.args.scenario.nodes.count);
        let names: Vec<String> = missing.iter().take(10).map(ToString::to_string).collect();
        let more = if missing.len() > 10 { ", ..." } else { "" };
        return Err(format!(
            "the network has {num_nodes} nodes, and the endpoints of these are missing: {}{more}",
            names.join(", ")
        ));
    }
    complete(found)
}

/// A node from its summary.
fn read(endpoint: &Endpoint, summary: NodeSummary) -> Result<DiscoveredNode, String> {
    let id = summary.node;
    let args: NodeConfig = serde_json::from_value(summary.configuration.clone())
        .map_err(|error| format!("the configuration of node {id} ({endpoint}) can't be read: {error}"))?;
    args.validate().map_err(|error| format!("node {id} ({endpoint}): {error}"))?;
    if args.id != id {
        return Err(format!("node {id} ({endpoint}) is configured as node {}", args.id));
    }
    if !args.controlled {
        return Err(format!(
            "node {id} ({endpoint}) starts by itself: run it with --controlled (APOLLO_CONTROLLED=true) so that it can receive a start"
        ));
    }
    Ok(DiscoveredNode { endpoint: endpoint.clone(), args, summary })
}

/// Checks that the nodes that have answered so far can be one network.
fn check(found: &[DiscoveredNode]) -> Result<(), String> {
    let mut by_id: BTreeMap<u64, &DiscoveredNode> = BTreeMap::new();
    for node in found {
        if let Some(other) = by_id.insert(node.args.id, node) {
            return Err(format!(
                "node {} answers at two endpoints, {} and {}",
                node.args.id, other.endpoint, node.endpoint
            ));
        }
    }
    // Ordered by id, so that the line does not depend on the order of the answers.
    let Some(first) = by_id.values().next() else { return Ok(()) };
    for node in by_id.values() {
        if let Some(line) = difference(first, node, &SAME).into_iter().next() {
            return Err(format!("{line}; all nodes of a run need the same"));
        }
    }
    Ok(())
}

/// Differences between two nodes, at these paths of their configuration.
fn difference(one: &DiscoveredNode, two: &DiscoveredNode, paths: &[&str]) -> Vec<String> {
    let mut found = vec![];
    for path in paths {
        let of = |node: &DiscoveredNode| node.summary.configuration.pointer(path).cloned().unwrap_or(Value::Null);
        differences(path.rsplit('/').next().unwrap_or(path), &of(one), &of(two), &mut found);
    }
    let line = |(name, first, second): (String, String, String)| {
        format!("nodes {} and {} differ in {name}: {first} and {second}", one.args.id, two.args.id)
    };
    found.into_iter().map(line).collect()
}

/// Different parts of two values: name of the part, and both values.
fn differences(name: &str, one: &Value, two: &Value, found: &mut Vec<(String, String, String)>) {
    match (one, two) {
        (Value::Object(first), Value::Object(second)) => {
            for key in first.keys().chain(second.keys()).collect::<BTreeSet<_>>() {
                let of = |object: &serde_json::Map<String, Value>| object.get(key).cloned().unwrap_or(Value::Null);
                differences(key, &of(first), &of(second), found);
            }
        }
        (Value::Array(first), Value::Array(second)) if first.len() == second.len() => {
            for (first, second) in first.iter().zip(second) {
                differences(name, first, second, found);
            }
        }
        (one, two) if one != two => {
            let text = |value: &Value| if value.is_null() { "nothing".to_owned() } else { value.to_string() };
            found.push((name.to_owned(), text(one), text(two)));
        }
        _ => {}
    }
}

/// Nodes of the network that no endpoint has answered for.
fn missing(found: &[DiscoveredNode]) -> Vec<u64> {
    let there: BTreeSet<u64> = found.iter().map(|node| node.args.id).collect();
    let num_nodes = found.first().map_or(0, |node| node.args.scenario.nodes.count);
    (0..num_nodes).filter(|id| !there.contains(id)).collect()
}

/// Handles nodes that do not answer: a new run can't begin, but of a started run the others' counts are kept.
fn incomplete(found: Vec<DiscoveredNode>, line: String) -> Result<Discovery, String> {
    if found.iter().all(|node| node.summary.start.is_none()) {
        return Err(line);
    }
    let missing: Vec<String> = missing(&found).iter().map(|id| format!("node {id}")).collect();
    let line = format!("{} was lost: {line}", missing.join(", "));
    let all = complete(found)?;
    Ok(Discovery { lost: Some(all.lost.unwrap_or(line)), ..all })
}

fn complete(found: Vec<DiscoveredNode>) -> Result<Discovery, String> {
    let starts: Vec<(u64, &StartOrder)> =
        found.iter().filter_map(|node| Some((node.args.id, node.summary.start.as_ref()?))).collect();
    let start = starts.first().map(|(_, start)| (*start).clone());
    if let Some((first, start)) = starts.first()
        && let Some((other, _)) = starts.iter().find(|(_, other)| other != start)
    {
        return Err(format!(
            "nodes {first} and {other} have different starts: they are of different runs; restart them"
        ));
    }
    let steady = found.first().is_some_and(|node| node.args.scenario.explore.is_none());
    if let Some((node, start)) = starts.first()
        && steady
        && start.measure_millis.is_none()
    {
        return Err(format!("the start that node {node} has names no end of the window: its run can't be collected"));
    }
    let afresh = found.iter().find(|node| start.is_some() && node.summary.start.is_none());
    let lost = afresh.map(|node| started_again(node.args.id));
    let mut warnings: Vec<String> = vec![];
    if let Some(first) = found.first() {
        for node in &found {
            warnings.extend(difference(first, node, &REPORTED));
            let (one, two) = (&first.summary.version, &node.summary.version);
            if one != two {
                let (first, node) = (first.args.id, node.args.id);
                warnings.push(format!("nodes {first} and {node} differ in version: {one} and {two}"));
            }
        }
    }
    let nodes = found.into_iter().map(|node| (node.args.id, node)).collect();
    Ok(Discovery { nodes, start, lost, warnings })
}
