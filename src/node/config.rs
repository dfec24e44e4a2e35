//! Configuration of a node: the scenario that it takes part in, and its own place there.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr},
    path::PathBuf,
    time::Duration,
};

use serde::{Deserialize, Serialize};

use super::{error::UsageError, profile::ProfileMode, state::check_distance, workload::Workload};
use crate::{
    access::{RunToken, TOKEN_VARIABLE},
    clock::unix_nanos,
    network::{PeerAddress, peer_id},
    paths::as_text_if_given,
    scenario::{Scenario, Transport},
};

/// Invalid configuration of a node: one line that names the value and the fix.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeConfig {
    /// Id of this node, from 0, which determines its identity.
    pub id: u64,
    /// TCP port of the HTTP endpoint.
    pub metric_port: u16,
    /// Listening address of the HTTP endpoint.
    #[serde(default = "any_address")]
    pub metric_address: IpAddr,
    /// Port of the p2p network.
    pub p2p_port: u16,
    /// Listening address of the p2p port.
    #[serde(default = "any_address")]
    pub p2p_address: IpAddr,
    /// Addresses of the peers; this node may be among them.
    #[serde(default)]
    pub bootstrap: Vec<PeerAddress>,
    /// Seconds after which the node ends by itself, with exit code 0.
    pub lifetime_seconds: u64,
    /// True if the node starts only after `POST /start`.
    #[serde(default)]
    pub controlled: bool,
    /// Instant at which the node starts, in milliseconds since the Unix epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_at_unix_millis: Option<u64>,
    /// File with the secret that a controlled node and its runner share.
    #[serde(default, skip_serializing_if = "Option::is_none", serialize_with = "as_text_if_given")]
    pub token_file: Option<PathBuf>,
    /// Further host names that requests to a controlled node may use.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub host_names: Vec<String>,
    /// Number of the run: messages of another run are not counted. 0 accepts all messages.
    #[serde(default)]
    pub run_id: u64,
    /// File for the summary, written every few seconds and at the end.
    #[serde(default, skip_serializing_if = "Option::is_none", serialize_with = "as_text_if_given")]
    pub summary: Option<PathBuf>,
    /// Profiler of this process.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub profile_mode: Option<ProfileMode>,
    /// File for the profile.
    #[serde(default, skip_serializing_if = "Option::is_none", serialize_with = "as_text_if_given")]
    pub profile_output: Option<PathBuf>,
    /// UDP port at which the node answers measurements of the links.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probe_port: Option<u16>,
    /// Maximum size of the log, in MiB.
    #[serde(default = "log_limit")]
    pub log_limit_mib: u64,
    /// The resolved scenario.
    pub scenario: Scenario,
}

/// Wildcard address, which means all interfaces.
fn any_address() -> IpAddr {
    IpAddr::V4(Ipv4Addr::UNSPECIFIED)
}

/// Default maximum size of the log, in MiB.
fn log_limit() -> u64 {
    256
}

impl NodeConfig {
    /// Configuration with these ports and every other value at its default.
    pub fn new(id: u64, metric_port: u16, p2p_port: u16, scenario: Scenario) -> Self {
        Self {
            id,
            metric_port,
            metric_address: any_address(),
            p2p_port,
            p2p_address: any_address(),
            bootstrap: vec![],
            lifetime_seconds: 0,
            controlled: false,
            start_at_unix_millis: None,
            token_file: None,
            host_names: vec![],
            run_id: 0,
            summary: None,
            profile_mode: None,
            profile_output: None,
            probe_port: None,
            log_limit_mib: log_limit(),
            scenario,
        }
    }

    /// True if all nodes receive one start, so that they agree on every schedule.
    pub fn start_is_given(&self) -> bool {
        self.controlled || self.start_at_unix_millis.is_some()
    }

    /// True if the transport is QUIC.
    pub fn is_quic(&self) -> bool {
        self.scenario.network.transport == Transport::Quic
    }

    /// Maximum time to wait for the peers; then traffic starts without them.
    pub fn ready_timeout(&self) -> Duration {
        Duration::from_secs(self.scenario.measurement.ready_timeout_seconds)
    }

    /// Addresses of the peers that the topology gives this node; in a full one, all known addresses.
    pub fn neighbours(&self, workload: &Workload) -> Vec<PeerAddress> {
        let own = usize::try_from(self.id).ok();
        let Some(ids) = workload.neighbours.as_ref().zip(own).and_then(|(neighbours, own)| neighbours.get(own)) else {
            return self.bootstrap.clone();
        };
        let peers: BTreeSet<_> = ids.iter().map(|id| peer_id(*id)).collect();
        self.bootstrap.iter().filter(|entry| peers.contains(&entry.peer)).cloned().collect()
    }

    /// Time that this node waits before it forwards a message of gossipsub.
    pub fn validation_delay(&self) -> Duration {
        let group = self.scenario.group_of(self.id);
        Duration::from_millis(group.map_or(0, |group| group.validation_delay_millis))
    }

    /// Checks the node's place against the scenario.
    ///
    /// # Errors
    /// One line that names the flag and the way out.
    pub fn validate(&self) -> Result<(), UsageError> {
        let (id, count) = (self.id, self.scenario.nodes.count);
        if id >= count {
            let last = count.saturating_sub(1);
            return Err(UsageError(format!("--id {id} is outside of the network: its {count} nodes are 0 to {last}")));
        }
        let quic = self.is_quic();
        if let Some(entry) = self.bootstrap.iter().find(|entry| entry.is_quic() != quic) {
            return Err(UsageError(if quic {
                format!("--bootstrap {entry} is not an address of QUIC (/udp/PORT/quic-v1), which --quic asks for")
            } else {
                format!("--bootstrap {entry} is an address of QUIC: add --quic")
            }));
        }
        if let Some(millis) = self.start_at_unix_millis {
            // A value in seconds instead of milliseconds lies in the year 1970.
            let start = millis.saturating_mul(1_000_000);
            check_distance(&format!("--start-at-unix-millis {millis}"), start, unix_nanos()).map_err(UsageError)?;
        }
        Ok(())
    }

    /// Configuration for a container: the text of `APOLLO_CONFIG_TEXT`, without the peers, and that of
    /// `APOLLO_BOOTSTRAP`.
    ///
    /// # Errors
    /// One line, when a value has no form in TOML.
    pub fn to_variables(&self) -> Result<(String, String), String> {
        let peers: Vec<String> = self.bootstrap.iter().map(ToString::to_string).collect();
        let config = Self { bootstrap: vec![], ..self.clone() };
        Ok((toml::to_string(&config).map_err(|error| error.to_string())?, peers.join(",")))
    }

    /// Token of a controlled node; none for an uncontrolled node.
    ///
    /// # Errors
    /// A controlled node without a token: everyone who reaches its endpoint could end its run.
    pub fn token(&self) -> Result<Option<RunToken>, UsageError> {
        if !self.controlled {
            return Ok(None);
        }
        match RunToken::given(self.token_file.as_deref()).map_err(UsageError)? {
            Some(token) => Ok(Some(token)),
            None => Err(UsageError(format!(
                "--controlled needs the token that its runner has: give --token-file FILE, or {TOKEN_VARIABLE} in the \
                 environment (make one by: openssl rand -hex 32)"
            ))),
        }
    }
}
