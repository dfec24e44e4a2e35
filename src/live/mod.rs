//! The live page of a run: one page on the loopback that a browser keeps up to date by server-sent events.
//!
//! The runner hands what it knows to a [`Feed`], which never waits; [`Live`] serves it on a thread of its own, so that no
//! browser can hold up the run. Each browser gets the newest state when it is ready for it, and what lies between is left
//! out. The page comes with the program, and takes nothing from elsewhere.

mod feed;
mod history;
mod listener;
mod server;
mod state;

pub use feed::{Feed, Sample};
pub use history::Percentiles;
pub use state::{LIVE_SCHEMA_VERSION, NodeCondition, NodeState, RunInfo};

use std::{
    fmt, io,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    sync::Arc,
    thread::{self, JoinHandle},
    time::Duration,
};

use tokio::{runtime, sync::watch};

use self::{listener::Bounded, state::State};
use crate::{clock::sleep, report::RunSummary};

/// Most open connections: more than browsers may follow the run, since each opens some for the files of the page.
const MOST_CONNECTIONS: usize = 256;

/// Longest wait for browsers to take the result, once the page is to go.
const GRACE: Duration = Duration::from_secs(1);

/// The page of a run, served until it is closed.
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
    /// Serves the page on this port of 127.0.0.1; on a free one for 0.
    ///
    /// # Errors
    /// When the port is taken, or the thread does not start.
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
                    // Whoever could close it and is gone has closed it.
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

    /// Its port.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Where the runner tells what happens.
    pub fn feed(&self) -> Feed {
        Feed::new(self.states.clone())
    }

    /// The run is over.
    pub fn end(&self, run: &RunSummary) {
        self.states.send_modify(|state| Arc::make_mut(state).end(run));
    }

    /// Ends the page. Browsers that have it open keep what they show; those that are about to take it may do so for a
    /// moment.
    pub fn close(mut self) {
        self.closing.send_replace(true);
        if let Some(thread) = self.thread.take() {
            // A thread that panicked has told so itself.
            let _ = thread.join();
        }
    }
}
