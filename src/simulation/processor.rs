//! Model of the processor of each host: one core, which works on one thing at a time.
//!
//! Work takes no time in a simulation, so a host that has worked is made busy for the time that it would have taken: until
//! then none of its tasks runs (`life.rs`). Its kernel goes on.

use std::{cell::Cell, fmt, future::poll_fn, task::Poll};

use super::life;

/// Cost of the work of a host's only core.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Processor {
    /// Time for a message that arrives, each copy of it, or that is published, in microseconds.
    pub micros_per_message: f64,
    /// Time for a byte that a stream reads or writes, in nanoseconds.
    pub nanos_per_byte: f64,
}

thread_local! {
    static MODEL: Cell<Option<Processor>> = const { Cell::new(None) };
}

impl Processor {
    /// True if work takes no time.
    pub fn is_infinitely_fast(&self) -> bool {
        self.micros_per_message <= 0.0 && self.nanos_per_byte <= 0.0
    }

    fn nanos(&self, messages: u64, bytes: u64) -> u64 {
        (messages as f64 * self.micros_per_message * 1e3 + bytes as f64 * self.nanos_per_byte).max(0.0) as u64
    }
}

impl fmt::Display for Processor {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_infinitely_fast() {
            return formatter.write_str("infinitely fast");
        }
        let Self { micros_per_message, nanos_per_byte } = self;
        write!(formatter, "of one core that takes {micros_per_message} µs a message and {nanos_per_byte} ns a byte")
    }
}

/// Begins the processors of the hosts of this thread.
pub(super) fn begin(model: Processor) {
    MODEL.set((!model.is_infinitely_fast()).then_some(model));
}

/// Makes the present host busy with this many messages and bytes; nothing outside of a simulation, or if its processors
/// are infinitely fast.
pub fn work(messages: u64, bytes: u64) {
    if let Some(model) = MODEL.get() {
        life::work(model.nanos(messages, bytes));
    }
}

/// Waits until the present host is no longer busy with the work so far, if it is.
pub async fn done() {
    if MODEL.get().is_none() {
        return;
    }
    let mut asked = false;
    poll_fn(|context| {
        if std::mem::replace(&mut asked, true) {
            return Poll::Ready(());
        }
        // The task of the host runs again when the host is free.
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_model_names_its_costs() {
        assert_eq!(Processor::default().to_string(), "infinitely fast");
        let model = Processor { micros_per_message: 250.5, nanos_per_byte: 3.0 };
        assert_eq!(model.to_string(), "of one core that takes 250.5 µs a message and 3 ns a byte");
        assert_eq!(model.nanos(2, 1000), 504_000);
        work(1, 1);
    }
}
