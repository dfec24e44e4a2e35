//! Traffic of a run, as far as it is known in advance: the schedule of each class, and the receivers of each message.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::{
    schedule::{SendPlan, Turn},
    summary::{NodeSummary, WindowSummary},
};
use crate::scenario::{DEFAULT_CLASS, MessageSize, Protocol};

/// Receivers of the messages of a class.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reach {
    /// All other nodes, because gossipsub forwards messages.
    Everyone,
    /// The neighbours of the sender, because a session goes no further.
    Neighbours,
    /// One neighbour of the sender: message `index` goes to number `index mod degree` of them, sorted by id.
    OneNeighbour,
}

/// Time of the messages of a class.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Pace {
    /// Fixed before the start.
    Schedule(SendPlan),
    /// Each logical message is sent after the arrival of another one.
    After(AnswerPlan),
}

/// A class whose senders answer the logical messages of another class.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AnswerPlan {
    /// Number of the class that is answered.
    pub class: u16,
    /// The senders; they have no turns.
    pub senders: Turn,
    /// Number of parts of a logical message, each a message of its own; at least 1.
    pub burst: u64,
    /// Nanoseconds from one part to the next.
    pub burst_spacing_nanos: u64,
    /// End of sending, in nanoseconds since the Unix epoch; none for traffic without an end.
    pub to_unix_nanos: Option<u64>,
}

/// A traffic class as all nodes keep it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClassPlan {
    /// Name.
    pub name: String,
    /// Protocol; none for the only protocol of a network without classes.
    pub protocol: Option<Protocol>,
    /// Receivers of its messages.
    pub reach: Reach,
    /// Sizes of its messages, in bytes.
    pub message_size: MessageSize,
    /// Time within which a message has to arrive, in milliseconds.
    pub deadline_millis: Option<u64>,
    /// Times of its messages.
    pub pace: Pace,
}

impl ClassPlan {
    /// Class of a network with a single kind of traffic, which reaches all nodes.
    pub fn only(schedule: SendPlan, message_size: usize) -> Self {
        Self {
            name: DEFAULT_CLASS.into(),
            protocol: None,
            reach: Reach::Everyone,
            message_size: MessageSize::Fixed(message_size),
            deadline_millis: None,
            pace: Pace::Schedule(schedule),
        }
    }

    /// Schedule of the class; none for a class that answers another.
    pub fn schedule(&self) -> Option<&SendPlan> {
        match &self.pace {
            Pace::Schedule(schedule) => Some(schedule),
            Pace::After(_) => None,
        }
    }

    /// Class that it answers.
    pub fn answer(&self) -> Option<&AnswerPlan> {
        match &self.pace {
            Pace::Schedule(_) => None,
            Pace::After(answer) => Some(answer),
        }
    }

    /// Senders of the class.
    pub fn senders(&self) -> &Turn {
        match &self.pace {
            Pace::Schedule(schedule) => &schedule.turn,
            Pace::After(answer) => &answer.senders,
        }
    }

    /// Number of parts of a logical message.
    pub fn burst(&self) -> u64 {
        let burst = match &self.pace {
            Pace::Schedule(schedule) => schedule.burst,
            Pace::After(answer) => answer.burst,
        };
        burst.max(1)
    }

    /// Time within which a message has to arrive, in nanoseconds.
    pub fn deadline_nanos(&self) -> Option<u64> {
        self.deadline_millis.map(|millis| millis.saturating_mul(1_000_000))
    }
}

/// The traffic of a run, by class number: a pure function of its description and its start.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TrafficPlan {
    /// Number of nodes of the network.
    pub num_nodes: u64,
    /// Seed of the sizes.
    pub seed: u64,
    /// Sorted ids of the peers of each node, by id; none if every node is a peer of every other.
    pub neighbours: Option<Vec<Vec<u64>>>,
    /// The classes; at least one.
    pub classes: Vec<ClassPlan>,
}

impl TrafficPlan {
    /// A single class that reaches all nodes, with messages of `message_size` bytes.
    pub fn only(schedule: SendPlan, message_size: usize) -> Self {
        let num_nodes = schedule.num_nodes;
        Self { num_nodes, seed: 0, neighbours: None, classes: vec![ClassPlan::only(schedule, message_size)] }
    }

    /// Class numbers with their classes.
    pub fn numbered(&self) -> impl Iterator<Item = (u16, &ClassPlan)> {
        (0..).zip(&self.classes)
    }

    /// A class by its number.
    pub fn class(&self, class: u16) -> Option<&ClassPlan> {
        self.classes.get(usize::from(class))
    }

    /// Size of a message, in bytes.
    pub fn message_size(&self, class: u16, sender: u64, index: u64) -> usize {
        self.class(class).map_or(0, |known| known.message_size.of(self.seed, class, sender, index))
    }

    fn peers(&self, node: u64) -> Option<&[u64]> {
        let all = self.neighbours.as_ref()?;
        Some(usize::try_from(node).ok().and_then(|node| all.get(node)).map_or(&[], Vec::as_slice))
    }

    /// Number of neighbours of a node.
    pub fn degree(&self, node: u64) -> u64 {
        self.peers(node).map_or(self.num_nodes.saturating_sub(1), |peers| peers.len() as u64)
    }

    /// Ids of the neighbours of a node, ascending.
    pub fn neighbours_of(&self, node: u64) -> Vec<u64> {
        let all = || (0..self.num_nodes).filter(|other| *other != node).collect();
        self.peers(node).map_or_else(all, <[u64]>::to_vec)
    }

    /// Place of `receiver` among the sorted neighbours of `sender`.
    fn place(&self, sender: u64, receiver: u64) -> Option<u64> {
        if sender == receiver || receiver >= self.num_nodes {
            return None;
        }
        match self.peers(sender) {
            Some(peers) => peers.binary_search(&receiver).ok().map(|place| place as u64),
            None => Some(if receiver < sender { receiver } else { receiver - 1 }),
        }
    }

    /// Number of deliveries that each message of `sender` makes.
    pub fn receivers(&self, class: u16, sender: u64) -> u64 {
        match self.class(class).map(|class| class.reach) {
            None => 0,
            Some(Reach::Everyone) => self.num_nodes.saturating_sub(1),
            Some(Reach::Neighbours) => self.degree(sender),
            Some(Reach::OneNeighbour) => self.degree(sender).min(1),
        }
    }

    /// Number of the messages `indices` of `sender` that reach `receiver`, computed without walking through them.
    pub fn share(&self, class: u16, sender: u64, receiver: u64, indices: Range<u64>) -> u64 {
        let all = indices.end.saturating_sub(indices.start);
        match self.class(class).map(|class| class.reach) {
            None => 0,
            Some(Reach::Everyone) => {
                if sender == receiver {
                    0
                } else {
                    all
                }
            }
            Some(Reach::Neighbours) => self.place(sender, receiver).map_or(0, |_| all),
            Some(Reach::OneNeighbour) => {
                let Some(place) = self.place(sender, receiver) else { return 0 };
                let degree = self.degree(sender).max(1);
                let before = |end: u64| end.saturating_sub(place).div_ceil(degree);
                before(indices.end).saturating_sub(before(indices.start))
            }
        }
    }

    /// Deliveries that the messages of a node in its measured window should make.
    pub fn deliveries(&self, node: &NodeSummary, messages: fn(&WindowSummary) -> u64) -> u64 {
        let of = |class: u16, window: &WindowSummary| messages(window).saturating_mul(self.receivers(class, node.node));
        match node.classes.as_slice() {
            [] => of(0, &node.measured),
            classes => (0..).zip(classes).map(|(class, known)| of(class, &known.measured)).fold(0, u64::saturating_add),
        }
    }

    /// True if message `index` of `sender` should reach `receiver`.
    pub fn expects(&self, class: u16, sender: u64, receiver: u64, index: u64) -> bool {
        match self.class(class).map(|class| class.reach) {
            None => false,
            Some(Reach::Everyone) => sender != receiver,
            Some(Reach::Neighbours) => self.place(sender, receiver).is_some(),
            Some(Reach::OneNeighbour) => {
                self.place(sender, receiver).is_some_and(|place| index.checked_rem(self.degree(sender)) == Some(place))
            }
        }
    }

    /// Number of a message among those of its sender that reach the same receiver.
    pub fn index_at_receiver(&self, class: u16, sender: u64, index: u64) -> u64 {
        index / self.destinations(class, sender)
    }

    /// Number of sets of receivers among which the messages of a sender rotate: 1, or its degree with unicast. Message
    /// `index` goes to number `index` modulo this.
    pub fn destinations(&self, class: u16, sender: u64) -> u64 {
        match self.class(class).map(|class| class.reach) {
            Some(Reach::OneNeighbour) => self.degree(sender).max(1),
            _ => 1,
        }
    }

    /// Classes that answer a class.
    pub fn answers(&self, class: u16) -> Vec<u16> {
        let answers = |(number, known): (u16, &ClassPlan)| (known.answer()?.class == class).then_some(number);
        self.numbered().filter_map(answers).collect()
    }

    /// Maximum number of logical messages of a class that one node has begun to send by `now`, in nanoseconds since the
    /// Unix epoch.
    pub fn most_logical(&self, class: u16, now: u64) -> u64 {
        let mut factor = 1_u64;
        let mut class = class;
        // A chain of answers is at most as long as the number of classes.
        for _ in 0..=self.classes.len() {
            match self.class(class).map(|known| &known.pace) {
                None => return 0,
                Some(Pace::Schedule(schedule)) => return schedule.most_beats(now).saturating_mul(factor),
                Some(Pace::After(answer)) => {
                    let senders = self.class(answer.class).map_or(0, |known| known.senders().count(self.num_nodes));
                    factor = factor.saturating_mul(senders);
                    class = answer.class;
                }
            }
        }
        0
    }

    /// Largest possible index of a message of a class at `now`, in nanoseconds since the Unix epoch.
    pub fn largest_index(&self, class: u16, now: u64) -> u64 {
        let Some(known) = self.class(class) else { return 0 };
        let most = self.most_logical(class, now).saturating_mul(known.burst());
        // A rejoining node begins after all indices that it can have used for answers before.
        let first = if known.answer().is_some() { self.first_answer_after(class, now) } else { 0 };
        first.saturating_add(most).saturating_sub(1)
    }

    /// Index of the first answer of a node that rejoins at `now`, in nanoseconds since the Unix epoch. No node
    /// remembers the number of its answers before a restart, so twice the number of all messages leaves room for
    /// answers of several lives; skipped indices are no missing messages.
    pub fn first_answer_after(&self, class: u16, now: u64) -> u64 {
        let burst = self.class(class).map_or(0, ClassPlan::burst);
        self.most_logical(class, now).saturating_mul(burst).saturating_mul(2)
    }

    /// Indices of the messages of a node in a span of time, in nanoseconds since the Unix epoch; none for a class that
    /// answers another.
    pub fn indices(&self, class: u16, node: u64, from: u64, to: u64) -> Option<Range<u64>> {
        Some(self.class(class)?.schedule()?.indices(node, from, to))
    }

    /// Number of messages of other nodes that should reach `receiver`, by the schedules of a class in a span of time, in
    /// nanoseconds since the Unix epoch; none for a class that answers another.
    pub fn expected_by(&self, class: u16, receiver: u64, from: u64, to: u64) -> Option<u64> {
        let known = self.class(class)?;
        let schedule = known.schedule()?;
        let senders = (0..self.num_nodes).filter(|sender| *sender != receiver && known.senders().has(*sender));
        let of = |sender| self.share(class, sender, receiver, schedule.indices(sender, from, to));
        Some(senders.map(of).fold(0, u64::saturating_add))
    }

    /// Number of these messages.
    pub fn count(&self, class: u16, node: u64, from: u64, to: u64) -> Option<u64> {
        self.indices(class, node, from, to).map(|indices| indices.end.saturating_sub(indices.start))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn plan(neighbours: Option<Vec<Vec<u64>>>, reach: Reach) -> TrafficPlan {
        let mut plan = TrafficPlan { neighbours, ..TrafficPlan::only(SendPlan::new(4, Turn::All, 10), 100) };
        plan.classes[0].reach = reach;
        plan
    }

    fn line() -> Option<Vec<Vec<u64>>> {
        Some(vec![vec![1], vec![0, 2], vec![1, 3], vec![2]])
    }

    #[test]
    fn gossip_reaches_everyone_and_a_session_a_neighbour() {
        let receivers = |plan: TrafficPlan| (0..4).map(|node| plan.receivers(0, node)).collect::<Vec<_>>();
        assert_eq!(receivers(plan(line(), Reach::Everyone)), [3; 4]);
        assert_eq!(receivers(plan(line(), Reach::Neighbours)), [1, 2, 2, 1]);
        assert_eq!(receivers(plan(line(), Reach::OneNeighbour)), [1; 4]);
        assert_eq!(receivers(plan(None, Reach::Neighbours)), [3; 4]);
    }

    #[test]
    fn unicast_goes_round_the_sorted_neighbours() {
        let of_line = plan(line(), Reach::OneNeighbour);
        let receiver =
            |sender, index| (0..4).filter(|node| of_line.expects(0, sender, *node, index)).collect::<Vec<_>>();
        assert_eq!((receiver(1, 0), receiver(1, 1), receiver(1, 2)), (vec![0], vec![2], vec![0]));
        let full = plan(None, Reach::OneNeighbour);
        assert_eq!((0..4).map(|index| full.expects(0, 1, 3, index)).collect::<Vec<_>>(), [false, false, true, false]);
    }

    #[test]
    fn expected_messages_of_a_receiver_are_those_of_all_senders_that_reach_it() {
        let expected = |plan: &TrafficPlan, receiver| plan.expected_by(0, receiver, 0, 100);
        let everyone = plan(line(), Reach::Everyone);
        let sent: u64 = (0..4).filter_map(|node| everyone.count(0, node, 0, 100)).sum();
        assert!(sent >= 36, "{sent}");
        let all: u64 = (0..4).filter_map(|node| expected(&everyone, node)).sum();
        assert_eq!(all, 3 * sent);
        let neighbours = plan(line(), Reach::Neighbours);
        assert_eq!(expected(&neighbours, 0), neighbours.count(0, 1, 0, 100));
        assert_eq!(everyone.expected_by(0, 1, 100, 100), Some(0));
        assert_eq!(everyone.expected_by(1, 1, 0, 100), None);
    }

    #[test]
    fn answers_to_answers_are_bounded_by_the_schedule_at_their_root() {
        let mut chain = plan(None, Reach::Everyone);
        chain.classes[0].pace = Pace::Schedule(SendPlan::new(4, Turn::one(2), 10));
        for class in 0..2 {
            let senders = if class == 0 { Turn::All } else { Turn::Nodes([1, 2].into()) };
            let answer = AnswerPlan { class, senders, burst: 3, burst_spacing_nanos: 0, to_unix_nanos: None };
            chain.classes.push(ClassPlan { pace: Pace::After(answer), ..chain.classes[0].clone() });
        }
        // With one proposer, each of the four nodes answers each of its 12 messages once, and two nodes answer each of
        // these answers.
        assert_eq!([0, 1, 2].map(|class| chain.most_logical(class, 100)), [12, 12, 48]);
        assert_eq!((chain.largest_index(0, 100), chain.largest_index(2, 100)), (11, 3 * 3 * 48 - 1));
        assert_eq!((chain.answers(0), chain.answers(1), chain.answers(2)), (vec![1], vec![2], vec![]));
    }

    proptest! {
        #[test]
        fn shares_are_counted_as_if_each_message_were_walked(
            reach in prop_oneof![Just(Reach::Everyone), Just(Reach::Neighbours), Just(Reach::OneNeighbour)],
            full: bool, start in 0..50_u64, length in 0..50_u64,
        ) {
            let plan = plan(if full { None } else { line() }, reach);
            for sender in 0..4 {
                let mut all = 0;
                for receiver in 0..4 {
                    let walked = (start..start + length).filter(|index| plan.expects(0, sender, receiver, *index));
                    let numbers: Vec<u64> =
                        walked.clone().map(|index| plan.index_at_receiver(0, sender, index)).collect();
                    prop_assert!(numbers.windows(2).all(|pair| pair[1] == pair[0] + 1), "{numbers:?}");
                    let share = plan.share(0, sender, receiver, start..start + length);
                    prop_assert_eq!(share, walked.count() as u64);
                    all += share;
                }
                prop_assert_eq!(all, length * plan.receivers(0, sender));
            }
        }
    }
}
