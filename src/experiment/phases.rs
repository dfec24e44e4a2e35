//! Needs of a run's faults, and the phases between the faults.

use std::{collections::BTreeMap, time::Duration};

use crate::{
    deploy::Need,
    report::PhaseInput,
    scenario::{Action, FaultSchedule, LinkPlan, NodeGroups, PlannedFault, Scenario},
};

/// Capabilities of a deployment that the faults need.
pub(crate) fn fault_needs(schedule: &FaultSchedule) -> impl Iterator<Item = Need<'_>> {
    schedule.faults().iter().map(|fault| match fault.action {
        Action::Partition(_) | Action::Heal | Action::Degrade(..) | Action::Restore(_) => Need::LinkFault(&fault.text),
        Action::Kill(_) | Action::Restart(_) | Action::Pause(_) | Action::Resume(_) => Need::NodeFault(&fault.text),
    })
}

/// Capabilities of a deployment that a scenario needs for its links and faults.
pub(crate) fn scenario_needs<'a>(
    scenario: &'a Scenario,
    links: &LinkPlan,
    faults: &'a FaultSchedule,
) -> impl Iterator<Item = Need<'a>> {
    let mut needs: Vec<Need<'a>> = vec![];
    needs.extend(links.shapes().any(|shape| shape.needs_netem()).then_some(Need::Delays));
    needs.extend((!links.is_unshaped()).then_some(Need::Rates));
    needs.extend(fault_needs(faults));
    needs.extend(scenario.links.ipv6.then_some(Need::Ipv6));
    needs.into_iter()
}

/// Phases between the times of the faults; empty without faults.
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
    use crate::scenario::Fault;

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
}
