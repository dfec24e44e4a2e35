//! A port of a pod, opened on this machine.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use k8s_openapi::api::core::v1::Pod;
use kube::{Api, api::Portforwarder};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, split},
    net::{TcpListener, TcpStream},
    sync::{Mutex, Semaphore},
    task::{JoinHandle, JoinSet},
    time::{Instant, sleep, timeout},
};

use super::{
    connect::Cluster,
    error::KubernetesError,
    pods::{PodState, list},
    text::one_line,
};

/// Most connections through one port at once; further ones wait.
const MOST_CONNECTIONS: usize = 64;

/// How long a connection waits for a pod that is being started again.
const WAIT_FOR_POD: Duration = Duration::from_secs(5);

/// Pace at which a pod that is not there is looked for.
const LOOK: Duration = Duration::from_millis(500);

/// Longest wait for the server to open a port.
const OPEN_TIMEOUT: Duration = Duration::from_secs(10);

/// How long an answer may still come after the one who asked has said his last.
const LAST_WORDS: Duration = Duration::from_secs(10);

/// Which port of which pod.
#[derive(Clone, Debug)]
pub struct ForwardTarget {
    /// What it is called in lines.
    pub name: String,
    /// Where the pod is.
    pub namespace: String,
    /// The pod's labels.
    pub selector: String,
    /// The pod's index in its Job, if it has one.
    pub index: Option<u64>,
    /// The container's port.
    pub port: u16,
}

/// An open port; closed when it is dropped.
pub struct Forward {
    /// Where it listens on this machine.
    pub local: SocketAddr,
    task: JoinHandle<()>,
}

impl Drop for Forward {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Hears when a port is broken and when it is back.
pub type Report = Arc<dyn Fn(&str) + Send + Sync>;

struct Port {
    cluster: Cluster,
    api: Api<Pod>,
    target: ForwardTarget,
    /// The pod that was there last.
    pod: Mutex<Option<String>>,
    broken: AtomicBool,
    report: Report,
}

/// Opens a port on 127.0.0.1 that leads to the pod which is there when somebody connects. `local` 0 takes a free one.
///
/// # Errors
/// When the local port is taken.
pub async fn forward(
    cluster: &Cluster,
    target: ForwardTarget,
    local: u16,
    report: Report,
) -> Result<Forward, KubernetesError> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, local));
    let listener = TcpListener::bind(address).await.map_err(|error| {
        let way = if error.kind() == io::ErrorKind::AddrInUse { ": give another port" } else { "" };
        KubernetesError::Usage(format!("{}: {address}: {error}{way}", target.name))
    })?;
    let local = listener.local_addr().map_err(|error| KubernetesError::Failed(error.to_string()))?;
    let port = Arc::new(Port {
        cluster: cluster.clone(),
        api: cluster.api(&target.namespace),
        target,
        pod: Mutex::new(None),
        broken: AtomicBool::new(false),
        report,
    });
    Ok(Forward { local, task: tokio::spawn(accept(listener, port)) })
}

async fn accept(listener: TcpListener, port: Arc<Port>) {
    let places = Arc::new(Semaphore::new(MOST_CONNECTIONS));
    // Ends with this task, and all connections with it.
    let mut connections = JoinSet::new();
    loop {
        let place = places.clone().acquire_owned().await;
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    let port = port.clone();
                    connections.spawn(async move {
                        let _place = place;
                        port.connect(stream).await;
                    });
                }
                // Too many open files, say: it passes.
                Err(_) => sleep(LOOK).await,
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

impl Port {
    /// One connection, from its opening to its end.
    async fn connect(&self, stream: TcpStream) {
        let since = Instant::now();
        let mut forwarder = loop {
            match self.open().await {
                Ok(forwarder) => break forwarder,
                Err(why) => {
                    self.breaks(&why);
                    if since.elapsed() > WAIT_FOR_POD {
                        return;
                    }
                    sleep(LOOK).await;
                }
            }
        };
        let number = self.target.port;
        let (Some(inside), Some(error)) = (forwarder.take_stream(number), forwarder.take_error(number)) else { return };
        let through = Arc::new(AtomicBool::new(false));
        tokio::select! {
            () = pump(stream, inside, &through) => {}
            Some(why) = error => {
                // Nobody listens there yet, or the container has ended.
                *self.pod.lock().await = None;
                self.breaks(&one_line(&why));
            }
        }
        if through.load(Ordering::Relaxed) && self.broken.swap(false, Ordering::Relaxed) {
            (self.report)(&format!("{}: back", self.target.name));
        }
        forwarder.abort();
    }

    fn breaks(&self, why: &str) {
        if !self.broken.swap(true, Ordering::Relaxed) {
            (self.report)(&format!("{}: broken: {why}", self.target.name));
        }
    }

    /// A way into the pod which is there now.
    async fn open(&self) -> Result<Portforwarder, String> {
        let mut pod = self.pod.lock().await;
        let name = match &*pod {
            Some(name) => name.clone(),
            None => self.resolve().await?,
        };
        *pod = Some(name.clone());
        drop(pod);
        let opened = timeout(OPEN_TIMEOUT, self.api.portforward(&name, &[self.target.port])).await;
        let failed = match opened {
            Ok(Ok(forwarder)) => return Ok(forwarder),
            Ok(Err(error)) => self.cluster.error(&name, &error).to_string(),
            Err(_) => format!("{name}: the server does not open the port"),
        };
        *self.pod.lock().await = None;
        Err(failed)
    }

    /// The pod that runs now.
    async fn resolve(&self) -> Result<String, String> {
        let target = &self.target;
        let pods = list(&self.cluster, &target.namespace, &target.selector).await.map_err(|error| error.to_string())?;
        let fits = pods.iter().filter(|pod| pod.metadata.deletion_timestamp.is_none()).map(PodState::of);
        let mut fits = fits.filter(|state| target.index.is_none() || state.index == target.index).collect::<Vec<_>>();
        fits.sort_by_key(|state| (state.phase == "Running", state.ready));
        match fits.pop() {
            Some(state) if state.phase == "Running" => Ok(state.pod),
            Some(state) => Err(format!("{} does not run ({})", state.pod, state.reason.unwrap_or(state.phase))),
            None => Err("there is no pod".into()),
        }
    }
}

/// Carries bytes both ways until the pod's side ends.
async fn pump(outside: TcpStream, inside: impl AsyncRead + AsyncWrite, through: &AtomicBool) {
    let (mut outside_in, mut outside_out) = outside.into_split();
    let (mut inside_in, mut inside_out) = split(inside);
    let asked = async {
        let _ = tokio::io::copy(&mut outside_in, &mut inside_out).await;
        // To close this half would close the other one too: the answer may still be under way.
        sleep(LAST_WORDS).await;
    };
    let answered = async {
        let mut buffer = vec![0; 16 << 10];
        while let Ok(count @ 1..) = inside_in.read(&mut buffer).await {
            through.store(true, Ordering::Relaxed);
            if outside_out.write_all(&buffer[..count]).await.is_err() {
                break;
            }
        }
        let _ = outside_out.shutdown().await;
    };
    tokio::select! {
        () = asked => {}
        () = answered => {}
    }
}
