//! Settings of gossipsub.

use clap::Args;
use serde::{Deserialize, Serialize};

/// Settings of gossipsub; the defaults are those in effect in Apollo's own node.
#[derive(Clone, Debug, PartialEq, Args, Serialize, Deserialize)]
#[command(next_help_heading = "Gossipsub")]
pub struct GossipSettings {
    /// Peers of the mesh that a node aims for (D).
    #[arg(long = "gossipsub-mesh-n", env = "APOLLO_GOSSIPSUB_MESH_N", value_name = "PEERS", default_value_t = 6)]
    pub mesh_n: usize,
    /// Fewest peers of the mesh before it adds some (D_low).
    #[arg(
        long = "gossipsub-mesh-n-low",
        env = "APOLLO_GOSSIPSUB_MESH_N_LOW",
        value_name = "PEERS",
        default_value_t = 5
    )]
    pub mesh_n_low: usize,
    /// Most peers of the mesh before it prunes some (D_high).
    #[arg(
        long = "gossipsub-mesh-n-high",
        env = "APOLLO_GOSSIPSUB_MESH_N_HIGH",
        value_name = "PEERS",
        default_value_t = 12
    )]
    pub mesh_n_high: usize,
    /// Fewest peers of the mesh that this node dialled (D_out); at most half of D.
    #[arg(
        long = "gossipsub-mesh-outbound-min",
        env = "APOLLO_GOSSIPSUB_MESH_OUTBOUND_MIN",
        value_name = "PEERS",
        default_value_t = 2
    )]
    pub mesh_outbound_min: usize,
    /// Milliseconds between gossipsub's own heartbeats (mesh upkeep and gossip; not the sending schedule).
    #[arg(
        // The schedule's argument has the field's name too.
        id = "gossipsub_heartbeat_millis",
        long = "gossipsub-heartbeat-millis",
        env = "APOLLO_GOSSIPSUB_HEARTBEAT_MILLIS",
        value_name = "MS",
        default_value_t = 1000,
        value_parser = clap::value_parser!(u64).range(1..=3_600_000)
    )]
    pub heartbeat_millis: u64,
    /// Whether a publisher sends to every subscribed peer, not only to its mesh.
    #[arg(
        long = "gossipsub-flood-publish",
        env = "APOLLO_GOSSIPSUB_FLOOD_PUBLISH",
        value_name = "BOOL",
        default_value_t = true,
        action = clap::ArgAction::Set
    )]
    pub flood_publish: bool,
    /// Whether messages are signed, and every received copy is verified.
    #[arg(
        long = "gossipsub-signing",
        env = "APOLLO_GOSSIPSUB_SIGNING",
        value_name = "BOOL",
        default_value_t = true,
        action = clap::ArgAction::Set
    )]
    pub signing: bool,
    /// Messages above this size are announced by IDONTWANT, so that peers need not send another copy.
    #[arg(
        long = "gossipsub-idontwant-threshold-bytes",
        env = "APOLLO_GOSSIPSUB_IDONTWANT_THRESHOLD_BYTES",
        value_name = "BYTES",
        default_value_t = 1000
    )]
    pub idontwant_threshold_bytes: usize,
}

impl GossipSettings {
    /// Checks that the settings go together.
    ///
    /// # Errors
    /// One line that says which do not.
    pub fn validate(&self) -> Result<(), String> {
        let Self { mesh_n, mesh_n_low, mesh_n_high, mesh_outbound_min, .. } = *self;
        if !(mesh_n_low <= mesh_n && mesh_n <= mesh_n_high) {
            return Err(format!(
                "--gossipsub-mesh-n-low {mesh_n_low}, --gossipsub-mesh-n {mesh_n} and --gossipsub-mesh-n-high \
                 {mesh_n_high} must not fall in this order"
            ));
        }
        if mesh_outbound_min > mesh_n_low || mesh_outbound_min * 2 > mesh_n {
            return Err(format!(
                "--gossipsub-mesh-outbound-min {mesh_outbound_min} must be at most --gossipsub-mesh-n-low \
                 {mesh_n_low} and half of --gossipsub-mesh-n {mesh_n}"
            ));
        }
        Ok(())
    }
}
