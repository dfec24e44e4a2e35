use std::io;

use bytes::{Buf, BytesMut};
use futures::{SinkExt, StreamExt, executor::block_on, io::Cursor};

use super::{Decoder, Encoder, Framed};

/// Frames of a byte that is their length.
struct Lengths;

impl Decoder for Lengths {
    type Item = BytesMut;
    type Error = io::Error;

    fn decode(&mut self, source: &mut BytesMut) -> io::Result<Option<BytesMut>> {
        let Some(length) = source.first().map(|length| usize::from(*length)) else { return Ok(None) };
        if source.len() <= length {
            return Ok(None);
        }
        source.advance(1);
        Ok(Some(source.split_to(length)))
    }
}

impl Encoder for Lengths {
    type Item<'a> = &'a [u8];
    type Error = io::Error;

    fn encode(&mut self, item: &[u8], destination: &mut BytesMut) -> io::Result<()> {
        destination.extend_from_slice(&[u8::try_from(item.len()).map_err(io::Error::other)?]);
        destination.extend_from_slice(item);
        Ok(())
    }
}

/// Writes and reads many frames.
fn round_trip() {
    let mut sender = Framed::new(Cursor::new(vec![]), Lengths);
    for number in 0..200_u8 {
        block_on(sender.feed(&vec![number; number.into()])).expect("there is room");
    }
    block_on(sender.flush()).expect("there is room");
    let bytes = sender.into_parts().io.into_inner();
    assert_eq!(bytes.len(), 200 + 199 * 100);

    let mut receiver = Framed::new(Cursor::new(bytes.clone()), Lengths);
    for number in 0..200_u8 {
        let frame = block_on(receiver.next()).expect("a frame is left").expect("the frame is whole");
        assert_eq!(frame, vec![number; number.into()]);
    }
    assert!(block_on(receiver.next()).is_none());

    // A stream that ends inside of a frame.
    let mut receiver = Framed::new(Cursor::new(bytes[..4].to_vec()), Lengths);
    let frames: Vec<bool> = (0..4).map_while(|_| block_on(receiver.next())).map(|frame| frame.is_ok()).collect();
    assert_eq!(frames, [true, true, false, false]);
}

#[test]
fn frames_arrive_as_they_were_sent() {
    round_trip();
}

#[test]
fn a_simulation_has_the_same_frames_and_gives_empty_buffers_back() {
    let guard = virtual_clock::enter(0, 0).expect("no other simulation is on this thread");
    round_trip();
    let mut sender = Framed::new(Cursor::new(vec![]), Lengths);
    for _ in 0..100 {
        block_on(sender.feed(&[0; 255])).expect("there is room");
    }
    assert!(sender.write.bytes().capacity() >= 25_600);
    block_on(sender.flush()).expect("there is room");
    assert_eq!(sender.write.bytes().capacity(), 0);
    drop(guard);
}
