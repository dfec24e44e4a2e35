//! Ports of this host that nodes need, checked before anything starts.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket},
    time::Duration,
};

use super::docker;
use crate::{
    children::kill_orphans,
    clock::{Instant, block_for, timeout},
    node::{NodeConfig, UsageError},
    terminal::tell,
};

/// Maximum time for Docker to remove the remains of killed runs.
const SWEEP_LIMIT: Duration = Duration::from_secs(40);

/// Maximum time for the kernel to close the ports of a process that was just killed, and the interval of the checks.
const CLOSE_LIMIT: Duration = Duration::from_secs(1);
const CLOSE_POLL: Duration = Duration::from_millis(20);

/// Checks ports. If one is taken, the remains of killed runs are removed, and the ports are checked again.
///
/// # Errors
/// Errors of the last check.
pub(crate) fn swept<T>(check: impl Fn() -> Result<T, UsageError>) -> Result<T, UsageError> {
    if let Ok(free) = check() {
        return Ok(free);
    }
    let killed = kill_orphans();
    if killed > 0 {
        tell(&format!("killed the remains of a killed run: {killed} processes"));
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let removed = runtime.ok().and_then(|runtime| {
        let sweep = async { timeout(SWEEP_LIMIT, docker::sweep()).await };
        // Without Docker, killed runs have left nothing in it.
        runtime.block_on(sweep).ok()?.ok()?
    });
    if let Some(line) = &removed {
        tell(line);
    }
    let since = Instant::now();
    loop {
        match check() {
            Err(_) if since.elapsed() < CLOSE_LIMIT => block_for(CLOSE_POLL),
            checked => return checked,
        }
    }
}

/// Checks that a node's ports are free on the loopback; the port for its peers only if it `shares` the host's network.
///
/// # Errors
/// One line that names the port, the node and the flag that moves it.
pub(crate) fn check_ports(node: &NodeConfig, shares: bool) -> Result<(), UsageError> {
    let socket = |port| SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port);
    let refused = |flag: &str, port: u16, error: std::io::Error| {
        UsageError(format!("port {port} of node {} can't be used: {error}; move the ports with {flag}", node.id))
    };
    TcpListener::bind(socket(node.metric_port))
        .map_err(|error| refused("--base-metric-port", node.metric_port, error))?;
    if !shares {
        return Ok(());
    }
    let p2p = socket(node.p2p_port);
    if node.is_quic() { UdpSocket::bind(p2p).map(drop) } else { TcpListener::bind(p2p).map(drop) }
        .map_err(|error| refused("--base-p2p-port", node.p2p_port, error))
}
