//! Protocol of the network.

use super::choice::choice;

choice! {
    /// Protocol by which a broadcast travels.
    pub enum Protocol {
        /// libp2p's gossipsub: publish to a topic, peers pass it on.
        Gossipsub = "gossipsub",
        /// Sequential Query Message Response: a session to every peer for each message, opened by the sender.
        Sqmr = "sqmr",
        /// The receivers open one session each, and the sender answers on all of them.
        ReversedSqmr = "reversed-sqmr",
    }
}
