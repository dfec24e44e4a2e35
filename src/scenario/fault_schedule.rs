//! Faults of a run, checked against its network, in the order of their times.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    time::Duration,
};

use rand::{SeedableRng, seq::SliceRandom};
use rand_chacha::ChaCha8Rng;
use serde::Serialize;

use super::{
    error::ScenarioError,
    fault::{Fault, FaultAction, FaultLink, Pick, Repeat},
    links::{LinkPlan, links_between},
    nodes::Nodes,
    shape::{Shape, ShapePatch},
};

/// Maximum number of link directions that all faults of a run may name: all links of a thousand nodes. Each costs
/// memory, and a fault of a few letters can name all of them.
const MAX_LINKS: u64 = 1_000_000;

/// Maximum number of different times of faults: every node keeps counts for the phase after each.
pub const MAX_FAULT_TIMES: usize = 64;

/// Groups of nodes that can't reach one another.
pub type NodeGroups = Vec<BTreeSet<u64>>;

/// Directions of links: (sender, receiver).
pub type Directions = BTreeSet<(u64, u64)>;

/// Action of a planned fault.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Kills nodes.
    Kill(BTreeSet<u64>),
    /// Restarts killed nodes.
    Restart(BTreeSet<u64>),
    /// Pauses nodes.
    Pause(BTreeSet<u64>),
    /// Resumes paused nodes.
    Resume(BTreeSet<u64>),
    /// Separates groups of nodes.
    Partition(NodeGroups),
    /// Ends the partition.
    Heal,
    /// Changes the shape of links.
    Degrade(Directions, ShapePatch),
    /// Restores the former shape of links.
    Restore(Directions),
}

/// A fault of a run, and its time.
#[derive(Clone, Debug, PartialEq)]
pub struct PlannedFault {
    /// Time after the opening of the measured window.
    pub at: Duration,
    /// Action.
    pub action: Action,
    /// Text of the fault for people.
    pub text: String,
}

impl fmt::Display for PlannedFault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.text)
    }
}

impl Serialize for PlannedFault {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

/// All faults of a run, in the order of their times.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(transparent)]
pub struct FaultSchedule {
    faults: Vec<PlannedFault>,
}

/// A fault at one time, before the seed chooses nodes that are not named.
struct Event {
    at: Duration,
    fault: usize,
    action: FaultAction,
    /// True if the text of the fault names the nodes.
    named: bool,
}

/// Network in which faults happen.
struct Ground {
    num_nodes: u64,
    seed: u64,
    links_left: u64,
}

impl Ground {
    /// Nodes of a fault. The seed chooses unnamed nodes among `from`.
    fn pick(&self, pick: &Pick, fault: usize, at: Duration, from: &BTreeSet<u64>) -> Result<BTreeSet<u64>, String> {
        let count = match pick {
            Pick::Nodes(nodes) => return nodes.within(self.num_nodes),
            Pick::Count(count) => *count,
            Pick::Percent(percent) => ((self.num_nodes as f64 * percent / 100.0).round() as u64).max(1),
        };
        if count > from.len() as u64 {
            return Err(format!("it picks {count} nodes, and only {} run then", from.len()));
        }
        let mut random = ChaCha8Rng::seed_from_u64(self.seed);
        // Every fault and every time has its own random numbers.
        random.set_stream((fault as u64) << 40 ^ u64::try_from(at.as_millis()).unwrap_or(u64::MAX));
        let mut nodes: Vec<u64> = from.iter().copied().collect();
        nodes.shuffle(&mut random);
        nodes.truncate(usize::try_from(count).unwrap_or(usize::MAX));
        Ok(nodes.into_iter().collect())
    }

    fn directions(&mut self, link: &FaultLink) -> Result<Directions, String> {
        let (from, to) = (link.from.within(self.num_nodes)?, link.to.within(self.num_nodes)?);
        let most = (from.len() as u64).saturating_mul(to.len() as u64);
        self.links_left = self.links_left.checked_sub(most).ok_or_else(|| {
            format!("the faults of a run name more than {MAX_LINKS} links: name fewer, or shape all alike by --latency and its kind")
        })?;
        let directions = links_between(&from, &to, link.both);
        if directions.is_empty() { Err("it names no link between two nodes".into()) } else { Ok(directions) }
    }
}

/// The single events of a fault, up to the end of the window.
fn events(number: usize, fault: &Fault, window: Duration) -> Vec<Event> {
    let event = |at, action| Event { at, fault: number, action, named: true };
    match (fault.time, &fault.action) {
        (Repeat::Every(period), FaultAction::Restart(nodes, down)) => {
            let down = down.unwrap_or_default();
            let times = (1..).map(|number| period * number).take_while(|at| *at + down < window);
            // One time more than the permitted number is enough for the error.
            times
                .take(MAX_FAULT_TIMES + 1)
                .flat_map(|at| {
                    [
                        Event { named: false, ..event(at, FaultAction::Kill(nodes.clone())) },
                        Event { named: false, ..event(at + down, FaultAction::Restart(nodes.clone(), None)) },
                    ]
                })
                .collect()
        }
        (Repeat::At(from), FaultAction::Flaky { nodes, up, down }) => {
            let times = (0..).map(|number| from + (*up + *down) * number).take_while(|at| *at + *down < window);
            times
                .take(MAX_FAULT_TIMES + 1)
                .flat_map(|at| {
                    [
                        Event { named: false, ..event(at, FaultAction::Pause(nodes.clone())) },
                        Event { named: false, ..event(at + *down, FaultAction::Resume(nodes.clone())) },
                    ]
                })
                .collect()
        }
        (Repeat::At(at) | Repeat::Every(at), action) => vec![event(at, action.clone())],
    }
}

impl FaultSchedule {
    /// Checks the faults of a run against its network. `window` is none in mode explore.
    ///
    /// # Errors
    /// The fault at fault.
    pub fn new(faults: &[Fault], num_nodes: u64, seed: u64, window: Option<Duration>) -> Result<Self, ScenarioError> {
        let failed = |number: usize, error: String| {
            let text = faults.get(number).map_or("", |fault| &fault.text);
            ScenarioError::new(format!("fault '{text}': {error}")).below(number).below("faults")
        };
        let Some(window) = window else {
            return match faults.is_empty() {
                true => Ok(Self::default()),
                false => Err(failed(0, "mode explore has no window for it".into())),
            };
        };
        let mut all: Vec<Event> = vec![];
        for (number, fault) in faults.iter().enumerate() {
            let events = events(number, fault, window);
            if events.is_empty() || events.iter().any(|event| event.at >= window) {
                let error = format!("the measured window is over after {} s (--timeout)", window.as_secs());
                return Err(failed(number, error));
            }
            all.extend(events);
        }
        // The sort is stable: faults of one time stay in the given order.
        all.sort_by_key(|event| event.at);
        let mut ground = Ground { num_nodes, seed, links_left: MAX_LINKS };
        let mut state = State { picked: BTreeMap::new(), ..State::default() };
        let mut planned = vec![];
        for event in &all {
            let action = state.follow(event, &mut ground).map_err(|error| failed(event.fault, error))?;
            let text = match faults.get(event.fault) {
                Some(fault) if event.named && !is_random(&fault.action) => fault.text.clone(),
                _ => describe(event.at, &action),
            };
            planned.push(PlannedFault { at: event.at, action, text });
        }
        let schedule = Self { faults: planned };
        let times = schedule.boundaries_millis().len();
        if times > MAX_FAULT_TIMES {
            return Err(ScenarioError::new(format!(
                "faults happen at {times} different times or more: at most {MAX_FAULT_TIMES} are supported"
            ))
            .below("faults"));
        }
        Ok(schedule)
    }

    /// True if no fault is planned.
    pub fn is_empty(&self) -> bool {
        self.faults.is_empty()
    }

    /// The faults, by time.
    pub fn faults(&self) -> &[PlannedFault] {
        &self.faults
    }

    /// True if a fault cuts the network.
    pub fn cuts(&self) -> bool {
        self.faults.iter().any(|fault| matches!(fault.action, Action::Partition(_)))
    }

    /// Shapes that faults give to degraded links.
    pub fn degradations(&self) -> impl Iterator<Item = &ShapePatch> + '_ {
        self.faults.iter().filter_map(|fault| match &fault.action {
            Action::Degrade(_, patch) => Some(patch),
            _ => None,
        })
    }

    /// Times of the faults, in milliseconds after the opening of the window.
    pub fn boundaries_millis(&self) -> Vec<u64> {
        let times: BTreeSet<u64> =
            self.faults.iter().map(|fault| u64::try_from(fault.at.as_millis()).unwrap_or(u64::MAX)).collect();
        times.into_iter().collect()
    }
}

/// Checks that every degraded link has a valid shape, and that no packets are duplicated if links differ.
///
/// # Errors
/// The fault or the links at fault.
pub fn check_degradations(links: &LinkPlan, schedule: &FaultSchedule) -> Result<(), ScenarioError> {
    for fault in schedule.faults() {
        let Action::Degrade(directions, patch) = &fault.action else { continue };
        for (from, to) in directions {
            let failed = |error| ScenarioError::new(format!("fault '{fault}': {error}")).below("faults");
            links.link(*from, *to).with(patch).map_err(failed)?;
        }
    }
    let duplicates = |shape: &Shape| shape.duplicate_percent > 0.0;
    let differ = links.differs_by_link() || schedule.degradations().next().is_some();
    let degraded = schedule.degradations().any(|patch| patch.duplicate_percent.is_some_and(|percent| percent > 0.0));
    if differ && (degraded || links.shapes().any(duplicates)) {
        return Err(ScenarioError::new(
            "duplicate has to be the same for every link, and no link may be degraded: kernels duplicate packets only where \
             one netem is all there is at an interface",
        )
        .below("links"));
    }
    Ok(())
}

fn is_random(action: &FaultAction) -> bool {
    match action {
        FaultAction::Kill(pick)
        | FaultAction::Restart(pick, _)
        | FaultAction::Pause(pick)
        | FaultAction::Resume(pick) => !matches!(pick, Pick::Nodes(_)),
        _ => false,
    }
}

fn describe(at: Duration, action: &Action) -> String {
    let (name, nodes) = match action {
        Action::Kill(nodes) => ("kill", nodes),
        Action::Restart(nodes) => ("restart", nodes),
        Action::Pause(nodes) => ("pause", nodes),
        Action::Resume(nodes) => ("resume", nodes),
        _ => return String::new(),
    };
    format!("{}s {name} {}", at.as_secs_f64(), nodes.iter().copied().collect::<Nodes>())
}

/// Effect of the faults so far.
#[derive(Default)]
struct State {
    dead: BTreeSet<u64>,
    paused: BTreeSet<u64>,
    cut: bool,
    degraded: Directions,
    /// Nodes that the seed chose for a fault that returns them.
    picked: BTreeMap<usize, BTreeSet<u64>>,
}

impl State {
    fn running(&self, num_nodes: u64) -> BTreeSet<u64> {
        (0..num_nodes).filter(|node| !self.dead.contains(node) && !self.paused.contains(node)).collect()
    }

    /// Nodes of an event: a fault that returns nodes means those that it took.
    fn nodes(&mut self, pick: &Pick, event: &Event, ground: &Ground, takes: bool) -> Result<BTreeSet<u64>, String> {
        if !takes && let Some(nodes) = self.picked.remove(&event.fault) {
            return Ok(nodes);
        }
        let from = if takes {
            self.running(ground.num_nodes)
        } else {
            match event.action {
                FaultAction::Restart(..) => self.dead.clone(),
                _ => self.paused.clone(),
            }
        };
        let nodes = ground.pick(pick, event.fault, event.at, &from)?;
        if takes && !event.named {
            self.picked.insert(event.fault, nodes.clone());
        }
        Ok(nodes)
    }

    /// Action of an event; checks that it affects something.
    fn follow(&mut self, event: &Event, ground: &mut Ground) -> Result<Action, String> {
        Ok(match &event.action {
            FaultAction::Kill(pick) => {
                let nodes = self.nodes(pick, event, ground, true)?;
                self.check_running(&nodes)?;
                self.dead.extend(&nodes);
                Action::Kill(nodes)
            }
            FaultAction::Pause(pick) => {
                let nodes = self.nodes(pick, event, ground, true)?;
                self.check_running(&nodes)?;
                self.paused.extend(&nodes);
                Action::Pause(nodes)
            }
            FaultAction::Restart(pick, _) => {
                let nodes = self.nodes(pick, event, ground, false)?;
                give_back(&mut self.dead, &nodes, "was not killed before")?;
                Action::Restart(nodes)
            }
            FaultAction::Resume(pick) => {
                let nodes = self.nodes(pick, event, ground, false)?;
                give_back(&mut self.paused, &nodes, "was not paused before")?;
                Action::Resume(nodes)
            }
            FaultAction::Partition(named) => {
                self.cut = true;
                Action::Partition(groups(named, ground.num_nodes)?)
            }
            FaultAction::Heal if !self.cut => return Err("the network is not cut before".into()),
            FaultAction::Heal => {
                self.cut = false;
                Action::Heal
            }
            FaultAction::Degrade(link, patch) => {
                let directions = ground.directions(link)?;
                self.degraded.extend(directions.iter());
                Action::Degrade(directions, *patch)
            }
            FaultAction::Restore(link) => {
                let directions = ground.directions(link)?;
                give_back(&mut self.degraded, &directions, "was not degraded before")?;
                Action::Restore(directions)
            }
            FaultAction::Flaky { .. } => return Err("it has no time".into()),
        })
    }

    fn check_running(&self, nodes: &BTreeSet<u64>) -> Result<(), String> {
        match nodes.iter().find(|node| self.dead.contains(node) || self.paused.contains(node)) {
            Some(node) => Err(format!("node {node} is killed or paused already")),
            None => Ok(()),
        }
    }
}

/// Groups of a partition; nodes that are not named form one more group.
fn groups(named: &[Nodes], num_nodes: u64) -> Result<NodeGroups, String> {
    let mut seen = BTreeSet::new();
    let mut groups = NodeGroups::new();
    for group in named {
        let group = group.within(num_nodes)?;
        if let Some(node) = group.iter().find(|node| !seen.insert(**node)) {
            return Err(format!("node {node} is in two groups"));
        }
        groups.push(group);
    }
    let rest: BTreeSet<u64> = (0..num_nodes).filter(|node| !seen.contains(node)).collect();
    if !rest.is_empty() {
        groups.push(rest);
    }
    if groups.len() < 2 { Err("all nodes are in one group".into()) } else { Ok(groups) }
}

fn give_back<T: Ord + Copy + fmt::Debug>(
    taken: &mut BTreeSet<T>,
    given: &BTreeSet<T>,
    but: &str,
) -> Result<(), String> {
    match given.iter().find(|one| !taken.remove(one)) {
        Some(one) => Err(format!("{one:?} {but}")),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schedule_of(texts: &[&str], seed: u64) -> Result<FaultSchedule, String> {
        let faults = texts.iter().map(|text| text.parse()).collect::<Result<Vec<Fault>, _>>()?;
        FaultSchedule::new(&faults, 5, seed, Some(Duration::from_secs(20))).map_err(|error| error.to_string())
    }

    fn schedule(texts: &[&str]) -> Result<FaultSchedule, String> {
        schedule_of(texts, 0)
    }

    fn texts(schedule: &FaultSchedule) -> Vec<String> {
        schedule.faults().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn faults_are_read_and_put_in_order() {
        let schedule =
            schedule(&["10s heal", "5s partition 0-1 | 2,3", "1500ms  degrade 0:1-2 latency=200,loss=5"]).unwrap();
        assert_eq!(texts(&schedule), ["1500ms degrade 0:1-2 latency=200,loss=5", "5s partition 0-1 | 2,3", "10s heal"]);
        assert_eq!(schedule.boundaries_millis(), [1500, 5000, 10_000]);
        assert!(schedule.cuts());
        let Action::Degrade(directions, _) = &schedule.faults()[0].action else { unreachable!() };
        assert_eq!(*directions, [(0, 1), (1, 0), (0, 2), (2, 0)].into());
    }

    #[test]
    fn all_faults_together_name_a_bounded_number_of_links() {
        let all = "5s degrade 0-999:0-999 latency=5".parse::<Fault>().unwrap();
        let schedule = |faults: &[Fault]| FaultSchedule::new(faults, 1000, 0, Some(Duration::from_secs(20)));
        assert!(schedule(std::slice::from_ref(&all)).is_ok());
        let error = schedule(&[all.clone(), all]).unwrap_err().to_string();
        assert!(error.contains("more than 1000000 links") && error.lines().count() == 1, "{error}");
    }

    #[test]
    fn a_fault_that_can_not_hit_is_refused_in_one_line() {
        for (texts, says) in [
            (&["kill 2"][..], "'kill' is no time"),
            (&["5 kill 2"], "'5' is no time"),
            (&["0s kill 2"], "'0s' is no time"),
            (&["0.4ms kill 2"], "'0.4ms' is no time"),
            (&["5s"], "write a fault like"),
            (&["5s explode 2"], "'explode' is none of"),
            (&["5s kill"], "it names no node"),
            (&["5s kill 9"], "node 9 is outside"),
            (&["25s kill 1"], "window is over after 20 s"),
            (&["5s restart 1"], "1 was not killed before"),
            (&["every 5s kill 1"], "only restart can be repeated"),
            (&["every 5s restart random 0%"], "picks no node"),
            (&["every 30s restart 1"], "window is over after 20 s"),
            (&["every 5s restart 1 down=5s"], "must be shorter"),
            (&["every 100ms restart 1 down=50ms"], "different times or more"),
            (&["5s kill random 9"], "only 5 run then"),
            (&["5s flaky 1 up=1s"], "needs up= and down="),
            (&["5s flaky 1 up=1s sideways=1s"], "'sideways=1s' is none of up=2s, down=2s"),
            (&["5s kill 1", "6s pause 1"], "node 1 is killed or paused already"),
            (&["5s resume 1"], "1 was not paused before"),
            (&["5s partition 0-4"], "all nodes are in one group"),
            (&["5s partition 0-1|1-2"], "node 1 is in two groups"),
            (&["5s heal"], "not cut before"),
            (&["5s degrade 1 latency=5"], "'1' is no link"),
            (&["5s degrade 1:1 latency=5"], "no link between two nodes"),
            (&["5s degrade 0:1 speed=5"], "'speed=5' is none of"),
            (&["5s degrade 0-9999:0-9999 latency=5"], "node 9999 is outside of the network: its nodes are 0 to 4"),
            (&["5s restore 0>0-4000000000"], "node 4000000000 is outside"),
            (&["5s kill 0-4000000000"], "node 4000000000 is outside"),
            (&["5s pause 0-18446744073709551615"], "node 18446744073709551615 is outside"),
            (&["5s partition 0-9999 | 0-9999"], "node 9999 is outside"),
            (&["5s kill 3-1"], "'3-1' is no node id and no range such as 0-3"),
            (&["5s degrade 0:1"], "a link and a shape"),
            (&["5s restore 0:1"], "(0, 1) was not degraded before"),
        ] {
            let error = schedule(texts).unwrap_err();
            assert!(error.contains(says) && error.lines().count() == 1, "{texts:?}: {error}");
        }
        let fault = "5s kill 1".parse().unwrap();
        assert!(FaultSchedule::new(&[fault], 5, 0, None).unwrap_err().to_string().contains("mode explore"));
    }

    #[test]
    fn churn_kills_other_nodes_every_time_and_starts_them_again() {
        let churn = |seed| texts(&schedule_of(&["every 6s restart random 40% down=2s"], seed).unwrap());
        let one = churn(1);
        assert_eq!(one.len(), 4, "at 6, 8, 12 and 14 s: {one:?}");
        assert_eq!(one[0].replace("kill", "restart").replacen("6s", "8s", 1), one[1]);
        assert_eq!(one, churn(1));
        assert!((2..20).any(|seed| churn(seed) != one), "the seed decides");
    }

    #[test]
    fn a_flaky_node_is_paused_again_and_again() {
        let flaky = texts(&schedule(&["2s flaky 3 up=4s down=1s"]).unwrap());
        let expected = [
            "2s pause 3",
            "3s resume 3",
            "7s pause 3",
            "8s resume 3",
            "12s pause 3",
            "13s resume 3",
            "17s pause 3",
            "18s resume 3",
        ];
        assert_eq!(flaky, expected);
    }
}
