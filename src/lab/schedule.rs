//! What is done to the network while it is measured: faults, each at its time.
//!
//! ```text
//! 5s kill 2                      as kill -9 does
//! 8s restart 2                   the same node again, with the same identity and place
//! 5s pause 1-3                   all its threads stop; its connections stay
//! 7s resume 1-3
//! 5s partition 0-1 | 2-4         what one group sends does not reach the other; nodes that are not named are a group
//! 10s heal
//! 5s degrade 0:1 latency=200     both directions of a link; 0>1 for one, 0:1-4 for several
//! 9s restore 0:1
//! ```

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    path::Path,
    str::FromStr,
    time::Duration,
};

use serde::Serialize;

use crate::{
    command_line::read_text,
    node::{MOST_BOUNDARIES, UsageError},
    report::PhaseInput,
    shaping::{Nodes, Shape, links_between},
};

/// Largest file of faults, in bytes: some thousand lines.
const FILE_LIMIT: u64 = 64 << 10;

/// Groups of nodes that can't reach one another.
pub(super) type Groups = Vec<BTreeSet<u64>>;

/// Directions of links: (sender, receiver).
pub(super) type Directions = BTreeSet<(u64, u64)>;

/// What is done.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Action {
    Kill(BTreeSet<u64>),
    Restart(BTreeSet<u64>),
    Pause(BTreeSet<u64>),
    Resume(BTreeSet<u64>),
    Partition(Groups),
    Heal,
    Degrade(Directions, String),
    Restore(Directions),
}

/// A fault and its time.
#[derive(Clone, Debug, PartialEq)]
pub struct Fault {
    /// Time after the opening of the measured window.
    pub(super) at: Duration,
    pub(super) action: Action,
    /// As it was given.
    text: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.text)
    }
}

impl Serialize for Fault {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

fn time(text: &str) -> Option<Duration> {
    let (number, unit) = match text.strip_suffix("ms") {
        Some(number) => (number, 0.001),
        None => (text.strip_suffix('s')?, 1.0),
    };
    let seconds = number.parse::<f64>().ok()? * unit;
    // The nodes cut their counts by whole milliseconds.
    let millis = (seconds * 1000.0).round();
    (millis >= 1.0 && seconds < 1e8).then(|| Duration::from_millis(millis as u64))
}

fn nodes(text: &str) -> Result<BTreeSet<u64>, String> {
    let nodes = text.parse::<Nodes>()?.0;
    if nodes.is_empty() { Err("it names no node".into()) } else { Ok(nodes) }
}

fn directions(text: &str) -> Result<Directions, String> {
    let (from, to, both) = match (text.split_once(':'), text.split_once('>')) {
        (Some((from, to)), _) => (from, to, true),
        (None, Some((from, to))) => (from, to, false),
        (None, None) => return Err(format!("'{text}' is no link: write 0:1, or 0>1 for one direction")),
    };
    let (from, to) = (nodes(from)?, nodes(to)?);
    let directions = links_between(&from, &to, both);
    if directions.is_empty() { Err(format!("'{text}' is no link between two nodes")) } else { Ok(directions) }
}

fn groups(text: &str) -> Result<Groups, String> {
    let groups: Groups = text.split('|').map(nodes).collect::<Result<_, _>>()?;
    let mut seen = BTreeSet::new();
    for node in groups.iter().flatten() {
        if !seen.insert(node) {
            return Err(format!("node {node} is in two groups"));
        }
    }
    Ok(groups)
}

impl FromStr for Fault {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let words: Vec<&str> = text.split_whitespace().collect();
        let text = words.join(" ");
        let advice = "write a fault like '5s kill 2', '5s partition 0-1 | 2-4' or '5s degrade 0:1 latency=200,loss=5'";
        let [at, name, rest @ ..] = &words[..] else { return Err(format!("'{text}': {advice}")) };
        let failed = |error: String| format!("'{text}': {error}");
        let at = time(at).ok_or_else(|| failed(format!("'{at}' is no time such as 5s or 1500ms; {advice}")))?;
        let all = rest.concat();
        let action = match *name {
            "kill" => nodes(&all).map(Action::Kill),
            "restart" => nodes(&all).map(Action::Restart),
            "pause" => nodes(&all).map(Action::Pause),
            "resume" => nodes(&all).map(Action::Resume),
            "partition" => groups(&all).map(Action::Partition),
            "heal" if all.is_empty() => Ok(Action::Heal),
            "restore" => directions(&all).map(Action::Restore),
            "degrade" => match rest {
                [link, shape] => shape
                    .parse::<Shape>()
                    .map_err(|error| error.to_string())
                    .and_then(|_| Ok(Action::Degrade(directions(link)?, (*shape).to_owned()))),
                _ => Err(format!("it takes a link and a shape; {advice}")),
            },
            _ => Err(format!("'{name}' is none of kill, restart, pause, resume, partition, heal, degrade, restore")),
        };
        Ok(Self { at, action: action.map_err(failed)?, text })
    }
}

/// All faults of a run, in the order of their times.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(transparent)]
pub(super) struct Schedule {
    faults: Vec<Fault>,
}

impl Schedule {
    /// The faults given by flags and by a file, checked against the run.
    ///
    /// # Errors
    /// One line that names the fault.
    pub(super) fn new(
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
        let mut schedule = Self { faults };
        schedule.check(num_nodes, window).map_err(UsageError)?;
        Ok(schedule)
    }

    fn check(&mut self, num_nodes: u64, window: Option<Duration>) -> Result<(), String> {
        let mut state = State::default();
        for fault in &mut self.faults {
            let failed = |error: String| format!("fault '{}': {error}", fault.text);
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

    /// Whether nothing is done.
    pub(super) fn is_empty(&self) -> bool {
        self.faults.is_empty()
    }

    /// The faults, by time.
    pub(super) fn faults(&self) -> &[Fault] {
        &self.faults
    }

    /// Whether the network is ever cut.
    pub(super) fn cuts(&self) -> bool {
        self.faults.iter().any(|fault| matches!(fault.action, Action::Partition(_)))
    }

    /// The shapes that links are degraded to.
    pub(super) fn degradations(&self) -> impl Iterator<Item = Shape> + '_ {
        self.faults.iter().filter_map(|fault| match &fault.action {
            Action::Degrade(_, shape) => shape.parse().ok(),
            _ => None,
        })
    }

    /// The times at which something is done, in milliseconds after the opening of the window.
    pub(super) fn boundaries_millis(&self) -> Vec<u64> {
        let times: BTreeSet<u64> =
            self.faults.iter().map(|fault| u64::try_from(fault.at.as_millis()).unwrap_or(u64::MAX)).collect();
        times.into_iter().collect()
    }

    /// The phases between those times; none without faults.
    pub(super) fn phases(&self) -> Vec<PhaseInput> {
        if self.is_empty() {
            return vec![];
        }
        let mut by_time: BTreeMap<Duration, Vec<&Fault>> = BTreeMap::new();
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
        let known = |nodes: &BTreeSet<u64>| match nodes.iter().find(|node| **node >= num_nodes) {
            Some(node) => Err(format!("node {node} is outside of the network: its nodes are 0 to {}", num_nodes - 1)),
            None => Ok(()),
        };
        match action {
            Action::Kill(nodes) | Action::Pause(nodes) => {
                known(nodes)?;
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
                known(&named)?;
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
                known(&directions.iter().flat_map(|(from, to)| [*from, *to]).collect())?;
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

    fn schedule(texts: &[&str]) -> Result<Schedule, String> {
        let faults = texts.iter().map(|text| text.parse()).collect::<Result<Vec<Fault>, _>>()?;
        Schedule::new(&faults, None, 5, Some(Duration::from_secs(20))).map_err(|error| error.to_string())
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
            (&["5s degrade 0:1"], "a link and a shape"),
            (&["5s restore 0:1"], "(0, 1) was not degraded before"),
        ] {
            let error = schedule(texts).unwrap_err();
            assert!(error.contains(says) && error.lines().count() == 1, "{texts:?}: {error}");
        }
        let fault = "5s kill 1".parse().unwrap();
        assert!(Schedule::new(&[fault], None, 5, None).unwrap_err().0.contains("mode explore"));
    }

    #[test]
    fn a_file_may_hold_comments_and_its_errors_name_the_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("faults");
        std::fs::write(&path, "# a story\n\n5s kill 1   # the first\n8s restart 1\n").unwrap();
        let window = Some(Duration::from_secs(20));
        assert_eq!(Schedule::new(&[], Some(&path), 5, window).unwrap().faults().len(), 2);
        std::fs::write(&path, "5s kill 1\nno\n").unwrap();
        assert!(Schedule::new(&[], Some(&path), 5, window).unwrap_err().0.contains("line 2: 'no'"));
        assert!(Schedule::new(&[], Some(folder.path()), 5, window).is_err());
    }
}
