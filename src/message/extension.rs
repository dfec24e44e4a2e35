//! Extension that our own nodes add inside the payload; a peer that fills its payload with zeros has none.

/// "ANB2": no payload of zeros starts like this.
const MAGIC: [u8; 4] = *b"ANB2";

/// Facts of the sender at the start of the payload; written only if all of it fits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Extension {
    /// Run of the message, by which stray messages of another run are recognised. 0 is no run in particular.
    pub run_id: u64,
    /// Number of the traffic class; 0 is the only class of a network with a single kind of traffic.
    pub class: u16,
    /// The trial of explore mode, from 0; 0 in the other modes.
    pub trial: u16,
    /// Microseconds from the intended send time to the moment the message was really composed.
    pub send_lag_micros: u64,
    /// Start of the sender's process, in nanoseconds since the Unix epoch: a restarted sender has a larger number.
    pub life: u64,
    /// Messages of this class that this process has sent before this one; with unicast, those to the same receiver.
    /// Skipped indices do not count, so a receiver can distinguish a missing message from one that was never sent.
    pub sent_before: u64,
}

impl Extension {
    /// Size in the payload, in bytes.
    pub const SIZE: usize = 4 + 8 + 2 + 2 + 8 + 8 + 8;

    /// Writes the extension to the start of `payload`; a payload that is too short stays unchanged.
    pub fn write_to(&self, payload: &mut [u8]) {
        let Some(room) = payload.first_chunk_mut::<{ Self::SIZE }>() else { return };
        room[0..4].copy_from_slice(&MAGIC);
        room[4..12].copy_from_slice(&self.run_id.to_be_bytes());
        // Programs without traffic classes have a number of 32 bits here: their messages are of class 0.
        room[12..14].copy_from_slice(&self.class.to_be_bytes());
        room[14..16].copy_from_slice(&self.trial.to_be_bytes());
        room[16..24].copy_from_slice(&self.send_lag_micros.to_be_bytes());
        room[24..32].copy_from_slice(&self.life.to_be_bytes());
        room[32..40].copy_from_slice(&self.sent_before.to_be_bytes());
    }

    /// Reads the extension at the start of `payload`; none if the payload has none.
    pub fn decode(payload: &[u8]) -> Option<Self> {
        let room = payload.first_chunk::<{ Self::SIZE }>()?;
        if room[0..4] != MAGIC {
            return None;
        }
        let u64_at = |at: usize| room[at..at + 8].try_into().map(u64::from_be_bytes).unwrap_or_default();
        Some(Self {
            run_id: u64_at(4),
            class: u16::from_be_bytes([room[12], room[13]]),
            trial: u16::from_be_bytes([room[14], room[15]]),
            send_lag_micros: u64_at(16),
            life: u64_at(24),
            sent_before: u64_at(32),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_of_zeros_has_none() {
        assert_eq!(Extension::decode(&[0; 1024]), None);
        assert_eq!(Extension::decode(&[]), None);
    }

    #[test]
    fn a_payload_without_room_is_left_alone() {
        let mut payload = [0; Extension::SIZE - 1];
        Extension { run_id: 1, trial: 2, ..Extension::default() }.write_to(&mut payload);
        assert_eq!(payload, [0; Extension::SIZE - 1]);
    }
}
