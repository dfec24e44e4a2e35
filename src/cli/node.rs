//! The command that runs a node, alike in both programs.

use clap::Parser;

use super::{command_line::VERSION, error::CliError};
use crate::{
    node::{self, Load, NodeArgs, value_name},
    terminal::say,
};

const EXAMPLE: &str = "\
Example: the second of two nodes, with every argument that is required
  broadcast_network_stress_test_node --id 1 --num-nodes 2 --metric-port 2001 --p2p-port 10001 \\
    --bootstrap /ip4/127.0.0.1/tcp/10000/p2p/12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN \\
    --mode all --network-protocol gossipsub --message-size-bytes 1024 --heartbeat-millis 100 \\
    --buffer-size 100000 --timeout 60 --verbosity 3

Exit codes: 0 ended by itself, by --timeout or by a signal; 1 failed; 2 bad usage";

/// A node of a libp2p network that broadcasts and receives under load, and counts exactly what came and how late.
///
/// It connects to its peers, waits until they are ready (or for the start it is given), keeps a fixed sending schedule
/// and serves its counts at the metric port. SIGTERM, SIGINT, SIGHUP and --timeout end it cleanly.
#[derive(Debug, Parser)]
#[command(name = "broadcast_network_stress_test_node", version = VERSION, max_term_width = 120, after_help = EXAMPLE)]
pub(super) struct NodeCommand {
    #[command(flatten)]
    #[allow(missing_docs, reason = "a doc comment here would become help text")]
    pub(super) node: NodeArgs,
    /// Check the arguments against each other, and end: 0 when a node would take them
    #[arg(long)]
    pub(super) check: bool,
}

impl NodeCommand {
    /// Runs the node to its end, or checks its arguments.
    pub(super) fn run(self) -> Result<(), CliError> {
        if self.check { check(&self.node) } else { Ok(node::run(self.node)?) }
    }
}

fn check(args: &NodeArgs) -> Result<(), CliError> {
    let workload = args.validate()?;
    let load = match &workload.load {
        Load::Steady { classes, .. } => match workload.single_pace() {
            (Some(size), Some(heartbeat)) => format!("{size} B every {heartbeat} ms"),
            _ => format!("{} traffic classes", classes.len()),
        },
        Load::Explore { trials, .. } => format!("{} trials", trials.len()),
    };
    say(&format!(
        "node {} of {}, mode {}, {}, {load}: the arguments are good\n",
        args.id,
        args.num_nodes,
        value_name(&args.mode),
        value_name(&args.network_protocol),
    ));
    Ok(())
}
