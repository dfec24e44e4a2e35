//! The faults of a run: read from arguments, and the phases between them.

use std::{collections::BTreeMap, path::Path, time::Duration};

use crate::{
    deploy::Need,
    node::UsageError,
    paths::read_text,
    report::PhaseInput,
    scenario::{Action, Fault, FaultSchedule, LinkPlan, NodeGroups, PlannedFault, Shape, parse_links},
};

/// Largest file of faults, in bytes: some thousand lines.
const FILE_LIMIT: u64 = 64 << 10;

/// Largest file of links that is read, in bytes: a matrix of 1000 regions is about 6 MB.
const LINKS_LIMIT: u64 = 16 << 20;

/// Reads a file with a fault on each line.
///
/// # Errors
/// One line that names the file and the line.
pub(crate) fn read_faults(path: &Path) -> Result<Vec<Fault>, UsageError> {
    let failed = |error: String| UsageError(format!("--faults {}: {error}", path.display()));
    let text = read_text(path, FILE_LIMIT).map_err(failed)?;
    let lines = (1..).zip(text.lines().map(|line| line.split('#').next().unwrap_or_default().trim()));
    let lines = lines.filter(|(_, line)| !line.is_empty());
    lines.map(|(number, line)| line.parse().map_err(|error| failed(format!("line {number}: {error}")))).collect()
}

/// Reads a file of links; links that it does not shape are `default`.
///
/// # Errors
/// One line that names the file, line and column.
pub(crate) fn read_link_plan(path: &Path, default: Shape, num_nodes: u64) -> Result<LinkPlan, UsageError> {
    let error = |words: String| UsageError(format!("--links {words}"));
    let file = path.display().to_string();
    let text = read_text(path, LINKS_LIMIT).map_err(|words| error(format!("{file}: {words}")))?;
    let links = parse_links(&file, &text).map_err(|words| error(words.to_string()))?;
    if !links.links.default.is_unshaped() && !default.is_unshaped() {
        let words = "both [default] and flags such as --latency say what all links are like: give one";
        return Err(error(format!("{file}: {words}")));
    }
    links.plan(default, num_nodes).map_err(|words| error(words.to_string()))
}

/// The capabilities of a deployment that the faults ask for.
pub(crate) fn fault_needs(schedule: &FaultSchedule) -> impl Iterator<Item = Need<'_>> {
    schedule.faults().iter().map(|fault| match fault.action {
        Action::Partition(_) | Action::Heal | Action::Degrade(..) | Action::Restore(_) => Need::LinkFault(&fault.text),
        Action::Kill(_) | Action::Restart(_) | Action::Pause(_) | Action::Resume(_) => Need::NodeFault(&fault.text),
    })
}

/// The phases between the times of the faults; none without faults.
pub(super) fn phases(schedule: &FaultSchedule) -> Vec<PhaseInput> {
    if schedule.is_empty() {
        return vec![];
    }
    let mut by_time: BTreeMap<Duration, Vec<&PlannedFault>> = BTreeMap::new();
    for fault in schedule.faults() {
        by_time.entry(fault.at).or_default().push(fault);
    }
    let mut phases = vec![PhaseInput::default()];
    let mut groups: Option<NodeGroups> = None;
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
            groups: groups.as_ref().map(|groups| groups.iter().map(|group| group.iter().copied().collect()).collect()),
        });
    }
    phases
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partition_splits_the_phases_by_groups() {
        let faults: Vec<Fault> =
            ["10s heal", "5s partition 0-1 | 2,3"].iter().map(|text| text.parse().unwrap()).collect();
        let schedule = FaultSchedule::new(&faults, 5, 0, Some(Duration::from_secs(20))).unwrap();
        let phases = phases(&schedule);
        assert_eq!(phases.len(), 3);
        assert_eq!(phases[1].groups, Some(vec![vec![0, 1], vec![2, 3], vec![4]]));
        assert_eq!(phases[2], PhaseInput { events: vec!["10s heal".into()], groups: None });
    }

    #[test]
    fn a_file_may_hold_comments_and_its_errors_name_the_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("faults");
        std::fs::write(&path, "# a story\n\n5s kill 1   # the first\n8s restart 1\n").unwrap();
        assert_eq!(read_faults(&path).unwrap().len(), 2);
        std::fs::write(&path, "\u{feff}5s kill 1\r\n8s restart 1\r\n").unwrap();
        assert_eq!(read_faults(&path).unwrap().len(), 2);
        std::fs::write(&path, "5s kill 1\nno\n").unwrap();
        assert!(read_faults(&path).unwrap_err().0.contains("line 2: 'no'"));
        assert!(read_faults(folder.path()).is_err());
    }
}
