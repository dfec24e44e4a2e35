//! Command that runs a node, the same in both programs.

use clap::Parser;

use super::{command_line::VERSION, error::CliError, node_flags::NodeFlags};
use crate::{
    node::{self, Load, NodeConfig, Workload},
    terminal::say,
};

const EXAMPLE: &str = "\
Example: the second of two nodes, with every argument that is required
  broadcast_network_stress_test_node --id 1 --num-nodes 2 --metric-port 2001 --p2p-port 10001 \\
    --bootstrap /ip4/127.0.0.1/tcp/10000/p2p/12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN \\
    --mode all --network-protocol gossipsub --message-size-bytes 1024 --heartbeat-millis 100 \\
    --buffer-size 100000 --timeout 60 --verbosity 3

Exit codes: 0 ended by itself, by --timeout or by a signal; 1 failed; 2 bad usage";

/// A node of a libp2p network that broadcasts and receives under load, and counts messages and delays exactly.
///
/// It connects to its peers, waits until they are ready (or for the start that the runner sends), keeps a fixed sending
/// schedule and serves its counts on the metric port. SIGTERM, SIGINT, SIGHUP and --timeout end it cleanly.
#[derive(Debug, Parser)]
#[command(name = "broadcast_network_stress_test_node", version = VERSION, max_term_width = 120, after_help = EXAMPLE)]
pub(super) struct NodeCommand {
    #[command(flatten)]
    pub(super) node: NodeFlags,
    /// Check the arguments against each other, and end; exit code 0 if a node would accept them
    #[arg(long)]
    pub(super) check: bool,
}

impl NodeCommand {
    /// Runs the node to its end, or checks its arguments.
    pub(super) fn run(self) -> Result<(), CliError> {
        let config = self.node.resolve()?;
        if self.check { check(&config) } else { Ok(node::run(config)?) }
    }
}

fn check(config: &NodeConfig) -> Result<(), CliError> {
    let workload = Workload::of(&config.scenario)?;
    let load = match (&workload.load, workload.single_pace()) {
        (Load::Explore { trials, .. }, _) => format!("{} trials", trials.len()),
        (Load::Steady { .. }, (Some(bytes), Some(millis))) => format!("{bytes} B every {millis} ms"),
        (Load::Steady { .. }, _) => format!("classes {}", config.scenario.traffic_names()),
    };
    say(&format!(
        "node {} of {}, mode {}, {}, {load}: the arguments are good\n",
        config.id,
        config.scenario.nodes.count,
        config.scenario.mode(),
        config.scenario.protocols(),
    ));
    Ok(())
}
