//! Lengths before frames and responses.

use std::io;

use futures::{AsyncRead, AsyncReadExt};

/// Reads a length, as an unsigned varint; none at the end of the stream.
///
/// # Errors
/// Errors of the stream; `UnexpectedEof` when it ends inside the length, `InvalidData` for one that is no varint or
/// above `limit`.
pub(super) async fn read_length(stream: &mut (impl AsyncRead + Unpin), limit: usize) -> io::Result<Option<usize>> {
    let mut buffer = unsigned_varint::encode::usize_buffer();
    for at in 0..buffer.len() {
        if stream.read(&mut buffer[at..=at]).await? == 0 {
            return if at == 0 { Ok(None) } else { Err(io::ErrorKind::UnexpectedEof.into()) };
        }
        if unsigned_varint::decode::is_last(buffer[at]) {
            return match unsigned_varint::decode::usize(&buffer[..=at]) {
                Ok((length, _)) if length > limit => {
                    let line = format!("a length of {length} bytes, more than {limit}");
                    Err(io::Error::new(io::ErrorKind::InvalidData, line))
                }
                Ok((length, _)) => Ok(Some(length)),
                Err(error) => Err(io::Error::new(io::ErrorKind::InvalidData, error)),
            };
        }
    }
    Err(io::Error::new(io::ErrorKind::InvalidData, "a length without end"))
}
