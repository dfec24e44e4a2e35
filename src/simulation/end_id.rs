//! Name of an end of a connection, and its form as the argument of an event.

/// Parts of an event's argument: place of the end, its generation, number of the flight.
const PLACE_BITS: u32 = 22;
const GENERATION_BITS: u32 = 16;
pub(super) const NUMBERS: u32 = (1 << (64 - PLACE_BITS - GENERATION_BITS)) - 1;

/// An end of a connection that a stream holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct EndId {
    pub(super) place: u32,
    pub(super) generation: u16,
}

/// Argument of an event of an end, and of a flight by its number.
pub(super) fn pack(id: EndId, number: u32) -> u64 {
    u64::from(id.place) | u64::from(id.generation) << PLACE_BITS | u64::from(number) << (PLACE_BITS + GENERATION_BITS)
}

/// The end and the number of [`pack`].
pub(super) fn unpack(argument: u64) -> (EndId, u32) {
    let place = (argument & ((1 << PLACE_BITS) - 1)) as u32;
    let generation = (argument >> PLACE_BITS & ((1 << GENERATION_BITS) - 1)) as u16;
    (EndId { place, generation }, (argument >> (PLACE_BITS + GENERATION_BITS)) as u32)
}
