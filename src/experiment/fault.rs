//! A fault as it is given: a time, and an action on nodes or links. Of ranges only the ends are kept, since a short text can
//! name more nodes than memory holds; the schedule makes sets of those that are in the network.
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

use std::{fmt, str::FromStr, time::Duration};

use serde::Serialize;

use crate::shaping::{Nodes, Shape};

/// A link, or several.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Link {
    pub(crate) from: Nodes,
    pub(crate) to: Nodes,
    /// In both directions.
    pub(crate) both: bool,
}

/// An action on nodes and links that may not be there.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Asked {
    Kill(Nodes),
    Restart(Nodes),
    Pause(Nodes),
    Resume(Nodes),
    Partition(Vec<Nodes>),
    Heal,
    Degrade(Link, String),
    Restore(Link),
}

/// A fault and its time.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Fault {
    /// Time after the opening of the measured window.
    pub(crate) at: Duration,
    pub(crate) asked: Asked,
    /// As it was given.
    pub(crate) text: String,
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

fn nodes(text: &str) -> Result<Nodes, String> {
    let nodes = text.parse::<Nodes>()?;
    if nodes.is_empty() { Err("it names no node".into()) } else { Ok(nodes) }
}

fn link(text: &str) -> Result<Link, String> {
    let (from, to, both) = match (text.split_once(':'), text.split_once('>')) {
        (Some((from, to)), _) => (from, to, true),
        (None, Some((from, to))) => (from, to, false),
        (None, None) => return Err(format!("'{text}' is no link: write 0:1, or 0>1 for one direction")),
    };
    Ok(Link { from: nodes(from)?, to: nodes(to)?, both })
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
        let asked = match *name {
            "kill" => nodes(&all).map(Asked::Kill),
            "restart" => nodes(&all).map(Asked::Restart),
            "pause" => nodes(&all).map(Asked::Pause),
            "resume" => nodes(&all).map(Asked::Resume),
            "partition" => all.split('|').map(nodes).collect::<Result<_, _>>().map(Asked::Partition),
            "heal" if all.is_empty() => Ok(Asked::Heal),
            "restore" => link(&all).map(Asked::Restore),
            "degrade" => match rest {
                [ends, shape] => shape
                    .parse::<Shape>()
                    .map_err(|error| error.to_string())
                    .and_then(|_| Ok(Asked::Degrade(link(ends)?, (*shape).to_owned()))),
                _ => Err(format!("it takes a link and a shape; {advice}")),
            },
            _ => Err(format!("'{name}' is none of kill, restart, pause, resume, partition, heal, degrade, restore")),
        };
        Ok(Self { at, asked: asked.map_err(failed)?, text })
    }
}
