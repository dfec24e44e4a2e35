//! Warm-up and measured window: figures while traffic flows, and faults at their times.

use std::time::Duration;

use super::{
    faults::FaultContext,
    state::{Experiment, LIVE_POLL, READY_POLL},
};
use crate::{
    clock::{Instant, sleep, timeout, unix_nanos},
    node::{SEND_GRACE, StartOrder},
};

impl Experiment<'_> {
    /// Shows the live figures until the clock reaches `end`, and carries out the faults that are due until then.
    pub(super) async fn live_until(&mut self, end: u64, begin: u64) -> Result<(), String> {
        let mut before: Option<(Instant, u64)> = None;
        let mut next_poll = Instant::now() + LIVE_POLL;
        let opening = self.order.as_ref().map_or(u64::MAX, StartOrder::from_unix_nanos);
        loop {
            let now = unix_nanos();
            let due = self.faults.due(self.plan, opening).filter(|due| *due < end);
            if due.is_some_and(|due| due <= now) {
                self.perform_fault(opening).await?;
                continue;
            }
            if now >= end {
                return Ok(());
            }
            let until_next = Duration::from_nanos(due.unwrap_or(end).min(end) - now);
            let pace = if self.faults.awaits_any() { READY_POLL } else { LIVE_POLL };
            sleep(next_poll.duration_since(Instant::now()).min(pace).min(until_next)).await;
            // A node that is slow to answer delays no fault.
            let until_next = Duration::from_nanos(due.unwrap_or(end).saturating_sub(unix_nanos()));
            if let Ok(rejoined) = timeout(until_next, self.rejoin()).await {
                rejoined?;
            }
            if next_poll > Instant::now() {
                continue;
            }
            next_poll = Instant::now() + LIVE_POLL;
            let until_next = Duration::from_nanos(due.unwrap_or(end).saturating_sub(unix_nanos()));
            if due.is_some() {
                match timeout(until_next, self.poll()).await {
                    Ok(polled) => polled?,
                    Err(_) => continue,
                };
            } else {
                self.poll().await?;
            }
            let phase = if self.sum(|node| node.measured.intended) > 0 { "measure" } else { "warm-up" };
            let figures = self.tell(phase);
            let delivered = self.sum(|node| node.measured.received.saturating_add(node.outside.received));
            let rate = before.map_or(0.0, |(then, count)| {
                delivered.saturating_sub(count) as f64 / then.elapsed().as_secs_f64().max(1e-3)
            });
            before = Some((Instant::now(), delivered));
            let part = unix_nanos().saturating_sub(begin) as f64 / end.saturating_sub(begin).max(1) as f64;
            self.progress.update(part, &format!("{rate:.0} deliveries/s, {figures}"));
        }
    }

    /// Carries out the due fault, in a window that opens at `from`.
    async fn perform_fault(&mut self, from: u64) -> Result<(), String> {
        let Self { plan, deployment, clients, latest, faults, .. } = self;
        faults.perform(&mut FaultContext { plan, deployment: &mut **deployment, clients, latest }, from).await?;
        // Paused and killed nodes were not asked meanwhile.
        self.all_have_answered();
        self.show_faults();
        Ok(())
    }

    /// Sends restarted nodes their start.
    async fn rejoin(&mut self) -> Result<(), String> {
        if let (true, Some(order)) = (self.faults.awaits_any(), &self.order) {
            let limit = self.plan.timing.ready;
            let rejoined = self.faults.rejoin(&self.clients, order, limit).await?;
            let any = !rejoined.is_empty();
            self.answered.extend(rejoined.into_iter().map(|id| (id, Instant::now())));
            if any {
                self.show_faults();
            }
        }
        Ok(())
    }

    /// Ends the effects of the faults after the window, and waits for restarted nodes.
    pub(super) async fn lift_faults(&mut self) -> Result<(), String> {
        let Self { plan, deployment, clients, latest, faults, .. } = self;
        if faults.pauses_any() {
            // A node that was paused to the end of the window has not sent its last messages: if it were resumed before
            // its deadline, it would send them all at once.
            let deadline =
                self.order.as_ref().and_then(StartOrder::to_unix_nanos).unwrap_or(0).saturating_add(SEND_GRACE);
            while let Some(left @ 1..) = deadline.checked_sub(unix_nanos()) {
                sleep(Duration::from_nanos(left)).await;
            }
        }
        faults.lift(&mut FaultContext { plan, deployment: &mut **deployment, clients, latest }).await?;
        while self.faults.awaits_any() {
            self.rejoin().await?;
            self.check_processes()?;
            sleep(READY_POLL).await;
        }
        self.all_have_answered();
        self.show_faults();
        Ok(())
    }
}
