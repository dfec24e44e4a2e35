//! Task that owns the swarm.

use std::{
    collections::HashSet,
    future::Future,
    net::{IpAddr, SocketAddr, TcpListener, UdpSocket},
    pin::Pin,
    sync::Arc,
    time::Duration,
};

use futures::StreamExt;
use libp2p::{
    Multiaddr, PeerId, Swarm,
    allow_block_list::{self, AllowedPeers},
    connection_limits::{self, ConnectionLimits},
    multiaddr::Protocol as Part,
    ping,
    swarm::{
        self, DialError, ListenError, SwarmEvent,
        dial_opts::{DialOpts, PeerCondition},
    },
};
use tokio::{
    sync::{Notify, mpsc, watch},
    task::{JoinHandle, yield_now},
};
use tracing::{debug, warn};

use super::{
    NetworkConfig, NetworkError, Outgoing, Readiness, Traffic, UnreachedPeer,
    behaviours::{Behaviours, BehavioursEvent},
    broadcast::{Broadcasts, Setup},
    budget::Budget,
    dialing::Dialer,
    events,
    identity::keypair,
    transport, unreached,
};
use crate::{
    clock::{self, Instant, interval, sleep_until},
    metrics::Metrics,
    open_files::raise_fd_limit,
    simulation::{processor, spawn},
};

/// Idle time of a connection: a benchmark may be silent for a long time, in a cool-down or between turns, and
/// connections must outlive that.
const IDLE_TIMEOUT: Duration = Duration::from_secs(24 * 3600);

/// Interval of looking for peers to dial.
const DIAL_TICK: Duration = Duration::from_millis(50);

/// Interval of libp2p's ping.
const PING_INTERVAL: Duration = Duration::from_secs(5);

/// Maximum number of inbound streams of one connection under negotiation; libp2p drops streams above it. A peer that
/// catches up after a pause opens many at once.
const MAX_NEGOTIATING_STREAMS: usize = 512;

/// A running network; [`Network::stop`] ends it and frees its port.
#[derive(Debug)]
pub struct Network {
    task: JoinHandle<()>,
    stop: Arc<Notify>,
    readiness: watch::Receiver<Readiness>,
    unreached: watch::Receiver<Vec<UnreachedPeer>>,
}

struct Driver {
    swarm: Swarm<Behaviours>,
    config: NetworkConfig,
    metrics: Metrics,
    traffic: Arc<dyn Traffic>,
    broadcasts: Broadcasts,
    /// Notified by the protocols when a link opens or closes.
    links_changed: Arc<Notify>,
    dialer: Dialer,
    connected: HashSet<PeerId>,
    refused: HashSet<PeerId>,
    readiness: watch::Sender<Readiness>,
    unreached: watch::Sender<Vec<UnreachedPeer>>,
    stop: Arc<Notify>,
}

impl Network {
    /// Listens, and starts to connect. Must be called inside the tokio runtime that is to carry the network.
    ///
    /// # Errors
    /// Fails if the port is taken, or the settings do not go together.
    pub fn start(
        config: NetworkConfig,
        outgoing: mpsc::Receiver<Outgoing>,
        traffic: Arc<dyn Traffic>,
        metrics: &Metrics,
        libp2p_registry: Option<&mut prometheus_client::registry::Registry>,
    ) -> Result<Self, NetworkError> {
        let keypair = keypair(config.id);
        let own = keypair.public().to_peer_id();
        let dialer = Dialer::new(own, &config.bootstrap);
        let budget = Budget::new(&config);
        let links_changed = Arc::new(Notify::new());
        let mut setup = Setup::new(&config, &keypair, metrics, &traffic, &budget, &links_changed, libp2p_registry);
        let broadcasts = Broadcasts::new(&mut setup)?;
        let Setup { gossip, streams, .. } = setup;
        let mut allowed = allow_block_list::Behaviour::<AllowedPeers>::default();
        for peer in neighbours(&config, own) {
            allowed.allow_peer(peer);
        }
        let behaviours = Behaviours {
            limits: connection_limits::Behaviour::new(
                ConnectionLimits::default()
                    .with_max_established_per_peer(Some(1))
                    .with_max_pending_incoming(Some(most_pending(expected_peers(&config, &dialer)))),
            ),
            allowed,
            ping: ping::Behaviour::new(ping::Config::new().with_interval(PING_INTERVAL)),
            gossip: gossip.into(),
            streams: streams.is_used().then_some(streams).into(),
        };
        let tasks = |task: Pin<Box<dyn Future<Output = ()> + Send>>| drop(spawn(task));
        let swarm_config = swarm::Config::with_executor(tasks)
            .with_idle_connection_timeout(IDLE_TIMEOUT)
            .with_max_negotiating_inbound_streams(MAX_NEGOTIATING_STREAMS);
        let mut swarm = Swarm::new(transport::build(&keypair, &config, metrics)?, behaviours, own, swarm_config);
        listen(&mut swarm, &config)?;

        let expected = Readiness { expected_peers: expected_peers(&config, &dialer), ..Readiness::default() };
        let (readiness, readiness_receiver) = watch::channel(expected);
        let (unreached, unreached_receiver) = watch::channel(vec![]);
        let stop = Arc::new(Notify::new());
        let driver = Driver {
            swarm,
            config,
            metrics: metrics.clone(),
            traffic,
            broadcasts,
            links_changed,
            dialer,
            connected: HashSet::new(),
            refused: HashSet::new(),
            readiness,
            unreached,
            stop: stop.clone(),
        };
        let task = spawn(driver.run(outgoing));
        Ok(Self { task, stop, readiness: readiness_receiver, unreached: unreached_receiver })
    }

    /// Progress towards readiness, now and after every change.
    pub fn readiness(&self) -> watch::Receiver<Readiness> {
        self.readiness.clone()
    }

    /// Peers that could not be reached, with the causes, now and after every change.
    pub fn unreached(&self) -> watch::Receiver<Vec<UnreachedPeer>> {
        self.unreached.clone()
    }

    /// Closes all connections and the port.
    pub async fn stop(self) {
        self.stop.notify_one();
        // An error here means that the task has ended already.
        let _ = self.task.await;
    }
}

/// Peers that may connect: those of the list. A node without a list accepts every node of the roster, because the
/// others connect to it. A connection that is in only one of the two lists would carry messages past the topology of
/// the run.
fn neighbours(config: &NetworkConfig, own: PeerId) -> Vec<PeerId> {
    let listed: Vec<PeerId> = config.bootstrap.iter().map(|entry| entry.peer).filter(|peer| *peer != own).collect();
    if listed.is_empty() {
        return config.roster.peers().iter().copied().filter(|peer| *peer != own).collect();
    }
    listed
}

/// Maximum number of inbound connections under negotiation: as many as all peers could open at once, as far as open
/// files allow. Further connections of strangers are closed at once, and each other one after ten seconds of silence.
fn most_pending(expected_peers: usize) -> u32 {
    /// Minimum for networks of every size.
    const LEAST: u64 = 256;
    /// Part of the open files that they may take; the endpoint and established connections need the rest.
    const SHARE_OF_FILES: u64 = 4;
    let wanted = LEAST.max(expected_peers as u64);
    u32::try_from(wanted.min(raise_fd_limit() / SHARE_OF_FILES).max(1)).unwrap_or(u32::MAX)
}

/// A node without a list of peers waits for all others to connect.
fn expected_peers(config: &NetworkConfig, dialer: &Dialer) -> usize {
    match dialer.expected() {
        0 => config.roster.peers().len().saturating_sub(1),
        expected => expected,
    }
}

fn listen(swarm: &mut Swarm<Behaviours>, config: &NetworkConfig) -> Result<(), NetworkError> {
    let socket = SocketAddr::new(config.listen_address, config.port);
    let failed = |error: &dyn std::fmt::Display| NetworkError::Listen {
        address: format!("{socket} ({})", if config.quic { "UDP" } else { "TCP" }),
        reason: error.to_string(),
    };
    // libp2p lets two processes share a port: each would get some of the other's connections.
    if clock::is_virtual() {
        // The model lets one listen.
    } else if config.quic {
        UdpSocket::bind(socket).map(drop).map_err(|error| failed(&error))?;
    } else {
        TcpListener::bind(socket).map(drop).map_err(|error| failed(&error))?;
    }
    let host = match config.listen_address {
        IpAddr::V4(address) => Part::Ip4(address),
        IpAddr::V6(address) => Part::Ip6(address),
    };
    let address = Multiaddr::empty().with(host);
    let address = if config.quic {
        address.with(Part::Udp(config.port)).with(Part::QuicV1)
    } else {
        address.with(Part::Tcp(config.port))
    };
    swarm.listen_on(address).map_err(|error| failed(&error))?;
    Ok(())
}

/// Waits until `due`, and returns that time; for ever without it.
async fn at(due: Option<Instant>) -> Instant {
    match due {
        Some(due) => sleep_until(due).await,
        None => std::future::pending().await,
    }
    Instant::now()
}

impl Driver {
    async fn run(mut self, mut outgoing: mpsc::Receiver<Outgoing>) {
        let mut dial_tick = interval(DIAL_TICK);
        let stop = self.stop.clone();
        let links_changed = self.links_changed.clone();
        let mut backlog_waits_until = Instant::now();
        let is_virtual = clock::is_virtual();
        loop {
            let due = self.broadcasts.due();
            let backlog_waits = Instant::now() < backlog_waits_until;
            // The order of equals is drawn, so that none starves another. In virtual time it is fixed, because the draw
            // depends on the whole process; nothing starves there, because work takes no time.
            macro_rules! next {
                ($($order:tt)?) => {
                    tokio::select! {
                        $($order;)?
                        event = self.swarm.select_next_some() => {
                            processor::done().await;
                            self.on_event(event)
                        }
                        Some(message) = outgoing.recv(), if !backlog_waits => {
                            let started = Instant::now();
                            self.send(message);
                            // Signing and copying a large message takes long, and on one thread the connections wait for
                            // it. A backlog leaves them half of the time; otherwise it would be published completely
                            // before any of it is sent.
                            if !outgoing.is_empty() {
                                backlog_waits_until = Instant::now() + started.elapsed();
                            }
                        }
                        () = yield_now(), if backlog_waits => {}
                        () = links_changed.notified() => self.update_readiness(),
                        () = dial_tick.tick(), if self.dialer.connected_count() < self.dialer.expected() => self.dial(),
                        now = at(due) => self.broadcasts.work(self.swarm.behaviour_mut(), now),
                        () = stop.notified() => break,
                    }
                };
            }
            if is_virtual {
                next!(biased);
            } else {
                next!();
            }
        }
        self.metrics.network_connected_peers.set(0);
        self.metrics.network_ready.set(0);
    }

    fn dial(&mut self) {
        for (peer, addresses) in self.dialer.due(Instant::now()) {
            let options = DialOpts::peer_id(peer)
                .addresses(addresses)
                .condition(PeerCondition::DisconnectedAndNotDialing)
                .build();
            if let Err(error) = self.swarm.dial(options) {
                debug!(%peer, %error, "not dialled");
            }
        }
    }

    fn send(&mut self, mut message: Outgoing) {
        if !self.traffic.about_to_send(&mut message) {
            return;
        }
        let bytes = std::mem::take(&mut message.bytes);
        let size = bytes.len() as u64;
        processor::work(1, 0);
        let behaviours = self.swarm.behaviour_mut();
        let handover = self.broadcasts.send(behaviours, message.class, message.index, bytes);
        self.traffic.handed_over(&message, size, handover);
    }

    fn on_event(&mut self, event: SwarmEvent<BehavioursEvent>) {
        events::record(&event, &self.metrics);
        match event {
            SwarmEvent::Behaviour(BehavioursEvent::Ping(event)) => self.on_ping(event),
            SwarmEvent::Behaviour(event) => self.on_behaviour(&event),
            SwarmEvent::ConnectionEstablished { peer_id, .. } => {
                self.connected.insert(peer_id);
                if self.dialer.connected(&peer_id) {
                    self.update_unreached();
                }
                self.broadcasts.connected(peer_id);
                self.update_readiness();
            }
            SwarmEvent::ConnectionClosed { peer_id, num_established: 0, .. } => {
                self.connected.remove(&peer_id);
                self.dialer.disconnected(&peer_id);
                self.broadcasts.disconnected(&peer_id);
                self.update_readiness();
            }
            SwarmEvent::OutgoingConnectionError { peer_id: Some(peer), error, .. } => self.on_failed_dial(peer, &error),
            SwarmEvent::IncomingConnectionError { error: ListenError::Denied { .. }, peer_id: Some(peer), .. } => {
                self.refuse(peer)
            }
            _ => {}
        }
    }

    fn on_behaviour(&mut self, event: &BehavioursEvent) {
        if self.broadcasts.on_event(self.swarm.behaviour_mut(), event) {
            self.update_readiness();
        }
    }

    fn on_failed_dial(&mut self, peer: PeerId, error: &DialError) {
        let Some((address, cause)) = unreached::cause(error) else { return };
        let outcome = self.dialer.failed(&peer, address.clone(), cause.clone(), Instant::now());
        if outcome.warn {
            warn!(node = self.config.roster.id(&peer), %peer, %address, %cause, "a peer is not reached");
        }
        if outcome.changed {
            self.update_unreached();
        }
    }

    fn update_unreached(&self) {
        self.unreached.send_replace(self.dialer.unreached(&self.config.roster));
    }

    /// Counts a ping. A peer that does not answer is disconnected, because its connection would keep it out when it
    /// returns: one connection per peer is permitted.
    fn on_ping(&mut self, event: ping::Event) {
        match event.result {
            Ok(round_trip) => self.metrics.ping_latency_seconds.observe(round_trip.as_secs_f64()),
            Err(ping::Failure::Unsupported) => {}
            Err(error) => {
                warn!(peer = %event.peer, %error, "ping failed, closing the connection");
                self.metrics.network_event_counter.of("ping_failure").inc();
                self.swarm.close_connection(event.connection);
            }
        }
    }

    /// Counts a stranger. Two connections of one allowed peer are refused too, but that peer is no stranger.
    fn refuse(&mut self, peer: PeerId) {
        /// Maximum number of strangers that are distinguished; beyond a thousand, the exact number does not matter.
        const MOST_STRANGERS: usize = 1000;
        let known = self.swarm.behaviour().allowed.allowed_peers().contains(&peer);
        if !known && self.refused.len() < MOST_STRANGERS && self.refused.insert(peer) {
            self.metrics.network_blacklisted_peers.set(self.refused.len() as i64);
        }
    }

    fn update_readiness(&mut self) {
        let expected_peers = expected_peers(&self.config, &self.dialer);
        let connected_peers =
            if self.dialer.expected() == 0 { self.connected.len() } else { self.dialer.connected_count() };
        let (links, expected_links) = self.broadcasts.links(expected_peers);
        let now = Readiness { expected_peers, connected_peers, expected_links, links };
        self.metrics.network_connected_peers.set(self.connected.len() as i64);
        self.metrics.network_ready.set(now.is_ready().into());
        self.readiness.send_if_modified(|readiness| std::mem::replace(readiness, now) != now);
    }
}
