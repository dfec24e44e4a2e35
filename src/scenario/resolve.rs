//! Checks of values against each other, and values that follow from others.

use std::{collections::BTreeSet, fmt::Display, ops::RangeInclusive, time::Duration};

use super::{
    Scenario,
    error::ScenarioError,
    fault_schedule::{FaultSchedule, check_degradations},
    group::Group,
    links::LinkPlan,
    matrix::MatrixSource,
    measurement::Measurement,
    network::Protocol,
    nodes::Nodes,
    traffic::{DEFAULT_CLASS, MAX_CLASSES, MessageSize, Senders, TrafficClass},
};

/// Maximum number of nodes of a network: higher ids need more memory for their identities than a node should use.
pub const MAX_NODES: u64 = 10_000;

/// Minimum size of a message, in bytes: its header.
pub const MIN_MESSAGE_SIZE: usize = 36;

/// Minimum size of a message that can name its class, in bytes: the header, and the extension at the start of the
/// payload.
pub const MIN_CLASS_MESSAGE_SIZE: usize = 76;

/// Maximum size of a message, in bytes: batches with proofs reach 31 MB.
pub const MAX_MESSAGE_SIZE: usize = 32 << 20;

/// A year, in seconds: longer times are mistakes.
const YEAR: u64 = 366 * 24 * 3600;

/// A day, in seconds.
const DAY: u64 = 24 * 3600;

/// Maximum number of parts of one message.
const MAX_BURST: u32 = 10_000;

fn within<T: PartialOrd + Display + Copy>(value: T, range: RangeInclusive<T>, unit: &str) -> Result<(), ScenarioError> {
    if range.contains(&value) {
        return Ok(());
    }
    let unit = if unit.is_empty() { String::new() } else { format!(" {unit}") };
    Err(ScenarioError::of(value, format!("must be {} to {}{unit}", range.start(), range.end())))
}

impl Scenario {
    /// Fills in every value that follows from others: nodes of groups, protocols, topics, intervals and the length of
    /// the window.
    ///
    /// # Errors
    /// The first value that can't be.
    pub fn resolve(mut self) -> Result<Self, ScenarioError> {
        let count = self.nodes.count;
        let below = |key: &'static str| move |error: ScenarioError| error.below(key);
        within(count, 1..=MAX_NODES, "").map_err(below("count")).map_err(below("nodes"))?;
        within(self.nodes.buffer_size, 1..=10_000_000, "messages")
            .map_err(below("buffer_size"))
            .map_err(below("nodes"))?;
        within(self.nodes.verbosity, 0..=5, "").map_err(below("verbosity")).map_err(below("nodes"))?;
        if let Some(threads) = self.nodes.worker_threads {
            within(threads, 1..=1024, "").map_err(below("worker_threads")).map_err(below("nodes"))?;
        }
        self.check_network().map_err(below("network"))?;
        self.resolve_groups()?;
        self.topology.neighbours(count, self.seed).map_err(below("topology"))?;
        self.resolve_traffic()?;
        self.check_propeller()?;
        self.resolve_measurement().map_err(below("measurement"))?;
        self.check_objectives()?;
        if !self.sweep.is_empty() {
            let message = "a run has one value of each key: give the scenario to apollo-bench sweep";
            return Err(ScenarioError::new(message).below("sweep"));
        }
        if let Some(MatrixSource::File(name)) = &self.links.matrix {
            let error = ScenarioError::of(name, "the file was not read: put the matrix itself in its place");
            return Err(error.below("matrix").below("links"));
        }
        self.check_certificate().map_err(below("certificate")).map_err(below("links"))?;
        check_degradations(&self.link_plan()?, &self.fault_schedule()?)?;
        Ok(self)
    }

    /// Shapes of all links; the scenario must be resolved.
    ///
    /// # Errors
    /// The value at fault.
    pub fn link_plan(&self) -> Result<LinkPlan, ScenarioError> {
        let plan = self.links.plan(&self.groups, self.nodes.count);
        plan.map_err(|error| if error.at.first() == Some(&"group".into()) { error } else { error.below("links") })
    }

    /// Faults in the order of their times; the scenario must be resolved.
    ///
    /// # Errors
    /// The fault at fault.
    pub fn fault_schedule(&self) -> Result<FaultSchedule, ScenarioError> {
        let window = self.measurement.window_seconds.map(Duration::from_secs).filter(|_| self.explore.is_none());
        FaultSchedule::new(&self.faults, self.nodes.count, self.seed, window)
    }

    /// Peers of every node; the scenario must be resolved.
    ///
    /// # Errors
    /// The value at fault.
    pub fn neighbours(&self) -> Result<Vec<BTreeSet<u64>>, ScenarioError> {
        self.topology.neighbours(self.nodes.count, self.seed).map_err(|error| error.below("topology"))
    }

    /// Group of a node; the scenario must be resolved.
    pub fn group_of(&self, node: u64) -> Option<&Group> {
        self.groups.iter().find(|group| group.nodes.as_ref().is_some_and(|nodes| nodes.contains(node)))
    }

    fn check_network(&self) -> Result<(), ScenarioError> {
        let network = &self.network;
        within(network.queue_bytes, 1 << 16..=1 << 34, "bytes").map_err(|error| error.below("queue_bytes"))?;
        within(network.propeller.stale_seconds, 1..=3600, "s")
            .map_err(|error| error.below("stale_seconds").below("propeller"))?;
        let gossip = &network.gossipsub;
        let below = |error: ScenarioError, key: &str| error.below(key).below("gossipsub");
        within(gossip.heartbeat_millis, 1..=3_600_000, "ms").map_err(|error| below(error, "heartbeat_millis"))?;
        let (n, low, high, outbound) = (gossip.mesh_n, gossip.mesh_n_low, gossip.mesh_n_high, gossip.mesh_outbound_min);
        if !(low <= n && n <= high) {
            let message = format!("mesh_n_low {low}, mesh_n {n} and mesh_n_high {high} must not fall in this order");
            return Err(below(ScenarioError::of(n, message), "mesh_n"));
        }
        if outbound > low || outbound * 2 > n {
            let message = format!("must be at most mesh_n_low {low} and half of mesh_n {n}");
            return Err(below(ScenarioError::of(outbound, message), "mesh_outbound_min"));
        }
        Ok(())
    }

    /// Objectives name classes of the scenario, or other parts of a result.
    fn check_objectives(&self) -> Result<(), ScenarioError> {
        const PARTS: [&str; 11] = [
            "node",
            "phase",
            "trial",
            "drain",
            "verdict",
            "reach",
            "events",
            "dropped",
            "malformed",
            "gossipsub",
            "propeller",
        ];
        for (number, objective) in self.expect.iter().enumerate() {
            let Some((part, _)) = objective.figure.split_once('.') else { continue };
            let classes = || self.traffic.iter().map(|class| class.name.as_str());
            if !PARTS.contains(&part) && !classes().any(|name| name == part) {
                let names: Vec<&str> = classes().collect();
                let message = format!("'{part}' is no traffic class: the classes are {}", names.join(", "));
                return Err(ScenarioError::of(objective, message).below(number).below("expect"));
            }
        }
        Ok(())
    }

    fn check_certificate(&self) -> Result<(), ScenarioError> {
        let certificate = &self.links.certificate;
        within(certificate.probe_seconds, 1..=300, "s").map_err(|error| error.below("probe_seconds"))?;
        for (key, value) in [
            ("latency_tolerance_percent", certificate.latency_tolerance_percent),
            ("latency_tolerance_millis", certificate.latency_tolerance_millis),
            ("throughput_tolerance_percent", certificate.throughput_tolerance_percent),
        ] {
            within(value, 0.0..=100_000.0, "").map_err(|error| error.below(key))?;
        }
        Ok(())
    }

    /// Assigns nodes to each group.
    fn resolve_groups(&mut self) -> Result<(), ScenarioError> {
        let count = self.nodes.count;
        let mut taken: BTreeSet<u64> = BTreeSet::new();
        let mut names: BTreeSet<String> = BTreeSet::new();
        for (number, group) in self.groups.iter_mut().enumerate() {
            let below = |error: ScenarioError, key: &str| error.below(key).below(number).below("group");
            check_name(&group.name).map_err(|error| below(error, "name"))?;
            if !names.insert(group.name.clone()) {
                return Err(below(ScenarioError::of(&group.name, "another group has this name"), "name"));
            }
            if !(group.weight.is_finite() && group.weight >= 0.0) {
                return Err(below(ScenarioError::of(group.weight, "must be a number, 0 or more"), "weight"));
            }
            within(group.validation_delay_millis, 0..=60_000, "ms")
                .map_err(|error| below(error, "validation_delay_millis"))?;
            let free = (0..count).filter(|node| !taken.contains(node));
            let nodes: BTreeSet<u64> = match (&group.nodes, group.count, group.share) {
                (Some(nodes), None, None) => {
                    nodes.within(count).map_err(|error| below(ScenarioError::new(error), "nodes"))?
                }
                (None, Some(number), None) => free.take(usize::try_from(number).unwrap_or(usize::MAX)).collect(),
                (None, None, Some(share)) => {
                    within(share, 0.0..=1.0, "").map_err(|error| below(error, "share"))?;
                    free.take((share * count as f64).round() as usize).collect()
                }
                _ => {
                    let error = ScenarioError::of(&group.name, "give exactly one of nodes, count and share");
                    return Err(below(error, "name"));
                }
            };
            if let Some(wanted) = group.count
                && (nodes.len() as u64) < wanted
            {
                let message = format!("only {} nodes of {count} are in no other group", nodes.len());
                return Err(below(ScenarioError::of(wanted, message), "count"));
            }
            if let Some(node) = nodes.iter().find(|node| !taken.insert(**node)) {
                let error = ScenarioError::new(format!("node {node} is in another group too"));
                return Err(below(error, "nodes"));
            }
            group.nodes = Some(nodes.into_iter().collect());
            (group.count, group.share) = (None, None);
        }
        if !self.groups.is_empty() && taken.len() as u64 == count && self.groups.iter().all(|group| group.weight == 0.0)
        {
            return Err(ScenarioError::new("the weights of all nodes are 0").below("group"));
        }
        Ok(())
    }

    fn resolve_measurement(&mut self) -> Result<(), ScenarioError> {
        let explores = self.explore.is_some();
        let measurement = &mut self.measurement;
        if !explores {
            measurement.window_seconds.get_or_insert(Measurement::DEFAULT_WINDOW);
        }
        if let Some(window) = measurement.window_seconds {
            within(window, 1..=YEAR, "s").map_err(|error| error.below("window_seconds"))?;
        }
        for (key, value, least) in [
            ("warm_up_seconds", measurement.warm_up_seconds, 0),
            ("drain_seconds", measurement.drain_seconds, 0),
            ("drain_quiet_seconds", measurement.drain_quiet_seconds, 0),
            ("ready_timeout_seconds", measurement.ready_timeout_seconds, 1),
            ("hang_timeout_seconds", measurement.hang_timeout_seconds, 1),
        ] {
            within(value, least..=DAY, "s").map_err(|error| error.below(key))?;
        }
        Ok(())
    }

    fn resolve_traffic(&mut self) -> Result<(), ScenarioError> {
        let count = self.nodes.count;
        if let Some(explore) = &self.explore {
            if !self.traffic.is_empty() {
                let error = ScenarioError::new("explore sends messages of its own: give either it or traffic");
                return Err(error.below("explore"));
            }
            return explore.check(count).map_err(|error| error.below("explore"));
        }
        if self.traffic.is_empty() {
            self.traffic.push(TrafficClass::default());
        }
        if self.traffic.len() > MAX_CLASSES {
            let message = format!("{} classes: at most {MAX_CLASSES} are supported", self.traffic.len());
            return Err(ScenarioError::new(message).below("traffic"));
        }
        let named: Vec<(String, u32)> = self.traffic.iter().map(|class| (class.name.clone(), class.burst)).collect();
        let least = if self.traffic.len() > 1 { MIN_CLASS_MESSAGE_SIZE } else { MIN_MESSAGE_SIZE };
        let (groups, protocol) = (&self.groups, self.network.protocol);
        for (number, class) in self.traffic.iter_mut().enumerate() {
            let below = |error: ScenarioError| error.below(number).below("traffic");
            class.resolve(count, groups, protocol, least).map_err(below)?;
            if named[..number].iter().any(|(name, _)| *name == class.name) {
                return Err(below(ScenarioError::of(&class.name, "another class has this name").below("name")));
            }
        }
        for (number, class) in self.traffic.iter().enumerate() {
            let below = |error: ScenarioError, key: &str| error.below(key).below(number).below("traffic");
            let same_topic = |other: &&TrafficClass| class.topic.is_some() && other.topic == class.topic;
            if let Some(other) = self.traffic[..number].iter().find(same_topic) {
                let topic = class.topic.as_deref().unwrap_or_default();
                let message = format!("class {} has this topic already", other.name);
                return Err(below(ScenarioError::of(topic, message), "topic"));
            }
            // A chain with more steps than classes is a circle.
            let mut next = class.after.as_ref();
            for _ in 0..=self.traffic.len() {
                let Some(name) = next else { break };
                let Some(before) = self.traffic.iter().find(|class| class.name == *name) else {
                    let names: Vec<&str> = named.iter().map(|(name, _)| name.as_str()).collect();
                    let message = format!("no class has this name: there are {}", names.join(", "));
                    return Err(below(ScenarioError::of(name, message), "after"));
                };
                next = before.after.as_ref();
            }
            if next.is_some() {
                let after = class.after.as_deref().unwrap_or_default();
                return Err(below(ScenarioError::of(after, "these classes wait for each other in a circle"), "after"));
            }
        }
        Ok(())
    }
}

impl super::traffic::Explore {
    fn check(&self, num_nodes: u64) -> Result<(), ScenarioError> {
        if self.broadcaster >= num_nodes {
            return Err(outside(self.broadcaster, num_nodes).below("broadcaster"));
        }
        within(self.cool_down_seconds, 1..=YEAR, "s").map_err(|error| error.below("cool_down_seconds"))?;
        within(self.run_seconds, 1..=YEAR, "s").map_err(|error| error.below("run_seconds"))?;
        let least = self.min_throughput_bytes_per_second;
        if !(least.is_finite() && least >= 0.0) {
            let error = ScenarioError::of(least, "must be a number, 0 or more");
            return Err(error.below("min_throughput_bytes_per_second"));
        }
        Ok(())
    }
}

impl TrafficClass {
    fn resolve(
        &mut self,
        num_nodes: u64,
        groups: &[Group],
        protocol: Protocol,
        least: usize,
    ) -> Result<(), ScenarioError> {
        check_name(&self.name).map_err(|error| error.below("name"))?;
        self.resolve_senders(num_nodes, groups).map_err(|error| error.below("senders"))?;
        self.resolve_pace()?;
        check_size(&self.message_size_bytes, least).map_err(|error| error.below("message_size_bytes"))?;
        if let Some(deadline) = self.deadline_millis {
            within(deadline, 1..=DAY * 1000, "ms").map_err(|error| error.below("deadline_millis"))?;
        }
        let protocol = *self.protocol.get_or_insert(protocol);
        let gossips = protocol == Protocol::Gossipsub;
        if self.unicast && (gossips || protocol == Protocol::Propeller) {
            let message = format!("{protocol} sends to all peers: give protocol = \"sqmr\" or \"reversed-sqmr\"");
            let error = ScenarioError::new(message);
            return Err(error.below("unicast"));
        }
        match &self.topic {
            Some(topic) if !gossips => {
                let error = ScenarioError::of(topic, format!("{protocol} has no topics"));
                return Err(error.below("topic"));
            }
            Some(topic) if topic.is_empty() || topic.len() > 200 => {
                return Err(ScenarioError::of(topic, "give 1 to 200 characters").below("topic"));
            }
            Some(_) => {}
            None if gossips && self.name == DEFAULT_CLASS => self.topic = Some("stress_test_topic".into()),
            None if gossips => self.topic = Some(format!("stress_test_topic/{}", self.name)),
            None => {}
        }
        Ok(())
    }

    fn resolve_senders(&mut self, num_nodes: u64, groups: &[Group]) -> Result<(), ScenarioError> {
        if let Senders::Group(name) = &self.senders {
            let Some(group) = groups.iter().find(|group| group.name == *name) else {
                return Err(ScenarioError::of(name, "is neither all nor turns, nor the name of a group"));
            };
            self.senders = Senders::Nodes(group.nodes.clone().unwrap_or_default());
        }
        match &self.senders {
            Senders::Nodes(nodes) if nodes.is_empty() => Err(ScenarioError::new("no node sends")),
            Senders::Nodes(nodes) => {
                let one = nodes.single();
                let nodes = nodes.within(num_nodes).map_err(|message| match one {
                    Some(node) => outside(node, num_nodes),
                    None => ScenarioError::new(message),
                })?;
                self.senders = Senders::Nodes(nodes.into_iter().collect::<Nodes>());
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn resolve_pace(&mut self) -> Result<(), ScenarioError> {
        within(self.burst, 1..=MAX_BURST, "parts").map_err(|error| error.below("burst"))?;
        let turns = self.senders == Senders::Turns;
        let paced = self.heartbeat_millis.or(self.heartbeat_micros).is_some();
        if let (Some(after), true) = (&self.after, paced || turns) {
            let message = "its messages follow those of another class: leave out heartbeat_millis and turns";
            return Err(ScenarioError::of(after, message).below("after"));
        }
        if self.after.is_none() {
            if let (Some(micros), Some(_)) = (self.heartbeat_micros, self.heartbeat_millis) {
                let message = "heartbeat_millis is given too: leave out one of them";
                return Err(ScenarioError::of(micros, message).below("heartbeat_micros"));
            }
            if let Some(micros) = self.heartbeat_micros {
                within(micros, 100..=YEAR * 1_000_000, "us").map_err(|error| error.below("heartbeat_micros"))?;
            } else {
                let heartbeat = *self.heartbeat_millis.get_or_insert(Self::DEFAULT_HEARTBEAT);
                within(heartbeat, 1..=YEAR * 1000, "ms").map_err(|error| error.below("heartbeat_millis"))?;
            }
            let heartbeat = self.heartbeat();
            let spread = self.burst_spacing_millis.saturating_mul(u64::from(self.burst - 1));
            if Duration::from_millis(spread) >= heartbeat {
                let every = heartbeat.as_secs_f64() * 1e3;
                let message = format!("{} parts take {spread} ms, and heartbeat_millis is {every}", self.burst);
                return Err(ScenarioError::of(self.burst_spacing_millis, message).below("burst_spacing_millis"));
            }
        } else {
            within(self.burst_spacing_millis, 0..=60_000, "ms").map_err(|error| error.below("burst_spacing_millis"))?;
        }
        if !turns {
            return match self.turn_seconds {
                Some(turn) => Err(ScenarioError::of(turn, "belongs to senders = \"turns\"").below("turn_seconds")),
                None => Ok(()),
            };
        }
        let turn = *self.turn_seconds.get_or_insert(Self::DEFAULT_TURN);
        within(turn, 1..=YEAR, "s").map_err(|error| error.below("turn_seconds"))?;
        let heartbeat = self.heartbeat();
        if Duration::from_secs(turn) < heartbeat {
            let every = heartbeat.as_secs_f64() * 1e3;
            let message = format!("is shorter than heartbeat_millis {every}: some turns would be silent");
            return Err(ScenarioError::of(turn, message).below("turn_seconds"));
        }
        Ok(())
    }
}

fn outside(node: u64, num_nodes: u64) -> ScenarioError {
    let last = num_nodes.saturating_sub(1);
    ScenarioError::of(node, format!("is outside of the network: its {num_nodes} nodes are 0 to {last}"))
}

fn check_size(size: &MessageSize, least: usize) -> Result<(), ScenarioError> {
    let check = |bytes: usize| {
        if (least..=MAX_MESSAGE_SIZE).contains(&bytes) {
            return Ok(());
        }
        let header = if least == MIN_MESSAGE_SIZE { "the header" } else { "the header and the class" };
        Err(ScenarioError::of(bytes, format!("must be {least} ({header}) to {MAX_MESSAGE_SIZE} (32 MiB)")))
    };
    match size {
        MessageSize::Fixed(bytes) => check(*bytes),
        MessageSize::File(name) => {
            Err(ScenarioError::of(name, "the file was not read: put the sizes themselves in its place"))
        }
        MessageSize::Weighted(sizes) if sizes.is_empty() => Err(ScenarioError::new("no size is given")),
        MessageSize::Weighted(sizes) => {
            for (number, size) in sizes.iter().enumerate() {
                check(size.bytes).map_err(|error| error.below("bytes").below(number))?;
                if !(size.weight.is_finite() && size.weight > 0.0) {
                    let error = ScenarioError::of(size.weight, "must be a number above 0");
                    return Err(error.below("weight").below(number));
                }
            }
            Ok(())
        }
    }
}

/// Names occur in topics, labels and file names.
fn check_name(name: &str) -> Result<(), ScenarioError> {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_".contains(&byte);
    if name.is_empty()
        || name.len() > 40
        || !name.bytes().all(plain)
        || !name.starts_with(|first: char| first.is_ascii_lowercase())
    {
        return Err(ScenarioError::of(
            format!("'{name}'"),
            "give 1 to 40 lower-case letters, digits, - and _, a letter first",
        ));
    }
    Ok(())
}
