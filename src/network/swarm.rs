//! The task that owns the swarm.

use std::{
    collections::{HashMap, HashSet},
    net::{IpAddr, SocketAddr, TcpListener, UdpSocket},
    sync::Arc,
    time::{Duration, Instant},
};

use futures::StreamExt;
use libp2p::{
    Multiaddr, PeerId, Swarm,
    allow_block_list::{self, AllowedPeers},
    connection_limits::{self, ConnectionLimits},
    gossipsub,
    multiaddr::Protocol as Part,
    ping,
    swarm::{
        self, DialError, ListenError, NetworkBehaviour, SwarmEvent,
        behaviour::toggle::Toggle,
        dial_opts::{DialOpts, PeerCondition},
    },
};
use tokio::{
    sync::{Notify, mpsc, watch},
    task::{AbortHandle, JoinHandle, yield_now},
    time::{MissedTickBehavior, interval},
};
use tracing::{debug, warn};

use super::{
    Handover, NetworkConfig, NetworkError, Outgoing, Protocol, Readiness, Traffic, UnreachedPeer,
    budget::Budget,
    dialing::Dialer,
    events, gossip,
    identity::keypair,
    reversed_sqmr::{Sessions, pull},
    sqmr::{self, Querier},
    streams::{self, Opener},
    transport, unreached,
};
use crate::{metrics::Metrics, open_files::raise_open_files};

/// A benchmark may be silent for long, in a cool-down or between turns: connections must outlive that.
const IDLE_TIMEOUT: Duration = Duration::from_secs(24 * 3600);

/// How often it looks for peers to dial.
const DIAL_TICK: Duration = Duration::from_millis(50);

/// Pace of libp2p's ping.
const PING_INTERVAL: Duration = Duration::from_secs(5);

/// Inbound streams of one connection under negotiation; libp2p drops the stream above it. A peer that catches up after
/// a pause opens many at once.
const MAX_NEGOTIATING_STREAMS: usize = 512;

/// The behaviours of a node.
#[derive(NetworkBehaviour)]
pub(super) struct Behaviours {
    limits: connection_limits::Behaviour,
    allowed: allow_block_list::Behaviour<AllowedPeers>,
    ping: ping::Behaviour,
    gossip: Toggle<gossipsub::Behaviour>,
    streams: Toggle<streams::Behaviour>,
}

/// How this network broadcasts.
enum Broadcast {
    Gossip,
    Query(Querier),
    Respond {
        sessions: Sessions,
        opener: Opener,
        /// The queries to the connected broadcasters.
        pulls: HashMap<PeerId, AbortHandle>,
    },
}

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
    budget: Budget,
    broadcast: Broadcast,
    dialer: Dialer,
    connected: HashSet<PeerId>,
    subscribed: HashSet<PeerId>,
    refused: HashSet<PeerId>,
    readiness: watch::Sender<Readiness>,
    unreached: watch::Sender<Vec<UnreachedPeer>>,
    stop: Arc<Notify>,
}

impl Network {
    /// Listens, and starts to connect. Call it inside the tokio runtime that is to carry the network.
    ///
    /// # Errors
    /// When the port is taken, or the settings do not go together.
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
        let mut gossip = None;
        let mut streams = None;
        let broadcast = match config.protocol {
            Protocol::Gossipsub => {
                gossip = Some(gossip::behaviour(&keypair, &config, libp2p_registry)?);
                Broadcast::Gossip
            }
            Protocol::Sqmr => {
                let server = sqmr::server(traffic.clone(), budget.clone(), metrics);
                let querier = Querier::new(server.opener(), &config, metrics);
                streams = Some(server);
                Broadcast::Query(querier)
            }
            Protocol::ReversedSqmr => {
                let sessions = Sessions::new(&config, metrics);
                let server = sessions.server();
                let opener = server.opener();
                streams = Some(server);
                Broadcast::Respond { sessions, opener, pulls: HashMap::new() }
            }
        };
        let mut allowed = allow_block_list::Behaviour::<AllowedPeers>::default();
        let bootstrap = config.bootstrap.iter().map(|entry| &entry.peer);
        for peer in config.roster.peers().iter().chain(bootstrap).filter(|peer| **peer != own) {
            allowed.allow_peer(*peer);
        }
        let behaviours = Behaviours {
            limits: connection_limits::Behaviour::new(
                ConnectionLimits::default()
                    .with_max_established_per_peer(Some(1))
                    .with_max_pending_incoming(Some(most_pending(&config))),
            ),
            allowed,
            ping: ping::Behaviour::new(ping::Config::new().with_interval(PING_INTERVAL)),
            gossip: gossip.into(),
            streams: streams.into(),
        };
        let swarm_config = swarm::Config::with_tokio_executor()
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
            budget,
            broadcast,
            dialer,
            connected: HashSet::new(),
            subscribed: HashSet::new(),
            refused: HashSet::new(),
            readiness,
            unreached,
            stop: stop.clone(),
        };
        let task = tokio::spawn(driver.run(outgoing));
        Ok(Self { task, stop, readiness: readiness_receiver, unreached: unreached_receiver })
    }

    /// How far it is from being ready, now and whenever that changes.
    pub fn readiness(&self) -> watch::Receiver<Readiness> {
        self.readiness.clone()
    }

    /// Peers that could not be reached, and why, now and whenever that changes.
    pub fn unreached(&self) -> watch::Receiver<Vec<UnreachedPeer>> {
        self.unreached.clone()
    }

    /// Closes all connections and the port.
    pub async fn stop(self) {
        self.stop.notify_one();
        // An error here means that the task is gone already.
        let _ = self.task.await;
    }
}

/// Inbound connections that may be under negotiation: as many as all peers could open at once, so far as open files allow.
/// Connections of strangers beyond are closed at once, and each other one after ten seconds of silence.
fn most_pending(config: &NetworkConfig) -> u32 {
    /// For networks of every size.
    const LEAST: u64 = 256;
    /// Part of the open files that they may take; the endpoint and established connections need the rest.
    const SHARE_OF_FILES: u64 = 4;
    let wanted = LEAST.max(config.roster.peers().len() as u64);
    u32::try_from(wanted.min(raise_open_files() / SHARE_OF_FILES).max(1)).unwrap_or(u32::MAX)
}

/// A node without a list of peers waits for all others to come to it.
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
    if config.quic {
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

impl Driver {
    async fn run(mut self, mut outgoing: mpsc::Receiver<Outgoing>) {
        let mut dial_tick = interval(DIAL_TICK);
        dial_tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let stop = self.stop.clone();
        let sessions_changed = match &self.broadcast {
            Broadcast::Respond { sessions, .. } => sessions.changed.clone(),
            _ => Arc::default(),
        };
        let mut backlog_waits_until = Instant::now();
        loop {
            let backlog_waits = Instant::now() < backlog_waits_until;
            tokio::select! {
                event = self.swarm.select_next_some() => self.on_event(event),
                Some(message) = outgoing.recv(), if !backlog_waits => {
                    let started = Instant::now();
                    self.send(message);
                    // Signing and copying a large message takes long, and on one thread the connections wait for it. A
                    // backlog leaves them half of the time: else it would be published whole before any of it is sent.
                    if !outgoing.is_empty() {
                        backlog_waits_until = Instant::now() + started.elapsed();
                    }
                }
                () = yield_now(), if backlog_waits => {}
                () = sessions_changed.notified() => self.update_readiness(),
                _ = dial_tick.tick(), if self.dialer.connected_count() < self.dialer.expected() => self.dial(),
                () = stop.notified() => break,
            }
        }
        if let Broadcast::Respond { pulls, .. } = &self.broadcast {
            pulls.values().for_each(AbortHandle::abort);
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
        let handover = match &self.broadcast {
            Broadcast::Gossip => self.publish(bytes),
            Broadcast::Query(querier) => querier.broadcast(bytes),
            Broadcast::Respond { sessions, .. } => sessions.broadcast(&bytes),
        };
        self.traffic.handed_over(&message, size, handover);
    }

    fn publish(&mut self, bytes: Vec<u8>) -> Handover {
        let Some(gossip) = self.swarm.behaviour_mut().gossip.as_mut() else { return Handover::default() };
        let started = Instant::now();
        match gossip.publish(gossip::topic(), bytes) {
            Ok(_) => {
                let elapsed = started.elapsed().as_secs_f64();
                self.metrics.broadcast_message_send_delay_seconds.observe(elapsed);
                Handover { queued: 1, dropped: 0 }
            }
            Err(error) => {
                debug!(%error, "not published");
                self.metrics.network_dropped_broadcast_messages.of(events::drop_reason(&error)).inc();
                Handover { queued: 0, dropped: 1 }
            }
        }
    }

    fn on_event(&mut self, event: SwarmEvent<BehavioursEvent>) {
        events::record(&event, &self.metrics);
        match event {
            SwarmEvent::Behaviour(BehavioursEvent::Gossip(event)) => self.on_gossip(event),
            SwarmEvent::Behaviour(BehavioursEvent::Ping(event)) => self.on_ping(event),
            SwarmEvent::Behaviour(_) => {}
            SwarmEvent::ConnectionEstablished { peer_id, .. } => {
                self.connected.insert(peer_id);
                if self.dialer.connected(&peer_id) {
                    self.update_unreached();
                }
                self.on_connected(peer_id);
                self.update_readiness();
            }
            SwarmEvent::ConnectionClosed { peer_id, num_established: 0, .. } => {
                self.connected.remove(&peer_id);
                self.subscribed.remove(&peer_id);
                self.dialer.disconnected(&peer_id);
                match &mut self.broadcast {
                    Broadcast::Gossip => {}
                    Broadcast::Query(querier) => querier.disconnected(&peer_id),
                    Broadcast::Respond { sessions, pulls, .. } => {
                        sessions.disconnected(&peer_id);
                        if let Some(pull) = pulls.remove(&peer_id) {
                            pull.abort();
                        }
                    }
                }
                self.update_readiness();
            }
            SwarmEvent::OutgoingConnectionError { peer_id: Some(peer), error, .. } => self.on_failed_dial(peer, &error),
            SwarmEvent::IncomingConnectionError { error: ListenError::Denied { .. }, peer_id: Some(peer), .. } => {
                self.refuse(peer)
            }
            _ => {}
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

    fn on_connected(&mut self, peer: PeerId) {
        match &mut self.broadcast {
            Broadcast::Gossip => {}
            Broadcast::Query(querier) => querier.connected(peer),
            Broadcast::Respond { opener, pulls, .. } => {
                // A peer that is not of the roster may broadcast too.
                if self.config.roster.id(&peer).is_none_or(|id| self.config.broadcasters.contains(id)) {
                    let pull =
                        pull(peer, opener.clone(), self.traffic.clone(), self.budget.clone(), self.metrics.clone());
                    if let Some(old) = pulls.insert(peer, tokio::spawn(pull).abort_handle()) {
                        old.abort();
                    }
                }
            }
        }
    }

    /// Counts a ping. A peer that does not answer is gone: while its connection is there, one permitted connection per
    /// peer would keep it out when it comes back.
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

    /// Takes note of a stranger. Two connections of one allowed peer are refused too, but that peer is no stranger.
    fn refuse(&mut self, peer: PeerId) {
        /// Strangers that are told apart; a gauge that says "a thousand" has said enough.
        const MOST_STRANGERS: usize = 1000;
        let known = self.swarm.behaviour().allowed.allowed_peers().contains(&peer);
        if !known && self.refused.len() < MOST_STRANGERS && self.refused.insert(peer) {
            self.metrics.network_blacklisted_peers.set(self.refused.len() as i64);
        }
    }

    fn on_gossip(&mut self, event: gossipsub::Event) {
        let counted = match event {
            gossipsub::Event::Message { message, .. } => {
                self.traffic.received(message.source, None, &message.data);
                return;
            }
            gossipsub::Event::Subscribed { peer_id, topic } => {
                if topic == gossip::topic().hash() {
                    self.subscribed.insert(peer_id);
                    self.update_readiness();
                }
                "gossipsub_subscribed"
            }
            gossipsub::Event::Unsubscribed { peer_id, topic } => {
                if topic == gossip::topic().hash() {
                    self.subscribed.remove(&peer_id);
                    self.update_readiness();
                }
                "gossipsub_unsubscribed"
            }
            gossipsub::Event::GossipsubNotSupported { .. } => "gossipsub_not_supported",
            gossipsub::Event::SlowPeer { .. } => "gossipsub_slow_peer",
        };
        self.metrics.network_event_counter.of(counted).inc();
    }

    fn update_readiness(&mut self) {
        let expected_peers = expected_peers(&self.config, &self.dialer);
        let connected_peers =
            if self.dialer.expected() == 0 { self.connected.len() } else { self.dialer.connected_count() };
        let (links, expected_links) = match &self.broadcast {
            Broadcast::Gossip => (self.subscribed.len(), expected_peers),
            Broadcast::Query(_) => (0, 0),
            Broadcast::Respond { sessions, .. } => {
                let broadcasts = self.config.broadcasters.contains(self.config.id);
                (sessions.peers(), if broadcasts { expected_peers } else { 0 })
            }
        };
        let now = Readiness { expected_peers, connected_peers, expected_links, links };
        self.metrics.network_connected_peers.set(self.connected.len() as i64);
        self.metrics.network_ready.set(now.is_ready().into());
        self.readiness.send_if_modified(|readiness| std::mem::replace(readiness, now) != now);
    }
}
