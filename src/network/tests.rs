//! Networks of a few nodes over loopback.

use std::{
    net::{IpAddr, Ipv4Addr, TcpListener},
    sync::{Arc, Mutex},
    time::Duration,
};

use libp2p::PeerId;
use tokio::sync::mpsc;

use super::{
    Backlog, Broadcasters, Channel, DEFAULT_TOPIC, Handover, Network, NetworkConfig, NetworkError, Outgoing,
    PeerAddress, PropellerCounts, Readiness, Roster, Traffic, peer_id,
};
use crate::{
    clock::{Instant, sleep, timeout},
    message::{Extension, MAX_MESSAGE_SIZE, compose},
    metrics::Metrics,
    scenario::{GossipSettings, Protocol},
};

/// An arrived message, with the network's facts about it.
#[derive(Clone, Debug)]
struct Arrival {
    at: Instant,
    source: Option<PeerId>,
    class: Option<u16>,
    bytes: Vec<u8>,
}

#[derive(Default)]
struct Recorded {
    arrivals: Mutex<Vec<Arrival>>,
    handovers: Mutex<Vec<Handover>>,
}

impl Traffic for Recorded {
    fn about_to_send(&self, _: &mut Outgoing) -> bool {
        true
    }

    fn handed_over(&self, _: &Outgoing, _: u64, handover: Handover) {
        self.handovers.lock().unwrap().push(handover);
    }

    fn not_sent_to(&self, _peer: &PeerId, _copies: u64) {}

    fn received(&self, source: Option<PeerId>, _from: Option<PeerId>, class: Option<u16>, bytes: &[u8]) {
        let arrival = Arrival { at: Instant::now(), source, class, bytes: bytes.to_vec() };
        self.arrivals.lock().unwrap().push(arrival);
    }
}

struct TestNode {
    id: u64,
    network: Network,
    outgoing: mpsc::Sender<Outgoing>,
    traffic: Arc<Recorded>,
    metrics: Metrics,
}

impl TestNode {
    /// Starts node `id`, connected to `neighbours`; node i listens on `ports[i]`.
    fn start(id: u64, ports: &[u16], neighbours: &[u64], change: impl FnOnce(&mut NetworkConfig)) -> Self {
        Self::try_start(id, ports, neighbours, change).unwrap()
    }

    fn try_start(
        id: u64,
        ports: &[u16],
        neighbours: &[u64],
        change: impl FnOnce(&mut NetworkConfig),
    ) -> Result<Self, NetworkError> {
        let address = |other: &u64| -> PeerAddress {
            let port = ports[usize::try_from(*other).unwrap()];
            format!("/ip4/127.0.0.1/tcp/{port}/p2p/{}", peer_id(*other)).parse().unwrap()
        };
        let mut config = NetworkConfig {
            id,
            roster: Arc::new(Roster::new(ports.len() as u64)),
            listen_address: IpAddr::V4(Ipv4Addr::LOCALHOST),
            port: ports[usize::try_from(id).unwrap()],
            bootstrap: neighbours.iter().map(address).collect(),
            quic: false,
            channels: vec![],
            validation_delay: Duration::ZERO,
            propeller_stale: Duration::from_secs(120),
            propeller_counts: PropellerCounts::default(),
            gossip: GossipSettings::default(),
            queue_bytes: 64 << 20,
            queue_messages: 1000,
            backlog: Backlog::default(),
        };
        change(&mut config);
        let (outgoing, receiver) = mpsc::channel(100);
        let (traffic, metrics) =
            (Arc::new(Recorded::default()), Metrics::register(&prometheus::Registry::new()).unwrap());
        let network = Network::start(config, receiver, traffic.clone(), &metrics, None)?;
        Ok(Self { id, network, outgoing, traffic, metrics })
    }

    async fn ready(&self) -> Readiness {
        let mut readiness = self.network.readiness();
        let ready = timeout(Duration::from_secs(20), readiness.wait_for(Readiness::is_ready)).await;
        *ready
            .unwrap_or_else(|_| panic!("node {} is not ready: {}", self.id, *self.network.readiness().borrow()))
            .unwrap()
    }

    async fn send(&self, class: u16, index: u64, size: usize) {
        let bytes = compose(self.id, index, 1, size, &Extension::default());
        let message = Outgoing {
            intended_unix_nanos: 1,
            next_unix_nanos: 2,
            handed_over_unix_nanos: 0,
            trial: 0,
            class,
            index,
            bytes,
        };
        self.outgoing.send(message).await.unwrap();
    }

    /// The first `count` arrivals. Without optimisation, a busy processor takes many seconds for the largest messages.
    async fn arrivals(&self, count: usize) -> Vec<Arrival> {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let arrivals = self.traffic.arrivals.lock().unwrap().clone();
            if arrivals.len() >= count {
                return arrivals;
            }
            assert!(Instant::now() < deadline, "node {} got {} of {count} messages", self.id, arrivals.len());
            sleep(Duration::from_millis(5)).await;
        }
    }
}

fn channel(protocol: Protocol, topic: &str) -> Channel {
    Channel { topic: topic.into(), ..Channel::of_default_class(protocol, Broadcasters::All, 1 << 20) }
}

fn free_ports(count: usize) -> Vec<u16> {
    let listeners: Vec<TcpListener> = (0..count).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
    listeners.iter().map(|listener| listener.local_addr().unwrap().port()).collect()
}

/// Starts one node for each list of neighbours, all with the same changes, and waits until all are ready.
async fn network(neighbours: &[&[u64]], change: impl Fn(&mut NetworkConfig)) -> Vec<TestNode> {
    let ports = free_ports(neighbours.len());
    let start = |(id, neighbours): (u64, &&[u64])| TestNode::start(id, &ports, neighbours, &change);
    let nodes: Vec<TestNode> = (0..).zip(neighbours).map(start).collect();
    for node in &nodes {
        node.ready().await;
    }
    nodes
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_class_arrives_on_its_own_channel_over_all_protocols_at_once() {
    let nodes = network(&[&[1], &[0]], |config| {
        config.channels = vec![
            channel(Protocol::Gossipsub, DEFAULT_TOPIC),
            channel(Protocol::Sqmr, ""),
            channel(Protocol::ReversedSqmr, ""),
            channel(Protocol::Gossipsub, "stress_test_topic/votes"),
        ];
    })
    .await;
    let readiness = nodes[0].ready().await;
    assert_eq!((readiness.expected_peers, readiness.expected_links), (1, 3), "two subscriptions and a query");
    for class in 0..4 {
        nodes[0].send(class, 0, 100 + usize::from(class)).await;
        nodes[1].send(class, 0, 100 + usize::from(class)).await;
    }
    for (node, other) in [(0, 1), (1, 0)] {
        let mut arrivals = nodes[node].arrivals(4).await;
        arrivals.sort_by_key(|arrival| arrival.bytes.len());
        let came: Vec<_> = arrivals.iter().map(|arrival| (arrival.bytes.len(), arrival.class)).collect();
        assert_eq!(came, [(100, Some(0)), (101, None), (102, None), (103, Some(3))]);
        assert!(arrivals.iter().all(|arrival| arrival.source == Some(peer_id(other))));
        let handovers = nodes[node].traffic.handovers.lock().unwrap().clone();
        assert_eq!(handovers, [Handover { queued: 1, dropped: 0 }; 4]);
    }
    nodes[0].send(4, 0, 100).await;
    let dropped = || nodes[0].metrics.network_dropped_broadcast_messages.of("unknown_class").get();
    timeout(Duration::from_secs(5), async {
        while dropped() == 0 {
            sleep(Duration::from_millis(5)).await;
        }
    })
    .await
    .expect("a class without a channel is counted as dropped");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unicast_goes_in_turn_to_each_neighbour() {
    for protocol in [Protocol::Sqmr, Protocol::ReversedSqmr] {
        let nodes = network(&[&[1, 2, 3], &[0], &[0], &[0]], |config| {
            let broadcasters = Broadcasters::One(0);
            config.channels = vec![Channel { unicast: true, broadcasters, ..channel(protocol, "") }];
        })
        .await;
        for index in 0..7 {
            nodes[0].send(0, index, 100).await;
        }
        let mut came = vec![];
        for (node, count) in [(1, 3), (2, 2), (3, 2)] {
            let arrivals = nodes[node].arrivals(count).await;
            let mut indices: Vec<u8> = arrivals.iter().map(|arrival| arrival.bytes[15]).collect();
            indices.sort_unstable();
            came.push(indices);
        }
        assert_eq!(came, [vec![0, 3, 6], vec![1, 4], vec![2, 5]], "{protocol:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gossipsub_delivers_from_end_to_end_of_a_line() {
    let nodes = network(&[&[1], &[0, 2], &[1]], |config| {
        config.channels = vec![channel(Protocol::Gossipsub, DEFAULT_TOPIC)];
    })
    .await;
    let links: Vec<_> = nodes.iter().map(|node| node.network.readiness().borrow().expected_links).collect();
    assert_eq!(links, [1, 2, 1], "subscriptions of the neighbours, not of all nodes");
    for (from, to) in [(0, 2), (2, 0)] {
        nodes[from].send(0, 0, 200).await;
        let arrivals = nodes[to].arrivals(1).await;
        assert_eq!((arrivals[0].source, arrivals[0].bytes.len()), (Some(peer_id(from as u64)), 200));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_reaches_neighbours_only_and_no_broadcaster_is_needed_among_them() {
    for protocol in [Protocol::Sqmr, Protocol::ReversedSqmr] {
        let nodes = network(&[&[1], &[0, 2], &[1]], |config| {
            let broadcasters = Broadcasters::Several([0].into());
            config.channels = vec![Channel { broadcasters, ..channel(protocol, "") }];
        })
        .await;
        nodes[0].send(0, 0, 100).await;
        assert_eq!(nodes[1].arrivals(1).await.len(), 1);
        assert_eq!(nodes[0].traffic.handovers.lock().unwrap()[..], [Handover { queued: 1, dropped: 0 }]);
        assert_eq!(nodes[2].traffic.arrivals.lock().unwrap().len(), 0);
    }
}

/// Node 2 lists node 0, which does not list it; a node without a list accepts it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_a_node_without_a_list_takes_connections_of_nodes_that_it_does_not_list() {
    let channels = |config: &mut NetworkConfig| config.channels = vec![channel(Protocol::Sqmr, "")];
    let ports = free_ports(3);
    let refusing = TestNode::start(0, &ports, &[1], channels);
    let _neighbour = TestNode::start(1, &ports, &[0], channels);
    let _stranger = TestNode::start(2, &ports, &[0], channels);
    refusing.ready().await;
    timeout(Duration::from_secs(20), async {
        while refusing.metrics.network_blacklisted_peers.get() == 0 {
            sleep(Duration::from_millis(10)).await;
        }
    })
    .await
    .expect("node 2 is refused");

    let ports = free_ports(3);
    let nodes = [&[][..], &[0], &[0]];
    let nodes: Vec<_> = (0..).zip(nodes).map(|(id, list)| TestNode::start(id, &ports, list, channels)).collect();
    assert_eq!(nodes[0].ready().await.connected_peers, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_passes_a_message_on_after_its_validation_delay_and_not_before() {
    const DELAY: Duration = Duration::from_millis(300);
    let nodes = network(&[&[1], &[0, 2], &[1]], |config| {
        config.channels = vec![channel(Protocol::Gossipsub, DEFAULT_TOPIC)];
        config.validation_delay = DELAY;
        // The cache must keep a message for longer than libp2p's five heartbeats.
        config.gossip.heartbeat_millis = 20;
    })
    .await;
    // libp2p's first heartbeat comes after five seconds.
    sleep(Duration::from_millis(5200)).await;
    // A steady stream, because gossipsub's heartbeat passes only when something wakes the swarm.
    for index in 0..60 {
        nodes[0].send(0, index, 200).await;
        sleep(Duration::from_millis(10)).await;
    }
    let (middle, end) = (nodes[1].arrivals(60).await, nodes[2].arrivals(60).await);
    for (before, after) in middle.iter().zip(&end) {
        assert_eq!(before.bytes, after.bytes);
        let delay = after.at.duration_since(before.at);
        assert!(delay >= DELAY, "{delay:?}");
    }
    for lost in ["gossipsub_validated_too_late", "gossipsub_validated_early"] {
        assert_eq!(nodes[1].metrics.network_event_counter.of(lost).get(), 0);
    }
}

#[tokio::test]
async fn a_validation_delay_that_the_cache_can_not_bridge_is_refused() {
    let ports = free_ports(1);
    let config = |config: &mut NetworkConfig| {
        config.channels = vec![channel(Protocol::Gossipsub, DEFAULT_TOPIC)];
        config.validation_delay = Duration::from_millis(30_001);
    };
    let error = TestNode::try_start(0, &ports, &[], config).err().unwrap();
    assert!(error.to_string().contains("give at most 30000 ms"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_largest_message_arrives_over_every_protocol_among_small_ones_in_queues_that_are_smaller() {
    for protocol in [Protocol::Gossipsub, Protocol::Sqmr, Protocol::ReversedSqmr] {
        let nodes = network(&[&[1], &[0]], |config| {
            config.channels = vec![
                Channel { message_size: MAX_MESSAGE_SIZE, ..channel(protocol, DEFAULT_TOPIC) },
                Channel { message_size: 100, weight: 1000, ..channel(protocol, "votes") },
            ];
            config.queue_bytes = 1 << 20;
        })
        .await;
        nodes[0].send(0, 0, MAX_MESSAGE_SIZE).await;
        nodes[1].arrivals(1).await;
        for index in 0..20 {
            nodes[0].send(1, index, 100).await;
        }
        let mut sizes: Vec<_> = nodes[1].arrivals(21).await.iter().map(|arrival| arrival.bytes.len()).collect();
        sizes.sort_unstable();
        assert_eq!(sizes, [vec![100; 20], vec![MAX_MESSAGE_SIZE]].concat(), "{protocol:?}");
    }
}

/// Nodes of other programs may send more than this run's messages have.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_above_the_size_of_this_network_arrives_too() {
    for protocol in [Protocol::Gossipsub, Protocol::Sqmr, Protocol::ReversedSqmr] {
        let nodes = network(&[&[1], &[0]], |config| {
            config.channels = vec![Channel { message_size: 100, ..channel(protocol, DEFAULT_TOPIC) }];
        })
        .await;
        nodes[0].send(0, 0, 5 << 20).await;
        assert_eq!(nodes[1].arrivals(1).await[0].bytes.len(), 5 << 20, "{protocol:?}");
    }
}
