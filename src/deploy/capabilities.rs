//! Capabilities of the kinds of deployment, compared with the needs of a run before anything starts.

use crate::node::UsageError;

/// Capabilities of a kind of deployment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Capabilities {
    /// Links can have latency, jitter, loss, duplicates and reordering.
    pub(crate) delays: bool,
    /// Links can have a limited throughput.
    pub(crate) rates: bool,
    /// The network can be cut, and links degraded, while traffic flows.
    pub(crate) link_faults: bool,
    /// Nodes can be killed, restarted, paused and resumed.
    pub(crate) node_faults: bool,
    /// Nodes are processes of this host with known ids.
    pub(crate) process_ids: bool,
    /// Nodes can have a congestion control of their own.
    pub(crate) congestion_control: bool,
    /// Nodes can reach one another over IPv6.
    pub(crate) ipv6: bool,
    /// Nodes can be profiled.
    pub(crate) profiles: bool,
    /// Nodes can run a given program of this machine.
    pub(crate) host_program: bool,
    /// Nodes run from an image, with a limit on their memory.
    pub(crate) images: bool,
    /// Queues at the nodes' interfaces can be read from here.
    pub(crate) visible_queues: bool,
    /// Requests to the nodes cross a network.
    pub(crate) distant: bool,
    /// Nodes run in virtual time, on the thread of the runner.
    pub(crate) virtual_time: bool,
}

/// A need of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Need<'a> {
    /// A program of this machine as the node: `--node-binary`.
    HostProgram,
    /// An image or a limit of containers, by its flag.
    Image(&'a str),
    /// Links with latency or loss.
    Delays,
    /// Links with a limited throughput.
    Rates,
    /// A congestion control, by its name.
    CongestionControl(&'a str),
    /// A fault of nodes, as it was given.
    NodeFault(&'a str),
    /// A fault of links, as it was given.
    LinkFault(&'a str),
    /// Profiles of the nodes.
    Profiles,
    /// IPv6 among the nodes.
    Ipv6,
}

impl Need<'_> {
    fn is_met(self, by: &Capabilities) -> bool {
        match self {
            Self::HostProgram => by.host_program,
            Self::Image(_) => by.images,
            Self::Delays => by.delays,
            Self::Rates => by.rates,
            Self::CongestionControl(_) => by.congestion_control,
            Self::NodeFault(_) => by.node_faults,
            Self::LinkFault(_) => by.link_faults,
            Self::Profiles => by.profiles,
            Self::Ipv6 => by.ipv6,
        }
    }

    /// Reason of the refusal, and the deployment that can do it.
    fn refusal(self) -> String {
        match self {
            Self::HostProgram => {
                "--node-binary is a program of this machine, which containers don't see: give --image in \
                                  its place"
                    .into()
            }
            Self::Image(flag) => format!("{flag} is for containers: add --docker"),
            Self::Delays | Self::Rates => {
                "processes on the loopback can't be shaped: add --backend netns or --docker, \
                                           which give each node an interface of its own"
                    .into()
            }
            Self::CongestionControl(name) => format!(
                "--congestion-control {name}: processes on the loopback share the host's: add --backend netns or --docker, \
                 which give each node routes of its own"
            ),
            Self::NodeFault(fault) => {
                format!("fault '{fault}' is not possible for remote nodes: use a backend of 'local'")
            }
            Self::LinkFault(fault) => {
                format!("fault '{fault}' needs links of their own: add --backend netns or --docker")
            }
            Self::Profiles => "--profile needs nodes outside of containers: use --backend process or netns".into(),
            Self::Ipv6 => "--ipv6 needs --backend netns: in other deployments the nodes use IPv4".into(),
        }
    }
}

/// Compares the needs of a run with the capabilities of its deployment.
///
/// # Errors
/// One line for the first thing that can't be done.
pub(crate) fn check<'a>(
    capabilities: &Capabilities,
    needs: impl IntoIterator<Item = Need<'a>>,
) -> Result<(), UsageError> {
    match needs.into_iter().find(|need| !need.is_met(capabilities)) {
        Some(need) => Err(UsageError(need.refusal())),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::deploy::{docker, netns, process, remote};

    #[test]
    fn every_need_is_met_by_some_deployment_and_refused_by_another_in_one_line_that_shows_the_way() {
        let all = [process::CAPABILITIES, netns::CAPABILITIES, docker::CAPABILITIES, remote::CAPABILITIES];
        for (need, met, says) in [
            (Need::HostProgram, [true, true, false, false], "give --image in its place"),
            (
                Need::Image("--memory-limit"),
                [false, false, true, false],
                "--memory-limit is for containers: add --docker",
            ),
            (Need::Delays, [false, true, true, false], "add --backend netns or --docker"),
            (Need::Rates, [false, true, true, false], "add --backend netns or --docker"),
            (Need::CongestionControl("bbr"), [false, true, true, false], "--congestion-control bbr: "),
            (Need::NodeFault("5s kill 1"), [true, true, true, false], "fault '5s kill 1'"),
            (Need::LinkFault("5s heal"), [false, true, true, false], "add --backend netns or --docker"),
            (Need::Profiles, [true, true, false, false], "use --backend process or netns"),
            (Need::Ipv6, [false, true, false, false], "--ipv6 needs --backend netns"),
        ] {
            for (capabilities, met) in all.iter().zip(met) {
                match check(capabilities, [need]) {
                    Ok(()) => assert!(met, "{need:?} {capabilities:?}"),
                    Err(UsageError(line)) => {
                        assert!(!met && line.contains(says) && line.lines().count() == 1, "{need:?}: {line}");
                    }
                }
            }
        }
    }

    #[test]
    fn the_first_unmet_need_is_reported() {
        let needs = [Need::Profiles, Need::Ipv6, Need::Rates];
        let UsageError(line) = check(&process::CAPABILITIES, needs).unwrap_err();
        assert!(line.starts_with("--ipv6"), "{line}");
    }
}
