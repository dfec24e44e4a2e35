//! Order of service, and facts about the traffic of a network.

use std::{iter::Sum, ops::Add};

use serde::{Deserialize, Serialize};

/// Order of service between the connections of a host whose interface is limited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Discipline {
    /// In turns of about a millisecond.
    #[default]
    Fair,
    /// In the order in which their segments were ready, as one queue.
    Fifo,
}

/// Facts about all traffic of a network.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// Connections made.
    pub connections: u64,
    /// Data packets sent, those that were sent again included.
    pub packets: u64,
    /// Packets that links lost.
    pub lost: u64,
    /// Packets that full queues dropped.
    pub dropped: u64,
    /// Packets that were sent again.
    pub resent: u64,
}

impl Add for Facts {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            connections: self.connections + other.connections,
            packets: self.packets + other.packets,
            lost: self.lost + other.lost,
            dropped: self.dropped + other.dropped,
            resent: self.resent + other.resent,
        }
    }
}

impl Sum for Facts {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::default(), Add::add)
    }
}
