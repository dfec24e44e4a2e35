//! Effects of the machines on the result: clocks that were set, and processors that other programs used, as reasons
//! against a run and as warnings.

use std::{collections::BTreeMap, time::Duration};

use super::{
    processor_use::{FULL, OTHERS, ProcessorUse, STOLEN},
    summary::Verdict,
};
use crate::{
    clock::SET_BY,
    machine::{ClockReport, MachineReport, ProcessorReport},
    node::NodeSummary,
};

/// Minimum suspension of a machine that is reported.
const SUSPENDED: Duration = Duration::from_secs(1);
/// Maximum normal rate of the wall clock against the processor's counter: crystals are off by less than 100 ppm, which
/// a time service corrects all the time; a clock that catches up runs 500 ppm fast or more.
const SLEW_PPM: f64 = 250.0;
/// Share of the window that a thread of a node waited for a processor, above which the wait explains late messages or,
/// without late messages, is a part of the delays that a reader has to know. Nodes that wake each other on an idle
/// machine wait less.
const WAIT_WITH_LATE: f64 = 0.01;
const WAIT_ALONE: f64 = 0.10;
/// Seconds below which threads stopped by a quota lost no more than one tick of the kernel.
const THROTTLED_SECONDS: f64 = 0.01;
/// Maximum number of names in a line; of more names only the number is given.
const MOST_NAMES: usize = 8;

/// A node, or the runner.
struct Witness<'a> {
    /// Node id; none for the runner.
    node: Option<u64>,
    report: &'a MachineReport,
    /// Messages that it sent late or not at all.
    late: u64,
}

/// Adds to the verdict the problems of the machines of a run: of all lives of its nodes, and of the runner.
pub(super) fn judge(nodes: &[&NodeSummary], runner: Option<&MachineReport>, verdict: &mut Verdict) {
    let witnesses = witnesses(nodes, runner);
    let by_clock = |say: fn(&ClockReport) -> Option<String>| said_by(&witnesses, |witness| say(&witness.report.clock));
    verdict.reasons.extend(by_clock(was_set).into_iter().map(|(who, words)| format!("the clock of {who} was {words}")));
    verdict.reasons.extend(
        by_clock(was_suspended)
            .into_iter()
            .map(|(who, words)| format!("the machine of {who} was suspended for {words}")),
    );
    verdict.reasons.extend(other_base(&witnesses));
    verdict.warnings.extend(by_clock(drifted).into_iter().map(|(who, words)| format!("the clock of {who} {words}")));
    for machine in by_machine(&witnesses) {
        verdict.warnings.extend(processors(&machine));
    }
}

/// Use of the processors of each machine of a run.
pub(super) fn processor_use(nodes: &[&NodeSummary], runner: Option<&MachineReport>) -> Vec<ProcessorUse> {
    let witnesses: Vec<Witness<'_>> = witnesses(nodes, runner);
    by_machine(&witnesses).iter().filter_map(|machine| use_of(machine)).collect()
}

/// Witnesses of each machine.
fn by_machine<'a>(witnesses: &'a [Witness<'a>]) -> Vec<Vec<&'a Witness<'a>>> {
    let mut machines: BTreeMap<&str, Vec<&Witness<'_>>> = BTreeMap::new();
    let mut alone = vec![];
    for witness in witnesses {
        match witness.report.machine.as_deref() {
            Some(name) => machines.entry(name).or_default().push(witness),
            // A node that is not known to share a machine has one of its own.
            None => alone.push(vec![witness]),
        }
    }
    machines.into_values().chain(alone).collect()
}

/// Use of the processors of one machine.
fn use_of(machine: &[&Witness<'_>]) -> Option<ProcessorUse> {
    let seen: Vec<(&Witness<'_>, &ProcessorReport)> =
        machine.iter().filter_map(|witness| Some((*witness, witness.report.processors.as_ref()?))).collect();
    let Others { processors, others, own } = Others::of(&seen)?;
    let stolen = seen.iter().filter_map(|(_, report)| {
        (report.window_seconds > 0.0).then(|| report.stolen_seconds.map(|stolen| stolen / report.window_seconds))?
    });
    let throttled = seen.iter().any(|(_, report)| throttled(report));
    Some(ProcessorUse { processors, own, others, stolen: stolen.reduce(f64::max), throttled })
}

fn witnesses<'a>(nodes: &[&'a NodeSummary], runner: Option<&'a MachineReport>) -> Vec<Witness<'a>> {
    nodes
        .iter()
        .filter_map(|node| Some(Witness { node: Some(node.node), report: node.machine.as_ref()?, late: late(node) }))
        .chain(runner.map(|report| Witness { node: None, report, late: 0 }))
        .collect()
}

fn late(node: &NodeSummary) -> u64 {
    let windows = std::iter::once(&node.measured).chain(node.trials.iter().map(|trial| &trial.measured));
    windows.fold(0, |sum: u64, window| {
        let missed = window.intended.saturating_sub(window.sent).saturating_sub(window.dropped);
        sum.saturating_add(window.late).saturating_add(missed)
    })
}

/// Each distinct statement, with the names of all witnesses that make it.
fn said_by(witnesses: &[Witness<'_>], say: impl Fn(&Witness<'_>) -> Option<String>) -> Vec<(String, String)> {
    let mut said: BTreeMap<String, Vec<Option<u64>>> = BTreeMap::new();
    for witness in witnesses {
        if let Some(words) = say(witness) {
            said.entry(words).or_default().push(witness.node);
        }
    }
    said.into_iter().map(|(words, who)| (names(who), words)).collect()
}

/// "node 2", "nodes 0, 1 and 2", "nodes 0 and 1 and of the runner".
fn names(who: Vec<Option<u64>>) -> String {
    let runner = who.contains(&None);
    let mut nodes: Vec<u64> = who.into_iter().flatten().collect();
    nodes.sort_unstable();
    nodes.dedup();
    let named: Vec<String> = nodes.iter().take(MOST_NAMES).map(u64::to_string).collect();
    let more = nodes.len() - named.len();
    let nodes = match named.as_slice() {
        [] => String::new(),
        [one] => format!("node {one}"),
        named if more > 0 => format!("nodes {} and {more} more", named.join(", ")),
        [first @ .., last] => format!("nodes {} and {last}", first.join(", ")),
    };
    match (nodes.is_empty(), runner) {
        (true, _) => "the runner".into(),
        (false, true) => format!("{nodes} and of the runner"),
        (false, false) => nodes,
    }
}

fn was_set(clock: &ClockReport) -> Option<String> {
    // Rounded to milliseconds, so that all processes of a machine report the same.
    let steps = clock.steps_micros.iter().take(MOST_NAMES).map(|step| format!("{:+.3} s", *step as f64 / 1e6));
    let steps: Vec<String> = steps.collect();
    let more = clock.steps.saturating_sub(steps.len() as u64);
    let more = if more > 0 { format!(" and {more} times more") } else { String::new() };
    (clock.steps > 0).then(|| format!("set by {}{more} during the run", steps.join(", ")))
}

fn was_suspended(clock: &ClockReport) -> Option<String> {
    let suspended = Duration::from_micros(clock.suspended_micros);
    (suspended > SUSPENDED).then(|| format!("{:.0} s during the run", suspended.as_secs_f64()))
}

fn drifted(clock: &ClockReport) -> Option<String> {
    let far = |micros: i64| u128::from(micros.unsigned_abs()) > SET_BY.as_micros();
    let millis = |micros: i64| micros as f64 / 1000.0;
    let ppm = clock.slew_micros as f64 * 1e6 / clock.watched_micros.max(1) as f64;
    if far(clock.drift_micros) {
        Some(format!("drifted by {:+.0} ms during the run, little by little", millis(clock.drift_micros)))
    } else if far(clock.slew_micros) && ppm.abs() > SLEW_PPM {
        Some(format!(
            "was slewed during the run by its time service, by {:+.0} ms: every delay is off by {:.2} %",
            millis(clock.slew_micros),
            ppm.abs() / 1e4
        ))
    } else {
        None
    }
}

/// Two nodes of one machine that took the wall clock before and after it was set.
fn other_base(witnesses: &[Witness<'_>]) -> Option<String> {
    let bases = witnesses.iter().filter_map(|witness| {
        Some((witness.report.machine.as_deref()?, (witness.report.clock.base_unix_nanos?, witness.node?)))
    });
    let mut machines: BTreeMap<&str, Vec<(u64, u64)>> = BTreeMap::new();
    for (machine, base) in bases {
        machines.entry(machine).or_default().push(base);
    }
    machines.values().find_map(|bases| {
        let (least, most) = (bases.iter().min()?, bases.iter().max()?);
        let apart = most.0 - least.0;
        (u128::from(apart) > SET_BY.as_nanos()).then(|| {
            format!(
                "the clock of node {} was set by {:.3} s between the starts of nodes {} and {}, which are on one machine: \
                 the delays between them are off by as much",
                most.1, apart as f64 / 1e9, least.1, most.1
            )
        })
    })
}

/// Maximum wait of a thread in the path of messages, in seconds, and its share of the window.
fn wait(report: &ProcessorReport) -> Option<(f64, f64)> {
    let waits = [report.schedule_waited_seconds, report.network_waited_seconds];
    let longest = waits
        .into_iter()
        .flatten()
        .fold(None, |most: Option<f64>, wait| Some(most.map_or(wait, |most| most.max(wait))))?;
    (report.window_seconds > 0.0).then(|| (longest, longest / report.window_seconds))
}

/// True if a quota stopped it for long enough to matter.
fn throttled(report: &ProcessorReport) -> bool {
    report.throttled_seconds.is_some_and(|seconds| seconds > THROTTLED_SECONDS)
}

/// Warnings about the processors of one machine.
fn processors(machine: &[&Witness<'_>]) -> Vec<String> {
    let mut warnings = vec![];
    let seen: Vec<(&Witness<'_>, &ProcessorReport)> =
        machine.iter().filter_map(|witness| Some((*witness, witness.report.processors.as_ref()?))).collect();
    let waiting: Vec<(&Witness<'_>, f64, f64)> = seen
        .iter()
        .filter(|(witness, _)| witness.node.is_some())
        .filter_map(|(witness, report)| {
            let (seconds, share) = wait(report)?;
            let limit = if witness.late > 0 { WAIT_WITH_LATE } else { WAIT_ALONE };
            (share > limit).then_some((*witness, seconds, share))
        })
        .collect();
    let others = Others::of(&seen);
    if let Some((worst, seconds, share)) = waiting.iter().max_by(|one, two| one.2.total_cmp(&two.2)) {
        let who = names(waiting.iter().map(|(witness, ..)| witness.node).collect());
        let longest = match waiting.len() {
            1 => String::new(),
            _ => format!("{} longest, ", names(vec![worst.node])),
        };
        let late = waiting.iter().any(|(witness, ..)| witness.late > 0);
        let means = if late { "its late and missed messages are" } else { "a part of its delays is" };
        let means = if waiting.len() > 1 { means.replace("its", "their") } else { means.to_owned() };
        // A process that a quota stops waits although processors are free; it has a line of its own.
        let by_quota =
            |(witness, ..): &(&Witness<'_>, f64, f64)| witness.report.processors.as_ref().is_some_and(throttled);
        let others = others.filter(|_| !waiting.iter().any(by_quota));
        let cause = others.map_or_else(String::new, |others| others.cause());
        warnings.push(format!(
            "{who} waited for a processor inside the window, {longest}{seconds:.2} s ({:.0} %): {means} the machine's, not \
             the network's{cause}",
            100.0 * share
        ));
    }
    let stolen_from = seen.iter().filter(|(_, report)| {
        let capacity = report.processors as f64 * report.window_seconds;
        report.stolen_seconds.is_some_and(|stolen| stolen > STOLEN * capacity && capacity > 0.0)
    });
    // The result must not depend on the order of the nodes.
    if let Some((_, report)) = stolen_from.max_by(|one, two| {
        let seconds = |report: &ProcessorReport| report.stolen_seconds.unwrap_or_default();
        seconds(one.1).total_cmp(&seconds(two.1))
    }) {
        warnings.push(format!(
            "the hypervisor gave {:.1} s of processor time that {} wanted to other machines (steal, {:.0} %)",
            report.stolen_seconds.unwrap_or_default(),
            names(machine.iter().map(|witness| witness.node).collect()).replace(" and of ", " and "),
            100.0 * report.stolen_seconds.unwrap_or_default()
                / (report.processors as f64 * report.window_seconds).max(f64::MIN_POSITIVE)
        ));
    }
    let stopped: Vec<_> = seen.iter().filter(|(_, report)| throttled(report)).collect();
    let worst = stopped.iter().max_by(|one, two| {
        let seconds = |report: &ProcessorReport| report.throttled_seconds.unwrap_or_default();
        seconds(one.1).total_cmp(&seconds(two.1))
    });
    if let Some((_, report)) = worst {
        warnings.push(format!(
            "the processor quota of a control group stopped {} inside the window, up to {} times and for {:.2} s",
            names(stopped.iter().map(|(witness, _)| witness.node).collect()).replace(" and of ", " and "),
            report.throttled.unwrap_or_default(),
            report.throttled_seconds.unwrap_or_default()
        ));
    }
    warnings
}

/// Users of a machine's processors beside the nodes.
#[derive(Clone, Copy)]
struct Others {
    processors: f64,
    /// Average over the window, in processors.
    others: f64,
    own: f64,
}

impl Others {
    fn of(seen: &[(&Witness<'_>, &ProcessorReport)]) -> Option<Self> {
        // A process that saw the whole window: a restarted node saw a part of it.
        let (_, whole) = seen.iter().max_by(|one, two| {
            let key = |report: &ProcessorReport| (report.window_seconds, report.machine_seconds.unwrap_or_default());
            let ((window, machine), (other_window, other_machine)) = (key(one.1), key(two.1));
            window.total_cmp(&other_window).then(machine.total_cmp(&other_machine))
        })?;
        let window = Some(whole.window_seconds).filter(|window| *window > 0.0)?;
        // A sum of fractions depends on their order.
        let mut own: Vec<f64> = seen.iter().map(|(_, report)| report.cpu_seconds).collect();
        own.sort_by(f64::total_cmp);
        let own = own.into_iter().sum::<f64>() / window;
        let all = whole.machine_seconds? / window;
        Some(Self { processors: whole.processors as f64, others: (all - own).max(0.0), own })
    }

    fn cause(&self) -> String {
        let Self { processors, others, own } = *self;
        if others > OTHERS * processors {
            format!("; other programs had {others:.2} of {processors} processors, the nodes and the runner {own:.2}")
        } else if own > FULL * processors {
            format!("; the nodes and the runner had {own:.2} of {processors} processors and compete with one another")
        } else {
            String::new()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clock(steps_micros: &[i64]) -> ClockReport {
        ClockReport {
            watched_micros: 20_000_000,
            steps: steps_micros.len() as u64,
            steps_micros: steps_micros.to_vec(),
            ..ClockReport::default()
        }
    }

    fn with(clock: ClockReport) -> MachineReport {
        MachineReport { machine: Some("boot".into()), clock, processors: None }
    }

    fn witness(node: Option<u64>, report: &MachineReport, late: u64) -> Witness<'_> {
        Witness { node, report, late }
    }

    #[test]
    fn a_clock_that_was_set_is_reported_once_with_all_witnesses() {
        let (ahead, as_it_was) = (with(clock(&[2_000_000])), with(clock(&[])));
        let all = [witness(Some(0), &ahead, 0), witness(Some(1), &ahead, 0), witness(None, &ahead, 0)];
        let say = |witnesses: &[Witness<'_>]| said_by(witnesses, |witness| was_set(&witness.report.clock));
        let set = "set by +2.000 s during the run".to_owned();
        assert_eq!(say(&all), [("nodes 0 and 1 and of the runner".into(), set)]);
        let back = with(clock(&[-2_000_000, 1500]));
        let one = [witness(Some(0), &as_it_was, 0), witness(Some(2), &back, 0), witness(None, &as_it_was, 0)];
        assert_eq!(say(&one), [("node 2".into(), "set by -2.000 s, +0.002 s during the run".into())]);
        assert_eq!(say(&[witness(None, &back, 0)])[0].0, "the runner");
    }

    #[test]
    fn a_clock_that_was_set_makes_the_run_invalid_and_one_that_drifts_is_a_warning() {
        let mut verdict = Verdict::default();
        judge(&[], Some(&with(clock(&[-2_000_000]))), &mut verdict);
        assert_eq!(verdict.reasons, ["the clock of the runner was set by -2.000 s during the run"]);
        let mut verdict = Verdict::default();
        judge(&[], Some(&with(ClockReport { drift_micros: 5000, ..clock(&[]) })), &mut verdict);
        judge(&[], Some(&with(ClockReport { slew_micros: -10_000, ..clock(&[]) })), &mut verdict);
        // Normal error of a crystal.
        judge(&[], Some(&with(ClockReport { slew_micros: 1500, drift_micros: 900, ..clock(&[]) })), &mut verdict);
        assert_eq!(verdict.reasons, Vec::<String>::new());
        assert_eq!(verdict.warnings.len(), 2, "{verdict:?}");
        assert!(verdict.warnings[0].starts_with("the clock of the runner drifted by +5 ms"), "{verdict:?}");
        assert!(verdict.warnings[1].contains("slewed") && verdict.warnings[1].contains("0.05 %"), "{verdict:?}");
        judge(&[], Some(&with(ClockReport { suspended_micros: 60_000_000, ..clock(&[]) })), &mut verdict);
        assert_eq!(verdict.reasons, ["the machine of the runner was suspended for 60 s during the run"]);
    }

    #[test]
    fn nodes_of_one_machine_that_reckon_from_other_bases_are_named() {
        let base = |nanos| with(ClockReport { base_unix_nanos: Some(nanos), ..clock(&[]) });
        let (one, near, far) = (base(5_000_000_000), base(5_000_900_000), base(7_000_000_000));
        assert_eq!(other_base(&[witness(Some(0), &one, 0), witness(Some(1), &near, 0)]), None);
        let line = other_base(&[witness(Some(0), &one, 0), witness(Some(4), &far, 0)]).unwrap();
        assert!(line.contains("2.000 s between the starts of nodes 0 and 4"), "{line}");
        let elsewhere = MachineReport { machine: Some("other boot".into()), ..far };
        assert_eq!(other_base(&[witness(Some(0), &one, 0), witness(Some(4), &elsewhere, 0)]), None);
    }

    fn busy(cpu: f64, network: f64, machine: f64) -> MachineReport {
        let processors = ProcessorReport {
            window_seconds: 10.0,
            processors: 2,
            cpu_seconds: cpu,
            schedule_waited_seconds: Some(0.0),
            network_waited_seconds: Some(network),
            machine_seconds: Some(machine),
            stolen_seconds: Some(0.0),
            ..ProcessorReport::default()
        };
        MachineReport { processors: Some(processors), ..with(clock(&[])) }
    }

    #[test]
    fn a_wait_for_a_processor_is_reported_with_the_users_of_the_processors() {
        let foreign = (busy(1.0, 1.8, 14.0), busy(1.0, 0.05, 14.0));
        let warnings = processors(&[&witness(Some(0), &foreign.0, 3), &witness(Some(1), &foreign.1, 3)]);
        let says = "node 0 waited for a processor inside the window, 1.80 s (18 %): its late and missed messages are the \
                    machine's, not the network's; other programs had 1.20 of 2 processors, the nodes and the runner 0.20";
        assert_eq!(warnings, [says]);
        let own = (busy(9.5, 6.0, 19.5), busy(9.5, 5.0, 19.5));
        let warnings = processors(&[&witness(Some(0), &own.0, 0), &witness(Some(1), &own.1, 0)]);
        assert_eq!(warnings.len(), 1);
        assert!(
            warnings[0].starts_with("nodes 0 and 1 waited") && warnings[0].contains("node 0 longest, 6.00 s (60 %)")
        );
        assert!(warnings[0].contains("1.90 of 2 processors and compete with one another"), "{warnings:?}");
    }

    #[test]
    fn a_light_load_on_a_machine_that_others_use_a_little_is_no_warning() {
        let light = busy(0.5, 0.09, 4.0);
        assert_eq!(processors(&[&witness(Some(0), &light, 2)]), Vec::<String>::new());
        let late_for_no_lack_of_processors = busy(0.5, 0.9, 4.0);
        assert_eq!(processors(&[&witness(Some(0), &late_for_no_lack_of_processors, 0)]), Vec::<String>::new());
    }

    #[test]
    fn stolen_time_and_quotas_are_named() {
        let mut report = busy(0.5, 0.0, 4.0);
        if let Some(processors) = &mut report.processors {
            processors.stolen_seconds = Some(3.0);
            (processors.throttled, processors.throttled_seconds) = (Some(40), Some(2.5));
        }
        let warnings = processors(&[&witness(Some(0), &report, 0), &witness(None, &report, 0)]);
        assert_eq!(warnings.len(), 2);
        assert!(warnings[0].contains("3.0 s of processor time that node 0 and the runner wanted"), "{warnings:?}");
        assert!(warnings[1].contains("stopped node 0 and the runner inside the window, up to 40 times and for 2.50 s"));
    }

    #[test]
    fn many_names_are_cut() {
        assert_eq!(names((0..20).map(Some).collect()), "nodes 0, 1, 2, 3, 4, 5, 6, 7 and 12 more");
    }
}
