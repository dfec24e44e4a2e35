//! Live page of a run: one page on the loopback interface, which a browser keeps up to date by server-sent events.
//!
//! The runner passes the state of the run to a [`Feed`], which never waits; [`Live`] serves it on a thread of its own,
//! so that no browser can delay the run. Each browser gets the newest state when it is ready for it, and misses the
//! states in between. The page is part of the program, and loads nothing from elsewhere.

mod feed;
mod history;
mod listener;
mod server;
mod state;

pub use feed::{Feed, Sample};
pub use history::Percentiles;
pub(crate) use listener::Bounded;
pub use state::{LIVE_SCHEMA_VERSION, NodeCondition, NodeState, RunInfo};

use std::{
    fmt, io,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    sync::Arc,
    thread::{self, JoinHandle},
    time::Duration,
};

use tokio::{runtime, sync::watch};

use self::state::State;
use crate::{clock::sleep, report::RunSummary};

/// Maximum number of open connections: more than the browsers that may follow the run, because each opens several for
/// the files of the page.
const MOST_CONNECTIONS: usize = 256;

/// Maximum time to wait for browsers to take the result before the page is closed.
const GRACE: Duration = Duration::from_secs(1);

/// Page of a run, served until it is closed.
pub struct Live {
    address: SocketAddr,
    states: watch::Sender<Arc<State>>,
    closing: watch::Sender<bool>,
    thread: Option<JoinHandle<()>>,
}

impl fmt::Display for Live {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "http://{}/", self.address)
    }
}

impl Live {
    /// Serves the page on this port of 127.0.0.1; on a free port for 0.
    ///
    /// # Errors
    /// Fails if the port is taken, or the thread does not start.
    pub fn start(port: u16, run: RunInfo) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
        let (states, seen) = watch::channel(Arc::new(State::new(run)));
        let (closing, closed) = watch::channel(false);
        let listener = {
            let _inside = runtime.enter();
            Bounded::new(tokio::net::TcpListener::from_std(listener)?, MOST_CONNECTIONS)
        };
        let router = server::router(seen, address);
        let thread = thread::Builder::new().name("live".into()).spawn(move || {
            runtime.block_on(async {
                let is_closed = |mut closed: watch::Receiver<bool>| async move {
                    // An error means that the owner of the sender is gone, which closes the page too.
                    let _ = closed.wait_for(|closed| *closed).await;
                };
                let served = axum::serve(listener, router).with_graceful_shutdown(is_closed(closed.clone()));
                tokio::select! {
                    _ = served => {}
                    () = async { is_closed(closed).await; sleep(GRACE).await } => {}
                }
            });
        })?;
        Ok(Self { address, states, closing, thread: Some(thread) })
    }

    /// Port of the page.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Feed that receives the events of the run.
    pub fn feed(&self) -> Feed {
        Feed::new(self.states.clone())
    }

    /// Publishes the result of the run.
    pub fn end(&self, run: &RunSummary) {
        self.states.send_modify(|state| Arc::make_mut(state).end(run));
    }

    /// Closes the page. Open browsers keep the last state; browsers that are about to take the result get a moment for
    /// it.
    pub fn close(mut self) {
        self.closing.send_replace(true);
        if let Some(thread) = self.thread.take() {
            // A thread that panicked has reported it itself.
            let _ = thread.join();
        }
    }
}
