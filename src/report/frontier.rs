//! Highest load that a network carried.

use super::summary::{FrontierRow, TrialRow};

/// Valid trial with the highest sustained throughput of each message size, by size.
pub(super) fn frontier(trials: &[TrialRow]) -> Vec<FrontierRow> {
    let mut rows: Vec<FrontierRow> = vec![];
    let sustained =
        trials.iter().filter(|trial| trial.problems.is_empty() && trial.totals.sustained.sustained == Some(true));
    for trial in sustained {
        let row = FrontierRow {
            trial: trial.trial,
            plan: trial.plan,
            throughput_bytes_per_second: trial.plan.throughput(),
            p99_micros: trial.totals.delay.p99_micros,
        };
        match rows.iter_mut().find(|known| known.plan.message_size == row.plan.message_size) {
            Some(known) if known.throughput_bytes_per_second >= row.throughput_bytes_per_second => {}
            Some(known) => *known = row,
            None => rows.push(row),
        }
    }
    rows.sort_by_key(|row| row.plan.message_size);
    rows
}

/// Row of the frontier with the highest throughput and, among equal ones, the lowest p99.
pub(super) fn best(frontier: &[FrontierRow]) -> Option<u32> {
    let best = frontier.iter().max_by(|one, other| {
        let throughput = one.throughput_bytes_per_second.total_cmp(&other.throughput_bytes_per_second);
        throughput.then(other.p99_micros.unwrap_or(u64::MAX).cmp(&one.p99_micros.unwrap_or(u64::MAX)))
    });
    best.map(|row| row.trial)
}
