//! The faults of a run, checked against its network, in the order of their times; and the phases between them.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    path::Path,
    time::Duration,
};

use serde::Serialize;

use super::fault::{Asked, Fault, Link};
use crate::{
    deploy::Need,
    node::{MOST_BOUNDARIES, UsageError},
    paths::read_text,
    report::PhaseInput,
    shaping::{Nodes, Shape, links_between},
};

/// Largest file of faults, in bytes: some thousand lines.
const FILE_LIMIT: u64 = 64 << 10;

/// Most links that all faults of a run may name, one way: all of a thousand nodes. Each costs memory, and a fault of a few
/// letters can name all.
const MOST_LINKS: u64 = 1_000_000;

/// Groups of nodes that can't reach one another.
pub(crate) type Groups = Vec<BTreeSet<u64>>;

/// Directions of links: (sender, receiver).
pub(crate) type Directions = BTreeSet<(u64, u64)>;

/// What is done.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Action {
    Kill(BTreeSet<u64>),
    Restart(BTreeSet<u64>),
    Pause(BTreeSet<u64>),
    Resume(BTreeSet<u64>),
    Partition(Groups),
    Heal,
    Degrade(Directions, String),
    Restore(Directions),
}

/// A fault of a run, and its time.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct PlannedFault {
    /// Time after the opening of the measured window.
    pub(crate) at: Duration,
    pub(crate) action: Action,
    /// As it was given.
    text: String,
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

/// The nodes and links that a fault means, in a network of so many nodes; at most so many links may follow.
fn action(asked: &Asked, num_nodes: u64, links_left: &mut u64) -> Result<Action, String> {
    let nodes = |nodes: &Nodes| nodes.within(num_nodes);
    let mut directions = |link: &Link| -> Result<Directions, String> {
        let (from, to) = (nodes(&link.from)?, nodes(&link.to)?);
        let most = (from.len() as u64).saturating_mul(to.len() as u64);
        *links_left = links_left.checked_sub(most).ok_or_else(|| {
            format!("the faults of a run name more than {MOST_LINKS} links: name fewer, or shape all alike by --latency and its kind")
        })?;
        let directions = links_between(&from, &to, link.both);
        if directions.is_empty() { Err("it names no link between two nodes".into()) } else { Ok(directions) }
    };
    Ok(match asked {
        Asked::Kill(named) => Action::Kill(nodes(named)?),
        Asked::Restart(named) => Action::Restart(nodes(named)?),
        Asked::Pause(named) => Action::Pause(nodes(named)?),
        Asked::Resume(named) => Action::Resume(nodes(named)?),
        Asked::Partition(named) => Action::Partition(groups(named, num_nodes)?),
        Asked::Heal => Action::Heal,
        Asked::Degrade(link, shape) => Action::Degrade(directions(link)?, shape.clone()),
        Asked::Restore(link) => Action::Restore(directions(link)?),
    })
}

fn groups(named: &[Nodes], num_nodes: u64) -> Result<Groups, String> {
    let mut seen = BTreeSet::new();
    let mut groups = Groups::new();
    for group in named {
        let group = group.within(num_nodes)?;
        if let Some(node) = group.iter().find(|node| !seen.insert(**node)) {
            return Err(format!("node {node} is in two groups"));
        }
        groups.push(group);
    }
    Ok(groups)
}

/// All faults of a run, in the order of their times.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(transparent)]
pub(crate) struct FaultSchedule {
    faults: Vec<PlannedFault>,
}

impl FaultSchedule {
    /// The faults given by flags and by a file, checked against the run.
    ///
    /// # Errors
    /// One line that names the fault.
    pub(crate) fn new(
        given: &[Fault],
        file: Option<&Path>,
        num_nodes: u64,
        window: Option<Duration>,
    ) -> Result<Self, UsageError> {
        let mut faults = given.to_vec();
        if let Some(path) = file {
            faults.extend(read(path)?);
        }
        // Stable: of one time, in the order that they were given.
        faults.sort_by_key(|fault| fault.at);
        let mut links_left = MOST_LINKS;
        let planned = faults.into_iter().map(|Fault { at, asked, text }| {
            let action = action(&asked, num_nodes, &mut links_left);
            action.map(|action| PlannedFault { at, action, text: text.clone() }).map_err(|error| failed(&text, &error))
        });
        let mut schedule = Self { faults: planned.collect::<Result<_, _>>().map_err(UsageError)? };
        schedule.check(num_nodes, window).map_err(UsageError)?;
        Ok(schedule)
    }

    fn check(&mut self, num_nodes: u64, window: Option<Duration>) -> Result<(), String> {
        let mut state = State::default();
        for fault in &mut self.faults {
            let text = fault.text.clone();
            let failed = |error: String| failed(&text, &error);
            match window {
                None => return Err(failed("mode explore has no window for it".into())),
                Some(window) if fault.at >= window => {
                    return Err(failed(format!(
                        "the measured window is over after {} s (--timeout)",
                        window.as_secs()
                    )));
                }
                Some(_) => {}
            }
            state.follow(&mut fault.action, num_nodes).map_err(failed)?;
        }
        let boundaries = self.boundaries_millis().len();
        if boundaries > MOST_BOUNDARIES {
            return Err(format!(
                "faults happen at {boundaries} different times: at most {MOST_BOUNDARIES} can be told apart"
            ));
        }
        Ok(())
    }

    /// What the faults ask of a deployment.
    pub(crate) fn needs(&self) -> impl Iterator<Item = Need<'_>> {
        self.faults.iter().map(|fault| match fault.action {
            Action::Partition(_) | Action::Heal | Action::Degrade(..) | Action::Restore(_) => {
                Need::LinkFault(&fault.text)
            }
            Action::Kill(_) | Action::Restart(_) | Action::Pause(_) | Action::Resume(_) => Need::NodeFault(&fault.text),
        })
    }

    /// Whether nothing is done.
    pub(crate) fn is_empty(&self) -> bool {
        self.faults.is_empty()
    }

    /// The faults, by time.
    pub(crate) fn faults(&self) -> &[PlannedFault] {
        &self.faults
    }

    /// Whether the network is ever cut.
    pub(crate) fn cuts(&self) -> bool {
        self.faults.iter().any(|fault| matches!(fault.action, Action::Partition(_)))
    }

    /// The shapes that links are degraded to.
    pub(crate) fn degradations(&self) -> impl Iterator<Item = Shape> + '_ {
        self.faults.iter().filter_map(|fault| match &fault.action {
            Action::Degrade(_, shape) => shape.parse().ok(),
            _ => None,
        })
    }

    /// The times at which something is done, in milliseconds after the opening of the window.
    pub(crate) fn boundaries_millis(&self) -> Vec<u64> {
        let times: BTreeSet<u64> =
            self.faults.iter().map(|fault| u64::try_from(fault.at.as_millis()).unwrap_or(u64::MAX)).collect();
        times.into_iter().collect()
    }

    /// The phases between those times; none without faults.
    pub(crate) fn phases(&self) -> Vec<PhaseInput> {
        if self.is_empty() {
            return vec![];
        }
        let mut by_time: BTreeMap<Duration, Vec<&PlannedFault>> = BTreeMap::new();
        for fault in &self.faults {
            by_time.entry(fault.at).or_default().push(fault);
        }
        let mut phases = vec![PhaseInput::default()];
        let mut groups: Option<Groups> = None;
        for faults in by_time.values() {
            for fault in faults {
                match &fault.action {
                    Action::Partition(cut) => groups = Some(cut.clone()),
                    Action::Heal => groups = None,
                    _ => {}
                }
            }
            phases.push(PhaseInput {
                events: faults.iter().map(|fault| fault.text.clone()).collect(),
                groups: groups
                    .as_ref()
                    .map(|groups| groups.iter().map(|group| group.iter().copied().collect()).collect()),
            });
        }
        phases
    }
}

fn failed(fault: &str, error: &str) -> String {
    format!("fault '{fault}': {error}")
}

fn read(path: &Path) -> Result<Vec<Fault>, UsageError> {
    let failed = |error: String| UsageError(format!("--faults {}: {error}", path.display()));
    let text = read_text(path, FILE_LIMIT).map_err(failed)?;
    let lines = (1..).zip(text.lines().map(|line| line.split('#').next().unwrap_or_default().trim()));
    let lines = lines.filter(|(_, line)| !line.is_empty());
    lines.map(|(number, line)| line.parse().map_err(|error| failed(format!("line {number}: {error}")))).collect()
}

/// What the faults before have done.
#[derive(Default)]
struct State {
    dead: BTreeSet<u64>,
    paused: BTreeSet<u64>,
    cut: bool,
    degraded: Directions,
}

impl State {
    /// Checks that an action hits something, and completes its groups.
    fn follow(&mut self, action: &mut Action, num_nodes: u64) -> Result<(), String> {
        match action {
            Action::Kill(nodes) | Action::Pause(nodes) => {
                if let Some(node) = nodes.iter().find(|node| self.dead.contains(node) || self.paused.contains(node)) {
                    return Err(format!("node {node} is killed or paused already"));
                }
                let nodes = nodes.clone();
                let taken = if matches!(action, Action::Kill(_)) { &mut self.dead } else { &mut self.paused };
                taken.extend(nodes);
            }
            Action::Restart(nodes) => give_back(&mut self.dead, nodes, "was not killed before")?,
            Action::Resume(nodes) => give_back(&mut self.paused, nodes, "was not paused before")?,
            Action::Partition(groups) => {
                let named: BTreeSet<u64> = groups.iter().flatten().copied().collect();
                let rest: BTreeSet<u64> = (0..num_nodes).filter(|node| !named.contains(node)).collect();
                if !rest.is_empty() {
                    groups.push(rest);
                }
                if groups.len() < 2 {
                    return Err("all nodes are in one group".into());
                }
                self.cut = true;
            }
            Action::Heal if !self.cut => return Err("the network is not cut before".into()),
            Action::Heal => self.cut = false,
            Action::Degrade(directions, _) => {
                self.degraded.extend(directions.iter());
            }
            Action::Restore(directions) => give_back(&mut self.degraded, directions, "was not degraded before")?,
        }
        Ok(())
    }
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

    fn schedule(texts: &[&str]) -> Result<FaultSchedule, String> {
        let faults = texts.iter().map(|text| text.parse()).collect::<Result<Vec<Fault>, _>>()?;
        FaultSchedule::new(&faults, None, 5, Some(Duration::from_secs(20))).map_err(|error| error.to_string())
    }

    #[test]
    fn faults_are_read_and_put_in_order() {
        let schedule =
            schedule(&["10s heal", "5s partition 0-1 | 2,3", "1500ms  degrade 0:1-2 latency=200,loss=5"]).unwrap();
        let texts: Vec<String> = schedule.faults().iter().map(ToString::to_string).collect();
        assert_eq!(texts, ["1500ms degrade 0:1-2 latency=200,loss=5", "5s partition 0-1 | 2,3", "10s heal"]);
        assert_eq!(schedule.boundaries_millis(), [1500, 5000, 10_000]);
        let phases = schedule.phases();
        assert_eq!(phases.len(), 4);
        assert_eq!(phases[2].groups, Some(vec![vec![0, 1], vec![2, 3], vec![4]]));
        assert_eq!(phases[3], PhaseInput { events: vec!["10s heal".into()], groups: None });
        assert!(schedule.cuts());
        let Action::Degrade(directions, _) = &schedule.faults()[0].action else { unreachable!() };
        assert_eq!(*directions, [(0, 1), (1, 0), (0, 2), (2, 0)].into());
    }

    #[test]
    fn all_faults_together_name_a_bounded_number_of_links() {
        let all = "5s degrade 0-999:0-999 latency=5".parse::<Fault>().unwrap();
        let schedule = |faults: &[Fault]| FaultSchedule::new(faults, None, 1000, Some(Duration::from_secs(20)));
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
        assert!(FaultSchedule::new(&[fault], None, 5, None).unwrap_err().0.contains("mode explore"));
    }

    #[test]
    fn a_file_may_hold_comments_and_its_errors_name_the_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("faults");
        std::fs::write(&path, "# a story\n\n5s kill 1   # the first\n8s restart 1\n").unwrap();
        let window = Some(Duration::from_secs(20));
        assert_eq!(FaultSchedule::new(&[], Some(&path), 5, window).unwrap().faults().len(), 2);
        std::fs::write(&path, "\u{feff}5s kill 1\r\n8s restart 1\r\n").unwrap();
        assert_eq!(FaultSchedule::new(&[], Some(&path), 5, window).unwrap().faults().len(), 2);
        std::fs::write(&path, "5s kill 1\nno\n").unwrap();
        assert!(FaultSchedule::new(&[], Some(&path), 5, window).unwrap_err().0.contains("line 2: 'no'"));
        assert!(FaultSchedule::new(&[], Some(folder.path()), 5, window).is_err());
    }
}
