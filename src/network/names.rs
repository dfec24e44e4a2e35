//! Names of peers, which the system's resolver looks up again for every dial.
//!
//! A resolver of our own would cache for half a minute that a pod's name does not exist yet, and read /etc/hosts once.
//! The C library caches nothing, and reads its files again when they change.

use std::{
    io,
    net::{IpAddr, ToSocketAddrs},
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
    thread,
    time::Duration,
};

use futures::{FutureExt, future::BoxFuture};
use libp2p::{
    Multiaddr, PeerId,
    core::{
        Transport,
        muxing::StreamMuxerBox,
        transport::{Boxed, DialOpts, ListenerId, TransportError, TransportEvent},
    },
    multiaddr::Protocol,
};
use tokio::sync::{Semaphore, oneshot};

use crate::clock::timeout;

/// Maximum number of concurrent lookups, each on a thread of its own: more would only wait for the same server.
const LOOKUPS_AT_ONCE: usize = 32;

/// Maximum time of one lookup. A server that is silent for longer is asked again with the next dial.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(4);

/// Maximum number of addresses of one name that are tried.
const MOST_ADDRESSES: usize = 8;

/// Filter of the addresses of a name that may be dialled.
type Wanted = fn(&IpAddr) -> bool;

type Inner = Boxed<(PeerId, StreamMuxerBox)>;

/// A transport that dials names too.
pub(super) struct Resolving {
    inner: Arc<Mutex<Inner>>,
    lookups: Arc<Semaphore>,
}

impl Resolving {
    pub(super) fn new(inner: Inner) -> Self {
        Self { inner: Arc::new(Mutex::new(inner)), lookups: Arc::new(Semaphore::new(LOOKUPS_AT_ONCE)) }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Name at the beginning of an address, and the filter of its addresses.
fn name_of(address: &Multiaddr) -> Option<(String, Wanted)> {
    match address.iter().next()? {
        Protocol::Dns(name) => Some((name.into_owned(), |_| true)),
        Protocol::Dns4(name) => Some((name.into_owned(), IpAddr::is_ipv4)),
        Protocol::Dns6(name) => Some((name.into_owned(), IpAddr::is_ipv6)),
        _ => None,
    }
}

/// Present addresses of a name.
async fn look_up(name: String, lookups: Arc<Semaphore>) -> io::Result<Vec<IpAddr>> {
    let failed = |why: &dyn std::fmt::Display| io::Error::new(io::ErrorKind::NotFound, format!("name unknown: {why}"));
    let (answer, found) = oneshot::channel();
    let asked = async {
        let permit = lookups.acquire_owned().await;
        let name = name.clone();
        // A separate thread, not one of the runtime's: the runtime's end would wait for a server that does not answer.
        thread::Builder::new().name("lookup".into()).spawn(move || {
            let _permit = permit;
            // The requester may have given up.
            let _ = answer.send((name.as_str(), 0).to_socket_addrs().map(|all| all.map(|one| one.ip()).collect()));
        })?;
        found.await.map_err(io::Error::other)?
    };
    let found: Vec<IpAddr> = match timeout(LOOKUP_TIMEOUT, asked).await {
        Ok(found) => found.map_err(|error| failed(&error))?,
        Err(_) => return Err(failed(&"the name server does not answer in time")),
    };
    if found.is_empty() { Err(failed(&"it has no address")) } else { Ok(found) }
}

impl Transport for Resolving {
    type Output = (PeerId, StreamMuxerBox);
    type Error = io::Error;
    type ListenerUpgrade = <Inner as Transport>::ListenerUpgrade;
    type Dial = BoxFuture<'static, io::Result<Self::Output>>;

    fn listen_on(&mut self, id: ListenerId, address: Multiaddr) -> Result<(), TransportError<io::Error>> {
        self.lock().listen_on(id, address)
    }

    fn remove_listener(&mut self, id: ListenerId) -> bool {
        self.lock().remove_listener(id)
    }

    fn dial(&mut self, address: Multiaddr, options: DialOpts) -> Result<Self::Dial, TransportError<io::Error>> {
        let Some((name, wanted)) = name_of(&address) else { return Ok(self.lock().dial(address, options)?.boxed()) };
        let (inner, lookups) = (self.inner.clone(), self.lookups.clone());
        let dial = async move {
            let mut last = io::Error::new(io::ErrorKind::NotFound, "name unknown: it has no address of that family");
            let found = look_up(name, lookups).await?;
            for ip in found.into_iter().filter(wanted).take(MOST_ADDRESSES) {
                let host = Multiaddr::from(ip);
                let resolved: Multiaddr = host.iter().chain(address.iter().skip(1)).collect();
                let dialled = inner.lock().unwrap_or_else(PoisonError::into_inner).dial(resolved, options);
                let connected = match dialled {
                    Ok(dial) => dial.await,
                    Err(error) => Err(io::Error::other(error.to_string())),
                };
                match connected {
                    Ok(connection) => return Ok(connection),
                    Err(error) => last = error,
                }
            }
            Err(last)
        };
        Ok(dial.boxed())
    }

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<TransportEvent<Self::ListenerUpgrade, io::Error>> {
        Pin::new(&mut *self.lock()).poll(context)
    }
}
