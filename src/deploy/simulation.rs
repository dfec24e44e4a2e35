//! Nodes of a simulation, in virtual time.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc, time::Duration};

use async_trait::async_trait;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::{Capabilities, Deployment, StartError};
use crate::{
    network::Roster,
    node::{NodeConfig, SharedWorkload, VirtualNode, VirtualNodes},
    shaping::{InterfacePlan, QdiscCounters},
    simulation::{network, on_host},
};

/// Capabilities of a simulation.
pub(crate) const CAPABILITIES: Capabilities = Capabilities {
    delays: true,
    rates: true,
    link_faults: true,
    node_faults: true,
    process_ids: false,
    congestion_control: false,
    ipv6: false,
    profiles: false,
    host_program: false,
    images: false,
    visible_queues: true,
    distant: false,
    virtual_time: true,
};

/// Time within which all nodes start, at random: real nodes do not beat as one heart either.
const START_WITHIN: Duration = Duration::from_secs(1);

/// Nodes of the simulation of this thread.
pub(crate) struct Simulated {
    nodes: VirtualNodes,
    configs: Vec<NodeConfig>,
    addresses: Vec<[IpAddr; 2]>,
    workload: Arc<SharedWorkload>,
    roster: Arc<Roster>,
    /// Plans of the interfaces, where faults change links.
    plans: BTreeMap<u64, InterfacePlan>,
}

impl Simulated {
    /// Starts all nodes of the simulation of this thread. `interface` has the plan of each node's interface, and `keeps` is
    /// true if faults may change it.
    pub(crate) fn start(
        configs: Vec<NodeConfig>,
        addresses: Vec<[IpAddr; 2]>,
        workload: Arc<SharedWorkload>,
        interface: impl Fn(u64) -> InterfacePlan,
        keeps: bool,
    ) -> Result<Self, StartError> {
        let failed = |error: String| StartError::Failed(error);
        let roster = Arc::new(Roster::new(workload.num_nodes));
        let mut random = ChaCha8Rng::seed_from_u64(configs.first().map_or(0, |config| config.scenario.seed));
        random.set_stream(START_WITHIN.as_nanos() as u64);
        let mut simulated =
            Self { nodes: VirtualNodes::default(), configs, addresses, workload, roster, plans: BTreeMap::new() };
        for (number, [address, _]) in (0..).zip(&simulated.addresses) {
            if !network::add_host(number, *address) {
                return Err(failed("this thread does not simulate".into()));
            }
        }
        for number in 0..simulated.addresses.len() as u64 {
            let plan = interface(number);
            network::shape(host(number), &plan);
            if keeps {
                simulated.plans.insert(number, plan);
            }
        }
        for config in &simulated.configs {
            let after = START_WITHIN.mul_f64(random.random::<f64>());
            simulated.begin(config, after).map_err(failed)?;
        }
        Ok(simulated)
    }

    fn begin(&self, config: &NodeConfig, after: Duration) -> Result<(), String> {
        let (workload, roster) = (self.workload.clone(), self.roster.clone());
        let (number, own) = (host(config.id), config.clone());
        let started = on_host(number, move || VirtualNode::start(number, own, workload, roster, after));
        self.nodes.insert(config.id, started.ok_or("the simulation has ended")??);
        Ok(())
    }

    /// The nodes, for their counts.
    pub(crate) fn nodes(&self) -> VirtualNodes {
        self.nodes.clone()
    }
}

fn host(id: u64) -> u32 {
    u32::try_from(id).unwrap_or(u32::MAX)
}

#[async_trait(?Send)]
impl Deployment for Simulated {
    fn capabilities(&self) -> Capabilities {
        CAPABILITIES
    }

    fn died(&mut self) -> Option<String> {
        self.nodes.died()
    }

    fn log_tail(&self, _id: u64) -> String {
        String::new()
    }

    async fn stop(&mut self) -> Vec<String> {
        self.nodes.end();
        vec![]
    }

    async fn kill(&mut self, id: u64) -> Result<(), String> {
        self.nodes.kill(id)?;
        network::kill(host(id));
        Ok(())
    }

    async fn restart(&mut self, id: u64) -> Result<(), String> {
        let config = self.configs.iter().find(|config| config.id == id);
        self.begin(config.ok_or_else(|| format!("there is no node {id}"))?, Duration::ZERO)
    }

    async fn pause(&mut self, id: u64) -> Result<(), String> {
        self.nodes.pause(id)
    }

    async fn resume(&mut self, id: u64) -> Result<(), String> {
        self.nodes.resume(id)
    }

    async fn counters(&self, id: u64) -> Result<Vec<QdiscCounters>, String> {
        let places = self.plans.get(&id).filter(|plan| !plan.peers.is_empty());
        let others: Vec<u32> = if places.is_some() {
            (0..host(self.addresses.len() as u64)).filter(|to| *to != host(id)).collect()
        } else {
            vec![]
        };
        let (packets, cut_off) = network::packets(host(id), others);
        let mut counters = vec![QdiscCounters::of_sink(cut_off)];
        if let Some(plan) = places {
            let of_peer = |(to, packets): (u32, u64)| {
                let [address, _] = self.addresses.get(to as usize)?;
                let [handle, _] = plan.handles_to(*address)?;
                Some(QdiscCounters { handle, packets, ..QdiscCounters::default() })
            };
            counters.extend(packets.into_iter().filter_map(of_peer));
        }
        Ok(counters)
    }

    async fn change(&self, id: u64, _before: &InterfacePlan, after: &InterfacePlan) -> Result<(), String> {
        network::shape(host(id), after);
        Ok(())
    }
}
