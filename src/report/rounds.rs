//! Rounds: from the intended time of a message until the answers of two thirds of the weight are at two thirds of the
//! weight.

use std::collections::BTreeMap;

use super::messages::{Message, Passed, Times, reached};
use crate::node::{AnswerPlan, Reach};

/// Messages of each class whose sample is whole, by class number.
pub(super) type Known = BTreeMap<u16, Vec<Message>>;

/// Share of the weight that makes a quorum.
const QUORUM: f64 = 2.0 / 3.0;

/// Times of the rounds in which class `number` answers, in microseconds. None if a sample has not all messages of both
/// classes, or if one of them does not reach all nodes. `age` is the age of a message, in microseconds.
///
/// A node sends an answer when the last part of a message arrives, and the intended time of the answer is exactly this
/// time. So an answer belongs to the message that its sender had at the answer's intended time.
pub(super) fn rounds(
    known: &Known,
    number: u16,
    answer: &AnswerPlan,
    passed: &Passed<'_>,
    age: impl Fn(u64) -> u64,
) -> Option<Times> {
    let everyone = |class: u16| passed.traffic.class(class).is_some_and(|plan| plan.reach == Reach::Everyone);
    if !everyone(number) || !everyone(answer.class) {
        return None;
    }
    let (answered, answers) = (known.get(&answer.class)?, known.get(&number)?);
    let by_trigger: BTreeMap<(u64, u64), &Message> =
        answers.iter().map(|message| ((message.sender, message.intended_unix_nanos), message)).collect();
    let weights = &passed.weights;
    let voters = weights.sum((0..passed.traffic.num_nodes).filter(|node| answer.senders.has(*node)));
    let all = weights.sum(0..passed.traffic.num_nodes);
    let mut times = Times::default();
    for message in answered {
        // Nodes no longer answer what arrives after the window.
        if message.holders.iter().any(|(node, time)| answer.senders.has(*node) && !passed.is_open_at(*time)) {
            continue;
        }
        // The publisher answers when it has handed over the last part.
        let trigger =
            |(node, time): &(u64, u64)| if *node == message.sender { message.sent_unix_nanos } else { Some(*time) };
        let votes = message.holders.iter().filter_map(|holder| by_trigger.get(&(holder.0, trigger(holder)?)).copied());
        // For each receiver, the times at which it had the answer of each voter.
        let mut at: BTreeMap<u64, Vec<(u64, u64)>> = BTreeMap::new();
        for vote in votes {
            for (receiver, time) in &vote.holders {
                at.entry(*receiver).or_default().push((vote.sender, *time));
            }
        }
        let mut quorums: Vec<(u64, u64)> = at
            .into_iter()
            .filter_map(|(receiver, mut votes)| {
                votes.sort_by_key(|(_, time)| *time);
                Some((receiver, reached(&votes, |voter| weights.of(voter), voters * QUORUM)?))
            })
            .collect();
        quorums.sort_by_key(|(_, time)| *time);
        let done = reached(&quorums, |node| weights.of(node), all * QUORUM);
        let intended = message.intended_unix_nanos;
        times.add(done.map(|done| done.saturating_sub(intended) / 1000), age(intended));
    }
    Some(times)
}
