//! Random numbers of the network model: jitter and loss.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Random numbers that follow from the seed of a simulation.
#[derive(Debug)]
pub(super) struct Random(ChaCha8Rng);

impl Random {
    /// Numbers of `seed` for the hosts of one thread, by its number.
    pub(super) fn new(seed: u64, thread: u64) -> Self {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        // The topology and the faults have streams of their own.
        random.set_stream(u64::MAX - thread);
        Self(random)
    }

    /// A number from -1 to 1, each as likely.
    pub(super) fn symmetric(&mut self) -> f64 {
        2.0 * self.0.random::<f64>() - 1.0
    }

    /// True with this probability.
    pub(super) fn happens(&mut self, probability: f64) -> bool {
        probability > 0.0 && self.0.random::<f64>() < probability
    }
}
