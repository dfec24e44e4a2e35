//! Life of a node, from its first port to its last summary.

use std::{ffi::CString, net::SocketAddr, os::unix::ffi::OsStrExt, path::Path, sync::Arc, time::Duration};

use listenfd::ListenFd;
use prometheus::Registry;
use tokio::{
    net::TcpListener,
    runtime::{self, Runtime},
};
use tracing::{info, warn};

use super::{
    config::NodeConfig,
    driver::TrafficDriver,
    error::{Failure, UsageError},
    http, logging,
    profile::Profiler,
    serve::serve,
    shared::{Node, Parts},
    shared_workload::SharedWorkload,
    state::NodeState,
    workload::Workload,
};
use crate::{
    clock::{self, Instant, interval, sleep},
    machine::Machine,
    metrics::{Metrics, SystemSampler},
    network::{Roster, peer_id},
    open_files::raise_fd_limit,
    probe::Responder,
    signals::Interrupts,
};

/// Interval of the system samples and of the summary file.
const SAMPLE_EVERY: Duration = Duration::from_secs(1);
const WRITE_EVERY: Duration = Duration::from_secs(5);

/// Runs a node to its end: by itself, by `--timeout` or by a signal.
///
/// # Errors
/// Fails if it can't run, or fails.
pub fn run(args: NodeConfig) -> Result<(), Failure> {
    take_name();
    // Before anything reads the clock.
    clock::adopt();
    let other = |what: &str, error: &dyn std::fmt::Display| Failure::Other(format!("{what}: {error}"));
    let usage = |error: UsageError| Failure::Usage(error.to_string());
    args.validate().map_err(usage)?;
    let workload = Workload::of(&args.scenario).map_err(usage)?;
    clock::check().map_err(Failure::Other)?;
    let token = args.token().map_err(|error| Failure::Usage(error.to_string()))?;
    let open_files = raise_fd_limit();
    let registry = Registry::new();
    let metrics =
        Metrics::register_classes(&registry, &workload.class_names()).map_err(|error| other("metrics", &error))?;
    metrics.explore_trial.set(-1);
    logging::start(args.scenario.nodes.verbosity, args.log_limit_mib, &metrics);

    let worker_threads = args
        .scenario
        .nodes
        .worker_threads
        .map_or_else(|| std::thread::available_parallelism().map_or(1, usize::from), usize::from);
    // The endpoint and the timers have a thread of their own, so that an overloaded network still answers.
    let main = runtime::Builder::new_current_thread().enable_all().build().map_err(|error| other("runtime", &error))?;
    let p2p = P2pRuntime::new(worker_threads).map_err(|error| other("runtime", &error))?;

    let profile = args.profile_mode.zip(args.profile_output.as_deref());
    let profiler = profile
        .map(|(mode, output)| Profiler::start(mode, output))
        .transpose()
        .map_err(|error| Failure::Usage(format!("--profile-mode: {error}")))?;

    let parts = Parts {
        registry,
        metrics,
        workload: Arc::new(SharedWorkload::new(workload)),
        roster: Arc::new(Roster::new(args.scenario.nodes.count)),
        p2p: p2p.handle.clone(),
        worker_threads,
        profiler,
        token,
        open_files,
        machine: Some(Machine::default()),
    };
    let node = Arc::new(Node::new(args, parts));
    let ended = main.block_on(live(node));
    // A running probe is not waited for.
    main.shutdown_background();
    ended
}

/// Sets the process name, so that lists of processes show the program's name: a runner starts it by a descriptor.
fn take_name() {
    let program = std::env::args_os().next().unwrap_or_default();
    let name = Path::new(&program).file_name().unwrap_or_default();
    if let Ok(name) = CString::new(name.as_bytes()) {
        // The kernel cuts it after 15 bytes. A failure only makes the process harder to recognise.
        let _ = nix::sys::prctl::set_name(&name);
    }
}

/// Runtime that carries the network: one thread, or a pool.
struct P2pRuntime {
    handle: runtime::Handle,
    _pool: Option<Runtime>,
}

impl P2pRuntime {
    fn new(worker_threads: usize) -> std::io::Result<Self> {
        if worker_threads > 1 {
            let pool = runtime::Builder::new_multi_thread().worker_threads(worker_threads).enable_all().build()?;
            return Ok(Self { handle: pool.handle().clone(), _pool: Some(pool) });
        }
        // A pool of one would wake its thread through a queue; this runtime polls in place.
        let single = runtime::Builder::new_current_thread().enable_all().build()?;
        let handle = single.handle().clone();
        std::thread::Builder::new()
            .name("network".into())
            .spawn(move || single.block_on(std::future::pending::<()>()))?;
        Ok(Self { handle, _pool: None })
    }
}

async fn live(node: Arc<Node>) -> Result<(), Failure> {
    let address = SocketAddr::new(node.args.metric_address, node.args.metric_port);
    let listener = listener(address).await.map_err(|error| {
        Failure::Usage(format!("can't listen on {address} (TCP): {error}; give another --metric-port"))
    })?;
    let probe_address = node.args.probe_port.map(|port| SocketAddr::new(node.args.p2p_address, port));
    let _responder = probe_address
        .map(|address| {
            Responder::start(address).map_err(|error| {
                Failure::Usage(format!("can't listen on {address} (UDP): {error}; give another --probe-port"))
            })
        })
        .transpose()?;
    let mut interrupts = Interrupts::new().map_err(|error| Failure::Other(error.to_string()))?;

    let mut driver = TrafficDriver::new(node.clone());
    let outgoing = driver.build_network(node.workload.first_message_size()).await?;
    // The first sample contains the past of the process and of the kernel's counters, so it comes before the first
    // scrape: afterwards it would look like growth.
    let mut sampler = SystemSampler::new(node.metrics.clone());
    sampler.sample();
    tokio::spawn(serve(listener, http::router(node.clone()), node.open_files));
    tokio::spawn(watch_over(node.clone(), sampler));
    info!(id = node.args.id, peer = %peer_id(node.args.id), %address, "node is up");

    let over = async {
        tokio::select! {
            cause = interrupts.next() => info!("{cause}"),
            () = node.end.notified() => info!("ending on request"),
            () = sleep(Duration::from_secs(node.args.lifetime_seconds)) => info!("timeout"),
        }
    };
    tokio::pin!(over);
    let mut quiet = false;
    let ended = tokio::select! {
        ended = driver.run(outgoing) => ended,
        () = node.quiesce.notified() => { quiet = true; Ok(()) }
        () = &mut over => Ok(()),
    };
    driver.end().await;
    if quiet {
        // Requests to this node's endpoint, and measurements of the links, continue.
        info!("the network is closed");
        over.await;
    }
    if node.recorder.sends_without_end() {
        node.count_missed();
    }
    node.set_phase(NodeState::Finished);
    node.write_summary().map_err(Failure::Other)?;
    node.profiler.as_ref().map_or(Ok(()), Profiler::finish).map_err(Failure::Other)?;
    ended
}

/// A listening socket that was passed to this process (as systemd does, in `LISTEN_FDS`), or a new one.
async fn listener(address: SocketAddr) -> std::io::Result<TcpListener> {
    match ListenFd::from_env().take_tcp_listener(0)? {
        Some(listener) => {
            listener.set_nonblocking(true)?;
            TcpListener::from_std(listener)
        }
        None => TcpListener::bind(address).await,
    }
}

/// Samples the system and writes the summary file, until the node ends.
async fn watch_over(node: Arc<Node>, mut sampler: SystemSampler) {
    let mut tick = interval(SAMPLE_EVERY);
    let mut written = Instant::now();
    loop {
        tick.tick().await;
        sampler.sample();
        if let Some(micros) = node.machine.as_ref().and_then(Machine::sample) {
            warn!(seconds = micros as f64 / 1e6, "the wall clock was set");
        }
        // Without a common start, nodes share only the wall clock.
        clock::follow_steps();
        if written.elapsed() >= WRITE_EVERY {
            written = Instant::now();
            if let Err(error) = node.write_summary() {
                warn!(%error, "summary not written");
            }
        }
    }
}
