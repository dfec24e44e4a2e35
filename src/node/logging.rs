//! Logs to standard error, bounded; and a layer that counts errors that libp2p reports only in its log.

use std::{
    io::{self, Write},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use prometheus::IntCounter;
use tracing::{Event, Level, Subscriber, field::Visit};
use tracing_subscriber::{
    Layer,
    filter::{LevelFilter, filter_fn},
    fmt::{MakeWriter, layer},
    layer::{Context, SubscriberExt},
    util::SubscriberInitExt,
};

use crate::{metrics::Metrics, terminal};

/// Starts logging at the level of `--verbosity`, at most `limit_mib`, and counting. A second call has no effect.
pub(super) fn start(verbosity: u8, limit_mib: u64, metrics: &Metrics) {
    let level = match verbosity {
        0 => LevelFilter::OFF,
        1 => LevelFilter::ERROR,
        2 => LevelFilter::WARN,
        3 => LevelFilter::INFO,
        4 => LevelFilter::DEBUG,
        _ => LevelFilter::TRACE,
    };
    let writer = BoundedWriter { left: Arc::new(AtomicU64::new(limit_mib.saturating_mul(1 << 20))) };
    let stream_errors = StreamErrors { counter: metrics.network_event_counter.of("gossipsub_stream_error") };
    // Events with more fields than their text are no errors, and contain whole messages that must not be formatted.
    let handler = filter_fn(|metadata| {
        metadata.target() == "libp2p_gossipsub::handler"
            && metadata.is_event()
            && *metadata.level() == Level::DEBUG
            && metadata.fields().len() == 1
    });
    let started = tracing_subscriber::registry()
        .with(layer().with_writer(writer).with_ansi(false).log_internal_errors(false).with_filter(level))
        .with(stream_errors.with_filter(handler))
        .try_init();
    if started.is_err() {
        tracing::debug!("a log is there already");
    }
}

/// Writes to standard error until the limit is reached. A line that can't be written is lost: a node continues without
/// a log.
#[derive(Clone)]
struct BoundedWriter {
    left: Arc<AtomicU64>,
}

impl Write for BoundedWriter {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let size = line.len() as u64;
        let take = |left: u64| (left > 0).then(|| left.saturating_sub(size));
        if let Ok(left) = self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take) {
            terminal::log(line);
            if left <= size {
                terminal::log(b"the log has reached its limit (--log-limit-mib); nothing more is written\n");
            }
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for BoundedWriter {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

/// Counts gossipsub's stream errors: libp2p closes the stream, logs it at level debug, and continues without another
/// sign.
struct StreamErrors {
    counter: IntCounter,
}

impl<S: Subscriber> Layer<S> for StreamErrors {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        struct Failed(bool);
        impl Visit for Failed {
            fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn std::fmt::Debug) {
                if field.name() == "message" {
                    let text = format!("{value:?}");
                    self.0 = text.starts_with("Failed to") || text.contains("stream error");
                }
            }
        }
        let mut failed = Failed(false);
        event.record(&mut failed);
        if failed.0 {
            self.counter.inc();
        }
    }
}
