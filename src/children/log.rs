//! Log of a child, as far as the report of a failure shows it.

use std::{
    fs::{self, File},
    io::{self, Read, Seek, SeekFrom},
    path::Path,
};

/// Number of last lines of a log that are shown if its program fails, and the maximum number of bytes that are read for
/// them.
const LOG_LINES: usize = 10;
const LOG_TAIL: u64 = 16 << 10;

/// Last lines of a log, as the end of a line that reports a failure.
pub(crate) fn log_tail(path: &Path) -> String {
    let read = || -> io::Result<String> {
        let mut file = File::open(path)?;
        let size = fs::metadata(path)?.len();
        file.seek(SeekFrom::Start(size.saturating_sub(LOG_TAIL)))?;
        let mut bytes = vec![];
        file.take(LOG_TAIL).read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    let text = read().unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    let last = &lines[lines.len().saturating_sub(LOG_LINES)..];
    if last.is_empty() {
        format!("; its log {} is empty", path.display())
    } else {
        format!("; its log ends:\n  {}", last.join("\n  "))
    }
}
