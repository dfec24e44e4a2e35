//! Log of one container, each line once.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use kube::{Api, api::LogParams};
use tokio::sync::mpsc;

use super::{
    connect::Cluster,
    lines::{Lines, Next},
};
use crate::clock::{sleep, timeout};

/// Time without any data after which a stream is opened again, because it may be dead without a sign.
const IDLE: Duration = Duration::from_secs(60);

/// Interval of looking at a container that does not run yet.
const LOOK: Duration = Duration::from_secs(1);

/// Maximum number of consecutive attempts without a new line.
const MOST_FAILURES: u32 = 20;

/// A line of a pod's log.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct LogLine {
    /// Label of the pod, such as `node-3`; for a container other than the first one, with its name.
    pub label: String,
    /// The line.
    pub text: String,
}

/// Reader's position in a log: the time of the last line, and the number of lines with exactly that time. The server
/// sends lines from a full second on, so lines that were read before are skipped.
#[derive(Clone, Debug, Default)]
struct Position {
    last: Option<Timestamp>,
    equal: usize,
}

impl Position {
    /// Time from which on lines are requested, rounded down: a second too late would lose lines.
    fn since(&self) -> Option<Timestamp> {
        self.last.and_then(|last| Timestamp::from_second(last.as_second()).ok())
    }

    /// Returns the new part of a line, in a stream that began at [`Self::since`]. `passed` counts the repeated lines of
    /// the last time.
    fn take<'l>(&mut self, line: &'l str, passed: &mut usize, before: &Self) -> Option<&'l str> {
        let Some((Ok(time), text)) = line.split_once(' ').map(|(time, text)| (time.parse::<Timestamp>(), text)) else {
            // A line of the server itself, not of a container.
            return Some(line);
        };
        if let Some(last) = before.last {
            if time < last {
                return None;
            }
            if time == last && *passed < before.equal {
                *passed += 1;
                return None;
            }
        }
        match self.last {
            Some(last) if time == last => self.equal += 1,
            // Two writers of one log may be slightly out of order.
            Some(last) if time < last => {}
            _ => (self.last, self.equal) = (Some(time), 1),
        }
        Some(text)
    }
}

/// One container of a pod.
pub(super) struct ContainerLog {
    pub(super) cluster: Cluster,
    pub(super) api: Api<Pod>,
    pub(super) pod: String,
    pub(super) container: String,
    /// Prefix of its lines.
    pub(super) label: String,
    /// Waits for lines that are not written yet, until the container ends.
    pub(super) follow: bool,
    pub(super) lines: mpsc::Sender<LogLine>,
}

/// End of a stream.
enum End {
    /// The stream is complete, and this text follows the last line.
    Whole(String),
    /// Nothing arrived for a while, which is normal for a quiet container.
    Idle,
    /// The stream was cut, for this reason.
    Cut(String),
    /// Nobody receives the lines any more.
    Unheard,
}

impl ContainerLog {
    /// Sends every line, from the first one on. An error gives the reason why the rest is missing.
    pub(super) async fn run(&self) -> Result<(), String> {
        let mut position = Position::default();
        let mut restarts = None;
        let mut failures = 0;
        loop {
            // Requested before the log: if the container had ended by then, the log was complete.
            let status = match self.status().await {
                Ok(Some(status)) => status,
                Ok(None) => return Ok(()),
                Err(error) => {
                    self.pause(&mut failures, &error).await?;
                    continue;
                }
            };
            let runs = status.state.as_ref().is_some_and(|state| state.running.is_some());
            let ended = status.state.as_ref().is_some_and(|state| state.terminated.is_some());
            if !runs && !ended {
                if !self.follow {
                    return Ok(());
                }
                sleep(LOOK).await;
                continue;
            }
            if restarts.is_some_and(|before| status.restart_count > before) {
                // Lines that the container wrote before its restart and that were not read yet.
                let _ = self.stream(&mut position, true).await;
                self.send("-- the container was restarted --".into()).await;
            }
            restarts = Some(status.restart_count);
            let before = position.clone();
            match self.stream(&mut position, false).await {
                End::Unheard => return Ok(()),
                End::Whole(rest) if ended || !self.follow => {
                    if let Some(text) = position.take(&rest, &mut 0, &before).filter(|text| !text.is_empty()) {
                        self.send(text.to_owned()).await;
                    }
                    return Ok(());
                }
                // The node ended a long stream, or the container ended: the next status decides.
                End::Whole(_) => sleep(Duration::from_millis(200)).await,
                End::Idle => failures = 0,
                End::Cut(why) => {
                    if position.last != before.last || position.equal != before.equal {
                        failures = 0;
                    }
                    self.pause(&mut failures, &why).await?;
                }
            }
        }
    }

    async fn pause(&self, failures: &mut u32, why: &str) -> Result<(), String> {
        *failures += 1;
        if *failures > MOST_FAILURES {
            return Err(why.to_owned());
        }
        sleep(Duration::from_millis(100 * u64::from(*failures)).min(Duration::from_secs(2))).await;
        Ok(())
    }

    /// Present status of the container; none if it is gone or will never exist.
    async fn status(&self) -> Result<Option<ContainerStatus>, String> {
        let pod =
            self.cluster.ask("reading a pod", self.api.get_opt(&self.pod)).await.map_err(|error| error.to_string())?;
        let Some(status) = pod.map(|pod| pod.status.unwrap_or_default()) else { return Ok(None) };
        let ended = matches!(status.phase.as_deref(), Some("Succeeded" | "Failed"));
        let mut all = status.init_container_statuses.into_iter().chain(status.container_statuses).flatten();
        let found = all.find(|container| container.name == self.container).unwrap_or_default();
        let state = found.state.as_ref();
        let ran = state.is_some_and(|state| state.running.is_some() || state.terminated.is_some());
        // In a pod that was evicted, or that failed before this container's turn, the container will never start.
        Ok((ran || !ended).then_some(found))
    }

    /// Reads one stream, from the position on.
    async fn stream(&self, position: &mut Position, previous: bool) -> End {
        let params = LogParams {
            container: Some(self.container.clone()),
            follow: self.follow && !previous,
            previous,
            since_time: position.since(),
            timestamps: true,
            ..LogParams::default()
        };
        let opened = self.cluster.ask(&self.label, self.api.log_stream(&self.pod, &params)).await;
        let mut lines = match opened {
            Ok(stream) => Lines::new(Box::pin(stream)),
            Err(error) => return End::Cut(error.to_string()),
        };
        let (mut passed, before) = (0, position.clone());
        loop {
            match timeout(IDLE, lines.next()).await {
                Ok(Next::Line(line)) => {
                    if let Some(text) = position.take(&line, &mut passed, &before)
                        && !self.send(text.to_owned()).await
                    {
                        return End::Unheard;
                    }
                }
                Ok(Next::End(rest)) => return End::Whole(rest),
                Ok(Next::Broken(why)) => return End::Cut(why),
                Err(_) => return End::Idle,
            }
        }
    }

    async fn send(&self, text: String) -> bool {
        self.lines.send(LogLine { label: self.label.clone(), text }).await.is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(position: &mut Position, lines: &[&str]) -> Vec<String> {
        let (before, mut passed) = (position.clone(), 0);
        lines.iter().filter_map(|line| position.take(line, &mut passed, &before)).map(str::to_owned).collect()
    }

    #[test]
    fn a_restarted_stream_brings_only_new_lines() {
        let all = [
            "2026-01-01T00:00:00.1Z a",
            "2026-01-01T00:00:00.5Z b",
            "2026-01-01T00:00:00.5Z b",
            "2026-01-01T00:00:00.5Z c",
            "2026-01-01T00:00:01.2Z d",
        ];
        for cut in 0..=all.len() {
            let mut position = Position::default();
            let mut texts = read(&mut position, &all[..cut]);
            let since = position.since();
            let again: Vec<&str> = all
                .into_iter()
                .filter(|line| since.is_none_or(|since| line[..line.len() - 2].parse::<Timestamp>().unwrap() >= since))
                .collect();
            texts.extend(read(&mut position, &again));
            assert_eq!(texts, ["a", "b", "b", "c", "d"], "cut after {cut}");
        }
    }

    #[test]
    fn the_server_is_asked_from_a_full_second_that_is_not_too_late() {
        let mut position = Position::default();
        read(&mut position, &["2026-01-01T00:00:07.999999999Z x"]);
        assert_eq!(position.since().unwrap().to_string(), "2026-01-01T00:00:07Z");
    }
}
