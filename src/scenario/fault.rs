//! A fault as people write it: a time, and an action on nodes or links. Only the ends of ranges are stored, because a
//! short text can name more nodes than memory holds; the schedule makes sets of the nodes that are in the network.
//!
//! ```text
//! 5s kill 2                          as kill -9 does
//! 8s restart 2                       starts the same node again, with the same identity and place
//! 5s pause 1-3                       stops all its threads; its connections stay
//! 7s resume 1-3
//! 5s partition 0-1 | 2-4             keeps apart the groups; nodes that are not named are a group
//! 10s heal
//! 5s degrade 0:1 latency=200         changes both directions of a link; 0>1 for one, 0:1-4 for several
//! 9s restore 0:1
//! 5s kill random 20%                 picks nodes by the scenario's seed; `random 2` picks two
//! every 10s restart random 20% down=2s   kills other nodes every time, and starts them again after two seconds
//! 2s flaky 3 up=4s down=1s           pauses a node for a second after every four seconds
//! ```

use std::{fmt, str::FromStr, time::Duration};

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::{nodes::Nodes, shape::ShapePatch};

/// Default time for which churn keeps a node away before it restarts it.
const DEFAULT_DOWN: Duration = Duration::from_secs(1);

/// Nodes of a fault: named, or chosen by the seed.
#[derive(Clone, Debug, PartialEq)]
pub enum Pick {
    /// These nodes.
    Nodes(Nodes),
    /// This number of nodes.
    Count(u64),
    /// This percentage of all nodes, at least one.
    Percent(f64),
}

/// A link, or several.
#[derive(Clone, Debug, PartialEq)]
pub struct FaultLink {
    /// Nodes at one end.
    pub from: Nodes,
    /// Nodes at the other end.
    pub to: Nodes,
    /// True if the fault applies to both directions.
    pub both: bool,
}

/// Action of a fault, on nodes and links that may not exist.
#[derive(Clone, Debug, PartialEq)]
pub enum FaultAction {
    /// Kills nodes.
    Kill(Pick),
    /// Restarts killed nodes; if repeated, it kills nodes and restarts them after `down`.
    Restart(Pick, Option<Duration>),
    /// Pauses nodes.
    Pause(Pick),
    /// Resumes paused nodes.
    Resume(Pick),
    /// Separates groups of nodes.
    Partition(Vec<Nodes>),
    /// Ends the partition.
    Heal,
    /// Changes the shape of links.
    Degrade(FaultLink, ShapePatch),
    /// Restores the former shape of links.
    Restore(FaultLink),
    /// Pauses nodes for `down` after every `up`.
    Flaky {
        /// Nodes.
        nodes: Pick,
        /// Time between two pauses.
        up: Duration,
        /// Length of a pause.
        down: Duration,
    },
}

/// Time of a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repeat {
    /// Once, at this time after the opening of the measured window.
    At(Duration),
    /// Repeatedly with this period, the first time after one period.
    Every(Duration),
}

/// A fault and its time.
#[derive(Clone, Debug, PartialEq, JsonSchema)]
#[schemars(with = "String")]
pub struct Fault {
    /// Time.
    pub time: Repeat,
    /// Action.
    pub action: FaultAction,
    /// The fault as it was written.
    pub text: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.text)
    }
}

impl Serialize for Fault {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for Fault {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

fn time(text: &str) -> Option<Duration> {
    let (number, unit) = match text.strip_suffix("ms") {
        Some(number) => (number, 0.001),
        None => (text.strip_suffix('s')?, 1.0),
    };
    let seconds = number.parse::<f64>().ok()? * unit;
    // The nodes separate their counts at whole milliseconds.
    let millis = (seconds * 1000.0).round();
    (millis >= 1.0 && seconds < 1e8).then(|| Duration::from_millis(millis as u64))
}

fn nodes(text: &str) -> Result<Nodes, String> {
    let nodes = text.parse::<Nodes>()?;
    if nodes.is_empty() { Err("it names no node".into()) } else { Ok(nodes) }
}

fn pick(words: &[&str]) -> Result<Pick, String> {
    let ["random", rest @ ..] = words else { return nodes(&words.concat()).map(Pick::Nodes) };
    let text = rest.concat();
    let bad = || format!("'random {text}' picks no node: write random 2, or random 20%");
    match text.strip_suffix('%') {
        Some(percent) => {
            let percent = percent.parse::<f64>().map_err(|_| bad())?;
            if percent > 0.0 && percent <= 100.0 { Ok(Pick::Percent(percent)) } else { Err(bad()) }
        }
        None => text.parse().ok().filter(|count| *count > 0).map(Pick::Count).ok_or_else(bad),
    }
}

fn link(text: &str) -> Result<FaultLink, String> {
    let (from, to, both) = match (text.split_once(':'), text.split_once('>')) {
        (Some((from, to)), _) => (from, to, true),
        (None, Some((from, to))) => (from, to, false),
        (None, None) => return Err(format!("'{text}' is no link: write 0:1, or 0>1 for one direction")),
    };
    Ok(FaultLink { from: nodes(from)?, to: nodes(to)?, both })
}

/// Removes words such as `down=2s` from an action's words, and returns their values.
fn take_times<'a, const N: usize>(
    words: &[&'a str],
    keys: [&str; N],
) -> Result<(Vec<&'a str>, [Option<Duration>; N]), String> {
    let mut times = [None; N];
    let mut rest = vec![];
    for word in words {
        let Some((key, value)) = word.split_once('=') else {
            rest.push(*word);
            continue;
        };
        let place = keys.iter().position(|known| *known == key);
        let place =
            place.ok_or_else(|| format!("'{word}' is none of {}", keys.map(|key| format!("{key}=2s")).join(", ")))?;
        times[place] = Some(time(value).ok_or_else(|| format!("'{value}' is no time such as 5s or 1500ms"))?);
    }
    Ok((rest, times))
}

fn action(name: &str, words: &[&str], repeats: bool) -> Result<FaultAction, String> {
    Ok(match name {
        "kill" => FaultAction::Kill(pick(words)?),
        "restart" => {
            let (words, [down]) = take_times(words, ["down"])?;
            if !repeats && down.is_some() {
                return Err("down= belongs to a repeated restart: write 'every 10s restart random 20% down=2s'".into());
            }
            FaultAction::Restart(pick(&words)?, repeats.then(|| down.unwrap_or(DEFAULT_DOWN)))
        }
        "pause" => FaultAction::Pause(pick(words)?),
        "resume" => FaultAction::Resume(pick(words)?),
        "flaky" => {
            let (words, [up, down]) = take_times(words, ["up", "down"])?;
            let (Some(up), Some(down)) = (up, down) else {
                return Err("it needs up= and down=: write '2s flaky 3 up=4s down=1s'".into());
            };
            FaultAction::Flaky { nodes: pick(&words)?, up, down }
        }
        "partition" => FaultAction::Partition(words.concat().split('|').map(nodes).collect::<Result<_, _>>()?),
        "heal" if words.is_empty() => FaultAction::Heal,
        "restore" => FaultAction::Restore(link(&words.concat())?),
        "degrade" => match words {
            [ends, shape] => {
                let patch: ShapePatch = shape.parse().map_err(|error: super::ShapeError| error.to_string())?;
                FaultAction::Degrade(link(ends)?, patch)
            }
            _ => return Err("it takes a link and a shape, such as '5s degrade 0:1 latency=200,loss=5'".into()),
        },
        _ => {
            return Err(format!(
                "'{name}' is none of kill, restart, pause, resume, flaky, partition, heal, degrade, restore"
            ));
        }
    })
}

impl FromStr for Fault {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let words: Vec<&str> = text.split_whitespace().collect();
        let text = words.join(" ");
        let advice = "write a fault like '5s kill 2', '5s partition 0-1 | 2-4' or '5s degrade 0:1 latency=200,loss=5'";
        let failed = |error: String| format!("'{text}': {error}");
        let (repeats, at, rest) = match &words[..] {
            ["every", at, rest @ ..] => (true, at, rest),
            [at, rest @ ..] => (false, at, rest),
            [] => return Err(format!("'{text}': {advice}")),
        };
        let [name, rest @ ..] = rest else { return Err(format!("'{text}': {advice}")) };
        let at = time(at).ok_or_else(|| failed(format!("'{at}' is no time such as 5s or 1500ms; {advice}")))?;
        let action = action(name, rest, repeats).map_err(failed)?;
        let can_repeat = matches!(action, FaultAction::Restart(..));
        if repeats && !can_repeat {
            return Err(failed("only restart can be repeated: write 'every 10s restart random 20%'".into()));
        }
        if let FaultAction::Restart(_, Some(down)) = action
            && down >= at
        {
            return Err(failed("down= must be shorter than the time from one restart to the next".into()));
        }
        let time = if repeats { Repeat::Every(at) } else { Repeat::At(at) };
        Ok(Self { time, action, text })
    }
}
