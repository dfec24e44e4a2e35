//! Text that nobody guesses.

use std::{
    fs::File,
    io::{self, Read},
};

/// A random number of 128 bits, as text.
///
/// # Errors
/// Those of reading the kernel's random numbers.
pub fn secret() -> io::Result<String> {
    let mut bytes = [0; 16];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(u128::from_ne_bytes(bytes).to_string())
}
