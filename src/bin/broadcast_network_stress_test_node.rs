//! A node of the benchmark network: broadcasts and receives under load, and counts.

use std::process::ExitCode;

use apollo_network_benchmark::{
    command_line::parse,
    node::{NodeArgs, run},
};
use clap::Parser;

/// A node of a libp2p network that broadcasts and receives under load, and counts exactly what came and how late.
///
/// It connects to its peers, waits until they are ready (or for the start it is given), keeps a fixed sending schedule
/// and serves its counts at the metric port. SIGTERM, SIGINT and --timeout end it cleanly.
#[derive(Parser)]
#[command(version, max_term_width = 120, after_help = EXAMPLE)]
struct Cli {
    #[command(flatten)]
    node: NodeArgs,
}

const EXAMPLE: &str = "\
Example: the second of two nodes, with every argument that is required
  broadcast_network_stress_test_node --id 1 --num-nodes 2 --metric-port 2001 --p2p-port 10001 \\
    --bootstrap /ip4/127.0.0.1/tcp/10000/p2p/12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN \\
    --mode all --network-protocol gossipsub --message-size-bytes 1024 --heartbeat-millis 100 \\
    --buffer-size 100000 --timeout 60 --verbosity 3

Exit codes: 0 ended by itself, by --timeout or by a signal; 1 failed; 2 bad usage";

fn main() -> ExitCode {
    match parse::<Cli>() {
        Ok(cli) => run(cli.node),
        Err(code) => code,
    }
}
