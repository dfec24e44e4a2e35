//! Tables of the results for the terminal.

use comfy_table::{CellAlignment, ColumnConstraint, ContentArrangement, Table};

use super::link_table::links_line;
use super::{
    cause::{Cause, CauseKind, Effect},
    drain::DrainEnd,
    environments::machine_line,
    layout::{align_numbers, empty_table},
    propeller::PropellerRow,
    quantiles::{DelaySummary, Quantile},
    reach_facts::ReachFacts,
    simulation::simulation_rows,
    summary::{ClassRow, Deliveries, FrontierRow, NodeRow, PhaseRow, RunSummary, Totals, TrialRow},
    sustained::Sustained,
    units::{NONE, bytes, bytes_or_none, time},
};

/// A ratio that is 1 only if every expected delivery was made: a loss is never rounded away.
pub(super) fn delivery(delivered: u64, expected: u64) -> String {
    match (delivered, expected) {
        (_, 0) => NONE.into(),
        _ if delivered == expected => "1 (exact)".into(),
        _ => {
            let ratio = delivered as f64 / expected as f64;
            format!("{:.6}", if delivered < expected { ratio.min(0.999_999) } else { ratio.max(1.000_001) })
        }
    }
}

/// Mark of a percentile that lies among missing values.
const NEVER_CAME: &str = "*";
/// Mark of a percentile with fewer than ten values beyond it.
const FEW_BEYOND: &str = "~";

/// A quantile with its marks.
pub(super) fn quantile_text(quantile: Option<&Quantile>) -> String {
    let Some(quantile) = quantile else { return NONE.into() };
    let few = if quantile.supported { "" } else { FEW_BEYOND };
    match (quantile.value_micros, quantile.at_least_micros) {
        (None, Some(at_least)) => format!("> {}{NEVER_CAME}{few}", time(Some(at_least))),
        (value, _) => format!("{}{few}", time(value)),
    }
}

/// One of the quantiles of a distribution, as a cell.
fn cell(delay: &DelaySummary, quantile: f64) -> String {
    quantile_text(delay.quantile(quantile))
}

/// Explanations of the marks that a text contains.
fn legend(text: &str) -> String {
    let mut lines = String::new();
    // The mark of a time follows its unit; other stars are no marks.
    if text.contains(&format!("s{NEVER_CAME}")) {
        lines.push_str(&format!(
            "{NEVER_CAME} this percentile lies among missing values, and is larger than the printed value\n"
        ));
    }
    if text.contains(&format!("s{FEW_BEYOND}")) || text.contains(&format!("{NEVER_CAME}{FEW_BEYOND}")) {
        lines.push_str(&format!("{FEW_BEYOND} fewer than ten values lie beyond this percentile\n"));
    }
    lines
}

fn sustained(sustained: &Sustained) -> String {
    match sustained.sustained {
        Some(true) => "yes".into(),
        Some(false) => format!("no ({})", sustained.reason),
        None => format!("unknown ({})", sustained.reason),
    }
}

fn optional(value: Option<f64>, digits: usize) -> String {
    value.map_or_else(|| NONE.into(), |value| format!("{value:.digits$}"))
}

/// Width of the table of a run, in characters; longer reasons are wrapped over several lines.
const RUN_TABLE_WIDTH: u16 = 118;

fn percentiles(delay: &DelaySummary) -> String {
    let cell = |quantile| cell(delay, quantile);
    format!("p50 {}   p90 {}   p99 {}   p99.9 {}   max {}", cell(0.5), cell(0.9), cell(0.99), cell(0.999), cell(1.0))
}

/// Rows of one window: deliveries, delays and costs.
fn window_rows(run: &RunSummary, totals: &Totals, row: &mut impl FnMut(&str, String)) {
    row(
        "sent",
        format!(
            "{} of {} intended in {:.1} s ({} late)",
            totals.sent, totals.intended, totals.window_seconds, totals.late
        ),
    );
    let copies = match totals.dropped_copies {
        0 => String::new(),
        copies => format!(", besides {copies} copies for single peers"),
    };
    row("not sent", format!("{} missed, {} dropped before the wire{copies}", totals.missed, totals.dropped));
    row("delivered", format!("{} of {} expected deliveries", totals.delivered, totals.expected));
    if totals.lost > 0 {
        let fate = match run.drain.map(|drain| drain.ended) {
            Some(DrainEnd::Limit) => "lost (not there when --drain-seconds had passed)",
            Some(_) => "lost (nothing was under way any more)",
            None => "had not arrived when the run ended",
        };
        row("not delivered", format!("{} {fate}", totals.lost));
    }
    row("delivery ratio", delivery(totals.delivered, totals.expected));
    if let Some(misses) = totals.deadline_misses {
        row("deadline", format!("{misses} deliveries arrived after their deadline, or never"));
    }
    row("sustained", sustained(&totals.sustained));
    if totals.backlog_at_end > 0 {
        row("backlog at the end", format!("{} deliveries were missing when the window closed", totals.backlog_at_end));
    }
    row("duplicates", format!("{} ({} messages out of order)", totals.duplicates, totals.reordered));
    let offered =
        totals.offered_bytes_per_second.map_or_else(String::new, |rate| format!(" of {}/s offered", bytes(rate)));
    row(
        "throughput",
        format!(
            "{:.1} messages/s sent, {}/s delivered in the window{offered}",
            totals.sent_per_second,
            bytes(totals.delivered_bytes_per_second)
        ),
    );
    if let (Some(third), Some(two_thirds), Some(whole)) = (&totals.reach_1_3, &totals.reach_2_3, &totals.reach_all) {
        row("reach 1/3", percentiles(third));
        row("reach 2/3", percentiles(two_thirds));
        row("reach all", percentiles(whole));
    }
    if let Some(facts) = &totals.reach {
        row("reach of", reach_line(facts));
    }
    row("delay", percentiles(&totals.delay));
    row("send lag", percentiles(&totals.send_lag));
    if let Some(certificate) = &run.links {
        row("links", links_line(certificate));
        if let Some(line) = machine_line(&run.machines, certificate) {
            row("machine", line);
        }
    }
    row(
        "CPU",
        format!(
            "{} s in the window, {} s per million deliveries in it",
            optional(totals.cpu_seconds, 2),
            optional(totals.cpu_seconds_per_million_deliveries, 1)
        ),
    );
    row("peak memory", format!("{} in all nodes together", bytes_or_none(run.peak_memory_bytes)));
    row(
        "socket bytes",
        format!(
            "{} sent per payload byte delivered, both in the window",
            optional(totals.socket_bytes_per_delivered_byte, 3)
        ),
    );
    if let Some(copies) = totals.gossip_copies_per_delivery {
        row("gossip copies", format!("{copies:.2} arrived per delivery over gossipsub, both in the window"));
    }
    for (name, text) in run.propeller.iter().flat_map(PropellerRow::rows) {
        row(name, text);
    }
}

/// Sample of the times to reach, and the messages that missed their deadline.
pub(super) fn reach_line(facts: &ReachFacts) -> String {
    let sample = match facts.sampled_share {
        1.0.. => "all".to_owned(),
        share => format!("a sample of {:.2} %", share * 100.0),
    };
    let misses = match facts.deadline_misses {
        None => String::new(),
        Some(misses) => format!(", {misses} of them not at 2/3 of the weight by their deadline"),
    };
    format!("{} messages ({sample}){misses}", facts.messages)
}

/// A line for each traffic class: the times until its messages had reached the network, and their ways.
pub(super) fn reach_table(classes: &[ClassRow]) -> String {
    let mut table = empty_table();
    let header =
        ["class", "messages", "2/3 p50", "2/3 p99", "all p99", "round p50", "round p99", "late", "direct", "hops"];
    table.set_header(header);
    for class in classes {
        let Some(facts) = &class.reach else { continue };
        let of = |delay: &Option<DelaySummary>, quantile| {
            delay.as_ref().map_or_else(|| NONE.into(), |delay| cell(delay, quantile))
        };
        let hops = facts.hops.as_ref();
        let direct = hops.filter(|hops| hops.deliveries > 0).map(|hops| hops.direct as f64 / hops.deliveries as f64);
        table.add_row([
            class.name.clone(),
            facts.messages.to_string(),
            of(&class.reach_2_3, 0.5),
            of(&class.reach_2_3, 0.99),
            of(&class.reach_all, 0.99),
            of(&class.round, 0.5),
            of(&class.round, 0.99),
            facts.deadline_misses.map_or_else(|| NONE.into(), |misses| misses.to_string()),
            direct.map_or_else(|| NONE.into(), |share| format!("{:.0} %", share * 100.0)),
            hops.and_then(|hops| hops.by_hops.last()).map_or_else(|| NONE.into(), |row| row.hops.to_string()),
        ]);
    }
    align_numbers(&mut table, header.len());
    fit_classes(&mut table);
    format!("{table}\n")
}

/// Maximum width of the table of classes, in characters.
const WIDEST_CLASSES: u16 = 100;

/// A line for each traffic class.
pub(super) fn class_table(classes: &[ClassRow]) -> String {
    let mut table = empty_table();
    let header = ["class", "sent", "not sent", "delivery", "too late", "p50", "p99", "per s", "sustained"];
    table.set_header(header);
    for class in classes {
        let sustained = match class.sustained.sustained {
            Some(true) => "yes",
            Some(false) => "no",
            None => "unknown",
        };
        table.add_row([
            class.name.clone(),
            class.sent.to_string(),
            class.missed.saturating_add(class.dropped).to_string(),
            delivery(class.delivered, class.expected),
            class.deadline_misses.map_or_else(|| NONE.into(), |misses| misses.to_string()),
            cell(&class.delay, 0.5),
            cell(&class.delay, 0.99),
            bytes(class.delivered_bytes_per_second),
            sustained.to_owned(),
        ]);
    }
    align_numbers(&mut table, header.len());
    fit_classes(&mut table);
    format!("{table}\n")
}

/// Wraps long names of classes over several lines; numbers are never broken.
fn fit_classes(table: &mut Table) {
    table.set_content_arrangement(ContentArrangement::Dynamic).set_width(WIDEST_CLASSES);
    for (number, column) in table.column_iter_mut().enumerate() {
        column.set_padding((0, 1));
        if number == 0 {
            column.set_cell_alignment(CellAlignment::Left);
        } else {
            column.set_constraint(ColumnConstraint::ContentWidth);
        }
    }
}

/// Maximum number of causes that are printed of each class and effect; the others are in `summary.json`.
const MAX_CAUSES: usize = 3;

/// Name of a cause.
pub(super) fn cause_name(kind: CauseKind) -> &'static str {
    match kind {
        CauseKind::Generator => "generator",
        CauseKind::Absent => "absent receivers",
        CauseKind::Partition => "partition",
        CauseKind::Sending => "queues of the sender",
        CauseKind::Forwarding => "forwarding",
        CauseKind::Streams => "broken streams",
        CauseKind::FirstHop => "first hop",
        CauseKind::Network => "network",
        CauseKind::Unknown => "unknown",
    }
}

/// Causes of losses and of the slowest deliveries, one in a line.
fn causes_text(causes: &[Cause]) -> String {
    let mut text = String::new();
    for rows in causes.chunk_by(|one, other| (&one.class, one.effect) == (&other.class, other.effect)) {
        for row in rows.iter().take(MAX_CAUSES) {
            let kind = cause_name(row.cause);
            let line = match row.effect {
                Effect::Lost => {
                    format!("why lost, {}: {kind}, {} deliveries: {}", row.class, row.deliveries, row.evidence)
                }
                Effect::Late => format!("why late, {}: {kind}: {}", row.class, row.evidence),
            };
            text.push_str(&line);
            text.push('\n');
        }
    }
    text
}

/// Workload of a run in one line.
pub(super) fn workload_line(run: &RunSummary) -> String {
    let workload = &run.workload;
    let several = run.classes.len() > 1;
    let name = workload.scenario.as_ref().map_or_else(String::new, |name| format!("{name}: "));
    let mode = if several { String::new() } else { format!("mode {}, ", workload.mode) };
    let mut what =
        format!("{name}{} nodes, {mode}{} over {}", workload.num_nodes, workload.network_protocol, workload.transport);
    if let (Some(size), Some(heartbeat)) = (workload.message_size_bytes, workload.heartbeat_millis) {
        what.push_str(&format!(", {size} B every {heartbeat} ms"));
    }
    if several {
        what.push_str(&format!(", {} traffic classes", run.classes.len()));
    }
    what
}

/// The whole result: deliveries, delays and costs; then the verdict.
pub fn run_table(run: &RunSummary) -> String {
    let several = run.classes.len() > 1;
    let mut table = empty_table();
    table.set_content_arrangement(ContentArrangement::Dynamic).set_width(RUN_TABLE_WIDTH);
    let mut row = |name: &str, value: String| {
        table.add_row([name.to_owned(), value]);
    };
    row("workload", workload_line(run));
    for (name, value) in simulation_rows(run) {
        row(name, value);
    }
    match &run.totals {
        Some(totals) => window_rows(run, totals, &mut row),
        None => {
            let valid = run.trials.iter().filter(|trial| trial.problems.is_empty()).count();
            row("trials", format!("{} ended, {valid} of them valid", run.trials.len()));
            let best = run.frontier.iter().find(|row| Some(row.trial) == run.best_trial);
            row("best setting", best.map_or_else(|| "no trial was sustained".into(), setting));
            if let Some(certificate) = &run.links {
                row("links", links_line(certificate));
                if let Some(line) = machine_line(&run.machines, certificate) {
                    row("machine", line);
                }
            }
            row("peak memory", format!("{} in all nodes together", bytes_or_none(run.peak_memory_bytes)));
        }
    }
    let mut text = if several { class_table(&run.classes) } else { String::new() };
    if several && run.classes.iter().any(|class| class.reach.is_some()) {
        text.push_str(&reach_table(&run.classes));
    }
    text.push_str(&format!("{table}\n"));
    text.push_str(&causes_text(&run.causes));
    text.push_str(&legend(&text));
    for warning in &run.verdict.warnings {
        text.push_str(&format!("warning: {warning}\n"));
    }
    for reason in &run.verdict.reasons {
        text.push_str(&format!("invalid: {reason}\n"));
    }
    text.push_str(if run.verdict.valid { "The run is valid.\n" } else { "The run is INVALID.\n" });
    text
}

/// Setting of a trial, shortened.
fn setting(row: &FrontierRow) -> String {
    format!(
        "{} every {} ms, {}/s, p99 {} (trial {})",
        bytes(row.plan.message_size as f64),
        row.plan.heartbeat_millis,
        bytes(row.throughput_bytes_per_second),
        time(row.p99_micros),
        row.trial
    )
}

/// Highest sustained load of each message size; empty if no load was sustained.
pub fn frontier_table(frontier: &[FrontierRow]) -> String {
    if frontier.is_empty() {
        return String::new();
    }
    let mut table = empty_table();
    let header = ["size", "every", "highest sustained", "p99", "trial"];
    table.set_header(header);
    for row in frontier {
        table.add_row([
            bytes(row.plan.message_size as f64),
            format!("{} ms", row.plan.heartbeat_millis),
            format!("{}/s", bytes(row.throughput_bytes_per_second)),
            time(row.p99_micros),
            row.trial.to_string(),
        ]);
    }
    align_numbers(&mut table, header.len());
    format!("{table}\n")
}

/// A line for each node.
pub fn per_node_table(nodes: &[NodeRow]) -> String {
    let mut table = empty_table();
    let header = [
        "node", "sent", "late", "dropped", "missed", "received", "expected", "dup.", "p50", "p99", "max", "CPU s",
        "memory",
    ];
    table.set_header(header);
    for node in nodes {
        table.add_row([
            node.node.to_string(),
            node.sent.to_string(),
            node.late.to_string(),
            node.dropped.to_string(),
            node.missed.to_string(),
            node.received.to_string(),
            node.expected.to_string(),
            node.duplicates.to_string(),
            cell(&node.delay, 0.5),
            cell(&node.delay, 0.99),
            cell(&node.delay, 1.0),
            optional(node.cpu_seconds, 2),
            bytes_or_none(node.peak_memory_bytes),
        ]);
    }
    align_numbers(&mut table, header.len());
    format!("{table}\n")
}

/// Columns of text in the table of phases, and the place of the longest one.
const PHASE_TEXTS: usize = 3;
const PHASE_EVENTS: usize = 2;

/// Maximum width of the table of phases, in characters.
const WIDEST: u16 = 120;

/// Seconds with as few digits as possible.
fn seconds(value: f64) -> String {
    format!("{}", (value * 1e3).round() / 1e3)
}

/// A line for each phase of the measured window; two more below it if the network was cut into groups.
pub fn phase_table(phases: &[PhaseRow]) -> String {
    let mut table = empty_table();
    let header =
        ["phase", "span", "events", "sent", "dropped", "missed", "expected", "delivered", "late", "lost", "p50", "p99"];
    table.set_header(header);
    for phase in phases {
        table.add_row([
            phase.number.to_string(),
            format!("{}-{} s", seconds(phase.from_seconds), seconds(phase.to_seconds)),
            phase.events.join("; "),
            phase.sent.to_string(),
            phase.dropped.to_string(),
            phase.missed.to_string(),
            phase.expected.to_string(),
            phase.delivered.to_string(),
            phase.delivered_after_end.to_string(),
            phase.lost.to_string(),
            cell(&phase.delay, 0.5),
            cell(&phase.delay, 0.99),
        ]);
        let Some(groups) = &phase.groups else { continue };
        let mut part = |name: &str, part: &Deliveries| {
            let counts = [part.expected, part.delivered, part.delivered_after_end, part.lost].map(|n| n.to_string());
            let texts = [String::new(), String::new(), name.to_owned(), String::new(), String::new(), String::new()];
            table.add_row(texts.into_iter().chain(counts));
        };
        part("within groups", &groups.within);
        part("across the cut", &groups.across);
    }
    // Events are wrapped over several lines; numbers are never broken.
    table.set_content_arrangement(ContentArrangement::Dynamic).set_width(WIDEST);
    for (number, column) in table.column_iter_mut().enumerate() {
        if number != PHASE_EVENTS {
            column.set_constraint(ColumnConstraint::ContentWidth);
        }
        column.set_padding((0, 1));
        if number >= PHASE_TEXTS {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    let text = format!("{table}\n");
    let legend = legend(&text);
    text + &legend
}

/// A trial in one line, for printing during the run.
pub fn trial_line(trial: &TrialRow) -> String {
    let totals = &trial.totals;
    let verdict = match trial.problems.first() {
        Some(problem) => format!("not valid: {problem}"),
        None => format!("sustained: {}", sustained(&totals.sustained)),
    };
    format!(
        "trial {}: {} every {} ms: {}/s of {}/s delivered in the window, p99 {}, {verdict}",
        trial.trial,
        bytes(trial.plan.message_size as f64),
        trial.plan.heartbeat_millis,
        bytes(totals.delivered_bytes_per_second),
        bytes(totals.offered_bytes_per_second.unwrap_or_default()),
        cell(&totals.delay, 0.99)
    )
}

/// A line for each trial of explore mode.
pub fn trial_table(trials: &[TrialRow]) -> String {
    let mut table = empty_table();
    let header =
        ["trial", "size", "every", "offered", "delivered", "ratio", "backlog", "missed", "p50", "p99", "sustained"];
    table.set_header(header);
    for trial in trials {
        let totals = &trial.totals;
        let sustained = match (trial.problems.is_empty(), totals.sustained.sustained) {
            (false, _) => "not valid",
            (true, Some(true)) => "yes",
            (true, Some(false)) => "no",
            (true, None) => "unknown",
        };
        table.add_row([
            trial.trial.to_string(),
            bytes(trial.plan.message_size as f64),
            format!("{} ms", trial.plan.heartbeat_millis),
            format!("{}/s", bytes(totals.offered_bytes_per_second.unwrap_or_default())),
            format!("{}/s", bytes(totals.delivered_bytes_per_second)),
            delivery(totals.delivered, totals.expected),
            totals.backlog_at_end.to_string(),
            totals.missed.saturating_add(totals.dropped).to_string(),
            cell(&totals.delay, 0.5),
            cell(&totals.delay, 0.99),
            sustained.to_owned(),
        ]);
    }
    align_numbers(&mut table, header.len());
    let text = format!("{table}\n");
    let legend = legend(&text);
    text + &legend
}

#[cfg(test)]
mod tests {
    use super::{super::summary::GroupDeliveries, *};

    #[test]
    fn a_loss_is_never_rounded_away() {
        assert_eq!(delivery(3, 3), "1 (exact)");
        assert_eq!(delivery(99_999_999, 100_000_000), "0.999999");
        assert_eq!(delivery(u64::MAX - 1, u64::MAX), "0.999999");
        assert_eq!(delivery(4, 3), "1.333333");
        assert_eq!(delivery(0, 0), "-");
    }

    #[test]
    fn the_table_of_phases_fits_120_characters_for_any_events() {
        let quantile = |quantile, micros| Quantile { quantile, at_least_micros: Some(micros), ..Quantile::default() };
        let quantiles = vec![quantile(0.5, 123_450), quantile(0.99, 987_650), quantile(1.0, 12_345_678)];
        let delay = DelaySummary { count: 1, quantiles, ..DelaySummary::default() };
        let part = Deliveries { expected: 12_000, delivered: 11_000, delivered_after_end: 10, lost: 1_000 };
        let phase = |number: usize, events: &[&str]| PhaseRow {
            number,
            from_seconds: 10.0,
            to_seconds: 22.5,
            events: events.iter().map(|event| (*event).to_owned()).collect(),
            sent: 6_000,
            expected: 24_000,
            delivered: 22_000,
            lost: 2_000,
            delay: delay.clone(),
            groups: (number == 1).then_some(GroupDeliveries { within: part, across: part }),
            ..PhaseRow::default()
        };
        let events = ["partition of nodes 0, 1, 2, 3 and 4 from 5, 6, 7, 8 and 9", "kill of node 3"];
        let text = phase_table(&[phase(0, &[]), phase(1, &events)]);
        assert!(text.lines().all(|line| line.chars().count() <= 120), "{text}");
        for needle in ["10-22.5 s", "within groups", "across the cut", "24000", "> 987.65 ms*~", "* this percentile"] {
            assert!(text.contains(needle), "{needle}: {text}");
        }
    }

    #[test]
    fn the_table_of_classes_has_a_line_for_each_and_fits_100_characters() {
        let quantile = |quantile, micros| Quantile { quantile, at_least_micros: Some(micros), ..Quantile::default() };
        let quantiles = vec![quantile(0.5, 123_450), quantile(0.99, 987_650)];
        let class = |name: &str| ClassRow {
            name: name.into(),
            sent: 123_456,
            missed: 1_234,
            expected: 12_345_678,
            delivered: 12_345_000,
            deadline_misses: Some(12_345),
            delay: DelaySummary { count: 1, quantiles: quantiles.clone(), ..DelaySummary::default() },
            delivered_bytes_per_second: 1e8,
            ..ClassRow::default()
        };
        let text = class_table(&[class("proposals"), class("prevotes-of-a-long-name")]);
        assert!(text.lines().all(|line| line.chars().count() <= 100), "{text}");
        assert_eq!(text.lines().filter(|line| line.starts_with("p")).count(), 2, "{text}");
        assert!(text.contains("0.999945") && text.contains("12345"), "{text}");
    }

    #[test]
    fn marks_are_explained_where_they_stand() {
        assert_eq!(legend("p50 1.00 ms   p99 3 us"), "");
        assert!(legend("p99 > 1.44 s*").starts_with("* this percentile"));
        assert!(legend("p99 1.44 ms~").starts_with("~ fewer"));
        assert_eq!(legend("max > 2 us*~").lines().count(), 2);
        let never = Quantile { quantile: 0.99, at_least_micros: Some(1_440_000), supported: true, value_micros: None };
        assert_eq!(quantile_text(Some(&never)), "> 1.440 s*");
        assert_eq!(quantile_text(None), "-");
    }
}
