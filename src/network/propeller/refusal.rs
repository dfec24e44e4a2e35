//! Kinds of input that a node refuses.

/// Reason why a frame, a unit or a message was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::network) enum Refusal {
    /// A frame without end, or above the limit.
    Frame,
    /// Bytes that are no batch or no unit, or a field of another length.
    Malformed,
    /// A unit of another committee.
    OtherCommittee,
    /// A publisher outside of the committee, or this node itself.
    WrongPublisher,
    /// A unit number beyond the units of a message.
    WrongIndex,
    /// A peer that is neither the publisher of this node's unit nor the owner of another one.
    WrongSender,
    /// A unit with no shard or with several.
    WrongShards,
    /// A shard of an impossible length, or of another length than the message's other shards.
    WrongLength,
    /// A proof that does not lead to the root.
    WrongProof,
    /// A signature that is not the publisher's.
    WrongSignature,
    /// A second message with the nonce of another one, signed by its publisher.
    TwoMessages,
    /// A new message with an older nonce than those that were forgotten.
    OldNonce,
    /// A unit that had arrived before.
    Duplicate,
    /// A new message of a publisher whose room is taken.
    NoRoom,
    /// Shards that are signed and contain no message, or do not belong together.
    WrongEncoding,
}

impl Refusal {
    /// Name in metrics and results; one of [`crate::metrics::REFUSED_UNITS`].
    pub(in crate::network) fn name(self) -> &'static str {
        match self {
            Self::Frame => "frame",
            Self::Malformed => "malformed",
            Self::OtherCommittee => "other_committee",
            Self::WrongPublisher => "wrong_publisher",
            Self::WrongIndex => "wrong_index",
            Self::WrongSender => "wrong_sender",
            Self::WrongShards => "wrong_shards",
            Self::WrongLength => "wrong_length",
            Self::WrongProof => "wrong_proof",
            Self::WrongSignature => "wrong_signature",
            Self::TwoMessages => "two_messages",
            Self::OldNonce => "old_nonce",
            Self::Duplicate => "duplicate",
            Self::NoRoom => "no_room",
            Self::WrongEncoding => "wrong_encoding",
        }
    }
}
