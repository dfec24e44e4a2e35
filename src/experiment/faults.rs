//! Execution of faults: each is checked for its effect, and reported in the result.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use futures::future::{join_all, try_join_all};

use super::{client::NodeClient, plan::Plan};
use crate::{
    clock::{Instant, unix_nanos},
    deploy::Deployment,
    live::NodeCondition,
    node::{ArrivalReport, NodeSummary, StartOrder},
    report::FaultRow,
    scenario::{Action, Directions, LinkPlan, NodeGroups, ShapePatch},
};

/// Delay of a fault above which it is reported.
const LATE_SECONDS: f64 = 0.25;

/// A restarted node that has not received its start yet.
struct Rejoining {
    row: usize,
    since: Instant,
    gone_since: u64,
}

/// A cut or degraded part of the network, and the number of affected packets before its fault began.
struct Open {
    row: usize,
    packets_before: u64,
}

/// State of the faults so far.
pub(crate) struct Faults {
    next: usize,
    rows: Vec<FaultRow>,
    /// Last reports of the ended lives of killed nodes.
    lives: Vec<NodeSummary>,
    /// Arrivals of these lives.
    arrivals: Vec<ArrivalReport>,
    killed: BTreeSet<u64>,
    /// Killed nodes that have not returned, and the time since which nothing is known of them.
    dead: BTreeMap<u64, u64>,
    paused: BTreeSet<u64>,
    rejoining: BTreeMap<u64, Rejoining>,
    links: LinkPlan,
    groups: Option<NodeGroups>,
    cut: Option<Open>,
    degraded: BTreeMap<(u64, u64), Open>,
}

/// Network on which a fault acts.
pub(crate) struct FaultContext<'a> {
    pub(crate) plan: &'a Plan,
    pub(crate) deployment: &'a mut dyn Deployment,
    pub(crate) clients: &'a [NodeClient],
    /// Last report of each node.
    pub(crate) latest: &'a mut BTreeMap<u64, NodeSummary>,
}

impl FaultContext<'_> {
    fn is_virtual(&self) -> bool {
        self.deployment.capabilities().virtual_time
    }
}

impl Faults {
    /// The state before the first fault.
    pub(crate) fn new(plan: &Plan) -> Self {
        let rows = plan.faults.faults().iter().map(|fault| FaultRow {
            fault: fault.to_string(),
            planned_seconds: fault.at.as_secs_f64(),
            ..FaultRow::default()
        });
        Self {
            next: 0,
            rows: rows.collect(),
            lives: vec![],
            arrivals: vec![],
            killed: BTreeSet::new(),
            dead: BTreeMap::new(),
            paused: BTreeSet::new(),
            rejoining: BTreeMap::new(),
            links: plan.links.clone(),
            groups: None,
            cut: None,
            degraded: BTreeMap::new(),
        }
    }

    /// Time of the next fault, in nanoseconds since the Unix epoch, for a window that opens at `from`.
    pub(crate) fn due(&self, plan: &Plan, from: u64) -> Option<u64> {
        let fault = plan.faults.faults().get(self.next)?;
        Some(from.saturating_add(u64::try_from(fault.at.as_nanos()).unwrap_or(u64::MAX)))
    }

    /// True if the node can answer.
    pub(crate) fn answers(&self, id: u64) -> bool {
        self.absence(id).is_none()
    }

    /// Reason why the node can't answer, if it can't.
    pub(crate) fn absence(&self, id: u64) -> Option<NodeCondition> {
        let dead = self.dead.contains_key(&id).then_some(NodeCondition::Dead);
        let rejoining = || self.rejoining.contains_key(&id).then_some(NodeCondition::Returning);
        dead.or_else(rejoining).or_else(|| self.paused.contains(&id).then_some(NodeCondition::Paused))
    }

    /// Faults so far, and planned ones.
    pub(crate) fn rows(&self) -> &[FaultRow] {
        &self.rows
    }

    /// True if fault `row` has an effect now: its nodes are gone or paused, or its links are cut or degraded. The faults
    /// that undo others have none.
    pub(crate) fn is_active(&self, row: usize, action: &Action) -> bool {
        if row >= self.next {
            return false;
        }
        match action {
            Action::Kill(nodes) => nodes.iter().any(|id| self.dead.contains_key(id)),
            Action::Pause(nodes) => nodes.iter().any(|id| self.paused.contains(id)),
            Action::Restart(_) => self.rejoining.values().any(|rejoining| rejoining.row == row),
            Action::Partition(_) => self.cut.as_ref().is_some_and(|cut| cut.row == row),
            Action::Degrade(..) => self.degraded.values().any(|degraded| degraded.row == row),
            Action::Resume(_) | Action::Heal | Action::Restore(_) => false,
        }
    }

    /// True if a restarted node has not received its start yet.
    pub(crate) fn awaits_any(&self) -> bool {
        !self.rejoining.is_empty()
    }

    /// True if a node is paused.
    pub(crate) fn pauses_any(&self) -> bool {
        !self.paused.is_empty()
    }

    /// Last reports of ended lives.
    pub(crate) fn lives(&self) -> &[NodeSummary] {
        &self.lives
    }

    /// Arrivals of ended lives.
    pub(crate) fn take_arrivals(&mut self) -> Vec<ArrivalReport> {
        std::mem::take(&mut self.arrivals)
    }

    /// Nodes that were killed at any time.
    pub(crate) fn killed(&self) -> &BTreeSet<u64> {
        &self.killed
    }

    /// Nodes that were killed and did not return.
    pub(crate) fn gone(&self) -> BTreeSet<u64> {
        self.dead.keys().copied().collect()
    }

    /// Faults that were much later than planned: the phases are those of the plan.
    pub(crate) fn late(&self) -> impl Iterator<Item = String> + '_ {
        self.rows.iter().filter_map(|row| {
            let late = row.done_seconds? - row.planned_seconds;
            (late > LATE_SECONDS).then(|| {
                format!("the fault '{}' was done {late:.2} s after its time: the phases are cut there", row.fault)
            })
        })
    }

    /// Carries out the next fault of a window that opens at `from`.
    ///
    /// # Errors
    /// Fails if it does not hit: the run is not the one that was asked for.
    pub(crate) async fn perform(&mut self, context: &mut FaultContext<'_>, from: u64) -> Result<(), String> {
        let (row, plan) = (self.next, context.plan);
        let Some(fault) = plan.faults.faults().get(row) else { return Ok(()) };
        self.next += 1;
        self.begin(row, from);
        let seen = match &fault.action {
            Action::Kill(nodes) => self.kill(context, nodes).await,
            Action::Restart(nodes) => self.restart(context, nodes, row).await,
            Action::Pause(nodes) => self.pause(context, nodes).await,
            Action::Resume(nodes) => self.resume(context, nodes).await,
            Action::Partition(groups) => self.cut(context, groups, row).await,
            Action::Heal => self.heal(context).await,
            Action::Degrade(directions, shape) => self.degrade(context, directions, shape, row).await,
            Action::Restore(directions) => self.restore(context, directions).await,
        };
        let seen = seen.map_err(|error| format!("the fault '{fault}' failed: {error}"))?;
        self.done(row, from, seen);
        Ok(())
    }

    fn begin(&mut self, row: usize, from: u64) {
        if let Some(row) = self.rows.get_mut(row) {
            row.began_seconds = Some(seconds_since(from));
        }
    }

    fn done(&mut self, row: usize, from: u64, seen: Option<String>) {
        if let Some(row) = self.rows.get_mut(row) {
            row.done_seconds = Some(seconds_since(from));
            row.seen = seen.or(row.seen.take());
        }
    }

    fn see(&mut self, row: usize, seen: String) {
        if let Some(row) = self.rows.get_mut(row) {
            row.seen = Some(seen);
        }
    }

    async fn kill(&mut self, context: &mut FaultContext<'_>, ids: &BTreeSet<u64>) -> Result<Option<String>, String> {
        let mut blind = Duration::ZERO;
        for id in ids {
            // A last report, so that as little as possible is unknown.
            let client = NodeClient::of(context.clients, *id)?;
            self.arrivals.extend(client.arrivals().await);
            let last = client.summary().await;
            let (answered, gone_since) = (Instant::now(), unix_nanos());
            let earlier = context.latest.remove(id);
            let known = last.ok().or(earlier);
            context.deployment.kill(*id).await?;
            blind = blind.max(answered.elapsed());
            if let Some(life) = known {
                let number = 1 + self.lives.iter().filter(|life| life.node == *id).count();
                let folder = &context.plan.folder;
                let written = folder.write_json(&folder.life_summary(*id, number), &life);
                written.map_err(|error| error.to_string())?;
                self.lives.push(life);
            }
            self.killed.insert(*id);
            // A node that had not returned yet has counted nothing since it was killed the last time.
            let before = self.rejoining.remove(id);
            if let Some(Rejoining { row, .. }) = &before {
                self.see(*row, "was killed again before it answered".into());
            }
            self.dead.insert(*id, before.map_or(gone_since, |before| before.gone_since));
        }
        Ok(Some(format!("ended by SIGKILL, at most {:.1} ms after the last answer", blind.as_secs_f64() * 1000.0)))
    }

    async fn restart(
        &mut self,
        context: &mut FaultContext<'_>,
        ids: &BTreeSet<u64>,
        row: usize,
    ) -> Result<Option<String>, String> {
        for id in ids {
            let gone_since = self.dead.remove(id).ok_or_else(|| format!("node {id} is not dead"))?;
            context.deployment.restart(*id).await?;
            self.rejoining.insert(*id, Rejoining { row, since: Instant::now(), gone_since });
        }
        Ok(None)
    }

    /// Sends restarted nodes their start, once they answer; fails if a node does not answer within `limit`.
    pub(crate) async fn rejoin(
        &mut self,
        clients: &[NodeClient],
        order: &StartOrder,
        limit: Duration,
    ) -> Result<Vec<u64>, String> {
        let mut rejoined = vec![];
        let rejoining: Vec<(&NodeClient, usize, Instant, StartOrder)> = clients
            .iter()
            .filter_map(|client| {
                let Rejoining { row, since, gone_since } = self.rejoining.get(&client.id)?;
                let gone_since_unix_nanos = Some(*gone_since);
                Some((client, *row, *since, StartOrder { rejoining: true, gone_since_unix_nanos, ..order.clone() }))
            })
            .collect();
        let answers = join_all(rejoining.iter().map(|(client, .., order)| client.start(order))).await;
        for ((client, row, since, _), answer) in rejoining.into_iter().zip(answers) {
            let waited = since.elapsed();
            match answer {
                Ok(()) => {
                    self.rejoining.remove(&client.id);
                    self.see(row, format!("answers again after {:.2} s", waited.as_secs_f64()));
                    rejoined.push(client.id);
                }
                Err(error) if waited > limit => {
                    return Err(format!("node {} has not returned after {} s: {error}", client.id, limit.as_secs()));
                }
                Err(_) => {}
            }
        }
        Ok(rejoined)
    }

    async fn pause(&mut self, context: &mut FaultContext<'_>, ids: &BTreeSet<u64>) -> Result<Option<String>, String> {
        for id in ids {
            context.deployment.pause(*id).await?;
            self.paused.insert(*id);
        }
        let seen = if context.is_virtual() { "its tasks are stopped" } else { "the kernel shows it stopped" };
        Ok(Some(seen.into()))
    }

    async fn resume(&mut self, context: &mut FaultContext<'_>, ids: &BTreeSet<u64>) -> Result<Option<String>, String> {
        for id in ids {
            context.deployment.resume(*id).await?;
            self.paused.remove(id);
        }
        let seen = if context.is_virtual() { "its tasks run again" } else { "the kernel shows it running" };
        Ok(Some(seen.into()))
    }

    /// Changes the interfaces of all nodes from their present plans to the given links and groups.
    async fn change(
        &mut self,
        context: &FaultContext<'_>,
        links: LinkPlan,
        groups: Option<NodeGroups>,
        ids: impl Iterator<Item = u64>,
    ) -> Result<(), String> {
        let changes = ids.map(|id| {
            let before = context.plan.interface(&self.links, self.groups.as_ref(), id);
            let after = context.plan.interface(&links, groups.as_ref(), id);
            async move { if before == after { Ok(()) } else { context.deployment.change(id, &before, &after).await } }
        });
        try_join_all(changes).await?;
        (self.links, self.groups) = (links, groups);
        Ok(())
    }

    async fn cut(
        &mut self,
        context: &FaultContext<'_>,
        groups: &NodeGroups,
        row: usize,
    ) -> Result<Option<String>, String> {
        // A new cut replaces the present one.
        self.close_cut(context).await?;
        let packets_before = cut_packets(context).await?;
        let all = 0..context.plan.num_nodes;
        self.change(context, self.links.clone(), Some(groups.clone()), all).await?;
        self.cut = Some(Open { row, packets_before });
        Ok(None)
    }

    async fn heal(&mut self, context: &FaultContext<'_>) -> Result<Option<String>, String> {
        let all = 0..context.plan.num_nodes;
        self.change(context, self.links.clone(), None, all).await?;
        self.close_cut(context).await?;
        Ok(Some("nothing is blocked".into()))
    }

    /// Reports the number of packets that the cut has stopped.
    async fn close_cut(&mut self, context: &FaultContext<'_>) -> Result<(), String> {
        let Some(Open { row, packets_before }) = self.cut.take() else { return Ok(()) };
        let packets = cut_packets(context).await?.saturating_sub(packets_before);
        if packets == 0 {
            return Err("the cut stopped no packet".into());
        }
        self.see(row, format!("{packets} packets were cut off"));
        Ok(())
    }

    async fn degrade(
        &mut self,
        context: &FaultContext<'_>,
        directions: &Directions,
        patch: &ShapePatch,
        row: usize,
    ) -> Result<Option<String>, String> {
        self.close_degraded(context, directions).await?;
        let mut links = self.links.clone();
        for (from, to) in directions {
            let degraded = context.plan.links.link(*from, *to).with(patch).map_err(|error| error.to_string())?;
            links.set_link(*from, *to, degraded);
        }
        for direction in directions {
            let packets_before = link_packets(context, *direction).await?;
            self.degraded.insert(*direction, Open { row, packets_before });
        }
        self.change(context, links, self.groups.clone(), senders(directions)).await?;
        Ok(None)
    }

    async fn restore(&mut self, context: &FaultContext<'_>, directions: &Directions) -> Result<Option<String>, String> {
        let mut links = self.links.clone();
        for (from, to) in directions {
            links.set_link(*from, *to, context.plan.links.link(*from, *to));
        }
        self.change(context, links, self.groups.clone(), senders(directions)).await?;
        self.close_degraded(context, directions).await?;
        Ok(Some("as before".into()))
    }

    /// Reports the number of packets that passed links while they were degraded.
    async fn close_degraded(&mut self, context: &FaultContext<'_>, directions: &Directions) -> Result<(), String> {
        let mut packets: BTreeMap<usize, u64> = BTreeMap::new();
        for direction in directions {
            let Some(Open { row, packets_before }) = self.degraded.remove(direction) else { continue };
            let met = link_packets(context, *direction).await?.saturating_sub(packets_before);
            if met == 0 {
                return Err(format!("no packet went from {} to {} meanwhile", direction.0, direction.1));
            }
            *packets.entry(row).or_default() += met;
        }
        for (row, packets) in packets {
            self.see(row, format!("{packets} packets went that way"));
        }
        Ok(())
    }

    /// Ends the effects of the schedule after the window: paused nodes are resumed, and the network is whole and has
    /// its original shape. Killed nodes stay away.
    ///
    /// # Errors
    /// Fails if a fault turns out not to have hit.
    pub(crate) async fn lift(&mut self, context: &mut FaultContext<'_>) -> Result<(), String> {
        let paused = self.paused.clone();
        self.resume(context, &paused).await?;
        let directions: Directions = self.degraded.keys().copied().collect();
        if !directions.is_empty() {
            self.restore(context, &directions).await?;
        }
        if self.cut.is_some() {
            self.heal(context).await?;
        }
        Ok(())
    }

    /// Faults, last reports of ended lives, and nodes that were killed at any time.
    pub(crate) fn result(self) -> (Vec<FaultRow>, Vec<NodeSummary>, BTreeSet<u64>) {
        (self.rows, self.lives, self.killed)
    }
}

fn seconds_since(from: u64) -> f64 {
    unix_nanos().saturating_sub(from) as f64 / 1e9
}

fn senders(directions: &Directions) -> impl Iterator<Item = u64> {
    directions.iter().map(|(from, _)| *from).collect::<BTreeSet<u64>>().into_iter()
}

/// Packets that cuts have stopped so far.
async fn cut_packets(context: &FaultContext<'_>) -> Result<u64, String> {
    let counters = try_join_all((0..context.plan.num_nodes).map(|id| context.deployment.counters(id))).await?;
    Ok(counters.iter().flatten().filter(|qdisc| qdisc.is_sink()).map(|qdisc| qdisc.drops).sum())
}

/// Packets that have passed a link so far, lost ones included.
async fn link_packets(context: &FaultContext<'_>, (from, to): (u64, u64)) -> Result<u64, String> {
    let interface = context.plan.interface(&context.plan.links, None, from);
    let address = usize::try_from(to).ok().and_then(|to| context.plan.addresses.get(to));
    let handles = address.and_then(|address| interface.handles_to(address[0])).unwrap_or_default();
    let counters = context.deployment.counters(from).await?;
    // The qdiscs are in a row, so the packets of the first one pass the next one too.
    let of_link = handles.iter().find_map(|handle| counters.iter().find(|qdisc| qdisc.handle == *handle));
    Ok(of_link.map_or(0, |qdisc| qdisc.packets.saturating_add(qdisc.drops)))
}
