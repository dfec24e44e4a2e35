//! A workload, and the plans that follow from it: the nodes of one process share them.

use std::{
    ops::Deref,
    sync::{Arc, Mutex, OnceLock, PoisonError},
};

use super::{plan::TrafficPlan, workload::Workload};

/// Start and end of a plan, and true if all nodes have one start.
type Times = (u64, Option<u64>, bool);

/// The workload of a run, with its plans.
#[derive(Debug)]
pub struct SharedWorkload {
    workload: Workload,
    reach: OnceLock<Arc<TrafficPlan>>,
    /// The last plan that was asked for: all nodes of a run ask for the same one.
    last: Mutex<Option<(Times, Arc<TrafficPlan>)>>,
}

impl SharedWorkload {
    /// Shares a workload.
    pub fn new(workload: Workload) -> Self {
        Self { workload, reach: OnceLock::new(), last: Mutex::default() }
    }

    /// The shared [`Workload::reach`].
    pub(super) fn shared_reach(&self) -> Arc<TrafficPlan> {
        self.reach.get_or_init(|| Arc::new(self.workload.reach())).clone()
    }

    /// The shared [`Workload::traffic_plan`].
    pub(super) fn shared_plan(&self, start: u64, to: Option<u64>, common_start: bool) -> Option<Arc<TrafficPlan>> {
        let times = (start, to, common_start);
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, plan)) = last.as_ref().filter(|(known, _)| *known == times) {
            return Some(plan.clone());
        }
        let plan = Arc::new(self.workload.traffic_plan(start, to, common_start)?);
        *last = Some((times, plan.clone()));
        Some(plan)
    }
}

impl Deref for SharedWorkload {
    type Target = Workload;

    fn deref(&self) -> &Workload {
        &self.workload
    }
}
