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
    sync::{Mutex, Semaphore, watch},
    task::{JoinHandle, JoinSet},
};

use super::{
    connect::Cluster,
    error::KubernetesError,
    pods::{PodState, list},
    text::one_line,
};
use crate::clock::{Instant, sleep, timeout};

/// Maximum number of connections through one port at once; further connections wait.
const MOST_CONNECTIONS: usize = 64;

/// Maximum time that a connection waits for a pod that is being restarted.
const WAIT_FOR_POD: Duration = Duration::from_secs(5);

/// Interval of looking for an absent pod.
const LOOK: Duration = Duration::from_millis(500);

/// Maximum time to wait for the server to open a port.
const OPEN_TIMEOUT: Duration = Duration::from_secs(10);

/// Maximum time to wait for an answer after the client has closed its sending half.
const LAST_WORDS: Duration = Duration::from_secs(10);

/// Pod and port to forward.
#[derive(Clone, Debug)]
pub struct ForwardTarget {
    /// Name in log lines.
    pub name: String,
    /// Namespace of the pod.
    pub namespace: String,
    /// Selector of the pod, by label.
    pub selector: String,
    /// The pod's index in its Job, if it has one.
    pub index: Option<u64>,
    /// The container's port.
    pub port: u16,
}

/// An open port; closed when it is dropped.
pub struct Forward {
    /// Address on this machine.
    pub local: SocketAddr,
    task: JoinHandle<()>,
}

impl Drop for Forward {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Receives a line when a port breaks and when it works again.
pub type Report = Arc<dyn Fn(&str) + Send + Sync>;

struct Port {
    cluster: Cluster,
    api: Api<Pod>,
    target: ForwardTarget,
    /// Pod of the last connection.
    pod: Mutex<Option<String>>,
    broken: AtomicBool,
    report: Report,
    /// Receives the line of a refusal that no other attempt changes.
    refused: Option<watch::Sender<Option<String>>>,
}

/// Opens a port on 127.0.0.1 that leads to the pod that exists when a client connects. `local` 0 takes a free port.
/// `refused` receives the server's words if it forbids the user to open ports.
///
/// # Errors
/// Fails if the local port is taken.
pub async fn forward(
    cluster: &Cluster,
    target: ForwardTarget,
    local: u16,
    report: Report,
    refused: Option<watch::Sender<Option<String>>>,
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
        refused,
    });
    Ok(Forward { local, task: tokio::spawn(accept(listener, port)) })
}

async fn accept(listener: TcpListener, port: Arc<Port>) {
    let places = Arc::new(Semaphore::new(MOST_CONNECTIONS));
    // Ends with this task, together with all connections.
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
                // For example too many open files, which is temporary.
                Err(_) => sleep(LOOK).await,
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

impl Port {
    /// Serves one connection, from its opening to its end.
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

    /// Opens a stream to the present pod.
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
            Ok(Err(error)) => {
                let error = self.cluster.error(&format!("the port of {name}"), &error);
                if let (KubernetesError::Refused { code: 401 | 403, line }, Some(refused)) = (&error, &self.refused) {
                    refused.send_replace(Some(line.clone()));
                }
                error.to_string()
            }
            Err(_) => format!("{name}: the server does not open the port"),
        };
        *self.pod.lock().await = None;
        Err(failed)
    }

    /// Finds the running pod.
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

/// Copies bytes in both directions until the pod's side ends.
async fn pump(outside: TcpStream, inside: impl AsyncRead + AsyncWrite, through: &AtomicBool) {
    let (mut outside_in, mut outside_out) = outside.into_split();
    let (mut inside_in, mut inside_out) = split(inside);
    let asked = async {
        let _ = tokio::io::copy(&mut outside_in, &mut inside_out).await;
        // Closing this half would close the other one too, and the answer may still be under way.
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
