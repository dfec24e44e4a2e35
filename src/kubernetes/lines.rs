//! Lines of a stream, none longer than a bound.

use futures::{AsyncBufRead, AsyncBufReadExt};

/// Maximum length of a line that is kept whole, in bytes.
const LONGEST: usize = 64 << 10;

/// Next item of the stream.
#[derive(Debug, PartialEq)]
pub(super) enum Next {
    /// A line, without its line break.
    Line(String),
    /// The stream has ended, with this text after the last line.
    End(String),
    /// The stream was cut.
    Broken(String),
}

/// Reads lines. Text beyond the bound is left out, and the line states it.
pub(super) struct Lines<R> {
    reader: R,
    line: Vec<u8>,
    left_out: usize,
}

impl<R: AsyncBufRead + Unpin> Lines<R> {
    pub(super) fn new(reader: R) -> Self {
        Self { reader, line: vec![], left_out: 0 }
    }

    /// Can be dropped and called again without losing text.
    pub(super) async fn next(&mut self) -> Next {
        loop {
            let buffer = match self.reader.fill_buf().await {
                Ok([]) => return Next::End(self.take()),
                Ok(buffer) => buffer,
                Err(error) => return Next::Broken(error.to_string()),
            };
            let end = buffer.iter().position(|byte| *byte == b'\n');
            let part = &buffer[..end.unwrap_or(buffer.len())];
            let kept = part.len().min(LONGEST - self.line.len());
            self.line.extend_from_slice(&part[..kept]);
            self.left_out += part.len() - kept;
            let consumed = part.len() + usize::from(end.is_some());
            self.reader.consume_unpin(consumed);
            if end.is_some() {
                return Next::Line(self.take());
            }
        }
    }

    fn take(&mut self) -> String {
        let bytes = std::mem::take(&mut self.line);
        let mut text = String::from_utf8_lossy(&bytes).trim_end_matches('\r').to_owned();
        if self.left_out > 0 {
            text.push_str(&format!("… ({} bytes left out)", self.left_out));
            self.left_out = 0;
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::{executor::block_on, io::Cursor};

    #[test]
    fn a_line_without_end_is_cut_and_the_next_one_is_complete() {
        let mut text = "x".repeat(LONGEST + 10);
        text.push_str("\nshort\r\nrest");
        let mut lines = Lines::new(Cursor::new(text));
        let Next::Line(long) = block_on(lines.next()) else { panic!() };
        assert!(long.ends_with("x… (10 bytes left out)"));
        assert_eq!(block_on(lines.next()), Next::Line("short".into()));
        assert_eq!(block_on(lines.next()), Next::End("rest".into()));
    }
}
