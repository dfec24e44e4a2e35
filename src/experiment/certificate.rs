//! Link certificate of a run, assembled from its two measurements.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::{self, Display, Formatter},
    time::Duration,
};

use super::{client::NodeClient, link_probe, plan::Plan};
use crate::{
    clock::{Instant, sleep},
    deploy::Deployment,
    report::{Certificate, InterfaceRow, LinkMeasured, LinkRow},
    scenario::Shape,
    shaping::QdiscCounters,
};

/// Maximum time to wait for the queues to run empty, and the interval of reading them.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(30);
const SETTLE_POLL: Duration = Duration::from_millis(200);

/// Number of consecutive readings of empty queues that make a quiet network.
const QUIET_LOOKS: u32 = 3;

/// Time of a measurement of the links.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    Before,
    After,
}

impl Display for Stage {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Before => "measuring before the window",
            Self::After => "measuring after the window",
        })
    }
}

/// Measurements so far.
#[derive(Default)]
pub(crate) struct CertificateBuilder {
    before: Option<BTreeMap<(u64, u64), LinkMeasured>>,
    after: Option<BTreeMap<(u64, u64), LinkMeasured>>,
    counters: BTreeMap<u64, (Vec<QdiscCounters>, Vec<QdiscCounters>)>,
}

impl CertificateBuilder {
    /// Continues from the measurements before the window, which another program may have made.
    pub(crate) fn resume(before: impl IntoIterator<Item = ((u64, u64), LinkMeasured)>) -> Self {
        let before: BTreeMap<_, _> = before.into_iter().collect();
        Self { before: Some(before).filter(|before| !before.is_empty()), ..Self::default() }
    }

    /// Measurements before the window.
    pub(crate) fn before(&self) -> impl Iterator<Item = (&(u64, u64), &LinkMeasured)> {
        self.before.iter().flatten()
    }

    /// Waits until the queues of the links are empty.
    pub(crate) async fn settle(&self, deployment: &dyn Deployment, clients: &[NodeClient]) -> Result<(), String> {
        let since = Instant::now();
        let mut quiet = 0;
        while quiet < QUIET_LOOKS {
            let mut waiting = 0;
            for client in clients {
                waiting += deployment.counters(client.id).await?.iter().map(|qdisc| qdisc.backlog).sum::<u64>();
            }
            quiet = if waiting == 0 { quiet + 1 } else { 0 };
            if since.elapsed() > SETTLE_TIMEOUT {
                return Err(format!(
                    "{waiting} bytes are still in the queues {} s after the end",
                    SETTLE_TIMEOUT.as_secs()
                ));
            }
            sleep(SETTLE_POLL).await;
        }
        Ok(())
    }

    /// Measures all links between living nodes.
    pub(crate) async fn measure(
        &mut self,
        stage: Stage,
        plan: &Plan,
        deployment: &dyn Deployment,
        clients: &[NodeClient],
    ) -> Result<(), String> {
        let alive: Vec<u64> = clients.iter().map(|client| client.id).collect();
        // The counters are read outside of both measurements, so that their difference belongs to the traffic.
        match stage {
            Stage::Before => {
                self.before = Some(link_probe::measure(plan, clients, &plan.links, &alive).await?);
                for id in alive {
                    self.counters.entry(id).or_default().0 = deployment.counters(id).await?;
                }
            }
            Stage::After => {
                for id in &alive {
                    self.counters.entry(*id).or_default().1 = deployment.counters(*id).await?;
                }
                self.after = Some(link_probe::measure(plan, clients, &plan.links, &alive).await?);
            }
        }
        Ok(())
    }

    /// Bytes that the token bucket of this rate at a node's interface holds.
    fn burst_bytes(&self, node: u64, shape: Shape) -> Option<u64> {
        let rate = shape.bytes_per_second()?;
        let (before, after) = self.counters.get(&node)?;
        before.iter().chain(after).find_map(|qdisc| qdisc.burst_bytes(rate))
    }

    /// The configured shapes beside the measured ones; none without a measurement. `gone` are nodes that faults have
    /// removed for good.
    pub(crate) fn certificate(&self, plan: &Plan, gone: &BTreeSet<u64>) -> Option<Certificate> {
        let before = self.before.as_ref()?;
        let rows = before.iter().map(|((from, to), measured)| LinkRow {
            from: *from,
            to: *to,
            configured: plan.links.effective_shape(*from, *to),
            burst_bytes: self.burst_bytes(*from, plan.links.effective_shape(*from, *to)),
            before: Some(measured.clone()),
            after: self.after.as_ref().and_then(|after| after.get(&(*from, *to)).cloned()),
            problems: vec![],
        });
        // Interfaces of other machines can't be read.
        let seen = self.counters.iter().filter(|(_, (before, after))| !before.is_empty() || !after.is_empty());
        let interfaces = seen.map(|(node, (before, after))| InterfaceRow {
            node: *node,
            before: before.clone(),
            after: after.clone(),
        });
        let tolerance = plan.link_probe.tolerance;
        Some(Certificate::judge(rows.collect(), interfaces.collect(), tolerance, gone))
    }
}
